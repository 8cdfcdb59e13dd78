#ifndef PL_PROTOCOL_URL_H
#define PL_PROTOCOL_URL_H

#include <stdbool.h>

#include "protocol/value.h"
#include "server/base/buf.h"

/* The address of a server: http://host[:port][/prefix]. Pure. */
struct pl_url {
    char host[256];      /* without the brackets of an IPv6 address */
    char port[6];        /* decimal; 80 when absent */
    char authority[272]; /* for Host: as written, in brackets if IPv6 */
    char prefix[256];    /* of paths, without a last slash; usually "" */
    bool tls;            /* https:// */
};

/* NULL, or a sentence that says what is wrong. ws:// is taken for http://; https:// and wss:// are
 * refused: TLS ends at the proxy in front, and neither the tool nor the server speaks it. */
const char *pl_url_parse(const char *text, struct pl_url *ret);
/* The same, but https:// and wss:// are taken too (port 443 when absent): for looking at a proxy from
 * outside. */
const char *pl_url_parse_public(const char *text, struct pl_url *ret);

/* Appends a value to a query string, percent-encoded but for RFC 3986's unreserved characters. */
void pl_url_append_query_value(struct pl_buf *out, struct pl_str value);

#endif
