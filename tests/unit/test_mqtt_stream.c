/* SPDX-License-Identifier: MIT
 *
 * test_mqtt_stream.c - the link over a stream of bytes: a test is the server, and the clock.
 */
#include "fake_stream.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

#define CONNACK "\x20\x03\x00\x00\x00"
#define PINGREQ "\xc0\x00"
#define PINGRESP "\xd0\x00"

static struct fake_stream stream;
static struct fake_port port;
static outbox_stream_link_config config;
static outbox_link *link;
static void *memory;
static char all_lines[1024];

static const outbox_message hello = {.topic = "a/b", .payload = "hello", .payload_len = 5};

static void keep_line(void *context, outbox_level level, int code, const char *sentence)
{
    (void)context, (void)level, (void)code;
    (void)strncat(all_lines, sentence, sizeof all_lines - strlen(all_lines) - 1);
}

static int set_up(void **state)
{
    (void)state;
    fake_stream_init(&stream);
    fake_port_init(&port);
    port.port.log = keep_line;
    port.now_ms = 0xfffffff0u; /* the clock wraps soon */
    all_lines[0] = '\0';
    config = (outbox_stream_link_config){.client_id = "c", .place = "host:1883"};
    link = NULL;
    memory = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (link)
        link->methods->close(link);
    free(memory);
    return 0;
}

static void make(void)
{
    char sentence[160] = "";
    size_t size = outbox_stream_link_size(&config);
    assert_true(size > 0);
    memory = malloc(size);
    assert_non_null(memory);
    int code = outbox_stream_link_init(memory, size, &stream.stream, &port.port, &config, &link,
                                       sentence, sizeof sentence);
    if (code != OUTBOX_OK)
        fail_msg("%s", sentence);
}

/* ---- What the driver does -------------------------------------------------------------------- */

static outbox_link_event take(outbox_link_event_kind kind)
{
    outbox_link_event event;
    if (link->methods->poll(link, &event) != OUTBOX_LINK_OK)
        fail_msg("no event, but kind %d was expected", (int)kind);
    if (event.kind != kind)
        fail_msg("kind %d (%s), not %d", (int)event.kind, event.sentence, (int)kind);
    return event;
}

static void take_nothing(void)
{
    outbox_link_event event;
    if (link->methods->poll(link, &event) != OUTBOX_LINK_AGAIN)
        fail_msg("an event of kind %d (%s)", (int)event.kind, event.sentence);
}

static outbox_link_event expect_closed(int reason, int by_peer, const char *words)
{
    outbox_link_event event = take(OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, reason);
    assert_int_equal(event.by_peer, by_peer);
    if (strstr(event.sentence, words) == NULL)
        fail_msg("'%s' does not say '%s'", event.sentence, words);
    assert_false(stream.is_open);
    take_nothing();
    assert_int_equal(link->methods->next_ms(link), OUTBOX_NEVER);
    return event;
}

static void expect_acked(uint32_t token, int reason)
{
    outbox_link_event event = take(OUTBOX_LINK_ACKED);
    assert_int_equal(event.token, token);
    assert_int_equal(event.reason, reason);
}

static void open_link(void)
{
    assert_int_equal(link->methods->open(link), OUTBOX_LINK_OK);
}

/* Makes it and brings it online with this CONNACK. */
static outbox_link_event go_online_with(const char *connack, size_t size)
{
    if (!link)
        make();
    open_link();
    stream.out_seen = stream.out_size; /* the CONNECT */
    fake_stream_say(&stream, connack, size);
    outbox_link_event event = take(OUTBOX_LINK_OPENED);
    take_nothing();
    return event;
}
#define GO_ONLINE(connack) go_online_with("" connack, sizeof(connack) - 1)

static outbox_link_result publish(uint32_t token, const outbox_message *message)
{
    return link->methods->publish(link, token, message);
}

static void flush(void)
{
    link->methods->flush(link);
}

static outbox_link_result probe(void)
{
    return link->methods->probe(link);
}

static uint32_t next_ms(void)
{
    return link->methods->next_ms(link);
}

static void wait_ms(uint32_t ms)
{
    port.now_ms += ms;
}

/* ---- CONNECT --------------------------------------------------------------------------------- */

static void test_connect_asks_for_a_clean_start(void **state)
{
    (void)state;
    make();
    open_link();
    EXPECT(&stream, "\x10\x0e\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x01"
                    "c");
    EXPECT_SILENT(&stream);
}

static void test_connect_carries_credentials_and_a_will(void **state)
{
    static const outbox_will will = {
        .topic = "gone", .payload = "\x00\xff", .payload_len = 2, .qos = 1, .retain = 1};
    (void)state;
    config.will = &will;
    config.username = "u";
    config.password = "p\0q";
    config.password_len = 3;
    config.keep_alive_seconds = 65535;
    make();
    open_link();
    EXPECT(&stream, "\x10\x21\x00\x04MQTT\x05\xee\xff\xff\x00\x00\x01"
                    "c\x00\x00\x04gone\x00\x02\x00\xff\x00\x01u\x00\x03p\x00q");
    EXPECT_SILENT(&stream);
}

static void test_connect_of_3_1_1_has_no_properties(void **state)
{
    static const outbox_will will = {.topic = "w"};
    (void)state;
    config.will = &will;
    config.protocol = 4;
    make();
    open_link();
    EXPECT(&stream, "\x10\x12\x00\x04MQTT\x04\x06\x00\x1e\x00\x01"
                    "c\x00\x01w\x00\x00");
    EXPECT_SILENT(&stream);
}

static void test_a_stream_that_takes_its_time_to_open_is_asked_again(void **state)
{
    (void)state;
    make();
    stream.open_result = OUTBOX_STREAM_AGAIN;
    open_link();
    take_nothing();
    assert_int_equal(stream.opens, 2);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_AGAIN);
    assert_int_equal(probe(), OUTBOX_LINK_AGAIN);
    assert_in_range(next_ms(), 1, 1000);
    stream.open_result = OUTBOX_STREAM_OK;
    SAY(&stream, "stale bytes");
    take_nothing();
    SAY(&stream, CONNACK);
    (void)take(OUTBOX_LINK_OPENED);
}

/* [stream-8] */
static void test_a_stream_that_cannot_be_opened_closes_the_link_with_its_words(void **state)
{
    (void)state;
    make();
    stream.open_result = OUTBOX_STREAM_FAILED;
    stream.reason = "no carrier";
    open_link();
    assert_int_equal(next_ms(), 0);
    (void)expect_closed(0, 0, "no connection to host:1883: no carrier");
    stream.open_result = OUTBOX_STREAM_ENDED;
    stream.reason = NULL;
    open_link();
    (void)expect_closed(0, 0, "no connection to host:1883");
}

static void test_a_server_that_does_not_answer_is_given_up_in_time(void **state)
{
    (void)state;
    config.connect_timeout_ms = 2000;
    make();
    open_link();
    take_nothing();
    wait_ms(1999);
    take_nothing();
    assert_int_equal(next_ms(), 1);
    wait_ms(1);
    (void)expect_closed(0, 0, "no answer in time");
    stream.open_result = OUTBOX_STREAM_AGAIN;
    open_link();
    wait_ms(2000);
    (void)expect_closed(0, 0, "no answer in time");
}

static void test_a_server_that_hangs_up_before_its_connack_is_not_named(void **state)
{
    (void)state;
    make();
    open_link();
    stream.in_end = OUTBOX_STREAM_ENDED;
    (void)expect_closed(0, 0, "no connection to host:1883: it hung up");
}

/* ---- CONNACK --------------------------------------------------------------------------------- */

static void test_opened_reports_the_limits_of_the_server(void **state)
{
    (void)state;
    outbox_link_event event =
        GO_ONLINE("\x20\x0d\x00\x00\x0a\x21\x00\x07\x27\x00\x01\x00\x02\x24\x01");
    assert_int_equal(event.receive_maximum, 7);
    assert_int_equal(event.maximum_packet, 65538);
    assert_int_equal(event.maximum_qos, 1);
    assert_int_equal(event.protocol, 5);
}

/* [stream-1] */
static void test_bytes_may_come_one_at_a_time(void **state)
{
    (void)state;
    make();
    stream.piece = 1;
    open_link();
    SAY(&stream, CONNACK "\x30\x06\x00\x01t\x00hi" PINGRESP);
    (void)take(OUTBOX_LINK_OPENED);
    assert_int_equal(publish(7, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(8, &hello), OUTBOX_LINK_OK);
    SAY(&stream, "\x40\x02\x00\x02\x40\x0a\x00\x01\x99\x06\x1f\x00\x03"
                 "bad");
    expect_acked(8, 0);
    expect_acked(7, 0x99);
    assert_non_null(strstr(all_lines, "bad"));
    take_nothing();
}

/* [stream-3] */
static void test_where_mqtt_5_is_refused_3_1_1_follows_and_is_remembered(void **state)
{
    (void)state;
    make();
    open_link();
    stream.out_seen = stream.out_size;
    SAY(&stream, "\x20\x02\x00\x01");
    take_nothing();
    assert_int_equal(stream.closes, 1);
    EXPECT(&stream, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01"
                    "c");
    SAY(&stream, "\x20\x02\x00\x00");
    assert_int_equal(take(OUTBOX_LINK_OPENED).protocol, 4);
    assert_non_null(strstr(all_lines, "MQTT 3.1.1"));
    stream.in_end = OUTBOX_STREAM_ENDED;
    (void)expect_closed(0, 1, "lost");
    stream.in_end = OUTBOX_STREAM_AGAIN;
    open_link();
    EXPECT(&stream, "\x10\x0d\x00\x04MQTT\x04");
    stream.in_end = OUTBOX_STREAM_ENDED;
    (void)expect_closed(0, 0, "no connection");
    stream.out_seen = stream.out_size;
    stream.in_end = OUTBOX_STREAM_AGAIN;
    open_link(); /* the next server may know it */
    EXPECT(&stream, "\x10\x0e\x00\x04MQTT\x05");
}

/* [stream-3] */
static void test_a_version_that_was_asked_for_is_not_given_up(void **state)
{
    (void)state;
    for (config.protocol = 4; config.protocol <= 5; config.protocol++) {
        make();
        open_link();
        SAY(&stream, "\x20\x02\x00\x01");
        (void)expect_closed(0x84, 0, "unsupported protocol version (0x84)");
        link->methods->close(link);
        free(memory);
        link = NULL;
        memory = NULL;
    }
}

/* [stream-8] Nor is anything tried where even 3.1.1 is refused. */
static void test_a_server_that_refuses_both_versions_is_asked_for_two(void **state)
{
    (void)state;
    make();
    open_link();
    SAY(&stream, "\x20\x02\x00\x01");
    take_nothing();
    SAY(&stream, "\x20\x02\x00\x01");
    (void)expect_closed(0x84, 0, "unsupported protocol version (0x84)");
    assert_int_equal(stream.closes, 2);
}

/* [stream-8] */
static void test_a_refusal_tells_its_reason_and_the_words_of_the_server(void **state)
{
    (void)state;
    make();
    open_link();
    SAY(&stream, "\x20\x0c\x00\x87\x09\x1f\x00\x06"
                 "no key");
    (void)expect_closed(0x87, 0, "not authorized (0x87): no key");
    open_link();
    SAY(&stream, "\x20\x03\x00\xc0\x00");
    (void)expect_closed(0xc0, 0, "does not name (0xc0)");
}

/* [stream-7] */
static void test_what_comes_at_the_wrong_time_is_a_protocol_error(void **state)
{
    static const struct {
        const char *before, *packet;
        size_t size;
        const char *words;
    } rows[] = {
        {"", "\x40\x02\x00\x01", 4, "before its CONNACK"},
        {"", PINGRESP, 2, "before its CONNACK"},
        {"", "\x30\x04\x00\x01t\x00", 6, "before its CONNACK"},
        {"online", CONNACK, 5, "second CONNACK"},
        {"online", "\xf0\x00", 2, "no publisher"},
    };
    (void)state;
    make();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].before[0] != '\0') {
            (void)GO_ONLINE(CONNACK);
        } else {
            open_link();
            stream.out_seen = stream.out_size;
        }
        fake_stream_say(&stream, rows[i].packet, rows[i].size);
        (void)expect_closed(0x82, 0, rows[i].words);
        EXPECT(&stream, "\xe0\x01\x82");
        EXPECT_SILENT(&stream);
    }
}

/* [stream-7] */
static void test_a_malformed_packet_ends_the_connection_with_its_reason(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    SAY(&stream, "\x40\x02\x00\x00" PINGRESP);
    (void)expect_closed(0x81, 0, "PUBACK of packet id 0");
    EXPECT(&stream, "\xe0\x01\x81");
    config.protocol = 4;
    link->methods->close(link);
    free(memory);
    link = NULL;
    (void)GO_ONLINE("\x20\x02\x00\x00");
    SAY(&stream, "\x40\x03\x00\x01\x00");
    (void)expect_closed(0x81, 0, "length");
    EXPECT_SILENT(&stream); /* 3.1.1 knows no reason to give */
}

/* ---- PUBLISH --------------------------------------------------------------------------------- */

/* [stream-4] */
static void test_publishes_are_written_together_at_the_flush(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    int writes = stream.writes;
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(publish(i, &hello), OUTBOX_LINK_OK);
    assert_int_equal(stream.writes, writes);
    assert_int_equal(next_ms(), 0); /* a driver that knows no flush polls */
    flush();
    assert_int_equal(stream.writes, writes + 1);
    EXPECT(&stream, "\x32\x0d\x00\x03"
                    "a/b\x00\x01\x00hello");
    assert_int_equal(stream.out_size - stream.out_seen, 49 * 15);
    assert_true(next_ms() > 0);
}

static void test_a_publish_carries_all_that_the_message_has(void **state)
{
    static const outbox_property properties[] = {{"id", "7"}, {"e", ""}};
    const outbox_message full = {.topic = "t",
                                 .payload = "x",
                                 .payload_len = 1,
                                 .retain = 1,
                                 .is_utf8 = 1,
                                 .content_type = "text/plain",
                                 .properties = properties,
                                 .property_count = 2,
                                 .expiry_seconds = 0x01020304};
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &full), OUTBOX_LINK_OK);
    flush();
    EXPECT(&stream,
           "\x33\x29\x00\x01t\x00\x01\x22\x01\x01\x02\x01\x02\x03\x04\x03\x00\x0atext/plain"
           "\x26\x00\x02id\x00\x01"
           "7\x26\x00\x01"
           "e\x00\x00x");
    EXPECT_SILENT(&stream);
}

/* MQTT 5, 2.2.1 and 4.3.1 */
static void test_a_publish_that_nobody_answers_has_no_identifier_and_fills_no_window(void **state)
{
    outbox_message unanswered = hello;
    (void)state;
    unanswered.fire_and_forget = 1;
    config.window = 1;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(2, &hello), OUTBOX_LINK_AGAIN);
    assert_int_equal(publish(0, &unanswered), OUTBOX_LINK_OK);
    flush();
    EXPECT(&stream, "\x32\x0d\x00\x03"
                    "a/b\x00\x01\x00hello"
                    "\x30\x0b\x00\x03"
                    "a/b\x00hello");
    EXPECT_SILENT(&stream);
}

/* [stream-4] */
static void test_pubacks_count_for_their_publish_in_any_order(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(publish(100 + i, &hello), OUTBOX_LINK_OK);
    SAY(&stream, "\x40\x02\x00\x03\x40\x08\x00\x01\x00\x04\x1f\x00\x01k\x40\x03\x00\x02\x97");
    expect_acked(103, 0);
    expect_acked(101, 0);
    expect_acked(102, 0x97);
    take_nothing();
}

/* [stream-4] */
static void test_a_puback_of_no_publish_in_flight_is_ignored_and_logged_once(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(5, &hello), OUTBOX_LINK_OK);
    SAY(&stream, "\x40\x02\x00\x65"); /* 101: of the next use of its place */
    take_nothing();
    all_lines[0] = '\0';
    link->methods->close(link);
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(5, &hello), OUTBOX_LINK_OK);
    SAY(&stream, "\x40\x02\x00\x63\x40\x02\x00\x01\x40\x02\x00\x01\x40\x02\xff\xff");
    expect_acked(5, 0);
    take_nothing();
    assert_non_null(strstr(all_lines, "packet id 99"));
    assert_null(strstr(all_lines, "65535"));
}

/* A PUBACK that comes twice must not be taken for that of a later publish. */
static void test_a_packet_id_comes_back_late(void **state)
{
    (void)state;
    config.window = 2;
    (void)GO_ONLINE(CONNACK);
    for (uint32_t i = 0; i < 70000; i++) {
        assert_int_equal(publish(i, &hello), OUTBOX_LINK_OK);
        flush();
        const uint8_t *id = stream.out + stream.out_size - 8;
        const uint8_t puback[4] = {0x40, 2, id[0], id[1]};
        assert_true(id[0] != 0 || id[1] != 0);
        fake_stream_say(&stream, puback, 4);
        expect_acked(i, 0);
        assert_int_equal(publish(i, &hello), OUTBOX_LINK_OK);
        fake_stream_say(&stream, puback, 4); /* a second one, which is not for this publish */
        take_nothing();
        flush();
        id = stream.out + stream.out_size - 8;
        fake_stream_say(&stream, (const uint8_t[]){0x40, 2, id[0], id[1]}, 4);
        expect_acked(i, 0);
        stream.out_size = stream.out_seen = 0;
    }
}

static void test_no_more_is_in_flight_than_window_and_receive_maximum_allow(void **state)
{
    (void)state;
    config.window = 3;
    (void)GO_ONLINE(CONNACK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(publish(i, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(3, &hello), OUTBOX_LINK_AGAIN);
    (void)GO_ONLINE("\x20\x06\x00\x00\x03\x21\x00\x01");
    assert_int_equal(publish(4, &hello), OUTBOX_LINK_OK);
    assert_int_equal(publish(5, &hello), OUTBOX_LINK_AGAIN);
    SAY(&stream, "\x40\x02\x00\x01");
    expect_acked(4, 0);
    assert_int_equal(publish(5, &hello), OUTBOX_LINK_OK);
}

static void test_what_can_never_go_out_is_too_large(void **state)
{
    static char payload[4096], long_text[65537];
    outbox_message message = {.topic = "t", .payload = payload};
    (void)state;
    memset(long_text, 'a', sizeof long_text - 1);
    (void)GO_ONLINE("\x20\x0a\x00\x00\x07\x27\x00\x00\x10\x00\x25\x00"); /* 4,096; no retain */
    message.payload_len = 4096;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    assert_non_null(strstr(all_lines, "4105 bytes; the broker takes 4096"));
    message.payload_len = 4096 - 9; /* the buffer has 4,096 too, less its reserve */
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    assert_non_null(strstr(all_lines, "send buffer"));
    message.payload_len = 1;
    message.retain = 1;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    assert_non_null(strstr(all_lines, "retained"));
    message.retain = 0;
    message.topic = "\xff";
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    message.topic = long_text;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    message.topic = "t";
    message.payload_len = SIZE_MAX;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_TOO_LARGE);
    message.payload_len = 3000;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_OK);
}

/* [stream-4] */
static void test_a_full_buffer_is_written_out_and_a_stuck_stream_says_again(void **state)
{
    static char payload[400];
    const outbox_message message = {
        .topic = "t", .payload = payload, .payload_len = sizeof payload};
    uint32_t sent = 0;
    (void)state;
    config.send_buffer = 1024;
    (void)GO_ONLINE(CONNACK);
    for (; sent < 20; sent++) /* no flush is needed */
        assert_int_equal(publish(sent, &message), OUTBOX_LINK_OK);
    stream.room = 500;
    while (publish(sent, &message) == OUTBOX_LINK_OK)
        sent++;
    assert_in_range(sent, 21, 24);
    assert_int_equal(publish(sent, &message), OUTBOX_LINK_AGAIN);
    assert_true(next_ms() > 0); /* the stream will say when it has room */
    stream.room = SIZE_MAX;
    take_nothing();
    assert_int_equal(publish(sent, &message), OUTBOX_LINK_OK);
    flush();
    assert_int_equal((stream.out_size - stream.out_seen) % (sent + 1), 0); /* whole packets */
}

/* [stream-1] Whatever pieces the stream takes, the bytes are the same. */
static void test_a_stream_may_take_one_byte_at_a_time(void **state)
{
    (void)state;
    config.send_buffer = 256;
    (void)GO_ONLINE(CONNACK);
    stream.room = 0;
    uint32_t sent = 0;
    for (int i = 0; i < 3000; i++) {
        if (sent < 90 && publish(sent, &hello) == OUTBOX_LINK_OK)
            sent++;
        stream.room = 1;
        flush();
    }
    assert_int_equal(sent, 90);
    for (unsigned i = 1; i <= 90; i++) {
        EXPECT(&stream, "\x32\x0d\x00\x03"
                        "a/b\x00");
        fake_stream_expect(&stream, (const uint8_t[]){(uint8_t)i}, 1);
        EXPECT(&stream, "\x00hello");
    }
    EXPECT_SILENT(&stream);
}

static void test_publish_needs_an_open_connection(void **state)
{
    (void)state;
    make();
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_DOWN);
    assert_int_equal(probe(), OUTBOX_LINK_DOWN);
    open_link();
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_AGAIN);
    stream.in_end = OUTBOX_STREAM_ENDED;
    (void)expect_closed(0, 0, "");
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_DOWN);
    assert_int_equal(probe(), OUTBOX_LINK_DOWN);
    flush(); /* allowed at any time */
}

/* ---- Keep-alive and probe -------------------------------------------------------------------- */

/* [stream-5] */
static void test_a_quiet_connection_is_pinged(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(next_ms(), 6000);
    wait_ms(5999);
    take_nothing();
    EXPECT_SILENT(&stream);
    wait_ms(1);
    take_nothing();
    EXPECT(&stream, PINGREQ);
    assert_int_equal(next_ms(), 8000);
    SAY(&stream, PINGRESP);
    take_nothing();
    assert_int_equal(next_ms(), 6000);
}

/* [stream-5] */
static void test_the_server_may_ask_for_a_shorter_keep_alive_only(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    (void)GO_ONLINE("\x20\x06\x00\x00\x03\x13\x00\x04");
    assert_int_equal(next_ms(), 3000);
    (void)GO_ONLINE("\x20\x06\x00\x00\x03\x13\x00\x00");
    assert_int_equal(next_ms(), 6000);
    (void)GO_ONLINE("\x20\x06\x00\x00\x03\x13\xff\xff");
    assert_int_equal(next_ms(), 6000);
}

/* [stream-5] A ping goes out though much is sent, when nothing comes back. */
static void test_a_server_that_takes_all_and_says_nothing_is_given_up(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    (void)GO_ONLINE(CONNACK);
    for (uint32_t i = 0; i < 6; i++) {
        wait_ms(1000);
        assert_int_equal(publish(i, &hello), OUTBOX_LINK_OK);
        take_nothing();
    }
    assert_int_equal(stream.out_size - stream.out_seen, 6 * 15 + 2);
    wait_ms(7999);
    take_nothing();
    wait_ms(1);
    (void)expect_closed(0, 0, "lost: no answer within the keep-alive");
}

/* [stream-5] A slow server is alive as long as something comes. */
static void test_whatever_comes_after_a_ping_is_a_sign_of_life(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    (void)GO_ONLINE(CONNACK);
    wait_ms(6000);
    take_nothing();
    for (int i = 0; i < 5; i++) {
        wait_ms(7000);
        SAY(&stream, "\x30\x04\x00\x01t\x00");
        take_nothing();
    }
    wait_ms(8000);
    (void)expect_closed(0, 0, "lost");
}

/* Packets for the connection itself have room where no publish has. */
static void test_a_full_buffer_has_room_for_two_pings_and_a_goodbye(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    config.send_buffer = 256;
    (void)GO_ONLINE(CONNACK);
    for (size_t length = 200; length > 0; length--) { /* not a byte is left */
        static const char payload[200];
        const outbox_message sized = {.topic = "t", .payload = payload, .payload_len = length - 1};
        stream.room = 0;
        (void)publish((uint32_t)length, &sized);
    }
    wait_ms(6000);
    take_nothing();
    assert_int_equal(probe(), OUTBOX_LINK_OK);
    stream.room = SIZE_MAX;
    link->methods->close(link);
    static const char last[] = PINGREQ PINGREQ "\xe0\x00";
    assert_memory_equal(stream.out + stream.out_size - 6, last, 6);
}

/* [stream-5] Where the stream takes nothing, the ping waits, but the time runs. */
static void test_a_stream_that_is_stuck_is_given_up(void **state)
{
    static char payload[200];
    const outbox_message message = {
        .topic = "t", .payload = payload, .payload_len = sizeof payload};
    (void)state;
    config.keep_alive_seconds = 8;
    config.send_buffer = 256;
    (void)GO_ONLINE(CONNACK);
    stream.room = 0;
    assert_int_equal(publish(1, &message), OUTBOX_LINK_OK);
    flush();
    wait_ms(6000);
    take_nothing();
    assert_int_equal(probe(), OUTBOX_LINK_OK);
    wait_ms(8000);
    (void)expect_closed(0, 0, "lost");
}

/* [stream-6] */
static void test_alive_is_the_answer_to_the_probe_and_to_no_earlier_ping(void **state)
{
    (void)state;
    config.keep_alive_seconds = 8;
    (void)GO_ONLINE(CONNACK);
    wait_ms(6000);
    take_nothing(); /* which pings */
    assert_int_equal(probe(), OUTBOX_LINK_OK);
    EXPECT(&stream, PINGREQ PINGREQ);
    assert_int_equal(probe(), OUTBOX_LINK_AGAIN);
    SAY(&stream, PINGRESP);
    take_nothing();
    assert_int_equal(probe(), OUTBOX_LINK_AGAIN);
    SAY(&stream, PINGRESP PINGRESP); /* one too many does no harm */
    (void)take(OUTBOX_LINK_ALIVE);
    take_nothing();
    assert_int_equal(probe(), OUTBOX_LINK_OK);
    SAY(&stream, PINGRESP);
    (void)take(OUTBOX_LINK_ALIVE);
}

/* [stream-6] */
static void test_a_probe_follows_the_publishes_before_it(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    assert_int_equal(probe(), OUTBOX_LINK_OK);
    EXPECT(&stream, "\x32\x0d\x00\x03"
                    "a/b\x00\x01\x00hello" PINGREQ);
    link->methods->close(link);
    (void)GO_ONLINE(CONNACK);
    SAY(&stream, PINGRESP); /* of nobody's probe any more */
    take_nothing();
}

/* ---- The end --------------------------------------------------------------------------------- */

/* [stream-8] */
static void test_who_ended_the_connection_is_told(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        outbox_stream_result end;
        const char *stream_words;
        int reason, by_peer;
        const char *words;
    } rows[] = {
        {"", 0, OUTBOX_STREAM_ENDED, NULL, 0, 1, "lost: the broker hung up"},
        {"", 0, OUTBOX_STREAM_ENDED, "reset", 0, 1, "lost: reset"},
        {"", 0, OUTBOX_STREAM_FAILED, "timed out", 0, 0, "lost: timed out"},
        {"", 0, OUTBOX_STREAM_FAILED, "", 0, 0, "lost: the stream failed"},
        {"\xe0\x00", 2, OUTBOX_STREAM_AGAIN, NULL, 0, 1, "normal disconnection"},
        {"\xe0\x01\x8b", 3, OUTBOX_STREAM_ENDED, NULL, 0x8b, 1, "server shutting down (0x8b)"},
        {"\xe0\x07\x8e\x05\x1f\x00\x02no", 9, OUTBOX_STREAM_AGAIN, NULL, 0x8e, 1, "(0x8e): no"},
        {"\x40\x02", 2, OUTBOX_STREAM_ENDED, NULL, 0, 1, "lost"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stream.in_end = OUTBOX_STREAM_AGAIN;
        (void)GO_ONLINE(CONNACK);
        fake_stream_say(&stream, rows[i].bytes, rows[i].size);
        stream.in_end = rows[i].end;
        stream.reason = rows[i].stream_words;
        (void)expect_closed(rows[i].reason, rows[i].by_peer, rows[i].words);
    }
}

/* [stream-8] */
static void test_what_came_before_the_end_counts(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    stream.room = 0;
    stream.out_end = OUTBOX_STREAM_ENDED;
    SAY(&stream, "\x40\x02\x00\x01\xe0\x01\x97");
    stream.in_end = OUTBOX_STREAM_ENDED;
    flush(); /* which fails */
    assert_int_equal(next_ms(), 0);
    expect_acked(1, 0);
    (void)expect_closed(0x97, 1, "quota");
}

/* [stream-8] */
static void test_a_stream_that_takes_nothing_any_more_ends_the_connection(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    stream.room = 0;
    stream.out_end = OUTBOX_STREAM_ENDED;
    (void)expect_closed(0, 1, "lost");
    stream.room = SIZE_MAX;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(2, &hello), OUTBOX_LINK_OK);
    stream.room = 0;
    stream.out_end = OUTBOX_STREAM_FAILED;
    flush();
    assert_int_equal(publish(3, &hello), OUTBOX_LINK_DOWN);
    (void)expect_closed(0, 0, "lost");
}

/* [stream-8] Whatever call finds it out. */
static void test_a_stream_that_fails_at_a_write_ends_the_connection(void **state)
{
    static char payload[3000];
    const outbox_message large = {.topic = "t", .payload = payload, .payload_len = sizeof payload};
    (void)state;
    for (int i = 0; i < 4; i++) {
        stream.room = SIZE_MAX;
        (void)GO_ONLINE(CONNACK);
        assert_int_equal(publish(1, i == 3 ? &hello : &large), OUTBOX_LINK_OK);
        if (i == 3)
            flush();
        stream.room = 0;
        stream.out_end = OUTBOX_STREAM_FAILED;
        if (i == 0)
            assert_int_equal(publish(2, &large), OUTBOX_LINK_DOWN);
        else if (i == 1)
            assert_int_equal(probe(), OUTBOX_LINK_DOWN);
        else if (i == 3) /* the goodbye cannot be said either */
            SAY(&stream, "\x40\x02\x00\x00");
        (void)expect_closed(0, 0, "lost");
    }
}

static void test_a_stream_without_words_and_a_port_without_a_log_will_do(void **state)
{
    outbox_stream_methods silent = *stream.stream.methods;
    (void)state;
    silent.reason = NULL;
    stream.stream.methods = &silent;
    port.port.log = NULL;
    (void)GO_ONLINE(CONNACK);
    SAY(&stream, "\x40\x02\x00\x05");
    take_nothing();
    stream.in_end = OUTBOX_STREAM_FAILED;
    (void)expect_closed(0, 0, "the stream failed");
    link->methods->close(link); /* before `silent` is gone */
    link = NULL;
}

static void test_close_says_nothing_to_who_listens_no_more(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    stream.room = 0;
    stream.out_end = OUTBOX_STREAM_ENDED;
    flush();
    int writes = stream.writes;
    link->methods->close(link);
    assert_int_equal(stream.writes, writes);
    assert_int_equal(next_ms(), OUTBOX_NEVER);
}

static void test_close_says_goodbye_and_voids_what_was_in_flight(void **state)
{
    (void)state;
    (void)GO_ONLINE(CONNACK);
    assert_int_equal(publish(1, &hello), OUTBOX_LINK_OK);
    link->methods->close(link);
    stream.out_seen += 15;
    EXPECT(&stream, "\xe0\x00");
    EXPECT_SILENT(&stream);
    assert_false(stream.is_open);
    link->methods->close(link);
    take_nothing();
    (void)GO_ONLINE(CONNACK);
    SAY(&stream, "\x40\x02\x00\x01"); /* for the old one */
    take_nothing();
}

static void test_close_is_allowed_in_every_state(void **state)
{
    (void)state;
    make();
    link->methods->close(link);
    stream.open_result = OUTBOX_STREAM_AGAIN;
    open_link();
    link->methods->close(link);
    stream.open_result = OUTBOX_STREAM_OK;
    open_link();
    stream.out_seen = stream.out_size;
    link->methods->close(link);
    EXPECT_SILENT(&stream); /* no goodbye before the CONNACK */
    (void)GO_ONLINE(CONNACK);
    stream.in_end = OUTBOX_STREAM_ENDED;
    link->methods->close(link);
    take_nothing(); /* no event comes until the next open */
}

/* A server that never stops must not hold poll() for ever. */
static void test_a_flood_does_not_hold_poll(void **state)
{
    (void)state;
    config.receive_buffer = 16;
    (void)GO_ONLINE(CONNACK);
    for (int i = 0; i < 100; i++)
        SAY(&stream, "\x30\x04\x00\x01t\x00");
    take_nothing();
    assert_true(stream.in_from < stream.in_to);
    assert_int_equal(next_ms(), 0);
    take_nothing();
    take_nothing();
    take_nothing();
    assert_int_equal(stream.in_from, stream.in_to);
    assert_true(next_ms() > 0);
}

/* ---- Making ---------------------------------------------------------------------------------- */

/* [stream-2] */
static void test_a_configuration_out_of_range_is_refused_with_a_sentence(void **state)
{
    static char text[65537];
    memset(text, 'a', sizeof text - 1);
    const outbox_will no_topic = {.topic = ""}, wild = {.topic = "a/#"},
                      exact = {.topic = "t", .qos = 2}, under = {.topic = "t", .qos = -1},
                      nowhere = {.topic = NULL}, strange = {.topic = "\xff"},
                      endless = {.topic = "t", .payload = text, .payload_len = 65536};
    const outbox_stream_link_config wrong[] = {
        {.protocol = 3},
        {.keep_alive_seconds = 65536},
        {.connect_timeout_ms = (1u << 28) + 1},
        {.window = 1001},
        {.send_buffer = 255},
        {.receive_buffer = 15},
        {.client_id = "\xff"},
        {.client_id = text},
        {.username = "\xc3"},
        {.password_len = 1},
        {.username = "u", .password = text, .password_len = 65536},
        {.password = "p", .password_len = 1},
        {.username = text + 32768}, /* it does not fit into the buffer */
        {.will = &no_topic},
        {.will = &wild},
        {.will = &exact},
        {.will = &under},
        {.will = &nowhere},
        {.will = &strange},
        {.will = &endless},
        {.send_buffer = (size_t)INT32_MAX + 1},
        {.receive_buffer = (size_t)INT32_MAX + 1},
    };
    static char room[16384];
    outbox_link *made;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char sentence[160] = "";
        assert_int_equal(outbox_stream_link_size(&wrong[i]), 0);
        made = (outbox_link *)room;
        assert_int_equal(outbox_stream_link_init(room, sizeof room, &stream.stream, &port.port,
                                                 &wrong[i], &made, sentence, sizeof sentence),
                         OUTBOX_MISUSE);
        assert_null(made);
        assert_true(sentence[0] != '\0');
    }
}

/* [stream-2] */
static void test_init_refuses_what_is_missing_or_too_small(void **state)
{
    static _Alignas(16) char room[16384];
    char sentence[] = "untouched";
    const outbox_stream_methods version_2 = {.version = 2};
    outbox_stream none = {NULL}, other = {&version_2};
    outbox_port newer = port.port;
    outbox_link *made;
    (void)state;
    newer.version = 2;
    size_t size = outbox_stream_link_size(&config);
    const outbox_stream_link_config nameless = {
        .protocol = 5, .password = "p", .password_len = 1, .client_id = NULL};
    assert_true(outbox_stream_link_size(&nameless) > 0); /* which MQTT 3.1.1 does not allow */
    assert_in_range(size, 4096, sizeof room);
    assert_int_equal(outbox_stream_link_size(NULL), 0);
#define INIT(memory, size, stream, port, config, made)                                             \
    outbox_stream_link_init(memory, size, stream, port, config, made, NULL, 0)
    assert_int_equal(INIT(NULL, size, &stream.stream, &port.port, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, NULL, &port.port, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &other, &port.port, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &none, &port.port, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &stream.stream, NULL, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &stream.stream, &newer, &config, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &stream.stream, &port.port, NULL, &made), OUTBOX_MISUSE);
    assert_int_equal(INIT(room, size, &stream.stream, &port.port, &config, NULL), OUTBOX_MISUSE);
    assert_int_equal(
        outbox_stream_link_init(room, 0, &stream.stream, &port.port, &config, &made, sentence, 0),
        OUTBOX_NO_MEMORY);
    assert_string_equal(sentence, "untouched");
    assert_int_equal(INIT(room, size - 1, &stream.stream, &port.port, &config, &made),
                     OUTBOX_NO_MEMORY);
    assert_int_equal(INIT(room, size, &stream.stream, &port.port, &config, &made), OUTBOX_OK);
#undef INIT
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connect_asks_for_a_clean_start),
        TEST(test_connect_carries_credentials_and_a_will),
        TEST(test_connect_of_3_1_1_has_no_properties),
        TEST(test_a_stream_that_takes_its_time_to_open_is_asked_again),
        TEST(test_a_stream_that_cannot_be_opened_closes_the_link_with_its_words),
        TEST(test_a_server_that_does_not_answer_is_given_up_in_time),
        TEST(test_a_server_that_hangs_up_before_its_connack_is_not_named),
        TEST(test_opened_reports_the_limits_of_the_server),
        TEST(test_bytes_may_come_one_at_a_time),
        TEST(test_where_mqtt_5_is_refused_3_1_1_follows_and_is_remembered),
        TEST(test_a_version_that_was_asked_for_is_not_given_up),
        TEST(test_a_server_that_refuses_both_versions_is_asked_for_two),
        TEST(test_a_refusal_tells_its_reason_and_the_words_of_the_server),
        TEST(test_what_comes_at_the_wrong_time_is_a_protocol_error),
        TEST(test_a_malformed_packet_ends_the_connection_with_its_reason),
        TEST(test_publishes_are_written_together_at_the_flush),
        TEST(test_a_publish_carries_all_that_the_message_has),
        TEST(test_a_publish_that_nobody_answers_has_no_identifier_and_fills_no_window),
        TEST(test_pubacks_count_for_their_publish_in_any_order),
        TEST(test_a_puback_of_no_publish_in_flight_is_ignored_and_logged_once),
        TEST(test_a_packet_id_comes_back_late),
        TEST(test_no_more_is_in_flight_than_window_and_receive_maximum_allow),
        TEST(test_what_can_never_go_out_is_too_large),
        TEST(test_a_full_buffer_is_written_out_and_a_stuck_stream_says_again),
        TEST(test_a_stream_may_take_one_byte_at_a_time),
        TEST(test_publish_needs_an_open_connection),
        TEST(test_a_quiet_connection_is_pinged),
        TEST(test_the_server_may_ask_for_a_shorter_keep_alive_only),
        TEST(test_a_server_that_takes_all_and_says_nothing_is_given_up),
        TEST(test_whatever_comes_after_a_ping_is_a_sign_of_life),
        TEST(test_a_full_buffer_has_room_for_two_pings_and_a_goodbye),
        TEST(test_a_stream_that_is_stuck_is_given_up),
        TEST(test_alive_is_the_answer_to_the_probe_and_to_no_earlier_ping),
        TEST(test_a_probe_follows_the_publishes_before_it),
        TEST(test_who_ended_the_connection_is_told),
        TEST(test_what_came_before_the_end_counts),
        TEST(test_a_stream_that_takes_nothing_any_more_ends_the_connection),
        TEST(test_a_stream_that_fails_at_a_write_ends_the_connection),
        TEST(test_a_stream_without_words_and_a_port_without_a_log_will_do),
        TEST(test_close_says_nothing_to_who_listens_no_more),
        TEST(test_close_says_goodbye_and_voids_what_was_in_flight),
        TEST(test_close_is_allowed_in_every_state),
        TEST(test_a_flood_does_not_hold_poll),
        TEST(test_a_configuration_out_of_range_is_refused_with_a_sentence),
        TEST(test_init_refuses_what_is_missing_or_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
