#include "server/app/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "protocol/status.h"
#include "server/api/api.h"
#include "server/app/dev.h"
#include "server/app/inherit.h"
#include "server/app/master.h"
#include "server/app/memory_watch.h"
#include "server/app/node_bus.h"
#include "server/app/process.h"
#include "server/app/settings.h"
#include "server/app/supervisor.h"
#include "server/app/tracing.h"
#include "server/app/workplace.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/transport/publish.h"
#include "server/transport/websocket.h"

enum {
    STOP_GRACE_MS = 5000,
    COME_BACK_WITHIN_MS = 5000, /* clients told to go are spread over this */
    DRAIN_LOOK_MS = 100,        /* how often a node that drains looks if all have gone */
    IDLE_MS = 1000,             /* a connection unused for this long is not missed … */
    IDLE_SHARE = 6,             /* … nor is one for a sixth of the drain, if that is longer */
};

struct server {
    const struct pl_server_options *options;
    struct pl_config *cfg;
    struct pl_wheel wheel;
    struct pl_node_bus *bus;
    struct pl_hub *hub;
    struct pl_auth *auth;
    struct pl_net *net;
    struct pl_tracing *tracing;
    struct pl_node node;
    struct pl_running running;
    struct pl_dev_keys dev_keys;
    struct pl_timer drain;
    struct pl_memory_watch memory;
    struct pl_workplace *workplace; /* NULL: no worker, but all there is */
    int successor[2];               /* the listening sockets, for who takes this place; -1: none */
    bool upgrading;
    uint64_t drained_ms; /* by when whoever is still here is let go */
    char name[128];
};

/* ---- configuration ---- */

/* 0, or 2 and a line on stderr. */
static int load_or_say(const struct pl_server_options *o, struct pl_dev_keys *dev_keys,
                       struct pl_config **ret_cfg, struct pl_auth **ret_auth)
{
    struct pl_config_error error;

    if (pl_settings_load(o, dev_keys, ret_cfg, ret_auth, &error) != PL_OK) {
        fprintf(stderr, "parleyd: %s\n", error.text);
        return 2;
    }
    return 0;
}

int pl_server_check(const struct pl_server_options *o)
{
    struct pl_dev_keys dev_keys = {.jwt = ""};
    struct pl_config *cfg;
    struct pl_auth *auth;
    int status = load_or_say(o, &dev_keys, &cfg, &auth);

    if (status == 0) {
        pl_auth_free(auth);
        pl_config_free(cfg);
    }
    return status;
}

/* ---- who started us ---- */

/* A worker was started by its master, who tells the rest of the world. */
static void notify(const struct server *s, const char *state)
{
    if (s->workplace == NULL) {
        pl_supervisor_notify(state);
    }
}

static void notify_reloading(const struct server *s)
{
    if (s->workplace == NULL) {
        pl_supervisor_notify_reloading();
    }
}

/* ---- reload ---- */

static void phase_changed(struct server *s)
{
    s->node.phase_since_ms = pl_hub_unix_ms(s->hub);
    pl_hub_transports_changed(s->hub);
    if (s->cfg->transport_phase == PL_PHASE_LONGPOLL) {
        pl_hub_goaway(s->hub, PL_TRANSPORT_WEBSOCKET, "transport", COME_BACK_WITHIN_MS);
    } else if (s->cfg->transport_phase == PL_PHASE_WEBSOCKET_ONLY) {
        pl_hub_goaway(s->hub, PL_TRANSPORT_LONGPOLL, "transport", COME_BACK_WITHIN_MS);
    }
}

static void on_reload(void *arg, int signum)
{
    struct server *s = arg;
    int phase = s->cfg->transport_phase;
    int64_t percent = s->cfg->transport_websocket_percent;
    const char *ignored = NULL;
    struct pl_config_error error;
    struct pl_config *fresh;
    struct pl_auth *auth;

    (void)signum;
    notify_reloading(s);
    if (pl_settings_load(s->options, &s->dev_keys, &fresh, &auth, &error) != PL_OK) {
        pl_log(PL_LOG_ERROR, "reload_refused", PL_STR("error", error.text),
               PL_STR("kept", "the configuration that was running"));
        notify(s, "READY=1");
        return;
    }
    pl_config_apply_live(s->cfg, fresh, &ignored);
    pl_config_free(fresh);
    pl_auth_free(s->auth);
    s->auth = s->node.auth = auth;
    pl_settings_set_up_log(s->cfg);
    if (phase != s->cfg->transport_phase || percent != s->cfg->transport_websocket_percent) {
        phase_changed(s);
    }
    if (ignored != NULL) {
        pl_log(PL_LOG_WARN, "reload_needs_restart", PL_STR("option", ignored),
               PL_STR("reason", pl_hub_is_embedded(s->hub)
                                    ? "bus.url is memory:, whose events are this process's own"
                                    : "server.workers is 1, without a master to start another"));
    }
    pl_log(PL_LOG_INFO, "reloaded", PL_STR("phase", pl_phase_name(s->cfg->transport_phase)));
    notify(s, "READY=1");
}

/* ---- stop ---- */

static void stop_now(struct server *s)
{
    s->node.draining = s->node.stopping = true;
    pl_timer_cancel(&s->wheel, &s->drain);
    pl_hub_save_all(s->hub); /* the next node goes on from here */
    /* Held polls get an ordinary, empty answer that says goaway; WebSockets close 1012. */
    pl_hub_goaway(s->hub, PL_TRANSPORT_LONGPOLL, "draining", COME_BACK_WITHIN_MS);
    pl_hub_end_links(s->hub, PL_ERR_DRAINING);
    pl_net_stop(s->net, STOP_GRACE_MS);
}

static void look_drained(struct pl_timer *t)
{
    struct server *s = pl_container_of(t, struct server, drain);
    const uint64_t now = pl_hub_mono_ms(s->hub);
    const uint64_t idle_ms = (uint64_t)s->cfg->server_drain_time / IDLE_SHARE;

    /* Not sooner: a client, or a proxy for it, that is slow to ask again would find it closed. */
    pl_net_close_idle(s->net, idle_ms > IDLE_MS ? idle_ms : IDLE_MS);
    if (pl_net_clients(s->net) == 0 || now >= s->drained_ms) {
        stop_now(s);
    } else {
        pl_timer_set(&s->wheel, t, now + DRAIN_LOOK_MS);
    }
}

static void drain(struct server *s)
{
    s->node.draining = true;
    pl_net_drain(s->net, s->workplace != NULL && !pl_workplace_is_closing(s->workplace));
    pl_hub_drain(s->hub, s->cfg->server_drain_time);
    s->drained_ms = pl_hub_mono_ms(s->hub) + (uint64_t)pl_hub_drain_ms(s->hub);
    pl_timer_set(&s->wheel, &s->drain, pl_hub_mono_ms(s->hub) + DRAIN_LOOK_MS);
}

/* SIGTERM lets clients go one by one, where there are other nodes to go to: without, there is only one
 * who could take them back, and the sooner it is started again the better. SIGINT, or a second SIGTERM,
 * does not wait. */
static void on_stop(void *arg, int signum)
{
    struct server *s = arg;

    if (s->node.stopping) {
        return;
    }
    pl_log(PL_LOG_INFO, "stopping", PL_INT("signal", signum),
           PL_INT("clients", pl_net_clients(s->net)));
    notify(s, "STOPPING=1");
    if (signum == SIGTERM && !s->node.draining && !pl_hub_is_embedded(s->hub) &&
        s->cfg->server_drain_time > 0) {
        drain(s);
    } else {
        stop_now(s);
    }
}

/* Without its master a worker is not told any more, nor replaced. */
static void on_orphaned(void *arg)
{
    on_stop(arg, SIGTERM);
}

/* ---- upgrade ---- */

/* The new binary accepts our configuration, as it says itself. */
static bool is_accepted(struct server *s)
{
    int status = -1;
    int pid = pl_process_check_config(s->options->argv);

    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* One process cannot be two: it lets its clients go, all at once, and becomes the new binary, while who
 * connects waits in the listening sockets. On the embedded bus this is a new epoch. */
static void on_upgrade(void *arg, int signum)
{
    struct server *s = arg;

    (void)signum;
    if (s->node.draining) {
        return;
    }
    if (!is_accepted(s)) {
        pl_running_refuse(&s->running, "the new binary does not accept the configuration");
        pl_log(PL_LOG_ERROR, "upgrade_refused", PL_STR("error", s->running.why),
               PL_STR("kept", "what was running"));
        return;
    }
    notify_reloading(s);
    pl_log(PL_LOG_INFO, "upgrading", PL_STR("binary", pl_process_path()));
    s->upgrading = true;
    for (int i = 0; i < 2; i++) {
        int fd = pl_net_socket(s->net, (enum pl_listener)i);

        s->successor[i] = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    }
    stop_now(s);
}

static void become_successor(const struct pl_server_options *o, const int sockets[2])
{
    struct pl_inherited in;
    char *value;

    pl_inherited_init(&in);
    memcpy(in.sockets, sockets, sizeof(in.sockets));
    value = pl_inherited_write(&in);
    pl_process_become(&(struct pl_program){
        .path = pl_process_path(),
        .argv = o->argv,
        .variable = PL_INHERIT_MASTER,
        .value = value,
        .keep = sockets,
        .keep_count = 2,
    });
    pl_log(PL_LOG_ERROR, "upgrade_failed", PL_STR("error", strerror(errno)));
    free(value);
}

/* Whatever is left to pid 1. */
static void on_child(void *arg, int signum)
{
    (void)arg, (void)signum;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

/* ---- start ---- */

static void on_tick(void *arg, uint64_t mono_ms, int64_t unix_ms)
{
    const struct pl_node *n = arg;

    pl_hub_set_time(n->hub, mono_ms, unix_ms);
}

static void on_turn_ends(void *arg)
{
    pl_publish_send(arg);
}

/* Workers of one node are nodes on the bus, each with a name. */
static void name_node(struct server *s)
{
    char host[64] = "";

    (void)gethostname(host, sizeof(host) - 1);
    if (s->cfg->server_node[0] == '\0') {
        (void)snprintf(s->name, sizeof(s->name), "%s-%ld", host, (long)getpid());
    } else if (s->workplace != NULL) {
        (void)snprintf(s->name, sizeof(s->name), "%.100s-%u", s->cfg->server_node,
                       s->workplace->number);
    } else {
        (void)snprintf(s->name, sizeof(s->name), "%s", s->cfg->server_node);
    }
}

static void make_core(struct server *s, uint64_t mono_ms, int64_t unix_ms)
{
    pl_wheel_init(&s->wheel, mono_ms);
    pl_timer_init(&s->drain, look_drained);
    s->bus = pl_node_bus_new(s->cfg, s->name, &s->wheel, mono_ms, unix_ms);
    s->hub = pl_node_bus_hub(s->bus);
    s->node = (struct pl_node){
        .cfg = s->cfg,
        .hub = s->hub,
        .auth = s->auth,
        .wheel = &s->wheel,
        .name = s->name,
        .running = &s->running,
        .started_ms = mono_ms,
        .phase_since_ms = unix_ms,
        .dev = s->options->dev,
        .has_internal = s->cfg->server_internal_listen[0] != '\0',
    };
    pl_node_bus_join(s->bus, &s->node);
    pl_memory_watch_begin(&s->memory, &s->node);
}

static int make_net(struct server *s, const int sockets[2])
{
    const struct pl_net_options o = {
        .cfg = s->cfg,
        .http = &pl_api_handler,
        .ws = &pl_websocket_handler,
        .arg = &s->node,
        .wheel = &s->wheel,
        .tick = on_tick,
        .turn_ends = on_turn_ends,
        .sockets = sockets,
        .accept_later = s->workplace != NULL,
    };
    char error[256] = "";

    if (pl_net_new(&o, &s->net, error, sizeof(error)) != PL_OK) {
        fprintf(stderr, "parleyd: %s\n", error);
        return 1;
    }
    pl_net_on_signal(s->net, SIGHUP, on_reload, s);
    pl_net_on_signal(s->net, SIGTERM, on_stop, s);
    pl_net_on_signal(s->net, SIGINT, on_stop, s);
    if (s->workplace == NULL) {
        pl_net_on_signal(s->net, SIGUSR2, on_upgrade, s);
    }
    if (getpid() == 1) {
        pl_net_on_signal(s->net, SIGCHLD, on_child, s);
    }
    return 0;
}

/* Scripts and tests wait for these lines. */
static void say_ready(const struct server *s)
{
    const char *internal = pl_net_address(s->net, PL_LISTENER_INTERNAL);
    const char *address = pl_net_address(s->net, PL_LISTENER_MAIN);

    notify(s, "READY=1");
    printf("parleyd ready on http://%s\n", address);
    if (internal != NULL) {
        printf("parleyd internal on http://%s\n", internal);
    }
    if (s->options->dev) {
        pl_dev_say_hello(s->cfg, address, internal != NULL ? internal : address);
    }
    fflush(stdout);
    pl_log(PL_LOG_INFO, "ready", PL_STR("node", s->name), PL_STR("address", address),
           PL_STR("bus", pl_node_bus_name(s->bus)),
           PL_STR("phase", pl_phase_name(s->cfg->transport_phase)));
}

/* The bus's connections live on the net's loop, which runs them out. */
static void unmake(struct server *s)
{
    pl_memory_watch_end(&s->memory);
    pl_node_bus_leave(s->bus);
    if (s->workplace != NULL && s->net != NULL) {
        pl_workplace_leave(s->workplace);
    }
    pl_tracing_free(s->tracing);
    pl_net_free(s->net);
    pl_node_bus_free(s->bus);
    pl_auth_free(s->auth);
    pl_config_free(s->cfg);
    pl_deflate_done();
}

static void run(struct server *s)
{
    pl_node_bus_connect(s->bus, pl_net_loop(s->net), pl_net_address(s->net, PL_LISTENER_MAIN));
    s->tracing = pl_tracing_new(s->cfg, s->name, &s->wheel, pl_net_loop(s->net));
    if (s->workplace != NULL) {
        pl_workplace_begin(s->workplace, &s->node, s->net, on_orphaned, s);
    } else {
        say_ready(s);
    }
    pl_net_run(s->net);
    pl_log(PL_LOG_INFO, "stopped", PL_STR("node", s->name));
}

/* Serves in this process; takes over cfg and auth. */
static int serve(struct server *s, const int sockets[2])
{
    int status;

    name_node(s);
    s->running = pl_running_now();
    pl_metric_set(PL_S_START_TIME, (uint64_t)(pl_clock_unix_ms() / 1000));
    make_core(s, pl_clock_mono_ms(), pl_clock_unix_ms());
    status = make_net(s, sockets);
    if (status == 0) {
        run(s);
    }
    unmake(s);
    return status;
}

static int serve_as_worker(struct server *s, const struct pl_inherited *in)
{
    struct pl_workplace workplace = {.number = 0};

    if (!pl_workplace_init(&workplace, in)) {
        fprintf(stderr, "parleyd: what " PL_INHERIT_WORKER " names is not there\n");
        pl_auth_free(s->auth);
        pl_config_free(s->cfg);
        return 1;
    }
    s->workplace = &workplace;
    return serve(s, in->sockets);
}

/* What another process left us; nothing if it makes no sense. The variable goes: children have their
 * own. */
static bool take_inherited(const char *variable, struct pl_inherited *ret)
{
    const char *text = getenv(variable);
    bool good = text != NULL && pl_inherited_parse(text, ret);

    unsetenv(variable);
    return good;
}

/* A server that has just been reconfigured to be one process has no use for workers. */
static void send_away(const struct pl_inherited *in)
{
    for (unsigned i = 0; i < in->worker_count; i++) {
        (void)kill(in->workers[i].pid, SIGTERM);
    }
}

/* As a master, or as all there is. */
static int start(struct server *s, struct pl_inherited *in)
{
    char error[160];
    const char *why;
    unsigned workers = pl_settings_workers(s->options, s->cfg, &why);

    if (pl_process_become_user(s->cfg->server_user, error, sizeof(error)) != PL_OK) {
        fprintf(stderr, "parleyd: %s\n", error);
        pl_auth_free(s->auth);
        pl_config_free(s->cfg);
        return 2;
    }
    if (geteuid() == 0 && !s->options->dev) {
        pl_log(PL_LOG_WARN, "running_as_root", PL_STR("instead", "set server.user"));
    }
    if (why != NULL) {
        pl_log(PL_LOG_WARN, "one_worker", PL_STR("reason", why));
    }
    pl_supervisor_take_sockets(in->sockets);
    if (workers > 0 || (in->worker_count > 0 && !pl_node_bus_is_embedded(s->cfg))) {
        pl_auth_free(s->auth);
        return pl_master_run(s->options, s->cfg, workers, in);
    }
    send_away(in);
    return serve(s, in->sockets);
}

int pl_server_run(const struct pl_server_options *o)
{
    struct server *s = pl_alloc(sizeof(*s));
    struct pl_inherited in;
    bool is_worker;
    int status;

    s->options = o;
    is_worker = take_inherited(PL_INHERIT_WORKER, &in);
    if (!is_worker && !take_inherited(PL_INHERIT_MASTER, &in)) {
        pl_inherited_init(&in);
    }
    (void)pl_process_path();
    status = load_or_say(o, &s->dev_keys, &s->cfg, &s->auth);
    if (status == 0) {
        pl_settings_set_up_log(s->cfg);
        status = is_worker ? serve_as_worker(s, &in) : start(s, &in);
        if (s->upgrading) {
            become_successor(o, s->successor);
            status = 1;
        }
    }
    free(s);
    return status;
}
