/* SPDX-License-Identifier: MIT
 *
 * test_old_sqlite.c - a shared library of SQLite that is older than the headers it was compiled
 * with.
 */
#include "support.h"

#include <string.h>

/* In place of SQLite's own. */
int sqlite3_libversion_number(void)
{
    return 3033000;
}

/* [attach-6] */
static void test_a_sqlite_that_is_too_old_is_refused_and_nothing_is_made(void **state)
{
    sqlite3 *db = NULL;
    outbox *box = NULL;
    char sentence[200] = "";
    outbox_config config = {.sentence = sentence, .sentence_size = sizeof sentence};
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(outbox_attach(db, &config, &box), OUTBOX_OLD_SQLITE);
    assert_null(box);
    assert_non_null(strstr(sentence, "3.34.0"));
    assert_int_equal(bench_number(db, "SELECT count(*) FROM sqlite_master"), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sqlite_that_is_too_old_is_refused_and_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
