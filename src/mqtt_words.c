/* SPDX-License-Identifier: MIT
 *
 * mqtt_words.c - reason codes of MQTT 5 (2.4) that end a connection, in words. Nothing is kept.
 */
#include "mqtt_words.h"

#include <stddef.h>

static const struct {
    unsigned char reason;
    const char *words;
} reasons[] = {
    {0x00, "normal disconnection"},
    {0x80, "unspecified error"},
    {0x81, "malformed packet"},
    {0x82, "protocol error"},
    {0x83, "implementation specific error"},
    {0x84, "unsupported protocol version"},
    {0x85, "client id not valid"},
    {0x86, "bad user name or password"},
    {0x87, "not authorized"},
    {0x88, "server unavailable"},
    {0x89, "server busy"},
    {0x8a, "banned"},
    {0x8b, "server shutting down"},
    {0x8c, "bad authentication method"},
    {0x8d, "keep-alive timeout"},
    {0x8e, "another client took over this client id"},
    {0x90, "topic name invalid"},
    {0x93, "receive maximum exceeded"},
    {0x94, "topic alias invalid"},
    {0x95, "packet too large"},
    {0x96, "message rate too high"},
    {0x97, "quota exceeded"},
    {0x98, "administrative action"},
    {0x99, "payload format invalid"},
    {0x9a, "retain not supported"},
    {0x9b, "QoS not supported"},
    {0x9c, "use another server"},
    {0x9d, "server moved"},
    {0x9f, "connection rate exceeded"},
};

const char *ob_mqtt_reason(int reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].reason == reason)
            return reasons[i].words;
    return "a reason that MQTT does not name";
}
