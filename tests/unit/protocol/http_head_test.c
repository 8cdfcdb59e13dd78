#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/buf.h"
#include "tests/unit/protocol/http_helper.h"

enum {
    MAX = 4096
};

static const char *const good[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /realtime/poll?queue_id=abc&last_event_id=7 HTTP/1.1\r\nHost: example.org:8080\r\n"
    "Accept: application/json\r\nCookie: a=b; c=\"d\"\r\nConnection: keep-alive\r\n\r\n",
    "\r\nPOST /realtime/publish HTTP/1.1\r\nhost:\ta \t\r\nContent-Length: 12\r\nExpect: "
    "100-continue\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Text: gr\xc3\xbc\xc3\x9f\te\r\n\r\n",
    "GET http://Example.org?x=1 HTTP/1.1\r\nHost: Example.org\r\n\r\n",
    "PURGE /x HTTP/1.0\r\n\r\n",
    "HEAD /a/%2e%2e/b?q=%zz HTTP/1.0\r\nConnection: Keep-Alive, foo\r\nHost: a\r\n\r\n",
};

struct refused {
    int err;
    const char *bytes;
};

#define LINE   "GET /x HTTP/1.1\r\n"
#define HOST   "Host: a\r\n"
#define POSTED "POST /x HTTP/1.1\r\nHost: a\r\n"

/* What two parsers could read differently. */
static const struct refused smuggling[] = {
    {PL_ERR_PROTOCOL, LINE HOST "X: a\nY: b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\rY: b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\r\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "\n"},
    {PL_ERR_PROTOCOL, LINE HOST "\r\r\n"},
    {PL_ERR_PROTOCOL, "GET /x HTTP/1.1\nHost: a\n\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\r\n b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\r\n\tb\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE " Host: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X : a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X\t: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "Host : a\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length : 5\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST ": a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X(y): a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X\xc3\xa9: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\001b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\x7f\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "X: a\vb\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 5, 5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: +5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: -1\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 0x5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 5 6\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length:\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 18446744073709551621\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked, chunked\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked, identity\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: \"chunked\"\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked;q=1\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: chunked,\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding:\r\n\r\n"},
    {PL_ERR_PROTOCOL, POSTED "Transfer-Encoding: \x0b"
                             "chunked\r\n\r\n"},
    {PL_ERR_PROTOCOL, "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {PL_ERR_NOT_IMPLEMENTED, POSTED "Transfer-Encoding: gzip\r\n\r\n"},
    {PL_ERR_NOT_IMPLEMENTED, POSTED "Transfer-Encoding: xchunked\r\n\r\n"},
    {PL_ERR_NOT_IMPLEMENTED, POSTED "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "\r\n"},
    {PL_ERR_PROTOCOL, LINE "X-Host: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST HOST "\r\n"},
    {PL_ERR_PROTOCOL, LINE HOST "host: b\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "Host: a b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "Host: a,b\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "Host: user@a\r\n\r\n"},
    {PL_ERR_PROTOCOL, LINE "Host: a/b\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET http://a HTTP/1.0\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET http:///x HTTP/1.1\r\nHost: \r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, " GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "G(T /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x http/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x HTTP/1.10\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /x HTTP/11\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {PL_ERR_PROTOCOL, "\x16\x03\x01\x02"},
    {PL_ERR_HTTP_VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {PL_ERR_HTTP_VERSION, "GET /x HTTP/0.9\r\nHost: a\r\n\r\n"},
    {PL_ERR_HTTP_VERSION, "GET /x HTTP/1.2\r\nHost: a\r\n\r\n"},
    /* Two faults: the line that comes first decides. */
    {PL_ERR_HTTP_VERSION, "GET /x HTTP/3.0\r\nX : \001\r\n\r\n"},
    {PL_ERR_PROTOCOL, "GET /\001 HTTP/3.0\r\n\r\n"},
};

/* All that a call said, as text, so that two calls can be compared. */
static void describe(struct pl_buf *out, int err, const struct pl_http_head *h, size_t size,
                     const char *reason)
{
    pl_buf_printf(out, "%d %s", err, err < 0 ? reason : "");
    if (err != 0) {
        return;
    }
    pl_buf_printf(out, "size %zu method %d path %.*s query %.*s 1.%d alive %d expect %d chunked %d",
                  size, (int)h->method, (int)h->path.len, h->path.s, (int)h->query.len, h->query.s,
                  h->minor, h->keep_alive, h->expect_continue, h->chunked);
    pl_buf_printf(out, " length %d %llu\n", h->has_content_length,
                  (unsigned long long)h->content_length);
    for (size_t i = 0; i < h->header_count; i++) {
        pl_buf_printf(out, "<%.*s>=<%.*s>\n", (int)h->headers[i].name.len, h->headers[i].name.s,
                      (int)h->headers[i].value.len, h->headers[i].value.s);
    }
}

static int parse_one(const char *bytes, size_t len, size_t scanned, struct pl_buf *said)
{
    char *copy = exact_copy(bytes, len);
    struct pl_http_head h = {0};
    size_t size = 0;
    const char *reason = NULL;
    const int err = pl_http_parse_head(copy, len, scanned, MAX, &h, &size, &reason);

    said->len = 0;
    describe(said, err, &h, size, reason);
    free(copy);
    return err;
}

/* Parses after every `step` more bytes, as they come. */
static void parse_in_steps(const char *bytes, size_t len, size_t first, size_t step,
                           struct pl_buf *said)
{
    size_t scanned = 0, have = first;

    while (parse_one(bytes, have, scanned, said) == PL_HTTP_MORE && have < len) {
        scanned = have;
        have = len - have < step ? len : have + step;
    }
}

static void assert_same_in_pieces(const char *bytes, size_t len)
{
    struct pl_buf whole = {0}, pieces = {0};

    (void)parse_one(bytes, len, 0, &whole);
    parse_in_steps(bytes, len, 0, 1, &pieces);
    assert_string_equal(pl_buf_cstr(&pieces), pl_buf_cstr(&whole));
    for (size_t cut = 0; cut <= len; cut++) {
        parse_in_steps(bytes, len, cut, len, &pieces);
        assert_string_equal(pl_buf_cstr(&pieces), pl_buf_cstr(&whole));
    }
    pl_buf_done(&whole);
    pl_buf_done(&pieces);
}

static void a_head_reads_the_same_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_same_in_pieces(good[i], strlen(good[i]));
    }
    for (size_t i = 0; i < sizeof(smuggling) / sizeof(smuggling[0]); i++) {
        assert_same_in_pieces(smuggling[i].bytes, strlen(smuggling[i].bytes));
    }
}

static void every_prefix_of_a_good_head_asks_for_more(void **state)
{
    struct pl_buf said = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        for (size_t len = 0; len < strlen(good[i]); len++) {
            assert_int_equal(parse_one(good[i], len, 0, &said), PL_HTTP_MORE);
        }
        assert_int_equal(parse_one(good[i], strlen(good[i]), 0, &said), 0);
    }
    pl_buf_done(&said);
}

static void no_damaged_byte_does_harm(void **state)
{
    struct pl_buf whole = {0}, pieces = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const size_t len = strlen(good[i]);
        char *damaged = exact_copy(good[i], len);

        for (size_t at = 0; at < len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                damaged[at] = (char)byte;
                (void)parse_one(damaged, len, 0, &whole);
                parse_in_steps(damaged, len, at, len, &pieces);
                assert_string_equal(pl_buf_cstr(&pieces), pl_buf_cstr(&whole));
            }
            damaged[at] = good[i][at];
        }
        free(damaged);
    }
    pl_buf_done(&whole);
    pl_buf_done(&pieces);
}

static void what_smuggles_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(smuggling) / sizeof(smuggling[0]); i++) {
        const size_t len = strlen(smuggling[i].bytes);
        char *copy = exact_copy(smuggling[i].bytes, len);
        struct pl_http_head h;
        const char *reason = NULL;
        size_t size;
        const int err = pl_http_parse_head(copy, len, 0, MAX, &h, &size, &reason);

        if (err != smuggling[i].err) {
            print_error("%d instead of %d: %s\n", err, smuggling[i].err, smuggling[i].bytes);
        }
        assert_int_equal(err, smuggling[i].err);
        assert_non_null(reason);
        assert_int_equal(pl_http_parse_head(copy, len, 0, MAX, &h, &size, NULL), err);
        free(copy);
    }
}

static void a_nul_byte_is_refused_anywhere(void **state)
{
    struct pl_buf said = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const size_t len = strlen(good[i]);
        char *damaged = exact_copy(good[i], len);

        for (size_t at = 0; at < len; at++) {
            damaged[at] = '\0';
            assert_int_equal(parse_one(damaged, len, 0, &said), PL_ERR_PROTOCOL);
            damaged[at] = good[i][at];
        }
        free(damaged);
    }
    pl_buf_done(&said);
}

static void an_error_is_found_when_its_line_is_whole(void **state)
{
    static const struct refused early[] = {
        {PL_HTTP_MORE, "GET /x HTTP/2.0\r"}, {PL_ERR_HTTP_VERSION, "GET /x HTTP/2.0\r\n"},
        {PL_HTTP_MORE, LINE "X : a\r"},      {PL_ERR_PROTOCOL, LINE "X : a\r\n"},
        {PL_HTTP_MORE, LINE "X: a"},         {PL_ERR_PROTOCOL, LINE "X: a\001"},
        {PL_HTTP_MORE, LINE "X: a\r\n"},     {PL_ERR_PROTOCOL, LINE "X: a\r\n "},
        {PL_HTTP_MORE, LINE "X: a\r"},       {PL_ERR_PROTOCOL, LINE "X: a\ra"},
    };
    struct pl_buf said = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++) {
        const size_t len = strlen(early[i].bytes);

        assert_int_equal(parse_one(early[i].bytes, len, 0, &said), early[i].err);
        if (early[i].err < 0) {
            assert_int_equal(parse_one(early[i].bytes, len, len - 1, &said), early[i].err);
        }
    }
    pl_buf_done(&said);
}

static void a_head_is_taken_apart(void **state)
{
    struct pl_http_head h;

    (void)state;
    parse_good(good[1], &h);
    assert_int_equal(h.method, PL_HTTP_GET);
    assert_str(h.path, "/realtime/poll");
    assert_str(h.query, "queue_id=abc&last_event_id=7");
    assert_int_equal(h.minor, 1);
    assert_int_equal(h.header_count, 4);
    assert_str(h.headers[0].name, "Host");
    assert_str(h.headers[2].value, "a=b; c=\"d\"");
    assert_true(h.keep_alive);
    assert_false(h.expect_continue || h.chunked || h.has_content_length);
    parse_good(good[2], &h);
    assert_int_equal(h.method, PL_HTTP_POST);
    assert_str(h.headers[0].value, "a");
    assert_true(h.expect_continue && h.has_content_length);
    assert_int_equal(h.content_length, 12);
    parse_good(good[3], &h);
    assert_true(h.chunked);
    assert_false(h.keep_alive || h.has_content_length);
    parse_good(good[4], &h);
    assert_int_equal(h.method, PL_HTTP_OPTIONS);
    assert_str(h.path, "*");
    assert_str(h.headers[1].value, "");
    assert_str(h.headers[2].value, "gr\xc3\xbc\xc3\x9f\te");
}

static void absolute_targets_are_reduced_to_their_path(void **state)
{
    struct pl_http_head h;

    (void)state;
    parse_good("GET http://Example.org?x=1 HTTP/1.1\r\nHost: Example.org\r\n\r\n", &h);
    assert_str(h.path, "/");
    assert_str(h.query, "x=1");
    parse_good("GET HTTPS://a:8/b/c?d?e HTTP/1.1\r\nHost: a:8\r\n\r\n", &h);
    assert_str(h.path, "/b/c");
    assert_str(h.query, "d?e");
    parse_good("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", &h);
    assert_str(h.path, "/");
    assert_int_equal(h.query.len, 0);
}

static void keep_alive_follows_version_and_connection(void **state)
{
    static const struct {
        bool keep_alive;
        const char *head;
    } cases[] = {
        {true, LINE HOST "\r\n"},
        {false, LINE HOST "Connection: close\r\n\r\n"},
        {false, LINE HOST "Connection: keep-alive\r\nConnection: foo, CLOSE\r\n\r\n"},
        {true, LINE HOST "Connection: closed\r\n\r\n"},
        {false, "GET /x HTTP/1.0\r\n\r\n"},
        {true, "GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"},
        {false, "GET /x HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"},
    };
    struct pl_http_head h;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        parse_good(cases[i].head, &h);
        assert_int_equal(h.keep_alive, cases[i].keep_alive);
    }
    parse_good("POST /x HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", &h);
    assert_false(h.expect_continue);
}

static void methods_are_known_by_their_exact_name(void **state)
{
    static const struct {
        const char *head;
        enum pl_http_method method;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", PL_HTTP_GET},
        {"HEAD / HTTP/1.0\r\n\r\n", PL_HTTP_HEAD},
        {"POST / HTTP/1.0\r\n\r\n", PL_HTTP_POST},
        {"PUT / HTTP/1.0\r\n\r\n", PL_HTTP_PUT},
        {"DELETE / HTTP/1.0\r\n\r\n", PL_HTTP_DELETE},
        {"PATCH / HTTP/1.0\r\n\r\n", PL_HTTP_PATCH},
        {"OPTIONS / HTTP/1.0\r\n\r\n", PL_HTTP_OPTIONS},
        {"get / HTTP/1.0\r\n\r\n", PL_HTTP_OTHER},
        {"GETS / HTTP/1.0\r\n\r\n", PL_HTTP_OTHER},
        {"M-SEARCH / HTTP/1.0\r\n\r\n", PL_HTTP_OTHER},
    };
    struct pl_http_head h;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        parse_good(cases[i].head, &h);
        assert_int_equal(h.method, cases[i].method);
    }
}

/* "GET /aaa HTTP/1.1" of exactly that length, then the rest of a head. */
static void long_request_line(struct pl_buf *out, size_t len)
{
    out->len = 0;
    pl_buf_append_str(out, "GET /");
    while (out->len < len - strlen(" HTTP/1.1")) {
        pl_buf_append_byte(out, 'a');
    }
    pl_buf_append_str(out, " HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void a_request_line_has_half_the_room(void **state)
{
    struct pl_buf head = {0}, said = {0};

    (void)state;
    long_request_line(&head, MAX / 2);
    assert_int_equal(parse_one((char *)head.data, head.len, 0, &said), 0);
    long_request_line(&head, MAX / 2 + 1);
    assert_int_equal(parse_one((char *)head.data, head.len, 0, &said), PL_ERR_URI_TOO_LONG);
    /* Seen with the first byte too many, but not before. */
    assert_int_equal(parse_one((char *)head.data, MAX / 2, 0, &said), PL_HTTP_MORE);
    assert_int_equal(parse_one((char *)head.data, MAX / 2 + 1, MAX / 2, &said),
                     PL_ERR_URI_TOO_LONG);
    /* Of two faults the earlier byte decides. */
    head.data[MAX / 2] = '\001';
    assert_int_equal(parse_one((char *)head.data, head.len, 0, &said), PL_ERR_PROTOCOL);
    assert_same_in_pieces((char *)head.data, head.len);
    pl_buf_done(&head);
    pl_buf_done(&said);
}

static void a_head_of_more_than_max_bytes_is_too_big(void **state)
{
    struct pl_buf head = {0}, said = {0};

    (void)state;
    pl_buf_append_str(&head, LINE HOST "X: ");
    while (head.len < MAX - 4) {
        pl_buf_append_byte(&head, 'a');
    }
    pl_buf_append_str(&head, "\r\n\r\n");
    assert_int_equal(parse_one((char *)head.data, MAX, 0, &said), 0);
    assert_int_equal(parse_one((char *)head.data, MAX - 1, 0, &said), PL_HTTP_MORE);
    head.len -= 4;
    pl_buf_append_str(&head, "a\r\n\r\n");
    assert_int_equal(parse_one((char *)head.data, MAX, MAX - 1, &said), PL_ERR_HEADERS_TOO_BIG);
    assert_int_equal(parse_one((char *)head.data, MAX + 1, 0, &said), PL_ERR_HEADERS_TOO_BIG);
    pl_buf_done(&head);
    pl_buf_done(&said);
}

static void there_is_room_for_64_headers(void **state)
{
    struct pl_buf head = {0}, said = {0};

    (void)state;
    pl_buf_append_str(&head, LINE HOST);
    for (int i = 1; i < PL_HTTP_MAX_HEADERS; i++) {
        pl_buf_append_str(&head, "X: a\r\n");
    }
    pl_buf_append_str(&head, "\r\n");
    assert_int_equal(parse_one((char *)head.data, head.len, 0, &said), 0);
    head.len -= 2;
    pl_buf_append_str(&head, "X: a\r\n\r\n");
    assert_int_equal(parse_one((char *)head.data, head.len, 0, &said), PL_ERR_HEADERS_TOO_BIG);
    assert_same_in_pieces((char *)head.data, head.len);
    pl_buf_done(&head);
    pl_buf_done(&said);
}

static void the_body_begins_behind_the_head(void **state)
{
    static const char bytes[] =
        "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET";
    struct pl_http_head h;
    size_t size = 0;

    (void)state;
    assert_int_equal(pl_http_parse_head(bytes, sizeof(bytes) - 1, 0, MAX, &h, &size, NULL), 0);
    assert_string_equal(bytes + size, "\r\n\r\nGET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_reads_the_same_however_it_is_cut),
        cmocka_unit_test(every_prefix_of_a_good_head_asks_for_more),
        cmocka_unit_test(no_damaged_byte_does_harm),
        cmocka_unit_test(what_smuggles_is_refused_with_a_reason),
        cmocka_unit_test(a_nul_byte_is_refused_anywhere),
        cmocka_unit_test(an_error_is_found_when_its_line_is_whole),
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(absolute_targets_are_reduced_to_their_path),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(methods_are_known_by_their_exact_name),
        cmocka_unit_test(a_request_line_has_half_the_room),
        cmocka_unit_test(a_head_of_more_than_max_bytes_is_too_big),
        cmocka_unit_test(there_is_room_for_64_headers),
        cmocka_unit_test(the_body_begins_behind_the_head),
    };

    return cmocka_run_group_tests_name("protocol/http_head", tests, NULL, NULL);
}
