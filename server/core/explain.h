#ifndef PL_CORE_EXPLAIN_H
#define PL_CORE_EXPLAIN_H

#include "server/core/hub.h"

/* Why a user did or did not get an event, for `GET /realtime/explain`: what this node knows of the
 * event, of the user's rights and of the user's queues here, each with a verdict that names its rule
 * of docs/delivery.md. Delivery's own predicate judges; nothing is changed by asking. */
struct pl_explain {
    struct pl_str user_id;
    int64_t event_id;
    const struct pl_bus_event *logged; /* as a log holds it; NULL: none does, or none was asked */
};

/* Writes this many members into a map that the caller has begun. */
enum {
    PL_EXPLAIN_MEMBERS = 7
};
void pl_hub_explain(struct pl_hub *h, const struct pl_explain *x, struct pl_writer *w);

/* The channels whose logs may hold what the user got: those granted, at most `max`; how many. */
size_t pl_hub_explain_channels(struct pl_hub *h, struct pl_str user_id, struct pl_str *ret,
                               size_t max);

#endif
