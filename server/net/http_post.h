#ifndef PL_NET_HTTP_POST_H
#define PL_NET_HTTP_POST_H

#include "protocol/url.h"
#include "server/base/buf.h"

/* A client that POSTs to one URL: one request at a time, each on a connection of its own, on the
 * loop. For what the server reports to others and can do without (traces): no retry, and of the answer
 * only the status. */
struct pl_http_post;
struct uv_loop_s;

struct pl_http_post *pl_http_post_new(struct uv_loop_s *loop, const struct pl_url *u);
/* A request under way is given up, unanswered. Its handles close in the loop, which must run once
 * more. Harmless on NULL. */
void pl_http_post_free(struct pl_http_post *p);

/* http_status: 0 if there was no answer within 5 s; error is a phrase about that, else "". Called from
 * the loop, and p may be used, or freed, inside. */
typedef void pl_http_post_done_fn(void *arg, int http_status, const char *error);
/* False: one is under way, nothing was taken. Takes over the body. */
bool pl_http_post_send(struct pl_http_post *p, const char *content_type, struct pl_buf *body,
                       pl_http_post_done_fn *done, void *arg);

#endif
