/* SPDX-License-Identifier: MIT
 *
 * port.h - for porters: what the core needs from a platform.
 *
 * Two interfaces, each a struct of functions with a version in front; later versions only append.
 * The clock and the dice (outbox_port), and the MQTT client as the core sees it (outbox_link).
 * Everything else that is not deterministic stays out of the core: storage and wall time come
 * through SQLite's VFS. No function here may call back into the core.
 *
 * A third one, outbox_service, is for ports whose outbox_start() runs the forwarder in a thread.
 */
#ifndef OUTBOX_PORT_H
#define OUTBOX_PORT_H

#include <outbox/outbox.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Clock and dice -------------------------------------------------------------------------- */

typedef struct outbox_port {
    int version; /* 1 */
    void *context;
    /* Milliseconds of a clock that never goes back and runs on in sleep if the platform can; it
     * may start anywhere and wraps from 2^32-1 to 0. */
    uint32_t (*now_ms)(void *context);
    /* 32 bits that differ between devices and between starts; they spread reconnects. */
    uint32_t (*random)(void *context);
    /* A line for people; may be NULL. */
    outbox_log log;
    void *log_context;
} outbox_port;

/* ---- The link: one MQTT connection ----------------------------------------------------------- */

typedef struct outbox_property {
    const char *name, *value;
} outbox_property;

/* One PUBLISH, at QoS 1 unless it says otherwise. Everything it points to belongs to the core and
 * is valid during outbox_link_methods.publish() only. */
typedef struct outbox_message {
    const char *topic; /* NUL-terminated, UTF-8, without wildcards */
    const void *payload;
    size_t payload_len;
    int retain;
    int is_utf8;                       /* MQTT 5: Payload Format Indicator 1 */
    const char *content_type;          /* MQTT 5: Content Type; NULL: none */
    const outbox_property *properties; /* MQTT 5: User Properties; a 3.1.1 link leaves them out */
    size_t property_count;
    /* MQTT 5, 3.3.2.3.3: Message Expiry Interval; 0: none; a 3.1.1 link leaves it out */
    uint32_t expiry_seconds;
    /* Non-zero: QoS 0. The token means nothing, no ACKED follows, and neither the window nor the
     * Receive Maximum counts it. */
    int fire_and_forget;
} outbox_message;

/* What a call on a link answers. Never a bare count: zero means success and nothing else. */
typedef enum outbox_link_result {
    OUTBOX_LINK_OK,
    OUTBOX_LINK_AGAIN,     /* publish, probe: no room now. poll: nothing happened */
    OUTBOX_LINK_TOO_LARGE, /* publish: this connection can never take this message */
    OUTBOX_LINK_DOWN       /* the connection is gone or was never there; a CLOSED event follows */
} outbox_link_result;

typedef enum outbox_link_event_kind {
    OUTBOX_LINK_OPENED, /* CONNACK with success */
    OUTBOX_LINK_ACKED,  /* PUBACK */
    OUTBOX_LINK_CLOSED, /* refused, lost or never reached; nothing follows until the next open */
    OUTBOX_LINK_ALIVE   /* the server has answered something that was sent after probe() */
} outbox_link_event_kind;

typedef struct outbox_link_event {
    outbox_link_event_kind kind;
    /* OPENED: limits of the server; a 3.1.1 link gives 65,535, no size limit and 1. */
    unsigned receive_maximum; /* MQTT 5, 3.2.2.3.3; never 0 */
    uint32_t maximum_packet;  /* MQTT 5, 3.2.2.3.6; 0: no limit */
    int maximum_qos;          /* MQTT 5, 3.2.2.3.4 */
    int protocol;             /* 4 or 5 */
    /* ACKED: which publish, and the reason code of MQTT 5, 3.4.2.1 (3.1.1: always 0). */
    uint32_t token;
    /* ACKED and CLOSED. CLOSED: the CONNACK or DISCONNECT reason, or 0 when there was none. */
    int reason;
    /* CLOSED: non-zero only if the connection was up (its CONNACK was seen) and the other side
     * ended it, by FIN, by RST or by a DISCONNECT of MQTT 5. Zero after a time-out of any kind,
     * after a failure on our side, where the connection was never up, and wherever the link cannot
     * tell: so non-zero can be relied on, and zero tells nothing. Whoever ends the stream in the
     * server's name (a proxy, a firewall, a NAT that forgot us) is taken for it. */
    int by_peer;
    char sentence[120]; /* CLOSED: for people */
} outbox_link_event;

typedef struct outbox_link outbox_link;

/* No call blocks for the network; what a particular client makes unavoidable its port documents.
 * All calls come from the one thread that drives the forwarder. None may be NULL. [init-2] A link
 * that cannot probe answers OUTBOX_LINK_AGAIN and leaves `by_peer` zero, for what it says of the
 * other side could never be proved: then the event on which a broker hangs up is sent for ever. */
typedef struct outbox_link_methods {
    int version; /* 1, or 2 with what stands at the end */
    /* Begins to connect with a clean start and no session kept. Only after close or at first. The
     * answer comes as OPENED or CLOSED. OUTBOX_LINK_DOWN: it could not even begin; poll may have a
     * CLOSED with the reason. */
    outbox_link_result (*open)(outbox_link *link);
    /* Sends under `token`, once, in the order of the calls. The message is copied or
     * written before it returns. Its ACKED may come at the next poll. */
    outbox_link_result (*publish)(outbox_link *link, uint32_t token, const outbox_message *message);
    /* Takes the next event. OUTBOX_LINK_OK: `event` is filled; OUTBOX_LINK_AGAIN: none. */
    outbox_link_result (*poll)(outbox_link *link, outbox_link_event *event);
    /* Ends the connection, politely when it is up. Every token is void from then on and no event
     * comes until the next open. Allowed in every state, also twice. */
    void (*close)(outbox_link *link);
    /* Asks the server for a sign of life on the open connection; never blocks. OUTBOX_LINK_OK: an
     * ALIVE will come, or CLOSED. OUTBOX_LINK_AGAIN: not open yet, no room now, or the ALIVE of an
     * earlier probe was not taken yet. A link that writes the stream itself sends PINGREQ and waits
     * for PINGRESP; another may use whatever the server must answer. */
    outbox_link_result (*probe)(outbox_link *link);
    /* From version 2 on; both may be NULL. */
    /* Sends what publish() has put together, as far as possible now. Called after the last publish
     * of a step, before the database is written to. [link-1] */
    void (*flush)(outbox_link *link);
    /* Milliseconds until poll() must be called even if the platform reports nothing: a ping is due,
     * or something is to be given up. OUTBOX_NEVER: none. outbox_forwarder_step() asks to be called
     * in time for it. [link-2] */
    uint32_t (*next_ms)(const outbox_link *link);
} outbox_link_methods;

/* A port's link begins with this. */
struct outbox_link {
    const outbox_link_methods *methods;
};

/* ---- A forwarder in a thread ----------------------------------------------------------------- */

/* How a port attaches the service behind outbox_start() to a handle. The functions are called on
 * the application's thread; those that return int return an outbox_code. */
typedef struct outbox_service {
    int version; /* 1 */
    /* A transaction with puts of this handle committed and is visible to other connections. All
     * events of a lane up to `durable[lane]`, if that is not 0, survive a power cut. Must not
     * block. */
    void (*committed)(void *context, const int64_t durable[OUTBOX_LANES]);
    /* Fills the forwarder's part of the statistics. */
    void (*stats)(void *context, outbox_statistics *statistics);
    /* Waits until the events of each lane up to `last[lane]` have left its table. */
    int (*flush)(void *context, const int64_t last[OUTBOX_LANES], unsigned timeout_ms);
    /* The last event of the lane up to which the broker has acknowledged all behind its tombstone;
     * 0: none. A put that finds the lane full counts these as delivered. Must not block. */
    int64_t (*acked)(void *context, outbox_lane lane);
    /* Sets the gate. Must not block. */
    void (*gate)(void *context, outbox_gate_state gate);
    /* Ends the thread and frees `context`. */
    void (*stop)(void *context);
    /* `count` fire-and-forget events are to be sent: their transaction has committed, and
     * committed() follows, or they were put without one. They are for outbox_forwarder_fire(),
     * which takes the bytes as they are; valid during the call. Must not block. Counts what it
     * drops. NULL: this port sends none, and the handle counts them. */
    void (*fired)(void *context, const void *events, size_t size, unsigned count);
} outbox_service;

/* Binds a service to a handle; the service must stay valid. Returns OUTBOX_MISUSE when one is bound
 * already. outbox_stop() and outbox_detach() unbind it and call its stop(). */
int outbox_bind(outbox *box, const outbox_service *service, void *context);

/* For the port's outbox_start(): the handle's connection (NULL after it was closed), its payload
 * limit, its memory for fire-and-forget events, and a place for particulars. outbox_fail() returns
 * `code`. */
sqlite3 *outbox_connection(const outbox *box);
size_t outbox_payload_max(const outbox *box);
size_t outbox_fire_bytes(const outbox *box);
int outbox_fail(outbox *box, int code, const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
