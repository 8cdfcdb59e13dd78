#include "protocol/proxy_header.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "tests/unit/protocol/http_helper.h"

#define V2(rest)   "\r\n\r\n\0\r\nQUIT\n" rest
#define V4_TO_HERE "\xcb\x00\x71\x07\x0a\x00\x00\x01\xde\xad\x01\xbb" /* 203.0.113.7 */
#define V6_FROM    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
#define V6_TO_HERE V6_FROM V6_FROM "\xde\xad\x01\xbb"
#define BYTES(text)            \
    {                          \
        text, sizeof(text) - 1 \
    }

struct bytes {
    const char *at;
    size_t len;
};

static int parse(const char *at, size_t len, struct pl_proxy_header *ret)
{
    char *copy = exact_copy(at, len);
    const char *reason = NULL;
    const int status = pl_proxy_header_parse(copy, len, ret, &reason);

    assert_int_equal(status < 0, reason != NULL);
    free(copy);
    return status;
}

/* Every beginning of a good header wants more, and what follows it is left alone. */
static void expect(struct bytes b, enum pl_proxy_command command, const char *client)
{
    struct pl_proxy_header h = {0};
    char text[PL_ADDRESS_TEXT] = "";
    char more[1024];

    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(parse(b.at, len, &h), PL_PROXY_MORE);
    }
    memcpy(more, b.at, b.len);
    memcpy(more + b.len, "GET / HTTP/1.1\r\n", 16);
    assert_int_equal(parse(more, b.len + 16, &h), PL_OK);
    assert_int_equal(h.size, b.len);
    assert_int_equal(h.command, command);
    if (command == PL_PROXY_CLIENT) {
        pl_address_text(&h.client, text);
    }
    assert_string_equal(text, client);
}

static void version_1_tells_the_source(void **state)
{
    (void)state;
    expect((struct bytes)BYTES("PROXY TCP4 203.0.113.7 10.0.0.1 57005 443\r\n"), PL_PROXY_CLIENT,
           "203.0.113.7");
    expect((struct bytes)BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
           PL_PROXY_CLIENT, "255.255.255.255");
    expect((struct bytes)BYTES("PROXY TCP6 2001:db8::7 2001:db8::1 0 443\r\n"), PL_PROXY_CLIENT,
           "2001:db8::7");
    expect((struct bytes)BYTES("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n"), PL_PROXY_CLIENT,
           "203.0.113.7");
}

static void version_2_tells_the_source(void **state)
{
    (void)state;
    expect((struct bytes)BYTES(V2("\x21\x11\0\x0c") V4_TO_HERE), PL_PROXY_CLIENT, "203.0.113.7");
    expect((struct bytes)BYTES(V2("\x21\x21\0\x24") V6_TO_HERE), PL_PROXY_CLIENT, "2001:db8::7");
    expect((struct bytes)BYTES(V2("\x21\x12\0\x0c") V4_TO_HERE), PL_PROXY_CLIENT, "203.0.113.7");
    /* With a TLV behind the addresses. */
    expect((struct bytes)BYTES(V2("\x21\x11\0\x12") V4_TO_HERE "\x01\0\x03h2!"), PL_PROXY_CLIENT,
           "203.0.113.7");
}

static void a_proxy_may_speak_for_itself(void **state)
{
    static const char unix_head[] = V2("\x21\x31\0\xd8");
    char unix_socket[16 + 216] = {0};

    (void)state;
    expect((struct bytes)BYTES("PROXY UNKNOWN\r\n"), PL_PROXY_LOCAL, "");
    expect((struct bytes)BYTES("PROXY UNKNOWN what ever 1 2\r\n"), PL_PROXY_LOCAL, "");
    expect((struct bytes)BYTES(V2("\x20\0\0\0")), PL_PROXY_LOCAL, "");
    expect((struct bytes)BYTES(V2("\x20\x11\0\x0c") V4_TO_HERE), PL_PROXY_LOCAL, "");
    expect((struct bytes)BYTES(V2("\x20\x11\0\0")), PL_PROXY_LOCAL, "");
    expect((struct bytes)BYTES(V2("\x21\0\0\0")), PL_PROXY_LOCAL, "");
    memcpy(unix_socket, unix_head, 16);
    expect((struct bytes){unix_socket, sizeof(unix_socket)}, PL_PROXY_LOCAL, "");
}

static void what_is_no_header_is_an_error(void **state)
{
    static const struct bytes bad[] = {
        BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        BYTES("PROXYX"),
        BYTES("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
        BYTES("PROXY \r\n"),
        BYTES("PROXY TCP4\r\n"),
        BYTES("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"),
        BYTES("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n"),
        BYTES("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"),
        BYTES("PROXY TCP4 ::1 ::1 1 2\r\n"),
        BYTES("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"),
        BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX"),
        BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"),
        BYTES("PROXY UNKNOWN\n\r\n"),
        BYTES("\r\n\r\n\0\r\nQUIX"),
        BYTES("\r\nGET / HTTP/1.1\r\n"),
        BYTES(V2("\x11\x11\0\x0c") V4_TO_HERE),
        BYTES(V2("\x22\x11\0\x0c") V4_TO_HERE),
        BYTES(V2("\x21\x13\0\x0c") V4_TO_HERE),
        BYTES(V2("\x21\x41\0\x0c") V4_TO_HERE),
        BYTES(V2("\x21\x11\0\x0b") V4_TO_HERE),
        BYTES(V2("\x21\x21\0\x0c") V4_TO_HERE),
        BYTES(V2("\x21\x11\xff\xff")),
        BYTES(V2("\x20\0\x10\0")),
    };
    struct pl_proxy_header h;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        size_t found = 0;

        /* It stays one from the byte on that shows it. */
        for (size_t len = 1; len <= bad[i].len; len++) {
            const int status = parse(bad[i].at, len, &h);

            assert_true(found ? status == PL_ERR_PROTOCOL : status != PL_OK);
            found = status == PL_ERR_PROTOCOL && !found ? len : found;
        }
        if (!found) {
            print_error("not refused: %zu\n", i);
            fail();
        }
    }
}

static void a_header_without_end_is_cut(void **state)
{
    char line[200] = "PROXY UNKNOWN ";
    struct pl_proxy_header h;

    (void)state;
    memset(line + 14, 'x', sizeof(line) - 14);
    assert_int_equal(parse(line, PL_PROXY_MAX_V1 - 2, &h), PL_PROXY_MORE);
    assert_int_equal(parse(line, sizeof(line), &h), PL_ERR_PROTOCOL);
    memcpy(line + PL_PROXY_MAX_V1 - 2, "\r\n", 2);
    assert_int_equal(parse(line, sizeof(line), &h), PL_OK);
    assert_int_equal(h.size, PL_PROXY_MAX_V1);
    line[PL_PROXY_MAX_V1 - 2] = 'x';
    memcpy(line + PL_PROXY_MAX_V1 - 1, "\r\n", 2);
    assert_int_equal(parse(line, sizeof(line), &h), PL_ERR_PROTOCOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_tells_the_source),
        cmocka_unit_test(version_2_tells_the_source),
        cmocka_unit_test(a_proxy_may_speak_for_itself),
        cmocka_unit_test(what_is_no_header_is_an_error),
        cmocka_unit_test(a_header_without_end_is_cut),
    };

    return cmocka_run_group_tests_name("protocol/proxy_header", tests, NULL, NULL);
}
