/* SPDX-License-Identifier: MIT
 *
 * paho_handle.c - a handle of MQTTAsync for one connection: all calls of Paho, and all callbacks.
 *
 * Paho keeps a session of its own: a queue, resends, reconnects. The outbox is the session already,
 * so Paho gets none of it: clean start, no persistence, no automatic reconnect, and a handle that
 * is destroyed at the end of each connection, since only that empties its queue. Whatever it still
 * had is void then and is read from the database again, in order; after a crash it is the same.
 *
 * Paho's two threads belong to the process. They start with the first handle and end with the last,
 * and Paho does not survive both at once; so one mutex serialises making and destroying. It is the
 * only one that is held around calls of Paho, and no callback takes it. The callbacks run on Paho's
 * threads, or in destroy, with Paho's own mutex held. They push into the queue and do nothing else.
 */
#include "paho_handle.h"

#include "paho_message.h"
#include "paho_queue.h"
#include "paho_signals.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_REFUSAL 0x80 /* reason codes from here on are refusals */
#define PROBE_FILTER "outbox/probe"

static pthread_mutex_t handles = PTHREAD_MUTEX_INITIALIZER;

/* ---- Callbacks: on Paho's threads ------------------------------------------------------------ */

static void on_connected3(void *ticket, MQTTAsync_successData *data)
{
    static const outbox_paho_limits limits = {
        .receive_maximum = 65535, .maximum_qos = 1, .retain_available = 1};
    (void)data;
    outbox_paho_queue_opened(ticket, &limits);
}

/* The properties are gone when this returns. They are read without a call of Paho. */
static void on_connected5(void *ticket, MQTTAsync_successData5 *data)
{
    outbox_paho_limits limits = {.receive_maximum = 65535, .maximum_qos = 2, .retain_available = 1};
    int broken = 0;
    for (int i = 0; i < data->properties.count; i++) {
        const MQTTProperty *property = &data->properties.array[i];
        if (property->identifier == MQTTPROPERTY_CODE_RECEIVE_MAXIMUM) {
            limits.receive_maximum = property->value.integer2;
            broken |= limits.receive_maximum == 0;
        } else if (property->identifier == MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE) {
            limits.maximum_packet = property->value.integer4;
            broken |= limits.maximum_packet == 0;
        } else if (property->identifier == MQTTPROPERTY_CODE_MAXIMUM_QOS) {
            limits.maximum_qos = property->value.byte;
        } else if (property->identifier == MQTTPROPERTY_CODE_RETAIN_AVAILABLE) {
            limits.retain_available = property->value.byte;
        } else if (property->identifier == MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE) {
            limits.keep_alive = property->value.integer2;
        }
    }
    if (broken)
        outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOCAL, 0x82 /* protocol error */,
                                "the broker allows no publish: a limit of its CONNACK is 0");
    else
        outbox_paho_queue_opened(ticket, &limits);
}

/* MQTT 3.1.1 has return codes of its own, which a broker that knows no other sends to MQTT 5 as
 * well. Paho before 1.3.15 has either kind in `code`, a later one in `reason`. */
static void connect_failed(void *ticket, int code, int reason, const char *message)
{
    static const int returned[6] = {0, 0x84, 0x85, 0x88, 0x86, 0x87};
    if (code > 0 && code < 6)
        reason = returned[code];
    else if (code >= FIRST_REFUSAL && code <= 0xff)
        reason = code;
    else if (code == MQTTASYNC_OPERATION_INCOMPLETE)
        reason = 0; /* Paho leaves it undefined then */
    if (reason >= FIRST_REFUSAL && reason <= 0xff)
        outbox_paho_queue_ended(ticket, OUTBOX_PAHO_REFUSED, reason, NULL);
    else
        outbox_paho_queue_ended(ticket, OUTBOX_PAHO_UNREACHED, 0, message);
}

static void on_connect_failed3(void *ticket, MQTTAsync_failureData *data)
{
    connect_failed(ticket, data ? data->code : 0, 0, data ? data->message : NULL);
}

static void on_connect_failed5(void *ticket, MQTTAsync_failureData5 *data)
{
    connect_failed(ticket, data ? data->code : 0, data ? (int)data->reasonCode : 0,
                   data ? data->message : NULL);
}

static void on_published3(void *ticket, MQTTAsync_successData *data)
{
    (void)data;
    outbox_paho_queue_acked(ticket, 0);
}

static void on_published5(void *ticket, MQTTAsync_successData5 *data)
{
    outbox_paho_queue_acked(ticket, data ? (int)data->reasonCode : 0);
}

/* There is no PUBACK that 3.1.1 could fail with, so the connection has. */
static void on_publish_failed3(void *ticket, MQTTAsync_failureData *data)
{
    (void)data;
    outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

/* A refusal has a reason and no error code. With an error code the outcome is unknown, the reason
 * may be undefined, and the publish is never to be taken for acknowledged. */
static void on_publish_failed5(void *ticket, MQTTAsync_failureData5 *data)
{
    if (data != NULL && data->code == MQTTASYNC_SUCCESS && (int)data->reasonCode >= FIRST_REFUSAL)
        outbox_paho_queue_acked(ticket, (int)data->reasonCode);
    else
        outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

static void on_probed3(void *ticket, MQTTAsync_successData *data)
{
    (void)data;
    outbox_paho_queue_alive(ticket);
}

static void on_probed5(void *ticket, MQTTAsync_successData5 *data)
{
    (void)data;
    outbox_paho_queue_alive(ticket);
}

static void on_probe_failed3(void *ticket, MQTTAsync_failureData *data)
{
    (void)data;
    outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

/* An UNSUBACK that refuses is a sign of life as well. Paho 1.3.12 calls it a success anyway. */
static void on_probe_failed5(void *ticket, MQTTAsync_failureData5 *data)
{
    if (data != NULL && data->code == MQTTASYNC_SUCCESS && (int)data->reasonCode >= FIRST_REFUSAL)
        outbox_paho_queue_alive(ticket);
    else
        outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

// NOLINTNEXTLINE(readability-non-const-parameter): the type is Paho's
static void on_lost(void *ticket, char *cause)
{
    (void)cause; /* always NULL */
    outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

/* After a DISCONNECT of the server on_lost() is not called. */
static void on_dismissed(void *ticket, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)properties;
    outbox_paho_queue_ended(ticket, OUTBOX_PAHO_DISMISSED, (int)reason, NULL);
}

/* We subscribe to nothing, but without this Paho would keep whatever a server sends for ever. */
static int on_message(void *ticket, char *topic, int topic_len, MQTTAsync_message *message)
{
    (void)ticket;
    (void)topic_len;
    MQTTAsync_freeMessage(&message); /* these two take no lock that matters */
    MQTTAsync_free(topic);
    return 1;
}

/* What stands behind `count` colons, or `end`. */
static const char *skip_colons(const char *at, const char *end, int count)
{
    for (; count > 0 && at < end; at++)
        count -= *at == ':';
    return at;
}

/* A line of OpenSSL: thread:error:code:library:function:reason:file:line:data. The reason will do
 * for people. */
static int on_tls_error(const char *line, size_t length, void *ticket)
{
    static const char pem[] = "PEM lib", better[] = "a certificate or key file cannot be used";
    const char *end = line + length;
    const char *reason = skip_colons(line, end, 5);
    const char *stop = skip_colons(reason, end, 1);
    if (stop == end || stop - reason < 2)
        return 1; /* no such line; go on with the next one */
    size_t size = (size_t)(stop - 1 - reason);
    if (size == sizeof(pem) - 1 && memcmp(reason, pem, size) == 0)
        outbox_paho_queue_note(ticket, better, sizeof(better) - 1);
    else
        outbox_paho_queue_note(ticket, reason, size);
    return 1;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void lock_handles(outbox_paho_signals *held)
{
    int rc = pthread_mutex_lock(&handles);
    assert(rc == 0);
    (void)rc;
    outbox_paho_signals_hold(held);
}

static void unlock_handles(const outbox_paho_signals *held)
{
    outbox_paho_signals_release(held);
    int rc = pthread_mutex_unlock(&handles);
    assert(rc == 0);
    (void)rc;
}

static MQTTAsync_SSLOptions tls_options(const outbox_paho_settings *settings,
                                        const outbox_paho_callbacks *callbacks, void *context)
{
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    tls.trustStore = settings->ca_file;
    tls.keyStore = settings->cert_file;
    tls.privateKey = settings->key_file;
    /* Without a password OpenSSL asks for one at the terminal, with Paho's mutex held. */
    tls.privateKeyPassword = "";
    tls.enableServerCertAuth = !settings->insecure;
    tls.verify = !settings->insecure; /* the host name; off by default */
    tls.disableDefaultTrustStore = settings->ca_file != NULL;
    tls.ssl_error_cb = callbacks->tls_error;
    tls.ssl_error_context = context;
    return tls;
}

/* A session that is kept is found again by the client's name. */
static int ask_for_session(MQTTAsync_connectOptions *options, MQTTProperties *properties,
                           const outbox_paho_callbacks *callbacks)
{
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
    if (callbacks->session_seconds == 0)
        return MQTTASYNC_SUCCESS;
    options->cleanstart = 0;
    expiry.value.integer4 = callbacks->session_seconds;
    options->connectProperties = properties;
    return MQTTProperties_add(properties, &expiry) == 0 ? MQTTASYNC_SUCCESS : MQTTASYNC_FAILURE;
}

static int connect_handle(MQTTAsync handle, const outbox_paho_settings *settings,
                          const outbox_paho_callbacks *callbacks, void *context)
{
    MQTTAsync_connectOptions three = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions five = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions *options = settings->version == 5 ? &five : &three;
    MQTTAsync_SSLOptions tls = tls_options(settings, callbacks, context);
    MQTTProperties properties = MQTTProperties_initializer;
    int rc = MQTTASYNC_SUCCESS;
    if (settings->version == 5) {
        options->cleanstart = 1;
        options->onSuccess5 = callbacks->connected5;
        options->onFailure5 = callbacks->connect_failed5;
        rc = ask_for_session(options, &properties, callbacks);
    } else {
        options->cleansession = callbacks->session_seconds == 0;
        options->onSuccess = callbacks->connected3;
        options->onFailure = callbacks->connect_failed3;
    }
    options->MQTTVersion = settings->version; /* the default would connect again by itself */
    options->context = context;
    options->automaticReconnect = 0;
    options->maxInflight = 65535; /* at a lower limit of its own 1.3.12 sends once a second */
    options->keepAliveInterval = (int)settings->keep_alive;
    options->connectTimeout = (int)settings->connect_timeout;
    options->username = settings->username;
    if (settings->password != NULL) { /* as bytes, because it need not be UTF-8 */
        options->binarypwd.data = settings->password;
        options->binarypwd.len = (int)strlen(settings->password);
    }
    options->ssl = settings->tls ? &tls : NULL;
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_connect(handle, options);
    MQTTProperties_free(&properties);
    return rc;
}

int outbox_paho_handle_make_for(MQTTAsync *handle, const outbox_paho_settings *settings,
                                const outbox_paho_callbacks *callbacks, void *context)
{
    outbox_paho_signals held;
    struct sigaction disposition;
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
    options.MQTTVersion = settings->version;
    options.sendWhileDisconnected = 0;
    options.maxBufferedMessages = 65535; /* the window is the queue's business */
    *handle = NULL;
    lock_handles(&held);
    outbox_paho_pipe_save(&disposition);
    int rc = MQTTAsync_createWithOptions(handle, settings->uri, settings->client_id,
                                         MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
    outbox_paho_pipe_restore(&disposition);
    /* No deliveryComplete: it is called for refused publishes too. */
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_setCallbacks(*handle, context, callbacks->lost, callbacks->arrived, NULL);
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_setDisconnected(*handle, context, callbacks->dismissed);
    if (rc == MQTTASYNC_SUCCESS)
        rc = connect_handle(*handle, settings, callbacks, context);
    unlock_handles(&held);
    return rc;
}

int outbox_paho_handle_make(MQTTAsync *handle, const outbox_paho_settings *settings, void *ticket)
{
    static const outbox_paho_callbacks callbacks = {
        .connected3 = on_connected3,
        .connected5 = on_connected5,
        .connect_failed3 = on_connect_failed3,
        .connect_failed5 = on_connect_failed5,
        .lost = on_lost,
        .dismissed = on_dismissed,
        .arrived = on_message,
        .tls_error = on_tls_error,
    };
    return outbox_paho_handle_make_for(handle, settings, &callbacks, ticket);
}

void outbox_paho_handle_destroy(MQTTAsync *handle)
{
    outbox_paho_signals held;
    if (*handle == NULL)
        return;
    lock_handles(&held);
    MQTTAsync_destroy(handle);
    unlock_handles(&held);
    *handle = NULL;
}

/* ---- Sending --------------------------------------------------------------------------------- */

int outbox_paho_handle_send(MQTTAsync handle, int version, const outbox_message *message,
                            void *ticket)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    int rc = MQTTASYNC_SUCCESS;
    options.context = ticket;
    if (version == 5) {
        options.onSuccess5 = on_published5;
        options.onFailure5 = on_publish_failed5;
        if (!outbox_paho_properties(message, &options.properties))
            rc = MQTTASYNC_FAILURE;
    } else {
        options.onSuccess = on_published3;
        options.onFailure = on_publish_failed3;
    }
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_send(handle, message->topic, (int)message->payload_len,
                            message->payload_len > 0 ? message->payload : "",
                            message->fire_and_forget ? 0 : 1, message->retain != 0, &options);
    MQTTProperties_free(&options.properties);
    return rc;
}

int outbox_paho_handle_probe(MQTTAsync handle, int version, void *ticket)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.context = ticket;
    if (version == 5) {
        options.onSuccess5 = on_probed5;
        options.onFailure5 = on_probe_failed5;
    } else {
        options.onSuccess = on_probed3;
        options.onFailure = on_probe_failed3;
    }
    return MQTTAsync_unsubscribe(handle, PROBE_FILTER, &options);
}

/* ---- About Paho ------------------------------------------------------------------------------ */

const char *outbox_paho_strerror(int rc)
{
    const char *sentence = rc == -99 ? "no memory" : MQTTAsync_strerror(rc);
    return sentence != NULL ? sentence : "unknown error";
}

/* 1003012 for "1.3.12"; 0 for what is no version. */
static long version_number(const char *text)
{
    long number = 0;
    for (int i = 0; i < 3; i++) {
        char *end;
        number = number * 1000 + strtol(text, &end, 10);
        if (end == text)
            return 0;
        text = *end == '.' ? end + 1 : end;
    }
    return number;
}

static int is_older_than_1_3_14(void)
{
    for (const MQTTAsync_nameValue *v = MQTTAsync_getVersionInfo(); v->name != NULL; v++)
        if (strcmp(v->name, "Version") == 0)
            return version_number(v->value) < 1003014;
    return 1; /* then the careful way */
}

const char *outbox_paho_diverting_variable(int tls)
{
    const char *variable = tls ? "https_proxy" : "http_proxy";
    const char *permitted = getenv("PAHO_C_CLIENT_USE_HTTP_PROXY");
    if (getenv(variable) == NULL || (permitted != NULL && strncmp(permitted, "TRUE", 4) == 0))
        return NULL;
    return is_older_than_1_3_14() ? variable : NULL;
}
