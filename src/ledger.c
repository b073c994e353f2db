/* SPDX-License-Identifier: MIT
 *
 * ledger.c - prints, reads and judges the tombstone's ledger.
 *
 * After a crash the ledger is that of the last settle that committed, together with exactly the
 * rows that settle left: they share a transaction, so neither can be ahead of the other.
 *
 * The text is JSON with fixed members in a fixed order, so that a person can read it and SQL can
 * too: SELECT ledger->>'delivered' FROM outbox_event ORDER BY id LIMIT 1.
 */
#include "ledger.h"

#include "text.h"

#include <assert.h>
#include <outbox/outbox.h>
#include <sqlite3.h>
#include <string.h>

enum { MEMBERS = OB_OUTCOMES + 3 };

/* Far below any overflow: numbers over it never were counted by us. A ledger that was read has room
 * to count on. */
#define READ_MOST ((int64_t)1 << 56)
#define COUNT_MOST (2 * READ_MOST)

static const char *const member_names[MEMBERS] = {"base",    "last",       "delivered", "expired",
                                                  "evicted", "superseded", "dead",      "holes"};

/* The members by their number, for print and parse alike. */
static int64_t member_of(const struct ob_ledger *ledger, int number)
{
    return number == 0                 ? ledger->base
           : number == 1               ? ledger->last
           : number == 2 + OB_OUTCOMES ? ledger->holes
                                       : ledger->count[number - 2];
}

static void set_member(struct ob_ledger *ledger, int number, int64_t value)
{
    if (number == 0)
        ledger->base = value;
    else if (number == 1)
        ledger->last = value;
    else if (number == 2 + OB_OUTCOMES)
        ledger->holes = value;
    else
        ledger->count[number - 2] = value;
}

void ob_ledger_start(struct ob_ledger *ledger, int64_t id)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->id = id;
    ledger->base = id;
    assert(ob_ledger_holds(ledger));
}

/* ---- Drops ----------------------------------------------------------------------------------- */

const char *ob_outcome_name(enum ob_outcome outcome)
{
    assert(outcome < OB_OUTCOMES);
    return member_names[2 + outcome];
}

static void note_drops(struct ob_drops *drops, int64_t count, int64_t from, int64_t to)
{
    if (drops->count == 0 || from < drops->from)
        drops->from = from;
    if (drops->count == 0 || to > drops->to)
        drops->to = to;
    drops->count += count;
}

static struct ob_drops *find_announcement(struct ob_ledger *ledger, int64_t id)
{
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (ledger->drops[i].row == id && id > ledger->id)
            return &ledger->drops[i];
    return NULL;
}

void ob_ledger_leave(struct ob_ledger *ledger, int64_t id, enum ob_outcome outcome)
{
    struct ob_drops *announced = find_announcement(ledger, id);
    if (announced)
        announced->row = 0;
    if (announced && outcome == OB_EVICTED) {
        note_drops(announced, announced->row_count, announced->row_from, announced->row_to);
        ledger->holes++;
        return;
    }
    ledger->count[outcome]++;
    if (outcome == OB_DELIVERED)
        ledger->last = id;
    else if (!announced) /* else each refused announcement would be announced */
        note_drops(&ledger->drops[outcome], 1, id, id);
}

static int64_t into_range(int64_t id)
{
    return id < 0 ? 0 : id > OUTBOX_ID_MAX ? OUTBOX_ID_MAX : id;
}

void ob_ledger_leave_beside(struct ob_ledger *ledger, int64_t count, int64_t from, int64_t to)
{
    ledger->count[OB_DEAD] += count;
    ledger->base -= count;
    note_drops(&ledger->drops[OB_DEAD], count, into_range(from), into_range(to));
}

bool ob_ledger_can_announce(const struct ob_ledger *ledger, enum ob_outcome outcome)
{
    return ledger->drops[outcome].count > 0 && ledger->drops[outcome].row <= ledger->id;
}

void ob_ledger_announced(struct ob_ledger *ledger, enum ob_outcome outcome, int64_t id)
{
    struct ob_drops *drops = &ledger->drops[outcome];
    assert(ob_ledger_can_announce(ledger, outcome) && id > ledger->id);
    *drops = (struct ob_drops){
        .row = id, .row_count = drops->count, .row_from = drops->from, .row_to = drops->to};
}

int ob_ledger_announcements(const struct ob_ledger *ledger, int64_t above)
{
    int64_t behind = above > ledger->id ? above : ledger->id;
    int count = 0;
    for (int i = 0; i < OB_OUTCOMES; i++)
        count += ledger->drops[i].row > behind;
    return count;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static bool has_drops(const struct ob_drops *drops)
{
    return drops->count != 0 || drops->row != 0;
}

/* One array for each kind that has any: its name, then its numbers. */
static size_t print_drops(const struct ob_ledger *ledger, char text[OB_LEDGER_TEXT], size_t len)
{
    bool any = false;
    for (int i = 0; i < OB_OUTCOMES; i++) {
        const struct ob_drops *d = &ledger->drops[i];
        if (!has_drops(d))
            continue;
        sqlite3_snprintf((int)(OB_LEDGER_TEXT - len), text + len,
                         "%s[%d,%lld,%lld,%lld,%lld,%lld,%lld,%lld]", any ? "," : ",\"drops\":[", i,
                         (long long)d->count, (long long)d->from, (long long)d->to,
                         (long long)d->row, (long long)d->row_count, (long long)d->row_from,
                         (long long)d->row_to);
        len += strlen(text + len);
        any = true;
    }
    if (any) {
        sqlite3_snprintf((int)(OB_LEDGER_TEXT - len), text + len, "]");
        len++;
    }
    return len;
}

size_t ob_ledger_print(const struct ob_ledger *ledger, char text[OB_LEDGER_TEXT])
{
    size_t len = 0;

    assert(ob_ledger_holds(ledger));
    for (int i = 0; i < MEMBERS; i++) {
        sqlite3_snprintf((int)(OB_LEDGER_TEXT - len), text + len, "%c\"%s\":%lld",
                         i == 0 ? '{' : ',', member_names[i], (long long)member_of(ledger, i));
        len += strlen(text + len);
    }
    len = print_drops(ledger, text, len);
    sqlite3_snprintf((int)(OB_LEDGER_TEXT - len), text + len, "%s}", ledger->extra);
    len += strlen(text + len);
    assert(len + 1 < OB_LEDGER_TEXT);
    return len;
}

/* SQLite's copy of the text is as long as that is; the room that it might need is not taken while
 * the statement runs. */
int ob_ledger_bind(const struct ob_ledger *ledger, sqlite3_stmt *statement, int index)
{
    char text[OB_LEDGER_TEXT];
    size_t len = ob_ledger_print(ledger, text);
    return sqlite3_bind_text(statement, index, text, (int)len, SQLITE_TRANSIENT);
}

static bool read_literal(const char **at, const char *end, const char *literal)
{
    size_t len = strlen(literal);
    if ((size_t)(end - *at) < len || memcmp(*at, literal, len) != 0)
        return false;
    *at += len;
    return true;
}

static bool read_number(const char **at, const char *end, int64_t *number)
{
    bool negative = read_literal(at, end, "-");
    const char *first = *at;
    int64_t value = 0;
    while (*at < end && **at >= '0' && **at <= '9') {
        if (value > (INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (**at - '0');
        (*at)++;
    }
    *number = negative ? -value : value;
    return *at > first;
}

static bool has_room(const struct ob_ledger *ledger)
{
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (ledger->count[i] > READ_MOST)
            return false;
    return ledger->holes <= READ_MOST && ledger->base <= READ_MOST && ledger->base >= -READ_MOST;
}

/* The numbers of one kind, behind its opening bracket. */
static bool read_kind(const char **at, const char *end, struct ob_ledger *ledger)
{
    int64_t kind, number[7];
    if (!read_number(at, end, &kind) || kind <= OB_DELIVERED || kind >= OB_OUTCOMES)
        return false;
    for (int i = 0; i < 7; i++)
        if (!read_literal(at, end, ",") || !read_number(at, end, &number[i]) || number[i] < 0 ||
            number[i] > READ_MOST)
            return false;
    ledger->drops[kind] = (struct ob_drops){number[0], number[1], number[2], number[3],
                                            number[4], number[5], number[6]};
    return read_literal(at, end, "]");
}

/* Nothing, or the member `drops`. */
static bool read_drops(const char **at, const char *end, struct ob_ledger *ledger)
{
    if (!read_literal(at, end, ",\"drops\":["))
        return true;
    do {
        if (!read_literal(at, end, "[") || !read_kind(at, end, ledger))
            return false;
    } while (read_literal(at, end, ","));
    return read_literal(at, end, "]");
}

bool ob_ledger_parse(struct ob_ledger *ledger, int64_t id, const char *text, size_t len)
{
    const char *at = text, *end = text + len;
    int64_t number;

    memset(ledger, 0, sizeof *ledger);
    ledger->id = id;
    for (int i = 0; i < MEMBERS; i++) {
        if (!read_literal(&at, end, i == 0 ? "{\"" : ",\"") ||
            !read_literal(&at, end, member_names[i]) || !read_literal(&at, end, "\":") ||
            !read_number(&at, end, &number))
            return false;
        set_member(ledger, i, number);
    }
    if (!read_drops(&at, end, ledger))
        return false;
    size_t rest = (size_t)(end - at);
    if (rest == 0 || rest > OB_LEDGER_EXTRA || (*at != ',' && rest > 1) || end[-1] != '}')
        return false;
    /* What is kept unread must be whole members too, or the next print would spoil the text. */
    if (!ob_json_is_value(text, len))
        return false;
    memcpy(ledger->extra, at, rest - 1);
    return has_room(ledger) && ob_ledger_holds(ledger);
}

int64_t ob_ledger_total(const struct ob_ledger *ledger)
{
    int64_t total = 0;
    for (int i = 0; i < OB_OUTCOMES; i++)
        total += ledger->count[i];
    return total;
}

bool ob_ledger_holds(const struct ob_ledger *ledger)
{
    const int64_t most = COUNT_MOST;
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (ledger->count[i] < 0 || ledger->count[i] > most)
            return false;
    if (ledger->holes < 0 || ledger->holes > most || ledger->base > most || ledger->base < -most)
        return false;
    return ledger->last >= 0 && ledger->last <= ledger->id && ledger->id <= OUTBOX_ID_MAX &&
           ledger->id == ledger->base + ob_ledger_total(ledger) + ledger->holes;
}

/* What is noted of drops counts as far as it is printed. */
static bool are_equal_drops(const struct ob_drops *a, const struct ob_drops *b)
{
    if (!has_drops(a) || !has_drops(b))
        return has_drops(a) == has_drops(b);
    return a->count == b->count && a->from == b->from && a->to == b->to && a->row == b->row &&
           a->row_count == b->row_count && a->row_from == b->row_from && a->row_to == b->row_to;
}

bool ob_ledger_equals(const struct ob_ledger *a, const struct ob_ledger *b)
{
    for (int i = 0; i < MEMBERS; i++)
        if (member_of(a, i) != member_of(b, i))
            return false;
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (!are_equal_drops(&a->drops[i], &b->drops[i]))
            return false;
    return strcmp(a->extra, b->extra) == 0; /* of the ids the law says the same */
}

bool ob_ledger_follows(const struct ob_ledger *later, const struct ob_ledger *earlier)
{
    if (later->id < earlier->id || later->holes < earlier->holes)
        return false;
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (later->count[i] < earlier->count[i])
            return false;
    return true;
}
