#ifndef PL_TRANSPORT_HTTP_EDGE_H
#define PL_TRANSPORT_HTTP_EDGE_H

#include "server/transport/node.h"

/* What every HTTP answer shares: codec, CORS, error bodies. */

/* Who is answered, and how. Whoever answers later keeps a copy made by pl_http_to_keep. */
struct pl_http_to {
    struct pl_node *node;
    struct pl_http_conn *conn;
    enum pl_codec codec;
    bool gzip; /* the client takes it */
    bool cors; /* a client path: CORS lines on every status */
    const char *
        origin; /* the allowed Origin to echo; NULL: none. The request's, or owned by a kept copy */
};

/* origin is copied into the arena when it is allowed. */
void pl_http_to_init(struct pl_http_to *to, struct pl_node *node, struct pl_http_conn *c,
                     const struct pl_http_request *rq, bool cors);

/* Copies *to, its origin into room: that many bytes of whatever owns the copy. */
size_t pl_http_to_room(const struct pl_http_to *to);
void pl_http_to_keep(struct pl_http_to *ret, const struct pl_http_to *to, char *room);

/* Is this Origin allowed? (auth.allowed_origins; none configured: the request's own host; --dev:
 * any localhost too.) */
bool pl_http_origin_allowed(const struct pl_node *node, struct pl_str origin,
                            const struct pl_str *host);

/* Answers with a whole encoded value in to->codec. lines: further header lines, NULL for none. */
void pl_http_answer(const struct pl_http_to *to, int http_status, struct pl_bytes body,
                    const char *lines);
void pl_http_answer_buf(const struct pl_http_to *to, int http_status,
                        struct pl_buf *body); /* frees the buffer */
/* {"code":…,"message":…}; message NULL: the status's own text. 429 and 503 get a Retry-After. */
void pl_http_answer_error(const struct pl_http_to *to, int status, const char *message);
void pl_http_answer_empty(const struct pl_http_to *to, int http_status, const char *lines);
/* Writes {"code":…,"message":…}, with retry_after_ms if the status has one. */
void pl_write_error(struct pl_writer *w, int status, const char *message);

/* Something that waits for its answer: the user pointer of a connection points to one. */
struct pl_waiting {
    void (*closed)(struct pl_waiting *w); /* the client went away; w is the callee's to free */
};

/* A kept answer address, for requests answered later: calls to one that lost its client are
 * dropped. */
struct pl_http_later {
    struct pl_waiting waiting;
    struct pl_http_to to; /* to.conn is NULL once the client went away */
    char origin[];
};
struct pl_http_later *pl_http_later_new(const struct pl_http_to *to);
/* Answers (if the client is still there) with out, and frees it: later and out. */
void pl_http_later_answer(struct pl_http_later *l, struct pl_buf *out);
void pl_http_later_error(struct pl_http_later *l, int status, const char *message);

#endif
