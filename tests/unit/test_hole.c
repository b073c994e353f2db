/* SPDX-License-Identifier: MIT
 *
 * test_hole.c - a page of the file is damaged: what lies on other pages is still sent, and said so.
 */
#include "support.h"

#include <outbox/capture.h>

#include <stdio.h>
#include <string.h>

enum { EVENTS = 2000, PAGE = 4096 };

static struct rig rig;

static void put_many(struct bench *bench, int count)
{
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++)
        bench_put(bench, "plant/7/temp",
                  "0123456789012345678901234567890123456789012345678901234567890123456789");
    bench_sql(bench->db, "COMMIT");
}

static int64_t damaged; /* where */
static unsigned char sound[PAGE];

static sqlite3_file *file_of(struct bench *bench)
{
    sqlite3_file *file = NULL;
    assert_int_equal(sqlite3_file_control(bench->db, "main", SQLITE_FCNTL_FILE_POINTER, &file),
                     SQLITE_OK);
    return file;
}

/* Turns the page that a query names to garbage, through SQLite's own file. */
static void damage_page(struct bench *bench, const char *sql)
{
    unsigned char garbage[PAGE];
    bench_sql(bench->db, "PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_file *file = file_of(bench);
    damaged = (bench_number(bench->db, sql) - 1) * PAGE;
    memset(garbage, 0xa5, sizeof garbage);
    assert_int_equal(file->pMethods->xRead(file, sound, PAGE, damaged), SQLITE_OK);
    assert_int_equal(file->pMethods->xWrite(file, garbage, PAGE, damaged), SQLITE_OK);
}

/* A leaf of the table. */
static void damage_leaf(struct bench *bench, int number)
{
    char sql[200];
    snprintf(sql, sizeof sql,
             "SELECT pageno FROM dbstat WHERE name = 'outbox_event' AND pagetype = 'leaf'"
             " ORDER BY path LIMIT 1 OFFSET %d",
             number);
    damage_page(bench, sql);
}

static void mend_leaf(struct bench *bench)
{
    sqlite3_file *file = file_of(bench);
    assert_int_equal(file->pMethods->xWrite(file, sound, PAGE, damaged), SQLITE_OK);
}

/* Acks all that is sent; gives the number of different events. */
static int drain(uint32_t ms)
{
    static unsigned char seen[EVENTS + 100];
    int count = 0, from = 0;
    memset(seen, 0, sizeof seen);
    for (uint32_t passed = 0; passed < ms; passed += 100) {
        for (; from < rig.link.sent_count; from++) {
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
            count += seen[rig.link.sent[from].id]++ == 0;
        }
        rig_run(&rig, 100);
    }
    return count;
}

static void test_events_on_other_pages_are_sent_in_order_and_the_hole_is_reported(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    int arrived = drain(30000);
    assert_in_range(arrived, EVENTS - 40, EVENTS - 10);
    int64_t hole = 0;
    for (int i = 1; i < rig.link.sent_count; i++) {
        assert_true(rig.link.sent[i].id > rig.link.sent[i - 1].id);
        assert_int_equal(rig.link.sent[i].previous, rig.link.sent[i - 1].id);
        hole += rig.link.sent[i].id - rig.link.sent[i - 1].id > 1;
    }
    assert_int_equal(hole, 1);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, EVENTS);
    outbox_statistics now = {0};
    outbox_forwarder_stats(bench->forwarder, &now);
    assert_int_equal(now.last_error, OUTBOX_CORRUPT);
    assert_non_null(strstr(now.last_error_text, "cannot be read"));
}

/* The row itself can be read, and what was captured lies on a page of its own. */
static void test_a_change_with_damaged_values_does_not_hold_up_those_behind_it(void **state)
{
    struct bench *bench = *state;
    const outbox_capture capture = {.table = "t", .topic = "t"};
    bench_sql(bench->db, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    assert_int_equal(outbox_capture_add(bench->box, &capture), OUTBOX_OK);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 1), (2, zeroblob(9000)), (3, 3)");
    damage_page(bench,
                "SELECT pageno FROM dbstat WHERE name = 'outbox_event' AND pagetype = 'overflow'"
                " ORDER BY path LIMIT 1");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    assert_int_equal(drain(5000), 2);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_CORRUPT);
    assert_int_equal(bench_number(bench->own, "SELECT count(*) FROM outbox_event WHERE id > 1"), 2);
    rig_stop(&rig);
}

/* [P3] what cannot be settled is not deleted */
static void test_events_behind_a_hole_stay_in_the_file(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain(30000);
    assert_int_equal(bench_number(bench->own, "SELECT count(*) FROM outbox_event WHERE id > 1500"),
                     500);
    outbox_statistics now = {0};
    outbox_forwarder_stats(bench->forwarder, &now);
    assert_in_range(now.sending[OUTBOX_NORMAL].settled_id, 1, 1500);
}

static void test_a_new_connection_goes_on_behind_what_was_sent_beyond_the_hole(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain(30000);
    int before = rig.link.sent_count;
    fake_link_closed(&rig.link, "lost");
    rig_step(&rig);
    rig_reconnect(&rig, 100);
    bench_put(bench, "plant/7/temp", "new");
    outbox_forwarder_committed(bench->forwarder, NULL);
    drain(3000);
    assert_int_equal(rig.link.sent_count, before + 1);
    assert_int_equal(rig.link.sent[before].id, EVENTS + 1);
    assert_int_equal(rig.link.sent[before].previous, EVENTS);
}

/* [P3] [P4] it may have been the memory, or somebody has put the page back */
static void test_where_the_hole_is_mended_all_is_sent_and_settled(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 100);
    drain(30000);
    int before = rig.link.sent_count;
    mend_leaf(bench);
    bench_put(bench, "plant/7/temp", "new"); /* lets go of the page that SQLite has read */
    fake_link_closed(&rig.link, "lost");
    rig_step(&rig);
    rig_reconnect(&rig, 100);
    int arrived = drain(30000);
    assert_int_equal(arrived, EVENTS + 1);
    for (int i = 1; i < rig.link.sent_count; i++)
        assert_true(rig.link.sent[i].previous < rig.link.sent[i].id);
    assert_true(rig.link.sent[before].id > 1);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.delivered, EVENTS + 1);
    assert_int_equal(now.dead_lettered, 0);
    assert_int_equal(now.last_error, OUTBOX_OK);
}

/* [P7] an eviction has passed all that could not leave */
static void test_what_comes_behind_a_hole_that_has_left_is_settled_again(void **state)
{
    struct bench *bench = *state;
    const outbox_config config = {.limits[OUTBOX_NORMAL] = {10, 0, OUTBOX_EVICT_OLDEST}};
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 100);
    drain(30000);
    mend_leaf(bench);
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    put_many(bench, 20);
    outbox_forwarder_committed(bench->forwarder, NULL);
    drain(10000);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.dead_lettered, 0);
    assert_int_equal(now.last_error, OUTBOX_OK);
    assert_int_equal(now.connects, 1);
}

static void test_the_other_lane_is_not_held_up_by_a_hole(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 0); /* even the tombstone cannot be read */
    outbox_event event = {.topic = "u", .lane = OUTBOX_URGENT};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain(5000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_string_equal(rig.link.sent[0].topic, "u");
}

/* [P3] nor is either lane held up by the rows that cannot leave for it */
static void test_a_lane_that_cannot_evict_beside_a_hole_holds_nothing_up(void **state)
{
    struct bench *bench = *state;
    const outbox_config config = {.limits[OUTBOX_NORMAL] = {1500, 0, OUTBOX_EVICT_OLDEST}};
    put_many(bench, EVENTS);
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    damage_leaf(bench, 5);
    outbox_event event = {.topic = "u", .lane = OUTBOX_URGENT};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    assert_in_range(drain(60000), EVENTS - 40, EVENTS + 1);
    assert_string_equal(rig.link.sent[0].topic, "u");
}

/* Lets time pass over a broker that takes everything. */
static void broker(uint32_t ms)
{
    static int from;
    if (from > rig.link.sent_count)
        from = 0;
    for (uint32_t passed = 0; passed < ms; passed += 100) {
        if (rig.link.is_open && rig.link.answered != rig.link.opens)
            fake_link_opened(&rig.link, 100);
        rig_run(&rig, 50);
        for (; from < rig.link.sent_count && rig.link.is_open; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 50);
    }
}

/* [batch-1] what stays behind a hole is no reason to connect */
static void test_events_that_stay_behind_a_hole_do_not_open_the_link_again(void **state)
{
    struct bench *bench = *state;
    put_many(bench, EVENTS);
    damage_leaf(bench, 20);
    rig_start(&rig, bench, &(outbox_forwarder_config){.batch_events = 10});
    broker(30000);
    assert_in_range(rig.link.sent_count, EVENTS - 40, EVENTS + 300);
    assert_in_range(rig.link.opens, 1, 2);
    for (int i = 0; i < 10; i++)
        bench_put(bench, "plant/7/temp", "new");
    outbox_forwarder_committed(bench->forwarder, NULL);
    broker(3000);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, EVENTS + 10);
    assert_in_range(rig.link.opens, 2, 3);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){EVENTS + 10, 0});
    broker(10000);
    assert_in_range(rig.link.opens, 2, 4);
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    if (bench->forwarder)
        rig_stop(&rig);
    return bench_close(state);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, bench_open, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_events_on_other_pages_are_sent_in_order_and_the_hole_is_reported),
        CASE(test_a_change_with_damaged_values_does_not_hold_up_those_behind_it),
        CASE(test_events_behind_a_hole_stay_in_the_file),
        CASE(test_a_new_connection_goes_on_behind_what_was_sent_beyond_the_hole),
        CASE(test_where_the_hole_is_mended_all_is_sent_and_settled),
        CASE(test_what_comes_behind_a_hole_that_has_left_is_settled_again),
        CASE(test_the_other_lane_is_not_held_up_by_a_hole),
        CASE(test_a_lane_that_cannot_evict_beside_a_hole_holds_nothing_up),
        CASE(test_events_that_stay_behind_a_hole_do_not_open_the_link_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
