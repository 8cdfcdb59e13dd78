#ifndef PL_BUS_REDIS_PIPE_H
#define PL_BUS_REDIS_PIPE_H

#include "server/bus/redis_conn.h"

/* What was asked on one connection and is not answered, and the bytes that answer it: which reply
 * belongs to which call. Does no I/O and calls nobody. For redis_conn.c only. */
struct redisReader;

struct pl_redis__call {
    pl_redis_reply_fn *fn; /* NULL: answered by pushes */
    void *arg;
    uint64_t sent_ms;
    uint64_t sent_us; /* of the one whose round trip is measured; 0: it is not */
    size_t pushes;    /* fn NULL: how many are still to come */
};

struct pl_redis__pipe {
    bool pushes;                  /* may be subscribed */
    bool timing;                  /* the round trip of one of the calls is being measured */
    struct pl_redis__call *calls; /* a ring */
    size_t head, count, cap;
    struct redisReader *reader; /* NULL until the first byte */
    size_t partial;             /* bytes fed since the last whole reply */
    size_t peak;                /* the most that was, in this reader */
    char error[160];
};

/* Drops the calls as well. {.pushes = …} is an empty pipe. */
void pl_redis__pipe_done(struct pl_redis__pipe *p);
/* Forgets half a reply: the bytes that follow are another connection's. */
void pl_redis__pipe_cut(struct pl_redis__pipe *p);

void pl_redis__pipe_asked(struct pl_redis__pipe *p, const struct pl_redis__call *call);
/* Takes the oldest call that is unanswered. False: there is none. */
bool pl_redis__pipe_take(struct pl_redis__pipe *p, struct pl_redis__call *ret);
/* The same, but leaves it; NULL: none. */
const struct pl_redis__call *pl_redis__pipe_oldest(const struct pl_redis__pipe *p);

enum pl_redis__next {
    PL_REDIS__MORE,   /* nothing whole: feed */
    PL_REDIS__ANSWER, /* *ret answers *ret_call, which was taken */
    PL_REDIS__PUSH,   /* *ret is a push */
    PL_REDIS__BROKEN, /* not RESP, or not asked for, or too big: p->error says what */
};
/* What is fed is read by pl_redis__pipe_next, until there is no more. */
void pl_redis__pipe_feed(struct pl_redis__pipe *p, const char *bytes, size_t len);
/* *ret is the caller's: freeReplyObject. */
enum pl_redis__next pl_redis__pipe_next(struct pl_redis__pipe *p, struct redisReply **ret,
                                        struct pl_redis__call *ret_call);

#endif
