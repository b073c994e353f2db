/* SPDX-License-Identifier: MIT
 *
 * tls_stream.c - TLS by OpenSSL over another stream of bytes.
 *
 * OpenSSL reads and writes through a BIO of ours that calls the inner stream. What the inner stream
 * answered last is kept, as it says better than OpenSSL who ended the connection. Everything is
 * made by open() and freed by close(); nothing outlives a connection.
 */
#include "tls_stream.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static struct outbox_tls_stream *of(outbox_stream *base)
{
    return (struct outbox_tls_stream *)base;
}

/* ---- Why it failed --------------------------------------------------------------------------- */

static outbox_stream_result fail(struct outbox_tls_stream *stream, const char *what)
{
    unsigned long error = ERR_peek_error();
    const char *words = error != 0 ? ERR_reason_error_string(error) : NULL;
    (void)snprintf(stream->reason, sizeof stream->reason, "%s: %s", what,
                   words ? words : "unknown error");
    ERR_clear_error();
    return OUTBOX_STREAM_FAILED;
}

/* After a call on the session that returned `rc`, 0 or less. */
static outbox_stream_result result_of(struct outbox_tls_stream *stream, int rc)
{
    int error = SSL_get_error(stream->session, rc);
    long verified = SSL_get_verify_result(stream->session);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return OUTBOX_STREAM_AGAIN;
    stream->reason[0] = '\0';
    if (error == SSL_ERROR_ZERO_RETURN)
        return OUTBOX_STREAM_ENDED;
    if (!stream->options.insecure && verified != X509_V_OK) {
        (void)snprintf(stream->reason, sizeof stream->reason, "TLS: certificate: %s",
                       X509_verify_cert_error_string(verified));
        return OUTBOX_STREAM_FAILED;
    }
    if (stream->inner_result == OUTBOX_STREAM_ENDED ||
        stream->inner_result == OUTBOX_STREAM_FAILED) {
        const char *words =
            stream->inner->methods->reason ? stream->inner->methods->reason(stream->inner) : NULL;
        (void)snprintf(stream->reason, sizeof stream->reason, "%s", words ? words : "");
        return stream->inner_result;
    }
    return fail(stream, "TLS");
}

/* ---- The BIO --------------------------------------------------------------------------------- */

static int bio_write(BIO *bio, const char *bytes, int size)
{
    struct outbox_tls_stream *stream = BIO_get_data(bio);
    size_t count = 0;
    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    stream->inner_result =
        stream->inner->methods->write(stream->inner, bytes, (size_t)size, &count);
    if (stream->inner_result == OUTBOX_STREAM_OK)
        return (int)count;
    if (stream->inner_result == OUTBOX_STREAM_AGAIN)
        BIO_set_retry_write(bio);
    return -1;
}

static int bio_read(BIO *bio, char *bytes, int size)
{
    struct outbox_tls_stream *stream = BIO_get_data(bio);
    size_t count = 0;
    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    stream->inner_result = stream->inner->methods->read(stream->inner, bytes, (size_t)size, &count);
    if (stream->inner_result == OUTBOX_STREAM_OK)
        return (int)count;
    if (stream->inner_result == OUTBOX_STREAM_AGAIN)
        BIO_set_retry_read(bio);
    return -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* nothing is kept back */
}

static int make_bio(struct outbox_tls_stream *stream)
{
    stream->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "outbox stream");
    if (!stream->method || BIO_meth_set_write(stream->method, bio_write) != 1 ||
        BIO_meth_set_read(stream->method, bio_read) != 1 ||
        BIO_meth_set_ctrl(stream->method, bio_control) != 1)
        return 0;
    BIO *bio = BIO_new(stream->method);
    if (!bio)
        return 0;
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(stream->session, bio, bio); /* the session frees it */
    return 1;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* A key with a password is refused: OpenSSL would ask for it at the terminal. */
// NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's
static int no_password(char *buffer, int size, int is_writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)is_writing;
    if (context)
        *(int *)context = 1;
    return -1;
}

static int load_key(SSL_CTX *context, const struct outbox_tls_options *options)
{
    const char *key = options->key_file ? options->key_file : options->cert_file;
    return SSL_CTX_use_certificate_chain_file(context, options->cert_file) == 1 &&
           SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_check_private_key(context) == 1;
}

static outbox_stream_result load_files(struct outbox_tls_stream *stream)
{
    const struct outbox_tls_options *options = &stream->options;
    int wants_password = 0;
    SSL_CTX_set_default_passwd_cb(stream->context, no_password);
    SSL_CTX_set_default_passwd_cb_userdata(stream->context, &wants_password);
    int loaded = options->ca_file
                     ? SSL_CTX_load_verify_locations(stream->context, options->ca_file, NULL)
                     : SSL_CTX_set_default_verify_paths(stream->context);
    if (loaded == 1 && options->cert_file)
        loaded = load_key(stream->context, options);
    SSL_CTX_set_default_passwd_cb_userdata(stream->context, NULL);
    if (loaded == 1)
        return OUTBOX_STREAM_OK;
    if (!wants_password)
        return fail(stream, "certificate or key file");
    (void)snprintf(stream->reason, sizeof stream->reason,
                   "the key file has a password; store it without one");
    return OUTBOX_STREAM_FAILED;
}

/* Which host the certificate must name, and the server be asked for. SNI is for names only. */
static int set_host(struct outbox_tls_stream *stream)
{
    const char *host = stream->options.host;
    unsigned char address[sizeof(struct in6_addr)];
    int is_address =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    /* What SSL_set_tlsext_host_name() does; that macro throws a const away. */
    if (!is_address && SSL_ctrl(stream->session, SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host) != 1)
        return 0;
    if (stream->options.insecure)
        return 1;
    X509_VERIFY_PARAM *check = SSL_get0_param(stream->session);
    X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return is_address ? X509_VERIFY_PARAM_set1_ip_asc(check, host)
                      : X509_VERIFY_PARAM_set1_host(check, host, 0);
}

static outbox_stream_result make_session(struct outbox_tls_stream *stream)
{
    ERR_clear_error();
    stream->context = SSL_CTX_new(TLS_client_method());
    if (!stream->context || SSL_CTX_set_min_proto_version(stream->context, TLS1_2_VERSION) != 1)
        return fail(stream, "TLS");
    SSL_CTX_set_mode(stream->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(stream->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_verify(stream->context,
                       stream->options.insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (load_files(stream) != OUTBOX_STREAM_OK)
        return OUTBOX_STREAM_FAILED;
    stream->session = SSL_new(stream->context);
    if (!stream->session || !set_host(stream) || !make_bio(stream))
        return fail(stream, "TLS");
    SSL_set_connect_state(stream->session);
    return OUTBOX_STREAM_OK;
}

static outbox_stream_result tls_open(outbox_stream *base)
{
    struct outbox_tls_stream *stream = of(base);
    if (!stream->session) {
        outbox_stream_result result = stream->inner->methods->open(stream->inner);
        if (result != OUTBOX_STREAM_OK) {
            const char *words = stream->inner->methods->reason
                                    ? stream->inner->methods->reason(stream->inner)
                                    : NULL;
            (void)snprintf(stream->reason, sizeof stream->reason, "%s", words ? words : "");
            return result;
        }
        result = make_session(stream);
        if (result != OUTBOX_STREAM_OK)
            return result;
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(stream->session);
    if (rc == 1)
        return OUTBOX_STREAM_OK;
    outbox_stream_result result = result_of(stream, rc);
    if (result == OUTBOX_STREAM_ENDED)
        (void)snprintf(stream->reason, sizeof stream->reason,
                       "it hung up on our TLS greeting; no TLS there?");
    return result;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static outbox_stream_result tls_write(outbox_stream *base, const void *bytes, size_t size,
                                      size_t *count)
{
    struct outbox_tls_stream *stream = of(base);
    ERR_clear_error();
    stream->inner_result = OUTBOX_STREAM_OK;
    int rc = SSL_write_ex(stream->session, bytes, size, count);
    return rc == 1 ? OUTBOX_STREAM_OK : result_of(stream, rc);
}

static outbox_stream_result tls_read(outbox_stream *base, void *bytes, size_t size, size_t *count)
{
    struct outbox_tls_stream *stream = of(base);
    ERR_clear_error();
    stream->inner_result = OUTBOX_STREAM_OK;
    int rc = SSL_read_ex(stream->session, bytes, size, count);
    return rc == 1 ? OUTBOX_STREAM_OK : result_of(stream, rc);
}

static void tls_close(outbox_stream *base)
{
    struct outbox_tls_stream *stream = of(base);
    ERR_clear_error();
    if (stream->session && SSL_is_init_finished(stream->session))
        (void)SSL_shutdown(stream->session); /* one way, and only if the stream takes it now */
    SSL_free(stream->session);
    SSL_CTX_free(stream->context);
    BIO_meth_free(stream->method);
    stream->session = NULL;
    stream->context = NULL;
    stream->method = NULL;
    ERR_clear_error();
    stream->inner->methods->close(stream->inner);
}

static const char *tls_reason(const outbox_stream *base)
{
    return ((const struct outbox_tls_stream *)base)->reason;
}

/* ---- Making ---------------------------------------------------------------------------------- */

static const outbox_stream_methods methods = {
    .version = 1,
    .open = tls_open,
    .write = tls_write,
    .read = tls_read,
    .close = tls_close,
    .reason = tls_reason,
};

void outbox_tls_stream_init(struct outbox_tls_stream *stream, outbox_stream *inner,
                            const struct outbox_tls_options *options)
{
    *stream = (struct outbox_tls_stream){
        .base = {.methods = &methods}, .inner = inner, .options = *options};
}
