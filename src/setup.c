/* SPDX-License-Identifier: MIT
 *
 * setup.c - a forwarder's configuration, memory, beginning and end, and its statistics.
 *
 * Everything lies in the caller's memory, laid out once: the struct, the window's ring, the buffer
 * for messages. Nothing is allocated later but what SQLite itself needs.
 */
#include "machine.h"

#include <assert.h>
#include <string.h>

/* ---- Init and close -------------------------------------------------------------------------- */

enum {
    BUFFER_MIN = 2048,
    FIRE_BYTES_MAX = 1 << 24,
    CLOSE_ATTEMPTS = 3 /* with what the store waits each time: a second */
};

static bool fill_defaults(const outbox_forwarder_config *given, outbox_forwarder_config *config)
{
    static const outbox_forwarder_config defaults;
    *config = given ? *given : defaults;
    struct {
        unsigned *field, value;
    } fields[] = {
        {&config->window, 100},
        {&config->settle_batch, 256},
        {&config->settle_quiet_ms, 1000},
        {&config->ack_timeout_ms, 30000},
        {&config->connect_timeout_ms, 15000},
        {&config->foreign_check_ms, 1000},
        {&config->backoff_min_ms, 1000},
        {&config->backoff_max_ms, 60000},
        {&config->checkpoint_frames, 4000},
        {&config->dead_letters_max, 3},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (*fields[i].field == 0)
            *fields[i].field = fields[i].value;
    if ((!given || given->backoff_min_ms == 0) && config->backoff_min_ms > config->backoff_max_ms)
        config->backoff_min_ms = config->backoff_max_ms;
    if (config->payload_max == 0)
        config->payload_max = OUTBOX_PAYLOAD_MAX;
    if (config->buffer_size == 0 && config->payload_max <= OUTBOX_PAYLOAD_CAP)
        config->buffer_size = ob_message_room(config->payload_max);
    const unsigned longest_ms = 1u << 28; /* three days; what is longer is a slip */
    return config->window <= 1000 && config->settle_batch <= 1024 &&
           config->payload_max <= OUTBOX_PAYLOAD_CAP && config->buffer_size >= BUFFER_MIN &&
           config->fire_bytes <= FIRE_BYTES_MAX &&
           config->buffer_size <= ob_message_room(OUTBOX_PAYLOAD_CAP) &&
           config->settle_quiet_ms <= longest_ms / 16 && config->ack_timeout_ms <= longest_ms &&
           config->connect_timeout_ms <= longest_ms &&
           (config->foreign_check_ms <= longest_ms || config->foreign_check_ms == OUTBOX_NEVER) &&
           config->backoff_min_ms <= config->backoff_max_ms &&
           config->backoff_max_ms <= longest_ms && config->pace.events_per_s <= 1000000 &&
           config->pace.bytes_per_s <= 1u << 30 && config->batch_seconds <= longest_ms / 1000 &&
           (config->mode == OUTBOX_STRUCTURED || config->mode == OUTBOX_PLAIN ||
            config->mode == OUTBOX_BINARY) &&
           (!config->ce_prefix || config->mode == OUTBOX_BINARY) &&
           (!config->announce_topic || config->announce_topic[0] == '\0' ||
            ob_text_is_topic(config->announce_topic, strlen(config->announce_topic)));
}

static size_t align(size_t size)
{
    const size_t unit = 2 * sizeof(void *);
    return (size + unit - 1) / unit * unit;
}

static uint32_t ring_capacity(const outbox_forwarder_config *config)
{
    uint32_t capacity = 16;
    while (capacity < 2 * config->window + config->settle_batch)
        capacity *= 2;
    return capacity;
}

/* The topic that is given, or room for one of each lane; none where nothing is announced. */
static size_t topic_room(const outbox_forwarder_config *config)
{
    if (config->announce_topic)
        return strlen(config->announce_topic) + 1;
    return config->mode == OUTBOX_PLAIN ? 0 : OUTBOX_TOPIC_MAX + 1;
}

size_t outbox_forwarder_size(const outbox_forwarder_config *config)
{
    outbox_forwarder_config full;
    if (!fill_defaults(config, &full))
        return 0;
    return align(sizeof(outbox_forwarder)) + align(full.fire_bytes) +
           OUTBOX_LANES * (align(ring_capacity(&full) * sizeof(struct ob_entry)) +
                           align(full.buffer_size) + align(topic_room(&full)));
}

static int check_init(sqlite3 *db, size_t size, const outbox_forwarder_config *config,
                      struct ob_error *error)
{
    size_t need = outbox_forwarder_size(config);
    if (need == 0)
        return ob_error_set(error, OUTBOX_MISUSE,
                            "a value of the forwarder's configuration is out of range");
    if (size < need)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "the forwarder needs %lld bytes, it got %lld",
                            (long long)need, (long long)size);
    /* A read that fails may roll the application's transaction back, and its later statements would
     * each commit alone. On a connection of our own the settings would not take effect. */
    if (!sqlite3_get_autocommit(db))
        return ob_error_set(error, OUTBOX_MISUSE,
                            "a transaction is open on the forwarder's connection; end it first");
    return OUTBOX_OK;
}

static char *lay_out_topic(const outbox_forwarder *f, struct ob_lane *lane, char *at)
{
    size_t room = topic_room(&f->config);
    if (room == 0)
        return at;
    lane->announce_topic = at;
    at[0] = '\0';
    if (f->config.announce_topic)
        memcpy(at, f->config.announce_topic, room);
    return at + align(room);
}

static outbox_forwarder *lay_out(void *memory, const outbox_forwarder_config *given)
{
    char *at = memory;
    outbox_forwarder *f = memory;
    memset(f, 0, sizeof *f);
    (void)fill_defaults(given, &f->config); /* checked before */
    f->form = (struct ob_form){f->config.mode, f->config.ce_prefix};
    at += align(sizeof *f);
    uint32_t capacity = ring_capacity(&f->config);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        f->lane[i].number = (outbox_lane)i;
        f->lane[i].more = true; /* of an earlier run */
        ob_window_init(&f->lane[i].window, (struct ob_entry *)(void *)at, capacity);
        at += align(capacity * sizeof(struct ob_entry));
        f->lane[i].buffer = (struct ob_buffer){at, f->config.buffer_size, 0};
        at += align(f->config.buffer_size);
        at = lay_out_topic(f, &f->lane[i], at);
    }
    f->fire.bytes = at;
    return f;
}

/* What is not there would be called only much later. */
static bool is_whole(const outbox_link *link, const outbox_port *port)
{
    const outbox_link_methods *methods = link ? link->methods : NULL;
    return methods && methods->version >= 1 && methods->open && methods->publish && methods->poll &&
           methods->close && methods->probe && port && port->version == 1 && port->now_ms &&
           port->random;
}

int outbox_forwarder_init(void *memory, size_t size, sqlite3 *db, outbox_link *link,
                          const outbox_port *port, const outbox_forwarder_config *config,
                          outbox_forwarder **forwarder, char *sentence, size_t sentence_size)
{
    struct ob_error error = {OUTBOX_MISUSE, "an argument is NULL or of another version"};
    int code = OUTBOX_MISUSE;
    if (forwarder)
        *forwarder = NULL;
    if (memory && db && is_whole(link, port) && forwarder)
        code = check_init(db, size, config, &error);
    if (code == OUTBOX_OK) {
        outbox_forwarder *f = lay_out(memory, config);
        f->settle_limit = f->config.settle_batch;
        f->looks = OB_LOOKS;
        f->must_look_for_drift = true;
        f->schema_version = -1;
        f->link = link;
        f->port = port;
        f->since = f->looked_at = f->active_at = ob_machine_clock(f);
        ob_pace_start(&f->pace, &f->config.pace, f->now);
        f->settle_not_before = f->store_not_before = f->link_not_before = f->now;
        code = ob_store_open(&f->store, db, f->config.shared_connection != 0,
                             f->config.small_heap != 0, f->config.payload_max);
        error = f->store.error;
        if (code == OUTBOX_OK)
            *forwarder = f;
    }
    if (code != OUTBOX_OK && sentence && sentence_size > 0)
        sqlite3_snprintf((int)sentence_size, sentence, "%s", error.sentence);
    return code;
}

/* False: nothing more can be settled now. */
static bool settle_at_the_end(outbox_forwarder *f, struct ob_lane *lane, int *attempts)
{
    enum ob_head head;
    uint32_t count = ob_machine_due(f, lane);
    if (count == 0 || *attempts == 0 || ob_store_is_blocked(&f->store))
        return false;
    int code = ob_store_settle(&f->store, lane->number, &lane->window, count, &head);
    if (code == OUTBOX_OK && head == OB_HEAD_SAME) {
        ob_window_settled(&lane->window, count);
        return true;
    }
    (*attempts)--; /* somebody holds the lock, or the front was mended first */
    if (code == OUTBOX_OK && head == OB_HEAD_ADVANCED)
        ob_machine_advance(f, lane);
    return code == OUTBOX_BUSY || (code == OUTBOX_OK && head == OB_HEAD_ADVANCED);
}

void outbox_forwarder_close(outbox_forwarder *f)
{
    int attempts = CLOSE_ATTEMPTS;
    if (!f)
        return;
    sqlite3 *db = f->store.db;
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
    (void)ob_machine_clock(f);
    ob_machine_drop_link(f);
    ob_machine_enter(f, OB_IDLE);
    ob_store_be_patient(&f->store);
    for (int i = 0; i < OUTBOX_LANES; i++)
        while (settle_at_the_end(f, &f->lane[i], &attempts)) {
        }
    ob_store_close(&f->store);
    sqlite3_set_last_insert_rowid(db, rowid);
}

/* ---- Statistics ------------------------------------------------------------------------------ */

/* Up to the first id that was not read, for in its place somebody may have put a row since, or it
 * is in a hole of the file: whoever takes this for delivered does not look. The settle does. */
int64_t outbox_forwarder_acked(const outbox_forwarder *f, outbox_lane lane)
{
    const struct ob_window *window = &f->lane[lane].window;
    uint32_t count = ob_window_settleable(window);
    int64_t head = ob_machine_head(f, &f->lane[lane])->id, id = head;
    for (uint32_t i = 0; i < count; i++) {
        const struct ob_entry *entry = ob_window_at(window, i);
        if (entry->verdict != OB_ACKED || entry->id != id + 1)
            break;
        id = entry->id;
    }
    return id > head ? id : 0;
}

static void fill_sending(const outbox_forwarder *f, const struct ob_lane *lane,
                         outbox_lane_sending *sending)
{
    const struct ob_table *table = &f->store.table[lane->number];
    sending->in_flight = lane->window.in_flight;
    sending->settled_id = table->head_is_known ? table->head->id : 0;
    if (lane->flushed_id > sending->settled_id)
        sending->settled_id = lane->flushed_id;
    sending->refused_id = lane->refusal.alone_id;
    sending->refused_reason = lane->refusal.reason;
}

void outbox_forwarder_stats(const outbox_forwarder *f, outbox_statistics *statistics)
{
    static const outbox_state states[OB_STATES] = {
        [OB_IDLE] = OUTBOX_STATE_CONNECTING,
        [OB_CONNECTING] = OUTBOX_STATE_CONNECTING,
        [OB_ONLINE] = OUTBOX_STATE_ONLINE,
        [OB_BACKOFF] = OUTBOX_STATE_BACKOFF,
    };
    statistics->state =
        f->state == OB_IDLE && ob_rest_is_possible(f) ? OUTBOX_STATE_RESTING : states[f->state];
    statistics->in_flight = ob_machine_in_flight(f);
    statistics->published = f->stats.published;
    statistics->acknowledged = f->stats.acknowledged;
    statistics->refusals = f->stats.refusals;
    statistics->connects = f->stats.connects;
    statistics->disconnects = f->stats.disconnects;
    statistics->settles = f->store.settles;
    statistics->barriers = f->store.barriers;
    for (int i = 0; i < OUTBOX_LANES; i++)
        fill_sending(f, &f->lane[i], &statistics->sending[i]);
    statistics->fire_sent = (uint64_t)f->fire.number;
    statistics->fire_dropped = f->fire.dropped;
    statistics->backoff_ms = f->state == OB_BACKOFF ? f->backoff_ms : 0;
    statistics->last_error = f->error.code;
    sqlite3_snprintf((int)sizeof statistics->last_error_text, statistics->last_error_text, "%s",
                     f->error.sentence);
}
