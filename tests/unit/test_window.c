/* SPDX-License-Identifier: MIT
 *
 * test_window.c - the ring of events that were read: sent, acknowledged, settled, forgotten.
 *
 * A crash forgets all of it, so nothing here outlives one. What must hold is that an ack finds its
 * own entry or none: an ack that is taken for another event would settle one that never arrived.
 */
#include "window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CAPACITY = 8, UNFIT_REASON = 3 };

struct fixture {
    struct ob_window window;
    struct ob_entry entries[CAPACITY];
    outbox_message message;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    memset(fixture->entries, 0xa5, sizeof fixture->entries);
    ob_window_init(&fixture->window, fixture->entries, CAPACITY);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

/* As set_up, but the numbers of the entries soon wrap from 2^32-1 to 0. */
static int set_up_before_the_wrap(void **state)
{
    if (set_up(state) != 0)
        return -1;
    struct ob_window *window = &((struct fixture *)*state)->window;
    window->kept = window->first = window->next = window->end = UINT32_MAX - 2;
    return 0;
}

static void add(struct fixture *fixture, int64_t id)
{
    ob_window_add(&fixture->window, id, &fixture->message, 0);
}

static void add_unfit(struct fixture *fixture, int64_t id)
{
    ob_window_add(&fixture->window, id, NULL, UNFIT_REASON);
}

/* Sends the next entry, which must have this id, and returns its token. */
static uint32_t send_next(struct fixture *fixture, int64_t id)
{
    uint32_t token = 0;
    struct ob_entry *entry = ob_window_next(&fixture->window, &token);
    assert_non_null(entry);
    assert_int_equal(entry->id, id);
    ob_window_sent(&fixture->window, entry, (uint32_t)(1000 + id));
    return token;
}

/* True if the ack found an entry. */
static bool ack(struct fixture *fixture, uint32_t token)
{
    struct ob_entry *entry = ob_window_find(&fixture->window, token);
    if (entry)
        ob_window_acked(&fixture->window, entry);
    return entry != NULL;
}

static bool has_next(struct fixture *fixture)
{
    uint32_t token;
    return ob_window_next(&fixture->window, &token) != NULL;
}

/* ---- Adding and sending ---------------------------------------------------------------------- */

static void test_a_new_window_is_empty(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(ob_window_count(&fixture->window), 0);
    assert_false(ob_window_is_full(&fixture->window));
    assert_false(has_next(fixture));
    assert_int_equal(ob_window_settleable(&fixture->window), 0);
    assert_null(ob_window_oldest_in_flight(&fixture->window));
    assert_null(ob_window_find(&fixture->window, 0));
}

static void test_an_entry_awaits_with_its_message_until_it_is_sent(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 41);
    const struct ob_entry *entry = ob_window_at(&fixture->window, 0);
    assert_int_equal(entry->id, 41);
    assert_int_equal(entry->verdict, OB_AWAITING);
    assert_int_equal(entry->unfit, 0);
    assert_ptr_equal(entry->message, &fixture->message);
    send_next(fixture, 41);
    assert_int_equal(entry->verdict, OB_IN_FLIGHT);
    assert_int_equal(entry->sent_ms, 1041);
    assert_null(entry->message); /* its memory is used anew */
}

/* [P5] */
static void test_entries_are_sent_in_the_order_in_which_they_were_added(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= CAPACITY; id++)
        add(fixture, 10 * id);
    for (int64_t id = 1; id <= CAPACITY; id++)
        send_next(fixture, 10 * id);
    assert_false(has_next(fixture));
}

static void test_asking_for_the_next_entry_twice_gives_the_same_entry_and_token(void **state)
{
    struct fixture *fixture = *state;
    uint32_t first, second;
    add(fixture, 1);
    add(fixture, 2);
    struct ob_entry *entry = ob_window_next(&fixture->window, &first);
    assert_ptr_equal(ob_window_next(&fixture->window, &second), entry);
    assert_int_equal(first, second);
    assert_int_equal(fixture->window.in_flight, 0);
}

static void test_an_entry_can_be_added_while_others_are_in_flight(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    uint32_t first = send_next(fixture, 1);
    assert_false(has_next(fixture));
    add(fixture, 2);
    uint32_t second = send_next(fixture, 2);
    assert_int_not_equal(first, second);
    assert_int_equal(fixture->window.in_flight, 2);
}

static void test_a_window_is_full_at_its_capacity_and_not_before(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= CAPACITY; id++) {
        assert_false(ob_window_is_full(&fixture->window));
        assert_int_equal(ob_window_count(&fixture->window), id - 1);
        add(fixture, id);
    }
    assert_true(ob_window_is_full(&fixture->window));
    for (uint32_t i = 0; i < CAPACITY; i++)
        assert_int_equal(ob_window_at(&fixture->window, i)->id, i + 1);
}

static void test_a_window_of_one_entry_works(void **state)
{
    struct fixture *fixture = *state;
    ob_window_init(&fixture->window, fixture->entries, 1);
    for (int64_t id = 1; id <= 5; id++) {
        add(fixture, id);
        assert_true(ob_window_is_full(&fixture->window));
        assert_true(ack(fixture, send_next(fixture, id)));
        assert_int_equal(ob_window_settleable(&fixture->window), 1);
        ob_window_settled(&fixture->window, 1);
    }
    assert_int_equal(ob_window_count(&fixture->window), 0);
}

/* ---- Acks ------------------------------------------------------------------------------------ */

static void test_an_ack_finds_the_entry_that_was_sent_under_its_token(void **state)
{
    struct fixture *fixture = *state;
    uint32_t tokens[4];
    for (int64_t id = 1; id <= 4; id++)
        add(fixture, id);
    for (int64_t id = 1; id <= 4; id++)
        tokens[id - 1] = send_next(fixture, id);
    for (int i = 3; i >= 0; i--) {
        struct ob_entry *entry = ob_window_find(&fixture->window, tokens[i]);
        assert_non_null(entry);
        assert_int_equal(entry->id, i + 1);
        ob_window_acked(&fixture->window, entry);
        assert_int_equal(entry->verdict, OB_ACKED);
        assert_int_equal(fixture->window.in_flight, i);
    }
}

static void test_a_repeated_ack_finds_nothing(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    add(fixture, 2);
    uint32_t first = send_next(fixture, 1), second = send_next(fixture, 2);
    assert_true(ack(fixture, second));
    assert_false(ack(fixture, second));
    assert_int_equal(fixture->window.in_flight, 1);
    assert_true(ack(fixture, first));
    ob_window_settled(&fixture->window, 2);
    assert_false(ack(fixture, first));
    assert_false(ack(fixture, second));
    assert_int_equal(fixture->window.in_flight, 0);
}

static void test_an_ack_for_an_entry_that_was_not_sent_finds_nothing(void **state)
{
    struct fixture *fixture = *state;
    uint32_t token;
    add(fixture, 1);
    assert_non_null(ob_window_next(&fixture->window, &token));
    assert_false(ack(fixture, token));
    send_next(fixture, 1);
    assert_false(ack(fixture, token + 1));
    assert_false(ack(fixture, token - 1));
    assert_false(ack(fixture, token + CAPACITY)); /* the same place of the ring */
    assert_false(ack(fixture, token - CAPACITY));
    assert_true(ack(fixture, token));
}

static void test_an_ack_for_an_unfit_entry_finds_nothing(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    add_unfit(fixture, 2);
    add(fixture, 3);
    uint32_t first = send_next(fixture, 1), third = send_next(fixture, 3);
    assert_int_equal(third - first, 2);
    assert_false(ack(fixture, first + 1));
    assert_true(ack(fixture, third));
}

/* ---- Unfit entries --------------------------------------------------------------------------- */

static void test_an_unfit_entry_keeps_its_reason_and_is_never_sent(void **state)
{
    struct fixture *fixture = *state;
    add_unfit(fixture, 1);
    add(fixture, 2);
    add_unfit(fixture, 3);
    add_unfit(fixture, 4);
    add(fixture, 5);
    add_unfit(fixture, 6);
    assert_int_equal(ob_window_at(&fixture->window, 0)->verdict, OB_DROPPED);
    assert_int_equal(ob_window_at(&fixture->window, 0)->unfit, UNFIT_REASON);
    send_next(fixture, 2);
    send_next(fixture, 5);
    assert_false(has_next(fixture));
    assert_int_equal(fixture->window.in_flight, 2);
}

static void test_unfit_entries_at_the_front_can_be_settled_before_anything_is_sent(void **state)
{
    struct fixture *fixture = *state;
    add_unfit(fixture, 1);
    add_unfit(fixture, 2);
    add(fixture, 3);
    assert_int_equal(ob_window_settleable(&fixture->window), 2);
    ob_window_settled(&fixture->window, 2);
    assert_int_equal(ob_window_count(&fixture->window), 1);
    assert_true(ack(fixture, send_next(fixture, 3)));
    assert_int_equal(ob_window_settleable(&fixture->window), 1);
}

static void test_unfit_entries_in_the_middle_wait_for_those_before_them(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    add_unfit(fixture, 2);
    add(fixture, 3);
    add_unfit(fixture, 4);
    uint32_t first = send_next(fixture, 1), third = send_next(fixture, 3);
    assert_true(ack(fixture, third));
    assert_int_equal(ob_window_settleable(&fixture->window), 0);
    assert_true(ack(fixture, first));
    assert_int_equal(ob_window_settleable(&fixture->window), 4);
    ob_window_settled(&fixture->window, 4);
    assert_int_equal(ob_window_count(&fixture->window), 0);
    assert_false(has_next(fixture));
}

static void test_a_window_full_of_unfit_entries_can_be_settled_and_filled_again(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= CAPACITY; id++)
        add_unfit(fixture, id);
    assert_true(ob_window_is_full(&fixture->window));
    assert_false(has_next(fixture));
    assert_int_equal(ob_window_settleable(&fixture->window), CAPACITY);
    ob_window_settled(&fixture->window, CAPACITY);
    add(fixture, CAPACITY + 1);
    assert_true(ack(fixture, send_next(fixture, CAPACITY + 1)));
}

/* ---- Settling -------------------------------------------------------------------------------- */

/* [P3] */
static void test_nothing_behind_an_entry_without_an_ack_can_be_settled(void **state)
{
    struct fixture *fixture = *state;
    uint32_t tokens[3];
    for (int64_t id = 1; id <= 4; id++)
        add(fixture, id);
    for (int64_t id = 1; id <= 3; id++)
        tokens[id - 1] = send_next(fixture, id);
    assert_true(ack(fixture, tokens[2]));
    assert_true(ack(fixture, tokens[1]));
    assert_int_equal(ob_window_settleable(&fixture->window), 0);
    assert_true(ack(fixture, tokens[0]));
    assert_int_equal(ob_window_settleable(&fixture->window), 3); /* the fourth was not sent */
}

static void test_fewer_entries_can_be_settled_than_could_be(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= 4; id++)
        add(fixture, id);
    for (int64_t id = 1; id <= 4; id++)
        assert_true(ack(fixture, send_next(fixture, id)));
    ob_window_settled(&fixture->window, 3);
    assert_int_equal(ob_window_count(&fixture->window), 1);
    assert_int_equal(ob_window_at(&fixture->window, 0)->id, 4);
    assert_int_equal(ob_window_settleable(&fixture->window), 1);
}

static void test_settling_nothing_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    uint32_t token = send_next(fixture, 1);
    ob_window_settled(&fixture->window, 0);
    assert_int_equal(ob_window_count(&fixture->window), 1);
    assert_true(ack(fixture, token));
}

static void test_the_oldest_in_flight_is_the_first_one_without_an_ack(void **state)
{
    struct fixture *fixture = *state;
    uint32_t tokens[3];
    add_unfit(fixture, 1);
    for (int64_t id = 2; id <= 5; id++)
        add(fixture, id);
    assert_null(ob_window_oldest_in_flight(&fixture->window));
    for (int64_t id = 2; id <= 4; id++)
        tokens[id - 2] = send_next(fixture, id);
    assert_int_equal(ob_window_oldest_in_flight(&fixture->window)->id, 2);
    assert_true(ack(fixture, tokens[0]));
    assert_int_equal(ob_window_oldest_in_flight(&fixture->window)->id, 3);
    assert_true(ack(fixture, tokens[2]));
    assert_int_equal(ob_window_oldest_in_flight(&fixture->window)->id, 3);
    assert_true(ack(fixture, tokens[1]));
    assert_null(ob_window_oldest_in_flight(&fixture->window)); /* the fifth only awaits */
}

/* ---- Keeping after a loss: [step-3] ---------------------------------------------------------- */

static void test_after_a_loss_the_settleable_entries_stay_and_the_others_are_forgotten(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= 5; id++)
        add(fixture, id);
    assert_true(ack(fixture, send_next(fixture, 1)));
    assert_true(ack(fixture, send_next(fixture, 2)));
    send_next(fixture, 3);
    ob_window_keep(&fixture->window, ob_window_settleable(&fixture->window));
    assert_int_equal(ob_window_count(&fixture->window), 2);
    assert_int_equal(ob_window_at(&fixture->window, 1)->id, 2);
    assert_int_equal(ob_window_settleable(&fixture->window), 2);
    assert_int_equal(fixture->window.in_flight, 0);
    assert_false(has_next(fixture));
    assert_null(ob_window_oldest_in_flight(&fixture->window));
}

static void test_the_forgotten_entries_can_be_read_and_sent_again_behind_the_kept_ones(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= 3; id++)
        add(fixture, id);
    assert_true(ack(fixture, send_next(fixture, 1)));
    send_next(fixture, 2);
    ob_window_keep(&fixture->window, 1);
    add(fixture, 2);
    add(fixture, 3);
    assert_true(ack(fixture, send_next(fixture, 2)));
    assert_true(ack(fixture, send_next(fixture, 3)));
    assert_int_equal(ob_window_settleable(&fixture->window), 3);
}

static void test_an_unfit_entry_that_was_not_stepped_over_yet_can_be_kept(void **state)
{
    struct fixture *fixture = *state;
    add_unfit(fixture, 1);
    add(fixture, 2);
    ob_window_keep(&fixture->window, 1);
    assert_false(has_next(fixture));
    add(fixture, 2);
    send_next(fixture, 2);
    assert_int_equal(ob_window_settleable(&fixture->window), 1);
}

static void test_no_token_from_before_a_loss_finds_an_entry_behind_it(void **state)
{
    struct fixture *fixture = *state;
    uint32_t before[CAPACITY];
    for (uint32_t kept = 0; kept <= CAPACITY; kept++) {
        ob_window_init(&fixture->window, fixture->entries, CAPACITY);
        for (uint32_t i = 0; i < CAPACITY; i++)
            add(fixture, i + 1);
        for (uint32_t i = 0; i < CAPACITY; i++)
            before[i] = send_next(fixture, i + 1);
        for (uint32_t i = 0; i < kept; i++)
            assert_true(ack(fixture, before[i]));
        ob_window_keep(&fixture->window, kept);
        ob_window_settled(&fixture->window, kept);
        for (uint32_t i = 0; i < CAPACITY; i++)
            add(fixture, i + 1 + kept);
        for (uint32_t i = 0; i < CAPACITY; i++)
            send_next(fixture, i + 1 + kept);
        for (uint32_t i = 0; i < CAPACITY; i++)
            assert_false(ack(fixture, before[i]));
    }
}

static void test_a_token_that_was_prepared_but_not_used_is_void_after_a_loss_too(void **state)
{
    struct fixture *fixture = *state;
    uint32_t prepared;
    add(fixture, 1);
    assert_non_null(ob_window_next(&fixture->window, &prepared));
    ob_window_keep(&fixture->window, 0);
    add(fixture, 1);
    assert_int_not_equal(send_next(fixture, 1), prepared);
    assert_false(ack(fixture, prepared));
}

static void test_no_token_is_given_out_twice_over_a_thousand_losses(void **state)
{
    struct fixture *fixture = *state;
    uint32_t last = 0;
    bool any = false;
    for (uint32_t loss = 0; loss < 1000; loss++) {
        uint32_t events = 1 + loss % CAPACITY, acked = loss % 3 < events ? loss % 3 : events;
        for (uint32_t i = 0; i < events; i++)
            add(fixture, loss * 100 + i);
        for (uint32_t i = 0; i < events; i++) {
            uint32_t token = send_next(fixture, loss * 100 + i);
            assert_true(!any || token - last - 1 < UINT32_MAX / 2); /* each is larger, circularly */
            any = true;
            last = token;
            if (i < acked)
                assert_true(ack(fixture, token));
        }
        ob_window_keep(&fixture->window, acked);
        ob_window_settled(&fixture->window, acked);
    }
}

/* ---- Wraps ----------------------------------------------------------------------------------- */

static void test_places_of_the_ring_are_used_again(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id <= INT64_C(5) * CAPACITY; id++) {
        add(fixture, id);
        uint32_t token = send_next(fixture, id);
        if (id > 3) /* four are in the window at a time */
            ob_window_settled(&fixture->window, 1);
        assert_true(ack(fixture, token));
    }
    assert_int_equal(ob_window_count(&fixture->window), 3);
    assert_int_equal(ob_window_at(&fixture->window, 2)->id, 5 * CAPACITY);
}

static void test_a_full_window_works_across_the_wrap_of_the_numbers(void **state)
{
    struct fixture *fixture = *state;
    uint32_t tokens[CAPACITY];
    for (int64_t id = 1; id <= CAPACITY; id++)
        add(fixture, id);
    assert_true(ob_window_is_full(&fixture->window));
    for (uint32_t i = 0; i < CAPACITY; i++)
        tokens[i] = send_next(fixture, i + 1);
    assert_true(fixture->window.next < fixture->window.first);
    assert_false(has_next(fixture));
    assert_int_equal(ob_window_oldest_in_flight(&fixture->window)->id, 1);
    for (uint32_t i = CAPACITY; i > 0; i--)
        assert_true(ack(fixture, tokens[i - 1]));
    assert_int_equal(ob_window_settleable(&fixture->window), CAPACITY);
    ob_window_settled(&fixture->window, CAPACITY);
    assert_int_equal(ob_window_count(&fixture->window), 0);
    assert_int_equal(fixture->window.first, CAPACITY - 3);
}

static void test_unfit_entries_are_stepped_over_across_the_wrap_of_the_numbers(void **state)
{
    struct fixture *fixture = *state;
    for (int64_t id = 1; id < CAPACITY; id++)
        add_unfit(fixture, id);
    add(fixture, CAPACITY);
    uint32_t token = send_next(fixture, CAPACITY);
    assert_int_equal(ob_window_settleable(&fixture->window), CAPACITY - 1);
    ob_window_settled(&fixture->window, CAPACITY - 1);
    assert_true(ack(fixture, token));
    assert_int_equal(ob_window_settleable(&fixture->window), 1);
}

static void test_old_tokens_stay_void_across_the_wrap_of_the_numbers(void **state)
{
    struct fixture *fixture = *state;
    uint32_t before[CAPACITY];
    for (int64_t id = 1; id <= CAPACITY; id++)
        add(fixture, id);
    for (uint32_t i = 0; i < CAPACITY; i++)
        before[i] = send_next(fixture, i + 1);
    assert_true(ack(fixture, before[0]));
    ob_window_keep(&fixture->window, 1);
    for (int64_t id = 2; id <= CAPACITY; id++)
        add(fixture, id);
    for (int64_t id = 2; id <= CAPACITY; id++)
        assert_true(ack(fixture, send_next(fixture, id)));
    for (uint32_t i = 0; i < CAPACITY; i++)
        assert_false(ack(fixture, before[i]));
    assert_int_equal(ob_window_settleable(&fixture->window), CAPACITY);
}

static void test_tokens_work_across_the_wrap_of_their_offset(void **state)
{
    struct fixture *fixture = *state;
    fixture->window.token_offset = UINT32_MAX - 3;
    add(fixture, 1);
    uint32_t old = send_next(fixture, 1);
    ob_window_keep(&fixture->window, 0);
    assert_true(fixture->window.token_offset < 2 * CAPACITY);
    add(fixture, 1);
    uint32_t young = send_next(fixture, 1);
    assert_false(ack(fixture, old));
    assert_true(ack(fixture, young));
}

/* ---- Rows that left otherwise ---------------------------------------------------------------- */

static void test_what_others_removed_leaves_and_the_rest_stays_as_it_is(void **state)
{
    struct fixture *fixture = *state;
    uint32_t tokens[4];
    for (int64_t id = 1; id <= 6; id++)
        add(fixture, 10 * id);
    for (int i = 0; i < 4; i++)
        tokens[i] = send_next(fixture, INT64_C(10) * (i + 1));
    assert_true(ack(fixture, tokens[0]));
    assert_true(ack(fixture, tokens[2]));
    ob_window_passed(&fixture->window, 25);
    assert_int_equal(ob_window_count(&fixture->window), 4);
    assert_int_equal(ob_window_at(&fixture->window, 0)->id, 30);
    assert_int_equal(ob_window_settleable(&fixture->window), 0); /* 20 may be refused yet */
    assert_true(ob_window_let_go(&fixture->window, tokens[1]));
    assert_int_equal(ob_window_settleable(&fixture->window), 1);
    assert_true(ack(fixture, tokens[3]));
    assert_int_equal(ob_window_settleable(&fixture->window), 2);
    send_next(fixture, 50);
}

static void test_entries_that_were_not_sent_leave_too(void **state)
{
    struct fixture *fixture = *state;
    uint32_t prepared;
    for (int64_t id = 1; id <= 4; id++)
        add(fixture, id);
    assert_non_null(ob_window_next(&fixture->window, &prepared));
    ob_window_passed(&fixture->window, 3);
    assert_int_equal(ob_window_room(&fixture->window), CAPACITY - 1);
    assert_false(ob_window_let_go(&fixture->window, prepared));
    send_next(fixture, 4);
    ob_window_passed(&fixture->window, 1000);
    assert_int_equal(ob_window_count(&fixture->window), 0);
    assert_false(has_next(fixture));
}

static void test_an_entry_that_left_in_flight_is_in_flight_until_its_ack(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    add(fixture, 2);
    add(fixture, 3);
    uint32_t first = send_next(fixture, 1), second = send_next(fixture, 2);
    ob_window_passed(&fixture->window, 1);
    assert_int_equal(fixture->window.in_flight, 2);
    assert_int_equal(ob_window_oldest_in_flight(&fixture->window)->id, 1);
    assert_int_equal(ob_window_room(&fixture->window), CAPACITY - 3);
    assert_false(ack(fixture, first));
    assert_false(ob_window_let_go(&fixture->window, second));
    assert_true(ob_window_let_go(&fixture->window, first));
    assert_false(ob_window_let_go(&fixture->window, first));
    assert_int_equal(fixture->window.in_flight, 1);
    assert_int_equal(ob_window_room(&fixture->window), CAPACITY - 2);
    assert_true(ack(fixture, second));
}

static void test_a_loss_forgets_those_that_left_in_flight(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    add(fixture, 2);
    uint32_t first = send_next(fixture, 1), second = send_next(fixture, 2);
    ob_window_passed(&fixture->window, 1);
    assert_true(ack(fixture, second));
    ob_window_keep(&fixture->window, ob_window_settleable(&fixture->window));
    assert_int_equal(ob_window_count(&fixture->window), 0);
    assert_int_equal(fixture->window.in_flight, 0);
    assert_false(ob_window_let_go(&fixture->window, first));
    assert_int_equal(ob_window_room(&fixture->window), CAPACITY);
}

static void test_entries_that_were_added_last_can_be_taken_back(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 1);
    send_next(fixture, 1);
    add_unfit(fixture, 2);
    add(fixture, 3);
    assert_true(has_next(fixture));
    ob_window_take_back(&fixture->window, 1);
    assert_int_equal(ob_window_count(&fixture->window), 1);
    assert_false(has_next(fixture));
    add(fixture, 2);
    send_next(fixture, 2);
}

/* ---- Against a plain model ------------------------------------------------------------------- */

/* The same window as a list without numbers; tokens are remembered instead of computed. */
struct model {
    struct {
        int64_t id;
        enum ob_verdict verdict;
        uint32_t token;
    } entries[CAPACITY];
    uint32_t count;
    uint32_t gone[CAPACITY], gone_count; /* tokens of those that left in flight */
    uint32_t old_tokens[64];             /* of acks and losses; a ring */
    unsigned old_count;
    int64_t next_id;
};

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void forget_token(struct model *model, uint32_t token)
{
    model->old_tokens[model->old_count++ % 64] = token;
}

static uint32_t model_settleable(const struct model *model)
{
    uint32_t count = 0;
    while (
        model->gone_count == 0 && count < model->count &&
        (model->entries[count].verdict == OB_ACKED || model->entries[count].verdict == OB_DROPPED))
        count++;
    return count;
}

static uint32_t model_find(const struct model *model, enum ob_verdict verdict)
{
    uint32_t i = 0;
    while (i < model->count && model->entries[i].verdict != verdict)
        i++;
    return i;
}

static void do_add(struct fixture *fixture, struct model *model, uint32_t dice)
{
    if (model->count == CAPACITY || ob_window_is_full(&fixture->window))
        return;
    bool unfit = dice % 4 == 0;
    model->next_id += 1 + dice % 3;
    model->entries[model->count].id = model->next_id;
    model->entries[model->count++].verdict = unfit ? OB_DROPPED : OB_AWAITING;
    ob_window_add(&fixture->window, model->next_id, unfit ? NULL : &fixture->message,
                  unfit ? UNFIT_REASON : 0);
}

static void do_send(struct fixture *fixture, struct model *model)
{
    uint32_t i = model_find(model, OB_AWAITING);
    if (i == model->count) {
        assert_false(has_next(fixture));
        return;
    }
    model->entries[i].token = send_next(fixture, model->entries[i].id);
    model->entries[i].verdict = OB_IN_FLIGHT;
}

static void do_ack(struct fixture *fixture, struct model *model, uint32_t dice)
{
    if (model->old_count > 0 && dice % 3 == 0) {
        unsigned known = model->old_count < 64 ? model->old_count : 64;
        assert_false(ack(fixture, model->old_tokens[dice / 3 % known]));
        assert_false(ob_window_let_go(&fixture->window, model->old_tokens[dice / 3 % known]));
    }
    if (model->count == 0)
        return;
    uint32_t i = dice % model->count;
    if (model->entries[i].verdict != OB_IN_FLIGHT)
        return;
    struct ob_entry *entry = ob_window_find(&fixture->window, model->entries[i].token);
    assert_non_null(entry);
    assert_int_equal(entry->id, model->entries[i].id);
    ob_window_acked(&fixture->window, entry);
    model->entries[i].verdict = OB_ACKED;
    forget_token(model, model->entries[i].token);
}

static void do_settle(struct fixture *fixture, struct model *model, uint32_t dice)
{
    uint32_t count = dice % (model_settleable(model) + 1);
    ob_window_settled(&fixture->window, count);
    model->count -= count;
    memmove(model->entries, model->entries + count, model->count * sizeof model->entries[0]);
}

static void do_pass(struct fixture *fixture, struct model *model, uint32_t dice)
{
    uint32_t count = dice % (model->count + 1);
    if (count == 0)
        return;
    ob_window_passed(&fixture->window, model->entries[count - 1].id);
    for (uint32_t i = 0; i < count; i++)
        if (model->entries[i].verdict == OB_IN_FLIGHT)
            model->gone[model->gone_count++] = model->entries[i].token;
    model->count -= count;
    memmove(model->entries, model->entries + count, model->count * sizeof model->entries[0]);
}

static void do_let_go(struct fixture *fixture, struct model *model, uint32_t dice)
{
    if (model->gone_count == 0)
        return;
    uint32_t i = dice % model->gone_count, token = model->gone[i];
    assert_false(ack(fixture, token));
    assert_true(ob_window_let_go(&fixture->window, token));
    assert_false(ob_window_let_go(&fixture->window, token));
    model->gone[i] = model->gone[--model->gone_count];
    forget_token(model, token);
}

static void do_lose(struct fixture *fixture, struct model *model, uint32_t dice)
{
    uint32_t kept = dice % (model_settleable(model) + 1);
    for (uint32_t i = 0; i < model->count; i++)
        if (model->entries[i].verdict == OB_IN_FLIGHT)
            forget_token(model, model->entries[i].token);
    for (uint32_t i = 0; i < model->gone_count; i++)
        forget_token(model, model->gone[i]);
    model->gone_count = 0;
    ob_window_keep(&fixture->window, kept);
    model->count = kept;
    model->next_id = kept > 0 ? model->entries[kept - 1].id : model->next_id - CAPACITY;
}

static void assert_like(const struct fixture *fixture, const struct model *model)
{
    uint32_t in_flight = model->gone_count, oldest = model_find(model, OB_IN_FLIGHT);
    assert_int_equal(ob_window_count(&fixture->window), model->count);
    if (model->gone_count == 0)
        assert_int_equal(ob_window_room(&fixture->window), CAPACITY - model->count);
    for (uint32_t i = 0; i < model->count; i++) {
        assert_int_equal(ob_window_at(&fixture->window, i)->id, model->entries[i].id);
        assert_int_equal(ob_window_at(&fixture->window, i)->verdict, model->entries[i].verdict);
        in_flight += model->entries[i].verdict == OB_IN_FLIGHT;
    }
    assert_int_equal(fixture->window.in_flight, in_flight);
    assert_int_equal(ob_window_settleable(&fixture->window), model_settleable(model));
    const struct ob_entry *entry = ob_window_oldest_in_flight(&fixture->window);
    assert_int_equal(entry == NULL, in_flight == 0);
    if (entry && model->gone_count == 0)
        assert_int_equal(entry->id, model->entries[oldest].id);
}

static void test_random_calls_leave_the_window_like_a_plain_list(void **state)
{
    struct fixture *fixture = *state;
    struct model model = {.next_id = 1000000};
    uint32_t seed = 7;
    for (int round = 0; round < 50000; round++) {
        uint32_t dice = next_random(&seed), choice = next_random(&seed) % 100;
        if (choice < 30)
            do_add(fixture, &model, dice);
        else if (choice < 55)
            do_send(fixture, &model);
        else if (choice < 75)
            do_ack(fixture, &model, dice);
        else if (choice < 78)
            do_pass(fixture, &model, dice);
        else if (choice < 88)
            do_let_go(fixture, &model, dice);
        else if (choice < 97)
            do_settle(fixture, &model, dice);
        else
            do_lose(fixture, &model, dice);
        assert_like(fixture, &model);
    }
    assert_true(model.old_count > 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define WRAP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_before_the_wrap, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_window_is_empty),
        TEST(test_an_entry_awaits_with_its_message_until_it_is_sent),
        TEST(test_entries_are_sent_in_the_order_in_which_they_were_added),
        TEST(test_asking_for_the_next_entry_twice_gives_the_same_entry_and_token),
        TEST(test_an_entry_can_be_added_while_others_are_in_flight),
        TEST(test_a_window_is_full_at_its_capacity_and_not_before),
        TEST(test_a_window_of_one_entry_works),
        TEST(test_an_ack_finds_the_entry_that_was_sent_under_its_token),
        TEST(test_a_repeated_ack_finds_nothing),
        TEST(test_an_ack_for_an_entry_that_was_not_sent_finds_nothing),
        TEST(test_an_ack_for_an_unfit_entry_finds_nothing),
        TEST(test_an_unfit_entry_keeps_its_reason_and_is_never_sent),
        TEST(test_unfit_entries_at_the_front_can_be_settled_before_anything_is_sent),
        TEST(test_unfit_entries_in_the_middle_wait_for_those_before_them),
        TEST(test_a_window_full_of_unfit_entries_can_be_settled_and_filled_again),
        TEST(test_nothing_behind_an_entry_without_an_ack_can_be_settled),
        TEST(test_fewer_entries_can_be_settled_than_could_be),
        TEST(test_settling_nothing_changes_nothing),
        TEST(test_the_oldest_in_flight_is_the_first_one_without_an_ack),
        TEST(test_after_a_loss_the_settleable_entries_stay_and_the_others_are_forgotten),
        TEST(test_the_forgotten_entries_can_be_read_and_sent_again_behind_the_kept_ones),
        TEST(test_an_unfit_entry_that_was_not_stepped_over_yet_can_be_kept),
        TEST(test_no_token_from_before_a_loss_finds_an_entry_behind_it),
        TEST(test_a_token_that_was_prepared_but_not_used_is_void_after_a_loss_too),
        TEST(test_no_token_is_given_out_twice_over_a_thousand_losses),
        TEST(test_what_others_removed_leaves_and_the_rest_stays_as_it_is),
        TEST(test_entries_that_were_not_sent_leave_too),
        TEST(test_an_entry_that_left_in_flight_is_in_flight_until_its_ack),
        TEST(test_a_loss_forgets_those_that_left_in_flight),
        TEST(test_entries_that_were_added_last_can_be_taken_back),
        TEST(test_places_of_the_ring_are_used_again),
        WRAP_TEST(test_a_full_window_works_across_the_wrap_of_the_numbers),
        WRAP_TEST(test_unfit_entries_are_stepped_over_across_the_wrap_of_the_numbers),
        WRAP_TEST(test_old_tokens_stay_void_across_the_wrap_of_the_numbers),
        WRAP_TEST(test_tokens_work_across_the_wrap_of_their_offset),
        WRAP_TEST(test_random_calls_leave_the_window_like_a_plain_list),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
