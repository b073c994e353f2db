/* SPDX-License-Identifier: MIT
 *
 * link.c - the links of this port behind one face: checks the options, and makes the one that is
 * asked for. Nothing is kept here, and nothing outlives a crash.
 */
#include "link.h"

#include "paho_link.h"
#include "socket_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STRING_MAX 65535 /* MQTT 5, 1.5.4 */
#define WINDOW_MAX 1000

static int refuse(int code, char *sentence, size_t size, const char *what)
{
    if (sentence != NULL && size > 0)
        (void)snprintf(sentence, size, "%s", what);
    return code;
}

static int check(const outbox_linux_link_options *options, char *sentence, size_t size)
{
    const char *username = options->username ? options->username : options->url->username;
    const char *password = options->password ? options->password : options->url->password;
    const char *wrong = NULL;
    if (options->client_id == NULL || options->client_id[0] == '\0' ||
        strlen(options->client_id) > STRING_MAX || !outbox_linux_is_utf8(options->client_id))
        wrong = "the client id must be 1 to 65,535 bytes of UTF-8";
    else if (options->protocol != 0 && options->protocol != 4 && options->protocol != 5)
        wrong = "the protocol must be 5, 4 for MQTT 3.1.1, or 0 for whichever the broker knows";
    else if (options->window > WINDOW_MAX)
        wrong = "the window must be 1 to 1,000 events";
    else if (options->keep_alive_seconds > 65535)
        wrong = "the keep-alive must be 1 to 65,535 seconds";
    else if (strlen(username) > STRING_MAX || strlen(password) > STRING_MAX)
        wrong = "user name and password must not be longer than 65,535 bytes";
    else if (!outbox_linux_is_utf8(username))
        wrong = "the user name is not UTF-8";
    else if (password[0] != '\0' && username[0] == '\0')
        wrong = "a password was given without a user name";
    else if (options->key_file != NULL && options->cert_file == NULL)
        wrong = "a key was given without its certificate";
    if (wrong != NULL)
        return refuse(OUTBOX_MISUSE, sentence, size, wrong);
    if (!options->url->tls &&
        (options->ca_file != NULL || options->cert_file != NULL || options->insecure))
        return refuse(OUTBOX_BAD_URL, sentence, size,
                      "certificates are for TLS; write mqtts:// in the broker's URL");
    return OUTBOX_OK;
}

/* Early, because later Paho cannot say which file it was. */
static int check_file(const char *path, char *sentence, size_t size)
{
    if (path == NULL || access(path, R_OK) == 0)
        return OUTBOX_OK;
    int error = errno;
    if (sentence != NULL && size > 0)
        (void)snprintf(sentence, size, "cannot read %s: %s", path, strerror(error));
    return OUTBOX_SYSTEM;
}

int outbox_linux_link_new(const outbox_linux_link_options *options, outbox_link **link,
                          char *sentence, size_t size)
{
    *link = NULL;
    int code = check(options, sentence, size);
    const char *const files[] = {options->ca_file, options->cert_file, options->key_file};
    for (size_t i = 0; code == OUTBOX_OK && i < sizeof(files) / sizeof(files[0]); i++)
        code = check_file(files[i], sentence, size);
    if (code != OUTBOX_OK)
        return code;
    *link = options->kind == OUTBOX_LINK_STREAM ? outbox_socket_link_new(options)
                                                : outbox_paho_link_new(options);
    if (*link != NULL)
        return OUTBOX_OK;
    return refuse(OUTBOX_NO_MEMORY, sentence, size,
                  "no memory for the link, or 64 of Paho in the process already");
}

void outbox_linux_link_free(outbox_link *link)
{
    if (link == NULL)
        return;
    if (outbox_socket_link_is(link))
        outbox_socket_link_free(link);
    else
        outbox_paho_link_free(link);
}

struct pollfd outbox_linux_link_wait(const outbox_link *link)
{
    if (link != NULL && outbox_socket_link_is(link))
        return outbox_socket_link_wait(link);
    return (struct pollfd){.fd = -1};
}
