/* SPDX-License-Identifier: MIT
 *
 * test_sync.c - the database's file seen from below: syncs of the WAL that fail, and locks that are
 * held. A sync that succeeds after one that failed says nothing of the pages that the failed one
 * was for (the kernel may have dropped them), so no event may be sent on its word.
 */
#include "shim_vfs.h"
#include "support.h"

#include <stdio.h>
#include <string.h>

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

/* ---- A file that cannot be written any more -------------------------------------------------- */

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

/* ---- A rewriting that does not come to its end ----------------------------------------------- */

/* An event waits, the WAL is in doubt, and the next attempt will rewrite it. */
static void begin_in_doubt(void **state)
{
    start(state, NULL);
    write_event();
    write_event();
    shim_vfs.fail_syncs = 1;
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 0);
    assert_true(shim_vfs_at_risk() > 0);
}

/* [P2] expect_all_on_disk() is there when they go */
static void expect_sent_once_it_works(void)
{
    assert_int_equal(rig.link.sent_count, 0);
    rig_run(&rig, 4000);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).barriers, 1);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

/* [P9] the header, the frames' own headers, the pages */
static void test_a_rewrite_that_cannot_read_or_write_a_piece_proves_nothing(void **state)
{
    struct bench *bench = *state;
    begin_in_doubt(state);
    for (int n = 1; n <= 4; n++) {
        int *const countdown = n % 2 ? &shim_vfs.fail_reads : &shim_vfs.fail_writes;
        *countdown = n;
        rig_run(&rig, 1000);
        assert_int_equal(*countdown, 0);
        assert_int_equal(rig.link.sent_count, 0);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
        assert_non_null(strstr(rig_stats(&rig).last_error_text, "writing the WAL anew"));
        assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 3);
    }
    expect_sent_once_it_works();
}

static void test_a_wal_whose_size_is_unknown_proves_nothing(void **state)
{
    begin_in_doubt(state);
    shim_vfs.fail_sizes = 1;
    rig_run(&rig, 1000);
    assert_int_equal(shim_vfs.fail_sizes, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    expect_sent_once_it_works();
}

/* The limit is met by the page alone: all else is small, or there already. */
static void test_a_rewrite_without_memory_for_a_page_proves_nothing(void **state)
{
    begin_in_doubt(state);
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + 4000);
    rig_run(&rig, 1000);
    sqlite3_hard_heap_limit64(0);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_NO_MEMORY);
    expect_sent_once_it_works();
}

/* The application has moved everything into the database: the file is empty and proves itself. */
static void test_an_empty_wal_needs_no_rewrite(void **state)
{
    begin_in_doubt(state);
    bench_sql(writer, "PRAGMA wal_checkpoint(TRUNCATE)");
    expect_sent_once_it_works();
}

static void write_header(struct bench *bench, const char page_size[4])
{
    char path[128];
    snprintf(path, sizeof path, "%s-wal", bench->path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 8, SEEK_SET), 0);
    assert_int_equal(fwrite(page_size, 1, 4, file), 4);
    assert_int_equal(fclose(file), 0);
}

/* [P9] somebody has written over it from beside SQLite, which does not read it again while it
 * runs */
static void test_a_wal_with_a_page_size_that_cannot_be_is_not_rewritten(void **state)
{
    struct bench *bench = *state;
    static const char sizes[][4] = {{0, 0, 0, 1}, {127, 0, 0, 0}};
    begin_in_doubt(state);
    for (int i = 0; i < 2; i++) {
        write_header(bench, sizes[i]);
        rig_run(&rig, 1000);
        assert_int_equal(rig.link.sent_count, 0);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_CORRUPT);
    }
    write_header(bench, (const char[4]){0, 0, 16, 0});
    expect_sent_once_it_works();
}

/* ---- Checkpoints ----------------------------------------------------------------------------- */

/* Some settles, all of which wait in the WAL, and nothing that waits to be sent. */
static void begin_with_frames(void **state)
{
    start(state, &(outbox_forwarder_config){
                     .checkpoint_frames = 1, .settle_batch = 1, .foreign_check_ms = OUTBOX_NEVER});
    rig.link.on_publish = NULL; /* our settles may be undone */
    for (int i = 0; i < 4; i++)
        write_event();
    outbox_forwarder_committed(((struct bench *)*state)->forwarder, 0);
    rig_step(&rig);
    for (int i = 0; i < 4; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_run(&rig, 1500); /* the first look, at 1,000 ms, finds what was written before it */
    assert_int_equal(rig_stats(&rig).delivered, 4);
}

/* Frames of the WAL that wait for a checkpoint, asked from beside. */
static int64_t frames_waiting(void)
{
    int frames = 0, moved = 0;
    shim_vfs.busy_checkpoints = 0;
    assert_int_equal(
        sqlite3_wal_checkpoint_v2(writer, "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &moved),
        SQLITE_OK);
    return frames - moved;
}

static int64_t moved_bytes(struct bench *bench)
{
    FILE *file = fopen(bench->path, "rb");
    static char bytes[1 << 17];
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    assert_int_equal(fclose(file), 0);
    int64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (sum * 31 + (unsigned char)bytes[i]) % 1000000007;
    return sum;
}

/* [P8] */
static void test_a_checkpoint_that_meets_another_one_waits_and_is_no_trouble(void **state)
{
    struct bench *bench = *state;
    begin_with_frames(state);
    int64_t before = moved_bytes(bench);
    shim_vfs.busy_checkpoints = 1;
    rig_run(&rig, 600);
    assert_int_equal(shim_vfs.busy_checkpoints, 0);
    assert_int_equal(moved_bytes(bench), before);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_run(&rig, 1000);
    assert_int_not_equal(moved_bytes(bench), before);
}

/* [P7] a reader of an old state keeps it from moving all: it comes back for the rest */
static void test_a_checkpoint_that_a_reader_holds_up_is_tried_again(void **state)
{
    struct bench *bench = *state;
    begin_with_frames(state);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1);
    sqlite3_stmt *reader = NULL;
    assert_int_equal(
        sqlite3_prepare_v2(bench->db, "SELECT * FROM reading, outbox_meta", -1, &reader, NULL),
        SQLITE_OK);
    bench_sql(bench->db, "INSERT INTO reading VALUES(1)");
    assert_int_equal(sqlite3_step(reader), SQLITE_ROW);
    for (int i = 0; i < 3; i++)
        write_event();
    rig_run(&rig, 2500);
    assert_int_equal(sqlite3_finalize(reader), SQLITE_OK);
    rig_run(&rig, 1100);
    assert_int_equal(frames_waiting(), 0);
}

/* [P8] seen only as the checkpoint is about to begin */
static void test_a_writer_that_nobody_told_of_puts_the_checkpoint_off(void **state)
{
    struct bench *bench = *state;
    begin_with_frames(state);
    int64_t before = moved_bytes(bench);
    write_event();
    rig_run(&rig, 600);
    assert_int_equal(moved_bytes(bench), before);
    rig_run(&rig, 1100);
    assert_int_not_equal(moved_bytes(bench), before);
}

static int deny_pragmas(void *context, int action, const char *a, const char *b, const char *c,
                        const char *d)
{
    (void)a, (void)b, (void)c, (void)d;
    return action == SQLITE_PRAGMA ? *(int *)context : SQLITE_OK;
}

/* [P9] whether somebody writes is not known then */
static void test_a_checkpoint_waits_while_the_database_fails(void **state)
{
    struct bench *bench = *state;
    int answer = SQLITE_DENY;
    begin_with_frames(state);
    int64_t before = moved_bytes(bench);
    sqlite3_set_authorizer(bench->own, deny_pragmas, &answer);
    rig_run(&rig, 3000);
    assert_int_equal(moved_bytes(bench), before);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    answer = SQLITE_IGNORE; /* gives no row: nothing was seen */
    sqlite3_set_authorizer(bench->own, deny_pragmas, &answer);
    rig_run(&rig, 3000);
    assert_int_not_equal(moved_bytes(bench), before);
    sqlite3_set_authorizer(bench->own, NULL, NULL);
}

/* [P2] it would move pages into the database that no power cut has to leave whole in the WAL */
static void test_a_checkpoint_of_a_wal_in_doubt_rewrites_it_first(void **state)
{
    struct bench *bench = *state;
    begin_with_frames(state);
    rig.link.on_publish = expect_all_on_disk;
    write_event();
    outbox_forwarder_committed(bench->forwarder, NULL);
    shim_vfs.fail_syncs = 1;
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 4);
    int64_t before = moved_bytes(bench);
    shim_vfs.fail_syncs = 1;
    rig_run(&rig, 1000);
    assert_int_equal(shim_vfs.fail_syncs, 0);
    assert_int_equal(moved_bytes(bench), before);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    rig_run(&rig, 4000);
    assert_int_equal(rig.link.sent_count, 5);
    assert_int_not_equal(moved_bytes(bench), before);
}

/* ---- A VFS of its own mind ------------------------------------------------------------------- */

/* [init-2] a WAL that is kept is a saving, and a VFS need not know of it */
static void test_a_vfs_that_cannot_keep_the_wal_is_taken_and_one_that_fails_is_not(void **state)
{
    static char memory[1 << 20];
    struct bench *bench = *state;
    char sentence[200] = "";
    outbox_forwarder *f = NULL;
    fake_port_init(&rig.port);
    fake_link_init(&rig.link);
    shim_vfs.persist_answer = SQLITE_IOERR;
    assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->own, &rig.link.link,
                                           &rig.port.port, NULL, &f, sentence, sizeof sentence),
                     OUTBOX_SQLITE);
    assert_null(f);
    assert_non_null(strstr(sentence, "keeping the WAL"));
    assert_null(sqlite3_next_stmt(bench->own, NULL));
    shim_vfs.persist_answer = SQLITE_NOTFOUND;
    start(state, NULL);
    write_event();
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 1);
}

/* ---- A journal mode that changes ------------------------------------------------------------- */

/* [step-8] on a connection that is shared: what was read waits for a sync that fails, and then the
 * application leaves WAL */
static void test_events_that_wait_for_a_sync_go_out_once_the_application_leaves_wal(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    bench->box = NULL;
    assert_int_equal(sqlite3_close(bench->own) | sqlite3_close(bench->db), SQLITE_OK);
    bench->own = NULL;
    bench->db = writer;
    writer = NULL;
    rig_start(&rig, bench, &(outbox_forwarder_config){.shared_connection = 1});
    rig_connect(&rig, 10);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic) VALUES('a')");
    shim_vfs.fail_syncs = 1;
    rig_step(&rig);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_SQLITE);
    assert_int_equal(rig.link.sent_count, 0);
    bench_sql(bench->db, "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL");
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_stop(&rig);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
}

/* ---- A lock that is held while the forwarder closes ------------------------------------------ */

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
        CASE(test_what_was_acked_waits_until_the_file_can_be_written_again),
        CASE(test_a_barrier_syncs_what_others_wrote),
        CASE(test_a_wal_whose_sync_failed_is_written_anew_before_anything_is_sent),
        CASE(test_a_healthy_wal_is_written_anew_only_once),
        CASE(test_while_syncs_fail_nothing_is_sent_and_nothing_written),
        CASE(test_a_rewrite_whose_own_sync_fails_proves_nothing),
        CASE(test_a_durable_commit_does_not_make_up_for_a_sync_that_failed),
        CASE(test_a_checkpoint_whose_sync_failed_leaves_the_wal_in_doubt),
        CASE(test_a_barrier_leaves_a_claim_that_reaches_further),
        CASE(test_a_rewrite_that_cannot_read_or_write_a_piece_proves_nothing),
        CASE(test_a_wal_whose_size_is_unknown_proves_nothing),
        CASE(test_a_rewrite_without_memory_for_a_page_proves_nothing),
        CASE(test_an_empty_wal_needs_no_rewrite),
        CASE(test_a_wal_with_a_page_size_that_cannot_be_is_not_rewritten),
        CASE(test_a_checkpoint_that_meets_another_one_waits_and_is_no_trouble),
        CASE(test_a_checkpoint_that_a_reader_holds_up_is_tried_again),
        CASE(test_a_writer_that_nobody_told_of_puts_the_checkpoint_off),
        CASE(test_a_checkpoint_waits_while_the_database_fails),
        CASE(test_a_checkpoint_of_a_wal_in_doubt_rewrites_it_first),
        CASE(test_a_vfs_that_cannot_keep_the_wal_is_taken_and_one_that_fails_is_not),
        CASE(test_events_that_wait_for_a_sync_go_out_once_the_application_leaves_wal),
        CASE(test_close_waits_for_a_lock_that_is_given_back_soon),
        CASE(test_close_does_not_wait_for_a_lock_much_longer_than_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
