/* SPDX-License-Identifier: MIT
 *
 * inbox_rule.h - what an inbox remembers of a stream, and what it says of the next event.
 */
#ifndef OB_INBOX_RULE_H
#define OB_INBOX_RULE_H

#include <outbox/inbox.h>
#include <stdbool.h>

#define OB_STREAM_EPOCH_MAX 32 /* bytes of an epoch */

struct ob_range {
    int64_t from, to;
};

/* All that is stored, but for the name. */
struct ob_stream {
    bool exists; /* an event of it was applied */
    char epoch[OB_STREAM_EPOCH_MAX + 1];
    int64_t mark; /* 0 while no event had a number */
    int64_t applied, passed_over, forgone, announced, lost, epochs;
    char retired[INBOX_RETIRED][OB_STREAM_EPOCH_MAX + 1]; /* the newest comes first */
    int retired_count;
    struct ob_range late[INBOX_LATE]; /* passed over: ascending, all below the mark */
    int late_count;
};

/* What counts of an event. */
struct ob_arrival {
    char epoch[OB_STREAM_EPOCH_MAX + 1]; /* empty: the sender has none */
    bool has_sequence, has_previous;
    int64_t sequence, previous;
    bool is_last_id; /* of a sender without numbers: the id is that of the last one */
    inbox_drops drops;
};

/* Judges, and if the event is to be applied brings the stream up to date. `skip`: a gap does not
 * count. */
void ob_inbox_judge(struct ob_stream *stream, const struct ob_arrival *arrival, bool skip,
                    inbox_result *result);

#endif
