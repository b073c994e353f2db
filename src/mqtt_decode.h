/* SPDX-License-Identifier: MIT
 *
 * mqtt_decode.h - what a server sends to a publisher, taken apart byte by byte.
 *
 * A packet may come in any pieces and have any length: nothing is collected but the few numbers
 * that count and the beginning of the server's Reason String.
 */
#ifndef OB_MQTT_DECODE_H
#define OB_MQTT_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Packet types, as in the upper half of the first byte (MQTT 5, 2.1.2). */
enum {
    OB_MQTT_CONNECT = 1,
    OB_MQTT_CONNACK = 2,
    OB_MQTT_PUBLISH = 3,
    OB_MQTT_PUBACK = 4,
    OB_MQTT_PINGREQ = 12,
    OB_MQTT_PINGRESP = 13,
    OB_MQTT_DISCONNECT = 14
};

/* Reason codes (MQTT 5, 2.4) that are looked at. */
enum {
    OB_MQTT_FIRST_REFUSAL = 0x80,
    OB_MQTT_MALFORMED = 0x81,
    OB_MQTT_PROTOCOL_ERROR = 0x82,
    OB_MQTT_UNSUPPORTED_VERSION = 0x84
};

/* A whole packet. What the server does not name has the value of the standard. */
struct ob_mqtt_packet {
    uint8_t type;
    uint8_t reason; /* CONNACK (in the words of MQTT 5), PUBACK, DISCONNECT */
    uint16_t id;    /* PUBACK */

    /* CONNACK (MQTT 5, 3.2.2.3) */
    uint16_t receive_maximum, server_keep_alive; /* keep-alive 0: the server keeps to ours */
    bool has_keep_alive, retain_available;
    uint8_t maximum_qos;
    uint32_t maximum_packet; /* 0: no limit */

    char text[48]; /* CONNACK, PUBACK, DISCONNECT: the Reason String, as far as it is ASCII and
                    * fits */
};

enum ob_mqtt_verdict {
    OB_MQTT_MORE,   /* all bytes were taken, and no packet is complete */
    OB_MQTT_PACKET, /* one is; bytes behind it were not taken */
    OB_MQTT_BROKEN  /* the stream breaks MQTT: `why` and `reason`; give it nothing more */
};

struct ob_mqtt_decoder {
    struct ob_mqtt_packet packet;
    const char *why; /* BROKEN: what is wrong, for people */
    uint8_t reason;  /* BROKEN: OB_MQTT_MALFORMED or OB_MQTT_PROTOCOL_ERROR */

    /* Its own. */
    uint8_t version; /* 4 or 5 */
    uint8_t step;    /* which function takes the next byte */
    uint8_t shift, width;
    uint8_t strings;                         /* of the property that are not complete */
    const struct ob_mqtt_kind *kind;         /* of the packet */
    const struct ob_mqtt_property *property; /* that is read */
    uint32_t value;                          /* of the number that is read */
    uint32_t left;                           /* bytes of the packet that were not taken yet */
    uint32_t string_left;                    /* and of the string */
    uint32_t text_used;                      /* of packet.text */
    uint64_t seen;                           /* properties of this packet, a bit for each */
};

/* Begins anew, for a connection of this version. */
void ob_mqtt_decoder_start(struct ob_mqtt_decoder *decoder, int version);

/* Takes bytes up to the end of a packet. `taken` gets how many. */
enum ob_mqtt_verdict ob_mqtt_decode(struct ob_mqtt_decoder *decoder, const uint8_t *bytes,
                                    size_t size, size_t *taken);

#endif
