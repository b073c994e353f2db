/* SPDX-License-Identifier: MIT
 *
 * test_journals.c - every journal mode that can keep the promises: WAL, DELETE, TRUNCATE, PERSIST.
 *
 * The same work in each; the mode is the application's choice and stays as it is.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void expect_journal_mode(app *a, const char *mode)
{
    char now[16];

    app_text(a, "PRAGMA journal_mode", now, sizeof now);
    assert_int_equal(sqlite3_stricmp(now, mode), 0);
}

/* Transactions of five, each second one rolled back and put again, while the forwarder settles. */
static void put_in_transactions(app *a, int first, int count)
{
    for (int i = 0; i < count / 5; i++) {
        if (i % 2 == 1) {
            app_exec(a, "BEGIN IMMEDIATE");
            app_put_numbers(a, 100000, 5);
            app_exec(a, "ROLLBACK");
        }
        app_exec(a, "BEGIN IMMEDIATE");
        app_put_numbers(a, first + 5 * i, 5);
        app_exec(a, "COMMIT");
    }
}

static void work_in(scene *s, const char *mode)
{
    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    app *a = app_open(s, mode);
    put_in_transactions(a, 1, 200);
    app_start(s, a);
    put_in_transactions(a, 201, 200);
    broker_terminate(&s->broker);
    put_in_transactions(a, 401, 200);
    broker_restart(&s->broker);
    app_flush(a);

    expect_numbers(s->recorder, 1, 600);
    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE json_extract(event, '$.data') >= '100000'"
                  " AND length(json_extract(event, '$.data')) = 6",
                  0);
    assert_int_equal(app_stats(a).delivered, 600);
    expect_journal_mode(a, mode);
    app_close(a);
}

static void test_committed_events_arrive_in_wal_mode(void **state)
{
    work_in(*state, "WAL");
}

static void test_committed_events_arrive_in_delete_mode(void **state)
{
    work_in(*state, "DELETE");
}

static void test_committed_events_arrive_in_truncate_mode(void **state)
{
    work_in(*state, "TRUNCATE");
}

static void test_committed_events_arrive_in_persist_mode(void **state)
{
    work_in(*state, "PERSIST");
}

/* [P8] one that deleted it would cost each commit of the application a directory entry again */
static void test_the_forwarder_keeps_the_journal_file_as_the_application_does(void **state)
{
    static const char *const modes[] = {"TRUNCATE", "PERSIST"};
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        app *a = app_open(s, modes[i]);
        app_start(s, a);
        put_in_transactions(a, 1, 20);
        app_flush(a);
        (void)snprintf(path, sizeof path, "%s-journal", sqlite3_db_filename(a->db, "main"));
        assert_int_equal(access(path, F_OK), 0);
        app_close(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_committed_events_arrive_in_wal_mode),
        SCENE_TEST(test_committed_events_arrive_in_delete_mode),
        SCENE_TEST(test_committed_events_arrive_in_truncate_mode),
        SCENE_TEST(test_committed_events_arrive_in_persist_mode),
        SCENE_TEST(test_the_forwarder_keeps_the_journal_file_as_the_application_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
