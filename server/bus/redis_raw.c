#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_priv.h"

/* Every node hears every raw message, in one order with the markers, for all come by one connection
 * and Redis executes one command at a time. So all nodes that heard the last marker give a message
 * the same key, each submits it, and the function takes the first and says "same" to the others.
 *
 * Order is kept since every node submits in the order of arrival: whichever is first with the first
 * of two messages is first with it before anybody is with the second. The node that was first last
 * time submits at once and the others a moment later, so that usually they only confirm. What is due
 * leaves together, which Redis takes or refuses as one, and the next when that is answered: what was
 * refused would else come after what was not. */

enum {
    COUNTS_MAX = 100000, /* different messages counted since a marker */
    COUNTS_EARLY = 50000,
    PENDING_MAX = 10000,
    PENDING_BYTES_MAX = 64 * 1048576,
    FOLLOW_MS = 50, /* a node that was not first waits so long, and up to so much longer */
    FOLLOW_SPREAD_MS = 200,
    NOT_UP_MS = 50,          /* looked at again, while commands are away */
    AGAIN_MS = 1000,         /* after a refusal */
    PATIENCE_MS = 5 * 60000, /* well within the life of the key */
    STOPPED_MS = 10000,      /* no beat for so long: the process was stopped */
    BEAT_MS = 1000,
    MARKER_MS = 60000,
    MARKER_SPREAD_MS = 15000,
    LOG_MS = 60000,
};

/* How many messages of these bytes came since the marker. */
struct counted {
    struct pl_map_node node;
    uint64_t hash;
    uint32_t count;
};

/* A message with its key: waiting, or submitted and not answered. */
struct pending {
    struct pl_list node;
    struct pl_redis_raw *raw; /* NULL: it is gone */
    bool is_change;
    uint64_t arrival; /* its place in the order */
    uint64_t arrived_ms, due_ms;
    char key[80];
    size_t len;
    char bytes[];
};

struct pl_redis_raw {
    struct pl_redis_bus *b;
    int64_t marker; /* 0: none was heard since Pub/Sub came, nothing is numbered */
    bool asked;     /* for a marker ahead of time */
    bool first;     /* the last message that was answered was sequenced by this node */
    struct pl_map counts;
    struct pl_list waiting;   /* in order of arrival, and so by due_ms */
    struct pl_list submitted; /* also one whose user is being looked up */
    bool looking_up;          /* nothing is submitted meanwhile: order */
    uint64_t arrivals;
    uint64_t not_before_ms; /* after a refusal nothing is submitted until then */
    size_t waiting_count, waiting_bytes;
    struct pl_timer submit, ask, beat;
    uint64_t beat_ms;
    uint64_t malformed_ms[2]; /* when it was logged; 0: never */
    uint64_t dropped_ms;      /* when that was logged last */
};

static void drain(struct pl_redis_raw *r);

/* ---- numbering ---- */

static bool counted_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct counted *c = pl_container_of(node, struct counted, node);

    return len == sizeof(c->hash) && memcmp(&c->hash, key, len) == 0;
}

static void forget_counts(struct pl_redis_raw *r)
{
    pl_map_foreach(n, &r->counts) {
        pl_map_remove(&r->counts, n);
        free(pl_container_of(n, struct counted, node));
    }
}

static void on_marker(void *arg, const struct redisReply *reply)
{
    struct pl_redis_bus *b = arg;

    if (!pl_redis__failed(b, reply)) {
        pl_redis__seen(b, pl_redis__number(reply));
    }
}

static void send_marker(struct pl_redis_raw *r)
{
    struct pl_redis_bus *b = r->b;

    if (!b->up) {
        return;
    }
    (void)pl_redis__ask_marker(b, on_marker, b);
}

static void arm_marker(struct pl_redis_raw *r)
{
    const struct pl_config *cfg = r->b->cfg;
    uint64_t jitter = pl_map_hash(&r->beat_ms, sizeof(r->beat_ms)) % MARKER_SPREAD_MS;

    if (cfg->bus_raw_events[0] != '\0' || cfg->bus_raw_changes[0] != '\0') {
        pl_timer_set(r->b->wheel, &r->ask, pl_redis__now_ms(r->b) + MARKER_MS + jitter);
    }
}

static void on_ask(struct pl_timer *t)
{
    struct pl_redis_raw *r = pl_container_of(t, struct pl_redis_raw, ask);

    send_marker(r);
    arm_marker(r);
}

void pl_redis__raw_marker(struct pl_redis_raw *r, int64_t id)
{
    forget_counts(r);
    r->marker = id;
    r->asked = false;
    arm_marker(r);
}

void pl_redis__raw_lost(struct pl_redis_raw *r)
{
    forget_counts(r);
    r->marker = 0;
}

/* Which one of these bytes it is, from 1. Beyond COUNTS_MAX different ones a new one is always the
 * first: on every node alike, and all that is lost is a second message of the same bytes. */
static uint32_t number(struct pl_redis_raw *r, uint64_t hash)
{
    struct pl_map_node *n = pl_map_find(&r->counts, &hash, sizeof(hash));
    struct counted *c;

    if (n != NULL) {
        return ++pl_container_of(n, struct counted, node)->count;
    }
    if (r->counts.count >= COUNTS_MAX) {
        return 1;
    }
    c = pl_alloc(sizeof(*c));
    c->hash = hash;
    c->count = 1;
    pl_map_insert(&r->counts, &c->node, &c->hash, sizeof(c->hash));
    if (r->counts.count >= COUNTS_EARLY && !r->asked) {
        r->asked = true;
        send_marker(r);
    }
    return 1;
}

/* What was in the socket while the process was stopped may have been sequenced so long ago that its
 * key is forgotten. */
static bool was_stopped(const struct pl_redis_raw *r)
{
    return pl_redis__now_ms(r->b) - r->beat_ms > STOPPED_MS;
}

static void on_beat(struct pl_timer *t)
{
    struct pl_redis_raw *r = pl_container_of(t, struct pl_redis_raw, beat);

    if (was_stopped(r)) {
        pl_redis__raw_lost(r);
        send_marker(r);
    }
    r->beat_ms = pl_redis__now_ms(r->b);
    pl_timer_set(r->b->wheel, t, r->beat_ms + BEAT_MS);
}

/* ---- what waits ---- */

static struct pending *pending_of(struct pl_list *n)
{
    return pl_container_of(n, struct pending, node);
}

static void drop(struct pending *p)
{
    pl_list_remove(&p->node);
    free(p);
}

/* When the oldest may be submitted. */
static uint64_t submit_ms(const struct pl_redis_raw *r)
{
    uint64_t due = pending_of(r->waiting.next)->due_ms;

    return due > r->not_before_ms ? due : r->not_before_ms;
}

static void arm_submit(struct pl_redis_raw *r)
{
    if (!pl_list_empty(&r->waiting) && pl_list_empty(&r->submitted)) {
        pl_timer_set(r->b->wheel, &r->submit, submit_ms(r));
    }
}

/* In its place in the order. */
static void wait_its_turn(struct pending *p)
{
    struct pl_redis_raw *r = p->raw;
    struct pl_list *at = r->waiting.prev;

    while (at != &r->waiting && pending_of(at)->arrival > p->arrival) {
        at = at->prev;
    }
    pl_list_append(at->next, &p->node);
    r->waiting_count++;
    r->waiting_bytes += p->len;
    arm_submit(r);
}

static uint64_t delay_ms(const struct pl_redis_raw *r)
{
    return r->first ? 0
                    : FOLLOW_MS + pl_hash_stable(r->b->node, strlen(r->b->node)) % FOLLOW_SPREAD_MS;
}

/* Never before one that came earlier, even if the delay has become shorter. */
static uint64_t due_ms(const struct pl_redis_raw *r)
{
    uint64_t due = pl_redis__now_ms(r->b) + delay_ms(r);

    if (!pl_list_empty(&r->waiting)) {
        uint64_t last = pending_of(r->waiting.prev)->due_ms;

        due = last > due ? last : due;
    }
    return due;
}

/* ---- answers ---- */

/* Once a minute, however many there are: the metrics count. */
static bool may_log(const struct pl_redis_raw *r, uint64_t *logged_ms)
{
    uint64_t now = pl_redis__now_ms(r->b);

    if (*logged_ms != 0 && now - *logged_ms < LOG_MS) {
        return false;
    }
    *logged_ms = now;
    return true;
}

static void give_up(struct pending *p, const char *why)
{
    pl_metric_add(PL_S_PUBLISH_ERRORS, 1);
    if (may_log(p->raw, &p->raw->dropped_ms)) {
        pl_log(PL_LOG_WARN, "bus_raw_dropped", PL_STR("reason", why),
               PL_STR("kind", p->is_change ? "change" : "event"));
    }
    drop(p);
}

static void again(struct pending *p)
{
    struct pl_redis_raw *r = p->raw;
    uint64_t now = pl_redis__now_ms(r->b);

    pl_list_remove(&p->node);
    if (now - p->arrived_ms > PATIENCE_MS) {
        give_up(p, "the bus did not take it in time");
    } else {
        r->not_before_ms = now + AGAIN_MS;
        wait_its_turn(p);
    }
}

static void on_done(void *arg, int status, bool same)
{
    struct pending *p = arg;
    struct pl_redis_raw *r = p->raw;

    if (r == NULL) {
        free(p);
        return;
    }
    if (status == PL_OK) {
        r->first = !same;
        if (!same && !p->is_change) {
            pl_metric_add(PL_S_PUBLISHED_RAW, 1);
        }
        drop(p);
    } else if (status == PL_ERR_IDEMPOTENCY) {
        give_up(p, "its key is taken");
    } else {
        again(p);
    }
    arm_submit(r);
}

static void malformed(struct pending *p, const char *why)
{
    struct pl_redis_raw *r = p->raw;

    pl_metric_add(p->is_change ? PL_S_BUS_MALFORMED_RAW_CHANGE : PL_S_BUS_MALFORMED_RAW_EVENT, 1);
    if (may_log(r, &r->malformed_ms[p->is_change])) {
        pl_log(PL_LOG_WARN, p->is_change ? "bus_raw_change_malformed" : "bus_raw_event_malformed",
               PL_STR("reason", why));
    }
    drop(p);
}

static struct pl_str key_of(const struct pending *p)
{
    return (struct pl_str){p->key, strlen(p->key)};
}

/* ---- events ---- */

static int parse_event(const struct pl_redis_raw *r, const struct pl_value *v,
                       struct pl_arena *arena, struct pl_bus_event *ret, struct pl_buf *body,
                       struct pl_request_error *err)
{
    struct pl_request_limits limits = pl_hub_limits(r->b->hub);
    struct pl_publish e;
    char now[PL_RFC3339_SIZE];
    int status = pl_parse_publish(v, false, arena, &limits, &e, err);

    if (status != PL_OK) {
        return status;
    }
    pl_format_rfc3339(pl_hub_unix_ms(r->b->hub), now);
    pl_event_write_body(&e, now, body);
    *ret = pl_bus_event_of(&e, (struct pl_str){(const char *)body->data, body->len});
    return PL_OK;
}

static void submit_event(struct pending *p, const struct pl_value *v, struct pl_arena *arena)
{
    struct pl_request_error err = {""};
    struct pl_buf body = {0};
    struct pl_bus_event e;
    int status = parse_event(p->raw, v, arena, &e, &body, &err);

    if (status == PL_OK) {
        pl_redis__publish_once(p->raw->b, &e, key_of(p), on_done, p);
    } else {
        malformed(p, err.text[0] != '\0' ? err.text : pl_status_text(status));
    }
    pl_buf_done(&body);
}

/* ---- changes ---- */

static void submit_membership(struct pending *p, struct pl_str user_id,
                              const struct pl_register *body)
{
    struct pl_redis_bus *b = p->raw->b;

    pl_redis__change_once(b,
                          &(struct pl_bus_change){
                              .kind = PL_CHANGE_UPDATE,
                              .user_id = user_id,
                              .membership = &body->membership,
                              .has_version = body->has_version,
                              .version = body->version,
                              .unix_ms = pl_hub_unix_ms(b->hub),
                          },
                          key_of(p), on_done, p);
}

/* One community more or less: {"user_id": 7, "action": "subscribe", "community_id": 42}. */
struct step {
    struct pl_str user_id;
    int64_t community;
    bool take;
};

static bool value_is(const struct pl_value *v, const char *text)
{
    return v != NULL && v->type == PL_STRING &&
           pl_str_eq(v->u.string, (struct pl_str){text, strlen(text)});
}

/* A message with the whole list is no step, whatever else it says. */
static bool is_step(const struct pl_value *v)
{
    return pl_value_get(v, "action") != NULL && pl_value_get(v, "community_ids") == NULL &&
           pl_value_get(v, "channels") == NULL;
}

static int parse_step(const struct pl_value *v, struct pl_arena *arena, struct step *ret,
                      const char **ret_why)
{
    const struct pl_value *action = pl_value_get(v, "action");
    const struct pl_value *community = pl_value_get(v, "community_id");

    ret->take = value_is(action, "unsubscribe");
    if (!ret->take && !value_is(action, "subscribe")) {
        *ret_why = "action: \"subscribe\" or \"unsubscribe\"";
        return PL_ERR_INVALID;
    }
    if (community == NULL || community->type != PL_INT_VALUE || community->u.integer < 1) {
        *ret_why = "community_id: an integer from 1";
        return PL_ERR_INVALID;
    }
    ret->community = community->u.integer;
    *ret_why = "user_id: an integer or a string of 1 to 128 bytes";
    return pl_parse_user_id(pl_value_get(v, "user_id"), arena, &ret->user_id);
}

/* The user's communities, and the other channels, as bodies of the API have them. */
static int held_by(const struct pl_user *u, struct pl_arena *arena, const struct pl_value **ret)
{
    struct pl_buf json = {0};
    struct pl_writer w;
    int status;

    pl_writer_init(&w, PL_JSON, &json);
    pl_write_map(&w, 3);
    pl_write_key(&w, "user_id");
    pl_user_write_id(u, &w);
    pl_write_key(&w, "community_ids");
    pl_user_write_communities(u, &w);
    pl_write_key(&w, "channels");
    pl_user_write_other_channels(u, &w);
    status = pl_decode(PL_JSON, json.data, json.len, arena, ret, NULL);
    pl_buf_done(&json);
    return status;
}

/* An array of integers without n, or with it at its end. */
static struct pl_value with_or_without(const struct pl_value *list, int64_t n, bool with,
                                       struct pl_arena *arena)
{
    size_t count = 0;
    struct pl_value ret = {.type = PL_ARRAY};

    ret.u.array.items = pl_arena_alloc(arena, (list->u.array.count + 1) * sizeof(*list));
    for (size_t i = 0; i < list->u.array.count; i++) {
        if (list->u.array.items[i].u.integer != n) {
            ret.u.array.items[count++] = list->u.array.items[i];
        }
    }
    if (with) {
        ret.u.array.items[count++] = (struct pl_value){.type = PL_INT_VALUE, .u.integer = n};
    }
    ret.u.array.count = count;
    return ret;
}

/* The whole membership after the step, as update-subscriptions would say it. */
static int take_step(const struct pl_redis_raw *r, const struct pl_user *u, const struct step *s,
                     struct pl_arena *arena, struct pl_register *ret, struct pl_request_error *err)
{
    struct pl_request_limits limits = pl_hub_limits(r->b->hub);
    const struct pl_value *before;
    struct pl_value after;
    int status = held_by(u, arena, &before);

    if (status != PL_OK) {
        return status;
    }
    after = *before;
    after.u.map.members = pl_arena_alloc(arena, 3 * sizeof(struct pl_member));
    memcpy(after.u.map.members, before->u.map.members, 3 * sizeof(struct pl_member));
    after.u.map.members[1].value =
        with_or_without(pl_value_get(before, "community_ids"), s->community, !s->take, arena);
    return pl_parse_register(&after, arena, &limits, ret, err);
}

static void submit_step(struct pending *p, const struct step *s, struct pl_arena *arena)
{
    struct pl_redis_raw *r = p->raw;
    const struct pl_user *u = pl_hub_user_find(r->b->hub, s->user_id);
    struct pl_request_error err = {""};
    struct pl_register body;

    /* Of whom nothing is held, the next register or token says everything. */
    if (u == NULL) {
        drop(p);
    } else if (take_step(r, u, s, arena, &body, &err) != PL_OK) {
        malformed(p, err.text);
    } else {
        submit_membership(p, s->user_id, &body);
    }
}

static int decode(const struct pending *p, struct pl_arena *arena, const struct pl_value **ret,
                  struct pl_decode_error *err)
{
    return pl_decode(PL_JSON, p->bytes, p->len, arena, ret, err);
}

static void on_user_read(void *arg, int status)
{
    struct pending *p = arg;
    struct pl_redis_raw *r = p->raw;
    struct pl_arena arena = {0};
    const struct pl_value *v;
    const char *why;
    struct step s;

    if (r == NULL) {
        free(p);
        return;
    }
    r->looking_up = false;
    /* It was understood before: if it is not now, memory is short. */
    if (status == PL_OK && decode(p, &arena, &v, NULL) == PL_OK &&
        parse_step(v, &arena, &s, &why) == PL_OK) {
        submit_step(p, &s, &arena);
    } else {
        again(p);
    }
    pl_arena_done(&arena);
    drain(r);
}

static void submit_change(struct pending *p, const struct pl_value *v, struct pl_arena *arena)
{
    struct pl_request_limits limits = pl_hub_limits(p->raw->b->hub);
    struct pl_request_error err = {""};
    struct pl_register body;
    const char *why = "";
    struct step s;
    int status;

    if (is_step(v)) {
        if (parse_step(v, arena, &s, &why) != PL_OK) {
            malformed(p, why);
            return;
        }
        p->raw->looking_up = true;
        pl_redis__user_read(p->raw->b, s.user_id, on_user_read, p);
        return;
    }
    status = pl_parse_register(v, arena, &limits, &body, &err);
    if (status == PL_OK) {
        submit_membership(p, body.user_id, &body);
    } else {
        malformed(p, err.text[0] != '\0' ? err.text : pl_status_text(status));
    }
}

/* ---- submitting ---- */

static void submit(struct pending *p)
{
    struct pl_redis_raw *r = p->raw;
    struct pl_decode_error err = {0, ""};
    struct pl_arena arena = {0};
    const struct pl_value *v;

    r->waiting_count--;
    r->waiting_bytes -= p->len;
    pl_list_remove(&p->node);
    pl_list_append(&r->submitted, &p->node);
    if (pl_redis__now_ms(r->b) - p->arrived_ms > PATIENCE_MS) {
        give_up(p, "the bus did not take it in time");
    } else if (decode(p, &arena, &v, &err) != PL_OK) {
        malformed(p, err.text);
    } else if (v->type != PL_MAP) {
        malformed(p, "a JSON object is expected");
    } else if (p->is_change) {
        submit_change(p, v, &arena);
    } else {
        submit_event(p, v, &arena);
    }
    pl_arena_done(&arena);
}

/* Submits what is due, in order. */
static void drain(struct pl_redis_raw *r)
{
    uint64_t now = pl_redis__now_ms(r->b);

    if (!pl_list_empty(&r->submitted)) {
        return;
    }
    while (r->b->up && !r->looking_up && !pl_list_empty(&r->waiting) && submit_ms(r) <= now) {
        submit(pending_of(r->waiting.next));
    }
    if (r->b->up) {
        arm_submit(r);
    } else {
        pl_timer_set(r->b->wheel, &r->submit, now + NOT_UP_MS);
    }
}

static void on_submit(struct pl_timer *t)
{
    drain(pl_container_of(t, struct pl_redis_raw, submit));
}

/* ---- arrival ---- */

static struct pending *pending_new(struct pl_redis_raw *r, struct pl_str message)
{
    struct pending *p = pl_alloc(sizeof(*p) + message.len);

    pl_list_init(&p->node);
    p->raw = r;
    p->arrival = ++r->arrivals;
    p->arrived_ms = pl_redis__now_ms(r->b);
    p->len = message.len;
    if (message.len > 0) {
        memcpy(p->bytes, message.s, message.len);
    }
    return p;
}

static bool is_full(const struct pl_redis_raw *r)
{
    return r->waiting_count >= PENDING_MAX || r->waiting_bytes >= PENDING_BYTES_MAX;
}

/* Those that wait longest need not wait for their time. */
static bool has_room(struct pl_redis_raw *r)
{
    if (is_full(r) && r->b->up && !r->looking_up) {
        submit(pending_of(r->waiting.next)); /* which may be put back: the bus is full, too */
    }
    return !is_full(r);
}

static bool is_channel(struct pl_str channel, const char *name)
{
    return name[0] != '\0' && channel.len == strlen(name) &&
           memcmp(channel.s, name, channel.len) == 0;
}

void pl_redis__raw_message(struct pl_redis_raw *r, struct pl_str channel, struct pl_str message)
{
    const struct pl_config *cfg = r->b->cfg;
    bool is_change = is_channel(channel, cfg->bus_raw_changes);
    uint64_t hash = pl_hash_stable(message.s, message.len);
    struct pending *p;

    if (was_stopped(r)) {
        pl_redis__raw_lost(r);
    }
    if (r->marker == 0 || (!is_change && !is_channel(channel, cfg->bus_raw_events))) {
        return;
    }
    p = pending_new(r, message);
    p->is_change = is_change;
    (void)snprintf(p->key, sizeof(p->key), "raw:%" PRId64 ":%016" PRIx64 ":%" PRIu32, r->marker,
                   hash, number(r, hash));
    if (message.len > (size_t)cfg->limits_body_bytes) {
        malformed(p, "it is larger than limits.body_bytes");
    } else if (!has_room(r)) {
        give_up(p, "too many wait for the bus");
    } else {
        p->due_ms = due_ms(r);
        wait_its_turn(p);
    }
}

/* ---- life ---- */

struct pl_redis_raw *pl_redis__raw_new(struct pl_redis_bus *b)
{
    struct pl_redis_raw *r = pl_alloc(sizeof(*r));

    r->b = b;
    pl_map_init(&r->counts, counted_eq);
    pl_list_init(&r->waiting);
    pl_list_init(&r->submitted);
    pl_timer_init(&r->submit, on_submit);
    pl_timer_init(&r->ask, on_ask);
    pl_timer_init(&r->beat, on_beat);
    r->beat_ms = pl_redis__now_ms(b);
    pl_timer_set(b->wheel, &r->beat, r->beat_ms + BEAT_MS);
    arm_marker(r);
    return r;
}

void pl_redis__raw_free(struct pl_redis_raw *r)
{
    if (r == NULL) {
        return;
    }
    pl_timer_cancel(r->b->wheel, &r->submit);
    pl_timer_cancel(r->b->wheel, &r->ask);
    pl_timer_cancel(r->b->wheel, &r->beat);
    forget_counts(r);
    pl_map_done(&r->counts);
    pl_list_foreach_safe(n, &r->waiting) {
        drop(pending_of(n));
    }
    /* Their answers still come, from redis_ask.c. */
    pl_list_foreach_safe(n, &r->submitted) {
        pl_list_remove(n);
        pending_of(n)->raw = NULL;
    }
    free(r);
}
