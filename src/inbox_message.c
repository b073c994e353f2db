/* SPDX-License-Identifier: MIT
 *
 * inbox_message.c - what MQTT brought, taken apart: CloudEvents in JSON or in user properties,
 * plain messages of an outbox, and anything else.
 *
 * The counterpart of message.c, and for what other CloudEvents senders send (MQTT binding 1.0.2,
 * JSON format 1.0.2). Bytes of a network: nothing is believed that was not looked at. Nothing is
 * kept, so there is nothing that a crash could harm.
 */
#include "announce.h"
#include "json_read.h"
#include "text.h"

#include <assert.h>
#include <string.h>

struct reading {
    const inbox_message *message;
    char *room; /* where the next thing that is decoded goes */
    inbox_event *event;
    struct ob_error error;
};

static int fail(struct reading *r, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&r->error, code, format, arguments);
    va_end(arguments);
    return code;
}

static bool is(const inbox_text *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->bytes, word, text->len) == 0;
}

/* For a sentence; names may be anything. */
static int shown(const inbox_text *text)
{
    return text->len < 40 ? (int)text->len : 40;
}

/* ---- Attributes ------------------------------------------------------------------------------ */

/* CloudEvents 1.0.2, naming conventions. */
static bool is_attribute_name(const inbox_text *name)
{
    for (size_t i = 0; i < name->len; i++)
        if (!(name->bytes[i] >= 'a' && name->bytes[i] <= 'z') &&
            !(name->bytes[i] >= '0' && name->bytes[i] <= '9'))
            return false;
    return name->len > 0;
}

static const inbox_text *find(const inbox_event *event, const char *name)
{
    for (size_t i = 0; i < event->attribute_count; i++)
        if (is(&event->attributes[i].name, name))
            return &event->attributes[i].value;
    return NULL;
}

static int add_attribute(struct reading *r, const inbox_text *name, const inbox_text *value)
{
    inbox_event *event = r->event;
    if (!is_attribute_name(name))
        return OUTBOX_OK;
    if (value->len > 0 && !ob_text_is_clean(value->bytes, value->len, value->len))
        return fail(r, OUTBOX_BAD_ATTRIBUTE,
                    "the attribute %.*s is not UTF-8 or holds a control character", shown(name),
                    name->bytes);
    for (size_t i = 0; i < event->attribute_count; i++)
        if (event->attributes[i].name.len == name->len &&
            memcmp(event->attributes[i].name.bytes, name->bytes, name->len) == 0)
            return fail(r, OUTBOX_BAD_ATTRIBUTE, "the attribute %.*s is there twice", shown(name),
                        name->bytes);
    if (event->attribute_count == INBOX_ATTRIBUTES_MAX)
        return fail(r, OUTBOX_BAD_ATTRIBUTE, "there are more than %d attributes",
                    INBOX_ATTRIBUTES_MAX);
    event->attributes[event->attribute_count++] = (inbox_property){*name, *value};
    return OUTBOX_OK;
}

/* 1 to 19 decimal digits; what is none is no number of ours, and not wrong by itself. */
static int read_decimal(const inbox_text *text, int64_t *number)
{
    int64_t value = 0;
    if (!text || text->len == 0)
        return 0;
    for (size_t i = 0; i < text->len; i++) {
        int digit = text->bytes[i] - '0';
        if (digit < 0 || digit > 9 || value > (INT64_MAX - digit) / 10)
            return 0;
        value = 10 * value + digit;
    }
    *number = value;
    return 1;
}

/* An attribute that must not be empty where it is there, and be there where it is required. */
static int read_text(struct reading *r, const char *name, bool required, inbox_text *text)
{
    const inbox_text *found = find(r->event, name);
    if (!found)
        return required ? fail(r, OUTBOX_BAD_ATTRIBUTE, "the attribute %s is missing", name)
                        : OUTBOX_OK;
    if (found->len == 0)
        return fail(r, OUTBOX_BAD_ATTRIBUTE, "the attribute %s is empty", name);
    *text = *found;
    return OUTBOX_OK;
}

/* From the attributes to the event's members. */
static int take_attributes(struct reading *r)
{
    inbox_event *event = r->event;
    bool is_cloud_event = event->form != INBOX_PLAIN;
    inbox_text version = {NULL, 0}, ignored;
    const struct {
        const char *name;
        bool required;
        inbox_text *text;
    } wanted[] = {
        {"id", true, &event->id},
        {"source", true, &event->source},
        {"specversion", is_cloud_event, &version},
        {"type", is_cloud_event, &event->type},
        {"time", false, &event->time},
        {"partitionkey", false, &event->key},
        {"datacontenttype", false, &event->content_type},
        {"subject", false, &ignored},
        {"dataschema", false, &ignored},
    };
    int code = OUTBOX_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && code == OUTBOX_OK; i++)
        code = read_text(r, wanted[i].name, wanted[i].required, wanted[i].text);
    if (code == OUTBOX_OK && version.bytes && !is(&version, "1.0"))
        code = fail(r, OUTBOX_BAD_ATTRIBUTE, "specversion is %.*s, this program knows 1.0",
                    shown(&version), version.bytes);
    if (code == OUTBOX_OK && (event->id.len > INBOX_NAME_MAX || event->source.len > INBOX_NAME_MAX))
        code = fail(r, OUTBOX_BAD_ATTRIBUTE, "id or source is over %d bytes", INBOX_NAME_MAX);
    event->has_sequence = read_decimal(find(event, "sequence"), &event->sequence);
    event->has_previous =
        event->has_sequence && read_decimal(find(event, "previous"), &event->previous);
    return code;
}

/* ---- Announcements --------------------------------------------------------------------------- */

/* {"reason":"evicted","count":3,"from":4,"to":6}; what has another form tells of nothing. */
static void read_announcement(struct reading *r)
{
    inbox_event *event = r->event;
    inbox_drops drops = {{NULL, 0}, -1, -1, -1};
    struct ob_json_object object;
    inbox_text name, value;
    int numbers = 0;
    if (!is(&event->type, OB_ANNOUNCE_TYPE) || event->data_kind != INBOX_JSON)
        return;
    ob_json_open(&object, event->data.bytes, event->data.len);
    while (ob_json_next(&object, &name, &value)) {
        if (is(&name, "\"reason\"")) {
            if (value.len >= 2 && value.bytes[0] == '"')
                drops.reason = (inbox_text){value.bytes + 1, value.len - 2};
        } else if (is(&name, "\"count\"")) {
            numbers += read_decimal(&value, &drops.count);
        } else if (is(&name, "\"from\"")) {
            numbers += read_decimal(&value, &drops.from);
        } else if (is(&name, "\"to\"")) {
            numbers += read_decimal(&value, &drops.to);
        }
    }
    bool has_all = drops.count >= 0 && drops.from >= 0 && drops.to >= 0;
    if (!object.is_broken && numbers == 3 && has_all && drops.reason.bytes)
        event->drops = drops;
}

/* ---- Structured ------------------------------------------------------------------------------ */

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648, section 4, with its padding. */
static bool decode_base64(struct reading *r, const inbox_text *text, inbox_text *bytes)
{
    size_t len = text->len;
    char *to = r->room;
    if (len % 4 != 0)
        return false;
    for (int i = 0; i < 2 && len > 0 && text->bytes[len - 1] == '='; i++)
        len--;
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++) {
        int six = sextet(text->bytes[i]);
        if (six < 0)
            return false;
        bits = (bits << 6 | (unsigned)six) & 0xffffff;
        if (i % 4 > 0)
            *to++ = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
    }
    *bytes = (inbox_text){r->room, (size_t)(to - r->room)};
    r->room = to;
    return true;
}

static int take_base64(struct reading *r, const inbox_text *value, bool *is_given)
{
    inbox_text text;
    if (*is_given)
        return fail(r, OUTBOX_BAD_PAYLOAD, "there is more than one data or data_base64");
    *is_given = true;
    if (!ob_json_string(value, &r->room, &text) || !decode_base64(r, &text, &r->event->data))
        return fail(r, OUTBOX_BAD_PAYLOAD, "data_base64 is no base64");
    r->event->data_kind = INBOX_BYTES;
    return OUTBOX_OK;
}

/* As it stands; its type is known only when all attributes are. */
static int take_data(struct reading *r, const inbox_text *value, bool *is_given)
{
    if (*is_given)
        return fail(r, OUTBOX_BAD_PAYLOAD, "there is more than one data or data_base64");
    *is_given = true;
    r->event->data_kind = INBOX_JSON;
    r->event->data = *value;
    return OUTBOX_OK;
}

/* A JSON value of an attribute: a string, or a number or boolean as it stands (JSON format,
 * 2.2). */
static int take_member(struct reading *r, const inbox_text *name, const inbox_text *value)
{
    inbox_text text = *value;
    if (is(value, "null"))
        return OUTBOX_OK;
    if (value->bytes[0] == '{' || value->bytes[0] == '[')
        return is_attribute_name(name)
                   ? fail(r, OUTBOX_BAD_ATTRIBUTE, "the attribute %.*s is an object or an array",
                          shown(name), name->bytes)
                   : OUTBOX_OK;
    if (value->bytes[0] == '"' && !ob_json_string(value, &r->room, &text))
        return fail(r, OUTBOX_BAD_ATTRIBUTE, "the attribute %.*s holds half a surrogate pair",
                    shown(name), name->bytes);
    return add_attribute(r, name, &text);
}

static int take_members(struct reading *r)
{
    struct ob_json_object object;
    inbox_text name, value, plain;
    bool has_data = false;
    int code = OUTBOX_OK;
    ob_json_open(&object, r->message->payload, r->message->payload_len);
    while (code == OUTBOX_OK && ob_json_next(&object, &name, &value)) {
        if (!ob_json_string(&name, &r->room, &plain))
            code = fail(r, OUTBOX_BAD_PAYLOAD, "a name in the document is no Unicode");
        else if (is(&plain, "data"))
            code = take_data(r, &value, &has_data);
        else if (is(&plain, "data_base64"))
            code = is(&value, "null") ? OUTBOX_OK : take_base64(r, &value, &has_data);
        else
            code = take_member(r, &plain, &value);
    }
    if (code == OUTBOX_OK && object.is_broken)
        code = fail(r, OUTBOX_BAD_PAYLOAD, "the document is no JSON object, or is nested too deep");
    return code;
}

/* A string is quoted data only under a JSON type, and stays so there (JSON format, 3.1.1). */
static int unquote_data(struct reading *r)
{
    inbox_event *event = r->event;
    bool is_string = event->data_kind == INBOX_JSON && event->data.bytes[0] == '"';
    if (!is_string ||
        (event->content_type.bytes &&
         ob_text_media(event->content_type.bytes, event->content_type.len) == OB_MEDIA_JSON))
        return OUTBOX_OK;
    event->data_kind = INBOX_STRING;
    if (!ob_json_string(&event->data, &r->room, &event->data))
        return fail(r, OUTBOX_BAD_PAYLOAD, "data holds half a surrogate pair");
    return OUTBOX_OK;
}

static int read_structured(struct reading *r)
{
    r->event->form = INBOX_STRUCTURED;
    int code = take_members(r);
    if (code == OUTBOX_OK)
        code = take_attributes(r);
    return code == OUTBOX_OK ? unquote_data(r) : code;
}

/* ---- User properties ------------------------------------------------------------------------- */

static void take_payload(struct reading *r)
{
    inbox_event *event = r->event;
    const inbox_text *type = &event->content_type;
    event->data = (inbox_text){r->message->payload, r->message->payload_len};
    event->data_kind = event->data.len > 0 ? INBOX_BYTES : INBOX_NO_DATA;
    if (event->data.len == 0 || !type->bytes)
        return;
    enum ob_media media = ob_text_media(type->bytes, type->len);
    if (media == OB_MEDIA_JSON && ob_json_is_value(event->data.bytes, event->data.len))
        event->data_kind = INBOX_JSON;
    else if (media == OB_MEDIA_TEXT && ob_text_is_utf8(event->data.bytes, event->data.len))
        event->data_kind = INBOX_STRING;
}

static const char binding_prefix[] = "ce-";

/* Takes the prefix off; false where there is none. */
static bool unprefix(inbox_text *name)
{
    const size_t len = sizeof binding_prefix - 1;
    if (name->len <= len || memcmp(name->bytes, binding_prefix, len) != 0)
        return false;
    *name = (inbox_text){name->bytes + len, name->len - len};
    return true;
}

static bool has_property(const inbox_message *message, const char *wanted, bool prefixed)
{
    for (size_t i = 0; i < message->property_count; i++) {
        inbox_text name = message->properties[i].name;
        if ((!prefixed || unprefix(&name)) && is(&name, wanted))
            return true;
    }
    return false;
}

static bool has_properties(const inbox_message *message, const char *const wanted[], bool prefixed)
{
    for (int i = 0; wanted[i]; i++)
        if (!has_property(message, wanted[i], prefixed))
            return false;
    return true;
}

/* The content type is the data's, also where an attribute says something else (MQTT
 * binding, 3.1.1). */
static int read_properties(struct reading *r, inbox_form form, bool prefixed)
{
    const inbox_message *message = r->message;
    int code = OUTBOX_OK;
    r->event->form = form;
    for (size_t i = 0; i < message->property_count && code == OUTBOX_OK; i++) {
        inbox_text name = message->properties[i].name;
        if (!prefixed || unprefix(&name))
            code = add_attribute(r, &name, &message->properties[i].value);
    }
    if (code == OUTBOX_OK)
        code = take_attributes(r);
    if (message->content_type.bytes)
        r->event->content_type = message->content_type;
    take_payload(r);
    return code;
}

/* ---- Which one it is ------------------------------------------------------------------------- */

static bool begins_with(const inbox_text *text, const char *lower)
{
    size_t len = strlen(lower);
    if (!text->bytes || text->len < len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text->bytes[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != lower[i])
            return false;
    }
    return true;
}

/* "application/cloudevents", then "+json", then nothing or parameters. */
static int read_cloud_events_type(struct reading *r)
{
    static const char type[] = "application/cloudevents", json[] = "+json";
    const inbox_text *content_type = &r->message->content_type;
    inbox_text rest = {content_type->bytes + sizeof type - 1, content_type->len - sizeof type + 1};
    const size_t len = sizeof json - 1;
    if (begins_with(&rest, json) &&
        (rest.len == len || rest.bytes[len] == ';' || rest.bytes[len] == ' '))
        return read_structured(r);
    return fail(r, OUTBOX_BAD_PAYLOAD,
                "the content type is %.*s: this program reads no batches, and no format but JSON",
                shown(content_type), content_type->bytes);
}

/* MQTT 3.1.1 has no content type, and some senders give none. */
static bool looks_like_document(const inbox_message *message)
{
    struct ob_json_object object;
    inbox_text name, value;
    bool found = false;
    if (message->content_type.bytes)
        return false;
    ob_json_open(&object, message->payload, message->payload_len);
    while (ob_json_next(&object, &name, &value))
        found = found || is(&name, "\"specversion\"");
    return found && !object.is_broken;
}

static int read_any(struct reading *r)
{
    static const char *const binary[] = {"specversion", "id", "source", "type", NULL};
    static const char *const plain[] = {"id", "source", "sequence", NULL};
    const inbox_message *message = r->message;
    if (begins_with(&message->content_type, "application/cloudevents"))
        return read_cloud_events_type(r);
    if (has_properties(message, binary, false))
        return read_properties(r, INBOX_BINARY, false);
    if (has_properties(message, binary, true))
        return read_properties(r, INBOX_BINARY, true);
    if (has_properties(message, plain, false))
        return read_properties(r, INBOX_PLAIN, false);
    if (looks_like_document(message))
        return read_structured(r);
    r->event->content_type = message->content_type;
    take_payload(r);
    return OUTBOX_OK;
}

// NOLINTNEXTLINE(readability-non-const-parameter): it is written to, by way of the struct
int inbox_read(const inbox_message *message, char *room, inbox_event *event, char *sentence,
               size_t sentence_size)
{
    struct reading reading = {message, room, event, {OUTBOX_OK, ""}};
    if (!message || !event || (message->payload_len > 0 && (!message->payload || !room)) ||
        (message->property_count > 0 && !message->properties))
        return OUTBOX_MISUSE;
    memset(event, 0, sizeof *event);
    int code = read_any(&reading);
    if (code == OUTBOX_OK && event->form != INBOX_NO_EVENT)
        read_announcement(&reading);
    assert(message->payload_len == 0 || reading.room <= room + message->payload_len);
    if (code == OUTBOX_OK)
        return code;
    if (sentence && sentence_size > 0)
        sqlite3_snprintf((int)sentence_size, sentence, "%s", reading.error.sentence);
    memset(event, 0, sizeof *event);
    return code;
}
