/* SPDX-License-Identifier: MIT
 *
 * test_postgres.c - examples/inbox_postgres.sql judges as inbox.c does, in a real PostgreSQL.
 *
 * Thousands of events at random, with all that a sender may do, are judged by both; each verdict,
 * and what both remember in the end, must be the same. Skipped where Debian's package is not
 * installed. OUTBOX_TEST_SEED=n repeats the dice.
 */
#include "dice.h"
#include "harness.h"

#include <outbox/inbox.h>

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS 5000

typedef struct postgres {
    char folder[64];
    char bin[PATH_MAX];
    pid_t pid;
    sqlite3 *db;
    inbox *in;
    FILE *script;
} postgres;

/* ---- A server -------------------------------------------------------------------------------- */

/* The newest one of the package; false where there is none. */
static int find_programs(char bin[PATH_MAX])
{
    glob_t found;
    int there = glob("/usr/lib/postgresql/[0-9]*/bin/initdb", 0, NULL, &found) == 0;

    if (there) {
        (void)snprintf(bin, PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
        *strrchr(bin, '/') = '\0';
    }
    globfree(&found);
    return there;
}

/* It refuses to be run by root. */
static void add_user(const char **arguments, int *count)
{
    if (geteuid() == 0) {
        arguments[(*count)++] = "setpriv";
        arguments[(*count)++] = "--reuid=postgres";
        arguments[(*count)++] = "--regid=postgres";
        arguments[(*count)++] = "--clear-groups";
        arguments[(*count)++] = "--pdeathsig=KILL";
    }
}

static child_end psql(const postgres *p, const char *script, const char *output)
{
    const char *arguments[24];
    int count = 0;

    add_user(arguments, &count);
    const char *const rest[] = {
        "psql", "-h", p->folder, "-U", "postgres",        "-d", "postgres", "-X",
        "-q",   "-A", "-t",      "-v", "ON_ERROR_STOP=1", "-f", script,     NULL};
    memcpy(arguments + count, rest, sizeof rest);
    return child_run(p->folder, output, "psql.log", arguments);
}

static void start_server(postgres *p)
{
    static char initdb[PATH_MAX + 16], server[PATH_MAX + 16];
    const char *arguments[24];
    int count = 0;

    (void)snprintf(initdb, sizeof initdb, "%s/initdb", p->bin);
    (void)snprintf(server, sizeof server, "%s/postgres", p->bin);
    add_user(arguments, &count);
    const char *const make[] = {initdb, "-D", "data", "-U", "postgres", "-A", "trust", "-N", NULL};
    memcpy(arguments + count, make, sizeof make);
    assert_int_equal(child_run(p->folder, "initdb.log", "initdb.log", arguments), 0);
    const char *const run[] = {
        server, "-D", "data", "-k", p->folder, "-c", "listen_addresses=", "-c", "fsync=off", NULL};
    memcpy(arguments + count, run, sizeof run);
    p->pid = child_start(p->folder, "server.log", "server.log", arguments);
}

static void write_file(const postgres *p, const char *name, const char *text)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", p->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0644), 0);
}

static void await_server(const postgres *p)
{
    write_file(p, "hello.sql", "SELECT 1;");
    for (long long deadline = clock_ms() + 60000; psql(p, "hello.sql", "hello.out") != 0;) {
        if (clock_ms() > deadline) {
            fail_msg("PostgreSQL takes no connection; see server.log in %s", p->folder);
        }
        pause_ms(50);
    }
}

static int setup(void **state)
{
    static postgres p;
    const struct passwd *user = getpwnam("postgres");

    *state = &p;
    if (!find_programs(p.bin) || (geteuid() == 0 && user == NULL)) {
        return 0;
    }
    (void)snprintf(p.folder, sizeof p.folder, "/tmp/outbox-postgres-XXXXXX");
    assert_non_null(mkdtemp(p.folder));
    if (geteuid() == 0) {
        assert_int_equal(chown(p.folder, user->pw_uid, user->pw_gid), 0);
    }
    start_server(&p);
    await_server(&p);
    return 0;
}

static int teardown(void **state)
{
    postgres *p = *state;

    if (p->pid > 0) {
        (void)child_stop(p->pid, SIGINT);
        const char *const arguments[] = {"rm", "-rf", p->folder, NULL};
        assert_int_equal(child_run("/", NULL, NULL, arguments), 0);
    }
    return 0;
}

/* ---- The same events for both ---------------------------------------------------------------- */

static const char *word(inbox_verdict verdict)
{
    static const char *const words[] = {[INBOX_NEW] = "new",
                                        [INBOX_NEW_EPOCH] = "new epoch",
                                        [INBOX_DUPLICATE] = "duplicate",
                                        [INBOX_STALE] = "stale",
                                        [INBOX_GAP] = "gap"};

    return words[verdict];
}

/* A stream as its sender sees it, roughly: most events follow, some skip, repeat, or come from
 * elsewhere. */
typedef struct sender {
    int64_t last;
    int epoch;
} sender;

static void next_event(uint64_t *seed, sender *one, inbox_event *event, int *epoch)
{
    *epoch = one->epoch;
    event->sequence = one->last + 1;
    event->previous = one->last;
    switch (dice(seed, 12)) {
    case 0: /* some were dropped */
        event->sequence += dice(seed, 6);
        break;
    case 1: /* a repetition, or something late */
        event->sequence = one->last > 0 ? 1 + dice(seed, (int)one->last) : 1;
        event->previous = event->sequence - 1;
        break;
    case 2: /* something is missing */
        event->previous += 1 + dice(seed, 3);
        event->sequence = event->previous + 1 + dice(seed, 3);
        break;
    case 3: /* an epoch that begins, goes on with the numbers or not; or an old one */
        *epoch = dice(seed, 3) ? one->epoch + 1 : dice(seed, one->epoch + 1);
        event->previous = dice(seed, 4) ? 0 : event->previous;
        event->sequence = dice(seed, 2) ? event->sequence : 1 + dice(seed, 5);
        event->previous = event->previous < event->sequence ? event->previous : 0;
        break;
    case 4: /* it announces */
        event->drops.from = 1 + dice(seed, (int)one->last + 1);
        event->drops.to = event->drops.from + dice(seed, 8) - 1;
        event->drops.count = dice(seed, 9);
        break;
    default:
        break;
    }
}

static void judge_one(postgres *p, uint64_t *seed, sender *senders)
{
    static const char *const lanes[] = {"normal", "urgent", "unstored"};
    char source[64], id[24], previous[24] = "NULL";
    int lane = dice(seed, 3), epoch, skip = dice(seed, 40) == 0;
    inbox_result result;
    inbox_event event = {.has_sequence = 1, .has_previous = 1};

    next_event(seed, &senders[lane], &event, &epoch);
    if (lane == 2) { /* fire and forget */
        event.has_previous = 0;
        event.previous = 0;
    } else {
        (void)snprintf(previous, sizeof previous, "%" PRId64, event.previous);
    }
    (void)snprintf(source, sizeof source, "outbox://pump/%s/%016d", lanes[lane], epoch);
    (void)snprintf(id, sizeof id, "%" PRId64, event.sequence);
    event.source = (inbox_text){source, strlen(source)};
    event.id = (inbox_text){id, strlen(id)};
    int code = skip ? inbox_skip(p->in, &event, &result) : inbox_accept(p->in, &event, &result);
    if (code != OUTBOX_OK) {
        fail_msg("%d: %s", code, inbox_errmsg(p->in));
    }
    (void)fprintf(p->script,
                  "SELECT verify('%s', %" PRId64 ", %s, %s, %" PRId64 ", %" PRId64 ", %" PRId64
                  ", '%s', %" PRId64 ", %" PRId64 ");\n",
                  source, event.sequence, previous, skip ? "true" : "false", event.drops.count,
                  event.drops.from, event.drops.to, word(result.verdict), result.missing_from,
                  result.missing_to);
    if (result.apply) {
        senders[lane] = (sender){event.sequence, epoch};
    }
}

static void print_stream(void *context, const inbox_stream *stream)
{
    (void)fprintf(context,
                  "SELECT agree('%s', '%s', %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
                  ", %" PRId64 ", %" PRId64 ");\n",
                  stream->name, stream->epoch, stream->mark, stream->applied, stream->passed_over,
                  stream->forgone, stream->announced, stream->lost);
}

static const char checks[] =
    "CREATE FUNCTION verify(source text, sequence bigint, previous bigint, skip boolean, c bigint,"
    " f bigint, t bigint, wanted text, missing_first bigint, missing_last bigint) RETURNS void"
    " LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN"
    " SELECT * INTO r FROM inbox_accept(source, sequence, previous, skip, c, f, t);"
    " IF r.verdict <> wanted OR coalesce(r.missing_from, 0) <> missing_first"
    "  OR coalesce(r.missing_to, 0) <> missing_last THEN"
    " RAISE EXCEPTION '% % %: % instead of %', source, sequence, previous, r, wanted;"
    " END IF; END $$;\n"
    "CREATE FUNCTION agree(s text, e text, m bigint, a bigint, p bigint, f bigint, n bigint,"
    " l bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT EXISTS (SELECT FROM inbox_stream WHERE stream = s AND epoch = e AND mark = m"
    "  AND applied = a AND passed_over = p AND forgone = f AND announced = n AND lost = l) THEN"
    " RAISE EXCEPTION '% % % % % % % % instead of %', s, e, m, a, p, f, n, l,"
    "  (SELECT inbox_stream FROM inbox_stream WHERE stream = s);"
    " END IF; END $$;\n";

static void copy_example(FILE *to)
{
    char line[512];
    FILE *from = fopen("examples/inbox_postgres.sql", "r");

    assert_non_null(from);
    while (fgets(line, sizeof line, from) != NULL) {
        assert_true(fputs(line, to) >= 0);
    }
    assert_int_equal(fclose(from), 0);
}

/* [accept-1] [accept-8] [skip-1] */
static void test_postgres_judges_as_the_inbox_does(void **state)
{
    postgres *p = *state;
    char path[128], log[4000] = "";
    sender senders[3] = {{0, 0}, {0, 0}, {0, 0}};

    if (p->pid == 0) {
        skip();
    }
    uint64_t seed = choose_seed();
    (void)snprintf(path, sizeof path, "%s/script.sql", p->folder);
    p->script = fopen(path, "w");
    assert_non_null(p->script);
    copy_example(p->script);
    assert_true(fputs(checks, p->script) >= 0);
    assert_true(fputs("BEGIN;\n", p->script) >= 0);
    assert_int_equal(sqlite3_open(":memory:", &p->db), SQLITE_OK);
    assert_int_equal(inbox_open(p->db, NULL, &p->in), OUTBOX_OK);
    for (int i = 0; i < EVENTS; i++) {
        judge_one(p, &seed, senders);
    }
    assert_int_equal(inbox_inspect(p->db, print_stream, p->script, NULL, 0), OUTBOX_OK);
    assert_true(fputs("COMMIT;\n", p->script) >= 0);
    assert_int_equal(fclose(p->script), 0);
    assert_int_equal(chmod(path, 0644), 0);
    inbox_close(p->in);
    assert_int_equal(sqlite3_close(p->db), SQLITE_OK);
    if (psql(p, "script.sql", "script.out") != 0) {
        (void)snprintf(path, sizeof path, "%s/psql.log", p->folder);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        log[fread(log, 1, sizeof log - 1, file)] = '\0';
        assert_int_equal(fclose(file), 0);
        fail_msg("%s", strlen(log) > 1500 ? log + strlen(log) - 1500 : log);
    }
}

/* [accept-7] */
static void test_postgres_refuses_what_is_no_event_of_an_outbox(void **state)
{
    postgres *p = *state;

    if (p->pid == 0) {
        skip();
    }
    write_file(p, "wrong.sql", "SELECT inbox_accept('outbox://a/b', 2, 1);");
    assert_int_not_equal(psql(p, "wrong.sql", "wrong.out"), 0);
    write_file(p, "wrong.sql", "SELECT inbox_accept('outbox://a/b/c', 2, 2);");
    assert_int_not_equal(psql(p, "wrong.sql", "wrong.out"), 0);
    write_file(p, "wrong.sql", "SELECT inbox_accept('outbox://a/b/c', 2, NULL);");
    assert_int_not_equal(psql(p, "wrong.sql", "wrong.out"), 0);
    write_file(p, "right.sql", "SELECT inbox_accept('outbox://a/b/c', 2, 1);");
    assert_int_equal(psql(p, "right.sql", "right.out"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_postgres_judges_as_the_inbox_does),
        cmocka_unit_test(test_postgres_refuses_what_is_no_event_of_an_outbox),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
