/* SPDX-License-Identifier: MIT
 *
 * child.c - starts programs for a test and sees to it that none of them stays behind.
 *
 * Every child that runs is in the table `running`; it leaves it when its end has been taken. What
 * is in the table at exit is killed. After a crash of the test program the kernel does that.
 */
#include "child.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN_MAX 32
#define STOP_PATIENCE_MS 30000
#define COMMAND_WORDS_MAX 64
#define COMMAND_TEXT_MAX 8192

static pid_t running[CHILDREN_MAX];

long long clock_ms(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC, &now);

    assert(rc == 0);
    (void)rc;
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void pause_ms(int ms)
{
    long long end = clock_ms() + ms;

    for (long long left = ms; left > 0; left = end - clock_ms()) {
        int rc = poll(NULL, 0, (int)left);
        assert(rc == 0 || errno == EINTR);
        (void)rc;
    }
}

/* ---- The table of what runs ------------------------------------------------------------------ */

static void kill_what_runs(void)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (running[i] > 0 && kill(running[i], SIGKILL) == 0) {
            (void)waitpid(running[i], NULL, 0);
        }
        running[i] = 0;
    }
}

static void add_running(pid_t pid)
{
    static int registered;

    if (!registered) {
        assert_int_equal(atexit(kill_what_runs), 0);
        registered = 1;
    }
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (running[i] == 0) {
            running[i] = pid;
            return;
        }
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    fail_msg("more than %d programs run at the same time", CHILDREN_MAX);
}

static void remove_running(pid_t pid)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (running[i] == pid) {
            running[i] = 0;
        }
    }
}

/* ---- Programs of another machine ------------------------------------------------------------- */

/* What is executed, and the memory of its words. */
typedef struct command {
    const char *arguments[COMMAND_WORDS_MAX];
    char emulator[COMMAND_TEXT_MAX];
    char self[PATH_MAX];
} command;

static void add_word(command *c, const char *word)
{
    int count = 0;

    while (c->arguments[count] != NULL) {
        count++;
    }
    assert_true(count < COMMAND_WORDS_MAX - 1);
    c->arguments[count] = word;
}

/* The emulator is this machine's: to it /proc/self/exe would be itself. */
static const char *name_for_emulator(command *c, const char *program)
{
    if (strcmp(program, CHILD_SELF) != 0) {
        return program;
    }
    ssize_t size = readlink(CHILD_SELF, c->self, sizeof(c->self) - 1);
    assert_true(size > 0);
    c->self[size] = '\0';
    return c->self;
}

static int is_of_the_build(const char *program)
{
    const char *build = getenv("BUILD");

    return strcmp(program, CHILD_SELF) == 0 ||
           (strchr(program, '/') != NULL &&
            strstr(program, build != NULL ? build : "build") != NULL);
}

static void fill_command(command *c, const char *const *arguments)
{
    const char *emulator = getenv("EMULATOR");
    char *rest = NULL;

    memset(c, 0, sizeof(*c));
    if (emulator != NULL && is_of_the_build(arguments[0])) {
        assert_true(strlen(emulator) < sizeof(c->emulator));
        strcpy(c->emulator, emulator);
        for (char *word = strtok_r(c->emulator, " ", &rest); word != NULL;
             word = strtok_r(NULL, " ", &rest)) {
            add_word(c, word);
        }
        add_word(c, name_for_emulator(c, *arguments++));
    }
    while (*arguments != NULL) {
        add_word(c, *arguments++);
    }
}

/* ---- Start ----------------------------------------------------------------------------------- */

static int redirect(const char *name, int target)
{
    if (name == NULL) {
        return 0;
    }
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    return dup2(fd, target) < 0 ? -1 : 0;
}

/* In the child: calls only what is allowed between fork and exec in a program with threads. */
static void become(const char *folder, const char *output, const char *errors,
                   const char *const *arguments, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(126); /* the test died before the signal was asked for */
    }
    /* Paho's sockets would stay open in the child, and so would the connections behind them. An
     * old kernel without the call leaves them open; no test depends on it. */
    (void)syscall(SYS_close_range, 3U, ~0U, 0U);
    if (chdir(folder) != 0 || redirect(output, STDOUT_FILENO) != 0 ||
        redirect(errors, STDERR_FILENO) != 0) {
        _exit(126);
    }
    /* execvp() promises not to change the strings; its type is older than const. */
    (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
}

pid_t child_start(const char *folder, const char *output, const char *errors,
                  const char *const *arguments)
{
    static command c;
    pid_t parent = getpid();

    fill_command(&c, arguments);
    pid_t pid = fork();
    if (pid == 0) {
        become(folder, output, errors, c.arguments, parent);
    }
    if (pid < 0) {
        fail_msg("fork: %s", strerror(errno));
    }
    add_running(pid);
    return pid;
}

/* ---- End ------------------------------------------------------------------------------------- */

int child_await(pid_t pid, int timeout_ms, child_end *end)
{
    int status = 0;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        fail_msg("pidfd_open: %s", strerror(errno));
    }
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    int rc = poll(&ended, 1, timeout_ms);
    (void)close(fd);
    if (rc <= 0) {
        return -1;
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    remove_running(pid);
    *end = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return 0;
}

child_end child_stop(pid_t pid, int signal)
{
    child_end end = 0;

    assert_true(pid > 0);
    assert_int_equal(kill(pid, signal), 0);
    if (child_await(pid, STOP_PATIENCE_MS, &end) != 0) {
        fail_msg("process %d did not end after signal %d", (int)pid, signal);
    }
    return end;
}

child_end child_run(const char *folder, const char *output, const char *errors,
                    const char *const *arguments)
{
    child_end end = 0;
    pid_t pid = child_start(folder, output, errors, arguments);

    if (child_await(pid, STOP_PATIENCE_MS, &end) != 0) {
        (void)child_stop(pid, SIGKILL);
        fail_msg("%s did not end", arguments[0]);
    }
    return end;
}
