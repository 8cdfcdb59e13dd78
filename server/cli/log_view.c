#include "server/cli/log_view.h"

#include <inttypes.h>
#include <string.h>

#include "server/base/clock.h"
#include "server/bus/redis_wire.h"
#include "server/cli/text.h"

struct entry {
    int64_t id;
    int64_t prev; /* in this channel */
    struct pl_str tag, form, payload;
    char time[PL_RFC3339_SIZE];
};

/* ---- reading ---- */

static struct pl_str field(const struct pl_value *fields, const char *name)
{
    const struct pl_value *items = fields->u.array.items;

    for (size_t i = 0; i + 1 < fields->u.array.count; i += 2) {
        if (items[i].type == PL_STRING && items[i + 1].type == PL_STRING &&
            pl_str_eq(items[i].u.string, (struct pl_str){name, strlen(name)})) {
            return items[i + 1].u.string;
        }
    }
    return (struct pl_str){"", 0};
}

/* "<event id>-0" */
static bool read_id(const struct pl_value *v, int64_t *ret)
{
    static const struct pl_str end = PL_LIT("-0");

    return v->type == PL_STRING && v->u.string.len > end.len &&
           memcmp(v->u.string.s + v->u.string.len - end.len, end.s, end.len) == 0 &&
           pl_parse_cursor((struct pl_str){v->u.string.s, v->u.string.len - end.len}, ret);
}

static bool read_entry(const struct pl_value *v, struct pl_arena *a, struct entry *ret)
{
    const struct pl_value *items = v->u.array.items;

    *ret = (struct entry){.id = 0};
    if (v->type != PL_ARRAY || v->u.array.count != 2 || items[1].type != PL_ARRAY ||
        !read_id(&items[0], &ret->id)) {
        return false;
    }
    (void)pl_parse_cursor(field(&items[1], "p"), &ret->prev);
    ret->tag = pl_cli_printable(field(&items[1], "g"), a);
    ret->form = pl_cli_printable(field(&items[1], "f"), a);
    ret->payload = field(&items[1], "d");
    pl_format_rfc3339(ret->id / 1024, ret->time);
    return true;
}

/* The event and its body decoded, since who wrote the entry may have written anything. */
static bool read_event(const struct entry *e, struct pl_arena *a, struct pl_bus_event *ret,
                       const struct pl_value **ret_body)
{
    static const struct pl_request_limits none;

    return e->form.len == 1 && (*e->form.s == PL_REDIS_EVENT || *e->form.s == PL_REDIS_JSON) &&
           pl_redis_decode_event((enum pl_redis_form) * e->form.s, e->payload, &none, a, ret) ==
               0 &&
           pl_decode(PL_JSON, ret->body.s, ret->body.len, a, ret_body, NULL) == 0;
}

static bool read_change(const struct entry *e, struct pl_arena *a, struct pl_bus_change *ret)
{
    return e->form.len == 1 && *e->form.s == PL_REDIS_CHANGE &&
           pl_redis_decode_change(e->payload, a, ret) == 0;
}

static const char *kind_name(enum pl_change_kind kind)
{
    switch (kind) {
    case PL_CHANGE_REGISTER:
        return "register";
    case PL_CHANGE_UPDATE:
        return "update";
    case PL_CHANGE_DISCONNECT:
        return "disconnect";
    }
    return "change";
}

/* ---- for people ---- */

static void append(struct pl_buf *out, struct pl_str s)
{
    pl_buf_append(out, s.s, s.len);
}

static void event_line(const struct pl_bus_event *e, const struct pl_value *body,
                       struct pl_arena *a, struct pl_buf *out)
{
    struct pl_writer w;

    if (e->has_subscribers) {
        pl_buf_printf(out, "only %zu users  ", e->subscriber_count);
    }
    if (e->exclude_user.len > 0) {
        pl_buf_append_str(out, "not user ");
        append(out, pl_cli_printable(e->exclude_user, a));
        pl_buf_append_str(out, "  ");
    }
    if (e->exclude_queue.len > 0) {
        pl_buf_append_str(out, "not queue ");
        append(out, pl_cli_printable(e->exclude_queue, a));
        pl_buf_append_str(out, "  ");
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_value(&w, body);
}

static const struct pl_narrowing *narrowing_of(const struct pl_membership *m, struct pl_str channel)
{
    for (size_t i = 0; m->has_narrowing && i < m->narrowing_count; i++) {
        if (pl_str_eq(m->narrowing[i].channel, channel)) {
            return &m->narrowing[i];
        }
    }
    return NULL;
}

/* "community:42, room:7 [789, 790]" */
static void membership_line(const struct pl_membership *m, struct pl_arena *a, struct pl_buf *out)
{
    for (size_t i = 0; i < m->channel_count; i++) {
        const struct pl_narrowing *n = narrowing_of(m, m->channels[i]);

        pl_buf_append_str(out, i > 0 ? ", " : "");
        append(out, pl_cli_printable(m->channels[i], a));
        for (size_t t = 0; n && t < n->topic_count; t++) {
            pl_buf_append_str(out, t > 0 ? ", " : " [");
            append(out, pl_cli_printable(n->topics[t], a));
        }
        pl_buf_append_str(out, !n ? "" : n->topic_count > 0 ? "]" : " []");
    }
    pl_buf_append_str(out, m->channel_count > 0 ? "" : "nothing");
}

static void change_line(const struct pl_bus_change *c, struct pl_arena *a, struct pl_buf *out)
{
    char time[PL_RFC3339_SIZE];

    pl_buf_printf(out, "%s user ", kind_name(c->kind));
    append(out, pl_cli_printable(c->user_id, a));
    if (c->membership) {
        pl_buf_append_str(out, ": ");
        membership_line(c->membership, a, out);
    }
    if (c->has_version) {
        pl_buf_printf(out, "  version %" PRId64, c->version);
    }
    if (c->blocked_until_ms > 0) {
        pl_format_rfc3339(c->blocked_until_ms, time);
        pl_buf_printf(out, "  blocked until %s", time);
    }
}

static void line(const struct entry *e, struct pl_arena *a, struct pl_buf *out)
{
    const struct pl_value *body;
    struct pl_bus_event event;
    struct pl_bus_change change;

    pl_buf_printf(out, "%" PRId64 "  %s  ", e->id, e->time);
    append(out, e->tag);
    pl_buf_append_str(out, "  ");
    if (read_event(e, a, &event, &body)) {
        event_line(&event, body, a, out);
    } else if (read_change(e, a, &change)) {
        change_line(&change, a, out);
    } else {
        pl_buf_append_str(out, "(not understood: form \"");
        append(out, e->form);
        pl_buf_printf(out, "\", %zu bytes)", e->payload.len);
    }
    pl_buf_append_byte(out, '\n');
}

/* ---- JSON ---- */

enum {
    HEAD_MEMBERS = 5
};

static void write_text(struct pl_writer *w, const char *key, struct pl_str s, struct pl_arena *a)
{
    pl_write_key(w, key);
    pl_write_str(w, pl_cli_printable(s, a));
}

static void write_texts(struct pl_writer *w, const char *key, const struct pl_str *s, size_t count,
                        struct pl_arena *a)
{
    pl_write_key(w, key);
    pl_write_array(w, count);
    for (size_t i = 0; i < count; i++) {
        pl_write_str(w, pl_cli_printable(s[i], a));
    }
}

static void write_head(struct pl_writer *w, const struct entry *e, size_t members,
                       struct pl_arena *a)
{
    pl_write_map(w, HEAD_MEMBERS + members);
    pl_write_key(w, "id");
    pl_write_int(w, e->id);
    pl_write_key(w, "time");
    pl_write_cstr(w, e->time);
    pl_write_key(w, "previous");
    pl_write_int(w, e->prev);
    write_text(w, "tag", e->tag, a);
    write_text(w, "form", e->form, a);
}

static void write_event(struct pl_writer *w, const struct entry *entry,
                        const struct pl_bus_event *e, const struct pl_value *body,
                        struct pl_arena *a)
{
    write_head(w, entry,
               2 + (size_t)(e->topic.len > 0) + (e->exclude_user.len > 0) +
                   (e->exclude_queue.len > 0) + e->has_subscribers,
               a);
    write_texts(w, "log_channels", e->channels, e->channel_count, a);
    if (e->topic.len > 0) {
        write_text(w, "topic", e->topic, a);
    }
    if (e->exclude_user.len > 0) {
        write_text(w, "exclude_user_id", e->exclude_user, a);
    }
    if (e->exclude_queue.len > 0) {
        write_text(w, "exclude_queue_id", e->exclude_queue, a);
    }
    if (e->has_subscribers) {
        write_texts(w, "subscriber_ids", e->subscribers, e->subscriber_count, a);
    }
    pl_write_key(w, "event");
    pl_write_value(w, body);
}

static void write_narrowing(struct pl_writer *w, const struct pl_membership *m, struct pl_arena *a)
{
    pl_write_key(w, "subscriptions");
    pl_write_array(w, m->narrowing_count);
    for (size_t i = 0; i < m->narrowing_count; i++) {
        pl_write_map(w, 2);
        write_text(w, "channel", m->narrowing[i].channel, a);
        write_texts(w, "topics", m->narrowing[i].topics, m->narrowing[i].topic_count, a);
    }
}

static void write_change(struct pl_writer *w, const struct entry *entry,
                         const struct pl_bus_change *c, struct pl_arena *a)
{
    const struct pl_membership *m = c->membership;

    write_head(w, entry,
               2 + (size_t)(m != NULL) + (m && m->has_narrowing) + c->has_version +
                   (c->blocked_until_ms > 0),
               a);
    pl_write_key(w, "change");
    pl_write_cstr(w, kind_name(c->kind));
    write_text(w, "user_id", c->user_id, a);
    if (m) {
        write_texts(w, "channels", m->channels, m->channel_count, a);
    }
    if (m && m->has_narrowing) {
        write_narrowing(w, m, a);
    }
    if (c->has_version) {
        pl_write_key(w, "version");
        pl_write_int(w, c->version);
    }
    if (c->blocked_until_ms > 0) {
        pl_write_key(w, "blocked_until");
        pl_write_int(w, c->blocked_until_ms);
    }
}

static void json_line(const struct entry *e, struct pl_arena *a, struct pl_buf *out)
{
    const struct pl_value *body;
    struct pl_bus_event event;
    struct pl_bus_change change;
    struct pl_writer w;

    pl_writer_init(&w, PL_JSON, out);
    if (read_event(e, a, &event, &body)) {
        write_event(&w, e, &event, body, a);
    } else if (read_change(e, a, &change)) {
        write_change(&w, e, &change, a);
    } else {
        write_head(&w, e, 1, a);
        pl_write_key(&w, "not_understood");
        pl_write_bool(&w, true);
    }
    pl_buf_append_byte(out, '\n');
}

void pl_cli_log_render(const struct pl_value *entries, bool newest_first, bool json,
                       struct pl_buf *out)
{
    size_t count = entries->type == PL_ARRAY ? entries->u.array.count : 0;

    for (size_t i = 0; i < count; i++) {
        const struct pl_value *v = &entries->u.array.items[newest_first ? count - 1 - i : i];
        struct pl_arena arena = {0};
        struct entry e;

        if (!read_entry(v, &arena, &e)) {
            pl_buf_append_str(out, json ? "{\"not_understood\":true}\n"
                                        : "(not understood: no entry of a log)\n");
        } else if (json) {
            json_line(&e, &arena, out);
        } else {
            line(&e, &arena, out);
        }
        pl_arena_done(&arena);
    }
}
