/* SPDX-License-Identifier: MIT
 *
 * damage.c - makes a good database, maps its bytes, runs the library on damaged ones.
 *
 * Both sides work on the file: the application attaches and puts, the forwarder sends through a
 * link that judges each message on the spot. The folder is removed at the end.
 */
#include "damage.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BODY_MAX = 3000,
    TOKENS = 1024,
    STEPS_MAX = 40,
    HASTY_STEPS_MAX = 10,    /* steps on end that want to be called at once */
    STATEMENTS_MAX = 5000,   /* of one call of the library */
    OPCODES_PIECE = 100000,  /* of SQLite's machine */
    OPCODE_PIECES_MAX = 100, /* of one call */
    AT_REST_MS = 100000
};

static void fail(struct damage *damage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fail(struct damage *damage, const char *format, ...)
{
    va_list arguments;
    if (damage->failed)
        return; /* the first one tells most */
    damage->failed = true;
    va_start(arguments, format);
    (void)vsnprintf(damage->sentence, sizeof damage->sentence, format, arguments);
    va_end(arguments);
}

/* ---- Events, each made of its serial number -------------------------------------------------- */

static size_t make_body(int serial, char body[BODY_MAX])
{
    /* Every eighth is larger than a page, so that its row goes on in others. */
    size_t want = serial % 8 == 7 ? 2200 : 40 + (size_t)serial % 5 * 20;
    size_t len = (size_t)snprintf(body, BODY_MAX, "event %d:", serial);
    while (len < want)
        len += (size_t)snprintf(body + len, BODY_MAX - len, " %d", serial * 7919 + (int)len);
    return len;
}

static void make_topic(int serial, char topic[32])
{
    (void)snprintf(topic, 32, "plant/%d/level", serial);
}

static struct damage_event *event_of(struct damage *damage, int64_t id)
{
    for (int i = 0; i < damage->stored; i++)
        if (damage->events[i].id == id)
            return &damage->events[i];
    return NULL;
}

/* Puts the next one. It is known from then on; one that could not be put must never be sent. */
static int put(struct damage *damage, outbox *box)
{
    char body[BODY_MAX], topic[32];
    struct damage_event *event = &damage->events[damage->known];
    *event = (struct damage_event){.serial = ++damage->serial};
    make_topic(event->serial, topic);
    size_t len = make_body(event->serial, body);
    int code = outbox_put(
        box,
        &(outbox_event){
            .topic = topic, .payload = body, .payload_len = len, .content_type = "text/plain"},
        &event->id);
    damage->known += code == OUTBOX_OK;
    return code;
}

static bool is_topic_of(const struct damage_event *event, const char *topic)
{
    char expected[32];
    make_topic(event->serial, expected);
    return strcmp(topic, expected) == 0;
}

static bool is_body_of(const struct damage_event *event, const void *bytes, size_t len)
{
    char body[BODY_MAX];
    return make_body(event->serial, body) == len && memcmp(body, bytes, len) == 0;
}

/* ---- A link that judges ---------------------------------------------------------------------- */

struct judge {
    outbox_link link;
    struct damage *damage;
    uint32_t now_ms;
    bool is_open, is_answered;
    uint32_t tokens[TOKENS];
    unsigned first, end;
    int64_t last_id; /* on this connection, under `source` */
    char source[320];
};

static bool is_stored(const struct damage_event *event, const outbox_message *message)
{
    return is_topic_of(event, message->topic) &&
           is_body_of(event, message->payload, message->payload_len) && message->content_type &&
           strcmp(message->content_type, "text/plain") == 0;
}

/* Damage of a cell can change any one part of it: its id, or what stands behind that. */
static bool is_damaged_event(const struct damage *damage, int64_t id, const outbox_message *message)
{
    for (int i = 0; i < damage->stored; i++) {
        const struct damage_event *event = &damage->events[i];
        if (event->touched &&
            (event->id == id || is_body_of(event, message->payload, message->payload_len)))
            return true;
    }
    return false;
}

static void judge_order(struct judge *judge, int64_t id, const char *source)
{
    if (strcmp(judge->source, source) == 0 && id <= judge->last_id)
        fail(judge->damage, "event %lld was sent behind event %lld", (long long)id,
             (long long)judge->last_id);
    (void)snprintf(judge->source, sizeof judge->source, "%s", source);
    judge->last_id = id;
}

static void judge_message(struct judge *judge, const outbox_message *message)
{
    struct damage *damage = judge->damage;
    long long id = strtoll(message->properties[0].value, NULL, 10);
    damage->sends++;
    judge_order(judge, id, message->properties[1].value);
    /* Two can have the same id: damage hides the one, and its id is given out again. */
    for (int i = 0; i < damage->known; i++)
        if (damage->events[i].id == id && is_stored(&damage->events[i], message)) {
            damage->events[i].sent = true;
            return;
        }
    damage->altered++;
    if (!is_damaged_event(damage, id, message))
        fail(damage, "event %lld of topic %.40s with %zu bytes was sent; nobody has stored it", id,
             message->topic, message->payload_len);
}

static outbox_link_result judge_open(outbox_link *link)
{
    struct judge *judge = (struct judge *)link;
    judge->is_open = true;
    judge->is_answered = false;
    judge->first = judge->end = 0;
    judge->source[0] = '\0';
    return OUTBOX_LINK_OK;
}

static outbox_link_result judge_publish(outbox_link *link, uint32_t token,
                                        const outbox_message *message)
{
    struct judge *judge = (struct judge *)link;
    if (!judge->is_open)
        fail(judge->damage, "an event was sent on a closed link");
    if (judge->end == TOKENS)
        return OUTBOX_LINK_AGAIN;
    judge_message(judge, message);
    judge->tokens[judge->end++] = token;
    return OUTBOX_LINK_OK;
}

static outbox_link_result judge_poll(outbox_link *link, outbox_link_event *event)
{
    struct judge *judge = (struct judge *)link;
    memset(event, 0, sizeof *event);
    if (judge->is_open && !judge->is_answered) {
        judge->is_answered = true;
        event->kind = OUTBOX_LINK_OPENED;
        event->receive_maximum = 65535;
        event->maximum_qos = 1;
        event->protocol = 5;
        return OUTBOX_LINK_OK;
    }
    if (judge->first == judge->end)
        return OUTBOX_LINK_AGAIN;
    event->kind = OUTBOX_LINK_ACKED;
    event->token = judge->tokens[judge->first++];
    return OUTBOX_LINK_OK;
}

static void judge_close(outbox_link *link)
{
    struct judge *judge = (struct judge *)link;
    judge->is_open = false;
    judge->first = judge->end = 0;
}

/* The forwarder that is judged has no reason to ask. */
static outbox_link_result judge_probe(outbox_link *link)
{
    (void)link;
    return OUTBOX_LINK_AGAIN;
}

static const outbox_link_methods judge_methods = {.version = 1,
                                                  .open = judge_open,
                                                  .publish = judge_publish,
                                                  .poll = judge_poll,
                                                  .close = judge_close,
                                                  .probe = judge_probe};

static uint32_t judge_now(void *context)
{
    return ((struct judge *)context)->now_ms;
}

static uint32_t judge_random(void *context)
{
    (void)context;
    return 100; /* ms of each pause */
}

/* ---- A connection whose calls must end ------------------------------------------------------- */

struct budget {
    struct damage *damage;
    sqlite3 *db;
    int statements, pieces;
};

static void run_out(struct budget *budget)
{
    fail(budget->damage, "a call of the library runs without end");
    sqlite3_interrupt(budget->db);
}

static int on_statement(unsigned reason, void *context, void *statement, void *sql)
{
    (void)reason, (void)statement, (void)sql;
    struct budget *budget = context;
    if (++budget->statements > STATEMENTS_MAX)
        run_out(budget);
    return 0;
}

static int on_progress(void *context)
{
    struct budget *budget = context;
    if (++budget->pieces > OPCODE_PIECES_MAX)
        run_out(budget);
    return 0;
}

static bool connect_to(struct damage *damage, struct budget *budget)
{
    *budget = (struct budget){.damage = damage};
    if (sqlite3_open(damage->path, &budget->db) != SQLITE_OK) {
        fail(damage, "no connection: %s", sqlite3_errmsg(budget->db));
        return false;
    }
    (void)sqlite3_trace_v2(budget->db, SQLITE_TRACE_STMT, on_statement, budget);
    sqlite3_progress_handler(budget->db, OPCODES_PIECE, on_progress, budget);
    return true;
}

static void disconnect(struct damage *damage, struct budget *budget)
{
    if (sqlite3_close(budget->db) != SQLITE_OK)
        fail(damage, "the library has left a statement behind");
    budget->db = NULL;
}

/* ---- Codes ----------------------------------------------------------------------------------- */

/* What a damaged file may lead to in any call. Not among them: BUSY, as nobody else is there, so it
 * would be a lock that was left; MISUSE, as the call is right. */
static bool is_of_the_file(int code)
{
    return code == OUTBOX_OK || code == OUTBOX_CORRUPT || code == OUTBOX_SQLITE ||
           code == OUTBOX_READONLY || code == OUTBOX_DISK_FULL || code == OUTBOX_NO_MEMORY;
}

static void judge_code(struct damage *damage, const char *call, int code, int other,
                       const char *sentence)
{
    damage->refusals += code != OUTBOX_OK;
    if (!is_of_the_file(code) && code != other)
        fail(damage, "%s returned %d: %s", call, code, sentence);
    if (code != OUTBOX_OK && sentence[0] == '\0')
        fail(damage, "%s returned %d without a sentence", call, code);
}

/* ---- The two sides --------------------------------------------------------------------------- */

static void run_application(struct damage *damage, int puts)
{
    struct budget budget;
    outbox *box = NULL;
    outbox_statistics statistics;
    char sentence[200] = "";
    if (!connect_to(damage, &budget))
        return;
    int code = outbox_attach(
        budget.db, &(outbox_config){.sentence = sentence, .sentence_size = sizeof sentence}, &box);
    judge_code(damage, "attach", code, OUTBOX_NEWER_SCHEMA, sentence);
    if ((code == OUTBOX_OK) != (box != NULL))
        fail(damage, "attach returned %d with%s a handle", code, box ? "" : "out");
    for (int i = 0; i < puts && box; i++) {
        budget.statements = budget.pieces = 0;
        code = put(damage, box);
        judge_code(damage, "put", code, OUTBOX_BAD_ID, outbox_errmsg(box));
    }
    budget.statements = budget.pieces = 0;
    if (box)
        judge_code(damage, "stats", outbox_stats(box, &statistics), OUTBOX_NEWER_SCHEMA,
                   outbox_errmsg(box));
    outbox_detach(box);
    disconnect(damage, &budget);
}

static void step_until_rest(struct judge *judge, struct budget *budget, outbox_forwarder *forwarder)
{
    int hasty = 0;
    for (int i = 0; i < STEPS_MAX && !judge->damage->failed; i++) {
        uint32_t next_ms = 0;
        outbox_statistics statistics = {0};
        budget->statements = budget->pieces = 0;
        int code = outbox_forwarder_step(forwarder, &next_ms);
        outbox_forwarder_stats(forwarder, &statistics);
        judge_code(judge->damage, "step", code, OUTBOX_REFUSED, statistics.last_error_text);
        if (!sqlite3_get_autocommit(budget->db) ||
            sqlite3_txn_state(budget->db, NULL) != SQLITE_TXN_NONE)
            fail(judge->damage, "a step has left a transaction open");
        if (next_ms >= AT_REST_MS)
            return;
        hasty = next_ms > 0 ? 0 : hasty + 1;
        if (hasty > HASTY_STEPS_MAX)
            fail(judge->damage, "the forwarder does not come to rest; the last code was %d", code);
        judge->now_ms += next_ms;
    }
}

static void run_forwarder(struct damage *damage)
{
    const outbox_forwarder_config config = {
        .mode = OUTBOX_PLAIN, .payload_max = 8192, .foreign_check_ms = OUTBOX_NEVER};
    struct judge judge = {.link = {&judge_methods}, .damage = damage};
    const outbox_port port = {1, &judge, judge_now, judge_random, NULL, NULL};
    struct budget budget;
    outbox_forwarder *forwarder = NULL;
    char sentence[200] = "";
    size_t size = outbox_forwarder_size(&config);
    void *memory = malloc(size);
    if (!memory || !connect_to(damage, &budget)) {
        free(memory);
        return;
    }
    int code = outbox_forwarder_init(memory, size, budget.db, &judge.link, &port, &config,
                                     &forwarder, sentence, sizeof sentence);
    judge_code(damage, "init", code, OUTBOX_NEWER_SCHEMA, sentence);
    if (forwarder)
        step_until_rest(&judge, &budget, forwarder);
    budget.statements = budget.pieces = 0;
    outbox_forwarder_close(forwarder);
    disconnect(damage, &budget);
    free(memory);
}

static void look(struct damage *damage)
{
    struct budget budget;
    outbox_statistics statistics;
    char sentence[200] = "";
    if (!connect_to(damage, &budget))
        return;
    int code = outbox_inspect(budget.db, &statistics, sentence, sizeof sentence);
    judge_code(damage, "inspect", code, OUTBOX_NEWER_SCHEMA, sentence);
    disconnect(damage, &budget);
}

/* ---- What has become of the events that were not damaged ------------------------------------- */

/* Whether the table has the event; also where SQLite cannot say. The plus makes it look at all
 * rows: in a tree whose ids do not go up a search goes astray. */
static bool has(sqlite3 *db, const char *table, const struct damage_event *event)
{
    char sql[80];
    sqlite3_stmt *statement = NULL;
    bool found = false;
    (void)snprintf(sql, sizeof sql, "SELECT topic, payload FROM %s WHERE +id = %lld", table,
                   (long long)event->id);
    int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    for (; result == SQLITE_ROW && !found; result = sqlite3_step(statement)) {
        const char *topic = (const char *)sqlite3_column_text(statement, 0);
        const void *body = sqlite3_column_blob(statement, 1);
        found = topic && body && is_topic_of(event, topic) &&
                is_body_of(event, body, (size_t)sqlite3_column_bytes(statement, 1));
    }
    (void)sqlite3_finalize(statement);
    return found || result != SQLITE_DONE;
}

/* The touched pages and, of pages with rows, up to two neighbours on each side. */
static uint64_t touched_with_neighbours(const struct damage *damage)
{
    uint64_t pages = damage->touched_pages;
    for (int i = 0; i < damage->leaf_count; i++)
        for (int j = i - 2; j <= i + 2; j++)
            if (j >= 0 && j < damage->leaf_count && damage->touched_pages >> damage->leaves[j] & 1)
                pages |= UINT64_C(1) << damage->leaves[i];
    return pages;
}

static void judge_the_rest(struct damage *damage)
{
    struct budget budget;
    uint64_t touched = touched_with_neighbours(damage);
    if (damage->touched_pages & ~damage->tree_pages || !connect_to(damage, &budget))
        return;
    for (int i = 0; i < damage->stored; i++) {
        const struct damage_event *event = &damage->events[i];
        if (!event->sent && !(event->pages & touched) && !has(budget.db, "outbox_event", event) &&
            !has(budget.db, "outbox_dead", event))
            fail(damage, "event %lld is lost although nothing of it is damaged",
                 (long long)event->id);
    }
    disconnect(damage, &budget);
}

/* ---- The map of the good bytes --------------------------------------------------------------- */

/* https://sqlite.org/fileformat2.html, section 1.6. Only of the database that was just made. */
static uint32_t big_endian(const unsigned char *at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static int read_varint(const unsigned char *at, int64_t *value)
{
    *value = 0;
    for (int i = 0; i < 8; i++) {
        *value = *value << 7 | (at[i] & 0x7f);
        if (!(at[i] & 0x80))
            return i + 1;
    }
    return 9; /* ids so large are not in a good database */
}

static void own(struct damage *damage, struct damage_event *event, size_t from, size_t len)
{
    size_t page = from / DAMAGE_PAGE + 1;
    damage->tree_pages |= UINT64_C(1) << page;
    if (!event)
        return;
    event->pages |= UINT64_C(1) << page;
    for (size_t i = from; i < from + len; i++)
        damage->owner[i] = event->id;
}

static void map_cell(struct damage *damage, size_t at, uint64_t above)
{
    const int64_t usable = DAMAGE_PAGE, most = usable - 35, least = (usable - 12) * 32 / 255 - 23;
    int64_t payload, id;
    int head = read_varint(damage->good + at, &payload);
    head += read_varint(damage->good + at + head, &id);
    int64_t fit = least + (payload - least) % (usable - 4);
    int64_t local = payload <= most ? payload : fit <= most ? fit : least;
    struct damage_event *event = event_of(damage, id);
    size_t end = at + (size_t)head + (size_t)local;
    uint32_t next = local < payload ? big_endian(damage->good + end, 4) : 0;
    if (event)
        event->pages |= above;
    own(damage, event, at, end - at + (next ? 4 : 0));
    while (next) {
        size_t page = (size_t)(next - 1) * DAMAGE_PAGE;
        own(damage, event, page, DAMAGE_PAGE);
        next = big_endian(damage->good + page, 4);
    }
}

struct node {
    uint32_t page;
    uint64_t above; /* the pages on the way to it */
};

/* Maps one page; gives the pages below it to `nodes`. */
static int map_page(struct damage *damage, struct node node, struct node *nodes, int room)
{
    size_t start = (size_t)(node.page - 1) * DAMAGE_PAGE;
    const unsigned char *at = damage->good + start;
    uint32_t cells = big_endian(at + 3, 2);
    uint64_t above = node.above | UINT64_C(1) << node.page;
    bool is_leaf = at[0] == 13;
    int count = 0;
    own(damage, NULL, start, DAMAGE_PAGE);
    if (is_leaf)
        damage->leaves[damage->leaf_count++] = node.page;
    for (uint32_t i = 0; i < cells; i++) {
        uint32_t cell = big_endian(at + (is_leaf ? 8 : 12) + (size_t)2 * i, 2);
        if (is_leaf)
            map_cell(damage, start + cell, above);
        else if (count < room)
            nodes[count++] = (struct node){big_endian(at + cell, 4), above};
    }
    if (!is_leaf && count < room)
        nodes[count++] = (struct node){big_endian(at + 8, 4), above};
    return count;
}

/* Level by level; all leaves are on one level, so they come in their order. */
static void map_tree(struct damage *damage, uint32_t root)
{
    struct node nodes[64] = {{root, 0}};
    int count = 1;
    for (int i = 0; i < count; i++)
        count += map_page(damage, nodes[i], nodes + count, 64 - count);
}

/* ---- Making the good database ---------------------------------------------------------------- */

static void run_sql(struct damage *damage, sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(damage, "%s: %s", sql, sqlite3_errmsg(db));
}

static void run_once(struct damage *damage, const char *sql)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(damage->path, &db) == SQLITE_OK)
        run_sql(damage, db, sql);
    else
        fail(damage, "no connection: %s", sqlite3_errmsg(db));
    (void)sqlite3_close(db);
}

/* The table of the application looks like one of events on purpose: text where the topic would be.
 * Some events are delivered and one is dead, so that counters are not 0 and pages hold old rows. */
static void make_contents(struct damage *damage)
{
    run_once(damage,
             "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL;"
             "CREATE TABLE reading(number INTEGER PRIMARY KEY, sensor TEXT, value TEXT);"
             "INSERT INTO reading(sensor, value) VALUES('pump/1', 'first'), ('pump/2', 'second')");
    run_application(damage, 20);
    run_once(damage, "INSERT INTO outbox_event(topic, payload) VALUES('no#topic', 'x')");
    run_forwarder(damage);
    for (int i = 0; i < damage->known; i++)
        if (!damage->events[i].sent)
            fail(damage, "event %d of the good database was not sent", i + 1);
    damage->known = 0; /* these are history */
    run_application(damage, 44);
    run_once(damage, "PRAGMA wal_checkpoint(TRUNCATE)");
    damage->stored = damage->known;
}

static bool read_file(struct damage *damage)
{
    struct stat about;
    FILE *file = fopen(damage->path, "rb");
    if (!file || stat(damage->path, &about) != 0)
        return false;
    damage->size = (size_t)about.st_size;
    damage->good = malloc(damage->size);
    damage->owner = calloc(damage->size, sizeof *damage->owner);
    bool whole = damage->good && damage->owner && damage->size <= 63 * (size_t)DAMAGE_PAGE &&
                 fread(damage->good, 1, damage->size, file) == damage->size;
    return fclose(file) == 0 && whole;
}

static void map_bytes(struct damage *damage)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int root = 0;
    (void)sqlite3_open(damage->path, &db);
    if (sqlite3_prepare_v2(db, "SELECT rootpage FROM sqlite_master WHERE name = 'outbox_event'", -1,
                           &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        root = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    if (root < 2)
        fail(damage, "the good database has no outbox");
    else
        map_tree(damage, (uint32_t)root);
    for (int i = 0; i < damage->stored; i++)
        if (!damage->events[i].pages)
            fail(damage, "event %lld is not in the map", (long long)damage->events[i].id);
}

bool damage_open(struct damage *damage)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    memset(damage, 0, sizeof *damage);
    (void)snprintf(damage->folder, sizeof damage->folder, "%s/outbox-damage-XXXXXX", parent);
    if (!mkdtemp(damage->folder)) {
        damage->folder[0] = '\0';
        fail(damage, "no folder in %s", parent);
        return false;
    }
    (void)snprintf(damage->path, sizeof damage->path, "%s/plant.db", damage->folder);
    make_contents(damage);
    if (!damage->failed && !read_file(damage))
        fail(damage, "the good database cannot be read");
    if (!damage->failed)
        map_bytes(damage);
    damage->sends = damage->altered = damage->refusals = 0;
    return !damage->failed;
}

static void remove_files(const struct damage *damage)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s%s", damage->path, ends[i]);
        (void)unlink(path); /* most are not there */
    }
}

void damage_close(struct damage *damage)
{
    remove_files(damage);
    if (damage->folder[0])
        (void)rmdir(damage->folder);
    free(damage->good);
    free(damage->owner);
}

/* ---- A try ----------------------------------------------------------------------------------- */

static void touch(struct damage *damage, const unsigned char *bytes, size_t len)
{
    damage->touched_pages = 0;
    damage->known = damage->stored;
    damage->serial = damage->events[damage->stored - 1].serial;
    for (int i = 0; i < damage->stored; i++)
        damage->events[i].touched = damage->events[i].sent = false;
    for (size_t i = 0; i < damage->size; i++) {
        if (i < len && bytes[i] == damage->good[i])
            continue;
        struct damage_event *event = damage->owner[i] ? event_of(damage, damage->owner[i]) : NULL;
        damage->touched_pages |= UINT64_C(1) << (i / DAMAGE_PAGE + 1);
        if (event)
            event->touched = true;
    }
}

static bool write_file(const struct damage *damage, const unsigned char *bytes, size_t len)
{
    FILE *file = fopen(damage->path, "wb");
    if (!file)
        return false;
    bool whole = fwrite(bytes, 1, len, file) == len;
    return fclose(file) == 0 && whole;
}

bool damage_try(struct damage *damage, const unsigned char *bytes, size_t len)
{
    damage->failed = false;
    damage->tries++;
    touch(damage, bytes, len);
    remove_files(damage);
    if (!write_file(damage, bytes, len)) {
        fail(damage, "the file cannot be written");
        return false;
    }
    run_application(damage, 2);
    run_forwarder(damage);
    look(damage);
    judge_the_rest(damage);
    return !damage->failed;
}
