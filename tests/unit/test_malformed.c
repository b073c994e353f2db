/* SPDX-License-Identifier: MIT
 *
 * test_malformed.c - bytes of a good database are flipped, zeroed and cut off; the library goes on.
 *
 * What must hold is in damage.h: documented codes, an end of every call, never a wrong send, and
 * whole events stay. A crash of the machine can leave such files behind; so can a bad flash.
 */
#include "damage.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    struct damage *damage = malloc(sizeof *damage);
    *state = damage;
    if (!damage || !damage_open(damage)) {
        print_error("%s\n", damage ? damage->sentence : "no memory");
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    struct damage *damage = *state;
    print_message("# %ld damaged files: %ld sends, %ld of them of a damaged row; %ld refusals\n",
                  damage->tries, damage->sends, damage->altered, damage->refusals);
    damage_close(damage);
    free(damage);
    return 0;
}

/* All that a case needs: a copy to spoil, and words for a failure. */
static unsigned char *copy_of(const struct damage *damage)
{
    unsigned char *bytes = malloc(damage->size);
    assert_non_null(bytes);
    memcpy(bytes, damage->good, damage->size);
    return bytes;
}

static int failures;

static void try_it(struct damage *damage, const unsigned char *bytes, size_t len, const char *what,
                   size_t at, unsigned value)
{
    if (!damage_try(damage, bytes, len)) {
        failures++;
        print_error("%s at byte %zu (0x%02x): %s\n", what, at, value, damage->sentence);
    }
}

static void flip(struct damage *damage, unsigned char *bytes, size_t at, unsigned char mask)
{
    bytes[at] ^= mask;
    try_it(damage, bytes, damage->size, "flipped", at, mask);
    bytes[at] ^= mask;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void test_a_good_database_is_sent_whole(void **state)
{
    struct damage *damage = *state;
    failures = 0;
    try_it(damage, damage->good, damage->size, "nothing", 0, 0);
    assert_int_equal(failures, 0);
    assert_int_equal(damage->sends, damage->known);
    assert_int_equal(damage->altered, 0);
    assert_int_equal(damage->refusals, 0);
}

static void test_any_byte_of_any_page_header_may_be_flipped(void **state)
{
    static const unsigned char masks[] = {0x01, 0x04, 0x80, 0xff};
    struct damage *damage = *state;
    unsigned char *bytes = copy_of(damage);
    failures = 0;
    for (size_t at = 0; at < damage->size; at++) {
        size_t in_page = at % DAMAGE_PAGE, header = at < DAMAGE_PAGE ? 112 : 12;
        for (size_t i = 0; i < sizeof masks && in_page < header; i++)
            flip(damage, bytes, at, masks[i]);
    }
    free(bytes);
    assert_int_equal(failures, 0);
}

static void test_random_bytes_may_be_flipped(void **state)
{
    struct damage *damage = *state;
    unsigned char *bytes = copy_of(damage);
    uint32_t dice = 20240229;
    failures = 0;
    for (int i = 0; i < 2000; i++) {
        dice = dice * 1664525 + 1013904223;
        size_t at = (dice >> 8) % damage->size;
        flip(damage, bytes, at, (unsigned char)(1u << (dice >> 5 & 7)));
    }
    free(bytes);
    assert_int_equal(failures, 0);
}

static void test_any_page_or_half_of_it_may_be_zeroed(void **state)
{
    struct damage *damage = *state;
    unsigned char *bytes = copy_of(damage);
    failures = 0;
    for (size_t at = 0; at < damage->size; at += DAMAGE_PAGE / 2)
        for (size_t len = 16; len <= DAMAGE_PAGE; len *= 4) {
            size_t end = at + len < damage->size ? at + len : damage->size;
            memset(bytes + at, 0, end - at);
            try_it(damage, bytes, damage->size, "zeroed", at, (unsigned)len);
            memcpy(bytes + at, damage->good + at, end - at);
        }
    free(bytes);
    assert_int_equal(failures, 0);
}

static void test_the_file_may_end_at_any_page_or_within_it(void **state)
{
    struct damage *damage = *state;
    failures = 0;
    for (size_t at = 0; at < damage->size; at += DAMAGE_PAGE / 2) {
        try_it(damage, damage->good, at, "cut off", at, 0);
        try_it(damage, damage->good, at + 1, "cut off", at + 1, 0);
    }
    assert_int_equal(failures, 0);
}

/* A tombstone whose id is wrong is no tombstone, and in a tree whose ids do not go up it can be
 * neither found by its id nor replaced. That must not keep anybody busy for ever. */
static void test_any_bit_before_the_text_of_a_tombstone_may_be_flipped(void **state)
{
    static const char text[] = "{\"base\":";
    struct damage *damage = *state;
    unsigned char *bytes = copy_of(damage);
    int texts = 0;
    failures = 0;
    for (size_t at = 16; at + sizeof text <= damage->size; at++) {
        if (memcmp(bytes + at, text, sizeof text - 1) != 0)
            continue;
        texts++;
        for (unsigned bit = 0; bit < 16 * 8; bit++)
            flip(damage, bytes, at - 16 + bit / 8, (unsigned char)(1u << bit % 8));
    }
    free(bytes);
    assert_true(texts > 0);
    assert_int_equal(failures, 0);
}

/* ---- Where only the meaning is damaged ------------------------------------------------------- */

/* SQLite knows a table by the number of its first page, and has no other sign of whose it is. */
static void test_rows_of_another_table_are_neither_sent_nor_deleted(void **state)
{
    struct bench *bench = *state;
    static struct rig rig; /* until teardown */
    bench_sql(bench->db, "CREATE TABLE pump(number INTEGER PRIMARY KEY, name TEXT, site TEXT);"
                         "INSERT INTO pump(name, site) VALUES('pump/1', 'a'), ('pump/2', 'b')");
    bench_sql(bench->db, "PRAGMA writable_schema = ON;"
                         "UPDATE sqlite_master SET rootpage ="
                         " (SELECT rootpage FROM sqlite_master WHERE name = 'pump')"
                         " WHERE name = 'outbox_event'");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig_step(&rig), OUTBOX_CORRUPT);
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM pump WHERE name LIKE 'pump/_'"),
                     2);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM pump"), 2);
}

static void test_a_ledger_at_its_limits_can_be_counted_on(void **state)
{
    struct bench *bench = *state;
    static struct rig rig; /* until teardown */
    bench_sql(bench->db,
              "UPDATE outbox_event SET ledger = '{\"base\":-72057594037927936,\"last\":0,'"
              " || '\"delivered\":72057594037927936,\"expired\":0,\"evicted\":0,'"
              " || '\"superseded\":0,\"dead\":0,\"holes\":0}'");
    bench_put(bench, "plant/1", "first");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1);
}

/* Rows with such ids are another writer's; the forwarder moves them away when it meets them. */
static void test_ids_at_the_ends_of_their_type_do_not_overflow_the_statistics(void **state)
{
    struct bench *bench = *state;
    outbox_statistics statistics;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(9223372036854775807, 'late')");
    bench_sql(bench->db, "UPDATE outbox_event SET ledger = '{\"base\":-9,\"last\":0,'"
                         " || '\"delivered\":9,\"expired\":0,\"evicted\":0,\"superseded\":0,'"
                         " || '\"dead\":0,\"holes\":0}' WHERE id = 0");
    assert_int_equal(outbox_stats(bench->box, &statistics), OUTBOX_OK);
    assert_int_equal(statistics.pending, OUTBOX_ID_MAX);
    assert_int_equal(statistics.accepted, statistics.pending + 9);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(-9223372036854775807, 'low')");
    assert_int_equal(outbox_stats(bench->box, &statistics), OUTBOX_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_good_database_is_sent_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_byte_of_any_page_header_may_be_flipped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_random_bytes_may_be_flipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_page_or_half_of_it_may_be_zeroed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_file_may_end_at_any_page_or_within_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_any_bit_before_the_text_of_a_tombstone_may_be_flipped,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_of_another_table_are_neither_sent_nor_deleted,
                                        bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_a_ledger_at_its_limits_can_be_counted_on, bench_open,
                                        bench_close),
        cmocka_unit_test_setup_teardown(
            test_ids_at_the_ends_of_their_type_do_not_overflow_the_statistics, bench_open,
            bench_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
