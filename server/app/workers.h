#ifndef PL_APP_WORKERS_H
#define PL_APP_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

/* The master's table: which workers there should be, and what is to be done when one begins to serve
 * or ends. Pure: processes and time are the caller's.
 *
 * A worker sits in a slot, whose number it is known by. Those of one configuration are a generation;
 * a reload or an upgrade begins the next. Once every worker of the newest generation serves, the older
 * ones are told to leave, and not before. A worker of the newest generation that ends is replaced in
 * its slot: at once, then, if its successors end early too, after a pause that doubles. */
enum {
    PL_WORKERS_MAX = 64,
    PL_SLOTS = 4 * PL_WORKERS_MAX, /* some generations may be leaving */
};

enum pl_worker_state {
    PL_WORKER_NONE,
    PL_WORKER_DUE,      /* a process is to be started */
    PL_WORKER_STARTING, /* it runs, and does not accept yet */
    PL_WORKER_SERVING,
    PL_WORKER_LEAVING, /* it drains */
};

struct pl_worker {
    enum pl_worker_state state;
    uint32_t generation;
    int pid;
    uint32_t failures; /* early ends in a row */
    uint64_t at_ms;    /* monotonic; DUE: when; else since when the process runs */
};

struct pl_workers_ops {
    /* Starts a process for the slot: its pid, or -1, which counts as one that ended at once. */
    int (*start)(void *arg, unsigned slot);
    /* Tells the slot's process to go: at_once, or when its clients have gone. */
    void (*leave)(void *arg, unsigned slot, bool at_once);
};

struct pl_workers {
    struct pl_worker slots[PL_SLOTS];
    uint32_t generation;
    const struct pl_workers_ops *ops;
    void *arg;
};

void pl_workers_init(struct pl_workers *w, const struct pl_workers_ops *ops, void *arg);
/* A process that an earlier master started; of an older generation than the next one to begin. */
void pl_workers_adopt(struct pl_workers *w, unsigned slot, int pid, enum pl_worker_state state,
                      uint64_t now_ms);
/* Begins a generation of `count` workers, due now. What was due before is not any more, and who did
 * not serve yet is told to go. False: too many are leaving still; they are told to hurry, and nothing
 * begins. */
bool pl_workers_begin(struct pl_workers *w, unsigned count, uint64_t now_ms);
/* Starts what is due. */
void pl_workers_run(struct pl_workers *w, uint64_t now_ms);
/* How long until there is something to run; -1: nothing is due. */
int64_t pl_workers_wait_ms(const struct pl_workers *w, uint64_t now_ms);
/* The slot's worker accepts. True if with it the newest generation is complete (again). */
bool pl_workers_serving(struct pl_workers *w, unsigned slot);
/* The slot of a running process; -1: it is none of ours. */
int pl_workers_find(const struct pl_workers *w, int pid);
/* A process has ended. The slot it had; -1: it was none of ours. */
int pl_workers_ended(struct pl_workers *w, int pid, uint64_t now_ms);
/* All are told to go, and none is replaced. */
void pl_workers_stop(struct pl_workers *w, bool at_once);

bool pl_worker_runs(const struct pl_worker *k);
/* How many there are in this state. */
unsigned pl_workers_count(const struct pl_workers *w, enum pl_worker_state state);
unsigned pl_workers_running(const struct pl_workers *w);

#endif
