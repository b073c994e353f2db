/* SPDX-License-Identifier: MIT
 *
 * message.c - builds CloudEvents documents, binary messages and plain ones.
 *
 * A resend after a crash builds the same identity and payload again from the row; `previous` alone
 * may differ, as it says what went ahead. Structured mode follows the CloudEvents JSON format
 * 1.0.2 and the MQTT binding 1.0.2: data of a JSON type is the value itself, other text is a
 * string, bytes are base64. Nothing is converted on the way, so numbers stay digit for digit. The
 * attributes of all modes come from the same lines of code, so they cannot differ.
 */
#include "message.h"

#include "headers.h"

#include <assert.h>
#include <string.h>

enum { SEQUENCE_DIGITS = 19, ATTRIBUTES_MAX = 10 /* as user properties, without headers */ };

static const char structured_type[] = "application/cloudevents+json; charset=utf-8";
static const char default_type[] = "outbox.event";

const char *ob_unfit_sentence(enum ob_unfit unfit)
{
    static const char *const sentences[] = {
#define OB_UNFIT_SENTENCE(name, sentence) sentence,
        OB_UNFIT_MAP(OB_UNFIT_SENTENCE)
#undef OB_UNFIT_SENTENCE
    };
    assert(unfit < OB_UNFITS);
    return sentences[unfit];
}

void ob_unfit_text(enum ob_unfit unfit, int reason, char text[OB_REASON_TEXT])
{
    static const struct {
        int reason;
        const char *name; /* MQTT 5, table 3-4 */
    } names[] = {{0x87, "not authorized"},
                 {0x90, "topic name invalid"},
                 {0x95, "packet too large"},
                 {0x99, "payload format invalid"}};
    const char *name = "unknown";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].reason == reason)
            name = names[i].name;
    if (unfit == OB_UNFIT_REFUSED)
        sqlite3_snprintf(OB_REASON_TEXT, text, "%s: reason 0x%02x, %s", ob_unfit_sentence(unfit),
                         (unsigned)reason, name);
    else
        sqlite3_snprintf(OB_REASON_TEXT, text, "%s", ob_unfit_sentence(unfit));
}

/* ---- The check ------------------------------------------------------------------------------- */

static bool attribute_is_fit(const struct ob_value *value)
{
    return value->storage == SQLITE_NULL ||
           (value->storage == SQLITE_TEXT && ob_text_is_attribute(value->bytes, value->len));
}

static bool headers_are_fit(const struct ob_value *value)
{
    return value->storage == SQLITE_NULL ||
           (value->storage == SQLITE_TEXT && ob_headers_are_fit(value->bytes, value->len));
}

static enum ob_media media_of(const struct ob_row *row)
{
    return row->content_type.storage == SQLITE_TEXT
               ? ob_text_media(row->content_type.bytes, row->content_type.len)
               : OB_MEDIA_OTHER;
}

enum ob_unfit ob_message_check(const struct ob_row *row)
{
    if (row->is_tombstone)
        return OB_UNFIT_MARK;
    if (row->topic.storage != SQLITE_TEXT || !ob_text_is_topic(row->topic.bytes, row->topic.len))
        return OB_UNFIT_TOPIC;
    if (!attribute_is_fit(&row->type) || !attribute_is_fit(&row->content_type) ||
        !attribute_is_fit(&row->key))
        return OB_UNFIT_ATTRIBUTE;
    if (!headers_are_fit(&row->headers))
        return OB_UNFIT_HEADERS;
    switch (row->payload.storage) {
    case SQLITE_INTEGER:
    case SQLITE_FLOAT:
        return OB_UNFIT_PAYLOAD;
    case SQLITE_TEXT:
        if (!ob_text_is_utf8(row->payload.bytes, row->payload.len))
            return OB_UNFIT_TEXT;
        break;
    default:
        break;
    }
    /* A blob under a JSON type stays a blob (base64); text must be what it says. */
    if (row->payload.storage == SQLITE_TEXT && media_of(row) == OB_MEDIA_JSON &&
        !ob_json_is_value(row->payload.bytes, row->payload.len))
        return OB_UNFIT_JSON;
    return OB_FIT;
}

/* ---- The buffer ------------------------------------------------------------------------------ */

/* Appends; after the first failure nothing more is written and `full` stays set. */
struct writer {
    struct ob_buffer *buffer;
    bool full;
};

static char *claim(struct writer *w, size_t len)
{
    if (w->full || w->buffer->size - w->buffer->used < len) {
        w->full = true;
        return NULL;
    }
    char *at = w->buffer->bytes + w->buffer->used;
    w->buffer->used += len;
    return at;
}

static void *claim_aligned(struct writer *w, size_t len)
{
    size_t over = w->buffer->used % sizeof(void *);
    if (over && !claim(w, sizeof(void *) - over))
        return NULL;
    return claim(w, len);
}

static void append(struct writer *w, const char *bytes, size_t len)
{
    char *at = claim(w, len);
    if (at && len > 0)
        memcpy(at, bytes, len);
}

static void append_text(struct writer *w, const char *text)
{
    append(w, text, strlen(text));
}

static const char *append_string(struct writer *w, const char *bytes, size_t len)
{
    char *at = claim(w, len + 1);
    if (!at)
        return NULL;
    memcpy(at, bytes, len);
    at[len] = '\0';
    return at;
}

static void append_number(struct writer *w, int64_t number, int digits)
{
    char text[24];
    assert(number >= 0);
    sqlite3_snprintf((int)sizeof text, text, "%0*lld", digits, (long long)number);
    append_text(w, text);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* RFC 8259, section 7: quotes, backslashes and controls are escaped, all else is as it is. */
static void append_escaped(struct writer *w, const char *bytes, size_t len)
{
    size_t done = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char escape[8];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        append(w, bytes + done, i - done);
        if (c >= 0x20)
            sqlite3_snprintf((int)sizeof escape, escape, "\\%c", c);
        else
            sqlite3_snprintf((int)sizeof escape, escape, "\\u%04x", c);
        append_text(w, escape);
        done = i + 1;
    }
    append(w, bytes + done, len - done);
}

/* RFC 4648, section 4. */
static void append_base64(struct writer *w, const char *bytes, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)bytes;
    char *at = claim(w, (len + 2) / 3 * 4);
    if (!at)
        return;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= left > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= left > 2 ? in[i + 2] : 0;
        *at++ = letters[group >> 18];
        *at++ = letters[group >> 12 & 63];
        *at++ = left > 1 ? letters[group >> 6 & 63] : '=';
        *at++ = left > 2 ? letters[group & 63] : '=';
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* RFC 3339 in UTC. Days to date by the civil calendar, in eras of 400 years from 0000-03-01. */
static void append_time(struct writer *w, int64_t ms)
{
    char text[32];
    int64_t days = ms / 86400000, rest = ms % 86400000;
    int64_t shifted = days + 719468;
    int64_t era = shifted / 146097, day_of_era = shifted % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    int month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    int year = (int)(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
    sqlite3_snprintf((int)sizeof text, text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month,
                     day, (int)(rest / 3600000), (int)(rest / 60000 % 60), (int)(rest / 1000 % 60),
                     (int)(rest % 1000));
    append_text(w, text);
}

/* A clock that was never set says 1970, or nothing; a year over 9999 has no RFC 3339 form. */
static bool has_form(int64_t ms)
{
    const int64_t year_2000 = 946684800000, year_10000 = 253402300800000;
    return ms >= year_2000 && ms < year_10000;
}

static bool time_is_known(const struct ob_row *row)
{
    return row->has_created && has_form(row->created);
}

/* ---- Attributes ------------------------------------------------------------------------------ */

/* Where attributes go: members of a JSON document that was begun, or user properties. */
struct sink {
    struct writer *w;
    outbox_property *properties; /* NULL: members */
    size_t count;
    const char *prefix; /* of a property's name; may be empty */
};

/* Begins an attribute whose value is appended next. A name without a NUL behind it is copied. */
static void begin_attribute(struct sink *sink, const char *name, size_t len, bool is_lasting)
{
    struct writer *w = sink->w;
    if (!sink->properties) {
        append_text(w, ",\"");
        append(w, name, len);
        append_text(w, "\":\"");
        return;
    }
    outbox_property *property = &sink->properties[sink->count];
    property->name = name;
    if (!is_lasting || sink->prefix[0] != '\0') {
        property->name = w->buffer->bytes + w->buffer->used;
        append_text(w, sink->prefix);
        append(w, name, len);
        append(w, "", 1);
    }
    property->value = w->buffer->bytes + w->buffer->used;
}

static void end(struct sink *sink)
{
    if (sink->properties)
        append(sink->w, "", 1);
    else
        append_text(sink->w, "\"");
    sink->count++;
}

static void begin_own(struct sink *sink, const char *name)
{
    begin_attribute(sink, name, strlen(name), true);
}

/* Characters that are the same in both. */
static void put_clean(struct sink *sink, const char *name, const char *value)
{
    begin_own(sink, name);
    append_text(sink->w, value);
    end(sink);
}

static void put_attribute(struct sink *sink, const char *name, const struct ob_value *value)
{
    begin_own(sink, name);
    if (sink->properties)
        append(sink->w, value->bytes, value->len);
    else
        append_escaped(sink->w, value->bytes, value->len);
    end(sink);
}

static void put_number(struct sink *sink, const char *name, int64_t number, int digits)
{
    begin_own(sink, name);
    append_number(sink->w, number, digits);
    end(sink);
}

static void put_time(struct sink *sink, const char *name, int64_t ms)
{
    begin_own(sink, name);
    append_time(sink->w, ms);
    end(sink);
}

static void put_source(struct sink *sink, const struct ob_identity *identity)
{
    struct writer *w = sink->w;
    begin_own(sink, "source");
    append_text(w, "outbox://");
    append_text(w, identity->device);
    append_text(w, "/");
    append_text(w, identity->lane);
    append_text(w, "/");
    append_text(w, identity->epoch.digits);
    end(sink);
}

/* Gives the digits, which may be written anew later. NULL where there was no room, or are none. */
static char *put_previous(struct sink *sink, int64_t previous)
{
    if (previous == OB_NO_PREVIOUS)
        return NULL;
    begin_own(sink, "previous");
    size_t start = sink->w->buffer->used;
    append_number(sink->w, previous, SEQUENCE_DIGITS);
    end(sink);
    return sink->w->full ? NULL : sink->w->buffer->bytes + start;
}

static void put_headers(struct sink *sink, const struct ob_row *row)
{
    struct ob_header header;
    if (row->headers.storage != SQLITE_TEXT)
        return;
    const char *at = row->headers.bytes, *stop = at + row->headers.len;
    while (ob_headers_next(&at, stop, &header)) {
        begin_attribute(sink, header.name, header.name_len, false);
        if (sink->properties)
            append(sink->w, header.value, header.value_len);
        else
            append_escaped(sink->w, header.value, header.value_len);
        end(sink);
    }
}

/* What the event itself was given. */
static void put_given(struct sink *sink, const struct ob_row *row)
{
    if (row->key.storage == SQLITE_TEXT)
        put_attribute(sink, "partitionkey", &row->key);
    if (has_form(row->expires))
        put_time(sink, "expirytime", row->expires);
    put_headers(sink, row);
}

/* All but specversion, which a document begins with, and datacontenttype. Gives the digits of
 * `previous`. */
static char *put_attributes(struct sink *sink, const struct ob_row *row,
                            const struct ob_identity *identity, int64_t previous)
{
    put_number(sink, "id", row->id, 1);
    put_source(sink, identity);
    if (row->type.storage == SQLITE_TEXT)
        put_attribute(sink, "type", &row->type);
    else
        put_clean(sink, "type", default_type);
    if (time_is_known(row))
        put_time(sink, "time", row->created);
    put_number(sink, "sequence", row->id, SEQUENCE_DIGITS);
    char *digits = put_previous(sink, previous);
    if (time_is_known(row))
        put_time(sink, "recordedtime", row->created);
    put_given(sink, row);
    return digits;
}

/* ---- The modes ------------------------------------------------------------------------------- */

static void append_data(struct writer *w, const struct ob_row *row)
{
    const struct ob_value *payload = &row->payload;
    switch (payload->storage) {
    case SQLITE_NULL:
        return;
    case SQLITE_TEXT:
        append_text(w, ",\"data\":");
        if (media_of(row) == OB_MEDIA_JSON) {
            append(w, payload->bytes, payload->len);
            return;
        }
        append_text(w, "\"");
        append_escaped(w, payload->bytes, payload->len);
        append_text(w, "\"");
        return;
    default:
        append_text(w, ",\"data_base64\":\"");
        append_base64(w, payload->bytes, payload->len);
        append_text(w, "\"");
        return;
    }
}

static void build_structured(struct writer *w, struct ob_message *built, const struct ob_row *row,
                             const struct ob_identity *identity, int64_t previous)
{
    outbox_message *message = &built->wire;
    struct sink sink = {.w = w, .prefix = ""};
    size_t start = w->buffer->used;
    append_text(w, "{\"specversion\":\"1.0\"");
    built->previous = put_attributes(&sink, row, identity, previous);
    if (row->content_type.storage == SQLITE_TEXT)
        put_attribute(&sink, "datacontenttype", &row->content_type);
    append_data(w, row);
    append_text(w, "}");
    message->payload = w->buffer->bytes + start;
    message->payload_len = w->buffer->used - start;
    message->content_type = structured_type;
    message->is_utf8 = 1;
}

/* Room for the properties of any event with these headers. */
static struct sink open_properties(struct writer *w, const struct ob_row *row, const char *prefix)
{
    size_t count = ATTRIBUTES_MAX;
    if (row->headers.storage == SQLITE_TEXT)
        count += ob_headers_count(row->headers.bytes, row->headers.len);
    return (struct sink){
        .w = w, .properties = claim_aligned(w, count * sizeof(outbox_property)), .prefix = prefix};
}

/* The payload as it is, with its content type, beside the properties. */
static void append_payload(struct writer *w, outbox_message *message, const struct ob_row *row,
                           const struct sink *sink)
{
    message->properties = sink->properties;
    message->property_count = sink->count;
    if (row->content_type.storage == SQLITE_TEXT)
        message->content_type = append_string(w, row->content_type.bytes, row->content_type.len);
    message->is_utf8 = row->payload.storage == SQLITE_TEXT;
    message->payload = w->buffer->bytes + w->buffer->used;
    message->payload_len = row->payload.len;
    append(w, row->payload.bytes, row->payload.len);
}

static void build_binary(struct writer *w, struct ob_message *built, const struct ob_row *row,
                         const struct ob_identity *identity, int64_t previous, const char *prefix)
{
    struct sink sink = open_properties(w, row, prefix);
    if (!sink.properties)
        return;
    put_clean(&sink, "specversion", "1.0");
    built->previous = put_attributes(&sink, row, identity, previous);
    append_payload(w, &built->wire, row, &sink);
}

static void build_plain(struct writer *w, struct ob_message *built, const struct ob_row *row,
                        const struct ob_identity *identity, int64_t previous)
{
    struct sink sink = open_properties(w, row, "");
    if (!sink.properties)
        return;
    put_number(&sink, "id", row->id, 1);
    put_source(&sink, identity);
    put_number(&sink, "sequence", row->id, SEQUENCE_DIGITS);
    built->previous = put_previous(&sink, previous);
    put_given(&sink, row);
    append_payload(w, &built->wire, row, &sink);
}

/* MQTT binding 1.0.2, section 3: a recipient tells the modes by the content type, so beside
 * attributes this one would be read as an event in structured mode, and the attributes would be
 * nobody's. */
static bool looks_structured(const struct ob_row *row)
{
    return row->content_type.storage == SQLITE_TEXT &&
           ob_text_is_cloudevents(row->content_type.bytes, row->content_type.len);
}

static void build(struct writer *w, struct ob_message *built, const struct ob_row *row,
                  const struct ob_identity *identity, int64_t previous, const struct ob_form *form)
{
    if (form->mode == OUTBOX_PLAIN)
        build_plain(w, built, row, identity, previous);
    else if (form->mode == OUTBOX_BINARY && !looks_structured(row))
        build_binary(w, built, row, identity, previous, form->ce_prefix ? "ce-" : "");
    else
        build_structured(w, built, row, identity, previous);
}

const outbox_message *ob_message_build(struct ob_buffer *buffer, const struct ob_row *row,
                                       const struct ob_identity *identity, int64_t previous,
                                       const struct ob_form *form)
{
    assert(ob_message_check(row) == OB_FIT);
    assert(previous >= OB_NO_PREVIOUS && previous < row->id);
    size_t used = buffer->used;
    struct writer w = {buffer, false};
    struct ob_message *built = claim_aligned(&w, sizeof *built);
    if (built) {
        memset(built, 0, sizeof *built);
        built->epoch_first = identity->epoch.first;
        built->expires = row->expires;
        built->wire.retain = row->retain;
        built->wire.topic = append_string(&w, row->topic.bytes, row->topic.len);
        if (row->keep_last && row->key.storage == SQLITE_TEXT)
            built->key = append_string(&w, row->key.bytes, row->key.len);
        build(&w, built, row, identity, previous, form);
    }
    if (w.full) {
        buffer->used = used;
        return NULL;
    }
    return &built->wire;
}

const struct ob_message *ob_message_of(const outbox_message *message)
{
    return (const struct ob_message *)(const void *)message;
}

void ob_message_set_previous(const outbox_message *message, int64_t previous)
{
    char digits[SEQUENCE_DIGITS + 1];
    assert(previous >= 0);
    sqlite3_snprintf((int)sizeof digits, digits, "%0*lld", SEQUENCE_DIGITS, (long long)previous);
    memcpy(ob_message_of(message)->previous, digits, SEQUENCE_DIGITS);
}

/* Text of control characters alone grows six times. Attributes have none, and grow twice; a key may
 * be there once more. A header brings quotes and commas, or a property with two strings. */
size_t ob_message_room(size_t payload_max)
{
    return 6 * payload_max + OUTBOX_TOPIC_MAX + (size_t)(3 * 2 + 1) * OUTBOX_ATTRIBUTE_MAX +
           (size_t)2 * OUTBOX_HEADERS_BYTES + OUTBOX_HEADERS_MAX * (sizeof(outbox_property) + 8) +
           2048;
}
