/* SPDX-License-Identifier: MIT
 *
 * main.c - the command line of the simulator; see usage().
 *
 * Exit status: 0 passed, 1 an invariant broke, 2 the simulator itself or its command line failed,
 * 3 the same seed ran differently twice.
 */
#include "enumerate.h"
#include "probe.h"
#include "shrink.h"
#include "sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_PASSED, EXIT_BROKEN, EXIT_HARNESS, EXIT_DIFFERS };
enum { HEAP_LIMIT = 16 << 20 }; /* of SQLite, in bytes */

struct command {
    const struct profile *profile;
    uint64_t first, last;
    unsigned jobs;
    uint32_t operations;
    unsigned teeth;
    bool trace, twice, probe;
    const char *tape_out, *replay, *shrink, *output, *enumerate;
    char build[64];
};

struct totals {
    uint64_t runs, cuts, kills, sends, committed, injected, events, simulated_ms, hash;
};

static void usage(FILE *to)
{
    fputs("usage: sim [--profile=P] [--seed=N | --seeds=A..B] [--jobs=N] [--ops=N] [--twice]\n"
          "           [--trace] [--tape-out=FILE] [--sync-lies] [--no-ledger]\n"
          "       sim --replay=FILE [--trace]\n"
          "       sim --shrink=FILE -o FILE\n"
          "       sim --enumerate=wal|truncate\n"
          "       sim --probe[=CUTS]\n"
          "profiles:\n",
          to);
    for (const struct profile *profile = profiles; profile->name; profile++)
        fprintf(to, "  %-14s %s\n", profile->name, profile->summary);
}

static void describe_build(char *to, size_t size)
{
    FILE *git = popen("git describe --always --dirty 2>/dev/null", "r");
    if (!git || !fgets(to, (int)size, git))
        sqlite3_snprintf((int)size, to, "unknown");
    if (git)
        (void)pclose(git);
    to[strcspn(to, "\n")] = '\0';
}

static bool parse_range(const char *text, uint64_t *first, uint64_t *last)
{
    char *end;
    *first = *last = strtoull(text, &end, 10);
    if (strncmp(end, "..", 2) == 0)
        *last = strtoull(end + 2, &end, 10);
    return *end == '\0' && end != text && *first <= *last;
}

static bool parse(struct command *command, int argc, char **argv)
{
    enum {
        PROFILE = 256,
        SEED,
        JOBS,
        OPS,
        TWICE,
        TRACE,
        TAPE,
        LIES,
        NO_LEDGER,
        REPLAY,
        SHRINK,
        ENUM,
        PROBE
    };
    static const struct option options[] = {
        {"profile", required_argument, NULL, PROFILE},
        {"seed", required_argument, NULL, SEED},
        {"seeds", required_argument, NULL, SEED},
        {"jobs", required_argument, NULL, JOBS},
        {"ops", required_argument, NULL, OPS},
        {"twice", no_argument, NULL, TWICE},
        {"trace", no_argument, NULL, TRACE},
        {"tape-out", required_argument, NULL, TAPE},
        {"sync-lies", no_argument, NULL, LIES},
        {"no-ledger", no_argument, NULL, NO_LEDGER},
        {"replay", required_argument, NULL, REPLAY},
        {"shrink", required_argument, NULL, SHRINK},
        {"enumerate", required_argument, NULL, ENUM},
        {"probe", optional_argument, NULL, PROBE},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        switch (option) {
        case PROFILE:
            command->profile = profile_find(optarg);
            break;
        case SEED:
            if (!parse_range(optarg, &command->first, &command->last))
                return false;
            break;
        case JOBS:
            command->jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case OPS:
            command->operations = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case TWICE:
            command->twice = true;
            break;
        case TRACE:
            command->trace = true;
            break;
        case TAPE:
            command->tape_out = optarg;
            break;
        case LIES:
            command->teeth |= TEETH_SYNC_LIES;
            break;
        case NO_LEDGER:
            command->teeth |= TEETH_NO_LEDGER;
            break;
        case REPLAY:
            command->replay = optarg;
            break;
        case SHRINK:
            command->shrink = optarg;
            break;
        case ENUM:
            command->enumerate = optarg;
            break;
        case PROBE:
            command->probe = true;
            command->last = optarg ? strtoull(optarg, NULL, 10) : 32000;
            break;
        case 'o':
            command->output = optarg;
            break;
        default:
            return false;
        }
    }
    return optind == argc && command->profile && command->jobs >= 1 && command->jobs <= 64;
}

/* ---- One run --------------------------------------------------------------------------------- */

static void print_failure(const struct command *command, const struct run_options *options,
                          const struct run_result *result, const char *tape)
{
    flockfile(stdout);
    printf("BROKEN  %s: %s\n        %s\n        profile %s, seed %" PRIu64
           ", build %s, after %" PRIu64 " events\n%s",
           invariant_id(result->broken), invariant_sentence(result->broken), result->particulars,
           options->profile->name, options->seed, command->build, result->events, result->story);
    printf("        again: build/sim --replay=%s\n", tape);
    (void)fflush(stdout);
    funlockfile(stdout);
}

static bool save_tape(const char *path, const struct run_options *options,
                      const struct run_result *result)
{
    struct tape_header header = {.seed = options->seed, .operations = options->operations};
    sqlite3_snprintf(sizeof header.profile, header.profile, "%s", options->profile->name);
    sqlite3_snprintf(sizeof header.invariant, header.invariant, "%s", invariant_id(result->broken));
    return tape_write(path, &header, &result->tape);
}

static int run_seed(const struct command *command, uint64_t seed, struct totals *totals)
{
    struct run_options options = {.profile = command->profile,
                                  .seed = seed,
                                  .operations = command->operations ? command->operations
                                                                    : command->profile->operations,
                                  .trace = command->trace,
                                  .teeth = command->teeth};
    struct run_result result, again;
    int status = EXIT_PASSED;
    char tape[64];
    run_once(&options, &result);
    if (command->twice) {
        run_once(&options, &again);
        if (again.hash != result.hash) {
            printf("DIFFERS profile %s, seed %" PRIu64 "\n", options.profile->name, seed);
            status = EXIT_DIFFERS;
        }
        run_result_free(&again);
    }
    sqlite3_snprintf(sizeof tape, tape, "build/sim-%s-%llu.tape", options.profile->name, seed);
    const char *path = command->tape_out ? command->tape_out : tape;
    if ((command->tape_out || result.broken) && !save_tape(path, &options, &result))
        status = EXIT_HARNESS;
    if (result.broken) {
        print_failure(command, &options, &result, path);
        status = EXIT_BROKEN;
    }
    *totals = (struct totals){
        totals->runs + 1,
        totals->cuts + result.cuts,
        totals->kills + result.kills,
        totals->sends + result.sends,
        totals->committed + result.committed,
        totals->injected + result.injected,
        totals->events + result.events,
        totals->simulated_ms + result.simulated_ms,
        totals->hash ^ (result.hash * (2 * seed + 1)),
    };
    run_result_free(&result);
    return status;
}

/* ---- Many runs ------------------------------------------------------------------------------- */

static int run_share(const struct command *command, unsigned job, struct totals *totals)
{
    int status = EXIT_PASSED;
    for (uint64_t seed = command->first + job; seed <= command->last && status == EXIT_PASSED;
         seed += command->jobs)
        status = run_seed(command, seed, totals);
    return status;
}

static void add(struct totals *sum, const struct totals *part)
{
    sum->runs += part->runs;
    sum->cuts += part->cuts;
    sum->kills += part->kills;
    sum->sends += part->sends;
    sum->committed += part->committed;
    sum->injected += part->injected;
    sum->events += part->events;
    sum->simulated_ms += part->simulated_ms;
    sum->hash ^= part->hash;
}

static int run_jobs(const struct command *command, struct totals *sum)
{
    int ends[64][2], worst = EXIT_PASSED, status;
    (void)fflush(stdout);
    for (unsigned job = 0; job < command->jobs; job++) {
        struct totals totals = {0};
        if (pipe(ends[job]) != 0)
            return EXIT_HARNESS;
        pid_t child = fork();
        if (child < 0)
            return EXIT_HARNESS;
        if (child > 0) {
            (void)close(ends[job][1]);
            continue;
        }
        status = run_share(command, job, &totals);
        if (write(ends[job][1], &totals, sizeof totals) != (ssize_t)sizeof totals)
            status = EXIT_HARNESS;
        (void)fflush(stdout);
        _exit(status);
    }
    for (unsigned job = 0; job < command->jobs; job++) {
        struct totals part;
        if (read(ends[job][0], &part, sizeof part) == (ssize_t)sizeof part)
            add(sum, &part);
        else
            worst = EXIT_HARNESS;
        (void)close(ends[job][0]);
    }
    while (wait(&status) > 0) {
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_HARNESS;
        if (code > worst)
            worst = code;
    }
    return worst;
}

static int run_seeds(const struct command *command)
{
    struct totals sum = {0};
    printf("sim: profile %s, seeds %" PRIu64 "..%" PRIu64 ", build %s\n", command->profile->name,
           command->first, command->last, command->build);
    int status = command->jobs == 1 ? run_share(command, 0, &sum) : run_jobs(command, &sum);
    printf("sim: profile %s, seeds %" PRIu64 "..%" PRIu64 ", build %s: %s; %" PRIu64
           " runs, %" PRIu64 " power cuts, %" PRIu64 " kills, %" PRIu64 " failed calls, %" PRIu64
           " events committed, %" PRIu64 " sent, %.1f h simulated, hash %016" PRIx64 "\n",
           command->profile->name, command->first, command->last, command->build,
           status == EXIT_PASSED ? "passed" : "FAILED", sum.runs, sum.cuts, sum.kills, sum.injected,
           sum.committed, sum.sends, (double)sum.simulated_ms / 3.6e6, sum.hash);
    return status;
}

static int replay(struct command *command)
{
    struct tape_header header;
    struct tape tape = {0};
    struct run_result result;
    if (!tape_read(command->replay, &header, &tape) || !profile_find(header.profile)) {
        fprintf(stderr, "sim: %s is no tape\n", command->replay);
        return EXIT_HARNESS;
    }
    struct run_options options = {.profile = profile_find(header.profile),
                                  .seed = header.seed,
                                  .operations = header.operations,
                                  .trace = command->trace,
                                  .teeth = command->teeth,
                                  .tape = &tape};
    run_once(&options, &result);
    int status = result.broken ? EXIT_BROKEN : EXIT_PASSED;
    if (result.broken)
        print_failure(command, &options, &result, command->replay);
    else
        printf("sim: %s passed; profile %s, seed %" PRIu64 ", recorded for %s\n", command->replay,
               header.profile, header.seed, header.invariant);
    run_result_free(&result);
    tape_free(&tape);
    return status;
}

int main(int argc, char **argv)
{
    struct command command = {.profile = profile_find("swarm"), .first = 1, .last = 1, .jobs = 1};
    if (!parse(&command, argc, argv)) {
        usage(stderr);
        return EXIT_HARNESS;
    }
    describe_build(command.build, sizeof command.build);
    device_register();
    (void)sqlite3_hard_heap_limit64(HEAP_LIMIT); /* I8: more would be a leak */
    if (command.probe)
        return probe_table(1, command.last) > 0 ? EXIT_BROKEN : EXIT_PASSED;
    if (command.enumerate)
        return enumerate_all(command.enumerate, command.build);
    if (command.shrink)
        return shrink_tape(command.shrink, command.output);
    if (command.replay)
        return replay(&command);
    return run_seeds(&command);
}
