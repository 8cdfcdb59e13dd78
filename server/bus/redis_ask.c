#include "server/bus/redis_ask_priv.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/metrics.h"

enum {
    ERROR_LOG_MS = 60000,
};

static struct pl_redis_call *call_of(struct pl_list *n)
{
    return pl_container_of(n, struct pl_redis_call, node);
}

/* ---- calls ---- */

struct pl_redis_call *pl_redis__call_new(struct pl_redis_ask *a,
                                         void (*answer)(struct pl_redis_call *c,
                                                        const struct redisReply *r))
{
    struct pl_redis_call *c = pl_alloc(sizeof(*c));

    pl_list_init(&c->node);
    c->ask = a;
    c->answer = answer;
    return c;
}

void pl_redis__call_free(struct pl_redis_call *c)
{
    if (c->kept && c->ask != NULL) {
        c->ask->kept_count--;
        c->ask->kept_bytes -= c->args.bytes.len;
    }
    pl_redis_args_done(&c->args);
    pl_arena_done(&c->arena);
    free(c);
}

struct pl_str pl_redis__call_copy(struct pl_redis_call *c, struct pl_str s)
{
    char *to = pl_arena_alloc(&c->arena, s.len + 1);

    if (s.len > 0) {
        memcpy(to, s.s, s.len);
    }
    return (struct pl_str){to, s.len};
}

static void answer(struct pl_redis_call *c, const struct redisReply *r)
{
    pl_list_remove(&c->node);
    c->answer(c, r);
    if (pl_list_empty(&c->node)) {
        pl_redis__call_free(c);
    }
}

/* ---- errors ---- */

/* Never what the error says beyond its first word: that may repeat what was sent. */
static void log_error(struct pl_redis_ask *a, const struct redisReply *r)
{
    uint64_t now = pl_redis__now_ms(a->b);
    size_t len = strcspn(r->str, " \r\n");
    size_t at = 0;

    len = len < sizeof(a->errors[0].word) ? len : sizeof(a->errors[0].word) - 1;
    for (size_t i = 0; i < PL_REDIS_ERROR_KINDS; i++) {
        if (strlen(a->errors[i].word) == len && memcmp(a->errors[i].word, r->str, len) == 0) {
            if (now - a->errors[i].logged_ms < ERROR_LOG_MS) {
                return;
            }
            at = i;
            break;
        }
        at = a->errors[i].logged_ms < a->errors[at].logged_ms ? i : at;
    }
    memcpy(a->errors[at].word, r->str, len);
    a->errors[at].word[len] = '\0';
    a->errors[at].logged_ms = now;
    pl_log(PL_LOG_WARN, "bus_error", PL_STR("code", a->errors[at].word));
}

/* ---- sending, keeping, asking again ---- */

static void arm_expiry(struct pl_redis_ask *a)
{
    if (!pl_list_empty(&a->parked) && !a->closing) {
        pl_timer_set(a->b->wheel, &a->expiry, call_of(a->parked.next)->expires_ms);
    }
}

void pl_redis__call_park(struct pl_redis_call *c)
{
    struct pl_redis_ask *a = c->ask;

    if (a->closing || pl_redis__now_ms(a->b) >= c->expires_ms) {
        c->answer(c, NULL);
        pl_redis__call_free(c);
        return;
    }
    pl_list_append(&a->parked, &c->node);
    arm_expiry(a);
}

static void on_expiry(struct pl_timer *t)
{
    struct pl_redis_ask *a = pl_container_of(t, struct pl_redis_ask, expiry);

    while (!pl_list_empty(&a->parked) &&
           call_of(a->parked.next)->expires_ms <= pl_redis__now_ms(a->b)) {
        answer(call_of(a->parked.next), NULL);
    }
    arm_expiry(a);
}

static void on_reply(void *arg, const struct redisReply *r)
{
    struct pl_redis_call *c = arg;

    if (c->ask == NULL) {
        pl_redis__call_free(c);
        return;
    }
    c->lost = r == NULL;
    if (pl_redis__failed(c->ask->b, r)) {
        if (r != NULL) {
            log_error(c->ask, r);
        }
        r = NULL;
    }
    if (c->lost && c->kept) {
        pl_list_remove(&c->node);
        pl_redis__call_park(c);
        return;
    }
    answer(c, r);
}

bool pl_redis__call_send(struct pl_redis_call *c)
{
    struct pl_redis_bus *b = c->ask->b;

    if (!b->up || !pl_redis_call(b->commands, &c->args, on_reply, c)) {
        return false;
    }
    pl_list_append(&c->ask->sent, &c->node);
    return true;
}

static void on_soon(struct pl_timer *t)
{
    struct pl_redis_ask *a = pl_container_of(t, struct pl_redis_ask, soon);
    struct pl_list now;

    pl_list_init(&now);
    pl_list_splice(&now, &a->failed);
    while (!pl_list_empty(&now)) {
        answer(call_of(now.next), NULL);
    }
}

/* For calls that are answered from the loop, whatever happens. */
void pl_redis__call_ask(struct pl_redis_call *c)
{
    struct pl_redis_ask *a = c->ask;

    if (pl_redis__call_send(c)) {
        return;
    }
    if (a->closing) {
        pl_redis__call_free(c);
        return;
    }
    pl_list_append(&a->failed, &c->node);
    pl_timer_set(a->b->wheel, &a->soon, pl_redis__now_ms(a->b));
}

/* For what nobody waits for: dropped when it cannot be sent. */
void pl_redis__call_tell(struct pl_redis_call *c)
{
    if (!pl_redis__call_send(c)) {
        pl_redis__call_free(c);
    }
}

/* ---- the sequence ---- */

static void on_sequence(struct pl_redis_call *c, const struct redisReply *r)
{
    int64_t newest = r == NULL ? -1 : r->type == REDIS_REPLY_NIL ? 0 : pl_redis__number(r);

    if (newest < 0) {
        c->done(c->arg, PL_ERR_BUS, NULL, 0);
        return;
    }
    pl_redis__seen(c->ask->b, newest);
    c->done(c->arg, PL_OK, &newest, 1);
}

void pl_redis__sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_sequence);

    c->done = done;
    c->arg = arg;
    pl_redis_arg_cstr(&c->args, "GET");
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    pl_redis__call_ask(c);
}

/* ---- up, down, gone ---- */

void pl_redis__ask_down(struct pl_redis_ask *a)
{
    if (a->kept_count > 0) {
        pl_log(PL_LOG_INFO, "bus_kept", PL_INT("commands", a->kept_count));
    }
}

void pl_redis__ask_up(struct pl_redis_ask *a)
{
    struct pl_list again;

    pl_list_init(&again);
    pl_list_splice(&again, &a->parked);
    while (!pl_list_empty(&again)) {
        struct pl_redis_call *c = call_of(again.next);

        pl_list_remove(&c->node);
        if (!pl_redis__call_send(c)) {
            pl_list_append(&a->parked, &c->node);
            continue;
        }
        pl_metric_add(PL_S_BUS_RETRIES, 1);
        if (c->sent != NULL) {
            c->sent(c);
        }
    }
    arm_expiry(a);
}

struct pl_redis_ask *pl_redis__ask_new(struct pl_redis_bus *b)
{
    struct pl_redis_ask *a = pl_alloc(sizeof(*a));

    a->b = b;
    pl_list_init(&a->sent);
    pl_list_init(&a->replicated);
    pl_list_init(&a->parked);
    pl_list_init(&a->failed);
    pl_timer_init(&a->expiry, on_expiry);
    pl_timer_init(&a->soon, on_soon);
    return a;
}

static void give_up(struct pl_list *calls)
{
    while (!pl_list_empty(calls)) {
        struct pl_redis_call *c = call_of(calls->next);

        pl_list_remove(&c->node);
        c->lost = true;
        c->answer(c, NULL);
        pl_redis__call_free(c);
    }
}

/* Their replies still come, or their loss: to nobody. */
static void leave(struct pl_list *calls)
{
    pl_list_foreach_safe(n, calls) {
        struct pl_redis_call *c = call_of(n);

        c->lost = true;
        pl_list_remove(n);
        c->answer(c, NULL);
        c->ask = NULL;
    }
}

void pl_redis__ask_free(struct pl_redis_ask *a)
{
    if (a == NULL) {
        return;
    }
    a->closing = true;
    pl_timer_cancel(a->b->wheel, &a->expiry);
    pl_timer_cancel(a->b->wheel, &a->soon);
    give_up(&a->replicated);
    leave(&a->sent);
    give_up(&a->parked);
    give_up(&a->failed);
    pl_redis__forget_marks(a);
    free(a);
}
