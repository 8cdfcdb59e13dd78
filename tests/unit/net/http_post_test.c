#include "server/net/http_post.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

/* A server on the same loop, which answers the first bytes it gets with fixed ones, or by hanging up. */
static uv_loop_t loop;
static uv_tcp_t listener, peer;
static const char *answer;
static char got[1024];
static size_t got_len;
static bool has_peer;

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)h;
    (void)suggested;
    *buf = uv_buf_init(got + got_len, (unsigned)(sizeof(got) - 1 - got_len));
}

static void on_read(uv_stream_t *s, ssize_t len, const uv_buf_t *buf)
{
    uv_buf_t out = uv_buf_init((char *)answer, (unsigned)strlen(answer));

    (void)buf;
    if (len > 0) {
        got_len += (size_t)len;
        if (strstr(got, "\r\n\r\n") != NULL) {
            uv_try_write(s, &out, 1);
            uv_close((uv_handle_t *)s, NULL);
            has_peer = false;
        }
    }
}

static void on_connection(uv_stream_t *s, int status)
{
    assert_int_equal(status, 0);
    uv_tcp_init(&loop, &peer);
    has_peer = true;
    assert_int_equal(uv_accept(s, (uv_stream_t *)&peer), 0);
    uv_read_start((uv_stream_t *)&peer, on_alloc, on_read);
}

static struct pl_url url;

static int begin(void **state)
{
    struct sockaddr_in a;
    int len = sizeof(a);
    char text[64];

    (void)state;
    memset(got, 0, sizeof(got));
    got_len = 0;
    has_peer = false;
    uv_loop_init(&loop);
    uv_tcp_init(&loop, &listener);
    uv_ip4_addr("127.0.0.1", 0, &a);
    assert_int_equal(uv_tcp_bind(&listener, (struct sockaddr *)&a, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&listener, 8, on_connection), 0);
    uv_unref((uv_handle_t *)&listener);
    uv_tcp_getsockname(&listener, (struct sockaddr *)&a, &len);
    snprintf(text, sizeof(text), "http://127.0.0.1:%d/v1/traces", ntohs(a.sin_port));
    assert_null(pl_url_parse(text, &url));
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (!uv_is_closing((uv_handle_t *)&listener)) {
        uv_close((uv_handle_t *)&listener, NULL);
    }
    if (has_peer) {
        uv_close((uv_handle_t *)&peer, NULL);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static int last_status;
static char last_error[128];
static unsigned calls;

static void on_done(void *arg, int status, const char *error)
{
    (void)arg;
    calls++;
    last_status = status;
    snprintf(last_error, sizeof(last_error), "%s", error);
}

static bool post(struct pl_http_post *p)
{
    struct pl_buf body = {0};
    bool taken;

    calls = 0;
    pl_buf_append_str(&body, "{\"a\":1}");
    taken = pl_http_post_send(p, "application/json", &body, on_done, NULL);
    if (!taken) {
        pl_buf_done(&body);
    }
    return taken;
}

static void run(struct pl_http_post *p)
{
    assert_true(post(p));
    assert_int_equal(calls, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(calls, 1);
}

static void a_body_is_posted_and_the_status_told(void **state)
{
    struct pl_http_post *p = pl_http_post_new(&loop, &url);

    (void)state;
    answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    run(p);
    assert_int_equal(last_status, 200);
    assert_string_equal(last_error, "");
    assert_ptr_equal(strstr(got, "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:"), got);
    assert_non_null(strstr(got, "\r\nContent-Length: 7\r\n"));
    assert_non_null(strstr(got, "\r\n\r\n{\"a\":1}"));
    answer = "HTTP/1.1 503 no\r\n\r\n";
    got_len = 0;
    memset(got, 0, sizeof(got));
    run(p);
    assert_int_equal(last_status, 503);
    pl_http_post_free(p);
}

static void what_is_no_answer_is_told_as_such(void **state)
{
    static const char *const answers[] = {"", "HTTP", "SSH-2.0-OpenSSH_9.2\r\n"};
    struct pl_http_post *p = pl_http_post_new(&loop, &url);

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        answer = answers[i];
        got_len = 0;
        memset(got, 0, sizeof(got));
        run(p);
        assert_int_equal(last_status, 0);
        assert_true(last_error[0] != '\0');
    }
    pl_http_post_free(p);
}

static void nobody_there_is_told_from_the_loop(void **state)
{
    struct pl_http_post *p = pl_http_post_new(&loop, &url);

    (void)state;
    uv_close((uv_handle_t *)&listener, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    run(p);
    assert_int_equal(last_status, 0);
    assert_string_equal(last_error, "connection refused");
    pl_http_post_free(p);
}

static void one_request_at_a_time(void **state)
{
    struct pl_http_post *p = pl_http_post_new(&loop, &url);

    (void)state;
    answer = "HTTP/1.1 200 OK\r\n\r\n";
    assert_true(post(p));
    assert_false(post(p));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(calls, 1);
    assert_true(post(p));
    pl_http_post_free(p);
}

static void one_that_is_given_up_is_not_answered(void **state)
{
    (void)state;
    answer = "HTTP/1.1 200 OK\r\n\r\n";
    for (unsigned turns = 0; turns < 6; turns++) {
        struct pl_http_post *p = pl_http_post_new(&loop, &url);

        assert_true(post(p));
        for (unsigned i = 0; i < turns && calls == 0; i++) {
            uv_run(&loop, UV_RUN_ONCE);
        }
        if (calls == 0) {
            pl_http_post_free(p);
            uv_run(&loop, UV_RUN_DEFAULT);
            assert_int_equal(calls, 0);
        } else {
            pl_http_post_free(p);
        }
        uv_run(&loop, UV_RUN_NOWAIT);
        if (has_peer) {
            uv_close((uv_handle_t *)&peer, NULL);
            has_peer = false;
        }
        uv_run(&loop, UV_RUN_DEFAULT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_posted_and_the_status_told, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_answer_is_told_as_such, begin, end),
        cmocka_unit_test_setup_teardown(nobody_there_is_told_from_the_loop, begin, end),
        cmocka_unit_test_setup_teardown(one_request_at_a_time, begin, end),
        cmocka_unit_test_setup_teardown(one_that_is_given_up_is_not_answered, begin, end),
    };

    return cmocka_run_group_tests_name("net/http_post", tests, NULL, NULL);
}
