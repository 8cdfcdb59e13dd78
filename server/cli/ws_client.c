#include "server/cli/ws_client.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/cli/socket.h"

static const uint64_t send_timeout_ms = 10000;

static bool header_is(const struct pl_cli_response *r, const char *name, const char *value)
{
    struct pl_str v;

    return pl_cli_response_header(r, name, &v) &&
           pl_str_eq(v, (struct pl_str){value, strlen(value)});
}

static int fail(struct pl_cli_failure *f, int result, const char *text)
{
    f->result = result;
    snprintf(f->text, sizeof(f->text), "%s", text);
    return -1;
}

static int check_handshake(const struct pl_cli_response *r, const char *key,
                           const char *subprotocol, struct pl_cli_failure *ret_failure)
{
    char accept[29];

    pl_cli_ws_accept(key, accept);
    if (!header_is(r, "sec-websocket-accept", accept)) {
        return fail(
            ret_failure, PL_SOCKET_ERROR,
            "the answer to the WebSocket handshake is not one to ours: is a cache in between?");
    }
    if (!header_is(r, "sec-websocket-protocol", subprotocol)) {
        return fail(ret_failure, PL_SOCKET_ERROR,
                    "the server did not select the subprotocol that was asked for");
    }
    return 0;
}

static void write_handshake(const struct pl_url *u, const struct pl_cli_ws_request *rq,
                            const char *key, struct pl_buf *out)
{
    struct pl_buf lines = {0};
    struct pl_cli_request http = {.method = "GET", .target = rq->target};

    pl_buf_printf(&lines,
                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
                  "Sec-WebSocket-Protocol: %s\r\n%s",
                  key, rq->subprotocol, rq->head_lines);
    http.head_lines = pl_buf_cstr(&lines);
    pl_cli_http_write(u, &http, "Upgrade", out);
    pl_buf_done(&lines);
}

/* 0: the server switched. 1: it answered otherwise. */
static int shake_hands(struct pl_cli_ws *ws, const struct pl_url *u,
                       const struct pl_cli_ws_request *rq, uint64_t deadline_ms,
                       struct pl_cli_response *r, struct pl_cli_failure *ret_failure)
{
    struct pl_buf out = {0};
    uint8_t random[16];
    char key[25];
    int rc;

    pl_random_bytes(random, sizeof(random));
    pl_cli_ws_key(random, key);
    write_handshake(u, rq, key, &out);
    rc = pl_socket_write(ws->fd, out.data, out.len, deadline_ms);
    pl_buf_done(&out);
    if (rc < 0) {
        return fail(ret_failure, rc, pl_socket_error(rc));
    }
    if (pl_cli_http_read(ws->fd, deadline_ms, r, &ws->in, ret_failure) != 0) {
        return -1;
    }
    return r->status == 101 ? check_handshake(r, key, rq->subprotocol, ret_failure) : 1;
}

int pl_cli_ws_open(const struct pl_url *u, const struct pl_cli_ws_request *rq,
                   struct pl_cli_ws *ret, struct pl_cli_response *ret_refusal,
                   struct pl_cli_failure *ret_failure)
{
    uint64_t deadline_ms = pl_clock_mono_ms() + rq->timeout_ms;
    struct pl_cli_response r = {0};
    struct pl_cli_ws ws = {.fd = -1};
    int rc;

    rc = pl_socket_connect(u, deadline_ms, &ws.fd, ret_failure->text, sizeof(ret_failure->text));
    ret_failure->connected = rc == 0;
    if (rc < 0) {
        ret_failure->result = rc;
        return -1;
    }
    rc = shake_hands(&ws, u, rq, deadline_ms, &r, ret_failure);
    if (rc == 1) {
        *ret_refusal = r;
    } else {
        pl_cli_response_done(&r);
    }
    if (rc == 0) {
        *ret = ws;
    } else {
        pl_cli_ws_done(&ws);
    }
    return rc;
}

static bool send_frame(struct pl_cli_ws *ws, uint8_t opcode, const void *data, size_t len)
{
    struct pl_buf out = {0};
    uint8_t mask[4];
    int rc;

    pl_random_bytes(mask, sizeof(mask));
    pl_cli_frame_write(&out, opcode, data, len, mask);
    rc = pl_socket_write(ws->fd, out.data, out.len, pl_clock_mono_ms() + send_timeout_ms);
    pl_buf_done(&out);
    return rc == 0;
}

bool pl_cli_ws_send(struct pl_cli_ws *ws, uint8_t opcode, const void *data, size_t len)
{
    return send_frame(ws, opcode, data, len);
}

static void set_close(struct pl_cli_ws_event *ret, int code, const void *reason, size_t len)
{
    ret->type = PL_CLI_WS_GOT_CLOSE;
    ret->code = code;
    snprintf(ret->reason, sizeof(ret->reason), "%.*s", (int)len, (const char *)reason);
}

static void send_close(struct pl_cli_ws *ws, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};

    send_frame(ws, PL_CLI_WS_CLOSE, payload, sizeof(payload));
}

/* The server broke the rules, or sent too much. */
static void give_up(struct pl_cli_ws *ws, int status, struct pl_cli_ws_event *ret)
{
    int code = status == PL_ERR_TOO_BIG ? 1009 : 1002;

    send_close(ws, code);
    set_close(ret, code, pl_status_text(status), strlen(pl_status_text(status)));
}

/* A data frame: true when it ends a message. PL_ERR_… in *ret_status when it must not stand
 * here. */
static bool take_data(struct pl_cli_ws *ws, const struct pl_cli_frame *f,
                      struct pl_cli_ws_event *ret, int *ret_status)
{
    bool first = f->opcode != PL_CLI_WS_CONTINUATION;

    if (first != (ws->message_opcode == 0)) {
        *ret_status = PL_ERR_PROTOCOL;
        return false;
    }
    if (first) {
        ws->message.len = 0;
        ws->message_opcode = f->opcode;
    }
    if (f->len > PL_CLI_WS_MESSAGE_MAX - ws->message.len) {
        *ret_status = PL_ERR_TOO_BIG;
        return false;
    }
    pl_buf_append(&ws->message, f->payload, f->len);
    if (!f->fin) {
        return false;
    }
    ret->type = PL_CLI_WS_GOT_MESSAGE;
    ret->text = ws->message_opcode == PL_CLI_WS_TEXT;
    ret->data = (struct pl_str){(const char *)ws->message.data, ws->message.len};
    ws->message_opcode = 0;
    return true;
}

static void take_close(struct pl_cli_ws *ws, const struct pl_cli_frame *f,
                       struct pl_cli_ws_event *ret)
{
    if (f->len < 2) {
        set_close(ret, 1005, "", 0);
    } else {
        set_close(ret, f->payload[0] << 8 | f->payload[1], f->payload + 2, f->len - 2);
    }
    send_frame(ws, PL_CLI_WS_CLOSE, f->payload, f->len < 2 ? 0 : 2);
}

/* True when the frame makes an event. */
static bool take_frame(struct pl_cli_ws *ws, const struct pl_cli_frame *f,
                       struct pl_cli_ws_event *ret)
{
    int status = 0;

    switch (f->opcode) {
    case PL_CLI_WS_CLOSE:
        take_close(ws, f, ret);
        return true;
    case PL_CLI_WS_PING:
        send_frame(ws, PL_CLI_WS_PONG, f->payload, f->len);
        ret->type = PL_CLI_WS_GOT_CONTROL;
        return true;
    case PL_CLI_WS_PONG:
        ret->type = PL_CLI_WS_GOT_CONTROL;
        return true;
    default:
        break;
    }
    if (take_data(ws, f, ret, &status)) {
        return true;
    }
    if (status != 0) {
        give_up(ws, status, ret);
    }
    return status != 0;
}

/* One event from the bytes at hand; false: more are needed. */
static bool take_event(struct pl_cli_ws *ws, struct pl_cli_ws_event *ret)
{
    for (;;) {
        struct pl_cli_frame f;
        size_t size;
        int rc = pl_cli_frame_parse(ws->in.data + ws->taken, ws->in.len - ws->taken, &f, &size);

        if (rc == PL_HTTP_MORE) {
            return false;
        }
        if (rc != 0) {
            give_up(ws, rc, ret);
            return true;
        }
        ws->taken += size;
        if (take_frame(ws, &f, ret)) {
            return true;
        }
    }
}

void pl_cli_ws_next(struct pl_cli_ws *ws, uint64_t deadline_ms, struct pl_cli_ws_event *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (;;) {
        int n;

        if (ws->in.len > ws->taken && take_event(ws, ret)) {
            return;
        }
        pl_buf_consume(&ws->in, ws->taken);
        ws->taken = 0;
        pl_buf_reserve(&ws->in, 65536);
        n = pl_socket_read(ws->fd, ws->in.data + ws->in.len, 65536, deadline_ms);
        if (n > 0) {
            ws->in.len += (size_t)n;
        } else if (n == PL_SOCKET_TIMEOUT || n == PL_SOCKET_INTERRUPTED) {
            ret->type = n == PL_SOCKET_TIMEOUT ? PL_CLI_WS_GOT_NOTHING : PL_CLI_WS_GOT_SIGNAL;
            return;
        } else {
            set_close(ret, 1006, pl_socket_error(n), strlen(pl_socket_error(n)));
            return;
        }
    }
}

void pl_cli_ws_close(struct pl_cli_ws *ws, int code, uint64_t timeout_ms)
{
    uint64_t deadline_ms = pl_clock_mono_ms() + timeout_ms;
    struct pl_cli_ws_event e;

    send_close(ws, code);
    do {
        pl_cli_ws_next(ws, deadline_ms, &e);
    } while (e.type == PL_CLI_WS_GOT_MESSAGE || e.type == PL_CLI_WS_GOT_CONTROL);
}

void pl_cli_ws_done(struct pl_cli_ws *ws)
{
    if (ws->fd >= 0) {
        close(ws->fd);
    }
    pl_buf_done(&ws->in);
    pl_buf_done(&ws->message);
    ws->fd = -1;
}
