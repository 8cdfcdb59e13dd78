#ifndef PL_BUS_REDIS_ASK_PRIV_H
#define PL_BUS_REDIS_ASK_PRIV_H

#include <hiredis/hiredis.h>

#include "server/bus/redis_priv.h"

/* What has one answer, in four parts that share this header:
 *   redis_ask.c      calls: sent, kept, asked again, failed; the sequence
 *   redis_publish.c  publishes and changes: keys, replicas, what was answered last
 *   redis_queue.c    users, queues, who is connected
 *   redis_logged.c   is an event in these logs? */

enum {
    PL_REDIS_SAVE_CHUNK = 128, /* queues in one call */
    PL_REDIS_MARKS = 64,
    PL_REDIS_ERROR_KINDS = 8,
};

/* The queues of one parley_save. */
struct pl_redis_saves {
    size_t count;
    struct {
        struct pl_str id;
        int64_t generation;
    } queues[PL_REDIS_SAVE_CHUNK];
};

/* One command on its way to Redis and back. It is in one of the lists of pl_redis_ask. */
struct pl_redis_call {
    struct pl_list node;
    struct pl_redis_ask *ask; /* NULL: it is gone, and who asked has been answered */
    struct pl_redis_args args;
    struct pl_arena arena; /* what the answer needs */
    /* Once, with a good reply or NULL; a call that was put into a list again by it lives on. */
    void (*answer)(struct pl_redis_call *c, const struct redisReply *r);
    void (*sent)(struct pl_redis_call *c); /* each time it was sent; NULL: nothing to do */
    bool lost;           /* answer: it is the connection that failed, not the command */
    bool kept;           /* asked again when the connection is lost */
    uint64_t expires_ms; /* but not later than this */

    pl_bus_done_fn *done;
    pl_redis_once_fn *once;
    void *arg;
    struct pl_str name; /* of the user or queue */
    union {
        struct {
            size_t count; /* events */
            int64_t *ids;
            bool same;
            uint64_t wait;         /* the WAIT that must succeed; 0: none */
            struct pl_str channel; /* one of the last event's */
        } publish;
        struct pl_redis_saves *saves;
        struct pl_bus_queue claim;
        int64_t replicas; /* WAIT */
        pl_redis_text_fn *text;
        struct {
            pl_redis_logged_fn *done;
            int64_t id;
        } logged;
        pl_hub_ready_fn *read;
    } u;
};

/* A publish that was answered. */
struct pl_redis_answered {
    char *channel;
    size_t channel_len;
    int64_t id, epoch;
    char tag[9]; /* "": not known */
};

struct pl_redis_ask {
    struct pl_redis_bus *b;
    struct pl_list sent;       /* a reply is due */
    struct pl_list replicated; /* publishes that were answered with ids and need their WAIT */
    struct pl_list parked;     /* lost; asked again in this order */
    struct pl_list failed;     /* never sent; answered on the next turn */
    struct pl_timer expiry, soon;
    size_t kept_count, kept_bytes;
    bool waiting;          /* a WAIT is under way */
    uint64_t waits;        /* sent so far */
    uint64_t waits_wanted; /* the newest that some publish needs */
    bool closing;
    struct pl_redis_answered marks[PL_REDIS_MARKS];
    size_t mark_next;
    struct {
        char word[24];
        uint64_t logged_ms;
    } errors[PL_REDIS_ERROR_KINDS];
};

/* ---- redis_ask.c ---- */

struct pl_redis_call *pl_redis__call_new(struct pl_redis_ask *a,
                                         void (*answer)(struct pl_redis_call *c,
                                                        const struct redisReply *r));
/* One that is in no list. */
void pl_redis__call_free(struct pl_redis_call *c);
/* A copy of s that lives as long as the call. */
struct pl_str pl_redis__call_copy(struct pl_redis_call *c, struct pl_str s);
/* Sends it; false: the bus is away, the call is still the caller's. */
bool pl_redis__call_send(struct pl_redis_call *c);
/* Sends it, or answers it with NULL on the next turn. */
void pl_redis__call_ask(struct pl_redis_call *c);
/* Sends it, or frees it: nobody waits for it. */
void pl_redis__call_tell(struct pl_redis_call *c);
/* A kept call that is in no list: asked again when the bus is back, or answered with NULL if it is
 * too old. */
void pl_redis__call_park(struct pl_redis_call *c);

/* ---- redis_publish.c ---- */

void pl_redis__forget_marks(struct pl_redis_ask *a);

/* ---- redis_queue.c ---- */

int64_t pl_redis__user_ttl_ms(const struct pl_config *cfg);
/* Tells the hub what parley_user answered; false: it is nothing of the kind. */
bool pl_redis__tell_user(struct pl_redis_bus *b, struct pl_str user_id,
                         struct redisReply *const *elements, size_t count);

#endif
