/* SPDX-License-Identifier: MIT
 *
 * mqtt_encode.c - what a publisher sends to a server, as bytes.
 *
 * A packet is written twice by the same code: first to nowhere, which gives its size, then into the
 * buffer. So a size cannot differ from the packet. Pure functions; nothing is kept.
 *
 *   PUBLISH   fixed header 1 | remaining length 1..4 | topic 2 + n | packet id 2, at QoS 1 |
 *             MQTT 5: length 1..4 of the properties, properties | payload
 */
#include "mqtt_encode.h"

#include "mqtt_decode.h"

#include <assert.h>
#include <string.h>

#define STRING_MAX 65535        /* MQTT 5, 1.5.4 */
#define REMAINING_MAX 268435455 /* MQTT 5, 1.5.5: what four bytes of seven bits hold */

/* Where the next byte goes. `at` NULL: nowhere, only counted. */
struct out {
    uint8_t *at;
    size_t size;
    bool fits; /* false: something is longer than MQTT can say */
};

static void put_bytes(struct out *out, const void *bytes, size_t size)
{
    if (out->at && size > 0) {
        memcpy(out->at, bytes, size);
        out->at += size;
    }
    out->size += size;
}

static void put_byte(struct out *out, unsigned byte)
{
    const uint8_t value = (uint8_t)byte;
    put_bytes(out, &value, 1);
}

static void put_two(struct out *out, unsigned value)
{
    put_byte(out, value >> 8);
    put_byte(out, value);
}

static void put_four(struct out *out, uint32_t value)
{
    put_two(out, value >> 16);
    put_two(out, value);
}

/* A Variable Byte Integer. */
static void put_length(struct out *out, size_t value)
{
    if (value > REMAINING_MAX)
        out->fits = false;
    for (; value > 127; value >>= 7)
        put_byte(out, (unsigned)(value & 127) | 128);
    put_byte(out, (unsigned)value);
}

static void put_string(struct out *out, const void *bytes, size_t size)
{
    if (size > STRING_MAX)
        out->fits = false;
    put_two(out, (unsigned)size);
    put_bytes(out, bytes, size);
}

static void put_text(struct out *out, const char *text)
{
    put_string(out, text, strlen(text));
}

/* ---- CONNECT --------------------------------------------------------------------------------- */

static void put_connect_body(struct out *out, const outbox_stream_link_config *config, int version,
                             unsigned keep_alive_seconds)
{
    const outbox_will *will = config->will;
    unsigned flags = 2; /* clean start */
    if (will)
        flags |= 4 | (unsigned)will->qos << 3 | (will->retain ? 32u : 0u);
    if (config->password)
        flags |= 64;
    if (config->username)
        flags |= 128;
    put_text(out, "MQTT");
    put_byte(out, (unsigned)version);
    put_byte(out, flags);
    put_two(out, keep_alive_seconds);
    if (version == 5)
        put_length(out, 0); /* the session ends with its connection, which is the default */
    put_text(out, config->client_id ? config->client_id : "");
    if (will) {
        if (version == 5)
            put_length(out, 0);
        put_text(out, will->topic);
        put_string(out, will->payload, will->payload_len);
    }
    if (config->username)
        put_text(out, config->username);
    if (config->password)
        put_string(out, config->password, config->password_len);
}

static bool put_connect(struct out *out, const outbox_stream_link_config *config, int version,
                        unsigned keep_alive_seconds)
{
    struct out body = {.fits = true};
    put_connect_body(&body, config, version, keep_alive_seconds);
    put_byte(out, OB_MQTT_CONNECT << 4);
    put_length(out, body.size);
    put_connect_body(out, config, version, keep_alive_seconds);
    return out->fits;
}

size_t ob_mqtt_connect_size(const outbox_stream_link_config *config, int version)
{
    struct out out = {.fits = true};
    return put_connect(&out, config, version, 0) ? out.size : 0;
}

// NOLINTNEXTLINE(readability-non-const-parameter): it is written to, through `out`
void ob_mqtt_connect(uint8_t *to, const outbox_stream_link_config *config, int version,
                     unsigned keep_alive_seconds)
{
    struct out out = {.at = to, .fits = true};
    bool fits = put_connect(&out, config, version, keep_alive_seconds);
    assert(fits);
    (void)fits;
}

/* ---- PUBLISH --------------------------------------------------------------------------------- */

static void put_properties(struct out *out, const outbox_message *message)
{
    if (message->is_utf8) {
        put_byte(out, 0x01); /* Payload Format Indicator */
        put_byte(out, 1);
    }
    if (message->expiry_seconds != 0) {
        put_byte(out, 0x02); /* Message Expiry Interval */
        put_four(out, message->expiry_seconds);
    }
    if (message->content_type) {
        put_byte(out, 0x03); /* Content Type */
        put_text(out, message->content_type);
    }
    for (size_t i = 0; i < message->property_count; i++) {
        put_byte(out, 0x26); /* User Property */
        put_text(out, message->properties[i].name);
        put_text(out, message->properties[i].value);
    }
}

/* Sizes of the two parts that have a length in front. */
struct lengths {
    size_t properties, remaining;
};

static bool measure(const outbox_message *message, int version, int qos, struct lengths *lengths)
{
    struct out properties = {.fits = true}, front = {.fits = true};
    if (version == 5)
        put_properties(&properties, message);
    put_text(&front, message->topic);
    if (qos > 0)
        put_two(&front, 0);
    if (version == 5)
        put_length(&front, properties.size);
    lengths->properties = properties.size;
    lengths->remaining = front.size + properties.size + message->payload_len;
    return properties.fits && front.fits && message->payload_len <= REMAINING_MAX &&
           lengths->remaining <= REMAINING_MAX;
}

size_t ob_mqtt_publish_size(const outbox_message *message, int version, int qos)
{
    struct lengths lengths;
    struct out length = {.fits = true};
    if (!measure(message, version, qos, &lengths))
        return 0;
    put_length(&length, lengths.remaining);
    return 1 + length.size + lengths.remaining;
}

// NOLINTNEXTLINE(readability-non-const-parameter): it is written to, through `out`
void ob_mqtt_publish(uint8_t *to, const outbox_message *message, int version, int qos, uint16_t id)
{
    struct lengths lengths;
    struct out out = {.at = to, .fits = true};
    bool fits = measure(message, version, qos, &lengths);
    put_byte(&out, OB_MQTT_PUBLISH << 4 | (unsigned)qos << 1 | (message->retain ? 1u : 0u));
    put_length(&out, lengths.remaining);
    put_text(&out, message->topic);
    if (qos > 0)
        put_two(&out, id);
    if (version == 5) {
        put_length(&out, lengths.properties);
        put_properties(&out, message);
    }
    put_bytes(&out, message->payload, message->payload_len);
    assert(fits && out.fits);
    (void)fits;
}

/* ---- The short ones -------------------------------------------------------------------------- */

void ob_mqtt_pingreq(uint8_t *to)
{
    to[0] = OB_MQTT_PINGREQ << 4;
    to[1] = 0;
}

size_t ob_mqtt_disconnect(uint8_t *to, int version, uint8_t reason)
{
    to[0] = OB_MQTT_DISCONNECT << 4;
    to[1] = 0;
    if (version != 5 || reason == 0)
        return 2;
    to[1] = 1;
    to[2] = reason;
    return 3;
}
