/* SPDX-License-Identifier: MIT
 *
 * test_superloop.c - a handle bound to a forwarder that is stepped by the same thread.
 */
#include "unit/support.h"

#include <stdlib.h>

static struct rig rig;

/* It looks for nobody else's rows, so it sends only what it is told of. */
static const outbox_forwarder_config told_only = {
    .shared_connection = 1, .foreign_check_ms = OUTBOX_NEVER, .fire_bytes = 4096};

static void begin(struct bench *bench)
{
    const outbox_config config = {.limits[OUTBOX_NORMAL] = {.max_events = 3}};
    bench_reopen(bench, "TRUNCATE", "FULL");
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    rig_start(&rig, bench, &told_only);
    assert_int_equal(outbox_forwarder_bind(bench->forwarder, bench->box), OUTBOX_OK);
    rig_connect(&rig, 10);
}

static void end(struct bench *bench)
{
    outbox_detach(bench->box);
    bench->box = NULL;
    bench->forwarder = NULL;
    free(bench->memory);
    bench->memory = NULL;
}

/* [bind-1] */
static void test_a_commit_is_sent_with_the_next_step(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    bench_put(bench, "t", "1");
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    end(bench);
}

/* [bind-1] */
static void test_a_fire_and_forget_event_is_sent_with_the_next_step(void **state)
{
    struct bench *bench = *state;
    const outbox_event event = {
        .topic = "t", .payload = "1", .payload_len = 1, .fire_and_forget = 1};
    begin(bench);
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_true(rig.link.sent[0].fire_and_forget);
    end(bench);
}

/* [bind-1] */
static void test_a_closed_gate_holds_events_back(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    assert_int_equal(outbox_gate(bench->box, OUTBOX_GATE_CLOSED), OUTBOX_OK);
    bench_put(bench, "t", "1");
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 0);
    end(bench);
}

/* [bind-1] */
static void test_the_handle_s_statistics_have_the_forwarder_s_part(void **state)
{
    struct bench *bench = *state;
    outbox_statistics statistics;
    begin(bench);
    bench_put(bench, "t", "1");
    rig_step(&rig);
    assert_int_equal(outbox_stats(bench->box, &statistics), OUTBOX_OK);
    assert_int_equal(statistics.state, OUTBOX_STATE_ONLINE);
    assert_int_equal(statistics.sending[OUTBOX_NORMAL].in_flight, 1);
    end(bench);
}

/* [bind-1] */
static void test_a_flush_settles_with_the_next_step_and_does_not_wait(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    bench_put(bench, "t", "1");
    rig_step(&rig);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    assert_int_equal(outbox_flush(bench->box, 60000), OUTBOX_TIMEOUT);
    rig_step(&rig);
    assert_int_equal(outbox_flush(bench->box, 60000), OUTBOX_OK);
    end(bench);
}

/* [bind-1] */
static void test_a_put_that_finds_the_lane_full_hears_what_the_broker_has(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    for (int i = 0; i < 3; i++)
        bench_put(bench, "t", "1");
    rig_step(&rig);
    for (int i = 0; i < 3; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_step(&rig);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 4);
    bench_put(bench, "t", "1");
    end(bench);
}

/* [bind-1] */
static void test_detach_closes_the_forwarder(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    assert_true(rig.link.is_open);
    end(bench);
    assert_false(rig.link.is_open);
}

/* [bind-2] */
static void test_a_second_one_and_none_are_refused(void **state)
{
    struct bench *bench = *state;
    begin(bench);
    assert_int_equal(outbox_forwarder_bind(bench->forwarder, bench->box), OUTBOX_MISUSE);
    assert_int_equal(outbox_forwarder_bind(NULL, bench->box), OUTBOX_MISUSE);
    assert_int_equal(outbox_forwarder_bind(bench->forwarder, NULL), OUTBOX_MISUSE);
    end(bench);
}

#define BENCH_TEST(test) cmocka_unit_test_setup_teardown(test, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_a_commit_is_sent_with_the_next_step),
        BENCH_TEST(test_a_fire_and_forget_event_is_sent_with_the_next_step),
        BENCH_TEST(test_a_closed_gate_holds_events_back),
        BENCH_TEST(test_the_handle_s_statistics_have_the_forwarder_s_part),
        BENCH_TEST(test_a_flush_settles_with_the_next_step_and_does_not_wait),
        BENCH_TEST(test_a_put_that_finds_the_lane_full_hears_what_the_broker_has),
        BENCH_TEST(test_detach_closes_the_forwarder),
        BENCH_TEST(test_a_second_one_and_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
