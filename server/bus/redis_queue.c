#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/bus/redis_ask_priv.h"

/* ---- users ---- */

static int64_t queue_ttl_ms(const struct pl_config *cfg)
{
    return cfg->queue_ttl + cfg->queue_ttl / 2 + 10000;
}

int64_t pl_redis__user_ttl_ms(const struct pl_config *cfg)
{
    int64_t queue_ms = queue_ttl_ms(cfg);
    int64_t longest = cfg->auth_max_token_ttl > queue_ms ? cfg->auth_max_token_ttl : queue_ms;

    return longest + 60000;
}

/* Changes that cannot be understood are a newer version's, or nonsense: the others count. */
static size_t decode_changes(struct redisReply *const *pairs, size_t count, int64_t after,
                             struct pl_arena *arena, struct pl_bus_user_change *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t id = pl_redis__number(pairs[2 * i]);

        if (id >= 0 && id <= after) {
            continue;
        }
        if (id < 0 || pl_redis_decode_change(pl_redis__text(pairs[2 * i + 1]), arena,
                                             &ret[n].change) != PL_OK) {
            pl_metric_add(PL_S_BUS_MALFORMED_CHANGE, 1);
            continue;
        }
        ret[n++].id = id;
    }
    return n;
}

/* As parley_user answers; false: it is nothing of the kind. */
bool pl_redis__tell_user(struct pl_redis_bus *b, struct pl_str user_id,
                         struct redisReply *const *elements, size_t count)
{
    struct pl_arena arena = {0};
    struct pl_bus_user_change *changes;
    struct pl_bus_user u = {.user_id = user_id};
    int64_t snapshot_as_of;

    if (count < 3 || count % 2 != 1 || (u.as_of = pl_redis__number(elements[0])) < 0 ||
        (snapshot_as_of = pl_redis__number(elements[1])) < 0) {
        return false;
    }
    changes = pl_arena_alloc(&arena, (count / 2) * sizeof(*changes));
    u.snapshot = pl_redis__text(elements[2]);
    u.changes = changes;
    u.change_count = decode_changes(elements + 3, (count - 3) / 2, snapshot_as_of, &arena, changes);
    pl_redis__seen(b, u.as_of);
    pl_hub_bus_user(b->hub, &u);
    pl_arena_done(&arena);
    return true;
}

static bool tell_user_reply(struct pl_redis_bus *b, struct pl_str user_id,
                            const struct redisReply *r)
{
    return r != NULL && r->type == REDIS_REPLY_ARRAY &&
           pl_redis__tell_user(b, user_id, r->element, r->elements);
}

static void write_user(struct pl_redis_call *c)
{
    struct pl_redis_bus *b = c->ask->b;

    pl_redis__fcall_ro(&c->args, "parley_user", 2);
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    pl_redis__key(b, &c->args, "user", c->name);
}

static void on_user(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_redis_bus *b = c->ask->b;
    bool good = tell_user_reply(b, c->name, r);

    pl_hub_bus_user_done(b->hub, c->name, good ? PL_OK : PL_ERR_BUS);
}

void pl_redis__user(void *bus, struct pl_str user_id)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_user);

    c->name = pl_redis__call_copy(c, user_id);
    write_user(c);
    pl_redis__call_ask(c);
}

static void on_user_read(struct pl_redis_call *c, const struct redisReply *r)
{
    bool good = tell_user_reply(c->ask->b, c->name, r);

    c->u.read(c->arg, good ? PL_OK : PL_ERR_BUS);
}

void pl_redis__user_read(struct pl_redis_bus *b, struct pl_str user_id, pl_hub_ready_fn *done,
                         void *arg)
{
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_user_read);

    c->name = pl_redis__call_copy(c, user_id);
    c->u.read = done;
    c->arg = arg;
    write_user(c);
    pl_redis__call_ask(c);
}

static void on_nothing(struct pl_redis_call *c, const struct redisReply *r)
{
    (void)c;
    (void)r;
}

void pl_redis__compact(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_nothing);

    pl_redis__fcall(&c->args, "parley_compact", 1);
    pl_redis__key(b, &c->args, "user", user_id);
    pl_redis_arg_int(&c->args, as_of);
    pl_redis_arg_str(&c->args, snapshot);
    pl_redis_arg_int(&c->args, pl_redis__user_ttl_ms(b->cfg));
    pl_redis__call_tell(c);
}

/* ---- queues ---- */

static int saved_status(const struct redisReply *r)
{
    switch (pl_redis__number(r)) {
    case 1:
        return PL_OK;
    case 0:
        return PL_ERR_REPLACED;
    default:
        return PL_ERR_BUS;
    }
}

static void on_saved(struct pl_redis_call *c, const struct redisReply *r)
{
    bool good = r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == c->u.saves->count;

    for (size_t i = 0; i < c->u.saves->count; i++) {
        pl_hub_bus_saved(c->ask->b->hub, c->u.saves->queues[i].id, c->u.saves->queues[i].generation,
                         good ? saved_status(r->element[i]) : PL_ERR_BUS);
    }
}

/* What `GET /realtime/connections` and `parley nodes` know of it. */
static void write_registration(const struct pl_redis_bus *b, const struct pl_bus_queue *q,
                               int64_t until_ms, struct pl_buf *out)
{
    struct pl_writer w;

    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 4);
    pl_write_key(&w, "node");
    pl_write_cstr(&w, b->node);
    pl_write_key(&w, "transport");
    pl_write_cstr(&w, q->transport);
    pl_write_key(&w, "since");
    pl_write_int(&w, q->since_ms);
    pl_write_key(&w, "until");
    pl_write_int(&w, until_ms);
}

static void add_queue(struct pl_redis_call *c, const struct pl_bus_queue *q, int64_t until_ms)
{
    struct pl_buf json = {0};

    write_registration(c->ask->b, q, until_ms, &json);
    pl_redis_arg_str(&c->args, q->queue_id);
    pl_redis_arg_str(&c->args, q->user_id);
    pl_redis_arg_int(&c->args, q->generation);
    pl_redis_arg_str(&c->args, q->state);
    pl_redis_arg_int(&c->args, q->position);
    pl_redis_arg(&c->args, json.data, json.len);
    pl_buf_done(&json);
}

static void save_chunk(struct pl_redis_bus *b, const struct pl_bus_queue *queues, size_t count)
{
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_saved);
    int64_t ttl_ms = queue_ttl_ms(b->cfg);

    c->u.saves = pl_arena_alloc(&c->arena, sizeof(*c->u.saves));
    c->u.saves->count = count;
    pl_redis__fcall(&c->args, "parley_save", 2 * count);
    for (size_t i = 0; i < count; i++) {
        c->u.saves->queues[i].id = pl_redis__call_copy(c, queues[i].queue_id);
        c->u.saves->queues[i].generation = queues[i].generation;
        pl_redis__key(b, &c->args, "queue", queues[i].queue_id);
        pl_redis__key(b, &c->args, "conn:user", queues[i].user_id);
    }
    pl_redis_arg_cstr(&c->args, b->node);
    pl_redis_arg_int(&c->args, ttl_ms);
    for (size_t i = 0; i < count; i++) {
        add_queue(c, &queues[i], pl_hub_unix_ms(b->hub) + ttl_ms);
    }
    pl_redis__call_ask(c);
}

void pl_redis__save(void *bus, const struct pl_bus_queue *queues, size_t count)
{
    for (size_t i = 0; i < count; i += PL_REDIS_SAVE_CHUNK) {
        save_chunk(bus, queues + i,
                   count - i < PL_REDIS_SAVE_CHUNK ? count - i : PL_REDIS_SAVE_CHUNK);
    }
}

static void claim_failed(struct pl_redis_call *c, int status)
{
    pl_hub_bus_claimed(c->ask->b->hub, c->name, status, NULL);
}

static void on_claimed_user(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_redis_bus *b = c->ask->b;

    if (!tell_user_reply(b, c->u.claim.user_id, r)) {
        claim_failed(c, PL_ERR_BUS);
        return;
    }
    pl_hub_bus_claimed(b->hub, c->name, PL_OK, &c->u.claim);
}

static bool read_claim(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_bus_queue *q = &c->u.claim;

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 5) {
        return false;
    }
    *q = (struct pl_bus_queue){
        .queue_id = c->name,
        .generation = pl_redis__number(r->element[0]),
        .user_id = pl_redis__call_copy(c, pl_redis__text(r->element[1])),
        .position = pl_redis__number(r->element[2]),
        .state = pl_redis__call_copy(c, pl_redis__text(r->element[3])),
        .saved_by = pl_redis__number(r->element[4]),
        .transport = "none",
    };
    return q->generation > 0 && q->position >= 0 && q->user_id.len > 0;
}

/* "ended", or "older <when the client came that has it>", of library version 1 without that. */
static void claim_refused(struct pl_redis_call *c, struct pl_str why)
{
    struct pl_redis_bus *b = c->ask->b;
    struct pl_bus_queue theirs = {.queue_id = c->name};
    int64_t came;

    if (pl_str_eq(why, PL_LIT("ended"))) {
        claim_failed(c, PL_ERR_DISCONNECTED);
        return;
    }
    if (why.len > 6 && pl_parse_cursor((struct pl_str){why.s + 6, why.len - 6}, &came)) {
        theirs.since_ms = pl_redis__own_ms(b, came);
    }
    pl_hub_bus_claimed(b->hub, c->name, PL_ERR_REPLACED, &theirs);
}

static void on_claimed(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_redis_bus *b = c->ask->b;

    if (r != NULL && r->type == REDIS_REPLY_NIL) {
        bool fresh = pl_redis__now_ms(b) < b->fresh_until_ms;

        claim_failed(c, fresh ? PL_ERR_BUS : PL_ERR_QUEUE_NOT_FOUND);
        return;
    }
    if (r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == 1) {
        claim_refused(c, pl_redis__text(r->element[0]));
        return;
    }
    if (r == NULL || !read_claim(c, r)) {
        claim_failed(c, PL_ERR_BUS);
        return;
    }
    c->answer = on_claimed_user;
    pl_redis__fcall_ro(&c->args, "parley_user", 2);
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    pl_redis__key(b, &c->args, "user", c->u.claim.user_id);
    if (!pl_redis__call_send(c)) {
        claim_failed(c, PL_ERR_BUS);
    }
}

void pl_redis__claim(void *bus, struct pl_str queue_id, int64_t came_ms, bool back)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_claimed);

    c->name = pl_redis__call_copy(c, queue_id);
    pl_redis__fcall(&c->args, "parley_claim", 1);
    pl_redis__key(b, &c->args, "queue", queue_id);
    pl_redis_arg_cstr(&c->args, b->node);
    pl_redis__own_key(b, &c->args);
    pl_redis_arg_int(&c->args, queue_ttl_ms(b->cfg));
    pl_redis_arg_int(&c->args, pl_redis__server_ms(b, came_ms));
    pl_redis_arg_cstr(&c->args, back ? "back" : "");
    pl_redis__call_ask(c);
}

void pl_redis__drop(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_nothing);

    pl_redis__fcall(&c->args, "parley_drop", 2);
    pl_redis__key(b, &c->args, "queue", queue_id);
    pl_redis__key(b, &c->args, "conn:user", user_id);
    pl_redis_arg_str(&c->args, queue_id);
    pl_redis_arg_int(&c->args, generation);
    pl_redis_arg_int(&c->args, 2 * b->cfg->queue_ttl);
    pl_redis__call_tell(c);
}

static void on_ended(struct pl_redis_call *c, const struct redisReply *r)
{
    int64_t was = r != NULL ? pl_redis__number(r) : -1;

    if (was < 0) {
        c->done(c->arg, PL_ERR_BUS, NULL, 0);
    } else {
        c->done(c->arg, PL_OK, &was, 1);
    }
}

void pl_redis__end_queue(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                         void *arg)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_ended);

    c->done = done;
    c->arg = arg;
    pl_redis__fcall(&c->args, "parley_end", 1);
    pl_redis__key(b, &c->args, "queue", queue_id);
    pl_redis_arg_str(&c->args, queue_id);
    pl_redis_arg_int(&c->args, status);
    pl_redis_arg_int(&c->args, 2 * b->cfg->queue_ttl);
    pl_redis__call_ask(c);
}

/* ---- who is connected ---- */

/* One pair of the hash: NULL if it has lapsed or is nothing that a node writes. */
static const struct pl_value *registration(struct redisReply *const *pair, int64_t now_ms,
                                           struct pl_arena *arena)
{
    struct pl_str json = pl_redis__text(pair[1]);
    const struct pl_value *v, *until;

    uint8_t id[16];

    if (!pl_queue_id_parse(pl_redis__text(pair[0]), id) || json.len == 0 ||
        pl_decode(PL_JSON, json.s, json.len, arena, &v, NULL) != PL_OK) {
        return NULL;
    }
    until = pl_value_get(v, "until");
    return until != NULL && until->type == PL_INT_VALUE && until->u.integer >= now_ms ? v : NULL;
}

static void write_member(struct pl_writer *w, const struct pl_value *v, const char *key)
{
    const struct pl_value *member = pl_value_get(v, key);

    pl_write_key(w, key);
    if (member != NULL) {
        pl_write_value(w, member);
    } else {
        pl_write_null(w);
    }
}

static void write_connections(const struct redisReply *r, int64_t now_ms, struct pl_buf *out)
{
    struct pl_arena arena = {0};
    const struct pl_value **known = pl_alloc((r->elements + 1) * sizeof(struct pl_value *));
    size_t count = 0;
    struct pl_writer w;

    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        known[i] = registration(r->element + i, now_ms, &arena);
        count += known[i] != NULL;
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_array(&w, count);
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (known[i] == NULL) {
            continue;
        }
        pl_write_map(&w, 4);
        pl_write_key(&w, "queue_id");
        pl_write_str(&w, pl_redis__text(r->element[i]));
        write_member(&w, known[i], "node");
        write_member(&w, known[i], "transport");
        write_member(&w, known[i], "since");
    }
    free(known);
    pl_arena_done(&arena);
}

static void on_connections(struct pl_redis_call *c, const struct redisReply *r)
{
    struct pl_buf out = {0};

    if (r == NULL || r->type != REDIS_REPLY_ARRAY) {
        c->u.text(c->arg, PL_ERR_BUS, PL_LIT(""));
        return;
    }
    write_connections(r, pl_hub_unix_ms(c->ask->b->hub), &out);
    c->u.text(c->arg, PL_OK, (struct pl_str){(const char *)out.data, out.len});
    pl_buf_done(&out);
}

void pl_redis_bus_connections(struct pl_redis_bus *b, struct pl_str user_id, pl_redis_text_fn *done,
                              void *arg)
{
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_connections);

    c->u.text = done;
    c->arg = arg;
    pl_redis_arg_cstr(&c->args, "HGETALL");
    pl_redis__key(b, &c->args, "conn:user", user_id);
    pl_redis__call_ask(c);
}
