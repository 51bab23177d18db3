/* SPDX-License-Identifier: Apache-2.0 */
/* Reports as JSON and as text. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/fake_image.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/render.h"
#include "tools/show.h"

static void sizes_are_short_and_never_round_up_to_a_lie(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{ 0, "0 B" },
		{ 512, "512 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 10 << 20, "10 MiB" },
		{ (1 << 20) - 1, "1.0 MiB" },
		{ 2147483648, "2 GiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char buf[RENDER_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_string_equal(render_size(rows[i].bytes, buf), rows[i].text);
	}
	assert_string_equal(render_percent(0, 100, buf), "0 %");
	assert_string_equal(render_percent(1, 1000000, buf), "under 0.1 %");
	assert_string_equal(render_percent(5, 100, buf), "5.0 %");
	assert_string_equal(render_percent(37, 100, buf), "37 %");
	assert_string_equal(render_percent(999999, 1000000, buf), "99.9 %");
	assert_string_equal(render_percent(100, 100, buf), "100 %");
	assert_string_equal(render_percent(0, 0, buf), "100 %");
	assert_string_equal(render_rate(1536, buf), "1.5 KiB/s");
	assert_string_equal(render_duration_us(0, buf), "0 s");
	assert_string_equal(render_duration_us(340, buf), "340 us");
	assert_string_equal(render_duration_us(12100, buf), "12.1 ms");
	assert_string_equal(render_duration_us(59900000, buf), "59.9 s");
	assert_string_equal(render_duration_us(187000000, buf), "3 min 7 s");
	assert_string_equal(render_duration_us(7260000000, buf), "2 h 1 min");
	assert_string_equal(render_duration_us(180000000000, buf), "2 days 2 h");
}

static void columns_are_aligned_and_names_cannot_move_the_cursor(void **state)
{
	static const char *const cells[] = { "N", "NAME", "X", "100", "a\033[2J", "y" };
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	render_table(out, cells, 2, 3, 0x1);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "  N  NAME   X\n100  a?[2J  y\n");
	free(text);
}

static void layers_become_objects_in_their_order(void **state)
{
	struct report r = REPORT_INIT;
	json_t *layers;
	char *text;

	(void)state;
	report_layer(&r, "qcow2");
	report_u64(&r, "size", 5);
	report_bool(&r, "subclusters", true);
	report_layer(&r, "http");
	report_text(&r, "url", "http://h/\"x\"\xff");
	report_u64(&r, "huge", UINT64_MAX);
	layers = json_layers(&r);
	text = json_dumps(layers, JSON_COMPACT);
	assert_string_equal(text,
		"[{\"name\":\"qcow2\",\"size\":5,\"subclusters\":true},"
		"{\"name\":\"http\",\"url\":\"http://h/\\\"x\\\"?\",\"huge\":9223372036854775807}]");
	free(text);
	json_decref(layers);
	report_clear(&r);
}

static void an_image_tells_its_name_source_size_and_layers(void **state)
{
	struct fake_image *f = fake_image_new(4096, 1, "id");
	json_t *image = json_image(&f->img, "a.raw", "http://h/a");
	json_t *layer;

	(void)state;
	assert_non_null(image);
	assert_string_equal(json_string_value(json_object_get(image, "name")), "a.raw");
	assert_string_equal(json_string_value(json_object_get(image, "source")), "http://h/a");
	assert_int_equal(json_integer_value(json_object_get(image, "size")), 4096);
	layer = json_array_get(json_object_get(image, "layers"), 0);
	assert_int_equal(json_integer_value(json_object_get(layer, "size")), 4096);
	json_decref(image);
	image_close(&f->img);
}

static char *shown(void (*show)(FILE *, const json_t *), const char *json)
{
	json_t *image = json_loads(json, 0, NULL);
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(image);
	assert_non_null(out);
	show(out, image);
	assert_int_equal(fclose(out), 0);
	json_decref(image);
	return text;
}

static const char remote[] =
	"{\"name\": \"a.raw\", \"source\": \"https://h/a.qcow2\", \"size\": 2147483648,"
	" \"allocated_bytes\": 1073741824, \"layers\": ["
	"{\"name\": \"qcow2\", \"size\": 2147483648, \"version\": 3, \"cluster_size\": 65536,"
	" \"compression\": \"zlib\", \"subclusters\": false, \"l2_tables_read\": 4},"
	"{\"name\": \"cache\", \"size\": 1048576, \"mode\": \"disk\", \"present_bytes\": 524288,"
	" \"hits\": 10, \"misses\": 4, \"joined\": 1, \"waits\": 4, \"wait_ms\": 50,"
	" \"bytes_prefetched\": 1024, \"bytes_wasted\": 0, \"rtt_us\": 12100,"
	" \"bytes_per_s\": 1048576, \"torn\": 2, \"bypassed\": 0},"
	"{\"name\": \"http\", \"size\": 1048576, \"url\": \"https://h/a.qcow2\","
	" \"requests\": 7, \"bytes_fetched\": 600000, \"retries\": 1, \"unconfirmed\": true}]}";

static void status_tells_what_was_fetched_and_how_long_readers_waited(void **state)
{
	char *text = shown(show_status, remote);

	(void)state;
	assert_non_null(strstr(text, "512 KiB of 1 MiB (50 %)\n"));
	assert_non_null(strstr(text, "10 hits, 4 misses, 1 joined"));
	assert_non_null(strstr(text, "4 reads, 50.0 ms in all, 12.5 ms each"));
	assert_non_null(strstr(text, "585.9 KiB in 7 requests"));
	assert_non_null(strstr(text, "1 MiB/s, round trip 12.1 ms"));
	assert_non_null(strstr(text, "2 damaged"));
	assert_non_null(strstr(text, "does not answer"));
	assert_null(strstr(text, "could not take"));
	assert_null(strstr(text, "boot"));
	assert_null(strstr(text, "completion"));
	free(text);
}

static void status_tells_what_a_trace_was_good_for_and_how_far_completion_is(void **state)
{
	char *text = shown(show_status,
		"{\"layers\": [{\"name\": \"cache\", \"trace_boots\": 3, \"trace_bytes\": 4194304,"
		" \"bytes_replayed\": 2097152, \"bytes_foreseen\": 1048576, \"replaying\": true,"
		" \"touched_bytes\": 1048576, \"foretold_bytes\": 786432, \"tracing\": true,"
		" \"bytes_demanded\": 524288, \"bytes_prefetched\": 3145728,"
		" \"bytes_wasted\": 65536, \"completion\": \"running\","
		" \"bytes_completed\": 131072}]}");

	(void)state;
	assert_non_null(strstr(
		text, "of 3 boots: 4 MiB, fetched 2 MiB of it so far, read 1 MiB of that\n"));
	assert_non_null(strstr(text, "1 MiB, 75 % of it foretold; still recording\n"));
	assert_non_null(strstr(text, "512 KiB, and ahead of that 3 MiB, of which unused 64 KiB\n"));
	assert_non_null(strstr(text, "running, 128 KiB fetched for it\n"));
	assert_null(strstr(text, "checksum"));
	free(text);
	text = shown(show_status, "{\"layers\": [{\"name\": \"cache\", \"completion\":"
				  " \"done\", \"verified\": true, \"trace_boots\": 1}]}");
	assert_non_null(strstr(text, "of 1 boot:"));
	assert_non_null(strstr(text, "done, 0 B fetched for it\n"));
	assert_non_null(strstr(text, "checksum       verified\n"));
	free(text);
	text = shown(show_status, "{\"layers\": [{\"name\": \"cache\", \"completion\": \"no room\","
				  " \"verified\": false}]}");
	assert_non_null(strstr(text, "given up"));
	assert_non_null(strstr(text, "does not match"));
	free(text);
}

static void status_tells_where_changes_go_and_how_many_there_are(void **state)
{
	static const char overlay[] =
		"{\"name\": \"a.raw\", \"layers\": [{\"name\": \"overlay\", \"size\": 1048576,"
		" \"file\": \"%s\", \"present_bytes\": 65536, \"zero_bytes\": 4096,"
		" \"writes\": 5, \"bytes_written\": 8192, \"flushes\": 3}]}";
	char json[512];
	char *text;

	(void)state;
	snprintf(json, sizeof(json), overlay, "/x/vm.overlay");
	text = shown(show_status, json);
	assert_non_null(strstr(text, "in /x/vm.overlay\n"));
	assert_non_null(strstr(text, "64 KiB of 1 MiB, zeroed 4 KiB\n"));
	assert_non_null(strstr(text, "8 KiB in 5 writes, 3 flushes\n"));
	free(text);
	snprintf(json, sizeof(json), overlay, "");
	text = shown(show_status, json);
	assert_non_null(strstr(text, "forgotten with the mount"));
	free(text);
}

static void info_tells_the_facts_of_each_layer_and_no_counters(void **state)
{
	char *text = shown(show_info, remote);

	(void)state;
	assert_non_null(strstr(text, "2 GiB (2147483648 bytes)"));
	assert_non_null(strstr(text, "1 GiB (50 %)"));
	assert_non_null(strstr(text, "cluster size   64 KiB"));
	assert_non_null(strstr(text, "present        512 KiB (50 %)"));
	assert_non_null(strstr(text, "subclusters    no"));
	assert_null(strstr(text, "hits"));
	assert_null(strstr(text, "requests"));
	free(text);
}

static void a_status_without_layers_or_numbers_is_shown_all_the_same(void **state)
{
	static const char *const rows[] = { "{}", "{\"layers\": 5, \"size\": -1, \"name\": []}",
		"{\"layers\": [{\"name\": \"cache\"}, {\"name\": \"http\"}, 7]}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		free(shown(show_status, rows[i]));
		free(shown(show_info, rows[i]));
	}
}

static void errors_of_sources_have_their_exit_codes(void **state)
{
	static const int network[] = { ENOENT, EACCES, EKEYREJECTED, ENXIO, ETIMEDOUT, ECONNRESET,
		EPROTO };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(network); i++) {
		assert_int_equal(exitcode_of_source(-network[i]), 3);
	}
	assert_int_equal(exitcode_of_source(-EBADMSG), 4);
	assert_int_equal(exitcode_of_source(-ENOTSUP), 4);
	assert_int_equal(exitcode_of_source(-ENOKEY), 6);
	assert_int_equal(exitcode_of_source(-EINVAL), 2);
	assert_int_equal(exitcode_of_source(-ENOMEM), 1);
	assert_int_equal(exitcode_of_source(-ESTALE), 1);
	assert_int_equal(exitcode_of_mountpoint(-EBUSY), 5);
	assert_int_equal(exitcode_of_mountpoint(-ENODEV), 5);
	assert_int_equal(exitcode_of_mountpoint(-ENOMEM), 1);
	assert_int_equal(exitcode_of_overlay(-EBUSY), 5);
	assert_int_equal(exitcode_of_overlay(-EINVAL), 5);
	assert_int_equal(exitcode_of_overlay(-EBADMSG), 4);
	assert_int_equal(exitcode_of_overlay(-ESTALE), 4);
	assert_int_equal(exitcode_of_overlay(-ENOMEM), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_short_and_never_round_up_to_a_lie),
		cmocka_unit_test(columns_are_aligned_and_names_cannot_move_the_cursor),
		cmocka_unit_test(layers_become_objects_in_their_order),
		cmocka_unit_test(an_image_tells_its_name_source_size_and_layers),
		cmocka_unit_test(status_tells_what_was_fetched_and_how_long_readers_waited),
		cmocka_unit_test(status_tells_where_changes_go_and_how_many_there_are),
		cmocka_unit_test(status_tells_what_a_trace_was_good_for_and_how_far_completion_is),
		cmocka_unit_test(info_tells_the_facts_of_each_layer_and_no_counters),
		cmocka_unit_test(a_status_without_layers_or_numbers_is_shown_all_the_same),
		cmocka_unit_test(errors_of_sources_have_their_exit_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
