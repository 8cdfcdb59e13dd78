#define _GNU_SOURCE /* POLLRDHUP */

#include "server/net/net.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

enum {
    DEFAULT_FILES = 65536,
    MAX_FILES = 1048576,
    SPARE_FILES = 64, /* for everything that is not a client: bus, files, answers of 503 */
    MANY_FILES = 256, /* below this a quarter is kept instead */
    SECOND_MS = 1000,
    SECOND_US = 1000000,
    WS_READ_BYTES = 128,   /* memory of every WebSocket, and how much is read of it at a time */
    HANDSHAKE_BYTES = 512, /* of ours (http_upgrade.c): what libwebsockets keeps of its headers */
    WS_WRITE_BYTES = 1048576, /* the most in one send(); libwebsockets would copy the rest */
};

/* ---- time and turns ---- */

void pl_net__enter(struct pl_net *n)
{
    uint64_t now = uv_now(&n->loop);

    if (now > n->now_ms) {
        n->now_ms = now;
        n->unix_ms = pl_clock_unix_ms();
        n->o.tick(n->o.arg, now, n->unix_ms);
    }
}

void pl_net__set_timer(struct pl_net *n, struct pl_timer *t, int64_t ms)
{
    pl_timer_set(n->o.wheel, t, n->now_ms + (uint64_t)ms);
}

void pl_net__later(struct pl_net *n, struct pl_job *job)
{
    if (pl_list_empty(&job->node)) {
        pl_list_append(&n->jobs, &job->node);
    }
}

static void run_jobs(struct pl_net *n)
{
    while (!pl_list_empty(&n->jobs)) {
        struct pl_job *job = pl_container_of(n->jobs.next, struct pl_job, node);

        pl_list_remove(&job->node);
        job->fn(job);
    }
}

/* What the end of a turn brings about may put off more. */
static void end_turn(struct pl_net *n)
{
    do {
        run_jobs(n);
        if (n->o.turn_ends != NULL) {
            n->o.turn_ends(n->o.arg);
        }
    } while (!pl_list_empty(&n->jobs));
}

static void on_wheel(uv_timer_t *t)
{
    struct pl_net *n = t->data;

    pl_net__enter(n);
    pl_wheel_advance(n->o.wheel, n->now_ms);
}

/* Before the loop sleeps: nothing waits but for an event or for the wheel. */
static void on_prepare(uv_prepare_t *p)
{
    struct pl_net *n = p->data;
    int64_t ms;

    pl_net__enter(n);
    end_turn(n);
    ms = pl_wheel_next_ms(n->o.wheel, n->now_ms);
    if (ms == INT64_MAX) {
        uv_timer_stop(&n->wheel_timer);
    } else {
        uv_timer_start(&n->wheel_timer, on_wheel, ms > 0 ? (uint64_t)ms : 1, 0);
    }
}

static void on_check(uv_check_t *p)
{
    pl_net__enter(p->data);
    end_turn(p->data);
}

static void on_second(uv_timer_t *t)
{
    struct pl_net *n = t->data;
    uint64_t now_us = pl_clock_mono_us();

    pl_net__enter(n);
    pl_peer__sweep(n);
    pl_metric_observe_us(PL_S_LOOP_LAG, now_us > n->second_due_us ? now_us - n->second_due_us : 0,
                         1);
    n->second_due_us = now_us + SECOND_US;
    uv_timer_start(&n->second, on_second, SECOND_MS, 0);
}

const char *pl_net__date(struct pl_net *n)
{
    int64_t s = n->unix_ms / 1000;
    time_t t = (time_t)s;
    struct tm tm;

    if (s != n->date_s) {
        n->date_s = s;
        gmtime_r(&t, &tm);
        strftime(n->date, sizeof(n->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return n->date;
}

/* ---- libwebsockets ---- */

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
    struct pl_net *n = lws_context_user(lws_get_context(wsi));
    void *c = lws_get_opaque_user_data(wsi);

    (void)user;
    if (reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED) {
        c = n->adopting;
        lws_set_opaque_user_data(wsi, c);
    }
    if (!c) {
        return 0;
    }
    pl_net__enter(n);
    switch ((int)reason) {
    case LWS_CALLBACK_RAW_CLOSE:
        lws_set_opaque_user_data(wsi, NULL);
        return pl_http__lws_callback(c, reason, in, len);
    case LWS_CALLBACK_RAW_RX:
    case LWS_CALLBACK_RAW_WRITEABLE:
        return pl_http__lws_callback(c, reason, in, len);
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY: /* of one that never opened: the others have let go by then */
        return pl_ws__lws_callback(wsi, c, reason, in, len);
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {
    {PL_NET_PLAIN_PROTOCOL, on_lws, 0, WS_READ_BYTES, 0, NULL, WS_WRITE_BYTES},
    {"parley.v1.json", on_lws, 0, WS_READ_BYTES, 0, NULL, WS_WRITE_BYTES},
    {"parley.v1.msgpack", on_lws, 0, WS_READ_BYTES, 0, NULL, WS_WRITE_BYTES},
    {PL_NET_HTTP_PROTOCOL, on_lws, 0, 0, 0, NULL, WS_WRITE_BYTES},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

/* It logs an error for each adopted connection that is none, and warns of what peers do wrong. */
static void on_lws_log(int level, const char *line)
{
    char text[200];

    if (strstr(line, "calling service")) {
        return;
    }
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(line, "\n"), line);
    pl_log(level == LLL_ERR ? PL_LOG_WARN : PL_LOG_DEBUG, "libwebsockets", PL_STR("text", text));
}

static int open_lws(struct pl_net *n, char *err, size_t err_size)
{
    static const lws_retry_bo_t no_pings = {
        0}; /* else every connection is in a sorted list of timers */
    void *loops[] = {&n->loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .extensions = pl_deflate__extensions,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DISABLE_IPV6,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .foreign_loops = loops,
        .retry_and_idle_policy = &no_pings,
        .vhost_name = "parley",
        .user = n,
        .pcontext = &n->lws, /* cleared when it is gone */
        .max_http_header_data = HANDSHAKE_BYTES,
        .timeout_secs = 5,
    };

    lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);
    n->lws = lws_create_context(&info);
    n->vhost = n->lws ? lws_create_vhost(n->lws, &info) : NULL;
    if (!n->vhost) {
        snprintf(err, err_size, "libwebsockets does not start");
        return PL_ERR_INVALID;
    }
    return 0;
}

/* ---- making and ending ---- */

/* Sets the limit of descriptors to what the configuration needs, not to all there is:
 * libwebsockets reserves 16 bytes for each that the limit allows, and as Debian builds it, walks
 * that table whenever a connection closes (a million entries: a millisecond). Returns how many
 * may be clients. */
static uint32_t set_file_limit(const struct pl_config *cfg)
{
    struct rlimit rl = {.rlim_cur = 1024, .rlim_max = 1024};
    rlim_t files = (rlim_t)cfg->limits_connections + SPARE_FILES;

    getrlimit(RLIMIT_NOFILE, &rl);
    if (files < DEFAULT_FILES) {
        files = DEFAULT_FILES;
    }
    if (files > MAX_FILES) {
        files = MAX_FILES;
    }
    rl.rlim_cur = files < rl.rlim_max ? files : rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    return (uint32_t)(rl.rlim_cur > MANY_FILES ? rl.rlim_cur - SPARE_FILES
                                               : rl.rlim_cur - rl.rlim_cur / 4);
}

static void start_loop(struct pl_net *n)
{
    uv_loop_init(&n->loop);
    n->now_ms = uv_now(&n->loop);
    n->unix_ms = pl_clock_unix_ms();
    n->prepare.data = n->check.data = n->wheel_timer.data = n->second.data = n;
    uv_prepare_init(&n->loop, &n->prepare);
    uv_prepare_start(&n->prepare, on_prepare);
    uv_check_init(&n->loop, &n->check);
    uv_check_start(&n->check, on_check);
    uv_timer_init(&n->loop, &n->wheel_timer);
    uv_timer_init(&n->loop, &n->second);
    n->second_due_us = pl_clock_mono_us() + SECOND_US;
    uv_timer_start(&n->second, on_second, SECOND_MS, 0);
}

static void on_grace_over(struct pl_timer *t)
{
    struct pl_net *n = pl_container_of(t, struct pl_net, grace);

    pl_http__kill_all(n);
    pl_ws__kill_all(n);
}

/* Every socket that was given has an owner afterwards, also if this fails. */
static int open_listeners(struct pl_net *n, char *err, size_t err_size)
{
    const char *addresses[] = {n->o.cfg->server_listen, n->o.cfg->server_internal_listen};
    int r = 0;

    for (int i = 0; i < 2; i++) {
        int fd = n->o.sockets != NULL ? n->o.sockets[i] : -1;

        if (fd < 0 && addresses[i][0] != '\0' && r == 0) {
            r = pl_net_listen(addresses[i], &fd, err, err_size);
        }
        if (fd >= 0) {
            pl_listener__open(n, (enum pl_listener)i, fd);
        }
    }
    return r;
}

void pl_net_accept(struct pl_net *n)
{
    pl_listener__accept(n, PL_LISTENER_MAIN);
    pl_listener__accept(n, PL_LISTENER_INTERNAL);
}

int pl_net_new(const struct pl_net_options *o, struct pl_net **ret, char *err, size_t err_size)
{
    struct pl_net *n = pl_alloc(sizeof(*n));
    const struct pl_config *cfg = o->cfg;
    int r;

    n->o = *o;
    n->front.epoll = -1;
    pl_list_init(&n->jobs);
    pl_list_init(&n->http);
    pl_list_init(&n->ws);
    pl_timer_init(&n->grace, on_grace_over);
    pl_listener__init(n);
    signal(SIGPIPE, SIG_IGN);
    n->max_connections = set_file_limit(cfg);
    start_loop(n);
    r = open_listeners(n, err, err_size);
    if (r == 0) {
        r = pl_front__init(n, err, err_size);
    }
    if (r == 0) {
        r = open_lws(n, err, err_size);
    }
    if (r != 0) {
        pl_net_free(n);
        return r;
    }
    if (!o->accept_later) {
        pl_net_accept(n);
    }
    *ret = n;
    return 0;
}

const char *pl_net_address(const struct pl_net *n, enum pl_listener l)
{
    return n->listening[l].address[0] ? n->listening[l].address : NULL;
}

int pl_net_socket(const struct pl_net *n, enum pl_listener l)
{
    return n->listening[l].fd;
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct pl_signal *s = pl_container_of(h, struct pl_signal, handle);

    pl_net__enter(s->net);
    s->fn(s->arg, signum);
}

void pl_net_on_signal(struct pl_net *n, int signum, void (*fn)(void *arg, int signum), void *arg)
{
    struct pl_signal *s = &n->signals[n->signal_count];

    PL_ASSERT(n->signal_count < PL_NET_SIGNALS);
    n->signal_count++;
    s->net = n;
    s->fn = fn;
    s->arg = arg;
    uv_signal_init(&n->loop, &s->handle);
    uv_signal_start(&s->handle, on_signal, signum);
}

static bool is_now(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, 0) > 0;
}

bool pl_net__has_left(int fd)
{
    return is_now(fd, POLLRDHUP);
}

bool pl_net__has_unread(int fd)
{
    return is_now(fd, POLLIN);
}

struct uv_loop_s *pl_net_loop(struct pl_net *n)
{
    return &n->loop;
}

void pl_net_run(struct pl_net *n)
{
    uv_run(&n->loop, UV_RUN_DEFAULT);
}

void pl_net__check_stopped(struct pl_net *n)
{
    if (n->stopping && n->http_count + n->ws_count == 0) {
        uv_stop(&n->loop);
    }
}

void pl_net_drain(struct pl_net *n, bool others_accept)
{
    n->draining = true;
    n->listening[PL_LISTENER_MAIN].accept_rest = !others_accept;
    pl_listener__close(n, PL_LISTENER_MAIN);
}

void pl_net_close_idle(struct pl_net *n, uint64_t idle_ms)
{
    pl_http__close_idle(n, idle_ms);
}

uint32_t pl_net_clients(const struct pl_net *n)
{
    return n->main_connections;
}

void pl_net_stop(struct pl_net *n, uint64_t grace_ms)
{
    n->stopping = true;
    pl_listener__close(n, PL_LISTENER_MAIN);
    pl_listener__close(n, PL_LISTENER_INTERNAL);
    pl_http__stop_all(n);
    pl_ws__stop_all(n);
    pl_net__set_timer(n, &n->grace, (int64_t)grace_ms);
    pl_net__check_stopped(n);
}

static void close_handles(struct pl_net *n)
{
    uv_close((uv_handle_t *)&n->prepare, NULL);
    uv_close((uv_handle_t *)&n->check, NULL);
    uv_close((uv_handle_t *)&n->wheel_timer, NULL);
    uv_close((uv_handle_t *)&n->second, NULL);
    for (unsigned i = 0; i < n->signal_count; i++) {
        uv_close((uv_handle_t *)&n->signals[i].handle, NULL);
    }
    pl_listener__close(n, PL_LISTENER_MAIN);
    pl_listener__close(n, PL_LISTENER_INTERNAL);
    pl_front__done(n);
}

void pl_net_free(struct pl_net *n)
{
    if (!n) {
        return;
    }
    n->stopping = true;
    pl_timer_cancel(n->o.wheel, &n->grace);
    close_handles(n);
    pl_http__free_front(n);
    /* libwebsockets closes its connections, each with a callback, but its own handles end in the
     * loop: the second call finishes when it has run out. */
    if (n->lws) {
        lws_context_destroy(n->lws);
    }
    while (uv_run(&n->loop, UV_RUN_DEFAULT)) { /* a pl_net_stop may end it once too early */
    }
    run_jobs(n);
    if (n->lws) {
        lws_context_destroy(n->lws);
    }
    PL_ASSERT(uv_loop_close(&n->loop) == 0);
    pl_peer__done(n);
    pl_buf_done(&n->head);
    free(n);
}
