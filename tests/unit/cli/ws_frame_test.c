#include "server/cli/ws_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/http.h"
#include "protocol/status.h"

static struct pl_cli_frame f;
static size_t size;

static int parse(const void *bytes, size_t len)
{
    return pl_cli_frame_parse(bytes, len, &f, &size);
}

static void the_handshake_example_of_the_standard_comes_out(void **state)
{
    char key[25], accept[29];

    (void)state;
    pl_cli_ws_key((const uint8_t *)"the sample nonce", key);
    assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
    pl_cli_ws_accept(key, accept);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void a_whole_frame_is_taken_and_a_part_of_it_waits(void **state)
{
    static const char bytes[] = "\x81\x05hellomore";

    (void)state;
    for (size_t len = 0; len < 7; len++) {
        assert_int_equal(parse(bytes, len), PL_HTTP_MORE);
    }
    assert_int_equal(parse(bytes, sizeof(bytes) - 1), 0);
    assert_true(f.fin);
    assert_int_equal(f.opcode, PL_CLI_WS_TEXT);
    assert_int_equal(f.len, 5);
    assert_memory_equal(f.payload, "hello", 5);
    assert_int_equal(size, 7);
}

static void lengths_of_all_three_forms_are_read(void **state)
{
    static uint8_t bytes[10 + 65536] = {0x82, 126, 0, 126};

    (void)state;
    assert_int_equal(parse(bytes, 4 + 125), PL_HTTP_MORE);
    assert_int_equal(parse(bytes, 4 + 126), 0);
    assert_int_equal(f.len, 126);
    memcpy(bytes, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
    assert_int_equal(parse(bytes, sizeof(bytes) - 1), PL_HTTP_MORE);
    assert_int_equal(parse(bytes, sizeof(bytes)), 0);
    assert_int_equal(f.len, 65536);
    assert_int_equal(size, sizeof(bytes));
}

static void what_a_server_must_not_send_is_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("\x81\x80", 2), PL_ERR_PROTOCOL); /* masked */
    assert_int_equal(parse("\xc1\x00", 2), PL_ERR_PROTOCOL); /* RSV1 */
    assert_int_equal(parse("\xa1\x00", 2), PL_ERR_PROTOCOL); /* RSV2 */
    assert_int_equal(parse("\x83\x00", 2), PL_ERR_PROTOCOL); /* unknown opcodes */
    assert_int_equal(parse("\x8b\x00", 2), PL_ERR_PROTOCOL);
    assert_int_equal(parse("\x09\x00", 2), PL_ERR_PROTOCOL);         /* a ping in pieces */
    assert_int_equal(parse("\x89\x7e", 2), PL_ERR_PROTOCOL);         /* a long ping */
    assert_int_equal(parse("\x81\x7e\x00\x7d", 4), PL_ERR_PROTOCOL); /* not the shortest form */
    assert_int_equal(parse("\x81\x7f\0\0\0\0\0\0\xff\xff", 10), PL_ERR_PROTOCOL);
    assert_int_equal(parse("\x81\x7f\x80\0\0\0\0\0\0\0", 10), PL_ERR_TOO_BIG);
    assert_int_equal(parse("\x81\x7f\0\0\0\0\x04\0\0\x01", 10),
                     PL_ERR_TOO_BIG); /* 64 MiB and one */
}

static void a_written_frame_is_final_and_masked(void **state)
{
    static const uint8_t mask[4] = {1, 2, 3, 4};
    struct pl_buf out = {0};

    (void)state;
    pl_cli_frame_write(&out, PL_CLI_WS_TEXT, "hello", 5, mask);
    assert_int_equal(out.len, 11);
    assert_memory_equal(out.data, "\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e", 11);
    pl_buf_done(&out);
}

static void long_frames_say_their_length_in_the_shortest_form(void **state)
{
    static const uint8_t mask[4], payload[65536];
    static const struct {
        size_t len, header;
        const char *bytes;
    } cases[] = {{125, 6, "\x82\xfd"},
                 {126, 8, "\x82\xfe\x00\x7e"},
                 {65535, 8, "\x82\xfe\xff\xff"},
                 {65536, 14, "\x82\xff\0\0\0\0\0\x01\0\0"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pl_buf out = {0};

        pl_cli_frame_write(&out, PL_CLI_WS_BINARY, payload, cases[i].len, mask);
        assert_int_equal(out.len, cases[i].header + cases[i].len);
        assert_memory_equal(out.data, cases[i].bytes, cases[i].header - 4);
        pl_buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handshake_example_of_the_standard_comes_out),
        cmocka_unit_test(a_whole_frame_is_taken_and_a_part_of_it_waits),
        cmocka_unit_test(lengths_of_all_three_forms_are_read),
        cmocka_unit_test(what_a_server_must_not_send_is_refused),
        cmocka_unit_test(a_written_frame_is_final_and_masked),
        cmocka_unit_test(long_frames_say_their_length_in_the_shortest_form),
    };

    return cmocka_run_group_tests_name("cli/ws_frame", tests, NULL, NULL);
}
