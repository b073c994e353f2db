/* SPDX-License-Identifier: MIT
 *
 * test_sync.c - the database's file seen from below: syncs of the WAL that fail, and locks that are
 * held. A sync that succeeds after one that failed says nothing of the pages that the failed one was
 * for (the kernel may have dropped them), so no event may be sent on its word.
 */
#include "shim_vfs.h"
#include "support.h"

static struct rig rig;
static sqlite3 *writer; /* an application at synchronous=NORMAL, through the shim */

static int set_up(void **state)
{
    if (bench_open(state) != 0)
        return -1;
    struct bench *bench = *state;
    shim_vfs_start();
    writer = shim_vfs_connect(bench->path);
    bench_sql(writer, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
    bench->own = shim_vfs_connect(bench->path);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    outbox_forwarder_close(bench->forwarder);
    bench->forwarder = NULL;
    int own = sqlite3_close(bench->own), other = sqlite3_close(writer);
    bench->own = NULL;
    shim_vfs_stop();
    return bench_close(state) == 0 && own == SQLITE_OK && other == SQLITE_OK ? 0 : -1;
}

static void expect_all_on_disk(void *context)
{
    (void)context;
    assert_int_equal(shim_vfs_at_risk(), 0);
}

static void start(void **state, const outbox_forwarder_config *config)
{
    rig_start(&rig, *state, config);
    rig.link.on_publish = expect_all_on_disk;
    rig_connect(&rig, 10);
}

static void write_event(void)
{
    bench_sql(writer, "INSERT INTO outbox_event(topic, payload) VALUES('a', 'b')");
}

static void test_a_barrier_syncs_what_others_wrote(void **state)
{
    start(state, NULL);
    write_event();
    assert_true(shim_vfs_at_risk() > 0);
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(shim_vfs.syncs, 1);
}

/* [P2] */
static void test_a_wal_whose_sync_failed_is_written_anew_before_anything_is_sent(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    write_event();
    shim_vfs.fail_syncs = 1;
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).barriers, 1);
    write_event();
    rig_run(&rig, 1100);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    char *verdict = bench_text(bench->db, "PRAGMA integrity_check");
    assert_string_equal(verdict, "ok");
    sqlite3_free(verdict);
}

static void test_a_healthy_wal_is_written_anew_only_once(void **state)
{
    start(state, NULL);
    shim_vfs.fail_syncs = 1;
    write_event();
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 1);
    int writes = shim_vfs.writes;
    for (int i = 0; i < 3; i++) {
        write_event();
        rig_run(&rig, 1100);
    }
    assert_int_equal(rig.link.sent_count, 4);
    assert_in_range(shim_vfs.writes - writes, 3, 20); /* of the writer alone */
}

/* [P9] nothing is written to a disk that does not even take a sync */
static void test_while_syncs_fail_nothing_is_sent_and_nothing_written(void **state)
{
    start(state, NULL);
    write_event();
    int writes = shim_vfs.writes;
    shim_vfs.fail_syncs = 1000;
    rig_run(&rig, 20000);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(shim_vfs.writes, writes);
    assert_in_range(shim_vfs.syncs, 10, 30);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    shim_vfs.fail_syncs = 0;
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 1);
}

static void test_a_rewrite_whose_own_sync_fails_proves_nothing(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    shim_vfs.fail_syncs = 1;
    write_event();
    rig_run(&rig, 1100);
    /* The next sync succeeds; the one behind the rewriting fails. */
    bench_sql(writer, "BEGIN IMMEDIATE");
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 0);
    bench_sql(writer, "COMMIT");
    shim_vfs.fail_syncs = 1;
    rig_run(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 2);
}

/* The claim is for what that commit wrote, not for what another writer's commit lost. */
static void test_a_durable_commit_does_not_make_up_for_a_sync_that_failed(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    shim_vfs.fail_syncs = 1;
    write_event();
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 0);
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){1, 0});
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 1);
}

static void test_a_checkpoint_whose_sync_failed_leaves_the_wal_in_doubt(void **state)
{
    start(state, &(outbox_forwarder_config){.checkpoint_frames = 1, .settle_batch = 1});
    write_event();
    write_event();
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 2);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig); /* settles one, unsynced */
    shim_vfs.fail_syncs = 1;
    for (int i = 0; i < 20 && shim_vfs.fail_syncs > 0; i++) {
        fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
        rig_run(&rig, 500);
    }
    assert_int_equal(shim_vfs.fail_syncs, 0);
    assert_true(shim_vfs_at_risk() > 0);
    write_event();
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 3); /* expect_all_on_disk() was there */
}

static void test_a_barrier_leaves_a_claim_that_reaches_further(void **state)
{
    struct bench *bench = *state;
    start(state, &(outbox_forwarder_config){.window = 1, .settle_batch = 1, .settle_quiet_ms = 1});
    rig.link.on_publish = NULL; /* our settles may be undone */
    shim_vfs.fail_syncs = 1;
    write_event();
    rig_run(&rig, 1100);
    for (int i = 1; i < 40; i++)
        write_event();
    bench_sql(writer, "PRAGMA synchronous = FULL");
    write_event();
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){41, 0});
    for (int i = 0; i < 41; i++) {
        rig_run(&rig, 1100);
        assert_int_equal(rig.link.sent_count, i + 1);
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    }
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

/* ---- A file that cannot be written any more ----------------------------------------------------- */

/* [readonly-1] */
static void test_what_was_acked_waits_until_the_file_can_be_written_again(void **state)
{
    start(state, NULL);
    write_event();
    write_event();
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 2);
    shim_vfs.is_read_only = true;
    for (int i = 0; i < 2; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 20000);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_READONLY);
    assert_int_equal(rig_stats(&rig).pending, 2);
    assert_int_equal(rig_stats(&rig).in_flight, 0);
    assert_int_equal(rig.port.warnings, 1);
    shim_vfs.is_read_only = false;
    rig_run(&rig, 1100);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig.link.sent_count, 2);
}

/* ---- A lock that is held while the forwarder closes ------------------------------------------------- */

static void commit_after_200_ms(void *context)
{
    struct bench *bench = context;
    if (shim_vfs.slept_ms >= 200 && !sqlite3_get_autocommit(bench->db))
        bench_sql(bench->db, "COMMIT");
}

static void close_while_the_lock_is_held(void **state)
{
    struct bench *bench = *state;
    start(state, NULL);
    write_event();
    rig_run(&rig, 1100);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    bench_sql(bench->db, "BEGIN IMMEDIATE");
    shim_vfs.slept_ms = 0;
    rig_stop(&rig);
}

/* [close-1] */
static void test_close_waits_for_a_lock_that_is_given_back_soon(void **state)
{
    struct bench *bench = *state;
    shim_vfs.on_sleep = commit_after_200_ms;
    shim_vfs.on_sleep_context = bench;
    close_while_the_lock_is_held(state);
    assert_int_equal(bench_number(bench->db, "SELECT ledger->>'delivered' FROM outbox_event"), 1);
}

/* [close-1] */
static void test_close_does_not_wait_for_a_lock_much_longer_than_a_second(void **state)
{
    struct bench *bench = *state;
    close_while_the_lock_is_held(state);
    assert_in_range(shim_vfs.slept_ms, 500, 1100);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_barrier_syncs_what_others_wrote),
        CASE(test_a_wal_whose_sync_failed_is_written_anew_before_anything_is_sent),
        CASE(test_a_healthy_wal_is_written_anew_only_once),
        CASE(test_while_syncs_fail_nothing_is_sent_and_nothing_written),
        CASE(test_a_rewrite_whose_own_sync_fails_proves_nothing),
        CASE(test_a_durable_commit_does_not_make_up_for_a_sync_that_failed),
        CASE(test_a_checkpoint_whose_sync_failed_leaves_the_wal_in_doubt),
        CASE(test_a_barrier_leaves_a_claim_that_reaches_further),
        CASE(test_what_was_acked_waits_until_the_file_can_be_written_again),
        CASE(test_close_waits_for_a_lock_that_is_given_back_soon),
        CASE(test_close_does_not_wait_for_a_lock_much_longer_than_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
