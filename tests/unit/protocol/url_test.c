#include "protocol/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct pl_url u;

static void a_servers_address_is_taken_apart(void **state)
{
    (void)state;
    assert_null(pl_url_parse("http://127.0.0.1:8888", &u));
    assert_string_equal(u.host, "127.0.0.1");
    assert_string_equal(u.port, "8888");
    assert_string_equal(u.authority, "127.0.0.1:8888");
    assert_string_equal(u.prefix, "");
}

static void the_port_may_be_missing_and_a_prefix_present(void **state)
{
    (void)state;
    assert_null(pl_url_parse("HTTP://example.org/live/", &u));
    assert_string_equal(u.host, "example.org");
    assert_string_equal(u.port, "80");
    assert_string_equal(u.authority, "example.org");
    assert_string_equal(u.prefix, "/live");
    assert_null(pl_url_parse("ws://example.org/", &u));
    assert_string_equal(u.prefix, "");
}

static void an_ipv6_address_stands_in_brackets(void **state)
{
    (void)state;
    assert_null(pl_url_parse("http://[::1]:8888/x", &u));
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "8888");
    assert_string_equal(u.authority, "[::1]:8888");
    assert_null(pl_url_parse("http://[::1]", &u));
    assert_string_equal(u.port, "80");
}

static void tls_is_refused_with_what_to_do(void **state)
{
    (void)state;
    assert_non_null(strstr(pl_url_parse("https://example.org", &u), "TLS"));
    assert_non_null(strstr(pl_url_parse("wss://example.org", &u), "http://"));
}

static void tls_is_taken_where_proxies_are_looked_at(void **state)
{
    (void)state;
    assert_null(pl_url_parse_public("https://example.org/live", &u));
    assert_true(u.tls);
    assert_string_equal(u.port, "443");
    assert_string_equal(u.prefix, "/live");
    assert_null(pl_url_parse_public("wss://[::1]:8443", &u));
    assert_string_equal(u.port, "8443");
    assert_null(pl_url_parse_public("http://example.org", &u));
    assert_false(u.tls);
    assert_non_null(pl_url_parse_public("https:example.org", &u));
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "example.org",
                                        "ftp://example.org",
                                        "http://",
                                        "http:///x",
                                        "http://:80",
                                        "http://a:0",
                                        "http://a:65536",
                                        "http://a:",
                                        "http://a:-1",
                                        "http://a:+1",
                                        "http://a:8x",
                                        "http://[::1",
                                        "http://[::1]8",
                                        "http://[]:80",
                                        "http://u:p@a",
                                        "http://a?x",
                                        "http://a/#x",
                                        "http://a b",
                                        "http://a\r\nX: y"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_non_null(pl_url_parse(texts[i], &u));
    }
}

static void parts_that_are_too_long_are_refused(void **state)
{
    char text[1200];

    (void)state;
    for (size_t len = 200; len < 1000; len++) {
        size_t n = (size_t)snprintf(text, sizeof(text), "http://");

        memset(text + n, 'a', len);
        text[n + len] = '\0';
        assert_true((pl_url_parse(text, &u) == NULL) == (len < sizeof(u.host)));
        memcpy(text, "http://a/", 9);
        pl_url_parse(text, &u);
    }
}

static void query_values_are_percent_encoded(void **state)
{
    struct pl_buf out = {0};

    (void)state;
    pl_url_append_query_value(&out, PL_LIT("aZ09-._~ &=+%/?#\n\xc3\xa9"));
    assert_string_equal(pl_buf_cstr(&out), "aZ09-._~%20%26%3D%2B%25%2F%3F%23%0A%C3%A9");
    pl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_servers_address_is_taken_apart),
        cmocka_unit_test(the_port_may_be_missing_and_a_prefix_present),
        cmocka_unit_test(an_ipv6_address_stands_in_brackets),
        cmocka_unit_test(tls_is_refused_with_what_to_do),
        cmocka_unit_test(tls_is_taken_where_proxies_are_looked_at),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(parts_that_are_too_long_are_refused),
        cmocka_unit_test(query_values_are_percent_encoded),
    };

    return cmocka_run_group_tests_name("protocol/url", tests, NULL, NULL);
}
