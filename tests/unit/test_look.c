/* SPDX-License-Identifier: MIT
 *
 * test_look.c - looks for other writers on a hint, which may be early, late or false.
 */
#include "support.h"

static struct rig rig;
static sqlite3 *other;

enum { LONG_MS = 1000000 };

static int set_up(void **state)
{
    if (bench_open(state) != 0)
        return -1;
    other = bench_connect(*state);
    return 0;
}

static int tear_down(void **state)
{
    int closed = sqlite3_close(other);
    return bench_close(state) == 0 && closed == SQLITE_OK ? 0 : -1;
}

static void start(void **state, unsigned foreign_check_ms)
{
    rig_start(&rig, *state, &(outbox_forwarder_config){.foreign_check_ms = foreign_check_ms});
    rig_connect(&rig, 10);
    outbox_forwarder_look(rig.bench->forwarder, 0); /* the first one has nothing to compare with */
    rig_run(&rig, 100);
}

static void write_event(void)
{
    bench_sql(other, "INSERT INTO outbox_event(topic, payload) VALUES('a', 'b')");
}

static void hint(int again)
{
    outbox_forwarder_look(rig.bench->forwarder, again);
}

/* Steps and lets the time pass that the forwarder asks for. */
static uint32_t step_on(void)
{
    rig_step(&rig);
    rig.port.now_ms += rig.next_ms;
    return rig.next_ms;
}

/* [look-1] */
static void test_a_hint_lets_the_next_step_find_what_somebody_has_committed(void **state)
{
    start(state, LONG_MS);
    write_event();
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 0);
    hint(1);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
}

/* [look-1] */
static void test_an_early_hint_is_followed_for_500_ms_and_then_forgotten(void **state)
{
    start(state, LONG_MS);
    hint(1);
    assert_int_equal(step_on(), 1);
    assert_int_equal(step_on(), 4);
    assert_int_equal(step_on(), 15);
    assert_int_equal(step_on(), 80);
    assert_int_equal(step_on(), 400);
    assert_true(step_on() > LONG_MS / 2);
}

/* [look-1] */
static void test_a_commit_that_comes_after_its_hint_is_found(void **state)
{
    start(state, LONG_MS);
    hint(1);
    (void)step_on();
    (void)step_on();
    assert_int_equal(step_on(), 15);
    (void)step_on();
    assert_int_equal(step_on(), 400);
    write_event();
    assert_int_equal(rig.link.sent_count, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
}

/* [look-1] */
static void test_a_hint_that_is_not_early_costs_one_look(void **state)
{
    start(state, LONG_MS);
    hint(0);
    assert_true(step_on() > LONG_MS / 2);
    write_event();
    hint(0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
}

static void test_what_was_found_ends_the_looking(void **state)
{
    start(state, LONG_MS);
    write_event();
    hint(1);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 1);
    assert_true(rig.next_ms > 1000);
}

static void test_without_the_check_a_hint_is_nothing(void **state)
{
    start(state, OUTBOX_NEVER);
    write_event();
    hint(1);
    assert_true(step_on() > LONG_MS);
    assert_int_equal(rig.link.sent_count, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_hint_lets_the_next_step_find_what_somebody_has_committed),
        CASE(test_an_early_hint_is_followed_for_500_ms_and_then_forgotten),
        CASE(test_a_commit_that_comes_after_its_hint_is_found),
        CASE(test_a_hint_that_is_not_early_costs_one_look),
        CASE(test_what_was_found_ends_the_looking),
        CASE(test_without_the_check_a_hint_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
