/* SPDX-License-Identifier: MIT
 *
 * receiver.c - a subscriber over MQTTAsync that keeps its session.
 *
 * The broker keeps what was not acknowledged, and Paho acknowledges a message when the callback
 * that got it has returned; so after a crash of this process at any moment the broker sends again
 * all that was not stored. Nothing is kept here but the connection.
 *
 *            due             connected               granted
 *     PAUSE ------> CONNECTING -------> SUBSCRIBING --------> ONLINE
 *       ^               |                    |                  |
 *       +---------------+---- ended, or no answer in time ------+
 *
 * Each connection has a handle of its own, destroyed at its end. Paho's threads write down what
 * happened in `news`, under a lock of ours that is held around nothing else; outbox_receiver_step()
 * acts on it.
 */
#include "receiver.h"

#include "clock.h"
#include "paho_handle.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAUSE_MIN_MS = 100,
    PAUSE_MAX_MS = 10000,
    PATIENCE_MS = 20000, /* for a CONNACK or a SUBACK */
    LOOK_MS = 1000,
    KEEP_ALIVE_S = 30,
    CONNECT_TIMEOUT_S = 15,
    PROPERTIES_MAX = 256, /* user properties that are handed over; the rest is not looked at */
    UNSUPPORTED_VERSION = 0x84,
    FIRST_REFUSAL = 0x80
};

enum state { PAUSE, CONNECTING, SUBSCRIBING, ONLINE };

/* What Paho's threads have to say of the present connection. */
struct news {
    bool connected, granted, ended;
    int reason;
    char text[100]; /* why it ended */
};

struct outbox_receiver {
    outbox_receiver_options options;
    outbox_paho_settings settings;
    outbox_paho_callbacks callbacks;
    MQTTAsync handle;
    enum state state;
    uint64_t due; /* when the pause, or the patience, is over */
    unsigned pause_ms;
    unsigned failures; /* since it was online */
    pthread_mutex_t lock;
    struct news news;
};

/* ---- On Paho's threads ----------------------------------------------------------------------- */

static void note(outbox_receiver *receiver, struct news news)
{
    int rc = pthread_mutex_lock(&receiver->lock);
    assert(rc == 0);
    receiver->news.connected |= news.connected;
    receiver->news.granted |= news.granted;
    if (news.ended && !receiver->news.ended) {
        receiver->news.ended = true;
        receiver->news.reason = news.reason;
        memcpy(receiver->news.text, news.text, sizeof news.text);
    }
    rc = pthread_mutex_unlock(&receiver->lock);
    assert(rc == 0);
    (void)rc;
    receiver->options.wake(receiver->options.context);
}

static void note_end(outbox_receiver *receiver, int reason, const char *text)
{
    struct news news = {.ended = true, .reason = reason};
    (void)snprintf(news.text, sizeof news.text, "%s", text ? text : "no answer, or it refuses");
    note(receiver, news);
}

static void on_connected3(void *context, MQTTAsync_successData *data)
{
    (void)data;
    note(context, (struct news){.connected = true});
}

static void on_connected5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    note(context, (struct news){.connected = true});
}

/* Paho before 1.3.15 has the reason of a refused CONNECT in `code`; MQTT 3.1.1 knows 1 to 5. */
static void on_connect_failed3(void *context, MQTTAsync_failureData *data)
{
    note_end(context, 0, data ? data->message : NULL);
}

static void on_connect_failed5(void *context, MQTTAsync_failureData5 *data)
{
    int reason = data ? (int)data->reasonCode : 0;
    if (data && data->code >= FIRST_REFUSAL && data->code <= 0xff)
        reason = data->code;
    if (data && data->code == 1) /* a broker that knows 3.1.1 only */
        reason = UNSUPPORTED_VERSION;
    const char *name =
        reason >= FIRST_REFUSAL ? MQTTReasonCode_toString((enum MQTTReasonCodes)reason) : NULL;
    note_end(context, reason, name ? name : data ? data->message : NULL);
}

// NOLINTNEXTLINE(readability-non-const-parameter): the type is Paho's
static void on_lost(void *context, char *cause)
{
    (void)cause; /* always NULL */
    note_end(context, 0, "the connection was lost");
}

static void on_dismissed(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)properties;
    const char *name = MQTTReasonCode_toString(reason);
    note_end(context, (int)reason, name ? name : "the broker ended the connection");
}

static void on_granted3(void *context, MQTTAsync_successData *data)
{
    if (data && data->alt.qos == 1)
        note(context, (struct news){.granted = true});
    else
        note_end(context, 0, "the broker does not grant QoS 1 for this topic");
}

static void on_granted5(void *context, MQTTAsync_successData5 *data)
{
    if (data && data->reasonCode == MQTTREASONCODE_GRANTED_QOS_1)
        note(context, (struct news){.granted = true});
    else
        note_end(context, 0, "the broker does not grant QoS 1 for this topic");
}

static void on_denied3(void *context, MQTTAsync_failureData *data)
{
    (void)data;
    note_end(context, 0, "the broker refuses the subscription");
}

static void on_denied5(void *context, MQTTAsync_failureData5 *data)
{
    (void)data;
    note_end(context, 0, "the broker refuses the subscription");
}

static inbox_text text_of(const MQTTLenString *string)
{
    return (inbox_text){string->data ? string->data : "", (size_t)string->len};
}

static void take_properties(const MQTTProperties *from, inbox_property *properties,
                            inbox_message *message)
{
    for (int i = 0; i < from->count; i++) {
        const MQTTProperty *property = &from->array[i];
        if (property->identifier == MQTTPROPERTY_CODE_CONTENT_TYPE) {
            message->content_type = text_of(&property->value.data);
        } else if (property->identifier == MQTTPROPERTY_CODE_USER_PROPERTY &&
                   message->property_count < PROPERTIES_MAX) {
            properties[message->property_count++] =
                (inbox_property){text_of(&property->value.data), text_of(&property->value.value)};
        }
    }
}

/* The PUBACK leaves when this has returned. */
static int on_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *arrived)
{
    outbox_receiver *receiver = context;
    inbox_property properties[PROPERTIES_MAX];
    inbox_message message = {.payload = arrived->payload,
                             .payload_len = (size_t)arrived->payloadlen,
                             .properties = properties};
    take_properties(&arrived->properties, properties, &message);
    size_t len = topic_len > 0 ? (size_t)topic_len : strlen(topic);
    receiver->options.deliver(receiver->options.context, (inbox_text){topic, len}, &message);
    MQTTAsync_freeMessage(&arrived); /* these two take no lock that matters */
    MQTTAsync_free(topic);
    return 1;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void say(const outbox_receiver *receiver, outbox_level level, const char *what,
                const char *why)
{
    char line[200];
    if (!receiver->options.log)
        return;
    (void)snprintf(line, sizeof line, "%s%s%s", what, why[0] != '\0' ? ": " : "", why);
    receiver->options.log(receiver->options.log_context, level, OUTBOX_OK, line);
}

static struct news read_news(outbox_receiver *receiver)
{
    int rc = pthread_mutex_lock(&receiver->lock);
    assert(rc == 0);
    struct news news = receiver->news;
    rc = pthread_mutex_unlock(&receiver->lock);
    assert(rc == 0);
    (void)rc;
    return news;
}

/* The first failure behind a time online is told, and then seldom. */
static void pause_after(outbox_receiver *receiver, const char *why)
{
    outbox_paho_handle_destroy(&receiver->handle);
    receiver->state = PAUSE;
    receiver->due = outbox_linux_now_ms() + receiver->pause_ms;
    receiver->pause_ms *= 2;
    if (receiver->pause_ms > PAUSE_MAX_MS)
        receiver->pause_ms = PAUSE_MAX_MS;
    if (receiver->failures++ % 20 == 0)
        say(receiver, OUTBOX_LOG_WARNING, "not connected", why);
}

/* No callback comes between the end of the last handle and the making of the next one. */
static void connect_again(outbox_receiver *receiver)
{
    receiver->news = (struct news){0};
    const char *variable = outbox_paho_diverting_variable(receiver->settings.tls);
    if (variable) {
        pause_after(receiver, "unset http_proxy in the environment: this libpaho would use it");
        return;
    }
    receiver->state = CONNECTING;
    receiver->due = outbox_linux_now_ms() + PATIENCE_MS;
    int rc = outbox_paho_handle_make_for(&receiver->handle, &receiver->settings,
                                         &receiver->callbacks, receiver);
    if (rc != MQTTASYNC_SUCCESS)
        pause_after(receiver, outbox_paho_strerror(rc));
}

/* What is retained comes with a subscription that is new, not with each connection (MQTT 5). */
static void subscribe(outbox_receiver *receiver)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.context = receiver;
    if (receiver->settings.version == 5) {
        options.onSuccess5 = on_granted5;
        options.onFailure5 = on_denied5;
        options.subscribeOptions.retainHandling = 1;
    } else {
        options.onSuccess = on_granted3;
        options.onFailure = on_denied3;
    }
    receiver->state = SUBSCRIBING;
    receiver->due = outbox_linux_now_ms() + PATIENCE_MS;
    int rc = MQTTAsync_subscribe(receiver->handle, receiver->options.filter, 1, &options);
    if (rc != MQTTASYNC_SUCCESS)
        pause_after(receiver, outbox_paho_strerror(rc));
}

static void end(outbox_receiver *receiver, const struct news *news)
{
    if (receiver->state == CONNECTING && news->reason == UNSUPPORTED_VERSION &&
        receiver->options.protocol == 0 && receiver->settings.version == 5) {
        say(receiver, OUTBOX_LOG_INFO, "the broker does not know MQTT 5, going on with 3.1.1", "");
        receiver->settings.version = 4;
        receiver->pause_ms = PAUSE_MIN_MS;
    }
    pause_after(receiver, news->text);
}

unsigned outbox_receiver_step(outbox_receiver *receiver)
{
    struct news news = read_news(receiver);
    uint64_t now = outbox_linux_now_ms();
    if (receiver->state != PAUSE && news.ended) {
        end(receiver, &news);
    } else if (receiver->state == PAUSE && now >= receiver->due) {
        connect_again(receiver);
    } else if (receiver->state == CONNECTING && news.connected) {
        subscribe(receiver);
    } else if (receiver->state == SUBSCRIBING && news.granted) {
        receiver->state = ONLINE;
        receiver->pause_ms = PAUSE_MIN_MS;
        receiver->failures = 0;
        say(receiver, OUTBOX_LOG_INFO, "connected and subscribed", "");
    } else if ((receiver->state == CONNECTING || receiver->state == SUBSCRIBING) &&
               now >= receiver->due) {
        pause_after(receiver, "no answer in time");
    }
    now = outbox_linux_now_ms();
    if (receiver->state == ONLINE || receiver->due > now + LOOK_MS)
        return LOOK_MS;
    return receiver->due > now ? (unsigned)(receiver->due - now) : 0;
}

/* ---- Making and freeing ---------------------------------------------------------------------- */

/* Paho's structs want what they do not write to as char *. */
static char *lend(const char *text)
{
    return text && text[0] != '\0' ? (char *)(uintptr_t)text : NULL;
}

static void set_up(outbox_receiver *receiver)
{
    const outbox_receiver_options *options = &receiver->options;
    const outbox_url *url = options->url;
    bool is_address6 = strchr(url->host, ':') != NULL;
    outbox_paho_settings *settings = &receiver->settings;
    (void)snprintf(settings->uri, sizeof settings->uri, "%s%s%s%s:%u",
                   url->tls ? "ssl://" : "tcp://", is_address6 ? "[" : "", url->host,
                   is_address6 ? "]" : "", url->port);
    settings->client_id = lend(options->client_id);
    settings->username = lend(options->username ? options->username : url->username);
    settings->password = lend(options->password ? options->password : url->password);
    settings->ca_file = lend(options->ca_file);
    settings->cert_file = lend(options->cert_file);
    settings->key_file = lend(options->key_file);
    settings->tls = url->tls;
    settings->version = options->protocol != 0 ? options->protocol : 5;
    settings->keep_alive = KEEP_ALIVE_S;
    settings->connect_timeout = CONNECT_TIMEOUT_S;
    receiver->callbacks = (outbox_paho_callbacks){
        .connected3 = on_connected3,
        .connected5 = on_connected5,
        .connect_failed3 = on_connect_failed3,
        .connect_failed5 = on_connect_failed5,
        .lost = on_lost,
        .dismissed = on_dismissed,
        .arrived = on_arrived,
        .session_seconds = options->session_seconds,
    };
}

outbox_receiver *outbox_receiver_new(const outbox_receiver_options *options)
{
    outbox_receiver *receiver = calloc(1, sizeof *receiver);
    if (!receiver)
        return NULL;
    receiver->options = *options;
    receiver->pause_ms = PAUSE_MIN_MS;
    if (pthread_mutex_init(&receiver->lock, NULL) != 0) {
        free(receiver);
        return NULL;
    }
    set_up(receiver);
    return receiver;
}

void outbox_receiver_free(outbox_receiver *receiver)
{
    if (!receiver)
        return;
    outbox_paho_handle_destroy(&receiver->handle);
    int rc = pthread_mutex_destroy(&receiver->lock);
    assert(rc == 0);
    (void)rc;
    free(receiver);
}
