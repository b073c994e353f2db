/* SPDX-License-Identifier: MIT
 *
 * test_ledger.c - the text of the tombstone: printed, read back, believed or refused. [P4]
 *
 * After a crash this text is all that is known of events that have left. So what does not add up
 * is never taken for ours, and what a newer release has added is never lost.
 */
#include "ledger.h"

#include <outbox/outbox.h>

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* id 141 = base 100 + 20 + 1 + 2 + 3 + 4 + 11 holes. */
static const struct ob_ledger example = {
    .id = 141,
    .base = 100,
    .last = 140,
    .count = {[OB_DELIVERED] = 20,
              [OB_EXPIRED] = 1,
              [OB_EVICTED] = 2,
              [OB_SUPERSEDED] = 3,
              [OB_DEAD] = 4},
    .holes = 11,
};
static const char example_text[] = "{\"base\":100,\"last\":140,\"delivered\":20,\"expired\":1,"
                                   "\"evicted\":2,\"superseded\":3,\"dead\":4,\"holes\":11}";

static void assert_same(const struct ob_ledger *a, const struct ob_ledger *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->base, b->base);
    assert_int_equal(a->last, b->last);
    for (int i = 0; i < OB_OUTCOMES; i++)
        assert_int_equal(a->count[i], b->count[i]);
    assert_int_equal(a->holes, b->holes);
    assert_string_equal(a->extra, b->extra);
}

/* Reads a copy that ends where its bytes end, so that a sanitizer sees any read behind. */
static bool parses_bytes(struct ob_ledger *ledger, int64_t id, const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    bool parsed = ob_ledger_parse(ledger, id, copy, len);
    free(copy);
    return parsed;
}

static bool parses(struct ob_ledger *ledger, int64_t id, const char *text)
{
    return parses_bytes(ledger, id, text, strlen(text));
}

/* The text of the example with one piece of it replaced. */
static const char *with(char text[OB_LEDGER_TEXT], const char *piece, const char *replacement)
{
    const char *at = strstr(example_text, piece);
    assert_non_null(at);
    sqlite3_snprintf(OB_LEDGER_TEXT, text, "%.*s%s%s", (int)(at - example_text), example_text,
                     replacement, at + strlen(piece));
    return text;
}

/* ---- Start, print, parse --------------------------------------------------------------------- */

static void test_a_new_ledger_starts_at_its_id_with_nothing_counted(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    memset(&ledger, 0xa5, sizeof ledger);
    ob_ledger_start(&ledger, 41);
    assert_same(&ledger, &(struct ob_ledger){.id = 41, .base = 41});
    assert_true(ob_ledger_holds(&ledger));
    assert_int_equal(ob_ledger_total(&ledger), 0);
}

static void test_the_text_has_its_members_in_a_fixed_order(void **state)
{
    (void)state;
    char text[OB_LEDGER_TEXT];
    size_t len = ob_ledger_print(&example, text);
    assert_string_equal(text, example_text);
    assert_int_equal(len, strlen(example_text));
}

static void test_what_was_printed_reads_back(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    char text[OB_LEDGER_TEXT];
    memset(&ledger, 0xa5, sizeof ledger);
    size_t len = ob_ledger_print(&example, text);
    assert_true(parses_bytes(&ledger, example.id, text, len));
    assert_same(&ledger, &example);
}

static void test_a_base_below_zero_reads_back(void **state)
{
    (void)state;
    /* Two rows came beside the order and were counted as dead: no id between base and tombstone. */
    const struct ob_ledger moved = {.id = 0, .base = -2, .count = {[OB_DEAD] = 2}};
    struct ob_ledger ledger;
    char text[OB_LEDGER_TEXT];
    size_t len = ob_ledger_print(&moved, text);
    assert_true(parses_bytes(&ledger, 0, text, len));
    assert_same(&ledger, &moved);
}

static void test_the_largest_numbers_and_the_longest_members_fit_the_text(void **state)
{
    (void)state;
    const int64_t most = (int64_t)1 << 56;
    const int64_t each = (most + OUTBOX_ID_MAX) / (OB_OUTCOMES + 1);
    struct ob_ledger ledger = {.id = OUTBOX_ID_MAX, .base = -most, .last = OUTBOX_ID_MAX}, back;
    char text[OB_LEDGER_TEXT];
    for (int i = 0; i < OB_OUTCOMES; i++)
        ledger.count[i] = each;
    ledger.holes = ledger.id - ledger.base - ob_ledger_total(&ledger);
    memcpy(ledger.extra, ",\"x\":\"", 6);
    memset(ledger.extra + 6, 'x', OB_LEDGER_EXTRA - 8);
    ledger.extra[OB_LEDGER_EXTRA - 2] = '"';
    assert_int_equal(strlen(ledger.extra), OB_LEDGER_EXTRA - 1);
    assert_true(ob_ledger_holds(&ledger));
    size_t len = ob_ledger_print(&ledger, text);
    assert_int_equal(len, strlen(text));
    assert_true(parses_bytes(&back, ledger.id, text, len));
    assert_same(&back, &ledger);
}

static void test_sqlite_reads_each_member_of_the_text(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int64_t value;
    } members[] = {{"$.base", 100},  {"$.last", 140},     {"$.delivered", 20}, {"$.expired", 1},
                   {"$.evicted", 2}, {"$.superseded", 3}, {"$.dead", 4},       {"$.holes", 11}};
    sqlite3 *db;
    sqlite3_stmt *extract;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT json_extract(?1, ?2)", -1, &extract, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(extract, 1, example_text, -1, SQLITE_STATIC);
    for (size_t i = 0; i < COUNT(members); i++) {
        sqlite3_bind_text(extract, 2, members[i].path, -1, SQLITE_STATIC);
        assert_int_equal(sqlite3_step(extract), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int64(extract, 0), members[i].value);
        sqlite3_reset(extract);
    }
    sqlite3_finalize(extract);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- Members of a newer release -------------------------------------------------------------- */

static void test_unknown_members_are_kept_to_the_byte(void **state)
{
    (void)state;
    static const char *const extras[] = {",\"urgent\":7", ",\"a\":{\"b\":[1,2.50]},\"c\":\"%s %n\"",
                                         ", \"spaced\" : null ", ",\"text\":\"a } b\xc3\xa4\"",
                                         ",\"huge\":123456789012345678901234567890"};
    for (size_t i = 0; i < COUNT(extras); i++) {
        struct ob_ledger ledger;
        char text[OB_LEDGER_TEXT], printed[OB_LEDGER_TEXT], end[OB_LEDGER_TEXT];
        sqlite3_snprintf((int)sizeof end, end, "%s}", extras[i]);
        assert_true(parses(&ledger, 141, with(text, "}", end)));
        assert_string_equal(ledger.extra, extras[i]);
        ob_ledger_print(&ledger, printed);
        assert_string_equal(printed, text);
    }
}

static void test_unknown_members_of_256_bytes_are_too_long_to_be_kept(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    char text[OB_LEDGER_TEXT], end[OB_LEDGER_EXTRA + 2] = ",\"x\":\"";
    memset(end + 6, 'x', OB_LEDGER_EXTRA - 7);
    memcpy(end + OB_LEDGER_EXTRA - 1, "\"}", 3);
    assert_false(parses(&ledger, 141, with(text, "}", end)));
    memcpy(end + OB_LEDGER_EXTRA - 2, "\"}", 3);
    assert_true(parses(&ledger, 141, with(text, "}", end)));
}

static void test_what_follows_the_last_member_must_be_further_members(void **state)
{
    (void)state;
    static const char *const ends[] = {
        "garbage}", "e0}", ".0}",      " }",       "]}",        "}}",           ",}",
        ",\"x\"}",  ",1}", ",\"x\":}", "\"x\":1}", ";\"x\":1}", ",\"x\":\xff}", ",\"x\":01}"};
    for (size_t i = 0; i < COUNT(ends); i++) {
        struct ob_ledger ledger;
        char text[OB_LEDGER_TEXT];
        if (parses(&ledger, 141, with(text, "}", ends[i])))
            fail_msg("passed: %s", text);
    }
}

static void test_a_nul_within_the_text_is_refused(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    char text[OB_LEDGER_TEXT];
    size_t len = strlen(with(text, "}", ",\"x\":\"a.b\"}"));
    assert_true(parses_bytes(&ledger, 141, text, len));
    *strchr(text, '.') = '\0'; /* print would end here, and lose the rest */
    assert_false(parses_bytes(&ledger, 141, text, len));
}

/* ---- Wrong texts ----------------------------------------------------------------------------- */

static void test_a_text_that_is_cut_short_is_refused(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    for (size_t len = 0; len < sizeof example_text - 1; len++)
        assert_false(parses_bytes(&ledger, 141, example_text, len));
}

static void test_a_text_of_another_form_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *piece, *replacement;
    } changes[] = {
        {"{\"base\"", "\"base\""},
        {"{\"base\"", " {\"base\""},
        {"\"base\":", "\"Base\":"},
        {"\"base\":", "\"base\" :"},
        {"100", "\"100\""},
        {"100", "+100"},
        {"100", "100.0"},
        {"100", ""},
        {"100", "-"},
        {"100", "0x64"},
        {"100", " 100"},
        {"100", "0100"},
        {"11}", "011}"},
        {"\"dead\":4,", ""},
        {"\"expired\":1", "\"evicted\":1"},
        {"}", ""},
        {"}", "} "},
        {"}", "}\n"},
        {"}", "},"},
        {"\"last\":140,", "\"last\":140,,"},
        {"\"base\":100,\"last\":140", "\"last\":140,\"base\":100"},
    };
    for (size_t i = 0; i < COUNT(changes); i++) {
        struct ob_ledger ledger;
        char text[OB_LEDGER_TEXT];
        if (parses(&ledger, 141, with(text, changes[i].piece, changes[i].replacement)))
            fail_msg("passed: %s", text);
    }
}

static void test_texts_that_never_were_a_ledger_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",  "}",  "{}",    "1",           "null",
                                        "x", "[]", "\"}\"", "{\"base\":0}"};
    struct ob_ledger ledger;
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_false(parses(&ledger, 0, texts[i]));
}

static void test_a_number_too_large_to_have_been_counted_is_refused(void **state)
{
    (void)state;
    static const char *const numbers[] = {"72057594037927937", "9223372036854775807",
                                          "9223372036854775808", "18446744073709551616",
                                          "99999999999999999999999999999999999999"};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        struct ob_ledger ledger;
        char text[OB_LEDGER_TEXT], number[64];
        sqlite3_snprintf((int)sizeof number, number, "\"delivered\":%s", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"delivered\":20", number)));
        sqlite3_snprintf((int)sizeof number, number, "\"base\":-%s", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"base\":100", number)));
        sqlite3_snprintf((int)sizeof number, number, "\"holes\":%s}", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"holes\":11}", number)));
        sqlite3_snprintf((int)sizeof number, number, "\"base\":%s", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"base\":100", number)));
        sqlite3_snprintf((int)sizeof number, number, "\"last\":%s", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"last\":140", number)));
        sqlite3_snprintf((int)sizeof number, number, "\"last\":-%s", numbers[i]);
        assert_false(parses(&ledger, 141, with(text, "\"last\":140", number)));
    }
}

static void test_a_text_with_one_byte_changed_is_refused_or_is_what_it_says(void **state)
{
    (void)state;
    char text[sizeof example_text], printed[OB_LEDGER_TEXT];
    int accepted = 0;
    for (size_t at = 0; at < sizeof text - 1; at++)
        for (int byte = 0; byte <= 0xff; byte++) {
            struct ob_ledger ledger;
            memcpy(text, example_text, sizeof text);
            text[at] = (char)byte;
            if (!ob_ledger_parse(&ledger, 141, text, sizeof text - 1))
                continue;
            assert_true(ob_ledger_holds(&ledger));
            ob_ledger_print(&ledger, printed);
            assert_string_equal(printed, text);
            accepted++;
        }
    /* The text itself once per byte, and `last`, which stands outside the sum, with other
     * digits. */
    assert_in_range(accepted, sizeof text - 1, sizeof text + 20);
}

/* ---- The law: [P4] --------------------------------------------------------------------------- */

static void test_the_law_breaks_when_any_number_is_one_too_large(void **state)
{
    (void)state;
    struct ob_ledger broken = example;
    assert_true(ob_ledger_holds(&broken));
    for (int i = 0; i < OB_OUTCOMES; i++) {
        broken.count[i]++;
        assert_false(ob_ledger_holds(&broken));
        broken.count[i]--;
    }
    broken.holes++;
    assert_false(ob_ledger_holds(&broken));
    broken.holes--;
    broken.base++;
    assert_false(ob_ledger_holds(&broken));
    broken.base--;
    broken.id++;
    assert_false(ob_ledger_holds(&broken));
}

static void test_no_counter_may_be_below_zero_even_if_the_sum_is_right(void **state)
{
    (void)state;
    for (int i = 0; i < OB_OUTCOMES; i++) {
        struct ob_ledger broken = {.id = 10, .base = 11};
        broken.count[i] = -1;
        assert_false(ob_ledger_holds(&broken));
    }
    assert_false(ob_ledger_holds(&(struct ob_ledger){.id = 10, .base = 11, .holes = -1}));
}

static void test_the_last_delivered_id_lies_between_zero_and_the_tombstone(void **state)
{
    (void)state;
    struct ob_ledger ledger = example;
    ledger.last = 141;
    assert_true(ob_ledger_holds(&ledger));
    ledger.last = 142;
    assert_false(ob_ledger_holds(&ledger));
    ledger.last = 0;
    assert_true(ob_ledger_holds(&ledger));
    ledger.last = -1;
    assert_false(ob_ledger_holds(&ledger));
}

static void test_the_law_does_not_hold_for_a_tombstone_below_zero(void **state)
{
    (void)state;
    assert_true(ob_ledger_holds(&(struct ob_ledger){.id = 0}));
    assert_false(ob_ledger_holds(&(struct ob_ledger){.id = -1, .base = -1, .last = -1}));
    assert_false(ob_ledger_holds(&(struct ob_ledger){.id = -5, .base = -5}));
}

static void test_the_law_does_not_hold_for_a_tombstone_that_no_event_can_follow(void **state)
{
    (void)state;
    const int64_t id = OUTBOX_ID_MAX;
    assert_true(ob_ledger_holds(&(struct ob_ledger){.id = id, .base = id}));
    assert_false(ob_ledger_holds(&(struct ob_ledger){.id = id + 1, .base = id + 1}));
    assert_false(ob_ledger_holds(&(struct ob_ledger){.id = id + 1, .holes = id + 1}));
}

static void test_numbers_at_the_ends_of_their_type_do_not_overflow_the_law(void **state)
{
    (void)state;
    static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, INT64_MAX - 1, INT64_MAX};
    for (size_t i = 0; i < COUNT(ends); i++) {
        struct ob_ledger ledger = {.id = ends[i]};
        assert_false(ob_ledger_holds(&ledger));
        ledger = (struct ob_ledger){.base = ends[i]};
        assert_false(ob_ledger_holds(&ledger));
        ledger = (struct ob_ledger){.holes = ends[i]};
        assert_false(ob_ledger_holds(&ledger));
        for (int outcome = 0; outcome < OB_OUTCOMES; outcome++) {
            ledger = (struct ob_ledger){.base = 0};
            ledger.count[outcome] = ends[i];
            assert_false(ob_ledger_holds(&ledger));
        }
    }
}

static void test_a_text_is_refused_for_another_id(void **state)
{
    (void)state;
    struct ob_ledger ledger;
    assert_true(parses(&ledger, 141, example_text));
    assert_false(parses(&ledger, 140, example_text));
    assert_false(parses(&ledger, 142, example_text));
    assert_false(parses(&ledger, INT64_MAX, example_text));
    assert_false(parses(&ledger, INT64_MIN, example_text));
}

static void test_the_total_is_the_sum_of_all_ways_to_leave(void **state)
{
    (void)state;
    assert_int_equal(ob_ledger_total(&example), 30);
}

/* ---- Follows --------------------------------------------------------------------------------- */

static void test_a_ledger_follows_itself(void **state)
{
    (void)state;
    assert_true(ob_ledger_follows(&example, &example));
}

static void test_a_ledger_follows_when_events_or_holes_were_counted(void **state)
{
    (void)state;
    for (int i = 0; i <= OB_OUTCOMES; i++) {
        struct ob_ledger later = example;
        later.id++;
        *(i < OB_OUTCOMES ? &later.count[i] : &later.holes) += 1;
        assert_true(ob_ledger_follows(&later, &example));
        assert_false(ob_ledger_follows(&example, &later));
    }
}

static void test_a_ledger_with_a_smaller_counter_does_not_follow(void **state)
{
    (void)state;
    for (int i = 0; i <= OB_OUTCOMES; i++) {
        struct ob_ledger later = example;
        later.id += 9;
        later.count[OB_DELIVERED] += 10;
        *(i < OB_OUTCOMES ? &later.count[i] : &later.holes) = 0;
        if (i != OB_DELIVERED)
            assert_int_not_equal(*(i < OB_OUTCOMES ? &example.count[i] : &example.holes), 0);
        assert_false(ob_ledger_follows(&later, &example));
    }
}

static void test_a_ledger_of_a_smaller_id_does_not_follow(void **state)
{
    (void)state;
    struct ob_ledger later = example;
    later.id--;
    later.base--;
    assert_true(ob_ledger_holds(&example));
    assert_false(ob_ledger_follows(&later, &example));
}

static void test_unknown_members_do_not_matter_to_what_follows(void **state)
{
    (void)state;
    struct ob_ledger later = example;
    memcpy(later.extra, ",\"x\":1", 7);
    assert_true(ob_ledger_follows(&later, &example));
    assert_true(ob_ledger_follows(&example, &later));
}

/* ---- Drops ----------------------------------------------------------------------------------- */

static void assert_same_drops(const struct ob_drops *a, const struct ob_drops *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->to, b->to);
    assert_int_equal(a->row, b->row);
    assert_int_equal(a->row_count, b->row_count);
    assert_int_equal(a->row_from, b->row_from);
    assert_int_equal(a->row_to, b->row_to);
}

static void test_drops_read_back_with_each_of_their_numbers(void **state)
{
    (void)state;
    struct ob_ledger ledger = example, back;
    char text[OB_LEDGER_TEXT];
    ledger.drops[OB_EXPIRED] = (struct ob_drops){1, 2, 3, 0, 0, 0, 0};
    ledger.drops[OB_DEAD] = (struct ob_drops){4, 5, 6, 150, 7, 8, (int64_t)1 << 56};
    size_t len = ob_ledger_print(&ledger, text);
    assert_true(parses_bytes(&back, ledger.id, text, len));
    for (int i = 0; i < OB_OUTCOMES; i++)
        assert_same_drops(&back.drops[i], &ledger.drops[i]);
}

static void test_drops_of_another_form_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"[]",
                                      "[[]]",
                                      "[1,1,1,1,1,1,1,1]",
                                      "[[\"1\",1,1,1,1,1,1,1]]",
                                      "[[0,1,1,1,1,1,1,1]]", /* what was delivered is not dropped */
                                      "[[-1,1,1,1,1,1,1,1]]",
                                      "[[5,1,1,1,1,1,1,1]]",
                                      "[[4 1,1,1,1,1,1,1]]",
                                      "[[4,1,1,1,1,1,1]]",
                                      "[[4,1,1,1,1,1,1,null]]",
                                      "[[4,1,1,-1,1,1,1,1]]",
                                      "[[4,1,1,1,1,1,1,72057594037927937]]",
                                      "[[4,1,1,1,1,1,1,1,1]]",
                                      "[[4,1,1,1,1,1,1,1],]",
                                      "[[4,1,1,1,1,1,1,1]"};
    struct ob_ledger ledger;
    char text[OB_LEDGER_TEXT], drops[OB_LEDGER_TEXT];
    assert_true(parses(&ledger, 141, with(text, "}", ",\"drops\":[[4,1,1,1,1,1,1,1]]}")));
    for (size_t i = 0; i < COUNT(bad); i++) {
        sqlite3_snprintf(sizeof drops, drops, ",\"drops\":%s}", bad[i]);
        if (parses(&ledger, 141, with(text, "}", drops)))
            fail_msg("%s", text);
    }
}

static void test_an_announcement_that_is_evicted_goes_back_into_the_note(void **state)
{
    (void)state;
    struct ob_ledger ledger = example;
    ledger.drops[OB_EXPIRED] = (struct ob_drops){1, 160, 160, 150, 3, 20, 30};
    ob_ledger_leave(&ledger, 150, OB_EVICTED);
    assert_same_drops(&ledger.drops[OB_EXPIRED], &(struct ob_drops){4, 20, 160, 0, 3, 20, 30});
    assert_int_equal(ledger.holes, example.holes + 1);
    assert_int_equal(ledger.count[OB_EVICTED], example.count[OB_EVICTED]);
}

static void test_an_announcement_that_is_refused_is_counted_and_not_announced(void **state)
{
    (void)state;
    struct ob_ledger ledger = example;
    ledger.drops[OB_EXPIRED] = (struct ob_drops){.row = 150, .row_count = 3};
    ob_ledger_leave(&ledger, 150, OB_DEAD);
    assert_int_equal(ledger.count[OB_DEAD], example.count[OB_DEAD] + 1);
    assert_int_equal(ledger.drops[OB_DEAD].count, 0);
    assert_int_equal(ledger.drops[OB_EXPIRED].row, 0);
}

/* The row of an announcement is noted until it leaves, and a note of another hand may name any. */
static void test_no_announcement_stands_at_or_before_the_tombstone(void **state)
{
    (void)state;
    struct ob_ledger ledger = example;
    ledger.drops[OB_EXPIRED] = (struct ob_drops){.row = 141, .row_count = 3};
    assert_int_equal(ob_ledger_announcements(&ledger, 0), 0);
    ob_ledger_leave(&ledger, 141, OB_EVICTED);
    assert_int_equal(ledger.count[OB_EVICTED], example.count[OB_EVICTED] + 1);
    assert_int_equal(ledger.drops[OB_EXPIRED].row, 141);
}

/* A settle compares: one that another process has settled further is another, one that says the
 * same is not. */
static void test_ledgers_are_equal_where_their_texts_are(void **state)
{
    struct ob_ledger with_drops = example;
    struct ob_drops *drops = &with_drops.drops[OB_EVICTED];
    int64_t *const fields[] = {&with_drops.last, &drops->count, &drops->from,
                               &drops->to,       &drops->row,   &drops->row_count,
                               &drops->row_from, &drops->row_to};
    (void)state;
    *drops = (struct ob_drops){2, 3, 5, 150, 1, 7, 7};
    const struct ob_ledger as_it_was = with_drops;
    assert_true(ob_ledger_equals(&with_drops, &as_it_was));
    for (size_t i = 0; i < COUNT(fields); i++) {
        ++*fields[i];
        assert_false(ob_ledger_equals(&with_drops, &as_it_was));
        --*fields[i];
    }
    with_drops.base++, with_drops.holes--;
    assert_false(ob_ledger_equals(&with_drops, &as_it_was));
    with_drops = as_it_was;
    memcpy(with_drops.extra, ",\"x\":1", sizeof ",\"x\":1");
    assert_false(ob_ledger_equals(&with_drops, &as_it_was));
    with_drops = as_it_was;
    memset(drops, 0, sizeof *drops);
    assert_false(ob_ledger_equals(&with_drops, &as_it_was));
    drops->from = 9; /* of none: it is not printed */
    assert_true(ob_ledger_equals(&with_drops, &example));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_ledger_starts_at_its_id_with_nothing_counted),
        cmocka_unit_test(test_the_text_has_its_members_in_a_fixed_order),
        cmocka_unit_test(test_what_was_printed_reads_back),
        cmocka_unit_test(test_a_base_below_zero_reads_back),
        cmocka_unit_test(test_the_largest_numbers_and_the_longest_members_fit_the_text),
        cmocka_unit_test(test_sqlite_reads_each_member_of_the_text),
        cmocka_unit_test(test_unknown_members_are_kept_to_the_byte),
        cmocka_unit_test(test_unknown_members_of_256_bytes_are_too_long_to_be_kept),
        cmocka_unit_test(test_what_follows_the_last_member_must_be_further_members),
        cmocka_unit_test(test_a_nul_within_the_text_is_refused),
        cmocka_unit_test(test_a_text_that_is_cut_short_is_refused),
        cmocka_unit_test(test_a_text_of_another_form_is_refused),
        cmocka_unit_test(test_texts_that_never_were_a_ledger_are_refused),
        cmocka_unit_test(test_a_number_too_large_to_have_been_counted_is_refused),
        cmocka_unit_test(test_a_text_with_one_byte_changed_is_refused_or_is_what_it_says),
        cmocka_unit_test(test_the_law_breaks_when_any_number_is_one_too_large),
        cmocka_unit_test(test_no_counter_may_be_below_zero_even_if_the_sum_is_right),
        cmocka_unit_test(test_the_last_delivered_id_lies_between_zero_and_the_tombstone),
        cmocka_unit_test(test_the_law_does_not_hold_for_a_tombstone_below_zero),
        cmocka_unit_test(test_the_law_does_not_hold_for_a_tombstone_that_no_event_can_follow),
        cmocka_unit_test(test_numbers_at_the_ends_of_their_type_do_not_overflow_the_law),
        cmocka_unit_test(test_a_text_is_refused_for_another_id),
        cmocka_unit_test(test_the_total_is_the_sum_of_all_ways_to_leave),
        cmocka_unit_test(test_a_ledger_follows_itself),
        cmocka_unit_test(test_a_ledger_follows_when_events_or_holes_were_counted),
        cmocka_unit_test(test_a_ledger_with_a_smaller_counter_does_not_follow),
        cmocka_unit_test(test_a_ledger_of_a_smaller_id_does_not_follow),
        cmocka_unit_test(test_unknown_members_do_not_matter_to_what_follows),
        cmocka_unit_test(test_drops_read_back_with_each_of_their_numbers),
        cmocka_unit_test(test_drops_of_another_form_are_refused),
        cmocka_unit_test(test_an_announcement_that_is_evicted_goes_back_into_the_note),
        cmocka_unit_test(test_an_announcement_that_is_refused_is_counted_and_not_announced),
        cmocka_unit_test(test_no_announcement_stands_at_or_before_the_tombstone),
        cmocka_unit_test(test_ledgers_are_equal_where_their_texts_are),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
