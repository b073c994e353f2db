/* SPDX-License-Identifier: MIT
 *
 * record.c - writes fire-and-forget events as bytes, and reads them as rows.
 *
 * All of it is memory: after a crash these events are gone, as they were promised to be.
 */
#include "record.h"

#include <assert.h>
#include <string.h>

enum part { TOPIC, PAYLOAD, TYPE, CONTENT_TYPE, KEY, HEADERS, PARTS };

struct head {
    uint32_t size; /* of all, this included */
    int32_t level;
    int64_t created, expires;
    uint32_t len[PARTS];
    uint8_t storage[PARTS];
    uint8_t retain;
};

static const struct ob_value *part_of(const struct ob_row *row, enum part part)
{
    const struct ob_value *const parts[PARTS] = {&row->topic,        &row->payload, &row->type,
                                                 &row->content_type, &row->key,     &row->headers};
    return parts[part];
}

size_t ob_record_size(const struct ob_row *row)
{
    size_t size = sizeof(struct head);
    for (int i = 0; i < PARTS; i++)
        size += part_of(row, (enum part)i)->len;
    return size;
}

void ob_record_write(char *to, const struct ob_row *row, int level)
{
    struct head head;
    memset(&head, 0, sizeof head);
    head.size = (uint32_t)ob_record_size(row);
    head.level = level;
    head.created = row->created;
    head.expires = row->expires;
    head.retain = row->retain != 0;
    char *at = to + sizeof head;
    for (int i = 0; i < PARTS; i++) {
        const struct ob_value *part = part_of(row, (enum part)i);
        head.len[i] = (uint32_t)part->len;
        head.storage[i] = (uint8_t)part->storage;
        if (part->len > 0)
            memcpy(at, part->bytes, part->len);
        at += part->len;
    }
    memcpy(to, &head, sizeof head); /* records begin anywhere */
}

static bool read_head(const char *at, size_t len, struct head *head)
{
    if (len < sizeof *head)
        return false;
    memcpy(head, at, sizeof *head);
    return head->size >= sizeof *head && head->size <= len;
}

size_t ob_record_read(const char *at, size_t len, struct ob_row *row)
{
    struct head head;
    memset(row, 0, sizeof *row);
    if (!read_head(at, len, &head))
        return 0;
    struct ob_value *const parts[PARTS] = {&row->topic,        &row->payload, &row->type,
                                           &row->content_type, &row->key,     &row->headers};
    const char *bytes = at + sizeof head;
    for (int i = 0; i < PARTS; i++) {
        *parts[i] = (struct ob_value){head.storage[i], bytes, head.len[i]};
        bytes += head.len[i];
    }
    assert(bytes == at + head.size);
    row->created = head.created;
    row->has_created = 1;
    row->expires = head.expires;
    row->retain = head.retain;
    return head.size;
}

size_t ob_record_head(const char *at, size_t len, int *level)
{
    struct head head;
    if (!read_head(at, len, &head))
        return 0;
    *level = head.level;
    return head.size;
}

void ob_record_set_level(char *at, int level)
{
    struct head head;
    memcpy(&head, at, sizeof head);
    head.level = level;
    memcpy(at, &head, sizeof head);
}

unsigned ob_record_count(const char *at, size_t len)
{
    unsigned count = 0;
    size_t size;
    int level;
    while ((size = ob_record_head(at, len, &level)) > 0) {
        count++;
        at += size;
        len -= size;
    }
    return count;
}
