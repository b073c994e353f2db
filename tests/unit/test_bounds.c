/* SPDX-License-Identifier: MIT
 *
 * test_bounds.c - what is bounded in a step, in the window and in the buffer, and what the
 * forwarder makes of a link that says odd things.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static void put_many(struct bench *bench, int count, int size)
{
    char *payload = sqlite3_mprintf("%.*c", size, 'x');
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++)
        bench_put(bench, "plant/7/temp", payload);
    bench_sql(bench->db, "COMMIT");
    sqlite3_free(payload);
}

static void start(void **state, const outbox_forwarder_config *config)
{
    rig_start(&rig, *state, config);
}

/* Acks each event once, as it comes, until nothing is pending. */
static void drain(int from)
{
    for (int i = 0; i < 5000 && rig_stats(&rig).pending > 0; i++) {
        for (; from < rig.link.sent_count; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 100);
    }
    assert_int_equal(rig_stats(&rig).pending, 0);
}

static void expect_all_in_order(int count)
{
    assert_int_equal(rig.link.sent_count, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(rig.link.sent[i].id, i + 1);
    assert_int_equal(rig_stats(&rig).delivered, count);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

/* [step-6] */
static void test_one_step_publishes_a_bounded_number_and_asks_to_go_on_at_once(void **state)
{
    put_many(*state, 600, 5);
    start(state, &(outbox_forwarder_config){.window = 1000});
    rig_connect(&rig, 65535);
    assert_in_range(rig.link.sent_count, 1, 300);
    assert_int_equal(rig.next_ms, 0);
    for (int i = 0; i < 10; i++)
        rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 600);
    drain(0);
    expect_all_in_order(600);
}

/* [step-6] */
static void test_a_flood_from_the_link_does_not_hold_up_a_step(void **state)
{
    put_many(*state, 1, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    for (uint32_t i = 0; i < 3000; i++)
        fake_link_acked(&rig.link, 0x70000000u + i, 0);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_true(rig.link.event_first < 3000);
    assert_int_equal(rig.next_ms, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.event_first, rig.link.event_end);
    assert_int_equal(rig_stats(&rig).acknowledged, 1);
}

/* [P7] one PUBACK that lags must not let the window grow for ever */
static void test_a_puback_that_lags_bounds_what_is_read_ahead(void **state)
{
    put_many(*state, 100, 5);
    start(state, &(outbox_forwarder_config){.window = 2, .settle_batch = 1});
    rig_connect(&rig, 2);
    for (int i = 1, idle = 0; i < 100 && idle < 3; i++) {
        int before = rig.link.sent_count;
        if (before > i)
            fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_step(&rig);
        idle += rig.link.sent_count == before;
    }
    assert_in_range(rig.link.sent_count, 2, 17);
    assert_in_range(rig.next_ms, 1, 30000);
    assert_int_equal(rig_stats(&rig).delivered, 0);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    drain(rig.link.sent_count - 2);
    assert_int_equal(rig_stats(&rig).delivered, 100);
    assert_int_equal(rig.link.sent_count, 100);
}

static void test_a_batch_larger_than_the_buffer_is_read_in_parts_and_stays_in_order(void **state)
{
    put_many(*state, 40, 300);
    start(state, &(outbox_forwarder_config){.payload_max = 400, .buffer_size = 4096});
    rig_connect(&rig, 100);
    drain(0);
    expect_all_in_order(40);
    assert_int_equal(rig_stats(&rig).refusals, 0);
}

/* ---- Refusals far ahead ---------------------------------------------------------------------- */

/* [step-4] the events ahead of it, more than one fetch gives, have their turn first */
static void test_a_refused_event_far_behind_the_first_unsettled_one_stays_held(void **state)
{
    put_many(*state, 400, 5);
    start(state, &(outbox_forwarder_config){.window = 1000});
    rig_connect(&rig, 65535);
    for (int i = 0; i < 5; i++)
        rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 400);
    fake_link_acked(&rig.link, rig.link.sent[299].token, 0x97);
    rig_step(&rig);
    rig_reconnect(&rig, 65535);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 300);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    assert_int_equal(rig.link.sent[400].id, 1);
    drain(400);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).delivered, 400);
}

/* [step-4] */
static void test_a_refused_event_ahead_of_a_long_backlog_stays_held_until_it_is_taken(void **state)
{
    put_many(*state, 600, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0x97);
    rig_step(&rig);
    rig_reconnect(&rig, 10);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 3);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    drain(10);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(rig_stats(&rig).delivered, 600);
}

/* ---- What the link says ---------------------------------------------------------------------- */

static void test_a_second_connack_changes_nothing(void **state)
{
    put_many(*state, 20, 5);
    start(state, NULL);
    rig_connect(&rig, 3);
    fake_link_opened(&rig.link, 15);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).connects, 1);
    assert_int_equal(rig.link.sent_count, 3);
}

/* [step-2] MQTT 5 forbids a Receive Maximum of 0; without any event in flight nothing would go
 * on */
static void test_a_receive_maximum_of_zero_counts_as_one(void **state)
{
    put_many(*state, 3, 5);
    start(state, NULL);
    rig_connect(&rig, 0);
    assert_int_equal(rig.link.sent_count, 1);
    drain(0);
    expect_all_in_order(3);
}

static void test_the_log_names_the_protocol_and_the_window(void **state)
{
    start(state, &(outbox_forwarder_config){.window = 7});
    rig_step(&rig);
    fake_link_opened(&rig.link, 100);
    rig.link.events[rig.link.event_end - 1].protocol = 4;
    rig_step(&rig);
    assert_string_equal(rig.port.last_line, "connected with MQTT 3.1.1, window 7");
}

static void test_a_loss_that_is_told_twice_is_one_loss(void **state)
{
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_closed(&rig.link, "gone");
    rig_step(&rig);
    unsigned pause = rig_stats(&rig).backoff_ms;
    assert_int_equal(rig_stats(&rig).state, OUTBOX_STATE_BACKOFF);
    fake_link_closed(&rig.link, "gone once more");
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).disconnects, 1);
    assert_int_equal(rig_stats(&rig).backoff_ms, pause);
    assert_string_equal(rig_stats(&rig).last_error_text, "gone");
}

/* A port may grow kinds that this release does not know. */
static void test_an_event_or_an_answer_of_an_unknown_kind_loses_nothing(void **state)
{
    put_many(*state, 2, 5);
    start(state, NULL);
    rig_connect(&rig, 1);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig.link.events[rig.link.event_end - 1].kind = (outbox_link_event_kind)99;
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).acknowledged, 0);
    assert_int_equal(rig_stats(&rig).state, OUTBOX_STATE_ONLINE);
    rig.link.odd_answers = 1;
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_in_range(rig.next_ms, 1, 100);
    drain(1);
    expect_all_in_order(2);
}

static void test_why_a_connection_cannot_be_opened_is_shown(void **state)
{
    start(state, NULL);
    rig.link.refuse_open = true;
    assert_int_equal(rig_step(&rig), OUTBOX_LINK);
    assert_string_equal(rig_stats(&rig).last_error_text, "the connection could not be opened");
    rig.link.refusal = "no route to the broker";
    rig_run(&rig, 3000);
    assert_string_equal(rig_stats(&rig).last_error_text, "no route to the broker");
    rig.link.refusal = "";
    rig_run(&rig, 10000);
    assert_string_equal(rig_stats(&rig).last_error_text, "the connection could not be opened");
}

/* [P9] */
static void test_while_the_broker_cannot_be_reached_that_is_shown_and_not_the_refusal(void **state)
{
    put_many(*state, 2, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x97);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_REFUSED);
    rig_run(&rig, 1001);
    assert_true(rig.link.is_open);
    fake_link_closed(&rig.link, "refused");
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_LINK);
    rig_reconnect(&rig, 10);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_REFUSED);
}

/* ---- Flush ----------------------------------------------------------------------------------- */

/* [flush-1] */
static void test_a_flush_to_an_earlier_event_does_not_shorten_one_to_a_later(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 4, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){4, 0});
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){2, 0});
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).pending, 4);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[3].token, 0);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

static void test_a_flush_to_what_is_settled_asks_for_nothing(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 2, 5);
    start(state, NULL);
    rig_connect(&rig, 10);
    drain(0);
    put_many(bench, 2, 5);
    rig_run(&rig, 1100);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){2, 0});
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).pending, 2);
    rig_run(&rig, 1100);
    assert_int_equal(rig_stats(&rig).pending, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_one_step_publishes_a_bounded_number_and_asks_to_go_on_at_once),
        CASE(test_a_flood_from_the_link_does_not_hold_up_a_step),
        CASE(test_a_puback_that_lags_bounds_what_is_read_ahead),
        CASE(test_a_batch_larger_than_the_buffer_is_read_in_parts_and_stays_in_order),
        CASE(test_a_refused_event_far_behind_the_first_unsettled_one_stays_held),
        CASE(test_a_refused_event_ahead_of_a_long_backlog_stays_held_until_it_is_taken),
        CASE(test_a_second_connack_changes_nothing),
        CASE(test_a_receive_maximum_of_zero_counts_as_one),
        CASE(test_the_log_names_the_protocol_and_the_window),
        CASE(test_a_loss_that_is_told_twice_is_one_loss),
        CASE(test_an_event_or_an_answer_of_an_unknown_kind_loses_nothing),
        CASE(test_why_a_connection_cannot_be_opened_is_shown),
        CASE(test_while_the_broker_cannot_be_reached_that_is_shown_and_not_the_refusal),
        CASE(test_a_flush_to_an_earlier_event_does_not_shorten_one_to_a_later),
        CASE(test_a_flush_to_what_is_settled_asks_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
