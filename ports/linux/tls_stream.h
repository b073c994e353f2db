/* SPDX-License-Identifier: MIT
 *
 * tls_stream.h - TLS by OpenSSL over another stream of bytes.
 *
 * The server must show a certificate whose chain ends at a trusted authority and that names the
 * host, by name or by address, unless that is switched off. TLS 1.2 or newer; the host's name goes
 * along (SNI). The files are read at each open(), so a renewed certificate counts from the next
 * connection on. All bytes go through the inner stream, so OpenSSL makes no system call of its own,
 * raises no SIGPIPE and asks nobody for the password of a key.
 */
#ifndef OUTBOX_LINUX_TLS_STREAM_H
#define OUTBOX_LINUX_TLS_STREAM_H

#include <openssl/ssl.h>
#include <outbox/stream.h>

struct outbox_tls_options {
    const char *host;
    const char *ca_file;   /* PEM; NULL: the system's trusted authorities */
    const char *cert_file; /* PEM: the client's certificate and chain; NULL: none */
    const char *key_file;  /* PEM, not encrypted; NULL: it is in cert_file */
    int insecure;          /* non-zero: neither chain nor host name is checked */
};

struct outbox_tls_stream {
    outbox_stream base; /* comes first */
    struct outbox_tls_options options;
    outbox_stream *inner;
    outbox_stream_result inner_result; /* of its last read or write */
    BIO_METHOD *method;
    SSL_CTX *context;
    SSL *session; /* NULL: the inner stream is not open yet */
    char reason[120];
};

/* Strings of the options and the inner stream must stay valid. When it is closed, so is the inner
 * one, and nothing is left to be freed. */
void outbox_tls_stream_init(struct outbox_tls_stream *stream, outbox_stream *inner,
                            const struct outbox_tls_options *options);

#endif
