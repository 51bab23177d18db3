/* SPDX-License-Identifier: Apache-2.0 */
/* certs.d */
#include "sources/registry_certs.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"

#define PEM_MAX (1U << 20)

static void cleanup_dir(DIR **d)
{
	if (*d) {
		closedir(*d);
	}
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name);
	size_t m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

static int add_authority(const char *path, struct registry_certs *c, struct err *e)
{
	CLEANUP_FREE char *pem = NULL;
	char *joined = NULL;
	size_t len;
	int r = rw_read_file(path, PEM_MAX, &pem, &len, e);

	if (r < 0) {
		return r;
	}
	if (asprintf(&joined, "%s%s\n", c->ca_pem ? c->ca_pem : "", pem) < 0) {
		return no_memory(e);
	}
	free(c->ca_pem);
	c->ca_pem = joined;
	return 0;
}

/* The other half of @path, which ends in @mine. */
static int find_partner(
	const char *path, const char *mine, const char *other, char **ret, struct err *e)
{
	CLEANUP_FREE char *partner = NULL;

	if (asprintf(&partner, "%.*s%s", (int)(strlen(path) - strlen(mine)), path, other) < 0) {
		partner = NULL;
		return no_memory(e);
	}
	if (access(partner, F_OK) < 0) {
		return err_set(e, -EINVAL, "%s: there is no %s that belongs to it", path, partner);
	}
	*ret = TAKE_PTR(partner);
	return 0;
}

static int add_entry(const char *dir, const char *name, struct registry_certs *c, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *partner = NULL;
	int r = 0;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return no_memory(e);
	}
	if (ends_in(name, ".crt")) {
		return add_authority(path, c, e);
	}
	if (ends_in(name, ".key")) {
		return find_partner(path, ".key", ".cert", &partner, e);
	}
	if (ends_in(name, ".cert")) {
		r = find_partner(path, ".cert", ".key", &partner, e);
	}
	if (r == 0 && partner && !c->client_cert) {
		c->client_cert = TAKE_PTR(path);
		c->client_key = TAKE_PTR(partner);
	}
	return r;
}

/* False: there is no such directory. */
static bool read_dir(const char *path, struct registry_certs *c, int *ret_r, struct err *e)
{
	CLEANUP(cleanup_dir) DIR *dir = opendir(path);
	const struct dirent *entry;

	*ret_r = 0;
	if (!dir) {
		return false;
	}
	while (*ret_r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.') {
			*ret_r = add_entry(path, entry->d_name, c, e);
		}
	}
	return true;
}

int registry_certs_find(const char *domain, struct registry_certs *ret, struct err *e)
{
	const char *home = getenv("HOME");
	const char *const places[][2] = {
		{ home, "/.config/containers/certs.d" },
		{ "/etc", "/containers/certs.d" },
		{ "/etc", "/docker/certs.d" },
	};
	struct registry_certs certs = { 0 };
	bool found = false;
	int r = 0;

	for (size_t i = 0; i < 3 && !found; i++) {
		CLEANUP_FREE char *path = NULL;

		if (!places[i][0] || !*places[i][0]) {
			continue;
		}
		if (asprintf(&path, "%s%s/%s", places[i][0], places[i][1], domain) < 0) {
			path = NULL;
			r = no_memory(e);
			break;
		}
		found = read_dir(path, &certs, &r, e);
	}
	if (r < 0) {
		registry_certs_clear(&certs);
		return r;
	}
	*ret = certs;
	return 0;
}

void registry_certs_clear(struct registry_certs *c)
{
	free(c->ca_pem);
	free(c->client_cert);
	free(c->client_key);
	*c = (struct registry_certs){ 0 };
}
