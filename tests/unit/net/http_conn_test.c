#include "server/net/net.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "protocol/status.h"

static void a_request_is_answered_with_length_date_and_type(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_text(h, fd, "/echo ");
    assert_int_equal(strncmp(answer, "HTTP/1.1 200 OK\r\nDate: ", 23), 0);
    assert_non_null(strstr(
        answer, " GMT\r\nContent-Length: 6\r\nContent-Type: application/json\r\n\r\n/echo "));
    assert_null(strstr(answer, "Connection:"));
    assert_true(h->ticks > 0);
    close(fd);
}

static void a_head_fed_by_the_byte_is_the_same_request(void **state)
{
    struct harness *h = *state;
    const char *rq = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd";
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    for (const char *p = rq; *p; p++) {
        harness_send(fd, p, 1);
        harness_turn(h, -1);
    }
    harness_read_text(h, fd, "/echo abcd");
    assert_int_equal(h->requests, 1);
    close(fd);
}

static void pipelined_posts_in_one_segment_are_answered_in_order(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(
        fd,
        "POST /echo1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
        "POST /echo2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
        "GET /echo3 HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_text(h, fd, "/echo3 ");
    assert_non_null(strstr(answer, "/echo1 one"));
    assert_true(strstr(answer, "/echo1 one") < strstr(answer, "/echo2 two"));
    close(fd);
}

static void bytes_behind_a_held_request_wait_for_its_answer(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(
        fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Le");
    harness_until(h, &h->requests, 1);
    harness_send_str(fd, "ngth: 3\r\n\r\none");
    for (int i = 0; i < 5; i++) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->requests, 1);
    harness_release(h);
    answer = harness_read_text(h, fd, "/echo one");
    assert_true(strstr(answer, "released") < strstr(answer, "/echo one"));
    close(fd);
}

static void a_client_that_closes_is_noticed_while_its_request_is_held(void **state)
{
    struct harness *h = *state;
    struct linger reset = {1, 0};
    int fin, rst;

    harness_start(h);
    fin = harness_connect(h);
    rst = harness_connect(h);
    harness_send_str(fin, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_send_str(rst, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 2);
    close(fin);
    harness_until(h, &h->gone, 1);
    setsockopt(rst, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(rst);
    harness_until(h, &h->gone, 2);
    assert_int_equal(h->held_count, 0);
    assert_int_equal(h->net->http_count, 0);
}

static void a_client_that_half_closes_gets_its_immediate_answer(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(fd, SHUT_WR);
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "/echo "));
    close(fd);
}

static void too_many_bytes_behind_a_held_request_close_it(void **state)
{
    struct harness *h = *state;
    char block[4096];
    int fd;

    h->cfg.limits_header_bytes = 1024;
    h->cfg.limits_message_bytes = 1024;
    harness_start(h);
    fd = harness_connect(h);
    memset(block, 'x', sizeof(block));
    harness_send_str(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 1);
    harness_send(fd, block, 1000);
    harness_turn(h, -1);
    harness_turn(h, -1);
    assert_int_equal(h->gone, 0);
    harness_send(fd, block, sizeof(block));
    harness_until(h, &h->gone, 1);
    close(fd);
}

static void an_expected_continue_is_answered(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(
        fd, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(harness_read_text(h, fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    harness_send_str(fd, "ok");
    assert_non_null(strstr(harness_read_text(h, fd, "/echo ok"), "200 OK"));
    close(fd);
}

static void an_expected_continue_is_refused_before_the_body(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(
        fd,
        "POST /secret HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_int_equal(strncmp(harness_read_all(h, fd, NULL), "HTTP/1.1 401 ", 13), 0);
    assert_int_equal(h->refusal, PL_ERR_UNAUTHORIZED);
    assert_true(h->refusal_had_head);
    close(fd);
}

static void head_gets_the_length_and_no_body(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd,
                     "HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /bye HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_all(h, fd, NULL);
    assert_non_null(strstr(answer, "Content-Length: 6\r\n"));
    assert_null(strstr(answer, "/echo "));
    assert_non_null(strstr(answer, "/bye "));
    close(fd);
}

static void an_answer_without_content_has_no_length(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_text(h, fd, "\r\n\r\n");
    assert_int_equal(strncmp(answer, "HTTP/1.1 204 ", 13), 0);
    assert_null(strstr(answer, "Content-"));
    assert_null(strstr(answer, "unsent"));
    close(fd);
}

static void connections_are_kept_or_closed_as_asked(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_non_null(strstr(harness_read_text(h, fd, "/echo "), "\r\nConnection: keep-alive\r\n"));
    harness_send_str(fd, "GET /echo HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "\r\nConnection: close\r\n"));
    close(fd);
    fd = harness_connect(h);
    harness_send_str(fd,
                     "GET /bye HTTP/1.1\r\nHost: x\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_null(strstr(harness_read_all(h, fd, NULL), "/echo"));
    close(fd);
}

static void an_answer_larger_than_the_socket_takes_goes_out_whole(void **state)
{
    struct harness *h = *state;
    size_t len = 0;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd,
                     "GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /bye HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(harness_read_all(h, fd, &len), "/bye "));
    assert_true(len > BIG && len < BIG + 1000);
    close(fd);
}

static void bad_requests_are_refused_and_the_connection_ends(void **state)
{
    static const struct {
        const char *bytes;
        int status;
    } cases[] = {
        {"GET /echo HTTP/1.1\r\nHost : x\r\n\r\n", PL_ERR_PROTOCOL},
        {"GET /echo HTTP/1.1\n\n", PL_ERR_PROTOCOL},
        {"GET /echo HTTP/9.1\r\nHost: x\r\n\r\n", PL_ERR_HTTP_VERSION},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", PL_ERR_TOO_BIG},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         PL_ERR_PROTOCOL},
        {"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
         PL_ERR_PROTOCOL},
    };
    struct harness *h = *state;

    harness_start(h);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = harness_connect(h);

        harness_send_str(fd, cases[i].bytes);
        assert_non_null(strstr(harness_read_all(h, fd, NULL), "Connection: close\r\n"));
        assert_int_equal(h->refusal, cases[i].status);
        assert_int_equal(h->refused, i + 1);
        close(fd);
    }
    assert_int_equal(h->requests, 0);
}

static void a_head_beyond_the_limit_is_refused(void **state)
{
    struct harness *h = *state;
    char line[300];
    int fd;

    h->cfg.limits_header_bytes = 1024;
    harness_start(h);
    fd = harness_connect(h);
    memset(line, 'x', sizeof(line));
    memcpy(line, "A: ", 3);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 4; i++) {
        harness_send(fd, line, sizeof(line));
    }
    harness_until(h, &h->refused, 1);
    assert_int_equal(h->refusal, PL_ERR_HEADERS_TOO_BIG);
    close(fd);
}

static void slow_heads_and_bodies_are_answered_408(void **state)
{
    struct harness *h = *state;
    int head, body;

    h->cfg.limits_header_timeout = 100;
    h->cfg.limits_body_timeout = 100;
    harness_start(h);
    head = harness_connect(h);
    body = harness_connect(h);
    harness_send_str(head, "GET /echo HT");
    harness_send_str(body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234");
    assert_int_equal(strncmp(harness_read_all(h, head, NULL), "HTTP/1.1 408 ", 13), 0);
    assert_int_equal(strncmp(harness_read_all(h, body, NULL), "HTTP/1.1 408 ", 13), 0);
    assert_int_equal(h->refused, 2);
    close(head);
    close(body);
}

static void a_body_that_drips_in_does_not_prolong_its_time(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.limits_body_timeout = 100;
    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    for (int i = 0; i < 1000 && h->refused == 0; i++) {
        send(fd, "x", 1, MSG_NOSIGNAL);
        harness_turn(h, -1);
    }
    assert_int_equal(h->refused, 1);
    close(fd);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    h->cfg.limits_keepalive_timeout = 100;
    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_all(h, fd, NULL);
    assert_null(strstr(answer, "408"));
    assert_non_null(strstr(answer, "/echo "));
    close(fd);
}

/* The loop was busy until after the time, and the request came just before it. */
static void a_request_that_waits_to_be_read_is_not_too_late(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.limits_keepalive_timeout = 100;
    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_read_text(h, fd, "/echo ");
    harness_turn(h, -1);
    harness_send_str(fd, "GET /echo/again HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(200 * 1000);
    harness_read_text(h, fd, "/echo/again ");
    close(fd);
}

static void those_who_are_idle_together_are_closed_one_after_the_other(void **state)
{
    enum {
        MANY = 300
    };
    struct harness *h = *state;
    int fds[MANY];
    uint64_t first_ms;

    h->cfg.limits_keepalive_timeout = 1000;
    harness_start(h);
    for (int i = 0; i < MANY; i++) {
        fds[i] = harness_connect(h);
        harness_send_str(fds[i], "GET /none HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    harness_until(h, &h->requests, MANY);
    while (h->net->http_count == MANY) {
        harness_turn(h, -1);
    }
    first_ms = h->net->now_ms;
    harness_send_str(fds[MANY - 1], "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    while (h->net->http_count > 1) {
        harness_turn(h, -1);
    }
    assert_true(h->net->now_ms - first_ms >= 100); /* 300 x 0.5 ms, less the first tick */
    assert_non_null(
        strstr(harness_read_all(h, fds[MANY - 1], NULL), "/echo ")); /* it is idle anew */
    for (int i = 0; i < MANY; i++) {
        close(fds[i]);
    }
}

static void thousands_of_connections_come_and_go(void **state)
{
    struct harness *h = *state;

    harness_start(h);
    for (int round = 0; round < 10; round++) {
        int fds[200];

        for (int i = 0; i < 200; i++) {
            fds[i] = harness_connect(h);
            harness_send_str(fds[i], i % 2 ? "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /"
                                           : "POST /echo HTT");
        }
        harness_until(h, &h->requests, (round + 1) * 100);
        for (int i = 0; i < 200; i++) {
            close(fds[i]);
        }
        harness_until(h, &h->gone, (round + 1) * 100);
    }
    while (h->net->http_count > 0) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->peers.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_answered_with_length_date_and_type),
        TEST(a_head_fed_by_the_byte_is_the_same_request),
        TEST(pipelined_posts_in_one_segment_are_answered_in_order),
        TEST(bytes_behind_a_held_request_wait_for_its_answer),
        TEST(a_client_that_closes_is_noticed_while_its_request_is_held),
        TEST(a_client_that_half_closes_gets_its_immediate_answer),
        TEST(too_many_bytes_behind_a_held_request_close_it),
        TEST(an_expected_continue_is_answered),
        TEST(an_expected_continue_is_refused_before_the_body),
        TEST(head_gets_the_length_and_no_body),
        TEST(an_answer_without_content_has_no_length),
        TEST(connections_are_kept_or_closed_as_asked),
        TEST(an_answer_larger_than_the_socket_takes_goes_out_whole),
        TEST(bad_requests_are_refused_and_the_connection_ends),
        TEST(a_head_beyond_the_limit_is_refused),
        TEST(slow_heads_and_bodies_are_answered_408),
        TEST(a_body_that_drips_in_does_not_prolong_its_time),
        TEST(an_idle_connection_is_closed_without_a_word),
        TEST(a_request_that_waits_to_be_read_is_not_too_late),
        TEST(those_who_are_idle_together_are_closed_one_after_the_other),
        TEST(thousands_of_connections_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
