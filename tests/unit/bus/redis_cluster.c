#include "tests/unit/bus/redis_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/bus/redis_feed_priv.h"

struct rc_cluster rc;

static void pass_time(void)
{
    for (size_t i = 0; i < RC_NODES; i++) {
        struct loopback *lb = rc.nodes[i].lb;

        if (lb != NULL) {
            lb->mono_ms = rs_now_ms(NULL);
            lb->unix_ms = pl_clock_unix_ms();
            pl_hub_set_time(lb->hub, lb->mono_ms, lb->unix_ms);
        }
    }
}

static void turn_once(void)
{
    pass_time();
    rs_turn(&rc.loop, 2);
}

void rc_turn(int ms)
{
    uint64_t until = rs_now_ms(NULL) + (uint64_t)ms;

    while (rs_now_ms(NULL) < until) {
        turn_once();
    }
}

void rc_await(bool (*cond)(void *arg), void *arg, const char *what)
{
    uint64_t until = rs_now_ms(NULL) + RC_PATIENCE_MS;

    while (!cond(arg)) {
        if (rs_now_ms(NULL) >= until) {
            fail_msg("waited in vain for %s", what);
        }
        turn_once();
    }
}

static bool is_answered(const struct rc_node *n)
{
    pl_map_foreach(it, &n->bus->feed->channels) {
        if (!pl_container_of(it, struct pl_redis_channel, node)->answered) {
            return false;
        }
    }
    return pl_redis_conn_outstanding(n->bus->commands) == 0;
}

static bool all_answered(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < RC_NODES; i++) {
        const struct rc_node *n = &rc.nodes[i];

        if (n->lb != NULL && n->bus->up && !is_answered(n)) {
            return false;
        }
    }
    return true;
}

/* Those that do not hear the event itself learn by their canary, or by an echo, that there was nothing for them. */
static bool all_have_got_to(void *arg)
{
    for (size_t i = 0; i < RC_NODES; i++) {
        const struct rc_node *n = &rc.nodes[i];

        if (n->lb != NULL && n->bus->up && lb_stats(n->lb).applied < *(const int64_t *)arg) {
            return false;
        }
    }
    return all_answered(NULL);
}

static void turn_until_quiet(void *bus)
{
    int64_t newest = 0;

    (void)bus;
    turn_once();
    RC_AWAIT(all_answered, NULL);
    for (size_t i = 0; i < RC_NODES; i++) {
        if (rc.nodes[i].lb != NULL && rc.nodes[i].bus->newest > newest) {
            newest = rc.nodes[i].bus->newest;
        }
    }
    for (size_t i = 0; i < RC_NODES; i++) {
        if (rc.nodes[i].lb != NULL) {
            pl_redis__feed_echo(rc.nodes[i].bus->feed, newest);
        }
    }
    RC_AWAIT(all_have_got_to, &newest);
}

static void pass(void *bus, int64_t ms)
{
    (void)bus;
    rc_turn((int)ms);
}

static void *no_bus(const struct pl_config *cfg, int64_t unix_ms)
{
    (void)cfg, (void)unix_ms;
    return NULL;
}

static void release_nothing(void *bus)
{
    (void)bus;
}

static int64_t epoch_of(const void *bus)
{
    return ((const struct pl_redis_bus *)bus)->epoch_start;
}

static const struct lb_bus kind = {
    .name = "redis",
    .ops = &pl_redis_bus_ops,
    .make = no_bus,
    .release = release_nothing,
    .epoch = epoch_of,
    .turn = turn_until_quiet,
    .pass = pass,
};

void rc_start(const char *const *args)
{
    rc = (struct rc_cluster){0};
    rs_start(&rc.server, args);
    rs_loop_init(&rc.loop);
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static struct pl_redis_bus *new_bus(const struct rc_node *n, const char *credentials)
{
    struct pl_redis_url url;
    char text[200];
    char err[120];

    (void)snprintf(text, sizeof(text), "redis://%s127.0.0.1:%d", credentials, rc.server.port);
    assert_int_equal(pl_redis_url_parse(text, &url, err, sizeof(err)), PL_OK);
    return pl_redis_bus_new(&(struct pl_redis_bus_options){
        .cfg = n->lb->cfg,
        .url = &url,
        .node = n->name,
        .address = "127.0.0.1:1",
        .wheel = &rc.loop.wheel,
    });
}

static struct loopback *new_loopback(void)
{
    struct pl_config_sources sources = {.getenv_fn = no_env};
    struct pl_config_error error;
    struct loopback *lb = pl_alloc(sizeof(*lb));

    lb->kind = &kind;
    lb->mono_ms = rs_now_ms(NULL);
    lb->unix_ms = pl_clock_unix_ms();
    pl_list_init(&lb->links);
    pl_wheel_init(&lb->wheel, lb->mono_ms);
    assert_int_equal(pl_config_load(&sources, &lb->cfg, &error), 0);
    lb->cfg->bus_canary_interval = 100;
    lb->cfg->bus_timeout = 1000;
    return lb;
}

struct rc_node *rc_node(const char *credentials)
{
    struct rc_node *n = rc.nodes;

    while (n->lb != NULL) {
        n++;
        assert_true(n < rc.nodes + RC_NODES);
    }
    (void)snprintf(n->name, sizeof(n->name), "n%d", (int)(n - rc.nodes));
    n->lb = new_loopback();
    n->bus = new_bus(n, credentials);
    n->lb->bus = n->bus;
    n->lb->hub = pl_hub_new(
        &(struct pl_hub_options){
            .cfg = n->lb->cfg,
            .bus_ops = &pl_redis_bus_ops,
            .bus = n->bus,
            .wheel = &rc.loop.wheel,
            .random = pl_random_bytes,
        },
        n->lb->mono_ms, n->lb->unix_ms);
    return n;
}

void rc_connect(struct rc_node *n)
{
    pl_redis_bus_connect(n->bus, n->lb->hub, &rc.loop.uv);
}

struct rc_node *rc_live_node(void)
{
    struct rc_node *n = rc_node("");

    rc_connect(n);
    RC_AWAIT(rc_is_live, n);
    return n;
}

void rc_end(struct rc_node *n)
{
    void *lb = n->lb;

    if (lb != NULL) {
        pl_hub_leave_bus(n->lb->hub);
        pl_redis_bus_free(n->bus);
        n->lb = NULL;
        (void)lb_stop(&lb);
    }
}

int rc_start_one(void **state)
{
    struct rc_node *n;

    rc_start(NULL);
    n = rc_live_node();
    *state = n->lb;
    return 0;
}

int rc_stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < RC_NODES; i++) {
        rc_end(&rc.nodes[i]);
    }
    rs_loop_done(&rc.loop);
    rs_stop(&rc.server);
    assert_int_equal(rc.loop.wheel.count, 0);
    return 0;
}

/* ---- how a node is ---- */

static struct pl_redis_bus_status status_of(const struct rc_node *n)
{
    struct pl_redis_bus_status s;

    pl_redis_bus_status(n->bus, &s);
    return s;
}

bool rc_is_live(void *node)
{
    return status_of(node).feed == PL_REDIS_LIVE;
}

bool rc_is_logs(void *node)
{
    return status_of(node).feed == PL_REDIS_LOGS;
}

bool rc_is_down(void *node)
{
    return status_of(node).feed == PL_REDIS_DOWN;
}

bool rc_is_ready(void *node)
{
    return status_of(node).ready;
}

bool rc_is_not_ready(void *node)
{
    return !status_of(node).ready;
}

bool rc_has_reason(const struct rc_node *n, const char *reason)
{
    struct pl_redis_bus_status s = status_of(n);

    for (size_t i = 0; i < s.reason_count; i++) {
        if (strcmp(s.reasons[i], reason) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- publishing ---- */

struct sent {
    struct rc_outcomes *o;
    size_t index;
};

static void on_published(void *arg, int status, const int64_t *ids, size_t count)
{
    struct sent *s = arg;

    s->o->answered++;
    s->o->failed += status != PL_OK;
    s->o->ids[s->index] = status == PL_OK && count == 1 ? ids[0] : 0;
    free(s);
}

void rc_publish(struct rc_node *n, const struct lb_event *e, struct rc_outcomes *o)
{
    struct pl_arena a = {0};
    struct pl_bus_event event = lb_bus_event(e, &a);
    struct sent *s = pl_alloc(sizeof(*s));

    assert_true(o->sent < RC_OUTCOMES);
    *s = (struct sent){o, o->sent++};
    pl_hub_publish(n->lb->hub, &event, 1, NULL, on_published, s);
    pl_arena_done(&a);
}

bool rc_all_answered(void *outcomes)
{
    const struct rc_outcomes *o = outcomes;

    return o->answered == o->sent;
}

static size_t events_of(const struct lb_link *l)
{
    size_t count = 0;

    for (size_t i = 0; i < l->count; i++) {
        const struct pl_value *events = pl_value_get(l->messages[i].v, "events");

        count += events != NULL ? events->u.array.count : 0;
    }
    return count;
}

struct awaited {
    const struct lb_link *link;
    struct rc_outcomes *o;
};

static bool has_all(void *arg)
{
    const struct awaited *w = arg;

    return rc_all_answered(w->o) && events_of(w->link) >= w->o->sent - w->o->failed;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Sorted; those without an id come first and are left out. */
static const int64_t *sort(const struct rc_outcomes *o, size_t *ret_count)
{
    static struct rc_outcomes sorted;

    sorted = *o;
    qsort(sorted.ids, sorted.sent, sizeof(*sorted.ids), ascending);
    *ret_count = sorted.sent - sorted.failed;
    return sorted.ids + sorted.failed;
}

size_t rc_check_some(const struct lb_link *l, const struct rc_outcomes *o, size_t from)
{
    size_t count;
    const int64_t *ids = sort(o, &count);
    size_t seen = from;

    for (size_t i = 0; i < l->count; i++) {
        const struct pl_value *events = pl_value_get(l->messages[i].v, "events");

        assert_null(pl_value_get(l->messages[i].v, "reason"));
        for (size_t k = 0; events != NULL && k < events->u.array.count; k++) {
            assert_true(seen < count);
            assert_int_equal(pl_value_get(&events->u.array.items[k], "event_id")->u.integer,
                             ids[seen]);
            seen++;
        }
    }
    return seen - from;
}

void rc_expect_all(struct lb_link *l, const struct rc_outcomes *o)
{
    struct awaited w = {l, (struct rc_outcomes *)(uintptr_t)o};

    rc_await(has_all, &w, "all events");
    rc_turn(50);
    assert_int_equal(rc_check_some(l, o, 0), o->sent - o->failed);
    l->seen = l->count;
}
