#ifndef PL_CORE_LINK_H
#define PL_CORE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/frame.h"

/* How a queue reaches its client now. Implemented by server/transport/websocket.c (lives as long as
 * the socket) and server/transport/longpoll.c (one poll, one answer), and by the tests' loopback.
 * Embedded in the transport's own struct. A queue has at most one link, a link at most one queue
 * (I6). */
struct pl_link;
struct pl_queue;

enum pl_transport {
    PL_TRANSPORT_NONE,
    PL_TRANSPORT_WEBSOCKET,
    PL_TRANSPORT_LONGPOLL
};
/* "none", "websocket", "longpoll"; any other name is none's. */
const char *pl_transport_name(enum pl_transport t);
enum pl_transport pl_transport_named(const char *name);

enum {
    PL_BATCH_WINDOW_MAX_MS = 600000
};

struct pl_link_ops {
    enum pl_transport transport;
    /* One answer spends the link: when send returned true the core takes it off its queue, then
     * calls `spent`. */
    bool one_answer;
    /* Hands over one whole message (shared: take a reference to keep it). True: taken, its bytes go
     * out in order. False: no bytes can be taken now, nothing was; the link calls
     * pl_queue_writable() when they can. Must not call the core. events: how many events the frame
     * carries. */
    bool (*send)(struct pl_link *l, struct pl_frame *f, uint32_t events);
    /* The core has taken the link off its queue for good (replaced, token expired, forbidden, …;
     * status says): tell the client and close. Must not call the core. */
    void (*end)(struct pl_link *l, int status);
    /* One-answer links: the answer was taken and the core will not touch the link again. May be
     * NULL. */
    void (*spent)(struct pl_link *l);
};

struct pl_link {
    const struct pl_link_ops *ops;
    struct pl_queue *queue; /* NULL while attached to none; the core's to write */
    uint8_t codec;          /* enum pl_codec */
    bool has_batch_window;  /* the client has named its own; else queue.batch_window counts */
    uint32_t batch_window_ms;
};

#endif
