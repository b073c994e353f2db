/* SPDX-License-Identifier: MIT
 *
 * choose.h - the simulator's only source of chance.
 *
 * Every decision of a run is one call of sim_choose(). What answers it is one of three back ends:
 * dice that grow from a seed, a tape that was recorded before, or an odometer that goes through all
 * answers there are. 0 is always the most harmless answer: no crash, no loss, least delay, smallest
 * size, commit. So a tape that is cut short ends in a quiet run, and zeros shrink a story.
 *
 * What was answered is recorded, whatever the back end, so each run leaves a tape that replays it.
 */
#ifndef SIM_CHOOSE_H
#define SIM_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Who asks. Each has dice of its own, so that a new question in one part shifts no other. */
enum sim_tag {
    TAG_CONFIG,
    TAG_TIME,
    TAG_APP,
    TAG_LINK,
    TAG_BROKER,
    TAG_NEMESIS,
    TAG_POWER,
    TAG_DAMAGE,
    TAG_PORT,
    TAG_LANE,
    TAG_FEATURE,
    TAG_CHANGE,
    TAGS
};

enum choose_mode { CHOOSE_RANDOM, CHOOSE_TAPE, CHOOSE_ENUMERATE };

/* One answer; or a mark where a span of answers that belong together begins or ends. */
struct choice {
    int16_t tag; /* enum sim_tag, CHOICE_BEGIN or CHOICE_END */
    uint32_t bound, value;
};
enum { CHOICE_BEGIN = -1, CHOICE_END = -2 };

struct tape {
    struct choice *choices;
    size_t count, capacity;
};

struct choices {
    enum choose_mode mode;
    uint64_t dice[TAGS];
    struct tape given; /* TAPE and ENUMERATE: what to answer */
    size_t next;       /* next of `given` */
    struct tape made;  /* what was answered */
};

void choices_seed(struct choices *choices, uint64_t seed);
void choices_replay(struct choices *choices, const struct tape *tape); /* copies the tape */
void choices_free(struct choices *choices);

/* 0 .. bound-1; `bound` is at least 1, and with 1 nothing is asked. */
uint32_t sim_choose(struct choices *choices, enum sim_tag tag, uint32_t bound);

/* True in `per_mille` of 1000 cases; with 0 nothing is asked. */
bool sim_chance(struct choices *choices, enum sim_tag tag, uint32_t per_mille);

/* from .. to, the harmless end first. */
uint32_t sim_between(struct choices *choices, enum sim_tag tag, uint32_t from, uint32_t to);

/* One operation of the application, or one act of the nemesis: what the shrinker takes out
 * whole. */
void sim_span_begin(struct choices *choices);
void sim_span_end(struct choices *choices);

/* Enumeration: makes `given` the next sequence of answers after the one that was just run. False
 * when all have been run. */
bool choices_next(struct choices *choices);

/* splitmix64: for bytes that no decision hangs on. */
uint64_t sim_mix(uint64_t *state);

/* ---- Tapes (tape.c) -------------------------------------------------------------------------- */

void tape_add(struct tape *tape, struct choice choice);
void tape_copy(struct tape *to, const struct tape *from);
void tape_free(struct tape *tape);

/* What a tape must know beside its answers. */
struct tape_header {
    char profile[16];
    uint64_t seed;
    uint32_t operations;
    char invariant[8]; /* which one it breaks, or "none" */
};
bool tape_write(const char *path, const struct tape_header *header, const struct tape *tape);
bool tape_read(const char *path, struct tape_header *header, struct tape *tape);

#endif
