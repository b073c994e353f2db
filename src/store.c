/* SPDX-License-Identifier: MIT
 *
 * store.c - fetch, settle, barrier and checkpoint on the forwarder's connection.
 *
 * After a crash at any point: an event whose settle committed is gone and counted in the
 * tombstone, by the same transaction; any other event is still there and will be sent (again). The
 * settle commits with synchronous=NORMAL in WAL, so a power cut may undo it: the event is then
 * sent twice, never lost. What is sent must not be undone itself, which is the barrier's work.
 *
 * Both look whether the lane's newest epoch is the one that was seen last.
 *
 * An event counts as durable up to `durable_id`. The writer raises it (its own commits at FULL),
 * and the barrier does: in WAL by syncing the WAL file, which holds all rows that were fetched and
 * are not in the database yet, and by more than that once a sync has failed (wal.c); in the
 * rollback modes by a commit of our own at synchronous=EXTRA, because SQLite gives no other way to
 * make the removal of an earlier journal durable.
 */
#include "store.h"

#include "always.h"
#include "head.h"
#include "wal.h"

#include <assert.h>
#include <string.h>

enum {
    BUSY_MS = 20,
    PATIENT_BUSY_MS = 300,
    ROW_BESIDE_PAYLOAD = 65536 /* topic, attributes, the record's own bytes, and our SQL */
};

static const char *const sql_texts[OB_STORE_STATEMENTS] = {
    [OB_SQL_BEGIN_READ] = "BEGIN",
    [OB_SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [OB_SQL_COMMIT] = "COMMIT",
    [OB_SQL_ROLLBACK] = "ROLLBACK",
    [OB_SQL_VERSION] = "PRAGMA main.data_version",
    [OB_SQL_SCHEMA_VERSION] = "PRAGMA main.schema_version",
};

/* ---- Open and close -------------------------------------------------------------------------- */

static int on_wal_commit(void *context, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name;
    struct ob_store *store = context;
    store->wal_frames = (unsigned)frames;
    return SQLITE_OK;
}

/* NORMAL in WAL costs no sync per settle; the rollback modes need EXTRA for the barrier. */
static int choose_synchronous(struct ob_store *store)
{
    const char *pragma = store->journal == OB_JOURNAL_WAL ? "PRAGMA main.synchronous = NORMAL"
                                                          : "PRAGMA main.synchronous = EXTRA";
    return ob_sql_run(store->db, pragma, &store->error, "setting synchronous");
}

/* Our own connection alone: the application's keeps every setting it has. */
static int configure(struct ob_store *store, size_t payload_max)
{
    /* A row of another writer may have any size; SQLite then says so instead of loading it. */
    assert(payload_max <= OUTBOX_PAYLOAD_CAP);
    (void)sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, (int)payload_max + ROW_BESIDE_PAYLOAD);
    int result = sqlite3_busy_timeout(store->db, BUSY_MS);
    if (OB_NEVER(result != SQLITE_OK)) /* it fails for what is no connection, and sets a number */
        return ob_error_sqlite(&store->error, store->db, result, "setting the busy timeout");
    /* One checkpointer only, and that is the application: SQLite up to 3.51.2 can damage a WAL
     * database when two connections checkpoint (sqlite.org/wal.html, the WAL-reset bug). */
    int code = ob_sql_run(store->db, "PRAGMA wal_autocheckpoint = 0; PRAGMA main.secure_delete = 0",
                          &store->error, "configuring the forwarder's connection");
    if (code != OUTBOX_OK)
        return code;
    int persist = 1; /* a WAL that is deleted and grown again costs four times the writes */
    result = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    if (result != SQLITE_OK && result != SQLITE_NOTFOUND)
        return ob_error_sqlite(&store->error, store->db, result, "keeping the WAL file");
    (void)sqlite3_wal_hook(store->db, on_wal_commit, store); /* returns the hook before: none */
    store->has_hook = true;
    return choose_synchronous(store);
}

static int probe_statement(struct ob_store *store, enum ob_store_statement which)
{
    sqlite3_stmt *statement = NULL;
    int code = ob_sql_prepare(store->db, sql_texts[which], &statement, &store->error);
    (void)sqlite3_finalize(statement); /* it was not run */
    return code;
}

int ob_store_open(struct ob_store *store, sqlite3 *db, bool is_shared, bool small_heap,
                  size_t payload_max)
{
    enum ob_schema_found found;
    memset(store, 0, sizeof *store);
    store->db = db;
    store->vfs = ob_sql_vfs(db);
    store->is_shared = is_shared;
    store->small_heap = small_heap;
    int code = ob_schema_find(db, &found, &store->error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_MISSING)
        code = ob_error_set(&store->error, OUTBOX_CORRUPT,
                            "there is no outbox in this file; attach to it or run outbox init");
    if (code == OUTBOX_OK && found == OB_SCHEMA_OLDER)
        code = ob_schema_make(db, NULL, NULL, small_heap, &store->error);
    if (code != OUTBOX_OK)
        return code;
    store->journal = ob_sql_journal(db);
    if (store->journal == OB_JOURNAL_OFF)
        return ob_error_set(&store->error, OUTBOX_UNSAFE_JOURNAL,
                            "journal_mode is OFF, so nothing can be rolled back; use WAL");
    /* What cannot be prepared is said now, and not when it is needed first. */
    for (int i = 0; i < OB_STORE_STATEMENTS && code == OUTBOX_OK; i++)
        code = probe_statement(store, (enum ob_store_statement)i);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        store->change[i].small_heap = small_heap;
        ob_table_open(&store->table[i], db, (outbox_lane)i, small_heap, &store->error);
        store->table[i].head = &store->head[i];
        code = ob_table_probe(&store->table[i]);
    }
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = ob_limit_load(db, (outbox_lane)i, &store->limit[i], &store->error);
    /* At the end, so that a connection which cannot be used keeps its settings. */
    if (code == OUTBOX_OK && !is_shared)
        code = configure(store, payload_max);
    if (code != OUTBOX_OK)
        ob_store_close(store);
    return code;
}

void ob_store_be_patient(struct ob_store *store)
{
    if (!store->is_shared)
        (void)sqlite3_busy_timeout(store->db, PATIENT_BUSY_MS); /* else as impatient as before */
}

void ob_store_close(struct ob_store *store)
{
    for (int i = 0; i < OB_STORE_STATEMENTS; i++) {
        (void)sqlite3_finalize(store->kept[i]); /* repeats what the last step said */
        store->kept[i] = NULL;
    }
    for (int i = 0; i < OUTBOX_LANES; i++)
        ob_table_close(&store->table[i]);
    for (int i = 0; i < OUTBOX_LANES; i++)
        ob_change_close(&store->change[i]);
    (void)sqlite3_finalize(store->identity_statement);
    (void)sqlite3_finalize(store->epoch_statement);
    store->identity_statement = store->epoch_statement = NULL;
    /* SQLite's own checkpoints hang on this hook too, so one that is not ours must stay. */
    if (store->has_hook)
        (void)sqlite3_wal_hook(store->db, NULL, NULL);
    store->has_hook = false;
}

bool ob_store_is_blocked(const struct ob_store *store)
{
    /* A statement that writes is a transaction too, also in autocommit. */
    return store->is_shared && (!sqlite3_get_autocommit(store->db) ||
                                sqlite3_txn_state(store->db, NULL) == SQLITE_TXN_WRITE);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static int prepare_kept(struct ob_store *store, enum ob_store_statement which)
{
    return ob_sql_prepare(store->db, sql_texts[which], &store->kept[which], &store->error);
}

static int run(struct ob_store *store, enum ob_store_statement which, const char *doing)
{
    int code = prepare_kept(store, which);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(store->kept[which], NULL, &store->error, doing);
    ob_sql_done(&store->kept[which], store->small_heap);
    return code;
}

int ob_store_number(struct ob_store *store, enum ob_store_statement which, const char *doing,
                    int64_t *number)
{
    bool row = false;
    int code = prepare_kept(store, which);
    if (code == OUTBOX_OK)
        code = ob_sql_step(store->kept[which], &row, &store->error, doing);
    if (row)
        *number = sqlite3_column_int64(store->kept[which], 0);
    ob_sql_done(&store->kept[which], store->small_heap);
    return code;
}

/* Opens a transaction, once there is what it takes to undo it: then that needs no memory any
 * more. */
static int begin_undoable(struct ob_store *store, enum ob_store_statement which, const char *doing)
{
    int code = prepare_kept(store, OB_SQL_ROLLBACK);
    if (code == OUTBOX_OK)
        code = run(store, which, doing);
    if (code != OUTBOX_OK)
        ob_store_rollback(store);
    return code;
}

void ob_store_rollback(struct ob_store *store)
{
    sqlite3_stmt *statement = store->kept[OB_SQL_ROLLBACK];
    if (statement && !sqlite3_get_autocommit(store->db)) {
        (void)sqlite3_step(
            statement); /* whether it worked, only the state of the connection tells */
        (void)sqlite3_reset(statement);
    }
    if (ob_sql_rollback(store->db))
        ob_sql_done(&store->kept[OB_SQL_ROLLBACK], store->small_heap);
}

int ob_store_begin_write(struct ob_store *store, const char *doing)
{
    int code = ob_store_end_left_over(store);
    return code == OUTBOX_OK ? begin_undoable(store, OB_SQL_BEGIN_WRITE, doing) : code;
}

int ob_store_end_left_over(struct ob_store *store)
{
    if (sqlite3_get_autocommit(store->db))
        return OUTBOX_OK;
    assert(!store->is_shared); /* there it would be the application's, and we were not called */
    ob_store_rollback(store);
    if (sqlite3_get_autocommit(store->db))
        return OUTBOX_OK;
    return ob_error_set(&store->error, OUTBOX_SQLITE,
                        "a transaction of the forwarder cannot be rolled back: %s",
                        sqlite3_errmsg(store->db));
}

/* In WAL a commit syncs where it begins the file anew. If that fails, no later sync is to be
 * trusted. */
int ob_store_commit(struct ob_store *store, const char *doing)
{
    int code = run(store, OB_SQL_COMMIT, doing);
    if (code != OUTBOX_OK && sqlite3_extended_errcode(store->db) == SQLITE_IOERR_FSYNC)
        store->wal_in_doubt = true;
    return code;
}

/* The application may change the journal mode while we run, between two of our transactions. */
static int follow_journal(struct ob_store *store)
{
    enum ob_journal journal = ob_sql_journal(store->db);
    int64_t any_read;
    if (journal == store->journal || journal == OB_JOURNAL_UNKNOWN)
        return OUTBOX_OK;
    /* SQLite opens a WAL with the first read, and the barrier needs it open. */
    int code = ob_table_number(&store->table[OUTBOX_NORMAL], OB_SQL_LOWEST_ID, 0, 0, &any_read);
    if (code != OUTBOX_OK)
        return code;
    store->journal = journal;
    memset(store->durable_id, 0, sizeof store->durable_id); /* proved under other rules */
    return store->is_shared ? OUTBOX_OK : choose_synchronous(store);
}

/* ---- Fetch ----------------------------------------------------------------------------------- */

static struct ob_value column(sqlite3_stmt *statement, int index)
{
    struct ob_value value = {.storage = sqlite3_column_type(statement, index)};
    if (value.storage == SQLITE_TEXT)
        value.bytes = (const char *)sqlite3_column_text(statement, index);
    else if (value.storage == SQLITE_BLOB)
        value.bytes = sqlite3_column_blob(statement, index);
    if (value.storage == SQLITE_TEXT || value.storage == SQLITE_BLOB)
        value.len = (size_t)sqlite3_column_bytes(statement, index);
    return value;
}

/* False when memory ran out under a value: SQLite then gives no bytes for a length. */
static bool read_row(sqlite3_stmt *statement, struct ob_row *row)
{
    row->is_too_large = 0;
    row->id = sqlite3_column_int64(statement, 0);
    row->topic = column(statement, 1);
    row->payload = column(statement, 2);
    row->has_created = sqlite3_column_type(statement, 3) == SQLITE_INTEGER;
    row->created = sqlite3_column_int64(statement, 3);
    row->retain = sqlite3_column_int(statement, 4) != 0;
    row->type = column(statement, 5);
    row->content_type = column(statement, 6);
    row->key = column(statement, 7);
    row->expires = sqlite3_column_int64(statement, 8);
    row->keep_last = sqlite3_column_int(statement, 9) != 0;
    row->headers = column(statement, 10);
    row->is_tombstone = sqlite3_column_int(statement, 11);
    const struct ob_value *values[] = {&row->topic,        &row->payload, &row->type,
                                       &row->content_type, &row->key,     &row->headers};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i]->storage == SQLITE_TEXT && !values[i]->bytes)
            return false;
    return true;
}

/* SQLite did not read the row behind `after`, because it is over the limit: its id will do. */
static int take_too_large(struct ob_table *table, struct ob_fetch *fetch, int64_t after)
{
    struct ob_row row = {.is_too_large = 1};
    int code = ob_table_number(table, OB_SQL_NEXT_ID, after, 0, &row.id);
    if (code == OUTBOX_OK && row.id > after)
        (void)fetch->take(fetch->context, &row);
    return code;
}

static int read_rows(struct ob_table *table, struct ob_fetch *fetch, sqlite3_stmt *statement)
{
    unsigned count = 0;
    /* Before the first fetch the caller does not know where the tombstone is. */
    int64_t after = fetch->after > table->head->id ? fetch->after : table->head->id;
    ob_sql_bind_number(statement, 1, after);
    ob_sql_bind_number(statement, 2, OUTBOX_ID_MAX);
    ob_sql_bind_number(statement, 3, fetch->limit);
    for (;;) {
        bool more = false;
        struct ob_row row;
        int code = ob_sql_step(statement, &more, table->error, "fetching events");
        if (code == OUTBOX_TOO_LARGE)
            return take_too_large(table, fetch, after);
        if (code != OUTBOX_OK)
            return code;
        if (!more)
            break;
        bool whole = read_row(statement, &row);
        after = row.id;
        count++;
        if (!whole || !fetch->take(fetch->context, &row)) {
            if (fetch->is_hole)
                return OUTBOX_CORRUPT; /* and said so */
            return whole ? OUTBOX_OK
                         : ob_error_set(table->error, OUTBOX_NO_MEMORY,
                                        "memory ran out while fetching event %lld",
                                        (long long)row.id);
        }
    }
    fetch->at_end = count < fetch->limit;
    return OUTBOX_OK;
}

/* Somebody else may start an epoch, outbox_new_epoch() after a backup was restored. What was proved
 * of ids may have been proved of other events then, and of the epoch nothing is known. If it begins
 * at or below `passed`, the events that were read up to there are not those in the table; then it
 * is found again until nothing is read of them any more. */
static int follow_epoch(struct ob_store *store, struct ob_table *table, int64_t passed,
                        enum ob_head *head)
{
    struct ob_epoch newest, *known = &store->epoch[table->lane];
    int code = ob_schema_newest_epoch(store->db, &store->epoch_statement, table->lane, &newest,
                                      &store->error);
    ob_sql_done(&store->epoch_statement, store->small_heap);
    if (code != OUTBOX_OK || newest.digits[0] == '\0' || strcmp(newest.digits, known->digits) == 0)
        return code;
    if (known->digits[0] != '\0') {
        store->durable_id[table->lane] = 0;
        store->wrote_unsynced = true;
        if (newest.first <= passed && passed > table->head->id)
            *head = OB_HEAD_REMADE;
    } /* else, whoever proves an event proves what was committed before it */
    if (*head == OB_HEAD_SAME)
        *known = newest;
    return OUTBOX_OK;
}

/* Where the read ends, nothing can fail but what the next call will meet again. */
static int fetch_inside(struct ob_store *store, struct ob_table *table, struct ob_fetch *fetch,
                        bool *broken)
{
    int code = ob_head_check(table, &fetch->head, broken);
    if (code == OUTBOX_OK && !*broken && fetch->head == OB_HEAD_SAME)
        code = follow_epoch(store, table, fetch->after, &fetch->head);
    if (code != OUTBOX_OK || *broken || fetch->head != OB_HEAD_SAME)
        return code;
    sqlite3_stmt *statement;
    code = ob_table_statement(table, OB_SQL_FETCH, &statement);
    if (code != OUTBOX_OK)
        return code;
    code = read_rows(table, fetch, statement);
    ob_table_done(table, OB_SQL_FETCH);
    fetch->is_hole = code == OUTBOX_CORRUPT;
    return code;
}

int ob_store_fetch(struct ob_store *store, outbox_lane lane, struct ob_fetch *fetch)
{
    struct ob_table *table = &store->table[lane];
    bool broken = false;
    int64_t largest = 0;
    assert(!ob_store_is_blocked(store));
    fetch->head = OB_HEAD_SAME;
    fetch->at_end = fetch->is_hole = false;
    fetch->has_ended = true; /* nothing was taken yet */
    int code = ob_store_end_left_over(store);
    if (code == OUTBOX_OK)
        code = follow_journal(store);
    if (code == OUTBOX_OK)
        code = begin_undoable(store, OB_SQL_BEGIN_READ, "opening a read transaction");
    if (code != OUTBOX_OK)
        return code;
    code = fetch_inside(store, table, fetch, &broken);
    if (code == OUTBOX_OK) {
        code = run(store, OB_SQL_COMMIT, "ending a read transaction");
        fetch->has_ended = code == OUTBOX_OK;
    }
    ob_store_rollback(store); /* where something failed, no lock may stay */
    fetch->has_ended = fetch->has_ended && sqlite3_get_autocommit(store->db);
    if (code != OUTBOX_OK)
        return code;
    if (broken)
        return ob_head_mend(store, table, &fetch->head);
    if (fetch->at_end)
        code = ob_table_largest(table, &largest);
    return code == OUTBOX_OK && largest > OUTBOX_ID_MAX ? ob_head_bury_beyond(store, table) : code;
}

/* ---- Settle ---------------------------------------------------------------------------------- */

/* What the tombstone will hold. */
static void count_settled(const struct ob_table *table, const struct ob_window *window,
                          uint32_t count, struct ob_ledger *ledger)
{
    *ledger = *table->head;
    for (uint32_t i = 0; i < count; i++) {
        const struct ob_entry *entry = ob_window_at(window, i);
        ob_ledger_leave(ledger, entry->id,
                        entry->verdict == OB_ACKED ? OB_DELIVERED
                                                   : (enum ob_outcome)entry->outcome);
    }
    ledger->id = ob_window_at(window, count - 1)->id;
    ledger->holes += ledger->id - table->head->id - count;
    assert(ob_ledger_holds(ledger));
}

static int bury_unfit(struct ob_store *store, struct ob_table *table,
                      const struct ob_window *window, uint32_t count)
{
    int64_t moved, all = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct ob_entry *entry = ob_window_at(window, i);
        char reason[OB_REASON_TEXT];
        if (entry->verdict != OB_DROPPED || entry->outcome != OB_DEAD)
            continue;
        ob_unfit_text((enum ob_unfit)entry->unfit, entry->reason, reason);
        int code = ob_head_bury(store, table, entry->id, entry->id, reason, &moved);
        if (code != OUTBOX_OK)
            return code;
        all += moved;
    }
    return all > 0 ? ob_head_bound_dead(store) : OUTBOX_OK;
}

/* Whether a row among those that the settle will delete is no entry of the window: `late`, it came
 * with an explicit id after we had read past it, and nothing may be deleted. Where the ids up to
 * `id` are as many as the entries there is no room for one. */
static int find_late(struct ob_table *table, const struct ob_window *window, uint32_t count,
                     int64_t id, bool *late)
{
    sqlite3_stmt *statement;
    uint32_t entry = 0;
    bool row = true;
    *late = false;
    if (id - table->head->id == count)
        return OUTBOX_OK;
    int code = ob_table_statement(table, OB_SQL_IDS, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, table->head->id);
    ob_sql_bind_number(statement, 2, id);
    while (!*late) {
        code = ob_sql_step(statement, &row, table->error, "looking for late events");
        if (code != OUTBOX_OK || !row)
            break;
        int64_t found = sqlite3_column_int64(statement, 0);
        /* The last entry's id is `id`, and SQLite compares each row's with it: none is above. */
        while (OB_ALWAYS(entry < count) && ob_window_at(window, entry)->id < found)
            entry++; /* that one was deleted by hand, or it is behind us */
        *late = OB_NEVER(entry == count) || ob_window_at(window, entry)->id != found;
    }
    ob_table_done(table, OB_SQL_IDS);
    return code;
}

struct settle {
    struct ob_table *table;
    const struct ob_window *window;
    uint32_t count;
    enum ob_head head;
    bool broken, late, committed;
};

/* Nothing is in the way: lets them leave. */
static int let_leave(struct ob_store *store, struct settle *settle)
{
    struct ob_ledger ledger;
    count_settled(settle->table, settle->window, settle->count, &ledger);
    int code = bury_unfit(store, settle->table, settle->window, settle->count);
    if (code == OUTBOX_OK)
        code = ob_store_check_place(store); /* in WAL every write to a lost file succeeds */
    if (code == OUTBOX_OK)
        code = ob_table_delete_passed(settle->table, ledger.id);
    if (code == OUTBOX_OK)
        code = ob_table_entomb(settle->table, &ledger);
    if (code == OUTBOX_OK)
        code = ob_store_commit(store, "committing a settle");
    settle->committed = code == OUTBOX_OK;
    if (settle->committed)
        ob_table_adopt(settle->table, &ledger);
    return code;
}

static int settle_inside(struct ob_store *store, struct settle *settle)
{
    int64_t last = ob_window_at(settle->window, settle->count - 1)->id;
    int code = ob_head_check(settle->table, &settle->head, &settle->broken);
    if (code == OUTBOX_OK && !settle->broken && settle->head == OB_HEAD_SAME)
        code = follow_epoch(store, settle->table, last, &settle->head);
    if (code != OUTBOX_OK || settle->broken || settle->head != OB_HEAD_SAME)
        return code;
    code = find_late(settle->table, settle->window, settle->count, last, &settle->late);
    if (code != OUTBOX_OK || settle->late)
        return code;
    return let_leave(store, settle);
}

int ob_store_settle(struct ob_store *store, outbox_lane lane, const struct ob_window *window,
                    uint32_t count, enum ob_head *head)
{
    struct ob_table *table = &store->table[lane];
    struct settle settle = {.table = table, .window = window, .count = count, .head = OB_HEAD_SAME};
    assert(count > 0 && !ob_store_is_blocked(store));
    *head = OB_HEAD_SAME;
    int code = ob_store_begin_write(store, "opening a settle");
    if (code != OUTBOX_OK)
        return code;
    code = settle_inside(store, &settle);
    *head = settle.head;
    ob_store_rollback(store);
    if (settle.committed) {
        store->settles++;
        return OUTBOX_OK;
    }
    if (code != OUTBOX_OK)
        return code;
    if (settle.broken) {
        code = ob_head_mend(store, table, head);
        /* Mended, but nothing was settled: the settle itself is tried again. */
        return code == OUTBOX_OK && *head == OB_HEAD_SAME ? OUTBOX_BUSY : code;
    }
    if (settle.late) {
        code = ob_head_bury_late(store, table, window, count);
        return code == OUTBOX_OK ? OUTBOX_BUSY : code; /* the settle itself is tried again */
    }
    return OUTBOX_OK; /* the head has moved: the caller sees it in *head */
}

int ob_store_count(struct ob_store *store, outbox_lane lane, int64_t *count)
{
    assert(!ob_store_is_blocked(store));
    int code = ob_store_end_left_over(store);
    return code == OUTBOX_OK ? ob_table_number(&store->table[lane], OB_SQL_SPAN, 0, 0, count)
                             : code;
}

/* ---- Barrier, change, checkpoint ------------------------------------------------------------- */

static int renew_wal(struct ob_store *store)
{
    int code = begin_undoable(store, OB_SQL_BEGIN_WRITE, "locking the WAL");
    if (code != OUTBOX_OK)
        return code;
    int result = ob_wal_renew(store->db);
    ob_store_rollback(store);
    store->wal_in_doubt = result != SQLITE_OK;
    return result == SQLITE_OK
               ? OUTBOX_OK
               : ob_error_sqlite(&store->error, store->db, result, "writing the WAL anew");
}

/* In doubt, the plain sync comes first all the same: where not even that succeeds, nothing should
 * be written to the disk again and again. */
static int sync_wal(struct ob_store *store)
{
    int result = ob_wal_sync(store->db);
    if (result != SQLITE_OK) {
        store->wal_in_doubt = true;
        return ob_error_sqlite(&store->error, store->db, result, "syncing the WAL");
    }
    return store->wal_in_doubt ? renew_wal(store) : OUTBOX_OK;
}

static int commit_barrier(struct ob_store *store)
{
    int level = -1;
    int code = store->is_shared ? ob_sql_synchronous(store->db, &level, &store->error) : OUTBOX_OK;
    if (code != OUTBOX_OK)
        return code;
    if (store->is_shared && !ob_sql_is_durable(store->journal, level))
        return ob_error_set(&store->error, OUTBOX_NOT_DURABLE,
                            "events of a writer that does not sync wait: set synchronous to FULL, "
                            "in journal_mode DELETE to EXTRA");
    /* A value that changes: SQLite leaves a page alone whose bytes stay the same. */
    return ob_sql_run(store->db,
                      "INSERT INTO main.outbox_meta(name, value) VALUES('barrier', 1)"
                      " ON CONFLICT(name) DO UPDATE SET value = (value + 1) % 1000000",
                      &store->error, "making events durable");
}

bool ob_store_needs_barrier(const struct ob_store *store, outbox_lane lane, int64_t id)
{
    return store->wrote_unsynced || store->wal_in_doubt || id > store->durable_id[lane];
}

int ob_store_barrier(struct ob_store *store, const int64_t ids[OUTBOX_LANES])
{
    assert(!ob_store_is_blocked(store));
    int code = ob_store_end_left_over(store);
    if (code == OUTBOX_OK)
        code = follow_journal(store); /* what was fetched may wait for long */
    if (code == OUTBOX_OK)
        code = store->journal == OB_JOURNAL_WAL ? sync_wal(store) : commit_barrier(store);
    if (code != OUTBOX_OK)
        return code;
    store->barriers++;
    store->wrote_unsynced = store->wal_in_doubt = false;
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (ids[i] > store->durable_id[i])
            store->durable_id[i] = ids[i]; /* else a commit has claimed more */
    return OUTBOX_OK;
}

int ob_store_has_changed(struct ob_store *store, bool *changed)
{
    int64_t version = store->version;
    if (store->is_shared) {
        version = sqlite3_total_changes(store->db);
    } else {
        int code = ob_store_number(store, OB_SQL_VERSION, "looking for other writers", &version);
        if (code != OUTBOX_OK)
            return code;
    }
    *changed = version != store->version;
    store->version = version;
    return OUTBOX_OK;
}

int ob_store_check_place(struct ob_store *store)
{
    int moved = 0;
    /* A VFS that has no answer has no files that anybody could move. */
    int result = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (result != SQLITE_OK || !moved)
        return OUTBOX_OK;
    return ob_error_set(
        &store->error, OUTBOX_MOVED,
        "the database file was moved, replaced or deleted while it was open; nothing "
        "is sent or settled until it is back, or is opened anew");
}

int ob_store_checkpoint(struct ob_store *store, bool *whole)
{
    int frames = 0, moved = 0;
    *whole = false;
    int code = store->wal_in_doubt ? sync_wal(store) : OUTBOX_OK;
    if (code != OUTBOX_OK)
        return code;
    int result =
        sqlite3_wal_checkpoint_v2(store->db, "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if ((result & 0xff) == SQLITE_BUSY)
        return OUTBOX_OK; /* somebody reads or checkpoints: later */
    if (result != SQLITE_OK) {
        store->wal_in_doubt = true; /* it may have been the sync that failed */
        return ob_error_sqlite(&store->error, store->db, result, "checkpointing the WAL");
    }
    *whole = frames <= moved;
    store->wal_frames = frames > moved ? (unsigned)(frames - moved) : 0;
    return OUTBOX_OK;
}
