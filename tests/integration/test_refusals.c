/* SPDX-License-Identifier: MIT
 *
 * test_refusals.c - a broker that says no: to us, to a topic, to a size.
 *
 * An event that the broker may take one day is tried again and nothing overtakes it; the statistics
 * say what is refused and why. Once the broker is mended all goes out in order, without help from
 * the application. One that no broker will take is buried, and the others go on.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The connection is refused --------------------------------------------------------------- */

/* Makes the file of passwords with one user. */
static void write_password(const scene *s, const char *password)
{
    const char *const arguments[] = {"mosquitto_passwd", "-b",     "-c", "passwords",
                                     "device",           password, NULL};

    assert_int_equal(child_run(s->folder, "passwords.log", "passwords.log", arguments), 0);
}

static void test_a_wrong_password_is_reported_and_delivery_begins_when_it_is_right(void **state)
{
    scene *s = *state;

    write_password(s, "another");
    broker_start(&s->broker, "allow_anonymous false\npassword_file passwords\n");
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start_with(
        a, &(outbox_forwarding){.broker = s->url, .username = "device", .password = "secret"});
    app_put_numbers(a, 1, 10);

    outbox_statistics refused = app_await(a, is_backing_off);
    assert_int_equal(refused.last_error, OUTBOX_LINK);
    assert_true(strlen(refused.last_error_text) > 0);
    assert_null(strstr(refused.last_error_text, "secret"));
    assert_int_equal(refused.connects, 0);
    assert_int_equal(refused.pending, 10);

    write_password(s, "secret");
    broker_reload(&s->broker);
    expect_numbers(s->recorder, 1, 10);
    assert_int_equal(app_await(a, is_online).last_error, OUTBOX_OK);
}

static void test_user_and_password_may_be_in_the_url(void **state)
{
    char url[96];
    scene *s = *state;

    write_password(s, "se:cret");
    broker_start(&s->broker, "allow_anonymous false\npassword_file passwords\n");
    scene_record(s);
    app *a = app_open(s, "WAL");
    (void)snprintf(url, sizeof url, "mqtt://device:se%%3Acret@127.0.0.1:%u", s->broker.port);
    app_start_with(a, &(outbox_forwarding){.broker = url});
    app_put_numbers(a, 1, 10);

    expect_numbers(s->recorder, 1, 10);
}

/* A broker that takes no QoS 1 can never acknowledge anything. */
static void test_a_broker_without_qos_1_gets_nothing_and_is_reported(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN "max_qos 0\n");
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    app_put_numbers(a, 1, 10);

    outbox_statistics now = app_await(a, is_backing_off);
    assert_int_not_equal(now.last_error, OUTBOX_OK);
    assert_int_equal(now.pending, 10);
    assert_int_equal(now.published, 0);

    proxy_set(s->proxy, PROXY_REFUSE); /* until the recorder is there */
    broker_terminate(&s->broker);
    broker_start(&s->broker, BROKER_OPEN);
    recorder_subscribe_again(s->recorder);
    proxy_set(s->proxy, PROXY_PASS);
    expect_numbers(s->recorder, 1, 10);
}

/* ---- An event is refused --------------------------------------------------------------------- */

/* Puts 1, 2, 3 to the topic "t", 4 to "refused", 5, 6, 7 to "t"; the ids are the numbers. */
static void put_with_one_to_be_refused(app *a, const char *fourth)
{
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 1, 3);
    assert_int_equal(app_put(a, "refused", fourth), 4);
    app_put_numbers(a, 5, 3);
    app_exec(a, "COMMIT");
}

/* Nothing behind the refused event has left the table, and flush does not pretend so. */
static void expect_blocked(app *a, int reason)
{
    outbox_statistics now = app_await(a, is_refused);

    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_id, 4);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_reason, reason);
    assert_true(now.refusals >= 1);
    assert_int_equal(outbox_flush(a->box, 500), OUTBOX_TIMEOUT);
    now = app_stats(a);
    assert_int_equal(now.last_error, OUTBOX_REFUSED);
    assert_int_equal(now.delivered, 3);
    assert_int_equal(now.pending, 4);
    assert_int_equal(now.dead_lettered, 0);
}

static void expect_all_seven(scene *s, app *a)
{
    app_flush(a);
    /* 5, 6 and 7 may have come before, behind 4 in flight. What counts is that they come after. */
    recorder_await(s->recorder,
                   "SELECT count(DISTINCT id) FROM arrival"
                   " WHERE n >= (SELECT n FROM first WHERE id = 4)",
                   4);
    expect_text(s->recorder,
                "SELECT group_concat(id, ' ') FROM (SELECT id FROM arrival WHERE id >= 4"
                " GROUP BY id ORDER BY max(n))",
                "4 5 6 7");
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.delivered, 7);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(now.last_error, OUTBOX_OK);
}

/* MQTT 5 reason 0x87, not authorized. [step-4] */
static void test_a_forbidden_topic_blocks_until_it_is_allowed(void **state)
{
    scene *s = *state;

    scene_write(s, "rules", "topic write t\n");
    broker_start(&s->broker, BROKER_OPEN "acl_file rules\n");
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    put_with_one_to_be_refused(a, "4");
    expect_blocked(a, 0x87);

    scene_write(s, "rules", "topic write t\ntopic write refused\n");
    broker_reload(&s->broker);
    expect_all_seven(s, a);
}

/* A larger event between small ones. No broker will take it one day, so it does not block the
 * others.
 */
static void expect_the_large_one_buried(scene *s)
{
    char large[2001], reason[80];

    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .announce_topic = ""});
    put_with_one_to_be_refused(a, large);

    app_flush(a);
    outbox_statistics now = app_stats(a);
    assert_int_equal(now.delivered, 6);
    assert_int_equal(now.dead_lettered, 1);
    assert_int_equal(now.last_error, OUTBOX_OK);
    assert_int_equal(app_number(a, "SELECT id FROM outbox_dead"), 4);
    app_text(a, "SELECT reason FROM outbox_dead", reason, sizeof reason);
    assert_non_null(strstr(reason, "0x95"));
    recorder_await(s->recorder, "SELECT count(*) FROM first", 6);
    expect_text(s->recorder,
                "SELECT group_concat(id, ' ') FROM (SELECT id FROM arrival GROUP BY id"
                " ORDER BY max(n))",
                "1 2 3 5 6 7");
}

/* Larger than the packets that the broker takes (Maximum Packet Size). It is not even sent, as the
 * broker would hang up. [poison-1] */
static void test_an_event_over_the_maximum_packet_size_is_buried(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN "max_packet_size 1500\n");
    expect_the_large_one_buried(s);
}

/* A limit that the broker does not announce: it answers with reason 0x95. [poison-1] */
static void test_an_event_that_the_broker_finds_too_large_is_buried(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN "message_size_limit 1500\n");
    expect_the_large_one_buried(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_wrong_password_is_reported_and_delivery_begins_when_it_is_right),
        SCENE_TEST(test_user_and_password_may_be_in_the_url),
        SCENE_TEST(test_a_broker_without_qos_1_gets_nothing_and_is_reported),
        SCENE_TEST(test_a_forbidden_topic_blocks_until_it_is_allowed),
        SCENE_TEST(test_an_event_over_the_maximum_packet_size_is_buried),
        SCENE_TEST(test_an_event_that_the_broker_finds_too_large_is_buried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
