/* SPDX-License-Identifier: MIT
 *
 * fuzz_url.c - any text as the broker's URL.
 *
 * A URL that is taken has a host, a port and credentials within their limits, and says the same
 * when it is written anew from its parts. One that is refused leaves nothing of itself, and the
 * sentence fits its buffer. The port's check of UTF-8 and the core's are of one opinion.
 */
#include "fuzz.h"
#include "text.h"
#include "url.h"

#include <outbox/outbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_prepare(void)
{
}

void fuzz_seeds(void)
{
    static const char *const urls[] = {
        "mqtt://localhost",
        "mqtts://broker.example.org:8884/",
        "mqtt://user:pass%40word@10.0.0.1:1",
        "MQTTS://u@[2001:db8::1]:65535",
        "mqtt://%c3%a9:%ff%2f@h",
        "mqtt://a:b@c:d@e",
        "mqtt://h:0",
        "http://h",
        "mqtt://[::1%25eth0]",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        fuzz_seed(urls[i], strlen(urls[i]));
}

static size_t encode(const char *text, char *out)
{
    size_t len = 0;
    for (; *text; text++)
        len += (size_t)sprintf(out + len, "%%%02X", (unsigned char)*text);
    return len;
}

static void check_taken(const outbox_url *url)
{
    static char text[3 * sizeof *url + 32];
    outbox_url again;
    size_t len = (size_t)sprintf(text, "mqtt%s://", url->tls ? "s" : "");
    bool is_address = strchr(url->host, ':') != NULL;
    must(url->host[0] != '\0' && strlen(url->host) <= 253, "the host has 1 to 253 bytes");
    must(strpbrk(url->host, "/?#@[]% \t\r\n") == NULL, "the host holds no delimiter");
    must(url->port >= 1 && url->port <= 65535, "the port is from 1 to 65535");
    must(url->tls == 0 || url->tls == 1, "TLS is on or off");
    must(url->username[0] != '\0' || url->password[0] == '\0', "a password has a user");
    must(outbox_linux_is_utf8(url->username), "the user name is UTF-8");
    if (url->username[0] != '\0') {
        len += encode(url->username, text + len);
        text[len++] = ':';
        len += encode(url->password, text + len);
        text[len++] = '@';
    }
    (void)sprintf(text + len, is_address ? "[%s]:%u" : "%s:%u", url->host, url->port);
    must(outbox_url_parse(text, &again, NULL, 0) == OUTBOX_OK, "what was taken is taken again");
    must(again.tls == url->tls && again.port == url->port && !strcmp(again.host, url->host) &&
             !strcmp(again.username, url->username) && !strcmp(again.password, url->password),
         "what was taken is the same again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const outbox_url empty;
    struct fuzz_input input = {data, data + size};
    outbox_url url;
    char *text = fuzz_bytes(&input, &size, true), *sentence = malloc(size % 64 + 1);
    must(sentence != NULL, "there is memory");
    sentence[0] = '\0';
    memset(&url, 0xaa, sizeof url);
    int code = outbox_url_parse(text, &url, sentence, size % 64 + 1);
    must(code == OUTBOX_OK || code == OUTBOX_BAD_URL, "the code is documented");
    if (code == OUTBOX_OK) {
        check_taken(&url);
    } else {
        must(memcmp(&url, &empty, sizeof url) == 0, "a refused URL leaves nothing");
        must(sentence[0] != '\0' || size % 64 == 0, "a refusal has a sentence");
    }
    must((outbox_linux_is_utf8(text) != 0) == ob_text_is_utf8(text, strlen(text)),
         "port and core agree on UTF-8");
    free(sentence);
    free(text);
    return 0;
}
