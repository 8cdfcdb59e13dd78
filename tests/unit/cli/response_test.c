#include "server/cli/response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"

/* Feeds in pieces of `step` bytes; the result of the last, and how many bytes were taken. */
static int feed(struct pl_cli_response *r, const char *text, size_t step, size_t *ret_taken)
{
    size_t len = strlen(text), used;
    int rc = PL_HTTP_MORE;

    *ret_taken = 0;
    for (size_t at = 0; rc == PL_HTTP_MORE && at < len; at += step) {
        rc = pl_cli_response_feed(r, text + at, len - at < step ? len - at : step, &used);
        *ret_taken += used;
    }
    return rc;
}

static void assert_body(const char *text, int status, const char *body, const char *rest)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        struct pl_cli_response r = {0};
        size_t taken;

        assert_int_equal(feed(&r, text, step, &taken), 0);
        assert_int_equal(r.status, status);
        assert_string_equal(pl_buf_cstr(&r.body), body);
        if (step == strlen(text)) {
            assert_string_equal(text + taken, rest);
        }
        pl_cli_response_done(&r);
    }
}

static void a_body_ends_with_its_length(void **state)
{
    (void)state;
    assert_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", 200, "hello", "HTTP");
    assert_body("HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, "", "");
    assert_body("HTTP/1.1 204 No Content\r\n\r\nx", 204, "", "x");
}

static void a_body_ends_with_its_last_chunk(void **state)
{
    (void)state;
    assert_body(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\nx",
        200, "hello", "x");
}

static void interim_answers_are_skipped(void **state)
{
    (void)state;
    assert_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200,
                "ok", "");
}

static void what_follows_a_101_is_not_touched(void **state)
{
    (void)state;
    assert_body("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x01x", 101, "",
                "\x81\x01x");
}

static void a_body_without_length_ends_with_the_connection(void **state)
{
    struct pl_cli_response r = {0};
    size_t taken;

    (void)state;
    assert_int_equal(feed(&r, "HTTP/1.0 200 OK\r\n\r\nhello", 7, &taken), PL_HTTP_MORE);
    assert_int_equal(pl_cli_response_end(&r), 0);
    assert_string_equal(pl_buf_cstr(&r.body), "hello");
    pl_cli_response_done(&r);
}

static void a_connection_that_ends_too_early_is_an_error(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    (void)state;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        struct pl_cli_response r = {0};
        size_t used;

        assert_int_equal(pl_cli_response_feed(&r, text, len, &used), PL_HTTP_MORE);
        assert_int_equal(pl_cli_response_end(&r), PL_ERR_PROTOCOL);
        pl_cli_response_done(&r);
    }
}

static void what_is_not_http_is_refused(void **state)
{
    static const char *const texts[] = {
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct pl_cli_response r = {0};
        size_t taken;

        assert_int_equal(feed(&r, texts[i], 1000, &taken), PL_ERR_PROTOCOL);
        pl_cli_response_done(&r);
    }
}

static void a_declared_length_beyond_the_limit_is_refused_at_once(void **state)
{
    struct pl_cli_response r = {0};
    size_t taken;

    (void)state;
    assert_int_equal(feed(&r, "HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\nx", 1000, &taken),
                     PL_ERR_TOO_BIG);
    pl_cli_response_done(&r);
}

static void a_head_without_end_is_refused(void **state)
{
    struct pl_cli_response r = {0};
    char junk[1000];
    size_t used, total = 0;
    int rc = PL_HTTP_MORE;

    (void)state;
    memset(junk, 'x', sizeof(junk));
    while (rc == PL_HTTP_MORE && total < 1000000) {
        rc = pl_cli_response_feed(&r, junk, sizeof(junk), &used);
        total += used;
    }
    assert_int_equal(rc, PL_ERR_TOO_BIG);
    assert_int_equal(total, 65536);
    pl_cli_response_done(&r);
}

static void headers_are_found_by_name_whatever_their_case(void **state)
{
    struct pl_cli_response r = {0};
    struct pl_str v;
    size_t taken;

    (void)state;
    feed(&r, "HTTP/1.1 503 X\r\nX-A:  b c \r\nRETRY-AFTER: 7\r\nContent-Length: 0\r\n\r\n", 1000,
         &taken);
    assert_true(pl_cli_response_header(&r, "x-a", &v));
    assert_true(pl_str_eq(v, PL_LIT("b c")));
    assert_false(pl_cli_response_header(&r, "x", &v));
    assert_false(pl_cli_response_header(&r, "content-type", &v));
    assert_int_equal(pl_cli_response_retry_after_ms(&r), 7000);
    assert_int_equal(pl_cli_response_codec(&r), PL_JSON);
    pl_cli_response_done(&r);
}

static void the_codec_is_told_by_the_content_type(void **state)
{
    static const struct {
        const char *type;
        enum pl_codec codec;
    } cases[] = {{"application/json", PL_JSON},
                 {"application/msgpack", PL_MSGPACK},
                 {"Application/vnd.msgpack; x=y", PL_MSGPACK},
                 {"text/plain", PL_JSON}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pl_cli_response r = {0};
        char text[256];
        size_t taken;

        snprintf(text, sizeof(text),
                 "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: 0\r\n\r\n", cases[i].type);
        feed(&r, text, 1000, &taken);
        assert_int_equal(pl_cli_response_codec(&r), cases[i].codec);
        assert_int_equal(pl_cli_response_retry_after_ms(&r), -1);
        pl_cli_response_done(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_ends_with_its_length),
        cmocka_unit_test(a_body_ends_with_its_last_chunk),
        cmocka_unit_test(interim_answers_are_skipped),
        cmocka_unit_test(what_follows_a_101_is_not_touched),
        cmocka_unit_test(a_body_without_length_ends_with_the_connection),
        cmocka_unit_test(a_connection_that_ends_too_early_is_an_error),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(a_declared_length_beyond_the_limit_is_refused_at_once),
        cmocka_unit_test(a_head_without_end_is_refused),
        cmocka_unit_test(headers_are_found_by_name_whatever_their_case),
        cmocka_unit_test(the_codec_is_told_by_the_content_type),
    };

    return cmocka_run_group_tests_name("cli/response", tests, NULL, NULL);
}
