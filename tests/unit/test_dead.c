/* SPDX-License-Identifier: MIT
 *
 * test_dead.c - dead letters: how many are kept, how they go back into their lane, and how they go.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

/* A dead letter that could be sent now, and number 1. */
static void bury(struct bench *bench, const char *columns, const char *values)
{
    char sql[400];
    snprintf(sql, sizeof sql,
             "INSERT INTO outbox_dead(lane, id, epoch, reason, died, topic, payload%s)"
             " VALUES('normal', 5, '0123456789abcdef', 'why not', 1, 'plant/7', 'warm'%s)",
             columns, values);
    bench_sql(bench->db, sql);
}

static int64_t requeue(struct bench *bench, int64_t number)
{
    int64_t id = 0;
    if (outbox_requeue(bench->box, number, &id) != OUTBOX_OK)
        fail_msg("requeue: %s", outbox_errmsg(bench->box));
    return id;
}

static int64_t dead(struct bench *bench)
{
    return bench_number(bench->db, "SELECT count(*) FROM outbox_dead");
}

static int64_t pending(struct bench *bench)
{
    return bench_number(bench->db, "SELECT count(*) FROM outbox_pending");
}

/* ---- Requeue --------------------------------------------------------------------------------- */

/* [dead-1] */
static void test_a_requeued_letter_is_a_new_event_at_the_end_of_its_lane(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 9; i++)
        bench_put(bench, "a", "b");
    bury(bench, "", "");
    assert_int_equal(requeue(bench, 1), 10);
    assert_int_equal(dead(bench), 0);
    assert_int_equal(bench_number(bench->db, "SELECT topic = 'plant/7' AND payload = 'warm'"
                                             " FROM outbox_event WHERE id = 10"),
                     1);
}

/* [dead-1] it is accepted once more, and the law holds */
static void test_what_was_buried_and_requeued_is_sent(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('plant/+', 'x')");
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 10);
    rig_run(&rig, 2500);
    assert_int_equal(dead(bench), 1);
    bench_sql(bench->db, "UPDATE outbox_dead SET topic = 'plant/7'");
    requeue(bench, 1);
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 100);
    rig_ack_from(&rig, 0);
    assert_string_equal(rig.link.sent[0].topic, "plant/7");
    assert_int_equal(rig_stats(&rig).delivered, 1);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
    assert_int_equal(rig_stats(&rig).accepted, 2);
}

/* [dead-1] */
static void test_a_requeued_letter_keeps_its_attributes_and_its_time(void **state)
{
    struct bench *bench = *state;
    bury(bench, ", retain, type, content_type, key, keep_last, created",
         ", 1, 'reading', 'text/plain', '7', 1, 1234567");
    requeue(bench, 1);
    assert_int_equal(bench_number(bench->db,
                                  "SELECT count(*) FROM outbox_event WHERE retain = 1 AND"
                                  " type = 'reading' AND content_type = 'text/plain' AND key = '7'"
                                  " AND keep_last = 1 AND created = 1234567"),
                     1);
}

/* [dead-1] text without a content type travels as a string, a blob as base64 */
static void test_a_requeued_payload_stays_text_or_bytes(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bury(bench, "", "");
    bench_sql(bench->db, "UPDATE outbox_dead SET payload = x'00ff' WHERE number = 2");
    requeue(bench, 1);
    requeue(bench, 2);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE typeof(payload) = 'text'"),
        1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE payload = x'00ff'"), 1);
}

/* [dead-1] */
static void test_a_letter_of_the_urgent_lane_goes_back_there(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bench_sql(bench->db, "UPDATE outbox_dead SET lane = 'urgent'");
    requeue(bench, 1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_urgent WHERE topic = 'plant/7'"), 1);
}

/* [dead-1] */
static void test_a_requeued_letter_expires_when_it_would_have(void **state)
{
    struct bench *bench = *state;
    bury(bench, ", expires", ", 99999999999999");
    requeue(bench, 1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE expires = 99999999999999"),
        1);
}

/* [dead-1] */
static void test_a_requeued_letter_that_has_expired_meanwhile_never_does(void **state)
{
    struct bench *bench = *state;
    bury(bench, ", expires", ", 1735689600001"); /* 2025-01-01 */
    requeue(bench, 1);
    assert_int_equal(
        bench_number(
            bench->db,
            "SELECT count(*) FROM outbox_event WHERE topic = 'plant/7' AND expires IS NULL"),
        1);
}

/* [dead-1] [expiry-3] */
static void test_a_life_that_had_not_begun_begins_with_the_requeue(void **state)
{
    struct bench *bench = *state;
    bury(bench, ", expires", ", -60000");
    requeue(bench, 1);
    int64_t left = bench_number(
        bench->db, "SELECT expires - CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
                   " FROM outbox_event WHERE topic = 'plant/7'");
    assert_in_range(left, 1, 60001); /* julianday() is a little off */
}

/* [dead-1] [P1] */
static void test_a_requeue_rolls_back_with_the_open_transaction(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bench_sql(bench->db, "BEGIN");
    requeue(bench, 1);
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(dead(bench), 1);
    assert_int_equal(pending(bench), 0);
}

/* [dead-4] */
static void test_requeueing_a_number_that_there_is_not_is_refused(void **state)
{
    struct bench *bench = *state;
    int64_t id = -1;
    assert_int_equal(outbox_requeue(bench->box, 4, &id), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "no dead letter 4"));
    assert_int_equal(id, -1);
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(outbox_requeue(NULL, 1, NULL), OUTBOX_MISUSE);
}

/* [dead-4] */
static void test_a_letter_that_is_still_unfit_stays_where_it_is(void **state)
{
    static const struct {
        const char *change;
        int code;
    } cases[] = {
        {"topic = 'a/#'", OUTBOX_BAD_TOPIC},
        {"topic = 'a' || char(0) || '#'", OUTBOX_BAD_TOPIC},
        {"topic = NULL", OUTBOX_BAD_TOPIC},
        {"payload = 7", OUTBOX_BAD_PAYLOAD},
        {"payload = CAST(x'ff' AS TEXT)", OUTBOX_BAD_PAYLOAD},
        {"content_type = 'application/json'", OUTBOX_BAD_PAYLOAD},
        {"type = x'00'", OUTBOX_BAD_ATTRIBUTE},
        {"payload = zeroblob(65537)", OUTBOX_TOO_LARGE},
        {"lane = 'slow'", OUTBOX_CORRUPT},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char sql[100];
        bench_sql(bench->db, "DELETE FROM outbox_dead");
        bury(bench, "", "");
        snprintf(sql, sizeof sql, "UPDATE outbox_dead SET %s", cases[i].change);
        bench_sql(bench->db, sql);
        assert_int_equal(outbox_requeue(bench->box, 1, NULL), cases[i].code);
        assert_int_equal(dead(bench), 1);
        assert_int_equal(pending(bench), 0);
        assert_true(sqlite3_get_autocommit(bench->db));
    }
}

/* [dead-4] */
static void test_a_requeue_that_fails_leaves_the_open_transaction_as_it_was(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bench_sql(bench->db, "UPDATE outbox_dead SET topic = '#'; BEGIN");
    bench_put(bench, "a", "mine");
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_BAD_TOPIC);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 1);
    assert_int_equal(dead(bench), 1);
}

static void deny_dead_letters(sqlite3_context *context, int count, sqlite3_value **values)
{
    (void)count, (void)values;
    sqlite3_result_error(context, "not today", -1);
}

/* [dead-4] whichever of its statements fails */
static void test_a_requeue_that_fails_behind_its_put_takes_the_event_back(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    assert_int_equal(sqlite3_create_function(bench->db, "deny", 0, SQLITE_UTF8, NULL,
                                             deny_dead_letters, NULL, NULL),
                     SQLITE_OK);
    bench_sql(bench->db, "CREATE TEMP TRIGGER t BEFORE DELETE ON main.outbox_dead"
                         " BEGIN SELECT deny(); END");
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_SQLITE);
    assert_int_equal(pending(bench), 0);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_SQLITE);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 0);
    assert_int_equal(dead(bench), 1);
}

/* [dead-4] [limit-2] */
static void test_a_limit_applies_to_what_is_requeued(void **state)
{
    struct bench *bench = *state;
    outbox_config config = {.limits[OUTBOX_NORMAL] = {.max_events = 1}};
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    bench_put(bench, "a", "b");
    bury(bench, "", "");
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_FULL);
    assert_int_equal(dead(bench), 1);
    assert_int_equal(pending(bench), 1);
}

static struct bench *calling;

static void requeue_inside(sqlite3_context *context, int count, sqlite3_value **values)
{
    (void)count, (void)values;
    sqlite3_result_int(context, outbox_requeue(calling->box, 1, NULL));
}

/* [dead-4] */
static void test_a_requeue_from_inside_a_statement_that_writes_is_refused(void **state)
{
    struct bench *bench = *state;
    calling = bench;
    bury(bench, "", "");
    assert_int_equal(sqlite3_create_function(bench->db, "requeue", 0, SQLITE_UTF8, NULL,
                                             requeue_inside, NULL, NULL),
                     SQLITE_OK);
    bench_sql(bench->db, "CREATE TABLE mine(x); INSERT INTO mine VALUES(1), (2);"
                         "UPDATE mine SET x = requeue()");
    assert_int_equal(bench_number(bench->db, "SELECT min(x) FROM mine"), OUTBOX_MISUSE);
    assert_int_equal(dead(bench), 1);
}

/* [dead-4] [dead-5] */
static void test_dead_letters_need_a_handle_whose_connection_is_open(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_CLOSED);
    assert_int_equal(outbox_purge(bench->box, 1), OUTBOX_CLOSED);
}

/* [P9] in UTF-16 a text needs memory; a letter whose lane was not read is not to be purged */
static void test_a_letter_that_there_is_no_memory_for_is_not_called_damaged(void **state)
{
    struct bench *bench = *state;
    bench_in_utf_16(bench);
    bury(bench, "", "");
    bench_starve(bench->db, "SELECT lane, topic,");
    int code = outbox_requeue(bench->box, 1, NULL);
    bench_starve(bench->db, NULL);
    assert_int_equal(code, OUTBOX_NO_MEMORY);
    assert_int_equal(dead(bench), 1);
    requeue(bench, 1);
}

/* ---- Purge ----------------------------------------------------------------------------------- */

/* [dead-2] */
static void test_a_purge_deletes_one_letter_and_no_other(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bury(bench, "", "");
    assert_int_equal(outbox_purge(bench->box, 2), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "SELECT sum(number) FROM outbox_dead"), 4);
}

/* [dead-2] */
static void test_a_purge_of_all_deletes_all(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 3; i++)
        bury(bench, "", "");
    assert_int_equal(outbox_purge(bench->box, 0), OUTBOX_OK);
    assert_int_equal(dead(bench), 0);
    assert_int_equal(outbox_purge(bench->box, 0), OUTBOX_OK);
}

/* [dead-2] */
static void test_a_purge_rolls_back_with_the_open_transaction(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_purge(bench->box, 1), OUTBOX_OK);
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(dead(bench), 1);
}

/* [dead-5] */
static void test_purging_a_number_that_there_is_not_is_refused(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    assert_int_equal(outbox_purge(bench->box, 2), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "no dead letter 2"));
    assert_int_equal(outbox_purge(NULL, 1), OUTBOX_MISUSE);
    assert_int_equal(dead(bench), 1);
}

/* ---- How many -------------------------------------------------------------------------------- */

static void bury_by_the_forwarder(struct bench *bench, int count)
{
    char sql[200];
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO outbox_event(topic, payload) SELECT '#', i FROM n",
             count);
    bench_sql(bench->db, sql);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 20000);
}

/* [dead-3] [dead-2] they stay counted too where they are purged */
static void test_the_newest_letters_are_kept_and_all_are_counted(void **state)
{
    struct bench *bench = *state;
    bury_by_the_forwarder(bench, OUTBOX_DEAD_MAX + 300);
    assert_int_equal(dead(bench), OUTBOX_DEAD_MAX);
    assert_int_equal(bench_number(bench->db, "SELECT min(id) FROM outbox_dead"), 301);
    assert_int_equal(rig_stats(&rig).dead_lettered, OUTBOX_DEAD_MAX + 300);
    assert_int_equal(outbox_purge(bench->box, 0), OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).dead_lettered, OUTBOX_DEAD_MAX + 300);
}

/* [dead-3] numbers that are gone take no room */
static void test_letters_that_were_purged_make_room_for_others(void **state)
{
    struct bench *bench = *state;
    bury(bench, "", "");
    bury(bench, "", "");
    bench_sql(bench->db, "UPDATE outbox_dead SET number = 900 WHERE number = 2");
    bury_by_the_forwarder(bench, OUTBOX_DEAD_MAX - 2);
    assert_int_equal(dead(bench), OUTBOX_DEAD_MAX);
    assert_int_equal(bench_number(bench->db, "SELECT min(number) FROM outbox_dead"), 1);
}

/* [dead-3] */
static void test_rows_beside_the_order_are_bounded_too(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE"
                         " i < 1200) INSERT INTO outbox_event(id, topic, payload)"
                         " SELECT -i, 'a', 'b' FROM n");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(dead(bench), OUTBOX_DEAD_MAX);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1200);
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
        CASE(test_a_requeued_letter_is_a_new_event_at_the_end_of_its_lane),
        CASE(test_what_was_buried_and_requeued_is_sent),
        CASE(test_a_requeued_letter_keeps_its_attributes_and_its_time),
        CASE(test_a_requeued_payload_stays_text_or_bytes),
        CASE(test_a_letter_of_the_urgent_lane_goes_back_there),
        CASE(test_a_requeued_letter_expires_when_it_would_have),
        CASE(test_a_requeued_letter_that_has_expired_meanwhile_never_does),
        CASE(test_a_life_that_had_not_begun_begins_with_the_requeue),
        CASE(test_a_requeue_rolls_back_with_the_open_transaction),
        CASE(test_requeueing_a_number_that_there_is_not_is_refused),
        CASE(test_a_letter_that_is_still_unfit_stays_where_it_is),
        CASE(test_a_requeue_that_fails_leaves_the_open_transaction_as_it_was),
        CASE(test_a_requeue_that_fails_behind_its_put_takes_the_event_back),
        CASE(test_a_limit_applies_to_what_is_requeued),
        CASE(test_a_requeue_from_inside_a_statement_that_writes_is_refused),
        CASE(test_a_letter_that_there_is_no_memory_for_is_not_called_damaged),
        CASE(test_dead_letters_need_a_handle_whose_connection_is_open),
        CASE(test_a_purge_deletes_one_letter_and_no_other),
        CASE(test_a_purge_of_all_deletes_all),
        CASE(test_a_purge_rolls_back_with_the_open_transaction),
        CASE(test_purging_a_number_that_there_is_not_is_refused),
        CASE(test_the_newest_letters_are_kept_and_all_are_counted),
        CASE(test_letters_that_were_purged_make_room_for_others),
        CASE(test_rows_beside_the_order_are_bounded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
