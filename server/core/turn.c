/* The turn: what is published in one is sent at its end. So a queue that got several events gets them
 * as one message, and under load there are fewer sends per event, not more waiting. */
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/core/queue_priv.h"

enum {
    SLACK_BYTES = 512, /* what an event takes in a ring beside its body, at most */
    SPARE_SLOTS = 64,
};

/* ---- what waits ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void pl_turn__make_room(struct pl_hub *h, size_t body_bytes)
{
    const struct pl_config *cfg = h->cfg;
    struct pl_turn *t = &h->turn;
    uint64_t most = least((uint64_t)cfg->queue_batch_events, (uint64_t)cfg->channel_ring_events);
    uint64_t most_bytes =
        least((uint64_t)cfg->queue_batch_bytes, (uint64_t)cfg->channel_ring_bytes);

    /* The total counts other forms of the event, too, which are made when it is sent. */
    most_bytes = least(most_bytes, (uint64_t)cfg->channel_total_bytes / 4);
    if (t->queue_count > 0 &&
        (t->applied >= most || t->bytes + body_bytes + SLACK_BYTES > most_bytes)) {
        (void)pl_turn__send(h);
    }
    if (t->queue_count == 0) {
        t->applied = t->bytes = 0; /* nobody waits for them */
    }
    t->applied++;
    t->bytes += body_bytes + SLACK_BYTES;
}

static uint32_t event_slot(struct pl_turn *t, struct pl_event *e)
{
    if (t->event_count > 0 && t->events[t->event_count - 1] == e) {
        return t->event_count;
    }
    if (t->event_count == t->event_cap) {
        t->event_cap = 2 * t->event_cap + SPARE_SLOTS;
        t->events = pl_realloc(t->events, t->event_cap * sizeof(struct pl_event *));
    }
    t->events[t->event_count++] = pl_event__ref(e);
    return t->event_count;
}

static void enqueue(struct pl_queue *q)
{
    struct pl_turn *t = &q->hub->turn;

    if (q->turn_slot != 0) {
        return; /* it was pulled meanwhile */
    }
    if (t->queue_count == t->queue_cap) {
        t->queue_cap = 2 * t->queue_cap + SPARE_SLOTS;
        t->queues = pl_realloc(t->queues, t->queue_cap * sizeof(struct pl_queue *));
    }
    t->queues[t->queue_count++] = q;
    q->turn_slot = t->queue_count;
}

static uint64_t batch_window_ms(const struct pl_queue *q)
{
    return q->link->has_batch_window ? q->link->batch_window_ms
                                     : (uint64_t)q->hub->cfg->queue_batch_window;
}

void pl_turn__hold(struct pl_queue *q, struct pl_event *e)
{
    uint64_t window_ms = batch_window_ms(q);

    q->behind = true;
    if (window_ms > 0) {
        pl_queue__wait(q, window_ms);
        return;
    }
    q->turn_event = event_slot(&q->hub->turn, e);
    enqueue(q);
}

void pl_turn__hurry(struct pl_queue *q)
{
    q->turn_event = PL_TURN_MANY;
    enqueue(q);
}

bool pl_turn__waits_for(const struct pl_queue *q, const struct pl_event *e)
{
    return q->turn_event != PL_TURN_MANY && q->hub->turn.events[q->turn_event - 1] == e;
}

void pl_turn__forget(struct pl_queue *q)
{
    if (q->turn_slot != 0) {
        q->hub->turn.queues[q->turn_slot - 1] = NULL;
        q->turn_slot = 0;
    }
}

static void clear(struct pl_hub *h)
{
    struct pl_turn *t = &h->turn;

    for (uint32_t i = 0; i < t->event_count; i++) {
        pl_hub__drop_event(h, t->events[i]);
    }
    t->queue_count = t->event_count = 0;
}

/* Every one of them is in other lines of the cache than the one before. */
static void fetch_ahead(const struct pl_turn *t, uint32_t i)
{
    enum {
        LINKS = 3,
        QUEUES = 6
    };

    if (i + QUEUES < t->queue_count && t->queues[i + QUEUES] != NULL) {
        const struct pl_queue *q = t->queues[i + QUEUES];

        __builtin_prefetch(q);
        __builtin_prefetch(&q->behind);
    }
    if (i + LINKS < t->queue_count && t->queues[i + LINKS] != NULL) {
        const struct pl_queue *q = t->queues[i + LINKS];

        __builtin_prefetch(q->link);
        __builtin_prefetch(q->subs);
        __builtin_prefetch(&q->user->queue_count); /* unsure is next to it */
    }
}

uint32_t pl_turn__send(struct pl_hub *h)
{
    struct pl_turn *t = &h->turn;
    uint32_t before = t->handed;
    bool outer = h->handing_out;

    h->handing_out = true; /* rings keep what the others wait for */

    for (uint32_t i = 0; i < t->queue_count; i++) {
        struct pl_queue *q = t->queues[i];

        fetch_ahead(t, i);
        if (q == NULL) {
            continue;
        }
        q->turn_slot = 0;
        if (!q->behind || q->link == NULL) {
            continue; /* it was pulled meanwhile, or has nobody to send to */
        }
        if (q->turn_event == PL_TURN_MANY || !pl_deliver__push(q, t->events[q->turn_event - 1])) {
            pl_deliver__pull(q);
        }
    }
    h->handing_out = outer;
    clear(h);
    return t->handed - before;
}

/* ---- what is shared ---- */

static bool is_batch(const struct pl_shared *s, enum pl_codec codec, const struct pl_batch *b)
{
    return s->frame != NULL && s->codec == codec && s->count == b->count &&
           s->last_event_id == b->last_event_id &&
           (b->count == 0 || memcmp(s->ids, b->ids, b->count * sizeof(*b->ids)) == 0);
}

static void let_go(struct pl_shared *s)
{
    pl_frame_unref(s->frame);
    free(s->ids);
    *s = (struct pl_shared){0};
}

struct pl_frame *pl_turn__share(struct pl_hub *h, enum pl_codec codec, const struct pl_batch *b)
{
    struct pl_turn *t = &h->turn;
    struct pl_shared *s;

    for (uint32_t i = 0; i < PL_TURN_SHARED; i++) {
        if (is_batch(&t->shared[i], codec, b)) {
            return t->shared[i].frame;
        }
    }
    s = &t->shared[t->next_shared++ % PL_TURN_SHARED];
    let_go(s);
    *s = (struct pl_shared){.codec = codec,
                            .count = b->count,
                            .last_event_id = b->last_event_id,
                            .frame = pl_outbox__batch(codec, b)};
    if (b->count > 0) {
        s->ids = pl_alloc(b->count * sizeof(*s->ids));
        memcpy(s->ids, b->ids, b->count * sizeof(*s->ids));
    }
    return s->frame;
}

static void let_all_go(struct pl_turn *t)
{
    for (uint32_t i = 0; i < PL_TURN_SHARED; i++) {
        let_go(&t->shared[i]);
    }
    t->next_shared = 0;
}

uint32_t pl_hub_end_turn(struct pl_hub *h)
{
    uint32_t handed = 0;

    if (h->turn.queue_count > 0) {
        handed = pl_turn__send(h);
        pl_hub__bound_bytes(h);
    }
    if (h->turn.next_shared > 0) {
        let_all_go(&h->turn);
    }
    return handed;
}

void pl_turn__done(struct pl_hub *h)
{
    clear(h);
    let_all_go(&h->turn);
    free(h->turn.queues);
    free(h->turn.events);
}
