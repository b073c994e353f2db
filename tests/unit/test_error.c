/* SPDX-License-Identifier: MIT
 *
 * test_error.c - every code has a sentence, and SQLite's results become the right codes.
 */
#include "support.h"

#include "error.h"

#include <limits.h>
#include <string.h>

/* [error-1] */
static void test_every_code_has_a_sentence_of_its_own(void **state)
{
    static const int codes[] = {
#define CODE(name, value, sentence) name,
        OUTBOX_CODE_MAP(CODE)
#undef CODE
    };
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_true(i == 0 ? codes[i] == 0 : codes[i] < codes[i - 1]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(outbox_strerror(codes[i]), outbox_strerror(codes[j]));
    }
}

/* [error-1] */
static void test_a_code_of_somebody_else_has_a_sentence_too(void **state)
{
    (void)state;
    assert_string_equal(outbox_strerror(7), "no code of this library");
    assert_string_equal(outbox_strerror(-1000), "no code of this library");
    assert_string_equal(outbox_strerror(INT_MIN), "no code of this library");
    assert_string_equal(outbox_strerror(INT_MAX), "no code of this library");
}

static void test_results_of_sqlite_become_codes_also_when_extended(void **state)
{
    static const struct {
        int result, code;
    } cases[] = {
        {SQLITE_BUSY, OUTBOX_BUSY},
        {SQLITE_LOCKED, OUTBOX_BUSY},
        {SQLITE_READONLY, OUTBOX_READONLY},
        {SQLITE_CORRUPT, OUTBOX_CORRUPT},
        {SQLITE_MISUSE, OUTBOX_MISUSE},
        {SQLITE_TOOBIG, OUTBOX_TOO_LARGE},
        {SQLITE_IOERR, OUTBOX_SQLITE},
        {SQLITE_ERROR, OUTBOX_SQLITE},
        {SQLITE_BUSY_SNAPSHOT, OUTBOX_BUSY},
        {SQLITE_LOCKED_SHAREDCACHE, OUTBOX_BUSY},
        {SQLITE_FULL, OUTBOX_DISK_FULL},
        {SQLITE_READONLY_DBMOVED, OUTBOX_MOVED},
        {SQLITE_CORRUPT_VTAB, OUTBOX_CORRUPT},
        {SQLITE_NOTADB, OUTBOX_CORRUPT},
        {SQLITE_NOMEM, OUTBOX_NO_MEMORY},
        {SQLITE_IOERR_FSYNC, OUTBOX_SQLITE},
        {SQLITE_CONSTRAINT_CHECK, OUTBOX_SQLITE},
        {SQLITE_CANTOPEN, OUTBOX_SQLITE},
    };
    struct ob_error error;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(ob_error_sqlite(&error, NULL, cases[i].result, "testing"), cases[i].code);
        assert_int_equal(error.code, cases[i].code);
        assert_non_null(strstr(error.sentence, "testing"));
    }
}

/* [error-2] the application's own trigger speaks through it */
static void test_the_message_of_sqlite_is_quoted(void **state)
{
    static const struct {
        const char *sql, *message;
    } cases[] = {
        {"INSERT INTO missing VALUES(1)", "no such table: missing"},
        {"INSERT INTO t VALUES(9)", "CHECK constraint failed: x < 8"},
        {"INSERT INTO u VALUES(1)", "not now"},
    };
    struct ob_error error;
    sqlite3 *db;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    bench_sql(db, "CREATE TABLE t(x CHECK(x < 8)); CREATE TABLE u(x);"
                  "CREATE TRIGGER r BEFORE INSERT ON u BEGIN SELECT RAISE(ABORT, 'not now'); END");
    for (int extended = 0; extended <= 1; extended++) {
        assert_int_equal(sqlite3_extended_result_codes(db, extended), SQLITE_OK);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            int result = sqlite3_exec(db, cases[i].sql, NULL, NULL, NULL);
            assert_int_equal(ob_error_sqlite(&error, db, result, "storing"), OUTBOX_SQLITE);
            assert_non_null(strstr(error.sentence, cases[i].message));
        }
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_a_message_that_belongs_to_another_call_is_not_quoted(void **state)
{
    struct ob_error error;
    sqlite3 *db;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "no SQL", NULL, NULL, NULL), SQLITE_ERROR);
    assert_int_equal(ob_error_sqlite(&error, db, SQLITE_BUSY, "settling"), OUTBOX_BUSY);
    assert_null(strstr(error.sentence, "syntax"));
    assert_non_null(strstr(error.sentence, sqlite3_errstr(SQLITE_BUSY)));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [error-2] */
static void test_a_sentence_that_is_too_long_is_cut(void **state)
{
    struct ob_error error;
    char text[500] = "";
    (void)state;
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(ob_error_set(&error, OUTBOX_SQLITE, "%s", text), OUTBOX_SQLITE);
    assert_int_equal(strlen(error.sentence), sizeof error.sentence - 1);
    ob_error_clear(&error);
    assert_string_equal(error.sentence, "");
    assert_string_equal(outbox_errmsg(NULL), "no error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_sentence_of_its_own),
        cmocka_unit_test(test_a_code_of_somebody_else_has_a_sentence_too),
        cmocka_unit_test(test_results_of_sqlite_become_codes_also_when_extended),
        cmocka_unit_test(test_the_message_of_sqlite_is_quoted),
        cmocka_unit_test(test_a_message_that_belongs_to_another_call_is_not_quoted),
        cmocka_unit_test(test_a_sentence_that_is_too_long_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
