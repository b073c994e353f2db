/* SPDX-License-Identifier: MIT
 *
 * support.h - what the unit tests share: a database in a temporary folder, a clock that stands
 * still, dice that always fall the same way, and a link without a broker behind it.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <outbox/forwarder.h>

#include <sqlite3.h>
#include <stdbool.h>

/* ---- A database ------------------------------------------------------------------------------ */

struct bench {
    char folder[64], path[96];
    sqlite3 *db;  /* the application's connection, in WAL unless told */
    outbox *box;  /* attached to it */
    sqlite3 *own; /* the forwarder's connection, opened by bench_forwarder() */
    void *memory;
    outbox_forwarder *forwarder;
};

/* Setup and teardown for cmocka; *state is a struct bench. */
int bench_open(void **state);
int bench_close(void **state);

/* The same with a journal mode; detaches and opens anew. */
void bench_reopen(struct bench *bench, const char *journal_mode, const char *synchronous);

sqlite3 *bench_connect(const struct bench *bench); /* another connection to the file */
void bench_in_utf_16(struct bench *bench);         /* the file anew; each text needs memory then */
/* Lets memory run out under each row of statements that begin so; NULL: no more. */
void bench_starve(sqlite3 *db, const char *start_of_sql);
void bench_sql(sqlite3 *db, const char *sql); /* must succeed */
int64_t bench_number(sqlite3 *db, const char *sql);
char *bench_text(sqlite3 *db, const char *sql); /* to be freed with sqlite3_free */
int64_t bench_put(struct bench *bench, const char *topic, const char *payload);

/* ---- A clock and dice ------------------------------------------------------------------------ */

struct fake_port {
    outbox_port port;
    uint32_t now_ms, dice;
    int warnings;
    char last_line[256];
};
void fake_port_init(struct fake_port *fake);

/* ---- A link ---------------------------------------------------------------------------------- */

#define FAKE_SENT_MAX 4096

struct fake_sent {
    uint32_t token;
    char topic[64];
    char payload[768];
    size_t payload_len;
    uint32_t expiry_seconds;
    int fire_and_forget;
    int64_t id, previous; /* of the CloudEvents document, -1 where there is none */
    char source[128];
};

struct fake_link {
    outbox_link link;
    int opens, closes, probes, flushes;
    int flushed;      /* so many of `sent` at the last flush */
    uint32_t next_ms; /* what it answers */
    int answered;     /* value of `opens` when OPENED was given last */
    int protocol;     /* that OPENED gives; 0: 5 */
    bool is_open;
    bool is_probed;        /* and not answered yet */
    bool refuse_open;      /* open() says DOWN */
    const char *refusal;   /* and CLOSED follows with this sentence, if it is not NULL */
    int odd_answers;       /* publishes that give a value which is none of port.h */
    int room;              /* publishes that are taken before AGAIN; -1: any number */
    size_t maximum_packet; /* publish says TOO_LARGE above this payload; 0: never */
    struct fake_sent sent[FAKE_SENT_MAX];
    int sent_count;
    outbox_link_event events[FAKE_SENT_MAX];
    int event_first, event_end;
    void (*on_publish)(void *context); /* called inside publish */
    void *on_publish_context;
};
void fake_link_init(struct fake_link *fake);
void fake_link_opened(struct fake_link *fake, unsigned receive_maximum);
void fake_link_acked(struct fake_link *fake, uint32_t token, int reason);
void fake_link_alive(struct fake_link *fake); /* answers a probe */
void fake_link_closed(struct fake_link *fake, const char *sentence);
void fake_link_hung_up(struct fake_link *fake, const char *sentence); /* closed, by the broker */

/* ---- A forwarder over all of it -------------------------------------------------------------- */

struct rig {
    struct bench *bench;
    struct fake_port port;
    struct fake_link link;
    uint32_t next_ms;
};

/* Makes the forwarder on a connection of its own (or the application's, if shared). */
void rig_start(struct rig *rig, struct bench *bench, const outbox_forwarder_config *config);
void rig_stop(struct rig *rig);
int rig_step(struct rig *rig);
/* Steps to ONLINE. */
void rig_connect(struct rig *rig, unsigned receive_maximum);
/* Lets time pass until the link is opened again, if it is not, and answers. */
void rig_reconnect(struct rig *rig, unsigned receive_maximum);
/* Lets time pass, step by step as the forwarder asks for. */
void rig_run(struct rig *rig, uint32_t ms);
/* Acks all that was sent since `from` with success and settles it. */
void rig_ack_from(struct rig *rig, int from);
outbox_statistics rig_stats(struct rig *rig);

#endif
