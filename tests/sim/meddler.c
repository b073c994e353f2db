/* SPDX-License-Identifier: MIT
 *
 * meddler.c - somebody else works on the outbox, which nobody should and somebody will.
 *
 * Either the tombstone is deleted by hand, in some runs while no forwarder is alive: a new epoch
 * must begin, for good. Or a second forwarder sends for a moment, while the first one has events in
 * flight: the lock of a port can fail, on a network file system above all. Then events may be sent
 * twice, and nothing else may happen. In one run it is the one or the other.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { EVENTS_MAX = 8, STEPS = 40 };

/* ---- A link to a broker that takes everything at once ---------------------------------------- */

struct second_link {
    outbox_link base;
    struct sim *sim;
    sqlite3 *db;
    struct talk talk;
    bool is_opening;
    uint32_t tokens[EVENTS_MAX];
    unsigned sent, acked, most;
};

static outbox_link_result on_open(outbox_link *base)
{
    struct second_link *link = (struct second_link *)base;
    link->talk = (struct talk){.connection = ++link->sim->connections, .db = link->db};
    link->is_opening = true;
    link->acked = link->sent;
    return OUTBOX_LINK_OK;
}

static outbox_link_result on_publish(outbox_link *base, uint32_t token,
                                     const outbox_message *message)
{
    struct second_link *link = (struct second_link *)base;
    struct sim *sim = link->sim;
    if (!sim->device.powered || !sim->device.is_alive[PROCESS_FORWARDER])
        return OUTBOX_LINK_DOWN;
    if (link->sent == link->most)
        return OUTBOX_LINK_AGAIN;
    uint32_t event = oracle_published(sim, &link->talk, message);
    if (event == 0)
        return OUTBOX_LINK_DOWN;
    tell(sim, "the second forwarder sends " EVENT, EVENT_OF(model_event(&sim->model, event)));
    oracle_accepted(sim, &link->talk, event);
    link->tokens[link->sent++] = token;
    return OUTBOX_LINK_OK;
}

static outbox_link_result on_poll(outbox_link *base, outbox_link_event *event)
{
    struct second_link *link = (struct second_link *)base;
    if (link->is_opening)
        *event = (outbox_link_event){
            .kind = OUTBOX_LINK_OPENED, .receive_maximum = 65535, .maximum_qos = 1, .protocol = 5};
    else if (link->acked < link->sent)
        *event =
            (outbox_link_event){.kind = OUTBOX_LINK_ACKED, .token = link->tokens[link->acked++]};
    else
        return OUTBOX_LINK_AGAIN;
    link->is_opening = false;
    return OUTBOX_LINK_OK;
}

static void on_close(outbox_link *base)
{
    struct second_link *link = (struct second_link *)base;
    link->acked = link->sent;
}

/* It lives for a moment, in which there is nothing to ask. */
static outbox_link_result on_probe(outbox_link *base)
{
    (void)base;
    return OUTBOX_LINK_AGAIN;
}

/* ---- A second forwarder ---------------------------------------------------------------------- */

static void serve(struct sim *sim, outbox_forwarder *forwarder)
{
    uint32_t next_ms;
    for (int step = 0; step < STEPS && sim->device.powered; step++) {
        if (!sim->device.is_alive[PROCESS_FORWARDER])
            return;
        int code = outbox_forwarder_step(forwarder, &next_ms);
        trace_event(sim, "second", (uint64_t)-code, next_ms);
        oracle_code(sim, "step", code);
    }
}

static void forward(struct sim *sim, sqlite3 *db)
{
    static const outbox_link_methods methods = {.version = 1,
                                                .open = on_open,
                                                .publish = on_publish,
                                                .poll = on_poll,
                                                .close = on_close,
                                                .probe = on_probe};
    struct second_link link = {.base = {&methods},
                               .sim = sim,
                               .db = db,
                               .most = 1 + sim_choose(&sim->choices, TAG_NEMESIS, EVENTS_MAX)};
    outbox_port port = node_port(sim);
    outbox_forwarder_config config = sim->settings.forwarder;
    config.settle_batch = 1; /* it has no time */
    outbox_forwarder *forwarder = NULL;
    size_t size = outbox_forwarder_size(&config);
    void *memory = malloc(size);
    if (!memory)
        abort();
    int code =
        outbox_forwarder_init(memory, size, db, &link.base, &port, &config, &forwarder, NULL, 0);
    oracle_code(sim, "init", code);
    if (code == OUTBOX_OK)
        serve(sim, forwarder);
    outbox_forwarder_close(forwarder);
    ledger_look(sim, db);
    free(memory);
}

/* ---- A hand ---------------------------------------------------------------------------------- */

/* Only where there are events: else their ids would begin anew as well, and the model knows an
 * event by its id. */
static void delete_tombstone(struct sim *sim, sqlite3 *db)
{
    bool is_urgent = sim_chance(&sim->choices, TAG_LANE, sim->settings.urgent_per_mille);
    outbox_lane lane = is_urgent ? OUTBOX_URGENT : OUTBOX_NORMAL;
    char sql[128];
    if (sim->settings.kills_forwarder) {
        tell(sim, "somebody kills the forwarder");
        device_kill(&sim->device, PROCESS_FORWARDER);
    }
    sqlite3_snprintf(sizeof sql, sql,
                     "DELETE FROM %s WHERE ledger IS NOT NULL AND (SELECT count(*) FROM %s) > 1",
                     lane_table(lane), lane_table(lane));
    int result = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if ((result & 0xff) == SQLITE_BUSY || (result == SQLITE_OK && sqlite3_changes(db) == 0))
        return;
    /* If that failed, it may happen all the same. */
    tell(sim, "somebody deletes the tombstone of the %s lane", lane_name(lane));
    sim->model.lanes[lane].epochs_to_come++;
    sim->model.lanes[lane].epoch_changes = true;
}

void meddle(struct sim *sim)
{
    sqlite3 *db = NULL;
    bool deletes = sim->settings.deletes_tombstone;
    enum process process = deletes ? PROCESS_APP : PROCESS_FORWARDER;
    if (!sim->writers[0].box || !sim->device.is_alive[process])
        return; /* the tables may not be there yet */
    if (sqlite3_open_v2("app.db", &db, SQLITE_OPEN_READWRITE, device_vfs_name(process)) ==
        SQLITE_OK) {
        if (!deletes)
            forward(sim, db);
        else if (sqlite3_exec(db, "PRAGMA synchronous = EXTRA", NULL, NULL, NULL) == SQLITE_OK)
            delete_tombstone(sim, db);
    }
    if (sqlite3_close(db) != SQLITE_OK)
        breaks(sim, BOUNDED_MEMORY, "the meddler's connection does not close");
}
