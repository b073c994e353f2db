/* SPDX-License-Identifier: MIT
 *
 * test_flush.c - outbox_flush(): waits for what was committed before it, for so long and no longer.
 */
#include "harness.h"

#include <limits.h>

/* [flush-1] */
static void test_flush_returns_when_everything_committed_is_settled(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 100);
    assert_int_equal(outbox_flush(a->box, 30000), OUTBOX_OK);

    assert_int_equal(app_stats(a).pending, 0);
    assert_int_equal(app_stats(a).delivered, 100);
    expect_numbers(s->recorder, 1, 100);
}

static void test_flush_waits_for_ever_if_asked_to(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 10);
    assert_int_equal(outbox_flush(a->box, OUTBOX_NEVER), OUTBOX_OK);
    assert_int_equal(app_stats(a).delivered, 10);
}

static void test_flush_of_an_empty_outbox_returns_at_once(void **state)
{
    scene *s = *state;
    app *a = app_open(s, "WAL");

    app_start(s, a); /* there is no broker, and none is needed */
    assert_int_equal(outbox_flush(a->box, 0), OUTBOX_OK);
}

static void test_flush_with_no_time_asks_without_waiting(void **state)
{
    scene *s = *state;
    app *a = app_open(s, "WAL");

    app_start(s, a);
    app_put_numbers(a, 1, 1);
    long long before = clock_ms();
    assert_int_equal(outbox_flush(a->box, 0), OUTBOX_TIMEOUT);
    assert_true(clock_ms() - before < 1000);
}

/* [flush-1] */
static void test_flush_gives_up_in_time_and_delivery_goes_on(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    proxy_set(s->proxy, PROXY_REFUSE);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    app_put_numbers(a, 1, 5);
    long long before = clock_ms();
    assert_int_equal(outbox_flush(a->box, 200), OUTBOX_TIMEOUT);
    assert_true(clock_ms() - before >= 200);
    assert_int_equal(app_stats(a).pending, 5);

    proxy_set(s->proxy, PROXY_PASS);
    expect_numbers(s->recorder, 1, 5);
}

/* It would wait for itself: the events of this transaction are not committed. [flush-2] */
static void test_flush_inside_a_transaction_is_misuse(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_exec(a, "BEGIN");
    app_put_numbers(a, 1, 1);
    assert_int_equal(outbox_flush(a->box, 1000), OUTBOX_MISUSE);
    app_exec(a, "COMMIT");
    assert_int_equal(outbox_flush(a->box, 30000), OUTBOX_OK);
    expect_numbers(s->recorder, 1, 1);
}

/* [flush-2] */
static void test_flush_needs_a_running_forwarder(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    assert_int_equal(outbox_flush(a->box, 1000), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_stop(a->box), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_flush(NULL, 1000), OUTBOX_MISUSE);
}

/* What another connection committed before the call counts too. */
static void test_flush_waits_for_the_events_of_other_connections(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app *b = app_open(s, "WAL");

    app_put_numbers(b, 1, 20);
    assert_int_equal(outbox_flush(a->box, 30000), OUTBOX_OK);
    assert_int_equal(app_stats(a).delivered, 20);
    expect_numbers(s->recorder, 1, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_flush_returns_when_everything_committed_is_settled),
        SCENE_TEST(test_flush_waits_for_ever_if_asked_to),
        SCENE_TEST(test_flush_of_an_empty_outbox_returns_at_once),
        SCENE_TEST(test_flush_with_no_time_asks_without_waiting),
        SCENE_TEST(test_flush_gives_up_in_time_and_delivery_goes_on),
        SCENE_TEST(test_flush_inside_a_transaction_is_misuse),
        SCENE_TEST(test_flush_needs_a_running_forwarder),
        SCENE_TEST(test_flush_waits_for_the_events_of_other_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
