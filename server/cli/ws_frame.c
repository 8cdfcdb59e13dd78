#include "server/cli/ws_frame.h"

#include <string.h>

#include "protocol/http.h"
#include "protocol/status.h"
#include "server/cli/sha1.h"

static bool is_known(uint8_t opcode)
{
    return opcode <= PL_CLI_WS_BINARY || (opcode >= PL_CLI_WS_CLOSE && opcode <= PL_CLI_WS_PONG);
}

/* Does this length need that many bytes to be written? */
static bool is_shortest(uint64_t length, size_t bytes)
{
    return bytes == 2 ? length > 125 : length > UINT16_MAX;
}

/* 0, the payload's length and the header's size. */
static int parse_length(const uint8_t *p, size_t len, uint64_t *ret, size_t *ret_header)
{
    uint8_t first = p[1] & 0x7f;
    size_t extra = first == 126 ? 2 : first == 127 ? 8 : 0;

    *ret = extra ? 0 : first;
    *ret_header = 2 + extra;
    if (len < *ret_header) {
        return PL_HTTP_MORE;
    }
    for (size_t i = 0; i < extra; i++) {
        *ret = *ret << 8 | p[2 + i];
    }
    return extra == 0 || is_shortest(*ret, extra) ? 0 : PL_ERR_PROTOCOL;
}

int pl_cli_frame_parse(const void *data, size_t len, struct pl_cli_frame *ret, size_t *ret_size)
{
    const uint8_t *p = data;
    uint64_t length;
    size_t header;
    int rc;

    if (len < 2) {
        return PL_HTTP_MORE;
    }
    ret->fin = p[0] & 0x80;
    ret->opcode = p[0] & 0x0f;
    if ((p[0] & 0x70) || (p[1] & 0x80) || !is_known(ret->opcode) ||
        (ret->opcode >= PL_CLI_WS_CLOSE && (!ret->fin || (p[1] & 0x7f) > 125))) {
        return PL_ERR_PROTOCOL;
    }
    rc = parse_length(p, len, &length, &header);
    if (rc != 0) {
        return rc;
    }
    if (length > PL_CLI_WS_MESSAGE_MAX) {
        return PL_ERR_TOO_BIG;
    }
    if (len - header < length) {
        return PL_HTTP_MORE;
    }
    ret->payload = p + header;
    ret->len = (size_t)length;
    *ret_size = header + ret->len;
    return 0;
}

void pl_cli_frame_write(struct pl_buf *out, uint8_t opcode, const void *payload, size_t len,
                        const uint8_t mask[4])
{
    const uint8_t *from = payload;

    pl_buf_append_byte(out, (uint8_t)(0x80 | opcode));
    if (len <= 125) {
        pl_buf_append_byte(out, (uint8_t)(0x80 | len));
    } else {
        size_t bytes = len <= UINT16_MAX ? 2 : 8;

        pl_buf_append_byte(out, bytes == 2 ? 0x80 | 126 : 0x80 | 127);
        for (size_t i = bytes; i > 0; i--) {
            pl_buf_append_byte(out, (uint8_t)((uint64_t)len >> 8 * (i - 1)));
        }
    }
    pl_buf_append(out, mask, 4);
    for (size_t i = 0; i < len; i++) {
        pl_buf_append_byte(out, from[i] ^ mask[i % 4]);
    }
}

/* RFC 4648 with padding. */
static void base64(const uint8_t *in, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)in[i] << 16 | (have > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                        (have > 2 ? in[i + 2] : 0U);

        for (size_t j = 0; j < 4; j++) {
            *out++ = (char)(j <= have ? digits[bits >> (18 - 6 * j) & 63] : '=');
        }
    }
    *out = '\0';
}

void pl_cli_ws_key(const uint8_t random[16], char out[25])
{
    base64(random, 16, out);
}

void pl_cli_ws_accept(const char key[25], char out[29])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[24 + sizeof(guid)];
    uint8_t hash[20];

    memcpy(text, key, 24);
    memcpy(text + 24, guid, sizeof(guid));
    pl_cli_sha1(text, sizeof(text) - 1, hash);
    base64(hash, sizeof(hash), out);
}
