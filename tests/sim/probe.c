/* SPDX-License-Identifier: MIT
 *
 * probe.c - a naive outbox on the simulated device: one ledger row and one outbox row per
 * transaction, a forwarder that sends the oldest row and deletes it, and power cuts.
 *
 * Nothing of the product is in here. What it shows is known of SQLite: which settings keep what
 * they promise on which device, and which cannot. If the model of the disk is right the rows come
 * out so.
 */
#include "probe.h"

#include "vfs.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUTS_PER_RUN = 4, TRANSACTIONS = 400, CHANGES_TO_CUT = 120, CHECKPOINT_FRAMES = 8 };

#define NONE FINDS_NONE
#define SOME FINDS_SOME
#define RARE FINDS_RARELY

/* clang-format off */
const struct probe_row probe_rows[] = {
    /* name                                           journal     sync      barrier       PSOW   lost  phantom broken */
    {"WAL / FULL",                                    "WAL",      "FULL",   "",           true,  NONE, NONE, NONE},
    {"WAL / FULL",                                    "WAL",      "FULL",   "",           false, RARE, RARE, NONE},
    {"WAL / NORMAL",                                  "WAL",      "NORMAL", "",           false, SOME, SOME, NONE},
    {"WAL / NORMAL, checkpoint before each send",     "WAL",      "NORMAL", "checkpoint", true,  SOME, NONE, NONE},
    {"WAL / NORMAL, sync of the WAL before each send", "WAL",     "NORMAL", "sync",       true,  SOME, NONE, NONE},
    {"DELETE / FULL",                                 "DELETE",   "FULL",   "",           false, SOME, SOME, NONE},
    {"DELETE / EXTRA",                                "DELETE",   "EXTRA",  "",           false, NONE, NONE, NONE},
    {"TRUNCATE / FULL",                               "TRUNCATE", "FULL",   "",           false, NONE, NONE, NONE},
    {"PERSIST / FULL",                                "PERSIST",  "FULL",   "",           false, NONE, NONE, NONE},
    {"WAL / OFF",                                     "WAL",      "OFF",    "",           false, SOME, SOME, SOME},
};
/* clang-format on */
const int probe_row_count = sizeof probe_rows / sizeof probe_rows[0];

/* What the world outside the device knows of a transaction. */
enum fate { UNKNOWN, COMMITTED, SENT };

struct probe {
    const struct probe_row *row;
    struct choices choices;
    struct device device;
    uint64_t countdown; /* changes until the power goes */
    sqlite3 *app, *forwarder;
    int next; /* number of the next transaction */
    enum fate fate[TRANSACTIONS];
    struct probe_result result;
};

static int before(void *context, enum vfs_call call, const char *file)
{
    struct probe *probe = context;
    (void)file;
    bool counts =
        call == CALL_WRITE || call == CALL_TRUNCATE || call == CALL_SYNC || call == CALL_DELETE;
    if (counts && probe->countdown > 0 && --probe->countdown == 0)
        device_cut_power(&probe->device);
    return SQLITE_OK;
}

static bool run(sqlite3 *db, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    bool ok = sql && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(sql);
    return ok;
}

static int number(sqlite3 *db, const char *sql, int otherwise)
{
    sqlite3_stmt *statement;
    int value = otherwise;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        return otherwise;
    if (sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    return value;
}

static sqlite3 *connect(struct probe *probe, enum process process, const char *synchronous)
{
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2("probe.db", &db, flags, device_vfs_name(process)) == SQLITE_OK &&
        run(db, "PRAGMA journal_mode = %s; PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = %d",
            probe->row->journal, synchronous, process == PROCESS_APP ? CHECKPOINT_FRAMES : 0))
        return db;
    (void)sqlite3_close(db);
    return NULL;
}

static bool open_all(struct probe *probe)
{
    const char *synchronous = probe->row->synchronous;
    probe->app = connect(probe, PROCESS_APP, synchronous);
    probe->forwarder = probe->app ? connect(probe, PROCESS_FORWARDER, synchronous) : NULL;
    return probe->forwarder && run(probe->app, "CREATE TABLE IF NOT EXISTS ledger(tx INTEGER);"
                                               "CREATE TABLE IF NOT EXISTS box(tx INTEGER)");
}

static void close_all(struct probe *probe)
{
    (void)sqlite3_close(probe->app);
    (void)sqlite3_close(probe->forwarder);
    probe->app = probe->forwarder = NULL;
}

static void write_one(struct probe *probe)
{
    if (probe->next == TRANSACTIONS)
        return;
    int tx = probe->next++;
    bool commits = !sim_chance(&probe->choices, TAG_APP, 100);
    if (run(probe->app, "BEGIN; INSERT INTO ledger VALUES(%d); INSERT INTO box VALUES(%d)", tx,
            tx) &&
        commits && run(probe->app, "COMMIT"))
        probe->fate[tx] = COMMITTED;
    else
        (void)run(probe->app, "ROLLBACK");
}

static bool pass_barrier(struct probe *probe)
{
    sqlite3_file *wal = NULL;
    if (strcmp(probe->row->barrier, "checkpoint") == 0)
        return run(probe->forwarder, "PRAGMA wal_checkpoint(FULL)");
    if (strcmp(probe->row->barrier, "sync") == 0)
        return sqlite3_file_control(probe->forwarder, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) ==
                   SQLITE_OK &&
               wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL) == SQLITE_OK;
    return true;
}

static void send_one(struct probe *probe)
{
    int tx = number(probe->forwarder, "SELECT min(tx) FROM box", -1);
    if (number(probe->forwarder, "SELECT count(*) FROM box", 0) == 0 || tx < 0)
        return;
    if (!pass_barrier(probe) || !probe->device.powered)
        return;
    probe->fate[tx] = SENT;
    (void)run(probe->forwarder, "DELETE FROM box WHERE tx = %d", tx);
}

/* Compares what is there with what the world knows. */
static void judge(struct probe *probe)
{
    for (int tx = 0; tx < probe->next; tx++) {
        char sql[64];
        if (probe->fate[tx] == UNKNOWN)
            continue;
        sqlite3_snprintf(sizeof sql, sql, "SELECT count(*) FROM ledger WHERE tx = %d", tx);
        if (number(probe->app, sql, 0) > 0)
            continue;
        probe->result.lost++;
        probe->result.phantoms += probe->fate[tx] == SENT;
        probe->fate[tx] = UNKNOWN; /* is counted once */
    }
}

static bool is_sound(struct probe *probe)
{
    return number(probe->app, "SELECT integrity_check = 'ok' FROM pragma_integrity_check", 0) == 1;
}

/* False: the database is beyond use, or the run has had its cuts. */
static bool live_until_cut(struct probe *probe, enum damage most)
{
    /* The file is made before the first cut: the removal of the journal with which SQLite switches
     * a new file to WAL is not synced, and undone later it would take all commits with it. */
    bool is_new = probe->result.cuts == 0;
    bool opened = is_new && open_all(probe);
    if (is_new)
        disk_sync_directory(&probe->device.disk);
    probe->countdown = sim_between(&probe->choices, TAG_POWER, 1, CHANGES_TO_CUT);
    opened = opened || open_all(probe);
    if (opened) {
        if (!is_sound(probe) && probe->device.powered) {
            probe->result.broken++;
            return false;
        }
        if (probe->device.powered)
            judge(probe);
    } else if (probe->device.powered) {
        probe->result.broken++;
        return false;
    }
    while (opened && probe->device.powered && probe->next < TRANSACTIONS) {
        if (sim_chance(&probe->choices, TAG_APP, 400))
            send_one(probe);
        else
            write_one(probe);
    }
    close_all(probe);
    if (probe->device.powered)
        device_cut_power(&probe->device);
    probe->result.cuts++;
    enum damage damage = (enum damage)sim_choose(&probe->choices, TAG_DAMAGE, (uint32_t)most + 1);
    device_restart(&probe->device, &probe->choices, damage);
    return true;
}

struct probe_result probe_run(const struct probe_row *row, uint64_t seed, uint64_t cuts)
{
    struct probe_result sum = {0};
    struct probe *probe = malloc(sizeof *probe);
    if (!probe)
        abort();
    while (sum.cuts < cuts) {
        memset(probe, 0, sizeof *probe);
        probe->row = row;
        choices_seed(&probe->choices, seed++);
        device_init(&probe->device);
        probe->device.before = before;
        probe->device.context = probe;
        probe->device.disk.powersafe = row->powersafe;
        probe->device.characteristics = row->powersafe ? SQLITE_IOCAP_POWERSAFE_OVERWRITE : 0;
        for (int i = 0; i < CUTS_PER_RUN && live_until_cut(probe, DAMAGE_SECTORS); i++) {
        }
        probe->countdown = 0;
        if (!probe->app && open_all(probe) && is_sound(probe)) /* what the last cut has done */
            judge(probe);
        close_all(probe);
        sum.cuts += probe->result.cuts;
        sum.lost += probe->result.lost;
        sum.phantoms += probe->result.phantoms;
        sum.broken += probe->result.broken;
        device_free(&probe->device);
        choices_free(&probe->choices);
    }
    free(probe);
    return sum;
}

static bool is_as_known(enum probe_finds finds, uint64_t found)
{
    return finds == FINDS_RARELY || (found > 0) == (finds == FINDS_SOME);
}

int probe_table(uint64_t seed, uint64_t cuts)
{
    int wrong = 0;
    printf("%-48s %-8s %8s %8s %8s %8s\n", "naive store: journal / synchronous", "device", "cuts",
           "lost", "phantom", "broken");
    for (int i = 0; i < probe_row_count; i++) {
        const struct probe_row *row = &probe_rows[i];
        struct probe_result r = probe_run(row, seed, cuts);
        bool is_right = is_as_known(row->lost, r.lost) && is_as_known(row->phantoms, r.phantoms) &&
                        is_as_known(row->broken, r.broken);
        printf("%-48s %-8s %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 "%s\n", row->name,
               row->powersafe ? "PSOW" : "no PSOW", r.cuts, r.lost, r.phantoms, r.broken,
               is_right ? "" : "  <- not as known of SQLite");
        wrong += !is_right;
        (void)fflush(stdout);
    }
    return wrong;
}
