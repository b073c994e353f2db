/* SPDX-License-Identifier: MIT
 *
 * test_paho_queue.c - what Paho's threads may leave behind, and when it counts no more.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>

#include "paho_queue.h"

#define WINDOW 4u

static const outbox_paho_limits limits = {.receive_maximum = 7, .maximum_packet = 9};

typedef struct fixture {
    outbox_paho_queue *queue;
    void *connection; /* ticket */
    unsigned wakes;
} fixture;

static void count_wake(void *context)
{
    ((fixture *)context)->wakes++;
}

static int set_up(void **state)
{
    static fixture f;
    f = (fixture){.queue = outbox_paho_queue_new(WINDOW, count_wake, &f)};
    f.connection = f.queue != NULL ? outbox_paho_queue_begin(f.queue) : NULL;
    *state = &f;
    return f.queue == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    outbox_paho_queue_free(((fixture *)*state)->queue);
    return 0;
}

static void *reserve(fixture *f, uint32_t token)
{
    void *ticket = NULL;
    assert_int_equal(outbox_paho_queue_reserve(f->queue, token, 10, WINDOW, &ticket),
                     OUTBOX_LINK_OK);
    return ticket;
}

static void expect_nothing(fixture *f)
{
    outbox_paho_event event;
    assert_int_equal(outbox_paho_queue_take(f->queue, &event), 0);
}

static outbox_paho_event expect(fixture *f, outbox_link_event_kind kind)
{
    outbox_paho_event event;
    assert_int_equal(outbox_paho_queue_take(f->queue, &event), 1);
    assert_int_equal(event.kind, kind);
    return event;
}

static void expect_acked(fixture *f, uint32_t token, int reason)
{
    outbox_paho_event event = expect(f, OUTBOX_LINK_ACKED);
    assert_int_equal(event.token, token);
    assert_int_equal(event.reason, reason);
}

static void *reserve_probe(fixture *f)
{
    void *ticket = NULL;
    assert_int_equal(outbox_paho_queue_probe(f->queue, &ticket), OUTBOX_LINK_OK);
    return ticket;
}

static void end(void *ticket)
{
    outbox_paho_queue_ended(ticket, OUTBOX_PAHO_LOST, 0, NULL);
}

static void test_events_come_as_opened_then_acked_then_closed(void **state)
{
    fixture *f = *state;
    void *first = reserve(f, 10), *second = reserve(f, 20);
    outbox_paho_queue_opened(f->connection, &limits);
    outbox_paho_queue_acked(second, 0);
    outbox_paho_queue_acked(first, 0x87);
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_DISMISSED, 0x8b, "text");
    outbox_paho_event event = expect(f, OUTBOX_LINK_OPENED);
    assert_int_equal(event.limits.receive_maximum, 7);
    assert_int_equal(event.limits.maximum_packet, 9);
    expect_acked(f, 20, 0);
    expect_acked(f, 10, 0x87);
    event = expect(f, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.end, OUTBOX_PAHO_DISMISSED);
    assert_int_equal(event.reason, 0x8b);
    assert_string_equal(event.text, "text");
    expect_nothing(f);
}

static void test_each_event_wakes_once_and_a_void_one_never(void **state)
{
    fixture *f = *state;
    void *ticket = reserve(f, 1);
    outbox_paho_queue_opened(f->connection, &limits);
    outbox_paho_queue_opened(f->connection, &limits);
    assert_int_equal(f->wakes, 1);
    outbox_paho_queue_acked(ticket, 0);
    outbox_paho_queue_acked(ticket, 0);
    assert_int_equal(f->wakes, 2);
    end(f->connection);
    end(f->connection);
    assert_int_equal(f->wakes, 3);
}

static void test_the_first_end_counts(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_REFUSED, 0x86, NULL);
    end(f->connection);
    outbox_paho_event event = expect(f, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.end, OUTBOX_PAHO_REFUSED);
    expect_nothing(f);
    end(f->connection);
    expect_nothing(f);
}

static void test_a_publish_that_failed_ends_the_connection(void **state)
{
    fixture *f = *state;
    end(reserve(f, 1));
    assert_int_equal(expect(f, OUTBOX_LINK_CLOSED).end, OUTBOX_PAHO_LOST);
}

static void test_nothing_is_acked_or_opened_after_the_end(void **state)
{
    fixture *f = *state;
    void *ticket = reserve(f, 1);
    end(f->connection);
    outbox_paho_queue_acked(ticket, 0);
    outbox_paho_queue_opened(f->connection, &limits);
    (void)expect(f, OUTBOX_LINK_CLOSED);
    expect_nothing(f);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 2, 10, WINDOW, &ticket), OUTBOX_LINK_DOWN);
}

static void test_a_publish_is_acked_once_however_often_it_is_called_so(void **state)
{
    fixture *f = *state;
    void *ticket = reserve(f, 1);
    outbox_paho_queue_acked(ticket, 0);
    outbox_paho_queue_acked(ticket, 0x87);
    expect_acked(f, 1, 0);
    outbox_paho_queue_acked(ticket, 0);
    expect_nothing(f);
}

static void test_the_tickets_of_an_old_connection_find_nothing(void **state)
{
    fixture *f = *state;
    void *old_publish = reserve(f, 1), *old_connection = f->connection;
    outbox_paho_queue_acked(reserve(f, 2), 0);
    end(f->connection);
    f->connection = outbox_paho_queue_begin(f->queue);
    expect_nothing(f);
    unsigned wakes = f->wakes;
    void *ticket = reserve(f, 3); /* takes the place that the first had */
    outbox_paho_queue_acked(old_publish, 0);
    outbox_paho_queue_opened(old_connection, &limits);
    outbox_paho_queue_note(old_connection, "note", 4);
    end(old_connection);
    end(old_publish);
    expect_nothing(f);
    assert_int_equal(f->wakes, wakes);
    outbox_paho_queue_acked(ticket, 0);
    expect_acked(f, 3, 0);
}

static void test_the_tickets_of_a_freed_queue_find_nothing(void **state)
{
    fixture *f = *state;
    void *old_publish = reserve(f, 1), *old_connection = f->connection;
    outbox_paho_queue_free(f->queue);
    end(old_connection);
    f->queue = outbox_paho_queue_new(WINDOW, count_wake, f); /* in the same place */
    f->connection = outbox_paho_queue_begin(f->queue);
    void *ticket = reserve(f, 2);
    outbox_paho_queue_acked(old_publish, 0);
    end(old_connection);
    expect_nothing(f);
    outbox_paho_queue_acked(ticket, 0);
    expect_acked(f, 2, 0);
}

static void test_the_window_bounds_what_is_in_flight(void **state)
{
    fixture *f = *state;
    void *ticket, *first = reserve(f, 0);
    for (uint32_t i = 1; i < WINDOW; i++)
        (void)reserve(f, i);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 9, 1, WINDOW, &ticket), OUTBOX_LINK_AGAIN);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 9, 1, 1000, &ticket), OUTBOX_LINK_AGAIN);
    outbox_paho_queue_acked(first, 0);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 9, 1, WINDOW, &ticket), OUTBOX_LINK_AGAIN);
    expect_acked(f, 0, 0);
    (void)reserve(f, 9);
}

static void test_a_smaller_window_of_the_server_holds_too(void **state)
{
    fixture *f = *state;
    void *ticket;
    (void)reserve(f, 1);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 2, 1, 1, &ticket), OUTBOX_LINK_AGAIN);
}

static void test_bytes_in_flight_are_bounded_but_for_a_single_publish(void **state)
{
    fixture *f = *state;
    void *ticket;
    const size_t most = OUTBOX_PAHO_BYTES_MAX;
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 1, most, WINDOW, &ticket), OUTBOX_LINK_OK);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 2, 1, WINDOW, &ticket), OUTBOX_LINK_AGAIN);
    outbox_paho_queue_acked(ticket, 0);
    expect_acked(f, 1, 0);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 3, 9 * most, WINDOW, &ticket),
                     OUTBOX_LINK_OK);
    outbox_paho_queue_cancel(f->queue, ticket);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 4, most - 1, WINDOW, &ticket),
                     OUTBOX_LINK_OK);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 5, 1, WINDOW, &ticket), OUTBOX_LINK_OK);
}

static void test_a_ticket_that_was_taken_back_acks_nothing(void **state)
{
    fixture *f = *state;
    void *ticket = reserve(f, 1);
    outbox_paho_queue_cancel(f->queue, ticket);
    outbox_paho_queue_acked(ticket, 0);
    expect_nothing(f);
    for (uint32_t i = 0; i < WINDOW; i++)
        (void)reserve(f, i); /* its place is free again */
}

/* ---- Probes ---------------------------------------------------------------------------------- */

static void test_alive_comes_after_the_acked_and_before_the_end(void **state)
{
    fixture *f = *state;
    void *publish = reserve(f, 7), *probe = reserve_probe(f);
    outbox_paho_queue_opened(f->connection, &limits);
    outbox_paho_queue_alive(probe);
    outbox_paho_queue_acked(publish, 0);
    end(f->connection);
    assert_int_equal(f->wakes, 4);
    (void)expect(f, OUTBOX_LINK_OPENED);
    expect_acked(f, 7, 0);
    (void)expect(f, OUTBOX_LINK_ALIVE);
    (void)expect(f, OUTBOX_LINK_CLOSED);
    expect_nothing(f);
}

static void test_there_is_one_probe_until_its_alive_was_taken(void **state)
{
    fixture *f = *state;
    void *other, *ticket = reserve_probe(f);
    assert_int_equal(outbox_paho_queue_probe(f->queue, &other), OUTBOX_LINK_AGAIN);
    outbox_paho_queue_alive(ticket);
    outbox_paho_queue_alive(ticket);
    assert_int_equal(f->wakes, 1);
    assert_int_equal(outbox_paho_queue_probe(f->queue, &other), OUTBOX_LINK_AGAIN);
    (void)expect(f, OUTBOX_LINK_ALIVE);
    expect_nothing(f);
    outbox_paho_queue_alive(ticket);
    expect_nothing(f); /* nobody has asked */
    (void)reserve_probe(f);
}

static void test_a_probe_that_was_taken_back_brings_no_alive(void **state)
{
    fixture *f = *state;
    void *ticket = reserve_probe(f);
    outbox_paho_queue_cancel(f->queue, ticket);
    outbox_paho_queue_alive(ticket);
    expect_nothing(f);
    (void)reserve_probe(f);
}

static void test_a_probe_of_an_old_connection_brings_no_alive(void **state)
{
    fixture *f = *state;
    void *old = reserve_probe(f);
    f->connection = outbox_paho_queue_begin(f->queue);
    void *present = reserve_probe(f);
    outbox_paho_queue_alive(old);
    end(old);
    expect_nothing(f);
    outbox_paho_queue_alive(present);
    (void)expect(f, OUTBOX_LINK_ALIVE);
}

static void test_a_probe_that_failed_ends_the_connection(void **state)
{
    fixture *f = *state;
    void *ticket = reserve_probe(f);
    end(ticket);
    outbox_paho_queue_alive(ticket);
    assert_int_equal(expect(f, OUTBOX_LINK_CLOSED).end, OUTBOX_PAHO_LOST);
    expect_nothing(f);
    assert_int_equal(outbox_paho_queue_probe(f->queue, &ticket), OUTBOX_LINK_DOWN);
}

static void test_the_tickets_of_publish_and_connection_are_no_probes(void **state)
{
    fixture *f = *state;
    void *publish = reserve(f, 1);
    (void)reserve_probe(f);
    outbox_paho_queue_alive(publish);
    outbox_paho_queue_alive(f->connection);
    expect_nothing(f);
}

/* ---- Who ended it ---------------------------------------------------------------------------- */

static void test_a_loss_soon_after_an_answer_is_the_other_sides(void **state)
{
    (void)state;
    static const struct {
        outbox_paho_end end;
        uint64_t silent_ms;
        unsigned keep_alive;
        int by_peer;
    } cases[] = {
        {OUTBOX_PAHO_LOST, 0, 30, 1},
        {OUTBOX_PAHO_LOST, 14999, 30, 1},
        {OUTBOX_PAHO_LOST, 15000, 30, 0},
        {OUTBOX_PAHO_LOST, 15000, 65535, 0},
        {OUTBOX_PAHO_LOST, 499, 1, 1},
        {OUTBOX_PAHO_LOST, 500, 1, 0},
        {OUTBOX_PAHO_LOST, (uint64_t)UINT32_MAX + 1, 30, 0}, /* 49 days and a bit */
        {OUTBOX_PAHO_DISMISSED, 3600000, 30, 1},
        {OUTBOX_PAHO_UNREACHED, 0, 30, 0},
        {OUTBOX_PAHO_REFUSED, 0, 30, 0},
        {OUTBOX_PAHO_LOCAL, 0, 30, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        outbox_paho_event event = {.end = cases[i].end, .silent_ms = cases[i].silent_ms};
        if (outbox_paho_is_by_peer(&event, cases[i].keep_alive) != cases[i].by_peer)
            fail_msg("case %zu", i);
    }
}

/* Without an answer the silence is as long as the machine runs. */
static uint64_t silence_after(fixture *f, void (*answer)(fixture *f))
{
    f->connection = outbox_paho_queue_begin(f->queue);
    answer(f);
    end(f->connection);
    outbox_paho_event event;
    do
        assert_int_equal(outbox_paho_queue_take(f->queue, &event), 1);
    while (event.kind != OUTBOX_LINK_CLOSED);
    return event.silent_ms;
}

static void no_answer(fixture *f)
{
    (void)reserve(f, 1);
    (void)reserve_probe(f);
}

static void answer_connect(fixture *f)
{
    outbox_paho_queue_opened(f->connection, &limits);
}

static void answer_publish(fixture *f)
{
    outbox_paho_queue_acked(reserve(f, 1), 0);
}

static void answer_probe(fixture *f)
{
    outbox_paho_queue_alive(reserve_probe(f));
}

static void test_every_answer_breaks_the_silence(void **state)
{
    fixture *f = *state;
    uint64_t endless = silence_after(f, no_answer);
    assert_true(silence_after(f, answer_connect) < endless);
    assert_true(silence_after(f, answer_publish) < endless);
    assert_true(silence_after(f, answer_probe) < endless);
    assert_true(silence_after(f, no_answer) >= endless);
}

/* ---- Words ----------------------------------------------------------------------------------- */

static void test_a_note_explains_why_a_broker_was_not_reached(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_note(f->connection, "certificate expired, and more", 19);
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_UNREACHED, 0, "failure");
    assert_string_equal(expect(f, OUTBOX_LINK_CLOSED).text, "certificate expired");
}

static void test_a_note_does_not_hide_a_refusal(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_note(f->connection, "note", 4);
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_LOCAL, 0, "sentence");
    assert_string_equal(expect(f, OUTBOX_LINK_CLOSED).text, "sentence");
}

static void test_long_texts_are_cut(void **state)
{
    fixture *f = *state;
    char text[400];
    memset(text, 'x', sizeof(text));
    outbox_paho_queue_note(f->connection, text, sizeof(text));
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_UNREACHED, 0, NULL);
    assert_int_equal(strlen(expect(f, OUTBOX_LINK_CLOSED).text), 119);
}

static void test_a_process_has_room_for_64_queues(void **state)
{
    (void)state; /* has one */
    outbox_paho_queue *queues[OUTBOX_PAHO_LINKS_MAX];
    for (int i = 1; i < OUTBOX_PAHO_LINKS_MAX; i++) {
        queues[i] = outbox_paho_queue_new(OUTBOX_PAHO_WINDOW_MAX, NULL, NULL);
        assert_non_null(queues[i]);
    }
    assert_null(outbox_paho_queue_new(1, NULL, NULL));
    void *ticket = outbox_paho_queue_begin(queues[OUTBOX_PAHO_LINKS_MAX - 1]);
    outbox_paho_event event;
    end(ticket);
    assert_int_equal(outbox_paho_queue_take(queues[OUTBOX_PAHO_LINKS_MAX - 1], &event), 1);
    for (int i = 1; i < OUTBOX_PAHO_LINKS_MAX; i++)
        outbox_paho_queue_free(queues[i]);
}

static void test_the_largest_window_has_a_ticket_for_each_publish(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_free(f->queue);
    f->queue = outbox_paho_queue_new(OUTBOX_PAHO_WINDOW_MAX, NULL, NULL);
    void *tickets[OUTBOX_PAHO_WINDOW_MAX];
    f->connection = outbox_paho_queue_begin(f->queue);
    for (uint32_t i = 0; i < OUTBOX_PAHO_WINDOW_MAX; i++)
        assert_int_equal(
            outbox_paho_queue_reserve(f->queue, i, 1, OUTBOX_PAHO_WINDOW_MAX, &tickets[i]),
            OUTBOX_LINK_OK);
    for (uint32_t i = OUTBOX_PAHO_WINDOW_MAX; i-- > 0;)
        outbox_paho_queue_acked(tickets[i], 0);
    outbox_paho_queue_alive(reserve_probe(f));
    for (uint32_t i = OUTBOX_PAHO_WINDOW_MAX; i-- > 0;)
        expect_acked(f, i, 0);
    (void)expect(f, OUTBOX_LINK_ALIVE);
    expect_nothing(f);
}

/* ---- Threads --------------------------------------------------------------------------------- */

typedef struct slow_wake {
    sem_t entered, go_on;
    int finished;
} slow_wake;

static void wake_slowly(void *context)
{
    slow_wake *w = context;
    (void)sem_post(&w->entered);
    (void)sem_wait(&w->go_on);
    w->finished = 1;
}

static void *push_end(void *ticket)
{
    end(ticket);
    return NULL;
}

static void *let_go_on(void *context)
{
    slow_wake *w = context;
    (void)sem_post(&w->go_on);
    return NULL;
}

static void test_free_waits_until_the_last_wake_has_returned(void **state)
{
    (void)state;
    slow_wake w = {.finished = 0};
    pthread_t caller, helper;
    assert_int_equal(sem_init(&w.entered, 0, 0), 0);
    assert_int_equal(sem_init(&w.go_on, 0, 0), 0);
    outbox_paho_queue *queue = outbox_paho_queue_new(1, wake_slowly, &w);
    void *ticket = outbox_paho_queue_begin(queue);
    assert_int_equal(pthread_create(&caller, NULL, push_end, ticket), 0);
    assert_int_equal(sem_wait(&w.entered), 0);
    assert_int_equal(pthread_create(&helper, NULL, let_go_on, &w), 0);
    outbox_paho_queue_free(queue);
    assert_int_equal(w.finished, 1);
    assert_int_equal(pthread_join(caller, NULL), 0);
    assert_int_equal(pthread_join(helper, NULL), 0);
    assert_int_equal(sem_destroy(&w.entered), 0);
    assert_int_equal(sem_destroy(&w.go_on), 0);
}

typedef struct pushing {
    pthread_mutex_t lock;
    void *tickets[WINDOW]; /* NULL: none */
    int stop;
} pushing;

/* Acks whatever ticket it finds, also when it is old by then. */
static void *push_acks(void *context)
{
    pushing *p = context;
    for (int stop = 0; !stop;) {
        void *tickets[WINDOW];
        (void)pthread_mutex_lock(&p->lock);
        memcpy(tickets, p->tickets, sizeof(tickets));
        stop = p->stop;
        (void)pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < WINDOW; i++)
            if (tickets[i] != NULL)
                outbox_paho_queue_acked(tickets[i], 0);
        (void)sched_yield(); /* the mutexes are not fair */
    }
    return NULL;
}

static void test_late_callbacks_of_other_threads_never_ack_a_new_publish(void **state)
{
    (void)state;
    static pushing p = {.lock = PTHREAD_MUTEX_INITIALIZER};
    fixture f = {.queue = outbox_paho_queue_new(WINDOW, NULL, NULL)};
    pthread_t threads[2];
    f.connection = outbox_paho_queue_begin(f.queue);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, push_acks, &p), 0);
    for (uint32_t round = 0; round < 300; round++) {
        void *tickets[WINDOW];
        for (uint32_t i = 0; i < WINDOW; i++)
            tickets[i] = reserve(&f, round);
        (void)pthread_mutex_lock(&p.lock);
        memcpy(p.tickets, tickets, sizeof(tickets));
        (void)pthread_mutex_unlock(&p.lock);
        outbox_paho_event event;
        for (int taken = 0; taken < 2;) {
            if (outbox_paho_queue_take(f.queue, &event)) {
                assert_int_equal(event.token, round);
                taken++;
            }
        }
        f.connection = outbox_paho_queue_begin(f.queue); /* the tickets are void now */
    }
    (void)pthread_mutex_lock(&p.lock);
    p.stop = 1;
    (void)pthread_mutex_unlock(&p.lock);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    outbox_paho_queue_free(f.queue);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void *reserve_unacked(fixture *f, size_t bytes, outbox_link_result expected)
{
    void *ticket = NULL;
    assert_int_equal(outbox_paho_queue_reserve_unacked(f->queue, bytes, &ticket), expected);
    return ticket;
}

/* What is written leaves no event, but wakes: there is room for the next one. */
static void test_one_at_qos_0_leaves_no_event_and_gives_its_room_back(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_opened(f->connection, &limits);
    (void)expect(f, OUTBOX_LINK_OPENED);
    unsigned wakes = f->wakes;
    void *ticket = reserve_unacked(f, OUTBOX_PAHO_BYTES_MAX, OUTBOX_LINK_OK);
    (void)reserve_unacked(f, 1, OUTBOX_LINK_AGAIN);
    outbox_paho_queue_acked(ticket, 0);
    expect_nothing(f);
    assert_int_equal(f->wakes, wakes + 1);
    outbox_paho_queue_acked(ticket, 0); /* void now */
    assert_int_equal(f->wakes, wakes + 1);
    outbox_paho_queue_cancel(f->queue, reserve_unacked(f, 1, OUTBOX_LINK_OK));
    (void)reserve_unacked(f, OUTBOX_PAHO_BYTES_MAX, OUTBOX_LINK_OK);
}

static void test_those_at_qos_0_and_those_in_flight_do_not_take_each_others_place(void **state)
{
    fixture *f = *state;
    outbox_paho_queue_opened(f->connection, &limits);
    (void)expect(f, OUTBOX_LINK_OPENED);
    for (unsigned i = 0; i < OUTBOX_PAHO_UNACKED_MAX; i++)
        (void)reserve_unacked(f, 1, OUTBOX_LINK_OK);
    (void)reserve_unacked(f, 1, OUTBOX_LINK_AGAIN);
    void *tickets[WINDOW], *none;
    for (unsigned i = 0; i < WINDOW; i++)
        tickets[i] = reserve(f, i);
    assert_int_equal(outbox_paho_queue_reserve(f->queue, 9, 1, WINDOW + 1, &none),
                     OUTBOX_LINK_AGAIN);
    for (unsigned i = 0; i < WINDOW; i++) {
        outbox_paho_queue_acked(tickets[i], 0);
        expect_acked(f, i, 0);
    }
    outbox_paho_queue_ended(f->connection, OUTBOX_PAHO_LOST, 0, NULL);
    (void)reserve_unacked(f, 1, OUTBOX_LINK_DOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_those_at_qos_0_and_those_in_flight_do_not_take_each_others_place),
        TEST(test_one_at_qos_0_leaves_no_event_and_gives_its_room_back),
        TEST(test_events_come_as_opened_then_acked_then_closed),
        TEST(test_each_event_wakes_once_and_a_void_one_never),
        TEST(test_the_first_end_counts),
        TEST(test_a_publish_that_failed_ends_the_connection),
        TEST(test_nothing_is_acked_or_opened_after_the_end),
        TEST(test_a_publish_is_acked_once_however_often_it_is_called_so),
        TEST(test_the_tickets_of_an_old_connection_find_nothing),
        TEST(test_the_tickets_of_a_freed_queue_find_nothing),
        TEST(test_the_window_bounds_what_is_in_flight),
        TEST(test_a_smaller_window_of_the_server_holds_too),
        TEST(test_bytes_in_flight_are_bounded_but_for_a_single_publish),
        TEST(test_a_ticket_that_was_taken_back_acks_nothing),
        TEST(test_alive_comes_after_the_acked_and_before_the_end),
        TEST(test_there_is_one_probe_until_its_alive_was_taken),
        TEST(test_a_probe_that_was_taken_back_brings_no_alive),
        TEST(test_a_probe_of_an_old_connection_brings_no_alive),
        TEST(test_a_probe_that_failed_ends_the_connection),
        TEST(test_the_tickets_of_publish_and_connection_are_no_probes),
        TEST(test_a_loss_soon_after_an_answer_is_the_other_sides),
        TEST(test_every_answer_breaks_the_silence),
        TEST(test_a_note_explains_why_a_broker_was_not_reached),
        TEST(test_a_note_does_not_hide_a_refusal),
        TEST(test_long_texts_are_cut),
        TEST(test_a_process_has_room_for_64_queues),
        TEST(test_the_largest_window_has_a_ticket_for_each_publish),
        cmocka_unit_test(test_free_waits_until_the_last_wake_has_returned),
        cmocka_unit_test(test_late_callbacks_of_other_threads_never_ack_a_new_publish),
    };
    return cmocka_run_group_tests_name("paho_queue", tests, NULL, NULL);
}
