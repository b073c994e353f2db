/* SPDX-License-Identifier: MIT
 *
 * pace.c - the token buckets.
 *
 * Memory only; after a restart they are full, so a device that restarts all the time may send a
 * second's worth at each start.
 */
#include "pace.h"

enum { WHOLE = 1000 /* tokens of one event or one byte; also a second in ms */ };

void ob_pace_start(struct ob_pace *pace, const outbox_pace *rate, uint64_t now_ms)
{
    pace->events = (int64_t)rate->events_per_s * WHOLE;
    pace->bytes = (int64_t)rate->bytes_per_s * WHOLE;
    pace->filled_at = now_ms;
}

static int64_t fill(int64_t tokens, unsigned rate, uint64_t ms)
{
    const int64_t full = (int64_t)rate * WHOLE;
    const uint64_t most_ms = UINT64_C(1) << 32; /* times a rate of 2^30 it is far from overflow */
    tokens += (int64_t)rate * (int64_t)(ms < most_ms ? ms : most_ms);
    return tokens < full ? tokens : full;
}

/* Milliseconds until `need` tokens are there. */
static uint64_t wait_for(int64_t tokens, int64_t need, unsigned rate)
{
    if (rate == 0 || tokens >= need)
        return 0;
    return (uint64_t)(need - tokens + rate - 1) / rate;
}

uint64_t ob_pace_next(struct ob_pace *pace, const outbox_pace *rate, uint64_t now_ms)
{
    uint64_t ms = now_ms - pace->filled_at;
    pace->events = fill(pace->events, rate->events_per_s, ms);
    pace->bytes = fill(pace->bytes, rate->bytes_per_s, ms);
    pace->filled_at = now_ms;
    uint64_t events = wait_for(pace->events, WHOLE, rate->events_per_s);
    uint64_t bytes = wait_for(pace->bytes, 1, rate->bytes_per_s);
    return now_ms + (events > bytes ? events : bytes);
}

void ob_pace_spend(struct ob_pace *pace, size_t bytes)
{
    pace->events -= WHOLE;
    pace->bytes -= (int64_t)bytes * WHOLE;
}
