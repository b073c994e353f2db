/* SPDX-License-Identifier: MIT
 *
 * profile.c - which troubles a run may meet, and the settings it draws.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

enum { NEAR_US = 20000 };

const struct profile profiles[] = {
    {.name = "lite",
     .summary = "no trouble: every event exactly once",
     .operations = 300,
     .is_calm = true},
    {.name = "swarm",
     .summary = "some kinds of trouble of all, each run others",
     .operations = 300,
     .act_every_ms = 150,
     .draws_acts = true,
     .acts = {[ACT_CUT_POWER] = 4,
              [ACT_KILL_ALL] = 1,
              [ACT_KILL_APP] = 1,
              [ACT_KILL_FORWARDER] = 1,
              [ACT_CUT_LINK] = 2,
              [ACT_STALL_LINK] = 1,
              [ACT_BROKER_DOWN] = 1,
              [ACT_BROKER_HANGS] = 1,
              [ACT_BROKER_RESTARTS] = 1,
              [ACT_REFUSE_EVENTS] = 1,
              [ACT_HOLD_ACKS] = 1,
              [ACT_DROP_ACKS] = 1,
              [ACT_STRAY_ACKS] = 1,
              [ACT_SMALL_PACKETS] = 1,
              [ACT_SMALL_WINDOW] = 1,
              [ACT_NO_QOS] = 1,
              [ACT_NO_ROOM] = 1,
              [ACT_IO_ERROR] = 2,
              [ACT_DISK_FULL] = 1,
              [ACT_BUSY] = 1,
              [ACT_WALL_JUMP] = 1,
              [ACT_LONG_READER] = 1,
              [ACT_LATE_STEPS] = 1,
              [ACT_MEDDLE] = 2,
              [ACT_GATE] = 2}},
    {.name = "crash",
     .summary = "power cuts and killed processes",
     .operations = 300,
     .act_every_ms = 120,
     .acts = {[ACT_CUT_POWER] = 8,
              [ACT_KILL_ALL] = 1,
              [ACT_KILL_APP] = 1,
              [ACT_KILL_FORWARDER] = 1,
              [ACT_CUT_LINK] = 1,
              [ACT_MEDDLE] = 1}},
    {.name = "net",
     .summary = "a bad network and a bad broker",
     .operations = 300,
     .act_every_ms = 150,
     .acts = {[ACT_CUT_LINK] = 4,
              [ACT_STALL_LINK] = 1,
              [ACT_BROKER_DOWN] = 1,
              [ACT_BROKER_HANGS] = 1,
              [ACT_BROKER_RESTARTS] = 1,
              [ACT_REFUSE_EVENTS] = 2,
              [ACT_HOLD_ACKS] = 2,
              [ACT_DROP_ACKS] = 2,
              [ACT_STRAY_ACKS] = 2,
              [ACT_SMALL_PACKETS] = 1,
              [ACT_SMALL_WINDOW] = 1,
              [ACT_NO_QOS] = 1,
              [ACT_NO_ROOM] = 1,
              [ACT_LATE_STEPS] = 1,
              [ACT_MEDDLE] = 1,
              [ACT_GATE] = 1}},
    {.name = "full",
     .summary = "a disk that is full, or fails",
     .operations = 300,
     .act_every_ms = 150,
     .acts = {[ACT_DISK_FULL] = 4, [ACT_IO_ERROR] = 4, [ACT_CUT_POWER] = 2, [ACT_CUT_LINK] = 1}},
    {.name = "busy",
     .summary = "locks and long readers",
     .operations = 300,
     .act_every_ms = 100,
     .acts = {[ACT_BUSY] = 4,
              [ACT_LONG_READER] = 2,
              [ACT_CUT_LINK] = 1,
              [ACT_CUT_POWER] = 1,
              [ACT_LATE_STEPS] = 1}},
    {.name = "wrap",
     .summary = "clocks that wrap and jump",
     .operations = 300,
     .act_every_ms = 200,
     .wraps = true,
     .acts = {[ACT_WALL_JUMP] = 3,
              [ACT_CUT_LINK] = 2,
              [ACT_BROKER_DOWN] = 1,
              [ACT_STALL_LINK] = 1,
              [ACT_HOLD_ACKS] = 1,
              [ACT_CUT_POWER] = 1,
              [ACT_LATE_STEPS] = 1}},
    {.name = "tiny-port",
     .summary = "one connection, no shared memory, as on bare metal",
     .operations = 300,
     .act_every_ms = 150,
     .one_connection = true,
     .acts = {[ACT_CUT_POWER] = 6,
              [ACT_KILL_ALL] = 1,
              [ACT_CUT_LINK] = 2,
              [ACT_IO_ERROR] = 1,
              [ACT_DISK_FULL] = 1,
              [ACT_REFUSE_EVENTS] = 1,
              [ACT_DROP_ACKS] = 1}},
    {.name = "soak",
     .summary = "one long run",
     .operations = 1000000,
     .act_every_ms = 2000,
     .acts = {[ACT_CUT_POWER] = 1,
              [ACT_CUT_LINK] = 3,
              [ACT_BROKER_RESTARTS] = 1,
              [ACT_HOLD_ACKS] = 1,
              [ACT_LONG_READER] = 1,
              [ACT_WALL_JUMP] = 1}},
    {.name = "small-wal",
     .summary = "the enumerator's scope in WAL",
     .operations = 10,
     .is_small_scope = true},
    {.name = "small-truncate",
     .summary = "the enumerator's scope with TRUNCATE",
     .operations = 10,
     .is_small_scope = true},
    {.name = NULL},
};

const struct profile *profile_find(const char *name)
{
    for (const struct profile *profile = profiles; profile->name; profile++)
        if (strcmp(profile->name, name) == 0)
            return profile;
    return NULL;
}

static uint32_t one_of(struct choices *choices, const uint32_t *values, uint32_t count)
{
    return values[sim_choose(choices, TAG_CONFIG, count)];
}
#define ONE_OF(...)                                                                                \
    one_of(choices, (const uint32_t[]){__VA_ARGS__},                                               \
           sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void draw_storage(struct settings *settings, const struct profile *profile,
                         struct choices *choices)
{
    static const char *const journals[] = {"WAL", "WAL", "WAL", "TRUNCATE", "PERSIST", "DELETE"};
    static const char *const synchronous[] = {"FULL", "EXTRA", "NORMAL"};
    uint32_t first =
        profile->one_connection || strcmp(profile->name, "small-truncate") == 0 ? 3 : 0;
    settings->journal = journals[first + sim_choose(choices, TAG_CONFIG, 6 - first)];
    settings->is_wal = strcmp(settings->journal, "WAL") == 0;
    settings->may_sector_damage = true;
    settings->writers = profile->one_connection ? 1 : 1 + sim_choose(choices, TAG_CONFIG, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        uint32_t level = sim_choose(choices, TAG_CONFIG, profile->one_connection ? 2 : 3);
        bool is_delete = strcmp(settings->journal, "DELETE") == 0;
        settings->synchronous[i] = synchronous[profile->one_connection && is_delete ? 1 : level];
        settings->is_foreign[i] = i > 0 && sim_choose(choices, TAG_CONFIG, 2) == 1;
        /* NORMAL does not sync a journal's header apart: writes out of order may damage the
         * file. */
        if (level == 2 && !settings->is_wal)
            settings->may_sector_damage = false;
    }
    settings->autocheckpoint = ONE_OF(1000, 5, 40, 0);
}

static void draw_forwarder(struct settings *settings, const struct profile *profile,
                           struct choices *choices)
{
    outbox_forwarder_config *config = &settings->forwarder;
    *config = (outbox_forwarder_config){
        .mode = ONE_OF(OUTBOX_STRUCTURED, OUTBOX_PLAIN, OUTBOX_BINARY),
        .window = ONE_OF(100, 1, 2, 7),
        .settle_batch = ONE_OF(256, 1, 5),
        .settle_quiet_ms = ONE_OF(1000, 10, 200),
        .ack_timeout_ms = ONE_OF(4000, 1000),
        .connect_timeout_ms = ONE_OF(3000, 1000),
        .foreign_check_ms = ONE_OF(500, 100),
        .backoff_min_ms = ONE_OF(200, 50),
        .backoff_max_ms = ONE_OF(3000, 1000),
        .payload_max = settings->payload_max,
        .announce_topic = "", /* see draw_announcing() */
        .buffer_size = ONE_OF(0, 8192),
        .checkpoint_frames = ONE_OF(4000, 30),
        .shared_connection = profile->one_connection,
    };
    config->small_heap = config->window % 2 == 1; /* drawn with it: 1 or 7 */
}

static uint32_t feature(struct choices *choices, uint32_t bound)
{
    return sim_choose(choices, TAG_FEATURE, bound);
}

/* Or the run is over before something has happened eight times. */
static void take_time(struct settings *settings)
{
    settings->forwarder.backoff_max_ms = 200;
    settings->think_ms = 100;
}

/* It ends connections whatever is sent over them; at worst nearly all of them before any answer. */
static void draw_bad_network(struct settings *settings, struct choices *choices)
{
    static const unsigned hangs_up_ms[] = {150, 1000, 5};
    settings->poison.hangs_up_ms = hangs_up_ms[feature(choices, 3)];
    if (settings->poison.hangs_up_ms == 5)
        take_time(settings);
}

/* Then each such event must become a dead letter in the end, however many of them come in a row. */
static void draw_endless_poison(struct settings *settings, struct choices *choices)
{
    struct poison *poison = &settings->poison;
    poison->outlasts = poison->of_16 == 1 && poison->reason != 0x80 && feature(choices, 2) == 1;
    if (poison->outlasts)
        settings->forwarder.dead_letters_max = OUTBOX_NEVER;
}

/* Only where brokers may refuse events. */
static void draw_poison(struct settings *settings, const struct profile *profile,
                        struct choices *choices)
{
    static const int reasons[] = {0x90, 0x87, 0x99, 0x80};
    if (profile->acts[ACT_REFUSE_EVENTS] == 0)
        return;
    settings->forwarder.dead_letters_max = feature(choices, 3) == 2 ? 1 : 0;
    if (feature(choices, 4) < 2)
        return;
    if (feature(choices, 4) == 3) {
        draw_bad_network(settings, choices);
        return;
    }
    settings->poison.of_16 = feature(choices, 2) ? 6 : 1;
    if (feature(choices, 2) == 0)
        settings->poison.reason = reasons[feature(choices, 4)];
    settings->poison.is_mute = settings->poison.reason != 0 && feature(choices, 2) == 1;
    if (settings->poison.reason == 0x87)
        take_time(settings);
    draw_endless_poison(settings, choices);
}

static bool has_features(const struct profile *profile)
{
    const uint32_t many = 10000; /* each event is looked at again and again */
    return !profile->is_calm && !profile->is_small_scope && profile->operations < many;
}

static void draw_limits(struct settings *settings, struct choices *choices)
{
    static const int64_t events[] = {3, 10, 40, 0}, bytes[] = {0, 0, 1000, 4000};
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (feature(choices, 3) < 2)
            continue;
        settings->limits[i].max_events = events[feature(choices, 4)];
        settings->limits[i].max_bytes = bytes[feature(choices, 4)];
        settings->limits[i].when_full = feature(choices, 2) ? OUTBOX_EVICT_OLDEST : OUTBOX_REJECT;
    }
    if (settings->poison.is_mute) /* what leaves while it waits for its answer is of interest */
        settings->limits[OUTBOX_NORMAL] =
            (outbox_limit){.max_events = 10, .when_full = OUTBOX_EVICT_OLDEST};
}

static void draw_announcing(struct settings *settings, struct choices *choices)
{
    static const char *const topics[] = {"", NULL, "drops", "drops"};
    settings->forwarder.announce_topic = topics[feature(choices, 4)];
}

static void draw_rest(struct settings *settings, struct choices *choices)
{
    static const unsigned seconds[] = {0, 0, 0, 2, 5}, events_per_s[] = {0, 0, 0, 20, 100};
    outbox_forwarder_config *config = &settings->forwarder;
    config->batch_seconds = seconds[feature(choices, 5)];
    if (config->batch_seconds > 0)
        config->batch_events = feature(choices, 2) ? 5 : 0;
    config->pace.events_per_s = events_per_s[feature(choices, 5)];
    config->pace.bytes_per_s = feature(choices, 5) == 4 ? 20000 : 0;
}

static void draw_age(struct settings *settings, struct choices *choices)
{
    static const unsigned ttl[] = {0, 0, 100, 500}, keep_last[] = {0, 0, 300, 1000};
    settings->ttl_per_mille = ttl[feature(choices, 4)];
    settings->keep_last_per_mille = keep_last[feature(choices, 4)];
    settings->starts_in_1970 = feature(choices, 4) == 3;
}

static void draw_changes(struct settings *settings, struct choices *choices)
{
    static const unsigned changes[] = {0, 0, 300, 800};
    settings->changes_per_mille = changes[sim_choose(choices, TAG_CHANGE, 4)];
    if (settings->payload_max < 400)
        settings->changes_per_mille = 0; /* their documents would not fit */
    settings->changes_lane =
        sim_choose(choices, TAG_CHANGE, 3) == 2 ? OUTBOX_URGENT : OUTBOX_NORMAL;
}

/* Where somebody meddles, much that is promised else is not. So in half of the runs nobody does. */
static void draw_meddler(struct settings *settings, const struct profile *profile,
                         struct choices *choices)
{
    if (profile->acts[ACT_MEDDLE] == 0)
        return;
    settings->is_meddled_with = sim_choose(choices, TAG_CONFIG, 2) == 1;
    settings->deletes_tombstone = sim_choose(choices, TAG_CONFIG, 2) == 1;
}

/* Far away, answers are late enough for one to be in flight all the time. */
static void draw_distance(struct settings *settings, struct choices *choices)
{
    settings->latency_us = feature(choices, 4) == 3 ? 200000 : NEAR_US;
}

void settings_draw(struct settings *settings, const struct profile *profile,
                   struct choices *choices)
{
    memset(settings, 0, sizeof *settings);
    settings->latency_us = NEAR_US;
    draw_storage(settings, profile, choices);
    settings->payload_max = ONE_OF(600, 200);
    draw_forwarder(settings, profile, choices);
    settings->long_transaction = ONE_OF(1, 4, 12);
    settings->rollback_per_mille = ONE_OF(100, 0, 400);
    settings->autocommit_per_mille = ONE_OF(200, 0, 700);
    settings->odd_per_mille = profile->is_small_scope ? 0 : ONE_OF(60, 0, 200);
    settings->think_ms = ONE_OF(10, 0, 100);
    draw_meddler(settings, profile, choices);
    if (profile->wraps)
        settings->clock_start = ONE_OF(0xffffffffu - 5000, 0x7fffffffu - 5000, 0);
    /* Of the events none, few, as many, nearly all. */
    static const unsigned urgent[] = {0, 100, 500, 900};
    settings->urgent_per_mille = urgent[sim_choose(choices, TAG_LANE, 4)];
    draw_poison(settings, profile, choices);
    if (!profile->is_small_scope)
        draw_changes(settings, choices);
    if (has_features(profile)) {
        draw_limits(settings, choices);
        draw_age(settings, choices);
        draw_announcing(settings, choices);
        draw_rest(settings, choices);
        draw_distance(settings, choices);
        settings->kills_forwarder = settings->is_meddled_with && feature(choices, 2) == 1;
    }
    for (int act = 0; act < ACTS; act++) {
        bool takes_part = !profile->draws_acts || sim_choose(choices, TAG_CONFIG, 3) == 2;
        takes_part = takes_part && (act != ACT_MEDDLE || settings->is_meddled_with);
        settings->acts[act] = takes_part ? profile->acts[act] : 0;
    }
}
