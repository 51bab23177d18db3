/* SPDX-License-Identifier: Apache-2.0 */
/* The header of an overlay's file: made, written, read and judged; and the file's lock. */
#include "cache/overlay_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "cache/overlay.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define HEADER_SIZE 65536U
#define HEADER_ROOM (HEADER_SIZE - HEADER_TEXTS)
#define VERSION     1U
#define DATA_ALIGN  MIB(1)

static const uint8_t magic[8] = { 'L', 'Z', 'D', 'o', 'v', 'l', '\r', '\n' };

/* Offsets in the header. */
enum {
	HEADER_VERSION = 8,
	HEADER_UNIT = 12,
	HEADER_UUID = 16,
	HEADER_DISK = 32,
	HEADER_CREATED = 40,
	HEADER_ROOT_OFF = 48,
	HEADER_MAP_OFF = 56,
	HEADER_DATA_OFF = 64,
	HEADER_END = 72,
	HEADER_ID_LENGTH = 80,
	HEADER_SOURCE_LENGTH = 84,
	HEADER_SUM = 88,
	HEADER_TEXTS = 96,
};

int overlay_file_shape(uint64_t size, struct overlay_file_shape *ret)
{
	struct overlay_file_shape s = { .size = size };

	if (size > INT64_MAX / 2) {
		return -EFBIG;
	}
	s.units = div_round_up(size, OVERLAY_UNIT);
	s.pages = div_round_up(s.units, OVERLAY_FILE_PAGE_SLOTS);
	s.roots = div_round_up(
		s.pages, OVERLAY_FILE_ROOT_BITS * (OVERLAY_FILE_PAGE / OVERLAY_FILE_SECTOR));
	s.root_off = HEADER_SIZE;
	s.map_off = s.root_off + s.roots * OVERLAY_FILE_PAGE;
	s.data_off = round_up(s.map_off + s.pages * OVERLAY_FILE_PAGE, DATA_ALIGN);
	s.end = s.data_off + size;
	*ret = s;
	return 0;
}

void overlay_file_header_clear(struct overlay_file_header *h)
{
	free(h->id);
	free(h->source);
	h->id = NULL;
	h->source = NULL;
}

int overlay_file_header_make(uint64_t size, const char *id, const char *source,
	struct overlay_file_header *ret, struct err *e)
{
	struct overlay_file_header h = { .created = (int64_t)time(NULL) };

	if (overlay_file_shape(size, &h.shape) < 0) {
		return err_set(e, -EFBIG, "no overlay can be as large as %" PRIu64 " bytes", size);
	}
	if (strlen(id) + strlen(source) > HEADER_ROOM) {
		return err_set(e, -ENAMETOOLONG,
			"the name of the image is too long to be kept in an overlay");
	}
	if (getrandom(h.uuid, sizeof(h.uuid), 0) != sizeof(h.uuid)) {
		return err_sys(e, errno, "no random numbers");
	}
	/* RFC 9562, section 5.4: version 4, variant 10 */
	h.uuid[6] = (uint8_t)((h.uuid[6] & 0x0f) | 0x40);
	h.uuid[8] = (uint8_t)((h.uuid[8] & 0x3f) | 0x80);
	h.id = strdup(id);
	h.source = strdup(source);
	if (!h.id || !h.source) {
		overlay_file_header_clear(&h);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = h;
	return 0;
}

uint64_t overlay_file_seed(const struct overlay_file_header *h)
{
	return XXH3_64bits(h->uuid, sizeof(h->uuid));
}

static uint64_t sector_sum(uint64_t seed, uint64_t number, const uint8_t *sector)
{
	return XXH3_64bits_withSeed(
		sector, OVERLAY_FILE_PAYLOAD, seed + number * 0x9e3779b97f4a7c15ULL);
}

void overlay_file_seal(uint64_t seed, uint64_t number, uint8_t *sector)
{
	store_le64(sector + OVERLAY_FILE_PAYLOAD, sector_sum(seed, number, sector));
}

bool overlay_file_sealed(uint64_t seed, uint64_t number, const uint8_t *sector)
{
	return load_le64(sector + OVERLAY_FILE_PAYLOAD) == sector_sum(seed, number, sector);
}

static void encode(const struct overlay_file_header *h, uint8_t *p)
{
	size_t id = strlen(h->id);
	size_t source = strlen(h->source);

	memset(p, 0, HEADER_SIZE);
	memcpy(p, magic, sizeof(magic));
	store_le32(p + HEADER_VERSION, VERSION);
	store_le32(p + HEADER_UNIT, OVERLAY_UNIT);
	memcpy(p + HEADER_UUID, h->uuid, sizeof(h->uuid));
	store_le64(p + HEADER_DISK, h->shape.size);
	store_le64(p + HEADER_CREATED, (uint64_t)h->created);
	store_le64(p + HEADER_ROOT_OFF, h->shape.root_off);
	store_le64(p + HEADER_MAP_OFF, h->shape.map_off);
	store_le64(p + HEADER_DATA_OFF, h->shape.data_off);
	store_le64(p + HEADER_END, h->shape.end);
	store_le32(p + HEADER_ID_LENGTH, (uint32_t)id);
	store_le32(p + HEADER_SOURCE_LENGTH, (uint32_t)source);
	memcpy(p + HEADER_TEXTS, h->id, id);
	memcpy(p + HEADER_TEXTS + id, h->source, source);
	store_le64(p + HEADER_SUM, XXH3_64bits(p, HEADER_SIZE));
}

/* Clears the field of the sum. */
static bool header_sum_holds(uint8_t *p)
{
	uint64_t sum = load_le64(p + HEADER_SUM);

	store_le64(p + HEADER_SUM, 0);
	return XXH3_64bits(p, HEADER_SIZE) == sum;
}

/* The texts of a header whose sum holds; NUL in them is nothing that we wrote. */
static int decode_texts(const uint8_t *p, struct overlay_file_header *h)
{
	uint64_t id = load_le32(p + HEADER_ID_LENGTH);
	uint64_t source = load_le32(p + HEADER_SOURCE_LENGTH);

	if (id + source > HEADER_ROOM) {
		return -EBADMSG;
	}
	h->id = bytes_text(p + HEADER_TEXTS, id);
	h->source = bytes_text(p + HEADER_TEXTS + id, source);
	if (!h->id || !h->source) {
		overlay_file_header_clear(h);
		return -ENOMEM;
	}
	return 0;
}

static bool same_shape(const uint8_t *p, const struct overlay_file_shape *s)
{
	return load_le64(p + HEADER_ROOT_OFF) == s->root_off &&
	       load_le64(p + HEADER_MAP_OFF) == s->map_off &&
	       load_le64(p + HEADER_DATA_OFF) == s->data_off && load_le64(p + HEADER_END) == s->end;
}

static int decode(uint8_t *p, const char *path, struct overlay_file_header *ret, struct err *e)
{
	struct overlay_file_header h = { 0 };
	uint32_t version = load_le32(p + HEADER_VERSION);
	int r;

	if (memcmp(p, magic, sizeof(magic)) != 0) {
		return err_set(e, -EINVAL, "%s is no overlay file; it is left alone", path);
	}
	if (version != VERSION) {
		return err_set(e, -ENOTSUP,
			"the overlay %s is of version %" PRIu32 ", and this program knows %u", path,
			version, VERSION);
	}
	if (!header_sum_holds(p)) {
		return err_set(e, -EBADMSG,
			"the overlay %s is damaged: the checksum of its header is wrong", path);
	}
	if (load_le32(p + HEADER_UNIT) != OVERLAY_UNIT ||
		overlay_file_shape(load_le64(p + HEADER_DISK), &h.shape) < 0 ||
		!same_shape(p, &h.shape)) {
		return err_set(e, -EBADMSG,
			"the overlay %s is damaged: its header contradicts itself", path);
	}
	memcpy(h.uuid, p + HEADER_UUID, sizeof(h.uuid));
	h.created = (int64_t)load_le64(p + HEADER_CREATED);
	r = decode_texts(p, &h);
	if (r == -EBADMSG) {
		return err_set(e, r, "the overlay %s is damaged: its texts are too long", path);
	}
	if (r < 0) {
		return err_sys(e, r, "the header of the overlay %s", path);
	}
	*ret = h;
	return 0;
}

static struct flock whole_file(void)
{
	return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

static int lock(int fd, const char *path, struct err *e)
{
	struct flock all = whole_file();

	if (fcntl(fd, F_OFD_SETLK, &all) == 0) {
		return 0;
	}
	if (errno == EAGAIN || errno == EACCES) {
		return err_set(e, -EBUSY,
			"the overlay %s is in use: another mount or command has it open", path);
	}
	return err_sys(e, errno, "lock %s", path);
}

static bool is_locked(int fd)
{
	struct flock all = whole_file();

	return fcntl(fd, F_OFD_GETLK, &all) == 0 && all.l_type != F_UNLCK;
}

/* Random writes and holes: copying on write below us, too, would only cost space. */
static void refuse_cow(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

static int write_roots(int fd, const struct overlay_file_header *h)
{
	uint64_t seed = overlay_file_seed(h);
	uint64_t sectors = h->shape.roots * (OVERLAY_FILE_PAGE / OVERLAY_FILE_SECTOR);
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < sectors; i++) {
		uint8_t sector[OVERLAY_FILE_SECTOR] = { 0 };

		overlay_file_seal(seed, i, sector);
		r = rw_pwrite(fd, sector, sizeof(sector), h->shape.root_off + i * sizeof(sector));
	}
	return r;
}

static int write_new(int fd, const struct overlay_file_header *h)
{
	CLEANUP_FREE uint8_t *p = malloc(HEADER_SIZE);
	int r;

	if (!p) {
		return -ENOMEM;
	}
	refuse_cow(fd);
	encode(h, p);
	r = rw_pwrite(fd, p, HEADER_SIZE, 0);
	if (r == 0) {
		r = write_roots(fd, h);
	}
	if (r == 0 && ftruncate(fd, (off_t)h->shape.end) < 0) {
		r = -errno;
	}
	return r;
}

static int create_temporary(
	const char *dir, const struct overlay_file_header *h, int *ret, struct err *e)
{
	CLEANUP_FREE char *name = NULL;
	CLEANUP_CLOSE int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (fd < 0) {
		if (asprintf(&name, "%s/lazydisk-overlay-XXXXXX", dir) < 0) {
			name = NULL;
			return err_set(e, -ENOMEM, "out of memory");
		}
		fd = mkostemp(name, O_CLOEXEC);
		if (fd < 0) {
			return err_sys(e, errno, "a temporary overlay in %s", dir);
		}
		unlink(name);
	}
	r = write_new(fd, h);
	if (r < 0) {
		return err_sys(e, r, "a temporary overlay in %s", dir);
	}
	*ret = TAKE_FD(fd);
	return 0;
}

/* Gives a file its name, unless somebody has it. */
static int give_name(const char *tmp, const char *path)
{
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0) {
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS) {
		return -errno;
	}
	if (link(tmp, path) < 0) {
		return -errno;
	}
	unlink(tmp);
	return 0;
}

static int sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	CLEANUP_CLOSE int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Under another name until it is whole: a crash leaves no half of an overlay at @path. */
static int create_named(
	const char *path, const struct overlay_file_header *h, int *ret, struct err *e)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (asprintf(&tmp, "%s.XXXXXX", path) < 0) {
		tmp = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0) {
		return err_sys(e, errno, "create the overlay %s", path);
	}
	r = write_new(fd, h);
	if (r == 0 && fsync(fd) < 0) {
		r = -errno;
	}
	if (r < 0) {
		err_sys(e, r, "create the overlay %s", path);
	} else {
		r = lock(fd, path, e);
	}
	if (r == 0) {
		r = give_name(tmp, path);
		if (r == 0) {
			r = sync_directory(path);
		}
		if (r < 0) {
			err_sys(e, r, "create the overlay %s", path);
		}
	}
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	*ret = TAKE_FD(fd);
	return 0;
}

int overlay_file_create(const char *path, const char *dir, const struct overlay_file_header *h,
	int *ret, struct err *e)
{
	return path ? create_named(path, h, ret, e) : create_temporary(dir, h, ret, e);
}

/* A file that has not even room for a header. */
static int refuse_short(int fd, const char *path, uint64_t length, struct err *e)
{
	uint8_t begin[sizeof(magic)];

	if (length >= sizeof(begin) && rw_pread(fd, begin, sizeof(begin), 0) == 0 &&
		memcmp(begin, magic, sizeof(magic)) == 0) {
		return err_set(e, -EBADMSG,
			"the overlay %s is damaged: all but %" PRIu64 " bytes of it are missing",
			path, length);
	}
	return err_set(e, -EINVAL, "%s is no overlay file; %s", path,
		length == 0 ? "it is empty: remove it, and it is made anew" : "it is left alone");
}

/* The length of the file, when it can be an overlay. */
static int check_kind(int fd, const char *path, uint64_t *ret, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		return err_sys(e, errno, "%s", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, -EINVAL, "%s is no overlay file: it is not a regular file", path);
	}
	if (st.st_size < (off_t)HEADER_SIZE) {
		return refuse_short(fd, path, (uint64_t)st.st_size, e);
	}
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int read_header(int fd, const char *path, struct overlay_file_header *ret, struct err *e)
{
	CLEANUP_FREE uint8_t *p = malloc(HEADER_SIZE);
	uint64_t length = 0;
	int r = check_kind(fd, path, &length, e);

	if (r < 0) {
		return r;
	}
	if (!p) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = rw_pread(fd, p, HEADER_SIZE, 0);
	if (r < 0) {
		return err_sys(e, r, "read %s", path);
	}
	r = decode(p, path, ret, e);
	if (r == 0 && length != ret->shape.end) {
		r = err_set(e, -EBADMSG,
			"the overlay %s is damaged: it has %" PRIu64 " bytes, and should have "
			"%" PRIu64,
			path, length, ret->shape.end);
		overlay_file_header_clear(ret);
	}
	return r;
}

/* O_NONBLOCK: a FIFO must not hang us before we can refuse it. */
int overlay_file_open(const char *path, bool writable, int *ret, bool *ret_busy,
	struct overlay_file_header *ret_header, struct err *e)
{
	CLEANUP_CLOSE int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0) {
		return err_sys(e, errno, "the overlay %s", path);
	}
	r = read_header(fd, path, ret_header, e);
	if (r == 0 && writable) {
		r = lock(fd, path, e);
		if (r < 0) {
			overlay_file_header_clear(ret_header);
		}
	}
	if (r < 0) {
		return r;
	}
	if (ret_busy) {
		*ret_busy = !writable && is_locked(fd);
	}
	*ret = TAKE_FD(fd);
	return 0;
}
