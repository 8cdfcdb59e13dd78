#ifndef PL_APP_NODE_BUS_H
#define PL_APP_NODE_BUS_H

#include "server/transport/node.h"

/* The bus that bus.url names, with the hub that is on it. */
struct pl_node_bus;

/* bus.url is memory:, inside one process. */
bool pl_node_bus_is_embedded(const struct pl_config *cfg);
/* 0, or PL_ERR_INVALID with a sentence in err. */
int pl_node_bus_check(const struct pl_config *cfg, char *err, unsigned err_size);
/* bus.url has been checked. name: the caller's. */
struct pl_node_bus *pl_node_bus_new(const struct pl_config *cfg, const char *name,
                                    struct pl_wheel *wheel, uint64_t mono_ms, int64_t unix_ms);
/* For logs: the URL without credentials. */
const char *pl_node_bus_name(const struct pl_node_bus *b);
struct pl_hub *pl_node_bus_hub(struct pl_node_bus *b);
/* Sets what the edges ask a node about its bus. */
void pl_node_bus_join(struct pl_node_bus *b, struct pl_node *n);
void pl_node_bus_connect(struct pl_node_bus *b, struct uv_loop_s *loop, const char *address);
/* Closes what lives on the loop, before the loop goes; the hub stays. Harmless on NULL. */
void pl_node_bus_leave(struct pl_node_bus *b);
/* The hub, too. Harmless on NULL. */
void pl_node_bus_free(struct pl_node_bus *b);

#endif
