/* SPDX-License-Identifier: MIT
 *
 * stage.c - keeps the fire-and-forget events of a transaction, and forgets those that it undoes.
 *
 * Memory alone. Levels never fall from one event to the next: to come to a lower one a savepoint
 * must be released, which lowers those of the events behind it too.
 */
#include "stage.h"

#include <string.h>

bool ob_stage_add(struct ob_stage *stage, const struct ob_row *row)
{
    size_t size = ob_record_size(row);
    if (!stage->bytes)
        stage->bytes = sqlite3_malloc64(stage->size);
    if (!stage->bytes)
        return false;
    if (size > stage->size - stage->used) {
        stage->dropped++;
        return true;
    }
    ob_record_write(stage->bytes + stage->used, row, stage->level);
    stage->used += size;
    return true;
}

void ob_stage_begin(struct ob_stage *stage)
{
    stage->used = 0;
    stage->level = 0;
}

void ob_stage_open(struct ob_stage *stage, int n)
{
    stage->level = n + 1;
}

/* Where the first event of a level over `n` begins. */
static size_t find_above(const struct ob_stage *stage, int n)
{
    size_t at = 0, size;
    int level;
    while ((size = ob_record_head(stage->bytes + at, stage->used - at, &level)) > 0 && level <= n)
        at += size;
    return at;
}

void ob_stage_release(struct ob_stage *stage, int n)
{
    stage->level = n;
    if (stage->used == 0)
        return;
    size_t size;
    int level;
    for (size_t at = find_above(stage, n);
         (size = ob_record_head(stage->bytes + at, stage->used - at, &level)) > 0; at += size)
        ob_record_set_level(stage->bytes + at, n);
}

void ob_stage_undo(struct ob_stage *stage, int n)
{
    stage->level = n + 1;
    if (stage->used > 0)
        stage->used = find_above(stage, n);
}

void ob_stage_clear(struct ob_stage *stage)
{
    stage->used = 0;
}

void ob_stage_drop(struct ob_stage *stage)
{
    if (stage->used > 0)
        stage->dropped += ob_record_count(stage->bytes, stage->used);
    stage->used = 0;
}
