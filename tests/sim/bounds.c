#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* What may and must be there: queues in their time, memory within its bounds, and at the end everybody with
 * everything. */

/* ---- life of queues ---- */

static bool must_be_gone(const struct sim *s, const struct sim_queue *q, uint64_t slack_ms)
{
    return q->life != s->nodes[q->node].life || q->disconnected ||
           s->mono_ms - q->touched_ms >= (uint64_t)s->cfg->queue_ttl + slack_ms;
}

/* Where the bus keeps queues: it has none, or one that a disconnect has ended. */
static bool may_be_lost(struct sim_client *c)
{
    const struct sim_queue *q = sim_instance(c->sim, c->node, c->queue.id);

    return !model_bus_keeps(c->sim->bus, c->queue.id) ||
           (q != NULL && (q->disconnected || q->kicked)) ||
           c->sim->nodes[c->node].records[c->user].blurred ||
           sim_is_blocked(&c->sim->nodes[c->node], c->user);
}

void sim_judge_dropped(struct sim_node *n, const char *queue_id)
{
    struct sim *s = n->sim;
    const struct sim_queue *q = sim_instance(s, n->index, queue_id);

    for (size_t i = 0; q != NULL && i < s->profile.clients; i++) {
        const struct sim_client *c = &s->clients[i];

        if (strcmp(c->queue.id, queue_id) == 0 && !c->closing && !c->waiting && !q->kicked &&
            !n->records[q->user].blurred && !must_be_gone(s, q, 0)) {
            sim_broken(s, c, "a queue is dropped %" PRIu64 " ms after its last sign of life",
                       s->mono_ms - q->touched_ms);
        }
    }
}

void sim_judge_gone(struct sim_client *c)
{
    if (c->sim->profile.kept) {
        if (!may_be_lost(c)) {
            sim_broken(c->sim, c, "a queue that is kept is not found");
        }
        c->sim->counts.gone++;
        return;
    }
    if (!must_be_gone(c->sim, &c->queue, 0) || (c->link != NULL && !c->queue.disconnected)) {
        sim_broken(c->sim, c, "a queue vanished %" PRIu64 " ms after its last sign of life",
                   c->sim->mono_ms - c->queue.touched_ms);
    }
    c->sim->counts.gone++;
}

void sim_judge_present(struct sim_client *c)
{
    if (c->sim->profile.kept && c->queue.disconnected) {
        return; /* while its record is asked for again it may still be there, but gets nothing (sim_is_denied) */
    }
    if (c->link == NULL && !c->queue.was_left && !c->sim->nodes[c->node].records[c->user].blurred &&
        must_be_gone(c->sim, &c->queue, SIM_SLACK_MS)) {
        sim_broken(c->sim, c, "I5: a queue lives on %" PRIu64 " ms after its last sign of life",
                   c->sim->mono_ms - c->queue.touched_ms);
    }
}

void sim_orphan(struct sim *s, const struct sim_queue *q)
{
    if (s->orphan_count == s->orphan_cap) {
        s->orphan_cap = s->orphan_cap > 0 ? s->orphan_cap * 2 : 64;
        s->orphans = pl_realloc(s->orphans, s->orphan_cap * sizeof(*s->orphans));
    }
    s->orphans[s->orphan_count++] = *q;
}

/* Its node has just woken, or its user was disconnected while the record was being asked for: until
 * that is there the queue gets nothing (sim_is_denied), but stays. */
static bool may_linger(const struct sim *s, const struct sim_queue *q)
{
    const struct sim_node *n = &s->nodes[q->node];
    const uint64_t ttl_ms = (uint64_t)s->cfg->queue_ttl + SIM_SLACK_MS;

    return n->stopped || s->mono_ms <= n->wake_ms + SIM_SLACK_MS ||
           (s->profile.kept && q->disconnected && q->life == n->life &&
            s->mono_ms - q->touched_ms < ttl_ms);
}

static void judge_orphans(struct sim *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->orphan_count; i++) {
        const struct sim_queue *q = &s->orphans[i];
        const struct sim_node *n = &s->nodes[q->node];
        struct pl_str id = {q->id, PL_QUEUE_ID_SIZE - 1};

        if (q->life == n->life && q->was_left) {
            continue;
        }
        if (may_linger(s, q) || !must_be_gone(s, q, SIM_SLACK_MS)) {
            s->orphans[kept++] = *q;
        } else if (pl_queue_find(n->hub, id) != NULL) {
            sim_broken(s, NULL,
                       "I5: the queue %.6s that its client left is still there after "
                       "its ttl",
                       q->id);
        }
    }
    s->orphan_count = kept;
}

/* ---- bounds ---- */

void sim_judge_bounds(struct sim *s)
{
    for (size_t i = 0; i < s->profile.nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        struct pl_hub_stats stats;

        pl_hub_stats(n->hub, &stats);
        if (stats.ring_bytes > (uint64_t)s->cfg->channel_total_bytes) {
            sim_broken(s, NULL, "I5: rings hold %" PRIu64 " bytes of %" PRId64, stats.ring_bytes,
                       s->cfg->channel_total_bytes);
        }
        if (stats.users > (uint64_t)s->cfg->limits_users) {
            sim_broken(s, NULL, "I5: %" PRIu64 " user records", stats.users);
        }
        if (stats.applied > s->newest) {
            sim_broken(s, NULL, "node %zu applied %" PRId64 " of %" PRId64, i, stats.applied,
                       s->newest);
        }
    }
    judge_orphans(s);
}

/* ---- the end ---- */

/* What the fast half of a pair got by push, the slow half must have pulled. */
static void judge_twins(const struct sim_client *fast, struct sim_client *slow)
{
    struct sim *s = slow->sim;
    int64_t alike_since = fast->queue.changed_at > slow->queue.changed_at ? fast->queue.changed_at
                                                                          : slow->queue.changed_at;

    if (s->nodes[slow->node].records[slow->user].blurred ||
        fast->queue.narrowed != slow->queue.narrowed || fast->queue.node != slow->queue.node ||
        memcmp(fast->queue.topics, slow->queue.topics, sizeof(fast->queue.topics)) != 0) {
        return; /* one of them was not there when the other was told */
    }
    for (uint32_t i = 0; i < s->event_count; i++) {
        const struct sim_event *e = &s->events[i];

        if (sim_bit(fast->got, i) && !sim_bit(slow->got, i) && !sim_bit(slow->excused, i) &&
            e->id > slow->owed_after && e->id > alike_since && e->exclude_queue[0] == '\0') {
            sim_broken(s, slow,
                       "push and pull disagree: its twin %d got event %" PRId64
                       " (channels %x topic %u)",
                       fast->index, e->id, e->channels, e->topic);
        }
    }
}

static bool is_out(const struct sim_client *c)
{
    return c->sim->full && !c->queue.open;
}

bool sim_all_settled(const struct sim *s)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        const struct sim_client *c = &s->clients[i];

        if (!is_out(c) && (c->link == NULL || c->position != s->newest)) {
            return false;
        }
    }
    return true;
}

/* One node has the queue. */
static void judge_owner(const struct sim_client *c)
{
    struct sim *s = c->sim;

    for (size_t n = 0; n < s->profile.nodes; n++) {
        if ((int)n != c->node &&
            pl_queue_find(s->nodes[n].hub, (struct pl_str){c->queue.id, PL_QUEUE_ID_SIZE - 1}) !=
                NULL) {
            sim_broken(s, c, "I6: node %zu still has the queue as well", n);
        }
    }
}

void sim_judge_end(struct sim *s)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        struct sim_client *c = &s->clients[i];

        if (is_out(c)) {
            continue;
        }
        if (!c->queue.open || c->link == NULL) {
            sim_broken(s, c, "not connected at the end");
        }
        if (c->position < s->newest) {
            sim_broken(s, c, "I1: at the end its position %" PRId64 " is still below %" PRId64,
                       c->position, s->newest);
        }
        if (c->position > s->newest) {
            sim_broken(s, c, "a cursor above all ids was never told: %" PRId64 " of %" PRId64,
                       c->position, s->newest);
        }
        if (s->profile.kept) {
            judge_owner(c);
            sim_judge_missed(c);
        }
        if (c->twin != SIM_NOBODY && !is_out(&s->clients[c->twin])) {
            judge_twins(c, &s->clients[c->twin]);
        }
    }
}
