/* SPDX-License-Identifier: MIT
 *
 * test_capture.c - capture.h: what is chosen, what is sent, drift, suspend and resume, snapshots.
 */
#include "capture_support.h"

#include "real.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char plain[] = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x)";
static const outbox_capture all = {.table = "t", .topic = "plant/t"};

static int64_t last_id(struct bench *bench)
{
    return bench_number(bench->db, "SELECT max(id) FROM outbox_event");
}

static void expect_document(struct bench *bench, int64_t id, const char *part)
{
    char *document = change_document(bench, OUTBOX_NORMAL, id);
    if (!strstr(document, part))
        fail_msg("%s does not hold %s", document, part);
    sqlite3_free(document);
}

/* ---- What is refused ------------------------------------------------------------------------- */

static void refuse(struct bench *bench, const outbox_capture *capture, const char *why)
{
    char *before = bench_text(bench->db, "SELECT group_concat(name || sql) FROM sqlite_master");
    assert_int_equal(outbox_capture_add(bench->box, capture), OUTBOX_MISUSE);
    if (!strstr(outbox_errmsg(bench->box), why))
        fail_msg("%s does not say %s", outbox_errmsg(bench->box), why);
    char *after = bench_text(bench->db, "SELECT group_concat(name || sql) FROM sqlite_master");
    assert_string_equal(before, after);
    sqlite3_free(before);
    sqlite3_free(after);
}

static void add_one(sqlite3_context *context, int count, sqlite3_value **values)
{
    (void)count;
    sqlite3_result_int64(context, sqlite3_value_int64(values[0]) + 1);
}

static int backwards(void *context, int len, const void *a, int other_len, const void *b)
{
    (void)context;
    return len == other_len ? memcmp(b, a, (size_t)len) : other_len - len;
}

/* [capture-13] [capture-10] */
static void test_what_cannot_be_captured_is_refused_and_changes_nothing(void **state)
{
    struct bench *bench = *state;
    static const char *const missing[] = {"missing", NULL}, *const only_id[] = {"id", NULL},
                             *const only_x[] = {"x", NULL};
    bench_sql(bench->db, plain);
    bench_sql(bench->db, "CREATE TEMP TABLE aside(x)"); /* which no trigger of the file can see */
    assert_int_equal(
        sqlite3_create_function(bench->db, "add_one", 1, SQLITE_UTF8, NULL, add_one, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(
        sqlite3_create_function(bench->db, "regexp", 2, SQLITE_UTF8, NULL, add_one, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_create_collation(bench->db, "backwards", SQLITE_UTF8, NULL, backwards),
                     SQLITE_OK);
    refuse(bench, NULL, "NULL");
    refuse(bench, &(outbox_capture){.table = "t"}, "NULL");
    refuse(bench, &(outbox_capture){.topic = "t"}, "NULL");
    refuse(bench, &(outbox_capture){.table = "t\n", .topic = "a"}, "line break");
    refuse(bench, &(outbox_capture){.table = "no", .topic = "a"}, "no table no");
    refuse(bench, &(outbox_capture){.table = "outbox_event", .topic = "a"}, "internal");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a/{no}"}, "no column no");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "{no}/a"}, "no column no");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a/{id"}, "bracket");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a/id}"}, "bracket");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a/+"}, "topic");
    refuse(bench, &(outbox_capture){.table = "t", .topic = ""}, "topic");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a", .columns = missing}, "missing");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a", .key_columns = missing}, "missing");
    refuse(
        bench,
        &(outbox_capture){.table = "t", .topic = "a", .columns = only_id, .json_columns = only_x},
        "JSON column");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a", .operations = 8}, "operations");
    refuse(bench, &(outbox_capture){.table = "t", .topic = "a", .lane = (outbox_lane)7}, "lane");
    static const char *const conditions[] = {"1) BEGIN SELECT 1; END; --",
                                             "(1",
                                             "NEW.missing > 1",
                                             "add_one(NEW.x) = 2",
                                             "add_one (NEW.x) = 2",
                                             "\"add_one\"(NEW.x) = 2",
                                             "[add_one] (NEW.x) = 2",
                                             "NEW.name REGEXP 'a'",
                                             "NEW.name = 'a' COLLATE backwards",
                                             "NEW.x = ?1",
                                             "1 /* comment */",
                                             "1 -- comment",
                                             "NEW.name MATCH 'a'",
                                             "no(1)",
                                             "NEW.x IN (SELECT x FROM aside)",
                                             "no_function(1)",
                                             "raise(FAIL)",
                                             "NEW.name = \"text\"",
                                             "\"text\" = OLD.name",
                                             ""};
    for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++)
        refuse(bench, &(outbox_capture){.table = "t", .topic = "a", .condition = conditions[i]},
               "condition");
    capture_open(bench, NULL, &all);
    refuse(bench, &(outbox_capture){.table = "T", .topic = "a"}, "captured already");
}

/* [capture-13] by what it is made of */
static void test_a_table_that_cannot_be_captured_is_refused_with_a_sentence(void **state)
{
    static const char *const tables[][2] = {
        {"CREATE TABLE t(rowid, _rowid_, oid, id TEXT NOT NULL PRIMARY KEY)", "hide its rowid"},
        {"CREATE TABLE t(rowid, _rowid_, oid)", "hide its rowid"},
        {"CREATE TABLE t(id INTEGER PRIMARY KEY, \"a\nb\", x)", "line break in its name"},
        {"CREATE TABLE t(id INTEGER PRIMARY KEY, \"a\rb\")", "line break in its name"},
    };
    static char topic[OUTBOX_TOPIC_MAX + 2];
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        bench_sql(bench->db, tables[i][0]);
        refuse(bench, &all, tables[i][1]);
        bench_sql(bench->db, "DROP TABLE t");
    }
    bench_sql(bench->db, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)");
    refuse(bench, &(outbox_capture){.table = "sqlite_sequence", .topic = "a"}, "internal");
    memset(topic, 'a', OUTBOX_TOPIC_MAX + 1);
    refuse(bench, &(outbox_capture){.table = "t", .topic = topic}, "topic");
    topic[OUTBOX_TOPIC_MAX] = '\0';
    capture_open(bench, NULL, &(outbox_capture){.table = "t", .topic = topic});
}

static void test_a_rowid_under_its_second_name_is_one(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0;
    capture_open(bench, "CREATE TABLE t(rowid, id TEXT NOT NULL PRIMARY KEY, x UNIQUE)", &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(7, 'a', 1); REPLACE INTO t VALUES(8, 'b', 1)");
    expect_changes(bench, &after,
                   "c {\"rowid\":7,\"id\":\"a\",\"x\":1}\n"
                   "d {\"rowid\":7,\"id\":\"a\",\"x\":1}\n"
                   "c {\"rowid\":8,\"id\":\"b\",\"x\":1}\n");
}

static void test_a_table_of_too_many_unique_indexes_is_refused_for_deletes_alone(void **state)
{
    struct bench *bench = *state;
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendall(sql, "CREATE TABLE t(id INTEGER PRIMARY KEY");
    for (int i = 0; i < 64; i++)
        sqlite3_str_appendf(sql, ", c%d UNIQUE", i);
    sqlite3_str_appendall(sql, ")");
    char *table = sqlite3_str_finish(sql);
    bench_sql(bench->db, table);
    refuse(bench, &all, "more than 63 UNIQUE indexes");
    capture_open(
        bench, NULL,
        &(outbox_capture){.table = "t", .topic = "a", .operations = OUTBOX_CAPTURE_INSERT});
    sqlite3_free(table);
}

struct denial {
    int action;
    const char *table;
};

static int deny(void *context, int action, const char *a, const char *b, const char *c,
                const char *d)
{
    const struct denial *denial = context;
    const char *table = action == SQLITE_CREATE_TRIGGER ? b : a;
    (void)c, (void)d;
    return action == denial->action && strcmp(table, denial->table) == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* [capture-13] with a condition and without one */
static void test_a_capture_that_an_authorizer_denies_is_not_half_there(void **state)
{
    static const struct denial denials[] = {{SQLITE_CREATE_TRIGGER, "t"},
                                            {SQLITE_INSERT, "t"},
                                            {SQLITE_DELETE, "t"},
                                            {SQLITE_UPDATE, "t"}};
    struct bench *bench = *state;
    outbox_capture capture = all;
    bench_sql(bench->db, plain);
    for (size_t i = 0; i < 2 * sizeof denials / sizeof denials[0]; i++) {
        struct denial denial = denials[i / 2];
        capture.condition = i % 2 == 0 ? NULL : "NEW.x > 1";
        sqlite3_set_authorizer(bench->db, deny, &denial);
        assert_int_equal(outbox_capture_add(bench->box, &capture), OUTBOX_SQLITE);
        assert_non_null(strstr(outbox_errmsg(bench->box), "not authorized"));
        sqlite3_set_authorizer(bench->db, NULL, NULL);
        assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM sqlite_master"
                                                 " WHERE name GLOB 'outbox_*_1*'"),
                         0);
    }
}

/* [capture-13] [capture-18] [capture-20] */
static void test_calls_without_a_handle_or_a_table_are_refused(void **state)
{
    struct bench *bench = *state;
    int64_t count;
    assert_int_equal(outbox_capture_add(NULL, &all), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_remove(NULL, "t"), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_remove(bench->box, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_suspend(NULL, "t"), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_resume(NULL, "t"), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_snapshot(NULL, "t", 0, &count), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_snapshot(bench->box, NULL, 0, &count), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_remove(bench->box, "t"), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_suspend(bench->box, "t"), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_OK);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 1000001, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_list(NULL, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_list(bench->db, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_doctor(NULL, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_OK);
    sqlite3_close(bench->db);
    bench->db = NULL;
    assert_int_equal(outbox_capture_add(bench->box, &all), OUTBOX_CLOSED);
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_CLOSED);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, NULL), OUTBOX_CLOSED);
}

/* [capture-13] what the application undoes is undone */
static void test_a_capture_is_part_of_the_open_transaction(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, plain);
    bench_sql(bench->db, "BEGIN");
    capture_open(bench, NULL, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); ROLLBACK");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM sqlite_master WHERE"
                                             " name GLOB 'outbox_capture*'"),
                     0);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    assert_int_equal(last_id(bench), 0);
}

/* ---- What is chosen -------------------------------------------------------------------------- */

/* [capture-8] */
static void test_a_value_is_one_level_of_the_topic(void **state)
{
    static const struct {
        const char *value, *topic;
    } cases[] = {
        {"'north'", "north/p/north/t"},
        {"'K\xc3\xb6ln'", "K\xc3\xb6ln/p/K\xc3\xb6ln/t"},
        {"'\xe2\x82\xac\xf0\x9f\x98\x80'",
         "\xe2\x82\xac\xf0\x9f\x98\x80/p/\xe2\x82\xac\xf0\x9f\x98\x80/t"},
        {"7", "7/p/7/t"},
        {"1.5", "1.5/p/1.5/t"},
        {"9e999", "Infinity/p/Infinity/t"},
        {"-9e999", "-Infinity/p/-Infinity/t"},
        {"NULL", "%-/p/%-/t"},
        {"''", "%/p/%/t"},
        {"'a/b+c#d%'", "a%2Fb%2Bc%23d%25/p/a%2Fb%2Bc%23d%25/t"},
        {"'$SYS'", "%24SYS/p/$SYS/t"},
        {"CAST(x'610a00ff' AS TEXT)", "a%0A%00%FF/p/a%0A%00%FF/t"},
        {"x'41c3'", "A%C3/p/A%C3/t"},
    };
    struct bench *bench = *state;
    bench_sql(bench->db, plain);
    capture_open(bench, NULL, &(outbox_capture){.table = "t", .topic = "{x}/p/{X}/t"});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *sql = sqlite3_mprintf("INSERT INTO t(x) VALUES(%s)", cases[i].value);
        bench_sql(bench->db, sql);
        char *topic = change_topic(bench, OUTBOX_NORMAL, last_id(bench));
        assert_string_equal(topic, cases[i].topic);
        sqlite3_free(topic);
        sqlite3_free(sql);
    }
    bench_sql(bench->db, "INSERT INTO t(x) VALUES(printf('%2000s', 'x'))");
    char *topic = change_topic(bench, OUTBOX_NORMAL, last_id(bench));
    assert_int_equal(strlen(topic), OUTBOX_TOPIC_MAX);
    sqlite3_free(topic);
}

/* [capture-7] */
static void test_the_key_is_the_primary_key_or_the_chosen_columns(void **state)
{
    static const char *const keys[] = {"x", "name", NULL};
    struct bench *bench = *state;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(5, 'a/b', NULL)");
    char *key = change_key(bench, OUTBOX_NORMAL, last_id(bench));
    assert_string_equal(key, "5");
    sqlite3_free(key);
    assert_int_equal(outbox_capture_remove(bench->box, "t"), OUTBOX_OK);
    capture_open(bench, NULL,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .key_columns = keys});
    bench_sql(bench->db, "UPDATE t SET x = 7");
    key = change_key(bench, OUTBOX_NORMAL, last_id(bench));
    assert_string_equal(key, "7/a%2Fb");
    sqlite3_free(key);
}

static void test_only_chosen_columns_are_told_and_their_changes(void **state)
{
    static const char *const columns[] = {"x", NULL};
    struct bench *bench = *state;
    int64_t after = 0;
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .columns = columns});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); UPDATE t SET name = 'b';"
                         "UPDATE t SET x = 2; UPDATE t SET id = 3; DELETE FROM t");
    expect_changes(bench, &after,
                   "c {\"x\":1}\nu {\"x\":1} -> {\"x\":2}\nd {\"x\":2}\nc {\"x\":2}\n"
                   "d {\"x\":2}\n");
    expect_document(bench, 3, "\"key_to\":{\"id\":3}");
}

static void test_only_chosen_operations_are_captured(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0;
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t",
                                   .topic = "plant/t",
                                   .operations = OUTBOX_CAPTURE_DELETE | OUTBOX_CAPTURE_INSERT,
                                   .lane = OUTBOX_URGENT});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); UPDATE t SET x = 2; DELETE FROM t");
    expect_changes(bench, &after, "");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_urgent"), 1 + 2);
    char *document = change_document(bench, OUTBOX_URGENT, 2);
    assert_non_null(strstr(document, "{\"op\":\"d\",\"before\":{\"id\":1,\"name\":\"a\",\"x\":2}"));
    sqlite3_free(document);
}

/* [capture-23] what SQLite took for a text before, it does afterwards */
static void test_a_text_in_double_quotes_is_refused_and_the_setting_stays(void **state)
{
    struct bench *bench = *state;
    const outbox_capture capture = {
        .table = "t", .topic = "plant/t", .condition = "NEW.name = \"text\""};
    bench_sql(bench->db, plain);
    for (int allowed = 0; allowed < 2; allowed++) {
        int found = -1;
        assert_int_equal(sqlite3_db_config(bench->db, SQLITE_DBCONFIG_DQS_DML, allowed, NULL),
                         SQLITE_OK);
        assert_int_equal(outbox_capture_add(bench->box, &capture), OUTBOX_MISUSE);
        assert_non_null(strstr(outbox_errmsg(bench->box), "single quotes"));
        assert_int_equal(sqlite3_db_config(bench->db, SQLITE_DBCONFIG_DQS_DML, -1, &found),
                         SQLITE_OK);
        assert_int_equal(found, allowed);
    }
}

/* [capture-10] */
static void test_a_condition_chooses_rows_by_old_and_new(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0;
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t",
                                   .topic = "plant/t",
                                   .condition = "abs(new . x) > 3 AND \"OLD\".x <> 'NEW.x'"});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', -4); UPDATE t SET x = x * 5;"
                         "UPDATE t SET x = 0; DELETE FROM t; INSERT INTO t VALUES(3, 'c', 4);"
                         "REPLACE INTO t VALUES(4, 'c', 1)");
    expect_changes(bench, &after,
                   "c {\"id\":2,\"name\":\"b\",\"x\":-4}\n"
                   "u {\"id\":1,\"name\":\"a\",\"x\":1} -> "
                   "{\"id\":1,\"name\":\"a\",\"x\":5}\n"
                   "u {\"id\":2,\"name\":\"b\",\"x\":-4} -> "
                   "{\"id\":2,\"name\":\"b\",\"x\":-20}\n"
                   "c {\"id\":3,\"name\":\"c\",\"x\":4}\n"
                   "d {\"id\":3,\"name\":\"c\",\"x\":4}\n");
}

/* [capture-10] what others can read as well, and collations that everybody has */
static void test_a_condition_may_look_at_another_table_and_compare_as_sqlite_can(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0;
    bench_sql(bench->db, "CREATE TABLE wanted(id); INSERT INTO wanted VALUES(2), (4)");
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t",
                                   .topic = "plant/t",
                                   .condition =
                                       "NEW.id IN (SELECT w.id FROM wanted AS w)"
                                       " AND NEW.name = 'A' COLLATE nocase"
                                       " AND NEW.x = 'b' COLLATE \"RTRIM\" COLLATE [Binary]"});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 'b'), (2, 'A', 'b'), (3, 'c', 'b')");
    expect_changes(bench, &after, "c {\"id\":2,\"name\":\"A\",\"x\":\"b\"}\n");
}

static void test_odd_names_are_quoted(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0;
    bench_sql(bench->db,
              "CREATE TABLE \"a \"\"b\"(\"rowid\" TEXT, \"se\"\"lect\" INTEGER PRIMARY KEY,"
              " \"x y\" UNIQUE, 'it''s')");
    capture_open(bench, NULL,
                 &(outbox_capture){
                     .table = "a \"b", .topic = "p/{x y}", .condition = "NEW.\"se\"\"lect\" > 0"});
    bench_sql(bench->db, "INSERT INTO \"a \"\"b\" VALUES('r', 1, 'x', 2);"
                         "REPLACE INTO \"a \"\"b\" VALUES('r', 2, 'x', 3)");
    expect_changes(bench, &after,
                   "c {\"rowid\":\"r\",\"se\\\"lect\":1,\"x y\":\"x\",\"it's\":2}\n"
                   "d {\"rowid\":\"r\",\"se\\\"lect\":1,\"x y\":\"x\",\"it's\":2}\n"
                   "c {\"rowid\":\"r\",\"se\\\"lect\":2,\"x y\":\"x\",\"it's\":3}\n");
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_OK);
    int64_t count;
    assert_int_equal(outbox_capture_snapshot(bench->box, "a \"b", 0, &count), OUTBOX_OK);
    assert_int_equal(count, 1);
}

/* [capture-14] */
static void test_what_was_captured_before_the_end_is_still_sent(void **state)
{
    struct bench *bench = *state;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    assert_int_equal(outbox_capture_remove(bench->box, "t"), OUTBOX_OK);
    bench_sql(bench->db, "INSERT INTO t VALUES(2, 'b', 2)");
    assert_int_equal(last_id(bench), 1);
    expect_document(bench, 1, "\"name\":\"a\"");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM sqlite_master WHERE"
                                             " name GLOB 'outbox_*_1*'"),
                     0);
}

static void test_a_database_in_utf16_is_captured_too(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    sqlite3_close(bench->db);
    assert_int_equal(remove(bench->path), 0);
    bench->db = bench_connect(bench);
    bench_sql(bench->db, "PRAGMA encoding = 'UTF-16'");
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    int64_t after = 0;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'K\xc3\xb6ln', 1.5)");
    expect_changes(bench, &after, "c {\"id\":1,\"name\":\"K\xc3\xb6ln\",\"x\":1.5}\n");
}

/* ---- What is sent ---------------------------------------------------------------------------- */

/* [capture-2] [capture-4] */
static void test_an_event_says_who_changed_what_and_when(void **state)
{
    struct bench *bench = *state;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    bench_sql(bench->db, "UPDATE outbox_event SET created = 1795566353500 WHERE id = 1");
    char *document = change_document(bench, OUTBOX_NORMAL, 1);
    char *schema = strstr(document, "\"schema\":\"");
    assert_non_null(schema);
    memset(schema + 10, 'f', 16); /* of the columns */
    assert_string_equal(document, "{\"op\":\"c\",\"before\":null,"
                                  "\"after\":{\"id\":1,\"name\":\"a\",\"x\":1},"
                                  "\"source\":{\"device\":\"pump-7\",\"table\":\"t\","
                                  "\"schema\":\"ffffffffffffffff\",\"snapshot\":\"false\"},"
                                  "\"ts_ms\":1795566353500,"
                                  "\"transaction\":{\"id\":1,\"index\":0,\"last\":true}}");
    sqlite3_free(document);
}

static void test_the_forwarder_sends_changes_as_json_with_their_key_and_type(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &(outbox_capture){.table = "t", .topic = "p/{name}"});
    bench_put(bench, "own", "before");
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    assert_string_equal(rig.link.sent[1].topic, "p/a");
    const char *sent = rig.link.sent[1].payload;
    assert_non_null(strstr(sent, "\"type\":\"outbox.change\""));
    assert_non_null(strstr(sent, "\"partitionkey\":\"1\",\"datacontenttype\":\"application/json\","
                                 "\"data\":{\"op\":\"c\",\"before\":null,\"after\":{\"id\":1,"));
    rig_ack_from(&rig, 0);
    outbox_statistics statistics = rig_stats(&rig);
    assert_int_equal(statistics.delivered, 2);
    rig_stop(&rig);
}

/* [capture-3] */
static void test_no_transaction_is_parted_and_its_last_event_says_so(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    const outbox_forwarder_config config = {.mode = OUTBOX_PLAIN};
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "BEGIN; INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2); COMMIT;"
                         "INSERT INTO t VALUES(3, 'c', 3)");
    rig_start(&rig, bench, &config);
    rig_connect(&rig, 2); /* a window smaller than what was committed */
    bench_sql(bench->db, "BEGIN; DELETE FROM t WHERE id > 1; COMMIT");
    rig_ack_from(&rig, 0);
    rig_run(&rig, 3000);
    rig_ack_from(&rig, 2);
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 5);
    static const char *const expected[] = {"\"transaction\":{\"id\":3,\"index\":0,\"last\":false}",
                                           "\"transaction\":{\"id\":3,\"index\":1,\"last\":false}",
                                           "\"transaction\":{\"id\":3,\"index\":2,\"last\":true}",
                                           "\"transaction\":{\"id\":5,\"index\":0,\"last\":false}",
                                           "\"transaction\":{\"id\":5,\"index\":1,\"last\":true}"};
    for (int i = 0; i < 5; i++) {
        if (!strstr(rig.link.sent[i].payload, expected[i]))
            fail_msg("%s does not hold %s", rig.link.sent[i].payload, expected[i]);
    }
    rig_stop(&rig);
}

/* [capture-12] */
static void test_a_change_that_is_refused_is_a_whole_event_among_the_dead_letters(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    int64_t id;
    capture_open(bench, plain, &(outbox_capture){.table = "t", .topic = "p/{name}"});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x99);
    rig_step(&rig);
    rig_reconnect(&rig, 10);
    rig_run(&rig, 5000);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead WHERE topic = 'p/a'"
                                             " AND type = 'outbox.change' AND key = '1'"
                                             " AND content_type = 'application/json'"
                                             " AND payload LIKE '{\"op\":\"c\",%'"),
                     1);
    rig_stop(&rig);
    assert_int_equal(outbox_requeue(bench->box, 1, &id), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE topic = 'p/a'"
                                             " AND type = 'outbox.change'"),
                     1);
}

static void test_a_row_that_names_no_shape_is_another_writer_s_slip(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    bench_sql(bench->db,
              "INSERT INTO outbox_event(payload, type) VALUES(99, 'c'), (1, 'cc'), (1, NULL);"
              "INSERT INTO outbox_event(topic, payload) VALUES('t', 1);"
              "INSERT INTO t VALUES(1, 'a', 1)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 4);
    rig_stop(&rig);
}

/* [P3] a dead letter keeps the event */
static void test_a_change_without_its_shape_keeps_its_values(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a\"b', x'00ff'); DELETE FROM outbox_shape");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(
        bench_number(bench->db,
                     "SELECT count(*) FROM outbox_dead WHERE topic IS NULL AND type = 'c' AND"
                     " payload = '{\"shape\":1,\"values\":[1,\"a\\\"b\",{\"$blob\":\"AP8=\"}]}'"),
        1);
    rig_stop(&rig);
}

static void test_a_table_of_shapes_that_is_dropped_does_not_stop_the_lane(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "DROP TABLE outbox_shape; INSERT INTO t VALUES(2, 'b', 2)");
    bench_put(bench, "own", "behind it");
    rig_run(&rig, 6000);
    assert_in_range(rig.link.sent_count, 2, 3); /* perhaps with an announcement */
    assert_string_equal(rig.link.sent[1].topic, "own");
    rig_ack_from(&rig, 1);
    rig_run(&rig, 3000);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead WHERE payload ="
                                             " '{\"shape\":1,\"values\":[2,\"b\",2]}'"),
                     1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_DRIFT);
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_OK);
    rig_run(&rig, 3000);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, "SELECT shape FROM outbox_shape"), 2);
    rig_stop(&rig);
}

/* As if somebody else had written them. */
static void test_a_shape_that_cannot_be_read_keeps_the_values_of_all_its_changes(void **state)
{
    static const char *const shapes[] = {"NULL", "''", "'2 3 0'", "'1 3 0'"};
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 10);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char *sql = sqlite3_mprintf("UPDATE outbox_shape SET text = %s; DELETE FROM outbox_dead;"
                                    "INSERT INTO t(x) VALUES(7), (8)",
                                    shapes[i]);
        bench_sql(bench->db, sql);
        sqlite3_free(sql);
        rig_run(&rig, 3000);
        assert_int_equal(bench_number(bench->db,
                                      "SELECT count(*) FROM outbox_dead WHERE payload"
                                      " GLOB '{\"shape\":1,\"values\":?[0-9],null,[78]?}'"),
                         2);
    }
    assert_int_equal(rig.link.sent_count, 0);
    rig_stop(&rig);
}

/* Ids that are none are moved to the dead letters, too. */
static void test_changes_at_odd_ids_are_whole_dead_letters_of_no_transaction(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO outbox_event(id, payload, type, created, v1) VALUES"
                         "(-6, 1, 'c', NULL, 9), (-5, 1, 'c', NULL, 9)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_dead WHERE id IN (-6, -5) AND topic ="
                                " 'plant/t' AND payload GLOB '*\"id\":9,*\"source\":{\"device\":\"'"
                                " || (SELECT value FROM outbox_meta WHERE name = 'device') ||"
                                " '\",*\"ts_ms\":null,\"transaction\":null}'"),
        2);
    rig_stop(&rig);
}

/* Somebody else may have written it. */
static void test_a_shape_that_names_what_is_not_there_does_no_harm(void **state)
{
    struct bench *bench = *state;
    capture_open(bench, plain, &(outbox_capture){.table = "t", .topic = "p/{name}"});
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1);"
                         "UPDATE t SET id = 2;"
                         "UPDATE outbox_shape SET text = replace(text, '{name}', '{nobody}')");
    for (int64_t id = 1; id <= 3; id++) {
        char *topic = change_topic(bench, OUTBOX_NORMAL, id);
        assert_string_equal(topic, "p/%-");
        sqlite3_free(topic);
    }
    /* One value more than the table holds, a column less, and an identity that is none of them. */
    bench_sql(bench->db, "UPDATE outbox_shape SET text = '1 4 0' || char(10) || 't' || char(10, 10)"
                         " || 'p' || char(10) || '9' || char(10) || '0,9' || char(10) || 'v-id'"
                         " || char(10) || 'v-name' || char(10) || 'v-x' || char(10)");
    expect_document(bench, 1, "\"after\":{\"id\":1,\"name\":\"a\",\"x\":1}");
    expect_document(bench, 2, "\"key_to\":{\"id\":\"a\"}");
    bench_sql(bench->db,
              "UPDATE outbox_shape SET text = replace(replace(text, '1 4', '1 7'), 'v-x',"
              " 'v-x' || replace('_v-a_h-b_h-c_v-d', '_', char(10)))");
    expect_document(bench, 1, "\"x\":1,\"a\":null,\"d\":null}");
    char *key = change_key(bench, OUTBOX_NORMAL, 1);
    assert_string_equal(key, "%-");
    sqlite3_free(key);
}

/* [capture-12] */
static void test_a_change_over_the_forwarder_s_limit_is_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    const outbox_forwarder_config config = {.payload_max = 1000};
    capture_open(bench, plain, &all);
    bench_sql(bench->db,
              "INSERT INTO t VALUES(1, 'a', zeroblob(1000)), (2, 'b', zeroblob(1000000)),"
              "(3, 'c', 1)");
    /* A row that can be read, and an event that cannot be made. */
    bench_sql(bench->db, "INSERT INTO t VALUES(4, 'd', zeroblob(60000))");
    rig_start(&rig, bench, &config);
    rig_connect(&rig, 10);
    rig_run(&rig, 1000);
    assert_int_equal(rig.link.sent_count, 1);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 3);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead WHERE topic ="
                                             " 'plant/t' AND length(payload) > 80000"),
                     2);
    rig_stop(&rig);
}

/* [capture-12] [limit-1] */
static void test_a_limit_in_bytes_counts_captured_values(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    const outbox_config config = {
        .limits[OUTBOX_NORMAL] = {.max_bytes = 5000, .when_full = OUTBOX_EVICT_OLDEST}};
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    capture_open(bench, plain, &all);
    for (int i = 0; i < 20; i++)
        bench_sql(bench->db, "INSERT INTO t(x) VALUES(zeroblob(1000))");
    rig_start(&rig, bench, NULL);
    rig_run(&rig, 2500);
    assert_in_range(rig_stats(&rig).evicted, 16, 16);
    outbox_statistics statistics = rig_stats(&rig);
    assert_in_range(statistics.lanes[OUTBOX_NORMAL].pending_bytes, 4000, 5000);
    bench_put(bench, "own", "a put measures them too");
    rig_stop(&rig);
}

/* [capture-12] [limit-1] more than an expression of SQL can add up at once */
static void test_a_limit_in_bytes_counts_the_values_of_many_columns(void **state)
{
    struct bench *bench = *state;
    outbox_statistics statistics;
    const outbox_config config = {.limits[OUTBOX_NORMAL] = {.max_bytes = 100000}};
    sqlite3_str *sql = sqlite3_str_new(NULL);
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    sqlite3_str_appendall(sql, "CREATE TABLE t(id INTEGER PRIMARY KEY");
    for (int i = 0; i < 600; i++)
        sqlite3_str_appendf(sql, ", c%d DEFAULT '1234567890'", i);
    sqlite3_str_appendall(sql, ")");
    char *table = sqlite3_str_finish(sql);
    capture_open(bench, table, &all);
    sqlite3_free(table);
    bench_sql(bench->db, "INSERT INTO t DEFAULT VALUES");
    bench_put(bench, "own", "measures them");
    assert_int_equal(outbox_stats(bench->box, &statistics), OUTBOX_OK);
    assert_in_range(statistics.lanes[OUTBOX_NORMAL].pending_bytes, 6000 + 2 * OUTBOX_EVENT_BYTES,
                    6100 + 2 * OUTBOX_EVENT_BYTES);
}

/* [capture-21] */
static void test_an_earlier_release_must_not_meet_captured_changes(void **state)
{
    struct bench *bench = *state;
    static const char minimum[] = "SELECT value FROM outbox_meta WHERE name = 'minimum_reader'";
    outbox_capture wrong = all;
    wrong.table = "nobody";
    assert_int_equal(outbox_capture_add(bench->box, &wrong), OUTBOX_MISUSE);
    assert_int_equal(bench_number(bench->db, minimum), 1);
    capture_open(bench, plain, &all);
    assert_int_equal(bench_number(bench->db, minimum), 3);
    bench_sql(bench->db, "UPDATE outbox_meta SET value = 9 WHERE name = 'minimum_reader';"
                         "CREATE TABLE other(id INTEGER PRIMARY KEY)");
    wrong.table = "other";
    assert_int_equal(outbox_capture_add(bench->box, &wrong), OUTBOX_OK);
    assert_int_equal(bench_number(bench->db, minimum), 9);
}

/* ---- Drift ----------------------------------------------------------------------------------- */

/* [capture-19] */
static void test_the_forwarder_says_that_a_table_has_drifted_until_it_is_mended(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN y");
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_DRIFT);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "columns of t have changed"));
    fake_link_closed(&rig.link, "lost");
    rig_step(&rig);
    rig_reconnect(&rig, 10);
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_DRIFT); /* another trouble passed by */
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_OK);
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_stop(&rig);
}

/* outbox_inspect() would refuse the file. */
static int last_error(struct bench *bench)
{
    outbox_statistics statistics = {0};
    outbox_forwarder_stats(bench->forwarder, &statistics);
    return statistics.last_error;
}

/* [init-5] */
static void
test_a_forwarder_that_runs_stops_where_a_newer_release_makes_the_tables_new(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 1500);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 1);
    bench_sql(bench->db, "UPDATE outbox_meta SET value = 99 WHERE name = 'minimum_reader';"
                         "ALTER TABLE outbox_event ADD COLUMN of_a_newer_release");
    rig_run(&rig, 1500);
    assert_int_equal(last_error(bench), OUTBOX_NEWER_SCHEMA);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "INSERT INTO t VALUES(2, 'b', 1)");
    rig_run(&rig, 60000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'c'"),
                     2);
    assert_int_equal(last_error(bench), OUTBOX_NEWER_SCHEMA);
    bench_sql(bench->db, "UPDATE outbox_meta SET value = 1 WHERE name = 'minimum_reader'");
    rig_run(&rig, 15000);
    assert_int_equal(rig.link.sent_count, 2);
    rig_stop(&rig);
}

/* Whatever is wrong with a capture, what was captured is sent. */
static void test_a_capture_that_cannot_be_checked_holds_nothing_up(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO outbox_capture(number) VALUES(9);"
                         "INSERT INTO t VALUES(1, 'a', 1)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_DRIFT);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "DELETE FROM outbox_capture WHERE number = 9");
    rig_run(&rig, 1500);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_stop(&rig);
}

/* The triggers are longer than an event may be. */
static void test_a_table_of_many_columns_is_no_trouble_for_a_forwarder_of_small_events(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    const outbox_forwarder_config config = {.payload_max = 100};
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendall(sql, "CREATE TABLE t(id INTEGER PRIMARY KEY");
    for (int i = 0; i < 800; i++)
        sqlite3_str_appendf(sql, ", a_rather_long_name_of_a_column_%d", i);
    sqlite3_str_appendall(sql, ")");
    char *table = sqlite3_str_finish(sql);
    capture_open(bench, table, &all);
    sqlite3_free(table);
    bench_put(bench, "topic", "payload");
    rig_start(&rig, bench, &config);
    rig_connect(&rig, 10);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
    rig_stop(&rig);
}

/* Ids beyond the last one are moved away, and must not be for ever the end of a transaction. */
static void test_an_id_beyond_all_others_ends_no_transaction(void **state)
{
    struct bench *bench = *state;
    struct rig rig;
    const outbox_forwarder_config config = {.mode = OUTBOX_PLAIN};
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1);"
                         "INSERT INTO outbox_event(id, topic) VALUES(1 << 60, 'beyond')");
    rig_start(&rig, bench, &config);
    rig_connect(&rig, 10);
    rig_ack_from(&rig, 0);
    bench_sql(bench->db, "INSERT INTO t VALUES(2, 'b', 2)");
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 2);
    assert_non_null(strstr(rig.link.sent[0].payload, "{\"id\":1,\"index\":0,\"last\":true}"));
    assert_non_null(strstr(rig.link.sent[1].payload, "{\"id\":2,\"index\":0,\"last\":true}"));
    rig_stop(&rig);
}

/* [capture-22] */
static void test_a_snapshot_that_is_refused_has_counted_nothing(void **state)
{
    struct bench *bench = *state;
    int64_t count = 77;
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, &count), OUTBOX_MISUSE);
    assert_int_equal(count, 0);
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN y; BEGIN");
    count = 77;
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, &count), OUTBOX_MISUSE);
    assert_int_equal(count, 0);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, &count), OUTBOX_DRIFT);
    assert_int_equal(count, 0);
}

struct intruder {
    outbox *box;
    sqlite3 *db;
    int calls;
};

/* Behind the first batch of a snapshot. */
static int intrude(void *context, sqlite3 *db, const char *name, int pages)
{
    struct intruder *intruder = context;
    (void)db, (void)name, (void)pages;
    if (intruder->calls++ > 0)
        return SQLITE_OK;
    assert_int_equal(outbox_capture_suspend(intruder->box, "t"), OUTBOX_OK);
    bench_sql(intruder->db, "UPDATE t SET x = 99 WHERE id = 1");
    assert_int_equal(outbox_capture_resume(intruder->box, "t"), OUTBOX_OK);
    return SQLITE_OK;
}

/* [capture-20] */
static void test_what_is_missed_during_a_snapshot_is_not_forgotten(void **state)
{
    struct bench *bench = *state;
    struct intruder intruder = {.db = bench_connect(bench)};
    int64_t count;
    bench_sql(bench->db, plain);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    capture_open(bench, NULL, &all);
    assert_int_equal(outbox_attach(intruder.db, NULL, &intruder.box), OUTBOX_OK);
    (void)sqlite3_wal_hook(bench->db, intrude, &intruder);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 2, &count), OUTBOX_OK);
    assert_int_equal(count, 3);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_DRIFT);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 2, &count), OUTBOX_OK);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_OK);
    (void)sqlite3_wal_hook(bench->db, NULL, NULL);
    outbox_detach(intruder.box);
    sqlite3_close(intruder.db);
}

struct findings {
    int count;
    char text[2000];
};

static void find(void *context, const char *lane, const char *sentence)
{
    struct findings *findings = context;
    assert_null(lane);
    findings->count++;
    strncat(findings->text, sentence, sizeof findings->text - strlen(findings->text) - 1);
}

/* A file that was mended by hand may hold anything under the name of a trigger. */
static void test_a_trigger_without_its_text_has_drifted(void **state)
{
    static const char *const texts[] = {"NULL", "'CREATE'"};
    struct bench *bench = *state;
    capture_open(bench, plain, &all);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_OK);
    (void)sqlite3_db_config(bench->db, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    bench_sql(bench->db, "PRAGMA writable_schema = ON");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct findings findings = {0};
        char *sql = sqlite3_mprintf("UPDATE sqlite_master SET sql = %s"
                                    " WHERE name = 'outbox_capture_1_au'",
                                    texts[i]);
        bench_sql(bench->db, sql);
        sqlite3_free(sql);
        assert_int_equal(outbox_capture_doctor(bench->db, find, &findings), OUTBOX_DRIFT);
        assert_int_equal(findings.count, 1);
        assert_non_null(strstr(findings.text, "its capture has not"));
    }
}

/* [capture-19] */
static void test_of_two_tables_that_have_drifted_the_first_is_told(void **state)
{
    struct bench *bench = *state;
    struct findings findings = {0};
    struct rig rig;
    bench_sql(bench->db, "CREATE TABLE z(id INTEGER PRIMARY KEY)");
    capture_open(bench, plain, &all);
    capture_open(bench, NULL, &(outbox_capture){.table = "z", .topic = "p/z"});
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN y; ALTER TABLE z ADD COLUMN y");
    assert_int_equal(outbox_capture_doctor(bench->db, find, &findings), OUTBOX_DRIFT);
    assert_int_equal(findings.count, 2);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    rig_run(&rig, 1500);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "columns of t have changed"));
    rig_stop(&rig);
}

static void open_three_suspended(struct bench *bench)
{
    static const char *const name[] = {"name", NULL};
    bench_sql(bench->db, "CREATE TABLE a(id INTEGER PRIMARY KEY, name);"
                         "CREATE TABLE z(id INTEGER PRIMARY KEY, name)");
    capture_open(bench, NULL, &(outbox_capture){.table = "a", .topic = "p/a"});
    capture_open(bench, plain, &(outbox_capture){.table = "t", .topic = "p/t", .columns = name});
    capture_open(bench, NULL, &(outbox_capture){.table = "z", .topic = "p/z"});
    assert_int_equal(outbox_capture_suspend(bench->box, NULL), OUTBOX_OK);
    bench_sql(bench->db, "ALTER TABLE t RENAME COLUMN name TO title");
}

static void expect_all_but_t_resumed(struct bench *bench)
{
    assert_int_equal(bench_number(bench->db,
                                  "SELECT count(*) FROM outbox_capture WHERE is_suspended"
                                  " AND name = 't'"),
                     1);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_capture WHERE"
                                             " is_suspended"),
                     1);
    assert_int_equal(bench_number(bench->db,
                                  "SELECT count(DISTINCT tbl_name) FROM sqlite_master WHERE"
                                  " type = 'trigger' AND tbl_name IN ('a', 't', 'z')"),
                     2);
}

/* [capture-24] in a transaction of its own, and in the application's */
static void test_a_capture_that_cannot_be_resumed_does_not_keep_the_others(void **state)
{
    struct bench *bench = *state;
    open_three_suspended(bench);
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "t has no column name"));
    expect_all_but_t_resumed(bench);
    assert_int_equal(outbox_capture_suspend(bench->box, NULL), OUTBOX_OK);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_MISUSE);
    bench_sql(bench->db, "COMMIT");
    expect_all_but_t_resumed(bench);
}

/* [capture-24] */
static void test_of_two_captures_that_cannot_be_resumed_the_first_is_told(void **state)
{
    struct bench *bench = *state;
    open_three_suspended(bench);
    bench_sql(bench->db, "DROP TABLE z");
    assert_int_equal(outbox_capture_resume(bench->box, NULL), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "t has no column name"));
}

/* [capture-15] [capture-20] */
static void test_the_doctor_finds_what_makes_captures_incomplete(void **state)
{
    struct bench *bench = *state;
    struct findings findings = {0};
    capture_open(bench, plain, &all);
    assert_int_equal(outbox_capture_doctor(bench->db, find, &findings), OUTBOX_OK);
    bench_sql(bench->db, "CREATE UNIQUE INDEX u ON outbox_event(topic);"
                         "CREATE TRIGGER own BEFORE INSERT ON outbox_urgent BEGIN SELECT 1; END");
    assert_int_equal(outbox_capture_suspend(bench->box, NULL), OUTBOX_OK);
    assert_int_equal(outbox_capture_doctor(bench->db, find, &findings), OUTBOX_DRIFT);
    assert_int_equal(findings.count, 3);
    assert_non_null(strstr(findings.text, "UNIQUE index u"));
    assert_non_null(strstr(findings.text, "trigger own"));
    assert_non_null(strstr(findings.text, "suspended"));
    bench_sql(bench->db, "DROP INDEX u; DROP TRIGGER own");
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    memset(&findings, 0, sizeof findings);
    assert_int_equal(outbox_capture_doctor(bench->db, find, &findings), OUTBOX_DRIFT);
    assert_non_null(strstr(findings.text, "take a snapshot"));
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, NULL), OUTBOX_OK);
    assert_int_equal(outbox_capture_doctor(bench->db, find, NULL), OUTBOX_OK);
    bench_sql(bench->db, "DROP TRIGGER outbox_capture_1_au");
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_DRIFT);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, NULL), OUTBOX_DRIFT);
}

static void compare(void *context, const outbox_capture *found, outbox_capture_state state,
                    const char *sentence)
{
    const outbox_capture *expected = context;
    assert_int_equal(state, OUTBOX_CAPTURE_ACTIVE);
    assert_null(sentence);
    assert_string_equal(found->table, expected->table);
    assert_string_equal(found->topic, expected->topic);
    assert_string_equal(found->condition, expected->condition);
    assert_int_equal(found->operations, expected->operations);
    assert_int_equal(found->lane, expected->lane);
    assert_int_equal(found->integers_as_text, 1);
    assert_string_equal(found->columns[0], "x");
    assert_string_equal(found->columns[1], "id");
    assert_null(found->columns[2]);
    assert_string_equal(found->json_columns[0], "x");
    assert_null(found->json_columns[1]);
    assert_null(found->key_columns);
}

/* [capture-18] */
static void test_the_list_gives_back_what_was_asked_for(void **state)
{
    struct bench *bench = *state;
    static const char *const columns[] = {"x", "id", NULL}, *const json[] = {"x", NULL};
    outbox_capture capture = {.table = "t",
                              .topic = "a/{name}",
                              .columns = columns,
                              .json_columns = json,
                              .operations = OUTBOX_CAPTURE_UPDATE,
                              .condition = "NEW.x > 1",
                              .lane = OUTBOX_URGENT,
                              .integers_as_text = 1};
    capture_open(bench, plain, &capture);
    assert_int_equal(outbox_capture_list(bench->db, compare, &capture), OUTBOX_OK);
}

static void expect_suspended(void *context, const outbox_capture *found, outbox_capture_state state,
                             const char *sentence)
{
    (*(int *)context)++;
    assert_string_equal(found->key_columns[0], "name");
    assert_null(found->key_columns[1]);
    assert_null(found->columns);
    assert_int_equal(state, OUTBOX_CAPTURE_SUSPENDED);
    assert_null(sentence);
}

/* [capture-18] */
static void test_the_list_says_what_is_suspended(void **state)
{
    static const char *const key[] = {"name", NULL};
    struct bench *bench = *state;
    int calls = 0;
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .key_columns = key});
    assert_int_equal(outbox_capture_suspend(bench->box, "t"), OUTBOX_OK);
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN y");
    assert_int_equal(outbox_capture_list(bench->db, expect_suspended, &calls), OUTBOX_OK);
    assert_int_equal(calls, 1);
}

/* ---- Snapshots ------------------------------------------------------------------------------- */

static void expect_snapshot(struct bench *bench, int64_t id, const char *mark)
{
    char part[64];
    snprintf(part, sizeof part, "\"snapshot\":\"%s\"", mark);
    expect_document(bench, id, part);
}

/* [capture-17] */
static void test_a_snapshot_reads_each_row_in_batches(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0, count = 0;
    bench_sql(bench->db, plain);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (-2, 'b', 2), (5, 'c', 3), (7, 'd', 4)");
    capture_open(bench, NULL,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .condition = "NEW.x < 4"});
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 2, &count), OUTBOX_OK);
    assert_int_equal(count, 3);
    expect_changes(bench, &after,
                   "r {\"id\":-2,\"name\":\"b\",\"x\":2}\n"
                   "r {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "r {\"id\":5,\"name\":\"c\",\"x\":3}\n");
    expect_snapshot(bench, 1, "first");
    expect_snapshot(bench, 2, "true");
    expect_snapshot(bench, 3, "last");
    /* A batch that ends with the table is the last one. */
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 3, &count), OUTBOX_OK);
    assert_int_equal(count, 3);
    expect_snapshot(bench, 6, "last");
    bench_sql(bench->db, "DELETE FROM t WHERE id <> 1");
    after = last_id(bench);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 1, &count), OUTBOX_OK);
    assert_int_equal(count, 1);
    expect_snapshot(bench, after + 1, "first_and_last");
    bench_sql(bench->db, "DELETE FROM t");
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 1, &count), OUTBOX_OK);
    assert_int_equal(count, 0);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 1, &count), OUTBOX_MISUSE);
    bench_sql(bench->db, "ROLLBACK");
}

static void test_a_snapshot_of_a_table_without_rowid_goes_by_its_whole_key(void **state)
{
    struct bench *bench = *state;
    int64_t after = 0, count = 0;
    bench_sql(bench->db, "CREATE TABLE t(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
                         "INSERT INTO t VALUES(1, 'x'), (1, x'00'), (2, 'a'), ('z', 1.5), (1, 7)");
    capture_open(bench, NULL, &all);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 1, &count), OUTBOX_OK);
    assert_int_equal(count, 5);
    expect_changes(bench, &after,
                   "r {\"a\":1,\"b\":7}\nr {\"a\":1,\"b\":\"x\"}\n"
                   "r {\"a\":1,\"b\":{\"$blob\":\"AA==\"}}\nr {\"a\":2,\"b\":\"a\"}\n"
                   "r {\"a\":\"z\",\"b\":1.5}\n");
}

static void test_a_snapshot_by_a_key_of_too_many_columns_is_refused(void **state)
{
    struct bench *bench = *state;
    int64_t count = 0;
    sqlite3_str *sql = sqlite3_str_new(NULL), *key = sqlite3_str_new(NULL);
    sqlite3_str_appendall(sql, "CREATE TABLE t(x");
    for (int i = 0; i < 65; i++) {
        sqlite3_str_appendf(sql, ", k%d DEFAULT 1", i);
        sqlite3_str_appendf(key, "%sk%d", i > 0 ? "," : "", i);
    }
    sqlite3_str_appendf(sql, ", PRIMARY KEY(%s)) WITHOUT ROWID; INSERT INTO t(x) VALUES(1)",
                        sqlite3_str_value(key));
    char *table = sqlite3_str_finish(sql);
    sqlite3_free(sqlite3_str_finish(key));
    capture_open(bench, table, &all);
    sqlite3_free(table);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, &count), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "over 64 columns"));
    assert_int_equal(last_id(bench), 0);
}

static void count_commit(void *context, const int64_t durable[OUTBOX_LANES])
{
    (void)durable;
    (*(int *)context)++;
}

static void stop_nothing(void *context)
{
    (void)context;
}

static void test_a_snapshot_wakes_the_forwarder_behind_each_batch(void **state)
{
    static const outbox_service service = {
        .version = 1, .committed = count_commit, .stop = stop_nothing};
    struct bench *bench = *state;
    int commits = 0;
    bench_sql(bench->db, plain);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    capture_open(bench, NULL, &all);
    assert_int_equal(outbox_bind(bench->box, &service, &commits), OUTBOX_OK);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 2, NULL), OUTBOX_OK);
    assert_int_equal(commits, 2);
    assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
}

/* Writes between two batches: the commit hook of the snapshot's connection is a good moment. */
struct meddler {
    sqlite3 *db;
    int turn;
};

static int meddle(void *context, sqlite3 *db, const char *name, int pages)
{
    static const char *const sql[] = {
        "DELETE FROM t WHERE id = 1; UPDATE t SET x = 'new' WHERE id = 2",
        "UPDATE t SET id = 100 WHERE id = 9; UPDATE t SET id = 0 WHERE id = 8",
        "INSERT INTO t VALUES(50, 'in', 1); UPDATE t SET x = 'late' WHERE id = 7",
        "DELETE FROM t WHERE id IN (3, 50)"};
    struct meddler *meddler = context;
    (void)db, (void)name, (void)pages;
    if (meddler->turn < 4)
        bench_sql(meddler->db, sql[meddler->turn++]);
    return SQLITE_OK;
}

/* [capture-17] */
static void test_whoever_applies_a_snapshot_and_the_changes_beside_it_has_the_table(void **state)
{
    struct bench *bench = *state;
    struct meddler meddler = {bench_connect(bench), 0};
    int64_t count;
    bench_sql(bench->db, plain);
    for (int i = 1; i < 10; i++) {
        char *sql = sqlite3_mprintf("INSERT INTO t VALUES(%d, 'n%d', %d)", i, i, i);
        bench_sql(bench->db, sql);
        sqlite3_free(sql);
    }
    capture_open(bench, NULL, &all);
    (void)sqlite3_wal_hook(bench->db, meddle, &meddler);
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 2, &count), OUTBOX_OK);
    (void)sqlite3_wal_hook(bench->db, NULL, NULL);
    assert_int_equal(meddler.turn, 4);
    expect_replica(bench);
    assert_int_equal(sqlite3_close(meddler.db), SQLITE_OK);
}

/* ---- Reals ----------------------------------------------------------------------------------- */

/* [capture-4] */
static void test_a_printed_real_is_read_again_as_the_same_bits(void **state)
{
    uint64_t dice = 88172645463325252u;
    (void)state;
    for (int i = 0; i < 200000; i++) {
        char text[OB_REAL_TEXT];
        double value, again;
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        memcpy(&value, &dice, sizeof value);
        if (i % 2 == 1)
            value = (double)(dice % 2000000) / 1000;
        if (value != value || value > 1.7976931348623157e308 || value < -1.7976931348623157e308)
            continue;
        size_t len = ob_real_print(value, text);
        assert_int_equal(len, strlen(text));
        again = strtod(text, NULL);
        assert_memory_equal(&value, &again, sizeof value);
        if (i % 2 == 1)
            assert_true(len <= 8); /* nobody wants to read 21.300000000000001 */
    }
}

static void test_zero_has_a_sign_and_tiny_numbers_all_their_digits(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.0, "0.0"},
                 {-0.0, "-0.0"},
                 {5e-324, "4.9406564584124654e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {1e22, "1.0e+22"},
                 {1e15, "1000000000000000.0"},
                 {99999999999999999.0, "1.0e+17"},
                 {0.00001, "0.00001"},
                 {1e-7, "1.0e-7"}, /* just below, and its digits are rounded up */
                 {-0.25, "-0.25"}};
    char text[OB_REAL_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)ob_real_print(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_cannot_be_captured_is_refused_and_changes_nothing),
        TEST(test_a_table_that_cannot_be_captured_is_refused_with_a_sentence),
        TEST(test_a_rowid_under_its_second_name_is_one),
        TEST(test_a_table_of_too_many_unique_indexes_is_refused_for_deletes_alone),
        TEST(test_a_capture_that_an_authorizer_denies_is_not_half_there),
        TEST(test_calls_without_a_handle_or_a_table_are_refused),
        TEST(test_a_capture_is_part_of_the_open_transaction),
        TEST(test_a_value_is_one_level_of_the_topic),
        TEST(test_the_key_is_the_primary_key_or_the_chosen_columns),
        TEST(test_only_chosen_columns_are_told_and_their_changes),
        TEST(test_only_chosen_operations_are_captured),
        TEST(test_a_text_in_double_quotes_is_refused_and_the_setting_stays),
        TEST(test_a_condition_chooses_rows_by_old_and_new),
        TEST(test_a_condition_may_look_at_another_table_and_compare_as_sqlite_can),
        TEST(test_odd_names_are_quoted),
        TEST(test_what_was_captured_before_the_end_is_still_sent),
        TEST(test_a_database_in_utf16_is_captured_too),
        TEST(test_an_event_says_who_changed_what_and_when),
        TEST(test_the_forwarder_sends_changes_as_json_with_their_key_and_type),
        TEST(test_no_transaction_is_parted_and_its_last_event_says_so),
        TEST(test_a_change_that_is_refused_is_a_whole_event_among_the_dead_letters),
        TEST(test_a_row_that_names_no_shape_is_another_writer_s_slip),
        TEST(test_a_change_without_its_shape_keeps_its_values),
        TEST(test_a_table_of_shapes_that_is_dropped_does_not_stop_the_lane),
        TEST(test_a_shape_that_cannot_be_read_keeps_the_values_of_all_its_changes),
        TEST(test_changes_at_odd_ids_are_whole_dead_letters_of_no_transaction),
        TEST(test_a_shape_that_names_what_is_not_there_does_no_harm),
        TEST(test_a_change_over_the_forwarder_s_limit_is_a_dead_letter),
        TEST(test_a_limit_in_bytes_counts_captured_values),
        TEST(test_a_limit_in_bytes_counts_the_values_of_many_columns),
        TEST(test_the_forwarder_says_that_a_table_has_drifted_until_it_is_mended),
        TEST(test_an_id_beyond_all_others_ends_no_transaction),
        TEST(test_a_snapshot_that_is_refused_has_counted_nothing),
        TEST(test_what_is_missed_during_a_snapshot_is_not_forgotten),
        TEST(test_an_earlier_release_must_not_meet_captured_changes),
        TEST(test_a_forwarder_that_runs_stops_where_a_newer_release_makes_the_tables_new),
        TEST(test_a_capture_that_cannot_be_checked_holds_nothing_up),
        TEST(test_a_table_of_many_columns_is_no_trouble_for_a_forwarder_of_small_events),
        TEST(test_a_capture_that_cannot_be_resumed_does_not_keep_the_others),
        TEST(test_of_two_captures_that_cannot_be_resumed_the_first_is_told),
        TEST(test_a_trigger_without_its_text_has_drifted),
        TEST(test_of_two_tables_that_have_drifted_the_first_is_told),
        TEST(test_the_doctor_finds_what_makes_captures_incomplete),
        TEST(test_the_list_gives_back_what_was_asked_for),
        TEST(test_the_list_says_what_is_suspended),
        TEST(test_a_snapshot_by_a_key_of_too_many_columns_is_refused),
        TEST(test_a_snapshot_wakes_the_forwarder_behind_each_batch),
        TEST(test_a_snapshot_reads_each_row_in_batches),
        TEST(test_a_snapshot_of_a_table_without_rowid_goes_by_its_whole_key),
        TEST(test_whoever_applies_a_snapshot_and_the_changes_beside_it_has_the_table),
        cmocka_unit_test(test_a_printed_real_is_read_again_as_the_same_bits),
        cmocka_unit_test(test_zero_has_a_sign_and_tiny_numbers_all_their_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
