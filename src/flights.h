/* SPDX-License-Identifier: MIT
 *
 * flights.h - the publishes that wait for their PUBACK: packet id to token.
 *
 * A place of the table is used again and again under other packet ids, so that a PUBACK which comes
 * twice names no publish of today. Memory of one connection.
 */
#ifndef OB_FLIGHTS_H
#define OB_FLIGHTS_H

#include <stdbool.h>
#include <stdint.h>

struct ob_flight {
    uint32_t token;
    uint16_t id;   /* of this use, or of the last one */
    uint16_t next; /* free place behind this one */
    bool in_use;
};

struct ob_flights {
    struct ob_flight *places;
    uint16_t capacity, count; /* places; those in use */
    uint16_t free;            /* first free place; capacity: none */
};

/* All places are free. `capacity` is 1 to 1000. */
void ob_flights_start(struct ob_flights *flights, struct ob_flight *places, unsigned capacity);

/* Takes a place, of which there must be one, and returns its packet id: 1 to 65,535. */
uint16_t ob_flights_begin(struct ob_flights *flights, uint32_t token);

/* Gives the place back. False: no publish in flight has this packet id. */
bool ob_flights_end(struct ob_flights *flights, uint16_t id, uint32_t *token);

#endif
