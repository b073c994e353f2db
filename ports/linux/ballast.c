/* SPDX-License-Identifier: MIT
 *
 * ballast.c - room on the disk that is kept for the day on which it is full.
 *
 * A DELETE needs room before it frees any: the WAL grows by it, or a journal is written first. On a
 * full disk the forwarder could therefore never settle, and what is delivered would fill the disk
 * for ever. So a file beside the database holds some room, which is given up on that day.
 *
 * The file is DATABASE-outbox-ballast. It holds nothing that anybody reads, stays when the
 * forwarder ends, and may be deleted at any time. After a crash it may have any length: whoever
 * comes next looks how much is really allocated, and makes the rest or leaves it.
 */
#include "ballast.h"

#include "beside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SUFFIX "-outbox-ballast"

enum {
    DEFAULT_BYTES = 262144, /* what a database with SQLite's own WAL limit needed, as measured */
    AMPLE = 4,              /* made only where there is so many times its size */
    LOOK_MS = 1000,
    BLOCK = 512 /* of st_blocks */
};

static long long monotonic_ms(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* exists on every Linux */
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void say(const struct outbox_linux_ballast *ballast, outbox_level level, int code,
                const char *sentence)
{
    if (ballast->log)
        ballast->log(ballast->log_context, level, code, sentence);
}

/* Whether it is an ordinary file of one name. Another one was not made here: to cut or to fill what
 * somebody has linked to this name could do any harm. */
static bool is_ours(const struct stat *about)
{
    return S_ISREG(about->st_mode) && about->st_nlink == 1;
}

static bool has_room(const struct outbox_linux_ballast *ballast)
{
    struct statvfs about;
    return statvfs(ballast->database, &about) == 0 &&
           (uint64_t)about.f_bavail * about.f_frsize >= (uint64_t)ballast->bytes * AMPLE;
}

/* Where a file system cannot allocate without writing, it may also compress: so the bytes are such
 * that no file system can make them fewer. */
static bool write_noise(int fd, size_t bytes)
{
    uint64_t noise[512], state = 88172645463325252U; /* xorshift64, Marsaglia 2003 */
    for (size_t done = 0; done < bytes;) {
        for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise[i] = state;
        }
        size_t size = bytes - done < sizeof noise ? bytes - done : sizeof noise;
        ssize_t count = pwrite(fd, noise, size, (off_t)done);
        if (count <= 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

static bool allocate(int fd, size_t bytes)
{
    if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
        return true;
    return (errno == EOPNOTSUPP || errno == ENOSYS) && write_noise(fd, bytes);
}

/* Fills the open file, unless it is full already. */
static bool fill(const struct outbox_linux_ballast *ballast, int fd)
{
    struct stat about;
    if (fstat(fd, &about) != 0 || !is_ours(&about))
        return false;
    if ((uint64_t)about.st_blocks * BLOCK >= ballast->bytes &&
        (uint64_t)about.st_size >= ballast->bytes)
        return true;
    if (has_room(ballast) && allocate(fd, ballast->bytes))
        return true;
    /* A part of it would only be in the way. What cannot be cut now is given up with the rest. */
    bool cut = ftruncate(fd, 0) == 0;
    (void)cut;
    return false;
}

static void make(struct outbox_linux_ballast *ballast)
{
    struct stat database;
    ballast->look_at = monotonic_ms() + LOOK_MS;
    if (stat(ballast->database, &database) != 0)
        return;
    int fd = outbox_linux_beside_open(ballast->path, &database);
    if (fd < 0)
        return;
    ballast->is_kept = fill(ballast, fd);
    (void)close(fd); /* nothing was written that has to last */
}

bool outbox_linux_ballast_open(struct outbox_linux_ballast *ballast, const char *database,
                               unsigned bytes, outbox_log log, void *log_context)
{
    *ballast = (struct outbox_linux_ballast){.log = log, .log_context = log_context};
    if (bytes == OUTBOX_NEVER)
        return true;
    ballast->bytes = bytes ? bytes : DEFAULT_BYTES;
    ballast->database = strdup(database);
    ballast->path = outbox_linux_beside_name(database, SUFFIX);
    if (!ballast->database || !ballast->path) {
        outbox_linux_ballast_close(ballast);
        return false;
    }
    make(ballast);
    if (!ballast->is_kept)
        say(ballast, OUTBOX_LOG_INFO, OUTBOX_OK,
            "there is no room for the ballast; if the disk fills up, what is delivered may stay");
    return true;
}

void outbox_linux_ballast_close(struct outbox_linux_ballast *ballast)
{
    free(ballast->database);
    free(ballast->path);
    *ballast = (struct outbox_linux_ballast){.bytes = 0};
}

static bool cut(const char *path)
{
    struct stat about;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool done =
        fstat(fd, &about) == 0 && is_ours(&about) && about.st_blocks > 0 && ftruncate(fd, 0) == 0;
    (void)close(fd);
    return done;
}

bool outbox_linux_ballast_give_up(struct outbox_linux_ballast *ballast)
{
    if (!ballast->is_kept)
        return false;
    ballast->is_kept = false;
    ballast->look_at = monotonic_ms() + LOOK_MS;
    if (!cut(ballast->path))
        return false;
    say(ballast, OUTBOX_LOG_WARNING, OUTBOX_DISK_FULL,
        "the disk is full; the ballast was given up, so that what is delivered can be settled");
    return true;
}

void outbox_linux_ballast_renew(struct outbox_linux_ballast *ballast)
{
    if (ballast->bytes == 0 || ballast->is_kept || monotonic_ms() < ballast->look_at)
        return;
    ballast->look_at = monotonic_ms() + LOOK_MS;
    if (!has_room(ballast))
        return;
    make(ballast);
    if (ballast->is_kept)
        say(ballast, OUTBOX_LOG_INFO, OUTBOX_OK, "there is room again; the ballast was made anew");
}
