#include "server/net/net.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

struct probe {
    struct pl_timer timer;
    struct harness *h;
    int fired, signalled;
};

static void on_probe(struct pl_timer *t)
{
    struct probe *p = pl_container_of(t, struct probe, timer);

    p->fired++;
    pl_net_stop(p->h->net, 0);
}

static void on_signal(void *arg, int signum)
{
    struct probe *p = arg;

    p->signalled = signum;
    pl_net_stop(p->h->net, 0);
}

static void the_loop_turns_the_wheel_until_it_is_stopped(void **state)
{
    struct harness *h = *state;
    struct probe p = {.h = h};

    harness_start(h);
    pl_timer_init(&p.timer, on_probe);
    pl_timer_set(&h->wheel, &p.timer, uv_now(&h->net->loop) + 20);
    pl_net_run(h->net);
    assert_int_equal(p.fired, 1);
    assert_true(h->ticks > 0);
    assert_true(h->turns > 0);
}

static void signals_arrive_on_the_loop(void **state)
{
    struct harness *h = *state;
    struct probe p = {.h = h};

    harness_start(h);
    pl_net_on_signal(h->net, SIGTERM, on_signal, &p);
    raise(SIGTERM);
    raise(SIGPIPE);
    pl_net_run(h->net);
    assert_int_equal(p.signalled, SIGTERM);
}

static void the_limit_of_files_fits_the_connections(void **state)
{
    struct harness *h = *state;
    struct rlimit rl;

    h->cfg.limits_connections = 100000;
    harness_start(h);
    getrlimit(RLIMIT_NOFILE, &rl);
    assert_true(rl.rlim_cur == rl.rlim_max || rl.rlim_cur >= 100000);
    assert_true(rl.rlim_cur <= 101000 || rl.rlim_max < 101000);
    assert_true(h->net->max_connections < rl.rlim_cur);
}

static void stopping_lets_answers_out_and_closes_the_idle(void **state)
{
    struct harness *h = *state;
    int idle, held;

    harness_start(h);
    idle = harness_connect(h);
    held = harness_connect(h);
    harness_send_str(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 1);
    pl_net_stop(h->net, 5000);
    assert_string_equal(harness_read_all(h, idle, NULL), "");
    assert_int_equal(h->gone, 0);
    harness_release(h);
    assert_non_null(strstr(harness_read_text(h, held, "released"), "\r\nConnection: close\r\n"));
    close(held);
    close(idle);
    pl_net_run(h->net);
    assert_int_equal(h->net->http_count, 0);
}

static bool is_refused(const struct harness *h)
{
    const char *port = strrchr(pl_net_address(h->net, PL_LISTENER_MAIN), ':') + 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int r;

    a.sin_port = htons((uint16_t)atoi(port));
    r = connect(fd, (struct sockaddr *)&a, sizeof(a));
    close(fd);
    return r != 0;
}

static void draining_serves_who_is_there_and_takes_nobody_else(void **state)
{
    struct harness *h = *state;
    int idle, ws, waiting;

    harness_start(h);
    idle = harness_connect(h);
    ws = harness_websocket(h, NULL);
    waiting = harness_connect(h); /* the kernel has it, nobody accepted it yet */
    pl_net_drain(h->net, false);
    harness_turn(h, -1);
    assert_int_equal(pl_net_clients(h->net), 3);
    assert_true(is_refused(h));
    harness_send_str(waiting, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(harness_read_all(h, waiting, NULL), "\r\nConnection: close\r\n"));
    harness_send_str(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(harness_read_all(h, idle, NULL), "\r\nConnection: close\r\n"));
    assert_int_equal(h->ws_closed, 0);
    close(waiting);
    close(idle);
    close(ws);
    while (pl_net_clients(h->net) > 0) {
        harness_turn(h, -1);
    }
}

static void who_is_idle_while_it_drains_is_let_go_after_a_while(void **state)
{
    struct harness *h = *state;
    int idle, held, fresh, ws;

    harness_start(h);
    fresh = harness_connect(h); /* its request may be on its way */
    idle = harness_connect(h);
    harness_send_str(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_read_text(h, idle, "\r\n\r\n");
    held = harness_connect(h);
    harness_send_str(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    ws = harness_websocket(h, NULL);
    harness_until(h, &h->requests, 2);
    pl_net_drain(h->net, false);
    pl_net_close_idle(h->net, 1000);
    harness_turn(h, -1);
    assert_int_equal(pl_net_clients(h->net), 4);
    h->net->now_ms += 1000; /* a second later */
    pl_net_close_idle(h->net, 1000);
    harness_turn(h, -1);
    assert_int_equal(pl_net_clients(h->net), 3);
    assert_string_equal(harness_read_all(h, idle, NULL), "");
    assert_int_equal(h->gone + h->ws_closed, 0);
    harness_release(h);
    harness_read_text(h, held, "released");
    close(fresh);
    close(held);
    close(idle);
    close(ws);
}

/* A loop that was held up runs its timers, and hears signals, before it reads. */
static void a_request_that_is_not_read_yet_is_served(struct harness *h, bool stops)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, request);
    harness_read_text(h, fd, "\r\n\r\n");
    harness_send_str(fd, request);
    if (stops) {
        pl_net_stop(h->net, 5000);
    } else {
        pl_net_drain(h->net, false);
        h->net->now_ms += 2000;
        pl_net_close_idle(h->net, 1000);
    }
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "\r\nConnection: close\r\n"));
    close(fd);
}

static void who_drains_serves_a_request_that_it_has_not_read_yet(void **state)
{
    a_request_that_is_not_read_yet_is_served(*state, false);
}

static void who_stops_serves_a_request_that_it_has_not_read_yet(void **state)
{
    a_request_that_is_not_read_yet_is_served(*state, true);
}

static void what_is_left_after_the_grace_is_closed(void **state)
{
    struct harness *h = *state;
    int held, ws;

    harness_start(h);
    held = harness_connect(h);
    harness_send_str(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 1);
    ws = harness_websocket(h, NULL);
    pl_net_stop(h->net, 50);
    pl_net_run(h->net);
    assert_int_equal(h->gone, 1);
    assert_int_equal(h->ws_closed, 1);
    assert_int_equal(h->net->http_count + h->net->ws_count, 0);
    close(held);
    close(ws);
}

static void stopping_says_1012_to_websockets_that_nobody_closed(void **state)
{
    static const char goodbye[] = "\x88\x0a\x03\xf4"
                                  "draining";
    struct harness *h = *state;
    int open, late;

    harness_start(h);
    late = harness_connect(h);
    harness_send_str(late, "GET /ws-later HTTP/1.1\r\n");
    harness_send_str(late, strchr(harness_handshake, '\n') + 1);
    while (!h->upgrading) {
        harness_turn(h, -1);
    }
    open = harness_websocket(h, NULL);
    harness_read_text(h, open, "\r\n\r\n");
    pl_net_stop(h->net, 5000);
    harness_accept(h);
    assert_memory_equal(harness_read(h, open, 12), goodbye, 12);
    assert_non_null(strstr(harness_read_text(h, late, "draining"), goodbye));
    harness_send_frame(open, 0x88, "", 0);
    harness_send_frame(late, 0x88, "", 0);
    pl_net_run(h->net);
    assert_int_equal(h->ws_closed, 2);
    assert_int_equal(h->close_code, 1012);
    assert_false(h->close_by_peer);
    close(open);
    close(late);
}

static void freeing_closes_whatever_is_open(void **state)
{
    struct harness *h = *state;
    int fds[4];

    harness_start(h);
    for (int i = 0; i < 4; i++) {
        fds[i] = i == 3 ? harness_websocket(h, NULL) : harness_connect(h);
    }
    harness_send_str(fds[0], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_send_str(fds[1], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    harness_send_str(fds[2], "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_until(h, &h->requests, 2);
    pl_net_free(h->net);
    h->net = NULL;
    assert_int_equal(h->gone, 1);
    assert_int_equal(h->ws_closed, 1);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_loop_turns_the_wheel_until_it_is_stopped),
        TEST(signals_arrive_on_the_loop),
        TEST(the_limit_of_files_fits_the_connections),
        TEST(stopping_lets_answers_out_and_closes_the_idle),
        TEST(what_is_left_after_the_grace_is_closed),
        TEST(draining_serves_who_is_there_and_takes_nobody_else),
        TEST(who_is_idle_while_it_drains_is_let_go_after_a_while),
        TEST(who_drains_serves_a_request_that_it_has_not_read_yet),
        TEST(who_stops_serves_a_request_that_it_has_not_read_yet),
        TEST(stopping_says_1012_to_websockets_that_nobody_closed),
        TEST(freeing_closes_whatever_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
