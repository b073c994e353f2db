/* SPDX-License-Identifier: MIT
 *
 * damage.c - goes on behind rows that cannot be read, because a page of the file is damaged.
 *
 * What must hold: the file is never made worse. SQLite cannot delete across a damaged page, so from
 * the hole on nothing is settled any more: the events behind it are sent, in order, and stay in the
 * table. How far they were sent is known in memory only, so a restart sends them again. The hole is
 * reported as long as it is there; nothing is counted for it, since nobody knows how many events
 * were in it.
 */
#include "machine.h"

#include <string.h>

static int try_behind(struct ob_table *table, int64_t id, int64_t *found)
{
    return ob_table_number(table, OB_SQL_NEXT_ID, id, 0, found);
}

/* Doubles the distance from `bad`, behind which nothing can be read, until something can. */
static bool find_sound(struct ob_table *table, int64_t *bad, int64_t *sound)
{
    int64_t found = 0;
    for (int64_t distance = 1; *bad < OUTBOX_ID_MAX; distance *= 2) {
        int64_t id = OUTBOX_ID_MAX - *bad > distance ? *bad + distance : OUTBOX_ID_MAX;
        int code = try_behind(table, id, &found);
        if (code == OUTBOX_OK) {
            *sound = id;
            return found > 0;
        }
        if (code != OUTBOX_CORRUPT)
            return false;
        *bad = id;
    }
    return false;
}

/* The first event behind `after` that can be read, 0 if there is none. */
static int64_t find_next(struct ob_table *table, int64_t after)
{
    int64_t found = 0, bad = after, sound = 0;
    int code = try_behind(table, after, &found);
    if (code == OUTBOX_OK) { /* its id can be read, and something else of it cannot */
        if (found == 0)
            return 0;
        bad = found;
        code = try_behind(table, found, &found);
    }
    if (code == OUTBOX_OK)
        return found;
    if (code != OUTBOX_CORRUPT || !find_sound(table, &bad, &sound))
        return 0;
    while (sound - bad > 1) {
        int64_t middle = bad + (sound - bad) / 2;
        code = try_behind(table, middle, &found);
        if (code == OUTBOX_OK)
            sound = middle;
        else
            bad = middle;
    }
    return try_behind(table, sound, &found) == OUTBOX_OK ? found : 0;
}

static void report(outbox_forwarder *f, struct ob_lane *lane)
{
    ob_error_set(
        &lane->damage.error, OUTBOX_CORRUPT,
        "%s events %lld to %lld cannot be read, the file is damaged there; those behind are "
        "sent but stay in the file: save what is readable into a new one",
        ob_lane_name(lane->number), (long long)lane->damage.from, (long long)lane->damage.to);
    ob_machine_trouble(f, OUTBOX_CORRUPT, "%s", lane->damage.error.sentence);
}

bool ob_damage_skip(outbox_forwarder *f, struct ob_lane *lane)
{
    struct ob_damage *damage = &lane->damage;
    int64_t next = find_next(&f->store.table[lane->number], lane->cursor);
    if (next <= lane->cursor) /* nothing, or a tree whose ids do not go up */
        return false;
    if (damage->from == 0)
        damage->from = lane->cursor + 1;
    if (damage->hole == 0 || lane->cursor < damage->hole)
        damage->hole = lane->cursor + 1;
    if (next - 1 > damage->to)
        damage->to = next - 1;
    lane->cursor = next - 1;
    if (damage->sent > lane->cursor)
        lane->cursor = damage->sent; /* on an earlier connection */
    lane->more = true;
    report(f, lane);
    return true;
}

void ob_damage_stops_settling(outbox_forwarder *f, struct ob_lane *lane)
{
    if (lane->damage.from == 0)
        return;
    lane->damage.from = ob_machine_head(f, lane)->id + 1;
    report(f, lane);
}

uint32_t ob_damage_before(const struct ob_lane *lane, uint32_t count)
{
    while (lane->damage.from > 0 && count > 0 &&
           ob_window_at(&lane->window, count - 1)->id >= lane->damage.from)
        count--;
    return count;
}

/* Whatever its verdict, an event behind the hole stays in the table; the window has to go on. */
void ob_damage_release(struct ob_lane *lane)
{
    uint32_t count = ob_window_settleable(&lane->window);
    if (lane->damage.from == 0 || count == 0 ||
        ob_window_at(&lane->window, 0)->id < lane->damage.from)
        return;
    int64_t last = ob_window_at(&lane->window, count - 1)->id;
    if (last > lane->damage.sent)
        lane->damage.sent = last;
    ob_window_settled(&lane->window, count);
}

/* What lies in the hole was not, and can be read where the file was mended since; so nobody knows
 * of what is behind it either. */
bool ob_damage_was_sent(const struct ob_lane *lane, int64_t id)
{
    const struct ob_damage *damage = &lane->damage;
    return id <= damage->sent && (damage->hole == 0 || id < damage->hole);
}

/* As long as there are rows up to `sent`, which are in no window any more, a settle would take them
 * for late ones. */
void ob_damage_passed(outbox_forwarder *f, struct ob_lane *lane, int64_t id)
{
    struct ob_damage *damage = &lane->damage;
    bool was_reported = damage->from > 0;
    if (id < damage->to || id < damage->sent)
        return;
    memset(damage, 0, sizeof *damage);
    if (was_reported && !f->store_is_in_trouble)
        ob_machine_clear_trouble(f);
}

/* The hole is looked for anew on the next connection: the file may be mended by then. */
void ob_damage_forget(struct ob_lane *lane)
{
    lane->damage.from = lane->damage.to = 0;
}
