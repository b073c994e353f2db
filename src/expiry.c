/* SPDX-License-Identifier: MIT
 *
 * expiry.c - arithmetic of expiry times.
 *
 * Pure functions. A device without a battery behind its clock starts in 1970 and is set later, or
 * never: then nothing may be thrown away for being old.
 */
#include "expiry.h"

#include <assert.h>

#define YEAR_2025_MS INT64_C(1735689600000)

bool ob_expiry_clock_is_set(int64_t wall_ms)
{
    return wall_ms >= YEAR_2025_MS;
}

int64_t ob_expiry_at_put(int64_t ttl_ms, int64_t wall_ms)
{
    assert(ttl_ms > 0);
    return ob_expiry_clock_is_set(wall_ms) ? wall_ms + ttl_ms : -ttl_ms;
}

bool ob_expiry_has_come(int64_t expires, int64_t wall_ms)
{
    return expires > 0 && ob_expiry_clock_is_set(wall_ms) && wall_ms >= expires;
}

uint32_t ob_expiry_left(int64_t expires, int64_t wall_ms)
{
    int64_t left_ms = 0;
    if (expires < -INT64_MAX)
        return 0; /* somebody else's; it has no opposite */
    if (expires < 0)
        left_ms = -expires;
    else if (expires > wall_ms && ob_expiry_clock_is_set(wall_ms))
        left_ms = expires - wall_ms;
    int64_t seconds = left_ms / 1000 + (left_ms % 1000 > 0);
    return seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
}
