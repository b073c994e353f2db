/* SPDX-License-Identifier: MIT
 *
 * text.c - UTF-8, topics, attributes, device names and media types.
 *
 * The same checks run when an event is put and when a row is fetched, because other writers store
 * rows without asking us; nothing that fails here may ever reach the link.
 */
#include "text.h"

#include <outbox/outbox.h>
#include <stdint.h>
#include <string.h>

/* Decodes one character; returns its length in bytes, or 0 where the bytes are not UTF-8. */
static size_t decode_character(const unsigned char *at, size_t len, uint32_t *character)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least; /* smaller values have a shorter form, so this one would be overlong */
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

    for (size_t form = 0; form < sizeof forms / sizeof forms[0]; form++) {
        if ((at[0] & forms[form].mask) != forms[form].lead)
            continue;
        if (form + 1 > len)
            return 0;
        uint32_t value = at[0] & (unsigned char)~forms[form].mask;
        for (size_t i = 1; i <= form; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (at[i] & 0x3fu);
        }
        if (value < forms[form].least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            return 0;
        *character = value;
        return form + 1;
    }
    return 0;
}

bool ob_text_is_utf8(const char *bytes, size_t len)
{
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0, step; i < len; i += step) {
        uint32_t character;
        step = decode_character(at + i, len - i, &character);
        if (step == 0)
            return false;
    }
    return true;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0xfdd0 && c <= 0xfdef) ||
           (c & 0xfffe) == 0xfffe;
}

/* UTF-8 of 1..max bytes without controls and without any of `forbidden`. */
static bool is_clean(const char *bytes, size_t len, size_t max, const char *forbidden)
{
    const unsigned char *at = (const unsigned char *)bytes;
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0, step; i < len; i += step) {
        uint32_t character;
        step = decode_character(at + i, len - i, &character);
        if (step == 0 || is_control(character))
            return false;
        if (character < 0x80 && strchr(forbidden, (int)character))
            return false;
    }
    return true;
}

bool ob_text_is_topic(const char *bytes, size_t len)
{
    return is_clean(bytes, len, OUTBOX_TOPIC_MAX, "+#");
}

bool ob_text_is_attribute(const char *bytes, size_t len)
{
    return is_clean(bytes, len, OUTBOX_ATTRIBUTE_MAX, "");
}

bool ob_text_is_clean(const char *bytes, size_t len, size_t max)
{
    return is_clean(bytes, len, max, "");
}

bool ob_text_is_device(const char *bytes, size_t len)
{
    if (len == 0 || len > OUTBOX_ATTRIBUTE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
        if (!letter && !other)
            return false;
    }
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_letters(const char *bytes, const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lower(bytes[i]) != word[i])
            return false;
    return true;
}

/* Media types are compared without regard to case (RFC 9110, 8.3.1). A subtype of json or one with
 * the suffix +json is JSON (CloudEvents JSON format 1.0.2, section 3.1). */
enum ob_media ob_text_media(const char *content_type, size_t len)
{
    size_t end = 0;
    while (end < len && content_type[end] != ';' && content_type[end] != ' ')
        end++;
    if (end >= 5 && (same_letters(content_type + end - 5, "/json", 5) ||
                     same_letters(content_type + end - 5, "+json", 5)))
        return OB_MEDIA_JSON;
    if (end > 5 && same_letters(content_type, "text/", 5))
        return OB_MEDIA_TEXT;
    return OB_MEDIA_OTHER;
}

bool ob_text_is_cloudevents(const char *content_type, size_t len)
{
    static const char start[] = "application/cloudevents";
    return len >= sizeof start - 1 && same_letters(content_type, start, sizeof start - 1);
}
