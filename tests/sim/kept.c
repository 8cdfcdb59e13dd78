#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* Records and queues that move between nodes: what a node must make of what the bus tells it. A record with more of the
 * backends' changes in it is the better one; a token counts if it was issued after them. A queue that another node had is as
 * it was there, but for what changed in its user's record since. */

/* ---- what was said, whatever nodes know ---- */

static const struct sim_said *last_said(const struct sim *s, int user, int64_t upto)
{
    for (size_t i = s->said_count; i-- > 0;) {
        if (s->said[i].user == user && s->said[i].id <= upto) {
            return &s->said[i];
        }
    }
    return NULL;
}

void sim_said(struct sim *s, int64_t id, const struct sim_change *c)
{
    const struct sim_said *before = last_said(s, c->user, INT64_MAX);
    struct sim_record r = {.version = -1, .claims_ms = -1};
    uint32_t number = 0;

    if (before != NULL) {
        r = before->record;
        number = before->number + 1;
    }
    if (s->said_count == s->said_cap) {
        s->said_cap = s->said_cap * 2 + 64;
        s->said = pl_realloc(s->said, s->said_cap * sizeof(*s->said));
    }
    sim_change_record(&r, id, c);
    s->said[s->said_count++] =
        (struct sim_said){.user = c->user, .number = number, .change = *c, .id = id, .record = r};
}

void sim_token_told(struct sim *s, const struct sim_token *t)
{
    if (s->token_count == s->token_cap) {
        s->token_cap = s->token_cap * 2 + 64;
        s->tokens = pl_realloc(s->tokens, s->token_cap * sizeof(*s->tokens));
    }
    s->tokens[s->token_count++] =
        (struct sim_told_token){t->user, t->iat_ms, t->membership.channels};
}

static uint32_t may_be_granted(const struct sim *s, int user, const struct sim_record *r)
{
    uint32_t channels = 0;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        channels |= r->grants[c].standing ? 1u << c : 0;
    }
    for (size_t i = 0; i < s->token_count; i++) {
        if (s->tokens[i].user == user && s->tokens[i].iat_ms >= r->listed_ms) {
            channels |= s->tokens[i].channels;
        }
    }
    return channels;
}

bool sim_is_denied(const struct sim *s, const struct sim_queue *q, const struct sim_event *e,
                   int64_t known)
{
    const struct sim_said *said = last_said(s, q->user, known);

    return said != NULL && ((e->channels & may_be_granted(s, q->user, &said->record)) == 0 ||
                            said->record.ended_id > q->made_id);
}

/* ---- records ---- */

static bool has_heard(const struct sim_record *r, const struct sim_said *said)
{
    return (r->heard[said->number / 64 % 4] >> said->number % 64 & 1) != 0;
}

/* By all the changes that were heard, in their order. */
void sim_change_heard(struct sim_node *n, int user, int64_t id)
{
    const struct sim *s = n->sim;
    struct sim_record *r = &n->records[user];
    bool found = false;

    for (size_t i = 0; i < s->said_count; i++) {
        const struct sim_said *said = &s->said[i];

        if (said->user != user || said->id < id) {
            continue;
        }
        if (said->id == id && has_heard(r, said)) {
            return;
        }
        if (said->id == id || has_heard(r, said)) {
            found = true;
            r->heard[said->number / 64 % 4] |= UINT64_C(1) << said->number % 64;
            sim_change_one(n, said->id, &said->change);
        }
    }
    PL_ASSERT(found);
}

/* Has it changes that the other lacks? */
static bool has_more(const struct sim_record *r, const struct sim_record *than)
{
    for (int i = 0; i < 4; i++) {
        if ((r->heard[i] & ~than->heard[i]) != 0) {
            return true;
        }
    }
    return false;
}

static void merge_record(struct sim_node *n, int user, const struct sim_record *from)
{
    struct sim_record *r = &n->records[user];
    struct sim_record before = *r;
    bool is_newer = has_more(from, &before);
    const struct sim_record *newer = is_newer ? from : &before;
    const struct sim_record *older = is_newer ? &before : from;
    const struct sim_record *grants = older->by_claims && older->claims_ms > newer->claims_ms &&
                                              older->claims_ms >= newer->backend_ms
                                          ? older
                                          : newer;

    if (grants == from) {
        sim_adopt_record(n, user, from, from->narrowed_id > before.narrowed_id);
    }
    for (int i = 0; i < 4; i++) {
        r->heard[i] |= from->heard[i];
    }
    r->blurred = before.blurred || from->blurred;
    r->exists = true;
    r->as_of = from->as_of > before.as_of ? from->as_of : before.as_of;
    r->version = newer->version;
    r->backend_ms = newer->backend_ms;
    r->listed_ms = newer->listed_ms;
    r->update_ms = newer->update_ms;
    r->not_before_ms = newer->not_before_ms;
    r->narrowed_id = newer->narrowed_id;
    r->ended_id = newer->ended_id;
    r->blocked_until_ms = newer->blocked_until_ms;
    r->claims_ms = from->claims_ms > before.claims_ms ? from->claims_ms : before.claims_ms;
    if (r->ended_id > before.ended_id) {
        sim_disconnect_before(n, user, r->ended_id);
    }
}

static void forget_lost(struct sim_node *n, int user)
{
    if (pl_hub_user_find(n->hub, sim_user_name(user)) == NULL) {
        n->records[user] = (struct sim_record){
            .version = -1, .claims_ms = -1, .blurred = n->records[user].blurred};
    }
}

void sim_user_told(struct sim_node *n, int user, const struct sim_record *snapshot, int64_t as_of,
                   const struct sim_numbered_change *changes, size_t count)
{
    struct sim_record *r = &n->records[user];

    forget_lost(n, user);
    if (snapshot == NULL && count == 0) {
        return;
    }
    if (snapshot != NULL) {
        merge_record(n, user, snapshot);
    }
    for (size_t i = 0; i < count; i++) {
        sim_change_heard(n, user, changes[i].id);
    }
    r->exists = true;
    r->as_of = as_of > r->as_of ? as_of : r->as_of;
    sim_detail_record(n, user);
}

/* ---- queues ---- */

static bool is_of(const struct sim_node *n, const struct sim_queue *q, const char *queue_id)
{
    return q->open && q->life == n->life && memcmp(q->id, queue_id, PL_QUEUE_ID_SIZE - 1) == 0;
}

struct sim_queue *sim_instance(struct sim *s, int node, const char *queue_id)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        struct sim_client *c = &s->clients[i];

        if (c->queue.node == node && is_of(&s->nodes[node], &c->queue, queue_id)) {
            return &c->queue;
        }
        if (is_of(&s->nodes[node], &c->left[node], queue_id)) {
            return &c->left[node];
        }
    }
    return NULL;
}

bool sim_switch_queue(struct sim_client *c, int node)
{
    struct sim_queue here = c->left[node];

    if (c->queue.node == node) {
        return c->queue.life == c->sim->nodes[node].life;
    }
    if (!is_of(&c->sim->nodes[node], &here, c->queue.id)) {
        return false;
    }
    c->left[c->queue.node] = c->queue;
    c->queue = here;
    c->left[node].open = false;
    return true;
}

/* What changed in the record since the queue was kept concerns it too. */
static void restore(struct sim_node *n, struct sim_queue *q, const struct sim_kept *kept)
{
    const struct sim_record *r = &n->records[q->user];
    const struct sim *s = n->sim;
    bool renarrow = r->narrowed_id > kept->record.as_of;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        bool same =
            kept->record.grants[c].standing && kept->record.grants[c].since == r->grants[c].since;

        if (r->grants[c].standing && !same) {
            q->granted_at[c] = s->newest;
            sim_renarrow_queue(n, q, c, true);
        } else if (r->grants[c].standing && renarrow) {
            sim_renarrow_queue(n, q, c, false);
        }
    }
    q->born_at = q->changed_at = q->narrowed_at = s->newest;
}

bool sim_queue_given(struct sim_node *n, const char *queue_id, const struct sim_kept *kept,
                     int64_t generation)
{
    struct sim *s = n->sim;
    struct sim_queue q = kept->queue;

    forget_lost(n, q.user);
    merge_record(n, q.user, &kept->record);
    q.open = true;
    q.node = n->index;
    q.life = n->life;
    q.generation = generation;
    q.touched_ms = s->mono_ms;
    q.save_failed_ms = 0;
    q.disconnected = n->records[q.user].ended_id > q.made_id || sim_is_blocked(n, q.user);
    restore(n, &q, kept);
    sim_detail_record(n, q.user);
    for (size_t i = 0; i < s->profile.clients; i++) {
        struct sim_client *c = &s->clients[i];

        if (c->queue.open && memcmp(c->queue.id, queue_id, PL_QUEUE_ID_SIZE - 1) == 0) {
            q.owes_expired &= c->position < 0; /* it has been told since */
            sim_client_moved(c);
            if (c->queue.node == n->index) {
                c->queue = q;
            } else {
                c->left[n->index] = q;
            }
        }
    }
    return !q.disconnected;
}
