/* SPDX-License-Identifier: MIT
 *
 * test_verify.c - what must hold of the tables, one breach after another.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

struct findings {
    int count;
    char lane[16], sentence[2048];
};

static void take(void *context, const char *lane, const char *sentence)
{
    struct findings *findings = context;
    findings->count++;
    snprintf(findings->lane, sizeof findings->lane, "%s", lane ? lane : "none");
    size_t len = strlen(findings->sentence);
    snprintf(findings->sentence + len, sizeof findings->sentence - len, "%s\n", sentence);
}

/* [verify-1] */
static void expect_sound(struct bench *bench)
{
    struct findings findings = {0};
    int code = outbox_verify(bench->db, take, &findings);
    if (code != OUTBOX_OK)
        fail_msg("%d: %s: %s", code, findings.lane, findings.sentence);
    assert_int_equal(findings.count, 0);
}

/* ---- Sound ----------------------------------------------------------------------------------- */

/* [verify-1] */
static void test_nothing_is_found_in_a_new_outbox(void **state)
{
    expect_sound(*state);
}

/* [verify-1] all that may happen to events: sent, buried, requeued, expired, evicted, announced */
static void test_nothing_is_found_in_an_outbox_that_has_lived(void **state)
{
    struct bench *bench = *state;
    outbox_config config = {.limits[OUTBOX_NORMAL] = {6, 2000, OUTBOX_EVICT_OLDEST}};
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 3);
    int acked = 0;
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 4; i++)
            bench_put(bench, "a", "b");
        bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('#')");
        bench_sql(bench->db,
                  "INSERT INTO outbox_urgent(topic, expires) VALUES('a', 1735689600001)");
        bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) SELECT max(id) + 3, 'a'"
                             " FROM outbox_event");
        if (round == 5)
            assert_int_equal(outbox_new_epoch(bench->box), OUTBOX_OK);
        outbox_forwarder_committed(bench->forwarder, NULL);
        rig_run(&rig, 1100);
        expect_sound(bench);
        for (int i = 0; i < 5 && round % 4 != 0; i++) {
            int end = rig.link.sent_count;
            rig_ack_from(&rig, acked);
            acked = end;
            expect_sound(bench);
        }
    }
    assert_true(rig_stats(&rig).evicted > 0);
    assert_true(rig_stats(&rig).expired > 0);
    assert_true(rig_stats(&rig).dead_lettered > 0);
    bench_sql(bench->db, "UPDATE outbox_dead SET topic = 'a' WHERE number = 1");
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_OK);
    expect_sound(bench);
}

/* [verify-1] */
static void test_verifying_inside_a_transaction_leaves_it_open(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    expect_sound(bench);
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(bench->db, "DELETE FROM outbox_event");
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_CORRUPT);
    bench_sql(bench->db, "ROLLBACK");
    expect_sound(bench);
}

/* [verify-1] */
static void test_a_read_only_connection_can_verify(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = NULL;
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_open_v2(bench->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(outbox_verify(db, NULL, NULL), OUTBOX_OK);
    assert_int_equal(sqlite3_total_changes(db), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- Not sound ------------------------------------------------------------------------------- */

/* [verify-1] */
static void test_each_breach_is_found_and_named(void **state)
{
    static const struct {
        const char *breach, *lane, *says;
    } cases[] = {
        {"DELETE FROM outbox_event", "normal", "empty"},
        {"DELETE FROM outbox_event WHERE id = 0", "normal", "no mark"},
        {"UPDATE outbox_event SET ledger = 'x' WHERE id = 0", "normal", "cannot be read"},
        {"UPDATE outbox_event SET ledger = replace(ledger, '\"holes\":0', '\"holes\":1')"
         " WHERE id = 0",
         "normal", "add up"},
        {"UPDATE outbox_event SET ledger = 'x' WHERE id = 2", "normal", "row 2 carries a mark"},
        {"INSERT INTO outbox_event(id, topic) VALUES(-3, 'a')", "normal", "-3, carries no mark"},
        {"INSERT INTO outbox_urgent(id, topic) VALUES((1 << 48) + 1, 'a')", "urgent",
         "out of range"},
        {"UPDATE outbox_event SET total = 100", "normal", "running total of row 3"},
        {"UPDATE outbox_event SET ledger = replace(ledger, '}', ',\"drops\":[[2,0,0,0,3,1,1,1]]}')"
         " WHERE id = 0",
         "normal", "announcement 3"},
        {"DELETE FROM outbox_epoch WHERE lane = 'urgent'", "urgent", "no epoch covers"},
        {"UPDATE outbox_epoch SET first = 2 WHERE lane = 'normal'", "normal", "no epoch covers"},
        {"UPDATE outbox_epoch SET epoch = 'short' WHERE lane = 'normal'", "normal",
         "epoch from id 1 cannot be read"},
        {"UPDATE outbox_epoch SET epoch = NULL WHERE lane = 'normal'", "normal",
         "epoch from id 1 cannot be read"},
        {"UPDATE outbox_epoch SET epoch = '0123456789abcde/' WHERE lane = 'normal'", "normal",
         "epoch from id 1 cannot be read"},
        {"UPDATE outbox_epoch SET first = 'one' WHERE lane = 'normal'", "normal",
         "epoch from id 0 cannot be read"},
        {"INSERT INTO outbox_epoch SELECT lane, 9, '0123456789abcdef' FROM outbox_epoch"
         " WHERE lane = 'normal'",
         "normal", "begins behind the next event, 4"},
        {"INSERT INTO outbox_epoch SELECT lane, 3, epoch FROM outbox_epoch WHERE lane = 'normal'",
         "normal", "twice"},
        {"UPDATE outbox_meta SET value = 'no name' WHERE name = 'device'", "none", "device name"},
        {"DELETE FROM outbox_meta WHERE name = 'version'", "none", "schema version"},
        {"INSERT INTO outbox_dead(lane, reason) VALUES('normal', 'why not')", "normal",
         "holds 1 dead letters, but 0"},
        {"INSERT INTO outbox_dead(lane, reason) VALUES('slow', 'why not')", "none",
         "1 dead letters are of no lane"},
        {"INSERT INTO outbox_dead(lane, reason) VALUES('slow', NULL)", "none", "no reason"},
        {"DROP TABLE outbox_dead", "none", "missing"},
    };
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct findings findings = {0};
        expect_sound(bench);
        bench_sql(bench->db, "BEGIN");
        bench_sql(bench->db, cases[i].breach);
        assert_int_equal(outbox_verify(bench->db, take, &findings), OUTBOX_CORRUPT);
        if (!strstr(findings.sentence, cases[i].says))
            fail_msg("%s: %s", cases[i].breach, findings.sentence);
        assert_string_equal(findings.lane, cases[i].lane);
        bench_sql(bench->db, "ROLLBACK");
    }
}

/* [verify-1] */
static void test_a_file_without_an_outbox_has_a_finding(void **state)
{
    struct findings findings = {0};
    sqlite3 *db = NULL;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(outbox_verify(db, take, &findings), OUTBOX_CORRUPT);
    assert_int_equal(findings.count, 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [verify-2] */
static void test_what_cannot_be_verified_is_told_by_its_code(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(outbox_verify(NULL, NULL, NULL), OUTBOX_MISUSE);
    bench_sql(bench->db, "UPDATE outbox_meta SET value = 99 WHERE name = 'minimum_reader'");
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_NEWER_SCHEMA);
    bench_sql(bench->db, "PRAGMA journal_mode = DELETE");
    sqlite3 *other = bench_connect(bench);
    bench_sql(other, "BEGIN EXCLUSIVE");
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_BUSY);
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    if (bench->forwarder)
        rig_stop(&rig);
    return bench_close(state);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, bench_open, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_is_found_in_a_new_outbox),
        CASE(test_nothing_is_found_in_an_outbox_that_has_lived),
        CASE(test_verifying_inside_a_transaction_leaves_it_open),
        CASE(test_a_read_only_connection_can_verify),
        CASE(test_each_breach_is_found_and_named),
        CASE(test_a_file_without_an_outbox_has_a_finding),
        CASE(test_what_cannot_be_verified_is_told_by_its_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
