/* SPDX-License-Identifier: MIT
 *
 * test_wire.c - what an event looks like to a recipient, by mode and version of MQTT.
 *
 * Structured mode is the CloudEvents JSON format 1.0.2 in the MQTT binding 1.0.2; plain mode is the
 * payload byte for byte. On MQTT 3.1.1 there are no properties.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(app *a, const outbox_event *event)
{
    int rc = outbox_put(a->box, event, NULL);

    if (rc != OUTBOX_OK) {
        fail_msg("put: %d, %s", rc, outbox_errmsg(a->box));
    }
}

/* As scene_begin(), in a mode and a protocol version; 0: the defaults. */
static app *begin_as(scene *s, outbox_mode mode, int protocol)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .mode = mode, .protocol = protocol});
    return a;
}

/* ---- Structured ------------------------------------------------------------------------------ */

static void test_an_event_arrives_as_a_cloudevents_document(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    recorder *r = s->recorder;

    put(a, &(outbox_event){.topic = "plant/7/temp",
                           .payload = "warm",
                           .payload_len = 4,
                           .content_type = "text/plain",
                           .type = "com.example.reading",
                           .key = "sensor 7"});
    expect_arrivals(r, 1);

    expect_text(r, "SELECT topic FROM arrival", "plant/7/temp");
    expect_text(r, "SELECT content_type FROM arrival",
                "application/cloudevents+json; charset=utf-8");
    expect_number(r, "SELECT utf8 FROM arrival", 1);
    expect_number(r, "SELECT qos FROM arrival", 1);
    expect_number(r, "SELECT retain FROM arrival", 0);
    expect_text(r, "SELECT json_extract(event, '$.specversion') FROM arrival", "1.0");
    expect_text(r, "SELECT json_extract(event, '$.id') FROM arrival", "1");
    expect_text(r, "SELECT json_extract(event, '$.sequence') FROM arrival", "0000000000000000001");
    expect_text(r, "SELECT json_extract(event, '$.previous') FROM arrival", "0000000000000000000");
    expect_text(r, "SELECT json_extract(event, '$.type') FROM arrival", "com.example.reading");
    expect_text(r, "SELECT json_extract(event, '$.partitionkey') FROM arrival", "sensor 7");
    expect_text(r, "SELECT json_extract(event, '$.datacontenttype') FROM arrival", "text/plain");
    expect_text(r, "SELECT json_extract(event, '$.data') FROM arrival", "warm");
    /* RFC 3339, in UTC, of this minute. */
    expect_number(r,
                  "SELECT length(time) = 24 AND time GLOB '*-*-*T*:*:*.*Z'"
                  "  AND abs(julianday(time) - julianday('now')) < 1.0 / 1440"
                  " FROM (SELECT json_extract(event, '$.time') AS time FROM arrival)",
                  1);
}

/* [P6] */
static void test_the_source_names_the_device_and_is_the_same_for_all_events(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    outbox_detach(a->box);
    assert_int_equal(outbox_attach(a->db, &(outbox_config){.device = "press-4"}, &a->box),
                     OUTBOX_OK);
    app_start(s, a);
    app_put_numbers(a, 1, 3);
    expect_arrivals(s->recorder, 3);

    expect_number(s->recorder,
                  "SELECT count(DISTINCT json_extract(event, '$.source')) FROM arrival", 1);
    expect_number(s->recorder,
                  "SELECT json_extract(event, '$.source') GLOB 'outbox://press-4/?*' FROM arrival",
                  1);
}

/* [put-6] */
static void test_data_takes_the_form_that_its_content_type_says(void **state)
{
    static const char bytes[] = {0, 1, '\n', (char)0xff, 'z'};
    scene *s = *state;
    app *a = scene_begin(s);
    recorder *r = s->recorder;

    put(a, &(outbox_event){.topic = "bytes", .payload = bytes, .payload_len = sizeof bytes});
    put(a, &(outbox_event){.topic = "json",
                           .payload = "{\"c\": 21.50}",
                           .payload_len = 12,
                           .content_type = "application/json"});
    put(a, &(outbox_event){.topic = "text",
                           .payload = "\"\xc3\xa4\\\n",
                           .payload_len = 5,
                           .content_type = "text/plain"});
    expect_arrivals(r, 3);

    expect_text(r,
                "SELECT hex(unbase64(json_extract(event, '$.data_base64'))) FROM arrival"
                " WHERE topic = 'bytes'",
                "00010AFF7A");
    expect_text(
        r, "SELECT json_type(event, '$.datacontenttype') FROM arrival WHERE topic = 'bytes'", "");
    /* The value itself, digit for digit, and not a string that holds a document. */
    expect_number(r, "SELECT instr(event, '{\"c\": 21.50}') > 0 FROM arrival WHERE topic = 'json'",
                  1);
    expect_text(r, "SELECT json_type(event, '$.data') FROM arrival WHERE topic = 'json'", "object");
    expect_text(r, "SELECT json_extract(event, '$.data') FROM arrival WHERE topic = 'text'",
                "\"\xc3\xa4\\\n");
}

static void test_an_empty_payload_arrives(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    put(a, &(outbox_event){.topic = "t"});
    expect_arrivals(s->recorder, 1);

    expect_text(s->recorder, "SELECT json_extract(event, '$.type') FROM arrival", "outbox.event");
}

static void test_the_largest_payload_arrives_whole(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    char *payload = malloc(OUTBOX_PAYLOAD_MAX);

    assert_non_null(payload);
    /* Each byte becomes six in JSON: the worst case. */
    memset(payload, 1, OUTBOX_PAYLOAD_MAX);
    put(a, &(outbox_event){.topic = "t",
                           .payload = payload,
                           .payload_len = OUTBOX_PAYLOAD_MAX,
                           .content_type = "text/plain"});
    free(payload);
    expect_arrivals(s->recorder, 1);

    expect_number(s->recorder, "SELECT length(json_extract(event, '$.data')) FROM arrival",
                  OUTBOX_PAYLOAD_MAX);
}

static void test_the_broker_keeps_a_retained_event_for_later_subscribers(void **state)
{
    static const char kept[] = "SELECT count(*) FROM arrival WHERE topic = 'kept'";
    scene *s = *state;
    app *a = scene_begin(s);

    put(a, &(outbox_event){.topic = "kept", .payload = "1", .payload_len = 1, .retain = 1});
    put(a, &(outbox_event){.topic = "gone", .payload = "2", .payload_len = 1});
    /* The recorder's client may subscribe once more behind them, and then gets what is retained
     * twice. */
    recorder_await(s->recorder, "SELECT count(DISTINCT topic) FROM arrival", 2);
    expect_number(s->recorder, "SELECT min(retain) FROM arrival WHERE topic = 'kept'", 1);
    expect_number(s->recorder, "SELECT max(retain) FROM arrival WHERE topic = 'gone'", 0);

    /* A new subscription gets what is retained, and nothing else. */
    int64_t before = recorder_number(s->recorder, kept);
    recorder_subscribe_again(s->recorder);
    recorder_await(s->recorder, kept, before + 1);
    expect_number(s->recorder, "SELECT count(*) FROM arrival WHERE topic = 'gone'", 1);
}

/* ---- Plain ----------------------------------------------------------------------------------- */

static void test_plain_mode_passes_bytes_untouched_with_properties_beside_them(void **state)
{
    static const char bytes[] = {0, 1, '\n', (char)0xff, 'z'};
    scene *s = *state;
    app *a = begin_as(s, OUTBOX_PLAIN, 0);
    recorder *r = s->recorder;

    put(a, &(outbox_event){.topic = "t",
                           .payload = bytes,
                           .payload_len = sizeof bytes,
                           .content_type = "image/x-dots"});
    put(a, &(outbox_event){.topic = "t",
                           .payload = "{\"a\":1}",
                           .payload_len = 7,
                           .content_type = "application/json"});
    expect_arrivals(r, 2);

    expect_text(r, "SELECT hex(payload) FROM arrival WHERE n = 1", "00010AFF7A");
    expect_text(r, "SELECT content_type FROM arrival WHERE n = 1", "image/x-dots");
    expect_number(r, "SELECT utf8 FROM arrival WHERE n = 1", 0);
    expect_text(r, "SELECT payload FROM arrival WHERE n = 2", "{\"a\":1}");
    expect_number(r, "SELECT id FROM arrival WHERE n = 2", 2);
    expect_number(r,
                  "SELECT properties GLOB 'id:2 source:outbox://* sequence:0000000000000000002"
                  " previous:0000000000000000001*' FROM arrival WHERE n = 2",
                  1);
}

/* ---- Binary ---------------------------------------------------------------------------------- */

/* [mode-3] */
static void test_binary_mode_puts_each_attribute_beside_the_payload(void **state)
{
    static const outbox_header header = {"site", "hall:7"};
    scene *s = *state;
    app *a = begin_as(s, OUTBOX_BINARY, 0);
    recorder *r = s->recorder;

    put(a, &(outbox_event){.topic = "t",
                           .payload = "{\"a\":1.0}",
                           .payload_len = 9,
                           .content_type = "application/json",
                           .correlation_id = "order9",
                           .headers = &header,
                           .header_count = 1});
    expect_arrivals(r, 1);

    expect_text(r, "SELECT payload FROM arrival", "{\"a\":1.0}");
    expect_text(r, "SELECT content_type FROM arrival", "application/json");
    expect_number(r, "SELECT utf8 FROM arrival", 1);
    expect_number(r, "SELECT id FROM arrival", 1);
    expect_number(r,
                  "SELECT properties GLOB 'specversion:1.0 id:1 source:outbox://*"
                  " type:outbox.event time:*Z sequence:0000000000000000001"
                  " previous:0000000000000000000 recordedtime:*Z correlationid:order9 site:hall:7'"
                  " FROM arrival",
                  1);
}

/* [mode-5] */
static void test_binary_mode_with_protocol_4_is_refused_at_the_start(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    app *a = app_open(s, "WAL");
    outbox_forwarding forwarding = {.broker = s->url, .mode = OUTBOX_BINARY, .protocol = 4};
    assert_int_equal(outbox_start(a->box, &forwarding), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(a->box), "MQTT 5"));
    forwarding = (outbox_forwarding){.broker = s->url, .mode = OUTBOX_PLAIN, .ce_prefix = 1};
    assert_int_equal(outbox_start(a->box, &forwarding), OUTBOX_MISUSE);
}

/* [mode-5] */
static void test_binary_mode_does_not_fall_back_to_3_1_1(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    proxy_set(s->proxy, PROXY_OLD);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .mode = OUTBOX_BINARY});
    app_put_numbers(a, 1, 1);
    outbox_statistics now = app_await(a, is_backing_off);
    assert_int_equal(now.last_error, OUTBOX_LINK);
    assert_int_equal(now.published, 0);
    assert_int_equal(now.pending, 1);
}

/* ---- MQTT 3.1.1 ------------------------------------------------------------------------------ */

static void expect_structured_without_properties(scene *s, app *a)
{
    app_put_numbers(a, 1, 20);
    app_flush(a);

    expect_numbers(s->recorder, 1, 20);
    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE content_type IS NOT NULL"
                  " OR properties IS NOT NULL",
                  0);
}

static void test_mqtt_3_carries_the_document_without_properties(void **state)
{
    scene *s = *state;
    app *a = begin_as(s, OUTBOX_STRUCTURED, 4);

    expect_structured_without_properties(s, a);
}

static void test_mqtt_3_carries_plain_bytes_alone(void **state)
{
    scene *s = *state;
    app *a = begin_as(s, OUTBOX_PLAIN, 4);

    put(a, &(outbox_event){.topic = "t", .payload = "x\0y", .payload_len = 3});
    expect_arrivals(s->recorder, 1);

    expect_text(s->recorder, "SELECT hex(payload) FROM arrival", "780079");
    expect_number(s->recorder, "SELECT properties IS NULL FROM arrival", 1);
}

static app *begin_before_an_old_broker(scene *s, proxy_mood manner, int protocol)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    proxy_set(s->proxy, manner);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .protocol = protocol});
    return a;
}

/* What mosquitto before 1.6 and its like say: return code 1 in the form of 3.1.1. */
static void test_a_broker_of_3_1_1_only_is_served_in_3_1_1(void **state)
{
    scene *s = *state;
    app *a = begin_before_an_old_broker(s, PROXY_OLD, 0);

    expect_structured_without_properties(s, a);
}

/* What a newer broker says that was told to take 3.1.1 only: reason code 0x84. */
static void test_a_broker_that_refuses_version_5_is_served_in_3_1_1(void **state)
{
    scene *s = *state;
    app *a = begin_before_an_old_broker(s, PROXY_NOT_FIVE, 0);

    expect_structured_without_properties(s, a);
}

static void test_who_asks_for_version_5_never_gets_3_1_1(void **state)
{
    scene *s = *state;
    app *a = begin_before_an_old_broker(s, PROXY_OLD, 5);

    app_put_numbers(a, 1, 3);
    outbox_statistics now = app_await(a, is_backing_off);
    assert_int_equal(now.last_error, OUTBOX_LINK);
    assert_int_equal(now.pending, 3);

    proxy_set(s->proxy, PROXY_PASS);
    expect_numbers(s->recorder, 1, 3);
    expect_number(s->recorder, "SELECT count(*) FROM arrival WHERE content_type IS NULL", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_binary_mode_puts_each_attribute_beside_the_payload),
        SCENE_TEST(test_binary_mode_with_protocol_4_is_refused_at_the_start),
        SCENE_TEST(test_binary_mode_does_not_fall_back_to_3_1_1),
        SCENE_TEST(test_an_event_arrives_as_a_cloudevents_document),
        SCENE_TEST(test_the_source_names_the_device_and_is_the_same_for_all_events),
        SCENE_TEST(test_data_takes_the_form_that_its_content_type_says),
        SCENE_TEST(test_an_empty_payload_arrives),
        SCENE_TEST(test_the_largest_payload_arrives_whole),
        SCENE_TEST(test_the_broker_keeps_a_retained_event_for_later_subscribers),
        SCENE_TEST(test_plain_mode_passes_bytes_untouched_with_properties_beside_them),
        SCENE_TEST(test_mqtt_3_carries_the_document_without_properties),
        SCENE_TEST(test_mqtt_3_carries_plain_bytes_alone),
        SCENE_TEST(test_a_broker_of_3_1_1_only_is_served_in_3_1_1),
        SCENE_TEST(test_a_broker_that_refuses_version_5_is_served_in_3_1_1),
        SCENE_TEST(test_who_asks_for_version_5_never_gets_3_1_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
