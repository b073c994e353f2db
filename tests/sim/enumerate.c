/* SPDX-License-Identifier: MIT
 *
 * enumerate.c - runs the small scope once for each sequence of answers there is.
 */
#include "enumerate.h"

#include "sim.h"

#include <inttypes.h>
#include <string.h>

static const struct profile *profile_of(const char *scenario)
{
    char name[32];
    sqlite3_snprintf(sizeof name, name, "small-%s", scenario);
    return profile_find(name);
}

int enumerate_all(const char *scenario, const char *build)
{
    struct choices choices = {.mode = CHOOSE_ENUMERATE};
    struct run_options options = {.profile = profile_of(scenario), .enumerate = &choices};
    struct run_result result = {0};
    uint64_t schedules = 0, cuts = 0;
    if (!options.profile) {
        fprintf(stderr, "sim: there is no scenario %s; take wal or truncate\n", scenario);
        return 2;
    }
    do {
        run_result_free(&result);
        run_once(&options, &result);
        schedules++;
        cuts += result.cuts;
    } while (!result.broken && choices_next(&choices));
    if (result.broken)
        printf("BROKEN  %s: %s\n        %s\n%s", invariant_id(result.broken),
               invariant_sentence(result.broken), result.particulars, result.story);
    printf("sim: enumerated %s, build %s: %s; %s%" PRIu64 " schedules, %" PRIu64 " power cuts\n",
           scenario, build, result.broken ? "FAILED" : "passed", result.broken ? "after " : "all ",
           schedules, cuts);
    int status = result.broken ? 1 : 0;
    run_result_free(&result);
    choices_free(&choices);
    return status;
}
