/* SPDX-License-Identifier: MIT
 *
 * rest.c - when the forwarder is connected at all: the gate, and batches that wake the radio
 * seldom.
 *
 * Without a gate or a batch it always wants to be connected, and nothing here costs anything.
 * Otherwise it rests in IDLE, counts what waits whenever somebody may have written, and connects
 * once there is a reason; it goes back to rest when all that may be sent is sent and settled.
 * Memory only: after a crash the gate is open and the wait for the batch begins anew.
 */
#include "machine.h"

static bool batches(const outbox_forwarder *f)
{
    return f->config.batch_events > 0 || f->config.batch_seconds > 0;
}

bool ob_rest_is_possible(const outbox_forwarder *f)
{
    return f->gate != OUTBOX_GATE_OPEN || batches(f);
}

bool ob_rest_allows(const outbox_forwarder *f, const struct ob_lane *lane)
{
    return f->gate == OUTBOX_GATE_OPEN ||
           (f->gate == OUTBOX_GATE_URGENT_ONLY && lane->number == OUTBOX_URGENT);
}

static uint64_t batch_at(const outbox_forwarder *f)
{
    return f->waits_since + UINT64_C(1000) * f->config.batch_seconds;
}

static bool batch_is_due(const outbox_forwarder *f)
{
    int64_t waiting = f->lane[OUTBOX_NORMAL].waiting;
    return waiting > 0 &&
           (f->batch_runs || (f->config.batch_events > 0 && waiting >= f->config.batch_events) ||
            (f->config.batch_seconds > 0 && ob_machine_has_come(f, batch_at(f))));
}

/* Only while at rest: online the windows tell. */
static bool wants_link(const outbox_forwarder *f)
{
    if (!ob_rest_is_possible(f))
        return true;
    if (f->gate == OUTBOX_GATE_CLOSED)
        return false;
    return f->lane[OUTBOX_URGENT].waiting > 0 || f->lane[OUTBOX_URGENT].flush_id > 0 ||
           (f->gate == OUTBOX_GATE_OPEN &&
            (batch_is_due(f) || f->lane[OUTBOX_NORMAL].flush_id > 0));
}

/* What was sent and has to stay, as it lies behind a hole of the file, is no reason to connect. */
static int64_t without_sent(const outbox_forwarder *f, const struct ob_lane *lane, int64_t count)
{
    int64_t head = ob_machine_head(f, lane)->id, sent = lane->damage.sent;
    int64_t left = sent > head ? count - (sent - head) : count;
    return left > 0 ? left : 0;
}

static void count_waiting(outbox_forwarder *f, struct ob_lane *lane)
{
    if (!lane->more || ob_store_is_blocked(&f->store) ||
        !ob_machine_has_come(f, f->store_not_before))
        return;
    int64_t before = lane->waiting;
    int code = ob_store_count(&f->store, lane->number, &lane->waiting);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return;
    }
    lane->waiting = without_sent(f, lane, lane->waiting);
    lane->more = false; /* until somebody writes; asked anew when the link is open */
    if (lane->number == OUTBOX_NORMAL && lane->waiting == 0)
        f->batch_runs = false; /* it left otherwise */
    if (lane->number == OUTBOX_NORMAL && before == 0 && lane->waiting > 0)
        f->waits_since = f->now;
}

bool ob_rest_is_over(outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES && ob_rest_is_possible(f) && f->gate != OUTBOX_GATE_CLOSED;
         i++)
        count_waiting(f, &f->lane[i]);
    bool connects = wants_link(f);
    if (connects && batch_is_due(f))
        f->batch_runs = true; /* until it is sent, also if the link is lost */
    return connects;
}

static bool is_done(const outbox_forwarder *f, const struct ob_lane *lane)
{
    return !ob_rest_allows(f, lane) || (!lane->more && ob_window_count(&lane->window) == 0);
}

/* What is in flight is waited for; what is acked is settled first, unless the gate is closed. */
bool ob_rest_begins(const outbox_forwarder *f)
{
    return ob_rest_is_possible(f) && ob_machine_in_flight(f) == 0 &&
           is_done(f, &f->lane[OUTBOX_NORMAL]) && is_done(f, &f->lane[OUTBOX_URGENT]);
}

void ob_rest(outbox_forwarder *f)
{
    bool was_online = f->state == OB_ONLINE;
    if (was_online)
        ob_machine_drop_link(f);
    if (was_online && ob_rest_allows(f, &f->lane[OUTBOX_NORMAL]))
        f->batch_runs = false;
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (was_online && ob_rest_allows(f, &f->lane[i]))
            f->lane[i].flush_id = 0; /* nothing more can leave: it is behind a hole */
        f->lane[i].waiting = 0;
        f->lane[i].more = true; /* counted anew */
    }
    ob_machine_enter(f, OB_IDLE);
}

void ob_rest_next(const outbox_forwarder *f, uint32_t *next_ms)
{
    if (f->state != OB_IDLE || f->gate == OUTBOX_GATE_CLOSED)
        return;
    for (int i = 0; i < OUTBOX_LANES && !ob_store_is_blocked(&f->store); i++)
        if (f->lane[i].more)
            ob_machine_sooner(f, f->store_not_before, next_ms);
    if (f->gate == OUTBOX_GATE_OPEN && f->config.batch_seconds > 0 &&
        f->lane[OUTBOX_NORMAL].waiting > 0)
        ob_machine_sooner(f, batch_at(f), next_ms);
}

void outbox_forwarder_gate(outbox_forwarder *f, outbox_gate_state gate)
{
    f->gate = gate;
    for (int i = 0; i < OUTBOX_LANES; i++)
        f->lane[i].more = true; /* what could not be sent before is looked at again */
}
