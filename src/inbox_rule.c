/* SPDX-License-Identifier: MIT
 *
 * inbox_rule.c - the rule of inbox.h, as a pure function over one stream.
 *
 * First the situation is found, then a table says what is made of it. Nothing is kept here: what
 * the stream has become is stored by the caller, in the recipient's transaction, so a crash leaves
 * the stream and what was applied together or neither.
 */
#include "inbox_rule.h"

#include <assert.h>
#include <string.h>

enum situation {
    FIRST_CONTACT,
    FOLLOWS,      /* without gap */
    BEHIND_GAP,   /* of the current epoch */
    WAS_APPLIED,  /* before; it has a number */
    WAS_PASSED,   /* it was passed over, or is so old that nobody knows */
    BEGINS_EPOCH, /* the first one of an epoch not seen yet */
    AMID_EPOCH,   /* of such an epoch, but not the first one */
    IS_RETIRED,   /* of a retired epoch */
    HAS_NO_NUMBER,
    HAS_LAST_ID, /* has none, and was applied last */
    SITUATIONS
};

static const struct {
    inbox_verdict verdict, skipping; /* `skipping`: where a gap does not count */
} verdicts[SITUATIONS] = {
    [FIRST_CONTACT] = {INBOX_NEW_EPOCH, INBOX_NEW_EPOCH},
    [FOLLOWS] = {INBOX_NEW, INBOX_NEW},
    [BEHIND_GAP] = {INBOX_GAP, INBOX_NEW},
    [WAS_APPLIED] = {INBOX_DUPLICATE, INBOX_DUPLICATE},
    [WAS_PASSED] = {INBOX_STALE, INBOX_STALE},
    [BEGINS_EPOCH] = {INBOX_NEW_EPOCH, INBOX_NEW_EPOCH},
    [AMID_EPOCH] = {INBOX_GAP, INBOX_NEW_EPOCH},
    [IS_RETIRED] = {INBOX_STALE, INBOX_STALE},
    [HAS_NO_NUMBER] = {INBOX_NEW, INBOX_NEW},
    [HAS_LAST_ID] = {INBOX_DUPLICATE, INBOX_DUPLICATE},
};

/* ---- What was passed over -------------------------------------------------------------------- */

static void pass_over(struct ob_stream *stream, int64_t from, int64_t to)
{
    if (from > to)
        return;
    if (stream->late_count == INBOX_LATE) {
        stream->late_count--;
        memmove(stream->late, stream->late + 1, sizeof stream->late[0] * (INBOX_LATE - 1));
    }
    stream->late[stream->late_count++] = (struct ob_range){from, to};
}

/* Where all places are taken, what lies below them is not known any more. */
static bool was_passed_over(const struct ob_stream *stream, int64_t sequence)
{
    for (int i = 0; i < stream->late_count; i++)
        if (sequence >= stream->late[i].from && sequence <= stream->late[i].to)
            return true;
    return stream->late_count == INBOX_LATE && sequence < stream->late[0].from;
}

static int64_t count_passed_over(const struct ob_stream *stream, int64_t from, int64_t to)
{
    int64_t count = 0;
    for (int i = 0; i < stream->late_count; i++) {
        const struct ob_range *late = &stream->late[i];
        int64_t first = late->from > from ? late->from : from;
        int64_t last = late->to < to ? late->to : to;
        count += first <= last ? last - first + 1 : 0;
    }
    return count;
}

/* ---- The situation --------------------------------------------------------------------------- */

static bool is_announcement(const inbox_drops *drops)
{
    return drops->count > 0 && drops->from > 0 && drops->to >= drops->from &&
           drops->count <= drops->to - drops->from + 1;
}

/* Every number up to `previous` was dropped, says the sender itself. */
static bool closes_gap(const struct ob_stream *stream, const struct ob_arrival *arrival)
{
    const inbox_drops *drops = &arrival->drops;
    return is_announcement(drops) && drops->count == drops->to - drops->from + 1 &&
           drops->from <= stream->mark + 1 && drops->to >= arrival->previous;
}

static bool is_retired(const struct ob_stream *stream, const char *epoch)
{
    for (int i = 0; i < stream->retired_count; i++)
        if (strcmp(stream->retired[i], epoch) == 0)
            return true;
    return false;
}

static enum situation find_situation(const struct ob_stream *stream,
                                     const struct ob_arrival *arrival)
{
    if (!stream->exists)
        return FIRST_CONTACT;
    if (!arrival->has_sequence)
        return arrival->is_last_id ? HAS_LAST_ID : HAS_NO_NUMBER;
    if (strcmp(arrival->epoch, stream->epoch) != 0) {
        if (is_retired(stream, arrival->epoch))
            return IS_RETIRED;
        return arrival->has_previous && arrival->previous > 0 ? AMID_EPOCH : BEGINS_EPOCH;
    }
    if (arrival->sequence <= stream->mark)
        return was_passed_over(stream, arrival->sequence) ? WAS_PASSED : WAS_APPLIED;
    if (!arrival->has_previous || arrival->previous <= stream->mark || closes_gap(stream, arrival))
        return FOLLOWS;
    return BEHIND_GAP;
}

/* ---- Going on -------------------------------------------------------------------------------- */

/* Senders may send what they like: no count runs over. */
static void add_count(int64_t *count, int64_t more)
{
    assert(more >= 0);
    *count = more > INT64_MAX - *count ? INT64_MAX : *count + more;
}

static void begin_epoch(struct ob_stream *stream, const char *epoch)
{
    memmove(stream->retired + 1, stream->retired, sizeof stream->retired[0] * (INBOX_RETIRED - 1));
    memcpy(stream->retired[0], stream->epoch, sizeof stream->retired[0]);
    if (stream->retired_count < INBOX_RETIRED)
        stream->retired_count++;
    memcpy(stream->epoch, epoch, sizeof stream->epoch);
    add_count(&stream->epochs, 1);
}

/* From the mark to the event, over what is missing, if something is. Where a new epoch gives out
 * the same numbers once more, nothing that is known of them holds for these. */
static void move_mark(struct ob_stream *stream, const struct ob_arrival *arrival,
                      inbox_result *result)
{
    int64_t behind = stream->mark < arrival->sequence ? stream->mark : 0;
    int64_t sent_up_to = behind;
    bool begin_anew = behind == 0 && stream->mark > 0;
    if (begin_anew)
        stream->late_count = 0;
    if (!begin_anew || result->missing_to > 0)
        pass_over(stream, behind + 1, arrival->sequence - 1);
    if (result->missing_to > behind) {
        sent_up_to = result->missing_to;
        add_count(&stream->forgone, sent_up_to - behind);
    }
    /* Ahead of the first number that is seen there may never have been anything. */
    if (behind > 0 || result->missing_to > 0)
        result->passed_over = arrival->sequence - sent_up_to - 1;
    add_count(&stream->passed_over, result->passed_over);
    stream->mark = arrival->sequence;
}

static void take_announcement(struct ob_stream *stream, const inbox_drops *drops,
                              inbox_result *result)
{
    if (!is_announcement(drops))
        return;
    int64_t lost = count_passed_over(stream, drops->from, drops->to);
    result->lost = lost < drops->count ? lost : drops->count;
    add_count(&stream->announced, drops->count);
    add_count(&stream->lost, result->lost);
}

static void apply(struct ob_stream *stream, const struct ob_arrival *arrival,
                  enum situation situation, inbox_result *result)
{
    if (situation == FIRST_CONTACT) {
        stream->exists = true;
        memcpy(stream->epoch, arrival->epoch, sizeof stream->epoch);
        result->first_contact = 1;
        result->before = arrival->has_previous ? arrival->previous : 0;
    }
    if (situation == BEGINS_EPOCH || situation == AMID_EPOCH)
        begin_epoch(stream, arrival->epoch);
    if (arrival->has_sequence)
        move_mark(stream, arrival, result);
    take_announcement(stream, &arrival->drops, result);
    add_count(&stream->applied, 1);
}

void ob_inbox_judge(struct ob_stream *stream, const struct ob_arrival *arrival, bool skip,
                    inbox_result *result)
{
    enum situation situation = find_situation(stream, arrival);
    memset(result, 0, sizeof *result);
    result->verdict = skip ? verdicts[situation].skipping : verdicts[situation].verdict;
    result->apply = result->verdict == INBOX_NEW || result->verdict == INBOX_NEW_EPOCH;
    result->unproven = !arrival->has_sequence || !arrival->has_previous;
    if (situation == BEHIND_GAP || situation == AMID_EPOCH) {
        result->missing_from = situation == BEHIND_GAP ? stream->mark + 1 : 1;
        result->missing_to = arrival->previous;
    }
    if (result->apply)
        apply(stream, arrival, situation, result);
    result->mark = stream->mark;
}
