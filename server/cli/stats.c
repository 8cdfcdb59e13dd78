#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/cli/command.h"
#include "server/cli/metrics_text.h"
#include "server/cli/socket.h"
#include "server/cli/stats_view.h"

static const uint64_t interval_ms = 1000;

struct look {
    struct pl_buf metrics, health;
    uint64_t at_us;
    char error[320]; /* "": it answered */
};

struct node {
    struct pl_url url;
    char name[300];
    struct look last, now;
};

static struct pl_str str_of(const struct pl_buf *b)
{
    return (struct pl_str){(const char *)b->data, b->len};
}

static void look_done(struct look *l)
{
    pl_buf_done(&l->metrics);
    pl_buf_done(&l->health);
}

/* False: error says why. */
static bool get(const struct pl_url *u, const char *target, struct pl_buf *ret_body, char *error,
                size_t size)
{
    const struct pl_cli_request rq = {.method = "GET", .target = target, .timeout_ms = 5000};
    struct pl_cli_failure failure;
    struct pl_cli_response r;
    bool ok;

    if (pl_cli_http(u, &rq, &r, &failure) != 0) {
        (void)snprintf(error, size, "%s", failure.text);
        return false;
    }
    /* An unhealthy server says so with a 503 that has the same body. */
    ok = r.status == 200 || r.status == 503;
    if (ok) {
        *ret_body = r.body;
        r.body = (struct pl_buf){0};
    } else {
        (void)snprintf(error, size,
                       "%s answered %d; the operator's paths are answered to the server's own "
                       "machine only, or on server.internal_listen: give that address with --url",
                       target, r.status);
    }
    pl_cli_response_done(&r);
    return ok;
}

static bool take_look(struct node *n)
{
    struct look *l = &n->now;

    *l = (struct look){.at_us = pl_clock_mono_us()};
    return get(&n->url, "/metrics", &l->metrics, l->error, sizeof(l->error)) &&
           get(&n->url, "/health", &l->health, l->error, sizeof(l->error));
}

static void show(struct pl_buf *out, bool in_place)
{
    /* Home, the lines each cleared to their end, and what is left below. */
    if (in_place) {
        const char *line = pl_buf_cstr(out);

        fputs("\033[H", stdout);
        for (const char *stop; (stop = strchr(line, '\n')); line = stop + 1) {
            printf("%.*s\033[K\n", (int)(stop - line), line);
        }
        fputs("\033[J", stdout);
    } else {
        printf("%s\n", pl_buf_cstr(out));
    }
    fflush(stdout);
}

/* All of them as one server, and under that, where there is more than one process, each. */
static void render(const struct node *nodes, size_t count, struct pl_buf *out)
{
    struct pl_cli_stats_node *each = pl_alloc(count * sizeof(*each));
    struct pl_buf before = {0}, after = {0}, older = {0}, newer = {0};
    struct pl_cli_stats all = {.elapsed_s = 0};

    for (size_t i = 0; i < count; i++) {
        const struct node *n = &nodes[i];
        bool well = n->now.error[0] == '\0';

        each[i] = (struct pl_cli_stats_node){n->name,
                                             well ? NULL : n->now.error,
                                             {str_of(&n->last.metrics), str_of(&n->now.metrics),
                                              str_of(&n->now.health),
                                              (double)(n->now.at_us - n->last.at_us) / 1e6}};
        if (well) {
            pl_buf_append(&before, n->last.metrics.data, n->last.metrics.len);
            pl_buf_append(&after, n->now.metrics.data, n->now.metrics.len);
            all.health = count == 1 ? each[i].stats.health : PL_LIT("");
            all.elapsed_s = each[i].stats.elapsed_s;
        }
    }
    pl_cli_metrics_merge(str_of(&before), PL_LIT(""), &older);
    pl_cli_metrics_merge(str_of(&after), PL_LIT(""), &newer);
    all.before = str_of(&older);
    all.after = str_of(&newer);
    pl_cli_stats_render(&all, out);
    if (count > 1 || pl_cli_stats_has_workers(each, count)) {
        pl_buf_append_byte(out, '\n');
        pl_cli_stats_table(each, count, out);
    }
    pl_buf_done(&before);
    pl_buf_done(&after);
    pl_buf_done(&older);
    pl_buf_done(&newer);
    free(each);
}

/* One of several may be away; the only one may not. */
static int look_at_all(const struct pl_cli_args *args, struct node *nodes, size_t count)
{
    size_t well = 0;

    for (size_t i = 0; i < count; i++) {
        well += take_look(&nodes[i]);
    }
    if (well > 0) {
        return 0;
    }
    return pl_socket_interrupted() ? PL_CLI_FAILED
                                   : pl_cli_fail(args, PL_CLI_FAILED, "%s", nodes[0].now.error);
}

static int refresh(const struct pl_cli_args *args, struct node *nodes, size_t count, bool in_place)
{
    int rc;

    for (uint64_t next_ms = pl_clock_mono_ms();; next_ms += interval_ms) {
        rc = look_at_all(args, nodes, count);
        if (rc == 0) {
            struct pl_buf out = {0};

            render(nodes, count, &out);
            show(&out, in_place);
            pl_buf_done(&out);
        }
        for (size_t i = 0; i < count; i++) {
            look_done(&nodes[i].last);
            nodes[i].last = nodes[i].now;
        }
        if (rc != 0 || args->once || pl_socket_sleep_until(next_ms + interval_ms) != 0) {
            break;
        }
    }
    for (size_t i = 0; i < count; i++) {
        look_done(&nodes[i].last);
    }
    return pl_socket_interrupted() ? PL_CLI_OK : rc;
}

/* --url as often as it was given, or the one of pl_cli_server_url. */
static int read_urls(const struct pl_cli_args *args, struct node *nodes, size_t *ret_count)
{
    size_t given = args->urls.count;

    for (size_t i = 0; i < given; i++) {
        const char *reason = pl_url_parse(args->urls.items[i], &nodes[i].url);

        if (reason != NULL) {
            return pl_cli_fail(args, PL_CLI_USAGE, "%s: %s", args->urls.items[i], reason);
        }
        (void)snprintf(nodes[i].name, sizeof(nodes[i].name), "%s", nodes[i].url.authority);
    }
    *ret_count = given > 0 ? given : 1;
    if (given == 0) {
        int rc = pl_cli_server_url(args, &nodes[0].url);

        if (rc != 0) {
            return rc;
        }
        (void)snprintf(nodes[0].name, sizeof(nodes[0].name), "%s", nodes[0].url.authority);
    }
    return 0;
}

int pl_cli_stats(const struct pl_cli_args *args)
{
    bool in_place = isatty(STDOUT_FILENO) && !args->once;
    struct node *nodes = pl_alloc((args->urls.count + 1) * sizeof(*nodes));
    size_t count = 0;
    int rc = read_urls(args, nodes, &count);

    if (rc == 0) {
        pl_socket_catch_signals();
        if (in_place) {
            fputs("\033[2J", stdout);
        }
        rc = refresh(args, nodes, count, in_place);
    }
    free(nodes);
    return rc;
}
