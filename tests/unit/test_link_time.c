/* SPDX-License-Identifier: MIT
 *
 * test_link_time.c - a link that keeps back what it is given, and that has times of its own.
 */
#include "support.h"

static struct rig rig;

/* [link-1] */
static void test_what_was_published_is_flushed_in_the_same_step(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    for (int i = 0; i < 5; i++)
        (void)bench_put(bench, "t", "x");
    outbox_forwarder_committed(bench->forwarder, NULL);
    while (rig.link.sent_count < 5) {
        rig_step(&rig);
        assert_int_equal(rig.link.flushed, rig.link.sent_count);
    }
    rig_stop(&rig);
}

/* [link-2] */
static void test_a_step_asks_to_be_called_when_the_link_has_to_be_polled(void **state)
{
    struct bench *bench = *state;
    const outbox_forwarder_config config = {.foreign_check_ms = OUTBOX_NEVER};
    rig_start(&rig, bench, &config);
    rig_connect(&rig, 100);
    rig_step(&rig);
    assert_true(rig.next_ms > 1000000);
    rig.link.next_ms = 750;
    rig_step(&rig);
    assert_int_equal(rig.next_ms, 750);
    rig.link.next_ms = 0;
    rig_step(&rig);
    assert_int_equal(rig.next_ms, 0);
    rig.link.next_ms = OUTBOX_NEVER;
    rig_step(&rig);
    assert_true(rig.next_ms > 1000000);
    rig_stop(&rig);
}

/* [link-2] */
static void test_a_link_that_is_not_open_is_not_asked(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    fake_link_closed(&rig.link, "lost");
    rig_step(&rig);
    rig.link.next_ms = 0;
    int flushes = rig.link.flushes;
    rig_step(&rig);
    assert_true(rig.next_ms > 0);
    assert_int_equal(rig.link.flushes, flushes);
    rig_stop(&rig);
}

/* Both may be missing. */
static void test_a_link_may_keep_nothing_back_and_have_no_times(void **state)
{
    struct bench *bench = *state;
    const outbox_forwarder_config config = {.foreign_check_ms = OUTBOX_NEVER};
    rig_start(&rig, bench, &config);
    outbox_link_methods methods = *rig.link.link.methods;
    methods.flush = NULL;
    methods.next_ms = NULL;
    rig.link.link.methods = &methods;
    rig.link.next_ms = 0;
    rig_connect(&rig, 100);
    (void)bench_put(bench, "t", "x");
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig.link.flushes, 0);
    rig_ack_from(&rig, 0);
    rig_step(&rig);
    assert_true(rig.next_ms > 1000000);
    rig_stop(&rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_published_is_flushed_in_the_same_step),
        TEST(test_a_step_asks_to_be_called_when_the_link_has_to_be_polled),
        TEST(test_a_link_that_is_not_open_is_not_asked),
        TEST(test_a_link_may_keep_nothing_back_and_have_no_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
