/* SPDX-License-Identifier: MIT
 *
 * mqtt_link.h - the stream link's state, and what its files call of each other.
 *
 *   mqtt_stream.c  opening, what the server says, time: the methods of the link
 *   mqtt_send.c    the send buffer, and how a connection ends
 *   mqtt_setup.c   configuration and memory
 *
 *            open              stream is open           CONNACK
 *     IDLE ---------> OPENING ----------------> AWAITING -------> ONLINE
 *      ^  close         ^ |                      |  |               |
 *      +------ all      | |  again as 3.1.1      |  |               |
 *                       +-|----------------------+  |               |
 *                         +------> ENDED <----------+---------------+
 *
 *     send buffer       [ written | not yet written | free | room for two PINGREQ and DISCONNECT ]
 *     receive buffer    [ decoded | not yet decoded | free ]
 */
#ifndef OB_MQTT_LINK_H
#define OB_MQTT_LINK_H

#include "flights.h"
#include "mqtt_decode.h"
#include "mqtt_encode.h"

enum ob_mqtt_state {
    OB_MQTT_IDLE,
    OB_MQTT_OPENING,
    OB_MQTT_AWAITING,
    OB_MQTT_ONLINE,
    OB_MQTT_ENDED,
    OB_MQTT_STATES
};

/* Bytes of the send buffer that no PUBLISH gets. */
enum { OB_MQTT_RESERVE = 2 * OB_MQTT_PINGREQ_SIZE + OB_MQTT_DISCONNECT_SIZE };

struct ob_send_buffer {
    uint8_t *bytes;
    size_t size, from, to; /* from..to is not yet written */
    bool is_stuck;         /* the stream had no room at the last attempt */
    bool has_ended;        /* the other side takes nothing any more */
};

struct ob_receive_buffer {
    uint8_t *bytes;
    size_t size, from, to; /* from..to is not yet decoded */
    bool has_more;         /* poll() ended before the stream had nothing more */
};

struct ob_mqtt_link {
    outbox_link base; /* comes first */
    outbox_stream *stream;
    const outbox_port *port;
    outbox_stream_link_config config; /* with the defaults filled in */
    enum ob_mqtt_state state;
    int version; /* of the present connection, or of the next one */

    struct ob_send_buffer out;
    struct ob_receive_buffer in;
    struct ob_mqtt_decoder decoder;
    struct ob_flights flights;
    struct ob_flight *places;

    /* The server's, once online. */
    unsigned receive_maximum;
    uint32_t maximum_packet;
    bool retain_available;
    uint32_t keep_alive_ms;

    uint32_t opened_at, sent_at, heard_at, pinged_at;
    unsigned pings; /* PINGREQ without their PINGRESP */
    unsigned probe; /* so many PINGRESP until the probe's; 0: no probe is under way */
    bool has_said_unknown;

    bool has_closed; /* `closed` waits to be taken */
    outbox_link_event closed;
};

extern const outbox_link_methods ob_mqtt_methods;

uint32_t ob_mqtt_now(const struct ob_mqtt_link *link);
void ob_mqtt_say(const struct ob_mqtt_link *link, outbox_level level, int code, const char *format,
                 ...);

/* Goes to a state that may follow. */
void ob_mqtt_enter(struct ob_mqtt_link *link, enum ob_mqtt_state state);

/* Before a connection, and after it: nothing of the last one is left. */
void ob_mqtt_forget(struct ob_mqtt_link *link);

/* Each ends the connection: closes the stream, and a CLOSED waits to be taken. `by_peer` holds only
 * for one that was up. The stream's own words must be in the sentence already. */
void ob_mqtt_end(struct ob_mqtt_link *link, int reason, bool by_peer, const char *format, ...);
void ob_mqtt_end_lost(struct ob_mqtt_link *link, bool by_peer, const char *why);
void ob_mqtt_end_of_stream(struct ob_mqtt_link *link, outbox_stream_result result);

/* A place for `size` bytes more, with room for `reserve` behind it, or NULL. */
uint8_t *ob_mqtt_make_room(struct ob_mqtt_link *link, size_t size, size_t reserve);

/* Writes what the stream takes now. It may end the connection, as the next two may. */
void ob_mqtt_write_out(struct ob_mqtt_link *link);
void ob_mqtt_send_ping(struct ob_mqtt_link *link);
void ob_mqtt_send_goodbye(struct ob_mqtt_link *link, uint8_t reason);

#endif
