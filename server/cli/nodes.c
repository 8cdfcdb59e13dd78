#include <stdio.h>

#include "server/base/clock.h"
#include "server/bus/redis_wire.h"
#include "server/cli/bus.h"
#include "server/cli/command.h"
#include "server/cli/nodes_view.h"

static int show(const struct pl_cli_args *args, struct pl_cli_bus *b, struct pl_arena *arena)
{
    struct pl_cli_nodes nodes = {
        .now_ms = pl_clock_unix_ms(), .all = args->all, .json = args->json};
    struct pl_buf key = {0}, out = {0};
    int rc;

    pl_redis_key(&key, b->prefix, "nodes", (struct pl_str){NULL, 0});
    rc = pl_cli_bus_ask(
        args, b, (const struct pl_str[]){PL_LIT("HGETALL"), {(const char *)key.data, key.len}}, 2,
        arena, &nodes.pairs);
    if (rc == 0 && pl_cli_nodes_render(&nodes, &out) == 0) {
        fprintf(stderr, "parley nodes: nobody is there under the prefix %s\n", b->prefix);
    }
    fputs(pl_buf_cstr(&out), stdout);
    pl_buf_done(&key);
    pl_buf_done(&out);
    return rc;
}

int pl_cli_nodes(const struct pl_cli_args *args)
{
    struct pl_arena arena = {0};
    struct pl_cli_bus b;
    int rc = pl_cli_bus_open(args, &b);

    if (rc == 0) {
        rc = show(args, &b, &arena);
        pl_cli_bus_close(&b);
    }
    pl_arena_done(&arena);
    return rc;
}
