#include "server/transport/publish.h"

#include <stdlib.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/memory.h"
#include "server/core/delivered.h"
#include "server/core/trace.h"

struct publishing {
    pl_bus_done_fn *done;
    void *arg;
    enum pl_series source;
    uint64_t begun_us;
    struct traced *traced; /* NULL: none of the events is */
    size_t traced_count;
};

/* One of the events whose trace is recorded. */
struct traced {
    size_t index;
    struct pl_span span;
};

static void begin_spans(struct publishing *p, const struct pl_publish *events, size_t count)
{
    struct pl_span span;

    for (size_t i = 0; i < count; i++) {
        if (events[i].traceparent.len > 0 &&
            pl_trace_begin(events[i].traceparent, PL_SPAN_PUBLISH, pl_clock_unix_us(), &span)) {
            if (p->traced == NULL) {
                p->traced = pl_alloc((count - i) * sizeof(*p->traced));
            }
            p->traced[p->traced_count++] = (struct traced){i, span};
        }
    }
}

static void end_spans(struct publishing *p, int status, const int64_t *ids, size_t count)
{
    for (size_t i = 0; i < p->traced_count; i++) {
        struct traced *t = &p->traced[i];

        t->span.ended_us = pl_clock_unix_us();
        t->span.failed = status != PL_OK;
        t->span.event_id = status == PL_OK && t->index < count ? ids[t->index] : 0;
        pl_random_bytes(&t->span.id, sizeof(t->span.id));
        pl_trace_put(&t->span);
    }
    free(p->traced);
}

static void on_published(void *arg, int status, const int64_t *ids, size_t count)
{
    struct publishing *p = arg;

    if (status == PL_OK) {
        pl_metric_add(p->source, count);
    } else {
        pl_metric_add(PL_S_PUBLISH_ERRORS, 1);
    }
    pl_metric_observe_us(PL_S_PUBLISH_TIME, pl_clock_mono_us() - p->begun_us, 1);
    end_spans(p, status, ids, count);
    p->done(p->arg, status, ids, count);
    free(p);
}

static void begin_turn(struct pl_node *n, uint64_t now_us)
{
    if (n->turn_began_ms == NULL && n->published_us == 0) {
        n->published_us = now_us;
        n->delivered_before = pl_delivered_now();
    }
}

static uint64_t age_us(int64_t unix_ms)
{
    int64_t ms = pl_clock_unix_ms() - unix_ms;

    return ms > 0 ? (uint64_t)ms * 1000 : 0;
}

void pl_publish_send(struct pl_node *n)
{
    int64_t began_ms = n->turn_began_ms != NULL ? n->turn_began_ms(n) : 0;
    uint32_t handed;

    if (n->published_us == 0) {
        n->delivered_before = pl_delivered_now();
    }
    handed = pl_hub_end_turn(n->hub);
    if (pl_trace_is_fanning_out()) {
        pl_trace_end_fan_outs(handed, pl_clock_unix_us());
    }
    if (pl_delivered_any(n->delivered_before) && (n->published_us != 0 || began_ms != 0)) {
        pl_delivered_took(n->delivered_before, n->published_us != 0
                                                   ? pl_clock_mono_us() - n->published_us
                                                   : age_us(began_ms));
    }
    n->published_us = 0;
}

void pl_publish_events(const struct pl_publish_from *from, const struct pl_publish *events,
                       size_t count, const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    struct pl_hub *h = from->node->hub;
    struct publishing *p;
    struct pl_bus_event *out;
    struct pl_buf *bodies;
    char now[PL_RFC3339_SIZE];

    if (pl_memory_state != PL_MEMORY_ENOUGH) {
        pl_metric_add(PL_S_REFUSED_MEMORY, 1);
        pl_metric_add(PL_S_PUBLISH_ERRORS, 1);
        done(arg, PL_ERR_OVERLOADED, NULL, 0);
        return;
    }
    p = pl_alloc(sizeof(*p));
    out = pl_alloc(count * sizeof(*out));
    bodies = pl_alloc(count * sizeof(*bodies));
    *p = (struct publishing){
        .done = done, .arg = arg, .source = from->source, .begun_us = pl_clock_mono_us()};
    begin_spans(p, events, count);
    begin_turn(from->node, p->begun_us);
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
