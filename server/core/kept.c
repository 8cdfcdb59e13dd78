/* A queue as the bus keeps it, and made again from that on the node that claims it. */
#include "protocol/status.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

static void write_sub(struct pl_writer *w, const struct pl_sub *s)
{
    pl_write_array(w, 3);
    pl_write_str(w, pl_channel__name(s->channel));
    if (pl_sub__is_narrowed(s)) {
        pl_write_null(w);
    } else {
        pl_write_int(w, pl_sub__all_since(s));
    }
    pl_write_array(w, pl_sub__topic_count(s));
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        const struct pl_topic *t = s->narrowed->topics[i].topic;

        pl_write_array(w, 2);
        pl_write_str(w, (struct pl_str){t->name, t->len});
        pl_write_int(w, s->narrowed->topics[i].since);
    }
}

/* Most are: all of it, from the grant on. */
static bool is_plain(const struct pl_sub *s)
{
    return pl_sub__all_since(s) == 0 && pl_sub__topic_count(s) == 0;
}

void pl_kept__write(const struct pl_queue *q, struct pl_buf *out)
{
    struct pl_writer w;
    size_t count = 0;

    for (uint32_t i = 0; i < q->sub_count; i++) {
        count += !is_plain(&q->subs[i]);
    }
    pl_writer_init(&w, PL_MSGPACK, out);
    pl_write_map(&w, 6);
    pl_write_key(&w, "u");
    pl_user__write(q->user, &w);
    pl_write_key(&w, "e");
    pl_write_int(&w, q->token_exp_ms);
    pl_write_key(&w, "m");
    pl_write_int(&w, q->made_id);
    pl_write_key(&w, "h");
    pl_write_int(&w, q->hole);
    pl_write_key(&w, "n");
    pl_write_bool(&w, q->made_anew);
    pl_write_key(&w, "s");
    pl_write_array(&w, count);
    for (uint32_t i = 0; i < q->sub_count; i++) {
        if (!is_plain(&q->subs[i])) {
            write_sub(&w, &q->subs[i]);
        }
    }
}

/* ---- read again ---- */

struct kept {
    int64_t token_exp_ms, made_id, hole;
    const struct pl_value *record, *subs, *made_anew;
    struct pl_membership narrowing;
};

static bool is_topic(const struct pl_value *t)
{
    return t->type == PL_ARRAY && t->u.array.count == 2 && t->u.array.items[0].type == PL_STRING &&
           t->u.array.items[1].type == PL_INT_VALUE;
}

static bool read_sub(const struct pl_value *v, struct pl_arena *a, struct pl_narrowing *ret)
{
    const struct pl_value *items = v->type == PL_ARRAY ? v->u.array.items : NULL;
    const struct pl_value *topics;

    if (items == NULL || v->u.array.count != 3 || items[0].type != PL_STRING ||
        (items[1].type != PL_INT_VALUE && items[1].type != PL_NULL) || items[2].type != PL_ARRAY) {
        return false;
    }
    topics = &items[2];
    ret->channel = items[0].u.string;
    ret->topic_count = topics->u.array.count;
    ret->topics = pl_arena_alloc(a, (ret->topic_count + 1) * sizeof(*ret->topics));
    for (size_t i = 0; i < ret->topic_count; i++) {
        if (!is_topic(&topics->u.array.items[i])) {
            return false;
        }
        ret->topics[i] = topics->u.array.items[i].u.array.items[0].u.string;
    }
    return true;
}

static bool read_state(struct pl_str bytes, struct pl_arena *a, struct kept *ret)
{
    const struct pl_value *v;
    size_t count;

    if (pl_decode(PL_MSGPACK, bytes.s, bytes.len, a, &v, NULL) != PL_OK ||
        !pl_value_int(v, "e", &ret->token_exp_ms) || !pl_value_int(v, "m", &ret->made_id) ||
        !pl_value_int(v, "h", &ret->hole)) {
        return false;
    }
    ret->record = pl_value_get(v, "u");
    ret->subs = pl_value_get(v, "s");
    ret->made_anew = pl_value_get(v, "n");
    if (ret->made_anew == NULL || ret->made_anew->type != PL_BOOL) {
        return false;
    }
    if (ret->record == NULL || ret->subs == NULL || ret->subs->type != PL_ARRAY) {
        return false;
    }
    count = ret->subs->u.array.count;
    ret->narrowing = (struct pl_membership){.has_narrowing = true, .narrowing_count = count};
    ret->narrowing.narrowing = pl_arena_alloc(a, (count + 1) * sizeof(struct pl_narrowing));
    for (size_t i = 0; i < count; i++) {
        if (!read_sub(&ret->subs->u.array.items[i], a, &ret->narrowing.narrowing[i])) {
            return false;
        }
    }
    return true;
}

/* Since when it is narrowed to what. */
static void restore_sub(struct pl_sub *s, const struct pl_value *kept)
{
    const struct pl_value *since = &kept->u.array.items[1];
    const struct pl_value *topics = &kept->u.array.items[2];

    if (since->type == PL_INT_VALUE) {
        pl_sub__widen(s, since->u.integer);
    }
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        struct pl_topic *t = s->narrowed->topics[i].topic;

        for (size_t k = 0; k < topics->u.array.count; k++) {
            const struct pl_value *pair = topics->u.array.items[k].u.array.items;

            if (pl_str_eq(pair[0].u.string, (struct pl_str){t->name, t->len})) {
                s->narrowed->topics[i].since = pair[1].u.integer;
            }
        }
    }
}

/* Did the queue have the channel by the very grant that stands now? */
static bool is_same_grant(const struct pl_sub *s, const struct pl_value *grants)
{
    for (size_t i = 0; grants != NULL && grants->type == PL_ARRAY && i < grants->u.array.count;
         i++) {
        const struct pl_value *g = grants->u.array.items[i].u.array.items;

        if (pl_user__is_grant(&grants->u.array.items[i]) &&
            pl_str_eq(g[0].u.string, pl_channel__name(s->channel))) {
            return g[2].u.boolean && g[1].u.integer == s->since;
        }
    }
    return false;
}

/* Narrowed as it was, where its grant is the one it was; else as a new one. */
static void restore_subs(struct pl_queue *q, const struct kept *k)
{
    const struct pl_value *grants = pl_value_get(k->record, "g");

    for (uint32_t i = 0; i < q->sub_count; i++) {
        struct pl_sub *s = &q->subs[i];
        struct pl_str name = pl_channel__name(s->channel);
        const struct pl_narrowing *n =
            pl_queue__find_narrowing(k->narrowing.narrowing, k->narrowing.narrowing_count, name);

        if (!is_same_grant(s, grants)) {
            continue;
        }
        if (n == NULL) {
            pl_sub__narrow(s);
            pl_sub__widen(s, 0);
            continue;
        }
        pl_sub__narrow_to(s, n->topics, n->topic_count, 0, UINT32_MAX);
        restore_sub(s, &k->subs->u.array.items[n - k->narrowing.narrowing]);
    }
}

static void restore(struct pl_hub *h, struct pl_user *u, const struct pl_bus_queue *from,
                    const uint8_t id[16], const struct kept *k)
{
    struct pl_queue *q = pl_queue__make(h, u, id, NULL, k->token_exp_ms, from->position);
    int64_t as_of;

    restore_subs(q, k);
    if (u->narrowing != NULL && pl_value_int(k->record, "a", &as_of) &&
        u->said->narrowed_id > as_of) {
        pl_queue__renarrow(q, &(struct pl_membership){.has_narrowing = true,
                                                      .narrowing = u->narrowing->items,
                                                      .narrowing_count = u->narrowing->count});
    }
    q->made_id = k->made_id;
    q->hole = k->hole;
    if (k->made_anew->u.boolean) {
        pl_queue_require_catchup(q);
    }
    q->kept->generation = from->generation;
    q->last_transport = pl_transport_named(from->transport);
    q->link_since_ms = from->since_ms;
    q->kept->saved_ms = h->mono_ms;
    q->dirty = false;
    pl_list_remove(&q->kept->save);
    pl_list_append(&h->saved, &q->kept->save);
    pl_metric_add(PL_S_BUS_QUEUES_CLAIMED, 1);
}

/* Ended by a `disconnect` while nobody had it. */
static bool was_ended(const struct pl_hub *h, const struct pl_user *u, const struct kept *k)
{
    return u->said->ended_id > k->made_id || pl_user_is_blocked(h, u);
}

int pl_kept__install(struct pl_hub *h, const struct pl_bus_queue *from, const uint8_t id[16])
{
    struct pl_arena a = {0};
    struct kept k = {0};
    struct pl_user *u = pl_hub_user_find(h, from->user_id);
    bool is_new = u == NULL;
    bool before = false;
    int status = PL_OK;

    if (!read_state(from->state, &a, &k)) {
        pl_metric_add(PL_S_BUS_MALFORMED_CHANGE, 1);
        status = PL_ERR_QUEUE_NOT_FOUND;
    } else {
        u = pl_user__get(h, from->user_id);
        status = u != NULL ? PL_OK : PL_ERR_OVERLOADED;
    }
    if (status == PL_OK && (pl_queue__is_full(h) || pl_queue__is_full_of(u))) {
        status = PL_ERR_OVERLOADED;
    }
    if (status == PL_OK) {
        before = pl_user__hold(u);
        if (!pl_user__merge(u, k.record) || was_ended(h, u, &k)) {
            h->bus_ops->drop(h->bus, from->queue_id, from->user_id, from->generation);
            status = PL_ERR_QUEUE_NOT_FOUND;
        }
        pl_user__enforce(u);
        pl_user__release(u, before);
    }
    if (status == PL_OK) {
        restore(h, u, from, id, &k);
    }
    if (status == PL_OK && is_new) {
        pl_fetch__doubt(u);
    }
    pl_arena_done(&a);
    return status;
}
