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
    pl_spent__sweep(h);
    pl_stream__sweep(h);
    pl_store__sweep(h);
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
        .has_turns = o->has_turns,
        .wheel = o->wheel,
        .random = o->random,
        .mono_ms = mono_ms,
        .unix_ms = unix_ms,
        .epoch_start = o->epoch_start,
        .applied = o->epoch_start,
        .newest = o->epoch_start,
        .goaway_reason = "draining",
    };
    pl_channel__map_init(&h->channels);
    pl_user__map_init(&h->users);
    pl_queue__map_init(&h->queues);
    pl_list_init(&h->channel_lru);
    pl_list_init(&h->idle_short);
    pl_list_init(&h->idle_long);
    pl_list_init(&h->spent);
    pl_list_init(&h->histories);
    pl_stream__init(h);
    pl_store__init(h);
    pl_fetch__init(h);
    pl_timer_init(&h->sweep, on_sweep);
    pl_timer_set(h->wheel, &h->sweep, mono_ms + SWEEP_MS);
    return h;
}

void pl_hub_free(struct pl_hub *h)
{
    pl_hub_leave_bus(h);
    pl_fetch__done(h);
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        PL_ASSERT(q->link == NULL);
        pl_queue_end(q, PL_ERR_DRAINING);
    }
    pl_store__done(h); /* who heard of a queue's end may have changed another */
    pl_map_foreach(n, &h->users) {
        pl_user__free(pl_container_of(n, struct pl_user, node));
    }
    pl_map_foreach(n, &h->channels) {
        pl_channel__free(pl_container_of(n, struct pl_channel, node));
    }
    pl_timer_cancel(h->wheel, &h->sweep);
    pl_stream__done(h);
    pl_map_done(&h->queues);
    pl_map_done(&h->users);
    pl_map_done(&h->channels);
    pl_turn__done(h);
    free(h->batch);
    free(h->batch_ids);
    free(h->readers);
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

bool pl_hub_is_embedded(const struct pl_hub *h)
{
    return h->ring_is_log;
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

    if (h->handing_out || h->ring_bytes <= (uint64_t)h->cfg->channel_total_bytes) {
        return;
    }
    if (h->turn.queue_count > 0) {
        (void)pl_turn__send(h); /* what they wait for may be what goes */
    }

    while (h->ring_bytes > (uint64_t)h->cfg->channel_total_bytes && tries > 0) {
        struct pl_channel *c = pl_container_of(h->channel_lru.next, struct pl_channel, lru);

        if (c->ring_count > 0) {
            c->history_cut |= c->deep_until_ms > h->mono_ms;
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

void pl_hub_drain(struct pl_hub *h, int64_t spread_ms)
{
    h->goaway_reason = "draining";
    h->goaway_spread_ms = spread_ms;
    h->drain_since_ms = h->mono_ms > 0 ? h->mono_ms : 1;
    pl_hub_save_all(h);
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        if (q->link != NULL) {
            pl_queue__drain(q);
        }
    }
}

int64_t pl_hub_drain_ms(const struct pl_hub *h)
{
    return h->goaway_spread_ms + PL_DRAIN_GRACE_MS;
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

/* What stands in the bus's place when it has gone: nothing is known, nothing is kept. */
static void gone_publish(void *bus, const struct pl_bus_event *events, size_t count,
                         const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    (void)bus, (void)events, (void)count, (void)key;
    done(arg, PL_ERR_BUS, NULL, 0);
}

static void gone_change(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg)
{
    (void)bus, (void)c;
    done(arg, PL_ERR_BUS, NULL, 0);
}

static void gone_open(void *bus, struct pl_str channel, int64_t after_id)
{
    (void)bus, (void)channel, (void)after_id;
}

static void gone_close(void *bus, struct pl_str channel)
{
    (void)bus, (void)channel;
}

static void gone_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    (void)bus;
    done(arg, PL_ERR_BUS, NULL, 0);
}

static const struct pl_bus_ops gone = {
    .publish = gone_publish,
    .change = gone_change,
    .open = gone_open,
    .close = gone_close,
    .sequence = gone_sequence,
};

void pl_hub_leave_bus(struct pl_hub *h)
{
    h->bus_ops = &gone;
}

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
