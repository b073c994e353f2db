/* SPDX-License-Identifier: MIT
 *
 * dice.h - dice that can be thrown again, and numbers from the environment.
 */
#ifndef OUTBOX_TESTS_DICE_H
#define OUTBOX_TESTS_DICE_H

#include <stdint.h>

/* Of OUTBOX_TEST_SEED if that is set, else of the machine; it is printed. */
uint64_t choose_seed(void);

uint64_t roll(uint64_t *seed);

/* 0 ... sides - 1 */
int dice(uint64_t *seed, int sides);

/* The number in this environment variable, or the other one when it is not set. */
int wanted_number(const char *variable, int otherwise);

#endif
