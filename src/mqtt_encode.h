/* SPDX-License-Identifier: MIT
 *
 * mqtt_encode.h - what a publisher sends to a server, as bytes.
 *
 * Each packet has a function for its exact size, and one that writes just so many bytes: a packet
 * over the server's Maximum Packet Size would end the connection, and again at every resend.
 */
#ifndef OB_MQTT_ENCODE_H
#define OB_MQTT_ENCODE_H

#include <outbox/stream.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the CONNECT for this version, or 0 when MQTT cannot encode it. */
size_t ob_mqtt_connect_size(const outbox_stream_link_config *config, int version);
void ob_mqtt_connect(uint8_t *to, const outbox_stream_link_config *config, int version,
                     unsigned keep_alive_seconds);

/* Bytes of the PUBLISH at this QoS, or 0 when MQTT cannot encode it. */
size_t ob_mqtt_publish_size(const outbox_message *message, int version, int qos);

/* At QoS 0 the id is left out. */
void ob_mqtt_publish(uint8_t *to, const outbox_message *message, int version, int qos, uint16_t id);

enum { OB_MQTT_PINGREQ_SIZE = 2, OB_MQTT_DISCONNECT_SIZE = 4 };
void ob_mqtt_pingreq(uint8_t *to);

/* Returns how many bytes it wrote. MQTT 3.1.1 knows no reason. */
size_t ob_mqtt_disconnect(uint8_t *to, int version, uint8_t reason);

#endif
