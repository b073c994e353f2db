/* SPDX-License-Identifier: MIT
 *
 * shrink.c - takes out of a tape what the story does not need: the end, whole spans, answers that
 * may be 0, and makes the rest small. A change is kept only if the same invariant breaks.
 */
#include "shrink.h"

#include "sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 5000 };

struct shrinker {
    struct tape_header header;
    struct run_options options;
    enum invariant target;
    struct tape best;
    unsigned runs;
};

/* Keeps what is known to break: the candidate, or its record, where that is shorter as it lacks
 * what was never asked for. A record that is cut to the candidate's length may be neither. */
static void keep(struct shrinker *shrinker, const struct tape *candidate, struct tape *record)
{
    tape_free(&shrinker->best);
    if (record->count >= candidate->count) {
        tape_copy(&shrinker->best, candidate);
        return;
    }
    shrinker->best = *record;
    memset(record, 0, sizeof *record);
}

static bool try_tape(struct shrinker *shrinker, const struct tape *candidate)
{
    struct run_result result;
    if (shrinker->runs >= RUNS_MAX)
        return false;
    shrinker->runs++;
    shrinker->options.tape = candidate;
    run_once(&shrinker->options, &result);
    bool breaks_the_same = result.broken == shrinker->target;
    if (breaks_the_same)
        keep(shrinker, candidate, &result.tape);
    run_result_free(&result);
    return breaks_the_same;
}

static bool try_without(struct shrinker *shrinker, size_t from, size_t count)
{
    struct tape candidate = {0};
    tape_copy(&candidate, &shrinker->best);
    memmove(candidate.choices + from, candidate.choices + from + count,
            (candidate.count - from - count) * sizeof *candidate.choices);
    candidate.count -= count;
    bool kept = try_tape(shrinker, &candidate);
    tape_free(&candidate);
    return kept;
}

static bool cut_end(struct shrinker *shrinker)
{
    bool changed = false;
    for (size_t part = shrinker->best.count / 2; part > 0; part /= 2)
        while (part < shrinker->best.count &&
               try_without(shrinker, shrinker->best.count - part, part))
            changed = true;
    return changed;
}

/* The length of the span that begins at `at`. */
static size_t span_length(const struct tape *tape, size_t at)
{
    int depth = 0;
    for (size_t i = at; i < tape->count; i++) {
        depth += tape->choices[i].tag == CHOICE_BEGIN;
        depth -= tape->choices[i].tag == CHOICE_END;
        if (depth == 0)
            return i - at + 1;
    }
    return tape->count - at;
}

static bool cut_spans(struct shrinker *shrinker)
{
    bool changed = false;
    for (size_t many = 64; many > 0; many /= 4) {
        for (size_t at = 0; at < shrinker->best.count;) {
            size_t length = 0;
            for (size_t i = 0; i < many && at + length < shrinker->best.count &&
                               shrinker->best.choices[at + length].tag == CHOICE_BEGIN;
                 i++)
                length += span_length(&shrinker->best, at + length);
            if (length > 0 && try_without(shrinker, at, length))
                changed = true;
            else
                at += length > 0 && many == 1 ? length : 1;
        }
    }
    return changed;
}

static bool try_value(struct shrinker *shrinker, size_t at, uint32_t value)
{
    struct tape candidate = {0};
    tape_copy(&candidate, &shrinker->best);
    candidate.choices[at].value = value;
    bool kept = try_tape(shrinker, &candidate);
    tape_free(&candidate);
    return kept;
}

static bool lower_values(struct shrinker *shrinker)
{
    bool changed = false;
    for (size_t at = 0; at < shrinker->best.count; at++) {
        uint32_t value = shrinker->best.choices[at].value;
        if (shrinker->best.choices[at].tag < 0 || value == 0)
            continue;
        if (try_value(shrinker, at, 0)) {
            changed = true;
            continue;
        }
        for (uint32_t step = value / 2; step > 0; step /= 2)
            while (at < shrinker->best.count && shrinker->best.choices[at].value > step &&
                   try_value(shrinker, at, shrinker->best.choices[at].value - step))
                changed = true;
    }
    return changed;
}

int shrink_tape(const char *from, const char *to)
{
    struct shrinker shrinker = {0};
    struct run_result result;
    if (!to || !tape_read(from, &shrinker.header, &shrinker.best) ||
        !profile_find(shrinker.header.profile)) {
        fprintf(stderr, "sim: --shrink=TAPE -o TAPE\n");
        return 2;
    }
    size_t before = shrinker.best.count;
    shrinker.options = (struct run_options){.profile = profile_find(shrinker.header.profile),
                                            .seed = shrinker.header.seed,
                                            .operations = shrinker.header.operations,
                                            .tape = &shrinker.best};
    run_once(&shrinker.options, &result);
    shrinker.target = result.broken;
    run_result_free(&result);
    if (shrinker.target == NO_INVARIANT) {
        fprintf(stderr, "sim: %s breaks nothing\n", from);
        return 2;
    }
    for (bool changed = true; changed && shrinker.runs < RUNS_MAX;) {
        changed = cut_end(&shrinker);
        changed = cut_spans(&shrinker) || changed;
        changed = lower_values(&shrinker) || changed;
    }
    bool written = tape_write(to, &shrinker.header, &shrinker.best);
    printf("sim: %zu answers became %zu in %u runs; again: build/sim --replay=%s\n", before,
           shrinker.best.count, shrinker.runs, to);
    tape_free(&shrinker.best);
    return written ? 0 : 2;
}
