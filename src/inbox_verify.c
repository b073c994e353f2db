/* SPDX-License-Identifier: MIT
 *
 * inbox_verify.c - looks at all streams of an inbox: for tools, through any connection.
 *
 * It only reads, with one statement, so it may be killed at any moment and sees one state of the
 * file.
 */
#include "inbox_table.h"
#include "sql.h"

#include <string.h>

static const char all_sql[] =
    "SELECT " OB_INBOX_COLUMNS ", stream FROM main.inbox_stream ORDER BY stream";

enum { NAME = 11 };

typedef int (*take_stream)(void *context, const char *name, int code,
                           const struct ob_stream *stream, const struct ob_error *error);

/* Calls `take` with each row, also with one that cannot be read; goes on as long as that gives
 * OUTBOX_OK. */
static int each_stream(sqlite3 *db, take_stream take, void *context, struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool found = false, row = true;
    int code = ob_inbox_find(db, &found, error);
    if (code == OUTBOX_OK && !found)
        code = ob_error_set(error, OUTBOX_CORRUPT, "there is no inbox in this file");
    if (code == OUTBOX_OK)
        code = ob_sql_prepare(db, all_sql, &statement, error);
    while (code == OUTBOX_OK && row) {
        struct ob_stream stream;
        code = ob_sql_step(statement, &row, error, "reading the streams");
        if (code != OUTBOX_OK || !row)
            break;
        const char *name = (const char *)sqlite3_column_text(statement, NAME);
        if (!name)
            name = "?";
        int loaded = ob_inbox_load(statement, name, (int)strlen(name), &stream, error);
        code = take(context, name, loaded, &stream, error);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* ---- Inspect --------------------------------------------------------------------------------- */

struct inspection {
    void (*each)(void *context, const inbox_stream *stream);
    void *context;
};

static int show(void *context, const char *name, int code, const struct ob_stream *stream,
                const struct ob_error *error)
{
    const struct inspection *inspection = context;
    const inbox_stream shown = {.name = name,
                                .epoch = stream->epoch,
                                .mark = stream->mark,
                                .applied = stream->applied,
                                .passed_over = stream->passed_over,
                                .forgone = stream->forgone,
                                .announced = stream->announced,
                                .lost = stream->lost,
                                .epochs = stream->epochs};
    (void)error;
    if (code == OUTBOX_OK)
        inspection->each(inspection->context, &shown);
    return code;
}

int inbox_inspect(sqlite3 *db, void (*each)(void *context, const inbox_stream *stream),
                  void *context, char *sentence, size_t size)
{
    struct inspection inspection = {each, context};
    struct ob_error error;
    if (!db || !each)
        return OUTBOX_MISUSE;
    int code = each_stream(db, show, &inspection, &error);
    if (code != OUTBOX_OK && sentence && size > 0)
        sqlite3_snprintf((int)size, sentence, "%s", error.sentence);
    return code;
}

/* ---- Verify ---------------------------------------------------------------------------------- */

struct verification {
    outbox_finding found;
    void *context;
    int64_t findings;
};

static void tell_finding(struct verification *verification, const char *name, const char *sentence)
{
    verification->findings++;
    if (verification->found)
        verification->found(verification->context, name, sentence);
}

static bool knows_twice(const struct ob_stream *stream)
{
    for (int i = 0; i < stream->retired_count; i++) {
        if (strcmp(stream->retired[i], stream->epoch) == 0)
            return true;
        for (int j = 0; j < i; j++)
            if (strcmp(stream->retired[i], stream->retired[j]) == 0)
                return true;
    }
    return false;
}

static int check_stream(void *context, const char *name, int code, const struct ob_stream *stream,
                        const struct ob_error *error)
{
    struct verification *verification = context;
    if (code == OUTBOX_CORRUPT) {
        tell_finding(verification, name, error->sentence);
        return OUTBOX_OK;
    }
    if (code != OUTBOX_OK)
        return code;
    if (stream->applied == 0)
        tell_finding(verification, name, "the stream is there, and no event was applied");
    if (knows_twice(stream))
        tell_finding(verification, name, "an epoch is remembered twice");
    if (stream->epochs < stream->retired_count)
        tell_finding(verification, name, "more epochs are remembered than have begun");
    return OUTBOX_OK;
}

int inbox_verify(sqlite3 *db, outbox_finding found, void *context)
{
    struct verification verification = {found, context, 0};
    struct ob_error error;
    if (!db)
        return OUTBOX_MISUSE;
    int code = each_stream(db, check_stream, &verification, &error);
    if (code == OUTBOX_CORRUPT)
        tell_finding(&verification, NULL, error.sentence);
    if (code == OUTBOX_OK && verification.findings > 0)
        code = OUTBOX_CORRUPT;
    return code;
}
