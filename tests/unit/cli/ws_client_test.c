#include "server/cli/ws_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

/* The server's end is a socket pair's other side: no port, and what was written is there to be
 * read at once. */
static struct pl_cli_ws ws;
static int server_fd;
static struct pl_cli_ws_event event;

static int open_pair(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ws = (struct pl_cli_ws){.fd = fds[0]};
    server_fd = fds[1];
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pl_cli_ws_done(&ws);
    close(server_fd);
    return 0;
}

static void server_sends(const char *bytes, size_t len)
{
    assert_int_equal(write(server_fd, bytes, len), len);
}

static enum pl_cli_ws_event_type next(void)
{
    pl_cli_ws_next(&ws, 0, &event);
    return event.type;
}

/* The one short frame the client sent, unmasked. */
static void assert_server_gets(uint8_t opcode, const char *payload, size_t len)
{
    uint8_t bytes[200];
    ssize_t n = read(server_fd, bytes, sizeof(bytes));

    assert_int_equal(n, 6 + len);
    assert_int_equal(bytes[0], 0x80 | opcode);
    assert_int_equal(bytes[1], 0x80 | len);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal((char)(bytes[6 + i] ^ bytes[2 + i % 4]), payload[i]);
    }
}

static void messages_come_one_by_one_and_then_nothing(void **state)
{
    (void)state;
    server_sends("\x81\x02hi\x82\x03you", 9);
    assert_int_equal(next(), PL_CLI_WS_GOT_MESSAGE);
    assert_true(event.text);
    assert_true(pl_str_eq(event.data, PL_LIT("hi")));
    assert_int_equal(next(), PL_CLI_WS_GOT_MESSAGE);
    assert_false(event.text);
    assert_true(pl_str_eq(event.data, PL_LIT("you")));
    assert_int_equal(next(), PL_CLI_WS_GOT_NOTHING);
}

static void a_message_that_drips_in_is_whole_in_the_end(void **state)
{
    static const char bytes[] = "\x01\x02he\x80\x03llo";

    (void)state;
    for (size_t i = 0; i < sizeof(bytes) - 2; i++) {
        server_sends(bytes + i, 1);
        assert_int_equal(next(), PL_CLI_WS_GOT_NOTHING);
    }
    server_sends(bytes + sizeof(bytes) - 2, 1);
    assert_int_equal(next(), PL_CLI_WS_GOT_MESSAGE);
    assert_true(event.text);
    assert_true(pl_str_eq(event.data, PL_LIT("hello")));
}

static void a_ping_between_the_pieces_is_answered_with_its_payload(void **state)
{
    (void)state;
    server_sends("\x01\x01"
                 "a\x89\x02pp\x80\x01z",
                 10);
    assert_int_equal(next(), PL_CLI_WS_GOT_CONTROL);
    assert_server_gets(PL_CLI_WS_PONG, "pp", 2);
    assert_int_equal(next(), PL_CLI_WS_GOT_MESSAGE);
    assert_true(pl_str_eq(event.data, PL_LIT("az")));
}

static void a_close_comes_with_code_and_reason_and_is_echoed(void **state)
{
    (void)state;
    server_sends("\x88\x0a\x11\x39replaced", 12);
    assert_int_equal(next(), PL_CLI_WS_GOT_CLOSE);
    assert_int_equal(event.code, 4409);
    assert_string_equal(event.reason, "replaced");
    assert_server_gets(PL_CLI_WS_CLOSE, "\x11\x39", 2);
}

static void a_close_without_code_is_1005(void **state)
{
    (void)state;
    server_sends("\x88\x00", 2);
    assert_int_equal(next(), PL_CLI_WS_GOT_CLOSE);
    assert_int_equal(event.code, 1005);
    assert_server_gets(PL_CLI_WS_CLOSE, "", 0);
}

static void a_connection_that_ends_without_a_close_is_1006(void **state)
{
    (void)state;
    server_sends("\x81\x02h", 3);
    shutdown(server_fd, SHUT_WR);
    assert_int_equal(next(), PL_CLI_WS_GOT_CLOSE);
    assert_int_equal(event.code, 1006);
}

static void assert_broken_rule(const char *bytes, size_t len, const char *close_code)
{
    server_sends(bytes, len);
    assert_int_equal(next(), PL_CLI_WS_GOT_CLOSE);
    assert_server_gets(PL_CLI_WS_CLOSE, close_code, 2);
}

static void a_continuation_of_nothing_breaks_the_rules(void **state)
{
    (void)state;
    assert_broken_rule("\x80\x00", 2, "\x03\xea");
    assert_int_equal(event.code, 1002);
}

static void a_new_message_inside_another_breaks_the_rules(void **state)
{
    (void)state;
    assert_broken_rule("\x01\x01"
                       "a\x81\x01z",
                       6, "\x03\xea");
}

static void a_masked_frame_breaks_the_rules(void **state)
{
    (void)state;
    assert_broken_rule("\x81\x80\0\0\0\0", 6, "\x03\xea");
}

static void a_frame_beyond_the_limit_is_too_big(void **state)
{
    (void)state;
    assert_broken_rule("\x82\x7f\0\0\0\0\x7f\0\0\0", 10, "\x03\xf1");
    assert_int_equal(event.code, 1009);
}

static void what_is_sent_arrives_masked(void **state)
{
    (void)state;
    assert_true(pl_cli_ws_send(&ws, PL_CLI_WS_TEXT, "hello", 5));
    assert_server_gets(PL_CLI_WS_TEXT, "hello", 5);
}

static void closing_reads_on_until_the_server_has_closed_too(void **state)
{
    (void)state;
    server_sends("\x81\x02hi\x88\x02\x03\xe8", 8);
    pl_cli_ws_close(&ws, 1000, 0);
    assert_int_equal(ws.in.len - ws.taken, 0);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PAIR(messages_come_one_by_one_and_then_nothing),
        WITH_PAIR(a_message_that_drips_in_is_whole_in_the_end),
        WITH_PAIR(a_ping_between_the_pieces_is_answered_with_its_payload),
        WITH_PAIR(a_close_comes_with_code_and_reason_and_is_echoed),
        WITH_PAIR(a_close_without_code_is_1005),
        WITH_PAIR(a_connection_that_ends_without_a_close_is_1006),
        WITH_PAIR(a_continuation_of_nothing_breaks_the_rules),
        WITH_PAIR(a_new_message_inside_another_breaks_the_rules),
        WITH_PAIR(a_masked_frame_breaks_the_rules),
        WITH_PAIR(a_frame_beyond_the_limit_is_too_big),
        WITH_PAIR(what_is_sent_arrives_masked),
        WITH_PAIR(closing_reads_on_until_the_server_has_closed_too),
    };

    return cmocka_run_group_tests_name("cli/ws_client", tests, NULL, NULL);
}
