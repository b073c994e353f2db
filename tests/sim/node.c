/* SPDX-License-Identifier: MIT
 *
 * node.c - the forwarder's process: opens the database, makes a forwarder, steps it when it wants
 * to be called or is woken, and closes it.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* A step may wait some 20 ms for a lock, more than once; a close for a second. */
enum { RETRY_US = 200000, STEP_MOST_US = 100000, CLOSE_MOST_US = 1200000, CANARY = 0x5a };

static uint32_t now_ms(void *context)
{
    const struct sim *sim = context;
    return sim->settings.clock_start + (uint32_t)(sim->device.now_us / 1000);
}

static uint32_t dice(void *context)
{
    struct sim *sim = context;
    return sim_choose(&sim->choices, TAG_PORT, 1u << 31);
}

outbox_port node_port(struct sim *sim)
{
    return (outbox_port){.version = 1, .context = sim, .now_ms = now_ms, .random = dice};
}

void node_wake(struct sim *sim, uint64_t at)
{
    if (at < sim->node.due)
        sim->node.due = at;
}

void node_committed(struct sim *sim, const int64_t durable[OUTBOX_LANES])
{
    struct node *node = &sim->node;
    node->is_told = true;
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (durable[i] > node->durable[i])
            node->durable[i] = durable[i];
    node_wake(sim, sim->device.now_us + 100);
}

static sqlite3 *open_database(struct sim *sim)
{
    sqlite3 *db = NULL;
    if (sim->profile->one_connection)
        return sim->writers[0].db;
    if (sqlite3_open_v2("app.db", &db, SQLITE_OPEN_READWRITE, device_vfs_name(PROCESS_FORWARDER)) ==
        SQLITE_OK)
        return db;
    (void)sqlite3_close(db);
    return NULL;
}

static bool node_open(struct sim *sim)
{
    static outbox_port port;
    struct node *node = &sim->node;
    port = node_port(sim);
    if (!sim->writers[0].box) /* the tables may not be there yet */
        return false;
    if (sim->profile->one_connection && sim->writers[0].transaction)
        return false; /* not inside the application's transaction */
    node->db = open_database(sim);
    if (!node->db)
        return false;
    node->size = outbox_forwarder_size(&sim->settings.forwarder);
    node->memory = malloc(node->size + 64);
    if (node->size == 0 || !node->memory)
        abort();
    memset(node->memory, CANARY, node->size + 64);
    char sentence[200] = "";
    int code = outbox_forwarder_init(node->memory, node->size, node->db, &sim->link.base, &port,
                                     &sim->settings.forwarder, &node->forwarder, sentence,
                                     sizeof sentence);
    oracle_code(sim, "init", code);
    trace_event(sim, "init", (uint64_t)-code, 0);
    if (code == OUTBOX_OK) {
        node->starts++;
        node->changes = -1;
        ledger_look(sim, node->db);
        sim->link.fruitless = 0; /* it knows nothing of former attempts */
        turns_begin(sim);
        rest_begin(sim);
        tell(sim, "the forwarder starts");
        return true;
    }
    tell(sim, "the forwarder cannot start: %s", sentence);
    node_close(sim);
    return false;
}

static void check_canary(struct sim *sim)
{
    const unsigned char *end = (const unsigned char *)sim->node.memory + sim->node.size;
    for (int i = 0; i < 64; i++)
        if (end[i] != CANARY)
            breaks(sim, BOUNDED_MEMORY, "the forwarder wrote behind its memory");
}

/* SQLite itself waits for up to ten seconds where a lock is refused that nobody holds. */
static void check_time(struct sim *sim, const char *call, uint64_t began, uint64_t injected,
                       uint64_t most)
{
    uint64_t took = sim->device.now_us - began;
    if (took > most && sim->nemesis.injected == injected)
        breaks(sim, ISOLATION, "a %s took %u ms", call, (unsigned)(took / 1000));
}

void node_close(struct sim *sim)
{
    struct node *node = &sim->node;
    uint64_t began = sim->device.now_us, injected = sim->nemesis.injected;
    outbox_forwarder_close(node->forwarder);
    check_time(sim, "close", began, injected, CLOSE_MOST_US);
    node->forwarder = NULL;
    link_reset(sim);
    ledger_look(sim, node->db);
    if (node->memory)
        check_canary(sim);
    free(node->memory);
    node->memory = NULL;
    if (node->db && !sim->profile->one_connection && sqlite3_close(node->db) != SQLITE_OK)
        breaks(sim, BOUNDED_MEMORY, "the forwarder's connection does not close");
    node->db = NULL;
    memset(node->durable, 0, sizeof node->durable);
    node->is_told = false;
}

void node_step(struct sim *sim)
{
    struct node *node = &sim->node;
    uint32_t next_ms = 0;
    node->due = NEVER;
    if (!node->forwarder && !node_open(sim)) {
        node->due = sim->device.now_us + RETRY_US;
        return;
    }
    if (node->is_told)
        outbox_forwarder_committed(node->forwarder, node->durable);
    node->is_told = false;
    uint64_t began = sim->device.now_us, injected = sim->nemesis.injected;
    node->step_at = began;
    int code = outbox_forwarder_step(node->forwarder, &next_ms);
    check_time(sim, "step", began, injected, STEP_MOST_US);
    trace_event(sim, "step", (uint64_t)-code, next_ms);
    if (sim->device.powered && sim->device.is_alive[PROCESS_FORWARDER])
        oracle_after_step(sim, code, next_ms);
    uint64_t wait = (uint64_t)next_ms * 1000 + 50;
    if (sim->device.now_us < sim->nemesis.late_until)
        wait += sim_choose(&sim->choices, TAG_TIME, 3000000);
    node_wake(sim, sim->device.now_us + wait);
    const struct link *link = &sim->link;
    if (link->down_first != link->down_end && !link->is_stalled)
        node_wake(sim, link->down[link->down_first % QUEUE].due + 10);
}
