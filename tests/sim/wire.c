/* SPDX-License-Identifier: MIT
 *
 * wire.c - reads what the core hands to the link, in all modes, as a recipient would.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

bool wire_open(struct sim *sim)
{
    static const char sql[] =
        "SELECT json_extract(?1, '$.id'), json_extract(?1, '$.previous'),"
        " json_extract(?1, '$.source'), json_quote(json_extract(?1, '$.data')),"
        " json_extract(?1, '$.data_base64'), json_extract(?1, '$.data'),"
        " json_extract(?1, '$.sequence'), json_extract(?1, '$.type'),"
        " json_extract(?1, '$.partitionkey'), json_extract(?1, '$.datacontenttype'),"
        " json_extract(?1, '$.correlationid')";
    return sqlite3_open_v2(":memory:", &sim->judge, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
           sqlite3_prepare_v2(sim->judge, sql, -1, &sim->reads_document, NULL) == SQLITE_OK;
}

void wire_close(struct sim *sim)
{
    (void)sqlite3_finalize(sim->reads_document);
    (void)sqlite3_close(sim->judge);
}

static bool read_structured(struct sim *sim, const outbox_message *message, const char *type,
                            struct wire *wire)
{
    sqlite3_stmt *s = sim->reads_document;
    (void)sqlite3_reset(s);
    if (sqlite3_bind_text(s, 1, message->payload, (int)message->payload_len, SQLITE_STATIC) !=
            SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        return false;
    int column = type && strcmp(type, "application/json") == 0 ? 3 : type ? 5 : 4;
    wire->id = sqlite3_column_int64(s, 0);
    wire->previous = sqlite3_column_int64(s, 1);
    wire->source = (const char *)sqlite3_column_text(s, 2);
    wire->sequence = (const char *)sqlite3_column_text(s, 6);
    wire->type = (const char *)sqlite3_column_text(s, 7);
    wire->key = (const char *)sqlite3_column_text(s, 8);
    wire->content_type = (const char *)sqlite3_column_text(s, 9);
    wire->correlation = (const char *)sqlite3_column_text(s, 10);
    wire->has_data = sqlite3_column_type(s, column) != SQLITE_NULL;
    wire->data = sqlite3_column_text(s, column);
    wire->size = (size_t)sqlite3_column_bytes(s, column);
    wire->is_base64 = column == 4;
    return wire->source && wire->sequence;
}

static bool read_properties(const outbox_message *message, struct wire *wire)
{
    *wire = (struct wire){.has_data = true,
                          .data = message->payload,
                          .size = message->payload_len,
                          .content_type = message->content_type};
    const char *id = NULL, *previous = NULL;
    const struct {
        const char *name, **value;
    } known[] = {{"id", &id},
                 {"previous", &previous},
                 {"type", &wire->type},
                 {"source", &wire->source},
                 {"sequence", &wire->sequence},
                 {"partitionkey", &wire->key},
                 {"correlationid", &wire->correlation}};
    for (size_t i = 0; i < message->property_count; i++)
        for (size_t j = 0; j < sizeof known / sizeof known[0]; j++)
            if (strcmp(message->properties[i].name, known[j].name) == 0)
                *known[j].value = message->properties[i].value;
    if (id && previous) {
        wire->id = strtoll(id, NULL, 10);
        wire->previous = strtoll(previous, NULL, 10);
    }
    return id && previous && wire->source && wire->sequence;
}

static size_t to_base64(const uint8_t *from, size_t size, char *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = 0;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;
        three |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
        three |= i + 2 < size ? from[i + 2] : 0;
        to[length++] = digits[three >> 18];
        to[length++] = digits[three >> 12 & 63];
        to[length++] = i + 1 < size ? digits[three >> 6 & 63] : '=';
        to[length++] = i + 2 < size ? digits[three & 63] : '=';
    }
    return length;
}

bool wire_has_body(const struct sim *sim, uint32_t event, const struct wire *wire)
{
    const struct model_event *e = &sim->model.events[event - 1];
    if (e->body == BODY_CHANGE)
        return wire->has_data && change_has_body(&sim->model, e, wire->data, wire->size);
    uint8_t *body = malloc(e->size + 1);
    char *text = malloc(e->size * 2 + 8);
    if (!body || !text)
        abort();
    model_body(&sim->model, event, body);
    const void *expected = body;
    size_t size = e->size;
    if (wire->is_base64) {
        size = to_base64(body, e->size, text);
        expected = text;
    }
    bool same = (wire->has_data || size == 0) && wire->size == size &&
                (size == 0 || memcmp(wire->data, expected, size) == 0);
    free(body);
    free(text);
    return same;
}

bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The plain mode leaves out the type. */
bool wire_has_attributes(const struct sim *sim, const outbox_message *message,
                         const struct wire *wire, uint32_t event)
{
    const struct model_event *e = &sim->model.events[event - 1];
    const char *type = model_type(e);
    bool structured = sim->settings.forwarder.mode == OUTBOX_STRUCTURED;
    bool plain = sim->settings.forwarder.mode == OUTBOX_PLAIN;
    char sequence[24];
    sqlite3_snprintf(sizeof sequence, sequence, "%019lld", (long long)e->id);
    return is_same_text(wire->sequence, sequence) &&
           is_same_text(wire->content_type, model_content_type(e->body)) &&
           (message->retain != 0) == model_is_retained(e) &&
           message->is_utf8 == (structured || e->body != BODY_BYTES) &&
           is_same_text(wire->key, model_key(e)) &&
           is_same_text(wire->correlation, model_correlation(e)) &&
           (plain || is_same_text(wire->type, type ? type : "outbox.event"));
}

bool wire_read(struct sim *sim, const outbox_message *message, const char *content_type,
               struct wire *wire)
{
    return sim->settings.forwarder.mode == OUTBOX_STRUCTURED
               ? read_structured(sim, message, content_type, wire)
               : read_properties(message, wire);
}

bool wire_lane(const struct wire *wire, outbox_lane *lane)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        char start[64];
        *lane = (outbox_lane)i;
        sqlite3_snprintf(sizeof start, start, "outbox://sim/%s/", lane_name(*lane));
        if (strncmp(wire->source, start, strlen(start)) == 0)
            return true;
    }
    return false;
}
