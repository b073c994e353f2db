/* SPDX-License-Identifier: MIT
 *
 * paho_handle.h - a handle of MQTTAsync for one connection: make, send, probe, destroy.
 *
 * Its callbacks push into the queue that gave the ticket. Codes are those of Paho.
 */
#ifndef OUTBOX_PAHO_HANDLE_H
#define OUTBOX_PAHO_HANDLE_H

#include <MQTTAsync.h>
#include <outbox/port.h>

/* Strings may be NULL but for the client id. */
typedef struct outbox_paho_settings {
    char uri[320]; /* as Paho wants it: tcp://host:port or ssl://host:port */
    char *client_id, *username, *password, *ca_file, *cert_file, *key_file;
    int tls, insecure;
    int version;                          /* 4 or 5 */
    unsigned keep_alive, connect_timeout; /* seconds */
} outbox_paho_settings;

/* What Paho calls, on its threads and with its lock held. */
typedef struct outbox_paho_callbacks {
    MQTTAsync_onSuccess *connected3;
    MQTTAsync_onSuccess5 *connected5;
    MQTTAsync_onFailure *connect_failed3;
    MQTTAsync_onFailure5 *connect_failed5;
    MQTTAsync_connectionLost *lost;
    MQTTAsync_disconnected *dismissed;
    MQTTAsync_messageArrived *arrived;
    int (*tls_error)(const char *line, size_t length, void *context);
    uint32_t session_seconds; /* the server keeps the session so long; 0: a clean start, and none */
} outbox_paho_callbacks;

/* Makes a handle and lets it connect, with callbacks of the caller's. The functions are called
 * until the handle is destroyed. Codes as below. */
int outbox_paho_handle_make_for(MQTTAsync *handle, const outbox_paho_settings *settings,
                                const outbox_paho_callbacks *callbacks, void *context);

/* Makes a handle and lets it connect; an event will tell how that ended. Copies all. When the code
 * is not MQTTASYNC_SUCCESS, *handle may still have to be destroyed. */
int outbox_paho_handle_make(MQTTAsync *handle, const outbox_paho_settings *settings,
                            void *connection_ticket);

/* Ends the connection, politely when it is up, and sets *handle to NULL. Callbacks may come until
 * it returns. NULL in *handle is allowed. */
void outbox_paho_handle_destroy(MQTTAsync *handle);

/* Sends what outbox_paho_packet_size() had a size for. Copies all. */
int outbox_paho_handle_send(MQTTAsync handle, int version, const outbox_message *message,
                            void *ticket);

/* Sends something that the server must answer, whatever it thinks of it. Paho pings when it wants
 * to, and tells nobody of the answer. What is left without a trace at the server is an UNSUBSCRIBE
 * from what was never subscribed to: it must send UNSUBACK (MQTT 3.1.1 and 5, 3.10.4). */
int outbox_paho_handle_probe(MQTTAsync handle, int version, void *ticket);

/* The sentence of a code of Paho. */
const char *outbox_paho_strerror(int rc);

/* The variable of the environment that would make this Paho connect to a proxy instead, or NULL. */
const char *outbox_paho_diverting_variable(int tls);

#endif
