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
    pl_write_map(w, 11 + (n != NULL));
    pl_write_key(w, "k");
    pl_write_int(w, u->narrowed_id);
    pl_write_key(w, "a");
    pl_write_int(w, u->as_of);
    pl_write_key(w, "v");
    pl_write_int(w, u->version);
    pl_write_key(w, "b");
    pl_write_int(w, u->backend_ms);
    pl_write_key(w, "d");
    pl_write_int(w, u->update_ms);
    pl_write_key(w, "c");
    pl_write_int(w, u->claims_ms);
    pl_write_key(w, "n");
    pl_write_int(w, u->not_before_ms);
    pl_write_key(w, "x");
    pl_write_int(w, u->blocked_until_ms);
    pl_write_key(w, "e");
    pl_write_int(w, u->ended_id);
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

static bool read_int(const struct pl_value *record, const char *key, int64_t *ret)
{
    const struct pl_value *v = pl_value_get(record, key);

    if (v == NULL || v->type != PL_INT_VALUE) {
        return false;
    }
    *ret = v->u.integer;
    return true;
}

static bool is_grant(const struct pl_value *g)
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
        if (v == NULL || !is_grant(v) ||
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
        if (!is_grant(&list->u.array.items[i])) {
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

/* When what the grants are by was said. */
static int64_t said_ms(int64_t backend_ms, int64_t claims_ms)
{
    return later(backend_ms, claims_ms);
}

static bool adopt_grants(struct pl_user *u, const struct pl_value *record)
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
        free(u->narrowing);
        u->narrowing = NULL;
        pl_user__spread(u, &m, false, !same); /* who is told of nothing new asks for nothing */
    }
    pl_arena_done(&a);
    return ok;
}

/* Nobody has said anything about the user here. */
static bool is_blank(const struct pl_user *u)
{
    return u->backend_ms == 0 && u->claims_ms < 0 && pl_user_channel_count(u) == 0;
}

bool pl_user__merge(struct pl_user *u, const struct pl_value *record)
{
    int64_t as_of, version, backend_ms, update_ms, claims_ms, not_before_ms, blocked_ms, ended_id;
    int64_t theirs, ours = said_ms(u->backend_ms, u->claims_ms);
    bool is_newer;
    int64_t narrowed_id;

    if (record->type != PL_MAP || !read_int(record, "a", &as_of) ||
        !read_int(record, "v", &version) || !read_int(record, "b", &backend_ms) ||
        !read_int(record, "d", &update_ms) || !read_int(record, "c", &claims_ms) ||
        !read_int(record, "n", &not_before_ms) || !read_int(record, "x", &blocked_ms) ||
        !read_int(record, "e", &ended_id) || !read_int(record, "k", &narrowed_id)) {
        return false;
    }
    theirs = said_ms(backend_ms, claims_ms);
    is_newer =
        backend_ms != 0 && (as_of != u->as_of ? as_of > u->as_of : backend_ms >= u->backend_ms);
    /* Which of two changes is the later one is said by their ids, not by the
   * clocks of two nodes. */
    if (is_newer && u->backend_ms > u->claims_ms) {
        ours = 0;
    }
    if ((theirs > ours || (theirs == ours && (as_of > u->as_of || is_blank(u)))) &&
        !adopt_grants(u, record)) {
        return false;
    }
    if (is_newer) {
        u->backend_ms = backend_ms;
        u->update_ms = update_ms;
        u->version = version;
    }
    if (ended_id > u->ended_id) {
        u->ended_id = ended_id;
        u->blocked_until_ms = blocked_ms;
    }
    u->not_before_ms = later(u->not_before_ms, not_before_ms);
    u->claims_ms = later(u->claims_ms, claims_ms);
    u->narrowed_id = later(u->narrowed_id, narrowed_id);
    u->as_of = later(u->as_of, as_of);
    if (u->queue_count == 0) {
        pl_user__become_idle(u);
    }
    return true;
}
