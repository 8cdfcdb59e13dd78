#ifndef PL_BENCH_LOAD_CLIENT_H
#define PL_BENCH_LOAD_CLIENT_H

#include "bench/load/dialect.h"
#include "bench/load/loop.h"
#include "bench/load/tally.h"

/* A client: one connection, from connect over what the dialect wants to say first to the reading of events. A poll
 * that is answered is asked again at once. */

enum client_state {
    CLIENT_NEW,
    CLIENT_CONNECTING,
    CLIENT_REGISTERING,
    CLIENT_UPGRADING,
    CLIENT_GREETING,
    CLIENT_OPEN,
    CLIENT_CLOSED
};

struct client {
    struct source source;
    struct clients *all;
    struct tally_reader reader;
    struct identity who;
    uint8_t *held; /* the beginning of what has not come whole yet */
    size_t held_len;
    int fd;
    uint16_t port;
    enum client_state state;
};

struct clients {
    const struct dialect *dialect;
    const struct options *options;
    struct tally *tally;
    struct client *list;
    size_t count, next; /* next: the first not begun yet */
    size_t connecting, open;
    bool keep_position; /* clients of a WebSocket note where they would go on */
    /* What came: WebSocket messages or HTTP answers with events, deflated ones among them, distinct deflated ones that
     * were inflated, bytes. */
    uint64_t messages, deflated, inflated, bytes;
    uint64_t closed; /* by the server, once open */
};

void clients_init(struct clients *all, const struct options *o, const struct dialect *d,
                  struct tally *t);
/* Begins as many as may be under way at once; true when all are open. */
bool clients_open(struct clients *all);
void clients_cut(struct clients *all); /* closes every connection; clients_open begins again */

#endif
