/* SPDX-License-Identifier: MIT
 *
 * paho_message.h - an outbox_message as MQTT counts it and as Paho wants it.
 */
#ifndef OUTBOX_PAHO_MESSAGE_H
#define OUTBOX_PAHO_MESSAGE_H

#include <MQTTProperties.h>
#include <outbox/port.h>

/* Bytes of the PUBLISH packet at QoS 1, exactly, fixed header included. 0: MQTT has no encoding for
 * it, because a string or the whole is too long. `protocol` is 4 or 5. */
size_t outbox_paho_packet_size(const outbox_message *message, int protocol);

/* Fills `properties` with those of the message. Returns 0 when memory ran out. Either way the
 * caller frees them. */
int outbox_paho_properties(const outbox_message *message, MQTTProperties *properties);

#endif
