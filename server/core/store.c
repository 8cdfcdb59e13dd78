/* Queues and user records on a bus that keeps them, so that any node can go on with any client.
 *
 * A queue belongs to one node at a time. Its owner saves it when it is made, when what it is has
 * changed (at most once per FLUSH_MS, however much has), and every half of queue.ttl as a sign of
 * life; never because of a message. Whoever is asked for a queue it does not have claims it. */
#include <stdlib.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

enum {
    FLUSH_MS = 16,
    CHUNK = 128, /* queues in one save */
};

/* Somebody waits until the queue, as it was then, is kept. */
struct pl_saver {
    struct pl_saver *next;
    pl_hub_ready_fn *done;
    void *arg;
    bool under_way; /* the save that was begun since has it */
};

bool pl_store__is_kept(const struct pl_hub *h)
{
    return h->bus_ops->claim != NULL;
}

static bool is_kept(const struct pl_queue *q)
{
    return q->has_kept && q->kept->generation > 0;
}

/* ---- saving ---- */

struct chunk {
    struct pl_bus_queue queues[CHUNK];
    struct pl_buf states[CHUNK];
    char ids[CHUNK][PL_QUEUE_ID_SIZE];
    size_t count;
};

static void chunk_add(struct chunk *c, struct pl_queue *q)
{
    size_t i = c->count++;

    pl_queue_id(q, c->ids[i]);
    if (q->dirty) {
        pl_kept__write(q, &c->states[i]);
    }
    c->queues[i] = (struct pl_bus_queue){
        .queue_id = {c->ids[i], PL_QUEUE_ID_SIZE - 1},
        .user_id = pl_user_id(q->user),
        .generation = q->kept->generation,
        .position = q->acked,
        .state = {(const char *)c->states[i].data, c->states[i].len},
        .transport = pl_transport_name(pl_queue_last_transport(q)),
        .since_ms = q->link_since_ms,
    };
    q->dirty = false;
    q->saving = true;
    q->hub->saves_under_way++;
    for (struct pl_saver *s = q->kept->savers; s != NULL; s = s->next) {
        s->under_way = true;
    }
}

static void chunk_send(struct pl_hub *h, struct chunk *c)
{
    if (c->count > 0) {
        h->bus_ops->save(h->bus, c->queues, c->count);
    }
    for (size_t i = 0; i < c->count; i++) {
        pl_buf_done(&c->states[i]);
    }
    c->count = 0;
}

static void flush(struct pl_hub *h)
{
    struct chunk *c;

    if (pl_list_empty(&h->unsaved) || h->bus_ops->save == NULL) {
        return;
    }
    c = pl_alloc(sizeof(*c));
    while (!pl_list_empty(&h->unsaved)) {
        struct pl_queue *q = pl_container_of(h->unsaved.next, struct pl_queue, kept[0].save);

        pl_list_remove(&q->kept->save);
        chunk_add(c, q);
        if (c->count == CHUNK) {
            chunk_send(h, c);
        }
    }
    chunk_send(h, c);
    free(c);
}

static void on_flush(struct pl_timer *t)
{
    flush(pl_container_of(t, struct pl_hub, flush));
}

/* Into the list of those to be saved, unless a save is under way: its answer looks again. */
static void to_unsaved(struct pl_queue *q, uint64_t in_ms)
{
    struct pl_hub *h = q->hub;

    if (q->saving) {
        return;
    }
    pl_list_remove(&q->kept->save);
    pl_list_append(&h->unsaved, &q->kept->save);
    if (!pl_timer_is_set(&h->flush) || h->flush.due_ms > h->mono_ms + in_ms) {
        pl_timer_set(h->wheel, &h->flush, h->mono_ms + in_ms);
    }
}

/* Somebody waits: at once, or together with others behind the saves under way. */
static void flush_urgent(struct pl_hub *h)
{
    h->save_urgent = h->saves_under_way > 0;
    if (!h->save_urgent) {
        flush(h);
    }
}

void pl_store__queue_made(struct pl_queue *q)
{
    if (q->has_kept) {
        q->kept->generation = 1;
        q->dirty = true;
        to_unsaved(q, FLUSH_MS);
    }
}

void pl_store__queue_changed(struct pl_queue *q)
{
    if (is_kept(q)) {
        q->dirty = true;
        to_unsaved(q, FLUSH_MS);
    }
}

/* Tells those that the save of now was for (all: every one). */
static void tell_savers(struct pl_queue *q, int status, bool all)
{
    struct pl_saver **at = &q->kept->savers;
    struct pl_saver *told = NULL;

    while (*at != NULL) {
        struct pl_saver *s = *at;

        if (all || s->under_way) {
            *at = s->next;
            s->next = told;
            told = s;
        } else {
            at = &s->next;
        }
    }
    while (told != NULL) {
        struct pl_saver *s = told;

        told = s->next;
        s->done(s->arg, status);
        free(s);
    }
}

void pl_store__queue_ended(struct pl_queue *q)
{
    struct pl_hub *h = q->hub;
    char id[PL_QUEUE_ID_SIZE];

    if (!q->has_kept) {
        return;
    }
    pl_list_remove(&q->kept->save);
    if (q->kept->generation > 0 && h->bus_ops->drop != NULL) {
        pl_queue_id(q, id);
        h->bus_ops->drop(h->bus, (struct pl_str){id, PL_QUEUE_ID_SIZE - 1}, pl_user_id(q->user),
                         q->kept->generation);
    }
    tell_savers(q, PL_ERR_QUEUE_NOT_FOUND, true);
}

void pl_store__queue_proven(struct pl_queue *q, int64_t generation)
{
    q->kept->generation = generation;
    q->unproven = false;
    q->saving = false;
    q->dirty = true;
    to_unsaved(q, FLUSH_MS);
}

void pl_queue_when_saved(struct pl_queue *q, pl_hub_ready_fn *done, void *arg)
{
    struct pl_saver *s;

    if (!is_kept(q)) {
        done(arg, PL_OK);
        return;
    }
    s = pl_alloc(sizeof(*s));
    *s = (struct pl_saver){q->kept->savers, done, arg, false};
    q->kept->savers = s;
    q->dirty = true;
    to_unsaved(q, FLUSH_MS);
    flush_urgent(q->hub);
}

static struct pl_queue *find_generation(struct pl_hub *h, struct pl_str queue_id,
                                        int64_t generation)
{
    struct pl_queue *q = pl_queue_find(h, queue_id);

    return q != NULL && q->kept->generation == generation ? q : NULL;
}

void pl_store__disown(struct pl_queue *q, int status)
{
    q->kept->generation = 0;
    pl_queue_end(q, status);
}

static void settle_save(struct pl_hub *h, struct pl_str queue_id, int64_t generation, int status)
{
    struct pl_queue *q = find_generation(h, queue_id, generation);

    if (q == NULL || !q->saving) {
        return;
    }
    q->saving = false;
    if (status == PL_ERR_REPLACED) {
        pl_metric_add(PL_S_BUS_QUEUES_STALE, 1);
        if (q->link == NULL) {
            pl_store__disown(q, PL_ERR_REPLACED);
        } else {
            pl_fetch__reclaim(q);
        }
        return;
    }
    /* A save that was begun before the doubt proves nothing; a bus that refuses to write is not one that
     * says no. */
    q->unproven &= q->dirty && status == PL_OK;
    if (status == PL_OK) {
        pl_metric_add(PL_S_BUS_QUEUES_SAVED, 1);
        q->kept->saved_ms = h->mono_ms;
        pl_list_append(&h->saved, &q->kept->save);
    } else {
        q->dirty = true;
        pl_list_append(&h->unsaved, &q->kept->save); /* the sweep tries again */
    }
    tell_savers(q, status, status != PL_OK);
    q = find_generation(h, queue_id, generation);
    if (q == NULL) {
        return;
    }
    if (q->dirty && status == PL_OK) {
        to_unsaved(q, FLUSH_MS);
        h->save_urgent |= q->kept->savers != NULL || q->unproven;
    }
    pl_deliver__pull(q);
}

void pl_hub_bus_saved(struct pl_hub *h, struct pl_str queue_id, int64_t generation, int status)
{
    h->saves_under_way -= h->saves_under_way > 0;
    settle_save(h, queue_id, generation, status);
    if (h->saves_under_way == 0 && h->save_urgent) {
        h->save_urgent = false;
        flush(h);
    }
}

void pl_hub_save_all(struct pl_hub *h)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        if (is_kept(q)) {
            q->dirty = true;
            to_unsaved(q, 0);
        }
    }
    flush(h);
}

static void ask_again(struct pl_hub *h)
{
    h->ask_again = false;
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        if (q->link != NULL && q->sent > h->newest && !q->asking) {
            pl_queue__ask_if_ahead(q);
        }
    }
}

void pl_store__sweep(struct pl_hub *h)
{
    uint64_t half_ms = (uint64_t)h->cfg->queue_ttl / 2;

    if (h->paused) {
        return;
    }
    pl_list_foreach_safe(n, &h->saved) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, kept[0].save);

        if (h->mono_ms - q->kept->saved_ms < half_ms) {
            break;
        }
        to_unsaved(q, 0);
    }
    flush(h);
    if (h->ask_again && pl_store__is_kept(h)) {
        ask_again(h);
    }
    if (h->changes_lost && h->reloading == 0) {
        pl_fetch__reload(h);
        pl_stream__go_on(h); /* there may be no record left to wait for */
    }
}

void pl_store__resume(struct pl_hub *h)
{
    pl_map_foreach(n, &h->queues) {
        struct pl_queue *q = pl_container_of(n, struct pl_queue, node);

        q->unproven = is_kept(q);
        if (q->link != NULL && q->sent > h->applied && !q->asking) {
            pl_queue__ask_if_ahead(q);
        }
        if (!q->unproven) {
            pl_deliver__pull(q); /* the others, when they are saved */
        }
    }
    pl_hub_save_all(h);
}

/* ---- life ---- */

void pl_store__init(struct pl_hub *h)
{
    pl_list_init(&h->unsaved);
    pl_list_init(&h->saved);
    pl_timer_init(&h->flush, on_flush);
}

void pl_store__done(struct pl_hub *h)
{
    pl_timer_cancel(h->wheel, &h->flush);
}
