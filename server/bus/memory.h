#ifndef PL_BUS_MEMORY_H
#define PL_BUS_MEMORY_H

#include "server/base/config.h"
#include "server/core/bus.h"
#include "server/core/hub.h"

/* The embedded bus: one process, ids from the clock, the hub's rings as the log. A restart is an
 * honest new epoch: the first id is the current time x 1024, above every id given before. */
struct pl_memory_bus;

extern const struct pl_bus_ops pl_memory_bus_ops;

struct pl_memory_bus *pl_memory_bus_new(const struct pl_config *cfg, int64_t unix_ms);
void pl_memory_bus_free(struct pl_memory_bus *b);
/* Before the hub exists: the epoch's start, for pl_hub_options. */
int64_t pl_memory_bus_epoch(const struct pl_memory_bus *b);
/* The hub that gets the announcements; once, before anything is published. Time comes from it. */
void pl_memory_bus_connect(struct pl_memory_bus *b, struct pl_hub *h);

#endif
