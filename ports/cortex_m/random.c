/* SPDX-License-Identifier: MIT
 *
 * random.c - xorshift128+ over a state that each seed is stirred into. Not for keys. A reset
 * forgets the state, so it has to be seeded at each start.
 */
#include "random.h"

static uint64_t state[2] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u};

static uint64_t next(void)
{
    uint64_t a = state[0];
    const uint64_t b = state[1];
    state[0] = b;
    a ^= a << 23;
    state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return state[1] + b;
}

void outbox_random_seed(const void *data, size_t size)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < size; i++) {
        state[0] = (state[0] ^ byte[i]) * 0x100000001b3u;
        if (state[0] == 0)
            state[0] = 1;
        (void)next();
    }
    for (int i = 0; i < 16; i++)
        (void)next();
}

void outbox_random_bytes(void *context, void *data, size_t size)
{
    uint8_t *to = data;
    (void)context;
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(next() >> 32);
}

uint32_t outbox_random_number(void *context)
{
    (void)context;
    return (uint32_t)(next() >> 32);
}
