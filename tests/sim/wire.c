#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* ---- names ---- */

enum {
    NAME_SIZE = 16
};

static struct pl_str name_of(char text[NAME_SIZE], const char *prefix, int n)
{
    if (text[0] == '\0') {
        snprintf(text, NAME_SIZE, "%s%d", prefix, n);
    }
    return (struct pl_str){text, strlen(text)};
}

struct pl_str sim_user_name(int user)
{
    static char names[SIM_USERS][NAME_SIZE];

    return name_of(names[user], user < SIM_USERS * 3 / 4 ? "" : "anna", 100 + user);
}

struct pl_str sim_channel_name(int channel)
{
    static char names[SIM_CHANNELS][NAME_SIZE];

    return name_of(names[channel], channel < SIM_COMMUNITIES ? "community:" : "room:", 1 + channel);
}

struct pl_str sim_topic_name(uint32_t topic)
{
    static char names[SIM_TOPICS][NAME_SIZE];

    return topic == 0 ? (struct pl_str){"", 0} : name_of(names[topic], "", (int)topic);
}

int sim_user_of(struct pl_str name)
{
    for (int u = 0; u < SIM_USERS; u++) {
        if (pl_str_eq(sim_user_name(u), name)) {
            return u;
        }
    }
    return SIM_NOBODY;
}

int sim_channel_of(struct pl_str name)
{
    for (int c = 0; c < SIM_CHANNELS; c++) {
        if (pl_str_eq(sim_channel_name(c), name)) {
            return c;
        }
    }
    return SIM_NOBODY;
}

/* ---- events ---- */

static void write_body(const struct sim *s, uint32_t serial, struct sim_wire_event *w)
{
    const struct sim_event *e = &s->events[serial];
    size_t at;
    bool first = true;

    at = (size_t)snprintf(w->body, sizeof(w->body),
                          "{\"type\":\"new_comment\",\"timestamp\":\"2026-11-20T10:30:00.000Z\","
                          "\"community_ids\":[");
    for (int c = 0; c < SIM_COMMUNITIES; c++) {
        if ((e->channels >> c & 1) != 0) {
            at += (size_t)snprintf(w->body + at, sizeof(w->body) - at, "%s%d", first ? "" : ",",
                                   1 + c);
            first = false;
        }
    }
    at +=
        (size_t)snprintf(w->body + at, sizeof(w->body) - at,
                         "],\"data\":{\"n\":%u,\"pad\":\"%.*s\"}}", serial, (int)(serial * 7 % 120),
                         "........................................................................"
                         "................................................");
    w->e.body = (struct pl_str){w->body, at};
}

void sim_wire_event(const struct sim *s, uint32_t serial, struct sim_wire_event *ret)
{
    const struct sim_event *e = &s->events[serial];

    memset(&ret->e, 0, sizeof(ret->e));
    write_body(s, serial, ret);
    for (int c = 0; c < SIM_CHANNELS; c++) {
        if ((e->channels >> c & 1) != 0) {
            ret->channels[ret->e.channel_count++] = sim_channel_name(c);
        }
    }
    for (int u = 0; e->has_subscribers && u < SIM_USERS; u++) {
        if ((e->subscribers >> u & 1) != 0) {
            ret->subscribers[ret->e.subscriber_count++] = sim_user_name(u);
        }
    }
    ret->e.channels = ret->channels;
    ret->e.subscribers = ret->subscribers;
    ret->e.has_subscribers = e->has_subscribers;
    ret->e.topic = sim_topic_name(e->topic);
    if (e->exclude_user != SIM_NOBODY) {
        ret->e.exclude_user = sim_user_name(e->exclude_user);
    }
    ret->e.exclude_queue = (struct pl_str){e->exclude_queue, strlen(e->exclude_queue)};
}

uint32_t sim_wire_serial(const struct sim *s, const struct pl_bus_event *e)
{
    struct sim_wire_event *w = pl_alloc(sizeof(*w));
    const char *n = strstr(e->body.s, "\"n\":");
    uint32_t serial = n != NULL ? (uint32_t)strtoul(n + 4, NULL, 10) : UINT32_MAX;

    PL_ASSERT(serial < s->event_count);
    sim_wire_event(s, serial, w);
    PL_ASSERT(pl_str_eq(w->e.body, e->body) && w->e.channel_count == e->channel_count &&
              pl_str_eq(w->e.topic, e->topic) && pl_str_eq(w->e.exclude_user, e->exclude_user) &&
              pl_str_eq(w->e.exclude_queue, e->exclude_queue) &&
              w->e.has_subscribers == e->has_subscribers &&
              w->e.subscriber_count == e->subscriber_count);
    free(w);
    return serial;
}

/* ---- changes ---- */

const struct pl_membership *sim_wire_membership(const struct sim_membership *m)
{
    static struct pl_str channels[SIM_CHANNELS];
    static struct pl_str topics[SIM_CHANNELS][SIM_TOPICS];
    static struct pl_narrowing narrowing[SIM_CHANNELS];
    static struct pl_membership out;

    out = (struct pl_membership){
        .channels = channels, .has_narrowing = m->has_narrowing, .narrowing = narrowing};
    for (int c = 0; c < SIM_CHANNELS; c++) {
        struct pl_narrowing *n = &narrowing[out.narrowing_count];

        if ((m->channels >> c & 1) != 0) {
            channels[out.channel_count++] = sim_channel_name(c);
        }
        if (!m->has_narrowing || (m->narrowed >> c & 1) == 0) {
            continue;
        }
        *n = (struct pl_narrowing){sim_channel_name(c), topics[c], 0};
        for (uint32_t t = 1; t < SIM_TOPICS; t++) {
            if ((m->topics[c] >> t & 1) != 0) {
                n->topics[n->topic_count++] = sim_topic_name(t);
            }
        }
        out.narrowing_count++;
    }
    return &out;
}

struct pl_bus_change sim_wire_change(const struct sim_change *c)
{
    return (struct pl_bus_change){
        .kind = c->kind,
        .user_id = sim_user_name(c->user),
        .membership = c->kind == PL_CHANGE_DISCONNECT ? NULL : sim_wire_membership(&c->membership),
        .has_version = c->version >= 0,
        .version = c->version,
        .unix_ms = c->unix_ms,
        .blocked_until_ms = c->blocked_until_ms,
    };
}

static struct sim_membership from_membership(const struct pl_membership *m)
{
    struct sim_membership out = {.has_narrowing = m->has_narrowing};

    for (size_t i = 0; i < m->channel_count; i++) {
        out.channels |= 1u << sim_channel_of(m->channels[i]);
    }
    for (size_t i = 0; i < m->narrowing_count; i++) {
        int c = sim_channel_of(m->narrowing[i].channel);

        out.narrowed |= 1u << c;
        for (size_t t = 0; t < m->narrowing[i].topic_count; t++) {
            out.topics[c] |= (uint8_t)(1 << atoi(m->narrowing[i].topics[t].s));
        }
    }
    return out;
}

struct sim_change sim_from_change(const struct pl_bus_change *c)
{
    struct sim_change out = {.kind = c->kind,
                             .user = sim_user_of(c->user_id),
                             .version = c->has_version ? c->version : -1,
                             .unix_ms = c->unix_ms,
                             .blocked_until_ms = c->blocked_until_ms};

    PL_ASSERT(out.user != SIM_NOBODY);
    if (c->membership != NULL) {
        out.membership = from_membership(c->membership);
    }
    return out;
}

/* ---- frames ---- */

/* The last frame of each codec: a push is one frame for many links. */
static struct reading {
    struct pl_frame *frame;
    struct pl_arena arena;
    struct sim_message message;
} readings[PL_CODEC_COUNT];

static void forget(struct reading *r)
{
    pl_frame_unref(r->frame);
    pl_arena_done(&r->arena);
    memset(r, 0, sizeof(*r));
}

void sim_wire_done(void)
{
    for (int c = 0; c < PL_CODEC_COUNT; c++) {
        forget(&readings[c]);
    }
}

static int64_t integer_of(struct sim *s, const struct pl_value *map, const char *key)
{
    const struct pl_value *v = pl_value_get(map, key);

    if (v == NULL || v->type != PL_INT_VALUE) {
        sim_broken(s, NULL, "a message without integer %s", key);
    }
    return v->u.integer;
}

static void read_events(struct sim *s, struct reading *r, const struct pl_value *events)
{
    static const char *const secret[] = {"subscriber_ids", "exclude_user_id", "exclude_queue_id"};
    size_t count = events->u.array.count;
    uint32_t *serials = pl_arena_alloc(&r->arena, (count + 1) * sizeof(*serials));
    int64_t *ids = pl_arena_alloc(&r->arena, (count + 1) * sizeof(*ids));

    for (size_t i = 0; i < count; i++) {
        const struct pl_value *e = &events->u.array.items[i];

        ids[i] = integer_of(s, e, "event_id");
        serials[i] = (uint32_t)integer_of(s, pl_value_get(e, "data"), "n");
        if (serials[i] >= s->event_count) {
            sim_broken(s, NULL, "an event nobody published: n=%u", serials[i]);
        }
        for (size_t k = 0; k < sizeof(secret) / sizeof(secret[0]); k++) {
            if (pl_value_get(e, secret[k]) != NULL) {
                sim_broken(s, NULL, "I3: a client was shown %s", secret[k]);
            }
        }
    }
    r->message.batch = (struct sim_batch){serials, ids, count, r->message.last_event_id};
}

static uint32_t read_channels(const struct pl_value *v)
{
    const struct pl_value *communities = pl_value_get(v, "communities");
    const struct pl_value *others = pl_value_get(v, "channels");
    uint32_t set = 0;

    if (communities == NULL && others == NULL) {
        return UINT32_MAX;
    }
    for (size_t i = 0; communities != NULL && i < communities->u.array.count; i++) {
        set |= 1u << (communities->u.array.items[i].u.integer - 1);
    }
    for (size_t i = 0; others != NULL && i < others->u.array.count; i++) {
        set |= 1u << sim_channel_of(others->u.array.items[i].u.string);
    }
    return set;
}

static void read_message(struct sim *s, struct reading *r, const struct pl_value *v)
{
    const struct pl_value *op = pl_value_get(v, "op");
    const struct pl_value *events = pl_value_get(v, "events");

    r->message.goaway = pl_value_get(v, "goaway") != NULL;
    if (pl_value_get(v, "catchup_required") != NULL) {
        r->message.kind = SIM_MESSAGE_CATCHUP;
        r->message.reason = pl_value_get(v, "reason")->u.string;
        r->message.last_event_id = integer_of(s, v, "last_event_id");
        r->message.channels = read_channels(v);
    } else if (events != NULL && events->type == PL_ARRAY) {
        r->message.kind = SIM_MESSAGE_EVENTS;
        r->message.last_event_id = integer_of(s, v, "last_event_id");
        read_events(s, r, events);
    } else if (op != NULL && op->type == PL_STRING && pl_str_eq(op->u.string, PL_LIT("goaway"))) {
        r->message.kind = SIM_MESSAGE_GOAWAY;
    } else if (op != NULL && op->type == PL_STRING && pl_str_eq(op->u.string, PL_LIT("signal"))) {
        r->message.kind = SIM_MESSAGE_SIGNAL;
    } else {
        sim_broken(s, NULL, "a message that is none of the server's");
    }
}

const struct sim_message *sim_wire_read(struct sim *s, struct pl_frame *f)
{
    struct reading *r = &readings[pl_frame_codec(f)];
    struct pl_bytes p = pl_frame_payload(f);
    const struct pl_value *v;
    struct pl_decode_error err;

    if (r->frame == f) {
        return &r->message;
    }
    forget(r);
    if (pl_decode(pl_frame_codec(f), p.data, p.len, &r->arena, &v, &err) != PL_OK) {
        sim_broken(s, NULL, "a frame that cannot be decoded: %s at %zu", err.text, err.offset);
    }
    r->frame = pl_frame_ref(f);
    read_message(s, r, v);
    return &r->message;
}
