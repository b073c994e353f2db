/* SPDX-License-Identifier: MIT
 *
 * test_inbox_memory.c - an inbox while memory runs out: at the first, the second ... allocation of
 * SQLite, once or for good, in UTF-8 and in UTF-16. Each call says so, and the event is judged once
 * memory is back as if nothing had been. [inbox-6] [accept-7]
 */
#include "support.h"

#include <outbox/inbox.h>

#include <string.h>

static sqlite3_mem_methods memory;
static int countdown; /* allocations until one fails; 0: none does */
static bool persists, fired;

static bool must_fail(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    countdown = persists ? 1 : 0;
    return fired = true;
}

static void *failing_malloc(int size)
{
    return must_fail() ? NULL : memory.xMalloc(size);
}

static void *failing_realloc(void *block, int size)
{
    return must_fail() ? NULL : memory.xRealloc(block, size);
}

static const inbox_text normal = {"outbox://pump/normal/aa", 23};
static const inbox_text other = {"https://example.com/a", 21};

static int accept_number(inbox *in, int64_t sequence, int64_t previous, inbox_result *result)
{
    char id[24];
    sqlite3_snprintf(sizeof id, id, "%lld", (long long)sequence);
    inbox_event event = {.source = normal,
                         .id = {id, strlen(id)},
                         .has_sequence = 1,
                         .has_previous = 1,
                         .sequence = sequence,
                         .previous = previous};
    return inbox_accept(in, &event, result);
}

static int accept_nameless(inbox *in, const char *id, inbox_result *result)
{
    inbox_event event = {.source = other, .id = {id, strlen(id)}};
    return inbox_accept(in, &event, result);
}

/* An open and accepts of each kind; false where memory ran out, which alone may go wrong. Where it
 * runs out for good, there may be none for a ROLLBACK either. */
static bool live(sqlite3 *db, inbox **in)
{
    inbox_result result;
    char sentence[200] = "";
    int code = inbox_open(db, &(inbox_config){sentence, sizeof sentence}, in);
    if (code == OUTBOX_OK)
        code = accept_number(*in, 1, 0, &result);
    if (code == OUTBOX_OK)
        code = accept_number(*in, 5, 1, &result);
    if (code == OUTBOX_OK)
        code = accept_number(*in, 3, 1, &result);
    if (code == OUTBOX_OK)
        code = accept_nameless(*in, "a", &result);
    if (code == OUTBOX_OK)
        code = accept_nameless(*in, "a", &result);
    if (code == OUTBOX_OK)
        code = inbox_verify(db, NULL, NULL);
    const char *says = *in ? inbox_errmsg(*in) : sentence;
    bool is_open = code == OUTBOX_SQLITE && strstr(says, "run ROLLBACK") != NULL;
    if (code != OUTBOX_OK && code != OUTBOX_NO_MEMORY && !is_open)
        fail_msg("%d: %s", code, says);
    return code == OUTBOX_OK;
}

/* As it goes on with memory. What a call that failed has left undone is done now. */
static void expect_sound(sqlite3 *db, inbox *in)
{
    inbox_result result;
    if (!in)
        assert_int_equal(inbox_open(db, NULL, &in), OUTBOX_OK);
    assert_int_equal(accept_number(in, 1, 0, &result), OUTBOX_OK);
    assert_int_equal(accept_number(in, 5, 1, &result), OUTBOX_OK);
    assert_int_equal(accept_number(in, 3, 1, &result), OUTBOX_OK);
    assert_int_equal(result.verdict, INBOX_STALE);
    assert_int_equal(accept_number(in, 5, 1, &result), OUTBOX_OK);
    assert_int_equal(result.verdict, INBOX_DUPLICATE);
    assert_int_equal(accept_nameless(in, "a", &result), OUTBOX_OK);
    assert_int_equal(inbox_verify(db, NULL, NULL), OUTBOX_OK);
    assert_true(sqlite3_get_autocommit(db));
    assert_int_equal(
        bench_number(db, "SELECT applied FROM inbox_stream WHERE stream LIKE 'outbox%'"), 2);
    inbox_close(in);
}

static bool try(const char *encoding, int n)
{
    sqlite3 *db = NULL;
    inbox *in = NULL;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    bench_sql(db, encoding);
    fired = false;
    countdown = n;
    bool lived = live(db, &in);
    countdown = 0;
    assert_true(lived || fired);
    if (!sqlite3_get_autocommit(db))
        bench_sql(db, "ROLLBACK");
    expect_sound(db, in);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return fired;
}

static void fail_each(const char *encoding)
{
    for (int n = 1; try(encoding, n); n++)
        assert_true(n < 10000);
}

static void test_memory_that_runs_out_once_costs_one_call(void **state)
{
    (void)state;
    persists = false;
    fail_each("PRAGMA encoding = 'UTF-8'");
    fail_each("PRAGMA encoding = 'UTF-16'");
}

static void test_memory_that_runs_out_for_good_costs_no_more(void **state)
{
    (void)state;
    persists = true;
    fail_each("PRAGMA encoding = 'UTF-8'");
    fail_each("PRAGMA encoding = 'UTF-16'");
}

static int set_up(void **state)
{
    (void)state;
    if (sqlite3_shutdown() != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory) != SQLITE_OK)
        return -1;
    sqlite3_mem_methods failing = memory;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) == SQLITE_OK &&
                   sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK &&
                   sqlite3_initialize() == SQLITE_OK
               ? 0
               : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_that_runs_out_once_costs_one_call),
        cmocka_unit_test(test_memory_that_runs_out_for_good_costs_no_more),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
