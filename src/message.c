/* SPDX-License-Identifier: MIT
 *
 * message.c - builds CloudEvents documents and plain messages.
 *
 * A resend after a crash builds the same identity and payload again from the row; `previous` alone
 * may differ, as it says what went ahead. Structured mode follows the CloudEvents JSON format
 * 1.0.2 and the MQTT binding 1.0.2: data of a JSON type is the value itself, other text is a
 * string, bytes are base64. Nothing is converted on the way, so numbers stay digit for digit.
 */
#include "message.h"

#include <assert.h>
#include <string.h>

enum { PLAIN_PROPERTIES = 4, SEQUENCE_DIGITS = 19 };

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
static void append_json_string(struct writer *w, const char *bytes, size_t len)
{
    size_t done = 0;
    append(w, "\"", 1);
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
    append(w, "\"", 1);
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
static bool time_is_known(const struct ob_row *row)
{
    const int64_t year_2000 = 946684800000, year_10000 = 253402300800000;
    return row->has_created && row->created >= year_2000 && row->created < year_10000;
}

/* ---- The two modes --------------------------------------------------------------------------- */

static void append_source(struct writer *w, const struct ob_identity *identity)
{
    append_text(w, "outbox://");
    append_text(w, identity->device);
    append_text(w, "/");
    append_text(w, identity->lane);
    append_text(w, "/");
    append_text(w, identity->epoch.digits);
}

static void append_data(struct writer *w, const struct ob_row *row)
{
    const struct ob_value *payload = &row->payload;
    switch (payload->storage) {
    case SQLITE_NULL:
        return;
    case SQLITE_TEXT:
        append_text(w, ",\"data\":");
        if (media_of(row) == OB_MEDIA_JSON)
            append(w, payload->bytes, payload->len);
        else
            append_json_string(w, payload->bytes, payload->len);
        return;
    default:
        append_text(w, ",\"data_base64\":\"");
        append_base64(w, payload->bytes, payload->len);
        append_text(w, "\"");
        return;
    }
}

static void append_member(struct writer *w, const char *name, const struct ob_value *value)
{
    if (value->storage == SQLITE_NULL)
        return;
    append_text(w, ",\"");
    append_text(w, name);
    append_text(w, "\":");
    append_json_string(w, value->bytes, value->len);
}

/* The digits that may be written anew later. NULL where there was no room. */
static char *append_previous(struct writer *w, int64_t previous)
{
    size_t start = w->buffer->used;
    append_number(w, previous, SEQUENCE_DIGITS);
    return w->full ? NULL : w->buffer->bytes + start;
}

/* Gives the digits of `previous`. */
static char *append_document(struct writer *w, const struct ob_row *row,
                             const struct ob_identity *identity, int64_t previous)
{
    append_text(w, "{\"specversion\":\"1.0\",\"id\":\"");
    append_number(w, row->id, 1);
    append_text(w, "\",\"source\":\"");
    append_source(w, identity);
    append_text(w, "\",\"type\":");
    if (row->type.storage == SQLITE_TEXT)
        append_json_string(w, row->type.bytes, row->type.len);
    else
        append_json_string(w, default_type, sizeof default_type - 1);
    if (time_is_known(row)) {
        append_text(w, ",\"time\":\"");
        append_time(w, row->created);
        append_text(w, "\"");
    }
    append_text(w, ",\"sequence\":\"");
    append_number(w, row->id, SEQUENCE_DIGITS);
    append_text(w, "\",\"previous\":\"");
    char *digits = append_previous(w, previous);
    append_text(w, "\"");
    append_member(w, "partitionkey", &row->key);
    append_member(w, "datacontenttype", &row->content_type);
    append_data(w, row);
    append_text(w, "}");
    return digits;
}

/* Ends a string that was appended in pieces; gives its start. */
static const char *end_string(struct writer *w, size_t start)
{
    append(w, "", 1);
    return w->full ? NULL : w->buffer->bytes + start;
}

static void build_structured(struct writer *w, struct ob_message *built, const struct ob_row *row,
                             const struct ob_identity *identity, int64_t previous)
{
    outbox_message *message = &built->wire;
    size_t start = w->buffer->used;
    built->previous = append_document(w, row, identity, previous);
    message->payload = w->buffer->bytes + start;
    message->payload_len = w->buffer->used - start;
    message->content_type = structured_type;
    message->is_utf8 = 1;
}

static void build_plain(struct writer *w, struct ob_message *built, const struct ob_row *row,
                        const struct ob_identity *identity, int64_t previous)
{
    outbox_message *message = &built->wire;
    static const char *const names[PLAIN_PROPERTIES] = {"id", "source", "sequence", "previous"};
    outbox_property *properties = claim_aligned(w, PLAIN_PROPERTIES * sizeof *properties);
    for (int i = 0; i < PLAIN_PROPERTIES && properties; i++) {
        size_t start = w->buffer->used;
        if (i == 1)
            append_source(w, identity);
        else if (i == 3)
            built->previous = append_previous(w, previous);
        else
            append_number(w, row->id, i == 0 ? 1 : SEQUENCE_DIGITS);
        properties[i] = (outbox_property){names[i], end_string(w, start)};
    }
    message->properties = properties;
    message->property_count = PLAIN_PROPERTIES;
    if (row->content_type.storage == SQLITE_TEXT)
        message->content_type = append_string(w, row->content_type.bytes, row->content_type.len);
    message->is_utf8 = row->payload.storage == SQLITE_TEXT;
    message->payload = w->buffer->bytes + w->buffer->used;
    message->payload_len = row->payload.len;
    append(w, row->payload.bytes, row->payload.len);
}

const outbox_message *ob_message_build(struct ob_buffer *buffer, const struct ob_row *row,
                                       const struct ob_identity *identity, int64_t previous,
                                       outbox_mode mode)
{
    assert(ob_message_check(row) == OB_FIT);
    assert(previous >= 0 && previous < row->id);
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
        if (mode == OUTBOX_PLAIN)
            build_plain(&w, built, row, identity, previous);
        else
            build_structured(&w, built, row, identity, previous);
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

/* Text of control characters alone grows six times; attributes can do the same. A key may be there
 * once more. */
size_t ob_message_room(size_t payload_max)
{
    return 6 * payload_max + OUTBOX_TOPIC_MAX + (size_t)(4 * 6 + 1) * OUTBOX_ATTRIBUTE_MAX + 1024;
}
