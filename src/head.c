/* SPDX-License-Identifier: MIT
 *
 * head.c - checks the tombstone and mends it.
 *
 * Every mending is one transaction that ends with a tombstone for which the ledger's law holds, so
 * a crash leaves the damage as it was or mended whole. What it writes (a new epoch above all) is
 * not durable before a barrier ran; so a barrier is asked for before the next send. A damaged file
 * is not a change by hand: where the table does not show what was just written to it, or is no
 * table of its own, all is undone and the file is called corrupt. Rows that are moved away beside
 * the order were accepted once and leave as dead letters: the ledger counts them as dead and moves
 * its base down by as many, for their ids are not between the base and the tombstone.
 */
#include "head.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* ---- Reading --------------------------------------------------------------------------------- */

int ob_head_check(struct ob_table *table, enum ob_head *head, bool *broken)
{
    struct ob_lowest lowest;
    *head = OB_HEAD_SAME;
    *broken = false;
    int code = ob_table_lowest(table, &lowest);
    if (code != OUTBOX_OK)
        return code;
    if (lowest.is_known)
        return OUTBOX_OK;
    *broken = !lowest.is_tombstone ||
              (table->head_is_known && !ob_ledger_follows(&lowest.ledger, table->head));
    if (!*broken) {
        *head = table->head_is_known ? OB_HEAD_ADVANCED : OB_HEAD_SAME;
        ob_table_adopt(table, &lowest.ledger);
    }
    return OUTBOX_OK;
}

/* ---- Writing, inside a transaction ----------------------------------------------------------- */

int ob_head_bury(struct ob_store *store, struct ob_table *table, int64_t from, int64_t to,
                 const char *reason, int64_t *moved)
{
    sqlite3_stmt *statement;
    *moved = 0;
    int code = ob_table_statement(table, OB_SQL_BURY, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, from);
    ob_sql_bind_number(statement, 2, to);
    ob_sql_bind_number(statement, 4, ob_sql_now(store->vfs));
    int bound = sqlite3_bind_text(statement, 3, reason, -1, SQLITE_STATIC);
    if (bound != SQLITE_OK) {
        ob_table_done(table, OB_SQL_BURY);
        return ob_error_sqlite(&store->error, store->db, bound, "binding a dead letter");
    }
    /* Also one that is too large to be fetched must be able to leave. */
    int limit = sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : INT_MAX);
    code = ob_sql_step(statement, NULL, &store->error, "writing dead letters");
    (void)sqlite3_clear_bindings(statement); /* the reason is the caller's; cannot fail */
    ob_table_done(table, OB_SQL_BURY);
    if (code == OUTBOX_OK)
        *moved = sqlite3_changes(store->db);
    if (code == OUTBOX_OK && *moved > 0)
        code = ob_change_complete_dead(store->db, table->lane, *moved, &store->error);
    (void)sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : limit);
    return code;
}

/* Rows that a broken writer stores again and again must not fill the disk from here. */
int ob_head_bound_dead(struct ob_store *store)
{
    int64_t ignored;
    return ob_sql_number(store->db,
                         "DELETE FROM main.outbox_dead WHERE number <= (SELECT number FROM"
                         " main.outbox_dead ORDER BY number DESC LIMIT 1 OFFSET ?1)",
                         OUTBOX_DEAD_MAX, 0, 0, &ignored, &store->error);
}

/* The newest dead letters, `moved` of them, are those rows. */
static int note_buried(struct ob_store *store, int64_t moved, struct ob_ledger *ledger)
{
    int64_t first = 0, last = 0;
#define OF_THEM(what)                                                                              \
    "SELECT " what "(id) FROM (SELECT id FROM main.outbox_dead ORDER BY number DESC LIMIT ?1)"
    int code = ob_sql_number(store->db, OF_THEM("min"), moved, 0, 0, &first, &store->error);
    if (code == OUTBOX_OK)
        code = ob_sql_number(store->db, OF_THEM("max"), moved, 0, 0, &last, &store->error);
#undef OF_THEM
    if (code == OUTBOX_OK)
        ob_ledger_leave_beside(ledger, moved, first, last);
    return code;
}

/* Buries rows that lie beside the order, and removes them; the ledger takes note. The tombstone
 * must not be among them. */
static int bury_beside(struct ob_store *store, struct ob_table *table, int64_t from, int64_t to,
                       enum ob_unfit unfit, struct ob_ledger *ledger)
{
    int64_t moved;
    int code = ob_head_bury(store, table, from, to, ob_unfit_sentence(unfit), &moved);
    if (code == OUTBOX_OK)
        code = ob_table_run(table, OB_SQL_DELETE_RANGE, from, to);
    if (code == OUTBOX_OK && moved > 0)
        code = note_buried(store, moved, ledger);
    if (code == OUTBOX_OK && moved > 0)
        code = ob_head_bound_dead(store);
    return code;
}

/* ---- Mending: each runs between BEGIN IMMEDIATE and COMMIT ----------------------------------- */

typedef int (*mending)(struct ob_store *store, struct ob_table *table, void *context,
                       struct ob_ledger *ledger);

static int is_damaged(struct ob_table *table, const char *how)
{
    return ob_error_set(table->error, OUTBOX_CORRUPT,
                        "%s is damaged, %s; restore the file from a backup",
                        ob_lane_table(table->lane), how);
}

/* Whether the tombstone is now where everybody will look for it. In a tree whose ids do not go up a
 * row is stored where nobody finds it, and one mending would follow the other for ever. */
static int check_written(struct ob_table *table, const struct ob_ledger *ledger)
{
    struct ob_lowest lowest;
    int code = ob_table_lowest(table, &lowest);
    if (code == OUTBOX_OK && !(lowest.is_tombstone && ob_ledger_equals(&lowest.ledger, ledger)))
        return is_damaged(table, "its tombstone cannot be written");
    return code;
}

/* Runs one mending and writes the tombstone that it leaves. */
static int transact(struct ob_store *store, struct ob_table *table, mending mend, void *context)
{
    struct ob_ledger ledger = *table->head;
    int code = ob_store_begin_write(store, "opening a transaction");
    if (code != OUTBOX_OK)
        return code;
    code = mend(store, table, context, &ledger);
    if (code == OUTBOX_OK)
        code = ob_table_entomb(table, &ledger);
    if (code == OUTBOX_OK)
        code = check_written(table, &ledger);
    if (code == OUTBOX_OK)
        code = ob_store_commit(store, "committing");
    ob_store_rollback(store);
    if (code == OUTBOX_OK)
        ob_table_adopt(table, &ledger);
    else
        store->wrote_unsynced = true; /* a commit that failed may have happened all the same */
    return code;
}

/* The first row that carries a mark, wherever it is. A scan, but only of a table that is
 * damaged. */
static int find_mark(struct ob_table *table, bool *found, struct ob_lowest *mark)
{
    sqlite3_stmt *statement = NULL;
    memset(mark, 0, sizeof *mark);
    int code = ob_lane_prepare(table->db, table->lane, ob_lane_sql(OB_SQL_FIRST_MARK), &statement,
                               table->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, found, table->error, "looking for the tombstone");
    if (*found)
        code = ob_table_take_lowest(table, statement, mark);
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* There is no tombstone: one is put below the lowest event, with the counters known last. */
static int remake(struct ob_table *table, struct ob_ledger *ledger)
{
    int64_t lowest;
    const struct ob_ledger *known = table->head;
    int code = ob_table_number(table, OB_SQL_FIRST_ID, 0, table->head_is_known ? known->id + 1 : 1,
                               &lowest);
    if (code != OUTBOX_OK)
        return code;
    if (lowest <= 0)
        return is_damaged(table, "its ids do not go up");
    ob_ledger_start(ledger, lowest > OUTBOX_ID_MAX ? 0 : lowest - 1);
    if (table->head_is_known) {
        memcpy(ledger->count, known->count, sizeof ledger->count);
        memcpy(ledger->extra, known->extra, sizeof ledger->extra);
        ledger->base = ledger->id - ob_ledger_total(ledger);
    }
    return OUTBOX_OK;
}

/* The first mark that can be read. One that cannot be read is taken off; its row then is an event
 * like any, fit or not. */
static int find_tombstone(struct ob_table *table, bool *found, struct ob_lowest *mark)
{
    int code = find_mark(table, found, mark);
    while (code == OUTBOX_OK && *found && !mark->is_tombstone) {
        int64_t id = mark->id;
        code = ob_table_run(table, OB_SQL_UNMARK, id, 0);
        if (code == OUTBOX_OK)
            code = find_mark(table, found, mark);
        if (code == OUTBOX_OK && *found && mark->id <= id)
            return is_damaged(table, "its ids do not go up");
    }
    return code;
}

/* The number of the table's first page is all by which SQLite finds it. Where that number is
 * damaged, the rows are another table's: they are neither to be sent nor to be deleted. */
static int check_root(struct ob_table *table)
{
    int64_t owners;
    int code = ob_table_number(table, OB_SQL_OWNERS, 0, 0, &owners);
    if (code == OUTBOX_OK && owners > 1)
        return is_damaged(table, "it has the pages of another table");
    return code;
}

static int mend_front(struct ob_store *store, struct ob_table *table, void *context,
                      struct ob_ledger *ledger)
{
    enum ob_head *head = context;
    bool found = false;
    struct ob_lowest mark;
    int code = check_root(table);
    if (code == OUTBOX_OK)
        code = find_tombstone(table, &found, &mark);
    if (code != OUTBOX_OK)
        return code;
    bool follows = found && (!table->head_is_known || ob_ledger_follows(&mark.ledger, table->head));
    *head = !follows                                                    ? OB_HEAD_REMADE
            : table->head_is_known && mark.ledger.id != table->head->id ? OB_HEAD_ADVANCED
                                                                        : OB_HEAD_SAME;
    if (found)
        *ledger = mark.ledger;
    else
        code = remake(table, ledger);
    if (*head == OB_HEAD_REMADE) {
        ledger->last = 0;
        memset(ledger->drops, 0, sizeof ledger->drops); /* their ids are of another time */
    }
    if (code == OUTBOX_OK)
        code = bury_beside(store, table, INT64_MIN, found ? ledger->id - 1 : ledger->id,
                           OB_UNFIT_LATE, ledger);
    if (code == OUTBOX_OK && *head == OB_HEAD_REMADE)
        code = ob_schema_new_epoch(table->db, table->lane, ledger->id + 1, table->error);
    return code;
}

int ob_head_mend(struct ob_store *store, struct ob_table *table, enum ob_head *head)
{
    int code = transact(store, table, mend_front, head);
    if (code == OUTBOX_OK && *head == OB_HEAD_REMADE) {
        store->durable_id[table->lane] = 0; /* claimed for the ids of another time */
        store->wrote_unsynced = true;
    }
    return code;
}

/* ---- Rows beside the order ------------------------------------------------------------------- */

/* The head may have moved since it was looked at; then the next fetch finds the rows again. */
static int check_again(struct ob_table *table, struct ob_ledger *ledger)
{
    struct ob_lowest lowest;
    int code = ob_table_lowest(table, &lowest);
    if (code == OUTBOX_OK && !lowest.is_known)
        return ob_error_set(table->error, OUTBOX_BUSY, "the head of the outbox has moved");
    *ledger = *table->head;
    return code;
}

static int mend_beyond(struct ob_store *store, struct ob_table *table, void *context,
                       struct ob_ledger *ledger)
{
    (void)context;
    int code = check_again(table, ledger);
    if (code != OUTBOX_OK)
        return code;
    return bury_beside(store, table, OUTBOX_ID_MAX + 1, INT64_MAX, OB_UNFIT_ID, ledger);
}

int ob_head_bury_beyond(struct ob_store *store, struct ob_table *table)
{
    return transact(store, table, mend_beyond, NULL);
}

struct passed {
    const struct ob_window *window;
    uint32_t count;
};

/* Between two neighbours of the window, and between the tombstone and the first entry, there must
 * be no row. */
static int mend_late(struct ob_store *store, struct ob_table *table, void *context,
                     struct ob_ledger *ledger)
{
    const struct passed *passed = context;
    int code = check_again(table, ledger);
    int64_t from = table->head->id + 1;
    for (uint32_t i = 0; i < passed->count && code == OUTBOX_OK; i++) {
        int64_t id = ob_window_at(passed->window, i)->id;
        if (from < id)
            code = bury_beside(store, table, from, id - 1, OB_UNFIT_LATE, ledger);
        from = id + 1;
    }
    return code;
}

int ob_head_bury_late(struct ob_store *store, struct ob_table *table,
                      const struct ob_window *window, uint32_t count)
{
    struct passed passed = {window, count};
    return transact(store, table, mend_late, &passed);
}
