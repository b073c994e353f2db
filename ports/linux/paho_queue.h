/* SPDX-License-Identifier: MIT
 *
 * paho_queue.h - what Paho's threads leave for the thread that drives the link.
 *
 * A queue belongs to one link and lives as long as it. Within a connection it gives out tickets:
 * the `context` of every callback. A ticket is a number, never a pointer. It names the queue, the
 * connection and the publish, and it is void as soon as the next connection has begun or the queue
 * is freed; a callback that comes late with it finds nothing.
 */
#ifndef OUTBOX_PAHO_QUEUE_H
#define OUTBOX_PAHO_QUEUE_H

#include <outbox/port.h>

#define OUTBOX_PAHO_WINDOW_MAX 1000 /* publishes in flight */
#define OUTBOX_PAHO_UNACKED_MAX 16  /* and at QoS 0 such that are not written yet */
#define OUTBOX_PAHO_LINKS_MAX 64    /* queues in a process */

/* Paho 1.3.12 never frees a publish that it was given but had not yet begun to write when the
 * connection was lost. It writes at once what the kernel takes, so no more is given to it than the
 * send buffer of a new TCP connection holds (measured: 47 KB at an MSS of 1,400), and a single
 * larger publish only when nothing else is in flight. */
#define OUTBOX_PAHO_BYTES_MAX 40960

typedef struct outbox_paho_queue outbox_paho_queue;

/* What the server said in its CONNACK, with the defaults of the standard filled in. */
typedef struct outbox_paho_limits {
    unsigned receive_maximum;
    uint32_t maximum_packet; /* 0: no limit */
    int maximum_qos;
    int retain_available;
    unsigned keep_alive; /* Server Keep Alive; 0: it keeps to ours */
} outbox_paho_limits;

/* How a connection ended. */
typedef enum outbox_paho_end {
    OUTBOX_PAHO_UNREACHED, /* no CONNACK; `text` says how far it came */
    OUTBOX_PAHO_REFUSED,   /* CONNACK with `reason` */
    OUTBOX_PAHO_DISMISSED, /* DISCONNECT with `reason` */
    OUTBOX_PAHO_LOST,      /* the stream broke or fell silent; Paho does not say which */
    OUTBOX_PAHO_LOCAL      /* we could not begin; `text` is the whole sentence */
} outbox_paho_end;

typedef struct outbox_paho_event {
    outbox_link_event_kind kind;
    outbox_paho_limits limits; /* OPENED */
    uint32_t token;            /* ACKED */
    int reason;                /* ACKED, CLOSED */
    outbox_paho_end end;       /* CLOSED */
    uint64_t silent_ms; /* CLOSED: since the last answer of the server that Paho told us of */
    char text[120];     /* CLOSED */
} outbox_paho_event;

/* Whether it was the other side that ended a connection which had been up, with a keep-alive of so
 * many seconds. After a DISCONNECT it was. When the stream was lost, Paho calls back in the same
 * way for FIN, RST and a ping without an answer. But a ping is given up a whole keep-alive after it
 * was sent, and TCP gives up later still (after a quarter of an hour, unless the system was told
 * otherwise). So it was the other side if an answer came shortly before: within half a keep-alive,
 * and within 15 s. Later than that nobody can tell, and the result is 0. */
int outbox_paho_is_by_peer(const outbox_paho_event *event, unsigned keep_alive);

/* Makes a queue for at most `window` publishes in flight. wake(context) is called, with no lock of
 * ours held, after each event. NULL: no memory, or OUTBOX_PAHO_LINKS_MAX queues exist. */
outbox_paho_queue *outbox_paho_queue_new(unsigned window, void (*wake)(void *context),
                                         void *context);

/* Waits until no call of wake() is under way. Nobody may drive the link any more. */
void outbox_paho_queue_free(outbox_paho_queue *queue);

/* ---- For the thread that drives the link ----------------------------------------------------- */

/* Voids all tickets, forgets all events and gives the ticket of the next connection. */
void *outbox_paho_queue_begin(outbox_paho_queue *queue);

/* Gives the ticket of a publish of `bytes` bytes. OUTBOX_LINK_AGAIN: `window` publishes or
 * OUTBOX_PAHO_BYTES_MAX bytes are in flight. OUTBOX_LINK_DOWN: the connection has ended. */
outbox_link_result outbox_paho_queue_reserve(outbox_paho_queue *queue, uint32_t token, size_t bytes,
                                             unsigned window, void **ticket);

/* The same for one at QoS 0, of which no ACKED comes: outbox_paho_queue_acked() tells that Paho has
 * written it. OUTBOX_LINK_AGAIN: OUTBOX_PAHO_UNACKED_MAX of them are not written yet, or too many
 * bytes. */
outbox_link_result outbox_paho_queue_reserve_unacked(outbox_paho_queue *queue, size_t bytes,
                                                     void **ticket);

/* Gives the ticket of a probe. OUTBOX_LINK_AGAIN: there is one already whose ALIVE was not taken.
 * OUTBOX_LINK_DOWN: the connection has ended. */
outbox_link_result outbox_paho_queue_probe(outbox_paho_queue *queue, void **ticket);

/* Takes the ticket back: the publish or the probe was not sent. */
void outbox_paho_queue_cancel(outbox_paho_queue *queue, void *ticket);

/* Takes the next event: OPENED, then each ACKED and ALIVE, then CLOSED once. Returns 0 when there
 * is none. */
int outbox_paho_queue_take(outbox_paho_queue *queue, outbox_paho_event *event);

/* ---- For callbacks, from any thread ---------------------------------------------------------- */

void outbox_paho_queue_opened(void *ticket, const outbox_paho_limits *limits);
void outbox_paho_queue_acked(void *ticket, int reason);
void outbox_paho_queue_alive(void *ticket);

/* Takes the ticket of the connection, or of a publish or probe on it. The first end counts. */
void outbox_paho_queue_ended(void *ticket, outbox_paho_end end, int reason, const char *text);

/* A complaint that explains the end which follows it, and which Paho does not pass on. */
void outbox_paho_queue_note(void *ticket, const char *text, size_t length);

#endif
