#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/cli/command.h"
#include "server/cli/socket.h"
#include "server/cli/stats_view.h"

static const uint64_t interval_ms = 1000;

/* 0 and the body, or PL_CLI_FAILED after saying why. */
static int get(const struct pl_cli_args *args, const struct pl_url *u, const char *target,
               struct pl_buf *ret_body)
{
    const struct pl_cli_request rq = {.method = "GET", .target = target, .timeout_ms = 5000};
    struct pl_cli_failure failure;
    struct pl_cli_response r;

    if (pl_cli_http(u, &rq, &r, &failure) != 0) {
        return pl_socket_interrupted() ? PL_CLI_FAILED
                                       : pl_cli_fail(args, PL_CLI_FAILED, "%s", failure.text);
    }
    /* An unhealthy server says so with a 503 that has the same body. */
    if (r.status != 200 && r.status != 503) {
        pl_cli_fail(args, PL_CLI_FAILED,
                    "%s answered %d; the operator's paths are answered to the server's own machine "
                    "only, or on "
                    "server.internal_listen: give that address with --url",
                    target, r.status);
        pl_cli_response_done(&r);
        return PL_CLI_FAILED;
    }
    *ret_body = r.body;
    r.body = (struct pl_buf){0};
    pl_cli_response_done(&r);
    return 0;
}

static struct pl_str str_of(const struct pl_buf *b)
{
    return (struct pl_str){(const char *)b->data, b->len};
}

static void show(const struct pl_cli_stats *s, bool in_place)
{
    struct pl_buf out = {0};

    /* Home, the lines each cleared to their end, and what is left below. */
    pl_cli_stats_render(s, &out);
    if (in_place) {
        const char *line = pl_buf_cstr(&out);

        fputs("\033[H", stdout);
        for (const char *stop; (stop = strchr(line, '\n')); line = stop + 1) {
            printf("%.*s\033[K\n", (int)(stop - line), line);
        }
        fputs("\033[J", stdout);
    } else {
        printf("%s\n", pl_buf_cstr(&out));
    }
    fflush(stdout);
    pl_buf_done(&out);
}

struct look {
    struct pl_buf metrics, health;
    uint64_t at_us;
};

static int take_look(const struct pl_cli_args *args, const struct pl_url *u, struct look *ret)
{
    int rc;

    ret->at_us = pl_clock_mono_us();
    rc = get(args, u, "/metrics", &ret->metrics);
    return rc == 0 ? get(args, u, "/health", &ret->health) : rc;
}

static void look_done(struct look *l)
{
    pl_buf_done(&l->metrics);
    pl_buf_done(&l->health);
}

static int refresh(const struct pl_cli_args *args, const struct pl_url *u, bool in_place)
{
    struct look last = {0}, now;
    int rc;

    for (uint64_t next_ms = pl_clock_mono_ms();; next_ms += interval_ms) {
        now = (struct look){0};
        rc = take_look(args, u, &now);
        if (rc == 0) {
            const struct pl_cli_stats s = {str_of(&last.metrics), str_of(&now.metrics),
                                           str_of(&now.health),
                                           (double)(now.at_us - last.at_us) / 1e6};

            show(&s, in_place);
        }
        look_done(&last);
        last = now;
        if (rc != 0 || args->once || pl_socket_sleep_until(next_ms + interval_ms) != 0) {
            break;
        }
    }
    look_done(&last);
    return pl_socket_interrupted() ? PL_CLI_OK : rc;
}

int pl_cli_stats(const struct pl_cli_args *args)
{
    bool in_place = isatty(STDOUT_FILENO) && !args->once;
    struct pl_url u;
    int rc = pl_cli_server_url(args, &u);

    if (rc != 0) {
        return rc;
    }
    pl_socket_catch_signals();
    if (in_place) {
        fputs("\033[2J", stdout);
    }
    return refresh(args, &u, in_place);
}
