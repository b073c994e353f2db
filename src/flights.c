/* SPDX-License-Identifier: MIT
 *
 * flights.c - the publishes that wait for their PUBACK: packet id to token.
 *
 * The ids of place p, from 0, are p + 1, p + 1 + capacity, p + 1 + 2 * capacity ..., one after the
 * other, as far as 65,535 goes. Nothing outlives the connection: what had no PUBACK is sent anew.
 */
#include "flights.h"

#include <assert.h>

enum { ID_MAX = 65535 };

void ob_flights_start(struct ob_flights *flights, struct ob_flight *places, unsigned capacity)
{
    assert(capacity >= 1 && capacity <= ID_MAX / 2);
    *flights = (struct ob_flights){.places = places, .capacity = (uint16_t)capacity};
    for (unsigned i = 0; i < capacity; i++)
        places[i] = (struct ob_flight){.next = (uint16_t)(i + 1)};
}

/* The id under which place `p` is used next. */
static uint16_t next_id(const struct ob_flights *flights, uint16_t p)
{
    uint32_t id = flights->places[p].id;
    id = id == 0 ? p + 1u : id + flights->capacity;
    return (uint16_t)(id <= ID_MAX ? id : p + 1u);
}

uint16_t ob_flights_begin(struct ob_flights *flights, uint32_t token)
{
    uint16_t p = flights->free;
    assert(p < flights->capacity && !flights->places[p].in_use);
    struct ob_flight *flight = &flights->places[p];
    flights->free = flight->next;
    flights->count++;
    flight->id = next_id(flights, p);
    flight->token = token;
    flight->in_use = true;
    return flight->id;
}

bool ob_flights_end(struct ob_flights *flights, uint16_t id, uint32_t *token)
{
    uint16_t p = (uint16_t)((id - 1u) % flights->capacity);
    struct ob_flight *flight = &flights->places[p];
    if (!flight->in_use || flight->id != id)
        return false;
    *token = flight->token;
    flight->in_use = false;
    flight->next = flights->free;
    flights->free = p;
    flights->count--;
    return true;
}
