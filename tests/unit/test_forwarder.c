/* SPDX-License-Identifier: MIT
 *
 * test_forwarder.c - the state machine against a link and a clock that the test moves by hand.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rig rig;

static void put_many(struct bench *bench, int count)
{
    char payload[32];
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++) {
        snprintf(payload, sizeof payload, "reading %d", i);
        bench_put(bench, "plant/7/temp", payload);
    }
    bench_sql(bench->db, "COMMIT");
}

static void start(void **state, const outbox_forwarder_config *config)
{
    rig_start(&rig, *state, config);
}

/* [P5] [step-2] */
static void test_events_are_published_in_commit_order_up_to_the_window(void **state)
{
    put_many(*state, 150);
    start(state, NULL);
    rig_connect(&rig, 65535);
    assert_int_equal(rig.link.sent_count, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(rig.link.sent[i].id, i + 1);
}

/* [step-2] */
static void test_the_receive_maximum_of_the_server_bounds_the_window(void **state)
{
    put_many(*state, 10);
    start(state, NULL);
    rig_connect(&rig, 3);
    assert_int_equal(rig.link.sent_count, 3);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 4);
}

/* [P3] */
static void test_a_row_stays_until_its_puback(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    start(state, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 20000);
    assert_int_equal(rig_stats(&rig).pending, 3);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(rig_stats(&rig).delivered, 3);
}

static void test_previous_names_the_event_ahead(void **state)
{
    put_many(*state, 3);
    start(state, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent[0].previous, 0);
    assert_int_equal(rig.link.sent[1].previous, 1);
    rig_ack_from(&rig, 0);
    put_many(*state, 1);
    outbox_forwarder_committed(rig.bench->forwarder, NULL);
    rig_step(&rig);
    assert_int_equal(rig.link.sent[3].previous, 3);
}

/* [P3] acks out of order: the run from the front counts. */
static void test_an_ack_behind_one_that_is_missing_settles_nothing(void **state)
{
    put_many(*state, 3);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    rig_run(&rig, 20000);
    assert_int_equal(rig_stats(&rig).pending, 3);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

/* [step-3] */
static void test_after_a_loss_the_unacked_are_sent_again_in_order(void **state)
{
    put_many(*state, 4);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    fake_link_closed(&rig.link, "cut");
    rig_step(&rig);
    rig.link.sent_count = 0;
    rig_run(&rig, 1000);
    fake_link_opened(&rig.link, 10);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig.link.sent[i].id, i + 2);
    assert_int_equal(rig.link.sent[0].previous, 1);
}

/* [step-3] */
static void test_an_ack_with_a_token_of_an_earlier_connection_is_ignored(void **state)
{
    put_many(*state, 2);
    start(state, NULL);
    rig_connect(&rig, 10);
    uint32_t old[2] = {rig.link.sent[0].token, rig.link.sent[1].token};
    fake_link_closed(&rig.link, "cut");
    rig_run(&rig, 1001);
    fake_link_opened(&rig.link, 10);
    rig_step(&rig);
    fake_link_acked(&rig.link, old[0], 0);
    fake_link_acked(&rig.link, old[1], 0);
    fake_link_acked(&rig.link, 12345678, 0);
    rig_run(&rig, 5000);
    assert_int_equal(rig_stats(&rig).pending, 2);
}

static void test_a_repeated_ack_counts_once(void **state)
{
    put_many(*state, 2);
    start(state, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_stats(&rig).pending, 1);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* [step-4] [step-6] */
static void test_nothing_behind_a_refused_event_is_settled(void **state)
{
    put_many(*state, 3);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0x87);
    assert_int_equal(rig_step(&rig), OUTBOX_REFUSED);
    assert_false(rig.link.is_open);
    outbox_forwarder_flush(rig.bench->forwarder, (int64_t[]){3, 0});
    rig_run(&rig, 100);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.delivered, 1);
    assert_int_equal(now.pending, 2);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_id, 2);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_reason, 0x87);
}

/* [step-4] */
static void test_a_refused_event_is_sent_again_alone_and_then_all_goes_on(void **state)
{
    put_many(*state, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x97);
    rig_step(&rig);
    rig.link.sent_count = 0;
    rig_run(&rig, 1001);
    fake_link_opened(&rig.link, 10);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig.link.sent[0].id, 1);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    assert_int_equal(rig_step(&rig), OUTBOX_OK);
    assert_int_equal(rig.link.sent_count, 5);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
}

static void test_an_event_that_is_too_large_is_waited_for_without_spinning(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 1);
    bench_put(bench, "plant/7/temp", "a payload that is longer than the others by quite a bit");
    start(state, NULL);
    rig.link.maximum_packet = 342;
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_true(rig.next_ms >= 1000);
}

static void test_a_puback_that_never_comes_ends_the_connection(void **state)
{
    put_many(*state, 2);
    start(state, &(outbox_forwarder_config){.ack_timeout_ms = 5000});
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_run(&rig, 1900);
    assert_true(rig.link.is_open);
    rig_run(&rig, 200);
    assert_false(rig.link.is_open);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_LINK);
}

static void test_a_connack_that_never_comes_ends_the_attempt(void **state)
{
    start(state, &(outbox_forwarder_config){.connect_timeout_ms = 2000});
    rig_step(&rig);
    assert_true(rig.link.is_open);
    rig_run(&rig, 2001);
    assert_false(rig.link.is_open);
}

/* Bounds of the pauses with dice that always show the most: 1, 2, 4 ... 60 s. */
static void test_the_pause_between_attempts_doubles_up_to_its_bound(void **state)
{
    static const uint32_t bounds[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    start(state, NULL);
    rig.link.refuse_open = true;
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        rig.port.dice = bounds[i];
        rig_step(&rig);
        assert_int_equal(rig.link.opens, (int)i + 1);
        assert_int_equal(rig.next_ms, bounds[i]);
        rig.port.now_ms += rig.next_ms;
    }
}

static void test_a_connack_alone_does_not_shorten_the_next_pause(void **state)
{
    start(state, NULL);
    for (int i = 0; i < 4; i++) {
        rig.port.dice = 1000u << i;
        rig_step(&rig);
        fake_link_opened(&rig.link, 10);
        rig_step(&rig);
        fake_link_closed(&rig.link, "thrown out");
        rig_step(&rig);
        assert_int_equal(rig.next_ms, 1000u << i);
        rig.port.now_ms += rig.next_ms;
    }
}

static void test_progress_shortens_the_next_pause(void **state)
{
    put_many(*state, 1);
    start(state, NULL);
    rig.port.dice = 0;
    for (int i = 0; i < 5; i++) {
        rig_step(&rig);
        fake_link_closed(&rig.link, "refused");
        rig_step(&rig);
    }
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    rig.port.dice = 1000;
    fake_link_closed(&rig.link, "cut");
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).backoff_ms, 1000);
}

static void test_a_server_without_qos_1_gets_nothing(void **state)
{
    put_many(*state, 1);
    start(state, NULL);
    rig_step(&rig);
    fake_link_opened(&rig.link, 10);
    rig.link.events[rig.link.event_end - 1].maximum_qos = 0;
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 0);
    assert_false(rig.link.is_open);
}

static void test_a_link_without_room_is_tried_again_soon(void **state)
{
    put_many(*state, 3);
    start(state, NULL);
    rig.link.room = 1;
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_in_range(rig.next_ms, 1, 20);
    rig.link.room = -1;
    rig.port.now_ms += rig.next_ms;
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 3);
}

/* ---- Settling -------------------------------------------------------------------------------- */

static void test_acks_are_settled_in_batches(void **state)
{
    put_many(*state, 100);
    start(state, &(outbox_forwarder_config){.settle_batch = 32});
    rig_connect(&rig, 100);
    for (int i = 0; i < 70; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 20);
    assert_int_equal(rig_stats(&rig).settles, 2);
    assert_int_equal(rig_stats(&rig).delivered, 64);
}

static void test_a_few_acks_are_settled_after_a_quiet_second(void **state)
{
    put_many(*state, 5);
    start(state, NULL);
    rig_connect(&rig, 100);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_run(&rig, 900);
    assert_int_equal(rig_stats(&rig).delivered, 0);
    rig_run(&rig, 200);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

static void test_a_trickle_of_acks_is_settled_too(void **state)
{
    put_many(*state, 100);
    start(state, NULL);
    rig_connect(&rig, 100);
    for (int i = 0; i < 30; i++) {
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_run(&rig, 500);
    }
    assert_true(rig_stats(&rig).delivered >= 20);
}

/* [P8] the application holds the write lock: later, and nothing is forgotten. */
static void test_a_settle_waits_while_the_application_writes(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    start(state, NULL);
    rig_connect(&rig, 100);
    bench_sql(bench->db, "BEGIN IMMEDIATE");
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){3, 0});
    rig_step(&rig);
    assert_in_range(rig.next_ms, 1, 20);
    bench_sql(bench->db, "COMMIT");
    rig_run(&rig, 50);
    assert_int_equal(rig_stats(&rig).delivered, 3);
}

/* [step-6] [P9] a lock that is never given back would otherwise look like nothing to do */
static void test_a_write_lock_that_is_held_for_ten_seconds_is_reported(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    start(state, &(outbox_forwarder_config){.ack_timeout_ms = 1000000});
    sqlite3_busy_timeout(bench->own, 0); /* real time, of which the test has none */
    rig_connect(&rig, 100);
    bench_sql(bench->db, "BEGIN IMMEDIATE");
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){1, 0});
    rig_run(&rig, 9900);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_run(&rig, 200);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_BUSY);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "another connection"));
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "write lock"));
    rig_run(&rig, 60000);
    assert_int_equal(rig.port.warnings, 1);
    bench_sql(bench->db, "COMMIT");
    rig_run(&rig, 300);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

static void test_a_lock_that_is_given_back_now_and_then_is_no_trouble(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 20);
    start(state, &(outbox_forwarder_config){.settle_batch = 1, .ack_timeout_ms = 1000000});
    sqlite3_busy_timeout(bench->own, 0);
    rig_connect(&rig, 100);
    for (int i = 0; i < 5; i++) {
        bench_sql(bench->db, "BEGIN IMMEDIATE");
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_run(&rig, 8000);
        bench_sql(bench->db, "COMMIT");
        rig_run(&rig, 300);
        assert_int_equal(rig_stats(&rig).delivered, i + 1);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    }
    rig_run(&rig, 30000);
    assert_int_equal(rig.port.warnings, 0);
}

/* [step-1] */
/* What the lock did while nobody asked is not known: two short waits are not one long wait. */
static void test_a_lock_that_is_met_again_after_a_long_rest_is_no_trouble(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 1);
    start(state, &(outbox_forwarder_config){.settle_batch = 1, .ack_timeout_ms = 1u << 20});
    rig_connect(&rig, 10);
    bench_sql(bench->db, "BEGIN IMMEDIATE");
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    rig.port.now_ms += 60000; /* the device slept */
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    bench_sql(bench->db, "COMMIT");
    rig_run(&rig, 100);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

static void test_no_lock_is_held_between_two_steps(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    put_many(bench, 30);
    start(state, &(outbox_forwarder_config){.settle_batch = 4});
    rig_connect(&rig, 10);
    for (int i = 0; i < 10; i++) {
        bench_sql(bench->db, "BEGIN EXCLUSIVE; COMMIT");
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_run(&rig, 5);
    }
}

static void in_publish(void *context)
{
    struct bench *bench = context;
    assert_true(sqlite3_get_autocommit(bench->own));
    assert_int_equal(sqlite3_txn_state(bench->own, NULL), SQLITE_TXN_NONE);
}

/* [P8] */
static void test_no_transaction_is_open_while_the_link_is_called(void **state)
{
    put_many(*state, 300);
    start(state, NULL);
    rig.link.on_publish = in_publish;
    rig.link.on_publish_context = *state;
    rig_connect(&rig, 100);
    rig_ack_from(&rig, 0);
    assert_true(rig.link.sent_count >= 200);
}

/* [close-1] */
static void test_close_settles_what_was_acked(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 5);
    start(state, NULL);
    rig_connect(&rig, 100);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_step(&rig);
    rig_stop(&rig);
    outbox_statistics now;
    assert_int_equal(outbox_inspect(bench->db, &now, NULL, 0), OUTBOX_OK);
    assert_int_equal(now.delivered, 2);
    assert_int_equal(now.pending, 3);
    assert_null(sqlite3_next_stmt(bench->own, NULL));
}

/* ---- Other writers --------------------------------------------------------------------------- */

static void test_a_row_of_another_connection_is_found_by_the_check(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 100);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', 'b')");
    rig_run(&rig, 500);
    assert_int_equal(rig.link.sent_count, 0);
    rig_run(&rig, 1000);
    assert_int_equal(rig.link.sent_count, 1);
}

/* [P7] */
static void test_an_idle_forwarder_sleeps_for_days_without_the_check(void **state)
{
    start(state, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 10);
    rig_step(&rig);
    assert_true(rig.next_ms > 6u * 24 * 3600 * 1000);
}

/* [step-7] a pause that was over long ago must not look like one to come */
static void test_after_months_of_idling_an_event_goes_out_at_once(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 1);
    start(state, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    for (int i = 0; i < 15; i++) {
        rig_step(&rig);
        rig.port.now_ms += rig.next_ms;
        put_many(bench, 1);
        outbox_forwarder_committed(bench->forwarder, NULL);
        rig_step(&rig);
        assert_int_equal(rig.link.sent_count, i + 2);
        rig_ack_from(&rig, i + 1);
        assert_int_equal(rig_stats(&rig).pending, 0);
        for (int idle = 0; idle < i; idle++) {
            rig_step(&rig);
            rig.port.now_ms += rig.next_ms;
        }
    }
}

/* [P7] */
static void test_an_idle_forwarder_wakes_once_a_second_for_the_check(void **state)
{
    start(state, NULL);
    rig_connect(&rig, 10);
    rig_step(&rig);
    assert_int_equal(rig.next_ms, 1000);
}

/* ---- One connection for everything ----------------------------------------------------------- */

/* [step-5] */
static void test_a_step_inside_the_applications_transaction_reads_nothing(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 0);
    bench_sql(bench->db, "ROLLBACK");
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 0);
    bench_put(bench, "a", "c");
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 1);
}

/* [step-5] */
static void test_a_step_inside_the_applications_transaction_settles_nothing(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    put_many(bench, 2);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    bench_sql(bench->db, "BEGIN");
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_run(&rig, 5000);
    assert_int_equal(rig_stats(&rig).pending, 2);
    bench_sql(bench->db, "ROLLBACK");
    rig_run(&rig, 5000);
    assert_int_equal(rig_stats(&rig).pending, 1);
}

/* [step-5] */
static void test_the_end_of_a_transaction_without_puts_need_not_be_told(void **state)
{
    struct bench *bench = *state;
    start(state,
          &(outbox_forwarder_config){.shared_connection = 1, .foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 10);
    bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, NULL);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(rig_step(&rig), OUTBOX_OK);
    assert_true(rig.next_ms <= 100);
    bench_sql(bench->db, "ROLLBACK");
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, 1);
}

/* [P8] [step-5] */
static void test_a_shared_connection_keeps_its_settings(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 77");
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    put_many(bench, 2);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "PRAGMA synchronous"), 2);
    assert_int_equal(bench_number(bench->db, "PRAGMA wal_autocheckpoint"), 77);
}

/* [P8] [step-5] A dead letter and a barrier of DELETE mode are INSERTs. */
static void test_a_shared_connection_keeps_its_last_insert_rowid(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;"
                         "CREATE TABLE counter(id INTEGER PRIMARY KEY)");
    start(state, &(outbox_forwarder_config){.shared_connection = 1});
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('no#topic', 'x'),"
                         " ('plant/1', 'warm');"
                         "INSERT INTO counter VALUES(4711)");
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 1);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_meta"
                                             " WHERE name = 'barrier'"),
                     1);
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 4711);
}

/* ---- Init ------------------------------------------------------------------------------------ */

/* [init-3] */
static void test_no_forwarder_begins_inside_a_transaction(void **state)
{
    struct bench *bench = *state;
    struct fake_port port;
    struct fake_link link;
    char sentence[160] = "";
    fake_port_init(&port);
    fake_link_init(&link);
    size_t size = outbox_forwarder_size(NULL);
    void *memory = malloc(size);
    outbox_forwarder *forwarder;
    outbox_forwarder_config config = {.shared_connection = 1};
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_forwarder_init(memory, size, bench->db, &link.link, &port.port, &config,
                                           &forwarder, sentence, sizeof sentence),
                     OUTBOX_MISUSE);
    assert_null(forwarder);
    assert_non_null(strstr(sentence, "transaction is open"));
    assert_int_equal(sqlite3_get_autocommit(bench->db), 0);
    bench_sql(bench->db, "ROLLBACK");
    free(memory);
}

/* [init-1] */
static void test_a_value_out_of_range_has_no_size(void **state)
{
    (void)state;
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.window = 1001}), 0);
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.settle_batch = 1025}), 0);
    assert_int_equal(
        outbox_forwarder_size(&(outbox_forwarder_config){.payload_max = OUTBOX_PAYLOAD_CAP + 1}),
        0);
    assert_int_equal(
        outbox_forwarder_size(&(outbox_forwarder_config){.backoff_min_ms = 9, .backoff_max_ms = 8}),
        0);
    assert_true(outbox_forwarder_size(NULL) > 0);
}

/* [init-1] */
static void test_a_buffer_has_a_least_and_a_largest_size(void **state)
{
    (void)state;
    const size_t least = 2048, largest = (size_t)110 * 1024 * 1024;
    assert_true(outbox_forwarder_size(&(outbox_forwarder_config){.buffer_size = least}) > least);
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.buffer_size = least - 1}),
                     0);
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.buffer_size = largest}), 0);
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.buffer_size = SIZE_MAX}), 0);
    assert_int_equal(
        outbox_forwarder_size(&(outbox_forwarder_config){.buffer_size = SIZE_MAX - 4000}), 0);
    assert_true(outbox_forwarder_size(&(outbox_forwarder_config){
                    .payload_max = OUTBOX_PAYLOAD_CAP}) > (size_t)6 * OUTBOX_PAYLOAD_CAP);
}

/* [init-2] */
static void test_init_without_an_outbox_in_the_file_fails_and_changes_nothing(void **state)
{
    (void)state;
    sqlite3 *db;
    struct fake_port port;
    char sentence[200] = "", memory[32768];
    outbox_forwarder_config config = {.payload_max = 100, .window = 4, .settle_batch = 4};
    outbox_forwarder *forwarder;
    fake_port_init(&port);
    fake_link_init(&rig.link);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_true(outbox_forwarder_size(&config) <= sizeof memory);
    assert_int_equal(outbox_forwarder_init(memory, sizeof memory, db, &rig.link.link, &port.port,
                                           &config, &forwarder, sentence, sizeof sentence),
                     OUTBOX_CORRUPT);
    assert_null(forwarder);
    assert_non_null(strstr(sentence, "outbox init"));
    assert_int_equal(bench_number(db, "SELECT count(*) FROM sqlite_master"), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int deny_settles(void *context, int action, const char *a, const char *b, const char *c,
                        const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_DELETE && strcmp(a, "outbox_event") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [init-2] */
static void test_init_that_fails_leaves_the_connection_as_it_was(void **state)
{
    struct bench *bench = *state;
    struct fake_port port;
    outbox_forwarder *forwarder;
    outbox_forwarder_config config = {.payload_max = 100, .window = 4, .settle_batch = 4};
    char memory[32768];
    fake_port_init(&port);
    fake_link_init(&rig.link);
    bench->own = bench_connect(bench);
    bench_sql(bench->own, "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 77");
    int length = sqlite3_limit(bench->own, SQLITE_LIMIT_LENGTH, -1);
    sqlite3_set_authorizer(bench->own, deny_settles, NULL);
    assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->own, &rig.link.link,
                                           &port.port, &config, &forwarder, NULL, 0),
                     OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
    assert_null(sqlite3_next_stmt(bench->own, NULL));
    assert_int_equal(bench_number(bench->own, "PRAGMA synchronous"), 2);
    assert_int_equal(bench_number(bench->own, "PRAGMA wal_autocheckpoint"), 77);
    assert_int_equal(sqlite3_limit(bench->own, SQLITE_LIMIT_LENGTH, -1), length);
}

/* [init-2] */
static void test_init_with_too_little_memory_says_how_much_it_needs(void **state)
{
    struct bench *bench = *state;
    char sentence[200] = "", memory[64];
    struct fake_port port;
    outbox_forwarder *forwarder;
    fake_port_init(&port);
    fake_link_init(&rig.link);
    assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->db, &rig.link.link,
                                           &port.port, NULL, &forwarder, sentence, sizeof sentence),
                     OUTBOX_NO_MEMORY);
    assert_non_null(strstr(sentence, "bytes"));
    assert_int_equal(outbox_forwarder_init(NULL, 0, bench->db, &rig.link.link, &port.port, NULL,
                                           &forwarder, NULL, 0),
                     OUTBOX_MISUSE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

/* [mode-5] */
static void test_in_binary_mode_nothing_is_sent_to_a_broker_without_properties(void **state)
{
    put_many(*state, 1);
    start(state, &(outbox_forwarder_config){.mode = OUTBOX_BINARY});
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    fake_link_closed(&rig.link, "gone");
    rig_step(&rig);
    rig.link.protocol = 4;
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.opens, 2);
    fake_link_opened(&rig.link, 10);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_LINK);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "3.1.1"));
    assert_int_equal(rig_stats(&rig).state, OUTBOX_STATE_BACKOFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_in_binary_mode_nothing_is_sent_to_a_broker_without_properties),
        CASE(test_events_are_published_in_commit_order_up_to_the_window),
        CASE(test_the_receive_maximum_of_the_server_bounds_the_window),
        CASE(test_a_row_stays_until_its_puback),
        CASE(test_previous_names_the_event_ahead),
        CASE(test_an_ack_behind_one_that_is_missing_settles_nothing),
        CASE(test_after_a_loss_the_unacked_are_sent_again_in_order),
        CASE(test_an_ack_with_a_token_of_an_earlier_connection_is_ignored),
        CASE(test_a_repeated_ack_counts_once),
        CASE(test_nothing_behind_a_refused_event_is_settled),
        CASE(test_a_refused_event_is_sent_again_alone_and_then_all_goes_on),
        CASE(test_an_event_that_is_too_large_is_waited_for_without_spinning),
        CASE(test_a_puback_that_never_comes_ends_the_connection),
        CASE(test_a_connack_that_never_comes_ends_the_attempt),
        CASE(test_the_pause_between_attempts_doubles_up_to_its_bound),
        CASE(test_a_connack_alone_does_not_shorten_the_next_pause),
        CASE(test_progress_shortens_the_next_pause),
        CASE(test_a_server_without_qos_1_gets_nothing),
        CASE(test_a_link_without_room_is_tried_again_soon),
        CASE(test_acks_are_settled_in_batches),
        CASE(test_a_few_acks_are_settled_after_a_quiet_second),
        CASE(test_a_trickle_of_acks_is_settled_too),
        CASE(test_a_settle_waits_while_the_application_writes),
        CASE(test_a_write_lock_that_is_held_for_ten_seconds_is_reported),
        CASE(test_a_lock_that_is_given_back_now_and_then_is_no_trouble),
        CASE(test_a_lock_that_is_met_again_after_a_long_rest_is_no_trouble),
        CASE(test_no_lock_is_held_between_two_steps),
        CASE(test_no_transaction_is_open_while_the_link_is_called),
        CASE(test_close_settles_what_was_acked),
        CASE(test_a_row_of_another_connection_is_found_by_the_check),
        CASE(test_an_idle_forwarder_sleeps_for_days_without_the_check),
        CASE(test_after_months_of_idling_an_event_goes_out_at_once),
        CASE(test_an_idle_forwarder_wakes_once_a_second_for_the_check),
        CASE(test_a_step_inside_the_applications_transaction_reads_nothing),
        CASE(test_a_step_inside_the_applications_transaction_settles_nothing),
        CASE(test_the_end_of_a_transaction_without_puts_need_not_be_told),
        CASE(test_no_forwarder_begins_inside_a_transaction),
        CASE(test_a_shared_connection_keeps_its_settings),
        CASE(test_a_shared_connection_keeps_its_last_insert_rowid),
        CASE(test_a_value_out_of_range_has_no_size),
        CASE(test_a_buffer_has_a_least_and_a_largest_size),
        CASE(test_init_without_an_outbox_in_the_file_fails_and_changes_nothing),
        CASE(test_init_that_fails_leaves_the_connection_as_it_was),
        CASE(test_init_with_too_little_memory_says_how_much_it_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
