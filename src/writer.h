/* SPDX-License-Identifier: MIT
 *
 * writer.h - the handle of one connection.
 */
#ifndef OB_WRITER_H
#define OB_WRITER_H

#include "error.h"
#include "headers.h"
#include "limit.h"
#include "stage.h"
#include "wakeup.h"

#include <outbox/port.h>

/* Statements that a put uses, cached while the connection lives, or until its end where none is
 * kept. */
enum ob_writer_statement {
    OB_PUT_INSERT, /* one for each lane */
    OB_PUT_MEASURED = OB_PUT_INSERT + OUTBOX_LANES,
    OB_PUT_TOUCH = OB_PUT_MEASURED + OUTBOX_LANES,
    OB_PUT_SAVEPOINT,
    OB_PUT_RELEASE,
    OB_PUT_STATEMENTS
};

struct outbox {
    struct ob_wakeup wakeup; /* .db is the connection, NULL after it was closed */
    sqlite3_vfs *vfs;
    size_t payload_max;
    sqlite3_stmt *statement[OB_PUT_STATEMENTS];
    bool small_heap; /* none is kept, see small_heap */
    bool is_putting; /* and a put runs */

    /* The open transaction, as far as puts of this handle know it. */
    bool touched;    /* xCommit or xRollback will come */
    bool is_judged;  /* SQLite allows no other settings any more: it has written an event */
    bool is_durable; /* its commit syncs everything up to its last event */
    /* The last event of it in each lane, 0: none or one that may have been undone since. */
    int64_t last_put[OUTBOX_LANES];

    struct ob_limit limit[OUTBOX_LANES];
    struct ob_fill fill[OUTBOX_LANES];
    struct ob_table table[OUTBOX_LANES]; /* used where there is a limit */

    struct ob_stage stage; /* fire-and-forget events of the open transaction */

    const char *headers; /* of the event that is put now */
    size_t headers_len;
    char *headers_room; /* OB_HEADERS_TEXT bytes, since the first event that had some */

    /* A put's own transaction could not be rolled back; SAVEPOINT outbox_put is open still, unless
     * the application has ended it since. */
    bool left_open;

    const outbox_service *service; /* the forwarder that outbox_start() bound, or NULL */
    void *service_context;

    bool is_orphan; /* it frees itself when the connection closes */

    struct ob_error error;
    const char *warning;
    bool has_drift; /* a captured table was found to be another than it was */
};

/* What SQLite tells of the connection's transactions; the context is the handle. */
extern const struct ob_wakeup_methods ob_writer_wakeup;

/* Reads what a commit of the connection can promise. */
int ob_writer_judge(sqlite3 *db, outbox *box);

/* outbox_put() of an event whose headers were joined and checked before, as they are in a row;
 * NULL: they are the event's. */
int ob_writer_put(outbox *box, const outbox_event *event, const char *headers, size_t headers_len,
                  int64_t *id);

/* Leaves the handle to its connection: it is freed when that closes, or now if it is closed. For
 * the loadable extension, whose functions may be taken away in the midst of a close. */
void ob_writer_leave(outbox *box);

/* Nothing may use it any more, a connection least. */
void ob_writer_free(outbox *box);

#endif
