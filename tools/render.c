/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers with units, and aligned columns. */
#include "tools/render.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"

char *render_size(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t unit = 0;
	double value = (double)bytes;

	/* 1023.95 would be printed as 1024.0 */
	while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	if (value * 10 == (double)((uint64_t)value * 10)) {
		snprintf(buf, RENDER_MAX, "%.0f %s", value, units[unit]);
	} else {
		snprintf(buf, RENDER_MAX, "%.1f %s", value, units[unit]);
	}
	return buf;
}

char *render_rate(uint64_t bytes_per_s, char *buf)
{
	render_size(bytes_per_s, buf);
	strncat(buf, "/s", RENDER_MAX - strlen(buf) - 1);
	return buf;
}

char *render_duration_us(uint64_t us, char *buf)
{
	uint64_t s = us / 1000000;

	if (us == 0) {
		snprintf(buf, RENDER_MAX, "0 s");
	} else if (us < 1000) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " us", us);
	} else if (s < 1) {
		snprintf(buf, RENDER_MAX, "%.1f ms", (double)us / 1e3);
	} else if (s < 60) {
		snprintf(buf, RENDER_MAX, "%.1f s", (double)us / 1e6);
	} else if (s < 3600) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	} else if (s < 48 * 3600) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	} else {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " days %" PRIu64 " h", s / 86400,
			s / 3600 % 24);
	}
	return buf;
}

char *render_percent(uint64_t part, uint64_t all, char *buf)
{
	double share = all ? 100.0 * (double)part / (double)all : 100.0;

	if (part < all && share > 99.9) {
		share = 99.9;
	}
	if (share > 0 && share < 0.1) {
		snprintf(buf, RENDER_MAX, "under 0.1 %%");
	} else if ((share > 0 && share < 10) || (part < all && share > 99)) {
		snprintf(buf, RENDER_MAX, "%.1f %%", share);
	} else {
		snprintf(buf, RENDER_MAX, "%.0f %%", share);
	}
	return buf;
}

char *render_time(int64_t epoch, char *buf)
{
	time_t t = (time_t)epoch;
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(buf, RENDER_MAX, "%Y-%m-%d %H:%M", &tm) == 0) {
		snprintf(buf, RENDER_MAX, "-");
	}
	return buf;
}

void render_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
	}
}

static void print_cell(FILE *out, const char *text, size_t width, bool right, bool last)
{
	size_t len = strlen(text);
	int blanks = (int)(width > len ? width - len : 0);

	if (right) {
		fprintf(out, "%*s", blanks, "");
	}
	render_text(out, text);
	if (last) {
		fputc('\n', out);
	} else {
		fprintf(out, "%*s", (right ? 0 : blanks) + 2, "");
	}
}

void render_table(FILE *out, const char *const *cells, size_t rows, size_t cols, unsigned int right)
{
	CLEANUP_FREE size_t *width = calloc(cols, sizeof(*width));

	for (size_t i = 0; width && i < rows * cols; i++) {
		width[i % cols] = max_u64(width[i % cols], strlen(cells[i]));
	}
	for (size_t i = 0; i < rows * cols; i++) {
		size_t col = i % cols;

		print_cell(
			out, cells[i], width ? width[col] : 0, right >> col & 1, col + 1 == cols);
	}
}
