#ifndef PL_PROTOCOL_PROXY_HEADER_H
#define PL_PROTOCOL_PROXY_HEADER_H

#include <stddef.h>

#include "server/base/address.h"

/* What a proxy writes at the start of a TCP connection to say whose it is: the PROXY protocol, by
 * HAProxy's doc/proxy-protocol.txt, version 1 (a line of text) and 2 (binary). Strict: a header that
 * is not exactly right is an error, never taken for the client's own bytes. */
enum {
    PL_PROXY_MORE = 1,
    PL_PROXY_MAX_V1 = 107, /* with its CRLF */
    PL_PROXY_MAX_V2 =
        4096, /* of the 65551 that could be: TLVs are skipped, and this many suffice */
};

enum pl_proxy_command {
    PL_PROXY_LOCAL, /* the proxy speaks for itself (a health check), or does not know for whom */
    PL_PROXY_CLIENT
};

struct pl_proxy_header {
    enum pl_proxy_command command;
    struct pl_address client; /* PL_PROXY_CLIENT only: the source */
    size_t size;              /* bytes of the header; what is behind them is the client's */
};

/* Reads the header at the start of [data, data+len). PL_OK and *ret; PL_PROXY_MORE: not whole yet,
 * nothing wrong so far; PL_ERR_PROTOCOL: this is none, found at the first byte that cannot be. An
 * error is the same however the bytes are cut. A source that is no IP address (a Unix socket) is
 * PL_PROXY_LOCAL. *ret_reason, if not NULL, gets a static sentence on an error. */
int pl_proxy_header_parse(const void *data, size_t len, struct pl_proxy_header *ret,
                          const char **ret_reason);

#endif
