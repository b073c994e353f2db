/* SPDX-License-Identifier: MIT
 *
 * test_mqtt_encode.c - packets of a publisher: their bytes, and that their size is exact.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mqtt_encode.h"

#include <stdlib.h>
#include <string.h>

/* In memory of just the size that was announced, so that AddressSanitizer sees a byte too many. */
static uint8_t *encode(const outbox_message *message, int version, int qos, size_t *size)
{
    *size = ob_mqtt_publish_size(message, version, qos);
    assert_true(*size > 0);
    uint8_t *packet = malloc(*size);
    assert_non_null(packet);
    memset(packet, 0xee, *size);
    ob_mqtt_publish(packet, message, version, qos, 0x1234);
    return packet;
}

static void encodes_to(const outbox_message *message, int version, int qos, const char *expected,
                       size_t expected_size)
{
    size_t size;
    uint8_t *packet = encode(message, version, qos, &size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(packet, expected, size);
    free(packet);
}
#define ENCODES_TO(message, version, qos, literal)                                                 \
    encodes_to(message, version, qos, "" literal, sizeof(literal) - 1)

static void test_a_publish_has_an_id_at_qos_1_and_properties_on_mqtt_5(void **state)
{
    static const outbox_property property = {"k", "v"};
    const outbox_message message = {.topic = "t",
                                    .payload = "p",
                                    .payload_len = 1,
                                    .properties = &property,
                                    .property_count = 1};
    (void)state;
    ENCODES_TO(&message, 5, 1, "\x32\x0e\x00\x01t\x12\x34\x07\x26\x00\x01k\x00\x01vp");
    ENCODES_TO(&message, 5, 0, "\x30\x0c\x00\x01t\x07\x26\x00\x01k\x00\x01vp");
    ENCODES_TO(&message, 4, 1, "\x32\x06\x00\x01t\x12\x34p");
    ENCODES_TO(&message, 4, 0, "\x30\x04\x00\x01tp");
}

static void test_an_empty_payload_needs_no_memory(void **state)
{
    const outbox_message message = {.topic = "t", .retain = 1};
    (void)state;
    ENCODES_TO(&message, 5, 1, "\x33\x06\x00\x01t\x12\x34\x00");
}

/* Bytes of the remaining length, and the value that they say. */
static size_t read_length(const uint8_t *at, size_t *value)
{
    size_t bytes = 0;
    *value = 0;
    do
        *value |= (size_t)(at[bytes] & 0x7f) << (7 * bytes);
    while (at[bytes++] & 0x80);
    return bytes;
}

/* At the borders where a length takes a byte more, of the packet and of its properties. */
static void test_the_size_is_exact_at_every_border(void **state)
{
    static const size_t borders[] = {127, 128, 16383, 16384, 2097151, 2097152};
    static char payload[2097152], value[40000];
    const outbox_property property = {"k", value};
    (void)state;
    for (size_t i = 0; i < sizeof borders / sizeof borders[0]; i++)
        for (size_t less = 0; less < 16; less++) {
            outbox_message message = {
                .topic = "t", .payload = payload, .payload_len = borders[i] - less};
            size_t size, said;
            uint8_t *packet = encode(&message, less % 2 ? 4 : 5, 1, &size);
            size_t bytes = read_length(packet + 1, &said);
            assert_int_equal(1 + bytes + said, size);
            free(packet);
        }
    for (size_t length = 100; length < 40000;
         length += length < 140 || length > 16300 ? 1 : 16100) {
        if (length > 16400)
            break;
        outbox_message message = {.topic = "t", .properties = &property, .property_count = 1};
        memset(value, 'v', length);
        value[length] = '\0';
        size_t size, said, properties;
        uint8_t *packet = encode(&message, 5, 1, &size);
        size_t at = 1 + read_length(packet + 1, &said);
        assert_int_equal(at + said, size);
        at += 2 + 1 + 2;
        at += read_length(packet + at, &properties);
        assert_int_equal(at + properties, size);
        free(packet);
    }
}

static void test_what_mqtt_cannot_encode_has_no_size(void **state)
{
    static char text[65537];
    const outbox_property long_value = {"k", text}, long_name = {text, "v"};
    outbox_message message = {.topic = text};
    outbox_stream_link_config config = {.client_id = text};
    (void)state;
    memset(text, 'a', sizeof text - 1);
    assert_int_equal(ob_mqtt_publish_size(&message, 4, 1), 0);
    assert_int_equal(ob_mqtt_connect_size(&config, 5), 0);
    message = (outbox_message){.topic = "t", .content_type = text};
    assert_int_equal(ob_mqtt_publish_size(&message, 5, 1), 0);
    assert_true(ob_mqtt_publish_size(&message, 4, 1) > 0);
    message = (outbox_message){.topic = "t", .properties = &long_value, .property_count = 1};
    assert_int_equal(ob_mqtt_publish_size(&message, 5, 1), 0);
    message.properties = &long_name;
    assert_int_equal(ob_mqtt_publish_size(&message, 5, 1), 0);
    message = (outbox_message){.topic = "t", .payload_len = 268435455 - 5};
    assert_int_equal(ob_mqtt_publish_size(&message, 4, 1), 268435455 + 5);
    message.payload_len++;
    assert_int_equal(ob_mqtt_publish_size(&message, 4, 1), 0);
    message.payload_len = SIZE_MAX;
    assert_int_equal(ob_mqtt_publish_size(&message, 4, 1), 0);
}

/* A value that repeats too often to fit into what four bytes can say. */
static void test_too_many_properties_have_no_size(void **state)
{
    enum { COUNT = 4100 };
    static outbox_property properties[COUNT];
    static char text[65536];
    (void)state;
    memset(text, 'a', sizeof text - 1);
    for (int i = 0; i < COUNT; i++)
        properties[i] = (outbox_property){"k", text};
    const outbox_message message = {
        .topic = "t", .properties = properties, .property_count = COUNT};
    assert_int_equal(ob_mqtt_publish_size(&message, 5, 1), 0);
}

static void test_a_disconnect_has_a_reason_on_mqtt_5_only(void **state)
{
    uint8_t packet[OB_MQTT_DISCONNECT_SIZE];
    (void)state;
    assert_int_equal(ob_mqtt_disconnect(packet, 5, 0x81), 3);
    assert_memory_equal(packet, "\xe0\x01\x81", 3);
    assert_int_equal(ob_mqtt_disconnect(packet, 5, 0), 2);
    assert_memory_equal(packet, "\xe0\x00", 2);
    assert_int_equal(ob_mqtt_disconnect(packet, 4, 0x81), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_publish_has_an_id_at_qos_1_and_properties_on_mqtt_5),
        cmocka_unit_test(test_an_empty_payload_needs_no_memory),
        cmocka_unit_test(test_the_size_is_exact_at_every_border),
        cmocka_unit_test(test_what_mqtt_cannot_encode_has_no_size),
        cmocka_unit_test(test_too_many_properties_have_no_size),
        cmocka_unit_test(test_a_disconnect_has_a_reason_on_mqtt_5_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
