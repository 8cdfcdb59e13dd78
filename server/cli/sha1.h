#ifndef PL_CLI_SHA1_H
#define PL_CLI_SHA1_H

#include <stddef.h>
#include <stdint.h>

/* SHA-1 (RFC 3174), which the WebSocket handshake asks for. Not for anything that must be
 * secure. */
void pl_cli_sha1(const void *data, size_t len, uint8_t out[20]);

#endif
