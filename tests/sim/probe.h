/* SPDX-License-Identifier: MIT
 *
 * probe.h - validates the disk model with a naive store in place of ours.
 */
#ifndef SIM_PROBE_H
#define SIM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* What one way to store does under power cuts. */
struct probe_result {
    uint64_t cuts;
    uint64_t lost;     /* committed, and gone after a cut */
    uint64_t phantoms; /* sent, and its transaction gone after a cut */
    uint64_t broken;   /* databases that could not be opened or were damaged */
};

/* Whether the probe finds cases of a kind. */
enum probe_finds { FINDS_NONE, FINDS_SOME, FINDS_RARELY /* too rare for a short run */ };

/* One row of the table. */
struct probe_row {
    const char *name, *journal, *synchronous, *barrier; /* "", "checkpoint" or "sync" */
    bool powersafe;
    enum probe_finds lost, phantoms, broken;
};
extern const struct probe_row probe_rows[];
extern const int probe_row_count;

struct probe_result probe_run(const struct probe_row *row, uint64_t seed, uint64_t cuts);

/* All rows, printed as a table. Returns how many are not as they must be. */
int probe_table(uint64_t seed, uint64_t cuts);

#endif
