/* SPDX-License-Identifier: MIT
 *
 * text.h - what counts as clean text: UTF-8, topics, attributes, device names, JSON.
 *
 * Pure functions over bytes with a length. They bound themselves by the length, so the bytes need
 * no NUL behind them.
 */
#ifndef OB_TEXT_H
#define OB_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms); NUL counts as a character. */
bool ob_text_is_utf8(const char *bytes, size_t len);

/* A topic name that a PUBLISH may carry (MQTT 5, 4.7 and 1.5.4): 1..OUTBOX_TOPIC_MAX bytes of
 * UTF-8 without wildcard, control character or noncharacter. */
bool ob_text_is_topic(const char *bytes, size_t len);

/* A CloudEvents String (1.0.2, type system): 1..OUTBOX_ATTRIBUTE_MAX bytes of UTF-8 without
 * control character or noncharacter. */
bool ob_text_is_attribute(const char *bytes, size_t len);

/* The same with another bound: 1..max bytes. */
bool ob_text_is_clean(const char *bytes, size_t len, size_t max);

/* 1..OUTBOX_ATTRIBUTE_MAX of the characters that need no escape in a URI (RFC 3986, 2.3). */
bool ob_text_is_device(const char *bytes, size_t len);

/* What a content type says of the payload. Parameters such as charset are ignored. */
enum ob_media { OB_MEDIA_OTHER, OB_MEDIA_TEXT, OB_MEDIA_JSON };
enum ob_media ob_text_media(const char *content_type, size_t len);

/* Whether it says that the payload is an event, or a batch of them, in some CloudEvents format. */
bool ob_text_is_cloudevents(const char *content_type, size_t len);

/* One JSON value in UTF-8 with optional white space around it (RFC 8259), nested at most
 * OB_JSON_DEPTH deep. */
#define OB_JSON_DEPTH 64
bool ob_json_is_value(const char *bytes, size_t len);

#endif
