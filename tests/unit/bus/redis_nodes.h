#ifndef TESTS_UNIT_BUS_REDIS_NODES_H
#define TESTS_UNIT_BUS_REDIS_NODES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "protocol/status.h"
#include "server/base/metrics.h"
#include "server/bus/redis_priv.h"
#include "tests/unit/bus/redis_server.h"

/* Several nodes of one cluster in one process: hubs on redis buses, all on one loop and one wheel,
 * and the redis-server between them. Time is the real one. */

enum {
    RN_MAX = 4
};

struct rn_node {
    struct pl_config *cfg; /* may be changed at any time */
    struct pl_hub *hub;
    struct pl_redis_bus *bus;
    char name[24];
};

struct rn {
    struct rs_server redis;
    struct rs_loop loop;
    struct rn_node nodes[RN_MAX];
    int count;
};

/* A server without nodes; cmocka setup and teardown. *state is the struct rn. */
int rn_set_up(void **state);
int rn_tear_down(void **state);

/* A node with bus.timeout 500ms; does not wait for anything. */
struct rn_node *rn_add(struct rn *c);
/* As the process would end it. */
void rn_remove(struct rn *c, struct rn_node *n);
/* So many nodes more, all of them live. Returns the first. */
struct rn_node *rn_start(struct rn *c, int count);

bool rn_until(struct rn *c, bool (*cond)(void *arg), void *arg, int ms);
void rn_pass(struct rn *c, int ms);
void rn_wait_live(struct rn *c); /* all nodes, within 5 s */
void rn_wait_up(struct rn *c, struct rn_node *n);

/* An integer reply; -1 for anything else. */
int64_t rn_integer(struct rn *c, const char *format, const char *arg);
/* What the log of a channel holds: bodies, each ended by a newline, oldest first. The caller frees
 * it. */
char *rn_log(struct rn *c, const char *channel, size_t *ret_count);

/* What pl_bus_done_fn said. */
struct rn_outcome {
    int calls, status;
    int64_t ids[8];
    size_t count;
};
void rn_done(void *arg, int status, const int64_t *ids, size_t count);
/* Turns until it has been called; fails after 5 s. Returns the status. */
int rn_wait(struct rn *c, struct rn_outcome *o);

/* An event for community:1 with this body. */
void rn_publish(struct rn_node *n, const char *body, const struct pl_bus_key *key,
                struct rn_outcome *o);

#endif
