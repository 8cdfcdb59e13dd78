#ifndef PL_CLI_WS_FRAME_H
#define PL_CLI_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"

/* WebSocket framing, the client's side (RFC 6455, 5). Pure. No extension is ever negotiated. */
enum pl_cli_opcode {
    PL_CLI_WS_CONTINUATION = 0,
    PL_CLI_WS_TEXT = 1,
    PL_CLI_WS_BINARY = 2,
    PL_CLI_WS_CLOSE = 8,
    PL_CLI_WS_PING = 9,
    PL_CLI_WS_PONG = 10,
};

enum {
    PL_CLI_WS_MESSAGE_MAX = 64 << 20
};

struct pl_cli_frame {
    bool fin;
    uint8_t opcode;
    const uint8_t *payload; /* in the bytes parsed */
    size_t len;
};

/* The frame at the start of [data, data+len). 0, the frame and its size; PL_HTTP_MORE;
 * PL_ERR_TOO_BIG; or PL_ERR_PROTOCOL: masked, a reserved bit or opcode, a control frame in pieces
 * or over 125 bytes, a length not in its shortest form. */
int pl_cli_frame_parse(const void *data, size_t len, struct pl_cli_frame *ret, size_t *ret_size);

/* Appends one final frame, masked. */
void pl_cli_frame_write(struct pl_buf *out, uint8_t opcode, const void *payload, size_t len,
                        const uint8_t mask[4]);

/* Sec-WebSocket-Key from 16 random bytes, and the Sec-WebSocket-Accept that proves the server read
 * it. */
void pl_cli_ws_key(const uint8_t random[16], char out[25]);
void pl_cli_ws_accept(const char key[25], char out[29]);

#endif
