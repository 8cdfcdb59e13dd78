#ifndef PL_APP_BOARD_H
#define PL_APP_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "server/app/life.h"
#include "server/app/workers.h"
#include "server/base/metrics.h"
#include "server/transport/node.h"

/* Memory that a master and its workers share: each worker counts and says how it is in its own slot,
 * and any of them can tell how the node is as a whole. So nobody has to be asked, a worker that
 * crashed has lost nothing of what it counted, and whoever comes into its slot next counts on from
 * there: sums never fall. A slot is written by its worker while that lives, and by the master between
 * two; every field but its life is one aligned word. */
struct pl_board_slot {
    uint32_t used; /* there was a worker in it once */
    pl_life life;  /* made with the first one; held by whoever lives in it */
    uint32_t lives;
    uint32_t ready; /* it accepts, and its bus is fit */
    uint32_t draining;
    int64_t since_ms; /* pl_running.since_ms of who started it */
    struct pl_metrics metrics;
};

struct pl_board {
    uint64_t layout; /* first: whether the rest can be understood */
    uint32_t wanted; /* workers there should be; the master's to write, as is the next */
    uint32_t stopping;
    struct pl_running running; /* likewise: the master */
    struct pl_board_slot slots[PL_SLOTS];
};

/* A new one, with the descriptor that others open it by. */
struct pl_board *pl_board_new(int *ret_fd);
/* NULL: it was made by a binary that counts other things. */
struct pl_board *pl_board_open(int fd);
void pl_board_close(struct pl_board *b); /* harmless on NULL */

/* A process has ended: what it counted stays. */
void pl_board_ended(struct pl_board *b, unsigned slot);

/* The node as a whole. */
struct pl_board_sums {
    unsigned ready, renewed; /* as in pl_together */
    uint64_t queues, pending_polls;
};
void pl_board_sum(const struct pl_board *b, struct pl_board_sums *ret);
/* Every worker's metrics, labelled worker="<slot>". */
void pl_board_export(const struct pl_board *b, struct pl_buf *out);

#endif
