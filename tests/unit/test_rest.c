/* SPDX-License-Identifier: MIT
 *
 * test_rest.c - when and how fast the forwarder sends: the gate, batches, the pace.
 */
#include "support.h"

#include "pace.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static void put(struct bench *bench, outbox_lane lane, int count)
{
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++) {
        outbox_event event = {.topic = lane == OUTBOX_URGENT ? "u" : "n",
                              .payload = "x",
                              .payload_len = 1,
                              .lane = lane};
        assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    }
    bench_sql(bench->db, "COMMIT");
    if (bench->forwarder)
        outbox_forwarder_committed(bench->forwarder, NULL);
}

/* Lets time pass over a broker that takes everything. */
static void broker(uint32_t ms)
{
    static int from;
    if (from > rig.link.sent_count)
        from = 0;
    for (uint32_t passed = 0; passed < ms; passed += 20) {
        if (rig.link.is_open && rig.link.answered != rig.link.opens)
            fake_link_opened(&rig.link, 1000);
        rig_run(&rig, 10);
        for (; from < rig.link.sent_count && rig.link.is_open; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 10);
    }
}

/* ---- The gate -------------------------------------------------------------------------------- */

/* [gate-1] */
static void test_a_closed_gate_sends_nothing_and_closes_the_link(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    broker(100);
    assert_true(rig.link.is_open);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_CLOSED);
    put(bench, OUTBOX_NORMAL, 3);
    put(bench, OUTBOX_URGENT, 3);
    broker(60000);
    assert_false(rig.link.is_open);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).state, OUTBOX_STATE_RESTING);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_OPEN);
    broker(2000);
    assert_int_equal(rig_stats(&rig).delivered, 6);
}

/* [gate-1] */
static void test_what_is_in_flight_is_waited_for_when_the_gate_closes(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 2);
    assert_int_equal(rig.link.sent_count, 2);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_CLOSED);
    rig_run(&rig, 100);
    assert_true(rig.link.is_open);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_run(&rig, 2000);
    assert_false(rig.link.is_open);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

/* [gate-1] */
static void test_only_urgent_events_pass_a_gate_that_says_so(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    put(bench, OUTBOX_NORMAL, 5);
    broker(5000);
    assert_int_equal(rig.link.opens, 0);
    put(bench, OUTBOX_URGENT, 1);
    broker(5000);
    assert_int_equal(rig_stats(&rig).lanes[OUTBOX_URGENT].delivered, 1);
    assert_int_equal(rig_stats(&rig).lanes[OUTBOX_NORMAL].delivered, 0);
    assert_false(rig.link.is_open);
    assert_int_equal(rig.link.opens, 1);
}

static void test_a_forwarder_behind_a_closed_gate_sleeps_for_days(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_CLOSED);
    rig_step(&rig);
    rig_step(&rig);
    assert_true(rig.next_ms > 86400000);
}

/* ---- Batches --------------------------------------------------------------------------------- */

/* [batch-1] */
static void test_the_link_is_opened_once_so_many_events_wait(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_events = 10});
    put(bench, OUTBOX_NORMAL, 9);
    broker(20000);
    assert_int_equal(rig.link.opens, 0);
    put(bench, OUTBOX_NORMAL, 1);
    broker(5000);
    assert_int_equal(rig_stats(&rig).delivered, 10);
    assert_false(rig.link.is_open);
    assert_int_equal(rig.link.opens, 1);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

/* [batch-1] */
static void test_the_link_is_opened_so_many_seconds_after_the_first_event(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_seconds = 30});
    broker(5000);
    put(bench, OUTBOX_NORMAL, 1);
    broker(15000);
    put(bench, OUTBOX_NORMAL, 1);
    broker(14000);
    assert_int_equal(rig.link.opens, 0);
    broker(3000);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_false(rig.link.is_open);
    broker(60000);
    assert_int_equal(rig.link.opens, 1);
}

/* [batch-1] */
static void test_an_urgent_event_does_not_wait_for_the_batch(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_seconds = 3600});
    put(bench, OUTBOX_NORMAL, 1);
    broker(2000);
    put(bench, OUTBOX_URGENT, 1);
    broker(2000);
    assert_int_equal(rig_stats(&rig).delivered, 2); /* as the radio is on */
}

/* [batch-1] */
static void test_rows_of_other_writers_count_for_the_batch(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_events = 2});
    broker(2000);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('a'), ('b')");
    broker(3000);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

static void test_a_flush_does_not_wait_for_the_batch(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_seconds = 3600});
    put(bench, OUTBOX_NORMAL, 1);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){1, 0});
    broker(2000);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* [batch-1] the wait is over, whatever becomes of the first attempt */
static void test_a_batch_that_is_due_does_not_wait_again_behind_a_lost_connection(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench,
              &(outbox_forwarder_config){.batch_seconds = 3600, .backoff_max_ms = 2000});
    put(bench, OUTBOX_NORMAL, 1);
    rig_run(&rig, 3500000);
    assert_false(rig.link.is_open);
    rig_run(&rig, 101000);
    assert_true(rig.link.is_open);
    fake_link_closed(&rig.link, "unreachable");
    rig_run(&rig, 2100);
    assert_int_equal(rig.link.opens, 2);
    broker(2000);
    assert_int_equal(rig_stats(&rig).delivered, 1);
    put(bench, OUTBOX_NORMAL, 1);
    broker(60000);
    assert_int_equal(rig_stats(&rig).delivered, 1); /* the next batch waits again */
}

/* [batch-1] also those of an earlier run, of which nobody tells */
static void test_events_that_are_there_at_the_start_count_for_the_batch(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 1);
    rig_start(&rig, bench,
              &(outbox_forwarder_config){.batch_seconds = 2, .foreign_check_ms = OUTBOX_NEVER});
    broker(5000);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* [step-5] */
static void test_a_forwarder_at_rest_does_not_spin_beside_an_open_transaction(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_events = 10, .shared_connection = 1});
    rig_step(&rig);
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    outbox_forwarder_committed(bench->forwarder, NULL);
    for (int i = 0; i < 5; i++) {
        rig_step(&rig);
        assert_int_equal(rig.next_ms, 100);
    }
    bench_sql(bench->db, "COMMIT");
}

/* [batch-1] a row without a tombstone below it waits as well */
static void test_an_event_whose_tombstone_was_deleted_waits_for_its_batch(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 1);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE ledger IS NOT NULL");
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_seconds = 1});
    broker(8000);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* ---- The pace -------------------------------------------------------------------------------- */

/* [pace-1] */
static void test_no_minute_has_more_events_than_the_pace_allows(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 2000);
    rig_start(&rig, bench, &(outbox_forwarder_config){.pace = {.events_per_s = 20}});
    broker(1000);
    assert_in_range(rig.link.sent_count, 20, 41);
    broker(59000);
    assert_in_range(rig.link.sent_count, 1180, 1221);
}

/* [pace-1] */
static void test_no_minute_has_more_bytes_than_the_pace_allows(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 1500);
    rig_start(&rig, bench,
              &(outbox_forwarder_config){.mode = OUTBOX_PLAIN, .pace = {.bytes_per_s = 40}});
    broker(60000); /* each has a topic of one byte and a payload of one */
    assert_in_range(rig.link.sent_count, 1190, 1240);
}

/* [pace-1] */
static void test_an_event_larger_than_a_seconds_worth_goes_all_the_same(void **state)
{
    struct bench *bench = *state;
    char large[2001];
    memset(large, 'x', 2000);
    large[2000] = '\0';
    bench_put(bench, "a", large);
    bench_put(bench, "a", "behind");
    rig_start(&rig, bench, &(outbox_forwarder_config){.pace = {.bytes_per_s = 100}});
    broker(2000);
    assert_int_equal(rig.link.sent_count, 1);
    broker(30000);
    assert_int_equal(rig.link.sent_count, 2);
}

static void test_a_pace_wakes_nobody_more_often_than_it_sends(void **state)
{
    struct bench *bench = *state;
    put(bench, OUTBOX_NORMAL, 100);
    rig_start(
        &rig, bench,
        &(outbox_forwarder_config){.pace = {.events_per_s = 1}, .foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 1000);
    rig_step(&rig);
    assert_in_range(rig.next_ms, 900, 1000);
}

static void test_tokens_are_exact_over_any_pause(void **state)
{
    (void)state;
    const outbox_pace rate = {.events_per_s = 1000000, .bytes_per_s = 1u << 30};
    struct ob_pace pace;
    ob_pace_start(&pace, &rate, 0);
    ob_pace_spend(&pace, OUTBOX_PAYLOAD_CAP);
    assert_int_equal(ob_pace_next(&pace, &rate, UINT64_MAX / 2), UINT64_MAX / 2);
    for (int i = 0; i < 1000000; i++)
        ob_pace_spend(&pace, 0);
    uint64_t now = UINT64_MAX / 2;
    assert_int_equal(ob_pace_next(&pace, &rate, now), now + 1);
}

static void test_a_pace_out_of_range_is_refused(void **state)
{
    (void)state;
    outbox_forwarder_config config = {.pace = {.events_per_s = 1000001}};
    assert_int_equal(outbox_forwarder_size(&config), 0);
    config = (outbox_forwarder_config){.pace = {.bytes_per_s = (1u << 30) + 1}};
    assert_int_equal(outbox_forwarder_size(&config), 0);
    config = (outbox_forwarder_config){.pace = OUTBOX_PACE_AWS_IOT};
    assert_true(outbox_forwarder_size(&config) > 0);
    config = (outbox_forwarder_config){.pace = OUTBOX_PACE_AZURE_S1};
    assert_true(outbox_forwarder_size(&config) > 0);
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
        CASE(test_an_event_whose_tombstone_was_deleted_waits_for_its_batch),
        CASE(test_a_closed_gate_sends_nothing_and_closes_the_link),
        CASE(test_what_is_in_flight_is_waited_for_when_the_gate_closes),
        CASE(test_only_urgent_events_pass_a_gate_that_says_so),
        CASE(test_a_forwarder_behind_a_closed_gate_sleeps_for_days),
        CASE(test_the_link_is_opened_once_so_many_events_wait),
        CASE(test_the_link_is_opened_so_many_seconds_after_the_first_event),
        CASE(test_an_urgent_event_does_not_wait_for_the_batch),
        CASE(test_rows_of_other_writers_count_for_the_batch),
        CASE(test_a_flush_does_not_wait_for_the_batch),
        CASE(test_a_batch_that_is_due_does_not_wait_again_behind_a_lost_connection),
        CASE(test_events_that_are_there_at_the_start_count_for_the_batch),
        CASE(test_a_forwarder_at_rest_does_not_spin_beside_an_open_transaction),
        CASE(test_no_minute_has_more_events_than_the_pace_allows),
        CASE(test_no_minute_has_more_bytes_than_the_pace_allows),
        CASE(test_an_event_larger_than_a_seconds_worth_goes_all_the_same),
        CASE(test_a_pace_wakes_nobody_more_often_than_it_sends),
        cmocka_unit_test(test_tokens_are_exact_over_any_pause),
        cmocka_unit_test(test_a_pace_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
