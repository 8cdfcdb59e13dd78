#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* ---- history ---- */

uint32_t sim_event_new(struct sim *s, const struct sim_event *e)
{
    if (s->event_count == s->event_cap) {
        s->event_cap = s->event_cap > 0 ? s->event_cap * 2 : 256;
        s->events = pl_realloc(s->events, s->event_cap * sizeof(*s->events));
        s->order = pl_realloc(s->order, s->event_cap * sizeof(*s->order));
    }
    PL_ASSERT(s->event_count < SIM_EVENTS);
    s->events[s->event_count] = *e;
    return (uint32_t)s->event_count++;
}

void sim_id_given(struct sim *s, int64_t id)
{
    if (id <= s->newest) {
        sim_broken(s, NULL, "id %" PRId64 " was given after %" PRId64, id, s->newest);
    }
    s->newest = id;
}

void sim_event_sequenced(struct sim *s, uint32_t serial, int64_t id)
{
    struct sim_event *e = &s->events[serial];

    sim_id_given(s, id);
    e->id = id;
    s->order[s->order_count++] = serial;
    for (int c = 0; c < SIM_CHANNELS; c++) {
        struct sim_ids *log = &s->logs[c];

        if ((e->channels >> c & 1) == 0) {
            continue;
        }
        if (log->count == log->cap) {
            log->cap = log->cap > 0 ? log->cap * 2 : 256;
            log->ids = pl_realloc(log->ids, log->cap * sizeof(*log->ids));
        }
        log->ids[log->count++] = id;
    }
}

/* How many of the channel's events have an id up to this. */
static size_t count_to(const struct sim_ids *log, int64_t id)
{
    size_t low = 0;
    size_t high = log->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (log->ids[mid] <= id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The newest id of a channel that a node may lack, if it holds what it must. With little memory for all channels together
 * that may be all of it, for what is read from the logs has to fit as well. */
static int64_t highest_floor(const struct sim *s, int channel)
{
    const struct sim_ids *log = &s->logs[channel];
    size_t held = s->profile.tight_bytes ? 0 : (size_t)s->cfg->channel_ring_events;
    size_t trimmed = log->count > held ? log->count - held : 0;

    if (s->profile.kept && !s->profile.tight_bytes) {
        return model_bus_floor(s->bus, channel);
    }
    trimmed = trimmed > log->lost ? trimmed : log->lost;
    return trimmed > 0 ? log->ids[trimmed - 1] : 0;
}

/* ---- rule 3 ---- */

static bool is_excluded(const struct sim_queue *q, const struct sim_event *e)
{
    return e->exclude_user == q->user || strcmp(e->exclude_queue, q->id) == 0;
}

static bool is_subscriber(const struct sim_queue *q, const struct sim_event *e)
{
    return (e->subscribers >> q->user & 1) != 0;
}

/* Whether the node may send it to the queue now. */
static bool may_have(const struct sim_node *n, const struct sim_queue *q, const struct sim_event *e)
{
    const struct sim_record *r = &n->records[q->user];

    if (r->blurred) {
        return !is_excluded(q, e) && (!e->has_subscribers || is_subscriber(q, e));
    }
    for (int c = 0; c < SIM_CHANNELS && !is_excluded(q, e); c++) {
        if ((e->channels >> c & 1) == 0 || !r->grants[c].standing || r->grants[c].since >= e->id) {
            continue;
        }
        if (e->has_subscribers
                ? is_subscriber(q, e)
                : sim_queue_has_topic(q, c, e->topic) && e->id > q->topic_at[c][e->topic].applied) {
            return true;
        }
    }
    return false;
}

/* Whether it had to have it, by what stood from the event on until now. */
static bool is_owed(const struct sim_node *n, const struct sim_queue *q, const struct sim_event *e)
{
    const struct sim_record *r = &n->records[q->user];

    for (int c = 0; c < SIM_CHANNELS && !is_excluded(q, e) && !r->blurred; c++) {
        if ((e->channels >> c & 1) == 0 || !r->grants[c].standing || r->grants[c].since >= e->id ||
            q->granted_at[c] >= e->id) {
            continue;
        }
        if (e->has_subscribers
                ? is_subscriber(q, e)
                : sim_queue_has_topic(q, c, e->topic) && e->id > q->topic_at[c][e->topic].newest) {
            return true;
        }
    }
    return false;
}

/* ---- what a node sends ---- */

/* I5: a ring holds its newest ring_events, so what is sent must be among those in one of its channels. upto: what was
 * examined; while a channel is read again its ring ends there. */
static void judge_ring(struct sim_link *l, const struct sim_node *n, const struct sim_event *e,
                       int64_t upto)
{
    const struct sim *s = n->sim;
    struct pl_hub_stats stats;

    pl_hub_stats(n->hub, &stats);
    upto = upto < stats.applied ? upto : stats.applied;
    for (int c = 0; c < SIM_CHANNELS; c++) {
        const struct sim_ids *log = &s->logs[c];

        if ((e->channels >> c & 1) != 0 &&
            count_to(log, upto) <= count_to(log, e->id) - 1 + (size_t)s->cfg->channel_ring_events) {
            return;
        }
    }
    sim_broken(l->client->sim, l->client,
               "I5: event %" PRId64 " came from beyond channel.ring_events", e->id);
}

/* Where the bus keeps queues: who was cut off, or is not the owner any more and could know, sends nothing. */
static void judge_node(const struct sim_link *l, const struct sim_queue *q)
{
    struct sim_client *c = l->client;
    const struct sim_node *n = &c->sim->nodes[l->at];

    if (!c->sim->profile.kept) {
        return;
    }
    if (n->stopped || model_bus_is_paused(c->sim->bus, l->at)) {
        sim_broken(c->sim, c, "I3: node %d delivers though it is cut off", l->at);
    }
    if (q != NULL && model_bus_is_stale(c->sim->bus, q)) {
        sim_broken(c->sim, c,
                   "I6: node %d delivers to a queue that is another's, and could know it", l->at);
    }
}

static void judge_rights(const struct sim_link *l, const struct sim_queue *q,
                         const struct sim_event *e)
{
    struct sim_client *c = l->client;
    struct sim *s = c->sim;
    const struct sim_node *n = &s->nodes[l->at];
    int64_t known = n->records[q->user].as_of;

    if (!may_have(n, q, e)) {
        sim_broken(s, c, "I3: event %" PRId64 " (channels %x topic %u) is denied by rule 3", e->id,
                   e->channels, e->topic);
    }
    if (s->profile.kept) {
        known = known > sim_applied(n) ? known : sim_applied(n);
        if (sim_is_denied(s, q, e, known)) {
            sim_broken(s, c,
                       "I3: event %" PRId64 " (channels %x) was denied by what node %d was told",
                       e->id, e->channels, l->at);
        }
    }
}

static void judge_event(struct sim_link *l, struct sim_queue *q, const struct sim_event *e,
                        int64_t id, int64_t upto)
{
    struct sim_client *c = l->client;
    struct sim *s = c->sim;

    if (e->id != id) {
        sim_broken(s, c, "event %" PRId64 " was sent as %" PRId64, e->id, id);
    }
    if (id <= l->last) {
        sim_broken(s, c, "I2: event %" PRId64 " on a link that was at %" PRId64, id, l->last);
    }
    if (q != NULL) {
        judge_rights(l, q, e);
        q->sent = id > q->sent ? id : q->sent;
    }
    if (!s->profile.kept) {
        judge_ring(l, &s->nodes[l->at], e, upto);
    }
    l->last = id;
}

/* What must be said before anything else is, but for "nothing yet". */
static void judge_told(struct sim_link *l, size_t events, int64_t position)
{
    struct sim_client *c = l->client;
    const struct sim_queue *q = sim_link_queue(l);

    if (l->owes_epoch && (events > 0 || position >= c->sim->nodes[l->at].epoch_start)) {
        sim_broken(c->sim, c, "a cursor below the epoch was not told");
    }
    if ((events == 0 && position == l->start) || q == NULL) {
        return;
    }
    if (q->owes_expired && !l->said_lost) {
        sim_broken(c->sim, c, "a queue made anew without a position was not told");
    }
    if (q->token_exp_ms != 0 && c->sim->unix_ms > q->token_exp_ms + SIM_SLACK_MS &&
        c->sim->mono_ms > c->sim->nodes[l->at].wake_ms + SIM_SLACK_MS) {
        sim_broken(c->sim, c, "served after the token's end");
    }
}

void sim_judge_events(struct sim_link *l, const struct sim_batch *b)
{
    struct sim *s = l->client->sim;
    struct sim_queue *q = sim_link_queue(l);

    judge_told(l, b->count, b->last_event_id);
    if (b->count > 0) {
        judge_node(l, q);
    }
    if (b->count > (size_t)s->cfg->queue_batch_events) {
        sim_broken(s, l->client, "I5: a batch of %zu events", b->count);
    }
    for (size_t i = 0; i < b->count; i++) {
        judge_event(l, q, &s->events[b->serials[i]], b->ids[i], b->last_event_id);
    }
    sim_judge_position(l, b->last_event_id);
}

void sim_judge_position(struct sim_link *l, int64_t position)
{
    struct sim_client *c = l->client;

    judge_told(l, 0, position);
    if (position < l->last) {
        sim_broken(c->sim, c, "position %" PRId64 " on a link that was at %" PRId64, position,
                   l->last);
    }
    if (position > c->sim->newest && position != l->start) {
        sim_broken(c->sim, c, "position %" PRId64 " is above all ids, %" PRId64, position,
                   c->sim->newest);
    }
    l->last = position;
}

/* ---- catch-ups ---- */

/* Whether an event the queue may have was trimmed (or a whole ring was) above the cursor. Of one whose
 * announcement got lost, too, it is not known whether the queue may have it. */
static bool lost_an_event(const struct sim *s, const struct sim_node *n, const struct sim_queue *q,
                          int64_t cursor)
{
    const uint32_t granted = sim_standing(&n->records[q->user]);

    for (size_t i = s->order_count; i-- > 0;) {
        const struct sim_event *e = &s->events[s->order[i]];
        bool trimmed = false;

        if (e->id <= cursor) {
            return false;
        }
        for (int c = 0; c < SIM_CHANNELS; c++) {
            trimmed |= (e->channels >> c & 1) != 0 && e->id <= highest_floor(s, c);
        }
        if (trimmed && (may_have(n, q, e) ||
                        (sim_bit(s->missed, s->order[i]) && (e->channels & granted) != 0))) {
            return true;
        }
    }
    return false;
}

static bool below_a_floor(const struct sim *s, const struct sim_node *n, const struct sim_queue *q,
                          int64_t cursor)
{
    const struct sim_record *r = &n->records[q->user];

    for (int c = 0; c < SIM_CHANNELS; c++) {
        int64_t floor = highest_floor(s, c);

        if (floor > cursor &&
            (r->blurred || (r->grants[c].standing && floor > r->grants[c].since))) {
            return true;
        }
    }
    return false;
}

/* A queue that was watching since the cursor knows what it lost; one made later, or from an older cursor
 * than it had sent from, can only go by the floors (rule 6). */
static bool may_be_trimmed(const struct sim_link *l, const struct sim_queue *q)
{
    const struct sim *s = l->client->sim;
    const struct sim_node *n = &s->nodes[l->at];

    if (q->narrowed_at > l->last) {
        return true;
    }
    if (l->last < q->born_at || l->last < q->changed_at || l->last < q->sent) {
        return below_a_floor(s, n, q, l->last);
    }
    return lost_an_event(s, n, q, l->last);
}

/* An announcement got lost, and the cursor has passed it. If the log does not hold it any more either, whom it
 * concerned is not known. */
static bool has_hole(const struct sim_link *l, const struct sim_queue *q)
{
    const struct sim *s = l->client->sim;
    const struct sim_node *n = &s->nodes[l->at];
    uint32_t granted =
        n->records[q->user].blurred ? UINT32_MAX : sim_standing(&n->records[q->user]);

    for (uint32_t i = 0; i < s->event_count; i++) {
        const struct sim_event *e = &s->events[i];

        if (!sim_bit(s->missed, i) || ((e->channels & granted) == 0 && q->narrowed_at <= e->id)) {
            continue;
        }
        /* What it examined in silence counts as passed. */
        if (e->id <= (l->last > sim_applied(n) ? l->last : sim_applied(n)) &&
            (may_have(n, q, e) || q->narrowed_at > e->id)) {
            return true;
        }
        for (int c = 0; c < SIM_CHANNELS; c++) {
            if ((e->channels & granted) >> c & 1 && e->id <= highest_floor(s, c)) {
                return true;
            }
        }
    }
    return false;
}

static bool is_true(const struct sim_link *l, const struct sim_queue *q, struct pl_str reason)
{
    if (pl_str_eq(reason, PL_LIT("trimmed"))) {
        return may_be_trimmed(l, q);
    }
    if (pl_str_eq(reason, PL_LIT("epoch"))) {
        return l->owes_epoch || (l->ghost && l->last < l->client->sim->nodes[l->at].epoch_start);
    }
    if (pl_str_eq(reason, PL_LIT("ahead"))) {
        return l->start > l->newest_then;
    }
    if (pl_str_eq(reason, PL_LIT("expired"))) {
        /* Again, as long as its client asks without a position. */
        return q->made_anew && l->asked < 0;
    }
    return pl_str_eq(reason, PL_LIT("gap")) && has_hole(l, q);
}

void sim_judge_catchup(struct sim_link *l, struct pl_str reason, int64_t last_event_id)
{
    struct sim_client *c = l->client;
    struct sim_queue *q = sim_link_queue(l);
    bool ahead = pl_str_eq(reason, PL_LIT("ahead"));

    c->sim->counts.catchups++;
    c->sim->counts.gaps += pl_str_eq(reason, PL_LIT("gap"));
    if (!pl_str_eq(reason, PL_LIT("expired"))) {
        judge_node(l, q); /* that one says nothing of what happened */
    }
    if (q != NULL && !is_true(l, q, reason)) {
        sim_broken(c->sim, c,
                   "a false catch-up: %.*s, link from %" PRId64 " at %" PRId64 ", to %" PRId64,
                   (int)reason.len, reason.s, l->start, l->last, last_event_id);
    }
    /* From above all ids the way is down, whatever the reason. */
    if (last_event_id > c->sim->newest ||
        (!ahead && last_event_id < l->last && l->last <= c->sim->newest)) {
        sim_broken(c->sim, c, "a catch-up (%.*s) to %" PRId64 " from %" PRId64, (int)reason.len,
                   reason.s, last_event_id, l->last);
    }
    if (q != NULL) {
        q->owes_expired &= l->lossy; /* until it reaches the client */
        /* What it covered is not known one by one any more, should this not reach the client. */
        q->sent = last_event_id > q->sent ? last_event_id : q->sent;
    }
    l->said_lost = true;
    l->owes_epoch &= last_event_id < c->sim->nodes[l->at].epoch_start;
    l->last = last_event_id;
}

void sim_epoch_told(struct sim_node *n, int64_t start)
{
    n->epoch_start = start;
    for (size_t i = 0; i < n->sim->profile.clients; i++) {
        struct sim_link *l = n->sim->clients[i].link;

        if (l != NULL && l->at == n->index && l->life == n->life) {
            l->owes_epoch = l->last < start;
        }
    }
}

/* ---- what reaches a client ---- */

static void set_bit(uint64_t *set, uint32_t n)
{
    set[n / 64] |= UINT64_C(1) << n % 64;
}

void sim_client_got(struct sim_client *c, uint32_t serial)
{
    int64_t id = c->sim->events[serial].id;

    set_bit(c->got, serial);
    if (id <= c->position || id <= c->heard) { /* the client's own rule: it has seen it */
        c->sim->counts.duplicates++;
        return;
    }
    c->heard = id;
    c->sim->counts.delivered++;
}

static bool lacks(const struct sim_client *c, uint32_t serial)
{
    const struct sim_event *e = &c->sim->events[serial];

    return e->id > c->owed_after && !sim_bit(c->got, serial) && !sim_bit(c->excused, serial) &&
           is_owed(&c->sim->nodes[c->node], &c->queue, e);
}

void sim_client_at(struct sim_client *c, int64_t position)
{
    struct sim *s = c->sim;

    for (; c->checked < s->order_count && s->events[s->order[c->checked]].id <= position;
         c->checked++) {
        uint32_t serial = s->order[c->checked];

        if (lacks(c, serial) && sim_bit(s->nodes[c->node].missed, serial)) {
            set_bit(c->missed, serial); /* its node must find out */
        } else if (lacks(c, serial)) {
            const struct sim_event *e = &s->events[serial];

            sim_broken(s, c,
                       "I1: told position %" PRId64 " without event %" PRId64
                       " (channels %x topic %u%s)",
                       position, e->id, e->channels, e->topic,
                       e->has_subscribers ? " to subscribers" : "");
        }
    }
    c->position = position > c->position ? position : c->position;
}

void sim_client_lost(struct sim_client *c, int64_t position, uint32_t channels)
{
    struct sim *s = c->sim;

    if (position < c->owed_after) { /* its cursor was from elsewhere */
        c->owed_after = position;
    }
    for (; c->checked < s->order_count && s->events[s->order[c->checked]].id <= position;
         c->checked++) {
        uint32_t serial = s->order[c->checked];

        if (lacks(c, serial) && (s->events[serial].channels & channels) == 0) {
            if (sim_bit(s->nodes[c->node].missed, serial)) {
                set_bit(c->missed, serial); /* its node must find out */
                continue;
            }
            sim_broken(s, c, "I1: a catch-up of channels %x hides event %" PRId64 " of channels %x",
                       channels, s->events[serial].id, s->events[serial].channels);
        }
        set_bit(c->excused, serial);
    }
    while (c->checked > 0 && s->events[s->order[c->checked - 1]].id > position) {
        c->checked--;
    }
    for (uint32_t i = 0; s->profile.kept && i < s->event_count; i++) {
        if (sim_bit(c->missed, i) && s->events[i].id <= position &&
            (s->events[i].channels & channels) != 0) {
            set_bit(c->excused, i);
        }
    }
    c->position = position;
}

void sim_missed(struct sim_node *n, uint32_t serial)
{
    set_bit(n->missed, serial);
    sim_hidden(n->sim, serial);
}

void sim_hidden(struct sim *s, uint32_t serial)
{
    set_bit(s->missed, serial);
}

void sim_client_moved(struct sim_client *c)
{
    memset(c->missed, 0, SIM_EVENTS / 8); /* the next node, or queue, does not know of it */
}

void sim_judge_missed(const struct sim_client *c)
{
    for (uint32_t i = 0; i < c->sim->event_count; i++) {
        if (sim_bit(c->missed, i) && lacks(c, i)) {
            sim_broken(c->sim, c, "I1: event %" PRId64 " was lost on its way and nobody said so",
                       c->sim->events[i].id);
        }
    }
}
