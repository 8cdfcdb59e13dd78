#ifndef PL_CLI_WATCH_PRIV_H
#define PL_CLI_WATCH_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "server/cli/command.h"
#include "server/cli/retry.h"

/* One watcher: a queue, a position, and the link that serves it now. */
struct pl_watch {
    const struct pl_cli_args *args;
    const struct pl_url *url;
    FILE *events; /* stdout */
    char *token;
    int transport; /* PL_CLI_WEBSOCKET or PL_CLI_LONGPOLL */
    enum pl_codec codec;
    char queue_id[129]; /* empty: none yet */
    int64_t position;   /* everything up to here is known; -1: from now */
    int64_t printed;    /* the newest id that was printed; -1: none */
    int64_t count;      /* events printed */
    uint64_t ping_interval_ms;
    uint64_t goaway_at_ms; /* monotonic; 0: no goaway */
    int refused_transport; /* PL_CLI_AUTO, or the one that the server no longer offers */
    bool welcomed;         /* this link delivered something: it works */
};

/* How a link ended. */
struct pl_watch_end {
    enum {
        PL_WATCH_DONE,
        PL_WATCH_AGAIN,
        PL_WATCH_LOST
    } why; /* finished or interrupted; at once; see advice */
    enum pl_cli_advice advice;
    bool server_away;       /* nothing was reached: says nothing about the transport */
    bool transport_refused; /* the other one may work */
    uint64_t retry_after_ms;
    char text[512];
};

/* watch_message.c: what came, as a WebSocket message or as a poll's or register's body. Prints
 * events not yet printed, moves the position, takes queue, interval, goaway and transports over.
 * now_ms: monotonic. *ret_ping: a ping that must be answered. False: it is not a message. */
bool pl_watch__take(struct pl_watch *w, enum pl_codec codec, const void *data, size_t len,
                    uint64_t now_ms, bool *ret_ping);
/* Were as many events printed as asked for? */
bool pl_watch__is_complete(const struct pl_watch *w);

/* watch_ws.c, watch_poll.c: serve until the link ends. */
void pl_watch__websocket(struct pl_watch *w, struct pl_watch_end *ret);
void pl_watch__longpoll(struct pl_watch *w, struct pl_watch_end *ret);
/* Ends the queue, which would wait out its time when nobody comes back. */
void pl_watch__unregister(struct pl_watch *w);

/* A line on stderr: "parley watch: websocket open: …", or with --json
 * {"state":"open","transport":…,"detail":…}. */
__attribute__((format(printf, 3, 4))) void pl_watch__say(const struct pl_watch *w,
                                                         const char *state, const char *fmt, ...);

/* An HTTP answer that is an error, as the end of the link. */
void pl_watch__end_by_answer(const struct pl_cli_response *r, struct pl_watch_end *ret);
void pl_watch__end_by_failure(const struct pl_cli_failure *f, struct pl_watch_end *ret);

/* "Authorization: Bearer …" and Accept, for every request. */
void pl_watch__head_lines(const struct pl_watch *w, struct pl_buf *out);

/* The first characters of the queue's id, which is a capability: enough to tell queues apart, not
 * to use them. */
enum {
    PL_WATCH_QUEUE_SHOWN = 6
};

#endif
