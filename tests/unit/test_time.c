/* SPDX-License-Identifier: MIT
 *
 * test_time.c - the forwarder's time, which runs on over the wrap of the port's clock and over any
 * sleep of up to 49 days, as a device makes them that is put aside for the winter.
 */
#include "support.h"

static struct rig rig;

#define DAY_MS UINT32_C(86400000)

/* One step of the clock, with no step of the forwarder within it. */
static const uint32_t sleeps[] = {20 * DAY_MS, 25 * DAY_MS, 30 * DAY_MS, 49 * DAY_MS};
#define SLEEPS (sizeof sleeps / sizeof sleeps[0])

static void start(void **state, const outbox_forwarder_config *config)
{
    rig_start(&rig, *state, config);
}

/* [step-7] */
static void test_a_pause_is_over_after_a_sleep_of_any_length(void **state)
{
    start(state, NULL);
    for (size_t i = 0; i < SLEEPS; i++) {
        rig_step(&rig);
        assert_true(rig.link.is_open);
        fake_link_closed(&rig.link, "cut");
        rig_step(&rig);
        assert_false(rig.link.is_open);
        rig.port.now_ms += sleeps[i];
    }
    rig_step(&rig);
    assert_true(rig.link.is_open);
}

static void test_a_connack_that_did_not_come_before_a_sleep_is_given_up_after_it(void **state)
{
    start(state, NULL);
    for (size_t i = 0; i < SLEEPS; i++) {
        rig_step(&rig);
        assert_true(rig.link.is_open);
        rig.port.now_ms += sleeps[i];
        rig_step(&rig);
        assert_false(rig.link.is_open);
        rig.port.now_ms += DAY_MS;
    }
}

static void test_a_puback_that_did_not_come_before_a_sleep_is_given_up_after_it(void **state)
{
    start(state, NULL);
    bench_put(*state, "a", "b");
    for (size_t i = 0; i < SLEEPS; i++) {
        rig_reconnect(&rig, 10);
        rig_step(&rig);
        assert_int_equal(rig.link.sent_count, (int)i + 1);
        rig.port.now_ms += sleeps[i];
        rig_step(&rig);
        assert_false(rig.link.is_open);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_LINK);
    }
}

static void test_what_was_acked_before_a_sleep_is_settled_right_after_it(void **state)
{
    start(state, NULL);
    rig_connect(&rig, 10);
    for (size_t i = 0; i < SLEEPS; i++) {
        bench_put(*state, "a", "b");
        outbox_forwarder_committed(rig.bench->forwarder, NULL);
        rig_step(&rig);
        assert_int_equal(rig.link.sent_count, (int)i + 1);
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
        rig_step(&rig);
        assert_int_equal(rig_stats(&rig).pending, 1);
        rig.port.now_ms += sleeps[i];
        rig_step(&rig);
        assert_int_equal(rig_stats(&rig).pending, 0);
    }
}

static void test_the_check_for_other_writers_is_due_after_a_sleep_of_any_length(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    rig_connect(&rig, 10);
    for (size_t i = 0; i < SLEEPS; i++) {
        bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('a')");
        rig.port.now_ms += sleeps[i];
        rig_step(&rig);
        assert_int_equal(rig.link.sent_count, (int)i + 1);
        rig_ack_from(&rig, (int)i);
    }
}

/* A commit is heard between two steps and reads the clock too; no round of it may get lost. */
static void test_time_that_passes_between_a_commit_and_a_step_adds_up(void **state)
{
    start(state, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER});
    rig_step(&rig);
    fake_link_closed(&rig.link, "cut");
    rig_step(&rig);
    rig.port.now_ms += 30 * DAY_MS;
    outbox_forwarder_committed(rig.bench->forwarder, NULL);
    rig.port.now_ms += UINT32_MAX - 30 * DAY_MS; /* the clock stands one before where it stood */
    rig_step(&rig);
    assert_true(rig.link.is_open);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_pause_is_over_after_a_sleep_of_any_length),
        CASE(test_a_connack_that_did_not_come_before_a_sleep_is_given_up_after_it),
        CASE(test_a_puback_that_did_not_come_before_a_sleep_is_given_up_after_it),
        CASE(test_what_was_acked_before_a_sleep_is_settled_right_after_it),
        CASE(test_the_check_for_other_writers_is_due_after_a_sleep_of_any_length),
        CASE(test_time_that_passes_between_a_commit_and_a_step_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
