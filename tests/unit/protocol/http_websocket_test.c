#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/buf.h"
#include "tests/unit/protocol/http_helper.h"

#define LINE    "GET /realtime/ws HTTP/1.1\r\nHost: a\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define END     "\r\n"

static int handshake(const char *request, const char **ret_reason)
{
    struct pl_http_head h;

    parse_good(request, &h);
    return pl_http_websocket_handshake(&h, ret_reason);
}

static void browsers_handshakes_are_accepted(void **state)
{
    static const char *const good[] = {
        LINE UPGRADE VERSION KEY END,
        LINE "upgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n" VERSION KEY END,
        LINE
        "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" VERSION KEY END,
        LINE UPGRADE VERSION KEY
        "Content-Length: 0\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" END,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(handshake(good[i], NULL), PL_OK);
    }
}

static void other_requests_do_not_ask_for_one(void **state)
{
    static const char *const other[] = {
        LINE END,
        LINE VERSION KEY END,
        LINE "Connection: Upgrade\r\n" END,
        LINE "Upgrade: h2c\r\nConnection: Upgrade\r\n" END,
        LINE "Upgrade: websocket2\r\nConnection: Upgrade\r\n" END,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        assert_int_equal(handshake(other[i], NULL), PL_HTTP_MORE);
    }
}

static void tricks_are_refused_with_a_reason(void **state)
{
    static const char *const wrong[] = {
        /* method, version, Host, body */
        "POST / HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION KEY END,
        "HEAD / HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION KEY END,
        "GET / HTTP/1.0\r\nHost: a\r\n" UPGRADE VERSION KEY END,
        "GET / HTTP/1.0\r\n" UPGRADE VERSION KEY END,
        LINE UPGRADE VERSION KEY "Content-Length: 1\r\n" END,
        LINE UPGRADE VERSION KEY "Transfer-Encoding: chunked\r\n" END,
        /* Upgrade and Connection */
        LINE "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n" VERSION KEY END,
        LINE "Upgrade: h2c\r\n" UPGRADE VERSION KEY END,
        LINE "Upgrade: websocket\r\n" UPGRADE VERSION KEY END,
        LINE "Upgrade: websocket,\r\nConnection: Upgrade\r\n" VERSION KEY END,
        LINE "Upgrade: websocket\r\n" VERSION KEY END,
        LINE "Upgrade: websocket\r\nConnection: close\r\n" VERSION KEY END,
        LINE "Upgrade: websocket\r\nConnection: upgrades\r\n" VERSION KEY END,
        /* version */
        LINE UPGRADE KEY END,
        LINE UPGRADE "Sec-WebSocket-Version: 8\r\n" KEY END,
        LINE UPGRADE "Sec-WebSocket-Version: 130\r\n" KEY END,
        LINE UPGRADE "Sec-WebSocket-Version: 13, 8\r\n" KEY END,
        LINE UPGRADE VERSION VERSION KEY END,
        /* key */
        LINE UPGRADE VERSION END,
        LINE UPGRADE VERSION KEY KEY END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key:\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQaa\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSB_b25jZQ==\r\n" END,
        LINE UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\r\n" END,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *reason = NULL;

        if (handshake(wrong[i], &reason) != PL_ERR_PROTOCOL) {
            print_error("accepted: %s\n", wrong[i]);
            fail();
        }
        assert_non_null(reason);
        assert_int_equal(handshake(wrong[i], NULL), PL_ERR_PROTOCOL);
    }
}

static int with_extensions(size_t headers, size_t len_each)
{
    struct pl_buf request = {0};
    int err;

    pl_buf_append_str(&request, LINE UPGRADE VERSION KEY);
    for (size_t i = 0; i < headers; i++) {
        pl_buf_append_str(&request, "Sec-WebSocket-Extensions: ");
        for (size_t n = 0; n < len_each; n++) {
            pl_buf_append_byte(&request, 'x');
        }
        pl_buf_append_str(&request, "\r\n");
    }
    pl_buf_append_str(&request, END);
    err = handshake(pl_buf_cstr(&request), NULL);
    pl_buf_done(&request);
    return err;
}

static void extension_offers_that_libwebsockets_dies_on_are_refused(void **state)
{
    (void)state;
    assert_int_equal(with_extensions(1, 255), PL_OK);
    assert_int_equal(with_extensions(1, 256), PL_ERR_PROTOCOL);
    assert_int_equal(with_extensions(2, 127), PL_OK);
    assert_int_equal(with_extensions(2, 128), PL_ERR_PROTOCOL);
    assert_int_equal(with_extensions(3, 84), PL_OK);
    assert_int_equal(with_extensions(3, 85), PL_ERR_PROTOCOL); /* the commas count */
    assert_int_equal(with_extensions(4, 10), PL_OK);
    assert_int_equal(with_extensions(5, 10), PL_ERR_PROTOCOL);
}

struct subprotocol {
    int err;
    enum pl_codec codec;
    const char *name;
    char token[64];
};

static struct subprotocol choose(const char *headers)
{
    struct subprotocol s = {.codec = PL_CODEC_COUNT};
    struct pl_buf request = {0};
    struct pl_str token = {0};
    struct pl_http_head h;

    pl_buf_printf(&request, LINE "%s" END, headers);
    parse_good(pl_buf_cstr(&request), &h);
    s.err = pl_http_websocket_subprotocol(&h, &s.codec, &s.name, &token);
    assert_true(token.len < sizeof(s.token));
    memcpy(s.token, token.len > 0 ? token.s : "", token.len);
    pl_buf_done(&request);
    return s;
}

static void assert_chosen(const char *headers, enum pl_codec codec, const char *name,
                          const char *token)
{
    const struct subprotocol s = choose(headers);

    assert_int_equal(s.err, PL_OK);
    assert_int_equal(s.codec, codec);
    assert_string_equal(s.name, name);
    assert_string_equal(s.token, token);
}

#define OFFER "Sec-WebSocket-Protocol: "

static void the_clients_first_known_subprotocol_is_chosen(void **state)
{
    (void)state;
    assert_chosen(OFFER "parley.v1.json\r\n", PL_JSON, "parley.v1.json", "");
    assert_chosen(OFFER "parley.v1.msgpack, parley.v1.json\r\n", PL_MSGPACK, "parley.v1.msgpack",
                  "");
    assert_chosen(OFFER "parley.v1.json,parley.v1.msgpack\r\n", PL_JSON, "parley.v1.json", "");
    assert_chosen(OFFER "parley.v9.json\r\n" OFFER "chat, parley.v1.msgpack\r\n", PL_MSGPACK,
                  "parley.v1.msgpack", "");
}

static void none_offered_means_json(void **state)
{
    (void)state;
    assert_chosen("", PL_JSON, "", "");
    assert_chosen(OFFER "\r\n", PL_JSON, "", "");
    assert_chosen(OFFER "bearer.a.b.c\r\n", PL_JSON, "", "a.b.c");
}

static void only_unknown_ones_are_refused(void **state)
{
    (void)state;
    assert_int_equal(choose(OFFER "chat\r\n").err, PL_ERR_PROTOCOL);
    assert_int_equal(choose(OFFER "PARLEY.V1.JSON\r\n").err, PL_ERR_PROTOCOL);
    assert_int_equal(choose(OFFER "parley.v1.jso\r\n").err, PL_ERR_PROTOCOL);
    assert_int_equal(choose(OFFER "chat, bearer.x\r\n").err, PL_ERR_PROTOCOL);
}

static void the_first_bearer_is_the_token_and_never_chosen(void **state)
{
    (void)state;
    assert_chosen(OFFER "bearer.one, parley.v1.json, bearer.two\r\n", PL_JSON, "parley.v1.json",
                  "one");
    assert_chosen(OFFER "parley.v1.msgpack\r\n" OFFER "bearer.x.y\r\n", PL_MSGPACK,
                  "parley.v1.msgpack", "x.y");
    assert_chosen(OFFER "parley.v1.json, bearer.\r\n", PL_JSON, "parley.v1.json", "");
    assert_chosen(OFFER "bearer.parley.v1.json\r\n", PL_JSON, "", "parley.v1.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(browsers_handshakes_are_accepted),
        cmocka_unit_test(other_requests_do_not_ask_for_one),
        cmocka_unit_test(tricks_are_refused_with_a_reason),
        cmocka_unit_test(extension_offers_that_libwebsockets_dies_on_are_refused),
        cmocka_unit_test(the_clients_first_known_subprotocol_is_chosen),
        cmocka_unit_test(none_offered_means_json),
        cmocka_unit_test(only_unknown_ones_are_refused),
        cmocka_unit_test(the_first_bearer_is_the_token_and_never_chosen),
    };

    return cmocka_run_group_tests_name("protocol/http_websocket", tests, NULL, NULL);
}
