#include "server/net/net.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#define ASK(path)                                                            \
    "GET " path " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: " \
    "Upgrade\r\nSec-WebSocket-Version: 13\r\n"                               \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

/* From the first byte of a handshake to the bytes behind it: one segment. */
static void send_with_frames(int fd, const char *head, int frames)
{
    uint8_t bytes[4096];
    size_t len = strlen(head);

    memcpy(bytes, head, len);
    for (int i = 0; i < frames; i++) {
        len += harness_frame(bytes + len, 0x81, "early", 5);
    }
    harness_send(fd, bytes, len);
}

static void the_answer_proves_the_key(void **state)
{
    struct harness *h = *state;
    const char *answer;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, harness_handshake);
    answer = harness_read_text(h, fd, "\r\n\r\n");
    assert_int_equal(strncmp(answer, "HTTP/1.1 101 ", 13), 0);
    assert_non_null(strstr(answer, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_null(strstr(answer, "Sec-WebSocket-Protocol"));
    assert_null(strstr(answer, "Sec-WebSocket-Extensions"));
    assert_int_equal(h->net->http_count, 0);
    assert_int_equal(h->net->ws_count, 1);
    close(fd);
}

static void frames_right_behind_the_handshake_are_kept(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    send_with_frames(fd, harness_handshake, 3);
    harness_read_text(h, fd,
                      "\x81\x05"
                      "early\x81\x05"
                      "early\x81\x05"
                      "early");
    assert_int_equal(h->ws_messages, 3);
    close(fd);
}

static void more_bytes_behind_it_than_one_read_takes_are_kept(void **state)
{
    struct harness *h = *state;
    int fd;

    h->mute = true;
    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, ASK("/ws-later") "\r\n");
    for (int i = 0; i < 40; i++) {
        send_with_frames(fd, "", 50);
    }
    while (!h->upgrading) {
        harness_turn(h, -1);
    }
    for (int i = 0; i < 20; i++) {
        harness_turn(h, -1); /* they wait in the connection */
    }
    harness_accept(h);
    harness_until(h, &h->ws_messages, 2000);
    close(fd);
}

static void it_comes_after_other_requests_and_by_the_byte(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    harness_read_text(h, fd, "/echo ");
    for (const char *p = harness_handshake; *p; p++) {
        harness_send(fd, p, 1);
        harness_turn(h, -1);
    }
    harness_send_frame(fd, 0x81, "now", 3);
    harness_read_text(h, fd, "\x81\x03now");
    close(fd);
}

static void the_subprotocol_is_the_chosen_one(void **state)
{
    static const char *const names[] = {"parley.v1.json", "parley.v1.msgpack"};
    struct harness *h = *state;

    harness_start(h);
    for (int i = 0; i < 2; i++) {
        char expected[100] = "\r\nSec-WebSocket-Protocol: ";
        int fd = harness_connect(h);

        harness_send_str(fd, ASK("/ws") "Sec-WebSocket-Protocol: bearer.abc, other, ");
        harness_send_str(fd, names[i]);
        harness_send_str(fd, ", parley.v1.json\r\n\r\n");
        strcat(strcat(expected, names[i]), "\r\n");
        assert_non_null(strstr(harness_read_text(h, fd, "\r\n\r\n"), expected));
        close(fd);
    }
}

static void an_upgrade_can_be_answered_as_http(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, ASK("/ws-no") "\r\nGET /bye HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(harness_read_all(h, fd, NULL), "/bye "));
    assert_int_equal(h->ws_opened, 0);
    close(fd);
}

static void a_client_gone_before_the_answer_is_closed_as_http(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, ASK("/ws-later") "\r\n");
    while (!h->upgrading) {
        harness_turn(h, -1);
    }
    close(fd);
    harness_until(h, &h->gone, 1);
    assert_int_equal(h->ws_failed, 0);
}

static void a_client_gone_right_after_the_answer_opens_and_closes(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_connect(h);
    harness_send_str(fd, ASK("/ws-later") "\r\n");
    while (!h->upgrading) {
        harness_turn(h, -1);
    }
    harness_accept(h);
    close(fd);
    while (h->ws_failed + h->ws_closed == 0) {
        harness_turn(h, -1);
    }
    assert_int_equal(h->ws_opened, h->ws_closed);
    assert_int_equal(h->ws_opened + h->ws_failed, 1);
    assert_int_equal(h->gone, 0);
}

static void what_libwebsockets_refuses_is_told(void **state)
{
    struct harness *h = *state;
    struct pl_handshake hs = {.key = "AAAAAAAAAAAAAAAAAAAAAA==", .protocol = "", .user = h};
    static const char *const heads[] = {
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\n\r\n", /* no key */
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\n", /* not whole */
        "\x01\x02\x03\r\n\r\n",
    };

    harness_start(h);
    for (int i = 0; i < 3; i++) {
        int fd = harness_connect(h);
        struct pl_http_conn *c;
        struct pl_buf head = {0};

        harness_send_str(fd, ASK("/ws-later") "\r\n");
        while (!h->upgrading) {
            harness_turn(h, -1);
        }
        c = h->upgrading;
        pl_buf_append_str(&head, heads[i]);
        c->peer->connections++;
        h->net->main_connections++;
        pl_ws__adopt(h->net, dup(c->fd), c->peer, &hs, &head);
        pl_buf_done(&head);
        assert_int_equal(h->ws_failed, i + 1);
        close(fd);
        harness_until(h, &h->gone, i + 1);
    }
    assert_int_equal(h->ws_opened, 0);
    assert_int_equal(h->net->main_connections, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_answer_proves_the_key),
        TEST(frames_right_behind_the_handshake_are_kept),
        TEST(more_bytes_behind_it_than_one_read_takes_are_kept),
        TEST(it_comes_after_other_requests_and_by_the_byte),
        TEST(the_subprotocol_is_the_chosen_one),
        TEST(an_upgrade_can_be_answered_as_http),
        TEST(a_client_gone_before_the_answer_is_closed_as_http),
        TEST(a_client_gone_right_after_the_answer_opens_and_closes),
        TEST(what_libwebsockets_refuses_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
