/* Is this set-up as it should be? Each check adds what it found; nothing is changed, but for a queue of
 * the doctor's own that is given up at the end. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/cli/bus.h"
#include "server/cli/command.h"
#include "server/cli/findings.h"
#include "server/cli/socket.h"
#include "server/cli/tls.h"
#include "server/cli/ws_client.h"

enum {
    ASK_MS = 10000,
    SLICE_MS = 100,
    LATE_MS = 5000, /* an answer that is due may take so long */
};

struct doctor {
    const struct pl_cli_args *args;
    const struct pl_config *cfg;
    struct pl_cli_findings found;
};

/* ---- Redis and the clock ---- */

static void look_at_clock(struct doctor *d, struct pl_cli_bus *b, struct pl_arena *arena)
{
    const struct pl_str words[] = {PL_LIT("TIME")};
    int64_t before_us = pl_clock_unix_us(), after_us, theirs_us;
    struct pl_cli_redis_error err;
    const struct pl_value *v;
    char s[24], us[24];

    if (pl_cli_redis_ask(b->redis, words, 1, arena, &v, &err) != 0 || v->type != PL_ARRAY ||
        v->u.array.count != 2) {
        pl_cli_found(&d->found, "clock", PL_CLI_SKIPPED, "Redis does not tell its time");
        return;
    }
    after_us = pl_clock_unix_us();
    (void)snprintf(s, sizeof(s), "%.*s", (int)v->u.array.items[0].u.string.len,
                   v->u.array.items[0].u.string.s);
    (void)snprintf(us, sizeof(us), "%.*s", (int)v->u.array.items[1].u.string.len,
                   v->u.array.items[1].u.string.s);
    theirs_us = strtoll(s, NULL, 10) * 1000000 + strtoll(us, NULL, 10);
    pl_cli_judge_clock(&d->found, ((before_us + after_us) / 2 - theirs_us) / 1000,
                       (after_us - before_us) / 2000 + 1);
}

static void look_at_redis(struct doctor *d)
{
    static const struct pl_str info[] = {PL_LIT("INFO")};
    static const struct pl_str config[] = {
        PL_LIT("CONFIG"),     PL_LIT("GET"),     PL_LIT("maxmemory*"),
        PL_LIT("appendonly"), PL_LIT("timeout"), PL_LIT("client-output-buffer-limit")};
    const char *url = d->args->bus != NULL ? d->args->bus : d->cfg->bus_url;
    const struct pl_value *text, *settings = NULL;
    struct pl_cli_redis_error err;
    struct pl_arena arena = {0};
    struct pl_cli_bus b;

    if (strcmp(url, "memory:") == 0) {
        pl_cli_found(&d->found, "redis", PL_CLI_SKIPPED, "the bus is memory:, one process");
        return;
    }
    if (pl_cli_bus_open(d->args, &b) != 0) { /* it has said why */
        pl_cli_found(&d->found, "redis", PL_CLI_WRONG, "cannot be used: see above");
        return;
    }
    if (pl_cli_redis_ask(b.redis, info, 1, &arena, &text, &err) != 0 || text->type != PL_STRING) {
        pl_cli_found(&d->found, "redis", PL_CLI_SKIPPED, "INFO is refused: %s", err.text);
    } else {
        if (pl_cli_redis_ask(b.redis, config, 6, &arena, &settings, &err) != 0 ||
            settings->type != PL_ARRAY) {
            settings = NULL;
        }
        pl_cli_judge_redis(&d->found, text->u.string, settings);
    }
    look_at_clock(d, &b, &arena);
    pl_cli_bus_close(&b);
    pl_arena_done(&arena);
}

/* ---- this machine ---- */

static int64_t read_number(const char *path)
{
    long long n = -1;
    FILE *f = fopen(path, "r");

    if (f != NULL) {
        if (fscanf(f, "%lld", &n) != 1) {
            n = -1;
        }
        fclose(f);
    }
    return n;
}

static void look_at_limits(struct doctor *d)
{
    enum {
        FILES = 65536,
        BACKLOG = 1024
    };
    struct rlimit l = {0};
    int64_t wanted = d->cfg->limits_connections > FILES ? d->cfg->limits_connections : FILES;
    int64_t backlog = read_number("/proc/sys/net/core/somaxconn");
    bool enough;

    (void)getrlimit(RLIMIT_NOFILE, &l);
    enough = l.rlim_max == RLIM_INFINITY || (int64_t)l.rlim_max >= wanted;
    pl_cli_found(&d->found, "files", enough ? PL_CLI_FINE : PL_CLI_DOUBT,
                 "%llu may be open, in this shell%s", (unsigned long long)l.rlim_max,
                 enough ? "" : ": set LimitNOFILE= of the service above the number of clients");
    pl_cli_found(&d->found, "net.core.somaxconn", backlog >= BACKLOG ? PL_CLI_FINE : PL_CLI_DOUBT,
                 "%lld%s", (long long)backlog,
                 backlog >= BACKLOG ? "" : ": many clients at once are refused by the kernel");
}

/* Parley speaks no TLS: what it listens on is for its own machine, or for a network that is trusted. */
static void look_at_hops(struct doctor *d)
{
    const struct {
        const char *check, *address, *what;
    } hops[] = {
        {"server.listen", d->cfg->server_listen, "tokens and queue ids"},
        {"server.internal_listen", d->cfg->server_internal_listen, "API keys"},
    };
    const char *bus = d->args->bus != NULL ? d->args->bus : d->cfg->bus_url;
    const char *at = strstr(bus, "//");

    for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++) {
        bool near = hops[i].address[0] == '\0' || pl_cli_is_loopback(hops[i].address);

        pl_cli_found(&d->found, hops[i].check, near ? PL_CLI_FINE : PL_CLI_DOUBT, "%s%s%s%s",
                     hops[i].address[0] != '\0' ? hops[i].address : "not set", near ? "" : ": ",
                     near ? "" : hops[i].what,
                     near ? "" : " arrive there unencrypted: only a network that you trust may");
    }
    if (at != NULL) {
        const char *host = strrchr(at, '@') != NULL ? strrchr(at, '@') + 1 : at + 2;
        bool near = pl_cli_is_loopback(host);

        pl_cli_found(&d->found, "bus.url", near ? PL_CLI_FINE : PL_CLI_DOUBT, "%s",
                     near
                         ? "Redis is on this machine"
                         : "events, memberships and Redis' password cross the network unencrypted: "
                           "only one that you trust, or a tunnel (docs/redis.md)");
    }
}

/* ---- the server as clients reach it ---- */

static bool look_at_certificate(struct doctor *d, const struct pl_url *u)
{
    char why_not[200] = "";
    int64_t ends_s = 0;
    bool trusted = false;

    if (!u->tls) {
        bool near = pl_cli_is_loopback(u->authority);

        pl_cli_found(
            &d->found, "encryption", near ? PL_CLI_FINE : PL_CLI_WRONG, "%s",
            near ? "http://, and it stays on this machine"
                 : "http:// to another machine: tokens and queue ids can be read on the way");
        return true;
    }
    if (pl_tls_certificate(u, &ends_s, &trusted, why_not, sizeof(why_not)) != 0) {
        pl_cli_found(&d->found, "certificate", PL_CLI_WRONG, "%s", why_not);
        return false;
    }
    pl_cli_judge_certificate(&d->found, ends_s - pl_clock_unix_ms() / 1000, trusted, why_not);
    return trusted;
}

/* *ret_body is the caller's. */
static bool ask(const struct pl_url *u, const char *method, const char *target, const char *lines,
                int *ret_status, struct pl_buf *ret_body, char *why_not, size_t size)
{
    const struct pl_cli_request rq = {
        .method = method, .target = target, .head_lines = lines, .timeout_ms = ASK_MS};
    struct pl_cli_failure failure;
    struct pl_cli_response r;

    if (pl_cli_http(u, &rq, &r, &failure) != 0) {
        (void)snprintf(why_not, size, "%s", failure.text);
        return false;
    }
    *ret_status = r.status;
    *ret_body = r.body;
    r.body = (struct pl_buf){0};
    pl_cli_response_done(&r);
    return true;
}

static bool look_at_health(struct doctor *d, const struct pl_url *u)
{
    struct pl_buf body = {0};
    char why_not[256];
    int status = 0;
    bool there = ask(u, "GET", "/realtime/health", NULL, &status, &body, why_not, sizeof(why_not));

    if (!there) {
        pl_cli_found(&d->found, "server", PL_CLI_WRONG, "does not answer: %s", why_not);
    } else if (status != 200 || strstr(pl_buf_cstr(&body), "\"active_queues\"") == NULL) {
        pl_cli_found(&d->found, "server", PL_CLI_WRONG,
                     "/realtime/health answers %d, and not as Parley does", status);
    } else {
        bool healthy = strstr(pl_buf_cstr(&body), "\"status\":\"healthy\"") != NULL;

        pl_cli_found(&d->found, "server", healthy ? PL_CLI_FINE : PL_CLI_DOUBT, "%s",
                     healthy ? "healthy" : "degraded or draining: see /health");
    }
    pl_buf_done(&body);
    return there && status == 200;
}

/* A token of --token, or one of a user of the doctor's own. NULL: there is no key. */
static char *make_token(const struct doctor *d)
{
    struct pl_cli_args mine = *d->args;
    struct pl_auth *auth;
    char *token = NULL;
    bool has_key = false;

    if (d->args->token != NULL) {
        return pl_strdup(d->args->token);
    }
    if (pl_cli_load_auth(d->args, &auth) == 0) {
        has_key = pl_auth_has_jwt_key(auth);
        pl_auth_free(auth);
    }
    mine.user = "parley-doctor";
    mine.channels = (struct pl_cli_list){{"parley:doctor"}, 1};
    mine.communities.count = 0;
    return has_key && pl_cli_mint(&mine, &token) == 0 ? token : NULL;
}

/* A held poll and a WebSocket, side by side, and when each of them ended. */
struct held {
    const struct pl_url *url;
    char queue_id[64];
    int poll_fd; /* -1: ended */
    struct pl_cli_ws ws;
    bool has_ws;
    uint64_t begun_ms;
};

/* Registers, and sends the poll. */
static bool begin_poll(struct held *h, const char *lines, int64_t hold_ms, char *why_not,
                       size_t size)
{
    struct pl_arena arena = {0};
    const struct pl_value *v, *id;
    struct pl_buf body = {0}, out = {0};
    char target[128];
    int status = 0;
    bool ok = ask(h->url, "POST", "/realtime/register", lines, &status, &body, why_not, size);

    if (ok && status != 200) {
        (void)snprintf(why_not, size, "register answers %d", status);
    }
    ok = ok && status == 200 && pl_decode(PL_JSON, body.data, body.len, &arena, &v, NULL) == 0 &&
         (id = pl_value_get(v, "queue_id")) != NULL && id->type == PL_STRING &&
         id->u.string.len < sizeof(h->queue_id);
    if (ok) {
        const struct pl_cli_request rq = {.method = "GET", .target = target, .head_lines = lines};

        memcpy(h->queue_id, id->u.string.s, id->u.string.len);
        (void)snprintf(target, sizeof(target), "/realtime/poll?queue_id=%s&timeout=%lld",
                       h->queue_id, (long long)(hold_ms / 1000));
        pl_cli_http_write(h->url, &rq, NULL, &out);
        ok = pl_socket_connect(h->url, pl_clock_mono_ms() + ASK_MS, &h->poll_fd, why_not, size) ==
                 0 &&
             pl_socket_write(h->poll_fd, out.data, out.len, pl_clock_mono_ms() + ASK_MS) == 0;
    }
    pl_buf_done(&body);
    pl_buf_done(&out);
    pl_arena_done(&arena);
    return ok;
}

static void found_poll(struct doctor *d, struct held *h, int64_t hold_ms)
{
    double after_s = (double)(pl_clock_mono_ms() - h->begun_ms) / 1000;
    struct pl_cli_response r = {0};
    struct pl_cli_failure failure = {.text = ""};
    struct pl_buf rest = {0};
    bool whole =
        pl_cli_http_read(h->poll_fd, pl_clock_mono_ms() + ASK_MS, &r, &rest, &failure) == 0;

    if (whole && r.status == 200 && after_s * 1000 >= (double)hold_ms - 1000) {
        pl_cli_found(&d->found, "long-poll", PL_CLI_FINE, "held for %.0f s", after_s);
    } else if (whole && r.status == 200) {
        pl_cli_found(&d->found, "long-poll", PL_CLI_DOUBT,
                     "answered after %.1f s: the server's own limit (longpoll.timeout), or news",
                     after_s);
    } else {
        pl_cli_found(
            &d->found, "long-poll", PL_CLI_WRONG,
            "cut after %.1f s (%s %d): something in between waits no longer than that; its "
            "timeout must be above longpoll.timeout",
            after_s, whole ? "answer" : failure.text, r.status);
    }
    pl_cli_response_done(&r);
    pl_buf_done(&rest);
    close(h->poll_fd);
    h->poll_fd = -1;
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

static void found_websocket(struct doctor *d, struct held *h, const struct pl_cli_ws_event *e)
{
    double after_s = (double)(pl_clock_mono_ms() - h->begun_ms) / 1000;

    pl_cli_found(&d->found, "websocket", PL_CLI_WRONG,
                 "cut after %.1f s (%d %s): something in between does not wait as long as "
                 "websocket.ping_interval",
                 after_s, e->code, e->reason);
    pl_cli_ws_done(&h->ws);
    h->has_ws = false;
}

/* A ping of the server's would keep the way open: nothing is sent back, and pings are counted as quiet. */
static void watch(struct doctor *d, struct held *h, int64_t hold_ms)
{
    uint64_t end_ms = h->begun_ms + (uint64_t)hold_ms + LATE_MS;

    while (!pl_socket_interrupted() && pl_clock_mono_ms() < end_ms) {
        uint64_t slice_ms = pl_clock_mono_ms() + SLICE_MS;
        struct pl_cli_ws_event e = {.type = PL_CLI_WS_GOT_NOTHING};

        if (h->poll_fd < 0 && (!h->has_ws || slice_ms >= h->begun_ms + (uint64_t)hold_ms)) {
            break;
        }
        if (h->has_ws) {
            pl_cli_ws_next(&h->ws, slice_ms, &e);
        } else {
            (void)pl_socket_sleep_until(slice_ms);
        }
        if (e.type == PL_CLI_WS_GOT_CLOSE) {
            found_websocket(d, h, &e);
        }
        if (h->poll_fd >= 0 && is_readable(h->poll_fd)) {
            found_poll(d, h, hold_ms);
        }
    }
    if (h->has_ws) {
        pl_cli_found(&d->found, "websocket", PL_CLI_FINE, "open for %.0f s",
                     (double)(pl_clock_mono_ms() - h->begun_ms) / 1000);
    }
    if (h->poll_fd >= 0) {
        pl_cli_found(&d->found, "long-poll", PL_CLI_WRONG,
                     "no answer %d s after it was due: is it buffered in between?", LATE_MS / 1000);
    }
}

static void begin_websocket(struct doctor *d, struct held *h, const char *lines)
{
    const struct pl_cli_ws_request rq = {.target = "/realtime/ws",
                                         .head_lines = lines,
                                         .subprotocol = "parley.v1.json",
                                         .timeout_ms = ASK_MS};
    struct pl_cli_failure failure = {.text = ""};
    struct pl_cli_response refusal;
    int rc = pl_cli_ws_open(h->url, &rq, &h->ws, &refusal, &failure);

    h->has_ws = rc == 0;
    if (rc == 1) {
        pl_cli_found(
            &d->found, "websocket", PL_CLI_WRONG,
            "the handshake is answered with %d: the proxy must pass Upgrade and Connection "
            "on /realtime/ws",
            refusal.status);
        pl_cli_response_done(&refusal);
    } else if (rc < 0) {
        pl_cli_found(&d->found, "websocket", PL_CLI_WRONG, "cannot be opened: %s", failure.text);
    }
}

static void give_up(struct held *h, const char *lines)
{
    struct pl_buf body = {0};
    char target[128], why_not[256];
    int status;

    if (h->has_ws) {
        pl_cli_ws_close(&h->ws, 1000, 2000);
        pl_cli_ws_done(&h->ws);
    }
    if (h->poll_fd >= 0) {
        close(h->poll_fd);
    }
    if (h->queue_id[0] != '\0') {
        (void)snprintf(target, sizeof(target), "/realtime/unregister?queue_id=%s", h->queue_id);
        (void)ask(h->url, "POST", target, lines, &status, &body, why_not, sizeof(why_not));
        pl_buf_done(&body);
    }
}

static void look_at_idle_cut(struct doctor *d, const struct pl_url *u)
{
    struct held h = {.url = u, .poll_fd = -1};
    int64_t hold_ms = d->args->patience_ms > 0 ? d->args->patience_ms : d->cfg->longpoll_timeout;
    char *token = make_token(d);
    struct pl_buf lines = {0};
    char why_not[256] = "";

    if (token == NULL) {
        pl_cli_found(&d->found, "long-poll", PL_CLI_SKIPPED,
                     "needs --token, or a key to make one: --key or --config");
        return;
    }
    pl_buf_printf(&lines, "Authorization: Bearer %s\r\n", token);
    begin_websocket(d, &h, pl_buf_cstr(&lines));
    h.begun_ms = pl_clock_mono_ms();
    if (!begin_poll(&h, pl_buf_cstr(&lines), hold_ms, why_not, sizeof(why_not))) {
        pl_cli_found(&d->found, "long-poll", PL_CLI_WRONG, "cannot be begun: %s", why_not);
    }
    watch(d, &h, hold_ms);
    give_up(&h, pl_buf_cstr(&lines));
    pl_buf_done(&lines);
    free(token);
}

static int look_at_server(struct doctor *d)
{
    struct pl_url u;
    const char *reason;

    if (d->args->url == NULL) {
        pl_cli_found(&d->found, "server", PL_CLI_SKIPPED,
                     "give --url, as clients have it, to look at it through its proxy");
        return 0;
    }
    reason = pl_url_parse_public(d->args->url, &u);
    if (reason != NULL) {
        return pl_cli_fail(d->args, PL_CLI_USAGE, "%s: %s", d->args->url, reason);
    }
    if (look_at_certificate(d, &u) && look_at_health(d, &u)) {
        look_at_idle_cut(d, &u);
    }
    return 0;
}

int pl_cli_doctor(const struct pl_cli_args *args)
{
    struct doctor d = {.args = args};
    struct pl_config *cfg;
    struct pl_buf out = {0};
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    d.cfg = cfg;
    pl_socket_catch_signals();
    look_at_limits(&d);
    look_at_hops(&d);
    look_at_redis(&d);
    rc = look_at_server(&d);
    if (rc == 0) {
        pl_cli_findings_render(&d.found, args->json, &out);
        fputs(pl_buf_cstr(&out), stdout);
        rc = pl_cli_findings_worst(&d.found) == PL_CLI_WRONG ? PL_CLI_FAILED : PL_CLI_OK;
    }
    pl_buf_done(&out);
    pl_config_free(cfg);
    return rc;
}
