/* SPDX-License-Identifier: MIT
 *
 * main.c - fault loops: of each scenario the first call of a kind fails, then the second, until
 * there is none; once and for good. The same within single calls of the library. Then a power cut
 * at each change of the disk, and a fault in the recovery.
 *
 * Without an argument all runs; `loops`, `calls` and `recovery` run one part; the name of a
 * scenario or of a call runs its loops; a number behind it, n, takes every n-th allocation only.
 * `quick` runs all with some 24 allocations and 8 other calls in each loop, and every 16th power
 * cut; `sample` with a quarter of that. It prints how many faults were injected and fails where one
 * that was armed never fired, or where anything was lost, invented, out of order, half there,
 * wedged or left open.
 */
#include "faults/call.h"
#include "faults/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct mode modes[] = {
    {.name = "WAL", .journal = "WAL"},
    {.name = "TRUNCATE", .journal = "TRUNCATE"},
    {.name = "one connection", .journal = "TRUNCATE", .is_shared = true},
    {.name = "UTF-16", .journal = "WAL", .is_in_utf_16 = true},
    {.name = "small heap", .journal = "WAL", .small_heap = true},
    {.name = "small heap, one connection",
     .journal = "TRUNCATE",
     .is_shared = true,
     .small_heap = true},
};

enum { MODES = sizeof modes / sizeof modes[0], CALLS_MAX = 100000 };

static uint64_t injected[FAULTS], runs;
static unsigned stride = 1; /* of allocations, which are many, and of power cuts */
static unsigned
    most; /* calls of a kind that fail in one loop, of allocations thrice as many; 0: all */
static int failures;

static void report(const struct world *world, const char *scenario, const char *kind, unsigned cut,
                   unsigned n, bool persists)
{
    failures++;
    if (failures > 20)
        return;
    (void)printf("FAILED  %s, %s: %s call %u%s", scenario, world->mode->name, kind, n,
                 persists ? " and all behind it" : "");
    if (cut > 0)
        (void)printf(", in the recovery from a cut at change %u", cut);
    (void)printf(": %s\n", world->sentence);
}

static void check_memory(struct world *world, sqlite3_int64 before)
{
    if (sqlite3_memory_used() != before)
        world_fail(world, "%lld bytes of SQLite's memory are left",
                   (long long)(sqlite3_memory_used() - before));
}

/* ---- A fault --------------------------------------------------------------------------------- */

/* False when there is no n-th call. */
static bool try_fault(const struct scenario *scenario, const struct mode *mode, enum fault fault,
                      unsigned n, bool persists)
{
    struct world world;
    sqlite3_int64 memory = sqlite3_memory_used();
    world_begin(&world, mode);
    scenario->prepare(&world);
    fault_arm(fault, n, persists);
    scenario->act(&world);
    unsigned fired = fault_disarm();
    world_check(&world);
    world_end(&world);
    check_memory(&world, memory);
    if (world.failed)
        report(&world, scenario->name, fault_name(fault), 0, n, persists);
    injected[fault] += fired;
    runs++;
    return fired > 0;
}

/* How many calls of a kind come where none fails. */
static unsigned count_calls(const struct scenario *scenario, const struct mode *mode,
                            enum fault fault)
{
    struct world world;
    world_begin(&world, mode);
    scenario->prepare(&world);
    fault_arm(fault, FAULT_NEVER, false);
    scenario->act(&world);
    unsigned count = fault_count();
    (void)fault_disarm();
    world_close(&world);
    world_end(&world);
    return count;
}

static unsigned step_of(enum fault fault, unsigned count)
{
    unsigned wanted = fault == FAULT_ALLOC ? 3 * most : most;
    if (wanted == 0)
        return fault == FAULT_ALLOC ? stride : 1;
    return (count + wanted) / wanted;
}

/* In UTF-16 only the allocations are others than in WAL. */
static bool has_mode(const struct scenario *scenario, const struct mode *mode, enum fault fault)
{
    return mode->is_in_utf_16 ? fault == FAULT_ALLOC : !(scenario->is_of_app && mode->is_shared);
}

static uint64_t loop(const struct scenario *scenario, enum fault fault)
{
    uint64_t fired = 0;
    for (int mode = 0; mode < MODES; mode++)
        for (int persists = 0; persists < 2 && has_mode(scenario, &modes[mode], fault);
             persists++) {
            unsigned step = step_of(fault, most ? count_calls(scenario, &modes[mode], fault) : 0);
            for (unsigned n = 1;
                 n < CALLS_MAX && try_fault(scenario, &modes[mode], fault, n, persists); n += step)
                fired++;
        }
    return fired;
}

static void print_head(const char *of, bool *is_printed)
{
    if (*is_printed)
        return;
    *is_printed = true;
    (void)printf("%-20s", of);
    for (int fault = 0; fault < FAULTS; fault++)
        (void)printf(" %8s", fault_name((enum fault)fault));
    (void)printf("\n");
}

/* All scenarios, or the one of this name. */
static void loop_all(const char *only)
{
    bool has_head = false;
    for (int i = 0; i < scenario_count; i++) {
        if (only && strcmp(only, scenarios[i].name) != 0)
            continue;
        print_head("injected", &has_head);
        (void)printf("%-20s", scenarios[i].name);
        for (int fault = 0; fault < FAULTS; fault++) {
            uint64_t fired = loop(&scenarios[i], (enum fault)fault);
            bool is_missing = fired == 0 && (scenarios[i].reaches >> fault & 1);
            (void)printf(" %8" PRIu64 "%s", fired, is_missing ? "?" : "");
            failures += is_missing;
            (void)fflush(stdout);
        }
        (void)printf("\n");
    }
}

/* ---- A fault in one call --------------------------------------------------------------------- */

static void begin_call(struct world *world, const struct call *call, const struct mode *mode)
{
    world_begin(world, mode);
    sqlite3_randomness(0, NULL); /* the same names by chance in each run */
    call->prepare(world);
}

static void end_call(struct world *world, const struct call *call, enum fault fault, unsigned n,
                     bool persists, sqlite3_int64 memory)
{
    world_close(world);
    world_end(world);
    check_memory(world, memory);
    if (world->failed)
        report(world, call->name, fault_name(fault), 0, n, persists);
    runs++;
}

/* In TRUNCATE the allocations are those of WAL, in UTF-16 there are others; a small heap is of
 * puts. */
static bool has_call_mode(const struct call *call, const struct mode *mode, enum fault fault)
{
    return !mode->is_shared && (call->kind == CALL_PUTS || !mode->small_heap) &&
           (fault == FAULT_ALLOC ? strcmp(mode->name, "TRUNCATE") != 0 : !mode->is_in_utf_16);
}

static uint64_t loop_call(const struct call *call, const struct mode *mode, enum fault fault)
{
    uint64_t sum = 0;
    sqlite3_int64 memory = sqlite3_memory_used();
    unsigned count;
    uint64_t said;
    struct world world;
    begin_call(&world, call, mode);
    char *expected = call_expect(&world, call, fault, &count, &said);
    end_call(&world, call, fault, 0, false, memory + (sqlite3_int64)sqlite3_msize(expected));
    for (int persists = 0; persists < 2; persists++) {
        unsigned fired = 1;
        for (unsigned n = 1; n < CALLS_MAX && fired > 0; n += step_of(fault, count)) {
            memory = sqlite3_memory_used();
            begin_call(&world, call, mode);
            fired = call_try(&world, call, expected, said, fault, n, persists);
            end_call(&world, call, fault, n, persists, memory);
            injected[fault] += fired;
            sum += fired > 0;
        }
    }
    sqlite3_free(expected);
    return sum;
}

/* All calls, or the one of this name. */
static void call_all(const char *only)
{
    bool has_head = false;
    for (int i = 0; i < call_count; i++) {
        if (only && strcmp(only, calls[i].name) != 0)
            continue;
        print_head("in one call", &has_head);
        (void)printf("%-20s", calls[i].name);
        for (int fault = 0; fault <= FAULT_BUSY; fault++) {
            uint64_t fired = 0;
            for (int mode = 0; mode < MODES; mode++)
                if (has_call_mode(&calls[i], &modes[mode], (enum fault)fault))
                    fired += loop_call(&calls[i], &modes[mode], (enum fault)fault);
            bool is_missing = fired == 0 && (calls[i].reaches >> fault & 1);
            (void)printf(" %8" PRIu64 "%s", fired, is_missing ? "?" : "");
            failures += is_missing;
            (void)fflush(stdout);
        }
        (void)printf("\n");
    }
}

/* ---- A power cut, then a fault --------------------------------------------------------------- */

static uint64_t cut_countdown;
static struct world *cut_world;

static int cut_before_call(void *context, enum vfs_call call, const char *file)
{
    bool changes =
        call == CALL_WRITE || call == CALL_TRUNCATE || call == CALL_SYNC || call == CALL_DELETE;
    if (changes && cut_countdown > 0 && --cut_countdown == 0)
        device_cut_power(&cut_world->device);
    return fault_before_call(context, call, file);
}

/* The device comes back; a fault meets whoever opens the database first. */
static unsigned recover(struct world *world, enum fault fault, unsigned n, bool persists)
{
    fault_arm(fault, n, persists);
    if (world_open_app(world))
        world_step(world, 6);
    unsigned fired = fault_disarm();
    world_check(world);
    return fired;
}

enum outcome { NO_CUT, NO_FAULT, BOTH };

static enum outcome try_recovery(const struct scenario *scenario, const struct mode *mode,
                                 unsigned cut, enum fault fault, unsigned n, bool persists)
{
    struct world world;
    struct choices choices;
    unsigned fired = 0;
    sqlite3_int64 memory = sqlite3_memory_used();
    world_begin(&world, mode);
    scenario->prepare(&world);
    cut_world = &world;
    cut_countdown = cut;
    world.device.before = cut_before_call;
    scenario->act(&world);
    bool was_cut = cut_countdown == 0;
    cut_countdown = 0;
    if (was_cut) {
        choices_seed(&choices, cut);
        world_close(&world);
        device_restart(&world.device, &choices, cut % 2 ? DAMAGE_ALL : DAMAGE_EACH);
        choices_free(&choices);
        fired = recover(&world, fault, n, persists);
    }
    world_close(&world);
    world_end(&world);
    check_memory(&world, memory);
    if (world.failed)
        report(&world, scenario->name, fault_name(fault), cut, n, persists);
    injected[fault] += fired;
    runs++;
    return !was_cut ? NO_CUT : fired > 0 ? BOTH : NO_FAULT;
}

/* Of a sample every fourth fault will do. */
static unsigned recovery_step(void)
{
    return most > 0 && most < 8 ? 4 : 1;
}

static void recover_all(void)
{
    const unsigned step = recovery_step();
    uint64_t pairs = 0;
    unsigned cuts = 0;
    for (int i = 0; i < scenario_count; i++)
        for (int mode = 0; scenarios[i].is_small && mode < (scenarios[i].is_of_app ? 2 : 3); mode++)
            for (unsigned cut = 1; try_recovery(&scenarios[i], &modes[mode], cut, FAULT_READ,
                                                CALLS_MAX, false) != NO_CUT;
                 cut += stride, cuts++)
                /* Allocations are not of the recovery; the loops above have them all. */
                for (int fault = FAULT_READ; fault <= FAULT_BUSY; fault++)
                    for (int persists = 0; persists < 2; persists++)
                        for (unsigned n = 1; try_recovery(&scenarios[i], &modes[mode], cut,
                                                          (enum fault)fault, n, persists) == BOTH;
                             n += step)
                            pairs++;
    (void)printf("%u power cuts, %" PRIu64 " faults in the recovery from them\n", cuts, pairs);
    failures += pairs == 0;
}

static void run_part(const char *part)
{
    bool loops = strcmp(part, "loops") == 0, each_call = strcmp(part, "calls") == 0;
    bool recovery = strcmp(part, "recovery") == 0;
    if (loops)
        loop_all(NULL);
    else if (each_call)
        call_all(NULL);
    else if (recovery)
        recover_all();
    if (loops || each_call || recovery)
        return;
    loop_all(part);
    call_all(part);
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "all";
    uint64_t sum = 0;
    if (!fault_set_up())
        return 2;
    device_register();
    bool sample = strcmp(part, "sample") == 0, quick = strcmp(part, "quick") == 0;
    most = sample ? 2 : quick ? 8 : 0;
    stride = sample ? 48 : quick ? 16 : argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    if (stride == 0)
        return 2;
    if (most > 0 || strcmp(part, "all") == 0) {
        run_part("loops");
        run_part("calls");
        run_part("recovery");
    } else {
        run_part(part);
    }
    for (int fault = 0; fault < FAULTS; fault++)
        sum += injected[fault];
    (void)printf("faults: %" PRIu64 " injected in %" PRIu64 " runs, %s; %d failures\n", sum, runs,
                 failures ? "see above" : "every armed one fired", failures);
    return failures ? 1 : 0;
}
