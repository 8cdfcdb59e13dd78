#include "server/cli/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

enum {
    WORDS_MAX = 16
};

struct pl_cli_redis {
    redisContext *context;
    int port;
    char host[256]; /* with port: whom errors are about */
};

__attribute__((format(printf, 2, 3))) static int fail(struct pl_cli_redis_error *err,
                                                      const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return -1;
}

/* ---- one command ---- */

/* The reply belongs to the caller. Error replies are failures here. */
static redisReply *command(struct pl_cli_redis *r, const struct pl_str *words, size_t count,
                           struct pl_cli_redis_error *err)
{
    const char *texts[WORDS_MAX];
    size_t lens[WORDS_MAX];
    redisReply *reply;

    PL_ASSERT(count <= WORDS_MAX);
    for (size_t i = 0; i < count; i++) {
        texts[i] = words[i].s;
        lens[i] = words[i].len;
    }
    errno = 0;
    reply = redisCommandArgv(r->context, (int)count, texts, lens);
    if (reply == NULL) {
        fail(err, "%s port %d: %s", r->host, r->port,
             errno == EAGAIN ? "no answer in time" : r->context->errstr);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        fail(err, "%s port %d says: %s", r->host, r->port, reply->str);
        freeReplyObject(reply);
        reply = NULL;
    }
    return reply;
}

static int command_done(struct pl_cli_redis *r, const struct pl_str *words, size_t count,
                        struct pl_cli_redis_error *err)
{
    redisReply *reply = command(r, words, count, err);

    if (reply == NULL) {
        return -1;
    }
    freeReplyObject(reply);
    return 0;
}

/* hiredis bounds how deep replies nest. */
static void copy_reply(const redisReply *from, struct pl_arena *arena, struct pl_value *to)
{
    char *bytes;

    switch (from->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        bytes = pl_arena_alloc(arena, from->len + 1);
        memcpy(bytes, from->str, from->len);
        to->type = PL_STRING;
        to->u.string = (struct pl_str){bytes, from->len};
        break;
    case REDIS_REPLY_INTEGER:
        to->type = PL_INT_VALUE;
        to->u.integer = from->integer;
        break;
    case REDIS_REPLY_ARRAY:
        to->type = PL_ARRAY;
        to->u.array.count = from->elements;
        to->u.array.items = pl_arena_alloc(arena, (from->elements + 1) * sizeof(*to));
        for (size_t i = 0; i < from->elements; i++) {
            copy_reply(from->element[i], arena, &to->u.array.items[i]);
        }
        break;
    default:
        to->type = PL_NULL;
    }
}

int pl_cli_redis_ask(struct pl_cli_redis *r, const struct pl_str *words, size_t count,
                     struct pl_arena *arena, const struct pl_value **ret,
                     struct pl_cli_redis_error *err)
{
    redisReply *reply = command(r, words, count, err);
    struct pl_value *v;

    if (reply == NULL) {
        return -1;
    }
    v = pl_arena_alloc(arena, sizeof(*v));
    copy_reply(reply, arena, v);
    freeReplyObject(reply);
    *ret = v;
    return 0;
}

/* ---- connecting ---- */

void pl_cli_redis_close(struct pl_cli_redis *r)
{
    if (r != NULL) {
        redisFree(r->context);
        free(r);
    }
}

static struct pl_cli_redis *dial(const char *host, int port, int64_t timeout_ms,
                                 struct pl_cli_redis_error *err)
{
    const struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    redisContext *c = redisConnectWithTimeout(host, port, tv);
    struct pl_cli_redis *r;

    if (c == NULL || c->err != 0 || redisSetTimeout(c, tv) != REDIS_OK) {
        fail(err, "cannot connect to %s port %d: %s", host, port,
             c != NULL ? c->errstr : "out of memory");
        redisFree(c);
        return NULL;
    }
    r = pl_alloc(sizeof(*r));
    r->context = c;
    r->port = port;
    snprintf(r->host, sizeof(r->host), "%s", host);
    return r;
}

static struct pl_str text(const char *s)
{
    return (struct pl_str){s, strlen(s)};
}

static int log_in(struct pl_cli_redis *r, const struct pl_redis_url *u,
                  struct pl_cli_redis_error *err)
{
    const struct pl_str with_user[] = {PL_LIT("AUTH"), text(u->user), text(u->password)};
    const struct pl_str without[] = {PL_LIT("AUTH"), text(u->password)};

    if (u->password[0] == '\0') {
        return 0;
    }
    return u->user[0] != '\0' ? command_done(r, with_user, 3, err)
                              : command_done(r, without, 2, err);
}

static int select_db(struct pl_cli_redis *r, int db, struct pl_cli_redis_error *err)
{
    char number[16];

    if (db == 0) {
        return 0;
    }
    snprintf(number, sizeof(number), "%d", db);
    return command_done(r, (const struct pl_str[]){PL_LIT("SELECT"), text(number)}, 2, err);
}

/* What a Sentinel calls the master may have ceased to be one: it is asked itself. */
static int check_role(struct pl_cli_redis *r, struct pl_cli_redis_error *err)
{
    redisReply *reply = command(r, (const struct pl_str[]){PL_LIT("ROLE")}, 1, err);
    bool master;

    if (reply == NULL) {
        return -1;
    }
    master = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
             reply->element[0]->type == REDIS_REPLY_STRING &&
             strcmp(reply->element[0]->str, "master") == 0;
    freeReplyObject(reply);
    return master ? 0 : fail(err, "%s port %d is no master now", r->host, r->port);
}

static struct pl_cli_redis *open_at(const struct pl_redis_url *u, const char *host, int port,
                                    int64_t timeout_ms, struct pl_cli_redis_error *err)
{
    struct pl_cli_redis *r = dial(host, port, timeout_ms, err);

    if (r != NULL && (log_in(r, u, err) != 0 || (u->sentinel && check_role(r, err) != 0) ||
                      select_db(r, u->db, err) != 0)) {
        pl_cli_redis_close(r);
        r = NULL;
    }
    return r;
}

static bool is_address(const redisReply *r)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
           r->element[0]->type == REDIS_REPLY_STRING && r->element[1]->type == REDIS_REPLY_STRING;
}

/* By what this one Sentinel says. */
static struct pl_cli_redis *open_by_sentinel(const struct pl_redis_url *u,
                                             const struct pl_redis_host *h, int64_t timeout_ms,
                                             struct pl_cli_redis_error *err)
{
    const struct pl_str words[] = {PL_LIT("SENTINEL"), PL_LIT("get-master-addr-by-name"),
                                   text(u->master)};
    struct pl_cli_redis *sentinel = dial(h->name, h->port, timeout_ms, err), *r = NULL;
    redisReply *reply = sentinel != NULL ? command(sentinel, words, 3, err) : NULL;

    if (reply != NULL && !is_address(reply)) {
        fail(err, "the Sentinel %s port %d knows no master \"%s\"", h->name, h->port, u->master);
    } else if (reply != NULL) {
        r = open_at(u, reply->element[0]->str, atoi(reply->element[1]->str), timeout_ms, err);
    }
    freeReplyObject(reply);
    pl_cli_redis_close(sentinel);
    return r;
}

int pl_cli_redis_open(const struct pl_redis_url *u, int64_t timeout_ms, struct pl_cli_redis **ret,
                      struct pl_cli_redis_error *err)
{
    struct pl_cli_redis *r = NULL;

    signal(SIGPIPE, SIG_IGN);
    if (!u->sentinel) {
        r = open_at(u, u->hosts[0].name, u->hosts[0].port, timeout_ms, err);
    }
    for (int i = 0; u->sentinel && r == NULL && i < u->host_count; i++) {
        r = open_by_sentinel(u, &u->hosts[i], timeout_ms, err);
    }
    if (r == NULL) {
        return -1;
    }
    *ret = r;
    return 0;
}
