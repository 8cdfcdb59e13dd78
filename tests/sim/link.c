#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

static struct sim_link *link_of(struct pl_link *l)
{
    return pl_container_of(l, struct sim_link, base);
}

/* Done with: freed when no callback of it can be running. */
static void retire(struct sim_link *l)
{
    if (l->client->link == l) {
        l->client->link = NULL;
    }
    pl_timer_cancel(&l->client->sim->wheel, &l->timer);
    if (pl_list_empty(&l->node)) {
        pl_list_append(&l->client->sim->dead_links, &l->node);
    }
}

struct sim_queue *sim_link_queue(struct sim_link *l)
{
    struct sim_client *c = l->client;
    struct sim_queue *left = &c->left[l->at];

    if (!l->ghost) {
        return &c->queue;
    }
    if (c->queue.open && c->queue.node == l->at && strcmp(c->queue.id, l->queue_id) == 0) {
        return &c->queue;
    }
    return left->open && left->life == l->life && strcmp(left->id, l->queue_id) == 0 ? left : NULL;
}

static void touch(struct sim_link *l)
{
    struct sim_queue *q = sim_link_queue(l);

    if (q != NULL) {
        q->touched_ms = l->client->sim->mono_ms;
    }
}

static void judge(struct sim_link *l, const struct sim_message *m, uint32_t events)
{
    struct sim_client *c = l->client;

    c->sim->counts.sent++;
    if (m->kind == SIM_MESSAGE_EVENTS) {
        if (m->batch.count != events) {
            sim_broken(c->sim, c, "a frame of %zu events was sent as one of %u", m->batch.count,
                       events);
        }
        sim_judge_events(l, &m->batch);
        sim_note(c->sim, c, "sent % events to position % (lossy %)", events, m->last_event_id,
                 l->lossy);
    } else if (m->kind == SIM_MESSAGE_CATCHUP) {
        sim_note(c->sim, c, "sent a catch-up to % of channels # (lossy %)", m->last_event_id,
                 m->channels, l->lossy);
        sim_judge_catchup(l, m->reason, m->last_event_id);
    }
}

static bool link_send(struct pl_link *base, struct pl_frame *f, uint32_t events)
{
    struct sim_link *l = link_of(base);
    struct sim_client *c = l->client;
    const struct sim_message *m;

    if (l->answered || l->ended) {
        sim_broken(c->sim, c, "I6: a second answer to a poll, or something after the end");
    }
    if (l->slow) {
        return false;
    }
    c->sim->reading = c;
    m = sim_wire_read(c->sim, f);
    if (pl_frame_codec(f) != c->codec) {
        sim_broken(c->sim, c, "a frame of the wrong codec");
    }
    judge(l, m, events);
    l->answered = l->poll;
    touch(l);
    if (!l->lossy) {
        sim_client_on_message(l, m);
    }
    if (!l->poll && !l->ghost && !c->steady && !c->sim->quiet && sim_chance(&c->rng, 4)) {
        sim_link_slow(l, 20 + sim_below(&c->rng, sim_chance(&c->rng, 30) ? 3000 : 200));
    }
    c->sim->reading = NULL;
    return true;
}

static bool may_end(struct sim_link *l, int status)
{
    const struct sim_client *c = l->client;
    const struct sim_queue *q = sim_link_queue(l);

    if (q == NULL) {
        return true; /* its client knows nothing of the queue any more */
    }
    switch (status) {
    case PL_OK:
        return c->closing;
    case PL_ERR_REPLACED:
        return c->link != l || model_bus_has_other(c->sim->bus, q);
    case PL_ERR_DISCONNECTED:
        return q->disconnected || q->kicked || c->sim->nodes[l->at].records[c->user].blurred;
    case PL_ERR_TOKEN_EXPIRED:
        return q->token_exp_ms != 0 && c->sim->unix_ms >= q->token_exp_ms;
    case PL_ERR_QUEUE_NOT_FOUND: /* claimed again, and it had ended */
        return model_bus_has_other(c->sim->bus, q);
    case PL_ERR_BUS: /* taken for a client that came at the same time: it may come again */
        return !l->poll && model_bus_has_other(c->sim->bus, q);
    case PL_ERR_DRAINING:
        return c->sim->stopping;
    default:
        return false;
    }
}

static void link_end(struct pl_link *base, int status)
{
    struct sim_link *l = link_of(base);
    struct sim_client *c = l->client;

    if (l->answered || l->ended) {
        sim_broken(c->sim, c, "I6: a link was ended twice, or after its answer");
    }
    sim_note(c->sim, c, "its link ends with status %", status, 0, 0);
    if (!may_end(l, status)) {
        sim_broken(c->sim, c, "a link was ended without cause: %s", pl_status_code(status));
    }
    l->ended = true;
    l->end_status = status;
    touch(l);
    retire(l);
}

/* Freed at once: the core promises not to touch it again. */
static void link_spent(struct pl_link *base)
{
    struct sim_link *l = link_of(base);
    struct sim_client *c = l->client;

    if (!l->answered || base->queue != NULL) {
        sim_broken(c->sim, c, "a poll is spent that had no answer, or is still on its queue");
    }
    if (c->link == l) {
        c->link = NULL;
    }
    pl_timer_cancel(&c->sim->wheel, &l->timer);
    pl_list_remove(&l->node);
    free(l);
}

static const struct pl_link_ops websocket_ops = {
    .transport = PL_TRANSPORT_WEBSOCKET,
    .send = link_send,
    .end = link_end,
};
static const struct pl_link_ops longpoll_ops = {
    .transport = PL_TRANSPORT_LONGPOLL,
    .one_answer = true,
    .send = link_send,
    .end = link_end,
    .spent = link_spent,
};

/* A poll's time is up, or a socket takes bytes again. */
static void on_timer(struct pl_timer *t)
{
    struct sim_link *l = pl_container_of(t, struct sim_link, timer);
    struct pl_queue *q = l->base.queue;
    struct sim_client *c = l->client;

    if (c->sim->nodes[l->at].stopped) {
        pl_timer_set(&c->sim->wheel, t, c->sim->mono_ms + 100);
        return;
    }
    if (l->ghost) {
        sim_link_drop(l);
        return;
    }
    if (!l->poll) {
        l->slow = false;
        if (q != NULL) {
            pl_queue_writable(q);
        }
        return;
    }
    pl_queue_answer_empty(q);
    if (c->link == l) {
        sim_broken(c->sim, c, "I6: a poll was not answered at its end");
    }
}

struct sim_link *sim_link_new(struct sim_client *c, bool poll)
{
    struct sim_link *l = pl_alloc(sizeof(*l));

    *l = (struct sim_link){
        .base = {.ops = poll ? &longpoll_ops : &websocket_ops, .codec = (uint8_t)c->codec},
        .client = c,
        .at = c->node,
        .life = c->sim->nodes[c->node].life,
        .poll = poll};
    memcpy(l->queue_id, c->queue.id, sizeof(l->queue_id));
    pl_list_init(&l->node);
    pl_timer_init(&l->timer, on_timer);
    return l;
}

void sim_link_drop(struct sim_link *l)
{
    pl_link_detach(&l->base);
    touch(l);
    retire(l);
}

/* Until the node notices: a socket that answers no ping, a poll that cannot be answered. */
void sim_link_leave(struct sim_link *l)
{
    struct sim_client *c = l->client;

    c->queue.was_left = true;
    l->ghost = l->lossy = true;
    l->slow = false;
    c->link = NULL;
    pl_timer_set(&c->sim->wheel, &l->timer, c->sim->mono_ms + 1000 + sim_below(&c->rng, 20000));
}

static void check_replaced(struct sim_link *old, const struct sim_link *l)
{
    struct sim *s = l->client->sim;

    if (old != NULL) {
        s->counts.replaced++;
        if (!old->ended || old->end_status != PL_ERR_REPLACED || old->base.queue != NULL) {
            sim_broken(s, l->client, "I6: the older link was not told that it is replaced");
        }
    }
}

void sim_link_open(struct sim_link *l, struct pl_queue *q, int64_t position, uint64_t hold_ms)
{
    struct sim_client *c = l->client;
    struct sim_link *old = c->link;

    c->link = l;
    l->asked = position;
    l->start = position >= 0 ? position : pl_queue_acked(q);
    if (position < 0 && c->queue.made_anew && l->start < c->sim->nodes[c->node].epoch_start) {
        l->start = c->sim->nodes[c->node].epoch_start; /* `expired` covers what the fork lost */
    }
    l->last = l->start;
    l->newest_then = c->sim->newest;
    l->owes_epoch = l->start < c->sim->nodes[c->node].epoch_start;
    if (l->start < c->queue.acked) { /* what is due is not known one by one any more */
        c->queue.sent = c->sim->newest;
    } else {
        c->queue.acked = l->start;
    }
    c->queue.touched_ms = c->sim->mono_ms;
    sim_note(c->sim, c,
             l->poll ? "polls from % (asked %, lossy %)"
                     : "opens a socket from % (asked %, lossy %)",
             l->start, position, l->lossy);
    pl_queue_attach(q, &l->base, position);
    check_replaced(old, l);
    if (l->base.queue != q || pl_queue_position(q) != l->start) {
        sim_broken(c->sim, c, "a welcome to position %" PRId64 " instead of %" PRId64,
                   pl_queue_position(q), l->start);
    }
    pl_queue_writable(q);
    if (c->link != l || !l->poll) {
        return; /* answered and gone, or a socket */
    }
    if (hold_ms > 0) {
        pl_timer_set(&c->sim->wheel, &l->timer, c->sim->mono_ms + hold_ms);
    } else if (pl_queue_answer_settled(q)) {
        pl_timer_set(&c->sim->wheel, &l->timer, c->sim->mono_ms + 10000);
    } else if (c->link == l) {
        sim_broken(c->sim, c, "I6: a poll that does not want to wait was not answered");
    }
}

void sim_link_slow(struct sim_link *l, uint64_t ms)
{
    l->slow = true;
    pl_timer_set(&l->client->sim->wheel, &l->timer, l->client->sim->mono_ms + ms);
}
