/* SPDX-License-Identifier: MIT
 *
 * shape.h - what the values of a captured change mean. The text is described in change.h.
 */
#ifndef OB_SHAPE_H
#define OB_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

struct ob_span {
    const char *at;
    size_t len;
};

struct ob_shape {
    int count;
    bool integers_as_text;
    struct ob_span table, schema, topic, keys, identity, columns;
};

struct ob_shape_column {
    bool is_hidden, is_json;
    struct ob_span name;
};

/* False: it is none. The shape points into the text. */
bool ob_shape_read(const char *text, size_t len, struct ob_shape *shape);

/* A number at the front and the character behind it; a column's line. False where there is none. */
bool ob_shape_cut_number(struct ob_span *rest, int *number);
bool ob_shape_cut_column(struct ob_span *rest, struct ob_shape_column *column);

/* The column at a place among the values, false: there is none; the place of a name, -1: none. */
bool ob_shape_place(const struct ob_shape *shape, int place, struct ob_shape_column *column);
int ob_shape_name(const struct ob_shape *shape, const char *name, size_t len);

#endif
