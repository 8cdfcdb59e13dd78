#ifndef PL_CLI_RESPONSE_H
#define PL_CLI_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/http.h"
#include "server/base/buf.h"

/* An HTTP/1.1 response, taken apart as its bytes come (RFC 9112, 6.3). Pure. Zero-initialise;
 * bodies beyond 64 MiB and heads beyond 64 KiB are refused. Interim answers (100, 103) are
 * skipped. */
struct pl_cli_response {
    int status;         /* 0: the head is not whole yet */
    struct pl_buf head; /* the status line and headers, with the empty line */
    struct pl_buf body; /* decoded */
    bool no_body;       /* set by the caller before the first byte if the request was HEAD */
    bool until_close;   /* the body ends with the connection */
    struct pl_http_body framing;
};

/* 0 when the response is whole (a 101 right behind its head), PL_HTTP_MORE, or PL_ERR_PROTOCOL /
 * PL_ERR_TOO_BIG. *ret_used: how many bytes were taken; what is left belongs to what comes next on
 * the connection. */
int pl_cli_response_feed(struct pl_cli_response *r, const void *data, size_t len, size_t *ret_used);

/* The connection ended: 0 if that is how this response ends, else PL_ERR_PROTOCOL. */
int pl_cli_response_end(const struct pl_cli_response *r);

/* The first header of that name (in lower case), without surrounding blanks; false: absent. */
bool pl_cli_response_header(const struct pl_cli_response *r, const char *name, struct pl_str *ret);

/* Retry-After in milliseconds; -1: absent or a date. */
int64_t pl_cli_response_retry_after_ms(const struct pl_cli_response *r);

/* Is the body MessagePack by its Content-Type? */
enum pl_codec pl_cli_response_codec(const struct pl_cli_response *r);

void pl_cli_response_done(struct pl_cli_response *r);

#endif
