/* SPDX-License-Identifier: Apache-2.0 */
/* Platforms: their many spellings, and the best match. */
#include "sources/oci_platform.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "core/bytes.h"

/* What an entry without a platform costs, and one that is meant for something else than a machine.
 */
#define COST_UNNAMED 1000
#define COST_OTHER   200
#define COST_VARIANT 10

/* Other names of architectures: those of uname, and those that some tools write. */
static const struct {
	const char *name;
	const char *architecture;
	const char *variant;
} aliases[] = {
	{ "x86_64", "amd64", "" },
	{ "x86-64", "amd64", "" },
	{ "aarch64", "arm64", "" },
	{ "armv8l", "arm", "v8" },
	{ "armv7l", "arm", "v7" },
	{ "armhf", "arm", "v7" },
	{ "armv6l", "arm", "v6" },
	{ "armel", "arm", "v6" },
	{ "i386", "386", "" },
	{ "i686", "386", "" },
};

static const char *plain_name(const char *architecture, const char **ret_variant)
{
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		if (strcasecmp(aliases[i].name, architecture) == 0) {
			*ret_variant = aliases[i].variant;
			return aliases[i].architecture;
		}
	}
	*ret_variant = "";
	return architecture;
}

static bool is_word(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool letter = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z');

		if (!letter && !(p[i] >= '0' && p[i] <= '9') && !strchr("._-", p[i])) {
			return false;
		}
	}
	return n > 0 && n < 32;
}

static bool take_word(const char **p, char ret[32])
{
	size_t n = strcspn(*p, "/");

	if (!is_word(*p, n)) {
		return false;
	}
	memcpy(ret, *p, n);
	ret[n] = '\0';
	*p += n + ((*p)[n] == '/' && (*p)[n + 1] != '\0');
	return true;
}

static void settle(struct oci_platform *p)
{
	const char *variant;
	const char *name = plain_name(p->architecture, &variant);

	if (name != p->architecture) {
		snprintf(p->architecture, sizeof(p->architecture), "%s", name);
	}
	if (!*p->variant) {
		snprintf(p->variant, sizeof(p->variant), "%s", variant);
	}
}

int oci_platform_parse(const char *text, struct oci_platform *ret, struct err *e)
{
	struct oci_platform p = { .os = "linux" };
	struct utsname machine;
	bool ok = true;

	if (!text) {
		uname(&machine);
		snprintf(p.architecture, sizeof(p.architecture), "%.31s", machine.machine);
	} else if (!strchr(text, '/')) {
		ok = take_word(&text, p.architecture) && !*text;
	} else {
		ok = take_word(&text, p.os) && take_word(&text, p.architecture) &&
		     (!*text || take_word(&text, p.variant)) && !*text;
	}
	if (!ok) {
		return err_set(e, -EINVAL,
			"not a platform: write os/architecture or os/architecture/variant, like "
			"linux/arm64");
	}
	settle(&p);
	*ret = p;
	return 0;
}

void oci_platform_print(const struct oci_platform *p, char *ret, size_t room)
{
	snprintf(
		ret, room, "%s/%s%s%s", p->os, p->architecture, *p->variant ? "/" : "", p->variant);
}

bool oci_platform_has_architecture(const struct oci_platform *p, const char *architecture)
{
	const char *variant;

	return strcmp(plain_name(architecture, &variant), p->architecture) == 0;
}

/* "v7" is 7; 0 where there is no number. */
static int number(const char *variant)
{
	return *variant == 'v' ? (int)strtoul(variant + 1, NULL, 10) % 100 : 0;
}

/* How far from what is wanted; negative: it does not run there. */
static int variant_cost(const char *architecture, const char *want, const char *have)
{
	int base = strcmp(architecture, "arm64") == 0 ? 8 : 1;

	if (strcmp(want, have) == 0) {
		return 0;
	}
	if (strcmp(architecture, "arm64") == 0 || strcmp(architecture, "amd64") == 0) {
		int most = *want ? number(want) : INT_MAX;
		int is = *have ? number(have) : base;

		return is > most ? -1 : 1 + abs((*want ? number(want) : base) - is);
	}
	if (strcmp(architecture, "arm") == 0) {
		int most = *want ? number(want) : 8;

		return !*have ? 90 : number(have) > most ? -1 : 1 + most - number(have);
	}
	return !*want || !*have ? 1 : -1;
}

/* What builders add about an image is not one. */
static bool is_attestation(const struct oci_descriptor *d)
{
	const char *type = source_blob_annotation(&d->blob, "vnd.docker.reference.type");

	return (type && strcmp(type, "attestation-manifest") == 0) || strcmp(d->os, "unknown") == 0;
}

static int cost_of(const struct oci_descriptor *d, const struct oci_platform *p)
{
	const char *disk = source_blob_annotation(&d->blob, "disktype");
	const char *zstd =
		source_blob_annotation(&d->blob, "io.github.containers.compression.zstd");
	const char *variant;
	const char *name = plain_name(d->architecture, &variant);
	int extra = (disk && strcmp(disk, "qemu") != 0 ? COST_OTHER : 0) +
		    (zstd && strcmp(zstd, "true") == 0 ? 0 : 1);
	int cost;

	if (is_attestation(d)) {
		return -1;
	}
	if (!*d->architecture) {
		return COST_UNNAMED + extra;
	}
	if (strcmp(d->os, p->os) != 0 || strcmp(name, p->architecture) != 0) {
		return -1;
	}
	cost = variant_cost(p->architecture, p->variant, *d->variant ? d->variant : variant);
	return cost < 0 ? -1 : cost * COST_VARIANT + extra;
}

/* Adds "os/arch/variant" unless it is there. */
static void add_name(char *list, size_t room, const struct oci_descriptor *d)
{
	char name[128];
	size_t len = strlen(list);
	size_t n;

	snprintf(name, sizeof(name), "%.31s/%.31s%s%.31s", d->os, d->architecture,
		*d->variant ? "/" : "", d->variant);
	n = strlen(name);
	for (const char *p = strstr(list, name); p; p = strstr(p + 1, name)) {
		if ((p == list || p[-1] == ' ') && (!p[n] || p[n] == ',')) {
			return;
		}
	}
	if (len + n + 3 < room) {
		snprintf(list + len, room - len, "%s%s", len ? ", " : "", name);
	}
}

static int not_found(
	const char *what, const struct oci_manifest *m, const struct oci_platform *p, struct err *e)
{
	char list[240] = "";
	char wanted[100];

	for (size_t i = 0; i < m->count; i++) {
		const struct oci_descriptor *d = &m->items[i];

		if (is_word(d->os, strlen(d->os)) && !is_attestation(d) &&
			is_word(d->architecture, strlen(d->architecture))) {
			add_name(list, sizeof(list), d);
		}
	}
	oci_platform_print(p, wanted, sizeof(wanted));
	if (!*list) {
		return err_set(e, -ENOENT, "%s: the index holds no image", what);
	}
	return err_set(e, -ENOENT,
		"%s: there is no image for %s; there is %s: choose with --platform", what, wanted,
		list);
}

int oci_platform_choose(const char *what, const struct oci_manifest *m,
	const struct oci_platform *p, size_t *ret, struct err *e)
{
	int best = INT_MAX;

	for (size_t i = 0; i < m->count; i++) {
		int cost = cost_of(&m->items[i], p);

		if (cost >= 0 && cost < best) {
			best = cost;
			*ret = i;
		}
	}
	return best < INT_MAX ? 0 : not_found(what, m, p, e);
}
