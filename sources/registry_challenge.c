/* SPDX-License-Identifier: Apache-2.0 */
/* The list of challenges, where a comma may stand between challenges, between parameters, and in
 * the text of one. */
#include "sources/registry_challenge.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* RFC 9110, 5.6.2 */
static size_t token_length(const char *p)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	size_t n = 0;

	for (; p[n]; n++) {
		bool letter = (p[n] >= 'a' && p[n] <= 'z') || (p[n] >= 'A' && p[n] <= 'Z');

		if (!letter && !(p[n] >= '0' && p[n] <= '9') && !strchr(others, p[n])) {
			break;
		}
	}
	return n;
}

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

static const char *skip_commas(const char *p)
{
	return p + strspn(p, " \t,");
}

/* The value at *@p, a token or a quoted string; NULL when it is neither, or without memory. */
static char *take_value(const char **p)
{
	const char *in = *p;
	char *ret;
	size_t n = 0;

	if (*in != '"') {
		n = token_length(in);
		*p = in + n;
		return n ? strndup(in, n) : NULL;
	}
	ret = malloc(strlen(in) + 1);
	for (in++; ret && *in && *in != '"'; in++) {
		if (*in == '\\' && in[1]) {
			in++;
		}
		ret[n++] = *in;
	}
	if (!ret || *in != '"') {
		free(ret);
		return NULL;
	}
	ret[n] = '\0';
	*p = in + 1;
	return ret;
}

/* Puts @value where it belongs; the first of a name counts. */
static void put(struct registry_challenge *c, const char *name, size_t len, char *value)
{
	const struct {
		const char *name;
		char **field;
	} fields[] = {
		{ "realm", &c->realm },
		{ "service", &c->service },
		{ "scope", &c->scope },
		{ "error", &c->error },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		if (strlen(fields[i].name) == len && strncasecmp(fields[i].name, name, len) == 0 &&
			!*fields[i].field) {
			*fields[i].field = value;
			return;
		}
	}
	free(value);
}

/* Reads "name=value" parameters, up to what is none. False: broken. */
static bool take_parameters(const char **p, struct registry_challenge *c)
{
	for (;;) {
		const char *name = skip_commas(*p);
		size_t len = token_length(name);
		const char *equals = skip_space(name + len);
		char *value;

		if (len == 0 || *equals != '=') {
			return len > 0 || !*name;
		}
		*p = skip_space(equals + 1);
		value = take_value(p);
		if (!value) {
			return false;
		}
		put(c, name, len, value);
	}
}

/* What some schemes have instead of parameters (token68): it ends a challenge, "name=value" does
 * not. */
static const char *skip_blob(const char *p)
{
	size_t n = token_length(p);
	size_t padding = 0;

	while (p[n] == '/') {
		n += 1 + token_length(p + n + 1);
	}
	padding = strspn(p + n, "=");
	return n > 0 && (p[n + padding] == '\0' || p[n + padding] == ',') ? p + n + padding : p;
}

bool registry_challenge_find(const char *header, const char *scheme, struct registry_challenge *ret)
{
	const char *p = skip_commas(header);

	while (*p) {
		struct registry_challenge c = { 0 };
		const char *name = p;
		size_t len = token_length(p);
		bool ok;

		if (len == 0) {
			return false;
		}
		p = skip_space(p + len);
		if (p > name + len) {
			p = skip_blob(p);
		}
		ok = p == name + len || take_parameters(&p, &c);
		if (ok && strlen(scheme) == len && strncasecmp(scheme, name, len) == 0) {
			*ret = c;
			return true;
		}
		registry_challenge_clear(&c);
		if (!ok) {
			return false;
		}
		p = skip_commas(p);
	}
	return false;
}

void registry_challenge_clear(struct registry_challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	free(c->error);
	*c = (struct registry_challenge){ 0 };
}
