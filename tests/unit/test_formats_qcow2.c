/* SPDX-License-Identifier: Apache-2.0 */
/* What qcow2 asks of the image below, and that several readers are not in each other's way. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/format.h"
#include "tests/unit/fake_image.h"

#define CLUSTER    4096U
#define L1         CLUSTER
#define L2         65536U  /* of the first 2 MiB, on a page of its own */
#define SECOND_L2  MIB(1)  /* of the next 2 MiB */
#define DATA       131072U /* guest clusters 0 to 15 */
#define STREAMS    280064U /* guest clusters 16 to 31, compressed */
#define STREAM     4101U   /* bytes of one */
#define FAR_DATA   MIB(2)  /* guest cluster 512 */
#define FILE_SIZE  MIB(3)
#define COMPRESSED (1ULL << 62)

static void put_cluster(uint8_t *file, uint64_t entry_at, uint64_t host, uint64_t guest)
{
	store_be64(file + entry_at, 1ULL << 63 | host);
	for (size_t i = 0; i < CLUSTER; i++) {
		file[host + i] = fake_byte(1, guest + i);
	}
}

/* A deflate stream of one stored block: 1, length, its complement, the bytes. */
static void put_stream(uint8_t *file, uint64_t index, uint64_t guest)
{
	uint64_t host = STREAMS + index * STREAM;
	uint64_t sectors = (host % 512 + STREAM + 511) / 512;
	uint8_t *p = file + host;

	/* 62 - (12 - 8) bits of offset. */
	store_be64(file + L2 + (16 + index) * 8, COMPRESSED | (sectors - 1) << 58 | host);
	p[0] = 1;
	store_le32(p + 1, CLUSTER | (uint32_t)(uint16_t)~CLUSTER << 16);
	for (size_t i = 0; i < CLUSTER; i++) {
		p[5 + i] = fake_byte(1, guest + i);
	}
}

/* A disk of 4 MiB in clusters of 4 KiB. */
static struct fake_image *make_file(void)
{
	uint8_t *file = calloc(1, FILE_SIZE);
	struct fake_image *f;

	assert_non_null(file);
	store_be32(file, 0x514649fb);
	store_be32(file + 4, 3);
	store_be32(file + 20, 12);
	store_be64(file + 24, MIB(4));
	store_be32(file + 36, 2);
	store_be64(file + 40, L1);
	store_be32(file + 100, 104);
	store_be64(file + L1, L2);
	store_be64(file + L1 + 8, SECOND_L2);
	for (uint64_t i = 0; i < 16; i++) {
		put_cluster(file, L2 + i * 8, DATA + i * CLUSTER, i * CLUSTER);
		put_stream(file, i, (16 + i) * CLUSTER);
	}
	put_cluster(file, SECOND_L2, FAR_DATA, MIB(2));
	f = fake_image_from(file, FILE_SIZE, "file");
	free(file);
	return f;
}

/* Passes reads on and notes what is to be prefetched. */
struct recorder {
	struct image img;
	unsigned int count;
	uint64_t off[16];
	uint64_t len[16];
	bool interrupted;
};

static int recorder_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	return image_read_at(img->below, buf, len, off, e);
}

static void recorder_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct recorder *rec = (struct recorder *)img;

	assert_true(rec->count < ARRAY_SIZE(rec->off));
	rec->off[rec->count] = off;
	rec->len[rec->count++] = len;
}

static void recorder_interrupt(struct image *img)
{
	((struct recorder *)img)->interrupted = true;
}

static void recorder_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops recorder_ops = {
	.name = "recorder",
	.read_at = recorder_read_at,
	.prefetch = recorder_prefetch,
	.interrupt = recorder_interrupt,
	.destroy = recorder_destroy,
};

static struct recorder *record(struct fake_image *f)
{
	struct recorder *rec = calloc(1, sizeof(*rec));

	assert_non_null(rec);
	assert_int_equal(image_init(&rec->img, &recorder_ops, &f->img, f->img.size, "rec"), 0);
	return rec;
}

static struct image *open_qcow2(struct image *below)
{
	const struct format_opts opts = { .format = "qcow2" };
	struct image *img = NULL;
	struct err e;

	if (format_open(below, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void check_read(struct image *img, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct err e = { 0 };

	assert_non_null(buf);
	if (image_read_at(img, buf, len, off, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_true(fake_matches(buf, 1, off, len));
	free(buf);
}

static void opening_takes_two_reads(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);

	(void)state;
	assert_int_equal(f->transfers, 2);
	assert_int_equal(img->size, MIB(4));
	assert_string_equal(img->id, "qcow2(file)");
	image_close(img);
}

static void small_tables_are_asked_for_at_once_in_order_of_the_file(void **state)
{
	struct recorder *rec = record(make_file());
	struct image *img = open_qcow2(&rec->img);

	(void)state;
	assert_int_equal(rec->count, 2);
	assert_int_equal(rec->off[0], L2);
	assert_int_equal(rec->len[0], CLUSTER);
	assert_int_equal(rec->off[1], SECOND_L2);
	assert_int_equal(rec->len[1], CLUSTER);
	image_close(img);
}

static void table_is_read_once_and_data_in_one_piece(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	struct report rep = REPORT_INIT;
	uint64_t bytes;

	(void)state;
	f->transfers = 0;
	check_read(img, 100, 1000);
	assert_int_equal(f->transfers, 2);
	bytes = f->bytes;
	check_read(img, 0, 16 * CLUSTER);
	assert_int_equal(f->transfers, 3);
	assert_int_equal(f->bytes - bytes, 16 * CLUSTER);
	check_read(img, MIB(2), CLUSTER);
	assert_int_equal(f->transfers, 5);
	image_report(img, &rep);
	assert_int_equal(report_find(&rep, "qcow2", "l2_tables_read")->number, 2);
	assert_int_equal(report_find(&rep, "qcow2", "cluster_size")->number, CLUSTER);
	report_clear(&rep);
	image_close(img);
}

static void neighbouring_streams_are_read_together(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);

	(void)state;
	check_read(img, 0, 1);
	f->transfers = 0;
	check_read(img, 16 * CLUSTER + 5, 16 * CLUSTER - 10);
	assert_int_equal(f->transfers, 1);
	/* The first and the last one were wanted in part and are kept. */
	check_read(img, 16 * CLUSTER, 5);
	check_read(img, 32 * CLUSTER - 100, 100);
	assert_int_equal(f->transfers, 1);
	image_close(img);
}

static void places_apart_are_asked_for_before_the_first_is_read(void **state)
{
	struct recorder *rec = record(make_file());
	struct image *img = open_qcow2(&rec->img);

	(void)state;
	rec->count = 0;
	check_read(img, 0, 32 * CLUSTER);
	/* Data are read at once, the streams were announced. */
	assert_int_equal(rec->count, 1);
	assert_int_equal(rec->off[0], STREAMS);
	assert_true(rec->len[0] >= 16 * STREAM && rec->len[0] < 16 * STREAM + 1024);
	image_close(img);
}

static void prefetch_names_places_in_the_file_and_reads_nothing(void **state)
{
	struct fake_image *f = make_file();
	struct recorder *rec = record(f);
	struct image *img = open_qcow2(&rec->img);

	(void)state;
	rec->count = 0;
	f->transfers = 0;
	/* The table is not here: it is asked for. */
	image_prefetch(img, 0, MIB(4));
	assert_int_equal(rec->count, 1);
	assert_int_equal(rec->off[0], L2);
	check_read(img, 0, 1);
	rec->count = 0;
	f->transfers = 0;
	image_prefetch(img, CLUSTER, 20 * CLUSTER);
	assert_int_equal(f->transfers, 0);
	assert_int_equal(rec->count, 1);
	assert_int_equal(rec->off[0], DATA + CLUSTER);
	assert_true(rec->off[0] + rec->len[0] >= STREAMS + 5 * STREAM);
	image_close(img);
}

/* As who writes an image with several threads leaves it. */
static void prefetch_of_places_that_are_mixed_names_them_once(void **state)
{
	struct fake_image *f = make_file();
	struct recorder *rec = record(f);
	struct image *img;

	(void)state;
	for (uint64_t i = 0; i < 16; i += 2) {
		put_cluster(f->data, L2 + i * 8, DATA + (i + 1) * CLUSTER, i * CLUSTER);
		put_cluster(f->data, L2 + (i + 1) * 8, DATA + i * CLUSTER, (i + 1) * CLUSTER);
	}
	img = open_qcow2(&rec->img);
	check_read(img, 0, 16 * CLUSTER);
	rec->count = 0;
	image_prefetch(img, 0, 16 * CLUSTER);
	assert_int_equal(rec->count, 1);
	assert_int_equal(rec->off[0], DATA);
	assert_int_equal(rec->len[0], 16 * CLUSTER);
	image_close(img);
}

static void failed_read_is_told_and_tried_again(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	struct err e = { 0 };
	uint8_t byte;

	(void)state;
	f->fail_code = -ETIMEDOUT;
	for (uint64_t off = 0; off < 32 * CLUSTER; off += 16 * CLUSTER) {
		f->fail_next = 1;
		assert_int_equal(image_read_at(img, &byte, 1, off + 7, &e), -ETIMEDOUT);
		assert_int_equal(e.code, -ETIMEDOUT);
		assert_non_null(strstr(e.text, "fake failure"));
		check_read(img, off + 7, 1);
	}
	image_close(img);
}

static int give_backing(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	(void)e;
	assert_string_equal(name, "base.raw");
	assert_string_equal(format, "raw");
	assert_int_equal(depth, 1);
	*ret = ctx;
	return 0;
}

/* An image of 64 KiB and nothing in it but the name of a backing file. */
static struct image *open_overlay(struct image *backing)
{
	const struct format_opts opts = { .open_backing = give_backing, .ctx = backing };
	uint8_t file[2 * CLUSTER] = { 0 };
	struct image *img = NULL;
	struct err e;

	store_be32(file, 0x514649fb);
	store_be32(file + 4, 2);
	store_be64(file + 8, 200);
	store_be32(file + 16, 8);
	memcpy(file + 200, "base.raw", 8);
	store_be32(file + 20, 12);
	store_be64(file + 24, 65536);
	store_be32(file + 36, 1);
	store_be64(file + 40, CLUSTER);
	if (format_open(&fake_image_from(file, sizeof(file), "over")->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void backing_file_is_read_asked_and_interrupted(void **state)
{
	struct recorder *rec = record(fake_image_new(50000, 1, NULL));
	struct image *img = open_overlay(&rec->img);
	uint64_t allocated;
	uint8_t buf[100];
	struct extent x;

	(void)state;
	assert_string_equal(img->id, "qcow2(over over rec)");
	check_read(img, 49000, 1000);
	assert_int_equal(image_read_at(img, buf, 100, 49950, NULL), 0);
	assert_true(fake_matches(buf, 1, 49950, 50));
	assert_true(is_zero(buf + 50, 50));
	assert_int_equal(image_extent_at(img, 1000, &x, NULL), 0);
	assert_int_equal(x.depth, 1);
	assert_int_equal(x.length, 49000);
	assert_int_equal(image_extent_at(img, 50000, &x, NULL), 0);
	assert_int_equal(x.depth, 0);
	assert_true(x.zero);
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(allocated, 50000);
	image_prefetch(img, 100, 65000);
	assert_int_equal(rec->count, 1);
	assert_int_equal(rec->off[0], 100);
	image_interrupt(img);
	assert_true(rec->interrupted);
	image_close(img);
}

static int refuse(struct err *e)
{
	return err_set(e, -EBADMSG, "it is damaged");
}

static int refuse_read(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)img;
	/* What is looked at when it is opened is there. */
	memset(buf, 1, len);
	return off == 0 ? 0 : refuse(e);
}

static int refuse_extent(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	(void)img;
	(void)off;
	(void)ret;
	return refuse(e);
}

static int refuse_count(struct image *img, uint64_t *ret, struct err *e)
{
	(void)img;
	(void)ret;
	return refuse(e);
}

static int refuse_proof(struct image *img, struct err *e)
{
	(void)img;
	return refuse(e);
}

static void assert_names_backing(const struct err *e)
{
	assert_string_equal(e->text, "backing file \"base.raw\": it is damaged");
}

/* Whatever fails in it, and once however many images stand on it. */
static void backing_file_that_fails_is_named(void **state)
{
	static struct image_ops ops;
	struct image *img = &fake_image_new(50000, 1, NULL)->img;
	struct extent x;
	uint64_t n;

	(void)state;
	ops = *img->ops;
	ops.read_at = refuse_read;
	ops.extent_at = refuse_extent;
	ops.allocated = refuse_count;
	ops.prove = refuse_proof;
	img->ops = &ops;
	for (unsigned int i = 0; i < 2; i++) {
		uint8_t buf[100];
		struct err e;

		img = open_overlay(img);
		assert_int_equal(image_read_at(img, buf, sizeof(buf), 4096, &e), -EBADMSG);
		assert_names_backing(&e);
		assert_int_equal(image_extent_at(img, 4096, &x, &e), -EBADMSG);
		assert_names_backing(&e);
		assert_int_equal(image_allocated(img, &n, &e), -EBADMSG);
		assert_names_backing(&e);
		assert_int_equal(image_prove(img, &e), -EBADMSG);
		assert_names_backing(&e);
	}
	image_close(img);
}

static void count_up(void *ctx)
{
	++*(unsigned int *)ctx;
}

static void backing_file_may_withdraw_and_forget(void **state)
{
	struct fake_image *backing = fake_image_new(50000, 1, NULL);
	struct image *img = open_overlay(&backing->img);
	unsigned int told = 0;

	(void)state;
	image_listen(img, count_up, &told);
	listener_tell(&backing->listener);
	assert_int_equal(told, 1);
	listener_tell(&((struct fake_image *)img->below)->listener);
	assert_int_equal(told, 2);
	image_forget(img);
	assert_int_equal(backing->forgets, 1);
	image_listen(img, NULL, NULL);
	listener_tell(&backing->listener);
	assert_int_equal(told, 2);
	image_close(img);
}

struct reader {
	pthread_t thread;
	struct image *img;
	uint64_t off;
	size_t len;
	int result;
};

static void *read_thread(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[4 * CLUSTER];

	r->result = image_read_at(r->img, buf, r->len, r->off, NULL);
	if (r->result == 0) {
		assert_true(fake_matches(buf, 1, r->off, r->len));
	}
	return NULL;
}

static void start(struct reader *r, struct image *img, uint64_t off, size_t len)
{
	*r = (struct reader){ .img = img, .off = off, .len = len };
	assert_int_equal(pthread_create(&r->thread, NULL, read_thread, r), 0);
}

/* Waits until @n transfers are under way below the gate. */
static void wait_for_transfers(const struct fake_image *f, unsigned int n)
{
	for (unsigned int i = 0; f->now < n && i < 10000; i++) {
		usleep(1000);
	}
	assert_true(f->now >= n);
}

static void readers_of_one_place_share_table_and_decompression(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	struct reader readers[8];

	(void)state;
	f->transfers = 0;
	f->gate_closed = true;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		start(&readers[i], img, 20 * CLUSTER + i, 100);
	}
	wait_for_transfers(f, 1);
	usleep(20000);
	f->gate_closed = false;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].result, 0);
	}
	assert_int_equal(f->transfers, 2);
	image_close(img);
}

static void slow_read_delays_no_other_reader(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	struct reader slow;

	(void)state;
	check_read(img, 20 * CLUSTER, 10);
	f->gate_closed = true;
	start(&slow, img, 24 * CLUSTER, 10);
	wait_for_transfers(f, 1);
	/* What is here is served while the other one waits. */
	check_read(img, 20 * CLUSTER + 50, 100);
	f->gate_closed = false;
	pthread_join(slow.thread, NULL);
	assert_int_equal(slow.result, 0);
	image_close(img);
}

static void overlapping_readers_who_fail_do_not_wait_for_ever(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	struct reader readers[8];

	(void)state;
	check_read(img, 0, 1);
	for (int round = 0; round < 20; round++) {
		f->fail_next = 1 + round % 3;
		f->delay_us = 300;
		for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
			start(&readers[i], img, (16 + i) * CLUSTER + 9, 2 * CLUSTER);
		}
		for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
			pthread_join(readers[i].thread, NULL);
			assert_true(readers[i].result == 0 || readers[i].result == -EIO);
		}
	}
	f->fail_next = 0;
	check_read(img, 16 * CLUSTER, 16 * CLUSTER);
	image_close(img);
}

static void a_broken_entry_hides_no_data_from_the_count(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	uint64_t allocated = 0;

	(void)state;
	store_be64(f->data + L2 + 8, 1ULL << 63 | (DATA + 512));
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(allocated, 33 * CLUSTER);
	image_close(img);
}

static uint64_t reach_of(struct image *img)
{
	struct report r = REPORT_INIT;
	const struct report_item *item;
	uint64_t reach;

	image_report(img, &r);
	item = report_find(&r, "qcow2", "reaches_bytes");
	reach = item ? item->number : 0;
	report_clear(&r);
	return reach;
}

static void what_lies_beyond_the_file_shows_when_it_is_looked_for(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	uint64_t allocated;
	uint64_t tables;

	(void)state;
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(reach_of(img), 0);
	image_close(img);

	f = make_file();
	/* A run that begins within the file, of 2 clusters. */
	store_be64(f->data + L2, 1ULL << 63 | (FILE_SIZE - CLUSTER));
	store_be64(f->data + L2 + 8, 1ULL << 63 | FILE_SIZE);
	img = open_qcow2(&f->img);
	assert_int_equal(reach_of(img), 0);
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(reach_of(img), FILE_SIZE + CLUSTER);
	image_close(img);

	/* A table is known when the image is opened. */
	f = make_file();
	tables = FILE_SIZE + 5 * (uint64_t)CLUSTER;
	store_be64(f->data + L1 + 8, tables);
	img = open_qcow2(&f->img);
	assert_int_equal(reach_of(img), tables + CLUSTER);
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(reach_of(img), tables + CLUSTER);
	image_close(img);
}

/* Tables and clusters that were kept may be of bytes that turned out to be wrong. */
static void what_was_kept_is_forgotten(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_qcow2(&f->img);
	const uint64_t compressed = 16 * CLUSTER + 10;
	uint8_t zeros[100] = { 0 };
	uint8_t buf[100];

	(void)state;
	check_read(img, 0, 100);
	check_read(img, compressed, 100);
	store_be64(f->data + L2, 0);
	memset(f->data + STREAMS + 5, 7, CLUSTER);
	check_read(img, 0, 100);
	check_read(img, compressed, 100);
	image_forget(img);
	assert_int_equal(image_read_at(img, buf, 100, 0, NULL), 0);
	assert_memory_equal(buf, zeros, 100);
	assert_int_equal(image_read_at(img, buf, 100, compressed, NULL), 0);
	assert_int_equal(buf[0], 7);
	image_forget(img);
	f->fail_code = -EBADMSG;
	f->fail_next = 2;
	assert_int_equal(image_read_at(img, buf, 100, 0, NULL), -EBADMSG);
	assert_int_equal(image_read_at(img, buf, 100, compressed, NULL), -EBADMSG);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_kept_is_forgotten),
		cmocka_unit_test(opening_takes_two_reads),
		cmocka_unit_test(small_tables_are_asked_for_at_once_in_order_of_the_file),
		cmocka_unit_test(table_is_read_once_and_data_in_one_piece),
		cmocka_unit_test(neighbouring_streams_are_read_together),
		cmocka_unit_test(places_apart_are_asked_for_before_the_first_is_read),
		cmocka_unit_test(prefetch_names_places_in_the_file_and_reads_nothing),
		cmocka_unit_test(prefetch_of_places_that_are_mixed_names_them_once),
		cmocka_unit_test(failed_read_is_told_and_tried_again),
		cmocka_unit_test(backing_file_is_read_asked_and_interrupted),
		cmocka_unit_test(backing_file_that_fails_is_named),
		cmocka_unit_test(backing_file_may_withdraw_and_forget),
		cmocka_unit_test(readers_of_one_place_share_table_and_decompression),
		cmocka_unit_test(slow_read_delays_no_other_reader),
		cmocka_unit_test(overlapping_readers_who_fail_do_not_wait_for_ever),
		cmocka_unit_test(a_broken_entry_hides_no_data_from_the_count),
		cmocka_unit_test(what_lies_beyond_the_file_shows_when_it_is_looked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
