#include "server/app/workers.h"

#include <string.h>

enum {
    EARLY_MS = 10000, /* a worker that ends sooner than this may do so again */
    PAUSE_MS = 100,   /* before the second replacement; doubles */
    MAX_PAUSE_MS = 10000,
};

void pl_workers_init(struct pl_workers *w, const struct pl_workers_ops *ops, void *arg)
{
    memset(w, 0, sizeof(*w));
    w->ops = ops;
    w->arg = arg;
}

bool pl_worker_runs(const struct pl_worker *k)
{
    return k->state >= PL_WORKER_STARTING;
}

unsigned pl_workers_count(const struct pl_workers *w, enum pl_worker_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        count += w->slots[i].state == state;
    }
    return count;
}

unsigned pl_workers_running(const struct pl_workers *w)
{
    unsigned count = 0;

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        count += pl_worker_runs(&w->slots[i]);
    }
    return count;
}

void pl_workers_adopt(struct pl_workers *w, unsigned slot, int pid, enum pl_worker_state state,
                      uint64_t now_ms)
{
    w->slots[slot] = (struct pl_worker){
        .state = state, .generation = w->generation, .pid = pid, .at_ms = now_ms};
}

static void leave(struct pl_workers *w, unsigned slot, bool at_once)
{
    w->slots[slot].state = PL_WORKER_LEAVING;
    w->ops->leave(w->arg, slot, at_once);
}

/* ---- generations ---- */

static bool has_room(struct pl_workers *w, unsigned count)
{
    if (PL_SLOTS - pl_workers_running(w) >= count) {
        return true;
    }
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (w->slots[i].state == PL_WORKER_LEAVING) {
            leave(w, i, true);
        }
    }
    return false;
}

bool pl_workers_begin(struct pl_workers *w, unsigned count, uint64_t now_ms)
{
    if (!has_room(w, count)) {
        return false;
    }
    w->generation++;
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        struct pl_worker *k = &w->slots[i];

        if (k->state == PL_WORKER_DUE) {
            k->state = PL_WORKER_NONE;
        } else if (k->state == PL_WORKER_STARTING && k->generation < w->generation) {
            leave(w, i, true);
        }
        if (k->state == PL_WORKER_NONE && count > 0) {
            *k = (struct pl_worker){
                .state = PL_WORKER_DUE, .generation = w->generation, .at_ms = now_ms};
            count--;
        }
    }
    return true;
}

/* No worker of the newest generation is still to come. */
static bool is_complete(const struct pl_workers *w)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        const struct pl_worker *k = &w->slots[i];

        if (k->generation == w->generation &&
            (k->state == PL_WORKER_DUE || k->state == PL_WORKER_STARTING)) {
            return false;
        }
    }
    return true;
}

bool pl_workers_serving(struct pl_workers *w, unsigned slot)
{
    if (w->slots[slot].state != PL_WORKER_STARTING) {
        return false;
    }
    w->slots[slot].state = PL_WORKER_SERVING;
    if (w->slots[slot].generation != w->generation || !is_complete(w)) {
        return false;
    }
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (w->slots[i].state == PL_WORKER_SERVING && w->slots[i].generation < w->generation) {
            leave(w, i, false);
        }
    }
    return true;
}

/* ---- beginnings and ends ---- */

static uint64_t pause_ms(uint32_t failures)
{
    uint32_t doublings = failures - 2;

    if (failures < 2) {
        return 0;
    }
    return doublings < 7 ? (uint64_t)PAUSE_MS << doublings : MAX_PAUSE_MS;
}

static void end(struct pl_workers *w, struct pl_worker *k, uint64_t now_ms)
{
    bool early = now_ms - k->at_ms < EARLY_MS;

    if (k->state == PL_WORKER_LEAVING || k->generation < w->generation) {
        k->state = PL_WORKER_NONE;
        return;
    }
    k->failures = early ? k->failures + 1 : 1;
    k->state = PL_WORKER_DUE;
    k->at_ms = now_ms + pause_ms(k->failures);
}

int pl_workers_find(const struct pl_workers *w, int pid)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (pl_worker_runs(&w->slots[i]) && w->slots[i].pid == pid) {
            return (int)i;
        }
    }
    return -1;
}

int pl_workers_ended(struct pl_workers *w, int pid, uint64_t now_ms)
{
    int slot = pl_workers_find(w, pid);

    if (slot >= 0) {
        end(w, &w->slots[slot], now_ms);
    }
    return slot;
}

void pl_workers_run(struct pl_workers *w, uint64_t now_ms)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        struct pl_worker *k = &w->slots[i];

        if (k->state != PL_WORKER_DUE || k->at_ms > now_ms) {
            continue;
        }
        k->at_ms = now_ms;
        k->pid = w->ops->start(w->arg, i);
        k->state = PL_WORKER_STARTING;
        if (k->pid < 0) {
            end(w, k, now_ms);
        }
    }
}

int64_t pl_workers_wait_ms(const struct pl_workers *w, uint64_t now_ms)
{
    int64_t wait = -1;

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        const struct pl_worker *k = &w->slots[i];
        int64_t left = k->at_ms > now_ms ? (int64_t)(k->at_ms - now_ms) : 0;

        if (k->state == PL_WORKER_DUE && (wait < 0 || left < wait)) {
            wait = left;
        }
    }
    return wait;
}

void pl_workers_stop(struct pl_workers *w, bool at_once)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (w->slots[i].state == PL_WORKER_DUE) {
            w->slots[i].state = PL_WORKER_NONE;
        } else if (pl_worker_runs(&w->slots[i])) {
            leave(w, i, at_once);
        }
    }
}
