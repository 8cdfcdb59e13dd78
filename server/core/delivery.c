#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

/* Delivery: push to queues that are up to date, pull for those that are not. Both ask the same
 * predicate, and both leave the same marks, so that a later resume knows what was due. */

/* ---- rule 3 ---- */

static bool is_narrowed_to(const struct pl_event *e, const struct pl_sub *s)
{
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        const struct pl_topic_ref *r = &s->narrowed->topics[i];

        if (r->topic->hash == e->topic_hash && r->topic->len == e->topic.len && e->id > r->since &&
            memcmp(r->topic->name, e->topic.s, e->topic.len) == 0) {
            return true;
        }
    }
    return false;
}

static inline enum pl_denied denied(const struct pl_event *e, const struct pl_sub *s)
{
    const struct pl_queue *q = s->queue;
    const struct pl_user *u = q->user;

    if (e->id <= s->since) {
        return PL_DENIED_SINCE;
    }
    if (e->has_subscribers) {
        if (!pl_event__lists(e, pl_user_id(u), u->is_number, u->number)) {
            return PL_DENIED_SUBSCRIBERS;
        }
    } else if (e->id <= pl_sub__all_since(s) && !is_narrowed_to(e, s)) {
        return PL_DENIED_NARROWED;
    }
    if (e->exclude_user.len > 0 && pl_str_eq(e->exclude_user, pl_user_id(u))) {
        return PL_DENIED_USER;
    }
    return e->has_exclude_queue && memcmp(e->exclude_queue, q->id, sizeof(q->id)) == 0
               ? PL_DENIED_QUEUE
               : PL_DENIED_NOT;
}

enum pl_denied pl_deliver__denied(const struct pl_event *e, const struct pl_sub *s)
{
    return denied(e, s);
}

bool pl_deliver__concerns(const struct pl_event *e, const struct pl_sub *s)
{
    return denied(e, s) == PL_DENIED_NOT;
}

/* ---- marks ---- */

static void mark_handed(struct pl_sub *s, int64_t id)
{
    if (s->first == 0 && id > s->queue->acked) {
        s->first = id;
    }
    if (id > s->last) {
        s->last = id;
    }
}

static void mark_pending(struct pl_sub *s, int64_t id)
{
    if (s->first == 0 && id > s->queue->acked) {
        s->first = id;
    }
    if (s->pending == 0) {
        s->pending = id;
    }
}

void pl_deliver__note(struct pl_event *e, struct pl_sub *s)
{
    if (pl_deliver__concerns(e, s)) {
        mark_pending(s, e->id);
    }
}

static void count_delivered(enum pl_transport t, uint64_t events)
{
    pl_metric_add(t == PL_TRANSPORT_WEBSOCKET ? PL_S_DELIVERED_WEBSOCKET : PL_S_DELIVERED_LONGPOLL,
                  events);
}

/* Hands a frame to the link; a poll's link is spent by it. The frame is the caller's. */
static bool hand_over(struct pl_queue *q, struct pl_frame *f, uint32_t events)
{
    struct pl_link *l = q->link;
    const struct pl_link_ops *ops = l->ops;

    if (!ops->send(l, f, events)) {
        q->behind = true;
        return false;
    }
    count_delivered(ops->transport, events);
    q->hub->turn.handed += events > 0;
    if (ops->one_answer) {
        pl_queue__unlink(q);
        if (ops->spent != NULL) {
            ops->spent(l);
        }
    }
    return true;
}

static void note_said(struct pl_queue *q, uint8_t said)
{
    q->due &= (uint8_t)~said;
    if (said & PL_DUE_STATUS) {
        q->told_degraded = q->hub->degraded;
    }
}

/* An answer to a poll carries whatever else is due. */
static bool say_with_due(struct pl_queue *q, const struct pl_batch *b)
{
    struct pl_frame *f = pl_outbox__events(q, b);
    bool taken = hand_over(q, f, b->count);

    pl_frame_unref(f);
    if (taken) {
        note_said(q, q->due);
    }
    return taken;
}

static bool say_events(struct pl_queue *q, const struct pl_batch *b)
{
    const struct pl_link *l = q->link;

    if (l->ops->one_answer && q->due != 0) {
        return say_with_due(q, b);
    }
    if (b->count == 1 && b->ids[0] == b->last_event_id) {
        return hand_over(q, pl_event__frame(b->events[0], l->codec), 1);
    }
    return hand_over(q, pl_turn__share(q->hub, l->codec, b), b->count);
}

/* ---- push ---- */

static bool is_held(const struct pl_queue *q)
{
    return q->unproven || q->user->unsure || pl_stream__is_held(q->hub);
}

/* Finds the subs that wait for this event alone, and asks rule 3 again: rights may have changed since
 * it was offered. */
static bool waits_for(const struct pl_queue *q, const struct pl_event *e)
{
    bool found = false;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        const struct pl_sub *s = &q->subs[i];

        if (s->pending == e->id && pl_deliver__concerns(e, s)) {
            found = true;
        } else if (s->pending != 0) {
            return false;
        }
    }
    return found;
}

bool pl_deliver__push(struct pl_queue *q, struct pl_event *e)
{
    if (q->held > 0 || q->asking || q->catchup != PL_CATCHUP_NONE || e->id <= q->sent ||
        is_held(q) || (q->link->ops->one_answer && q->due != 0) || !waits_for(q, e)) {
        return false;
    }
    if (hand_over(q, pl_event__frame(e, q->link->codec), 1)) {
        q->behind = false;
        q->sent = e->id;
        for (uint32_t i = 0; i < q->sub_count; i++) {
            if (q->subs[i].pending != 0) {
                q->subs[i].pending = 0;
                mark_handed(&q->subs[i], e->id);
            }
        }
    }
    return true;
}

/* What is pending is half of what the ring holds: waiting for more could cost what is there. */
static bool fills_ring(const struct pl_sub *s)
{
    const struct pl_channel *c = s->channel;
    const struct pl_config *cfg = c->hub->cfg;

    if (2 * c->hub->ring_bytes > (uint64_t)cfg->channel_total_bytes) {
        return true; /* any ring may have to shrink */
    }
    return (2 * (uint64_t)c->ring_count > (uint64_t)cfg->channel_ring_events ||
            2 * c->ring_bytes > (uint64_t)cfg->channel_ring_bytes) &&
           pl_channel__entry(c, c->ring_count / 2)->event->id >= s->pending;
}

static void offer(struct pl_event *e, struct pl_sub *s)
{
    struct pl_queue *q = s->queue;

    if (e->id <= q->sent || !pl_deliver__concerns(e, s)) {
        return;
    }
    mark_pending(s, e->id);
    if (q->held > 0 || is_held(q)) {
        q->behind = true;
    } else if (q->link != NULL && !q->behind) {
        pl_turn__hold(q, e);
    } else if (q->turn_slot != 0 && !pl_turn__waits_for(q, e)) {
        q->turn_event = PL_TURN_MANY;
    } else if (q->waiting && q->link != NULL && fills_ring(s)) {
        pl_turn__hurry(q);
    }
}

static void offer_all(struct pl_event *e, const struct pl_sub_array *a)
{
    enum {
        SUBS = 12, /* how far ahead memory is asked for */
        QUEUES = 6
    };

    for (uint32_t i = 0; i < a->count; i++) {
        if (i + SUBS < a->count) {
            __builtin_prefetch(a->items[i + SUBS]);
            __builtin_prefetch(a->items[i + QUEUES]->queue);
        }
        offer(e, a->items[i]);
    }
}

static void offer_user(struct pl_event *e, struct pl_user *u, const struct pl_channel *c)
{
    pl_list_foreach(n, &u->queues) {
        struct pl_queue *q = pl_queue__of_user_node(n);

        for (uint32_t i = 0; i < q->sub_count; i++) {
            if (q->subs[i].channel == c) {
                offer(e, &q->subs[i]);
            }
        }
    }
}

static void offer_listed(struct pl_hub *h, struct pl_event *e, const struct pl_channel *c)
{
    struct pl_user *u;
    char text[24];

    for (size_t i = 0; i < e->number_count; i++) {
        u = pl_hub_user_find(h, (struct pl_str){text, pl_format_int(e->numbers[i], text)});
        if (u != NULL) {
            offer_user(e, u, c);
        }
    }
    for (size_t i = 0; i < e->name_count; i++) {
        u = pl_hub_user_find(h, e->names[i]);
        if (u != NULL) {
            offer_user(e, u, c);
        }
    }
}

static void offer_channel(struct pl_hub *h, struct pl_event *e, struct pl_channel *c)
{
    const struct pl_topic *t;

    /* Whichever is shorter: those listed, or those in the channel. */
    if (e->has_subscribers &&
        e->number_count + e->name_count < c->whole.count + c->narrowed.count) {
        offer_listed(h, e, c);
        return;
    }
    offer_all(e, &c->whole);
    if (e->has_subscribers) {
        offer_all(e, &c->narrowed);
        return;
    }
    t = pl_channel__topic(c, e->topic);
    for (uint32_t i = 0; t != NULL && i < t->member_count; i++) {
        offer(e, t->members[i].sub);
    }
}

void pl_deliver__event(struct pl_hub *h, struct pl_event *e, struct pl_channel *const *channels,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        offer_channel(h, e, channels[i]);
    }
}

/* ---- pull ---- */

/* One channel of the merge, which has something after the queue's position. */
struct pl_reader {
    struct pl_sub *sub;
    struct pl_event *at; /* NULL: it is through */
    uint32_t next;       /* ring entry after it */
    bool concerned;      /* by the event in hand */
    int64_t first, last; /* taken from here; 0: none */
};

struct pull {
    struct pl_queue *q;
    struct pl_reader *readers;
    uint32_t reader_count;
    struct pl_batch batch;
    int64_t upto; /* examined */
    size_t bytes;
    bool full; /* a bound was reached: more may follow */
};

/* Above this id something may be due to the sub. */
static int64_t due_above(const struct pl_sub *s, int64_t sent)
{
    int64_t from = s->pending - 1 > sent ? s->pending - 1 : sent;

    return from > s->since ? from : s->since;
}

/* Served from the ring only what the ring holds: is anything that was due below its floor? */
static bool has_lost(const struct pl_sub *s, int64_t sent)
{
    return s->pending != 0 && s->channel->floor > due_above(s, sent);
}

static void step(const struct pull *p, struct pl_reader *r)
{
    const struct pl_channel *c = r->sub->channel;
    struct pl_event *e = r->next < c->ring_count ? pl_channel__entry(c, r->next)->event : NULL;

    r->at = e != NULL && e->id <= p->upto ? e : NULL;
    r->next++;
}

static void start_readers(struct pull *p)
{
    struct pl_queue *q = p->q;
    struct pl_hub *h = q->hub;

    if (h->reader_cap < q->sub_count) {
        h->reader_cap = q->sub_count;
        h->readers = pl_realloc(h->readers, h->reader_cap * sizeof(*h->readers));
    }
    p->readers = h->readers;
    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];

        if (s->channel->last_id > q->sent) {
            struct pl_reader *r = &p->readers[p->reader_count++];

            *r = (struct pl_reader){.sub = s, .next = pl_channel__after(s->channel, q->sent)};
            step(p, r);
        }
    }
}

static struct pl_event *next_event(const struct pull *p)
{
    struct pl_event *found = NULL;

    for (uint32_t i = 0; i < p->reader_count; i++) {
        struct pl_event *e = p->readers[i].at;

        if (e != NULL && (found == NULL || e->id < found->id)) {
            found = e;
        }
    }
    return found;
}

/* By id: what one channel has from the log and another from its announcement are two copies of one
 * event. */
static bool stands_at(const struct pl_reader *r, const struct pl_event *e)
{
    return r->at != NULL && r->at->id == e->id;
}

/* Asks rule 3 once for every reader that stands at e; true if it concerns one. */
static bool any_concern(const struct pull *p, const struct pl_event *e)
{
    bool any = false;

    for (uint32_t i = 0; i < p->reader_count; i++) {
        struct pl_reader *r = &p->readers[i];

        r->concerned = stands_at(r, e) && pl_deliver__concerns(e, r->sub);
        any |= r->concerned;
    }
    return any;
}

/* Advances every reader that stands at e, and marks those it concerns. */
static void pass(const struct pull *p, const struct pl_event *e)
{
    for (uint32_t i = 0; i < p->reader_count; i++) {
        struct pl_reader *r = &p->readers[i];

        if (!stands_at(r, e)) {
            continue;
        }
        if (r->concerned) {
            r->first = r->first == 0 && e->id > p->q->acked ? e->id : r->first;
            r->last = e->id;
        }
        step(p, r);
    }
}

static bool fits(struct pull *p, struct pl_event *e)
{
    const struct pl_config *cfg = p->q->hub->cfg;
    const enum pl_codec codec = p->q->link->codec;
    bool is_new = !pl_event__has_form(e, codec);
    size_t bytes = pl_event__bytes(e, codec).len;

    if (is_new) {
        pl_hub__account(p->q->hub, e);
    }
    if (p->batch.count > 0 && (p->batch.count >= (uint64_t)cfg->queue_batch_events ||
                               p->bytes + bytes > (uint64_t)cfg->queue_batch_bytes)) {
        p->full = true;
        return false;
    }
    p->bytes += bytes;
    return true;
}

static void reserve_batch(struct pl_hub *h)
{
    size_t cap = (size_t)h->cfg->queue_batch_events;

    if (h->batch_cap < cap) {
        h->batch_cap = cap;
        h->batch = pl_realloc(h->batch, cap * sizeof(*h->batch));
        h->batch_ids = pl_realloc(h->batch_ids, cap * sizeof(*h->batch_ids));
    }
}

/* Merges by id what the rings hold after the queue's position, as much as one answer may carry. */
static void collect(struct pull *p)
{
    struct pl_hub *h = p->q->hub;
    struct pl_event *e;

    reserve_batch(h);
    p->batch.events = h->batch;
    p->batch.ids = h->batch_ids;
    while ((e = next_event(p)) != NULL) {
        if (any_concern(p, e)) {
            if (!fits(p, e)) {
                break;
            }
            p->batch.ids[p->batch.count] = e->id;
            p->batch.events[p->batch.count++] = e;
        }
        pass(p, e);
    }
    p->batch.last_event_id = p->full ? p->batch.ids[p->batch.count - 1] : p->upto;
    if (p->batch.last_event_id < p->q->sent) {
        p->batch.last_event_id = p->q->sent;
    }
}

/* The first event that the ring holds for the sub from this entry on; 0: none. */
static int64_t next_due(const struct pl_sub *s, uint32_t entry)
{
    for (; entry < s->channel->ring_count; entry++) {
        const struct pl_event *e = pl_channel__entry(s->channel, entry)->event;

        if (pl_deliver__concerns(e, s)) {
            return e->id;
        }
    }
    return 0;
}

/* The batch is on its way (or there was nothing). */
static void settle(const struct pull *p)
{
    struct pl_queue *q = p->q;
    const struct pl_reader *r = p->readers;
    const struct pl_reader *end = p->readers + p->reader_count;

    q->sent = p->batch.last_event_id;
    q->behind = p->full || q->held > 0;
    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];
        bool is_read = r < end && r->sub == s;

        if (is_read) {
            s->first = s->first == 0 ? r->first : s->first;
            s->last = r->last > s->last ? r->last : s->last;
        }
        if (s->pending != 0 && s->pending <= q->sent) {
            s->pending = is_read ? next_due(s, r->next - 1) : 0;
        }
        r += is_read;
    }
}

/* Going on from `to` passes over what the ring still holds for the queue. */
static bool is_skipped(const struct pl_sub *s, int64_t from, int64_t to)
{
    int64_t next = next_due(s, pl_channel__after(s->channel, from));

    return next != 0 && next <= to;
}

/* Who loses by going on from `to`; in the order of the subs. */
static size_t list_lost(struct pl_queue *q, int64_t to, const struct pl_sub **lost)
{
    size_t count = 0;

    for (uint32_t i = 0; q->catchup == PL_CATCHUP_TRIMMED && i < q->sub_count; i++) {
        if (has_lost(&q->subs[i], q->sent) || is_skipped(&q->subs[i], q->sent, to)) {
            lost[count++] = &q->subs[i];
        }
    }
    return count;
}

/* What was lost stays due until it is acknowledged (pl_sub.first): the client may not get this answer, and ask again.
 * lost: as list_lost gave it; a channel that is not among them may still turn out to have a hole. */
static void jump_to(struct pl_queue *q, int64_t to, const struct pl_sub *const *lost, size_t count)
{
    size_t n = 0;

    if (q->hole != 0 && q->catchup != PL_CATCHUP_TRIMMED) {
        q->hole_told = to;
    }
    q->catchup = PL_CATCHUP_NONE;
    q->sent = to;
    q->behind = q->held > 0 || to < q->hub->applied;
    q->acked = q->acked < to ? q->acked : to;
    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];

        if (count == 0 || (n < count && lost[n] == s)) {
            s->last = to > s->last ? to : s->last;
            n++;
        }
        if (s->pending != 0 && s->pending <= to) {
            s->pending = to < q->hub->applied ? to + 1 : 0; /* there may be more above it */
        }
    }
}

static bool say_catchup(struct pl_queue *q)
{
    /* A queue made anew has its position; for the others it is known once every channel is. */
    bool has_position = q->catchup == PL_CATCHUP_EXPIRED;
    int64_t to = has_position ? q->sent : q->hub->applied;
    const struct pl_sub **lost;
    struct pl_frame *f;
    size_t count;
    bool taken;

    if (!has_position && q->held > 0) {
        q->behind = true;
        return false;
    }
    lost = pl_alloc((q->sub_count + 1) * sizeof(struct pl_sub *));
    count = list_lost(q, to, lost);
    f = pl_outbox__catchup(q, to, lost, count);
    taken = hand_over(q, f, 0);
    pl_frame_unref(f);
    if (taken) {
        pl_outbox__count_catchup(q);
        jump_to(q, to, lost, count);
    }
    free(lost);
    return taken;
}

static bool say_due(struct pl_queue *q)
{
    while (q->due != 0) {
        uint8_t left = q->due;
        struct pl_frame *f = pl_outbox__due(q, &left);
        bool taken = f == NULL || hand_over(q, f, 0);

        pl_frame_unref(f);
        if (!taken) {
            return false;
        }
        note_said(q, q->due & (uint8_t)~left);
    }
    return true;
}

/* Something due lies below a ring: it is asked of the bus, or lost for good, which is said. */
static bool needs_history(struct pl_queue *q)
{
    bool waits = false;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];

        if (!has_lost(s, q->sent)) {
            continue;
        }
        if (pl_history__want(s->channel, due_above(s, q->sent))) {
            waits = true;
        } else {
            q->catchup = PL_CATCHUP_TRIMMED;
        }
    }
    return waits;
}

/* By the hub's time: the clock is not asked. An id tells when it was given, by the bus's clock. */
static void count_batch(const struct pl_hub *h, enum pl_transport t, const struct pl_batch *b)
{
    bool ws = t == PL_TRANSPORT_WEBSOCKET;
    int64_t age_ms = b->count > 0 ? h->unix_ms - pl_event__given_ms(b->events[b->count - 1]) : 0;

    if (b->count > 0) {
        pl_metric_observe_us(ws ? PL_S_BATCH_AGE_WEBSOCKET : PL_S_BATCH_AGE_LONGPOLL,
                             age_ms > 0 ? (uint64_t)age_ms * 1000 : 0, 1);
        pl_metric_observe_size(ws ? PL_S_BATCH_WEBSOCKET : PL_S_BATCH_LONGPOLL, b->count);
    }
}

/* True if something was sent and there may be more to do. */
static bool pull_events(struct pl_queue *q)
{
    struct pull p = {.q = q, .upto = pl_queue__examined(q)};
    enum pl_transport transport = q->link->ops->transport;
    bool more = false;

    if (needs_history(q) || q->catchup != PL_CATCHUP_NONE) {
        return q->catchup != PL_CATCHUP_NONE;
    }
    start_readers(&p);
    collect(&p);
    if (p.batch.count == 0 && !(q->link->ops->one_answer && (q->due & ~PL_DUE_STATUS) != 0)) {
        settle(&p);
    } else if (say_events(q, &p.batch)) {
        count_batch(q->hub, transport, &p.batch);
        settle(&p);
        more = p.full;
    }
    return more;
}

/* The bus is being asked for something that may make a difference to what is due now. */
static bool is_unsettled(const struct pl_queue *q)
{
    return q->asking || q->held > 0 || is_held(q);
}

void pl_deliver__pull(struct pl_queue *q)
{
    bool more = true;

    /* At once, whatever else has to wait: its client has no position, and takes the next one it is
     * told for its own. */
    if (q->link != NULL && q->catchup == PL_CATCHUP_EXPIRED) {
        (void)say_catchup(q);
    }
    if (is_held(q)) {
        q->behind = true;
        if (q->link != NULL && !q->link->ops->one_answer) {
            (void)say_due(q);
        }
        return;
    }
    while (more && q->link != NULL && !q->asking) {
        if (q->catchup != PL_CATCHUP_NONE) {
            more = say_catchup(q);
        } else {
            more = (q->link->ops->one_answer || say_due(q)) && (q->behind || q->due != 0) &&
                   pull_events(q);
        }
    }
    if (q->wants_answer && !is_unsettled(q)) {
        pl_queue_answer_empty(q);
    }
    pl_hub__bound_bytes(q->hub); /* a codec's first batch has made events bigger */
}

void pl_queue_answer_empty(struct pl_queue *q)
{
    struct pl_batch none = {0};

    if (q->link == NULL || !q->link->ops->one_answer) {
        return;
    }
    q->wants_answer = false;
    none.last_event_id = pl_queue_tell_position(q);
    (void)say_events(q, &none);
}

bool pl_queue_answer_settled(struct pl_queue *q)
{
    q->wants_answer = q->link != NULL && is_unsettled(q);
    if (!q->wants_answer) {
        pl_queue_answer_empty(q);
    }
    return q->wants_answer;
}
