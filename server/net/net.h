#ifndef PL_NET_NET_H
#define PL_NET_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/frame.h"
#include "protocol/http.h"
#include "server/base/config.h"
#include "server/base/wheel.h"

/* The edge: sockets, HTTP/1.1 and WebSocket. One libuv loop, one libwebsockets context on it; HTTP
 * connections live in its raw role under protocol/http, WebSockets in its ws role with our own
 * permessage-deflate. It knows no path, no message and no queue: requests and messages go up
 * through the two tables of functions below, answers and frames come down. Everything runs on the
 * loop's thread; no function here blocks.
 *
 * Nothing that this layer calls upwards is called from inside a function that the upper layer
 * called (but for pl_net_free). Objects are freed only at the end of a loop turn, so a pointer
 * handed up stays valid through the call that is running, whatever that call closes. */
struct pl_net;
struct pl_http_conn;
struct pl_ws_conn;

/* Which listener a connection came in by. */
enum pl_listener {
    PL_LISTENER_MAIN,
    PL_LISTENER_INTERNAL
};

/* The client, as far as is known: whom the socket is connected to, or whom a proxy of
 * server.trusted_proxies names (by PROXY protocol for the connection, by X-Forwarded-For for a
 * request). */
struct pl_peer {
    struct pl_address address;
    char ip[PL_ADDRESS_TEXT]; /* the same as text */
    bool loopback;
    enum pl_listener listener;
};

/* One request, whole. It, every string in it and its arena are valid during the call only: a
 * request that is answered later costs its connection nothing, so whoever defers the answer
 * copies what it still needs. */
struct pl_http_request {
    struct pl_http_head head;
    struct pl_str body;     /* decoded */
    struct pl_arena *arena; /* for the handler's use, freed after the call */
    struct pl_peer peer;
};

struct pl_http_handler {
    /* How many body bytes this head may bring: asked before the body is read, and only if there
     * is one. A negative status refuses at once (401 before a megabyte is taken, say): return it
     * and the net answers through `refuse`, with that status and no reason. No pl_http_ function
     * may be called inside. */
    int64_t (*max_body)(void *arg, struct pl_http_conn *c, const struct pl_http_head *head,
                        const struct pl_peer *peer);
    /* Answer now or later with exactly one pl_http_reply. Until then `closed` tells if the
     * client goes away. */
    void (*request)(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq);
    /* A valid WebSocket handshake. Answer now or later with pl_http_accept_websocket or
     * pl_http_reply. */
    void (*upgrade)(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq);
    /* What the net itself refuses (bad request, too big, too slow, a limit): answer with
     * pl_http_reply. head is NULL when it could not be parsed, and valid during the call only;
     * reason is a sentence or NULL. The connection closes after the answer. */
    void (*refuse)(void *arg, struct pl_http_conn *c, const struct pl_http_head *head, int status,
                   const char *reason);
    /* The client went away (FIN, RST, too many bytes behind a held request) while its answer was
     * due. After this c is gone. A client that half-closes (shutdown) still gets an answer given
     * inside `request`; a later one finds the connection closed. */
    void (*closed)(void *arg, struct pl_http_conn *c);
};

/* An answer. head_lines are further header lines, each ended by CRLF ("Retry-After: 1\r\n");
 * Date, Content-Length, Connection (and Content-Type if body is not empty) are the net's. For
 * HEAD the body is counted and not sent. */
struct pl_http_answer {
    int http_status;
    const char *content_type; /* NULL: application/json */
    const char *head_lines;   /* NULL: none */
    struct pl_bytes body;
};
/* Sends at once; what the socket does not take is copied and goes out by itself (a peer that
 * takes nothing for 30 s is cut). May be called from inside `request`, `upgrade` and `refuse`.
 * Not after `closed`. After this call c is the upper layer's no more, until its next request.
 * 204 and 304 have no body. */
void pl_http_reply(struct pl_http_conn *c, const struct pl_http_answer *a);

/* Before an answer: its connection stays for another request though the net drains. */
void pl_http_stay(struct pl_http_conn *c);

/* Before an answer: it is the last on its connection. */
void pl_http_leave(struct pl_http_conn *c);

/* Has the client closed its side already, behind what is being handled? Asks the kernel: for the few
 * cases where acting for one that has gone elsewhere would do harm. */
bool pl_http_has_left(const struct pl_http_conn *c);

/* Counts a handshake of this client, to be asked before it costs anything. False: it is over
 * limits.handshakes_per_ip. The internal listener has no such limit, and trusted proxies have none. */
bool pl_http_take_handshake(struct pl_http_conn *c);

/* Whose request it is; while its answer is due. */
const struct pl_peer *pl_http_peer(const struct pl_http_conn *c);

/* The upper layer's own pointer, NULL at first; for the request that waits. */
void pl_http_set_user(struct pl_http_conn *c, void *user);
void *pl_http_user(const struct pl_http_conn *c);

/* Hands the connection over to the WebSocket role: `opened` is called with user, later in this
 * or the next loop turn, after the 101 went out. After this call c is gone. protocol: the
 * subprotocol to answer ("parley.v1.json", "parley.v1.msgpack"), "" for none. Frames the client
 * sent right behind its handshake are kept. If the hand-over fails or the client is gone by
 * then, `failed` is called instead of `opened`. */
void pl_http_accept_websocket(struct pl_http_conn *c, const char *protocol, enum pl_codec codec,
                              void *user);

struct pl_ws_handler {
    /* user as given to pl_http_accept_websocket; keep c. */
    void (*opened)(void *arg, struct pl_ws_conn *c, void *user);
    /* It never opened: free user. */
    void (*failed)(void *arg, void *user);
    /* One whole message, inflated; text is false for binary. UTF-8 is not checked. data is valid
     * during the call. Framing errors (1002), bad compression (1007 "invalid_data") and messages
     * over limits.message_bytes (4413 "too_big") never get here: the net closes. */
    void (*message)(void *arg, struct pl_ws_conn *c, const void *data, size_t len, bool text);
    /* A control PING or a PONG that is not empty came: a sign of life. */
    void (*pong)(void *arg, struct pl_ws_conn *c);
    /* After a send that returned false, or left bytes behind. */
    void (*writable)(void *arg, struct pl_ws_conn *c);
    /* The connection is gone. code: what the client sent in its close frame (1005: a frame
     * without code; 1006: no frame), or what was given to pl_ws_close. by_peer: the client
     * closed (or vanished) first. After this c is gone. */
    void (*closed)(void *arg, struct pl_ws_conn *c, int code, bool by_peer);
};

void *pl_ws_user(const struct pl_ws_conn *c);
const struct pl_peer *pl_ws_peer(const struct pl_ws_conn *c); /* as pl_http_peer, all its life */
bool pl_ws_has_left(const struct pl_ws_conn *c);              /* as pl_http_has_left */
bool pl_ws_compresses(const struct pl_ws_conn *c); /* permessage-deflate was negotiated */

/* Sends one frame (the compressed form where negotiated; its codec is the connection's) with one
 * send() if the socket has no backlog. True: taken (what the socket did not take at once is kept
 * and goes out by itself). False: there is a backlog, nothing was taken; `writable` will be
 * called. Never calls back. An error closes the connection later (`closed`). After pl_ws_close
 * frames are dropped, and it returns true. */
bool pl_ws_send(struct pl_ws_conn *c, struct pl_frame *f);

/* Sends a close frame (code, reason <= 123 bytes) and closes; `closed` follows later, not from
 * inside. What was sent before goes out first; a peer that does not close in turn is cut after 5 s.
 * Further messages of the client are ignored. A second call does nothing. */
void pl_ws_close(struct pl_ws_conn *c, int code, const char *reason);

enum {
    PL_ADDRESS_SIZE = 64
};
/* A socket that listens on "address:port", for pl_net_options. 0, or PL_ERR_INVALID with a sentence
 * in err. */
int pl_net_listen(const char *address, int *ret_fd, char *err, size_t err_size);
/* "127.0.0.1:8888" as bound; empty if fd is no such socket. */
void pl_net_bound(int fd, char out[PL_ADDRESS_SIZE]);

struct pl_net_options {
    /* Read whenever needed: LIVE options may change in place. limits.connections and
     * limits.connections_per_ip count the main listener only. */
    const struct pl_config *cfg;
    const struct pl_http_handler *http;
    const struct pl_ws_handler *ws;
    void *arg;              /* first argument of every handler function */
    struct pl_wheel *wheel; /* the process's timers; the net advances it on the loop */
    /* Before anything else in a turn in which time moved: sets the core's time. */
    void (*tick)(void *arg, uint64_t mono_ms, int64_t unix_ms);
    /* Everything that was there to be read has been handed up: for what is better done once for all of
     * it. At least once in every turn in which something was; may be NULL. */
    void (*turn_ends)(void *arg);
    /* Listening sockets that are open already, by listener; -1: none. The net closes them. */
    const int *sockets; /* NULL: none at all */
    bool accept_later;  /* nothing is accepted until pl_net_accept */
};

/* Makes the loop, the context and the listeners (cfg->server_listen, server_internal_listen, where no
 * socket was given). 0,
 * or PL_ERR_INVALID with a sentence in err (address in use, bad address, …). RLIMIT_NOFILE is
 * set to what limits.connections needs, at least 65 536 and at most 1 048 576, as far as the
 * hard limit goes; raising limits.connections beyond it takes a restart. */
int pl_net_new(const struct pl_net_options *o, struct pl_net **ret, char *err, size_t err_size);

/* "127.0.0.1:8888" as bound (port 0 replaced). NULL: that listener is not configured. */
const char *pl_net_address(const struct pl_net *n, enum pl_listener l);

/* The listening socket; -1: not configured, or closed. */
int pl_net_socket(const struct pl_net *n, enum pl_listener l);

/* Begins to accept, after accept_later. */
void pl_net_accept(struct pl_net *n);

/* The loop, for what else lives on it: a bus. */
struct uv_loop_s *pl_net_loop(struct pl_net *n);

/* Calls fn(arg) on the loop when the signal comes. SIGPIPE is ignored by the net. */
void pl_net_on_signal(struct pl_net *n, int signum, void (*fn)(void *arg, int signum), void *arg);

/* Runs until pl_net_stop. */
void pl_net_run(struct pl_net *n);
/* Main listener: accepts what waits and then no more; every answer (but see pl_http_stay) is its
 * connection's last. The rest goes on, and the internal listener as before. others_accept: another process accepts on the same
 * socket, so what waits is left to it. */
void pl_net_drain(struct pl_net *n, bool others_accept);
/* While it drains: closes the connections that have waited for another request for this long. The shorter
 * the more likely it is that one is on its way. */
void pl_net_close_idle(struct pl_net *n, uint64_t idle_ms);
/* How many clients are connected by the main listener. */
uint32_t pl_net_clients(const struct pl_net *n);
/* Stops accepting; closes idle HTTP connections, lets answers under way go out, closes what is
 * left after grace_ms; run returns when all are gone. WebSockets are the upper layer's to close
 * first; those that it has not, and those that still open, are closed with 1012 `draining`. */
void pl_net_stop(struct pl_net *n, uint64_t grace_ms);
/* Closes what is still open, with the handlers' `closed`; not from inside a handler. */
void pl_net_free(struct pl_net *n);

#endif
