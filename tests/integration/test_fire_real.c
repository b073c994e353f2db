/* SPDX-License-Identifier: MIT
 *
 * test_fire_real.c - fire-and-forget events through the service's thread and Paho, to a real
 * broker.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

static void fire(app *a, const char *topic, const char *text)
{
    const outbox_event event = {.topic = topic,
                                .payload = text,
                                .payload_len = strlen(text),
                                .content_type = "text/plain",
                                .fire_and_forget = 1};

    if (outbox_put(a->box, &event, NULL) != OUTBOX_OK) {
        fail_msg("put: %s", outbox_errmsg(a->box));
    }
}

static int has_dropped(const outbox_statistics *statistics)
{
    return statistics->fire_dropped > 0;
}

/* [fire-1] */
static void test_it_arrives_at_qos_0_when_its_transaction_commits(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app_await(a, is_online);

    app_exec(a, "BEGIN");
    fire(a, "rolled", "back");
    app_exec(a, "ROLLBACK; BEGIN");
    fire(a, "t", "one");
    app_exec(a, "SAVEPOINT s");
    fire(a, "t", "not this one");
    app_exec(a, "ROLLBACK TO s");
    app_put(a, "stored", "two");
    app_exec(a, "COMMIT");
    fire(a, "t", "three");
    expect_arrivals(s->recorder, 3);

    expect_number(s->recorder, "SELECT count(*) FROM arrival WHERE qos = 0", 2);
    expect_text(s->recorder,
                "SELECT group_concat(json_extract(event, '$.data'), ' ') FROM arrival"
                " WHERE qos = 0",
                "one three");
    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE qos = 0 AND"
                  " json_extract(event, '$.source') GLOB 'outbox://*/unstored/*' AND"
                  " json_extract(event, '$.previous') IS NULL",
                  2);
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.fire_sent, 2);
    assert_int_equal(now.fire_dropped, 0);
    assert_int_equal(now.accepted, 1);
}

/* They are more than Paho is given at once, so they wait for each other to be written. */
static void test_a_thousand_of_one_transaction_arrive_in_order(void **state)
{
    scene *s = *state;
    app *a = NULL;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    a = app_open(s, "WAL");
    outbox_detach(a->box);
    assert_int_equal(outbox_attach(a->db, &(outbox_config){.fire_bytes = 1 << 20}, &a->box),
                     OUTBOX_OK);
    app_start(s, a);
    app_await(a, is_online);
    app_exec(a, "BEGIN");
    for (int i = 1; i <= 1000; i++) {
        char text[200];
        snprintf(text, sizeof text, "%d %0*d", i, i % 150, 0);
        fire(a, "t", text);
    }
    app_exec(a, "COMMIT");
    expect_arrivals(s->recorder, 1000);

    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE id = n AND CAST(json_extract(event, '$.data')"
                  " AS INTEGER) = n",
                  1000);
    assert_int_equal(app_stats(a).fire_dropped, 0);
}

/* [fire-3] */
static void test_without_a_broker_it_is_dropped_and_counted(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app_await(a, is_online);

    broker_terminate(&s->broker);
    app_await(a, is_backing_off);
    fire(a, "t", "lost");
    outbox_statistics now = app_await(a, has_dropped);
    assert_int_equal(now.fire_dropped, 1);
    assert_int_equal(now.fire_sent, 0);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    fire(a, "t", "lost as well");
    assert_int_equal(app_stats(a).fire_dropped, 1); /* the forwarder's count went with it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_it_arrives_at_qos_0_when_its_transaction_commits),
        SCENE_TEST(test_a_thousand_of_one_transaction_arrive_in_order),
        SCENE_TEST(test_without_a_broker_it_is_dropped_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
