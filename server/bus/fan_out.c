#include "server/bus/fan_out.h"

#include "server/base/clock.h"
#include "server/core/trace.h"

void pl_bus__fan_out(struct pl_hub *h, int64_t id, const struct pl_bus_event *e,
                     const int64_t *prevs)
{
    struct pl_str traceparent = pl_event_traceparent(e->body);
    struct pl_span span;

    if (traceparent.len > 0 &&
        pl_trace_begin(traceparent, PL_SPAN_FAN_OUT, pl_clock_unix_us(), &span)) {
        span.event_id = id;
        pl_random_bytes(&span.id, sizeof(span.id));
        pl_trace_put(&span);
    }
    (void)pl_hub_bus_event(h, id, e, prevs);
}
