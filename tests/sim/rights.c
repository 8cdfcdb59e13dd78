#include <string.h>

#include "tests/sim/sim.h"

/* The user record (docs/delivery.md, Rights) once more, for a handful of channels and topics in small
 * arrays. A grant is new, or was taken before; what a register or a token says of a channel never granted
 * reaches back, an update counts from its own id, and what was taken comes back with a new since whoever
 * gives it. */

enum {
    UPDATE_OUTRANKS_MS = 30000
};

int64_t sim_applied(const struct sim_node *n)
{
    struct pl_hub_stats stats;

    pl_hub_stats(n->hub, &stats);
    return stats.applied;
}

bool sim_queue_has_topic(const struct sim_queue *q, int channel, uint32_t topic)
{
    return (q->narrowed >> channel & 1) == 0 ||
           (topic != 0 && (q->topics[channel] >> topic & 1) != 0);
}

uint32_t sim_standing(const struct sim_record *r)
{
    uint32_t set = 0;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        set |= r->grants[c].standing ? 1u << c : 0;
    }
    return set;
}

void sim_detail_record(const struct sim_node *n, int user)
{
    const struct sim_record *r = &n->records[user];

    sim_detail(n->sim, "  so node % has of user % channels #", n->index, user, sim_standing(r));
    sim_detail(n->sim, "     as of %, by a backend at %, by a token of %", r->as_of, r->backend_ms,
               r->claims_ms);
}

/* ---- narrowing ---- */

struct narrowing {
    bool narrowed;
    uint8_t topics;
};

static struct narrowing narrowing_of(const struct sim_membership *m, int channel)
{
    bool narrowed = m->has_narrowing && (m->narrowed >> channel & 1) != 0;

    return (struct narrowing){narrowed, narrowed ? m->topics[channel] : 0};
}

/* From nothing: `fresh`. Otherwise remembers from when on each topic is had. */
static void set_narrowing(struct sim_node *n, struct sim_queue *q, int channel, struct narrowing to,
                          bool fresh)
{
    struct sim_queue before = *q;

    q->narrowed = to.narrowed ? q->narrowed | 1u << channel : q->narrowed & ~(1u << channel);
    q->topics[channel] = to.topics;
    for (uint32_t t = 0; t < SIM_TOPICS; t++) {
        bool had = sim_queue_has_topic(&before, channel, t);
        bool has = sim_queue_has_topic(q, channel, t);

        if (fresh) {
            q->topic_at[channel][t].applied = q->topic_at[channel][t].newest = 0;
        } else if (has && !had) {
            q->topic_at[channel][t].applied = sim_applied(n);
            q->topic_at[channel][t].newest = n->sim->newest;
        } else if (had && !has) {
            q->narrowed_at = n->sim->newest;
        }
    }
}

static bool is_granted(const struct sim_node *n, const struct sim_queue *q, int channel)
{
    return n->records[q->user].grants[channel].standing;
}

int sim_subscribe(struct sim_node *n, struct sim_queue *q, int channel, uint32_t topic)
{
    bool whole = (q->narrowed >> channel & 1) == 0;

    if (!is_granted(n, q, channel)) {
        return PL_ERR_FORBIDDEN;
    }
    if (topic == 0) {
        set_narrowing(n, q, channel, (struct narrowing){false, 0}, false);
    } else {
        set_narrowing(
            n, q, channel,
            (struct narrowing){true, (uint8_t)((whole ? 0 : q->topics[channel]) | 1u << topic)},
            false);
    }
    return PL_OK;
}

int sim_unsubscribe(struct sim_node *n, struct sim_queue *q, int channel, uint32_t topic)
{
    bool whole = (q->narrowed >> channel & 1) == 0;

    if (!is_granted(n, q, channel)) {
        return PL_ERR_FORBIDDEN;
    }
    if (topic == 0) {
        set_narrowing(n, q, channel, (struct narrowing){true, 0}, false);
    } else if (!whole) {
        set_narrowing(n, q, channel,
                      (struct narrowing){true, (uint8_t)(q->topics[channel] & ~(1u << topic))},
                      false);
    }
    return PL_OK;
}

void sim_queue_born(struct sim_node *n, struct sim_queue *q, const struct sim_membership *narrowing)
{
    const struct sim_record *r = &n->records[q->user];

    for (int c = 0; c < SIM_CHANNELS; c++) {
        q->granted_at[c] = 0;
        set_narrowing(
            n, q, c,
            narrowing_of(narrowing != NULL && narrowing->has_narrowing ? narrowing : &r->usual, c),
            true);
    }
}

/* ---- the record ---- */

/* Calls fn for each queue of the user on this node. */
static void each_queue(struct sim_node *n, int user,
                       void fn(struct sim_node *, struct sim_queue *, const void *),
                       const void *arg)
{
    for (size_t i = 0; i < n->sim->profile.clients; i++) {
        struct sim_queue *q = &n->sim->clients[i].queue;

        if (q->open && q->user == user && q->node == n->index && q->life == n->life) {
            fn(n, q, arg);
        }
        q = &n->sim->clients[i].left[n->index];
        if (q->open && q->user == user && q->life == n->life) {
            fn(n, q, arg);
        }
    }
}

struct granting {
    uint32_t given, taken;
};

void sim_renarrow_queue(struct sim_node *n, struct sim_queue *q, int channel, bool fresh)
{
    set_narrowing(n, q, channel, narrowing_of(&n->records[q->user].usual, channel), fresh);
}

static void regrant_queue(struct sim_node *n, struct sim_queue *q, const void *arg)
{
    const struct granting *g = arg;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        if ((g->given >> c & 1) != 0) {
            q->granted_at[c] = n->sim->newest;
            sim_renarrow_queue(n, q, c, true);
        }
    }
    if ((g->given | g->taken) != 0) {
        q->changed_at = n->sim->newest;
    }
    if (g->taken != 0) {
        q->narrowed_at = n->sim->newest;
    }
}

static void renarrow_queue(struct sim_node *n, struct sim_queue *q, const void *arg)
{
    q->changed_at = n->sim->newest;
    for (int c = 0; c < SIM_CHANNELS; c++) {
        if (is_granted(n, q, c)) {
            set_narrowing(n, q, c, narrowing_of(arg, c), false);
        }
    }
}

static void disconnect_queue(struct sim_node *n, struct sim_queue *q, const void *arg)
{
    (void)n;
    q->disconnected |= q->made_id < *(const int64_t *)arg;
}

void sim_disconnect_before(struct sim_node *n, int user, int64_t ended_id)
{
    each_queue(n, user, disconnect_queue, &ended_id);
}

static struct granting set_grants(struct sim_record *r, uint32_t channels, int64_t id,
                                  int64_t fresh_since)
{
    struct granting g = {0, 0};

    for (int c = 0; c < SIM_CHANNELS; c++) {
        bool wanted = (channels >> c & 1) != 0;

        if (wanted && !r->grants[c].standing) {
            r->grants[c].since = r->grants[c].taken ? id : fresh_since;
            g.given |= 1u << c;
        } else if (!wanted && r->grants[c].standing) {
            r->grants[c].taken = true;
            g.taken |= 1u << c;
        }
        r->grants[c].standing = wanted;
    }
    return g;
}

static void spread(struct sim_node *n, int user, const struct sim_membership *m, struct granting g,
                   bool renarrow)
{
    if (m->has_narrowing) {
        n->records[user].usual = *m;
    }
    each_queue(n, user, regrant_queue, &g);
    if (renarrow && m->has_narrowing) {
        each_queue(n, user, renarrow_queue, m);
    }
}

static bool is_outranked(const struct sim_record *r, const struct sim_change *c)
{
    if (c->version >= 0 && r->version >= 0) {
        return c->version < r->version;
    }
    return c->kind == PL_CHANGE_REGISTER && r->update_ms != 0 &&
           c->unix_ms - r->update_ms < UPDATE_OUTRANKS_MS;
}

static bool is_known(const struct sim_record *r)
{
    bool known = r->backend_ms != 0;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        known |= r->grants[c].standing || r->grants[c].taken;
    }
    return known;
}

/* A record that only tokens made may be forgotten once it has been without a queue for queue.ttl; one that a
 * backend spoke of outlives every token, unless limits.users wants its place. */
static void see_forgotten(struct sim_node *n, int user)
{
    struct sim_record *r = &n->records[user];

    if (!r->exists || pl_hub_user_find(n->hub, sim_user_name(user)) != NULL) {
        return;
    }
    if (r->backend_ms != 0 && !n->sim->profile.tight_users && !n->sim->profile.kept) {
        sim_broken(n->sim, NULL, "the record of user %d is forgotten though a backend spoke of it",
                   user);
    }
    /* Where the bus keeps records, nothing is lost with it. */
    n->forgotten_ms =
        !n->sim->profile.kept && r->backend_ms > n->forgotten_ms ? r->backend_ms : n->forgotten_ms;
    *r = (struct sim_record){.version = -1, .claims_ms = -1, .blurred = r->blurred};
}

void sim_see_forgotten(struct sim_node *n)
{
    for (int u = 0; u < SIM_USERS && n->sim->profile.tight_users; u++) {
        see_forgotten(n, u);
    }
}

/* True if it counts: its list and narrowing are in force. */
static bool change_record(struct sim_record *r, int64_t id, const struct sim_change *c,
                          struct granting *ret)
{
    bool reaches_back = c->kind == PL_CHANGE_REGISTER || !is_known(r);

    r->exists = true;
    r->as_of = id > r->as_of ? id : r->as_of;
    if (c->kind == PL_CHANGE_DISCONNECT) {
        r->backend_ms = r->not_before_ms = c->unix_ms;
        r->blocked_until_ms = c->blocked_until_ms;
        r->ended_id = id;
        return false;
    }
    if (is_outranked(r, c)) {
        return false;
    }
    r->by_claims = false;
    r->backend_ms = r->listed_ms = c->unix_ms;
    r->version = c->version >= 0 ? c->version : r->version;
    if (c->kind == PL_CHANGE_UPDATE) {
        r->update_ms = c->version >= 0 ? 0 : c->unix_ms;
        r->narrowed_id = c->membership.has_narrowing ? id : r->narrowed_id;
    }
    *ret = set_grants(r, c->membership.channels, id, reaches_back ? 0 : id);
    return true;
}

void sim_change_record(struct sim_record *r, int64_t id, const struct sim_change *c)
{
    struct granting g;

    if (change_record(r, id, c, &g) && c->membership.has_narrowing) {
        r->usual = c->membership;
    }
}

void sim_change_one(struct sim_node *n, int64_t id, const struct sim_change *c)
{
    struct granting g;

    if (change_record(&n->records[c->user], id, c, &g)) {
        spread(n, c->user, &c->membership, g, c->kind == PL_CHANGE_UPDATE);
    } else if (c->kind == PL_CHANGE_DISCONNECT) {
        sim_disconnect_before(n, c->user, id);
    }
}

void sim_apply_change(struct sim_node *n, int64_t id, const struct sim_change *c)
{
    sim_see_forgotten(n);
    see_forgotten(n, c->user);
    if (!n->sim->profile.kept) {
        sim_change_one(n, id, c);
    } else if (pl_hub_user_find(n->hub, sim_user_name(c->user)) != NULL) {
        /* Somebody here needs it. */
        sim_change_heard(n, c->user, id);
        sim_detail_record(n, c->user);
    }
}

void sim_adopt_record(struct sim_node *n, int user, const struct sim_record *from, bool narrows)
{
    struct sim_record *r = &n->records[user];
    struct granting g = {0, 0};

    for (int c = 0; c < SIM_CHANNELS; c++) {
        if (from->grants[c].standing &&
            (!r->grants[c].standing || r->grants[c].since != from->grants[c].since)) {
            g.given |= 1u << c;
        } else if (!from->grants[c].standing && r->grants[c].standing) {
            g.taken |= 1u << c;
        }
    }
    memcpy(r->grants, from->grants, sizeof(r->grants));
    r->usual = from->usual;
    r->by_claims = from->by_claims;
    each_queue(n, user, regrant_queue, &g);
    if (narrows) {
        each_queue(n, user, renarrow_queue, &r->usual);
    }
}

bool sim_is_blocked(const struct sim_node *n, int user)
{
    return n->records[user].blocked_until_ms > n->sim->unix_ms;
}

int sim_apply_claims(struct sim_node *n, const struct sim_token *t, bool reach_back)
{
    struct sim_record *r = &n->records[t->user];
    int64_t now = sim_applied(n);

    see_forgotten(n, t->user);
    r->exists = true;
    if ((r->not_before_ms != 0 && t->iat_ms < r->not_before_ms) || sim_is_blocked(n, t->user)) {
        return PL_ERR_DISCONNECTED;
    }
    if ((r->backend_ms != 0 && t->iat_ms < r->backend_ms) || t->iat_ms < r->claims_ms) {
        return PL_OK; /* identity only */
    }
    r->claims_ms = t->iat_ms;
    r->by_claims = true;
    spread(n, t->user, &t->membership,
           set_grants(r, t->membership.channels, now, reach_back ? 0 : now), false);
    return PL_OK;
}
