/* SPDX-License-Identifier: MIT
 *
 * wal.c - syncs the WAL file, and writes it anew where a sync has failed.
 *
 * When a sync fails, the kernel may take the pages for clean that it could not write. The next sync
 * then succeeds without them: it proves nothing, and a power cut loses commits that everybody has
 * seen. What is read is still right as long as the pages are in memory, so all of the file is read
 * and written once more, which makes them dirty again; a sync that succeeds after that is a proof.
 * (A checkpoint would be none: behind a WAL with lost pages in its middle, a power cut would put
 * old versions of some pages over the new ones in the database.)
 *
 * Under the write lock nobody adds to the WAL or begins it anew, and readers meet the same bytes at
 * every moment. A crash in between leaves the WAL as it was: in doubt, like before.
 */
#include "wal.h"

#include "always.h"

#include <stddef.h>
#include <stdint.h>

enum { WAL_HEADER = 32, FRAME_HEADER = 24, PAGE_MIN = 512, PAGE_MAX = 65536 };

/* SQLite knows this control itself. In WAL the file is open as long as the connection has read the
 * database, and nobody else can take a connection that is open out of WAL. */
static int find_wal(sqlite3 *db, sqlite3_file **wal)
{
    int result = sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, wal);
    if (OB_NEVER(result == SQLITE_OK && (!*wal || !(*wal)->pMethods)))
        result = SQLITE_IOERR_FSYNC;
    return result;
}

static int sync_file(sqlite3_file *wal)
{
    return wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
}

int ob_wal_sync(sqlite3 *db)
{
    sqlite3_file *wal = NULL;
    int result = find_wal(db, &wal);
    return OB_ALWAYS(result == SQLITE_OK) ? sync_file(wal) : result;
}

static int renew_piece(sqlite3_file *wal, void *piece, int size, sqlite3_int64 at)
{
    int result = wal->pMethods->xRead(wal, piece, size, at);
    return result == SQLITE_OK ? wal->pMethods->xWrite(wal, piece, size, at) : result;
}

/* In the pieces in which SQLite writes them: a VFS may rely on that, to encrypt for instance. What
 * is left behind the last whole frame belongs to no commit. */
static int renew_frames(sqlite3_file *wal, int page_size, sqlite3_int64 end)
{
    int result = SQLITE_OK;
    sqlite3_int64 at = WAL_HEADER;
    void *page = sqlite3_malloc(page_size);
    if (!page)
        return SQLITE_NOMEM;
    while (result == SQLITE_OK && at + FRAME_HEADER + page_size <= end) {
        result = renew_piece(wal, page, FRAME_HEADER, at);
        if (result == SQLITE_OK)
            result = renew_piece(wal, page, page_size, at + FRAME_HEADER);
        at += FRAME_HEADER + page_size;
    }
    sqlite3_free(page);
    return result;
}

static int renew_file(sqlite3_file *wal)
{
    unsigned char header[WAL_HEADER];
    sqlite3_int64 end = 0;
    int result = wal->pMethods->xFileSize(wal, &end);
    if (result != SQLITE_OK || end < WAL_HEADER)
        return result; /* an empty one holds no commit */
    result = renew_piece(wal, header, WAL_HEADER, 0);
    if (result != SQLITE_OK)
        return result;
    uint32_t page_size = (uint32_t)header[8] << 24 | (uint32_t)header[9] << 16 |
                         (uint32_t)header[10] << 8 | (uint32_t)header[11];
    if (page_size < PAGE_MIN || page_size > PAGE_MAX)
        return SQLITE_CORRUPT;
    return renew_frames(wal, (int)page_size, end);
}

int ob_wal_renew(sqlite3 *db)
{
    sqlite3_file *wal = NULL;
    int result = find_wal(db, &wal);
    if (OB_ALWAYS(result == SQLITE_OK))
        result = renew_file(wal);
    return result == SQLITE_OK ? sync_file(wal) : result;
}
