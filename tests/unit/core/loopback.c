#include "tests/unit/core/loopback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

enum {
    START_MONO_MS = 1000000
};
static const int64_t start_unix_ms = INT64_C(1790000000000);

struct pl_str lb_str(const char *s)
{
    return (struct pl_str){s, s != NULL ? strlen(s) : 0};
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

/* As random as a test may be: every id another, the same in every run. */
static void not_so_random(void *out, size_t len)
{
    static uint64_t n;
    uint8_t *bytes = out;
    uint64_t x = ++n * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(x >> 8 * (7 - i % 8));
    }
}

/* ---- the memory bus ---- */

static void *memory_make(const struct pl_config *cfg, int64_t unix_ms)
{
    return pl_memory_bus_new(cfg, unix_ms);
}

static void memory_release(void *bus)
{
    pl_memory_bus_free(bus);
}

static int64_t memory_epoch(const void *bus)
{
    return pl_memory_bus_epoch(bus);
}

static void memory_connect(void *bus, struct pl_hub *h)
{
    pl_memory_bus_connect(bus, h);
}

const struct lb_bus lb_memory = {
    .name = "memory",
    .ops = &pl_memory_bus_ops,
    .ring_is_log = true,
    .make = memory_make,
    .release = memory_release,
    .epoch = memory_epoch,
    .connect = memory_connect,
};

/* ---- the scripted bus ---- */

static void script_publish(void *bus, const struct pl_bus_event *events, size_t count,
                           const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    (void)bus, (void)events, (void)count, (void)key;
    done(arg, PL_ERR_BUS, NULL, 0);
}

static void script_change(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg)
{
    struct lb_script_bus *b = bus;
    int64_t id = ++b->last_id;

    pl_hub_bus_change(b->hub, id, c);
    done(arg, PL_OK, &id, 1);
}

static void script_open(void *bus, struct pl_str channel, int64_t after_id)
{
    struct lb_script_bus *b = bus;

    assert_true(b->open_count < LB_SCRIPT_CALLS && channel.len < sizeof(b->opens[0].channel));
    memset(b->opens[b->open_count].channel, 0, sizeof(b->opens[0].channel));
    memcpy(b->opens[b->open_count].channel, channel.s, channel.len);
    b->opens[b->open_count++].after_id = after_id;
    b->opened_total++;
}

static void forget_open(struct lb_script_bus *b, size_t i)
{
    b->open_count--;
    memmove(&b->opens[i], &b->opens[i + 1], (b->open_count - i) * sizeof(b->opens[0]));
}

static size_t find_open(const struct lb_script_bus *b, const char *channel)
{
    size_t i = 0;

    while (i < b->open_count && strcmp(b->opens[i].channel, channel) != 0) {
        i++;
    }
    return i;
}

/* What was asked before is not answered any more. */
static void script_close(void *bus, struct pl_str channel)
{
    struct lb_script_bus *b = bus;
    char name[160] = "";

    assert_true(channel.len < sizeof(name));
    memcpy(name, channel.s, channel.len);
    for (size_t i; (i = find_open(b, name)) < b->open_count;) {
        forget_open(b, i);
    }
    b->closed_total++;
}

static void script_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    struct lb_script_bus *b = bus;

    assert_true(b->question_count < LB_SCRIPT_CALLS);
    b->questions[b->question_count].done = done;
    b->questions[b->question_count++].arg = arg;
}

static const struct pl_bus_ops script_ops = {
    .publish = script_publish,
    .change = script_change,
    .open = script_open,
    .close = script_close,
    .sequence = script_sequence,
};

static void *script_make(const struct pl_config *cfg, int64_t unix_ms)
{
    struct lb_script_bus *b = pl_alloc(sizeof(*b));

    (void)cfg;
    b->epoch = b->last_id = unix_ms * 1024;
    return b;
}

static void script_release(void *bus)
{
    free(bus);
}

static int64_t script_epoch(const void *bus)
{
    return ((const struct lb_script_bus *)bus)->epoch;
}

static void script_connect(void *bus, struct pl_hub *h)
{
    ((struct lb_script_bus *)bus)->hub = h;
}

const struct lb_bus lb_script = {
    .name = "script",
    .ops = &script_ops,
    .scripted = true,
    .make = script_make,
    .release = script_release,
    .epoch = script_epoch,
    .connect = script_connect,
};

struct lb_script_bus *lb_script_of(struct loopback *lb)
{
    assert_true(lb->kind->scripted);
    return lb->bus;
}

int64_t lb_next_id(struct loopback *lb)
{
    struct lb_script_bus *b = lb_script_of(lb);

    b->last_id = b->shared_id != NULL ? ++*b->shared_id : b->last_id + 1;
    return b->last_id;
}

uint32_t lb_announce_event(struct loopback *lb, int64_t id, const struct lb_event *e,
                           const int64_t *prevs)
{
    struct pl_arena a = {0};
    struct pl_bus_event event = lb_bus_event(e, &a);
    uint32_t taken = pl_hub_bus_event(lb->hub, id, &event, prevs);

    pl_arena_done(&a);
    return taken;
}

void lb_answer_open(struct loopback *lb, const char *channel, const struct lb_log *log)
{
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_arena a = {0};
    struct pl_bus_event *events = pl_arena_alloc(&a, (log->count + 1) * sizeof(*events));
    struct pl_bus_log_entry *entries = pl_arena_alloc(&a, (log->count + 1) * sizeof(*entries));
    size_t i = find_open(b, channel);
    char name[sizeof(b->opens[0].channel)];

    assert_true(i < b->open_count);
    assert_int_equal(b->opens[i].after_id, log->after_id);
    memcpy(name, b->opens[i].channel, sizeof(name)); /* `channel` may be this very one */
    forget_open(b, i);
    for (size_t n = 0; n < log->count; n++) {
        events[n] = lb_bus_event(&log->entries[n].e, &a);
        entries[n] =
            (struct pl_bus_log_entry){log->entries[n].id, log->entries[n].prev, &events[n]};
    }
    pl_hub_bus_opened(lb->hub, lb_str(name), log->floor, entries, log->count, log->whole_to);
    pl_arena_done(&a);
}

void lb_answer_open_empty(struct loopback *lb, const char *channel, int64_t whole_to)
{
    struct lb_script_bus *b = lb_script_of(lb);
    size_t i = find_open(b, channel);
    int64_t after_id = i < b->open_count ? b->opens[i].after_id : -1;

    lb_answer_open(lb, channel,
                   &(struct lb_log){.after_id = after_id,
                                    .floor = after_id,
                                    .entries = NULL,
                                    .count = 0,
                                    .whole_to = whole_to});
}

void lb_answer_sequence(struct loopback *lb, int64_t newest)
{
    struct lb_script_bus *b = lb_script_of(lb);
    pl_bus_done_fn *done = b->questions[0].done;
    void *arg = b->questions[0].arg;

    assert_true(b->question_count > 0);
    b->question_count--;
    memmove(&b->questions[0], &b->questions[1], b->question_count * sizeof(b->questions[0]));
    done(arg, PL_OK, &newest, 1);
}

/* ---- life ---- */

static struct loopback *new_with(const struct lb_bus *kind, bool has_turns)
{
    struct loopback *lb = pl_alloc(sizeof(*lb));
    struct pl_config_sources sources = {.getenv_fn = no_env};
    struct pl_config_error error;

    lb->kind = kind;
    lb->mono_ms = START_MONO_MS;
    lb->unix_ms = start_unix_ms;
    pl_list_init(&lb->links);
    assert_int_equal(pl_config_load(&sources, &lb->cfg, &error), 0);
    pl_wheel_init(&lb->wheel, lb->mono_ms);
    lb->bus = kind->make(lb->cfg, lb->unix_ms);
    lb->hub = pl_hub_new(
        &(struct pl_hub_options){
            .cfg = lb->cfg,
            .bus_ops = kind->ops,
            .bus = lb->bus,
            .ring_is_log = kind->ring_is_log,
            .has_turns = has_turns,
            .wheel = &lb->wheel,
            .random = not_so_random,
            .epoch_start = kind->epoch(lb->bus),
        },
        lb->mono_ms, lb->unix_ms);
    kind->connect(lb->bus, lb->hub);
    return lb;
}

struct loopback *lb_new(const struct lb_bus *kind)
{
    return new_with(kind, false);
}

int lb_start_turns(void **state)
{
    *state = new_with(&lb_memory, true);
    return 0;
}

int lb_start_memory(void **state)
{
    *state = lb_new(&lb_memory);
    return 0;
}

int lb_start_script(void **state)
{
    *state = lb_new(&lb_script);
    return 0;
}

static void message_done(struct lb_message *m)
{
    pl_frame_unref(m->frame);
    pl_arena_done(&m->arena);
}

static void link_free(struct lb_link *l)
{
    pl_link_detach(&l->base);
    for (size_t i = 0; i < l->count; i++) {
        message_done(&l->messages[i]);
    }
    pl_list_remove(&l->node);
    free(l->messages);
    free(l);
}

int lb_stop(void **state)
{
    struct loopback *lb = *state;

    if (lb->peer != NULL) {
        void *peer = lb->peer;

        (void)lb_stop(&peer);
    }
    while (lb->kind->scripted && lb_script_of(lb)->question_count > 0) {
        lb_answer_sequence(lb, 0);
    }
    while (!pl_list_empty(&lb->links)) {
        link_free(pl_container_of(lb->links.next, struct lb_link, node));
    }
    if (lb->kind->leave != NULL) {
        pl_hub_leave_bus(lb->hub);
        lb->kind->leave(lb->bus);
    }
    pl_hub_free(lb->hub);
    assert_int_equal(lb->wheel.count, 0);
    lb->kind->release(lb->bus);
    pl_config_free(lb->cfg);
    pl_deflate_done();
    free(lb);
    return 0;
}

void lb_pass(struct loopback *lb, int64_t ms)
{
    if (lb->kind->pass != NULL) {
        lb->kind->pass(lb->bus, ms);
        return;
    }
    lb->mono_ms += (uint64_t)ms;
    lb->unix_ms += ms;
    pl_hub_set_time(lb->hub, lb->mono_ms, lb->unix_ms);
    pl_wheel_advance(&lb->wheel, lb->mono_ms);
}

struct pl_hub_stats lb_stats(const struct loopback *lb)
{
    struct pl_hub_stats stats;

    pl_hub_stats(lb->hub, &stats);
    return stats;
}

/* ---- lists as text ---- */

/* Splits at a character; the pieces are copies. */
static struct pl_str *split(const char *text, char at, struct pl_arena *a, size_t *ret_count)
{
    size_t len = strlen(text);
    char *copy = pl_arena_alloc(a, len + 1);
    struct pl_str *pieces = pl_arena_alloc(a, (len + 1) * sizeof(*pieces));
    size_t count = 0;

    memcpy(copy, text, len + 1);
    for (char *p = copy; *p != '\0';) {
        size_t n = strcspn(p, (char[]){at, '\0'});

        if (n > 0) {
            pieces[count++] = (struct pl_str){p, n};
        }
        p += n + (p[n] != '\0');
    }
    *ret_count = count;
    return pieces;
}

static int compare_str(const void *a, const void *b)
{
    const struct pl_str *x = a;
    const struct pl_str *y = b;
    int c = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);

    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

static struct pl_str *split_sorted(const char *text, char at, struct pl_arena *a, size_t *ret_count)
{
    struct pl_str *pieces = split(text, at, a, ret_count);

    qsort(pieces, *ret_count, sizeof(*pieces), compare_str);
    return pieces;
}

const struct pl_membership *lb_membership(const char *text, struct pl_arena *a)
{
    struct pl_membership *m = pl_arena_alloc(a, sizeof(*m));
    bool has_narrowing = text[0] == '!';

    *m = (struct pl_membership){.has_narrowing = has_narrowing};
    m->channels = split_sorted(text + has_narrowing, ' ', a, &m->channel_count);
    m->narrowing = pl_arena_alloc(a, (m->channel_count + 1) * sizeof(*m->narrowing));
    for (size_t i = 0; i < m->channel_count; i++) {
        struct pl_str *channel = &m->channels[i];
        const char *equals = memchr(channel->s, '=', channel->len);
        struct pl_narrowing *n = &m->narrowing[m->narrowing_count];
        char *topics;
        size_t len;

        if (equals == NULL) {
            continue;
        }
        len = (size_t)(channel->s + channel->len - equals - 1);
        topics = pl_arena_alloc(a, len + 1);
        memcpy(topics, equals + 1, len);
        topics[len] = '\0';
        channel->len = (size_t)(equals - channel->s);
        n->channel = *channel;
        n->topics = split_sorted(topics, ',', a, &n->topic_count);
        m->narrowing_count++;
        m->has_narrowing = true;
    }
    return m;
}

/* ---- publishing ---- */

struct pl_bus_event lb_bus_event(const struct lb_event *e, struct pl_arena *a)
{
    static const char head[] =
        "{\"type\":\"new_comment\",\"timestamp\":\"2026-11-20T10:30:00.000Z\","
        "\"community_ids\":[],\"data\":{\"text\":\"";
    struct pl_bus_event out = {
        .topic = lb_str(e->topic),
        .exclude_user = lb_str(e->exclude_user),
        .exclude_queue = lb_str(e->exclude_queue),
        .has_subscribers = e->subscribers != NULL,
    };
    size_t len = sizeof(head) - 1;
    char *body = pl_arena_alloc(a, len + e->pad + 4);

    memcpy(body, head, len);
    memset(body + len, 'x', e->pad);
    memcpy(body + len + e->pad, (const char[]){'"', '}', '}'}, 3);
    out.body = (struct pl_str){body, len + e->pad + 3};
    out.channels =
        split_sorted(e->channels != NULL ? e->channels : "community:1", ' ', a, &out.channel_count);
    if (out.has_subscribers) {
        out.subscribers = split_sorted(e->subscribers, ' ', a, &out.subscriber_count);
    }
    return out;
}

struct answer {
    int calls, status;
    int64_t id;
};

static void on_answer(void *arg, int status, const int64_t *ids, size_t count)
{
    struct answer *a = arg;

    a->calls++;
    a->status = status;
    a->id = count > 0 ? ids[0] : -1;
}

int64_t lb_publish_event(struct loopback *lb, const struct lb_event *e)
{
    struct pl_arena a = {0};
    struct pl_bus_event event = lb_bus_event(e, &a);
    struct answer answer = {0};

    pl_hub_publish(lb->hub, &event, 1, NULL, on_answer, &answer);
    if (lb->kind->turn != NULL) {
        lb->kind->turn(lb->bus);
    }
    pl_arena_done(&a);
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.status, PL_OK);
    return answer.id;
}

/* ---- rights ---- */

static int64_t change(struct loopback *lb, const struct pl_bus_change *c)
{
    struct answer answer = {0};

    pl_hub_change(lb->hub, c, on_answer, &answer);
    if (lb->kind->turn != NULL) {
        lb->kind->turn(lb->bus);
    }
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.status, PL_OK);
    return answer.id;
}

int64_t lb_change(struct loopback *lb, enum pl_change_kind kind, const char *user,
                  const char *membership, int64_t version)
{
    struct pl_arena a = {0};
    int64_t id = change(lb, &(struct pl_bus_change){
                                .kind = kind,
                                .user_id = lb_str(user),
                                .membership = lb_membership(membership, &a),
                                .has_version = version >= 0,
                                .version = version,
                                .unix_ms = lb->unix_ms,
                            });

    pl_arena_done(&a);
    return id;
}

int64_t lb_register(struct loopback *lb, const char *user, const char *membership)
{
    return lb_change(lb, PL_CHANGE_REGISTER, user, membership, -1);
}

int64_t lb_update(struct loopback *lb, const char *user, const char *membership)
{
    return lb_change(lb, PL_CHANGE_UPDATE, user, membership, -1);
}

int64_t lb_disconnect(struct loopback *lb, const char *user, int64_t block_ms)
{
    return change(lb, &(struct pl_bus_change){
                          .kind = PL_CHANGE_DISCONNECT,
                          .user_id = lb_str(user),
                          .unix_ms = lb->unix_ms,
                          .blocked_until_ms = block_ms > 0 ? lb->unix_ms + block_ms : 0,
                      });
}

int lb_claims(struct loopback *lb, const char *user, const char *membership, int64_t iat_ms,
              bool reach_back)
{
    struct pl_arena a = {0};
    int status = pl_hub_apply_claims(lb->hub,
                                     &(struct pl_token_claims){
                                         .user_id = lb_str(user),
                                         .membership = lb_membership(membership, &a),
                                         .iat_ms = iat_ms,
                                         .exp_ms = lb->unix_ms + 3600000,
                                     },
                                     reach_back);

    pl_arena_done(&a);
    return status;
}

struct pl_user *lb_user(struct loopback *lb, const char *user)
{
    return pl_hub_user_find(lb->hub, lb_str(user));
}

const char *lb_communities(struct loopback *lb, const char *user)
{
    static char text[256];
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, PL_JSON, &out);
    pl_user_write_communities(lb_user(lb, user), &w);
    assert_true(out.len >= 2 && out.len < sizeof(text));
    memcpy(text, out.data + 1, out.len - 2);
    text[out.len - 2] = '\0';
    pl_buf_done(&out);
    return text;
}

/* ---- queues ---- */

struct pl_queue *lb_queue_at(struct loopback *lb, const char *user, const char *membership,
                             int64_t position)
{
    struct pl_arena a = {0};
    struct pl_queue *q = NULL;

    (void)lb_register(lb, user, membership);
    assert_int_equal(
        pl_queue_new(lb->hub, lb_user(lb, user), lb_membership(membership, &a), 0, position, &q),
        PL_OK);
    pl_arena_done(&a);
    return q;
}

struct pl_queue *lb_queue(struct loopback *lb, const char *user, const char *membership)
{
    return lb_queue_at(lb, user, membership, -1);
}

struct pl_queue *lb_another_queue(struct loopback *lb, const char *user, int64_t position)
{
    struct pl_queue *q = NULL;

    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, user), NULL, 0, position, &q), PL_OK);
    return q;
}

const char *lb_queue_id(const struct pl_queue *q)
{
    static char ids[4][PL_QUEUE_ID_SIZE];
    static unsigned turn;
    char *id = ids[turn++ % 4];

    pl_queue_id(q, id);
    return id;
}

bool lb_is_gone(struct loopback *lb, const char *queue_id)
{
    return pl_queue_find(lb->hub, lb_str(queue_id)) == NULL;
}

int lb_subscribe(struct pl_queue *q, const char *channel, const char *topic)
{
    return pl_queue_subscribe(q, lb_str(channel), lb_str(topic));
}

int lb_unsubscribe(struct pl_queue *q, const char *channel, const char *topic)
{
    return pl_queue_unsubscribe(q, lb_str(channel), lb_str(topic));
}

/* ---- links ---- */

static struct lb_link *link_of(struct pl_link *l)
{
    return pl_container_of(l, struct lb_link, base);
}

static size_t event_count(const struct lb_message *m)
{
    const struct pl_value *events = pl_value_get(m->v, "events");

    return events != NULL ? events->u.array.count : 0;
}

static bool is_status(const struct lb_message *m)
{
    const struct pl_value *type = pl_value_get(m->v, "type");

    return type != NULL && pl_str_eq(type->u.string, PL_LIT("status"));
}

static bool link_send(struct pl_link *base, struct pl_frame *f, uint32_t events)
{
    struct lb_link *l = link_of(base);
    struct pl_bytes payload = pl_frame_payload(f);
    const struct pl_value *position;
    struct lb_message *m;

    l->offered++;
    assert_false(l->ended || l->spent);
    assert_int_equal(pl_frame_codec(f), base->codec);
    if (l->refuse || l->takes == 0) {
        return false;
    }
    l->takes -= l->takes > 0;
    if (l->count == l->cap) {
        l->cap = l->cap * 2 + 8;
        l->messages = pl_realloc(l->messages, l->cap * sizeof(*l->messages));
    }
    m = &l->messages[l->count++];
    *m = (struct lb_message){.frame = pl_frame_ref(f)};
    assert_int_equal(pl_decode(base->codec, payload.data, payload.len, &m->arena, &m->v, NULL), 0);
    assert_int_equal(event_count(m), events);
    if (l->skips_status && is_status(m)) {
        message_done(m);
        l->count--;
        return true;
    }
    position = pl_value_get(m->v, "last_event_id");
    l->position = position != NULL ? position->u.integer : l->position;
    return true;
}

static void link_end(struct pl_link *base, int status)
{
    struct lb_link *l = link_of(base);

    assert_false(l->ended || l->spent);
    assert_null(base->queue);
    l->ended = true;
    l->end_status = status;
}

static void link_spent(struct pl_link *base)
{
    struct lb_link *l = link_of(base);

    assert_false(l->ended || l->spent);
    assert_null(base->queue);
    l->spent = true;
}

static const struct pl_link_ops websocket_ops = {
    .transport = PL_TRANSPORT_WEBSOCKET,
    .send = link_send,
    .end = link_end,
};

static const struct pl_link_ops poll_ops = {
    .transport = PL_TRANSPORT_LONGPOLL,
    .one_answer = true,
    .send = link_send,
    .end = link_end,
    .spent = link_spent,
};

struct lb_link *lb_link_new(struct loopback *lb, enum pl_transport t, enum pl_codec codec)
{
    struct lb_link *l = pl_alloc(sizeof(*l));

    l->base.ops = t == PL_TRANSPORT_WEBSOCKET ? &websocket_ops : &poll_ops;
    l->base.codec = (uint8_t)codec;
    l->takes = -1;
    l->position = -1;
    pl_list_init(&l->node);
    pl_list_append(&lb->links, &l->node);
    return l;
}

void lb_open(struct lb_link *l, struct pl_queue *q, int64_t position)
{
    pl_queue_attach(q, &l->base, position);
    assert_int_equal(l->offered, 0);
    pl_queue_writable(q);
}

struct lb_link *lb_websocket(struct loopback *lb, struct pl_queue *q, int64_t position)
{
    struct lb_link *l = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_JSON);

    lb_open(l, q, position);
    return l;
}

struct lb_link *lb_poll(struct loopback *lb, struct pl_queue *q, int64_t position)
{
    struct lb_link *l = lb_link_new(lb, PL_TRANSPORT_LONGPOLL, PL_JSON);

    lb_open(l, q, position);
    return l;
}

struct lb_link *lb_poll_once(struct loopback *lb, struct pl_queue *q, int64_t position)
{
    struct lb_link *l = lb_poll(lb, q, position);

    if (l->base.queue != NULL) {
        pl_queue_answer_empty(q);
    }
    assert_true(l->spent);
    return l;
}

void lb_take_again(struct lb_link *l)
{
    l->refuse = false;
    l->takes = -1;
    pl_queue_writable(l->base.queue);
}

/* ---- expectations ---- */

const char *lb_json(const struct pl_value *v)
{
    static struct pl_buf texts[4];
    static unsigned turn;
    struct pl_buf *out = &texts[turn++ % 4];
    struct pl_writer w;

    if (v == NULL) {
        return NULL;
    }
    out->len = 0;
    pl_writer_init(&w, PL_JSON, out);
    pl_write_value(&w, v);
    return pl_buf_cstr(out);
}

const char *lb_member(const struct lb_message *m, const char *key)
{
    return lb_json(pl_value_get(m->v, key));
}

static void print_seen(const struct lb_link *l, const char *file, int line)
{
    print_error("%s:%d: the link was sent:\n", file, line);
    for (size_t i = 0; i < l->count; i++) {
        print_error("%s %s\n", i < l->seen ? "     " : "  new", lb_json(l->messages[i].v));
    }
}

const struct lb_message *lb_take_message(struct lb_link *l, const char *file, int line)
{
    if (l->seen == l->count) {
        print_seen(l, file, line);
        _fail(file, line);
    }
    return &l->messages[l->seen++];
}

void lb_expect_no_message(struct lb_link *l, const char *file, int line)
{
    if (l->seen != l->count) {
        print_seen(l, file, line);
        print_error("but nothing new was expected\n");
        _fail(file, line);
    }
}

/* Compares the events of one message; returns how many there are, or SIZE_MAX. */
static size_t match(const struct lb_message *m, const int64_t *ids, size_t count)
{
    const struct pl_value *events = pl_value_get(m->v, "events");

    if (events == NULL || events->u.array.count > count) {
        return SIZE_MAX;
    }
    for (size_t i = 0; i < events->u.array.count; i++) {
        if (pl_value_get(&events->u.array.items[i], "event_id")->u.integer != ids[i]) {
            return SIZE_MAX;
        }
    }
    return events->u.array.count;
}

void lb_expect_ids(struct lb_link *l, const int64_t *ids, size_t count, const char *file, int line)
{
    size_t seen = l->seen;
    size_t found = 0;

    while (seen < l->count && found != SIZE_MAX) {
        size_t n = match(&l->messages[seen++], ids + found, count - found);

        found = n == SIZE_MAX ? n : found + n;
    }
    if (found != count) {
        print_seen(l, file, line);
        print_error("but these events were expected:");
        for (size_t i = 0; i < count; i++) {
            print_error(" %lld", (long long)ids[i]);
        }
        print_error("\n");
        _fail(file, line);
    }
    l->seen = l->count;
}

void lb_expect_catchup_message(struct lb_link *l, const char *reason, const char *communities,
                               const char *file, int line)
{
    const struct lb_message *m = lb_take_message(l, file, line);
    const char *named = lb_member(m, "communities");
    const struct pl_value *said = pl_value_get(m->v, "reason");
    char expected[128] = "";

    if (communities != NULL) {
        (void)snprintf(expected, sizeof(expected), "[%s]", communities);
    }
    if (said == NULL || !pl_str_eq(said->u.string, lb_str(reason)) ||
        strcmp(named != NULL ? named : "", expected) != 0) {
        print_seen(l, file, line);
        print_error("but a catch-up was expected: %s %s\n", reason, expected);
        _fail(file, line);
    }
}

void lb_expect_ended(const struct lb_link *l, int status)
{
    assert_true(l->ended);
    assert_int_equal(l->end_status, status);
    assert_null(l->base.queue);
}
