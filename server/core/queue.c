#include "server/core/queue_priv.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/memory.h"
#include "server/base/metrics.h"

static struct pl_queue *of_node(const struct pl_map_node *n)
{
    return pl_container_of(n, struct pl_queue, node);
}

static bool queue_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    return len == 16 && memcmp(of_node(node)->id, key, 16) == 0;
}

void pl_queue__map_init(struct pl_map *m)
{
    pl_map_init(m, queue_eq);
}

struct pl_queue *pl_queue__of_user_node(struct pl_list *n)
{
    return pl_container_of(n, struct pl_queue, of_user);
}

/* ---- its time ---- */

static uint64_t ttl_ms(const struct pl_queue *q)
{
    return (uint64_t)q->hub->cfg->queue_ttl;
}

/* A queue's id is random, and so is its slot: nothing has to be remembered. */
static int64_t slot_of(const struct pl_queue *q)
{
    uint32_t random;

    memcpy(&random, q->id, sizeof(random));
    return q->hub->goaway_spread_ms > 0 ? random % q->hub->goaway_spread_ms : 0;
}

int64_t pl_queue__after_ms(const struct pl_queue *q)
{
    const struct pl_hub *h = q->hub;
    int64_t passed = h->drain_since_ms != 0 ? (int64_t)(h->mono_ms - h->drain_since_ms) : 0;

    return slot_of(q) > passed ? slot_of(q) - passed : 0;
}

int64_t pl_queue_slot_ms(const struct pl_queue *q)
{
    return q->hub->drain_since_ms != 0 ? pl_queue__after_ms(q) : 0;
}

/* When the link of a hub that drains is to go. */
static uint64_t leave_due_ms(const struct pl_queue *q)
{
    const struct pl_hub *h = q->hub;
    uint64_t came = h->mono_ms - (uint64_t)(h->unix_ms - q->link_since_ms);
    uint64_t due = h->drain_since_ms + (uint64_t)slot_of(q);

    if (q->link->ops->one_answer) {
        return due;
    }
    return (due > came ? due : came) + PL_DRAIN_GRACE_MS;
}

/* One timer serves both ends of a queue's life, its batch window and a drain: it fires at the nearest one
 * and looks. */
static void arm(struct pl_queue *q)
{
    uint64_t now = q->hub->mono_ms;
    uint64_t due = (q->link != NULL ? now : q->touched_ms) + ttl_ms(q);

    if (q->link != NULL && q->hub->drain_since_ms != 0 && !q->leaving) {
        uint64_t leave = leave_due_ms(q);

        due = leave < due ? leave : due;
    }
    if (q->link != NULL && q->token_exp_ms != 0) {
        int64_t left = q->token_exp_ms - q->hub->unix_ms;
        uint64_t exp = now + (left > 0 ? (uint64_t)left : 0);

        due = exp < due ? exp : due;
    }
    if (q->waiting && pl_timer_is_set(&q->timer) && q->timer.due_ms < due) {
        due = q->timer.due_ms;
    }
    pl_timer_set(q->hub->wheel, &q->timer, due);
}

void pl_queue__wait(struct pl_queue *q, uint64_t ms)
{
    uint64_t due = q->hub->mono_ms + ms;

    if (!q->waiting && (!pl_timer_is_set(&q->timer) || due < q->timer.due_ms)) {
        pl_timer_set(q->hub->wheel, &q->timer, due);
    }
    q->waiting = true;
}

static void take_link(struct pl_queue *q, int status)
{
    struct pl_link *l = q->link;

    if (l != NULL) {
        pl_queue__unlink(q);
        l->ops->end(l, status);
    }
}

/* A client that is let go once the bus has its queue's position. */
struct leaver {
    struct pl_hub *hub;
    struct pl_link *link;
    char queue_id[PL_QUEUE_ID_SIZE];
};

/* The bus has it, or is away: then the client's own cursor must do. */
static void on_leaver_saved(void *arg, int status)
{
    struct leaver *l = arg;
    struct pl_queue *q = pl_queue_find(l->hub, (struct pl_str){l->queue_id, PL_QUEUE_ID_SIZE - 1});

    (void)status;
    if (q != NULL && q->link == l->link && q->leaving) {
        if (q->link->ops->one_answer) {
            q->due |= PL_DUE_GOAWAY;
            pl_queue_answer_empty(q);
        } else {
            take_link(q, PL_ERR_DRAINING);
        }
    }
    free(l);
}

static void leave(struct pl_queue *q)
{
    struct leaver *l = pl_alloc(sizeof(*l));

    q->leaving = true;
    *l = (struct leaver){.hub = q->hub, .link = q->link};
    pl_queue_id(q, l->queue_id);
    pl_queue_when_saved(q, on_leaver_saved, l);
}

void pl_queue__drain(struct pl_queue *q)
{
    if (!q->link->ops->one_answer) {
        pl_queue__signal(q, PL_DUE_GOAWAY);
    }
    arm(q);
}

static void on_timer(struct pl_timer *t)
{
    struct pl_queue *q = pl_container_of(t, struct pl_queue, timer);
    bool waited = q->waiting;
    bool leaves = q->link != NULL && q->hub->drain_since_ms != 0 && !q->leaving;

    q->waiting = false;
    if (q->link != NULL) {
        if (pl_queue_token_expired(q)) {
            take_link(q, PL_ERR_TOKEN_EXPIRED);
        } else if (leaves && q->hub->mono_ms >= leave_due_ms(q)) {
            leave(q);
            return;
        }
    } else if (q->hub->mono_ms - q->touched_ms >= ttl_ms(q)) {
        pl_metric_add(PL_S_ENDED_TTL, 1);
        pl_queue_end(q, PL_ERR_QUEUE_NOT_FOUND);
        return;
    }
    if (waited && q->link != NULL && q->behind) {
        pl_deliver__pull(q);
    }
    arm(q);
}

void pl_queue_touch(struct pl_queue *q)
{
    q->touched_ms = q->hub->mono_ms;
}

int64_t pl_queue_token_exp_ms(const struct pl_queue *q)
{
    return q->token_exp_ms;
}

enum pl_transport pl_queue_last_transport(const struct pl_queue *q)
{
    return q->link != NULL ? q->link->ops->transport : (enum pl_transport)q->last_transport;
}

int64_t pl_queue_link_since_ms(const struct pl_queue *q)
{
    return q->link_since_ms;
}

bool pl_queue_token_expired(const struct pl_queue *q)
{
    return q->token_exp_ms != 0 && q->token_exp_ms <= q->hub->unix_ms;
}

void pl_queue_extend_token(struct pl_queue *q, int64_t exp_ms)
{
    if (q->token_exp_ms != 0 && exp_ms > q->token_exp_ms) {
        q->token_exp_ms = exp_ms;
        pl_store__queue_changed(q);
        arm(q);
    }
}

/* ---- its channels ---- */

const struct pl_narrowing *pl_queue__find_narrowing(const struct pl_narrowing *items, size_t count,
                                                    struct pl_str channel)
{
    for (size_t i = 0; i < count; i++) {
        if (pl_str_eq(items[i].channel, channel)) {
            return &items[i];
        }
    }
    return NULL;
}

/* How many topics this one may have, with those of the others. */
static uint32_t topic_limit(const struct pl_sub *s)
{
    const struct pl_queue *q = s->queue;
    uint64_t limit = (uint64_t)q->hub->cfg->limits_topics_per_queue;
    uint64_t others = 0;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        others += &q->subs[i] != s ? pl_sub__topic_count(&q->subs[i]) : 0;
    }
    return (uint32_t)(limit > others ? limit - others : 0);
}

static void add_sub(struct pl_queue *q, struct pl_sub *s, const struct pl_grant *g,
                    const struct pl_membership *given)
{
    struct pl_str name = pl_channel__name(g->channel);
    const struct pl_narrowing_copy *usual = q->user->narrowing;
    const struct pl_narrowing *n = NULL;
    int64_t from = q->acked > g->since ? q->acked : g->since;
    int64_t newest = q->hub->applied > g->channel->last_id ? q->hub->applied : g->channel->last_id;

    /* What the grant reaches of the past was not watched for: it may be due. */
    *s = (struct pl_sub){.queue = q, .channel = g->channel, .since = g->since};
    s->joined = q->sent > q->acked ? q->sent : q->acked;
    s->first = from < newest ? from + 1 : 0;
    s->pending = q->link != NULL && !q->behind ? 0 : s->first;
    pl_stream__need(q->hub, g->channel);
    pl_channel__join(s);
    q->held += g->channel->state != PL_CHANNEL_LIVE;
    if (given != NULL && given->has_narrowing) {
        n = pl_queue__find_narrowing(given->narrowing, given->narrowing_count, name);
    } else if (usual != NULL) {
        n = pl_queue__find_narrowing(usual->items, usual->count, name);
    }
    if (n != NULL) {
        pl_sub__narrow_to(s, n->topics, n->topic_count, 0, topic_limit(s));
    }
}

static void drop_sub(struct pl_sub *s)
{
    s->queue->held -= s->channel->state != PL_CHANNEL_LIVE;
    pl_channel__leave(s);
    pl_stream__unneed(s->queue->hub, s->channel);
}

static struct pl_sub *find_sub(const struct pl_queue *q, const struct pl_channel *c)
{
    for (uint32_t i = 0; i < q->sub_count; i++) {
        if (q->subs[i].channel == c) {
            return &q->subs[i];
        }
    }
    return NULL;
}

/* Subs in the order of the user's grants. Rights change rarely: the array is made anew, and what
 * points into it is told. */
void pl_queue__sync(struct pl_queue *q, const struct pl_membership *narrowing)
{
    const struct pl_user *u = q->user;
    struct pl_sub *subs = pl_alloc((u->grant_count > 0 ? u->grant_count : 1) * sizeof(*subs));
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        const struct pl_grant *g = pl_user__grant(u, q->subs[i].channel);

        if (g == NULL || g->since != q->subs[i].since) {
            drop_sub(&q->subs[i]);
        } else {
            subs[n] = q->subs[i];
            pl_channel__moved(&subs[n++]);
        }
    }
    free(q->subs);
    q->subs = subs;
    q->sub_count = n;
    for (uint32_t i = 0; i < u->grant_count; i++) {
        if (u->grants[i].standing && find_sub(q, u->grants[i].channel) == NULL) {
            add_sub(q, &subs[q->sub_count], &u->grants[i], narrowing);
            q->sub_count++;
        }
    }
    pl_store__queue_changed(q);
}

void pl_queue__renarrow(struct pl_queue *q, const struct pl_membership *m)
{
    int64_t now = q->hub->applied;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];
        const struct pl_narrowing *n = pl_queue__find_narrowing(m->narrowing, m->narrowing_count,
                                                                pl_channel__name(s->channel));

        if (n == NULL) {
            pl_sub__widen(s, now);
        } else {
            pl_sub__narrow_to(s, n->topics, n->topic_count, now, topic_limit(s));
        }
    }
    pl_store__queue_changed(q);
}

static struct pl_sub *granted_sub(struct pl_queue *q, struct pl_str channel)
{
    const struct pl_channel *c = pl_channel__find(q->hub, channel);

    return c != NULL ? find_sub(q, c) : NULL;
}

int pl_queue_subscribe(struct pl_queue *q, struct pl_str channel, struct pl_str topic)
{
    struct pl_sub *s = granted_sub(q, channel);

    if (s == NULL) {
        return PL_ERR_FORBIDDEN;
    }
    pl_store__queue_changed(q);
    if (topic.len == 0) {
        pl_sub__widen(s, q->hub->applied);
        return PL_OK;
    }
    return pl_sub__add_topic(s, topic, q->hub->applied, topic_limit(s));
}

int pl_queue_unsubscribe(struct pl_queue *q, struct pl_str channel, struct pl_str topic)
{
    struct pl_sub *s = granted_sub(q, channel);

    if (s == NULL) {
        return PL_ERR_FORBIDDEN;
    }
    pl_store__queue_changed(q);
    if (topic.len == 0) {
        pl_sub__narrow(s);
    } else {
        pl_sub__remove_topic(s, topic);
    }
    return PL_OK;
}

void pl_queue__channel_state(struct pl_sub *s, bool live)
{
    struct pl_queue *q = s->queue;

    if (!live) {
        q->held++;
        return;
    }
    PL_ASSERT(q->held > 0);
    q->held--;
    q->behind = true;
}

int64_t pl_queue__examined(const struct pl_queue *q)
{
    int64_t least = q->hub->applied;

    for (uint32_t i = 0; q->held > 0 && i < q->sub_count; i++) {
        int64_t examined = pl_channel__examined(q->subs[i].channel);

        least = examined < least ? examined : least;
    }
    return least;
}

/* ---- what the bus is asked about positions ---- */

struct ahead {
    struct pl_hub *hub;
    int64_t position; /* where it stood when it was asked */
    char queue_id[PL_QUEUE_ID_SIZE];
};

/* The bus says how far it is: a cursor above that came from elsewhere. One merely above what this
 * node has seen waits. */
static void on_sequence(void *arg, int status, const int64_t *ids, size_t count)
{
    struct ahead *a = arg;
    struct pl_queue *q = pl_queue_find(a->hub, (struct pl_str){a->queue_id, PL_QUEUE_ID_SIZE - 1});

    if (status == PL_OK && count == 1) {
        pl_stream__given(a->hub, ids[0]);
    } else {
        a->hub->ask_again = true;
    }
    /* Unless it has gone on from elsewhere since. */
    if (q != NULL && q->asking && q->sent == a->position) {
        q->asking = false;
        if (status == PL_OK && count == 1 && a->position > ids[0]) {
            q->catchup = PL_CATCHUP_AHEAD;
        }
        if (!q->attaching) {
            pl_deliver__pull(q);
        }
    }
    free(a);
}

static struct ahead *ahead_new(const struct pl_queue *q)
{
    struct ahead *a = pl_alloc(sizeof(*a));

    *a = (struct ahead){.hub = q->hub, .position = q->sent};
    pl_queue_id(q, a->queue_id);
    return a;
}

/* What came by announcement in the meantime is due. */
static void begin_after(struct pl_sub *s, int64_t id)
{
    int64_t next = s->channel->last_id > id ? id + 1 : 0;

    s->joined = id;
    s->first = s->first > id ? s->first : next;
    s->pending = s->pending > id ? s->pending : next;
}

/* A new queue begins now, which may be later than what this node has seen: the answer comes before
 * that of the save which its client waits for. */
static void on_now(void *arg, int status, const int64_t *ids, size_t count)
{
    struct ahead *a = arg;
    struct pl_queue *q = pl_queue_find(a->hub, (struct pl_str){a->queue_id, PL_QUEUE_ID_SIZE - 1});

    if (status == PL_OK && count == 1) {
        pl_stream__given(a->hub, ids[0]);
        if (q != NULL && q->link == NULL && q->sent == a->position && ids[0] > q->sent) {
            q->acked = q->sent = ids[0];
            for (uint32_t i = 0; i < q->sub_count; i++) {
                begin_after(&q->subs[i], ids[0]);
            }
        }
    }
    free(a);
}

/* ---- its life ---- */

struct pl_queue *pl_queue__make(struct pl_hub *h, struct pl_user *u, const uint8_t id[16],
                                const struct pl_membership *narrowing, int64_t token_exp_ms,
                                int64_t position)
{
    const bool has_kept = pl_store__is_kept(h);
    struct pl_queue *q = pl_alloc(sizeof(*q) + (has_kept ? sizeof(*q->kept) : 0));

    *q = (struct pl_queue){
        .hub = h, .user = u, .token_exp_ms = token_exp_ms, .behind = true, .has_kept = has_kept};
    memcpy(q->id, id, sizeof(q->id));
    q->acked = q->sent = position < 0 ? h->applied : position;
    q->made_id = h->applied > u->said->as_of ? h->applied : u->said->as_of;
    if (has_kept) {
        pl_list_init(&q->kept->save);
    }
    pl_map_insert(&h->queues, &q->node, q->id, sizeof(q->id));
    pl_user__queue_added(u, &q->of_user);
    pl_user__grant_known_own(u);
    pl_queue__sync(q, narrowing);
    pl_timer_init(&q->timer, on_timer);
    pl_queue_touch(q);
    arm(q);
    h->links[PL_TRANSPORT_NONE]++;
    return q;
}

bool pl_queue__is_full(const struct pl_hub *h)
{
    const int64_t limit = h->cfg->limits_queues;

    return limit != 0 && h->queues.count >= (uint64_t)limit;
}

bool pl_queue__is_full_of(const struct pl_user *u)
{
    const int64_t limit = u->hub->cfg->limits_queues_per_user;

    return limit != 0 && u->queue_count >= (uint64_t)limit;
}

int pl_hub_check_room(const struct pl_hub *h)
{
    if (pl_memory_state != PL_MEMORY_ENOUGH) {
        pl_metric_add(PL_S_REFUSED_MEMORY, 1);
        return PL_ERR_OVERLOADED;
    }
    if (pl_queue__is_full(h)) {
        pl_metric_add(PL_S_REFUSED_QUEUES, 1);
        return PL_ERR_OVERLOADED;
    }
    return PL_OK;
}

int pl_queue_new(struct pl_hub *h, struct pl_user *u, const struct pl_membership *narrowing,
                 int64_t token_exp_ms, int64_t position, struct pl_queue **ret)
{
    const int status = pl_hub_check_room(h);
    uint8_t id[16];

    if (status != PL_OK) {
        return status;
    }
    if (pl_queue__is_full_of(u)) {
        pl_metric_add(PL_S_REFUSED_PER_USER, 1);
        return PL_ERR_RATE_LIMITED;
    }
    h->random(id, sizeof(id));
    *ret = pl_queue__make(h, u, id, narrowing, token_exp_ms, position);
    if (position < 0 && pl_store__is_kept(h)) {
        h->bus_ops->sequence(h->bus, on_now, ahead_new(*ret));
    }
    pl_store__queue_made(*ret);
    pl_metric_add(PL_S_REGISTRATIONS, 1);
    return PL_OK;
}

void pl_queue_end(struct pl_queue *q, int status)
{
    struct pl_hub *h = q->hub;

    take_link(q, status);
    pl_turn__forget(q);
    if (status == PL_ERR_DISCONNECTED || status == PL_OK) {
        pl_metric_add(status == PL_OK ? PL_S_ENDED_UNREGISTER : PL_S_ENDED_DISCONNECT, 1);
    }
    h->links[PL_TRANSPORT_NONE]--;
    pl_map_remove(&h->queues, &q->node); /* who hears of its end does not find it any more */
    pl_store__queue_ended(q);
    pl_timer_cancel(h->wheel, &q->timer);
    for (uint32_t i = 0; i < q->sub_count; i++) {
        drop_sub(&q->subs[i]);
    }
    free(q->subs);
    pl_spent__forget(q->spent);
    pl_user__queue_removed(q->user, &q->of_user);
    free(q);
}

/* A digit's value plus 1; 0: it is none. A table, because every poll brings 32 random digits, and a
 * branch for each would be guessed wrong half of the time. */
static const uint8_t hex_digits[UINT8_MAX + 1] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

bool pl_queue_id_parse(struct pl_str text, uint8_t ret[16])
{
    uint8_t id[16];

    if (text.len != sizeof(id) * 2) {
        return false;
    }
    for (size_t i = 0; i < sizeof(id); i++) {
        unsigned high = hex_digits[(uint8_t)text.s[2 * i]];
        unsigned low = hex_digits[(uint8_t)text.s[2 * i + 1]];

        if (high == 0 || low == 0) {
            return false;
        }
        id[i] = (uint8_t)((high - 1) << 4 | (low - 1));
    }
    memcpy(ret, id, sizeof(id));
    return true;
}

struct pl_queue *pl_queue_find(struct pl_hub *h, struct pl_str queue_id)
{
    uint8_t id[16];
    struct pl_map_node *n;

    if (!pl_queue_id_parse(queue_id, id)) {
        return NULL;
    }
    n = pl_map_find(&h->queues, id, sizeof(id));
    return n != NULL ? of_node(n) : NULL;
}

void pl_queue_id(const struct pl_queue *q, char out[PL_QUEUE_ID_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(q->id); i++) {
        out[2 * i] = digits[q->id[i] >> 4];
        out[2 * i + 1] = digits[q->id[i] & 15];
    }
    out[2 * sizeof(q->id)] = '\0';
}

struct pl_user *pl_queue_user(const struct pl_queue *q)
{
    return q->user;
}

static const char *const transport_names[] = {[PL_TRANSPORT_NONE] = "none",
                                              [PL_TRANSPORT_WEBSOCKET] = "websocket",
                                              [PL_TRANSPORT_LONGPOLL] = "longpoll"};

const char *pl_transport_name(enum pl_transport t)
{
    return transport_names[t];
}

enum pl_transport pl_transport_named(const char *name)
{
    for (int t = PL_TRANSPORT_WEBSOCKET; t <= PL_TRANSPORT_LONGPOLL; t++) {
        if (strcmp(name, transport_names[t]) == 0) {
            return (enum pl_transport)t;
        }
    }
    return PL_TRANSPORT_NONE;
}

enum pl_transport pl_queue_transport(const struct pl_queue *q)
{
    return q->link != NULL ? q->link->ops->transport : PL_TRANSPORT_NONE;
}

/* ---- its position ---- */

int64_t pl_queue_acked(const struct pl_queue *q)
{
    return q->acked;
}

void pl_queue_ack(struct pl_queue *q, int64_t id)
{
    if (id <= q->acked || id > q->hub->applied) {
        return;
    }
    q->acked = id;
    if (q->hole_told != 0 && id >= q->hole_told) {
        q->hole = q->hole_told = 0;
    }
    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];

        if (s->first == 0 || s->first > id) {
            continue;
        }
        /* Which of the handed ones is the next after id is not known, only that there is one. */
        s->first = id < s->last ? id + 1 : s->pending;
        if (s->first != 0 && s->first <= id) {
            s->first = id + 1;
        }
    }
}

int64_t pl_queue_position(const struct pl_queue *q)
{
    return q->sent;
}

int64_t pl_queue_tell_position(struct pl_queue *q)
{
    int64_t examined;

    if (q->behind || q->held > 0 || q->catchup != PL_CATCHUP_NONE) {
        return q->sent;
    }
    examined = pl_queue__examined(q);
    if (examined > q->sent) {
        q->sent = examined;
    }
    return q->sent;
}

void pl_queue__ask_if_ahead(struct pl_queue *q)
{
    struct ahead *a = ahead_new(q);

    q->asking = q->attaching = true;
    q->hub->bus_ops->sequence(q->hub->bus, on_sequence, a);
    q->attaching = false;
}

/* From before a hole it is served, from behind it told: again, if the client did not get to know.
 */
static void check_hole(struct pl_queue *q, int64_t position)
{
    if (position < q->hole) {
        q->hole = q->hole_told = 0;
        q->catchup = q->catchup == PL_CATCHUP_GAP ? PL_CATCHUP_NONE : q->catchup;
    } else if (q->hole != 0) {
        q->catchup = PL_CATCHUP_GAP;
    }
}

static void resume_at(struct pl_queue *q, int64_t position)
{
    bool watched;

    if (q->made_anew && position < q->hub->epoch_start) {
        position = q->hub->epoch_start; /* `expired` says as much as `epoch`, and is said at once */
    }
    watched = position >= q->acked;
    q->sent = position;
    q->behind = true;
    q->asking = false;
    if (position < q->hub->epoch_start) {
        q->catchup = PL_CATCHUP_EPOCH;
        return;
    }
    if (position > q->hub->newest) {
        pl_queue__ask_if_ahead(q);
        return;
    }
    if (position > q->hub->applied) {
        return; /* this node lags: it has examined nothing there yet */
    }
    pl_queue_ack(q, position);
    check_hole(q, position);
    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];

        /* What went out behind it is due again, and a catch-up that said so much did not arrive. */
        s->last = s->last < position ? s->last : position;
        s->pending = watched ? s->first : position + 1;
    }
}

/* ---- its link ---- */

static void count_link(struct pl_queue *q, enum pl_transport from, enum pl_transport to)
{
    q->hub->links[from]--;
    q->hub->links[to]++;
}

static void count_resume(const struct pl_queue *q, enum pl_transport to)
{
    static const enum pl_series series[3][3] = {
        {0, PL_S_RESUME_NONE_WEBSOCKET, PL_S_RESUME_NONE_LONGPOLL},
        {0, PL_S_RESUME_WEBSOCKET_WEBSOCKET, PL_S_RESUME_WEBSOCKET_LONGPOLL},
        {0, PL_S_RESUME_LONGPOLL_WEBSOCKET, PL_S_RESUME_LONGPOLL_LONGPOLL},
    };

    pl_metric_add(series[q->last_transport][to], 1);
}

void pl_queue_attach(struct pl_queue *q, struct pl_link *l, int64_t position)
{
    PL_ASSERT(l->queue == NULL);
    take_link(q, PL_ERR_REPLACED);
    q->link = l;
    q->wants_answer = false;
    l->queue = q;
    q->link_since_ms = q->hub->unix_ms;
    q->leaving = false;
    if (l->ops->transport != q->last_transport) {
        pl_store__queue_changed(q); /* the registry says how it is connected */
    }
    count_link(q, PL_TRANSPORT_NONE, l->ops->transport);
    count_resume(q, l->ops->transport);
    pl_queue_touch(q);
    arm(q);
    if (q->catchup == PL_CATCHUP_AHEAD || q->catchup == PL_CATCHUP_EPOCH ||
        q->catchup == PL_CATCHUP_TRIMMED) { /* of the position before; this one is looked at anew */
        q->catchup = PL_CATCHUP_NONE;
    }
    /* A client that still has no position did not get to know that it lost the one it had. */
    if (q->made_anew && position >= 0) {
        q->made_anew = false;
        q->catchup = q->catchup == PL_CATCHUP_EXPIRED ? PL_CATCHUP_NONE : q->catchup;
        pl_store__queue_changed(q);
    }
    if (q->made_anew) {
        q->catchup = PL_CATCHUP_EXPIRED;
    }
    resume_at(q, position >= 0 ? position : q->acked);
    if (l->ops->transport == PL_TRANSPORT_WEBSOCKET) {
        /* welcome says it all, but for the bus */
        q->due = q->hub->degraded ? PL_DUE_STATUS : 0;
        q->told_degraded = false;
    }
    if (q->hub->drain_since_ms != 0 && !(l->ops->one_answer && pl_queue_slot_ms(q) > 0)) {
        q->due |= PL_DUE_GOAWAY;
    }
}

void pl_queue__unlink(struct pl_queue *q)
{
    struct pl_link *l = q->link;

    count_link(q, l->ops->transport, PL_TRANSPORT_NONE);
    q->last_transport = (uint8_t)l->ops->transport;
    q->link = NULL;
    l->queue = NULL;
    pl_queue_touch(q);
    if (!l->ops->one_answer) {
        arm(q);
        pl_store__queue_changed(q); /* its position, for whichever node it comes back to */
    }
}

void pl_link_detach(struct pl_link *l)
{
    if (l->queue != NULL) {
        pl_queue__unlink(l->queue);
    }
}

void pl_queue_writable(struct pl_queue *q)
{
    pl_deliver__pull(q);
}

void pl_queue_require_catchup(struct pl_queue *q)
{
    q->made_anew = true;
    pl_store__queue_changed(q);
    q->catchup = PL_CATCHUP_EXPIRED;
}

void pl_queue__signal(struct pl_queue *q, enum pl_due due)
{
    q->due |= (uint8_t)due;
    if (q->link != NULL) {
        pl_deliver__pull(q);
    }
}
