#include "tests/unit/bus/redis_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"

enum {
    TURN_MS = 5 /* so old may a hub's time be */
};

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void drop_line(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

int rn_set_up(void **state)
{
    struct rn *c = pl_alloc(sizeof(*c));

    if (getenv("RN_LOG") == NULL) {
        pl_log_redirect(drop_line, NULL);
    } else {
        pl_log_setup(PL_LOG_DEBUG, PL_LOG_KV);
    }
    rs_start(&c->redis, NULL);
    rs_loop_init(&c->loop);
    *state = c;
    return 0;
}

int rn_tear_down(void **state)
{
    struct rn *c = *state;

    for (int i = 0; i < RN_MAX; i++) {
        if (c->nodes[i].bus != NULL) {
            rn_remove(c, &c->nodes[i]);
        }
    }
    assert_int_equal(c->loop.wheel.count, 0);
    rs_loop_done(&c->loop);
    rs_stop(&c->redis);
    free(c);
    return 0;
}

/* ---- nodes ---- */

static struct rn_node *free_place(struct rn *c)
{
    for (int i = 0; i < RN_MAX; i++) {
        if (c->nodes[i].bus == NULL) {
            c->count++;
            (void)snprintf(c->nodes[i].name, sizeof(c->nodes[i].name), "node-%d", i + 1);
            return &c->nodes[i];
        }
    }
    fail_msg("no place for another node");
    return NULL;
}

struct rn_node *rn_add(struct rn *c)
{
    struct rn_node *n = free_place(c);
    struct pl_config_sources sources = {.getenv_fn = no_env};
    struct pl_config_error error;
    struct pl_redis_url url;
    char text[64], why[160];

    assert_int_equal(pl_config_load(&sources, &n->cfg, &error), 0);
    n->cfg->bus_timeout = 500;
    n->cfg->bus_canary_interval = 1000;
    (void)snprintf(text, sizeof(text), "redis://127.0.0.1:%d", c->redis.port);
    assert_int_equal(pl_redis_url_parse(text, &url, why, sizeof(why)), 0);
    n->bus = pl_redis_bus_new(&(struct pl_redis_bus_options){
        .cfg = n->cfg,
        .url = &url,
        .node = n->name,
        .address = "127.0.0.1:0",
        .wheel = &c->loop.wheel,
    });
    n->hub = pl_hub_new(
        &(struct pl_hub_options){
            .cfg = n->cfg,
            .bus_ops = &pl_redis_bus_ops,
            .bus = n->bus,
            .wheel = &c->loop.wheel,
            .random = pl_random_bytes,
        },
        rs_now_ms(NULL), pl_clock_unix_ms());
    pl_redis_bus_connect(n->bus, n->hub, &c->loop.uv);
    return n;
}

void rn_remove(struct rn *c, struct rn_node *n)
{
    pl_redis_bus_free(n->bus);
    pl_hub_free(n->hub);
    pl_config_free(n->cfg);
    *n = (struct rn_node){.bus = NULL};
    c->count--;
    rn_pass(c, 1);
}

struct rn_node *rn_start(struct rn *c, int count)
{
    struct rn_node *first = rn_add(c);

    for (int i = 1; i < count; i++) {
        (void)rn_add(c);
    }
    rn_wait_live(c);
    return first;
}

/* ---- time ---- */

static void turn(struct rn *c)
{
    for (int i = 0; i < RN_MAX; i++) {
        if (c->nodes[i].hub != NULL) {
            pl_hub_set_time(c->nodes[i].hub, rs_now_ms(NULL), pl_clock_unix_ms());
        }
    }
    rs_turn(&c->loop, TURN_MS);
}

bool rn_until(struct rn *c, bool (*cond)(void *arg), void *arg, int ms)
{
    uint64_t deadline = pl_clock_mono_ms() + (uint64_t)ms;

    while (cond == NULL || !cond(arg)) {
        if (pl_clock_mono_ms() >= deadline) {
            return false;
        }
        turn(c);
    }
    return true;
}

void rn_pass(struct rn *c, int ms)
{
    (void)rn_until(c, NULL, NULL, ms);
}

static bool all_live(void *arg)
{
    struct rn *c = arg;

    for (int i = 0; i < RN_MAX; i++) {
        struct pl_redis_bus_status s;

        if (c->nodes[i].bus == NULL) {
            continue;
        }
        pl_redis_bus_status(c->nodes[i].bus, &s);
        if (s.feed != PL_REDIS_LIVE || !s.ready) {
            return false;
        }
    }
    return true;
}

void rn_wait_live(struct rn *c)
{
    assert_true(rn_until(c, all_live, c, 5000));
}

static bool is_up(void *arg)
{
    return ((struct rn_node *)arg)->bus->up;
}

void rn_wait_up(struct rn *c, struct rn_node *n)
{
    assert_true(rn_until(c, is_up, n, 5000));
}

/* ---- what Redis has ---- */

int64_t rn_integer(struct rn *c, const char *format, const char *arg)
{
    struct redisReply *r = rs_command(&c->redis, format, arg);
    int64_t n = r->type == REDIS_REPLY_INTEGER ? r->integer : -1;

    freeReplyObject(r);
    return n;
}

static void append_body(const struct redisReply *fields, struct pl_buf *out)
{
    struct pl_arena arena = {0};
    struct pl_bus_event e;
    struct pl_str payload = {NULL, 0};
    char form = 0;

    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const struct redisReply *v = fields->element[i + 1];

        if (strcmp(fields->element[i]->str, "d") == 0) {
            payload = (struct pl_str){v->str, v->len};
        } else if (strcmp(fields->element[i]->str, "f") == 0) {
            form = v->str[0];
        }
    }
    assert_int_equal(pl_redis_decode_event((enum pl_redis_form)form, payload,
                                           &(struct pl_request_limits){0}, &arena, &e),
                     PL_OK);
    pl_buf_append(out, e.body.s, e.body.len);
    pl_buf_append_byte(out, '\n');
    pl_arena_done(&arena);
}

char *rn_log(struct rn *c, const char *channel, size_t *ret_count)
{
    struct redisReply *r = rs_command(&c->redis, "XRANGE {parley}:log:%s - +", channel);
    struct pl_buf out = {0};
    char *text;

    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    for (size_t i = 0; i < r->elements; i++) {
        append_body(r->element[i]->element[1], &out);
    }
    *ret_count = r->elements;
    freeReplyObject(r);
    text = pl_strndup((const char *)out.data, out.len);
    pl_buf_done(&out);
    return text;
}

/* ---- publishing ---- */

void rn_done(void *arg, int status, const int64_t *ids, size_t count)
{
    struct rn_outcome *o = arg;

    o->calls++;
    o->status = status;
    o->count = count;
    for (size_t i = 0; i < count && i < 8; i++) {
        o->ids[i] = ids[i];
    }
}

static bool is_done(void *arg)
{
    return ((struct rn_outcome *)arg)->calls > 0;
}

int rn_wait(struct rn *c, struct rn_outcome *o)
{
    assert_true(rn_until(c, is_done, o, 5000));
    assert_int_equal(o->calls, 1);
    return o->status;
}

void rn_publish(struct rn_node *n, const char *body, const struct pl_bus_key *key,
                struct rn_outcome *o)
{
    const struct pl_str channel = PL_LIT("community:1");
    struct pl_bus_event e = {
        .body = {body, strlen(body)},
        .channels = &channel,
        .channel_count = 1,
    };

    *o = (struct rn_outcome){.calls = 0};
    pl_hub_publish(n->hub, &e, 1, key, rn_done, o);
}
