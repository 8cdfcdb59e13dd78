#ifndef PL_PROTOCOL_REQUEST_H
#define PL_PROTOCOL_REQUEST_H

#include "protocol/value.h"

/* Decoded values -> what a client or a backend asks for. Checks shapes, types and ranges (the
 * protocol page's "Shapes"), not rights. Everything points into the arena of the decoded value;
 * names that must be made
 * ("community:42") are allocated there. Unknown members are ignored, and a member that is null
 * counts as absent (Python's None), except subscriber_ids: there absent means everybody, so null is
 * refused. *ret is set only on success, but for pl_parse_message.
 *
 * All return 0, or PL_ERR_INVALID / PL_ERR_UNKNOWN_OP / PL_ERR_NO_CHANNEL / PL_ERR_TOO_BIG with
 * err->text naming the member and what is accepted: "community_ids: an array of integers". */

struct pl_request_error {
    char text[160];
};

/* Limits that a request's shape is checked against; channels and recipients as sent, so duplicates
 * count. 0: none. */
struct pl_request_limits {
    size_t channels;   /* of one user; of one event too */
    size_t topics;     /* of one queue */
    size_t recipients; /* subscriber_ids */
};

/* A user id, normalised: an integer and its decimal string are the same text ("7"); "007" is
 * another. 1..128 bytes without control characters. PL_ERR_INVALID for anything else, NULL
 * included. Article ids have the same shape. */
int pl_parse_user_id(const struct pl_value *v, struct pl_arena *a, struct pl_str *ret);

/* Narrowing of one channel. */
struct pl_narrowing {
    struct pl_str channel; /* "community:42" */
    struct pl_str *topics; /* article ids as text: "789"; sorted, unique */
    size_t topic_count;    /* 0: the empty set */
};

/* Channels and narrowing, as register, update-subscriptions, JWT claims ("communities" there) share
 * them. */
struct pl_membership {
    struct pl_str *channels; /* "community:42", "room:7"; sorted, unique */
    size_t channel_count;
    bool has_narrowing; /* `subscriptions` was present */
    struct pl_narrowing
        *narrowing; /* each channel once, of those above only; in no promised order */
    size_t narrowing_count;
};
/* ids_key: "community_ids" (bodies) or "communities" (claims). PL_ERR_NO_CHANNEL if neither it nor
 * `channels` is present (an empty array is present). A channel name is 1..128 bytes of A-Z a-z 0-9
 * . _ : - ; those beginning with "community:" must be followed by a decimal integer without leading
 * zero, "user:" and "control" are reserved (PL_ERR_INVALID). An entry of `subscriptions` names a
 * channel by community_id or channel and its topics by article_ids or topics; one for a channel
 * outside the membership is checked and ignored. */
int pl_parse_membership(const struct pl_value *v, const char *ids_key, struct pl_arena *a,
                        const struct pl_request_limits *lim, struct pl_membership *ret,
                        struct pl_request_error *err);

/* POST /realtime/register and /realtime/update-subscriptions by a backend. */
struct pl_register {
    struct pl_str user_id;
    struct pl_membership membership;
    bool has_version, has_last_event_id;
    int64_t version;
    int64_t last_event_id;
    struct pl_str queue_id; /* len 0: absent */
};
int pl_parse_register(const struct pl_value *v, struct pl_arena *a,
                      const struct pl_request_limits *lim, struct pl_register *ret,
                      struct pl_request_error *err);

/* An event to publish; backend's or client's. */
struct pl_publish {
    struct pl_str type; /* 1..128 bytes without control characters */
    /* A map; shown without subscriber_ids, exclude_user_id, exclude_queue_id. */
    const struct pl_value *data;
    struct pl_str *channels; /* sorted, unique, at least one */
    size_t channel_count;
    const struct pl_value *community_ids; /* as given, or NULL */
    int64_t default_community; /* client publish without community_ids: data.community_id; else 0 */
    const struct pl_value *shown_channels; /* `channels` as given, or NULL */
    struct pl_str topic;                   /* data.article_id as text; len 0: none */
    struct pl_str exclude_user;            /* normalised; len 0: none */
    struct pl_str exclude_queue;           /* len 0: none */
    bool has_subscribers;                  /* present, at the top or in data; may be empty */
    struct pl_str *subscribers;            /* normalised user ids; sorted, unique */
    size_t subscriber_count;
    struct pl_str timestamp;   /* RFC 3339 as given; len 0: absent */
    struct pl_str traceparent; /* W3C, checked; len 0: absent */
};
/* from_client: community_ids default to [data.community_id]; exclude_*, subscriber_ids, timestamp
 * and channels are not the client's to set and are PL_ERR_INVALID. subscriber_ids and exclude_* are
 * refused inside a client's data too. Wrong: no channel -> PL_ERR_NO_CHANNEL; too many subscribers
 * or channels -> PL_ERR_TOO_BIG. subscriber_ids at the top wins over the one in data. */
int pl_parse_publish(const struct pl_value *v, bool from_client, struct pl_arena *a,
                     const struct pl_request_limits *lim, struct pl_publish *ret,
                     struct pl_request_error *err);

/* Writes the event as clients see it, in JSON and without event_id: {"type":…,"timestamp":…,
 * "community_ids":…,"channels"?:…,"data":{…},"traceparent"?:…}. now_rfc3339 is used when there is
 * no timestamp; community_ids is [] if the event has channels only. This is the body a bus carries
 * and stores. */
void pl_event_write_body(const struct pl_publish *p, const char *now_rfc3339, struct pl_buf *out);

/* body (from pl_event_write_body) + id -> the event in a codec, event_id first. JSON is spliced;
 * MessagePack is decoded and encoded. Asserts that body is such a body. */
void pl_event_encode(enum pl_codec codec, int64_t event_id, struct pl_str body, struct pl_buf *out);

/* The W3C trace context: 00-<trace id>-<parent id>-<flags>, in lower-case hex. */
enum {
    PL_TRACEPARENT_LEN = 55
};
bool pl_is_traceparent(struct pl_str s);
/* The one at the end of such a body; len 0: it has none. */
struct pl_str pl_event_traceparent(struct pl_str body);

/* POST /realtime/disconnect */
struct pl_disconnect {
    struct pl_str user_id; /* one of the two has len > 0 */
    struct pl_str queue_id;
    int64_t block_s; /* 0: none */
};
int pl_parse_disconnect(const struct pl_value *v, struct pl_arena *a, struct pl_disconnect *ret,
                        struct pl_request_error *err);

/* Messages of clients. */
enum pl_op {
    PL_OP_HELLO,
    PL_OP_ACK,
    PL_OP_PING,
    PL_OP_PONG,
    PL_OP_SUBSCRIBE,
    PL_OP_UNSUBSCRIBE,
    PL_OP_PUBLISH,
    PL_OP_REFRESH
};

struct pl_message {
    enum pl_op op;
    const struct pl_value *id;     /* string (<= 128 bytes) or integer, as given; NULL: none */
    struct pl_str token, queue_id; /* len 0: absent */
    bool has_last_event_id;
    int64_t last_event_id; /* hello: the position; ack: event_id (has_… false when absent) */
    bool has_batch_window;
    int64_t batch_window_ms; /* hello */
    struct pl_str
        channel; /* subscribe, unsubscribe: "community:42"; by community_id, or by channel */
    struct pl_str topic; /* article_id as text; len 0: absent */
    struct pl_publish publish;
};
/* ret->op and ret->id are set as far as they could be read even when the result is an error, so
 * that the error reply can carry the id. subscribe, unsubscribe, publish, refresh without id:
 * PL_ERR_INVALID. lim as for pl_parse_publish. */
int pl_parse_message(const struct pl_value *v, struct pl_arena *a,
                     const struct pl_request_limits *lim, struct pl_message *ret,
                     struct pl_request_error *err);

/* "123" -> 123: 1..16 decimal digits, at most 2^53-1. False otherwise (sign, blank, text, beyond).
 */
bool pl_parse_cursor(struct pl_str s, int64_t *ret);

#endif
