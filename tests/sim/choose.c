/* SPDX-License-Identifier: MIT
 *
 * choose.c - answers by dice, by tape, by odometer; see choose.h.
 */
#include "choose.h"

#include <assert.h>
#include <string.h>

uint64_t sim_mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void choices_seed(struct choices *choices, uint64_t seed)
{
    uint64_t state = seed;
    memset(choices, 0, sizeof *choices);
    choices->mode = CHOOSE_RANDOM;
    for (int tag = 0; tag < TAGS; tag++)
        choices->dice[tag] = sim_mix(&state);
}

void choices_replay(struct choices *choices, const struct tape *tape)
{
    memset(choices, 0, sizeof *choices);
    choices->mode = CHOOSE_TAPE;
    tape_copy(&choices->given, tape);
}

void choices_free(struct choices *choices)
{
    tape_free(&choices->given);
    tape_free(&choices->made);
}

/* The next answer on the tape; its marks are of no interest here. A tape that is older than
 * captures has none for them: 0. */
static uint32_t from_tape(struct choices *choices, enum sim_tag tag, uint32_t bound)
{
    while (choices->next < choices->given.count) {
        const struct choice *choice = &choices->given.choices[choices->next];
        if (tag == TAG_CHANGE && choice->tag != TAG_CHANGE && choice->tag >= 0)
            return 0;
        choices->next++;
        if (choice->tag >= 0)
            return choice->value % bound;
    }
    return 0;
}

uint32_t sim_choose(struct choices *choices, enum sim_tag tag, uint32_t bound)
{
    uint32_t value;
    assert(bound > 0);
    if (bound == 1)
        return 0;
    if (choices->mode == CHOOSE_ENUMERATE && tag != TAG_POWER && tag != TAG_DAMAGE)
        return 0; /* the small scope: what a power cut does, all else at its most harmless */
    if (choices->mode == CHOOSE_RANDOM)
        value = (uint32_t)((sim_mix(&choices->dice[tag]) >> 32) * bound >> 32);
    else
        value = from_tape(choices, tag, bound);
    tape_add(&choices->made, (struct choice){(int16_t)tag, bound, value});
    return value;
}

bool sim_chance(struct choices *choices, enum sim_tag tag, uint32_t per_mille)
{
    if (per_mille == 0)
        return false;
    return sim_choose(choices, tag, 1000) >= 1000 - per_mille;
}

uint32_t sim_between(struct choices *choices, enum sim_tag tag, uint32_t from, uint32_t to)
{
    assert(from <= to);
    return from + sim_choose(choices, tag, to - from + 1);
}

void sim_span_begin(struct choices *choices)
{
    tape_add(&choices->made, (struct choice){CHOICE_BEGIN, 0, 0});
}

void sim_span_end(struct choices *choices)
{
    tape_add(&choices->made, (struct choice){CHOICE_END, 0, 0});
}

bool choices_next(struct choices *choices)
{
    struct tape *made = &choices->made;
    assert(choices->mode == CHOOSE_ENUMERATE);
    while (made->count > 0) {
        struct choice *last = &made->choices[made->count - 1];
        if (last->tag >= 0 && last->value + 1 < last->bound) {
            last->value++;
            break;
        }
        made->count--;
    }
    struct tape spare = choices->given;
    choices->given = *made;
    *made = spare;
    made->count = 0;
    choices->next = 0;
    return choices->given.count > 0;
}
