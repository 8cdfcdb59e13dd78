#include "server/core/channel_priv.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/core/hub_priv.h"

static struct pl_channel *of_node(const struct pl_map_node *n)
{
    return pl_container_of(n, struct pl_channel, node);
}

static bool channel_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct pl_channel *c = of_node(node);

    return c->name_len == len && memcmp(c->name, key, len) == 0;
}

static bool topic_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct pl_topic *t = pl_container_of(node, struct pl_topic, node);

    return t->len == len && memcmp(t->name, key, len) == 0;
}

void pl_channel__map_init(struct pl_map *m)
{
    pl_map_init(m, channel_eq);
}

struct pl_channel *pl_channel__find(struct pl_hub *h, struct pl_str name)
{
    struct pl_map_node *n = pl_map_find(&h->channels, name.s, name.len);

    return n != NULL ? of_node(n) : NULL;
}

struct pl_channel *pl_channel__get(struct pl_hub *h, struct pl_str name)
{
    struct pl_channel *c = pl_channel__find(h, name);

    if (c != NULL) {
        return c;
    }
    PL_ASSERT(name.len > 0 && name.len <= UINT8_MAX);
    c = pl_alloc(sizeof(*c) + name.len);
    *c = (struct pl_channel){.hub = h, .name_len = (uint8_t)name.len};
    c->state = h->ring_is_log ? PL_CHANNEL_LIVE : PL_CHANNEL_IDLE;
    /* What a channel of that name held may have been forgotten with it. */
    c->floor = c->last_id = h->ring_is_log ? h->forgotten_id : 0;
    memcpy(c->name, name.s, name.len);
    pl_map_init(&c->topics, topic_eq);
    pl_map_insert(&h->channels, &c->node, name.s, name.len);
    pl_list_init(&c->lru);
    pl_list_init(&c->read);
    pl_list_init(&c->unneeded);
    pl_list_init(&c->history);
    pl_list_append(&h->channel_lru, &c->lru);
    pl_hub__bound_channels(h, c);
    return c;
}

void pl_channel__close(struct pl_channel *c)
{
    struct pl_hub *h = c->hub;

    pl_list_remove(&c->unneeded);
    if (h->ring_is_log || c->state == PL_CHANNEL_IDLE) {
        return;
    }
    c->state = PL_CHANNEL_IDLE;
    c->gap_to = 0;
    c->log_floor = 0;
    pl_list_remove(&c->read);
    pl_history__forget(c);
    pl_history__next(h);
    pl_channel__drop_early(c);
    pl_channel__clear(c, 0);
    h->bus_ops->close(h->bus, pl_channel__name(c));
}

void pl_channel__free(struct pl_channel *c)
{
    struct pl_hub *h = c->hub;

    PL_ASSERT(c->whole.count == 0 && c->narrowed.count == 0 && c->refs == 0);
    if (h->ring_is_log && c->last_id > h->forgotten_id) {
        h->forgotten_id = c->last_id;
    }
    pl_channel__close(c);
    pl_channel__clear(c, c->last_id);
    pl_channel__drop_early(c);
    pl_map_remove(&h->channels, &c->node);
    pl_list_remove(&c->lru);
    pl_list_remove(&c->read);
    pl_map_done(&c->topics);
    free(c->ring);
    free(c->whole.items);
    free(c->narrowed.items);
    free(c);
}

/* Nothing would be lost with it: nobody is in it, nobody may be, and there is no history to
 * remember. */
static bool is_blank(const struct pl_channel *c)
{
    return c->refs == 0 && c->whole.count + c->narrowed.count == 0 && c->ring_count == 0 &&
           (c->last_id <= c->hub->forgotten_id || c->state == PL_CHANNEL_IDLE);
}

void pl_channel__unref(struct pl_channel *c)
{
    PL_ASSERT(c->refs > 0);
    c->refs--;
    if (is_blank(c)) {
        pl_channel__free(c);
    }
}

struct pl_str pl_channel__name(const struct pl_channel *c)
{
    return (struct pl_str){c->name, c->name_len};
}

int64_t pl_channel__community(const struct pl_channel *c)
{
    static const char prefix[] = "community:";
    const size_t skip = sizeof(prefix) - 1;
    int64_t n;

    if (c->name_len <= skip || memcmp(c->name, prefix, skip) != 0 ||
        !pl_user_number((struct pl_str){c->name + skip, c->name_len - skip}, &n)) {
        return -1;
    }
    return n;
}

int64_t pl_channel__examined(const struct pl_channel *c)
{
    return c->state == PL_CHANNEL_LIVE ? c->hub->applied : c->whole_to;
}

/* ---- the ring ---- */

const struct pl_ring_entry *pl_channel__entry(const struct pl_channel *c, uint32_t n)
{
    return &c->ring[(c->ring_head + n) & (c->ring_cap - 1)];
}

/* Room for `before` entries more in front of those held and one more behind. */
static void grow_ring(struct pl_channel *c, uint32_t before)
{
    uint32_t cap = c->ring_cap > 0 ? c->ring_cap : 4;
    struct pl_ring_entry *ring;

    while (cap < c->ring_count + before + 1) {
        cap *= 2;
    }
    ring = pl_alloc(cap * sizeof(*ring));
    for (uint32_t i = 0; i < c->ring_count; i++) {
        ring[before + i] = *pl_channel__entry(c, i);
    }
    free(c->ring);
    c->ring = ring;
    c->ring_cap = cap;
    c->ring_head = before;
}

void pl_channel__prepend(struct pl_channel *c, int64_t floor, const struct pl_ring_entry *entries,
                         uint32_t count)
{
    grow_ring(c, count);
    c->ring_head = 0;
    c->ring_count += count;
    for (uint32_t i = 0; i < count; i++) {
        c->ring[i] = (struct pl_ring_entry){pl_event__ref(entries[i].event), entries[i].prev};
        c->ring_bytes += entries[i].event->ring_bytes;
    }
    c->floor = floor;
}

void pl_channel__trim_one(struct pl_channel *c)
{
    struct pl_event *e = c->ring[c->ring_head].event;

    c->ring_head = (c->ring_head + 1) & (c->ring_cap - 1);
    c->ring_count--;
    c->ring_bytes -= e->ring_bytes;
    c->floor = c->ring_count > 0 ? pl_channel__entry(c, 0)->prev : c->last_id;
    pl_hub__drop_event(c->hub, e);
}

void pl_channel__append(struct pl_channel *c, struct pl_event *e, int64_t prev)
{
    const struct pl_config *cfg = c->hub->cfg;

    PL_ASSERT(e->id > c->last_id);
    if (c->ring_count == c->ring_cap) {
        grow_ring(c, 0);
    }
    c->ring[(c->ring_head + c->ring_count) & (c->ring_cap - 1)] =
        (struct pl_ring_entry){pl_event__ref(e), prev};
    c->ring_count++;
    c->ring_bytes += e->ring_bytes;
    c->last_id = e->id;
    while (c->ring_count > 1 && c->deep_until_ms <= c->hub->mono_ms &&
           (c->ring_count > (uint64_t)cfg->channel_ring_events ||
            c->ring_bytes > (uint64_t)cfg->channel_ring_bytes)) {
        pl_channel__trim_one(c);
    }
    pl_list_remove(&c->lru);
    pl_list_append(&c->hub->channel_lru, &c->lru);
}

uint32_t pl_channel__after(const struct pl_channel *c, int64_t id)
{
    uint32_t low = 0;
    uint32_t high = c->ring_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (pl_channel__entry(c, mid)->event->id <= id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

void pl_channel__keep_early(struct pl_channel *c, struct pl_event *e, int64_t prev)
{
    /* Too many to keep: what is kept from here on does not join on to the log, which is read again
     * then. */
    if (c->early_count >= (uint64_t)c->hub->cfg->channel_ring_events) {
        pl_channel__drop_early(c);
    }
    c->early = pl_realloc(c->early, (c->early_count + 1) * sizeof(*c->early));
    c->early[c->early_count++] = (struct pl_ring_entry){pl_event__ref(e), prev};
}

void pl_channel__drop_early(struct pl_channel *c)
{
    for (uint32_t i = 0; i < c->early_count; i++) {
        pl_hub__drop_event(c->hub, c->early[i].event);
    }
    free(c->early);
    c->early = NULL;
    c->early_count = 0;
}

void pl_channel__clear(struct pl_channel *c, int64_t floor)
{
    while (c->ring_count > 0) {
        pl_channel__trim_one(c);
    }
    c->floor = floor;
    c->last_id = floor;
}
