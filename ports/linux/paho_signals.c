/* SPDX-License-Identifier: MIT
 *
 * paho_signals.c - keeps the application's signals as they are around calls of Paho.
 *
 * Paho ignores SIGPIPE for the whole process when its first client is made, and its threads take
 * over the signal mask of the thread that begins them. Here the disposition is put back at once.
 * Without it a write to a closed connection raises SIGPIPE in the thread that writes, so that one
 * must have it blocked: Paho's threads by inheritance, and our own while it makes Paho write, as
 * MQTTAsync_destroy() does. With everything blocked, no handler of the application ever runs on a
 * thread of Paho's. Signals that a fault of the thread itself raises stay as they are, for the
 * tools that report crashes. Nothing here outlives the process.
 */
#include "paho_signals.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <time.h>

/* None of these calls can fail with the arguments that they get here. */
static void must_succeed(int rc)
{
    assert(rc == 0);
    (void)rc;
}

static int pipe_is_pending(void)
{
    sigset_t pending;
    must_succeed(sigpending(&pending));
    return sigismember(&pending, SIGPIPE) == 1;
}

void outbox_paho_signals_hold(outbox_paho_signals *held)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGABRT};
    sigset_t all;
    must_succeed(sigfillset(&all));
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        must_succeed(sigdelset(&all, faults[i]));
    must_succeed(pthread_sigmask(SIG_SETMASK, &all, &held->mask));
    held->pipe_was_pending = pipe_is_pending();
}

void outbox_paho_signals_release(const outbox_paho_signals *held)
{
    if (!held->pipe_was_pending && pipe_is_pending()) {
        static const struct timespec at_once = {0, 0};
        sigset_t only_pipe;
        must_succeed(sigemptyset(&only_pipe));
        must_succeed(sigaddset(&only_pipe, SIGPIPE));
        int taken = sigtimedwait(&only_pipe, NULL, &at_once);
        assert(taken == SIGPIPE || errno == EAGAIN || errno == EINTR); /* another thread took it */
        (void)taken;
    }
    must_succeed(pthread_sigmask(SIG_SETMASK, &held->mask, NULL));
}

void outbox_paho_pipe_save(struct sigaction *saved)
{
    must_succeed(sigaction(SIGPIPE, NULL, saved));
}

void outbox_paho_pipe_restore(const struct sigaction *saved)
{
    must_succeed(sigaction(SIGPIPE, saved, NULL));
}
