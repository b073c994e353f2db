/* SPDX-License-Identifier: MIT
 *
 * verify.c - recomputes what must hold of the tables, and tells what does not.
 *
 * It only reads, in one transaction, so it may be killed at any moment and sees no half of
 * anybody's work. All of this holds at every commit, and so after every crash too; what it finds
 * was made by other hands, by a damaged disk, or by a mistake of ours.
 */
#include "announce.h"
#include "schema.h"
#include "sql.h"
#include "text.h"

#include <string.h>

struct verify {
    sqlite3 *db;
    outbox_finding found;
    void *context;
    int64_t findings;
    struct ob_error error;
};

/* One lane, as far as it was read. */
struct check {
    struct verify *verify;
    outbox_lane lane;
    bool has_tombstone, has_total;
    struct ob_ledger ledger;
    int64_t rows, last, total;
};

static void tell(struct verify *verify, const char *lane, const char *sentence)
{
    verify->findings++;
    if (verify->found)
        verify->found(verify->context, lane, sentence);
}

static void tell_lane(const struct check *check, const char *format, ...)
{
    struct ob_error finding;
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&finding, OUTBOX_CORRUPT, format, arguments);
    va_end(arguments);
    tell(check->verify, ob_lane_name(check->lane), finding.sentence);
}

/* What cannot be read because it is damaged is a finding too, and the rest is looked at. */
static int go_on(struct verify *verify, const char *lane, int code)
{
    if (code != OUTBOX_CORRUPT)
        return code;
    tell(verify, lane, verify->error.sentence);
    return OUTBOX_OK;
}

/* Calls `take` with each row of a text of lane.h. */
static int each_row(struct check *check, const char *text,
                    int (*take)(struct check *check, sqlite3_stmt *row))
{
    struct verify *verify = check->verify;
    sqlite3_stmt *statement = NULL;
    bool row = true;
    int code = ob_lane_prepare(verify->db, check->lane, text, &statement, &verify->error);
    while (code == OUTBOX_OK && row) {
        code = ob_sql_step(statement, &row, &verify->error, "reading to verify");
        if (code == OUTBOX_OK && row)
            code = take(check, statement);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* ---- The rows of a lane ---------------------------------------------------------------------- */

static int take_tombstone(struct check *check, sqlite3_stmt *row)
{
    int64_t id = sqlite3_column_int64(row, 0);
    const char *text;
    size_t len;
    int code = ob_sql_text(row, 1, &text, &len, &check->verify->error);
    if (code != OUTBOX_OK)
        return code;
    check->has_tombstone = text && ob_ledger_parse(&check->ledger, id, text, len);
    if (!text)
        tell_lane(check, "the lowest row, %lld, carries no mark, so there is no tombstone",
                  (long long)id);
    else if (!check->has_tombstone)
        tell_lane(check,
                  "the ledger of the tombstone %lld cannot be read, or its counts do not add up "
                  "to the id",
                  (long long)id);
    return OUTBOX_OK;
}

static void take_event(struct check *check, sqlite3_stmt *row)
{
    int64_t id = sqlite3_column_int64(row, 0);
    if (sqlite3_column_type(row, 1) != SQLITE_NULL)
        tell_lane(check, "row %lld carries a mark and is not the lowest", (long long)id);
    if (id <= check->last)
        tell_lane(check, "row %lld stands behind row %lld", (long long)id, (long long)check->last);
    if (id <= 0 || id > OUTBOX_ID_MAX)
        tell_lane(check, "the id %lld is out of range (1 to 2^48)", (long long)id);
}

static void take_total(struct check *check, sqlite3_stmt *row)
{
    if (sqlite3_column_type(row, 2) != SQLITE_INTEGER)
        return;
    int64_t total = sqlite3_column_int64(row, 2);
    if (check->has_total && total <= check->total)
        tell_lane(check, "the running total of row %lld, %lld, is not over the one before, %lld",
                  (long long)sqlite3_column_int64(row, 0), (long long)total,
                  (long long)check->total);
    check->has_total = true;
    check->total = total;
}

static int take_row(struct check *check, sqlite3_stmt *row)
{
    int code = OUTBOX_OK;
    if (check->rows == 0)
        code = take_tombstone(check, row);
    else
        take_event(check, row);
    take_total(check, row);
    check->rows++;
    check->last = sqlite3_column_int64(row, 0);
    return code;
}

/* Each id at most once; what is missing was skipped by other writers, or deleted by hand. */
static void check_count(const struct check *check)
{
    if (check->rows == 0)
        tell_lane(check, "the table is empty, so there is no tombstone");
    else if (check->has_tombstone && check->last >= check->ledger.id &&
             check->rows - 1 > check->last - check->ledger.id)
        tell_lane(check, "there are %lld rows, more than ids from %lld to %lld",
                  (long long)check->rows, (long long)check->ledger.id, (long long)check->last);
}

/* ---- Announcements --------------------------------------------------------------------------- */

static int check_announcements(const struct check *check)
{
    struct verify *verify = check->verify;
    int code = OUTBOX_OK;
    for (int i = 0; i < OB_OUTCOMES && code == OUTBOX_OK; i++) {
        int64_t row = check->ledger.drops[i].row, exists;
        if (row <= check->ledger.id)
            continue;
        code = ob_lane_number(
            verify->db, check->lane,
            "SELECT 1 FROM main.{table} WHERE id = ?1 AND type = '" OB_ANNOUNCE_TYPE "'", row, 0, 0,
            &exists, &verify->error);
        if (code == OUTBOX_OK && exists == 0)
            tell_lane(check, "the announcement %lld of what was dropped as %s is not there",
                      (long long)row, ob_outcome_name((enum ob_outcome)i));
    }
    return code;
}

/* ---- Epochs ---------------------------------------------------------------------------------- */

/* Behind the last epoch's first id there may be no gap to the next event: until there the epoch
 * before would be used on. */
static int take_epoch(struct check *check, sqlite3_stmt *row)
{
    int64_t first = sqlite3_column_int64(row, 0);
    const char *digits;
    size_t len;
    int code = ob_sql_text(row, 1, &digits, &len, &check->verify->error);
    if (code != OUTBOX_OK)
        return code;
    if (sqlite3_column_type(row, 0) != SQLITE_INTEGER || !digits || len != OB_EPOCH_DIGITS ||
        !ob_text_is_device(digits, OB_EPOCH_DIGITS))
        tell_lane(check, "the epoch from id %lld cannot be read", (long long)first);
    if (sqlite3_column_int64(row, 2) > 1)
        tell_lane(check, "the epoch from id %lld is there twice", (long long)first);
    if (check->last <= OUTBOX_ID_MAX && first > check->last + 1)
        tell_lane(check, "the epoch from id %lld begins behind the next event, %lld",
                  (long long)first, (long long)check->last + 1);
    return OUTBOX_OK;
}

static int check_epochs(struct check *check)
{
    int64_t covered = 0;
    struct verify *verify = check->verify;
    int code = each_row(check,
                        "SELECT first, epoch, (SELECT count(*) FROM main.outbox_epoch AS o"
                        " WHERE o.lane = e.lane AND (o.first = e.first OR o.epoch = e.epoch))"
                        " FROM main.outbox_epoch AS e WHERE lane = '{lane}' ORDER BY first",
                        take_epoch);
    if (code == OUTBOX_OK && check->has_tombstone)
        code = ob_lane_number(
            verify->db, check->lane,
            "SELECT count(*) FROM main.outbox_epoch WHERE lane = '{lane}' AND first <= ?1",
            check->ledger.id + 1, 0, 0, &covered, &verify->error);
    if (code == OUTBOX_OK && check->has_tombstone && covered == 0)
        tell_lane(check, "no epoch covers the ids from %lld", (long long)check->ledger.id + 1);
    return code;
}

/* ---- Dead letters ---------------------------------------------------------------------------- */

static int take_dead_count(struct check *check, sqlite3_stmt *row)
{
    int64_t count = sqlite3_column_int64(row, 0);
    if (count > check->ledger.count[OB_DEAD])
        tell_lane(check, "outbox_dead holds %lld dead letters, but %lld were counted",
                  (long long)count, (long long)check->ledger.count[OB_DEAD]);
    return OUTBOX_OK;
}

static int check_lane(struct verify *verify, outbox_lane lane)
{
    struct check check = {.verify = verify, .lane = lane};
    const char *name = ob_lane_name(lane);
    int code = each_row(&check, "SELECT id, ledger, total FROM main.{table} ORDER BY id", take_row);
    if (code == OUTBOX_OK)
        check_count(&check);
    code = go_on(verify, name, code);
    if (code == OUTBOX_OK)
        code = go_on(verify, name, check_epochs(&check));
    if (code != OUTBOX_OK || !check.has_tombstone)
        return code;
    code = go_on(verify, name, check_announcements(&check));
    if (code == OUTBOX_OK)
        code = go_on(verify, name,
                     each_row(&check, "SELECT count(*) FROM main.outbox_dead WHERE lane = '{lane}'",
                              take_dead_count));
    return code;
}

/* ---- What is no lane's ----------------------------------------------------------------------- */

static int expect_none(struct verify *verify, const char *sql, const char *format)
{
    int64_t number;
    struct ob_error finding;
    int code = ob_sql_number(verify->db, sql, 0, 0, 0, &number, &verify->error);
    if (code != OUTBOX_OK || number == 0)
        return go_on(verify, NULL, code);
    ob_error_set(&finding, OUTBOX_CORRUPT, format, (long long)number);
    tell(verify, NULL, finding.sentence);
    return OUTBOX_OK;
}

static int check_common(struct verify *verify)
{
    static const struct {
        const char *sql, *format;
    } checks[] = {
        {"SELECT count(*) = 0 FROM main.outbox_meta WHERE name = 'version'"
         " AND typeof(value) = 'integer' AND value >= 1",
         "outbox_meta holds no schema version"},
        {"SELECT count(*) FROM main.outbox_dead WHERE lane IS NULL"
         " OR lane NOT IN ('normal', 'urgent')",
         "%lld dead letters are of no lane that there is"},
        {"SELECT count(*) FROM main.outbox_dead WHERE typeof(reason) <> 'text' OR reason = ''",
         "%lld dead letters have no reason"},
    };
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    int code = go_on(verify, NULL, ob_schema_device(verify->db, device, &verify->error));
    for (size_t i = 0; i < sizeof checks / sizeof checks[0] && code == OUTBOX_OK; i++)
        code = expect_none(verify, checks[i].sql, checks[i].format);
    return code;
}

static int verify_inside(void *context)
{
    struct verify *verify = context;
    enum ob_schema_found found;
    int code = ob_schema_find(verify->db, &found, &verify->error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_MISSING)
        code = ob_error_set(&verify->error, OUTBOX_CORRUPT, "there is no outbox in this file");
    if (code != OUTBOX_OK)
        return go_on(verify, NULL, code);
    code = check_common(verify);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = check_lane(verify, (outbox_lane)i);
    return code;
}

int outbox_verify(sqlite3 *db, outbox_finding found, void *context)
{
    struct verify verify = {.db = db, .found = found, .context = context};
    if (!db)
        return OUTBOX_MISUSE;
    int code = ob_sql_read_at_once(db, verify_inside, &verify, &verify.error);
    return code == OUTBOX_OK && verify.findings > 0 ? OUTBOX_CORRUPT : code;
}
