/* SPDX-License-Identifier: Apache-2.0 */
/* Which file of an image's layers is the disk: layers by hand, each a small tar archive. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/format.h"
#include "formats/view.h"
#include "tests/unit/fake_image.h"

#define LAYERS_MOST 4U
#define ENTRIES     8U
#define BLOCK       512U

struct entry {
	const char *name;
	char type; /* '0' a file whose content is `text`, '2' a symbolic link, '1' a hard link, '5'
		    */
	const char *text;
};

struct fixture {
	struct entry layers[LAYERS_MOST][ENTRIES]; /* the base first */
	unsigned int fails; /* the layer that cannot be opened, from 1; 0: none */
	unsigned int opened;
};

static size_t add_entry(uint8_t *tar, const struct entry *entry)
{
	bool link = entry->type == '1' || entry->type == '2';
	size_t size = entry->type == '0' ? strlen(entry->text) : 0;
	unsigned int sum = 0;

	memcpy(tar, entry->name, strlen(entry->name));
	snprintf((char *)tar + 124, 12, "%011o", (unsigned int)size);
	memset(tar + 148, ' ', 8);
	tar[156] = (uint8_t)entry->type;
	if (link) {
		memcpy(tar + 157, entry->text, strlen(entry->text));
	}
	memcpy(tar + 257, "ustar\00000", 8);
	for (size_t i = 0; i < BLOCK; i++) {
		sum += tar[i];
	}
	snprintf((char *)tar + 148, 8, "%06o", sum);
	if (size > 0) {
		memcpy(tar + BLOCK, entry->text, size);
	}
	return BLOCK + round_up(size, BLOCK);
}

static int open_layer(void *ctx, size_t i, struct layer **ret, struct err *e)
{
	static const struct format_opts format = { 0 };
	const struct layer_opts opts = { .format = &format };
	struct fixture *f = ctx;
	uint8_t tar[(2 * ENTRIES + 2) * BLOCK] = { 0 };
	size_t len = 0;
	char id[32];
	struct fake_image *blob;

	f->opened++;
	if (f->fails == i + 1) {
		return err_set(e, -EACCES, "it is not for you");
	}
	for (size_t k = 0; k < ENTRIES && f->layers[i][k].name; k++) {
		len += add_entry(tar + len, &f->layers[i][k]);
	}
	snprintf(id, sizeof(id), "layer-%zu", i);
	blob = fake_image_from(tar, len + (size_t)2 * BLOCK, id);
	return layer_open(&blob->img, &opts, ret, e);
}

static int open_view(struct fixture *f, const char *member, struct image **ret, struct err *e)
{
	struct view_opts opts = { .open = open_layer, .ctx = f, .member = member };

	while (opts.layers < LAYERS_MOST && f->layers[opts.layers][0].name) {
		opts.layers++;
	}
	return view_open(&opts, ret, e);
}

static void finds(struct fixture *f, const char *member, const char *content)
{
	CLEANUP(image_closep) struct image *img = NULL;
	char got[64] = "";
	struct err e = { 0 };

	if (open_view(f, member, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_int_equal(img->size, strlen(content));
	assert_int_equal(image_read_at(img, got, img->size, 0, &e), 0);
	assert_string_equal(got, content);
}

static void fails(struct fixture *f, const char *member, int code, const char *why)
{
	struct image *img = NULL;
	struct err e = { 0 };

	assert_int_equal(open_view(f, member, &img, &e), code);
	assert_null(img);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, why)) {
		fail_msg("\"%s\" says nothing of \"%s\"", e.text, why);
	}
}

static void the_only_file_in_disk_is_the_disk(void **state)
{
	struct fixture f = { .layers = { { { "etc/motd", '0', "no" }, { "disk/", '5', NULL },
				     { "disk/a.img", '0', "the disk" } } } };

	(void)state;
	finds(&f, NULL, "the disk");
	finds(&f, "etc/motd", "no");
	finds(&f, "/disk/../etc/./motd", "no");
}

static void upper_layers_replace_and_take_away(void **state)
{
	struct fixture f = { .layers = { { { "disk/a", '0', "old" }, { "disk/b", '0', "gone" },
						 { "x/y", '0', "hidden" } },
				     { { "disk/a", '0', "new" }, { "disk/.wh.b", '0', "" },
					     { "x/.wh..wh..opq", '0', "" } } } };

	(void)state;
	finds(&f, NULL, "new");
	finds(&f, "disk/a", "new");
	fails(&f, "disk/b", -ENOENT, "disk/b");
	fails(&f, "x/y", -ENOENT, "x/y");
}

static void more_than_one_is_a_question(void **state)
{
	struct fixture f = { .layers = { { { "disk/a", '0', "1" } }, { { "disk/b", '0', "2" } } } };

	(void)state;
	fails(&f, NULL, -EBADMSG, "2 files");
	fails(&f, NULL, -EBADMSG, "--member");
	finds(&f, "disk/b", "2");
}

static void no_disk_says_what_there_is(void **state)
{
	struct fixture f = { .layers = { { { "usr/", '5', NULL }, { "etc/passwd", '0', "r" } } } };
	struct fixture empty = { .layers = { { { "disk/", '5', NULL } } } };
	struct fixture directory = { .layers = { { { "disk/d/", '5', NULL } } } };
	struct fixture none = { .layers = { { { NULL, 0, NULL } } } };

	(void)state;
	fails(&f, NULL, -EBADMSG, "usr");
	fails(&f, "etc", -EBADMSG, "no regular file");
	fails(&empty, NULL, -EBADMSG, "no containerDisk");
	fails(&directory, NULL, -EBADMSG, "no file of the image");
	fails(&none, NULL, -EBADMSG, "no layers");
}

static void links_lead_on_and_never_out(void **state)
{
	struct fixture f = {
		.layers = { { { "images/v1", '0', "one" }, { "etc/x", '0', "x" } },
			{ { "disk/cur", '2', "/images/latest" }, { "images/latest", '2', "v1" },
				{ "out", '2', "../../../../etc/x" }, { "loop", '2', "loop" },
				{ "dead", '2', "nothing" } },
			{ { "hard", '1', "images/hop" }, { "images/hop", '1', "images/v1" } } }
	};

	(void)state;
	finds(&f, NULL, "one");
	finds(&f, "out", "x");
	finds(&f, "hard", "one");
	fails(&f, "loop", -EBADMSG, "symbolic links");
	fails(&f, "dead", -ENOENT, "dead");
}

static void hard_links_in_a_circle_end(void **state)
{
	struct fixture f = {
		.layers = { { { "disk/a", '1', "b" }, { "b", '1', "c" }, { "c", '1', "b" } } }
	};

	(void)state;
	fails(&f, NULL, -EBADMSG, "hard link");
}

/* A hard link is to what was there when its layer was made. */
static void a_hard_link_does_not_see_the_layers_above(void **state)
{
	struct fixture f = { .layers = { { { "v1", '0', "then" } }, { { "disk/a", '1', "v1" } },
				     { { "v1", '0', "now" } } } };

	(void)state;
	finds(&f, NULL, "then");
	finds(&f, "v1", "now");
}

static void errors_name_their_layer(void **state)
{
	struct fixture f = { .layers = { { { "disk/a", '0', "1" } }, { { "etc/b", '0', "2" } } },
		.fails = 1 };

	(void)state;
	fails(&f, NULL, -EACCES, "layer 1 of 2: it is not for you");
	f.opened = 0;
	finds(&f, "etc/b", "2");
	assert_int_equal(f.opened, 1);
}

static void what_is_no_archive_is_no_layer(void **state)
{
	static const struct format_opts format = { 0 };
	const struct layer_opts opts = { .format = &format };
	struct fake_image *blob = fake_image_new(MIB(1), 3, "noise");
	struct layer *l = NULL;
	struct image *img;

	(void)state;
	assert_int_equal(layer_open(&blob->img, &opts, &l, NULL), 0);
	assert_false(layer_is_archive(l));
	img = layer_take_image(l);
	assert_int_equal(img->size, MIB(1));
	image_close(img);
}

static void a_member_of_one_archive(void **state)
{
	uint8_t tar[8 * BLOCK] = { 0 };
	struct fake_image *f;
	struct image *img = NULL;
	struct err e = { 0 };
	char got[4] = "";
	size_t n = add_entry(tar, &(struct entry){ "a/b", '0', "abc" });

	(void)state;
	add_entry(tar + n, &(struct entry){ "link", '2', "a/b" });
	f = fake_image_from(tar, sizeof(tar), "tar");
	assert_int_equal(view_member_open(&f->img, "a/c", &img, &e), -ENOENT);
	assert_int_equal(view_member_open(&f->img, "link", &img, &e), 0);
	assert_int_equal(image_read_at(img, got, 3, 0, &e), 0);
	assert_string_equal(got, "abc");
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_file_in_disk_is_the_disk),
		cmocka_unit_test(upper_layers_replace_and_take_away),
		cmocka_unit_test(more_than_one_is_a_question),
		cmocka_unit_test(no_disk_says_what_there_is),
		cmocka_unit_test(links_lead_on_and_never_out),
		cmocka_unit_test(hard_links_in_a_circle_end),
		cmocka_unit_test(a_hard_link_does_not_see_the_layers_above),
		cmocka_unit_test(errors_name_their_layer),
		cmocka_unit_test(what_is_no_archive_is_no_layer),
		cmocka_unit_test(a_member_of_one_archive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
