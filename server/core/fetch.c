/* What other nodes may have: the bus is asked for users' records and for queues, once for all who
 * wait for the same. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

enum {
    CHANGES_MAX = 16,       /* more of one user's are put together */
    CLOCKS_DIFFER_MS = 100, /* what came within that of each other came at the same time */
    PASSED = sizeof(((struct pl_hub *)NULL)->passed) / sizeof(int64_t),
};

/* What is being asked of the bus: "u" and a user id, or "q" and a queue id. */
struct fetch {
    struct pl_map_node node;
    struct pl_list waiters;
    int64_t taken;        /* another node took the queue with this generation meanwhile */
    int64_t taken_for_ms; /* unix, when the client came that it was for; 0: not known */
    int64_t came_ms;      /* a queue: the same of the client that this is for */
    bool back;            /* it was taken from here: only if that client is the newer one */
    bool stale;           /* a change of the record passed meanwhile: asked again */
    bool reload;
    bool ended; /* of a queue, while it was claimed */
    uint8_t len;
    char key[];
};

struct waiter {
    struct pl_list node;
    pl_hub_ready_fn *done;
    void *arg;
    uint8_t user_len; /* 0: no user is wanted besides */
    char user[];
};

static bool fetch_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct fetch *f = pl_container_of(node, struct fetch, node);

    return f->len == len && memcmp(f->key, key, len) == 0;
}

/* ---- asking ---- */

static struct fetch *fetch_find(struct pl_hub *h, char kind, struct pl_str name, char key[256])
{
    struct pl_map_node *n;

    key[0] = kind;
    memcpy(key + 1, name.s, name.len);
    n = pl_map_find(&h->fetches, key, name.len + 1);
    return n != NULL ? pl_container_of(n, struct fetch, node) : NULL;
}

static void ask(struct pl_hub *h, const struct fetch *f)
{
    struct pl_str name = {f->key + 1, (size_t)f->len - 1};

    if (h->bus_ops->user == NULL) {
        return; /* it has gone: whoever waits is told at the end */
    }
    if (f->key[0] == 'u') {
        h->bus_ops->user(h->bus, name);
    } else {
        h->bus_ops->claim(h->bus, name, f->came_ms, f->back);
    }
}

/* The fetch of this name, begun if it was not. */
static struct fetch *fetch_get(struct pl_hub *h, char kind, struct pl_str name, int64_t came_ms,
                               bool back)
{
    char key[256];
    struct fetch *f;

    PL_ASSERT(name.len < sizeof(key) - 1);
    f = fetch_find(h, kind, name, key);
    if (f == NULL) {
        f = pl_alloc(sizeof(*f) + name.len + 1);
        f->len = (uint8_t)(name.len + 1);
        memcpy(f->key, key, f->len);
        f->came_ms = came_ms;
        f->back = back;
        pl_list_init(&f->waiters);
        pl_map_insert(&h->fetches, &f->node, f->key, f->len);
        ask(h, f);
    }
    return f;
}

bool pl_fetch__is_awaited(struct pl_hub *h, struct pl_str user_id)
{
    char key[256];
    const struct pl_user *u = pl_hub_user_find(h, user_id);
    const struct fetch *f = u != NULL ? fetch_find(h, 'u', user_id, key) : NULL;

    return u != NULL && (h->changes_lost || u->unsure || (f != NULL && f->reload));
}

/* It is not here, or not whole. */
static bool user_is_missing(struct pl_hub *h, struct pl_str user_id)
{
    return user_id.len > 0 && user_id.len < UINT8_MAX &&
           (pl_hub_user_find(h, user_id) == NULL || pl_fetch__is_awaited(h, user_id));
}

/* With the bus away, what is here goes on: its link is held, and gets nothing before the bus is back
 * and says whose it is. */
static int waiters_status(struct pl_hub *h, const struct fetch *f, int status)
{
    const struct pl_str name = {f->key + 1, (size_t)f->len - 1};
    const bool is_here =
        f->key[0] == 'u' ? pl_hub_user_find(h, name) != NULL : pl_queue_find(h, name) != NULL;

    return status == PL_ERR_BUS && is_here ? PL_OK : status;
}

static void finish(struct pl_hub *h, struct fetch *f, int status)
{
    const int told = waiters_status(h, f, status);
    struct pl_list waiters;

    pl_list_init(&waiters);
    pl_list_splice(&waiters, &f->waiters);
    pl_map_remove(&h->fetches, &f->node);
    if (f->reload) {
        h->reloading--;
        h->changes_lost |= status != PL_OK;
        if (h->reloading == 0) {
            pl_stream__go_on(h); /* before whoever waits attaches a link */
        }
    }
    while (!pl_list_empty(&waiters)) {
        struct waiter *w = pl_container_of(waiters.next, struct waiter, node);
        struct pl_str user = {w->user, w->user_len};

        pl_list_remove(&w->node);
        w->user_len = 0;
        if (told == PL_OK && f->key[0] == 'q' && user_is_missing(h, user)) {
            pl_list_append(&fetch_get(h, 'u', user, 0, false)->waiters, &w->node);
        } else {
            w->done(w->arg, told);
            free(w);
        }
    }
    free(f);
}

/* Not here, or not known to be ours still. */
static bool queue_is_missing(struct pl_hub *h, struct pl_str queue_id)
{
    const struct pl_queue *q;
    uint8_t id[16];

    if (!pl_queue_id_parse(queue_id, id)) {
        return false;
    }
    q = pl_queue_find(h, queue_id);
    return q == NULL || (q->kept->generation > 0 && (h->deaf || q->unproven));
}

bool pl_hub_asks(struct pl_hub *h, struct pl_str user_id, struct pl_str queue_id)
{
    return pl_store__is_kept(h) && (queue_is_missing(h, queue_id) || user_is_missing(h, user_id));
}

void pl_hub_prepare(struct pl_hub *h, struct pl_str user_id, struct pl_str queue_id,
                    pl_hub_ready_fn *done, void *arg)
{
    bool wants_queue = queue_is_missing(h, queue_id);
    struct waiter *w = pl_alloc(sizeof(*w) + user_id.len);

    w->done = done;
    w->arg = arg;
    pl_list_init(&w->node);
    if (wants_queue && user_id.len > 0 && user_id.len < UINT8_MAX) {
        w->user_len = (uint8_t)user_id.len;
        memcpy(w->user, user_id.s, user_id.len);
    }
    pl_list_append(&(wants_queue ? fetch_get(h, 'q', queue_id, h->unix_ms, false)
                                 : fetch_get(h, 'u', user_id, 0, false))
                        ->waiters,
                   &w->node);
}

/* ---- users ---- */

static void compact(struct pl_hub *h, const struct pl_user *u, int64_t as_of)
{
    struct pl_buf snapshot = {0};
    struct pl_writer w;

    pl_writer_init(&w, PL_MSGPACK, &snapshot);
    pl_user__write(u, &w);
    h->bus_ops->compact(h->bus, pl_user_id(u), as_of,
                        (struct pl_str){(const char *)snapshot.data, snapshot.len});
    pl_buf_done(&snapshot);
}

static bool merge_snapshot(struct pl_user *u, struct pl_str bytes)
{
    struct pl_arena a = {0};
    const struct pl_value *record;

    bool ok = pl_decode(PL_MSGPACK, bytes.s, bytes.len, &a, &record, NULL) == PL_OK &&
              pl_user__merge(u, record);

    pl_metric_add(PL_S_BUS_MALFORMED_CHANGE, !ok);
    pl_arena_done(&a);
    return ok;
}

static int64_t *passed(struct pl_hub *h, struct pl_str user_id)
{
    return &h->passed[pl_map_hash(user_id.s, user_id.len) % PASSED];
}

void pl_fetch__doubt(struct pl_user *u)
{
    if (u->said->as_of < *passed(u->hub, pl_user_id(u))) {
        u->unsure = true;
        (void)fetch_get(u->hub, 'u', pl_user_id(u), 0, false);
    }
}

void pl_hub_bus_user(struct pl_hub *h, const struct pl_bus_user *from)
{
    struct pl_user *u = pl_hub_user_find(h, from->user_id);
    bool is_new = u == NULL;
    bool understood, before;
    char key[256];
    struct fetch *f = fetch_find(h, 'u', from->user_id, key);

    if (is_new && f != NULL && f->stale) {
        return; /* without a change that has passed: asked again */
    }
    if (from->snapshot.len == 0 && from->change_count == 0) {
        return; /* nothing is held: a record begins with what is said first */
    }
    u = pl_user__get(h, from->user_id);
    if (u == NULL) {
        return;
    }
    before = pl_user__hold(u);
    understood = from->snapshot.len == 0 || merge_snapshot(u, from->snapshot);
    for (size_t i = 0; i < from->change_count; i++) {
        pl_user__apply_change(h, from->changes[i].id, &from->changes[i].change);
    }
    if (from->as_of > u->said->as_of) {
        pl_user__say(u)->as_of = from->as_of;
    }
    pl_user__enforce(u);
    pl_user__release(u, before);
    if (is_new) {
        pl_fetch__doubt(u);
    }
    if (understood && from->change_count > CHANGES_MAX && h->bus_ops->compact != NULL) {
        compact(h, u, from->as_of);
    }
}

/* The record is whole now; or not, and then all are asked for again, this one among them. */
static void settle_user(struct pl_hub *h, struct pl_str user_id, int status)
{
    struct pl_user *u = pl_hub_user_find(h, user_id);

    if (u == NULL || !u->unsure) {
        return;
    }
    if (status != PL_OK) {
        h->changes_lost = true;
        return;
    }
    pl_user__release(u, false);
}

void pl_hub_bus_user_done(struct pl_hub *h, struct pl_str user_id, int status)
{
    char key[256];
    struct fetch *f = fetch_find(h, 'u', user_id, key);

    if (f == NULL) {
        return;
    }
    if (status == PL_OK && f->stale) {
        f->stale = false;
        ask(h, f);
        return;
    }
    settle_user(h, user_id, status);
    finish(h, f, status);
}

void pl_fetch__change_passed(struct pl_hub *h, int64_t id, struct pl_str user_id)
{
    char key[256];
    struct fetch *f = fetch_find(h, 'u', user_id, key);

    *passed(h, user_id) = id;
    if (f != NULL) {
        f->stale = true;
    }
}

void pl_fetch__reload(struct pl_hub *h)
{
    bool needed = h->changes_lost;

    h->changes_lost = false;
    if (!needed || h->bus_ops->user == NULL) {
        return;
    }
    for (size_t i = 0; i < PASSED; i++) {
        h->passed[i] = h->applied; /* of those who come later, too, a change may have been lost */
    }
    pl_map_foreach(n, &h->fetches) {
        struct fetch *f = pl_container_of(n, struct fetch, node);

        f->stale |= f->key[0] == 'u'; /* what comes may have been read before the loss */
    }
    pl_map_foreach(n, &h->users) {
        struct fetch *f =
            fetch_get(h, 'u', pl_user_id(pl_container_of(n, struct pl_user, node)), 0, false);

        h->reloading += !f->reload;
        f->reload = true;
    }
}

/* ---- queues ---- */

/* Another node had it meanwhile and has changed it. Its link here, if there is one, stays: it is the
 * newest. */
static int take_over(struct pl_queue *old, const struct pl_bus_queue *from, const uint8_t id[16])
{
    struct pl_hub *h = old->hub;
    struct pl_link *l = old->link;
    int64_t position = old->sent;
    int status;

    old->kept->generation = 0;
    if (l != NULL) {
        pl_queue__unlink(old);
    }
    pl_queue_end(old, PL_ERR_REPLACED);
    status = pl_kept__install(h, from, id);
    if (l != NULL && status == PL_OK) {
        struct pl_queue *q = pl_queue_find(h, from->queue_id);

        pl_queue_attach(q, l, position);
        pl_queue_writable(q);
    } else if (l != NULL) {
        l->ops->end(l, status);
    }
    return status;
}

static int settle_claim(struct pl_hub *h, struct pl_queue *q, const struct pl_bus_queue *from,
                        const uint8_t id[16])
{
    if (q == NULL) {
        return pl_kept__install(h, from, id);
    }
    if (q->kept->generation == 0 || from->saved_by > q->kept->generation) {
        return take_over(q, from, id);
    }
    pl_store__queue_proven(q, from->generation); /* what is kept is what we kept */
    pl_deliver__pull(q);
    return PL_OK;
}

/* Another node has it, for a client that came then (0: not known). `replaced` would stop the client here for good,
 * and one that came at the same time, as far as clocks tell, may well be the newer one: a client that goes from
 * node to node faster than the news of it. A poll gets an empty answer, at the position it has, and a WebSocket that
 * seems to be the newer one is told to come again; who has gone does not. */
static void give_up(struct pl_queue *q, int64_t came_ms)
{
    int status = PL_ERR_REPLACED;

    if (q->link != NULL && came_ms > 0 && q->link_since_ms + CLOCKS_DIFFER_MS >= came_ms) {
        if (q->link->ops->one_answer) {
            q->behind = true;
            pl_queue_answer_empty(q);
        } else if (q->link_since_ms >= came_ms) {
            status = PL_ERR_BUS;
        }
    }
    pl_store__disown(q, status);
}

/* What there is here of a queue that could not be claimed. came_ms: with PL_ERR_REPLACED, as above. */
static void settle_refusal(struct pl_queue *q, int status, int64_t came_ms)
{
    if (q == NULL) {
        return;
    }
    if (status == PL_ERR_BUS) {
        q->unproven = q->kept->generation > 0;
        pl_store__queue_changed(q); /* whose it is will be asked again, by saving it */
        return;
    }
    if (status == PL_ERR_QUEUE_NOT_FOUND) {
        pl_store__queue_proven(q, q->kept->generation); /* nobody has it: it is kept anew */
        pl_deliver__pull(q);
    } else if (status == PL_ERR_REPLACED) {
        give_up(q, came_ms);
    } else {
        pl_store__disown(q, PL_ERR_QUEUE_NOT_FOUND);
    }
}

/* To those who wait: what is not there is found missing. */
static int found_status(int status)
{
    return status == PL_ERR_QUEUE_NOT_FOUND || status == PL_ERR_DISCONNECTED ? PL_OK : status;
}

void pl_hub_bus_claimed(struct pl_hub *h, struct pl_str queue_id, int status,
                        const struct pl_bus_queue *from)
{
    char key[256];
    uint8_t id[16];
    struct fetch *f = fetch_find(h, 'q', queue_id, key);
    /* It goes by the clocks of nodes, and these may be wrong: who comes again is later. */
    bool again = status == PL_ERR_REPLACED;
    int64_t came_ms = again ? from->since_ms : 0;

    if (f == NULL || !pl_queue_id_parse(queue_id, id)) {
        return;
    }
    if (status == PL_OK && f->taken > from->generation) {
        status = PL_ERR_REPLACED;
        came_ms = f->taken_for_ms;
        again = came_ms > 0 && f->came_ms >= came_ms;
    } else if (status == PL_OK && f->ended) {
        h->bus_ops->drop(h->bus, from->queue_id, from->user_id, from->generation);
        status = PL_ERR_DISCONNECTED;
    }
    if (status == PL_OK) {
        status = settle_claim(h, pl_queue_find(h, queue_id), from, id);
    } else {
        settle_refusal(pl_queue_find(h, queue_id), status, came_ms);
    }
    finish(h, f, again ? PL_ERR_BUS : found_status(status));
}

void pl_fetch__reclaim(struct pl_queue *q)
{
    char id[PL_QUEUE_ID_SIZE];

    q->unproven = true;
    pl_queue_id(q, id);
    (void)fetch_get(q->hub, 'q', (struct pl_str){id, PL_QUEUE_ID_SIZE - 1}, q->link_since_ms, true);
}

void pl_hub_bus_taken(struct pl_hub *h, struct pl_str queue_id, int64_t generation, int64_t came_ms)
{
    char key[256];
    struct fetch *f = fetch_find(h, 'q', queue_id, key);
    struct pl_queue *q = pl_queue_find(h, queue_id);

    if (f != NULL && generation > f->taken) {
        f->taken = generation;
        f->taken_for_ms = came_ms;
    }
    if (q == NULL || q->kept->generation >= generation) {
        return;
    }
    pl_metric_add(PL_S_BUS_QUEUES_TAKEN, 1);
    if (q->link != NULL && came_ms > 0 && q->link_since_ms > came_ms + CLOCKS_DIFFER_MS) {
        pl_fetch__reclaim(q);
    } else {
        give_up(q, came_ms);
    }
}

void pl_hub_bus_end_queue(struct pl_hub *h, struct pl_str queue_id, int status)
{
    struct pl_queue *q = pl_queue_find(h, queue_id);
    char key[256];
    struct fetch *f = fetch_find(h, 'q', queue_id, key);

    if (f != NULL) {
        f->ended = true;
    }
    if (q != NULL) {
        pl_queue_end(q, status);
    }
}

void pl_hub_end_queue(struct pl_hub *h, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                      void *arg)
{
    struct pl_queue *q = pl_queue_find(h, queue_id);
    int64_t count = q != NULL;

    /* What is here may be somebody else's by now: the bus knows. */
    if (h->bus_ops->end_queue != NULL) {
        h->bus_ops->end_queue(h->bus, queue_id, status, done, arg);
    }
    if (q != NULL) {
        pl_queue_end(q, status);
    }
    if (h->bus_ops->end_queue == NULL) {
        done(arg, PL_OK, &count, 1);
    }
}

/* ---- life ---- */

void pl_fetch__init(struct pl_hub *h)
{
    pl_map_init(&h->fetches, fetch_eq);
}

void pl_fetch__done(struct pl_hub *h)
{
    while (h->fetches.count > 0) {
        struct pl_map_node *n = pl_map_first(&h->fetches);

        finish(h, pl_container_of(n, struct fetch, node), PL_ERR_DRAINING);
    }
    pl_map_done(&h->fetches);
}
