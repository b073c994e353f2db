/* SPDX-License-Identifier: MIT
 *
 * paho_signals.h - keeps the application's signals as they are around calls of Paho.
 */
#ifndef OUTBOX_PAHO_SIGNALS_H
#define OUTBOX_PAHO_SIGNALS_H

#include <signal.h>

typedef struct outbox_paho_signals {
    sigset_t mask;         /* of the calling thread */
    struct sigaction pipe; /* of the process */
    int pipe_was_pending;
} outbox_paho_signals;

/* From here to outbox_paho_signals_restore() the calling thread, and every thread that is begun in
 * it, has all signals blocked. Only one thread at a time may be between the two. */
void outbox_paho_signals_save(outbox_paho_signals *saved);

/* Puts mask and disposition back, and takes away a SIGPIPE that came in between. */
void outbox_paho_signals_restore(const outbox_paho_signals *saved);

#endif
