#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/cli/command.h"
#include "server/cli/socket.h"

enum {
    DATA_MAX = 16 << 20,
    TRIES = 4
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

static int print_event_id(const struct pl_cli_args *args, const struct pl_cli_response *r)
{
    struct pl_arena arena = {0};
    const struct pl_value *v = NULL, *id = NULL;

    if (pl_decode(pl_cli_response_codec(r), r->body.data, r->body.len, &arena, &v, NULL) == 0) {
        id = pl_value_get(v, "event_id");
    }
    if (id && id->type == PL_INT_VALUE) {
        printf("%" PRId64 "\n", id->u.integer);
    }
    pl_arena_done(&arena);
    return id ? PL_CLI_OK
              : pl_cli_fail(args, PL_CLI_FAILED,
                            "the answer has no event_id: is this a Parley server?");
}

static int explain_refusal(const struct pl_cli_args *args, const struct pl_cli_response *r)
{
    struct pl_arena arena = {0};
    const char *what = pl_cli_describe_error(r, &arena, NULL);

    pl_cli_fail(args, PL_CLI_FAILED, "%s%s", what,
                r->status == 401 ? " (--api-key, PARLEY_AUTH_API_KEY or --config give the key)"
                : r->status == 404
                    ? " (with server.internal_listen set, publishing is done there: --url)"
                    : "");
    pl_arena_done(&arena);
    return PL_CLI_FAILED;
}

/* May this be sent again? Its outcome is unknown or it was not taken, and the Idempotency-Key
 * makes a second copy harmless. Sleeps as long as the server asks. */
static bool may_try_again(const struct pl_cli_response *r, int tries_left)
{
    int64_t wait_ms = pl_cli_response_retry_after_ms(r);

    if (tries_left == 0 || (r->status != 503 && r->status != 429)) {
        return false;
    }
    wait_ms = wait_ms < 0 ? 1000 : wait_ms > 10000 ? 10000 : wait_ms;
    return pl_socket_sleep_until(pl_clock_mono_ms() + (uint64_t)wait_ms) == 0;
}

static int send_event(const struct pl_cli_args *args, const struct pl_url *u,
                      const struct pl_cli_request *rq)
{
    struct pl_cli_failure failure;
    struct pl_cli_response r;
    int rc;

    for (int tries_left = TRIES - 1;; tries_left--) {
        if (pl_cli_http(u, rq, &r, &failure) != 0) {
            return pl_cli_fail(args, PL_CLI_FAILED, "%s; is parleyd running there? (--url)",
                               failure.text);
        }
        if (!may_try_again(&r, tries_left)) {
            break;
        }
        pl_cli_response_done(&r);
    }
    rc = r.status == 200 ? print_event_id(args, &r) : explain_refusal(args, &r);
    pl_cli_response_done(&r);
    return rc;
}

/* The header lines of a publish. A key of our own makes the retries safe. Without an API key the
 * server decides. */
static int write_head_lines(const struct pl_cli_args *args, struct pl_buf *out)
{
    struct pl_config *cfg;
    const char *key = args->api_key;
    uint64_t random[2];
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    if (!key && cfg->auth_api_key.count > 0) {
        key = cfg->auth_api_key.items[0];
    }
    if (key && strpbrk(key, "\r\n")) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--api-key: a key is one line");
    } else if (key && *key) {
        pl_buf_printf(out, "X-API-Key: %s\r\n", key);
    }
    pl_random_bytes(random, sizeof(random));
    pl_buf_printf(out, "Idempotency-Key: %016" PRIx64 "%016" PRIx64 "\r\n", random[0], random[1]);
    pl_config_free(cfg);
    return rc;
}

int pl_cli_publish(const struct pl_cli_args *args)
{
    struct pl_cli_request rq = {.method = "POST",
                                .target = "/realtime/publish",
                                .content_type = "application/json",
                                .timeout_ms = 15000};
    struct pl_buf body = {0}, lines = {0};
    struct pl_arena arena = {0};
    struct pl_url url;
    int rc = pl_cli_server_url(args, &url);

    if (rc == 0 && pl_cli_membership_members(args) == 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE,
                         "--community or --channels is missing: where the event goes");
    }
    if (rc == 0) {
        rc = write_body(args, &arena, &body);
    }
    if (rc == 0) {
        rc = write_head_lines(args, &lines);
    }
    if (rc == 0) {
        rq.head_lines = pl_buf_cstr(&lines);
        rq.body = (struct pl_str){(const char *)body.data, body.len};
        rc = send_event(args, &url, &rq);
    }
    pl_buf_done(&body);
    pl_buf_done(&lines);
    pl_arena_done(&arena);
    return rc;
}
