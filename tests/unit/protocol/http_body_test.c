#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/buf.h"
#include "tests/unit/protocol/http_helper.h"

enum {
    MAX = 1000
};

struct fed {
    int err;
    size_t used;
    struct pl_buf out;
};

static struct pl_http_body chunked_body(uint64_t max)
{
    const struct pl_http_head head = {.chunked = true};
    struct pl_http_body b;

    pl_http_body_init(&b, &head, max);
    return b;
}

static void feed_more(struct pl_http_body *b, const char *bytes, size_t len, struct fed *f)
{
    char *copy = exact_copy(bytes, len);
    size_t used = SIZE_MAX;

    f->err = pl_http_body_feed(b, copy, len, &f->out, &used);
    assert_true(used <= len);
    f->used += used;
    free(copy);
}

/* Feeds `first` bytes, then `step` at a time. */
static struct fed feed(struct pl_http_body b, const char *bytes, size_t len, size_t first,
                       size_t step)
{
    struct fed f = {0};
    size_t at = 0, n = first;

    do {
        feed_more(&b, bytes + at, n, &f);
        at += n;
        n = len - at < step ? len - at : step;
    } while (f.err == PL_HTTP_MORE && n > 0);
    return f;
}

static void assert_same_in_pieces(struct pl_http_body b, const char *bytes, size_t len)
{
    struct fed whole = feed(b, bytes, len, len, len);

    for (size_t cut = 0; cut <= len; cut++) {
        struct fed pieces = feed(b, bytes, len, cut, cut == 0 ? 1 : len);

        assert_int_equal(pieces.err, whole.err);
        assert_int_equal(pieces.used, whole.used);
        assert_string_equal(pl_buf_cstr(&pieces.out), pl_buf_cstr(&whole.out));
        pl_buf_done(&pieces.out);
    }
    pl_buf_done(&whole.out);
}

static const struct {
    const char *body, *decoded;
} good[] = {
    {"0\r\n\r\n", ""},
    {"5\r\nhello\r\n0\r\n\r\n", "hello"},
    {"5\r\nhello\r\n00000001\r\n!\r\n000\r\n\r\n", "hello!"},
    {"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
    {"5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n", "hello"},
    {"2\r\n\r\n\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", "\r\n"},
};

static const char *const bad[] = {
    "\r\n",
    ";x\r\n",
    "g\r\n",
    "-1\r\n",
    "+1\r\n",
    "0x5\r\nhello",
    " 5\r\nhello",
    "5 \r\nhello",
    "5 ;a\r\nhello",
    "000000005\r\nhello",
    "100000000\r\n",
    "5\nhello",
    "5\r\r\nhello",
    "5\rhello",
    "5;a\nhello",
    "5;a\001\r\nhello",
    "5;a\x7f\r\nhello",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\n\r\n",
    "5\r\nhello!\r\n0\r\n\r\n",
    "0\r\nX: a\nY: b\r\n\r\n",
    "0\r\n\n",
    "0\r\nX\001: a\r\n\r\n",
    "0\r\n\rX",
};

static void chunks_are_joined_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const size_t len = strlen(good[i].body);
        struct fed f = feed(chunked_body(MAX), good[i].body, len, len, len);

        assert_int_equal(f.err, 0);
        assert_int_equal(f.used, len);
        assert_string_equal(pl_buf_cstr(&f.out), good[i].decoded);
        assert_same_in_pieces(chunked_body(MAX), good[i].body, len);
        pl_buf_done(&f.out);
    }
}

static void every_prefix_of_a_chunked_body_asks_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        for (size_t len = 0; len < strlen(good[i].body); len++) {
            struct fed f = feed(chunked_body(MAX), good[i].body, len, len, len);

            assert_int_equal(f.err, PL_HTTP_MORE);
            assert_int_equal(f.used, len);
            pl_buf_done(&f.out);
        }
    }
}

static void bad_chunking_is_refused_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const size_t len = strlen(bad[i]);
        struct fed f = feed(chunked_body(MAX), bad[i], len, len, len);

        if (f.err != PL_ERR_PROTOCOL) {
            print_error("%d: %s\n", f.err, bad[i]);
        }
        assert_int_equal(f.err, PL_ERR_PROTOCOL);
        assert_same_in_pieces(chunked_body(MAX), bad[i], len);
        pl_buf_done(&f.out);
    }
}

static void no_damaged_byte_does_harm(void **state)
{
    static const char body[] = "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: a\r\n\r\n";
    const size_t len = sizeof(body) - 1;
    char *damaged = exact_copy(body, len);

    (void)state;
    for (size_t at = 0; at < len; at++) {
        for (int byte = 0; byte < 256; byte++) {
            damaged[at] = (char)byte;
            struct fed whole = feed(chunked_body(MAX), damaged, len, len, len);
            struct fed pieces = feed(chunked_body(MAX), damaged, len, at, 1);

            assert_int_equal(pieces.err, whole.err);
            assert_int_equal(pieces.used, whole.used);
            assert_true(whole.out.len <= MAX);
            pl_buf_done(&whole.out);
            pl_buf_done(&pieces.out);
        }
        damaged[at] = body[at];
    }
    free(damaged);
}

static void what_follows_a_body_is_left_alone(void **state)
{
    const struct pl_http_head head = {.has_content_length = true, .content_length = 5};
    struct pl_http_body b;
    struct fed f;

    (void)state;
    f = feed(chunked_body(MAX), "1\r\na\r\n0\r\n\r\nGET /", 16, 16, 16);
    assert_int_equal(f.err, 0);
    assert_int_equal(f.used, 11);
    pl_buf_done(&f.out);
    pl_http_body_init(&b, &head, MAX);
    f = feed(b, "helloGET /", 10, 10, 10);
    assert_int_equal(f.err, 0);
    assert_int_equal(f.used, 5);
    assert_string_equal(pl_buf_cstr(&f.out), "hello");
    assert_same_in_pieces(b, "helloGET /", 10);
    pl_buf_done(&f.out);
}

static void without_a_length_there_is_no_body(void **state)
{
    const struct pl_http_head head = {.minor = 1};
    struct pl_http_body b;
    struct fed f = {0};

    (void)state;
    pl_http_body_init(&b, &head, MAX);
    feed_more(&b, "GET", 3, &f);
    assert_int_equal(f.err, 0);
    assert_int_equal(f.used, 0);
    pl_http_body_init(&b, &head, 0);
    assert_int_equal(pl_http_body_feed(&b, NULL, 0, &f.out, &f.used), 0);
}

static void a_declared_length_beyond_max_is_too_big_at_once(void **state)
{
    struct pl_http_head head = {.has_content_length = true, .content_length = MAX};
    struct pl_http_body b;
    struct fed f = {0};

    (void)state;
    pl_http_body_init(&b, &head, MAX);
    assert_int_equal(pl_http_body_feed(&b, NULL, 0, &f.out, &f.used), PL_HTTP_MORE);
    head.content_length = MAX + 1;
    pl_http_body_init(&b, &head, MAX);
    assert_int_equal(pl_http_body_feed(&b, NULL, 0, &f.out, &f.used), PL_ERR_TOO_BIG);
    feed_more(&b, "hello", 5, &f);
    assert_int_equal(f.err, PL_ERR_TOO_BIG);
    assert_int_equal(f.out.len, 0);
}

static void chunks_that_add_up_beyond_max_are_too_big_at_once(void **state)
{
    static const char fits[] = "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
    static const char huge[] = "5\r\nhello\r\nffffffff\r\n";
    struct fed f = feed(chunked_body(10), fits, sizeof(fits) - 1, sizeof(fits) - 1, 1);

    (void)state;
    assert_int_equal(f.err, 0);
    pl_buf_done(&f.out);
    f = feed(chunked_body(9), fits, 13, 13, 1);
    assert_int_equal(f.err, PL_ERR_TOO_BIG);
    assert_string_equal(pl_buf_cstr(&f.out), "hello");
    pl_buf_done(&f.out);
    f = feed(chunked_body(MAX), huge, sizeof(huge) - 1, sizeof(huge) - 1, 1);
    assert_int_equal(f.err, PL_ERR_TOO_BIG);
    pl_buf_done(&f.out);
}

static void errors_stay(void **state)
{
    struct pl_http_body b = chunked_body(MAX);
    struct fed f = {0};

    (void)state;
    feed_more(&b, "x", 1, &f);
    assert_int_equal(f.err, PL_ERR_PROTOCOL);
    f.used = 0;
    feed_more(&b, "0\r\n\r\n", 5, &f);
    assert_int_equal(f.err, PL_ERR_PROTOCOL);
    assert_int_equal(f.used, 0);
}

/* Feeds unit until the body is refused; says how many bytes that took. */
static size_t bytes_until_refused(const char *begin, const char *unit)
{
    struct pl_http_body b = chunked_body(MAX);
    struct fed f = {0};

    feed_more(&b, begin, strlen(begin), &f);
    while (f.err == PL_HTTP_MORE && f.used < 100000) {
        feed_more(&b, unit, strlen(unit), &f);
    }
    assert_int_equal(f.err, PL_ERR_PROTOCOL);
    return f.used;
}

static void what_is_ignored_is_bounded(void **state)
{
    (void)state;
    assert_in_range(bytes_until_refused("5;", "a"), 200, 300);
    assert_in_range(bytes_until_refused("0\r\n", "a"), 200, 300);
    assert_in_range(bytes_until_refused("0\r\n", "X: abcdef\r\n"), 2000, 8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_joined_at_every_split),
        cmocka_unit_test(every_prefix_of_a_chunked_body_asks_for_more),
        cmocka_unit_test(bad_chunking_is_refused_at_every_split),
        cmocka_unit_test(no_damaged_byte_does_harm),
        cmocka_unit_test(what_follows_a_body_is_left_alone),
        cmocka_unit_test(without_a_length_there_is_no_body),
        cmocka_unit_test(a_declared_length_beyond_max_is_too_big_at_once),
        cmocka_unit_test(chunks_that_add_up_beyond_max_are_too_big_at_once),
        cmocka_unit_test(errors_stay),
        cmocka_unit_test(what_is_ignored_is_bounded),
    };

    return cmocka_run_group_tests_name("protocol/http_body", tests, NULL, NULL);
}
