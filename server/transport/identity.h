#ifndef PL_TRANSPORT_IDENTITY_H
#define PL_TRANSPORT_IDENTITY_H

#include "server/transport/node.h"

/* Who a client is: a token, a queue_id, or both, from wherever they came (Authorization, hello, the
 * bearer subprotocol, a query). One path for both transports. Nothing of this asks anybody outside
 * the process. */
struct pl_credentials {
    struct pl_str token;    /* len 0: none */
    struct pl_str queue_id; /* len 0: none */
};

struct pl_identity {
    struct pl_queue *queue; /* NULL: none named */
    bool has_token;
    struct pl_claims claims; /* if has_token; in the arena */
    const char *reason;      /* of an error: a sentence, or NULL for the status's own */
};

/* The credentials of an HTTP request: Authorization: Bearer, ?token= where allowed, ?queue_id= or
 * X-Realtime-Queue. False: the query cannot be decoded. */
bool pl_identity_of_request(const struct pl_node *n, const struct pl_http_request *rq,
                            struct pl_credentials *ret);

/* Verifies a token. 0, or PL_ERR_TOKEN_INVALID, PL_ERR_TOKEN_EXPIRED. */
int pl_identity_verify(const struct pl_node *n, struct pl_str token, struct pl_arena *a,
                       struct pl_identity *ret);

/* What a verified token says, applied to the record of ret->queue's user and to how long the queue
 * lasts. 0, PL_ERR_FORBIDDEN (another user's), PL_ERR_DISCONNECTED. */
int pl_identity_use_token(struct pl_node *n, struct pl_identity *ret);

/* Until when (unix, leeway included) a verified token allows publishing; 0: it does not. */
int64_t pl_identity_publish_until_ms(const struct pl_node *n, const struct pl_claims *c);

/* A client that says it has a queue: finds it, checks the token against it, applies what the token
 * says and extends the queue by it. 0; PL_ERR_UNAUTHORIZED (no queue_id, or auth.require_token and
 * no token), PL_ERR_TOKEN_*, PL_ERR_QUEUE_NOT_FOUND (ret->claims are set if a valid token came
 * along), PL_ERR_FORBIDDEN (another user's), PL_ERR_DISCONNECTED. Counts as a sign of life. */
int pl_identity_queue(struct pl_node *n, const struct pl_credentials *cr, struct pl_arena *a,
                      struct pl_identity *ret);

/* Applies a verified token to the user's record; reach_back as pl_hub_apply_claims. */
int pl_identity_apply(struct pl_node *n, const struct pl_claims *c, bool reach_back);

/* Before a new queue for the user of a verified token: PL_ERR_OVERLOADED if there is no room for one,
 * and nothing is done; else applies the token. */
int pl_identity_admit(struct pl_node *n, const struct pl_claims *c);

/* A new queue for a user who has been admitted. position < 0: now. */
int pl_identity_new_queue(struct pl_node *n, const struct pl_claims *c, int64_t position,
                          struct pl_queue **ret);

/* Milliseconds until the token of the queue ends (without leeway), at least 0; -1: it does not. */
int64_t pl_identity_expires_in_ms(const struct pl_node *n, const struct pl_queue *q);

#endif
