/* SPDX-License-Identifier: MIT
 *
 * test_urgent.c - urgent events that come while a large backlog of normal ones is drained.
 *
 * What overtakes an urgent event is counted where it matters, in the order in which the broker got
 * them: one client publishes all, so the recipient sees that order. By the time the put returns so
 * many normal ones were published; those that come between these and the urgent one must be few.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define NORMAL_EVENTS 100000
#define URGENT_EVENTS 5
#define WINDOW 100
/* What the step that runs during the commit publishes, at most a window, and a window for the one
 * that has begun when the statistics are read and is not in them yet. */
#define OVERTAKEN_MAX (2 * WINDOW)

static void put_backlog(app *a)
{
    for (int i = 0; i < NORMAL_EVENTS; i += NORMAL_EVENTS / 10) {
        app_exec(a, "BEGIN IMMEDIATE");
        app_put_numbers(a, i + 1, NORMAL_EVENTS / 10);
        app_exec(a, "COMMIT");
    }
}

static void put_urgent(app *a)
{
    outbox_event event = {.topic = "alarm",
                          .payload = "!",
                          .payload_len = 1,
                          .content_type = "text/plain",
                          .lane = OUTBOX_URGENT};

    assert_int_equal(outbox_put(a->box, &event, NULL), OUTBOX_OK);
}

static uint64_t drained_so_far; /* what is_under_way() waits for */

static int is_under_way(const outbox_statistics *statistics)
{
    return statistics->acknowledged >= drained_so_far;
}

/* The place of the urgent event in the order of the broker, less what was published before it. */
static int64_t overtaken(recorder *r, int id, uint64_t published)
{
    char query[128];

    (void)snprintf(query, sizeof query,
                   "SELECT min(n) - 1 FROM arrival WHERE topic = 'alarm' AND id = %d", id);
    int64_t ahead = recorder_number(r, query) - (int64_t)published;
    return ahead > 0 ? ahead : 0;
}

/* [lane-1] [P5] */
static void test_an_urgent_event_overtakes_a_large_backlog(void **state)
{
    scene *s = *state;
    uint64_t before[URGENT_EVENTS], published[URGENT_EVENTS];

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    put_backlog(a);
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .window = WINDOW});
    for (int i = 0; i < URGENT_EVENTS; i++) {
        drained_so_far = (uint64_t)(i + 1) * (NORMAL_EVENTS / 2 / URGENT_EVENTS);
        before[i] = app_await(a, is_under_way).published;
        put_urgent(a);
        outbox_statistics now = app_stats(a);
        published[i] = now.published;
        assert_true(now.lanes[OUTBOX_NORMAL].pending > NORMAL_EVENTS / 10);
    }
    app_flush(a);
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].delivered, NORMAL_EVENTS);
    assert_int_equal(now.lanes[OUTBOX_URGENT].delivered, URGENT_EVENTS);
    assert_int_equal(now.connects, 1); /* so that each came once, and places can be compared */

    recorder_await(s->recorder, "SELECT max(n) FROM arrival", NORMAL_EVENTS + URGENT_EVENTS);
    expect_numbers(s->recorder, 1, NORMAL_EVENTS);
    expect_text(s->recorder,
                "SELECT group_concat(id, ' ') FROM (SELECT id FROM arrival WHERE topic = 'alarm'"
                " ORDER BY n)",
                "1 2 3 4 5");
    for (int i = 0; i < URGENT_EVENTS; i++) {
        int64_t ahead = overtaken(s->recorder, i + 1, published[i]);
        print_message(
            "# urgent event %d: of %d normal ones %lld went ahead of it since its commit, "
            "%lld since before the put\n",
            i + 1, NORMAL_EVENTS - (int)published[i], (long long)ahead,
            (long long)overtaken(s->recorder, i + 1, before[i]));
        assert_in_range(ahead, 0, OVERTAKEN_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_an_urgent_event_overtakes_a_large_backlog),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
