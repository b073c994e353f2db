/* SPDX-License-Identifier: MIT
 *
 * socket_link.c - the core's MQTT publisher over TCP, or over TLS over TCP: its strings, buffers
 * and streams, put together.
 *
 * The link that the driver gets is a shell around the core's, so that it can be told from another
 * one and found again. Nothing outlives a crash; all state of a connection is the core's.
 */
#include "socket_link.h"

#include "clock.h"
#include "tcp_stream.h"
#include "tls_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 64 * 1024,   /* bytes that are written together; more than the kernel takes at once */
    RECEIVE = 16 * 1024, /* what TLS has in one record */
    AROUND = 16 * 1024   /* topic, attributes and JSON around the largest payload */
};

struct shell {
    outbox_link base; /* comes first */
    outbox_link *link;
    void *memory;
    outbox_port port;
    struct outbox_tcp_stream tcp;
    struct outbox_tls_stream tls;
    outbox_url url; /* the host for the streams; without credentials */
    char place[300];
    char *client_id, *username, *password, *ca_file, *cert_file, *key_file;
};

static struct shell *of(outbox_link *base)
{
    return (struct shell *)base;
}

/* ---- Methods: the core's --------------------------------------------------------------------- */

static outbox_link_result shell_open(outbox_link *base)
{
    outbox_link *link = of(base)->link;
    return link->methods->open(link);
}

static outbox_link_result shell_publish(outbox_link *base, uint32_t token,
                                        const outbox_message *message)
{
    outbox_link *link = of(base)->link;
    return link->methods->publish(link, token, message);
}

static outbox_link_result shell_poll(outbox_link *base, outbox_link_event *event)
{
    outbox_link *link = of(base)->link;
    return link->methods->poll(link, event);
}

static void shell_close(outbox_link *base)
{
    outbox_link *link = of(base)->link;
    link->methods->close(link);
}

static outbox_link_result shell_probe(outbox_link *base)
{
    outbox_link *link = of(base)->link;
    return link->methods->probe(link);
}

static void shell_flush(outbox_link *base)
{
    outbox_link *link = of(base)->link;
    link->methods->flush(link);
}

static uint32_t shell_next_ms(const outbox_link *base)
{
    const outbox_link *link = ((const struct shell *)base)->link;
    return link->methods->next_ms(link);
}

static const outbox_link_methods methods = {
    .version = 2,
    .open = shell_open,
    .publish = shell_publish,
    .poll = shell_poll,
    .close = shell_close,
    .probe = shell_probe,
    .flush = shell_flush,
    .next_ms = shell_next_ms,
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

/* Copies a string that may be missing. An empty one counts as missing. */
static int copy(char **to, const char *from)
{
    if (from == NULL || from[0] == '\0')
        return 1;
    *to = strdup(from);
    return *to != NULL;
}

static int copy_strings(struct shell *shell, const outbox_linux_link_options *options)
{
    const outbox_url *url = options->url;
    int is_address6 = strchr(url->host, ':') != NULL;
    (void)snprintf(shell->place, sizeof shell->place, "%s%s%s:%u", is_address6 ? "[" : "",
                   url->host, is_address6 ? "]" : "", url->port);
    (void)snprintf(shell->url.host, sizeof shell->url.host, "%s", url->host);
    return copy(&shell->client_id, options->client_id) &&
           copy(&shell->username, options->username ? options->username : url->username) &&
           copy(&shell->password, options->password ? options->password : url->password) &&
           copy(&shell->ca_file, options->ca_file) && copy(&shell->cert_file, options->cert_file) &&
           copy(&shell->key_file, options->key_file);
}

static outbox_stream *make_streams(struct shell *shell, const outbox_linux_link_options *options,
                                   unsigned keep_alive_seconds, unsigned connect_timeout_ms)
{
    const struct outbox_tcp_options tcp = {
        .host = shell->url.host,
        .port = options->url->port,
        .connect_timeout_ms = connect_timeout_ms,
        .silence_ms = keep_alive_seconds * 1000,
        .wake = options->wake,
        .wake_context = options->wake_context,
    };
    const struct outbox_tls_options tls = {
        .host = shell->url.host,
        .ca_file = shell->ca_file,
        .cert_file = shell->cert_file,
        .key_file = shell->key_file,
        .insecure = options->insecure,
    };
    outbox_tcp_stream_init(&shell->tcp, &tcp);
    outbox_tls_stream_init(&shell->tls, &shell->tcp.base, &tls);
    return options->url->tls ? &shell->tls.base : &shell->tcp.base;
}

/* JSON may take six bytes for one. Pages of the buffer that are never written to cost nothing. */
static size_t send_buffer_for(size_t payload_max)
{
    return BATCH + AROUND + 6 * (payload_max ? payload_max : OUTBOX_PAYLOAD_MAX);
}

static int make_link(struct shell *shell, const outbox_linux_link_options *options)
{
    unsigned keep_alive = options->keep_alive_seconds ? options->keep_alive_seconds : 30;
    unsigned timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms : 15000;
    const outbox_stream_link_config config = {
        .client_id = shell->client_id,
        .username = shell->username,
        .password = shell->password,
        .password_len = shell->password ? strlen(shell->password) : 0,
        .protocol = options->protocol,
        .keep_alive_seconds = keep_alive,
        .connect_timeout_ms = timeout_ms,
        .window = options->window,
        .send_buffer = send_buffer_for(options->payload_max) +
                       (shell->username ? strlen(shell->username) : 0) +
                       (shell->password ? strlen(shell->password) : 0) + strlen(shell->client_id),
        .receive_buffer = RECEIVE,
        .place = shell->place,
    };
    outbox_stream *stream = make_streams(shell, options, keep_alive, timeout_ms);
    shell->port = outbox_linux_port(options->log, options->log_context);
    size_t size = outbox_stream_link_size(&config);
    shell->memory = size > 0 ? malloc(size) : NULL;
    return shell->memory != NULL &&
           outbox_stream_link_init(shell->memory, size, stream, &shell->port, &config, &shell->link,
                                   NULL, 0) == OUTBOX_OK;
}

outbox_link *outbox_socket_link_new(const outbox_linux_link_options *options)
{
    struct shell *shell = calloc(1, sizeof *shell);
    if (shell == NULL)
        return NULL;
    shell->base.methods = &methods;
    if (copy_strings(shell, options) && make_link(shell, options))
        return &shell->base;
    outbox_socket_link_free(&shell->base);
    return NULL;
}

void outbox_socket_link_free(outbox_link *base)
{
    struct shell *shell = of(base);
    if (shell->link != NULL)
        shell_close(base); /* which closes the streams as well */
    if (shell->tcp.base.methods != NULL)
        outbox_tcp_stream_free(&shell->tcp);
    if (shell->password != NULL)
        explicit_bzero(shell->password, strlen(shell->password));
    free(shell->memory);
    free(shell->client_id);
    free(shell->username);
    free(shell->password);
    free(shell->ca_file);
    free(shell->cert_file);
    free(shell->key_file);
    free(shell);
}

int outbox_socket_link_is(const outbox_link *link)
{
    return link->methods == &methods;
}

struct pollfd outbox_socket_link_wait(const outbox_link *base)
{
    return outbox_tcp_stream_wait(&((const struct shell *)base)->tcp);
}
