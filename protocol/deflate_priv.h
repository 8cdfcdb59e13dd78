#ifndef PL_PROTOCOL_DEFLATE_PRIV_H
#define PL_PROTOCOL_DEFLATE_PRIV_H

#include "protocol/frame.h"

/* Deflates one whole message without its 00 00 ff ff tail. True and *ret (valid until the next
 * call) if that is shorter than the message; false if not, or when memory is short. */
bool pl_deflate__message(const void *data, size_t len, struct pl_bytes *ret);

/* Wraps such a deflated message into gzip (RFC 1952): into out, which has pl_deflate__gzip_size bytes. */
size_t pl_deflate__gzip_size(size_t deflated_len);
void pl_deflate__gzip(struct pl_bytes plain, struct pl_bytes deflated, uint8_t *out);

/* Bytes held in the two shared buffers now. */
size_t pl_deflate__scratch(void);

#endif
