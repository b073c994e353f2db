/* SPDX-License-Identifier: MIT
 *
 * put.c - puts an event in a database in memory, and fails where it is not there then.
 */
#include <outbox/outbox.h>

#include <sqlite3.h>

int main(void)
{
    sqlite3 *db = NULL;
    outbox *box = NULL;
    outbox_statistics now = {0};
    const outbox_event event = {.topic = "board/up", .payload = "1", .payload_len = 1};
    int failed = sqlite3_open(":memory:", &db) != SQLITE_OK ||
                 outbox_attach(db, NULL, &box) != OUTBOX_OK ||
                 outbox_put(box, &event, NULL) != OUTBOX_OK ||
                 outbox_stats(box, &now) != OUTBOX_OK || now.pending != 1;
    outbox_detach(box);
    return sqlite3_close(db) != SQLITE_OK || failed;
}
