/* SPDX-License-Identifier: MIT
 *
 * enumerate.h - every schedule of a small scope instead of some of a large one.
 */
#ifndef SIM_ENUMERATE_H
#define SIM_ENUMERATE_H

/* `scenario`: "wal" or "truncate". Two transactions with an event each, a power cut at each change
 * of the disk, all that may become of unsynced writes, and a second cut at each change inside the
 * recovery. Prints the number of schedules. Returns an exit status of the command. */
int enumerate_all(const char *scenario, const char *build);

#endif
