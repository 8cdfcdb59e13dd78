#ifndef PL_APP_INHERIT_H
#define PL_APP_INHERIT_H

#include <stdbool.h>
#include <stddef.h>

#include "server/app/workers.h"

/* What a process hands to the one it starts, or becomes, by exec: open descriptors by number, told in
 * one environment variable.
 *
 *   PARLEYD_WORKER  "main=3 internal=-1 board=4 slot=0 control=5 wait=1": a master to its worker
 *   PARLEYD_MASTER  "main=3 internal=-1 board=4 worker=0:4711:6:3 worker=…": a master, or a server that
 *                   is one process, to the binary that takes its place
 *
 * Both may be of different versions: what is not understood is skipped, what is missing is -1. */
#define PL_INHERIT_WORKER "PARLEYD_WORKER"
#define PL_INHERIT_MASTER "PARLEYD_MASTER"

struct pl_inherited {
    int sockets[2]; /* by enum pl_listener; -1: none */
    int board;      /* -1: none */
    int slot;       /* -1: not a worker */
    int control;
    int wait; /* 1: others serve, so it may wait for its bus before it accepts */
    struct {
        int slot, pid, control, state; /* state: enum pl_worker_state */
    } workers[PL_SLOTS];
    unsigned worker_count;
};

void pl_inherited_init(struct pl_inherited *in);
/* False: the text is none of ours. */
bool pl_inherited_parse(const char *text, struct pl_inherited *ret);
/* The text; to be freed. */
char *pl_inherited_write(const struct pl_inherited *in);

#endif
