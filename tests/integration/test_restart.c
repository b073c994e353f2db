/* SPDX-License-Identifier: MIT
 *
 * test_restart.c - brokers that go away, networks that break, applications that die.
 *
 * Whatever happens, all that was committed arrives, in order; what comes twice is the same event.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int ten_are_in_flight(const outbox_statistics *statistics)
{
    return statistics->in_flight >= 10;
}

static int hundred_are_acknowledged(const outbox_statistics *statistics)
{
    return statistics->acknowledged == 100;
}

static void test_events_arrive_across_a_restart_of_the_broker(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    (void)app_await(a, is_online);
    app_put_numbers(a, 1, 100);

    broker_terminate(&s->broker);
    app_put_numbers(a, 101, 100);
    outbox_statistics offline = app_await(a, is_backing_off);
    assert_int_equal(offline.last_error, OUTBOX_LINK);
    broker_restart(&s->broker);
    app_put_numbers(a, 201, 100);

    expect_numbers(s->recorder, 1, 300);
    app_flush(a);
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.delivered, 300);
    assert_true(now.connects >= 2);
    assert_true(now.disconnects >= 1);
}

/* What the broker got and never acknowledged dies with it, and is sent again. [step-3] */
static void
test_unacknowledged_events_are_sent_again_to_a_broker_that_lost_its_session(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    (void)app_await(a, is_online);

    broker_freeze(&s->broker);
    app_put_numbers(a, 1, 50);
    (void)app_await(a, ten_are_in_flight);
    proxy_set(s->proxy, PROXY_REFUSE);
    broker_kill(&s->broker);
    assert_int_equal(app_stats(a).delivered, 0);

    broker_restart(&s->broker);
    recorder_subscribe_again(s->recorder);
    proxy_set(s->proxy, PROXY_PASS);
    expect_numbers(s->recorder, 1, 50);
}

/* [step-3] */
static void test_events_in_flight_at_a_cut_are_sent_again_in_order(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 1, 500);
    app_exec(a, "COMMIT");
    for (unsigned long cut = 1; cut <= 3; cut++) {
        proxy_cut_after(s->proxy, 5000 + 7919 * cut);
        if (cut == 1) {
            app_start(s, a);
        }
        proxy_await_cuts(s->proxy, (unsigned)cut);
    }
    app_flush(a);

    expect_numbers(s->recorder, 1, 500);
    expect_number(s->recorder,
                  "SELECT count(*) FROM (SELECT id FROM arrival GROUP BY id"
                  " HAVING count(DISTINCT json_remove(event, '$.previous')) > 1)",
                  0);
    assert_int_equal(app_stats(a).disconnects, 3);
}

/* A connection that stays up and carries nothing. The watchdog is ours, not the broker's. */
static void test_a_missing_acknowledgement_ends_the_connection(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .ack_timeout_ms = 300});
    (void)app_await(a, is_online);

    proxy_set(s->proxy, PROXY_STALL);
    app_put_numbers(a, 1, 10);
    outbox_statistics stalled = app_await(a, is_backing_off);
    assert_int_equal(stalled.last_error, OUTBOX_LINK);
    proxy_cut(s->proxy);
    proxy_set(s->proxy, PROXY_PASS);

    expect_numbers(s->recorder, 1, 10);
}

static void test_a_broker_that_does_not_answer_connect_is_given_up_and_tried_again(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    proxy_set(s->proxy, PROXY_STALL);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .connect_timeout_ms = 300});
    app_put_numbers(a, 1, 10);
    outbox_statistics stalled = app_await(a, is_backing_off);
    assert_int_equal(stalled.last_error, OUTBOX_LINK);
    assert_int_equal(stalled.connects, 0);

    proxy_set(s->proxy, PROXY_PASS);
    expect_numbers(s->recorder, 1, 10);
}

/* [stop-1] */
static void test_what_a_stop_left_is_sent_by_the_next_start(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 100);
    app_flush(a);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    assert_int_equal(app_stats(a).state, OUTBOX_STATE_STOPPED);
    app_put_numbers(a, 101, 100);
    recorder_follow(s->recorder, 100);
    expect_number(s->recorder, "SELECT count(*) FROM first", 100);

    app_start(s, a);
    expect_numbers(s->recorder, 1, 200);
}

/* An orderly stop settles what was acknowledged, so nothing comes twice. [stop-1] [close-1] */
static void test_a_stop_settles_what_was_acknowledged(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 100);
    expect_arrivals(s->recorder, 100);
    (void)app_await(a, hundred_are_acknowledged);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);

    assert_int_equal(app_stats(a).delivered, 100);
    assert_int_equal(app_stats(a).pending, 0);
}

/* ---- An application that dies ---------------------------------------------------------------- */

/* A child of test_..._dies(): commits 1 to 50, puts five more into an open transaction, and then
 * stops to be killed. */
static int put_and_stop(const char *database)
{
    scene s = {.app_count = 0};

    (void)snprintf(s.database, sizeof s.database, "%s", database);
    app *a = app_open(&s, "WAL");
    app_put_numbers(a, 1, 50);
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 51, 5);
    return raise(SIGSTOP);
}

/* [P1] [P2] */
static void test_committed_events_of_an_application_that_dies_are_sent_by_the_next(void **state)
{
    scene *s = *state;
    int status = 0;
    const char *const arguments[] = {CHILD_SELF, "put", s->database, NULL};

    pid_t child = child_start(s->folder, NULL, NULL, arguments);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(child_stop(child, SIGKILL), -SIGKILL);

    app *a = scene_begin(s);
    app_put_numbers(a, 51, 1);
    app_flush(a);
    expect_numbers(s->recorder, 1, 51);
    expect_arrivals(s->recorder, 51);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_events_arrive_across_a_restart_of_the_broker),
        SCENE_TEST(test_unacknowledged_events_are_sent_again_to_a_broker_that_lost_its_session),
        SCENE_TEST(test_events_in_flight_at_a_cut_are_sent_again_in_order),
        SCENE_TEST(test_a_missing_acknowledgement_ends_the_connection),
        SCENE_TEST(test_a_broker_that_does_not_answer_connect_is_given_up_and_tried_again),
        SCENE_TEST(test_what_a_stop_left_is_sent_by_the_next_start),
        SCENE_TEST(test_a_stop_settles_what_was_acknowledged),
        SCENE_TEST(test_committed_events_of_an_application_that_dies_are_sent_by_the_next),
    };

    if (argc == 3 && strcmp(argv[1], "put") == 0) {
        return put_and_stop(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
