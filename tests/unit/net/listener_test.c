#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/base/metrics.h"

static void set(char **option, const char *value)
{
    static char texts[4][64];
    static int next;

    *option = texts[next++ % 4];
    snprintf(*option, 64, "%s", value);
}

static void expect_refused(struct harness *h, int fd)
{
    const char *answer;

    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    answer = harness_read_all(h, fd, NULL);
    assert_int_equal(strncmp(answer, "HTTP/1.1 503 ", 13), 0);
    assert_non_null(strstr(answer, "\r\nRetry-After: 1\r\n"));
    close(fd);
}

static void expect_served(struct harness *h, int fd)
{
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(harness_read_text(h, fd, "/echo "), "200 OK"));
}

static void settle(struct harness *h, uint32_t connections)
{
    for (int i = 0; i < 8000 && h->net->http_count != connections; i++) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->http_count, connections);
}

static void connections_beyond_the_limit_get_503(void **state)
{
    struct harness *h = *state;
    uint64_t refused = pl_metric_values[PL_S_REFUSED_CONNECTIONS];
    int fds[2];

    h->cfg.limits_connections = 2;
    harness_start(h);
    for (int i = 0; i < 2; i++) {
        fds[i] = harness_connect(h);
        expect_served(h, fds[i]);
    }
    expect_refused(h, harness_connect(h));
    assert_int_equal(h->refusal, PL_ERR_OVERLOADED);
    assert_int_equal(pl_metric_values[PL_S_REFUSED_CONNECTIONS], refused + 1);
    close(fds[0]);
    settle(h, 1);
    fds[0] = harness_connect(h);
    expect_served(h, fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void connections_of_one_address_beyond_its_limit_get_503(void **state)
{
    struct harness *h = *state;
    uint64_t refused = pl_metric_values[PL_S_REFUSED_PER_IP];
    int first, ws;

    h->cfg.limits_connections_per_ip = 2;
    harness_start(h);
    first = harness_connect(h);
    expect_served(h, first);
    ws = harness_websocket(h, NULL); /* counts as what it is: the same connection */
    expect_refused(h, harness_connect(h));
    assert_int_equal(pl_metric_values[PL_S_REFUSED_PER_IP], refused + 1);
    close(first);
    close(ws);
}

static void connections_beyond_the_rate_get_503_and_the_rate_goes_on(void **state)
{
    struct harness *h = *state;
    uint64_t refused = pl_metric_values[PL_S_REFUSED_RATE];
    int fds[4];

    h->cfg.limits_accept_rate = 8;
    harness_start(h);
    for (int i = 0; i < 4; i++) { /* the burst of one address: half of all */
        fds[i] = harness_connect(h);
        expect_served(h, fds[i]);
    }
    expect_refused(h, harness_connect(h));
    assert_int_equal(h->refusal, PL_ERR_OVERLOADED);
    assert_int_equal(pl_metric_values[PL_S_REFUSED_RATE], refused + 1);
    expect_served(h, fds[0]); /* who is there is not concerned */
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    h->net->now_ms += 1000; /* a while later */
    pl_peer__sweep(h->net);
    fds[0] = harness_connect(h);
    expect_served(h, fds[0]);
    close(fds[0]);
}

static void one_address_leaves_half_of_the_rate_to_the_others(void **state)
{
    struct harness *h = *state;
    struct pl_peer_entry *e[3];
    int taken[3] = {0};

    h->cfg.limits_accept_rate = 10;
    harness_start(h);
    for (uint8_t i = 0; i < 3; i++) {
        const struct pl_address address = pl_address_v4((const uint8_t[]){203, 0, 113, i});

        e[i] = pl_peer__enter(h->net, PL_LISTENER_MAIN, &address);
        for (int n = 0; n < 20; n++) {
            taken[i] += pl_peer__check_limits(h->net, e[i]) == PL_OK;
        }
    }
    assert_int_equal(taken[0], 5);
    assert_int_equal(taken[1], 5);
    assert_int_equal(taken[2], 0);
    for (int i = 0; i < 3; i++) {
        pl_peer__leave(h->net, e[i]);
    }
    assert_int_equal(h->net->peers.count, 2); /* those that have used something up */
    h->net->now_ms += 1000;
    pl_peer__sweep(h->net);
    assert_int_equal(h->net->peers.count, 0);
}

static void a_flood_beyond_the_limit_is_just_closed(void **state)
{
    struct harness *h = *state;
    int fds[300], closed = 0;

    h->cfg.limits_connections = 1;
    harness_start(h);
    for (int i = 0; i < 300; i++) {
        fds[i] = harness_connect(h);
        if (i % 50 == 0) {
            harness_turn(h, -1);
        }
    }
    for (int i = 0; i < 10; i++) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->http_count, 257);
    for (int i = 0; i < 300; i++) {
        char byte;

        closed += recv(fds[i], &byte, 1, MSG_DONTWAIT) == 0;
        close(fds[i]);
    }
    assert_int_equal(closed, 300 - 257);
    settle(h, 0);
    assert_int_equal(h->net->refusing, 0);
}

static void the_internal_listener_has_no_limit_and_says_so(void **state)
{
    struct harness *h = *state;
    const char *address;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int main_fd, fd;

    set(&h->cfg.server_internal_listen, "127.0.0.1:0");
    h->cfg.limits_connections = 1;
    h->cfg.limits_connections_per_ip = 1;
    harness_start(h);
    main_fd = harness_connect(h);
    expect_served(h, main_fd);
    address = pl_net_address(h->net, PL_LISTENER_INTERNAL);
    assert_string_not_equal(address, pl_net_address(h->net, PL_LISTENER_MAIN));
    a.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    harness_send_str(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 2);
    assert_int_equal(h->held[0]->peer->peer.listener, PL_LISTENER_INTERNAL);
    assert_string_equal(h->held[0]->peer->peer.ip, "127.0.0.1");
    close(fd);
    close(main_fd);
}

static void ipv6_listens_and_names_itself_in_brackets(void **state)
{
    struct harness *h = *state;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        skip(); /* no IPv6 here */
    }
    close(fd);
    set(&h->cfg.server_listen, "[::1]:0");
    harness_start(h);
    assert_int_equal(strncmp(pl_net_address(h->net, PL_LISTENER_MAIN), "[::1]:", 6), 0);
    a.sin6_port = htons((uint16_t)atoi(pl_net_address(h->net, PL_LISTENER_MAIN) + 6));
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    harness_send_str(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 1);
    assert_string_equal(h->held[0]->peer->peer.ip, "::1");
    assert_true(h->held[0]->peer->peer.loopback);
    close(fd);
}

static void addresses_that_cannot_be_bound_say_why(void **state)
{
    static const char *const bad[] = {"127.0.0.1",      "127.0.0.1:",  ":80",
                                      "127.0.0.1:http", "192.0.2.1:0", "[::1:0"};
    struct harness *h = *state;
    struct pl_net_options o;
    struct pl_net *other = NULL;
    struct pl_wheel wheel;
    char err[200];

    harness_start(h);
    pl_wheel_init(&wheel, pl_clock_mono_ms());
    o = h->net->o;
    o.wheel = &wheel;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err[0] = '\0';
        set(&h->cfg.server_listen, bad[i]);
        assert_int_equal(pl_net_new(&o, &other, err, sizeof(err)), PL_ERR_INVALID);
        assert_non_null(strstr(err, bad[i]));
    }
    set(&h->cfg.server_listen, pl_net_address(h->net, PL_LISTENER_MAIN));
    assert_int_equal(pl_net_new(&o, &other, err, sizeof(err)), PL_ERR_INVALID);
    assert_non_null(strstr(err, "Address already in use"));
    assert_null(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(connections_beyond_the_limit_get_503),
        TEST(connections_of_one_address_beyond_its_limit_get_503),
        TEST(connections_beyond_the_rate_get_503_and_the_rate_goes_on),
        TEST(one_address_leaves_half_of_the_rate_to_the_others),
        TEST(a_flood_beyond_the_limit_is_just_closed),
        TEST(the_internal_listener_has_no_limit_and_says_so),
        TEST(ipv6_listens_and_names_itself_in_brackets),
        TEST(addresses_that_cannot_be_bound_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
