/* SPDX-License-Identifier: MIT
 *
 * capture_check.c - finds tables that drifted from their triggers: list, doctor, and who looks.
 *
 * The triggers are written anew from the table as it is, and compared with those in the schema; so
 * whatever was added, renamed, rebuilt or dropped shows. It only reads.
 */
#include "capture_check.h"

#include "capture_store.h"
#include "sql.h"
#include "writer.h"

#include <string.h>

/* ---- One capture ----------------------------------------------------------------------------- */

struct comparison {
    const struct ob_object *object;
    struct ob_error *error;
    bool is_there, is_same;
};

static int take_object(void *context, sqlite3_stmt *row)
{
    struct comparison *comparison = context;
    const char *sql;
    size_t len;
    int code = ob_sql_text(row, 0, &sql, &len, comparison->error);
    size_t skip = strlen(comparison->object->is_trigger ? "CREATE TRIGGER " : "CREATE TABLE ");
    comparison->is_there = true;
    comparison->is_same = sql && len > skip && strcmp(sql + skip, comparison->object->text) == 0;
    return code;
}

static int take_same(void *context, sqlite3_stmt *row)
{
    (void)row;
    *(bool *)context = true;
    return OUTBOX_OK;
}

static int compare_objects(const struct ob_plan *plan, struct ob_error *drift)
{
    int code = OUTBOX_OK;
    for (int i = 0; i < plan->object_count && code == OUTBOX_OK; i++) {
        struct comparison comparison = {.object = &plan->objects[i], .error = plan->error};
        code = ob_plan_query(plan->db, plan->error,
                             "SELECT sql FROM main.sqlite_master WHERE name = ?1",
                             comparison.object->name, NULL, take_object, &comparison);
        if (code == OUTBOX_OK && !comparison.is_there) {
            ob_error_set(drift, OUTBOX_DRIFT,
                         "%s has lost its trigger or table %s, as when it is rebuilt: changes are "
                         "not captured; resume it, and take a snapshot",
                         plan->table, comparison.object->name);
            return OUTBOX_OK;
        }
        if (code == OUTBOX_OK && !comparison.is_same && drift->code == OUTBOX_OK)
            ob_error_set(
                drift, OUTBOX_DRIFT,
                "%s, its indexes or its triggers have changed, its capture has not; resume "
                "it",
                plan->table);
    }
    return code;
}

static int compare_shape(const struct ob_plan *plan, struct ob_error *drift)
{
    char number[24];
    bool is_same = false;
    sqlite3_snprintf((int)sizeof number, number, "%lld", (long long)plan->definition->shape);
    int code = ob_plan_query(plan->db, plan->error,
                             "SELECT 1 FROM main.outbox_shape WHERE shape = ?1 + 0 AND text = ?2",
                             number, plan->shape, take_same, &is_same);
    if (code == OUTBOX_OK && !is_same)
        ob_error_set(drift, OUTBOX_DRIFT,
                     "the columns of %s have changed, its capture has not; resume it", plan->table);
    return code;
}

struct name {
    char *text;
    struct ob_error *error;
};

static int keep_name(void *context, sqlite3_stmt *row)
{
    struct name *name = context;
    sqlite3_free(name->text);
    return ob_plan_copy(row, 0, &name->text, name->error);
}

/* Under which name the table is now; NULL where it is what it was, or gone. */
static int find_name(sqlite3 *db, const struct ob_definition *definition, char **name,
                     struct ob_error *error)
{
    char digits[24];
    struct name found = {NULL, error};
    sqlite3_snprintf((int)sizeof digits, digits, "%lld", (long long)definition->number);
    int code =
        ob_plan_query(db, error,
                      "SELECT tbl_name FROM main.sqlite_master WHERE type = 'trigger'"
                      " AND name GLOB 'outbox_capture_' || ?1 || '_*'"
                      " AND tbl_name NOT GLOB 'outbox_*' AND NOT EXISTS(SELECT 1 FROM"
                      " main.sqlite_master WHERE type = 'table' AND name = ?2 COLLATE NOCASE)",
                      digits, definition->table, keep_name, &found);
    *name = found.text;
    return code;
}

int ob_capture_follow_name(sqlite3 *db, struct ob_definition *definition, struct ob_error *error)
{
    char *name;
    int code = find_name(db, definition, &name, error);
    if (!name)
        return code;
    sqlite3_free(definition->table);
    definition->table = name;
    return code;
}

static int say_renamed(sqlite3 *db, const struct ob_definition *definition, struct ob_error *drift,
                       struct ob_error *error)
{
    char *name;
    int code = find_name(db, definition, &name, error);
    if (name)
        ob_error_set(drift, OUTBOX_DRIFT, "%s was renamed to %s; resume its capture",
                     definition->table, name);
    sqlite3_free(name);
    return code;
}

int ob_capture_drifted(sqlite3 *db, const struct ob_definition *definition, struct ob_error *drift,
                       struct ob_error *error)
{
    struct ob_plan plan;
    ob_error_clear(drift);
    if (definition->is_suspended)
        return OUTBOX_OK;
    int code = say_renamed(db, definition, drift, error);
    if (code != OUTBOX_OK || drift->code != OUTBOX_OK)
        return code;
    code = ob_plan_make(&plan, db, definition, error);
    if (code == OUTBOX_OK)
        code = ob_plan_write(&plan);
    if (code == OUTBOX_OK)
        code = compare_shape(&plan, drift);
    if (code == OUTBOX_OK)
        code = compare_objects(&plan, drift);
    ob_plan_free(&plan);
    if (code != OUTBOX_MISUSE)
        return code;
    /* It could not be captured like that any more. */
    *drift = *error;
    drift->code = OUTBOX_DRIFT;
    ob_error_clear(error);
    return OUTBOX_OK;
}

/* ---- All of them ----------------------------------------------------------------------------- */

struct look {
    sqlite3 *db;
    struct ob_error *drift, *error;
};

static int take_first_drift(void *context, struct ob_definition *definition)
{
    struct look *look = context;
    return look->drift->code == OUTBOX_OK
               ? ob_capture_drifted(look->db, definition, look->drift, look->error)
               : OUTBOX_OK;
}

static int look_at_all(struct look *look)
{
    int code = ob_captures_each(look->db, NULL, look->error, take_first_drift, look);
    /* SQLITE_ERROR: a table of ours is gone, or has other columns. A read that failed is no
     * drift. */
    bool is_odd = code == OUTBOX_SQLITE && sqlite3_errcode(look->db) == SQLITE_ERROR;
    if (code != OUTBOX_CORRUPT && code != OUTBOX_TOO_LARGE && !is_odd)
        return code;
    /* It will not pass by itself, and is no reason to send nothing. */
    ob_error_set(look->drift, OUTBOX_DRIFT, "what is captured cannot be checked: %s",
                 look->error->sentence);
    return OUTBOX_OK;
}

int ob_captures_drifted(sqlite3 *db, struct ob_error *drift, struct ob_error *error)
{
    struct look look = {db, drift, error};
    ob_error_clear(drift);
    /* Not at once: without memory the forwarder could end no transaction, and would hold a lock. A
     * drift that is none goes with the next look. */
    return look_at_all(&look);
}

void ob_capture_note_drift(outbox *box)
{
    struct ob_error drift = {0},
                    ignored = {0}; /* what cannot be read now, the forwarder reads later */
    if (ob_captures_drifted(box->wakeup.db, &drift, &ignored) == OUTBOX_OK)
        box->has_drift = drift.code != OUTBOX_OK;
}

/* ---- List ------------------------------------------------------------------------------------ */

/* A list as outbox_capture has it: the names, one behind the other, and the pointers in front. */
static const char *const *split(const char *list, void **memory)
{
    int count = ob_list_count(list), i = 0;
    *memory = NULL;
    if (!list)
        return NULL;
    size_t head = (size_t)(count + 1) * sizeof(char *);
    char **names = sqlite3_malloc64(head + strlen(list) + 1);
    if (!names)
        return NULL;
    char *text = (char *)names + head;
    size_t len;
    for (const char *at; (at = ob_list_next(&list, &len)); text += len + 1) {
        memcpy(text, at, len);
        text[len] = '\0';
        names[i++] = text;
    }
    names[i] = NULL;
    *memory = names;
    return (const char *const *)names;
}

struct list {
    struct look look;
    outbox_capture_each each;
    void *context;
};

static int tell_capture(const struct list *list, const struct ob_definition *definition,
                        const struct ob_error *drift)
{
    void *memory[3];
    const outbox_capture capture = {.table = definition->table,
                                    .topic = definition->topic,
                                    .columns = split(definition->columns, &memory[0]),
                                    .key_columns = split(definition->key_columns, &memory[1]),
                                    .json_columns = split(definition->json_columns, &memory[2]),
                                    .operations = definition->operations,
                                    .condition = definition->condition,
                                    .lane = definition->lane,
                                    .integers_as_text = definition->integers_as_text};
    bool failed = (definition->columns && !memory[0]) || (definition->key_columns && !memory[1]) ||
                  (definition->json_columns && !memory[2]);
    outbox_capture_state state = definition->is_suspended      ? OUTBOX_CAPTURE_SUSPENDED
                                 : drift->code == OUTBOX_DRIFT ? OUTBOX_CAPTURE_DRIFTED
                                                               : OUTBOX_CAPTURE_ACTIVE;
    if (!failed)
        list->each(list->context, &capture, state,
                   drift->code == OUTBOX_DRIFT ? drift->sentence : NULL);
    for (int i = 0; i < 3; i++)
        sqlite3_free(memory[i]);
    return failed ? ob_plan_no_memory(list->look.error) : OUTBOX_OK;
}

static int take_listed(void *context, struct ob_definition *definition)
{
    struct list *list = context;
    struct ob_error drift;
    int code = ob_capture_drifted(list->look.db, definition, &drift, list->look.error);
    return code == OUTBOX_OK ? tell_capture(list, definition, &drift) : code;
}

static int list_all(void *context)
{
    struct list *list = context;
    return ob_captures_each(list->look.db, NULL, list->look.error, take_listed, list);
}

int outbox_capture_list(sqlite3 *db, outbox_capture_each each, void *context)
{
    struct ob_error error;
    struct list list = {{db, NULL, &error}, each, context};
    if (!db || !each)
        return OUTBOX_MISUSE;
    return ob_sql_read_at_once(db, list_all, &list, &error);
}

/* ---- Doctor ---------------------------------------------------------------------------------- */

struct doctor {
    sqlite3 *db;
    struct ob_error error;
    outbox_finding found;
    void *context;
    int findings;
};

static void tell_doctor(struct doctor *doctor, const char *format, ...)
{
    struct ob_error finding;
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&finding, OUTBOX_DRIFT, format, arguments);
    va_end(arguments);
    doctor->findings++;
    if (doctor->found)
        doctor->found(doctor->context, NULL, finding.sentence);
}

static int take_examined(void *context, struct ob_definition *definition)
{
    struct doctor *doctor = context;
    struct ob_error drift;
    int code = ob_capture_drifted(doctor->db, definition, &drift, &doctor->error);
    if (code != OUTBOX_OK)
        return code;
    if (drift.code != OUTBOX_OK)
        tell_doctor(doctor, "%s", drift.sentence);
    if (definition->is_suspended)
        tell_doctor(doctor,
                    "the capture of %s is suspended: its changes are not captured; resume it",
                    definition->table);
    else if (definition->has_gap)
        tell_doctor(doctor,
                    "changes of %s may have been missed while it had no triggers; take a snapshot",
                    definition->table);
    return OUTBOX_OK;
}

/* A row of name, table and what is wrong with that. */
static int tell_of_row(void *context, sqlite3_stmt *row)
{
    struct doctor *doctor = context;
    const char *text[2] = {NULL, NULL};
    size_t len;
    int code = OUTBOX_OK;
    for (int i = 0; i < 2 && code == OUTBOX_OK; i++)
        code = ob_sql_text(row, i, &text[i], &len, &doctor->error);
    if (code == OUTBOX_OK)
        tell_doctor(doctor,
                    sqlite3_column_int(row, 2)
                        ? "the trigger %s on %s can make events vanish or fail; drop it"
                        : "the UNIQUE index %s on %s lets an INSERT OR IGNORE change the table "
                          "without its event; drop it",
                    text[0], text[1]);
    return code;
}

static int examine_all(void *context)
{
    struct doctor *doctor = context;
    sqlite3 *db = doctor->db;
    int code = ob_captures_each(db, NULL, &doctor->error, take_examined, doctor);
    if (code == OUTBOX_OK)
        code =
            ob_plan_query(db, &doctor->error,
                          "SELECT name, tbl_name, 1 FROM main.sqlite_master WHERE type = 'trigger'"
                          " AND tbl_name IN ('outbox_event', 'outbox_urgent')",
                          NULL, NULL, tell_of_row, doctor);
    if (code == OUTBOX_OK)
        code =
            ob_plan_query(db, &doctor->error,
                          "SELECT i.name, s.name, 0 FROM main.sqlite_master AS s"
                          " JOIN pragma_index_list(s.name, 'main') AS i WHERE i.\"unique\""
                          " AND s.type = 'table' AND s.name IN ('outbox_event', 'outbox_urgent')",
                          NULL, NULL, tell_of_row, doctor);
    return code;
}

int outbox_capture_doctor(sqlite3 *db, outbox_finding found, void *context)
{
    struct doctor doctor = {.db = db, .found = found, .context = context};
    if (!db)
        return OUTBOX_MISUSE;
    int code = ob_sql_read_at_once(db, examine_all, &doctor, &doctor.error);
    if (code != OUTBOX_OK)
        return code;
    return doctor.findings > 0 ? OUTBOX_DRIFT : OUTBOX_OK;
}
