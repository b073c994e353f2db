/* SPDX-License-Identifier: MIT
 *
 * test_full.c - a full disk as the forwarder meets it: a WAL that cannot grow, a journal without
 * room.
 */
#include "shim_vfs.h"
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct rig rig;

static int set_up(void **state)
{
    if (bench_open(state) != 0)
        return -1;
    shim_vfs_start();
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    outbox_forwarder_close(bench->forwarder);
    bench->forwarder = NULL;
    int own = sqlite3_close(bench->own);
    bench->own = NULL;
    shim_vfs_stop();
    return bench_close(state) == 0 && own == SQLITE_OK ? 0 : -1;
}

/* Some four of these fill a page. */
static void put_many(struct bench *bench, int count)
{
    char payload[900];
    memset(payload, 'x', sizeof payload);
    payload[sizeof payload - 1] = '\0';
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++)
        bench_put(bench, "t", payload);
    bench_sql(bench->db, "COMMIT");
}

static void send_all(struct bench *bench, int count)
{
    put_many(bench, count);
    bench->own = shim_vfs_connect(bench->path);
    rig_start(&rig, bench, &(outbox_forwarder_config){.window = 1000, .settle_batch = 256});
    rig_connect(&rig, 1000);
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, count);
    for (int i = 0; i < count; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
}

/* [full-1] */
static void test_a_journal_with_little_room_takes_few_rows_at_once(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    send_all(bench, 200);
    shim_vfs.journal_room = 30000; /* seven pages */
    rig_run(&rig, 3000);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.delivered, 200);
    assert_in_range(now.settles, 8, 200);
    assert_int_equal(now.last_error, OUTBOX_OK);
    assert_in_range(rig.port.warnings, 1, 3);
}

static void test_after_a_while_with_room_as_many_rows_as_before_are_settled_at_once(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    send_all(bench, 200);
    shim_vfs.journal_room = 30000;
    rig_run(&rig, 3000);
    shim_vfs.journal_room = 0;
    for (int i = 0; i < 12; i++) {
        rig_run(&rig, 2000);
        int from = rig.link.sent_count;
        put_many(bench, 1);
        outbox_forwarder_committed(bench->forwarder, NULL);
        rig_step(&rig);
        rig_ack_from(&rig, from);
    }
    uint64_t before = rig_stats(&rig).settles;
    int from = rig.link.sent_count;
    put_many(bench, 200);
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 100);
    rig_ack_from(&rig, from);
    assert_int_equal(rig_stats(&rig).pending, 0);
    assert_int_equal(rig_stats(&rig).settles - before, 1);
}

static void test_not_even_one_row_is_reported_and_tried_calmly(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    send_all(bench, 20);
    shim_vfs.journal_room = 100;
    rig_run(&rig, 100);
    int steps = 0;
    for (uint32_t passed = 0; passed < 60000; passed += rig.next_ms, steps++) {
        rig_step(&rig);
        rig.port.now_ms += rig.next_ms;
    }
    assert_in_range(steps, 30, 200);
    assert_int_equal(rig_stats(&rig).pending, 20);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_DISK_FULL);
    shim_vfs.journal_room = 0;
    rig_run(&rig, 3000);
    assert_int_equal(rig_stats(&rig).delivered, 20);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static sqlite3_int64 wal_size(const struct bench *bench)
{
    char path[128];
    struct stat about;
    snprintf(path, sizeof path, "%s-wal", bench->path);
    assert_int_equal(stat(path, &about), 0);
    return about.st_size;
}

/* Nobody else would checkpoint: the application cannot commit. [full-1] */
static void test_a_wal_that_cannot_grow_is_begun_anew(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA wal_autocheckpoint = 0");
    send_all(bench, 100);
    sqlite3_int64 full = wal_size(bench);
    shim_vfs.wal_room = full;
    rig_run(&rig, 5000);
    assert_int_equal(rig_stats(&rig).delivered, 100);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(wal_size(bench), full);
    put_many(bench, 10);
    assert_int_equal(wal_size(bench), full);
}

/* What is not urgent, and fails, must not be tried first each time. [full-1] */
static void test_drops_that_cannot_be_announced_do_not_keep_the_wal_full(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA wal_autocheckpoint = 0");
    put_many(bench, 100);
    bench_sql(bench->db, "UPDATE outbox_event SET expires = 1 WHERE id IN (1, 2)");
    bench->own = shim_vfs_connect(bench->path);
    rig_start(&rig, bench, &(outbox_forwarder_config){.window = 50, .announce_topic = "drops"});
    rig_connect(&rig, 50);
    for (int i = 0; i < 48; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 1);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){50, 0});
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).expired, 2);
    shim_vfs.wal_room = wal_size(bench);
    for (int from = 48; from < 98; from++)
        fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
    rig_run(&rig, 60000);
    assert_int_equal(rig_stats(&rig).delivered, 98);
}

/* A reader keeps the WAL; nothing spins, and it goes on behind him. */
static void test_a_full_wal_under_a_reader_is_tried_again_calmly(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA wal_autocheckpoint = 0");
    send_all(bench, 100);
    shim_vfs.wal_room = wal_size(bench);
    sqlite3 *reader = bench_connect(bench);
    bench_sql(reader, "BEGIN; SELECT * FROM reading");
    int steps = 0;
    for (uint32_t passed = 0; passed < 60000; passed += rig.next_ms, steps++) {
        rig_step(&rig);
        rig.port.now_ms += rig.next_ms;
    }
    assert_in_range(steps, 30, 300);
    assert_int_equal(rig_stats(&rig).pending, 100);
    assert_int_equal(sqlite3_close(reader), SQLITE_OK);
    rig_run(&rig, 5000);
    assert_int_equal(rig_stats(&rig).delivered, 100);
}

static void test_what_is_said_to_work_again_is_tried_at_the_next_step(void **state)
{
    struct bench *bench = *state;
    send_all(bench, 20);
    shim_vfs.wal_room = wal_size(bench);
    for (int i = 0; i < 20 && rig_step(&rig) != OUTBOX_DISK_FULL; i++)
        rig.port.now_ms += rig.next_ms;
    shim_vfs.wal_room = 0;
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).pending, 20);
    outbox_forwarder_retry(bench->forwarder);
    assert_int_equal(rig_step(&rig), OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_journal_with_little_room_takes_few_rows_at_once),
        CASE(test_after_a_while_with_room_as_many_rows_as_before_are_settled_at_once),
        CASE(test_not_even_one_row_is_reported_and_tried_calmly),
        CASE(test_a_wal_that_cannot_grow_is_begun_anew),
        CASE(test_drops_that_cannot_be_announced_do_not_keep_the_wal_full),
        CASE(test_a_full_wal_under_a_reader_is_tried_again_calmly),
        CASE(test_what_is_said_to_work_again_is_tried_at_the_next_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
