/* SPDX-License-Identifier: Apache-2.0 */
/* One mount, made and taken away. */
#include "tests/unit/mount_test.h"

#include "tests/unit/test.h"

struct mount_fixture mount_test;

int mount_test_begin(void **state)
{
	(void)state;
	mount_fixture_begin(&mount_test);
	return 0;
}

int mount_test_end(void **state)
{
	(void)state;
	mount_fixture_end(&mount_test);
	return 0;
}

void mount_test_start(const struct mount_plan *plan)
{
	int r = mount_fixture_start(&mount_test, plan);

	if (r != 0) {
		print_error("%s", mount_fixture_log(&mount_test));
	}
	assert_int_equal(r, 0);
}

void mount_test_start_plain(void)
{
	const struct mount_plan plan = { 0 };

	mount_test_start(&plan);
}
