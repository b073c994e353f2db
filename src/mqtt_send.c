/* SPDX-License-Identifier: MIT
 *
 * mqtt_send.c - the stream link's send buffer, and how a connection ends.
 *
 * What is written lies in the buffer until the stream takes it; a connection that ends takes it
 * along. It is sent again then, from the table, after a loss as after a crash.
 */
#include "mqtt_link.h"

#include <assert.h>
#include <sqlite3.h>
#include <string.h>

uint32_t ob_mqtt_now(const struct ob_mqtt_link *link)
{
    return link->port->now_ms(link->port->context);
}

void ob_mqtt_say(const struct ob_mqtt_link *link, outbox_level level, int code, const char *format,
                 ...)
{
    char line[160];
    va_list arguments;
    if (!link->port->log)
        return;
    va_start(arguments, format);
    sqlite3_vsnprintf((int)sizeof line, line, format, arguments);
    va_end(arguments);
    link->port->log(link->port->log_context, level, code, line);
}

void ob_mqtt_enter(struct ob_mqtt_link *link, enum ob_mqtt_state state)
{
    static const uint8_t allowed[OB_MQTT_STATES] = {
        [OB_MQTT_IDLE] = 1 << OB_MQTT_IDLE | 1 << OB_MQTT_OPENING,
        [OB_MQTT_OPENING] = 1 << OB_MQTT_AWAITING | 1 << OB_MQTT_ENDED | 1 << OB_MQTT_IDLE,
        [OB_MQTT_AWAITING] =
            1 << OB_MQTT_ONLINE | 1 << OB_MQTT_OPENING | 1 << OB_MQTT_ENDED | 1 << OB_MQTT_IDLE,
        [OB_MQTT_ONLINE] = 1 << OB_MQTT_ENDED | 1 << OB_MQTT_IDLE,
        [OB_MQTT_ENDED] = 1 << OB_MQTT_IDLE | 1 << OB_MQTT_OPENING,
    };
    assert(allowed[link->state] >> state & 1);
    (void)allowed;
    link->state = state;
}

void ob_mqtt_forget(struct ob_mqtt_link *link)
{
    ob_flights_start(&link->flights, link->places, link->config.window);
    ob_mqtt_decoder_start(&link->decoder, link->version);
    link->out.from = link->out.to = link->in.from = link->in.to = 0;
    link->out.is_stuck = link->out.has_ended = link->in.has_more = false;
    link->pings = link->probe = 0;
    link->has_said_unknown = link->has_closed = false;
}

/* ---- How a connection ends ------------------------------------------------------------------- */

static const char *stream_reason(const struct ob_mqtt_link *link)
{
    const outbox_stream_methods *methods = link->stream->methods;
    const char *words = methods->reason ? methods->reason(link->stream) : NULL;
    return words && words[0] != '\0' ? words : NULL;
}

void ob_mqtt_end(struct ob_mqtt_link *link, int reason, bool by_peer, const char *format, ...)
{
    outbox_link_event *closed = &link->closed;
    va_list arguments;
    memset(closed, 0, sizeof *closed);
    va_start(arguments, format);
    sqlite3_vsnprintf((int)sizeof closed->sentence, closed->sentence, format, arguments);
    va_end(arguments);
    closed->kind = OUTBOX_LINK_CLOSED;
    closed->reason = reason;
    closed->by_peer = by_peer && link->state == OB_MQTT_ONLINE;
    link->has_closed = true;
    if (link->state != OB_MQTT_ONLINE) /* the next server may be another one */
        link->version = link->config.protocol ? link->config.protocol : 5;
    link->stream->methods->close(link->stream);
    ob_mqtt_enter(link, OB_MQTT_ENDED);
}

void ob_mqtt_end_lost(struct ob_mqtt_link *link, bool by_peer, const char *why)
{
    if (link->state == OB_MQTT_ONLINE)
        ob_mqtt_end(link, 0, by_peer, "the connection to %.40s was lost: %.50s", link->config.place,
                    why);
    else
        ob_mqtt_end(link, 0, by_peer, "no connection to %.40s: %.58s", link->config.place, why);
}

/* The stream has answered OB_MQTT_ENDED or FAILED. */
void ob_mqtt_end_of_stream(struct ob_mqtt_link *link, outbox_stream_result result)
{
    const char *why = stream_reason(link);
    if (!why && result == OUTBOX_STREAM_ENDED)
        why = link->state == OB_MQTT_ONLINE ? "the broker hung up" : "it hung up; no MQTT there?";
    ob_mqtt_end_lost(link, result == OUTBOX_STREAM_ENDED, why ? why : "the stream failed");
}

/* ---- Sending --------------------------------------------------------------------------------- */

void ob_mqtt_write_out(struct ob_mqtt_link *link)
{
    struct ob_send_buffer *out = &link->out;
    out->is_stuck = false;
    while (out->from < out->to && !out->has_ended) {
        size_t count = 0;
        outbox_stream_result result = link->stream->methods->write(
            link->stream, out->bytes + out->from, out->to - out->from, &count);
        if (result == OUTBOX_STREAM_AGAIN) {
            out->is_stuck = true;
            return;
        }
        if (result == OUTBOX_STREAM_FAILED) {
            ob_mqtt_end_of_stream(link, result);
            return;
        }
        if (result == OUTBOX_STREAM_ENDED) {
            out->has_ended = true; /* what it said before that is still to be read */
            return;
        }
        assert(count >= 1 && count <= out->to - out->from);
        out->from += count;
        link->sent_at = ob_mqtt_now(link);
    }
    out->from = out->to = 0;
}

uint8_t *ob_mqtt_make_room(struct ob_mqtt_link *link, size_t size, size_t reserve)
{
    struct ob_send_buffer *out = &link->out;
    if (out->size - out->to < size + reserve && out->from > 0) {
        memmove(out->bytes, out->bytes + out->from, out->to - out->from);
        out->to -= out->from;
        out->from = 0;
    }
    if (out->size - out->to < size + reserve)
        return NULL;
    uint8_t *place = out->bytes + out->to;
    out->to += size;
    return place;
}

/* There are never more than two PINGREQ without an answer, and the reserve has room for them. */
void ob_mqtt_send_ping(struct ob_mqtt_link *link)
{
    uint8_t *place = ob_mqtt_make_room(link, OB_MQTT_PINGREQ_SIZE, OB_MQTT_DISCONNECT_SIZE);
    assert(place && link->pings < 2);
    ob_mqtt_pingreq(place);
    link->pings++;
    link->pinged_at = ob_mqtt_now(link);
    ob_mqtt_write_out(link);
}

void ob_mqtt_send_goodbye(struct ob_mqtt_link *link, uint8_t reason)
{
    uint8_t *place = ob_mqtt_make_room(link, OB_MQTT_DISCONNECT_SIZE, 0);
    assert(place); /* the reserve has room for it */
    if (link->out.has_ended)
        return;
    link->out.to -= OB_MQTT_DISCONNECT_SIZE - ob_mqtt_disconnect(place, link->version, reason);
    ob_mqtt_write_out(link);
}
