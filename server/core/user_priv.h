#ifndef PL_CORE_USER_PRIV_H
#define PL_CORE_USER_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/core/hub_priv.h"

/* The user record (docs/delivery.md, Rights): what the user is granted, by whom it was last said,
 * and the default narrowing of new queues. Shared by all queues of the user. */
struct pl_grant {
    struct pl_channel *channel;
    int64_t since; /* events above this; of a taken grant: the id it was taken at */
    bool standing; /* false: taken; remembered, so that given again means a new since */
};

/* An owned copy of a membership's narrowing, in one block. */
struct pl_narrowing_copy {
    size_t count;
    struct pl_narrowing items[];
};

/* What backends have said of a user, and when. */
struct pl_said {
    int64_t version;       /* of the last versioned change; -1: none */
    int64_t backend_ms;    /* unix time of the last change; 0: none */
    int64_t update_ms;     /* unix time of the last update-subscriptions without version; 0: none */
    int64_t not_before_ms; /* older tokens are refused; 0: none */
    int64_t blocked_until_ms;
    int64_t as_of;       /* every change up to this id is in it; 0: on a bus that keeps none */
    int64_t narrowed_id; /* of the last update that narrowed all queues; 0: none */
    int64_t ended_id;    /* of the last `disconnect`; 0: none */
};

struct pl_user {
    struct pl_map_node node; /* of pl_hub.users */
    struct pl_list idle;     /* of pl_hub.idle_short or idle_long while there is no queue */
    struct pl_list queues;
    struct pl_hub *hub;
    struct pl_grant *grants;             /* sorted by channel name */
    struct pl_spent *spent;              /* of all queues' rates; NULL: nothing */
    struct pl_narrowing_copy *narrowing; /* NULL: none */
    const struct pl_said *said; /* most users have a token and nothing else: they share one */
    uint64_t idle_since_ms;
    int64_t number;    /* of the id, if it is one */
    int64_t claims_ms; /* iat of the newest token applied; -1: none, or it had none */
    uint32_t grant_count;
    uint32_t queue_count;
    bool unsure : 1;    /* a change may be missing, or is just being said: nothing is delivered */
    bool by_claims : 1; /* the grants are a token's */
    bool forgot_taken : 1; /* which grants were taken is not known any more: none reaches back */
    bool is_number : 1;
    uint8_t id_len;
    char id[];
};

/* An update without version outranks a register that may have read its list before it, for this
 * long. */
enum {
    PL_UPDATE_OUTRANKS_MS = 30000
};

struct pl_user *pl_user__get(struct pl_hub *h,
                             struct pl_str id); /* NULL: limits.users, all with queues */
void pl_user__free(struct pl_user *u);
/* u->said, to be changed. */
struct pl_said *pl_user__say(struct pl_user *u);
void pl_user__queue_added(struct pl_user *u, struct pl_list *node);
void pl_user__queue_removed(struct pl_user *u, struct pl_list *node);
void pl_user__apply_change(struct pl_hub *h, int64_t id, const struct pl_bus_change *c);
/* Frees records that have been idle for long enough. */
void pl_user__sweep(struct pl_hub *h);
/* The standing grant of a channel, or NULL. */
const struct pl_grant *pl_user__grant(const struct pl_user *u, const struct pl_channel *c);
/* user:<id> is granted to that user without anybody saying so: called when such a channel first has
 * an event. */
void pl_user__grant_own(struct pl_hub *h, struct pl_str channel);
/* The same for a user who comes after such an event. */
void pl_user__grant_known_own(struct pl_user *u);

/* Shared with record.c. */
bool pl_user__is_own(const struct pl_user *u, const struct pl_channel *c); /* user:<id> */
void pl_user__become_idle(struct pl_user *u);
/* While several things are said of a record, nothing is delivered by the grants in between. */
bool pl_user__hold(struct pl_user *u);                 /* returns how it was before */
void pl_user__release(struct pl_user *u, bool before); /* delivers, if it was not held before */
/* Ends the queues that a `disconnect` which came with a record was meant for. */
void pl_user__enforce(struct pl_user *u);
/* Takes a change over into every queue of the user. narrow: m's narrowing is for the existing queues
 * too. */
void pl_user__spread(struct pl_user *u, const struct pl_membership *m, bool narrow,
                     bool grants_changed);

/* ---- record.c: a record as bytes ---- */

/* The record as MessagePack, for other nodes; and such a one merged into this: what was said later
 * wins. False: it cannot be understood. */
void pl_user__write(const struct pl_user *u, struct pl_writer *w);
bool pl_user__merge(struct pl_user *u, const struct pl_value *record);
/* Is this one of the record's grants, as bytes: [channel, since, standing]? */
bool pl_user__is_grant(const struct pl_value *g);

#endif
