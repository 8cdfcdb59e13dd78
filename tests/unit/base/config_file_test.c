#include "server/base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/buf.h"
#include "server/base/config_priv.h"

enum {
    LINE_LIMIT = 8192
};

static struct pl_config *cfg;
static struct pl_config_error err;
static struct pl_buf text;

static int release(void **state)
{
    (void)state;
    pl_config_free(cfg);
    cfg = NULL;
    pl_buf_done(&text);
    return 0;
}

static int load(void)
{
    pl_config_free(cfg);
    cfg = NULL;
    return pl_config__from_text("p.conf", (const char *)text.data, text.len, &cfg, &err);
}

static int load_text(const char *s)
{
    pl_buf_done(&text);
    pl_buf_append_str(&text, s);
    return load();
}

/* "[server]", then a line of `len` bytes that sets server.node. */
static int load_line_of(size_t len)
{
    pl_buf_done(&text);
    pl_buf_append_str(&text, "[server]\nnode=");
    while (text.len < len + strlen("[server]\n")) {
        pl_buf_append_byte(&text, 'n');
    }
    pl_buf_append_str(&text, "\n[queue]\nttl=9s\n");
    return load();
}

static void nothing_is_a_valid_file(void **state)
{
    (void)state;
    assert_int_equal(load(), 0);
    assert_int_equal(load_text("\n\n# only\n;comments\n[queue]"), 0);
    assert_int_equal(load_text("\xef\xbb\xbf[queue]\nttl = 9s"), 0);
    assert_int_equal(cfg->queue_ttl, 9000);
}

static void a_line_at_the_limit_is_read_whole_and_one_beyond_refused(void **state)
{
    (void)state;
    assert_int_equal(load_line_of(LINE_LIMIT), 0);
    assert_int_equal(strlen(cfg->server_node), LINE_LIMIT - strlen("node="));
    assert_int_equal(cfg->queue_ttl, 9000);
    assert_int_equal(load_line_of(LINE_LIMIT + 1), -1);
    assert_string_equal(err.text, "p.conf:2: the line is longer than 8192 bytes");
}

static void what_is_no_option_is_refused_with_its_line(void **state)
{
    static const char *const bad[] = {"[queue]\nttl\n", "[queue]\n[server\n",
                                      "[queue]\nnonsense here\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(load_text(bad[i]), -1);
        assert_string_equal(err.text, "p.conf:2: expected [section] or key = value");
    }
    assert_int_equal(load_text("\nttl = 9s\n"), -1);
    assert_string_equal(err.text, "p.conf:2: an option stands before any [section]");
    assert_int_equal(load_text("[queue] ttl = 9s\n"), -1);
    assert_string_equal(err.text, "p.conf:1: nothing may follow a [section] in its line");
}

static void a_nul_byte_is_refused(void **state)
{
    (void)state;
    pl_buf_append(&text, "[queue]\nttl = 9s\0 or 10s\n", 24);
    assert_int_equal(load(), -1);
    assert_string_equal(err.text, "p.conf:2: the line holds a NUL byte");
}

static void an_option_set_twice_names_both_lines(void **state)
{
    (void)state;
    assert_int_equal(load_text("[queue]\nttl = 9s\n[log]\n[queue]\nttl = 8s\n"), -1);
    assert_string_equal(err.text, "p.conf:5: queue.ttl is set a second time, first in line 2");
}

static void the_first_error_is_the_one_reported(void **state)
{
    (void)state;
    assert_int_equal(load_text("[queue]\nttl = x\ntll = 1\nnonsense\n"), -1);
    assert_non_null(strstr(err.text, "p.conf:2: queue.ttl = \"x\""));
}

static void no_comment_begins_behind_a_value(void **state)
{
    (void)state;
    assert_int_equal(load_text("[server]\nnode = a ; b # c\n"), 0);
    assert_string_equal(cfg->server_node, "a ; b # c");
}

static void a_file_is_read_from_disk(void **state)
{
    char path[] = "/tmp/config_file_test.XXXXXX";
    struct pl_config_sources src = {.file = path};
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "[queue]\nttl = 9s\n", 17), 17);
    assert_int_equal(pl_config_load(&src, &cfg, &err), 0);
    assert_int_equal(cfg->queue_ttl, 9000);
    close(fd);
    unlink(path);
}

static void a_file_that_cannot_be_read_is_an_error(void **state)
{
    struct pl_config_sources src = {.file = "/nonexistent/p.conf"};

    (void)state;
    assert_int_equal(pl_config_load(&src, &cfg, &err), -1);
    assert_string_equal(err.text, "/nonexistent/p.conf: No such file or directory");
    src.file = "/";
    assert_int_equal(pl_config_load(&src, &cfg, &err), -1);
    assert_string_equal(err.text, "/: Is a directory");
    src.file = "/dev/zero";
    assert_int_equal(pl_config_load(&src, &cfg, &err), -1);
    assert_string_equal(err.text, "/dev/zero: larger than 1048576 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_is_a_valid_file, release),
        cmocka_unit_test_teardown(a_line_at_the_limit_is_read_whole_and_one_beyond_refused,
                                  release),
        cmocka_unit_test_teardown(what_is_no_option_is_refused_with_its_line, release),
        cmocka_unit_test_teardown(a_nul_byte_is_refused, release),
        cmocka_unit_test_teardown(an_option_set_twice_names_both_lines, release),
        cmocka_unit_test_teardown(the_first_error_is_the_one_reported, release),
        cmocka_unit_test_teardown(no_comment_begins_behind_a_value, release),
        cmocka_unit_test_teardown(a_file_is_read_from_disk, release),
        cmocka_unit_test_teardown(a_file_that_cannot_be_read_is_an_error, release),
    };

    return cmocka_run_group_tests_name("base/config_file", tests, NULL, NULL);
}
