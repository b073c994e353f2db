/* SPDX-License-Identifier: MIT
 *
 * scripted_broker.h - an MQTT broker that does what a test tells it, right or wrong.
 *
 * One thread, one connection at a time, on a free port of the loopback interface. It keeps every
 * packet that it reads, so that a test can look at the bytes. What no rule forbids it answers as a
 * broker must: CONNECT, PUBLISH, UNSUBSCRIBE, PINGREQ.
 */
#ifndef OUTBOX_TESTS_SCRIPTED_BROKER_H
#define OUTBOX_TESTS_SCRIPTED_BROKER_H

#include <stddef.h>

typedef struct scripted_broker scripted_broker;

/* Bytes to send; size 0: none. SCRIPTED("\x20\x02\x00\x00") */
typedef struct scripted_bytes {
    const char *bytes;
    size_t size;
} scripted_bytes;

#define SCRIPTED(literal) ((scripted_bytes){"" literal, sizeof(literal) - 1})

#define SCRIPTED_CONNACK3 SCRIPTED("\x20\x02\x00\x00")
#define SCRIPTED_CONNACK5 SCRIPTED("\x20\x03\x00\x00\x00")

#define SCRIPTED_NO_PUBACK (-1)

typedef struct scripted_rules {
    scripted_bytes connack5, connack3; /* to a CONNECT of MQTT 5, of 3.1.1 */
    int hang_up;                       /* after the CONNACK */
    int deaf;                          /* reads nothing any more after the CONNACK */
    int puback_reason;                 /* or SCRIPTED_NO_PUBACK */
    int acknowledge_first;             /* so many publishes of a connection get reason 0 anyway */
    unsigned cut_after;                /* closes on this publish, unanswered; 0: never */
    unsigned cut_connection;           /* only on this connection, from 1; 0: on each */
    unsigned farewell_after;           /* sends `farewell` on this publish and closes; 0: never */
    scripted_bytes farewell;
    const char *poison;            /* closes on a publish to this topic, unanswered; NULL: none */
    int reset;                     /* closes by RST instead of FIN */
    int no_sign_of_life;           /* answers neither UNSUBSCRIBE nor PINGREQ */
    scripted_bytes unsuback5_tail; /* MQTT 5: properties and reasons; size 0: "\x00\x11" */
} scripted_rules;

/* A broker of MQTT 3.1.1 that does all that it should, but hangs up on a publish to `topic`: all
 * that it can do about an event that it will never take. It turns MQTT 5 away. */
scripted_rules scripted_poisoned(const char *topic);

/* Packet types, as in the upper half of the first byte. */
enum {
    SCRIPTED_CONNECT = 1,
    SCRIPTED_PUBLISH = 3,
    SCRIPTED_UNSUBSCRIBE = 10,
    SCRIPTED_PINGREQ = 12,
    SCRIPTED_DISCONNECT = 14
};

typedef struct scripted_packet {
    unsigned connection; /* counts from 1 */
    size_t size;
    const unsigned char *bytes; /* the whole packet; valid until scripted_broker_stop() */
} scripted_packet;

/* A PUBLISH, taken apart. */
typedef struct scripted_publish {
    int qos, dup, retain;
    size_t topic_size, properties_size, payload_size;
    const unsigned char *topic, *properties, *payload;
} scripted_publish;

scripted_broker *scripted_broker_start(const scripted_rules *rules);
void scripted_broker_stop(scripted_broker *broker);
unsigned scripted_broker_port(const scripted_broker *broker);

/* Holds for what comes from now on. */
void scripted_broker_set(scripted_broker *broker, const scripted_rules *rules);

/* Closes the connection that is there; by RST if the rules say so. */
void scripted_broker_cut(scripted_broker *broker);

/* Waits until `count` packets of a type were read, in all connections; or fails the test. */
void scripted_broker_await(scripted_broker *broker, int type, size_t count);

/* Waits until the peer has closed `count` connections, or we have; or fails the test. */
void scripted_broker_await_ends(scripted_broker *broker, unsigned count);

size_t scripted_broker_count(scripted_broker *broker, int type);
unsigned scripted_broker_connections(scripted_broker *broker);

/* The packet of this type with this index, from 0; fails the test when there is none. */
scripted_packet scripted_broker_packet(scripted_broker *broker, int type, size_t index);

/* `version` is 4 or 5. Fails the test when the packet is malformed. */
scripted_publish scripted_broker_parse(scripted_packet packet, int version);

#endif
