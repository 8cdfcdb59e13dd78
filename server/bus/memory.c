#include "server/bus/memory.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/bus/fan_out.h"

/* What a publish under an Idempotency-Key came to. */
struct remembered {
    struct pl_map_node node;
    struct pl_list age; /* oldest first */
    uint64_t expires_ms;
    uint64_t body_hash;
    size_t id_count;
    int64_t *ids;
    size_t key_len;
    char key[]; /* scope and key */
};

struct pl_memory_bus {
    const struct pl_config *cfg;
    struct pl_hub *hub;
    int64_t epoch;
    int64_t last_id;
    struct pl_map keys;
    struct pl_list ages;
};

static struct remembered *of_age(struct pl_list *n)
{
    return pl_container_of(n, struct remembered, age);
}

static bool key_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct remembered *r = pl_container_of(node, struct remembered, node);

    return r->key_len == len && memcmp(r->key, key, len) == 0;
}

struct pl_memory_bus *pl_memory_bus_new(const struct pl_config *cfg, int64_t unix_ms)
{
    struct pl_memory_bus *b = pl_alloc(sizeof(*b));

    b->cfg = cfg;
    b->epoch = b->last_id = unix_ms * 1024;
    pl_map_init(&b->keys, key_eq);
    pl_list_init(&b->ages);
    return b;
}

static void forget(struct pl_memory_bus *b, struct remembered *r)
{
    pl_map_remove(&b->keys, &r->node);
    pl_list_remove(&r->age);
    free(r->ids);
    free(r);
}

void pl_memory_bus_free(struct pl_memory_bus *b)
{
    if (b == NULL) {
        return;
    }
    pl_list_foreach_safe(n, &b->ages) {
        forget(b, of_age(n));
    }
    pl_map_done(&b->keys);
    free(b);
}

int64_t pl_memory_bus_epoch(const struct pl_memory_bus *b)
{
    return b->epoch;
}

void pl_memory_bus_connect(struct pl_memory_bus *b, struct pl_hub *h)
{
    b->hub = h;
}

static int64_t next_id(struct pl_memory_bus *b)
{
    int64_t now = pl_hub_unix_ms(b->hub) * 1024;

    b->last_id = b->last_id + 1 > now ? b->last_id + 1 : now;
    return b->last_id;
}

/* ---- idempotency ---- */

static size_t full_key(const struct pl_bus_key *k, char out[300])
{
    PL_ASSERT(k->key.len <= 255);
    memcpy(out, &k->scope, sizeof(k->scope));
    memcpy(out + sizeof(k->scope), k->key.s, k->key.len);
    return sizeof(k->scope) + k->key.len;
}

static struct remembered *recall(struct pl_memory_bus *b, const char *key, size_t len)
{
    uint64_t now = pl_hub_mono_ms(b->hub);
    struct pl_map_node *n;
    struct remembered *r;

    while (!pl_list_empty(&b->ages) && of_age(b->ages.next)->expires_ms <= now) {
        forget(b, of_age(b->ages.next));
    }
    n = pl_map_find(&b->keys, key, len);
    if (n == NULL) {
        return NULL;
    }
    /* After publish.idempotency_ttl was lowered a younger one may expire before an older. */
    r = pl_container_of(n, struct remembered, node);
    if (r->expires_ms <= now) {
        forget(b, r);
        return NULL;
    }
    return r;
}

static void remember(struct pl_memory_bus *b, const struct pl_bus_key *k, const int64_t *ids,
                     size_t count)
{
    char key[300];
    size_t len = full_key(k, key);
    struct remembered *r = pl_alloc(sizeof(*r) + len);

    while (b->keys.count >= (uint64_t)b->cfg->limits_idempotency_keys) {
        forget(b, of_age(b->ages.next));
    }
    r->expires_ms = pl_hub_mono_ms(b->hub) + (uint64_t)b->cfg->publish_idempotency_ttl;
    r->body_hash = k->body_hash;
    r->id_count = count;
    r->ids = pl_alloc(count * sizeof(*ids));
    memcpy(r->ids, ids, count * sizeof(*ids));
    r->key_len = len;
    memcpy(r->key, key, len);
    pl_map_insert(&b->keys, &r->node, key, len);
    pl_list_append(&b->ages, &r->age);
}

/* ---- the port ---- */

static void memory_publish(void *bus, const struct pl_bus_event *events, size_t count,
                           const struct pl_bus_key *k, pl_bus_done_fn *done, void *arg)
{
    struct pl_memory_bus *b = bus;
    bool keyed = k != NULL && k->key.len > 0;
    int64_t *ids;

    if (keyed) {
        char key[300];
        const struct remembered *r = recall(b, key, full_key(k, key));

        if (r != NULL) {
            int status = r->body_hash == k->body_hash ? PL_OK : PL_ERR_IDEMPOTENCY;

            done(arg, status, r->ids, r->id_count);
            return;
        }
    }
    ids = pl_alloc(count * sizeof(*ids));
    for (size_t i = 0; i < count; i++) {
        ids[i] = next_id(b);
        /* With the ring as log, the hub knows each channel's previous id itself. */
        pl_bus__fan_out(b->hub, ids[i], &events[i], NULL);
    }
    if (keyed) {
        remember(b, k, ids, count);
    }
    done(arg, PL_OK, ids, count);
    free(ids);
}

static void memory_change(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg)
{
    struct pl_memory_bus *b = bus;
    int64_t id = next_id(b);

    pl_hub_bus_change(b->hub, id, c);
    done(arg, PL_OK, &id, 1);
}

static void memory_open(void *bus, struct pl_str channel, int64_t after_id)
{
    (void)bus;
    (void)channel;
    (void)after_id;
    pl_assert_failed("rings are the log: nothing is ever opened", __FILE__, __LINE__);
}

static void memory_close(void *bus, struct pl_str channel)
{
    (void)bus;
    (void)channel;
}

static void memory_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    const struct pl_memory_bus *b = bus;

    done(arg, PL_OK, &b->last_id, 1);
}

const struct pl_bus_ops pl_memory_bus_ops = {
    .publish = memory_publish,
    .change = memory_change,
    .open = memory_open,
    .close = memory_close,
    .sequence = memory_sequence,
};
