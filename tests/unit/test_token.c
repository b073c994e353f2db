/* SPDX-License-Identifier: MIT
 *
 * test_token.c - token.h: SQL in pieces, also SQL that ends in the midst of one, and names in each
 * of their quotes.
 */
#include "token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* All pieces, each in angle brackets behind the letter of what it is: space, name, text, number,
 * other sign. */
static char *split(const char *sql)
{
    static const char letters[] = "?sntdo";
    static char pieces[512];
    size_t used = 0, len;
    enum ob_token token;
    char *copy =
        strdup(sql); /* ends where its bytes end, so that a sanitizer sees any read behind */
    assert_non_null(copy);
    for (const char *at = copy; (token = ob_token_next(at, &len)) != OB_TOKEN_END; at += len) {
        assert_true(len > 0 && len <= strlen(at) && used + len + 4 < sizeof pieces);
        pieces[used++] = letters[token];
        pieces[used++] = '<';
        memcpy(pieces + used, at, len);
        used += len;
        pieces[used++] = '>';
    }
    assert_int_equal(len, 0);
    pieces[used] = '\0';
    free(copy);
    return pieces;
}

struct pair {
    const char *sql, *pieces;
};

static void expect(const struct pair *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_string_equal(split(cases[i].sql), cases[i].pieces);
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static void test_nothing_has_no_pieces(void **state)
{
    (void)state;
    assert_string_equal(split(""), "");
}

static void test_white_space_is_one_piece_and_no_other_blank_is_in_it(void **state)
{
    static const struct pair cases[] = {
        {" \t\r\n\fa ", "s< \t\r\n\f>n<a>s< >"},
        {"\v", "o<\v>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_a_comment_ends_at_its_line_or_its_sign_or_with_the_text(void **state)
{
    static const struct pair cases[] = {
        {"a--b\nc", "n<a>s<--b>s<\n>n<c>"},
        {"a--b", "n<a>s<--b>"},
        {"--", "s<-->"},
        {"a/*b*/c", "n<a>s</*b*/>n<c>"},
        {"/*a**/*/", "s</*a**/>o<*>o</>"},
        {"/*/*/a", "s</*/*/>n<a>"},
        {"/*a*", "s</*a*>"},
        {"/*/", "s</*/>"},
        {"a-b/c- -d/ *e", "n<a>o<->n<b>o</>n<c>o<->s< >o<->n<d>o</>s< >o<*>n<e>"},
        {"-", "o<->"},
        {"/", "o</>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_a_name_may_have_digits_a_dollar_and_whatever_is_not_ascii(void **state)
{
    static const struct pair cases[] = {
        {"aZ_9$x", "n<aZ_9$x>"},
        {"_a", "n<_a>"},
        {"Z", "n<Z>"},
        {"K\xc3\xb6ln+\xff", "n<K\xc3\xb6ln>o<+>n<\xff>"},
        {"a.b{c@d[e]", "n<a>o<.>n<b>o<{>n<c>o<@>n<d>n<[e]>"},
        {"$a^`b`", "o<$>n<a>o<^>n<`b`>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_a_number_has_its_point_and_the_sign_of_its_exponent(void **state)
{
    static const struct pair cases[] = {
        {"12", "d<12>"},
        {"1.5e+3", "d<1.5e+3>"},
        {"1E-3-2", "d<1E-3>o<->d<2>"},
        {"1+2", "d<1>o<+>d<2>"},
        {".5.", "d<.5.>"},
        {".a", "o<.>n<a>"},
        {".", "o<.>"},
        {"0xfF,7", "d<0xfF>o<,>d<7>"},
        {"9:", "d<9>o<:>"},
        {"1e", "d<1e>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_a_blob_is_a_number_and_an_x_alone_is_a_name(void **state)
{
    static const struct pair cases[] = {
        {"x'00'X'fF'", "d<x'00'>d<X'fF'>"},
        {"x'0", "d<x'0>"},
        {"x y'0'", "n<x>s< >n<y>t<'0'>"},
        {"X", "n<X>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_a_doubled_quote_stands_for_itself(void **state)
{
    static const struct pair cases[] = {
        {"'a''b'c", "t<'a''b'>n<c>"}, {"\"a\"\"b\"c", "n<\"a\"\"b\">n<c>"},
        {"`a``b`c", "n<`a``b`>n<c>"}, {"''", "t<''>"},
        {"''''", "t<''''>"},          {"'\"`[--/*'", "t<'\"`[--/*'>"},
        {"[a[b]c", "n<[a[b]>n<c>"},   {"[a]]", "n<[a]>o<]>"}, /* brackets know no doubling */
    };
    (void)state;
    expect(cases, COUNT(cases));
}

static void test_what_is_not_closed_ends_with_the_text(void **state)
{
    static const struct pair cases[] = {
        {"'a", "t<'a>"},           {"'a''", "t<'a''>"}, {"'", "t<'>"},   {"\"a", "n<\"a>"},
        {"\"a\"\"", "n<\"a\"\">"}, {"`", "n<`>"},       {"[a", "n<[a>"},
    };
    (void)state;
    expect(cases, COUNT(cases));
}

/* ---- Words and names ------------------------------------------------------------------------- */

static void test_a_word_is_known_in_any_case_and_only_as_a_whole(void **state)
{
    (void)state;
    assert_true(ob_token_is("wHere x", 5, "WHERE"));
    assert_false(ob_token_is("where", 4, "WHERE"));
    assert_false(ob_token_is("wheres", 6, "WHERE"));
    assert_false(ob_token_is("there", 5, "WHERE"));
    assert_false(ob_token_is("\"WHERE\"", 7, "WHERE"));
}

static bool names(const char *token, const char *name)
{
    return ob_token_names(token, strlen(token), name);
}

static void test_a_name_is_the_same_in_each_of_its_quotes(void **state)
{
    static const char *const good[] = {"Key", "\"key\"", "`KEY`", "[keY]"};
    static const char *const bad[] = {"keys", "ke",    "\"keys\"", "\"ke\"", "[kex]",   "`ke`",
                                      "\"\"", "'key'", "\"",       "[",      "\"key\"s"};
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(names(good[i], "kEy"));
    for (size_t i = 0; i < COUNT(bad); i++)
        if (names(bad[i], "kEy"))
            fail_msg("%s", bad[i]);
}

static void test_a_doubled_quote_in_a_name_is_one(void **state)
{
    (void)state;
    assert_true(names("\"a\"\"b\"", "a\"b"));
    assert_true(names("`a``b`", "a`b"));
    assert_true(names("\"a``b\"", "a``b"));
    assert_true(names("\"\"\"\"", "\""));
    assert_false(names("\"a\"\"b\"", "a\"\"b"));
    assert_false(names("\"a\"\"b\"", "a\""));
    assert_false(names("a\"b", "a\"\"b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_has_no_pieces),
        cmocka_unit_test(test_white_space_is_one_piece_and_no_other_blank_is_in_it),
        cmocka_unit_test(test_a_comment_ends_at_its_line_or_its_sign_or_with_the_text),
        cmocka_unit_test(test_a_name_may_have_digits_a_dollar_and_whatever_is_not_ascii),
        cmocka_unit_test(test_a_number_has_its_point_and_the_sign_of_its_exponent),
        cmocka_unit_test(test_a_blob_is_a_number_and_an_x_alone_is_a_name),
        cmocka_unit_test(test_a_doubled_quote_stands_for_itself),
        cmocka_unit_test(test_what_is_not_closed_ends_with_the_text),
        cmocka_unit_test(test_a_word_is_known_in_any_case_and_only_as_a_whole),
        cmocka_unit_test(test_a_name_is_the_same_in_each_of_its_quotes),
        cmocka_unit_test(test_a_doubled_quote_in_a_name_is_one),
    };
    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
