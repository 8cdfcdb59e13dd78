#ifndef PL_BENCH_LOAD_DIALECT_H
#define PL_BENCH_LOAD_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/options.h"
#include "server/base/buf.h"

/* What is said to each kind of server. Everything else in the load generator is the same for all. */

/* What a dialect knows of one client. */
struct identity {
    const struct options *options;
    const struct client_kind *kind;
    uint32_t user, channel, topic; /* counted from 0 */
    char queue_id[72];             /* Parley's; empty: none yet */
    uint64_t last_event_id;
    char validators[160]; /* Nchan's: header lines that say where a poll goes on */
};

struct dialect {
    const char *name;
    /* Appends the request that comes first and is answered once; NULL: there is none. */
    void (*registration)(const struct identity *who, struct pl_buf *out);
    void (*registered)(struct identity *who, const char *head, const char *body, size_t len);
    void (*upgrade)(const struct identity *who, struct pl_buf *out);
    /* A message before the client is open: true if it is now. May append what to send. NULL: open with the 101. */
    bool (*greet)(struct identity *who, const uint8_t *data, size_t len, struct pl_buf *send);
    /* A message without events: appends an answer if it wants one. NULL: none does. */
    void (*chatter)(struct identity *who, const uint8_t *data, size_t len, struct pl_buf *send);
    void (*poll)(const struct identity *who, struct pl_buf *out);
    void (*polled)(struct identity *who, const char *head, const char *body, size_t len);
    /* The request that publishes events with these marks, more than one only if it is able to. */
    void (*publish)(const struct options *o, uint32_t group, const char *marks, size_t count,
                    struct pl_buf *out);
};

const struct dialect *dialect_find(const char *name); /* NULL: none */

/* Publishes into Redis itself, as nodes do: FCALL, and a PING whose answer ends it. */
void dialect_feed(const struct options *o, uint32_t group, const char *marks, size_t count,
                  struct pl_buf *out);

/* Appends a masked frame, as clients send them. */
void dialect_frame(struct pl_buf *out, uint8_t opcode, const void *data, size_t len);

/* An HTTP answer at p: its length in all, 0 if it is incomplete. */
struct answer {
    const char *head, *body;
    size_t head_len, body_len;
    int status;
};
size_t dialect_answer(const uint8_t *p, size_t len, struct answer *ret);

#endif
