/* SPDX-License-Identifier: MIT
 *
 * test_upgrade.c - a file of an earlier release, and an earlier release on a file of this one.
 *
 * The texts below are those that release 1 of the tables used; they are not to be changed.
 */
#include "support.h"

#include <string.h>

static const char old_tables[] =
    "CREATE TABLE outbox_event(id INTEGER PRIMARY KEY, topic TEXT, payload BLOB,"
    " created INTEGER DEFAULT(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),"
    " retain INTEGER, type TEXT, content_type TEXT, key TEXT, expires INTEGER,"
    " keep_last INTEGER, total INTEGER, ledger TEXT);"
    "CREATE TABLE outbox_urgent(id INTEGER PRIMARY KEY, topic TEXT, payload BLOB,"
    " created INTEGER DEFAULT(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),"
    " retain INTEGER, type TEXT, content_type TEXT, key TEXT, expires INTEGER,"
    " keep_last INTEGER, total INTEGER, ledger TEXT);"
    "CREATE TABLE outbox_dead(number INTEGER PRIMARY KEY, lane TEXT, id INTEGER, epoch TEXT,"
    " topic, payload, created, retain, type, content_type, key, expires, keep_last, reason TEXT,"
    " died INTEGER);"
    "CREATE TABLE outbox_epoch(lane TEXT, first INTEGER, epoch TEXT, PRIMARY KEY(lane, first));"
    "CREATE TABLE outbox_meta(name TEXT PRIMARY KEY, value);"
    "CREATE VIEW outbox_pending AS"
    " SELECT 'urgent' AS lane, id, topic FROM outbox_urgent WHERE ledger IS NULL UNION ALL"
    " SELECT 'normal' AS lane, id, topic FROM outbox_event WHERE ledger IS NULL;"
    "INSERT INTO outbox_meta(name, value) VALUES('version', 1), ('minimum_reader', 1),"
    " ('barrier', 0), ('device', 'pump-7');"
    "INSERT INTO outbox_epoch SELECT * FROM kept_epoch;"
    "INSERT INTO outbox_event(id, created, ledger) SELECT id, NULL, ledger FROM kept_event;"
    "INSERT INTO outbox_urgent(id, created, ledger) SELECT id, NULL, ledger FROM kept_urgent;"
    "INSERT INTO outbox_event(topic, payload) VALUES('old', 'still here')";

/* Puts the tables of that release in the place of ours; nobody is attached afterwards. */
static void age(struct bench *bench)
{
    outbox_detach(bench->box);
    bench->box = NULL;
    bench_sql(bench->db, "BEGIN;"
                         "CREATE TEMP TABLE kept_epoch AS SELECT * FROM outbox_epoch;"
                         "CREATE TEMP TABLE kept_event AS SELECT id, ledger FROM outbox_event;"
                         "CREATE TEMP TABLE kept_urgent AS SELECT id, ledger FROM outbox_urgent;"
                         "DROP VIEW outbox_pending; DROP TABLE outbox_event;"
                         "DROP TABLE outbox_urgent; DROP TABLE outbox_dead;"
                         "DROP TABLE outbox_epoch; DROP TABLE outbox_meta;");
    bench_sql(bench->db, old_tables);
    bench_sql(bench->db, "COMMIT");
}

static int64_t columns_of(const struct bench *bench)
{
    return bench_number(bench->db,
                        "SELECT (SELECT count(*) FROM pragma_table_info('outbox_event')) * 10000 +"
                        " (SELECT count(*) FROM pragma_table_info('outbox_urgent')) * 100 +"
                        " (SELECT count(*) FROM pragma_table_info('outbox_dead'))");
}

static void assert_upgraded(const struct bench *bench)
{
    assert_int_equal(columns_of(bench), 131316);
    assert_int_equal(
        bench_number(bench->db, "SELECT value FROM outbox_meta WHERE name = 'version'"), 3);
    assert_int_equal(
        bench_number(bench->db, "SELECT value FROM outbox_meta WHERE name = 'minimum_reader'"), 1);
}

/* [attach-7] */
static void test_attach_adds_the_columns_that_a_file_of_an_earlier_release_lacks(void **state)
{
    struct bench *bench = *state;
    age(bench);
    assert_int_equal(columns_of(bench), 121215);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    assert_upgraded(bench);
    const outbox_event event = {.topic = "new", .correlation_id = "order 9"};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_pending WHERE"
                                             " (topic = 'old' AND headers IS NULL) OR"
                                             " (topic = 'new' AND headers LIKE 'corr%order 9_')"),
                     2);
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_OK);
}

/* [heap-1] what there is less in a small heap is left out of a new file alone */
static void test_a_small_heap_takes_no_view_away_from_a_file_that_has_it(void **state)
{
    struct bench *bench = *state;
    age(bench);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.small_heap = 1}, &bench->box),
                     OUTBOX_OK);
    assert_upgraded(bench);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_pending WHERE headers IS NULL"), 1);
}

static void test_a_second_attach_writes_nothing(void **state)
{
    struct bench *bench = *state;
    age(bench);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    outbox_detach(bench->box);
    int before = sqlite3_total_changes(bench->db);
    int64_t version = bench_number(bench->db, "PRAGMA schema_version");
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    assert_int_equal(sqlite3_total_changes(bench->db), before);
    assert_int_equal(bench_number(bench->db, "PRAGMA schema_version"), version);
}

/* [attach-6] */
static void test_an_attach_that_cannot_write_leaves_the_file_as_it_was(void **state)
{
    struct bench *bench = *state;
    age(bench);
    sqlite3 *other = bench_connect(bench);
    bench_sql(other, "BEGIN IMMEDIATE");
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_BUSY);
    assert_null(bench->box);
    assert_int_equal(columns_of(bench), 121215);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static int deny_view(void *context, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    (void)context, (void)a, (void)b, (void)c, (void)d;
    return action == SQLITE_CREATE_VIEW ? SQLITE_DENY : SQLITE_OK;
}

/* [attach-6] the last step fails, and none of those before it is left */
static void test_an_upgrade_that_fails_half_way_changes_nothing(void **state)
{
    struct bench *bench = *state;
    age(bench);
    sqlite3_set_authorizer(bench->db, deny_view, NULL);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(columns_of(bench), 121215);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_pending"), 1);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    assert_upgraded(bench);
}

static void test_a_forwarder_by_hand_adds_them_too(void **state)
{
    static struct rig rig;
    struct bench *bench = *state;
    age(bench);
    rig_start(&rig, bench, NULL);
    assert_upgraded(bench);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_string_equal(rig.link.sent[0].topic, "old");
    rig_stop(&rig);
}

/* What release 1 does with the tables of a later one: it names its columns, so ours stay empty. */
static void test_the_statements_of_the_earlier_release_work_on_a_file_of_this_one(void **state)
{
    struct bench *bench = *state;
    const outbox_event event = {.topic = "new", .traceparent = "00-1-2-01"};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    bench_sql(bench->db,
              "INSERT INTO outbox_event(topic, payload, created, retain, type, content_type, key,"
              " expires, keep_last) VALUES('of the older', 'x', 1, NULL, NULL, NULL, NULL, NULL,"
              " NULL);"
              "INSERT INTO outbox_dead(lane, id, epoch, topic, payload, created, retain, type,"
              " content_type, key, expires, keep_last, reason, died)"
              " SELECT 'normal', id, 'e', topic, payload, created, retain, type, content_type, key,"
              " expires, keep_last, 'why not', 1 FROM outbox_event WHERE topic = 'new'");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_pending"), 2);
    /* Its tombstone keeps a header that nobody reads. */
    bench_sql(bench->db,
              "UPDATE outbox_event SET topic = NULL, payload = NULL, created = NULL, retain = NULL,"
              " type = NULL, content_type = NULL, key = NULL, expires = NULL, keep_last = NULL,"
              " ledger = (SELECT ledger FROM outbox_event WHERE id = 0) WHERE id = 0;"
              "UPDATE outbox_event SET headers = 'site=7' WHERE id = 0");
    static struct rig rig;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    rig_stop(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)
    const struct CMUnitTest tests[] = {
        TEST(test_attach_adds_the_columns_that_a_file_of_an_earlier_release_lacks),
        TEST(test_a_small_heap_takes_no_view_away_from_a_file_that_has_it),
        TEST(test_a_second_attach_writes_nothing),
        TEST(test_an_attach_that_cannot_write_leaves_the_file_as_it_was),
        TEST(test_an_upgrade_that_fails_half_way_changes_nothing),
        TEST(test_a_forwarder_by_hand_adds_them_too),
        TEST(test_the_statements_of_the_earlier_release_work_on_a_file_of_this_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
