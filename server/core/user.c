#include "server/core/user_priv.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/core/queue_priv.h"

static struct pl_user *of_node(const struct pl_map_node *n)
{
    return pl_container_of(n, struct pl_user, node);
}

static bool user_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct pl_user *u = of_node(node);

    return u->id_len == len && memcmp(u->id, key, len) == 0;
}

void pl_user__map_init(struct pl_map *m)
{
    pl_map_init(m, user_eq);
}

struct pl_user *pl_hub_user_find(struct pl_hub *h, struct pl_str id)
{
    struct pl_map_node *n = pl_map_find(&h->users, id.s, id.len);

    return n != NULL ? of_node(n) : NULL;
}

struct pl_str pl_user_id(const struct pl_user *u)
{
    return (struct pl_str){u->id, u->id_len};
}

void pl_user_write_id(const struct pl_user *u, struct pl_writer *w)
{
    if (u->is_number) {
        pl_write_int(w, u->number);
    } else {
        pl_write_str(w, pl_user_id(u));
    }
}

/* ---- life ---- */

/* A record that a backend spoke about is kept as long as a token may live that it outranks. */
static bool backend_spoke(const struct pl_user *u)
{
    return u->said->backend_ms != 0 || u->said->not_before_ms != 0;
}

static const struct pl_said nothing_said = {.version = -1};

struct pl_said *pl_user__say(struct pl_user *u)
{
    struct pl_said *own = (struct pl_said *)u->said;

    if (u->said == &nothing_said) {
        u->said = own = pl_alloc(sizeof(*own));
        *own = nothing_said;
    }
    return own;
}

void pl_user__become_idle(struct pl_user *u)
{
    u->idle_since_ms = u->hub->mono_ms;
    pl_list_remove(&u->idle);
    pl_list_append(backend_spoke(u) ? &u->hub->idle_long : &u->hub->idle_short, &u->idle);
}

/* Makes room by forgetting the record idle for longest. What it outranked is remembered for all: an
 * unknown user's token from before that must be fetched anew. */
static bool evict_one(struct pl_hub *h)
{
    struct pl_list *from = pl_list_empty(&h->idle_short) ? &h->idle_long : &h->idle_short;
    enum {
        LOOK_AT = 64
    };

    for (int i = 0; i < LOOK_AT && !pl_list_empty(from); i++) {
        struct pl_user *u = pl_container_of(from->next, struct pl_user, idle);

        if (!pl_user_is_blocked(h, u)) {
            if (u->said->backend_ms > h->forgotten_ms && !pl_store__is_kept(h)) {
                h->forgotten_ms = u->said->backend_ms;
            }
            pl_user__free(u);
            return true;
        }
        pl_user__become_idle(u); /* a block that is forgotten is none */
    }
    return false;
}

struct pl_user *pl_user__get(struct pl_hub *h, struct pl_str id)
{
    struct pl_user *u = pl_hub_user_find(h, id);

    if (u != NULL) {
        return u;
    }
    while (h->users.count >= (uint64_t)h->cfg->limits_users) {
        if (!evict_one(h)) {
            return NULL;
        }
    }
    PL_ASSERT(id.len > 0 && id.len <= UINT8_MAX);
    u = pl_alloc(sizeof(*u) + id.len);
    *u = (struct pl_user){
        .hub = h, .said = &nothing_said, .claims_ms = -1, .id_len = (uint8_t)id.len};
    memcpy(u->id, id.s, id.len);
    u->is_number = pl_user_number(id, &u->number);
    pl_list_init(&u->queues);
    pl_list_init(&u->idle);
    pl_map_insert(&h->users, &u->node, id.s, id.len);
    pl_user__become_idle(u);
    return u;
}

void pl_user__free(struct pl_user *u)
{
    PL_ASSERT(u->queue_count == 0);
    for (uint32_t i = 0; i < u->grant_count; i++) {
        pl_channel__unref(u->grants[i].channel);
    }
    pl_map_remove(&u->hub->users, &u->node);
    pl_list_remove(&u->idle);
    if (u->said != &nothing_said) {
        free((void *)u->said);
    }
    free(u->grants);
    free(u->narrowing);
    pl_spent__forget(u->spent);
    free(u);
}

void pl_user__queue_added(struct pl_user *u, struct pl_list *node)
{
    pl_list_append(&u->queues, node);
    u->queue_count++;
    pl_list_remove(&u->idle);
}

void pl_user__queue_removed(struct pl_user *u, struct pl_list *node)
{
    pl_list_remove(node);
    if (--u->queue_count == 0) {
        pl_user__become_idle(u);
    }
}

static void sweep_list(struct pl_hub *h, struct pl_list *list, uint64_t keep_ms)
{
    while (!pl_list_empty(list)) {
        struct pl_user *u = pl_container_of(list->next, struct pl_user, idle);

        if (h->mono_ms - u->idle_since_ms < keep_ms) {
            return;
        }
        if (pl_user_is_blocked(h, u)) {
            pl_user__become_idle(u);
        } else {
            pl_user__free(u);
        }
    }
}

void pl_user__sweep(struct pl_hub *h)
{
    uint64_t ttl_ms = (uint64_t)h->cfg->queue_ttl;
    uint64_t token_ms = (uint64_t)h->cfg->auth_max_token_ttl;

    sweep_list(h, &h->idle_short, ttl_ms);
    sweep_list(h, &h->idle_long, token_ms > ttl_ms ? token_ms : ttl_ms);
}

/* ---- grants ---- */

const struct pl_grant *pl_user__grant(const struct pl_user *u, const struct pl_channel *c)
{
    for (uint32_t i = 0; i < u->grant_count; i++) {
        if (u->grants[i].channel == c) {
            return u->grants[i].standing ? &u->grants[i] : NULL;
        }
    }
    return NULL;
}

/* user:<id>, which nobody gives and nobody takes. */
bool pl_user__is_own(const struct pl_user *u, const struct pl_channel *c)
{
    struct pl_str name = pl_channel__name(c);

    return name.len == 5 + (size_t)u->id_len && memcmp(name.s, "user:", 5) == 0 &&
           memcmp(name.s + 5, u->id, u->id_len) == 0;
}

/* A grant that is not on the new list: taken. True if it stood. */
static bool take_grant(const struct pl_user *u, struct pl_grant *g, int64_t id)
{
    if (!g->standing || pl_user__is_own(u, g->channel)) {
        return false;
    }
    g->standing = false;
    g->since = id;
    return true;
}

/* So many taken grants are remembered; beyond that all are forgotten, and from then on a grant that
 * is not known may be one. */
static void bound_taken(struct pl_user *u)
{
    uint32_t kept = 0;
    uint32_t taken = 0;

    for (uint32_t i = 0; i < u->grant_count; i++) {
        taken += !u->grants[i].standing;
    }
    if (taken <= (uint64_t)u->hub->cfg->limits_channels_per_user) {
        return;
    }
    for (uint32_t i = 0; i < u->grant_count; i++) {
        if (u->grants[i].standing) {
            u->grants[kept++] = u->grants[i];
        } else {
            pl_channel__unref(u->grants[i].channel);
        }
    }
    u->grant_count = kept;
    u->forgot_taken = true;
}

/* Makes the standing grants exactly `channels` (sorted). id: of this change; fresh_since: of a
 * grant never given before. True if anything changed. */
static bool set_grants(struct pl_user *u, const struct pl_str *channels, size_t count, int64_t id,
                       int64_t fresh_since)
{
    struct pl_grant *merged;
    size_t room;
    uint32_t old = 0;
    uint32_t n = 0;
    bool changed = false;

    bound_taken(u);
    room = u->grant_count + count > 0 ? u->grant_count + count : 1;
    merged = pl_alloc(room * sizeof(*merged));
    for (size_t i = 0; i < count;) {
        int c = old < u->grant_count
                    ? pl_str_compare(pl_channel__name(u->grants[old].channel), channels[i])
                    : 1;

        if (c < 0) {
            merged[n] = u->grants[old++];
            changed |= take_grant(u, &merged[n++], id);
            continue;
        }
        if (c == 0) {
            merged[n] = u->grants[old++];
            if (!merged[n].standing) {
                merged[n] = (struct pl_grant){merged[n].channel, id, true};
                changed = true;
            }
            n++;
        } else {
            merged[n] = (struct pl_grant){pl_channel__get(u->hub, channels[i]),
                                          u->forgot_taken ? id : fresh_since, true};
            merged[n++].channel->refs++;
            changed = true;
        }
        i++;
    }
    while (old < u->grant_count) {
        merged[n] = u->grants[old++];
        changed |= take_grant(u, &merged[n++], id);
    }
    free(u->grants);
    u->grants = n > 0 && n < room ? pl_realloc(merged, n * sizeof(*merged)) : merged;
    u->grant_count = n;
    return changed;
}

static void insert_grant(struct pl_user *u, struct pl_channel *c)
{
    uint32_t at = 0;

    while (at < u->grant_count &&
           pl_str_compare(pl_channel__name(u->grants[at].channel), pl_channel__name(c)) < 0) {
        at++;
    }
    u->grants = pl_realloc(u->grants, (u->grant_count + 1) * sizeof(*u->grants));
    memmove(&u->grants[at + 1], &u->grants[at], (u->grant_count - at) * sizeof(*u->grants));
    u->grants[at] = (struct pl_grant){c, 0, true};
    u->grant_count++;
    c->refs++;
}

void pl_user__grant_own(struct pl_hub *h, struct pl_str channel)
{
    struct pl_user *u;
    struct pl_channel *c;

    if (channel.len <= 5 || memcmp(channel.s, "user:", 5) != 0) {
        return;
    }
    u = pl_hub_user_find(h, (struct pl_str){channel.s + 5, channel.len - 5});
    c = u != NULL ? pl_channel__get(h, channel) : NULL;
    if (c == NULL || pl_user__grant(u, c) != NULL) {
        return;
    }
    insert_grant(u, c);
    pl_list_foreach(q, &u->queues) {
        pl_queue__sync(pl_queue__of_user_node(q), NULL);
    }
}

void pl_user__grant_known_own(struct pl_user *u)
{
    char name[5 + UINT8_MAX] = "user:";
    struct pl_channel *c;

    memcpy(name + 5, u->id, u->id_len);
    /* On a bus of many nodes the first event of such a channel comes only if it is open. */
    c = pl_store__is_kept(u->hub)
            ? pl_channel__get(u->hub, (struct pl_str){name, 5 + (size_t)u->id_len})
            : pl_channel__find(u->hub, (struct pl_str){name, 5 + (size_t)u->id_len});
    if (c != NULL && pl_user__grant(u, c) == NULL) {
        insert_grant(u, c);
    }
}

/* ---- narrowing ---- */

static struct pl_narrowing_copy *copy_narrowing(const struct pl_membership *m)
{
    struct pl_narrowing_copy *copy;
    struct pl_str *topics;
    char *text;
    size_t topic_count = 0;
    size_t bytes = 0;

    for (size_t i = 0; i < m->narrowing_count; i++) {
        topic_count += m->narrowing[i].topic_count;
        bytes += m->narrowing[i].channel.len;
        for (size_t t = 0; t < m->narrowing[i].topic_count; t++) {
            bytes += m->narrowing[i].topics[t].len;
        }
    }
    copy = pl_alloc(sizeof(*copy) + m->narrowing_count * sizeof(copy->items[0]) +
                    topic_count * sizeof(*topics) + bytes);
    copy->count = m->narrowing_count;
    topics = (struct pl_str *)&copy->items[copy->count];
    text = (char *)(topics + topic_count);
    for (size_t i = 0; i < copy->count; i++) {
        const struct pl_narrowing *from = &m->narrowing[i];

        copy->items[i] =
            (struct pl_narrowing){{text, from->channel.len}, topics, from->topic_count};
        memcpy(text, from->channel.s, from->channel.len);
        text += from->channel.len;
        for (size_t t = 0; t < from->topic_count; t++) {
            *topics++ = (struct pl_str){text, from->topics[t].len};
            memcpy(text, from->topics[t].s, from->topics[t].len);
            text += from->topics[t].len;
        }
    }
    return copy;
}

/* Takes the change over into every queue of the user. narrow: its narrowing is for the existing
 * queues too. */
void pl_user__spread(struct pl_user *u, const struct pl_membership *m, bool narrow,
                     bool grants_changed)
{
    if (m->has_narrowing) {
        free(u->narrowing);
        u->narrowing = copy_narrowing(m);
    }
    pl_list_foreach(n, &u->queues) {
        struct pl_queue *q = pl_queue__of_user_node(n);

        if (grants_changed) {
            pl_queue__sync(q, NULL);
        }
        if (narrow && m->has_narrowing) {
            pl_queue__renarrow(q, m);
        }
    }
    if (!grants_changed) {
        return;
    }
    /* To send to one may send to all (pl_hub__bound_bytes): each must have the change by then. */
    pl_list_foreach(n, &u->queues) {
        pl_queue__signal(pl_queue__of_user_node(n), PL_DUE_MEMBERSHIP);
    }
}

/* ---- what changes a record ---- */

static bool is_outranked(const struct pl_user *u, const struct pl_bus_change *c)
{
    if (c->has_version && u->said->version >= 0) {
        return c->version < u->said->version;
    }
    return c->kind == PL_CHANGE_REGISTER && u->said->update_ms != 0 &&
           c->unix_ms - u->said->update_ms < PL_UPDATE_OUTRANKS_MS;
}

/* Anything at all, but for the own channel, which goes without saying. */
static bool was_granted(const struct pl_user *u)
{
    for (uint32_t i = 0; i < u->grant_count; i++) {
        if (!pl_user__is_own(u, u->grants[i].channel)) {
            return true;
        }
    }
    return false;
}

void pl_user__apply_change(struct pl_hub *h, int64_t id, const struct pl_bus_change *c)
{
    struct pl_user *u =
        pl_store__is_kept(h) ? pl_hub_user_find(h, c->user_id) : pl_user__get(h, c->user_id);
    struct pl_said *said;
    bool known;
    bool changed;

    if (u == NULL && pl_store__is_kept(h)) {
        pl_fetch__change_passed(h, id, c->user_id); /* whoever needs the record asks the bus */
        return;
    }
    if (u != NULL && id <= u->said->as_of) {
        return; /* it came with the record */
    }
    if (u == NULL) { /* no room to remember it: then no token from before it may be believed */
        h->forgotten_ms = c->unix_ms > h->forgotten_ms ? c->unix_ms : h->forgotten_ms;
        return;
    }
    known = u->said->backend_ms != 0 || was_granted(u);
    said = pl_user__say(u);
    said->as_of = pl_store__is_kept(h) ? id : 0;
    if (c->kind == PL_CHANGE_DISCONNECT) {
        said->ended_id = id;
        said->backend_ms = said->not_before_ms = c->unix_ms;
        said->blocked_until_ms = c->blocked_until_ms;
        pl_user_end_queues(u, PL_ERR_DISCONNECTED);
    } else if (!is_outranked(u, c)) {
        said->backend_ms = c->unix_ms;
        u->by_claims = false;
        if (c->has_version) {
            said->version = c->version;
        }
        if (c->kind == PL_CHANGE_UPDATE) {
            said->update_ms = c->has_version ? 0 : c->unix_ms;
            said->narrowed_id = c->membership->has_narrowing ? id : said->narrowed_id;
        }
        changed = set_grants(u, c->membership->channels, c->membership->channel_count, id,
                             c->kind == PL_CHANGE_REGISTER || !known ? 0 : id);
        pl_user__spread(u, c->membership, c->kind == PL_CHANGE_UPDATE, changed);
    }
    if (u->queue_count == 0) {
        pl_user__become_idle(u);
    }
}

bool pl_user_is_blocked(const struct pl_hub *h, const struct pl_user *u)
{
    return u->said->blocked_until_ms > h->unix_ms;
}

int pl_hub_apply_claims(struct pl_hub *h, const struct pl_token_claims *c, bool reach_back)
{
    struct pl_user *u = pl_hub_user_find(h, c->user_id);
    bool changed;

    if (u == NULL) {
        if (h->forgotten_ms != 0 && c->iat_ms < h->forgotten_ms) {
            return PL_ERR_TOKEN_EXPIRED;
        }
        u = pl_user__get(h, c->user_id);
        if (u == NULL) {
            return PL_ERR_OVERLOADED;
        }
    }
    if ((u->said->not_before_ms != 0 && c->iat_ms < u->said->not_before_ms) ||
        pl_user_is_blocked(h, u)) {
        return PL_ERR_DISCONNECTED;
    }
    /* Identity only: the backend, or a newer token, has said otherwise since. */
    if ((u->said->backend_ms != 0 && c->iat_ms < u->said->backend_ms) || c->iat_ms < u->claims_ms) {
        return PL_OK;
    }
    u->claims_ms = c->iat_ms;
    u->by_claims = true;
    changed = set_grants(u, c->membership->channels, c->membership->channel_count, h->applied,
                         reach_back ? 0 : h->applied);
    pl_user__spread(u, c->membership, false, changed);
    return PL_OK;
}

void pl_user__enforce(struct pl_user *u)
{
    bool blocked = pl_user_is_blocked(u->hub, u);

    pl_list_foreach_safe(n, &u->queues) {
        struct pl_queue *q = pl_queue__of_user_node(n);

        if (blocked || q->made_id < u->said->ended_id) {
            pl_queue_end(q, PL_ERR_DISCONNECTED);
        }
    }
}

size_t pl_user_end_queues(struct pl_user *u, int status)
{
    size_t count = u->queue_count;

    pl_list_foreach_safe(n, &u->queues) {
        pl_queue_end(pl_queue__of_user_node(n), status);
    }
    return count;
}

/* ---- several things said at once ---- */

bool pl_user__hold(struct pl_user *u)
{
    bool before = u->unsure;

    u->unsure = true;
    return before;
}

void pl_user__release(struct pl_user *u, bool before)
{
    u->unsure = before;
    if (before) {
        return;
    }
    pl_list_foreach(n, &u->queues) {
        pl_deliver__pull(pl_queue__of_user_node(n));
    }
}

/* ---- what is told of a record ---- */

void pl_user_each_queue(const struct pl_user *u, void (*fn)(void *arg, const struct pl_queue *q),
                        void *arg)
{
    pl_list_foreach(n, (struct pl_list *)&u->queues) {
        fn(arg, pl_queue__of_user_node(n));
    }
}

size_t pl_user_queue_count(const struct pl_user *u)
{
    return u->queue_count;
}

/* Does the grant stand, and is it of this sort? The own channel is of neither: it goes without
 * saying. */
static bool counts(const struct pl_user *u, const struct pl_grant *g, bool communities)
{
    return g->standing && (pl_channel__community(g->channel) >= 0) == communities &&
           !pl_user__is_own(u, g->channel);
}

static size_t count_grants(const struct pl_user *u, bool communities)
{
    size_t n = 0;

    for (uint32_t i = 0; i < u->grant_count; i++) {
        n += counts(u, &u->grants[i], communities);
    }
    return n;
}

size_t pl_user_channel_count(const struct pl_user *u)
{
    return count_grants(u, true) + count_grants(u, false);
}

bool pl_user_may_publish_to(const struct pl_user *u, struct pl_str channel)
{
    const struct pl_channel *c = pl_channel__find(u->hub, channel);

    return c != NULL && pl_user__grant(u, c) != NULL;
}

void pl_user_write_communities(const struct pl_user *u, struct pl_writer *w)
{
    size_t count = count_grants(u, true);
    int64_t *numbers = pl_alloc((count + 1) * sizeof(*numbers));
    size_t n = 0;

    for (uint32_t i = 0; i < u->grant_count; i++) {
        int64_t community = pl_channel__community(u->grants[i].channel);

        if (u->grants[i].standing && community >= 0) {
            numbers[n++] = community;
        }
    }
    qsort(numbers, n, sizeof(*numbers), pl_compare_numbers);
    pl_write_array(w, n);
    for (size_t i = 0; i < n; i++) {
        pl_write_int(w, numbers[i]);
    }
    free(numbers);
}

size_t pl_user_other_channel_count(const struct pl_user *u)
{
    return count_grants(u, false);
}

void pl_user_write_other_channels(const struct pl_user *u, struct pl_writer *w)
{
    pl_write_array(w, count_grants(u, false));
    for (uint32_t i = 0; i < u->grant_count; i++) {
        if (counts(u, &u->grants[i], false)) {
            pl_write_str(w, pl_channel__name(u->grants[i].channel));
        }
    }
}
