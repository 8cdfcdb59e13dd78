#ifndef PL_TRANSPORT_PUBLISH_H
#define PL_TRANSPORT_PUBLISH_H

#include "server/base/metrics.h"
#include "server/transport/node.h"

/* Publishing, the same for a backend's POST and a client's message: hands parsed events to the bus,
 * and counts. */
struct pl_publish_from {
    struct pl_node *node;
    enum pl_series source;       /* PL_S_PUBLISHED_BACKEND or _CLIENT */
    struct pl_str exclude_queue; /* the sender's own, for events that name none; len 0: none */
};

/* All or nothing; done as in pl_bus_ops.publish. key: NULL for none. */
void pl_publish_events(const struct pl_publish_from *from, const struct pl_publish *events,
                       size_t count, const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg);

/* At a turn's end: sends what was published in it (pl_hub_end_turn), and counts how long it took. */
void pl_publish_send(struct pl_node *n);

#endif
