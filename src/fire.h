/* SPDX-License-Identifier: MIT
 *
 * fire.h - the fire-and-forget events that a forwarder has yet to send.
 */
#ifndef OB_FIRE_H
#define OB_FIRE_H

#include "schema.h"

#include <outbox/forwarder.h>
#include <stdbool.h>

struct ob_fire {
    char *bytes; /* config.fire_bytes of them; records, see record.h */
    size_t used, done;
    bool is_identified; /* on this connection */
    struct ob_identity identity;
    int64_t number;   /* sent under it */
    uint64_t dropped; /* all others */
    uint64_t not_before;
};

/* Sends what waits, as far as link and pace allow; says when it wants to be called again. */
void ob_fire_send(outbox_forwarder *f);
void ob_fire_next(outbox_forwarder *f, uint32_t *next_ms);

/* The connection is gone: drops what waits. */
void ob_fire_drop(outbox_forwarder *f);

#endif
