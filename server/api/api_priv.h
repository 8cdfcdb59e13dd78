#ifndef PL_API_API_PRIV_H
#define PL_API_API_PRIV_H

#include "server/api/api.h"
#include "server/transport/identity.h"

typedef void pl_api_fn(struct pl_api_request *r);

pl_api_fn pl_api__register, pl_api__poll, pl_api__send, pl_api__heartbeat, pl_api__unregister,
    pl_api__status, pl_api__cursor;
pl_api_fn pl_api__update_subscriptions, pl_api__publish, pl_api__disconnect, pl_api__connections,
    pl_api__explain;
pl_api_fn pl_api__health, pl_api__livez, pl_api__readyz, pl_api__metrics;
pl_api_fn pl_api__demo_token, pl_api__file;

/* Decodes the body in its own codec. Answers itself and returns false when it cannot, or there is
 * none. */
bool pl_api__body(struct pl_api_request *r, const struct pl_value **ret);
/* The same where the body may be empty: then *ret is NULL. */
bool pl_api__optional_body(struct pl_api_request *r, const struct pl_value **ret);
/* As pl_identity_queue for this request; answers itself and returns false on an error. */
bool pl_api__client(struct pl_api_request *r, struct pl_identity *ret);
/* What the bus knows of this user and this queue (len 0: neither matters) is here. False: it is asked
 * for first; the handler returns, and runs again from its beginning when it may. */
bool pl_api__ready(struct pl_api_request *r, struct pl_str user_id, struct pl_str queue_id);
/* A decimal query parameter: false (answered) when it is there and wrong. *ret is untouched when
 * absent. */
bool pl_api__query_cursor(struct pl_api_request *r, const char *name, int64_t *ret);
void pl_api__error(struct pl_api_request *r, int status, const char *message);

#endif
