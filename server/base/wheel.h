#ifndef PL_BASE_WHEEL_H
#define PL_BASE_WHEEL_H

#include <stdint.h>

#include "server/base/list.h"

/* A hierarchical timing wheel: setting and cancelling are O(1) whatever the number of timers (the
 * event loop's own timers are a sorted list: docs/decisions/0001). It reads no clock: time is
 * pushed in. Resolution is PL_WHEEL_TICK_MS; a timer never fires early, and at most one tick late.
 */
enum {
    PL_WHEEL_TICK_MS = 8,
    PL_WHEEL_BITS = 8,
    PL_WHEEL_LEVELS = 4
};

struct pl_timer;
typedef void pl_timer_fn(struct pl_timer *t);

struct pl_timer {
    struct pl_list node;
    uint64_t due_ms;
    pl_timer_fn *fn; /* the owner is found with pl_container_of */
};

struct pl_wheel {
    struct pl_list slots[PL_WHEEL_LEVELS][1 << PL_WHEEL_BITS];
    uint64_t used[PL_WHEEL_LEVELS]
                 [(1 << PL_WHEEL_BITS) / 64]; /* a bit per slot; may be set for an empty one */
    uint64_t now_tick;
    uint64_t count; /* timers set */
};

void pl_wheel_init(struct pl_wheel *w, uint64_t now_ms);

void pl_timer_init(struct pl_timer *t, pl_timer_fn *fn);
/* (Re)arms for due_ms; in the past means at the next advance. Times beyond the wheel's span are
 * kept and fire when due. */
void pl_timer_set(struct pl_wheel *w, struct pl_timer *t, uint64_t due_ms);
void pl_timer_cancel(struct pl_wheel *w, struct pl_timer *t); /* harmless if not set */
static inline int pl_timer_is_set(const struct pl_timer *t)
{
    return t->node.next != &t->node;
}

/* Moves time to now_ms (never backwards) and calls what is due, in order of ticks. A callback may
 * set and cancel any timer, its own included, and free its owner. */
void pl_wheel_advance(struct pl_wheel *w, uint64_t now_ms);

/* Milliseconds from now_ms until advance must be called again at the latest; INT64_MAX with no
 * timer. May be early (a cascade), never late. */
int64_t pl_wheel_next_ms(const struct pl_wheel *w, uint64_t now_ms);

#endif
