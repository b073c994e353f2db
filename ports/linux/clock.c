/* SPDX-License-Identifier: MIT
 *
 * clock.c - the clock and the dice of a Linux machine, as the core wants them.
 *
 * The clock is the time since boot. It goes on while the machine sleeps, so a pause that was begun
 * before is over after it, and nobody can set it back. Nothing here is kept, so a crash has nothing
 * to spoil: no time of this clock is ever stored.
 */
#include "clock.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static struct timespec since_boot(void)
{
    struct timespec now = {0, 0};
    /* Kernels before 2.6.39 and some sandboxes know the monotonic clock only; it stops in sleep. */
    if (clock_gettime(CLOCK_BOOTTIME, &now) != 0) {
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return now;
}

uint64_t outbox_linux_now_ms(void)
{
    struct timespec now = since_boot();
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

/* Wraps every 49.7 days, which the core expects. */
static uint32_t now_ms(void *context)
{
    (void)context;
    return (uint32_t)outbox_linux_now_ms();
}

static uint32_t random_bits(void *context)
{
    (void)context;
    uint32_t bits;
    /* Early in the boot of a small device the kernel may have no randomness yet. Waiting for it
     * would hold up the forwarder; nanoseconds and process number spread reconnects as well. */
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits) {
        struct timespec now = since_boot();
        bits = ((uint32_t)now.tv_nsec ^ ((uint32_t)getpid() << 12)) * 2654435761U;
    }
    return bits;
}

outbox_port outbox_linux_port(outbox_log log, void *log_context)
{
    return (outbox_port){
        .version = 1,
        .now_ms = now_ms,
        .random = random_bits,
        .log = log,
        .log_context = log_context,
    };
}
