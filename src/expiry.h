/* SPDX-License-Identifier: MIT
 *
 * expiry.h - until when an event is worth sending, by a wall clock that may not be set.
 *
 * The column `expires` holds the wall time in ms at which the event expires; where the clock was
 * not set at the put, the event's whole life with a minus before it; 0 or NULL: it never expires.
 */
#ifndef OB_EXPIRY_H
#define OB_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a clock that shows this was ever set. */
bool ob_expiry_clock_is_set(int64_t wall_ms);

/* What goes into the column for an event that is put now. */
int64_t ob_expiry_at_put(int64_t ttl_ms, int64_t wall_ms);

/* Whether that time has come. Never, where the clock is not set. */
bool ob_expiry_has_come(int64_t expires, int64_t wall_ms);

/* What is left of it in seconds, rounded up, for MQTT; 0 where there is no end or nobody knows. */
uint32_t ob_expiry_left(int64_t expires, int64_t wall_ms);

#endif
