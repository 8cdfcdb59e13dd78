#ifndef PL_CLI_NODES_VIEW_H
#define PL_CLI_NODES_VIEW_H

#include "protocol/value.h"
#include "server/base/buf.h"

/* What nodes say about themselves on the bus, as a table for people or as JSON lines. Pure. */
struct pl_cli_nodes {
    const struct pl_value *pairs; /* array: name, JSON, name, JSON, … as HGETALL answers */
    int64_t now_ms;               /* unix */
    bool all;  /* also nodes that have said nothing since the time they named, as "gone" */
    bool json; /* an object per line: all a node says, with `node` and `gone` */
};
/* Sorted by name. Returns how many were written. */
size_t pl_cli_nodes_render(const struct pl_cli_nodes *n, struct pl_buf *out);

#endif
