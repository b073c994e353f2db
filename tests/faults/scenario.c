/* SPDX-License-Identifier: MIT
 *
 * scenario.c - the table of scenarios.
 */
#include "faults/scenario.h"

enum { BACKLOG = 40 };

static void nothing(struct world *world)
{
    (void)world;
}

static void attached(struct world *world)
{
    if (!world_open_app(world))
        world_fail(world, "attach fails without a fault");
}

static void some_events(struct world *world)
{
    attached(world);
    world_put(world, 1, 3);
    world_put(world, 4, 2);
}

static void some_closed(struct world *world)
{
    some_events(world);
    world_close_app(world);
}

/* As an earlier release left it. */
static void some_older(struct world *world)
{
    some_events(world);
    world_meddle(world,
                 "DROP VIEW IF EXISTS outbox_pending; ALTER TABLE outbox_event DROP COLUMN headers;"
                 " ALTER TABLE outbox_urgent DROP COLUMN headers;"
                 " ALTER TABLE outbox_dead DROP COLUMN headers;"
                 " UPDATE outbox_meta SET value = 1 WHERE name = 'version'");
    world_close_app(world);
}

static void some_closed_limited(struct world *world)
{
    some_closed(world);
    world->limit = (outbox_limit){.max_events = 1000, .when_full = OUTBOX_EVICT_OLDEST};
}

static void some_connected(struct world *world)
{
    some_events(world);
    if (!world_open_forwarder(world))
        world_fail(world, "the forwarder cannot begin without a fault");
}

static void one_refused(struct world *world)
{
    some_connected(world);
    world->refuse_once = 2;
}

static void one_unfit(struct world *world)
{
    attached(world);
    world_put(world, 1, 2);
    world_put_unfit(world);
    world_put(world, 3, 2);
    if (!world_open_forwarder(world))
        world_fail(world, "the forwarder cannot begin without a fault");
}

static void backlog(struct world *world)
{
    attached(world);
    for (int first = 1; first <= BACKLOG; first += 8)
        world_put(world, first, 8);
}

/* Fewer than one settle takes at once, so that nothing is settled yet. */
static void acknowledge(struct world *world)
{
    if (!world_open_forwarder(world))
        world_fail(world, "the forwarder cannot begin without a fault");
    world_step(world, 3);
}

static void acknowledged(struct world *world)
{
    attached(world);
    world_put(world, 1, 3);
    acknowledge(world);
}

static void tombstone_deleted(struct world *world)
{
    some_connected(world);
    world_meddle(world, "DELETE FROM outbox_event WHERE ledger IS NOT NULL");
    world->counts_are_gone = true;
}

/* The mark is taken off, and the row then is one that can never be sent. */
static void mark_spoilt(struct world *world)
{
    some_connected(world);
    world_meddle(world, "UPDATE outbox_event SET ledger = 'spoilt' WHERE ledger IS NOT NULL");
    world->counts_are_gone = true;
    world->dead++;
}

/* With counts that must stay. */
static void row_below(struct world *world)
{
    some_connected(world);
    world_step(world, 6);
    world_put(world, 6, 2);
    world_meddle(world, "INSERT INTO outbox_event(id, topic, payload) VALUES(-5, 't', 'x')");
    world->dead++;
}

static void row_below_unseen(struct world *world)
{
    row_below(world);
    world_close_forwarder(world);
}

/* Between two that are acknowledged and not settled. */
static void row_late(struct world *world)
{
    attached(world);
    world_put(world, 1, 2);
    world_put_at(world, 3, 8);
    acknowledge(world);
    world_meddle(world, "INSERT INTO outbox_event(id, topic, payload) VALUES(5, 't', 'x')");
    world->dead++;
}

static void row_too_large(struct world *world)
{
    attached(world);
    world_put(world, 1, 2);
    world_meddle(world, "INSERT INTO outbox_event(topic, payload) VALUES('t', zeroblob(70000))");
    world->is_blocked = true;
    world->dead++;
}

static void other_writer(struct world *world)
{
    world->limit = (outbox_limit){.max_events = 5, .when_full = OUTBOX_EVICT_OLDEST};
    world->may_drop = world->announces = true;
    some_connected(world);
    for (int number = 6; number <= 12; number++)
        world_put_at(world, number, number);
}

static void some_expired(struct world *world)
{
    world->may_drop = world->announces = true;
    some_connected(world);
    world_meddle(world, "UPDATE outbox_event SET expires = created + 1 WHERE id IN (2, 3)");
}

static void unfit_announced(struct world *world)
{
    world->announces = true;
    one_unfit(world);
}

static void one_poisonous(struct world *world)
{
    world->announces = true;
    some_connected(world);
    world->refuse_always = 2;
    world->dead++;
}

static void some_captured(struct world *world)
{
    attached(world);
    world_put(world, 1, 2);
    world_capture(world, 3);
    world_put(world, 3, 3);
    if (!world_open_forwarder(world))
        world_fail(world, "the forwarder cannot begin without a fault");
}

/* The change is longer, the events are not. */
static void captured_too_large(struct world *world)
{
    world->payload_max = 60;
    some_captured(world);
    world->dead += 4; /* world_check() puts one more */
}

static void some_to_fire(struct world *world)
{
    world->fires = true;
    some_connected(world);
}

static void begin_sending(struct world *world)
{
    (void)world_open_forwarder(world);
    world_close_forwarder(world);
}

static void fire(struct world *world)
{
    world_step(world, 6);
    world_put_unstored(world);
    world_step(world, 6);
}

static void open_renamed(struct world *world)
{
    world->name = "other";
    (void)world_open_app(world);
}

static void open_app(struct world *world)
{
    (void)world_open_app(world);
}

static void open_and_close(struct world *world)
{
    (void)world_open_app(world);
    world_statistics(world);
    world_close_app(world);
}

static void put_and_commit(struct world *world)
{
    world_put(world, 10, 3);
    world_put(world, 13, 1);
}

static void put_in_savepoint(struct world *world)
{
    world_put_savepoint(world, 10);
}

static void step(struct world *world)
{
    world_step(world, 12);
}

static void drain(struct world *world)
{
    world_step(world, 40);
    world_close_forwarder(world);
}

static void close_all(struct world *world)
{
    world_close(world);
}

#define ON(fault) (1u << FAULT_##fault)
#define FILES (ON(ALLOC) | ON(READ) | ON(WRITE) | ON(SYNC) | ON(OPEN) | ON(FULL) | ON(BUSY))
#define SEND                                                                                       \
    (ON(ALLOC) | ON(READ) | ON(WRITE) | ON(SYNC) | ON(FULL) | ON(BUSY) | ON(LINK) | ON(ROOM))

#define SEND_ACKED (SEND & ~(ON(LINK) | ON(ROOM)))

/* clang-format off */
const struct scenario scenarios[] = {
    {"open fresh",          nothing,           open_app,         FILES | ON(TRUNCATE),         true,  false},
    {"open what is there",  some_closed,       open_and_close,   ON(ALLOC) | ON(READ) | ON(OPEN) | ON(BUSY), true, false},
    {"open an older file",  some_older,        open_and_close,   FILES | ON(TRUNCATE),         true,  false},
    {"open with a limit",   some_closed_limited, open_and_close, FILES,                        true,  false},
    {"put and commit",      attached,          put_and_commit,   FILES | ON(TRUNCATE),         true,  true},
    {"roll back savepoint", attached,          put_in_savepoint, FILES | ON(TRUNCATE),         true,  false},
    {"statistics",          some_events,       world_statistics, ON(ALLOC) | ON(BUSY),         true,  false},
    {"step with PUBACK",    some_connected,    step,             SEND | ON(TRUNCATE),          false, true},
    {"step with refusal",   one_refused,       step,             SEND | ON(TRUNCATE),          false, false},
    {"dead letter",         one_unfit,         step,             SEND | ON(TRUNCATE),          false, false},
    {"mend the front",      tombstone_deleted, step,             SEND | ON(TRUNCATE),          false, false},
    {"spoilt mark",         mark_spoilt,       step,             SEND | ON(TRUNCATE),          false, false},
    {"row below",           row_below,         step,             SEND | ON(TRUNCATE),          false, false},
    {"row below, new start", row_below_unseen, step,             SEND | ON(TRUNCATE),          false, false},
    {"row too late",        row_late,          step,             SEND_ACKED,                   false, false},
    {"row too large",       row_too_large,     step,             SEND | ON(TRUNCATE),          false, false},
    {"rename",              some_closed,       open_renamed,     FILES,                        true,  false},
    {"drain",               backlog,           drain,            SEND | ON(OPEN) | ON(TRUNCATE), false, false},
    {"begin to send",       some_events,       begin_sending,    ON(ALLOC) | ON(READ) | ON(OPEN) | ON(BUSY), false, false},
    {"evict for others",    other_writer,      step,             SEND | ON(TRUNCATE),          false, false},
    {"expire",              some_expired,      step,             SEND | ON(TRUNCATE),          false, false},
    {"announced letter",    unfit_announced,   step,             SEND | ON(TRUNCATE),          false, false},
    {"poison",              one_poisonous,     step,             SEND | ON(TRUNCATE),          false, false},
    {"captured change",     some_captured,     step,             SEND | ON(TRUNCATE),          false, false},
    {"captured, too large", captured_too_large, step,            SEND | ON(TRUNCATE),          false, false},
    {"fire and forget",     some_to_fire,      fire,             SEND | ON(TRUNCATE),          false, false},
    {"close",               acknowledged,      close_all,        ON(ALLOC) | ON(READ) | ON(WRITE) | ON(SYNC) | ON(TRUNCATE) | ON(DELETE) | ON(FULL) | ON(BUSY), false, false},
};
/* clang-format on */
const int scenario_count = sizeof scenarios / sizeof scenarios[0];
