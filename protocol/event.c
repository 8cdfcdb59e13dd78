#include "protocol/request_priv.h"

#include <string.h>

#include "protocol/status.h"
#include "protocol/timestamp_priv.h"
#include "server/base/alloc.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Who gets an event is between the publisher and the server: clients never see these, nor set them.
 */
static const struct pl_str hidden[] = {
    PL_LIT("subscriber_ids"),
    PL_LIT("exclude_user_id"),
    PL_LIT("exclude_queue_id"),
};

static int read_timestamp(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    struct pl_str s;
    int status = pl_request__read_string(v, a, &s);

    if (status == 0 && pl_timestamp__valid(s)) {
        *(struct pl_str *)ret = s;
        return 0;
    }
    return PL_ERR_INVALID;
}

static int read_traceparent(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    struct pl_str s;
    int status = pl_request__read_string(v, a, &s);

    if (status == 0 && pl_traceparent__valid(s)) {
        *(struct pl_str *)ret = s;
        return 0;
    }
    return PL_ERR_INVALID;
}

static const struct pl_request_field fields[] = {
    {"type", PL_ACCEPTS_NAME, pl_request__read_name, offsetof(struct pl_publish, type), 0, true},
    {"data", PL_ACCEPTS_MAP, pl_request__read_map, offsetof(struct pl_publish, data), 0, true},
    {"exclude_user_id", PL_ACCEPTS_USER_ID, pl_request__read_user_id,
     offsetof(struct pl_publish, exclude_user), 0, false},
    {"exclude_queue_id", PL_ACCEPTS_NAME, pl_request__read_name,
     offsetof(struct pl_publish, exclude_queue), 0, false},
    {"timestamp", "an RFC 3339 time such as 2026-11-20T10:30:00.000Z", read_timestamp,
     offsetof(struct pl_publish, timestamp), 0, false},
    {"traceparent", "a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>", read_traceparent,
     offsetof(struct pl_publish, traceparent), 0, false},
};

/* Members of data that mean something to the server. */
static const struct pl_request_field data_fields[] = {
    {"article_id", PL_ACCEPTS_USER_ID, pl_request__read_user_id, offsetof(struct pl_publish, topic),
     0, false},
};

static int refuse_routing(const struct pl_request_context *c, const struct pl_value *v)
{
    static const char *const tops[] = {"timestamp", "channels"};
    const struct pl_value *data = pl_request__member(v, "data");

    for (size_t i = 0; i < COUNT(tops); i++) {
        if (pl_request__member(v, tops[i])) {
            return pl_request__fail(c, PL_ERR_INVALID, "%s: not for a client to set", tops[i]);
        }
    }
    for (size_t i = 0; i < COUNT(hidden); i++) {
        if (pl_value_get(v, hidden[i].s) || pl_value_get(data, hidden[i].s)) {
            return pl_request__fail(c, PL_ERR_INVALID, "%s: not for a client to set", hidden[i].s);
        }
    }
    return 0;
}

/* A client that names no community means the one of its data. */
static int default_channel(const struct pl_request_context *c, struct pl_publish *p,
                           struct pl_request_list *ret)
{
    const struct pl_value *id = pl_request__member(p->data, "community_id");
    struct pl_request_list list = pl_request__list_new(c->arena, 1);

    if (!id) {
        return pl_request__fail(c, PL_ERR_NO_CHANNEL,
                                "community_ids: an array of integers, or data.community_id");
    }
    if (pl_request__read_community(id, c->arena, list.items) != 0) {
        return pl_request__fail(c, PL_ERR_INVALID, "data.community_id: %s", PL_ACCEPTS_COMMUNITY);
    }
    list.count = 1;
    p->default_community = id->u.integer;
    *ret = list;
    return 0;
}

static int read_channels(const struct pl_request_context *c, const struct pl_value *v,
                         bool from_client, struct pl_publish *p)
{
    struct pl_request_list list = {0};
    int status;

    p->community_ids = pl_request__member(v, "community_ids");
    p->shown_channels = pl_request__member(v, "channels");
    if (from_client && !p->community_ids) {
        status = default_channel(c, p, &list);
    } else {
        status = pl_request__channels(c, v, "community_ids", &list);
    }
    if (status == 0 && list.count == 0) {
        status = pl_request__fail(c, PL_ERR_NO_CHANNEL, "community_ids: at least one, or channels");
    }
    p->channels = list.items;
    p->channel_count = list.count;
    return status;
}

/* null is refused here, not taken for absent: absent means everybody. */
static int read_subscribers(const struct pl_request_context *c, const struct pl_value *v,
                            struct pl_publish *p)
{
    const struct pl_value *ids = pl_value_get(v, "subscriber_ids");
    struct pl_request_list list;
    int status;

    ids = ids ? ids : pl_value_get(p->data, "subscriber_ids");
    if (!ids) {
        return 0;
    }
    if (ids->type != PL_ARRAY) {
        return pl_request__fail(c, PL_ERR_INVALID, "subscriber_ids: an array of user ids");
    }
    if (pl_request__beyond(ids->u.array.count, c->limits->recipients)) {
        return pl_request__fail(c, PL_ERR_TOO_BIG, "subscriber_ids: at most %zu",
                                c->limits->recipients);
    }
    list = pl_request__list_new(c->arena, ids->u.array.count);
    status = pl_request__read_list(c, "subscriber_ids", ids, pl_request__read_user_id,
                                   "integers or strings of 1 to 128 bytes", &list);
    pl_request__list_sort(&list);
    p->has_subscribers = true;
    p->subscribers = list.items;
    p->subscriber_count = list.count;
    return status;
}

int pl_parse_publish(const struct pl_value *v, bool from_client, struct pl_arena *a,
                     const struct pl_request_limits *lim, struct pl_publish *ret,
                     struct pl_request_error *err)
{
    const struct pl_request_context c = {a, lim, err, !from_client};
    struct pl_publish p = {0};
    int status = 0;

    if (v->type != PL_MAP) {
        return pl_request__fail(&c, PL_ERR_INVALID, "an event: a map");
    }
    if (from_client) {
        status = refuse_routing(&c, v);
    }
    if (status == 0) {
        status = pl_request__fields(&c, v, fields, COUNT(fields), &p);
    }
    if (status == 0) {
        status = pl_request__fields(&c, p.data, data_fields, COUNT(data_fields), &p);
    }
    if (status == 0) {
        status = read_channels(&c, v, from_client, &p);
    }
    if (status == 0) {
        status = read_subscribers(&c, v, &p);
    }
    if (status == 0) {
        *ret = p;
    }
    return status;
}

static bool is_hidden(struct pl_str key)
{
    for (size_t i = 0; i < COUNT(hidden); i++) {
        if (pl_str_eq(key, hidden[i])) {
            return true;
        }
    }
    return false;
}

static void write_data(struct pl_writer *w, const struct pl_value *data)
{
    size_t shown = 0;

    for (size_t i = 0; i < data->u.map.count; i++) {
        shown += !is_hidden(data->u.map.members[i].key);
    }
    pl_write_map(w, shown);
    for (size_t i = 0; i < data->u.map.count; i++) {
        const struct pl_member *m = &data->u.map.members[i];

        if (!is_hidden(m->key)) {
            pl_write_key_str(w, m->key);
            pl_write_value(w, &m->value);
        }
    }
}

/* Always an array, so that clients need not ask whether it is there. */
static void write_community_ids(struct pl_writer *w, const struct pl_publish *p)
{
    if (p->community_ids) {
        pl_write_value(w, p->community_ids);
    } else if (p->default_community != 0) {
        pl_write_array(w, 1);
        pl_write_int(w, p->default_community);
    } else {
        pl_write_array(w, 0);
    }
}

void pl_event_write_body(const struct pl_publish *p, const char *now_rfc3339, struct pl_buf *out)
{
    const size_t optional = (p->shown_channels != NULL) + (p->traceparent.len > 0);
    struct pl_writer w;

    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 4 + optional);
    pl_write_key(&w, "type");
    pl_write_str(&w, p->type);
    pl_write_key(&w, "timestamp");
    if (p->timestamp.len > 0) {
        pl_write_str(&w, p->timestamp);
    } else {
        pl_write_cstr(&w, now_rfc3339);
    }
    pl_write_key(&w, "community_ids");
    write_community_ids(&w, p);
    if (p->shown_channels) {
        pl_write_key(&w, "channels");
        pl_write_value(&w, p->shown_channels);
    }
    pl_write_key(&w, "data");
    write_data(&w, p->data);
    if (p->traceparent.len > 0) {
        pl_write_key(&w, "traceparent");
        pl_write_str(&w, p->traceparent);
    }
}

bool pl_is_traceparent(struct pl_str s)
{
    return pl_traceparent__valid(s);
}

/* It is written last, and what else could stand there ends otherwise: data is a map. */
struct pl_str pl_event_traceparent(struct pl_str body)
{
    static const struct pl_str key = PL_LIT(",\"traceparent\":\"");
    const size_t tail = key.len + PL_TRACEPARENT_LEN + 2;
    struct pl_str found;

    if (body.len <= tail || memcmp(body.s + body.len - tail, key.s, key.len) != 0 ||
        memcmp(body.s + body.len - 2, "\"}", 2) != 0) {
        return (struct pl_str){NULL, 0};
    }
    found = (struct pl_str){body.s + body.len - 2 - PL_TRACEPARENT_LEN, PL_TRACEPARENT_LEN};
    return pl_is_traceparent(found) ? found : (struct pl_str){NULL, 0};
}

static void encode_msgpack(int64_t event_id, struct pl_str body, struct pl_buf *out)
{
    struct pl_arena arena = {0};
    const struct pl_value *v;
    struct pl_writer w;
    int status = pl_decode(PL_JSON, body.s, body.len, &arena, &v, NULL);

    PL_ASSERT(status == 0 && v->type == PL_MAP);
    pl_writer_init(&w, PL_MSGPACK, out);
    pl_write_map(&w, 1 + v->u.map.count);
    pl_write_key(&w, "event_id");
    pl_write_int(&w, event_id);
    for (size_t i = 0; i < v->u.map.count; i++) {
        pl_write_key_str(&w, v->u.map.members[i].key);
        pl_write_value(&w, &v->u.map.members[i].value);
    }
    pl_arena_done(&arena);
}

static void encode_json(int64_t event_id, struct pl_str body, struct pl_buf *out)
{
    pl_buf_printf(out, "{\"event_id\":%lld,", (long long)event_id);
    pl_buf_append(out, body.s + 1, body.len - 1);
}

void pl_event_encode(enum pl_codec codec, int64_t event_id, struct pl_str body, struct pl_buf *out)
{
    const struct pl_str head = PL_LIT("{\"type\":");

    PL_ASSERT(event_id > 0 && event_id <= PL_INT_MAX);
    PL_ASSERT(body.len > head.len && memcmp(body.s, head.s, head.len) == 0 &&
              body.s[body.len - 1] == '}');
    if (codec == PL_JSON) {
        encode_json(event_id, body, out);
    } else {
        encode_msgpack(event_id, body, out);
    }
}
