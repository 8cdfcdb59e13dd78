#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/cli/socket.h"
#include "server/cli/watch_priv.h"

/* WebSockets in a row that opened nothing before long-poll is tried instead. */
enum {
    WEBSOCKET_TRIES = 3,
    STABLE_MS = 10000
};

static const char *transport_name(const struct pl_watch *w)
{
    return w->transport == PL_CLI_WEBSOCKET ? "websocket" : "longpoll";
}

static void say_json(const struct pl_watch *w, const char *state, const char *detail)
{
    struct pl_buf line = {0};
    struct pl_writer writer;

    pl_writer_init(&writer, PL_JSON, &line);
    pl_write_map(&writer, 3);
    pl_write_key(&writer, "state");
    pl_write_cstr(&writer, state);
    pl_write_key(&writer, "transport");
    pl_write_cstr(&writer, transport_name(w));
    pl_write_key(&writer, "detail");
    pl_write_cstr(&writer, detail);
    fprintf(stderr, "%s\n", pl_buf_cstr(&line));
    pl_buf_done(&line);
}

void pl_watch__say(const struct pl_watch *w, const char *state, const char *fmt, ...)
{
    char detail[768];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    if (w->args->json) {
        say_json(w, state, detail);
    } else {
        fprintf(stderr, "parley watch: %s %s: %s\n", transport_name(w), state, detail);
    }
}

void pl_watch__head_lines(const struct pl_watch *w, struct pl_buf *out)
{
    pl_buf_printf(out, "Authorization: Bearer %s\r\nAccept: %s\r\n", w->token,
                  w->codec == PL_JSON ? "application/json" : "application/msgpack");
}

void pl_watch__end_by_answer(const struct pl_cli_response *r, struct pl_watch_end *ret)
{
    struct pl_arena arena = {0};
    int64_t retry_after_ms = pl_cli_response_retry_after_ms(r);
    struct pl_str code;
    const char *what = pl_cli_describe_error(r, &arena, &code);

    *ret = (struct pl_watch_end){.why = PL_WATCH_LOST,
                                 .advice = pl_cli_advice_of_http(r->status, code)};
    /* 410: long-polling has ended on this server. */
    ret->transport_refused = r->status == 410;
    ret->retry_after_ms = retry_after_ms > 0 ? (uint64_t)retry_after_ms : 0;
    snprintf(ret->text, sizeof(ret->text), "%s", what);
    pl_arena_done(&arena);
}

void pl_watch__end_by_failure(const struct pl_cli_failure *f, struct pl_watch_end *ret)
{
    *ret = (struct pl_watch_end){.why = f->result == PL_SOCKET_INTERRUPTED ? PL_WATCH_DONE
                                                                           : PL_WATCH_LOST,
                                 .advice = PL_CLI_BACK_OFF,
                                 .server_away = !f->connected};
    snprintf(ret->text, sizeof(ret->text), "%s", f->text);
}

/* 0: a new token is there. */
static int renew_token(struct pl_watch *w)
{
    char *token;
    int rc;

    if (w->args->token) {
        return PL_CLI_FAILED;
    }
    rc = pl_cli_mint(w->args, &token);
    if (rc == 0) {
        free(w->token);
        w->token = token;
    }
    return rc;
}

/* How often in a row what was tried. A link that opened proves token and transport; that all is
 * well again, only one that lasted. */
struct tries {
    unsigned links, sockets, switches, tokens, bugs;
};

static void forget_tries(struct tries *t, bool welcomed, uint64_t lasted_ms)
{
    if (welcomed) {
        t->sockets = t->switches = t->tokens = 0;
    }
    if (welcomed && lasted_ms >= STABLE_MS) {
        t->links = t->bugs = 0;
    }
}

static void change_transport(struct pl_watch *w, struct tries *t)
{
    w->transport = w->transport == PL_CLI_WEBSOCKET ? PL_CLI_LONGPOLL : PL_CLI_WEBSOCKET;
    w->refused_transport = PL_CLI_AUTO;
    t->sockets = 0;
    t->switches++;
    pl_watch__say(w, "switched", "the other transport is not to be had");
}

/* True: the other one is tried, at once. */
static bool try_other_transport(struct pl_watch *w, const struct pl_watch_end *e, struct tries *t)
{
    bool useless_socket = w->transport == PL_CLI_WEBSOCKET && e->why == PL_WATCH_LOST &&
                          !w->welcomed && !e->server_away;

    t->sockets = useless_socket ? t->sockets + 1 : 0;
    /* Once, until a link has opened: both may be refused. */
    if (w->args->transport != PL_CLI_AUTO || t->switches > 0 ||
        (!e->transport_refused && w->refused_transport != w->transport &&
         t->sockets < WEBSOCKET_TRIES)) {
        return false;
    }
    change_transport(w, t);
    return true;
}

/* Waits as told. False: interrupted. */
static bool wait_for_retry(const struct pl_watch *w, const struct pl_watch_end *e, struct tries *t)
{
    uint64_t random, wait_ms;

    pl_random_bytes(&random, sizeof(random));
    wait_ms = e->retry_after_ms + pl_cli_backoff_ms(t->links++, random);
    pl_watch__say(w, "lost", "%s; again in %.1f s", e->text, (double)wait_ms / 1000);
    return pl_socket_sleep_until(pl_clock_mono_ms() + wait_ms) == 0;
}

/* True: go on. False: *ret_status is how the tool ends. */
static bool follow_advice(struct pl_watch *w, const struct pl_watch_end *e, struct tries *t,
                          int *ret_status)
{
    bool stop = false;

    switch (e->advice) {
    case PL_CLI_BACK_OFF:
        break;
    case PL_CLI_TOKEN:
        stop = t->tokens++ > 0 || renew_token(w) != 0;
        break;
    case PL_CLI_REGISTER:
        *w->queue_id = '\0';
        break;
    case PL_CLI_ONCE:
        stop = t->bugs++ > 0;
        break;
    case PL_CLI_STOP:
        stop = true;
        break;
    }
    if (stop) {
        pl_watch__say(w, "stopped", "%s", e->text);
        *ret_status = PL_CLI_FAILED;
        return false;
    }
    *ret_status = PL_CLI_OK;
    if (e->advice == PL_CLI_TOKEN) {
        pl_watch__say(w, "lost", "%s; again with a new token", e->text);
        return true;
    }
    return wait_for_retry(w, e, t);
}

static int run(struct pl_watch *w)
{
    struct tries t = {0};
    int status = PL_CLI_OK;

    for (bool on = true; on;) {
        struct pl_watch_end e = {.why = PL_WATCH_DONE};
        uint64_t began_ms = pl_clock_mono_ms();

        w->welcomed = false;
        w->goaway_at_ms = 0;
        if (w->transport == PL_CLI_WEBSOCKET) {
            pl_watch__websocket(w, &e);
        } else {
            pl_watch__longpoll(w, &e);
        }
        forget_tries(&t, w->welcomed, pl_clock_mono_ms() - began_ms);
        if (e.why == PL_WATCH_DONE) {
            pl_watch__say(w, "ended", "%s, %" PRId64 " events", e.text, w->count);
            break;
        }
        if (!try_other_transport(w, &e, &t) && e.why == PL_WATCH_LOST) {
            on = follow_advice(w, &e, &t, &status);
        }
    }
    pl_socket_clear_interrupt();
    if (*w->queue_id && status == PL_CLI_OK) {
        pl_watch__unregister(w);
    }
    return status;
}

static int get_token(struct pl_watch *w)
{
    if (w->args->token) {
        for (const char *c = w->args->token; *c; c++) {
            if (*c <= ' ' || *c > '~') {
                return pl_cli_fail(w->args, PL_CLI_USAGE,
                                   "--token: a token has no blanks and no line ends");
            }
        }
        w->token = pl_strdup(w->args->token);
        return 0;
    }
    if (!w->args->user) {
        return pl_cli_fail(w->args, PL_CLI_USAGE,
                           "--user with --communities, or --token is missing: who watches");
    }
    return pl_cli_mint(w->args, &w->token);
}

int pl_cli_watch(const struct pl_cli_args *args)
{
    struct pl_url url;
    struct pl_watch w = {
        .args = args,
        .url = &url,
        .events = stdout,
        .transport = args->transport == PL_CLI_LONGPOLL ? PL_CLI_LONGPOLL : PL_CLI_WEBSOCKET,
        .codec = (enum pl_codec)args->codec,
        .position = args->since,
        .printed = args->since,
        .ping_interval_ms = 25000,
    };
    int rc = pl_cli_server_url(args, &url);

    if (rc == 0) {
        rc = get_token(&w);
    }
    if (rc == 0) {
        pl_socket_catch_signals();
        rc = run(&w);
    }
    free(w.token);
    return rc;
}
