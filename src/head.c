/* SPDX-License-Identifier: MIT
 *
 * head.c - checks the tombstone and mends it.
 *
 * Every mending is one transaction that ends with a tombstone for which the ledger's law holds, so
 * a crash leaves the damage as it was or mended whole. What it writes (a new epoch above all) is
 * not durable before a barrier ran; so a barrier is asked for before the next send.
 * A damaged file is not a change by hand: where the table does not show what was just written to it,
 * or is no table of its own, all is undone and the file is called corrupt.
 * Rows that are moved away beside the order were accepted once and leave as dead letters: the
 * ledger counts them as dead and moves its base down by as many, for their ids are not between the
 * base and the tombstone.
 */
#include "head.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* ---- Reading ------------------------------------------------------------------------------------------ */

struct lowest {
    bool exists, is_tombstone, is_known_text;
    int64_t id;
    struct ob_ledger ledger; /* if it is a tombstone */
    char text[OB_LEDGER_TEXT];
};

/* A mark for which memory ran out is not a mark that is damaged. */
static int take_lowest(struct ob_store *store, sqlite3_stmt *statement, struct lowest *lowest)
{
    const char *text;
    size_t len;
    lowest->exists = true;
    lowest->id = sqlite3_column_int64(statement, 0);
    int code = ob_sql_text(statement, 1, &text, &len, &store->error);
    if (code != OUTBOX_OK || !text || len >= sizeof lowest->text)
        return code;
    lowest->is_known_text = store->head_is_known && strcmp(store->head_text, text) == 0;
    lowest->is_tombstone = ob_ledger_parse(&lowest->ledger, lowest->id, text, len);
    memcpy(lowest->text, text, len + 1);
    return OUTBOX_OK;
}

static int read_lowest(struct ob_store *store, struct lowest *lowest)
{
    sqlite3_stmt *statement = store->statement[OB_SQL_HEAD];
    bool row = false;
    memset(lowest, 0, sizeof *lowest);
    int code = ob_sql_step(statement, &row, &store->error, "reading the tombstone");
    if (row) {
        code = take_lowest(store, statement, lowest);
        (void)sqlite3_reset(statement); /* repeats what step said */
    }
    return code;
}

void ob_head_adopt(struct ob_store *store, const struct ob_ledger *ledger, const char *text)
{
    assert(ob_ledger_holds(ledger));
    store->head = *ledger;
    memcpy(store->head_text, text, strlen(text) + 1);
    store->head_is_known = true;
}

int ob_head_check(struct ob_store *store, enum ob_head *head, bool *broken)
{
    struct lowest lowest;
    *head = OB_HEAD_SAME;
    *broken = false;
    int code = read_lowest(store, &lowest);
    if (code != OUTBOX_OK)
        return code;
    if (store->head_is_known && lowest.is_known_text && lowest.id == store->head.id)
        return OUTBOX_OK;
    *broken = !lowest.is_tombstone ||
              (store->head_is_known && !ob_ledger_follows(&lowest.ledger, &store->head));
    if (!*broken) {
        *head = store->head_is_known ? OB_HEAD_ADVANCED : OB_HEAD_SAME;
        ob_head_adopt(store, &lowest.ledger, lowest.text);
    }
    return OUTBOX_OK;
}

/* ---- Writing, inside a transaction ------------------------------------------------------------------------ */

int ob_head_entomb(struct ob_store *store, const struct ob_ledger *ledger, char *text)
{
    sqlite3_stmt *statement = store->statement[OB_SQL_ENTOMB];
    size_t len = ob_ledger_print(ledger, text);
    for (int attempt = 0; attempt < 2; attempt++) {
        ob_sql_bind_number(statement, 1, ledger->id);
        int bound = sqlite3_bind_text(statement, 2, text, (int)len, SQLITE_STATIC);
        int code = bound == SQLITE_OK
                       ? ob_sql_step(statement, NULL, &store->error, "writing the tombstone")
                       : ob_error_sqlite(&store->error, store->db, bound, "binding the tombstone");
        (void)sqlite3_clear_bindings(statement); /* the text is the caller's; cannot fail */
        if (code != OUTBOX_OK || sqlite3_changes(store->db) == 1)
            return code;
        /* The row is gone, by hand: make it, then fill it. */
        int64_t ignored;
        code = ob_sql_number(store->db, "INSERT INTO main.outbox_event(id) VALUES(?1)", ledger->id,
                             0, 0, &ignored, &store->error);
        if (code != OUTBOX_OK)
            return code;
    }
    return ob_error_set(&store->error, OUTBOX_CORRUPT, "the tombstone %lld cannot be written",
                        (long long)ledger->id);
}

int ob_head_bury(struct ob_store *store, int64_t from, int64_t to, enum ob_unfit unfit,
                 int64_t *moved)
{
    sqlite3_stmt *statement = store->statement[OB_SQL_BURY];
    *moved = 0;
    ob_sql_bind_number(statement, 1, from);
    ob_sql_bind_number(statement, 2, to);
    ob_sql_bind_number(statement, 4, ob_sql_now(store->vfs));
    int bound = sqlite3_bind_text(statement, 3, ob_unfit_sentence(unfit), -1, SQLITE_STATIC);
    if (bound != SQLITE_OK)
        return ob_error_sqlite(&store->error, store->db, bound, "binding a dead letter");
    /* Also one that is too large to be fetched must be able to leave. */
    int limit = sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : INT_MAX);
    int code = ob_sql_step(statement, NULL, &store->error, "writing dead letters");
    (void)sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : limit);
    if (code == OUTBOX_OK)
        *moved = sqlite3_changes(store->db);
    return code;
}

/* Buries rows that lie beside the order, and removes them; the ledger takes note. The tombstone
 * must not be among them. */
static int bury_beside(struct ob_store *store, int64_t from, int64_t to, enum ob_unfit unfit,
                       struct ob_ledger *ledger)
{
    int64_t moved, ignored;
    int code = ob_head_bury(store, from, to, unfit, &moved);
    if (code == OUTBOX_OK)
        code = ob_sql_number(store->db, "DELETE FROM main.outbox_event WHERE id BETWEEN ?1 AND ?2",
                             from, to, 0, &ignored, &store->error);
    if (code != OUTBOX_OK)
        return code;
    ledger->count[OB_DEAD] += moved;
    ledger->base -= moved;
    return OUTBOX_OK;
}

/* ---- Mending: each runs between BEGIN IMMEDIATE and COMMIT -------------------------------------------------- */

typedef int (*mending)(struct ob_store *store, void *context, struct ob_ledger *ledger);

static int is_damaged(struct ob_store *store, const char *how)
{
    return ob_error_set(&store->error, OUTBOX_CORRUPT,
                        "outbox_event is damaged, %s; restore the file from a backup", how);
}

/* Whether the tombstone is now where everybody will look for it. In a tree whose ids do not go up a
 * row is stored where nobody finds it, and one mending would follow the other for ever. */
static int check_written(struct ob_store *store, int64_t id, const char *text)
{
    struct lowest lowest;
    int code = read_lowest(store, &lowest);
    if (code == OUTBOX_OK && (lowest.id != id || strcmp(lowest.text, text) != 0))
        return is_damaged(store, "its tombstone cannot be written");
    return code;
}

/* Runs one mending and writes the tombstone that it leaves. */
static int transact(struct ob_store *store, mending mend, void *context)
{
    struct ob_ledger ledger = store->head;
    char text[OB_LEDGER_TEXT];
    int code = ob_store_end_left_over(store);
    if (code == OUTBOX_OK)
        code = ob_sql_step(store->statement[OB_SQL_BEGIN_WRITE], NULL, &store->error,
                           "opening a transaction");
    if (code != OUTBOX_OK)
        return code;
    code = mend(store, context, &ledger);
    if (code == OUTBOX_OK)
        code = ob_head_entomb(store, &ledger, text);
    if (code == OUTBOX_OK)
        code = check_written(store, ledger.id, text);
    if (code == OUTBOX_OK)
        code = ob_store_commit(store, "committing");
    ob_store_rollback(store);
    if (code == OUTBOX_OK)
        ob_head_adopt(store, &ledger, text);
    else
        store->wrote_unsynced = true; /* a commit that failed may have happened all the same */
    return code;
}

/* The first row that carries a mark, wherever it is. A scan, but only of a table that is damaged. */
static int find_mark(struct ob_store *store, bool *found, struct lowest *mark)
{
    sqlite3_stmt *statement = NULL;
    memset(mark, 0, sizeof *mark);
    int code = ob_sql_prepare(store->db,
                              "SELECT id, ledger FROM main.outbox_event WHERE ledger IS NOT NULL"
                              " ORDER BY id LIMIT 1",
                              &statement, &store->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, found, &store->error, "looking for the tombstone");
    if (*found)
        code = take_lowest(store, statement, mark);
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* A mark that cannot be read is taken off; its row then is an event like any, fit or not. */
static int unmark(struct ob_store *store, int64_t id)
{
    int64_t ignored;
    return ob_sql_number(store->db, "UPDATE main.outbox_event SET ledger = NULL WHERE id = ?1", id,
                         0, 0, &ignored, &store->error);
}

/* There is no tombstone: one is put below the lowest event, with the counters known last. */
static int remake(struct ob_store *store, struct ob_ledger *ledger)
{
    int64_t lowest;
    struct ob_ledger known = store->head;
    int code = ob_sql_number(store->db, "SELECT min(id) FROM main.outbox_event WHERE id > 0", 0, 0,
                             store->head_is_known ? known.id + 1 : 1, &lowest, &store->error);
    if (code != OUTBOX_OK)
        return code;
    if (lowest <= 0)
        return is_damaged(store, "its ids do not go up");
    ob_ledger_start(ledger, lowest > OUTBOX_ID_MAX ? 0 : lowest - 1);
    if (store->head_is_known) {
        memcpy(ledger->count, known.count, sizeof ledger->count);
        memcpy(ledger->extra, known.extra, sizeof ledger->extra);
        ledger->base = ledger->id - ob_ledger_total(ledger);
    }
    return OUTBOX_OK;
}

/* The first mark that can be read; takes off those before it. */
static int find_tombstone(struct ob_store *store, bool *found, struct lowest *mark)
{
    int code = find_mark(store, found, mark);
    while (code == OUTBOX_OK && *found && !mark->is_tombstone) {
        int64_t id = mark->id;
        code = unmark(store, id);
        if (code == OUTBOX_OK)
            code = find_mark(store, found, mark);
        if (code == OUTBOX_OK && *found && mark->id <= id)
            return is_damaged(store, "its ids do not go up");
    }
    return code;
}

/* The number of the table's first page is all by which SQLite finds it. Where that number is damaged,
 * the rows are another table's: they are neither to be sent nor to be deleted. */
static int check_root(struct ob_store *store)
{
    int64_t owners;
    int code = ob_sql_number(store->db,
                             "SELECT count(*) FROM main.sqlite_master WHERE rootpage ="
                             " (SELECT rootpage FROM main.sqlite_master"
                             " WHERE type = 'table' AND name = 'outbox_event')",
                             0, 0, 0, &owners, &store->error);
    if (code == OUTBOX_OK && owners > 1)
        return is_damaged(store, "it has the pages of another table");
    return code;
}

static int mend_front(struct ob_store *store, void *context, struct ob_ledger *ledger)
{
    enum ob_head *head = context;
    bool found = false;
    struct lowest mark;
    int code = check_root(store);
    if (code == OUTBOX_OK)
        code = find_tombstone(store, &found, &mark);
    if (code != OUTBOX_OK)
        return code;
    bool follows =
        found && (!store->head_is_known || ob_ledger_follows(&mark.ledger, &store->head));
    *head = !follows                                                   ? OB_HEAD_REMADE
            : store->head_is_known && mark.ledger.id != store->head.id ? OB_HEAD_ADVANCED
                                                                       : OB_HEAD_SAME;
    if (found)
        *ledger = mark.ledger;
    else
        code = remake(store, ledger);
    if (code == OUTBOX_OK)
        code = bury_beside(store, INT64_MIN, found ? ledger->id - 1 : ledger->id, OB_UNFIT_LATE,
                           ledger);
    if (code == OUTBOX_OK && *head == OB_HEAD_REMADE) {
        ledger->last = 0;
        code = ob_schema_new_epoch(store->db, ledger->id + 1, &store->error);
    }
    return code;
}

int ob_head_mend(struct ob_store *store, enum ob_head *head)
{
    int code = transact(store, mend_front, head);
    if (code == OUTBOX_OK && *head == OB_HEAD_REMADE) {
        store->durable_id = 0; /* claimed for the ids of another time */
        store->wrote_unsynced = true;
    }
    return code;
}

/* ---- Rows beside the order ------------------------------------------------------------------------------------ */

/* The head may have moved since it was looked at; then the next fetch finds the rows again. */
static int check_again(struct ob_store *store, struct ob_ledger *ledger)
{
    struct lowest lowest;
    int code = read_lowest(store, &lowest);
    if (code == OUTBOX_OK && (!lowest.is_known_text || lowest.id != store->head.id))
        return ob_error_set(&store->error, OUTBOX_BUSY, "the head of the outbox has moved");
    *ledger = store->head;
    return code;
}

static int mend_beyond(struct ob_store *store, void *context, struct ob_ledger *ledger)
{
    (void)context;
    int code = check_again(store, ledger);
    if (code != OUTBOX_OK)
        return code;
    return bury_beside(store, OUTBOX_ID_MAX + 1, INT64_MAX, OB_UNFIT_ID, ledger);
}

int ob_head_bury_beyond(struct ob_store *store)
{
    return transact(store, mend_beyond, NULL);
}

struct passed {
    const struct ob_window *window;
    uint32_t count;
};

/* Between two neighbours of the window, and between the tombstone and the first entry, there must
 * be no row. */
static int mend_late(struct ob_store *store, void *context, struct ob_ledger *ledger)
{
    const struct passed *passed = context;
    int code = check_again(store, ledger);
    int64_t from = store->head.id + 1;
    for (uint32_t i = 0; i < passed->count && code == OUTBOX_OK; i++) {
        int64_t id = ob_window_at(passed->window, i)->id;
        if (from < id)
            code = bury_beside(store, from, id - 1, OB_UNFIT_LATE, ledger);
        from = id + 1;
    }
    return code;
}

int ob_head_bury_late(struct ob_store *store, const struct ob_window *window, uint32_t count)
{
    struct passed passed = {window, count};
    return transact(store, mend_late, &passed);
}
