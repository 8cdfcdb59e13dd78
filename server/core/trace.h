#ifndef PL_CORE_TRACE_H
#define PL_CORE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/request.h"
#include "server/base/buf.h"

/* Spans of traces (OpenTelemetry's word: one piece of work, from when to when, in a trace that a
 * backend began). Only for events whose traceparent says that it is sampled, and per event: a publish
 * on the node that takes it, a fan-out on each node that hears of it. Never per recipient.
 *
 * They wait here for whoever exports them: a ring of bounded size that belongs to the process and its
 * one event loop. What finds it full is dropped and counted. No I/O and no clock. */
enum pl_span_kind {
    PL_SPAN_PUBLISH,
    PL_SPAN_FAN_OUT
};

struct pl_span {
    enum pl_span_kind kind;
    char trace_id[33], parent_id[17]; /* of the traceparent */
    uint64_t id;                      /* random, not 0 */
    int64_t begun_us, ended_us;       /* unix; 0: it has not ended */
    int64_t event_id;                 /* 0: it got none */
    uint64_t delivered;               /* a fan-out: messages that its turn sent */
    bool failed;
};

/* Spans are wanted from here on, and this many may wait; 0: none are wanted, and those that wait are
 * forgotten. */
void pl_trace_setup(size_t capacity);
/* Is a span wanted for an event with this traceparent (len 0: it has none)? Then it is begun. */
bool pl_trace_begin(struct pl_str traceparent, enum pl_span_kind kind, int64_t now_us,
                    struct pl_span *ret);
/* Puts a span into the ring: its id and event are set. A publish has ended, a
 * fan-out has begun. */
void pl_trace_put(const struct pl_span *s);
/* What is fanned out in a turn of the loop is sent at its end: fan-outs end together. */
bool pl_trace_is_fanning_out(void);
void pl_trace_end_fan_outs(uint64_t delivered, int64_t now_us);

/* Takes up to max of those that have waited longest, as the body of an OTLP/HTTP request in JSON; how
 * many. node: this process's name. */
size_t pl_trace_take(size_t max, const char *node, struct pl_buf *out);

#endif
