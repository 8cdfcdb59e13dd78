#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/bus/redis_wire.h"
#include "server/cli/bus.h"
#include "server/cli/command.h"
#include "server/cli/log_view.h"

enum {
    LIMIT = 20,
    LIMIT_MAX = 1000 /* of one reply, which is held whole */
};

/* Appends the channel's name; nothing for the changes. */
static int write_channel(const struct pl_cli_args *args, struct pl_buf *out)
{
    int64_t id;

    if (args->count > LIMIT_MAX) {
        return pl_cli_fail(args, PL_CLI_USAGE, "--limit: at most %d; go on with --since",
                           LIMIT_MAX);
    }
    if ((args->community != NULL) + (args->channel != NULL) + args->control != 1) {
        return pl_cli_fail(args, PL_CLI_USAGE,
                           "one of --community, --channel and --control is expected");
    }
    if (args->channel) {
        pl_buf_append_str(out, args->channel);
    } else if (args->community) {
        if (!pl_parse_cursor((struct pl_str){args->community, strlen(args->community)}, &id)) {
            return pl_cli_fail(args, PL_CLI_USAGE, "--community: \"%s\" is not an integer",
                               args->community);
        }
        pl_buf_printf(out, "community:%" PRId64, id);
    }
    return 0;
}

static int read_entries(const struct pl_cli_args *args, struct pl_cli_bus *b, struct pl_str key,
                        struct pl_arena *arena, const struct pl_value **ret)
{
    char from[32], limit[32];
    int from_len = snprintf(from, sizeof(from), "(%" PRId64 "-0", args->since);
    int limit_len = snprintf(limit, sizeof(limit), "%" PRId64, args->count ? args->count : LIMIT);
    const struct pl_str count[] = {PL_LIT("COUNT"), {limit, (size_t)limit_len}};
    const struct pl_str since[] = {PL_LIT("XRANGE"), key,      {from, (size_t)from_len},
                                   PL_LIT("+"),      count[0], count[1]};
    const struct pl_str newest[] = {PL_LIT("XREVRANGE"), key,      PL_LIT("+"),
                                    PL_LIT("-"),         count[0], count[1]};

    return pl_cli_bus_ask(args, b, args->since >= 0 ? since : newest, 6, arena, ret);
}

static int show(const struct pl_cli_args *args, struct pl_cli_bus *b, struct pl_str channel)
{
    struct pl_buf key = {0}, out = {0};
    struct pl_arena arena = {0};
    const struct pl_value *entries;
    int rc;

    pl_redis_key(&key, b->prefix, args->control ? "control" : "log", channel);
    rc = read_entries(args, b, (struct pl_str){(const char *)key.data, key.len}, &arena, &entries);
    if (rc == 0) {
        pl_cli_log_render(entries, args->since < 0, args->json, &out);
        fputs(pl_buf_cstr(&out), stdout);
    }
    pl_buf_done(&key);
    pl_buf_done(&out);
    pl_arena_done(&arena);
    return rc;
}

int pl_cli_log(const struct pl_cli_args *args)
{
    struct pl_buf channel = {0};
    struct pl_cli_bus b;
    int rc = write_channel(args, &channel);

    if (rc == 0) {
        rc = pl_cli_bus_open(args, &b);
        if (rc == 0) {
            rc = show(args, &b, (struct pl_str){(const char *)channel.data, channel.len});
            pl_cli_bus_close(&b);
        }
    }
    pl_buf_done(&channel);
    return rc;
}
