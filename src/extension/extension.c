/* SPDX-License-Identifier: MIT
 *
 * extension.c - the outbox as SQL functions, for any language: SELECT load_extension('outbox').
 *
 *   outbox_init([device])                    makes the outbox of this file; its device's name
 *   outbox_put(topic, payload[, options])    an event in the open transaction; its id
 *   outbox_status()                          the counts, as JSON
 *   outbox_capture_add(table, topic[, options])
 *   outbox_capture_remove(table), _suspend([table]), _resume([table])
 *   outbox_capture_snapshot(table[, rows])   how many events
 *   outbox_capture_list(), _doctor()         as JSON
 *
 * options is a JSON object, whose members are those of outbox_event or outbox_capture; where is the
 * condition. A payload that is text travels as text/plain if no content_type is given.
 *
 * The functions may be called directly only, never from a trigger or a view, so a file that
 * somebody else has made cannot call them, and trusted_schema does not matter. They do what the
 * functions of the same name do, and what those promise of a crash holds here.
 */
#include "loadable.h"

#include "change.h"
#include "schema.h"
#include "sql.h"
#include "writer.h"

#include <outbox/capture.h>
#include <string.h>

const sqlite3_api_routines *ob_sqlite3_api;

/* What the functions of one connection share. */
struct extension {
    sqlite3 *db;
    outbox *box; /* NULL until there is an outbox in the file */
    int users;   /* functions that SQLite has yet to let go */
};

static void release(void *context)
{
    struct extension *extension = context;
    if (--extension->users > 0)
        return;
    ob_writer_leave(extension->box);
    sqlite3_free(extension);
}

/* ---- The handle ------------------------------------------------------------------------------ */

static int attach(struct extension *extension, const char *device, struct ob_error *error)
{
    const outbox_config config = {
        .device = device, .sentence = error->sentence, .sentence_size = sizeof error->sentence};
    return outbox_attach(extension->db, &config, &extension->box);
}

/* The handle; NULL after an error was set. */
static outbox *handle(sqlite3_context *context)
{
    struct extension *extension = sqlite3_user_data(context);
    struct ob_error error = {OUTBOX_OK, ""};
    enum ob_schema_found found = OB_SCHEMA_PRESENT;
    int code = OUTBOX_OK;
    if (!extension->box)
        code = ob_schema_find(extension->db, &found, &error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_MISSING) {
        sqlite3_result_error(context, "this file holds no outbox; SELECT outbox_init() makes one",
                             -1);
        return NULL;
    }
    if (code == OUTBOX_OK && !extension->box)
        code = attach(extension, NULL, &error);
    if (code != OUTBOX_OK)
        sqlite3_result_error(context, error.sentence, -1);
    return code == OUTBOX_OK ? extension->box : NULL;
}

static void fail(sqlite3_context *context, outbox *box)
{
    sqlite3_result_error(context, outbox_errmsg(box), -1);
}

static const char *text_of(sqlite3_value *value)
{
    return (const char *)sqlite3_value_text(value);
}

/* ---- Options --------------------------------------------------------------------------------- */

enum { NAMES_MAX = 1000 };

struct names {
    char *name[NAMES_MAX + 1];
    int count;
};

struct options {
    sqlite3 *db;
    sqlite3_context *context;
    outbox_event event;
    outbox_capture capture;
    struct names columns, key_columns, json_columns;
    struct names texts; /* that the two above point to */
    bool failed;
};

static void complain(struct options *options, const char *what, const char *name)
{
    char *sentence = sqlite3_mprintf("options: %s %s", what, name);
    options->failed = true;
    if (sentence)
        sqlite3_result_error(options->context, sentence, -1);
    else
        sqlite3_result_error_nomem(options->context);
    sqlite3_free(sentence);
}

static const char *keep(struct options *options, struct names *names, const char *text)
{
    if (names->count == NAMES_MAX) {
        complain(options, "there are too many", "names");
        return NULL;
    }
    char *copy = sqlite3_mprintf("%s", text ? text : "");
    if (!copy)
        complain(options, "memory ran out for", "a text");
    else
        names->name[names->count++] = copy;
    return copy;
}

/* The rows of json_each() over a text. */
static void each_member(struct options *options, const char *json,
                        void (*take)(struct options *options, void *context, sqlite3_stmt *row),
                        void *context)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(options->db, "SELECT key, value, type FROM json_each(?1)", -1,
                                    &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_bind_text(statement, 1, json, -1, SQLITE_TRANSIENT);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    while (result == SQLITE_ROW && !options->failed) {
        take(options, context, statement);
        result = sqlite3_step(statement);
    }
    if (result != SQLITE_DONE && !options->failed)
        complain(options, "they cannot be read:", sqlite3_errmsg(options->db));
    (void)sqlite3_finalize(statement); /* repeats what step said */
}

static void take_name(struct options *options, void *context, sqlite3_stmt *row)
{
    (void)keep(options, context, (const char *)sqlite3_column_text(row, 1));
}

static void take_operation(struct options *options, void *context, sqlite3_stmt *row)
{
    static const struct {
        const char *name;
        unsigned bit;
    } operations[] = {{"insert", OUTBOX_CAPTURE_INSERT},
                      {"update", OUTBOX_CAPTURE_UPDATE},
                      {"delete", OUTBOX_CAPTURE_DELETE}};
    const char *name = (const char *)sqlite3_column_text(row, 1);
    for (size_t i = 0; name && i < 3; i++)
        if (strcmp(name, operations[i].name) == 0) {
            *(unsigned *)context |= operations[i].bit;
            return;
        }
    complain(options, "there is no operation", name ? name : "");
}

static bool take_lane(struct options *options, sqlite3_stmt *row, outbox_lane *lane)
{
    const char *name = (const char *)sqlite3_column_text(row, 1);
    for (int i = 0; name && i < OUTBOX_LANES; i++)
        if (strcmp(name, ob_lane_name((outbox_lane)i)) == 0) {
            *lane = (outbox_lane)i;
            return true;
        }
    complain(options, "there is no lane", name ? name : "");
    return true;
}

/* Each says whether it knows the member. */
static bool take_event_option(struct options *options, const char *name, sqlite3_stmt *row)
{
    outbox_event *event = &options->event;
    const char *text = (const char *)sqlite3_column_text(row, 1);
    if (strcmp(name, "content_type") == 0)
        event->content_type = keep(options, &options->texts, text);
    else if (strcmp(name, "type") == 0)
        event->type = keep(options, &options->texts, text);
    else if (strcmp(name, "key") == 0)
        event->key = keep(options, &options->texts, text);
    else if (strcmp(name, "retain") == 0)
        event->retain = sqlite3_column_int(row, 1);
    else if (strcmp(name, "keep_last") == 0)
        event->keep_last = sqlite3_column_int(row, 1);
    else if (strcmp(name, "ttl_ms") == 0)
        event->ttl_ms = sqlite3_column_int64(row, 1);
    else
        return strcmp(name, "lane") == 0 && take_lane(options, row, &event->lane);
    return true;
}

static bool take_capture_option(struct options *options, const char *name, sqlite3_stmt *row)
{
    outbox_capture *capture = &options->capture;
    const char *text = (const char *)sqlite3_column_text(row, 1);
    if (strcmp(name, "columns") == 0)
        each_member(options, text, take_name, &options->columns);
    else if (strcmp(name, "key_columns") == 0)
        each_member(options, text, take_name, &options->key_columns);
    else if (strcmp(name, "json_columns") == 0)
        each_member(options, text, take_name, &options->json_columns);
    else if (strcmp(name, "operations") == 0)
        each_member(options, text, take_operation, &capture->operations);
    else if (strcmp(name, "where") == 0)
        capture->condition = keep(options, &options->texts, text);
    else if (strcmp(name, "integers_as_text") == 0)
        capture->integers_as_text = sqlite3_column_int(row, 1);
    else
        return strcmp(name, "lane") == 0 && take_lane(options, row, &capture->lane);
    return true;
}

static void take_option(struct options *options, void *context, sqlite3_stmt *row)
{
    bool (*take)(struct options * options, const char *name, sqlite3_stmt *row) =
        context ? take_capture_option : take_event_option;
    const char *name = (const char *)sqlite3_column_text(row, 0);
    if (sqlite3_column_type(row, 1) == SQLITE_NULL)
        return;
    if (!name || !take(options, name, row))
        complain(options, "there is no member", name ? name : "");
}

static struct options *open_options(sqlite3_context *context)
{
    struct options *options = sqlite3_malloc((int)sizeof *options);
    if (!options) {
        sqlite3_result_error_nomem(context);
        return NULL;
    }
    memset(options, 0, sizeof *options);
    options->context = context;
    options->db = sqlite3_context_db_handle(context);
    return options;
}

static void free_options(struct options *options)
{
    struct names *all[] = {&options->columns, &options->key_columns, &options->json_columns,
                           &options->texts};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int j = 0; j < all[i]->count; j++)
            sqlite3_free(all[i]->name[j]);
    sqlite3_free(options);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void init(sqlite3_context *context, int count, sqlite3_value **values)
{
    struct extension *extension = sqlite3_user_data(context);
    struct ob_error error = {OUTBOX_OK, ""};
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    int code = OUTBOX_OK;
    if (extension->box)
        outbox_detach(extension->box);
    extension->box = NULL;
    code = attach(extension, count > 0 ? text_of(values[0]) : NULL, &error);
    if (code == OUTBOX_OK)
        code = ob_schema_device(extension->db, device, &error);
    if (code == OUTBOX_OK)
        sqlite3_result_text(context, device, -1, SQLITE_TRANSIENT);
    else
        sqlite3_result_error(context, error.sentence, -1);
}

static void take_payload(struct options *options, sqlite3_value *value)
{
    bool is_blob = sqlite3_value_type(value) == SQLITE_BLOB;
    options->event.payload = is_blob ? sqlite3_value_blob(value) : text_of(value);
    options->event.payload_len = (size_t)sqlite3_value_bytes(value);
    if (!is_blob && sqlite3_value_type(value) != SQLITE_NULL)
        options->event.content_type = "text/plain";
}

static void put(sqlite3_context *context, int count, sqlite3_value **values)
{
    outbox *box = handle(context);
    struct options *options = box ? open_options(context) : NULL;
    int64_t id = 0;
    if (!options)
        return;
    take_payload(options, values[1]);
    if (count > 2 && sqlite3_value_type(values[2]) != SQLITE_NULL)
        each_member(options, text_of(values[2]), take_option, NULL);
    options->event.topic = text_of(values[0]);
    if (!options->failed && outbox_put(box, &options->event, &id) == OUTBOX_OK)
        sqlite3_result_int64(context, id);
    else if (!options->failed)
        fail(context, box);
    free_options(options);
}

static void status(sqlite3_context *context, int count, sqlite3_value **values)
{
    outbox *box = handle(context);
    outbox_statistics s;
    (void)count, (void)values;
    if (!box)
        return;
    if (outbox_stats(box, &s) != OUTBOX_OK) {
        fail(context, box);
        return;
    }
    char *json = sqlite3_mprintf(
        "{\"pending\":%lld,\"delivered\":%lld,\"expired\":%lld,\"evicted\":%lld,"
        "\"superseded\":%lld,\"dead_lettered\":%lld,\"accepted\":%lld,\"oldest_created\":%lld}",
        (long long)s.pending, (long long)s.delivered, (long long)s.expired, (long long)s.evicted,
        (long long)s.superseded, (long long)s.dead_lettered, (long long)s.accepted,
        (long long)s.oldest_created);
    if (json)
        sqlite3_result_text(context, json, -1, sqlite3_free);
    else
        sqlite3_result_error_nomem(context);
}

/* ---- Captures -------------------------------------------------------------------------------- */

static const char *const *list_of(const struct names *names)
{
    return names->count > 0 ? (const char *const *)names->name : NULL;
}

static void capture_add(sqlite3_context *context, int count, sqlite3_value **values)
{
    outbox *box = handle(context);
    struct options *options = box ? open_options(context) : NULL;
    if (!options)
        return;
    if (count > 2 && sqlite3_value_type(values[2]) != SQLITE_NULL)
        each_member(options, text_of(values[2]), take_option, options);
    options->capture.table = text_of(values[0]);
    options->capture.topic = text_of(values[1]);
    options->capture.columns = list_of(&options->columns);
    options->capture.key_columns = list_of(&options->key_columns);
    options->capture.json_columns = list_of(&options->json_columns);
    if (!options->failed && outbox_capture_add(box, &options->capture) != OUTBOX_OK)
        fail(context, box);
    free_options(options);
}

static void on_table(sqlite3_context *context, int count, sqlite3_value **values,
                     int (*act)(outbox *box, const char *table))
{
    outbox *box = handle(context);
    if (box && act(box, count > 0 ? text_of(values[0]) : NULL) != OUTBOX_OK)
        fail(context, box);
}

static void capture_remove(sqlite3_context *context, int count, sqlite3_value **values)
{
    on_table(context, count, values, outbox_capture_remove);
}

static void capture_suspend(sqlite3_context *context, int count, sqlite3_value **values)
{
    on_table(context, count, values, outbox_capture_suspend);
}

static void capture_resume(sqlite3_context *context, int count, sqlite3_value **values)
{
    on_table(context, count, values, outbox_capture_resume);
}

static void capture_snapshot(sqlite3_context *context, int count, sqlite3_value **values)
{
    outbox *box = handle(context);
    int64_t events = 0;
    int rows = count > 1 ? sqlite3_value_int(values[1]) : 0;
    if (!box)
        return;
    if (outbox_capture_snapshot(box, text_of(values[0]), (unsigned)rows, &events) == OUTBOX_OK)
        sqlite3_result_int64(context, events);
    else
        fail(context, box);
}

static void put_found(void *context, const char *lane, const char *sentence)
{
    (void)lane;
    sqlite3_str_appendchar(context, 1, sqlite3_str_length(context) > 1 ? ',' : ' ');
    ob_json_put_string(context, sentence, strlen(sentence));
}

static void put_capture(void *context, const outbox_capture *capture, outbox_capture_state state,
                        const char *sentence)
{
    static const char *const states[] = {"active", "suspended", "drifted"};
    sqlite3_str_appendf(context, "%s{\"table\":", sqlite3_str_length(context) > 1 ? "," : "");
    ob_json_put_string(context, capture->table, strlen(capture->table));
    sqlite3_str_appendall(context, ",\"topic\":");
    ob_json_put_string(context, capture->topic, strlen(capture->topic));
    sqlite3_str_appendf(context, ",\"lane\":\"%s\",\"state\":\"%s\",\"sentence\":",
                        ob_lane_name(capture->lane), states[state]);
    if (sentence)
        ob_json_put_string(context, sentence, strlen(sentence));
    else
        sqlite3_str_appendall(context, "null");
    sqlite3_str_appendchar(context, 1, '}');
}

static void give_array(sqlite3_context *context, sqlite3_str *text, int code)
{
    sqlite3_str_appendchar(text, 1, ']');
    char *json = sqlite3_str_finish(text);
    if (!json)
        sqlite3_result_error_nomem(context);
    else if (code == OUTBOX_OK || code == OUTBOX_DRIFT)
        sqlite3_result_text(context, json, -1, SQLITE_TRANSIENT);
    else
        sqlite3_result_error(context, outbox_strerror(code), -1);
    sqlite3_free(json);
}

static void capture_list(sqlite3_context *context, int count, sqlite3_value **values)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    (void)count, (void)values;
    sqlite3_str_appendchar(text, 1, '[');
    int code = outbox_capture_list(sqlite3_context_db_handle(context), put_capture, text);
    give_array(context, text, code);
}

static void capture_doctor(sqlite3_context *context, int count, sqlite3_value **values)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    (void)count, (void)values;
    sqlite3_str_appendchar(text, 1, '[');
    int code = outbox_capture_doctor(sqlite3_context_db_handle(context), put_found, text);
    give_array(context, text, code);
}

/* ---- The entry ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int least, most; /* arguments */
    void (*run)(sqlite3_context *context, int count, sqlite3_value **values);
} functions[] = {
    {"outbox_init", 0, 1, init},
    {"outbox_put", 2, 3, put},
    {"outbox_status", 0, 0, status},
    {"outbox_capture_add", 2, 3, capture_add},
    {"outbox_capture_remove", 1, 1, capture_remove},
    {"outbox_capture_suspend", 0, 1, capture_suspend},
    {"outbox_capture_resume", 0, 1, capture_resume},
    {"outbox_capture_snapshot", 1, 2, capture_snapshot},
    {"outbox_capture_list", 0, 0, capture_list},
    {"outbox_capture_doctor", 0, 0, capture_doctor},
};

/* A function that is refused is let go by SQLite like the others. */
static int make_functions(struct extension *extension)
{
    int result = SQLITE_OK;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        for (int count = functions[i].least; count <= functions[i].most; count++) {
            if (result != SQLITE_OK)
                return result;
            extension->users++;
            result = sqlite3_create_function_v2(extension->db, functions[i].name, count,
                                                SQLITE_UTF8 | SQLITE_DIRECTONLY, extension,
                                                functions[i].run, NULL, NULL, release);
        }
    return result;
}

__attribute__((visibility("default"))) int sqlite3_outbox_init(sqlite3 *db, char **message,
                                                               const sqlite3_api_routines *api);

int sqlite3_outbox_init(sqlite3 *db, char **message, const sqlite3_api_routines *api)
{
    struct ob_error ignored; /* whoever calls a function is told */
    enum ob_schema_found found = OB_SCHEMA_MISSING;
    ob_sqlite3_api = api;
    if (sqlite3_libversion_number() < 3034000) {
        *message = sqlite3_mprintf("outbox needs SQLite 3.34.0 or newer");
        return SQLITE_ERROR;
    }
    struct extension *extension = sqlite3_malloc((int)sizeof *extension);
    if (!extension)
        return SQLITE_NOMEM;
    *extension = (struct extension){.db = db, .users = 1};
    int result = make_functions(extension);
    /* Later may be inside a transaction, where nothing can be attached. */
    if (result == SQLITE_OK && ob_schema_find(db, &found, &ignored) == OUTBOX_OK &&
        found == OB_SCHEMA_PRESENT)
        (void)attach(extension, NULL, &ignored);
    release(extension);
    return result;
}
