/* SPDX-License-Identifier: MIT
 *
 * test_command.c - the `outbox` command and the examples, as a user runs them.
 *
 * Each test runs the program that the build made, in a folder of its own, and looks at what it
 * prints, its exit status, the database behind it and what the recipient got.
 */
#include "harness.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *build_path(const char *name)
{
    static char path[2 * PATH_MAX];
    static char start[PATH_MAX]; /* programs run in the scene's folder, the test where it began */
    const char *build = getenv("BUILD");

    if (start[0] == '\0') {
        assert_non_null(getcwd(start, sizeof start));
    }
    (void)snprintf(path, sizeof path, "%.2000s/%.500s/%.100s", start,
                   build != NULL ? build : "build", name);
    return path;
}

/* What a program printed. */
static char *printed(const scene *s, const char *name)
{
    static char text[8192];
    char path[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    assert_int_equal(fclose(file), 0);
    text[len] = '\0';
    return text;
}

/* Runs `outbox` with words that are separated by '|'. */
static child_end outbox_command(const scene *s, const char *words)
{
    static char copy[1024];
    const char *arguments[16] = {build_path("outbox")};
    int count = 1;

    (void)snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|")) {
        arguments[count++] = strcmp(word, "FILE") == 0     ? s->database
                             : strcmp(word, "BROKER") == 0 ? s->url
                                                           : word;
    }
    return child_run(s->folder, "out", "err", arguments);
}

static int64_t stored(const scene *s, const char *query)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;

    assert_int_equal(sqlite3_open(s->database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return number;
}

static void change(const scene *s, const char *sql)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(s->database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- init and put ---------------------------------------------------------------------------- */

static void test_init_makes_an_outbox_and_a_second_init_changes_nothing(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE|--device|pump-7"), 0);
    assert_int_equal(
        stored(s, "SELECT count(*) FROM outbox_meta WHERE name = 'device' AND value = 'pump-7'"),
        1);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(
        stored(s, "SELECT count(*) FROM outbox_meta WHERE name = 'device' AND value = 'pump-7'"),
        1);
}

static void test_put_into_a_file_without_an_outbox_names_init(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "put|FILE|a|b"), 1);
    assert_non_null(strstr(printed(s, "err"), "outbox init"));
    assert_int_not_equal(access(s->database, F_OK), 0);
}

static void test_put_stores_an_event_with_its_attributes(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|{\"t\":1}|--content-type|application/json"
                                       "|--type|reading|--key|7|--retain"),
                     0);
    assert_non_null(strstr(printed(s, "out"), "\n1\n"));
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_event WHERE topic = 'plant/7' AND"
                               " payload = '{\"t\":1}' AND type = 'reading' AND key = '7' AND"
                               " retain = 1 AND content_type = 'application/json'"),
                     1);
}

static void test_put_stores_headers_and_forward_sends_them_in_binary_mode(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|a|warm|-H|site=7|--header|pair=x=y"
                                       "|--correlation-id|c|--causation-id|9|--traceparent|00-1"),
                     0);
    assert_int_equal(stored(s,
                            "SELECT headers = 'correlationid=c' || char(10) || 'causationid=9' ||"
                            " char(10) || 'traceparent=00-1' || char(10) || 'site=7' ||"
                            " char(10) || 'pair=x=y' || char(10) FROM outbox_pending"),
                     1);
    assert_int_equal(outbox_command(s, "put|FILE|a|warm|-H|site"), 2);
    assert_int_equal(outbox_command(s, "put|FILE|a|warm|-H|Site=7"), 1);
    assert_non_null(strstr(printed(s, "err"), "Site"));
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--mode|binaer"), 2);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--ce-prefix"), 1);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--drain|--timeout|20|--mode|"
                                       "binary|--ce-prefix"),
                     0);
    expect_arrivals(s->recorder, 1);
    expect_number(s->recorder,
                  "SELECT properties GLOB 'ce-specversion:1.0 ce-id:1 *ce-correlationid:c"
                  " ce-causationid:9 ce-traceparent:00-1 ce-site:7 ce-pair:x=y' FROM arrival",
                  1);
}

static void test_put_refuses_a_bad_topic_with_a_sentence_and_stores_nothing(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|a/#|b"), 1);
    assert_non_null(strstr(printed(s, "err"), "topic"));
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending"), 0);
}

static void test_put_stores_each_line_of_standard_input(void **state)
{
    scene *s = *state;
    char command[5 * PATH_MAX];
    const char *emulator = getenv("EMULATOR"); /* child.h */

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    (void)snprintf(command, sizeof command, "seq 1 1000 | %s '%s' put '%s' plant/7 --lines",
                   emulator != NULL ? emulator : "", build_path("outbox"), s->database);
    const char *const arguments[] = {"sh", "-c", command, NULL};
    assert_int_equal(child_run(s->folder, "out", "err", arguments), 0);
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending WHERE payload = CAST(id AS"
                               " BLOB)"),
                     1000);
}

static void test_put_with_a_ttl_stores_when_the_event_expires(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm|--ttl|60"), 0);
    assert_int_equal(stored(s, "SELECT expires - created FROM outbox_event WHERE id = 1"), 60000);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm|--ttl|0"), 2);
}

static void test_init_sets_the_limit_of_a_lane_and_status_shows_it(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE|--max-events|2|--evict"), 0);
    assert_int_equal(
        outbox_command(s, "init|FILE|--lane|urgent|--max-bytes|5000|--max-events|1|--reject"), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    }
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm|--urgent"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm|--urgent"), 1);
    assert_int_equal(outbox_command(s, "status|FILE"), 0);
    assert_non_null(
        strstr(printed(s, "out"), "normal limit  2 of 2 events, then the oldest leave\n"));
    assert_non_null(strstr(printed(s, "out"), "urgent limit  1 of 1 events, 43 of 5000 bytes, then"
                                              " puts are rejected\n"));
    assert_int_equal(outbox_command(s, "status|FILE|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\"max_events\":1,\"max_bytes\":5000,\"evicts\":0,"
                                              "\"pending_bytes\":43}"));
    assert_int_equal(outbox_command(s, "init|FILE|--max-events|0"), 0);
    assert_int_equal(stored(s, "SELECT value FROM outbox_meta WHERE name = 'normal_max_events'"),
                     0);
}

/* ---- forward and status ---------------------------------------------------------------------- */

static void test_forward_drains_what_is_pending_and_ends(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    }
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--drain|--timeout|20"), 0);
    expect_arrivals(s->recorder, 3);
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending"), 0);
}

/* [link-3] */
static void test_forward_goes_over_the_link_that_it_is_told(void **state)
{
    scene *s = *state;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|t|1|--content-type|text/plain"), 0);
    assert_int_equal(
        outbox_command(s, "forward|FILE|--broker|BROKER|--drain|--timeout|20|--link|stream"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|t|2|--content-type|text/plain"), 0);
    assert_int_equal(
        outbox_command(s, "forward|FILE|--broker|BROKER|--drain|--timeout|20|--link|paho"), 0);
    expect_numbers(s->recorder, 1, 2);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--link|mosquitto"), 2);
    assert_non_null(strstr(printed(s, "err"), "--link wants paho or stream"));
}

static void test_forward_without_a_broker_gives_up_in_time_and_keeps_the_events(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    assert_int_equal(
        outbox_command(s, "forward|FILE|--broker|mqtt://127.0.0.1:1|--drain|--timeout|1"), 1);
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending"), 1);
}

static void test_forward_refuses_a_password_in_the_url(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|mqtt://me:secret@127.0.0.1"), 2);
    assert_non_null(strstr(printed(s, "err"), "--password-file"));
    assert_null(strstr(printed(s, "err"), "secret"));
}

static void test_forward_stops_on_sigterm_after_settling(void **state)
{
    scene *s = *state;
    const char *arguments[] = {build_path("outbox"), "forward", s->database,
                               "--broker",           s->url,    NULL};

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    arguments[0] = build_path("outbox");
    pid_t pid = child_start(s->folder, "forward.out", "forward.err", arguments);
    expect_arrivals(s->recorder, 1);
    assert_int_equal(child_stop(pid, SIGTERM), 0);
    assert_in_range(stored(s, "SELECT count(*) FROM outbox_pending"), 0, 1);
}

/* [standby-1] */
static void test_forward_that_stands_by_takes_over_when_the_other_one_is_killed(void **state)
{
    scene *s = *state;
    const char *arguments[] = {NULL,   "forward",    s->database, "--broker",
                               s->url, "--stand-by", "--verbose", NULL};

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    arguments[0] = build_path("outbox");
    pid_t first = child_start(s->folder, "first.out", "first.err", arguments);
    expect_arrivals(s->recorder, 1);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER"), 1);
    scene_write(s, "second.err", "");
    long long deadline = clock_ms() + 10000;
    pid_t second = child_start(s->folder, "second.out", "second.err", arguments);
    while (strstr(printed(s, "second.err"), "another forwarder") == NULL) {
        assert_true(clock_ms() < deadline);
        pause_ms(5);
    }
    assert_int_equal(child_stop(first, SIGKILL), -SIGKILL);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|hot"), 0);
    recorder_await(s->recorder, "SELECT count(*) FROM first", 2);
    assert_int_equal(child_stop(second, SIGTERM), 0);
    assert_non_null(strstr(printed(s, "second.err"), "takes over"));
}

static void test_status_counts_and_never_writes(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    assert_int_equal(outbox_command(s, "status|FILE|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\"pending\":1,\"delivered\":0"));
    assert_non_null(strstr(printed(s, "out"), "\"last_id\":1"));
    assert_int_equal(outbox_command(s, "status|FILE"), 0);
    assert_int_equal(outbox_command(s, "status|missing.db"), 1);
    assert_int_not_equal(access("missing.db", F_OK), 0);
}

static void test_new_epoch_gives_later_events_another_identity(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    assert_int_equal(outbox_command(s, "new-epoch|FILE"), 0);
    assert_int_equal(stored(s, "SELECT max(first) FROM outbox_epoch WHERE lane = 'normal'"), 2);
    assert_int_equal(stored(s, "SELECT count(DISTINCT epoch) FROM outbox_epoch WHERE lane ="
                               " 'normal'"),
                     2);
}

/* In the default mode of SQLite its commits can be undone, at the default level. */
static void test_new_epoch_works_in_journal_mode_delete(void **state)
{
    scene *s = *state;

    change(s, "CREATE TABLE mine(x)");
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "new-epoch|FILE"), 0);
    assert_int_equal(outbox_command(s, "new-epoch|missing.db"), 1);
}

/* ---- dead ------------------------------------------------------------------------------------ */

static void bury(const scene *s)
{
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    change(s, "INSERT INTO outbox_dead(lane, id, reason, died, topic, payload) VALUES"
              "('normal', 5, 'why not', 1735689600000, 'plant/7', 'warm'),"
              "('urgent', 6, 'bytes', 1735689600000, 'a\"b', x'00ff10'),"
              "('normal', 7, 'no topic', 1735689600000, '#', 3)");
}

static void test_dead_list_tells_of_each_letter_and_never_writes(void **state)
{
    scene *s = *state;

    bury(s);
    assert_int_equal(outbox_command(s, "dead|list|FILE"), 0);
    assert_non_null(
        strstr(printed(s, "out"), "1\tnormal\t5\t2025-01-01 00:00:00\twhy not\tplant/7\t4\n"));
    assert_int_equal(outbox_command(s, "dead|list|FILE|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\"topic\":\"a\\\"b\",\"bytes\":3}"));
    assert_int_equal(outbox_command(s, "dead|list|missing.db"), 1);
    assert_int_not_equal(access("missing.db", F_OK), 0);
}

static void test_dead_show_has_the_payload_as_text_or_as_base64(void **state)
{
    scene *s = *state;

    bury(s);
    assert_int_equal(outbox_command(s, "dead|show|FILE|1"), 0);
    assert_non_null(strstr(printed(s, "out"), "payload       warm\n"));
    assert_int_equal(outbox_command(s, "dead|show|FILE|1|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\"payload\":\"warm\"}"));
    assert_int_equal(outbox_command(s, "dead|show|FILE|2|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\"payload_base64\":\"AP8Q\"}"));
    assert_int_equal(outbox_command(s, "dead|show|FILE|4"), 1);
    assert_non_null(strstr(printed(s, "err"), "no dead letter 4"));
}

static void test_dead_requeue_puts_one_back_and_prints_its_id(void **state)
{
    scene *s = *state;

    bury(s);
    assert_int_equal(outbox_command(s, "dead|requeue|FILE|1"), 0);
    assert_non_null(strstr(printed(s, "out"), "\n1\n"));
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_event WHERE topic = 'plant/7'"), 1);
    assert_int_equal(outbox_command(s, "dead|requeue|FILE|1"), 1);
    assert_int_equal(outbox_command(s, "dead|requeue|FILE|3"), 1);
    assert_non_null(strstr(printed(s, "err"), "unfit"));
}

static void test_dead_requeue_all_leaves_only_what_is_still_unfit(void **state)
{
    scene *s = *state;

    bury(s);
    assert_int_equal(outbox_command(s, "dead|requeue|FILE|--all|--json"), 1);
    assert_non_null(
        strstr(printed(s, "out"), "[{\"number\":1,\"id\":1},{\"number\":2,\"id\":1}]\n"));
    assert_int_equal(stored(s, "SELECT sum(number) FROM outbox_dead"), 3);
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending"), 2);
}

static void test_dead_purge_deletes_one_or_all(void **state)
{
    scene *s = *state;

    bury(s);
    assert_int_equal(outbox_command(s, "dead|purge|FILE|2"), 0);
    assert_int_equal(stored(s, "SELECT sum(number) FROM outbox_dead"), 4);
    assert_int_equal(outbox_command(s, "dead|purge|FILE|2"), 1);
    assert_int_equal(outbox_command(s, "dead|purge|FILE|--all|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "\n{\"purged\":2}\n"));
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_dead"), 0);
}

/* ---- verify ---------------------------------------------------------------------------------- */

static void test_verify_finds_nothing_in_a_sound_outbox(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(outbox_command(s, "put|FILE|plant/7|warm"), 0);
    assert_int_equal(outbox_command(s, "verify|FILE"), 0);
    assert_non_null(strstr(printed(s, "out"), "ok\n"));
    assert_int_equal(outbox_command(s, "verify|FILE|--json"), 0);
    assert_non_null(strstr(printed(s, "out"), "{\"findings\":[],\"ok\":true}\n"));
    assert_int_equal(outbox_command(s, "verify|missing.db"), 1);
}

static void test_verify_names_what_it_finds_and_ends_with_1(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    change(s,
           "DELETE FROM outbox_meta WHERE name = 'version'; UPDATE outbox_urgent SET ledger = 1");
    assert_int_equal(outbox_command(s, "verify|FILE"), 1);
    assert_non_null(strstr(printed(s, "out"), "urgent: the ledger"));
    assert_int_equal(outbox_command(s, "verify|FILE|--json"), 1);
    assert_non_null(
        strstr(printed(s, "out"), "[{\"lane\":null,\"sentence\":\"outbox_meta holds no schema"));
    assert_non_null(strstr(printed(s, "out"), ",{\"lane\":\"urgent\",\"sentence\":\"the ledger"));
}

static void test_verify_lets_sqlite_check_the_file(void **state)
{
    scene *s = *state;

    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    change(s, "CREATE TABLE mine(x); CREATE INDEX lost ON mine(x); PRAGMA writable_schema = ON;"
              "DELETE FROM sqlite_master WHERE name = 'lost'");
    assert_int_equal(outbox_command(s, "verify|FILE"), 1);
    assert_non_null(strstr(printed(s, "out"), "is never used"));
}

/* ---- Help ------------------------------------------------------------------------------------ */

static void test_every_verb_has_help_and_wrong_calls_end_with_2(void **state)
{
    static const char *const wrong[] = {"",
                                        "nonsense",
                                        "put|FILE",
                                        "init",
                                        "status|FILE|--what",
                                        "forward|FILE",
                                        "init|a|b",
                                        "new-epoch",
                                        "new-epoch|a|b",
                                        "dead",
                                        "dead|kill|a",
                                        "dead|list",
                                        "dead|list|a|--all",
                                        "dead|show|a",
                                        "dead|show|a|x",
                                        "dead|purge|a",
                                        "dead|requeue|a|1|--all",
                                        "verify",
                                        "verify|a|b",
                                        "init|a|--evict",
                                        "init|a|--max-events|x",
                                        "init|a|--lane|slow|--max-bytes|9"};
    static const char *const helps[] = {"--help",         "init|--help",   "put|--help",
                                        "forward|--help", "status|--help", "new-epoch|--help",
                                        "dead|--help",    "verify|--help", "--version"};
    scene *s = *state;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(outbox_command(s, wrong[i]), 2);
        assert_true(strlen(printed(s, "err")) > 0);
    }
    for (size_t i = 0; i < sizeof helps / sizeof helps[0]; i++) {
        assert_int_equal(outbox_command(s, helps[i]), 0);
        assert_true(strlen(printed(s, "out")) > 0);
    }
}

/* ---- The examples ---------------------------------------------------------------------------- */

static void run_example(scene *s, const char *name)
{
    const char *arguments[] = {build_path(name), s->database, s->url, NULL};

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    pid_t pid = child_start(s->folder, "example.out", "example.err", arguments);
    recorder_await(s->recorder, "SELECT count(*) >= 2 FROM arrival", 1);
    child_end end = child_stop(pid, SIGINT);
    if (end != 0) {
        fail_msg("%s ended with %d: %s", name, end, printed(s, "example.err"));
    }
}

static void test_the_sensor_reports_every_reading_before_it_ends(void **state)
{
    scene *s = *state;

    run_example(s, "examples/sensor");
    assert_int_equal(stored(s, "SELECT count(*) FROM outbox_pending"), 0);
    expect_arrivals(s->recorder, (int)stored(s, "SELECT count(*) FROM reading"));
}

/* It waits for nobody at its end; what was not settled is there for the next start. */
static void test_the_superloop_reports_its_readings_and_keeps_the_rest(void **state)
{
    scene *s = *state;

    run_example(s, "examples/superloop");
    int64_t delivered =
        stored(s, "SELECT ledger->>'delivered' FROM outbox_event ORDER BY id LIMIT 1");
    assert_int_equal(stored(s, "SELECT count(*) FROM reading") - delivered,
                     stored(s, "SELECT count(*) FROM outbox_pending"));
    assert_true(delivered >= 1);
}

static void test_the_foreign_writer_needs_nothing_but_sql(void **state)
{
    scene *s = *state;
    static char script[PATH_MAX];
    const char *const arguments[] = {"python3", script, s->database, "3", NULL};

    (void)build_path("outbox"); /* remembers where the test began */
    assert_non_null(realpath("examples/foreign_writer.py", script));
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(outbox_command(s, "init|FILE"), 0);
    assert_int_equal(child_run(s->folder, "out", "err", arguments), 0);
    assert_int_equal(outbox_command(s, "forward|FILE|--broker|BROKER|--drain|--timeout|20"), 0);
    expect_arrivals(s->recorder, 3);
    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE json_type(event, '$.data.celsius') = 'real'",
                  3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_put_stores_headers_and_forward_sends_them_in_binary_mode),
        SCENE_TEST(test_init_makes_an_outbox_and_a_second_init_changes_nothing),
        SCENE_TEST(test_put_into_a_file_without_an_outbox_names_init),
        SCENE_TEST(test_put_stores_an_event_with_its_attributes),
        SCENE_TEST(test_put_refuses_a_bad_topic_with_a_sentence_and_stores_nothing),
        SCENE_TEST(test_put_stores_each_line_of_standard_input),
        SCENE_TEST(test_put_with_a_ttl_stores_when_the_event_expires),
        SCENE_TEST(test_init_sets_the_limit_of_a_lane_and_status_shows_it),
        SCENE_TEST(test_forward_drains_what_is_pending_and_ends),
        SCENE_TEST(test_forward_goes_over_the_link_that_it_is_told),
        SCENE_TEST(test_forward_without_a_broker_gives_up_in_time_and_keeps_the_events),
        SCENE_TEST(test_forward_refuses_a_password_in_the_url),
        SCENE_TEST(test_forward_stops_on_sigterm_after_settling),
        SCENE_TEST(test_forward_that_stands_by_takes_over_when_the_other_one_is_killed),
        SCENE_TEST(test_status_counts_and_never_writes),
        SCENE_TEST(test_new_epoch_gives_later_events_another_identity),
        SCENE_TEST(test_new_epoch_works_in_journal_mode_delete),
        SCENE_TEST(test_dead_list_tells_of_each_letter_and_never_writes),
        SCENE_TEST(test_dead_show_has_the_payload_as_text_or_as_base64),
        SCENE_TEST(test_dead_requeue_puts_one_back_and_prints_its_id),
        SCENE_TEST(test_dead_requeue_all_leaves_only_what_is_still_unfit),
        SCENE_TEST(test_dead_purge_deletes_one_or_all),
        SCENE_TEST(test_verify_finds_nothing_in_a_sound_outbox),
        SCENE_TEST(test_verify_names_what_it_finds_and_ends_with_1),
        SCENE_TEST(test_verify_lets_sqlite_check_the_file),
        SCENE_TEST(test_every_verb_has_help_and_wrong_calls_end_with_2),
        SCENE_TEST(test_the_sensor_reports_every_reading_before_it_ends),
        SCENE_TEST(test_the_superloop_reports_its_readings_and_keeps_the_rest),
        SCENE_TEST(test_the_foreign_writer_needs_nothing_but_sql),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
