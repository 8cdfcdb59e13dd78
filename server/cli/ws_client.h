#ifndef PL_CLI_WS_CLIENT_H
#define PL_CLI_WS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/cli/http_client.h"
#include "server/cli/ws_frame.h"

/* A blocking WebSocket client (RFC 6455) without extensions. It answers control pings by itself. */
struct pl_cli_ws {
    int fd;
    struct pl_buf in; /* bytes not yet taken; the first `taken` are done with */
    size_t taken;
    struct pl_buf message; /* pieces of a fragmented message */
    uint8_t message_opcode;
};

struct pl_cli_ws_request {
    const char *target;      /* "/realtime/ws?…" */
    const char *head_lines;  /* each ended by CRLF */
    const char *subprotocol; /* asked for; the server must select it */
    uint64_t timeout_ms;
};

/* 0: open (end with pl_cli_ws_done). 1: the server answered the handshake with something else than
 * 101: *ret_refusal is that answer, the caller's to end. -1: failed. */
int pl_cli_ws_open(const struct pl_url *u, const struct pl_cli_ws_request *rq,
                   struct pl_cli_ws *ret, struct pl_cli_response *ret_refusal,
                   struct pl_cli_failure *ret_failure);

enum pl_cli_ws_event_type {
    PL_CLI_WS_GOT_MESSAGE,
    PL_CLI_WS_GOT_CONTROL, /* a ping or pong: a sign of life */
    PL_CLI_WS_GOT_CLOSE,   /* code and reason; 1006: broke, 1002 and 1009: we ended it */
    PL_CLI_WS_GOT_NOTHING, /* the deadline passed */
    PL_CLI_WS_GOT_SIGNAL,
};
struct pl_cli_ws_event {
    enum pl_cli_ws_event_type type;
    bool text;
    struct pl_str data; /* valid until the next call */
    int code;
    char reason[124];
};
void pl_cli_ws_next(struct pl_cli_ws *ws, uint64_t deadline_ms, struct pl_cli_ws_event *ret);

/* False: the connection is broken; the next event says so. */
bool pl_cli_ws_send(struct pl_cli_ws *ws, uint8_t opcode, const void *data, size_t len);

/* Sends a close frame and waits up to timeout_ms for the server's. */
void pl_cli_ws_close(struct pl_cli_ws *ws, int code, uint64_t timeout_ms);
void pl_cli_ws_done(struct pl_cli_ws *ws);

#endif
