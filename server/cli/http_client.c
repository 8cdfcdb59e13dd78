#include "server/cli/http_client.h"

#include <stdio.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/cli/socket.h"

void pl_cli_http_write(const struct pl_url *u, const struct pl_cli_request *rq,
                       const char *connection, struct pl_buf *out)
{
    pl_buf_printf(out,
                  "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: parley/%s\r\nConnection: %s\r\n",
                  rq->method, u->prefix, rq->target, u->authority, PL_VERSION,
                  connection ? connection : "close");
    if (rq->head_lines) {
        pl_buf_append_str(out, rq->head_lines);
    }
    if (rq->body.s) {
        pl_buf_printf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n", rq->content_type,
                      rq->body.len);
    } else if (*rq->method == 'P') {
        pl_buf_append_str(out, "Content-Length: 0\r\n");
    }
    pl_buf_append_str(out, "\r\n");
    pl_buf_append(out, rq->body.s ? rq->body.s : "", rq->body.len);
}

static int fail(struct pl_cli_failure *f, int result, const char *text)
{
    f->result = result;
    snprintf(f->text, sizeof(f->text), "%s", text);
    return -1;
}

int pl_cli_http_read(int fd, uint64_t deadline_ms, struct pl_cli_response *ret, struct pl_buf *rest,
                     struct pl_cli_failure *ret_failure)
{
    char bytes[16384];
    size_t used;
    int n, rc;

    do {
        n = pl_socket_read(fd, bytes, sizeof(bytes), deadline_ms);
        if (n <= 0) {
            rc = n == PL_SOCKET_EOF ? pl_cli_response_end(ret) : PL_ERR_PROTOCOL;
            return rc == 0 ? 0 : fail(ret_failure, n, pl_socket_error(n));
        }
        rc = pl_cli_response_feed(ret, bytes, (size_t)n, &used);
    } while (rc == PL_HTTP_MORE);
    if (rc != 0) {
        return fail(ret_failure, PL_SOCKET_ERROR,
                    rc == PL_ERR_TOO_BIG ? "the answer is too big"
                                         : "the answer is not HTTP/1.1: is this a Parley server?");
    }
    pl_buf_append(rest, bytes + used, (size_t)n - used);
    return 0;
}

static int exchange(int fd, const struct pl_url *u, const struct pl_cli_request *rq,
                    uint64_t deadline_ms, struct pl_cli_response *ret,
                    struct pl_cli_failure *ret_failure)
{
    struct pl_buf out = {0}, rest = {0};
    int rc;

    pl_cli_http_write(u, rq, NULL, &out);
    rc = pl_socket_write(fd, out.data, out.len, deadline_ms);
    pl_buf_done(&out);
    /* A server that refuses a body may answer and close before it has read it all: the answer
     * still counts. */
    if (rc < 0 && rc != PL_SOCKET_ERROR) {
        return fail(ret_failure, rc, pl_socket_error(rc));
    }
    rc = pl_cli_http_read(fd, deadline_ms, ret, &rest, ret_failure);
    pl_buf_done(&rest);
    return rc;
}

int pl_cli_http(const struct pl_url *u, const struct pl_cli_request *rq,
                struct pl_cli_response *ret, struct pl_cli_failure *ret_failure)
{
    uint64_t deadline_ms = pl_clock_mono_ms() + rq->timeout_ms;
    struct pl_cli_response r = {0};
    int fd = -1, rc;

    rc = pl_socket_connect(u, deadline_ms, &fd, ret_failure->text, sizeof(ret_failure->text));
    ret_failure->connected = rc == 0;
    if (rc < 0) {
        ret_failure->result = rc;
        return -1;
    }
    rc = exchange(fd, u, rq, deadline_ms, &r, ret_failure);
    close(fd);
    if (rc != 0) {
        pl_cli_response_done(&r);
        return -1;
    }
    *ret = r;
    return 0;
}
