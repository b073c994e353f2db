/* SPDX-License-Identifier: MIT
 *
 * refusal.c - events that the broker does not want: which are tried again, which become dead
 * letters.
 *
 * A refusal ends the connection, so that nothing behind the refused event is settled and its
 * `previous` is written anew. An event that is to be a dead letter is only noted here; it leaves
 * the table when it is read again and settled, with its reason, in one transaction. All of it is
 * memory: after a crash the event is sent once more, and refused once more.
 *
 * A broker that hangs up looks like a bad network. What tells them apart is that it hangs up on one
 * event and on nothing else. So the event is sent alone, on a connection that has shown for ten
 * times as long that it holds. Where the other side ends connections at random, whatever the rate,
 * that happens by chance with a probability under 0.04, and five times in a row in less than one of
 * ten million cases.
 */
#include "machine.h"

#include <assert.h>

enum {
    PATIENCE = 8,           /* refusals of an event that may be allowed one day */
    HANGUPS_SUSPICIOUS = 2, /* connections in a row */
    HANGUPS_DEADLY = 5,
    PROOF_MS = 1000,        /* a connection must hold for so long before a suspect is sent */
    PROOF_ROUND_TRIPS = 20, /* and for so many round trips */
    PROOF_FACTOR = 10,      /* and so many times longer than the other side then takes to hang up */
    TRIAL_ATTEMPTS = 2,     /* pauses of up to four times the shortest */
    REASON_HUNG_UP = 0
};

/* ---- What a reason code means ---------------------------------------------------------------- */

enum answer { TRY_AGAIN, TRY_SOME_TIMES, BURY, CONNECT_ANEW };

static enum answer answer_to(int reason)
{
    static const struct {
        int reason;
        enum answer answer;
    } answers[] = {
        {0x80, TRY_AGAIN},      /* unspecified error */
        {0x83, TRY_AGAIN},      /* implementation specific error */
        {0x87, TRY_SOME_TIMES}, /* not authorized */
        {0x90, BURY},           /* topic name invalid */
        {0x91, CONNECT_ANEW},   /* packet identifier in use */
        {0x95, BURY},           /* packet too large */
        {0x97, TRY_AGAIN},      /* quota exceeded */
        {0x99, BURY},           /* payload format invalid */
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (answers[i].reason == reason)
            return answers[i].answer;
    return TRY_AGAIN;
}

/* ---- Dead letters ---------------------------------------------------------------------------- */

/* So many in a row for one reason, and no end: it is not the events, and burying them helps
 * nobody. */
static bool has_stopped(const outbox_forwarder *f, const struct ob_refusal *refusal, int reason)
{
    return f->config.dead_letters_max != OUTBOX_NEVER && refusal->run_reason == reason &&
           refusal->dead_run >= f->config.dead_letters_max;
}

static void count_dead(struct ob_refusal *refusal, int reason)
{
    refusal->dead_run = refusal->run_reason == reason ? refusal->dead_run + 1 : 1;
    refusal->run_reason = reason;
}

static void bury(outbox_forwarder *f, struct ob_lane *lane, int64_t id, enum ob_unfit why,
                 int reason)
{
    char sentence[160];
    struct ob_refusal *refusal = &lane->refusal;
    refusal->dead_id = id;
    refusal->dead_why = why;
    refusal->dead_reason = reason;
    count_dead(refusal, reason);
    sqlite3_snprintf((int)sizeof sentence, sentence,
                     "%s event %lld becomes a dead letter (reason 0x%02x); it is in outbox_dead",
                     ob_lane_name(lane->number), (long long)id, (unsigned)reason);
    ob_machine_say(f, OUTBOX_LOG_WARNING, OUTBOX_REFUSED, sentence);
    ob_refusal_passed(f, lane);
}

/* ---- Holding --------------------------------------------------------------------------------- */

static void hold(outbox_forwarder *f, struct ob_lane *lane, int64_t id, int reason)
{
    struct ob_refusal *refusal = &lane->refusal;
    refusal->alone_id = id;
    refusal->is_suspect = false;
    refusal->reason = reason;
    refusal->not_before = f->now + ob_machine_pause_length(f, refusal->times - 1);
    ob_machine_trouble(f, OUTBOX_REFUSED, "%s", refusal->error.sentence);
}

static const char *stops(const outbox_forwarder *f, const struct ob_refusal *refusal, int reason)
{
    return has_stopped(f, refusal, reason)
               ? "as it did those before it, so the lane stops; those behind it wait"
               : "those behind it wait";
}

void ob_refusal_of(outbox_forwarder *f, struct ob_lane *lane, int64_t id, int reason)
{
    struct ob_refusal *refusal = &lane->refusal;
    enum answer answer = answer_to(reason);
    f->stats.refusals++;
    f->hangups = 0; /* it answers */
    if (answer == CONNECT_ANEW) {
        ob_machine_trouble(f, OUTBOX_LINK, "the broker takes a packet identifier for one in use");
        ob_machine_back_off(f);
        return;
    }
    refusal->times = refusal->alone_id == id && !refusal->is_suspect ? refusal->times + 1 : 1;
    bool may_bury = answer == BURY || (answer == TRY_SOME_TIMES && refusal->times >= PATIENCE);
    if (may_bury && !has_stopped(f, refusal, reason)) {
        bury(f, lane, id, OB_UNFIT_REFUSED, reason);
    } else {
        ob_error_set(&refusal->error, OUTBOX_REFUSED,
                     "the broker refuses %s event %lld (reason 0x%02x%s); %s",
                     ob_lane_name(lane->number), (long long)id, (unsigned)reason,
                     reason == OB_REASON_TOO_LARGE ? ": beyond what it accepts" : "",
                     stops(f, refusal, reason));
        hold(f, lane, id, reason);
    }
    ob_machine_back_off(f);
}

bool ob_refusal_of_large(outbox_forwarder *f, struct ob_lane *lane, int64_t id)
{
    char sentence[200];
    struct ob_refusal *refusal = &lane->refusal;
    if (f->config.dead_letters_max != OUTBOX_NEVER && id != refusal->large_id &&
        refusal->large_run >= f->config.dead_letters_max)
        return false;
    if (id == refusal->large_id)
        return true; /* read again before it was settled */
    refusal->large_run++;
    refusal->large_id = id;
    sqlite3_snprintf(
        (int)sizeof sentence, sentence,
        "%s event %lld is over the forwarder's payload_max of %lld or its buffer_size; "
        "it becomes a dead letter",
        ob_lane_name(lane->number), (long long)id, (long long)f->config.payload_max);
    ob_machine_say(f, OUTBOX_LOG_WARNING, OUTBOX_TOO_LARGE, sentence);
    return true;
}

void ob_refusal_hold_large(outbox_forwarder *f, struct ob_lane *lane, int64_t id)
{
    struct ob_refusal *refusal = &lane->refusal;
    f->stats.refusals++;
    refusal->times = refusal->alone_id == id ? refusal->times + 1 : 1;
    ob_error_set(&refusal->error, OUTBOX_REFUSED,
                 "%s event %lld is over this forwarder's own payload_max of %lld or its "
                 "buffer_size, as were those before it, so the lane stops; raise the limit",
                 ob_lane_name(lane->number), (long long)id, (long long)f->config.payload_max);
    hold(f, lane, id, OB_REASON_TOO_LARGE);
    ob_machine_back_off(f);
}

/* ---- Brokers that hang up -------------------------------------------------------------------- */

static bool has_suspect(const struct ob_lane *lane)
{
    return lane->refusal.alone_id && lane->refusal.is_suspect;
}

static struct ob_lane *suspect_lane(outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (has_suspect(&f->lane[i]))
            return &f->lane[i];
    return NULL;
}

/* Whoever hangs up with bytes unread takes the PUBACKs of the events ahead of the poison along.
 * Each of those would need a trial of its own, if all of them were sent at once again behind the
 * first. */
static void become_careful(outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const struct ob_window *window = &f->lane[i].window;
        const struct ob_entry *last = window->in_flight > 0 ? ob_window_ahead(window) : NULL;
        if (last && last->id > f->lane[i].refusal.careful_id)
            f->lane[i].refusal.careful_id = last->id;
    }
}

bool ob_refusal_is_careful(const outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (f->lane[i].refusal.careful_id > ob_machine_head(f, &f->lane[i])->id)
            return true;
    return false;
}

/* The other side has ended connections on something, and nobody knows on what. */
static void suspect_the_oldest(outbox_forwarder *f)
{
    struct ob_lane *lane = NULL;
    const struct ob_entry *oldest = NULL;
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const struct ob_entry *entry = ob_window_oldest_in_flight(&f->lane[i].window);
        if (f->lane[i].refusal.alone_id)
            return; /* one at a time */
        if (!entry || (oldest && oldest->sent_ms <= entry->sent_ms))
            continue;
        oldest = entry;
        lane = &f->lane[i];
    }
    if (!oldest || oldest->id <= ob_machine_head(f, lane)->id)
        return;
    lane->refusal.alone_id = oldest->id;
    lane->refusal.is_suspect = true;
    lane->refusal.reason = REASON_HUNG_UP;
    lane->refusal.times = 0;
    lane->refusal.not_before = f->now;
    f->is_hushed = false;
    f->hangups = 0;
    ob_error_set(&lane->refusal.error, OUTBOX_REFUSED,
                 "the broker has hung up twice with %s event %lld in flight; it is sent alone now",
                 ob_lane_name(lane->number), (long long)oldest->id);
}

/* It is alone then. */
static bool is_in_flight(const struct ob_lane *suspect)
{
    const struct ob_entry *sent = ob_window_oldest_in_flight(&suspect->window);
    return sent && sent->id == suspect->refusal.alone_id;
}

/* Whether the other side hung up on the suspect, and on nothing else. */
static bool is_proof(const outbox_forwarder *f, const struct ob_lane *lane, bool by_peer)
{
    const struct ob_entry *sent = ob_window_oldest_in_flight(&lane->window);
    if (!by_peer || !is_in_flight(lane))
        return false;
    uint64_t held = sent->sent_ms - f->since, lasted = f->now - sent->sent_ms;
    return lasted * PROOF_FACTOR <= held;
}

/* The other lane goes on during the trial. If it has an event, too, on which the broker hangs up,
 * no connection would hold for long enough; so where the other side ended one with such events in
 * flight, the other lane waits during the next, and for as long as that brings proof. */
static void weigh(outbox_forwarder *f, struct ob_lane *lane, bool by_peer)
{
    struct ob_refusal *refusal = &lane->refusal;
    bool proof = is_proof(f, lane, by_peer);
    if (!proof)
        f->is_hushed = !f->is_hushed && by_peer && ob_machine_in_flight(f) > lane->window.in_flight;
    refusal->times = proof ? refusal->times + 1 : 0;
    if (refusal->times < HANGUPS_DEADLY)
        return;
    if (!has_stopped(f, refusal, REASON_HUNG_UP)) {
        bury(f, lane, refusal->alone_id, OB_UNFIT_HUNG_UP, REASON_HUNG_UP);
        f->hangups = 0;
        return;
    }
    ob_error_set(&refusal->error, OUTBOX_REFUSED,
                 "the broker hangs up on %s event %lld, as it did on those before it, so the lane "
                 "stops; those behind it wait",
                 ob_lane_name(lane->number), (long long)refusal->alone_id);
    refusal->times = 0;
}

void ob_refusal_after_loss(outbox_forwarder *f, bool by_peer)
{
    assert(f->state == OB_ONLINE);
    struct ob_lane *lane = suspect_lane(f);
    if (lane) {
        bool was_tried = is_in_flight(lane);
        weigh(f, lane, by_peer);
        if (was_tried && f->attempts > TRIAL_ATTEMPTS)
            f->attempts = TRIAL_ATTEMPTS; /* the connection held: no long pauses during the trial */
        return;
    }
    bool suspicious = by_peer && !f->acked_one && ob_machine_in_flight(f) > 0;
    f->hangups = suspicious ? f->hangups + 1 : 0;
    if (f->hangups < HANGUPS_SUSPICIOUS)
        return;
    become_careful(f);
    suspect_the_oldest(f);
}

/* ---- The proof that a connection holds ------------------------------------------------------- */

void ob_refusal_opened(outbox_forwarder *f)
{
    f->acked_one = false;
    f->probed_at = f->round_trip = 0;
    f->signs_of_life = 0;
}

void ob_refusal_alive(outbox_forwarder *f)
{
    if (f->probed_at == 0)
        return;
    f->round_trip = f->now - f->probed_at;
    f->probed_at = 0;
    f->signs_of_life++;
}

/* When the last probe is due. */
static uint64_t proven_at(const outbox_forwarder *f)
{
    uint64_t round_trips = f->round_trip * PROOF_ROUND_TRIPS;
    return f->since + (round_trips > PROOF_MS ? round_trips : PROOF_MS);
}

bool ob_refusal_may_go(const outbox_forwarder *f, const struct ob_lane *lane, int64_t id)
{
    const struct ob_refusal *refusal = &lane->refusal;
    if (id != refusal->alone_id)
        return true; /* one ahead of it */
    return ob_machine_has_come(f, refusal->not_before) &&
           (!refusal->is_suspect || f->signs_of_life >= 2);
}

bool ob_refusal_has_turn(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t token;
    const struct ob_refusal *refusal = &lane->refusal;
    const struct ob_entry *entry = refusal->alone_id ? ob_window_next(&lane->window, &token) : NULL;
    if (has_suspect(lane) && f->is_hushed && (entry || lane->more) && ob_rest_allows(f, lane))
        return true;
    if (!entry || !ob_rest_allows(f, lane))
        return false;
    if (entry->id == refusal->alone_id && refusal->is_suspect)
        return f->signs_of_life >= 2 ||
               (f->signs_of_life == 1 && ob_machine_has_come(f, proven_at(f)));
    return ob_refusal_may_go(f, lane, entry->id);
}

/* The first one measures the round trip, the second comes right before the suspect. */
void ob_refusal_probe(outbox_forwarder *f)
{
    if (!suspect_lane(f) || f->signs_of_life >= 2)
        return;
    if (f->probed_at > 0) {
        if (ob_machine_has_come(f, f->probed_at + f->config.ack_timeout_ms)) {
            ob_machine_trouble(f, OUTBOX_LINK, "no sign of life in %u ms; connecting anew",
                               f->config.ack_timeout_ms);
            ob_refusal_after_loss(f, false);
            ob_machine_back_off(f);
        }
        return;
    }
    bool is_due = f->signs_of_life == 0 ||
                  (ob_machine_has_come(f, proven_at(f)) && ob_machine_in_flight(f) == 0);
    if (is_due && f->link->methods->probe(f->link) == OUTBOX_LINK_OK)
        f->probed_at = f->now;
}

void ob_refusal_next(const outbox_forwarder *f, uint32_t *next_ms)
{
    const uint64_t retry_ms = 5; /* the link had no room */
    bool any = has_suspect(&f->lane[OUTBOX_NORMAL]) || has_suspect(&f->lane[OUTBOX_URGENT]);
    if (!any || f->signs_of_life >= 2)
        return;
    if (f->probed_at > 0)
        ob_machine_sooner(f, f->probed_at + f->config.ack_timeout_ms, next_ms);
    else if (f->signs_of_life > 0 && !ob_machine_has_come(f, proven_at(f)))
        ob_machine_sooner(f, proven_at(f), next_ms);
    else if (f->signs_of_life == 0 || ob_machine_in_flight(f) == 0)
        ob_machine_sooner(f, f->now + retry_ms, next_ms); /* else the last ack wakes */
}

/* ---- The end of it --------------------------------------------------------------------------- */

void ob_refusal_passed(outbox_forwarder *f, struct ob_lane *lane)
{
    struct ob_refusal *refusal = &lane->refusal;
    refusal->alone_id = 0;
    refusal->reason = 0;
    refusal->times = 0;
    refusal->is_suspect = false;
    if (!f->store_is_in_trouble)
        ob_machine_clear_trouble(f);
}

void ob_refusal_acked(outbox_forwarder *f, struct ob_lane *lane, int64_t id)
{
    lane->refusal.dead_run = 0;
    if (id >= lane->refusal.careful_id)
        lane->refusal.careful_id = 0;
    if (lane->refusal.alone_id && id >= lane->refusal.alone_id)
        ob_refusal_passed(f, lane);
}
