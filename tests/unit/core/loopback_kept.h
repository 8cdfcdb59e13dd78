#ifndef PL_TESTS_UNIT_CORE_LOOPBACK_KEPT_H
#define PL_TESTS_UNIT_CORE_LOOPBACK_KEPT_H

#include "tests/unit/core/loopback.h"

/* A scripted bus that keeps queues and users, for one node or several that share what is kept. What a node asks lies
 * there until the test lets it happen: it is executed (in the store, as Redis would) and answered, together or apart.
 * Changes are executed and answered at once; the other nodes hear of them when the test lets them (lb_hear). */
extern const struct lb_bus lb_kept;

int lb_start_kept(void **state);
/* Another node on the same store; stopped with lb. */
struct loopback *lb_join(struct loopback *lb);
/* The process of a joined node ends without a word. */
void lb_kill(struct loopback *lb, struct loopback *dead);

enum lb_call_kind {
    LB_SAVE, /* one call per queue */
    LB_CLAIM,
    LB_END,
    LB_USER,
    LB_READ,
    LB_SEQUENCE,
    LB_CALL_KINDS
};

/* What the store holds of a queue, or held when a call was executed. */
struct lb_queue_record {
    char id[PL_QUEUE_ID_SIZE];
    char user[256];
    int64_t generation, position, saved_by;
    int64_t came_ms; /* when the client came that it was last claimed for */
    struct pl_buf state;
    bool dead;
    void *owner; /* the bus of the node */
};

/* What a node asks, unanswered. */
struct lb_call {
    struct pl_list node;
    enum lb_call_kind kind;
    char name[256];      /* of the queue, user or channel */
    int64_t after, upto; /* LB_READ */
    int64_t came_ms;     /* LB_CLAIM */
    bool back;
    struct lb_queue_record queue; /* LB_SAVE: as it was given; LB_CLAIM: as it was found */
    char transport[16];           /* LB_SAVE */
    int end_status;               /* LB_END */
    pl_bus_done_fn *done;
    void *arg;
    bool executed; /* then what follows is the result */
    int status;
    int64_t as_of;
    int64_t count;
};

/* How many of this kind are unanswered. */
size_t lb_calls(struct loopback *lb, enum lb_call_kind kind);
/* The oldest unanswered; fails if there is none. */
const struct lb_call *lb_call(struct loopback *lb, enum lb_call_kind kind);
/* Executes the oldest of this kind that has not been, and keeps the answer back. */
void lb_execute(struct loopback *lb, enum lb_call_kind kind);
/* Answers the oldest, after executing it if that has not happened. */
void lb_answer(struct loopback *lb, enum lb_call_kind kind);
/* It was never executed, and the bus says that it is away. */
void lb_fail(struct loopback *lb, enum lb_call_kind kind);
void lb_fail_all(struct loopback *lb);
/* Answers the oldest reading of this channel. */
void lb_answer_read(struct loopback *lb, const char *channel, const struct lb_log *log);
/* The node hears what the others did: changes, takeovers, ends. */
void lb_hear(struct loopback *lb);
/* Time enough for what is to be saved to be asked; everything is heard, executed and answered, channels open empty. */
void lb_settle(struct loopback *lb);

struct lb_kept_counts {
    size_t save_calls; /* each of many queues */
    size_t saved;      /* queues in them */
    size_t drops;      /* asked */
    size_t dropped;    /* that the store accepted */
    size_t asked[LB_CALL_KINDS];
    size_t compacted;
};
const struct lb_kept_counts *lb_kept_counts(struct loopback *lb);

/* The store's record; NULL: none, or ended. Tests may change it. */
struct lb_queue_record *lb_record(struct loopback *lb, const char *queue_id);
/* Where the sequence is. */
int64_t lb_sequence_id(struct loopback *lb);
/* A change by a node that is not in the test: nobody here has heard of it yet. Returns its id. */
int64_t lb_elsewhere(struct loopback *lb, enum pl_change_kind kind, const char *user,
                     const char *membership, int64_t unix_ms);

/* ---- who waits ---- */

/* Static in the tests: one that fails leaves it waiting. */
struct lb_waiter {
    int calls, status;
};
void lb_ready(void *arg, int status);
/* pl_hub_prepare. */
void lb_prepare(struct loopback *lb, const char *user, const char *queue_id, struct lb_waiter *w);
/* The same, and everything it takes; returns the status. */
int lb_fetch(struct loopback *lb, const char *user, const char *queue_id);
struct pl_queue *lb_find(struct loopback *lb, const char *queue_id);
/* A queue that is kept and whose channels are live. */
struct pl_queue *lb_kept_queue(struct loopback *lb, const char *user, const char *membership);

#endif
