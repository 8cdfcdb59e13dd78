#ifndef PL_APP_WORKPLACE_H
#define PL_APP_WORKPLACE_H

#include <uv.h>

#include "server/app/board.h"
#include "server/app/inherit.h"
#include "server/transport/node.h"

/* Where a worker works: its slot on the board, which it keeps up to date, and the line to its master,
 * whose end means that the master has gone. */
struct pl_workplace {
    struct pl_board *board;
    struct pl_board_slot *slot;
    unsigned number;
    int control;
    bool waits;     /* others serve: it takes its time */
    bool accepting; /* and the master knows */
    uint64_t began_ms;
    struct pl_node *node;
    struct pl_net *net;
    struct pl_timer look;
    uv_poll_t line;
    void (*orphaned)(void *arg);
    void *arg;
};

/* From here on this process counts on the board. False: what was inherited is of no use. */
bool pl_workplace_init(struct pl_workplace *p, const struct pl_inherited *in);
/* The node is made, and its net accepts nothing yet: begins to accept when it should, tells the node
 * about the others. orphaned(arg): the master has gone. */
void pl_workplace_begin(struct pl_workplace *p, struct pl_node *n, struct pl_net *net,
                        void (*orphaned)(void *arg), void *arg);
/* All workers of the node are to go: there are no others to accept what waits. */
bool pl_workplace_is_closing(const struct pl_workplace *p);
/* Before the loop goes. */
void pl_workplace_leave(struct pl_workplace *p);

#endif
