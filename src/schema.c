/* SPDX-License-Identifier: MIT
 *
 * schema.c - makes the tables, reads their version, keeps the device's name and the epochs.
 *
 * The tables appear in one transaction together with the first tombstone and the first epoch, so
 * after a crash there is either a whole outbox or none. An outbox_event row costs one b-tree page
 * per transaction at most: no index, no AUTOINCREMENT, no constraint. A constraint could also be
 * overruled in silence by the conflict clause of a statement whose trigger fills the table.
 */
#include "schema.h"

#include "ledger.h"
#include "limit.h"
#include "sql.h"
#include "text.h"

#include <assert.h>
#include <string.h>

/* `created` has a default so that a plain INSERT from any tool gets a time. What later releases
 * have added stands at the end, in the order in which it came. */
static const char event_table[] =
    "CREATE TABLE main.{table}(id INTEGER PRIMARY KEY, topic TEXT, payload BLOB,"
    " created INTEGER DEFAULT(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),"
    " retain INTEGER, type TEXT, content_type TEXT, key TEXT, expires INTEGER,"
    " keep_last INTEGER, total INTEGER, ledger TEXT, headers TEXT);";

/* An event's columns without their types: a row that is unfit keeps what it had. */
#define DEAD_TABLE                                                                                 \
    "CREATE TABLE main.outbox_dead(number INTEGER PRIMARY KEY, lane TEXT, id INTEGER, epoch TEXT," \
    " topic, payload, created, retain, type, content_type, key, expires, keep_last, reason TEXT,"  \
    " died INTEGER, headers);"

#define EPOCH_TABLE                                                                                \
    "CREATE TABLE main.outbox_epoch(lane TEXT, first INTEGER, epoch TEXT,"                         \
    " PRIMARY KEY(lane, first));"

#define META_TABLE "CREATE TABLE main.outbox_meta(name TEXT PRIMARY KEY, value);"

#define META_ROWS                                                                                  \
    "INSERT INTO main.outbox_meta(name, value)"                                                    \
    " VALUES('version', 3), ('minimum_reader', 1), ('barrier', 0);"

#define PENDING_OF(lane, table)                                                                    \
    " SELECT '" lane "' AS lane, id, topic, payload,"                                              \
    " datetime(created / 1000, 'unixepoch') AS created_utc, retain, type, content_type, key,"      \
    " datetime(expires / 1000, 'unixepoch') AS expires_utc, headers FROM " table                   \
    " WHERE ledger IS NULL"

/* For people. While the schema is in memory it takes nearly as much of it as all tables
 * together. */
#define URGENT_PENDING PENDING_OF("urgent", "outbox_urgent")
#define NORMAL_PENDING PENDING_OF("normal", "outbox_event")
static const char pending_view[] =
    "CREATE VIEW main.outbox_pending AS" URGENT_PENDING " UNION ALL" NORMAL_PENDING;

/* They are made in this order, behind those of the lanes. */
static const char other_tables[] = DEAD_TABLE EPOCH_TABLE META_TABLE META_ROWS;

enum { TABLES = 5 };

int ob_schema_find(sqlite3 *db, enum ob_schema_found *found, struct ob_error *error)
{
    int64_t tables_found, minimum = 0, version = 0;
    *found = OB_SCHEMA_MISSING;
    int code = ob_sql_number(db,
                             "SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND"
                             " name IN ('outbox_event', 'outbox_urgent', 'outbox_dead',"
                             " 'outbox_epoch', 'outbox_meta')",
                             0, 0, 0, &tables_found, error);
    if (code != OUTBOX_OK || tables_found == 0)
        return code;
    if (tables_found != TABLES)
        return ob_error_set(error, OUTBOX_CORRUPT,
                            "of the tables outbox_event, _urgent, _dead, _epoch and _meta %d are "
                            "missing; restore the file from a backup or drop the others",
                            (int)(TABLES - tables_found));
    code = ob_sql_number(db, "SELECT value FROM main.outbox_meta WHERE name = 'minimum_reader'", 0,
                         0, 0, &minimum, error);
    if (code != OUTBOX_OK)
        return code;
    if (minimum > OB_SCHEMA_VERSION)
        return ob_error_set(error, OUTBOX_NEWER_SCHEMA,
                            "the outbox in this file needs schema version %lld, this program "
                            "knows %d; update the program",
                            (long long)minimum, OB_SCHEMA_VERSION);
    code = ob_sql_number(db, "SELECT value FROM main.outbox_meta WHERE name = 'version'", 0, 0, 0,
                         &version, error);
    if (code == OUTBOX_OK)
        *found = version < OB_SCHEMA_VERSION ? OB_SCHEMA_OLDER : OB_SCHEMA_PRESENT;
    return code;
}

static void random_digits(char digits[OB_EPOCH_DIGITS + 1])
{
    unsigned char dice[OB_EPOCH_DIGITS / 2];
    sqlite3_randomness((int)sizeof dice, dice);
    for (size_t i = 0; i < sizeof dice; i++) {
        digits[2 * i] = "0123456789abcdef"[dice[i] >> 4];
        digits[2 * i + 1] = "0123456789abcdef"[dice[i] & 15];
    }
    digits[OB_EPOCH_DIGITS] = '\0';
}

/* Runs a statement with two texts, of which the second may be NULL, and a number bound to it: ?1,
 * ?3 and ?2. */
static int write_row(sqlite3 *db, const char *sql, const char *text, int64_t number,
                     const char *other, struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = ob_sql_prepare(db, sql, &statement, error);
    if (code != OUTBOX_OK)
        return code;
    int bound = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    if (sqlite3_bind_parameter_count(statement) > 1)
        ob_sql_bind_number(statement, 2, number);
    if (bound == SQLITE_OK && other)
        bound = sqlite3_bind_text(statement, 3, other, -1, SQLITE_STATIC);
    code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, error, "writing the outbox's tables")
                              : ob_error_sqlite(error, db, bound, "binding a value");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

int ob_schema_new_epoch(sqlite3 *db, outbox_lane lane, int64_t first, struct ob_error *error)
{
    char digits[OB_EPOCH_DIGITS + 1];
    random_digits(digits);
    int code = write_row(db, "DELETE FROM main.outbox_epoch WHERE lane = ?1 AND first >= ?2",
                         ob_lane_name(lane), first, NULL, error);
    if (code == OUTBOX_OK)
        code = write_row(db, "INSERT INTO main.outbox_epoch(lane, first, epoch) VALUES(?3, ?2, ?1)",
                         digits, first, ob_lane_name(lane), error);
    return code;
}

static int name_device(sqlite3 *db, const char *device, struct ob_error *error)
{
    char digits[OB_EPOCH_DIGITS + 1];
    random_digits(digits);
    return write_row(db,
                     "INSERT INTO main.outbox_meta(name, value) VALUES('device', ?1)"
                     " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                     device ? device : digits, 0, NULL, error);
}

static int make_first_head(sqlite3 *db, outbox_lane lane, struct ob_error *error)
{
    struct ob_ledger ledger;
    sqlite3_stmt *statement = NULL;
    ob_ledger_start(&ledger, 0);
    int code = ob_lane_prepare(db, lane, ob_lane_sql(OB_SQL_MAKE_HEAD), &statement, error);
    if (code != OUTBOX_OK)
        return code;
    int bound = ob_ledger_bind(&ledger, statement, 1);
    ob_sql_bind_number(statement, 2, ledger.id);
    code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, error, "writing the first tombstone")
                              : ob_error_sqlite(error, db, bound, "binding a tombstone");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

static int make_event_table(sqlite3 *db, outbox_lane lane, struct ob_error *error)
{
    char *sql = ob_lane_fill(lane, event_table);
    int code = sql ? ob_sql_run(db, sql, error, "making the outbox's tables")
                   : ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out");
    sqlite3_free(sql);
    return code;
}

static int make_tables(sqlite3 *db, const char *device, bool small_heap, struct ob_error *error)
{
    int code = OUTBOX_OK;
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = make_event_table(db, (outbox_lane)i, error);
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, other_tables, error, "making the outbox's tables");
    if (code == OUTBOX_OK && !small_heap)
        code = ob_sql_run(db, pending_view, error, "making the outbox's tables");
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        outbox_lane lane = (outbox_lane)i;
        code = make_first_head(db, lane, error);
        if (code == OUTBOX_OK)
            code = ob_schema_new_epoch(db, lane, 1, error);
    }
    return code == OUTBOX_OK ? name_device(db, device, error) : code;
}

/* Columns are only ever added, so that the release that made the tables can go on writing them. */
static const struct {
    const char *is_there, *add;
} later_columns[] = {
#define HEADERS_OF(table, type)                                                                    \
    {                                                                                              \
        "SELECT count(*) FROM pragma_table_info('" table "', 'main') WHERE name = 'headers'",      \
            "ALTER TABLE main." table " ADD COLUMN headers" type                                   \
    }
    HEADERS_OF("outbox_event", " TEXT"),
    HEADERS_OF("outbox_urgent", " TEXT"),
    HEADERS_OF("outbox_dead", ""),
#undef HEADERS_OF
};

/* Brings the tables of an earlier release up to date. */
static int upgrade(sqlite3 *db, struct ob_error *error)
{
    int code = OUTBOX_OK;
    for (size_t i = 0; i < sizeof later_columns / sizeof later_columns[0] && code == OUTBOX_OK;
         i++) {
        int64_t is_there = 0;
        code = ob_sql_number(db, later_columns[i].is_there, 0, 0, 0, &is_there, error);
        if (code == OUTBOX_OK && !is_there)
            code = ob_sql_run(db, later_columns[i].add, error,
                              "adding a column to the outbox's tables");
    }
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, "DROP VIEW IF EXISTS main.outbox_pending", error,
                          "bringing the outbox's tables up to date");
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, pending_view, error, "bringing the outbox's tables up to date");
    if (code == OUTBOX_OK)
        code = ob_sql_run(db,
                          "INSERT INTO main.outbox_meta(name, value) VALUES('version', 3)"
                          " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                          error, "bringing the outbox's tables up to date");
    return code;
}

/* The file is a clone of another device's: its events, the pending ones too, are new ones. */
static int rename_device(sqlite3 *db, const char *device, struct ob_error *error)
{
    int code = name_device(db, device, error);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        int64_t lowest;
        code = ob_lane_number(db, (outbox_lane)i, ob_lane_sql(OB_SQL_LOWEST_ID), 0, 0, 0, &lowest,
                              error);
        if (code ==
            OUTBOX_OK) /* a row that high is no tombstone; the forwarder will move it away */
            code = ob_schema_new_epoch(db, (outbox_lane)i, lowest > OUTBOX_ID_MAX ? 1 : lowest + 1,
                                       error);
    }
    return code;
}

static int store_limits(sqlite3 *db, const outbox_limit limits[OUTBOX_LANES],
                        struct ob_error *error)
{
    int code = OUTBOX_OK;
    for (int i = 0; i < OUTBOX_LANES && limits && code == OUTBOX_OK; i++) {
        struct ob_limit limit;
        code = ob_limit_load(db, (outbox_lane)i, &limit, error);
        if (code == OUTBOX_OK && ob_limit_apply(&limits[i], &limit))
            code = ob_limit_store(db, (outbox_lane)i, &limit, error);
    }
    return code;
}

static int make_inside(sqlite3 *db, const char *device, bool small_heap, struct ob_error *error)
{
    char stored[OUTBOX_ATTRIBUTE_MAX + 1];
    enum ob_schema_found found;
    /* Looked for again under the lock: another process may have been quicker. */
    int code = ob_schema_find(db, &found, error);
    if (code != OUTBOX_OK)
        return code;
    if (found == OB_SCHEMA_MISSING)
        return make_tables(db, device, small_heap, error);
    if (found == OB_SCHEMA_OLDER)
        code = upgrade(db, error);
    if (code != OUTBOX_OK || !device)
        return code;
    code = ob_schema_device(db, stored, error);
    /* A name that cannot be read is replaced like another one. */
    if (code == OUTBOX_CORRUPT || (code == OUTBOX_OK && strcmp(device, stored) != 0))
        code = rename_device(db, device, error);
    return code;
}

int ob_schema_make(sqlite3 *db, const char *device, const outbox_limit limits[OUTBOX_LANES],
                   bool small_heap, struct ob_error *error)
{
    assert(sqlite3_get_autocommit(db));
    int code = ob_sql_run(db, "BEGIN IMMEDIATE", error, "opening a transaction");
    if (code != OUTBOX_OK)
        return code;
    code = make_inside(db, device, small_heap, error);
    if (code == OUTBOX_OK)
        code = store_limits(db, limits, error);
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, "COMMIT", error, "committing the outbox's tables");
    return code == OUTBOX_OK ? code : ob_sql_give_up(db, code, error);
}

int ob_schema_device(sqlite3 *db, char *device, struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = false;
    int code = ob_sql_prepare(db, "SELECT value FROM main.outbox_meta WHERE name = 'device'",
                              &statement, error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, &row, error, "reading the device's name");
    const char *name = NULL;
    size_t len = 0;
    if (row)
        code = ob_sql_text(statement, 0, &name, &len, error);
    if (code == OUTBOX_OK && (!name || !ob_text_is_device(name, len)))
        code = ob_error_set(error, OUTBOX_CORRUPT,
                            "outbox_meta holds no usable device name; attach with .device set");
    else if (code == OUTBOX_OK)
        memcpy(device, name, len + 1);
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

static int take_identity(sqlite3_stmt *statement, int64_t id, struct ob_identity *identity,
                         struct ob_error *error)
{
    const char *digits, *device;
    size_t len, device_len;
    int code = ob_sql_text(statement, 1, &digits, &len, error);
    if (code == OUTBOX_OK)
        code = ob_sql_text(statement, 3, &device, &device_len, error);
    if (code != OUTBOX_OK)
        return code;
    if (!digits || len != OB_EPOCH_DIGITS || !ob_text_is_device(digits, OB_EPOCH_DIGITS))
        return ob_error_set(error, OUTBOX_CORRUPT,
                            "outbox_epoch has no usable epoch for event %lld", (long long)id);
    if (!device || !ob_text_is_device(device, device_len))
        return ob_error_set(error, OUTBOX_CORRUPT,
                            "outbox_meta holds no usable device name; attach with .device set");
    identity->epoch.first = sqlite3_column_int64(statement, 0);
    memcpy(identity->epoch.digits, digits, sizeof identity->epoch.digits);
    identity->until = sqlite3_column_type(statement, 2) == SQLITE_NULL
                          ? INT64_MAX
                          : sqlite3_column_int64(statement, 2);
    memcpy(identity->device, device, device_len + 1);
    return OUTBOX_OK;
}

int ob_schema_identity(sqlite3 *db, sqlite3_stmt **statement, outbox_lane lane, int64_t id,
                       struct ob_identity *identity, struct ob_error *error)
{
    bool row = false;
    int code = ob_sql_prepare(db,
                              "SELECT first, epoch, (SELECT min(first) FROM main.outbox_epoch"
                              " WHERE lane = ?2 AND first > ?1),"
                              " (SELECT value FROM main.outbox_meta WHERE name = 'device')"
                              " FROM main.outbox_epoch WHERE lane = ?2 AND first <= ?1"
                              " ORDER BY first DESC LIMIT 1",
                              statement, error);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(*statement, 1, id);
    int bound = sqlite3_bind_text(*statement, 2, ob_lane_name(lane), -1, SQLITE_STATIC);
    if (bound != SQLITE_OK)
        return ob_error_sqlite(error, db, bound, "binding an id");
    code = ob_sql_step(*statement, &row, error, "reading the epoch");
    if (code != OUTBOX_OK)
        return code;
    if (!row)
        return ob_error_set(error, OUTBOX_CORRUPT, "outbox_epoch has no epoch for event %lld",
                            (long long)id);
    identity->lane = ob_lane_name(lane);
    code = take_identity(*statement, id, identity, error);
    (void)sqlite3_reset(*statement); /* repeats what step said */
    return code;
}

int ob_schema_newest_epoch(sqlite3 *db, sqlite3_stmt **statement, outbox_lane lane,
                           struct ob_epoch *epoch, struct ob_error *error)
{
    bool row = false;
    memset(epoch, 0, sizeof *epoch);
    int code = ob_sql_prepare(db,
                              "SELECT first, epoch FROM main.outbox_epoch WHERE lane = ?1"
                              " ORDER BY first DESC LIMIT 1",
                              statement, error);
    if (code != OUTBOX_OK)
        return code;
    int bound = sqlite3_bind_text(*statement, 1, ob_lane_name(lane), -1, SQLITE_STATIC);
    if (bound != SQLITE_OK)
        return ob_error_sqlite(error, db, bound, "binding a lane");
    code = ob_sql_step(*statement, &row, error, "reading the newest epoch");
    if (code != OUTBOX_OK || !row)
        return code;
    const char *digits;
    size_t len;
    code = ob_sql_text(*statement, 1, &digits, &len, error);
    epoch->first = sqlite3_column_int64(*statement, 0);
    if (digits && len == OB_EPOCH_DIGITS)
        memcpy(epoch->digits, digits, sizeof epoch->digits);
    (void)sqlite3_reset(*statement); /* repeats what step said, or that */
    return code;
}
