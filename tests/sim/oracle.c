/* SPDX-License-Identifier: MIT
 *
 * oracle.c - what may be true: judges what is sent, what is accepted, what is there after a restart,
 * and what is left at the end. It reads what the core writes and never what the core thinks.
 */
#include "sim.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Codes: I13 -------------------------------------------------------------------------------------------- */

#define BIT(code) (1u << -(code))
#define DATABASE                                                                                   \
    (BIT(OUTBOX_OK) | BIT(OUTBOX_BUSY) | BIT(OUTBOX_DISK_FULL) | BIT(OUTBOX_READONLY) |            \
     BIT(OUTBOX_CORRUPT) | BIT(OUTBOX_NO_MEMORY) | BIT(OUTBOX_SQLITE))

void oracle_code(struct sim *sim, const char *call, int code)
{
    static const struct {
        const char *call;
        unsigned codes;
    } lists[] = {
        {"attach", DATABASE},
        {"put", DATABASE | BIT(OUTBOX_TOO_LARGE) | BIT(OUTBOX_BAD_PAYLOAD)},
        {"init", DATABASE},
        {"step", DATABASE | BIT(OUTBOX_LINK) | BIT(OUTBOX_REFUSED) | BIT(OUTBOX_NOT_DURABLE)},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(lists[i].call, call) == 0 &&
            (code > 0 || code < -31 || !(lists[i].codes & BIT(code))))
            breaks(sim, CONTRACT, "%s answered %d", call, code);
}

/* ---- What is sent: I2, I3, I4, I5 ---------------------------------------------------------------------------- */

/* What an event says of itself on the wire. */
struct wire {
    int64_t id, previous;
    const char *source, *sequence;
    const char *type, *key, *content_type; /* NULL: none */
    bool has_data;
    const void *data;
    size_t size;
    bool is_base64;
};

bool oracle_open(struct sim *sim)
{
    static const char sql[] =
        "SELECT json_extract(?1, '$.id'), json_extract(?1, '$.previous'),"
        " json_extract(?1, '$.source'), json_quote(json_extract(?1, '$.data')),"
        " json_extract(?1, '$.data_base64'), json_extract(?1, '$.data'),"
        " json_extract(?1, '$.sequence'), json_extract(?1, '$.type'),"
        " json_extract(?1, '$.partitionkey'), json_extract(?1, '$.datacontenttype')";
    return sqlite3_open_v2(":memory:", &sim->judge, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
           sqlite3_prepare_v2(sim->judge, sql, -1, &sim->reads_document, NULL) == SQLITE_OK;
}

void oracle_close(struct sim *sim)
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
    wire->has_data = sqlite3_column_type(s, column) != SQLITE_NULL;
    wire->data = sqlite3_column_text(s, column);
    wire->size = (size_t)sqlite3_column_bytes(s, column);
    wire->is_base64 = column == 4;
    return wire->source && wire->sequence;
}

static bool read_plain(const outbox_message *message, struct wire *wire)
{
    *wire = (struct wire){.has_data = true,
                          .data = message->payload,
                          .size = message->payload_len,
                          .content_type = message->content_type};
    for (size_t i = 0; i < message->property_count; i++) {
        const outbox_property *property = &message->properties[i];
        if (strcmp(property->name, "id") == 0)
            wire->id = strtoll(property->value, NULL, 10);
        else if (strcmp(property->name, "previous") == 0)
            wire->previous = strtoll(property->value, NULL, 10);
        else if (strcmp(property->name, "source") == 0)
            wire->source = property->value;
        else if (strcmp(property->name, "sequence") == 0)
            wire->sequence = property->value;
    }
    return wire->source && wire->sequence;
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

static bool has_body(const struct sim *sim, uint32_t event, const struct wire *wire)
{
    const struct model_event *e = &sim->model.events[event - 1];
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

/* A new epoch begins for good: what was sent with its source must not be followed by another one's. */
static void check_identity(struct sim *sim, struct talk *talk, const struct wire *wire)
{
    struct model *model = &sim->model;
    if (strcmp(model->source, wire->source) == 0)
        return;
    bool is_old = false;
    for (unsigned i = 0; i < model->retired_count; i++)
        is_old = is_old || strcmp(model->retired[i], wire->source) == 0;
    if (is_old || (model->source[0] && model->epochs_to_come == 0)) {
        breaks(sim, NO_INVENTION, "the source changed from %s to %s", model->source, wire->source);
        return;
    }
    if (model->source[0]) {
        assert(model->retired_count < SOURCES);
        memcpy(model->retired[model->retired_count++], model->source, sizeof model->source);
        model->epochs_to_come--;
        model->epoch_first = wire->id;
        talk->last_id = 0;
        talk->duplicates = 0;
    }
    sqlite3_snprintf(sizeof model->source, model->source, "%s", wire->source);
}

static void check_fate(struct sim *sim, uint32_t event)
{
    struct model *model = &sim->model;
    struct model_event *e = model_event(model, event);
    if (e->fate == IN_DOUBT) /* it was seen, so it is committed; if that is false, it shows later */
        model_commit(model, e->transaction);
    if (e->fate != COMMITTED)
        breaks(sim, NO_PHANTOM, "event %" PRId64 " is sent and its transaction %u did not commit",
               e->id, e->transaction);
    else if (e->order > model->durable)
        model->durable = e->order; /* from now on it must not vanish */
    if (e->body == BODY_UNFIT)
        breaks(sim, NO_INVENTION, "event %" PRId64 " is not fit to be sent", e->id);
}

/* What is sent and not settled: the forwarder's ring, whose size is a power of two. */
static unsigned window_capacity(const struct sim *sim)
{
    const outbox_forwarder_config *config = &sim->settings.forwarder;
    unsigned capacity = 16;
    while (capacity < 2 * config->window + config->settle_batch)
        capacity *= 2;
    return capacity;
}

static void check_order(struct sim *sim, struct talk *talk, uint32_t event)
{
    struct model_event *e = model_event(&sim->model, event);
    if (e->id <= talk->last_id)
        breaks(sim, e->connection == talk->connection ? DUPLICATES : ORDER,
               "event %" PRId64 " is sent behind %" PRId64 " in one connection", e->id,
               talk->last_id);
    if (e->id <= sim->model.floor)
        breaks(sim, DUPLICATES, "event %" PRId64 " is sent again, and %" PRId64 " had left", e->id,
               sim->model.floor);
    if (e->is_accepted)
        talk->duplicates++;
    if (sim->cuts + sim->kills == 0 && !sim->was_meddled_with &&
        talk->duplicates > window_capacity(sim))
        breaks(sim, DUPLICATES, "%u events were sent again after one reconnect", talk->duplicates);
    talk->last_id = e->id;
    e->connection = talk->connection;
}

/* All that lies in order before it was accepted, so `previous` must name the last of that. */
static void check_previous(struct sim *sim, uint32_t event, int64_t previous)
{
    struct model *model = &sim->model;
    uint32_t order = model_event(model, event)->order;
    int64_t expected = 0;
    for (uint32_t i = order - 1; i > 0 && expected == 0; i--) {
        const struct model_event *e = model_event(model, model->order[i - 1]);
        if (e->id < model->epoch_first)
            break; /* of another epoch */
        if (!e->is_parked)
            expected = e->id;
    }
    if (order > 0 && previous != expected)
        breaks(sim, ORDER, "event %" PRId64 " names %" PRId64 " as the one before, not %" PRId64,
               model_event(model, event)->id, previous, expected);
}

static bool read_wire(struct sim *sim, const outbox_message *message, const char *content_type,
                      struct wire *wire)
{
    return sim->settings.forwarder.mode == OUTBOX_STRUCTURED
               ? read_structured(sim, message, content_type, wire)
               : read_plain(message, wire);
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* What travels beside the body; the plain mode leaves out what CloudEvents alone know. */
static bool has_attributes(const struct sim *sim, const outbox_message *message,
                           const struct wire *wire, uint32_t event)
{
    const struct model_event *e = &sim->model.events[event - 1];
    const char *type = model_type(event);
    bool structured = sim->settings.forwarder.mode == OUTBOX_STRUCTURED;
    char sequence[24];
    sqlite3_snprintf(sizeof sequence, sequence, "%019lld", (long long)e->id);
    return is_same(wire->sequence, sequence) &&
           is_same(wire->content_type, model_content_type(e->body)) &&
           (message->retain != 0) == model_is_retained(event) &&
           message->is_utf8 == (structured || e->body != BODY_BYTES) &&
           (!structured || (is_same(wire->key, model_key(event)) &&
                            is_same(wire->type, type ? type : "outbox.event")));
}

static bool is_that(struct sim *sim, const outbox_message *message, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct wire wire = {0};
    char topic[16];
    sqlite3_snprintf(sizeof topic, topic, "s/%u", e->stream);
    return strcmp(topic, message->topic) == 0 &&
           read_wire(sim, message, model_content_type(e->body), &wire) &&
           has_body(sim, event, &wire) && has_attributes(sim, message, &wire, event);
}

/* The event of that id; where several transactions in doubt gave it out, the one it really is. */
static uint32_t identify(struct sim *sim, const outbox_message *message, int64_t id)
{
    struct model *model = &sim->model;
    uint32_t owner = model_owner(model, id);
    if (owner && is_that(sim, message, owner))
        return owner;
    for (uint32_t event = model->event_count; event > 0; event--) {
        const struct model_event *e = model_event(model, event);
        if (e->id != id || e->fate != IN_DOUBT || !is_that(sim, message, event))
            continue;
        model_named(model, event, id);
        return event;
    }
    breaks(sim, NO_INVENTION, "id %" PRId64 " is sent to %s as %.*s, which nobody stored so", id,
           message->topic, (int)message->payload_len, (const char *)message->payload);
    return 0;
}

uint32_t oracle_published(struct sim *sim, struct talk *talk, const outbox_message *message)
{
    struct wire wire = {0};
    uint32_t event = 0;
    if (!read_wire(sim, message, NULL, &wire)) {
        breaks(sim, NO_INVENTION, "a message cannot be read: %.*s", (int)message->payload_len,
               (const char *)message->payload);
        return 0;
    }
    check_identity(sim, talk, &wire);
    event = identify(sim, message, wire.id);
    if (event) {
        check_fate(sim, event);
        check_order(sim, talk, event);
        check_previous(sim, event, wire.previous);
    }
    (void)sqlite3_reset(sim->reads_document);
    return event;
}

/* ---- What the forwarder has heard: I5 ------------------------------------------------------------------------------ */

/* Forgets what a former start of the forwarder knew, or what it knew under another source. */
static void update_heard(struct sim *sim)
{
    struct model *model = &sim->model;
    if (model->heard_by != sim->node.starts || model->heard_in != model->retired_count) {
        /* After a cut nobody knows what has left the table before it was read once more. */
        model->heard = sim->recovery == AFTER_CUT ? 0 : model->settled;
        for (uint32_t event = 1; event <= model->event_count; event++)
            model_event(model, event)->acked = 0;
    }
    model->heard_by = sim->node.starts;
    model->heard_in = model->retired_count;
}

/* An unbroken run of PUBACKs from the front, all in one connection, outlives it: what was heard of
 * must not be sent again, not even behind a reconnect. */
static void hear(struct sim *sim, uint32_t event)
{
    struct model *model = &sim->model;
    update_heard(sim);
    model_event(model, event)->acked = sim->link.talk.connection;
    while (model->heard < model->order_count) {
        const struct model_event *e = model_event(model, model->order[model->heard]);
        if (!e->is_parked && e->acked != sim->link.talk.connection)
            return;
        model->heard++;
    }
}

static void check_alone(struct sim *sim)
{
    struct link *link = &sim->link;
    if (link->refused_to != sim->node.starts || link->refused_in != sim->model.retired_count ||
        (link->refused && model_event(&sim->model, link->refused)->is_accepted))
        link->refused = 0;
    if (link->refused && link->unacked > 1)
        breaks(sim, CALM, "%u events are in flight, and %" PRId64 " was refused", link->unacked,
               model_event(&sim->model, link->refused)->id);
}

void oracle_sent(struct sim *sim, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    update_heard(sim);
    if (e->order > 0 && e->order <= sim->model.heard)
        breaks(sim, DUPLICATES, "event %" PRId64 " is sent again behind its PUBACK", e->id);
    check_alone(sim);
}

void oracle_answered(struct sim *sim, uint32_t event, int reason)
{
    struct link *link = &sim->link;
    if (reason < 0x80) {
        hear(sim, event);
        return;
    }
    link->refused = event;
    link->refused_to = sim->node.starts;
    link->refused_in = sim->model.retired_count;
}

/* ---- What the broker takes ------------------------------------------------------------------------------------------ */

/* Passes what is parked, so that `next` is an event that must be accepted. */
static void pass_parked(struct model *model)
{
    while (model->next <= model->order_count &&
           model_event(model, model->order[model->next - 1])->is_parked)
        model->next++;
}

void oracle_accepted(struct sim *sim, const struct talk *talk, uint32_t event)
{
    struct model *model = &sim->model;
    struct model_event *e = model_event(model, event);
    if (e->fate != COMMITTED)
        return; /* said already */
    pass_parked(model);
    if (e->order == model->next) {
        e->is_accepted = true;
        model->next++;
    } else if (e->order < model->next && !e->is_accepted) {
        breaks(sim, ORDER, "event %" PRId64 " is accepted behind later ones", e->id);
    } else if (e->order > model->next && !talk->refused_one) {
        breaks(sim, ORDER, "event %" PRId64 " is accepted, and %" PRId64 " before it was not",
               e->id, model_event(model, model->order[model->next - 1])->id);
    }
}

/* ---- What has left: I1 ------------------------------------------------------------------------------------------ */

static void check_left(struct sim *sim, int64_t id)
{
    struct model *model = &sim->model;
    while (model->settled < model->order_count) {
        const struct model_event *e = model_event(model, model->order[model->settled]);
        if (e->id > id)
            return;
        if (!e->is_accepted && !e->is_parked) {
            breaks(sim, NO_LOSS, "event %" PRId64 " has left the table and no broker has it",
                   e->id);
            return;
        }
        model->settled++;
    }
}

void oracle_after_step(struct sim *sim, int code, uint32_t next_ms)
{
    outbox_statistics now = {0};
    oracle_code(sim, "step", code);
    outbox_forwarder_stats(sim->node.forwarder, &now);
    check_left(sim, now.sending[OUTBOX_NORMAL].settled_id);
    if (next_ms > 1u << 29)
        breaks(sim, CONTRACT, "the step wants to be called in %u ms", next_ms);
    if (now.in_flight > sim->settings.forwarder.window ||
        now.in_flight > (sim->link.is_open ? sim->link.receive_maximum : 0))
        breaks(sim, CALM, "%u events are in flight", now.in_flight);
    if (device_locks(&sim->device, sim->profile->one_connection ? PROCESS_APP : PROCESS_FORWARDER,
                     sim->settings.is_wal) > 0 &&
        sim->device.is_alive[PROCESS_FORWARDER] && sim->device.powered &&
        (!sim->profile->one_connection || sqlite3_get_autocommit(sim->node.db)))
        breaks(sim, ISOLATION, "the forwarder holds a lock after its step");
}

/* ---- What is there: I1, I2, I6 ------------------------------------------------------------------------------------ */

struct found {
    uint8_t *transactions; /* by number: in the ledger */
    uint8_t *rows;         /* by event: in the table */
    int64_t tombstone, lowest;
    bool failed;
};

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    return sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK ? statement : NULL;
}

static void find_transactions(struct sim *sim, sqlite3 *db, struct found *found)
{
    int result = SQLITE_ERROR;
    sqlite3_stmt *s = prepare(db, "SELECT tx FROM ledger");
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t tx = sqlite3_column_int64(s, 0);
        if (tx < 1 || tx > sim->model.transaction_count)
            breaks(sim, ATOMICITY, "the ledger has a transaction %" PRId64, tx);
        else
            found->transactions[tx] = 1;
    }
    found->failed = found->failed || result != SQLITE_DONE;
    (void)sqlite3_finalize(s);
}

static const char *text(sqlite3_stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s, column);
}

/* Columns from 2: payload, topic, content type, type, key, retain. */
static bool is_as_stored(const struct sim *sim, uint32_t event, sqlite3_stmt *s)
{
    const struct model_event *e = &sim->model.events[event - 1];
    struct wire wire = {.has_data = true, .size = (size_t)sqlite3_column_bytes(s, 2)};
    const char *topic = (const char *)sqlite3_column_text(s, 3);
    char expected[16];
    sqlite3_snprintf(sizeof expected, expected, "s/%u", e->stream);
    wire.data = sqlite3_column_blob(s, 2);
    return topic && strcmp(topic, expected) == 0 && has_body(sim, event, &wire) &&
           is_same(text(s, 4), model_content_type(e->body)) &&
           is_same(text(s, 5), model_type(event)) && is_same(text(s, 6), model_key(event)) &&
           (sqlite3_column_int(s, 7) != 0) == model_is_retained(event);
}

/* An event in doubt whose id was given to another since, and which is there in place of that. */
static uint32_t find_in_doubt(struct sim *sim, int64_t id, sqlite3_stmt *s)
{
    struct model *model = &sim->model;
    for (uint32_t event = model->event_count; event > 0; event--) {
        const struct model_event *e = model_event(model, event);
        if (e->id != id || e->fate != IN_DOUBT || !is_as_stored(sim, event, s))
            continue;
        model_named(model, event, id);
        return event;
    }
    return 0;
}

static void find_rows(struct sim *sim, sqlite3 *db, struct found *found)
{
    int result = SQLITE_ERROR;
    sqlite3_stmt *s =
        prepare(db, "SELECT id, ledger IS NOT NULL, payload, topic, content_type, type, key, retain"
                    " FROM outbox_event ORDER BY id");
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(s, 0);
        uint32_t event = model_owner(&sim->model, id);
        if (found->lowest == 0)
            found->lowest = id;
        if (sqlite3_column_int(s, 1)) {
            found->tombstone = id;
            continue;
        }
        if (!event || !is_as_stored(sim, event, s))
            event = find_in_doubt(sim, id, s);
        if (event)
            found->rows[event] = 1;
        else
            breaks(sim, NO_INVENTION, "row %" PRId64 " is not what anybody stored", id);
    }
    found->failed = found->failed || result != SQLITE_DONE;
    (void)sqlite3_finalize(s);
}

/* Whether the transaction is there; one without a ledger row is if its event's row is. */
static bool is_there(struct sim *sim, const struct found *found, uint32_t number)
{
    struct model *model = &sim->model;
    const struct model_transaction *t = model_transaction(model, number);
    if (t->has_ledger || t->first == 0)
        return found->transactions[number] != 0;
    const struct model_event *e = model_event(model, t->first);
    return found->rows[t->first] || (t->fate == COMMITTED && e->id <= found->tombstone);
}

static void check_whole(struct sim *sim, const struct found *found, uint32_t number, bool there)
{
    struct model *model = &sim->model;
    uint32_t event = model_transaction(model, number)->first;
    for (; event; event = model_event(model, event)->next_in_transaction) {
        const struct model_event *e = model_event(model, event);
        bool may_be_gone = e->id <= found->tombstone;
        if (there && e->fate != ABORTED && !found->rows[event] && !may_be_gone)
            breaks(sim, ATOMICITY, "transaction %u is there, its event %" PRId64 " is not", number,
                   e->id);
        if ((!there || e->fate == ABORTED) && found->rows[event])
            breaks(sim, ATOMICITY, "transaction %u is not there, its event %" PRId64 " is", number,
                   e->id);
    }
}

/* A committed transaction is gone. Allowed for those that were not durable, from the end, unsent. */
static void lose(struct sim *sim, uint32_t number, uint32_t *first_lost)
{
    struct model *model = &sim->model;
    uint32_t event = model_transaction(model, number)->first;
    for (; event; event = model_event(model, event)->next_in_transaction) {
        struct model_event *e = model_event(model, event);
        if (e->fate != COMMITTED)
            continue;
        if (e->connection > 0)
            breaks(sim, NO_PHANTOM, "event %" PRId64 " was sent and transaction %u is gone", e->id,
                   number);
        else if (e->order <= model->durable)
            breaks(sim, NO_LOSS, "event %" PRId64 " was durable and is gone", e->id);
        if (e->order && e->order < *first_lost)
            *first_lost = e->order;
    }
    tell(sim, "transaction %u is gone, as it may be", number);
}

static void resolve_each(struct sim *sim, const struct found *found, bool power_was_cut)
{
    struct model *model = &sim->model;
    uint32_t first_lost = UINT32_MAX, last_kept = 0;
    for (uint32_t number = 1; number <= model->transaction_count; number++) {
        struct model_transaction *t = model_transaction(model, number);
        bool there = is_there(sim, found, number);
        check_whole(sim, found, number, there);
        if (t->fate == COMMITTED && !there)
            lose(sim, number, &first_lost);
        for (uint32_t event = t->first; event && there && t->fate == COMMITTED;
             event = model_event(model, event)->next_in_transaction)
            if (model_event(model, event)->order > last_kept)
                last_kept = model_event(model, event)->order;
        if (t->fate == ABORTED && there)
            breaks(sim, ATOMICITY, "transaction %u was rolled back and is there", number);
    }
    if (first_lost < last_kept)
        breaks(sim, NO_LOSS, "what was lost is not the end of what was committed");
    if (sim->broken != NO_INVARIANT)
        return;
    if (first_lost != UINT32_MAX)
        model_forget_order(model, first_lost);
    for (uint32_t number = 1; number <= model->transaction_count; number++) {
        enum fate fate = model_transaction(model, number)->fate;
        bool there = is_there(sim, found, number);
        if (fate == IN_DOUBT && there) {
            tell(sim, "transaction %u, which was in doubt, is there", number);
            model_commit(model, number);
        } else if (!there && fate != ABORTED && (fate != IN_DOUBT || power_was_cut)) {
            model_abort(model, number); /* in doubt: the next power cut may still bring it back */
        }
    }
}

bool oracle_resolve(struct sim *sim, sqlite3 *db, bool power_was_cut)
{
    struct model *model = &sim->model;
    struct found found = {.transactions = calloc(model->transaction_count + 1, 1),
                          .rows = calloc(model->event_count + 1, 1)};
    if (!found.transactions || !found.rows)
        abort();
    find_transactions(sim, db, &found);
    find_rows(sim, db, &found);
    if (model->epoch_changes && found.tombstone == 0 && found.lowest > 0)
        found.tombstone = found.lowest - 1; /* somebody deleted it; nothing else left since */
    if (!found.failed) {
        if (power_was_cut)
            model->settled = 0; /* a settle may be undone */
        check_left(sim, found.tombstone);
        resolve_each(sim, &found, power_was_cut);
        if (power_was_cut && sim->broken == NO_INVARIANT) {
            model->durable = model->order_count;
            model->floor = found.tombstone;
        }
    }
    free(found.transactions);
    free(found.rows);
    return !found.failed;
}

/* ---- The end ---------------------------------------------------------------------------------------------------------- */

bool oracle_is_drained(const struct sim *sim)
{
    const struct model *model = &sim->model;
    return model->settled == model->order_count;
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = prepare(db, sql);
    int64_t value = s && sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
    (void)sqlite3_finalize(s);
    return value;
}

/* A dead letter is kept as it was stored. */
static void check_dead_letters(struct sim *sim, sqlite3 *db)
{
    int result = SQLITE_ERROR;
    sqlite3_stmt *s =
        prepare(db, "SELECT id, reason, payload, topic, content_type, type, key, retain"
                    " FROM outbox_dead");
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(s, 0);
        uint32_t event = model_owner(&sim->model, id);
        if (!event || model_event(&sim->model, event)->body != BODY_UNFIT ||
            !is_as_stored(sim, event, s) || sqlite3_column_bytes(s, 1) == 0)
            breaks(sim, NO_LOSS, "dead letter %" PRId64 " is not what somebody stored", id);
    }
    if (result != SQLITE_DONE)
        breaks(sim, RECOVERY, "the dead letters cannot be read");
    (void)sqlite3_finalize(s);
}

void oracle_at_end(struct sim *sim, sqlite3 *db)
{
    outbox_statistics now;
    char sentence[200] = "";
    int code = outbox_inspect(db, &now, sentence, sizeof sentence);
    if (code != OUTBOX_OK) {
        breaks(sim, RECOVERY, "the outbox cannot be read: %s", sentence);
        return;
    }
    if (number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1)
        breaks(sim, RECOVERY, "the database is damaged");
    if (now.pending != 0)
        breaks(sim, NO_LOSS, "%" PRId64 " events are pending", now.pending);
    check_dead_letters(sim, db);
    if (sim->model.epoch_changes)
        return; /* the counts may have begun anew */
    if ((uint64_t)now.delivered != sim->model.fit)
        breaks(sim, NO_LOSS, "%" PRIu64 " events were committed, %" PRId64 " count as delivered",
               sim->model.fit, now.delivered);
    if ((uint64_t)now.dead_lettered != sim->model.unfit ||
        number(db, "SELECT count(*) FROM outbox_dead") != now.dead_lettered)
        breaks(sim, NO_LOSS, "%" PRIu64 " events were unfit, %" PRId64 " count as dead letters",
               sim->model.unfit, now.dead_lettered);
}
