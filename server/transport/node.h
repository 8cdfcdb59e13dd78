#ifndef PL_TRANSPORT_NODE_H
#define PL_TRANSPORT_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/auth/auth.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/core/delivered.h"
#include "server/core/hub.h"
#include "server/net/net.h"

/* json: an array encoded in JSON, valid during the call; status is PL_OK or PL_ERR_BUS. */
typedef void pl_connections_fn(void *arg, int status, struct pl_str json);

/* e: NULL if none of the logs has it, valid during the call; status is PL_OK or PL_ERR_BUS. */
typedef void pl_logged_fn(void *arg, int status, const struct pl_bus_event *e);

/* How the bus is, for health pages. Strings are static or the bus's own. */
enum {
    PL_HEALTH_REASONS = 8
};
struct pl_bus_health {
    const char *type;                       /* "memory", "redis" */
    const char *status;                     /* "ok", "degraded" (slower: logs are read), "down" */
    const char *error;                      /* of the last try, while it is not ok; "" */
    const char *reasons[PL_HEALTH_REASONS]; /* why the node is not ready; for /readyz */
    size_t reason_count;
};

/* The workers of this node as one. */
struct pl_together {
    unsigned workers; /* that there should be */
    unsigned ready;
    unsigned renewed; /* of these, who was started by the binary that runs */
    uint64_t queues, pending_polls;
    bool stopping; /* all of them */
};

/* Which process to signal, and what became of upgrades. */
struct pl_running {
    int64_t pid;
    int64_t since_ms; /* unix: when the binary that runs took its place */
    uint32_t refused; /* upgrades */
    char why[128];    /* the last of these was */
};

/* One parleyd process, as the edges see it: what a request or a message needs to be answered. Made
 * by server/app. */
struct pl_node {
    const struct pl_config *cfg; /* LIVE options change in place */
    struct pl_hub *hub;
    struct pl_auth *auth; /* replaced by a reload */
    struct pl_wheel *wheel;
    const char *name;
    const struct pl_running *running;
    uint64_t started_ms;    /* monotonic */
    bool dev;               /* --dev: any localhost origin, the demo and its tokens */
    bool has_internal;      /* server.internal_listen is set */
    bool draining;          /* clients are being let go */
    bool stopping;          /* the last moments: nothing new is begun */
    int64_t phase_since_ms; /* unix: when the phase came into force here */
    uint64_t published_us;  /* when the first event of this turn was; 0: none was */
    struct pl_delivered delivered_before;
    void *bus; /* for what follows */
    /* NULL: the bus delivers within the turn in which an event is published. Else when the first of
     * this turn's events was published, unix time in ms; 0: there are none. */
    int64_t (*turn_began_ms)(const struct pl_node *n);
    /* Sets the bus's gauges, too. */
    void (*bus_health)(const struct pl_node *n, struct pl_bus_health *ret);
    /* For workers of a master; NULL: this process is the node. */
    void (*together)(const struct pl_node *n, struct pl_together *ret);
    void (*export_metrics)(const struct pl_node *n, struct pl_buf *out);
    void *workplace; /* for these two */
    /* A user's queues on all nodes, answered once; NULL: this node is the only one. */
    void (*connections)(struct pl_node *n, struct pl_str user_id, pl_connections_fn *done,
                        void *arg);
    /* Looks for an event in the logs of channels, answered once; NULL: the rings are the log. */
    void (*logged)(struct pl_node *n, const struct pl_str *channels, size_t count, int64_t event_id,
                   pl_logged_fn *done, void *arg);
};

#endif
