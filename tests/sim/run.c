/* SPDX-License-Identifier: MIT
 *
 * run.c - one run: the device starts, everything happens, then the troubles end and the outbox must
 * empty, and what is left is judged.
 *
 * The actor whose time comes first acts; among equals the order below decides. Whoever dies is
 * closed at once, and what it left is looked into when it is started again.
 */
#include "sim.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECOVERY_PAUSE_US = 50000,
    RECOVERY_ATTEMPTS = 300,
    QUIET_US = 13000000, /* an announcement that failed is tried again after ten seconds */
    FRAME = 4096 + 24,
    FRAMES_BESIDE = 60,     /* that one burst may add before a checkpoint can come */
    WRITTEN_MOST = 8 * 4096 /* bytes for each event, the settle of each alone */
};

/* ---- Death and recovery ---------------------------------------------------------------------- */

static void close_application(struct sim *sim)
{
    nemesis_stop_reader(sim);
    for (unsigned i = 0; i < WRITERS; i++)
        app_close(sim, &sim->writers[i]);
}

static enum damage choose_damage(struct sim *sim)
{
    static const enum damage small[] = {DAMAGE_NOTHING, DAMAGE_ALL, DAMAGE_EACH};
    if (sim->profile->is_small_scope)
        return small[sim_choose(&sim->choices, TAG_DAMAGE, 3)];
    /* Where the sync failed that ends a journal, the old header may come back over records of the
     * next transaction. SQLite has no defence against that, so the order of the writes is kept. */
    bool in_order =
        !sim->settings.may_sector_damage || (sim->nemesis.sync_failed && !sim->settings.is_wal);
    uint32_t kinds = in_order ? DAMAGE_SUFFIX + 1 : DAMAGES;
    sim->nemesis.sync_failed = false;
    return (enum damage)sim_choose(&sim->choices, TAG_DAMAGE, kinds);
}

static void start_again(struct sim *sim, enum recovery recovery, uint64_t pause_us)
{
    if (recovery > sim->recovery)
        sim->recovery = recovery;
    sim->recovery_attempts = 0;
    sim->recover_at = sim->device.now_us + pause_us;
}

static void power_on(struct sim *sim)
{
    static const char *const words[DAMAGES] = {
        [DAMAGE_NOTHING] = "all writes are kept",
        [DAMAGE_ALL] = "all unsynced writes are lost",
        [DAMAGE_SUFFIX] = "the last unsynced writes are lost",
        [DAMAGE_EACH] = "some unsynced writes are lost",
        [DAMAGE_SECTORS] = "some unsynced writes are lost or torn",
    };
    node_close(sim);
    close_application(sim);
    enum damage damage = choose_damage(sim);
    tell(sim, "the power comes back; %s", words[damage]);
    sim->cuts++;
    device_restart(&sim->device, &sim->choices, damage);
    sim->recovers = true;
    start_again(sim, AFTER_CUT, 0);
}

/* SQLite ends a commit in PERSIST and TRUNCATE by writing over the journal's header, and syncs
 * that. Whoever is killed between the two leaves a commit that others see and a cut can undo; and
 * if the next transaction has begun to write its journal over that one, a cut may keep some of its
 * records and bring the old header back, and SQLite then rolls half of the old commit back (seed
 * 21062 of tiny-port, one of 242,276 cuts). That is between SQLite and the disk, whatever the
 * tables. So the journal of the dead is written back first. */
static void write_journal_back(struct sim *sim)
{
    struct inode *journal = disk_find(&sim->device.disk, "app.db-journal");
    if (journal)
        disk_sync(&sim->device.disk, journal);
}

static void bury_the_dead(struct sim *sim)
{
    bool *alive = sim->device.is_alive;
    if (!sim->device.powered) {
        power_on(sim);
        return;
    }
    if (alive[PROCESS_APP] && alive[PROCESS_FORWARDER])
        return;
    sim->kills++;
    write_journal_back(sim);
    if (!alive[PROCESS_FORWARDER] || sim->profile->one_connection) {
        node_close(sim);
        device_revive(&sim->device, PROCESS_FORWARDER);
        sim->node.due = sim->device.now_us + sim_choose(&sim->choices, TAG_TIME, 1000000);
    }
    if (!alive[PROCESS_APP]) {
        close_application(sim);
        device_revive(&sim->device, PROCESS_APP);
        start_again(sim, AFTER_KILL, sim_choose(&sim->choices, TAG_TIME, 1000000));
    }
}

/* The application comes back, and asks its ledger what became of the transactions in doubt. */
static void recover(struct sim *sim)
{
    struct writer *writer = &sim->writers[0];
    bool opened = writer->db || app_open(sim, writer);
    if (opened && audit_resolve(sim, writer->db, sim->recovery == AFTER_CUT)) {
        sim->recovery = RECOVERED;
        sim->recovers = false;
        if (!sim->node.forwarder)
            sim->node.due = sim->device.now_us;
        return;
    }
    sim->recover_at = sim->device.now_us + RECOVERY_PAUSE_US;
    if (++sim->recovery_attempts > RECOVERY_ATTEMPTS)
        breaks(sim, RECOVERY, "the database could not be opened %d times", RECOVERY_ATTEMPTS);
}

/* ---- Whose turn it is ------------------------------------------------------------------------ */

static struct writer *next_writer(struct sim *sim)
{
    struct writer *first = &sim->writers[0];
    for (unsigned i = 1; i < sim->settings.writers; i++)
        if (sim->writers[i].due < first->due)
            first = &sim->writers[i];
    return first;
}

static void act_next(struct sim *sim)
{
    enum { WRITER, RECOVER, NODE, LINK, NEMESIS, ACTORS };
    struct writer *writer = next_writer(sim);
    bool chaos = sim->phase == PHASE_CHAOS;
    const uint64_t due[ACTORS] = {
        [WRITER] = chaos && sim->recovery == RECOVERED ? writer->due : NEVER,
        [RECOVER] = sim->recovery == RECOVERED ? NEVER : sim->recover_at,
        [NODE] = sim->node.due,
        [LINK] = link_due(sim),
        [NEMESIS] = chaos ? sim->nemesis.due : NEVER,
    };
    int first = 0;
    for (int i = 1; i < ACTORS; i++)
        if (due[i] < due[first])
            first = i;
    assert(due[first] != NEVER);
    if (due[first] > sim->device.now_us)
        sim->device.now_us = due[first];
    trace_event(sim, "turn", (uint64_t)first, 0);
    if (first == WRITER)
        app_step(sim, writer);
    else if (first == RECOVER)
        recover(sim);
    else if (first == NODE)
        node_step(sim);
    else if (first == LINK)
        link_step(sim);
    else
        nemesis_step(sim);
    bury_the_dead(sim);
}

/* ---- The phases ------------------------------------------------------------------------------ */

static void begin(struct sim *sim)
{
    sim->phase = PHASE_START;
    if (!wire_open(sim) || !recipient_open(sim))
        breaks(sim, CONTRACT, "the judge cannot be made");
    link_init(sim);
    model_init(&sim->model);
    if (!app_make_database(sim))
        breaks(sim, RECOVERY, "the database cannot be made");
    sim->device.before = nemesis_before_call;
    sim->device.context = sim;
    sim->device.disk.syncs_lie = (sim->settings.lies & TEETH_SYNC_LIES) != 0;
    sim->recovery = AFTER_KILL;
    sim->nemesis.due = sim->profile->act_every_ms ? 0 : NEVER;
    sim->phase = PHASE_CHAOS;
    while (sim->profile->is_small_scope && sim->recovery != RECOVERED)
        act_next(sim);
    sim->cuts_left = sim->profile->is_small_scope ? 2 : 0;
}

static void heal(struct sim *sim)
{
    tell(sim, "all troubles end");
    sim->phase = PHASE_HEAL;
    nemesis_heal(sim);
    while (sim->recovery != RECOVERED && sim->broken == NO_INVARIANT)
        act_next(sim);
    if (sim->broken != NO_INVARIANT)
        return;
    app_finish(sim);
    if (!sim->writers[0].db && !app_open(sim, &sim->writers[0]))
        breaks(sim, RECOVERY, "the application cannot connect any more");
}

/* What each event may take, above all the trial of one on which the broker hangs up. */
static uint64_t drain_us(const struct sim *sim)
{
    const struct poison *poison = &sim->settings.poison;
    uint64_t each_us = 100000 + 5 * sim->settings.latency_us, trial_us = 60000000;
    return model_unsettled(&sim->model) * (each_us + (poison->outlasts ? trial_us / 16 : 0));
}

static void drain(struct sim *sim)
{
    const struct model *model = &sim->model;
    uint64_t deadline = sim->device.now_us + 120000000 + drain_us(sim);
    sim->phase = PHASE_DRAIN;
    while (model_unsettled(model) > 0 && sim->broken == NO_INVARIANT &&
           sim->device.now_us < deadline)
        act_next(sim);
    if (model_unsettled(model) > 0)
        breaks(sim, DRAIN, "%u of %" PRIu64 " events are left", model_unsettled(model),
               model->fit + model->unfit);
}

/* I7: once it was quiet, the WAL is used again from its beginning. A checkpoint that met a reader
 * has moved a part, and the forwarder looks again when it has settled the next event: so there is
 * one. */
static void check_wal(struct sim *sim)
{
    bool stored = app_put_last(sim);
    drain(sim);
    uint64_t until = sim->device.now_us + QUIET_US;
    struct writer *writer = &sim->writers[0];
    uint64_t most = (sim->settings.forwarder.checkpoint_frames + FRAMES_BESIDE) * (uint64_t)FRAME;
    while (sim->device.now_us < until && sim->broken == NO_INVARIANT)
        act_next(sim);
    drops_at_end(sim);
    if (sim->settings.is_wal && stored && writer->db &&
        sqlite3_exec(writer->db, "INSERT OR REPLACE INTO business VALUES(0, 0)", NULL, NULL,
                     NULL) == SQLITE_OK &&
        sim->device.last_wal_end > most)
        breaks(sim, BOUNDED_DISK, "the WAL has %" PRIu64 " bytes", sim->device.last_wal_end);
}

/* In the small scope the power may go while they close. */
static void close_both(struct sim *sim)
{
    for (;;) {
        node_close(sim);
        close_application(sim);
        if (sim->device.powered)
            return;
        bury_the_dead(sim);
        heal(sim);
        drain(sim);
    }
}

/* Without trouble there is one connection, each event is sent once, and what the forwarder writes
 * is a few pages for each settle. */
static void check_calm_run(struct sim *sim)
{
    uint64_t written = sim->device.logged[PROCESS_FORWARDER];
    if (sim->link.opens != 1 || sim->link.publishes != sim->model.fit)
        breaks(sim, CALM,
               "%" PRIu64 " connections and %" PRIu64 " publishes for %" PRIu64 " events",
               sim->link.opens, sim->link.publishes, sim->model.fit);
    if (written > (sim->model.fit + sim->model.unfit + 4) * WRITTEN_MOST)
        breaks(sim, CALM, "%" PRIu64 " bytes were written to settle %" PRIu64 " events", written,
               sim->model.fit);
}

static void judge(struct sim *sim)
{
    struct writer *writer = &sim->writers[0];
    sim->phase = PHASE_END;
    if (sim->broken == NO_INVARIANT && sim->recovery == RECOVERED && !sim->profile->is_small_scope)
        check_wal(sim);
    close_both(sim);
    if (sim->broken != NO_INVARIANT)
        return;
    if (!app_open(sim, writer) || !audit_resolve(sim, writer->db, false))
        breaks(sim, RECOVERY, "the database cannot be opened at the end");
    else
        audit_at_end(sim, writer->db);
    recipient_at_end(sim);
    if (sim->profile->is_calm)
        check_calm_run(sim);
    close_application(sim);
}

static void end(struct sim *sim, sqlite3_int64 memory)
{
    recipient_close(sim);
    wire_close(sim);
    sim->device.before = NULL;
    if (device_open_files(&sim->device) != 0)
        breaks(sim, BOUNDED_MEMORY, "%u files stay open", device_open_files(&sim->device));
    else if (sqlite3_memory_used() != memory)
        breaks(sim, BOUNDED_MEMORY, "%lld bytes of SQLite's memory are left",
               (long long)(sqlite3_memory_used() - memory));
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void prepare(struct sim *sim, const struct run_options *options)
{
    sim->profile = options->profile;
    sim->seed = options->seed;
    sim->operations = options->operations ? options->operations : options->profile->operations;
    sim->trace.hash = 0xcbf29ce484222325u;
    sim->trace.prints = options->trace;
    if (options->enumerate)
        sim->choices = *options->enumerate;
    else if (options->tape)
        choices_replay(&sim->choices, options->tape);
    else
        choices_seed(&sim->choices, options->seed);
    device_init(&sim->device);
    settings_draw(&sim->settings, sim->profile, &sim->choices);
    sim->settings.lies = options->teeth;
    sim->device.wall_offset_ms = sim->settings.starts_in_1970 ? WALL_1970_MS : 0;
    sim->device.has_shared_memory = !sim->profile->one_connection;
    bool powersafe = sim->settings.is_wal || sim_choose(&sim->choices, TAG_CONFIG, 2) == 0;
    sim->device.disk.powersafe = powersafe;
    sim->device.characteristics = powersafe ? SQLITE_IOCAP_POWERSAFE_OVERWRITE : 0;
    sim->device.disk.sector = sim_choose(&sim->choices, TAG_CONFIG, 2) ? 4096 : 512;
}

static void report(struct sim *sim, struct run_result *result)
{
    *result = (struct run_result){
        .broken = sim->broken,
        .hash = sim->trace.hash,
        .events = sim->trace.events,
        .cuts = sim->cuts,
        .kills = sim->kills,
        .sends = sim->link.publishes,
        .committed = sim->model.fit + sim->model.unfit,
        .accepted = sim->link.acceptances,
        .injected = sim->nemesis.injected,
        .simulated_ms = sim->device.now_us / 1000,
    };
    memcpy(result->particulars, sim->particulars, sizeof result->particulars);
    if (sim->broken != NO_INVARIANT) {
        size_t size;
        FILE *story = open_memstream(&result->story, &size);
        if (!story)
            abort();
        trace_print_story(sim, story);
        (void)fclose(story);
    }
}

void run_once(const struct run_options *options, struct run_result *result)
{
    struct sim *sim = calloc(1, sizeof *sim);
    sqlite3_int64 memory = sqlite3_memory_used();
    if (!sim)
        abort();
    for (unsigned i = 0; i < WRITERS; i++)
        sim->writers[i].index = i;
    prepare(sim, options);
    begin(sim);
    while (sim->broken == NO_INVARIANT && sim->operations_done < sim->operations)
        act_next(sim);
    if (sim->broken == NO_INVARIANT)
        heal(sim);
    if (sim->broken == NO_INVARIANT)
        drain(sim);
    judge(sim);
    end(sim, memory);
    report(sim, result);
    if (options->enumerate) {
        *options->enumerate = sim->choices;
    } else {
        result->tape = sim->choices.made;
        memset(&sim->choices.made, 0, sizeof sim->choices.made);
        choices_free(&sim->choices);
    }
    model_free(&sim->model);
    device_free(&sim->device);
    free(sim);
}

void run_result_free(struct run_result *result)
{
    free(result->story);
    tape_free(&result->tape);
    memset(result, 0, sizeof *result);
}
