#ifndef PL_CORE_DELIVERED_H
#define PL_CORE_DELIVERED_H

#include <stdbool.h>

#include "server/base/metrics.h"

/* How long events took to those who got them: counted from what the transports' counters gained
 * meanwhile, so it costs one look at the clock per event, however many recipients there are. */
struct pl_delivered {
    uint64_t websocket, longpoll;
};

static inline struct pl_delivered pl_delivered_now(void)
{
    return (struct pl_delivered){pl_metric_values[PL_S_DELIVERED_WEBSOCKET],
                                 pl_metric_values[PL_S_DELIVERED_LONGPOLL]};
}

/* Everything delivered since took so long. */
static inline void pl_delivered_took(struct pl_delivered before, uint64_t us)
{
    struct pl_delivered now = pl_delivered_now();

    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, us, now.websocket - before.websocket);
    pl_metric_observe_us(PL_S_LATENCY_LONGPOLL, us, now.longpoll - before.longpoll);
}

static inline bool pl_delivered_any(struct pl_delivered before)
{
    struct pl_delivered now = pl_delivered_now();

    return now.websocket != before.websocket || now.longpoll != before.longpoll;
}

#endif
