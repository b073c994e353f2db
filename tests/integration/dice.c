/* SPDX-License-Identifier: MIT
 *
 * dice.c - dice that can be thrown again, and numbers from the environment.
 */
#include "dice.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

/* splitmix64 */
uint64_t roll(uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

int dice(uint64_t *seed, int sides)
{
    return (int)(roll(seed) % (uint64_t)sides);
}

uint64_t choose_seed(void)
{
    const char *wanted = getenv("OUTBOX_TEST_SEED");
    uint64_t seed = 0;

    if (wanted != NULL) {
        seed = strtoull(wanted, NULL, 10);
    } else {
        assert_int_equal(getrandom(&seed, sizeof seed, 0), sizeof seed);
        seed %= 1000000;
    }
    print_message("# OUTBOX_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

int wanted_number(const char *variable, int otherwise)
{
    const char *wanted = getenv(variable);

    if (wanted == NULL) {
        return otherwise;
    }
    int number = atoi(wanted);
    assert_true(number > 0);
    return number;
}
