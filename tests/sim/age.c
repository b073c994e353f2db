/* SPDX-License-Identifier: MIT
 *
 * age.c - which events are not worth sending any more: too old by the wall clock, or of a key of
 * which there is a newer one.
 *
 * The wall clock may be wrong, and may be set at any time: an event that was too old once may have
 * left for it, whatever the clock says now.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define YEAR_2025_MS INT64_C(1735689600000) /* as forwarder.h: before it the clock is not set */

enum { READ_BACK_MS = 2000 };

static bool is_set(int64_t wall_ms)
{
    return wall_ms >= YEAR_2025_MS;
}

int64_t age_expires(const struct sim *sim, int64_t ttl_ms)
{
    int64_t wall_ms = device_wall_ms(&sim->device);
    if (ttl_ms == 0)
        return 0;
    return is_set(wall_ms) ? wall_ms + ttl_ms : -ttl_ms;
}

void age_read_back(struct sim *sim, sqlite3 *db, struct model_event *e)
{
    int64_t from = e->expires, to = age_expires(sim, e->ttl_ms);
    sqlite3_stmt *s = NULL;
    char sql[80];
    sqlite3_snprintf(sizeof sql, sql, "SELECT expires FROM %s WHERE id = %lld", lane_table(e->lane),
                     (long long)e->id);
    struct hush hush = ledger_hush(sim);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        e->expires = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    ledger_unhush(sim, &hush);
    if (e->expires < from || e->expires > to)
        breaks(sim, NO_INVENTION, EVENT " expires at %lld, not %lld", EVENT_OF(e),
               (long long)e->expires, (long long)to);
}

bool age_is_over(const struct sim *sim, const struct model_event *e, int64_t slack_ms)
{
    int64_t wall_ms = device_wall_ms(&sim->device);
    return e->expires > 0 && is_set(wall_ms) && wall_ms >= e->expires + slack_ms;
}

bool age_was_over(const struct sim *sim, const struct model_event *e)
{
    return e->was_too_old || age_is_over(sim, e, 0);
}

void age_clock_jumps(struct sim *sim)
{
    struct model *model = &sim->model;
    for (uint32_t event = 1; event <= model->event_count; event++) {
        struct model_event *e = model_event(model, event);
        e->was_too_old = age_was_over(sim, e);
    }
}

bool age_is_told(const struct sim *sim, const struct model_event *e, uint32_t seconds)
{
    int64_t wall_ms = device_wall_ms(&sim->device), left_ms = 0;
    if (e->expires < 0)
        left_ms = -e->expires;
    else if (e->expires > wall_ms && is_set(wall_ms))
        left_ms = e->expires - wall_ms;
    int64_t left = (left_ms + 999) / 1000;
    int64_t off = (left < UINT32_MAX ? left : UINT32_MAX) - (int64_t)seconds;
    return e->expires == 0 ? seconds == 0 : off >= -1 && off <= 1;
}

/* The put takes its time, and where it failed in doubt only that time is known. */
bool age_is_stored(const struct model_event *e, int64_t expires)
{
    return (expires == 0) == (e->expires == 0) && llabs(expires - e->expires) <= READ_BACK_MS;
}

static bool takes_the_place(const struct sim *sim, const struct model_event *newer,
                            const struct model_event *e)
{
    return newer->keep_last && newer->body != BODY_UNFIT &&
           newer->size <= sim->settings.forwarder.payload_max &&
           strcmp(model_key(newer), model_key(e)) == 0;
}

/* Of one in doubt, whose writer was killed in its COMMIT, the forwarder may know that it is
 * there. */
bool age_is_superseded(struct sim *sim, const struct model_event *e)
{
    struct model *model = &sim->model;
    const struct model_lane *lane = &model->lanes[e->lane];
    if (!e->keep_last || e->order == 0)
        return false;
    for (uint32_t order = e->order + 1; order <= lane->order_count; order++)
        if (takes_the_place(sim, model_at(model, lane, order), e))
            return true;
    for (uint32_t event = model->event_count; event > e->number; event--) {
        const struct model_event *newer = model_event(model, event);
        if (newer->fate == IN_DOUBT && newer->lane == e->lane && newer->id > e->id &&
            takes_the_place(sim, newer, e))
            return true;
    }
    return false;
}
