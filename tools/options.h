/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. One table in options.c names every option once: its spelling, its argument, its
 * help, the verbs that take it and where its value goes; parsing, --help and the mount option
 * string all come from it. Nothing here prints.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/err.h"
#include "core/log.h"
#include "tools/verb.h"

/* What --overlay takes instead of a file: changes are forgotten with the mount. */
#define OPTIONS_TEMPORARY ":temp:"

/* Strings are owned by the struct; NULL or 0 means not given. Paths are absolute, so that they
 * survive a change of directory. */
struct options {
	bool help;
	bool verbose;
	bool json;
	enum log_format log_format;

	/* the source */
	char *cacert;
	char *cert_dir;
	char *client_cert;
	char *client_key;
	bool insecure;
	char *user;
	char *password_file;
	char *secret;
	char *authfile;
	char *platform;
	char *header_file;
	char *proxy;
	unsigned int timeout_s;
	bool retry_hard;
	unsigned int tries; /* of one transfer, the first included; 0: as many as fit the time */
	unsigned int connections;
	char *format;
	char *member; /* of an archive */
	bool allow_backing;
	bool content_size_given;
	uint64_t content_size; /* of what a container holds, where its format does not tell */
	char *checksum;        /* of the source: "sha256:HEX" */

	/* the cache */
	char *cache_dir;
	bool no_cache;
	bool cache_size_given;
	uint64_t cache_size;
	bool readahead_given;
	uint64_t readahead;
	bool max_size_given;
	uint64_t max_size;

	/* mount */
	bool foreground;
	bool allow_other;
	char **names; /* of --name, in order */
	size_t name_count;
	char **overlays; /* of --overlay, in order: absolute paths or OPTIONS_TEMPORARY */
	size_t overlay_count;
	char *trace; /* a file */
	bool no_trace;
	bool complete;
	bool no_complete;
	bool complete_delay_given;
	unsigned int complete_delay; /* seconds */
	bool complete_rate_given;
	uint64_t complete_rate; /* bytes a second */

	/* copy and volume */
	bool size_given;
	uint64_t size;

	/* copy */
	bool in_order; /* no option: raw disks are read in order, once, so that what was decoded of
			  them need not be kept */
	bool check_digests; /* no option: the verb reads all of an image, so that it can be verified
			     */
	char *preallocation;
	bool target_is_zero;
	bool verify;
	bool force;
	char *progress;
	bool rate_given;
	uint64_t rate;

	/* volume */
	char *file;
	char *node;
	char *storage_class;

	/* manifests: of -f and, with it, of the words that are no options */
	char **manifests;
	size_t manifest_count;
	char *volumes;

	/* what is left: SOURCE, MOUNTPOINT, TARGET; borrowed from argv */
	char **args;
	int arg_count;
};

/* Parses what follows the verb: argv[0] is the verb's name. @argv is permuted. -EINVAL with one
 * line that says what is wrong. @ret is to be cleared in any case. Not reentrant (getopt). */
int options_parse(
	const struct verb *verb, int argc, char **argv, struct options *ret, struct err *e);

void options_clear(struct options *o);

/* The checks between options, which a mount option string and an argv share. */
int options_check(const struct options *o, struct err *e);

/* Whether @verb takes an option --@name, and whether that has an argument. */
bool options_find(const struct verb *verb, const char *name, bool *ret_has_arg);

/* @path as it is seen from any directory; malloc()ed, NULL without memory. */
char *options_absolute_path(const char *path);

/* The text of `lazydisk VERB --help`. */
void options_help(const struct verb *verb, FILE *out);

#endif
