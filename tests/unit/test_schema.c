/* SPDX-License-Identifier: MIT
 *
 * test_schema.c - the tables, their version, the device's name and the epochs.
 *
 * Whatever fails on the way leaves the file as it was, which is also what a crash leaves: each
 * change is one transaction. Where a test says "nothing changed", it compares every page.
 */
#include "ledger.h"
#include "schema.h"
#include "text.h"

#include <outbox/outbox.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct fixture {
    sqlite3 *db;
    sqlite3_stmt *identity; /* kept over calls, as the forwarder does */
    struct ob_error error;
    char folder[32], path[48]; /* of a file, in the tests that need one */
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    return !fixture || sqlite3_open(":memory:", &fixture->db) != SQLITE_OK;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    int failed =
        sqlite3_finalize(fixture->identity) != SQLITE_OK || sqlite3_close(fixture->db) != SQLITE_OK;
    if (fixture->path[0])
        failed |= unlink(fixture->path) != 0 || rmdir(fixture->folder) != 0;
    free(fixture);
    return failed;
}

static int set_up_file(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    memcpy(fixture->folder, "/tmp/outbox-schema-XXXXXX", sizeof "/tmp/outbox-schema-XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    sqlite3_snprintf((int)sizeof fixture->path, fixture->path, "%s/db", fixture->folder);
    return sqlite3_open(fixture->path, &fixture->db) != SQLITE_OK;
}

static void run(sqlite3 *db, const char *sql)
{
    int result = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (result != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    return value;
}

static void make(struct fixture *fixture, const char *device)
{
    int code = ob_schema_make(fixture->db, device, NULL, false, &fixture->error);
    if (code != OUTBOX_OK)
        fail_msg("%d: %s", code, fixture->error.sentence);
    assert_true(sqlite3_get_autocommit(fixture->db));
}

static void assert_finds(struct fixture *fixture, int expected_code, enum ob_schema_found expected)
{
    enum ob_schema_found found = OB_SCHEMA_PRESENT;
    assert_int_equal(ob_schema_find(fixture->db, &found, &fixture->error), expected_code);
    assert_int_equal(found, expected);
}

static struct ob_identity identity_of(struct fixture *fixture, int64_t id)
{
    struct ob_identity identity;
    int code = ob_schema_identity(fixture->db, &fixture->identity, OUTBOX_NORMAL, id, &identity,
                                  &fixture->error);
    if (code != OUTBOX_OK)
        fail_msg("%d: %s", code, fixture->error.sentence);
    return identity;
}

static int identity_code(struct fixture *fixture, int64_t id)
{
    struct ob_identity identity;
    return ob_schema_identity(fixture->db, &fixture->identity, OUTBOX_NORMAL, id, &identity,
                              &fixture->error);
}

/* All pages of the main database. */
struct image {
    unsigned char *bytes;
    sqlite3_int64 size;
};

static struct image take_image(sqlite3 *db)
{
    struct image image = {NULL, 0};
    image.bytes = sqlite3_serialize(db, "main", &image.size, 0);
    assert_true(image.bytes || image.size == 0);
    return image;
}

static void assert_unchanged(sqlite3 *db, struct image before)
{
    struct image after = take_image(db);
    assert_int_equal(after.size, before.size);
    if (before.size > 0)
        assert_memory_equal(after.bytes, before.bytes, (size_t)before.size);
    assert_true(sqlite3_get_autocommit(db));
    sqlite3_free(before.bytes);
    sqlite3_free(after.bytes);
}

/* A call that must fail with this code, with a sentence, and change nothing. */
static void assert_make_fails(struct fixture *fixture, const char *device, int code)
{
    struct image before = take_image(fixture->db);
    assert_int_equal(ob_schema_make(fixture->db, device, NULL, false, &fixture->error), code);
    assert_int_equal(fixture->error.code, code);
    assert_true(strlen(fixture->error.sentence) > 20);
    assert_unchanged(fixture->db, before);
}

/* ---- Making: [attach-1] at its root ---------------------------------------------------------- */

static void test_an_empty_database_has_no_outbox_and_looking_writes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct image before = take_image(fixture->db);
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_MISSING);
    assert_unchanged(fixture->db, before);
}

static void test_the_tables_are_found_after_they_were_made(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct image before = take_image(fixture->db);
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_PRESENT);
    assert_unchanged(fixture->db, before);
}

static void test_making_twice_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct image before = take_image(fixture->db);
    make(fixture, "pump-7");
    make(fixture, NULL);
    assert_unchanged(fixture->db, before);
}

static void test_the_first_row_is_a_tombstone_for_which_the_law_holds(void **state)
{
    struct fixture *fixture = *state;
    struct ob_ledger ledger;
    sqlite3_stmt *row;
    make(fixture, NULL);
    assert_int_equal(
        sqlite3_prepare_v2(fixture->db, "SELECT id, ledger FROM outbox_event", -1, &row, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int64(row, 0), 0);
    const char *text = (const char *)sqlite3_column_text(row, 1);
    assert_true(ob_ledger_parse(&ledger, 0, text, (size_t)sqlite3_column_bytes(row, 1)));
    assert_int_equal(ob_ledger_total(&ledger), 0);
    assert_int_equal(sqlite3_step(row), SQLITE_DONE);
    assert_int_equal(sqlite3_finalize(row), SQLITE_OK);
}

static void test_the_first_event_gets_the_id_1_and_belongs_to_the_first_epoch(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, NULL);
    run(fixture->db, "INSERT INTO outbox_event(topic, payload) VALUES('t', 'p')");
    assert_int_equal(sqlite3_last_insert_rowid(fixture->db), 1);
    assert_int_equal(identity_of(fixture, 1).epoch.first, 1);
}

static void test_events_cost_no_second_tree(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, NULL);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM pragma_index_list('outbox_event')"),
                     0);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM sqlite_master"
                                         " WHERE name = 'sqlite_sequence'"),
                     0);
}

static void test_a_row_of_any_tool_gets_the_time_of_its_insert(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, NULL);
    run(fixture->db, "INSERT INTO outbox_event(topic, payload) VALUES('t', 'p')");
    int64_t age = number(fixture->db, "SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 -"
                                      " created FROM outbox_event WHERE id = 1");
    assert_true(age > -2000 && age < 60000);
}

static void test_people_see_pending_events_without_the_tombstone(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, NULL);
    run(fixture->db, "INSERT INTO outbox_event(topic, created) VALUES('a', 0), ('b', 0)");
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM outbox_pending"), 2);
    assert_int_equal(number(fixture->db, "SELECT created_utc = '1970-01-01 00:00:00'"
                                         " FROM outbox_pending WHERE topic = 'a'"),
                     1);
}

static void test_a_database_full_of_other_tables_keeps_them(void **state)
{
    struct fixture *fixture = *state;
    run(fixture->db, "CREATE TABLE reading(x); INSERT INTO reading VALUES(7);"
                     "CREATE TABLE outbox_of_mine(x)");
    make(fixture, NULL);
    assert_int_equal(number(fixture->db, "SELECT x FROM reading"), 7);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM outbox_of_mine"), 0);
}

static void test_temporary_tables_of_the_same_names_are_not_mistaken(void **state)
{
    struct fixture *fixture = *state;
    run(fixture->db,
        "CREATE TEMP TABLE outbox_event(x); CREATE TEMP TABLE outbox_meta(name, value);"
        "CREATE TEMP TABLE outbox_epoch(lane, first, epoch)");
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_MISSING);
    make(fixture, "pump-7");
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_PRESENT);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM main.outbox_meta"), 4);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM temp.outbox_meta"), 0);
    assert_string_equal(identity_of(fixture, 1).device, "pump-7");
}

/* ---- What cannot be made: [attach-6] at its root --------------------------------------------- */

static void test_tables_of_a_newer_release_are_left_alone(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "UPDATE outbox_meta SET value = 4 WHERE name = 'minimum_reader'");
    assert_finds(fixture, OUTBOX_NEWER_SCHEMA, OB_SCHEMA_MISSING);
    assert_make_fails(fixture, "pump-7", OUTBOX_NEWER_SCHEMA);
    assert_make_fails(fixture, "other", OUTBOX_NEWER_SCHEMA);
    assert_make_fails(fixture, NULL, OUTBOX_NEWER_SCHEMA);
}

static void test_the_version_that_is_needed_is_named_whatever_its_size(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, NULL);
    run(fixture->db, "UPDATE outbox_meta SET value = 4294967297 WHERE name = 'minimum_reader'");
    assert_finds(fixture, OUTBOX_NEWER_SCHEMA, OB_SCHEMA_MISSING);
    assert_non_null(strstr(fixture->error.sentence, "4294967297"));
}

static void test_tables_of_a_newer_release_that_we_may_still_write_are_used(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "UPDATE outbox_meta SET value = 9 WHERE name = 'version';"
                     "INSERT INTO outbox_meta VALUES('of_a_newer_release', 1);"
                     "ALTER TABLE outbox_event ADD COLUMN of_a_newer_release");
    struct image before = take_image(fixture->db);
    make(fixture, "pump-7");
    assert_unchanged(fixture->db, before);
    assert_string_equal(identity_of(fixture, 1).device, "pump-7");
}

static void test_an_outbox_without_one_of_its_tables_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"outbox_event", "outbox_dead", "outbox_epoch",
                                        "outbox_meta"};
    make(fixture, "pump-7");
    for (size_t i = 0; i < COUNT(names); i++) {
        char *away = sqlite3_mprintf("ALTER TABLE %s RENAME TO gone", names[i]);
        char *back = sqlite3_mprintf("ALTER TABLE gone RENAME TO %s", names[i]);
        run(fixture->db, away);
        assert_finds(fixture, OUTBOX_CORRUPT, OB_SCHEMA_MISSING);
        assert_make_fails(fixture, "pump-7", OUTBOX_CORRUPT);
        run(fixture->db, back);
        sqlite3_free(away);
        sqlite3_free(back);
    }
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_PRESENT);
}

static void test_a_table_in_the_way_is_an_error_and_leaves_no_half_of_an_outbox(void **state)
{
    struct fixture *fixture = *state;
    run(fixture->db, "CREATE VIEW outbox_pending AS SELECT 1");
    assert_make_fails(fixture, "pump-7", OUTBOX_SQLITE);
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_MISSING);
}

static void test_a_database_that_cannot_be_written_is_named_so(void **state)
{
    struct fixture *fixture = *state;
    run(fixture->db, "PRAGMA query_only = 1");
    assert_make_fails(fixture, "pump-7", OUTBOX_READONLY);
}

static void test_a_database_that_another_connection_writes_is_busy(void **state)
{
    struct fixture *fixture = *state;
    sqlite3 *other;
    assert_int_equal(sqlite3_open(fixture->path, &other), SQLITE_OK);
    run(other, "BEGIN IMMEDIATE; CREATE TABLE t(x)");
    assert_int_equal(ob_schema_make(fixture->db, NULL, NULL, false, &fixture->error), OUTBOX_BUSY);
    assert_true(sqlite3_get_autocommit(fixture->db));
    run(other, "COMMIT");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    make(fixture, NULL);
}

static void test_a_file_that_is_no_database_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    FILE *file = fopen(fixture->path, "w");
    assert_non_null(file);
    for (int i = 0; i < 100; i++)
        assert_true(fputs("This file holds a letter, and a long one.\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_finds(fixture, OUTBOX_CORRUPT, OB_SCHEMA_MISSING);
    assert_int_equal(ob_schema_make(fixture->db, NULL, NULL, false, &fixture->error),
                     OUTBOX_CORRUPT);
}

static void test_what_another_connection_made_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct ob_error error;
    sqlite3 *other;
    assert_finds(fixture, OUTBOX_OK, OB_SCHEMA_MISSING);
    assert_int_equal(sqlite3_open(fixture->path, &other), SQLITE_OK);
    assert_int_equal(ob_schema_make(other, "first", NULL, false, &error), OUTBOX_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    make(fixture, NULL); /* had seen none, and must not make another one */
    assert_string_equal(identity_of(fixture, 1).device, "first");
}

/* ---- The device's name: [attach-5] at its root ----------------------------------------------- */

static void test_a_new_outbox_gets_the_given_name(void **state)
{
    struct fixture *fixture = *state;
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    make(fixture, "pump-7");
    assert_int_equal(ob_schema_device(fixture->db, device, &fixture->error), OUTBOX_OK);
    assert_string_equal(device, "pump-7");
}

static void test_a_name_of_256_bytes_is_stored_whole(void **state)
{
    struct fixture *fixture = *state;
    char device[OUTBOX_ATTRIBUTE_MAX + 1] = "", stored[OUTBOX_ATTRIBUTE_MAX + 1];
    memset(device, 'd', OUTBOX_ATTRIBUTE_MAX);
    make(fixture, device);
    assert_int_equal(ob_schema_device(fixture->db, stored, &fixture->error), OUTBOX_OK);
    assert_string_equal(stored, device);
    assert_string_equal(identity_of(fixture, 1).device, device);
}

static void test_without_a_name_a_new_outbox_gets_a_random_one(void **state)
{
    struct fixture *fixture = *state;
    char first[OUTBOX_ATTRIBUTE_MAX + 1], second[OUTBOX_ATTRIBUTE_MAX + 1];
    make(fixture, NULL);
    assert_int_equal(ob_schema_device(fixture->db, first, &fixture->error), OUTBOX_OK);
    assert_int_equal(strlen(first), OB_EPOCH_DIGITS);
    assert_int_equal(strspn(first, "0123456789abcdef"), OB_EPOCH_DIGITS);
    assert_string_not_equal(first, identity_of(fixture, 1).epoch.digits);
    run(fixture->db, "DROP TABLE outbox_event; DROP TABLE outbox_meta; DROP TABLE outbox_dead;"
                     "DROP TABLE outbox_urgent; DROP TABLE outbox_epoch; DROP VIEW outbox_pending");
    make(fixture, NULL);
    assert_int_equal(ob_schema_device(fixture->db, second, &fixture->error), OUTBOX_OK);
    assert_string_not_equal(first, second);
}

static void test_a_remade_outbox_has_another_epoch(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct ob_identity before = identity_of(fixture, 1);
    sqlite3_finalize(fixture->identity);
    fixture->identity = NULL;
    run(fixture->db, "DROP TABLE outbox_event; DROP TABLE outbox_meta; DROP TABLE outbox_dead;"
                     "DROP TABLE outbox_urgent; DROP TABLE outbox_epoch; DROP VIEW outbox_pending");
    make(fixture, "pump-7");
    assert_string_not_equal(identity_of(fixture, 1).epoch.digits, before.epoch.digits);
}

static void test_without_a_name_the_stored_one_and_its_epoch_are_kept(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct ob_identity before = identity_of(fixture, 1);
    make(fixture, NULL);
    struct ob_identity after = identity_of(fixture, 1);
    assert_string_equal(after.device, "pump-7");
    assert_string_equal(after.epoch.digits, before.epoch.digits);
}

static void test_another_name_starts_a_new_epoch_for_pending_events_too(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "UPDATE outbox_event SET id = 40, ledger = replace(ledger, '\"base\":0',"
                     " '\"base\":40'); INSERT INTO outbox_event(topic) VALUES('a'), ('b')");
    struct ob_identity before = identity_of(fixture, 41);
    make(fixture, "pump-8");
    for (int64_t id = 41; id <= 43; id++) {
        struct ob_identity after = identity_of(fixture, id);
        assert_string_equal(after.device, "pump-8");
        assert_string_not_equal(after.epoch.digits, before.epoch.digits);
        assert_int_equal(after.epoch.first, 41);
        assert_int_equal(after.until, INT64_MAX);
    }
}

static void test_a_name_that_came_back_does_not_bring_its_epoch_back(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct ob_identity before = identity_of(fixture, 1);
    make(fixture, "pump-8");
    make(fixture, "pump-7");
    assert_string_not_equal(identity_of(fixture, 1).epoch.digits, before.epoch.digits);
}

static void test_another_name_can_be_given_while_the_only_row_has_the_largest_id(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "DELETE FROM outbox_event;"
                     "INSERT INTO outbox_event(id, topic) VALUES(9223372036854775807, 'a')");
    struct ob_identity before = identity_of(fixture, 1);
    make(fixture, "pump-8");
    assert_string_not_equal(identity_of(fixture, 1).epoch.digits, before.epoch.digits);
}

static void break_device(struct fixture *fixture, size_t how)
{
    static const char *const ways[] = {
        "DELETE FROM outbox_meta WHERE name = 'device'",
        "UPDATE outbox_meta SET value = NULL WHERE name = 'device'",
        "UPDATE outbox_meta SET value = '' WHERE name = 'device'",
        "UPDATE outbox_meta SET value = 'a b' WHERE name = 'device'",
        "UPDATE outbox_meta SET value = 'a/b' WHERE name = 'device'",
        "UPDATE outbox_meta SET value = printf('%0257d', 0) WHERE name = 'device'",
    };
    assert_in_range(how, 0, COUNT(ways) - 1);
    run(fixture->db, ways[how]);
}

static void test_a_stored_name_that_no_source_may_hold_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    make(fixture, "pump-7");
    for (size_t how = 0; how < 6; how++) {
        break_device(fixture, how);
        assert_int_equal(ob_schema_device(fixture->db, device, &fixture->error), OUTBOX_CORRUPT);
        assert_int_equal(identity_code(fixture, 1), OUTBOX_CORRUPT);
        run(fixture->db, "INSERT OR REPLACE INTO outbox_meta VALUES('device', 'pump-7')");
    }
    assert_int_equal(identity_code(fixture, 1), OUTBOX_OK);
}

static void test_a_stored_name_that_is_corrupt_is_replaced_by_the_given_one(void **state)
{
    struct fixture *fixture = *state;
    for (size_t how = 0; how < 6; how++) {
        make(fixture, "pump-7");
        struct ob_identity before = identity_of(fixture, 1);
        break_device(fixture, how);
        make(fixture, "pump-7"); /* as the sentence of the error says */
        struct ob_identity after = identity_of(fixture, 1);
        assert_string_equal(after.device, "pump-7");
        assert_string_not_equal(after.epoch.digits, before.epoch.digits);
    }
}

/* ---- Epochs: [P6] ---------------------------------------------------------------------------- */

static void test_an_id_belongs_to_the_last_epoch_that_began_before_it(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    assert_int_equal(ob_schema_new_epoch(fixture->db, OUTBOX_NORMAL, 10, &fixture->error),
                     OUTBOX_OK);
    struct ob_identity first = identity_of(fixture, 1), second = identity_of(fixture, 10);
    assert_string_not_equal(first.epoch.digits, second.epoch.digits);
    assert_int_equal(first.epoch.first, 1);
    assert_int_equal(first.until, 10);
    assert_int_equal(second.epoch.first, 10);
    assert_int_equal(second.until, INT64_MAX);
    assert_string_equal(identity_of(fixture, 9).epoch.digits, first.epoch.digits);
    assert_string_equal(identity_of(fixture, 11).epoch.digits, second.epoch.digits);
    assert_string_equal(identity_of(fixture, OUTBOX_ID_MAX).epoch.digits, second.epoch.digits);
}

static void test_a_new_epoch_replaces_those_that_begin_at_it_or_behind_it(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    struct ob_identity before = identity_of(fixture, 1);
    assert_int_equal(ob_schema_new_epoch(fixture->db, OUTBOX_NORMAL, 10, &fixture->error),
                     OUTBOX_OK);
    assert_int_equal(ob_schema_new_epoch(fixture->db, OUTBOX_NORMAL, 20, &fixture->error),
                     OUTBOX_OK);
    struct ob_identity replaced = identity_of(fixture, 10);
    assert_int_equal(ob_schema_new_epoch(fixture->db, OUTBOX_NORMAL, 10, &fixture->error),
                     OUTBOX_OK);
    struct ob_identity after = identity_of(fixture, 20);
    assert_int_equal(after.epoch.first, 10);
    assert_string_not_equal(after.epoch.digits, replaced.epoch.digits);
    assert_string_equal(identity_of(fixture, 9).epoch.digits, before.epoch.digits);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM outbox_epoch WHERE lane = 'normal'"),
                     2);
}

static void test_epochs_of_another_lane_are_not_looked_at_and_not_touched(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "INSERT INTO outbox_epoch VALUES('urgent', 5, 'ffffffffffffffff')");
    struct ob_identity identity = identity_of(fixture, 7);
    assert_int_equal(identity.epoch.first, 1);
    assert_int_equal(identity.until, INT64_MAX);
    assert_int_equal(ob_schema_new_epoch(fixture->db, OUTBOX_NORMAL, 3, &fixture->error),
                     OUTBOX_OK);
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM outbox_epoch WHERE lane = 'urgent'"),
                     2);
}

static void test_an_id_without_an_epoch_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    assert_int_equal(identity_code(fixture, 0), OUTBOX_CORRUPT);
    run(fixture->db, "DELETE FROM outbox_epoch");
    assert_int_equal(identity_code(fixture, 1), OUTBOX_CORRUPT);
}

static void test_an_epoch_that_is_not_16_clean_characters_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    static const char *const bad[] = {"NULL",
                                      "''",
                                      "'0123456789abcde'",
                                      "'0123456789abcdef0'",
                                      "'0123456789abcde/'",
                                      "'0123456789\nbcdef'",
                                      "7"};
    make(fixture, "pump-7");
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *sql = sqlite3_mprintf("UPDATE outbox_epoch SET epoch = %s", bad[i]);
        run(fixture->db, sql);
        sqlite3_free(sql);
        assert_int_equal(identity_code(fixture, 1), OUTBOX_CORRUPT);
    }
}

static void test_a_failed_look_up_leaves_no_statement_running(void **state)
{
    struct fixture *fixture = *state;
    make(fixture, "pump-7");
    run(fixture->db, "UPDATE outbox_epoch SET epoch = ''");
    assert_int_equal(identity_code(fixture, 1), OUTBOX_CORRUPT);
    assert_false(sqlite3_stmt_busy(fixture->identity));
    run(fixture->db, "UPDATE outbox_epoch SET epoch = '0123456789abcdef'");
    assert_string_equal(identity_of(fixture, 1).epoch.digits, "0123456789abcdef");
    assert_false(sqlite3_stmt_busy(fixture->identity));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_file, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_database_has_no_outbox_and_looking_writes_nothing),
        TEST(test_the_tables_are_found_after_they_were_made),
        TEST(test_making_twice_changes_nothing),
        TEST(test_the_first_row_is_a_tombstone_for_which_the_law_holds),
        TEST(test_the_first_event_gets_the_id_1_and_belongs_to_the_first_epoch),
        TEST(test_events_cost_no_second_tree),
        TEST(test_a_row_of_any_tool_gets_the_time_of_its_insert),
        TEST(test_people_see_pending_events_without_the_tombstone),
        TEST(test_a_database_full_of_other_tables_keeps_them),
        TEST(test_temporary_tables_of_the_same_names_are_not_mistaken),
        TEST(test_tables_of_a_newer_release_are_left_alone),
        TEST(test_the_version_that_is_needed_is_named_whatever_its_size),
        TEST(test_tables_of_a_newer_release_that_we_may_still_write_are_used),
        TEST(test_an_outbox_without_one_of_its_tables_is_corrupt),
        TEST(test_a_table_in_the_way_is_an_error_and_leaves_no_half_of_an_outbox),
        TEST(test_a_database_that_cannot_be_written_is_named_so),
        FILE_TEST(test_a_database_that_another_connection_writes_is_busy),
        FILE_TEST(test_a_file_that_is_no_database_is_corrupt),
        FILE_TEST(test_what_another_connection_made_is_found),
        TEST(test_a_new_outbox_gets_the_given_name),
        TEST(test_a_name_of_256_bytes_is_stored_whole),
        TEST(test_without_a_name_a_new_outbox_gets_a_random_one),
        TEST(test_a_remade_outbox_has_another_epoch),
        TEST(test_without_a_name_the_stored_one_and_its_epoch_are_kept),
        TEST(test_another_name_starts_a_new_epoch_for_pending_events_too),
        TEST(test_a_name_that_came_back_does_not_bring_its_epoch_back),
        TEST(test_another_name_can_be_given_while_the_only_row_has_the_largest_id),
        TEST(test_a_stored_name_that_no_source_may_hold_is_corrupt),
        TEST(test_a_stored_name_that_is_corrupt_is_replaced_by_the_given_one),
        TEST(test_an_id_belongs_to_the_last_epoch_that_began_before_it),
        TEST(test_a_new_epoch_replaces_those_that_begin_at_it_or_behind_it),
        TEST(test_epochs_of_another_lane_are_not_looked_at_and_not_touched),
        TEST(test_an_id_without_an_epoch_is_corrupt),
        TEST(test_an_epoch_that_is_not_16_clean_characters_is_corrupt),
        TEST(test_a_failed_look_up_leaves_no_statement_running),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
