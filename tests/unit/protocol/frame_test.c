#include "protocol/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/buf.h"

static struct pl_frame *frame_of(enum pl_codec codec, char fill, size_t len)
{
    struct pl_buf payload = {0};

    for (size_t i = 0; i < len; i++) {
        pl_buf_append_byte(&payload, (uint8_t)fill);
    }
    return pl_frame_new(codec, &payload);
}

static void headers_have_the_shortest_length(void **state)
{
    static const struct {
        size_t len;
        size_t header_len;
        uint8_t header[10];
    } cases[] = {
        {0, 2, {0x81, 0}},
        {125, 2, {0x81, 125}},
        {126, 4, {0x81, 126, 0, 126}},
        {65535, 4, {0x81, 126, 0xff, 0xff}},
        {65536, 10, {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
        {0x123456789a, 10, {0x81, 127, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a}},
    };
    uint8_t out[10];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(pl_websocket_header(out, 1, false, cases[i].len), cases[i].header_len);
        assert_memory_equal(out, cases[i].header, cases[i].header_len);
    }
    (void)pl_websocket_header(out, 2, true, 0);
    assert_int_equal(out[0], 0xc2);
}

static void a_frame_takes_the_payload_over(void **state)
{
    struct pl_buf payload = {0};
    struct pl_frame *f;

    (void)state;
    pl_buf_append_str(&payload, "{\"op\":\"ping\"}");
    f = pl_frame_new(PL_JSON, &payload);
    assert_null(payload.data);
    assert_int_equal(payload.len, 0);
    assert_int_equal(pl_frame_codec(f), PL_JSON);
    assert_int_equal(pl_frame_payload(f).len, 13);
    assert_memory_equal(pl_frame_payload(f).data, "{\"op\":\"ping\"}", 13);
    assert_int_equal(pl_frame_websocket(f).len, 15);
    assert_memory_equal(pl_frame_websocket(f).data, "\x81\x0d{\"op\":\"ping\"}", 15);
    pl_frame_unref(f);
}

static void messagepack_is_binary(void **state)
{
    struct pl_frame *f = frame_of(PL_MSGPACK, '\x80', 1);

    (void)state;
    assert_int_equal(pl_frame_codec(f), PL_MSGPACK);
    assert_memory_equal(pl_frame_websocket(f).data, "\x82\x01\x80", 3);
    pl_frame_unref(f);
}

static void frames_of_all_sizes_are_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, 100000};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct pl_frame *f = frame_of(PL_JSON, 'a', sizes[i]);
        const struct pl_bytes frame = pl_frame_websocket(f);
        uint8_t header[10];
        const size_t header_len = pl_websocket_header(header, 1, false, sizes[i]);

        assert_int_equal(frame.len, header_len + sizes[i]);
        assert_memory_equal(frame.data, header, header_len);
        assert_int_equal(pl_frame_payload(f).len, sizes[i]);
        for (size_t at = header_len; at < frame.len; at++) {
            assert_int_equal(frame.data[at], 'a');
        }
        pl_frame_unref(f);
    }
}

/* What lws_write may do to the bytes before: with a sanitizer, a frame without room would show. */
static void scribble_before(struct pl_bytes frame)
{
    memset((uint8_t *)(uintptr_t)frame.data - PL_FRAME_ROOM, 0xee, PL_FRAME_ROOM);
}

static void there_is_room_before_every_form(void **state)
{
    struct pl_frame *f = frame_of(PL_JSON, 'a', 1000);
    const struct pl_bytes plain = pl_frame_websocket(f);
    const struct pl_bytes deflated = pl_frame_websocket_deflated(f, 0);

    (void)state;
    scribble_before(plain);
    scribble_before(deflated);
    assert_int_equal(plain.data[0], 0x81);
    assert_int_equal(deflated.data[0], 0xc1);
    pl_frame_unref(f);
    pl_deflate_done();
}

static void the_deflated_form_inflates_to_the_payload(void **state)
{
    static const size_t sizes[] = {512, 3000, 70000, 1u << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct pl_frame *f = frame_of(i % 2 ? PL_MSGPACK : PL_JSON, 'a', sizes[i]);
        const struct pl_bytes frame = pl_frame_websocket_deflated(f, 512);
        const size_t skip = frame.data[1] < 126 ? 2 : 4;
        struct pl_bytes inflated;

        assert_true(frame.len < sizes[i]);
        assert_int_equal(frame.data[0], i % 2 ? 0xc2 : 0xc1);
        assert_int_equal(pl_inflate(frame.data + skip, frame.len - skip, sizes[i], &inflated), 0);
        assert_int_equal(inflated.len, sizes[i]);
        assert_memory_equal(inflated.data, pl_frame_payload(f).data, sizes[i]);
        pl_frame_unref(f);
    }
    pl_deflate_done();
}

static void the_gzip_form_holds_the_same_deflate_stream(void **state)
{
    static const uint8_t head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    static const uint8_t end[] = {0x00, 0x00, 0xff, 0xff, 0x03, 0x00};
    struct pl_frame *f = frame_of(PL_JSON, 'a', 1000);
    const size_t before = pl_frame_memory(f);
    struct pl_bytes gzip, again, inner;
    struct pl_bytes frame = pl_frame_websocket_deflated(f, 512);

    (void)state;
    frame = (struct pl_bytes){frame.data + 2, frame.len - 2};
    assert_true(pl_frame_gzip(f, 512, &gzip));
    assert_true(pl_frame_gzip(f, 512, &again));
    assert_ptr_equal(gzip.data, again.data);
    assert_true(pl_frame_memory(f) >= before + frame.len + gzip.len);
    assert_memory_equal(gzip.data, head, sizeof(head));
    inner = (struct pl_bytes){gzip.data + sizeof(head), gzip.len - sizeof(head) - sizeof(end) - 8};
    assert_int_equal(inner.len, frame.len);
    assert_memory_equal(inner.data, frame.data, frame.len);
    assert_memory_equal(inner.data + inner.len, end, sizeof(end));
    assert_memory_equal(gzip.data + gzip.len - 4, ((uint8_t[]){0xe8, 0x03, 0, 0}), 4);
    pl_frame_unref(f);
    pl_deflate_done();
}

static void what_is_small_or_does_not_shrink_has_no_gzip_form(void **state)
{
    struct pl_frame *small = frame_of(PL_JSON, 'a', 100);
    struct pl_frame *tiny = frame_of(PL_JSON, 'a', 1);
    struct pl_bytes gzip = {NULL, 7};

    (void)state;
    assert_false(pl_frame_gzip(small, 101, &gzip));
    assert_false(pl_frame_gzip(tiny, 0, &gzip));
    assert_int_equal(gzip.len, 7);
    assert_true(pl_frame_gzip(small, 100, &gzip));
    pl_frame_unref(small);
    pl_frame_unref(tiny);
    pl_deflate_done();
}

static void it_is_made_once_and_shared(void **state)
{
    struct pl_frame *f = frame_of(PL_JSON, 'a', 1000);
    const struct pl_bytes first = pl_frame_websocket_deflated(f, 512);

    (void)state;
    assert_ptr_equal(pl_frame_websocket_deflated(f, 1).data, first.data);
    assert_ptr_not_equal(pl_frame_websocket(f).data, first.data);
    pl_frame_unref(f);
    pl_deflate_done();
}

static void small_or_incompressible_payloads_stay_plain(void **state)
{
    struct pl_frame *f = frame_of(PL_JSON, 'a', 511);
    struct pl_buf noise = {0};
    uint32_t x = 1;

    (void)state;
    assert_ptr_equal(pl_frame_websocket_deflated(f, 512).data, pl_frame_websocket(f).data);
    assert_ptr_not_equal(pl_frame_websocket_deflated(f, 511).data, pl_frame_websocket(f).data);
    pl_frame_unref(f);
    for (int i = 0; i < 2000; i++) {
        x = x * 1664525u + 1013904223u;
        pl_buf_append_byte(&noise, (uint8_t)(x >> 24));
    }
    f = pl_frame_new(PL_MSGPACK, &noise);
    assert_ptr_equal(pl_frame_websocket_deflated(f, 0).data, pl_frame_websocket(f).data);
    pl_frame_unref(f);
    f = frame_of(PL_JSON, 'a', 0);
    assert_ptr_equal(pl_frame_websocket_deflated(f, 0).data, pl_frame_websocket(f).data);
    pl_frame_unref(f);
    pl_deflate_done();
}

static void the_last_reference_frees(void **state)
{
    struct pl_frame *f = frame_of(PL_JSON, 'a', 10);

    (void)state;
    assert_ptr_equal(pl_frame_ref(f), f);
    pl_frame_unref(f);
    assert_int_equal(pl_frame_payload(f).len, 10);
    pl_frame_unref(f);
    pl_frame_unref(NULL);
}

static void memory_counts_both_forms(void **state)
{
    struct pl_frame *f = frame_of(PL_JSON, 'a', 1000);
    const size_t plain = pl_frame_memory(f);
    size_t deflated;

    (void)state;
    assert_in_range(plain, 1000 + PL_FRAME_ROOM, 1200);
    deflated = pl_frame_websocket_deflated(f, 0).len;
    assert_in_range(pl_frame_memory(f), plain + deflated + PL_FRAME_ROOM, plain + deflated + 100);
    pl_frame_unref(f);
    pl_deflate_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_have_the_shortest_length),
        cmocka_unit_test(a_frame_takes_the_payload_over),
        cmocka_unit_test(messagepack_is_binary),
        cmocka_unit_test(frames_of_all_sizes_are_whole),
        cmocka_unit_test(there_is_room_before_every_form),
        cmocka_unit_test(the_deflated_form_inflates_to_the_payload),
        cmocka_unit_test(the_gzip_form_holds_the_same_deflate_stream),
        cmocka_unit_test(what_is_small_or_does_not_shrink_has_no_gzip_form),
        cmocka_unit_test(it_is_made_once_and_shared),
        cmocka_unit_test(small_or_incompressible_payloads_stay_plain),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(memory_counts_both_forms),
    };

    return cmocka_run_group_tests_name("protocol/frame", tests, NULL, NULL);
}
