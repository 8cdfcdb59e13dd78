#ifndef PL_CLI_HTTP_CLIENT_H
#define PL_CLI_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/url.h"
#include "server/cli/response.h"

/* A blocking HTTP/1.1 client: one request, one connection. */
struct pl_cli_request {
    const char *method;       /* "GET" */
    const char *target;       /* "/realtime/poll?…", without the URL's prefix */
    const char *head_lines;   /* further header lines, each ended by CRLF; NULL: none */
    const char *content_type; /* of body */
    struct pl_str body;       /* s NULL: none */
    uint64_t timeout_ms;      /* for the whole exchange */
};

struct pl_cli_failure {
    int result;     /* a pl_socket_result */
    bool connected; /* false: nobody answers there at all */
    char text[256];
};

/* 0 and a whole response (any status; the caller ends it with pl_cli_response_done), or -1 and
 * why: could not connect, no answer in time, not HTTP. */
int pl_cli_http(const struct pl_url *u, const struct pl_cli_request *rq,
                struct pl_cli_response *ret, struct pl_cli_failure *ret_failure);

/* The bytes of a request; for the WebSocket's handshake too (which passes its own Connection line:
 * NULL means "close"). */
void pl_cli_http_write(const struct pl_url *u, const struct pl_cli_request *rq,
                       const char *connection, struct pl_buf *out);

/* Reads one response from fd, bytes behind it into rest. As pl_cli_http. */
int pl_cli_http_read(int fd, uint64_t deadline_ms, struct pl_cli_response *ret, struct pl_buf *rest,
                     struct pl_cli_failure *ret_failure);

#endif
