#ifndef PL_TESTS_UNIT_NET_HARNESS_H
#define PL_TESTS_UNIT_NET_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/base/buf.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/net/net_priv.h"

/* A real net on a free port, a small application above it, and clients that are plain sockets in
 * the same thread: waiting for bytes turns the loop.
 *
 *   GET|POST /echo…     200 "<path> <body>"
 *   GET /hold           answered by harness_release
 *   GET /big            200, BIG bytes
 *   GET /none           204
 *   GET /bye            200 and close
 *   POST /secret        refused with 401 before the body
 *   GET /ws             WebSocket; /ws-later: accepted by harness_accept; /ws-no: 403
 *   WebSocket messages  come back as they are; one that starts with "close " is answered by 4404 */
enum {
    BIG = 6 * 1024 * 1024,
    MAX_HELD = 4096
};

struct harness {
    struct pl_config cfg;
    struct pl_wheel wheel;
    struct pl_net *net;
    struct pl_http_conn *held[MAX_HELD];
    int held_count;
    int requests, gone, ticks, turns;
    int refused; /* calls of refuse */
    int refusal; /* and the status of the last */
    bool refusal_had_head;
    char client[PL_ADDRESS_TEXT]; /* whose the last request or WebSocket was */
    struct pl_http_conn *upgrading;
    struct pl_ws_conn *ws; /* the one opened last */
    int ws_opened, ws_failed, ws_messages, ws_closed, ws_pongs, ws_writables;
    int close_code;
    bool close_by_peer, last_was_text, mute;
    size_t last_len;
};

int harness_setup(void **state);
int harness_teardown(void **state);
void harness_start(struct harness *h); /* after changing h->cfg */

int harness_connect(struct harness *h);
void harness_send(int fd, const void *data, size_t len);
void harness_send_str(int fd, const char *s);
/* Turns the loop once; waits up to a millisecond for fd (-1: none) if nothing is there. */
void harness_turn(struct harness *h, int fd);
/* Turns until *counter is at least n. */
void harness_until(struct harness *h, const int *counter, int n);
/* Reads until len bytes are there / until they contain text / until the server closes; fails
 * after seconds. The bytes are in the harness's own buffer until the next call, NUL-terminated. */
const char *harness_read(struct harness *h, int fd, size_t len);
const char *harness_read_text(struct harness *h, int fd, const char *text);
const char *harness_read_all(struct harness *h, int fd, size_t *ret_len);

void harness_release(struct harness *h); /* answers every held request: 200 "released" */
void harness_accept(struct harness *h);

/* A WebSocket, open. offer: NULL or the value of Sec-WebSocket-Extensions. */
int harness_websocket(struct harness *h, const char *offer);
extern const char harness_handshake[]; /* a whole one for /ws */
/* A masked frame into out; returns its length. */
size_t harness_frame(uint8_t *out, uint8_t first_byte, const void *data, size_t len);
void harness_send_frame(int fd, uint8_t first_byte, const void *data, size_t len);

#endif
