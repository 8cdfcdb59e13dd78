#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "tests/sim/model_bus_priv.h"

/* Users' records and queues as the bus keeps them. Beside the core's bytes lies what they must say. */

static struct sim_node *node_of(const struct port *p)
{
    return &p->bus->sim->nodes[p->node];
}

static void copy_bytes(struct pl_buf *to, const void *data, size_t len)
{
    pl_buf_done(to);
    *to = (struct pl_buf){0};
    pl_buf_append(to, data, len);
}

/* ---- users ---- */

void model__change_held(struct model_bus *b, size_t index)
{
    struct bus_user *u = &b->users[b->changes[index].change.user];

    if (u->count == u->cap) {
        u->cap = u->cap * 2 + 16;
        u->changes = pl_realloc(u->changes, u->cap * sizeof(*u->changes));
    }
    u->changes[u->count++] = index;
    sim_said(b->sim, b->changes[index].id, &b->changes[index].change);
    while (b->change_count + 1 - b->control > b->sim->profile.control_entries) {
        b->control++;
    }
}

void model__held_copy(struct model_bus *b, int user, struct bus_user *ret)
{
    const struct bus_user *u = &b->users[user];

    *ret = (struct bus_user){.record = u->record, .as_of = u->as_of, .count = u->count};
    copy_bytes(&ret->snapshot, u->snapshot.data, u->snapshot.len);
    ret->changes = pl_alloc((u->count + 1) * sizeof(*ret->changes));
    if (u->count > 0) {
        memcpy(ret->changes, u->changes, u->count * sizeof(*ret->changes));
    }
    ret->read_at = b->sim->newest;
}

void model__held_free(struct bus_user *u)
{
    pl_buf_done(&u->snapshot);
    free(u->changes);
    *u = (struct bus_user){.count = 0};
}

/* The wire's lists live until the next of them is made: those that are kept are copied. */
static struct pl_membership *membership_copy(const struct pl_membership *m, struct pl_arena *a)
{
    struct pl_membership *copy = pl_arena_alloc(a, sizeof(*copy));

    *copy = *m;
    copy->channels = pl_arena_alloc(a, (m->channel_count + 1) * sizeof(*copy->channels));
    memcpy(copy->channels, m->channels, m->channel_count * sizeof(*copy->channels));
    copy->narrowing = pl_arena_alloc(a, (m->narrowing_count + 1) * sizeof(*copy->narrowing));
    for (size_t i = 0; i < m->narrowing_count; i++) {
        const struct pl_narrowing *n = &m->narrowing[i];

        copy->narrowing[i] = *n;
        copy->narrowing[i].topics = pl_arena_alloc(a, (n->topic_count + 1) * sizeof(*n->topics));
        memcpy(copy->narrowing[i].topics, n->topics, n->topic_count * sizeof(*n->topics));
    }
    return copy;
}

/* Was a change announced here that is not in the answer? */
static bool is_outdated(const struct port *p, int user, const struct bus_user *held)
{
    const struct model_bus *b = p->bus;

    for (size_t i = b->users[user].count; i-- > 0;) {
        int64_t id = b->changes[b->users[user].changes[i]].id;

        if (id <= held->read_at) {
            return false;
        }
        if (id <= p->at) {
            return true;
        }
    }
    return false;
}

void model__tell_user(struct port *p, int user, const struct bus_user *held)
{
    struct model_bus *b = p->bus;
    struct sim_numbered_change *facts = pl_alloc((held->count + 1) * sizeof(*facts));
    struct pl_bus_user_change *changes = pl_alloc((held->count + 1) * sizeof(*changes));
    struct pl_arena a = {0};
    bool outdated;
    struct pl_bus_user u = {
        .user_id = sim_user_name(user),
        .as_of = held->read_at,
        .snapshot = {(const char *)held->snapshot.data, held->snapshot.len},
        .changes = changes,
        .change_count = held->count,
    };

    for (size_t i = 0; i < held->count; i++) {
        size_t index = held->changes[i];

        facts[i] = (struct sim_numbered_change){b->changes[index].id, &b->changes[index].change};
        changes[i] = (struct pl_bus_user_change){facts[i].id, sim_wire_change(facts[i].change)};
        if (changes[i].change.membership != NULL) {
            changes[i].change.membership = membership_copy(changes[i].change.membership, &a);
        }
    }
    sim_detail(b->sim, "node % is told of user % as of %", p->node, user, u.as_of);
    outdated = pl_hub_user_find(node_of(p)->hub, u.user_id) == NULL && is_outdated(p, user, held);
    sim_user_told(node_of(p), user, held->snapshot.len > 0 ? &held->record : NULL, u.as_of, facts,
                  held->count);
    node_of(p)->records[user].blurred |= outdated;
    pl_hub_bus_user(node_of(p)->hub, &u);
    pl_arena_done(&a);
    free(facts);
    free(changes);
}

void model__user(void *bus, struct pl_str user_id)
{
    model__call_new(bus, CALL_USER, NULL, NULL)->user = sim_user_of(user_id);
}

void model__compact(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot)
{
    struct port *p = bus;
    struct call *c = model__call_new(p, CALL_COMPACT, NULL, NULL);

    c->user = sim_user_of(user_id);
    c->held.as_of = as_of;
    c->held.record = node_of(p)->records[c->user];
    copy_bytes(&c->held.snapshot, snapshot.s, snapshot.len);
}

static void compact(struct model_bus *b, const struct call *c)
{
    struct bus_user *u = &b->users[c->user];
    size_t gone = 0;

    if (u->as_of >= c->held.as_of) {
        return;
    }
    while (gone < u->count && b->changes[u->changes[gone]].id <= c->held.as_of) {
        gone++;
    }
    u->count -= gone;
    memmove(u->changes, u->changes + gone, u->count * sizeof(*u->changes));
    u->as_of = c->held.as_of;
    u->record = c->held.record;
    copy_bytes(&u->snapshot, c->held.snapshot.data, c->held.snapshot.len);
}

/* ---- queues ---- */

static uint64_t kept_for(const struct model_bus *b)
{
    return (uint64_t)b->sim->cfg->queue_ttl * 3 / 2 + 10000;
}

struct bus_queue *model__queue_find(struct model_bus *b, const char *id)
{
    for (size_t i = b->queue_count; i-- > 0;) {
        if (memcmp(b->queues[i]->id, id, PL_QUEUE_ID_SIZE - 1) == 0) {
            return b->queues[i];
        }
    }
    return NULL;
}

/* NULL also for one whose time is over. */
static struct bus_queue *find_kept(struct model_bus *b, const char *id)
{
    struct bus_queue *q = model__queue_find(b, id);

    return q != NULL && q->expires_ms > b->sim->mono_ms ? q : NULL;
}

static struct bus_queue *queue_add(struct model_bus *b, const char *id)
{
    struct bus_queue *q = model__queue_find(b, id);

    if (q != NULL) {
        q->dead = false;
        q->position = q->came_ms = 0;
        return q;
    }
    if (b->queue_count == b->queue_cap) {
        b->queue_cap = b->queue_cap * 2 + 64;
        b->queues = pl_realloc(b->queues, b->queue_cap * sizeof(struct bus_queue *));
    }
    q = pl_alloc(sizeof(*q));
    memcpy(q->id, id, PL_QUEUE_ID_SIZE);
    b->queues[b->queue_count++] = q;
    return q;
}

static struct call *queue_call(struct port *p, enum call_kind kind, struct pl_str id)
{
    struct call *c = model__call_new(p, kind, NULL, NULL);

    PL_ASSERT(id.len == PL_QUEUE_ID_SIZE - 1);
    memcpy(c->queue.id, id.s, id.len);
    return c;
}

static void save_one(struct port *p, const struct pl_bus_queue *from)
{
    struct call *c = queue_call(p, CALL_SAVE, from->queue_id);
    const struct sim_queue *q = sim_instance(p->bus->sim, p->node, c->queue.id);

    c->queue.user = sim_user_of(from->user_id);
    c->queue.generation = from->generation;
    c->queue.position = from->position;
    c->queue.owner = p->node;
    c->queue.life = node_of(p)->life;
    c->queue.transport = from->transport;
    c->queue.since_ms = from->since_ms;
    copy_bytes(&c->queue.state, from->state.s, from->state.len);
    if (q != NULL) {
        c->queue.mirror.queue = *q;
        c->queue.mirror.record = node_of(p)->records[q->user];
    }
}

void model__save(void *bus, const struct pl_bus_queue *queues, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        save_one(bus, &queues[i]);
    }
}

void model__claim(void *bus, struct pl_str queue_id, int64_t came_ms, bool back)
{
    struct call *c = queue_call(bus, CALL_CLAIM, queue_id);

    c->queue.came_ms = came_ms;
    c->queue.back = back;
}

void model__drop(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation)
{
    struct port *p = bus;
    struct call *c;

    (void)user_id;
    if (!p->commands) {
        return; /* it goes by itself */
    }
    c = queue_call(p, CALL_DROP, queue_id);
    c->queue.generation = generation;
    sim_judge_dropped(node_of(p), c->queue.id);
}

void model__end_queue(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                      void *arg)
{
    struct call *c = queue_call(bus, CALL_END, queue_id);

    c->done = done;
    c->arg = arg;
    c->after_id = -status;
}

static bool may_save(const struct bus_queue *q, const struct bus_queue *from)
{
    if (q == NULL) {
        return from->state.len > 0;
    }
    return !q->dead && (from->generation > q->generation ||
                        (from->generation == q->generation && from->owner == q->owner));
}

static void save(struct model_bus *b, struct call *c)
{
    struct bus_queue *from = &c->queue;
    struct bus_queue *q = find_kept(b, from->id);
    struct sim_record record;

    if (!may_save(q, from)) {
        c->status = PL_ERR_REPLACED;
        return;
    }
    if (q == NULL) {
        q = queue_add(b, from->id);
    }
    record = q->mirror.record;
    q->user = from->user;
    q->generation = q->saved_by = from->generation;
    q->position = from->position > q->position ? from->position : q->position;
    q->owner = from->owner;
    q->life = from->life;
    q->transport = from->transport;
    q->since_ms = from->since_ms;
    q->expires_ms = b->sim->mono_ms + kept_for(b);
    q->mirror = from->mirror;
    if (from->state.len > 0) {
        copy_bytes(&q->state, from->state.data, from->state.len);
    } else {
        q->mirror.record = record;
    }
}

/* The owner of then; who restarts has the same name, but not what was said to it before. */
static struct announcement *tell_owner(struct model_bus *b, const struct bus_queue *q, int kind,
                                       int64_t id, uint32_t index)
{
    struct port *p = &b->ports[q->owner];
    struct announcement *a;

    if (!p->up || (p->feed != FEED_STREAM && p->feed != FEED_JOINS)) {
        return NULL;
    }
    a = model__say(p, kind, id, index);
    memcpy(a->queue_id, q->id, PL_QUEUE_ID_SIZE);
    return a;
}

enum {
    CLOCKS_DIFFER_MS = 100 /* of the nodes, as the bus sees them */
};

static int refusal(const struct model_bus *b, const struct call *c, const struct bus_queue *q)
{
    if (q == NULL) {
        return b->sim->mono_ms - c->port->up_ms < 10000 && !b->calm ? PL_ERR_BUS
                                                                    : PL_ERR_QUEUE_NOT_FOUND;
    }
    if (q->dead) {
        return PL_ERR_DISCONNECTED;
    }
    if (c->queue.back) {
        return c->queue.came_ms <= q->came_ms + CLOCKS_DIFFER_MS ? PL_ERR_REPLACED : PL_OK;
    }
    return c->queue.came_ms > 0 && c->queue.came_ms + CLOCKS_DIFFER_MS < q->came_ms
               ? PL_ERR_REPLACED
               : PL_OK;
}

static void claim(struct model_bus *b, struct call *c)
{
    struct port *p = c->port;
    struct bus_queue *q = find_kept(b, c->queue.id);
    struct pl_buf state = {0};
    int status = refusal(b, c, q);

    if (status != PL_OK) {
        c->status = status;
        c->queue.since_ms = status == PL_ERR_REPLACED ? q->came_ms : 0;
        return;
    }
    q->generation++;
    q->came_ms = c->queue.came_ms;
    if (q->owner != p->node) {
        struct announcement *a = tell_owner(b, q, SAY_TAKEN, q->generation, 0);

        if (a != NULL) {
            a->came_ms = q->came_ms;
        }
    }
    q->owner = p->node;
    q->life = node_of(p)->life;
    q->claimed_ms = b->sim->mono_ms;
    q->expires_ms = b->sim->mono_ms + kept_for(b);
    copy_bytes(&state, q->state.data, q->state.len);
    c->queue = *q;
    c->queue.state = state;
    c->user = q->user;
    model__held_copy(b, q->user, &c->held);
}

static void drop(struct model_bus *b, const struct call *c)
{
    struct bus_queue *q = find_kept(b, c->queue.id);

    if (q != NULL && !q->dead && q->generation <= c->queue.generation) {
        q->dead = true;
        q->expires_ms = b->sim->mono_ms + 2 * (uint64_t)b->sim->cfg->queue_ttl;
    }
}

static void end_queue(struct model_bus *b, struct call *c)
{
    const struct bus_queue *q = find_kept(b, c->queue.id);

    c->ids[0] = q != NULL && !q->dead;
    c->count = 1;
    if (c->ids[0] != 0) {
        (void)tell_owner(b, q, SAY_END, 0, (uint32_t)c->after_id);
    }
}

/* ---- requests ---- */

bool model__kept_arrive(struct call *c)
{
    struct model_bus *b = c->port->bus;

    switch ((int)c->kind) {
    case CALL_SAVE:
        save(b, c);
        return true;
    case CALL_CLAIM:
        claim(b, c);
        return true;
    case CALL_USER:
        model__held_copy(b, c->user, &c->held);
        return true;
    case CALL_END:
        end_queue(b, c);
        return true;
    case CALL_DROP:
        drop(b, c);
        break;
    case CALL_COMPACT:
        compact(b, c);
        break;
    default:
        break;
    }
    return true;
}

static void answer_save(struct call *c)
{
    struct port *p = c->port;
    struct pl_hub *h = node_of(p)->hub;
    struct pl_str id = {c->queue.id, PL_QUEUE_ID_SIZE - 1};
    struct sim_queue *q = sim_instance(p->bus->sim, p->node, c->queue.id);
    const struct pl_queue *left;

    if (q != NULL && c->status == PL_ERR_BUS) {
        q->save_failed_ms = p->bus->sim->mono_ms;
    }
    sim_detail(p->bus->sim, "node % is answered a save of generation %: %", p->node,
               c->queue.generation, c->status);
    pl_hub_bus_saved(h, id, c->queue.generation, c->status);
    left = pl_queue_find(h, id);
    if (c->status == PL_ERR_REPLACED && q != NULL && q->generation == c->queue.generation &&
        left != NULL && pl_queue_transport(left) == PL_TRANSPORT_NONE) {
        sim_broken(p->bus->sim, NULL, "node %d goes on with a queue that it may not save", p->node);
    }
}

static void answer_claim(struct call *c)
{
    struct port *p = c->port;
    struct sim *s = p->bus->sim;
    struct sim_node *n = node_of(p);
    struct pl_str id = {c->queue.id, PL_QUEUE_ID_SIZE - 1};
    const struct bus_queue *q = &c->queue;
    struct pl_bus_queue given = {
        .queue_id = id,
        .user_id = q->user >= 0 ? sim_user_name(q->user) : id,
        .generation = q->generation,
        .saved_by = q->saved_by,
        .position = q->position,
        .state = {(const char *)q->state.data, q->state.len},
        .transport = q->transport,
        .since_ms = q->since_ms,
    };
    struct sim_queue *here =
        pl_queue_find(n->hub, id) != NULL ? sim_instance(s, n->index, q->id) : NULL;
    bool lives = true;

    sim_detail(s, "node % is answered a claim: %, generation %", p->node, c->status, q->generation);
    if (c->status != PL_OK) {
        pl_hub_bus_claimed(n->hub, id, c->status, c->status == PL_ERR_REPLACED ? &given : NULL);
        return;
    }
    s->counts.claims++;
    model__tell_user(p, q->user, &c->held);
    if (here != NULL && q->saved_by <= here->generation) {
        here->generation = q->generation; /* nobody has changed it since */
    } else {
        lives = sim_queue_given(n, q->id, &q->mirror, q->generation);
    }
    pl_hub_bus_claimed(n->hub, id, PL_OK, &given);
    if (!lives && !n->records[q->user].blurred && pl_queue_find(n->hub, id) != NULL) {
        sim_broken(s, NULL, "I3: node %d takes over the queue %.6s, which a disconnect has ended",
                   p->node, q->id);
    }
}

void model__blur(struct port *p)
{
    for (int u = 0; u < SIM_USERS; u++) {
        node_of(p)->records[u].blurred |=
            pl_hub_user_find(node_of(p)->hub, sim_user_name(u)) != NULL;
    }
}

static void answer_user(struct call *c)
{
    struct port *p = c->port;
    struct pl_hub *h = node_of(p)->hub;
    struct pl_str id = sim_user_name(c->user);

    if (c->status == PL_OK) {
        model__tell_user(p, c->user, &c->held);
    } else {
        if (pl_hub_user_find(h, id) != NULL || node_of(p)->records[c->user].blurred) {
            model__blur(p); /* it was asked for again, so all may be */
        }
        node_of(p)->records[c->user].blurred = true;
    }
    pl_hub_bus_user_done(h, id, c->status);
}

void model__kept_answer(struct call *c)
{
    struct port *p = c->port;

    pl_list_remove(&c->node);
    pl_list_init(&c->node); /* it may be asked again from inside */
    switch ((int)c->kind) {
    case CALL_SAVE:
        answer_save(c);
        break;
    case CALL_CLAIM:
        answer_claim(c);
        break;
    case CALL_USER:
        answer_user(c);
        break;
    case CALL_CHANGE:
        if (c->status == PL_OK) {
            model__tell_user(p, c->user, &c->held);
        }
        model__answer(c, c->status, c->ids, c->status == PL_OK ? c->count : 0);
        return;
    case CALL_END:
        model__answer(c, c->status, c->ids, c->status == PL_OK ? c->count : 0);
        return;
    default:
        break;
    }
    model__finish(c);
}

void model__call_kept_free(struct call *c)
{
    model__held_free(&c->held);
    pl_buf_done(&c->queue.state);
}

bool model_bus_keeps(struct model_bus *b, const char *queue_id)
{
    const struct bus_queue *q = find_kept(b, queue_id);

    return q != NULL && !q->dead;
}

bool model_bus_is_stale(struct model_bus *b, const struct sim_queue *q)
{
    const struct bus_queue *kept = find_kept(b, q->id); /* of one that has lapsed nobody can know */
    uint64_t resumed_ms = b->ports[q->node].resumed_ms;

    return kept != NULL && kept->generation > q->generation && kept->owner != q->node &&
           kept->claimed_ms < resumed_ms &&
           (q->save_failed_ms == 0 || q->save_failed_ms < resumed_ms);
}

bool model_bus_has_other(struct model_bus *b, const struct sim_queue *q)
{
    const struct bus_queue *kept = b != NULL ? model__queue_find(b, q->id) : NULL;

    return kept != NULL && (kept->generation > q->generation || kept->dead);
}

void model__kept_done(struct model_bus *b)
{
    for (int u = 0; u < SIM_USERS; u++) {
        model__held_free(&b->users[u]);
    }
    for (size_t i = 0; i < b->queue_count; i++) {
        pl_buf_done(&b->queues[i]->state);
        free(b->queues[i]);
    }
    free(b->queues);
}
