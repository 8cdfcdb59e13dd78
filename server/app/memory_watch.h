#ifndef PL_APP_MEMORY_WATCH_H
#define PL_APP_MEMORY_WATCH_H

#include "server/transport/node.h"

/* Looks once a second how the process stands to limits.memory, says so in the log when that changes,
 * and gives back to the system what was freed. */
struct pl_memory_watch {
    struct pl_timer timer;
    const struct pl_node *node;
    uint64_t trimmed_ms;
};

void pl_memory_watch_begin(struct pl_memory_watch *w, const struct pl_node *n);
void pl_memory_watch_end(struct pl_memory_watch *w);

#endif
