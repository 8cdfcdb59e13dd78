#include <inttypes.h>
#include <string.h>

#include "server/base/clock.h"
#include "server/cli/socket.h"
#include "server/cli/watch_priv.h"

/* How long a poll is held, and how much longer its answer may take on the way. */
enum {
    HOLD_S = 50,
    SLACK_MS = 15000,
    GOODBYE_MS = 2000
};

/* 0: taken. Else *ret says how the link ended. */
static int call(struct pl_watch *w, const char *method, const char *target, uint64_t timeout_ms,
                struct pl_watch_end *ret)
{
    struct pl_cli_request rq = {.method = method, .target = target, .timeout_ms = timeout_ms};
    struct pl_buf lines = {0};
    struct pl_cli_failure failure;
    struct pl_cli_response r;
    bool unused, ok;
    int rc;

    pl_watch__head_lines(w, &lines);
    rq.head_lines = pl_buf_cstr(&lines);
    rc = pl_cli_http(w->url, &rq, &r, &failure);
    pl_buf_done(&lines);
    if (rc != 0) {
        pl_watch__end_by_failure(&failure, ret);
        return -1;
    }
    ok = r.status == 200 && pl_watch__take(w, pl_cli_response_codec(&r), r.body.data, r.body.len,
                                           pl_clock_mono_ms(), &unused);
    if (!ok) {
        pl_watch__end_by_answer(&r, ret);
    }
    pl_cli_response_done(&r);
    return ok ? 0 : -1;
}

static void append_queue(const struct pl_watch *w, struct pl_buf *target)
{
    pl_buf_append_str(target, "?queue_id=");
    pl_url_append_query_value(target, (struct pl_str){w->queue_id, strlen(w->queue_id)});
}

static int poll_once(struct pl_watch *w, struct pl_watch_end *ret)
{
    struct pl_buf target = {0};
    int rc;

    pl_buf_append_str(&target, "/realtime/poll");
    append_queue(w, &target);
    pl_buf_printf(&target, "&last_event_id=%" PRId64 "&timeout=%d",
                  w->position >= 0 ? w->position : 0, HOLD_S);
    rc = call(w, "GET", pl_buf_cstr(&target), HOLD_S * 1000 + SLACK_MS, ret);
    pl_buf_done(&target);
    return rc;
}

void pl_watch__unregister(struct pl_watch *w)
{
    struct pl_watch_end ignored;
    struct pl_buf target = {0};

    pl_buf_append_str(&target, "/realtime/unregister");
    append_queue(w, &target);
    call(w, "POST", pl_buf_cstr(&target), GOODBYE_MS, &ignored);
    pl_buf_done(&target);
}

static bool is_finished(const struct pl_watch *w, struct pl_watch_end *ret)
{
    bool interrupted = pl_socket_interrupted();

    if (!interrupted && !pl_watch__is_complete(w)) {
        return false;
    }
    ret->why = PL_WATCH_DONE;
    snprintf(ret->text, sizeof(ret->text), "%s", interrupted ? "interrupted" : "done");
    return true;
}

void pl_watch__longpoll(struct pl_watch *w, struct pl_watch_end *ret)
{
    int rc = 0;

    if (*w->queue_id) {
        pl_watch__say(w, "polling", "queue %.*s, after event %" PRId64, PL_WATCH_QUEUE_SHOWN,
                      w->queue_id, w->position);
    } else {
        rc = call(w, "POST", "/realtime/register", SLACK_MS, ret);
    }
    while (!is_finished(w, ret) && rc == 0) {
        if ((w->goaway_at_ms && pl_clock_mono_ms() >= w->goaway_at_ms) ||
            w->refused_transport == PL_CLI_LONGPOLL) {
            ret->why = PL_WATCH_AGAIN;
            snprintf(ret->text, sizeof(ret->text), "a new link, as the server asked");
            return;
        }
        rc = poll_once(w, ret);
        w->welcomed = w->welcomed || rc == 0;
    }
}
