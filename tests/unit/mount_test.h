/* SPDX-License-Identifier: Apache-2.0 */
/* What tests with a mount of their own begin and end with. */
#ifndef TESTS_UNIT_MOUNT_TEST_H
#define TESTS_UNIT_MOUNT_TEST_H

#include "tests/unit/mount_fixture.h"

/* Of the test that runs. */
extern struct mount_fixture mount_test;

/* For cmocka: before and after each test. */
int mount_test_begin(void **state);
int mount_test_end(void **state);

/* The mount is there when they return; the test fails when it is not, and shows what the child
 * said.
 */
void mount_test_start(const struct mount_plan *plan);
void mount_test_start_plain(void);

#endif
