#ifndef PL_BUS_REDIS_CONN_H
#define PL_BUS_REDIS_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"
#include "server/base/buf.h"
#include "server/base/wheel.h"
#include "server/bus/redis_url.h"

/* The life of one connection to Redis: find (name resolution, Sentinel), connect, AUTH, SELECT,
 * serve, lose, and again after a pause with full jitter. hiredis is the codec; the socket is
 * libuv's. Nothing blocks. Commands are pipelined: everything written in a loop turn leaves in one
 * write. Replies come in order; push messages (Pub/Sub) are told apart.
 *
 * Callbacks run on the loop, never from inside a function of this file, but for those of calls that
 * pl_redis_conn_free drops. */
struct pl_redis_conn;
struct redisReply;
struct uv_loop_s;

enum pl_redis_state {
    PL_REDIS_WAITING,    /* lost, or never there: pause before the next try (breaker open) */
    PL_REDIS_CONNECTING, /* from resolving until AUTH, SELECT, ROLE, PING are answered (half-open) */
    PL_REDIS_UP,         /* commands are served (closed) */
};

struct pl_redis_conn_options {
    const struct pl_redis_url *url; /* the caller's, as long as the connection lives */
    struct uv_loop_s *loop;
    struct pl_wheel *wheel;
    uint64_t (*now_ms)(void *arg); /* monotonic, the wheel's */
    void *arg;                     /* first argument of all callbacks */
    const char *label; /* "commands", "pubsub": for logs and CLIENT SETNAME parley-<label> */
    int64_t connect_timeout_ms; /* from resolving until up */
    int64_t
        command_timeout_ms; /* the oldest unanswered command may wait so long; then the connection
                                    * is given up. 0: no limit (Pub/Sub) */
    int64_t backoff_ms,
        backoff_max_ms; /* full jitter: uniform in (0, min(max, backoff x 2^tries)]; tries
                                         * restart after a connection that lived 5 s */
    void (*up)(void *arg);
    /* Not called for tries that failed. reason: a phrase. Calls unanswered get NULL before it. */
    void (*down)(void *arg, const char *reason);
    /* A push: an array beginning with "message", "subscribe", "unsubscribe" (RESP2). NULL: this
     * connection has none; what comes unasked closes it. Valid during the call. */
    void (*push)(void *arg, const struct redisReply *r);
};

struct pl_redis_conn *pl_redis_conn_new(const struct pl_redis_conn_options *o);
/* Unanswered calls are answered with NULL. Closes its handles: the loop must run once more. */
void pl_redis_conn_free(struct pl_redis_conn *c);
enum pl_redis_state pl_redis_conn_state(const struct pl_redis_conn *c);
/* Why the last try or connection failed: "connection refused"; "" while up. */
const char *pl_redis_conn_error(const struct pl_redis_conn *c);
/* Commands sent and not answered. */
size_t pl_redis_conn_outstanding(const struct pl_redis_conn *c);
/* Closes the socket and begins again at once (another primary; a stopped clock), or after a pause if
 * it had lived less than 5 s and was not the first. down is called, later. */
void pl_redis_conn_reset(struct pl_redis_conn *c, const char *reason);

/* A command being put together. Reusable after init. */
struct pl_redis_args {
    struct pl_buf bytes; /* the arguments in RESP, without the leading count */
    size_t count;
};
void pl_redis_args_done(struct pl_redis_args *a);
void pl_redis_arg(struct pl_redis_args *a, const void *bytes, size_t len);
void pl_redis_arg_str(struct pl_redis_args *a, struct pl_str s);
void pl_redis_arg_cstr(struct pl_redis_args *a, const char *s);
void pl_redis_arg_int(struct pl_redis_args *a, int64_t n);

/* r: the reply (an error reply included: r->type is REDIS_REPLY_ERROR), valid during the call; NULL: the
 * connection was lost first, whether it was carried out is not known. */
typedef void pl_redis_reply_fn(void *arg, const struct redisReply *r);
/* False: not up, nothing was sent and fn is not called. fn NULL: for SUBSCRIBE and UNSUBSCRIBE, whose answers
 * are pushes; refused by Redis, the connection is closed. */
bool pl_redis_call(struct pl_redis_conn *c, const struct pl_redis_args *a, pl_redis_reply_fn *fn,
                   void *arg);

#endif
