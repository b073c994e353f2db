/* SPDX-License-Identifier: MIT
 *
 * test_expiry_real.c - events that are worth sending for some time only, over a real broker.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define SHORT_MS 50
#define HOUR_S 3600

static void put_with_ttl(app *a, const char *text, int64_t ttl_ms)
{
    outbox_event event = {.topic = "t",
                          .payload = text,
                          .payload_len = strlen(text),
                          .content_type = "text/plain",
                          .ttl_ms = ttl_ms};

    assert_int_equal(outbox_put(a->box, &event, NULL), OUTBOX_OK);
}

/* Puts 1 to 5 while there is no way to the broker, of which 1, 2 and 4 expire before there is
 * one. */
static app *put_while_offline(scene *s, int protocol)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    proxy_set(s->proxy, PROXY_REFUSE);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url,
                                           .protocol = protocol,
                                           .backoff_max_ms = 100,
                                           .announce_topic = "dropped"});
    put_with_ttl(a, "1", SHORT_MS);
    put_with_ttl(a, "2", SHORT_MS);
    put_with_ttl(a, "3", (int64_t)HOUR_S * 1000);
    put_with_ttl(a, "4", SHORT_MS);
    put_with_ttl(a, "5", 0);
    pause_ms(2 * SHORT_MS); /* their time passes */
    proxy_set(s->proxy, PROXY_PASS);
    return a;
}

/* What was found expired later than the others may be announced by itself. */
static void expect_the_living(scene *s, app *a)
{
    recorder_run(s->recorder,
                 "CREATE VIEW told AS SELECT json_extract(event, '$.data.reason') AS reason,"
                 " json_extract(event, '$.data.count') AS count,"
                 " json_extract(event, '$.data.from') AS first,"
                 " json_extract(event, '$.data.to') AS last FROM arrival WHERE topic = 'dropped'");
    recorder_await(s->recorder, "SELECT sum(count) FROM told", 3);
    app_flush(a);
    recorder_await(s->recorder, "SELECT count(*) FROM arrival WHERE topic = 't'", 2);
    expect_text(s->recorder,
                "SELECT group_concat(json_extract(event, '$.data'), ' ') FROM arrival"
                " WHERE topic = 't'",
                "3 5");
    expect_text(s->recorder,
                "SELECT json_array(min(reason), max(reason), sum(count), min(first), max(last))"
                " FROM told",
                "[\"expired\",\"expired\",3,1,4]");
    outbox_statistics now = app_stats(a);
    int64_t announcements = recorder_number(s->recorder, "SELECT count(*) FROM told");
    assert_int_equal(now.expired, 3);
    assert_int_equal(now.delivered, 2 + announcements);
    assert_int_equal(now.accepted, 5 + announcements);
    assert_int_equal(now.pending, 0);
}

/* [expiry-1] [expiry-2] */
static void test_what_has_expired_is_not_sent_and_the_broker_learns_what_is_left(void **state)
{
    scene *s = *state;
    app *a = put_while_offline(s, 5);

    expect_the_living(s, a);
    /* What is left when the recipient gets it; a minute is for a machine that is busy. */
    assert_in_range(recorder_number(s->recorder, "SELECT expiry FROM arrival WHERE id = 3"),
                    HOUR_S - 60, HOUR_S);
    expect_number(s->recorder, "SELECT count(*) FROM arrival WHERE id <> 3 AND expiry IS NOT NULL",
                  0);
}

/* It has no place for the rest of its life, but what has expired stays away all the same.
 * [expiry-1] */
static void test_what_has_expired_is_not_sent_on_mqtt_3_1_1(void **state)
{
    scene *s = *state;
    app *a = put_while_offline(s, 4);

    expect_the_living(s, a);
    expect_number(s->recorder, "SELECT count(*) FROM arrival WHERE expiry IS NOT NULL", 0);
}

/* The time of a put is in the file, so that a restart does not lengthen a life. [expiry-1] */
static void test_an_event_expires_also_while_no_process_runs(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    put_with_ttl(a, "1", SHORT_MS);
    put_with_ttl(a, "2", 0);
    app_close(a);
    pause_ms(2 * SHORT_MS);

    a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .announce_topic = ""});
    app_flush(a);
    expect_arrivals(s->recorder, 1);
    expect_number(s->recorder, "SELECT id FROM arrival", 2);
    assert_int_equal(app_stats(a).expired, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_what_has_expired_is_not_sent_and_the_broker_learns_what_is_left),
        SCENE_TEST(test_what_has_expired_is_not_sent_on_mqtt_3_1_1),
        SCENE_TEST(test_an_event_expires_also_while_no_process_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
