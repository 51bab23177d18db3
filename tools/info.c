/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk info`: what an image is made of. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/mount_names.h"
#include "tools/options.h"
#include "tools/show.h"
#include "tools/stack.h"
#include "tools/verb.h"

/* As one image of .lazydisk/status, and how much of it is data. */
static int describe(const struct stack *stack, const char *file, json_t **ret, struct err *e)
{
	uint64_t allocated = 0;
	json_t *image;
	int r = image_allocated(stack->image, &allocated, e);

	if (r < 0) {
		return r;
	}
	image = json_image(stack->image, file, stack->source);
	if (!image) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	json_object_set_new(image, "allocated_bytes", json_u64(allocated));
	*ret = image;
	return 0;
}

static int open_and_describe(
	struct stack_env *env, const char *source, const char *file, json_t **ret, struct err *e)
{
	struct stack *stack = NULL;
	int r = stack_open(env, source, &stack, e);

	if (r == 0) {
		stack_warn_of_given_size(stack);
		r = describe(stack, file, ret, e);
	}
	if (r == 0) {
		stack_warn_of_missing_end(stack);
	}
	stack_close(stack);
	return r;
}

static int print(const struct options *o, json_t *image)
{
	if (o->json) {
		json_print(image, stdout);
	} else {
		show_info(stdout, image);
		json_decref(image);
	}
	return EXITCODE_OK;
}

int info_run(const struct options *o)
{
	struct stack_env *env = NULL;
	char **files = NULL;
	json_t *image = NULL;
	struct err e;
	int code;
	int r = mount_names_make(o->args, 1, NULL, 0, &files, &e);

	if (r == 0) {
		r = stack_env_open(o, &env, &e);
	}
	if (r < 0) {
		mount_names_free(files, 1);
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	r = open_and_describe(env, o->args[0], files[0], &image, &e);
	code = r < 0 ? exitcode_report(&e, exitcode_of_source(r)) : print(o, image);
	stack_env_close(env);
	mount_names_free(files, 1);
	return code;
}
