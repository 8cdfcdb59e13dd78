#ifndef PL_TRANSPORT_LONGPOLL_H
#define PL_TRANSPORT_LONGPOLL_H

#include "server/transport/http_edge.h"

/* Long-poll: each poll is a link for one answer.
 *
 * Answers at once if the queue has something to get, else within hold_ms: with the next event, with
 * whatever else becomes due, or empty when time is up. codec of the answer is to->codec. position <
 * 0: from the last ack. 409 `replaced` when a newer link takes the queue. The queue stays when the
 * client goes away. */
void pl_longpoll_start(const struct pl_http_to *to, struct pl_queue *q, int64_t position,
                       int64_t hold_ms);

#endif
