#include "server/transport/http_edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"

enum {
    RETRY_AFTER_S = 1,
    RETRY_AFTER_MS = 1000,
    MAX_ORIGIN = 256
};

static const char *const content_types[PL_CODEC_COUNT] = {
    [PL_JSON] = "application/json",
    [PL_MSGPACK] = "application/msgpack",
};

bool pl_http_origin_allowed(const struct pl_node *node, struct pl_str origin,
                            const struct pl_str *host)
{
    const struct pl_strings *allowed = &node->cfg->auth_allowed_origins;

    for (size_t i = 0; i < allowed->count; i++) {
        if (pl_str_eq(origin, (struct pl_str){allowed->items[i], strlen(allowed->items[i])})) {
            return true;
        }
    }
    if (allowed->count == 0 && host != NULL && pl_http_origin_same_host(origin, *host)) {
        return true;
    }
    return node->dev && pl_http_origin_is_localhost(origin);
}

void pl_http_to_init(struct pl_http_to *to, struct pl_node *node, struct pl_http_conn *c,
                     const struct pl_http_request *rq, bool cors)
{
    const struct pl_str *origin = cors ? pl_http_header(&rq->head, "origin") : NULL;

    *to = (struct pl_http_to){.node = node,
                              .conn = c,
                              .codec = pl_http_accept_codec(&rq->head),
                              .gzip = pl_http_accepts_gzip(&rq->head),
                              .cors = cors};
    if (origin != NULL && origin->len <= MAX_ORIGIN &&
        pl_http_origin_allowed(node, *origin, pl_http_header(&rq->head, "host"))) {
        char *copy = pl_arena_alloc(rq->arena, origin->len + 1);

        memcpy(copy, origin->s, origin->len);
        copy[origin->len] = '\0';
        to->origin = copy;
    }
}

size_t pl_http_to_room(const struct pl_http_to *to)
{
    return to->origin != NULL ? strlen(to->origin) + 1 : 0;
}

void pl_http_to_keep(struct pl_http_to *ret, const struct pl_http_to *to, char *room)
{
    *ret = *to;
    if (to->origin != NULL) {
        ret->origin = memcpy(room, to->origin, pl_http_to_room(to));
    }
}

/* Appends what fits; every answer goes through here, so without printf. */
static void put(char **at, const char *end, const char *s)
{
    size_t len = strlen(s);

    if (len < (size_t)(end - *at)) {
        memcpy(*at, s, len + 1);
        *at += len;
    }
}

static void write_lines(const struct pl_http_to *to, const char *lines, char *out, size_t size)
{
    const char *end = out + size;

    *out = '\0';
    put(&out, end, lines != NULL ? lines : "");
    put(&out, end, to->cors ? "Vary: Origin\r\n" : "");
    if (to->origin != NULL) {
        put(&out, end, "Access-Control-Allow-Origin: ");
        put(&out, end, to->origin);
        put(&out, end,
            "\r\nAccess-Control-Expose-Headers: Retry-After, Deprecation, Sunset, Link\r\n");
    }
    put(&out, end, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
}

void pl_http_answer(const struct pl_http_to *to, int http_status, struct pl_bytes body,
                    const char *lines)
{
    char head[1024];

    write_lines(to, lines, head, sizeof(head));
    pl_http_reply(to->conn, &(struct pl_http_answer){
                                .http_status = http_status,
                                .content_type = content_types[to->codec],
                                .head_lines = head,
                                .body = body,
                            });
}

void pl_http_answer_buf(const struct pl_http_to *to, int http_status, struct pl_buf *body)
{
    pl_http_answer(to, http_status, (struct pl_bytes){body->data, body->len}, NULL);
    pl_buf_done(body);
}

void pl_http_answer_empty(const struct pl_http_to *to, int http_status, const char *lines)
{
    pl_http_answer(to, http_status, (struct pl_bytes){NULL, 0}, lines);
}

static bool has_retry(int status)
{
    int http = pl_status_http(status);

    return http == 429 || http == 503;
}

void pl_write_error(struct pl_writer *w, int status, const char *message)
{
    pl_write_map(w, 2 + has_retry(status));
    pl_write_key(w, "code");
    pl_write_cstr(w, pl_status_code(status));
    pl_write_key(w, "message");
    pl_write_cstr(w, message != NULL ? message : pl_status_text(status));
    if (has_retry(status)) {
        pl_write_key(w, "retry_after_ms");
        pl_write_int(w, RETRY_AFTER_MS);
    }
}

static void count_unavailable(int status)
{
    if (pl_status_http(status) == 503) {
        pl_metric_add(status == PL_ERR_BUS        ? PL_S_UNAVAILABLE_BUS
                      : status == PL_ERR_DRAINING ? PL_S_UNAVAILABLE_DRAINING
                                                  : PL_S_UNAVAILABLE_OVERLOADED,
                      1);
    }
}

void pl_http_answer_error(const struct pl_http_to *to, int status, const char *message)
{
    struct pl_buf body = {0};
    struct pl_writer w;
    char lines[64] = "";

    count_unavailable(status);
    if (has_retry(status)) {
        (void)snprintf(lines, sizeof(lines), "Retry-After: %d\r\n", RETRY_AFTER_S);
    }
    pl_writer_init(&w, to->codec, &body);
    pl_write_error(&w, status, message);
    if (status == PL_ERR_BUS) {
        /* It leads here, and another process may have what was asked for. */
        pl_http_leave(to->conn);
    }
    pl_http_answer(to, pl_status_http(status), (struct pl_bytes){body.data, body.len}, lines);
    pl_buf_done(&body);
}

/* ---- later ---- */

static void later_closed(struct pl_waiting *w)
{
    struct pl_http_later *l = (struct pl_http_later *)w;

    /* Whoever will call pl_http_later_answer frees it. */
    l->to.conn = NULL;
}

struct pl_http_later *pl_http_later_new(const struct pl_http_to *to)
{
    struct pl_http_later *l = pl_alloc(sizeof(*l) + pl_http_to_room(to));

    l->waiting.closed = later_closed;
    pl_http_to_keep(&l->to, to, l->origin);
    pl_http_set_user(to->conn, l);
    return l;
}

void pl_http_later_answer(struct pl_http_later *l, struct pl_buf *out)
{
    if (l->to.conn != NULL) {
        pl_http_set_user(l->to.conn, NULL);
        pl_http_answer(&l->to, 200, (struct pl_bytes){out->data, out->len}, NULL);
    }
    pl_buf_done(out);
    free(l);
}

void pl_http_later_error(struct pl_http_later *l, int status, const char *message)
{
    if (l->to.conn != NULL) {
        pl_http_set_user(l->to.conn, NULL);
        pl_http_answer_error(&l->to, status, message);
    }
    free(l);
}
