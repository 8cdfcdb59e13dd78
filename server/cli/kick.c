#include <inttypes.h>
#include <stdio.h>

#include "server/cli/backend.h"
#include "server/cli/command.h"

static int write_body(const struct pl_cli_args *args, struct pl_str user_id, struct pl_buf *out)
{
    struct pl_writer w;

    if (args->block_ms % 1000 != 0) {
        return pl_cli_fail(args, PL_CLI_USAGE, "--block: whole seconds are expected, as 60s or 1h");
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 1 + (size_t)(args->block_ms > 0));
    pl_write_key(&w, "user_id");
    pl_write_str(&w, user_id);
    if (args->block_ms > 0) {
        pl_write_key(&w, "block_s");
        pl_write_int(&w, args->block_ms / 1000);
    }
    return 0;
}

static int print_count(const struct pl_cli_args *args, const struct pl_cli_response *r)
{
    int64_t queues;
    int rc = pl_cli_backend_integer(args, r, "queues", &queues);

    if (rc == 0) {
        printf("%" PRId64 " %s ended\n", queues, queues == 1 ? "queue" : "queues");
    }
    return rc;
}

int pl_cli_kick(const struct pl_cli_args *args)
{
    struct pl_arena arena = {0};
    struct pl_cli_response r;
    struct pl_buf body = {0};
    struct pl_str user_id;
    int rc = pl_cli_user(args, &arena, &user_id);

    if (rc == 0) {
        rc = write_body(args, user_id, &body);
    }
    if (rc == 0) {
        /* Sent twice it does what it does once, but for who came between. */
        rc = pl_cli_backend_post(args, "/realtime/disconnect",
                                 (struct pl_str){(const char *)body.data, body.len}, NULL, &r);
        if (rc == 0) {
            rc = print_count(args, &r);
            pl_cli_response_done(&r);
        }
    }
    pl_buf_done(&body);
    pl_arena_done(&arena);
    return rc;
}
