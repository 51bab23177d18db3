/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of references, by hand: there is little of it. */
#include "sources/registry_ref.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cleanup.h"
#include "sources/oci_digest.h"

#define NAME_MAX_LEN 255U
#define TAG_MAX_LEN  128U
#define HUB          "docker.io"

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* How long the separator at @p is: one '.', one or two '_', any number of '-'. 0: none. */
static size_t separator(const char *p)
{
	if (*p == '.') {
		return 1;
	}
	if (*p == '_') {
		return p[1] == '_' ? 2 : 1;
	}
	return strspn(p, "-");
}

/* Lower-case words between separators, in parts between slashes. */
static bool is_path(const char *p)
{
	for (;;) {
		if (!is_lower_alnum(*p)) {
			return false;
		}
		while (is_lower_alnum(*p)) {
			p++;
		}
		if (!*p) {
			return true;
		}
		p += *p == '/' ? 1 : separator(p);
	}
}

static bool is_tag(const char *p)
{
	size_t n = 0;

	if (!is_alnum(*p) && *p != '_') {
		return false;
	}
	while (is_alnum(p[n]) || (p[n] && strchr("_.-", p[n]))) {
		n++;
	}
	return !p[n] && n <= TAG_MAX_LEN;
}

static bool is_port(const char *p)
{
	size_t n = strspn(p, "0123456789");

	return n > 0 && n <= 5 && !p[n] && strtoul(p, NULL, 10) <= 65535;
}

/* A host name or an address, and perhaps a port. */
static bool is_domain(const char *p)
{
	if (*p == '[') {
		size_t n = strspn(p + 1, "0123456789abcdefABCDEF:.");

		p += 1 + n;
		return n > 1 && *p == ']' && (!p[1] || (p[1] == ':' && is_port(p + 2)));
	}
	for (;;) {
		if (!is_alnum(*p)) {
			return false;
		}
		while (is_alnum(*p) || (*p == '-' && p[1] && p[1] != '.' && p[1] != ':')) {
			p++;
		}
		if (*p == ':') {
			return is_port(p + 1);
		}
		if (!*p) {
			return true;
		}
		if (*p++ != '.') {
			return false;
		}
	}
}

static bool looks_like_host(const char *first)
{
	if (strcmp(first, "localhost") == 0 || strpbrk(first, ".:[")) {
		return true;
	}
	for (; *first; first++) {
		if (isupper((unsigned char)*first)) {
			return true;
		}
	}
	return false;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* Takes "@digest" off @name. */
static int take_digest(char *name, char **ret, struct err *e)
{
	char *at = strchr(name, '@');
	int r;

	if (!at) {
		return 0;
	}
	*at = '\0';
	if (strchr(at + 1, '/')) {
		return err_set(e, -EINVAL,
			"docker://: a user and password do not belong into the reference: give "
			"--user and --password-file, or --authfile");
	}
	r = oci_digest_check(at + 1, e);
	if (r < 0) {
		return err_wrap(e, -EINVAL, "docker://%s@", name);
	}
	*ret = strdup(at + 1);
	return *ret ? 0 : no_memory(e);
}

/* Takes ":tag" off @name. */
static int take_tag(char *name, char **ret, struct err *e)
{
	char *slash = strrchr(name, '/');
	char *colon = strrchr(slash ? slash : name, ':');

	if (!colon) {
		return 0;
	}
	*colon = '\0';
	if (!is_tag(colon + 1)) {
		return err_set(e, -EINVAL,
			"docker://%s: '%.140s' is not a tag (letters, digits, '_', '.' and '-'; at "
			"most %u)",
			name, colon + 1, TAG_MAX_LEN);
	}
	*ret = strdup(colon + 1);
	return *ret ? 0 : no_memory(e);
}

/* @name is what is left: host and path, or path alone. */
static int split_name(char *name, struct registry_ref *ref, struct err *e)
{
	char *slash = strchr(name, '/');
	const char *path = name;
	bool hub;

	if (slash) {
		*slash = '\0';
	}
	if (slash && looks_like_host(name)) {
		if (!is_domain(name)) {
			return err_set(e, -EINVAL,
				"docker://%.255s/...: that is not the name of a host", name);
		}
		ref->domain = strdup(strcasecmp(name, "index.docker.io") == 0 ? HUB : name);
		path = slash + 1;
	} else {
		ref->domain = strdup(HUB);
		if (slash) {
			*slash = '/';
		}
	}
	if (!ref->domain) {
		return no_memory(e);
	}
	hub = strcmp(ref->domain, HUB) == 0;
	if (!is_path(path)) {
		return err_set(e, -EINVAL,
			"docker://%.255s/%.255s: not the name of a repository (lower-case words, "
			"digits and separators, between slashes)",
			ref->domain, path);
	}
	ref->host = strdup(hub ? "registry-1.docker.io" : ref->domain);
	if (asprintf(&ref->path, "%s%s", hub && !strchr(path, '/') ? "library/" : "", path) < 0) {
		ref->path = NULL;
	}
	return ref->host && ref->path ? 0 : no_memory(e);
}

static int parse(const char *spec, char *name, struct registry_ref *ref, struct err *e)
{
	int r = take_digest(name, &ref->digest, e);

	if (r == 0) {
		r = take_tag(name, &ref->tag, e);
	}
	if (r < 0) {
		return r;
	}
	if (strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64) {
		return err_set(e, -EINVAL,
			"%s: that is the id of an image, which no registry knows it by", spec);
	}
	r = split_name(name, ref, e);
	if (r < 0) {
		return r;
	}
	if (strlen(ref->domain) + 1 + strlen(ref->path) > NAME_MAX_LEN) {
		return err_set(e, -EINVAL,
			"docker://: the name, its host included, is longer than %u characters",
			NAME_MAX_LEN);
	}
	if (ref->digest) {
		free(ref->tag);
		ref->tag = NULL;
	} else if (!ref->tag) {
		ref->tag = strdup("latest");
	}
	if (asprintf(&ref->text, REGISTRY_SCHEME "%s/%s%c%s", ref->domain, ref->path,
		    ref->digest ? '@' : ':', ref->digest ? ref->digest : ref->tag) < 0) {
		ref->text = NULL;
	}
	return ref->text && (ref->digest || ref->tag) ? 0 : no_memory(e);
}

int registry_ref_parse(const char *spec, struct registry_ref *ret, struct err *e)
{
	CLEANUP_FREE char *name = strdup(spec + strlen(REGISTRY_SCHEME));
	struct registry_ref ref = { 0 };
	int r;

	if (!name) {
		return no_memory(e);
	}
	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
			return err_set(e, -EINVAL,
				"docker://: a reference has no blanks and no special characters");
		}
	}
	if (!*name) {
		return err_set(e, -EINVAL, "docker:// names no image");
	}
	r = parse(spec, name, &ref, e);
	if (r < 0) {
		registry_ref_clear(&ref);
		return r;
	}
	*ret = ref;
	return 0;
}

static bool copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return !text || *ret;
}

int registry_ref_copy(const struct registry_ref *ref, struct registry_ref *ret, struct err *e)
{
	struct registry_ref mine = { 0 };

	if (!copy(ref->domain, &mine.domain) || !copy(ref->host, &mine.host) ||
		!copy(ref->path, &mine.path) || !copy(ref->tag, &mine.tag) ||
		!copy(ref->digest, &mine.digest) || !copy(ref->text, &mine.text)) {
		registry_ref_clear(&mine);
		return no_memory(e);
	}
	*ret = mine;
	return 0;
}

void registry_ref_clear(struct registry_ref *ref)
{
	free(ref->domain);
	free(ref->host);
	free(ref->path);
	free(ref->tag);
	free(ref->digest);
	free(ref->text);
	*ref = (struct registry_ref){ 0 };
}

bool registry_ref_is_loopback(const struct registry_ref *ref)
{
	size_t n = *ref->host == '[' ? strcspn(ref->host, "]") + 1 : strcspn(ref->host, ":");
	char host[NAME_MAX_LEN + 1];

	if (n >= sizeof(host)) {
		return false;
	}
	memcpy(host, ref->host, n);
	host[n] = '\0';
	return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}
