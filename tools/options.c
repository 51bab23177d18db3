/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all options, and what reads it: the parser and the help. */
#include "tools/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tools/quantity.h"

enum kind {
	KIND_FLAG,     /* bool */
	KIND_TEXT,     /* char * */
	KIND_PATH,     /* char *, made absolute */
	KIND_QUANTITY, /* uint64_t, and a bool that says it was given */
	KIND_SECONDS,  /* unsigned int */
	KIND_DELAY,    /* the same, 0 being one, and a bool that says it was given */
	KIND_COUNT,    /* unsigned int, 1 to 64 */
	KIND_RETRY,    /* "hard" or a number: retry_hard, tries */
	KIND_LOG,      /* "text" or "json": log_format */
	KIND_NAMES,    /* appended to names */
	KIND_OVERLAYS, /* appended to overlays */
	KIND_MANIFEST, /* appended to manifests */
};

enum group {
	GROUP_MOUNT,
	GROUP_COPY,
	GROUP_VOLUME,
	GROUP_MANIFEST,
	GROUP_SOURCE,
	GROUP_CACHE,
	GROUP_GENERAL,
	GROUP_COUNT
};

static const char *const group_title[] = { "Mount", "Copy", "Volume", "Manifests", "Source",
	"Cache", "General" };

#define READS_SOURCE    (VERB_MOUNT | VERB_INFO | VERB_MAP | VERB_COPY | VERB_OVERLAY | VERB_TRACE)
#define FILLS_TARGET    (VERB_COPY | VERB_OVERLAY)
#define TAKES_MANIFESTS (VERB_COPY | VERB_MOUNT)
#define ALL_VERBS       (~0U)

#define FIELD(f) offsetof(struct options, f)
#define NO_FIELD SIZE_MAX

static const struct option_row {
	const char *name;
	char letter; /* 0: none */
	enum kind kind;
	size_t field;
	size_t given; /* the bool of KIND_QUANTITY and KIND_DELAY */
	const char *arg;
	unsigned int verbs;
	enum group group;
	const char *help;
} rows[] = {
	{ "foreground", 0, KIND_FLAG, FIELD(foreground), NO_FIELD, NULL, VERB_MOUNT, GROUP_MOUNT,
		"stay in the foreground, log to stderr" },
	{ "name", 0, KIND_NAMES, NO_FIELD, NO_FIELD, "NAME", VERB_MOUNT, GROUP_MOUNT,
		"call the file NAME.raw; one for each SOURCE" },
	{ "allow-other", 0, KIND_FLAG, FIELD(allow_other), NO_FIELD, NULL, VERB_MOUNT, GROUP_MOUNT,
		"let other users read the files" },
	{ "readahead", 0, KIND_QUANTITY, FIELD(readahead), FIELD(readahead_given), "SIZE",
		VERB_MOUNT, GROUP_MOUNT, "fetch at most SIZE ahead of a reader; 0: nothing" },
	{ "overlay", 0, KIND_OVERLAYS, NO_FIELD, NO_FIELD, "FILE", VERB_MOUNT, GROUP_MOUNT,
		"make it writable, changes go to FILE, or :temp:" },
	{ "trace", 0, KIND_PATH, FIELD(trace), NO_FIELD, "FILE", VERB_MOUNT, GROUP_MOUNT,
		"fetch ahead what the boot trace in FILE says" },
	{ "no-trace", 0, KIND_FLAG, FIELD(no_trace), NO_FIELD, NULL, VERB_MOUNT, GROUP_MOUNT,
		"neither record nor replay boots" },
	{ "complete", 0, KIND_FLAG, FIELD(complete), NO_FIELD, NULL, VERB_MOUNT, GROUP_MOUNT,
		"fetch all of the image in the background" },
	{ "no-complete", 0, KIND_FLAG, FIELD(no_complete), NO_FIELD, NULL, VERB_MOUNT, GROUP_MOUNT,
		"not even when a third of it was read" },
	{ "complete-delay", 0, KIND_DELAY, FIELD(complete_delay), FIELD(complete_delay_given),
		"TIME", VERB_MOUNT, GROUP_MOUNT, "begin that TIME after the mount (30s)" },
	{ "complete-rate", 0, KIND_QUANTITY, FIELD(complete_rate), FIELD(complete_rate_given),
		"SIZE", VERB_MOUNT, GROUP_MOUNT, "fetch at most SIZE a second for it" },

	{ "size", 0, KIND_QUANTITY, FIELD(content_size), FIELD(content_size_given), "SIZE",
		VERB_MOUNT | VERB_INFO | VERB_MAP, GROUP_SOURCE,
		"how large the disk in a compressed file is" },
	{ "size", 0, KIND_QUANTITY, FIELD(size), FIELD(size_given), "SIZE", FILLS_TARGET,
		GROUP_COPY, "make a file SIZE large, zeros behind the disk" },
	{ "preallocation", 0, KIND_TEXT, FIELD(preallocation), NO_FIELD, "MODE", FILLS_TARGET,
		GROUP_COPY, "off, falloc (reserve all) or full (write all)" },
	{ "target-is-zero", 0, KIND_FLAG, FIELD(target_is_zero), NO_FIELD, NULL, FILLS_TARGET,
		GROUP_COPY, "the target reads as zeros: write only data" },
	{ "verify", 0, KIND_FLAG, FIELD(verify), NO_FIELD, NULL, FILLS_TARGET, GROUP_COPY,
		"read the target back and compare" },
	{ "force", 0, KIND_FLAG, FIELD(force), NO_FIELD, NULL, FILLS_TARGET, GROUP_COPY,
		"replace a file that exists" },
	{ "progress", 0, KIND_TEXT, FIELD(progress), NO_FIELD, "HOW", FILLS_TARGET, GROUP_COPY,
		"auto, plain, json or none" },
	{ "rate", 0, KIND_QUANTITY, FIELD(rate), FIELD(rate_given), "SIZE", FILLS_TARGET,
		GROUP_COPY, "read at most SIZE a second" },

	{ "size", 0, KIND_QUANTITY, FIELD(size), FIELD(size_given), "SIZE", VERB_VOLUME,
		GROUP_VOLUME, "create: how large it is, like 2Gi" },
	{ "name", 0, KIND_NAMES, NO_FIELD, NO_FIELD, "NAME", VERB_VOLUME, GROUP_VOLUME,
		"create: call it NAME; loop10 asks for /dev/loop10" },
	{ "file", 0, KIND_PATH, FIELD(file), NO_FIELD, "FILE", VERB_VOLUME, GROUP_VOLUME,
		"create: keep its bytes in FILE, which is new" },
	{ "node", 0, KIND_TEXT, FIELD(node), NO_FIELD, "NAME", VERB_VOLUME, GROUP_VOLUME,
		"create: this host is node NAME of the cluster" },
	{ "storage-class", 0, KIND_TEXT, FIELD(storage_class), NO_FIELD, "NAME", VERB_VOLUME,
		GROUP_VOLUME, "create: its storage class (local)" },

	{ "manifest", 'f', KIND_MANIFEST, NO_FIELD, NO_FIELD, "FILE", TAKES_MANIFESTS,
		GROUP_MANIFEST, "take the DataVolumes in FILE; may be repeated" },
	{ "volumes", 0, KIND_PATH, FIELD(volumes), NO_FIELD, "DIR", VERB_COPY, GROUP_MANIFEST,
		"fill DIR/NAMESPACE/NAME/disk.img" },

	{ "cacert", 0, KIND_PATH, FIELD(cacert), NO_FIELD, "FILE", READS_SOURCE, GROUP_SOURCE,
		"trust the authorities in FILE (PEM), too" },
	{ "cert-dir", 0, KIND_PATH, FIELD(cert_dir), NO_FIELD, "DIR", READS_SOURCE, GROUP_SOURCE,
		"trust the authorities in DIR (PEM files), too" },
	{ "client-cert", 0, KIND_PATH, FIELD(client_cert), NO_FIELD, "FILE", READS_SOURCE,
		GROUP_SOURCE, "present this certificate (PEM)" },
	{ "client-key", 0, KIND_PATH, FIELD(client_key), NO_FIELD, "FILE", READS_SOURCE,
		GROUP_SOURCE, "private key of --client-cert, if not in there" },
	{ "insecure", 0, KIND_FLAG, FIELD(insecure), NO_FIELD, NULL, READS_SOURCE, GROUP_SOURCE,
		"accept any certificate" },
	{ "user", 0, KIND_TEXT, FIELD(user), NO_FIELD, "NAME", READS_SOURCE, GROUP_SOURCE,
		"log in as NAME; asks for the password" },
	{ "password-file", 0, KIND_PATH, FIELD(password_file), NO_FIELD, "FILE", READS_SOURCE,
		GROUP_SOURCE, "read the password of --user from FILE" },
	{ "secret", 0, KIND_PATH, FIELD(secret), NO_FIELD, "PATH", READS_SOURCE, GROUP_SOURCE,
		"log in with a Secret: its directory or manifest" },
	{ "authfile", 0, KIND_PATH, FIELD(authfile), NO_FIELD, "PATH", READS_SOURCE, GROUP_SOURCE,
		"log in to registries as this docker config says" },
	{ "platform", 0, KIND_TEXT, FIELD(platform), NO_FIELD, "OS/ARCH", READS_SOURCE,
		GROUP_SOURCE, "of an image, the one for OS/ARCH (this machine's)" },
	{ "header-file", 0, KIND_PATH, FIELD(header_file), NO_FIELD, "FILE", READS_SOURCE,
		GROUP_SOURCE, "send the headers in FILE, \"Name: value\" a line" },
	{ "proxy", 0, KIND_TEXT, FIELD(proxy), NO_FIELD, "URL", READS_SOURCE, GROUP_SOURCE,
		"use this proxy instead of the environment's" },
	{ "timeout", 0, KIND_SECONDS, FIELD(timeout_s), NO_FIELD, "TIME", READS_SOURCE,
		GROUP_SOURCE, "give up a read after TIME, with its retries (60s)" },
	{ "retry", 0, KIND_RETRY, NO_FIELD, NO_FIELD, "hard|N", READS_SOURCE, GROUP_SOURCE,
		"hard: never give up; N: at most N retries" },
	{ "connections", 0, KIND_COUNT, FIELD(connections), NO_FIELD, "N", READS_SOURCE,
		GROUP_SOURCE, "at most N connections to one host (32)" },
	{ "checksum", 0, KIND_TEXT, FIELD(checksum), NO_FIELD, "ALG:HEX", VERB_COPY | VERB_MOUNT,
		GROUP_SOURCE, "what the source must be: sha256:..." },
	{ "format", 0, KIND_TEXT, FIELD(format), NO_FIELD, "FORMAT", READS_SOURCE, GROUP_SOURCE,
		"take the image for FORMAT, do not look at it" },
	{ "member", 0, KIND_TEXT, FIELD(member), NO_FIELD, "PATH", READS_SOURCE, GROUP_SOURCE,
		"take this file of an archive or an image" },
	{ "allow-backing", 0, KIND_FLAG, FIELD(allow_backing), NO_FIELD, NULL, READS_SOURCE,
		GROUP_SOURCE, "open backing files that lie beside the image" },

	{ "cache-dir", 0, KIND_PATH, FIELD(cache_dir), NO_FIELD, "DIR", READS_SOURCE | VERB_CACHE,
		GROUP_CACHE, "keep what was fetched in DIR" },
	{ "cache-size", 0, KIND_QUANTITY, FIELD(cache_size), FIELD(cache_size_given), "SIZE",
		READS_SOURCE, GROUP_CACHE, "keep at most SIZE; the least recently used goes" },
	{ "no-cache", 0, KIND_FLAG, FIELD(no_cache), NO_FIELD, NULL, READS_SOURCE, GROUP_CACHE,
		"keep nothing on disk, a little in memory" },
	{ "max-size", 0, KIND_QUANTITY, FIELD(max_size), FIELD(max_size_given), "SIZE", VERB_CACHE,
		GROUP_CACHE, "prune: what may stay" },

	{ "json", 0, KIND_FLAG, FIELD(json), NO_FIELD, NULL,
		VERB_INFO | VERB_MAP | VERB_STATUS | VERB_CACHE | VERB_VOLUME | VERB_OVERLAY |
			VERB_TRACE,
		GROUP_GENERAL, "print JSON, for programs" },
	{ "log-format", 0, KIND_LOG, NO_FIELD, NO_FIELD, "text|json", ALL_VERBS, GROUP_GENERAL,
		"messages as lines of text (default) or of JSON" },
	{ "verbose", 'v', KIND_FLAG, FIELD(verbose), NO_FIELD, NULL, ALL_VERBS, GROUP_GENERAL,
		"say what is being done" },
	{ "help", 'h', KIND_FLAG, FIELD(help), NO_FIELD, NULL, ALL_VERBS, GROUP_GENERAL,
		"show this help" },
};

/* getopt_long() values of the rows; clear of letters, '?' and ':'. */
#define FIRST_VALUE 256

static void *field_at(struct options *o, size_t field)
{
	assert(field != NO_FIELD);
	return (char *)o + field;
}

static int set_text(char **field, char *value, struct err *e)
{
	if (!value) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	free(*field);
	*field = value;
	return 0;
}

char *options_absolute_path(const char *path)
{
	CLEANUP_FREE char *here = NULL;
	char *joined = NULL;

	if (path[0] == '/') {
		return strdup(path);
	}
	here = getcwd(NULL, 0);
	if (!here || asprintf(&joined, "%s/%s", here, path) < 0) {
		return NULL;
	}
	return joined;
}

static int set_path(char **field, const char *value, struct err *e)
{
	if (!*value) {
		return err_set(e, -EINVAL, "the path is empty");
	}
	return set_text(field, options_absolute_path(value), e);
}

static int set_retry(struct options *o, const char *value, struct err *e)
{
	unsigned int retries;

	if (strcmp(value, "hard") == 0) {
		o->retry_hard = true;
		return 0;
	}
	if (quantity_parse_count(value, 0, 1000, &retries, NULL) < 0) {
		return err_set(
			e, -EINVAL, "'%s' is neither hard nor a number from 0 to 1000", value);
	}
	o->retry_hard = false;
	o->tries = retries + 1;
	return 0;
}

static int set_log_format(struct options *o, const char *value, struct err *e)
{
	if (strcmp(value, "text") == 0) {
		o->log_format = LOG_FORMAT_TEXT;
	} else if (strcmp(value, "json") == 0) {
		o->log_format = LOG_FORMAT_JSON;
	} else {
		return err_set(e, -EINVAL, "'%s' is neither text nor json", value);
	}
	return 0;
}

static int append(char ***list, size_t *count, const char *value, struct err *e)
{
	char **more = reallocarray(*list, *count + 1, sizeof(*more));

	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*list = more;
	more[*count] = strdup(value);
	if (!more[*count]) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	++*count;
	return 0;
}

static int append_overlay(struct options *o, const char *value, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	int r;

	if (strcmp(value, OPTIONS_TEMPORARY) == 0) {
		return append(&o->overlays, &o->overlay_count, value, e);
	}
	r = set_path(&path, value, e);
	return r < 0 ? r : append(&o->overlays, &o->overlay_count, path, e);
}

/* "-f a.yaml b.yaml": the words are manifests, too, but for the mountpoint. */
static int take_manifests(const struct verb *verb, struct options *o, struct err *e)
{
	int left = verb->bit == VERB_MOUNT ? 1 : 0;
	int r = 0;

	while (r == 0 && o->manifest_count && o->arg_count > left) {
		r = append(&o->manifests, &o->manifest_count, o->args[0], e);
		o->args++;
		o->arg_count--;
	}
	return r;
}

/* Unlike other times, none at all is one. */
static int set_delay(unsigned int *field, const char *value, struct err *e)
{
	if (strcmp(value, "0") == 0 || strcmp(value, "0s") == 0) {
		*field = 0;
		return 0;
	}
	return quantity_parse_seconds(value, field, e);
}

static int set_option(
	struct options *o, const struct option_row *row, const char *value, struct err *e)
{
	assert(value || row->kind == KIND_FLAG);
	switch (row->kind) {
	case KIND_FLAG:
		*(bool *)field_at(o, row->field) = true;
		return 0;
	case KIND_TEXT:
		return set_text(field_at(o, row->field), strdup(value), e);
	case KIND_PATH:
		return set_path(field_at(o, row->field), value, e);
	case KIND_QUANTITY:
		*(bool *)field_at(o, row->given) = true;
		return quantity_parse(value, field_at(o, row->field), e);
	case KIND_SECONDS:
		return quantity_parse_seconds(value, field_at(o, row->field), e);
	case KIND_DELAY:
		*(bool *)field_at(o, row->given) = true;
		return set_delay(field_at(o, row->field), value, e);
	case KIND_COUNT:
		return quantity_parse_count(value, 1, 64, field_at(o, row->field), e);
	case KIND_RETRY:
		return set_retry(o, value, e);
	case KIND_LOG:
		return set_log_format(o, value, e);
	case KIND_NAMES:
		return append(&o->names, &o->name_count, value, e);
	case KIND_OVERLAYS:
		return append_overlay(o, value, e);
	case KIND_MANIFEST:
		return append(&o->manifests, &o->manifest_count, value, e);
	}
	return 0;
}

/* The row of --@name: @verb's own, else another verb's (the same name may mean different things).
 */
static const struct option_row *find_row(const struct verb *verb, const char *name, size_t len)
{
	const struct option_row *other = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strlen(rows[i].name) != len || memcmp(rows[i].name, name, len) != 0) {
			continue;
		}
		if (rows[i].verbs & verb->bit) {
			return &rows[i];
		}
		other = &rows[i];
	}
	return other;
}

bool options_find(const struct verb *verb, const char *name, bool *ret_has_arg)
{
	const struct option_row *row = find_row(verb, name, strlen(name));

	if (!row || !(row->verbs & verb->bit)) {
		return false;
	}
	*ret_has_arg = row->arg != NULL;
	return true;
}

/* What getopt_long() refused: @word, or the letter in optopt when @word is empty. Only the option's
 * name is repeated: behind a '=' may be a secret. */
static int refuse(const struct verb *verb, const char *word, struct err *e)
{
	int shown = (int)strcspn(word, "=");
	const struct option_row *row;

	if (!*word) {
		return err_set(e, -EINVAL, "unknown option '-%c'; see lazydisk %s --help", optopt,
			verb->name);
	}
	row = find_row(verb, word + 2, (size_t)shown - 2);
	if (row && (row->verbs & verb->bit)) {
		return err_set(e, -EINVAL, "option '%.*s' takes no value", shown, word);
	}
	if (row) {
		return err_set(e, -EINVAL, "%s takes no option '%.*s'; see lazydisk %s --help",
			verb->name, shown, word, verb->name);
	}
	return err_set(e, -EINVAL, "unknown option '%.*s'; see lazydisk %s --help", shown, word,
		verb->name);
}

static int take(struct options *o, int value, struct err *e)
{
	const struct option_row *row = &rows[value - FIRST_VALUE];
	int r = set_option(o, row, optarg, e);

	return r < 0 ? err_wrap(e, -EINVAL, "--%s", row->name) : 0;
}

static int letter_value(int c)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].letter && rows[i].letter == c) {
			return FIRST_VALUE + (int)i;
		}
	}
	return c;
}

/* getopt_long() takes "--pass" for --password-file and then tells the world that it cannot read a
 * file of that name. Here a name is written in full. */
static bool is_abbreviated(int value, const char *word)
{
	return strncmp(word, "--", 2) == 0 &&
	       strcspn(word + 2, "=") != strlen(rows[value - FIRST_VALUE].name);
}

static int parse_words(const struct verb *verb, const struct option *longs, int argc, char **argv,
	struct options *ret, struct err *e)
{
	const char *letters = verb->bit & TAKES_MANIFESTS ? ":hvf:" : ":hv";

	optind = 0;
	opterr = 0;
	for (;;) {
		int c = getopt_long(argc, argv, letters, longs, NULL);
		const char *word;
		int r;

		if (c < 0) {
			return 0;
		}
		if (c == ':') {
			return err_set(e, -EINVAL,
				"option '%s' needs a value; see lazydisk %s --help",
				argv[optind - 1], verb->name);
		}
		if (c == '?') {
			bool is_long = optopt == 0 || optopt >= FIRST_VALUE;

			return refuse(verb, is_long ? argv[optind - 1] : "", e);
		}
		word = argv[optind - 1];
		if (optarg && optarg == word) {
			word = argv[optind - 2];
		}
		if (c >= FIRST_VALUE && is_abbreviated(c, word)) {
			return refuse(verb, word, e);
		}
		r = take(ret, letter_value(c), e);
		if (r < 0) {
			return r;
		}
	}
}

int options_parse(
	const struct verb *verb, int argc, char **argv, struct options *ret, struct err *e)
{
	struct option longs[ARRAY_SIZE(rows) + 1];
	size_t n = 0;
	int r;

	*ret = (struct options){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].verbs & verb->bit) {
			longs[n++] = (struct option){ rows[i].name,
				rows[i].arg ? required_argument : no_argument, NULL,
				FIRST_VALUE + (int)i };
		}
	}
	longs[n] = (struct option){ 0 };
	r = parse_words(verb, longs, argc, argv, ret, e);
	if (r < 0) {
		return r;
	}
	ret->args = argv + optind;
	ret->arg_count = argc - optind;
	return take_manifests(verb, ret, e);
}

static int check_login(const struct options *o, struct err *e)
{
	if (o->user && strchr(o->user, ':')) {
		return err_set(e, -EINVAL,
			"--user takes the name only; put the password into a "
			"file and give that with --password-file");
	}
	if (o->password_file && !o->user) {
		return err_set(e, -EINVAL, "--password-file needs --user");
	}
	if (o->secret && o->user) {
		return err_set(e, -EINVAL, "give either --secret or --user");
	}
	if (o->client_key && !o->client_cert) {
		return err_set(e, -EINVAL, "--client-key needs --client-cert");
	}
	return 0;
}

/* A file that cannot be read is told now, by the option that names it. */
static int check_paths(const struct options *o, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *path;

		if (rows[i].kind != KIND_PATH ||
			(rows[i].group != GROUP_SOURCE && rows[i].field != FIELD(trace))) {
			continue;
		}
		path = *(char *const *)((const char *)o + rows[i].field);
		if (path && access(path, R_OK) < 0) {
			return err_sys(e, errno, "--%s: cannot read %s", rows[i].name, path);
		}
	}
	return 0;
}

int options_check(const struct options *o, struct err *e)
{
	int r = check_login(o, e);

	if (r == 0 && o->no_cache && o->cache_dir) {
		r = err_set(e, -EINVAL, "give either --no-cache or --cache-dir");
	}
	if (r == 0 && o->cache_size_given && o->cache_size < MIB(1)) {
		r = err_set(e, -EINVAL,
			"--cache-size: less than 1Mi keeps nothing; give --no-cache instead");
	}
	if (r == 0 && o->no_trace && o->trace) {
		r = err_set(e, -EINVAL, "give either --trace or --no-trace");
	}
	if (r == 0 && o->no_complete && (o->complete || o->complete_rate_given)) {
		r = err_set(e, -EINVAL, "give either --complete or --no-complete");
	}
	if (r == 0 && o->complete_rate_given && o->complete_rate == 0) {
		r = err_set(e, -EINVAL, "--complete-rate: 0 completes nothing");
	}
	if (r == 0 && o->complete && o->no_cache) {
		r = err_set(e, -EINVAL, "--complete needs a cache on disk, not --no-cache");
	}
	return r < 0 ? r : check_paths(o, e);
}

static void free_list(char **list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i]);
	}
	free(list);
}

void options_clear(struct options *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].kind == KIND_TEXT || rows[i].kind == KIND_PATH) {
			free(*(char **)field_at(o, rows[i].field));
		}
	}
	free_list(o->names, o->name_count);
	free_list(o->overlays, o->overlay_count);
	free_list(o->manifests, o->manifest_count);
	*o = (struct options){ 0 };
}

static void help_group(const struct verb *verb, enum group group, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char left[40];

		if (rows[i].group != group || !(rows[i].verbs & verb->bit)) {
			continue;
		}
		if (!any) {
			fprintf(out, "\n%s:\n", group_title[group]);
			any = true;
		}
		snprintf(left, sizeof(left), "%c%c%c --%s%s%s", rows[i].letter ? '-' : ' ',
			rows[i].letter ? rows[i].letter : ' ', rows[i].letter ? ',' : ' ',
			rows[i].name, rows[i].arg ? " " : "", rows[i].arg ? rows[i].arg : "");
		fprintf(out, "  %-26s  %s\n", left, rows[i].help);
	}
}

void options_help(const struct verb *verb, FILE *out)
{
	fprintf(out, "Usage: lazydisk %s %s\n\n", verb->name, verb->synopsis);
	fprintf(out, "%c%s.\n", verb->summary[0] - 'a' + 'A', verb->summary + 1);
	for (int g = 0; g < GROUP_COUNT; g++) {
		help_group(verb, (enum group)g, out);
	}
	fprintf(out, "\nSee lazydisk-%s(1).\n", verb->name);
}
