/* SPDX-License-Identifier: MIT
 *
 * mqtt_stream.c - the link of port.h over a stream of bytes: an MQTT publisher, sans I/O.
 *
 * What a server may do wrong ends the connection and nothing else. At that end every token is void;
 * what was not acknowledged is read from the table again, after a loss as after a crash.
 *
 *            open              stream is open           CONNACK
 *     IDLE ---------> OPENING ----------------> AWAITING -------> ONLINE
 *      ^  close         ^ |                      |  |               |
 *      +------ all      | |  again as 3.1.1      |  |               |
 *                       +-|----------------------+  |               |
 *                         +------> ENDED <----------+---------------+
 *
 *     send buffer       [ written | not yet written | free | room for two PINGREQ and DISCONNECT ]
 *     receive buffer    [ decoded | not yet decoded | free ]
 */
#include "error.h"
#include "flights.h"
#include "mqtt_decode.h"
#include "mqtt_encode.h"
#include "mqtt_words.h"
#include "text.h"

#include <assert.h>
#include <sqlite3.h>
#include <string.h>

enum {
    WINDOW_MAX = 1000,
    STRING_MAX = 65535,
    SEND_MIN = 256,
    RECEIVE_MIN = 16,
    RESERVE = 2 * OB_MQTT_PINGREQ_SIZE + OB_MQTT_DISCONNECT_SIZE,
    READS_MAX = 16,      /* of one poll(), whatever the server sends */
    OPENING_POLL_MS = 50 /* between two looks at a stream that is being opened */
};

enum state { IDLE, OPENING, AWAITING, ONLINE, ENDED, STATES };

struct send_buffer {
    uint8_t *bytes;
    size_t size, from, to; /* from..to is not yet written */
    bool is_stuck;         /* the stream had no room at the last attempt */
    bool has_ended;        /* the other side takes nothing any more */
};

struct receive_buffer {
    uint8_t *bytes;
    size_t size, from, to; /* from..to is not yet decoded */
    bool has_more;         /* poll() ended before the stream had nothing more */
};

struct stream_link {
    outbox_link base; /* comes first */
    outbox_stream *stream;
    const outbox_port *port;
    outbox_stream_link_config config; /* with the defaults filled in */
    enum state state;
    int version; /* of the present connection, or of the next one */

    struct send_buffer out;
    struct receive_buffer in;
    struct ob_mqtt_decoder decoder;
    struct ob_flights flights;
    struct ob_flight *places;

    /* The server's, once online. */
    unsigned receive_maximum;
    uint32_t maximum_packet;
    bool retain_available;
    uint32_t keep_alive_ms;

    uint32_t opened_at, sent_at, heard_at, pinged_at;
    unsigned pings; /* PINGREQ without their PINGRESP */
    unsigned probe; /* so many PINGRESP until the probe's; 0: no probe is under way */
    bool has_said_unknown;

    bool has_closed; /* `closed` waits to be taken */
    outbox_link_event closed;
};

static uint32_t now(const struct stream_link *link)
{
    return link->port->now_ms(link->port->context);
}

static void say(const struct stream_link *link, outbox_level level, int code, const char *format,
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

static void enter(struct stream_link *link, enum state state)
{
    static const uint8_t allowed[STATES] = {
        [IDLE] = 1 << IDLE | 1 << OPENING,
        [OPENING] = 1 << AWAITING | 1 << ENDED | 1 << IDLE,
        [AWAITING] = 1 << ONLINE | 1 << OPENING | 1 << ENDED | 1 << IDLE,
        [ONLINE] = 1 << ENDED | 1 << IDLE,
        [ENDED] = 1 << IDLE | 1 << OPENING,
    };
    assert(allowed[link->state] >> state & 1);
    (void)allowed;
    link->state = state;
}

/* ---- How a connection ends ------------------------------------------------------------------- */

static const char *stream_reason(const struct stream_link *link)
{
    const outbox_stream_methods *methods = link->stream->methods;
    const char *words = methods->reason ? methods->reason(link->stream) : NULL;
    return words && words[0] != '\0' ? words : NULL;
}

/* `by_peer` and the rest of the event hold only for a connection that was up. The stream's own words
 * must be in the sentence already, as it is closed here. */
static void end(struct stream_link *link, int reason, bool by_peer, const char *format, ...)
{
    outbox_link_event *closed = &link->closed;
    va_list arguments;
    memset(closed, 0, sizeof *closed);
    va_start(arguments, format);
    sqlite3_vsnprintf((int)sizeof closed->sentence, closed->sentence, format, arguments);
    va_end(arguments);
    closed->kind = OUTBOX_LINK_CLOSED;
    closed->reason = reason;
    closed->by_peer = by_peer && link->state == ONLINE;
    link->has_closed = true;
    if (link->state != ONLINE) /* the next server may be another one */
        link->version = link->config.protocol ? link->config.protocol : 5;
    link->stream->methods->close(link->stream);
    enter(link, ENDED);
}

static void end_lost(struct stream_link *link, bool by_peer, const char *why)
{
    if (link->state == ONLINE)
        end(link, 0, by_peer, "the connection to %.40s was lost: %.50s", link->config.place, why);
    else
        end(link, 0, by_peer, "no connection to %.40s: %.58s", link->config.place, why);
}

/* The stream has answered ENDED or FAILED. */
static void end_of_stream(struct stream_link *link, outbox_stream_result result)
{
    const char *why = stream_reason(link);
    if (!why && result == OUTBOX_STREAM_ENDED)
        why = link->state == ONLINE ? "the broker hung up" : "it hung up; no MQTT there?";
    end_lost(link, result == OUTBOX_STREAM_ENDED, why ? why : "the stream failed");
}

/* ---- Sending ---------------------------------------------------------------------------------- */

static void write_out(struct stream_link *link)
{
    struct send_buffer *out = &link->out;
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
            end_of_stream(link, result);
            return;
        }
        if (result == OUTBOX_STREAM_ENDED) {
            out->has_ended = true; /* what it said before that is still to be read */
            return;
        }
        assert(count >= 1 && count <= out->to - out->from);
        out->from += count;
        link->sent_at = now(link);
    }
    out->from = out->to = 0;
}

/* A place for `size` bytes more, or NULL. The reserve is for control packets. */
static uint8_t *make_room(struct stream_link *link, size_t size, size_t reserve)
{
    struct send_buffer *out = &link->out;
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
static void send_ping(struct stream_link *link)
{
    uint8_t *place = make_room(link, OB_MQTT_PINGREQ_SIZE, OB_MQTT_DISCONNECT_SIZE);
    assert(place && link->pings < 2);
    ob_mqtt_pingreq(place);
    link->pings++;
    link->pinged_at = now(link);
    write_out(link);
}

static void send_goodbye(struct stream_link *link, uint8_t reason)
{
    uint8_t *place = make_room(link, OB_MQTT_DISCONNECT_SIZE, 0);
    if (!place || link->out.has_ended)
        return;
    link->out.to -= OB_MQTT_DISCONNECT_SIZE - ob_mqtt_disconnect(place, link->version, reason);
    write_out(link);
}

/* ---- Opening ---------------------------------------------------------------------------------- */

static void forget_connection(struct stream_link *link)
{
    ob_flights_start(&link->flights, link->places, link->config.window);
    ob_mqtt_decoder_start(&link->decoder, link->version);
    link->out.from = link->out.to = link->in.from = link->in.to = 0;
    link->out.is_stuck = link->out.has_ended = link->in.has_more = false;
    link->pings = link->probe = 0;
    link->has_said_unknown = link->has_closed = false;
}

static void send_connect(struct stream_link *link)
{
    size_t size = ob_mqtt_connect_size(&link->config, link->version);
    uint8_t *place = make_room(link, size, 0);
    assert(size > 0 && place); /* checked when the link was made */
    ob_mqtt_connect(place, &link->config, link->version, link->config.keep_alive_seconds);
    write_out(link);
}

static void go_on_opening(struct stream_link *link)
{
    outbox_stream_result result = link->stream->methods->open(link->stream);
    if (result == OUTBOX_STREAM_OK) {
        enter(link, AWAITING);
        send_connect(link);
    } else if (result != OUTBOX_STREAM_AGAIN) {
        end_of_stream(link, result);
    }
}

static void begin(struct stream_link *link)
{
    forget_connection(link);
    enter(link, OPENING);
    link->opened_at = link->sent_at = link->heard_at = now(link);
    go_on_opening(link);
}

/* ---- What the server says ---------------------------------------------------------------------- */

static void end_broken(struct stream_link *link, uint8_t reason, const char *why)
{
    if (link->version == 5)
        send_goodbye(link, reason);
    if (link->state != ENDED) /* the stream has failed meanwhile */
        end(link, reason, false, "%s sends what is no MQTT: %s", link->config.place, why);
}

static void refused(struct stream_link *link, const struct ob_mqtt_packet *packet)
{
    if (packet->reason == OB_MQTT_UNSUPPORTED_VERSION && link->version == 5 &&
        link->config.protocol == 0) {
        say(link, OUTBOX_LOG_INFO, OUTBOX_OK,
            "the broker does not know MQTT 5; going on with MQTT 3.1.1");
        link->stream->methods->close(link->stream);
        link->version = 4;
        begin(link);
        return;
    }
    end(link, packet->reason, false, "the broker refused the connection: %s (0x%02x)%s%.40s",
        ob_mqtt_reason(packet->reason), packet->reason, packet->text[0] ? ": " : "", packet->text);
}

/* A longer keep-alive than ours changes nothing, as a ping too many is allowed. */
static bool on_connack(struct stream_link *link, outbox_link_event *event)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    if (link->state != AWAITING) {
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
    enter(link, ONLINE);
    event->kind = OUTBOX_LINK_OPENED;
    event->receive_maximum = packet->receive_maximum;
    event->maximum_packet = packet->maximum_packet;
    event->maximum_qos = packet->maximum_qos;
    event->protocol = link->version;
    return true;
}

static bool on_puback(struct stream_link *link, outbox_link_event *event)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    if (!ob_flights_end(&link->flights, packet->id, &event->token)) {
        if (!link->has_said_unknown)
            say(link, OUTBOX_LOG_WARNING, OUTBOX_OK,
                "the broker acknowledges packet id %u, which is not in flight", packet->id);
        link->has_said_unknown = true;
        return false;
    }
    if (packet->text[0] != '\0' && packet->reason >= OB_MQTT_FIRST_REFUSAL)
        say(link, OUTBOX_LOG_INFO, OUTBOX_REFUSED, "the broker says why it refuses an event: %s",
            packet->text);
    event->kind = OUTBOX_LINK_ACKED;
    event->reason = packet->reason;
    return true;
}

/* They come in the order of the PINGREQ. One that nobody asked for is of no use, and does no harm. */
static bool on_pingresp(struct stream_link *link, outbox_link_event *event)
{
    if (link->pings > 0)
        link->pings--;
    if (link->probe == 0 || --link->probe > 0)
        return false;
    event->kind = OUTBOX_LINK_ALIVE;
    return true;
}

static bool on_disconnect(struct stream_link *link)
{
    const struct ob_mqtt_packet *packet = &link->decoder.packet;
    end(link, packet->reason, true, "the broker ended the connection: %s (0x%02x)%s%.40s",
        ob_mqtt_reason(packet->reason), packet->reason, packet->text[0] ? ": " : "", packet->text);
    return false;
}

/* Returns whether `event` is filled. */
static bool take_packet(struct stream_link *link, outbox_link_event *event)
{
    int type = link->decoder.packet.type;
    if (type == OB_MQTT_CONNACK)
        return on_connack(link, event);
    if (type == OB_MQTT_DISCONNECT)
        return on_disconnect(link);
    if (link->state != ONLINE) {
        end_broken(link, OB_MQTT_PROTOCOL_ERROR, "another packet before its CONNACK");
        return false;
    }
    if (type == OB_MQTT_PUBACK)
        return on_puback(link, event);
    if (type == OB_MQTT_PINGRESP)
        return on_pingresp(link, event);
    return false; /* a PUBLISH */
}

/* ---- Reading ---------------------------------------------------------------------------------- */

static bool is_connected(const struct stream_link *link)
{
    return link->state == AWAITING || link->state == ONLINE;
}

/* Returns whether there are bytes to decode. */
static bool read_in(struct stream_link *link)
{
    struct receive_buffer *in = &link->in;
    size_t count = 0;
    outbox_stream_result result =
        link->stream->methods->read(link->stream, in->bytes, in->size, &count);
    if (result == OUTBOX_STREAM_OK) {
        assert(count >= 1 && count <= in->size);
        in->from = 0;
        in->to = count;
        link->heard_at = now(link);
        return true;
    }
    in->has_more = false;
    if (result == OUTBOX_STREAM_AGAIN && link->out.has_ended)
        result = OUTBOX_STREAM_ENDED; /* and nothing more was on its way */
    if (result != OUTBOX_STREAM_AGAIN)
        end_of_stream(link, result);
    return false;
}

/* Decodes what was read. Returns whether `event` is filled. */
static bool decode(struct stream_link *link, outbox_link_event *event)
{
    struct receive_buffer *in = &link->in;
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

static bool listen(struct stream_link *link, outbox_link_event *event)
{
    link->in.has_more = true;
    for (int reads = 0; is_connected(link); reads++) {
        if (decode(link, event))
            return true;
        if (!is_connected(link) || reads == READS_MAX)
            return false;
        write_out(link);
        if (!is_connected(link) || !read_in(link))
            return false;
    }
    return false;
}

/* ---- Time ------------------------------------------------------------------------------------- */

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

static uint32_t until_ping(const struct stream_link *link, uint32_t at)
{
    uint32_t quiet = link->keep_alive_ms / 4 * 3;
    return earlier(left_of(quiet, link->sent_at, at), left_of(quiet, link->heard_at, at));
}

/* Of the answer to a PINGREQ. Whatever comes is a sign of life. */
static uint32_t until_lost(const struct stream_link *link, uint32_t at)
{
    bool heard_since = (int32_t)(link->heard_at - link->pinged_at) > 0;
    return left_of(link->keep_alive_ms, heard_since ? link->heard_at : link->pinged_at, at);
}

static void look_at_clock(struct stream_link *link)
{
    uint32_t at = now(link);
    if (link->state == OPENING || link->state == AWAITING) {
        if (left_of(link->config.connect_timeout_ms, link->opened_at, at) == 0)
            end_lost(link, false, "no answer in time");
    } else if (link->state == ONLINE && link->pings > 0) {
        if (until_lost(link, at) == 0)
            end_lost(link, false, "no answer within the keep-alive");
    } else if (link->state == ONLINE && until_ping(link, at) == 0) {
        send_ping(link);
    }
}

/* ---- Methods ---------------------------------------------------------------------------------- */

static struct stream_link *of(outbox_link *base)
{
    return (struct stream_link *)base;
}

static void link_close(outbox_link *base)
{
    struct stream_link *link = of(base);
    if (link->state == ONLINE)
        send_goodbye(link, 0);
    link->stream->methods->close(link->stream);
    forget_connection(link);
    enter(link, IDLE);
}

static outbox_link_result link_open(outbox_link *base)
{
    struct stream_link *link = of(base);
    if (link->state != IDLE && link->state != ENDED)
        link_close(base);
    begin(link);
    return OUTBOX_LINK_OK; /* an event tells how that ended */
}

static outbox_link_result link_poll(outbox_link *base, outbox_link_event *event)
{
    struct stream_link *link = of(base);
    memset(event, 0, sizeof *event);
    if (link->state == OPENING)
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
static bool is_allowed(const struct stream_link *link, const outbox_message *message, size_t size)
{
    uint32_t most = link->maximum_packet;
    if (size == 0)
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED, "an event is too large for MQTT");
    else if (most != 0 && size > most)
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
            "an event makes a packet of %lld bytes; the broker takes %lld", (long long)size,
            (long long)most);
    else if (size > link->out.size - RESERVE)
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
            "an event makes a packet of %lld bytes; the link's send buffer takes %lld",
            (long long)size, (long long)(link->out.size - RESERVE));
    else if (message->retain && !link->retain_available)
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
            "an event is to be retained, which the broker does not do");
    else if (!ob_text_is_utf8(message->topic, strlen(message->topic)))
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED, "the topic of an event is not clean UTF-8");
    else
        return true;
    return false;
}

/* Whether it may be called at all now. */
static outbox_link_result may_send(const struct stream_link *link)
{
    if (link->state == ONLINE)
        return OUTBOX_LINK_OK;
    return link->state == OPENING || link->state == AWAITING ? OUTBOX_LINK_AGAIN : OUTBOX_LINK_DOWN;
}

static outbox_link_result link_publish(outbox_link *base, uint32_t token,
                                       const outbox_message *message)
{
    const int qos = 1;
    struct stream_link *link = of(base);
    outbox_link_result result = may_send(link);
    if (result != OUTBOX_LINK_OK)
        return result;
    size_t size = ob_mqtt_publish_size(message, link->version, qos);
    if (!is_allowed(link, message, size))
        return OUTBOX_LINK_TOO_LARGE;
    if (link->flights.count >= link->receive_maximum || link->flights.count >= link->config.window)
        return OUTBOX_LINK_AGAIN;
    uint8_t *place = make_room(link, size, RESERVE);
    if (!place) {
        write_out(link);
        if (link->state != ONLINE)
            return OUTBOX_LINK_DOWN;
        place = make_room(link, size, RESERVE);
    }
    if (!place)
        return OUTBOX_LINK_AGAIN;
    uint16_t id = ob_flights_begin(&link->flights, token);
    ob_mqtt_publish(place, message, link->version, qos, id);
    return OUTBOX_LINK_OK;
}

static outbox_link_result link_probe(outbox_link *base)
{
    struct stream_link *link = of(base);
    outbox_link_result result = may_send(link);
    if (result != OUTBOX_LINK_OK)
        return result;
    if (link->probe > 0 || link->pings == 2)
        return OUTBOX_LINK_AGAIN;
    link->probe = link->pings + 1;
    send_ping(link);
    return link->state == ONLINE ? OUTBOX_LINK_OK : OUTBOX_LINK_DOWN;
}

static void link_flush(outbox_link *base)
{
    struct stream_link *link = of(base);
    if (is_connected(link))
        write_out(link);
}

static uint32_t link_next_ms(const outbox_link *base)
{
    const struct stream_link *link = (const struct stream_link *)base;
    const struct send_buffer *out = &link->out;
    if (link->has_closed)
        return 0;
    if (link->state == IDLE || link->state == ENDED)
        return OUTBOX_NEVER;
    uint32_t at = now(link);
    uint32_t connect = left_of(link->config.connect_timeout_ms, link->opened_at, at);
    if (link->state == OPENING)
        return earlier(connect, OPENING_POLL_MS);
    if (link->in.has_more || out->has_ended || (out->from < out->to && !out->is_stuck))
        return 0;
    if (link->state == AWAITING)
        return connect;
    return link->pings > 0 ? until_lost(link, at) : until_ping(link, at);
}

/* ---- Making ----------------------------------------------------------------------------------- */

static const outbox_link_methods methods = {
    .version = 2,
    .open = link_open,
    .publish = link_publish,
    .poll = link_poll,
    .close = link_close,
    .probe = link_probe,
    .flush = link_flush,
    .next_ms = link_next_ms,
};

static outbox_stream_link_config with_defaults(const outbox_stream_link_config *given)
{
    outbox_stream_link_config config = *given;
    if (config.keep_alive_seconds == 0)
        config.keep_alive_seconds = 30;
    if (config.connect_timeout_ms == 0)
        config.connect_timeout_ms = 15000;
    if (config.window == 0)
        config.window = 100;
    if (config.send_buffer == 0)
        config.send_buffer = 4096;
    if (config.receive_buffer == 0)
        config.receive_buffer = 256;
    if (!config.place)
        config.place = "the broker";
    return config;
}

static bool is_text(const char *text)
{
    return !text || (strlen(text) <= STRING_MAX && ob_text_is_utf8(text, strlen(text)));
}

/* NULL, or which field is wrong. */
static const char *wrong_in(const outbox_stream_link_config *config)
{
    const outbox_will *will = config->will;
    if (config->protocol != 0 && config->protocol != 4 && config->protocol != 5)
        return "the protocol must be 5, 4 for MQTT 3.1.1, or 0 for whichever the broker knows";
    if (config->keep_alive_seconds > 65535 || config->connect_timeout_ms > 1u << 28)
        return "the keep-alive must be 1 to 65,535 seconds, the connect timeout at most 2^28 ms";
    if (config->window > WINDOW_MAX)
        return "the window must be 1 to 1,000 events";
    if (config->send_buffer < SEND_MIN || config->receive_buffer < RECEIVE_MIN ||
        config->send_buffer > INT32_MAX || config->receive_buffer > INT32_MAX)
        return "the send buffer must have 256 bytes or more, the receive buffer 16 or more";
    if (!is_text(config->client_id) || !is_text(config->username))
        return "client id and user name must be UTF-8 of at most 65,535 bytes";
    if (config->password_len > STRING_MAX || (config->password_len > 0 && !config->password))
        return "the password must have at most 65,535 bytes";
    if (config->password && !config->username && config->protocol != 5)
        return "a password without a user name is for MQTT 5 only";
    if (will && (!will->topic || will->topic[0] == '\0' || !is_text(will->topic) ||
                 strpbrk(will->topic, "+#") || will->payload_len > STRING_MAX || will->qos < 0 ||
                 will->qos > 1))
        return "the will needs a topic, a payload of at most 65,535 bytes, and QoS 0 or 1";
    if (ob_mqtt_connect_size(config, 5) > config->send_buffer)
        return "the CONNECT does not fit into the send buffer; make it larger";
    return NULL;
}

static size_t align(size_t size)
{
    const size_t unit = _Alignof(max_align_t);
    return (size + unit - 1) / unit * unit;
}

static size_t size_of(const outbox_stream_link_config *config)
{
    return align(sizeof(struct stream_link)) + align(config->window * sizeof(struct ob_flight)) +
           align(config->send_buffer) + align(config->receive_buffer);
}

size_t outbox_stream_link_size(const outbox_stream_link_config *given)
{
    if (!given)
        return 0;
    outbox_stream_link_config config = with_defaults(given);
    return wrong_in(&config) ? 0 : size_of(&config);
}

static struct stream_link *lay_out(void *memory, const outbox_stream_link_config *config)
{
    uint8_t *at = memory;
    struct stream_link *link = memory;
    memset(link, 0, sizeof *link);
    link->config = *config;
    at += align(sizeof *link);
    link->places = (struct ob_flight *)(void *)at;
    at += align(config->window * sizeof(struct ob_flight));
    link->out.bytes = at;
    link->out.size = config->send_buffer;
    at += align(config->send_buffer);
    link->in.bytes = at;
    link->in.size = config->receive_buffer;
    return link;
}

static int check(const void *memory, size_t size, const outbox_stream *stream,
                 const outbox_port *port, const outbox_stream_link_config *config,
                 struct ob_error *error)
{
    if (!memory || !stream || !stream->methods || stream->methods->version != 1 || !port ||
        port->version != 1)
        return ob_error_set(error, OUTBOX_MISUSE, "an argument is NULL or of another version");
    const char *wrong = wrong_in(config);
    if (wrong)
        return ob_error_set(error, OUTBOX_MISUSE, "%s", wrong);
    if (size < size_of(config))
        return ob_error_set(error, OUTBOX_NO_MEMORY, "the link needs %lld bytes, it got %lld",
                            (long long)size_of(config), (long long)size);
    return OUTBOX_OK;
}

int outbox_stream_link_init(void *memory, size_t size, outbox_stream *stream,
                            const outbox_port *port, const outbox_stream_link_config *given,
                            outbox_link **made, char *sentence, size_t sentence_size)
{
    struct ob_error error = {OUTBOX_MISUSE, "config or link is NULL"};
    outbox_stream_link_config config;
    int code = OUTBOX_MISUSE;
    if (made)
        *made = NULL;
    if (given && made) {
        config = with_defaults(given);
        code = check(memory, size, stream, port, &config, &error);
    }
    if (code != OUTBOX_OK) {
        if (sentence && sentence_size > 0)
            sqlite3_snprintf((int)sentence_size, sentence, "%s", error.sentence);
        return code;
    }
    struct stream_link *link = lay_out(memory, &config);
    link->base.methods = &methods;
    link->stream = stream;
    link->port = port;
    link->version = config.protocol ? config.protocol : 5;
    forget_connection(link);
    *made = &link->base;
    return OUTBOX_OK;
}
