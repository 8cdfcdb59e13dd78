#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "protocol/status.h"
#include "server/base/metrics.h"

#define GET       "GET /echo HTTP/1.1\r\nHost: x\r\n"
#define FROM(ip)  "X-Forwarded-For: " ip "\r\n"
#define PROXY(ip) "PROXY TCP4 " ip " 10.0.0.1 57005 443\r\n"
#define PROXY_V2  "\r\n\r\n\0\r\nQUIT\n"

static struct pl_network loopback_net[1];

static int setup(void **state)
{
    struct harness *h;

    harness_setup(state);
    h = *state;
    assert_true(pl_network_parse("127.0.0.1", 9, &loopback_net[0]));
    h->cfg.server_trusted_proxies = (struct pl_networks){loopback_net, 1};
    return 0;
}

static void expect_client(struct harness *h, int fd, const char *request, const char *client)
{
    h->client[0] = '\0';
    harness_send_str(fd, request);
    assert_non_null(strstr(harness_read_text(h, fd, "/echo "), " 200 OK\r\n"));
    assert_string_equal(h->client, client);
}

static void expect_closed_unanswered(struct harness *h, int fd)
{
    size_t len = 1;

    harness_read_all(h, fd, &len);
    assert_int_equal(len, 0);
    close(fd);
}

static void expect_no_peers(struct harness *h)
{
    for (int i = 0; i < 8000 && h->net->http_count + h->net->ws_count > 0; i++) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->peers.count, 0);
    assert_int_equal(h->net->main_connections, 0);
    assert_int_equal(h->net->refusing, 0);
}

/* ---- the PROXY protocol ---- */

static void a_trusted_proxy_names_the_client_of_a_connection(void **state)
{
    static const char v2[] = PROXY_V2 "\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\xde\xad\x01\xbb";
    struct harness *h = *state;
    int fd;

    h->cfg.server_proxy_protocol = true;
    harness_start(h);
    fd = harness_connect(h);
    expect_client(h, fd, PROXY("203.0.113.7") GET "\r\n", "203.0.113.7");
    expect_client(h, fd, GET "\r\n", "203.0.113.7");
    close(fd);
    fd = harness_connect(h);
    for (size_t i = 0; i < sizeof(v2) - 1; i++) {
        harness_send(fd, v2 + i, 1);
        harness_turn(h, fd);
    }
    expect_client(h, fd, GET "\r\n", "203.0.113.7");
    assert_int_equal(h->net->main_connections, 1);
    close(fd);
    fd = harness_connect(h);
    harness_send_str(fd, PROXY("203.0.113.8"));
    harness_send_str(fd, harness_handshake);
    harness_until(h, &h->ws_opened, 1);
    assert_string_equal(h->client, "203.0.113.8");
    assert_int_equal(h->net->main_connections, 1);
    close(fd);
    expect_no_peers(h);
}

static void a_proxy_that_speaks_for_itself_is_the_client(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.server_proxy_protocol = true;
    harness_start(h);
    fd = harness_connect(h);
    harness_send(fd, PROXY_V2 "\x20\0\0\0", 16);
    expect_client(h, fd, GET "\r\n", "127.0.0.1");
    close(fd);
    expect_no_peers(h);
}

static void a_trusted_proxy_must_send_the_header(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.server_proxy_protocol = true;
    h->cfg.limits_header_timeout = 100;
    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, GET "\r\n");
    expect_closed_unanswered(h, fd);
    fd = harness_connect(h);
    harness_send_str(fd, "PROXY TCP4 203.");
    expect_closed_unanswered(h, fd);
    fd = harness_connect(h);
    expect_closed_unanswered(h, fd);
    assert_int_equal(h->requests, 0);
    expect_no_peers(h);
}

static void from_others_the_header_is_a_bad_request(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.server_proxy_protocol = true;
    h->cfg.server_trusted_proxies.count = 0;
    harness_start(h);
    fd = harness_connect(h);
    expect_client(h, fd, GET "\r\n", "127.0.0.1");
    harness_send_str(fd, PROXY("203.0.113.7") GET "\r\n");
    assert_non_null(strstr(harness_read_all(h, fd, NULL), " 400 "));
    close(fd);
    expect_no_peers(h);
}

static void the_limit_per_address_is_the_client_s(void **state)
{
    struct harness *h = *state;
    uint64_t refused = pl_metric_values[PL_S_REFUSED_PER_IP];
    int fds[3], over;

    h->cfg.server_proxy_protocol = true;
    h->cfg.limits_connections_per_ip = 1;
    harness_start(h);
    for (int i = 0; i < 3; i++) { /* through one proxy, which has no limit */
        char request[200], client[PL_ADDRESS_TEXT];

        fds[i] = harness_connect(h);
        snprintf(client, sizeof(client), "203.0.113.%d", i);
        snprintf(request, sizeof(request), PROXY("%s") GET "\r\n", client);
        expect_client(h, fds[i], request, client);
    }
    over = harness_connect(h);
    harness_send_str(over, PROXY("203.0.113.2") GET "\r\n");
    assert_non_null(strstr(harness_read_all(h, over, NULL), " 503 "));
    assert_int_equal(h->refusal, PL_ERR_OVERLOADED);
    assert_int_equal(pl_metric_values[PL_S_REFUSED_PER_IP], refused + 1);
    close(over);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    expect_no_peers(h);
}

static void a_flood_behind_a_proxy_is_just_closed(void **state)
{
    struct harness *h = *state;
    int fds[PL_MAX_REFUSING + 50], closed = 0;
    const int count = sizeof(fds) / sizeof(fds[0]);

    h->cfg.server_proxy_protocol = true;
    h->cfg.limits_connections_per_ip = 1;
    harness_start(h);
    for (int i = 0; i < count; i++) {
        fds[i] = harness_connect(h);
        harness_send_str(fds[i], PROXY("203.0.113.7"));
    }
    for (int i = 0; i < 100; i++) {
        harness_turn(h, -1);
    }
    for (int i = 0; i < count; i++) {
        char byte;

        closed += recv(fds[i], &byte, 1, MSG_DONTWAIT) == 0;
        close(fds[i]);
    }
    assert_int_equal(closed, count - 1 - PL_MAX_REFUSING);
    expect_no_peers(h);
}

/* ---- X-Forwarded-For ---- */

static void a_trusted_proxy_names_the_client_of_a_request(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    expect_client(h, fd, GET FROM("203.0.113.7") "\r\n", "203.0.113.7");
    expect_client(h, fd, GET FROM("127.0.0.9, 2001:db8::7") "\r\n", "2001:db8::7");
    expect_client(h, fd, GET "\r\n", "127.0.0.1");
    expect_client(
        h, fd,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n" FROM("203.0.113.8") "\r\nx",
        "203.0.113.8");
    assert_int_equal(h->net->peers.count, 1);
    close(fd);
    expect_no_peers(h);
}

static void what_others_say_of_a_client_is_ignored(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.server_trusted_proxies.count = 0;
    harness_start(h);
    fd = harness_connect(h);
    expect_client(h, fd, GET FROM("203.0.113.7") "\r\n", "127.0.0.1");
    close(fd);
}

static void forwarded_requests_count_while_they_are_answered(void **state)
{
    static const char hold[] = "GET /hold HTTP/1.1\r\nHost: x\r\n" FROM("203.0.113.7") "\r\n";
    struct harness *h = *state;
    int held, other;

    h->cfg.limits_connections_per_ip = 1;
    harness_start(h);
    held = harness_connect(h);
    harness_send_str(held, hold);
    harness_until(h, &h->requests, 1);
    other = harness_connect(h);
    expect_client(h, other, GET FROM("203.0.113.8") "\r\n", "203.0.113.8");
    harness_send_str(other, hold);
    assert_non_null(strstr(harness_read_all(h, other, NULL), " 503 "));
    close(other);
    harness_release(h);
    harness_read_text(h, held, "released");
    other = harness_connect(h);
    expect_client(h, other, GET FROM("203.0.113.7") "\r\n", "203.0.113.7");
    close(other);
    harness_send_str(held, hold); /* and it goes away while it waits */
    harness_until(h, &h->requests, 4);
    close(held);
    expect_no_peers(h);
}

static void a_forwarded_websocket_is_its_client_s(void **state)
{
    static const char end[] = FROM("203.0.113.7") "\r\n";
    struct harness *h = *state;
    int fd, other;

    h->cfg.limits_connections_per_ip = 1;
    harness_start(h);
    fd = harness_connect(h);
    harness_send(fd, harness_handshake, strlen(harness_handshake) - 2);
    harness_send_str(fd, end);
    harness_until(h, &h->ws_opened, 1);
    assert_string_equal(h->client, "203.0.113.7");
    for (int i = 0; i < 100 && h->net->http_count > 0; i++) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->net->peers.count, 1);
    assert_int_equal(h->net->main_connections, 1);
    other = harness_connect(h);
    harness_send_str(other, GET FROM("203.0.113.7") "\r\n");
    assert_non_null(strstr(harness_read_all(h, other, NULL), " 503 "));
    close(other);
    close(fd);
    expect_no_peers(h);
}

static void a_proxy_before_the_proxy_is_looked_through(void **state)
{
    struct harness *h = *state;
    int fd;

    h->cfg.server_proxy_protocol = true;
    harness_start(h);
    fd = harness_connect(h);
    expect_client(h, fd, PROXY("127.0.0.1") GET FROM("203.0.113.7") "\r\n", "203.0.113.7");
    close(fd);
    fd = harness_connect(h);
    expect_client(h, fd, PROXY("203.0.113.8") GET FROM("203.0.113.7") "\r\n", "203.0.113.8");
    close(fd);
    expect_no_peers(h);
}

static void the_internal_listener_hears_of_no_proxies(void **state)
{
    static char any_port[] = "127.0.0.1:0";
    struct harness *h = *state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    h->cfg.server_internal_listen = any_port;
    h->cfg.server_proxy_protocol = true;
    harness_start(h);
    a.sin_port =
        htons((uint16_t)atoi(strrchr(pl_net_address(h->net, PL_LISTENER_INTERNAL), ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    expect_client(h, fd, GET FROM("203.0.113.7") "\r\n", "127.0.0.1");
    close(fd);
}

/* ---- handshakes ---- */

static struct pl_peer_entry *take(struct harness *h, const char *ip)
{
    struct pl_address address;

    assert_true(pl_address_parse(ip, strlen(ip), &address));
    return pl_peer__take(h->net, PL_LISTENER_MAIN, &address);
}

static int handshakes(struct harness *h, struct pl_peer_entry *e)
{
    int n = 0;

    while (n < 1000 && pl_peer__take_handshake(h->net, e)) {
        n++;
    }
    return n;
}

static void handshakes_of_an_address_have_a_rate(void **state)
{
    struct harness *h = *state;
    struct pl_peer_entry *e, *other;

    h->cfg.limits_handshakes_per_ip = 2;
    harness_start(h);
    e = take(h, "203.0.113.7");
    other = take(h, "203.0.113.8");
    assert_int_equal(handshakes(h, e), 20);
    assert_int_equal(handshakes(h, other), 20);
    h->net->now_ms += 500;
    assert_int_equal(handshakes(h, e), 1);
    h->cfg.limits_handshakes_per_ip = 0;
    assert_int_equal(handshakes(h, e), 1000);
    pl_peer__drop(h->net, e);
    pl_peer__drop(h->net, other);
}

static void a_trusted_proxy_has_no_rate_of_handshakes(void **state)
{
    struct harness *h = *state;
    struct pl_peer_entry *e;

    h->cfg.limits_handshakes_per_ip = 2;
    harness_start(h);
    e = take(h, "127.0.0.1");
    assert_int_equal(handshakes(h, e), 1000);
    pl_peer__drop(h->net, e);
    assert_int_equal(h->net->peers.count, 0);
}

static void what_an_address_has_used_outlives_its_connections(void **state)
{
    struct harness *h = *state;
    struct pl_peer_entry *e;

    h->cfg.limits_handshakes_per_ip = 2;
    harness_start(h);
    e = take(h, "203.0.113.7");
    assert_int_equal(handshakes(h, e), 20);
    pl_peer__drop(h->net, e);
    e = take(h, "203.0.113.7");
    assert_int_equal(handshakes(h, e), 0);
    pl_peer__drop(h->net, e);
    h->net->now_ms += 9000;
    pl_peer__sweep(h->net);
    e = take(h, "203.0.113.7");
    assert_int_equal(handshakes(h, e), 18);
    h->net->now_ms += 20000;
    pl_peer__sweep(h->net); /* it is connected: it stays */
    assert_int_equal(h->net->peers.count, 1);
    pl_peer__drop(h->net, e);
    assert_int_equal(h->net->peers.count, 0);
}

static void so_many_addresses_are_remembered_and_no_more(void **state)
{
    enum {
        MANY = 65536 + 10
    };
    struct harness *h = *state;
    char ip[32];

    h->cfg.limits_handshakes_per_ip = 2;
    harness_start(h);
    for (int i = 0; i < MANY; i++) {
        struct pl_peer_entry *e;

        (void)snprintf(ip, sizeof(ip), "203.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        e = take(h, ip);
        assert_true(pl_peer__take_handshake(h->net, e));
        pl_peer__drop(h->net, e);
    }
    assert_int_equal(h->net->peers.count, 65536);
    h->net->now_ms += 1000;
    pl_peer__sweep(h->net);
    assert_int_equal(h->net->peers.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_trusted_proxy_names_the_client_of_a_connection),
        TEST(a_proxy_that_speaks_for_itself_is_the_client),
        TEST(a_trusted_proxy_must_send_the_header),
        TEST(from_others_the_header_is_a_bad_request),
        TEST(the_limit_per_address_is_the_client_s),
        TEST(a_flood_behind_a_proxy_is_just_closed),
        TEST(a_trusted_proxy_names_the_client_of_a_request),
        TEST(what_others_say_of_a_client_is_ignored),
        TEST(forwarded_requests_count_while_they_are_answered),
        TEST(a_forwarded_websocket_is_its_client_s),
        TEST(a_proxy_before_the_proxy_is_looked_through),
        TEST(the_internal_listener_hears_of_no_proxies),
        TEST(handshakes_of_an_address_have_a_rate),
        TEST(a_trusted_proxy_has_no_rate_of_handshakes),
        TEST(what_an_address_has_used_outlives_its_connections),
        TEST(so_many_addresses_are_remembered_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
