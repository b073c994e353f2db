/* SPDX-License-Identifier: MIT
 *
 * test_front.c - the front of outbox_event in the hands of others: marks that are spoilt or moved,
 * triggers that meddle with what is written, and somebody who acts between a look and the mending.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;
/* What is moved to outbox_dead is not announced, so that only the events of a test are counted. */
static const outbox_forwarder_config silent = {.announce_topic = ""};

static void start(void **state, const outbox_forwarder_config *config)
{
    rig_start(&rig, *state, config ? config : &silent);
}

static void put(struct bench *bench, int count)
{
    for (int i = 0; i < count; i++)
        bench_put(bench, "a", "b");
}

static int64_t dead(struct bench *bench, const char *reason)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM outbox_dead WHERE reason LIKE '%%%s%%'",
             reason);
    return bench_number(bench->db, sql);
}

static int64_t epochs(struct bench *bench)
{
    return bench_number(bench->db,
                        "SELECT count(DISTINCT epoch) FROM outbox_epoch WHERE lane = 'normal'");
}

/* [P4] */
static void check_law(struct bench *bench)
{
    assert_int_equal(
        bench_number(bench->db,
                     "SELECT id = (ledger->>'base') + (ledger->>'delivered') + (ledger->>'evicted')"
                     " + (ledger->>'dead') + (ledger->>'holes')"
                     " FROM outbox_event ORDER BY id LIMIT 1"),
        1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE ledger IS NOT NULL"), 1);
}

/* The forwarder's part alone: while the front is broken there are no counts. */
static outbox_statistics forwarder_stats(struct bench *bench)
{
    outbox_statistics now = {0};
    outbox_forwarder_stats(bench->forwarder, &now);
    return now;
}

/* All that is pending goes out, whatever connection it takes. Acks that are repeated do no harm. */
static void drain(struct bench *bench)
{
    for (int i = 0; i < 20; i++) {
        rig_reconnect(&rig, 100);
        rig_run(&rig, 1100);
        rig_ack_from(&rig, 0);
    }
    assert_int_equal(rig_stats(&rig).pending, 0);
    check_law(bench);
}

/* ---- Marks ----------------------------------------------------------------------------------- */

static void expect_mended(void **state, const char *by_hand, int dead_letters)
{
    struct bench *bench = *state;
    put(bench, 3);
    bench_sql(bench->db, by_hand);
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 3);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), dead_letters);
    check_law(bench);
}

static void test_a_mark_longer_than_any_of_ours_is_no_tombstone(void **state)
{
    expect_mended(state,
                  "UPDATE outbox_event SET ledger = substr(ledger, 1, length(ledger) - 1)"
                  " || ',\"x\":\"' || hex(zeroblob(300)) || '\"}' WHERE ledger IS NOT NULL",
                  1);
}

static void test_a_tombstone_moved_to_another_id_is_no_tombstone(void **state)
{
    expect_mended(state, "UPDATE outbox_event SET id = -5 WHERE ledger IS NOT NULL", 1);
}

static void test_several_spoilt_marks_are_all_taken_off(void **state)
{
    expect_mended(state,
                  "UPDATE outbox_event SET ledger = 'spoilt' WHERE ledger IS NOT NULL;"
                  "INSERT INTO outbox_event(id, topic, ledger) VALUES(-3, 'a', 'spoilt too')",
                  2);
}

/* The same, moved while the forwarder knows it. [P4] */
static void test_a_known_tombstone_that_is_moved_keeps_the_counts(void **state)
{
    struct bench *bench = *state;
    put(bench, 3);
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    put(bench, 2);
    bench_sql(bench->db, "UPDATE outbox_event SET id = -5 WHERE ledger IS NOT NULL");
    drain(bench);
    assert_int_equal(rig_stats(&rig).delivered, 5);
    assert_int_equal(epochs(bench), 2);
}

/* [P4] the forwarder has never seen this tombstone, and believes it all the same */
static void test_a_row_below_an_unseen_tombstone_changes_neither_counts_nor_epoch(void **state)
{
    struct bench *bench = *state;
    put(bench, 2);
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    rig_stop(&rig);
    put(bench, 1);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(-7, 'a')");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 1500);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(dead(bench, "below events"), 1);
    assert_int_equal(epochs(bench), 1);
    check_law(bench);
}

/* [P6] */
static void test_without_a_tombstone_and_with_ids_out_of_range_alone_ids_start_anew(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "DELETE FROM outbox_event;"
                         "INSERT INTO outbox_event(id, topic) VALUES(281474976710657, 'a')");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 2500);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(dead(bench, "2^48"), 1);
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    drain(bench);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* Another connection removes the events up to `id` and counts them as evicted. */
static void remove_counted(struct bench *bench, int id)
{
    char sql[600];
    snprintf(sql, sizeof sql,
             "BEGIN; DELETE FROM outbox_event WHERE id < %d;"
             "UPDATE outbox_event SET topic = NULL, payload = NULL, created = NULL,"
             " content_type = NULL, ledger = '{\"base\":0,\"last\":0,\"delivered\":0,"
             "\"expired\":0,\"evicted\":%d,\"superseded\":0,\"dead\":0,\"holes\":0}'"
             " WHERE id = %d; COMMIT",
             id, id, id);
    bench_sql(bench->db, sql);
}

static void test_a_row_below_a_tombstone_that_has_moved_on_is_mended_with_it(void **state)
{
    struct bench *bench = *state;
    put(bench, 5);
    start(state, NULL);
    rig_connect(&rig, 100);
    remove_counted(bench, 2);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'late')");
    rig_ack_from(&rig, 0);
    drain(bench);
    assert_int_equal(rig_stats(&rig).evicted, 2);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(dead(bench, "below events"), 1);
    assert_int_equal(rig.link.sent_count, 5);
    assert_int_equal(epochs(bench), 1);
}

/* [step-4] */
static void test_a_refusal_lasts_when_events_ahead_of_it_are_removed(void **state)
{
    struct bench *bench = *state;
    put(bench, 4);
    start(state, NULL);
    rig_connect(&rig, 100);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0x97);
    rig_step(&rig);
    remove_counted(bench, 2);
    rig_reconnect(&rig, 100);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 3);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    drain(bench);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

/* [P6] a PUBACK of the old epoch must not be taken for an event of the new one */
static void test_a_new_epoch_while_events_are_in_flight_ends_the_connection(void **state)
{
    struct bench *bench = *state;
    put(bench, 3);
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 3);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE ledger IS NOT NULL");
    put(bench, 1);
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.closes, 1);
    assert_int_equal(rig_stats(&rig).in_flight, 0);
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 1100);
    assert_int_equal(rig_stats(&rig).delivered, 0);
    drain(bench);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    assert_string_not_equal(rig.link.sent[0].source, rig.link.sent[3].source);
}

/* [P6] each event has the source of its own epoch, and names nobody of another one as previous */
static void test_an_epoch_may_begin_in_the_middle_of_a_batch(void **state)
{
    struct bench *bench = *state;
    put(bench, 4);
    bench_sql(bench->db, "INSERT INTO outbox_epoch VALUES('normal', 3, '0123456789abcdef')");
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2); /* it begins when the other one is acked */
    rig_ack_from(&rig, 0);
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, 4);
    assert_string_equal(rig.link.sent[0].source, rig.link.sent[1].source);
    assert_null(strstr(rig.link.sent[1].source, "0123456789abcdef"));
    assert_non_null(strstr(rig.link.sent[2].source, "0123456789abcdef"));
    assert_int_equal(rig.link.sent[1].previous, 1);
    assert_true(rig.link.sent[2].previous <= 0);
    assert_int_equal(rig.link.sent[3].previous, 3);
}

/* ---- Triggers on the outbox's own tables ----------------------------------------------------- */

/* [P9] nothing is half-changed, and nothing is lost once the trigger is gone */
static void expect_failure_until_dropped(void **state, const char *trigger, int code)
{
    struct bench *bench = *state;
    put(bench, 2);
    start(state, NULL);
    rig_connect(&rig, 100);
    bench_sql(bench->db, trigger);
    rig_ack_from(&rig, 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_stats(&rig).last_error, code);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 3);
    bench_sql(bench->db, "DROP TRIGGER one; DROP TRIGGER IF EXISTS two");
    rig_run(&rig, 2000);
    drain(bench);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static void
test_a_trigger_that_keeps_the_tombstone_from_being_written_stops_the_settle(void **state)
{
    expect_failure_until_dropped(
        state,
        "CREATE TRIGGER one BEFORE UPDATE ON outbox_event BEGIN SELECT RAISE(IGNORE); END;"
        "CREATE TRIGGER two BEFORE INSERT ON outbox_event BEGIN SELECT RAISE(IGNORE); END",
        OUTBOX_CORRUPT);
}

static void test_a_trigger_that_ignores_the_tombstone_alone_stops_the_settle_too(void **state)
{
    expect_failure_until_dropped(
        state, "CREATE TRIGGER one BEFORE UPDATE ON outbox_event BEGIN SELECT RAISE(IGNORE); END",
        OUTBOX_SQLITE);
}

/* Else one mending would follow the other for ever. */
static void test_a_trigger_that_spoils_what_a_mending_wrote_makes_it_undone(void **state)
{
    struct bench *bench = *state;
    put(bench, 2);
    start(state, NULL);
    rig_connect(&rig, 100);
    bench_sql(bench->db, "CREATE TRIGGER one AFTER UPDATE ON outbox_event BEGIN UPDATE outbox_event"
                         " SET ledger = ledger || ' ' WHERE id = new.id; END;"
                         "INSERT INTO outbox_event(id, topic) VALUES(-9, 'a')");
    rig_ack_from(&rig, 0);
    rig_run(&rig, 5000);
    assert_int_equal(forwarder_stats(bench).last_error, OUTBOX_CORRUPT);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 4);
    bench_sql(bench->db, "DROP TRIGGER one");
    rig_run(&rig, 3000);
    drain(bench);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
}

/* ---- Somebody acts between a look and the mending -------------------------------------------- */

struct meddling {
    struct bench *bench;
    int begins; /* of write transactions; the last one of them is met */
    const char *sql;
};

static int on_statement(unsigned kind, void *context, void *statement, void *text)
{
    struct meddling *meddling = context;
    (void)statement;
    if (kind == SQLITE_TRACE_STMT && strcmp(text, "BEGIN IMMEDIATE") == 0 &&
        --meddling->begins == 0)
        bench_sql(meddling->bench->db, meddling->sql);
    return 0;
}

static void meddle(struct bench *bench, struct meddling *meddling)
{
    meddling->bench = bench;
    sqlite3_trace_v2(bench->own, SQLITE_TRACE_STMT, on_statement, meddling);
}

static const char moved_on[] =
    "BEGIN; DELETE FROM outbox_event WHERE id < 1;"
    "UPDATE outbox_event SET topic = NULL, ledger = '{\"base\":0,\"last\":0,\"delivered\":0,"
    "\"expired\":0,\"evicted\":1,\"superseded\":0,\"dead\":0,\"holes\":0}' WHERE id = 1; COMMIT";

/* The late row lies where the settle found it: nothing may be buried on that word any more. */
static void expect_late_row_is_looked_for_again(void **state, const char *sql)
{
    struct bench *bench = *state;
    struct meddling meddling = {.begins = 2, .sql = sql};
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'a'), (2, 'b'), (5, 'c')");
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 3);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(4, 'late')");
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    meddle(bench, &meddling);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){5, 0});
    rig_step(&rig);
    assert_int_equal(meddling.begins, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE id = 4"), 1);
    rig_run(&rig, 2500);
    drain(bench);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static void test_a_late_row_is_looked_for_again_when_the_head_has_moved_on(void **state)
{
    expect_late_row_is_looked_for_again(state, moved_on);
    assert_int_equal(rig_stats(&rig).evicted, 1);
    assert_int_equal(rig_stats(&rig).accepted, 4);
}

static void test_a_late_row_is_looked_for_again_when_the_tombstone_was_moved(void **state)
{
    expect_late_row_is_looked_for_again(state, "UPDATE outbox_event SET id = -1 WHERE id = 0");
}

static void test_a_row_out_of_range_is_looked_for_again_when_the_head_has_moved_on(void **state)
{
    struct bench *bench = *state;
    struct meddling meddling = {.begins = 1, .sql = moved_on};
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'a'), (2, 'b'),"
                         " (281474976710657, 'c')");
    start(state, NULL);
    rig_step(&rig);
    meddle(bench, &meddling);
    fake_link_opened(&rig.link, 10);
    rig_step(&rig);
    assert_int_equal(meddling.begins, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 0);
    rig_run(&rig, 2500);
    for (int i = 0; i < rig.link.sent_count; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 1100);
    assert_int_equal(dead(bench, "2^48"), 1);
    assert_int_equal(rig_stats(&rig).pending, 0);
    check_law(bench);
}

/* ---- Transactions that cannot be ended ------------------------------------------------------- */

static int deny_rollback(void *context, int action, const char *a, const char *b, const char *c,
                         const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_TRANSACTION && strcmp(a, "ROLLBACK") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [P9] */
static void test_where_a_settle_cannot_be_undone_the_front_is_not_mended_inside_it(void **state)
{
    struct bench *bench = *state;
    put(bench, 2);
    start(state, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 100);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(-7, 'late')");
    sqlite3_set_authorizer(bench->own, deny_rollback, NULL);
    rig_ack_from(&rig, 0);
    assert_int_equal(forwarder_stats(bench).last_error, OUTBOX_SQLITE);
    assert_non_null(strstr(forwarder_stats(bench).last_error_text, "cannot be rolled back"));
    rig_run(&rig, 3000); /* the settle is tried again, and fails at once */
    assert_int_equal(forwarder_stats(bench).last_error, OUTBOX_SQLITE);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 4);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
    rig_run(&rig, 3000);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    check_law(bench);
}

/* ---- The end --------------------------------------------------------------------------------- */

/* [close-1] what is acknowledged is then sent again, and that is all */
static void test_a_close_that_finds_no_tombstone_loses_no_event(void **state)
{
    struct bench *bench = *state;
    put(bench, 3);
    start(state, NULL);
    rig_connect(&rig, 100);
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_step(&rig);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE ledger IS NOT NULL");
    rig_stop(&rig);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE ledger IS NULL"), 3);
    check_law(bench);
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 3);
    rig_ack_from(&rig, 0);
    check_law(bench);
}

/* [close-1] */
static void test_a_close_settles_what_is_left_behind_a_head_that_has_moved(void **state)
{
    struct bench *bench = *state;
    put(bench, 4);
    start(state, NULL);
    rig_connect(&rig, 100);
    for (int i = 0; i < 4; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_step(&rig);
    remove_counted(bench, 2);
    rig_stop(&rig);
    assert_int_equal(bench_number(bench->db, "SELECT ledger->>'delivered' FROM outbox_event"), 2);
    assert_int_equal(bench_number(bench->db, "SELECT ledger->>'evicted' FROM outbox_event"), 2);
    check_law(bench);
}

/* [close-1] [step-5] */
static void test_a_close_inside_the_applications_transaction_leaves_it_alone(void **state)
{
    struct bench *bench = *state;
    put(bench, 2);
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 100);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    bench_sql(bench->db, "BEGIN; INSERT INTO reading VALUES(1)");
    rig_stop(&rig);
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 3);
    check_law(bench);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_mark_longer_than_any_of_ours_is_no_tombstone),
        CASE(test_a_tombstone_moved_to_another_id_is_no_tombstone),
        CASE(test_several_spoilt_marks_are_all_taken_off),
        CASE(test_a_known_tombstone_that_is_moved_keeps_the_counts),
        CASE(test_a_row_below_an_unseen_tombstone_changes_neither_counts_nor_epoch),
        CASE(test_without_a_tombstone_and_with_ids_out_of_range_alone_ids_start_anew),
        CASE(test_a_row_below_a_tombstone_that_has_moved_on_is_mended_with_it),
        CASE(test_a_refusal_lasts_when_events_ahead_of_it_are_removed),
        CASE(test_a_new_epoch_while_events_are_in_flight_ends_the_connection),
        CASE(test_an_epoch_may_begin_in_the_middle_of_a_batch),
        CASE(test_a_trigger_that_keeps_the_tombstone_from_being_written_stops_the_settle),
        CASE(test_a_trigger_that_ignores_the_tombstone_alone_stops_the_settle_too),
        CASE(test_a_trigger_that_spoils_what_a_mending_wrote_makes_it_undone),
        CASE(test_a_late_row_is_looked_for_again_when_the_head_has_moved_on),
        CASE(test_a_late_row_is_looked_for_again_when_the_tombstone_was_moved),
        CASE(test_a_row_out_of_range_is_looked_for_again_when_the_head_has_moved_on),
        CASE(test_where_a_settle_cannot_be_undone_the_front_is_not_mended_inside_it),
        CASE(test_a_close_that_finds_no_tombstone_loses_no_event),
        CASE(test_a_close_settles_what_is_left_behind_a_head_that_has_moved),
        CASE(test_a_close_inside_the_applications_transaction_leaves_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
