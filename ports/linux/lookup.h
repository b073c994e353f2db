/* SPDX-License-Identifier: MIT
 *
 * lookup.h - addresses of a host, looked up without waiting for them.
 *
 * getaddrinfo() blocks for as long as the resolver likes, which may be half a minute. So a name is
 * looked up by a thread made for it, with all signals blocked, that ends with its answer. Whoever
 * does not want the answer any more leaves it to the thread to clear away; nobody ever waits for
 * it. An address is taken apart at once, without a thread.
 */
#ifndef OUTBOX_LINUX_LOOKUP_H
#define OUTBOX_LINUX_LOOKUP_H

#include <netdb.h>

struct outbox_lookup;

/* Begins. wake(context) is called when the answer is there, on the lookup's thread; `wake` may be
 * NULL. Returns NULL when there is no memory or no thread, with errno. */
struct outbox_lookup *outbox_lookup_begin(const char *host, unsigned port,
                                          void (*wake)(void *context), void *context);

/* Zero: it is under way. Else *error is what getaddrinfo() returned, 0 for success, and *addresses
 * its list, which lives as long as the lookup. Neither blocks. */
int outbox_lookup_is_done(struct outbox_lookup *lookup, int *error,
                          const struct addrinfo **addresses);

/* Ends it, also while it is under way; wake() is not called any more. NULL is allowed. */
void outbox_lookup_end(struct outbox_lookup *lookup);

#endif
