/* SPDX-License-Identifier: MIT
 *
 * scenario.h - what a device may be doing when something fails.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "faults/world.h"

struct scenario {
    const char *name;
    void (*prepare)(struct world *world); /* without faults */
    void (*act)(struct world *world);     /* with one */
    unsigned reaches;                     /* faults that must fire, a bit each */
    bool is_of_app;                       /* has nothing of the forwarder: two modes will do */
    bool is_small;                        /* also for a crash and a fault in the recovery */
};
extern const struct scenario scenarios[];
extern const int scenario_count;

#endif
