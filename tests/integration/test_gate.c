/* SPDX-License-Identifier: MIT
 *
 * test_gate.c - the gate and the batch over a real broker: when there is a connection, and when
 * none.
 *
 * The proxy in front of the broker counts the connections, so one that nobody should have made is
 * seen however short it was. That nothing happens is looked at for QUIET_MS, in which the forwarder
 * has looked at the table several times.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define QUIET_MS 300
#define LOOK_MS 20 /* the forwarder's foreign_check_ms */

static int is_resting(const outbox_statistics *statistics)
{
    return statistics->state == OUTBOX_STATE_RESTING;
}

static app *begin(scene *s, outbox_forwarding forwarding)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    forwarding.broker = s->url;
    forwarding.backoff_max_ms = 100;
    forwarding.foreign_check_ms = LOOK_MS;
    app_start_with(a, &forwarding);
    return a;
}

static void set_gate(app *a, outbox_gate_state gate)
{
    assert_int_equal(outbox_gate(a->box, gate), OUTBOX_OK);
}

static void put_urgent(app *a, const char *text)
{
    outbox_event event = {.topic = "alarm",
                          .payload = text,
                          .payload_len = strlen(text),
                          .content_type = "text/plain",
                          .lane = OUTBOX_URGENT};

    assert_int_equal(outbox_put(a->box, &event, NULL), OUTBOX_OK);
}

/* Nothing arrives, and there is no connection: neither one that stays nor a short one. */
static void expect_quiet(scene *s, app *a, unsigned connections, int arrivals)
{
    recorder_follow(s->recorder, QUIET_MS);
    expect_number(s->recorder, "SELECT count(*) FROM arrival", arrivals);
    assert_int_equal(proxy_connections(s->proxy), connections);
    assert_int_equal(app_stats(a).state, OUTBOX_STATE_RESTING);
}

/* ---- The gate -------------------------------------------------------------------------------- */

/* [gate-1] */
static void test_behind_a_closed_gate_nothing_is_sent_until_it_opens(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){0});

    app_put_numbers(a, 1, 5);
    expect_arrivals(s->recorder, 5);
    set_gate(a, OUTBOX_GATE_CLOSED);
    (void)app_await(a, is_resting);
    app_put_numbers(a, 6, 5);
    put_urgent(a, "fire");
    assert_int_equal(outbox_flush(a->box, QUIET_MS), OUTBOX_TIMEOUT); /* it cannot force it open */
    expect_quiet(s, a, 1, 5);

    set_gate(a, OUTBOX_GATE_OPEN);
    expect_arrivals(s->recorder, 11);
    expect_numbers(s->recorder, 1, 10);
    app_flush(a);
    assert_int_equal(proxy_connections(s->proxy), 2);
    assert_int_equal(app_stats(a).delivered, 11);
}

/* [gate-1] */
static void test_behind_a_gate_for_urgent_events_the_others_wait(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){0});

    (void)app_await(a, is_online);
    set_gate(a, OUTBOX_GATE_URGENT_ONLY);
    (void)app_await(a, is_resting);
    app_put_numbers(a, 1, 5);
    expect_quiet(s, a, 1, 0);

    put_urgent(a, "fire");
    expect_arrivals(s->recorder, 1);
    expect_text(s->recorder, "SELECT topic FROM arrival", "alarm");
    (void)app_await(a, is_resting);
    expect_quiet(s, a, 2, 1);
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].pending, 5);
    assert_int_equal(now.lanes[OUTBOX_URGENT].delivered, 1);

    set_gate(a, OUTBOX_GATE_OPEN);
    expect_arrivals(s->recorder, 6);
    expect_text(s->recorder, "SELECT group_concat(json_extract(event, '$.data'), ' ') FROM arrival",
                "fire 1 2 3 4 5");
    app_flush(a);
    assert_int_equal(proxy_connections(s->proxy), 3);
}

/* ---- The batch ------------------------------------------------------------------------------- */

/* [batch-1] */
static void test_the_link_is_opened_only_once_so_many_events_wait(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){.batch_events = 10});

    app_put_numbers(a, 1, 9);
    expect_quiet(s, a, 0, 0);
    app_put_numbers(a, 10, 1);
    expect_arrivals(s->recorder, 10);
    (void)app_await(a, is_resting);
    assert_int_equal(app_stats(a).delivered, 10);
    expect_quiet(s, a, 1, 10);

    app_put_numbers(a, 11, 9);
    expect_quiet(s, a, 1, 10);
    app_put_numbers(a, 20, 1);
    expect_numbers(s->recorder, 1, 20);
    (void)app_await(a, is_resting);
    expect_quiet(s, a, 2, 20);
}

/* [batch-1] */
static void test_the_rows_of_another_writer_count_for_the_batch(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){.batch_events = 10});
    app *other = app_open(s, "WAL");

    app_put_numbers(other, 1, 9);
    expect_quiet(s, a, 0, 0);
    app_put_numbers(other, 10, 1);
    expect_arrivals(s->recorder, 10);
    (void)app_await(a, is_resting);
    expect_quiet(s, a, 1, 10);
}

/* [batch-1] */
static void test_an_urgent_event_takes_the_waiting_ones_along(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){.batch_events = 10});

    app_put_numbers(a, 1, 5);
    expect_quiet(s, a, 0, 0);
    put_urgent(a, "fire");
    expect_arrivals(s->recorder, 6);
    expect_text(s->recorder, "SELECT topic FROM arrival WHERE n = 1", "alarm");
    (void)app_await(a, is_resting);
    expect_quiet(s, a, 1, 6);
}

/* [batch-1] */
static void test_the_link_is_opened_so_many_seconds_after_the_first_event(void **state)
{
    scene *s = *state;
    app *a = begin(s, (outbox_forwarding){.batch_seconds = 3});
    long long first = clock_ms();

    app_put_numbers(a, 1, 1);
    expect_quiet(s, a, 0, 0);
    app_put_numbers(a, 2, 9);
    expect_arrivals(s->recorder, 10);
    assert_true(clock_ms() - first >= 2000); /* three, but for what a step may be late */
    (void)app_await(a, is_resting);
    expect_quiet(s, a, 1, 10);
    assert_int_equal(app_stats(a).connects, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_behind_a_closed_gate_nothing_is_sent_until_it_opens),
        SCENE_TEST(test_behind_a_gate_for_urgent_events_the_others_wait),
        SCENE_TEST(test_the_link_is_opened_only_once_so_many_events_wait),
        SCENE_TEST(test_the_rows_of_another_writer_count_for_the_batch),
        SCENE_TEST(test_an_urgent_event_takes_the_waiting_ones_along),
        SCENE_TEST(test_the_link_is_opened_so_many_seconds_after_the_first_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
