/* SPDX-License-Identifier: MIT
 *
 * child.h - the programs that a test starts: mosquitto, mosquitto_sub, openssl, sqlite3, itself.
 *
 * Nothing that was started here outlives the test program: what is still running is killed, by its
 * number, at exit, and the kernel kills it (PR_SET_PDEATHSIG) when the program dies by a signal.
 * That signal is tied to the thread that started the child, so only the main thread may start one.
 *
 * Where the test was compiled for another machine, EMULATOR in the environment is the command, in
 * words, that runs its programs: itself and those in $BUILD. All others are this machine's.
 */
#ifndef OUTBOX_TESTS_CHILD_H
#define OUTBOX_TESTS_CHILD_H

#include <sys/types.h>

/* How a child ended: its exit status, or minus the number of the signal that killed it. */
typedef int child_end;

/* Starts `arguments[0]` (looked up in PATH), in `folder`. Standard output and error go to the
 * files of these names in the folder; NULL: they stay those of the test. Fails the test when the
 * child cannot be made; a program that cannot be executed ends with 127. */
pid_t child_start(const char *folder, const char *output, const char *errors,
                  const char *const *arguments);

/* The test program itself, which is then told by its arguments what to be. */
#define CHILD_SELF "/proc/self/exe"

/* Waits until the child has ended. Returns 0 and fills `end`, or -1 when it still runs after
 * `timeout_ms`. */
int child_await(pid_t pid, int timeout_ms, child_end *end);

/* Sends the signal and waits for the end. Fails the test when it does not end in 30 seconds. */
child_end child_stop(pid_t pid, int signal);

/* Runs a program to its end and returns how it ended. */
child_end child_run(const char *folder, const char *output, const char *errors,
                    const char *const *arguments);

/* Milliseconds of a clock that never goes back. */
long long clock_ms(void);

/* Lets `ms` milliseconds pass, whatever signals come. For pauses that are the subject of a test,
 * and between two looks at something that cannot be awaited. */
void pause_ms(int ms);

#endif
