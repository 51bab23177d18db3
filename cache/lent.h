/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives a lender. Whoever was handed the data file of an object goes on reading it when the
 * process that lent it has died, or was told that the file is closed: the kernel says so while a
 * mapping of it still is there. So there is a mark beside the file, the empty file `lent`. Where it
 * is, nobody punches or truncates the data file, and what takes its place is another file: the old
 * one is unlinked, and lives on for who reads it.
 *
 * It is made under a map_guard(), before the file is handed out; who is about to punch looks for it
 * under a map_lock(). It means nothing after a crash of the machine, so it need not be durable.
 */
#ifndef CACHE_LENT_H
#define CACHE_LENT_H

#include <stdbool.h>

/* @dirfd is the object's directory. 0 also where there is a mark already. */
int lent_mark(int dirfd);

/* The file that was lent goes by this name no more. */
void lent_unmark(int dirfd);

/* True, too, when it cannot be told. */
bool lent_is_marked(int dirfd);

/* Takes the mark away if nobody else has the data file open, in this process or another, or mapped,
 * or will not have within @patience_ms. @data is the file, open for writing; duplicates of it do
 * not count. */
void lent_settle(int dirfd, int data, unsigned int patience_ms);

/* The same for an object that is held exclusively, so that nobody has it open who may lend it. */
void lent_settle_unused(int dirfd);

#endif
