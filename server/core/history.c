/* What a ring does not hold any more and the bus's log still does. It is read into the ring, for all
 * who wait, and the ring's bounds wait a moment until they have got it. */
#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/core/queue_priv.h"

enum {
    READS_AT_ONCE = 4,
    DEEP_MS = 5000,
    CUTS_MOST = 3,
};

void pl_history__next(struct pl_hub *h)
{
    while (h->bus_ops->read != NULL && h->history_reads < READS_AT_ONCE &&
           !pl_list_empty(&h->histories)) {
        struct pl_channel *c = pl_container_of(h->histories.next, struct pl_channel, history);

        pl_list_remove(&c->history);
        c->history_asked = true;
        c->deep_until_ms = h->mono_ms + DEEP_MS; /* what is read must join on to it */
        h->history_reads++;
        h->bus_ops->read(h->bus, pl_channel__name(c), c->history_after, c->last_id);
    }
}

/* All that somebody needs at once does not fit into channel.total_bytes: to read it again and again would
 * serve nobody. */
static bool does_not_fit(struct pl_channel *c)
{
    if (c->history_cut) {
        c->history_cut = false;
        c->history_cuts++;
    } else {
        c->history_cuts = 0;
    }
    if (c->history_cuts < CUTS_MOST) {
        return false;
    }
    c->history_cuts = 0;
    return true;
}

bool pl_history__want(struct pl_channel *c, int64_t after)
{
    struct pl_hub *h = c->hub;

    if (h->bus_ops->read == NULL || after < c->log_floor) {
        return false;
    }
    /* Until it is live, or while a reading is under way, it is looked at again in any case. */
    if (c->state != PL_CHANNEL_LIVE || c->history_asked) {
        return true;
    }
    if (pl_list_empty(&c->history)) {
        if (does_not_fit(c)) {
            return false;
        }
        c->history_after = after;
        pl_list_append(&h->histories, &c->history);
    } else if (after < c->history_after) {
        c->history_after = after;
    }
    pl_history__next(h);
    return true;
}

void pl_history__forget(struct pl_channel *c)
{
    pl_list_remove(&c->history);
    if (c->history_asked) {
        c->history_asked = false;
        c->hub->history_reads--;
    }
}

void pl_history__restart(struct pl_hub *h)
{
    pl_map_foreach(n, &h->channels) {
        pl_history__forget(pl_container_of(n, struct pl_channel, node));
    }
}

static void prepend(struct pl_channel *c, int64_t floor, const struct pl_bus_log_entry *entries,
                    size_t count)
{
    struct pl_ring_entry *ring = pl_alloc((count + 1) * sizeof(*ring));
    uint32_t n = 0;

    for (size_t i = 0; i < count && entries[i].id <= c->floor; i++) {
        ring[n] =
            (struct pl_ring_entry){pl_event__new(entries[i].id, entries[i].event), entries[i].prev};
        pl_hub__account(c->hub, ring[n++].event);
    }
    pl_channel__prepend(c, floor, ring, n);
    for (uint32_t i = 0; i < n; i++) {
        pl_event__unref(ring[i].event);
    }
    free(ring);
    c->deep_until_ms = c->hub->mono_ms + DEEP_MS;
}

static void sub_pull(struct pl_sub *s, void *arg)
{
    (void)arg;
    pl_deliver__pull(s->queue);
}

void pl_hub_bus_read(struct pl_hub *h, struct pl_str channel, int64_t floor,
                     const struct pl_bus_log_entry *entries, size_t count, int64_t upto)
{
    struct pl_channel *c = pl_channel__find(h, channel);

    if (c == NULL || !c->history_asked) {
        pl_history__next(h);
        return;
    }
    pl_history__forget(c);
    if (floor > c->history_after) { /* else it is only what was asked for */
        c->log_floor = floor > c->log_floor ? floor : c->log_floor;
    }
    /* If the ring has moved on meanwhile, what was read does not join on to it:
   * whoever still needs it asks again. */
    if (floor < c->floor && upto >= c->floor) {
        prepend(c, floor, entries, count);
    }
    h->handing_out = true;
    pl_channel__each_sub(c, sub_pull, NULL);
    h->handing_out = false;
    pl_history__next(h);
    pl_hub__bound_bytes(h);
}
