/* SPDX-License-Identifier: MIT
 *
 * change.h - a captured change, from the row that a trigger wrote to the event that is sent.
 *
 * A trigger stores values, not text: topic NULL, payload the number of a shape, type a letter, and
 * v1, v2 ... the values as they are. A row of outbox_shape says what they mean. It is never
 * changed, so that rows which wait are read right after the table was altered:
 *
 *   1 COUNT INTEGERS_AS_TEXT
 *   TABLE
 *   SCHEMA         16 hex digits
 *   TOPIC          with {column}
 *   KEY            places of the key's columns, as 0,2
 *   IDENTITY       places of the primary key's columns
 *   FLAGS NAME     COUNT lines; the first letter: v in events, h hidden; the second: j JSON, or -
 *
 *   c, r, f, l, o  v1 ... are the row (f, l, o: the first, last, only one of a snapshot)
 *   d              v1 ... are the row that is gone
 *   u              v1 ... are the new row, behind them the old one
 *   D, C           of a changed key: the old row, behind it the new one; the other way round
 */
#ifndef OB_CHANGE_H
#define OB_CHANGE_H

#include "message.h"

#include <sqlite3.h>

/* One lane's reader of changes. All zero at first. */
struct ob_change {
    bool small_heap; /* the statement is not kept */
    sqlite3_stmt *statement;
    int16_t *place; /* of v1, v2 ... among the statement's columns; sqlite3_malloc()ed */
    int columns, values;
    char *text; /* of the last event; sqlite3_malloc()ed */
};

/* The events of a lane between two points at which all transactions were whole. 0: not known. */
struct ob_group {
    int64_t first, last;
};

/* Whether the row looks like a change. */
bool ob_change_is(const struct ob_row *row);

/* Makes the event of a row in the table. Its memory is `change`'s, until the next call.
 * OUTBOX_BAD_PAYLOAD: there is no such shape, so it is another writer's slip; `event` is the row as
 * it was. OUTBOX_TOO_LARGE: SQLite will not read it. */
int ob_change_render(struct ob_change *change, sqlite3 *db, outbox_lane lane,
                     const struct ob_row *row, const char *device, const struct ob_group *group,
                     struct ob_row *event, struct ob_error *error);

/* Appends a text as a JSON string (RFC 8259, section 7). */
void ob_json_put_string(sqlite3_str *text, const char *bytes, size_t len);

/* Frees what was kept. */
void ob_change_close(struct ob_change *change);

/* The newest `count` dead letters are copies of rows of the lane: makes whole events of those that
 * are changes. In the same transaction. */
int ob_change_complete_dead(sqlite3 *db, outbox_lane lane, int64_t count, struct ob_error *error);

#endif
