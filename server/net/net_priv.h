#ifndef PL_NET_NET_PRIV_H
#define PL_NET_NET_PRIV_H

#include <libwebsockets.h>
#include <uv.h>

#include "server/base/buf.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/rate.h"
#include "server/net/net.h"

/* The names under which libwebsockets knows our protocols. The first is for WebSockets without a
 * subprotocol; the next two are what it answers in Sec-WebSocket-Protocol. */
#define PL_NET_PLAIN_PROTOCOL "parley"
#define PL_NET_HTTP_PROTOCOL  "parley-http"

/* Work put off to the end of the loop turn, where no handler is on the stack: closing, freeing,
 * handing over, going on with bytes that wait. A job is in the queue once at most. */
struct pl_job {
    struct pl_list node;
    void (*fn)(struct pl_job *job);
};

/* One address on one listener, counted while connections from it are open. It stays beyond that until
 * its buckets are full again. */
struct pl_peer_entry {
    struct pl_map_node node;
    uint32_t connections;
    bool rests; /* is in pl_net.resting */
    struct pl_rate handshakes, connects;
    struct pl_peer peer;
};

struct pl_listening {
    struct pl_net *net;
    enum pl_listener which;
    int fd; /* -1: not configured, or closed */
    uv_poll_t poll;
    bool accept_rest;      /* before it closes */
    struct pl_timer pause; /* runs while accepting rests for want of file descriptors */
    char address[PL_ADDRESS_SIZE];
};

/* Connections whose first request is not known yet: http_front.c. */
struct pl_front {
    int epoll;
    uv_poll_t poll; /* of epoll */
};

struct pl_signal {
    uv_signal_t handle;
    struct pl_net *net;
    void (*fn)(void *arg, int signum);
    void *arg;
};
enum {
    PL_NET_SIGNALS = 8
};

struct pl_net {
    struct pl_net_options o;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t wheel_timer;
    uv_timer_t second;
    uint64_t second_due_us;
    uint64_t now_ms; /* of the loop turn */
    struct pl_list jobs;
    struct pl_signal signals[PL_NET_SIGNALS];
    unsigned signal_count;

    struct lws_context *lws;
    struct lws_vhost *vhost;
    struct pl_ws_conn *adopting; /* whose handshake libwebsockets is reading right now */

    struct pl_listening listening[2];
    struct pl_front front;
    struct pl_map peers;
    struct pl_list resting; /* peers that had no connection left, for longest first */
    uint32_t resting_count;
    uint32_t max_connections; /* what file descriptors allow */
    uint32_t main_connections;
    struct pl_rate accepts;
    uint32_t refusing; /* connections over a limit that wait for their 503 */

    struct pl_list http, ws; /* every connection */
    uint32_t http_count, ws_count;
    uint64_t idle_end_us; /* when the next idle connection may be closed */
    struct pl_timer grace;
    bool draining;
    bool stopping;

    int64_t date_s; /* what date holds */
    char date[40];
    struct pl_buf head; /* scratch of an answer */
    int64_t unix_ms;    /* of the loop turn */
};

/* The first thing in every callback from outside: tells the upper layer when time moved. */
void pl_net__enter(struct pl_net *n);
void pl_net__later(struct pl_net *n, struct pl_job *job);
/* A timer ms from now. */
void pl_net__set_timer(struct pl_net *n, struct pl_timer *t, int64_t ms);
/* To be called when a connection is gone: a net that stops ends with the last one. */
void pl_net__check_stopped(struct pl_net *n);
/* "Fri, 20 Nov 2026 10:30:00 GMT" */
const char *pl_net__date(struct pl_net *n);

/* listener.c */
void pl_listener__init(struct pl_net *n);
/* Takes the socket over. */
void pl_listener__open(struct pl_net *n, enum pl_listener which, int fd);
void pl_listener__accept(struct pl_net *n, enum pl_listener which);
void pl_listener__close(struct pl_net *n, enum pl_listener which);

enum {
    /* Connections over a limit that get a 503 at the same time; more are just closed. */
    PL_MAX_REFUSING = 256,
};

/* peer.c. Takes the entry of an address, for a connection that holds it until it is dropped. */
void pl_peer__init(struct pl_net *n);
struct pl_peer_entry *pl_peer__take(struct pl_net *n, enum pl_listener listener,
                                    const struct pl_address *address);
void pl_peer__drop(struct pl_net *n, struct pl_peer_entry *e);
/* The same at a connection's beginning and end, which limits.connections counts. */
struct pl_peer_entry *pl_peer__enter(struct pl_net *n, enum pl_listener listener,
                                     const struct pl_address *address);
void pl_peer__leave(struct pl_net *n, struct pl_peer_entry *e);
/* Does its word on a client's address count? On the main listener only. */
bool pl_peer__is_proxy(const struct pl_net *n, const struct pl_peer_entry *e);
/* PL_OK, or the status to refuse with, counted: for a new connection, and for one whose client is
 * known only now. Trusted proxies have no limit per address, and the internal listener has none at
 * all: operators get in when clients have filled the server. */
int pl_peer__check_limits(struct pl_net *n, struct pl_peer_entry *e);
int pl_peer__check_per_ip(const struct pl_net *n, const struct pl_peer_entry *e);
/* limits.handshakes_per_ip; false: over it, counted. */
bool pl_peer__take_handshake(const struct pl_net *n, struct pl_peer_entry *e);
void pl_peer__sweep(struct pl_net *n); /* once a second */
void pl_peer__done(struct pl_net *n);

/* http_conn.c. A new connection on fd, which it owns from here on. refuse_status: 0, or the
 * status its first request is refused with. */
void pl_http__adopt(struct pl_net *n, int fd, struct pl_peer_entry *peer, int refuse_status);
int pl_http__lws_callback(struct pl_http_conn *c, enum lws_callback_reasons reason, const char *in,
                          size_t len);
void pl_http__stop_all(struct pl_net *n); /* closes the idle; the others close when answered */
void pl_http__close_idle(struct pl_net *n, uint64_t idle_ms);
void pl_http__kill_all(struct pl_net *n);
void pl_http__free_front(struct pl_net *n); /* closes those that the front has */

/* What a WebSocket handshake leaves behind once the request is gone: enough to write one of our
 * own. */
struct pl_handshake {
    char key[25]; /* Sec-WebSocket-Key */
    bool deflate;
    bool window_bits; /* the offer names server_max_window_bits=15: so must the answer */
    enum pl_codec codec;
    const char *protocol;
    void *user;
};

enum pl_http_phase {
    PL_CONN_PROXY,    /* waits for the PROXY protocol header of a trusted proxy */
    PL_CONN_HEAD,     /* waits for a request, or for the rest of its head */
    PL_CONN_BODY,     /* waits for the rest of a body */
    PL_CONN_ANSWER,   /* the upper layer's answer is due */
    PL_CONN_WRITING,  /* the socket took less than the answer */
    PL_CONN_HANDOVER, /* accepted as a WebSocket; happens at the end of the turn */
    PL_CONN_LINGER,   /* answered; waits for the peer to close, so that no RST eats the answer */
    PL_CONN_DOOMED,   /* to be closed at the end of the turn */
    PL_CONN_CLOSED,   /* to be freed at the end of the turn */
};

/* A request whose body is not whole yet. */
struct pl_http_partial {
    struct pl_buf head; /* its bytes */
    struct pl_http_body state;
    struct pl_buf body;
};

bool pl_net__has_left(int fd);
bool pl_net__has_unread(int fd); /* something came that was not read, if only its end */

struct pl_http_conn {
    struct pl_net *net;
    struct lws *wsi;             /* NULL: not libwebsockets' yet, but the front's */
    struct pl_peer_entry *peer;  /* the client's; NULL when handed over */
    struct pl_peer_entry *proxy; /* who forwarded the request in hand for it; NULL: nobody */
    void *user;
    struct pl_list node;
    struct pl_job job;
    struct pl_timer timer;
    struct pl_buf in; /* an incomplete head, or what came behind the request in hand */
    union {
        struct pl_http_partial *partial; /* PL_CONN_BODY */
        struct pl_buf *out;              /* PL_CONN_WRITING: not taken yet */
        struct pl_handshake *handshake;  /* PL_CONN_ANSWER of an upgrade, PL_CONN_HANDOVER */
        size_t scanned; /* PL_CONN_HEAD: bytes of `in` that hold no end of a head */
    } u;
    int fd; /* -1: closed, or handed over */
    int16_t refuse_status;
    uint8_t phase;
    bool keep_alive : 1;
    bool is_head : 1; /* HEAD: the body is not sent */
    bool http_1_0 : 1;
    bool answered : 1;  /* once at least */
    bool stays : 1;     /* the answer of now is not the last one though the net drains */
    bool consuming : 1; /* a loop over `in` is on the stack, which goes on after the answer */
    bool watched : 1;   /* the front waits for bytes of it */
    bool ends : 1;      /* idle for too long, and closed when its turn comes */
};

/* The answer of now is the last: the net drains or stops. */
bool pl_http__is_last(const struct pl_http_conn *c);
/* Ends the connection at the end of the turn. */
void pl_http__doom(struct pl_http_conn *c);
/* The answer is out (or as good as): next request, or the end. */
void pl_http__answered(struct pl_http_conn *c);
/* What the client sent. */
void pl_http__bytes(struct pl_http_conn *c, const char *data, size_t len);
/* http_front.c. The front has every connection without a wsi. */
int pl_front__init(struct pl_net *n, char *err, size_t err_size);
void pl_front__done(struct pl_net *n);
/* Reads what is there, and puts the connection where it belongs then. */
void pl_front__read(struct pl_http_conn *c);
void pl_front__settle(struct pl_http_conn *c);
/* It is not the front's any more; its fd stays as it is. */
void pl_front__leave(struct pl_http_conn *c);
/* http_reply.c */
void pl_http__flush(struct pl_http_conn *c);
void pl_http__send_continue(struct pl_http_conn *c);
/* http_upgrade.c */
struct pl_handshake *pl_http__handshake_new(const struct pl_net *n,
                                            const struct pl_http_head *head);
void pl_http__hand_over(struct pl_http_conn *c);

/* deflate_ext.c: permessage-deflate as libwebsockets sees it: negotiated, and the bytes passed
 * through. */
extern const struct lws_extension pl_deflate__extensions[];
/* Reads every Sec-WebSocket-Extensions header. True: an offer can be accepted. *ret_window_bits:
 * it names server_max_window_bits=15. */
bool pl_deflate__offered(const struct pl_http_head *head, bool *ret_window_bits);

enum pl_ws_phase {
    PL_WS_OPENING,
    PL_WS_OPEN,
    PL_WS_CLOSING, /* our close frame is on its way */
    PL_WS_PEER_CLOSING,
    PL_WS_CLOSED,
};

/* Of a connection that must be through with something in time: with a message that comes in parts, or
 * with closing. */
struct pl_ws_busy {
    struct pl_ws_conn *conn;
    struct pl_timer timer;
    size_t len, cap;
    uint8_t *data; /* of the message, what came so far */
};

struct pl_ws_conn {
    struct pl_net *net;
    struct lws *wsi;
    struct pl_peer_entry *peer;
    void *user;
    struct pl_ws_busy *busy; /* NULL mostly */
    struct pl_list node;
    struct pl_job job; /* cuts, or frees */
    int fd;            /* of an open one */
    uint16_t code;     /* of the close frame */
    uint8_t phase;     /* enum pl_ws_phase */
    bool msgpack : 1;
    bool deflate : 1;
    bool wants_writable : 1;
    bool in_message : 1;     /* a data message has begun and is not whole */
    bool in_first_frame : 1; /* … and what comes is still of its first frame */
    bool compressed : 1;     /* … and it is compressed */
    bool in_frame : 1;       /* the last piece did not end its frame */
};

/* ws_conn.c. Takes over fd, peer and hs. head: the handshake as libwebsockets shall read it,
 * with whatever the client sent behind it. Calls `opened` or `failed` inside. */
void pl_ws__adopt(struct pl_net *n, int fd, struct pl_peer_entry *peer,
                  const struct pl_handshake *hs, const struct pl_buf *head);
int pl_ws__lws_callback(struct lws *wsi, struct pl_ws_conn *c, enum lws_callback_reasons reason,
                        const void *in, size_t len);
void pl_ws__stop_all(struct pl_net *n); /* says goodbye to those that nobody closed */
void pl_ws__kill_all(struct pl_net *n);
/* It is busy from here on, for so long at most: then a message is refused, and a peer that does not
 * close is cut. */
void pl_ws__begin(struct pl_ws_conn *c, int64_t ms);
void pl_ws__end(struct pl_ws_conn *c); /* it is not, or no more */
/* ws_receive.c: payload that libwebsockets has unmasked. */
void pl_ws__receive(struct pl_ws_conn *c, const uint8_t *data, size_t len);

#endif
