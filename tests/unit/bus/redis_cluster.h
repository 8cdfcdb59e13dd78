#ifndef PL_TESTS_UNIT_BUS_REDIS_CLUSTER_H
#define PL_TESTS_UNIT_BUS_REDIS_CLUSTER_H

#include "server/base/metrics.h"
#include "server/bus/redis_priv.h"
#include "tests/unit/bus/redis_server.h"
#include "tests/unit/core/loopback.h"

/* Several nodes of one Redis in one process, on the real clock: each is a loopback (a hub with its links) whose bus is the
 * redis bus. What loopback.h offers works on them; publishing and changing return when all nodes have heard of it. */

enum {
    RC_NODES = 4,
    RC_PATIENCE_MS = 5000
};

struct rc_node {
    struct loopback *lb; /* NULL: not started */
    struct pl_redis_bus *bus;
    char name[16];
};

struct rc_cluster {
    struct rs_server server;
    struct rs_loop loop;
    struct rc_node nodes[RC_NODES];
};
extern struct rc_cluster rc;

/* A server with these arguments (as rs_start), and no node yet. */
void rc_start(const char *const *args);
/* cmocka setup and teardown: a server with one live node, whose loopback *state is; ends whatever runs. */
int rc_start_one(void **state);
int rc_stop(void **state);

/* A node that may be configured (lb->cfg) before rc_connect. credentials: "user:password@", "" for none. */
struct rc_node *rc_node(const char *credentials);
void rc_connect(struct rc_node *n);
/* Both, and waits until it is live. */
struct rc_node *rc_live_node(void);
void rc_end(struct rc_node *n);

/* Turns until cond(arg) holds, or fails after RC_PATIENCE_MS. */
void rc_await(bool (*cond)(void *arg), void *arg, const char *what);
void rc_turn(int ms);
bool rc_is_live(void *node);
bool rc_is_logs(void *node);
bool rc_is_down(void *node);
bool rc_is_ready(void *node);
bool rc_is_not_ready(void *node);
#define RC_AWAIT(cond, arg) rc_await(cond, arg, #cond)
/* Does the node say so now? */
bool rc_has_reason(const struct rc_node *n, const char *reason);

/* Publishes on a node, without waiting; what came of it is in outcomes. */
enum {
    RC_OUTCOMES = 4096
};
struct rc_outcomes {
    size_t sent, answered, failed;
    int64_t ids[RC_OUTCOMES];
};
void rc_publish(struct rc_node *n, const struct lb_event *e, struct rc_outcomes *o);
bool rc_all_answered(void *outcomes);
/* The events a link was sent, all of them: exactly those that got an id, each once and in order. Waits for them. */
void rc_expect_all(struct lb_link *l, const struct rc_outcomes *o);
/* The events a link was sent are those after the first `from`, without a hole. Returns how many. */
size_t rc_check_some(const struct lb_link *l, const struct rc_outcomes *o, size_t from);

#endif
