/* SPDX-License-Identifier: MIT
 *
 * test_clock.c - the time of an event, by whatever clock the database's VFS has.
 */
#include "sql.h"
#include "support.h"

static const sqlite3_int64 julian_1970 = 210866760000000;
static sqlite3_int64 clock_ms;
static int clock_result;

static int exact(sqlite3_vfs *vfs, sqlite3_int64 *now)
{
    (void)vfs;
    *now = clock_ms;
    return clock_result;
}

static int in_days(sqlite3_vfs *vfs, double *days)
{
    (void)vfs;
    *days = (double)clock_ms / 86400000.0;
    return clock_result;
}

static int set_up(void **state)
{
    (void)state;
    clock_ms = julian_1970 + 1750000000000;
    clock_result = SQLITE_OK;
    return 0;
}

static void test_the_exact_clock_of_a_vfs_is_taken(void **state)
{
    (void)state;
    sqlite3_vfs vfs = {.iVersion = 2, .xCurrentTimeInt64 = exact};
    assert_int_equal(ob_sql_now(&vfs), 1750000000000);
}

static void test_a_vfs_of_the_first_version_tells_the_time_in_days(void **state)
{
    (void)state;
    sqlite3_vfs vfs = {.iVersion = 1, .xCurrentTimeInt64 = exact, .xCurrentTime = in_days};
    assert_in_range(ob_sql_now(&vfs), 1749999999900, 1750000000100);
    vfs.iVersion = 2;
    vfs.xCurrentTimeInt64 = NULL;
    assert_in_range(ob_sql_now(&vfs), 1749999999900, 1750000000100);
}

static void test_without_a_clock_that_works_the_time_is_unknown(void **state)
{
    (void)state;
    sqlite3_vfs old = {.iVersion = 1, .xCurrentTime = in_days};
    sqlite3_vfs new = {.iVersion = 2, .xCurrentTimeInt64 = exact};
    sqlite3_vfs none = {.iVersion = 1};
    clock_result = SQLITE_ERROR;
    assert_int_equal(ob_sql_now(&old), 0);
    assert_int_equal(ob_sql_now(&new), 0);
    assert_int_equal(ob_sql_now(&none), 0);
    assert_int_equal(ob_sql_now(NULL), 0);
}

static void test_a_time_before_1970_is_unknown(void **state)
{
    (void)state;
    sqlite3_vfs vfs = {.iVersion = 2, .xCurrentTimeInt64 = exact};
    clock_ms = julian_1970 - 1;
    assert_int_equal(ob_sql_now(&vfs), 0);
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_exact_clock_of_a_vfs_is_taken),
        CASE(test_a_vfs_of_the_first_version_tells_the_time_in_days),
        CASE(test_without_a_clock_that_works_the_time_is_unknown),
        CASE(test_a_time_before_1970_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
