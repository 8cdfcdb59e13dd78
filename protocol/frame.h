#ifndef PL_PROTOCOL_FRAME_H
#define PL_PROTOCOL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"

/* One encoded message, immutable, counted, shared by all who get it: as the body of an HTTP answer
 * (plain or gzip),
 * as a ready WebSocket frame (RFC 6455, server to client, unmasked, one frame), and as a ready
 * compressed one (RFC 7692, no context takeover: RSV1, deflate stream without its 00 00 ff ff
 * tail), which is made on first need, once. Not thread-safe: a frame belongs to one event loop. */
struct pl_frame;

/* Takes over the buffer's bytes (payload is empty afterwards). refs is 1. */
struct pl_frame *pl_frame_new(enum pl_codec codec, struct pl_buf *payload);
struct pl_frame *pl_frame_ref(struct pl_frame *f);
void pl_frame_unref(struct pl_frame *f); /* frees at 0; harmless on NULL */

struct pl_bytes {
    const uint8_t *data; /* a frame's: behind PL_FRAME_ROOM bytes (LWS_PRE, what lws_write wants) */
    size_t len;
};
enum {
    PL_FRAME_ROOM = 16
};

enum pl_codec pl_frame_codec(const struct pl_frame *f);
struct pl_bytes pl_frame_payload(const struct pl_frame *f);
/* Text opcode for JSON, binary for MessagePack. */
struct pl_bytes pl_frame_websocket(const struct pl_frame *f);
/* The compressed form if the payload has at least min bytes and deflate makes it smaller, else the
 * plain one. */
struct pl_bytes pl_frame_websocket_deflated(struct pl_frame *f, size_t min);
/* The compressed form as a gzip body, around the same deflate stream. False: the payload has fewer than
 * min bytes, or deflate does not make it smaller. */
bool pl_frame_gzip(struct pl_frame *f, size_t min, struct pl_bytes *ret);
size_t pl_frame_memory(const struct pl_frame *f); /* bytes held in all */

/* RFC 6455 header of an unmasked final frame into out (room for 10 bytes): returns its length, 2, 4
 * or 10. */
size_t pl_websocket_header(uint8_t out[10], uint8_t opcode, bool rsv1, size_t len);

/* Inflates one whole permessage-deflate message (without its tail) with a shared inflater. 0 and
 * *ret (valid until the next call), PL_ERR_TOO_BIG as soon as it passes max (never holding more
 * than max + 1 bytes), PL_ERR_MALFORMED for garbage and for a message that stops inside a block, or
 * PL_ERR_NOMEM. The shared buffer shrinks back to 64 KiB with the next call. */
int pl_inflate(const void *data, size_t len, size_t max, struct pl_bytes *ret);

/* Frees the process-wide deflater and inflater, for leak checks at exit; they come back on need. */
void pl_deflate_done(void);

#endif
