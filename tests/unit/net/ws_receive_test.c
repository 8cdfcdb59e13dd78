#include "server/net/net.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static const char offer[] = "permessage-deflate";

/* The deflated bytes of len times the same letter, from the server's own compressed frame
 * without its header. */
static struct pl_bytes compressed(struct pl_frame **ret_frame, size_t len)
{
    struct pl_buf out = {0};
    struct pl_bytes b;
    size_t header;

    pl_buf_reserve(&out, len);
    memset(out.data, 'z', len);
    out.len = len;
    *ret_frame = pl_frame_new(PL_JSON, &out);
    b = pl_frame_websocket_deflated(*ret_frame, 0);
    assert_int_equal(b.data[0], 0xc1);
    header = b.data[1] < 126 ? 2 : b.data[1] == 126 ? 4 : 10;
    return (struct pl_bytes){b.data + header, b.len - header};
}

static int open_mute(struct harness *h, bool deflate)
{
    int fd;

    h->mute = true;
    harness_start(h);
    fd = harness_websocket(h, deflate ? offer : NULL);
    harness_read_text(h, fd, "\r\n\r\n");
    return fd;
}

static void expect_close(struct harness *h, int fd, int code, const char *reason)
{
    size_t len = strlen(reason);
    const char *got = harness_read(h, fd, 4 + len);

    assert_int_equal((uint8_t)got[0], 0x88);
    assert_int_equal((uint8_t)got[2] << 8 | (uint8_t)got[3], code);
    assert_memory_equal(got + 4, reason, len);
    close(fd);
    harness_until(h, &h->ws_closed, 1);
    assert_int_equal(h->close_code, code);
    assert_false(h->close_by_peer);
}

static void messages_of_every_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {0,   1,   125, 126, 255,  256,   257,
                                   271, 272, 273, 512, 4096, 65535, 65536};
    struct harness *h = *state;
    char *data = calloc(1, 65536);
    int fd = open_mute(h, false);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        harness_send_frame(fd, 0x81, data, sizes[i]);
        harness_until(h, &h->ws_messages, (int)i + 1);
        assert_int_equal(h->last_len, sizes[i]);
        assert_null(h->ws->busy);
    }
    free(data);
    close(fd);
}

static void fragments_become_one_message_pings_between_them(void **state)
{
    struct harness *h = *state;
    int fd;

    harness_start(h);
    fd = harness_websocket(h, offer);
    harness_read_text(h, fd, "\r\n\r\n");
    harness_send_frame(fd, 0x01, "", 0);
    harness_send_frame(fd, 0x89, "p", 1);
    harness_send_frame(fd, 0x00, "one ", 4);
    harness_send_frame(fd, 0x8a, "p", 1);
    harness_send_frame(fd, 0x00, "two", 3);
    harness_send_frame(fd, 0x80, "", 0);
    assert_non_null(strstr(harness_read_text(h, fd, "two"), "\x81\x07one two"));
    assert_int_equal(h->ws_messages, 1);
    assert_true(h->last_was_text);
    close(fd);
}

static void frames_fed_by_the_byte_are_the_same_message(void **state)
{
    struct harness *h = *state;
    struct pl_frame *f;
    struct pl_bytes z = compressed(&f, 1000);
    uint8_t bytes[100];
    size_t len = harness_frame(bytes, 0xc1, z.data, z.len);
    int fd = open_mute(h, true);

    for (size_t i = 0; i < len; i++) {
        harness_send(fd, bytes + i, 1);
        harness_turn(h, -1);
    }
    harness_until(h, &h->ws_messages, 1);
    assert_int_equal(h->last_len, 1000);
    pl_frame_unref(f);
    close(fd);
}

static void compressed_fragments_are_inflated_as_one(void **state)
{
    struct harness *h = *state;
    struct pl_frame *f;
    struct pl_bytes z = compressed(&f, 50000);
    int fd = open_mute(h, true);

    harness_send_frame(fd, 0x41, z.data, 3);
    harness_send_frame(fd, 0x00, z.data + 3, z.len - 5);
    harness_send_frame(fd, 0x80, z.data + z.len - 2, 2);
    harness_until(h, &h->ws_messages, 1);
    assert_int_equal(h->last_len, 50000);
    harness_send_frame(fd, 0x81, "plain is allowed too", 20);
    harness_until(h, &h->ws_messages, 2);
    assert_int_equal(h->last_len, 20);
    pl_frame_unref(f);
    close(fd);
}

static void a_message_beyond_the_limit_closes_4413_at_once(void **state)
{
    static const uint8_t begin[] = {0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0};
    struct harness *h = *state;
    char data[300] = {0};
    int fd = open_mute(h, false);

    harness_send(fd, begin, sizeof(begin));
    harness_send(fd, data, sizeof(data));
    expect_close(h, fd, 4413, "too_big");
    assert_int_equal(h->ws_messages, 0);
}

static void fragments_beyond_the_limit_close_4413(void **state)
{
    struct harness *h = *state;
    char data[1000] = {0};
    int fd;

    h->cfg.limits_message_bytes = 3000;
    fd = open_mute(h, false);
    harness_send_frame(fd, 0x01, data, sizeof(data));
    for (int i = 0; i < 3; i++) {
        harness_send_frame(fd, 0x00, data, sizeof(data));
    }
    expect_close(h, fd, 4413, "too_big");
}

static void a_compressed_bomb_closes_4413(void **state)
{
    struct harness *h = *state;
    struct pl_frame *f;
    struct pl_bytes z = compressed(&f, 20 * 1024 * 1024);
    int fd = open_mute(h, true);

    harness_send_frame(fd, 0xc1, z.data, z.len);
    expect_close(h, fd, 4413, "too_big");
    assert_int_equal(h->ws_messages, 0);
    pl_frame_unref(f);
}

static void garbage_instead_of_deflate_closes_1007(void **state)
{
    struct harness *h = *state;
    int fd = open_mute(h, true);

    harness_send_frame(fd, 0xc1, "\xff\xff\xff\xff\xff", 5);
    expect_close(h, fd, 1007, "invalid_data");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_of_every_size_arrive_whole),
        TEST(fragments_become_one_message_pings_between_them),
        TEST(frames_fed_by_the_byte_are_the_same_message),
        TEST(compressed_fragments_are_inflated_as_one),
        TEST(a_message_beyond_the_limit_closes_4413_at_once),
        TEST(fragments_beyond_the_limit_close_4413),
        TEST(a_compressed_bomb_closes_4413),
        TEST(garbage_instead_of_deflate_closes_1007),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
