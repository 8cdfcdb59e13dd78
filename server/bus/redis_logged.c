/* Is an event in these logs? For an operator's question (server/api/explain.c). */
#include "protocol/status.h"
#include "server/bus/redis_ask_priv.h"

enum {
    HEAD_FIELDS = 2,
    ENTRY_FIELDS = 6, /* which log, id, prev, tag, form, payload */
};

/* True if it was understood and told. */
static bool tell(const struct pl_redis_call *c, struct redisReply *const *field)
{
    struct pl_request_limits limits = pl_hub_limits(c->ask->b->hub);
    struct pl_str form = pl_redis__text(field[4]);
    struct pl_arena arena = {0};
    struct pl_bus_event e;
    bool ok = form.len == 1 && (form.s[0] == PL_REDIS_EVENT || form.s[0] == PL_REDIS_JSON) &&
              pl_redis_decode_event((enum pl_redis_form)form.s[0], pl_redis__text(field[5]),
                                    &limits, &arena, &e) == PL_OK;

    if (ok) {
        c->u.logged.done(c->arg, PL_OK, &e);
    }
    pl_arena_done(&arena);
    return ok;
}

static void on_logged(struct pl_redis_call *c, const struct redisReply *r)
{
    if (r == NULL || r->type != REDIS_REPLY_ARRAY || r->elements < HEAD_FIELDS) {
        c->u.logged.done(c->arg, PL_ERR_BUS, NULL);
        return;
    }
    for (size_t i = HEAD_FIELDS; i + ENTRY_FIELDS <= r->elements; i += ENTRY_FIELDS) {
        if (pl_redis__number(r->element[i + 1]) == c->u.logged.id && tell(c, r->element + i)) {
            return;
        }
    }
    c->u.logged.done(c->arg, PL_OK, NULL);
}

void pl_redis_bus_logged(struct pl_redis_bus *b, const struct pl_str *channels, size_t count,
                         int64_t id, pl_redis_logged_fn *done, void *arg)
{
    struct pl_redis_call *c = pl_redis__call_new(b->ask, on_logged);

    c->arg = arg;
    c->u.logged.done = done;
    c->u.logged.id = id;
    pl_redis__fcall_ro(&c->args, "parley_since", 1 + count);
    pl_redis__key(b, &c->args, "seq", PL_LIT(""));
    for (size_t i = 0; i < count; i++) {
        pl_redis__key(b, &c->args, "log", channels[i]);
    }
    pl_redis_arg_int(&c->args, id - 1);
    pl_redis_arg_int(&c->args, 1);
    pl_redis__call_ask(c);
}
