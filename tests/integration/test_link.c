/* SPDX-License-Identifier: MIT
 *
 * test_link.c - the link: connecting and publishing, against a broker that plays each trap and
 * against mosquitto.
 *
 * The promises are those of port.h: what open, publish, poll and close answer, whatever the broker
 * and the MQTT client underneath do. [link-3]
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <outbox/outbox.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link_rig.h"
#include "paho_message.h"
#include "paho_queue.h"

/* ---- Opening --------------------------------------------------------------------------------- */

static void test_an_open_connection_reports_the_limits_of_the_server(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x0d\x00\x00\x0a\x21\x00\x07\x27\x00\x01\x00\x02\x24\x01");
    begin(r, &rules);
    outbox_link_event event = go_online(r);
    assert_int_equal(event.receive_maximum, 7);
    assert_int_equal(event.maximum_packet, 65538);
    assert_int_equal(event.maximum_qos, 1);
    assert_int_equal(event.protocol, 5);
}

static void test_limits_that_the_server_does_not_name_have_the_values_of_the_standard(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    outbox_link_event event = go_online(r);
    assert_int_equal(event.receive_maximum, 65535);
    assert_int_equal(event.maximum_packet, 0);
    assert_int_equal(event.maximum_qos, 2);
}

static void test_a_3_1_1_connection_reports_the_limits_of_port_h(void **state)
{
    rig *r = *state;
    r->options.protocol = 4;
    begin(r, &obedient);
    outbox_link_event event = go_online(r);
    assert_int_equal(event.receive_maximum, 65535);
    assert_int_equal(event.maximum_packet, 0);
    assert_int_equal(event.maximum_qos, 1);
    assert_int_equal(event.protocol, 4);
    assert_int_equal(version_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 0)), 4);
}

static void test_connect_asks_for_a_clean_session_and_brings_the_credentials(void **state)
{
    rig *r = *state;
    r->options.username = "me";
    r->options.password = "p\xff";
    r->options.keep_alive_seconds = 17;
    begin(r, &obedient);
    (void)go_online(r);
    scripted_packet connect = scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 0);
    static const char expected[] = "\x10\x19\x00\x04MQTT\x05\xc2\x00\x11\x00\x00\x04link\x00\x02me"
                                   "\x00\x02p\xff";
    assert_int_equal(connect.size, sizeof(expected) - 1);
    assert_memory_equal(connect.bytes, expected, sizeof(expected) - 1);
}

static void test_nobody_at_the_port_ends_in_one_closed(void **state)
{
    rig *r = *state;
    r->broker = scripted_broker_start(&obedient);
    unsigned port = scripted_broker_port(r->broker);
    scripted_broker_stop(r->broker);
    r->broker = NULL;
    make_link_to(r, port);
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0);
    assert_contains(event.sentence, "127.0.0.1");
    expect_silence(r);
}

static void test_a_name_that_does_not_resolve_ends_in_one_closed(void **state)
{
    rig *r = *state;
    char sentence[160];
    assert_int_equal(
        outbox_url_parse("mqtt://no-such-host.invalid", &r->url, sentence, sizeof(sentence)), 0);
    assert_int_equal(outbox_linux_link_new(&r->options, &r->link, NULL, 0), OUTBOX_OK);
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_contains(event.sentence, "no-such-host.invalid");
    expect_silence(r);
}

static void test_a_server_without_connack_ends_in_one_closed(void **state)
{
    rig *r = *state;
    static const scripted_rules silent = {.puback_reason = SCRIPTED_NO_PUBACK};
    r->options.connect_timeout_ms = 1000;
    begin(r, &silent);
    long long began = now_ms();
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_true(now_ms() - began < 6000);
    assert_contains(event.sentence, "no answer in time");
    expect_silence(r);
}

static void test_a_server_that_speaks_no_mqtt_ends_in_one_closed(void **state)
{
    rig *r = *state;
    static const scripted_rules web = {.connack5 = {"HTTP/1.1 400 Bad Request\r\n\r\n", 28},
                                       .hang_up = 1};
    begin(r, &web);
    (void)open_link(r);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
}

static void test_a_limit_of_zero_in_the_connack_ends_in_closed(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x21\x00\x00");
    begin(r, &rules);
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0x82);
    assert_contains(event.sentence, "CONNACK");
}

static void test_a_refused_connect_tells_its_reason(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x03\x00\x86\x00");
    rules.hang_up = 1;
    begin(r, &rules);
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0x86);
    assert_contains(event.sentence, "0x86");
    assert_contains(event.sentence, "refused");
    expect_silence(r);
}

static void test_the_return_codes_of_3_1_1_become_reason_codes(void **state)
{
    rig *r = *state;
    static const struct {
        scripted_bytes connack;
        int reason;
    } cases[] = {{{"\x20\x02\x00\x01", 4}, 0x84},
                 {{"\x20\x02\x00\x02", 4}, 0x85},
                 {{"\x20\x02\x00\x03", 4}, 0x88},
                 {{"\x20\x02\x00\x04", 4}, 0x86},
                 {{"\x20\x02\x00\x05", 4}, 0x87}};
    r->options.protocol = 4;
    begin(r, &obedient);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scripted_rules rules = {.connack3 = cases[i].connack, .hang_up = 1};
        scripted_broker_set(r->broker, &rules);
        (void)open_link(r);
        outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
        assert_int_equal(event.reason, cases[i].reason);
        close_link(r);
    }
}

/* ---- MQTT 5 or 3.1.1 ------------------------------------------------------------------------- */

static void falls_back(rig *r, scripted_bytes refusal)
{
    scripted_rules rules = obedient;
    rules.connack5 = refusal;
    begin(r, &rules);
    outbox_link_event event = go_online(r);
    assert_int_equal(event.protocol, 4);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 2);
    assert_int_equal(version_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 0)), 5);
    assert_int_equal(version_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 1)), 4);
    assert_contains(r->log, "MQTT 3.1.1");
    assert_int_equal(publish(r, 9, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 9, 0);
}

static void test_a_server_of_3_1_1_is_spoken_to_in_3_1_1(void **state)
{
    falls_back(*state, SCRIPTED("\x20\x02\x00\x01"));
}

static void test_a_server_that_refuses_mqtt_5_in_its_own_words_is_spoken_to_in_3_1_1(void **state)
{
    falls_back(*state, SCRIPTED("\x20\x03\x00\x84\x00"));
}

static void test_the_version_is_remembered_until_an_open_fails(void **state)
{
    rig *r = *state;
    scripted_rules old = obedient;
    old.connack5 = SCRIPTED("\x20\x02\x00\x01");
    begin(r, &old);
    (void)go_online(r);
    close_link(r);
    (void)go_online(r);
    close_link(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 3);
    assert_int_equal(version_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 2)), 4);

    static const scripted_rules away = {.connack3 = {"\x20\x02\x00\x03", 4}, .hang_up = 1};
    scripted_broker_set(r->broker, &away);
    (void)open_link(r);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    close_link(r);
    scripted_broker_set(r->broker, &obedient);
    assert_int_equal(go_online(r).protocol, 5);
}

static void test_a_fixed_version_is_not_given_up(void **state)
{
    rig *r = *state;
    scripted_rules old = obedient;
    old.connack5 = SCRIPTED("\x20\x02\x00\x01");
    r->options.protocol = 5;
    begin(r, &old);
    (void)open_link(r);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0x84);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 1);
}

/* ---- Server Keep Alive ----------------------------------------------------------------------- */

static void test_a_shorter_keep_alive_of_the_server_is_kept(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x13\x00\x09");
    begin(r, &rules);
    ONLY_OVER(r, OUTBOX_LINK_PAHO); /* which must connect again for it */
    (void)go_online(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 2);
    assert_int_equal(keep_alive_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 0)), 30);
    assert_int_equal(keep_alive_of(scripted_broker_packet(r->broker, SCRIPTED_CONNECT, 1)), 9);
    expect_silence(r);
    /* and the next connection begins with it */
    close_link(r);
    (void)go_online(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 3);
}

static void test_a_longer_keep_alive_of_the_server_changes_nothing(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x13\x01\x00");
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 1);
}

static void test_a_ping_leaves_within_one_and_a_half_keep_alives(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x13\x00\x02");
    begin(r, &rules);
    (void)go_online(r);
    long long began = now_ms();
    outbox_link_event event;
    while (scripted_broker_count(r->broker, SCRIPTED_PINGREQ) == 0 && now_ms() - began < 3000)
        assert_false(next_within(r, &event, 100));
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PINGREQ), 1);
}

/* ---- Publishing ------------------------------------------------------------------------------ */

static void test_publishes_go_out_in_order_and_each_is_acked_under_its_token(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    for (uint32_t i = 0; i < 50; i++) {
        char payload[8];
        int length = snprintf(payload, sizeof(payload), "%u", (unsigned)i);
        outbox_message message = hello;
        message.payload = payload;
        message.payload_len = (size_t)length;
        assert_int_equal(publish(r, 0xfffffff0u + i, &message), OUTBOX_LINK_OK);
        memset(payload, 'x', sizeof(payload)); /* it is ours again */
    }
    for (uint32_t i = 0; i < 50; i++)
        expect_acked(r, 0xfffffff0u + i, 0);
    for (uint32_t i = 0; i < 50; i++) {
        char payload[8];
        (void)snprintf(payload, sizeof(payload), "%u", (unsigned)i);
        scripted_publish p =
            scripted_broker_parse(scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, i), 5);
        assert_int_equal(p.qos, 1);
        assert_int_equal(p.dup, 0);
        assert_int_equal(p.payload_size, strlen(payload));
        assert_memory_equal(p.payload, payload, strlen(payload));
    }
}

static void test_publish_before_the_connection_is_open_sends_nothing(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_DOWN);
    assert_int_equal(open_link(r), OUTBOX_LINK_OK);
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_AGAIN);
    (void)expect(r, OUTBOX_LINK_OPENED);
    assert_int_equal(publish(r, 3, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 3, 0);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 1);
}

static void test_no_more_than_the_receive_maximum_is_in_flight(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x21\x00\x02");
    rules.puback_reason = SCRIPTED_NO_PUBACK;
    rules.acknowledge_first = 1;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(r, 3, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(r, 4, &hello), OUTBOX_LINK_AGAIN);
    expect_silence(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 3);
}

static void test_no_more_than_the_window_is_in_flight(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.puback_reason = SCRIPTED_NO_PUBACK;
    r->options.window = 3;
    begin(r, &rules);
    (void)go_online(r);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(r, 3, &hello), OUTBOX_LINK_AGAIN);
}

/* What Paho 1.3.12 has not begun to write at a loss, it leaks. */
static void test_paho_is_given_no_more_than_a_send_buffer_takes(void **state)
{
    rig *r = *state;
    static char payload[3 * OUTBOX_PAHO_BYTES_MAX];
    scripted_rules rules = obedient;
    ONLY_OVER(r, OUTBOX_LINK_PAHO);
    rules.deaf = 1;
    begin(r, &rules);
    (void)go_online(r);
    outbox_message message = hello;
    message.payload = payload;
    message.payload_len = OUTBOX_PAHO_BYTES_MAX / 4;
    uint32_t accepted = 0;
    while (publish(r, accepted, &message) == OUTBOX_LINK_OK)
        accepted++;
    assert_int_equal(accepted, 3); /* four have headers too much */
    close_link(r);

    /* A larger one goes alone. */
    (void)open_link(r);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_OPENED);
    message.payload_len = sizeof(payload);
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_AGAIN);
}

static void test_a_refused_publish_is_acked_with_its_reason(void **state)
{
    rig *r = *state;
    static const int reasons[] = {0x80, 0x87, 0x97, 0x99};
    begin(r, &obedient);
    (void)go_online(r);
    for (uint32_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        scripted_rules rules = obedient;
        rules.puback_reason = reasons[i];
        scripted_broker_set(r->broker, &rules);
        assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
        expect_acked(r, i, reasons[i]);
    }
    expect_silence(r);
}

static void test_no_matching_subscribers_is_success(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.puback_reason = 0x10;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    outbox_link_event event = expect(r, OUTBOX_LINK_ACKED);
    assert_true(event.reason < 0x80);
}

static void test_a_packet_may_be_as_large_as_the_server_allows_and_not_a_byte_larger(void **state)
{
    rig *r = *state;
    static const outbox_property property = {"id", "7"};
    char payload[256] = "";
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x08\x00\x00\x05\x27\x00\x00\x00\xc8"); /* 200 */
    begin(r, &rules);
    (void)go_online(r);
    outbox_message message = {.topic = "t",
                              .payload = payload,
                              .content_type = "text/plain",
                              .properties = &property,
                              .property_count = 1};
    while (outbox_paho_packet_size(&message, 5) < 200)
        message.payload_len++;
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    assert_int_equal(scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 0).size, 200);
    message.payload_len++;
    assert_int_equal(publish(r, 2, &message), OUTBOX_LINK_TOO_LARGE);
    assert_contains(r->log, "201 bytes");
    /* the connection goes on */
    message.payload_len = 0;
    assert_int_equal(publish(r, 3, &message), OUTBOX_LINK_OK);
    expect_acked(r, 3, 0);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 2);
}

static void test_a_retained_event_is_not_sent_to_a_server_that_retains_nothing(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x05\x00\x00\x02\x25\x00");
    begin(r, &rules);
    (void)go_online(r);
    outbox_message message = hello;
    message.retain = 1;
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_TOO_LARGE);
    assert_contains(r->log, "retained");
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 2, 0);
}

static void test_properties_are_on_the_wire_of_mqtt_5(void **state)
{
    rig *r = *state;
    static const outbox_property properties[] = {{"id", "7"}, {"source", "urn:x"}, {"id", ""}};
    begin(r, &obedient);
    (void)go_online(r);
    outbox_message message = hello;
    message.is_utf8 = 1;
    message.retain = 1;
    message.content_type = "text/plain";
    message.properties = properties;
    message.property_count = 3;
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    static const char expected[] = "\x01\x01\x03\x00\x0atext/plain\x26\x00\x02id\x00\x01"
                                   "7\x26\x00\x06source\x00\x05urn:x\x26\x00\x02id\x00\x00";
    scripted_publish p =
        scripted_broker_parse(scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 0), 5);
    assert_int_equal(p.properties_size, sizeof(expected) - 1);
    assert_memory_equal(p.properties, expected, sizeof(expected) - 1);
    assert_int_equal(p.topic_size, 3);
    assert_memory_equal(p.topic, "a/b", 3);
    assert_int_equal(p.retain, 1);
}

static void test_the_expiry_is_on_the_wire_of_mqtt_5(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    outbox_message message = hello;
    message.is_utf8 = 1;
    message.content_type = "text/plain";
    message.expiry_seconds = 86400;
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    message.expiry_seconds = UINT32_MAX;
    message.is_utf8 = 0;
    message.content_type = NULL;
    assert_int_equal(publish(r, 2, &message), OUTBOX_LINK_OK);
    expect_acked(r, 2, 0);
    static const char day[] = "\x01\x01\x02\x00\x01\x51\x80\x03\x00\x0atext/plain";
    scripted_publish p =
        scripted_broker_parse(scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 0), 5);
    assert_int_equal(p.properties_size, sizeof(day) - 1);
    assert_memory_equal(p.properties, day, sizeof(day) - 1);
    p = scripted_broker_parse(scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 1), 5);
    assert_int_equal(p.properties_size, 5);
    /* Paho would make four minutes of the whole; 68 years must do there. */
    assert_memory_equal(
        p.properties,
        r->options.kind == OUTBOX_LINK_PAHO ? "\x02\x7f\xff\xff\xff" : "\x02\xff\xff\xff\xff", 5);
}

static void test_a_3_1_1_publish_leaves_the_properties_out(void **state)
{
    rig *r = *state;
    static const outbox_property property = {"id", "7"};
    r->options.protocol = 4;
    begin(r, &obedient);
    (void)go_online(r);
    outbox_message message = hello;
    message.is_utf8 = 1;
    message.content_type = "text/plain";
    message.properties = &property;
    message.property_count = 1;
    message.expiry_seconds = 60;
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    scripted_packet packet = scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 0);
    assert_int_equal(packet.size, 2 + 5 + 2 + 5);
    assert_memory_equal(packet.bytes + packet.size - 5, "hello", 5);
}

/* The sizes at which a length needs one byte more are among them. */
static void test_the_packet_size_is_exact(void **state)
{
    rig *r = *state;
    static char payload[20000], name[200];
    memset(name, 'n', sizeof(name) - 1);
    const outbox_property properties[] = {{name, "v"}, {"k", ""}};
    static const size_t sizes[] = {0,   100, 116, 117,   118,   119,   120,  121,
                                   127, 128, 129, 16000, 16376, 16384, 20000};
    begin(r, &obedient);
    for (int version = 4; version <= 5; version++) {
        outbox_linux_link_free(r->link);
        r->options.protocol = version;
        make_link_to(r, scripted_broker_port(r->broker));
        (void)go_online(r);
        for (size_t i = 0; i < 3 * sizeof(sizes) / sizeof(sizes[0]); i++) {
            outbox_message message = {.topic = "t", .payload = payload};
            message.payload_len = sizes[i / 3];
            message.is_utf8 = i % 2 == 0;
            message.content_type = i % 4 < 2 ? "text/plain" : NULL;
            message.properties = properties;
            message.property_count = i % 3;
            message.expiry_seconds = i % 5 < 2 ? 3600 : 0;
            size_t before = scripted_broker_count(r->broker, SCRIPTED_PUBLISH);
            assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_OK);
            expect_acked(r, 1, 0);
            assert_int_equal(outbox_paho_packet_size(&message, version),
                             scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, before).size);
        }
    }
}

/* No packet identifier, no PUBACK, no ACKED; and the next one goes although the window is 1. */
static void test_fire_and_forget_is_qos_0_and_beside_the_window(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    for (int version = 4; version <= 5; version++) {
        outbox_linux_link_free(r->link);
        r->options.protocol = version;
        r->options.window = 1;
        make_link_to(r, scripted_broker_port(r->broker));
        (void)go_online(r);
        size_t before = scripted_broker_count(r->broker, SCRIPTED_PUBLISH);
        outbox_message message = hello;
        message.fire_and_forget = 1;
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(publish(r, 9, &message), OUTBOX_LINK_OK);
            assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
            expect_acked(r, i, 0);
        }
        for (size_t i = 0; i < 6; i++) {
            scripted_packet packet =
                scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, before + i);
            const outbox_message *expected = i % 2 == 0 ? &message : &hello;
            assert_int_equal((packet.bytes[0] >> 1 & 3), i % 2);
            assert_int_equal(packet.size, outbox_paho_packet_size(expected, version));
        }
    }
}

static void test_what_mqtt_cannot_encode_has_no_size(void **state)
{
    (void)state;
    static char text[65537];
    memset(text, 'a', sizeof(text) - 1);
    outbox_message message = {.topic = text};
    assert_int_equal(outbox_paho_packet_size(&message, 4), 0);
    message = hello;
    message.content_type = text;
    assert_int_equal(outbox_paho_packet_size(&message, 5), 0);
    assert_true(outbox_paho_packet_size(&message, 4) > 0);
    message.content_type = NULL;
    message.payload_len = 268435456;
    assert_int_equal(outbox_paho_packet_size(&message, 5), 0);
    message.payload_len = SIZE_MAX;
    assert_int_equal(outbox_paho_packet_size(&message, 5), 0);
}

static void test_a_topic_that_is_no_utf8_is_not_sent(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    outbox_message message = hello;
    message.topic = "a\xff";
    assert_int_equal(publish(r, 1, &message), OUTBOX_LINK_TOO_LARGE);
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 2, 0);
}

/* ---- A real broker --------------------------------------------------------------------------- */

/* A port that was free a moment ago. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(close(fd), 0);
    return ntohs(address.sin_port);
}

static pid_t start_mosquitto(unsigned port)
{
    char number[16];
    char program[] = "mosquitto", option[] = "-p";
    char *arguments[] = {program, option, number, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t pid = 0;
    (void)snprintf(number, sizeof(number), "%u", port);
    assert_int_equal(posix_spawn_file_actions_init(&quiet), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0), 0);
    if (posix_spawnp(&pid, "mosquitto", &quiet, NULL, arguments, environ) != 0 &&
        posix_spawn(&pid, "/usr/sbin/mosquitto", &quiet, NULL, arguments, environ) != 0)
        fail_msg("mosquitto cannot be started");
    assert_int_equal(posix_spawn_file_actions_destroy(&quiet), 0);
    return pid;
}

/* It takes a moment until mosquitto listens. */
static outbox_link_event go_online_patiently(rig *r)
{
    outbox_link_event event;
    for (int tries = 0; tries < 50; tries++) {
        (void)open_link(r);
        assert_true(next_within(r, &event, PATIENCE_MS));
        if (event.kind == OUTBOX_LINK_OPENED)
            return event;
        close_link(r);
        (void)poll(NULL, 0, 50);
    }
    fail_msg("mosquitto does not answer: %s", event.sentence);
    return event;
}

/* Sends `total` events with as many in flight as the broker and the link allow. */
static void drain(rig *r, uint32_t total)
{
    uint32_t sent = 0, acked = 0;
    while (acked < total) {
        while (sent < total && publish(r, sent, &hello) == OUTBOX_LINK_OK)
            sent++;
        expect_acked(r, acked++, 0);
    }
}

static void drains_into_mosquitto(rig *r, int protocol, unsigned receive_maximum)
{
    unsigned port = free_port();
    r->mosquitto = start_mosquitto(port);
    r->options.protocol = protocol;
    make_link_to(r, port);
    outbox_link_event event = go_online_patiently(r);
    assert_int_equal(event.protocol, protocol);
    assert_int_equal(event.receive_maximum, receive_maximum);
    drain(r, 500);
    assert_int_equal(kill(r->mosquitto, SIGTERM), 0);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
}

static void test_events_drain_into_mosquitto_over_mqtt_5(void **state)
{
    drains_into_mosquitto(*state, 5, 20);
}

static void test_events_drain_into_mosquitto_over_mqtt_3_1_1(void **state)
{
    drains_into_mosquitto(*state, 4, 65535);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_fire_and_forget_is_qos_0_and_beside_the_window),
        TEST(test_an_open_connection_reports_the_limits_of_the_server),
        TEST(test_limits_that_the_server_does_not_name_have_the_values_of_the_standard),
        TEST(test_a_3_1_1_connection_reports_the_limits_of_port_h),
        TEST(test_connect_asks_for_a_clean_session_and_brings_the_credentials),
        TEST(test_nobody_at_the_port_ends_in_one_closed),
        TEST(test_a_name_that_does_not_resolve_ends_in_one_closed),
        TEST(test_a_server_without_connack_ends_in_one_closed),
        TEST(test_a_server_that_speaks_no_mqtt_ends_in_one_closed),
        TEST(test_a_limit_of_zero_in_the_connack_ends_in_closed),
        TEST(test_a_refused_connect_tells_its_reason),
        TEST(test_the_return_codes_of_3_1_1_become_reason_codes),
        TEST(test_a_server_of_3_1_1_is_spoken_to_in_3_1_1),
        TEST(test_a_server_that_refuses_mqtt_5_in_its_own_words_is_spoken_to_in_3_1_1),
        TEST(test_the_version_is_remembered_until_an_open_fails),
        TEST(test_a_fixed_version_is_not_given_up),
        TEST(test_a_shorter_keep_alive_of_the_server_is_kept),
        TEST(test_a_longer_keep_alive_of_the_server_changes_nothing),
        TEST(test_a_ping_leaves_within_one_and_a_half_keep_alives),
        TEST(test_publishes_go_out_in_order_and_each_is_acked_under_its_token),
        TEST(test_publish_before_the_connection_is_open_sends_nothing),
        TEST(test_no_more_than_the_receive_maximum_is_in_flight),
        TEST(test_no_more_than_the_window_is_in_flight),
        TEST(test_paho_is_given_no_more_than_a_send_buffer_takes),
        TEST(test_a_refused_publish_is_acked_with_its_reason),
        TEST(test_no_matching_subscribers_is_success),
        TEST(test_a_packet_may_be_as_large_as_the_server_allows_and_not_a_byte_larger),
        TEST(test_a_retained_event_is_not_sent_to_a_server_that_retains_nothing),
        TEST(test_properties_are_on_the_wire_of_mqtt_5),
        TEST(test_the_expiry_is_on_the_wire_of_mqtt_5),
        TEST(test_a_3_1_1_publish_leaves_the_properties_out),
        TEST(test_the_packet_size_is_exact),
        TEST(test_what_mqtt_cannot_encode_has_no_size),
        TEST(test_a_topic_that_is_no_utf8_is_not_sent),
        TEST(test_events_drain_into_mosquitto_over_mqtt_5),
        TEST(test_events_drain_into_mosquitto_over_mqtt_3_1_1),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
