/* SPDX-License-Identifier: MIT
 *
 * fuzz_database.c - any damage to a good database, under the whole library.
 *
 * An input is a list of changes to the bytes of one good file. What must hold is in unit/damage.h:
 * documented codes, an end of every call, and of what is sent: it is an event that somebody has
 * stored, byte for byte, or one in whose own cell lies damage.
 *
 * What this cannot promise, as nothing could: SQLite keeps no checksum of a row. A byte that is
 * changed within a body, topic or id is a row like any other to it and to this library, and is sent
 * as it now is. So damage of an event's own cell excuses what is sent under its id or with its
 * body, but excuses no other event.
 */
#include "fuzz.h"
#include "unit/damage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGES_MAX = 64, CHANGE = 5 };

static struct damage damage;
static unsigned char *bytes;

static void end(void)
{
    damage_close(&damage);
    free(bytes);
}

void fuzz_prepare(void)
{
    must(damage_open(&damage), damage.sentence);
    bytes = malloc(damage.size);
    must(bytes != NULL && atexit(end) == 0, "there is memory");
}

/* Each change: what, the page, two bytes for the place in it, with what. */
void fuzz_seeds(void)
{
    static const char seeds[][2 * CHANGE + 1] = {"\0\0\0\120\1", "\1\16\0\3\4", "\2\20\1\0\100",
                                                 "\3\5\0\0\0", "\1\16\3\200\2\0\17\0\4\1"};
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        fuzz_seed(seeds[i], i == 4 ? 2 * CHANGE : CHANGE);
}

static void change(struct fuzz_input *input, size_t *size)
{
    unsigned what = (unsigned)fuzz_number(input, 1) % 4;
    size_t page = (size_t)fuzz_number(input, 1) % (damage.size / DAMAGE_PAGE);
    size_t at = page * DAMAGE_PAGE + (size_t)fuzz_number(input, 2) % DAMAGE_PAGE;
    unsigned char value = (unsigned char)fuzz_number(input, 1);
    size_t most = damage.size - at;
    switch (what) {
    case 0:
        bytes[at] ^= value;
        break;
    case 1:
        bytes[at] = value;
        break;
    case 2:
        memset(bytes + at, 0, value * (size_t)4 < most ? value * (size_t)4 : most);
        break;
    default:
        *size = at;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    size_t len = damage.size;
    memcpy(bytes, damage.good, damage.size);
    for (int i = 0; i < CHANGES_MAX && input.at < input.end; i++)
        change(&input, &len);
    must(damage_try(&damage, bytes, len), damage.sentence);
    return 0;
}
