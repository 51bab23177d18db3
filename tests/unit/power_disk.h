/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file on a disk whose power can fail, and that a process writes which can be killed. Link with
 * --wrap of rw_pwrite, fdatasync and fallocate64. While a file is watched, it is remembered which
 * of its sectors are on the disk as they are; a power cut leaves each other one as it was at the
 * last sync, or as it was at some time since.
 */
#ifndef TESTS_UNIT_POWER_DISK_H
#define TESTS_UNIT_POWER_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* From now on, the file at @path, which is durable as it is. One at a time. */
void power_disk_watch(const char *path, unsigned int seed);
void power_disk_end(void);

/* The process dies within the @n-th change or sync from now on (0: at once): that one is done in
 * part, and nothing changes the file any more. */
void power_disk_die(unsigned int n);
/* Whether it has died. */
bool power_disk_dead(void);

/* A new process begins, after a kill: the file is as it was left. */
void power_disk_restart(void);
/* The same after a power cut. */
void power_disk_cut(void);

/* The next @n changes find the disk full: they write a part of what they should. */
void power_disk_fill(unsigned int n);
/* The next sync fails. */
void power_disk_break_sync(void);

/* Called within each sync, when the disk has what was written before: others go on meanwhile. */
extern void (*power_disk_meanwhile)(void *ctx);
extern void *power_disk_ctx;

extern unsigned int power_disk_syncs;

#endif
