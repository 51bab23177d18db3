/* SPDX-License-Identifier: Apache-2.0 */
/* A sum that is much faster than disks: four lanes of multiplications, mixed at the end. */
#include "core/bytes.h"
#include "tools/copy_engine.h"

#define LANES 4U

static const uint64_t odd[LANES] = {
	0x9e3779b185ebca87ULL,
	0xc2b2ae3d27d4eb4fULL,
	0x165667b19e3779f9ULL,
	0x85ebca77c2b2ae63ULL,
};

static uint64_t mix(uint64_t lane, uint64_t word, uint64_t by)
{
	lane = (lane ^ word) * by;
	return lane ^ (lane >> 29);
}

uint64_t copy_sum(const void *buf, size_t len)
{
	uint64_t lanes[LANES] = { odd[3], odd[2], odd[1], odd[0] };
	const uint8_t *p = buf;
	uint64_t sum = len;
	size_t left = len;

	for (; left >= 8 * LANES; p += 8 * LANES, left -= 8 * LANES) {
		for (unsigned int i = 0; i < LANES; i++) {
			lanes[i] = mix(lanes[i], load_le64(p + (size_t)8 * i), odd[i]);
		}
	}
	for (; left > 0; p++, left--) {
		lanes[left % LANES] = mix(lanes[left % LANES], *p, odd[0]);
	}
	for (unsigned int i = 0; i < LANES; i++) {
		sum = mix(sum, lanes[i], odd[i]);
	}
	return sum ? sum : 1;
}
