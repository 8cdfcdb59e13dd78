#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/protocol/http_helper.h"

#define LINE "GET / HTTP/1.1\r\nHost: a\r\n"
#define XFF  "X-Forwarded-For: "
#define END  "\r\n\r\n"

/* Who is asking when 10.0.0.0/8 and ::1 are trusted; "": not said. */
static const char *client(const char *request)
{
    static char text[PL_ADDRESS_TEXT];
    struct pl_network items[2];
    const struct pl_networks trusted = {items, 2};
    struct pl_http_head h;
    struct pl_address a;

    assert_true(pl_network_parse("10.0.0.0/8", 10, &items[0]));
    assert_true(pl_network_parse("::1", 3, &items[1]));
    parse_good(request, &h);
    text[0] = '\0';
    if (pl_http_forwarded_for(&h, &trusted, &a)) {
        pl_address_text(&a, text);
    }
    return text;
}

static void the_last_that_is_no_proxy_is_the_client(void **state)
{
    static const char *const table[][2] = {
        {LINE XFF "203.0.113.7" END, "203.0.113.7"},
        {LINE "x-forwarded-FOR:\t2001:db8::7 " END, "2001:db8::7"},
        {LINE XFF "203.0.113.7, 10.1.1.1,::1" END, "203.0.113.7"},
        {LINE XFF "203.0.113.7\r\n" XFF "10.1.1.1" END, "203.0.113.7"},
        {LINE XFF "203.0.113.7,, , 10.1.1.1," END, "203.0.113.7"},
        {LINE XFF "10.1.1.1, 10.2.2.2" END, "10.1.1.1"},
        {LINE XFF "203.0.113.7:57005" END, "203.0.113.7"},
        {LINE XFF "[2001:db8::7]" END, "2001:db8::7"},
        {LINE XFF "[2001:db8::7]:57005" END, "2001:db8::7"},
        {LINE XFF "::ffff:203.0.113.7" END, "203.0.113.7"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_string_equal(client(table[i][0]), table[i][1]);
    }
}

static void what_a_client_makes_up_is_not_believed(void **state)
{
    static const char *const table[][2] = {
        {LINE XFF "127.0.0.1, 203.0.113.7" END, "203.0.113.7"},
        {LINE XFF "127.0.0.1\r\n" XFF "203.0.113.7" END, "203.0.113.7"},
        {LINE XFF "10.9.9.9, 203.0.113.7, 10.1.1.1" END, "203.0.113.7"},
        {LINE XFF "127.0.0.1, nonsense, 10.1.1.1" END, "10.1.1.1"},
        {LINE XFF "127.0.0.1, unknown" END, ""},
        {LINE XFF "127.0.0.1, 203.0.113.7 10.1.1.1" END, ""},
        {LINE XFF "127.0.0.1, []" END, ""},
        {LINE XFF "127.0.0.1, ]" END, ""},
        {LINE XFF "127.0.0.1, [" END, ""},
        {LINE XFF "127.0.0.1, :80" END, ""},
        {LINE XFF "127.0.0.1, [::1" END, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_string_equal(client(table[i][0]), table[i][1]);
    }
}

static void without_the_header_nothing_is_said(void **state)
{
    (void)state;
    assert_string_equal(client(LINE "\r\n"), "");
    assert_string_equal(client(LINE XFF END), "");
    assert_string_equal(client(LINE XFF ", ," END), "");
    assert_string_equal(client(LINE "X-Forwarded-Fo: 203.0.113.7" END), "");
    assert_string_equal(client(LINE "Forwarded: for=203.0.113.7" END), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_that_is_no_proxy_is_the_client),
        cmocka_unit_test(what_a_client_makes_up_is_not_believed),
        cmocka_unit_test(without_the_header_nothing_is_said),
    };

    return cmocka_run_group_tests_name("protocol/http_forwarded", tests, NULL, NULL);
}
