/* SPDX-License-Identifier: MIT
 *
 * which_link.h - over which link the tests run: OUTBOX_TEST_LINK=stream or paho, which is the
 * default.
 */
#ifndef OUTBOX_TESTS_WHICH_LINK_H
#define OUTBOX_TESTS_WHICH_LINK_H

#include <outbox/outbox.h>

/* Fails the test when the variable says something else. */
outbox_link_kind link_of_environment(void);

/* "paho" or "stream", as the command's option wants it. */
const char *name_of_link(void);

#endif
