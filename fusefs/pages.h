/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel keeps the pages that it has read of a file, and asks for them no more. When an image
 * withdraws bytes (image_listen()), the pages of its file go, so that who reads them again is told.
 *
 * Nothing of the old bytes stays: the kernel removes a page that was answered, and one whose answer
 * it awaits is locked, so that the removal waits for the answer first; when somebody reads a page
 * that was removed or never there, the request reaches an image whose reads fail already. Only who
 * reads around the kernel's pages (O_DIRECT) or keeps a copy of them (a loop device, a guest) can
 * have an old byte later.
 *
 * Because the removal waits for reads, which wait for workers, it has a thread of its own, and no
 * worker waits for that. A file that is passed through (passthrough.h) has no pages here.
 */
#ifndef FUSEFS_PAGES_H
#define FUSEFS_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "fusefs/volume.h"

struct fuse_session;
struct pages;

/* Listens to the images of @volumes, the i-th of which is inode TREE_FIRST_VOLUME + i; all is
 * borrowed until pages_free(). */
int pages_start(struct fuse_session *se, struct volume *volumes, size_t count, struct pages **ret,
	struct err *e);

/* The kernel's first request was answered: before that, it takes nothing from us. */
void pages_ready(struct pages *p);

/* No more pages will be removed. True when none are being removed either: then, or after a wait of
 * at most @seconds. While it is false, reads of the kernel are waited for, and must be answered
 * or the connection aborted before the mount can end. May be called again. */
bool pages_stop(struct pages *p, unsigned int seconds);

/* After pages_stop() returned true. NULL is nothing. */
void pages_free(struct pages *p);

#endif
