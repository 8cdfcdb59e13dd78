/* The stream from the bus: which channels are open, what is told of them, and what holds it up. */
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

enum {
    LINGER_MS = 30000, /* a channel stays open so long after its last queue: clients come back */
    DEGRADED_AFTER_MS = 1000, /* a shorter pause is nobody's business */
};

void pl_stream__given(struct pl_hub *h, int64_t id)
{
    h->newest = id > h->newest ? id : h->newest;
}

/* ---- the pause ---- */

static void say_status(struct pl_hub *h)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        q->due &= (uint8_t)~PL_DUE_STATUS;
        if (q->told_degraded != h->degraded) {
            q->due |=
                PL_DUE_STATUS; /* a poll is not answered for it: it says so with what comes next */
            if (q->link != NULL && !q->link->ops->one_answer) {
                pl_deliver__pull(q);
            }
        }
    }
}

static void on_degraded(struct pl_timer *t)
{
    struct pl_hub *h = pl_container_of(t, struct pl_hub, degrade);

    h->degraded = true;
    say_status(h);
}

bool pl_stream__is_held(const struct pl_hub *h)
{
    return h->paused || h->changes_lost || h->reloading > 0;
}

void pl_stream__go_on(struct pl_hub *h)
{
    if (pl_stream__is_held(h)) {
        return;
    }
    pl_timer_cancel(h->wheel, &h->degrade);
    h->degraded = false;
    pl_store__resume(h); /* first: what is said next serves nobody who is not proven */
    say_status(h);
}

void pl_hub_bus_pause(struct pl_hub *h, bool paused)
{
    if (paused == h->paused) {
        return;
    }
    h->paused = paused;
    if (paused && !h->degraded && !pl_timer_is_set(&h->degrade)) {
        pl_timer_set(h->wheel, &h->degrade, h->mono_ms + DEGRADED_AFTER_MS);
    } else if (!paused) {
        pl_history__restart(h);
        pl_fetch__reload(h);
        pl_stream__go_on(h);
    }
}

void pl_hub_bus_hears(struct pl_hub *h, bool hears)
{
    bool again = h->deaf && hears;

    h->deaf = !hears;
    if (again && !pl_stream__is_held(h)) {
        pl_store__resume(h);
    }
}

void pl_hub_bus_changes_lost(struct pl_hub *h)
{
    h->changes_lost = true;
}

/* ---- interest ---- */

static void open_channel(struct pl_hub *h, struct pl_channel *c)
{
    c->whole_to = c->last_id;
    c->state = PL_CHANNEL_OPENING;
    h->bus_ops->open(h->bus, pl_channel__name(c), c->last_id);
}

void pl_stream__need(struct pl_hub *h, struct pl_channel *c)
{
    pl_list_remove(&c->unneeded);
    if (c->state == PL_CHANNEL_IDLE) {
        open_channel(h, c);
    }
}

void pl_stream__unneed(struct pl_hub *h, struct pl_channel *c)
{
    if (!h->ring_is_log && c->whole.count + c->narrowed.count == 0) {
        c->unneeded_ms = h->mono_ms;
        pl_list_remove(&c->unneeded);
        pl_list_append(&h->unneeded, &c->unneeded);
    }
}

void pl_stream__sweep(struct pl_hub *h)
{
    while (!pl_list_empty(&h->unneeded)) {
        struct pl_channel *c = pl_container_of(h->unneeded.next, struct pl_channel, unneeded);

        if (h->mono_ms - c->unneeded_ms < LINGER_MS) {
            return;
        }
        pl_channel__close(c);
        c->refs++;
        pl_channel__unref(c); /* nobody may know it any more */
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
    pl_turn__hurry(s->queue);
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
    int64_t from = *(const int64_t *)known > 0 ? *(const int64_t *)known : s->joined;

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
    from = s->joined > from ? s->joined : from;
    from = s->last > from ? s->last : from;
    if (from < s->channel->floor) {
        sub_missed(s, from + 1);
    }
}

/* Without turns every call from the bus is one: what it brought about is sent when it is all there,
 * a change of rights with it. */
static uint32_t end_call(struct pl_hub *h)
{
    return h->has_turns ? 0 : pl_hub_end_turn(h);
}

static void go_live(struct pl_channel *c)
{
    pl_list_remove(&c->read);
    c->state = PL_CHANNEL_LIVE;
    c->gap_to = 0;
    pl_channel__each_sub(c, sub_live, NULL);
    pl_channel__each_sub(c, sub_pull, NULL);
}

/* The node has got to id: all that was sequenced up to it in the channels open here is in their
 * rings. */
static void advance(struct pl_hub *h, int64_t id)
{
    h->applied = id > h->applied ? id : h->applied;
    pl_stream__given(h, id);
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
        pl_channel__each_sub(c, sub_held, NULL);
        pl_channel__keep_early(c, e, prev);
        open_channel(c->hub, c);
    } else if (c->state == PL_CHANNEL_OPENING) {
        pl_channel__keep_early(c, e, prev);
    }
    return false;
}

/* Types are the publisher's to choose, labels are not: those of discussions are told apart. */
static void count_type(struct pl_str body)
{
    static const struct {
        struct pl_str begins;
        enum pl_series series;
    } types[] = {
        {PL_LIT("{\"type\":\"new_comment\""), PL_S_TYPE_NEW_COMMENT},
        {PL_LIT("{\"type\":\"updated_comment\""), PL_S_TYPE_UPDATED_COMMENT},
        {PL_LIT("{\"type\":\"deleted_comment\""), PL_S_TYPE_DELETED_COMMENT},
        {PL_LIT("{\"type\":\"new_discussion\""), PL_S_TYPE_NEW_DISCUSSION},
        {PL_LIT("{\"type\":\"updated_discussion\""), PL_S_TYPE_UPDATED_DISCUSSION},
        {PL_LIT("{\"type\":\"deleted_discussion\""), PL_S_TYPE_DELETED_DISCUSSION},
    };
    enum pl_series found = PL_S_TYPE_OTHER;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (body.len > types[i].begins.len &&
            memcmp(body.s, types[i].begins.s, types[i].begins.len) == 0) {
            found = types[i].series;
            break;
        }
    }
    pl_metric_add(found, 1);
}

uint32_t pl_hub_bus_event(struct pl_hub *h, int64_t id, const struct pl_bus_event *from,
                          const int64_t *prevs)
{
    struct pl_channel **live;
    struct pl_event *e;
    size_t live_count = 0;

    if (id <= h->applied) {
        return 0;
    }
    pl_turn__make_room(h, from->body.len);
    count_type(from->body);
    advance(h, id - 1);
    h->applied = id;
    pl_stream__given(h, id);
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
    pl_deliver__event(h, e, live, live_count);
    for (size_t i = 0; i < live_count; i++) {
        pl_channel__unref(live[i]);
    }
    free(live);
    pl_hub__account(h, e);
    pl_hub__drop_event(h, e);
    advance(h, id);
    pl_hub__bound_bytes(h);
    return end_call(h);
}

void pl_hub_bus_change(struct pl_hub *h, int64_t id, const struct pl_bus_change *c)
{
    h->applied = id > h->applied ? id : h->applied;
    if (pl_fetch__is_awaited(h, c->user_id)) {
        pl_fetch__change_passed(h, id, c->user_id);
    } else {
        pl_user__apply_change(h, id, c);
    }
    advance(h, id); /* then: what goes live by it is delivered by the grants of now */
    (void)end_call(h);
}

void pl_hub_bus_applied(struct pl_hub *h, int64_t id)
{
    advance(h, id);
    (void)end_call(h);
}

static void sub_lost_epoch(struct pl_sub *s, void *arg)
{
    struct pl_queue *q = s->queue;

    (void)arg;
    q->hole = q->hole_told = 0;
    /* One that is in the new epoch already came from a node that knew of it before. */
    if (q->link == NULL || q->sent >= q->hub->epoch_start) {
        return;
    }
    q->asking = false;
    if (q->catchup == PL_CATCHUP_EXPIRED) {
        q->sent = q->hub->epoch_start; /* it says as much, and is said at once */
    } else {
        q->catchup = PL_CATCHUP_EPOCH;
    }
}

static void begin_epoch(struct pl_channel *c)
{
    struct pl_hub *h = c->hub;

    if (c->state == PL_CHANNEL_IDLE) {
        return;
    }
    if (c->state == PL_CHANNEL_LIVE) {
        pl_channel__each_sub(c, sub_held, NULL);
    }
    pl_list_remove(&c->read);
    pl_channel__drop_early(c);
    pl_channel__clear(c, h->epoch_start);
    c->gap_to = 0;
    c->log_floor = 0;
    pl_channel__each_sub(c, sub_lost_epoch, NULL);
    open_channel(h, c);
}

void pl_hub_bus_epoch(struct pl_hub *h, int64_t start)
{
    if (start <= h->epoch_start) {
        return;
    }
    h->epoch_start = start;
    h->applied = start > h->applied ? start : h->applied;
    pl_stream__given(h, start);
    pl_map_foreach(n, &h->channels) {
        begin_epoch(pl_container_of(n, struct pl_channel, node));
    }
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
        pl_channel__each_sub(c, sub_note, e);
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
        pl_channel__each_sub(c, sub_note, early->event);
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
        pl_channel__each_sub(c, sub_lost, &known);
    }
    take_log(c, entries, count);
    if (!take_early(c)) {
        open_channel(h, c);
        return;
    }
    pl_channel__drop_early(c);
    c->whole_to = whole_to;
    pl_stream__given(h, whole_to);
    c->state = PL_CHANNEL_READ;
    pl_list_append(&h->channels_read, &c->read);
    advance(h, h->applied);
    (void)end_call(h);
    pl_hub__bound_bytes(h);
}

/* ---- life ---- */

void pl_stream__init(struct pl_hub *h)
{
    pl_list_init(&h->channels_read);
    pl_list_init(&h->unneeded);
    pl_timer_init(&h->degrade, on_degraded);
}

void pl_stream__done(struct pl_hub *h)
{
    pl_timer_cancel(h->wheel, &h->degrade);
}
