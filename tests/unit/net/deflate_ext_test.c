#include "harness.h"

#include <string.h>

static bool offered(const char *first, const char *second, bool *ret_window_bits)
{
    struct pl_http_head head = {0};

    head.headers[head.header_count++] = (struct pl_http_header){PL_LIT("Host"), PL_LIT("x")};
    head.headers[head.header_count++] =
        (struct pl_http_header){PL_LIT("Sec-WebSocket-Extensions"), {first, strlen(first)}};
    if (second) {
        head.headers[head.header_count++] =
            (struct pl_http_header){PL_LIT("sec-websocket-extensions"), {second, strlen(second)}};
    }
    *ret_window_bits = false;
    return pl_deflate__offered(&head, ret_window_bits);
}

static void offers_of_real_clients_are_accepted(void **state)
{
    static const char *const offers[] = {
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=15; server_no_context_takeover",
        "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=\"9\"",
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        "Permessage-Deflate ; Client_No_Context_Takeover",
    };
    bool bits;

    (void)state;
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        assert_true(offered(offers[i], NULL, &bits));
        assert_false(bits);
    }
    assert_true(offered("foo", "permessage-deflate", &bits));
}

static void a_window_of_32_kib_is_confirmed(void **state)
{
    bool bits;

    (void)state;
    assert_true(offered("permessage-deflate; server_max_window_bits=15", NULL, &bits));
    assert_true(bits);
    assert_true(
        offered("permessage-deflate; server_max_window_bits=8, permessage-deflate", NULL, &bits));
    assert_false(bits);
}

static void what_cannot_be_kept_is_declined(void **state)
{
    static const char *const offers[] = {
        "",
        ",",
        "deflate",
        "permessage-deflate2",
        "permessage-deflate; server_max_window_bits=14",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=015",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; ; client_max_window_bits",
    };
    bool bits;

    (void)state;
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        assert_false(offered(offers[i], NULL, &bits));
    }
}

static const char *negotiated(struct harness *h, const char *offer)
{
    int fd = harness_websocket(h, offer);
    const char *answer = harness_read_text(h, fd, "\r\n\r\n");
    const char *at = strstr(answer, "Sec-WebSocket-Extensions: ");

    assert_int_equal(pl_ws_compresses(h->ws), at != NULL);
    return at ? at + 26 : "";
}

static void the_answer_names_what_was_agreed(void **state)
{
    struct harness *h = *state;

    harness_start(h);
    assert_string_equal(
        negotiated(h, "permessage-deflate; server_max_window_bits=15"),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        "server_max_window_bits=15\r\n\r\n");
    assert_string_equal(
        negotiated(h, "foo, permessage-deflate; client_max_window_bits, permessage-deflate"),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n");
    assert_string_equal(negotiated(h, "permessage-deflate; server_max_window_bits=9"), "");
    h->cfg.websocket_compression = false;
    assert_string_equal(negotiated(h, "permessage-deflate"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_of_real_clients_are_accepted),
        cmocka_unit_test(a_window_of_32_kib_is_confirmed),
        cmocka_unit_test(what_cannot_be_kept_is_declined),
        cmocka_unit_test_setup_teardown(the_answer_names_what_was_agreed, harness_setup,
                                        harness_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
