/* SPDX-License-Identifier: MIT
 *
 * nemesis.c - everything that goes wrong: each act begins one trouble, which ends by itself.
 */
#include "sim.h"

#include <assert.h>

static uint32_t pick(struct sim *sim, uint32_t bound)
{
    return sim_choose(&sim->choices, TAG_NEMESIS, bound);
}

static uint64_t some_time(struct sim *sim, uint32_t most_ms)
{
    return sim->device.now_us + 1000 * (uint64_t)(1 + pick(sim, most_ms));
}

/* ---- Failing calls --------------------------------------------------------------------------- */

static void end_processes(struct sim *sim, enum act act)
{
    static const char *const words[] = {
        [ACT_CUT_POWER] = "the power is cut",
        [ACT_KILL_ALL] = "both processes are killed",
        [ACT_KILL_APP] = "the application is killed",
        [ACT_KILL_FORWARDER] = "the forwarder is killed",
    };
    tell(sim, "%s", words[act]);
    if (act == ACT_CUT_POWER)
        device_cut_power(&sim->device);
    if (act == ACT_KILL_ALL || act == ACT_KILL_APP)
        device_kill(&sim->device, PROCESS_APP);
    if (act == ACT_KILL_ALL || act == ACT_KILL_FORWARDER)
        device_kill(&sim->device, PROCESS_FORWARDER);
}

static int fail_call(struct sim *sim, enum vfs_call call, const char *file)
{
    struct nemesis *nemesis = &sim->nemesis;
    if (nemesis->countdown == 0 || call != nemesis->call)
        return SQLITE_OK;
    if (nemesis->countdown > 1) {
        nemesis->countdown--;
        return SQLITE_OK;
    }
    if (!nemesis->persists || sim->device.now_us > nemesis->until)
        nemesis->countdown = 0;
    if (nemesis->persists && nemesis->countdown == 0)
        return SQLITE_OK;
    nemesis->injected++;
    nemesis->sync_failed = nemesis->sync_failed || call == CALL_SYNC;
    tell(sim, "a call fails with %d on %s", nemesis->failure, file);
    return nemesis->failure;
}

/* In the small scope every place is tried: a cut before the call, or behind it. */
static void cut_by_choice(struct sim *sim)
{
    if (sim->cuts_left == 0 || (sim->cuts > 0 && !sim->recovers))
        return;
    if (sim_choose(&sim->choices, TAG_POWER, 2)) {
        sim->cuts_left--;
        end_processes(sim, ACT_CUT_POWER);
    }
}

int nemesis_before_call(void *context, enum vfs_call call, const char *file)
{
    struct sim *sim = context;
    struct nemesis *nemesis = &sim->nemesis;
    bool changes =
        call == CALL_WRITE || call == CALL_TRUNCATE || call == CALL_SYNC || call == CALL_DELETE;
    if (sim->profile->is_small_scope && changes)
        cut_by_choice(sim);
    if (changes && nemesis->fatal_countdown > 0 && --nemesis->fatal_countdown == 0) {
        if (call == CALL_SYNC && nemesis->fatal != ACT_CUT_POWER)
            nemesis->sync_failed = true; /* it does not happen */
        if (nemesis->fatal == ACT_CUT_POWER && nemesis->fatal_after)
            sim->device.cuts_after = true;
        else
            end_processes(sim, nemesis->fatal);
        return SQLITE_OK;
    }
    return fail_call(sim, call, file);
}

static void arm_failure(struct sim *sim)
{
    static const struct {
        enum vfs_call call;
        int failure;
    } kinds[] = {
        {CALL_WRITE, SQLITE_IOERR_WRITE}, {CALL_SYNC, SQLITE_IOERR_FSYNC},
        {CALL_READ, SQLITE_IOERR_READ},   {CALL_TRUNCATE, SQLITE_IOERR_TRUNCATE},
        {CALL_OPEN, SQLITE_CANTOPEN},     {CALL_DELETE, SQLITE_IOERR_DELETE},
        {CALL_WRITE, SQLITE_FULL},
    };
    uint32_t kind = pick(sim, sizeof kinds / sizeof kinds[0]);
    struct nemesis *nemesis = &sim->nemesis;
    nemesis->call = kinds[kind].call;
    nemesis->failure = kinds[kind].failure;
    nemesis->countdown = 1 + (int64_t)pick(sim, 40);
    nemesis->persists = pick(sim, 4) == 3;
    nemesis->until = some_time(sim, 2000);
}

static void arm_busy(struct sim *sim)
{
    struct nemesis *nemesis = &sim->nemesis;
    nemesis->call = CALL_LOCK;
    nemesis->failure = SQLITE_BUSY;
    nemesis->countdown = 1 + (int64_t)pick(sim, 20);
    nemesis->persists = pick(sim, 2) == 1;
    nemesis->until = some_time(sim, 1000);
}

/* ---- A long reader --------------------------------------------------------------------------- */

void nemesis_stop_reader(struct sim *sim)
{
    struct nemesis *nemesis = &sim->nemesis;
    (void)sqlite3_finalize(nemesis->reading);
    if (nemesis->reader && sqlite3_close(nemesis->reader) != SQLITE_OK)
        breaks(sim, BOUNDED_MEMORY, "the reader's connection does not close");
    nemesis->reader = NULL;
    nemesis->reading = NULL;
}

static void start_reader(struct sim *sim)
{
    struct nemesis *nemesis = &sim->nemesis;
    if (nemesis->reader || !sim->device.is_alive[PROCESS_APP])
        return;
    nemesis->reader_until = some_time(sim, 4000);
    if (sqlite3_open_v2("app.db", &nemesis->reader, SQLITE_OPEN_READWRITE,
                        device_vfs_name(PROCESS_APP)) != SQLITE_OK ||
        sqlite3_prepare_v2(nemesis->reader, "SELECT * FROM ledger, (SELECT 1 UNION SELECT 2)", -1,
                           &nemesis->reading, NULL) != SQLITE_OK ||
        sqlite3_step(nemesis->reading) != SQLITE_ROW)
        nemesis_stop_reader(sim);
    else
        tell(sim, "a reader stays in its transaction");
}

/* ---- Acts ------------------------------------------------------------------------------------ */

static void arm_end(struct sim *sim, enum act act)
{
    if (sim->profile->one_connection && act != ACT_CUT_POWER)
        act = ACT_KILL_ALL; /* there is one process */
    sim->nemesis.fatal = act;
    sim->nemesis.fatal_after = pick(sim, 2) == 1;
    sim->nemesis.fatal_countdown = 1 + (int64_t)pick(sim, 60);
}

static const struct {
    enum act act;
    size_t until; /* offset in struct link */
    uint32_t most_ms;
    const char *words;
} spells[] = {
    {ACT_BROKER_DOWN, offsetof(struct link, down_until), 8000, "the broker refuses connections"},
    {ACT_BROKER_HANGS, offsetof(struct link, hang_until), 8000, "the broker does not answer"},
    {ACT_REFUSE_EVENTS, offsetof(struct link, refuse_until), 3000,
     "the broker refuses some events"},
    {ACT_HOLD_ACKS, offsetof(struct link, hold_until), 5000, "PUBACKs are late"},
    {ACT_DROP_ACKS, offsetof(struct link, drop_until), 2000, "PUBACKs get lost"},
    {ACT_STRAY_ACKS, offsetof(struct link, stray_until), 5000,
     "PUBACKs come twice, or for nothing"},
    {ACT_SMALL_PACKETS, offsetof(struct link, small_until), 5000,
     "the broker takes small packets only"},
    {ACT_SMALL_WINDOW, offsetof(struct link, window_until), 5000, "Receive Maximum is 1"},
    {ACT_NO_QOS, offsetof(struct link, qos_until), 3000, "Maximum QoS is 0"},
    {ACT_NO_ROOM, offsetof(struct link, room_until), 3000, "the client has no room"},
};

static bool begin_spell(struct sim *sim, enum act act)
{
    for (size_t i = 0; i < sizeof spells / sizeof spells[0]; i++) {
        if (spells[i].act != act)
            continue;
        uint64_t *until = (uint64_t *)(void *)((char *)&sim->link + spells[i].until);
        *until = some_time(sim, spells[i].most_ms);
        tell(sim, "%s", spells[i].words);
        return true;
    }
    return false;
}

/* By a restart, or with a DISCONNECT that has a reason. */
static void disconnect(struct sim *sim)
{
    static const int reasons[] = {0, 0x8b, 0x8d, 0x8e, 0x93, 0x95};
    int reason = reasons[pick(sim, sizeof reasons / sizeof reasons[0])];
    link_hang_up(sim, reason, "the broker restarts");
}

/* Somewhat wrong; or to 1970, as a device without a battery, and right again. */
static void set_clock(struct sim *sim)
{
    int64_t hours = (int64_t)pick(sim, 2000) - 1000;
    age_clock_jumps(sim);
    if (!sim->settings.starts_in_1970 || pick(sim, 2) == 0)
        sim->device.wall_offset_ms += hours * 3600000;
    else if (sim->device.wall_offset_ms < WALL_1970_MS / 2)
        sim->device.wall_offset_ms = 0;
    else
        sim->device.wall_offset_ms = WALL_1970_MS;
    tell(sim, "somebody sets the clock to %lld", (long long)device_wall_ms(&sim->device));
}

static void begin(struct sim *sim, enum act act)
{
    struct nemesis *nemesis = &sim->nemesis;
    switch (act) {
    case ACT_CUT_POWER:
    case ACT_KILL_ALL:
    case ACT_KILL_APP:
    case ACT_KILL_FORWARDER:
        arm_end(sim, act);
        break;
    case ACT_CUT_LINK:
        link_lose(sim, "the network is gone");
        break;
    case ACT_STALL_LINK:
        link_stall(sim);
        break;
    case ACT_BROKER_RESTARTS:
        disconnect(sim);
        sim->link.down_until = some_time(sim, 1000);
        break;
    case ACT_IO_ERROR:
        arm_failure(sim);
        break;
    case ACT_BUSY:
        arm_busy(sim);
        break;
    case ACT_DISK_FULL:
        nemesis->full_until = some_time(sim, 3000);
        sim->device.capacity = disk_used(&sim->device.disk) + pick(sim, 30000);
        tell(sim, "the disk is nearly full");
        break;
    case ACT_WALL_JUMP:
        set_clock(sim);
        break;
    case ACT_LONG_READER:
        start_reader(sim);
        break;
    case ACT_LATE_STEPS:
        nemesis->late_until = some_time(sim, 5000);
        break;
    case ACT_GATE:
        rest_set_gate(sim, (outbox_gate_state)pick(sim, 3));
        break;
    case ACT_MEDDLE:
        sim->was_meddled_with = true;
        meddle(sim);
        break;
    default:
        (void)begin_spell(sim, act);
        break;
    }
}

static enum act choose_act(struct sim *sim)
{
    unsigned sum = 0;
    for (int act = 0; act < ACTS; act++)
        sum += sim->settings.acts[act];
    uint32_t at = sum > 0 ? pick(sim, sum) : 0;
    for (int act = 0; act < ACTS; act++) {
        if (at < sim->settings.acts[act])
            return (enum act)act;
        at -= sim->settings.acts[act];
    }
    return ACTS;
}

static void end_spells(struct sim *sim)
{
    struct nemesis *nemesis = &sim->nemesis;
    if (nemesis->reader && sim->device.now_us > nemesis->reader_until)
        nemesis_stop_reader(sim);
    if (sim->device.capacity && sim->device.now_us > nemesis->full_until)
        sim->device.capacity = 0;
}

void nemesis_step(struct sim *sim)
{
    uint32_t every_us = sim->profile->act_every_ms * 1000;
    end_spells(sim);
    sim_span_begin(&sim->choices);
    if (every_us > 0) {
        enum act act = choose_act(sim);
        trace_event(sim, "act", (uint64_t)act, 0);
        if (act != ACTS)
            begin(sim, act);
    } else {
        every_us = 1000000;
    }
    sim->nemesis.due = sim->device.now_us + every_us / 4 + pick(sim, every_us + every_us / 2);
    sim_span_end(&sim->choices);
}

void nemesis_heal(struct sim *sim)
{
    struct nemesis *nemesis = &sim->nemesis;
    nemesis_stop_reader(sim);
    nemesis->countdown = nemesis->fatal_countdown = 0;
    nemesis->late_until = 0;
    sim->device.capacity = 0;
    if (sim->node.gate != OUTBOX_GATE_OPEN)
        rest_set_gate(sim, OUTBOX_GATE_OPEN);
    link_heal(sim);
}
