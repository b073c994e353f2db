/* SPDX-License-Identifier: MIT
 *
 * superloop.c - binds a handle to a forwarder that the handle's own thread steps.
 *
 * Hands on what the handle has to tell, at once, as no lock is needed. Nothing here is stored, so
 * nothing has to hold after a crash.
 */
#include <outbox/forwarder.h>

static void loop_committed(void *forwarder, const int64_t durable[OUTBOX_LANES])
{
    outbox_forwarder_committed(forwarder, durable);
}

static void loop_stats(void *forwarder, outbox_statistics *statistics)
{
    outbox_forwarder_stats(forwarder, statistics);
}

/* Waiting here would wait for steps that nobody takes. */
static int loop_flush(void *forwarder, const int64_t last[OUTBOX_LANES], unsigned timeout_ms)
{
    (void)timeout_ms;
    outbox_forwarder_flush(forwarder, last);
    return OUTBOX_TIMEOUT;
}

static int64_t loop_acked(void *forwarder, outbox_lane lane)
{
    return outbox_forwarder_acked(forwarder, lane);
}

static void loop_gate(void *forwarder, outbox_gate_state gate)
{
    outbox_forwarder_gate(forwarder, gate);
}

static void loop_stop(void *forwarder)
{
    outbox_forwarder_close(forwarder);
}

static void loop_fired(void *forwarder, const void *events, size_t size, unsigned count)
{
    (void)count;
    outbox_forwarder_fire(forwarder, events, size);
}

static const outbox_service superloop = {.version = 1,
                                         .committed = loop_committed,
                                         .stats = loop_stats,
                                         .flush = loop_flush,
                                         .acked = loop_acked,
                                         .gate = loop_gate,
                                         .stop = loop_stop,
                                         .fired = loop_fired};

int outbox_forwarder_bind(outbox_forwarder *forwarder, outbox *box)
{
    return forwarder ? outbox_bind(box, &superloop, forwarder) : OUTBOX_MISUSE;
}
