/* SPDX-License-Identifier: MIT
 *
 * url.c - takes mqtt:// and mqtts:// URLs apart, by the grammar of RFC 3986, and no others.
 *
 * Strict on purpose. A URL that is nearly right must not become a connection to another host, in
 * clear text instead of TLS, or with half a password: each departure from the grammar is refused
 * with a sentence that says what to write. Nothing is allocated, and nothing is kept here, so a
 * crash leaves nothing behind.
 *
 *   mqtts://  user : password @  [::1] : 8883  /
 *   scheme    userinfo           host    port  (an empty path, nothing else)
 */
#include "url.h"

#include <arpa/inet.h>
#include <outbox/outbox.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 253 /* bytes of a name in the DNS */
#define PORT_MAX 65535

/* A piece of the text: from `at` up to `end`, which is not part of it. */
typedef struct piece {
    const char *at, *end;
} piece;

static int bad(char *sentence, size_t size, const char *what)
{
    if (sentence != NULL && size > 0)
        (void)snprintf(sentence, size, "%s", what);
    return OUTBOX_BAD_URL;
}

static const char *find(piece p, char byte)
{
    return memchr(p.at, byte, (size_t)(p.end - p.at));
}

/* ASCII whatever the locale says. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

/* Length of the UTF-8 sequence that begins here, or 0 when it is malformed. The least value per
 * length rules out overlong forms. The terminating NUL ends every sequence, so nothing is read
 * behind it. */
static size_t utf8_length(const unsigned char *s)
{
    static const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (length <= 1)
        return length;
    if (s[0] > 0xf4)
        return 0;
    unsigned value = s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (s[i] & 0x3fu);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    return length;
}

int outbox_linux_is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s != 0) {
        size_t length = utf8_length(s);
        if (length == 0)
            return 0;
        s += length;
    }
    return 1;
}

/* Takes the scheme off the front and sets what depends on it. */
static int take_scheme(const char **text, outbox_url *url)
{
    static const struct {
        const char *prefix;
        int tls;
        unsigned port;
    } schemes[] = {{"mqtt://", 0, 1883}, {"mqtts://", 1, 8883}};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t length = strlen(schemes[i].prefix);
        if (strncasecmp(*text, schemes[i].prefix, length) == 0) {
            url->tls = schemes[i].tls;
            url->port = schemes[i].port;
            *text += length;
            return 1;
        }
    }
    return 0;
}

/* Decodes into `out`. Returns NULL, or the sentence of what is wrong. */
static const char *decode(piece p, char *out, size_t size)
{
    size_t used = 0;
    while (p.at < p.end) {
        int value = (unsigned char)*p.at;
        if (*p.at == '%') {
            int high = p.end - p.at >= 3 ? hex_value(p.at[1]) : -1;
            int low = high >= 0 ? hex_value(p.at[2]) : -1;
            if (low < 0)
                return "two hex digits must follow each %; write %25 for the sign itself";
            value = high * 16 + low;
            p.at += 2;
        } else if (!is_unreserved(*p.at) && (*p.at == '\0' || !strchr("!$&'()*+,;=:", *p.at))) {
            return "write other characters than A-Z a-z 0-9 - . _ ~ in the user name and the "
                   "password as % and two hex digits, such as %40 for @ and %2F for /";
        }
        if (value == 0)
            return "the user name and the password cannot hold a zero byte, so leave out %00";
        if (used + 1 >= size)
            return "the user name or the password is too long for a URL; give it as an option";
        out[used++] = (char)value;
        p.at++;
    }
    out[used] = '\0';
    return NULL;
}

static const char *take_userinfo(piece p, outbox_url *url)
{
    const char *colon = find(p, ':');
    piece user = {p.at, colon != NULL ? colon : p.end};
    piece password = {colon != NULL ? colon + 1 : p.end, p.end};
    if (user.at == user.end)
        return "the user name in front of @ is empty; write mqtt://user:password@host or leave "
               "the @ out";
    const char *wrong = decode(user, url->username, sizeof(url->username));
    if (wrong == NULL)
        wrong = decode(password, url->password, sizeof(url->password));
    if (wrong == NULL && !outbox_linux_is_utf8(url->username))
        wrong = "the user name is not UTF-8; write each of its bytes as % and two hex digits";
    return wrong;
}

static const char *take_port(piece p, outbox_url *url)
{
    unsigned port = 0;
    for (const char *c = p.at; c < p.end; c++) {
        if (*c < '0' || *c > '9' || port > PORT_MAX)
            return "what follows the host's colon must be a port; write a number from 1 to 65535";
        port = port * 10 + (unsigned)(*c - '0');
    }
    if (port == 0 || port > PORT_MAX)
        return "the port must be a number from 1 to 65535; leave it out with its colon for the "
               "usual one";
    url->port = port;
    return NULL;
}

static const char *take_address(piece p, outbox_url *url)
{
    struct in6_addr address;
    size_t length = (size_t)(p.end - p.at);
    if (length > HOST_MAX)
        return "an IPv6 address stands in the brackets; write it like [2001:db8::1]";
    memcpy(url->host, p.at, length);
    url->host[length] = '\0';
    if (strchr(url->host, '%') != NULL)
        return "an IPv6 address with a zone cannot be used; write a global address or a name";
    if (strlen(url->host) != length || inet_pton(AF_INET6, url->host, &address) != 1)
        return "an IPv6 address stands in the brackets; write it like [2001:db8::1]";
    return NULL;
}

static const char *take_name(piece p, outbox_url *url)
{
    size_t length = (size_t)(p.end - p.at);
    if (length == 0)
        return "the host is missing; write mqtt://host or mqtt://host:port";
    if (length > HOST_MAX)
        return "the host name is longer than the 253 bytes that the DNS allows; write another";
    for (const char *c = p.at; c < p.end; c++)
        if (!is_unreserved(*c))
            return "the host holds a character that no host name has; write a name, an IPv4 "
                   "address, or an IPv6 address in brackets";
    memcpy(url->host, p.at, length);
    url->host[length] = '\0';
    return NULL;
}

/* host, host:port, [address] or [address]:port */
static const char *take_host(piece p, outbox_url *url)
{
    piece rest = p;
    const char *wrong;
    if (p.at < p.end && *p.at == '[') {
        const char *close = find(p, ']');
        if (close == NULL)
            return "the bracket of the IPv6 address is not closed; write it like [2001:db8::1]";
        wrong = take_address((piece){p.at + 1, close}, url);
        rest.at = close + 1;
        if (wrong == NULL && rest.at < rest.end && *rest.at != ':')
            wrong = "only :port may follow the bracket of an IPv6 address; write [address]:port";
    } else {
        const char *colon = find(p, ':');
        if (colon != NULL && find((piece){colon + 1, p.end}, ':') != NULL)
            return "the host has several colons; write an IPv6 address in brackets, as in "
                   "mqtt://[2001:db8::1]:1883";
        rest.at = colon != NULL ? colon : p.end;
        wrong = take_name((piece){p.at, rest.at}, url);
    }
    if (wrong == NULL && rest.at < rest.end)
        wrong = take_port((piece){rest.at + 1, rest.end}, url);
    return wrong;
}

static const char *take_apart(const char *text, outbox_url *url)
{
    if (text == NULL || *text == '\0')
        return "no broker was given; write mqtt://host:port or mqtts://host:port";
    if (!take_scheme(&text, url))
        return "the broker's URL must begin with mqtt:// or, for TLS, mqtts://";
    piece authority = {text, text + strcspn(text, "/?#")};
    if (authority.end[0] != '\0' && strcmp(authority.end, "/") != 0) {
        if (strchr(authority.end, '@') != NULL)
            return "write / ? and # in the user name or password as %2F, %3F and %23";
        return "nothing may follow the port; write mqtt://host:port and give the topic with each "
               "event";
    }
    const char *at = find(authority, '@');
    if (at != NULL) {
        if (find((piece){at + 1, authority.end}, '@') != NULL)
            return "there is more than one @; write %40 for one in the user name or password";
        const char *wrong = take_userinfo((piece){authority.at, at}, url);
        if (wrong != NULL)
            return wrong;
        authority.at = at + 1;
    }
    return take_host(authority, url);
}

int outbox_url_parse(const char *text, outbox_url *url, char *sentence, size_t size)
{
    memset(url, 0, sizeof(*url));
    const char *wrong = take_apart(text, url);
    if (wrong == NULL)
        return OUTBOX_OK;
    memset(url, 0, sizeof(*url));
    return bad(sentence, size, wrong);
}
