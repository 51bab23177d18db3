/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache: an image over an image, that remembers on disk which bytes are here.
 *
 * struct cache is the store (a directory, or bounded memory); cache_image_open() puts one object of
 * it over a slow image. Missing granules are fetched with image_stream_at() in fills that adapt to
 * the link; a reader is served as soon as its own bytes are there; overlapping misses share one
 * fill.
 *
 * Presence and checksum of a granule are one word, so that a torn, rotten or half-written granule
 * is a miss and never wrong bytes, whatever crashed. A full, broken or read-only cache directory
 * means uncached reads and one warning; no reader sees an error. Several processes may use one
 * directory.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"

#define CACHE_GRANULE 65536U

struct cache;

struct cache_opts {
	const char *dir; /* NULL: bounded memory only, nothing persists (--no-cache) */
	bool existing; /* @dir must be a cache already: nothing is created, -ENOENT when it is none,
			  and any other error instead of memory mode. For those who look after it */
	uint64_t max_size; /* bytes on disk; 0: no limit but min_free. In memory mode: bytes of RAM,
			      default 48 MiB */
	uint64_t min_free; /* bytes to leave free on the file system; 0: default max(5 %, 1 GiB), of
			      a small one a tenth */
	uint64_t readahead; /* cap of one stream's readahead window, bytes; 0: default */
	bool no_readahead;
	bool once; /* each byte is read once, about in the order in which it is asked for */
	unsigned int fetches; /* fills in flight at most; 0: default 32 */
};

/* Creates @dir (0700) when it does not exist. When the directory cannot be used, succeeds in memory
 * mode after one log_warn(). */
int cache_open(const struct cache_opts *opts, struct cache **ret, struct err *e);

/* Ends the threads, makes what was written durable. All images on it are closed before. NULL is
 * nothing. */
void cache_close(struct cache *c);

/* What is remembered of an object before anything was opened. -ENOENT: nothing usable. */
struct cache_known {
	char *id;      /* of the image that was cached; malloc()ed, the caller frees it */
	uint64_t size; /* of that image */
};
int cache_peek(struct cache *c, const char *key, struct cache_known *ret, struct err *e);

/*
 * image_report() of such an image says, as layer "cache":
 *   mode              "disk" or "memory"
 *   present_bytes     bytes of the image that are here
 *   hits              reads that found all their bytes here
 *   misses            reads for which a fetch was begun
 *   joined            reads that waited for fetches that were under way
 *   fills             fetches begun, for whatever reason
 *   waits, wait_ms    reads that waited, and how long all together
 *   bytes_demanded    bytes fetched because a read asked for them, whole granules
 *   bytes_prefetched  bytes fetched before any read asked
 *   bytes_wasted      those of them (but for hinted ones) that no read has asked for yet, replayed
 *                     ones included
 *   torn              granules that were recorded as here and were not right; fetched again
 *   bypassed          granules that the disk did not take
 *   lent              1 while readers go to the cache's file themselves (image_lend_file()): when
 *                     all of the image is here and was seen right; else 0
 *   rtt_us, bytes_per_s  what was measured of the link
 * and over a decoder
 *   decoding          units that are being decoded
 *   decoding_paused   those that wait for somebody to need more
 * and of one that is served (cache_image_serve()), moreover:
 *   tracing           first touches are being recorded
 *   touched_bytes     granules that were touched first while that was so
 *   trace_boots       boots that the trace in use was recorded from; 0: there is none
 *   trace_bytes       what it foretells
 *   foretold_bytes    those of the touched bytes that it had foretold
 *   replaying         it is being fetched
 *   bytes_replayed    bytes fetched because of it
 *   bytes_foreseen    those of them that were read since
 *   completion        "off", "idle", "waiting", "running", "no room" or "done": see complete.h
 *   bytes_completed   bytes fetched for it
 *   verified          the whole is what its digest says; not reported before that is known, nor
 *                     when something went since, until all is here and verified again
 */

/* Puts the object @key over @below. What is stored for another id or size than @below's is dropped
 * first; an object that another process uses under another id is left alone and this image then
 * works in memory. IMAGE_UNVERSIONED images start empty. IMAGE_SEQUENTIAL images are spooled: one
 * stream from 0 fills the object in order and readers wait for their offset. Decoders (those with
 * unit_at) are decoded unit by unit, several at once, each only as far as somebody needs it or it
 * is small; of another size under the same id, what is stored stays: the size was provisional. In
 * memory mode the image is IMAGE_FORWARD where a unit is more than there is memory for. */
int cache_image_open(
	struct cache *c, const char *key, struct image *below, struct image **ret, struct err *e);

/* Compares all of @whole with what it has to be. Blocks; reading fails with -ECANCELED when the
 * image is about to be closed. 0; -ENOKEY: it is something else, @e says what; any other error: not
 * known. */
typedef int cache_verify_fn(void *ctx, struct image *whole, struct err *e);

/* How an image is served to a machine that boots from it. */
struct cache_serve_opts {
	bool no_trace;    /* neither record first touches nor replay them */
	bool complete;    /* fetch what nobody reads, too, in the background */
	bool no_complete; /* not even when much of it is here */
	bool delay_given;
	unsigned int delay_s;    /* from now on, before that begins; default 30 */
	uint64_t rate;           /* bytes a second for it; 0: what readers leave of the link */
	const char *digest;      /* names what @verify compares with; NULL: nothing is known */
	cache_verify_fn *verify; /* called once all is here, on a thread of the image */
	void *ctx;
};

/*
 * From now on, first touches are recorded in the object's records, what was recorded before is
 * fetched ahead of the readers, and in the end the rest (with `complete`, or when a third of the
 * image was read; never in memory mode, nor what the cache cannot keep). An image whose bytes are
 * not what the digest says fails all reads from then on with -EBADMSG, and is forgotten when it is
 * closed. Once, before the first read.
 */
int cache_image_serve(struct image *img, const struct cache_serve_opts *opts, struct err *e);

/* -EBADMSG: a served image's bytes are known not to be what the digest says. For those who keep
 * what they made of them: a cache over a decoder does not ask. */
int cache_image_check(struct image *img, struct err *e);

/* Whether a served image has a trace to replay, or all of its bytes: others need not be looked for.
 */
bool cache_image_is_warm(struct image *img);

/* Replays the record @data, which is not trusted, on a served image. -EBADMSG: damaged; -ENOTSUP:
 * of a later layout; -ESTALE: of another image or version. */
int cache_image_trace(struct image *img, const void *data, size_t len, struct err *e);

/* Puts the record @data in place of what was recorded of the image. It may be of another version of
 * the same size: whoever asks for this knows that it fits. Errors as above. */
int cache_image_trace_import(struct image *img, const void *data, size_t len, struct err *e);

/* The key it was opened with, malloc()ed; NULL without memory. */
char *cache_image_key(const struct image *img);

/* While it is open, nothing of it is given up for want of room. In memory mode it is ignored. */
void cache_image_pin(struct image *img);

/* The object's small records. Valid until the image is closed. In memory mode they are forgotten
 * with the image. */
struct blobs *cache_image_blobs(struct image *img);

/* --- what `lazydisk trace` does: records of boots, see trace.h --- */

#define CACHE_TRACE_MAX (1U << 20) /* bytes of a record at most */

struct cache_trace_info {
	char *version; /* of the image; malloc()ed, the caller frees it */
	uint64_t size; /* of the image */
	uint64_t boots;
	uint64_t bytes;    /* that most of them touched: what is replayed */
	uint64_t rare;     /* bytes that fewer touched */
	uint64_t span_ms;  /* from the first touch to the last */
	uint64_t requests; /* that replaying takes on a link where holes are not worth fetching */
};

/* Errors as above. */
int cache_trace_describe(const void *data, size_t len, struct cache_trace_info *ret, struct err *e);

/* The record of the object @key; *ret is malloc()ed. -ENOENT: there is none. */
int cache_trace_get(struct cache *c, const char *key, void **ret, size_t *ret_len, struct err *e);
/* Forgets it. -ENOENT: there is none. Whoever serves the image now brings it back when they end. */
int cache_trace_drop(struct cache *c, const char *key, struct err *e);

/* --- what `lazydisk cache` does --- */

struct cache_entry {
	const char *key;
	const char *id;
	uint64_t size;      /* of the image */
	uint64_t present;   /* bytes of the image that are here, zeros included */
	uint64_t disk_used; /* bytes of the file system */
	int64_t last_used;  /* seconds since the epoch */
	bool in_use;        /* some process has it open */
	bool corrupt;       /* meta cannot be read; key and id are then the directory's name */
};
typedef int cache_entry_fn(void *ctx, const struct cache_entry *entry);

/* Calls @fn for each object, most recently used first; stops at a negative return and returns it.
 */
int cache_list(struct cache *c, cache_entry_fn *fn, void *ctx, struct err *e);

/* -ENOENT: not cached; -EBUSY: in use. */
int cache_drop(struct cache *c, const char *key, struct err *e);

/* Drops the least recently used bytes until at most @max_size are used. *ret_freed: bytes. Objects
 * in use lose granules, too. */
int cache_prune(struct cache *c, uint64_t max_size, uint64_t *ret_freed, struct err *e);

struct cache_verify_result {
	uint64_t objects;
	uint64_t granules; /* checked */
	uint64_t bad;      /* dropped: their checksum did not match */
	uint64_t leaked;   /* bytes on disk that belong to no granule; freed */
};
int cache_verify(struct cache *c, struct cache_verify_result *ret, struct err *e);

#endif
