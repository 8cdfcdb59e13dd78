#ifndef PL_BASE_MAP_H
#define PL_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An intrusive hash map of byte-string keys, chained. Keys are hashed with SipHash-1-3 under a
 * random seed drawn once per process, so a peer that chooses keys cannot choose collisions. The map
 * owns nothing but its bucket array; nodes are embedded in what they index. */
struct pl_map_node {
    struct pl_map_node *next;
    uint64_t hash;
};

/* Does this node have that key? */
typedef bool pl_map_eq_fn(const struct pl_map_node *node, const void *key, size_t len);

struct pl_map {
    struct pl_map_node **buckets; /* NULL while empty */
    uint32_t bucket_count;        /* 0 or a power of two */
    uint32_t count;               /* nodes held */
    pl_map_eq_fn *eq;
};

void pl_map_init(struct pl_map *m, pl_map_eq_fn *eq);
void pl_map_done(struct pl_map *m); /* frees the buckets, not the nodes */

/* NULL if there is none. */
struct pl_map_node *pl_map_find(const struct pl_map *m, const void *key, size_t len);

/* The key must not be in the map yet. Grows at a load of 1, shrinks below 1/8 (at the next insert,
 * so that a loop may remove); a map that becomes empty frees its buckets at once. */
void pl_map_insert(struct pl_map *m, struct pl_map_node *node, const void *key, size_t len);
void pl_map_remove(struct pl_map *m, struct pl_map_node *node);

/* Iteration in no order; the body may remove the node it is given, nothing else, and insert
 * nothing. */
struct pl_map_node *pl_map_first(const struct pl_map *m);
struct pl_map_node *pl_map_next(const struct pl_map *m, const struct pl_map_node *node);
#define pl_map_foreach(it, m)                                                                   \
    for (struct pl_map_node *it = pl_map_first(m), *it##_next = it ? pl_map_next(m, it) : NULL; \
         it; it = it##_next, it##_next = it ? pl_map_next(m, it) : NULL)

/* The hash itself, for those who need one (websocket_percent by user, say): stable within a process
 * only. */
uint64_t pl_map_hash(const void *key, size_t len);
/* The same in every process, so not for tables that a peer may fill. */
uint64_t pl_hash_stable(const void *bytes, size_t len);

#endif
