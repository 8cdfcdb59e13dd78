/* Who is in a channel: whole or narrowed to topics. Arrays with back-indices, so that joining and
 * leaving cost O(1) and a walk touches only those concerned. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/core/channel_priv.h"
#include "server/core/hub_priv.h"

static struct pl_sub_array *array_of(struct pl_sub *s)
{
    return pl_sub__is_narrowed(s) ? &s->channel->narrowed : &s->channel->whole;
}

static void array_add(struct pl_sub_array *a, struct pl_sub *s)
{
    if (a->count == a->cap) {
        a->cap = a->cap > 0 ? a->cap * 2 : 4;
        a->items = pl_realloc(a->items, a->cap * sizeof(struct pl_sub *));
    }
    s->index = a->count;
    a->items[a->count++] = s;
}

static void array_remove(struct pl_sub_array *a, struct pl_sub *s)
{
    struct pl_sub *last = a->items[--a->count];

    PL_ASSERT(a->items[s->index] == s);
    a->items[s->index] = last;
    last->index = s->index;
    if (a->count == 0) {
        free(a->items);
        *a = (struct pl_sub_array){0};
    }
}

/* ---- topics ---- */

struct pl_topic *pl_channel__topic(const struct pl_channel *c, struct pl_str name)
{
    struct pl_map_node *n = name.len > 0 ? pl_map_find(&c->topics, name.s, name.len) : NULL;

    return n != NULL ? pl_container_of(n, struct pl_topic, node) : NULL;
}

static struct pl_topic *topic_get(struct pl_channel *c, struct pl_str name)
{
    struct pl_topic *t = pl_channel__topic(c, name);

    if (t == NULL) {
        t = pl_alloc(sizeof(*t) + name.len);
        t->channel = c;
        t->len = (uint32_t)name.len;
        t->hash = pl_map_hash(name.s, name.len) | 1;
        memcpy(t->name, name.s, name.len);
        pl_map_insert(&c->topics, &t->node, name.s, name.len);
    }
    t->refs++;
    return t;
}

static void topic_unref(struct pl_topic *t)
{
    if (--t->refs > 0) {
        return;
    }
    pl_map_remove(&t->channel->topics, &t->node);
    free(t->members);
    free(t);
}

static void member_add(struct pl_sub *s, uint32_t slot)
{
    struct pl_topic *t = s->narrowed->topics[slot].topic;

    if (t->member_count == t->member_cap) {
        t->member_cap = t->member_cap > 0 ? t->member_cap * 2 : 2;
        t->members = pl_realloc(t->members, t->member_cap * sizeof(*t->members));
    }
    s->narrowed->topics[slot].index = t->member_count;
    t->members[t->member_count++] = (struct pl_topic_member){s, slot};
}

static void member_remove(struct pl_topic_ref *ref)
{
    struct pl_topic *t = ref->topic;
    struct pl_topic_member last;

    if (ref->index == PL_NO_INDEX) {
        return;
    }
    last = t->members[--t->member_count];
    t->members[ref->index] = last;
    last.sub->narrowed->topics[last.slot].index = ref->index;
    ref->index = PL_NO_INDEX;
}

static void drop_topics(struct pl_sub *s)
{
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        member_remove(&s->narrowed->topics[i]);
        topic_unref(s->narrowed->topics[i].topic);
    }
    if (s->narrowed != NULL) {
        s->narrowed->count = 0;
        s->narrowed = pl_realloc(s->narrowed, sizeof(*s->narrowed));
    }
}

static struct pl_topic_ref *find_ref(struct pl_sub *s, struct pl_str topic)
{
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        const struct pl_topic *t = s->narrowed->topics[i].topic;

        if (t->len == topic.len && memcmp(t->name, topic.s, topic.len) == 0) {
            return &s->narrowed->topics[i];
        }
    }
    return NULL;
}

/* ---- subs ---- */

void pl_channel__join(struct pl_sub *s)
{
    array_add(array_of(s), s);
}

void pl_channel__leave(struct pl_sub *s)
{
    array_remove(array_of(s), s);
    drop_topics(s);
    free(s->narrowed);
    s->narrowed = NULL;
}

void pl_channel__moved(struct pl_sub *s)
{
    array_of(s)->items[s->index] = s;
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        if (s->narrowed->topics[i].index != PL_NO_INDEX) {
            s->narrowed->topics[i].topic->members[s->narrowed->topics[i].index].sub = s;
        }
    }
}

void pl_channel__each_sub(struct pl_channel *c, void (*fn)(struct pl_sub *s, void *arg), void *arg)
{
    for (uint32_t i = 0; i < c->whole.count; i++) {
        fn(c->whole.items[i], arg);
    }
    for (uint32_t i = 0; i < c->narrowed.count; i++) {
        fn(c->narrowed.items[i], arg);
    }
}

static void leave_whole(struct pl_sub *s)
{
    array_remove(&s->channel->whole, s);
    if (s->narrowed == NULL) {
        s->narrowed = pl_alloc(sizeof(*s->narrowed));
    }
    s->narrowed->all_since = PL_NARROWED;
    array_add(&s->channel->narrowed, s);
}

void pl_sub__narrow(struct pl_sub *s)
{
    drop_topics(s);
    if (!pl_sub__is_narrowed(s)) {
        leave_whole(s);
    }
}

void pl_sub__widen(struct pl_sub *s, int64_t since)
{
    if (!pl_sub__is_narrowed(s)) {
        return;
    }
    /* What is pending of the topics stays due, so they are kept; a walk finds the sub in `whole`
     * from here on. */
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        member_remove(&s->narrowed->topics[i]);
    }
    array_remove(&s->channel->narrowed, s);
    s->narrowed->all_since = since;
    array_add(&s->channel->whole, s);
}

static void remove_ref(struct pl_sub *s, struct pl_topic_ref *ref)
{
    uint32_t last = --s->narrowed->count;

    member_remove(ref);
    topic_unref(ref->topic);
    if (ref != &s->narrowed->topics[last]) {
        *ref = s->narrowed->topics[last];
        if (ref->index != PL_NO_INDEX) {
            ref->topic->members[ref->index].slot = (uint32_t)(ref - s->narrowed->topics);
        }
    }
}

void pl_sub__remove_topic(struct pl_sub *s, struct pl_str topic)
{
    struct pl_topic_ref *ref = pl_sub__is_narrowed(s) ? find_ref(s, topic) : NULL;

    if (ref != NULL) {
        remove_ref(s, ref);
    }
}

static bool is_among(const struct pl_topic *t, const struct pl_str *topics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (topics[i].len == t->len && memcmp(topics[i].s, t->name, t->len) == 0) {
            return true;
        }
    }
    return false;
}

/* Drops the topics that are not among these. */
static void keep_topics(struct pl_sub *s, const struct pl_str *topics, size_t count)
{
    for (uint32_t i = pl_sub__topic_count(s); i-- > 0;) {
        if (!is_among(s->narrowed->topics[i].topic, topics, count)) {
            remove_ref(s, &s->narrowed->topics[i]);
        }
    }
}

int pl_sub__add_topic(struct pl_sub *s, struct pl_str topic, int64_t since, uint32_t limit)
{
    uint32_t slot;

    if (!pl_sub__is_narrowed(s)) {
        if (limit == 0) {
            return PL_ERR_TOO_BIG;
        }
        pl_sub__narrow_to(s, &topic, 1, since, limit);
        return PL_OK;
    }
    if (find_ref(s, topic) != NULL) {
        return PL_OK;
    }
    if (pl_sub__topic_count(s) >= limit) {
        return PL_ERR_TOO_BIG;
    }
    slot = s->narrowed->count;
    s->narrowed =
        pl_realloc(s->narrowed, sizeof(*s->narrowed) + (slot + 1) * sizeof(s->narrowed->topics[0]));
    s->narrowed->count++;
    s->narrowed->topics[slot] =
        (struct pl_topic_ref){topic_get(s->channel, topic), since, PL_NO_INDEX};
    member_add(s, slot);
    return PL_OK;
}

void pl_sub__narrow_to(struct pl_sub *s, const struct pl_str *topics, size_t count, int64_t since,
                       uint32_t limit)
{
    keep_topics(s, topics, count);
    if (!pl_sub__is_narrowed(s)) {
        /* All of it included the new ones, from then on; those it had before reach back further. */
        since = pl_sub__all_since(s);
        leave_whole(s);
        for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
            member_add(s, i);
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)pl_sub__add_topic(s, topics[i], since, limit);
    }
}
