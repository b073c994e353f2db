/* SPDX-License-Identifier: MIT
 *
 * call.c - writes a file's content down, and judges a call by it.
 */
#include "faults/call.h"

#include <stdlib.h>
#include <string.h>

enum { HEX_DIGITS = 16, TIME_DIGITS = 13 };
#define SAID_NOTHING 0xcbf29ce484222325u

/* ---- What the file holds --------------------------------------------------------------------- */

/* Epochs, names by chance and times are others in each run. */
static void mask_chance(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        size_t sign = *from == '-', len = strspn(from + sign, "0123456789abcdef");
        if (len >= HEX_DIGITS || (len == TIME_DIGITS && from[sign] == '1')) {
            *to++ = '*';
            from += sign + len;
        } else {
            len += sign + (sign + len == 0);
            memmove(to, from, len);
            to += len, from += len;
        }
    }
    *to = '\0';
}

static void put_rows(sqlite3 *db, sqlite3_str *text, const char *sql)
{
    sqlite3_stmt *s = NULL;
    int result = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    while (result == SQLITE_OK && (result = sqlite3_step(s)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(s); i++)
            sqlite3_str_appendf(text, "%Q,", (const char *)sqlite3_column_text(s, i));
        sqlite3_str_appendall(text, "\n");
        result = SQLITE_OK;
    }
    if (result != SQLITE_DONE)
        sqlite3_str_appendf(text, "unreadable: %s\n", sqlite3_errmsg(db));
    (void)sqlite3_finalize(s); /* repeats what step said */
}

static char *write_down(struct world *world)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    sqlite3_stmt *s = NULL;
    put_rows(world->app, text, "SELECT type, name, sql FROM sqlite_master ORDER BY name");
    if (sqlite3_prepare_v2(
            world->app,
            "SELECT format('SELECT * FROM %w ORDER BY 1, 2', name) FROM sqlite_master"
            " WHERE type = 'table' ORDER BY name",
            -1, &s, NULL) != SQLITE_OK)
        world_fail(world, "the tables cannot be listed: %s", sqlite3_errmsg(world->app));
    while (s && sqlite3_step(s) == SQLITE_ROW) {
        const char *sql = (const char *)sqlite3_column_text(s, 0);
        sqlite3_str_appendf(text, "%s\n", sql);
        put_rows(world->app, text, sql);
    }
    (void)sqlite3_finalize(s);
    char *all = sqlite3_str_finish(text);
    if (!all)
        abort();
    mask_chance(all);
    return all;
}

/* ---- The judge ------------------------------------------------------------------------------- */

static const char *line_of_difference(const char *is, const char *wanted, char line[200])
{
    size_t at = 0, from = 0;
    for (; is[at] && is[at] == wanted[at]; at++)
        if (is[at] == '\n')
            from = at + 1;
    sqlite3_snprintf(200, line, "%.90s ... not %.90s", is + (at > from + 60 ? at - 60 : from),
                     wanted + (at > from + 60 ? at - 60 : from));
    for (char *c = line; *c; c++)
        *c = *c == '\n' ? '|' : *c;
    return line;
}

void call_hear(struct world *world, const char *sentence)
{
    for (const char *c = sentence ? sentence : "-"; *c; c++) /* FNV-1a */
        world->said = (world->said ^ (unsigned char)*c) * 0x100000001b3u;
}

static void act(struct world *world, const struct call *call, int *code)
{
    world->said = SAID_NOTHING;
    *code = world_code(world, call->name, call->act(world), call->more | BIT(call->code));
    const char *sentence = outbox_errmsg(world->box);
    if (call->kind == CALL_LOOKS && *code == OUTBOX_CORRUPT && call->code != OUTBOX_CORRUPT)
        world_fail(world, "%s takes a fault for damage", call->name);
    if (*code != OUTBOX_OK && *code != call->code && call->kind <= CALL_SYNCS &&
        strcmp(sentence, "no error") == 0)
        world_fail(world, "%s answered %d without a sentence", call->name, *code);
}

/* A transaction that a failed call has left open would be the application's to end. */
static void check_closed(struct world *world, const struct call *call)
{
    if (sqlite3_get_autocommit(world->app))
        return;
    if (call->kind != CALL_OF_APP && !strstr(outbox_errmsg(world->box), "ROLLBACK"))
        world_fail(world, "a transaction stays open, and no sentence says so");
    if (world_run(world, "ROLLBACK") != SQLITE_OK)
        world_fail(world, "a transaction stays open and cannot be ended");
}

char *call_expect(struct world *world, const struct call *call, enum fault fault, unsigned *count,
                  uint64_t *said)
{
    int code;
    fault_arm(fault, FAULT_NEVER, false);
    act(world, call, &code);
    *count = fault_count();
    *said = world->said;
    (void)fault_disarm();
    if (code != call->code)
        world_fail(world, "%s answers %d without a fault: %s", call->name, code,
                   outbox_errmsg(world->box));
    return write_down(world);
}

/* Again on the handle that saw the fault, and on a new one. */
static void repeat(struct world *world, const struct call *call, const char *before,
                   const char *expected, bool anew)
{
    char line[200];
    int code;
    if (anew) {
        world_close(world);
        if (!world_open_app(world)) {
            world_fail(world, "the application cannot attach any more");
            return;
        }
    }
    char *now = write_down(world);
    bool is_done = strcmp(now, expected) == 0;
    if (!is_done && strcmp(now, before) != 0)
        world_fail(world, "half done: %s", line_of_difference(now, before, line));
    sqlite3_free(now);
    if (is_done && call->kind != CALL_LOOKS)
        return;
    act(world, call, &code);
    now = write_down(world);
    if (code != call->code)
        world_fail(world, "answers %d when it is called again: %s", code,
                   outbox_errmsg(world->box));
    else if (strcmp(now, expected) != 0)
        world_fail(world, "other when called again: %s", line_of_difference(now, expected, line));
    sqlite3_free(now);
}

unsigned call_try(struct world *world, const struct call *call, const char *expected, uint64_t said,
                  enum fault fault, unsigned n, bool persists)
{
    char line[200];
    int code;
    char *before = write_down(world);
    fault_arm(fault, n, persists);
    act(world, call, &code);
    unsigned fired = fault_disarm();
    check_closed(world, call);
    char *now = write_down(world);
    bool is_done = strcmp(now, expected) == 0;
    if (code == call->code && !is_done)
        world_fail(world, "answers %d, and did not do it: %s", code,
                   line_of_difference(now, expected, line));
    /* Where a commit fails nobody knows; without memory there is none. */
    if (code != call->code && is_done && strcmp(before, expected) != 0 && fault == FAULT_ALLOC &&
        call->kind <= CALL_CHANGES)
        world_fail(world, "answers %d, and did it all the same", code);
    if (code == call->code && world->said != said)
        world_fail(world, "answers %d, and tells other things than without a fault", code);
    if (code != call->code && said == SAID_NOTHING && world->said != said)
        world_fail(world, "answers %d, and tells what is not so", code);
    sqlite3_free(now);
    repeat(world, call, before, expected, n % 2 == 0);
    sqlite3_free(before);
    if (world->box && outbox_verify(world->app, NULL, NULL) != OUTBOX_OK)
        world_fail(world, "outbox_verify() finds something");
    world_close(world);
    return fired;
}
