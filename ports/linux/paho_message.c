/* SPDX-License-Identifier: MIT
 *
 * paho_message.c - an outbox_message as MQTT counts it and as Paho wants it.
 *
 * The size must be exact: a packet larger than the server's Maximum Packet Size makes it end the
 * connection (MQTT 5, 3.1.2.11.4), and it would do so at every resend. Pure functions; nothing is
 * kept.
 *
 *   fixed header 1 | remaining length 1..4 | topic 2 + n | QoS 1: packet id 2 |
 *   MQTT 5: property length 1..4, properties | payload
 */
#include "paho_message.h"

#include <string.h>

#define STRING_MAX 65535        /* MQTT 5, 1.5.4 */
#define REMAINING_MAX 268435455 /* MQTT 5, 1.5.5: what four bytes of seven bits hold */
/* Paho 1.3.12 divides the number as a signed one: of 0xffffffff it sends 0x000000ff. A message of
 * 68 years is old enough. */
#define EXPIRY_MAX INT32_MAX

/* Bytes of a Variable Byte Integer. */
static size_t length_size(size_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/* Adds a UTF-8 string to `total`. Returns 0 when it is too long for MQTT. */
static int add_string(size_t *total, const char *text)
{
    size_t length = strlen(text);
    *total += 2 + length;
    return length <= STRING_MAX;
}

static int properties_size(const outbox_message *m, size_t *total)
{
    int fits = 1;
    if (m->is_utf8)
        *total += 2; /* identifier and one byte */
    if (m->expiry_seconds != 0)
        *total += 5; /* identifier and four bytes */
    if (m->content_type != NULL) {
        *total += 1;
        fits &= add_string(total, m->content_type);
    }
    for (size_t i = 0; i < m->property_count; i++) {
        *total += 1;
        fits &= add_string(total, m->properties[i].name);
        fits &= add_string(total, m->properties[i].value);
    }
    return fits && *total <= REMAINING_MAX;
}

size_t outbox_paho_packet_size(const outbox_message *m, int protocol)
{
    size_t remaining = m->fire_and_forget ? 0 : 2; /* packet id */
    if (!add_string(&remaining, m->topic))
        return 0;
    if (protocol == 5) {
        size_t properties = 0;
        if (!properties_size(m, &properties))
            return 0;
        remaining += length_size(properties) + properties;
    }
    if (m->payload_len > REMAINING_MAX || remaining + m->payload_len > REMAINING_MAX)
        return 0;
    remaining += m->payload_len;
    return 1 + length_size(remaining) + remaining;
}

/* Paho copies the text but declares it without const. */
static MQTTLenString borrow(const char *text)
{
    return (MQTTLenString){.len = (int)strlen(text), .data = (char *)(uintptr_t)text};
}

int outbox_paho_properties(const outbox_message *m, MQTTProperties *properties)
{
    MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR};
    property.value.byte = 1;
    if (m->is_utf8 && MQTTProperties_add(properties, &property) != 0)
        return 0;
    if (m->expiry_seconds != 0) {
        property.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL;
        property.value.integer4 = m->expiry_seconds < EXPIRY_MAX ? m->expiry_seconds : EXPIRY_MAX;
        if (MQTTProperties_add(properties, &property) != 0)
            return 0;
    }
    if (m->content_type != NULL) {
        property.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE;
        property.value.data = borrow(m->content_type);
        if (MQTTProperties_add(properties, &property) != 0)
            return 0;
    }
    property.identifier = MQTTPROPERTY_CODE_USER_PROPERTY;
    for (size_t i = 0; i < m->property_count; i++) {
        property.value.data = borrow(m->properties[i].name);
        property.value.value = borrow(m->properties[i].value);
        if (MQTTProperties_add(properties, &property) != 0)
            return 0;
    }
    return 1;
}
