/* SPDX-License-Identifier: MIT
 *
 * test_poison_lanes.c - an old broker that hangs up on an event of either lane, among many others.
 *
 * It closes with bytes unread, so its RST takes the PUBACKs of those ahead along; and while the
 * event of one lane is tried, that of the other would end the connection.
 */
#include "harness.h"
#include "scripted_broker.h"

#include <stdio.h>

#define EVENTS 30 /* of each lane */
#define TOPIC "poison"

static int is_drained(const outbox_statistics *statistics)
{
    return statistics->pending == 0;
}

static void put_in(app *a, outbox_lane lane, const char *topic)
{
    outbox_event event = {.topic = topic, .payload = "x", .payload_len = 1, .lane = lane};

    assert_int_equal(outbox_put(a->box, &event, NULL), OUTBOX_OK);
}

/* [poison-3] [lane-1] */
static void test_one_in_each_lane_is_buried_and_all_others_are_delivered(void **state)
{
    char url[64], dead[64];
    scene *s = *state;
    scripted_rules rules = scripted_poisoned(TOPIC);
    scripted_broker *b = scripted_broker_start(&rules);

    (void)snprintf(url, sizeof url, "mqtt://127.0.0.1:%u", scripted_broker_port(b));
    app *a = app_open(s, "WAL");
    app_exec(a, "BEGIN IMMEDIATE");
    for (int i = 1; i <= EVENTS; i++) {
        put_in(a, OUTBOX_NORMAL, i == 20 ? TOPIC : "t");
        put_in(a, OUTBOX_URGENT, i == 10 ? TOPIC : "t");
    }
    app_exec(a, "COMMIT");
    app_start_with(
        a, &(outbox_forwarding){.broker = url, .backoff_max_ms = 100, .announce_topic = ""});

    outbox_statistics now = app_await(a, is_drained);
    print_message("# %lld ms, %llu connections\n",
                  (long long)app_number(a, "SELECT max(died - created) FROM outbox_dead"),
                  (unsigned long long)now.connects);
    app_text(a,
             "SELECT group_concat(lane || ' ' || id || ' ' || topic, ', ') FROM"
             " (SELECT * FROM outbox_dead ORDER BY lane)",
             dead, sizeof dead);
    assert_string_equal(dead, "normal 20 poison, urgent 10 poison");
    assert_int_equal(now.delivered, 2 * EVENTS - 2);
    app_close(a);
    scripted_broker_stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_one_in_each_lane_is_buried_and_all_others_are_delivered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
