#ifndef PL_BUS_REDIS_WIRE_H
#define PL_BUS_REDIS_WIRE_H

#include "server/core/hub.h"

/* The bytes that travel through Redis: events, changes, announcements. No I/O, and no hiredis.
 * Everything decoded points into the arena or into the bytes given. Peers are other nodes, of this
 * version or a newer one, and backends that call parley_publish: whatever cannot be understood is an
 * error, never an assert. */

/* ---- payloads ---- */

/* Of a log entry and its announcement. */
enum pl_redis_form {
    PL_REDIS_EVENT = 'E',  /* made by a node: pl_redis_encode_event */
    PL_REDIS_JSON = 'J',   /* made by a backend: "<timestamp> <the JSON it published>" */
    PL_REDIS_CHANGE = 'H', /* of a user record: pl_redis_encode_change; in the control channel */
};

/* MessagePack: {"b":body,"c":[channels],"t"?:topic,"xu"?:…,"xq"?:…,"s"?:[numbers, ascending, each as the
 * difference to the one before],"n"?:[names]}. "s" or "n" present: has_subscribers. */
void pl_redis_encode_event(const struct pl_bus_event *e, struct pl_buf *out);
/* Either form. limits: of a J; what is beyond them or malformed is PL_ERR_INVALID. */
int pl_redis_decode_event(enum pl_redis_form form, struct pl_str payload,
                          const struct pl_request_limits *limits, struct pl_arena *a,
                          struct pl_bus_event *ret);

/* MessagePack: {"k":kind,"u":user_id,"m"?:[channels],"w"?:[[channel,[topics]]…] (has_narrowing),"v"?:version,
 * "at":unix_ms,"x"?:blocked_until_ms}. */
void pl_redis_encode_change(const struct pl_bus_change *c, struct pl_buf *out);
int pl_redis_decode_change(struct pl_str payload, struct pl_arena *a, struct pl_bus_change *ret);

/* ---- announcements: what Pub/Sub messages say ---- */

/* "E|J <id> <tag> <n> <prev> <len> <channel> … <payload>" (n times prev, len, channel; one blank between all)
 * "H <id> <tag> <prev> <payload>"      a change, in the control channel
 * "P <start> <n>"                      a new epoch, in the control channel
 * "M <id>"                             a marker (redis_raw), in the control channel
 * "C <id> <nonce>"                     canary, to the node's own channel
 * "T <queue_id> <generation> <came>"   the queue was taken, to the node's own channel; came: when the client came
 *                                      there, ms by the server's clock, 0 if not known
 * "X <queue_id> <status>"              end this queue, to the node's own channel */
struct pl_redis_news {
    char what;               /* the letter; 0: none of these (a newer version's: ignore) */
    int64_t id;              /* E J H M C; P: start */
    int64_t number;          /* P: n; T: generation; X: status */
    int64_t came;            /* T */
    struct pl_str tag;       /* E J H; C: nonce */
    struct pl_str name;      /* T X: queue_id */
    struct pl_str *channels; /* E J */
    int64_t *prevs;          /* E J: one per channel; H: one */
    size_t channel_count;
    struct pl_str payload; /* E J H */
};
/* PL_ERR_MALFORMED. */
int pl_redis_parse_news(struct pl_str message, struct pl_arena *a, struct pl_redis_news *ret);

/* ---- names ---- */

/* Every key and every Pub/Sub channel of ours begins with "{<prefix>}:". kind: "seq", "epoch", "nodes",
 * "control" (log and Pub/Sub channel of changes) without a name; "log", "user", "queue", "conn:user", "idem",
 * "node" with one: "{parley}:log:community:42". A channel's log key is its Pub/Sub channel too. Appends to out. */
void pl_redis_key(struct pl_buf *out, const char *prefix, const char *kind, struct pl_str name);

#endif
