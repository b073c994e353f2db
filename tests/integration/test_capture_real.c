/* SPDX-License-Identifier: MIT
 *
 * test_capture_real.c - captured changes from the sqlite3 shell and from Python to a real broker,
 * set up with the command alone.
 */
#include "harness.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *command_path(void)
{
    static char path[2 * PATH_MAX], start[PATH_MAX];
    const char *build = getenv("BUILD");

    if (start[0] == '\0') {
        assert_non_null(getcwd(start, sizeof start));
    }
    (void)snprintf(path, sizeof path, "%.2000s/%.500s/outbox", start,
                   build != NULL ? build : "build");
    return path;
}

static child_end outbox_capture_command(const scene *s, const char *verb, const char *const *words)
{
    const char *arguments[32] = {command_path(), "capture", verb, s->database};
    int count = 4;

    while (*words != NULL) {
        arguments[count++] = *words++;
    }
    return child_run(s->folder, "out", "err", arguments);
}

#define CAPTURE(s, verb, ...)                                                                      \
    outbox_capture_command((s), (verb), (const char *const[]){__VA_ARGS__, NULL})

static int prints(const scene *s, const char *text)
{
    char path[PATH_MAX], found[8192];

    (void)snprintf(path, sizeof path, "%s/out", s->folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(found, 1, sizeof found - 1, file);
    assert_int_equal(fclose(file), 0);
    found[len] = '\0';
    return strstr(found, text) != NULL;
}

static void shell(const scene *s, const char *sql)
{
    const char *const arguments[] = {"sqlite3", "-bail", s->database, sql, NULL};
    assert_int_equal(child_run(s->folder, "shell.out", "shell.err", arguments), 0);
}

static void python(const scene *s, const char *program)
{
    const char *const arguments[] = {"python3", "-c", program, s->database, NULL};
    assert_int_equal(child_run(s->folder, "python.out", "python.err", arguments), 0);
}

static void drain(const scene *s)
{
    const char *const arguments[] = {command_path(), "forward",   s->database, "--broker", s->url,
                                     "--drain",      "--timeout", "30",        NULL};
    assert_int_equal(child_run(s->folder, "forward.out", "forward.err", arguments), 0);
}

static void begin(scene *s)
{
    const char *const arguments[] = {command_path(), "init",   s->database,
                                     "--device",     "pump-7", NULL};

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    assert_int_equal(child_run(s->folder, "out", "err", arguments), 0);
    shell(s, "CREATE TABLE reading(id INTEGER PRIMARY KEY, site TEXT, celsius)");
    assert_int_equal(CAPTURE(s, "add", "reading", "plant/{site}/reading"), 0);
}

/* [capture-1] [capture-2] */
static void test_changes_of_the_shell_and_of_python_reach_the_recipient(void **state)
{
    scene *s = *state;

    begin(s);
    shell(s,
          "INSERT INTO reading VALUES(1, 'north', 21.3); UPDATE reading SET celsius = 0.1 + 0.2");
    python(s,
           "import sqlite3, sys\n"
           "db = sqlite3.connect(sys.argv[1])\n"
           "db.execute('INSERT OR REPLACE INTO reading VALUES(1, ?, ?)', ('a/b', b'\\x00\\xff'))\n"
           "db.execute('DELETE FROM reading')\n"
           "db.commit()\n");
    drain(s);
    expect_arrivals(s->recorder, 5);
    expect_text(s->recorder,
                "SELECT group_concat(json_extract(event, '$.data.op'), '') FROM"
                " (SELECT event FROM arrival ORDER BY n)",
                "cudcd");
    expect_text(s->recorder, "SELECT topic FROM arrival WHERE n = 1", "plant/north/reading");
    expect_text(s->recorder, "SELECT topic FROM arrival WHERE n = 4", "plant/a%2Fb/reading");
    expect_number(s->recorder,
                  "SELECT count(*) FROM arrival WHERE event LIKE"
                  " '%\"after\":{\"id\":1,\"site\":\"north\",\"celsius\":0.30000000000000004}%'",
                  1);
    expect_text(s->recorder,
                "SELECT json_extract(event, '$.data.after.celsius.$blob') FROM arrival WHERE n = 4",
                "AP8=");
    expect_text(s->recorder, "SELECT json_extract(event, '$.type') FROM arrival WHERE n = 1",
                "outbox.change");
    expect_text(s->recorder, "SELECT json_extract(event, '$.data.source.device') FROM arrival",
                "pump-7");
}

/* [capture-20] */
static void test_the_command_finds_drift_mends_it_and_reads_a_snapshot(void **state)
{
    scene *s = *state;

    begin(s);
    shell(s, "INSERT INTO reading VALUES(1, 'north', 1)");
    assert_int_equal(CAPTURE(s, "doctor", NULL), 0);
    shell(s, "ALTER TABLE reading ADD COLUMN bar DEFAULT 5");
    assert_int_equal(CAPTURE(s, "doctor", NULL), 1);
    assert_true(prints(s, "columns of reading have changed"));
    assert_int_equal(CAPTURE(s, "list", NULL), 0);
    assert_true(prints(s, "reading\tnormal\tdrifted\tplant/{site}/reading\n"));
    assert_int_equal(CAPTURE(s, "resume", "--all"), 0);
    assert_int_equal(CAPTURE(s, "list", "--json"), 0);
    assert_true(prints(s, "[{\"table\":\"reading\",\"lane\":\"normal\",\"state\":\"active\","));
    assert_int_equal(CAPTURE(s, "snapshot", "reading", "--rows", "1", "--json"), 0);
    assert_true(prints(s, "{\"events\":1}"));
    assert_int_equal(CAPTURE(s, "doctor", "--json"), 0);
    assert_true(prints(s, "[]"));
    drain(s);
    expect_arrivals(s->recorder, 2);
    expect_text(s->recorder, "SELECT json_extract(event, '$.data.op') FROM arrival WHERE n = 2",
                "r");
    expect_number(s->recorder,
                  "SELECT json_extract(event, '$.data.after.bar') FROM arrival WHERE n = 2", 5);
    assert_int_equal(CAPTURE(s, "suspend", "reading"), 0);
    assert_int_equal(CAPTURE(s, "remove", "reading"), 0);
    assert_int_equal(CAPTURE(s, "remove", "reading"), 1);
}

static void test_the_command_is_told_what_is_wrong_with_its_words(void **state)
{
    scene *s = *state;

    begin(s);
    assert_int_equal(CAPTURE(s, "add", "missing", "a"), 1);
    assert_int_equal(CAPTURE(s, "add", "reading"), 2);
    assert_int_equal(CAPTURE(s, "list", "reading"), 2);
    assert_int_equal(CAPTURE(s, "remove", "--all"), 2);
    assert_int_equal(CAPTURE(s, "snapshot", "reading", "--rows", "0"), 2);
    assert_int_equal(CAPTURE(s, "add", "reading", "a", "-o", "upsert"), 2);
    assert_int_equal(CAPTURE(s, "unknown", NULL), 2);
    assert_int_equal(CAPTURE(s, "remove", "reading"), 0);
    assert_int_equal(CAPTURE(s, "add", "reading", "a", "-o", "delete", "-o", "insert", "-c", "id",
                             "-k", "site", "-u", "-w", "NEW.celsius > 1"),
                     0);
    shell(s, "INSERT INTO reading VALUES(1, 'north', 1), (2, 'south', 2)");
    drain(s);
    expect_arrivals(s->recorder, 1);
    expect_text(s->recorder, "SELECT json_extract(event, '$.partitionkey') FROM arrival", "south");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_changes_of_the_shell_and_of_python_reach_the_recipient),
        SCENE_TEST(test_the_command_finds_drift_mends_it_and_reads_a_snapshot),
        SCENE_TEST(test_the_command_is_told_what_is_wrong_with_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
