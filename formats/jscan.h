/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON, read from front to back without building anything: for tables of contents, which have a
 * hundred thousand small objects. RFC 8259; what is deeper than JSCAN_DEPTH_MAX is refused. After
 * the first error every call fails, so that it is enough to look at jscan_failed() in the end.
 * (jansson, which other folders use, has the names that begin with json_.)
 */
#ifndef FORMATS_JSCAN_H
#define FORMATS_JSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSCAN_DEPTH_MAX 32U

struct jscan {
	const char *p;
	const char *end;
	bool failed;
};

void jscan_init(struct jscan *j, const char *text, size_t len);

bool jscan_failed(const struct jscan *j);

/* Whether nothing but white space is left. */
bool jscan_at_end(struct jscan *j);

/* Steps into the object (or array) that comes next. */
void jscan_object(struct jscan *j);
void jscan_array(struct jscan *j);

/* Whether another member (element) follows; steps out when none does. @first: the first call for
 * this object (array); is set to false. jscan_member() reads its name into @name, cut to @room. */
bool jscan_member(struct jscan *j, bool *first, char *name, size_t room);
bool jscan_element(struct jscan *j, bool *first);

/* The string that comes next, unescaped, as UTF-8 with NUL behind it: how many bytes it has, which
 * may be more than @room takes. Contains no NUL: a text with \u0000 is an error. */
size_t jscan_string(struct jscan *j, char *ret, size_t room);

/* The number that comes next, which is an integer from 0 to 2^63 - 1. */
uint64_t jscan_number(struct jscan *j);

/* Passes over the value that comes next, whatever it is. */
void jscan_skip(struct jscan *j);

#endif
