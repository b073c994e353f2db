/* SPDX-License-Identifier: MIT
 *
 * clock.c - the promises of outbox_port, port.h. That it wraps after 49 days is not waited for.
 */
#include "conformance.h"

const char *conform_clock(const outbox_port *port, void (*pass)(void *context, unsigned ms),
                          void *context)
{
    if (port->version != 1 || !port->now_ms || !port->random)
        return "the version is 1, and neither now_ms nor random is NULL";
    uint32_t before = port->now_ms(port->context);
    for (int i = 0; i < 1000; i++) {
        const uint32_t now = port->now_ms(port->context);
        if (now - before > UINT32_MAX / 2)
            return "the clock never goes back";
        before = now;
    }
    for (int i = 0; i < 3; i++) {
        before = port->now_ms(port->context);
        pass(context, 200);
        const uint32_t passed = port->now_ms(port->context) - before;
        if (passed < 180)
            return "the clock goes on while nobody asks it, and counts milliseconds";
        if (passed > 2000) /* whoever waits may wait a little longer */
            return "the clock counts milliseconds, not something shorter";
    }
    return NULL;
}
