/* SPDX-License-Identifier: Apache-2.0 */
/* The journal's bytes: see copy_journal.h for what they are. */
#include "tools/copy_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "tools/copy_engine.h"

#define HEAD_MAGIC  0x316c6e4a7970434cULL /* "LCpyJnl1" */
#define HEAD_SIZE   40U
#define BATCH_MAGIC 0x686374614279704cULL /* "LpyBatch" */
#define BATCH_SIZE  24U
#define ENTRY_SIZE  16U
/* More than all units of the largest disk make; what is larger was not written by us. */
#define FILE_MAX MIB(256)

struct copy_journal {
	int fd;
	uint64_t end;
	char *path; /* of a new one whose name is not durable yet; else NULL */
};

static void put_head(const struct copy_journal_key *key, uint8_t ret[HEAD_SIZE])
{
	store_le64(ret, HEAD_MAGIC);
	store_le64(ret + 8, key->source);
	store_le64(ret + 16, key->target);
	store_le64(ret + 24, key->shape);
	store_le64(ret + 32, copy_sum(ret, 32));
}

static bool get_head(const uint8_t *p, size_t len, struct copy_journal_key *ret)
{
	if (len < HEAD_SIZE || load_le64(p) != HEAD_MAGIC || load_le64(p + 32) != copy_sum(p, 32)) {
		return false;
	}
	ret->source = load_le64(p + 8);
	ret->target = load_le64(p + 16);
	ret->shape = load_le64(p + 24);
	return true;
}

/* How many entries the batch at @p has; 0: it is not a whole one. */
static uint64_t get_batch(const uint8_t *p, size_t len)
{
	uint64_t count;

	if (len < BATCH_SIZE || load_le64(p) != BATCH_MAGIC) {
		return 0;
	}
	count = load_le64(p + 8);
	if (count > (len - BATCH_SIZE) / ENTRY_SIZE ||
		load_le64(p + 16) != copy_sum(p + BATCH_SIZE, count * ENTRY_SIZE)) {
		return 0;
	}
	return count;
}

static int by_offset(const void *a, const void *b)
{
	const struct copy_journal_entry *x = a;
	const struct copy_journal_entry *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

/* Of two entries for one unit nobody knows which is true: both go. */
static size_t drop_twins(struct copy_journal_entry *x, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count;) {
		size_t n = 1;

		while (i + n < count && x[i + n].off == x[i].off) {
			n++;
		}
		if (n == 1) {
			x[kept++] = x[i];
		}
		i += n;
	}
	return kept;
}

int copy_journal_load(const char *path, struct copy_journal_past *ret, struct err *e)
{
	struct copy_journal_past past = { .length = HEAD_SIZE };
	CLEANUP_FREE char *text = NULL;
	const uint8_t *p;
	uint64_t count;
	size_t len;

	if (rw_read_file(path, FILE_MAX, &text, &len, NULL) < 0) {
		return err_set(e, -ENOENT, "no journal of a copy in %s", path);
	}
	p = (const uint8_t *)text;
	if (!get_head(p, len, &past.key)) {
		return err_set(e, -ENOENT, "%s is not a journal of a copy", path);
	}
	past.entries = calloc(len / ENTRY_SIZE + 1, sizeof(*past.entries));
	if (!past.entries) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while ((count = get_batch(p + past.length, len - past.length)) > 0) {
		for (uint64_t i = 0; i < count; i++) {
			const uint8_t *q = p + past.length + BATCH_SIZE + i * ENTRY_SIZE;

			past.entries[past.count++] =
				(struct copy_journal_entry){ load_le64(q), load_le64(q + 8) };
		}
		past.length += BATCH_SIZE + count * ENTRY_SIZE;
	}
	if (past.count > 0) {
		qsort(past.entries, past.count, sizeof(*past.entries), by_offset);
		past.count = drop_twins(past.entries, past.count);
	}
	*ret = past;
	return 0;
}

void copy_journal_past_clear(struct copy_journal_past *past)
{
	free(past->entries);
	*past = (struct copy_journal_past){ 0 };
}

uint64_t copy_journal_find(const struct copy_journal_past *past, uint64_t off)
{
	const struct copy_journal_entry key = { .off = off };
	const struct copy_journal_entry *found =
		past->count ? bsearch(&key, past->entries, past->count, sizeof(key), by_offset)
			    : NULL;

	return found ? found->sum : 0;
}

/* The name of a new file is durable only when its directory is. */
static void sync_directory(const char *path)
{
	CLEANUP_FREE char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	int fd;

	if (slash) {
		slash[slash == dir] = '\0';
	}
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

/* Whether what is at @path may go: nothing, a journal, or the empty file that a crash can leave of
 * one. Anything else is somebody's. */
static bool is_replaceable(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint8_t magic[8];
	struct stat st;

	if (fd < 0) {
		return errno == ENOENT;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return false;
	}
	return st.st_size == 0 ||
	       (rw_pread(fd, magic, sizeof(magic), 0) == 0 && load_le64(magic) == HEAD_MAGIC);
}

int copy_journal_open(const char *path, const struct copy_journal_key *key,
	const struct copy_journal_past *past, struct copy_journal **ret, struct err *e)
{
	CLEANUP_CLOSE int fd = -1;
	struct copy_journal *j;
	uint8_t head[HEAD_SIZE];

	if (!past && !is_replaceable(path)) {
		return err_set(e, -EEXIST, "%s exists and is not a journal of a copy", path);
	}
	if (!past) {
		unlink(path);
	}
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (past ? 0 : O_CREAT | O_EXCL), 0600);
	if (fd < 0) {
		return err_sys(e, errno, "the journal %s", path);
	}
	if (past) {
		if (ftruncate(fd, (off_t)past->length) < 0) {
			return err_sys(e, errno, "cut the journal %s", path);
		}
	} else {
		int r;

		put_head(key, head);
		r = rw_pwrite(fd, head, sizeof(head), 0);
		if (r < 0) {
			unlink(path);
			return err_sys(e, r, "write the journal %s", path);
		}
	}
	j = calloc(1, sizeof(*j));
	if (!j) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	j->path = past ? NULL : strdup(path);
	j->fd = TAKE_FD(fd);
	j->end = past ? past->length : HEAD_SIZE;
	*ret = j;
	return 0;
}

int copy_journal_add(struct copy_journal *j, const struct copy_journal_entry *entries, size_t count,
	struct err *e)
{
	size_t len = BATCH_SIZE + count * ENTRY_SIZE;
	CLEANUP_FREE uint8_t *batch = malloc(len);
	int r;

	if (!batch) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < count; i++) {
		store_le64(batch + BATCH_SIZE + i * ENTRY_SIZE, entries[i].off);
		store_le64(batch + BATCH_SIZE + i * ENTRY_SIZE + 8, entries[i].sum);
	}
	store_le64(batch, BATCH_MAGIC);
	store_le64(batch + 8, count);
	store_le64(batch + 16, copy_sum(batch + BATCH_SIZE, count * ENTRY_SIZE));
	r = rw_pwrite(j->fd, batch, len, j->end);
	if (r < 0) {
		return err_sys(e, r, "write the journal");
	}
	j->end += len;
	return 0;
}

int copy_journal_sync(struct copy_journal *j, struct err *e)
{
	if (fdatasync(j->fd) < 0) {
		return err_sys(e, errno, "write the journal");
	}
	if (j->path) {
		sync_directory(j->path);
		free(j->path);
		j->path = NULL;
	}
	return 0;
}

void copy_journal_close(struct copy_journal *j)
{
	if (j) {
		close(j->fd);
		free(j->path);
		free(j);
	}
}
