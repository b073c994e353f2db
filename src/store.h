/* SPDX-License-Identifier: MIT
 *
 * store.h - the forwarder's side of the database: fetch, settle, barrier.
 *
 * Every call is one short transaction or none; when it returns, no lock is held. Every fetch and
 * every settle first looks, inside its own transaction, whether the lowest row of its lane is still
 * the tombstone that is known here. If not, nothing else is done, the head is looked into (head.h)
 * and the caller is told what became of it.
 */
#ifndef OB_STORE_H
#define OB_STORE_H

#include "change.h"
#include "limit.h"
#include "message.h"
#include "sql.h"
#include "table.h"
#include "window.h"

enum ob_store_statement {
    OB_SQL_BEGIN_READ,
    OB_SQL_BEGIN_WRITE,
    OB_SQL_COMMIT,
    OB_SQL_ROLLBACK,
    OB_SQL_VERSION,
    OB_SQL_SCHEMA_VERSION,
    OB_STORE_STATEMENTS
};

/* What the last look at the head found. */
enum ob_head {
    OB_HEAD_SAME,
    OB_HEAD_ADVANCED, /* rows left by a counted removal, not by this settle: drop what it passed */
    OB_HEAD_REMADE    /* a new epoch of what was read: forget everything and read again */
};

struct ob_store {
    sqlite3 *db;
    sqlite3_vfs *vfs;
    bool is_shared;  /* the application's connection, see forwarder.h */
    bool small_heap; /* no statement is kept, see small_heap there */
    bool has_hook;   /* ours on the connection, which counts the WAL's frames */
    /* Each prepared when it is needed first, ROLLBACK before each transaction. */
    sqlite3_stmt *kept[OB_STORE_STATEMENTS];
    sqlite3_stmt *identity_statement, *epoch_statement;
    struct ob_table table[OUTBOX_LANES];
    struct ob_ledger head[OUTBOX_LANES];
    struct ob_limit limit[OUTBOX_LANES];
    struct ob_fill fill[OUTBOX_LANES];
    struct ob_change change[OUTBOX_LANES];
    struct ob_epoch epoch[OUTBOX_LANES]; /* the newest, as it was seen last */

    enum ob_journal journal;
    int64_t durable_id[OUTBOX_LANES]; /* every event up to it survives a power cut */
    bool wrote_unsynced; /* what the next event sent depends on was written: an epoch */
    bool wal_in_doubt;   /* a sync of the WAL failed: another one alone proves nothing, wal.h */
    int64_t version;     /* of the database when ob_store_has_changed() was asked last */
    unsigned wal_frames; /* in the WAL behind our last commit */
    uint64_t barriers, settles;
    struct ob_error error;
};

/* `payload_max` bounds what a fetch takes into memory on a connection of our own. */
int ob_store_open(struct ob_store *store, sqlite3 *db, bool is_shared, bool small_heap,
                  size_t payload_max);
void ob_store_close(struct ob_store *store);

/* From now on each call on a connection of our own waits for the write lock some 300 ms. */
void ob_store_be_patient(struct ob_store *store);

/* Whether a transaction of the application is open on a shared connection. */
bool ob_store_is_blocked(const struct ob_store *store);

/* Ends a transaction that a ROLLBACK which failed has left open on a connection of our own. Each
 * call below that needs a transaction, or must not be in one, begins with it. */
int ob_store_end_left_over(struct ob_store *store);

/* Reads a number; it stays as it was where there is none. */
int ob_store_number(struct ob_store *store, enum ob_store_statement which, const char *doing,
                    int64_t *number);

/* Opens a transaction that holds the write lock, once no other is left over. */
int ob_store_begin_write(struct ob_store *store, const char *doing);

/* Runs COMMIT. */
int ob_store_commit(struct ob_store *store, const char *doing);

/* Undoes what is open, also without memory for a new statement. If it fails all the same, the next
 * call tries again: see above. */
void ob_store_rollback(struct ob_store *store);

/* Reads events behind `after` in order and hands each to `take`, until that says false or the
 * table ends (`at_end`). The row's memory is SQLite's and valid during the call. */
struct ob_fetch {
    bool (*take)(void *context, const struct ob_row *row);
    void *context;
    int64_t after;
    unsigned limit;
    enum ob_head head; /* out; unless it is SAME nothing was read */
    bool at_end;       /* out */
    bool is_hole; /* out; the front is sound, and a row behind it cannot be read; or set by take */
    bool has_ended; /* out; if not, the read's end failed and what was taken does not count */
};
int ob_store_fetch(struct ob_store *store, outbox_lane lane, struct ob_fetch *fetch);

/* Lets the `count` entries at the front of the window leave the lane's table, each by its verdict,
 * in one transaction. If `head` is not SAME, nothing was settled. OUTBOX_MOVED: see below. */
int ob_store_settle(struct ob_store *store, outbox_lane lane, const struct ob_window *window,
                    uint32_t count, enum ob_head *head);

/* How many events the lane holds, with the ids that were skipped. */
int ob_store_count(struct ob_store *store, outbox_lane lane, int64_t *count);

/* Lets the oldest events of the lane leave if rows of other writers have brought it over its limit,
 * in a transaction of its own. `acked`: as far as the broker has them. OUTBOX_FULL: the limit
 * rejects, so they stay. If `head` is not SAME the tombstone has moved. */
int ob_store_keep_limit(struct ob_store *store, outbox_lane lane, int64_t acked,
                        enum ob_head *head);

/* Whether a power cut could still undo the event or what we wrote about it. */
bool ob_store_needs_barrier(const struct ob_store *store, outbox_lane lane, int64_t id);

/* Sees to it that every event up to `ids` of each lane, all of which were fetched, survives a power
 * cut. */
int ob_store_barrier(struct ob_store *store, const int64_t ids[OUTBOX_LANES]);

/* Whether another connection (on a shared one: the application) may have written since this was
 * asked last. */
int ob_store_has_changed(struct ob_store *store, bool *changed);

/* OUTBOX_MOVED where the database's name does not lead to the open file any more. */
int ob_store_check_place(struct ob_store *store);

/* Moves what the WAL holds into the database as far as nobody is in the way. `whole`: all of it,
 * and the next writer begins the WAL anew. */
int ob_store_checkpoint(struct ob_store *store, bool *whole);

#endif
