/* SPDX-License-Identifier: MIT
 *
 * test_inbox.c - new, duplicate, stale, gap: what the inbox says of each event that a sender may
 * send, and what becomes of that verdict in transactions, on other connections and in damaged
 * files.
 */
#include "support.h"

#include <outbox/inbox.h>

#include <stdio.h>
#include <string.h>

#define A "outbox://pump-7/normal/00000000000000aa"
#define B "outbox://pump-7/normal/00000000000000bb"
#define C "outbox://pump-7/normal/00000000000000cc"
#define URGENT "outbox://pump-7/urgent/00000000000000aa"
#define CLONE "outbox://pump-8/normal/00000000000000dd"
#define FOREIGN "https://example.com/sensors"

static struct bench *bench; /* the recipient's file; it has an outbox too */
static inbox *in;
static inbox_result result;

static inbox_text text(const char *from)
{
    return (inbox_text){from, from ? strlen(from) : 0};
}

static inbox *open_on(sqlite3 *db)
{
    char sentence[256] = "";
    inbox *opened = NULL;
    int code = inbox_open(db, &(inbox_config){sentence, sizeof sentence}, &opened);
    if (code != OUTBOX_OK)
        fail_msg("open: %d: %s", code, sentence);
    return opened;
}

static int setup(void **state)
{
    if (bench_open(state) != 0)
        return -1;
    bench = *state;
    in = open_on(bench->db);
    return 0;
}

static int teardown(void **state)
{
    inbox_close(in);
    in = NULL;
    return bench_close(state);
}

static inbox_event event_of(const char *source, int64_t sequence, int64_t previous)
{
    static char ids[16][24];
    static int next;
    char *id = ids[next++ % 16];
    (void)snprintf(id, sizeof ids[0], "%lld", (long long)sequence);
    return (inbox_event){.source = text(source),
                         .id = text(id),
                         .has_sequence = 1,
                         .has_previous = previous >= 0,
                         .sequence = sequence,
                         .previous = previous >= 0 ? previous : 0};
}

static inbox_verdict judge_with(inbox *with, const inbox_event *event)
{
    int code = inbox_accept(with, event, &result);
    if (code != OUTBOX_OK)
        fail_msg("accept %lld: %d: %s", (long long)event->sequence, code, inbox_errmsg(with));
    return result.verdict;
}

static void expect_event(const inbox_event *event, inbox_verdict verdict)
{
    assert_int_equal(judge_with(in, event), verdict);
    assert_int_equal(result.apply, verdict == INBOX_NEW || verdict == INBOX_NEW_EPOCH);
}

static void expect(const char *source, int64_t sequence, int64_t previous, inbox_verdict verdict)
{
    inbox_event event = event_of(source, sequence, previous);
    expect_event(&event, verdict);
}

/* First `from`, then each that follows up to `to`. */
static void expect_run(const char *source, int64_t from, int64_t to)
{
    for (int64_t n = from; n <= to; n++)
        expect(source, n, n - 1, INBOX_NEW);
}

static void go_on(const char *source, int64_t sequence, int64_t previous, inbox_verdict verdict)
{
    inbox_event event = event_of(source, sequence, previous);
    int code = inbox_skip(in, &event, &result);
    if (code != OUTBOX_OK)
        fail_msg("skip: %s", inbox_errmsg(in));
    assert_int_equal(result.verdict, verdict);
}

static void announce(const char *source, int64_t sequence, int64_t previous, int64_t count,
                     int64_t from, int64_t to, inbox_verdict verdict)
{
    inbox_event event = event_of(source, sequence, previous);
    event.drops = (inbox_drops){text("evicted"), count, from, to};
    expect_event(&event, verdict);
}

static int64_t column(const char *name)
{
    char sql[160];
    (void)snprintf(sql, sizeof sql,
                   "SELECT %s FROM inbox_stream WHERE stream = 'outbox://pump-7/normal'", name);
    return bench_number(bench->db, sql);
}

/* ---- The rule -------------------------------------------------------------------------------- */

/* [accept-3] */
static void test_a_stream_begins_at_the_first_event_that_is_seen(void **state)
{
    (void)state;
    expect(A, 40, 38, INBOX_NEW_EPOCH);
    assert_true(result.first_contact);
    assert_int_equal(result.before, 38);
    assert_int_equal(result.stream.len, strlen("outbox://pump-7/normal"));
    assert_memory_equal(result.stream.bytes, A, result.stream.len);
    assert_int_equal(result.mark, 40);
    assert_int_equal(result.missing_to, 0);
    assert_int_equal(result.passed_over, 0);
    assert_false(result.unproven);
    expect(URGENT, 1, 0, INBOX_NEW_EPOCH);
    assert_true(result.first_contact);
    assert_int_equal(result.before, 0);
    expect(A, 39, 38, INBOX_STALE);
}

/* [accept-1] */
static void test_events_in_order_are_new_and_each_repetition_is_a_duplicate(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect_run(A, 2, 100);
    for (int64_t n = 1; n <= 100; n++)
        expect(A, n, n - 1, INBOX_DUPLICATE);
    assert_int_equal(result.mark, 100);
    expect_run(A, 101, 101);
    assert_int_equal(column("applied"), 101);
    assert_int_equal(column("passed_over"), 0);
}

static void test_numbers_that_the_sender_skips_are_no_gap(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 7, 1, INBOX_NEW);
    assert_int_equal(result.passed_over, 5);
    assert_int_equal(column("passed_over"), 5);
    expect(A, 8, 3, INBOX_NEW); /* `previous` may be older than what arrived here */
}

static void test_a_gap_is_told_with_what_is_missing_and_the_mark_stays(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 5, 4, INBOX_GAP);
    assert_int_equal(result.missing_from, 2);
    assert_int_equal(result.missing_to, 4);
    assert_int_equal(result.mark, 1);
    assert_int_equal(column("mark"), 1);
    expect_run(A, 2, 5);
}

/* The broker refused 4 and took 5 and 6; the sender goes back to 4. */
static void test_a_refused_event_that_is_sent_again_inside_a_window_comes_in_order(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    expect(A, 5, 4, INBOX_GAP);
    expect(A, 6, 5, INBOX_GAP);
    expect_run(A, 4, 6);
    expect(A, 5, 4, INBOX_DUPLICATE);
    assert_int_equal(column("applied"), 4);
}

/* 4 is refused for good: it becomes a dead letter, and those behind it name the one before. */
static void test_a_gap_closes_when_the_missing_event_becomes_a_dead_letter(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    expect(A, 5, 4, INBOX_GAP);
    expect(A, 5, 3, INBOX_NEW);
    assert_int_equal(result.passed_over, 1);
    announce(A, 6, 5, 1, 4, 4, INBOX_NEW);
    assert_int_equal(result.lost, 1);
    assert_int_equal(column("announced"), 1);
    assert_int_equal(column("lost"), 1);
    expect(A, 4, 3, INBOX_STALE); /* on its way since long */
}

/* 4 was refused, 5 seen behind the gap, and then both were evicted before they could be sent
 * again. */
static void test_what_was_seen_behind_a_gap_and_then_evicted_is_lost(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    expect(A, 5, 4, INBOX_GAP);
    expect(A, 6, 3, INBOX_NEW);
    announce(A, 7, 6, 2, 4, 5, INBOX_NEW);
    assert_int_equal(result.lost, 2);
    expect(A, 5, 4, INBOX_STALE);
}

/* Its PUBACK was lost, so the sender takes it for not delivered. */
static void test_an_eviction_of_what_had_arrived_is_not_counted_as_lost(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    expect(A, 4, 3, INBOX_NEW);
    expect(A, 7, 3, INBOX_NEW); /* 4 to 6 were evicted */
    announce(A, 8, 7, 3, 4, 6, INBOX_NEW);
    assert_int_equal(result.lost, 2);
    assert_int_equal(column("announced"), 3);
    assert_int_equal(column("lost"), 2);
}

static void test_ranges_of_several_reasons_that_overlap_count_each_event_once(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 7, 1, INBOX_NEW);
    announce(A, 8, 7, 3, 2, 6, INBOX_NEW);
    announce(A, 9, 8, 2, 3, 5, INBOX_NEW);
    assert_int_equal(column("lost"), 5);
}

/* Only where every number of the range was dropped. */
static void test_an_announcement_that_covers_a_gap_closes_it(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    announce(A, 9, 6, 2, 4, 6, INBOX_GAP); /* one of the three was sent */
    announce(A, 9, 7, 3, 4, 6, INBOX_GAP); /* 7 is missing as well */
    announce(A, 9, 6, 2, 5, 6, INBOX_GAP); /* so is 4 */
    announce(A, 9, 6, 3, 4, 6, INBOX_NEW);
    assert_int_equal(result.lost, 3);
    assert_int_equal(result.mark, 9);
    announce(A, 9, 6, 3, 4, 6, INBOX_DUPLICATE);
    assert_int_equal(column("lost"), 3);
}

static void test_an_announcement_that_cannot_be_true_counts_nothing(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    announce(A, 5, 3, 9, 4, 4, INBOX_NEW);
    announce(A, 6, 5, 1, 5, 4, INBOX_NEW);
    announce(A, 7, 6, -1, 4, 4, INBOX_NEW);
    announce(A, 7, 6, 1, 0, 4, INBOX_DUPLICATE);
    announce(A, 8, 7, 5, 0, 4, INBOX_NEW);
    announce(A, 9, 8, 5, -4, 4, INBOX_NEW);
    announce(A, 10, 9, INT64_MAX, 1, INT64_MAX, INBOX_NEW);
    announce(A, 11, 10, INT64_MAX, 1, INT64_MAX, INBOX_NEW);
    assert_int_equal(column("announced"), INT64_MAX);
    assert_int_equal(column("lost"), 2 * 3); /* 1, 2 and 4, told twice */
}

/* [skip-1] */
static void test_skipping_goes_on_behind_a_gap_that_never_closes(void **state)
{
    (void)state;
    expect(A, 3, 0, INBOX_NEW_EPOCH);
    expect(A, 9, 6, INBOX_GAP);
    go_on(A, 9, 6, INBOX_NEW);
    assert_true(result.apply);
    assert_int_equal(result.missing_from, 4);
    assert_int_equal(result.missing_to, 6);
    assert_int_equal(result.passed_over, 2);
    assert_int_equal(result.mark, 9);
    assert_int_equal(column("forgone"), 3);
    assert_int_equal(column("passed_over"), 2);
    expect(A, 5, 4, INBOX_STALE);
    expect_run(A, 10, 11);
}

/* [skip-2] */
static void test_skipping_where_there_is_no_gap_is_accepting(void **state)
{
    (void)state;
    go_on(A, 3, 2, INBOX_NEW_EPOCH);
    go_on(A, 3, 2, INBOX_DUPLICATE);
    go_on(A, 4, 3, INBOX_NEW);
    go_on(A, 2, 1, INBOX_STALE);
    go_on(B, 5, 0, INBOX_NEW_EPOCH);
    go_on(A, 5, 4, INBOX_STALE);
    assert_int_equal(column("forgone"), 0);
}

/* [inbox-1] more than it can remember: what nobody knows is not called a duplicate */
static void test_what_is_older_than_all_that_is_remembered_is_stale(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    for (int64_t n = 1; n <= INBOX_LATE; n++)
        expect(A, 10 * n, 10 * n - 10 > 0 ? 10 * n - 10 : 1, INBOX_NEW);
    expect(A, 5, 1, INBOX_STALE);
    expect(A, 10, 1, INBOX_DUPLICATE);
    expect(A, 90, 80, INBOX_NEW);
    expect(A, 10, 1, INBOX_STALE);
    expect(A, 85, 80, INBOX_STALE);
    expect(A, 80, 70, INBOX_DUPLICATE);
}

/* ---- Epochs ---------------------------------------------------------------------------------- */

static void test_a_new_epoch_is_applied_and_the_old_one_is_stale_from_then_on(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect_run(A, 2, 5);
    expect(B, 6, 0, INBOX_NEW_EPOCH);
    assert_false(result.first_contact);
    expect(B, 7, 6, INBOX_NEW);
    expect(A, 4, 3, INBOX_STALE);
    expect(A, 5, 4, INBOX_STALE);
    expect(A, 8, 7, INBOX_STALE);
    expect(B, 6, 0, INBOX_DUPLICATE);
    assert_int_equal(column("epochs"), 1);
}

/* A backup was restored, or the file was made anew: its numbers begin again. */
static void test_a_new_epoch_may_give_out_the_same_numbers_again(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 9, 1, INBOX_NEW);
    expect(B, 2, 0, INBOX_NEW_EPOCH);
    expect_run(B, 3, 12);
    for (int64_t n = 2; n <= 12; n++)
        expect(B, n, n - 1, INBOX_DUPLICATE);
    assert_int_equal(column("passed_over"), 7); /* of the first epoch */
}

/* [inbox-2] the first one of the new epoch was refused */
static void test_a_new_epoch_begins_with_its_first_event(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(B, 3, 2, INBOX_GAP);
    assert_int_equal(result.missing_from, 1);
    assert_int_equal(result.missing_to, 2);
    assert_int_equal(result.mark, 1);
    expect(A, 1, 0, INBOX_DUPLICATE); /* the old one is still the current one */
    expect(B, 2, 0, INBOX_NEW_EPOCH);
    expect(B, 3, 2, INBOX_NEW);
}

/* [skip-1] */
static void test_skipping_into_the_middle_of_an_epoch_begins_it_there(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect_run(A, 2, 20);
    go_on(B, 30, 25, INBOX_NEW_EPOCH);
    assert_int_equal(column("forgone"), 5);
    assert_int_equal(column("passed_over"), 4);
    go_on(C, 8, 7, INBOX_NEW_EPOCH);
    assert_int_equal(column("forgone"), 12);
    expect(C, 7, 6, INBOX_STALE);
    expect(C, 9, 8, INBOX_NEW);
    expect(B, 31, 30, INBOX_STALE);
}

/* [inbox-1] */
static void test_the_last_eight_retired_epochs_are_stale_and_older_ones_forgotten(void **state)
{
    char source[64];
    (void)state;
    for (int i = 0; i <= INBOX_RETIRED; i++) {
        (void)snprintf(source, sizeof source, "outbox://pump-7/normal/%016d", i);
        expect(source, i + 1, 0, INBOX_NEW_EPOCH);
    }
    for (int i = 0; i < INBOX_RETIRED; i++) {
        (void)snprintf(source, sizeof source, "outbox://pump-7/normal/%016d", i);
        expect(source, i + 1, 0, INBOX_STALE);
    }
    expect(A, 20, 0, INBOX_NEW_EPOCH);
    expect("outbox://pump-7/normal/0000000000000000", 1, 0, INBOX_NEW_EPOCH);
}

static void test_each_lane_has_an_epoch_and_a_mark_of_its_own(void **state)
{
    (void)state;
    expect(A, 5, 0, INBOX_NEW_EPOCH);
    expect(URGENT, 5, 0, INBOX_NEW_EPOCH);
    expect(B, 6, 0, INBOX_NEW_EPOCH);
    expect(URGENT, 6, 5, INBOX_NEW);
    expect("outbox://pump-7/urgent/00000000000000bb", 7, 0, INBOX_NEW_EPOCH);
    expect(B, 7, 6, INBOX_NEW);
    expect(URGENT, 7, 6, INBOX_STALE);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM inbox_stream"), 2);
}

/* [inbox-2] the copy has events with the very numbers that the original has sent */
static void test_a_copy_under_another_device_name_is_another_stream(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect_run(A, 2, 9);
    expect(CLONE, 4, 0, INBOX_NEW_EPOCH);
    assert_true(result.first_contact);
    for (int64_t n = 5; n <= 12; n++)
        expect(CLONE, n, n - 1, INBOX_NEW);
    expect_run(A, 10, 12);
}

/* Not only what this test thinks that a sender sends: a real outbox, copied, re-identifies its
 * events. */
static void test_a_real_copy_that_gets_another_name_is_not_taken_for_a_duplicate(void **state)
{
    static struct rig rig;
    (void)state;
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "x");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    outbox_detach(bench->box);
    rig_stop(&rig);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.device = "copy"}, &bench->box),
                     OUTBOX_OK);
    int sent = rig.link.sent_count;
    assert_int_equal(sent, 5);
    for (int i = 0; i < sent; i++)
        expect(rig.link.sent[i].source, rig.link.sent[i].id, rig.link.sent[i].previous,
               i == 0 ? INBOX_NEW_EPOCH : INBOX_NEW);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 5);
    for (int i = 0; i < 5; i++)
        expect(rig.link.sent[i].source, rig.link.sent[i].id, rig.link.sent[i].previous,
               i == 0 ? INBOX_NEW_EPOCH : INBOX_NEW);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM inbox_stream"), 2);
    rig_stop(&rig);
}

/* ---- Fire and forget ------------------------------------------------------------------------- */

/* [accept-8] */
static void test_fire_and_forget_events_are_a_stream_without_proof(void **state)
{
    static const char first[] = "outbox://pump-7/unstored/00000000000000aa";
    static const char second[] = "outbox://pump-7/unstored/00000000000000bb";
    (void)state;
    expect(first, 1, -1, INBOX_NEW_EPOCH);
    assert_true(result.unproven);
    expect(first, 2, -1, INBOX_NEW);
    expect(first, 2, -1, INBOX_DUPLICATE);
    expect(first, 5, -1, INBOX_NEW);
    expect(first, 4, -1, INBOX_STALE);
    expect(second, 1, -1, INBOX_NEW_EPOCH);
    expect(first, 6, -1, INBOX_STALE);
    expect(A, 1, 0, INBOX_NEW_EPOCH); /* the stored ones are another stream */
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM inbox_stream"), 2);
}

/* [accept-7] */
static void test_a_stored_event_without_previous_is_refused(void **state)
{
    inbox_event event = event_of(A, 1, -1);
    (void)state;
    assert_int_equal(inbox_accept(in, &event, &result), OUTBOX_BAD_ATTRIBUTE);
    event = event_of("outbox://pump-7/stored-unstored/00000000000000aa", 1, -1);
    assert_int_equal(inbox_accept(in, &event, &result), OUTBOX_BAD_ATTRIBUTE);
}

/* ---- Other senders --------------------------------------------------------------------------- */

/* [accept-5] [accept-6] */
static void test_other_senders_with_a_sequence_are_new_in_ascending_order(void **state)
{
    (void)state;
    expect(FOREIGN, 3, -1, INBOX_NEW_EPOCH);
    assert_true(result.unproven);
    expect(FOREIGN, 9, -1, INBOX_NEW);
    expect(FOREIGN, 9, -1, INBOX_DUPLICATE);
    expect(FOREIGN, 5, -1, INBOX_STALE);
    expect(FOREIGN, 3, -1, INBOX_DUPLICATE);
    expect(FOREIGN, INT64_MAX, -1, INBOX_NEW);
    expect(FOREIGN, INT64_MAX, -1, INBOX_DUPLICATE);
    expect("https://example.com/other", 3, -1, INBOX_NEW_EPOCH);
}

/* [accept-6] */
static void test_of_senders_without_numbers_the_last_id_is_known(void **state)
{
    inbox_event event = {.source = text(FOREIGN), .id = text("b0a1")};
    (void)state;
    expect_event(&event, INBOX_NEW_EPOCH);
    assert_true(result.unproven);
    expect_event(&event, INBOX_DUPLICATE);
    event.id = text("b0a");
    expect_event(&event, INBOX_NEW);
    assert_true(result.unproven);
    expect_event(&event, INBOX_DUPLICATE);
    event.id = text("b0a1"); /* documented: only the last one is known */
    expect_event(&event, INBOX_NEW);
    expect(FOREIGN, 7, -1, INBOX_NEW); /* of a sender that numbers some */
    expect_event(&event, INBOX_DUPLICATE);
    expect(FOREIGN, 7, -1, INBOX_DUPLICATE);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

/* [accept-2] */
static void test_a_rollback_undoes_the_verdict(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    bench_sql(bench->db, "BEGIN IMMEDIATE; INSERT INTO reading VALUES(2)");
    expect(A, 2, 1, INBOX_NEW);
    expect(A, 2, 1, INBOX_DUPLICATE);
    bench_sql(bench->db, "ROLLBACK");
    expect(A, 2, 1, INBOX_NEW);
    bench_sql(bench->db, "BEGIN IMMEDIATE");
    expect(A, 3, 2, INBOX_NEW);
    bench_sql(bench->db, "SAVEPOINT inner");
    expect(A, 4, 3, INBOX_NEW);
    bench_sql(bench->db, "ROLLBACK TO inner; COMMIT");
    expect(A, 4, 3, INBOX_NEW);
    bench_sql(bench->db, "BEGIN");
    expect(B, 5, 0, INBOX_NEW_EPOCH);
    bench_sql(bench->db, "ROLLBACK");
    expect(A, 5, 4, INBOX_NEW);
}

/* [accept-1] */
static void test_without_a_transaction_it_is_one_of_its_own(void **state)
{
    (void)state;
    sqlite3 *other = bench_connect(bench);
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(bench_number(other, "SELECT mark FROM inbox_stream"), 1);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [accept-4] */
static void test_a_verdict_that_does_not_apply_writes_nothing(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(B, 2, 0, INBOX_NEW_EPOCH);
    sqlite3_int64 before = sqlite3_total_changes(bench->db);
    expect(B, 2, 0, INBOX_DUPLICATE);
    expect(A, 1, 0, INBOX_STALE);
    expect(B, 9, 8, INBOX_GAP);
    expect(C, 9, 8, INBOX_GAP);
    assert_int_equal(sqlite3_total_changes(bench->db), before);
    bench_sql(bench->db, "INSERT INTO reading(rowid, value) VALUES(77, 1)");
    expect(B, 3, 2, INBOX_NEW);
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 77);
}

/* [inbox-5] */
static void test_a_restart_goes_on_at_the_mark(void **state)
{
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect_run(A, 2, 3);
    expect(B, 9, 0, INBOX_NEW_EPOCH);
    inbox_close(in);
    outbox_detach(bench->box);
    bench->box = NULL;
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = bench_connect(bench);
    in = open_on(bench->db);
    expect(A, 4, 3, INBOX_STALE);
    expect(B, 9, 0, INBOX_DUPLICATE);
    expect(B, 5, 0, INBOX_STALE);
    expect(B, 10, 9, INBOX_NEW);
}

static void test_two_connections_judge_one_stream_together(void **state)
{
    (void)state;
    sqlite3 *db = bench_connect(bench);
    inbox *other = open_on(db);
    inbox_event first = event_of(A, 1, 0), second = event_of(A, 2, 1), third = event_of(A, 3, 2);
    assert_int_equal(judge_with(in, &first), INBOX_NEW_EPOCH);
    assert_int_equal(judge_with(other, &first), INBOX_DUPLICATE);
    assert_int_equal(judge_with(other, &second), INBOX_NEW);
    assert_int_equal(judge_with(in, &second), INBOX_DUPLICATE);
    bench_sql(db, "BEGIN IMMEDIATE");
    assert_int_equal(judge_with(other, &third), INBOX_NEW);
    assert_int_equal(inbox_accept(in, &third, &result), OUTBOX_BUSY);
    bench_sql(db, "COMMIT");
    assert_int_equal(judge_with(in, &third), INBOX_DUPLICATE);
    inbox_close(other);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- Open and close -------------------------------------------------------------------------- */

/* [inbox-3] [inbox-4] */
static void test_opening_makes_two_tables_and_takes_nothing_of_the_connection(void **state)
{
    (void)state;
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM sqlite_master"
                                             " WHERE name LIKE 'inbox%' AND type = 'table'"),
                     2);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM sqlite_master"
                                             " WHERE tbl_name LIKE 'inbox%' AND type <> 'table'"
                                             " AND name NOT LIKE 'sqlite_%'"),
                     0);
    assert_null(sqlite3_commit_hook(bench->db, NULL, NULL));
    assert_null(sqlite3_update_hook(bench->db, NULL, NULL));
    assert_null(sqlite3_rollback_hook(bench->db, NULL, NULL));
    bench_put(bench, "a", "b"); /* the outbox of the same connection works on */
    inbox *second = NULL;
    char sentence[200] = "";
    assert_int_equal(inbox_open(bench->db, &(inbox_config){sentence, sizeof sentence}, &second),
                     OUTBOX_MISUSE);
    assert_null(second);
    assert_non_null(strstr(sentence, "already"));
    expect(A, 1, 0, INBOX_NEW_EPOCH);
}

/* [inbox-5] */
static void test_the_connection_closes_before_the_inbox(void **state)
{
    (void)state;
    sqlite3 *db = bench_connect(bench);
    inbox *other = open_on(db);
    inbox_event event = event_of(A, 1, 0);
    assert_int_equal(judge_with(other, &event), INBOX_NEW_EPOCH);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(inbox_accept(other, &event, &result), OUTBOX_CLOSED);
    assert_non_null(strstr(inbox_errmsg(other), "closed"));
    inbox_close(other);
    inbox_close(NULL);
}

/* [inbox-5] */
static void test_a_close_that_fails_leaves_an_inbox_that_works(void **state)
{
    (void)state;
    sqlite3 *db = bench_connect(bench);
    sqlite3_stmt *mine = NULL;
    inbox *other = open_on(db);
    inbox_event first = event_of(A, 1, 0), second = event_of(A, 2, 1);
    assert_int_equal(judge_with(other, &first), INBOX_NEW_EPOCH);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT 1", -1, &mine, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_BUSY);
    assert_int_equal(judge_with(other, &second), INBOX_NEW);
    assert_int_equal(sqlite3_finalize(mine), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    inbox_close(other);
}

/* [inbox-6] */
static void test_an_inbox_that_cannot_be_opened_says_why_and_changes_nothing(void **state)
{
    char sentence[256] = "";
    inbox_config config = {sentence, sizeof sentence};
    inbox *other = NULL;
    sqlite3 *db = bench_connect(bench), *read_only = NULL;
    (void)state;
    assert_int_equal(inbox_open(db, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(inbox_open(NULL, NULL, &other), OUTBOX_MISUSE);
    bench_sql(db, "BEGIN");
    assert_int_equal(inbox_open(db, &config, &other), OUTBOX_MISUSE);
    assert_non_null(strstr(sentence, "transaction"));
    bench_sql(db, "COMMIT");
    assert_int_equal(sqlite3_open_v2(bench->path, &read_only, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    assert_int_equal(inbox_open(read_only, &config, &other), OUTBOX_READONLY);
    assert_int_equal(sqlite3_close(read_only), SQLITE_OK);
    bench_sql(db, "UPDATE inbox_meta SET value = 2 WHERE name = 'minimum_reader'");
    assert_int_equal(inbox_open(db, &config, &other), OUTBOX_NEWER_SCHEMA);
    assert_non_null(strstr(sentence, "version 2"));
    bench_sql(db, "DROP TABLE inbox_meta");
    assert_int_equal(inbox_open(db, &config, &other), OUTBOX_CORRUPT);
    assert_int_equal(inbox_inspect(db, NULL, NULL, NULL, 0), OUTBOX_MISUSE);
    bench_sql(db, "DROP TABLE inbox_stream; BEGIN IMMEDIATE");
    sqlite3 *third = bench_connect(bench);
    assert_int_equal(inbox_open(third, &config, &other), OUTBOX_BUSY);
    bench_sql(db, "ROLLBACK");
    assert_int_equal(inbox_open(third, &config, &other), OUTBOX_OK);
    inbox_close(other);
    assert_int_equal(sqlite3_close(third), SQLITE_OK);
    assert_null(strstr(sentence, "%"));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [inbox-6] a table of the same name that is none of ours */
static void test_a_table_of_somebody_else_is_refused(void **state)
{
    (void)state;
    inbox *other = NULL;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    bench_sql(db, "CREATE TABLE inbox_stream(stream TEXT); CREATE TABLE inbox_meta(name, value)");
    assert_int_equal(inbox_open(db, NULL, &other), OUTBOX_SQLITE);
    assert_null(other);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- What is refused ------------------------------------------------------------------------- */

static void refuse(const inbox_event *event, int code)
{
    inbox_result got = {.apply = 1};
    assert_int_equal(inbox_accept(in, event, &got), code);
    assert_int_equal(got.apply, 0);
    assert_true(strlen(inbox_errmsg(in)) > 10);
}

/* [accept-7] [inbox-7] */
static void test_an_event_that_cannot_be_judged_is_refused_and_nothing_changes(void **state)
{
    static const char *const sources[] = {
        "outbox://pump-7/normal",
        "outbox://pump-7/normal/",
        "outbox:///normal/a",
        "outbox://pump 7/normal/a",
        "outbox://pump-7//a",
        "outbox://pump-7/normal/a/b",
        "outbox://",
        "outbox://pump-7/nor\x01/a",
        "",
        "outbox://a/b/0123456789012345678901234567890123",
    };
    static char long_source[INBOX_NAME_MAX + 2];
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        inbox_event event = event_of(sources[i], 2, 1);
        refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    }
    memset(long_source, 'x', sizeof long_source - 1);
    inbox_event event = event_of(long_source, 2, 1);
    refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    event = event_of(A, 2, 1);
    event.id = text("3");
    refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    event.id = text(NULL);
    refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    event = event_of(A, 2, 1);
    event.has_sequence = 0;
    refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    event = event_of(A, 2, -1);
    refuse(&event, OUTBOX_BAD_ATTRIBUTE);
    event = event_of(A, 2, 2);
    refuse(&event, OUTBOX_BAD_ID);
    event = event_of(A, 0, 0);
    refuse(&event, OUTBOX_BAD_ID);
    event = event_of(A, OUTBOX_ID_MAX + 1, 0);
    refuse(&event, OUTBOX_BAD_ID);
    event = event_of(FOREIGN, -1, -1);
    refuse(&event, OUTBOX_BAD_ID);
    event = event_of(A, 2, 1);
    assert_int_equal(inbox_accept(in, NULL, &result), OUTBOX_MISUSE);
    assert_int_equal(inbox_accept(in, &event, NULL), OUTBOX_MISUSE);
    assert_int_equal(inbox_accept(NULL, &event, &result), OUTBOX_MISUSE);
    assert_string_equal(inbox_errmsg(NULL), "no error");
    expect(A, 2, 1, INBOX_NEW);
    assert_string_equal(inbox_errmsg(in), "no error");
}

/* [accept-7] */
static void test_a_statement_that_writes_is_no_place_to_judge(void **state)
{
    sqlite3_stmt *writing = NULL;
    inbox_event event = event_of(A, 1, 0);
    (void)state;
    bench_sql(bench->db, "INSERT INTO reading VALUES(1), (2)");
    assert_int_equal(sqlite3_prepare_v2(bench->db, "UPDATE reading SET value = 3 RETURNING value",
                                        -1, &writing, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(writing), SQLITE_ROW);
    assert_int_equal(inbox_accept(in, &event, &result), OUTBOX_MISUSE);
    assert_int_equal(sqlite3_finalize(writing), SQLITE_OK);
    expect(A, 1, 0, INBOX_NEW_EPOCH);
}

static void take(void *context, const char *lane, const char *sentence)
{
    char *text_of_all = context;
    size_t len = strlen(text_of_all);
    (void)snprintf(text_of_all + len, 2000 - len, "%s: %s\n", lane ? lane : "-", sentence);
}

/* [accept-7] [look-2] */
static void test_a_row_that_no_inbox_wrote_is_called_corrupt_and_left_alone(void **state)
{
    static const char *const breaches[] = {
        "mark = 'x'",
        "mark = -1",
        "mark = 1.5",
        "epoch = NULL",
        "epoch = 'a b'",
        "epoch = x'00'",
        "applied = NULL",
        "lost = 1",
        "retired = NULL",
        "retired = 'a  b'",
        "retired = ' a'",
        "retired = 'a b '",
        "late = 'x'",
        "late = '3-2'",
        "late = '2-3 3-4'",
        "late = '2-99'",
        "late = '0-1'",
        "late = '2-3,5-6'",
        "late = '2-3 '",
        "late = NULL",
        "passed_over = -5",
        "epochs = 'many'",
        "late = '99999999999999999999-3'",
        "retired = 'a b c d e f g h i'",
        "late = '1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8 9-9'",
        "epoch = '0123456789012345678901234567890123'",
        "late = '2-'",
        "late = '-3'",
        "late = '20-20'",
    };
    (void)state;
    for (size_t i = 0; i < sizeof breaches / sizeof breaches[0]; i++) {
        char sql[160], found[2000] = "";
        inbox_event event = event_of(A, 21, 20);
        bench_sql(bench->db, "DELETE FROM inbox_stream");
        expect(A, 1, 0, INBOX_NEW_EPOCH);
        expect(A, 20, 1, INBOX_NEW);
        assert_int_equal(inbox_verify(bench->db, take, found), OUTBOX_OK);
        (void)snprintf(sql, sizeof sql, "UPDATE inbox_stream SET %s", breaches[i]);
        bench_sql(bench->db, sql);
        sqlite3_int64 before = sqlite3_total_changes(bench->db);
        int code = inbox_accept(in, &event, &result);
        if (code != OUTBOX_CORRUPT)
            fail_msg("%s: %d", breaches[i], code);
        assert_non_null(strstr(inbox_errmsg(in), "outbox://pump-7/normal"));
        assert_int_equal(sqlite3_total_changes(bench->db), before);
        assert_int_equal(inbox_verify(bench->db, take, found), OUTBOX_CORRUPT);
        assert_non_null(strstr(found, "outbox://pump-7/normal: "));
    }
}

/* ---- Looking --------------------------------------------------------------------------------- */

static void print_stream(void *context, const inbox_stream *stream)
{
    char *all = context;
    size_t len = strlen(all);
    (void)snprintf(all + len, 1000 - len, "%s %s %lld %lld %lld %lld %lld %lld %lld\n",
                   stream->name, stream->epoch, (long long)stream->mark, (long long)stream->applied,
                   (long long)stream->passed_over, (long long)stream->forgone,
                   (long long)stream->announced, (long long)stream->lost,
                   (long long)stream->epochs);
}

/* [look-1] [look-2] */
static void test_streams_can_be_looked_at_without_writing(void **state)
{
    char all[1000] = "", sentence[200] = "";
    sqlite3 *read_only = NULL, *empty = NULL;
    (void)state;
    expect(URGENT, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(A, 4, 1, INBOX_NEW);
    announce(A, 5, 4, 2, 2, 3, INBOX_NEW);
    go_on(A, 9, 8, INBOX_NEW);
    expect(B, 10, 0, INBOX_NEW_EPOCH);
    assert_int_equal(sqlite3_open_v2(bench->path, &read_only, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    assert_int_equal(inbox_inspect(read_only, print_stream, all, sentence, sizeof sentence),
                     OUTBOX_OK);
    assert_string_equal(all, "outbox://pump-7/normal 00000000000000bb 10 5 2 3 2 2 1\n"
                             "outbox://pump-7/urgent 00000000000000aa 1 1 0 0 0 0 0\n");
    assert_int_equal(inbox_verify(read_only, NULL, NULL), OUTBOX_OK);
    assert_int_equal(sqlite3_close(read_only), SQLITE_OK);
    assert_int_equal(sqlite3_open(":memory:", &empty), SQLITE_OK);
    assert_int_equal(inbox_inspect(empty, print_stream, all, sentence, sizeof sentence),
                     OUTBOX_CORRUPT);
    assert_non_null(strstr(sentence, "no inbox"));
    assert_int_equal(inbox_inspect(empty, print_stream, all, NULL, 0), OUTBOX_CORRUPT);
    assert_int_equal(inbox_inspect(empty, print_stream, all, sentence, 0), OUTBOX_CORRUPT);
    assert_int_equal(inbox_inspect(NULL, print_stream, all, NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(inbox_verify(empty, NULL, NULL), OUTBOX_CORRUPT);
    assert_int_equal(inbox_verify(NULL, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(sqlite3_close(empty), SQLITE_OK);
}

/* [look-2] */
static void test_verify_names_what_cannot_be(void **state)
{
    char found[2000] = "";
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    expect(B, 2, 0, INBOX_NEW_EPOCH);
    bench_sql(bench->db, "UPDATE inbox_stream SET applied = 0, epochs = 0, epoch = retired");
    assert_int_equal(inbox_verify(bench->db, take, found), OUTBOX_CORRUPT);
    assert_non_null(strstr(found, "no event was applied"));
    assert_non_null(strstr(found, "twice"));
    assert_non_null(strstr(found, "have begun"));
    bench_sql(bench->db, "UPDATE inbox_stream SET applied = 1, epochs = 3, retired = 'a b c a'");
    found[0] = '\0';
    assert_int_equal(inbox_verify(bench->db, take, found), OUTBOX_CORRUPT);
    assert_string_equal(found,
                        "outbox://pump-7/normal: an epoch is remembered twice\n"
                        "outbox://pump-7/normal: more epochs are remembered than have begun\n");
    bench_sql(bench->db, "UPDATE inbox_stream SET epochs = 4, retired = 'a b c d'");
    assert_int_equal(inbox_verify(bench->db, take, found), OUTBOX_OK);
}

/* [look-1] */
static void test_a_stream_that_cannot_be_read_ends_the_look(void **state)
{
    char all[1000] = "", sentence[200] = "";
    (void)state;
    expect(A, 1, 0, INBOX_NEW_EPOCH);
    bench_sql(bench->db, "UPDATE inbox_stream SET mark = 'x'");
    assert_int_equal(inbox_inspect(bench->db, print_stream, all, sentence, sizeof sentence),
                     OUTBOX_CORRUPT);
    assert_string_equal(all, "");
    assert_non_null(strstr(sentence, "outbox://pump-7/normal"));
}

static void test_a_database_in_utf_16_works_alike(void **state)
{
    sqlite3 *db = NULL;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    bench_sql(db, "PRAGMA encoding = 'UTF-16'");
    inbox *other = open_on(db);
    inbox_event first = event_of(A, 1, 0), later = event_of(A, 5, 1), early = event_of(A, 3, 1);
    inbox_event nameless = {.source = text(FOREIGN), .id = text("\xc3\xa9")};
    assert_int_equal(judge_with(other, &first), INBOX_NEW_EPOCH);
    assert_int_equal(judge_with(other, &later), INBOX_NEW);
    assert_int_equal(judge_with(other, &early), INBOX_STALE);
    assert_int_equal(judge_with(other, &first), INBOX_DUPLICATE);
    assert_int_equal(judge_with(other, &nameless), INBOX_NEW_EPOCH);
    assert_int_equal(judge_with(other, &nameless), INBOX_DUPLICATE);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    inbox_close(other);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_stream_begins_at_the_first_event_that_is_seen),
        CASE(test_events_in_order_are_new_and_each_repetition_is_a_duplicate),
        CASE(test_numbers_that_the_sender_skips_are_no_gap),
        CASE(test_a_gap_is_told_with_what_is_missing_and_the_mark_stays),
        CASE(test_a_refused_event_that_is_sent_again_inside_a_window_comes_in_order),
        CASE(test_a_gap_closes_when_the_missing_event_becomes_a_dead_letter),
        CASE(test_what_was_seen_behind_a_gap_and_then_evicted_is_lost),
        CASE(test_an_eviction_of_what_had_arrived_is_not_counted_as_lost),
        CASE(test_ranges_of_several_reasons_that_overlap_count_each_event_once),
        CASE(test_an_announcement_that_covers_a_gap_closes_it),
        CASE(test_an_announcement_that_cannot_be_true_counts_nothing),
        CASE(test_skipping_goes_on_behind_a_gap_that_never_closes),
        CASE(test_skipping_where_there_is_no_gap_is_accepting),
        CASE(test_what_is_older_than_all_that_is_remembered_is_stale),
        CASE(test_a_new_epoch_is_applied_and_the_old_one_is_stale_from_then_on),
        CASE(test_a_new_epoch_may_give_out_the_same_numbers_again),
        CASE(test_a_new_epoch_begins_with_its_first_event),
        CASE(test_skipping_into_the_middle_of_an_epoch_begins_it_there),
        CASE(test_the_last_eight_retired_epochs_are_stale_and_older_ones_forgotten),
        CASE(test_each_lane_has_an_epoch_and_a_mark_of_its_own),
        CASE(test_a_copy_under_another_device_name_is_another_stream),
        CASE(test_a_real_copy_that_gets_another_name_is_not_taken_for_a_duplicate),
        CASE(test_fire_and_forget_events_are_a_stream_without_proof),
        CASE(test_a_stored_event_without_previous_is_refused),
        CASE(test_other_senders_with_a_sequence_are_new_in_ascending_order),
        CASE(test_of_senders_without_numbers_the_last_id_is_known),
        CASE(test_a_rollback_undoes_the_verdict),
        CASE(test_without_a_transaction_it_is_one_of_its_own),
        CASE(test_a_verdict_that_does_not_apply_writes_nothing),
        CASE(test_a_restart_goes_on_at_the_mark),
        CASE(test_two_connections_judge_one_stream_together),
        CASE(test_opening_makes_two_tables_and_takes_nothing_of_the_connection),
        CASE(test_the_connection_closes_before_the_inbox),
        CASE(test_a_close_that_fails_leaves_an_inbox_that_works),
        CASE(test_an_inbox_that_cannot_be_opened_says_why_and_changes_nothing),
        CASE(test_a_table_of_somebody_else_is_refused),
        CASE(test_an_event_that_cannot_be_judged_is_refused_and_nothing_changes),
        CASE(test_a_statement_that_writes_is_no_place_to_judge),
        CASE(test_a_row_that_no_inbox_wrote_is_called_corrupt_and_left_alone),
        CASE(test_streams_can_be_looked_at_without_writing),
        CASE(test_verify_names_what_cannot_be),
        CASE(test_a_stream_that_cannot_be_read_ends_the_look),
        CASE(test_a_database_in_utf_16_works_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
