#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/bus/redis_ask_priv.h"

enum {
    KEPT_MAX = 10000,              /* publishes and changes without an answer */
    KEPT_BYTES_MAX = 64 * 1048576, /* and what they weigh */
    LOG_ENTRIES_MAX = 20000,       /* of one publish: events times their channels */
    OWN_KEY_TTL_MS = 60000,
    ONCE_TTL_MS = 600000,
};

static struct pl_redis_call *call_of(struct pl_list *n)
{
    return pl_container_of(n, struct pl_redis_call, node);
}

/* ---- waiting for replicas ---- */

static void send_wait(struct pl_redis_ask *a);

/* The publishes that needed this WAIT. */
static void settle(struct pl_redis_ask *a, uint64_t wait, int status, bool lost)
{
    struct pl_list now;

    pl_list_init(&now);
    pl_list_foreach_safe(n, &a->replicated) {
        if (call_of(n)->u.publish.wait <= wait || lost) {
            pl_list_remove(n);
            pl_list_append(&now, n);
        }
    }
    while (!pl_list_empty(&now)) {
        struct pl_redis_call *c = call_of(now.next);

        pl_list_remove(&c->node);
        if (lost) {
            pl_redis__call_park(c);
            continue;
        }
        c->done(c->arg, status, c->u.publish.ids, status == PL_OK ? c->u.publish.count : 0);
        pl_redis__call_free(c);
    }
}

static void on_waited(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_redis_ask *a = c->ask;
    int64_t has = r != NULL ? pl_redis__number(r) : -1;
    uint64_t wait = a->waits;

    a->waiting = false;
    settle(a, wait, has >= c->u.replicas ? PL_OK : PL_ERR_BUS, c->lost);
    if (!c->lost && !a->waiting && a->waits_wanted > a->waits) {
        send_wait(a);
        if (!a->waiting) {
            settle(a, 0, PL_ERR_BUS, true);
        }
    }
}

/* One at a time, since Redis answers nothing behind it until it is over: what is published
 * meanwhile shares the next one. */
static void send_wait(struct pl_redis_ask *a)
{
    struct pl_redis_call *c = pl_redis__call_new(a, on_waited);
    int64_t replicas = a->b->cfg->bus_wait_replicas;

    c->u.replicas = replicas > 0 ? replicas : 1;
    pl_redis_arg_cstr(&c->args, "WAIT");
    pl_redis_arg_int(&c->args, c->u.replicas);
    pl_redis_arg_int(&c->args, a->b->cfg->bus_timeout / 3);
    a->waits++;
    a->waiting = pl_redis__call_send(c);
    if (!a->waiting) {
        pl_redis__call_free(c);
    }
}

/* A publish that was just sent is answered when bus.wait_replicas have it. */
static void wait_if_asked(struct pl_redis_call *c)
{
    struct pl_redis_ask *a = c->ask;

    c->u.publish.wait = 0;
    if (a->b->cfg->bus_wait_replicas > 0) {
        c->u.publish.wait = a->waits_wanted = a->waits + 1;
        if (!a->waiting) {
            send_wait(a);
        }
    }
}

/* ---- publishing ---- */

static void remember(struct pl_redis_ask *a, const struct pl_redis_call *c, struct pl_str tag)
{
    struct pl_redis_answered *m = &a->marks[a->mark_next++ % PL_REDIS_MARKS];

    free(m->channel);
    m->channel = pl_strndup(c->u.publish.channel.s, c->u.publish.channel.len);
    m->channel_len = c->u.publish.channel.len;
    m->id = c->u.publish.ids[c->u.publish.count - 1];
    m->epoch = a->b->epoch;
    tag.len = tag.len < sizeof(m->tag) ? tag.len : 0;
    memcpy(m->tag, tag.s, tag.len);
    m->tag[tag.len] = '\0';
}

size_t pl_redis__ask_marks(const struct pl_redis_ask *a, struct pl_redis_mark *marks, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < PL_REDIS_MARKS && count < max; i++) {
        const struct pl_redis_answered *m = &a->marks[i];

        /* What an epoch has ended may be gone, and that has been told. */
        if (m->channel != NULL && m->epoch == a->b->epoch) {
            marks[count++] = (struct pl_redis_mark){
                {m->channel, m->channel_len}, m->id, {m->tag, strlen(m->tag)}};
        }
    }
    return count;
}

void pl_redis__forget_marks(struct pl_redis_ask *a)
{
    for (size_t i = 0; i < PL_REDIS_MARKS; i++) {
        free(a->marks[i].channel);
    }
}

/* PL_OK with the ids set. */
static int read_outcome(const struct redisReply *r, size_t count, int64_t *ids, bool *ret_same)
{
    struct pl_str word;

    if (r == NULL || r->type != REDIS_REPLY_ARRAY || r->elements == 0) {
        return PL_ERR_BUS;
    }
    word = pl_redis__text(r->element[0]);
    if (pl_str_eq(word, PL_LIT("other"))) {
        return PL_ERR_IDEMPOTENCY;
    }
    *ret_same = pl_str_eq(word, PL_LIT("same"));
    if (!(*ret_same || pl_str_eq(word, PL_LIT("ok"))) || r->elements < 1 + count) {
        return PL_ERR_BUS;
    }
    for (size_t i = 0; i < count; i++) {
        ids[i] = pl_redis__number(r->element[1 + i]);
        if (ids[i] <= 0) {
            return PL_ERR_BUS;
        }
    }
    return PL_OK;
}

static void tell(const struct pl_redis_call *c, int status, bool same, const int64_t *ids,
                 size_t count)
{
    if (c->once != NULL) {
        c->once(c->arg, status, same);
    } else {
        c->done(c->arg, status, ids, status == PL_OK ? count : 0);
    }
}

static void on_published(struct pl_redis_call *c, const struct redisReply *r)
{
    size_t count = c->u.publish.count;
    int status = read_outcome(r, count, c->u.publish.ids, &c->u.publish.same);

    if (status == PL_OK) {
        pl_redis__seen(c->ask->b, c->u.publish.ids[count - 1]);
        remember(c->ask, c,
                 r->elements == 1 + 2 * count ? pl_redis__text(r->element[2 * count]) : PL_LIT(""));
        if (c->u.publish.wait > 0) {
            pl_list_append(&c->ask->replicated, &c->node);
            return;
        }
    }
    tell(c, status, c->u.publish.same, c->u.publish.ids, count);
}

/* The channels of all events, sorted, each once. */
static size_t distinct_channels(struct pl_redis_call *c, const struct pl_bus_event *events,
                                size_t count, struct pl_str **ret)
{
    struct pl_str *names;
    size_t total = 0, n = 0;

    for (size_t i = 0; i < count; i++) {
        total += events[i].channel_count;
    }
    names = pl_arena_alloc(&c->arena, total * sizeof(*names));
    for (size_t i = 0, k = 0; i < count; k += events[i++].channel_count) {
        memcpy(&names[k], events[i].channels, events[i].channel_count * sizeof(*names));
    }
    qsort(names, total, sizeof(*names), pl_str_order);
    for (size_t i = 0; i < total; i++) {
        if (i == 0 || !pl_str_eq(names[i], names[n - 1])) {
            names[n++] = names[i];
        }
    }
    *ret = names;
    return n;
}

static void add_event(struct pl_redis_call *c, const struct pl_bus_event *e,
                      const struct pl_str *names, size_t name_count)
{
    static const char form = PL_REDIS_EVENT;
    struct pl_buf payload = {0};

    pl_redis_encode_event(e, &payload);
    pl_redis_arg(&c->args, &form, 1);
    pl_redis_arg(&c->args, payload.data, payload.len);
    pl_redis_arg_int(&c->args, (int64_t)e->channel_count);
    for (size_t i = 0; i < e->channel_count; i++) {
        const struct pl_str *at =
            bsearch(&e->channels[i], names, name_count, sizeof(*names), pl_str_order);

        pl_redis_arg_int(&c->args, at - names + 1);
    }
    pl_buf_done(&payload);
}

/* What makes a command safe to be asked again: its key in Redis. */
struct once {
    struct pl_buf key;
    char nonce[33];
    int64_t ttl_ms;
    uint64_t body_hash;
};

/* The last retry comes 2 x bus.timeout after the first try, so the key must live longer. */
static void once_own(struct pl_redis_bus *b, struct once *o)
{
    int64_t ttl = 4 * b->cfg->bus_timeout;

    pl_redis__nonce(b, o->nonce);
    pl_buf_append_str(&o->key, o->nonce);
    o->ttl_ms = ttl > OWN_KEY_TTL_MS ? ttl : OWN_KEY_TTL_MS;
}

static void once_given(struct pl_redis_bus *b, const struct pl_bus_key *k, struct once *o)
{
    pl_redis__nonce(b, o->nonce);
    pl_buf_printf(&o->key, "%016" PRIx64 ":", k->scope);
    pl_buf_append(&o->key, k->key.s, k->key.len);
    o->ttl_ms = b->cfg->publish_idempotency_ttl;
    o->body_hash = k->body_hash;
}

static void once_raw(struct pl_redis_bus *b, struct pl_str key, struct once *o)
{
    pl_redis__nonce(b, o->nonce);
    pl_buf_append(&o->key, key.s, key.len);
    o->ttl_ms = ONCE_TTL_MS;
}

static struct pl_str once_key(const struct once *o)
{
    return (struct pl_str){(const char *)o->key.data, o->key.len};
}

static void add_once(struct pl_redis_call *c, const struct once *o)
{
    char hash[17];

    (void)snprintf(hash, sizeof(hash), "%016" PRIx64, o->body_hash);
    pl_redis_arg_cstr(&c->args, o->nonce);
    pl_redis_arg_int(&c->args, o->ttl_ms);
    pl_redis_arg_cstr(&c->args, hash);
}

static void add_log_limits(struct pl_redis_call *c)
{
    const struct pl_config *cfg = c->ask->b->cfg;

    pl_redis_arg_int(&c->args, cfg->bus_log_events);
    pl_redis_arg_int(&c->args, cfg->bus_log_age);
}

static void write_append(struct pl_redis_call *c, const struct pl_bus_event *events, size_t count,
                         const struct once *o)
{
    struct pl_redis_bus *b = c->ask->b;
    struct pl_str *names;
    size_t name_count = distinct_channels(c, events, count, &names);

    pl_redis__fcall(&c->args, "parley_append", 2 + name_count);
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    pl_redis__key(b, &c->args, "idem", once_key(o));
    for (size_t i = 0; i < name_count; i++) {
        pl_redis__key(b, &c->args, "log", names[i]);
    }
    add_once(c, o);
    add_log_limits(c);
    pl_redis_arg_int(&c->args, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        add_event(c, &events[i], names, name_count);
    }
    c->u.publish.channel = pl_redis__call_copy(c, events[count - 1].channels[0]);
}

/* PL_OK: on its way. Else nothing was sent, and who asked is told by the caller. */
static int keep_and_send(struct pl_redis_call *c)
{
    struct pl_redis_ask *a = c->ask;

    if (a->kept_count >= KEPT_MAX || c->args.bytes.len > KEPT_BYTES_MAX - a->kept_bytes) {
        return PL_ERR_OVERLOADED;
    }
    c->kept = true;
    c->expires_ms = pl_redis__now_ms(a->b) + 2 * (uint64_t)a->b->cfg->bus_timeout;
    a->kept_count++;
    a->kept_bytes += c->args.bytes.len;
    return pl_redis__call_send(c) ? PL_OK : PL_ERR_BUS;
}

static void keep(struct pl_redis_call *c)
{
    int status = keep_and_send(c);

    if (status != PL_OK) {
        tell(c, status, false, NULL, 0);
        pl_redis__call_free(c);
    } else if (c->sent != NULL) {
        c->sent(c);
    }
}

static struct pl_redis_call *publish_call(struct pl_redis_ask *a, const struct pl_bus_event *events,
                                          size_t count, const struct once *o)
{
    struct pl_redis_call *c = pl_redis__call_new(a, on_published);

    PL_ASSERT(count > 0);
    c->u.publish.count = count;
    c->u.publish.ids = pl_arena_alloc(&c->arena, count * sizeof(int64_t));
    write_append(c, events, count, o);
    return c;
}

/* Redis does nothing else while it writes them. */
static size_t log_entries(const struct pl_bus_event *events, size_t count)
{
    size_t entries = 0;

    for (size_t i = 0; i < count; i++) {
        entries += events[i].channel_count;
    }
    return entries;
}

void pl_redis__publish(void *bus, const struct pl_bus_event *events, size_t count,
                       const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    struct pl_redis_bus *b = bus;
    struct once o = {.ttl_ms = 0};
    struct pl_redis_call *c;

    if (!b->up) {
        done(arg, PL_ERR_BUS, NULL, 0);
        return;
    }
    if (log_entries(events, count) > LOG_ENTRIES_MAX) {
        done(arg, PL_ERR_TOO_BIG, NULL, 0);
        return;
    }
    if (key != NULL && key->key.len > 0) {
        once_given(b, key, &o);
    } else {
        once_own(b, &o);
    }
    c = publish_call(b->ask, events, count, &o);
    pl_buf_done(&o.key);
    c->sent = wait_if_asked;
    c->done = done;
    c->arg = arg;
    keep(c);
}

void pl_redis__publish_once(struct pl_redis_bus *b, const struct pl_bus_event *e, struct pl_str key,
                            pl_redis_once_fn *done, void *arg)
{
    struct once o = {.ttl_ms = 0};
    struct pl_redis_call *c;

    once_raw(b, key, &o);
    c = publish_call(b->ask, e, 1, &o);
    pl_buf_done(&o.key);
    c->once = done;
    c->arg = arg;
    keep(c);
}

/* ---- changes ---- */

/* A block outlasts tokens, and the record lasts as long. */
static int64_t record_ttl_ms(const struct pl_redis_bus *b, const struct pl_bus_change *change)
{
    int64_t usual = pl_redis__user_ttl_ms(b->cfg);
    int64_t block = change->blocked_until_ms - pl_hub_unix_ms(b->hub) + 60000;

    return block > usual ? block : usual;
}

static void on_changed(struct pl_redis_call *c, const struct redisReply *r)
{
    int64_t id = 0;
    bool same = false;
    int status = read_outcome(r, 1, &id, &same);

    if (status == PL_OK) {
        pl_redis__seen(c->ask->b, id);
        if (!pl_redis__tell_user(c->ask->b, c->name, r->element + 2, r->elements - 2)) {
            status = PL_ERR_BUS;
        }
    }
    tell(c, status, same, &id, 1);
}

static struct pl_redis_call *change_call(struct pl_redis_ask *a, const struct pl_bus_change *change,
                                         const struct once *o)
{
    struct pl_redis_call *c = pl_redis__call_new(a, on_changed);
    struct pl_redis_bus *b = a->b;
    struct pl_buf payload = {0};

    c->name = pl_redis__call_copy(c, change->user_id);
    pl_redis_encode_change(change, &payload);
    pl_redis__fcall(&c->args, "parley_change", 4);
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    pl_redis__key(b, &c->args, "control", PL_LIT(""));
    pl_redis__key(b, &c->args, "user", change->user_id);
    pl_redis__key(b, &c->args, "idem", once_key(o));
    add_once(c, o);
    pl_redis_arg(&c->args, payload.data, payload.len);
    pl_redis_arg_int(&c->args, record_ttl_ms(b, change));
    add_log_limits(c);
    pl_buf_done(&payload);
    return c;
}

void pl_redis__change(void *bus, const struct pl_bus_change *change, pl_bus_done_fn *done,
                      void *arg)
{
    struct pl_redis_bus *b = bus;
    struct once o = {.ttl_ms = 0};
    struct pl_redis_call *c;

    if (!b->up) {
        done(arg, PL_ERR_BUS, NULL, 0);
        return;
    }
    once_own(b, &o);
    c = change_call(b->ask, change, &o);
    pl_buf_done(&o.key);
    c->done = done;
    c->arg = arg;
    keep(c);
}

void pl_redis__change_once(struct pl_redis_bus *b, const struct pl_bus_change *change,
                           struct pl_str key, pl_redis_once_fn *done, void *arg)
{
    struct once o = {.ttl_ms = 0};
    struct pl_redis_call *c;

    once_raw(b, key, &o);
    c = change_call(b->ask, change, &o);
    pl_buf_done(&o.key);
    c->once = done;
    c->arg = arg;
    keep(c);
}
