/* SPDX-License-Identifier: MIT
 *
 * capture_support.c - see the header.
 */
#include "capture_support.h"

#include "change.h"
#include "lane.h"

#include <stdio.h>
#include <string.h>

void capture_open(struct bench *bench, const char *table_sql, const outbox_capture *capture)
{
    if (table_sql)
        bench_sql(bench->db, table_sql);
    if (outbox_capture_add(bench->box, capture) != OUTBOX_OK)
        fail_msg("add: %s", outbox_errmsg(bench->box));
}

static struct ob_value value_of(sqlite3_stmt *statement, int column)
{
    struct ob_value value = {.storage = sqlite3_column_type(statement, column)};
    if (value.storage == SQLITE_TEXT) {
        value.bytes = (const char *)sqlite3_column_text(statement, column);
        value.len = (size_t)sqlite3_column_bytes(statement, column);
    }
    return value;
}

enum part { DOCUMENT, TOPIC, KEY };

static char *render(struct bench *bench, outbox_lane lane, int64_t id, enum part part)
{
    char sql[160];
    sqlite3_stmt *statement = NULL;
    struct ob_change change = {0};
    struct ob_error error;
    struct ob_row event, row = {.id = id, .headers.storage = SQLITE_NULL};
    const struct ob_group group = {id, id};
    snprintf(sql, sizeof sql, "SELECT topic, payload, type, created FROM %s WHERE id = %lld",
             ob_lane_table(lane), (long long)id);
    assert_int_equal(sqlite3_prepare_v2(bench->db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    row.topic = value_of(statement, 0);
    row.payload = value_of(statement, 1);
    row.type = value_of(statement, 2);
    row.has_created = sqlite3_column_type(statement, 3) == SQLITE_INTEGER;
    row.created = sqlite3_column_int64(statement, 3);
    assert_true(ob_change_is(&row));
    if (ob_change_render(&change, bench->db, lane, &row, "pump-7", &group, &event, &error))
        fail_msg("event %lld: %s", (long long)id, error.sentence);
    assert_int_equal(ob_message_check(&event), OB_FIT);
    const struct ob_value *value = part == TOPIC ? &event.topic
                                   : part == KEY ? &event.key
                                                 : &event.payload;
    char *copy = sqlite3_mprintf("%.*s", (int)value->len, value->bytes);
    ob_change_close(&change);
    sqlite3_finalize(statement);
    return copy;
}

char *change_document(struct bench *bench, outbox_lane lane, int64_t id)
{
    return render(bench, lane, id, DOCUMENT);
}

char *change_topic(struct bench *bench, outbox_lane lane, int64_t id)
{
    return render(bench, lane, id, TOPIC);
}

char *change_key(struct bench *bench, outbox_lane lane, int64_t id)
{
    return render(bench, lane, id, KEY);
}

static void append_line(sqlite3_str *lines, const char *document)
{
    const char *before = strstr(document, "\"before\":") + 9;
    const char *after = strstr(document, ",\"after\":") + 9;
    const char *end = strstr(document, ",\"source\":");
    const char *link = strstr(document, ",\"key_");
    end = link ? link : end;
    int before_len = (int)(after - 9 - before), after_len = (int)(end - after);
    char op = document[7];
    sqlite3_str_appendf(lines, "%c ", op);
    if (op == 'u' || op == 'd')
        sqlite3_str_append(lines, before, before_len);
    sqlite3_str_appendall(lines, op == 'u' ? " -> " : "");
    if (op != 'd')
        sqlite3_str_append(lines, after, after_len);
    sqlite3_str_appendchar(lines, 1, '\n');
}

char *changes_since(struct bench *bench, int64_t *after)
{
    sqlite3_str *lines = sqlite3_str_new(NULL);
    int64_t last = bench_number(bench->db, "SELECT max(id) FROM outbox_event");
    for (int64_t id = *after + 1; id <= last; id++) {
        char *document = change_document(bench, OUTBOX_NORMAL, id);
        append_line(lines, document);
        sqlite3_free(document);
    }
    *after = last;
    char *text = sqlite3_str_finish(lines);
    return text ? text : sqlite3_mprintf("%s", "");
}

void expect_changes(struct bench *bench, int64_t *after, const char *expected)
{
    char *found = changes_since(bench, after);
    assert_string_equal(found, expected);
    sqlite3_free(found);
}

void expect_replica(struct bench *bench)
{
    /* The newest event of each key says whether the row is there, and what it is. */
    static const char replica[] =
        "CREATE TEMP TABLE IF NOT EXISTS replica(id, name, x); DELETE FROM temp.replica;"
        "INSERT INTO temp.replica SELECT v1, v2, v3 FROM outbox_event WHERE type NOT IN ('d', 'D')"
        " AND id IN (SELECT max(id) FROM outbox_event WHERE topic IS NULL AND payload IS NOT NULL"
        " GROUP BY v1)";
    bench_sql(bench->db, replica);
    assert_int_equal(
        bench_number(bench->db,
                     "SELECT (SELECT count(*) FROM (SELECT * FROM t EXCEPT SELECT * FROM"
                     " temp.replica)) + (SELECT count(*) FROM (SELECT * FROM temp.replica EXCEPT"
                     " SELECT * FROM t))"),
        0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM temp.replica"),
                     bench_number(bench->db, "SELECT count(*) FROM t"));
}

void run_recursively(void (*test)(struct bench *bench, bool recursive))
{
    for (int i = 0; i < 2; i++) {
        void *state = NULL;
        assert_int_equal(bench_open(&state), 0);
        struct bench *bench = state;
        bench_sql(bench->db,
                  i == 1 ? "PRAGMA recursive_triggers = ON" : "PRAGMA recursive_triggers = OFF");
        test(bench, i == 1);
        assert_int_equal(bench_close(&state), 0);
    }
}
