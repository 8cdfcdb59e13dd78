/* What happens when commands come up, and is looked at again from time to time: is this a server to work
 * with, does it have our functions, and is its history the one we know. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_library.h"
#include "server/bus/redis_priv.h"

enum {
    AGAIN_MS = 2000,
    OLDEST_SERVER = 7,
    FEED_MARKS = 200,
    ASK_MARKS = 64,
    FRESH_MS = 10000, /* back for less: queues may not have been written back yet */
};

static void call(struct pl_redis_bus *b, pl_redis_reply_fn *fn, const char *const *words)
{
    struct pl_redis_args a = {0};

    while (*words != NULL) {
        pl_redis_arg_cstr(&a, *words++);
    }
    (void)pl_redis_call(b->commands, &a, fn, b);
    pl_redis_args_done(&a);
}
#define CALL(b, fn, ...) call(b, fn, (const char *const[]){__VA_ARGS__, NULL})

/* Not fit to work with; asked again after a while, for most of it can be put right there. */
static void fail(struct pl_redis_bus *b, const char *reason)
{
    b->setup.checking = false;
    if (b->up || b->setup.failed) {
        return;
    }
    b->setup.failed = true;
    pl_timer_set(b->wheel, &b->setup.again, pl_redis__now_ms(b) + AGAIN_MS);
    if (strncmp(b->error, reason, sizeof(b->error) - 1) != 0) {
        (void)snprintf(b->error, sizeof(b->error), "%s", reason);
        pl_log(PL_LOG_ERROR, "bus_unfit", PL_STR("reason", b->error));
    }
}

static void fail_by(struct pl_redis_bus *b, const char *what, const struct redisReply *r)
{
    char reason[160];

    if (r != NULL) {
        struct pl_str said = pl_redis__text(r);

        (void)snprintf(reason, sizeof(reason), "%s: %.*s", what, (int)said.len, said.s);
        fail(b, reason);
    }
    b->setup.checking = false;
}

/* ---- the server ---- */

static void on_info(void *arg, const struct redisReply *r)
{
    static const char field[] = "redis_version:";
    static const char uptime[] = "uptime_in_seconds:";
    struct pl_redis_bus *b = arg;
    char reason[120];
    const char *at;

    /* Where an ACL forbids INFO, the functions will tell. */
    if (pl_redis__failed(b, r) || r->type != REDIS_REPLY_STRING) {
        return;
    }
    at = strstr(r->str, uptime);
    b->server_is_old = at != NULL && strtol(at + strlen(uptime), NULL, 10) >= FRESH_MS / 1000;
    at = strstr(r->str, field);
    if (at != NULL && strtol(at + strlen(field), NULL, 10) < OLDEST_SERVER) {
        (void)snprintf(reason, sizeof(reason), "Redis 7.0 or newer is needed, this one is %.12s",
                       at + strlen(field));
        reason[strcspn(reason, "\r\n")] = '\0';
        fail(b, reason);
    }
}

static void on_role(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;

    if (pl_redis__failed(b, r) || r->type != REDIS_REPLY_ARRAY || r->elements == 0) {
        return;
    }
    if (!pl_str_eq(pl_redis__text(r->element[0]), PL_LIT("master"))) {
        fail(b, "this server is a replica: bus.url must name the primary, or the sentinels");
    }
}

static void on_policy(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;
    struct pl_str policy;
    char text[40];
    bool bad;

    /* An ACL may forbid CONFIG: then it is not known, and nothing is held against it. */
    if (pl_redis__failed(b, r) || r->type != REDIS_REPLY_ARRAY || r->elements < 2) {
        return;
    }
    policy = pl_redis__text(r->element[1]);
    bad = !pl_str_eq(policy, PL_LIT("noeviction"));
    if (bad && !b->setup.bad_policy) {
        (void)snprintf(text, sizeof(text), "%.*s", (int)policy.len, policy.s);
        pl_log(PL_LOG_ERROR, "bus_eviction_policy", PL_STR("maxmemory_policy", text),
               PL_STR("needed", "noeviction"));
    }
    b->setup.bad_policy = bad;
}

void pl_redis__setup_policy(struct pl_redis_bus *b)
{
    b->setup.policy_ms = pl_redis__now_ms(b);
    CALL(b, on_policy, "CONFIG", "GET", "maxmemory-policy");
}

/* ---- the functions ---- */

static void on_loaded(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;

    if (pl_redis__failed(b, r)) {
        fail_by(b, "FUNCTION LOAD", r);
        return;
    }
    pl_log(PL_LOG_INFO, "functions_loaded", PL_INT("version", PL_REDIS_LIBRARY_VERSION));
    if (!b->up) {
        pl_redis__setup_check(b);
    }
}

static void load_functions(struct pl_redis_bus *b)
{
    struct pl_redis_args a = {0};

    pl_redis_arg_cstr(&a, "FUNCTION");
    pl_redis_arg_cstr(&a, "LOAD");
    pl_redis_arg_cstr(&a, "REPLACE");
    pl_redis_arg(&a, pl_redis_library, pl_redis_library_len);
    (void)pl_redis_call(b->commands, &a, on_loaded, b);
    pl_redis_args_done(&a);
}

static void on_version(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;
    bool missing;

    if (r == NULL || b->setup.failed) {
        return;
    }
    missing = r->type == REDIS_REPLY_ERROR && strstr(r->str, "Function not found") != NULL;
    if (!missing && pl_redis__failed(b, r)) {
        fail_by(b, "FCALL", r);
    } else if (missing || pl_redis__number(r) < PL_REDIS_LIBRARY_VERSION) {
        load_functions(b);
    } else if (!b->up) {
        pl_redis__setup_check(b);
    }
}

void pl_redis__setup_functions(struct pl_redis_bus *b)
{
    CALL(b, on_version, "FCALL_RO", "parley_version", "0");
}

/* ---- the epoch ---- */

/* What has been seen of this epoch; what is older was said to be lost when it began. */
static size_t collect_marks(const struct pl_redis_bus *b,
                            struct pl_redis_mark marks[FEED_MARKS + ASK_MARKS])
{
    size_t count = pl_redis__feed_marks(b->feed, marks, FEED_MARKS);
    size_t kept = 0;

    count += pl_redis__ask_marks(b->ask, marks + count, ASK_MARKS);
    for (size_t i = 0; i < count; i++) {
        if (marks[i].id > b->setup.start) {
            marks[kept++] = marks[i];
        }
    }
    return kept;
}

static void on_verified(void *arg, const struct redisReply *r);

static void verify(struct pl_redis_bus *b)
{
    struct pl_redis_mark marks[FEED_MARKS + ASK_MARKS];
    struct pl_redis_args a = {0};

    b->setup.marks = collect_marks(b, marks);
    b->setup.newest = b->newest;
    pl_redis__fcall_ro(&a, "parley_verify", 2 + b->setup.marks);
    pl_redis__key(b, &a, "seq", PL_LIT(""));
    pl_redis__key(b, &a, "epoch", PL_LIT(""));
    for (size_t i = 0; i < b->setup.marks; i++) {
        pl_redis__key(b, &a, marks[i].channel.len > 0 ? "log" : "control", marks[i].channel);
    }
    pl_redis_arg_int(&a, b->cfg->bus_log_age);
    for (size_t i = 0; i < b->setup.marks; i++) {
        pl_redis_arg_int(&a, marks[i].id);
        pl_redis_arg_str(&a, marks[i].tag);
    }
    b->setup.checking = pl_redis_call(b->commands, &a, on_verified, b);
    pl_redis_args_done(&a);
}

static bool is_known(const struct pl_redis_bus *b)
{
    return b->setup.number == b->epoch && b->setup.start == b->epoch_start;
}

static void enter_epoch(struct pl_redis_bus *b, int64_t sequence)
{
    bool first = b->epoch == 0;

    b->epoch = b->setup.number;
    b->epoch_start = b->setup.start;
    pl_redis__seen(b, b->epoch_start);
    if (!first) {
        pl_metric_add(PL_S_BUS_EPOCHS, 1);
    }
    pl_log(first ? PL_LOG_INFO : PL_LOG_WARN, "bus_epoch", PL_INT("number", b->epoch),
           PL_INT("start", b->epoch_start));
    pl_redis__feed_epoch(b->feed, b->epoch_start, sequence, first);
}

static void settle(struct pl_redis_bus *b, int64_t sequence)
{
    char url[160];
    bool was_up = b->up;

    b->setup.checking = false;
    pl_redis__seen(b, sequence);
    if (!was_up) {
        b->up = true;
        /* Where an outage ended, or Redis has just begun, owners write their queues back. */
        b->fresh_until_ms = b->was_up || !b->server_is_old ? pl_redis__now_ms(b) + FRESH_MS : 0;
        b->was_up = true;
        b->error[0] = '\0';
        pl_redis_url_show(&b->url, url, sizeof(url));
        pl_log(PL_LOG_INFO, "bus_up", PL_STR("url", url), PL_INT("sequence", sequence));
    }
    if (!is_known(b)) {
        enter_epoch(b, sequence);
    }
    if (!was_up) {
        pl_redis__feed_up(b->feed);
        pl_redis__ask_up(b->ask);
    }
}

static void on_epoch(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;

    if (pl_redis__failed(b, r) || r->type != REDIS_REPLY_ARRAY || r->elements < 2) {
        fail_by(b, "parley_epoch", r);
        return;
    }
    /* Ours, or that of a node which was faster: verified once more, against what is ours. */
    b->setup.number = pl_redis__number(r->element[0]);
    b->setup.start = pl_redis__number(r->element[1]);
    verify(b);
}

static void ask_epoch(struct pl_redis_bus *b, int64_t expected)
{
    struct pl_redis_args a = {0};

    pl_redis__fcall(&a, "parley_epoch", 3);
    pl_redis__key(b, &a, "seq", PL_LIT(""));
    pl_redis__key(b, &a, "epoch", PL_LIT(""));
    pl_redis__key(b, &a, "control", PL_LIT(""));
    pl_redis_arg_int(&a, expected);
    pl_redis_arg_int(&a, b->newest);
    b->setup.checking = pl_redis_call(b->commands, &a, on_epoch, b);
    pl_redis_args_done(&a);
}

static void on_verified(void *arg, const struct redisReply *r)
{
    struct pl_redis_bus *b = arg;
    int64_t sequence, number, start;
    bool changed;

    if (pl_redis__failed(b, r) || r->type != REDIS_REPLY_ARRAY || r->elements < 4) {
        fail_by(b, "parley_verify", r);
        return;
    }
    sequence = pl_redis__number(r->element[0]);
    number = pl_redis__number(r->element[1]);
    start = pl_redis__number(r->element[2]);
    changed = number != b->setup.number || start != b->setup.start;
    b->setup.number = number;
    b->setup.start = start;
    if (number <= 0 || sequence < b->setup.newest) {
        ask_epoch(b, number > 0 ? number : 0);
    } else if (changed && b->epoch != 0 && pl_redis__feed_at(b->feed) >= start) {
        /* Clients here were told ids of the old history beyond the new one's start. */
        ask_epoch(b, number);
    } else if (changed && b->setup.marks > 0) {
        verify(b);
    } else if (!changed && pl_redis__number(r->element[3]) > 0) {
        ask_epoch(b, number);
    } else {
        settle(b, sequence);
    }
}

static void begin_check(struct pl_redis_bus *b)
{
    b->setup.number = b->epoch;
    b->setup.start = b->epoch_start;
}

void pl_redis__setup_check(struct pl_redis_bus *b)
{
    if (!b->setup.checking && !b->setup.failed) {
        begin_check(b);
        verify(b);
    }
}

void pl_redis__forked(struct pl_redis_bus *b)
{
    if (!b->setup.checking && b->up) {
        begin_check(b);
        ask_epoch(b, b->epoch);
    }
}

/* ---- life ---- */

static void on_again(struct pl_timer *t)
{
    pl_redis__setup_begin(pl_container_of(t, struct pl_redis_bus, setup.again));
}

void pl_redis__setup_begin(struct pl_redis_bus *b)
{
    b->setup.failed = false;
    b->setup.checking = false;
    pl_timer_init(&b->setup.again, on_again);
    CALL(b, on_info, "INFO", "server");
    CALL(b, on_role, "ROLE");
    pl_redis__setup_policy(b);
    pl_redis__setup_functions(b);
}

void pl_redis__setup_end(struct pl_redis_bus *b)
{
    if (b->setup.failed) {
        pl_timer_cancel(b->wheel, &b->setup.again);
    }
    b->setup.failed = false;
    b->setup.checking = false;
}
