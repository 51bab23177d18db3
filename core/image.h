/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one seam. An image is a readable run of bytes of fixed size. Every layer (http, cache, qcow2,
 * overlay, ...) implements struct image_ops and consumes the image below it through the checked
 * wrappers in this header; nobody else calls the table.
 *
 *      fusefs, copy
 *           |            image_read_at(), image_extent_at()
 *        overlay
 *           |
 *         qcow2
 *           |
 *         cache          one fill serves everybody who waits for it
 *           |            image_stream_at()
 *         http
 *
 * Rules:
 *  - `size` is fixed at open, and `id` (a digest, or URL + validator) names exactly these bytes:
 * when the remote changes, reads fail with -ESTALE; two versions are never mixed.
 *  - Every operation may be called from many threads at once, and blocks until it is done.
 *  - A layer owns the image below it after its own open succeeded, and not before: on failure the
 *    caller still owns it. image_close() closes the whole chain.
 *  - No operation logs above debug, prints, exits, or holds a lock while it waits for the network.
 *
 * An implementation embeds struct image as its first member and fills it with image_init().
 */
#ifndef CORE_IMAGE_H
#define CORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/extent.h"

struct image;
struct report;

/* Receives a stream: @n bytes that stand at @off, in order, without gaps. The bytes are only lent.
 * Called on any thread, one call at a time for one stream; must be quick and must not block on the
 * network. A negative return stops the stream, which then fails with that code. @n 0: a decoder
 * asks whether what begins at @off is wanted, before it fetches anything for it. */
typedef int image_sink_fn(void *ctx, uint64_t off, const void *buf, size_t n);

/* Some bytes that were handed over earlier are withdrawn: see image_listen(). Called on any thread,
 * also on one that is within the image, with locks of a layer held: it returns at once, and calls
 * nothing of the image. */
typedef void image_withdrawn_fn(void *ctx);

struct image_ops {
	const char *name; /* "http", "qcow2": for messages and reports */

	/* All of @len bytes, or failure. The range is within the image. */
	int (*read_at)(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

	/* The same bytes, handed to @sink while they arrive; for sources whose transfers take time.
	 * After a failure, @sink may have had a correct beginning. NULL: made from read_at. */
	int (*stream_at)(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
		void *ctx, struct err *e);

	/* The same bytes for who looks at them without being a reader: nothing is fetched,
	 * foreseen, recorded or counted for it. -EAGAIN: not all of them are on this machine. NULL:
	 * none are.
	 */
	int (*peek_at)(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

	/* The extent that contains @off; it begins at or before @off and may be clipped at will as
	 * long as it contains @off. NULL: all is data. */
	int (*extent_at)(struct image *img, uint64_t off, struct extent *ret, struct err *e);

	/* What of the image below has to be read before extent_at can speak for the bytes from @off
	 * on: a table that stands at *ret_host there, and that speaks for everything up to
	 * *ret_end. EXTENT_NO_HOST: nothing has to. For who reads all of an image in the order of
	 * what is below, see IMAGE_FORWARD: looks at no table of that kind itself. NULL: such an
	 * order is not to be had. */
	int (*table_at)(struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end,
		struct err *e);

	/* A hint that the range will be read soon; returns at once, never fails. NULL: ignored. */
	void (*prefetch)(struct image *img, uint64_t off, uint64_t len);

	/* The unit that contains @off: a run of bytes that is decoded as one, in order from its
	 * beginning, so that a read of its last byte costs as much as streaming all of it. Several
	 * units may be streamed at once on several threads. stream_at may start anywhere and run
	 * over any number of units, but starts cheaply only where one begins. Units tile the image
	 * and may become smaller with time (a seek index that grows), never larger. Cheap: does not
	 * wait for the network. NULL: the whole image where it is IMAGE_SEQUENTIAL, else reads are
	 * cheap anywhere. */
	int (*unit_at)(struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len,
		struct err *e);

	/* A stream has failed with -EBADMSG at @off: which of the bytes before that are not to be
	 * believed, because what failed is what would have proven them. NULL: those of the unit
	 * that ends at or holds @off. Returns at once. */
	void (*doubt_at)(struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len);

	/* [off, off + len) was found to be damaged by whoever made something of it: what is kept of
	 * it beyond the life of this image goes when that ends, so that who opens it then gets it
	 * anew. Not before: what is damaged where it comes from is not to be fetched again and
	 * again. Returns at once. NULL: nothing is kept, nor further down. */
	void (*distrust)(struct image *img, uint64_t off, uint64_t len);

	/* What proves bytes stands behind them, so that some that were read may yet turn out to be
	 * wrong: reads on until everything was seen right that this layer has ever handed over.
	 * It may read what it has not, too: what a cache above holds can be of an earlier run.
	 * -EBADMSG: it was not. May take as long as reading the whole image. A layer that reads
	 * other images than the one below (a backing file) asks those. NULL: nothing is owed. */
	int (*prove)(struct image *img, struct err *e);

	/* Has @fn(@ctx) called whenever bytes that this layer has handed over turn out to be wrong,
	 * once reads of them fail: see image_listen(). A layer with other images beside `below`
	 * hands it on to these. NULL: what it handed over stands, and there are none. */
	void (*listen)(struct image *img, image_withdrawn_fn *fn, void *ctx);

	/* An image below has withdrawn bytes: what was made of some and is kept in memory is not
	 * handed out to reads that begin from now on. Returns at once. A layer with other images
	 * beside `below` hands it on to these. NULL: nothing is kept. */
	void (*forget)(struct image *img);

	/* Whether there is something for prove() to do. NULL: always, where there is prove(). */
	bool (*owes_proof)(const struct image *img);

	/* Of an IMAGE_SIZE_PROVISIONAL image: how many bytes there really are. -EAGAIN while
	 * nobody has decoded the end. Returns at once. */
	int (*final_size)(struct image *img, uint64_t *ret);

	/* How many bytes of the image are data rather than holes: exact where that costs little,
	 * else the best estimate. May block on the network for a bounded amount; not again when it
	 * was answered once, for of a writable image it is asked whenever somebody looks. NULL:
	 * size. */
	int (*allocated)(struct image *img, uint64_t *ret, struct err *e);

	/* NULL: -EROFS. A range that was zeroed reads as zeros and takes no space any more where
	 * that is possible, so discarding is the same. flush: what was written before is durable
	 * when it returns. A write that fails with -ENOSPC may have been done in part. */
	int (*write_at)(
		struct image *img, const void *buf, size_t len, uint64_t off, struct err *e);
	int (*zero_at)(struct image *img, uint64_t off, uint64_t len, struct err *e);
	int (*flush)(struct image *img, struct err *e);

	/* Lends a descriptor of a file that holds exactly the bytes of the image, its size
	 * included: readers may go past all layers. It will for as long as somebody has the file
	 * open or mapped, beyond return_file() and the end of this process. Not while it is lent
	 * already, nor while some of the bytes may yet be withdrawn. -EAGAIN: not now, but asking
	 * again later makes sense. Returns soon. NULL: never.
	 *
	 * return_file: no more readers will be sent there. @closed: those who were have opened it
	 * by now, or never will, and may have closed it again; false: that is not known. */
	int (*lend_file)(struct image *img, int *ret_fd);
	void (*return_file)(struct image *img, bool closed);

	/* Adds this layer's facts and counters to @r, with report_u64() and friends. NULL: none. */
	void (*report)(struct image *img, struct report *r);

	/* Operations under way, and all later ones, fail soon with -ECANCELED instead of waiting
	 * for the network: the image is about to be closed. Returns at once. NULL: nothing of this
	 * layer waits. */
	void (*interrupt)(struct image *img);

	/* Frees the layer and closes `below`. */
	void (*destroy)(struct image *img);
};

/* Bytes come cheaply only in order from 0 (a server without ranges, a compressed stream): reading
 * elsewhere costs as much as reading everything before it. A cache above spools such an image. */
#define IMAGE_SEQUENTIAL 0x1U
/* The bytes are on this machine already: caching them gains nothing. */
#define IMAGE_LOCAL 0x2U
/* `id` holds no usable validator: it names these bytes for this process only. */
#define IMAGE_UNVERSIONED 0x4U
/*
 * `size` is only an estimate (a compressed stream that does not say how long it is), though one
 * that stays for as long as the image is open. What is really there shows when the end is decoded:
 *  - a read fails with image_past_end() when it reaches past the real end, and when it includes the
 *    last byte before `size` without that being the real end: whoever reads all of the image learns
 *    that it is shorter or longer, and never takes a part for the whole. From the cache over it the
 *    error comes when the real end is known, however far that is: who then opens it again is told;
 *  - a stream whose range reaches `size` goes on to the real end, wherever that is, and succeeds;
 *    its sink then gets more or fewer bytes than were asked for;
 *  - image_final_size() tells.
 * Such a layer remembers what it learned (through struct blobs): opened again, it is not
 * provisional.
 */
#define IMAGE_SIZE_PROVISIONAL 0x8U
/* Reads are good anywhere, but what was passed is only remembered for a while, and getting it again
 * costs as much as everything before it: who can choose goes through the image forward, once, and
 * asks for nothing that is far ahead (a cache in memory over a compressed stream). */
#define IMAGE_FORWARD 0x10U

struct image {
	const struct image_ops *ops;
	struct image *below; /* the next layer down, or NULL; owned */
	uint64_t size;       /* bytes */
	uint64_t bound;      /* no byte is at or behind it: `size`, but for provisional images. Who
				opens such a layer may, before others use it, set `size` to anything up
				to it, because a disk format inside that knows its own size needs all of
				it; or, once the real size is known, both to that, and no longer call it
				provisional */
	uint32_t block; /* reads aligned to this waste nothing: a power of two, 1 when it does not
			   matter */
	unsigned int flags; /* IMAGE_* */
	bool borrows_below; /* it belongs to somebody else: image_fini() leaves it open */
	char *id;           /* owned, malloc()ed */
};

/* For implementations: sets all fields. @id is copied. -ENOMEM or 0. */
int image_init(struct image *img, const struct image_ops *ops, struct image *below, uint64_t size,
	const char *id);

/* The same for a layer that decodes @below as @name ("gzip"): the id is @below's and "+NAME", and
 * what says that @below's id is good for nothing says so of this one's. */
int image_init_decoder(struct image *img, const struct image_ops *ops, struct image *below,
	uint64_t size, const char *name);

/* For implementations' destroy: closes `below` and frees what image_init() allocated. */
void image_fini(struct image *img);

/* Reads exactly [off, off + len) into @buf. -EINVAL when the range is not within the image; a
 * length of 0 reads nothing. Never short. */
int image_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

/* Reads the first @len bytes, or all where there are fewer: *ret_len. Of an image whose size is
 * provisional the reading tells. */
int image_read_head(struct image *img, void *buf, size_t len, size_t *ret_len, struct err *e);

int image_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e);

/* For who wants the bytes to be read, and nothing of them. */
int image_sink_none(void *ctx, uint64_t off, const void *buf, size_t n);

/* Reads the range as image_read_at() does, but only what is here already, and nobody notices. */
int image_peek_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

/* The extent at @off, clipped to start at @off and to end within the image. @off < size. */
int image_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e);

/* The table that speaks for @off < size; *ret_end is behind @off, and not behind the end. Only of
 * an image that has table_at. */
int image_table_at(
	struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end, struct err *e);

/* The unit that contains @off; *ret_len is 0 when reads are cheap anywhere. @off < size. The unit
 * may reach past the end of a provisional image. */
int image_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e);

/* What lies in the range is damaged, and nobody is to find it kept: see `distrust` above. The range
 * may reach past the end. */
void image_distrust(struct image *img, uint64_t off, uint64_t len);

/* Whether a layer of the chain hands over bytes before they are proven. */
bool image_owes_proof(const struct image *img);

/* Whatever was read of the image was right, as far as its layers and those of its backing files can
 * tell, or an error: see `prove` above. Who keeps what was read asks before saying so. */
int image_prove(struct image *img, struct err *e);

/*
 * Whoever keeps what was read, and hands it out without asking again (a kernel's pages), is told
 * when bytes of the image, or of one that it is made of, have been withdrawn: what proves them came
 * later than they did, and says otherwise. Before @fn(@ctx) is called, reads of them fail already
 * where they were withdrawn; it says neither which they are nor which bytes of the image were made
 * of them, and may be called more than once for the same. Then everything that was kept goes, and
 * before that image_forget(), so that no layer in between makes up for it: not within @fn, which
 * may not call the image. A read that was under way meanwhile may still bring the old bytes.
 *
 * What was withdrawn before counts as well, for a layer may have kept what it read when it was
 * opened: then @fn is called before image_listen() returns.
 *
 * One listener an image; a second call takes the place of the first. @fn NULL: nobody. When that
 * has returned, no call is under way and none will come, which is to be so before the image is
 * closed. An @img of NULL is nothing.
 */
void image_listen(struct image *img, image_withdrawn_fn *fn, void *ctx);
void image_forget(struct image *img);

/* 0 and `size` when that is not provisional; -EAGAIN: not known yet. */
int image_final_size(struct image *img, uint64_t *ret);

/* For layers whose size is provisional: the error (-EIO) of a read that touches the difference
 * between `size` and the real end @real. UINT64_MAX: it is further away than `size`, nobody knows
 * where. */
int image_past_end(const struct image *img, uint64_t real, struct err *e);

/* The range may reach past the end: it is clipped. */
void image_prefetch(struct image *img, uint64_t off, uint64_t len);

int image_allocated(struct image *img, uint64_t *ret, struct err *e);

/* These return -EROFS on a read-only image. */
int image_write_at(struct image *img, const void *buf, size_t len, uint64_t off, struct err *e);
int image_zero_at(struct image *img, uint64_t off, uint64_t len, struct err *e);
int image_flush(struct image *img, struct err *e);
bool image_writable(const struct image *img);

/* *ret_fd is the image's; it is closed by image_return_file() at the latest. -EOPNOTSUPP: this
 * image has no such file. */
int image_lend_file(struct image *img, int *ret_fd);
void image_return_file(struct image *img, bool closed);

/* Reports of the whole chain, from the top down. */
void image_report(struct image *img, struct report *r);

/* Makes whoever waits in this image or below it come back, so that it can be closed without waiting
 * for a dead network. Only image_flush() and image_close() make sense afterwards. */
void image_interrupt(struct image *img);

/* Closes the image and everything below it. NULL is nothing. */
void image_close(struct image *img);

/* For CLEANUP(image_closep) on a local. */
void image_closep(struct image **img);

#endif
