/* SPDX-License-Identifier: MIT
 *
 * inbox_table.h - the inbox's tables, and a stream as a row of them.
 *
 *   inbox_stream   one row for each stream, by its name:
 *       epoch      the current one; empty for other CloudEvents senders
 *       mark       number of the last event that was applied
 *       applied, passed_over, forgone, announced, lost, epochs   counts, see inbox.h
 *       retired    the epochs before the current one, "NEWEST ... OLDEST"
 *       late       what was passed over, "4-5 9-9"
 *       last_id    of an event without a number, the last one
 *   inbox_meta     version, minimum_reader
 *
 * Changes are additive, as those of schema.h.
 */
#ifndef OB_INBOX_TABLE_H
#define OB_INBOX_TABLE_H

#include "error.h"
#include "inbox_rule.h"

#include <sqlite3.h>

#define OB_INBOX_VERSION 1

/* Looks for the tables without writing. OUTBOX_NEWER_SCHEMA, OUTBOX_CORRUPT, or an error of the
 * database. */
int ob_inbox_find(sqlite3 *db, bool *found, struct ob_error *error);

/* Makes the tables if they are missing, in one transaction of its own. */
int ob_inbox_make(sqlite3 *db, struct ob_error *error);

/* Columns in the order of OB_INBOX_COLUMNS, which a SELECT begins with. */
#define OB_INBOX_COLUMNS                                                                           \
    "epoch, mark, applied, passed_over, forgone, announced, lost, epochs, retired, late, last_id"

/* Takes the stream out of the row that stands ready. OUTBOX_CORRUPT: no inbox wrote it; `name` is
 * for the sentence. */
int ob_inbox_load(sqlite3_stmt *row, const char *name, int len, struct ob_stream *stream,
                  struct ob_error *error);

extern const char *const ob_inbox_read_sql;  /* ?1: the name */
extern const char *const ob_inbox_write_sql; /* for ob_inbox_store() */

/* Stores the stream through a statement of ob_inbox_write_sql. An id that is NULL leaves last_id as
 * it is. */
int ob_inbox_store(sqlite3_stmt *write, const inbox_text *name, const inbox_text *id,
                   const struct ob_stream *stream, struct ob_error *error);

#endif
