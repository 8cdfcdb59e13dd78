#ifndef PL_BUS_REDIS_CONN_PRIV_H
#define PL_BUS_REDIS_CONN_PRIV_H

#include "server/bus/redis_pipe.h"

/* What redis_conn.c (sockets, and the life of a connection) and redis_sentinel.c (who is primary)
 * share. */
enum {
    PL_REDIS__REASON_SIZE = 160,
    PL_REDIS__TRIES_MAX = 30, /* more do not lengthen a pause */
};

/* What a link is for: who hears of it. Whoever hears `lost` closes it. */
struct pl_redis__role {
    void (*opened)(struct pl_redis_conn *c);
    void (*lost)(struct pl_redis_conn *c, const char *reason);
    void (*push)(struct pl_redis_conn *c, const struct redisReply *r);
};

/* From a name to a socket that is written and read. */
struct pl_redis__link {
    struct pl_redis_conn *c;
    const struct pl_redis__role *role;
    struct sock *sock;
    struct lookup *lookup;
    bool writing;
    struct pl_buf waiting; /* to be written after what is being written */
    struct pl_redis__pipe pipe;
};

struct pl_redis_conn {
    struct pl_redis_conn_options o;
    enum pl_redis_state state;
    bool freed; /* by the user; the memory goes when libuv has closed `later` */
    char error[PL_REDIS__REASON_SIZE];

    struct pl_redis__link main;
    struct pl_redis_host primary; /* what main connects to */
    size_t setup_left;            /* replies until up */
    uint64_t up_ms;
    unsigned tries;
    bool last_chance;      /* the oldest call is overdue, unless its reply has just arrived */
    struct pl_timer phase; /* WAITING: the next try; CONNECTING: the end of this one */
    struct pl_timer overdue;

    /* What a function may not do at once, for it would call back. */
    struct uv_timer_s *later;
    bool broken;  /* it was up and was lost: calls and `down` are to be told */
    bool at_once; /* the next try is to come without a pause */
    char broken_reason[PL_REDIS__REASON_SIZE];

    struct pl_redis__link question; /* to a sentinel: who is primary */
    int sentinel;                   /* the one to be asked first */
    int asked;                      /* in this try */
    struct pl_timer share;
    struct pl_redis__link watch; /* to a sentinel: who becomes primary */
    int watched;
    unsigned watch_tries;
    struct pl_timer watching; /* the next try, or the end of this one */
};

/* ---- redis_conn.c ---- */

void pl_redis__set_timer(struct pl_redis_conn *c, struct pl_timer *t, int64_t in_ms);
int64_t pl_redis__pause_ms(const struct pl_redis_conn *c, unsigned tries);
void pl_redis__link_init(struct pl_redis__link *l, struct pl_redis_conn *c,
                         const struct pl_redis__role *role, bool pushes);
/* What comes of it is told by the role, possibly before this returns. */
void pl_redis__link_dial(struct pl_redis__link *l, const struct pl_redis_host *h);
/* Calls that are unanswered stay in the pipe. */
void pl_redis__link_close(struct pl_redis__link *l);
bool pl_redis__link_in_use(const struct pl_redis__link *l);
/* fn gets the connection as its arg. That writing failed is told by the role, later. */
void pl_redis__link_say(struct pl_redis__link *l, const char *const *words, size_t count,
                        pl_redis_reply_fn *fn);
/* The primary was found. */
void pl_redis__found(struct pl_redis_conn *c, const struct pl_redis_host *primary);
void pl_redis__try_failed(struct pl_redis_conn *c, const char *why);
/* Ends what is there, from inside a function that may not call back: that comes with the next turn.
 * At once: and no pause after it. */
void pl_redis__end_later(struct pl_redis_conn *c, const char *reason, bool at_once);

/* ---- redis_sentinel.c ---- */

void pl_redis__sentinel_init(struct pl_redis_conn *c);
/* Asks who is primary: pl_redis__found or pl_redis__try_failed, possibly before this returns. */
void pl_redis__question_begin(struct pl_redis_conn *c);
void pl_redis__question_close(struct pl_redis_conn *c);
/* Hears from now on of another primary, as well as it can. Harmless if it does. */
void pl_redis__watch_begin(struct pl_redis_conn *c);
void pl_redis__watch_close(struct pl_redis_conn *c);

#endif
