/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoders stream units into blocks of COPY_UNIT bytes; whole blocks go to writers, which leave the
 * zeros out. Two units that meet within a block fill it together. There are more blocks than can be
 * waiting for a neighbour, so that a whole one always comes.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tools/copy_crew.h"
#include "tools/copy_engine.h"

#define WRITERS       3U
#define DECODERS_MOST 8U
/* Of finished units, so many bytes wait for writers. */
#define BLOCKS_QUEUED 8U
/* Small units are taken together. */
#define RANGE_LEAST MIB(4)

struct block {
	struct block *next;
	uint64_t index;
	size_t filled; /* bytes, anywhere in it */
	size_t len;    /* when it is whole */
	uint8_t *bytes;
};

struct stream {
	struct copy_crew crew;
	unsigned int decoders;
	/* Under the crew's lock: */
	pthread_cond_t changed;
	struct block *open;  /* being filled */
	struct block *whole; /* to be written, the last one first */
	struct block *spare;
	unsigned int decoding;
	uint64_t next; /* where the next range begins */
	uint64_t end;  /* behind the last byte that came */
};

/* --- blocks --- */

static struct block *block_new(void)
{
	struct block *b = calloc(1, sizeof(*b));

	if (b) {
		b->bytes = aligned_alloc(SINK_ALIGN, COPY_UNIT);
	}
	if (b && !b->bytes) {
		free(b);
		b = NULL;
	}
	return b;
}

static void free_blocks(struct block *list)
{
	while (list) {
		struct block *b = list;

		list = b->next;
		free(b->bytes);
		free(b);
	}
}

static int make_blocks(struct stream *s)
{
	/* One before and one behind each range that is decoded, and one in it. */
	unsigned int count = 3 * s->decoders + WRITERS + BLOCKS_QUEUED;

	for (unsigned int i = 0; i < count; i++) {
		struct block *b = block_new();

		if (!b) {
			return -ENOMEM;
		}
		b->next = s->spare;
		s->spare = b;
	}
	return 0;
}

static void unlink_block(struct block **list, struct block *b)
{
	while (*list != b) {
		list = &(*list)->next;
	}
	*list = b->next;
}

/* The block @index, to put bytes into; waits for a free one. NULL: the copy is over. */
static struct block *open_block(struct stream *s, uint64_t index)
{
	LOCK_SCOPE(&s->crew.lock);

	for (;;) {
		struct block *b = s->open;

		while (b && b->index != index) {
			b = b->next;
		}
		if (b) {
			return b;
		}
		if (s->crew.failed || *s->crew.engine->stop) {
			return NULL;
		}
		b = s->spare;
		if (b) {
			s->spare = b->next;
			b->index = index;
			b->filled = 0;
			b->next = s->open;
			s->open = b;
			return b;
		}
		pthread_cond_wait(&s->changed, &s->crew.lock);
	}
}

/* With the lock held. */
static void close_block(struct stream *s, struct block *b, size_t len)
{
	unlink_block(&s->open, b);
	b->len = len;
	b->next = s->whole;
	s->whole = b;
	pthread_cond_broadcast(&s->changed);
}

/* @n more bytes are in @b. The last block of an image whose end is not known yet waits for that. */
static void fill_block(struct stream *s, struct block *b, size_t n)
{
	const struct image *img = s->crew.engine->image;
	uint64_t left = img->size - min_u64(img->size, b->index * COPY_UNIT);
	size_t len = img->flags & IMAGE_SIZE_PROVISIONAL ? COPY_UNIT : min_u64(COPY_UNIT, left);
	LOCK_SCOPE(&s->crew.lock);

	b->filled += n;
	s->end = max_u64(s->end, b->index * COPY_UNIT + b->filled);
	if (b->filled == len) {
		close_block(s, b, len);
	}
}

/* --- decoders --- */

static int stream_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct stream *s = ctx;
	const uint8_t *data = buf;

	if (copy_crew_is_over(&s->crew)) {
		return -ECANCELED;
	}
	while (n > 0) {
		size_t within = off % COPY_UNIT;
		size_t piece = min_u64(n, COPY_UNIT - within);
		struct block *b = open_block(s, off / COPY_UNIT);

		if (!b) {
			return -ECANCELED;
		}
		memcpy(b->bytes + within, data, piece);
		s->crew.engine->counters.read += piece;
		fill_block(s, b, piece);
		copy_crew_pace(&s->crew, piece);
		off += piece;
		data += piece;
		n -= piece;
	}
	return 0;
}

/* The next units, as one range. False: there is none, or *ret_code says why not. */
static bool take_range(
	struct stream *s, uint64_t *ret_off, uint64_t *ret_len, int *ret_code, struct err *e)
{
	struct image *img = s->crew.engine->image;
	uint64_t end;
	LOCK_SCOPE(&s->crew.lock);

	*ret_code = 0;
	end = s->next;
	while (end < img->size && end - s->next < RANGE_LEAST && *ret_code == 0) {
		uint64_t start;
		uint64_t len;

		*ret_code = image_unit_at(img, end, &start, &len, e);
		if (*ret_code == 0) {
			end = len ? min_u64(start + len, img->size)
				  : min_u64(end + RANGE_LEAST, img->size);
		}
	}
	if (*ret_code < 0 || end == s->next || s->crew.failed || *s->crew.engine->stop) {
		return false;
	}
	*ret_off = s->next;
	*ret_len = end - s->next;
	s->next = end;
	return true;
}

/* All bytes came: what is left unfinished ends where the image does. */
static void end_decoding(struct stream *s, struct err *e)
{
	uint64_t size;
	struct block *b;
	LOCK_SCOPE(&s->crew.lock);

	s->decoding--;
	pthread_cond_broadcast(&s->changed);
	b = s->open;
	if (s->decoding > 0 || s->crew.failed || !b) {
		return;
	}
	if (image_final_size(s->crew.engine->image, &size) == 0 && size == s->end && !b->next &&
		b->index * COPY_UNIT + b->filled == size) {
		close_block(s, b, b->filled);
		return;
	}
	s->crew.failed = true;
	s->crew.side = COPY_SIDE_SOURCE;
	(void)err_set(
		e, -EIO, "%s: some of the data did not come", s->crew.engine->image->ops->name);
	s->crew.err = *e;
}

static void decode(struct stream *s)
{
	uint64_t off;
	uint64_t len;
	struct err e = { 0 };
	int r;

	while (take_range(s, &off, &len, &r, &e)) {
		r = image_stream_at(s->crew.engine->image, off, len, stream_sink, s, &e);
		if (r < 0) {
			break;
		}
	}
	if (r < 0) {
		copy_crew_fail(&s->crew, COPY_SIDE_SOURCE, r, &e);
	}
	end_decoding(s, &e);
}

/* --- writers --- */

/* The whole block that comes first in the image; NULL: no more will come. */
static struct block *take_whole(struct stream *s)
{
	LOCK_SCOPE(&s->crew.lock);

	for (;;) {
		struct block *first = s->whole;

		if (s->crew.failed || *s->crew.engine->stop) {
			return NULL;
		}
		for (struct block *b = first; b; b = b->next) {
			first = b->index < first->index ? b : first;
		}
		if (first) {
			unlink_block(&s->whole, first);
			return first;
		}
		if (s->decoding == 0) {
			return NULL;
		}
		pthread_cond_wait(&s->changed, &s->crew.lock);
	}
}

/* Remembers what was written. What is withheld is not there yet. */
static int note_sum(struct stream *s, const struct block *b)
{
	struct copy_engine *engine = s->crew.engine;
	uint64_t sum = copy_sum(b->bytes, b->len);
	LOCK_SCOPE(&s->crew.lock);

	if (b->index >= engine->sum_count) {
		size_t count = 2 * (b->index + 1);
		uint64_t *sums = reallocarray(engine->sums, count, sizeof(*sums));

		if (!sums) {
			return -ENOMEM;
		}
		memset(sums + engine->sum_count, 0, (count - engine->sum_count) * sizeof(*sums));
		engine->sums = sums;
		engine->sum_count = count;
	}
	__atomic_store_n(&engine->sums[b->index], sum, __ATOMIC_RELEASE);
	return 0;
}

static int check_room(const struct stream *s, uint64_t end, struct err *e)
{
	const struct copy_engine *engine = s->crew.engine;

	if (engine->most && end > engine->most) {
		return err_set(e, -ENOSPC,
			"%s is too small: it has %llu bytes, and the image has more (how many "
			"shows only when all of it was decoded)",
			engine->sink->path, (unsigned long long)engine->most);
	}
	return 0;
}

static int write_block(struct stream *s, struct block *b, struct err *e)
{
	struct copy_engine *engine = s->crew.engine;
	uint64_t off = b->index * COPY_UNIT;
	int r = check_room(s, off + b->len, e);

	if (r == 0) {
		r = copy_engine_put(engine, b->bytes, off, b->len, e);
	}
	if (r == 0) {
		engine->counters.data += b->len;
		r = note_sum(s, b) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	}
	return r;
}

static void write_blocks(struct stream *s)
{
	struct block *b;
	struct err e;
	int r = 0;

	while (r == 0 && (b = take_whole(s))) {
		r = write_block(s, b, &e);
		if (r < 0) {
			copy_crew_fail(&s->crew, COPY_SIDE_TARGET, r, &e);
		}
		LOCK_SCOPE(&s->crew.lock);
		b->next = s->spare;
		s->spare = b;
		pthread_cond_broadcast(&s->changed);
	}
}

/* --- all --- */

static void stream_work(struct copy_crew *crew, unsigned int number)
{
	struct stream *s = (struct stream *)crew;

	if (number < s->decoders) {
		decode(s);
	} else {
		write_blocks(s);
	}
}

static void stream_wake(struct copy_crew *crew)
{
	struct stream *s = (struct stream *)crew;
	LOCK_SCOPE(&crew->lock);

	pthread_cond_broadcast(&s->changed);
}

static unsigned int count_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : (unsigned int)min_u64((uint64_t)n, DECODERS_MOST);
}

int copy_stream_run(
	struct copy_engine *engine, uint64_t *ret_size, enum copy_side *ret_side, struct err *e)
{
	struct stream s = {
		.crew = { .engine = engine, .work = stream_work, .wake = stream_wake, .all = true },
		.decoders = count_cores(),
	};
	int r;

	*ret_side = COPY_SIDE_TARGET;
	s.decoding = s.decoders;
	pthread_cond_init(&s.changed, NULL);
	r = make_blocks(&s);
	if (r < 0) {
		r = err_set(e, r, "out of memory");
	} else {
		r = copy_crew_run(&s.crew, s.decoders + WRITERS, ret_side, e);
	}
	free_blocks(s.open);
	free_blocks(s.whole);
	free_blocks(s.spare);
	pthread_cond_destroy(&s.changed);
	if (r == 0) {
		*ret_size = s.end;
	}
	return r;
}
