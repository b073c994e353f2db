/* SPDX-License-Identifier: MIT
 *
 * lookup.c - addresses of a host, looked up without waiting for them.
 *
 * The lookup is shared by its thread and its owner, and freed by whoever leaves last. The mutex is
 * held while wake() is called, so that the owner, when it leaves, knows that no call is under way.
 * Nothing of it outlives the process.
 */
#include "lookup.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NSS modules of large organisations need more than a small stack. */
#define STACK_SIZE ((size_t)256 * 1024)

struct outbox_lookup {
    char host[256], service[8];
    pthread_mutex_t mutex; /* for what follows */
    bool is_done, is_abandoned;
    int error;
    struct addrinfo *addresses;
    void (*wake)(void *context);
    void *context;
};

static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};

static void hold(struct outbox_lookup *lookup)
{
    int error = pthread_mutex_lock(&lookup->mutex);
    assert(error == 0); /* initialised, and never locked twice by one thread */
    (void)error;
}

static void let_go(struct outbox_lookup *lookup)
{
    int error = pthread_mutex_unlock(&lookup->mutex);
    assert(error == 0);
    (void)error;
}

static void clear_away(struct outbox_lookup *lookup)
{
    if (lookup->addresses)
        freeaddrinfo(lookup->addresses);
    (void)pthread_mutex_destroy(&lookup->mutex);
    free(lookup);
}

static void *run(void *context)
{
    struct outbox_lookup *lookup = context;
    struct addrinfo *addresses = NULL;
    (void)pthread_setname_np(pthread_self(), "outbox-dns");
    int error = getaddrinfo(lookup->host, lookup->service, &hints, &addresses);
    hold(lookup);
    lookup->is_done = true;
    lookup->error = error;
    lookup->addresses = error == 0 ? addresses : NULL;
    bool is_abandoned = lookup->is_abandoned;
    if (!is_abandoned && lookup->wake)
        lookup->wake(lookup->context);
    let_go(lookup);
    if (is_abandoned)
        clear_away(lookup);
    return NULL;
}

/* Signals are for the application's threads. */
static int begin_thread(struct outbox_lookup *lookup)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE); /* else the default does */
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all); /* cannot fail */
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0) {
        error = pthread_create(&thread, &attributes, run, lookup);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* cannot fail: it was valid */
    }
    (void)pthread_attr_destroy(&attributes); /* cannot fail */
    return error;
}

static bool is_address(struct outbox_lookup *lookup)
{
    struct addrinfo numeric = hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    return getaddrinfo(lookup->host, lookup->service, &numeric, &lookup->addresses) == 0;
}

struct outbox_lookup *outbox_lookup_begin(const char *host, unsigned port,
                                          void (*wake)(void *context), void *context)
{
    struct outbox_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return NULL;
    int error = pthread_mutex_init(&lookup->mutex, NULL);
    if (error != 0) {
        free(lookup);
        errno = error;
        return NULL;
    }
    lookup->wake = wake;
    lookup->context = context;
    (void)snprintf(lookup->host, sizeof lookup->host, "%s", host);
    (void)snprintf(lookup->service, sizeof lookup->service, "%u", port);
    lookup->is_done = is_address(lookup);
    error = lookup->is_done ? 0 : begin_thread(lookup);
    if (error == 0)
        return lookup;
    clear_away(lookup);
    errno = error;
    return NULL;
}

int outbox_lookup_is_done(struct outbox_lookup *lookup, int *error,
                          const struct addrinfo **addresses)
{
    hold(lookup);
    bool is_done = lookup->is_done;
    *error = lookup->error;
    *addresses = lookup->addresses;
    let_go(lookup);
    return is_done;
}

void outbox_lookup_end(struct outbox_lookup *lookup)
{
    if (!lookup)
        return;
    hold(lookup);
    bool is_done = lookup->is_done;
    lookup->is_abandoned = true;
    let_go(lookup);
    if (is_done)
        clear_away(lookup);
}
