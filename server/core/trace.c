#include "server/core/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/metrics.h"

static struct {
    struct pl_span *spans;
    size_t cap, head, count;
    size_t open; /* fan-outs that have not ended: among the last */
} ring;

void pl_trace_setup(size_t capacity)
{
    free(ring.spans);
    ring.spans = capacity > 0 ? pl_alloc(capacity * sizeof(*ring.spans)) : NULL;
    ring.cap = capacity;
    ring.head = ring.count = ring.open = 0;
}

/* The last digit of the flags is odd: the trace is recorded by who began it. */
static bool is_sampled(struct pl_str traceparent)
{
    return strchr("13579bdf", traceparent.s[PL_TRACEPARENT_LEN - 1]) != NULL;
}

bool pl_trace_begin(struct pl_str traceparent, enum pl_span_kind kind, int64_t now_us,
                    struct pl_span *ret)
{
    if (ring.cap == 0 || traceparent.len != PL_TRACEPARENT_LEN || !is_sampled(traceparent)) {
        return false;
    }
    *ret = (struct pl_span){.kind = kind, .begun_us = now_us};
    memcpy(ret->trace_id, traceparent.s + 3, 32);
    memcpy(ret->parent_id, traceparent.s + 36, 16);
    return true;
}

void pl_trace_put(const struct pl_span *s)
{
    if (ring.count == ring.cap) {
        pl_metric_add(PL_S_SPANS_DROPPED, 1);
        return;
    }
    ring.spans[(ring.head + ring.count++) % ring.cap] = *s;
    ring.open += s->ended_us == 0;
}

bool pl_trace_is_fanning_out(void)
{
    return ring.open > 0;
}

void pl_trace_end_fan_outs(uint64_t delivered, int64_t now_us)
{
    for (size_t i = ring.count; ring.open > 0; i--) {
        struct pl_span *s = &ring.spans[(ring.head + i - 1) % ring.cap];

        if (s->ended_us == 0) {
            s->delivered = delivered;
            s->ended_us = now_us;
            ring.open--;
        }
    }
}

/* ---- OTLP (opentelemetry-proto, trace/v1, in JSON: ids in hex, 64-bit integers as strings) ---- */

static void write_text(struct pl_writer *w, const char *key, const char *value)
{
    pl_write_key(w, key);
    pl_write_cstr(w, value);
}

static void write_big(struct pl_writer *w, const char *key, uint64_t n, const char *unit)
{
    char text[40];

    (void)snprintf(text, sizeof(text), "%" PRIu64 "%s", n, unit);
    write_text(w, key, text);
}

static void write_attribute(struct pl_writer *w, const char *name, const char *value)
{
    pl_write_map(w, 2);
    write_text(w, "key", name);
    pl_write_key(w, "value");
    pl_write_map(w, 1);
    write_text(w, "stringValue", value);
}

static void write_number_attribute(struct pl_writer *w, const char *name, uint64_t n)
{
    pl_write_map(w, 2);
    write_text(w, "key", name);
    pl_write_key(w, "value");
    pl_write_map(w, 1);
    write_big(w, "intValue", n, "");
}

static void write_span(struct pl_writer *w, const struct pl_span *s)
{
    static const struct {
        const char *name;
        int kind; /* PRODUCER, CONSUMER */
    } kinds[] = {[PL_SPAN_PUBLISH] = {"publish", 4}, [PL_SPAN_FAN_OUT] = {"fan-out", 5}};
    char id[17];

    (void)snprintf(id, sizeof(id), "%016" PRIx64, s->id);
    pl_write_map(w, 8 + s->failed);
    write_text(w, "traceId", s->trace_id);
    write_text(w, "spanId", id);
    write_text(w, "parentSpanId", s->parent_id);
    write_text(w, "name", kinds[s->kind].name);
    pl_write_key(w, "kind");
    pl_write_int(w, kinds[s->kind].kind);
    write_big(w, "startTimeUnixNano", (uint64_t)s->begun_us, "000");
    write_big(w, "endTimeUnixNano", (uint64_t)s->ended_us, "000");
    pl_write_key(w, "attributes");
    pl_write_array(w, (s->event_id != 0) + (s->kind == PL_SPAN_FAN_OUT));
    if (s->event_id != 0) {
        write_number_attribute(w, "parley.event_id", (uint64_t)s->event_id);
    }
    if (s->kind == PL_SPAN_FAN_OUT) {
        write_number_attribute(w, "parley.delivered", s->delivered);
    }
    if (s->failed) {
        pl_write_key(w, "status");
        pl_write_map(w, 1);
        pl_write_key(w, "code");
        pl_write_int(w, 2);
    }
}

static void write_resource(struct pl_writer *w, const char *node)
{
    pl_write_key(w, "resource");
    pl_write_map(w, 1);
    pl_write_key(w, "attributes");
    pl_write_array(w, 3);
    write_attribute(w, "service.name", "parleyd");
    write_attribute(w, "service.version", PL_VERSION);
    write_attribute(w, "service.instance.id", node);
}

size_t pl_trace_take(size_t max, const char *node, struct pl_buf *out)
{
    size_t count = 0;
    struct pl_writer w;

    while (count < ring.count && count < max &&
           ring.spans[(ring.head + count) % ring.cap].ended_us != 0) {
        count++;
    }
    if (count == 0) {
        return 0;
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 1);
    pl_write_key(&w, "resourceSpans");
    pl_write_array(&w, 1);
    pl_write_map(&w, 2);
    write_resource(&w, node);
    pl_write_key(&w, "scopeSpans");
    pl_write_array(&w, 1);
    pl_write_map(&w, 2);
    pl_write_key(&w, "scope");
    pl_write_map(&w, 1);
    write_text(&w, "name", "parley");
    pl_write_key(&w, "spans");
    pl_write_array(&w, count);
    for (size_t i = 0; i < count; i++) {
        write_span(&w, &ring.spans[ring.head]);
        ring.head = (ring.head + 1) % ring.cap;
    }
    ring.count -= count;
    return count;
}
