/* SPDX-License-Identifier: MIT
 *
 * test_receive.c - `outbox receive` at the other end of a real broker: each event once, in order,
 * and nothing missing, whatever is killed meanwhile. [P5] [P6]
 *
 * OUTBOX_TEST_EVENTS and OUTBOX_TEST_KILLS make the test of kills longer: that many events, and
 * that many kills of the receiver, of the forwarder, and restarts of the broker.
 */
#include "dice.h"
#include "harness.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define SOURCE "outbox://pump/normal/00000000000000aa"

static const char *outbox_path(void)
{
    static char path[2 * PATH_MAX];
    char start[PATH_MAX];
    const char *build = getenv("BUILD");

    if (path[0] == '\0') {
        assert_non_null(getcwd(start, sizeof start));
        (void)snprintf(path, sizeof path, "%.2000s/%.500s/outbox", start,
                       build != NULL ? build : "build");
    }
    return path;
}

/* ---- The recipient's file -------------------------------------------------------------------- */

static sqlite3 *open_received(const scene *s)
{
    char path[128];
    sqlite3 *db = NULL;

    (void)snprintf(path, sizeof path, "%s/received.db", s->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 10000), SQLITE_OK);
    return db;
}

/* -1 where there is no such table yet. */
static int64_t received_number(const scene *s, const char *query)
{
    sqlite3 *db = open_received(s);
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;

    if (sqlite3_prepare_v2(db, query, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        number = sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return number;
}

static void change_received(const scene *s, const char *sql)
{
    sqlite3 *db = open_received(s);
    char *error = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("%s: %s", sql, error);
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Waits as long as it goes on. */
static void await_received(const scene *s, const char *query, int64_t wanted)
{
    long long deadline = clock_ms() + PATIENCE_MS;
    int64_t last = -2;

    for (;;) {
        int64_t now = received_number(s, query);
        if (now >= wanted) {
            assert_int_equal(now, wanted);
            return;
        }
        if (now != last) {
            last = now;
            deadline = clock_ms() + PATIENCE_MS;
        }
        if (clock_ms() > deadline) {
            fail_msg("%s: %lld instead of %lld", query, (long long)now, (long long)wanted);
        }
        pause_ms(20);
    }
}

#define ALL "SELECT count(*) FROM received"

/* The sequence numbers 1 to `count` in the order of `n`, each once. */
static void expect_sequence(const scene *s, int64_t count)
{
    assert_int_equal(received_number(s, ALL), count);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE n <> sequence"), 0);
}

/* ---- Programs -------------------------------------------------------------------------------- */

static void read_file(const scene *s, const char *name, char *text, size_t size)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(text, 1, size - 1, file);
    assert_int_equal(fclose(file), 0);
    text[len] = '\0';
}

/* 0 where there is no such file yet. */
static int count_in_file(const scene *s, const char *name, const char *word)
{
    static char text[1 << 20];
    char path[PATH_MAX];
    int count = 0;

    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    if (access(path, F_OK) != 0) {
        return 0;
    }
    read_file(s, name, text, sizeof text);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        count++;
    }
    return count;
}

#define WORDS_MAX 24

/* `outbox receive received.db ...` with words that are separated by '|'. */
static pid_t launch_receiver(const scene *s, const char *words)
{
    static char copy[1024];
    const char *arguments[WORDS_MAX] = {outbox_path(), "receive",  "received.db",
                                        "-v",          "--broker", s->url};
    int count = 6;

    (void)snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|")) {
        arguments[count++] = word;
    }
    return child_start(s->folder, "receiver.out", "receiver.log", arguments);
}

/* The same; returns when it is subscribed. */
static pid_t start_receiver(const scene *s, const char *words)
{
    int before = count_in_file(s, "receiver.log", "subscribed");
    pid_t pid = launch_receiver(s, words);
    long long deadline = clock_ms() + PATIENCE_MS;

    while (count_in_file(s, "receiver.log", "subscribed") == before) {
        if (clock_ms() > deadline) {
            fail_msg("the receiver does not subscribe; see receiver.log");
        }
        pause_ms(5);
    }
    return pid;
}

static void expect_end(pid_t pid, int status)
{
    child_end end = 0;

    assert_int_equal(child_await(pid, PATIENCE_MS, &end), 0);
    assert_int_equal(end, status);
}

static child_end verify(const scene *s, const char *file)
{
    const char *const arguments[] = {outbox_path(), "verify", file, NULL};

    return child_run(s->folder, "verify.out", "verify.out", arguments);
}

static void expect_sound(const scene *s, const char *file)
{
    char text[2000];

    if (verify(s, file) != 0) {
        read_file(s, "verify.out", text, sizeof text);
        fail_msg("%s: %s", file, text);
    }
}

static void expect_finding(const scene *s, const char *words)
{
    char text[4000];

    assert_int_equal(verify(s, "received.db"), 1);
    read_file(s, "verify.out", text, sizeof text);
    if (strstr(text, words) == NULL) {
        fail_msg("\"%s\" is not in: %s", words, text);
    }
}

/* A plain event as another sender of ours would send it. */
static void publish(const scene *s, const char *source, int sequence, int previous)
{
    char port[8], id[24], number[24], before[24];

    (void)snprintf(port, sizeof port, "%u", s->broker.port);
    (void)snprintf(id, sizeof id, "%d", sequence);
    (void)snprintf(number, sizeof number, "%019d", sequence);
    (void)snprintf(before, sizeof before, "%019d", previous);
    const char *const arguments[] = {"mosquitto_pub",
                                     "-p",
                                     port,
                                     "-V",
                                     "5",
                                     "-q",
                                     "1",
                                     "-t",
                                     "plant",
                                     "-m",
                                     "x",
                                     "-D",
                                     "publish",
                                     "user-property",
                                     "id",
                                     id,
                                     "-D",
                                     "publish",
                                     "user-property",
                                     "source",
                                     source,
                                     "-D",
                                     "publish",
                                     "user-property",
                                     "sequence",
                                     number,
                                     "-D",
                                     "publish",
                                     "user-property",
                                     "previous",
                                     before,
                                     NULL};
    assert_int_equal(child_run(s->folder, NULL, NULL, arguments), 0);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void test_what_is_sent_is_stored_once_and_in_order(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|#|--count|301|--json");
    app *a = app_open(s, "WAL");
    app_start(s, a);
    app_put_numbers(a, 1, 300);
    outbox_event event = {.topic = "plant/7",
                          .payload = "{\"celsius\":21.50}",
                          .payload_len = 17,
                          .content_type = "application/json",
                          .type = "reading",
                          .key = "k"};
    assert_int_equal(outbox_put(a->box, &event, NULL), OUTBOX_OK);
    expect_end(receiver, 0);
    expect_sequence(s, 301);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE data = '' || n"), 300);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE n = 301"
                                        " AND data = '{\"celsius\":21.50}' AND type = 'reading'"
                                        " AND key = 'k' AND topic = 'plant/7'"
                                        " AND content_type = 'application/json'"
                                        " AND source GLOB stream || '/*'"
                                        " AND time GLOB '2*-*T*Z' AND verdict = 'new'"),
                     1);
    assert_int_equal(count_in_file(s, "receiver.out", "\n"), 301);
    assert_int_equal(count_in_file(s, "receiver.out", "{\"n\":17,\"stream\":\"outbox://"), 1);
    app_flush(a);
    expect_sound(s, "received.db");
    expect_sound(s, s->database);
}

/* Its name is kept in the file, so the broker knows whose session it is. */
static void test_what_comes_while_it_is_down_is_stored_when_it_is_back(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    assert_int_equal(child_stop(start_receiver(s, "--topic|t"), SIGTERM), 0);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    app_put_numbers(a, 1, 50);
    app_flush(a);
    pid_t receiver = launch_receiver(s, "--topic|t|--count|50");
    expect_end(receiver, 0);
    expect_sequence(s, 50);
    assert_int_equal(count_in_file(s, "receiver.log", "50 events applied"), 1);
}

static void test_a_gap_holds_events_back_until_the_missing_one_comes(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|plant");
    publish(s, SOURCE, 1, 0);
    publish(s, SOURCE, 3, 2);
    publish(s, SOURCE, 4, 3);
    publish(s, SOURCE, 3, 2);
    await_received(s, "SELECT count(*) FROM received_waiting", 2);
    assert_int_equal(received_number(s, ALL), 1);
    expect_finding(s, "2 events wait behind a gap, the first is 3, and event 2 is missing");
    publish(s, SOURCE, 2, 1);
    await_received(s, ALL, 4);
    expect_sequence(s, 4);
    publish(s, SOURCE, 3, 2);
    publish(s, SOURCE, 9, 4);
    await_received(s, ALL, 5);
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    expect_sound(s, "received.db");
}

/* What waits is in the file; the process may end meanwhile. */
static void test_a_gap_that_does_not_close_is_given_up_when_that_is_asked_for(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|plant");
    publish(s, SOURCE, 1, 0);
    publish(s, SOURCE, 5, 4);
    publish(s, SOURCE, 6, 5);
    await_received(s, "SELECT count(*) FROM received_waiting", 2);
    assert_int_equal(child_stop(receiver, SIGKILL), -SIGKILL);
    receiver = start_receiver(s, "--topic|plant|--skip-after|1");
    await_received(s, ALL, 3);
    publish(s, SOURCE, 3, 2);
    publish(s, SOURCE, 7, 6);
    await_received(s, ALL, 4);
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    assert_int_equal(received_number(s, "SELECT group_concat(sequence, '') + 0 FROM received"),
                     1567);
    assert_int_equal(received_number(s, "SELECT forgone FROM inbox_stream"), 3);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE verdict = 'skipped'"),
                     1);
    expect_sound(s, "received.db");
}

/* By then the old one is acknowledged as a whole, so what is missing of it does not come any
 * more. */
static void test_an_epoch_begins_behind_what_waits_of_the_one_before(void **state)
{
    static const char next[] = "outbox://pump/normal/00000000000000bb";
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|plant");
    publish(s, SOURCE, 1, 0);
    publish(s, next, 7, 6);
    publish(s, SOURCE, 3, 2);
    publish(s, SOURCE, 5, 4);
    await_received(s, "SELECT count(*) FROM received_waiting", 3);
    publish(s, next, 6, 0);
    await_received(s, ALL, 5);
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    assert_int_equal(received_number(s, "SELECT group_concat(sequence, '') + 0 FROM received"),
                     13567);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received_waiting"), 0);
    expect_sound(s, "received.db");
}

static void test_mqtt_3_1_1_and_messages_that_are_no_events_are_stored_too(void **state)
{
    scene *s = *state;
    char port[8];

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|t|--protocol|4");
    (void)snprintf(port, sizeof port, "%u", s->broker.port);
    const char *const arguments[] = {"mosquitto_pub", "-p", port, "-q", "1", "-t", "t", "-m",
                                     "hello",         NULL};
    assert_int_equal(child_run(s->folder, NULL, NULL, arguments), 0);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .protocol = 4});
    app_put_numbers(a, 1, 3);
    app_flush(a);
    await_received(s, ALL, 4);
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE stream IS NULL"
                                        " AND data = CAST('hello' AS BLOB) AND topic = 't'"),
                     1);
    assert_int_equal(received_number(s, "SELECT max(sequence) FROM received"), 3);
    expect_sound(s, "received.db");
}

/* [accept-8] in all three modes of the sender, beside what it stores */
static void test_each_mode_and_fire_and_forget_are_events_to_the_receiver(void **state)
{
    static const outbox_mode modes[] = {OUTBOX_BINARY, OUTBOX_PLAIN, OUTBOX_STRUCTURED};
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|#");
    app *a = app_open(s, "WAL");
    for (int i = 0; i < 3; i++) {
        const outbox_event fired = {
            .topic = "f", .payload = "x", .payload_len = 1, .fire_and_forget = 1};
        app_start_with(a, &(outbox_forwarding){.broker = s->url, .mode = modes[i]});
        (void)app_await(a, is_online);
        assert_int_equal(outbox_put(a->box, &fired, NULL), OUTBOX_OK);
        app_put_numbers(a, i + 1, 1);
        app_flush(a);
        await_received(s, ALL, (int64_t)2 * (i + 1));
        assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    }
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE stream IS NULL"), 0);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE topic = 'f'"
                                        " AND stream GLOB '*/unstored' AND previous IS NULL"),
                     3);
    assert_int_equal(received_number(s, "SELECT count(*) FROM received WHERE topic <> 'f'"
                                        " AND stream GLOB '*/normal' AND verdict <> 'skipped'"),
                     3);
    expect_sound(s, "received.db");
}

/* [accept-2] it is not acknowledged, so the broker sends it again */
static void test_what_cannot_be_stored_is_not_acknowledged(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|plant");
    sqlite3 *db = open_received(s);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    publish(s, SOURCE, 1, 0);
    expect_end(receiver, 1);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(received_number(s, ALL), 0);
    receiver = launch_receiver(s, "--topic|plant|--count|1");
    expect_end(receiver, 0);
    expect_sequence(s, 1);
}

static void test_verify_names_what_is_wrong_with_a_recipient(void **state)
{
    static const struct {
        const char *breach, *says;
    } cases[] = {
        {"DELETE FROM received WHERE n = 2", "event 2 is missing before event 3"},
        {"DELETE FROM received WHERE n = 3", "the mark is 3, the last event in received is 2"},
        {"INSERT INTO received SELECT 9, stream, sequence, previous, source, id, type, topic,"
         " content_type, time, key, data, attributes, verdict, received FROM received WHERE n = 2",
         "was applied 2 times"},
        {"UPDATE received SET n = 8 WHERE n = 2", "event 2 stands behind event 3"},
        {"UPDATE inbox_stream SET applied = 9", "has applied 9 events, 3 are in received"},
        {"UPDATE inbox_stream SET stream = 'x'", "knows nothing of this stream"},
        {"UPDATE inbox_stream SET late = 'x'", "is damaged"},
    };
    scene *s = *state;
    char path[128], copy[160];

    broker_start(&s->broker, BROKER_OPEN);
    pid_t receiver = start_receiver(s, "--topic|plant|--count|3");
    for (int i = 1; i <= 3; i++) {
        publish(s, SOURCE, i, i - 1);
    }
    expect_end(receiver, 0);
    expect_sound(s, "received.db");
    (void)snprintf(path, sizeof path, "%s/received.db", s->folder);
    (void)snprintf(copy, sizeof copy, "VACUUM INTO '%s/sound.db'", s->folder);
    change_received(s, copy);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const arguments[] = {"cp", "sound.db", "received.db", NULL};
        assert_int_equal(child_run(s->folder, NULL, NULL, arguments), 0);
        change_received(s, cases[i].breach);
        expect_finding(s, cases[i].says);
    }
}

static void test_wrong_calls_end_with_2_and_broken_files_with_1(void **state)
{
    static const char *const wrong[][6] = {{"r.db"},
                                           {"r.db", "--broker", "mqtt://h"},
                                           {"r.db", "--topic", "t"},
                                           {"--broker", "mqtt://h", "--topic", "t"},
                                           {"r.db", "--broker", "x://h", "--topic", "t"},
                                           {"r.db", "--broker", "mqtt://u:p@h", "--topic", "t"},
                                           {"r.db", "--count", "0"},
                                           {"r.db", "--protocol", "3"}};
    scene *s = *state;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *arguments[WORDS_MAX] = {outbox_path(), "receive"};
        memcpy(arguments + 2, wrong[i], sizeof wrong[i]);
        assert_int_equal(child_run(s->folder, "out", "err", arguments), 2);
    }
    const char *const help[] = {outbox_path(), "receive", "--help", NULL};
    assert_int_equal(child_run(s->folder, "out", "err", help), 0);
    scene_write(s, "broken.db", "this is no database, only some text that is long enough");
    const char *const broken[] = {outbox_path(), "receive", "broken.db", "--broker",
                                  "mqtt://h",    "--topic", "t",         NULL};
    assert_int_equal(child_run(s->folder, "out", "err", broken), 1);
}

/* ---- Kills ----------------------------------------------------------------------------------- */

static pid_t start_forwarder(const scene *s)
{
    const char *const arguments[] = {outbox_path(), "forward", s->database, "-v",
                                     "--broker",    s->url,    NULL};

    return child_start(s->folder, "forwarder.log", "forwarder.log", arguments);
}

static void put_many(app *a, int first, int count)
{
    char text[16];

    for (int i = first; i < first + count; i++) {
        if ((i - first) % 100 == 0) {
            app_exec(a, i == first ? "BEGIN IMMEDIATE" : "COMMIT; BEGIN IMMEDIATE");
        }
        (void)snprintf(text, sizeof text, "%d", i);
        (void)app_put(a, i % 2 ? "t/1" : "t/2", text);
    }
    app_exec(a, "COMMIT");
}

/* Waits for some more events to be stored, so that the next blow falls while they come. */
static void await_progress(const scene *s, uint64_t *seed, int64_t most, int64_t put)
{
    int64_t from = received_number(s, ALL);
    int64_t goal = from + dice(seed, (int)most + 1);
    long long deadline = clock_ms() + 3000;

    goal = goal < put ? goal : put;
    while (received_number(s, ALL) < goal && clock_ms() < deadline) {
        pause_ms(10);
    }
    pause_ms(dice(seed, 50));
}

static int is_settled(const outbox_statistics *statistics)
{
    return statistics->pending == 0;
}

/* [P3] [P5] [accept-2] */
static void test_each_event_is_stored_once_though_everything_is_killed(void **state)
{
    scene *s = *state;
    int events = wanted_number("OUTBOX_TEST_EVENTS", 3000);
    int kills = wanted_number("OUTBOX_TEST_KILLS", 3);
    uint64_t seed = choose_seed();
    long long began = clock_ms();

    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    pid_t receiver = start_receiver(s, "--topic|t/+");
    app *a = app_open(s, "WAL");
    pid_t forwarder = start_forwarder(s);
    for (int i = 0, put = 0; i < kills; i++) {
        int count = (i + 1) * (events / kills) - put;
        count = i == kills - 1 ? events - put : count;
        put_many(a, put + 1, count);
        put += count;
        await_progress(s, &seed, count / 4, put);
        assert_int_equal(child_stop(receiver, SIGKILL), -SIGKILL);
        receiver = start_receiver(s, "--topic|t/+");
        await_progress(s, &seed, count / 4, put);
        assert_int_equal(child_stop(forwarder, SIGKILL), -SIGKILL);
        forwarder = start_forwarder(s);
        await_progress(s, &seed, count / 4, put);
        broker_terminate(&s->broker);
        broker_restart(&s->broker);
    }
    await_received(s, ALL, events);
    (void)app_await(a, is_settled);
    pause_ms(200); /* what is too much would be on its way now */
    assert_int_equal(child_stop(receiver, SIGTERM), 0);
    assert_int_equal(child_stop(forwarder, SIGTERM), 0);
    expect_sequence(s, events);
    assert_int_equal(
        received_number(s, "SELECT count(*) FROM received WHERE data <> '' || sequence"), 0);
    print_message("# %d events, %d kills of each side and restarts of the broker: %.1f s\n", events,
                  kills, (double)(clock_ms() - began) / 1000);
    expect_sound(s, "received.db");
    expect_sound(s, s->database);
    assert_int_equal(app_stats(a).pending, 0);
    assert_int_equal(app_stats(a).delivered, events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_what_is_sent_is_stored_once_and_in_order),
        SCENE_TEST(test_what_comes_while_it_is_down_is_stored_when_it_is_back),
        SCENE_TEST(test_a_gap_holds_events_back_until_the_missing_one_comes),
        SCENE_TEST(test_a_gap_that_does_not_close_is_given_up_when_that_is_asked_for),
        SCENE_TEST(test_an_epoch_begins_behind_what_waits_of_the_one_before),
        SCENE_TEST(test_mqtt_3_1_1_and_messages_that_are_no_events_are_stored_too),
        SCENE_TEST(test_each_mode_and_fire_and_forget_are_events_to_the_receiver),
        SCENE_TEST(test_what_cannot_be_stored_is_not_acknowledged),
        SCENE_TEST(test_verify_names_what_is_wrong_with_a_recipient),
        SCENE_TEST(test_wrong_calls_end_with_2_and_broken_files_with_1),
        SCENE_TEST(test_each_event_is_stored_once_though_everything_is_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
