/* SPDX-License-Identifier: MIT
 *
 * json_read.c - the members of a JSON object one after the other, and what a JSON string says.
 *
 * Finding where a value ends takes no knowledge of JSON but for strings and brackets; whether it is
 * one the checker of json.c says. Nothing is kept, and no depth is on the stack: the bytes come
 * from a network.
 */
#include "json_read.h"

#include "text.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* ---- Members --------------------------------------------------------------------------------- */

static void skip_blanks(struct ob_json_object *object)
{
    while (object->at < object->end && *object->at != '\0' && strchr(" \t\n\r", *object->at))
        object->at++;
}

static bool take_sign(struct ob_json_object *object, char c)
{
    skip_blanks(object);
    if (object->at == object->end || *object->at != c)
        return false;
    object->at++;
    return true;
}

/* Behind a string that begins at `at`, or `end`. */
static const char *behind_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end)
            at++;
    return at < end ? at + 1 : end;
}

/* Behind a value that begins at `at`: at the comma or bracket that ends it, or at `end`. */
static const char *behind_value(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = behind_string(at, end);
            continue;
        }
        if (depth == 0 && (*at == ',' || *at == '}' || *at == ':'))
            return at;
        if (*at == '{' || *at == '[')
            depth++;
        if ((*at == '}' || *at == ']') && depth > 0)
            depth--;
        at++;
    }
    return end;
}

static inbox_text trim(const char *first, const char *behind)
{
    while (behind > first && behind[-1] != '\0' && strchr(" \t\n\r", behind[-1]))
        behind--;
    return (inbox_text){first, (size_t)(behind - first)};
}

static bool take_value(struct ob_json_object *object, inbox_text *value)
{
    skip_blanks(object);
    const char *behind = behind_value(object->at, object->end);
    *value = trim(object->at, behind);
    object->at = behind;
    return ob_json_is_value(value->bytes, value->len);
}

void ob_json_open(struct ob_json_object *object, const char *bytes, size_t len)
{
    *object = (struct ob_json_object){.is_broken = true};
    if (len == 0) /* no bytes may come as NULL */
        return;
    object->at = bytes;
    object->end = bytes + len;
    object->is_broken = !take_sign(object, '{');
}

/* True with the object's end behind us. */
static bool has_ended(struct ob_json_object *object)
{
    if (!take_sign(object, '}'))
        return false;
    skip_blanks(object);
    object->is_broken = object->at != object->end;
    return true;
}

bool ob_json_next(struct ob_json_object *object, inbox_text *name, inbox_text *value)
{
    if (object->is_broken || has_ended(object))
        return false;
    object->is_broken = (object->has_begun && !take_sign(object, ',')) ||
                        !take_value(object, name) || name->bytes[0] != '"' ||
                        !take_sign(object, ':') || !take_value(object, value);
    object->has_begun = true;
    return !object->is_broken;
}

/* ---- Strings --------------------------------------------------------------------------------- */

/* Four hexadecimal digits, which the checker has seen. */
static uint32_t hex4(const char *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(leads[more] | c >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
    return to;
}

/* A character behind "\u", and its second half where it has one. */
static bool take_unicode(const char **at, const char *end, char **to)
{
    uint32_t c = hex4(*at);
    *at += 4;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
            return false;
        uint32_t low = hex4(*at + 2);
        *at += 6;
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return false;
    }
    *to = put_utf8(*to, c);
    return true;
}

static char unescape(char c)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *found = strchr(from, c);
    return found ? to[found - from] : c;
}

bool ob_json_string(const inbox_text *value, char **room, inbox_text *text)
{
    if (value->len < 2 || value->bytes[0] != '"')
        return false;
    const char *at = value->bytes + 1, *end = value->bytes + value->len - 1;
    if (!memchr(at, '\\', (size_t)(end - at))) {
        *text = (inbox_text){at, (size_t)(end - at)};
        return true;
    }
    char *to = *room;
    while (at < end) {
        char c = *at++;
        if (c != '\\') {
            *to++ = c;
        } else if (*at == 'u') {
            at++;
            if (!take_unicode(&at, end, &to))
                return false;
        } else {
            *to++ = unescape(*at++);
        }
    }
    *text = (inbox_text){*room, (size_t)(to - *room)};
    *room = to;
    return true;
}
