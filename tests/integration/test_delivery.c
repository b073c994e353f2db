/* SPDX-License-Identifier: MIT
 *
 * test_delivery.c - what is committed arrives, once and in order; what is rolled back never does.
 *
 * Nothing is disturbed here, so that nothing may come twice either.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ALL_TEXTS[] =
    "SELECT group_concat(text, ' ') FROM (SELECT json_extract(event, '$.data') AS text FROM arrival"
    " ORDER BY n)";

/* The order in which the transactions committed is the order of arrival [P5], and each event's
 * `previous` is the event that arrived before it. */
static void test_events_arrive_once_and_in_the_order_of_their_commits(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    for (int i = 0; i < 100; i++) {
        app_exec(a, "BEGIN IMMEDIATE");
        app_put_numbers(a, 10 * i, 10);
        app_exec(a, "COMMIT");
    }
    app_flush(a);

    expect_numbers(s->recorder, 0, 1000);
    expect_arrivals(s->recorder, 1000);
    expect_number(s->recorder,
                  "SELECT count(*) FROM (SELECT json_extract(event, '$.previous') + 0 AS said,"
                  "  lag(id, 1, 0) OVER (ORDER BY n) AS before FROM arrival) WHERE said <> before",
                  0);
}

/* [put-1] [P1] */
static void test_an_event_stays_until_its_transaction_commits(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_exec(a, "BEGIN IMMEDIATE");
    (void)app_put(a, "t", "early");
    (void)app_await(a, is_online);
    recorder_follow(s->recorder, 200);
    expect_number(s->recorder, "SELECT count(*) FROM arrival", 0);

    app_exec(a, "COMMIT");
    expect_arrivals(s->recorder, 1);
}

/* [put-2] [P1] */
static void test_events_of_a_rolled_back_transaction_never_arrive(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    (void)app_put(a, "t", "one");
    app_exec(a, "BEGIN IMMEDIATE");
    (void)app_put(a, "t", "undone");
    (void)app_put(a, "t", "undone");
    app_exec(a, "ROLLBACK");
    (void)app_put(a, "t", "two");
    app_flush(a);

    expect_arrivals(s->recorder, 2);
    expect_text(s->recorder, ALL_TEXTS, "one two");
}

/* [put-2] [P1] */
static void test_events_of_a_savepoint_that_was_rolled_back_never_arrive(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_exec(a, "BEGIN IMMEDIATE");
    (void)app_put(a, "t", "one");
    app_exec(a, "SAVEPOINT inner");
    (void)app_put(a, "t", "undone");
    app_exec(a, "ROLLBACK TO inner");
    (void)app_put(a, "t", "two");
    app_exec(a, "RELEASE inner; COMMIT");
    app_flush(a);

    expect_arrivals(s->recorder, 2);
    expect_text(s->recorder, ALL_TEXTS, "one two");
}

/* [put-3] */
static void test_a_put_without_a_transaction_arrives(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    (void)app_put(a, "t", "alone");

    expect_arrivals(s->recorder, 1);
    expect_text(s->recorder, ALL_TEXTS, "alone");
}

static void test_events_that_were_put_before_the_start_arrive(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_put_numbers(a, 1, 20);
    app_start(s, a);

    expect_numbers(s->recorder, 1, 20);
}

/* [start-1] */
static void test_a_start_succeeds_without_a_broker_and_delivers_when_there_is_one(void **state)
{
    scene *s = *state;

    /* The recorder's session is in the broker's store meanwhile. */
    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    broker_terminate(&s->broker);

    app *a = app_open(s, "WAL");
    app_start(s, a);
    app_put_numbers(a, 1, 20);
    outbox_statistics offline = app_await(a, is_backing_off);
    assert_int_equal(offline.last_error, OUTBOX_LINK);
    assert_int_equal(offline.pending, 20);
    assert_true(strlen(offline.last_error_text) > 0);

    broker_restart(&s->broker);
    expect_numbers(s->recorder, 1, 20);
}

static void test_events_of_two_attached_connections_arrive(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app *b = app_open(s, "WAL");

    for (int i = 1; i <= 100; i++) {
        app_put_numbers(i % 2 == 0 ? a : b, i, 1);
    }
    app_flush(a);

    expect_numbers(s->recorder, 1, 100);
    expect_arrivals(s->recorder, 100);
}

static int one_is_delivered(const outbox_statistics *statistics)
{
    return statistics->delivered == 1;
}

/* A lone event leaves the table by itself, without flush or stop. [P3] */
static void test_an_acknowledged_event_leaves_the_table_without_being_asked_to(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    (void)app_put(a, "t", "alone");

    outbox_statistics now = app_await(a, one_is_delivered);
    assert_int_equal(now.pending, 0);
}

/* [stats-1] [P4] */
static void test_the_statistics_tell_what_was_delivered(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 50);
    app_flush(a);

    outbox_statistics now = app_stats(a);
    assert_int_equal(now.accepted, 50);
    assert_int_equal(now.delivered, 50);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.oldest_created, 0);
    assert_int_equal(now.state, OUTBOX_STATE_ONLINE);
    assert_int_equal(now.published, 50);
    assert_int_equal(now.acknowledged, 50);
    assert_int_equal(now.connects, 1);
    assert_int_equal(now.in_flight, 0);
    assert_int_equal(now.sending[OUTBOX_NORMAL].settled_id, now.lanes[OUTBOX_NORMAL].last_id);
    assert_int_equal(now.last_error, OUTBOX_OK);
}

static int one_is_in_flight(const outbox_statistics *statistics)
{
    return statistics->in_flight == 1;
}

/* The broker takes one event at a time (MQTT 5, Receive Maximum), so while it is silent the second
 * one waits. [step-2] */
static void test_a_receive_maximum_of_one_is_kept_and_everything_arrives(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN "max_inflight_messages 1\n");
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    (void)app_await(a, is_online);
    broker_freeze(&s->broker);
    app_put_numbers(a, 1, 200);
    (void)app_await(a, one_is_in_flight);
    assert_int_equal(outbox_flush(a->box, 200), OUTBOX_TIMEOUT);
    assert_int_equal(app_stats(a).published, 1);
    broker_thaw(&s->broker);
    app_flush(a);

    expect_numbers(s->recorder, 1, 200);
    expect_arrivals(s->recorder, 200);
    assert_int_equal(app_stats(a).connects, 1);
}

static void test_a_backlog_of_many_windows_arrives_in_order(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 1, 5000);
    app_exec(a, "COMMIT");
    app_start(s, a);
    app_flush(a);

    expect_numbers(s->recorder, 1, 5000);
    expect_arrivals(s->recorder, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_events_arrive_once_and_in_the_order_of_their_commits),
        SCENE_TEST(test_an_event_stays_until_its_transaction_commits),
        SCENE_TEST(test_events_of_a_rolled_back_transaction_never_arrive),
        SCENE_TEST(test_events_of_a_savepoint_that_was_rolled_back_never_arrive),
        SCENE_TEST(test_a_put_without_a_transaction_arrives),
        SCENE_TEST(test_events_that_were_put_before_the_start_arrive),
        SCENE_TEST(test_a_start_succeeds_without_a_broker_and_delivers_when_there_is_one),
        SCENE_TEST(test_events_of_two_attached_connections_arrive),
        SCENE_TEST(test_an_acknowledged_event_leaves_the_table_without_being_asked_to),
        SCENE_TEST(test_the_statistics_tell_what_was_delivered),
        SCENE_TEST(test_a_receive_maximum_of_one_is_kept_and_everything_arrives),
        SCENE_TEST(test_a_backlog_of_many_windows_arrives_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
