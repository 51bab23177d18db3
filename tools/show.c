/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of text about images. */
#include "tools/show.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "core/bytes.h"
#include "tools/render.h"

/* What a layer counts over a process's life says nothing when that process only looked. */
static const char *const counters[] = { "requests", "bytes_fetched", "retries", "redirects", "hits",
	"misses", "joined", "fills", "waits", "wait_ms", "bytes_demanded", "bytes_prefetched",
	"bytes_wasted", "torn", "bypassed", "lent", "rtt_us", "bytes_per_s", "l2_tables_read",
	"stalls", "connections", "decoding", "decoding_paused" };

/* What a layer is of which the image is made, rather than what is done with it on the way. */
static bool is_format(const char *name)
{
	static const char *const others[] = { "cache", "http", "file", "digest", "guard", "raw",
		"overlay", "trace" };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (strcmp(others[i], name) == 0) {
			return false;
		}
	}
	return true;
}

json_t *show_layer(const json_t *image, const char *name)
{
	json_t *layers = json_object_get(image, "layers");
	json_t *layer;
	size_t i;

	json_array_foreach(layers, i, layer)
	{
		const char *its = json_string_value(json_object_get(layer, "name"));

		if (its && strcmp(its, name) == 0) {
			return layer;
		}
	}
	return NULL;
}

static uint64_t number(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static const char *text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static void line(FILE *out, const char *label, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void line(FILE *out, const char *label, const char *fmt, ...)
{
	char value[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	fprintf(out, "  %-14s ", label);
	render_text(out, value);
	fputc('\n', out);
}

/* "qcow2 in xz"; nothing for a plain raw disk. */
static void show_chain(FILE *out, const json_t *image)
{
	json_t *layers = json_object_get(image, "layers");
	json_t *layer;
	char chain[256] = "";
	size_t at = 0;
	size_t i;

	json_array_foreach(layers, i, layer)
	{
		const char *name = text(layer, "name");

		if (at + strlen(name) + 5 < sizeof(chain) && (is_format(name) || i == 0)) {
			at += (size_t)snprintf(
				chain + at, sizeof(chain) - at, "%s%s", at ? " in " : "", name);
		}
	}
	if (strcmp(chain, "raw") != 0) {
		line(out, "format", "%s", chain);
	}
}

/* What the size is worth. */
static void show_size_note(FILE *out, const json_t *image)
{
	json_t *layer = json_array_get(json_object_get(image, "layers"), 0);
	char a[RENDER_MAX];

	if (!json_is_true(json_object_get(layer, "size_provisional"))) {
		return;
	}
	if (!json_object_get(layer, "final_size")) {
		line(out, "", "assumed: it is known when all was decoded");
	} else if (number(layer, "final_size") == number(image, "size")) {
		line(out, "", "as it is");
	} else {
		line(out, "", "but it is %s (%" PRIu64 " bytes): mount it again",
			render_size(number(layer, "final_size"), a), number(layer, "final_size"));
	}
}

/* Whether the word @end ends @s. */
static bool ends_in(const char *s, const char *end)
{
	size_t n = strlen(s);
	size_t m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static bool is_counter(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		if (strcmp(counters[i], key) == 0) {
			return true;
		}
	}
	return false;
}

/* "cluster_size" is a size, "present_bytes" one called "present". */
static void show_fact(FILE *out, const json_t *layer, const char *key, const json_t *value)
{
	char label[64];
	char a[RENDER_MAX];
	char b[RENDER_MAX];

	snprintf(label, sizeof(label), "%.*s",
		(int)(strlen(key) - (ends_in(key, "_bytes") ? strlen("_bytes") : 0)), key);
	for (char *p = label; *p; p++) {
		*p = *p == '_' ? ' ' : *p;
	}
	if (json_is_string(value)) {
		line(out, label, "%s", json_string_value(value));
	} else if (json_is_boolean(value)) {
		line(out, label, "%s", json_is_true(value) ? "yes" : "no");
	} else if (strcmp(key, "present_bytes") == 0) {
		line(out, label, "%s (%s)", render_size(number(layer, key), a),
			render_percent(number(layer, key), number(layer, "size"), b));
	} else if (ends_in(key, "_bytes") || ends_in(key, "size")) {
		line(out, label, "%s", render_size(number(layer, key), a));
	} else {
		line(out, label, "%" PRIu64, number(layer, key));
	}
}

/* A size is shown where it differs from that of the layer above. */
static bool is_worth_showing(const char *key, const json_t *layer, uint64_t above)
{
	if (strcmp(key, "size") == 0) {
		return number(layer, "size") != above;
	}
	return strcmp(key, "name") != 0 && !is_counter(key);
}

void show_info(FILE *out, const json_t *image)
{
	json_t *layers = json_object_get(image, "layers");
	json_t *layer;
	json_t *value;
	const char *key;
	uint64_t above = number(image, "size");
	size_t i;
	char a[RENDER_MAX];
	char b[RENDER_MAX];

	render_text(out, text(image, "name"));
	fputc('\n', out);
	line(out, "source", "%s", text(image, "source"));
	line(out, "size", "%s (%" PRIu64 " bytes)", render_size(number(image, "size"), a),
		number(image, "size"));
	show_size_note(out, image);
	show_chain(out, image);
	if (json_object_get(image, "allocated_bytes")) {
		line(out, "data", "%s (%s)", render_size(number(image, "allocated_bytes"), a),
			render_percent(number(image, "allocated_bytes"), number(image, "size"), b));
	}
	json_array_foreach(layers, i, layer)
	{
		fprintf(out, "%s\n", text(layer, "name"));
		json_object_foreach(layer, key, value)
		{
			if (is_worth_showing(key, layer, above)) {
				show_fact(out, layer, key, value);
			}
		}
		above = number(layer, "size");
	}
}

static void show_network(FILE *out, const json_t *http)
{
	char a[RENDER_MAX];

	line(out, "fetched", "%s in %" PRIu64 " requests",
		render_size(number(http, "bytes_fetched"), a), number(http, "requests"));
	line(out, "retries", "%" PRIu64, number(http, "retries"));
	if (json_is_true(json_object_get(http, "unconfirmed"))) {
		line(out, "server", "does not answer; what is cached is served");
	}
}

static void show_cache(FILE *out, const json_t *cache)
{
	uint64_t waits = number(cache, "waits");
	uint64_t wait_us = number(cache, "wait_ms") * 1000;
	char a[RENDER_MAX];
	char b[RENDER_MAX];
	char c[RENDER_MAX];

	line(out, "present", "%s of %s (%s)%s", render_size(number(cache, "present_bytes"), a),
		render_size(number(cache, "size"), b),
		render_percent(number(cache, "present_bytes"), number(cache, "size"), c),
		strcmp(text(cache, "mode"), "memory") == 0 ? ", in memory only" : "");
	line(out, "reads", "%" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64 " joined a fetch",
		number(cache, "hits"), number(cache, "misses"), number(cache, "joined"));
	if (waits > 0) {
		line(out, "waited", "%" PRIu64 " reads, %s in all, %s each", waits,
			render_duration_us(wait_us, a), render_duration_us(wait_us / waits, b));
	} else {
		line(out, "waited", "never");
	}
	line(out, "asked for", "%s, and ahead of that %s, of which unused %s",
		render_size(number(cache, "bytes_demanded"), a),
		render_size(number(cache, "bytes_prefetched"), b),
		render_size(number(cache, "bytes_wasted"), c));
	if (number(cache, "bytes_per_s") > 0) {
		line(out, "link", "%s, round trip %s", render_rate(number(cache, "bytes_per_s"), a),
			render_duration_us(number(cache, "rtt_us"), b));
	}
	if (number(cache, "decoding") > 0) {
		line(out, "decoding", "%" PRIu64 " pieces at once", number(cache, "decoding"));
	}
	if (number(cache, "lent") > 0) {
		line(out, "passthrough", "readers get it from the cache's file, past the daemon");
	}
	if (number(cache, "torn") > 0) {
		line(out, "repaired", "%" PRIu64 " damaged pieces, fetched again",
			number(cache, "torn"));
	}
	if (number(cache, "bypassed") > 0) {
		line(out, "not kept", "%" PRIu64 " reads: the cache could not take them",
			number(cache, "bypassed"));
	}
}

static void show_overlay(FILE *out, const json_t *overlay)
{
	const char *file = text(overlay, "file");
	char a[RENDER_MAX];
	char b[RENDER_MAX];
	char c[RENDER_MAX];

	line(out, "changes", "in %s", *file ? file : "a temporary file: forgotten with the mount");
	line(out, "written", "%s of %s, zeroed %s",
		render_size(number(overlay, "present_bytes"), a),
		render_size(number(overlay, "size"), b),
		render_size(number(overlay, "zero_bytes"), c));
	line(out, "this mount", "%s in %" PRIu64 " writes, %" PRIu64 " flushes",
		render_size(number(overlay, "bytes_written"), a), number(overlay, "writes"),
		number(overlay, "flushes"));
}

static bool is_set(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* What earlier boots were good for, and what is learned from this one. */
static void show_boots(FILE *out, const json_t *cache)
{
	uint64_t boots = number(cache, "trace_boots");
	uint64_t touched = number(cache, "touched_bytes");
	char a[RENDER_MAX];
	char b[RENDER_MAX];
	char c[RENDER_MAX];

	if (boots > 0) {
		line(out, "boot trace",
			"of %" PRIu64 " %s: %s, fetched %s of it%s, read %s of that", boots,
			boots == 1 ? "boot" : "boots", render_size(number(cache, "trace_bytes"), a),
			render_size(number(cache, "bytes_replayed"), b),
			is_set(cache, "replaying") ? " so far" : "",
			render_size(number(cache, "bytes_foreseen"), c));
	}
	if (boots > 0 && touched > 0) {
		line(out, "this boot", "%s, %s of it foretold%s", render_size(touched, a),
			render_percent(number(cache, "foretold_bytes"), touched, b),
			is_set(cache, "tracing") ? "; still recording" : "");
	} else if (touched > 0) {
		line(out, "this boot", "%s%s", render_size(touched, a),
			is_set(cache, "tracing") ? "; still recording" : "");
	}
}

static void show_completion(FILE *out, const json_t *cache)
{
	const json_t *verified = json_object_get(cache, "verified");
	const char *state = text(cache, "completion");
	uint64_t bytes = number(cache, "bytes_completed");
	char a[RENDER_MAX];

	if (strcmp(state, "no room") == 0) {
		line(out, "completion", "given up: the cache does not keep all of the image");
	} else if (bytes > 0 || strcmp(state, "waiting") == 0 || strcmp(state, "done") == 0) {
		line(out, "completion", "%s, %s fetched for it", state, render_size(bytes, a));
	}
	if (verified) {
		line(out, "checksum", "%s",
			json_is_true(verified) ? "verified"
					       : "does not match: reads fail from now on");
	}
}

void show_status(FILE *out, const json_t *image)
{
	const json_t *overlay = show_layer(image, "overlay");
	const json_t *cache = show_layer(image, "cache");
	const json_t *http = show_layer(image, "http");
	char a[RENDER_MAX];

	render_text(out, text(image, "name"));
	fputc('\n', out);
	line(out, "source", "%s", text(image, "source"));
	line(out, "size", "%s", render_size(number(image, "size"), a));
	show_size_note(out, image);
	show_chain(out, image);
	if (overlay) {
		show_overlay(out, overlay);
	}
	if (cache) {
		show_cache(out, cache);
		show_boots(out, cache);
		show_completion(out, cache);
	}
	if (http) {
		show_network(out, http);
	}
	if (!cache && !http) {
		line(out, "present", "all of it: a local file, read in place");
	}
}
