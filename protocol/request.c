#include "protocol/request_priv.h"

#include "protocol/status.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct pl_request_field register_fields[] = {
    {"user_id", PL_ACCEPTS_USER_ID, pl_request__read_user_id, offsetof(struct pl_register, user_id),
     0, true},
    {"version", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_register, version), offsetof(struct pl_register, has_version), false},
    {"last_event_id", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_register, last_event_id), offsetof(struct pl_register, has_last_event_id),
     false},
    {"queue_id", PL_ACCEPTS_NAME, pl_request__read_name, offsetof(struct pl_register, queue_id), 0,
     false},
};

static int expect_map(const struct pl_request_context *c, const struct pl_value *v)
{
    return v->type == PL_MAP ? 0 : pl_request__fail(c, PL_ERR_INVALID, "the body: a map");
}

int pl_parse_register(const struct pl_value *v, struct pl_arena *a,
                      const struct pl_request_limits *lim, struct pl_register *ret,
                      struct pl_request_error *err)
{
    const struct pl_request_context c = {.arena = a, .limits = lim, .err = err};
    struct pl_register reg = {0};
    int status = expect_map(&c, v);

    if (status == 0) {
        status = pl_request__fields(&c, v, register_fields, COUNT(register_fields), &reg);
    }
    if (status == 0) {
        status = pl_parse_membership(v, "community_ids", a, lim, &reg.membership, err);
    }
    if (status == 0) {
        *ret = reg;
    }
    return status;
}

static const struct pl_request_field disconnect_fields[] = {
    {"user_id", PL_ACCEPTS_USER_ID, pl_request__read_user_id,
     offsetof(struct pl_disconnect, user_id), 0, false},
    {"queue_id", PL_ACCEPTS_NAME, pl_request__read_name, offsetof(struct pl_disconnect, queue_id),
     0, false},
    {"block_s", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_disconnect, block_s), 0, false},
};

int pl_parse_disconnect(const struct pl_value *v, struct pl_arena *a, struct pl_disconnect *ret,
                        struct pl_request_error *err)
{
    const struct pl_request_context c = {.arena = a, .err = err};
    struct pl_disconnect disconnect = {0};
    int status = expect_map(&c, v);

    if (status == 0) {
        status =
            pl_request__fields(&c, v, disconnect_fields, COUNT(disconnect_fields), &disconnect);
    }
    if (status == 0 && (disconnect.user_id.len > 0) == (disconnect.queue_id.len > 0)) {
        status = pl_request__fail(&c, PL_ERR_INVALID, "user_id or queue_id: exactly one of them");
    }
    if (status == 0) {
        *ret = disconnect;
    }
    return status;
}

static const struct pl_request_field hello_fields[] = {
    {"token", PL_ACCEPTS_STRING, pl_request__read_string, offsetof(struct pl_message, token), 0,
     false},
    {"queue_id", PL_ACCEPTS_NAME, pl_request__read_name, offsetof(struct pl_message, queue_id), 0,
     false},
    {"last_event_id", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_message, last_event_id), offsetof(struct pl_message, has_last_event_id),
     false},
    {"batch_window_ms", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_message, batch_window_ms), offsetof(struct pl_message, has_batch_window),
     false},
};

static const struct pl_request_field ack_fields[] = {
    {"event_id", PL_ACCEPTS_POSITION, pl_request__read_position,
     offsetof(struct pl_message, last_event_id), offsetof(struct pl_message, has_last_event_id),
     false},
};

static const struct pl_request_field refresh_fields[] = {
    {"token", PL_ACCEPTS_STRING, pl_request__read_string, offsetof(struct pl_message, token), 0,
     true},
};

/* channel stands instead of community_id, so both fill the same place; parse_narrow refuses both at
 * once. */
static const struct pl_request_field narrow_fields[] = {
    {"community_id", PL_ACCEPTS_COMMUNITY, pl_request__read_community,
     offsetof(struct pl_message, channel), 0, false},
    {"channel", PL_ACCEPTS_CHANNEL, pl_request__read_channel, offsetof(struct pl_message, channel),
     0, false},
    {"article_id", PL_ACCEPTS_USER_ID, pl_request__read_user_id, offsetof(struct pl_message, topic),
     0, false},
};

/* What the fields alone do not say. */
typedef int finish_fn(const struct pl_request_context *c, const struct pl_value *v,
                      struct pl_message *m);

static int finish_narrow(const struct pl_request_context *c, const struct pl_value *v,
                         struct pl_message *m)
{
    if (m->channel.len == 0) {
        return pl_request__fail(c, PL_ERR_NO_CHANNEL, "community_id: %s", PL_ACCEPTS_COMMUNITY);
    }
    if (pl_request__member(v, "community_id") && pl_request__member(v, "channel")) {
        return pl_request__fail(c, PL_ERR_INVALID, "community_id or channel: exactly one of them");
    }
    return 0;
}

static int finish_publish(const struct pl_request_context *c, const struct pl_value *v,
                          struct pl_message *m)
{
    return pl_parse_publish(v, true, c->arena, c->limits, &m->publish, c->err);
}

static const struct op_row {
    struct pl_str name;
    const struct pl_request_field *fields;
    size_t field_count;
    finish_fn *finish;
    bool needs_id;
} ops[] = {
    [PL_OP_HELLO] = {PL_LIT("hello"), hello_fields, COUNT(hello_fields), NULL, false},
    [PL_OP_ACK] = {PL_LIT("ack"), ack_fields, COUNT(ack_fields), NULL, false},
    [PL_OP_PING] = {PL_LIT("ping"), NULL, 0, NULL, false},
    [PL_OP_PONG] = {PL_LIT("pong"), NULL, 0, NULL, false},
    [PL_OP_SUBSCRIBE] = {PL_LIT("subscribe"), narrow_fields, COUNT(narrow_fields), finish_narrow,
                         true},
    [PL_OP_UNSUBSCRIBE] = {PL_LIT("unsubscribe"), narrow_fields, COUNT(narrow_fields),
                           finish_narrow, true},
    [PL_OP_PUBLISH] = {PL_LIT("publish"), NULL, 0, finish_publish, true},
    [PL_OP_REFRESH] = {PL_LIT("refresh"), refresh_fields, COUNT(refresh_fields), NULL, true},
};

static bool is_message_id(const struct pl_value *v)
{
    return v->type == PL_INT_VALUE || (v->type == PL_STRING && v->u.string.len <= 128);
}

static const struct op_row *find_op(struct pl_str name)
{
    for (size_t i = 0; i < COUNT(ops); i++) {
        if (pl_str_eq(name, ops[i].name)) {
            return &ops[i];
        }
    }
    return NULL;
}

static int read_fields(const struct pl_request_context *c, const struct pl_value *v,
                       const struct op_row *op, struct pl_message *ret)
{
    int status;

    if (!ret->id && (op->needs_id || pl_request__member(v, "id"))) {
        return pl_request__fail(c, PL_ERR_INVALID,
                                "id: an integer, or a string of at most 128 bytes");
    }
    status = pl_request__fields(c, v, op->fields, op->field_count, ret);
    if (status == 0 && op->finish) {
        status = op->finish(c, v, ret);
    }
    return status;
}

int pl_parse_message(const struct pl_value *v, struct pl_arena *a,
                     const struct pl_request_limits *lim, struct pl_message *ret,
                     struct pl_request_error *err)
{
    const struct pl_request_context c = {.arena = a, .limits = lim, .err = err};
    const struct pl_value *id = pl_request__member(v, "id");
    const struct pl_value *name = pl_value_get(v, "op");
    const struct op_row *op;

    *ret = (struct pl_message){0};
    if (v->type != PL_MAP) {
        return pl_request__fail(&c, PL_ERR_INVALID, "a message: a map with op");
    }
    /* The id first: whatever else is wrong, the reply shall carry it. */
    ret->id = id && is_message_id(id) ? id : NULL;
    if (!name || name->type != PL_STRING) {
        return pl_request__fail(&c, PL_ERR_INVALID, "op: a string");
    }
    op = find_op(name->u.string);
    if (!op) {
        return pl_request__fail(&c, PL_ERR_UNKNOWN_OP,
                                "op: one of hello, ack, ping, pong, subscribe, unsubscribe, "
                                "publish, refresh");
    }
    ret->op = (enum pl_op)(op - ops);
    return read_fields(&c, v, op, ret);
}
