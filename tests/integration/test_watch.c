/* SPDX-License-Identifier: MIT
 *
 * test_watch.c - rows of others are found when the kernel says that the file was written.
 *
 * The regular look is so rare in these tests that nothing could arrive by it.
 */
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RARELY_MS = 100000000, ROWS = 20 };

static app *begin_rarely(scene *s, const char *mode, unsigned check_ms)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, mode);
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .foreign_check_ms = check_ms});
    (void)app_await(a, is_online);
    return a;
}

static int64_t wall_ns(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Commits rows one by one on a connection that nothing is attached to, and waits for each at the
 * recipient. Returns in how many ms three quarters of them arrived after their commit. */
static int64_t measure(scene *s, const char *settings)
{
    sqlite3 *db = NULL;
    int64_t ns[ROWS];
    int64_t before = recorder_number(s->recorder, "SELECT count(*) FROM arrival");

    assert_int_equal(sqlite3_open(s->database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 5000), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, settings, NULL, NULL, NULL), SQLITE_OK);
    for (int i = 0; i < ROWS; i++) {
        const char *sql = "INSERT INTO outbox_event(topic, payload) VALUES('t', 'x')";
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        int64_t committed = wall_ns();
        recorder_await(s->recorder, "SELECT count(*) FROM arrival", before + i + 1);
        ns[i] = recorder_number(s->recorder, "SELECT at_ns FROM arrival ORDER BY n DESC LIMIT 1") -
                committed;
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    qsort(ns, ROWS, sizeof ns[0], compare);
    return ns[ROWS * 3 / 4] / 1000000;
}

/* [watch-1] */
static void test_a_row_of_another_connection_is_sent_within_50_ms(void **state)
{
    scene *s = *state;
    app *a = begin_rarely(s, "WAL", RARELY_MS);

    assert_in_range(measure(s, "SELECT 1"), 0, 50);
    app_flush(a);
    assert_in_range(measure(s, "PRAGMA synchronous = EXTRA"), 0, 50);
}

/* [watch-1] */
static void test_in_delete_mode_a_row_of_another_connection_is_sent_within_50_ms(void **state)
{
    scene *s = *state;

    (void)begin_rarely(s, "DELETE", RARELY_MS);
    assert_in_range(measure(s, "PRAGMA synchronous = EXTRA"), 0, 50);
}

/* [watch-1] */
static void test_a_row_of_the_sqlite3_shell_is_found_without_the_regular_look(void **state)
{
    scene *s = *state;
    const char *const arguments[] = {
        "sqlite3", s->database, "INSERT INTO outbox_event(topic, payload) VALUES('t', '1')", NULL};

    (void)begin_rarely(s, "WAL", RARELY_MS);
    assert_int_equal(child_run(s->folder, "sqlite3.log", "sqlite3.log", arguments), 0);
    expect_numbers(s->recorder, 1, 1);
}

/* The WAL comes into being while the forwarder runs. */
static void test_a_wal_that_is_made_later_is_watched_too(void **state)
{
    scene *s = *state;
    char mode[16];
    app *a = begin_rarely(s, "DELETE", 500);

    app_put_numbers(a, 1, 1);
    app_flush(a);
    app_text(a, "PRAGMA journal_mode = WAL", mode, sizeof mode);
    assert_string_equal(mode, "wal");
    app_put_numbers(a, 2, 1);
    app_flush(a);
    assert_in_range(measure(s, "SELECT 1"), 0, 50);
}

/* ---- What it costs --------------------------------------------------------------------------- */

/* How often the forwarder's thread has gone to sleep so far. */
static long sleeps_of_forwarder(void)
{
    char path[320], text[4096];
    long sleeps = -1;
    DIR *tasks = opendir("/proc/self/task");

    assert_non_null(tasks);
    for (const struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = fopen(path, "r");
        size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file != NULL) {
            assert_int_equal(fclose(file), 0);
        }
        text[length] = '\0';
        const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
        if (strncmp(text, "Name:\toutbox\n", 13) == 0 && at != NULL) {
            sleeps = strtol(strchr(at, '\t'), NULL, 10);
        }
    }
    assert_int_equal(closedir(tasks), 0);
    return sleeps;
}

/* [P7] */
static void test_when_nothing_happens_the_watch_wakes_nobody(void **state)
{
    scene *s = *state;
    app *a = begin_rarely(s, "WAL", RARELY_MS);

    app_put_numbers(a, 1, 10);
    app_flush(a);
    pause_ms(500); /* what our own settle has stirred up */
    long before = sleeps_of_forwarder();
    assert_true(before > 0);
    pause_ms(1500);
    assert_int_equal(sleeps_of_forwarder(), before);
}

/* A writer who never stops is listened to now and then: his rows go out, in few wake-ups. */
static void test_a_busy_writer_without_events_wakes_the_forwarder_seldom(void **state)
{
    scene *s = *state;
    app *a = begin_rarely(s, "WAL", RARELY_MS);

    pause_ms(200);
    app_exec(a, "INSERT INTO ledger VALUES(0, 'first')");
    long before = sleeps_of_forwarder();
    long long end = clock_ms() + 1000;
    int commits = 0;
    for (; clock_ms() < end; commits++) {
        app_exec(a, "UPDATE ledger SET id = id + 1");
        pause_ms(1);
    }
    assert_true(commits > 200);
    assert_in_range(sleeps_of_forwarder() - before, 1, 250);
}

static void test_without_the_check_nothing_is_watched(void **state)
{
    scene *s = *state;
    app *a = begin_rarely(s, "WAL", OUTBOX_NEVER);

    pause_ms(200);
    long before = sleeps_of_forwarder();
    app_exec(a, "INSERT INTO outbox_event(topic, payload) VALUES('t', '1')");
    recorder_follow(s->recorder, 1000);
    assert_int_equal(sleeps_of_forwarder(), before);
    expect_number(s->recorder, "SELECT count(*) FROM arrival", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_row_of_another_connection_is_sent_within_50_ms),
        SCENE_TEST(test_in_delete_mode_a_row_of_another_connection_is_sent_within_50_ms),
        SCENE_TEST(test_a_row_of_the_sqlite3_shell_is_found_without_the_regular_look),
        SCENE_TEST(test_a_wal_that_is_made_later_is_watched_too),
        SCENE_TEST(test_when_nothing_happens_the_watch_wakes_nobody),
        SCENE_TEST(test_a_busy_writer_without_events_wakes_the_forwarder_seldom),
        SCENE_TEST(test_without_the_check_nothing_is_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
