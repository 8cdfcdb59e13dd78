#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/buf.h"
#include "tests/unit/protocol/http_helper.h"

static enum pl_codec accepted(const char *headers)
{
    struct pl_buf request = {0};
    struct pl_http_head h;
    enum pl_codec codec;

    pl_buf_printf(&request, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);
    parse_good(pl_buf_cstr(&request), &h);
    codec = pl_http_accept_codec(&h);
    pl_buf_done(&request);
    return codec;
}

static int body(const char *headers)
{
    struct pl_buf request = {0};
    struct pl_http_head h;
    enum pl_codec codec = PL_CODEC_COUNT;
    int err;

    pl_buf_printf(&request, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);
    parse_good(pl_buf_cstr(&request), &h);
    err = pl_http_body_codec(&h, &codec);
    pl_buf_done(&request);
    return err != 0 ? err : (int)codec;
}

static void answers_are_json_unless_messagepack_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(accepted(""), PL_JSON);
    assert_int_equal(accepted("Accept: */*\r\n"), PL_JSON);
    assert_int_equal(accepted("Accept: text/html, application/*\r\n"), PL_JSON);
    assert_int_equal(accepted("Accept: application/msgpack\r\n"), PL_MSGPACK);
    assert_int_equal(accepted("Accept: Application/Vnd.MsgPack ; v=1\r\n"), PL_MSGPACK);
    assert_int_equal(accepted("Accept: */*\r\nAccept: application/msgpack\r\n"), PL_MSGPACK);
    assert_int_equal(accepted("Accept: application/msgpacks\r\n"), PL_JSON);
}

static void weights_decide_between_the_two(void **state)
{
    (void)state;
    assert_int_equal(accepted("Accept: application/msgpack;q=0\r\n"), PL_JSON);
    assert_int_equal(accepted("Accept: application/msgpack; Q=0.000\r\n"), PL_JSON);
    assert_int_equal(accepted("Accept: application/msgpack;q=0.001\r\n"), PL_MSGPACK);
    assert_int_equal(accepted("Accept: application/msgpack;q=0.5, application/json\r\n"), PL_JSON);
    assert_int_equal(accepted("Accept: application/json;q=0.49, application/msgpack;q=0.5\r\n"),
                     PL_MSGPACK);
    assert_int_equal(accepted("Accept: application/json, application/msgpack\r\n"), PL_MSGPACK);
    assert_int_equal(accepted("Accept: application/msgpack;q=high, application/json;q=0.9\r\n"),
                     PL_MSGPACK);
    assert_int_equal(accepted("Accept: application/msgpack;q=9, application/json\r\n"), PL_MSGPACK);
}

static void a_body_is_json_unless_it_says_messagepack(void **state)
{
    (void)state;
    assert_int_equal(body(""), PL_JSON);
    assert_int_equal(body("Content-Type: application/json\r\n"), PL_JSON);
    assert_int_equal(body("Content-Type: Application/JSON ; charset=utf-8\r\n"), PL_JSON);
    assert_int_equal(body("Content-Type: text/plain;charset=UTF-8\r\n"), PL_JSON);
    assert_int_equal(body("Content-Type: application/x-www-form-urlencoded\r\n"), PL_JSON);
    assert_int_equal(body("Content-Type: application/msgpack\r\n"), PL_MSGPACK);
    assert_int_equal(body("Content-Type: application/vnd.msgpack\r\n"), PL_MSGPACK);
}

static void other_bodies_are_refused(void **state)
{
    (void)state;
    assert_int_equal(body("Content-Type: application/xml\r\n"), PL_ERR_MEDIA_TYPE);
    assert_int_equal(body("Content-Type: application/jsonp\r\n"), PL_ERR_MEDIA_TYPE);
    assert_int_equal(body("Content-Type: application/json, text/plain\r\n"), PL_ERR_MEDIA_TYPE);
    assert_int_equal(body("Content-Type:\r\n"), PL_ERR_MEDIA_TYPE);
    assert_int_equal(body("Content-Type: text/plain\r\nContent-Type: text/plain\r\n"),
                     PL_ERR_MEDIA_TYPE);
}

static bool takes_gzip(const char *headers)
{
    struct pl_buf request = {0};
    struct pl_http_head h;
    bool gzip;

    pl_buf_printf(&request, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);
    parse_good(pl_buf_cstr(&request), &h);
    gzip = pl_http_accepts_gzip(&h);
    pl_buf_done(&request);
    return gzip;
}

static void gzip_is_taken_where_it_is_named(void **state)
{
    (void)state;
    assert_false(takes_gzip(""));
    assert_false(takes_gzip("Accept-Encoding:\r\n"));
    assert_false(takes_gzip("Accept-Encoding: br, deflate\r\n"));
    assert_false(takes_gzip("Accept-Encoding: gzip;q=0, br\r\n"));
    assert_false(takes_gzip("Accept-Encoding: *, gzip; q=0\r\n"));
    assert_false(takes_gzip("Accept-Encoding: *;q=0\r\n"));
    assert_true(takes_gzip("Accept-Encoding: gzip, deflate, br\r\n"));
    assert_true(takes_gzip("Accept-Encoding: br\r\nAccept-Encoding: X-GZIP ;q=0.5\r\n"));
    assert_true(takes_gzip("Accept-Encoding: *\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_json_unless_messagepack_is_asked_for),
        cmocka_unit_test(weights_decide_between_the_two),
        cmocka_unit_test(a_body_is_json_unless_it_says_messagepack),
        cmocka_unit_test(other_bodies_are_refused),
        cmocka_unit_test(gzip_is_taken_where_it_is_named),
    };

    return cmocka_run_group_tests_name("protocol/http_media", tests, NULL, NULL);
}
