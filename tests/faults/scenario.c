/* SPDX-License-Identifier: MIT
 *
 * scenario.c - the table of scenarios.
 *
 * There is one version of the tables so far, so that "open an older schema" is to open what is there.
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

/* Nothing is settled yet. */
static void acknowledged(struct world *world)
{
    some_connected(world);
    world_step(world, 3);
}

static void tombstone_deleted(struct world *world)
{
    some_connected(world);
    if (sqlite3_exec(world->app, "DELETE FROM outbox_event WHERE ledger IS NOT NULL", NULL, NULL,
                     NULL) != SQLITE_OK)
        world_fail(world, "the tombstone cannot be deleted");
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

/* clang-format off */
const struct scenario scenarios[] = {
    {"open fresh",          nothing,           open_app,         FILES | ON(TRUNCATE),         true,  false},
    {"open what is there",  some_closed,       open_and_close,   ON(ALLOC) | ON(READ) | ON(OPEN) | ON(BUSY), true, false},
    {"put and commit",      attached,          put_and_commit,   FILES | ON(TRUNCATE),         true,  true},
    {"roll back savepoint", attached,          put_in_savepoint, FILES | ON(TRUNCATE),         true,  false},
    {"statistics",          some_events,       world_statistics, ON(ALLOC) | ON(BUSY),         true,  false},
    {"step with PUBACK",    some_connected,    step,             SEND | ON(TRUNCATE),          false, true},
    {"step with refusal",   one_refused,       step,             SEND | ON(TRUNCATE),          false, false},
    {"dead letter",         one_unfit,         step,             SEND | ON(TRUNCATE),          false, false},
    {"mend the front",      tombstone_deleted, step,             SEND | ON(TRUNCATE),          false, false},
    {"drain",               backlog,           drain,            SEND | ON(OPEN) | ON(TRUNCATE), false, false},
    {"close",               acknowledged,      close_all,        ON(ALLOC) | ON(READ) | ON(WRITE) | ON(SYNC) | ON(TRUNCATE) | ON(DELETE) | ON(FULL) | ON(BUSY), false, false},
};
/* clang-format on */
const int scenario_count = sizeof scenarios / sizeof scenarios[0];
