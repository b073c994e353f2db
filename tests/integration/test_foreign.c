/* SPDX-License-Identifier: MIT
 *
 * test_foreign.c - rows that come from programs which know nothing of this library.
 *
 * The writer is the sqlite3 shell, another process. What it inserts is sent like any event; what it
 * inserts wrongly is kept aside and counted, and holds nobody up.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

/* Runs SQL in the sqlite3 shell. */
static void shell(const scene *s, const char *sql)
{
    const char *const arguments[] = {"sqlite3", "-cmd", ".timeout 5000", s->database, sql, NULL};

    if (child_run(s->folder, "sqlite3.log", "sqlite3.log", arguments) != 0) {
        fail_msg("sqlite3 failed: %s", sql);
    }
}

static void test_a_row_of_the_sqlite3_shell_is_sent_while_the_application_is_idle(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    (void)app_await(a, is_online);
    shell(s, "INSERT INTO outbox_event(topic, payload) VALUES('plant/7', 'from outside')");
    expect_arrivals(s->recorder, 1);

    expect_text(s->recorder, "SELECT topic FROM arrival", "plant/7");
    expect_text(s->recorder, "SELECT json_extract(event, '$.data') FROM arrival", "from outside");
    expect_text(s->recorder, "SELECT json_extract(event, '$.type') FROM arrival", "outbox.event");
}

static void test_rows_of_the_shell_and_puts_keep_the_order_of_their_commits(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 10);
    shell(s, "BEGIN; INSERT INTO outbox_event(topic, payload) VALUES('t', '11');"
             "INSERT INTO outbox_event(topic, payload) VALUES('t', '12'); COMMIT");
    app_put_numbers(a, 13, 10);
    app_flush(a);

    expect_numbers(s->recorder, 1, 22);
    expect_arrivals(s->recorder, 22);
}

static void test_a_row_that_the_shell_rolled_back_never_arrives(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    shell(s, "BEGIN; INSERT INTO outbox_event(topic, payload) VALUES('t', 'undone'); ROLLBACK;"
             "INSERT INTO outbox_event(topic, payload) VALUES('t', '1')");
    app_flush(a);

    expect_numbers(s->recorder, 1, 1);
    expect_arrivals(s->recorder, 1);
}

/* Rows that were stored while no forwarder ran at all. */
static void test_rows_that_were_inserted_before_the_start_are_sent(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    shell(s, "INSERT INTO outbox_event(topic, payload) VALUES('t', '1')");
    app_start(s, a);

    expect_numbers(s->recorder, 1, 1);
}

static int three_are_dead(const outbox_statistics *statistics)
{
    return statistics->dead_lettered == 3;
}

/* No recipient could get them. [P3] [P4] */
static void test_rows_that_cannot_be_sent_are_kept_aside_and_hold_nobody_up(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .announce_topic = ""});

    shell(s, "INSERT INTO outbox_event(topic, payload) VALUES('t', '1'),"
             " (NULL, 'no topic'), ('a/#', 'a wildcard'), ('t', 3.5), ('t', '2')");
    outbox_statistics now = app_await(a, three_are_dead);
    assert_int_equal(now.accepted, 5);
    app_flush(a);

    expect_numbers(s->recorder, 1, 2);
    expect_arrivals(s->recorder, 2);
    assert_int_equal(app_stats(a).delivered, 2);
    assert_int_equal(app_number(a, "SELECT count(*) FROM outbox_dead WHERE reason <> ''"), 3);
}

static void test_without_the_check_foreign_rows_go_out_with_the_next_commit(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .foreign_check_ms = OUTBOX_NEVER});
    (void)app_await(a, is_online);
    app_put_numbers(a, 1, 1);
    expect_arrivals(s->recorder, 1);
    app_flush(a);

    shell(s, "INSERT INTO outbox_event(topic, payload) VALUES('t', '2')");
    recorder_follow(s->recorder, 1500);
    expect_number(s->recorder, "SELECT count(*) FROM arrival", 1);
    app_put_numbers(a, 3, 1);
    expect_numbers(s->recorder, 1, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_row_of_the_sqlite3_shell_is_sent_while_the_application_is_idle),
        SCENE_TEST(test_rows_of_the_shell_and_puts_keep_the_order_of_their_commits),
        SCENE_TEST(test_a_row_that_the_shell_rolled_back_never_arrives),
        SCENE_TEST(test_rows_that_were_inserted_before_the_start_are_sent),
        SCENE_TEST(test_rows_that_cannot_be_sent_are_kept_aside_and_hold_nobody_up),
        SCENE_TEST(test_without_the_check_foreign_rows_go_out_with_the_next_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
