/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_image.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"

#define PIECE         16384U
#define LINK_SLACK_NS 2000000U

uint8_t fake_byte(uint64_t seed, uint64_t off)
{
	uint64_t x = (off >> 3) * 0x9e3779b97f4a7c15ULL + seed * 0xbf58476d1ce4e5b9ULL;
	uint8_t b;

	x ^= x >> 29;
	x *= 0x94d049bb133111ebULL;
	x ^= x >> 32;
	b = (uint8_t)(x >> (8 * (off & 7)));
	return b ? b : 0x5a;
}

bool fake_matches(const void *buf, uint64_t seed, uint64_t off, size_t len)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != fake_byte(seed, off + i)) {
			fprintf(stderr, "byte %llu is %02x, not %02x\n",
				(unsigned long long)(off + i), p[i], fake_byte(seed, off + i));
			return false;
		}
	}
	return true;
}

static void fill(const struct fake_image *f, uint8_t *p, uint64_t off, size_t len)
{
	if (f->data) {
		memcpy(p, f->data + off, len);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		p[i] = fake_byte(f->seed, off + i);
	}
}

static void begin(struct fake_image *f)
{
	unsigned int now = ++f->now;
	unsigned int most = f->most;

	f->transfers++;
	while (now > most && !atomic_compare_exchange_weak(&f->most, &most, now)) {
	}
	while (f->gate_closed && !f->interrupted) {
		usleep(200);
	}
	if (f->delay_us) {
		usleep(f->delay_us);
	}
}

/* Whether this transfer is one of those that fail. */
static bool draw_failure(struct fake_image *f)
{
	int n = f->fail_next;

	while (n > 0 && !atomic_compare_exchange_weak(&f->fail_next, &n, n - 1)) {
	}
	return n > 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Waits until the link has carried @n more bytes behind what others gave it. */
static void share_link(struct fake_image *f, size_t n)
{
	uint64_t free_ns = f->link_free_ns;
	uint64_t now = now_ns();
	uint64_t done;

	if (!f->link_rate) {
		return;
	}
	do {
		/* A late wake-up is not the link's fault: it may catch up a little. */
		done = max_u64(free_ns, now - LINK_SLACK_NS) + n * 1000000000 / f->link_rate;
	} while (!atomic_compare_exchange_weak(&f->link_free_ns, &free_ns, done));
	if (done > now) {
		struct timespec until = { (time_t)(done / 1000000000), (long)(done % 1000000000) };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
}

static int transfer(struct fake_image *f, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	bool fails = draw_failure(f);
	uint64_t end = fails ? off + min_u64(len, f->fail_after) : off + len;
	uint8_t piece[PIECE];

	while (off < end) {
		size_t n = min_u64(end - off, PIECE);
		int r;

		if (f->interrupted) {
			return err_set(e, -ECANCELED, "interrupted");
		}
		if (f->rate) {
			usleep((useconds_t)(n * 1000000 / f->rate));
		}
		share_link(f, n);
		fill(f, piece, off, n);
		f->bytes += n; /* before the sink: a test may look as soon as it has the bytes */
		r = sink(ctx, off, piece, n);
		if (r < 0) {
			return err_set(e, r, "stopped");
		}
		f->decoded += n;
		off += n;
	}
	return fails ? err_set(e, f->fail_code, "fake failure") : 0;
}

/* Where the unit that contains @off begins. */
static uint64_t unit_start(const struct fake_image *f, uint64_t off)
{
	return off < f->unit - f->lead ? 0 : off - (off + f->lead) % f->unit;
}

static int fake_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	struct fake_image *f = (struct fake_image *)img;

	(void)e;
	*ret_off = unit_start(f, off);
	*ret_len = *ret_off == 0 ? f->unit - f->lead : f->unit;
	*ret_len = min_u64(*ret_len, img->bound - *ret_off);
	return 0;
}

static int fake_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	struct fake_image *f = (struct fake_image *)img;
	uint64_t end = off + len;
	bool last = end == img->size;
	int r;

	if (f->real && (last || end > f->real)) {
		end = f->real;
	}
	begin(f);
	f->decoded += f->unit ? off - unit_start(f, off) : 0;
	r = transfer(f, off, max_u64(end, off) - off, sink, ctx, e);
	f->now--;
	if (r == 0 && f->real && end == f->real) {
		f->end_known = true;
		r = last ? 0 : image_past_end(img, f->real, e);
	}
	return r;
}

static int fake_final_size(struct image *img, uint64_t *ret)
{
	struct fake_image *f = (struct fake_image *)img;

	if (!f->end_known) {
		return -EAGAIN;
	}
	*ret = f->real;
	return 0;
}

struct copy_target {
	uint8_t *buf;
	uint64_t start;
};

static int copy_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct copy_target *t = ctx;

	memcpy(t->buf + (off - t->start), buf, n);
	return 0;
}

static int fake_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	const struct fake_image *f = (const struct fake_image *)img;
	struct copy_target t = { buf, off };

	if (f->real && (off + len > f->real || (off + len == img->size && f->real > img->size))) {
		return image_past_end(img, f->real < img->size ? f->real : UINT64_MAX, e);
	}
	return fake_stream_at(img, off, len, copy_sink, &t, e);
}

static void fake_interrupt(struct image *img)
{
	((struct fake_image *)img)->interrupted = true;
}

static void fake_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	listener_set(&((struct fake_image *)img)->listener, fn, ctx);
}

static void fake_forget(struct image *img)
{
	((struct fake_image *)img)->forgets++;
}

static void fake_destroy(struct image *img)
{
	struct fake_image *f = (struct fake_image *)img;

	assert(f->now == 0);
	if (f->closed) {
		*f->closed = true;
	}
	free(f->data);
	listener_fini(&f->listener);
	image_fini(img);
	free(f);
}

static const struct image_ops fake_ops = {
	.name = "fake",
	.read_at = fake_read_at,
	.stream_at = fake_stream_at,
	.interrupt = fake_interrupt,
	.listen = fake_listen,
	.forget = fake_forget,
	.destroy = fake_destroy,
};

static const struct image_ops fake_unit_ops = {
	.name = "fake",
	.read_at = fake_read_at,
	.stream_at = fake_stream_at,
	.unit_at = fake_unit_at,
	.final_size = fake_final_size,
	.interrupt = fake_interrupt,
	.destroy = fake_destroy,
};

struct fake_image *fake_image_new(uint64_t size, uint64_t seed, const char *id)
{
	struct fake_image *f = calloc(1, sizeof(*f));
	char text[32];

	assert(f);
	snprintf(text, sizeof(text), "fake-%llu", (unsigned long long)seed);
	assert(image_init(&f->img, &fake_ops, NULL, size, id ? id : text) == 0);
	f->seed = seed;
	f->fail_code = -EIO;
	listener_init(&f->listener);
	return f;
}

struct fake_image *fake_image_units(uint64_t size, uint64_t seed, uint64_t unit, uint64_t lead)
{
	struct fake_image *f = fake_image_new(size, seed, NULL);

	assert(lead < unit);
	f->img.ops = &fake_unit_ops;
	f->unit = unit;
	f->lead = lead;
	return f;
}

struct fake_image *fake_image_provisional(
	uint64_t size, uint64_t real, uint64_t seed, uint64_t unit)
{
	struct fake_image *f = fake_image_units(size, seed, unit, 0);

	f->real = real;
	f->img.bound = 2 * max_u64(size, real);
	f->img.flags |= IMAGE_SIZE_PROVISIONAL;
	return f;
}

struct fake_image *fake_image_from(const void *data, uint64_t size, const char *id)
{
	struct fake_image *f = fake_image_new(size, 0, id);

	f->data = malloc(size ? size : 1);
	assert(f->data);
	memcpy(f->data, data, size);
	return f;
}
