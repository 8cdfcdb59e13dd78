#include "server/cli/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/cli/command.h"

static int connect_to(const struct pl_cli_args *args, const char *url, int64_t timeout_ms,
                      struct pl_cli_redis **ret)
{
    struct pl_cli_redis_error err;
    struct pl_redis_url u;

    if (strcmp(url, "memory:") == 0) {
        return pl_cli_fail(args, PL_CLI_USAGE,
                           "the bus is memory:, into which nobody can look from outside: give "
                           "--bus redis://…, PARLEY_BUS_URL or --config");
    }
    if (pl_redis_url_parse(url, &u, err.text, sizeof(err.text)) != 0) {
        return pl_cli_fail(args, PL_CLI_USAGE, "%s: %s", args->bus ? "--bus" : "bus.url", err.text);
    }
    if (pl_cli_redis_open(&u, timeout_ms, ret, &err) != 0) {
        return pl_cli_fail(args, PL_CLI_FAILED, "%s", err.text);
    }
    return 0;
}

int pl_cli_bus_open(const struct pl_cli_args *args, struct pl_cli_bus *ret)
{
    struct pl_config *cfg;
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    rc = connect_to(args, args->bus ? args->bus : cfg->bus_url, cfg->bus_timeout, &ret->redis);
    if (rc == 0) {
        ret->prefix = pl_strdup(args->prefix ? args->prefix : cfg->bus_prefix);
    }
    pl_config_free(cfg);
    return rc;
}

void pl_cli_bus_close(struct pl_cli_bus *b)
{
    pl_cli_redis_close(b->redis);
    free(b->prefix);
}

int pl_cli_bus_ask(const struct pl_cli_args *args, struct pl_cli_bus *b, const struct pl_str *words,
                   size_t count, struct pl_arena *arena, const struct pl_value **ret)
{
    struct pl_cli_redis_error err;

    return pl_cli_redis_ask(b->redis, words, count, arena, ret, &err) == 0
               ? 0
               : pl_cli_fail(args, PL_CLI_FAILED, "%s", err.text);
}
