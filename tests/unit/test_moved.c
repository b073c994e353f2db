/* SPDX-License-Identifier: MIT
 *
 * test_moved.c - a database file that is moved away, replaced or deleted while it is open.
 *
 * In WAL mode SQLite itself notices nothing: every write succeeds and goes to the file that no name
 * leads to any more. What was settled there was settled nowhere.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct rig rig;

static void put_many(struct bench *bench, int count)
{
    for (int i = 0; i < count; i++)
        bench_put(bench, "plant/7/temp", "warm");
}

static void elsewhere(const struct bench *bench, char path[128])
{
    snprintf(path, 128, "%s.moved", bench->path);
}

static void move_away(const struct bench *bench)
{
    char path[128];
    elsewhere(bench, path);
    assert_int_equal(rename(bench->path, path), 0);
}

static void move_back(const struct bench *bench)
{
    char path[128];
    elsewhere(bench, path);
    assert_int_equal(rename(path, bench->path), 0);
}

static void ack_all(void)
{
    for (int i = 0; i < rig.link.sent_count; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
}

/* [moved-1] */
static void test_nothing_is_sent_from_a_file_that_was_moved_away(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 5);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 2);
    assert_int_equal(rig.link.sent_count, 2);
    move_away(bench);
    rig_run(&rig, 2100);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_MOVED);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "moved"));
    ack_all();
    rig_run(&rig, 10000);
    assert_int_equal(rig.link.sent_count, 2);
    move_back(bench);
}

/* [moved-1] */
static void test_nothing_is_settled_in_a_file_that_was_moved_a_moment_ago(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    move_away(bench);
    ack_all();
    rig_run(&rig, 1100); /* less than from one look to the next */
    assert_int_equal(rig_stats(&rig).pending, 3);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_MOVED);
    rig_stop(&rig); /* not at the end either */
    outbox_statistics now;
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    assert_int_equal(now.pending, 3);
    move_back(bench);
}

static void expect_to_go_on(struct bench *bench)
{
    rig_run(&rig, 2100);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_string_equal(rig_stats(&rig).last_error_text, "");
    put_many(bench, 1);
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_step(&rig);
    ack_all();
    rig_run(&rig, 1100);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    assert_int_equal(rig.link.sent_count, 4);
}

/* [moved-1] */
static void test_all_goes_on_when_the_file_is_back(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    move_away(bench);
    ack_all();
    rig_run(&rig, 60000);
    move_back(bench);
    expect_to_go_on(bench);
}

static void test_another_file_in_its_place_is_not_taken_for_it(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    move_away(bench);
    FILE *file = fopen(bench->path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    ack_all();
    rig_run(&rig, 10000);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_MOVED);
    assert_int_equal(rig_stats(&rig).pending, 3);
    move_back(bench);
    expect_to_go_on(bench);
}

/* SQLite says it by itself there. [moved-1] [put-8] */
static void test_in_delete_mode_a_put_into_a_moved_file_is_refused(void **state)
{
    struct bench *bench = *state;
    outbox_event event = {.topic = "t"};
    bench_reopen(bench, "DELETE", "EXTRA");
    put_many(bench, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    move_away(bench);
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_MOVED);
    ack_all();
    rig_run(&rig, 10000);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_MOVED);
    move_back(bench);
    expect_to_go_on(bench);
}

static void test_a_moved_file_is_reported_once_and_looked_for_calmly(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    rig_start(&rig, bench, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER});
    rig_connect(&rig, 10);
    move_away(bench);
    ack_all();
    rig_run(&rig, 1100);
    int steps = 0, warnings = rig.port.warnings;
    for (uint32_t passed = 0; passed < 60000; passed += rig.next_ms, steps++) {
        rig_step(&rig);
        rig.port.now_ms += rig.next_ms;
    }
    assert_in_range(steps, 25, 40);
    assert_int_equal(rig.port.warnings, warnings);
    assert_int_equal(warnings, 1);
    move_back(bench);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_is_sent_from_a_file_that_was_moved_away),
        CASE(test_nothing_is_settled_in_a_file_that_was_moved_a_moment_ago),
        CASE(test_all_goes_on_when_the_file_is_back),
        CASE(test_another_file_in_its_place_is_not_taken_for_it),
        CASE(test_in_delete_mode_a_put_into_a_moved_file_is_refused),
        CASE(test_a_moved_file_is_reported_once_and_looked_for_calmly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
