#ifndef PL_CLI_BUS_H
#define PL_CLI_BUS_H

#include "server/cli/args.h"
#include "server/cli/redis.h"

/* The Redis of a bus, for the commands that look into it. */
struct pl_cli_bus {
    struct pl_cli_redis *redis;
    char *prefix;
};

/* --bus and --prefix, or bus.url and bus.prefix as parleyd has them; connected. 0, or an exit
 * status after saying why. */
int pl_cli_bus_open(const struct pl_cli_args *args, struct pl_cli_bus *ret);
void pl_cli_bus_close(struct pl_cli_bus *b);

/* As pl_cli_redis_ask; an error is said, and PL_CLI_FAILED. */
int pl_cli_bus_ask(const struct pl_cli_args *args, struct pl_cli_bus *b, const struct pl_str *words,
                   size_t count, struct pl_arena *arena, const struct pl_value **ret);

#endif
