/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/decoded_check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/test.h"

#define READERS 3
#define READS   5

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 20;
}

struct bytes decoded_sample(size_t len)
{
	struct bytes b = { malloc(len), len };
	uint64_t state = 7;

	assert_non_null(b.data);
	for (size_t i = 0; i < len; i++) {
		uint64_t value = next_random(&state);

		b.data[i] = (i >> 16) % 5 == 3 ? 0 : (uint8_t)("0123456789abcdef"[value & 15]);
		if (value % 7 == 0 && i > 4000) {
			b.data[i] = b.data[i - 3000];
		}
	}
	return b;
}

void bytes_append(struct bytes *b, const void *data, size_t n)
{
	b->data = realloc(b->data, b->len + n);
	assert_non_null(b->data);
	memcpy(b->data + b->len, data, n);
	b->len += n;
}

struct image *decoded_open(decoder_open_fn *open, const struct bytes *packed, struct blobs *blobs,
	struct fake_image **ret_below)
{
	const struct format_opts opts = { .blobs = blobs };
	struct fake_image *below = fake_image_from(packed->data, packed->len, "packed");
	struct image *img = NULL;
	struct err e = { 0 };

	if (open(&below->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	if (ret_below) {
		*ret_below = below;
	}
	return img;
}

struct sink {
	const struct bytes *plain;
	uint64_t next;
	bool differs;
};

static int compare(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct sink *s = ctx;

	s->differs = s->differs || off != s->next || !range_within(off, n, s->plain->len) ||
		     memcmp(s->plain->data + off, buf, n) != 0;
	s->next = off + n;
	return 0;
}

static void check_stream(struct image *img, const struct bytes *plain, uint64_t off, uint64_t len)
{
	struct sink s = { plain, off, false };
	struct err e = { 0 };

	if (image_stream_at(img, off, len, compare, &s, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_false(s.differs);
	assert_int_equal(s.next, off + len);
}

static void check_units(struct image *img, const struct bytes *plain)
{
	uint64_t off = 0;

	while (off < img->size) {
		uint64_t start;
		uint64_t len;

		assert_int_equal(image_unit_at(img, off, &start, &len, NULL), 0);
		assert_int_equal(start, off);
		assert_true(len > 0);
		check_stream(img, plain, start, len);
		off += len;
	}
	assert_int_equal(off, img->size);
}

struct reader {
	struct image *img;
	const struct bytes *plain;
	uint64_t seed;
	bool failed;
};

static void *read_somewhere(void *ctx)
{
	struct reader *r = ctx;

	for (unsigned int i = 0; i < READS && !r->failed; i++) {
		uint64_t off = next_random(&r->seed) % r->plain->len;
		size_t len = min_u64(next_random(&r->seed) % 300000, r->plain->len - off);
		uint8_t *buf = malloc(len ? len : 1);

		r->failed = !buf || image_read_at(r->img, buf, len, off, NULL) < 0 ||
			    memcmp(buf, r->plain->data + off, len) != 0;
		free(buf);
	}
	return NULL;
}

void decoded_check_reads(struct image *img, const struct bytes *plain)
{
	struct reader readers[READERS];
	pthread_t threads[READERS];

	assert_int_equal(img->size, plain->len);
	check_stream(img, plain, 0, plain->len);
	check_units(img, plain);
	check_stream(img, plain, plain->len / 3, plain->len / 2);
	for (unsigned int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){ img, plain, i + 1, false };
		assert_int_equal(pthread_create(&threads[i], NULL, read_somewhere, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < READERS; i++) {
		pthread_join(threads[i], NULL);
		assert_false(readers[i].failed);
	}
}

/* What a copy would see: everything, in order. */
static int stream_all(struct image *img, const struct bytes *plain, struct err *e)
{
	struct sink s = { plain, 0, false };
	uint64_t real = UINT64_MAX;
	int r = 0;

	if (img->size > 0) {
		r = image_stream_at(img, 0, img->size, compare, &s, e);
	}
	if (r == 0) {
		assert_int_equal(image_final_size(img, &real), 0);
		assert_int_equal(real, s.next);
		assert_false(s.differs);
		assert_int_equal(s.next, plain->len);
	}
	return r;
}

int decoded_check_damaged(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain)
{
	const struct format_opts opts = { .blobs = NULL };
	struct fake_image *below = fake_image_from(packed->data, packed->len, "packed");
	struct image *img = NULL;
	struct err e = { 0 };
	int r = open(&below->img, &opts, &img, &e);

	if (r == 0) {
		r = stream_all(img, plain, &e);
	}
	if (r < 0) {
		assert_true(r == -EBADMSG || r == -ENOTSUP);
		assert_int_equal(e.code, r);
		assert_true(r == -ENOTSUP || strstr(e.text, "offset") || strstr(e.text, "bytes"));
	}
	image_close(img ? img : &below->img);
	return r;
}

void decoded_check_truncations(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, unsigned int n)
{
	uint64_t state = 11;

	for (unsigned int i = 0; i < n; i++) {
		struct bytes cut = *packed;

		cut.len = i < 20 ? packed->len - 1 - i : next_random(&state) % packed->len;
		if (decoded_check_damaged(open, &cut, plain) == 0) {
			/* only what says nothing of the disk is missing */
			assert_true(packed->len - cut.len < 100);
		}
	}
}

void decoded_check_flips(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, unsigned int n)
{
	uint64_t state = 13;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t bit = next_random(&state) % (8 * packed->len);

		if (i < 200) { /* headers and tables, too */
			bit = i % 2 ? i : 8 * packed->len - i - 1;
		}
		packed->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		decoded_check_damaged(open, packed, plain);
		packed->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}

struct bytes decoded_noise(size_t len)
{
	struct bytes b = { malloc(len), len };
	uint64_t state = 17;

	assert_non_null(b.data);
	for (size_t i = 0; i < len; i++) {
		b.data[i] = (uint8_t)(next_random(&state) >> 8);
	}
	return b;
}

/* An image whose first download is damaged where @plain has the offset DAMAGED. */
#define DAMAGED MIB(1)

struct downloads {
	struct image *img;
	struct fake_image *below;
	const struct bytes *plain;
	size_t at; /* of the damaged byte, in the compressed image */
};

static struct downloads downloads_begin(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain)
{
	struct downloads d = { .plain = plain };
	const uint8_t *found = memmem(packed->data, packed->len, plain->data + DAMAGED, 32);

	assert_non_null(found);
	d.img = decoded_open(open, packed, NULL, &d.below);
	d.at = (size_t)(found - packed->data);
	d.below->data[d.at] ^= 1;
	return d;
}

/* Whether what is read at @off is right. */
static bool reads_right(const struct downloads *d, uint64_t off)
{
	uint8_t buf[100];
	struct err e = { 0 };

	if (image_read_at(d->img, buf, sizeof(buf), off, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return memcmp(buf, d->plain->data + off, sizeof(buf)) == 0;
}

static void downloads_mend(struct downloads *d)
{
	d->below->data[d->at] ^= 1;
}

static void downloads_end(struct downloads *d, int want)
{
	struct err e = { 0 };

	assert_int_equal(image_prove(d->img, &e), want);
	assert_true(want == 0 || strstr(e.text, "damaged when it was read"));
	/* It stays so. */
	assert_int_equal(image_prove(d->img, NULL), want);
	image_close(d->img);
}

static int stop_behind(void *ctx, uint64_t off, const void *buf, size_t n)
{
	const uint64_t *last = ctx;

	(void)buf;
	return off + n > *last ? -ECANCELED : 0;
}

static int count_only(void *ctx, uint64_t off, const void *buf, size_t n)
{
	(void)off;
	(void)buf;
	*(uint64_t *)ctx += n;
	return 0;
}

void decoded_check_downloads(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain)
{
	uint64_t last = DAMAGED;
	uint64_t given = 0;
	struct downloads d;
	uint64_t off;
	uint64_t len;

	/* by a cursor that is kept for who goes on */
	d = downloads_begin(open, packed, plain);
	assert_false(reads_right(&d, DAMAGED));
	downloads_mend(&d);
	downloads_end(&d, -EBADMSG);

	/* by one that ended */
	d = downloads_begin(open, packed, plain);
	assert_false(reads_right(&d, DAMAGED));
	downloads_mend(&d);
	assert_true(reads_right(&d, DAMAGED));
	downloads_end(&d, -EBADMSG);

	/* before somebody else met the unit's end, and found all right */
	d = downloads_begin(open, packed, plain);
	assert_int_equal(
		image_stream_at(d.img, 0, plain->len, stop_behind, &last, NULL), -ECANCELED);
	downloads_mend(&d);
	check_stream(d.img, plain, 0, plain->len);
	downloads_end(&d, -EBADMSG);

	/* by one that came to know of it after it had handed it over */
	d = downloads_begin(open, packed, plain);
	assert_int_equal(image_stream_at(d.img, 0, plain->len, count_only, &given, NULL), -EBADMSG);
	assert_true(given > DAMAGED);
	downloads_mend(&d);
	downloads_end(&d, -EBADMSG);

	/* What stands before the damage is right, and what was not handed over does not matter. */
	d = downloads_begin(open, packed, plain);
	assert_true(reads_right(&d, DAMAGED - 300));
	assert_int_equal(image_unit_at(d.img, 0, &off, &len, NULL), 0);
	last = min_u64(len, plain->len) - 1;
	assert_int_equal(image_stream_at(d.img, last, 1, count_only, &given, NULL), -EBADMSG);
	downloads_mend(&d);
	assert_true(reads_right(&d, 0)); /* anew */
	assert_true(reads_right(&d, DAMAGED + 4096));
	downloads_end(&d, 0);
}

/* Whatever is read first. */
static void check_nothing_is_read(decoder_open_fn *open, const struct bytes *packed, uint64_t off)
{
	struct image *img = decoded_open(open, packed, NULL, NULL);
	uint8_t buf[100];
	uint8_t untouched[sizeof(buf)];

	memset(buf, 0xa5, sizeof(buf));
	memset(untouched, 0xa5, sizeof(untouched));
	assert_int_equal(image_read_at(img, buf, sizeof(buf), off, NULL), -EBADMSG);
	assert_memory_equal(buf, untouched, sizeof(buf));
	image_close(img);
}

void decoded_check_held(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, uint64_t from, uint64_t to)
{
	uint8_t *found = memmem(packed->data, packed->len, plain->data + to - 40, 32);
	struct sink s = { plain, 0, false };
	struct image *img;

	assert_non_null(found);
	*found ^= 1;
	check_nothing_is_read(open, packed, from);
	check_nothing_is_read(open, packed, from + (to - from) / 2);
	check_nothing_is_read(open, packed, to - 100);
	img = decoded_open(open, packed, NULL, NULL);
	assert_int_equal(image_stream_at(img, 0, img->size, compare, &s, NULL), -EBADMSG);
	assert_false(s.differs);
	assert_int_equal(s.next, from);
	image_close(img);
	*found ^= 1;
}

void decoded_check_proven(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain)
{
	struct fake_image *below;
	struct image *img = decoded_open(open, packed, NULL, &below);
	uint8_t head[4096];
	uint64_t fetched;

	assert_int_equal(image_read_at(img, head, sizeof(head), 0, NULL), 0);
	assert_memory_equal(head, plain->data, sizeof(head));
	check_stream(img, plain, 0, plain->len);
	fetched = below->bytes;
	assert_int_equal(image_prove(img, NULL), 0);
	assert_int_equal(below->bytes, fetched);
	image_close(img);
}
