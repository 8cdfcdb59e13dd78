#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

static struct sim_node *node_of(struct sim_client *c)
{
    return &c->sim->nodes[c->node];
}

static struct pl_queue *find_queue(struct sim_client *c)
{
    return pl_queue_find(node_of(c)->hub, (struct pl_str){c->queue.id, PL_QUEUE_ID_SIZE - 1});
}

static bool is_usable(const struct sim *s, int node)
{
    return !s->nodes[node].stopped;
}

/* Twins stay where they are. */
static bool may_move(const struct sim_client *c)
{
    return c->twin == SIM_NOBODY && !c->is_twin;
}

static int pick_node(struct sim_client *c)
{
    uint32_t nodes = (uint32_t)c->sim->profile.nodes;
    uint32_t at = sim_below(&c->rng, nodes);

    while (!is_usable(c->sim, (int)at)) {
        at = (at + 1) % nodes;
    }
    return (int)at;
}

static void changed(struct sim_client *c)
{
    c->queue.changed_at = c->sim->newest;
}

/* ---- what reaches it ---- */

void sim_client_on_message(struct sim_link *l, const struct sim_message *m)
{
    struct sim_client *c = l->client;

    if (m->kind == SIM_MESSAGE_CATCHUP) {
        sim_client_lost(c, m->last_event_id, m->channels);
    } else if (m->kind == SIM_MESSAGE_EVENTS) {
        for (size_t i = 0; i < m->batch.count; i++) {
            sim_client_got(c, m->batch.serials[i]);
        }
        sim_client_at(c, m->last_event_id);
    }
}

/* ---- answers that come later ---- */

struct waiting {
    struct sim_client *client;
    uint32_t asked;
    int node;
    uint32_t life; /* of the node */
    bool poll;
    bool from_now; /* the queue was asked for without a position */
    char queue_id[PL_QUEUE_ID_SIZE];
};

static struct waiting *wait_for(struct sim_client *c)
{
    struct waiting *w = pl_alloc(sizeof(*w));

    c->waiting = true;
    *w = (struct waiting){.client = c, .asked = c->asked, .node = c->node};
    w->life = node_of(c)->life;
    memcpy(w->queue_id, c->queue.id, sizeof(w->queue_id));
    return w;
}

/* False: the client has given up since. */
static bool is_awaited(const struct waiting *w)
{
    if (w->asked != w->client->asked) {
        return false;
    }
    w->client->waiting = w->client->unkept = false;
    return true;
}

/* ---- tokens ---- */

static void renew_token(struct sim_client *c)
{
    struct sim *s = c->sim;

    c->token.user = c->user;
    c->token.membership = s->truth[c->user];
    c->token.iat_ms = s->unix_ms | 1; /* what a backend says is at even times: never equal */
    c->token.exp_ms = s->unix_ms + 3000 + sim_below(&c->rng, 60000);
}

/* The oracle first: the core may send at once by the new rights. */
static int use_token(struct sim_client *c, bool reach_back)
{
    struct sim_node *n = node_of(c);
    struct pl_token_claims claims = {
        .user_id = sim_user_name(c->user),
        .iat_ms = c->token.iat_ms,
        .exp_ms = c->token.exp_ms,
    };
    struct sim_record before;
    int expected;
    int status;

    sim_see_forgotten(n);
    sim_token_told(c->sim, &c->token);
    before = n->records[c->user];
    expected = sim_apply_claims(n, &c->token, reach_back);
    claims.membership = sim_wire_membership(&c->token.membership);
    status = pl_hub_apply_claims(n->hub, &claims, reach_back);
    if (c->sim->profile.tight_users && !before.exists &&
        (status == PL_ERR_OVERLOADED || status == PL_ERR_TOKEN_EXPIRED)) {
        n->records[c->user] = before;
    } else if (n->records[c->user].blurred) {
        return status;
    } else if (status != expected) {
        sim_broken(c->sim, c, "a token of %" PRId64 " was answered %s", c->token.iat_ms,
                   pl_status_code(status));
    } else if (status == PL_OK && !before.exists && c->token.iat_ms < n->forgotten_ms) {
        sim_broken(c->sim, c, "I3: a token older than a forgotten change is believed");
    }
    sim_see_forgotten(n);
    return status;
}

/* ---- its queue ---- */

static void leave_queue(struct sim_client *c)
{
    if (c->link != NULL) {
        sim_link_drop(c->link);
    }
    if (c->queue.open) {
        sim_orphan(c->sim, &c->queue);
    }
    c->queue.open = false;
    sim_client_moved(c);
}

static void queue_made(struct sim_client *c, struct pl_queue *q,
                       const struct sim_membership *narrowing, int64_t position, int64_t exp_ms)
{
    struct sim *s = c->sim;
    int64_t start = pl_queue_position(q);

    memset(&c->queue, 0, sizeof(c->queue));
    pl_queue_id(q, c->queue.id);
    c->queue.open = true;
    c->queue.node = c->node;
    c->queue.life = node_of(c)->life;
    c->queue.user = c->user;
    c->queue.born_at = s->newest;
    c->queue.touched_ms = s->mono_ms;
    c->queue.token_exp_ms = exp_ms;
    c->queue.generation = 1;
    c->queue.made_id = sim_applied(node_of(c));
    if (node_of(c)->records[c->user].as_of > c->queue.made_id) {
        c->queue.made_id = node_of(c)->records[c->user].as_of;
    }
    sim_queue_born(node_of(c), &c->queue, narrowing);
    changed(c);
    if (position >= 0 ? start != position : start > s->newest) {
        sim_broken(s, c, "a queue made at %" PRId64 " starts at %" PRId64, position, start);
    }
    sim_note(s, c, "has a queue on node % from % (asked %)", c->node, start, position);
    c->queue.acked = start;
    if (position >= 0) {
        return;
    }
    if (c->position >= 0 &&
        sim_chance(&c->rng, 50)) { /* resumed by queue_id alone, which is gone */
        pl_queue_require_catchup(q);
        c->queue.made_anew = c->queue.owes_expired = true;
        c->position = -1;
        return;
    }
    c->position = c->owed_after = start;
}

/* Where nodes lag, "now" is known only when its queue is kept. */
static void begin_at(struct sim_client *c, int64_t start)
{
    if (start < c->queue.acked || start > c->sim->newest) {
        sim_broken(c->sim, c, "a queue made at %" PRId64 " begins at %" PRId64, c->queue.acked,
                   start);
    }
    c->queue.acked = start;
    c->queue.born_at = c->sim->newest;
    if (!c->queue.made_anew) {
        c->position = c->owed_after = start;
    }
}

/* Nobody else knows of a queue that could not be kept. */
static void on_saved(void *arg, int status)
{
    struct waiting *w = arg;
    struct sim_client *c = w->client;
    bool awaited = is_awaited(w);
    struct sim_node *n = &c->sim->nodes[w->node];
    struct pl_queue *q =
        w->life == n->life
            ? pl_queue_find(n->hub, (struct pl_str){w->queue_id, PL_QUEUE_ID_SIZE - 1})
            : NULL;

    if (status == PL_OK && awaited && q != NULL && w->from_now) {
        begin_at(c, pl_queue_position(q));
    }
    if (status != PL_OK || !awaited) {
        if (awaited) {
            sim_note(c->sim, c, "its queue is not kept: %", status, 0, 0);
            c->queue.open = false;
        }
        if (q != NULL) {
            pl_queue_end(q, PL_OK);
        }
    }
    free(w);
}

static void make_queue(struct sim_client *c, const struct sim_membership *narrowing,
                       int64_t position, int64_t exp_ms)
{
    struct sim_node *n = node_of(c);
    struct pl_user *u = pl_hub_user_find(n->hub, sim_user_name(c->user));
    struct pl_queue *q;
    int status;

    if (u == NULL && (c->sim->profile.tight_users || c->sim->profile.kept)) {
        return; /* no room for its record, or it is being asked for once more */
    }
    if (u == NULL || (pl_user_is_blocked(n->hub, u) != sim_is_blocked(n, c->user) &&
                      !n->records[c->user].blurred)) {
        sim_broken(c->sim, c, "no record, or one that is blocked by mistake");
    }
    if (pl_user_is_blocked(n->hub, u)) {
        return;
    }
    status = pl_queue_new(n->hub, u, narrowing != NULL ? sim_wire_membership(narrowing) : NULL,
                          exp_ms, position, &q);
    if (status != PL_OK) {
        sim_broken(c->sim, c, "no queue: %s", pl_status_code(status));
    }
    queue_made(c, q, narrowing, position, exp_ms);
    if (c->sim->profile.kept) {
        struct waiting *w = wait_for(c);

        w->from_now = position < 0;
        c->unkept = true;
        pl_queue_when_saved(q, on_saved, w);
    }
}

struct registering {
    struct waiting *waiting;
    struct sim_client *client;
    struct sim_membership membership;
    bool explicit; /* the narrowing is given to the queue itself */
    int64_t position;
};

static void on_registered(void *arg, int status, const int64_t *ids, size_t count)
{
    struct registering *r = arg;
    struct sim_client *c = r->client;

    (void)count;
    if (is_awaited(r->waiting) && status == PL_OK) {
        make_queue(c, r->explicit ? &r->membership : NULL, r->position, 0);
        /* A disconnect has overtaken the answer: whether the queue is from before it or after is open. */
        c->queue.kicked |= node_of(c)->records[c->user].ended_id > ids[0];
    }
    free(r->waiting);
    free(r);
}

static int64_t where_from(struct sim_client *c)
{
    return c->position >= 0 && !c->steady && !c->sim->quiet && sim_chance(&c->rng, 6) ? -1
                                                                                      : c->position;
}

static void register_with_token(struct sim_client *c)
{
    if (c->token.exp_ms <= c->sim->unix_ms || sim_chance(&c->rng, 20)) {
        renew_token(c);
    }
    if (use_token(c, true) == PL_OK) {
        make_queue(c, NULL, where_from(c), c->token.exp_ms);
    } else {
        c->token.exp_ms = 0;
    }
}

static void on_user_known(void *arg, int status)
{
    struct waiting *w = arg;

    if (is_awaited(w) && status == PL_OK) {
        register_with_token(w->client);
    }
    free(w);
}

static void register_by_backend(struct sim_client *c)
{
    struct sim *s = c->sim;
    struct registering *r = pl_alloc(sizeof(*r));
    struct sim_change change = {.kind = PL_CHANGE_REGISTER,
                                .user = c->user,
                                .membership = s->truth[c->user],
                                .version = s->versions[c->user],
                                .unix_ms = s->unix_ms & ~INT64_C(1)};

    *r = (struct registering){wait_for(c), c, change.membership, sim_chance(&c->rng, 30),
                              where_from(c)};
    sim_send_change(node_of(c), &change, on_registered, r);
}

static void register_anew(struct sim_client *c)
{
    if (may_move(c)) {
        c->node = pick_node(c);
    }
    if (!is_usable(c->sim, c->node)) {
        return;
    }
    if (c->kind == SIM_BACKEND) {
        register_by_backend(c);
    } else if (pl_hub_asks(node_of(c)->hub, sim_user_name(c->user), (struct pl_str){NULL, 0})) {
        pl_hub_prepare(node_of(c)->hub, sim_user_name(c->user), (struct pl_str){NULL, 0},
                       on_user_known, wait_for(c));
    } else {
        register_with_token(c);
    }
}

/* ---- its links ---- */

/* Mostly where it is; sometimes an older cursor (a lost memory, a snapshot), rarely one that cannot be. */
static int64_t cursor(struct sim_client *c)
{
    struct sim *s = c->sim;
    uint32_t dice = sim_below(&c->rng, 100);

    if (c->position < 0 || c->position > s->newest || s->quiet || c->steady || dice >= 8) {
        return c->position;
    }
    if (dice == 0) { /* of another server */
        c->position = c->owed_after =
            s->newest + 1 + (int64_t)sim_below(&c->rng, 2000) * sim_below(&c->rng, 3000) * 1024;
        return c->position;
    }
    if (dice == 1 && s->epoch_start > 1000) {
        return sim_below(&c->rng, 1000);
    }
    if (dice <= 3) {
        return -1; /* from the last ack */
    }
    if (s->order_count > 0) {
        int64_t id = s->events[s->order[sim_below(&c->rng, (uint32_t)s->order_count)]].id;

        return id < c->position ? id : c->position;
    }
    return c->position;
}

static void open_link(struct sim_client *c, bool poll)
{
    struct pl_queue *q = find_queue(c);
    struct sim_link *l;
    int64_t from;

    if (q == NULL) {
        sim_judge_gone(c);
        sim_note(c->sim, c, "its queue is gone", 0, 0, 0);
        c->queue.open = false;
        sim_client_moved(c);
        return;
    }
    if (c->sim->profile.kept && !sim_switch_queue(c, c->node)) {
        sim_broken(c->sim, c, "node %d has a queue that it was not given", c->node);
    }
    sim_judge_present(c);
    if (pl_queue_token_expired(q)) {
        renew_token(c);
        if (use_token(c, true) != PL_OK) {
            leave_queue(c);
            return;
        }
        q = find_queue(c);
        pl_queue_extend_token(q, c->token.exp_ms);
        c->queue.token_exp_ms = c->token.exp_ms;
    }
    l = sim_link_new(c, poll);
    l->lossy = !c->steady && !c->sim->quiet && sim_chance(&c->rng, poll ? 10 : 3);
    from = cursor(c);
    sim_link_open(l, q, from, sim_chance(&c->rng, 10) ? 0 : 50 + sim_below(&c->rng, 2500));
}

static void on_queue_known(void *arg, int status)
{
    struct waiting *w = arg;

    if (is_awaited(w) && status == PL_OK) {
        open_link(w->client, w->poll);
    }
    free(w);
}

static void move_to(struct sim_client *c, int node)
{
    if (c->link != NULL && sim_chance(&c->rng, 50) && is_usable(c->sim, c->node)) {
        sim_link_drop(c->link);
    } else if (c->link != NULL) {
        sim_link_leave(c->link);
    }
    sim_note(c->sim, c, "goes from node % to node %", c->node, node, 0);
    c->node = node;
    sim_client_moved(c);
}

/* On the node it is on, or, where nodes share their queues, on another. */
static void connect(struct sim_client *c, bool poll)
{
    struct pl_str id = {c->queue.id, PL_QUEUE_ID_SIZE - 1};
    struct pl_str user = c->kind == SIM_TOKEN ? sim_user_name(c->user) : (struct pl_str){NULL, 0};
    struct waiting *w;

    if (c->sim->profile.kept && may_move(c) &&
        (!is_usable(c->sim, c->node) || sim_chance(&c->rng, 12))) {
        int node = pick_node(c);

        if (node != c->node) {
            move_to(c, node);
        }
    }
    if (!is_usable(c->sim, c->node)) {
        return;
    }
    if (!pl_hub_asks(node_of(c)->hub, user, id)) {
        open_link(c, poll);
        return;
    }
    w = wait_for(c);
    w->poll = poll;
    pl_hub_prepare(node_of(c)->hub, user, id, on_queue_known, w);
}

/* Its node answers nothing at all. */
static void give_up_node(struct sim_client *c)
{
    if (!may_move(c) || !sim_chance(&c->rng, 20)) {
        return;
    }
    if (c->unkept) {
        leave_queue(c);
    }
    c->asked++;
    c->waiting = c->unkept = false;
    if (c->link != NULL) {
        sim_link_leave(c->link);
    }
}

/* ---- what it does ---- */

static void narrow(struct sim_client *c, int channel, uint32_t topic, bool more)
{
    struct pl_queue *q = find_queue(c);
    struct pl_str name = sim_channel_name(channel);
    int expected;
    int status;

    /* While its record is asked for again it is narrowed by what was known; nothing is delivered by that. */
    if (q == NULL ||
        pl_hub_asks(node_of(c)->hub, sim_user_name(c->user), (struct pl_str){NULL, 0})) {
        return;
    }
    expected = more ? sim_subscribe(node_of(c), &c->queue, channel, topic)
                    : sim_unsubscribe(node_of(c), &c->queue, channel, topic);
    status = more ? pl_queue_subscribe(q, name, sim_topic_name(topic))
                  : pl_queue_unsubscribe(q, name, sim_topic_name(topic));
    if (status != expected && !node_of(c)->records[c->user].blurred) {
        sim_broken(c->sim, c, "narrowing of channel %d was answered %s", channel,
                   pl_status_code(status));
    }
    sim_note(c->sim, c,
             more ? "subscribes to channel % topic %: %" : "unsubscribes from channel % topic %: %",
             channel, topic, status);
    changed(c);
}

static void narrow_somehow(struct sim_client *c)
{
    int channel = (int)sim_below(&c->rng, (uint32_t)c->sim->profile.channels);
    uint32_t topic = sim_chance(&c->rng, 25) ? 0 : 1 + sim_below(&c->rng, SIM_TOPICS - 1);
    bool more = sim_chance(&c->rng, 60);

    if (c->is_twin) {
        return;
    }
    narrow(c, channel, topic, more);
    if (c->twin != SIM_NOBODY && c->sim->clients[c->twin].queue.open &&
        is_usable(c->sim, c->sim->clients[c->twin].node)) {
        narrow(&c->sim->clients[c->twin], channel, topic, more);
    }
}

/* A ping of the server's, or the pong to the client's. */
static void ping(struct sim_client *c)
{
    struct sim_link *l = c->link;
    int64_t position;

    if (l->poll || l->slow || l->base.queue == NULL) {
        return;
    }
    position = pl_queue_tell_position(l->base.queue);
    sim_note(c->sim, c, "is told % by a ping (lossy %)", position, l->lossy, 0);
    sim_judge_position(l, position);
    if (!l->lossy) {
        sim_client_at(c, position);
    }
}

static void ack(struct sim_client *c)
{
    if (c->position >= 0 && c->link->base.queue != NULL) {
        pl_queue_ack(c->link->base.queue, c->position);
        c->queue.acked = c->position > c->queue.acked ? c->position : c->queue.acked;
    }
}

static void refresh(struct sim_client *c)
{
    struct pl_queue *q = find_queue(c);

    if (c->kind != SIM_TOKEN || q == NULL) {
        return;
    }
    if (sim_chance(&c->rng, 70)) {
        renew_token(c);
    }
    if (use_token(c, sim_chance(&c->rng, 30)) == PL_OK) {
        pl_queue_extend_token(q, c->token.exp_ms);
        c->queue.token_exp_ms =
            c->token.exp_ms > c->queue.token_exp_ms ? c->token.exp_ms : c->queue.token_exp_ms;
    }
}

static void close_for_good(struct sim_client *c)
{
    struct pl_queue *q = find_queue(c);

    if (q == NULL || c->is_twin || c->twin != SIM_NOBODY) {
        return;
    }
    sim_note(c->sim, c, "unregisters", 0, 0, 0);
    c->closing = true;
    pl_queue_end(q, PL_OK);
    c->closing = false;
    if (c->link != NULL || find_queue(c) != NULL) {
        sim_broken(c->sim, c, "an ended queue lives on");
    }
    c->queue.open = false;
    sim_client_moved(c);
}

static void go_away(struct sim_client *c)
{
    c->away_until_ms =
        c->sim->mono_ms + 200 + sim_below(&c->rng, 2 * (uint32_t)c->sim->cfg->queue_ttl);
    sim_note(c->sim, c, "goes away until %", (int64_t)c->away_until_ms, 0, 0);
    if (c->link == NULL) {
        return;
    }
    if (c->sim->profile.kept && sim_chance(&c->rng, 50)) {
        sim_link_leave(c->link);
    } else {
        sim_link_drop(c->link);
    }
}

static void act_linked(struct sim_client *c)
{
    uint32_t dice = sim_below(&c->rng, 100);

    if (dice < 40 || c->steady) {
        ping(c);
    } else if (dice < 50) {
        ack(c);
    } else if (dice < 54) {
        refresh(c);
    } else if (dice < 64) {
        sim_link_drop(c->link);
    } else if (dice < 68) {
        connect(c, sim_chance(&c->rng, 50)); /* takes over */
    } else if (dice < 72) {
        c->link->lossy = true;
    } else if (dice < 74 && !c->link->poll) {
        sim_link_slow(c->link, sim_below(&c->rng, 4000));
    } else if (dice < 76) {
        go_away(c);
    } else if (dice < 77) {
        close_for_good(c);
    }
    if (dice >= 80) {
        narrow_somehow(c);
    }
}

void sim_client_act(struct sim_client *c)
{
    if (!is_usable(c->sim, c->node) && (c->waiting || c->link != NULL)) {
        give_up_node(c);
        return;
    }
    if (c->waiting || c->away_until_ms > c->sim->mono_ms) {
        return;
    }
    if (!c->queue.open) {
        register_anew(c);
    } else if (c->link == NULL) {
        connect(c, !c->steady && sim_chance(&c->rng, c->likes_polls));
    } else {
        act_linked(c);
    }
}

void sim_client_settle(struct sim_client *c)
{
    c->away_until_ms = 0;
    if (c->link != NULL && c->link->lossy) {
        sim_link_drop(c->link);
    }
    if (c->waiting || (!c->queue.open && c->sim->full)) {
        return;
    }
    if (!c->queue.open) {
        register_anew(c);
    } else if (c->link == NULL) {
        connect(c, sim_chance(&c->rng, c->likes_polls));
    } else {
        ping(c);
    }
}

/* ---- life ---- */

void sim_clients_start(struct sim *s)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        struct sim_client *c = &s->clients[i];

        c->sim = s;
        c->index = (int)i;
        c->rng.state = sim_random(&s->rng);
        c->user = (int)sim_below(&c->rng, (uint32_t)s->profile.users);
        c->node = (int)sim_below(&c->rng, (uint32_t)s->profile.nodes);
        c->kind = sim_chance(&c->rng, 40) ? SIM_TOKEN : SIM_BACKEND;
        c->codec = sim_chance(&c->rng, 50) ? PL_JSON : PL_MSGPACK;
        c->likes_polls = sim_below(&c->rng, 101);
        c->position = -1;
        c->twin = SIM_NOBODY;
        c->got = pl_alloc(SIM_EVENTS / 8);
        c->excused = pl_alloc(SIM_EVENTS / 8);
        c->missed = pl_alloc(SIM_EVENTS / 8);
        if (i < 12 && i % 2 == 1) { /* the slow half of a pair */
            struct sim_client *fast = &s->clients[i - 1];

            c->user = fast->user;
            c->node = fast->node;
            c->kind = fast->kind = SIM_BACKEND;
            c->is_twin = fast->steady = true;
            fast->twin = c->index;
        }
    }
}

void sim_clients_stop(struct sim *s)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        free(s->clients[i].got);
        free(s->clients[i].excused);
        free(s->clients[i].missed);
    }
}
