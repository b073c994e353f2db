/* SPDX-License-Identifier: MIT
 *
 * test_epoch.c - a new epoch that the application asks for: who carries it, who follows it, and
 * that no power cut takes it back.
 */
#include "shim_vfs.h"
#include "support.h"

#include <string.h>

static struct rig rig;

static int64_t epochs(struct bench *bench)
{
    return bench_number(bench->db, "SELECT count(*) FROM outbox_epoch");
}

static void new_epoch(struct bench *bench)
{
    if (outbox_new_epoch(bench->box) != OUTBOX_OK)
        fail_msg("new epoch: %s", outbox_errmsg(bench->box));
}

static void expect_source(const struct fake_sent *sent, sqlite3 *db, const char *sql)
{
    char *epoch = bench_text(db, sql);
    if (!strstr(sent->source, epoch))
        fail_msg("event %d came from %s, not under %s", (int)sent->id, sent->source, epoch);
    sqlite3_free(epoch);
}

#define OLD_EPOCH "SELECT epoch FROM outbox_epoch WHERE lane = 'normal' ORDER BY first LIMIT 1"
#define NEW_EPOCH "SELECT epoch FROM outbox_epoch WHERE lane = 'normal' ORDER BY first DESC LIMIT 1"

static void rest(struct bench *bench)
{
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 100);
}

/* [epoch-1] [P6] */
static void test_later_events_carry_a_new_epoch_and_pending_ones_keep_theirs(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "1");
    bench_put(bench, "a", "2");
    new_epoch(bench);
    bench_put(bench, "a", "3");
    bench_put(bench, "a", "4");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, 4);
    expect_source(&rig.link.sent[1], bench->db, OLD_EPOCH);
    expect_source(&rig.link.sent[2], bench->db, NEW_EPOCH);
    expect_source(&rig.link.sent[3], bench->db, NEW_EPOCH);
    assert_int_equal(rig.link.sent[2].previous, 0);
    assert_int_equal(rig.link.sent[3].previous, 3);
    assert_string_not_equal(rig.link.sent[1].source, rig.link.sent[2].source);
}

static int last_sent(const char *lane, int64_t id)
{
    for (int i = rig.link.sent_count - 1; i >= 0; i--)
        if (rig.link.sent[i].id == id && strstr(rig.link.sent[i].source, lane))
            return i;
    return -1;
}

/* [P5] else a recipient could not tell that the refused one is still to come */
static void test_a_new_epoch_waits_until_the_old_one_is_acked(void **state)
{
    struct bench *bench = *state;
    outbox_event urgent = {.topic = "a", .lane = OUTBOX_URGENT};
    bench_put(bench, "a", "1");
    bench_put(bench, "a", "2");
    new_epoch(bench);
    bench_put(bench, "a", "3");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(outbox_put(bench->box, &urgent, NULL), OUTBOX_OK);
    rest(bench);
    assert_int_equal(rig.link.sent_count, 3); /* the other lane goes on */
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0);
    rig_run(&rig, 1100);
    assert_int_equal(rig.link.sent_count, 3);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x97);
    rig_run(&rig, 10);
    rig_reconnect(&rig, 10);
    rig_run(&rig, 10);
    int from = 3;
    for (int quiet = 0; quiet < 3; quiet++) {
        for (; from < rig.link.sent_count; from++, quiet = 0)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 1100);
    }
    int last = last_sent("/normal/", 3);
    assert_true(last > last_sent("/normal/", 2) && last_sent("/normal/", 2) > 2);
    expect_source(&rig.link.sent[last], bench->db, NEW_EPOCH);
}

/* [epoch-1] */
static void test_a_new_epoch_begins_in_each_lane_behind_its_last_event(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "1");
    bench_sql(bench->db, "INSERT INTO outbox_urgent(id, topic) VALUES(7, 'a')");
    new_epoch(bench);
    assert_int_equal(
        bench_number(bench->db, "SELECT max(first) FROM outbox_epoch WHERE lane = 'normal'"), 2);
    assert_int_equal(
        bench_number(bench->db, "SELECT max(first) FROM outbox_epoch WHERE lane = 'urgent'"), 8);
}

/* [epoch-1] behind the tombstone, which is the last event that there was */
static void test_a_new_epoch_of_an_empty_lane_begins_behind_the_tombstone(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "1");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    new_epoch(bench);
    assert_int_equal(
        bench_number(bench->db, "SELECT max(first) FROM outbox_epoch WHERE lane = 'normal'"), 2);
    assert_int_equal(epochs(bench), 3); /* in the urgent lane nothing ever was under the old one */
}

/* [epoch-1] */
static void test_a_running_forwarder_follows_a_new_epoch(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    bench_put(bench, "a", "1");
    rest(bench);
    new_epoch(bench);
    bench_put(bench, "a", "2");
    rig_ack_from(&rig, 0);
    rest(bench);
    assert_int_equal(rig.link.sent_count, 2);
    expect_source(&rig.link.sent[0], bench->db, OLD_EPOCH);
    expect_source(&rig.link.sent[1], bench->db, NEW_EPOCH);
    rig_ack_from(&rig, 1);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_int_equal(rig.link.closes, 0);
}

/* The events behind the backup were acked, and not settled yet. */
static void restore_under_the_forwarder(struct bench *bench)
{
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "before");
    rest(bench);
    for (int i = 0; i < 5; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, 0);
    rig_step(&rig);
    bench_sql(bench->db, "DELETE FROM outbox_event WHERE id > 2");
    new_epoch(bench);
}

/* [epoch-1] else their ids would be taken for those that were acked before */
static void test_events_under_ids_that_the_forwarder_has_passed_are_sent_all_the_same(void **state)
{
    struct bench *bench = *state;
    restore_under_the_forwarder(bench);
    bench_put(bench, "a", "after");
    bench_put(bench, "a", "after");
    rig_run(&rig, 2500);
    rig_reconnect(&rig, 10);
    rig_ack_from(&rig, 5);
    rig_ack_from(&rig, 5);
    const struct fake_sent *last = &rig.link.sent[rig.link.sent_count - 1];
    assert_int_equal(last->id, 4);
    assert_non_null(strstr(last->payload, "after"));
    expect_source(last, bench->db, NEW_EPOCH);
    assert_int_equal(rig_stats(&rig).delivered, 4);
    assert_int_equal(rig_stats(&rig).dead_lettered, 0);
}

/* [epoch-1] no settle may let them leave either */
static void test_a_settle_does_not_take_new_events_for_those_that_were_acked(void **state)
{
    struct bench *bench = *state;
    restore_under_the_forwarder(bench);
    for (int i = 0; i < 3; i++)
        bench_put(bench, "a", "after");
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){5, 0});
    rig_step(&rig);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE payload = 'after'"), 3);
}

/* [epoch-1] [P2] what was proved of an id belongs to the event that had it then */
static void test_claims_from_before_a_new_epoch_do_not_spare_the_barrier(void **state)
{
    struct bench *bench = *state;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "before");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){5, 0});
    rig_run(&rig, 100);
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).barriers, 0);
    /* the backup is one that knows of all that was settled, and of nothing behind it */
    bench_sql(bench->db, "PRAGMA synchronous = NORMAL");
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){1000, 0});
    new_epoch(bench);
    bench_put(bench, "a", "after");
    rest(bench);
    assert_int_equal(rig.link.sent_count, 6);
    assert_int_equal(rig_stats(&rig).barriers, 1);
}

/* ---- Durable --------------------------------------------------------------------------------- */

struct below {
    sqlite3 *db;
    outbox *box;
};

/* An application at synchronous=NORMAL on a disk that is known. */
static struct below attach_below(struct bench *bench)
{
    struct below below = {0};
    shim_vfs_start();
    below.db = shim_vfs_connect(bench->path);
    bench_sql(below.db, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
    assert_int_equal(outbox_attach(below.db, NULL, &below.box), OUTBOX_OK);
    return below;
}

static void detach_below(struct below *below)
{
    outbox_detach(below->box);
    assert_int_equal(sqlite3_close(below->db), SQLITE_OK);
    shim_vfs_stop();
}

/* [epoch-2] */
static void test_a_new_epoch_is_on_disk_when_the_call_returns(void **state)
{
    struct below below = attach_below(*state);
    assert_int_equal(outbox_new_epoch(below.box), OUTBOX_OK);
    assert_int_equal(shim_vfs_at_risk(), 0);
    detach_below(&below);
}

/* [epoch-2] [epoch-3] the pages of a sync that failed may be lost without another one telling */
static void test_a_new_epoch_whose_sync_failed_is_told_and_written_again_by_the_next(void **state)
{
    struct below below = attach_below(*state);
    shim_vfs.fail_syncs = 1;
    assert_int_equal(outbox_new_epoch(below.box), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(below.box), "syncing"));
    assert_true(sqlite3_get_autocommit(below.db));
    assert_int_equal(outbox_new_epoch(below.box), OUTBOX_OK);
    assert_int_equal(shim_vfs_at_risk(), 0);
    detach_below(&below);
}

/* [epoch-2] */
static void test_a_new_epoch_is_refused_where_its_commit_would_not_be_durable(void **state)
{
    static const struct {
        const char *journal, *synchronous;
        int code;
    } cases[] = {
        {"WAL", "NORMAL", OUTBOX_OK},           {"WAL", "FULL", OUTBOX_OK},
        {"DELETE", "EXTRA", OUTBOX_OK},         {"DELETE", "FULL", OUTBOX_NOT_DURABLE},
        {"TRUNCATE", "FULL", OUTBOX_OK},        {"TRUNCATE", "NORMAL", OUTBOX_NOT_DURABLE},
        {"PERSIST", "FULL", OUTBOX_OK},         {"PERSIST", "OFF", OUTBOX_NOT_DURABLE},
        {"MEMORY", "FULL", OUTBOX_NOT_DURABLE},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench_reopen(bench, cases[i].journal, cases[i].synchronous);
        bench_put(bench, "a", "b");
        int64_t before = epochs(bench);
        assert_int_equal(outbox_new_epoch(bench->box), cases[i].code);
        assert_int_equal(epochs(bench) > before, cases[i].code == OUTBOX_OK);
    }
}

/* ---- Refused --------------------------------------------------------------------------------- */

/* [epoch-3] */
static void test_a_new_epoch_inside_a_transaction_is_refused(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_new_epoch(bench->box), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "transaction"));
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(epochs(bench), 2);
}

/* [epoch-3] */
static void test_a_new_epoch_needs_a_handle_whose_connection_is_open(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(outbox_new_epoch(NULL), OUTBOX_MISUSE);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    assert_int_equal(outbox_new_epoch(bench->box), OUTBOX_CLOSED);
    bench->db = NULL;
}

/* [epoch-3] */
static void test_no_new_epoch_begins_while_another_connection_writes(void **state)
{
    struct bench *bench = *state;
    sqlite3 *other = bench_connect(bench);
    bench_put(bench, "a", "b");
    bench_sql(other, "BEGIN IMMEDIATE");
    assert_int_equal(outbox_new_epoch(bench->box), OUTBOX_BUSY);
    assert_true(sqlite3_get_autocommit(bench->db));
    bench_sql(other, "ROLLBACK");
    assert_int_equal(epochs(bench), 2);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void test_a_new_epoch_leaves_the_last_insert_rowid(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    sqlite3_set_last_insert_rowid(bench->db, 77);
    new_epoch(bench);
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 77);
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
        CASE(test_later_events_carry_a_new_epoch_and_pending_ones_keep_theirs),
        CASE(test_a_new_epoch_waits_until_the_old_one_is_acked),
        CASE(test_a_new_epoch_begins_in_each_lane_behind_its_last_event),
        CASE(test_a_new_epoch_of_an_empty_lane_begins_behind_the_tombstone),
        CASE(test_a_running_forwarder_follows_a_new_epoch),
        CASE(test_events_under_ids_that_the_forwarder_has_passed_are_sent_all_the_same),
        CASE(test_a_settle_does_not_take_new_events_for_those_that_were_acked),
        CASE(test_claims_from_before_a_new_epoch_do_not_spare_the_barrier),
        CASE(test_a_new_epoch_is_on_disk_when_the_call_returns),
        CASE(test_a_new_epoch_whose_sync_failed_is_told_and_written_again_by_the_next),
        CASE(test_a_new_epoch_is_refused_where_its_commit_would_not_be_durable),
        CASE(test_a_new_epoch_inside_a_transaction_is_refused),
        CASE(test_a_new_epoch_needs_a_handle_whose_connection_is_open),
        CASE(test_no_new_epoch_begins_while_another_connection_writes),
        CASE(test_a_new_epoch_leaves_the_last_insert_rowid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
