/* SPDX-License-Identifier: MIT
 *
 * dead.c - takes dead letters out of outbox_dead again: back into their lane, or for good.
 *
 * A requeued event appears in its lane and leaves outbox_dead in one transaction, so after a crash
 * it is in one of the two. It is put as by outbox_put(), with all that this checks and promises;
 * what its arguments cannot carry (the payload's storage class, the time, the exact expiry) is
 * copied behind it from the dead letter, column by column.
 */
#include "expiry.h"
#include "message.h"
#include "scope.h"
#include "sql.h"
#include "writer.h"

#include <string.h>

/* ---- The dead letter ------------------------------------------------------------------------- */

static const char find_sql[] =
    "SELECT lane, topic, payload, type, content_type, key, retain, keep_last, expires, created,"
    " headers"
    " FROM main.outbox_dead WHERE number = ?1";

static const char copy_sql[] =
    "UPDATE main.{table} SET (payload, created, keep_last, expires) ="
    " (SELECT payload, created, keep_last, ?3 FROM main.outbox_dead WHERE number = ?1)"
    " WHERE id = ?2";

static const char delete_sql[] = "DELETE FROM main.outbox_dead WHERE number = ?1";

static struct ob_value stored_value(sqlite3_stmt *statement, int index)
{
    struct ob_value value = {.storage = sqlite3_column_type(statement, index)};
    if (value.storage == SQLITE_TEXT)
        value.bytes = (const char *)sqlite3_column_text(statement, index);
    else if (value.storage == SQLITE_BLOB)
        value.bytes = sqlite3_column_blob(statement, index);
    if (value.bytes)
        value.len = (size_t)sqlite3_column_bytes(statement, index);
    return value;
}

static bool has_lost(const struct ob_value *value)
{
    return value->storage == SQLITE_TEXT && !value->bytes;
}

/* Reads the row on which `statement` stands; its memory is SQLite's. */
static int read_dead(outbox *box, sqlite3_stmt *statement, struct ob_row *row)
{
    *row = (struct ob_row){.topic = stored_value(statement, 1),
                           .payload = stored_value(statement, 2),
                           .type = stored_value(statement, 3),
                           .content_type = stored_value(statement, 4),
                           .key = stored_value(statement, 5),
                           .retain = sqlite3_column_int(statement, 6) != 0,
                           .keep_last = sqlite3_column_int(statement, 7) != 0,
                           .expires = sqlite3_column_int64(statement, 8),
                           .headers = stored_value(statement, 10)};
    if (has_lost(&row->topic) || has_lost(&row->payload) || has_lost(&row->type) ||
        has_lost(&row->content_type) || has_lost(&row->key) || has_lost(&row->headers))
        return ob_error_set(&box->error, OUTBOX_NO_MEMORY,
                            "memory ran out while reading a dead letter");
    return OUTBOX_OK;
}

static int find_lane(outbox *box, sqlite3_stmt *statement, int64_t number, outbox_lane *lane)
{
    const char *name;
    size_t len;
    int code = ob_sql_text(statement, 0, &name, &len, &box->error);
    if (code != OUTBOX_OK)
        return code;
    for (int i = 0; name && i < OUTBOX_LANES; i++)
        if (strcmp(name, ob_lane_name((outbox_lane)i)) == 0) {
            *lane = (outbox_lane)i;
            return OUTBOX_OK;
        }
    return ob_error_set(&box->error, OUTBOX_CORRUPT,
                        "dead letter %lld is of no lane that there is; purge it",
                        (long long)number);
}

/* The rules of the forwarder, which would bury it again, with the code that a put gives. */
static int check_fit(outbox *box, const struct ob_row *row)
{
    static const int codes[OB_UNFITS] = {
        [OB_UNFIT_TOPIC] = OUTBOX_BAD_TOPIC,         [OB_UNFIT_PAYLOAD] = OUTBOX_BAD_PAYLOAD,
        [OB_UNFIT_TEXT] = OUTBOX_BAD_PAYLOAD,        [OB_UNFIT_JSON] = OUTBOX_BAD_PAYLOAD,
        [OB_UNFIT_ATTRIBUTE] = OUTBOX_BAD_ATTRIBUTE, [OB_UNFIT_HEADERS] = OUTBOX_BAD_ATTRIBUTE};
    enum ob_unfit unfit = ob_message_check(row);
    if (unfit == OB_FIT)
        return OUTBOX_OK;
    return ob_error_set(&box->error, codes[unfit] ? codes[unfit] : OUTBOX_BAD_ATTRIBUTE,
                        "it is still unfit: %s", ob_unfit_sentence(unfit));
}

/* When it expires as a new event; 0: never. */
static int64_t renew_expiry(const outbox *box, int64_t expires)
{
    int64_t now = ob_sql_now(box->vfs);
    if (expires < 0 && expires >= -OUTBOX_TTL_MAX)
        return ob_expiry_at_put(-expires, now);
    return expires > 0 && !ob_expiry_has_come(expires, now) ? expires : 0;
}

/* ---- Requeue --------------------------------------------------------------------------------- */

static int run_requeue(outbox *box, outbox_lane lane, const char *sql, int64_t number, int64_t id,
                       int64_t expires)
{
    sqlite3_stmt *statement = NULL;
    int code = ob_lane_prepare(box->wakeup.db, lane, sql, &statement, &box->error);
    if (code != OUTBOX_OK)
        return code;
    int parameters = sqlite3_bind_parameter_count(statement);
    int bound = sqlite3_bind_int64(statement, 1, number);
    if (bound == SQLITE_OK && parameters > 1)
        bound = sqlite3_bind_int64(statement, 2, id);
    if (bound == SQLITE_OK && parameters > 2 && expires != 0)
        bound = sqlite3_bind_int64(statement, 3, expires);
    code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, &box->error, "moving a dead letter")
                              : ob_error_sqlite(&box->error, box->wakeup.db, bound, "binding");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* The strings end where SQLite says, for the check has found no NUL in them. */
static int put_again(outbox *box, const struct ob_row *row, outbox_lane lane, int64_t *id)
{
    const outbox_event event = {.topic = row->topic.bytes,
                                .payload = row->payload.bytes,
                                .payload_len = row->payload.len,
                                .content_type = row->content_type.bytes,
                                .type = row->type.bytes,
                                .key = row->key.bytes,
                                .retain = row->retain,
                                .lane = lane};
    return ob_writer_put(box, &event, row->headers.bytes, row->headers.len, id);
}

static int requeue_row(outbox *box, sqlite3_stmt *statement, int64_t number, int64_t *id)
{
    struct ob_row row;
    outbox_lane lane = OUTBOX_NORMAL;
    int code = find_lane(box, statement, number, &lane);
    if (code == OUTBOX_OK)
        code = read_dead(box, statement, &row);
    if (code == OUTBOX_OK)
        code = check_fit(box, &row);
    if (code == OUTBOX_OK)
        code = put_again(box, &row, lane, id);
    return code == OUTBOX_OK
               ? run_requeue(box, lane, copy_sql, number, *id, renew_expiry(box, row.expires))
               : code;
}

static int is_missing(outbox *box, int64_t number)
{
    return ob_error_set(&box->error, OUTBOX_MISUSE, "there is no dead letter %lld",
                        (long long)number);
}

static int requeue_inside(outbox *box, int64_t number, int64_t *id)
{
    sqlite3_stmt *statement = NULL;
    bool found = false;
    int code = ob_sql_prepare(box->wakeup.db, find_sql, &statement, &box->error);
    if (code != OUTBOX_OK)
        return code;
    int bound = sqlite3_bind_int64(statement, 1, number);
    code = bound == SQLITE_OK
               ? ob_sql_step(statement, &found, &box->error, "reading a dead letter")
               : ob_error_sqlite(&box->error, box->wakeup.db, bound, "binding a number");
    if (code == OUTBOX_OK)
        code = found ? requeue_row(box, statement, number, id) : is_missing(box, number);
    (void)sqlite3_finalize(statement); /* only read from; a failed step was seen */
    if (code == OUTBOX_OK)
        code = run_requeue(box, OUTBOX_NORMAL, delete_sql, number, 0, 0);
    return code;
}

static int check_handle(outbox *box)
{
    ob_error_clear(&box->error);
    return box->wakeup.db ? OUTBOX_OK
                          : ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
}

int outbox_requeue(outbox *box, int64_t number, int64_t *id)
{
    struct ob_scope scope;
    int64_t new_id = 0;
    if (!box)
        return OUTBOX_MISUSE;
    int code = check_handle(box);
    if (code == OUTBOX_OK)
        code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_scope_close(&scope, requeue_inside(box, number, &new_id));
    if (code == OUTBOX_OK && id)
        *id = new_id;
    return code;
}

/* ---- Purge ----------------------------------------------------------------------------------- */

static int purge_inside(outbox *box, int64_t number)
{
    if (number == 0)
        return ob_sql_run(box->wakeup.db, "DELETE FROM main.outbox_dead", &box->error,
                          "purging the dead letters");
    int code = run_requeue(box, OUTBOX_NORMAL, delete_sql, number, 0, 0);
    return code == OUTBOX_OK && sqlite3_changes(box->wakeup.db) == 0 ? is_missing(box, number)
                                                                     : code;
}

int outbox_purge(outbox *box, int64_t number)
{
    struct ob_scope scope;
    if (!box)
        return OUTBOX_MISUSE;
    int code = check_handle(box);
    if (code == OUTBOX_OK)
        code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    return ob_scope_close(&scope, purge_inside(box, number));
}
