#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/protocol/http_helper.h"

static struct pl_str str(const char *s)
{
    return (struct pl_str){s, strlen(s)};
}

static bool same(const char *origin, const char *host)
{
    char *o = exact_copy(origin, strlen(origin)), *h = exact_copy(host, strlen(host));
    const bool is_same = pl_http_origin_same_host((struct pl_str){o, strlen(origin)},
                                                  (struct pl_str){h, strlen(host)});

    free(o);
    free(h);
    return is_same;
}

static void the_same_host_is_the_same_host(void **state)
{
    (void)state;
    assert_true(same("https://example.org", "example.org"));
    assert_true(same("http://example.org", "example.org"));
    assert_true(same("https://example.org:8443", "example.org:8443"));
    assert_true(same("http://[::1]:80", "[::1]:80"));
}

static void tricks_are_not_the_same_host(void **state)
{
    static const char *const tricks[] = {
        "https://example.org.evil.net",
        "https://evil-example.org",
        "https://evil.net/example.org",
        "https://example.org/",
        "https://example.org@evil.net",
        "https://user@example.org",
        "https://example.org:443",
        "https://example.org:",
        "https://example.org.",
        "https://EXAMPLE.org",
        "HTTPS://example.org",
        "https:///example.org",
        "https:example.org",
        "ftp://example.org",
        "ws://example.org",
        "wss://example.org",
        "file://example.org",
        "chrome-extension://example.org",
        "example.org",
        "//example.org",
        "null",
        "https://",
        "http",
        "",
        " https://example.org",
        "https://example.org ",
        "https://example.org https://evil.net",
        "https://https://example.org",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tricks) / sizeof(tricks[0]); i++) {
        if (same(tricks[i], "example.org")) {
            print_error("passed: %s\n", tricks[i]);
            fail();
        }
    }
    assert_false(same("https://", ""));
    assert_false(same("null", "null"));
}

static void localhost_is_localhost_on_any_port(void **state)
{
    static const char *const local[] = {
        "http://localhost",      "http://localhost:1", "http://localhost:65535", "http://127.0.0.1",
        "http://127.0.0.1:5173", "http://[::1]",       "http://[::1]:3000",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
        assert_true(pl_http_origin_is_localhost(str(local[i])));
    }
}

static void tricks_are_not_localhost(void **state)
{
    static const char *const tricks[] = {
        "http://localhost.evil.net",
        "http://localhost:80.evil.net",
        "http://localhost:80@evil.net",
        "http://localhost@evil.net",
        "http://evil.net:80",
        "http://xlocalhost",
        "http://localhost.",
        "http://localhost/",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:000080",
        "http://localhost:8x",
        "http://LOCALHOST",
        "HTTP://localhost",
        "https://localhost",
        "http://127.0.0.1.evil.net",
        "http://127.0.0.10",
        "http://127.1",
        "http://[::1",
        "http://[::1].evil.net",
        "http://[::2]",
        "http://user@localhost",
        "localhost",
        "null",
        "",
        "http://",
        "http://localhost:-1",
        "http://localhost: 80",
        "http://localhost:80 ",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tricks) / sizeof(tricks[0]); i++) {
        if (pl_http_origin_is_localhost(str(tricks[i]))) {
            print_error("passed: %s\n", tricks[i]);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_host_is_the_same_host),
        cmocka_unit_test(tricks_are_not_the_same_host),
        cmocka_unit_test(localhost_is_localhost_on_any_port),
        cmocka_unit_test(tricks_are_not_localhost),
    };

    return cmocka_run_group_tests_name("protocol/http_origin", tests, NULL, NULL);
}
