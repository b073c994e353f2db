/* SPDX-License-Identifier: MIT
 *
 * test_mqtt_decode.c - packets of a server, in every way that they can be cut into pieces, and all
 * that is no packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mqtt_decode.h"

#include <string.h>

struct bytes {
    const char *at;
    size_t size;
};
#define BYTES(literal)                                                                             \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static struct ob_mqtt_decoder decoder;

/* Gives all bytes of one packet, the last of which must complete it. */
static void decode_in_pieces(int version, struct bytes packet, size_t first, size_t second)
{
    const uint8_t *at = (const uint8_t *)packet.at;
    const size_t cuts[4] = {0, first, second, packet.size};
    ob_mqtt_decoder_start(&decoder, version);
    for (int i = 0; i < 3; i++) {
        size_t size = cuts[i + 1] - cuts[i], taken = 99;
        enum ob_mqtt_verdict verdict = ob_mqtt_decode(&decoder, at + cuts[i], size, &taken);
        if (verdict == OB_MQTT_BROKEN)
            fail_msg("%s", decoder.why);
        assert_int_equal(taken, size);
        assert_int_equal(verdict,
                         cuts[i + 1] == packet.size && size > 0 ? OB_MQTT_PACKET : OB_MQTT_MORE);
    }
}

static void decode_whole(int version, struct bytes packet)
{
    size_t taken;
    ob_mqtt_decoder_start(&decoder, version);
    enum ob_mqtt_verdict verdict =
        ob_mqtt_decode(&decoder, (const uint8_t *)packet.at, packet.size, &taken);
    if (verdict == OB_MQTT_BROKEN)
        fail_msg("%s", decoder.why);
    assert_int_equal(verdict, OB_MQTT_PACKET);
    assert_int_equal(taken, packet.size);
}

/* All that a CONNACK of MQTT 5 may hold. */
static const struct bytes full_connack = BYTES("\x20\x56\x00\x00\x53"
                                               "\x11\x00\x00\x00\x3c"
                                               "\x12\x00\x03"
                                               "abc"
                                               "\x13\x00\x09"
                                               "\x15\x00\x01"
                                               "m"
                                               "\x16\x00\x02\x00\xff"
                                               "\x1a\x00\x01"
                                               "r"
                                               "\x1c\x00\x04"
                                               "else"
                                               "\x1f\x00\x0b"
                                               "hello\x1b[31m\x7f"
                                               "\x21\x00\x07"
                                               "\x22\x00\x0a"
                                               "\x24\x01"
                                               "\x25\x00"
                                               "\x26\x00\x01k\x00\x03val"
                                               "\x26\x00\x00\x00\x00"
                                               "\x27\x00\x01\x00\x02"
                                               "\x28\x01\x29\x00\x2a\x01");

static const struct {
    int version;
    struct bytes packet;
} good[] = {
    {5, BYTES("\x20\x03\x00\x00\x00")},
    {5, BYTES("\x20\x03\x00\x86\x00")},
    {5, BYTES("\x20\x02\x00\x01")},
    {5, BYTES("\x20\x02\x00\x84")},
    {4, BYTES("\x20\x02\x00\x00")},
    {4, BYTES("\x20\x02\x00\x05")},
    {5, BYTES("\x40\x02\x12\x34")},
    {5, BYTES("\x40\x03\x12\x34\x10")},
    {5, BYTES("\x40\x04\x12\x34\x87\x00")},
    {5, BYTES("\x40\x0a\x12\x34\x99\x06\x1f\x00\x03"
              "bad")},
    {5, BYTES("\x40\x09\x12\x34\x00\x05\x26\x00\x00\x00\x00")},
    {4, BYTES("\x40\x02\xff\xff")},
    {5, BYTES("\xd0\x00")},
    {4, BYTES("\xd0\x00")},
    {5, BYTES("\xe0\x00")},
    {5, BYTES("\xe0\x01\x8b")},
    {5, BYTES("\xe0\x02\x8b\x00")},
    {5, BYTES("\xe0\x0b\x9d\x09\x1c\x00\x01h\x1f\x00\x02no")},
    {5, BYTES("\x30\x06\x00\x01t\x00hi")},
    {4, BYTES("\x3d\x07\x00\x01t\x00\x01hi")},
    /* lengths that are longer than they need to be */
    {5, BYTES("\x40\x82\x80\x00\x12\x34")},
};

/* [stream-1] */
static void test_a_packet_may_come_in_any_three_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        for (size_t first = 0; first <= good[i].packet.size; first++)
            for (size_t second = first; second <= good[i].packet.size; second++)
                decode_in_pieces(good[i].version, good[i].packet, first, second);
    for (size_t first = 0; first <= full_connack.size; first++)
        for (size_t second = first; second <= full_connack.size; second++)
            decode_in_pieces(5, full_connack, first, second);
}

/* [stream-1] */
static void test_packets_may_come_byte_by_byte_and_many_at_once(void **state)
{
    uint8_t stream[1024];
    size_t size = 0, packets = 0, count = 0;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (good[i].version == 5) {
            memcpy(stream + size, good[i].packet.at, good[i].packet.size);
            size += good[i].packet.size;
            packets++;
        }
    ob_mqtt_decoder_start(&decoder, 5);
    for (size_t i = 0; i < size; i++) {
        size_t taken;
        enum ob_mqtt_verdict verdict = ob_mqtt_decode(&decoder, stream + i, 1, &taken);
        assert_int_not_equal(verdict, OB_MQTT_BROKEN);
        count += verdict == OB_MQTT_PACKET;
    }
    assert_int_equal(count, packets);
    count = 0;
    for (size_t at = 0, taken; at < size; at += taken) {
        assert_int_equal(ob_mqtt_decode(&decoder, stream + at, size - at, &taken), OB_MQTT_PACKET);
        count++;
    }
    assert_int_equal(count, packets);
}

static void test_a_connack_gives_the_limits_of_the_server(void **state)
{
    const struct ob_mqtt_packet *packet = &decoder.packet;
    (void)state;
    decode_whole(5, full_connack);
    assert_int_equal(packet->type, OB_MQTT_CONNACK);
    assert_int_equal(packet->reason, 0);
    assert_int_equal(packet->receive_maximum, 7);
    assert_int_equal(packet->server_keep_alive, 9);
    assert_int_equal(packet->maximum_packet, 65538);
    assert_int_equal(packet->maximum_qos, 1);
    assert_false(packet->retain_available);
}

static void test_a_connack_without_limits_has_those_of_the_standard(void **state)
{
    static const struct bytes five = BYTES("\x20\x03\x00\x00\x00"),
                              three = BYTES("\x20\x02\x00\x00");
    const struct ob_mqtt_packet *packet = &decoder.packet;
    (void)state;
    decode_whole(5, full_connack); /* of which nothing is left over */
    decode_whole(5, five);
    assert_int_equal(packet->receive_maximum, 65535);
    assert_int_equal(packet->server_keep_alive, 0);
    assert_int_equal(packet->maximum_packet, 0);
    assert_int_equal(packet->maximum_qos, 2);
    assert_true(packet->retain_available);
    assert_string_equal(packet->text, "");
    decode_whole(4, three);
    assert_int_equal(packet->receive_maximum, 65535);
    assert_int_equal(packet->maximum_qos, 1);
}

/* [stream-8] */
static void test_return_codes_of_3_1_1_become_reason_codes_in_both_versions(void **state)
{
    static const uint8_t reasons[6] = {0, 0x84, 0x85, 0x88, 0x86, 0x87};
    (void)state;
    for (int version = 4; version <= 5; version++)
        for (int code = version == 5; code < 6; code++) {
            const char packet[4] = {0x20, 2, 0, (char)code};
            decode_whole(version, (struct bytes){packet, 4});
            assert_int_equal(decoder.packet.reason, reasons[code]);
        }
}

static void test_a_puback_gives_its_id_and_reason(void **state)
{
    static const struct bytes shorter = BYTES("\x40\x02\x12\x34"),
                              longer = BYTES("\x40\x0a\x12\x34\x99\x06\x1f\x00\x03"
                                             "bad");
    (void)state;
    decode_whole(5, longer);
    assert_int_equal(decoder.packet.id, 0x1234);
    assert_int_equal(decoder.packet.reason, 0x99);
    assert_string_equal(decoder.packet.text, "bad");
    decode_whole(5, shorter);
    assert_int_equal(decoder.packet.reason, 0);
    assert_string_equal(decoder.packet.text, "");
}

/* A terminal or a log is not to obey the server. */
static void test_of_the_servers_words_printable_ascii_is_kept_as_far_as_it_fits(void **state)
{
    uint8_t packet[400] = {0xe0, 0x83, 0x02, 0x8b, 0x80, 0x02, 0x1f, 0x00, 0xfd};
    size_t taken;
    (void)state;
    decode_whole(5, full_connack);
    assert_string_equal(decoder.packet.text, "hello?[31m?");
    memset(packet + 9, 'x', 253);
    ob_mqtt_decoder_start(&decoder, 5);
    assert_int_equal(ob_mqtt_decode(&decoder, packet, 9 + 253, &taken), OB_MQTT_PACKET);
    assert_int_equal(strlen(decoder.packet.text), sizeof decoder.packet.text - 1);
}

static void test_a_publish_of_any_length_is_passed_over(void **state)
{
    static const uint8_t head[5] = {0x30, 0xff, 0xff, 0xff, 0x7f}; /* 268,435,455 bytes */
    static const uint8_t body[65536];
    size_t taken, left = 268435455;
    (void)state;
    ob_mqtt_decoder_start(&decoder, 5);
    assert_int_equal(ob_mqtt_decode(&decoder, head, 5, &taken), OB_MQTT_MORE);
    while (left > sizeof body) {
        assert_int_equal(ob_mqtt_decode(&decoder, body, sizeof body, &taken), OB_MQTT_MORE);
        assert_int_equal(taken, sizeof body);
        left -= taken;
    }
    assert_int_equal(ob_mqtt_decode(&decoder, body, sizeof body, &taken), OB_MQTT_PACKET);
    assert_int_equal(taken, left);
}

enum { M = OB_MQTT_MALFORMED, P = OB_MQTT_PROTOCOL_ERROR };

/* Each is broken at its last byte, and not before. */
static const struct {
    int version, reason;
    struct bytes bytes;
    const char *word; /* of the sentence */
} broken[] = {
    /* the first byte */
    {5, P, BYTES("\x00"), "no publisher"},
    {5, P, BYTES("\x10"), "no publisher"},
    {5, P, BYTES("\x50"), "no publisher"},
    {5, P, BYTES("\x90"), "no publisher"},
    {5, P, BYTES("\xb0"), "no publisher"},
    {5, P, BYTES("\xf0"), "no publisher"},
    {5, M, BYTES("H"), "flags"}, /* as in HTTP */
    {4, P, BYTES("\xe0"), "no publisher"},
    {5, M, BYTES("\x21"), "flags"},
    {5, M, BYTES("\x42"), "flags"},
    {5, M, BYTES("\xd8"), "flags"},
    {5, M, BYTES("\xe1"), "flags"},
    /* the length */
    {5, M, BYTES("\x20\x80\x80\x80\x80"), "four bytes"},
    {5, M, BYTES("\x20\x00"), "length"},
    {5, M, BYTES("\x20\x01"), "length"},
    {4, M, BYTES("\x20\x03"), "length"},
    {5, M, BYTES("\x40\x00"), "length"},
    {5, M, BYTES("\x40\x01"), "length"},
    {4, M, BYTES("\x40\x03"), "length"},
    {5, M, BYTES("\xd0\x01"), "length"},
    {4, M, BYTES("\xd0\x80\x01"), "length"},
    {5, M, BYTES("\x30\x02"), "length"},
    {4, M, BYTES("\x30\x01"), "length"},
    /* CONNACK */
    {5, M, BYTES("\x20\x03\x02"), "flags"},
    {5, P, BYTES("\x20\x03\x01"), "session"},
    {4, P, BYTES("\x20\x02\x01"), "session"},
    {4, M, BYTES("\x20\x02\x00\x06"), "return code"},
    {5, M, BYTES("\x20\x02\x00\x06"), "return code"},
    {4, M, BYTES("\x20\x02\x00\x84"), "return code"},
    {5, M, BYTES("\x20\x02\x00\x00"), "without properties"},
    {5, M, BYTES("\x20\x03\x00\x10"), "reason code"},
    {5, M, BYTES("\x20\x03\x00\x00\x01"), "end elsewhere"},
    {5, M, BYTES("\x20\x04\x00\x00\x00"), "end elsewhere"},
    {5, M, BYTES("\x20\x03\x00\x00\x80"), "cut off"},
    {5, M, BYTES("\x20\x07\x00\x00\x80\x80\x80\x80"), "four bytes"},
    /* properties */
    {5, M, BYTES("\x20\x04\x00\x00\x01\x00"), "cannot have"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\x01"), "cannot have"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\x7f"), "cannot have"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\x80"), "cannot have"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\xff"), "cannot have"},
    {5, M, BYTES("\x40\x07\x00\x01\x00\x03\x21"), "cannot have"},
    {5, M, BYTES("\xe0\x07\x00\x05\x11"), "cannot have"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\x21"), "cuts off"},
    {5, M, BYTES("\x20\x07\x00\x00\x04\x27"), "cuts off"},
    {5, M, BYTES("\x20\x04\x00\x00\x01\x24"), "cuts off"},
    {5, M, BYTES("\x20\x05\x00\x00\x02\x1f"), "cuts off"},
    {5, M, BYTES("\x20\x07\x00\x00\x04\x1f\x00\x02"), "cuts off"},
    {5, M, BYTES("\x20\x07\x00\x00\x04\x1f\xff\xff"), "cuts off"},
    {5, M, BYTES("\x20\x08\x00\x00\x05\x26\x00\x01k"), "cuts off"},
    {5, M, BYTES("\x20\x06\x00\x00\x03\x26\x00\x00"), "cuts off"},
    {5, P, BYTES("\x20\x07\x00\x00\x04\x24\x01\x24"), "twice"},
    {5, P, BYTES("\x20\x09\x00\x00\x06\x1f\x00\x00\x1f"), "twice"},
    {5, P, BYTES("\x20\x06\x00\x00\x03\x21\x00\x00"), "CONNACK"},
    {5, P, BYTES("\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00"), "CONNACK"},
    {5, P, BYTES("\x20\x05\x00\x00\x02\x24\x02"), "CONNACK"},
    {5, P, BYTES("\x20\x05\x00\x00\x02\x25\x02"), "CONNACK"},
    {5, P, BYTES("\x20\x05\x00\x00\x02\x28\xff"), "CONNACK"},
    {5, P, BYTES("\x20\x05\x00\x00\x02\x29\x02"), "CONNACK"},
    {5, P, BYTES("\x20\x05\x00\x00\x02\x2a\x02"), "CONNACK"},
    /* PUBACK */
    {5, M, BYTES("\x40\x02\x00\x00"), "id 0"},
    {4, M, BYTES("\x40\x02\x00\x00"), "id 0"},
    {5, M, BYTES("\x40\x05\x00\x01\x00\x00"), "end elsewhere"},
};

/* [stream-7] */
static void test_what_is_no_mqtt_is_found_at_the_byte_that_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct bytes bytes = broken[i].bytes;
        ob_mqtt_decoder_start(&decoder, broken[i].version);
        for (size_t at = 0; at < bytes.size; at++) {
            size_t taken;
            enum ob_mqtt_verdict verdict =
                ob_mqtt_decode(&decoder, (const uint8_t *)bytes.at + at, 1, &taken);
            if ((verdict == OB_MQTT_BROKEN) != (at == bytes.size - 1))
                fail_msg("row %zu (%s), byte %zu: verdict %d", i, broken[i].word, at, (int)verdict);
        }
        if (strstr(decoder.why, broken[i].word) == NULL)
            fail_msg("row %zu: '%s' does not say '%s'", i, decoder.why, broken[i].word);
        assert_int_equal(decoder.reason, broken[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_packet_may_come_in_any_three_pieces),
        cmocka_unit_test(test_packets_may_come_byte_by_byte_and_many_at_once),
        cmocka_unit_test(test_a_connack_gives_the_limits_of_the_server),
        cmocka_unit_test(test_a_connack_without_limits_has_those_of_the_standard),
        cmocka_unit_test(test_return_codes_of_3_1_1_become_reason_codes_in_both_versions),
        cmocka_unit_test(test_a_puback_gives_its_id_and_reason),
        cmocka_unit_test(test_of_the_servers_words_printable_ascii_is_kept_as_far_as_it_fits),
        cmocka_unit_test(test_a_publish_of_any_length_is_passed_over),
        cmocka_unit_test(test_what_is_no_mqtt_is_found_at_the_byte_that_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
