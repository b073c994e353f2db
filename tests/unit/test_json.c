/* SPDX-License-Identifier: MIT
 *
 * test_json.c - what json.c takes for one JSON value: RFC 8259, production by production.
 *
 * What passes is put into a CloudEvents document as it is, after a crash again, so a wrong yes
 * spoils a message and a wrong no loses it to the dead letters. SQLite's own parser is the second
 * opinion.
 */
#include "text.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Asks about a copy that ends where its bytes end, so that a sanitizer sees any read behind. */
static bool is_value(const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    bool passed = ob_json_is_value(copy, len);
    free(copy);
    return passed;
}

static void assert_values(const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!is_value(texts[i], strlen(texts[i])))
            fail_msg("refused: %s", texts[i]);
}

static void assert_no_values(const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_value(texts[i], strlen(texts[i])))
            fail_msg("passed: %s", texts[i]);
}

/* ---- Section 2 and 3: values, space around them, and nothing else ---------------------------- */

static void test_the_three_words_are_values(void **state)
{
    (void)state;
    static const char *const good[] = {"true", "false", "null"};
    static const char *const bad[] = {
        "True", "NULL", "tru", "truee",     "nul",      "f",         "fals",      "nulll",
        "t",    "n",    "NaN", "undefined", "Infinity", "-Infinity", "truefalse", "true false"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

static void test_space_may_stand_around_every_token(void **state)
{
    (void)state;
    static const char *const good[] = {" 1",
                                       "1 ",
                                       "\t\r\n 1 \n\r\t",
                                       " [ ] ",
                                       "\n{\n}\n",
                                       " [ 1 , 2 ] ",
                                       "\r\n{ \"a\" : 1 , \"b\" : [ ] }\r\n"};
    assert_values(good, COUNT(good));
}

static void test_other_blanks_are_no_space(void **state)
{
    (void)state;
    static const char *const bad[] = {"\f1",
                                      "\v1",
                                      "1\f",
                                      "\xc2\xa0"
                                      "1",
                                      "[1\v,2]",
                                      "\xe2\x80\xa8"
                                      "1",
                                      "\xef\xbb\xbf"
                                      "1"}; /* a byte order mark: section 8.1 */
    assert_no_values(bad, COUNT(bad));
}

static void test_no_bytes_and_space_alone_are_no_value(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " ", "\n", " \t\r\n"};
    assert_no_values(bad, COUNT(bad));
    assert_false(ob_json_is_value(NULL, 0)); /* an event without a payload has no bytes at all */
}

static void test_bytes_behind_the_value_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"1 2", "1,",  "1,2",    "{}{}",       "[] []",
                                      "{}]", "[]}", "\"a\"b", "\"a\"\"b\"", "null,",
                                      "1\\", "{}x", "1 //",   "1 /**/"};
    assert_no_values(bad, COUNT(bad));
}

static void test_a_nul_is_refused_wherever_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{"1\0", 2},      {"\0001", 2},        {"\"a\0b\"", 5}, {"[\0]", 3},
               {"\"\\\0\"", 4}, {"\"\\u000\0\"", 8}, {"{}\0", 3},     {"1\0garbage", 9}};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(is_value(bad[i].bytes, bad[i].len));
}

/* ---- Section 4: objects ---------------------------------------------------------------------- */

static void test_objects(void **state)
{
    (void)state;
    static const char *const good[] = {"{}",
                                       "{ }",
                                       "{\"a\":1}",
                                       "{\"\":null}",
                                       "{\"a\":1,\"b\":{\"c\":[]}}",
                                       "{\"a\":1,\"a\":2}",
                                       "{\"\\u0061\\n\":\"x\"}"};
    static const char *const bad[] = {"{",
                                      "}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{,}",
                                      "{,\"a\":1}",
                                      "{a:1}",
                                      "{1:2}",
                                      "{'a':1}",
                                      "{\"a\" 1}",
                                      "{\"a\"::1}",
                                      "{\"a\":1 \"b\":2}",
                                      "{\"a\":1,,\"b\":2}",
                                      "{\"a\":1;\"b\":2}",
                                      "{\"a\":1",
                                      "{\"a\":1]",
                                      "{[]:1}",
                                      "{null:1}",
                                      "{\"a\",\"b\"}",
                                      "{:1}",
                                      "{\"a\":1:2}",
                                      "{\"a\":1}}",
                                      "{\"a",
                                      "{\"a\":",
                                      "{\"a\":1,"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

/* ---- Section 5: arrays ----------------------------------------------------------------------- */

static void test_arrays(void **state)
{
    (void)state;
    static const char *const good[] = {"[]",        "[ ]",    "[1]", "[1,\"a\",null,{},[]]",
                                       "[[[]],[]]", "[[],{}]"};
    static const char *const bad[] = {"[",         "]",     "[,]", "[1,]",  "[,1]", "[1 2]",
                                      "[1,,2]",    "[1;2]", "[1",  "[1}",   "[[]",  "[]]",
                                      "[\"a\":1]", "[1:2]", "[1,", "[\"a]", "[}",   "[{]}"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

static void test_a_member_behind_a_closed_array_still_needs_its_name(void **state)
{
    (void)state;
    static const char *const good[] = {"{\"a\":[1],\"b\":2}", "[{\"a\":1},2]",
                                       "[{\"a\":[{}]},[{\"b\":1}]]"};
    static const char *const bad[] = {"{\"a\":[1],2}", "[{\"a\":1},\"b\":2]", "{\"a\":[\"b\":1]}",
                                      "{\"a\":{},2}", "[[],\"b\":2]"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

/* ---- Section 6: numbers ---------------------------------------------------------------------- */

static void test_numbers(void **state)
{
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "1",
                                       "-1",
                                       "10",
                                       "1234567890",
                                       "0.0",
                                       "-0.01",
                                       "1.5",
                                       "1e1",
                                       "1E1",
                                       "1e+1",
                                       "1e-1",
                                       "0e0",
                                       "1.5E+10",
                                       "-0e-0",
                                       "1e999",
                                       "0.00000001",
                                       "123456789012345678901234567890.123456789012345678901234"};
    assert_values(good, COUNT(good));
}

static void test_a_number_with_a_leading_zero_or_plus_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"00",   "01",  "-00", "-01", "007", "+1", "+0",
                                      "00.5", "0x1", "0b1", "--1", "-+1", "+-1"};
    assert_no_values(bad, COUNT(bad));
}

static void test_half_a_number_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"-",     "-a",    "[-]", ".",    ".5",  "-.5",   "1.",
                                      "1.e1",  "1.5.",  "1e",  "1E",   "1e+", "1e-",   "1ee1",
                                      "1e1.5", "1e1e1", "e1",  "-e1",  "1a",  "1_000", "1,5",
                                      "0.",    "0e",    "- 1", "1 .5", "1. 5"};
    assert_no_values(bad, COUNT(bad));
}

/* ---- Section 7: strings ---------------------------------------------------------------------- */

static void test_strings(void **state)
{
    (void)state;
    static const char *const good[] = {"\"\"",
                                       "\"a\"",
                                       "\" \"",
                                       "\"'\"",
                                       "\"/\"",
                                       "\"\x7f\"",
                                       "\"\xc3\xa4\"",
                                       "\"\xf0\x9f\x98\x80\"",
                                       "\"\xe2\x80\xa8\"",
                                       "\"\xef\xbf\xbf\"",
                                       "\"[{,:]}\""};
    static const char *const bad[] = {"\"",       "\"a",    "a\"",    "'a'",
                                      "\"a\nb\"", "\"\t\"", "\"\r\"", "\"\x1f\"",
                                      "\"\x01\"", "\"\"\"", "`a`",    "a"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

static void test_every_byte_behind_a_backslash_is_judged_as_an_escape(void **state)
{
    (void)state;
    for (int byte = 0; byte <= 0xff; byte++) {
        const char text[] = {'"', '\\', (char)byte, '0', '0', '4', '1', '"'};
        bool expected = byte != 0 && strchr("\"\\/bfnrtu", byte) != NULL;
        if (byte == '"')
            expected = true;
        assert_int_equal(is_value(text, sizeof text), expected);
    }
}

static void test_an_escape_in_hex_has_exactly_four_digits(void **state)
{
    (void)state;
    static const char *const good[] = {
        "\"\\u0000\"",        "\"\\uABCD\"", "\"\\uabcd\"", "\"\\u12345\"",
        "\"\\ud83d\\ude00\"", "\"\\ud800\""}; /* alone it means nothing, but it is JSON */
    static const char *const bad[] = {"\"\\u\"",     "\"\\u1\"",    "\"\\u12\"",   "\"\\u123\"",
                                      "\"\\u123",    "\"\\u12g4\"", "\"\\u 123\"", "\"\\U1234\"",
                                      "\"\\u+123\"", "\"\\u",       "\"\\u12",     "\"\\ud800\\u\"",
                                      "\"\\x41\"",   "\"\\"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

static void test_an_escaped_quote_or_backslash_does_not_end_the_string(void **state)
{
    (void)state;
    static const char *const good[] = {"\"\\\"\"", "\"\\\\\"", "\"\\\\\\\"\"",
                                       "[\"\\\\\",\"\\\"\"]"};
    static const char *const bad[] = {"\"\\\"", "\"\\\\\\\"", "\"\\\\\"\"", "\"\\"};
    assert_values(good, COUNT(good));
    assert_no_values(bad, COUNT(bad));
}

/* ---- Section 8.1: UTF-8 ---------------------------------------------------------------------- */

static void test_a_text_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\"\xff\"",     "\"\xc0\x80\"",     "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"",
        "\"\xc3\"",     "{\"\x80\":1}",     "[1]\xc3",          "\xc3",
        "\"\xe2\x82\"", "\"\xf0\x9f\x98\"", "\"a\xe4z\"",       "\"\\\xc3\""};
    assert_no_values(bad, COUNT(bad));
}

/* ---- Section 9: the limit of this checker ---------------------------------------------------- */

/* `depth` containers, each of the kind that `kinds` names in turn, around `inner`. */
static bool nests(size_t depth, const char *kinds, const char *inner)
{
    char text[1024];
    size_t len = 0, kind_count = strlen(kinds);
    assert_true(depth * 6 + strlen(inner) < sizeof text);
    for (size_t i = 0; i < depth; i++) {
        const char *opening = kinds[i % kind_count] == '{' ? "{\"a\":" : "[";
        memcpy(text + len, opening, strlen(opening));
        len += strlen(opening);
    }
    memcpy(text + len, inner, strlen(inner));
    len += strlen(inner);
    for (size_t i = depth; i > 0; i--)
        text[len++] = kinds[(i - 1) % kind_count] == '{' ? '}' : ']';
    return is_value(text, len);
}

static void test_a_value_nests_64_deep_and_no_deeper(void **state)
{
    (void)state;
    static const char *const kinds[] = {"[", "{", "[{", "{[", "[[{", "{{["};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        assert_true(nests(64, kinds[i], "1"));
        assert_false(nests(65, kinds[i], "1"));
        assert_true(nests(63, kinds[i], "[]"));
        assert_false(nests(64, kinds[i], "[]"));
        assert_true(nests(63, kinds[i], "{}"));
        assert_false(nests(64, kinds[i], "{}"));
    }
}

static void test_the_depth_goes_down_again_behind_a_closed_container(void **state)
{
    (void)state;
    char text[1001] = "[";
    size_t len = 1;
    for (int i = 0; i < 199; i++, len += 5)
        memcpy(text + len, "[[]],", 5);
    memcpy(text + len, "[[]]]", 5);
    len += 5;
    assert_true(is_value(text, len));
    assert_false(is_value(text, len - 1)); /* without the last bracket */
}

static void test_a_million_brackets_are_refused_without_a_deep_stack(void **state)
{
    (void)state;
    static const char *const units[] = {"[", "{\"a\":", "[{\"a\":", "]", "}", "{", "\"", "[1,"};
    const size_t len = 1000000;
    char *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < COUNT(units); i++) {
        size_t unit = strlen(units[i]);
        for (size_t at = 0; at < len; at++)
            text[at] = units[i][at % unit];
        assert_false(ob_json_is_value(text, len));
    }
    free(text);
}

/* ---- A second opinion ------------------------------------------------------------------------ */

static sqlite3 *db;
static sqlite3_stmt *valid;

static int open_sqlite(void **state)
{
    (void)state;
    return sqlite3_open(":memory:", &db) != SQLITE_OK ||
           sqlite3_prepare_v2(db, "SELECT json_valid(?1)", -1, &valid, NULL) != SQLITE_OK;
}

static int close_sqlite(void **state)
{
    (void)state;
    return sqlite3_finalize(valid) != SQLITE_OK || sqlite3_close(db) != SQLITE_OK;
}

static bool sqlite_says(const char *text, size_t len)
{
    assert_int_equal(sqlite3_bind_text(valid, 1, text, (int)len, SQLITE_STATIC), SQLITE_OK);
    assert_int_equal(sqlite3_step(valid), SQLITE_ROW);
    bool is_valid = sqlite3_column_int(valid, 0) == 1;
    assert_int_equal(sqlite3_reset(valid), SQLITE_OK);
    return is_valid;
}

/* Every text of up to `longest` letters of the alphabet. Returns how many were values. */
static int compare_all(const char *alphabet, size_t longest)
{
    char text[16];
    size_t letters = strlen(alphabet), total = 1;
    int values = 0;
    for (size_t len = 1; len <= longest; len++) {
        total *= letters;
        for (size_t number = 0; number < total; number++) {
            for (size_t i = 0, rest = number; i < len; i++, rest /= letters)
                text[i] = alphabet[rest % letters];
            bool verdict = ob_json_is_value(text, len);
            values += verdict;
            if (verdict != sqlite_says(text, len))
                fail_msg("%.*s is judged %d", (int)len, text, verdict);
        }
    }
    return values;
}

static void test_sqlite_agrees_on_every_short_text_of_brackets_and_strings(void **state)
{
    (void)state;
    assert_true(compare_all("[]{}\":,1", 6) > 50);
}

static void test_sqlite_agrees_on_every_short_text_of_digits_and_signs(void **state)
{
    (void)state;
    assert_true(compare_all("01-+.eE", 6) > 50);
}

static void test_sqlite_agrees_on_every_short_text_of_escapes(void **state)
{
    (void)state;
    assert_true(compare_all("\"\\un0 ", 7) > 50);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_sqlite_agrees_on_a_document_with_a_few_bytes_changed(void **state)
{
    (void)state;
    static const char document[] =
        "{\"t\":-21.50e+1,\"s\":[\"a\\n\\u00e4\",true,null,{}],\"o\":{}}";
    static const char letters[] = "{}[]\",:0123456789-+.eE\\unrtfals \n\tx/";
    uint32_t seed = 20240229;
    int values = 0;
    for (int round = 0; round < 100000; round++) {
        char text[sizeof document];
        memcpy(text, document, sizeof text);
        for (uint32_t changes = 1 + next_random(&seed) % 3; changes > 0; changes--)
            text[next_random(&seed) % (sizeof text - 1)] =
                letters[next_random(&seed) % (sizeof letters - 1)];
        bool verdict = ob_json_is_value(text, sizeof text - 1);
        values += verdict;
        if (verdict != sqlite_says(text, sizeof text - 1))
            fail_msg("%s is judged %d", text, verdict);
    }
    assert_true(values > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_three_words_are_values),
        cmocka_unit_test(test_space_may_stand_around_every_token),
        cmocka_unit_test(test_other_blanks_are_no_space),
        cmocka_unit_test(test_no_bytes_and_space_alone_are_no_value),
        cmocka_unit_test(test_bytes_behind_the_value_are_refused),
        cmocka_unit_test(test_a_nul_is_refused_wherever_it_stands),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_a_member_behind_a_closed_array_still_needs_its_name),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_a_number_with_a_leading_zero_or_plus_is_refused),
        cmocka_unit_test(test_half_a_number_is_refused),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_every_byte_behind_a_backslash_is_judged_as_an_escape),
        cmocka_unit_test(test_an_escape_in_hex_has_exactly_four_digits),
        cmocka_unit_test(test_an_escaped_quote_or_backslash_does_not_end_the_string),
        cmocka_unit_test(test_a_text_that_is_not_utf8_is_refused),
        cmocka_unit_test(test_a_value_nests_64_deep_and_no_deeper),
        cmocka_unit_test(test_the_depth_goes_down_again_behind_a_closed_container),
        cmocka_unit_test(test_a_million_brackets_are_refused_without_a_deep_stack),
        cmocka_unit_test(test_sqlite_agrees_on_every_short_text_of_brackets_and_strings),
        cmocka_unit_test(test_sqlite_agrees_on_every_short_text_of_digits_and_signs),
        cmocka_unit_test(test_sqlite_agrees_on_every_short_text_of_escapes),
        cmocka_unit_test(test_sqlite_agrees_on_a_document_with_a_few_bytes_changed),
    };
    return cmocka_run_group_tests_name("json", tests, open_sqlite, close_sqlite);
}
