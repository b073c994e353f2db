/* SPDX-License-Identifier: MIT
 *
 * test_writer.c - attach, put, detach on the application's connection.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static int64_t pending(struct bench *bench)
{
    return bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE ledger IS NULL");
}

static void expect_bad(struct bench *bench, const outbox_event *event, int code)
{
    int64_t id = -1;
    bench_sql(bench->db, "BEGIN; INSERT INTO reading VALUES(1)");
    assert_int_equal(outbox_put(bench->box, event, &id), code);
    assert_int_equal(id, -1);
    assert_string_not_equal(outbox_errmsg(bench->box), "no error");
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 0);
}

static void listener_nothing(void *context)
{
    (void)context;
}

/* A service that writes down what the writer tells it. */
struct listener {
    int commits, stops;
    int64_t durable_id, durable_urgent_id;
    int64_t seen_by_other; /* events that a second connection saw inside committed() */
    sqlite3 *other;
};

static void listener_committed(void *context, const int64_t durable[OUTBOX_LANES])
{
    struct listener *listener = context;
    listener->commits++;
    listener->durable_id = durable[OUTBOX_NORMAL];
    listener->durable_urgent_id = durable[OUTBOX_URGENT];
    if (listener->other)
        listener->seen_by_other =
            bench_number(listener->other, "SELECT count(*) FROM outbox_event WHERE ledger IS NULL");
}

static void listener_stats(void *context, outbox_statistics *statistics)
{
    (void)context;
    statistics->state = OUTBOX_STATE_ONLINE;
}

static int listener_flush(void *context, const int64_t last[OUTBOX_LANES], unsigned timeout_ms)
{
    (void)context, (void)last, (void)timeout_ms;
    return OUTBOX_TIMEOUT;
}

static int64_t listener_acked(void *context, outbox_lane lane)
{
    (void)context, (void)lane;
    return 0;
}

static void listener_stop(void *context)
{
    ((struct listener *)context)->stops++;
}

static const outbox_service listening = {
    .version = 1,
    .committed = listener_committed,
    .stats = listener_stats,
    .flush = listener_flush,
    .acked = listener_acked,
    .stop = listener_stop,
};

static void listen_to(struct bench *bench, struct listener *listener)
{
    memset(listener, 0, sizeof *listener);
    assert_int_equal(outbox_bind(bench->box, &listening, listener), OUTBOX_OK);
}

/* ---- Attach ---------------------------------------------------------------------------------- */

/* [attach-1] */
static void test_attach_makes_the_tables_and_a_second_attach_changes_nothing(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = bench_connect(bench);
    outbox *box;
    int64_t before = bench_number(bench->db, "PRAGMA data_version");
    assert_int_equal(bench_number(db, "SELECT count(*) FROM outbox_meta WHERE name = 'version'"),
                     1);
    assert_int_equal(outbox_attach(db, NULL, &box), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "PRAGMA data_version"), before);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [attach-6] */
static void test_attach_refuses_null_and_says_nothing_was_made(void **state)
{
    struct bench *bench = *state;
    outbox *box = (outbox *)bench;
    assert_int_equal(outbox_attach(NULL, NULL, &box), OUTBOX_MISUSE);
    assert_null(box);
    assert_int_equal(outbox_attach(bench->db, NULL, NULL), OUTBOX_MISUSE);
}

static void expect_refusal(sqlite3 *db, const char *device, int code, const char *word)
{
    char sentence[200] = "";
    outbox_config config = {.device = device, .sentence = sentence, .sentence_size = 200};
    outbox *box;
    assert_int_equal(outbox_attach(db, &config, &box), code);
    assert_null(box);
    assert_non_null(strstr(sentence, word));
}

/* [attach-6] */
static void test_a_second_attach_on_one_connection_is_refused_and_the_first_goes_on(void **state)
{
    struct bench *bench = *state;
    expect_refusal(bench->db, NULL, OUTBOX_MISUSE, "attached already");
    assert_int_equal(bench_put(bench, "a", "b"), 1);
}

/* [attach-6] */
static void test_attach_inside_a_transaction_is_refused(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = bench_connect(bench);
    bench_sql(db, "BEGIN");
    expect_refusal(db, NULL, OUTBOX_MISUSE, "transaction");
    bench_sql(db, "COMMIT");
    sqlite3_close(db);
}

/* [attach-6] */
static void test_a_read_only_database_is_refused(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(bench->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    expect_refusal(db, NULL, OUTBOX_READONLY, "read-only");
    sqlite3_close(db);
}

/* [attach-6] */
static void test_a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = bench_connect(bench);
    bench_sql(db, "UPDATE outbox_meta SET value = 99 WHERE name = 'minimum_reader'");
    int64_t before = bench_number(bench->db, "PRAGMA data_version");
    expect_refusal(db, "other", OUTBOX_NEWER_SCHEMA, "99");
    assert_int_equal(bench_number(bench->db, "PRAGMA data_version"), before);
    sqlite3_close(db);
}

static void test_a_schema_that_is_newer_but_allows_us_is_taken(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = bench_connect(bench);
    outbox *box;
    bench_sql(db, "UPDATE outbox_meta SET value = 9 WHERE name = 'version';"
                  "ALTER TABLE outbox_event ADD COLUMN of_tomorrow INTEGER");
    assert_int_equal(outbox_attach(db, NULL, &box), OUTBOX_OK);
    outbox_detach(box);
    sqlite3_close(db);
}

/* [attach-6] */
static void test_journal_mode_off_is_refused(void **state)
{
    (void)state;
    sqlite3 *db;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    bench_sql(db, "PRAGMA journal_mode = OFF");
    expect_refusal(db, NULL, OUTBOX_UNSAFE_JOURNAL, "OFF");
    assert_int_equal(bench_number(db, "SELECT count(*) FROM sqlite_master"), 0);
    sqlite3_close(db);
}

/* [attach-4] */
static void test_settings_that_weaken_the_promises_are_said(void **state)
{
    struct bench *bench = *state;
    assert_null(outbox_warning(bench->box));
    bench_reopen(bench, "WAL", "OFF");
    assert_non_null(strstr(outbox_warning(bench->box), "synchronous"));
    bench_reopen(bench, "MEMORY", "FULL");
    assert_non_null(strstr(outbox_warning(bench->box), "MEMORY"));
}

/* [attach-4] [P2] */
static void test_settings_under_which_a_commit_may_be_undone_are_said(void **state)
{
    static const struct {
        const char *mode, *synchronous, *word;
    } cases[] = {
        {"WAL", "FULL", NULL},         {"WAL", "NORMAL", "use FULL"},
        {"TRUNCATE", "FULL", NULL},    {"TRUNCATE", "NORMAL", "use FULL"},
        {"PERSIST", "EXTRA", NULL},    {"DELETE", "FULL", "use EXTRA"},
        {"DELETE", "NORMAL", "EXTRA"}, {"DELETE", "EXTRA", NULL},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench_reopen(bench, cases[i].mode, cases[i].synchronous);
        const char *warning = outbox_warning(bench->box);
        if (cases[i].word)
            assert_non_null(strstr(warning, cases[i].word));
        else
            assert_null(warning);
    }
    assert_null(outbox_warning(NULL));
}

/* [warning-1] */
static void test_each_put_sees_settings_that_have_changed(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "PRAGMA synchronous = NORMAL; BEGIN");
    assert_null(outbox_warning(bench->box));
    bench_put(bench, "a", "b");
    assert_non_null(strstr(outbox_warning(bench->box), "FULL"));
    bench_put(bench, "a", "b");
    bench_sql(bench->db, "COMMIT; PRAGMA synchronous = FULL");
    bench_put(bench, "a", "b");
    assert_null(outbox_warning(bench->box));
}

/* [put-7] */
static void test_a_put_is_refused_once_journal_mode_is_off(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    bench_sql(bench->db, "BEGIN; PRAGMA journal_mode = OFF");
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL),
                     OUTBOX_UNSAFE_JOURNAL);
    assert_true(sqlite3_get_autocommit(bench->db));
    expect_bad(bench, &(outbox_event){.topic = "a"}, OUTBOX_UNSAFE_JOURNAL);
    bench_sql(bench->db, "PRAGMA journal_mode = DELETE");
    assert_int_equal(bench_put(bench, "a", "b"), 1);
}

/* [put-7] a put that failed has touched the transaction, but does not keep the mode from
 * changing */
static void test_a_journal_mode_that_changes_inside_a_transaction_is_seen(void **state)
{
    struct bench *bench = *state;
    bench_reopen(bench, "DELETE", "EXTRA");
    sqlite3 *other = bench_connect(bench);
    bench_sql(bench->db, "BEGIN");
    bench_sql(other, "BEGIN IMMEDIATE");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_BUSY);
    bench_sql(other, "COMMIT");
    bench_sql(bench->db, "PRAGMA journal_mode = OFF");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL),
                     OUTBOX_UNSAFE_JOURNAL);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 0);
    sqlite3_close(other);
}

/* [attach-6] */
static void test_a_device_name_outside_its_letters_is_refused(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db = bench_connect(bench);
    expect_refusal(db, "pump 7", OUTBOX_MISUSE, "device");
    expect_refusal(db, "", OUTBOX_MISUSE, "device");
    sqlite3_close(db);
}

/* [attach-5] */
static void test_a_device_name_is_kept_and_another_one_starts_a_new_epoch(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.device = "pump-7"}, &bench->box),
                     OUTBOX_OK);
    int64_t id = bench_put(bench, "a", "b");
    char *first = bench_text(bench->db, "SELECT epoch FROM outbox_epoch ORDER BY first DESC");
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.device = "pump-7"}, &bench->box),
                     OUTBOX_OK);
    char *same = bench_text(bench->db, "SELECT epoch FROM outbox_epoch ORDER BY first DESC");
    assert_string_equal(first, same);
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.device = "pump-8"}, &bench->box),
                     OUTBOX_OK);
    char *other = bench_text(bench->db, "SELECT epoch FROM outbox_epoch ORDER BY first DESC");
    assert_string_not_equal(first, other);
    assert_true(bench_number(bench->db, "SELECT max(first) FROM outbox_epoch") <= id);
    sqlite3_free(first);
    sqlite3_free(same);
    sqlite3_free(other);
}

/* ---- The connection stays the application's -------------------------------------------------- */

static int count_commit(void *context)
{
    ++*(int *)context;
    return 0;
}

static void count_event(void *context)
{
    ++*(int *)context;
}

static int count_wal(void *context, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name, (void)frames;
    ++*(int *)context;
    return SQLITE_OK;
}

/* [P8] [attach-2] the hooks' old arguments are what the application gave */
static void test_attach_and_put_take_no_hook_and_change_no_pragma(void **state)
{
    struct bench *bench = *state;
    int commits = 0, rollbacks = 0, wals = 0;
    outbox_detach(bench->box);
    bench_sql(bench->db, "PRAGMA synchronous = NORMAL; PRAGMA cache_size = 77");
    sqlite3_commit_hook(bench->db, count_commit, &commits);
    sqlite3_rollback_hook(bench->db, count_event, &rollbacks);
    sqlite3_wal_hook(bench->db, count_wal, &wals);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    bench_put(bench, "a", "b");
    assert_ptr_equal(sqlite3_commit_hook(bench->db, NULL, NULL), &commits);
    assert_ptr_equal(sqlite3_rollback_hook(bench->db, NULL, NULL), &rollbacks);
    assert_int_equal(rollbacks, 0);
    assert_int_equal(commits, 1);
    assert_int_equal(wals, 1);
    assert_int_equal(bench_number(bench->db, "PRAGMA synchronous"), 1);
    assert_int_equal(bench_number(bench->db, "PRAGMA cache_size"), 77);
}

/* [put-5] */
static void test_a_put_leaves_the_last_insert_rowid(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO reading(rowid, value) VALUES(4711, 1)");
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 4711);
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 4711);
    bench_sql(bench->db, "COMMIT");
}

/* [attach-3] [P8] */
static void test_the_connection_closes_before_detach_and_the_handle_says_so(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
    outbox_event event = {.topic = "a"};
    outbox_statistics statistics;
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_CLOSED);
    assert_int_equal(outbox_stats(bench->box, &statistics), OUTBOX_CLOSED);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_CLOSED);
    assert_null(outbox_connection(bench->box));
    assert_non_null(strstr(outbox_errmsg(bench->box), "closed"));
}

/* [attach-3] the close fails for the application's own statement; then it goes on, then closes */
static void test_a_close_that_fails_leaves_a_handle_that_works(void **state)
{
    struct bench *bench = *state;
    sqlite3_stmt *own = NULL;
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_prepare_v2(bench->db, "SELECT 1", -1, &own, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_BUSY);
    assert_int_equal(bench_put(bench, "a", "c"), 2);
    sqlite3_finalize(own);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
}

/* [attach-3] */
static void test_the_connection_closes_inside_a_transaction_with_puts(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = bench_connect(bench);
    assert_int_equal(pending(bench), 0);
}

/* [detach-1] */
static void test_detach_inside_a_transaction_leaves_its_events_to_it(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    outbox_detach(bench->box);
    bench->box = NULL;
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 1);
    outbox_detach(NULL);
}

static int deny_touch(void *context, int action, const char *a, const char *b, const char *c,
                      const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_INSERT && a && strcmp(a, "outbox_commit") == 0 ? SQLITE_DENY
                                                                           : SQLITE_OK;
}

static void test_an_authorizer_that_denies_the_wake_up_does_not_stop_a_put(void **state)
{
    struct bench *bench = *state;
    sqlite3_set_authorizer(bench->db, deny_touch, NULL);
    bench_put(bench, "a", "b");
    assert_int_equal(pending(bench), 1);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
}

/* The touch is prepared already; SQLite asks the authorizer anew when it is stepped. */
static void test_an_authorizer_that_comes_later_does_not_stop_a_put_either(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_put(bench, "a", "b");
    sqlite3_set_authorizer(bench->db, deny_touch, NULL);
    bench_put(bench, "a", "c");
    assert_int_equal(listener.commits, 1);
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "d");
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(pending(bench), 3);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    bench_put(bench, "a", "e");
    assert_int_equal(listener.commits, 2);
}

/* ---- Put ------------------------------------------------------------------------------------- */

/* [P1] [put-1] */
static void test_a_put_in_a_rolled_back_transaction_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(pending(bench), 0);
}

/* [P1] [put-2] */
static void test_a_put_in_a_rolled_back_savepoint_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "kept");
    bench_sql(bench->db, "SAVEPOINT s");
    bench_put(bench, "a", "undone");
    bench_sql(bench->db, "ROLLBACK TO s; COMMIT");
    assert_int_equal(pending(bench), 1);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE payload = 'kept'"), 1);
}

/* [put-3] */
static void test_a_put_without_a_transaction_commits_itself(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "b");
    assert_true(sqlite3_get_autocommit(bench->db));
    sqlite3 *other = bench_connect(bench);
    assert_int_equal(bench_number(other, "SELECT count(*) FROM outbox_event"), 2);
    sqlite3_close(other);
}

/* [put-4] [P6] */
static void test_ids_ascend_and_are_not_used_again_after_a_delivery(void **state)
{
    struct bench *bench = *state;
    static struct rig rig;
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    assert_int_equal(bench_put(bench, "a", "b"), 2);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    assert_int_equal(pending(bench), 0);
    assert_int_equal(bench_put(bench, "a", "b"), 3);
}

/* [put-6] */
static void test_the_content_type_chooses_text_or_bytes(void **state)
{
    static const struct {
        const char *content_type, *storage;
    } cases[] = {{NULL, "blob"},
                 {"application/octet-stream", "blob"},
                 {"text/plain", "text"},
                 {"application/json", "text"},
                 {"application/vnd.pump+json; charset=utf-8", "text"}};
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        outbox_event event = {
            .topic = "a", .payload = "1", .payload_len = 1, .content_type = cases[i].content_type};
        assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
        char *storage =
            bench_text(bench->db, "SELECT typeof(payload) FROM outbox_event ORDER BY id DESC");
        assert_string_equal(storage, cases[i].storage);
        sqlite3_free(storage);
    }
}

static void test_every_field_of_an_event_is_stored(void **state)
{
    struct bench *bench = *state;
    outbox_event event = {.topic = "plant/7",
                          .payload = "a\0b",
                          .payload_len = 3,
                          .content_type = "x/y",
                          .type = "t",
                          .key = "k",
                          .retain = 5};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db,
                                  "SELECT count(*) FROM outbox_event WHERE topic = 'plant/7' AND"
                                  " payload = x'610062' AND content_type = 'x/y' AND type = 't' AND"
                                  " key = 'k' AND retain = 1 AND created > 1700000000000"),
                     1);
}

/* [put-7] */
static void test_bad_topics_are_refused_and_the_transaction_goes_on(void **state)
{
    struct bench *bench = *state;
    char longest[OUTBOX_TOPIC_MAX + 2];
    memset(longest, 't', sizeof longest);
    longest[OUTBOX_TOPIC_MAX + 1] = '\0';
    const char *const bad[] = {NULL, "", "a/+/b", "a/#", "\xff", "a\nb", longest};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_bad(bench, &(outbox_event){.topic = bad[i]}, OUTBOX_BAD_TOPIC);
    longest[OUTBOX_TOPIC_MAX] = '\0';
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = longest}, NULL), OUTBOX_OK);
}

/* [put-7] */
static void test_a_payload_over_the_limit_is_refused(void **state)
{
    struct bench *bench = *state;
    static char payload[OUTBOX_PAYLOAD_MAX + 1];
    outbox_event event = {.topic = "a", .payload = payload, .payload_len = sizeof payload};
    expect_bad(bench, &event, OUTBOX_TOO_LARGE);
    event.payload_len--;
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
}

/* [put-7] */
static void test_a_payload_that_is_not_what_it_says_is_refused(void **state)
{
    struct bench *bench = *state;
    outbox_event json = {
        .topic = "a", .payload = "{\"t\":}", .payload_len = 6, .content_type = "application/json"};
    expect_bad(bench, &json, OUTBOX_BAD_PAYLOAD);
    outbox_event text = {
        .topic = "a", .payload = "\xc3\x28", .payload_len = 2, .content_type = "text/plain"};
    expect_bad(bench, &text, OUTBOX_BAD_PAYLOAD);
}

/* [put-7] */
static void test_bad_attributes_are_refused(void **state)
{
    struct bench *bench = *state;
    char longest[OUTBOX_ATTRIBUTE_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[OUTBOX_ATTRIBUTE_MAX + 1] = '\0';
    const char *const bad[] = {"", "a\x01", "\xe2\x82", longest};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_bad(bench, &(outbox_event){.topic = "a", .type = bad[i]}, OUTBOX_BAD_ATTRIBUTE);
        expect_bad(bench, &(outbox_event){.topic = "a", .key = bad[i]}, OUTBOX_BAD_ATTRIBUTE);
        expect_bad(bench, &(outbox_event){.topic = "a", .content_type = bad[i]},
                   OUTBOX_BAD_ATTRIBUTE);
    }
}

/* [put-7] */
static void test_null_arguments_of_put_are_misuse(void **state)
{
    struct bench *bench = *state;
    expect_bad(bench, NULL, OUTBOX_MISUSE);
    expect_bad(bench, &(outbox_event){.topic = "a", .payload_len = 1}, OUTBOX_MISUSE);
    assert_int_equal(outbox_put(NULL, &(outbox_event){.topic = "a"}, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_stats(bench->box, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_flush(NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(outbox_stop(NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_stop(bench->box), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_bind(bench->box, NULL, NULL), OUTBOX_MISUSE);
}

/* [put-7] ids near 2^63 make SQLite give out random ones */
static void test_an_id_out_of_range_is_refused_until_the_forwarder_has_mended_it(void **state)
{
    struct bench *bench = *state;
    static struct rig rig;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(9223372036854775807, 'a')");
    outbox_event event = {.topic = "a"};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_BAD_ID);
    assert_int_equal(pending(bench), 1);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 1);
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
    assert_int_equal(rig_stats(&rig).accepted, 2);
}

/* [put-7] whatever is refused, only the put's own row is taken back */
static void test_a_put_with_an_id_out_of_range_takes_back_only_its_own_row(void **state)
{
    static const char *const others[] = {
        "DELETE FROM outbox_event; INSERT INTO outbox_event(id, topic) VALUES(-2, 'a')",
        "DELETE FROM outbox_event; INSERT INTO outbox_event(id, topic) VALUES(-1, 'a')",
        "INSERT INTO outbox_event(id, topic) VALUES(281474976710656, 'a')",
        "INSERT INTO outbox_event(id, topic) VALUES(9223372036854775806, 'a')",
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        bench_sql(bench->db, "SAVEPOINT s");
        bench_sql(bench->db, others[i]);
        char *before = bench_text(bench->db, "SELECT group_concat(id) FROM outbox_event");
        assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL),
                         OUTBOX_BAD_ID);
        assert_non_null(strstr(outbox_errmsg(bench->box), "out of range"));
        char *after = bench_text(bench->db, "SELECT group_concat(id) FROM outbox_event");
        assert_string_equal(before, after);
        bench_sql(bench->db, "ROLLBACK TO s; RELEASE s");
        sqlite3_free(before);
        sqlite3_free(after);
    }
}

static int deny_deletes(void *context, int action, const char *a, const char *b, const char *c,
                        const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_DELETE && a && strcmp(a, "outbox_event") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [put-8] [P1] what cannot be taken back alone is rolled back with all the rest */
static void
test_a_put_with_an_id_out_of_range_that_cannot_be_taken_back_is_rolled_back(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(281474976710656, 'a');"
                         "CREATE TABLE mine(x); BEGIN; INSERT INTO mine VALUES(1)");
    sqlite3_set_authorizer(bench->db, deny_deletes, NULL);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM mine"), 0);
    assert_int_equal(bench_number(bench->db, "SELECT max(id) FROM outbox_event"), OUTBOX_ID_MAX);
}

/* [error-2] */
static void test_a_busy_database_is_reported_and_the_put_can_be_repeated(void **state)
{
    struct bench *bench = *state;
    sqlite3 *other = bench_connect(bench);
    bench_sql(other, "BEGIN IMMEDIATE");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_BUSY);
    assert_non_null(strstr(outbox_errmsg(bench->box), "locked"));
    assert_true(sqlite3_get_autocommit(bench->db));
    bench_sql(other, "COMMIT");
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    assert_string_equal(outbox_errmsg(bench->box), "no error");
    sqlite3_close(other);
}

static int deny_rollback(void *context, int action, const char *a, const char *b, const char *c,
                         const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    bool rolls_back =
        (action == SQLITE_TRANSACTION || action == SQLITE_SAVEPOINT) && strcmp(a, "ROLLBACK") == 0;
    return rolls_back ? SQLITE_DENY : SQLITE_OK;
}

/* Makes a put fail whose transaction cannot be rolled back. */
static void leave_a_transaction_open(struct bench *bench)
{
    sqlite3 *other = bench_connect(bench);
    bench_sql(other, "BEGIN IMMEDIATE");
    sqlite3_set_authorizer(bench->db, deny_rollback, NULL);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "run ROLLBACK"));
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(other, "COMMIT");
    sqlite3_close(other);
}

/* [put-8] */
static void test_a_put_whose_rollback_failed_says_so_and_the_next_one_ends_it(void **state)
{
    struct bench *bench = *state;
    leave_a_transaction_open(bench);
    bench_sql(bench->db, "INSERT INTO reading VALUES(1)");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "run ROLLBACK"));
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM reading"), 1);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "rolled back now"));
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM reading"), 0);
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    assert_int_equal(pending(bench), 1);
}

/* [put-8] */
static void test_a_transaction_opened_after_a_left_over_one_was_ended_is_kept(void **state)
{
    struct bench *bench = *state;
    leave_a_transaction_open(bench);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    bench_sql(bench->db, "ROLLBACK; BEGIN; INSERT INTO reading VALUES(1)");
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM reading"), 1);
    assert_int_equal(pending(bench), 1);
}

static int deny_meta_and_rollback(void *context, int action, const char *a, const char *b,
                                  const char *c, const char *d)
{
    bool fails = action == SQLITE_INSERT && strcmp(a, "outbox_meta") == 0;
    return fails ? SQLITE_DENY : deny_rollback(context, action, a, b, c, d);
}

/* [attach-6] */
static void test_an_attach_whose_rollback_failed_says_so(void **state)
{
    sqlite3 *db;
    outbox *box;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    sqlite3_set_authorizer(db, deny_meta_and_rollback, NULL);
    expect_refusal(db, NULL, OUTBOX_SQLITE, "run ROLLBACK");
    assert_false(sqlite3_get_autocommit(db));
    sqlite3_set_authorizer(db, NULL, NULL);
    bench_sql(db, "ROLLBACK");
    assert_int_equal(bench_number(db, "SELECT count(*) FROM sqlite_master"), 0);
    assert_int_equal(outbox_attach(db, NULL, &box), OUTBOX_OK);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [P9] */
static void test_a_put_that_a_trigger_ignores_is_no_success(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "CREATE TRIGGER skip BEFORE INSERT ON outbox_event"
                         " BEGIN SELECT RAISE(IGNORE); END");
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1);
}

static void put_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc, (void)argv;
    outbox_event event = {.topic = "a"};
    sqlite3_result_int(context, outbox_put(sqlite3_user_data(context), &event, NULL));
}

/* [P1] a put inside a statement of the application's belongs to that statement */
static void test_a_put_from_a_sql_function_fails_with_its_statement(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_sql(bench->db, "CREATE TABLE one(value UNIQUE); INSERT INTO one VALUES(0), (1)");
    sqlite3_create_function(bench->db, "put", 0, SQLITE_UTF8, bench->box, put_function, NULL, NULL);
    assert_int_equal(sqlite3_exec(bench->db, "UPDATE one SET value = put()", NULL, NULL, NULL),
                     SQLITE_CONSTRAINT);
    assert_int_equal(pending(bench), 0);
    bench_sql(bench->db, "DELETE FROM one WHERE value = 1; UPDATE one SET value = put()");
    assert_int_equal(pending(bench), 1);
    assert_true(listener.commits >= 1);
}

/* [P1] the statement's transaction covers every database of the connection */
static void test_a_put_from_a_statement_that_writes_no_table_of_ours_belongs_to_it(void **state)
{
    static const char *const tables[] = {"temp.one", "other.one"};
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_sql(bench->db, "ATTACH ':memory:' AS other");
    sqlite3_create_function(bench->db, "put", 0, SQLITE_UTF8, bench->box, put_function, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        char *fill = sqlite3_mprintf("CREATE TABLE %s(value UNIQUE); INSERT INTO %s VALUES(1), (2)",
                                     tables[i], tables[i]);
        char *fail = sqlite3_mprintf("UPDATE %s SET value = put()", tables[i]);
        char *work = sqlite3_mprintf("DELETE FROM %s WHERE value = 2; %s", tables[i], fail);
        bench_sql(bench->db, fill);
        assert_int_equal(sqlite3_exec(bench->db, fail, NULL, NULL, NULL), SQLITE_CONSTRAINT);
        assert_int_equal(pending(bench), i);
        bench_sql(bench->db, work);
        assert_int_equal(pending(bench), i + 1);
        sqlite3_free(fill);
        sqlite3_free(fail);
        sqlite3_free(work);
        char *same = sqlite3_mprintf("SELECT value FROM %s", tables[i]);
        assert_int_equal(bench_number(bench->db, same), OUTBOX_OK);
        sqlite3_free(same);
    }
    assert_int_equal(listener.commits, 2);
}

static void test_a_put_from_a_statement_that_only_reads_is_a_transaction_of_its_own(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    sqlite3_create_function(bench->db, "put", 0, SQLITE_UTF8, bench->box, put_function, NULL, NULL);
    assert_int_equal(bench_number(bench->db, "SELECT put() FROM outbox_meta"), OUTBOX_OK);
    assert_int_equal(pending(bench), 1);
    assert_int_equal(listener.commits, 1);
}

/* [P1] a trigger on the outbox's own table that calls a function that puts: the put inside is
 * refused, and leaves the event of the one outside as it is */
static void test_a_put_inside_a_put_is_refused_and_spoils_nothing(void **state)
{
    static const char *const moments[] = {"BEFORE", "AFTER"};
    struct bench *bench = *state;
    sqlite3_create_function(bench->db, "put", 0, SQLITE_UTF8, bench->box, put_function, NULL, NULL);
    bench_sql(bench->db, "CREATE TABLE inner(code)");
    for (int i = 0; i < 2; i++) {
        char *sql = sqlite3_mprintf("CREATE TRIGGER nested %s INSERT ON outbox_event"
                                    " BEGIN INSERT INTO inner VALUES(put()); END",
                                    moments[i]);
        bench_sql(bench->db, sql);
        sqlite3_free(sql);
        outbox_event event = {.topic = "plant/7",
                              .payload = "warm",
                              .payload_len = 4,
                              .content_type = "text/plain",
                              .type = "reading",
                              .key = "k",
                              .retain = 1};
        assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
        assert_int_equal(bench_number(bench->db, "SELECT code FROM inner"), OUTBOX_MISUSE);
        bench_sql(bench->db, "DROP TRIGGER nested; DELETE FROM inner");
        assert_int_equal(
            bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE topic = 'plant/7' AND"
                                    " payload = 'warm' AND type = 'reading' AND key = 'k' AND"
                                    " content_type = 'text/plain' AND retain = 1 AND created > 0"),
            i + 1);
        assert_int_equal(pending(bench), i + 1);
    }
}

static void put_urgent_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    static const outbox_header headers[] = {{"tenant", "inside"}};
    const outbox_event event = {
        .topic = "a", .lane = OUTBOX_URGENT, .headers = headers, .header_count = 1};
    (void)argc, (void)argv;
    sqlite3_result_int(context, outbox_put(sqlite3_user_data(context), &event, NULL));
}

/* [P1] the one inside goes into the other lane, and each has its own */
static void test_a_put_inside_a_put_does_not_change_the_headers_of_the_one_outside(void **state)
{
    static const outbox_header headers[] = {{"tenant", "outer"}};
    const outbox_event event = {.topic = "a", .headers = headers, .header_count = 1};
    struct bench *bench = *state;
    sqlite3_create_function(bench->db, "put", 0, SQLITE_UTF8, bench->box, put_urgent_function, NULL,
                            NULL);
    bench_sql(bench->db, "CREATE TABLE inner(code);"
                         "CREATE TRIGGER nested BEFORE INSERT ON outbox_event"
                         " BEGIN INSERT INTO inner VALUES(put()); END");
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "SELECT code FROM inner"), OUTBOX_OK);
    assert_int_equal(
        bench_number(bench->db, "SELECT (SELECT headers FROM outbox_event WHERE id = 1) ="
                                " 'tenant=outer' || char(10) AND (SELECT headers FROM outbox_urgent"
                                " WHERE id = 1) = 'tenant=inside' || char(10)"),
        1);
}

/* ---- What SQLite and others do to a put ------------------------------------------------------ */

/* Memory runs out while that pragma runs, and only then. */
static int on_trace(unsigned kind, void *context, void *statement, void *text)
{
    (void)text;
    const char *sql = sqlite3_sql(statement);
    if (!sql || strcmp(sql, context) != 0)
        return 0;
    sqlite3_hard_heap_limit64(kind == SQLITE_TRACE_STMT ? sqlite3_memory_used() : 0);
    return 0;
}

/* [P1] [put-8] in UTF-16 that needs memory for a text */
static void test_a_put_whose_transaction_is_rolled_back_under_it_stores_nothing(void **state)
{
    sqlite3 *db = NULL;
    outbox *box = NULL;
    char pragma[] = "PRAGMA main.journal_mode";
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0), SQLITE_OK);
    bench_sql(db, "PRAGMA encoding = 'UTF-16'; CREATE TABLE reading(value)");
    assert_int_equal(outbox_attach(db, NULL, &box), OUTBOX_OK);
    bench_sql(db, "BEGIN; INSERT INTO reading VALUES(1)");
    sqlite3_trace_v2(db, SQLITE_TRACE_STMT | SQLITE_TRACE_PROFILE, on_trace, pragma);
    int code = outbox_put(box, &(outbox_event){.topic = "a"}, NULL);
    sqlite3_trace_v2(db, 0, NULL, NULL);
    sqlite3_hard_heap_limit64(0);
    assert_int_equal(code, OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(box), "rolled the transaction back"));
    assert_true(sqlite3_get_autocommit(db));
    assert_int_equal(bench_number(db, "SELECT count(*) FROM reading"), 0);
    assert_int_equal(bench_number(db, "SELECT count(*) FROM outbox_event"), 1);
    assert_int_equal(outbox_put(box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_OK);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Lets so many operations of SQLite's machine pass, and interrupts at the next one, once. */
static int interrupt(void *context)
{
    int *left = context;
    return --*left == 0;
}

/* [P1] [put-8] SQLite rolls the whole transaction back where it interrupts certain statements */
static void test_an_interrupted_put_leaves_the_event_with_its_transaction_or_neither(void **state)
{
    struct bench *bench = *state;
    int interrupted = 0;
    for (int n = 1, left = 0; left <= 0; n++) {
        left = n;
        bench_sql(bench->db, "DELETE FROM reading; BEGIN; INSERT INTO reading VALUES(1)");
        int64_t before = pending(bench);
        sqlite3_progress_handler(bench->db, 1, interrupt, &left);
        int code = outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL);
        sqlite3_progress_handler(bench->db, 0, NULL, NULL);
        assert_true(code == OUTBOX_OK || code == OUTBOX_SQLITE);
        interrupted += code == OUTBOX_SQLITE;
        if (sqlite3_get_autocommit(bench->db))
            assert_int_equal(code, OUTBOX_SQLITE); /* its transaction is gone */
        else
            bench_sql(bench->db, code == OUTBOX_OK ? "COMMIT" : "ROLLBACK");
        assert_int_equal(pending(bench) - before, code == OUTBOX_OK);
    }
    assert_in_range(interrupted, 10, 1000);
}

struct denial {
    int action;
    const char *name; /* NULL: any */
    int after;        /* so many are allowed before */
};

static int deny(void *context, int action, const char *a, const char *b, const char *c,
                const char *d)
{
    struct denial *denial = context;
    (void)b, (void)c, (void)d;
    bool is_it = action == denial->action && (!denial->name || strcmp(a, denial->name) == 0);
    return is_it && denial->after-- <= 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [put-8] */
static void test_a_put_that_may_not_open_a_transaction_of_its_own_stores_nothing(void **state)
{
    struct bench *bench = *state;
    struct denial denial = {.action = SQLITE_SAVEPOINT};
    bench_put(bench, "a", "b");
    sqlite3_set_authorizer(bench->db, deny, &denial);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "not authorized"));
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(pending(bench), 1);
    assert_true(sqlite3_get_autocommit(bench->db));
}

/* [put-8] */
static void
test_a_put_with_an_id_out_of_range_that_may_not_be_taken_back_is_rolled_back(void **state)
{
    struct bench *bench = *state;
    struct denial denial = {.action = SQLITE_DELETE, .name = "outbox_event"};
    bench_sql(bench->db, "INSERT INTO outbox_event(id, topic) VALUES(281474976710656, 'a')");
    sqlite3_set_authorizer(bench->db, deny, &denial);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(pending(bench), 1);
}

/* [put-8] */
static void test_after_a_rollback_by_hand_the_next_put_is_stored(void **state)
{
    struct bench *bench = *state;
    leave_a_transaction_open(bench);
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    assert_int_equal(pending(bench), 1);
}

/* [put-8] its savepoint can be undone, the transaction around it cannot be ended */
static void test_a_left_over_transaction_that_cannot_be_ended_is_said_again(void **state)
{
    struct bench *bench = *state;
    struct denial denial = {.action = SQLITE_TRANSACTION, .name = "ROLLBACK"};
    leave_a_transaction_open(bench);
    sqlite3_set_authorizer(bench->db, deny, &denial);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "still open"));
    assert_false(sqlite3_get_autocommit(bench->db));
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(outbox_put(bench->box, &(outbox_event){.topic = "a"}, NULL), OUTBOX_SQLITE);
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_int_equal(bench_put(bench, "a", "b"), 1);
}

/* [flush-2] */
static void test_a_flush_that_cannot_read_the_table_says_so(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    struct denial denial = {.action = SQLITE_READ, .name = "outbox_event"};
    listen_to(bench, &listener);
    bench_put(bench, "a", "b");
    sqlite3_set_authorizer(bench->db, deny, &denial);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "prohibited"));
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_TIMEOUT);
}

/* [attach-6] */
static void test_attach_that_cannot_read_the_stored_name_changes_nothing(void **state)
{
    struct bench *bench = *state;
    outbox *box = NULL;
    sqlite3 *other = bench_connect(bench);
    /* `minimum_reader` is read from two columns before. */
    struct denial denial = {.action = SQLITE_READ, .name = "outbox_meta", .after = 2};
    char *before = bench_text(bench->db, "SELECT group_concat(value) FROM outbox_meta");
    sqlite3_set_authorizer(other, deny, &denial);
    assert_int_equal(outbox_attach(other, &(outbox_config){.device = "pump"}, &box), OUTBOX_SQLITE);
    assert_null(box);
    char *after = bench_text(bench->db, "SELECT group_concat(value) FROM outbox_meta");
    assert_string_equal(before, after);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_epoch"), OUTBOX_LANES);
    sqlite3_free(before);
    sqlite3_free(after);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [attach-5] */
static void
test_a_stored_name_that_cannot_be_used_is_replaced_by_the_one_that_is_given(void **state)
{
    struct bench *bench = *state;
    outbox *box = NULL;
    sqlite3 *other = bench_connect(bench);
    bench_sql(bench->db, "UPDATE outbox_meta SET value = 'no name!' WHERE name = 'device'");
    assert_int_equal(outbox_attach(other, &(outbox_config){.device = "pump"}, &box), OUTBOX_OK);
    char *name = bench_text(other, "SELECT value FROM outbox_meta WHERE name = 'device'");
    assert_string_equal(name, "pump");
    sqlite3_free(name);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [detach-1] nobody is left to hear of it, and the table goes once nothing holds it */
static void test_a_statement_on_our_table_that_outlives_detach_does_no_harm(void **state)
{
    struct bench *bench = *state;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(bench->db, "INSERT INTO outbox_commit(touch) VALUES(1)", -1,
                                        &statement, NULL),
                     SQLITE_OK);
    outbox_detach(bench->box);
    bench->box = NULL;
    assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(bench->db, "INSERT INTO outbox_commit(touch) VALUES(1)", NULL, NULL, NULL),
        SQLITE_ERROR);
    assert_int_equal(pending(bench), 0);
}

/* [detach-1] [put-2] */
static void test_a_savepoint_that_is_undone_after_detach_takes_its_events_with_it(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "stays");
    bench_sql(bench->db, "SAVEPOINT s");
    bench_put(bench, "a", "goes");
    outbox_detach(bench->box);
    bench->box = NULL;
    bench_sql(bench->db, "ROLLBACK TO s; COMMIT");
    assert_int_equal(pending(bench), 1);
    assert_int_equal(bench_number(bench->db, "SELECT payload = 'stays' FROM outbox_event"
                                             " WHERE ledger IS NULL"),
                     1);
}

/* ---- What the forwarder is told -------------------------------------------------------------- */

static void test_a_commit_is_heard_once_and_after_it_is_visible(void **state)
{
    static const char *const modes[] = {"WAL", "DELETE", "TRUNCATE", "PERSIST"};
    struct bench *bench = *state;
    static struct listener listener;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        bench_reopen(bench, modes[i], "EXTRA");
        listen_to(bench, &listener);
        listener.other = bench_connect(bench);
        int64_t before = pending(bench);
        bench_sql(bench->db, "BEGIN");
        bench_put(bench, "a", "b");
        int64_t last = bench_put(bench, "a", "c");
        assert_int_equal(listener.commits, 0);
        bench_sql(bench->db, "COMMIT");
        assert_int_equal(listener.commits, 1);
        assert_int_equal(listener.seen_by_other, before + 2);
        assert_int_equal(listener.durable_id, last);
        bench_put(bench, "a", "d");
        assert_int_equal(listener.commits, 2);
        sqlite3_close(listener.other);
    }
}

static void test_a_rollback_is_not_heard(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_sql(bench->db, "BEGIN");
    bench_put(bench, "a", "b");
    bench_sql(bench->db, "ROLLBACK");
    assert_int_equal(listener.commits, 0);
    outbox_stop(bench->box);
    assert_int_equal(listener.stops, 1);
}

/* [P2] the pair of journal mode and synchronous decides what a commit proves */
static void test_only_a_commit_that_syncs_proves_its_events_durable(void **state)
{
    static const struct {
        const char *mode, *synchronous;
        bool durable;
    } cases[] = {
        {"WAL", "FULL", true},      {"WAL", "EXTRA", true},     {"WAL", "NORMAL", false},
        {"DELETE", "EXTRA", true},  {"DELETE", "FULL", false},  {"DELETE", "NORMAL", false},
        {"TRUNCATE", "FULL", true}, {"PERSIST", "FULL", true},  {"PERSIST", "NORMAL", false},
        {"MEMORY", "FULL", false},  {"TRUNCATE", "OFF", false},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct listener listener;
        bench_reopen(bench, cases[i].mode, cases[i].synchronous);
        listen_to(bench, &listener);
        int64_t id = bench_put(bench, "a", "b");
        assert_int_equal(listener.commits, 1);
        assert_int_equal(listener.durable_id, cases[i].durable ? id : 0);
    }
}

/* [P2] */
static void test_synchronous_is_read_anew_in_each_transaction(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_sql(bench->db, "PRAGMA synchronous = FULL");
    int64_t id = bench_put(bench, "a", "b");
    assert_int_equal(listener.durable_id, id);
    bench_sql(bench->db, "PRAGMA synchronous = NORMAL");
    bench_put(bench, "a", "b");
    assert_int_equal(listener.durable_id, 0);
}

/* [P2] the id that a savepoint gave back may be taken by a writer that does not sync */
static void test_an_event_undone_by_a_savepoint_is_not_claimed_durable(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    bench_sql(bench->db, "PRAGMA synchronous = FULL; BEGIN");
    bench_put(bench, "a", "b");
    bench_sql(bench->db, "SAVEPOINT s");
    bench_put(bench, "a", "c");
    bench_sql(bench->db, "ROLLBACK TO s; COMMIT");
    assert_int_equal(listener.commits, 1);
    assert_int_equal(listener.durable_id, 0);
    bench_sql(bench->db, "BEGIN; SAVEPOINT s");
    bench_put(bench, "a", "c");
    bench_sql(bench->db, "ROLLBACK TO s; COMMIT");
    assert_int_equal(listener.durable_id, 0);
    bench_sql(bench->db, "BEGIN; SAVEPOINT s");
    bench_put(bench, "a", "c");
    bench_sql(bench->db, "ROLLBACK TO s");
    int64_t id = bench_put(bench, "a", "d");
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(listener.durable_id, id);
}

static void test_one_handle_takes_one_service(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    assert_int_equal(outbox_bind(bench->box, &listening, &listener), OUTBOX_MISUSE);
    outbox_detach(bench->box);
    bench->box = NULL;
    assert_int_equal(listener.stops, 1);
}

static void listener_gate(void *context, outbox_gate_state gate)
{
    *(outbox_gate_state *)context = gate;
}

/* [gate-1] */
static void test_a_gate_is_handed_on_where_there_is_one_and_somebody_to_hear_it(void **state)
{
    static const outbox_service service = {
        .version = 1, .gate = listener_gate, .stop = listener_nothing};
    struct bench *bench = *state;
    outbox_gate_state gate = OUTBOX_GATE_OPEN;
    assert_int_equal(outbox_gate(NULL, OUTBOX_GATE_OPEN), OUTBOX_MISUSE);
    assert_int_equal(outbox_gate(bench->box, OUTBOX_GATE_OPEN), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_bind(bench->box, &service, &gate), OUTBOX_OK);
    assert_int_equal(outbox_gate(bench->box, OUTBOX_GATE_URGENT_ONLY), OUTBOX_OK);
    assert_int_equal(gate, OUTBOX_GATE_URGENT_ONLY);
    assert_int_equal(outbox_gate(bench->box, OUTBOX_GATE_CLOSED), OUTBOX_OK);
    assert_int_equal(gate, OUTBOX_GATE_CLOSED);
    assert_int_equal(outbox_gate(bench->box, (outbox_gate_state)7), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "no state 7"));
    assert_int_equal(gate, OUTBOX_GATE_CLOSED);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
    assert_int_equal(outbox_gate(bench->box, OUTBOX_GATE_OPEN), OUTBOX_CLOSED);
    assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
}

/* [flush-2] */
static void test_flush_inside_a_transaction_is_misuse(void **state)
{
    struct bench *bench = *state;
    static struct listener listener;
    listen_to(bench, &listener);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_OK);
    assert_int_equal(
        outbox_put(bench->box, &(outbox_event){.topic = "a", .lane = OUTBOX_URGENT}, NULL),
        OUTBOX_OK);
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_TIMEOUT);
    bench_sql(bench->db, "DELETE FROM outbox_urgent WHERE ledger IS NULL");
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_OK);
    bench_put(bench, "a", "b");
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_TIMEOUT);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_flush(bench->box, 0), OUTBOX_MISUSE);
    bench_sql(bench->db, "COMMIT");
}

/* ---- Statistics ------------------------------------------------------------------------------ */

/* [stats-1] [P4] */
static void test_statistics_count_what_is_pending_and_delivered(void **state)
{
    struct bench *bench = *state;
    static struct rig rig;
    outbox_statistics now;
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    assert_int_equal(now.accepted, 0);
    assert_int_equal(now.oldest_created, 0);
    for (int i = 0; i < 5; i++)
        bench_put(bench, "a", "b");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 2);
    rig_ack_from(&rig, 0);
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    assert_int_equal(now.delivered, 2);
    assert_int_equal(now.pending, 3);
    assert_int_equal(now.accepted, 5);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].last_id, 5);
    assert_true(now.oldest_created > 1700000000000);
    assert_int_equal(now.state, OUTBOX_STATE_STOPPED);
}

/* [stats-1] */
static void test_the_oldest_event_of_both_lanes_is_told(void **state)
{
    struct bench *bench = *state;
    outbox_statistics now;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, created) VALUES('a', 2000);"
                         "INSERT INTO outbox_urgent(topic, created) VALUES('a', 3000)");
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    assert_int_equal(now.oldest_created, 2000);
    bench_sql(bench->db, "UPDATE outbox_urgent SET created = 1000 WHERE ledger IS NULL");
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    assert_int_equal(now.oldest_created, 1000);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].oldest_created, 2000);
}

/* [stats-2] */
static void test_inspect_reads_through_a_read_only_connection(void **state)
{
    struct bench *bench = *state;
    sqlite3 *db;
    outbox_statistics now;
    char sentence[200];
    bench_put(bench, "a", "b");
    assert_int_equal(sqlite3_open_v2(bench->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(outbox_inspect(db, &now, NULL, 0), OUTBOX_OK);
    assert_int_equal(now.pending, 1);
    sqlite3_close(db);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(outbox_inspect(db, &now, sentence, sizeof sentence), OUTBOX_CORRUPT);
    assert_non_null(strstr(sentence, "no outbox"));
    assert_int_equal(outbox_inspect(NULL, &now, NULL, 0), OUTBOX_MISUSE);
    sqlite3_close(db);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_attach_makes_the_tables_and_a_second_attach_changes_nothing),
        CASE(test_attach_refuses_null_and_says_nothing_was_made),
        CASE(test_a_second_attach_on_one_connection_is_refused_and_the_first_goes_on),
        CASE(test_attach_inside_a_transaction_is_refused),
        CASE(test_a_read_only_database_is_refused),
        CASE(test_a_newer_schema_is_refused_and_left_alone),
        CASE(test_a_schema_that_is_newer_but_allows_us_is_taken),
        CASE(test_journal_mode_off_is_refused),
        CASE(test_settings_that_weaken_the_promises_are_said),
        CASE(test_settings_under_which_a_commit_may_be_undone_are_said),
        CASE(test_each_put_sees_settings_that_have_changed),
        CASE(test_a_put_is_refused_once_journal_mode_is_off),
        CASE(test_a_journal_mode_that_changes_inside_a_transaction_is_seen),
        CASE(test_a_device_name_outside_its_letters_is_refused),
        CASE(test_a_device_name_is_kept_and_another_one_starts_a_new_epoch),
        CASE(test_attach_and_put_take_no_hook_and_change_no_pragma),
        CASE(test_a_put_leaves_the_last_insert_rowid),
        CASE(test_the_connection_closes_before_detach_and_the_handle_says_so),
        CASE(test_a_close_that_fails_leaves_a_handle_that_works),
        CASE(test_the_connection_closes_inside_a_transaction_with_puts),
        CASE(test_detach_inside_a_transaction_leaves_its_events_to_it),
        CASE(test_an_authorizer_that_denies_the_wake_up_does_not_stop_a_put),
        CASE(test_an_authorizer_that_comes_later_does_not_stop_a_put_either),
        CASE(test_a_put_in_a_rolled_back_transaction_leaves_nothing),
        CASE(test_a_put_in_a_rolled_back_savepoint_leaves_nothing),
        CASE(test_a_put_without_a_transaction_commits_itself),
        CASE(test_ids_ascend_and_are_not_used_again_after_a_delivery),
        CASE(test_the_content_type_chooses_text_or_bytes),
        CASE(test_every_field_of_an_event_is_stored),
        CASE(test_bad_topics_are_refused_and_the_transaction_goes_on),
        CASE(test_a_payload_over_the_limit_is_refused),
        CASE(test_a_payload_that_is_not_what_it_says_is_refused),
        CASE(test_bad_attributes_are_refused),
        CASE(test_null_arguments_of_put_are_misuse),
        CASE(test_an_id_out_of_range_is_refused_until_the_forwarder_has_mended_it),
        CASE(test_a_put_with_an_id_out_of_range_takes_back_only_its_own_row),
        CASE(test_a_put_with_an_id_out_of_range_that_cannot_be_taken_back_is_rolled_back),
        CASE(test_a_busy_database_is_reported_and_the_put_can_be_repeated),
        CASE(test_a_put_whose_rollback_failed_says_so_and_the_next_one_ends_it),
        CASE(test_a_transaction_opened_after_a_left_over_one_was_ended_is_kept),
        CASE(test_an_attach_whose_rollback_failed_says_so),
        CASE(test_a_put_that_a_trigger_ignores_is_no_success),
        CASE(test_a_put_from_a_sql_function_fails_with_its_statement),
        CASE(test_a_put_from_a_statement_that_writes_no_table_of_ours_belongs_to_it),
        CASE(test_a_put_from_a_statement_that_only_reads_is_a_transaction_of_its_own),
        CASE(test_a_put_inside_a_put_is_refused_and_spoils_nothing),
        CASE(test_a_put_inside_a_put_does_not_change_the_headers_of_the_one_outside),
        CASE(test_a_put_whose_transaction_is_rolled_back_under_it_stores_nothing),
        CASE(test_an_interrupted_put_leaves_the_event_with_its_transaction_or_neither),
        CASE(test_a_put_that_may_not_open_a_transaction_of_its_own_stores_nothing),
        CASE(test_a_put_with_an_id_out_of_range_that_may_not_be_taken_back_is_rolled_back),
        CASE(test_after_a_rollback_by_hand_the_next_put_is_stored),
        CASE(test_a_left_over_transaction_that_cannot_be_ended_is_said_again),
        CASE(test_a_flush_that_cannot_read_the_table_says_so),
        CASE(test_attach_that_cannot_read_the_stored_name_changes_nothing),
        CASE(test_a_stored_name_that_cannot_be_used_is_replaced_by_the_one_that_is_given),
        CASE(test_a_statement_on_our_table_that_outlives_detach_does_no_harm),
        CASE(test_a_savepoint_that_is_undone_after_detach_takes_its_events_with_it),
        CASE(test_a_commit_is_heard_once_and_after_it_is_visible),
        CASE(test_a_rollback_is_not_heard),
        CASE(test_only_a_commit_that_syncs_proves_its_events_durable),
        CASE(test_synchronous_is_read_anew_in_each_transaction),
        CASE(test_an_event_undone_by_a_savepoint_is_not_claimed_durable),
        CASE(test_one_handle_takes_one_service),
        CASE(test_a_gate_is_handed_on_where_there_is_one_and_somebody_to_hear_it),
        CASE(test_flush_inside_a_transaction_is_misuse),
        CASE(test_statistics_count_what_is_pending_and_delivered),
        CASE(test_the_oldest_event_of_both_lanes_is_told),
        CASE(test_inspect_reads_through_a_read_only_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
