#include "server/base/map.h"

#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/siphash_priv.h"

enum {
    MIN_BUCKETS = 8,
    MAX_BUCKETS = 1 << 30,
    SPARSE = 8
};

uint64_t pl_map_hash(const void *key, size_t len)
{
    static uint64_t seed[2];
    static bool seeded;

    if (!seeded) {
        pl_random_bytes(seed, sizeof(seed));
        seeded = true;
    }
    return pl_siphash__13(key, len, seed[0], seed[1]);
}

uint64_t pl_hash_stable(const void *bytes, size_t len)
{
    return pl_siphash__13(bytes, len, 0, 0);
}

void pl_map_init(struct pl_map *m, pl_map_eq_fn *eq)
{
    *m = (struct pl_map){.eq = eq};
}

void pl_map_done(struct pl_map *m)
{
    free(m->buckets);
    *m = (struct pl_map){.eq = m->eq};
}

static struct pl_map_node **bucket_of(const struct pl_map *m, uint64_t hash)
{
    return &m->buckets[hash & (m->bucket_count - 1)];
}

struct pl_map_node *pl_map_find(const struct pl_map *m, const void *key, size_t len)
{
    uint64_t hash;

    if (m->count == 0) {
        return NULL;
    }
    hash = pl_map_hash(key, len);
    for (struct pl_map_node *node = *bucket_of(m, hash); node; node = node->next) {
        if (node->hash == hash && m->eq(node, key, len)) {
            return node;
        }
    }
    return NULL;
}

static void link_node(struct pl_map *m, struct pl_map_node *node)
{
    struct pl_map_node **bucket = bucket_of(m, node->hash);

    node->next = *bucket;
    *bucket = node;
}

static void rehash(struct pl_map *m, uint32_t bucket_count)
{
    struct pl_map old = *m;

    m->buckets = pl_alloc(bucket_count * sizeof(struct pl_map_node *));
    m->bucket_count = bucket_count;
    for (uint32_t i = 0; i < old.bucket_count; i++) {
        struct pl_map_node *next;

        for (struct pl_map_node *node = old.buckets[i]; node; node = next) {
            next = node->next;
            link_node(m, node);
        }
    }
    free(old.buckets);
}

/* Both directions happen here and not in remove: there, a loop that removes would lose its place.
 */
static void resize(struct pl_map *m)
{
    uint32_t want = m->bucket_count;

    if (want == 0) {
        want = MIN_BUCKETS;
    } else if (m->count >= want && want < MAX_BUCKETS) {
        want *= 2;
    } else {
        while (want > MIN_BUCKETS && m->count < want / SPARSE) {
            want /= 2;
        }
    }
    if (want != m->bucket_count) {
        rehash(m, want);
    }
}

void pl_map_insert(struct pl_map *m, struct pl_map_node *node, const void *key, size_t len)
{
    PL_ASSERT(m->count < UINT32_MAX);
    resize(m);
    node->hash = pl_map_hash(key, len);
    link_node(m, node);
    m->count++;
}

void pl_map_remove(struct pl_map *m, struct pl_map_node *node)
{
    struct pl_map_node **at;

    PL_ASSERT(m->count > 0);
    at = bucket_of(m, node->hash);
    while (*at != node) {
        PL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    if (--m->count == 0) {
        pl_map_done(m);
    }
}

static struct pl_map_node *first_from(const struct pl_map *m, uint64_t bucket)
{
    for (; bucket < m->bucket_count; bucket++) {
        if (m->buckets[bucket]) {
            return m->buckets[bucket];
        }
    }
    return NULL;
}

struct pl_map_node *pl_map_first(const struct pl_map *m)
{
    return first_from(m, 0);
}

struct pl_map_node *pl_map_next(const struct pl_map *m, const struct pl_map_node *node)
{
    return node->next ? node->next : first_from(m, (node->hash & (m->bucket_count - 1)) + 1);
}
