/* SPDX-License-Identifier: MIT
 *
 * ballast.h - room on the disk that is kept for the day on which it is full.
 */
#ifndef OUTBOX_LINUX_BALLAST_H
#define OUTBOX_LINUX_BALLAST_H

#include <outbox/outbox.h>
#include <stdbool.h>

struct outbox_linux_ballast {
    char *database, *path;
    size_t bytes; /* 0: none is wanted */
    bool is_kept;
    long long look_at; /* when to see whether there is room to make it anew, monotonic ms */
    outbox_log log;
    void *log_context;
};

/* Takes what is there from an earlier forwarder, or makes it where there is ample room. `bytes`: 0
 * for the default, OUTBOX_NEVER for none. The caller holds the forwarder's lock. False: no
 * memory. */
bool outbox_linux_ballast_open(struct outbox_linux_ballast *ballast, const char *database,
                               unsigned bytes, outbox_log log, void *log_context);

/* Leaves the file where it is. Allowed also where it was never opened, but zeroed. */
void outbox_linux_ballast_close(struct outbox_linux_ballast *ballast);

/* Gives the room to whoever comes first. False: there was none to give. */
bool outbox_linux_ballast_give_up(struct outbox_linux_ballast *ballast);

/* Makes it anew if it was given up and there is ample room again. Looks once a second at most. */
void outbox_linux_ballast_renew(struct outbox_linux_ballast *ballast);

#endif
