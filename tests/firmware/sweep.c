/* SPDX-License-Identifier: MIT
 *
 * sweep.c - cuts the power at every operation of the flash, and judges each time what is left.
 *
 *   usage: sweep [quick]
 *
 * One device works. Before each operation of its flash a second device gets a copy of the flash in
 * which that operation is done wholly, in its first or second half, or in scattered bits, and is
 * started; at some operation of its own start or work the power goes once more, and then it is
 * judged. Nothing may be wrong. Two scenarios break the rules on purpose (synchronous = OFF; a
 * cache that spills): there the sweep has to find damage, or it has no teeth.
 *
 * A failure says scenario, operation and cut; the same program finds it again. `quick` takes each
 * scenario in part.
 */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSAFE(how) "PRAGMA locking_mode = EXCLUSIVE;" how

struct scenario {
    const char *name;
    int warm_up, transactions, quick; /* before the cuts; under them; under them if quick */
    bool expects_damage;
    uint32_t sectors, unit, page_size, sector_size;
    int per_transaction, ballast, rewrites;
    uint64_t fail_every; /* operations of the device that works */
    const char *pragmas;
};

/* How much ballast fits follows from the pages that the flash can hold, less those of the outbox's
 * own tables (16 of 512 bytes) and of what the transactions add: what is left over is the room that
 * a put has. */
static const struct scenario scenarios[] = {
    {"a blank flash", 0, 40, 5, .sectors = 64},
    {"one event", 60, 80, 12, .sectors = 26, .ballast = 58, .rewrites = 1},
    {"ten events", 20, 30, 4, .sectors = 26, .ballast = 45, .per_transaction = 10},
    {"many rewrites", 40, 30, 4, .sectors = 26, .ballast = 60, .rewrites = 8},
    {"units of 8 bytes", 60, 20, 5, .sectors = 26, .unit = 8, .ballast = 60, .rewrites = 2},
    {"units of 32 bytes", 60, 20, 5, .sectors = 26, .unit = 32, .ballast = 60, .rewrites = 2},
    {"pages of 1,024", 60, 20, 5, .sectors = 52, .page_size = 1024, .ballast = 90, .rewrites = 2},
    {"pages of 4,096", 60, 20, 5, .sectors = 12, .page_size = 4096, .sector_size = 65536,
     .ballast = 300, .rewrites = 6},
    {"programs that fail", 20, 40, 8, .sectors = 80, .ballast = 40, .rewrites = 2,
     .fail_every = 29},
    {"synchronous = OFF", 40, 24, 6, true, .sectors = 32, .ballast = 30, .rewrites = 6,
     .pragmas = UNSAFE("PRAGMA synchronous = OFF")},
    {"a cache that spills", 40, 6, 2, true, .sectors = 32, .ballast = 30, .rewrites = 20,
     .pragmas = UNSAFE("PRAGMA synchronous = EXTRA; PRAGMA journal_mode = MEMORY;"
                       "PRAGMA cache_size = 4; PRAGMA cache_spill = 4")},
};

struct sweep {
    struct device worker, judged;
    const struct scenario *scenario;
    uint64_t operation, cuts, second_cuts, bad, collected;
};

static struct settings settings_of(const struct scenario *scenario)
{
    struct settings settings = device_settings();
    const uint32_t unit = scenario->unit ? scenario->unit : 1;
    settings.sectors = scenario->sectors;
    settings.pages = 0;
    settings.batch_pages = 24;
    settings.unit = unit;
    settings.page_size = scenario->page_size ? scenario->page_size : 512;
    settings.sector_size = scenario->sector_size ? scenario->sector_size : 4096;
    settings.per_transaction = scenario->per_transaction ? scenario->per_transaction : 1;
    settings.ballast = scenario->ballast;
    settings.rewrites = scenario->rewrites;
    settings.take_lone_pages = scenario->expects_damage;
    if (scenario->pragmas)
        settings.pragmas = scenario->pragmas;
    return settings;
}

/* A start under a second cut; what it says counts only if its power stayed on, as it does where
 * start and work end in fewer operations. The cut that was not used must not wait for the next
 * start. */
static const char *start_under_cut(struct sweep *sweep, struct device *judged, enum nor_cut how)
{
    judged->nor.cut_at = 1 + (sweep->operation * 7 + (uint64_t)how * 3) % 23;
    judged->nor.cut = (enum nor_cut)((sweep->operation / 23 + (uint64_t)how) % NOR_CUTS);
    const char *wrong = device_judge(judged);
    const bool was_cut = judged->nor.is_off;
    nor_power_on(&judged->nor);
    if (!was_cut)
        return wrong;
    sweep->second_cuts++;
    judged->troubles = 0; /* without power every call fails */
    return judged->history.complaint;
}

static void cut(struct sweep *sweep, const struct nor_operation *operation, enum nor_cut how)
{
    struct device *judged = &sweep->judged;
    nor_copy(&judged->nor, &sweep->worker.nor);
    judged->nor.dice += (uint32_t)sweep->operation * 977u;
    nor_do(&judged->nor, operation, how);
    judged->history = sweep->worker.history;
    judged->troubles = 0;
    sweep->cuts++;
    const char *wrong = start_under_cut(sweep, judged, how);
    if (!wrong)
        wrong = device_judge(judged);
    if (judged->nor.is_off)
        wrong = "the sweep itself is wrong: the power went during the judgement";
    if (!wrong && judged->troubles != 0)
        wrong = "the log takes the cut for a damage";
    if (!wrong)
        return;
    sweep->bad++;
    if (!sweep->scenario->expects_damage)
        printf("%s: operation %llu, cut %d: %s\n", sweep->scenario->name,
               (unsigned long long)sweep->operation, (int)how, wrong);
}

static void before(void *context, const struct nor_operation *operation)
{
    struct sweep *sweep = context;
    sweep->operation++;
    for (int how = 0; how < NOR_CUTS; how++)
        cut(sweep, operation, (enum nor_cut)how);
}

static bool work(struct sweep *sweep, int transactions)
{
    for (int i = 0; i < transactions; i++)
        if (!device_work(&sweep->worker))
            return false;
    return true;
}

/* False: it went wrong. */
static bool run(const struct scenario *scenario, bool is_quick, uint64_t *cuts, uint64_t *seconds)
{
    static struct sweep sweep;
    outbox_flash_statistics stats;
    const struct settings settings = settings_of(scenario);
    memset(&sweep, 0, sizeof sweep);
    sweep.scenario = scenario;
    device_init(&sweep.worker, &settings, "a");
    device_init(&sweep.judged, &settings, "b");
    sweep.worker.nor.before_context = &sweep;
    sweep.worker.nor.before = scenario->warm_up ? NULL : before;
    bool works = device_start(&sweep.worker) && work(&sweep, scenario->warm_up);
    sweep.worker.nor.before = before;
    sweep.worker.nor.fail_every = scenario->fail_every;
    works = works && work(&sweep, is_quick ? scenario->quick : scenario->transactions);
    sweep.worker.nor.before = NULL;
    if (works)
        outbox_flash_stats(sweep.worker.log, &stats);
    else
        printf("%s: code %d\n", scenario->name, sweep.worker.last_code);
    const bool has_teeth = !scenario->expects_damage || sweep.bad > 0;
    printf(
        "%-28s %6llu cuts, %6llu of them twice, %5llu bad%s; %u pages, %u sectors collected%s%s\n",
        scenario->name, (unsigned long long)sweep.cuts, (unsigned long long)sweep.second_cuts,
        (unsigned long long)sweep.bad, scenario->expects_damage ? " (as it must)" : "",
        works ? stats.pages_mapped : 0, works ? stats.collected : 0,
        works ? "" : " - the device itself FAILED", has_teeth ? "" : " - no damage was FOUND");
    if (!scenario->expects_damage) {
        *cuts += sweep.cuts;
        *seconds += sweep.second_cuts;
    }
    device_free(&sweep.worker);
    device_free(&sweep.judged);
    return works && has_teeth && (scenario->expects_damage || sweep.bad == 0);
}

int main(int argc, char **argv)
{
    const bool is_quick = argc > 1 && strcmp(argv[1], "quick") == 0;
    uint64_t cuts = 0, seconds = 0;
    bool all = true;
    device_begin();
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        all = run(&scenarios[i], is_quick, &cuts, &seconds) && all;
    printf("%llu cuts under safe settings, %llu of them twice: %s\n", (unsigned long long)cuts,
           (unsigned long long)seconds, all ? "none bad" : "FAILED");
    return all ? 0 : 1;
}
