/* SPDX-License-Identifier: MIT
 *
 * shape.c - reads a row of outbox_shape: what the values of a captured change mean, see change.h.
 *
 * Such a row is never changed. Whoever else has written one may have written anything: what is not
 * there is not found.
 */
#include "shape.h"

#include <sqlite3.h>
#include <string.h>

static struct ob_span cut_line(struct ob_span *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->at, '\n', rest->len) : NULL;
    struct ob_span line = {rest->at, end ? (size_t)(end - rest->at) : rest->len};
    size_t used = line.len + (end ? 1 : 0);
    rest->at += used;
    rest->len -= used;
    return line;
}

/* A number at the front and the character behind it. False where there is none. */
bool ob_shape_cut_number(struct ob_span *rest, int *number)
{
    size_t used = 0;
    *number = 0;
    while (used < rest->len && used < 6 && rest->at[used] >= '0' && rest->at[used] <= '9')
        *number = *number * 10 + (rest->at[used++] - '0');
    if (used == 0)
        return false;
    used += used < rest->len ? 1 : 0;
    rest->at += used;
    rest->len -= used;
    return true;
}

bool ob_shape_cut_column(struct ob_span *rest, struct ob_shape_column *column)
{
    struct ob_span line = cut_line(rest);
    if (line.len < 2)
        return false;
    column->is_hidden = line.at[0] == 'h';
    column->is_json = line.at[1] == 'j';
    column->name = (struct ob_span){line.at + 2, line.len - 2};
    return true;
}

bool ob_shape_read(const char *text, size_t len, struct ob_shape *shape)
{
    struct ob_span rest = {text, len}, first = cut_line(&rest);
    int version, as_text;
    if (!ob_shape_cut_number(&first, &version) || version != 1 ||
        !ob_shape_cut_number(&first, &shape->count) || !ob_shape_cut_number(&first, &as_text))
        return false;
    shape->integers_as_text = as_text != 0;
    shape->table = cut_line(&rest);
    shape->schema = cut_line(&rest);
    shape->topic = cut_line(&rest);
    shape->keys = cut_line(&rest);
    shape->identity = cut_line(&rest);
    shape->columns = rest;
    return shape->table.len > 0 && shape->topic.len > 0;
}

/* The column at a place among the values. */
bool ob_shape_place(const struct ob_shape *shape, int place, struct ob_shape_column *column)
{
    struct ob_span rest = shape->columns;
    for (int i = 0; i <= place && i < shape->count; i++)
        if (!ob_shape_cut_column(&rest, column))
            return false;
    return place < shape->count;
}

/* The place of a name; -1 where there is none. */
int ob_shape_name(const struct ob_shape *shape, const char *name, size_t len)
{
    struct ob_span rest = shape->columns;
    struct ob_shape_column column = {0};
    for (int i = 0; i < shape->count && ob_shape_cut_column(&rest, &column); i++)
        if (column.name.len == len && sqlite3_strnicmp(column.name.at, name, (int)len) == 0)
            return i;
    return -1;
}
