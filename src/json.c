/* SPDX-License-Identifier: MIT
 *
 * json.c - is this one JSON value? A checker, not a parser: it keeps nothing.
 *
 * A payload of a JSON type travels verbatim inside the CloudEvents document, so one stray byte
 * would make the whole message unreadable for the recipient. The nesting is bounded and kept in a
 * bit set instead of on the stack, because the bytes may come from anywhere.
 */
#include "always.h"
#include "text.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

struct reader {
    const char *at, *end;
    uint64_t is_object; /* bit d: the container at depth d is an object */
    unsigned depth;
};

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take_character(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

static bool take_digits(struct reader *r)
{
    const char *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > first;
}

static bool take_number(struct reader *r)
{
    (void)take_character(r, '-');
    if (!take_character(r, '0') && !take_digits(r))
        return false;
    if (take_character(r, '.') && !take_digits(r))
        return false;
    if (take_character(r, 'e') || take_character(r, 'E')) {
        if (!take_character(r, '+'))
            (void)take_character(r, '-');
        return take_digits(r);
    }
    return true;
}

static bool take_hex4(struct reader *r)
{
    for (int i = 0; i < 4; i++) {
        if (r->at == r->end || !*r->at || !strchr("0123456789abcdefABCDEF", *r->at))
            return false;
        r->at++;
    }
    return true;
}

/* UTF-8 was checked for the whole text before. */
static bool take_string(struct reader *r)
{
    if (!take_character(r, '"'))
        return false;
    while (r->at < r->end) {
        char c = *r->at++;
        if (c == '"')
            return true;
        if ((unsigned char)c < 0x20)
            return false;
        if (c != '\\')
            continue;
        if (r->at == r->end || !*r->at || !strchr("\"\\/bfnrtu", *r->at))
            return false;
        if (*r->at++ == 'u' && !take_hex4(r))
            return false;
    }
    return false;
}

static bool take_scalar(struct reader *r)
{
    if (r->at == r->end)
        return false;
    switch (*r->at) {
    case '"':
        return take_string(r);
    case 't':
        return take_word(r, "true");
    case 'f':
        return take_word(r, "false");
    case 'n':
        return take_word(r, "null");
    default:
        return take_number(r);
    }
}

/* A member's name and colon, where the innermost container is an object. */
static bool take_name(struct reader *r)
{
    /* Both callers are inside a container. */
    if (OB_NEVER(r->depth == 0) || !(r->is_object >> (r->depth - 1) & 1))
        return true;
    skip_space(r);
    if (!take_string(r))
        return false;
    skip_space(r);
    return take_character(r, ':');
}

/* Opens containers until a scalar or an empty container was read. */
static bool take_down(struct reader *r)
{
    for (;;) {
        skip_space(r);
        bool object = r->at < r->end && *r->at == '{';
        if (!object && !(r->at < r->end && *r->at == '['))
            return take_scalar(r);
        if (r->depth == OB_JSON_DEPTH)
            return false;
        r->at++;
        skip_space(r);
        if (take_character(r, object ? '}' : ']'))
            return true;
        r->is_object &= ~((uint64_t)1 << r->depth);
        r->is_object |= (uint64_t)object << r->depth;
        r->depth++;
        if (!take_name(r))
            return false;
    }
}

/* Closes containers behind a value. True with `more` when a comma asks for another value. */
static bool take_up(struct reader *r, bool *more)
{
    *more = false;
    while (r->depth > 0) {
        skip_space(r);
        if (take_character(r, ',')) {
            *more = true;
            return take_name(r);
        }
        assert(r->depth <= OB_JSON_DEPTH);
        if (!take_character(r, r->is_object >> (r->depth - 1) & 1 ? '}' : ']'))
            return false;
        r->depth--;
    }
    return true;
}

bool ob_json_is_value(const char *bytes, size_t len)
{
    if (len == 0 || !ob_text_is_utf8(bytes, len)) /* no bytes may come as NULL */
        return false;
    struct reader r = {bytes, bytes + len, 0, 0};
    bool more = true;
    while (more)
        if (!take_down(&r) || !take_up(&r, &more))
            return false;
    skip_space(&r);
    return r.at == r.end;
}
