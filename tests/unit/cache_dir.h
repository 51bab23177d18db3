/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for each test that wants one, gone afterwards: *state is its path. */
#ifndef TESTS_UNIT_CACHE_DIR_H
#define TESTS_UNIT_CACHE_DIR_H

#include "tests/unit/test.h"

int cache_dir_make(void **state);
int cache_dir_remove(void **state);

#define CACHE_DIR_TEST(f) cmocka_unit_test_setup_teardown(f, cache_dir_make, cache_dir_remove)

#endif
