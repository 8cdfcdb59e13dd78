#include "protocol/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/deflate_priv.h"
#include "protocol/status.h"
#include "server/base/buf.h"

enum {
    MAX = 65536
};

static int inflate_exact(const void *data, size_t len, size_t max, struct pl_bytes *ret)
{
    void *copy = malloc(len > 0 ? len : 1);
    int err;

    memcpy(copy, data, len);
    err = pl_inflate(copy, len, max, ret);
    free(copy);
    return err;
}

static void assert_inflates(const char *data, size_t len, const char *expected)
{
    struct pl_bytes out;

    assert_int_equal(inflate_exact(data, len, MAX, &out), 0);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.data, expected, out.len);
}

static void assert_malformed(const char *data, size_t len)
{
    struct pl_bytes out;

    assert_int_equal(inflate_exact(data, len, MAX, &out), PL_ERR_MALFORMED);
}

/* The examples of RFC 7692, 7.2.3. */
static void the_examples_of_the_rfc_inflate(void **state)
{
    (void)state;
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    assert_inflates("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11, "Hello");
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8, "Hello");
    assert_inflates("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13, "Hello");
    assert_inflates("\x00", 1, "");
}

static void a_final_block_need_not_be_the_last(void **state)
{
    static const char final[] = "\xf3\x48\xcd\xc9\xc9\x07\x00";

    (void)state;
    assert_inflates(final, 7, "Hello");
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00", 14, "HelloHello");
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", 14, "HelloHello");
    assert_inflates("\x03\x00\x03\x00\x03\x00\x00", 7, "");
    assert_malformed("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48", 9);
    /* "HelloHello" whose second half refers back beyond the end of the first stream. */
    assert_malformed("\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00", 10);
}

static void a_message_that_stops_inside_a_block_is_malformed(void **state)
{
    static const char stored[] = "\x00\x09\x00\xf6\xffHell";

    (void)state;
    for (size_t len = 1; len < 6; len++) {
        assert_malformed("\xf2\x48\xcd\xc9\xc9\x07\x00", len);
    }
    /* The tail would fit into the block as data. */
    assert_malformed(stored, 9);
    assert_malformed("\x00\x04\x00\xfb\xff", 5);
    assert_malformed("", 0);
}

static void garbage_is_malformed_and_does_not_last(void **state)
{
    (void)state;
    assert_malformed("\xff\xff\xff\xff", 4);
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    assert_malformed("\x00\x05\x00\x00\x00Hello\x00", 11);
    assert_malformed("\xf2\x48\xcd\xc9\xc9\x07\x00\x07", 8);
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
}

/* A message of len bytes that deflates well, deflated. */
static void deflated_zeros(size_t len, struct pl_buf *out)
{
    uint8_t *zeros = calloc(1, len);
    struct pl_bytes shorter;

    assert_true(pl_deflate__message(zeros, len, &shorter));
    pl_buf_append(out, shorter.data, shorter.len);
    free(zeros);
}

static void the_ceiling_is_exact(void **state)
{
    static const size_t sizes[] = {100, 16384, 65536, 65537, 1u << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct pl_buf message = {0};
        struct pl_bytes out;

        deflated_zeros(sizes[i], &message);
        assert_int_equal(inflate_exact(message.data, message.len, sizes[i], &out), 0);
        assert_int_equal(out.len, sizes[i]);
        for (size_t at = 0; at < out.len; at++) {
            assert_int_equal(out.data[at], 0);
        }
        assert_int_equal(inflate_exact(message.data, message.len, sizes[i] - 1, &out),
                         PL_ERR_TOO_BIG);
        assert_int_equal(inflate_exact(message.data, message.len, sizes[i] + 1, &out), 0);
        pl_buf_done(&message);
    }
    pl_deflate_done();
}

static void a_bomb_stops_at_the_ceiling(void **state)
{
    struct pl_buf bomb = {0};
    struct pl_bytes out;

    (void)state;
    deflated_zeros(8u << 20, &bomb);
    assert_true(bomb.len < 10000);
    assert_int_equal(inflate_exact(bomb.data, bomb.len, MAX, &out), PL_ERR_TOO_BIG);
    assert_int_equal(inflate_exact(bomb.data, bomb.len, 0, &out), PL_ERR_TOO_BIG);
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    assert_int_equal(inflate_exact("\x00", 1, 0, &out), 0);
    pl_buf_done(&bomb);
    pl_deflate_done();
}

static void shared_buffers_shrink_after_a_large_message(void **state)
{
    struct pl_buf large = {0};
    struct pl_bytes out;

    (void)state;
    deflated_zeros(1u << 20, &large);
    assert_int_equal(inflate_exact(large.data, large.len, 1u << 20, &out), 0);
    assert_true(pl_deflate__scratch() > 2u << 20);
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    assert_true(pl_deflate__message("aaaaaaaaaaaaaaaa", 16, &out));
    assert_true(pl_deflate__scratch() <= 2 * 65536);
    pl_buf_done(&large);
    pl_deflate_done();
    assert_int_equal(pl_deflate__scratch(), 0);
}

static void no_damaged_byte_does_harm(void **state)
{
    static const char text[] = "{\"op\":\"subscribe\",\"id\":1,\"community_id\":42} and again "
                               "{\"op\":\"subscribe\",\"id\":2,\"community_id\":43}";
    struct pl_bytes shorter, out;
    uint8_t damaged[sizeof(text)];
    size_t len;

    (void)state;
    assert_true(pl_deflate__message(text, sizeof(text) - 1, &shorter));
    len = shorter.len;
    memcpy(damaged, shorter.data, len);
    for (size_t at = 0; at < len; at++) {
        const uint8_t good = damaged[at];

        for (int byte = 0; byte < 256; byte++) {
            int err;

            damaged[at] = (uint8_t)byte;
            err = inflate_exact(damaged, len, 1000, &out);
            assert_true(err == 0 || err == PL_ERR_MALFORMED || err == PL_ERR_TOO_BIG);
            assert_true(err != 0 || out.len <= 1000);
        }
        damaged[at] = good;
    }
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_not_equal(inflate_exact(damaged, cut, 1000, &out), 0);
    }
    assert_inflates((char *)damaged, len, text);
    pl_deflate_done();
}

static void what_does_not_become_shorter_is_not_deflated(void **state)
{
    struct pl_bytes out;

    (void)state;
    assert_false(pl_deflate__message("", 0, &out));
    assert_false(pl_deflate__message("a", 1, &out));
    assert_false(pl_deflate__message("abcdefgh", 8, &out));
    assert_true(pl_deflate__message("aaaaaaaaaaaaaaaa", 16, &out));
    assert_true(out.len < 16);
    pl_deflate_done();
}

static void messages_share_no_context(void **state)
{
    struct pl_bytes out;
    uint8_t first[64];
    size_t len;

    (void)state;
    assert_true(pl_deflate__message("hello hello hello hello", 23, &out));
    len = out.len;
    memcpy(first, out.data, len);
    assert_true(pl_deflate__message("hello hello hello hello", 23, &out));
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, first, len);
    pl_deflate_done();
}

static void it_comes_back_after_done(void **state)
{
    (void)state;
    pl_deflate_done();
    pl_deflate_done();
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    pl_deflate_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_rfc_inflate),
        cmocka_unit_test(a_final_block_need_not_be_the_last),
        cmocka_unit_test(a_message_that_stops_inside_a_block_is_malformed),
        cmocka_unit_test(garbage_is_malformed_and_does_not_last),
        cmocka_unit_test(the_ceiling_is_exact),
        cmocka_unit_test(a_bomb_stops_at_the_ceiling),
        cmocka_unit_test(shared_buffers_shrink_after_a_large_message),
        cmocka_unit_test(no_damaged_byte_does_harm),
        cmocka_unit_test(what_does_not_become_shorter_is_not_deflated),
        cmocka_unit_test(messages_share_no_context),
        cmocka_unit_test(it_comes_back_after_done),
    };

    return cmocka_run_group_tests_name("protocol/deflate", tests, NULL, NULL);
}
