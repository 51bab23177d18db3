/* SPDX-License-Identifier: Apache-2.0 */
/* Amounts and tables for people to read. */
#ifndef TOOLS_RENDER_H
#define TOOLS_RENDER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Room for any of the texts below. */
#define RENDER_MAX 48

/* These fill @buf (RENDER_MAX bytes) and return it. */
char *render_size(uint64_t bytes, char *buf);                 /* "512 B", "64 KiB", "1.5 GiB" */
char *render_rate(uint64_t bytes_per_s, char *buf);           /* "119.2 MiB/s" */
char *render_duration_us(uint64_t us, char *buf);             /* "340 us", "12.1 ms", "3 min 7 s" */
char *render_percent(uint64_t part, uint64_t all, char *buf); /* "37 %"; 100 % only for all */
char *render_time(int64_t epoch, char *buf);                  /* "2024-05-01 17:03", local time */

/* Prints @rows rows of @cols cells (the first row is the heading), columns aligned by blanks: to
 * the right where bit i of @right is set. The last column is not padded. */
void render_table(
	FILE *out, const char *const *cells, size_t rows, size_t cols, unsigned int right);

/* Prints @text with control characters replaced: names come from servers. */
void render_text(FILE *out, const char *text);

#endif
