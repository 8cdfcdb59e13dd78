/* A user record as bytes: what nodes tell each other of it, by way of the bus. */
#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/core/queue_priv.h"

void pl_user__write(const struct pl_user *u, struct pl_writer *w)
{
    const struct pl_narrowing_copy *n = u->narrowing;
    size_t grants = 0;

    for (uint32_t i = 0; i < u->grant_count; i++) {
        grants += !pl_user__is_own(u, u->grants[i].channel);
    }
    pl_write_map(w, 12 + (n != NULL));
    pl_write_key(w, "k");
    pl_write_int(w, u->said->narrowed_id);
    pl_write_key(w, "a");
    pl_write_int(w, u->said->as_of);
    pl_write_key(w, "v");
    pl_write_int(w, u->said->version);
    pl_write_key(w, "b");
    pl_write_int(w, u->said->backend_ms);
    pl_write_key(w, "d");
    pl_write_int(w, u->said->update_ms);
    pl_write_key(w, "c");
    pl_write_int(w, u->claims_ms);
    pl_write_key(w, "n");
    pl_write_int(w, u->said->not_before_ms);
    pl_write_key(w, "x");
    pl_write_int(w, u->said->blocked_until_ms);
    pl_write_key(w, "e");
    pl_write_int(w, u->said->ended_id);
    pl_write_key(w, "t");
    pl_write_bool(w, u->by_claims);
    pl_write_key(w, "f");
    pl_write_bool(w, u->forgot_taken);
    pl_write_key(w, "g");
    pl_write_array(w, grants);
    for (uint32_t i = 0; i < u->grant_count; i++) {
        const struct pl_grant *g = &u->grants[i];

        if (!pl_user__is_own(u, g->channel)) {
            pl_write_array(w, 3);
            pl_write_str(w, pl_channel__name(g->channel));
            pl_write_int(w, g->since);
            pl_write_bool(w, g->standing);
        }
    }
    if (n != NULL) {
        pl_write_key(w, "w");
        pl_write_array(w, n->count);
        for (size_t i = 0; i < n->count; i++) {
            pl_write_array(w, 2);
            pl_write_str(w, n->items[i].channel);
            pl_write_array(w, n->items[i].topic_count);
            for (size_t t = 0; t < n->items[i].topic_count; t++) {
                pl_write_str(w, n->items[i].topics[t]);
            }
        }
    }
}

bool pl_user__is_grant(const struct pl_value *g)
{
    return g->type == PL_ARRAY && g->u.array.count == 3 && g->u.array.items[0].type == PL_STRING &&
           g->u.array.items[0].u.string.len > 0 && g->u.array.items[0].u.string.len <= UINT8_MAX &&
           g->u.array.items[1].type == PL_INT_VALUE && g->u.array.items[2].type == PL_BOOL;
}

/* Are these the user's, but for the own channel? */
static bool has_grants(const struct pl_user *u, const struct pl_value *list)
{
    size_t n = 0;

    for (uint32_t i = 0; i < u->grant_count; i++) {
        const struct pl_grant *g = &u->grants[i];
        const struct pl_value *v = n < list->u.array.count ? &list->u.array.items[n] : NULL;

        if (pl_user__is_own(u, g->channel)) {
            continue;
        }
        if (v == NULL || !pl_user__is_grant(v) ||
            !pl_str_eq(v->u.array.items[0].u.string, pl_channel__name(g->channel)) ||
            v->u.array.items[1].u.integer != g->since ||
            v->u.array.items[2].u.boolean != g->standing) {
            return false;
        }
        n++;
    }
    return n == list->u.array.count;
}

/* In the place of those held, but for the own channel. They come sorted by name. */
static bool replace_grants(struct pl_user *u, const struct pl_value *list)
{
    struct pl_grant *grants;
    uint32_t n = 0;

    for (size_t i = 0; i < list->u.array.count; i++) {
        if (!pl_user__is_grant(&list->u.array.items[i])) {
            return false;
        }
    }
    grants = pl_alloc((list->u.array.count + 1) * sizeof(*grants));
    for (size_t i = 0; i < list->u.array.count; i++) {
        const struct pl_value *g = list->u.array.items[i].u.array.items;

        grants[n] = (struct pl_grant){pl_channel__get(u->hub, g[0].u.string), g[1].u.integer,
                                      g[2].u.boolean};
        grants[n++].channel->refs++;
    }
    for (uint32_t i = 0; i < u->grant_count; i++) {
        pl_channel__unref(u->grants[i].channel);
    }
    free(u->grants);
    u->grants = grants;
    u->grant_count = n;
    if (u->queue_count > 0) {
        pl_user__grant_known_own(u);
    }
    return true;
}

static bool read_narrowing(const struct pl_value *list, struct pl_arena *a,
                           struct pl_membership *ret)
{
    size_t count = list->u.array.count;

    *ret = (struct pl_membership){.has_narrowing = true, .narrowing_count = count};
    ret->narrowing = pl_arena_alloc(a, (count + 1) * sizeof(*ret->narrowing));
    for (size_t i = 0; i < count; i++) {
        const struct pl_value *entry = &list->u.array.items[i];
        const struct pl_value *items = entry->type == PL_ARRAY ? entry->u.array.items : NULL;
        struct pl_narrowing *n = &ret->narrowing[i];

        if (items == NULL || entry->u.array.count != 2 || items[0].type != PL_STRING ||
            items[1].type != PL_ARRAY) {
            return false;
        }
        n->channel = items[0].u.string;
        n->topic_count = items[1].u.array.count;
        n->topics = pl_arena_alloc(a, (n->topic_count + 1) * sizeof(*n->topics));
        for (size_t t = 0; t < n->topic_count; t++) {
            if (items[1].u.array.items[t].type != PL_STRING) {
                return false;
            }
            n->topics[t] = items[1].u.array.items[t].u.string;
        }
    }
    return true;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool adopt_grants(struct pl_user *u, const struct pl_value *record, bool narrow)
{
    const struct pl_value *grants = pl_value_get(record, "g");
    const struct pl_value *narrowing = pl_value_get(record, "w");
    const struct pl_value *forgot = pl_value_get(record, "f");
    struct pl_membership m = {.has_narrowing = false};
    struct pl_arena a = {0};
    bool ok =
        grants != NULL && grants->type == PL_ARRAY && forgot != NULL && forgot->type == PL_BOOL &&
        (narrowing == NULL || (narrowing->type == PL_ARRAY && read_narrowing(narrowing, &a, &m)));
    bool same = ok && has_grants(u, grants);

    ok = ok && (same || replace_grants(u, grants));

    if (ok) {
        u->forgot_taken = forgot->u.boolean;
        u->by_claims = pl_value_get(record, "t")->u.boolean;
        free(u->narrowing);
        u->narrowing = NULL;
        /* Who is told of nothing new asks for nothing. */
        pl_user__spread(u, &m, narrow, !same);
    }
    pl_arena_done(&a);
    return ok;
}

/* Nobody has said anything about the user here. */
static bool is_blank(const struct pl_user *u)
{
    return u->said->backend_ms == 0 && u->claims_ms < 0 && pl_user_channel_count(u) == 0;
}

/* What was said of the user elsewhere. */
struct theirs {
    struct pl_said said;
    int64_t claims_ms;
    bool by_claims;
};

static bool read_theirs(const struct pl_value *record, struct theirs *ret)
{
    struct pl_said *s = &ret->said;
    const struct pl_value *by_claims = record->type == PL_MAP ? pl_value_get(record, "t") : NULL;

    if (by_claims == NULL || by_claims->type != PL_BOOL) {
        return false;
    }
    ret->by_claims = by_claims->u.boolean;
    return pl_value_int(record, "a", &s->as_of) && pl_value_int(record, "v", &s->version) &&
           pl_value_int(record, "b", &s->backend_ms) && pl_value_int(record, "d", &s->update_ms) &&
           pl_value_int(record, "c", &ret->claims_ms) &&
           pl_value_int(record, "n", &s->not_before_ms) &&
           pl_value_int(record, "x", &s->blocked_until_ms) &&
           pl_value_int(record, "e", &s->ended_id) && pl_value_int(record, "k", &s->narrowed_id);
}

/* Whose grants hold: of the one with more of the backends' changes in it, but for a newer token of
 * the other that was issued after them. */
static bool has_better_grants(const struct pl_user *u, const struct theirs *t)
{
    if (t->said.as_of == u->said->as_of && is_blank(u)) {
        return true;
    }
    if (t->said.as_of > u->said->as_of) {
        return !u->by_claims || u->claims_ms <= t->claims_ms || u->claims_ms < t->said.backend_ms;
    }
    return t->by_claims && t->claims_ms > u->claims_ms && t->claims_ms >= u->said->backend_ms;
}

bool pl_user__merge(struct pl_user *u, const struct pl_value *record)
{
    struct theirs t;

    if (!read_theirs(record, &t) ||
        (has_better_grants(u, &t) &&
         !adopt_grants(u, record, t.said.narrowed_id > u->said->narrowed_id))) {
        return false;
    }
    u->claims_ms = later(u->claims_ms, t.claims_ms);
    if (t.said.as_of > u->said->as_of) {
        *pl_user__say(u) = t.said;
    }
    if (u->queue_count == 0) {
        pl_user__become_idle(u);
    }
    return true;
}
