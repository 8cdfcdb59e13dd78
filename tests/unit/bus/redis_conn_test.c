#define _GNU_SOURCE /* RTLD_NEXT */
#include "server/bus/redis_conn.h"

#include <dlfcn.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/log.h"
#include "tests/unit/bus/redis_server.h"

enum {
    SOON_MS = 5000, /* for what should take milliseconds, on a busy machine */
};

/* A peer in the same loop that is not Redis. */
struct peer {
    uv_tcp_t listener;
    bool open;
    int port;
    int accepted;
    const char *says[3]; /* after the first, second, … thing it reads; NULL: nothing more */
    size_t lens[3];
    const char *second; /* what the second connection is told instead of says[0] */
    int close_after;    /* reads; 0: at once, negative: never */
};

struct peer_conn {
    uv_tcp_t tcp;
    struct peer *peer;
    int number, reads;
    char in[4096];
};

struct fix {
    struct rs_loop loop;
    struct rs_server server, replica, sentinel;
    struct peer peer;
    struct pl_redis_url url;
    struct pl_redis_conn_options o;
    struct pl_redis_conn *c;

    int ups, downs;
    char reason[200];
    int asked, answered, lost, wrong;
    int64_t expected; /* the next INCR's reply */
    size_t outstanding_at_up;
    int messages, confirmed, max_message;
    int subscribe; /* channels, in `up` */
    bool free_in_answer, reset_in_answer, reset_in_up;
    int64_t value_len;
    char text[200]; /* of the last status, string or error */
    struct peer_conn *conns[4096];
    int conn_count;
};

/* ---- the peer ---- */

static void on_peer_conn_closed(uv_handle_t *h)
{
    free(h->data);
}

static void close_peer_conn(struct peer_conn *pc)
{
    if (!uv_is_closing((uv_handle_t *)&pc->tcp)) {
        uv_close((uv_handle_t *)&pc->tcp, on_peer_conn_closed);
    }
}

static void on_peer_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
    struct peer_conn *pc = h->data;

    (void)n;
    *buf = uv_buf_init(pc->in, sizeof(pc->in));
}

static void on_peer_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct peer_conn *pc = s->data;
    struct peer *p = pc->peer;
    int i = pc->reads;
    const char *says = i < 3 ? p->says[i] : NULL;
    size_t len = i < 3 ? p->lens[i] : 0;

    (void)buf;
    if (n < 0) {
        (void)uv_read_stop(s); /* closed with the fixture: it may stand in its list */
        return;
    }
    if (i == 0 && pc->number == 2 && p->second != NULL) {
        says = p->second;
        len = strlen(says);
    }
    if (says != NULL) {
        uv_buf_t out = uv_buf_init((char *)(uintptr_t)says, (unsigned)len);

        assert_true(len == 0 || uv_try_write(s, &out, 1) == (int)len);
    }
    pc->reads++;
    if (pc->reads == p->close_after) {
        /* Half-closed: what was written arrives, then the end. */
        uv_os_fd_t fd;

        assert_int_equal(uv_fileno((uv_handle_t *)s, &fd), 0);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
    }
}

static void on_peer_accept(uv_stream_t *s, int status)
{
    struct fix *f = s->data;
    struct peer_conn *pc = calloc(1, sizeof(*pc));

    assert_int_equal(status, 0);
    assert_true(f->conn_count < 4096);
    f->conns[f->conn_count++] = pc;
    pc->peer = &f->peer;
    pc->tcp.data = pc;
    assert_int_equal(uv_tcp_init(&f->loop.uv, &pc->tcp), 0);
    assert_int_equal(uv_accept(s, (uv_stream_t *)&pc->tcp), 0);
    pc->number = ++f->peer.accepted;
    if (f->peer.close_after == 0) {
        close_peer_conn(pc);
        f->conn_count--;
        return;
    }
    assert_int_equal(uv_read_start((uv_stream_t *)&pc->tcp, on_peer_alloc, on_peer_read), 0);
}

static void peer_start(struct fix *f)
{
    struct sockaddr_storage a;
    int len = sizeof(a);

    f->peer.port = rs_free_port();
    f->peer.open = true;
    f->peer.listener.data = f;
    assert_int_equal(uv_ip4_addr("127.0.0.1", f->peer.port, (struct sockaddr_in *)&a), 0);
    assert_int_equal(uv_tcp_init(&f->loop.uv, &f->peer.listener), 0);
    assert_int_equal(uv_tcp_bind(&f->peer.listener, (struct sockaddr *)&a, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&f->peer.listener, 64, on_peer_accept), 0);
    assert_int_equal(uv_tcp_getsockname(&f->peer.listener, (struct sockaddr *)&a, &len), 0);
}

static void peer_says(struct fix *f, int i, const char *bytes, size_t len)
{
    f->peer.says[i] = bytes;
    f->peer.lens[i] = len;
}

/* ---- a connection that is watched ---- */

static void subscribe(struct fix *f, const char *verb, int from, int count)
{
    struct pl_redis_args a = {0};

    pl_redis_arg_cstr(&a, verb);
    for (int i = from; i < from + count; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "ch%d", i);
        pl_redis_arg_cstr(&a, name);
    }
    assert_true(pl_redis_call(f->c, &a, NULL, NULL));
    pl_redis_args_done(&a);
}

static void on_up(void *arg)
{
    struct fix *f = arg;

    f->ups++;
    assert_int_equal(pl_redis_conn_state(f->c), PL_REDIS_UP);
    assert_string_equal(pl_redis_conn_error(f->c), "");
    f->outstanding_at_up = pl_redis_conn_outstanding(f->c);
    if (f->subscribe > 0) {
        subscribe(f, "SUBSCRIBE", 0, f->subscribe);
    }
    if (f->reset_in_up) {
        pl_redis_conn_reset(f->c, "a test");
    }
}

static void on_down(void *arg, const char *reason)
{
    struct fix *f = arg;

    f->downs++;
    assert_int_equal(f->answered + f->lost, f->asked); /* NULL comes before */
    (void)snprintf(f->reason, sizeof(f->reason), "%s", reason);
    assert_int_not_equal(pl_redis_conn_state(f->c), PL_REDIS_UP);
}

static void on_push(void *arg, const redisReply *r)
{
    struct fix *f = arg;
    const char *kind = r->element[0]->str;

    if (strcmp(kind, "message") == 0) {
        int n = atoi(r->element[2]->str);

        f->messages++;
        if (n <= f->max_message) {
            f->wrong++;
        }
        f->max_message = n;
    } else {
        f->confirmed++;
    }
}

static void start(struct fix *f, const char *format, int port)
{
    char text[200], err[200];

    (void)snprintf(text, sizeof(text), "%s", format);
    if (strstr(text, "PORT") != NULL) {
        const char *at = strstr(format, "PORT");

        (void)snprintf(text, sizeof(text), "%.*s%d%s", (int)(at - format), format, port, at + 4);
    }
    if (pl_redis_url_parse(text, &f->url, err, sizeof(err)) != PL_OK) {
        fail_msg("%s", err);
    }
    f->c = pl_redis_conn_new(&f->o);
}

static bool is_up(void *arg)
{
    struct fix *f = arg;

    return f->ups > 0 && pl_redis_conn_state(f->c) == PL_REDIS_UP;
}

static bool went_down(void *arg)
{
    return ((struct fix *)arg)->downs > 0;
}

static bool all_done(void *arg)
{
    struct fix *f = arg;

    return f->answered + f->lost == f->asked;
}

static bool has_error(void *arg)
{
    return pl_redis_conn_error(((struct fix *)arg)->c)[0] != '\0';
}

static bool was_refused(void *arg)
{
    return strcmp(pl_redis_conn_error(((struct fix *)arg)->c), "connection refused") == 0;
}

static bool timed_out(void *arg)
{
    return strstr(pl_redis_conn_error(((struct fix *)arg)->c), "timed out") != NULL;
}

static void until(struct fix *f, bool (*cond)(void *), int ms)
{
    if (!rs_run_until(&f->loop, cond, f, ms)) {
        fail_msg(
            "not within %d ms; up %d, down %d (%s), asked %d, answered %d, lost %d, error \"%s\"",
            ms, f->ups, f->downs, f->reason, f->asked, f->answered, f->lost,
            f->c != NULL ? pl_redis_conn_error(f->c) : "");
    }
}

static void serve(struct fix *f, const char *const *args)
{
    rs_start(&f->server, args);
    start(f, "redis://127.0.0.1:PORT", f->server.port);
    until(f, is_up, SOON_MS);
}

static void on_answer(void *arg, const redisReply *r)
{
    struct fix *f = arg;

    if (r == NULL) {
        f->lost++;
        assert_false(f->c != NULL && pl_redis_conn_state(f->c) == PL_REDIS_UP);
        return;
    }
    f->answered++;
    if (r->type == REDIS_REPLY_INTEGER && r->integer != f->expected++) {
        f->wrong++;
    }
    if (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
        r->type == REDIS_REPLY_ERROR) {
        f->value_len = (int64_t)r->len;
        (void)snprintf(f->text, sizeof(f->text), "%s", r->str);
    }
    if (f->free_in_answer) {
        struct pl_redis_conn *c = f->c;

        f->c = NULL;
        pl_redis_conn_free(c);
    } else if (f->reset_in_answer) {
        f->reset_in_answer = false;
        pl_redis_conn_reset(f->c, "a test");
    }
}

static bool ask(struct fix *f, const char *first, const char *second, const char *third)
{
    struct pl_redis_args a = {0};
    bool sent;

    pl_redis_arg_cstr(&a, first);
    if (second != NULL) {
        pl_redis_arg_cstr(&a, second);
    }
    if (third != NULL) {
        pl_redis_arg_cstr(&a, third);
    }
    sent = pl_redis_call(f->c, &a, on_answer, f);
    f->asked += sent;
    pl_redis_args_done(&a);
    return sent;
}

static int set_up(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));

    rs_loop_init(&f->loop);
    f->expected = 1;
    f->max_message = -1;
    f->peer.close_after = -1;
    f->o = (struct pl_redis_conn_options){.url = &f->url,
                                          .loop = &f->loop.uv,
                                          .wheel = &f->loop.wheel,
                                          .now_ms = rs_now_ms,
                                          .arg = f,
                                          .label = "commands",
                                          .connect_timeout_ms = 2000,
                                          .command_timeout_ms = 2000,
                                          .backoff_ms = 20,
                                          .backoff_max_ms = 200,
                                          .up = on_up,
                                          .down = on_down};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fix *f = *state;

    rs_stop(&f->server);
    rs_stop(&f->replica);
    rs_stop(&f->sentinel);
    pl_redis_conn_free(f->c);
    for (int i = 0; i < f->conn_count; i++) {
        close_peer_conn(f->conns[i]);
    }
    if (f->peer.open) {
        uv_close((uv_handle_t *)&f->peer.listener, NULL);
    }
    rs_loop_done(&f->loop);
    free(f);
    return 0;
}

/* ---- commands ---- */

static void ten_thousand_commands_are_answered_in_order(void **state)
{
    struct fix *f = *state;

    serve(f, NULL);
    assert_int_equal(f->outstanding_at_up, 0);
    for (int i = 0; i < 10000; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    assert_int_equal(pl_redis_conn_outstanding(f->c), 10000);
    assert_int_equal(f->answered, 0);
    until(f, all_done, SOON_MS);
    assert_int_equal(f->answered, 10000);
    assert_int_equal(f->wrong, 0);
    assert_int_equal(pl_redis_conn_outstanding(f->c), 0);
    assert_int_equal(f->downs, 0);
}

static int64_t system_calls(struct fix *f, const char *field)
{
    redisReply *r = rs_command(&f->server, "INFO stats");
    const char *at = strstr(r->str, field);
    int64_t n = at != NULL ? strtoll(at + strlen(field) + 1, NULL, 10) : -1;

    freeReplyObject(r);
    return n;
}

static void commands_of_one_turn_leave_together(void **state)
{
    struct fix *f = *state;
    int64_t reads;

    serve(f, NULL);
    reads = system_calls(f, "total_reads_processed");
    for (int i = 0; i < 100; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    until(f, all_done, SOON_MS);
    /* The first at once, the others in one piece; two reads are the two INFOs'. */
    assert_in_range(system_calls(f, "total_reads_processed") - reads, 1, 6);
}

static void big_values_pass_both_ways(void **state)
{
    enum {
        LEN = 5 << 20
    };
    struct fix *f = *state;
    char *big = malloc(LEN + 1);

    serve(f, NULL);
    memset(big, 'x', LEN);
    big[LEN] = '\0';
    assert_true(ask(f, "SET", "big", big));
    assert_true(ask(f, "GET", "big", NULL));
    free(big);
    assert_true(ask(f, "INCR", "n", NULL));
    until(f, all_done, SOON_MS);
    assert_int_equal(f->value_len, LEN);
    assert_int_equal(f->expected, 2);
}

static void arguments_hold_any_bytes_and_numbers(void **state)
{
    struct fix *f = *state;
    struct pl_redis_args a = {0};

    (void)f;
    pl_redis_arg(&a, "a\0\r\n", 4);
    pl_redis_arg_str(&a, PL_LIT(""));
    pl_redis_arg_int(&a, INT64_MIN);
    assert_int_equal(a.count, 3);
    assert_int_equal(a.bytes.len, 10 + 6 + 27);
    assert_memory_equal(a.bytes.data, "$4\r\na\0\r\n\r\n$0\r\n\r\n$20\r\n-9223372036854775808\r\n",
                        43);
    pl_redis_args_done(&a);
    assert_int_equal(a.count, 0);
    pl_redis_arg_int(&a, 7);
    assert_string_equal(pl_buf_cstr(&a.bytes), "$1\r\n7\r\n");
    pl_redis_args_done(&a);
}

static void an_error_reply_is_a_reply(void **state)
{
    struct fix *f = *state;

    serve(f, NULL);
    assert_true(ask(f, "NOSUCH", NULL, NULL));
    assert_true(ask(f, "INCR", "n", NULL));
    until(f, all_done, SOON_MS);
    assert_non_null(strstr(f->text, "unknown command"));
    assert_int_equal(f->answered, 2);
    assert_int_equal(f->downs, 0);
}

/* ---- setup ---- */

static const char *const with_password[] = {"--requirepass", "s3cret", NULL};

static void a_good_password_and_db_are_used(void **state)
{
    struct fix *f = *state;
    redisReply *r;

    rs_start(&f->server, with_password);
    start(f, "redis://:s3cret@localhost:PORT/3", f->server.port);
    until(f, is_up, SOON_MS);
    assert_true(ask(f, "INCR", "n", NULL));
    until(f, all_done, SOON_MS);
    r = rs_command(&f->server, "CLIENT LIST TYPE normal");
    assert_non_null(strstr(r->str, "name=parley-commands"));
    freeReplyObject(r);
    r = rs_command(&f->server, "INFO keyspace");
    assert_non_null(strstr(r->str, "db3:keys=1"));
    freeReplyObject(r);
}

static char logged[4000];

static void keep_log(const char *line, void *arg)
{
    (void)arg;
    (void)snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%s\n", line);
}

static void refused_with(struct fix *f, const char *url, const char *error)
{
    pl_redis_conn_free(f->c);
    f->c = NULL;
    logged[0] = '\0';
    pl_log_redirect(keep_log, NULL);
    start(f, url, f->server.port);
    until(f, has_error, SOON_MS);
    pl_log_redirect(NULL, NULL);
    if (strstr(pl_redis_conn_error(f->c), error) == NULL) {
        fail_msg("%s, not %s", pl_redis_conn_error(f->c), error);
    }
    assert_null(strstr(pl_redis_conn_error(f->c), "hunter2"));
    assert_null(strstr(logged, "hunter2"));
    assert_int_equal(f->ups, 0);
    assert_int_equal(f->downs, 0);
}

static void a_bad_password_or_none_or_a_bad_db_is_a_reason(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, with_password);
    refused_with(f, "redis://:hunter2@127.0.0.1:PORT", "WRONGPASS");
    refused_with(f, "redis://me:hunter2@127.0.0.1:PORT", "WRONGPASS");
    refused_with(f, "redis://127.0.0.1:PORT", "NOAUTH");
    refused_with(f, "redis://:s3cret@127.0.0.1:PORT/900", "out of range");
    refused_with(f, "redis://nosuch.invalid:PORT", "unknown node");
}

static void a_server_that_repeats_the_password_is_not_repeated(void **state)
{
    static const char *const no_auth[] = {"--rename-command", "AUTH", "", NULL};
    struct fix *f = *state;

    rs_start(&f->server, no_auth);
    refused_with(f, "redis://:hunter2@127.0.0.1:PORT", "AUTH was refused");
}

static void a_user_of_the_acl_is_used(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    rs_do(&f->server, "ACL SETUSER me on >p@ss ~* &* +@all");
    start(f, "redis://me:p%40ss@127.0.0.1:PORT", f->server.port);
    until(f, is_up, SOON_MS);
    assert_true(ask(f, "ACL", "WHOAMI", NULL));
    until(f, all_done, SOON_MS);
    assert_string_equal(f->text, "me");
}

static void a_server_that_loads_is_waited_for(void **state)
{
    static const char *const loading[] = {"--key-load-delay",
                                          "500",
                                          "--loading-process-events-interval-bytes",
                                          "1024",
                                          "--rdbcompression",
                                          "no",
                                          NULL};
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    rs_do(&f->server, "DEBUG POPULATE 1000 k 1000");
    rs_do(&f->server, "SAVE");
    for (size_t i = 0; i < 7; i++) {
        f->server.args[i] = loading[i];
    }
    rs_restart_loading(&f->server);
    start(f, "redis://127.0.0.1:PORT", f->server.port);
    until(f, has_error, SOON_MS);
    assert_non_null(strstr(pl_redis_conn_error(f->c), "LOADING"));
    assert_int_equal(f->ups, 0);
    until(f, is_up, SOON_MS);
}

static void a_server_that_comes_later_is_found(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    rs_kill(&f->server);
    start(f, "redis://127.0.0.1:PORT", f->server.port);
    assert_false(ask(f, "INCR", "n", NULL));
    until(f, has_error, SOON_MS);
    assert_string_equal(pl_redis_conn_error(f->c), "connection refused");
    assert_int_not_equal(pl_redis_conn_state(f->c), PL_REDIS_UP);
    rs_restart(&f->server);
    until(f, is_up, SOON_MS);
    assert_int_equal(f->downs, 0);
}

typedef int getaddrinfo_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* Takes the place of the C library's, which libuv calls: a name with two addresses, of which the
 * first refuses, cannot be had otherwise on every machine. */
__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **ret)
{
    getaddrinfo_fn *real;
    int status;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (strcmp(name, "two.test") != 0) {
        return real(name, service, hints, ret);
    }
    status = real("127.0.0.2", service, hints, ret);
    return status != 0 ? status : real("127.0.0.1", service, hints, &(*ret)->ai_next);
}

static void all_addresses_of_a_name_are_tried(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    start(f, "redis://two.test:PORT", f->server.port);
    until(f, is_up, SOON_MS);
    rs_kill(&f->server);
    until(f, went_down, SOON_MS);
    until(f, was_refused, SOON_MS);
}

/* ---- losing ---- */

static void a_server_killed_amid_a_pipeline_answers_every_call_once(void **state)
{
    struct fix *f = *state;

    serve(f, NULL);
    for (int i = 0; i < 2000; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    assert_true(ask(f, "DEBUG", "SLEEP", "5"));
    for (int i = 0; i < 2000; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    (void)rs_run_until(&f->loop, NULL, NULL, 100);
    rs_kill(&f->server);
    until(f, went_down, SOON_MS);
    assert_int_equal(f->answered + f->lost, 4001);
    assert_true(f->lost >= 2001);
    assert_int_equal(f->wrong, 0);
    assert_int_equal(f->downs, 1);
    assert_false(ask(f, "INCR", "n", NULL));
    rs_restart(&f->server);
    until(f, is_up, SOON_MS);
    assert_int_equal(f->ups, 2);
    f->expected = 1;
    assert_true(ask(f, "INCR", "n", NULL));
    until(f, all_done, SOON_MS);
    assert_int_equal(f->wrong, 0);
}

static void a_stopped_server_is_given_up_once_and_comes_back(void **state)
{
    struct fix *f = *state;
    uint64_t before;

    f->o.command_timeout_ms = 1000;
    f->o.connect_timeout_ms = 300;
    serve(f, NULL);
    rs_pause(&f->server);
    before = rs_now_ms(NULL);
    assert_true(ask(f, "INCR", "n", NULL));
    (void)rs_run_until(&f->loop, NULL, NULL, 800);
    assert_true(ask(f, "INCR", "n", NULL)); /* a younger call is no reprieve */
    until(f, went_down, SOON_MS);
    assert_in_range(rs_now_ms(NULL) - before, 990, 1700);
    assert_non_null(strstr(f->reason, "in time"));
    assert_int_equal(f->lost, 2);
    until(f, timed_out, SOON_MS);
    assert_int_equal(f->downs, 1);
    assert_int_equal(f->ups, 1);
    rs_resume(&f->server);
    until(f, is_up, SOON_MS);
    assert_int_equal(f->ups, 2);
    assert_int_equal(f->downs, 1);
}

static void a_loop_held_up_reads_before_it_judges(void **state)
{
    struct fix *f = *state;

    f->o.command_timeout_ms = 200;
    serve(f, NULL);
    assert_true(ask(f, "INCR", "n", NULL));
    (void)uv_run(&f->loop.uv, UV_RUN_NOWAIT);
    uv_sleep(500); /* as if stopped; the reply has long come */
    until(f, all_done, SOON_MS);
    assert_int_equal(f->answered, 1);
    (void)rs_run_until(&f->loop, NULL, NULL, 100);
    assert_int_equal(f->downs, 0);
}

static void reset_tells_later_and_begins_at_once(void **state)
{
    struct fix *f = *state;

    f->o.backoff_ms = f->o.backoff_max_ms = 60000;
    serve(f, NULL);
    assert_true(ask(f, "INCR", "n", NULL));
    pl_redis_conn_reset(f->c, "a test");
    pl_redis_conn_reset(f->c, "and again");
    assert_int_equal(f->lost + f->answered + f->downs, 0);
    assert_false(ask(f, "INCR", "n", NULL));
    until(f, went_down, SOON_MS);
    assert_string_equal(f->reason, "a test");
    assert_int_equal(f->lost, 1);
    until(f, is_up, SOON_MS);
    assert_int_equal(f->downs, 1);
}

static void reset_again_and_again_does_not_spin(void **state)
{
    struct fix *f = *state;

    f->reset_in_up = true;
    rs_start(&f->server, NULL);
    start(f, "redis://127.0.0.1:PORT", f->server.port);
    (void)rs_run_until(&f->loop, NULL, NULL, 1000);
    assert_in_range(f->ups, 3, 60);
    assert_in_range(f->downs, f->ups - 1, f->ups);
}

static void reset_inside_an_answer_drops_the_others(void **state)
{
    struct fix *f = *state;

    serve(f, NULL);
    f->reset_in_answer = true;
    for (int i = 0; i < 50; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    until(f, went_down, SOON_MS);
    assert_int_equal(f->answered, 1);
    assert_int_equal(f->lost, 49);
    until(f, is_up, SOON_MS);
}

static void free_with_calls_open_answers_them(void **state)
{
    struct fix *f = *state;
    struct pl_redis_conn *c;

    serve(f, NULL);
    for (int i = 0; i < 50; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    c = f->c;
    f->c = NULL;
    pl_redis_conn_free(c);
    assert_int_equal(f->lost, 50);
    assert_int_equal(f->downs, 0);
}

static void free_inside_an_answer_is_safe(void **state)
{
    struct fix *f = *state;

    serve(f, NULL);
    f->free_in_answer = true;
    for (int i = 0; i < 50; i++) {
        assert_true(ask(f, "INCR", "n", NULL));
    }
    until(f, all_done, SOON_MS);
    assert_int_equal(f->answered, 1);
    assert_int_equal(f->lost, 49);
}

static void free_at_every_stage_of_connecting_is_safe(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    for (int turns = 0; turns < 12; turns++) {
        struct pl_redis_conn *c;

        start(f, "redis://localhost:PORT", f->server.port);
        for (int i = 0; i < turns; i++) {
            rs_turn(&f->loop, 2);
        }
        c = f->c;
        f->c = NULL;
        pl_redis_conn_free(c);
        rs_turn(&f->loop, 1);
    }
    assert_int_equal(f->downs, 0);
}

static void what_cannot_be_sent_has_a_bound(void **state)
{
    enum {
        LEN = 1 << 20
    };
    struct fix *f = *state;
    char *big = malloc(LEN + 1);

    serve(f, NULL);
    rs_pause(&f->server);
    memset(big, 'x', LEN);
    big[LEN] = '\0';
    for (int i = 0; i < 100 && ask(f, "SET", "k", big); i++) {
    }
    free(big);
    assert_in_range(f->asked, 60, 80);
    until(f, went_down, SOON_MS);
    assert_non_null(strstr(f->reason, "too much"));
    assert_int_equal(f->lost, f->asked);
}

/* ---- peers that are not Redis ---- */

static void failed_tries_back_off(void **state)
{
    struct fix *f = *state;

    f->peer.close_after = 0;
    peer_start(f);
    start(f, "redis://127.0.0.1:PORT", f->peer.port);
    (void)rs_run_until(&f->loop, NULL, NULL, 1500);
    assert_in_range(f->peer.accepted, 6, 50);
    assert_int_equal(f->ups + f->downs, 0);
}

static void a_peer_that_says_nothing_is_given_up(void **state)
{
    struct fix *f = *state;
    uint64_t before = rs_now_ms(NULL);

    f->o.connect_timeout_ms = 200;
    peer_start(f);
    start(f, "redis://127.0.0.1:PORT", f->peer.port);
    until(f, has_error, SOON_MS);
    assert_non_null(strstr(pl_redis_conn_error(f->c), "timed out"));
    assert_in_range(rs_now_ms(NULL) - before, 190, 1500);
    assert_int_equal(f->peer.accepted, 1);
}

static void garbage_is_not_redis(void **state)
{
    static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct fix *f = *state;

    peer_says(f, 0, garbage, sizeof(garbage) - 1);
    peer_start(f);
    start(f, "redis://127.0.0.1:PORT", f->peer.port);
    until(f, has_error, SOON_MS);
    assert_non_null(strstr(pl_redis_conn_error(f->c), "not a reply of Redis"));
    assert_int_equal(f->ups, 0);
}

static void a_reply_nobody_asked_for_closes(void **state)
{
    static const char setup[] = "+OK\r\n+PONG\r\n";
    static const char two[] = ":1\r\n:2\r\n";
    struct fix *f = *state;

    peer_says(f, 0, setup, sizeof(setup) - 1);
    peer_says(f, 1, two, sizeof(two) - 1);
    peer_start(f);
    start(f, "redis://127.0.0.1:PORT", f->peer.port);
    until(f, is_up, SOON_MS);
    assert_true(ask(f, "INCR", "n", NULL));
    until(f, went_down, SOON_MS);
    assert_int_equal(f->answered, 1);
    assert_non_null(strstr(f->reason, "nobody asked"));
}

static void a_reply_cut_at_any_byte_is_no_reply(void **state)
{
    static const char setup[] = "+OK\r\n+PONG\r\n";
    static const char reply[] = "*3\r\n$5\r\nhello\r\n:42\r\n*2\r\n$-1\r\n-ERR no\r\n";
    struct fix *f = *state;

    peer_says(f, 0, setup, sizeof(setup) - 1);
    f->peer.close_after = 2;
    peer_start(f);
    for (size_t n = 0; n < sizeof(reply); n++) {
        f->ups = f->downs = f->asked = f->answered = f->lost = 0;
        peer_says(f, 1, reply, n);
        start(f, "redis://127.0.0.1:PORT", f->peer.port);
        until(f, is_up, SOON_MS);
        assert_true(ask(f, "INCR", "n", NULL));
        until(f, went_down, SOON_MS);
        assert_int_equal(f->answered, n == sizeof(reply) - 1);
        assert_int_equal(f->lost, n != sizeof(reply) - 1);
        assert_string_equal(f->reason, "closed by the other side");
        pl_redis_conn_free(f->c);
        f->c = NULL;
    }
}

/* ---- Pub/Sub ---- */

static bool all_confirmed(void *arg)
{
    struct fix *f = arg;

    return f->confirmed == f->subscribe && f->asked == f->answered;
}

static bool hundred_messages(void *arg)
{
    return ((struct fix *)arg)->messages == 100;
}

static void publish_hundred(struct fix *f)
{
    for (int i = 0; i < 100; i++) {
        rs_do(&f->server, "PUBLISH ch%d %d", i * 10, i);
    }
}

static void subscriptions_are_pushes_and_the_user_renews_them(void **state)
{
    struct fix *f = *state;

    f->o.push = on_push;
    f->o.label = "pubsub";
    f->o.command_timeout_ms = 0;
    f->subscribe = 1000;
    serve(f, NULL);
    assert_true(ask(f, "PING", "x", NULL)); /* answered by an array on such a connection */
    until(f, all_confirmed, SOON_MS);
    assert_int_equal(pl_redis_conn_outstanding(f->c), 0);
    publish_hundred(f);
    assert_true(ask(f, "PING", "y", NULL));
    until(f, hundred_messages, SOON_MS);
    until(f, all_done, SOON_MS);
    assert_int_equal(f->wrong, 0);
    rs_do(&f->server, "CLIENT KILL TYPE pubsub");
    f->confirmed = 0;
    until(f, went_down, SOON_MS);
    until(f, all_confirmed, SOON_MS);
    f->messages = 0;
    f->max_message = -1;
    publish_hundred(f);
    until(f, hundred_messages, SOON_MS);
    assert_int_equal(f->downs, 1);
    assert_int_equal(f->wrong, 0);
    f->confirmed = 0;
    subscribe(f, "UNSUBSCRIBE", 0, 1000);
    until(f, all_confirmed, SOON_MS);
    assert_int_equal(pl_redis_conn_outstanding(f->c), 0);
}

static void a_subscription_refused_closes_and_says_why(void **state)
{
    struct fix *f = *state;

    f->o.push = on_push;
    rs_start(&f->server, NULL);
    rs_do(&f->server, "ACL SETUSER me on >p ~* resetchannels +@all");
    start(f, "redis://me:p@127.0.0.1:PORT", f->server.port);
    until(f, is_up, SOON_MS);
    subscribe(f, "SUBSCRIBE", 0, 3);
    until(f, went_down, SOON_MS);
    assert_non_null(strstr(f->reason, "NOPERM"));
}

/* ---- Sentinel ---- */

static bool linked(struct rs_server *s)
{
    redisReply *r = rs_command(s, "INFO replication");
    bool ok = strstr(r->str, "master_link_status:up") != NULL;

    freeReplyObject(r);
    return ok;
}

static void start_three(struct fix *f)
{
    char port[16];
    const char *const primary[] = {"--repl-diskless-sync-delay", "0", NULL};
    const char *const replica[] = {"--replicaof", "127.0.0.1", port, NULL};

    rs_start(&f->server, primary);
    (void)snprintf(port, sizeof(port), "%d", f->server.port);
    rs_start(&f->replica, replica);
    for (int i = 0; i < 500 && !linked(&f->replica); i++) {
        uv_sleep(20);
    }
    assert_true(linked(&f->replica));
    rs_start_sentinel(&f->sentinel, &f->server, "mymaster", 1);
}

static void ask_port(struct fix *f)
{
    f->text[0] = '\0';
    assert_true(ask(f, "SET", "who", "me"));
    until(f, all_done, SOON_MS);
    assert_string_equal(f->text, "OK");
}

static bool came_back(void *arg)
{
    struct fix *f = arg;

    return f->ups == 2 && pl_redis_conn_state(f->c) == PL_REDIS_UP;
}

static void a_dead_primary_is_followed_by_the_new_one(void **state)
{
    struct fix *f = *state;
    char url[120];

    start_three(f);
    /* The first sentinel is not there. */
    (void)snprintf(url, sizeof(url), "redis+sentinel://127.0.0.1:%d,127.0.0.1:PORT/mymaster",
                   rs_free_port());
    start(f, url, f->sentinel.port);
    until(f, is_up, SOON_MS);
    ask_port(f);
    rs_kill(&f->server);
    until(f, went_down, SOON_MS);
    /* Until the failover the sentinel goes on naming the dead one, whose port refuses. */
    until(f, has_error, SOON_MS);
    until(f, came_back, 12000);
    assert_int_equal(f->downs, 1);
    ask_port(f);
    rs_do(&f->replica, "GET who");
}

static bool sentinel_is_listened_to(void *arg)
{
    redisReply *r = rs_command(&((struct fix *)arg)->sentinel, "CLIENT LIST TYPE pubsub");
    bool yes = strstr(r->str, "cmd=subscribe") != NULL;

    freeReplyObject(r);
    return yes;
}

/* Not before the sentinel has found the replica good. */
static bool failover_begins(void *arg)
{
    redisReply *r = rs_command(&((struct fix *)arg)->sentinel, "SENTINEL FAILOVER mymaster");
    bool yes = r->type != REDIS_REPLY_ERROR;

    freeReplyObject(r);
    return yes;
}

static void a_switch_resets_at_once(void **state)
{
    struct fix *f = *state;

    start_three(f);
    f->o.backoff_ms = f->o.backoff_max_ms = 60000;
    start(f, "redis+sentinel://127.0.0.1:PORT/mymaster", f->sentinel.port);
    until(f, is_up, SOON_MS);
    until(f, sentinel_is_listened_to, SOON_MS);
    until(f, failover_begins, SOON_MS);
    until(f, came_back, 12000);
    assert_non_null(strstr(f->reason, "another primary"));
    ask_port(f);
}

/* An announcement by the peer, which is the only sentinel; "PORT" is that of the real server. */
static void announce(struct fix *f, const char *news, const char *reason)
{
    static char address[80], message[300];
    char text[120];
    int len =
        snprintf(text, sizeof(text), "%.*s%d", (int)(strcspn(news, "P")), news, f->server.port);

    if (strchr(news, 'P') == NULL) {
        len = snprintf(text, sizeof(text), "%s", news);
    }
    (void)snprintf(address, sizeof(address), "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%05d\r\n",
                   f->server.port);
    (void)snprintf(message, sizeof(message),
                   "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n"
                   "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$%d\r\n%s\r\n",
                   len, text);
    peer_says(f, 0, address, strlen(address));
    f->peer.second = message;
    f->peer.accepted = 0;
    f->ups = f->downs = 0;
    f->reason[0] = '\0';
    start(f, "redis+sentinel://127.0.0.1:PORT/mymaster", f->peer.port);
    until(f, is_up, SOON_MS);
    (void)rs_run_until(&f->loop, went_down, f, reason[0] != '\0' ? SOON_MS : 150);
    assert_string_equal(f->reason, reason);
    assert_int_equal(f->downs, reason[0] != '\0');
    pl_redis_conn_free(f->c);
    f->c = NULL;
}

static void only_news_about_our_master_is_a_switch(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    peer_start(f);
    announce(f, "other 127.0.0.1 1 127.0.0.1 2", "");
    announce(f, "mymaster2 127.0.0.1 1 127.0.0.1 2", "");
    announce(f, "mymaster 127.0.0.1 1 127.0.0.1 PORT", "");
    announce(f, "", "");
    announce(f, "mymaster 127.0.0.1 1 127.0.0.1 2", "the sentinels have made another primary");
}

static void a_replica_named_primary_is_refused(void **state)
{
    static const char setup_of_replica[] = "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n";
    struct fix *f = *state;
    char answer[80], port[16];
    const char *const replica[] = {"--replicaof", "127.0.0.1", port, NULL};

    rs_start(&f->server, NULL);
    (void)snprintf(port, sizeof(port), "%d", f->server.port);
    rs_start(&f->replica, replica);
    (void)snprintf(answer, sizeof(answer), "%s%05d\r\n", setup_of_replica, f->replica.port);
    peer_says(f, 0, answer, strlen(answer));
    peer_start(f);
    start(f, "redis+sentinel://127.0.0.1:PORT/mymaster", f->peer.port);
    until(f, has_error, SOON_MS);
    assert_string_equal(pl_redis_conn_error(f->c), "what the sentinel calls primary is none");
    assert_int_equal(f->ups, 0);
    rs_do(&f->replica, "REPLICAOF NO ONE");
    until(f, is_up, SOON_MS);
    assert_true(f->peer.accepted >= 2); /* asked anew */
}

static void a_sentinel_that_names_a_dead_primary_is_not_believed_forever(void **state)
{
    struct fix *f = *state;
    char answer[80], url[120];

    rs_start(&f->server, NULL);
    rs_start_sentinel(&f->sentinel, &f->server, "mymaster", 0);
    (void)snprintf(answer, sizeof(answer), "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%05d\r\n",
                   rs_free_port());
    peer_says(f, 0, answer, strlen(answer));
    peer_start(f);
    (void)snprintf(url, sizeof(url), "redis+sentinel://127.0.0.1:%d,127.0.0.1:PORT/mymaster",
                   f->peer.port);
    start(f, url, f->sentinel.port);
    until(f, has_error, SOON_MS);
    assert_string_equal(pl_redis_conn_error(f->c), "connection refused");
    until(f, is_up, SOON_MS);
    assert_int_equal(f->peer.accepted, 1);
}

static void a_master_no_sentinel_knows_is_an_error(void **state)
{
    struct fix *f = *state;

    rs_start(&f->server, NULL);
    rs_start_sentinel(&f->sentinel, &f->server, "mymaster", 0);
    start(f, "redis+sentinel://127.0.0.1:PORT/theirs", f->sentinel.port);
    until(f, has_error, SOON_MS);
    assert_non_null(strstr(pl_redis_conn_error(f->c), "not known there"));
}

static void silent_sentinels_share_the_time(void **state)
{
    struct fix *f = *state;
    char url[120];
    uint64_t before = rs_now_ms(NULL);

    f->o.connect_timeout_ms = 900;
    peer_start(f);
    rs_start(&f->server, NULL);
    rs_start_sentinel(&f->sentinel, &f->server, "mymaster", 0);
    (void)snprintf(url, sizeof(url), "redis+sentinel://127.0.0.1:%d,127.0.0.1:PORT/mymaster",
                   f->peer.port);
    before = rs_now_ms(NULL);
    start(f, url, f->sentinel.port);
    until(f, is_up, SOON_MS);
    assert_in_range(rs_now_ms(NULL) - before, 290, 899);
    assert_int_equal(f->peer.accepted, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ten_thousand_commands_are_answered_in_order),
        T(commands_of_one_turn_leave_together),
        T(big_values_pass_both_ways),
        T(arguments_hold_any_bytes_and_numbers),
        T(an_error_reply_is_a_reply),
        T(a_good_password_and_db_are_used),
        T(a_bad_password_or_none_or_a_bad_db_is_a_reason),
        T(a_server_that_repeats_the_password_is_not_repeated),
        T(a_user_of_the_acl_is_used),
        T(a_server_that_loads_is_waited_for),
        T(all_addresses_of_a_name_are_tried),
        T(a_server_that_comes_later_is_found),
        T(a_server_killed_amid_a_pipeline_answers_every_call_once),
        T(a_stopped_server_is_given_up_once_and_comes_back),
        T(a_loop_held_up_reads_before_it_judges),
        T(reset_tells_later_and_begins_at_once),
        T(reset_again_and_again_does_not_spin),
        T(reset_inside_an_answer_drops_the_others),
        T(free_with_calls_open_answers_them),
        T(free_inside_an_answer_is_safe),
        T(free_at_every_stage_of_connecting_is_safe),
        T(what_cannot_be_sent_has_a_bound),
        T(failed_tries_back_off),
        T(a_peer_that_says_nothing_is_given_up),
        T(garbage_is_not_redis),
        T(a_reply_nobody_asked_for_closes),
        T(a_reply_cut_at_any_byte_is_no_reply),
        T(subscriptions_are_pushes_and_the_user_renews_them),
        T(a_subscription_refused_closes_and_says_why),
        T(a_dead_primary_is_followed_by_the_new_one),
        T(a_switch_resets_at_once),
        T(only_news_about_our_master_is_a_switch),
        T(a_replica_named_primary_is_refused),
        T(a_sentinel_that_names_a_dead_primary_is_not_believed_forever),
        T(a_master_no_sentinel_knows_is_an_error),
        T(silent_sentinels_share_the_time),
    };

    pl_log_setup(PL_LOG_OFF, PL_LOG_KV);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
