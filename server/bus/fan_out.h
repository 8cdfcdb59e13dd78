#ifndef PL_BUS_FAN_OUT_H
#define PL_BUS_FAN_OUT_H

#include "server/core/hub.h"

/* pl_hub_bus_event, and the beginning of a span if the event's trace is recorded: it ends with the turn
 * (pl_trace_end_fan_outs). */
void pl_bus__fan_out(struct pl_hub *h, int64_t id, const struct pl_bus_event *e,
                     const int64_t *prevs);

#endif
