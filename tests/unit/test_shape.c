/* SPDX-License-Identifier: MIT
 *
 * test_shape.c - shape.h: what the values of a captured change mean, also where somebody else has
 * written it.
 */
#include "shape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char good[] = "1 3 1\nt\n00ff\nplant/t\n1\n0\nv-id\nvjDoc\nh-key\n";

static struct ob_shape shape;

static bool reads(const char *text)
{
    memset(&shape, 0xa5, sizeof shape);
    return ob_shape_read(text, strlen(text), &shape);
}

static void expect_span(struct ob_span span, const char *text)
{
    assert_int_equal(span.len, strlen(text));
    assert_memory_equal(span.at, text, span.len);
}

static void test_a_shape_is_read_line_by_line(void **state)
{
    (void)state;
    assert_true(reads(good));
    assert_int_equal(shape.count, 3);
    assert_true(shape.integers_as_text);
    expect_span(shape.table, "t");
    expect_span(shape.schema, "00ff");
    expect_span(shape.topic, "plant/t");
    expect_span(shape.keys, "1");
    expect_span(shape.identity, "0");
    expect_span(shape.columns, "v-id\nvjDoc\nh-key\n");
    assert_true(reads("1 3 0\nt\n\nplant/t"));
    assert_false(shape.integers_as_text);
    expect_span(shape.columns, "");
}

static void test_what_is_no_shape_is_not_read(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "\n",
                                      "2 3 0\nt\n\na\n",
                                      "1\nt\n",
                                      "1 x 0\nt\n",
                                      "1 3\nt\n\na\n",
                                      "1 3 x\nt\n\na\n",
                                      "1 3 0",
                                      "1 3 0\n",
                                      "1 3 0\n\n\na",
                                      "1 3 0\nt",
                                      "1 3 0\nt\n00ff\n\n1\n"};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (reads(bad[i]))
            fail_msg("read: %s", bad[i]);
}

static void test_a_number_has_six_digits_at_most(void **state)
{
    struct ob_span rest = {"99999999,5", 10};
    int number;
    (void)state;
    assert_true(ob_shape_cut_number(&rest, &number));
    assert_int_equal(number, 999999);
    rest = (struct ob_span){"7", 1};
    assert_true(ob_shape_cut_number(&rest, &number));
    assert_int_equal(number, 7);
    assert_false(ob_shape_cut_number(&rest, &number));
    rest = (struct ob_span){"-7", 2};
    assert_false(ob_shape_cut_number(&rest, &number));
    rest = (struct ob_span){":7", 2};
    assert_false(ob_shape_cut_number(&rest, &number));
}

static void test_a_column_is_found_by_its_place_and_by_its_name_in_any_case(void **state)
{
    struct ob_shape_column column;
    (void)state;
    assert_true(reads(good));
    assert_true(ob_shape_place(&shape, 1, &column));
    expect_span(column.name, "Doc");
    assert_true(column.is_json && !column.is_hidden);
    assert_true(ob_shape_place(&shape, 2, &column));
    expect_span(column.name, "key");
    assert_true(!column.is_json && column.is_hidden);
    assert_int_equal(ob_shape_name(&shape, "dOC", 3), 1);
    assert_int_equal(ob_shape_name(&shape, "KEY", 3), 2);
    assert_int_equal(ob_shape_name(&shape, "ke", 2), -1);
    assert_int_equal(ob_shape_name(&shape, "old", 3), -1);
}

/* Fewer columns than there are said to be, more, and a line that is none. */
static void test_a_column_that_is_not_there_is_not_found(void **state)
{
    struct ob_shape_column column;
    (void)state;
    assert_true(reads(good));
    assert_false(ob_shape_place(&shape, 3, &column));
    assert_true(reads("1 3 0\nt\n\na\n\n\nv-id\n"));
    assert_true(ob_shape_place(&shape, 0, &column));
    assert_false(ob_shape_place(&shape, 1, &column));
    assert_int_equal(ob_shape_name(&shape, "no", 2), -1);
    assert_true(reads("1 1 0\nt\n\na\n\n\nv-id\nv-x\n"));
    assert_false(ob_shape_place(&shape, 1, &column));
    assert_int_equal(ob_shape_name(&shape, "x", 1), -1);
    assert_true(reads("1 2 0\nt\n\na\n\n\nv\nv-x\n"));
    assert_false(ob_shape_place(&shape, 1, &column));
    assert_int_equal(ob_shape_name(&shape, "x", 1), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shape_is_read_line_by_line),
        cmocka_unit_test(test_what_is_no_shape_is_not_read),
        cmocka_unit_test(test_a_number_has_six_digits_at_most),
        cmocka_unit_test(test_a_column_is_found_by_its_place_and_by_its_name_in_any_case),
        cmocka_unit_test(test_a_column_that_is_not_there_is_not_found),
    };
    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
