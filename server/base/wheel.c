#include "server/base/wheel.h"

#include <string.h>

#include "server/base/alloc.h"

enum {
    SLOTS = 1 << PL_WHEEL_BITS,
    SLOT_MASK = SLOTS - 1,
    WORD_BITS = 64
};

/* Time in units of a level: level 0 counts ticks, each further level 256 units of the one below. A
 * timer lies in the lowest level where it is less than a full turn ahead, so there it is 1 to 255
 * units ahead (0 on level 0: overdue, in the slot of now_tick, which nothing else can be in). When
 * time enters a slot of a higher level, its timers are placed again, lower down. */
static uint64_t unit_of(uint64_t tick, int level)
{
    return tick >> (level * PL_WHEEL_BITS);
}

/* Rounded up: never early. */
static uint64_t due_tick(const struct pl_timer *t)
{
    return t->due_ms / PL_WHEEL_TICK_MS + (t->due_ms % PL_WHEEL_TICK_MS != 0);
}

static struct pl_list *slot_at(struct pl_wheel *w, int level, uint64_t tick)
{
    return &w->slots[level][unit_of(tick, level) & SLOT_MASK];
}

static void mark_used(struct pl_wheel *w, int level, unsigned slot)
{
    w->used[level][slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
}

static void place(struct pl_wheel *w, struct pl_timer *t)
{
    const int top = PL_WHEEL_LEVELS - 1;
    uint64_t due = due_tick(t);
    int level = 0;
    unsigned slot;

    if (due < w->now_tick) {
        due = w->now_tick;
    }
    while (level < top && unit_of(due, level) - unit_of(w->now_tick, level) >= SLOTS) {
        level++;
    }
    /* Beyond the span: as far ahead as there is, and placed again when time gets there. */
    if (unit_of(due, level) - unit_of(w->now_tick, level) >= SLOTS) {
        due = w->now_tick + ((uint64_t)(SLOTS - 1) << (top * PL_WHEEL_BITS));
    }
    slot = (unsigned)(unit_of(due, level) & SLOT_MASK);
    pl_list_append(&w->slots[level][slot], &t->node);
    mark_used(w, level, slot);
}

void pl_wheel_init(struct pl_wheel *w, uint64_t now_ms)
{
    memset(w, 0, sizeof(*w));
    w->now_tick = now_ms / PL_WHEEL_TICK_MS;
    for (int level = 0; level < PL_WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < SLOTS; slot++) {
            pl_list_init(&w->slots[level][slot]);
        }
    }
}

void pl_timer_init(struct pl_timer *t, pl_timer_fn *fn)
{
    pl_list_init(&t->node);
    t->due_ms = 0;
    t->fn = fn;
}

void pl_timer_set(struct pl_wheel *w, struct pl_timer *t, uint64_t due_ms)
{
    pl_timer_cancel(w, t);
    t->due_ms = due_ms;
    place(w, t);
    w->count++;
}

/* Leaves the slot's mark: whoever follows it finds the slot empty. */
void pl_timer_cancel(struct pl_wheel *w, struct pl_timer *t)
{
    if (pl_timer_is_set(t)) {
        pl_list_remove(&t->node);
        w->count--;
    }
}

/* The next slot behind `from` in use on this level, as a distance of 1 to 255, or 0 for none. */
static unsigned next_used(const struct pl_wheel *w, int level, unsigned from)
{
    for (unsigned ahead = 1; ahead < SLOTS;) {
        unsigned slot = (from + ahead) & SLOT_MASK;
        uint64_t word = w->used[level][slot / WORD_BITS] >> slot % WORD_BITS;

        if (word == 0) {
            ahead += WORD_BITS - slot % WORD_BITS;
            continue;
        }
        ahead += (unsigned)__builtin_ctzll(word);
        if (ahead >= SLOTS) {
            break;
        }
        if (!pl_list_empty(&w->slots[level][(from + ahead) & SLOT_MASK])) {
            return ahead;
        }
        ahead++;
    }
    return 0;
}

/* The next tick at which there is something to do: a timer is due or a slot is entered. UINT64_MAX:
 * none. */
static uint64_t next_event(const struct pl_wheel *w)
{
    uint64_t soonest = UINT64_MAX;

    for (int level = 0; level < PL_WHEEL_LEVELS; level++) {
        uint64_t unit = unit_of(w->now_tick, level);
        unsigned ahead = next_used(w, level, (unsigned)(unit & SLOT_MASK));
        uint64_t tick = (unit + ahead) << (level * PL_WHEEL_BITS);

        if (ahead > 0 && tick < soonest) {
            soonest = tick;
        }
    }
    return soonest;
}

static void take_slot(struct pl_wheel *w, int level, struct pl_list *into)
{
    struct pl_list *slot = slot_at(w, level, w->now_tick);
    unsigned index = (unsigned)(slot - w->slots[level]);

    pl_list_splice(into, slot);
    w->used[level][index / WORD_BITS] &= ~(UINT64_C(1) << index % WORD_BITS);
}

/* Time has entered now_tick: moves the timers of every higher slot that begins here down. */
static void cascade(struct pl_wheel *w)
{
    for (int level = PL_WHEEL_LEVELS - 1; level > 0; level--) {
        struct pl_list moved;

        if (unit_of(w->now_tick, level) << (level * PL_WHEEL_BITS) != w->now_tick) {
            continue;
        }
        pl_list_init(&moved);
        take_slot(w, level, &moved);
        while (!pl_list_empty(&moved)) {
            struct pl_timer *t = pl_container_of(moved.next, struct pl_timer, node);

            pl_list_remove(&t->node);
            place(w, t);
        }
    }
}

/* All that is due is collected before the first call: a callback that sets a timer in the past
 * waits for the next advance, and one that cancels takes the timer out of `due`. */
void pl_wheel_advance(struct pl_wheel *w, uint64_t now_ms)
{
    uint64_t target = now_ms / PL_WHEEL_TICK_MS;
    struct pl_list due;

    pl_list_init(&due);
    take_slot(w, 0, &due);
    while (w->now_tick < target) {
        uint64_t next = next_event(w);

        w->now_tick = next < target ? next : target;
        cascade(w);
        take_slot(w, 0, &due);
    }
    while (!pl_list_empty(&due)) {
        struct pl_timer *t = pl_container_of(due.next, struct pl_timer, node);

        pl_timer_cancel(w, t);
        t->fn(t);
    }
}

int64_t pl_wheel_next_ms(const struct pl_wheel *w, uint64_t now_ms)
{
    uint64_t tick;
    uint64_t due_ms;

    if (w->count == 0) {
        return INT64_MAX;
    }
    if (!pl_list_empty(&w->slots[0][w->now_tick & SLOT_MASK])) {
        return 0;
    }
    tick = next_event(w);
    if (tick > INT64_MAX / PL_WHEEL_TICK_MS) {
        return INT64_MAX;
    }
    due_ms = tick * PL_WHEEL_TICK_MS;
    return due_ms > now_ms ? (int64_t)(due_ms - now_ms) : 0;
}
