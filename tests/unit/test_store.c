/* SPDX-License-Identifier: MIT
 *
 * test_store.c - what the forwarder does with the table: rows of other writers, hand-made damage,
 * the durability barrier, the checkpoint. Driven through the forwarder, looked at with plain SQL.
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

static int64_t dead(struct bench *bench, const char *reason)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM outbox_dead WHERE reason LIKE '%%%s%%'",
             reason);
    return bench_number(bench->db, sql);
}

/* The law, from the table itself: the ledger and a count of the rows. [P4] */
static void check_law(struct bench *bench)
{
    assert_int_equal(
        bench_number(bench->db,
                     "SELECT id = (ledger->>'base') + (ledger->>'delivered') + (ledger->>'dead')"
                     " + (ledger->>'holes') FROM outbox_event ORDER BY id LIMIT 1"),
        1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE ledger IS NOT NULL"), 1);
    assert_int_equal(
        bench_number(bench->db, "SELECT (SELECT count(*) FROM outbox_dead) ="
                                " (SELECT ledger->>'dead' FROM outbox_event ORDER BY id LIMIT 1)"),
        1);
}

/* ---- Rows of writers that did not ask -------------------------------------------------------- */

static void test_a_plain_insert_of_any_tool_is_forwarded(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('plant/7', 'warm')");
    start(state, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_string_equal(rig.link.sent[0].topic, "plant/7");
    assert_non_null(strstr(rig.link.sent[0].payload, "\"data\":\"warm\""));
    assert_non_null(strstr(rig.link.sent[0].payload, "\"type\":\"outbox.event\""));
    assert_non_null(strstr(rig.link.sent[0].payload, "\"time\":\"20"));
}

/* [P3] [P4] */
static void test_rows_that_can_never_be_sent_leave_as_dead_letters_with_a_reason(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db,
              "INSERT INTO outbox_event(topic, payload) VALUES('a', 'good'), (NULL, 'x'),"
              " ('', 'x'), ('a/+', 'x'), (x'61', 'x'), ('a', 21.5), ('a', 7),"
              " ('a', CAST(x'c328' AS TEXT)), ('a', 'good');"
              "INSERT INTO outbox_event(topic, payload, content_type) VALUES"
              " ('a', '{', 'application/json'), ('a', 'x', ''), ('a', '{}', 'application/json');"
              "INSERT INTO outbox_event(topic, payload, ledger) VALUES('a', 'x', 'mine')");
    start(state, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 3);
    rig_ack_from(&rig, 0);
    assert_int_equal(dead(bench, "topic"), 4);
    assert_int_equal(dead(bench, "is a number"), 2);
    assert_int_equal(dead(bench, "not UTF-8; store it"), 1);
    assert_int_equal(dead(bench, "not one JSON value"), 1);
    assert_int_equal(dead(bench, "type, content type or key"), 1);
    assert_int_equal(dead(bench, "mark"), 1);
    assert_int_equal(rig_stats(&rig).dead_lettered, 10);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
    check_law(bench);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead WHERE died > 0 AND"
                                             " length(epoch) = 16 AND id > 0"),
                     10);
}

static void test_a_dead_letter_does_not_break_the_chain_of_previous(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('a'), (NULL), ('b')");
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_int_equal(rig.link.sent[1].previous, 1);
}

/* [P7] memory is bounded whatever another writer stores; the event becomes a dead letter */
static void test_a_row_of_any_size_is_not_loaded_to_be_looked_at(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', 'small'),"
                         " ('a', zeroblob(300000000)), ('a', 'behind')");
    (void)sqlite3_memory_highwater(1);
    int64_t before = sqlite3_memory_used();
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_in_range(sqlite3_memory_highwater(0) - before, 0, 4000000);
    rig_ack_from(&rig, 0);
    assert_int_equal(dead(bench, "payload_max"), 1);
    assert_int_equal(bench_number(bench->db, "SELECT length(payload) FROM outbox_dead"), 300000000);
    check_law(bench);
}

/* A database that works again is no trouble any more. [P9] */
static int fail_once(void *context, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_DELETE && a && strcmp(a, "outbox_event") == 0 ? SQLITE_DENY : SQLITE_OK;
}

static void test_trouble_with_the_database_is_shown_while_it_lasts(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 100);
    sqlite3_set_authorizer(bench->own, fail_once, NULL);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    assert_int_equal(rig_stats(&rig).pending, 1);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
    rig_run(&rig, 2500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

static void test_a_refusal_is_shown_again_when_the_database_works_again(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig.port.dice = 50000; /* a long pause */
    rig_connect(&rig, 100);
    sqlite3_set_authorizer(bench->own, fail_once, NULL);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0x87);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_REFUSED);
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).delivered, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_REFUSED);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "refuses normal event 2"));
}

static void test_ids_that_were_skipped_count_as_holes(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(5, 'a'), (9, 'b')");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).holes, 7);
    assert_int_equal(rig_stats(&rig).accepted, 2);
    check_law(bench);
    assert_int_equal(bench_put(bench, "a", "b"), 10);
}

static void test_a_row_below_the_tombstone_becomes_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(2, 'late'), (-7, 'late')");
    int64_t id = bench_put(bench, "a", "after");
    rig_run(&rig, 2500);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, id);
    assert_int_equal(dead(bench, "below events"), 2);
    rig_ack_from(&rig, 5);
    check_law(bench);
    assert_int_equal(rig_stats(&rig).accepted, 8);
    assert_int_equal(rig_stats(&rig).delivered, 6);
}

static void test_a_settle_that_meets_a_late_row_settles_after_mending(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    start(state,
          &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER, .announce_topic = ""});
    rig_connect(&rig, 100);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(-1, 'late')");
    rig_ack_from(&rig, 0);
    rig_run(&rig, 100);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(dead(bench, "below events"), 1);
    check_law(bench);
}

/* The sender has read past a hole, then somebody fills it: no settle may delete that row unseen. */
static void test_a_row_put_into_a_hole_that_was_passed_becomes_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'a'), (5, 'b'), (6, 'c')");
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 3);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(3, 'late')");
    rig_ack_from(&rig, 0);
    assert_int_equal(dead(bench, "below events"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
    check_law(bench);
}

static void test_a_row_deleted_by_hand_while_in_flight_counts_as_delivered(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 100);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE id IN (2, 4)");
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    check_law(bench);
    assert_int_equal(bench_put(bench, "a", "b"), 5);
}

/* A late row must not be deleted unseen because as many others were deleted by hand. */
static void test_a_late_row_is_found_also_when_others_were_deleted_by_hand(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'a'), (5, 'b'), (6, 'c')");
    start(state, NULL);
    rig_connect(&rig, 100);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(3, 'late');"
                         "DELETE FROM outbox_event WHERE id IN (5, 6)");
    rig_ack_from(&rig, 0);
    assert_int_equal(dead(bench, "below events"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
    check_law(bench);
}

/* [flush-1] */
static void test_a_flush_up_to_a_row_that_is_deleted_by_hand_ends(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){3, 0});
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE id = 3");
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_true(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id < 3);
    for (int i = 0; i < 2; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 20); /* no quiet second for what was asked for */
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, 3);
    /* The id is given out again, and the event behind it is as pending as any. */
    assert_int_equal(bench_put(bench, "a", "anew"), 3);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){3, 0});
    rig_run(&rig, 20);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, 2);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    rig_run(&rig, 20);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, 3);
}

static void test_a_flush_of_a_table_that_was_emptied_by_hand_ends(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 100);
    int64_t id = bench_put(bench, "a", "b");
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE ledger IS NULL");
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){id, 0});
    rig_run(&rig, 20);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, id);
    assert_int_equal(rig.link.sent_count, 0);
}

static void refuse_the_second_of_three(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0x87);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 2);
}

static void test_a_refused_event_that_is_deleted_by_hand_is_forgotten(void **state)
{
    struct bench *bench = *state;
    refuse_the_second_of_three(state);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE id = 2");
    rig_reconnect(&rig, 10);
    rig_run(&rig, 50);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig.link.sent_count, 5);
}

static void test_a_refused_event_that_was_the_last_one_is_forgotten_too(void **state)
{
    struct bench *bench = *state;
    refuse_the_second_of_three(state);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE id IN (2, 3)");
    rig_reconnect(&rig, 10);
    rig_run(&rig, 50);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static void test_a_refused_event_that_was_made_unfit_leaves_and_is_forgotten(void **state)
{
    struct bench *bench = *state;
    refuse_the_second_of_three(state);
    bench_sql(bench->db, "UPDATE outbox_event SET topic = NULL WHERE id = 2;"
                         "DELETE FROM outbox_event WHERE id = 3");
    rig_reconnect(&rig, 10);
    rig_ack_from(&rig, 3);
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

/* ---- The tombstone is not what it was -------------------------------------------------------- */

static char *epoch(struct bench *bench)
{
    return bench_text(
        bench->db,
        "SELECT epoch FROM outbox_epoch WHERE lane = 'normal' ORDER BY first DESC LIMIT 1");
}

static void expect_new_epoch(struct bench *bench, const char *before)
{
    char *after = epoch(bench);
    assert_string_not_equal(before, after);
    assert_non_null(strstr(rig.link.sent[rig.link.sent_count - 1].source, after));
    sqlite3_free(after);
}

/* [P6] ids start anew, so the identity must */
static void test_a_table_emptied_by_hand_goes_on_under_a_new_epoch(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    char *before = epoch(bench);
    bench_sql(bench->db, "DELETE FROM outbox_event");
    assert_int_equal(bench_put(bench, "a", "anew"), 1);
    rig_run(&rig, 2500);
    rig_reconnect(&rig, 100);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, 1);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].previous, 0);
    expect_new_epoch(bench, before);
    rig_ack_from(&rig, 3);
    check_law(bench);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    sqlite3_free(before);
}

/* [P6] a backup comes back: the ids behind it may have been sent with other contents */
static void test_a_restored_backup_goes_on_under_a_new_epoch(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "in the backup");
    char *before = epoch(bench);
    bench_sql(bench->db, "CREATE TABLE backup AS SELECT * FROM outbox_event");
    bench_put(bench, "a", "after it");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "BEGIN; DELETE FROM outbox_event;"
                         "INSERT INTO outbox_event SELECT * FROM backup; COMMIT");
    rig_run(&rig, 2500);
    rig_reconnect(&rig, 100);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, 1);
    expect_new_epoch(bench, before);
    rig_ack_from(&rig, 2);
    check_law(bench);
    sqlite3_free(before);
}

/* [P6] */
static void test_a_tombstone_deleted_by_hand_loses_no_event(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "b");
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE ledger IS NOT NULL");
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 3);
    rig_ack_from(&rig, 0);
    check_law(bench);
    assert_int_equal(rig_stats(&rig).delivered, 3);
}

static void write_over(void **state, const char *sql)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    bench_sql(bench->db, sql);
    start(state, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 1);
    rig_ack_from(&rig, 0);
    check_law(bench);
}

static void test_a_tombstone_written_over_by_hand_loses_no_event(void **state)
{
    write_over(state, "UPDATE outbox_event SET ledger = '{}' WHERE ledger IS NOT NULL");
}

static void test_a_tombstone_with_more_text_than_any_ledger_loses_no_event(void **state)
{
    write_over(state, "UPDATE outbox_event SET ledger = ledger || printf('%.*c', 9000, ' ')"
                      " WHERE ledger IS NOT NULL");
}

/* Another connection removes the events up to `id` and counts them: as an eviction would, or as a
 * settle of ours whose COMMIT said that it failed and did not. */
static void remove_counted(struct bench *bench, int id, int delivered, int evicted)
{
    char sql[600];
    snprintf(sql, sizeof sql,
             "BEGIN; DELETE FROM outbox_event WHERE id < %d;"
             "UPDATE outbox_event SET topic = NULL, payload = NULL, created = NULL,"
             " content_type = NULL, ledger = '{\"base\":0,\"last\":%d,\"delivered\":%d,"
             "\"expired\":0,\"evicted\":%d,\"superseded\":0,\"dead\":0,\"holes\":0}'"
             " WHERE id = %d; COMMIT",
             id, delivered, delivered, evicted, id);
    bench_sql(bench->db, sql);
}

/* Compare and swap: the head moved between fetch and settle, so the settle does nothing. */
static void test_a_settle_from_a_head_that_has_moved_changes_nothing(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 2);
    remove_counted(bench, 3, 0, 3);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_run(&rig, 1200);
    assert_int_equal(rig_stats(&rig).delivered, 0);
    assert_int_equal(rig_stats(&rig).evicted, 3);
    assert_int_equal(rig_stats(&rig).pending, 1);
}

static void test_an_event_is_not_sent_twice_because_others_ahead_of_it_were_removed(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 6; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 6);
    remove_counted(bench, 2, 0, 2);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).evicted, 2);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(rig.link.sent_count, 6);
    assert_int_equal(rig.link.opens, 1);
}

/* Its row is gone and counted as what it is, so its ack must not count it once more. */
static void test_the_ack_of_an_event_that_was_removed_in_flight_settles_nothing(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    remove_counted(bench, 2, 0, 2);
    bench_put(bench, "a", "c");
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, 2);
    for (int i = 0; i < 2; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, i == 0 ? 0 : 0x87);
    rig_run(&rig, 2000);
    assert_int_equal(rig_stats(&rig).delivered, 0);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    rig_reconnect(&rig, 10); /* those behind the refused one are sent again */
    assert_int_equal(rig.link.sent_count, 7);
    assert_int_equal(rig.link.sent[4].id, 3);
    rig_ack_from(&rig, 4);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

/* [step-2] the server counts a publish until its PUBACK, whatever becomes of the row */
static void test_a_removed_event_stays_in_flight_until_its_ack(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 2);
    remove_counted(bench, 2, 0, 2);
    rig_run(&rig, 1500);
    bench_put(bench, "a", "c");
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).in_flight, 2);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 3);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 4);
    assert_int_equal(rig.link.sent[3].id, 4);
    rig_run(&rig, 40000);
    assert_int_equal(rig.link.opens, 2); /* those two got no PUBACK */
}

/* [P1] a settle that a power cut undid and that is repeated must not write the same page again: the
 * frames behind it in the WAL, of a commit that was undone with it, would be valid once more */
static void test_no_two_tombstones_are_alike(void **state)
{
    static const char mark[] = "SELECT expires FROM outbox_event ORDER BY id LIMIT 1";
    struct bench *bench = *state;
    int64_t marks[2];
    start(state, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 2; i++) {
        bench_put(bench, "a", "b");
        rig_run(&rig, 1200);
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_run(&rig, 1200);
        marks[i] = bench_number(bench->db, mark);
    }
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_not_equal(marks[0], marks[1]);
}

/* A COMMIT can fail and have happened all the same. */
static void test_a_settle_that_succeeded_unheard_counts_once(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 4; i++)
        if (i != 2)
            fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_step(&rig);
    remove_counted(bench, 2, 2, 0);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){5, 0});
    rig_run(&rig, 2000);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    rig_ack_from(&rig, 2);
    assert_int_equal(rig_stats(&rig).delivered, 5);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(rig.link.sent_count, 5);
    check_law(bench);
}

static void test_a_refusal_is_forgotten_when_its_event_is_removed(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0x87);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 2);
    remove_counted(bench, 2, 0, 2);
    rig_reconnect(&rig, 10);
    rig_run(&rig, 100);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig.link.sent_count, 6);
}

static int deny_commit(void *context, int action, const char *a, const char *b, const char *c,
                       const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_TRANSACTION && strcmp(a, "COMMIT") == 0 ? SQLITE_DENY : SQLITE_OK;
}

static void test_events_of_a_fetch_whose_end_failed_are_not_sent(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    sqlite3_set_authorizer(bench->db, deny_commit, NULL);
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    for (int i = 0; i < 3; i++)
        rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig.link.sent[0].id, id);
}

/* [P4] in UTF-16 a text needs memory, and without it SQLite rolls the transaction back */
static void test_a_settle_whose_transaction_is_rolled_back_under_it_changes_nothing(void **state)
{
    struct bench *bench = *state;
    bench_in_utf_16(bench);
    bench_sql(bench->db, "PRAGMA synchronous = EXTRA");
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, 1);
    bench_starve(bench->db, "SELECT first, epoch FROM");
    rig_ack_from(&rig, 0);
    bench_starve(bench->db, NULL);
    assert_int_equal(rig_stats(&rig).pending, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_NO_MEMORY);
    rig_run(&rig, 2500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

static void test_members_of_a_newer_ledger_outlive_our_settles(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "UPDATE outbox_event SET ledger = rtrim(ledger, '}') || ',\"new\":7}'");
    bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 2);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT ledger->>'new' FROM outbox_event"), 7);
    check_law(bench);
}

/* ---- The barrier ----------------------------------------------------------------------------- */

static void sql_put(struct bench *bench)
{
    bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('a')");
}

/* [P2] */
static void test_rows_that_nobody_proved_durable_are_synced_before_they_are_sent(void **state)
{
    static const char *const modes[] = {"WAL", "DELETE", "TRUNCATE", "PERSIST"};
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        bench_reopen(bench, modes[i], "NORMAL");
        sql_put(bench);
        start(state, NULL);
        rig_connect(&rig, 10);
        assert_int_equal(rig.link.sent_count, 1);
        assert_int_equal(rig_stats(&rig).barriers, 1);
        rig_ack_from(&rig, 0);
        rig_stop(&rig);
    }
}

/* [P2] the claim of a commit at FULL spares the sync */
static void test_events_that_a_commit_proved_durable_need_no_sync(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).barriers, 0);
    sql_put(bench);
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

/* [P2] one sync serves all that were read with it */
static void test_one_barrier_serves_a_whole_fetch(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 50; i++)
        sql_put(bench);
    start(state, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 50);
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

/* [P2] a new epoch is written by us, and must not be undone once events carried it */
static void test_a_new_epoch_is_made_durable_before_anything_is_sent_under_it(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).barriers, 0);
    bench_sql(bench->db, "DELETE FROM outbox_event");
    id = bench_put(bench, "a", "c");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_run(&rig, 1200);
    rig_reconnect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

/* [P2] a commit's claim that is heard only after the new epoch was written does not cover it */
static void test_a_claim_from_before_a_new_epoch_does_not_spare_its_barrier(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "DELETE FROM outbox_event");
    id = bench_put(bench, "a", "c");
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

static void test_a_refusal_is_forgotten_with_the_events_it_was_about(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[4].token, 0x87);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 5);
    bench_sql(bench->db, "DELETE FROM outbox_event; INSERT INTO outbox_event(topic) VALUES"
                         " ('a'), ('b'), ('c')");
    int before = rig.link.sent_count;
    rig_reconnect(&rig, 10);
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, before + 3);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
}

/* [P2] [step-8] on the application's connection its own level decides; it is not ours to change */
static void test_a_shared_connection_that_does_not_sync_sends_no_row_of_others(void **state)
{
    static const char *const modes[][3] = {{"PERSIST", "NORMAL", "PRAGMA synchronous = FULL"},
                                           {"TRUNCATE", "NORMAL", "PRAGMA synchronous = FULL"},
                                           {"DELETE", "FULL", "PRAGMA synchronous = EXTRA"}};
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        bench_reopen(bench, modes[i][0], modes[i][1]);
        sql_put(bench);
        start(state, &(outbox_forwarder_config){.shared_connection = 1});
        rig_connect(&rig, 10);
        assert_int_equal(rig.link.sent_count, 0);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_NOT_DURABLE);
        bench_sql(bench->db, modes[i][2]);
        rig_run(&rig, 1500);
        assert_int_equal(rig.link.sent_count, 1);
        rig_ack_from(&rig, 0);
        rig_stop(&rig);
    }
}

/* [P2] [step-8] The application may choose another journal mode while an event waits for its
 * barrier. */
static void test_a_barrier_goes_by_the_journal_mode_of_the_moment(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "TRUNCATE", "NORMAL");
    sql_put(bench);
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_NOT_DURABLE);
    /* FULL would do in TRUNCATE, but not in DELETE. */
    bench_sql(bench->db, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL");
    rig_run(&rig, 2500);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_NOT_DURABLE);
    bench_sql(bench->db, "PRAGMA journal_mode = WAL");
    rig_run(&rig, 2500);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

/* [P2] what was proved once says nothing about a row that came into a hole since */
static void test_a_row_put_into_a_hole_while_offline_is_synced_before_it_is_sent(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(1, 'a'), (5, 'a')");
    start(state, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).barriers, 1);
    fake_link_closed(&rig.link, "cut");
    rig_step(&rig);
    bench_sql(bench->db, "PRAGMA synchronous = NORMAL; INSERT INTO outbox_event(id, topic)"
                         " VALUES(3, 'late')");
    rig_reconnect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 5);
    assert_int_equal(rig.link.sent[3].id, 3);
    assert_int_equal(rig_stats(&rig).barriers, 2);
}

/* [P2] [P6] an epoch that an attach has begun may be undone like any other commit at NORMAL */
static void test_an_epoch_of_others_is_made_durable_before_anything_is_sent_under_it(void **state)
{
    struct bench *bench = *state;
    outbox *renamed;
    start(state, NULL);
    rig_connect(&rig, 10);
    int64_t id = bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).barriers, 0);
    id = bench_put(bench, "a", "c");
    sqlite3 *other = bench_connect(bench);
    bench_sql(other, "PRAGMA synchronous = NORMAL");
    assert_int_equal(outbox_attach(other, &(outbox_config){.device = "renamed"}, &renamed),
                     OUTBOX_OK);
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){id, 0});
    rig_step(&rig); /* the new epoch covers the event that is in flight, so both go out under it */
    rig_reconnect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 3);
    assert_non_null(strstr(rig.link.sent[1].source, "renamed"));
    assert_non_null(strstr(rig.link.sent[2].source, "renamed"));
    assert_int_equal(rig_stats(&rig).barriers, 1);
    outbox_detach(renamed);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [step-5] what was read waits for its barrier, which a lock keeps from it, and then the
 * application opens a transaction */
static void test_no_barrier_is_made_inside_the_applications_transaction(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "TRUNCATE", "FULL");
    sqlite3 *other = bench_connect(bench);
    sql_put(bench);
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    bench_sql(other, "BEGIN IMMEDIATE");
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 0);
    bench_sql(other, "COMMIT");
    bench_sql(bench->db, "BEGIN IMMEDIATE; INSERT INTO reading VALUES(1)");
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).barriers, 0);
    bench_sql(bench->db, "ROLLBACK");
    rig_run(&rig, 1000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).barriers, 1);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM reading"), 0);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void step_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc, (void)argv;
    rig_step(&rig);
    sqlite3_result_int(context, rig.link.sent_count);
}

/* [step-5] a statement that writes is a transaction too, also in autocommit */
static void test_a_step_inside_a_statement_that_writes_reads_nothing(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    sqlite3_create_function(bench->db, "step", 0, SQLITE_UTF8, NULL, step_function, NULL, NULL);
    bench_sql(bench->db, "CREATE TRIGGER one AFTER INSERT ON outbox_event"
                         " BEGIN INSERT INTO reading VALUES(step()); END");
    sql_put(bench);
    assert_int_equal(bench_number(bench->db, "SELECT value FROM reading"), 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
}

static int deny_reads(void *context, int action, const char *a, const char *b, const char *c,
                      const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_READ && strcmp(a, "outbox_event") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [P9] the new mode is followed once the table can be read again */
static void test_a_change_of_the_journal_mode_waits_while_the_table_cannot_be_read(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    bench_sql(bench->db, "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL");
    sql_put(bench);
    sqlite3_set_authorizer(bench->db, deny_reads, NULL);
    assert_int_equal(rig_step(&rig), OUTBOX_SQLITE);
    assert_int_equal(rig.link.sent_count, 0);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).barriers, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static void test_the_forwarder_follows_a_change_of_the_journal_mode(void **state)
{
    struct bench *bench = *state;
    sql_put(bench);
    start(state, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->own, "PRAGMA synchronous"), 1);
    rig_stop(&rig);
    bench_reopen(bench, "DELETE", "EXTRA");
    sql_put(bench);
    start(state, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->own, "PRAGMA synchronous"), 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

/* ---- Housekeeping ---------------------------------------------------------------------------- */

static int64_t wal_bytes(struct bench *bench)
{
    char path[128];
    snprintf(path, sizeof path, "%s-wal", bench->path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_int_equal(fclose(file), 0);
    return size;
}

static void drain(struct bench *bench)
{
    int from = 0;
    while (rig_stats(&rig).pending > 0) {
        for (; from < rig.link.sent_count; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 300);
    }
    (void)bench;
}

/* [P7] a long drain without an application must not grow the WAL for ever */
static void test_an_idle_application_lets_the_forwarder_checkpoint(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < 2000; i++)
        bench_put(bench, "a", "a payload that fills some pages of the database file");
    bench_sql(bench->db, "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    start(state, &(outbox_forwarder_config){.settle_batch = 8, .checkpoint_frames = 50});
    rig_connect(&rig, 100);
    drain(bench);
    assert_in_range(wal_bytes(bench), 1, 300 * 4120);
}

/* [P8] one checkpointer at a time: not while the application writes */
static void test_a_busy_application_is_left_to_checkpoint_itself(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE)");
    start(state, &(outbox_forwarder_config){.settle_batch = 1, .checkpoint_frames = 5});
    rig_connect(&rig, 100);
    for (int i = 0; i < 50; i++) {
        bench_put(bench, "a", "b");
        outbox_forwarder_committed(bench->forwarder, NULL);
        rig_run(&rig, 100);
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    }
    assert_true(wal_bytes(bench) > INT64_C(90) * 4120);
}

/* [P8] */
static void test_the_journal_mode_is_never_changed(void **state)
{
    static const char *const modes[] = {"wal", "delete"};
    struct bench *bench = *state;
    for (size_t i = 0; i < 2; i++) {
        bench_reopen(bench, modes[i], "FULL");
        sql_put(bench);
        start(state, NULL);
        rig_connect(&rig, 10);
        rig_ack_from(&rig, 0);
        rig_stop(&rig);
        char *mode = bench_text(bench->db, "PRAGMA journal_mode");
        assert_string_equal(mode, modes[i]);
        sqlite3_free(mode);
    }
}

/* [P7] the work of a fetch and a settle does not grow with the backlog; counted, not timed */
static void test_a_large_backlog_costs_no_more_page_reads_than_a_small_one(void **state)
{
    struct bench *bench = *state;
    int64_t reads[2];
    for (int round = 0; round < 2; round++) {
        int hits, ignored;
        bench_sql(bench->db,
                  round == 0
                      ? "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
                        " INSERT INTO outbox_event(topic) SELECT 'a' FROM n"
                      : "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
                        " INSERT INTO outbox_event(topic) SELECT 'a' FROM n");
        start(state, NULL);
        rig_connect(&rig, 100);
        sqlite3_db_status(bench->own, SQLITE_DBSTATUS_CACHE_MISS, &hits, &ignored, 1);
        rig_ack_from(&rig, 0);
        sqlite3_db_status(bench->own, SQLITE_DBSTATUS_CACHE_MISS, &hits, &ignored, 0);
        reads[round] = hits;
        rig_stop(&rig);
    }
    assert_in_range(reads[1], 0, reads[0] + 8);
}

static int deny_ends(void *context, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    bool ends = action == SQLITE_TRANSACTION && strcmp(a, "BEGIN") != 0;
    return ends ? SQLITE_DENY : SQLITE_OK;
}

/* [P8] on a connection of our own it is we who have to end it */
static void test_a_transaction_whose_rollback_failed_is_ended_by_the_next_call(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    sqlite3_set_authorizer(bench->own, deny_ends, NULL);
    rig_run(&rig, 3000);
    assert_int_equal(sqlite3_get_autocommit(bench->own), 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
    rig_run(&rig, 1500);
    bench_put(bench, "a", "c");
    rig_run(&rig, 1500);
    rig_ack_from(&rig, 1);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    check_law(bench);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_plain_insert_of_any_tool_is_forwarded),
        CASE(test_rows_that_can_never_be_sent_leave_as_dead_letters_with_a_reason),
        CASE(test_a_dead_letter_does_not_break_the_chain_of_previous),
        CASE(test_a_row_of_any_size_is_not_loaded_to_be_looked_at),
        CASE(test_trouble_with_the_database_is_shown_while_it_lasts),
        CASE(test_a_refusal_is_shown_again_when_the_database_works_again),
        CASE(test_ids_that_were_skipped_count_as_holes),
        CASE(test_a_row_below_the_tombstone_becomes_a_dead_letter),
        CASE(test_a_settle_that_meets_a_late_row_settles_after_mending),
        CASE(test_a_row_put_into_a_hole_that_was_passed_becomes_a_dead_letter),
        CASE(test_a_row_deleted_by_hand_while_in_flight_counts_as_delivered),
        CASE(test_a_late_row_is_found_also_when_others_were_deleted_by_hand),
        CASE(test_a_flush_up_to_a_row_that_is_deleted_by_hand_ends),
        CASE(test_a_flush_of_a_table_that_was_emptied_by_hand_ends),
        CASE(test_a_refused_event_that_is_deleted_by_hand_is_forgotten),
        CASE(test_a_refused_event_that_was_the_last_one_is_forgotten_too),
        CASE(test_a_refused_event_that_was_made_unfit_leaves_and_is_forgotten),
        CASE(test_a_table_emptied_by_hand_goes_on_under_a_new_epoch),
        CASE(test_a_restored_backup_goes_on_under_a_new_epoch),
        CASE(test_a_tombstone_deleted_by_hand_loses_no_event),
        CASE(test_a_tombstone_written_over_by_hand_loses_no_event),
        CASE(test_a_tombstone_with_more_text_than_any_ledger_loses_no_event),
        CASE(test_a_settle_from_a_head_that_has_moved_changes_nothing),
        CASE(test_an_event_is_not_sent_twice_because_others_ahead_of_it_were_removed),
        CASE(test_the_ack_of_an_event_that_was_removed_in_flight_settles_nothing),
        CASE(test_a_removed_event_stays_in_flight_until_its_ack),
        CASE(test_no_two_tombstones_are_alike),
        CASE(test_a_settle_that_succeeded_unheard_counts_once),
        CASE(test_a_refusal_is_forgotten_when_its_event_is_removed),
        CASE(test_events_of_a_fetch_whose_end_failed_are_not_sent),
        CASE(test_a_transaction_whose_rollback_failed_is_ended_by_the_next_call),
        CASE(test_a_settle_whose_transaction_is_rolled_back_under_it_changes_nothing),
        CASE(test_members_of_a_newer_ledger_outlive_our_settles),
        CASE(test_rows_that_nobody_proved_durable_are_synced_before_they_are_sent),
        CASE(test_events_that_a_commit_proved_durable_need_no_sync),
        CASE(test_one_barrier_serves_a_whole_fetch),
        CASE(test_a_new_epoch_is_made_durable_before_anything_is_sent_under_it),
        CASE(test_a_claim_from_before_a_new_epoch_does_not_spare_its_barrier),
        CASE(test_a_refusal_is_forgotten_with_the_events_it_was_about),
        CASE(test_a_shared_connection_that_does_not_sync_sends_no_row_of_others),
        CASE(test_a_barrier_goes_by_the_journal_mode_of_the_moment),
        CASE(test_a_row_put_into_a_hole_while_offline_is_synced_before_it_is_sent),
        CASE(test_an_epoch_of_others_is_made_durable_before_anything_is_sent_under_it),

        CASE(test_no_barrier_is_made_inside_the_applications_transaction),
        CASE(test_a_step_inside_a_statement_that_writes_reads_nothing),
        CASE(test_a_change_of_the_journal_mode_waits_while_the_table_cannot_be_read),
        CASE(test_the_forwarder_follows_a_change_of_the_journal_mode),
        CASE(test_an_idle_application_lets_the_forwarder_checkpoint),
        CASE(test_a_busy_application_is_left_to_checkpoint_itself),
        CASE(test_the_journal_mode_is_never_changed),
        CASE(test_a_large_backlog_costs_no_more_page_reads_than_a_small_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
