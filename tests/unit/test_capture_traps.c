/* SPDX-License-Identifier: MIT
 *
 * test_capture_traps.c - the traps of capturing with triggers, T1 to T32: each with
 * recursive_triggers off and on. The numbers are those under which they were found.
 */
#include "capture_support.h"

#include <stdio.h>
#include <string.h>

static const char plain[] = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x)";

static const outbox_capture all = {.table = "t", .topic = "plant/t"};
static const outbox_capture inserts = {
    .table = "t", .topic = "plant/t", .operations = OUTBOX_CAPTURE_INSERT};

/* Must fail, and leave the transaction as it was. */
static void refuse(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        fail_msg("%s must fail", sql);
}

/* [capture-2] [capture-5] */
static void replace_of_the_same_key(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive; /* a REPLACE is a delete and an insert in both cases */
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1);"
                         "INSERT OR REPLACE INTO t VALUES(1, 'a', 2);"
                         "REPLACE INTO t VALUES(1, 'b', 3)");
    expect_changes(bench, &after,
                   "c {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "d {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "c {\"id\":1,\"name\":\"a\",\"x\":2}\n"
                   "d {\"id\":1,\"name\":\"a\",\"x\":2}\n"
                   "c {\"id\":1,\"name\":\"b\",\"x\":3}\n");
}

static void test_t1_a_replace_of_the_same_key_gives_the_delete_too(void **state)
{
    (void)state;
    run_recursively(replace_of_the_same_key);
}

/* [capture-5] */
static void replace_through_unique(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)");
    after = 4;
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(9, 'a', 5)");
    expect_changes(bench, &after,
                   "d {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "c {\"id\":9,\"name\":\"a\",\"x\":5}\n");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET name = 'b' WHERE id = 3");
    expect_changes(bench, &after,
                   "d {\"id\":2,\"name\":\"b\",\"x\":2}\n"
                   "u {\"id\":3,\"name\":\"c\",\"x\":3} -> "
                   "{\"id\":3,\"name\":\"b\",\"x\":3}\n");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET id = 4 WHERE id = 3");
    expect_changes(bench, &after,
                   "d {\"id\":4,\"name\":\"d\",\"x\":4}\n"
                   "d {\"id\":3,\"name\":\"b\",\"x\":3}\n"
                   "c {\"id\":4,\"name\":\"b\",\"x\":3}\n");
    /* Two rows at once, one of them by the key. */
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(9, 'b', 6)");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'd'"
                                             " AND id IN (12, 13) AND v1 IN (4, 9)"),
                     2);
    expect_replica(bench);
}

static void test_t2_rows_replaced_through_another_unique_index_are_deleted(void **state)
{
    (void)state;
    run_recursively(replace_through_unique);
}

/* [capture-1] */
/* A foreign key's action, and what it triggers, changes rows of the table in the midst of a
 * REPLACE. */
static void replace_with_children(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    capture_open(bench,
                 "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x REFERENCES t ON DELETE SET"
                 " NULL); CREATE UNIQUE INDEX t_name ON t(name)",
                 &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', NULL), (2, 'b', 1), (3, 'c', 2)");
    after = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(4, 'a', NULL)");
    if (!recursive)
        expect_changes(bench, &after,
                       "d {\"id\":1,\"name\":\"a\",\"x\":null}\n"
                       "u {\"id\":2,\"name\":\"b\",\"x\":1} ->"
                       " {\"id\":2,\"name\":\"b\",\"x\":null}\n"
                       "c {\"id\":4,\"name\":\"a\",\"x\":null}\n");
    /* One victim is the other's child. */
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(2, 'c', NULL)");
    bench_sql(bench->db, "INSERT INTO t VALUES(5, 'e', NULL), (6, 'f', 4), (7, 'g', 4)");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET id = 4, name = 'f' WHERE id = 5");
    bench_sql(bench->db,
              "INSERT INTO t VALUES(9, 'f', NULL) ON CONFLICT(name) DO UPDATE SET id = 8;"
              "UPDATE OR IGNORE t SET name = 'c' WHERE id = 8;"
              "UPDATE t SET id = 10 WHERE id = 8; DELETE FROM t WHERE name = 'c'");
    if (!recursive) /* else a d may come twice */
        assert_int_equal(
            bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'd'"), 6);
    expect_replica(bench);
}

static void replace_with_a_counting_child(struct bench *bench, bool recursive)
{
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    capture_open(bench,
                 "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x);"
                 "CREATE TABLE child(id INTEGER PRIMARY KEY, t REFERENCES t ON DELETE CASCADE, o);"
                 "CREATE TRIGGER counts AFTER DELETE ON child BEGIN"
                 " UPDATE t SET x = x - 1, name = name || '.' WHERE id = OLD.o; END;"
                 "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 1);"
                 "INSERT INTO child VALUES(1, 1, 2)",
                 &all);
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(3, 'a', 0)");
    assert_in_range(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'd' AND v1 = 1"), 1,
        recursive ? 2 : 1);
}

/* REPLACE stores the default where NULL must not be. */
static void replace_by_default(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench,
                 "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x' UNIQUE, x"
                 " INT NOT NULL DEFAULT 7); CREATE UNIQUE INDEX t_x ON t(x + 1);"
                 "INSERT INTO t VALUES(1, 'x', 1), (2, 'b', 7)",
                 &all);
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(3, NULL, 3)");
    expect_changes(bench, &after,
                   "d {\"id\":1,\"name\":\"x\",\"x\":1}\nc {\"id\":3,\"name\":\"x\",\"x\":3}\n");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET x = NULL WHERE id = 3");
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'd' AND v1 = 2"),
        1);
}

/* Columns have the names that our own tables have. */
static void replace_with_our_names(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, "CREATE TABLE t(v1 INTEGER PRIMARY KEY, shape TEXT UNIQUE, k0)", &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2)");
    after = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(3, 'a', 0)");
    expect_changes(
        bench, &after,
        "d {\"v1\":1,\"shape\":\"a\",\"k0\":1}\nc {\"v1\":3,\"shape\":\"a\",\"k0\":0}\n");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET shape = 'b' WHERE v1 = 3");
    expect_changes(
        bench, &after,
        "d {\"v1\":2,\"shape\":\"b\",\"k0\":2}\n"
        "u {\"v1\":3,\"shape\":\"a\",\"k0\":0} -> {\"v1\":3,\"shape\":\"b\",\"k0\":0}\n");
}

static void replace_with_our_names_as_key(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench,
                 "CREATE TABLE t(k1 TEXT, k0 TEXT, x UNIQUE, PRIMARY KEY(k1, k0)) WITHOUT ROWID",
                 &all);
    bench_sql(bench->db, "INSERT INTO t VALUES('a', 'b', 1)");
    after = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES('c', 'd', 1)");
    expect_changes(
        bench, &after,
        "d {\"k1\":\"a\",\"k0\":\"b\",\"x\":1}\nc {\"k1\":\"c\",\"k0\":\"d\",\"x\":1}\n");
}

/* [capture-5] */
static void test_t2_rows_are_deleted_also_where_something_else_happens_meanwhile(void **state)
{
    (void)state;
    run_recursively(replace_with_children);
    run_recursively(replace_with_a_counting_child);
    run_recursively(replace_by_default);
    run_recursively(replace_with_our_names);
    run_recursively(replace_with_our_names_as_key);
}

/* The table whose rows are replaced has no trigger; one on a child of it writes it meanwhile. */
static void open_written_meanwhile(struct bench *bench, const char *table, const char *action)
{
    char sql[256];
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    capture_open(bench, table, &all);
    bench_sql(bench->db, "CREATE TABLE child(t REFERENCES t ON DELETE CASCADE)");
    snprintf(sql, sizeof sql, "CREATE TRIGGER writes AFTER DELETE ON child BEGIN %s; END", action);
    bench_sql(bench->db, sql);
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (9, 'i', 9);"
                         "INSERT INTO child VALUES(1), (2)");
}

static void expect_deleted(struct bench *bench, bool recursive, int keys, int deleted)
{
    expect_replica(bench);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(DISTINCT v1) FROM outbox_event WHERE type = 'd'"),
        keys);
    if (!recursive) /* else a d may come twice */
        assert_int_equal(
            bench_number(bench->db, "SELECT count(*) FROM outbox_event WHERE type = 'd'"), deleted);
}

static const char two_ways[] = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x UNIQUE)";

static void insert_meanwhile(struct bench *bench, bool recursive)
{
    open_written_meanwhile(bench, two_ways, "INSERT INTO t VALUES(OLD.t + 20, OLD.t, OLD.t + 20)");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(4, 'a', 2), (5, 'c', 4)");
    expect_deleted(bench, recursive, 3, 3);
}

static void replace_meanwhile(struct bench *bench, bool recursive)
{
    open_written_meanwhile(bench, two_ways, "INSERT OR REPLACE INTO t VALUES(9, OLD.t, 9)");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(4, 'a', 2), (5, 'c', 4)");
    expect_deleted(bench, recursive, 4, 5);
}

static void several_meanwhile(struct bench *bench, bool recursive)
{
    open_written_meanwhile(bench, two_ways,
                           "INSERT OR REPLACE INTO t VALUES(9, OLD.t, 9), (10, 'i', 9);"
                           "INSERT INTO t VALUES(11, 'c', 11) ON CONFLICT DO NOTHING;"
                           "INSERT INTO t VALUES(11, 'k', 3) ON CONFLICT DO NOTHING");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(4, 'a', 2), (1, 'k', 4)");
    expect_deleted(bench, recursive, 4, 6);
}

static void replace_key_meanwhile(struct bench *bench, bool recursive)
{
    open_written_meanwhile(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x)",
                           "INSERT OR REPLACE INTO t VALUES(9, OLD.t, 9)");
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(1, 'aa', 2), (2, 'cc', 4)");
    expect_deleted(bench, recursive, 3, 4);
}

/* With recursive_triggers on SQLite itself refuses this, SQLITE_CONSTRAINT_PINNED. */
static void update_meanwhile(struct bench *bench, bool recursive)
{
    if (recursive)
        return;
    open_written_meanwhile(bench, two_ways, "INSERT OR REPLACE INTO t VALUES(9, OLD.t, 9)");
    bench_sql(bench->db, "UPDATE OR REPLACE t SET name = 'a', x = 2 WHERE id = 3");
    expect_deleted(bench, recursive, 3, 4);
}

/* [capture-5] */
static void test_t2_rows_are_deleted_also_where_a_child_s_trigger_writes_the_table(void **state)
{
    (void)state;
    run_recursively(insert_meanwhile);
    run_recursively(replace_meanwhile);
    run_recursively(several_meanwhile);
    run_recursively(replace_key_meanwhile);
    run_recursively(update_meanwhile);
}

static void outer_conflict_clause(struct bench *bench, bool recursive)
{
    static const char *const clauses[] = {"IGNORE", "REPLACE", "FAIL", "ABORT", "ROLLBACK"};
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    for (size_t i = 0; i < sizeof clauses / sizeof clauses[0]; i++) {
        char sql[160];
        snprintf(sql, sizeof sql,
                 "INSERT OR %s INTO t(name, x) VALUES('n%d', 1), ('a', 2), ('m%d', 3)", clauses[i],
                 (int)i, (int)i);
        (void)sqlite3_exec(bench->db, sql, NULL, NULL, NULL); /* some fail, and keep rows */
        expect_replica(bench);
    }
    /* Nothing in the lane's table can fail, so no clause can swallow that. */
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM pragma_index_list('outbox_event')"), 0);
    assert_int_equal(bench_number(bench->db,
                                  "SELECT count(*) FROM pragma_table_info('outbox_event')"
                                  " WHERE \"notnull\""),
                     0);
}

static void test_t3_no_conflict_clause_of_the_statement_loses_an_event(void **state)
{
    (void)state;
    run_recursively(outer_conflict_clause);
}

static void upsert_and_ignore(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 2) ON CONFLICT(id) DO UPDATE SET x = 2");
    expect_changes(bench, &after,
                   "u {\"id\":1,\"name\":\"a\",\"x\":1} -> "
                   "{\"id\":1,\"name\":\"a\",\"x\":2}\n");
    bench_sql(bench->db, "INSERT OR IGNORE INTO t VALUES(1, 'a', 3);"
                         "INSERT INTO t VALUES(1, 'a', 4) ON CONFLICT DO NOTHING");
    expect_changes(bench, &after, "");
    bench_sql(bench->db, "DELETE FROM t WHERE id = 1");
    expect_changes(bench, &after, "d {\"id\":1,\"name\":\"a\",\"x\":2}\n");
    /* What was copied before must not come up again. */
    bench_sql(bench->db, "INSERT INTO t VALUES(2, 'b', 1); INSERT INTO t VALUES(1, 'a', 5)");
    expect_changes(bench, &after,
                   "c {\"id\":2,\"name\":\"b\",\"x\":1}\n"
                   "c {\"id\":1,\"name\":\"a\",\"x\":5}\n");
    bench_sql(bench->db, "INSERT OR IGNORE INTO t VALUES(1, 'z', 3);"
                         "UPDATE t SET id = 7 WHERE id = 1; INSERT INTO t VALUES(8, 'c', 1)");
    expect_changes(bench, &after,
                   "d {\"id\":1,\"name\":\"a\",\"x\":5}\n"
                   "c {\"id\":7,\"name\":\"a\",\"x\":5}\n"
                   "c {\"id\":8,\"name\":\"c\",\"x\":1}\n");
    expect_replica(bench);
}

static void test_t4_an_upsert_or_an_ignored_insert_leaves_nothing_behind(void **state)
{
    (void)state;
    run_recursively(upsert_and_ignore);
}

static void automatic_key(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    /* NEW.id is -1 before an insert that gets its key by itself. */
    bench_sql(bench->db, "INSERT INTO t VALUES(-1, 'minus', 0); INSERT INTO t(name) VALUES('a')");
    expect_changes(bench, &after,
                   "c {\"id\":-1,\"name\":\"minus\",\"x\":0}\n"
                   "c {\"id\":0,\"name\":\"a\",\"x\":null}\n");
    expect_replica(bench);
}

static void test_t5_a_key_that_sqlite_gives_out_is_the_right_one(void **state)
{
    (void)state;
    run_recursively(automatic_key);
}

/* [capture-5] */
static void null_and_no_op(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', NULL); UPDATE t SET x = 1;"
                         "UPDATE t SET x = NULL; UPDATE t SET x = NULL, name = 'a';"
                         "UPDATE t SET x = 1; UPDATE t SET x = 1.0; UPDATE t SET x = '1'");
    expect_changes(
        bench, &after,
        "u {\"id\":1,\"name\":\"a\",\"x\":null} -> {\"id\":1,\"name\":\"a\",\"x\":1}\n"
        "u {\"id\":1,\"name\":\"a\",\"x\":1} -> {\"id\":1,\"name\":\"a\",\"x\":null}\n"
        "u {\"id\":1,\"name\":\"a\",\"x\":null} -> {\"id\":1,\"name\":\"a\",\"x\":1}\n"
        "u {\"id\":1,\"name\":\"a\",\"x\":1} -> {\"id\":1,\"name\":\"a\",\"x\":1.0}\n"
        "u {\"id\":1,\"name\":\"a\",\"x\":1.0} -> {\"id\":1,\"name\":\"a\",\"x\":\"1\"}\n");
}

static void other_case(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    (void)recursive;
    capture_open(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE)", &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a'); UPDATE t SET name = 'A'");
    expect_changes(bench, &after, "u {\"id\":1,\"name\":\"a\"} -> {\"id\":1,\"name\":\"A\"}\n");
}

static void test_t6_an_update_from_or_to_null_is_one_and_a_no_op_is_none(void **state)
{
    (void)state;
    run_recursively(null_and_no_op);
    run_recursively(other_case);
}

static void without_rowid(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench,
                 "CREATE TABLE t(a TEXT COLLATE NOCASE, b INTEGER, x UNIQUE, PRIMARY KEY(b, a))"
                 " WITHOUT ROWID",
                 &all);
    bench_sql(bench->db, "INSERT INTO t VALUES('k', 1, 'x'), ('l', 1, 'y');"
                         "REPLACE INTO t VALUES('K', 1, 'z'); REPLACE INTO t VALUES('m', 2, 'y')");
    expect_changes(bench, &after,
                   "c {\"a\":\"k\",\"b\":1,\"x\":\"x\"}\n"
                   "c {\"a\":\"l\",\"b\":1,\"x\":\"y\"}\n"
                   "d {\"a\":\"k\",\"b\":1,\"x\":\"x\"}\n"
                   "c {\"a\":\"K\",\"b\":1,\"x\":\"z\"}\n"
                   "d {\"a\":\"l\",\"b\":1,\"x\":\"y\"}\n"
                   "c {\"a\":\"m\",\"b\":2,\"x\":\"y\"}\n");
    bench_sql(bench->db, "UPDATE t SET x = 'w' WHERE b = 2; DELETE FROM t WHERE b = 1");
    expect_changes(bench, &after,
                   "u {\"a\":\"m\",\"b\":2,\"x\":\"y\"} -> "
                   "{\"a\":\"m\",\"b\":2,\"x\":\"w\"}\n"
                   "d {\"a\":\"K\",\"b\":1,\"x\":\"z\"}\n");
}

static void test_t7_a_table_without_rowid_is_known_by_its_primary_key(void **state)
{
    (void)state;
    run_recursively(without_rowid);
}

/* [capture-7] */
static void no_key(struct bench *bench, bool recursive)
{
    static const char *const tables[] = {"CREATE TABLE t(a, b)",
                                         "CREATE TABLE t(a TEXT PRIMARY KEY, b)",
                                         "CREATE TABLE t(a INT NOT NULL, b, PRIMARY KEY(a, b))"};
    (void)recursive;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        int64_t after = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
        bench_sql(bench->db, tables[i]);
        assert_int_equal(outbox_capture_add(bench->box, &all), OUTBOX_MISUSE);
        assert_non_null(strstr(outbox_errmsg(bench->box), "no primary key without NULL"));
        capture_open(bench, NULL, &inserts);
        bench_sql(bench->db, "INSERT INTO t VALUES('k', 1), ('l', 1); DELETE FROM t");
        expect_changes(bench, &after, "c {\"a\":\"k\",\"b\":1}\nc {\"a\":\"l\",\"b\":1}\n");
        assert_int_equal(outbox_capture_remove(bench->box, "t"), OUTBOX_OK);
        bench_sql(bench->db, "DROP TABLE t");
    }
}

static void test_t8_rows_that_cannot_be_told_apart_are_refused_but_for_inserts(void **state)
{
    (void)state;
    run_recursively(no_key);
}

static void generated(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(
        bench,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, v AS (a * 2), s AS (a + 1) STORED UNIQUE)",
        &all);
    bench_sql(bench->db, "INSERT INTO t(id, a) VALUES(1, 4); UPDATE t SET a = 5;"
                         "INSERT OR REPLACE INTO t(id, a) VALUES(2, 5)");
    expect_changes(bench, &after,
                   "c {\"id\":1,\"a\":4,\"v\":8,\"s\":5}\n"
                   "u {\"id\":1,\"a\":4,\"v\":8,\"s\":5} -> {\"id\":1,\"a\":5,\"v\":10,\"s\":6}\n"
                   "d {\"id\":1,\"a\":5,\"v\":10,\"s\":6}\n"
                   "c {\"id\":2,\"a\":5,\"v\":10,\"s\":6}\n");
}

static void test_t9_generated_columns_are_captured(void **state)
{
    (void)state;
    run_recursively(generated);
}

static outbox_capture_state state_of(struct bench *bench);

static void collect(void *context, const outbox_capture *capture, outbox_capture_state found,
                    const char *sentence)
{
    *(outbox_capture_state *)context = found;
    assert_true((found == OUTBOX_CAPTURE_DRIFTED) == (sentence != NULL));
    (void)capture;
}

static outbox_capture_state state_of(struct bench *bench)
{
    outbox_capture_state found = (outbox_capture_state)-1;
    assert_int_equal(outbox_capture_list(bench->db, collect, &found), OUTBOX_OK);
    return found;
}

/* Says so at the next attach too, and is mended by resume. */
static void expect_drift(struct bench *bench)
{
    assert_int_equal(state_of(bench), OUTBOX_CAPTURE_DRIFTED);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_DRIFT);
    bench_reopen(bench, "WAL", "FULL");
    assert_non_null(outbox_warning(bench->box));
    if (outbox_capture_resume(bench->box, NULL) != OUTBOX_OK)
        fail_msg("resume: %s", outbox_errmsg(bench->box));
    assert_int_equal(state_of(bench), OUTBOX_CAPTURE_ACTIVE);
    assert_null(outbox_warning(bench->box));
}

/* [capture-16] [capture-19] */
static void add_column(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); ALTER TABLE t ADD COLUMN y DEFAULT 5;"
                         "INSERT INTO t VALUES(2, 'b', 2, 3)");
    expect_drift(bench);
    bench_sql(bench->db, "INSERT INTO t VALUES(3, 'c', 3, 4)");
    /* Those that wait are read as the table was. */
    expect_changes(bench, &after,
                   "c {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "c {\"id\":2,\"name\":\"b\",\"x\":2}\n"
                   "c {\"id\":3,\"name\":\"c\",\"x\":3,\"y\":4}\n");
}

static void test_t10_an_added_column_is_drift(void **state)
{
    (void)state;
    run_recursively(add_column);
}

static void renamed(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "ALTER TABLE t RENAME COLUMN x TO y");
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    expect_drift(bench);
    bench_sql(bench->db, "INSERT INTO t VALUES(2, 'b', 2); ALTER TABLE t RENAME TO u");
    bench_sql(bench->db, "INSERT INTO u VALUES(3, 'c', 3)");
    expect_drift(bench);
    bench_sql(bench->db, "INSERT INTO u VALUES(4, 'd', 4)");
    expect_changes(bench, &after,
                   "c {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "c {\"id\":2,\"name\":\"b\",\"y\":2}\n"
                   "c {\"id\":3,\"name\":\"c\",\"y\":3}\n"
                   "c {\"id\":4,\"name\":\"d\",\"y\":4}\n");
    char *document = change_document(bench, OUTBOX_NORMAL, 4);
    assert_non_null(strstr(document, "\"table\":\"u\""));
    sqlite3_free(document);
}

static void test_t11_a_renamed_column_or_table_is_drift_and_is_followed(void **state)
{
    (void)state;
    run_recursively(renamed);
}

/* [capture-15] */
static void drop_column(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    if (sqlite3_libversion_number() < 3035000)
        return;
    capture_open(bench, plain, &all);
    refuse(bench->db, "ALTER TABLE t DROP COLUMN x");
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_capture_suspend(bench->box, "t"), OUTBOX_OK);
    bench_sql(bench->db, "ALTER TABLE t DROP COLUMN x");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    bench_sql(bench->db, "COMMIT; INSERT INTO t VALUES(1, 'a')");
    expect_changes(bench, &after, "c {\"id\":1,\"name\":\"a\"}\n");
    assert_int_equal(state_of(bench), OUTBOX_CAPTURE_ACTIVE);
}

static void test_t12_a_column_can_be_dropped_while_the_capture_is_suspended(void **state)
{
    (void)state;
    run_recursively(drop_column);
}

/* [capture-20] */
static void rebuilt(struct bench *bench, bool recursive)
{
    int64_t after = 1, count = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); BEGIN;"
                         "CREATE TABLE new(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x);"
                         "INSERT INTO new SELECT * FROM t; DROP TABLE t;"
                         "ALTER TABLE new RENAME TO t; INSERT INTO t VALUES(2, 'b', 2); COMMIT");
    expect_drift(bench);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL),
                     OUTBOX_DRIFT); /* what was missed */
    assert_int_equal(outbox_capture_snapshot(bench->box, "t", 0, &count), OUTBOX_OK);
    assert_int_equal(count, 2);
    assert_int_equal(outbox_capture_doctor(bench->db, NULL, NULL), OUTBOX_OK);
    expect_changes(bench, &after,
                   "r {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "r {\"id\":2,\"name\":\"b\",\"x\":2}\n");
    bench_sql(bench->db, "DROP TABLE t");
    assert_int_equal(state_of(bench), OUTBOX_CAPTURE_DRIFTED);
}

static void test_t13_a_rebuilt_or_dropped_table_is_drift(void **state)
{
    (void)state;
    run_recursively(rebuilt);
}

/* [capture-16] what another connection sees at each moment is the old triggers or the new ones */
static void no_window(struct bench *bench, bool recursive)
{
    sqlite3 *other = bench_connect(bench);
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN y; BEGIN");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    refuse(other, "INSERT INTO t(name) VALUES('meanwhile')"); /* it has to wait */
    bench_sql(bench->db, "ROLLBACK");
    bench_sql(other, "INSERT INTO t(name) VALUES('old')");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    bench_sql(other, "INSERT INTO t(name, y) VALUES('new', 1)");
    assert_int_equal(bench_number(other, "SELECT count(*) FROM outbox_event"), 1 + 2);
    /* A resume that fails keeps the triggers that there are. */
    bench_sql(bench->db, "UPDATE outbox_capture SET columns = 'id' || char(10) || 'missing'");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_MISUSE);
    bench_sql(other, "INSERT INTO t(name) VALUES('still')");
    assert_int_equal(bench_number(other, "SELECT count(*) FROM outbox_event"), 1 + 3);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void test_t14_there_is_no_moment_without_triggers(void **state)
{
    (void)state;
    run_recursively(no_window);
}

/* What the newest event says of column x. */
static void expect_newest(struct bench *bench, const char *sql, const char *expected)
{
    int64_t id = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    char *document = change_document(bench, OUTBOX_NORMAL, id);
    char *member = sqlite3_mprintf("\"x\":%s}", expected);
    if (!strstr(document, member))
        fail_msg("%s gave %s, not %s", sql, document, member);
    sqlite3_free(member);
    sqlite3_free(document);
}

/* [capture-4] one value in column x, of whatever type */
static void arrives_as(struct bench *bench, const char *sql, const char *expected)
{
    char *statement = sqlite3_mprintf("INSERT INTO t(x) VALUES(%s)", sql);
    bench_sql(bench->db, statement);
    sqlite3_free(statement);
    expect_newest(bench, sql, expected);
}

/* Bound, as an older SQLite reads other bits from the same digits where long double is double. */
static void real_arrives_as(struct bench *bench, double real, const char *expected)
{
    sqlite3_stmt *insert = NULL;
    assert_int_equal(
        sqlite3_prepare_v2(bench->db, "INSERT INTO t(x) VALUES(?1)", -1, &insert, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_bind_double(insert, 1, real), SQLITE_OK);
    assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
    assert_int_equal(sqlite3_finalize(insert), SQLITE_OK);
    expect_newest(bench, "a bound real", expected);
}

static void blobs(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    arrives_as(bench, "x'00'", "{\"$blob\":\"AA==\"}");
    arrives_as(bench, "x'01'", "{\"$blob\":\"AQ==\"}");
    arrives_as(bench, "x'1337'", "{\"$blob\":\"Ezc=\"}");
    arrives_as(bench, "x'2335ff'", "{\"$blob\":\"IzX/\"}");
    arrives_as(bench, "x''", "{\"$blob\":\"\"}");
    arrives_as(bench, "zeroblob(2)", "{\"$blob\":\"AAA=\"}");
    bench_sql(bench->db, "CREATE TABLE b(id INTEGER PRIMARY KEY, n INTEGER)"); /* any column can */
    capture_open(bench, NULL, &(outbox_capture){.table = "b", .topic = "b"});
    bench_sql(bench->db, "INSERT INTO b VALUES(1, x'ff')");
}

static void test_t15_a_blob_in_any_column_is_told_from_text(void **state)
{
    (void)state;
    run_recursively(blobs);
}

static void reals(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    real_arrives_as(bench, 0.1 + 0.2, "0.30000000000000004");
    real_arrives_as(bench, 0.1, "0.1");
    real_arrives_as(bench, 21.5, "21.5");
    real_arrives_as(bench, 1.0, "1.0");
    real_arrives_as(bench, 1e300, "1.0000000000000001e+300");
    real_arrives_as(bench, 1.7976931348623157e308, "1.7976931348623157e+308");
    real_arrives_as(bench, 4.9406564584124654e-324, "4.9406564584124654e-324");
    real_arrives_as(bench, -1.5e-7, "-1.5e-7");
}

static void test_t16_a_real_is_read_again_as_the_same_bits(void **state)
{
    (void)state;
    run_recursively(reals);
}

static void infinities(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    arrives_as(bench, "9e999", "{\"$real\":\"Infinity\"}");
    arrives_as(bench, "-9e999", "{\"$real\":\"-Infinity\"}");
    arrives_as(bench, "9e999 - 9e999", "null"); /* SQLite keeps no NaN */
}

static void test_t17_infinity_is_a_tagged_string(void **state)
{
    (void)state;
    run_recursively(infinities);
}

/* [capture-11] */
static void integers(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    arrives_as(bench, "9223372036854775807", "9223372036854775807");
    arrives_as(bench, "-9223372036854775807 - 1", "-9223372036854775808");
    arrives_as(bench, "9007199254740993", "9007199254740993");
    assert_int_equal(outbox_capture_remove(bench->box, "t"), OUTBOX_OK);
    capture_open(bench, NULL,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .integers_as_text = 1});
    arrives_as(bench, "9007199254740992", "{\"$integer\":\"9007199254740992\"}");
    arrives_as(bench, "-9007199254740992", "{\"$integer\":\"-9007199254740992\"}");
    arrives_as(bench, "9007199254740991", "9007199254740991");
}

static void test_t18_all_digits_of_an_integer_arrive_as_text_if_asked_for(void **state)
{
    (void)state;
    run_recursively(integers);
}

static void texts(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    arrives_as(bench, "CAST(x'610062' AS TEXT)", "\"a\\u0000b\"");
    arrives_as(bench, "CAST(x'ff61' AS TEXT)", "{\"$text\":\"/2E=\"}");
    arrives_as(bench, "CAST(x'eda080' AS TEXT)", "{\"$text\":\"7aCA\"}"); /* a lone surrogate */
    arrives_as(bench, "'say \"\\' || char(10)", "\"say \\\"\\\\\\u000a\"");
    arrives_as(bench, "'K\xc3\xb6ln'", "\"K\xc3\xb6ln\"");
    arrives_as(bench, "''", "\"\"");
}

static void test_t19_text_with_nul_or_bad_utf8_is_exact(void **state)
{
    (void)state;
    run_recursively(texts);
}

static void many_columns(struct bench *bench, bool recursive)
{
    sqlite3_str *sql = sqlite3_str_new(NULL);
    (void)recursive;
    sqlite3_str_appendall(sql, "CREATE TABLE t(id INTEGER PRIMARY KEY");
    for (int i = 1; i < OUTBOX_CAPTURE_COLUMNS_MAX; i++)
        sqlite3_str_appendf(sql, ", c%d DEFAULT %d", i, i);
    sqlite3_str_appendall(sql, ")");
    char *text = sqlite3_str_finish(sql);
    capture_open(bench, text, &all);
    sqlite3_free(text);
    bench_sql(bench->db, "INSERT INTO t DEFAULT VALUES; UPDATE t SET c899 = 0; UPDATE t SET id = 2;"
                         "DELETE FROM t");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1 + 5);
    char *document = change_document(bench, OUTBOX_NORMAL, 2);
    assert_non_null(strstr(document, "\"c898\":898,\"c899\":899},\"after\":{\"id\":1,\"c1\":1,"));
    assert_non_null(strstr(document, "\"c898\":898,\"c899\":0},\"source\""));
    sqlite3_free(document);
    bench_sql(bench->db, "ALTER TABLE t ADD COLUMN one_more");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_MISUSE);
}

static void test_t20_a_table_may_have_900_columns(void **state)
{
    (void)state;
    run_recursively(many_columns);
}

/* [capture-9] */
static void json(struct bench *bench, bool recursive)
{
    static const char *const columns[] = {"x", NULL};
    (void)recursive;
    capture_open(bench, plain,
                 &(outbox_capture){.table = "t", .topic = "plant/t", .json_columns = columns});
    arrives_as(bench, "'{\"a\":[1, 1e2,null]}'", "{\"a\":[1, 1e2,null]}");
    arrives_as(bench, "'\"text\"'", "\"text\"");
    arrives_as(bench, "'no json'", "{\"$text\":\"bm8ganNvbg==\"}");
    arrives_as(bench, "NULL", "null");
    arrives_as(bench, "x'7b7d'", "{\"$blob\":\"e30=\"}");
}

static void test_t21_a_json_column_travels_as_its_value_if_asked_for(void **state)
{
    (void)state;
    run_recursively(json);
}

static void own_trigger(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    bench_sql(bench->db, plain);
    capture_open(bench, NULL, &all);
    /* It is newer than ours, so SQLite runs it first. */
    bench_sql(bench->db, "CREATE TRIGGER own AFTER INSERT ON t BEGIN"
                         " UPDATE t SET x = x + 100 WHERE id = NEW.id; END;"
                         "CREATE TRIGGER own2 AFTER UPDATE OF name ON t BEGIN"
                         " UPDATE t SET x = x + 1 WHERE id = NEW.id; END");
    expect_drift(bench); /* from now on the row is read back */
    after = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    bench_sql(bench->db, "DROP TRIGGER own2; CREATE TRIGGER own2 AFTER UPDATE OF name ON t BEGIN"
                         " UPDATE t SET x = x + 1 WHERE id = NEW.id; END;"
                         "DROP TRIGGER own; CREATE TRIGGER own AFTER INSERT ON t BEGIN"
                         " UPDATE t SET x = x + 100 WHERE id = NEW.id; END;");
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1)");
    expect_replica(bench);
    bench_sql(bench->db, "UPDATE t SET name = 'b'");
    expect_replica(bench);
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(2, 'b', 7)");
    expect_replica(bench);
    assert_true(bench_number(bench->db, "SELECT max(id) FROM outbox_event") >= after + 6);
}

/* The row is read back by both columns of its key. */
static void own_trigger_and_a_key_of_two(struct bench *bench, bool recursive)
{
    static const char own[] = "CREATE TRIGGER own AFTER INSERT ON t BEGIN UPDATE t SET x = x + 100"
                              " WHERE id = NEW.id AND name = NEW.name; END";
    int64_t after = 0;
    (void)recursive;
    bench_sql(bench->db,
              "CREATE TABLE t(id INT, name TEXT, x, PRIMARY KEY(id, name)) WITHOUT ROWID;"
              "INSERT INTO t VALUES(1, 'a', 1), (2, 'b', 1)");
    bench_sql(bench->db, own);
    capture_open(bench, NULL, &all);
    bench_sql(bench->db, "DROP TRIGGER own"); /* the newer one runs first */
    bench_sql(bench->db, own);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'b', 2)");
    expect_changes(bench, &after,
                   "u {\"id\":1,\"name\":\"b\",\"x\":2} -> {\"id\":1,\"name\":\"b\",\"x\":102}\n"
                   "c {\"id\":1,\"name\":\"b\",\"x\":102}\n");
}

static void test_t22_the_newest_image_comes_last_beside_triggers_of_the_application(void **state)
{
    (void)state;
    run_recursively(own_trigger_and_a_key_of_two);
    run_recursively(own_trigger);
}

/* [capture-5] */
static void changed_key(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); UPDATE t SET id = 5, x = 2");
    expect_changes(bench, &after,
                   "d {\"id\":1,\"name\":\"a\",\"x\":1}\n"
                   "c {\"id\":5,\"name\":\"a\",\"x\":2}\n");
    char *gone = change_document(bench, OUTBOX_NORMAL, 2);
    char *come = change_document(bench, OUTBOX_NORMAL, 3);
    assert_non_null(strstr(gone, ",\"key_to\":{\"id\":5},\"source\""));
    assert_non_null(strstr(come, ",\"key_from\":{\"id\":1},\"source\""));
    sqlite3_free(gone);
    sqlite3_free(come);
    bench_sql(bench->db, "UPDATE t SET rowid = 6");
    expect_changes(bench, &after,
                   "d {\"id\":5,\"name\":\"a\",\"x\":2}\n"
                   "c {\"id\":6,\"name\":\"a\",\"x\":2}\n");
}

static void test_t23_a_changed_key_is_a_delete_and_a_create_that_name_each_other(void **state)
{
    (void)state;
    run_recursively(changed_key);
}

/* [capture-5] */
static void cascade(struct bench *bench, bool recursive)
{
    int64_t after = 2;
    (void)recursive;
    bench_sql(bench->db, "PRAGMA foreign_keys = ON;"
                         "CREATE TABLE t(id INTEGER PRIMARY KEY);"
                         "CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES t"
                         " ON DELETE CASCADE)");
    capture_open(bench, NULL, &all);
    capture_open(bench, NULL, &(outbox_capture){.table = "child", .topic = "plant/child"});
    bench_sql(bench->db, "INSERT INTO t VALUES(1); INSERT INTO child VALUES(7, 1); DELETE FROM t");
    expect_changes(bench, &after, "d {\"id\":7,\"parent\":1}\nd {\"id\":1}\n");
}

static void test_t24_a_cascade_deletes_the_child_before_the_parent(void **state)
{
    (void)state;
    run_recursively(cascade);
}

/* [capture-6] a limit of triggers, shown so that nobody relies on the contrary */
static void blob_write(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    sqlite3_blob *blob;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', x'0000')");
    assert_int_equal(sqlite3_blob_open(bench->db, "main", "t", "x", 1, 1, &blob), SQLITE_OK);
    assert_int_equal(sqlite3_blob_write(blob, "z", 1, 0), SQLITE_OK);
    assert_int_equal(sqlite3_blob_close(blob), SQLITE_OK);
    expect_changes(bench, &after, "");
}

static void test_t25_a_blob_that_is_written_in_place_gives_no_event(void **state)
{
    (void)state;
    run_recursively(blob_write);
}

/* [capture-1] */
static void undone(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "BEGIN; INSERT INTO t VALUES(1, 'a', 1); ROLLBACK;"
                         "BEGIN; INSERT INTO t VALUES(2, 'b', 2); SAVEPOINT s;"
                         "INSERT INTO t VALUES(3, 'c', 3); ROLLBACK TO s; COMMIT;"
                         "INSERT INTO t VALUES(4, 'd', 4); DELETE FROM t");
    expect_changes(bench, &after,
                   "c {\"id\":2,\"name\":\"b\",\"x\":2}\n"
                   "c {\"id\":4,\"name\":\"d\",\"x\":4}\n"
                   "d {\"id\":2,\"name\":\"b\",\"x\":2}\n"
                   "d {\"id\":4,\"name\":\"d\",\"x\":4}\n");
    assert_int_equal(after, 4); /* no id was lost */
}

static void test_t26_what_is_rolled_back_leaves_no_trace_and_a_truncate_gives_each_row(void **state)
{
    (void)state;
    run_recursively(undone);
}

static void no_burnt_id(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, x)",
                 &all);
    bench_sql(bench->db,
              "INSERT INTO t(name) VALUES('a'); INSERT OR IGNORE INTO t(name) VALUES('a');"
              "INSERT INTO t(name) VALUES('a') ON CONFLICT DO NOTHING;"
              "INSERT INTO t(name) VALUES('b')");
    assert_int_equal(bench_number(bench->db, "SELECT max(id) FROM outbox_event"), 2);
}

static void test_t27_an_ignored_insert_burns_no_id(void **state)
{
    (void)state;
    run_recursively(no_burnt_id);
}

/* [capture-12] */
static void ids_after_settling(struct bench *bench, bool recursive)
{
    struct rig rig;
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t(name) VALUES('a'), ('b')");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    rig_ack_from(&rig, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1);
    bench_sql(bench->db, "INSERT INTO t(name) VALUES('c')");
    assert_int_equal(bench_number(bench->db, "SELECT max(id) FROM outbox_event"), 3);
    rig_stop(&rig);
}

static void test_t28_no_id_is_given_out_again_when_all_is_sent(void **state)
{
    (void)state;
    run_recursively(ids_after_settling);
}

/* [capture-1] */
static void another_connection(struct bench *bench, bool recursive)
{
    int64_t after = 1;
    sqlite3 *other = bench_connect(bench);
    capture_open(bench, plain, &all);
    assert_int_equal(sqlite3_db_config(other, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL), SQLITE_OK);
    bench_sql(other,
              recursive ? "PRAGMA recursive_triggers = ON" : "PRAGMA recursive_triggers = 0");
    bench_sql(other, "INSERT INTO t VALUES(1, 'a', 1); UPDATE t SET x = 2;"
                     "INSERT OR REPLACE INTO t VALUES(2, 'a', 3); DELETE FROM t");
    expect_changes(bench, &after,
                   "u {\"id\":1,\"name\":\"a\",\"x\":1} -> "
                   "{\"id\":1,\"name\":\"a\",\"x\":2}\n"
                   "d {\"id\":1,\"name\":\"a\",\"x\":2}\n"
                   "c {\"id\":2,\"name\":\"a\",\"x\":3}\n"
                   "d {\"id\":2,\"name\":\"a\",\"x\":3}\n");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void test_t29_a_connection_that_knows_nothing_of_us_is_captured(void **state)
{
    (void)state;
    run_recursively(another_connection);
}

/* [capture-13] */
static void attached_database(struct bench *bench, bool recursive)
{
    (void)recursive;
    bench_sql(bench->db,
              "ATTACH ':memory:' AS other; CREATE TABLE other.t(id INTEGER PRIMARY KEY)");
    assert_int_equal(outbox_capture_add(bench->box, &all), OUTBOX_MISUSE);
    bench_sql(bench->db, "CREATE TEMP TABLE t(id INTEGER PRIMARY KEY)");
    assert_int_equal(outbox_capture_add(bench->box, &all), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "no table t in this file"));
    /* One of the same name in this file is not mistaken for those. */
    bench_sql(bench->db, "CREATE TABLE main.t(id INTEGER PRIMARY KEY)");
    capture_open(bench, NULL, &all);
    bench_sql(bench->db, "INSERT INTO main.t VALUES(1); INSERT INTO temp.t VALUES(1);"
                         "INSERT INTO other.t VALUES(1)");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM main.outbox_event"), 1 + 1);
}

static void test_t30_a_table_of_another_database_is_refused(void **state)
{
    (void)state;
    run_recursively(attached_database);
}

/* [capture-13] */
static void virtual_table(struct bench *bench, bool recursive)
{
    (void)recursive;
    if (sqlite3_exec(bench->db, "CREATE VIRTUAL TABLE t USING fts5(a)", NULL, NULL, NULL) !=
        SQLITE_OK)
        return;
    assert_int_equal(outbox_capture_add(bench->box, &inserts), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "virtual table"));
    bench_sql(bench->db, "DROP TABLE t; CREATE VIEW t AS SELECT 1 AS a");
    assert_int_equal(outbox_capture_add(bench->box, &inserts), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "view"));
}

static void test_t31_a_virtual_table_or_a_view_is_refused_with_a_sentence(void **state)
{
    (void)state;
    run_recursively(virtual_table);
}

static void rowid_and_changes(struct bench *bench, bool recursive)
{
    (void)recursive;
    capture_open(bench, plain, &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(77, 'a', 1), (78, 'b', 1)");
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 78);
    assert_int_equal(sqlite3_changes(bench->db), 2);
    bench_sql(bench->db, "INSERT OR REPLACE INTO t VALUES(80, 'a', 1)");
    assert_int_equal(sqlite3_last_insert_rowid(bench->db), 80);
    assert_int_equal(sqlite3_changes(bench->db), 1);
    bench_sql(bench->db, "UPDATE t SET x = 5");
    assert_int_equal(sqlite3_changes(bench->db), 2);
}

static void test_t32_last_insert_rowid_and_changes_stay_the_application_s(void **state)
{
    (void)state;
    run_recursively(rowid_and_changes);
}

/* SQLite takes ASC and DESC for names where no order may stand. */
static void replace_by_desc(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    capture_open(bench,
                 "CREATE TABLE t(id INTEGER PRIMARY KEY, desc TEXT, asc);"
                 "CREATE UNIQUE INDEX t_desc ON t(desc);"
                 "CREATE UNIQUE INDEX t_asc ON t(asc ASC, id || desc DESC)",
                 &all);
    bench_sql(bench->db, "INSERT INTO t VALUES(1, 'a', 1); REPLACE INTO t VALUES(2, 'a', 2)");
    expect_changes(bench, &after,
                   "c {\"id\":1,\"desc\":\"a\",\"asc\":1}\n"
                   "d {\"id\":1,\"desc\":\"a\",\"asc\":1}\n"
                   "c {\"id\":2,\"desc\":\"a\",\"asc\":2}\n");
}

static void test_t2_rows_are_deleted_also_where_a_column_is_called_desc(void **state)
{
    (void)state;
    run_recursively(replace_by_desc);
}

/* ---- All statements, at random --------------------------------------------------------------- */

static uint32_t dice;

static int roll(int sides)
{
    dice = dice * 1664525u + 1013904223u;
    return (int)((dice >> 8) % (unsigned)sides);
}

static void random_statement(char *sql, size_t size)
{
    /* NOLINTBEGIN(bugprone-suspicious-missing-comma): one is in two pieces */
    static const char *const forms[] = {
        "INSERT INTO t VALUES(%d, 'n%d', %d)",
        "INSERT OR REPLACE INTO t VALUES(%d, 'n%d', %d)",
        "INSERT OR IGNORE INTO t VALUES(%d, 'n%d', %d)",
        "INSERT OR FAIL INTO t SELECT value + %d, 'n' || (value * %d), %d FROM"
        " (SELECT 1 AS value UNION SELECT 2 UNION SELECT 3)",
        "INSERT INTO t VALUES(%d, 'n%d', %d) ON CONFLICT(id) DO UPDATE SET x = x + 1",
        "INSERT INTO t VALUES(%d, 'n%d', %d) ON CONFLICT DO NOTHING",
        "INSERT OR REPLACE INTO t(name, x) VALUES('n%d', %d), ('n%d', 1)",
        "UPDATE OR REPLACE t SET name = 'n%d' WHERE id = %d + 0 * %d",
        "UPDATE OR REPLACE t SET id = %d WHERE id = %d + 0 * %d",
        "UPDATE OR REPLACE t SET id = id + %d, name = 'n%d' WHERE x > %d",
        "UPDATE OR IGNORE t SET name = 'n%d', x = %d WHERE id < %d",
        "UPDATE t SET x = %d WHERE id > %d - %d",
        "DELETE FROM t WHERE id = %d OR name = 'n%d' OR x = %d",
        "DELETE FROM t WHERE id %% 7 = %d + 0 * %d + 0 * %d",
    };
    /* NOLINTEND(bugprone-suspicious-missing-comma) */
    const char *form = forms[roll(sizeof forms / sizeof forms[0])];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(sql, size, form, roll(8), roll(8), roll(8));
#pragma GCC diagnostic pop
}

static void run_random_between(struct bench *bench, const char *between)
{
    char sql[256];
    dice = 4711;
    for (int i = 0; i < 600; i++) {
        bench_sql(bench->db, between);
        random_statement(sql, sizeof sql);
        (void)sqlite3_exec(bench->db, sql, NULL, NULL, NULL); /* some fail, as they may */
        if (i % 5 == 0)
            expect_replica(bench);
    }
    expect_replica(bench);
}

static void run_random(struct bench *bench, const char *table)
{
    capture_open(bench, table, &all);
    run_random_between(bench, "");
}

static void random_rowid(struct bench *bench, bool recursive)
{
    (void)recursive;
    run_random(bench, plain);
}

static void random_key_alone(struct bench *bench, bool recursive)
{
    (void)recursive;
    run_random(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x)");
}

static void random_without_rowid(struct bench *bench, bool recursive)
{
    (void)recursive;
    run_random(bench,
               "CREATE TABLE t(id INT NOT NULL PRIMARY KEY, name TEXT UNIQUE, x) WITHOUT ROWID");
}

static void random_indexes(struct bench *bench, bool recursive)
{
    (void)recursive;
    run_random(bench, "CREATE TABLE t(id INT NOT NULL PRIMARY KEY, name TEXT, x);"
                      "CREATE UNIQUE INDEX t_name ON t(upper(name) DESC, (x % 3));"
                      "CREATE UNIQUE INDEX t_x ON t(x ASC) WHERE x > 5 AND name <> 'n1'");
}

static void random_own_triggers(struct bench *bench, bool recursive)
{
    (void)recursive;
    run_random(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x);"
                      "CREATE TRIGGER own AFTER INSERT ON t WHEN NEW.x < 4 BEGIN"
                      " UPDATE t SET x = x + 20 WHERE id = NEW.id; END;"
                      "CREATE TRIGGER own2 AFTER DELETE ON t WHEN OLD.x = 3 BEGIN"
                      " DELETE FROM t WHERE id = OLD.id + 1; END");
}

/* An action of its own key changes the row that is updated. */
static void update_of_a_root(struct bench *bench, bool recursive)
{
    int64_t after = 0;
    (void)recursive;
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    capture_open(bench,
                 "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x REFERENCES t ON UPDATE"
                 " CASCADE); INSERT INTO t VALUES(1, 'root', 1)",
                 &all);
    bench_sql(bench->db, "UPDATE t SET id = 2");
    char *changes = changes_since(bench, &after);
    const char *last = strstr(changes, "c {");
    assert_non_null(last);
    assert_string_equal(last, "c {\"id\":2,\"name\":\"root\",\"x\":2}\n");
    sqlite3_free(changes);
}

/* [capture-2] */
static void test_t22_the_newest_image_comes_last_beside_foreign_keys(void **state)
{
    (void)state;
    run_recursively(update_of_a_root);
}

static void random_children(struct bench *bench, bool recursive)
{
    (void)recursive;
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    run_random(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x REFERENCES t ON DELETE"
                      " SET NULL ON UPDATE CASCADE); CREATE UNIQUE INDEX t_name ON t(name)");
}

static void random_children_without_rowid(struct bench *bench, bool recursive)
{
    (void)recursive;
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    run_random(bench, "CREATE TABLE t(id INT NOT NULL PRIMARY KEY, name TEXT UNIQUE, x REFERENCES t"
                      " ON DELETE CASCADE ON UPDATE SET NULL) WITHOUT ROWID");
}

/* The rows that the trigger writes clash with each other, and not with those of the statement. */
static void random_written_meanwhile(struct bench *bench, const char *table)
{
    bench_sql(bench->db, "PRAGMA foreign_keys = ON");
    capture_open(bench, table, &all);
    bench_sql(
        bench->db,
        "CREATE TABLE child(t INTEGER PRIMARY KEY REFERENCES t ON DELETE CASCADE);"
        "CREATE TRIGGER writes AFTER DELETE ON child BEGIN"
        " INSERT OR REPLACE INTO t VALUES(1000 + 100 * (OLD.t % 3), 'm' || (OLD.t % 2), OLD.t),"
        " (2000 + 100 * (OLD.t % 2), 'm' || (OLD.t % 3), OLD.t);"
        " INSERT INTO t VALUES(1100, 'o', 1) ON CONFLICT DO NOTHING;"
        " INSERT INTO t SELECT 1200, name, 1 FROM t WHERE name = 'n3'"
        " ON CONFLICT DO NOTHING; END");
    assert_int_equal(outbox_capture_resume(bench->box, "t"), OUTBOX_OK);
    run_random_between(bench, "INSERT OR IGNORE INTO child SELECT id FROM t WHERE id < 50");
}

static void random_meanwhile(struct bench *bench, bool recursive)
{
    (void)recursive;
    random_written_meanwhile(bench, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, x)");
}

static void random_meanwhile_without_rowid(struct bench *bench, bool recursive)
{
    (void)recursive;
    random_written_meanwhile(
        bench, "CREATE TABLE t(id INT NOT NULL PRIMARY KEY, name TEXT UNIQUE, x) WITHOUT ROWID");
}

/* [capture-2] what a recipient has who applies the events is what is in the table */
static void test_a_replica_of_the_events_is_the_table(void **state)
{
    (void)state;
    run_recursively(random_rowid);
    run_recursively(random_key_alone);
    run_recursively(random_without_rowid);
    run_recursively(random_indexes);
    run_recursively(random_own_triggers);
    run_recursively(random_children);
    run_recursively(random_children_without_rowid);
    run_recursively(random_meanwhile);
    run_recursively(random_meanwhile_without_rowid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_t1_a_replace_of_the_same_key_gives_the_delete_too),
        cmocka_unit_test(test_t2_rows_replaced_through_another_unique_index_are_deleted),
        cmocka_unit_test(test_t2_rows_are_deleted_also_where_something_else_happens_meanwhile),
        cmocka_unit_test(test_t2_rows_are_deleted_also_where_a_child_s_trigger_writes_the_table),
        cmocka_unit_test(test_t2_rows_are_deleted_also_where_a_column_is_called_desc),
        cmocka_unit_test(test_t3_no_conflict_clause_of_the_statement_loses_an_event),
        cmocka_unit_test(test_t4_an_upsert_or_an_ignored_insert_leaves_nothing_behind),
        cmocka_unit_test(test_t5_a_key_that_sqlite_gives_out_is_the_right_one),
        cmocka_unit_test(test_t6_an_update_from_or_to_null_is_one_and_a_no_op_is_none),
        cmocka_unit_test(test_t7_a_table_without_rowid_is_known_by_its_primary_key),
        cmocka_unit_test(test_t8_rows_that_cannot_be_told_apart_are_refused_but_for_inserts),
        cmocka_unit_test(test_t9_generated_columns_are_captured),
        cmocka_unit_test(test_t10_an_added_column_is_drift),
        cmocka_unit_test(test_t11_a_renamed_column_or_table_is_drift_and_is_followed),
        cmocka_unit_test(test_t12_a_column_can_be_dropped_while_the_capture_is_suspended),
        cmocka_unit_test(test_t13_a_rebuilt_or_dropped_table_is_drift),
        cmocka_unit_test(test_t14_there_is_no_moment_without_triggers),
        cmocka_unit_test(test_t15_a_blob_in_any_column_is_told_from_text),
        cmocka_unit_test(test_t16_a_real_is_read_again_as_the_same_bits),
        cmocka_unit_test(test_t17_infinity_is_a_tagged_string),
        cmocka_unit_test(test_t18_all_digits_of_an_integer_arrive_as_text_if_asked_for),
        cmocka_unit_test(test_t19_text_with_nul_or_bad_utf8_is_exact),
        cmocka_unit_test(test_t20_a_table_may_have_900_columns),
        cmocka_unit_test(test_t21_a_json_column_travels_as_its_value_if_asked_for),
        cmocka_unit_test(test_t22_the_newest_image_comes_last_beside_triggers_of_the_application),
        cmocka_unit_test(test_t22_the_newest_image_comes_last_beside_foreign_keys),
        cmocka_unit_test(test_t23_a_changed_key_is_a_delete_and_a_create_that_name_each_other),
        cmocka_unit_test(test_t24_a_cascade_deletes_the_child_before_the_parent),
        cmocka_unit_test(test_t25_a_blob_that_is_written_in_place_gives_no_event),
        cmocka_unit_test(
            test_t26_what_is_rolled_back_leaves_no_trace_and_a_truncate_gives_each_row),
        cmocka_unit_test(test_t27_an_ignored_insert_burns_no_id),
        cmocka_unit_test(test_t28_no_id_is_given_out_again_when_all_is_sent),
        cmocka_unit_test(test_t29_a_connection_that_knows_nothing_of_us_is_captured),
        cmocka_unit_test(test_t30_a_table_of_another_database_is_refused),
        cmocka_unit_test(test_t31_a_virtual_table_or_a_view_is_refused_with_a_sentence),
        cmocka_unit_test(test_t32_last_insert_rowid_and_changes_stay_the_application_s),
        cmocka_unit_test(test_a_replica_of_the_events_is_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
