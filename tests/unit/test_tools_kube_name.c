/* SPDX-License-Identifier: Apache-2.0 */
/* Which names objects may have. */
#include "tests/unit/test.h"

#include "core/bytes.h"
#include "tools/kube_name.h"

#define TEN "abcdefghij"

static const struct {
	const char *text;
	bool label;
	bool subdomain;
} rows[] = {
	{ "a", true, true },
	{ "9", true, true },
	{ "fedora-dv", true, true },
	{ "0-0", true, true },
	{ TEN TEN TEN TEN TEN TEN "abc", true, true },
	{ TEN TEN TEN TEN TEN TEN "abcd", false, true },
	{ "a.b", false, true },
	{ "a-b.c0.d", false, true },
	{ "", false, false },
	{ ".", false, false },
	{ "..", false, false },
	{ "a..b", false, false },
	{ ".a", false, false },
	{ "a.", false, false },
	{ "-a", false, false },
	{ "a-", false, false },
	{ "a-.b", false, false },
	{ "A", false, false },
	{ "a_b", false, false },
	{ "a/b", false, false },
	{ "../a", false, false },
	{ "a b", false, false },
	{ "a\n", false, false },
	{ "\xc3\xa9", false, false },
};

static void names_are_taken_or_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (kube_name_is_label(rows[i].text) != rows[i].label ||
			kube_name_is_subdomain(rows[i].text) != rows[i].subdomain) {
			fail_msg("'%s'", rows[i].text);
		}
	}
}

static void a_subdomain_has_at_most_253_characters(void **state)
{
	char text[255];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[254] = '\0';
	assert_false(kube_name_is_subdomain(text));
	text[253] = '\0';
	assert_true(kube_name_is_subdomain(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_taken_or_refused),
		cmocka_unit_test(a_subdomain_has_at_most_253_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
