/* SPDX-License-Identifier: MIT
 *
 * mqtt_stream.c - the link of port.h over a stream of bytes: an MQTT publisher, sans I/O.
 *
 * What a server may do wrong ends the connection and nothing else. At that end every token is void;
 * what was not acknowledged is read from the table again, after a loss as after a crash.
 */
#include "mqtt_link.h"
#include "mqtt_words.h"
#include "text.h"

#include <assert.h>
#include <string.h>

enum {
    READS_MAX = 16,      /* of one poll(), whatever the server sends */
    OPENING_POLL_MS = 50 /* between two looks at a stream that is being opened */
};

/* ---- Opening --------------------------------------------------------------------------------- */

static void send_connect(struct ob_mqtt_link *link)
{
    size_t size = ob_mqtt_connect_size(&link->config, link->version);
    uint8_t *place = ob_mqtt_make_room(link, size, 0);
    assert(size > 0 && place); /* checked when the link was made */
    ob_mqtt_connect(place, &link->config, link->version, link->config.keep_alive_seconds);
    ob_mqtt_write_out(link);
}

static void go_on_opening(struct ob_mqtt_link *link)
{
    outbox_stream_result result = link->stream->methods->open(link->stream);
    if (result == OUTBOX_STREAM_OK) {
        ob_mqtt_enter(link, OB_MQTT_AWAITING);
        send_connect(link);
    } else if (result != OUTBOX_STREAM_AGAIN) {
        ob_mqtt_end_of_stream(link, result);
    }
}

static void begin(struct ob_mqtt_link *link)
{
    ob_mqtt_forget(link);
    ob_mqtt_enter(link, OB_MQTT_OPENING);
    link->opened_at = link->sent_at = link->heard_at = ob_mqtt_now(link);
    go_on_opening(link);
}

/* ---- What the server says -------------------------------------------------------------------- */

static void end_broken(struct ob_mqtt_link *link, uint8_t reason, const char *why)
{
    if (link->version == 5)
        ob_mqtt_send_goodbye(link, reason);
    if (link->state != OB_MQTT_ENDED) /* the stream has failed meanwhile */
        ob_mqtt_end(link, reason, false, "%s sends what is no MQTT: %s", link->config.place, why);
}

static void refused(struct ob_mqtt_link *link, const struct ob_mqtt_packet *packet)
{
    if (packet->reason == OB_MQTT_UNSUPPORTED_VERSION && link->version == 5 &&
        link->config.protocol == 0) {
        ob_mqtt_say(link, OUTBOX_LOG_INFO, OUTBOX_OK,
                    "the broker does not know MQTT 5; going on with MQTT 3.1.1");
        link->stream->methods->close(link->stream);
        link->version = 4;
        begin(link);
        return;
    }
    ob_mqtt_end(
        link, packet->reason, false, "the broker refused the connection: %s (0x%02x)%s%.40s",
        ob_mqtt_reason(packet->reason), packet->reason, packet->text[0] ? ": " : "", packet->text);
}

/* A longer keep-alive than ours changes nothing, as a ping too many is allowed. */
static bool on_connack(struct ob_mqtt_link *link, outbox_link_event *event)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    if (link->state != OB_MQTT_AWAITING) {
        end_broken(link, OB_MQTT_PROTOCOL_ERROR, "a second CONNACK");
        return false;
    }
    if (packet->reason != 0) {
        refused(link, packet);
        return false;
    }
    unsigned seconds = link->config.keep_alive_seconds;
    if (packet->server_keep_alive != 0 && packet->server_keep_alive < seconds)
        seconds = packet->server_keep_alive;
    link->keep_alive_ms = seconds * 1000u;
    link->receive_maximum = packet->receive_maximum;
    link->maximum_packet = packet->maximum_packet;
    link->retain_available = packet->retain_available;
    ob_mqtt_enter(link, OB_MQTT_ONLINE);
    event->kind = OUTBOX_LINK_OPENED;
    event->receive_maximum = packet->receive_maximum;
    event->maximum_packet = packet->maximum_packet;
    event->maximum_qos = packet->maximum_qos;
    event->protocol = link->version;
    return true;
}

static bool on_puback(struct ob_mqtt_link *link, outbox_link_event *event)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    if (!ob_flights_end(&link->flights, packet->id, &event->token)) {
        if (!link->has_said_unknown)
            ob_mqtt_say(link, OUTBOX_LOG_WARNING, OUTBOX_OK,
                        "the broker acknowledges packet id %u, which is not in flight", packet->id);
        link->has_said_unknown = true;
        return false;
    }
    if (packet->text[0] != '\0' && packet->reason >= OB_MQTT_FIRST_REFUSAL)
        ob_mqtt_say(link, OUTBOX_LOG_INFO, OUTBOX_REFUSED,
                    "the broker says why it refuses an event: %s", packet->text);
    event->kind = OUTBOX_LINK_ACKED;
    event->reason = packet->reason;
    return true;
}

/* They come in the order of the PINGREQ. One that nobody asked for is of no use, and does no
 * harm. */
static bool on_pingresp(struct ob_mqtt_link *link, outbox_link_event *event)
{
    if (link->pings > 0)
        link->pings--;
    if (link->probe == 0 || --link->probe > 0)
        return false;
    event->kind = OUTBOX_LINK_ALIVE;
    return true;
}

static bool on_disconnect(struct ob_mqtt_link *link)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    ob_mqtt_end(link, packet->reason, true, "the broker ended the connection: %s (0x%02x)%s%.40s",
                ob_mqtt_reason(packet->reason), packet->reason, packet->text[0] ? ": " : "",
                packet->text);
    return false;
}

/* Returns whether `event` is filled. */
static bool take_packet(struct ob_mqtt_link *link, outbox_link_event *event)
{
    int type = link->decoder.packet.type;
    if (type == OB_MQTT_CONNACK)
        return on_connack(link, event);
    if (type == OB_MQTT_DISCONNECT)
        return on_disconnect(link);
    if (link->state != OB_MQTT_ONLINE) {
        end_broken(link, OB_MQTT_PROTOCOL_ERROR, "another packet before its CONNACK");
        return false;
    }
    if (type == OB_MQTT_PUBACK)
        return on_puback(link, event);
    if (type == OB_MQTT_PINGRESP)
        return on_pingresp(link, event);
    return false; /* a PUBLISH */
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool is_connected(const struct ob_mqtt_link *link)
{
    return link->state == OB_MQTT_AWAITING || link->state == OB_MQTT_ONLINE;
}

/* Returns whether there are bytes to decode. */
static bool read_in(struct ob_mqtt_link *link)
{
    struct ob_receive_buffer *in = &link->in;
    size_t count = 0;
    outbox_stream_result result =
        link->stream->methods->read(link->stream, in->bytes, in->size, &count);
    if (result == OUTBOX_STREAM_OK) {
        assert(count >= 1 && count <= in->size);
        in->from = 0;
        in->to = count;
        link->heard_at = ob_mqtt_now(link);
        return true;
    }
    in->has_more = false;
    if (result == OUTBOX_STREAM_AGAIN && link->out.has_ended)
        result = OUTBOX_STREAM_ENDED; /* and nothing more was on its way */
    if (result != OUTBOX_STREAM_AGAIN)
        ob_mqtt_end_of_stream(link, result);
    return false;
}

/* Decodes what was read. Returns whether `event` is filled. */
static bool decode(struct ob_mqtt_link *link, outbox_link_event *event)
{
    struct ob_receive_buffer *in = &link->in;
    while (in->from < in->to && is_connected(link)) {
        size_t taken = 0;
        enum ob_mqtt_verdict verdict =
            ob_mqtt_decode(&link->decoder, in->bytes + in->from, in->to - in->from, &taken);
        in->from += taken;
        if (verdict == OB_MQTT_BROKEN)
            end_broken(link, link->decoder.reason, link->decoder.why);
        else if (verdict == OB_MQTT_PACKET && take_packet(link, event))
            return true;
    }
    return false;
}

static bool listen(struct ob_mqtt_link *link, outbox_link_event *event)
{
    link->in.has_more = true;
    for (int reads = 0; is_connected(link); reads++) {
        if (decode(link, event))
            return true;
        if (!is_connected(link) || reads == READS_MAX)
            return false;
        ob_mqtt_write_out(link);
        if (!is_connected(link) || !read_in(link))
            return false;
    }
    return false;
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* Milliseconds of `ms` since `from` that are left; 0: they are over. */
static uint32_t left_of(uint32_t ms, uint32_t from, uint32_t at)
{
    uint32_t passed = at - from;
    return passed < ms ? ms - passed : 0;
}

static uint32_t earlier(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t until_ping(const struct ob_mqtt_link *link, uint32_t at)
{
    uint32_t quiet = link->keep_alive_ms / 4 * 3;
    return earlier(left_of(quiet, link->sent_at, at), left_of(quiet, link->heard_at, at));
}

/* Of the answer to a PINGREQ. Whatever comes is a sign of life. */
static uint32_t until_lost(const struct ob_mqtt_link *link, uint32_t at)
{
    bool heard_since = (int32_t)(link->heard_at - link->pinged_at) > 0;
    return left_of(link->keep_alive_ms, heard_since ? link->heard_at : link->pinged_at, at);
}

static void look_at_clock(struct ob_mqtt_link *link)
{
    uint32_t at = ob_mqtt_now(link);
    if (link->state == OB_MQTT_OPENING || link->state == OB_MQTT_AWAITING) {
        if (left_of(link->config.connect_timeout_ms, link->opened_at, at) == 0)
            ob_mqtt_end_lost(link, false, "no answer in time");
    } else if (link->state == OB_MQTT_ONLINE && link->pings > 0) {
        if (until_lost(link, at) == 0)
            ob_mqtt_end_lost(link, false, "no answer within the keep-alive");
    } else if (link->state == OB_MQTT_ONLINE && until_ping(link, at) == 0) {
        ob_mqtt_send_ping(link);
    }
}

/* ---- Methods --------------------------------------------------------------------------------- */

static struct ob_mqtt_link *of(outbox_link *base)
{
    return (struct ob_mqtt_link *)base;
}

static void link_close(outbox_link *base)
{
    struct ob_mqtt_link *link = of(base);
    if (link->state == OB_MQTT_ONLINE)
        ob_mqtt_send_goodbye(link, 0);
    link->stream->methods->close(link->stream);
    ob_mqtt_forget(link);
    ob_mqtt_enter(link, OB_MQTT_IDLE);
}

static outbox_link_result link_open(outbox_link *base)
{
    struct ob_mqtt_link *link = of(base);
    if (link->state != OB_MQTT_IDLE && link->state != OB_MQTT_ENDED)
        link_close(base);
    begin(link);
    return OUTBOX_LINK_OK; /* an event tells how that ended */
}

static outbox_link_result link_poll(outbox_link *base, outbox_link_event *event)
{
    struct ob_mqtt_link *link = of(base);
    memset(event, 0, sizeof *event);
    if (link->state == OB_MQTT_OPENING)
        go_on_opening(link);
    if (listen(link, event))
        return OUTBOX_LINK_OK;
    look_at_clock(link);
    if (!link->has_closed)
        return OUTBOX_LINK_AGAIN;
    link->has_closed = false;
    *event = link->closed;
    return OUTBOX_LINK_OK;
}

/* False when this message can never go out on this connection. */
static bool is_allowed(const struct ob_mqtt_link *link, const outbox_message *message, size_t size)
{
    uint32_t most = link->maximum_packet;
    if (size == 0)
        ob_mqtt_say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED, "an event is too large for MQTT");
    else if (most != 0 && size > most)
        ob_mqtt_say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
                    "an event makes a packet of %lld bytes; the broker takes %lld", (long long)size,
                    (long long)most);
    else if (size > link->out.size - OB_MQTT_RESERVE)
        ob_mqtt_say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
                    "an event makes a packet of %lld bytes; the link's send buffer takes %lld",
                    (long long)size, (long long)(link->out.size - OB_MQTT_RESERVE));
    else if (message->retain && !link->retain_available)
        ob_mqtt_say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
                    "an event is to be retained, which the broker does not do");
    else if (!ob_text_is_utf8(message->topic, strlen(message->topic)))
        ob_mqtt_say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
                    "the topic of an event is not clean UTF-8");
    else
        return true;
    return false;
}

/* Whether it may be called at all now. */
static outbox_link_result may_send(const struct ob_mqtt_link *link)
{
    if (link->state == OB_MQTT_ONLINE)
        return OUTBOX_LINK_OK;
    return link->state == OB_MQTT_OPENING || link->state == OB_MQTT_AWAITING ? OUTBOX_LINK_AGAIN
                                                                             : OUTBOX_LINK_DOWN;
}

static outbox_link_result link_publish(outbox_link *base, uint32_t token,
                                       const outbox_message *message)
{
    const int qos = message->fire_and_forget ? 0 : 1;
    struct ob_mqtt_link *link = of(base);
    outbox_link_result result = may_send(link);
    if (result != OUTBOX_LINK_OK)
        return result;
    size_t size = ob_mqtt_publish_size(message, link->version, qos);
    if (!is_allowed(link, message, size))
        return OUTBOX_LINK_TOO_LARGE;
    if (qos > 0 && (link->flights.count >= link->receive_maximum ||
                    link->flights.count >= link->config.window))
        return OUTBOX_LINK_AGAIN;
    uint8_t *place = ob_mqtt_make_room(link, size, OB_MQTT_RESERVE);
    if (!place) {
        ob_mqtt_write_out(link);
        if (link->state != OB_MQTT_ONLINE)
            return OUTBOX_LINK_DOWN;
        place = ob_mqtt_make_room(link, size, OB_MQTT_RESERVE);
    }
    if (!place)
        return OUTBOX_LINK_AGAIN;
    /* MQTT 5, 2.2.1: a PUBLISH of QoS 0 has no packet id, and nothing answers it. */
    uint16_t id = qos > 0 ? ob_flights_begin(&link->flights, token) : 0;
    ob_mqtt_publish(place, message, link->version, qos, id);
    return OUTBOX_LINK_OK;
}

static outbox_link_result link_probe(outbox_link *base)
{
    struct ob_mqtt_link *link = of(base);
    outbox_link_result result = may_send(link);
    if (result != OUTBOX_LINK_OK)
        return result;
    if (link->probe > 0)
        return OUTBOX_LINK_AGAIN;
    link->probe = link->pings + 1;
    ob_mqtt_send_ping(link);
    return link->state == OB_MQTT_ONLINE ? OUTBOX_LINK_OK : OUTBOX_LINK_DOWN;
}

static void link_flush(outbox_link *base)
{
    struct ob_mqtt_link *link = of(base);
    if (is_connected(link))
        ob_mqtt_write_out(link);
}

static uint32_t link_next_ms(const outbox_link *base)
{
    const struct ob_mqtt_link *link = (const struct ob_mqtt_link *)base;
    const struct ob_send_buffer *out = &link->out;
    if (link->has_closed)
        return 0;
    if (link->state == OB_MQTT_IDLE || link->state == OB_MQTT_ENDED)
        return OUTBOX_NEVER;
    uint32_t at = ob_mqtt_now(link);
    uint32_t connect = left_of(link->config.connect_timeout_ms, link->opened_at, at);
    if (link->state == OB_MQTT_OPENING)
        return earlier(connect, OPENING_POLL_MS);
    if (link->in.has_more || out->has_ended || (out->from < out->to && !out->is_stuck))
        return 0;
    if (link->state == OB_MQTT_AWAITING)
        return connect;
    return link->pings > 0 ? until_lost(link, at) : until_ping(link, at);
}

const outbox_link_methods ob_mqtt_methods = {
    .version = 2,
    .open = link_open,
    .publish = link_publish,
    .poll = link_poll,
    .close = link_close,
    .probe = link_probe,
    .flush = link_flush,
    .next_ms = link_next_ms,
};
