#include "server/bus/redis.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_priv.h"

enum {
    BACKOFF_MS = 100,
    BACKOFF_MAX_MS = 3000,
    STOPPED_MS = 10000, /* a timer so late: the process was stopped, or its machine was */
    POLICY_EVERY_MS = 60000,
    RESET_EVERY_MS = 1000, /* a server that refuses again at once is not asked more often */
    CANARIES_MISSED = 3,
    CANARIES_GOOD = 2,
};

/* ---- what all parts use ---- */

uint64_t pl_redis__now_ms(const struct pl_redis_bus *b)
{
    return pl_hub_mono_ms(b->hub);
}

static void begin_call(struct pl_redis_args *a, const char *verb, const char *function, size_t keys)
{
    a->bytes.len = 0;
    a->count = 0;
    pl_redis_arg_cstr(a, verb);
    pl_redis_arg_cstr(a, function);
    pl_redis_arg_int(a, (int64_t)keys);
}

void pl_redis__fcall(struct pl_redis_args *a, const char *function, size_t keys)
{
    begin_call(a, "FCALL", function, keys);
}

void pl_redis__fcall_ro(struct pl_redis_args *a, const char *function, size_t keys)
{
    begin_call(a, "FCALL_RO", function, keys);
}

void pl_redis__key(const struct pl_redis_bus *b, struct pl_redis_args *a, const char *kind,
                   struct pl_str name)
{
    struct pl_buf key = {0};

    pl_redis_key(&key, b->cfg->bus_prefix, kind, name);
    pl_redis_arg(a, key.data, key.len);
    pl_buf_done(&key);
}

void pl_redis__own_key(const struct pl_redis_bus *b, struct pl_redis_args *a)
{
    pl_redis__key(b, a, "node", (struct pl_str){b->node, strlen(b->node)});
}

bool pl_redis__ask_marker(const struct pl_redis_bus *b, pl_redis_reply_fn *fn, void *arg)
{
    struct pl_redis_args a = {0};
    bool sent;

    pl_redis__fcall(&a, "parley_marker", 2);
    pl_redis__key(b, &a, "seq", PL_LIT(""));
    pl_redis__key(b, &a, "control", PL_LIT(""));
    sent = pl_redis_call(b->commands, &a, fn, arg);
    pl_redis_args_done(&a);
    return sent;
}

void pl_redis__nonce(struct pl_redis_bus *b, char out[33])
{
    b->nonce[1]++;
    (void)snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, b->nonce[0], b->nonce[1]);
}

void pl_redis__seen(struct pl_redis_bus *b, int64_t id)
{
    b->newest = id > b->newest ? id : b->newest;
}

int64_t pl_redis__number(const struct redisReply *r)
{
    int64_t n = 0;

    if (r->type == REDIS_REPLY_INTEGER) {
        return r->integer;
    }
    if (r->type != REDIS_REPLY_STRING || r->len == 0 || r->len > 16) {
        return -1;
    }
    for (size_t i = 0; i < (size_t)r->len; i++) {
        if (r->str[i] < '0' || r->str[i] > '9') {
            return -1;
        }
        n = n * 10 + (r->str[i] - '0');
    }
    return n;
}

struct pl_str pl_redis__text(const struct redisReply *r)
{
    bool has = r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
               r->type == REDIS_REPLY_ERROR;

    return has ? (struct pl_str){r->str, (size_t)r->len} : (struct pl_str){NULL, 0};
}

static void begin_anew(struct pl_redis_bus *b, const char *reason)
{
    uint64_t now = pl_redis__now_ms(b);

    if (now - b->setup.reset_ms >= RESET_EVERY_MS) {
        b->setup.reset_ms = now;
        pl_redis_conn_reset(b->commands, reason);
    }
}

bool pl_redis__failed(struct pl_redis_bus *b, const struct redisReply *r)
{
    static const char *const wrong_server[] = {"READONLY ", "MASTERDOWN ", "LOADING "};

    if (r == NULL) {
        return true;
    }
    if (r->type != REDIS_REPLY_ERROR) {
        return false;
    }
    pl_metric_add(PL_S_BUS_ERRORS_REPLY, 1);
    for (size_t i = 0; i < sizeof(wrong_server) / sizeof(*wrong_server); i++) {
        if (strncmp(r->str, wrong_server[i], strlen(wrong_server[i])) == 0) {
            begin_anew(b, "the server is no primary, or not ready");
        }
    }
    if (b->up && strstr(r->str, "Function not found") != NULL) {
        pl_redis__setup_functions(b);
    }
    return true;
}

static int breaker_of(const struct pl_redis_bus *b)
{
    static const int breaker[] = {
        [PL_REDIS_WAITING] = 2,
        [PL_REDIS_CONNECTING] = 1,
        [PL_REDIS_UP] = 0,
    };

    return breaker[pl_redis_conn_state(b->commands)];
}

/* ---- the canary ---- */

static void arm_canary(struct pl_redis_bus *b)
{
    b->canary.due_ms = pl_redis__now_ms(b) + (uint64_t)b->cfg->bus_canary_interval;
    pl_timer_set(b->wheel, &b->canary.timer, b->canary.due_ms);
}

/* What `parley nodes` shows of this node. */
static void write_node(const struct pl_redis_bus *b, struct pl_buf *out)
{
    struct pl_hub_stats stats;
    struct pl_writer w;

    pl_hub_stats(b->hub, &stats);
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 6);
    pl_write_key(&w, "address");
    pl_write_cstr(&w, b->address);
    pl_write_key(&w, "started");
    pl_write_int(&w, b->started_unix_ms);
    pl_write_key(&w, "version");
    pl_write_cstr(&w, PL_VERSION);
    pl_write_key(&w, "queues");
    pl_write_int(&w, (int64_t)stats.queues);
    pl_write_key(&w, "applied");
    pl_write_int(&w, stats.applied);
    pl_write_key(&w, "until");
    pl_write_int(&w, pl_hub_unix_ms(b->hub) + 4 * b->cfg->bus_canary_interval);
}

void pl_redis__publish_own(const struct pl_redis_bus *b, struct pl_redis_args *a,
                           const char *message)
{
    pl_redis_arg_cstr(a, "PUBLISH");
    pl_redis__own_key(b, a);
    pl_redis_arg_cstr(a, message);
}

static void on_echo(void *arg, const struct redisReply *r)
{
    (void)pl_redis__failed(arg, r);
}

/* Where nothing may be written, the memory being full, say, a message alone still proves Pub/Sub. */
static void publish_nonce(struct pl_redis_bus *b)
{
    struct pl_redis_args a = {0};
    char message[80];

    (void)snprintf(message, sizeof(message), "C %" PRId64 " %s", b->newest, b->canary.nonce);
    pl_redis__publish_own(b, &a, message);
    (void)pl_redis_call(b->commands, &a, on_echo, b);
    pl_redis_args_done(&a);
}

enum {
    IDS_PER_MS = 1024
};

/* An id is the time at which it was given. A late answer makes the server's clock seem to be behind, so
 * the latest of a few counts. */
static void note_clock(struct pl_redis_bus *b, int64_t id)
{
    struct pl_redis_canary *c = &b->canary;

    c->ahead_ms[c->answered++ % 3] = id / IDS_PER_MS - pl_hub_unix_ms(b->hub);
}

static bool server_ahead(const struct pl_redis_bus *b, int64_t *ret)
{
    const struct pl_redis_canary *c = &b->canary;
    unsigned count = c->answered < 3 ? c->answered : 3;

    *ret = INT64_MIN;
    for (unsigned i = 0; i < count; i++) {
        *ret = c->ahead_ms[i] > *ret ? c->ahead_ms[i] : *ret;
    }
    return count > 0;
}

int64_t pl_redis__server_ms(const struct pl_redis_bus *b, int64_t own_ms)
{
    int64_t ahead;

    return server_ahead(b, &ahead) && own_ms + ahead > 0 ? own_ms + ahead : 0;
}

int64_t pl_redis__own_ms(const struct pl_redis_bus *b, int64_t server_ms)
{
    int64_t ahead;

    return server_ms > 0 && server_ahead(b, &ahead) ? server_ms - ahead : 0;
}

static void on_canary_sent(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;

    if (!pl_redis__failed(b, r)) {
        b->canary.refused = false;
        note_clock(b, pl_redis__number(r));
        pl_redis__seen(b, pl_redis__number(r));
    } else if (r != NULL && b->up && b->canary.nonce[0] != '\0') {
        b->canary.refused = true;
        publish_nonce(b);
    }
}

static void send_canary(struct pl_redis_bus *b)
{
    struct pl_redis_args a = {0};
    struct pl_buf node = {0};

    pl_redis__nonce(b, b->canary.nonce);
    b->canary.sent_us = pl_clock_mono_us();
    write_node(b, &node);
    pl_redis__fcall(&a, "parley_canary", 2);
    pl_redis__key(b, &a, "seq", PL_LIT(""));
    pl_redis__key(b, &a, "nodes", PL_LIT(""));
    pl_redis__own_key(b, &a);
    pl_redis_arg_cstr(&a, b->node);
    pl_redis_arg_cstr(&a, b->canary.nonce);
    pl_redis_arg(&a, node.data, node.len);
    (void)pl_redis_call(b->commands, &a, on_canary_sent, b);
    pl_buf_done(&node);
    pl_redis_args_done(&a);
}

void pl_redis__canary_came(struct pl_redis_bus *b, struct pl_str nonce)
{
    struct pl_redis_canary *c = &b->canary;

    if (!b->up || c->nonce[0] == '\0' || nonce.len != strlen(c->nonce) ||
        memcmp(nonce.s, c->nonce, nonce.len) != 0) {
        return;
    }
    pl_metric_observe_us(PL_S_BUS_CANARY, pl_clock_mono_us() - c->sent_us, 1);
    c->nonce[0] = '\0';
    c->missed = 0;
    c->good++;
    if (!c->trusted && (!c->ever || c->good >= CANARIES_GOOD)) {
        c->trusted = true;
        pl_log(PL_LOG_INFO, "bus_canary", PL_STR("state", "back"));
    }
    c->ever = true;
}

/* The time of the one under way is over. */
static void judge_canary(struct pl_redis_bus *b)
{
    struct pl_redis_canary *c = &b->canary;

    if (c->nonce[0] == '\0') {
        return;
    }
    c->nonce[0] = '\0';
    c->good = 0;
    if (++c->missed < CANARIES_MISSED) {
        return;
    }
    c->missed = 0;
    c->ever = true; /* from here on it takes two */
    if (c->trusted) {
        c->trusted = false;
        pl_log(PL_LOG_WARN, "bus_canary", PL_STR("state", "missed"));
    }
    if (pl_redis__feed_hears(b->feed)) {
        pl_redis__feed_doubt(b->feed, "three canaries were missed");
    }
}

/* The process was stopped for a while: what the sockets hold is old news. */
static void was_stopped(struct pl_redis_bus *b, uint64_t late_ms)
{
    pl_log(PL_LOG_WARN, "bus_reset", PL_STR("reason", "the process was stopped"),
           PL_INT("for_ms", late_ms));
    pl_redis__feed_down(b->feed);
    pl_redis_conn_reset(b->commands, "the process was stopped");
    pl_redis__feed_doubt(b->feed, "the process was stopped");
}

static void on_canary(struct pl_timer *t)
{
    struct pl_redis_bus *b = pl_container_of(t, struct pl_redis_bus, canary.timer);
    uint64_t now = pl_redis__now_ms(b);
    uint64_t late_ms = now > b->canary.due_ms ? now - b->canary.due_ms : 0;

    arm_canary(b);
    if (late_ms > STOPPED_MS) {
        was_stopped(b, late_ms);
        return;
    }
    if (!b->up) {
        return;
    }
    judge_canary(b);
    pl_redis__setup_functions(b);
    if (now - b->setup.policy_ms >= POLICY_EVERY_MS) {
        pl_redis__setup_policy(b);
    }
    pl_redis__setup_check(b);
    send_canary(b);
}

void pl_redis__feed_changed(struct pl_redis_bus *b)
{
    static const char *const names[] = {
        [PL_REDIS_DOWN] = "down",
        [PL_REDIS_LOGS] = "logs",
        [PL_REDIS_LIVE] = "live",
    };
    enum pl_redis_feed_mode mode = pl_redis__feed_mode(b->feed);

    pl_log(PL_LOG_INFO, "bus_feed", PL_STR("mode", names[mode]));
    if (mode == PL_REDIS_LIVE && b->up) {
        send_canary(b);
        arm_canary(b);
    }
}

/* ---- the connections ---- */

static uint64_t conn_now_ms(void *arg)
{
    return pl_redis__now_ms(arg);
}

static void commands_up(void *arg)
{
    struct pl_redis_bus *b = arg;

    pl_metric_add(PL_S_BUS_CONNECTS_COMMANDS, 1);
    pl_redis__setup_begin(b);
}

static void commands_down(void *arg, const char *reason)
{
    struct pl_redis_bus *b = arg;

    pl_redis__setup_end(b);
    (void)snprintf(b->error, sizeof(b->error), "%s", reason);
    if (!b->up) {
        return;
    }
    b->up = false;
    b->canary.nonce[0] = '\0';
    b->canary.missed = b->canary.good = 0;
    b->canary.trusted = b->canary.ever = b->canary.refused = false;
    pl_log(PL_LOG_WARN, "bus_down", PL_STR("reason", reason));
    pl_redis__feed_down(b->feed);
    pl_redis__ask_down(b->ask);
}

static void pubsub_up(void *arg)
{
    struct pl_redis_bus *b = arg;

    pl_metric_add(PL_S_BUS_CONNECTS_PUBSUB, 1);
    pl_redis__feed_pubsub_up(b->feed);
}

static void pubsub_down(void *arg, const char *reason)
{
    struct pl_redis_bus *b = arg;

    pl_log(PL_LOG_WARN, "bus_pubsub_down", PL_STR("reason", reason));
    pl_redis__feed_pubsub_down(b->feed);
}

static void pubsub_push(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;

    pl_redis__feed_push(b->feed, r);
}

struct pl_redis_bus *pl_redis_bus_new(const struct pl_redis_bus_options *o)
{
    struct pl_redis_bus *b = pl_alloc(sizeof(*b));

    b->cfg = o->cfg;
    b->url = *o->url;
    b->node = o->node;
    b->address = o->address;
    b->wheel = o->wheel;
    pl_random_bytes(&b->nonce[0], sizeof(b->nonce[0]));
    pl_timer_init(&b->canary.timer, on_canary);
    return b;
}

void pl_redis_bus_connect(struct pl_redis_bus *b, struct pl_hub *h, struct uv_loop_s *loop)
{
    struct pl_redis_conn_options o = {
        .url = &b->url,
        .loop = loop,
        .wheel = b->wheel,
        .now_ms = conn_now_ms,
        .arg = b,
        .label = "commands",
        .connect_timeout_ms = b->cfg->bus_timeout,
        .command_timeout_ms = b->cfg->bus_timeout,
        .backoff_ms = BACKOFF_MS,
        .backoff_max_ms = BACKOFF_MAX_MS,
        .up = commands_up,
        .down = commands_down,
    };

    b->hub = h;
    b->loop = loop;
    b->started_unix_ms = pl_hub_unix_ms(h);
    pl_hub_bus_pause(h, true);
    pl_hub_bus_hears(h, false);
    b->feed = pl_redis__feed_new(b);
    b->ask = pl_redis__ask_new(b);
    b->raw = pl_redis__raw_new(b);
    b->commands = pl_redis_conn_new(&o);
    o.label = "pubsub";
    o.command_timeout_ms = 0;
    o.up = pubsub_up;
    o.down = pubsub_down;
    o.push = pubsub_push;
    b->pubsub = pl_redis_conn_new(&o);
    arm_canary(b);
}

void pl_redis_bus_free(struct pl_redis_bus *b)
{
    if (b == NULL) {
        return;
    }
    b->up = false;
    if (b->hub != NULL) {
        pl_timer_cancel(b->wheel, &b->canary.timer);
        pl_redis__feed_down(b->feed);
        pl_redis_conn_free(b->pubsub);
        pl_redis_conn_free(b->commands);
        pl_redis__setup_end(b);
        pl_redis__raw_free(b->raw);
        pl_redis__ask_free(b->ask);
        pl_redis__feed_free(b->feed);
    }
    free(b);
}

/* ---- how it is ---- */

static void add_reason(struct pl_redis_bus_status *s, const char *reason)
{
    s->reasons[s->reason_count++] = reason;
}

void pl_redis_bus_status(const struct pl_redis_bus *b, struct pl_redis_bus_status *ret)
{
    const char *error = b->error[0] != '\0' ? b->error : pl_redis_conn_error(b->pubsub);

    *ret = (struct pl_redis_bus_status){
        .feed = pl_redis__feed_mode(b->feed),
        .breaker = breaker_of(b),
        .outstanding = pl_redis_conn_outstanding(b->commands),
    };
    if (pl_redis_conn_error(b->commands)[0] != '\0') {
        error = pl_redis_conn_error(b->commands);
    }
    (void)snprintf(ret->error, sizeof(ret->error), "%s", error);
    if (!b->up) {
        add_reason(ret, "bus_unavailable");
    } else if (!b->canary.trusted) {
        add_reason(ret, pl_redis__feed_hears(b->feed) ? "bus_canary" : "bus_pubsub");
    }
    if (b->up && b->canary.refused) {
        add_reason(ret, "bus_refuses_writes");
    }
    if (b->setup.bad_policy) {
        add_reason(ret, "bus_eviction_policy");
    }
    ret->ready = ret->reason_count == 0;
}

const struct pl_bus_ops pl_redis_bus_ops = {
    .publish = pl_redis__publish,
    .change = pl_redis__change,
    .open = pl_redis__open,
    .close = pl_redis__close,
    .sequence = pl_redis__sequence,
    .read = pl_redis__read,
    .save = pl_redis__save,
    .claim = pl_redis__claim,
    .drop = pl_redis__drop,
    .end_queue = pl_redis__end_queue,
    .user = pl_redis__user,
    .compact = pl_redis__compact,
};
