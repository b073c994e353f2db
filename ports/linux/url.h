/* SPDX-License-Identifier: MIT
 *
 * url.h - the broker's address as one line of text, taken apart.
 *
 *   mqtt://[user[:password]@]host[:port]      port 1883
 *   mqtts://[user[:password]@]host[:port]     TLS, port 8883
 */
#ifndef OUTBOX_LINUX_URL_H
#define OUTBOX_LINUX_URL_H

#include <stddef.h>

typedef struct outbox_url {
    int tls;
    unsigned port;       /* 1..65535 */
    char host[256];      /* a name, an IPv4 address, or an IPv6 address without its brackets */
    char username[256];  /* decoded UTF-8; empty: none */
    char password[1024]; /* decoded bytes without NUL; empty: none */
} outbox_url;

/* Takes `text` apart. Returns OUTBOX_OK, or OUTBOX_BAD_URL: then `url` is empty and `sentence` says
 * what to write instead. The sentence never repeats the text, because it may hold a password. */
int outbox_url_parse(const char *text, outbox_url *url, char *sentence, size_t size);

/* Non-zero when the string is what MQTT calls UTF-8 (5, 1.5.4): no overlong form, no surrogate. */
int outbox_linux_is_utf8(const char *text);

#endif
