#include "server/base/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct pl_address address(const char *text)
{
    struct pl_address a;

    assert_true(pl_address_parse(text, strlen(text), &a));
    return a;
}

static void an_address_is_written_as_it_is_usual(void **state)
{
    static const char *const pairs[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"2001:DB8:0::1", "2001:db8::1"},
        {"::1", "::1"},
        {"::", "::"},
        {"0.0.0.0", "0.0.0.0"},
    };
    char text[PL_ADDRESS_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const struct pl_address a = address(pairs[i][0]);

        pl_address_text(&a, text);
        assert_string_equal(text, pairs[i][1]);
    }
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.01",
        "192.0.2.1:80",
        "[::1]",
        "::1%0",
        "2001:db8:::1",
        "localhost",
        " 192.0.2.1",
        "192.0.2.1 ",
        "12345:1::",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb",
    };
    struct pl_address a;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (pl_address_parse(bad[i], strlen(bad[i]), &a)) {
            print_error("accepted: %s\n", bad[i]);
            fail();
        }
    }
    assert_false(pl_address_parse("192.0.2.1\0.7", 12, &a));
}

static void loopback_is_known_in_every_spelling(void **state)
{
    static const char *const loopback[] = {"127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1"};
    static const char *const other[] = {"128.0.0.1", "126.255.255.255", "::", "::2", "::127.0.0.1"};
    struct pl_address a;

    (void)state;
    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
        a = address(loopback[i]);
        assert_true(pl_address_is_loopback(&a));
    }
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        a = address(other[i]);
        assert_false(pl_address_is_loopback(&a));
    }
}

static void a_network_has_what_shares_its_prefix(void **state)
{
    static const struct {
        const char *network, *address;
        bool has;
    } table[] = {
        {"10.0.0.0/8", "10.255.255.255", true},     {"10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"10.0.0.0/8", "11.0.0.0", false},          {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},   {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.0", false},          {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},        {"::/0", "203.0.113.9", true},
        {"2001:db8::/33", "2001:db8:7fff::", true}, {"2001:db8::/33", "2001:db8:8000::", false},
        {"::ffff:10.0.0.0/104", "10.9.9.9", true},  {"::1", "::1", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct pl_address a = address(table[i].address);
        struct pl_network n;

        assert_true(pl_network_parse(table[i].network, strlen(table[i].network), &n));
        assert_int_equal(pl_networks_have(&(struct pl_networks){&n, 1}, &a), table[i].has);
        assert_false(pl_networks_have(&(struct pl_networks){NULL, 0}, &a));
    }
}

static void what_is_no_network_is_refused(void **state)
{
    static const char *const bad[] = {
        "",           "/8",         "10.0.0.0/",   "10.0.0.0/33",        "10.0.0.0/08",
        "10.0.0.0/x", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/8/8",       "2001:db8::/129",
        "10/8",       "::1/127",    "localhost",   "10.0.0.0/255.0.0.0", "10.0.0.0 /8",
    };
    struct pl_network n;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (pl_network_parse(bad[i], strlen(bad[i]), &n)) {
            print_error("accepted: %s\n", bad[i]);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_written_as_it_is_usual),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(loopback_is_known_in_every_spelling),
        cmocka_unit_test(a_network_has_what_shares_its_prefix),
        cmocka_unit_test(what_is_no_network_is_refused),
    };

    return cmocka_run_group_tests_name("base/address", tests, NULL, NULL);
}
