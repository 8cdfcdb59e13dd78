#include "server/net/net.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "server/base/metrics.h"

static const char offer[] = "permessage-deflate; client_max_window_bits";
enum {
    FRAME = 1000000
};

/* Sends a frame of len bytes; false when there is a backlog. */
static bool push(struct harness *h, size_t len)
{
    struct pl_buf out = {0};
    struct pl_frame *f;
    bool taken;

    pl_buf_reserve(&out, len);
    memset(out.data, '7', len);
    out.len = len;
    f = pl_frame_new(PL_JSON, &out);
    taken = pl_ws_send(h->ws, f);
    pl_frame_unref(f);
    return taken;
}

/* Fills the socket of a client that does not read; returns the bytes that were taken. */
static size_t fill(struct harness *h)
{
    size_t taken = 0;

    while (push(h, FRAME)) {
        taken += FRAME + 10;
    }
    return taken;
}

static void messages_go_both_ways(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    assert_non_null(strstr(harness_read_text(h, fd, "\r\n\r\n"), "101 Switching"));
    assert_false(pl_ws_compresses(h->ws));
    harness_send_frame(fd, 0x81, "hello", 5);
    assert_memory_equal(harness_read(h, fd, 7), "\x81\x05hello", 7);
    assert_true(h->last_was_text);
    harness_send_frame(fd, 0x82, "\x01", 1);
    harness_read(h, fd, 3);
    assert_false(h->last_was_text);
    assert_int_equal(pl_metric_values[PL_S_CONN_WEBSOCKET], 1);
    close(fd);
    harness_until(h, &h->ws_closed, 1);
    assert_int_equal(pl_metric_values[PL_S_CONN_WEBSOCKET], 0);
}

static void frames_are_compressed_where_negotiated(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, offer);
    answer = harness_read_text(h, fd, "\r\n\r\n");
    assert_non_null(strstr(
        answer, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                "client_no_context_takeover\r\n"));
    assert_true(pl_ws_compresses(h->ws));
    assert_true(push(h, 63));
    assert_memory_equal(harness_read(h, fd, 65), "\x81\x3f", 2);
    assert_true(push(h, 1000));
    answer = harness_read(h, fd, 2);
    assert_int_equal((uint8_t)answer[0], 0xc1);
    assert_true((uint8_t)answer[1] < 40);
    close(fd);
}

static void the_client_s_code_is_told_and_sent_back(void **state)
{
    static const struct {
        const char *payload;
        size_t len;
        int code;
    } cases[] = {
        {"\x03\xe8", 2, 1000}, {"\x03\xe9going", 7, 1001}, {"", 0, 1005}, {"\x11\x30", 2, 4400}};
    struct harness *h = *state;

    harness_start(h);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = harness_websocket(h, NULL);
        size_t len;
        const char *got;

        harness_read_text(h, fd, "\r\n\r\n");
        harness_send_frame(fd, 0x88, cases[i].payload, cases[i].len);
        got = harness_read_all(h, fd, &len);
        assert_int_equal(len, 2 + cases[i].len);
        assert_memory_equal(got + 2, cases[i].payload, cases[i].len);
        assert_int_equal(h->ws_closed, i + 1);
        assert_int_equal(h->close_code, cases[i].code);
        assert_true(h->close_by_peer);
        close(fd);
    }
}

static void a_client_that_vanishes_is_1006(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    close(fd);
    harness_until(h, &h->ws_closed, 1);
    assert_int_equal(h->close_code, 1006);
    assert_true(h->close_by_peer);
}

static void the_server_s_close_waits_for_the_client_s(void **state)
{
    struct harness *h = *state;
    uint64_t counted;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    counted = pl_metric_values[PL_S_CLOSE_4404];
    harness_read_text(h, fd, "\r\n\r\n");
    harness_send_frame(fd, 0x81, "close now", 9);
    assert_memory_equal(harness_read(h, fd, 19), "\x88\x11\x11\x34queue_not_found", 19);
    assert_int_equal(h->ws_closed, 0);
    harness_send_frame(fd, 0x81, "ignored", 7);
    harness_send_frame(fd, 0x88, "\x11\x34", 2);
    harness_until(h, &h->ws_closed, 1);
    assert_int_equal(h->close_code, 4404);
    assert_false(h->close_by_peer);
    assert_int_equal(h->ws_messages, 1);
    assert_int_equal(pl_metric_values[PL_S_CLOSE_4404], counted + 1);
    close(fd);
}

static void sends_after_close_are_dropped(void **state)
{
    struct harness *h = *state;
    size_t len;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    harness_read_text(h, fd, "\r\n\r\n");
    pl_ws_close(h->ws, 1012, "");
    assert_true(push(h, 10));
    pl_ws_close(h->ws, 4400, "again");
    harness_send_frame(fd, 0x88, "", 0);
    assert_memory_equal(harness_read_all(h, fd, &len), "\x88\x02\x03\xf4", 4);
    assert_int_equal(len, 4);
    assert_int_equal(h->close_code, 1012);
    close(fd);
}

static void a_peer_that_does_not_close_in_turn_is_cut(void **state)
{
    struct harness *h = *state;
    int fds[2];

    harness_start(h);
    for (int i = 0; i < 2; i++) {
        fds[i] = harness_websocket(h, NULL);
        harness_read_text(h, fds[i], "\r\n\r\n");
        if (i == 1) {
            fill(h);
        }
        pl_ws_close(h->ws, 4408, "heartbeat");
    }
    /* Five seconds pass at once. */
    pl_wheel_advance(&h->wheel, h->net->now_ms + 4900);
    harness_turn(h, -1);
    assert_int_equal(h->ws_closed, 0);
    pl_wheel_advance(&h->wheel, h->net->now_ms + 5100);
    harness_until(h, &h->ws_closed, 2);
    assert_int_equal(h->close_code, 4408);
    assert_false(h->close_by_peer);
    close(fds[0]);
    close(fds[1]);
}

static void a_backlog_refuses_frames_until_writable(void **state)
{
    struct harness *h = *state;
    size_t taken;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    harness_read_text(h, fd, "\r\n\r\n");
    taken = fill(h);
    assert_true(taken > 0);
    assert_false(push(h, 5));
    assert_int_equal(h->ws_writables, 0);
    harness_read(h, fd, taken);
    harness_until(h, &h->ws_writables, 1);
    assert_true(push(h, 5));
    assert_memory_equal(harness_read(h, fd, 7),
                        "\x81\x05"
                        "77777",
                        7);
    assert_int_equal(h->ws_writables, 1);
    close(fd);
    harness_until(h, &h->ws_closed, 1);
}

static void what_was_left_behind_goes_out_before_the_close(void **state)
{
    static const uint8_t begin[] = {0x81, 0x7f, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, '7'};
    struct harness *h = *state;
    const char *got;
    size_t taken;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, NULL);
    harness_read_text(h, fd, "\r\n\r\n");
    taken = fill(h);
    pl_ws_close(h->ws, 1013, "overloaded");
    got = harness_read(h, fd, taken + 14);
    for (size_t at = 0; at < taken; at += FRAME + 10) {
        assert_memory_equal(got + at, begin, sizeof(begin));
    }
    assert_memory_equal(got + taken, "\x88\x0c\x03\xf5overloaded", 14);
    harness_send_frame(fd, 0x88, "", 0);
    harness_until(h, &h->ws_closed, 1);
    assert_int_equal(h->close_code, 1013);
    close(fd);
}

static void pings_are_answered_and_count_as_life(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, offer);
    harness_read_text(h, fd, "\r\n\r\n");
    harness_send_frame(fd, 0x89, "hb", 2);
    assert_memory_equal(harness_read(h, fd, 4), "\x8a\x02hb", 4);
    harness_until(h, &h->ws_pongs, 1);
    harness_send_frame(fd, 0x8a, "x", 1);
    harness_until(h, &h->ws_pongs, 2);
    assert_int_equal(h->ws_writables, 0);
    close(fd);
}

static void broken_framing_closes_1002(void **state)
{
    static const uint8_t cases[][16] = {
        {0x81 | 0x20, 0x80, 0, 0, 0, 0},      /* RSV2 */
        {0x83, 0x80, 0, 0, 0, 0},             /* unknown opcode */
        {0x80, 0x80, 0, 0, 0, 0},             /* continuation of nothing */
        {0x09, 0x80, 0, 0, 0, 0},             /* fragmented ping */
        {0x01, 0x80, 0, 0, 0, 0, 0x82, 0x80}, /* binary inside a fragmented text */
        {0x01, 0x80, 0, 0, 0, 0, 0xc0, 0x80}, /* RSV1 on a continuation */
        {0xca, 0x81, 0, 0, 0, 0, 'x'},        /* RSV1 on a pong */
    };
    static const uint8_t zeros[8];
    struct harness *h = *state;

    harness_start(h);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = harness_websocket(h, offer);
        const char *got;

        harness_read_text(h, fd, "\r\n\r\n");
        harness_send(fd, cases[i], sizeof(cases[i]));
        harness_send(fd, zeros, sizeof(zeros));
        got = harness_read(h, fd, 4);
        assert_int_equal((uint8_t)got[0], 0x88);
        assert_memory_equal(got + 2, "\x03\xea", 2);
        harness_send_frame(fd, 0x88, "\x03\xea", 2);
        harness_until(h, &h->ws_closed, (int)i + 1);
        assert_int_equal(h->close_code, 1002);
        assert_false(h->close_by_peer);
        close(fd);
    }
    assert_int_equal(h->ws_messages, 0);
}

static void thousands_of_websockets_come_and_go(void **state)
{
    struct harness *h = *state;

    harness_start(h);
    for (int round = 0; round < 10; round++) {
        int fds[100];

        for (int i = 0; i < 100; i++) {
            fds[i] = harness_websocket(h, i % 2 ? offer : NULL);
            harness_send_frame(fds[i], 0x01, "part of a message", 17);
        }
        for (int i = 0; i < 100; i++) {
            close(fds[i]);
        }
        harness_until(h, &h->ws_closed, (round + 1) * 100);
    }
    assert_int_equal(h->net->peers.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_go_both_ways),
        TEST(frames_are_compressed_where_negotiated),
        TEST(the_client_s_code_is_told_and_sent_back),
        TEST(a_client_that_vanishes_is_1006),
        TEST(the_server_s_close_waits_for_the_client_s),
        TEST(sends_after_close_are_dropped),
        TEST(a_peer_that_does_not_close_in_turn_is_cut),
        TEST(a_backlog_refuses_frames_until_writable),
        TEST(what_was_left_behind_goes_out_before_the_close),
        TEST(pings_are_answered_and_count_as_life),
        TEST(broken_framing_closes_1002),
        TEST(thousands_of_websockets_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
