/* SPDX-License-Identifier: MIT
 *
 * test_json_read.c - json_read.h: the members of an object, and what a JSON string says. What a
 * value is test_json.c says.
 */
#include "json_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* How many members there are, -1: it is broken. Reads a copy that ends where its bytes end, so that
 * a sanitizer sees any read behind. */
static int count_members(const char *bytes, size_t len)
{
    struct ob_json_object object;
    inbox_text name, value;
    int count = 0;
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    ob_json_open(&object, copy, len);
    while (ob_json_next(&object, &name, &value)) {
        assert_int_equal(name.bytes[0], '"');
        count++;
    }
    free(copy);
    return object.is_broken ? -1 : count;
}

/* ---- Members --------------------------------------------------------------------------------- */

static void test_each_member_is_given_as_it_stands_without_the_space_around_it(void **state)
{
    static const char text[] = " { \"a\" :\t1.50 , \"b\\\"}\":{\"c\":[1,\"]\"]}\r\n}\n";
    struct ob_json_object object;
    inbox_text name, value;
    (void)state;
    ob_json_open(&object, text, sizeof text - 1);
    assert_true(ob_json_next(&object, &name, &value));
    assert_memory_equal(name.bytes, "\"a\"", name.len);
    assert_int_equal(value.len, 4);
    assert_memory_equal(value.bytes, "1.50", 4);
    assert_true(ob_json_next(&object, &name, &value));
    assert_memory_equal(name.bytes, "\"b\\\"}\"", name.len);
    assert_int_equal(value.len, 13);
    assert_memory_equal(value.bytes, "{\"c\":[1,\"]\"]}", 13);
    assert_false(ob_json_next(&object, &name, &value));
    assert_false(object.is_broken);
}

static void test_what_is_no_object_is_broken(void **state)
{
    static const char *const bad[] = {"",         " ",         "1",          "[]",
                                      "{",        "{\"a",      "{\"a\\",     "{\"a\"",
                                      "{\"a\"}",  "{\"a\",1}", "{\"a\":",    "{\"a\":}",
                                      "{1:2}",    "{[]:2}",    "{\"a\":1]}", "{\"a\":1}}",
                                      "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
                                      "{]:1}",    "{\"a\":1}x"};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (count_members(bad[i], strlen(bad[i])) >= 0)
            fail_msg("read: %s", bad[i]);
    assert_int_equal(count_members("{ }", 3), 0);
    assert_int_equal(count_members("{\"a\":1,\"a\":2}", 13), 2);
}

static void test_a_nul_is_no_space(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{"\0{}", 3},        {"{\0}", 3},          {"{}\0", 3},       {"{\"a\":1\0}", 8},
               {"{\"a\"\0:1}", 8}, {"{\"a\":\0001}", 8}, {"{\"a\0\":1}", 8}};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(count_members(bad[i].bytes, bad[i].len), -1);
}

/* ---- Strings --------------------------------------------------------------------------------- */

/* What the string says, in a buffer of its own length; NULL: it is none. */
static const char *unescaped(const char *json)
{
    static char said[64];
    inbox_text value = {json, strlen(json)}, text;
    char *room = malloc(value.len), *end = room;
    assert_non_null(room);
    bool is_string = ob_json_string(&value, &end, &text);
    if (is_string) {
        assert_true(end <= room + value.len && text.len < sizeof said);
        memcpy(said, text.bytes, text.len);
        said[text.len] = '\0';
    }
    free(room);
    return is_string ? said : NULL;
}

static void test_a_string_says_its_characters_in_utf_8(void **state)
{
    static const char *const cases[][2] = {
        {"\"\"", ""},
        {"\"a\"", "a"},
        {"\"\\b\\f\\n\\r\\t\\\"\\\\\\/\"", "\b\f\n\r\t\"\\/"},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\uDE00x\"", "\xf0\x9f\x98\x80x"},
        {"\"\\ud7ff\\ue000\\uffff\"", "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *said = unescaped(cases[i][0]);
        assert_non_null(said);
        assert_string_equal(said, cases[i][1]);
    }
}

static void test_half_a_surrogate_pair_says_nothing(void **state)
{
    static const char *const bad[] = {
        "\"\\ud800\"",        "\"\\ud800abcdef\"",  "\"\\udc00\"",
        "\"\\ud800\\nabcd\"", "\"\\ud800\\ud800\"", "\"\\udfff\\ud800\"",
        "\"\\udbff\\uffff\"", "\"\\ud800\\u0041\"", "\"a\\ud800\\ue000b\""};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (unescaped(bad[i]))
            fail_msg("read: %s", bad[i]);
}

static void test_what_is_no_string_says_nothing(void **state)
{
    static const char *const bad[] = {"1", "12", "null", "{}", "[\"a\"]"};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_null(unescaped(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_member_is_given_as_it_stands_without_the_space_around_it),
        cmocka_unit_test(test_what_is_no_object_is_broken),
        cmocka_unit_test(test_a_nul_is_no_space),
        cmocka_unit_test(test_a_string_says_its_characters_in_utf_8),
        cmocka_unit_test(test_half_a_surrogate_pair_says_nothing),
        cmocka_unit_test(test_what_is_no_string_says_nothing),
    };
    return cmocka_run_group_tests_name("json_read", tests, NULL, NULL);
}
