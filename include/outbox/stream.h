/* SPDX-License-Identifier: MIT
 *
 * stream.h - for porters: an MQTT publisher over any stream of bytes, where Paho cannot go.
 *
 * A port brings an outbox_stream: a UART, a TCP socket, a TLS session, a modem. From it
 * outbox_stream_link_init() makes an outbox_link (port.h) that speaks MQTT 5 or 3.1.1: CONNECT with
 * user, password and will, PUBLISH at QoS 0 and 1, PUBACK, PINGREQ, DISCONNECT. It allocates
 * nothing, has no thread, socket or clock of its own, and takes the bytes in whatever pieces they
 * come. [stream-1]
 *
 * Nothing of a connection outlives it. The outbox's table is the session, so each connection starts
 * clean, and what was not acknowledged is read and sent again.
 */
#ifndef OUTBOX_STREAM_H
#define OUTBOX_STREAM_H

#include <outbox/port.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What a port brings ---------------------------------------------------------------------- */

/* What a call on a stream answers. Never a bare count: zero is success and nothing else. */
typedef enum outbox_stream_result {
    OUTBOX_STREAM_OK,    /* open: it is open. read, write: `count` bytes went, at least 1 */
    OUTBOX_STREAM_AGAIN, /* open: under way. read: nothing is there. write: no room. All: now */
    OUTBOX_STREAM_ENDED, /* the other side has ended it, in order (FIN) or not (RST) */
    OUTBOX_STREAM_FAILED /* it could not be opened, or was lost here or on the way: a time-out, a
                          * certificate, a carrier; wherever the stream cannot tell, this one */
} outbox_stream_result;

typedef struct outbox_stream outbox_stream;

/* No call blocks. All calls come from the thread that drives the link. */
typedef struct outbox_stream_methods {
    int version; /* 1 */
    /* Opens, or goes on with opening: called again until the answer is not AGAIN. It is for the
     * link to give up; close() follows then. After ENDED or FAILED only close() follows. What an
     * earlier connection has left unread is thrown away. */
    outbox_stream_result (*open)(outbox_stream *stream);
    /* Takes up to `size` bytes, 1 or more. After AGAIN the same bytes are given again, at another
     * place perhaps and with more behind them. */
    outbox_stream_result (*write)(outbox_stream *stream, const void *bytes, size_t size,
                                  size_t *count);
    /* Gives up to `size` bytes, 1 or more. Those that came before the end are given before
     * ENDED. */
    outbox_stream_result (*read)(outbox_stream *stream, void *bytes, size_t size, size_t *count);
    /* Ends it; what was written before should still arrive. Allowed in every state, also twice. */
    void (*close)(outbox_stream *stream);
    /* Why the last call answered ENDED or FAILED, for people: a few words, valid until the next
     * call. May return NULL; may be NULL. */
    const char *(*reason)(const outbox_stream *stream);
} outbox_stream_methods;

/* A port's stream begins with this. The port owns it; the link only borrows it. */
struct outbox_stream {
    const outbox_stream_methods *methods;
};

/* ---- The link -------------------------------------------------------------------------------- */

/* What the server publishes in our name when a connection ends without a goodbye (MQTT 5,
 * 3.1.2.5). */
typedef struct outbox_will {
    const char *topic; /* 1..65,535 bytes of UTF-8 without wildcards */
    const void *payload;
    size_t payload_len; /* at most 65,535 */
    int qos;            /* 0 or 1 */
    int retain;
} outbox_will;

/* Zero means the default. Nothing of it is copied but the struct: all that it points to must stay
 * valid as long as the link. */
typedef struct outbox_stream_link_config {
    const char *client_id; /* at most 65,535 bytes of UTF-8; NULL or "": the server makes one */
    const char *username;  /* at most 65,535 bytes of UTF-8; NULL: none */
    const void *password;  /* bytes; NULL: none. On MQTT 3.1.1 it needs a user name */
    size_t password_len;   /* at most 65,535 */
    const outbox_will *will;
    int protocol;                /* 5, 4 (MQTT 3.1.1), or 0: 5, and 4 where 5 is refused */
    unsigned keep_alive_seconds; /* 0: 30; 1..65535; the server may ask for another [stream-5] */
    unsigned connect_timeout_ms; /* from open() to the CONNACK; 0: 15,000; at most 2^28 */
    unsigned window;             /* most publishes in flight; 0: 100; 1..1000 */
    /* Bytes for packets that were not written yet; 0: 4,096; from 256. The CONNECT must fit, and so
     * must each PUBLISH: a larger one is OUTBOX_LINK_TOO_LARGE. The more fits, the fewer writes. */
    size_t send_buffer;
    size_t receive_buffer; /* bytes that one read may give; 0: 256; from 16 */
    const char *place;     /* who the server is, for sentences; NULL: "the broker" */
} outbox_stream_link_config;

/* Bytes that outbox_stream_link_init() needs for this configuration, its buffers included; 0 when a
 * value is out of range. [stream-2] */
size_t outbox_stream_link_size(const outbox_stream_link_config *config);

/* Makes a link in `memory`, aligned as for any object, not yet open. The caller keeps memory,
 * stream and port until he has called the link's close() for the last time; there is nothing else
 * to free. Of the port it uses the clock and the log.
 *
 *   open     Begins to open the stream. OPENED comes when the server's CONNACK has. MQTT 5 that is
 *            refused as unknown is followed by MQTT 3.1.1 if the protocol is 0. [stream-3]
 *   publish  Puts the packet into the send buffer, which is written by flush(), by poll(), and
 *            when it is full. A PUBACK counts for the publish of its packet id, in whatever order
 *            they come; one of no publish in flight is ignored, and logged once. [stream-4]
 *            OUTBOX_LINK_TOO_LARGE also where MQTT cannot encode the message, the server retains
 *            nothing but the message is to be retained, or its topic is no UTF-8.
 *   poll     Reads what has come. Sends a PINGREQ when for three quarters of the keep-alive nothing
 *            was sent, or nothing was received; ends the connection when nothing was received for a
 *            whole one after that. [stream-5]
 *   probe    Sends a PINGREQ; ALIVE is its PINGRESP. [stream-6]
 *   close    Sends a DISCONNECT, so no will is published, and closes the stream.
 *   flush    Writes what the stream takes now.
 *   next_ms  When poll() must be called though the stream reports nothing.
 *
 * A packet that breaks MQTT ends the connection: CLOSED with reason 0x81 (malformed) or 0x82
 * (protocol error: a packet that may not come now, a property twice, a limit of 0), a sentence that
 * names the packet, and on MQTT 5 a DISCONNECT with that reason. [stream-7] A publish of the
 * server's is thrown away: nothing was subscribed to.
 *
 * In CLOSED `reason` is that of the CONNACK or DISCONNECT, those of 3.1.1 as their MQTT 5 twin, and
 * `by_peer` is non-zero after a DISCONNECT, and where the stream says OUTBOX_STREAM_ENDED.
 * [stream-8]
 *
 * Returns OUTBOX_MISUSE (a value out of range, or a CONNECT that does not fit) or OUTBOX_NO_MEMORY
 * (size), with a sentence; then *link is NULL. `sentence` may be NULL. [stream-2] */
int outbox_stream_link_init(void *memory, size_t size, outbox_stream *stream,
                            const outbox_port *port, const outbox_stream_link_config *config,
                            outbox_link **link, char *sentence, size_t sentence_size);

#ifdef __cplusplus
}
#endif
#endif
