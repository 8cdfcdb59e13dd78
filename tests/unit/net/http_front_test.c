#include "server/net/net.h"

#include <string.h>
#include <unistd.h>

#include "harness.h"

#define HTTP_GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* The only connection that is not a WebSocket. */
static struct pl_http_conn *only(struct harness *h)
{
    assert_int_equal(h->net->http_count, 1);
    return pl_container_of(h->net->http.next, struct pl_http_conn, node);
}

/* Connected, accepted, and silent. */
static int connect_silently(struct harness *h)
{
    int fd = harness_connect(h);

    while (h->net->http_count == 0 || !only(h)->watched) {
        harness_turn(h, -1);
    }
    return fd;
}

static void an_upgrade_is_never_raw(void **state)
{
    struct harness *h = *state;
    int fd, server_fd;

    harness_start(h);
    fd = connect_silently(h);
    server_fd = only(h)->fd;
    harness_send(fd, harness_handshake, 20);
    for (int i = 0; i < 5; i++) {
        harness_turn(h, -1);
    }
    assert_null(only(h)->wsi);
    harness_send_str(fd, harness_handshake + 20);
    harness_until(h, &h->ws_opened, 1);
    assert_int_equal(h->ws->fd, server_fd); /* a raw one is handed over as a copy */
    assert_int_equal(h->net->http_count, 0);
    close(fd);
}

static void a_request_that_waits_is_raw(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = connect_silently(h);
    harness_send_str(fd, HTTP_GET("/hold"));
    harness_until(h, &h->held_count, 1);
    harness_turn(h, -1);
    assert_non_null(only(h)->wsi);
    assert_false(only(h)->watched);
    harness_release(h);
    harness_read_text(h, fd, "released");
    harness_send_str(fd, HTTP_GET("/bye"));
    harness_read_all(h, fd, NULL);
    close(fd);
}

static void an_only_answer_needs_no_libwebsockets(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, HTTP_GET("/bye"));
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "/bye "));
    assert_null(only(h)->wsi);
    harness_send_str(fd, "too late");
    close(fd);
    while (h->net->http_count > 0) {
        harness_turn(h, -1);
    }
}

static void an_answer_that_the_socket_does_not_take_at_once_goes_out(void **state)
{
    struct harness *h = *state;
    size_t len = 0;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    harness_until(h, &h->requests, 1);
    harness_turn(h, -1);
    assert_non_null(only(h)->wsi);
    harness_read_all(h, fd, &len);
    assert_true(len > BIG);
    close(fd);
}

static void who_leaves_without_a_word_is_forgotten(void **state)
{
    struct harness *h = *state;

    harness_start(h);
    close(connect_silently(h));
    while (h->net->http_count > 0) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->main_connections, 0);
    assert_int_equal(h->requests + h->refused, 0);
}

static void a_first_request_is_answered_though_the_net_stops(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = connect_silently(h);
    pl_net_stop(h->net, 5000);
    harness_turn(h, -1);
    harness_send_str(fd, HTTP_GET("/echo"));
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "\r\nConnection: close\r\n"));
    assert_int_equal(h->requests, 1);
    close(fd);
}

static void who_stays_silent_does_not_hold_up_a_stop(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = connect_silently(h);
    pl_net_stop(h->net, 60000);
    assert_string_equal(harness_read_all(h, fd, NULL), "");
    close(fd);
}

static void those_it_has_are_closed_with_the_net(void **state)
{
    struct harness *h = *state;

    harness_start(h);
    (void)connect_silently(h); /* harness_teardown frees the net */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_upgrade_is_never_raw),
        TEST(a_request_that_waits_is_raw),
        TEST(an_only_answer_needs_no_libwebsockets),
        TEST(an_answer_that_the_socket_does_not_take_at_once_goes_out),
        TEST(who_leaves_without_a_word_is_forgotten),
        TEST(a_first_request_is_answered_though_the_net_stops),
        TEST(who_stays_silent_does_not_hold_up_a_stop),
        TEST(those_it_has_are_closed_with_the_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
