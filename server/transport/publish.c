#include "server/transport/publish.h"

#include <stdlib.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"

struct publishing {
    pl_bus_done_fn *done;
    void *arg;
    enum pl_series source;
    uint64_t begun_us;
    uint64_t delivered_before;
    const struct pl_hub *hub;
};

static uint64_t delivered(void)
{
    return pl_metric_values[PL_S_DELIVERED_WEBSOCKET] + pl_metric_values[PL_S_DELIVERED_LONGPOLL];
}

static void on_published(void *arg, int status, const int64_t *ids, size_t count)
{
    struct publishing *p = arg;
    uint64_t recipients = delivered() - p->delivered_before;

    if (status == PL_OK) {
        pl_metric_add(p->source, count);
    } else {
        pl_metric_add(PL_S_PUBLISH_ERRORS, 1);
    }
    /* Where the bus answers later, what was delivered meanwhile may be others'. */
    if (recipients > 0 && pl_hub_is_embedded(p->hub)) {
        pl_metric_observe_us(PL_S_DELIVERY_LATENCY, pl_clock_mono_us() - p->begun_us, recipients);
    }
    p->done(p->arg, status, ids, count);
    free(p);
}

void pl_publish_events(const struct pl_publish_from *from, const struct pl_publish *events,
                       size_t count, const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    struct pl_hub *h = from->node->hub;
    struct publishing *p = pl_alloc(sizeof(*p));
    struct pl_bus_event *out = pl_alloc(count * sizeof(*out));
    struct pl_buf *bodies = pl_alloc(count * sizeof(*bodies));
    char now[PL_RFC3339_SIZE];

    *p = (struct publishing){done, arg, from->source, pl_clock_mono_us(), delivered(), h};
    pl_format_rfc3339(pl_hub_unix_ms(h), now);
    for (size_t i = 0; i < count; i++) {
        pl_event_write_body(&events[i], now, &bodies[i]);
        out[i] = pl_bus_event_of(&events[i],
                                 (struct pl_str){(const char *)bodies[i].data, bodies[i].len});
        if (out[i].exclude_queue.len == 0) {
            out[i].exclude_queue = from->exclude_queue;
        }
    }
    pl_hub_publish(h, out, count, key, on_published, p);
    for (size_t i = 0; i < count; i++) {
        pl_buf_done(&bodies[i]);
    }
    free(bodies);
    free(out);
}
