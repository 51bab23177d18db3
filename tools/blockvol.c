/* SPDX-License-Identifier: Apache-2.0 */
/* Making, listing and deleting local block volumes. */
#include "tools/blockvol.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "tools/blockvol_record.h"
#include "tools/kube_name.h"
#include "tools/loopdev.h"
#include "tools/quantity.h"

/* Direct I/O on the file needs its blocks whole. */
#define BLOCKVOL_ALIGN 4096
#define SIZE_MIN       MIB(1)

void blockvol_clear(struct blockvol *v)
{
	free(v->name);
	free(v->file);
	free(v->node);
	free(v->storage_class);
	*v = (struct blockvol){ .last_number = LOOPDEV_NONE, .number = LOOPDEV_NONE };
}

static int find_device(struct blockvol *v, struct err *e)
{
	struct stat st;

	v->number = LOOPDEV_NONE;
	v->missing = stat(v->file, &st) < 0 && errno == ENOENT;
	return v->missing ? 0 : loopdev_find(&st, &v->number, e);
}

/* "node01", as the label kubernetes.io/hostname has it. */
static char *this_node(void)
{
	char host[256] = "";

	if (gethostname(host, sizeof(host) - 1) < 0) {
		return NULL;
	}
	for (char *p = host; *p; p++) {
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
	}
	return strdup(host);
}

/* Like the documentation's: volume "loop10" goes to /dev/loop10, when that is free. */
static int wished_number(const char *name)
{
	unsigned int n = 0;

	return strncmp(name, "loop", 4) == 0 &&
			       quantity_parse_count(name + 4, 0, 0xffff, &n, NULL) == 0
		       ? (int)n
		       : LOOPDEV_NONE;
}

static int check_spec(const struct blockvol_spec *spec, struct err *e)
{
	if (!kube_name_is_label(spec->name)) {
		return err_set(e, -EINVAL,
			"'%s' cannot be the name of a volume: lower case letters, digits and '-', "
			"at most 63",
			spec->name);
	}
	if (spec->storage_class && !kube_name_is_subdomain(spec->storage_class)) {
		return err_set(e, -EINVAL, "--storage-class: '%s' is not the name of one",
			spec->storage_class);
	}
	if (spec->node && !kube_name_is_subdomain(spec->node)) {
		return err_set(e, -EINVAL, "--node: '%s' is not the name of one", spec->node);
	}
	if (spec->size < SIZE_MIN || spec->size > INT64_MAX - BLOCKVOL_ALIGN) {
		return err_set(e, -EINVAL, "--size: a volume has 1Mi at least");
	}
	return 0;
}

static int fill_in(
	const char *dir, const struct blockvol_spec *spec, struct blockvol *v, struct err *e)
{
	v->name = strdup(spec->name);
	v->file = spec->file ? strdup(spec->file) : blockvol_record_path(dir, spec->name, ".img");
	v->node = spec->node ? strdup(spec->node) : this_node();
	v->storage_class = strdup(spec->storage_class ? spec->storage_class : "local");
	v->size = round_up(spec->size, BLOCKVOL_ALIGN);
	v->last_number = wished_number(spec->name);
	if (!v->name || !v->file || !v->node || !v->storage_class) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!kube_name_is_subdomain(v->node)) {
		return err_set(e, -EINVAL,
			"this host's name '%s' is not a node's: give one with --node", v->node);
	}
	return 0;
}

static int same_text(
	const char *name, const char *what, const char *asked, const char *is, struct err *e)
{
	if (!asked || strcmp(asked, is) == 0) {
		return 0;
	}
	return err_set(e, -EEXIST, "volume %s exists already, with %s %s; delete it first", name,
		what, is);
}

static int same_as(const struct blockvol *v, const struct blockvol_spec *spec, struct err *e)
{
	int r = same_text(v->name, "file", spec->file, v->file, e);

	if (r == 0) {
		r = same_text(v->name, "node", spec->node, v->node, e);
	}
	if (r == 0) {
		r = same_text(v->name, "storage class", spec->storage_class, v->storage_class, e);
	}
	if (r == 0 && round_up(spec->size, BLOCKVOL_ALIGN) != v->size) {
		char size[QUANTITY_MAX];

		r = err_set(e, -EEXIST, "volume %s exists already, with size %s; delete it first",
			v->name, quantity_format(v->size, size));
	}
	return r;
}

/* For filesystems that cannot reserve space. */
static int write_zeros(int fd, uint64_t size)
{
	CLEANUP_FREE char *zeros = calloc(1, MIB(1));
	int r = zeros ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < size; at += MIB(1)) {
		r = rw_pwrite(fd, zeros, (size_t)min_u64(MIB(1), size - at), at);
	}
	return r;
}

/* All of the file's space is reserved: a volume that fills up later must not meet a full disk.
 * @fresh: the file is new, nothing in it could be overwritten. */
static int allocate(const struct blockvol *v, int fd, bool fresh, struct err *e)
{
	int r = fallocate(fd, 0, 0, (off_t)v->size) < 0 ? -errno : 0;

	if (r == -EOPNOTSUPP && fresh) {
		r = write_zeros(fd, v->size);
	}
	if (r == 0 && fsync(fd) < 0) {
		r = -errno;
	}
	if (r < 0) {
		char size[QUANTITY_MAX];

		return err_sys(
			e, r, "cannot allocate %s for %s", quantity_format(v->size, size), v->file);
	}
	return 0;
}

static int attach(const char *dir, struct blockvol *v, int fd, bool *ret_direct, struct err *e)
{
	int r = loopdev_attach(fd, v->file, v->last_number, &v->number, ret_direct, e);

	if (r == 0 && v->number != v->last_number) {
		v->last_number = v->number;
		r = blockvol_record_save(dir, v, e);
	}
	return r;
}

/* The file must be ours alone: it is deleted with the volume. */
static int make_new(const char *dir, struct blockvol *v, bool *ret_direct, struct err *e)
{
	CLEANUP_CLOSE int fd =
		open(v->file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (fd < 0) {
		return err_sys(e, errno, "cannot make %s", v->file);
	}
	r = blockvol_record_save(dir, v, e);
	if (r == 0) {
		r = allocate(v, fd, true, e);
	}
	if (r == 0) {
		r = attach(dir, v, fd, ret_direct, e);
	}
	if (r < 0) {
		if (v->number != LOOPDEV_NONE && fstat(fd, &st) == 0) {
			loopdev_detach(v->number, &st, NULL);
		}
		unlink(v->file);
		blockvol_record_remove(dir, v->name, NULL);
	}
	return r;
}

/* A volume that is recorded: perhaps not attached, perhaps never finished. */
static int revive(const char *dir, struct blockvol *v, bool *ret_direct, struct err *e)
{
	CLEANUP_CLOSE int fd = open(v->file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT) {
		return err_set(e, -ENOENT,
			"volume %s has lost its file %s: delete the volume, then make it anew",
			v->name, v->file);
	}
	if (fd < 0 || fstat(fd, &st) < 0) {
		return err_sys(e, errno, "cannot open %s", v->file);
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, -ENOTSUP, "%s is not a regular file any more", v->file);
	}
	*ret_direct = true;
	r = loopdev_find(&st, &v->number, e);
	if (r < 0 || v->number != LOOPDEV_NONE) {
		return r;
	}
	r = (uint64_t)st.st_size < v->size ? allocate(v, fd, st.st_size == 0, e) : 0;
	return r < 0 ? r : attach(dir, v, fd, ret_direct, e);
}

static int create_locked(const char *dir, const struct blockvol_spec *spec, struct blockvol *v,
	bool *ret_direct, struct err *e)
{
	int r = blockvol_record_load(dir, spec->name, v, e);

	if (r == -ENOENT) {
		r = fill_in(dir, spec, v, e);
		return r < 0 ? r : make_new(dir, v, ret_direct, e);
	}
	if (r == 0) {
		r = same_as(v, spec, e);
	}
	return r < 0 ? r : revive(dir, v, ret_direct, e);
}

int blockvol_create(
	const struct blockvol_spec *spec, struct blockvol *ret, bool *ret_direct, struct err *e)
{
	struct blockvol v = { .last_number = LOOPDEV_NONE, .number = LOOPDEV_NONE };
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_CLOSE int lock = -1;
	int r = check_spec(spec, e);

	if (r == 0) {
		r = blockvol_record_dir(true, &dir, e);
	}
	if (r == 0) {
		r = blockvol_record_lock(dir, &lock, e);
	}
	if (r == 0) {
		r = create_locked(dir, spec, &v, ret_direct, e);
	}
	if (r < 0) {
		blockvol_clear(&v);
		return r;
	}
	*ret = v;
	return 0;
}

/* Each device that shows the file goes; somebody may have attached it a second time. */
static int detach_all(struct blockvol *v, struct err *e)
{
	struct stat st;
	int r = find_device(v, e);

	while (r == 0 && v->number != LOOPDEV_NONE) {
		r = stat(v->file, &st) < 0 ? err_sys(e, errno, "cannot look at %s", v->file)
					   : loopdev_detach(v->number, &st, e);
		if (r == 0) {
			r = find_device(v, e);
		}
	}
	return r;
}

static int delete_locked(const char *dir, struct blockvol *v, struct err *e)
{
	struct stat st;
	int r;

	if (lstat(v->file, &st) == 0 && !S_ISREG(st.st_mode)) {
		return err_set(e, -ENOTSUP, "%s is not a regular file any more", v->file);
	}
	r = detach_all(v, e);
	if (r < 0) {
		return err_wrap(e, r, "volume %s", v->name);
	}
	if (unlink(v->file) < 0 && errno != ENOENT) {
		return err_sys(e, errno, "cannot delete %s", v->file);
	}
	return blockvol_record_remove(dir, v->name, e);
}

int blockvol_delete(const char *name, struct err *e)
{
	struct blockvol v = { 0 };
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_CLOSE int lock = -1;
	int r;

	if (!kube_name_is_label(name)) {
		return err_set(e, -ENOENT, "there is no volume %s", name);
	}
	r = blockvol_record_dir(false, &dir, e);
	if (r == 0) {
		r = blockvol_record_lock(dir, &lock, e);
	}
	if (r == 0) {
		r = blockvol_record_load(dir, name, &v, e);
	}
	if (r == 0) {
		r = delete_locked(dir, &v, e);
	}
	blockvol_clear(&v);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct blockvol *)a)->name, ((const struct blockvol *)b)->name);
}

/* "loop10.json" is a record; anything else in the directory is none. */
static bool is_record(const char *file, char *ret_name)
{
	size_t len = strlen(file);

	if (len < 6 || len > 63 + 5 || strcmp(file + len - 5, ".json") != 0) {
		return false;
	}
	memcpy(ret_name, file, len - 5);
	ret_name[len - 5] = '\0';
	return kube_name_is_label(ret_name);
}

static int add_volume(
	const char *dir, const char *name, struct blockvol **list, size_t *count, struct err *e)
{
	struct blockvol *more = reallocarray(*list, *count + 1, sizeof(*more));
	int r;

	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*list = more;
	r = blockvol_record_load(dir, name, &more[*count], e);
	if (r < 0) {
		return r == -ENOENT ? 0 : r;
	}
	return find_device(&more[(*count)++], e);
}

int blockvol_list(struct blockvol **ret, size_t *ret_count, struct err *e)
{
	CLEANUP_FREE char *dir = NULL;
	struct blockvol *list = NULL;
	struct dirent *entry;
	size_t count = 0;
	DIR *handle;
	int r = blockvol_record_dir(false, &dir, e);

	if (r < 0) {
		return r;
	}
	handle = opendir(dir);
	if (!handle && errno != ENOENT) {
		return err_sys(e, errno, "cannot read %s", dir);
	}
	while (r == 0 && handle && (entry = readdir(handle))) {
		char name[64];

		if (is_record(entry->d_name, name)) {
			r = add_volume(dir, name, &list, &count, e);
		}
	}
	if (handle) {
		closedir(handle);
	}
	if (r < 0) {
		blockvol_free_all(list, count);
		return r;
	}
	if (count) {
		qsort(list, count, sizeof(*list), by_name);
	}
	*ret = list;
	*ret_count = count;
	return 0;
}

void blockvol_free_all(struct blockvol *volumes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		blockvol_clear(&volumes[i]);
	}
	free(volumes);
}

/* Names such as 10, 1e3, null and no would not be text to YAML; quoted they are. */
static void print_name(FILE *out, const char *before, const char *name)
{
	fprintf(out, "%s\"%s\"\n", before, name);
}

void blockvol_print_manifest(const struct blockvol *v, FILE *out)
{
	char size[QUANTITY_MAX];
	char device[LOOPDEV_PATH_MAX];

	fputs("kind: PersistentVolume\n"
	      "apiVersion: v1\n"
	      "metadata:\n",
		out);
	print_name(out, "  name: ", v->name);
	fprintf(out,
		"spec:\n"
		"  local:\n"
		"    path: %s\n"
		"  capacity:\n"
		"    storage: %s\n"
		"  volumeMode: Block\n",
		loopdev_path(v->number, device), quantity_format(v->size, size));
	print_name(out, "  storageClassName: ", v->storage_class);
	fputs("  accessModes:\n"
	      "    - ReadWriteOnce\n"
	      "  persistentVolumeReclaimPolicy: Delete\n"
	      "  nodeAffinity:\n"
	      "    required:\n"
	      "      nodeSelectorTerms:\n"
	      "      - matchExpressions:\n"
	      "        - key: kubernetes.io/hostname\n"
	      "          operator: In\n"
	      "          values:\n",
		out);
	print_name(out, "          - ", v->node);
}
