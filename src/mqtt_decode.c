/* SPDX-License-Identifier: MIT
 *
 * mqtt_decode.c - what a server sends to a publisher, taken apart byte by byte.
 *
 * A machine whose state is the step that takes the next byte, so that it does not matter in what
 * pieces a packet comes. Two tables say what is allowed: one row for each packet type, and one for
 * each property of MQTT 5. Every length is checked against the one around it when it is read, and
 * nothing is stored by a length that the server gives, so no input can make it write or read beside
 * its own fields. Memory of one connection; after a crash there is none.
 *
 *   FIRST -> LENGTH -> FLAGS, ID, REASON ... -> PROPERTIES_LENGTH -> PROPERTY -> NUMBER | STRING
 *                   \-> SKIP (PUBLISH)                                 ^-----------------+
 */
#include "mqtt_decode.h"

#include <assert.h>
#include <string.h>

/* ---- What is allowed ------------------------------------------------------------------------- */

enum { IN_CONNACK = 1, IN_PUBACK = 2, IN_DISCONNECT = 4, IN_ALL = 7 };

enum { ANY_LENGTH = 255 };

/* One row for each type that a server may send to a publisher. */
static const struct ob_mqtt_kind {
    uint8_t type, place;
    bool any_flags;
    uint8_t shortest, longest;   /* without the first byte and the length; MQTT 3.1.1 */
    uint8_t shortest5, longest5; /* MQTT 5 */
} packet_kinds[] = {
    {OB_MQTT_CONNACK, IN_CONNACK, false, 2, 2, 2, ANY_LENGTH},
    {OB_MQTT_PUBACK, IN_PUBACK, false, 2, 2, 2, ANY_LENGTH},
    {OB_MQTT_PINGRESP, 0, false, 0, 0, 0, 0},
    {OB_MQTT_DISCONNECT, IN_DISCONNECT, false, 1, 0 /* not from a server */, 0, ANY_LENGTH},
    {OB_MQTT_PUBLISH, 0, true, 2, ANY_LENGTH, 3, ANY_LENGTH},
};

enum shape { BYTE = 1, TWO = 2, FOUR = 4, STRING = 8, PAIR = 9 };

/* MQTT 5, 2.2.2.2. */
static const struct ob_mqtt_property {
    uint8_t id, shape, places;
    uint8_t lowest;   /* a number below it is a protocol error */
    uint32_t highest; /* and one above it; 0: no bound */
} known_properties[] = {
    {0x11, FOUR, IN_CONNACK, 0, 0},                   /* Session Expiry Interval */
    {0x12, STRING, IN_CONNACK, 0, 0},                 /* Assigned Client Identifier */
    {0x13, TWO, IN_CONNACK, 0, 0},                    /* Server Keep Alive */
    {0x15, STRING, IN_CONNACK, 0, 0},                 /* Authentication Method */
    {0x16, STRING, IN_CONNACK, 0, 0},                 /* Authentication Data */
    {0x1a, STRING, IN_CONNACK, 0, 0},                 /* Response Information */
    {0x1c, STRING, IN_CONNACK | IN_DISCONNECT, 0, 0}, /* Server Reference */
    {0x1f, STRING, IN_ALL, 0, 0},                     /* Reason String */
    {0x21, TWO, IN_CONNACK, 1, 0},                    /* Receive Maximum */
    {0x22, TWO, IN_CONNACK, 0, 0},                    /* Topic Alias Maximum */
    {0x24, BYTE, IN_CONNACK, 0, 1},                   /* Maximum QoS */
    {0x25, BYTE, IN_CONNACK, 0, 1},                   /* Retain Available */
    {0x26, PAIR, IN_ALL, 0, 0},                       /* User Property */
    {0x27, FOUR, IN_CONNACK, 1, 0},                   /* Maximum Packet Size */
    {0x28, BYTE, IN_CONNACK, 0, 1},                   /* Wildcard Subscription Available */
    {0x29, BYTE, IN_CONNACK, 0, 1},                   /* Subscription Identifiers Available */
    {0x2a, BYTE, IN_CONNACK, 0, 1},                   /* Shared Subscription Available */
};

enum { REASON_STRING = 0x1f, USER_PROPERTY = 0x26 };

static const struct ob_mqtt_kind *kind_of(unsigned type)
{
    for (size_t i = 0; i < sizeof packet_kinds / sizeof packet_kinds[0]; i++)
        if (packet_kinds[i].type == type)
            return &packet_kinds[i];
    return NULL;
}

static const struct ob_mqtt_property *property_of(unsigned id)
{
    for (size_t i = 0; i < sizeof known_properties / sizeof known_properties[0]; i++)
        if (known_properties[i].id == id)
            return &known_properties[i];
    return NULL;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

enum step {
    FIRST,
    LENGTH,
    FLAGS,
    ID,
    REASON,
    PROPERTIES_LENGTH,
    PROPERTY,
    NUMBER,
    STRING_LENGTH,
    STRING_BYTES,
    SKIP,
    STEPS
};

/* Each takes one byte and returns NULL, or what is wrong with it. */
typedef const char *step_function(struct ob_mqtt_decoder *d, uint8_t byte);

static const char *malformed(struct ob_mqtt_decoder *d, const char *why)
{
    d->reason = OB_MQTT_MALFORMED;
    return why;
}

static const char *protocol_error(struct ob_mqtt_decoder *d, const char *why)
{
    d->reason = OB_MQTT_PROTOCOL_ERROR;
    return why;
}

static const char *take_first(struct ob_mqtt_decoder *d, uint8_t byte)
{
    const struct ob_mqtt_kind *kind = kind_of(byte >> 4);
    memset(&d->packet, 0, sizeof d->packet);
    d->packet.type = byte >> 4;
    d->packet.receive_maximum = UINT16_MAX;
    d->packet.maximum_qos = d->version == 5 ? 2 : 1;
    d->packet.retain_available = true;
    d->value = d->left = 0;
    d->shift = 0;
    d->seen = 0;
    d->text_used = 0;
    if (!kind || (d->version != 5 && kind->shortest > kind->longest))
        return protocol_error(d, "a packet that no publisher is sent");
    if (!kind->any_flags && (byte & 15) != 0)
        return malformed(d, "wrong flags in a packet's first byte");
    d->kind = kind;
    d->step = LENGTH;
    return NULL;
}

/* Adds a byte to a Variable Byte Integer (MQTT 5, 1.5.5) in d->value. Returns NULL and sets `more`,
 * or what is wrong. */
static const char *take_variable(struct ob_mqtt_decoder *d, uint8_t byte, bool *more)
{
    d->value |= (uint32_t)(byte & 0x7f) << d->shift;
    d->shift = (uint8_t)(d->shift + 7);
    *more = (byte & 0x80) != 0;
    return *more && d->shift == 28 ? malformed(d, "a length of more than four bytes") : NULL;
}

static void begin_number(struct ob_mqtt_decoder *d, enum step step, uint8_t width)
{
    d->step = (uint8_t)step;
    d->width = width;
    d->shift = 0;
    d->value = 0;
}

/* Where the body of a packet begins. */
static void begin_body(struct ob_mqtt_decoder *d)
{
    switch (d->packet.type) {
    case OB_MQTT_CONNACK:
        d->step = FLAGS;
        break;
    case OB_MQTT_PUBACK:
        begin_number(d, ID, 2);
        break;
    case OB_MQTT_DISCONNECT:
        d->step = REASON;
        break;
    default:
        d->step = SKIP;
        break;
    }
}

static const char *take_length(struct ob_mqtt_decoder *d, uint8_t byte)
{
    const struct ob_mqtt_kind *kind = d->kind;
    bool more;
    const char *wrong = take_variable(d, byte, &more);
    if (wrong || more)
        return wrong;
    uint32_t shortest = d->version == 5 ? kind->shortest5 : kind->shortest;
    uint32_t longest = d->version == 5 ? kind->longest5 : kind->longest;
    bool fits = d->value >= shortest && (longest == ANY_LENGTH || d->value <= longest);
    if (!fits)
        return malformed(d, "a length that its packet cannot have");
    d->left = d->value;
    begin_body(d);
    return NULL;
}

/* A server has no session of ours: every connection asks for a clean start (MQTT 5, 3.2.2.1.1). */
static const char *take_flags(struct ob_mqtt_decoder *d, uint8_t byte)
{
    if (byte > 1)
        return malformed(d, "reserved flags in a CONNACK");
    d->step = REASON;
    return byte == 1 ? protocol_error(d, "a CONNACK with a session where none was asked for")
                     : NULL;
}

static const char *take_id(struct ob_mqtt_decoder *d, uint8_t byte)
{
    d->value = d->value << 8 | byte;
    if (--d->width > 0)
        return NULL;
    d->packet.id = (uint16_t)d->value;
    d->step = REASON;
    return d->packet.id == 0 ? malformed(d, "a PUBACK of packet id 0") : NULL;
}

/* The return codes of MQTT 3.1.1 (3.2.2.3) in the words of MQTT 5. An old server answers in them to
 * MQTT 5 as well, and leaves the properties out. */
static const char *take_return_code(struct ob_mqtt_decoder *d, uint8_t code)
{
    static const uint8_t reasons[6] = {0, OB_MQTT_UNSUPPORTED_VERSION, 0x85, 0x88, 0x86, 0x87};
    d->step = SKIP;
    if (code < 6)
        d->packet.reason = reasons[code];
    else if (d->version == 5 && code >= OB_MQTT_FIRST_REFUSAL)
        d->packet.reason = code;
    else
        return malformed(d, "a CONNACK with an unknown return code");
    return code == 0 && d->version == 5 ? malformed(d, "a CONNACK without properties") : NULL;
}

static const char *take_reason(struct ob_mqtt_decoder *d, uint8_t byte)
{
    bool is_connack = d->packet.type == OB_MQTT_CONNACK;
    if (is_connack && d->left == 0)
        return take_return_code(d, byte);
    if (is_connack && byte != 0 && byte < OB_MQTT_FIRST_REFUSAL)
        return malformed(d, "a CONNACK with an unknown reason code");
    d->packet.reason = byte;
    begin_number(d, PROPERTIES_LENGTH, 0);
    return NULL;
}

static const char *take_properties_length(struct ob_mqtt_decoder *d, uint8_t byte)
{
    bool more;
    const char *wrong = take_variable(d, byte, &more);
    if (wrong || more)
        return wrong;
    d->step = PROPERTY;
    return d->value != d->left ? malformed(d, "properties that end elsewhere than their packet")
                               : NULL;
}

static const char *take_property(struct ob_mqtt_decoder *d, uint8_t byte)
{
    const struct ob_mqtt_property *property = property_of(byte);
    if (!property || !(property->places & d->kind->place))
        return malformed(d, "a property that its packet cannot have");
    if (byte != USER_PROPERTY && (d->seen >> byte & 1))
        return protocol_error(d, "a property twice");
    d->seen |= UINT64_C(1) << byte;
    d->property = property;
    d->strings = property->shape == PAIR ? 2 : 1;
    if (property->shape >= STRING)
        begin_number(d, STRING_LENGTH, 2);
    else
        begin_number(d, NUMBER, property->shape);
    return d->left < d->width ? malformed(d, "a property that its packet cuts off") : NULL;
}

/* A number of a CONNACK is complete. */
static void keep_number(struct ob_mqtt_decoder *d)
{
    struct ob_mqtt_packet *packet = &d->packet;
    if (d->property->id == 0x13) {
        packet->server_keep_alive = (uint16_t)d->value;
        packet->has_keep_alive = true;
    } else if (d->property->id == 0x21) {
        packet->receive_maximum = (uint16_t)d->value;
    } else if (d->property->id == 0x24) {
        packet->maximum_qos = (uint8_t)d->value;
    } else if (d->property->id == 0x25) {
        packet->retain_available = d->value != 0;
    } else if (d->property->id == 0x27) {
        packet->maximum_packet = d->value;
    }
}

static const char *take_integer(struct ob_mqtt_decoder *d, uint8_t byte)
{
    d->value = d->value << 8 | byte;
    if (--d->width > 0)
        return NULL;
    d->step = PROPERTY;
    if (d->value < d->property->lowest ||
        (d->property->highest != 0 && d->value > d->property->highest))
        return protocol_error(d, "a property out of its range in a CONNACK");
    keep_number(d);
    return NULL;
}

/* A string is complete. */
static const char *end_string(struct ob_mqtt_decoder *d)
{
    if (--d->strings == 0) {
        d->step = PROPERTY;
        return NULL;
    }
    begin_number(d, STRING_LENGTH, 2);
    return d->left < 2 ? malformed(d, "a property that its packet cuts off") : NULL;
}

static const char *take_string_length(struct ob_mqtt_decoder *d, uint8_t byte)
{
    d->value = d->value << 8 | byte;
    if (--d->width > 0)
        return NULL;
    d->string_left = d->value;
    d->step = STRING_BYTES;
    if (d->string_left > d->left)
        return malformed(d, "a string that its packet cuts off");
    return d->string_left == 0 ? end_string(d) : NULL;
}

/* What people are shown of the server's words is printable ASCII, so that it can do nothing to a
 * terminal or a log. */
static const char *take_string_byte(struct ob_mqtt_decoder *d, uint8_t byte)
{
    if (d->property->id == REASON_STRING && d->text_used + 1 < sizeof d->packet.text)
        d->packet.text[d->text_used++] = byte >= ' ' && byte < 0x7f ? (char)byte : '?';
    return --d->string_left == 0 ? end_string(d) : NULL;
}

static const char *take_and_forget(struct ob_mqtt_decoder *d, uint8_t byte)
{
    (void)d;
    (void)byte;
    return NULL;
}

static step_function *const step_of[STEPS] = {
    [FIRST] = take_first,
    [LENGTH] = take_length,
    [FLAGS] = take_flags,
    [ID] = take_id,
    [REASON] = take_reason,
    [PROPERTIES_LENGTH] = take_properties_length,
    [PROPERTY] = take_property,
    [NUMBER] = take_integer,
    [STRING_LENGTH] = take_string_length,
    [STRING_BYTES] = take_string_byte,
    [SKIP] = take_and_forget,
};

/* ---- The decoder ----------------------------------------------------------------------------- */

/* Where a packet may end. PUBACK and DISCONNECT may leave out what they would say with zeros;
 * inside of a number or a string there is no end, as its length was compared with what is left. */
static bool may_end(const struct ob_mqtt_decoder *d)
{
    assert(d->step != FLAGS && d->step != ID && d->step != NUMBER);
    assert(d->step != STRING_LENGTH && d->step != STRING_BYTES);
    return d->step != PROPERTIES_LENGTH || d->shift == 0;
}

void ob_mqtt_decoder_start(struct ob_mqtt_decoder *d, int version)
{
    memset(d, 0, sizeof *d);
    d->version = (uint8_t)version;
    d->step = FIRST;
}

/* Takes one byte. Sets `ends` when it was the last one of its packet. */
static const char *take_byte(struct ob_mqtt_decoder *d, uint8_t byte, bool *ends)
{
    if (d->step > LENGTH)
        d->left--;
    const char *wrong = step_of[d->step](d, byte);
    *ends = !wrong && d->step > LENGTH && d->left == 0;
    if (*ends && !may_end(d))
        wrong = malformed(d, "a packet that is cut off");
    return wrong;
}

enum ob_mqtt_verdict ob_mqtt_decode(struct ob_mqtt_decoder *d, const uint8_t *bytes, size_t size,
                                    size_t *taken)
{
    bool ends = false;
    size_t at = 0;
    while (at < size && !ends) {
        if (d->step == SKIP && d->left > 1) {
            size_t skipped = size - at < d->left - 1 ? size - at : d->left - 1;
            d->left -= (uint32_t)skipped;
            at += skipped;
            continue;
        }
        d->why = take_byte(d, bytes[at++], &ends);
        if (d->why) {
            *taken = at;
            return OB_MQTT_BROKEN;
        }
    }
    *taken = at;
    if (!ends)
        return OB_MQTT_MORE;
    d->step = FIRST;
    return OB_MQTT_PACKET;
}
