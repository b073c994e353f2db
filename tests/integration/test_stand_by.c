/* SPDX-License-Identifier: MIT
 *
 * test_stand_by.c - two forwarders for one database: one serves, the other waits for its end.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The other process: serves the database until it is killed. */
static int serve(const char *database, const char *url)
{
    scene s = {.app_count = 0};

    (void)snprintf(s.database, sizeof s.database, "%s", database);
    (void)snprintf(s.url, sizeof s.url, "%s", url);
    app *a = app_open(&s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s.url, .foreign_check_ms = 20});
    (void)pause();
    return 1;
}

static pid_t start_other(const scene *s)
{
    const char *const arguments[] = {CHILD_SELF, "serve", s->database, s->url, NULL};

    return child_start(s->folder, NULL, NULL, arguments);
}

static int stands_by(const outbox_statistics *statistics)
{
    return statistics->state == OUTBOX_STATE_STAND_BY;
}

static void start_standing_by(scene *s, app *a)
{
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .stand_by = 1});
}

/* A broker, a recipient, another process that serves, and an application that stands by. The other
 * one is known to serve once it has sent the first ten. */
static app *begin(scene *s, pid_t *other)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_put_numbers(a, 1, 10);
    *other = start_other(s);
    expect_numbers(s->recorder, 1, 10);
    start_standing_by(s, a);
    return a;
}

/* ---- Taking over ----------------------------------------------------------------------------- */

/* [standby-1] */
static void test_when_the_other_process_is_killed_this_one_sends_within_two_seconds(void **state)
{
    scene *s = *state;
    pid_t other;
    app *a = begin(s, &other);

    outbox_statistics now = app_stats(a);
    assert_true(stands_by(&now));
    assert_int_equal(now.last_error, OUTBOX_LOCKED);
    app_put_numbers(a, 11, 10);
    app_flush(a); /* by the other one */
    assert_int_equal(app_stats(a).published, 0);

    assert_int_equal(child_stop(other, SIGKILL), -SIGKILL);
    long long killed = clock_ms();
    app_put_numbers(a, 21, 10);
    expect_numbers(s->recorder, 1, 30);
    assert_in_range(clock_ms() - killed, 0, 2000);
    app_flush(a);
    assert_int_equal(app_stats(a).published, 10);
    assert_int_equal(app_stats(a).last_error, OUTBOX_OK);
    expect_arrivals(s->recorder, 30); /* each of them once */
}

/* [standby-1] */
static void test_of_what_the_dead_one_had_settled_nothing_is_sent_again(void **state)
{
    char query[120];
    scene *s = *state;
    pid_t other;
    app *a = begin(s, &other);

    app_put_numbers(a, 11, 1000);
    recorder_await(s->recorder, "SELECT count(*) FROM first", 500);
    assert_int_equal(child_stop(other, SIGKILL), -SIGKILL);
    int64_t settled =
        app_number(a, "SELECT min(id) FROM outbox_event"); /* before anybody goes on */
    app_flush(a);
    expect_numbers(s->recorder, 1, 1010);
    assert_int_equal(app_stats(a).delivered, 1010);
    (void)snprintf(query, sizeof query,
                   "SELECT count(*) - count(DISTINCT id) FROM arrival WHERE id <= %lld",
                   (long long)settled);
    expect_number(s->recorder, query, 0);
}

static void test_in_one_process_the_second_handle_takes_over_when_the_first_stops(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app *b = app_open(s, "WAL");

    start_standing_by(s, b);
    assert_int_equal(app_stats(b).state, OUTBOX_STATE_STAND_BY);
    app_put_numbers(b, 1, 10);
    app_flush(b);
    expect_numbers(s->recorder, 1, 10);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    app_put_numbers(b, 11, 10);
    app_flush(b);
    assert_int_equal(app_stats(b).published, 10);
    expect_arrivals(s->recorder, 20);
}

static void test_without_another_forwarder_the_start_stands_by_for_nobody(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    start_standing_by(s, a);
    assert_false(app_stats(a).state == OUTBOX_STATE_STAND_BY);
    app_put_numbers(a, 1, 10);
    app_flush(a);
    expect_arrivals(s->recorder, 10);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* [flush-1] */
static void test_a_flush_that_stands_by_ends_in_time_and_when_the_other_one_has_sent(void **state)
{
    scene *s = *state;
    pid_t other;
    app *a = begin(s, &other);

    app_flush(a);
    broker_freeze(&s->broker);
    app_put_numbers(a, 11, 10);
    long long before = clock_ms();
    assert_int_equal(outbox_flush(a->box, 0), OUTBOX_TIMEOUT);
    assert_int_equal(outbox_flush(a->box, 300), OUTBOX_TIMEOUT);
    assert_in_range(clock_ms() - before, 300, 2000);
    broker_thaw(&s->broker);
    app_flush(a);
    assert_int_equal(app_stats(a).published, 0);
    assert_int_equal(app_stats(a).delivered, 20);
}

/* [stop-1] */
static void test_a_forwarder_that_stands_by_stops_at_once(void **state)
{
    scene *s = *state;
    app *a = app_open(s, "WAL");
    app *b = app_open(s, "WAL");
    long long waited = 0;

    app_start_with(a, &(outbox_forwarding){.broker = "mqtt://127.0.0.1:1"});
    for (int i = 0; i < 5; i++) {
        start_standing_by(s, b);
        long long before = clock_ms();
        assert_int_equal(outbox_stop(b->box), OUTBOX_OK);
        waited += clock_ms() - before;
    }
    assert_in_range(waited, 0, 1000);
    assert_int_equal(app_stats(b).state, OUTBOX_STATE_STOPPED);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_when_the_other_process_is_killed_this_one_sends_within_two_seconds),
        SCENE_TEST(test_of_what_the_dead_one_had_settled_nothing_is_sent_again),
        SCENE_TEST(test_in_one_process_the_second_handle_takes_over_when_the_first_stops),
        SCENE_TEST(test_without_another_forwarder_the_start_stands_by_for_nobody),
        SCENE_TEST(test_a_flush_that_stands_by_ends_in_time_and_when_the_other_one_has_sent),
        SCENE_TEST(test_a_forwarder_that_stands_by_stops_at_once),
    };

    if (argc == 4 && strcmp(argv[1], "serve") == 0) {
        return serve(argv[2], argv[3]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
