/* SPDX-License-Identifier: MIT
 *
 * change.c - makes the event of a captured change, with every value exact.
 *
 * It is made when it is sent, so nothing of it is stored but in a dead letter, in the transaction
 * that makes that. After a crash the same event is made again, but for `transaction`.
 */
#include "change.h"

#include "real.h"
#include "shape.h"
#include "sql.h"

#include <assert.h>
#include <string.h>

#define INTEGER_EXACT ((int64_t)9007199254740991) /* 2^53 - 1 */

static const char json_type[] = "application/json", event_type[] = "outbox.change";

/* ---- Values ---------------------------------------------------------------------------------- */

struct render {
    sqlite3_stmt *row;
    const int16_t *place;
    int values;
    const struct ob_shape *shape;
    sqlite3_str *text;
    bool failed; /* memory ran out under a value */
};

/* RFC 8259, section 7. */
void ob_json_put_string(sqlite3_str *text, const char *bytes, size_t len)
{
    size_t done = 0;
    sqlite3_str_appendchar(text, 1, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        sqlite3_str_append(text, bytes + done, (int)(i - done));
        if (c >= 0x20)
            sqlite3_str_appendf(text, "\\%c", c);
        else
            sqlite3_str_appendf(text, "\\u%04x", c);
        done = i + 1;
    }
    sqlite3_str_append(text, bytes + done, (int)(len - done));
    sqlite3_str_appendchar(text, 1, '"');
}

/* RFC 4648, section 4. */
static void put_base64(sqlite3_str *text, const char *name, const char *bytes, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)bytes;
    sqlite3_str_appendf(text, "{\"%s\":\"", name);
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned group = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0);
        const char four[4] = {letters[group >> 18], letters[group >> 12 & 63],
                              left > 1 ? letters[group >> 6 & 63] : '=',
                              left > 2 ? letters[group & 63] : '='};
        sqlite3_str_append(text, four, sizeof four);
    }
    sqlite3_str_appendall(text, "\"}");
}

/* The bytes of a text or a blob. */
static struct ob_span bytes_of(struct render *r, int column)
{
    struct ob_span span = {NULL, 0};
    bool is_text = sqlite3_column_type(r->row, column) == SQLITE_TEXT;
    span.at = is_text ? (const char *)sqlite3_column_text(r->row, column)
                      : sqlite3_column_blob(r->row, column);
    span.len = (size_t)sqlite3_column_bytes(r->row, column);
    if (!span.at) { /* an empty blob has no bytes; a text always has */
        r->failed = r->failed || is_text || span.len > 0;
        span = (struct ob_span){"", 0};
    }
    return span;
}

static void put_text_value(struct render *r, int column, bool is_json)
{
    struct ob_span span = bytes_of(r, column);
    if (is_json ? !ob_json_is_value(span.at, span.len) : !ob_text_is_utf8(span.at, span.len))
        put_base64(r->text, "$text", span.at, span.len);
    else if (is_json)
        sqlite3_str_append(r->text, span.at, (int)span.len);
    else
        ob_json_put_string(r->text, span.at, span.len);
}

static void put_integer(struct render *r, int64_t number)
{
    bool is_text =
        r->shape->integers_as_text && (number > INTEGER_EXACT || number < -INTEGER_EXACT);
    sqlite3_str_appendf(r->text, is_text ? "{\"$integer\":\"%lld\"}" : "%lld", (long long)number);
}

/* SQLite holds no NaN, but infinity less infinity is one. */
static bool is_infinite(double number)
{
    return number - number != 0;
}

static void put_real(struct render *r, double number)
{
    char digits[OB_REAL_TEXT];
    if (is_infinite(number))
        sqlite3_str_appendf(r->text, "{\"$real\":\"%sInfinity\"}", number < 0 ? "-" : "");
    else
        sqlite3_str_append(r->text, digits, (int)ob_real_print(number, digits));
}

/* The statement's column of a value; -1: the table has no such one. */
static int column_of(const struct render *r, int value)
{
    return value >= 0 && value < r->values ? r->place[value] : -1;
}

static void put_value(struct render *r, int value, bool is_json)
{
    int column = column_of(r, value);
    switch (column < 0 ? SQLITE_NULL : sqlite3_column_type(r->row, column)) {
    case SQLITE_INTEGER:
        put_integer(r, sqlite3_column_int64(r->row, column));
        return;
    case SQLITE_FLOAT:
        put_real(r, sqlite3_column_double(r->row, column));
        return;
    case SQLITE_TEXT:
        put_text_value(r, column, is_json);
        return;
    case SQLITE_BLOB: {
        struct ob_span span = bytes_of(r, column);
        put_base64(r->text, "$blob", span.at, span.len);
        return;
    }
    default:
        sqlite3_str_appendall(r->text, "null");
    }
}

static void put_member(struct render *r, const struct ob_shape_column *column, int value,
                       bool is_first)
{
    if (!is_first)
        sqlite3_str_appendchar(r->text, 1, ',');
    ob_json_put_string(r->text, column->name.at, column->name.len);
    sqlite3_str_appendchar(r->text, 1, ':');
    put_value(r, value, column->is_json);
}

/* The row whose values begin at `from`; -1: null. */
static void put_row(struct render *r, const char *name, int from)
{
    struct ob_span rest = r->shape->columns;
    struct ob_shape_column column = {0};
    bool is_first = true;
    sqlite3_str_appendf(r->text, ",\"%s\":%s", name, from < 0 ? "null" : "{");
    if (from < 0)
        return;
    for (int i = 0; i < r->shape->count && ob_shape_cut_column(&rest, &column); i++) {
        if (column.is_hidden)
            continue;
        put_member(r, &column, from + i, is_first);
        is_first = false;
    }
    sqlite3_str_appendchar(r->text, 1, '}');
}

static void put_identity_object(struct render *r, const char *name, int from)
{
    struct ob_span rest = r->shape->identity;
    struct ob_shape_column column = {0};
    bool is_first = true;
    sqlite3_str_appendf(r->text, ",\"%s\":{", name);
    for (int place = 0;
         ob_shape_cut_number(&rest, &place) && ob_shape_place(r->shape, place, &column);) {
        put_member(r, &column, from + place, is_first);
        is_first = false;
    }
    sqlite3_str_appendchar(r->text, 1, '}');
}

/* ---- Topic and key --------------------------------------------------------------------------- */

/* A text that grows up to a limit, and is then cut. */
struct bounded {
    sqlite3_str *text;
    size_t room;
    bool is_full;
};

static void put_bounded(struct bounded *to, const char *bytes, size_t len)
{
    to->is_full = to->is_full || len > to->room;
    if (to->is_full)
        return;
    sqlite3_str_append(to->text, bytes, (int)len);
    to->room -= len;
}

/* How long a character says it is by its first byte. */
static size_t length_by_lead(unsigned char lead)
{
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Whole characters go as they are, if a topic and an attribute may hold them, others byte by
 * byte. */
static void put_escaped(struct bounded *to, struct ob_span span, bool is_front)
{
    for (size_t i = 0, step; i < span.len; i += step) {
        char escape[4];
        unsigned char c = (unsigned char)span.at[i];
        step = length_by_lead(c);
        if (step <= span.len - i && ob_text_is_attribute(span.at + i, step) &&
            !(c < 0x80 && strchr("/+#%", c)) && !(is_front && i == 0 && c == '$')) {
            put_bounded(to, span.at + i, step);
            continue;
        }
        step = 1;
        sqlite3_snprintf((int)sizeof escape, escape, "%%%02X", c);
        put_bounded(to, escape, 3);
    }
}

static void put_level(struct render *r, struct bounded *to, int value, bool is_front)
{
    char number[OB_REAL_TEXT] = "";
    int column = column_of(r, value);
    int storage = column < 0 ? SQLITE_NULL : sqlite3_column_type(r->row, column);
    struct ob_span span = {number, 0};
    if (storage == SQLITE_NULL) {
        put_bounded(to, "%-", 2);
        return;
    }
    if (storage == SQLITE_INTEGER) {
        sqlite3_snprintf((int)sizeof number, number, "%lld",
                         (long long)sqlite3_column_int64(r->row, column));
        span.len = strlen(number);
    } else if (storage == SQLITE_FLOAT) {
        double real = sqlite3_column_double(r->row, column);
        if (is_infinite(real))
            sqlite3_snprintf((int)sizeof number, number, "%sInfinity", real < 0 ? "-" : "");
        span.len = is_infinite(real) ? strlen(number) : ob_real_print(real, number);
    } else {
        span = bytes_of(r, column);
    }
    if (span.len == 0)
        put_bounded(to, "%", 1);
    else
        put_escaped(to, span, is_front);
}

static size_t put_topic(struct render *r, int from)
{
    struct bounded to = {r->text, OUTBOX_TOPIC_MAX, false};
    const char *at = r->shape->topic.at, *end = at + r->shape->topic.len;
    size_t start = (size_t)sqlite3_str_length(r->text);
    while (at < end) {
        const char *open = memchr(at, '{', (size_t)(end - at));
        const char *close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;
        const char *literal_end = close ? open : end;
        put_bounded(&to, at, (size_t)(literal_end - at));
        int place = close ? ob_shape_name(r->shape, open + 1, (size_t)(close - open - 1)) : -1;
        if (close) /* a shape of somebody else's may name what is not there */
            put_level(r, &to, place < 0 ? -1 : from + place, open == r->shape->topic.at);
        at = close ? close + 1 : end;
    }
    return (size_t)sqlite3_str_length(r->text) - start;
}

static size_t put_event_key(struct render *r, int from)
{
    struct bounded to = {r->text, OUTBOX_ATTRIBUTE_MAX, false};
    struct ob_span rest = r->shape->keys;
    size_t start = (size_t)sqlite3_str_length(r->text);
    bool is_first = true;
    for (int place = 0; ob_shape_cut_number(&rest, &place); is_first = false) {
        if (!is_first)
            put_bounded(&to, "/", 1);
        put_level(r, &to, from + place, false);
    }
    return (size_t)sqlite3_str_length(r->text) - start;
}

/* ---- The document ---------------------------------------------------------------------------- */

/* Where the values of a row begin, in rows; -1: there are none. */
struct kind {
    char letter, op;
    int before, after;
    const char *link; /* the name of the other key, which is behind */
    const char *snapshot;
};

static const struct kind *find_kind(const struct ob_row *row)
{
    static const struct kind kinds[] = {
        {'c', 'c', -1, 0, NULL, "false"},          {'u', 'u', 1, 0, NULL, "false"},
        {'d', 'd', 0, -1, NULL, "false"},          {'D', 'd', 0, -1, "key_to", "false"},
        {'C', 'c', -1, 0, "key_from", "false"},    {'r', 'r', -1, 0, NULL, "true"},
        {'f', 'r', -1, 0, NULL, "first"},          {'l', 'r', -1, 0, NULL, "last"},
        {'o', 'r', -1, 0, NULL, "first_and_last"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (row->type.storage == SQLITE_TEXT && row->type.len == 1 &&
            row->type.bytes[0] == kinds[i].letter)
            return &kinds[i];
    return NULL;
}

static void put_number_or_null(sqlite3_str *text, const char *name, bool is_known, int64_t number)
{
    sqlite3_str_appendf(text, is_known ? ",\"%s\":%lld" : ",\"%s\":null", name, (long long)number);
}

static void put_change_source(struct render *r, const struct kind *kind, const char *device)
{
    const struct ob_shape *shape = r->shape;
    sqlite3_str_appendall(r->text, ",\"source\":{\"device\":");
    ob_json_put_string(r->text, device, strlen(device));
    sqlite3_str_appendall(r->text, ",\"table\":");
    ob_json_put_string(r->text, shape->table.at, shape->table.len);
    sqlite3_str_appendf(r->text, ",\"schema\":\"%.*s\",\"snapshot\":\"%s\"}",
                        (int)shape->schema.len, shape->schema.at, kind->snapshot);
}

static void put_document(struct render *r, const struct kind *kind, const struct ob_row *row,
                         const char *device, const struct ob_group *group)
{
    int count = r->shape->count;
    sqlite3_str_appendf(r->text, "{\"op\":\"%c\"", kind->op);
    put_row(r, "before", kind->before < 0 ? -1 : kind->before * count);
    put_row(r, "after", kind->after < 0 ? -1 : kind->after * count);
    if (kind->link)
        put_identity_object(r, kind->link, count);
    put_change_source(r, kind, device);
    put_number_or_null(r->text, "ts_ms", row->has_created != 0, row->created);
    if (group->last >= row->id && group->first > 0)
        sqlite3_str_appendf(r->text, ",\"transaction\":{\"id\":%lld,\"index\":%lld,\"last\":%s}}",
                            (long long)group->last, (long long)(row->id - group->first),
                            row->id == group->last ? "true" : "false");
    else
        sqlite3_str_appendall(r->text, ",\"transaction\":null}");
}

/* ---- The row --------------------------------------------------------------------------------- */

bool ob_change_is(const struct ob_row *row)
{
    return !row->is_too_large && !row->is_tombstone && row->topic.storage == SQLITE_NULL &&
           row->payload.storage == SQLITE_INTEGER;
}

/* v1, v2 ... stand where they were added, perhaps with other columns between them. */
static int find_values(struct ob_change *change, struct ob_error *error)
{
    int columns = sqlite3_column_count(change->statement);
    if (columns == change->columns)
        return OUTBOX_OK;
    int16_t *place = sqlite3_realloc(change->place, columns * (int)sizeof *place);
    if (!place)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a change");
    change->place = place;
    change->values = 0;
    for (int i = 1; i < columns; i++) {
        char name[8];
        const char *found = sqlite3_column_name(change->statement, i);
        sqlite3_snprintf((int)sizeof name, name, "v%d", change->values + 1);
        if (!found)
            return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a change");
        if (strcmp(found, name) == 0)
            place[change->values++] = (int16_t)i;
    }
    change->columns = columns;
    return OUTBOX_OK;
}

static int open_change(struct ob_change *change, sqlite3 *db, outbox_lane lane, bool *found,
                       struct ob_error *error)
{
    static const char sql[] =
        "SELECT s.text, e.* FROM main.{table} AS e JOIN main.outbox_shape AS s"
        " ON s.shape = e.payload WHERE e.id = ?1";
    int64_t tables = 1;
    int code = OUTBOX_OK;
    if (!change->statement)
        code =
            ob_sql_number(db, "SELECT count(*) FROM main.sqlite_master WHERE name = 'outbox_shape'",
                          0, 0, 0, &tables, error);
    *found = tables > 0;
    return code == OUTBOX_OK && *found ? ob_lane_prepare(db, lane, sql, &change->statement, error)
                                       : code;
}

static struct ob_value text_value(const char *bytes, size_t len)
{
    return (struct ob_value){len > 0 ? SQLITE_TEXT : SQLITE_NULL, bytes, len};
}

/* All three texts lie one behind the other. */
static int take_text(struct ob_change *change, struct render *r, size_t topic, size_t key,
                     struct ob_row *event, struct ob_error *error)
{
    int result = sqlite3_str_errcode(r->text);
    size_t len = (size_t)sqlite3_str_length(r->text);
    sqlite3_free(change->text);
    change->text = sqlite3_str_finish(r->text);
    if (result == SQLITE_TOOBIG)
        return ob_error_set(error, OUTBOX_TOO_LARGE, "the event of a change is too large");
    if (!change->text || r->failed)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a change");
    event->topic = text_value(change->text, topic);
    event->key = text_value(change->text + topic, key);
    event->payload = text_value(change->text + topic + key, len - topic - key);
    event->type = text_value(event_type, sizeof event_type - 1);
    event->content_type = text_value(json_type, sizeof json_type - 1);
    return OUTBOX_OK;
}

static int render_row(struct ob_change *change, const struct ob_row *row, const char *device,
                      const struct ob_group *group, struct ob_row *event, struct ob_error *error)
{
    const struct kind *kind = find_kind(row);
    struct ob_shape shape;
    const char *text;
    size_t len;
    int code = ob_sql_text(change->statement, 0, &text, &len, error);
    if (code == OUTBOX_OK)
        code = find_values(change, error);
    if (code != OUTBOX_OK)
        return code;
    if (!kind || !text || !ob_shape_read(text, len, &shape))
        return ob_error_set(error, OUTBOX_BAD_PAYLOAD, "event %lld is no change that can be read",
                            (long long)row->id);
    struct render r = {.row = change->statement,
                       .place = change->place,
                       .values = change->values,
                       .shape = &shape,
                       .text = sqlite3_str_new(sqlite3_db_handle(change->statement))};
    size_t topic = put_topic(&r, 0), key = put_event_key(&r, 0);
    put_document(&r, kind, row, device, group);
    return take_text(change, &r, topic, key, event, error);
}

int ob_change_render(struct ob_change *change, sqlite3 *db, outbox_lane lane,
                     const struct ob_row *row, const char *device, const struct ob_group *group,
                     struct ob_row *event, struct ob_error *error)
{
    bool found, is_row = false;
    *event = *row;
    int code = open_change(change, db, lane, &found, error);
    if (code != OUTBOX_OK)
        return code;
    if (found) {
        ob_sql_bind_number(change->statement, 1, row->id);
        code = ob_sql_step(change->statement, &is_row, error, "reading a change");
    }
    /* The table of shapes may be gone: looked for by the next call. */
    const bool is_lost = code == OUTBOX_SQLITE;
    if (code == OUTBOX_OK)
        code = is_row ? render_row(change, row, device, group, event, error)
                      : ob_error_set(error, OUTBOX_BAD_PAYLOAD,
                                     "event %lld names no shape there is", (long long)row->id);
    ob_sql_done(&change->statement, change->small_heap || is_lost);
    return code;
}

void ob_change_close(struct ob_change *change)
{
    (void)sqlite3_finalize(change->statement); /* repeats what the last step said */
    sqlite3_free(change->place);
    sqlite3_free(change->text);
    *change = (struct ob_change){.small_heap = change->small_heap};
}

/* ---- Dead letters ---------------------------------------------------------------------------- */

static struct ob_value column_value(sqlite3_stmt *statement, int column)
{
    struct ob_value value = {.storage = sqlite3_column_type(statement, column)};
    if (value.storage == SQLITE_TEXT) {
        value.bytes = (const char *)sqlite3_column_text(statement, column);
        value.len = value.bytes ? (size_t)sqlite3_column_bytes(statement, column) : 0;
    }
    return value;
}

static int bind_value(sqlite3_stmt *statement, int index, const struct ob_value *value)
{
    return value->storage == SQLITE_NULL
               ? sqlite3_bind_null(statement, index)
               : sqlite3_bind_text64(statement, index, value->bytes, value->len, SQLITE_STATIC,
                                     SQLITE_UTF8);
}

static int store_dead(sqlite3 *db, int64_t number, const struct ob_row *event,
                      struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = ob_sql_prepare(db,
                              "UPDATE main.outbox_dead SET topic = ?2, payload = ?3, type = ?4,"
                              " content_type = ?5, key = ?6 WHERE number = ?1",
                              &statement, error);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, number);
    const struct ob_value *values[] = {&event->topic, &event->payload, &event->type,
                                       &event->content_type, &event->key};
    int bound = SQLITE_OK;
    for (int i = 0; i < 5 && bound == SQLITE_OK; i++)
        bound = bind_value(statement, i + 2, values[i]);
    code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, error, "completing a dead letter")
                              : ob_error_sqlite(error, db, bound, "binding a dead letter");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* The values alone, as far as there are any: what they mean was in the shape. */
static int store_values(sqlite3 *db, const struct ob_change *change, sqlite3_stmt *dead,
                        struct ob_error *error)
{
    const struct ob_shape none = {0};
    struct ob_row event = {.type = column_value(dead, 2)};
    struct render r = {
        .row = change->statement, .place = change->place, .values = change->values, .shape = &none};
    int count = change->values;
    while (count > 0 &&
           sqlite3_column_type(change->statement, change->place[count - 1]) == SQLITE_NULL)
        count--;
    if (count == 0)
        return OUTBOX_OK;
    r.text = sqlite3_str_new(NULL);
    sqlite3_str_appendf(r.text,
                        "{\"shape\":%lld,\"values\":", (long long)sqlite3_column_int64(dead, 4));
    for (int i = 0; i < count; i++) {
        sqlite3_str_appendchar(r.text, 1, i > 0 ? ',' : '[');
        put_value(&r, i, false);
    }
    sqlite3_str_appendall(r.text, "]}");
    size_t len = (size_t)sqlite3_str_length(r.text);
    char *text = sqlite3_str_finish(r.text);
    event.topic = event.key = text_value(NULL, 0);
    event.payload = text_value(text, len);
    event.content_type = text_value(json_type, sizeof json_type - 1);
    int code = text && !r.failed
                   ? store_dead(db, sqlite3_column_int64(dead, 0), &event, error)
                   : ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a change");
    sqlite3_free(text);
    return code;
}

/* A row whose shape is not there, or cannot be read. Its values must not vanish with it. */
static int keep_values(sqlite3 *db, outbox_lane lane, sqlite3_stmt *dead, struct ob_error *error)
{
    struct ob_change change = {0};
    bool row = false;
    int code = ob_lane_prepare(db, lane, "SELECT NULL, * FROM main.{table} WHERE id = ?1",
                               &change.statement, error);
    if (code == OUTBOX_OK) {
        ob_sql_bind_number(change.statement, 1, sqlite3_column_int64(dead, 1));
        code = ob_sql_step(change.statement, &row, error, "reading a change");
    }
    if (code == OUTBOX_OK && row)
        code = find_values(&change, error);
    if (code == OUTBOX_OK && row)
        code = store_values(db, &change, dead, error);
    ob_change_close(&change);
    return code;
}

/* What cannot be rendered stays as it was copied, with its values. */
static int complete(sqlite3 *db, outbox_lane lane, sqlite3_stmt *dead, const char *device,
                    struct ob_error *error)
{
    struct ob_change change = {0};
    const struct ob_group unknown = {0, 0};
    struct ob_row event, row = {.id = sqlite3_column_int64(dead, 1),
                                .type = column_value(dead, 2),
                                .has_created = sqlite3_column_type(dead, 3) == SQLITE_INTEGER,
                                .created = sqlite3_column_int64(dead, 3)};
    int code = ob_change_render(&change, db, lane, &row, device, &unknown, &event, error);
    if (code == OUTBOX_OK)
        code = store_dead(db, sqlite3_column_int64(dead, 0), &event, error);
    else if (code == OUTBOX_BAD_PAYLOAD)
        code = keep_values(db, lane, dead, error);
    else if (code == OUTBOX_TOO_LARGE)
        code = OUTBOX_OK;
    ob_change_close(&change);
    return code;
}

int ob_change_complete_dead(sqlite3 *db, outbox_lane lane, int64_t count, struct ob_error *error)
{
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    sqlite3_stmt *statement = NULL;
    bool row = true;
    int code = ob_sql_prepare(db,
                              "SELECT number, id, type, created, payload FROM main.outbox_dead"
                              " WHERE number > (SELECT max(number) FROM main.outbox_dead) - ?1"
                              " AND topic IS NULL AND typeof(payload) = 'integer'",
                              &statement, error);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, count);
    device[0] = '\0';
    while (code == OUTBOX_OK && row) {
        code = ob_sql_step(statement, &row, error, "looking for changes among the dead letters");
        if (code == OUTBOX_OK && row && device[0] == '\0')
            code = ob_schema_device(db, device, error);
        if (code == OUTBOX_OK && row)
            code = complete(db, lane, statement, device, error);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}
