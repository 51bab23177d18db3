/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in memory whose transfers can be slowed down, cut and failed, and that counts what was
 * asked of it. Its bytes prove their own offset: see fake_byte().
 */
#ifndef TESTS_UNIT_FAKE_IMAGE_H
#define TESTS_UNIT_FAKE_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/image.h"
#include "core/listener.h"

struct fake_image {
	struct image img;
	uint8_t *data; /* owned; NULL: fake_byte() */
	uint64_t seed;
	_Atomic unsigned int delay_us;  /* before the first byte of each transfer */
	_Atomic uint64_t rate;          /* bytes a second of one stream; 0: no limit */
	_Atomic uint64_t link_rate;     /* bytes a second of all streams together; 0: no limit */
	_Atomic uint64_t link_free_ns;  /* when the shared link has carried what it was given */
	_Atomic int fail_next;          /* so many transfers fail ... */
	_Atomic int fail_code;          /* ... with this (a negative errno) */
	_Atomic uint64_t fail_after;    /* ... after so many bytes */
	_Atomic bool gate_closed;       /* transfers wait while it is true */
	_Atomic unsigned int transfers; /* counts */
	_Atomic uint64_t bytes;
	_Atomic unsigned int now;  /* transfers under way */
	_Atomic unsigned int most; /* most of them at once */
	_Atomic bool interrupted;
	struct listener listener;     /* as of image_listen() */
	_Atomic unsigned int forgets; /* calls of image_forget() */
	/* Of a decoder: */
	_Atomic uint64_t unit;    /* units have so many bytes */
	_Atomic uint64_t lead;    /* the first one has so many less */
	uint64_t real;            /* the real end of a provisional image; 0: `size` */
	_Atomic bool end_known;   /* some stream has been there */
	_Atomic uint64_t decoded; /* bytes decoded, those before what was asked for too */
	_Atomic bool *closed;     /* set to true by destroy, when not NULL */
};

/* The byte at @off of an image with @seed: never 0, different for neighbours and for seeds. */
uint8_t fake_byte(uint64_t seed, uint64_t off);

/* Whether @buf holds what fake_byte() says of [off, off + len). */
bool fake_matches(const void *buf, uint64_t seed, uint64_t off, size_t len);

/* @id may be NULL for "fake-SEED". Never fails (it aborts). Close it with image_close(). */
struct fake_image *fake_image_new(uint64_t size, uint64_t seed, const char *id);

/* A decoder's: made of units of @unit bytes, of which the first one lacks @lead bytes. Whoever asks
 * for bytes within one pays for those before them, as `decoded` counts. */
struct fake_image *fake_image_units(uint64_t size, uint64_t seed, uint64_t unit, uint64_t lead);

/* The same, with a size of @size that is only assumed, @real bytes and a bound that is greater than
 * both. */
struct fake_image *fake_image_provisional(
	uint64_t size, uint64_t real, uint64_t seed, uint64_t unit);

/* One like the first over @data (copied). */
struct fake_image *fake_image_from(const void *data, uint64_t size, const char *id);

#endif
