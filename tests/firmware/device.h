/* SPDX-License-Identifier: MIT
 *
 * device.h - a whole device on a simulated flash: log, VFS, SQLite, outbox, forwarder, and a broker
 * that takes everything; with the history of what happened, against which each restart is judged.
 *
 * The application counts: reading n and event n belong to one transaction. So it is plain what must
 * be there after a power cut: all that was committed, of the transaction that was under way all or
 * nothing, and nothing less than what the broker has been sent.
 */
#ifndef OUTBOX_DEVICE_H
#define OUTBOX_DEVICE_H

#include "nor_sim.h"

#include "cortex_m/flash_vfs.h"

#include <outbox/forwarder.h>

struct settings {
    uint32_t sector_size, sectors, unit, page_size;
    uint32_t pages, batch_pages; /* pages 0: as many as the flash can hold */
    int per_transaction;
    int ballast;     /* rows of another table, which fill a page of 512 bytes each */
    int rewrites;    /* each transaction also changes so many of them */
    int only_events; /* no readings */
    const char *pragmas;
    int take_lone_pages;
};

/* Page 512, sectors of 4 KiB, safe pragmas, one event in a transaction. */
struct settings device_settings(void);

struct history {
    int committed; /* readings and events of transactions whose COMMIT succeeded */
    int attempted; /* and of the one that is under way, or whose COMMIT failed */
    int received;  /* the broker has events 1 to this one, each once at least */
    int duplicates;
    const char *complaint; /* the first thing that was wrong, or NULL */
};

struct device {
    struct settings settings;
    struct nor_sim nor;
    struct history history;
    struct {
        outbox_link link;
        bool is_open, is_opened;
        uint32_t tokens[256];
        int first, end;
    } broker;
    outbox_port port;
    uint32_t now_ms;
    bool is_offline;
    uint64_t *memory; /* of the log */
    void *forwarder_memory;
    char name[16];
    outbox_flash_log *log;
    outbox_flash_vfs vfs;
    sqlite3 *db;
    outbox *box;
    outbox_forwarder *forwarder;
    uint32_t troubles; /* reported by the log */
    int last_code;     /* of the last call that failed */
};

/* Gives SQLite its memory; once per program. */
void device_begin(void);

void device_init(struct device *device, const struct settings *settings, const char *name);
void device_free(struct device *device);

/* Mounts, opens, makes the application's table and the outbox. False: it cannot, see
 * `last_code`. */
bool device_start(struct device *device);
/* Leaves everything without a word, as a power cut does, but for memory. */
void device_stop(struct device *device);

/* One transaction of the application, then some steps of the forwarder. False: the power is gone,
 * or something failed. */
bool device_work(struct device *device);
void device_step(struct device *device, int steps);
/* Until the broker has all, and the table is empty. False: that does not come. */
bool device_drain(struct device *device);

int64_t device_number(struct device *device, const char *sql); /* -1: it failed */

/* Judges the flash as it is: integrity, nothing lost, nothing invented, the rest is delivered in
 * order, and work goes on. NULL, or what is wrong, or that the power is gone. The device must be
 * stopped. */
const char *device_judge(struct device *device);

#endif
