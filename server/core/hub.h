#ifndef PL_CORE_HUB_H
#define PL_CORE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/request.h"
#include "protocol/value.h"
#include "server/base/buf.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/core/bus.h"
#include "server/core/link.h"

/* The hub is one node's core: the server without a network. It holds channels with their rings,
 * user records, and queues with their cursors, and decides who gets which event when
 * (docs/delivery.md, whose rules comments name by number). It does no I/O and reads no clock: time
 * is set by pl_hub_set_time and by advancing the wheel; clients are reached through pl_link_ops,
 * the other nodes through pl_bus_ops. Single-threaded; link and bus callbacks never re-enter it. */
struct pl_hub;
struct pl_queue;
struct pl_user;

struct pl_hub_options {
    const struct pl_config
        *cfg; /* queue.*, channel.*, limits.*, longpoll.*, transport.*: read when needed */
    const struct pl_bus_ops *bus_ops;
    void *bus;
    bool ring_is_log; /* the memory bus: channels need no opening, rings are all there is */
    bool
        has_turns; /* pl_hub_end_turn is called when nothing else happens for now; else every event is
                       sent as it comes */
    struct pl_wheel *wheel;
    void (*random)(void *out, size_t len); /* queue ids */
    int64_t
        epoch_start; /* no id at or below this was given in this epoch; cursors below it are lost */
};

struct pl_hub *pl_hub_new(const struct pl_hub_options *o, uint64_t mono_ms, int64_t unix_ms);
/* Links must have been taken off (pl_hub_end_links) before. */
void pl_hub_free(struct pl_hub *h);
/* From here on the bus is not called any more: what is asked of it fails with PL_ERR_BUS. Before the
 * bus is freed, if that comes before the hub's end. */
void pl_hub_leave_bus(struct pl_hub *h);
void pl_hub_set_time(struct pl_hub *h, uint64_t mono_ms, int64_t unix_ms);
uint64_t pl_hub_mono_ms(const struct pl_hub *h);
int64_t pl_hub_unix_ms(const struct pl_hub *h);
const struct pl_config *pl_hub_config(const struct pl_hub *h);
/* The bus is the process's own: publishing delivers in the turn in which it is answered. */
bool pl_hub_is_embedded(const struct pl_hub *h);
/* For pl_parse_*. */
struct pl_request_limits pl_hub_limits(const struct pl_hub *h);

/* With has_turns: everything that was published since the last call is handed to the links that are up
 * to date, what came for one queue as one message. Returns how many messages were taken. */
uint32_t pl_hub_end_turn(struct pl_hub *h);

/* Numbers for /health and the gauges of /metrics. */
struct pl_hub_stats {
    uint64_t queues, queues_websocket, pending_polls, users, channels, ring_bytes;
    int64_t applied;
};
void pl_hub_stats(const struct pl_hub *h, struct pl_hub_stats *ret);

/* ---- what a bus tells the core ---- */

/* An event was sequenced. prevs[i]: the id before it in channels[i], as the log has it. Applied to
 * every open channel of it at first sight; copies are ignored. Returns how many links it was handed
 * to; 0 with turns, at whose end it goes out. */
uint32_t pl_hub_bus_event(struct pl_hub *h, int64_t id, const struct pl_bus_event *from,
                          const int64_t *prevs);
void pl_hub_bus_change(struct pl_hub *h, int64_t id, const struct pl_bus_change *c);
/* Nothing else was sequenced up to id (canary, quiet bus). */
void pl_hub_bus_applied(struct pl_hub *h, int64_t id);

/* The answer to open: the channel's log after `floor` (= the after_id asked for, or higher where
 * the log is trimmed), oldest first, known whole up to whole_to. */
struct pl_bus_log_entry {
    int64_t id;
    int64_t prev; /* in this channel */
    const struct pl_bus_event *event;
};
void pl_hub_bus_opened(struct pl_hub *h, struct pl_str channel, int64_t floor,
                       const struct pl_bus_log_entry *entries, size_t count, int64_t whole_to);

/* The answer to read: what the log has with floor < id <= upto, oldest first; floor is the after
 * asked for, or higher where the log is trimmed. */
void pl_hub_bus_read(struct pl_hub *h, struct pl_str channel, int64_t floor,
                     const struct pl_bus_log_entry *entries, size_t count, int64_t upto);

/* Cut off (true): nothing is delivered until it goes on, since what was revoked meanwhile is not
 * known; clients are told by the signal `status`. On again (false): after everything missed has been
 * told. The hub of a bus that begins cut off is paused before anything else. */
void pl_hub_bus_pause(struct pl_hub *h, bool paused);
/* Whether what other nodes say of queues (taken, end_queue) is heard; it is at first. When it is again,
 * every queue is saved before it is served, which shows whose it is; until then a client that comes
 * for a queue that is here makes the node claim it first. */
void pl_hub_bus_hears(struct pl_hub *h, bool hears);
/* The control log no longer holds the changes between: every record held is asked for again, and
 * nothing is delivered until they are here. While paused only. */
void pl_hub_bus_changes_lost(struct pl_hub *h);
/* History forked, or began anew: ids up to `start` are of another epoch. Rings are dropped and open
 * channels opened again; clients are told to catch up. */
void pl_hub_bus_epoch(struct pl_hub *h, int64_t start);

/* A user as the bus holds it (pl_bus_ops.user, and on the way of change and claim, before their
 * done): merged into the record, which is made if there is none. If there were many changes, the bus
 * is given a snapshot for their place (pl_bus_ops.compact, from inside). */
void pl_hub_bus_user(struct pl_hub *h, const struct pl_bus_user *u);
/* The answer to pl_bus_ops.user is complete. PL_OK, or PL_ERR_BUS. */
void pl_hub_bus_user_done(struct pl_hub *h, struct pl_str user_id, int status);
/* PL_OK with the queue (its user was told before by pl_hub_bus_user; position and state as saved),
 * PL_ERR_QUEUE_NOT_FOUND: none is kept; PL_ERR_DISCONNECTED: it has ended; PL_ERR_REPLACED: a client
 * that came later has it, at q->since_ms (0: not known), and nothing else of q counts; PL_ERR_BUS. Else
 * q is NULL. */
void pl_hub_bus_claimed(struct pl_hub *h, struct pl_str queue_id, int status,
                        const struct pl_bus_queue *q);
/* PL_OK; PL_ERR_REPLACED: another node has it (or it has ended), ours is stale and goes;
 * PL_ERR_BUS: it is saved again later. */
void pl_hub_bus_saved(struct pl_hub *h, struct pl_str queue_id, int64_t generation, int status);
/* Another node has taken the queue with this generation, for a client that came there at came_ms
 * (unix, by our clock; 0: not known). A link here is told `replaced`, unless it is the newer one: then
 * the queue is claimed back. */
void pl_hub_bus_taken(struct pl_hub *h, struct pl_str queue_id, int64_t generation,
                      int64_t came_ms);
/* pl_bus_ops.end_queue of some node. */
void pl_hub_bus_end_queue(struct pl_hub *h, struct pl_str queue_id, int status);
/* Every queue held is saved as it is now: before the process ends. */
void pl_hub_save_all(struct pl_hub *h);

/* ---- identity and rights ---- */

/* Does the bus have to be asked about this user or this queue (len 0: neither matters)? False if
 * they are here, cannot be any, or the bus keeps none. */
bool pl_hub_asks(struct pl_hub *h, struct pl_str user_id, struct pl_str queue_id);
/* Asks, when pl_hub_asks says so, so that pl_hub_user_find and pl_queue_find find them. done follows
 * once, never from inside: PL_OK (also when the bus knows neither), PL_ERR_BUS (nothing is known
 * now), PL_ERR_REPLACED (another node took the queue at the same time), PL_ERR_DRAINING. */
typedef void pl_hub_ready_fn(void *arg, int status);
void pl_hub_prepare(struct pl_hub *h, struct pl_str user_id, struct pl_str queue_id,
                    pl_hub_ready_fn *done, void *arg);
/* Ends a queue with status wherever it is. ids[0]: 1 if there was one, else 0. */
void pl_hub_end_queue(struct pl_hub *h, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                      void *arg);
/* done follows when the queue, as it is now, is kept by the bus; at once where it keeps none.
 * PL_ERR_BUS; PL_ERR_QUEUE_NOT_FOUND: it ended meanwhile. */
void pl_queue_when_saved(struct pl_queue *q, pl_hub_ready_fn *done, void *arg);

/* What a verified token says, applied to the user's record. reach_back: grants count from as far
 * back as there is history (register, hello); else from now (refresh). An old token (iat before the
 * record's last backend change, or before the newest token's) gives identity only.
 * PL_ERR_DISCONNECTED: the user was disconnected after the token was issued, or is blocked.
 * PL_ERR_TOKEN_EXPIRED: an unknown user's token from before something that limits.users made the
 * hub forget. PL_ERR_OVERLOADED: limits.users. */
struct pl_token_claims {
    struct pl_str user_id;
    const struct pl_membership *membership;
    int64_t iat_ms; /* -1: absent, counts as older than everything a backend said */
    int64_t exp_ms;
};
int pl_hub_apply_claims(struct pl_hub *h, const struct pl_token_claims *c, bool reach_back);

/* "-12", "7": is the text the one decimal form of an integer within +-2^53-1? */
bool pl_user_number(struct pl_str id, int64_t *ret);
/* NULL if there is no record. */
struct pl_user *pl_hub_user_find(struct pl_hub *h, struct pl_str user_id);
struct pl_str pl_user_id(const struct pl_user *u);
/* An integer if the id is one, else a string. */
void pl_user_write_id(const struct pl_user *u, struct pl_writer *w);
bool pl_user_is_blocked(const struct pl_hub *h, const struct pl_user *u);
size_t pl_user_queue_count(const struct pl_user *u);
void pl_user_each_queue(const struct pl_user *u, void (*fn)(void *arg, const struct pl_queue *q),
                        void *arg);
size_t pl_user_channel_count(const struct pl_user *u);                       /* granted now */
bool pl_user_may_publish_to(const struct pl_user *u, struct pl_str channel); /* is granted */
/* The granted communities as integers, ascending: `"communities"` of replies. Writes one array. */
void pl_user_write_communities(const struct pl_user *u, struct pl_writer *w);
/* Granted channels that are no communities; the array, and how many there are. */
size_t pl_user_other_channel_count(const struct pl_user *u);
void pl_user_write_other_channels(const struct pl_user *u, struct pl_writer *w);

/* ---- queues ---- */

/* 32 hexadecimal digits (128 random bits) and a NUL. */
enum {
    PL_QUEUE_ID_SIZE = 33
};

/* Is there room for one more queue? PL_OK, or PL_ERR_OVERLOADED, counted (limits.queues,
 * limits.memory): asked also before anything else is done for a queue that there is no room for. */
int pl_hub_check_room(const struct pl_hub *h);
/* A new queue for a user that has a record. narrowing: NULL takes the record's. token_exp_ms: 0 for
 * a queue made with an API key. position: where delivery starts; < 0 means now. PL_ERR_OVERLOADED
 * or PL_ERR_RATE_LIMITED (queues_per_user) at limits. */
int pl_queue_new(struct pl_hub *h, struct pl_user *u, const struct pl_membership *narrowing,
                 int64_t token_exp_ms, int64_t position, struct pl_queue **ret);
/* The 16 bytes of a queue id's text; false (ret untouched) when it is none. */
bool pl_queue_id_parse(struct pl_str text, uint8_t ret[16]);
struct pl_queue *pl_queue_find(struct pl_hub *h, struct pl_str queue_id); /* NULL: gone */
/* Ends it: its link gets `end` with status (PL_OK: close 1000). */
void pl_queue_end(struct pl_queue *q, int status);
/* Ends all queues of a user; returns how many. */
size_t pl_user_end_queues(struct pl_user *u, int status);

void pl_queue_id(const struct pl_queue *q, char out[PL_QUEUE_ID_SIZE]);
struct pl_user *pl_queue_user(const struct pl_queue *q);
enum pl_transport pl_queue_transport(const struct pl_queue *q);
int64_t pl_queue_token_exp_ms(const struct pl_queue *q); /* 0: does not expire */
enum pl_transport pl_queue_last_transport(
    const struct pl_queue *q);                            /* of its link, or else of the last one */
int64_t pl_queue_link_since_ms(const struct pl_queue *q); /* unix: its link's, or the last one's */
bool pl_queue_token_expired(const struct pl_queue *q);
void pl_queue_extend_token(struct pl_queue *q, int64_t exp_ms); /* never shortens */
/* A sign of life: queue.ttl counts from now. */
void pl_queue_touch(struct pl_queue *q);

/* What has a rate (limits.…_per_s), per queue and, but for polls, for all queues of a user. */
enum pl_use {
    PL_USE_MESSAGES,
    PL_USE_BYTES,
    PL_USE_POLLS,
    PL_USE_PUBLISHES,
    PL_USE_COUNT
};
/* Takes count of it from the queue's bucket and its user's. False: one of them has not that much;
 * it is counted, and nothing is taken. */
bool pl_queue_take(struct pl_queue *q, enum pl_use use, size_t count);

/* The client has everything up to here (rule 7). Ignored when it goes back or lies beyond what was
 * applied. */
void pl_queue_ack(struct pl_queue *q, int64_t id);
int64_t pl_queue_acked(const struct pl_queue *q);

/* Narrowing by the client (docs/delivery.md, Rights). PL_ERR_FORBIDDEN: the channel is not granted;
 * PL_ERR_TOO_BIG: limits.topics_per_queue. topic len 0: the whole channel. */
int pl_queue_subscribe(struct pl_queue *q, struct pl_str channel, struct pl_str topic);
int pl_queue_unsubscribe(struct pl_queue *q, struct pl_str channel, struct pl_str topic);

/* Gives the queue this link; delivery goes on after `position` (< 0: from the last ack; a fresh
 * queue: from its start). An older link gets `end(PL_ERR_REPLACED)` first. The first messages (a
 * catch-up, what was missed) are NOT sent from inside: call pl_queue_writable after saying welcome,
 * or after deciding to hold the poll. resumed_from for metrics is kept inside. */
void pl_queue_attach(struct pl_queue *q, struct pl_link *l, int64_t position);
/* The link goes away by itself (socket closed, poll timed out or abandoned); the queue stays.
 * Harmless if not attached. */
void pl_link_detach(struct pl_link *l);
/* The link can take bytes: sends what the queue has to get (signals, catch-up, events), until it is
 * up to date or the link is full or spent. */
void pl_queue_writable(struct pl_queue *q);
/* Says catchup_required with this reason at the next chance (a queue that had to be made anew). */
void pl_queue_require_catchup(struct pl_queue *q);

/* The position of rule 5 that may be told to the client now: what has been sent, or examined when
 * nothing is pending. Telling it is remembered as sent. */
int64_t pl_queue_tell_position(struct pl_queue *q);
/* Where delivery goes on from after attach: `last_event_id` of welcome. */
int64_t pl_queue_position(const struct pl_queue *q);

/* Answers a held poll with no events: time is up, or a goaway is due. The frame carries signals,
 * goaway, transports where due. */
void pl_queue_answer_empty(struct pl_queue *q);
/* The same for a poll that does not want to wait: at once, or when what the bus is being asked for
 * this queue is here (true: that is so, and the poll is answered then, with events if there are any). */
bool pl_queue_answer_settled(struct pl_queue *q);

/* ---- for all queues ---- */

/* Every link gets a goaway (reason "transport" or "draining"), each with its own reconnect_after_ms
 * spread over spread_ms; held polls are answered. only: PL_TRANSPORT_NONE for all. */
void pl_hub_goaway(struct pl_hub *h, enum pl_transport only, const char *reason, int64_t spread_ms);
/* The clients go, evenly over spread_ms, each in the slot that its queue's id gives it. WebSockets
 * are told so (goaway, reason "draining") and served meanwhile; one that is still there a moment
 * after its slot gets `end(PL_ERR_DRAINING)`. Polls stay held until their slot and are then answered
 * (goaway, to come back at once). Before a link is taken off, the bus has the queue's position, if it
 * can be had. Who comes yet is told to go, too, polls from their slot on. */
void pl_hub_drain(struct pl_hub *h, int64_t spread_ms);
/* How long until the queue's slot; 0: it has come, or nothing drains. */
int64_t pl_queue_slot_ms(const struct pl_queue *q);
/* By when every link that pl_hub_drain met is taken off, from its beginning on. */
int64_t pl_hub_drain_ms(const struct pl_hub *h);
/* Takes every link off with `end(status)`. */
void pl_hub_end_links(struct pl_hub *h, int status);
/* transport.phase or websocket_percent changed: polls carry the new list once. */
void pl_hub_transports_changed(struct pl_hub *h);

/* ["websocket","longpoll"] as this user is to use them, by phase and percent. Writes one array. */
void pl_hub_write_transports(const struct pl_hub *h, struct pl_str user_id, struct pl_writer *w);

/* ---- publishing ---- */

/* Publishes through the bus; done as pl_bus_ops.publish. */
void pl_hub_publish(struct pl_hub *h, const struct pl_bus_event *events, size_t count,
                    const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg);
void pl_hub_change(struct pl_hub *h, const struct pl_bus_change *c, pl_bus_done_fn *done,
                   void *arg);
void pl_hub_sequence(struct pl_hub *h, pl_bus_done_fn *done, void *arg);

#endif
