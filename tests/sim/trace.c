/* SPDX-License-Identifier: MIT
 *
 * trace.c - one hash over all that happens, and the story of the last of it in words.
 *
 * Two runs are the same if their hashes are: so neither may depend on an address, on real time, or
 * on the order in which a compiler evaluates.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static void add(struct trace *trace, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        trace->hash = (trace->hash ^ at[i]) * 0x100000001b3u;
}

static void add_number(struct trace *trace, uint64_t number)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(number >> 8 * i);
    add(trace, bytes, sizeof bytes);
}

void trace_event(struct sim *sim, const char *kind, uint64_t a, uint64_t b)
{
    struct trace *trace = &sim->trace;
    trace->events++;
    add(trace, kind, strlen(kind));
    add_number(trace, sim->device.now_us);
    add_number(trace, a);
    add_number(trace, b);
    if (trace->prints)
        printf("%12.6f  . %s %" PRIu64 " %" PRIu64 "\n", (double)sim->device.now_us / 1e6, kind, a,
               b);
}

void tell(struct sim *sim, const char *format, ...)
{
    struct trace *trace = &sim->trace;
    char *line = trace->story[trace->story_count++ % STORY_LINES];
    va_list arguments;
    int length = snprintf(line, STORY_LENGTH, "%10.3f s  ", (double)sim->device.now_us / 1e6);
    va_start(arguments, format);
    (void)vsnprintf(line + length, STORY_LENGTH - (size_t)length, format, arguments);
    va_end(arguments);
    add(trace, line, strlen(line));
    if (trace->prints)
        printf("%s\n", line);
}

void trace_print_story(const struct sim *sim, FILE *to)
{
    uint64_t count = sim->trace.story_count;
    uint64_t first = count > STORY_LINES ? count - STORY_LINES : 0;
    if (first > 0)
        fprintf(to, "  ... %" PRIu64 " lines before\n", first);
    for (uint64_t i = first; i < count; i++)
        fprintf(to, "  %s\n", sim->trace.story[i % STORY_LINES]);
}

void breaks(struct sim *sim, enum invariant invariant, const char *format, ...)
{
    va_list arguments;
    if (sim->broken != NO_INVARIANT ||
        (invariant == LEDGER && (sim->settings.lies & TEETH_NO_LEDGER) != 0))
        return;
    sim->broken = invariant;
    va_start(arguments, format);
    (void)vsnprintf(sim->particulars, sizeof sim->particulars, format, arguments);
    va_end(arguments);
    tell(sim, "%s is broken: %s", invariant_id(invariant), sim->particulars);
}

const char *invariant_id(enum invariant invariant)
{
    static const char *const ids[INVARIANTS] = {
#define INVARIANT_ID(name, id, sentence) id,
        INVARIANT_MAP(INVARIANT_ID)
#undef INVARIANT_ID
    };
    return ids[invariant];
}

const char *invariant_sentence(enum invariant invariant)
{
    static const char *const sentences[INVARIANTS] = {
#define INVARIANT_SENTENCE(name, id, sentence) sentence,
        INVARIANT_MAP(INVARIANT_SENTENCE)
#undef INVARIANT_SENTENCE
    };
    return sentences[invariant];
}
