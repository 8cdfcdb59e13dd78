#include "server/core/explain.h"

#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/core/queue_priv.h"

/* What is said of a queue, or of the whole question. */
struct verdict {
    const char *word;
    int rule; /* of docs/delivery.md */
    const char *why;
};

static const struct verdict by_denied[] = {
    [PL_DENIED_NOT] = {"due", 3, "the event is for this queue, by this channel"},
    [PL_DENIED_SINCE] = {"denied", 8, "the channel is granted since an id above the event's"},
    [PL_DENIED_SUBSCRIBERS] = {"denied", 3, "the user is not among the event's subscriber_ids"},
    [PL_DENIED_NARROWED] =
        {"denied", 3,
         "the queue is narrowed to articles of this channel, and the event's was "
         "not among them then"},
    [PL_DENIED_USER] = {"denied", 3, "the user is the event's exclude_user_id"},
    [PL_DENIED_QUEUE] = {"denied", 3, "the queue is the event's exclude_queue_id"},
};

static const struct verdict not_granted = {"denied", 3,
                                           "none of the event's channels is granted to the user"};
static const struct verdict acknowledged = {"acknowledged", 7,
                                            "the client said that it has everything up to here"};
static const struct verdict began_later = {
    "before", 8, "the queue's position was past the event when the queue, or the grant, began"};
static const struct verdict sent = {
    "sent", 7,
    "it went out to the client, or a catchup_required that went past it; not acknowledged"};
static const struct verdict catching_up = {"catchup", 6,
                                           "catchup_required is the next the client is told"};
static const struct verdict bus_away = {
    "waiting", 9,
    "nothing is delivered while the bus is away, or the user's rights are being read"};
static const struct verdict opening = {"waiting", 5,
                                       "a channel of the queue is being opened or read again"};
static const struct verdict no_link = {"waiting", 4,
                                       "the client is not connected, and polls nothing now"};
static const struct verdict behind = {
    "waiting", 4,
    "the client's connection takes no bytes now, its batch window is not over, or the log is being "
    "read for it"};

static const struct verdict no_event = {
    "unknown", 6, "neither a ring here nor a log that was looked into holds the event"};
static const struct verdict no_such_id = {"unknown", 1, "no event has this id yet"};
static const struct verdict other_epoch = {
    "unknown", 6, "the event is from before the server's memory, or history forked after it"};
static const struct verdict no_queue = {
    "no_queue", 2, "the user has no queue on this node; what it would get is in channels"};
static const struct verdict see_queues = {"see_queues", 3, "each queue has its own verdict"};

/* ---- the event, and where it is ---- */

struct place {
    struct pl_str channel;
    struct pl_channel *known; /* on this node; NULL: nobody here needs it */
    bool in_ring;
};

struct answer {
    struct pl_hub *h;
    const struct pl_explain *x;
    struct pl_user *user;   /* NULL: no record */
    struct pl_event *event; /* NULL: not found */
    struct place *places;
    size_t count, cap;
};

static struct pl_event *in_ring(const struct pl_channel *c, int64_t id)
{
    const struct pl_ring_entry *entry;
    uint32_t n;

    if (id <= c->floor || id > c->last_id || c->ring_count == 0) {
        return NULL;
    }
    n = pl_channel__after(c, id - 1);
    entry = n < c->ring_count ? pl_channel__entry(c, n) : NULL;
    return entry != NULL && entry->event->id == id ? entry->event : NULL;
}

static void add_place(struct answer *a, const struct place *p)
{
    if (a->count == a->cap) {
        a->cap = a->cap == 0 ? 8 : a->cap * 2;
        a->places = pl_realloc(a->places, a->cap * sizeof(*a->places));
    }
    a->places[a->count++] = *p;
}

/* A log says where else the event is; a ring only that it is there. So without a log every ring is
 * looked into: an operator's question may cost that. */
static void find_in_rings(struct answer *a)
{
    pl_map_foreach(n, &a->h->channels) {
        struct pl_channel *c = pl_container_of(n, struct pl_channel, node);
        struct pl_event *e = in_ring(c, a->x->event_id);

        if (e != NULL) {
            a->event = a->event != NULL ? a->event : pl_event__ref(e);
            add_place(a, &(struct place){pl_channel__name(c), c, true});
        }
    }
}

static void find_in_log(struct answer *a)
{
    const struct pl_bus_event *e = a->x->logged;

    a->event = pl_event__new(a->x->event_id, e);
    for (size_t i = 0; i < e->channel_count; i++) {
        struct pl_channel *c = pl_channel__find(a->h, e->channels[i]);

        add_place(
            a, &(struct place){e->channels[i], c, c != NULL && in_ring(c, a->x->event_id) != NULL});
    }
}

static const struct pl_grant *grant_of(const struct answer *a, const struct place *p)
{
    const struct pl_grant *g =
        a->user != NULL && p->known != NULL ? pl_user__grant(a->user, p->known) : NULL;

    return g != NULL && g->standing ? g : NULL;
}

/* ---- writing ---- */

static void write_int(struct pl_writer *w, const char *key, int64_t n)
{
    pl_write_key(w, key);
    pl_write_int(w, n);
}

static void write_flag(struct pl_writer *w, const char *key, bool b)
{
    pl_write_key(w, key);
    pl_write_bool(w, b);
}

static void write_text(struct pl_writer *w, const char *key, const char *s)
{
    pl_write_key(w, key);
    pl_write_cstr(w, s);
}

enum {
    VERDICT_MEMBERS = 3
};

static void write_verdict(struct pl_writer *w, const struct verdict *v)
{
    write_text(w, "verdict", v->word);
    write_int(w, "rule", v->rule);
    write_text(w, "why", v->why);
}

static void write_event(const struct answer *a, struct pl_writer *w)
{
    const struct pl_event *e = a->event;
    char given[PL_RFC3339_SIZE];

    pl_write_key(w, "event");
    if (e == NULL) {
        pl_write_null(w);
        return;
    }
    pl_format_rfc3339(pl_event__given_ms(e), given);
    pl_write_map(w, 4 + (e->topic.len > 0) + e->has_subscribers);
    write_text(w, "found", a->x->logged != NULL ? "log" : "ring");
    write_text(w, "given", given);
    if (e->topic.len > 0) {
        pl_write_key(w, "article_id");
        pl_write_str(w, e->topic);
    }
    if (e->has_subscribers) {
        write_int(w, "subscribers", (int64_t)(e->number_count + e->name_count));
    }
    write_flag(w, "excludes_a_user", e->exclude_user.len > 0);
    write_flag(w, "excludes_a_queue", e->has_exclude_queue);
}

static void write_channels(const struct answer *a, struct pl_writer *w)
{
    pl_write_key(w, "channels");
    pl_write_array(w, a->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct place *p = &a->places[i];
        const struct pl_grant *g = grant_of(a, p);

        pl_write_map(w, 3 + (g != NULL));
        pl_write_key(w, "channel");
        pl_write_str(w, p->channel);
        write_flag(w, "in_ring", p->in_ring);
        write_flag(w, "granted", g != NULL);
        if (g != NULL) {
            write_int(w, "since", g->since);
        }
    }
}

static void write_user(const struct answer *a, struct pl_writer *w)
{
    pl_write_key(w, "user");
    if (a->user == NULL) {
        pl_write_null(w);
        return;
    }
    pl_write_map(w, 3);
    write_int(w, "grants", (int64_t)pl_user_channel_count(a->user));
    write_flag(w, "blocked", pl_user_is_blocked(a->h, a->user));
    write_int(w, "queues", (int64_t)pl_user_queue_count(a->user));
}

/* ---- a queue ---- */

static const struct pl_sub *sub_of(const struct pl_queue *q, const struct place *p)
{
    for (uint32_t i = 0; p->known != NULL && i < q->sub_count; i++) {
        if (q->subs[i].channel == p->known) {
            return &q->subs[i];
        }
    }
    return NULL;
}

/* Of one that the event is for. */
static const struct verdict *progress(const struct pl_queue *q, const struct pl_sub *s, int64_t id)
{
    if (id <= s->joined) {
        return &began_later;
    }
    if (id <= q->acked) {
        return &acknowledged;
    }
    if (q->catchup != PL_CATCHUP_NONE) {
        return &catching_up;
    }
    if (id <= q->sent && (s->pending == 0 || s->pending > id)) {
        return &sent;
    }
    if (q->unproven || q->user->unsure || pl_stream__is_held(q->hub)) {
        return &bus_away;
    }
    if (q->held > 0) {
        return &opening;
    }
    return q->link == NULL ? &no_link : &behind;
}

/* The channel by which it is for the queue decides; without one, the first that says why not. */
static const struct verdict *judge(const struct answer *a, const struct pl_queue *q)
{
    const struct verdict *found = &not_granted;

    for (size_t i = 0; i < a->count; i++) {
        const struct pl_sub *s = sub_of(q, &a->places[i]);
        enum pl_denied why = s != NULL ? pl_deliver__denied(a->event, s) : PL_DENIED_NOT;

        if (s != NULL && why == PL_DENIED_NOT) {
            return progress(q, s, a->event->id);
        }
        if (s != NULL && found == &not_granted) {
            found = &by_denied[why];
        }
    }
    return found;
}

static void write_sub(struct pl_writer *w, const struct pl_event *e, const struct pl_sub *s)
{
    bool narrowed = pl_sub__is_narrowed(s);

    pl_write_map(w, 4 + narrowed + VERDICT_MEMBERS);
    pl_write_key(w, "channel");
    pl_write_str(w, pl_channel__name(s->channel));
    write_int(w, "since", s->since);
    write_int(w, "joined", s->joined);
    write_int(w, "last_delivered", s->last);
    if (narrowed) {
        pl_write_key(w, "articles");
        pl_write_array(w, pl_sub__topic_count(s));
        for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
            const struct pl_topic *t = s->narrowed->topics[i].topic;

            pl_write_str(w, (struct pl_str){t->name, t->len});
        }
    }
    write_verdict(w, &by_denied[pl_deliver__denied(e, s)]);
}

static void write_subs(const struct answer *a, const struct pl_queue *q, struct pl_writer *w)
{
    size_t count = 0;

    for (size_t i = 0; i < a->count; i++) {
        count += sub_of(q, &a->places[i]) != NULL;
    }
    pl_write_key(w, "channels");
    pl_write_array(w, count);
    for (size_t i = 0; i < a->count; i++) {
        const struct pl_sub *s = sub_of(q, &a->places[i]);

        if (s != NULL) {
            write_sub(w, a->event, s);
        }
    }
}

static void write_queue(const struct answer *a, const struct pl_queue *q, struct pl_writer *w)
{
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    pl_write_map(w, 5 + VERDICT_MEMBERS);
    write_text(w, "queue_id", id);
    write_text(w, "transport", pl_transport_name(pl_queue_transport(q)));
    write_int(w, "acknowledged", q->acked);
    write_int(w, "sent", q->sent);
    write_subs(a, q, w);
    write_verdict(w, judge(a, q));
}

static void write_queues(const struct answer *a, struct pl_writer *w)
{
    size_t count = a->event != NULL && a->user != NULL ? pl_user_queue_count(a->user) : 0;

    pl_write_key(w, "queues");
    pl_write_array(w, count);
    if (count > 0) {
        pl_list_foreach(n, &a->user->queues) {
            write_queue(a, pl_queue__of_user_node(n), w);
        }
    }
}

/* ---- the whole ---- */

static const struct verdict *overall(const struct answer *a)
{
    bool any = false;

    if (a->event == NULL) {
        return a->x->event_id > a->h->newest         ? &no_such_id
               : a->x->event_id <= a->h->epoch_start ? &other_epoch
                                                     : &no_event;
    }
    for (size_t i = 0; i < a->count; i++) {
        any |= grant_of(a, &a->places[i]) != NULL;
    }
    if (!any) {
        return &not_granted;
    }
    return pl_user_queue_count(a->user) == 0 ? &no_queue : &see_queues;
}

void pl_hub_explain(struct pl_hub *h, const struct pl_explain *x, struct pl_writer *w)
{
    struct answer a = {.h = h, .x = x, .user = pl_hub_user_find(h, x->user_id)};

    if (x->logged != NULL) {
        find_in_log(&a);
    } else {
        find_in_rings(&a);
    }
    write_event(&a, w);
    write_channels(&a, w);
    write_user(&a, w);
    write_queues(&a, w);
    write_verdict(w, overall(&a));
    free(a.places);
    pl_event__unref(a.event);
}

size_t pl_hub_explain_channels(struct pl_hub *h, struct pl_str user_id, struct pl_str *ret,
                               size_t max)
{
    const struct pl_user *u = pl_hub_user_find(h, user_id);
    size_t count = 0;

    for (uint32_t i = 0; u != NULL && i < u->grant_count && count < max; i++) {
        if (u->grants[i].standing) {
            ret[count++] = pl_channel__name(u->grants[i].channel);
        }
    }
    return count;
}
