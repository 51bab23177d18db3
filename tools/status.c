/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk status`: what a mount says of itself, from its .lazydisk/status. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/mountpoint.h"
#include "tools/options.h"
#include "tools/render.h"
#include "tools/show.h"
#include "tools/verb.h"

static void show(const json_t *root)
{
	json_t *images = json_object_get(root, "images");
	json_t *image;
	size_t i;
	char up[RENDER_MAX];
	uint64_t seconds = (uint64_t)json_integer_value(json_object_get(root, "uptime_s"));
	const char *where = json_string_value(json_object_get(root, "mountpoint"));

	render_text(stdout, where ? where : "?");
	printf(": up %s, process %" JSON_INTEGER_FORMAT "\n",
		render_duration_us(seconds * 1000000, up),
		json_integer_value(json_object_get(root, "pid")));
	json_array_foreach(images, i, image)
	{
		putchar('\n');
		show_status(stdout, image);
	}
}

int status_run(const struct options *o)
{
	CLEANUP_FREE char *text = NULL;
	json_error_t problem;
	json_t *root;
	struct err e;
	int r = mountpoint_read_status(o->args[0], &text, &e);

	if (r < 0) {
		return exitcode_report(&e, EXITCODE_TARGET);
	}
	root = json_loads(text, 0, &problem);
	if (!root) {
		err_set(&e, -EBADMSG, "%s: the status cannot be read: %s", o->args[0],
			problem.text);
		return exitcode_report(&e, EXITCODE_FAILED);
	}
	if (o->json) {
		json_print(root, stdout);
	} else {
		show(root);
		json_decref(root);
	}
	return EXITCODE_OK;
}
