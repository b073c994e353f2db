/* SPDX-License-Identifier: MIT
 *
 * headers.c - checks the headers of an event, joins them to one text, takes that apart again.
 *
 * Pure functions; nothing is kept. The same rules hold at the put and for rows of other writers:
 * what fails here never reaches the link, where a name twice would make the event invalid for
 * everybody.
 */
#include "headers.h"

#include "text.h"

#include <string.h>

/* ---- One header ------------------------------------------------------------------------------ */

static bool is_reserved(const char *name, size_t len)
{
    /* What outbox says itself, and the one name that CloudEvents forbids. */
    static const char *const names[] = {
        "specversion", "id",       "source",       "type",       "time",         "datacontenttype",
        "sequence",    "previous", "partitionkey", "expirytime", "recordedtime", "data",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return true;
    return false;
}

/* CloudEvents 1.0.2, naming conventions: a-z and 0-9, not more than 20. */
static bool is_header_name(const char *name, size_t len)
{
    if (len == 0 || len > OUTBOX_HEADER_NAME)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9')))
            return false;
    return true;
}

/* NULL, or a sentence that begins behind the name. */
static const char *find_fault(const struct ob_header *header)
{
    if (!is_header_name(header->name, header->name_len))
        return "is no name of a header: it has 1 to 20 of the characters a-z 0-9";
    if (is_reserved(header->name, header->name_len))
        return "is a name that outbox uses itself; choose another one";
    if (!ob_text_is_attribute(header->value, header->value_len))
        return "has a value that is empty, over 256 bytes, not UTF-8 or holds a control character";
    return NULL;
}

/* ---- The text -------------------------------------------------------------------------------- */

bool ob_headers_next(const char **at, const char *end, struct ob_header *header)
{
    const char *line = *at;
    if (line == end)
        return false;
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    *at = stop ? stop + 1 : end;
    if (!stop)
        stop = end;
    const char *equals = memchr(line, '=', (size_t)(stop - line));
    *header = (struct ob_header){.name = line, .name_len = (size_t)(stop - line), .value = stop};
    if (equals) {
        header->name_len = (size_t)(equals - line);
        header->value = equals + 1;
        header->value_len = (size_t)(stop - equals - 1);
    }
    return true;
}

size_t ob_headers_count(const char *text, size_t len)
{
    struct ob_header header;
    size_t count = 0;
    for (const char *at = text; ob_headers_next(&at, text + len, &header);)
        count++;
    return count;
}

static bool has_name(const char *text, const char *end, const struct ob_header *wanted)
{
    struct ob_header header;
    for (const char *at = text; ob_headers_next(&at, end, &header);)
        if (header.name_len == wanted->name_len &&
            memcmp(header.name, wanted->name, wanted->name_len) == 0)
            return true;
    return false;
}

bool ob_headers_are_fit(const char *text, size_t len)
{
    struct ob_header header;
    if (len > OB_HEADERS_TEXT || ob_headers_count(text, len) > OUTBOX_HEADERS_MAX)
        return false;
    for (const char *at = text; ob_headers_next(&at, text + len, &header);)
        if (find_fault(&header) || has_name(text, header.name, &header))
            return false;
    return true;
}

/* ---- Joining --------------------------------------------------------------------------------- */

static const char *add_header(char *text, size_t *len, const char *name, const char *value)
{
    const struct ob_header header = {name, value, strlen(name), value ? strlen(value) : 0};
    const char *fault = find_fault(&header);
    if (fault || !value) /* without a value there is a fault */
        return fault;
    if (has_name(text, text + *len, &header))
        return "is given twice";
    if (header.name_len + header.value_len + 2 > OB_HEADERS_TEXT - *len)
        return "makes the headers longer than 1024 bytes together";
    memcpy(text + *len, name, header.name_len);
    *len += header.name_len;
    text[(*len)++] = '=';
    memcpy(text + *len, value, header.value_len);
    *len += header.value_len;
    text[(*len)++] = '\n';
    return NULL;
}

const char *ob_headers_join(const outbox_event *event, char text[OB_HEADERS_TEXT], size_t *len,
                            const char **culprit)
{
    const outbox_header named[] = {{"correlationid", event->correlation_id},
                                   {"causationid", event->causation_id},
                                   {"traceparent", event->traceparent}};
    const size_t fixed = sizeof named / sizeof named[0];
    const char *fault = NULL;
    size_t count = 0;
    *len = 0;
    for (size_t i = 0; i < fixed + event->header_count && !fault; i++) {
        const outbox_header *header = i < fixed ? &named[i] : &event->headers[i - fixed];
        if (i < fixed && !header->value)
            continue;
        *culprit = header->name ? header->name : "NULL";
        fault = header->name ? add_header(text, len, header->name, header->value) : "is no name";
        if (!fault && ++count > OUTBOX_HEADERS_MAX)
            fault = "is one header more than the 32 that there may be";
    }
    return fault;
}
