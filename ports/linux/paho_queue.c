/* SPDX-License-Identifier: MIT
 *
 * paho_queue.c - the only code of ours that Paho's threads run: push an event, then wake.
 *
 * Paho calls back with its process-wide mutex held, from two threads that all clients of the
 * process share, and also out of MQTTAsync_destroy(). So these functions call nothing of Paho,
 * wait for nothing, and take one mutex that is a leaf: nothing is called while it is held. It is
 * one for all queues, because it guards the registry through which a ticket finds its queue.
 *
 *   ticket, 32 bits, as a pointer may have no more:
 *      31..26  place in the registry
 *      25..10  generation: counts the connections of that place
 *       9..0   index of the publish, or PROBE, or CONNECTION
 *
 * An index is given out again only after its ACKED was taken, and PROBE after its ALIVE, so the
 * events of a connection always have room: one OPENED, one ACKED for each index, one ALIVE, one
 * CLOSED. Nothing here outlives the process;
 * after a crash the forwarder reads from the database what was not acknowledged.
 */
#include "paho_queue.h"

#include "clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_BITS 10
#define GENERATION_BITS 16
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define GENERATION_MASK ((1u << GENERATION_BITS) - 1)
#define CONNECTION INDEX_MASK /* the index that stands for the connection itself */
#define PROBE (CONNECTION - 1)
#define NONE UINT16_MAX
#define FRESH_MS_MAX 15000u /* see outbox_paho_is_by_peer() */

_Static_assert(OUTBOX_PAHO_WINDOW_MAX + OUTBOX_PAHO_UNACKED_MAX <= PROBE,
               "an index names each publish in flight");
_Static_assert(OUTBOX_PAHO_LINKS_MAX <= 1u << (32 - INDEX_BITS - GENERATION_BITS), "and a place");

/* UNACKED: at QoS 0, and not written yet. */
typedef enum flight_state { FREE, SENT, ACKED, UNACKED } flight_state;

typedef struct flight {
    uint32_t token;
    size_t bytes;
    uint16_t next; /* of the free ones, or of those whose ACKED waits to be taken */
    uint8_t state; /* flight_state */
    uint8_t reason;
} flight;

/* OPENED and CLOSED: not yet there, waiting to be taken, taken. */
typedef enum step { NOT_YET, WAITING, TAKEN } step;

struct outbox_paho_queue {
    unsigned place;
    void (*wake)(void *context);
    void *wake_context;
    step opened, closed;
    flight_state probe;   /* of the one that may be under way */
    uint64_t heard_at_ms; /* when the server answered last */
    outbox_paho_limits limits;
    outbox_paho_end end;
    uint64_t silent_ms; /* at the end */
    int end_reason;
    char text[120], note[120];
    unsigned window, capacity; /* capacity: the window, and room for those at QoS 0 */
    unsigned in_flight, unacked;
    size_t bytes;
    uint16_t free, first_acked, last_acked; /* heads and tail of the lists through flight.next */
    flight flights[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t unpinned = PTHREAD_COND_INITIALIZER;
static struct {
    outbox_paho_queue *queue;
    unsigned generation; /* outlives the queue, so that a late ticket does not fit the next one */
    unsigned pins;       /* calls of wake() under way */
} registry[OUTBOX_PAHO_LINKS_MAX];

/* A default mutex of ours that is never destroyed: neither call can fail. */
static void enter(void)
{
    int rc = pthread_mutex_lock(&lock);
    assert(rc == 0);
    (void)rc;
}

static void leave(void)
{
    int rc = pthread_mutex_unlock(&lock);
    assert(rc == 0);
    (void)rc;
}

/* ---- Tickets --------------------------------------------------------------------------------- */

static void *ticket_of(const outbox_paho_queue *q, unsigned index)
{
    uint32_t number = (uint32_t)q->place << (INDEX_BITS + GENERATION_BITS) |
                      (uint32_t)registry[q->place].generation << INDEX_BITS | index;
    return (void *)(uintptr_t)number;
}

static unsigned index_of(void *ticket)
{
    return (unsigned)(uintptr_t)ticket & INDEX_MASK;
}

/* The queue whose present connection the ticket names, or NULL. */
static outbox_paho_queue *find(void *ticket)
{
    uint32_t number = (uint32_t)(uintptr_t)ticket;
    unsigned place = number >> (INDEX_BITS + GENERATION_BITS);
    unsigned generation = number >> INDEX_BITS & GENERATION_MASK;
    assert(place < OUTBOX_PAHO_LINKS_MAX);
    return registry[place].generation == generation ? registry[place].queue : NULL;
}

/* The publish in flight that the ticket names, or NULL. */
static flight *find_flight(outbox_paho_queue *q, void *ticket)
{
    unsigned index = index_of(ticket);
    if (q == NULL || index >= q->capacity ||
        (q->flights[index].state != SENT && q->flights[index].state != UNACKED))
        return NULL;
    return &q->flights[index];
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void forget(outbox_paho_queue *q)
{
    q->opened = q->closed = NOT_YET;
    q->probe = FREE;
    q->heard_at_ms = 0;
    q->text[0] = q->note[0] = '\0';
    q->in_flight = q->unacked = 0;
    q->bytes = 0;
    q->first_acked = q->last_acked = NONE;
    q->free = 0;
    for (unsigned i = 0; i < q->capacity; i++)
        q->flights[i] = (flight){.next = i + 1 < q->capacity ? (uint16_t)(i + 1) : NONE};
}

outbox_paho_queue *outbox_paho_queue_new(unsigned window, void (*wake)(void *context),
                                         void *context)
{
    assert(window >= 1 && window <= OUTBOX_PAHO_WINDOW_MAX);
    unsigned capacity = window + OUTBOX_PAHO_UNACKED_MAX;
    outbox_paho_queue *q = calloc(1, sizeof(*q) + capacity * sizeof(flight));
    if (q == NULL)
        return NULL;
    q->wake = wake;
    q->wake_context = context;
    q->window = window;
    q->capacity = capacity;
    forget(q);
    enter();
    unsigned place = 0;
    while (place < OUTBOX_PAHO_LINKS_MAX && registry[place].queue != NULL)
        place++;
    if (place < OUTBOX_PAHO_LINKS_MAX) {
        q->place = place;
        registry[place].queue = q;
    }
    leave();
    if (place == OUTBOX_PAHO_LINKS_MAX) {
        free(q);
        return NULL;
    }
    return q;
}

void outbox_paho_queue_free(outbox_paho_queue *q)
{
    if (q == NULL)
        return;
    enter();
    assert(registry[q->place].queue == q);
    registry[q->place].generation = (registry[q->place].generation + 1) & GENERATION_MASK;
    while (registry[q->place].pins > 0)
        (void)pthread_cond_wait(&unpinned, &lock); /* returns 0 or wakes for no reason */
    registry[q->place].queue = NULL;
    leave();
    free(q);
}

void *outbox_paho_queue_begin(outbox_paho_queue *q)
{
    enter();
    registry[q->place].generation = (registry[q->place].generation + 1) & GENERATION_MASK;
    forget(q);
    void *ticket = ticket_of(q, CONNECTION);
    leave();
    return ticket;
}

/* ---- The link's side ------------------------------------------------------------------------- */

static bool has_bytes(const outbox_paho_queue *q, size_t bytes)
{
    return q->in_flight + q->unacked == 0 || q->bytes + bytes <= OUTBOX_PAHO_BYTES_MAX;
}

/* The ticket of a free index. */
static void *take_free(outbox_paho_queue *q, uint32_t token, size_t bytes, flight_state state)
{
    unsigned index = q->free;
    assert(index != NONE);
    flight *f = &q->flights[index];
    assert(f->state == FREE);
    q->free = f->next;
    *f = (flight){.token = token, .bytes = bytes, .next = NONE, .state = (uint8_t)state};
    q->bytes += bytes;
    if (state == UNACKED)
        q->unacked++;
    else
        q->in_flight++;
    return ticket_of(q, index);
}

outbox_link_result outbox_paho_queue_reserve(outbox_paho_queue *q, uint32_t token, size_t bytes,
                                             unsigned window, void **ticket)
{
    outbox_link_result result = OUTBOX_LINK_OK;
    enter();
    if (q->closed != NOT_YET)
        result = OUTBOX_LINK_DOWN;
    else if (q->in_flight >= q->window || q->in_flight >= window || !has_bytes(q, bytes))
        result = OUTBOX_LINK_AGAIN;
    else
        *ticket = take_free(q, token, bytes, SENT);
    leave();
    return result;
}

outbox_link_result outbox_paho_queue_reserve_unacked(outbox_paho_queue *q, size_t bytes,
                                                     void **ticket)
{
    outbox_link_result result = OUTBOX_LINK_OK;
    enter();
    if (q->closed != NOT_YET)
        result = OUTBOX_LINK_DOWN;
    else if (q->unacked >= OUTBOX_PAHO_UNACKED_MAX || !has_bytes(q, bytes))
        result = OUTBOX_LINK_AGAIN;
    else
        *ticket = take_free(q, 0, bytes, UNACKED);
    leave();
    return result;
}

static void release(outbox_paho_queue *q, unsigned index)
{
    flight *f = &q->flights[index];
    unsigned *count = f->state == UNACKED ? &q->unacked : &q->in_flight;
    assert(f->state != FREE && *count > 0 && q->bytes >= f->bytes);
    (*count)--;
    q->bytes -= f->bytes;
    *f = (flight){.next = q->free, .state = FREE};
    q->free = (uint16_t)index;
}

outbox_link_result outbox_paho_queue_probe(outbox_paho_queue *q, void **ticket)
{
    outbox_link_result result = OUTBOX_LINK_OK;
    enter();
    if (q->closed != NOT_YET) {
        result = OUTBOX_LINK_DOWN;
    } else if (q->probe != FREE) {
        result = OUTBOX_LINK_AGAIN;
    } else {
        q->probe = SENT;
        *ticket = ticket_of(q, PROBE);
    }
    leave();
    return result;
}

void outbox_paho_queue_cancel(outbox_paho_queue *q, void *ticket)
{
    enter();
    assert(find(ticket) == q);
    if (index_of(ticket) == PROBE)
        q->probe = FREE;
    else if (find_flight(q, ticket) != NULL)
        release(q, index_of(ticket));
    leave();
}

static void take_opened(outbox_paho_queue *q, outbox_paho_event *event)
{
    event->kind = OUTBOX_LINK_OPENED;
    event->limits = q->limits;
    q->opened = TAKEN;
}

static void take_acked(outbox_paho_queue *q, outbox_paho_event *event)
{
    unsigned index = q->first_acked;
    const flight *f = &q->flights[index];
    assert(f->state == ACKED);
    event->kind = OUTBOX_LINK_ACKED;
    event->token = f->token;
    event->reason = f->reason;
    q->first_acked = f->next;
    if (q->first_acked == NONE)
        q->last_acked = NONE;
    release(q, index);
}

static void take_alive(outbox_paho_queue *q, outbox_paho_event *event)
{
    event->kind = OUTBOX_LINK_ALIVE;
    q->probe = FREE;
}

static void take_closed(outbox_paho_queue *q, outbox_paho_event *event)
{
    event->kind = OUTBOX_LINK_CLOSED;
    event->end = q->end;
    event->silent_ms = q->silent_ms;
    event->reason = q->end_reason;
    (void)snprintf(event->text, sizeof(event->text), "%s", q->text);
    q->closed = TAKEN;
}

int outbox_paho_queue_take(outbox_paho_queue *q, outbox_paho_event *event)
{
    int taken = 1;
    memset(event, 0, sizeof(*event));
    enter();
    if (q->opened == WAITING)
        take_opened(q, event);
    else if (q->first_acked != NONE)
        take_acked(q, event);
    else if (q->probe == ACKED)
        take_alive(q, event);
    else if (q->closed == WAITING)
        take_closed(q, event);
    else
        taken = 0;
    leave();
    return taken;
}

int outbox_paho_is_by_peer(const outbox_paho_event *event, unsigned keep_alive)
{
    uint64_t fresh_ms = (uint64_t)keep_alive * 1000 / 2;
    if (fresh_ms > FRESH_MS_MAX)
        fresh_ms = FRESH_MS_MAX;
    return event->end == OUTBOX_PAHO_DISMISSED ||
           (event->end == OUTBOX_PAHO_LOST && event->silent_ms < fresh_ms);
}

/* ---- The callbacks' side --------------------------------------------------------------------- */

/* Ends a callback that has entered: leaves, and wakes when an event was pushed. The pin keeps the
 * queue's owner from going away in between. */
static void leave_and_wake(outbox_paho_queue *q)
{
    if (q == NULL || q->wake == NULL) {
        leave();
        return;
    }
    unsigned place = q->place;
    registry[place].pins++;
    leave();
    q->wake(q->wake_context);
    enter();
    if (--registry[place].pins == 0)
        (void)pthread_cond_broadcast(&unpinned); /* cannot fail */
    leave();
}

void outbox_paho_queue_opened(void *ticket, const outbox_paho_limits *limits)
{
    enter();
    outbox_paho_queue *q = find(ticket);
    if (q != NULL && (q->opened != NOT_YET || q->closed != NOT_YET))
        q = NULL;
    if (q != NULL) {
        q->opened = WAITING;
        q->heard_at_ms = outbox_linux_now_ms();
        q->limits = *limits;
    }
    leave_and_wake(q);
}

void outbox_paho_queue_acked(void *ticket, int reason)
{
    enter();
    outbox_paho_queue *q = find(ticket);
    flight *f = find_flight(q, ticket);
    if (f == NULL || q->closed != NOT_YET) {
        q = NULL;
    } else if (f->state == UNACKED) {
        release(q, index_of(ticket)); /* written: the server has said nothing */
    } else {
        uint16_t index = (uint16_t)index_of(ticket);
        q->heard_at_ms = outbox_linux_now_ms();
        f->state = ACKED;
        f->reason = (uint8_t)reason;
        if (q->last_acked == NONE)
            q->first_acked = index;
        else
            q->flights[q->last_acked].next = index;
        q->last_acked = index;
    }
    leave_and_wake(q);
}

void outbox_paho_queue_alive(void *ticket)
{
    enter();
    outbox_paho_queue *q = find(ticket);
    if (q != NULL && (index_of(ticket) != PROBE || q->probe != SENT || q->closed != NOT_YET))
        q = NULL;
    if (q != NULL) {
        q->heard_at_ms = outbox_linux_now_ms();
        q->probe = ACKED;
    }
    leave_and_wake(q);
}

void outbox_paho_queue_ended(void *ticket, outbox_paho_end end, int reason, const char *text)
{
    enter();
    outbox_paho_queue *q = find(ticket);
    if (q != NULL && q->closed != NOT_YET)
        q = NULL;
    if (q != NULL) {
        if (end == OUTBOX_PAHO_UNREACHED && q->note[0] != '\0')
            text = q->note;
        q->closed = WAITING;
        q->end = end;
        q->silent_ms = outbox_linux_now_ms() - q->heard_at_ms;
        q->end_reason = reason;
        (void)snprintf(q->text, sizeof(q->text), "%s", text != NULL ? text : "");
    }
    leave_and_wake(q);
}

void outbox_paho_queue_note(void *ticket, const char *text, size_t length)
{
    enter();
    outbox_paho_queue *q = find(ticket);
    if (q != NULL && length > 0)
        (void)snprintf(q->note, sizeof(q->note), "%.*s", length < 120 ? (int)length : 120, text);
    leave();
}
