/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount of made-up images, served by a child process, for the tests of fusefs/. The child's
 * images can be steered through shared memory; everything is cleaned up by mount_fixture_end(),
 * also when a test fails.
 */
#ifndef TESTS_UNIT_MOUNT_FIXTURE_H
#define TESTS_UNIT_MOUNT_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DISK_SIZE ((uint64_t)(16 << 20) + 1000)

/* Shared with the child. */
struct steer {
	_Atomic int read_code;    /* reads fail with it, when not 0 */
	_Atomic bool gate_closed; /* reads at gate_from and behind it wait; those of
				   * "disk.raw" even when they are interrupted */
	_Atomic uint64_t gate_from;
	_Atomic bool count_closed;    /* the allocation is not known while it is true */
	_Atomic unsigned int waiting; /* reads that wait at the gate */
	_Atomic unsigned int statuses;
	_Atomic unsigned int flushes;
	_Atomic bool fail_alloc;
	_Atomic unsigned int withdraw; /* bits of volumes that withdraw bytes; 0 when they did.
					* When set before the start: ahead of the mount. */
	_Atomic bool storm;            /* the first volume withdraws all the time */
	_Atomic uint8_t flip;          /* every byte that is read differs by it */
	_Atomic bool keeps;            /* but only when the image was told to forget */
};

struct mount_plan {
	bool writable;     /* "work.raw" is there too, and can be written */
	unsigned int more; /* so many small volumes more, "v0000.raw" ... */
	unsigned int threads;
	const char *fsname;
	const char *mountpoint; /* NULL: the fixture's own directory */
	bool allow_other;
	int early_signal; /* raised between the mount and serving */
	bool unserved;    /* mounted and freed; exit code 5 */
	uid_t uid;        /* 0: as we are */
};

struct mount_fixture {
	char dir[64];  /* temporary */
	char mnt[80];  /* DIR/mnt */
	char log[80];  /* what the child wrote to stderr */
	char disk[96]; /* MNT/disk.raw */
	pid_t pid;     /* 0: none */
	struct steer *steer;
};

/* disk.raw is fake_byte() of this seed, but for the pages that mount_fixture_hole() names. */
#define DISK_SEED 5

bool mount_fixture_hole(uint64_t off);

/* The byte of disk.raw at @off. */
uint8_t mount_fixture_byte(uint64_t off);

/* Whether @buf is what disk.raw holds. */
bool mount_fixture_matches(const void *buf, uint64_t off, size_t len);

/* Makes the directories. */
void mount_fixture_begin(struct mount_fixture *f);

/* Starts a child; returns when it serves (0), or the exit code with which it ended (then f->log
 * tells why). */
int mount_fixture_start(struct mount_fixture *f, const struct mount_plan *plan);

/* Waits until the child ends: its exit code, 128 + signal. Kills it and returns -1 after @seconds.
 */
int mount_fixture_wait(struct mount_fixture *f, unsigned int seconds);

/* The text of the child's log; static. */
const char *mount_fixture_log(const struct mount_fixture *f);

bool mount_fixture_mounted(const char *path);

void mount_fixture_end(struct mount_fixture *f);

#endif
