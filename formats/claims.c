/* SPDX-License-Identifier: Apache-2.0 */
/* A short list of claims for each unit. */
#include "formats/claims.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/cleanup.h"

int claims_init(struct claims *s, size_t units)
{
	*s = (struct claims){
		.units = calloc(units + 1, sizeof(*s->units)),
		.unit_count = units,
		.most = CLAIMS_PER_UNIT * units + CLAIMS_SPARE,
	};
	if (!s->units) {
		return -ENOMEM;
	}
	pthread_mutex_init(&s->lock, NULL);
	return 0;
}

void claims_clear(struct claims *s)
{
	if (!s->units) {
		return;
	}
	for (size_t i = 0; i < s->unit_count; i++) {
		struct claim *c = s->units[i].first;

		while (c) {
			struct claim *next = c->next;

			assert(!c->held);
			free(c);
			c = next;
		}
	}
	free(s->units);
	s->units = NULL;
	pthread_mutex_destroy(&s->lock);
}

bool claims_open(struct claims *s, size_t unit)
{
	LOCK_SCOPE(&s->lock);

	return !s->units[unit].proven || s->units[unit].first;
}

bool claims_lost(struct claims *s)
{
	LOCK_SCOPE(&s->lock);

	return s->missing > 0;
}

static int by_pos(const void *a, const void *b)
{
	const struct claim *x = a;
	const struct claim *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

int claims_list(struct claims *s, size_t unit, struct claim **ret, size_t *ret_n)
{
	struct claim *list = NULL;
	size_t n = 0;
	LOCK_SCOPE(&s->lock);

	for (const struct claim *c = s->units[unit].first; c; c = c->next) {
		n++;
	}
	if (n > 0) {
		list = calloc(n, sizeof(*list));
		if (!list) {
			return -ENOMEM;
		}
		n = 0;
		for (const struct claim *c = s->units[unit].first; c; c = c->next) {
			list[n++] = *c;
		}
		qsort(list, n, sizeof(*list), by_pos);
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

/* --- with the lock held --- */

static void add(struct witness *w)
{
	struct claims *s = w->claims;
	struct claim *c = s->count < s->most ? malloc(sizeof(*c)) : NULL;

	if (c) {
		*c = (struct claim){ .next = w->unit->first, .held = true };
		w->unit->first = c;
		w->own = c;
		s->count++;
	} else {
		w->missing = true;
		s->missing++;
	}
}

/* What it has handed over is known again, or proven. */
static void found(struct witness *w)
{
	if (w->missing) {
		w->claims->missing--;
		w->missing = false;
	}
}

static void drop(struct claims *s, struct claims_unit *unit, struct claim *c)
{
	struct claim **link = &unit->first;

	while (*link != c) {
		link = &(*link)->next;
	}
	*link = c->next;
	free(c);
	s->count--;
}

/* A claim of nobody that says @sum of the bytes up to @pos. */
static struct claim *find(struct claims_unit *unit, uint64_t pos, uint64_t sum)
{
	struct claim *c = unit->first;

	while (c && (c->held || c->pos != pos || c->sum != sum)) {
		c = c->next;
	}
	return c;
}

/* --- witnesses --- */

int witness_init(struct witness *w, struct claims *s, size_t unit, uint64_t pos)
{
	*w = (struct witness){
		.claims = s,
		.unit = &s->units[unit],
		.state = XXH3_createState(),
		.pos = pos,
	};
	if (!w->state) {
		return -ENOMEM;
	}
	XXH3_64bits_reset(w->state);
	return 0;
}

/* How far it is to the next claim of nobody, @n at most. */
static size_t stretch(const struct witness *w, size_t n)
{
	uint64_t end = w->pos + n;
	LOCK_SCOPE(&w->claims->lock);

	for (const struct claim *c = w->unit->first; c; c = c->next) {
		if (!c->held && c->pos > w->pos && c->pos < end) {
			end = c->pos;
		}
	}
	return end - w->pos;
}

/* What others left who had the same bytes up to here is now its own to prove. */
static void take_over(struct witness *w)
{
	uint64_t sum = witness_sum(w);
	struct claim *c;
	LOCK_SCOPE(&w->claims->lock);

	c = find(w->unit, w->pos, sum);
	if (c && w->own) {
		drop(w->claims, w->unit, w->own);
	}
	if (c) {
		c->held = true;
		w->own = c;
		found(w);
	}
}

void witness_see(struct witness *w, const uint8_t *data, size_t n)
{
	while (n > 0) {
		size_t k = stretch(w, n);

		XXH3_64bits_update(w->state, data, k);
		w->pos += k;
		data += k;
		n -= k;
		take_over(w);
	}
}

uint64_t witness_sum(const struct witness *w)
{
	return XXH3_64bits_digest(w->state);
}

void witness_hand(struct witness *w)
{
	uint64_t sum = witness_sum(w);
	LOCK_SCOPE(&w->claims->lock);

	if (!w->own && !w->missing) {
		add(w);
	}
	if (w->own) {
		w->own->pos = w->pos;
		w->own->sum = sum;
	}
}

void witness_prove(struct witness *w)
{
	LOCK_SCOPE(&w->claims->lock);

	w->unit->proven = true;
	if (w->own) {
		drop(w->claims, w->unit, w->own);
		w->own = NULL;
	}
	found(w);
}

void witness_park(struct witness *w)
{
	struct claim *c = w->own;
	LOCK_SCOPE(&w->claims->lock);

	w->own = NULL;
	if (c && find(w->unit, c->pos, c->sum)) {
		drop(w->claims, w->unit, c);
	} else if (c) {
		c->held = false;
	}
}

void witness_resume(struct witness *w)
{
	take_over(w);
}

void witness_clear(struct witness *w)
{
	witness_park(w);
	XXH3_freeState(w->state);
}
