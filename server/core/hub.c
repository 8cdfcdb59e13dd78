#include "server/core/hub.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/core/queue_priv.h"

enum {
    SWEEP_MS = 1000
};

static void on_sweep(struct pl_timer *t)
{
    struct pl_hub *h = pl_container_of(t, struct pl_hub, sweep);

    pl_user__sweep(h);
    pl_timer_set(h->wheel, &h->sweep, h->mono_ms + SWEEP_MS);
}

struct pl_hub *pl_hub_new(const struct pl_hub_options *o, uint64_t mono_ms, int64_t unix_ms)
{
    struct pl_hub *h = pl_alloc(sizeof(*h));

    *h = (struct pl_hub){
        .cfg = o->cfg,
        .bus_ops = o->bus_ops,
        .bus = o->bus,
        .ring_is_log = o->ring_is_log,
        .wheel = o->wheel,
        .random = o->random,
        .mono_ms = mono_ms,
        .unix_ms = unix_ms,
        .epoch_start = o->epoch_start,
        .applied = o->epoch_start,
        .goaway_reason = "draining",
    };
    pl_channel__map_init(&h->channels);
    pl_user__map_init(&h->users);
    pl_queue__map_init(&h->queues);
    pl_list_init(&h->channel_lru);
    pl_list_init(&h->channels_read);
    pl_list_init(&h->idle_short);
    pl_list_init(&h->idle_long);
    pl_timer_init(&h->sweep, on_sweep);
    pl_timer_set(h->wheel, &h->sweep, mono_ms + SWEEP_MS);
    return h;
}

void pl_hub_free(struct pl_hub *h)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        PL_ASSERT(q->link == NULL);
        pl_queue_end(q, PL_ERR_DRAINING);
    }
    pl_map_foreach(n, &h->users) {
        pl_user__free(pl_container_of(n, struct pl_user, node));
    }
    pl_map_foreach(n, &h->channels) {
        pl_channel__free(pl_container_of(n, struct pl_channel, node));
    }
    pl_timer_cancel(h->wheel, &h->sweep);
    pl_map_done(&h->queues);
    pl_map_done(&h->users);
    pl_map_done(&h->channels);
    free(h->batch);
    free(h);
}

void pl_hub_set_time(struct pl_hub *h, uint64_t mono_ms, int64_t unix_ms)
{
    h->mono_ms = mono_ms;
    h->unix_ms = unix_ms;
}

uint64_t pl_hub_mono_ms(const struct pl_hub *h)
{
    return h->mono_ms;
}

int64_t pl_hub_unix_ms(const struct pl_hub *h)
{
    return h->unix_ms;
}

const struct pl_config *pl_hub_config(const struct pl_hub *h)
{
    return h->cfg;
}

struct pl_request_limits pl_hub_limits(const struct pl_hub *h)
{
    return (struct pl_request_limits){
        .channels = (size_t)h->cfg->limits_channels_per_user,
        .topics = (size_t)h->cfg->limits_topics_per_queue,
        .recipients = (size_t)h->cfg->limits_recipients,
    };
}

void pl_hub_stats(const struct pl_hub *h, struct pl_hub_stats *ret)
{
    *ret = (struct pl_hub_stats){
        .queues = h->queues.count,
        .queues_websocket = h->links[PL_TRANSPORT_WEBSOCKET],
        .pending_polls = h->links[PL_TRANSPORT_LONGPOLL],
        .users = h->users.count,
        .channels = h->channels.count,
        .ring_bytes = h->ring_bytes,
        .applied = h->applied,
    };
}

/* ---- bounds ---- */

void pl_hub__account(struct pl_hub *h, struct pl_event *e)
{
    size_t now = pl_event__memory(e);

    h->ring_bytes += now - e->accounted;
    e->accounted = now;
}

void pl_hub__drop_event(struct pl_hub *h, struct pl_event *e)
{
    if (e->refs == 1) {
        h->ring_bytes -= e->accounted;
    }
    pl_event__unref(e);
}

static void to_tail(struct pl_hub *h, struct pl_channel *c)
{
    pl_list_remove(&c->lru);
    pl_list_append(&h->channel_lru, &c->lru);
}

void pl_hub__bound_bytes(struct pl_hub *h)
{
    uint32_t tries = h->channels.count;

    while (h->ring_bytes > (uint64_t)h->cfg->channel_total_bytes && tries > 0) {
        struct pl_channel *c = pl_container_of(h->channel_lru.next, struct pl_channel, lru);

        if (c->ring_count > 0) {
            pl_channel__trim_one(c);
        } else {
            to_tail(h, c);
            tries--;
        }
    }
}

void pl_hub__bound_channels(struct pl_hub *h, const struct pl_channel *keep)
{
    enum {
        LOOK_AT = 64
    };

    for (int i = 0; i < LOOK_AT && h->channels.count > (uint64_t)h->cfg->limits_channels; i++) {
        struct pl_channel *c = pl_container_of(h->channel_lru.next, struct pl_channel, lru);

        if (c == keep || c->refs > 0 || c->whole.count + c->narrowed.count > 0) {
            to_tail(h, c);
        } else {
            pl_channel__free(c);
        }
    }
}

/* ---- interest ---- */

static void open_channel(struct pl_hub *h, struct pl_channel *c)
{
    c->whole_to = c->last_id;
    c->state = PL_CHANNEL_OPENING;
    h->bus_ops->open(h->bus, pl_channel__name(c), c->last_id);
}

void pl_hub__need_channel(struct pl_hub *h, struct pl_channel *c)
{
    if (c->state == PL_CHANNEL_IDLE) {
        open_channel(h, c);
    }
}

void pl_hub__unneed_channel(struct pl_hub *h, struct pl_channel *c)
{
    if (h->ring_is_log || c->whole.count + c->narrowed.count > 0) {
        return;
    }
    c->state = PL_CHANNEL_IDLE;
    c->gap_to = 0;
    pl_list_remove(&c->read);
    pl_channel__drop_early(c);
    pl_channel__clear(c, 0);
    h->bus_ops->close(h->bus, pl_channel__name(c));
}

static void for_each_sub(struct pl_channel *c, void (*fn)(struct pl_sub *s, void *arg), void *arg)
{
    for (uint32_t i = 0; i < c->whole.count; i++) {
        fn(c->whole.items[i], arg);
    }
    for (uint32_t i = 0; i < c->narrowed.count; i++) {
        fn(c->narrowed.items[i], arg);
    }
}

/* ---- what the bus tells ---- */

static void sub_held(struct pl_sub *s, void *arg)
{
    (void)arg;
    pl_queue__channel_state(s, false);
}

static void sub_live(struct pl_sub *s, void *arg)
{
    (void)arg;
    pl_queue__channel_state(s, true);
}

static void sub_pull(struct pl_sub *s, void *arg)
{
    (void)arg;
    pl_deliver__pull(s->queue);
}

/* A hole turned up: the event id (or something from there on) was not in the ring while the channel
 * passed for whole. */
static void sub_missed(struct pl_sub *s, int64_t id)
{
    struct pl_queue *q = s->queue;
    int64_t told = q->sent > q->acked ? q->sent : q->acked;

    if (id > s->channel->gap_to || id <= s->joined || id <= s->last || id > told) {
        return;
    }
    /* Where the cursor has passed it cannot be filled in any more, only told; a client without a
     * link may come back from before. */
    q->hole = q->hole == 0 || id < q->hole ? id : q->hole;
    if (q->link != NULL) {
        q->catchup = PL_CATCHUP_GAP;
    }
}

static void sub_note(struct pl_sub *s, void *event)
{
    struct pl_event *e = event;

    if (pl_deliver__concerns(e, s)) {
        sub_missed(s, e->id);
        pl_deliver__note(e, s);
    }
}

/* Not even the log holds what came between the ring and its new floor. */
static void sub_lost(struct pl_sub *s, void *known)
{
    int64_t from = *(const int64_t *)known;

    from = s->since > from ? s->since : from;
    if (from >= s->channel->floor) {
        return;
    }
    if (s->first == 0 || s->first > from) {
        s->first = from + 1;
    }
    if (s->pending == 0 || s->pending > from) {
        s->pending = from + 1;
    }
    sub_missed(s, (s->joined > from ? s->joined : from) + 1);
}

static void go_live(struct pl_channel *c)
{
    pl_list_remove(&c->read);
    c->state = PL_CHANNEL_LIVE;
    c->gap_to = 0;
    for_each_sub(c, sub_live, NULL);
    for_each_sub(c, sub_pull, NULL);
}

/* The node has got to id: all that was sequenced up to it in the channels open here is in their
 * rings. */
static void advance(struct pl_hub *h, int64_t id)
{
    h->applied = id > h->applied ? id : h->applied;
    pl_list_foreach_safe(n, &h->channels_read) {
        struct pl_channel *c = pl_container_of(n, struct pl_channel, read);

        if (c->last_id <= h->applied) {
            go_live(c);
        }
    }
}

/* prev says there was something between: the channel is not whole any more and is read again. */
static bool has_gap(const struct pl_channel *c, int64_t prev)
{
    return c->state == PL_CHANNEL_LIVE && !c->hub->ring_is_log && prev > c->last_id;
}

/* Puts the event into the channel; true if its queues are to be walked now. */
static bool take_in(struct pl_channel *c, struct pl_event *e, int64_t prev)
{
    if (c->state == PL_CHANNEL_LIVE && !has_gap(c, prev)) {
        if (e->id > c->last_id) {
            pl_channel__append(c, e, prev);
        }
        return true;
    }
    if (c->state == PL_CHANNEL_LIVE) {
        c->gap_to = e->id - 1;
        for_each_sub(c, sub_held, NULL);
        pl_channel__keep_early(c, e, prev);
        open_channel(c->hub, c);
    } else if (c->state == PL_CHANNEL_OPENING) {
        pl_channel__keep_early(c, e, prev);
    }
    return false;
}

uint32_t pl_hub_bus_event(struct pl_hub *h, int64_t id, const struct pl_bus_event *from,
                          const int64_t *prevs)
{
    struct pl_channel **live;
    struct pl_event *e;
    size_t live_count = 0;
    uint32_t taken;

    if (id <= h->applied) {
        return 0;
    }
    advance(h, id - 1);
    h->applied = id;
    live = pl_alloc(from->channel_count * sizeof(struct pl_channel *));
    e = pl_event__new(id, from);
    pl_hub__account(h, e);
    for (size_t i = 0; i < from->channel_count; i++) {
        struct pl_channel *c;

        pl_user__grant_own(h, from->channels[i]);
        c = h->ring_is_log ? pl_channel__get(h, from->channels[i])
                           : pl_channel__find(h, from->channels[i]);
        if (c != NULL && take_in(c, e, h->ring_is_log ? c->last_id : prevs[i])) {
            c->refs++; /* making room for the next must not forget it */
            live[live_count++] = c;
        }
    }
    taken = pl_deliver__event(h, e, live, live_count);
    for (size_t i = 0; i < live_count; i++) {
        pl_channel__unref(live[i]);
    }
    free(live);
    pl_hub__account(h, e);
    pl_hub__drop_event(h, e);
    advance(h, id);
    pl_hub__bound_bytes(h);
    return taken;
}

void pl_hub_bus_change(struct pl_hub *h, int64_t id, const struct pl_bus_change *c)
{
    pl_hub_bus_applied(h, id);
    pl_user__apply_change(h, id, c);
}

void pl_hub_bus_applied(struct pl_hub *h, int64_t id)
{
    advance(h, id);
}

static void take_log(struct pl_channel *c, const struct pl_bus_log_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct pl_event *e;

        if (entries[i].id <= c->last_id) {
            continue;
        }
        e = pl_event__new(entries[i].id, entries[i].event);
        pl_hub__account(c->hub, e);
        pl_channel__append(c, e, entries[i].prev);
        for_each_sub(c, sub_note, e);
        pl_hub__drop_event(c->hub, e);
    }
}

/* What was announced meanwhile follows the log; false if it does not join on (the log was read too
 * early). */
static bool take_early(struct pl_channel *c)
{
    for (uint32_t i = 0; i < c->early_count; i++) {
        const struct pl_ring_entry *early = &c->early[i];

        if (early->event->id <= c->last_id) {
            continue;
        }
        if (early->prev > c->last_id) {
            return false;
        }
        pl_channel__append(c, early->event, early->prev);
        for_each_sub(c, sub_note, early->event);
    }
    return true;
}

void pl_hub_bus_opened(struct pl_hub *h, struct pl_str channel, int64_t floor,
                       const struct pl_bus_log_entry *entries, size_t count, int64_t whole_to)
{
    struct pl_channel *c = pl_channel__find(h, channel);

    if (c == NULL || c->state != PL_CHANNEL_OPENING) {
        return;
    }
    if (floor > c->last_id) {
        int64_t known = c->last_id;

        pl_channel__clear(c, floor);
        if (known > 0) {
            for_each_sub(c, sub_lost, &known);
        }
    }
    take_log(c, entries, count);
    if (!take_early(c)) {
        open_channel(h, c);
        return;
    }
    pl_channel__drop_early(c);
    c->whole_to = whole_to;
    c->state = PL_CHANNEL_READ;
    pl_list_append(&h->channels_read, &c->read);
    advance(h, h->applied);
    pl_hub__bound_bytes(h);
}

/* ---- for all queues ---- */

void pl_hub_goaway(struct pl_hub *h, enum pl_transport only, const char *reason, int64_t spread_ms)
{
    h->goaway_reason = reason;
    h->goaway_spread_ms = spread_ms;
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        if (q->link != NULL && (only == PL_TRANSPORT_NONE || q->link->ops->transport == only)) {
            pl_queue__signal(q, PL_DUE_GOAWAY);
        }
    }
}

void pl_hub_end_links(struct pl_hub *h, int status)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);
        struct pl_link *l = q->link;

        if (l != NULL) {
            pl_queue__unlink(q);
            l->ops->end(l, status);
        }
    }
}

void pl_hub_transports_changed(struct pl_hub *h)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        q->due |= PL_DUE_TRANSPORTS;
    }
}

/* FNV-1a: the same user prefers the same transport on every node and after every restart. */
static uint32_t percent_of(struct pl_str id)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < id.len; i++) {
        hash = (hash ^ (uint8_t)id.s[i]) * 16777619u;
    }
    return (hash ^ hash >> 16) % 100;
}

void pl_hub_write_transports(const struct pl_hub *h, struct pl_str user_id, struct pl_writer *w)
{
    static const char *const lists[][2] = {{"longpoll", NULL},
                                           {"websocket", "longpoll"},
                                           {"longpoll", "websocket"},
                                           {"websocket", NULL}};
    static const uint8_t by_phase[] = {
        [PL_PHASE_LONGPOLL] = 0,
        [PL_PHASE_HYBRID] = 1,
        [PL_PHASE_WEBSOCKET] = 1,
        [PL_PHASE_WEBSOCKET_ONLY] = 3,
    };
    unsigned list = by_phase[h->cfg->transport_phase];

    if (h->cfg->transport_phase == PL_PHASE_HYBRID &&
        percent_of(user_id) >= h->cfg->transport_websocket_percent) {
        list = 2;
    }
    pl_write_array(w, lists[list][1] != NULL ? 2 : 1);
    for (int i = 0; i < 2 && lists[list][i] != NULL; i++) {
        pl_write_cstr(w, lists[list][i]);
    }
}

/* ---- to the bus ---- */

void pl_hub_publish(struct pl_hub *h, const struct pl_bus_event *events, size_t count,
                    const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    h->bus_ops->publish(h->bus, events, count, key, done, arg);
}

void pl_hub_change(struct pl_hub *h, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg)
{
    h->bus_ops->change(h->bus, c, done, arg);
}

void pl_hub_sequence(struct pl_hub *h, pl_bus_done_fn *done, void *arg)
{
    h->bus_ops->sequence(h->bus, done, arg);
}
