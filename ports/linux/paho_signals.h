/* SPDX-License-Identifier: MIT
 *
 * paho_signals.h - keeps the application's signals as they are around calls of Paho.
 */
#ifndef OUTBOX_PAHO_SIGNALS_H
#define OUTBOX_PAHO_SIGNALS_H

#include <signal.h>

typedef struct outbox_paho_signals {
    sigset_t mask; /* of the calling thread */
    int pipe_was_pending;
} outbox_paho_signals;

/* From here to outbox_paho_signals_release() the calling thread, and every thread that is begun in
 * it, has all signals blocked. */
void outbox_paho_signals_hold(outbox_paho_signals *held);

/* Puts the mask back, and takes away a SIGPIPE that came in between. */
void outbox_paho_signals_release(const outbox_paho_signals *held);

/* The process's disposition of SIGPIPE, before and after Paho changes it. */
void outbox_paho_pipe_save(struct sigaction *saved);
void outbox_paho_pipe_restore(const struct sigaction *saved);

#endif
