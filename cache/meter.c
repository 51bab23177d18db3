/* SPDX-License-Identifier: Apache-2.0 */
/* When a link counts as busy, and what it carried in that time. */
#include "cache/meter.h"

#include "core/bytes.h"

void meter_sent(const struct meter *m, struct meter_run *r, uint64_t now_ns)
{
	*r = (struct meter_run){ .sent_ns = now_ns, .sent_bytes = m->delivered };
}

void meter_first(struct meter *m, struct meter_run *r, uint64_t now_ns, uint64_t rtt_ns)
{
	r->flows = true;
	if (m->flowing++ == 0) {
		m->busy_ns = rtt_ns ? min_u64(now_ns, r->sent_ns + rtt_ns) : now_ns;
		m->busy_ns = max_u64(m->busy_ns, m->idle_ns);
		m->busy_bytes = m->delivered;
	}
}

void meter_count(struct meter *m, uint64_t bytes)
{
	m->delivered += bytes;
}

void meter_ended(struct meter *m, struct meter_run *r, uint64_t now_ns, uint64_t *ret_bytes,
	uint64_t *ret_us)
{
	bool since_sent = r->sent_ns > m->busy_ns;
	uint64_t from_ns = since_sent ? r->sent_ns : m->busy_ns;
	uint64_t from_bytes = since_sent ? r->sent_bytes : m->busy_bytes;

	*ret_bytes = r->flows ? m->delivered - from_bytes : 0;
	*ret_us = r->flows ? (now_ns - min_u64(now_ns, from_ns)) / 1000 : 0;
	if (r->flows && --m->flowing == 0) {
		m->idle_ns = now_ns;
	}
	r->flows = false;
}
