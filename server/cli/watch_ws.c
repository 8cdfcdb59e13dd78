#include <inttypes.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/cli/socket.h"
#include "server/cli/watch_priv.h"
#include "server/cli/ws_client.h"

/* Close codes: only 1000 ends the queue too. */
enum {
    CLOSE_QUEUE = 1000,
    CLOSE_LINK = 1001,
    GOODBYE_MS = 2000
};
static const uint64_t open_timeout_ms = 15000;

static void write_target(const struct pl_watch *w, struct pl_buf *out)
{
    char separator = '?';

    pl_buf_append_str(out, "/realtime/ws");
    if (*w->queue_id) {
        pl_buf_append_str(out, "?queue_id=");
        pl_url_append_query_value(out, (struct pl_str){w->queue_id, strlen(w->queue_id)});
        separator = '&';
    }
    if (w->position >= 0) {
        pl_buf_printf(out, "%clast_event_id=%" PRId64, separator, w->position);
    }
}

/* True: open. Else *ret says why not. */
static bool open_socket(struct pl_watch *w, struct pl_cli_ws *ws, struct pl_watch_end *ret)
{
    struct pl_buf target = {0}, lines = {0};
    struct pl_cli_ws_request rq = {.timeout_ms = open_timeout_ms,
                                   .subprotocol = w->codec == PL_JSON ? "parley.v1.json"
                                                                      : "parley.v1.msgpack"};
    struct pl_cli_failure failure;
    struct pl_cli_response refusal;
    int rc;

    write_target(w, &target);
    pl_watch__head_lines(w, &lines);
    rq.target = pl_buf_cstr(&target);
    rq.head_lines = pl_buf_cstr(&lines);
    rc = pl_cli_ws_open(w->url, &rq, ws, &refusal, &failure);
    pl_buf_done(&target);
    pl_buf_done(&lines);
    if (rc == 1) {
        pl_watch__end_by_answer(&refusal, ret);
        /* Whoever answers a handshake with a 4xx, the server or a proxy before it, refuses the
         * transport, not us. */
        ret->transport_refused = refusal.status >= 400 && refusal.status < 500 &&
                                 refusal.status != 401 && refusal.status != 429;
        pl_cli_response_done(&refusal);
    } else if (rc < 0) {
        pl_watch__end_by_failure(&failure, ret);
    }
    return rc == 0;
}

static void send_pong(const struct pl_watch *w, struct pl_cli_ws *ws)
{
    struct pl_buf out = {0};
    struct pl_writer writer;

    pl_writer_init(&writer, w->codec, &out);
    pl_write_map(&writer, 1);
    pl_write_key(&writer, "op");
    pl_write_cstr(&writer, "pong");
    pl_cli_ws_send(ws, w->codec == PL_JSON ? PL_CLI_WS_TEXT : PL_CLI_WS_BINARY, out.data, out.len);
    pl_buf_done(&out);
}

static void end(struct pl_watch_end *ret, int why, enum pl_cli_advice advice, const char *text)
{
    ret->why = why;
    ret->advice = advice;
    snprintf(ret->text, sizeof(ret->text), "%s", text);
}

static void end_by_close(const struct pl_cli_ws_event *e, struct pl_watch_end *ret)
{
    ret->why = PL_WATCH_LOST;
    ret->advice = pl_cli_advice_of_close(e->code, e->reason, &ret->retry_after_ms);
    snprintf(ret->text, sizeof(ret->text), "closed %d %s", e->code, e->reason);
}

/* Twice the interval without a byte: the server would have sent a ping. Until welcome says the
 * interval, the time to open counts. */
static uint64_t silence_ends_ms(const struct pl_watch *w, uint64_t heard_ms)
{
    return heard_ms + (w->welcomed ? 2 * w->ping_interval_ms : open_timeout_ms);
}

/* True: the link has ended. */
static bool deadline_passed(const struct pl_watch *w, struct pl_cli_ws *ws, uint64_t heard_ms,
                            struct pl_watch_end *ret)
{
    uint64_t now_ms = pl_clock_mono_ms();

    if (w->goaway_at_ms && now_ms >= w->goaway_at_ms) {
        pl_cli_ws_close(ws, CLOSE_LINK, GOODBYE_MS);
        end(ret, PL_WATCH_AGAIN, PL_CLI_BACK_OFF, "a new link, as the server asked");
        return true;
    }
    if (now_ms >= silence_ends_ms(w, heard_ms)) {
        pl_cli_ws_close(ws, CLOSE_LINK, 0);
        end(ret, PL_WATCH_LOST, PL_CLI_BACK_OFF, "nothing was received for too long");
        return true;
    }
    return false;
}

static void end_queue(struct pl_watch *w, struct pl_cli_ws *ws)
{
    pl_cli_ws_close(ws, CLOSE_QUEUE, GOODBYE_MS);
    *w->queue_id = '\0';
}

/* True: the link has ended. */
static bool take_message(struct pl_watch *w, struct pl_cli_ws *ws, const struct pl_cli_ws_event *e,
                         struct pl_watch_end *ret)
{
    bool ping;

    if (e->text != (w->codec == PL_JSON) ||
        !pl_watch__take(w, w->codec, e->data.s, e->data.len, pl_clock_mono_ms(), &ping)) {
        pl_cli_ws_close(ws, CLOSE_LINK, GOODBYE_MS);
        end(ret, PL_WATCH_LOST, PL_CLI_ONCE, "the server sent what is not a message");
        return true;
    }
    if (ping) {
        send_pong(w, ws);
    }
    if (pl_watch__is_complete(w)) {
        end_queue(w, ws);
        end(ret, PL_WATCH_DONE, PL_CLI_STOP, "done");
        return true;
    }
    return false;
}

static void serve(struct pl_watch *w, struct pl_cli_ws *ws, struct pl_watch_end *ret)
{
    uint64_t heard_ms = pl_clock_mono_ms();

    for (bool ended = false; !ended;) {
        uint64_t deadline_ms = silence_ends_ms(w, heard_ms);
        struct pl_cli_ws_event e;

        if (w->goaway_at_ms && w->goaway_at_ms < deadline_ms) {
            deadline_ms = w->goaway_at_ms;
        }
        pl_cli_ws_next(ws, deadline_ms, &e);
        switch (e.type) {
        case PL_CLI_WS_GOT_MESSAGE:
            heard_ms = pl_clock_mono_ms();
            ended = take_message(w, ws, &e, ret);
            break;
        case PL_CLI_WS_GOT_CONTROL:
            heard_ms = pl_clock_mono_ms();
            break;
        case PL_CLI_WS_GOT_CLOSE:
            end_by_close(&e, ret);
            return;
        case PL_CLI_WS_GOT_SIGNAL:
            pl_socket_clear_interrupt();
            end_queue(w, ws);
            end(ret, PL_WATCH_DONE, PL_CLI_STOP, "interrupted");
            return;
        case PL_CLI_WS_GOT_NOTHING:
            break;
        }
        ended = ended || deadline_passed(w, ws, heard_ms, ret);
    }
}

void pl_watch__websocket(struct pl_watch *w, struct pl_watch_end *ret)
{
    struct pl_cli_ws ws;

    if (open_socket(w, &ws, ret)) {
        serve(w, &ws, ret);
        pl_cli_ws_done(&ws);
    }
}
