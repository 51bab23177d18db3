/* SPDX-License-Identifier: Apache-2.0 */
/* What the user has to know of an image that opened, and is not quite what it should be. */
#include <inttypes.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/report.h"
#include "tools/stack.h"
#include "tools/stack_env.h"

void stack_warn_of_given_size(const struct stack *stack)
{
	const struct options *o = stack->env->o;
	const struct image *disk = stack->disk;

	if (o->content_size_given && o->content_size != disk->size) {
		log_warn("%s: --size is ignored: the disk %s %" PRIu64 " bytes", stack->source,
			disk->flags & IMAGE_SIZE_PROVISIONAL ? "is assumed to have"
							     : "itself says that it has",
			disk->size);
	}
}

void stack_warn_of_size(const struct stack *stack)
{
	const struct image *image = stack->image;

	if (image->flags & IMAGE_SIZE_PROVISIONAL) {
		log_warn("%s: how large the disk is shows only when all of it was decoded; until "
			 "then %" PRIu64
			 " bytes are assumed, and reading the end fails should that "
			 "be wrong (--size says it, and it is known once all was read)",
			stack->source, image->size);
	}
}

void stack_warn_of_missing_end(const struct stack *stack)
{
	CLEANUP(report_clear) struct report r = REPORT_INIT;
	const struct report_item *reach;
	const struct image *img = stack->disk;

	image_report(stack->disk, &r);
	reach = report_find(&r, "qcow2", "reaches_bytes");
	while (img && strcmp(img->ops->name, "qcow2") != 0) {
		img = img->below;
	}
	if (reach && img) {
		log_warn("%s: the file is %" PRIu64 " bytes, but the image's clusters reach to "
			 "%" PRIu64 ": truncated download?",
			stack->source, img->below->size, reach->number);
	}
}

static bool is_unconfirmed(struct image *image)
{
	struct report r = REPORT_INIT;
	bool found = false;

	image_report(image, &r);
	for (size_t i = 0; i < r.count && !found; i++) {
		found = r.items[i].kind == REPORT_BOOL && r.items[i].number &&
			strcmp(r.items[i].key, "unconfirmed") == 0;
	}
	report_clear(&r);
	return found;
}

void stack_warn_of_age(const struct stack *stack)
{
	if (is_unconfirmed(stack->image)) {
		log_warn("%s: its server cannot be asked: this is the version that the cache "
			 "knows, and what of it is not there cannot be read before it answers",
			stack->source);
	}
}
