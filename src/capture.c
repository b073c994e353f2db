/* SPDX-License-Identifier: MIT
 *
 * capture.c - add, remove, suspend and resume captures, on the application's connection.
 *
 * Each is a whole, in the application's transaction or in one of its own: after a crash a table has
 * all its triggers or none, and outbox_capture says the same.
 */
#include "capture_check.h"
#include "capture_store.h"
#include "scope.h"
#include "sql.h"
#include "token.h"
#include "writer.h"

#include <string.h>

/* ---- What is asked for ----------------------------------------------------------------------- */

static int check_open(outbox *box)
{
    ob_error_clear(&box->error);
    return box->wakeup.db ? OUTBOX_OK
                          : ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
}

/* One name on each line; NULL for no list. */
static int join(const char *const *names, char **list, struct ob_error *error)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    for (int i = 0; names && names[i]; i++)
        sqlite3_str_appendf(text, "%s%s", i > 0 ? "\n" : "", names[i]);
    bool failed = sqlite3_str_errcode(text) != SQLITE_OK;
    *list = sqlite3_str_finish(text);
    return failed ? ob_plan_no_memory(error) : OUTBOX_OK;
}

static int check_argument(const outbox_capture *capture, struct ob_error *error)
{
    const unsigned all = OUTBOX_CAPTURE_INSERT | OUTBOX_CAPTURE_UPDATE | OUTBOX_CAPTURE_DELETE;
    if (!capture || !capture->table || !capture->topic)
        return ob_error_set(error, OUTBOX_MISUSE, "the capture, its table or its topic is NULL");
    if (capture->operations & ~all)
        return ob_error_set(error, OUTBOX_MISUSE, "there are no such operations");
    if (capture->lane != OUTBOX_NORMAL && capture->lane != OUTBOX_URGENT)
        return ob_error_set(error, OUTBOX_MISUSE, "there is no lane %d", (int)capture->lane);
    if (strpbrk(capture->table, "\n\r"))
        return ob_error_set(error, OUTBOX_MISUSE, "the table's name has a line break");
    return OUTBOX_OK;
}

/* ---- The condition --------------------------------------------------------------------------- */

static int note_presence(void *context, sqlite3_stmt *row)
{
    (void)row;
    *(bool *)context = true;
    return OUTBOX_OK;
}

/* Another program's connection has only what is built in. */
static int check_function(outbox *box, const char *name, size_t len)
{
    bool is_foreign = ob_token_is(name, len, "raise");
    if (len > 2 && strchr("\"`[", *name)) { /* it is quoted */
        name++;
        len -= 2;
    }
    char *copy = sqlite3_mprintf("%.*s", (int)len, name);
    if (!copy)
        return ob_plan_no_memory(&box->error);
    int code = ob_plan_query(box->wakeup.db, &box->error,
                             "SELECT 1 FROM pragma_function_list"
                             " WHERE name = ?1 COLLATE NOCASE AND NOT builtin",
                             copy, NULL, note_presence, &is_foreign);
    if (code == OUTBOX_OK && is_foreign)
        code = ob_error_set(&box->error, OUTBOX_MISUSE,
                            "the condition calls %s, which is not built into SQLite: other "
                            "programs could not write the table any more",
                            copy);
    sqlite3_free(copy);
    return code;
}

static int check_collation(outbox *box, const char *name, size_t len)
{
    if (ob_token_names(name, len, "BINARY") || ob_token_names(name, len, "NOCASE") ||
        ob_token_names(name, len, "RTRIM"))
        return OUTBOX_OK;
    return ob_error_set(&box->error, OUTBOX_MISUSE,
                        "the condition uses the collation %.*s, which is not built into SQLite: "
                        "other programs could not write the table any more",
                        (int)len, name);
}

/* What the pieces of a condition call: `before` stands before `at`, white space aside. */
static int check_calls(outbox *box, const char *before, size_t before_len, const char *at,
                       size_t len)
{
    if (before && *at == '(')
        return check_function(box, before, before_len);
    if (before && ob_token_is(before, before_len, "COLLATE"))
        return check_collation(box, at, len);
    if (ob_token_is(at, len, "REGEXP") || ob_token_is(at, len, "MATCH"))
        return check_function(box, at, len); /* an operator that is a function */
    return OUTBOX_OK;
}

/* It goes into a trigger in brackets, so it must not be able to leave them. */
static int check_condition(outbox *box, const char *condition)
{
    int depth = 0, code = OUTBOX_OK;
    size_t len, before_len = 0;
    const char *at = condition, *before = NULL;
    enum ob_token token;
    for (; (token = ob_token_next(at, &len)) != OB_TOKEN_END && code == OUTBOX_OK; at += len) {
        bool is_bad = (token == OB_TOKEN_SIGN && strchr(";?:@$#", *at)) ||
                      (token == OB_TOKEN_SPACE && (*at == '-' || *at == '/'));
        if (token != OB_TOKEN_SPACE)
            code = check_calls(box, before, before_len, at, len);
        depth += token == OB_TOKEN_SIGN ? (*at == '(') - (*at == ')') : 0;
        if (is_bad || depth < 0)
            break;
        if (token == OB_TOKEN_SPACE)
            continue;
        before = token == OB_TOKEN_NAME ? at : NULL;
        before_len = len;
    }
    if (code != OUTBOX_OK || (*at == '\0' && depth == 0))
        return code;
    return ob_error_set(
        &box->error, OUTBOX_MISUSE,
        "the condition is no SQL expression: its brackets do not match, or it has a "
        "comment, a parameter or a ;");
}

/* Compiles what others will run: SQLite does not look at a trigger before. */
static int try_statement(struct ob_plan *plan, const char *format, const char *column)
{
    sqlite3_stmt *statement = NULL;
    char *sql = sqlite3_mprintf(format, plan->table, column, column);
    if (!sql)
        return ob_plan_no_memory(plan->error);
    int result = sqlite3_prepare_v2(plan->db, sql, -1, &statement, NULL);
    sqlite3_free(sql);
    (void)sqlite3_finalize(statement); /* it never ran */
    return result == SQLITE_OK
               ? OUTBOX_OK
               : ob_error_sqlite(plan->error, plan->db, result, "trying the triggers");
}

static int try_triggers(struct ob_plan *plan)
{
    const char *key = NULL;
    (void)ob_plan_row_key(plan, 0, &key);
    int code = try_statement(plan, "INSERT INTO main.\"%w\" DEFAULT VALUES", "");
    if (code == OUTBOX_OK)
        code = try_statement(plan, "DELETE FROM main.\"%w\"", "");
    return code == OUTBOX_OK ? try_statement(plan, "UPDATE main.\"%w\" SET \"%w\" = \"%w\"", key)
                             : code;
}

/* ---- Add ------------------------------------------------------------------------------------- */

/* Where SQLite is built so, it takes "text" for a text if there is no such column; another
 * program's SQLite may not, and then could not write the table any more. */
static int check_quotes(struct ob_plan *plan)
{
    int was = 0, ignored;
    sqlite3_stmt *statement = NULL;
    if (!plan->definition->condition)
        return OUTBOX_OK;
    sqlite3_str *text = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(text, "SELECT 1 FROM main.\"%w\" AS outbox_row WHERE ", plan->table);
    ob_plan_put_condition(plan, text, "outbox_row", "outbox_row");
    char *sql = sqlite3_str_finish(text);
    if (!sql)
        return ob_plan_no_memory(plan->error);
    /* An SQLite that knows no such setting is an old one; there is nothing to be tried then. */
    bool is_set = sqlite3_db_config(plan->db, SQLITE_DBCONFIG_DQS_DML, -1, &was) == SQLITE_OK &&
                  sqlite3_db_config(plan->db, SQLITE_DBCONFIG_DQS_DML, 0, &ignored) == SQLITE_OK;
    int result = is_set ? sqlite3_prepare_v2(plan->db, sql, -1, &statement, NULL) : SQLITE_OK;
    sqlite3_free(sql);
    int code = result == SQLITE_OK
                   ? OUTBOX_OK
                   : ob_error_sqlite(plan->error, plan->db, result, "trying the condition");
    if (result == SQLITE_ERROR)
        code = ob_error_set(plan->error, OUTBOX_MISUSE,
                            "the condition cannot be used: %s; a text stands in single quotes",
                            sqlite3_errmsg(plan->db));
    (void)sqlite3_finalize(statement); /* it never ran */
    if (is_set && sqlite3_db_config(plan->db, SQLITE_DBCONFIG_DQS_DML, was, &ignored) != SQLITE_OK)
        code = ob_error_set(plan->error, OUTBOX_SQLITE, "a setting cannot be put back");
    return code;
}

static int install(outbox *box, struct ob_definition *definition)
{
    struct ob_plan plan;
    sqlite3 *db = box->wakeup.db;
    bool is_new = definition->shape == 0;
    int code = ob_plan_make(&plan, db, definition, &box->error);
    if (code == OUTBOX_OK && is_new)
        code = check_quotes(&plan);
    if (code == OUTBOX_OK)
        code = ob_capture_install(&plan, definition);
    if (code == OUTBOX_OK)
        code = try_triggers(&plan);
    /* Without a condition our SQL has no mistake. */
    if (code == OUTBOX_SQLITE && definition->condition && sqlite3_errcode(db) == SQLITE_ERROR)
        code = ob_error_set(&box->error, OUTBOX_MISUSE, "the condition cannot be used: %s",
                            sqlite3_errmsg(db));
    definition->is_suspended = false;
    if (code == OUTBOX_OK)
        code = ob_capture_save(db, definition, &box->error);
    ob_plan_free(&plan);
    return code;
}

static int take_twice(void *context, struct ob_definition *definition)
{
    outbox *box = context;
    return ob_error_set(&box->error, OUTBOX_MISUSE, "%s is captured already; remove it first",
                        definition->table);
}

static int add_inside(outbox *box, struct ob_definition *definition)
{
    sqlite3 *db = box->wakeup.db;
    int code = ob_captures_make(db, &box->error);
    if (code == OUTBOX_OK)
        code = ob_captures_each(db, definition->table, &box->error, take_twice, box);
    if (code == OUTBOX_OK)
        code = ob_capture_save(db, definition, &box->error); /* for its number */
    return code == OUTBOX_OK ? install(box, definition) : code;
}

static int in_scope(outbox *box, int (*work)(outbox *box, struct ob_definition *definition),
                    struct ob_definition *definition)
{
    struct ob_scope scope;
    int code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_scope_close(&scope, work(box, definition));
    if (code == OUTBOX_OK)
        ob_capture_note_drift(box);
    return code;
}

static int add_capture(outbox *box, const outbox_capture *capture)
{
    struct ob_definition definition = {
        .table = sqlite3_mprintf("%s", capture->table),
        .topic = sqlite3_mprintf("%s", capture->topic),
        .condition = capture->condition ? sqlite3_mprintf("%s", capture->condition) : NULL,
        .operations = capture->operations
                          ? capture->operations
                          : OUTBOX_CAPTURE_INSERT | OUTBOX_CAPTURE_UPDATE | OUTBOX_CAPTURE_DELETE,
        .lane = capture->lane,
        .integers_as_text = capture->integers_as_text != 0};
    int code = definition.table && definition.topic && (!capture->condition || definition.condition)
                   ? OUTBOX_OK
                   : ob_plan_no_memory(&box->error);
    if (code == OUTBOX_OK)
        code = join(capture->columns, &definition.columns, &box->error);
    if (code == OUTBOX_OK)
        code = join(capture->key_columns, &definition.key_columns, &box->error);
    if (code == OUTBOX_OK)
        code = join(capture->json_columns, &definition.json_columns, &box->error);
    if (code == OUTBOX_OK)
        code = in_scope(box, add_inside, &definition);
    ob_definition_free(&definition);
    return code;
}

int outbox_capture_add(outbox *box, const outbox_capture *capture)
{
    if (!box)
        return OUTBOX_MISUSE;
    int code = check_open(box);
    if (code == OUTBOX_OK)
        code = check_argument(capture, &box->error);
    if (code == OUTBOX_OK && capture->condition)
        code = check_condition(box, capture->condition);
    return code == OUTBOX_OK ? add_capture(box, capture) : code;
}

/* ---- Remove, suspend, resume ----------------------------------------------------------------- */

struct verb {
    outbox *box;
    int (*act)(outbox *box, struct ob_definition *definition);
    int count;
    struct ob_error first; /* of take_each() */
};

static int take_act(void *context, struct ob_definition *definition)
{
    struct verb *verb = context;
    verb->count++;
    return verb->act(verb->box, definition);
}

/* What is wrong with one table is no reason to leave the others as they are. */
static int take_each(void *context, struct ob_definition *definition)
{
    struct verb *verb = context;
    struct ob_scope scope;
    int code = ob_scope_open(&scope, verb->box->wakeup.db, &verb->box->error);
    if (code == OUTBOX_OK)
        code = ob_scope_close(&scope, take_act(context, definition));
    if (code != OUTBOX_MISUSE)
        return code;
    if (verb->first.code == OUTBOX_OK)
        verb->first = verb->box->error;
    return OUTBOX_OK;
}

static int act_on(outbox *box, const char *table,
                  int (*one)(outbox *box, struct ob_definition *definition),
                  int (*take)(void *context, struct ob_definition *definition))
{
    struct verb verb = {.box = box, .act = one};
    struct ob_scope scope;
    int code = check_open(box);
    if (code == OUTBOX_OK)
        code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_captures_each(box->wakeup.db, table, &box->error, take, &verb);
    if (code == OUTBOX_OK && table && verb.count == 0)
        code = ob_error_set(&box->error, OUTBOX_MISUSE, "%s is not captured", table);
    code = ob_scope_close(&scope, code);
    if (code != OUTBOX_OK)
        return code;
    ob_capture_note_drift(box);
    if (verb.first.code != OUTBOX_OK)
        box->error = verb.first;
    return verb.first.code;
}

static int remove_one(outbox *box, struct ob_definition *definition)
{
    int code = ob_capture_drop(box->wakeup.db, definition->number, &box->error);
    return code == OUTBOX_OK ? ob_capture_forget(box->wakeup.db, definition->number, &box->error)
                             : code;
}

static int suspend_one(outbox *box, struct ob_definition *definition)
{
    definition->is_suspended = true;
    definition->has_gap++;
    int code = ob_capture_drop(box->wakeup.db, definition->number, &box->error);
    return code == OUTBOX_OK ? ob_capture_save(box->wakeup.db, definition, &box->error) : code;
}

static int resume_one(outbox *box, struct ob_definition *definition)
{
    struct ob_error drift;
    int code = ob_captures_make(box->wakeup.db, &box->error); /* one may be gone */
    if (code == OUTBOX_OK)
        code = ob_capture_follow_name(box->wakeup.db, definition, &box->error);
    if (code == OUTBOX_OK)
        code = ob_capture_drifted(box->wakeup.db, definition, &drift, &box->error);
    if (code != OUTBOX_OK)
        return code;
    definition->has_gap += drift.code != OUTBOX_OK;
    return install(box, definition);
}

int outbox_capture_remove(outbox *box, const char *table)
{
    if (!box)
        return OUTBOX_MISUSE;
    if (!table)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "the table is NULL");
    return act_on(box, table, remove_one, take_act);
}

int outbox_capture_suspend(outbox *box, const char *table)
{
    return box ? act_on(box, table, suspend_one, take_act) : OUTBOX_MISUSE;
}

int outbox_capture_resume(outbox *box, const char *table)
{
    return box ? act_on(box, table, resume_one, table ? take_act : take_each) : OUTBOX_MISUSE;
}
