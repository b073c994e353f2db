/* SPDX-License-Identifier: MIT
 *
 * test_polite.c - the application's connection, signals and process stay its own. [P8]
 *
 * Each test sets something up as an application may, lets events be put, delivered and settled, and
 * looks whether it is still as it was.
 */
#include "harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Attach, start, puts in a transaction and alone, delivery, settling. The scene's database exists
 * and `db` is open on it. */
static app *live(scene *s, sqlite3 *db)
{
    app *a = &s->apps[s->app_count++];

    a->db = db;
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_attach(db, NULL, &a->box), OUTBOX_OK);
    app_start(s, a);
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 1, 10);
    app_exec(a, "COMMIT");
    app_put_numbers(a, 11, 10);
    app_flush(a);
    expect_numbers(s->recorder, 1, 20);
    return a;
}

static sqlite3 *open_database(const scene *s)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(s->database, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "PRAGMA journal_mode = WAL; CREATE TABLE own(value)", NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 5000), SQLITE_OK); /* the forwarder settles */
    return db;
}

/* ---- Hooks ----------------------------------------------------------------------------------- */

typedef struct hooks {
    int commits, rollbacks, updates, wals, waits;
} hooks;

static int on_commit(void *context)
{
    ((hooks *)context)->commits++;
    return 0;
}

static void on_rollback(void *context)
{
    ((hooks *)context)->rollbacks++;
}

static void on_update(void *context, int operation, const char *database, const char *table,
                      sqlite3_int64 id)
{
    (void)operation;
    (void)database;
    (void)id;
    ((hooks *)context)->updates += strcmp(table, "own") == 0;
}

static int on_wal(void *context, sqlite3 *db, const char *database, int pages)
{
    (void)db;
    (void)database;
    (void)pages;
    ((hooks *)context)->wals++;
    return SQLITE_OK;
}

static int on_busy(void *context, int count)
{
    (void)count;
    ((hooks *)context)->waits++;
    return 0;
}

static void set_hooks(sqlite3 *db, hooks *h)
{
    assert_null(sqlite3_commit_hook(db, on_commit, h));
    assert_null(sqlite3_rollback_hook(db, on_rollback, h));
    assert_null(sqlite3_update_hook(db, on_update, h));
    (void)sqlite3_wal_hook(db, on_wal, h); /* SQLite's own was there: automatic checkpoints */
}

/* [attach-2] */
static void test_the_hooks_of_the_application_stay_and_are_called(void **state)
{
    scene *s = *state;
    hooks h = {0};
    sqlite3 *db = open_database(s);

    set_hooks(db, &h);
    app *a = live(s, db);
    h = (hooks){0};
    app_exec(a, "INSERT INTO own VALUES(1)");
    app_exec(a, "BEGIN; INSERT INTO own VALUES(2); ROLLBACK");
    assert_int_equal(h.commits, 1);
    assert_int_equal(h.rollbacks, 1);
    assert_int_equal(h.updates, 2);
    assert_int_equal(h.wals, 1);

    assert_ptr_equal(sqlite3_commit_hook(db, NULL, NULL), &h);
    assert_ptr_equal(sqlite3_rollback_hook(db, NULL, NULL), &h);
    assert_ptr_equal(sqlite3_update_hook(db, NULL, NULL), &h);
    assert_ptr_equal(sqlite3_wal_hook(db, NULL, NULL), &h);
}

/* Hooks that come later find their places free, and the commit is still noticed. */
static void test_hooks_that_are_set_later_find_nobody_in_their_place(void **state)
{
    scene *s = *state;
    hooks h = {0};
    app *a = live(s, open_database(s));

    set_hooks(a->db, &h);
    app_put_numbers(a, 21, 10);
    expect_numbers(s->recorder, 1, 30);
    assert_int_equal(h.commits, 10);
}

/* [attach-2] */
static void test_the_busy_handler_stays(void **state)
{
    scene *s = *state;
    hooks h = {0};
    sqlite3 *db = open_database(s), *other = NULL;

    assert_int_equal(sqlite3_open(s->database, &other), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(other, 5000), SQLITE_OK);
    app *a = live(s, db);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    /* Set after the forwarder ended, then it runs again, idle: only `other` can be in the way. */
    assert_int_equal(sqlite3_busy_handler(db, on_busy, &h), SQLITE_OK);
    outbox_detach(a->box);
    assert_int_equal(outbox_attach(db, NULL, &a->box), OUTBOX_OK);
    app_start(s, a);
    (void)app_await(a, is_online);

    assert_int_equal(sqlite3_exec(other, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    h.waits = 0;
    assert_int_equal(sqlite3_exec(db, "INSERT INTO own VALUES(1)", NULL, NULL, NULL), SQLITE_BUSY);
    assert_int_equal(h.waits, 1);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* ---- Settings -------------------------------------------------------------------------------- */

#define SETTINGS_SIZE 512

/* All settings that such a library could be tempted to change, as one text. */
static void read_settings(app *a, char settings[SETTINGS_SIZE])
{
    static const char *const names[] = {
        "journal_mode",   "synchronous",  "wal_autocheckpoint", "secure_delete",
        "cache_size",     "locking_mode", "foreign_keys",       "recursive_triggers",
        "temp_store",     "user_version", "application_id",     "auto_vacuum",
        "busy_timeout",   "page_size",    "journal_size_limit", "read_uncommitted",
        "trusted_schema", "mmap_size",    "defer_foreign_keys", "query_only",
    };
    size_t used = 0;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char query[64], value[32];
        (void)snprintf(query, sizeof query, "PRAGMA %s", names[i]);
        app_text(a, query, value, sizeof value);
        used += (size_t)snprintf(settings + used, SETTINGS_SIZE - used, "%s=%s ", names[i], value);
        assert_true(used < SETTINGS_SIZE);
    }
}

static void expect_settings_kept(scene *s, const char *chosen)
{
    char before[SETTINGS_SIZE], after[SETTINGS_SIZE];
    app own = {.db = open_database(s)};

    app_exec(&own, chosen);
    read_settings(&own, before);
    app *a = live(s, own.db);
    read_settings(a, after);
    assert_string_equal(after, before);
    outbox_detach(a->box);
    a->box = NULL;
    read_settings(a, after);
    assert_string_equal(after, before);
}

/* [attach-2] */
static void test_no_setting_of_a_wal_connection_changes(void **state)
{
    expect_settings_kept(*state, "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 77;"
                                 "PRAGMA busy_timeout = 4321; PRAGMA secure_delete = FAST");
}

/* [attach-2] */
static void test_no_setting_of_a_rollback_journal_connection_changes(void **state)
{
    expect_settings_kept(*state, "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = EXTRA;"
                                 "PRAGMA busy_timeout = 4321; PRAGMA foreign_keys = ON;"
                                 "PRAGMA user_version = 12; PRAGMA cache_size = 55");
}

/* ---- Closing --------------------------------------------------------------------------------- */

/* [attach-3] */
static void test_a_connection_closes_while_the_forwarder_runs(void **state)
{
    outbox_statistics now;
    scene *s = *state;
    app *a = live(s, open_database(s));

    assert_int_equal(sqlite3_close(a->db), SQLITE_OK);
    a->db = NULL;
    assert_int_equal(outbox_put(a->box, &(outbox_event){.topic = "t"}, NULL), OUTBOX_CLOSED);
    assert_int_equal(outbox_flush(a->box, 0), OUTBOX_CLOSED);
    assert_int_equal(outbox_stats(a->box, &now), OUTBOX_CLOSED);
    outbox_detach(a->box);
    a->box = NULL;
}

/* [attach-3] [detach-1] */
static void test_a_connection_closes_after_detach(void **state)
{
    scene *s = *state;
    app *a = live(s, open_database(s));

    app_close(a);
}

static int count_entries(const char *folder)
{
    int count = 0;
    DIR *directory = opendir(folder);

    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    assert_int_equal(closedir(directory), 0);
    return count;
}

/*
 * Paho's threads end on their own shortly after its last client. So there may be fewer than when
 * they were counted, but never
 * more. */
static void expect_tasks(int most)
{
    long long deadline = clock_ms() + 10000;

    while (count_entries("/proc/self/task") > most && clock_ms() < deadline) {
        pause_ms(5);
    }
    assert_true(count_entries("/proc/self/task") <= most);
}

/* [stop-1] [detach-1] */
static void test_nothing_stays_open_or_running_after_detach(void **state)
{
    scene *s = *state;
    app *a = live(s, open_database(s));

    app_close(a); /* whatever the libraries open once, they have opened now */
    int files = count_entries("/proc/self/fd");
    int tasks = count_entries("/proc/self/task");
    for (int i = 0; i < 5; i++) {
        a = app_open(s, "WAL");
        s->app_count--;
        app_start(s, a);
        app_put_numbers(a, 21 + i, 1);
        app_flush(a);
        app_close(a);
    }

    assert_int_equal(count_entries("/proc/self/fd"), files);
    expect_tasks(tasks);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t broken_pipes;

static void on_broken_pipe(int signal)
{
    (void)signal;
    broken_pipes++;
}

/* Delivery, cuts in the middle of it, and the end, under this disposition. [start-2] */
static void expect_sigpipe_kept(scene *s, void (*handler)(int))
{
    struct sigaction before = {.sa_handler = handler, .sa_flags = SA_RESTART}, after;

    broken_pipes = 0;
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    for (int i = 0; i < 3; i++) {
        (void)app_await(a, is_online);
        proxy_cut(s->proxy);
        app_put_numbers(a, 1 + 100 * i, 100);
    }
    app_flush(a);
    app_close(a);

    assert_int_equal(sigaction(SIGPIPE, NULL, &after), 0);
    assert_ptr_equal(after.sa_handler, handler);
    assert_int_equal(after.sa_flags & SA_RESTART, SA_RESTART);
    assert_int_equal(broken_pipes, 0);
    expect_numbers(s->recorder, 1, 300);
    assert_ptr_not_equal(signal(SIGPIPE, SIG_DFL), SIG_ERR);
}

/* A process that did not ask for it must not die of our connection. */
static void test_the_default_of_sigpipe_stays_and_kills_nobody(void **state)
{
    expect_sigpipe_kept(*state, SIG_DFL);
}

static void test_a_handler_of_sigpipe_stays_and_is_not_called(void **state)
{
    expect_sigpipe_kept(*state, on_broken_pipe);
}

static void test_the_signal_mask_of_the_application_stays(void **state)
{
    sigset_t before, after;
    scene *s = *state;

    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &before), 0);
    (void)live(s, open_database(s));
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &after), 0);
    for (int signal = 1; signal < SIGRTMIN; signal++) {
        assert_int_equal(sigismember(&after, signal), sigismember(&before, signal));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_the_hooks_of_the_application_stay_and_are_called),
        SCENE_TEST(test_hooks_that_are_set_later_find_nobody_in_their_place),
        SCENE_TEST(test_the_busy_handler_stays),
        SCENE_TEST(test_no_setting_of_a_wal_connection_changes),
        SCENE_TEST(test_no_setting_of_a_rollback_journal_connection_changes),
        SCENE_TEST(test_a_connection_closes_while_the_forwarder_runs),
        SCENE_TEST(test_a_connection_closes_after_detach),
        SCENE_TEST(test_nothing_stays_open_or_running_after_detach),
        SCENE_TEST(test_the_default_of_sigpipe_stays_and_kills_nobody),
        SCENE_TEST(test_a_handler_of_sigpipe_stays_and_is_not_called),
        SCENE_TEST(test_the_signal_mask_of_the_application_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
