/* SPDX-License-Identifier: MIT
 *
 * service.c - outbox_start(): the forwarder in a thread, with a connection of its own.
 *
 * The thread owns the engine: connection, lock, link and forwarder. What the application's thread
 * and the MQTT client's threads have to say goes through a few flags under one small mutex, and an
 * eventfd wakes the thread if it sleeps. Nothing but the flags, the fire-and-forget events on their
 * way and a copy of the statistics is touched under that mutex: no call of SQLite, of the MQTT
 * client or of the application is made while it is held, so it can take part in no deadlock.
 *
 *     application ---committed, fired, flush--> flags ---> thread: take flags, step, sleep
 *     MQTT client ---something happened-------> flags          |
 *     application <--statistics, settled id---- copy <---------+
 *
 * Nothing here outlives a crash, and nothing has to: what is settled is in the database, the kernel
 * drops the lock, and the next start reads the rest again.
 */
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* SQLite, and on_open of an application, need some 50 KiB at most. */
#define STACK_SIZE ((size_t)256 * 1024)

enum {
    STAND_BY_MS = 500, /* between two looks at the lock that another forwarder holds */
    WATCH_MS = 20,     /* least time between two wake-ups by the watch, where there are many */
    RENEW_MS = 1000,   /* between two attempts to watch a file that is not there */
    FLUSH_LOOK_MS = 50 /* between two looks at what the other one has settled, if somebody waits */
};

struct flags {
    bool committed;
    bool ending;
    outbox_gate_state gate;
    int64_t durable[OUTBOX_LANES]; /* the largest that a commit has reported since the last step */
    int64_t flush[OUTBOX_LANES];   /* the largest that a flush has asked for; stays until passed */
    unsigned flushes;              /* calls that wait now */
};

struct service {
    /* The thread's own. The plan is outbox_start()'s, which waits until it has been used. */
    const struct outbox_linux_plan *plan;
    struct outbox_linux_engine engine;
    outbox_gate_state gate;         /* as the forwarder was told */
    int64_t flushing[OUTBOX_LANES]; /* what the forwarder was last asked to flush up to */
    int64_t settled[OUTBOX_LANES];  /* by the other forwarder, as far as it was looked */
    outbox_statistics seen;         /* what is shown next */
    uint64_t lock_at;               /* when to look at the lock again */
    uint64_t watch_at, renew_at;    /* when to listen to the watch again, and to renew it */
    uint64_t hinted_at;             /* when it said something last */

    /* Between threads. */
    pthread_t thread;
    bool has_thread;
    int wake_fd;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* `opened` or `statistics` moved */
    struct flags flags;
    bool woken;     /* there is something to do since the thread last looked */
    bool asleep;    /* the thread is in poll() or about to be, and only wake_fd gets it out */
    bool stands_by; /* commits are the other forwarder's work */
    bool opened;    /* the thread has opened everything, or failed and has closed it again */
    int code;       /* how opening went */
    outbox_statistics statistics;
    int64_t acked[OUTBOX_LANES]; /* see outbox_service.acked */
    char *fired;                 /* fire-and-forget events for the next step */
    size_t fired_size, fired_used;
    unsigned fired_count;
    uint64_t fire_dropped;
};

static void hold(struct service *service)
{
    int error = pthread_mutex_lock(&service->mutex);
    assert(error == 0); /* never locked twice by one thread, always initialised */
    (void)error;
}

static void let_go(struct service *service)
{
    int error = pthread_mutex_unlock(&service->mutex);
    assert(error == 0);
    (void)error;
}

static uint64_t monotonic_ms(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* exists on every Linux */
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Waking ---------------------------------------------------------------------------------- */

/* Under the mutex. One system call when the thread sleeps, none when it is at work. */
static void wake(struct service *service)
{
    service->woken = true;
    if (!service->asleep)
        return;
    service->asleep = false;
    /* Fails only when the counter is full, and then the thread is awake anyway. */
    (void)eventfd_write(service->wake_fd, 1);
}

/* Called on threads of the link, or on this one. */
static void on_link(void *context)
{
    struct service *service = context;
    hold(service);
    wake(service);
    let_go(service);
}

static struct flags take_flags(struct service *service)
{
    hold(service);
    struct flags flags = service->flags;
    service->flags.committed = false;
    memset(service->flags.durable, 0, sizeof service->flags.durable);
    service->woken = false;
    if (service->fired_used > 0 && service->engine.forwarder) /* which only copies them */
        outbox_forwarder_fire(service->engine.forwarder, service->fired, service->fired_used);
    else
        service->fire_dropped += service->fired_count;
    service->fired_used = service->fired_count = 0;
    let_go(service);
    return flags;
}

/* The kernel says that somebody has written. That may be a long transaction or an application that
 * commits all the time: then it is listened to now and then only. */
static void take_hint(struct service *service)
{
    uint64_t now = monotonic_ms();
    if (now < service->hinted_at + WATCH_MS)
        service->watch_at = now + WATCH_MS;
    service->hinted_at = now;
    if (outbox_linux_watch_take(&service->engine.watch))
        outbox_forwarder_look(service->engine.forwarder, 1);
}

/* Polls for `ms` or until something happens. What the watch has to say may wait for its time. */
static void poll_up_to(struct service *service, uint32_t ms)
{
    uint64_t now = monotonic_ms();
    bool listens = service->engine.watch.fd >= 0 && now >= service->watch_at;
    if (service->engine.watch.fd >= 0 && !listens && service->watch_at - now < ms)
        ms = (uint32_t)(service->watch_at - now);
    int timeout = ms > (uint32_t)INT_MAX ? -1 : (int)ms;
    struct pollfd wait_for[] = {
        {.fd = service->wake_fd, .events = POLLIN},
        {.fd = listens ? service->engine.watch.fd : -1, .events = POLLIN},
        outbox_linux_link_wait(service->engine.link), /* the next step takes what it has */
    };
    int ready = poll(wait_for, 3, timeout);
    /* All signals are blocked here, but a debugger or a stop may interrupt: then a step too many
     * is made. */
    assert(ready >= 0 || errno == EINTR || errno == ENOMEM);
    if (ready > 0 && wait_for[1].revents != 0)
        take_hint(service);
}

/* Sleeps for `ms` or until something happens, and not at all if it has happened already. */
static void sleep_up_to(struct service *service, uint32_t ms)
{
    hold(service);
    service->asleep = !service->woken;
    bool asleep = service->asleep;
    let_go(service);
    if (!asleep)
        return;
    poll_up_to(service, ms);
    hold(service);
    service->asleep = false;
    let_go(service);
    eventfd_t count;
    (void)eventfd_read(service->wake_fd, &count); /* EAGAIN: the time was over first */
}

/* ---- The thread: running --------------------------------------------------------------------- */

/* Shows the other threads what came of the last turn. */
static void show(struct service *service)
{
    outbox_statistics *seen = &service->seen;
    outbox_forwarder *forwarder = service->engine.forwarder;
    int64_t acked[OUTBOX_LANES] = {0};
    bool moved = false;
    for (int i = 0; i < OUTBOX_LANES && forwarder; i++)
        acked[i] = outbox_forwarder_acked(forwarder, (outbox_lane)i);
    hold(service);
    memcpy(service->acked, acked, sizeof acked);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (seen->sending[i].settled_id < service->settled[i])
            seen->sending[i].settled_id = service->settled[i];
        moved = moved || seen->sending[i].settled_id != service->statistics.sending[i].settled_id;
    }
    service->statistics = *seen;
    service->stands_by = seen->state == OUTBOX_STATE_STAND_BY;
    if (moved)
        (void)pthread_cond_broadcast(&service->changed); /* cannot fail */
    let_go(service);
}

static uint64_t writes_of(const outbox_statistics *statistics)
{
    return statistics->settles + statistics->barriers;
}

/* What this handle's commits and our own writes have made the watch say needs no wake-up of its
 * own. One look right behind it finds whoever has committed as well; a commit that is half done at
 * that very moment is left to the next regular look. */
static void mind_watch(struct service *service, const struct flags *flags, uint32_t *next_ms)
{
    outbox_statistics now = {0};
    outbox_forwarder_stats(service->engine.forwarder, &now);
    bool wrote = writes_of(&now) != writes_of(&service->seen);
    if ((wrote || flags->committed) && outbox_linux_watch_take(&service->engine.watch) && wrote) {
        outbox_forwarder_look(service->engine.forwarder, 0);
        *next_ms = 0;
    }
    uint64_t clock = monotonic_ms();
    if (clock < service->renew_at)
        return;
    service->renew_at = clock + RENEW_MS;
    outbox_linux_watch_renew(&service->engine.watch);
}

/* Hands on what the other threads said and does one step. Returns how long there is nothing to
 * do. */
static uint32_t step(struct service *service, const struct flags *flags)
{
    uint32_t next_ms = 0;
    if (flags->committed)
        outbox_forwarder_committed(service->engine.forwarder, flags->durable);
    if (memcmp(flags->flush, service->flushing, sizeof flags->flush) != 0) {
        memcpy(service->flushing, flags->flush, sizeof flags->flush);
        outbox_forwarder_flush(service->engine.forwarder, flags->flush);
    }
    if (flags->gate != service->gate) {
        service->gate = flags->gate;
        outbox_forwarder_gate(service->engine.forwarder, flags->gate);
    }
    /* The code is part of the statistics, and the forwarder goes on by itself. */
    int code = outbox_forwarder_step(service->engine.forwarder, &next_ms);
    if (code == OUTBOX_DISK_FULL && outbox_linux_ballast_give_up(&service->engine.ballast)) {
        /* At once, before the application fills that room as well. */
        outbox_forwarder_retry(service->engine.forwarder);
        code = outbox_forwarder_step(service->engine.forwarder, &next_ms);
    }
    if (code != OUTBOX_DISK_FULL)
        outbox_linux_ballast_renew(&service->engine.ballast);
    mind_watch(service, flags, &next_ms);
    outbox_forwarder_stats(service->engine.forwarder, &service->seen);
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (service->seen.sending[i].settled_id > 0)
            service->settled[i] = 0; /* the forwarder knows better from now on */
    show(service);
    return next_ms;
}

static void say(const struct service *service, outbox_level level, int code, const char *sentence)
{
    const outbox_port *port = &service->engine.port;
    if (port->log)
        port->log(port->log_context, level, code, sentence);
}

/* Keeps why it still stands by; tells people when that is another reason than before. */
static void note_stand_by(struct service *service, int code)
{
    outbox_statistics *seen = &service->seen;
    const char *sentence = service->engine.sentence;
    if (seen->state != OUTBOX_STATE_STAND_BY || seen->last_error != code)
        say(service, code == OUTBOX_LOCKED ? OUTBOX_LOG_INFO : OUTBOX_LOG_WARNING, code, sentence);
    seen->state = OUTBOX_STATE_STAND_BY;
    seen->last_error = code;
    (void)snprintf(seen->last_error_text, sizeof seen->last_error_text, "%.*s",
                   (int)sizeof seen->last_error_text - 1, sentence);
}

/* Returns how long there is nothing to do. What another forwarder settles nobody tells us, so while
 * somebody waits for that, the table is looked at. Also before the first step of our own: the rows
 * that a flush waits for may have left by the other one's last settle. */
static uint32_t stand_by(struct service *service, const struct flags *flags)
{
    uint64_t now = monotonic_ms();
    int code = OUTBOX_LOCKED;
    if (now >= service->lock_at) {
        code = outbox_linux_engine_take_over(&service->engine);
        service->lock_at = now + STAND_BY_MS;
        if (code != OUTBOX_OK)
            note_stand_by(service, code);
    }
    if (code == OUTBOX_OK || flags->flushes > 0)
        (void)outbox_linux_engine_find_settled(&service->engine, service->settled); /* again soon */
    show(service);
    if (code == OUTBOX_OK) {
        say(service, OUTBOX_LOG_INFO, OUTBOX_OK,
            "the other forwarder is gone; this one takes over");
        return step(service, flags);
    }
    uint64_t wait = service->lock_at > now ? service->lock_at - now : 0;
    return flags->flushes > 0 && wait > FLUSH_LOOK_MS ? FLUSH_LOOK_MS : (uint32_t)wait;
}

static uint32_t take_turn(struct service *service, const struct flags *flags)
{
    return service->engine.forwarder ? step(service, flags) : stand_by(service, flags);
}

static void report_opening(struct service *service, int code)
{
    hold(service);
    service->code = code;
    service->opened = true;
    (void)pthread_cond_broadcast(&service->changed); /* cannot fail */
    let_go(service);
}

static void *run(void *context)
{
    struct service *service = context;
    (void)pthread_setname_np(pthread_self(), "outbox"); /* for people who look at a debugger */
    int code = outbox_linux_engine_open(&service->engine, service->plan);
    if (code != OUTBOX_OK) {
        report_opening(service, code);
        return NULL;
    }
    /* The first step is made before the start returns, so that the statistics tell the truth. */
    struct flags flags = take_flags(service);
    uint32_t next_ms = take_turn(service, &flags);
    report_opening(service, OUTBOX_OK);
    while (!flags.ending) {
        sleep_up_to(service, next_ms);
        flags = take_flags(service);
        if (!flags.ending)
            next_ms = take_turn(service, &flags);
    }
    outbox_linux_engine_close(&service->engine);
    return NULL;
}

/* ---- The application's side ------------------------------------------------------------------ */

/* Raises each lane's number to the other one's, where that is larger. */
static void raise_to(int64_t numbers[OUTBOX_LANES], const int64_t others[OUTBOX_LANES])
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (others[i] > numbers[i])
            numbers[i] = others[i];
}

static void service_committed(void *context, const int64_t durable[OUTBOX_LANES])
{
    struct service *service = context;
    hold(service);
    service->flags.committed = true;
    raise_to(service->flags.durable, durable);
    if (!service->stands_by)
        wake(service);
    let_go(service);
}

static void service_fired(void *context, const void *events, size_t size, unsigned count)
{
    struct service *service = context;
    hold(service);
    if (service->stands_by || size > service->fired_size - service->fired_used) {
        service->fire_dropped += count;
    } else {
        memcpy(service->fired + service->fired_used, events, size);
        service->fired_used += size;
        service->fired_count += count;
        wake(service);
    }
    let_go(service);
}

/* Leaves the database's part as it is. */
static void service_stats(void *context, outbox_statistics *statistics)
{
    struct service *service = context;
    hold(service);
    outbox_statistics now = service->statistics;
    now.fire_dropped += service->fire_dropped;
    let_go(service);
    const size_t ours = offsetof(outbox_statistics, state); /* the forwarder's part is the rest */
    memcpy((char *)statistics + ours, (const char *)&now + ours, sizeof now - ours);
}

static struct timespec time_after(unsigned ms)
{
    struct timespec when;
    int error = clock_gettime(CLOCK_MONOTONIC, &when);
    assert(error == 0);
    (void)error;
    when.tv_sec += (time_t)(ms / 1000);
    when.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (when.tv_nsec >= 1000000000L) {
        when.tv_sec++;
        when.tv_nsec -= 1000000000L;
    }
    return when;
}

/* Under the mutex. */
static bool is_settled(const struct service *service, const int64_t last[OUTBOX_LANES])
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (service->statistics.sending[i].settled_id < last[i])
            return false;
    return true;
}

static int service_flush(void *context, const int64_t last[OUTBOX_LANES], unsigned timeout_ms)
{
    struct service *service = context;
    struct timespec deadline = time_after(timeout_ms == OUTBOX_NEVER ? 0 : timeout_ms);
    int error = timeout_ms == 0 ? ETIMEDOUT : 0;
    hold(service);
    service->flags.flushes++;
    if (!is_settled(service, last)) {
        raise_to(service->flags.flush, last);
        wake(service);
    }
    while (!is_settled(service, last) && error == 0)
        error = timeout_ms == OUTBOX_NEVER
                    ? pthread_cond_wait(&service->changed, &service->mutex)
                    : pthread_cond_timedwait(&service->changed, &service->mutex, &deadline);
    bool settled = is_settled(service, last);
    service->flags.flushes--;
    let_go(service);
    return settled ? OUTBOX_OK : OUTBOX_TIMEOUT;
}

/* Frees what make_service() made. */
static void free_service(struct service *service)
{
    if (service->wake_fd >= 0)
        (void)close(service->wake_fd);
    (void)pthread_cond_destroy(&service->changed); /* nobody waits any more */
    (void)pthread_mutex_destroy(&service->mutex);
    free(service->fired);
    free(service);
}

static void service_stop(void *context)
{
    struct service *service = context;
    hold(service);
    service->flags.ending = true;
    wake(service);
    let_go(service);
    if (service->has_thread) {
        int error = pthread_join(service->thread, NULL);
        assert(error == 0);
        (void)error;
    }
    free_service(service);
}

static int64_t service_acked(void *context, outbox_lane lane)
{
    struct service *service = context;
    hold(service);
    int64_t acked = service->acked[lane];
    let_go(service);
    return acked;
}

static void service_gate(void *context, outbox_gate_state gate)
{
    struct service *service = context;
    hold(service);
    service->flags.gate = gate;
    wake(service);
    let_go(service);
}

static const outbox_service methods = {
    .version = 1,
    .committed = service_committed,
    .stats = service_stats,
    .flush = service_flush,
    .acked = service_acked,
    .gate = service_gate,
    .stop = service_stop,
    .fired = service_fired,
};

/* ---- Start ----------------------------------------------------------------------------------- */

/* The condition measures its time-outs by a clock that nobody sets. */
static int make_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error != 0)
        return error;
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0)
        error = pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes); /* cannot fail */
    return error;
}

static struct service *make_service(size_t fire_bytes)
{
    struct service *service = calloc(1, sizeof *service);
    if (!service)
        return NULL;
    service->wake_fd = -1;
    int error = pthread_mutex_init(&service->mutex, NULL);
    if (error == 0) {
        error = make_condition(&service->changed);
        if (error != 0)
            (void)pthread_mutex_destroy(&service->mutex);
    }
    if (error != 0) {
        free(service);
        errno = error;
        return NULL;
    }
    service->fired = malloc(fire_bytes);
    service->fired_size = fire_bytes;
    if (service->fired)
        service->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (service->wake_fd >= 0)
        return service;
    error = errno; /* of either */
    free_service(service);
    errno = error;
    return NULL;
}

/* The thread, and those that the MQTT client will make from it, get no signal: all of them stay
 * with the application's threads. */
static int create_thread(struct service *service)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    /* Refused where a program keeps much in thread-local storage; the default then does. */
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
    (void)sigfillset(&all); /* cannot fail */
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0) {
        error = pthread_create(&service->thread, &attributes, run, service);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* cannot fail: it was valid */
    }
    (void)pthread_attr_destroy(&attributes); /* cannot fail */
    return error;
}

/* Returns when the thread has opened everything, or why it could not. */
static int start_thread(struct service *service)
{
    int error = create_thread(service);
    if (error != 0) {
        (void)snprintf(service->engine.sentence, sizeof service->engine.sentence,
                       "cannot make a thread: %s", strerror(error));
        return OUTBOX_SYSTEM;
    }
    service->has_thread = true;
    hold(service);
    while (!service->opened)
        (void)pthread_cond_wait(&service->changed, &service->mutex); /* looked at again */
    int code = service->code;
    service->plan = NULL; /* it is the caller's */
    let_go(service);
    return code;
}

/* Bound before it runs, so that a second start on the handle is refused before it opens anything;
 * outbox_stop() undoes that. */
static int bind_and_run(outbox *box, struct service *service)
{
    char sentence[sizeof service->engine.sentence];
    int code = outbox_bind(box, &methods, service);
    if (code != OUTBOX_OK) {
        free_service(service);
        return code;
    }
    code = start_thread(service);
    if (code == OUTBOX_OK)
        return OUTBOX_OK;
    memcpy(sentence, service->engine.sentence, sizeof sentence);
    (void)outbox_stop(box); /* it is bound, so it can be stopped */
    return outbox_fail(box, code, "%s", sentence);
}

int outbox_start(outbox *box, const outbox_forwarding *forwarding)
{
    struct outbox_linux_plan plan = {0};
    if (!box)
        return OUTBOX_MISUSE;
    if (!forwarding)
        return outbox_fail(box, OUTBOX_MISUSE, "forwarding is NULL");
    int code = outbox_linux_plan_make(box, forwarding, &plan);
    if (code != OUTBOX_OK)
        return code;
    struct service *service = make_service(plan.fire_bytes);
    if (service) {
        plan.wake = on_link;
        plan.wake_context = service;
        service->plan = &plan;
        code = bind_and_run(box, service);
    } else {
        code = outbox_fail(box, errno == ENOMEM ? OUTBOX_NO_MEMORY : OUTBOX_SYSTEM,
                           "cannot make what the forwarder's thread needs: %s", strerror(errno));
    }
    explicit_bzero(&plan.url, sizeof plan.url); /* may hold a password */
    return code;
}
