/* SPDX-License-Identifier: MIT
 *
 * test_start.c - what outbox_start() refuses, and that one forwarder at a time serves a database.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* A refused start names its reason in words and leaves nothing that runs. [start-3] */
static void expect_refusal(app *a, const char *url, int code)
{
    assert_int_equal(outbox_start(a->box, &(outbox_forwarding){.broker = url}), code);
    assert_true(strlen(outbox_errmsg(a->box)) > 0);
    assert_string_not_equal(outbox_errmsg(a->box), "no error");
    assert_int_equal(outbox_flush(a->box, 0), OUTBOX_NOT_STARTED);
    assert_int_equal(outbox_stop(a->box), OUTBOX_NOT_STARTED);
}

/* ---- One forwarder --------------------------------------------------------------------------- */

static void test_a_second_forwarder_of_the_same_process_is_refused(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);
    app *b = app_open(s, "WAL");

    expect_refusal(b, s->url, OUTBOX_LOCKED);

    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    app_start(s, b);
    app_put_numbers(a, 1, 10);
    expect_numbers(s->recorder, 1, 10);
}

/* The child of the next test: serves the database until it is killed. */
static int serve_and_stop(const char *database)
{
    scene s = {.url = "mqtt://127.0.0.1:1"};

    (void)snprintf(s.database, sizeof s.database, "%s", database);
    app *a = app_open(&s, "WAL");
    app_start(&s, a);
    return raise(SIGSTOP);
}

static void test_a_forwarder_of_another_process_is_refused_until_that_one_is_dead(void **state)
{
    scene *s = *state;
    int status = 0;
    const char *const arguments[] = {CHILD_SELF, "serve", s->database, NULL};

    pid_t child = child_start(s->folder, NULL, NULL, arguments);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    app *a = app_open(s, "WAL");
    expect_refusal(a, s->url, OUTBOX_LOCKED);

    assert_int_equal(child_stop(child, SIGKILL), -SIGKILL);
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app_start(s, a);
    app_put_numbers(a, 1, 10);
    expect_numbers(s->recorder, 1, 10);
}

/* ---- Misuse and bad input -------------------------------------------------------------------- */

static void test_a_handle_cannot_be_started_twice(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    assert_int_equal(outbox_start(a->box, &(outbox_forwarding){.broker = s->url}), OUTBOX_MISUSE);
    app_put_numbers(a, 1, 1);
    expect_numbers(s->recorder, 1, 1);
}

static void test_a_start_inside_a_transaction_is_misuse(void **state)
{
    scene *s = *state;
    app *a = app_open(s, "WAL");

    app_exec(a, "BEGIN");
    expect_refusal(a, s->url, OUTBOX_MISUSE);
    app_exec(a, "COMMIT");
    app_start(s, a);
}

static void expect_no_file(app *a, const char *name)
{
    assert_int_equal(sqlite3_open(name, &a->db), SQLITE_OK);
    assert_int_equal(outbox_attach(a->db, NULL, &a->box), OUTBOX_OK);
    expect_refusal(a, "mqtt://127.0.0.1:1", OUTBOX_NO_FILE);
    (void)app_put(a, "t", "still works");
    app_close(a);
}

/* A second connection would see another database. */
static void test_a_database_in_memory_cannot_be_forwarded(void **state)
{
    scene *s = *state;

    s->app_count = 2;
    expect_no_file(&s->apps[0], ":memory:");
    expect_no_file(&s->apps[1], ""); /* a temporary file that has no name */
}

static void test_a_url_that_cannot_be_used_is_refused(void **state)
{
    static const char *const urls[] = {
        "",
        "127.0.0.1",
        "mqtt://",
        "http://127.0.0.1",
        "tcp://127.0.0.1",
        "mqtt://127.0.0.1:0",
        "mqtt://127.0.0.1:65536",
        "mqtt://127.0.0.1:port",
        "mqtt://[::1",
        "mqtt://a b",
        "mqtt://127.0.0.1/path",
        "mqtt://u%zz@127.0.0.1",
    };
    scene *s = *state;
    app *a = app_open(s, "WAL");

    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        if (outbox_start(a->box, &(outbox_forwarding){.broker = urls[i]}) != OUTBOX_BAD_URL) {
            fail_msg("\"%s\" is taken for a URL", urls[i]);
        }
        expect_refusal(a, urls[i], OUTBOX_BAD_URL);
    }
    assert_int_equal(outbox_start(a->box, &(outbox_forwarding){.broker = NULL}), OUTBOX_MISUSE);
    assert_int_equal(outbox_start(a->box, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_start(NULL, &(outbox_forwarding){.broker = s->url}), OUTBOX_MISUSE);
}

static void test_values_out_of_range_are_refused(void **state)
{
    scene *s = *state;
    const outbox_forwarding wrong[] = {
        {.broker = s->url, .window = 1001},
        {.broker = s->url, .link = (outbox_link_kind)2},
        {.broker = s->url, .protocol = 3},
        {.broker = s->url, .protocol = 6},
        {.broker = s->url, .payload_max = (size_t)OUTBOX_PAYLOAD_CAP + 1},
    };
    app *a = app_open(s, "WAL");

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(outbox_start(a->box, &wrong[i]), OUTBOX_MISUSE);
        assert_int_equal(outbox_stop(a->box), OUTBOX_NOT_STARTED);
    }
}

static void test_a_missing_certificate_file_is_reported(void **state)
{
    scene *s = *state;
    app *a = app_open(s, "WAL");
    const outbox_forwarding forwarding = {.broker = "mqtts://127.0.0.1",
                                          .ca_file = "/nowhere/ca.pem"};

    /* At once, or as the reason why there is no connection. */
    if (outbox_start(a->box, &forwarding) == OUTBOX_OK) {
        outbox_statistics now = app_await(a, is_backing_off);
        assert_true(strlen(now.last_error_text) > 0);
    } else {
        assert_true(strlen(outbox_errmsg(a->box)) > 0);
    }
}

/* ---- on_open --------------------------------------------------------------------------------- */

typedef struct opening {
    int calls, answer;
    sqlite3 *db;
} opening;

static int note_opening(void *context, sqlite3 *db)
{
    opening *o = context;

    o->calls++;
    o->db = db;
    return o->answer;
}

static void test_on_open_gets_the_connection_of_the_forwarder(void **state)
{
    scene *s = *state;
    opening o = {.answer = 0};
    app *a = app_open(s, "WAL");

    app_start_with(
        a, &(outbox_forwarding){.broker = s->url, .on_open = note_opening, .on_open_context = &o});
    assert_int_equal(o.calls, 1);
    assert_non_null(o.db);
    assert_ptr_not_equal(o.db, a->db);
}

static void test_on_open_can_refuse_the_start(void **state)
{
    scene *s = *state;
    opening o = {.answer = 1};
    app *a = app_open(s, "WAL");

    assert_int_not_equal(outbox_start(a->box, &(outbox_forwarding){.broker = s->url,
                                                                   .on_open = note_opening,
                                                                   .on_open_context = &o}),
                         OUTBOX_OK);
    assert_int_equal(outbox_stop(a->box), OUTBOX_NOT_STARTED);
    app_start(s, a); /* the lock is free again */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_second_forwarder_of_the_same_process_is_refused),
        SCENE_TEST(test_a_forwarder_of_another_process_is_refused_until_that_one_is_dead),
        SCENE_TEST(test_a_handle_cannot_be_started_twice),
        SCENE_TEST(test_a_start_inside_a_transaction_is_misuse),
        SCENE_TEST(test_a_database_in_memory_cannot_be_forwarded),
        SCENE_TEST(test_a_url_that_cannot_be_used_is_refused),
        SCENE_TEST(test_values_out_of_range_are_refused),
        SCENE_TEST(test_a_missing_certificate_file_is_reported),
        SCENE_TEST(test_on_open_gets_the_connection_of_the_forwarder),
        SCENE_TEST(test_on_open_can_refuse_the_start),
    };

    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        return serve_and_stop(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
