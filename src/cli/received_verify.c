/* SPDX-License-Identifier: MIT
 *
 * received_verify.c - for `outbox verify`: do the tables of `outbox receive` agree with the inbox?
 *
 * Each stream is complete, each event is there once, and in order; where it is not, somebody else
 * wrote into the file, or this program is wrong. Reads only.
 */
#include "received.h"

#include <stdio.h>
#include <string.h>

/* Each gives rows of a stream (or NULL) and a sentence. */
static const char *const checks[] = {
    "SELECT stream, 'event ' || id || ' of ' || source || ' was applied ' || count(*) || ' times'"
    " FROM received WHERE stream IS NOT NULL AND sequence IS NOT NULL GROUP BY source, id"
    " HAVING count(*) > 1",

    "SELECT stream, 'row ' || n || ': event ' || sequence || ' stands behind event ' || before"
    " FROM (SELECT n, stream, sequence, lag(sequence) OVER (PARTITION BY source ORDER BY n)"
    "  AS before FROM received WHERE stream IS NOT NULL AND sequence IS NOT NULL)"
    " WHERE before >= sequence",

    "SELECT stream, 'row ' || n || ': event ' || previous || ' is missing before event '"
    " || sequence FROM (SELECT n, stream, sequence, previous, verdict,"
    "  lag(sequence) OVER (PARTITION BY source ORDER BY n) AS before"
    "  FROM received WHERE stream IS NOT NULL AND sequence IS NOT NULL)"
    " WHERE verdict <> 'skipped' AND before IS NOT NULL AND previous > before",

    "SELECT stream, 'row ' || n || ': an older epoch goes on behind a newer one'"
    " FROM (SELECT n, stream, source, lag(source) OVER (PARTITION BY stream ORDER BY n) AS other"
    "  FROM received WHERE stream IS NOT NULL) AS r WHERE other <> source AND EXISTS"
    " (SELECT 1 FROM received AS o WHERE o.source = r.source AND o.n < r.n)",

    "SELECT stream, 'the mark is ' || mark || ', the last event in received is ' ||"
    " ifnull(last, 'none') FROM (SELECT s.stream, s.mark, (SELECT max(sequence) FROM received AS r"
    "  WHERE r.source = s.stream || iif(s.epoch = '', '', '/') || s.epoch) AS last"
    "  FROM inbox_stream AS s) WHERE ifnull(last, 0) <> mark",

    "SELECT stream, 'the inbox has applied ' || applied || ' events, ' || rows || ' are in "
    "received'"
    " FROM (SELECT s.stream, s.applied, (SELECT count(*) FROM received AS r"
    "  WHERE r.stream = s.stream) AS rows FROM inbox_stream AS s) WHERE rows <> applied",

    "SELECT DISTINCT stream, 'the inbox knows nothing of this stream, which is in received'"
    " FROM received WHERE stream IS NOT NULL AND stream NOT IN (SELECT stream FROM inbox_stream)",

    "SELECT stream, count(*) || ' events wait behind a gap, the first is ' || min(sequence) ||"
    " ', and event ' || min(previous) || ' is missing' FROM received_waiting GROUP BY stream",
};

bool received_exists(sqlite3 *db)
{
    char *found = cli_text(db, "SELECT name FROM main.sqlite_master"
                               " WHERE type = 'table' AND name = 'received_waiting'");
    sqlite3_free(found);
    return found != NULL;
}

int received_verify(sqlite3 *db, outbox_finding found, void *context)
{
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        sqlite3_stmt *statement = NULL;
        int result = sqlite3_prepare_v2(db, checks[i], -1, &statement, NULL);
        if (result == SQLITE_OK)
            while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
                const char *sentence = (const char *)sqlite3_column_text(statement, 1);
                found(context, (const char *)sqlite3_column_text(statement, 0),
                      sentence ? sentence : "a row cannot be read");
            }
        (void)sqlite3_finalize(statement); /* repeats what step said */
        if (result != SQLITE_DONE)
            return cli_fail("%s", sqlite3_errmsg(db));
    }
    return CLI_OK;
}
