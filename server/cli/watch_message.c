#include <inttypes.h>
#include <string.h>

#include "protocol/status.h"
#include "server/cli/watch_priv.h"

static struct pl_str str_member(const struct pl_value *v, const char *key)
{
    const struct pl_value *m = pl_value_get(v, key);

    return m && m->type == PL_STRING ? m->u.string : (struct pl_str){"", 0};
}

bool pl_watch__is_complete(const struct pl_watch *w)
{
    return w->args->count > 0 && w->count >= w->args->count;
}

/* One line of JSON. What was sent again after a lost link is known by its id. */
static void print_event(struct pl_watch *w, const struct pl_value *event)
{
    struct pl_buf line = {0};
    struct pl_writer writer;
    int64_t id;

    if (!pl_value_int(event, "event_id", &id) || id <= w->printed || pl_watch__is_complete(w)) {
        return;
    }
    pl_writer_init(&writer, PL_JSON, &line);
    pl_write_value(&writer, event);
    pl_buf_append_byte(&line, '\n');
    fwrite(line.data, 1, line.len, w->events);
    fflush(w->events);
    pl_buf_done(&line);
    w->printed = id;
    w->count++;
}

static void take_events(struct pl_watch *w, const struct pl_value *v)
{
    const struct pl_value *events = pl_value_get(v, "events");

    for (size_t i = 0; events && events->type == PL_ARRAY && i < events->u.array.count; i++) {
        print_event(w, &events->u.array.items[i]);
    }
}

/* The answer to register says where the bus is, not where this queue goes on: a poll names its
 * position itself. */
static bool is_registration(const struct pl_value *v)
{
    return pl_value_get(v, "queue_id") && !pl_value_get(v, "op");
}

/* Any message may carry the position. It never goes back, but when the server says what was
 * lost. */
static void take_position(struct pl_watch *w, const struct pl_value *v)
{
    const struct pl_value *catchup = pl_value_get(v, "catchup_required");
    struct pl_str reason = str_member(v, "reason");
    int64_t id;

    if (!pl_value_int(v, "last_event_id", &id) || (w->position >= 0 && is_registration(v))) {
        return;
    }
    if (catchup && catchup->type == PL_BOOL && catchup->u.boolean) {
        pl_watch__say(w, "catchup_required", "%.*s: events were missed; going on after %" PRId64,
                      (int)reason.len, reason.s, id);
        w->position = id;
    } else if (id > w->position) {
        w->position = id;
    }
}

static void take_queue(struct pl_watch *w, const struct pl_value *v)
{
    const struct pl_value *resumed = pl_value_get(v, "resumed");
    struct pl_str queue_id = str_member(v, "queue_id");
    int64_t ping_interval_ms;

    if (queue_id.len == 0 || queue_id.len >= sizeof(w->queue_id)) {
        return;
    }
    memcpy(w->queue_id, queue_id.s, queue_id.len);
    w->queue_id[queue_id.len] = '\0';
    if (pl_value_int(v, "ping_interval_ms", &ping_interval_ms) && ping_interval_ms > 0) {
        w->ping_interval_ms = (uint64_t)ping_interval_ms;
    }
    w->welcomed = true;
    pl_watch__say(
        w, "open", "queue %.*s%s, after event %" PRId64, PL_WATCH_QUEUE_SHOWN, w->queue_id,
        resumed && resumed->type == PL_BOOL && resumed->u.boolean ? " resumed" : "", w->position);
}

static void take_transports(struct pl_watch *w, const struct pl_value *v)
{
    const struct pl_value *list = pl_value_get(v, "transports");
    const char *mine = w->transport == PL_CLI_WEBSOCKET ? "websocket" : "longpoll";

    if (!list || list->type != PL_ARRAY) {
        return;
    }
    for (size_t i = 0; i < list->u.array.count; i++) {
        const struct pl_value *item = &list->u.array.items[i];

        if (item->type == PL_STRING &&
            pl_str_eq(item->u.string, (struct pl_str){mine, strlen(mine)})) {
            w->refused_transport = PL_CLI_AUTO;
            return;
        }
    }
    w->refused_transport = w->transport;
}

static void take_goaway(struct pl_watch *w, const struct pl_value *v, uint64_t now_ms)
{
    struct pl_str reason = str_member(v, "reason");
    int64_t after_ms = 0;

    pl_value_int(v, "reconnect_after_ms", &after_ms);
    w->goaway_at_ms = now_ms + (after_ms > 0 ? (uint64_t)after_ms : 0);
    take_transports(w, v);
    pl_watch__say(w, "goaway", "%.*s; a new link in %" PRId64 " ms", (int)reason.len, reason.s,
                  after_ms);
}

static void say_signal(const struct pl_watch *w, const struct pl_value *signal)
{
    struct pl_buf text = {0};
    struct pl_writer writer;

    pl_writer_init(&writer, PL_JSON, &text);
    pl_write_value(&writer, signal);
    pl_watch__say(w, "signal", "%s", pl_buf_cstr(&text));
    pl_buf_done(&text);
}

/* A poll's body carries these as members, a WebSocket as messages of their own. */
static void take_members(struct pl_watch *w, const struct pl_value *v, uint64_t now_ms)
{
    const struct pl_value *signals = pl_value_get(v, "signals"),
                          *goaway = pl_value_get(v, "goaway");

    for (size_t i = 0; signals && signals->type == PL_ARRAY && i < signals->u.array.count; i++) {
        say_signal(w, &signals->u.array.items[i]);
    }
    if (goaway && goaway->type == PL_MAP) {
        take_goaway(w, goaway, now_ms);
    }
}

bool pl_watch__take(struct pl_watch *w, enum pl_codec codec, const void *data, size_t len,
                    uint64_t now_ms, bool *ret_ping)
{
    struct pl_arena arena = {0};
    const struct pl_value *v;
    struct pl_str op;

    *ret_ping = false;
    if (pl_decode(codec, data, len, &arena, &v, NULL) != 0 || v->type != PL_MAP) {
        pl_arena_done(&arena);
        return false;
    }
    op = str_member(v, "op");
    *ret_ping = pl_str_eq(op, PL_LIT("ping"));
    take_events(w, v);
    take_position(w, v);
    take_queue(w, v);
    if (pl_str_eq(op, PL_LIT("goaway"))) {
        take_goaway(w, v, now_ms);
    } else if (pl_str_eq(op, PL_LIT("signal")) || pl_str_eq(op, PL_LIT("reply"))) {
        say_signal(w, v);
    } else {
        take_transports(w, v);
        take_members(w, v, now_ms);
    }
    pl_arena_done(&arena);
    return true;
}
