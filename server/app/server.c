#include "server/app/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "protocol/status.h"
#include "server/api/api.h"
#include "server/app/dev.h"
#include "server/app/node_bus.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/transport/websocket.h"

enum {
    STOP_GRACE_MS = 5000,
    COME_BACK_WITHIN_MS = 5000, /* clients told to go are spread over this */
    DRAIN_LOOK_MS = 100,        /* how often a node that drains looks if all have gone */
};

struct server {
    const struct pl_server_options *options;
    struct pl_config *cfg;
    struct pl_wheel wheel;
    struct pl_node_bus *bus;
    struct pl_hub *hub;
    struct pl_auth *auth;
    struct pl_net *net;
    struct pl_node node;
    struct pl_dev_keys dev_keys;
    struct pl_timer drain;
    uint64_t drained_ms; /* by when whoever is still here is let go */
    char name[128];
};

/* ---- configuration ---- */

/* What the files and options say, checked as a whole. PL_ERR_INVALID: *err says why. */
static int load(const struct pl_server_options *o, struct pl_dev_keys *dev_keys,
                struct pl_config **ret_cfg, struct pl_auth **ret_auth, struct pl_config_error *err)
{
    struct pl_auth_error auth_error;
    struct pl_config *cfg;
    struct pl_auth *auth = NULL;

    if (pl_config_load(&o->sources, &cfg, err) != 0) {
        return PL_ERR_INVALID;
    }
    if (o->dev) {
        pl_dev_add_keys(dev_keys, cfg);
    }
    if (pl_auth_new(cfg, &auth, &auth_error) != PL_OK) {
        (void)snprintf(err->text, sizeof(err->text), "%s", auth_error.text);
    } else if (!pl_auth_has_jwt_key(auth) && !pl_auth_has_api_key(auth)) {
        (void)snprintf(err->text, sizeof(err->text),
                       "no key is configured: set auth.api_key (for your backend) or "
                       "auth.jwt_key (for clients), or try it out with --dev");
    } else if (pl_node_bus_check(cfg, err->text, sizeof(err->text)) == PL_OK) {
        *ret_cfg = cfg;
        *ret_auth = auth;
        return PL_OK;
    }
    pl_auth_free(auth);
    pl_config_free(cfg);
    return PL_ERR_INVALID;
}

/* The same at the command line: 0, or 2 and a line on stderr. */
static int load_or_say(const struct pl_server_options *o, struct pl_dev_keys *dev_keys,
                       struct pl_config **ret_cfg, struct pl_auth **ret_auth)
{
    struct pl_config_error error;

    if (load(o, dev_keys, ret_cfg, ret_auth, &error) != PL_OK) {
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

static void set_up_log(const struct pl_config *cfg)
{
    pl_log_setup((enum pl_log_level)cfg->log_level, (enum pl_log_format)cfg->log_format);
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
    if (load(s->options, &s->dev_keys, &fresh, &auth, &error) != PL_OK) {
        pl_log(PL_LOG_ERROR, "reload_refused", PL_STR("error", error.text),
               PL_STR("kept", "the configuration that was running"));
        return;
    }
    pl_config_apply_live(s->cfg, fresh, &ignored);
    pl_config_free(fresh);
    pl_auth_free(s->auth);
    s->auth = s->node.auth = auth;
    set_up_log(s->cfg);
    if (phase != s->cfg->transport_phase || percent != s->cfg->transport_websocket_percent) {
        phase_changed(s);
    }
    if (ignored != NULL) {
        pl_log(PL_LOG_WARN, "reload_needs_restart", PL_STR("option", ignored));
    }
    pl_log(PL_LOG_INFO, "reloaded", PL_STR("phase", pl_phase_name(s->cfg->transport_phase)));
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
    uint64_t now = pl_hub_mono_ms(s->hub);

    if (pl_net_clients(s->net) == 0 || now >= s->drained_ms) {
        stop_now(s);
    } else {
        pl_timer_set(&s->wheel, t, now + DRAIN_LOOK_MS);
    }
}

static void drain(struct server *s)
{
    s->node.draining = true;
    pl_net_drain(s->net, false);
    pl_hub_drain(s->hub, s->cfg->server_drain_time);
    s->drained_ms = pl_hub_mono_ms(s->hub) + (uint64_t)pl_hub_drain_ms(s->hub);
    look_drained(&s->drain);
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
    if (signum == SIGTERM && !s->node.draining && !pl_hub_is_embedded(s->hub) &&
        s->cfg->server_drain_time > 0) {
        drain(s);
    } else {
        stop_now(s);
    }
}

/* ---- start ---- */

static void on_tick(void *arg, uint64_t mono_ms, int64_t unix_ms)
{
    const struct pl_node *n = arg;

    pl_hub_set_time(n->hub, mono_ms, unix_ms);
}

static void name_node(struct server *s)
{
    char host[64] = "";

    if (s->cfg->server_node[0] != '\0') {
        (void)snprintf(s->name, sizeof(s->name), "%s", s->cfg->server_node);
        return;
    }
    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(s->name, sizeof(s->name), "%s-%ld", host, (long)getpid());
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
        .started_ms = mono_ms,
        .phase_since_ms = unix_ms,
        .dev = s->options->dev,
        .has_internal = s->cfg->server_internal_listen[0] != '\0',
    };
    pl_node_bus_join(s->bus, &s->node);
}

static int make_net(struct server *s)
{
    const struct pl_net_options o = {
        .cfg = s->cfg,
        .http = &pl_api_handler,
        .ws = &pl_websocket_handler,
        .arg = &s->node,
        .wheel = &s->wheel,
        .tick = on_tick,
    };
    char error[256] = "";

    if (pl_net_new(&o, &s->net, error, sizeof(error)) != PL_OK) {
        fprintf(stderr, "parleyd: %s\n", error);
        return 1;
    }
    pl_net_on_signal(s->net, SIGHUP, on_reload, s);
    pl_net_on_signal(s->net, SIGTERM, on_stop, s);
    pl_net_on_signal(s->net, SIGINT, on_stop, s);
    return 0;
}

/* Scripts and tests wait for these lines. */
static void say_ready(const struct server *s)
{
    const char *internal = pl_net_address(s->net, PL_LISTENER_INTERNAL);
    const char *address = pl_net_address(s->net, PL_LISTENER_MAIN);

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
    pl_node_bus_leave(s->bus);
    pl_net_free(s->net);
    pl_node_bus_free(s->bus);
    pl_auth_free(s->auth);
    pl_config_free(s->cfg);
    pl_deflate_done();
}

int pl_server_run(const struct pl_server_options *o)
{
    struct server *s = pl_alloc(sizeof(*s));
    int status;

    s->options = o;
    status = load_or_say(o, &s->dev_keys, &s->cfg, &s->auth);
    if (status == 0) {
        set_up_log(s->cfg);
        name_node(s);
        pl_metric_set(PL_S_START_TIME, (uint64_t)(pl_clock_unix_ms() / 1000));
        make_core(s, pl_clock_mono_ms(), pl_clock_unix_ms());
        status = make_net(s);
        if (status == 0) {
            pl_node_bus_connect(s->bus, pl_net_loop(s->net),
                                pl_net_address(s->net, PL_LISTENER_MAIN));
            say_ready(s);
            pl_net_run(s->net);
            pl_log(PL_LOG_INFO, "stopped", PL_STR("node", s->name));
        }
        unmake(s);
    }
    free(s);
    return status;
}
