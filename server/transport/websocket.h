#ifndef PL_TRANSPORT_WEBSOCKET_H
#define PL_TRANSPORT_WEBSOCKET_H

#include "server/transport/http_edge.h"

/* WebSocket: a link for as long as the socket lives. */

/* The upgrade of GET /realtime/ws, after origin, phase and limits were found in order: answers 101
 * and goes on from there; everything about token and queue is said by a close code (protocol page,
 * Opening). */
void pl_websocket_accept(struct pl_node *n, struct pl_http_conn *c,
                         const struct pl_http_request *rq);

/* For the net. */
extern const struct pl_ws_handler pl_websocket_handler;

#endif
