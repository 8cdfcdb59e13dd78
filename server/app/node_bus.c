#include "server/app/node_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/metrics.h"
#include "server/bus/memory.h"
#include "server/bus/redis.h"

struct pl_node_bus {
    struct pl_hub *hub;
    struct pl_memory_bus *memory; /* one of the two */
    struct pl_redis_bus *redis;
    struct pl_redis_bus_status status;
    char address[128];
    char name[160];
};

bool pl_node_bus_is_embedded(const struct pl_config *cfg)
{
    return strcmp(cfg->bus_url, "memory:") == 0;
}

int pl_node_bus_check(const struct pl_config *cfg, char *err, unsigned err_size)
{
    struct pl_redis_url url;
    char why[200];

    if (pl_node_bus_is_embedded(cfg)) {
        return PL_OK;
    }
    if (pl_redis_url_parse(cfg->bus_url, &url, why, sizeof(why)) != PL_OK) {
        (void)snprintf(err, err_size, "bus.url: %s", why);
        return PL_ERR_INVALID;
    }
    if (cfg->bus_prefix[0] == '\0' || strlen(cfg->bus_prefix) > 64 ||
        strpbrk(cfg->bus_prefix, "{}") != NULL) {
        (void)snprintf(err, err_size, "bus.prefix: 1 to 64 bytes without braces");
        return PL_ERR_INVALID;
    }
    return PL_OK;
}

static void make_redis(struct pl_node_bus *b, const struct pl_config *cfg, const char *name,
                       struct pl_wheel *wheel)
{
    struct pl_redis_url url;
    char why[200];

    (void)pl_redis_url_parse(cfg->bus_url, &url, why, sizeof(why));
    pl_redis_url_show(&url, b->name, sizeof(b->name));
    b->redis = pl_redis_bus_new(&(struct pl_redis_bus_options){
        .cfg = cfg,
        .url = &url,
        .node = name,
        .address = b->address,
        .wheel = wheel,
    });
}

struct pl_node_bus *pl_node_bus_new(const struct pl_config *cfg, const char *name,
                                    struct pl_wheel *wheel, uint64_t mono_ms, int64_t unix_ms)
{
    struct pl_node_bus *b = pl_alloc(sizeof(*b));
    struct pl_hub_options o = {
        .cfg = cfg,
        .has_turns = true,
        .wheel = wheel,
        .random = pl_random_bytes,
    };

    if (pl_node_bus_is_embedded(cfg)) {
        (void)snprintf(b->name, sizeof(b->name), "%s", cfg->bus_url);
        b->memory = pl_memory_bus_new(cfg, unix_ms);
        o.bus_ops = &pl_memory_bus_ops;
        o.bus = b->memory;
        o.ring_is_log = true;
        o.epoch_start = pl_memory_bus_epoch(b->memory);
    } else {
        make_redis(b, cfg, name, wheel);
        o.bus_ops = &pl_redis_bus_ops;
        o.bus = b->redis;
    }
    b->hub = pl_hub_new(&o, mono_ms, unix_ms);
    if (b->memory != NULL) {
        pl_memory_bus_connect(b->memory, b->hub);
    }
    return b;
}

const char *pl_node_bus_name(const struct pl_node_bus *b)
{
    return b->name;
}

struct pl_hub *pl_node_bus_hub(struct pl_node_bus *b)
{
    return b->hub;
}

/* ---- health ---- */

static void memory_health(const struct pl_node *n, struct pl_bus_health *ret)
{
    (void)n;
    *ret = (struct pl_bus_health){.type = "memory", .status = "ok", .error = ""};
}

static void redis_health(const struct pl_node *n, struct pl_bus_health *ret)
{
    static const char *const by_feed[] = {
        [PL_REDIS_DOWN] = "down", [PL_REDIS_LOGS] = "degraded", [PL_REDIS_LIVE] = "ok"};
    struct pl_node_bus *b = n->bus;

    pl_redis_bus_status(b->redis, &b->status);
    *ret = (struct pl_bus_health){
        .type = "redis",
        .status = by_feed[b->status.feed],
        .error = b->status.feed != PL_REDIS_LIVE ? b->status.error : "",
        .reason_count = b->status.reason_count,
    };
    memcpy(ret->reasons, b->status.reasons, sizeof(b->status.reasons));
    pl_metric_set(PL_S_BUS_BREAKER, (uint64_t)b->status.breaker);
    pl_metric_set(PL_S_BUS_FEED, (uint64_t)b->status.feed);
}

static int64_t redis_turn_began(const struct pl_node *n)
{
    struct pl_node_bus *b = n->bus;

    return b->redis != NULL ? pl_redis_bus_turn_began(b->redis) : 0; /* it may have left */
}

static void redis_connections(struct pl_node *n, struct pl_str user_id, pl_connections_fn *done,
                              void *arg)
{
    struct pl_node_bus *b = n->bus;

    pl_redis_bus_connections(b->redis, user_id, done, arg);
}

static void redis_logged(struct pl_node *n, const struct pl_str *channels, size_t count,
                         int64_t event_id, pl_logged_fn *done, void *arg)
{
    struct pl_node_bus *b = n->bus;

    pl_redis_bus_logged(b->redis, channels, count, event_id, done, arg);
}

void pl_node_bus_join(struct pl_node_bus *b, struct pl_node *n)
{
    n->bus = b;
    n->bus_health = b->memory != NULL ? memory_health : redis_health;
    n->turn_began_ms = b->memory != NULL ? NULL : redis_turn_began;
    n->connections = b->memory != NULL ? NULL : redis_connections;
    n->logged = b->memory != NULL ? NULL : redis_logged;
}

/* ---- life ---- */

void pl_node_bus_connect(struct pl_node_bus *b, struct uv_loop_s *loop, const char *address)
{
    (void)snprintf(b->address, sizeof(b->address), "%s", address);
    if (b->redis != NULL) {
        pl_redis_bus_connect(b->redis, b->hub, loop);
    }
}

void pl_node_bus_leave(struct pl_node_bus *b)
{
    if (b != NULL && b->redis != NULL) {
        pl_hub_leave_bus(b->hub);
        pl_redis_bus_free(b->redis);
        b->redis = NULL;
    }
}

void pl_node_bus_free(struct pl_node_bus *b)
{
    if (b == NULL) {
        return;
    }
    pl_hub_free(b->hub);
    pl_memory_bus_free(b->memory);
    free(b);
}
