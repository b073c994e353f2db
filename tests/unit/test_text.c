/* SPDX-License-Identifier: MIT
 *
 * test_text.c - what text.c takes for UTF-8, a topic, an attribute, a device name, a media type.
 *
 * The checks stand between other writers' rows and the link, before and after a crash alike. Each
 * is asked about a copy that ends where its bytes end, so that a sanitizer sees any read behind.
 */
#include "text.h"

#include <outbox/outbox.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES(literal) (literal), sizeof(literal) - 1

typedef bool (*text_check)(const char *bytes, size_t len);

static bool passes(text_check check, const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    bool passed = check(copy, len);
    free(copy);
    return passed;
}

/* ---- Characters ------------------------------------------------------------------------------ */

/* Writes any value of up to 21 bits in a form of 1..4 bytes, also where that is not allowed. */
static size_t encode_as(char bytes[4], uint32_t value, size_t form)
{
    static const uint32_t leads[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    for (size_t i = form; i > 1; i--) {
        bytes[i - 1] = (char)(0x80 | (value & 0x3f));
        value >>= 6;
    }
    bytes[0] = (char)(leads[form] | value);
    return form;
}

static size_t encode(char bytes[4], uint32_t character)
{
    size_t form = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    return encode_as(bytes, character, form);
}

static bool is_surrogate(uint32_t character)
{
    return character >= 0xd800 && character <= 0xdfff;
}

/* Whether the check passes a text of 'a', the character, 'z'. */
static bool passes_with(text_check check, uint32_t character)
{
    char bytes[6] = "a";
    size_t len = 1 + encode(bytes + 1, character);
    bytes[len++] = 'z';
    return passes(check, bytes, len);
}

/* Table 3-7 of the Unicode Standard: the ranges of well-formed byte sequences, row by row. */
static bool is_in_table_of_unicode(const unsigned char *bytes, size_t len)
{
    static const struct {
        unsigned char first_from, first_to, second_from, second_to;
        size_t len;
    } rows[] = {
        {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    while (len > 0) {
        size_t step = 0;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            if (bytes[0] >= rows[i].first_from && bytes[0] <= rows[i].first_to &&
                rows[i].len <= len &&
                (rows[i].len == 1 ||
                 (bytes[1] >= rows[i].second_from && bytes[1] <= rows[i].second_to)))
                step = rows[i].len;
        for (size_t i = 2; i < step; i++)
            if ((bytes[i] & 0xc0) != 0x80)
                return false;
        if (step == 0)
            return false;
        bytes += step;
        len -= step;
    }
    return true;
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static void test_no_bytes_at_all_are_utf8(void **state)
{
    (void)state;
    assert_true(ob_text_is_utf8("", 0));
    assert_true(ob_text_is_utf8(NULL, 0));
}

static void test_every_character_but_the_surrogates_is_utf8(void **state)
{
    (void)state;
    char bytes[4];
    for (uint32_t character = 0; character <= 0x10ffff; character++) {
        size_t len = encode(bytes, character);
        if (ob_text_is_utf8(bytes, len) == is_surrogate(character))
            fail_msg("U+%04X is misjudged", character);
    }
}

static void test_an_overlong_form_is_not_utf8(void **state)
{
    (void)state;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    char bytes[4];
    for (size_t form = 2; form <= 4; form++)
        for (uint32_t character = 0; character < least[form]; character++)
            if (ob_text_is_utf8(bytes, encode_as(bytes, character, form)))
                fail_msg("U+%04X in %d bytes passed", character, (int)form);
}

static void test_a_value_over_10ffff_is_not_utf8(void **state)
{
    (void)state;
    char bytes[4];
    for (uint32_t value = 0x110000; value <= 0x1fffff; value++)
        if (ob_text_is_utf8(bytes, encode_as(bytes, value, 4)))
            fail_msg("the value %X passed", value);
}

static void test_forms_of_five_and_six_bytes_are_not_utf8(void **state)
{
    (void)state;
    assert_false(passes(ob_text_is_utf8, BYTES("\xf8\x88\x80\x80\x80")));
    assert_false(passes(ob_text_is_utf8, BYTES("\xfc\x84\x80\x80\x80\x80")));
    assert_false(passes(ob_text_is_utf8, BYTES("\xfe\x80\x80\x80\x80\x80\x80")));
    assert_false(passes(ob_text_is_utf8, BYTES("\xff")));
}

static void test_a_continuation_byte_alone_is_not_utf8(void **state)
{
    (void)state;
    for (int byte = 0x80; byte <= 0xbf; byte++) {
        const char bytes[] = {'a', (char)byte};
        assert_false(passes(ob_text_is_utf8, bytes, 2));
        assert_false(passes(ob_text_is_utf8, bytes + 1, 1));
    }
}

static void test_a_character_that_is_cut_short_is_not_utf8(void **state)
{
    (void)state;
    static const uint32_t characters[] = {0x80,   0x7ff,   0x800,    0xd7ff,
                                          0xffff, 0x10000, 0x10fffe, 0x10ffff};
    for (size_t i = 0; i < sizeof characters / sizeof characters[0]; i++) {
        char bytes[6] = "a";
        size_t len = 1 + encode(bytes + 1, characters[i]);
        assert_true(passes(ob_text_is_utf8, bytes, len));
        for (size_t cut = 2; cut < len; cut++) {
            assert_false(passes(ob_text_is_utf8, bytes, cut));
            bytes[cut] = 'z'; /* the next character begins too early */
            assert_false(passes(ob_text_is_utf8, bytes, cut + 1));
            encode(bytes + 1, characters[i]);
        }
    }
}

static void test_nul_counts_as_a_character_of_utf8(void **state)
{
    (void)state;
    assert_true(passes(ob_text_is_utf8, BYTES("a\0b")));
    assert_false(passes(ob_text_is_utf8, BYTES("a\0\xff")));
}

static void test_any_two_bytes_are_judged_as_by_the_table_of_unicode(void **state)
{
    (void)state;
    for (unsigned pair = 0; pair <= 0xffff; pair++) {
        const unsigned char bytes[] = {(unsigned char)(pair >> 8), (unsigned char)pair};
        if (ob_text_is_utf8((const char *)bytes, 2) != is_in_table_of_unicode(bytes, 2))
            fail_msg("%02x %02x is misjudged", bytes[0], bytes[1]);
    }
}

static void test_any_two_bytes_before_two_at_a_limit_are_judged_as_by_that_table(void **state)
{
    (void)state;
    static const unsigned char limits[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    for (unsigned pair = 0; pair <= 0xffff; pair++)
        for (unsigned tail = 0; tail < sizeof limits * sizeof limits; tail++) {
            const unsigned char bytes[] = {(unsigned char)(pair >> 8), (unsigned char)pair,
                                           limits[tail / sizeof limits],
                                           limits[tail % sizeof limits]};
            if (ob_text_is_utf8((const char *)bytes, 4) != is_in_table_of_unicode(bytes, 4))
                fail_msg("%02x %02x %02x %02x is misjudged", bytes[0], bytes[1], bytes[2],
                         bytes[3]);
        }
}

/* ---- Topics: [put-7] at its root ------------------------------------------------------------- */

static void test_a_topic_has_1_to_1024_bytes(void **state)
{
    (void)state;
    char topic[OUTBOX_TOPIC_MAX + 1];
    memset(topic, 't', sizeof topic);
    assert_false(passes(ob_text_is_topic, topic, 0));
    assert_true(passes(ob_text_is_topic, topic, 1));
    assert_true(passes(ob_text_is_topic, topic, 1024));
    assert_false(passes(ob_text_is_topic, topic, 1025));
}

static void test_the_length_of_a_topic_counts_bytes_and_not_characters(void **state)
{
    (void)state;
    char topic[OUTBOX_TOPIC_MAX + 1];
    memset(topic, 't', sizeof topic);
    memcpy(topic + 1022, "\xc3\xa4", 2);
    assert_true(passes(ob_text_is_topic, topic, 1024));
    memcpy(topic + 1022, "t\xc3\xa4", 3);
    assert_false(passes(ob_text_is_topic, topic, 1024)); /* cuts the character */
    assert_false(passes(ob_text_is_topic, topic, 1025));
}

static void test_a_topic_with_a_wildcard_anywhere_is_refused(void **state)
{
    (void)state;
    static const char *const topics[] = {"+",   "#",    "a/+/b", "a/#",  "+/a",
                                         "#/a", "a+/b", "a#b",   "a/b+", "a/b#"};
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
        assert_false(passes(ob_text_is_topic, topics[i], strlen(topics[i])));
}

static void test_a_topic_may_hold_slashes_blanks_a_dollar_and_any_script(void **state)
{
    (void)state;
    static const char *const topics[] = {
        "/",
        "//",
        "plant/7/temp",
        " a b ",
        "$site/a",
        "a\"b\\c",
        "\xc3\xa4/\xe6\xb8\xa9\xe5\xba\xa6/\xf0\x9f\x98\x80",
        "\xef\xbb\xbf", /* U+FEFF is a character like any here (MQTT 5, 1.5.4) */
    };
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
        assert_true(passes(ob_text_is_topic, topics[i], strlen(topics[i])));
}

static void test_a_topic_with_a_nul_inside_is_refused(void **state)
{
    (void)state;
    assert_false(passes(ob_text_is_topic, BYTES("a\0b")));
    assert_false(passes(ob_text_is_topic, BYTES("a\0")));
    assert_false(passes(ob_text_is_topic, BYTES("\0")));
}

static void test_a_topic_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    assert_false(passes(ob_text_is_topic, BYTES("plant/\xe4/temp")));
    assert_false(passes(ob_text_is_topic, BYTES("plant/\xed\xa0\x80")));
    assert_false(passes(ob_text_is_topic, BYTES("plant/\xc0\xaf")));
    assert_false(passes(ob_text_is_topic, BYTES("plant/\xf0\x9f\x98")));
}

/* ---- What topics and attributes have in common ----------------------------------------------- */

static bool is_control(uint32_t c)
{
    return c <= 0x1f || (c >= 0x7f && c <= 0x9f);
}

static void test_a_control_character_is_refused_in_topics_and_attributes(void **state)
{
    (void)state;
    for (uint32_t character = 0; character <= 0xff; character++) {
        bool wildcard = character == '+' || character == '#';
        assert_int_equal(passes_with(ob_text_is_topic, character),
                         !is_control(character) && !wildcard);
        assert_int_equal(passes_with(ob_text_is_attribute, character), !is_control(character));
    }
}

static void test_a_noncharacter_is_refused_in_topics_and_attributes(void **state)
{
    (void)state;
    int noncharacters = 0;
    for (uint32_t character = 0xa0; character <= 0x10ffff; character++) {
        if (is_surrogate(character))
            continue;
        char bytes[4];
        size_t len = encode(bytes, character);
        bool expected = (character & 0xffff) < 0xfffe && (character < 0xfdd0 || character > 0xfdef);
        noncharacters += !expected;
        if (ob_text_is_topic(bytes, len) != expected ||
            ob_text_is_attribute(bytes, len) != expected)
            fail_msg("U+%04X is misjudged", character);
    }
    assert_int_equal(noncharacters, 66); /* as the Unicode Standard counts them, chapter 23.7 */
}

/* ---- Attributes ------------------------------------------------------------------------------ */

static void test_an_attribute_has_1_to_256_bytes(void **state)
{
    (void)state;
    char attribute[OUTBOX_ATTRIBUTE_MAX + 1];
    memset(attribute, 'a', sizeof attribute);
    assert_false(passes(ob_text_is_attribute, attribute, 0));
    assert_true(passes(ob_text_is_attribute, attribute, 1));
    assert_true(passes(ob_text_is_attribute, attribute, 256));
    assert_false(passes(ob_text_is_attribute, attribute, 257));
}

static void test_an_attribute_may_hold_quotes_backslashes_and_wildcards(void **state)
{
    (void)state;
    assert_true(passes(ob_text_is_attribute, BYTES("a + \"b\" # \\ c")));
    assert_true(passes(ob_text_is_attribute, BYTES("\"")));
    assert_true(passes(ob_text_is_attribute, BYTES("\xf0\x9f\x98\x80")));
}

static void test_an_attribute_that_is_not_utf8_or_holds_a_nul_is_refused(void **state)
{
    (void)state;
    assert_false(passes(ob_text_is_attribute, BYTES("com.example\xff")));
    assert_false(passes(ob_text_is_attribute, BYTES("com.example\xc3")));
    assert_false(passes(ob_text_is_attribute, BYTES("com\0example")));
}

/* ---- Device names: [attach-5], [attach-6] at their root -------------------------------------- */

static void test_a_device_name_has_1_to_256_bytes(void **state)
{
    (void)state;
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    memset(device, 'd', sizeof device);
    assert_false(passes(ob_text_is_device, device, 0));
    assert_true(passes(ob_text_is_device, device, 1));
    assert_true(passes(ob_text_is_device, device, 256));
    assert_false(passes(ob_text_is_device, device, 257));
}

static void test_a_device_name_takes_the_unreserved_characters_of_uris_alone(void **state)
{
    (void)state;
    static const char unreserved[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (int byte = 0; byte <= 0xff; byte++) {
        const char device[] = {'d', (char)byte, '7'};
        bool expected = memchr(unreserved, byte, sizeof unreserved - 1) != NULL;
        assert_int_equal(passes(ob_text_is_device, device, sizeof device), expected);
        assert_int_equal(passes(ob_text_is_device, device + 1, 1), expected);
    }
}

/* ---- Media types: [put-6] at its root -------------------------------------------------------- */

static enum ob_media media_of(const char *content_type)
{
    size_t len = strlen(content_type);
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, content_type, len);
    enum ob_media media = ob_text_media(copy, len);
    free(copy);
    return media;
}

static void assert_media(enum ob_media expected, const char *const *types, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (media_of(types[i]) != expected)
            fail_msg("\"%s\" is misjudged as %d", types[i], (int)media_of(types[i]));
}

static void test_a_subtype_of_json_and_the_suffix_json_are_json(void **state)
{
    (void)state;
    static const char *const types[] = {"application/json", "application/geo+json",
                                        "application/vnd.example.v1+json", "text/json",
                                        "application/senml+json"};
    assert_media(OB_MEDIA_JSON, types, sizeof types / sizeof types[0]);
}

static void test_the_case_of_a_media_type_does_not_matter(void **state)
{
    (void)state;
    static const char *const json[] = {"APPLICATION/JSON", "Application/Json",
                                       "application/geo+JSON"};
    static const char *const text[] = {"TEXT/PLAIN", "Text/Plain"};
    assert_media(OB_MEDIA_JSON, json, sizeof json / sizeof json[0]);
    assert_media(OB_MEDIA_TEXT, text, sizeof text / sizeof text[0]);
}

static void test_the_parameters_of_a_media_type_do_not_matter(void **state)
{
    (void)state;
    static const char *const json[] = {"application/json; charset=utf-8",
                                       "application/json;charset=utf-8",
                                       "application/json ;charset=utf-8",
                                       "application/json;",
                                       "application/json ",
                                       "application/geo+json; x=\"a;b\"",
                                       "application/json; a=text/plain"};
    static const char *const text[] = {"text/plain; charset=utf-8", "text/plain;x=a/json",
                                       "text/html; a=b+json"};
    static const char *const other[] = {"image/png; x=application/json", "image/png;a=b+json",
                                        "a/b; c=text/plain"};
    assert_media(OB_MEDIA_JSON, json, sizeof json / sizeof json[0]);
    assert_media(OB_MEDIA_TEXT, text, sizeof text / sizeof text[0]);
    assert_media(OB_MEDIA_OTHER, other, sizeof other / sizeof other[0]);
}

static void test_a_type_of_text_other_than_json_is_text(void **state)
{
    (void)state;
    static const char *const types[] = {"text/plain", "text/csv", "text/x", "text/json-seq"};
    assert_media(OB_MEDIA_TEXT, types, sizeof types / sizeof types[0]);
}

static void test_all_other_media_types_are_bytes(void **state)
{
    (void)state;
    static const char *const types[] = {"",
                                        "j",
                                        "json",
                                        ";",
                                        " ",
                                        "text",
                                        "text/",
                                        "text/;a=b",
                                        "texts/x",
                                        "application/octet-stream",
                                        "+jso",
                                        "a/bjson",
                                        "a/json5",
                                        "a/b+jsonx",
                                        "application/json-seq",
                                        "context/plain",
                                        "image/svg+xml"};
    assert_media(OB_MEDIA_OTHER, types, sizeof types / sizeof types[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_bytes_at_all_are_utf8),
        cmocka_unit_test(test_every_character_but_the_surrogates_is_utf8),
        cmocka_unit_test(test_an_overlong_form_is_not_utf8),
        cmocka_unit_test(test_a_value_over_10ffff_is_not_utf8),
        cmocka_unit_test(test_forms_of_five_and_six_bytes_are_not_utf8),
        cmocka_unit_test(test_a_continuation_byte_alone_is_not_utf8),
        cmocka_unit_test(test_a_character_that_is_cut_short_is_not_utf8),
        cmocka_unit_test(test_nul_counts_as_a_character_of_utf8),
        cmocka_unit_test(test_any_two_bytes_are_judged_as_by_the_table_of_unicode),
        cmocka_unit_test(test_any_two_bytes_before_two_at_a_limit_are_judged_as_by_that_table),
        cmocka_unit_test(test_a_topic_has_1_to_1024_bytes),
        cmocka_unit_test(test_the_length_of_a_topic_counts_bytes_and_not_characters),
        cmocka_unit_test(test_a_topic_with_a_wildcard_anywhere_is_refused),
        cmocka_unit_test(test_a_topic_may_hold_slashes_blanks_a_dollar_and_any_script),
        cmocka_unit_test(test_a_topic_with_a_nul_inside_is_refused),
        cmocka_unit_test(test_a_topic_that_is_not_utf8_is_refused),
        cmocka_unit_test(test_a_control_character_is_refused_in_topics_and_attributes),
        cmocka_unit_test(test_a_noncharacter_is_refused_in_topics_and_attributes),
        cmocka_unit_test(test_an_attribute_has_1_to_256_bytes),
        cmocka_unit_test(test_an_attribute_may_hold_quotes_backslashes_and_wildcards),
        cmocka_unit_test(test_an_attribute_that_is_not_utf8_or_holds_a_nul_is_refused),
        cmocka_unit_test(test_a_device_name_has_1_to_256_bytes),
        cmocka_unit_test(test_a_device_name_takes_the_unreserved_characters_of_uris_alone),
        cmocka_unit_test(test_a_subtype_of_json_and_the_suffix_json_are_json),
        cmocka_unit_test(test_the_case_of_a_media_type_does_not_matter),
        cmocka_unit_test(test_the_parameters_of_a_media_type_do_not_matter),
        cmocka_unit_test(test_a_type_of_text_other_than_json_is_text),
        cmocka_unit_test(test_all_other_media_types_are_bytes),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
