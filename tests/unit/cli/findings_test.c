#include "server/cli/findings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct pl_cli_findings f;

static const struct pl_cli_finding *of(const char *check)
{
    for (size_t i = 0; i < f.count; i++) {
        if (strcmp(f.items[i].check, check) == 0) {
            return &f.items[i];
        }
    }
    fail_msg("no finding %s", check);
    return NULL;
}

static struct pl_value text(const char *s)
{
    return (struct pl_value){.type = PL_STRING, .u.string = {s, strlen(s)}};
}

static const struct pl_str good_info =
    PL_LIT("# Server\r\nredis_version:7.0.15\r\n# Replication\r\nrole:master\r\n");

/* Judges these settings, of a Redis that is otherwise well. */
static void judge(const char *policy, const char *memory, const char *aof, const char *buffers,
                  const char *timeout)
{
    struct pl_value items[] = {text("maxmemory-policy"),
                               text(policy),
                               text("maxmemory"),
                               text(memory),
                               text("appendonly"),
                               text(aof),
                               text("client-output-buffer-limit"),
                               text(buffers),
                               text("timeout"),
                               text(timeout)};
    struct pl_value config = {.type = PL_ARRAY, .u.array = {items, 10}};

    f.count = 0;
    pl_cli_judge_redis(&f, good_info, &config);
}

#define GOOD_BUFFERS "normal 0 0 0 slave 268435456 67108864 60 pubsub 67108864 16777216 60"

static void a_redis_as_it_should_be_is_fine(void **state)
{
    (void)state;
    judge("noeviction", "2147483648", "yes", GOOD_BUFFERS, "0");
    assert_int_equal(f.count, 7);
    assert_int_equal(pl_cli_findings_worst(&f), PL_CLI_FINE);
}

static void each_setting_is_judged_by_itself(void **state)
{
    (void)state;
    judge("allkeys-lru", "2147483648", "yes", GOOD_BUFFERS, "0");
    assert_int_equal(of("redis.maxmemory-policy")->level, PL_CLI_WRONG);
    judge("noeviction", "0", "no", "normal 0 0 0 pubsub 8388608 1 60", "30");
    assert_int_equal(of("redis.maxmemory")->level, PL_CLI_DOUBT);
    assert_int_equal(of("redis.appendonly")->level, PL_CLI_DOUBT);
    assert_int_equal(of("redis.client-output-buffer-limit")->level, PL_CLI_DOUBT);
    assert_int_equal(of("redis.timeout")->level, PL_CLI_DOUBT);
    assert_int_equal(pl_cli_findings_worst(&f), PL_CLI_DOUBT);
    judge("noeviction", "1", "yes", "pubsub 0 0 0", "60");
    assert_int_equal(pl_cli_findings_worst(&f), PL_CLI_FINE);
}

static void versions_and_roles_are_read_from_info(void **state)
{
    (void)state;
    f.count = 0;
    pl_cli_judge_redis(&f, PL_LIT("redis_version:6.2.7\nrole:slave"), NULL);
    assert_int_equal(of("redis.version")->level, PL_CLI_WRONG);
    assert_int_equal(of("redis.role")->level, PL_CLI_WRONG);
    assert_ptr_equal(strstr(of("redis.role")->says, "slave:"), of("redis.role")->says);
    f.count = 0;
    pl_cli_judge_redis(&f, PL_LIT(""), NULL);
    assert_int_equal(of("redis.version")->level, PL_CLI_WRONG);
}

static void settings_that_cannot_be_seen_are_skipped(void **state)
{
    (void)state;
    f.count = 0;
    pl_cli_judge_redis(&f, good_info, NULL);
    assert_int_equal(of("redis.appendonly")->level, PL_CLI_SKIPPED);
    assert_int_equal(pl_cli_findings_worst(&f), PL_CLI_SKIPPED);
}

static enum pl_cli_level clock_level(int64_t ahead_ms, int64_t half_ms)
{
    f.count = 0;
    pl_cli_judge_clock(&f, ahead_ms, half_ms);
    return f.items[0].level;
}

static void clocks_may_differ_by_as_much_as_the_look_took(void **state)
{
    (void)state;
    assert_int_equal(clock_level(0, 1), PL_CLI_FINE);
    assert_int_equal(clock_level(-700, 300), PL_CLI_FINE);
    assert_int_equal(clock_level(-700, 1), PL_CLI_DOUBT);
    assert_int_equal(clock_level(31000, 1), PL_CLI_WRONG);
    assert_int_equal(clock_level(-31000, 1), PL_CLI_WRONG);
}

static enum pl_cli_level certificate_level(int64_t days, bool trusted)
{
    f.count = 0;
    pl_cli_judge_certificate(&f, days * 86400, trusted, "self-signed certificate");
    return f.items[0].level;
}

static void certificates_are_renewed_in_time(void **state)
{
    (void)state;
    assert_int_equal(certificate_level(60, true), PL_CLI_FINE);
    assert_int_equal(certificate_level(20, true), PL_CLI_DOUBT);
    assert_int_equal(certificate_level(3, true), PL_CLI_WRONG);
    assert_int_equal(certificate_level(-1, true), PL_CLI_WRONG);
    assert_int_equal(certificate_level(60, false), PL_CLI_WRONG);
    assert_non_null(strstr(f.items[0].says, "self-signed certificate"));
}

static void loopback_is_what_no_other_machine_reaches(void **state)
{
    static const char *const near[] = {"127.0.0.1:8888", "127.1.2.3",  "localhost",
                                       "localhost:1",    "[::1]:8888", "::1"};
    static const char *const far[] = {
        "0.0.0.0:8888", "[::]:8888", "10.0.0.1:1", "localhost.example",
        "[::1:2]:8888", "12.7.0.0",  "::12",       ""};

    (void)state;
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        assert_true(pl_cli_is_loopback(near[i]));
    }
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        assert_false(pl_cli_is_loopback(far[i]));
    }
}

static void findings_are_lines_or_json(void **state)
{
    struct pl_buf out = {0};

    (void)state;
    f.count = 0;
    pl_cli_found(&f, "files", PL_CLI_FINE, "%d may be open", 7);
    pl_cli_found(&f, "clock", PL_CLI_DOUBT, "a \"quote\"");
    pl_cli_findings_render(&f, true, &out);
    assert_string_equal(pl_buf_cstr(&out),
                        "{\"check\":\"files\",\"level\":\"ok\",\"says\":\"7 may be open\"}\n"
                        "{\"check\":\"clock\",\"level\":\"doubt\",\"says\":\"a \\\"quote\\\"\"}\n");
    pl_buf_done(&out);
    pl_cli_findings_render(&f, false, &out);
    assert_non_null(strstr(pl_buf_cstr(&out), "ok       files "));
    pl_buf_done(&out);
}

static void more_than_there_is_room_for_is_dropped(void **state)
{
    (void)state;
    f.count = 0;
    for (int i = 0; i < PL_CLI_FINDINGS_MAX + 5; i++) {
        pl_cli_found(&f, "x", PL_CLI_FINE, "y");
    }
    assert_int_equal(f.count, PL_CLI_FINDINGS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_redis_as_it_should_be_is_fine),
        cmocka_unit_test(each_setting_is_judged_by_itself),
        cmocka_unit_test(versions_and_roles_are_read_from_info),
        cmocka_unit_test(settings_that_cannot_be_seen_are_skipped),
        cmocka_unit_test(clocks_may_differ_by_as_much_as_the_look_took),
        cmocka_unit_test(certificates_are_renewed_in_time),
        cmocka_unit_test(loopback_is_what_no_other_machine_reaches),
        cmocka_unit_test(findings_are_lines_or_json),
        cmocka_unit_test(more_than_there_is_room_for_is_dropped),
    };

    return cmocka_run_group_tests_name("cli/findings", tests, NULL, NULL);
}
