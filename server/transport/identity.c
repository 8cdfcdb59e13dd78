#include "server/transport/identity.h"

#include <strings.h>

#include "protocol/status.h"

static struct pl_str bearer_of(const struct pl_http_head *h)
{
    static const char scheme[] = "bearer ";
    const struct pl_str *value = pl_http_header(h, "authorization");
    const size_t skip = sizeof(scheme) - 1;

    if (value == NULL || value->len <= skip || strncasecmp(value->s, scheme, skip) != 0) {
        return (struct pl_str){NULL, 0};
    }
    return (struct pl_str){value->s + skip, value->len - skip};
}

bool pl_identity_of_request(const struct pl_node *n, const struct pl_http_request *rq,
                            struct pl_credentials *ret)
{
    const struct pl_str *header = pl_http_header(&rq->head, "x-realtime-queue");
    bool bad = false;

    *ret = (struct pl_credentials){.token = bearer_of(&rq->head)};
    if (ret->token.len == 0 && n->cfg->auth_query_token) {
        (void)pl_http_query_get(rq->head.query, "token", rq->arena, &ret->token, &bad);
    }
    if (header != NULL) {
        ret->queue_id = *header;
    } else if (!bad) {
        (void)pl_http_query_get(rq->head.query, "queue_id", rq->arena, &ret->queue_id, &bad);
    }
    return !bad;
}

int pl_identity_verify(const struct pl_node *n, struct pl_str token, struct pl_arena *a,
                       struct pl_identity *ret)
{
    int status =
        pl_auth_verify(n->auth, token, pl_hub_unix_ms(n->hub), a, &ret->claims, &ret->reason);

    ret->has_token = status == PL_OK;
    return status;
}

int pl_identity_apply(struct pl_node *n, const struct pl_claims *c, bool reach_back)
{
    return pl_hub_apply_claims(n->hub,
                               &(struct pl_token_claims){
                                   .user_id = c->user_id,
                                   .membership = &c->membership,
                                   .iat_ms = c->iat_ms,
                                   .exp_ms = c->exp_ms,
                               },
                               reach_back);
}

static int64_t effective_exp_ms(const struct pl_node *n, const struct pl_claims *c)
{
    return c->exp_ms + n->cfg->auth_leeway;
}

int pl_identity_use_token(struct pl_node *n, struct pl_identity *ret)
{
    int status;

    if (!pl_str_eq(ret->claims.user_id, pl_user_id(pl_queue_user(ret->queue)))) {
        ret->reason = "the token is another user's than the queue";
        return PL_ERR_FORBIDDEN;
    }
    status = pl_identity_apply(n, &ret->claims, false);
    if (status == PL_OK) {
        pl_queue_extend_token(ret->queue, effective_exp_ms(n, &ret->claims));
    }
    return status;
}

int64_t pl_identity_publish_until_ms(const struct pl_node *n, const struct pl_claims *c)
{
    return c->may_publish ? effective_exp_ms(n, c) : 0;
}

int pl_identity_queue(struct pl_node *n, const struct pl_credentials *cr, struct pl_arena *a,
                      struct pl_identity *ret)
{
    int status = PL_OK;

    *ret = (struct pl_identity){0};
    if (cr->token.len > 0) {
        status = pl_identity_verify(n, cr->token, a, ret);
    } else if (cr->queue_id.len == 0 || n->cfg->auth_require_token) {
        ret->reason =
            cr->queue_id.len == 0 ? "queue_id or a token is missing" : "a token is required here";
        status = PL_ERR_UNAUTHORIZED;
    }
    if (status != PL_OK) {
        return status;
    }
    ret->queue = pl_queue_find(n->hub, cr->queue_id);
    if (ret->queue == NULL) {
        return PL_ERR_QUEUE_NOT_FOUND;
    }
    if (ret->has_token) {
        status = pl_identity_use_token(n, ret);
    }
    if (status == PL_OK && pl_queue_token_expired(ret->queue)) {
        status = PL_ERR_TOKEN_EXPIRED;
    }
    if (status == PL_OK) {
        pl_queue_touch(ret->queue);
    }
    return status;
}

int pl_identity_admit(struct pl_node *n, const struct pl_claims *c)
{
    const int status = pl_hub_check_room(n->hub);

    return status == PL_OK ? pl_identity_apply(n, c, true) : status;
}

int pl_identity_new_queue(struct pl_node *n, const struct pl_claims *c, int64_t position,
                          struct pl_queue **ret)
{
    struct pl_user *u = pl_hub_user_find(n->hub, c->user_id);

    return pl_queue_new(n->hub, u, &c->membership, effective_exp_ms(n, c), position, ret);
}

int64_t pl_identity_expires_in_ms(const struct pl_node *n, const struct pl_queue *q)
{
    int64_t exp_ms = pl_queue_token_exp_ms(q);
    int64_t left;

    if (exp_ms == 0) {
        return -1;
    }
    left = exp_ms - n->cfg->auth_leeway - pl_hub_unix_ms(n->hub);
    return left > 0 ? left : 0;
}
