/* SPDX-License-Identifier: MIT
 *
 * receiver.h - a subscriber over MQTTAsync that keeps its session, for `outbox receive`.
 *
 * It subscribes at QoS 1 in a session that the broker keeps, connects again by itself with a
 * growing pause, and hands over each message. The message is acknowledged to the broker when it has
 * been handed over, and Paho has no way to refuse that: whoever cannot keep a message must not
 * return.
 */
#ifndef OUTBOX_LINUX_RECEIVER_H
#define OUTBOX_LINUX_RECEIVER_H

#include "url.h"

#include <outbox/inbox.h>

typedef struct outbox_receiver outbox_receiver;

typedef struct outbox_receiver_options {
    const outbox_url *url;
    const char *username, *password; /* NULL: those of the URL */
    const char *client_id;           /* names the session at the broker */
    const char *filter;              /* what is subscribed to */
    int protocol;                    /* 5, 4 (MQTT 3.1.1), or 0: 5, and 4 where 5 is refused */
    const char *ca_file, *cert_file, *key_file;
    unsigned session_seconds; /* the broker keeps the session so long without us (MQTT 5); not 0 */
    /* Called for each message, one after the other, on a thread of Paho's with its lock held: call
     * nothing of Paho's or of the receiver. The message is the caller's until it returns. */
    void (*deliver)(void *context, inbox_text topic, const inbox_message *message);
    /* Called when outbox_receiver_step() has something to do. Any thread; return soon. */
    void (*wake)(void *context);
    void *context;
    outbox_log log; /* from outbox_receiver_step() */
    void *log_context;
} outbox_receiver_options;

/* Makes a receiver; the options' strings must live as long as it. NULL: no memory. */
outbox_receiver *outbox_receiver_new(const outbox_receiver_options *options);

/* Connects, subscribes, connects again: whatever is due. Returns the time until it wants to be
 * called again, in ms, unless wake() is called before. May block for a second in Paho. */
unsigned outbox_receiver_step(outbox_receiver *receiver);

/* Ends the connection, the session stays at the broker, and frees the receiver. Nothing is
 * delivered after it. NULL is allowed. */
void outbox_receiver_free(outbox_receiver *receiver);

#endif
