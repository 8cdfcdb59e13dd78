#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/base/clock.h"
#include "server/cli/backend.h"
#include "server/cli/command.h"

enum {
    DATA_MAX = 16 << 20
};

/* --data, or stdin for "-". */
static int read_data(const struct pl_cli_args *args, struct pl_buf *out)
{
    char bytes[16384];
    size_t n;

    if (strcmp(args->data, "-") != 0) {
        pl_buf_append_str(out, args->data);
        return 0;
    }
    while (out->len <= DATA_MAX && (n = fread(bytes, 1, sizeof(bytes), stdin)) > 0) {
        pl_buf_append(out, bytes, n);
    }
    return out->len <= DATA_MAX ? 0 : pl_cli_fail(args, PL_CLI_USAGE, "--data -: more than 16 MiB");
}

static int decode_data(const struct pl_cli_args *args, struct pl_arena *arena,
                       const struct pl_value **ret)
{
    struct pl_decode_error err;
    struct pl_buf text = {0};
    int rc = read_data(args, &text);

    if (rc == 0 && pl_decode(PL_JSON, text.data, text.len, arena, ret, &err) != 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--data: %s, at byte %zu", err.text, err.offset);
    } else if (rc == 0 && (*ret)->type != PL_MAP) {
        rc = pl_cli_fail(args, PL_CLI_USAGE,
                         "--data: a JSON object is expected, as '{\"article_id\":789}'");
    }
    pl_buf_done(&text);
    return rc;
}

static int write_body(const struct pl_cli_args *args, struct pl_arena *arena, struct pl_buf *out)
{
    const struct pl_value *data;
    struct pl_writer w;
    struct pl_str bad;
    int rc = decode_data(args, arena, &data);

    if (rc != 0) {
        return rc;
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 2 + pl_cli_membership_members(args) + (args->exclude_user != NULL));
    pl_write_key(&w, "type");
    pl_write_cstr(&w, args->type);
    pl_write_key(&w, "data");
    pl_write_value(&w, data);
    if (args->exclude_user) {
        pl_write_key(&w, "exclude_user_id");
        pl_write_cstr(&w, args->exclude_user);
    }
    if (!pl_cli_write_membership(args, "community_ids", &w, &bad)) {
        return pl_cli_fail(args, PL_CLI_USAGE, "--community: \"%.*s\" is not an integer",
                           (int)bad.len, bad.s);
    }
    return 0;
}

/* A key of our own makes the retries safe. */
static int send_event(const struct pl_cli_args *args, struct pl_str body)
{
    struct pl_cli_response r;
    uint64_t random[2];
    char line[64];
    int64_t event_id;
    int rc;

    pl_random_bytes(random, sizeof(random));
    snprintf(line, sizeof(line), "Idempotency-Key: %016" PRIx64 "%016" PRIx64 "\r\n", random[0],
             random[1]);
    rc = pl_cli_backend_post(args, "/realtime/publish", body, line, &r);
    if (rc != 0) {
        return rc;
    }
    rc = pl_cli_backend_integer(args, &r, "event_id", &event_id);
    if (rc == 0) {
        printf("%" PRId64 "\n", event_id);
    }
    pl_cli_response_done(&r);
    return rc;
}

int pl_cli_publish(const struct pl_cli_args *args)
{
    struct pl_buf body = {0};
    struct pl_arena arena = {0};
    int rc = 0;

    if (pl_cli_membership_members(args) == 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE,
                         "--community or --channels is missing: where the event goes");
    }
    if (rc == 0) {
        rc = write_body(args, &arena, &body);
    }
    if (rc == 0) {
        rc = send_event(args, (struct pl_str){(const char *)body.data, body.len});
    }
    pl_buf_done(&body);
    pl_arena_done(&arena);
    return rc;
}
