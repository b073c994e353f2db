/* SPDX-License-Identifier: MIT
 *
 * capture.h - for applications: changes of a table's rows become events.
 *
 * A captured table gets triggers of built-in SQL in its own file. So whoever writes the table, in
 * whatever process, language or tool, writes the events too, in the same transaction. [capture-1]
 * The triggers copy the values as they are; the forwarder makes JSON of them when it sends:
 *
 *   {"op":"u","before":{"id":7,"celsius":21.5},"after":{"id":7,"celsius":22},
 *    "source":{"device":"pump-7","table":"reading","schema":"5f0c2a9e41b7d863","snapshot":"false"},
 *    "ts_ms":1795566353500,"transaction":{"id":1042,"index":3,"last":false}}
 *
 * op           c created, u updated, d deleted, r read by a snapshot. After c, u and r the row is
 *              `after`, whatever it was before; after d it is gone. A recipient that does just
 * that, in order, has the table as it was committed. [capture-2] before       The row before u and
 * d, else null. `after`: behind c, u and r, else null. source       `schema` is a fingerprint of
 * the table's columns. `snapshot`: "false", and for r "true", "first" or "last" (of one row:
 * "first_and_last"). ts_ms        When the statement ran, by the writer's clock. transaction  `id`:
 * up to this event of the lane all transactions are whole; `index` counts from the first one behind
 * the last such point; `last`: this event is the one. SQL cannot see where a transaction begins or
 * ends, so the forwarder tells by what is committed when it reads. No transaction is ever parted,
 * but several may share an id, in a backlog all that is in it; sent again after a crash, an event
 * may carry a later id. [capture-3] Where somebody deletes the newest events by hand while they
 * wait, ids are given out again, and a transaction with such an id may come in two parts.
 *
 * The type of the event is "outbox.change", its content type application/json, its key the values
 * of the key columns. A value is what SQLite holds, not what the column is declared as. [capture-4]
 *
 *   NULL            null
 *   INTEGER         a number of all its digits; see .integers_as_text
 *   REAL            a number from which the same 64 bits are read again; {"$real":"Infinity"} or
 *                   "-Infinity". SQLite keeps a NaN as NULL.
 *   TEXT            a string, NUL as \u0000; what is not UTF-8 is {"$text":"base64"}
 *   BLOB            {"$blob":"base64"}
 *
 * Order. Events come in the order in which SQLite makes the changes: rows that a REPLACE removes
 * before the row that removes them, children of a cascade before their parent. A changed key is a d
 * of the old key and a c of the new one, with "key_to" and "key_from" that name the other. An
 * update that changes no captured column gives no event. [capture-5]
 *
 * What no trigger sees is not captured: sqlite3_blob_write(), changes while triggers are disabled
 * by SQLITE_DBCONFIG_ENABLE_TRIGGER, DROP TABLE, and writes to the file by something other than
 * SQLite. [capture-6] In an application's own BEFORE trigger, writing the table on which a REPLACE
 * is under way is not supported, nor is a TEMP trigger that writes a captured table: it runs before
 * ours, which then log the older image last. Where a foreign key's action changes a table while a
 * REPLACE removes its rows and recursive_triggers is on, a d may come twice. Where a trigger behind
 * such an action inserts a row which the same REPLACE then removes, that row has no d; and with
 * recursive_triggers on SQLite may refuse an UPDATE OR REPLACE (SQLITE_CONSTRAINT_PINNED), as it
 * does beside any trigger on deletes.
 */
#ifndef OUTBOX_CAPTURE_H
#define OUTBOX_CAPTURE_H

#include <outbox/outbox.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which changes are captured; may be added. 0: all three. */
#define OUTBOX_CAPTURE_INSERT 1u
#define OUTBOX_CAPTURE_UPDATE 2u /* and changed keys */
#define OUTBOX_CAPTURE_DELETE 4u

#define OUTBOX_CAPTURE_COLUMNS_MAX 900

typedef struct outbox_capture {
    /* A table of the main database. Its rows must be told apart: by a declared PRIMARY KEY that is
     * an INTEGER PRIMARY KEY, or whose columns are all NOT NULL. Without one it can be captured
     * with OUTBOX_CAPTURE_INSERT alone. [capture-7] */
    const char *table;
    /* The topic, in which {column} stands for the row's value: plant/{site}/reading. In the value
     * each of / + # % and of control characters, and each byte that is no UTF-8, becomes %XX; a
     * leading $ too where the topic begins with it. NULL becomes %-, and an empty text %. So a
     * value is one level, and never a wildcard. A topic over OUTBOX_TOPIC_MAX bytes is cut.
     * [capture-8] */
    const char *topic;
    /* Each list is of names and ends in NULL; a list that is NULL is the default. */
    const char *const *columns;     /* in events; default: all, generated ones too */
    const char *const *key_columns; /* of the event's key; default: the primary key */
    const char *const
        *json_columns; /* their text travels as the JSON value that it is; default: none.
                                        Text in them that is no JSON is {"$text":...} [capture-9] */
    unsigned operations;
    /* An SQL expression over NEW.column and OLD.column of built-in functions: only rows for which
     * it is true are captured. For an insert and in a snapshot both names mean the row, for a
     * delete the old one. NULL: all. A row that no longer fits is not told of. [capture-10] Where
     * the expression fails, as json_extract() does on text that is no JSON, the statement that
     * writes the table fails. A text stands in single quotes; in double ones it is refused,
     * whatever this SQLite allows. [capture-23] */
    const char *condition;
    outbox_lane lane;
    /* Non-zero: integers beyond +-(2^53 - 1), which JavaScript would round, are
     * {"$integer":"digits"}. [capture-11] */
    int integers_as_text;
} outbox_capture;

/* Begins to capture a table: with its triggers, in the transaction that is open or in one of its
 * own.
 *
 * Rows that are there already are not captured, see outbox_capture_snapshot(). The forwarder's own
 * limits hold for captured events as for those of other writers. [capture-12] A change for whose
 * JSON memory does not suffice, sent or buried, is tried again until it does: nothing is lost, its
 * lane waits, and outbox_statistics has OUTBOX_NO_MEMORY. From the first capture on, releases that
 * do not know captured events refuse the file with OUTBOX_NEWER_SCHEMA, for they would make dead
 * letters of them. [capture-21]
 *
 * Returns OUTBOX_MISUSE, with the particulars (no such table or column, a view, a virtual or an
 * internal table, a table of another database, rows that cannot be told apart, a bad topic, a
 * condition that is no expression or calls a function that is not built in, captured already),
 * OUTBOX_CLOSED or an error of the database: then nothing has changed. [capture-13] */
int outbox_capture_add(outbox *box, const outbox_capture *capture);

/* Ends it. Events that were captured are still sent. [capture-14] Errors as above. */
int outbox_capture_remove(outbox *box, const char *table);

/* Takes the triggers away, for a migration: without it SQLite refuses to drop a captured column.
 * Changes from here on are not captured, so do it in the transaction of the migration. NULL: all
 * tables. Errors as above. [capture-15] */
int outbox_capture_suspend(outbox *box, const char *table);

/* Makes the triggers anew for the table as it is now: after a suspension, or when it has drifted.
 * The old ones go and the new ones come in one transaction, so there is no moment without. Follows
 * a table that was renamed. Errors as outbox_capture_add(): as for a chosen column that is not
 * there any more; then the old triggers are still there. [capture-16] NULL: all, each for itself:
 * where OUTBOX_MISUSE is returned, with the sentence of the first that cannot be resumed, all
 * others are; at another error none is. [capture-24] */
int outbox_capture_resume(outbox *box, const char *table);

/* Puts an event r for each row that there is, in the order in which SQLite keeps them, in
 * transactions of at most `rows` rows (0: 256). Between two of them others may write; what they
 * change is captured behind what was read, so whoever applies the events in order has the table. A
 * row that is inserted meanwhile may come twice, as c and r. If it ends early, events r were put up
 * to there: call again. [capture-17] A row that was deleted while nothing was captured has no
 * event: whoever keeps a copy of the table removes at "last" what has not come since "first".
 *
 * count    Out, may be NULL: events that were put.
 * Returns OUTBOX_MISUSE also inside a transaction and for a suspended table, OUTBOX_DRIFT for one
 * that has drifted. [capture-22] */
int outbox_capture_snapshot(outbox *box, const char *table, unsigned rows, int64_t *count);

typedef enum outbox_capture_state {
    OUTBOX_CAPTURE_ACTIVE,
    OUTBOX_CAPTURE_SUSPENDED,
    OUTBOX_CAPTURE_DRIFTED /* the table or a trigger is not what it was: call resume */
} outbox_capture_state;

/* Called with each captured table; what is pointed at is valid during the call. `sentence`: what is
 * wrong, or NULL. Call no function of this library in it. */
typedef void (*outbox_capture_each)(void *context, const outbox_capture *capture,
                                    outbox_capture_state state, const char *sentence);

/* Lists what is captured, through any connection, without writing. Returns OUTBOX_MISUSE (NULL) or
 * an error of the database. [capture-18] */
int outbox_capture_list(sqlite3 *db, outbox_capture_each each, void *context);

/* Looks for what makes captured changes incomplete, through any connection, without writing: tables
 * that drifted or are suspended, changes that were missed and not read by a snapshot since, and
 * triggers or UNIQUE indexes on the outbox's own tables.
 *
 * An attach and a forwarder look for drift too, the latter whenever somebody has written: the
 * attach says so in outbox_warning(), the forwarder with OUTBOX_DRIFT. [capture-19]
 *
 * Returns OUTBOX_OK when nothing was found, OUTBOX_DRIFT when something was, OUTBOX_MISUSE (NULL)
 * or an error of the database. `found` may be NULL. [capture-20] */
int outbox_capture_doctor(sqlite3 *db, outbox_finding found, void *context);

#ifdef __cplusplus
}
#endif
#endif
