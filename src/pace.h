/* SPDX-License-Identifier: MIT
 *
 * pace.h - how fast events may go out: a token bucket for events and one for bytes.
 */
#ifndef OB_PACE_H
#define OB_PACE_H

#include <outbox/outbox.h>
#include <stdbool.h>
#include <stdint.h>

/* Both buckets hold one second's worth. Tokens are thousandths, so that a millisecond of the rate
 * is a whole number of them. */
struct ob_pace {
    int64_t events, bytes;
    uint64_t filled_at;
};

void ob_pace_start(struct ob_pace *pace, const outbox_pace *rate, uint64_t now_ms);

/* When the next event may go; `now_ms` or earlier means now. */
uint64_t ob_pace_next(struct ob_pace *pace, const outbox_pace *rate, uint64_t now_ms);

/* One of so many bytes went. Its bytes may bring the bucket into debt: any one event may go. */
void ob_pace_spend(struct ob_pace *pace, size_t bytes);

#endif
