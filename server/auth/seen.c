#include <stdlib.h>
#include <string.h>

#include "server/auth/auth_priv.h"
#include "server/base/alloc.h"

struct tag {
    uint64_t half[2];
};

struct entry {
    struct pl_map_node node;
    struct pl_list lru;
    struct tag tag;
};

static bool entry_has_tag(const struct pl_map_node *node, const void *key, size_t len)
{
    (void)len;
    return memcmp(&pl_container_of(node, struct entry, node)->tag, key, sizeof(struct tag)) == 0;
}

/* The second half hashes the token behind a byte that no token begins with. */
static struct tag tag_of(struct pl_str token)
{
    char prefixed[PL_AUTH__TOKEN_MAX + 1];
    struct tag t;

    PL_ASSERT(token.len <= PL_AUTH__TOKEN_MAX);
    prefixed[0] = '\1';
    memcpy(prefixed + 1, token.s, token.len);
    t.half[0] = pl_map_hash(token.s, token.len);
    t.half[1] = pl_map_hash(prefixed, token.len + 1);
    return t;
}

void pl_auth__seen_init(struct pl_auth__seen *s, uint32_t max)
{
    pl_map_init(&s->map, entry_has_tag);
    pl_list_init(&s->lru);
    s->max = max;
}

static void forget(struct pl_auth__seen *s, struct entry *e)
{
    pl_map_remove(&s->map, &e->node);
    pl_list_remove(&e->lru);
    free(e);
}

void pl_auth__seen_done(struct pl_auth__seen *s)
{
    pl_list_foreach_safe(it, &s->lru) {
        forget(s, pl_container_of(it, struct entry, lru));
    }
    pl_map_done(&s->map);
}

static struct entry *find(struct pl_auth__seen *s, const struct tag *t)
{
    struct pl_map_node *n = pl_map_find(&s->map, t, sizeof(*t));

    return n ? pl_container_of(n, struct entry, node) : NULL;
}

bool pl_auth__seen_find(struct pl_auth__seen *s, struct pl_str token)
{
    struct tag t = tag_of(token);
    struct entry *e = find(s, &t);

    if (!e) {
        return false;
    }
    pl_list_remove(&e->lru);
    pl_list_append(&s->lru, &e->lru);
    return true;
}

void pl_auth__seen_add(struct pl_auth__seen *s, struct pl_str token)
{
    struct tag t = tag_of(token);
    struct entry *e;

    if (find(s, &t)) {
        return;
    }
    if (s->map.count >= s->max) {
        forget(s, pl_container_of(s->lru.next, struct entry, lru));
    }
    e = pl_alloc(sizeof(*e));
    e->tag = t;
    pl_map_insert(&s->map, &e->node, &e->tag, sizeof(e->tag));
    pl_list_append(&s->lru, &e->lru);
}
