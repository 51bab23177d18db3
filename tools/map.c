/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk map`: the extents of an image, in the words (and the layout) of qemu-img map. */
#include <inttypes.h>
#include <stdio.h>

#include "core/extent.h"
#include "tools/exitcode.h"
#include "tools/options.h"
#include "tools/stack.h"
#include "tools/verb.h"

typedef void print_fn(const struct extent *x, bool first);

static void print_json(const struct extent *x, bool first)
{
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, "
	       "\"present\": %s, \"zero\": %s, \"data\": %s",
		first ? "[" : ",\n", x->offset, x->length, x->depth,
		x->allocated ? "true" : "false", x->zero ? "true" : "false",
		x->zero && !x->hole_below ? "false" : "true");
	if (x->host != EXTENT_NO_HOST && !x->compressed) {
		printf(", \"offset\": %" PRIu64, x->host);
	}
	putchar('}');
}

/* As qemu-img's table, which lists data only; a compressed run has no place to be mapped to. */
static void print_row(const struct extent *x, bool first)
{
	(void)first;
	if (x->zero) {
		return;
	}
	printf("%#-16" PRIx64 "%#-16" PRIx64, x->offset, x->length);
	if (x->compressed || x->host == EXTENT_NO_HOST) {
		printf("%-16s%u\n", x->compressed ? "compressed" : "-", x->depth);
	} else {
		printf("%#-16" PRIx64 "%u\n", x->host, x->depth);
	}
}

/* Extents as long as they can be: layers clip theirs at will. Stops when nobody takes them. */
static int walk(struct image *image, print_fn *print, struct err *e)
{
	struct extent run = { 0 };
	struct extent next;
	bool first = true;

	for (uint64_t off = 0; off < image->size && !ferror(stdout); off += next.length) {
		int r = image_extent_at(image, off, &next, e);

		if (r < 0) {
			return r;
		}
		if (off == 0) {
			run = next;
		} else if (!extent_merge(&run, &next)) {
			print(&run, first);
			first = false;
			run = next;
		}
	}
	if (run.length > 0) {
		print(&run, first);
	}
	return 0;
}

int map_run(const struct options *o)
{
	struct stack_env *env = NULL;
	struct stack *stack = NULL;
	int code = EXITCODE_OK;
	struct err e;
	int r = stack_env_open(o, &env, &e);

	if (r < 0) {
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	r = stack_open(env, o->args[0], &stack, &e);
	if (r == 0) {
		stack_warn_of_given_size(stack);
		if (!o->json) {
			printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "Depth");
		}
		r = walk(stack->image, o->json ? print_json : print_row, &e);
		fputs(o->json && r == 0 ? (stack->image->size ? "]\n" : "[]\n") : "", stdout);
	}
	if (r < 0) {
		code = exitcode_report(&e, exitcode_of_source(r));
	}
	stack_close(stack);
	stack_env_close(env);
	return code;
}
