/* SPDX-License-Identifier: MIT
 *
 * which_link.c - over which link the tests run.
 */
#include "which_link.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

const char *name_of_link(void)
{
    const char *name = getenv("OUTBOX_TEST_LINK");

    return name == NULL || name[0] == '\0' ? "paho" : name;
}

outbox_link_kind link_of_environment(void)
{
    const char *name = name_of_link();

    if (strcmp(name, "stream") == 0) {
        return OUTBOX_LINK_STREAM;
    }
    if (strcmp(name, "paho") != 0) {
        fail_msg("OUTBOX_TEST_LINK is \"%s\", and neither paho nor stream", name);
    }
    return OUTBOX_LINK_PAHO;
}
