#include "server/bus/redis_pipe.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

enum {
    REPLY_BYTES_MAX = 256 << 20, /* of one reply; the readings of logs are kept far below */
    READER_KEEP = 64 << 10,      /* a reader that has held more is made anew when it is empty */
    CALLS_KEEP = 1024,
};

void pl_redis__pipe_cut(struct pl_redis__pipe *p)
{
    if (p->reader != NULL) {
        redisReaderFree(p->reader);
    }
    p->reader = NULL;
    p->partial = p->peak = 0;
    p->timing = false;
}

void pl_redis__pipe_done(struct pl_redis__pipe *p)
{
    pl_redis__pipe_cut(p);
    free(p->calls);
    p->calls = NULL;
    p->head = p->count = p->cap = 0;
}

static void grow(struct pl_redis__pipe *p)
{
    size_t cap = p->cap == 0 ? 16 : p->cap * 2;
    struct pl_redis__call *calls = pl_alloc(cap * sizeof(*calls));

    for (size_t i = 0; i < p->count; i++) {
        calls[i] = p->calls[(p->head + i) % p->cap];
    }
    free(p->calls);
    p->calls = calls;
    p->head = 0;
    p->cap = cap;
}

void pl_redis__pipe_asked(struct pl_redis__pipe *p, const struct pl_redis__call *call)
{
    if (p->count == p->cap) {
        grow(p);
    }
    p->calls[(p->head + p->count++) % p->cap] = *call;
}

bool pl_redis__pipe_take(struct pl_redis__pipe *p, struct pl_redis__call *ret)
{
    if (p->count == 0) {
        return false;
    }
    *ret = p->calls[p->head];
    p->head = (p->head + 1) % p->cap;
    if (--p->count == 0 && p->cap > CALLS_KEEP) {
        free(p->calls);
        p->calls = NULL;
        p->head = p->cap = 0;
    }
    return true;
}

const struct pl_redis__call *pl_redis__pipe_oldest(const struct pl_redis__pipe *p)
{
    return p->count == 0 ? NULL : &p->calls[p->head];
}

static enum pl_redis__next broken(struct pl_redis__pipe *p, const char *what, const char *text)
{
    (void)snprintf(p->error, sizeof(p->error), "%s%s%s", what, text[0] != '\0' ? ": " : "", text);
    return PL_REDIS__BROKEN;
}

void pl_redis__pipe_feed(struct pl_redis__pipe *p, const char *bytes, size_t len)
{
    if (p->reader == NULL) {
        p->reader = redisReaderCreate();
        PL_ASSERT(p->reader != NULL);
    }
    /* Short memory is found again, and told, by pl_redis__pipe_next. */
    (void)redisReaderFeed(p->reader, bytes, len);
    p->partial += len;
    if (p->partial > p->peak) {
        p->peak = p->partial;
    }
}

static bool is_push(const redisReply *r, bool *ret_confirms)
{
    static const struct {
        const char *name;
        bool confirms;
    } kinds[] = {{"message", false},    {"pmessage", false},  {"subscribe", true},
                 {"unsubscribe", true}, {"psubscribe", true}, {"punsubscribe", true}};

    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
        r->element[0]->type != REDIS_REPLY_STRING) {
        return false;
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(r->element[0]->str, kinds[i].name) == 0) {
            *ret_confirms = kinds[i].confirms;
            return true;
        }
    }
    return false;
}

/* SUBSCRIBE a b c is answered when three pushes have come. */
static void confirm(struct pl_redis__pipe *p)
{
    struct pl_redis__call *oldest = p->count == 0 ? NULL : &p->calls[p->head];
    struct pl_redis__call done;

    if (oldest != NULL && oldest->fn == NULL && --oldest->pushes == 0) {
        (void)pl_redis__pipe_take(p, &done);
    }
}

static enum pl_redis__next sort(struct pl_redis__pipe *p, redisReply *r,
                                struct pl_redis__call *ret_call)
{
    const char *error = r->type == REDIS_REPLY_ERROR ? r->str : "";
    bool confirms = false;

    if (p->pushes && is_push(r, &confirms)) {
        if (confirms) {
            confirm(p);
        }
        return PL_REDIS__PUSH;
    }
    if (!pl_redis__pipe_take(p, ret_call)) {
        return broken(p, "a reply that nobody asked for", error);
    }
    if (ret_call->fn == NULL) {
        return broken(p, "subscribing was refused", error);
    }
    return PL_REDIS__ANSWER;
}

enum pl_redis__next pl_redis__pipe_next(struct pl_redis__pipe *p, struct redisReply **ret,
                                        struct pl_redis__call *ret_call)
{
    void *reply = NULL;
    enum pl_redis__next next;

    if (p->reader == NULL) {
        return PL_REDIS__MORE;
    }
    if (redisReaderGetReply(p->reader, &reply) != REDIS_OK) {
        return broken(p, "not a reply of Redis", p->reader->errstr);
    }
    if (reply == NULL) {
        if (p->partial > REPLY_BYTES_MAX) {
            return broken(p, "a reply is too big", "");
        }
        if (p->partial == 0 && p->peak > READER_KEEP) {
            pl_redis__pipe_cut(p);
        }
        return PL_REDIS__MORE;
    }
    p->partial = p->reader->len - p->reader->pos;
    next = sort(p, reply, ret_call);
    if (next == PL_REDIS__BROKEN) {
        freeReplyObject(reply);
    } else {
        *ret = reply;
    }
    return next;
}
