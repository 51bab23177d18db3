/* SPDX-License-Identifier: Apache-2.0 */
/* Deflate with libdeflate and zlib, zlib streams with libdeflate, zstd with libzstd; and the pool
 * of decoders. */
#define ZLIB_CONST
#include "formats/codec.h"

#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* Idle decoders to keep, and the input room that an idle one may keep. */
#define IDLE_MAX  4U
#define ROOM_KEEP MIB(2)

/* Decoders in use at once: no more than fit this much memory, two clusters each; but some. */
#define BUSY_BYTES MIB(32)
#define BUSY_MIN   4U
#define BUSY_MAX   64U

/* A zstd frame may ask for a window of gigabytes; real ones ask for no more than the cluster, or
 * for what the highest usual level takes: 8 MiB. */
#define ZSTD_WINDOW_LOG 23

struct codec_decoder {
	enum codec_kind kind;
	size_t cluster_size;
	struct libdeflate_decompressor *deflate;
	ZSTD_DCtx *zstd;
	uint8_t *room;
	size_t room_size;
	struct codec_decoder *next;
};

struct codec {
	enum codec_kind kind;
	size_t cluster_size;
	unsigned int busy_max;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t given; /* back */
	struct codec_decoder *idle;
	unsigned int idle_count;
	unsigned int busy;
};

int codec_new(enum codec_kind kind, size_t cluster_size, struct codec **ret)
{
	struct codec *c = calloc(1, sizeof(*c));

	if (!c) {
		return -ENOMEM;
	}
	c->kind = kind;
	c->cluster_size = cluster_size;
	c->busy_max =
		(unsigned int)max_u64(BUSY_MIN, min_u64(BUSY_MAX, BUSY_BYTES / (2 * cluster_size)));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->given, NULL);
	*ret = c;
	return 0;
}

static void decoder_free(struct codec_decoder *d)
{
	if (d->deflate) {
		libdeflate_free_decompressor(d->deflate);
	}
	ZSTD_freeDCtx(d->zstd);
	free(d->room);
	free(d);
}

static struct codec_decoder *decoder_new(const struct codec *c)
{
	struct codec_decoder *d = calloc(1, sizeof(*d));

	if (!d) {
		return NULL;
	}
	d->kind = c->kind;
	d->cluster_size = c->cluster_size;
	if (c->kind != CODEC_ZSTD) {
		d->deflate = libdeflate_alloc_decompressor();
	} else {
		d->zstd = ZSTD_createDCtx();
	}
	if (!d->deflate && !d->zstd) {
		free(d);
		return NULL;
	}
	if (d->zstd) {
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	}
	return d;
}

void codec_free(struct codec *c)
{
	if (!c) {
		return;
	}
	while (c->idle) {
		struct codec_decoder *d = c->idle;

		c->idle = d->next;
		decoder_free(d);
	}
	pthread_cond_destroy(&c->given);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Waits for its turn; NULL: there is no idle one, but a new one may be made. */
static struct codec_decoder *begin_use(struct codec *c)
{
	struct codec_decoder *d;
	LOCK_SCOPE(&c->lock);

	while (c->busy >= c->busy_max) {
		pthread_cond_wait(&c->given, &c->lock);
	}
	c->busy++;
	d = c->idle;
	if (d) {
		c->idle = d->next;
		c->idle_count--;
	}
	return d;
}

/* True: @d is kept for the next one. */
static bool end_use(struct codec *c, struct codec_decoder *d)
{
	LOCK_SCOPE(&c->lock);

	c->busy--;
	pthread_cond_signal(&c->given);
	if (!d || c->idle_count >= IDLE_MAX) {
		return false;
	}
	d->next = c->idle;
	c->idle = d;
	c->idle_count++;
	return true;
}

struct codec_decoder *codec_take(struct codec *c)
{
	struct codec_decoder *d = begin_use(c);

	if (!d) {
		d = decoder_new(c);
		if (!d) {
			end_use(c, NULL);
		}
	}
	return d;
}

void codec_give(struct codec *c, struct codec_decoder *d)
{
	if (d->room_size > ROOM_KEEP) {
		free(d->room);
		d->room = NULL;
		d->room_size = 0;
	}
	if (!end_use(c, d)) {
		decoder_free(d);
	}
}

uint8_t *codec_decoder_room(struct codec_decoder *d, size_t n)
{
	if (n > d->room_size) {
		free(d->room);
		d->room = malloc(n);
		d->room_size = d->room ? n : 0;
	}
	return d->room;
}

/* zlib takes what libdeflate refuses and other readers accept: a stream that is longer than the
 * cluster, or cut right behind the last byte that counts. */
static int inflate_slowly(const uint8_t *in, size_t len, uint8_t *out, size_t want)
{
	z_stream z = { .avail_in = (uInt)len, .avail_out = (uInt)want };
	int r;

	z.next_in = in;
	z.next_out = out;
	if (inflateInit2(&z, -15) != Z_OK) {
		return -ENOMEM;
	}
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0 ? 0
											: -EBADMSG;
}

static int run_deflate(struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
	if (libdeflate_deflate_decompress(d->deflate, in, len, out, d->cluster_size, NULL) ==
		LIBDEFLATE_SUCCESS) {
		return 0;
	}
	return inflate_slowly(in, len, out, d->cluster_size);
}

/* Piece by piece, for what is not exactly one frame of one cluster. */
static int unzstd_slowly(struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
	ZSTD_inBuffer src = { .src = in, .size = len };
	ZSTD_outBuffer dst = { .size = d->cluster_size };

	dst.dst = out;
	ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only);
	while (dst.pos < dst.size) {
		size_t consumed = src.pos;
		size_t produced = dst.pos;
		size_t r = ZSTD_decompressStream(d->zstd, &dst, &src);

		if (ZSTD_isError(r) || (src.pos == consumed && dst.pos == produced)) {
			return -EBADMSG;
		}
	}
	return 0;
}

static int run_zstd(struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
	size_t frame = ZSTD_findFrameCompressedSize(in, len);

	if (!ZSTD_isError(frame) &&
		ZSTD_decompressDCtx(d->zstd, out, d->cluster_size, in, frame) == d->cluster_size) {
		return 0;
	}
	return unzstd_slowly(d, in, len, out);
}

/* All of the stream has to fit, because its checksum stands at its end. */
static int run_zlib(
	struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out, size_t need)
{
	size_t got = 0;

	if (libdeflate_zlib_decompress(d->deflate, in, len, out, d->cluster_size, &got) !=
			LIBDEFLATE_SUCCESS ||
		got < need) {
		return -EBADMSG;
	}
	memset(out + got, 0, d->cluster_size - got);
	return 0;
}

int codec_decoder_run(
	struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out, size_t need)
{
	switch (d->kind) {
	case CODEC_DEFLATE:
		return run_deflate(d, in, len, out);
	case CODEC_ZLIB:
		return run_zlib(d, in, len, out, need);
	case CODEC_ZSTD:
		break;
	}
	return run_zstd(d, in, len, out);
}
