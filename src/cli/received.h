/* SPDX-License-Identifier: MIT
 *
 * received.h - the tables of `outbox receive`: what was applied, and what waits behind a gap.
 *
 *   received           one row for each event that was applied, in the order in which it was
 *       n              1, 2, 3 ...
 *       stream         the inbox's name of it; NULL: the message was no event, nobody judged it
 *       sequence, previous, source, id, type, topic, content_type, time, key, data
 *       attributes     the other attributes, as a JSON object, or NULL
 *       verdict        new, new epoch, skipped (a gap before it was given up), or NULL
 *       received       when, in ms since 1970
 *   received_waiting   events that the inbox judged to be behind a gap; they move to `received`
 * when the gap closes or is given up
 *
 * A message is stored, and its event judged, in one transaction.
 */
#ifndef OUTBOX_CLI_RECEIVED_H
#define OUTBOX_CLI_RECEIVED_H

#include "cli.h"

#include <outbox/inbox.h>

enum received_statement {
    RECEIVED_BEGIN,
    RECEIVED_COMMIT,
    RECEIVED_ROLLBACK,
    RECEIVED_INSERT,
    RECEIVED_WAIT,
    RECEIVED_NEXT,       /* the first one that waits of this source */
    RECEIVED_NEXT_OTHER, /* of the same stream and another source */
    RECEIVED_MOVE,
    RECEIVED_FORGET,
    RECEIVED_OLDEST,
    RECEIVED_PRINT,
    RECEIVED_STATEMENTS
};

struct received {
    const char *path;
    sqlite3 *db;
    inbox *in;
    sqlite3_stmt *statement[RECEIVED_STATEMENTS];
    char *room; /* for inbox_read() */
    size_t room_size;
    int64_t waiting; /* rows of received_waiting */
    int64_t printed; /* `n` of the last row that was printed */
    bool json;
    /* Of this run. */
    int64_t applied, duplicates, stale, gaps, skipped, no_events;
};

/* Opens the file, makes what is missing, and gives the client id that is kept in it. Prints what is
 * wrong, like all functions here. */
int received_open(struct received *received, const char *path, char client_id[24]);
void received_close(struct received *received);

/* Stores a message, durably: when it has returned true it may be acknowledged. False: nothing was
 * stored. */
bool received_take(struct received *received, inbox_text topic, const inbox_message *message);

/* Gives up gaps behind which an event waits since `since` or longer. */
bool received_give_up(struct received *received, int64_t since);

int64_t received_now(void); /* ms since 1970 */

/* For `outbox verify`: is there such a table, and what is wrong with it? Not a finding but an exit
 * status other than CLI_OK says that it could not be read. */
bool received_exists(sqlite3 *db);
int received_verify(sqlite3 *db, outbox_finding found, void *context);

#endif
