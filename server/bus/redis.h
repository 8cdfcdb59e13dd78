#ifndef PL_BUS_REDIS_H
#define PL_BUS_REDIS_H

#include "server/base/config.h"
#include "server/bus/redis_url.h"
#include "server/core/bus.h"
#include "server/core/hub.h"

/* The bus of many nodes, on Redis 7.0 or newer: ids, logs and queues live there (parley.lua), and
 * events reach the nodes that have their channels open by Pub/Sub.
 *
 * Two connections: one for commands, one for Pub/Sub. The stream that the core sees is fed in one of
 * three ways (redis_feed.c): LIVE, from Pub/Sub; LOGS, by reading the logs of the open channels
 * again and again, when Pub/Sub is away or not proven; DOWN, when commands are not answered either: the
 * core is paused. From DOWN and LOGS to LIVE it goes over a last reading of the logs, so nothing is
 * missed and nothing told twice. */
struct pl_redis_bus;
struct uv_loop_s;

extern const struct pl_bus_ops pl_redis_bus_ops;

struct pl_redis_bus_options {
    const struct pl_config *cfg;
    const struct pl_redis_url *url; /* copied */
    const char *node;               /* unique; the caller's */
    const char *address; /* where clients reach this node, for `parley nodes`; the caller's */
    struct pl_wheel *wheel;
};
struct pl_redis_bus *pl_redis_bus_new(const struct pl_redis_bus_options *o);
/* Once, before anything is asked: the hub that is fed, which is paused at once, and the loop. Connects. */
void pl_redis_bus_connect(struct pl_redis_bus *b, struct pl_hub *h, struct uv_loop_s *loop);
/* After pl_hub_leave_bus and before the hub is freed. Open requests are answered with PL_ERR_BUS or
 * dropped; the loop must run once more. */
void pl_redis_bus_free(struct pl_redis_bus *b);

/* When the first event told since the last call was given its number: unix time in ms, by this
 * machine's clock as far as the clocks' difference is known; 0: none was told. */
int64_t pl_redis_bus_turn_began(struct pl_redis_bus *b);

enum pl_redis_feed_mode {
    PL_REDIS_DOWN,
    PL_REDIS_LOGS,
    PL_REDIS_LIVE
};
/* For /health, /readyz and /metrics. */
struct pl_redis_bus_status {
    enum pl_redis_feed_mode feed;
    bool ready; /* epoch known, a canary came back, good policy: fit to serve */
    const char *reasons
        [4]; /* why not ready: "bus_unavailable", "bus_pubsub", "bus_canary", "bus_eviction_policy",
                            "bus_refuses_writes" */
    size_t reason_count;
    char error[160];      /* of the last failed try; "" */
    int breaker;          /* 0 closed, 1 half-open, 2 open */
    uint64_t outstanding; /* commands without an answer yet */
};
void pl_redis_bus_status(const struct pl_redis_bus *b, struct pl_redis_bus_status *ret);

/* Who is connected, on all nodes: ids of queues with node, transport, since. done is called once with an array
 * encoded in JSON ([{"queue_id":…,"node":…,"transport":…,"since":ms}]), or with PL_ERR_BUS. */
typedef void pl_redis_text_fn(void *arg, int status, struct pl_str json);
void pl_redis_bus_connections(struct pl_redis_bus *b, struct pl_str user_id, pl_redis_text_fn *done,
                              void *arg);
/* Looks for an event in the logs of these channels (at least one). done is called once: PL_OK with the
 * event, valid during the call, or NULL if none has it; PL_ERR_BUS. */
typedef void pl_redis_logged_fn(void *arg, int status, const struct pl_bus_event *e);
void pl_redis_bus_logged(struct pl_redis_bus *b, const struct pl_str *channels, size_t count,
                         int64_t id, pl_redis_logged_fn *done, void *arg);

#endif
