/* SPDX-License-Identifier: MIT
 *
 * paho_link.c - the link of port.h over MQTTAsync: one Paho handle for each connection.
 *
 * Nothing of a connection outlives it. At its end every token is void, the handle is destroyed, and
 * the next open() makes a new one; what was not acknowledged is read from the database again, in
 * order, after a loss as after a crash.
 *
 *            open                    OPENED
 *     IDLE ---------> CONNECTING -------------> ONLINE
 *      ^               |  ^   |                   |
 *      |  close        |  +---+ again: 3.1.1, or  | lost, dismissed
 *      +---------------+        the server's      |
 *      |               |        keep-alive        v
 *      +---------------+--- refused, lost ----> ENDED
 *
 * The methods run on the thread that drives the link, and it alone touches the struct. What Paho's
 * threads have to say comes through the queue.
 */
#include "paho_link.h"

#include "paho_handle.h"
#include "paho_message.h"
#include "paho_queue.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_KEEP_ALIVE 30u
#define DEFAULT_CONNECT_TIMEOUT_MS 15000u
#define DEFAULT_WINDOW 100u
#define UNSUPPORTED_VERSION 0x84

typedef enum state { IDLE, CONNECTING, ONLINE, ENDED } state;

typedef struct paho_link {
    outbox_link base; /* comes first */
    state state;
    outbox_paho_queue *queue;
    MQTTAsync handle; /* NULL: none */
    void *ticket;     /* of the present connection */
    outbox_paho_limits limits;
    int wants_version;         /* 0, 4 or 5 */
    unsigned wants_keep_alive; /* seconds */
    unsigned window;
    outbox_paho_settings settings; /* of the present connection, or of the next one */
    char place[300];               /* host and port, for people */
    outbox_log log;
    void *log_context;
} paho_link;

static void say(const paho_link *link, outbox_level level, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void say(const paho_link *link, outbox_level level, int code, const char *format, ...)
{
    char line[256];
    if (link->log == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    link->log(link->log_context, level, code, line);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* Callbacks that come meanwhile have void tickets. */
static void drop(paho_link *link)
{
    link->ticket = outbox_paho_queue_begin(link->queue);
    outbox_paho_handle_destroy(&link->handle);
}

static void end_with(paho_link *link, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For what goes wrong on our side. */
static void end_with(paho_link *link, const char *format, ...)
{
    char sentence[120];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    outbox_paho_queue_ended(link->ticket, OUTBOX_PAHO_LOCAL, 0, sentence);
}

/* An event will tell how it ended, whatever this returns. */
static outbox_link_result begin(paho_link *link)
{
    drop(link);
    link->state = CONNECTING;
    const char *variable = outbox_paho_diverting_variable(link->settings.tls);
    if (variable != NULL) {
        end_with(link, "unset %s in the environment: this libpaho would send the connection there",
                 variable);
        return OUTBOX_LINK_OK;
    }
    int rc = outbox_paho_handle_make(&link->handle, &link->settings, link->ticket);
    if (rc == MQTTASYNC_SUCCESS)
        return OUTBOX_LINK_OK;
    end_with(link, "the MQTT client cannot connect: %.60s (Paho %d)", outbox_paho_strerror(rc), rc);
    return OUTBOX_LINK_DOWN;
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* What the last server wanted otherwise may not hold for the next one. */
static void forget_server(paho_link *link)
{
    link->settings.version = link->wants_version != 0 ? link->wants_version : 5;
    link->settings.keep_alive = link->wants_keep_alive;
}

/* Paho checks the silence after a tenth of the keep-alive and once a second. From 3 s on a ping
 * then leaves within the one and a half keep-alives that a server waits. */
static unsigned keep_alive_for(unsigned server)
{
    return server >= 3 ? server : 1;
}

/* Each of these returns non-zero when `event` is filled, and zero when it was handled within. */
static int opened(paho_link *link, const outbox_paho_event *got, outbox_link_event *event)
{
    assert(link->state == CONNECTING);
    unsigned asked = got->limits.keep_alive;
    if (asked != 0 && keep_alive_for(asked) < link->settings.keep_alive) {
        /* MQTT 5, 3.2.2.3.14. Paho before 1.3.14 does not look at it. */
        link->settings.keep_alive = keep_alive_for(asked);
        say(link, OUTBOX_LOG_INFO, OUTBOX_OK,
            "the broker wants a keep-alive of %u s; connecting again with it", asked);
        (void)begin(link);
        return 0;
    }
    link->state = ONLINE;
    link->limits = got->limits;
    event->kind = OUTBOX_LINK_OPENED;
    event->receive_maximum = got->limits.receive_maximum;
    event->maximum_packet = got->limits.maximum_packet;
    event->maximum_qos = got->limits.maximum_qos;
    event->protocol = link->settings.version;
    return 1;
}

static int alive(outbox_link_event *event)
{
    event->kind = OUTBOX_LINK_ALIVE;
    return 1;
}

static int acked(const outbox_paho_event *got, outbox_link_event *event)
{
    event->kind = OUTBOX_LINK_ACKED;
    event->token = got->token;
    event->reason = got->reason;
    return 1;
}

/* Paho has few words for why a broker was not reached, and OpenSSL's are kept when there are
 * any. */
static const char *why_unreached(const paho_link *link, const char *text)
{
    if (text[0] == '\0')
        return "no such host, or it refuses";
    if (strstr(text, "timeout") != NULL)
        return "no answer in time";
    if (strncmp(text, "TCP", 3) != 0)
        return text;
    return link->settings.tls ? "refused, or TLS failed: host name? certificate?"
                              : "refused, or no MQTT there";
}

static void tell(const paho_link *link, const outbox_paho_event *got, char *sentence, size_t size)
{
    const char *name = MQTTReasonCode_toString((enum MQTTReasonCodes)got->reason);
    if (name == NULL)
        name = "a reason that MQTT does not name";
    switch (got->end) {
    case OUTBOX_PAHO_UNREACHED:
        (void)snprintf(sentence, size, "no connection to %.50s: %.50s", link->place,
                       why_unreached(link, got->text));
        break;
    case OUTBOX_PAHO_REFUSED:
        (void)snprintf(sentence, size, "the broker refused the connection: %s (0x%02x)", name,
                       (unsigned)got->reason);
        break;
    case OUTBOX_PAHO_DISMISSED:
        (void)snprintf(sentence, size, "the broker ended the connection: %s (0x%02x)", name,
                       (unsigned)got->reason);
        break;
    case OUTBOX_PAHO_LOST:
        (void)snprintf(sentence, size, "the connection to %.80s was lost", link->place);
        break;
    case OUTBOX_PAHO_LOCAL:
        (void)snprintf(sentence, size, "%s", got->text);
        break;
    }
}

static int closed(paho_link *link, const outbox_paho_event *got, outbox_link_event *event)
{
    assert(link->state == CONNECTING || link->state == ONLINE);
    if (link->state == CONNECTING && got->reason == UNSUPPORTED_VERSION &&
        link->settings.version == 5 && link->wants_version == 0) {
        link->settings.version = 4;
        say(link, OUTBOX_LOG_INFO, OUTBOX_OK,
            "the broker does not know MQTT 5; going on with MQTT 3.1.1");
        (void)begin(link);
        return 0;
    }
    event->by_peer =
        link->state == ONLINE && outbox_paho_is_by_peer(got, link->settings.keep_alive);
    if (link->state == CONNECTING)
        forget_server(link);
    link->state = ENDED;
    event->kind = OUTBOX_LINK_CLOSED;
    event->reason = got->reason;
    tell(link, got, event->sentence, sizeof(event->sentence));
    return 1;
}

/* ---- Methods --------------------------------------------------------------------------------- */

static paho_link *of(outbox_link *base)
{
    return (paho_link *)base;
}

static outbox_link_result link_open(outbox_link *base)
{
    return begin(of(base));
}

static outbox_link_result link_poll(outbox_link *base, outbox_link_event *event)
{
    paho_link *link = of(base);
    outbox_paho_event got;
    memset(event, 0, sizeof(*event));
    while (outbox_paho_queue_take(link->queue, &got)) {
        int filled = got.kind == OUTBOX_LINK_OPENED  ? opened(link, &got, event)
                     : got.kind == OUTBOX_LINK_ACKED ? acked(&got, event)
                     : got.kind == OUTBOX_LINK_ALIVE ? alive(event)
                                                     : closed(link, &got, event);
        if (filled)
            return OUTBOX_LINK_OK;
    }
    return OUTBOX_LINK_AGAIN;
}

static void link_close(outbox_link *base)
{
    paho_link *link = of(base);
    drop(link);
    link->state = IDLE;
}

/* What it means for the link that Paho answered with this code when it was to send something. */
static outbox_link_result sent(paho_link *link, int rc)
{
    switch (rc) {
    case MQTTASYNC_SUCCESS:
        return OUTBOX_LINK_OK;
    case MQTTASYNC_NO_MORE_MSGIDS:
    case MQTTASYNC_MAX_BUFFERED_MESSAGES:
        return OUTBOX_LINK_AGAIN;
    case MQTTASYNC_BAD_UTF8_STRING:
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED, "the topic of an event is not clean UTF-8");
        return OUTBOX_LINK_TOO_LARGE;
    case MQTTASYNC_DISCONNECTED: /* and on_lost() may be on its way */
        outbox_paho_queue_ended(link->ticket, OUTBOX_PAHO_LOST, 0, NULL);
        return OUTBOX_LINK_DOWN;
    default:
        end_with(link, "the MQTT client cannot send: %.60s (Paho %d)", outbox_paho_strerror(rc),
                 rc);
        return OUTBOX_LINK_DOWN;
    }
}

/* Zero when the server has ruled this message out for as long as the connection lives. */
static int is_allowed(const paho_link *link, const outbox_message *message, size_t size)
{
    uint32_t most = link->limits.maximum_packet;
    if (size == 0) {
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED, "an event is too large for MQTT");
    } else if (most != 0 && size > most) {
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
            "an event makes a packet of %zu bytes; the broker takes %lu", size,
            (unsigned long)most);
    } else if (message->retain && !link->limits.retain_available) {
        say(link, OUTBOX_LOG_ERROR, OUTBOX_REFUSED,
            "an event is to be retained, which the broker does not do");
    } else {
        return 1;
    }
    return 0;
}

static outbox_link_result link_publish(outbox_link *base, uint32_t token,
                                       const outbox_message *message)
{
    paho_link *link = of(base);
    void *ticket;
    if (link->state != ONLINE)
        return link->state == CONNECTING ? OUTBOX_LINK_AGAIN : OUTBOX_LINK_DOWN;
    size_t size = outbox_paho_packet_size(message, link->settings.version);
    if (!is_allowed(link, message, size))
        return OUTBOX_LINK_TOO_LARGE;
    unsigned window = link->window;
    if (window > link->limits.receive_maximum)
        window = link->limits.receive_maximum;
    outbox_link_result result =
        message->fire_and_forget
            ? outbox_paho_queue_reserve_unacked(link->queue, size, &ticket)
            : outbox_paho_queue_reserve(link->queue, token, size, window, &ticket);
    if (result != OUTBOX_LINK_OK)
        return result;
    result =
        sent(link, outbox_paho_handle_send(link->handle, link->settings.version, message, ticket));
    if (result != OUTBOX_LINK_OK)
        outbox_paho_queue_cancel(link->queue, ticket);
    return result;
}

static outbox_link_result link_probe(outbox_link *base)
{
    paho_link *link = of(base);
    void *ticket;
    if (link->state != ONLINE)
        return link->state == CONNECTING ? OUTBOX_LINK_AGAIN : OUTBOX_LINK_DOWN;
    outbox_link_result result = outbox_paho_queue_probe(link->queue, &ticket);
    if (result != OUTBOX_LINK_OK)
        return result;
    result = sent(link, outbox_paho_handle_probe(link->handle, link->settings.version, ticket));
    if (result != OUTBOX_LINK_OK)
        outbox_paho_queue_cancel(link->queue, ticket);
    return result;
}

/* ---- Making and freeing ---------------------------------------------------------------------- */

static const outbox_link_methods methods = {
    .version = 1,
    .open = link_open,
    .publish = link_publish,
    .poll = link_poll,
    .close = link_close,
    .probe = link_probe,
};

/* Copies a string that may be missing. An empty one counts as missing. */
static int copy(char **to, const char *from)
{
    if (from == NULL || from[0] == '\0')
        return 1;
    *to = strdup(from);
    return *to != NULL;
}

static void set_up(paho_link *link, const outbox_linux_link_options *options)
{
    const outbox_url *url = options->url;
    int is_address6 = strchr(url->host, ':') != NULL;
    unsigned timeout_ms =
        options->connect_timeout_ms ? options->connect_timeout_ms : DEFAULT_CONNECT_TIMEOUT_MS;
    link->base.methods = &methods;
    link->wants_version = options->protocol;
    link->wants_keep_alive =
        options->keep_alive_seconds ? options->keep_alive_seconds : DEFAULT_KEEP_ALIVE;
    link->window = options->window ? options->window : DEFAULT_WINDOW;
    link->log = options->log;
    link->log_context = options->log_context;
    (void)snprintf(link->place, sizeof(link->place), "%s%s%s:%u", is_address6 ? "[" : "", url->host,
                   is_address6 ? "]" : "", url->port);
    (void)snprintf(link->settings.uri, sizeof(link->settings.uri), "%s%s",
                   url->tls ? "ssl://" : "tcp://", link->place);
    link->settings.tls = url->tls;
    link->settings.insecure = options->insecure;
    link->settings.connect_timeout = timeout_ms / 1000 + (timeout_ms % 1000 != 0);
    forget_server(link);
}

static int copy_strings(outbox_paho_settings *settings, const outbox_linux_link_options *options)
{
    const outbox_url *url = options->url;
    return copy(&settings->client_id, options->client_id) &&
           copy(&settings->username, options->username ? options->username : url->username) &&
           copy(&settings->password, options->password ? options->password : url->password) &&
           copy(&settings->ca_file, options->ca_file) &&
           copy(&settings->cert_file, options->cert_file) &&
           copy(&settings->key_file, options->key_file);
}

outbox_link *outbox_paho_link_new(const outbox_linux_link_options *options)
{
    paho_link *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return NULL;
    set_up(made, options);
    made->queue = outbox_paho_queue_new(made->window, options->wake, options->wake_context);
    if (made->queue != NULL && copy_strings(&made->settings, options))
        return &made->base;
    outbox_paho_link_free(&made->base);
    return NULL;
}

void outbox_paho_link_free(outbox_link *link)
{
    paho_link *freed = of(link);
    if (freed->queue != NULL)
        link_close(link);
    outbox_paho_queue_free(freed->queue);
    outbox_paho_settings *settings = &freed->settings;
    if (settings->password != NULL)
        explicit_bzero(settings->password, strlen(settings->password));
    free(settings->client_id);
    free(settings->username);
    free(settings->password);
    free(settings->ca_file);
    free(settings->cert_file);
    free(settings->key_file);
    free(freed);
}
