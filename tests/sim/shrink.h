/* SPDX-License-Identifier: MIT
 *
 * shrink.h - makes the tape of a broken run as short as it can be.
 */
#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H

/* Reads a tape, writes the shortest found that breaks the same invariant. Returns an exit status of
 * the command. */
int shrink_tape(const char *from, const char *to);

#endif
