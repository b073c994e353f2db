/* SPDX-License-Identifier: MIT
 *
 * test_backlog.c - a long outage with a lane that keeps its newest 10,000 events.
 *
 * OUTBOX_TEST_EVENTS=n sets how many are put while the broker is away.
 */
#include "dice.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CAP 10000
#define IN_ONE_TRANSACTION 500
/* Of database and WAL. The events that the lane may hold need 1.5 MiB, SQLite checkpoints behind 4
 * MiB of WAL, and a transaction has some 100 KiB; the rest is for a checkpoint that a reader holds
 * up. */
#define BYTES_MAX (16 << 20)

static long long size_of(const scene *s, const char *suffix)
{
    char path[128];
    struct stat status;

    (void)snprintf(path, sizeof path, "%s%s", s->database, suffix);
    return stat(path, &status) == 0 ? (long long)status.st_size : 0;
}

/* Puts 1 ... events, and returns the most bytes that the files ever had. */
static long long put_all(const scene *s, app *a, int events)
{
    long long most = 0;

    for (int put = 0; put < events; put += IN_ONE_TRANSACTION) {
        int count = events - put < IN_ONE_TRANSACTION ? events - put : IN_ONE_TRANSACTION;
        app_exec(a, "BEGIN IMMEDIATE");
        app_put_numbers(a, put + 1, count);
        app_exec(a, "COMMIT");
        long long bytes = size_of(s, "") + size_of(s, "-wal");
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void expect_counts(app *a, int events)
{
    outbox_statistics now = app_stats(a);

    assert_int_equal(now.evicted, events - CAP);
    assert_int_equal(now.delivered, CAP + 1); /* and the announcement */
    assert_int_equal(now.accepted, events + 1);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.holes, 0);
}

/* A CloudEvent that says what will never come. */
static void expect_the_announcement(recorder *r, int events)
{
    char said[128];

    (void)snprintf(said, sizeof said,
                   "[\"1.0\",\"outbox.dropped\",\"%d\",{\"reason\":\"evicted\",\"count\":%d,"
                   "\"from\":1,\"to\":%d}]",
                   events + 1, events - CAP, events - CAP);
    expect_number(r, "SELECT count(*) FROM first JOIN arrival USING(n) WHERE topic = 'dropped'", 1);
    expect_text(r,
                "SELECT json_array(json_extract(event, '$.specversion'), json_extract(event,"
                " '$.type'), json_extract(event, '$.id'), json_extract(event, '$.data'))"
                " FROM arrival WHERE topic = 'dropped'",
                said);
}

/* [limit-3] [announce-1] [P4] [P5] [P7] */
static void
test_after_a_long_outage_the_newest_arrive_and_the_others_are_accounted_for(void **state)
{
    scene *s = *state;
    int events = wanted_number("OUTBOX_TEST_EVENTS", 100000);

    assert_true(events > CAP);
    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    broker_terminate(&s->broker);
    const outbox_limit limits[OUTBOX_LANES] = {
        {.max_events = CAP, .when_full = OUTBOX_EVICT_OLDEST}};
    app *a = app_open_limited(s, limits);
    app_start_with(a, &(outbox_forwarding){
                          .broker = s->url, .backoff_max_ms = 200, .announce_topic = "dropped"});
    long long begin = clock_ms();
    long long most = put_all(s, a, events);
    long long put_ms = clock_ms() - begin;
    outbox_statistics full = app_stats(a);
    assert_int_equal(full.pending, CAP);
    assert_int_equal(full.evicted, events - CAP);

    begin = clock_ms();
    broker_restart(&s->broker);
    recorder_await(s->recorder, "SELECT count(*) FROM first", CAP + 1);
    print_message("# %d events put in %.1f s, %.1f us each; at most %lld KiB on disk; %d evicted; "
                  "the newest %d arrived in %.1f s\n",
                  events, (double)put_ms / 1000, (double)put_ms * 1000 / events, most / 1024,
                  events - CAP, CAP, (double)(clock_ms() - begin) / 1000);
    assert_true(most < BYTES_MAX);
    expect_numbers(s->recorder, events - CAP + 1, CAP);
    expect_number(s->recorder, "SELECT count(*) FROM first", CAP + 1);
    app_flush(a);
    expect_counts(a, events);
    expect_the_announcement(s->recorder, events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_after_a_long_outage_the_newest_arrive_and_the_others_are_accounted_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
