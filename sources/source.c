/* SPDX-License-Identifier: Apache-2.0 */
/* The table of schemes, and the names that sources go by. */
#include "sources/source.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cleanup.h"
#include "sources/file.h"
#include "sources/http.h"
#include "sources/http_url.h"
#include "sources/image_spec.h"

/* A file name may have 255 bytes, and whoever uses a source's name adds a suffix to it. */
#define NAME_ROOM 200

struct scheme {
	const char *prefix; /* "" is a path */
	bool remote;
	int (*open)(struct net *net, const char *spec, const struct source_opts *opts,
		struct image **ret, struct err *e);
	int (*key)(const char *spec, char **ret, struct err *e);
	int (*sibling)(const char *spec, const char *name, char **ret, struct err *e);
	/* The path whose last part names the source. */
	int (*path)(const char *spec, char **ret, struct err *e);
};

static int open_file(struct net *net, const char *spec, const struct source_opts *opts,
	struct image **ret, struct err *e)
{
	(void)net;
	(void)opts;
	return file_open(spec, ret, e);
}

static int http_key(const char *spec, char **ret, struct err *e)
{
	struct http_url u;
	int r = http_url_parse(spec, &u, e);

	if (r == 0) {
		*ret = TAKE_PTR(u.label);
		http_url_clear(&u);
	}
	return r;
}

static const struct scheme schemes[] = {
	{ "https://", true, http_open, http_key, http_url_sibling, http_url_path },
	{ "http://", true, http_open, http_key, http_url_sibling, http_url_path },
	{ "docker://", true, image_spec_open, image_spec_key, image_spec_sibling, image_spec_path },
	{ "oci:", false, image_spec_open, image_spec_key, image_spec_sibling, image_spec_path },
	{ "oci-archive:", false, image_spec_open, image_spec_key, image_spec_sibling,
		image_spec_path },
	{ "docker-archive:", false, image_spec_open, image_spec_key, image_spec_sibling,
		image_spec_path },
	{ "file://", false, open_file, file_key, file_sibling, file_path },
	{ "", false, open_file, file_key, file_sibling, file_path },
};

/* Whether @spec begins as a URL does: letters and "://". */
static bool looks_like_url(const char *spec)
{
	size_t n = 0;

	while (isalnum((unsigned char)spec[n]) || (n > 0 && strchr("+-.", spec[n]) && spec[n])) {
		n++;
	}
	return n > 0 && strncmp(spec + n, "://", 3) == 0;
}

static const struct scheme *find_scheme(const char *spec)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		size_t n = strlen(schemes[i].prefix);

		if (n > 0 && strncasecmp(spec, schemes[i].prefix, n) == 0) {
			return &schemes[i];
		}
		if (n == 0 && *spec && !looks_like_url(spec)) {
			return &schemes[i];
		}
	}
	return NULL;
}

/* Names the scheme only: the rest may hold a password. */
static int no_scheme(const char *spec, struct err *e)
{
	const char *colon = strstr(spec, "://");

	if (!colon) {
		return err_set(e, -EINVAL, "the source is empty");
	}
	return err_set(e, -EINVAL,
		"%.*s:// is not a kind of source: use https://, http://, docker://, file:// or a path",
		(int)(colon - spec > 40 ? 40 : colon - spec), spec);
}

int source_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct image **ret, struct err *e)
{
	static const struct source_opts defaults;
	const struct scheme *s = find_scheme(spec);

	return s ? s->open(net, spec, opts ? opts : &defaults, ret, e) : no_scheme(spec, e);
}

bool source_is_remote(const char *spec)
{
	const struct scheme *s = find_scheme(spec);

	return s && s->remote;
}

int source_key(const char *spec, char **ret, struct err *e)
{
	const struct scheme *s = find_scheme(spec);

	return s ? s->key(spec, ret, e) : no_scheme(spec, e);
}

/* Cuts one suffix of a format or compression off @name; what would leave nothing stays. */
static bool strip_suffix(char *name)
{
	static const char *const suffixes[] = { "qcow2", "qcow", "raw", "img", "iso", "vmdk", "vhd",
		"vhdx", "vdi", "dd", "bin", "tar", "ova", "tgz", "gz", "xz", "zst", "zstd", "bz2" };
	char *dot = strrchr(name, '.');

	if (!dot || dot == name) {
		return false;
	}
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		if (strcasecmp(dot + 1, suffixes[i]) == 0) {
			*dot = '\0';
			return true;
		}
	}
	return false;
}

static bool is_name(const char *p)
{
	return *p && strcmp(p, ".") != 0 && strcmp(p, "..") != 0;
}

/* Cuts @name to NAME_ROOM bytes, between two characters of UTF-8. */
static void shorten(char *name)
{
	size_t n = NAME_ROOM;

	if (strlen(name) > NAME_ROOM) {
		while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80) {
			n--;
		}
		name[n] = '\0';
	}
}

int source_name(const char *spec, char **ret, struct err *e)
{
	const struct scheme *s = find_scheme(spec);
	CLEANUP_FREE char *path = NULL;
	const char *last;
	char *name;
	size_t len;
	int r = s ? s->path(spec, &path, e) : no_scheme(spec, e);

	if (r < 0) {
		return r;
	}
	len = strlen(path);
	while (len > 0 && path[len - 1] == '/') {
		path[--len] = '\0';
	}
	last = strrchr(path, '/');
	last = last ? last + 1 : path;
	name = strdup(is_name(last) ? last : "image");
	if (!name) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (char *p = name; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '_';
		}
	}
	while (strip_suffix(name)) {
	}
	shorten(name);
	*ret = name;
	return 0;
}

/* Whether each part of @name is the name of a file or directory below, and none leads elsewhere. */
static bool stays_below(const char *name)
{
	const char *p = name;

	if (strchr(name, '\\') || memchr(name, ':', strcspn(name, "/"))) {
		return false;
	}
	for (const char *c = name; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f) {
			return false;
		}
	}
	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
			return false;
		}
		if (!p[n]) {
			return true;
		}
		p += n + 1;
	}
}

int source_sibling(const char *spec, const char *name, char **ret, struct err *e)
{
	const struct scheme *s = find_scheme(spec);

	if (!s) {
		return no_scheme(spec, e);
	}
	if (!stays_below(name)) {
		return err_set(e, -EINVAL,
			"\"%s\" is not the name of a file beside the image or below", name);
	}
	return s->sibling(spec, name, ret, e);
}
