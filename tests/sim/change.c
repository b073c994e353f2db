/* SPDX-License-Identifier: MIT
 *
 * change.c - a captured table, `thing`: what the application does to its rows must arrive as
 * changes, and a recipient that applies them must end with the same rows.
 *
 * Each statement writes a number that no other one does, so that every change can be told from all
 * others. What the triggers must write is worked out beforehand, from the rows that are there.
 */
#include "sim.h"

#include <outbox/capture.h>

#include <inttypes.h>
#include <string.h>

enum { CHANGES = KEYS + 1 }; /* of one statement */

static uint32_t pick(struct sim *sim, uint32_t bound)
{
    return sim_choose(&sim->choices, TAG_CHANGE, bound);
}

/* ---- The table ------------------------------------------------------------------------------- */

/* As this connection sees it, without any fault; `otherwise` where it cannot be read. */
static int64_t look_up(struct sim *sim, sqlite3 *db, const char *sql, int64_t argument,
                       int64_t otherwise)
{
    struct hush hush = ledger_hush(sim);
    sqlite3_stmt *s = NULL;
    int64_t value = otherwise;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        (void)sqlite3_bind_int64(s, 1, argument);
        int result = sqlite3_step(s);
        if (result == SQLITE_ROW)
            value = sqlite3_column_int64(s, 0);
        else if (result == SQLITE_DONE)
            value = 0;
    }
    (void)sqlite3_finalize(s);
    ledger_unhush(sim, &hush);
    return value;
}

/* 0: no such row, -1: unknown. */
static int64_t value_of(struct sim *sim, sqlite3 *db, uint32_t key)
{
    return look_up(sim, db, "SELECT v FROM thing WHERE k = ?1", key, -1);
}

static bool is_captured(struct sim *sim, sqlite3 *db)
{
    static const char sql[] = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"
                              " AND tbl_name = 'thing'";
    return look_up(sim, db, sql, 0, 0) > 0;
}

void change_begin(struct sim *sim, struct writer *writer)
{
    const outbox_capture capture = {
        .table = "thing", .topic = "c/{k}", .lane = sim->settings.changes_lane};
    if (sim->settings.changes_per_mille == 0 || !writer->box || is_captured(sim, writer->db))
        return;
    int code = outbox_capture_add(writer->box, &capture);
    oracle_code(sim, "capture", code);
    trace_event(sim, "capture", writer->index, (uint64_t)-code);
    tell(sim, "writer %u begins to capture: %d", writer->index, code);
}

/* ---- A statement ----------------------------------------------------------------------------- */

struct plan {
    char sql[160];
    struct change changes[CHANGES];
    uint32_t count;
};

static void expect(struct plan *plan, struct change change)
{
    plan->changes[plan->count++] = change;
}

static void plan_key(struct plan *plan, uint32_t from, uint32_t to, int64_t was, int64_t value)
{
    sqlite3_snprintf(sizeof plan->sql, plan->sql,
                     "UPDATE thing SET k = %u, v = %" PRId64 " WHERE k = %u", to, value, from);
    expect(plan, (struct change){'D', from, to, value, was});
    expect(plan, (struct change){'C', to, from, value, was});
}

static bool plan_all(struct sim *sim, sqlite3 *db, struct plan *plan, uint32_t most, int64_t value)
{
    sqlite3_snprintf(sizeof plan->sql, plan->sql, "UPDATE thing SET v = %" PRId64 " WHERE k <= %u",
                     value, most);
    for (uint32_t key = 1; key <= most; key++) {
        int64_t was = value_of(sim, db, key);
        if (was < 0)
            return false;
        if (was > 0)
            expect(plan, (struct change){'u', key, 0, value, was});
    }
    return true;
}

/* Works out what one statement will do. False: it cannot be known. */
static bool make_plan(struct sim *sim, sqlite3 *db, struct plan *plan)
{
    enum { UPSERT, REPLACE, DELETE, NEW_KEY, ALL, KINDS };
    uint32_t kind = pick(sim, KINDS), key = 1 + pick(sim, KEYS), to = 1 + pick(sim, KEYS);
    int64_t was = value_of(sim, db, key), value = ++sim->changes;
    *plan = (struct plan){.count = 0};
    if (was < 0)
        return false;
    if (kind == ALL)
        return plan_all(sim, db, plan, key, value);
    if (kind == NEW_KEY && was > 0 && value_of(sim, db, to) == 0) {
        plan_key(plan, key, to, was, value);
    } else if (kind == DELETE) {
        sqlite3_snprintf(sizeof plan->sql, plan->sql, "DELETE FROM thing WHERE k = %u", key);
        if (was > 0)
            expect(plan, (struct change){'d', key, 0, 0, was});
    } else if (kind == REPLACE) {
        sqlite3_snprintf(sizeof plan->sql, plan->sql, "REPLACE INTO thing VALUES(%u, %" PRId64 ")",
                         key, value);
        if (was > 0)
            expect(plan, (struct change){'d', key, 0, 0, was});
        expect(plan, (struct change){'c', key, 0, value, 0});
    } else {
        sqlite3_snprintf(sizeof plan->sql, plan->sql,
                         "INSERT INTO thing VALUES(%u, %" PRId64 ")"
                         " ON CONFLICT(k) DO UPDATE SET v = excluded.v",
                         key, value);
        expect(plan, (struct change){was > 0 ? 'u' : 'c', key, 0, value, was});
    }
    return true;
}

void change_write(struct sim *sim, struct writer *writer, uint32_t transaction)
{
    outbox_lane lane = sim->settings.changes_lane;
    static const char *const largest[OUTBOX_LANES] = {
        [OUTBOX_NORMAL] = "SELECT max(id) FROM outbox_event",
        [OUTBOX_URGENT] = "SELECT max(id) FROM outbox_urgent"};
    struct plan plan;
    if (!is_captured(sim, writer->db))
        return;
    int64_t last = look_up(sim, writer->db, largest[lane], 0, -1);
    if (last < 0 || !make_plan(sim, writer->db, &plan))
        return;
    int result = sqlite3_exec(writer->db, plan.sql, NULL, NULL, NULL);
    trace_event(sim, plan.sql, writer->index, (uint64_t)result);
    if (result != SQLITE_OK)
        return; /* the statement is undone, or the transaction */
    for (uint32_t i = 0; i < plan.count; i++) {
        const struct model_event like = {.lane = lane,
                                         .body = BODY_CHANGE,
                                         .stream = STREAMS + plan.changes[i].key,
                                         .change = plan.changes[i]};
        app_stored(sim, model_add(&sim->model, transaction, &like), last + 1 + i);
    }
    tell(sim, "writer %u: %s, in transaction %u", writer->index, plan.sql, transaction);
    int64_t now = look_up(sim, writer->db, largest[lane], 0, -1);
    if (now >= 0 && now != last + plan.count)
        breaks(sim, ATOMICITY, "a statement wrote %" PRId64 " changes, not %u", now - last,
               plan.count);
}

/* ---- What is stored -------------------------------------------------------------------------- */

/* The values as change.h lays them out; gives how many. */
static int lay_out(const struct change *c, int64_t values[4])
{
    bool has_two = c->letter == 'u' || c->letter == 'D' || c->letter == 'C';
    bool begins_old = c->letter == 'd' || c->letter == 'D';
    uint32_t other = c->letter == 'u' ? c->key : c->other;
    values[0] = c->key;
    values[1] = begins_old ? c->was : c->value;
    values[2] = other;
    values[3] = begins_old ? c->value : c->was;
    return has_two ? 4 : 2;
}

static int64_t digits(int64_t number)
{
    int64_t count = 1;
    for (; number > 9; number /= 10)
        count++;
    return count;
}

int64_t change_bytes(const struct change *change)
{
    int64_t values[4], bytes = 2; /* the number of its shape, its letter */
    int count = lay_out(change, values);
    for (int i = 0; i < count; i++)
        bytes += digits(values[i]);
    return bytes;
}

bool change_is_stored(const struct model_event *e, sqlite3 *db)
{
    int64_t values[4];
    int count = lay_out(&e->change, values);
    char sql[160];
    sqlite3_stmt *s = NULL;
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT type = '%c' AND typeof(payload) = 'integer', v1, v2, v3, v4 FROM %s"
                     " WHERE id = %lld",
                     e->change.letter, lane_table(e->lane), (long long)e->id);
    bool same = sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK &&
                sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int(s, 0);
    for (int i = 0; i < 4 && same; i++)
        same = i < count ? sqlite3_column_int64(s, i + 1) == values[i]
                         : sqlite3_column_type(s, i + 1) == SQLITE_NULL;
    (void)sqlite3_finalize(s);
    return same;
}

/* ---- What is sent ---------------------------------------------------------------------------- */

static void put_row(char *text, size_t size, const char *name, uint32_t key, int64_t value)
{
    size_t used = strlen(text);
    if (key)
        snprintf(text + used, size - used, ",\"%s\":{\"k\":%u,\"v\":%" PRId64 "}", name, key,
                 value);
    else
        snprintf(text + used, size - used, ",\"%s\":null", name);
}

/* The document up to the fingerprint of the columns. */
static void write_front(const struct change *c, char *text, size_t size)
{
    bool is_gone = c->letter == 'd' || c->letter == 'D';
    char op = c->letter == 'D' ? 'd' : c->letter == 'C' ? 'c' : c->letter;
    snprintf(text, size, "{\"op\":\"%c\"", op);
    put_row(text, size, "before", is_gone || op == 'u' ? c->key : 0, c->was);
    put_row(text, size, "after", is_gone ? 0 : c->key, c->value);
    size_t used = strlen(text);
    if (c->other)
        snprintf(text + used, size - used, ",\"%s\":{\"k\":%u}", is_gone ? "key_to" : "key_from",
                 c->other);
    used = strlen(text);
    snprintf(text + used, size - used,
             ",\"source\":{\"device\":\"sim\",\"table\":\"thing\",\"schema\":\"");
}

/* The last event of its transaction in its lane. */
static int64_t last_of(const struct model *model, const struct model_event *e)
{
    int64_t last = e->id;
    uint32_t event = model->transactions[e->transaction - 1].first;
    for (; event; event = model->events[event - 1].next_in_transaction) {
        const struct model_event *other = &model->events[event - 1];
        if (other->lane == e->lane && other->fate == e->fate && other->id > last)
            last = other->id;
    }
    return last;
}

/* No transaction is parted: the point it is told to reach to is behind all of its events. */
static bool is_group(const struct model *model, const struct model_event *e, const char *text)
{
    long long id = 0, index = -1;
    char is_last[6] = "";
    if (strcmp(text, "null}") == 0)
        return true;
    return sscanf(text, "{\"id\":%lld,\"index\":%lld,\"last\":%5[a-z]}}", &id, &index, is_last) ==
               3 &&
           id >= last_of(model, e) && index >= 0 &&
           strcmp(is_last, id == e->id ? "true" : "false") == 0;
}

bool change_has_body(const struct model *model, const struct model_event *e, const void *data,
                     size_t size)
{
    char front[256], text[512];
    int end = 0;
    if (size >= sizeof text)
        return false;
    memcpy(text, data, size);
    text[size] = '\0';
    write_front(&e->change, front, sizeof front);
    size_t length = strlen(front);
    if (strncmp(text, front, length) != 0 || strlen(text) != size)
        return false;
    (void)sscanf(text + length,
                 "%*16[0-9a-f]\",\"snapshot\":\"false\"},\"ts_ms\":%*[-0-9],\"transaction\":%n",
                 &end);
    return end > 0 && is_group(model, e, text + length + end);
}

/* ---- The recipient --------------------------------------------------------------------------- */

void change_applied(struct sim *sim, const struct model_event *e)
{
    bool is_gone = e->change.letter == 'd' || e->change.letter == 'D';
    sim->recipient.things[e->change.key] = is_gone ? 0 : e->change.value;
}

static const struct model_event *last_change(struct sim *sim, uint32_t key)
{
    const struct model_lane *lane = &sim->model.lanes[sim->settings.changes_lane];
    for (uint32_t order = lane->order_count; order > 0; order--) {
        const struct model_event *e = model_at(&sim->model, lane, order);
        if (e->body == BODY_CHANGE && e->change.key == key)
            return e;
    }
    return NULL;
}

/* A row is what its last change made of it; where that was dropped, the recipient was told so. */
void change_at_end(struct sim *sim, sqlite3 *db)
{
    for (uint32_t key = 1; key <= KEYS && sim->settings.changes_per_mille > 0; key++) {
        const struct model_event *last = last_change(sim, key);
        bool is_gone = !last || last->change.letter == 'd' || last->change.letter == 'D';
        int64_t expected = is_gone ? 0 : last->change.value, is = value_of(sim, db, key);
        if (is != expected)
            breaks(sim, ATOMICITY, "row %u has %" PRId64 ", and its last change made it %" PRId64,
                   key, is, expected);
        if (last && last->applied_in > 0 && sim->recipient.things[key] != expected)
            breaks(sim, NO_LOSS, "row %u is %" PRId64 " at the recipient, not %" PRId64, key,
                   sim->recipient.things[key], expected);
    }
}
