#ifndef PL_TRANSPORT_MESSAGE_H
#define PL_TRANSPORT_MESSAGE_H

#include "server/transport/node.h"

/* What a client's message does, the same on a WebSocket and through POST /realtime/send. */

/* Called exactly once per message, possibly before pl_message_run returns. reply: the encoded
 * reply, or NULL if the message has none; it is the callee's to free. */
typedef void pl_message_done_fn(void *arg, struct pl_buf *reply);

struct pl_message_from {
    struct pl_node *node;
    struct pl_queue *queue;
    enum pl_codec codec;      /* of the reply */
    int64_t publish_until_ms; /* unix: the end of the token with the scope; 0: none came along */
    int64_t *ret_publish_until_ms; /* where a refresh stores the new token's; NULL: nowhere */
    bool over_http;                /* hello and pong are not for /realtime/send */
};

/* v: the decoded message; a: its arena. Counts as a sign of life and against limits.messages_per_s.
 * One beyond that gets an error reply over HTTP; on a WebSocket PL_ERR_RATE_LIMITED is returned and
 * done is not called. Else 0. */
int pl_message_run(const struct pl_message_from *from, const struct pl_value *v, struct pl_arena *a,
                   pl_message_done_fn *done, void *arg);

#endif
