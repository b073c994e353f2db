/* SPDX-License-Identifier: MIT
 *
 * mqtt_setup.c - a stream link's configuration and memory.
 *
 * Everything lies in the caller's memory, laid out once: the struct, the flights, the two buffers.
 * None of it is worth anything after a crash.
 */
#include "error.h"
#include "mqtt_link.h"
#include "text.h"

#include <sqlite3.h>
#include <string.h>

enum { WINDOW_MAX = 1000, TEXT_MAX = 65535, SEND_MIN = 256, RECEIVE_MIN = 16 };

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
    return !text || (strlen(text) <= TEXT_MAX && ob_text_is_utf8(text, strlen(text)));
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
    if (config->password_len > TEXT_MAX || (config->password_len > 0 && !config->password))
        return "the password must have at most 65,535 bytes";
    if (config->password && !config->username && config->protocol != 5)
        return "a password without a user name is for MQTT 5 only";
    if (will && (!will->topic || will->topic[0] == '\0' || !is_text(will->topic) ||
                 strpbrk(will->topic, "+#") || will->payload_len > TEXT_MAX || will->qos < 0 ||
                 will->qos > 1))
        return "the will needs a topic, a payload of at most 65,535 bytes, and QoS 0 or 1";
    if (ob_mqtt_connect_size(config, 5) > config->send_buffer)
        return "the CONNECT does not fit into the send buffer; make it larger";
    return NULL;
}

static size_t align_part(size_t size)
{
    const size_t unit = _Alignof(max_align_t);
    return (size + unit - 1) / unit * unit;
}

static size_t size_of(const outbox_stream_link_config *config)
{
    return align_part(sizeof(struct ob_mqtt_link)) +
           align_part(config->window * sizeof(struct ob_flight)) + align_part(config->send_buffer) +
           align_part(config->receive_buffer);
}

size_t outbox_stream_link_size(const outbox_stream_link_config *config)
{
    if (!config)
        return 0;
    outbox_stream_link_config full = with_defaults(config);
    return wrong_in(&full) ? 0 : size_of(&full);
}

static struct ob_mqtt_link *lay_out_link(void *memory, const outbox_stream_link_config *config)
{
    uint8_t *at = memory;
    struct ob_mqtt_link *link = memory;
    memset(link, 0, sizeof *link);
    link->config = *config;
    at += align_part(sizeof *link);
    link->places = (struct ob_flight *)(void *)at;
    at += align_part(config->window * sizeof(struct ob_flight));
    link->out.bytes = at;
    link->out.size = config->send_buffer;
    at += align_part(config->send_buffer);
    link->in.bytes = at;
    link->in.size = config->receive_buffer;
    return link;
}

static int check_given(const void *memory, size_t size, const outbox_stream *stream,
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
                            const outbox_port *port, const outbox_stream_link_config *config,
                            outbox_link **link, char *sentence, size_t sentence_size)
{
    struct ob_error error = {OUTBOX_MISUSE, "config or link is NULL"};
    outbox_stream_link_config full;
    int code = OUTBOX_MISUSE;
    if (link)
        *link = NULL;
    if (config && link) {
        full = with_defaults(config);
        code = check_given(memory, size, stream, port, &full, &error);
    }
    if (code != OUTBOX_OK) {
        if (sentence && sentence_size > 0)
            sqlite3_snprintf((int)sentence_size, sentence, "%s", error.sentence);
        return code;
    }
    struct ob_mqtt_link *new_link = lay_out_link(memory, &full);
    new_link->base.methods = &ob_mqtt_methods;
    new_link->stream = stream;
    new_link->port = port;
    new_link->version = full.protocol ? full.protocol : 5;
    ob_mqtt_forget(new_link);
    *link = &new_link->base;
    return OUTBOX_OK;
}
