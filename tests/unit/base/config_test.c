#include "server/base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/config_priv.h"
#include "server/base/log.h"

static struct pl_config *cfg;
static struct pl_config_error err;

static int release(void **state)
{
    (void)state;
    pl_config_free(cfg);
    cfg = NULL;
    return 0;
}

/* The environment of a test: pairs of name and value, ended by NULL. */
static const char *const *env;

static const char *fake_getenv(const char *name)
{
    for (const char *const *pair = env; pair && pair[0]; pair += 2) {
        if (strcmp(pair[0], name) == 0) {
            return pair[1];
        }
    }
    return NULL;
}

static int load(const char *const *pairs, const char *const *set, size_t set_count)
{
    const struct pl_config_sources src = {
        .set = set, .set_count = set_count, .getenv_fn = fake_getenv};

    env = pairs;
    release(NULL);
    return pl_config_load(&src, &cfg, &err);
}

static int load_set(const char *set)
{
    return load(NULL, &set, 1);
}

static int load_text(const char *text)
{
    release(NULL);
    return pl_config__from_text("p.conf", text, strlen(text), &cfg, &err);
}

static void assert_error(const char *expected)
{
    assert_null(cfg);
    assert_string_equal(err.text, expected);
}

static void without_sources_every_option_has_its_default(void **state)
{
    (void)state;
    assert_int_equal(load(NULL, NULL, 0), 0);
    assert_string_equal(cfg->server_listen, "127.0.0.1:8888");
    assert_string_equal(cfg->server_node, "");
    assert_int_equal(cfg->auth_api_key.count, 0);
    assert_int_equal(cfg->queue_ttl, 120000);
    assert_int_equal(cfg->queue_batch_bytes, 256 * 1024);
    assert_int_equal(cfg->auth_max_token_ttl, 86400000);
    assert_int_equal(cfg->transport_phase, PL_PHASE_HYBRID);
    assert_int_equal(cfg->auth_jwt_algorithm, PL_ALG_HS256);
    assert_int_equal(cfg->log_level, PL_LOG_INFO);
    assert_int_equal(cfg->log_format, PL_LOG_KV);
    assert_true(cfg->websocket_compression);
    assert_false(cfg->auth_query_token);
}

static void a_file_sets_options_by_section(void **state)
{
    (void)state;
    assert_int_equal(load_text("# comment\n; comment\n[server]\nlisten = [::1]:80\r\n"
                               "[log]\n  level=debug\n\n[queue]\nttl : 2m"),
                     0);
    assert_string_equal(cfg->server_listen, "[::1]:80");
    assert_int_equal(cfg->log_level, PL_LOG_DEBUG);
    assert_int_equal(cfg->queue_ttl, 120000);
}

static void later_sources_win(void **state)
{
    static const char *const pairs[] = {"PARLEY_QUEUE_TTL", "20s", "PARLEY_LOG_LEVEL", "warn",
                                        NULL};
    static const char *const set[] = {"log.level=error", "log.level=off"};

    (void)state;
    assert_int_equal(load(pairs, set, 2), 0);
    assert_int_equal(cfg->queue_ttl, 20000);
    assert_int_equal(cfg->log_level, PL_LOG_OFF);
}

static void a_list_from_a_later_source_replaces_the_earlier(void **state)
{
    static const char *const pairs[] = {"PARLEY_AUTH_API_KEY", "one\ntwo\n", NULL};
    static const char *const set[] = {"auth.api_key=three"};
    static const char *const none[] = {"auth.api_key="};

    (void)state;
    assert_int_equal(load(pairs, NULL, 0), 0);
    assert_int_equal(cfg->auth_api_key.count, 2);
    assert_string_equal(cfg->auth_api_key.items[0], "one");
    assert_string_equal(cfg->auth_api_key.items[1], "two");
    assert_int_equal(load(pairs, set, 1), 0);
    assert_int_equal(cfg->auth_api_key.count, 1);
    assert_string_equal(cfg->auth_api_key.items[0], "three");
    assert_int_equal(load(pairs, none, 1), 0);
    assert_int_equal(cfg->auth_api_key.count, 0);
}

static void a_list_keeps_each_entry_verbatim(void **state)
{
    (void)state;
    assert_int_equal(load_text("[auth]\njwt_key = kid:a s;e ;c#r, e=t\njwt_key = second\n"), 0);
    assert_int_equal(cfg->auth_jwt_key.count, 2);
    assert_string_equal(cfg->auth_jwt_key.items[0], "kid:a s;e ;c#r, e=t");
    assert_string_equal(cfg->auth_jwt_key.items[1], "second");
}

static void words_are_split_at_commas_and_blanks(void **state)
{
    (void)state;
    assert_int_equal(load_text("[auth]\nallowed_origins = https://a, https://b\thttps://c,\n"
                               "allowed_origins = https://d\n"),
                     0);
    assert_int_equal(cfg->auth_allowed_origins.count, 4);
    assert_string_equal(cfg->auth_allowed_origins.items[0], "https://a");
    assert_string_equal(cfg->auth_allowed_origins.items[2], "https://c");
    assert_string_equal(cfg->auth_allowed_origins.items[3], "https://d");
}

static void networks_are_read_as_such(void **state)
{
    struct pl_address inside, outside;

    (void)state;
    assert_true(pl_address_parse("10.9.9.9", 8, &inside));
    assert_true(pl_address_parse("11.0.0.0", 8, &outside));
    assert_int_equal(load_text("[server]\ntrusted_proxies = 192.0.2.1, 10.0.0.0/8\n"
                               "trusted_proxies = 2001:db8::/32\n"),
                     0);
    assert_int_equal(cfg->server_trusted_proxies.count, 3);
    assert_true(pl_networks_have(&cfg->server_trusted_proxies, &inside));
    assert_false(pl_networks_have(&cfg->server_trusted_proxies, &outside));
    assert_int_equal(load_set("server.trusted_proxies="), 0);
    assert_int_equal(cfg->server_trusted_proxies.count, 0);
    assert_int_equal(load_text("[server]\ntrusted_proxies = 192.0.2.1 10.0.0.1/8\n"), -1);
    assert_error("p.conf:2: server.trusted_proxies = \"192.0.2.1 10.0.0.1/8\": expected addresses "
                 "and networks such as 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32");
}

static void errors_name_place_option_value_and_what_is_accepted(void **state)
{
    static const char *const pairs[] = {"PARLEY_TRANSPORT_PHASE", "both", NULL};

    (void)state;
    assert_int_equal(load_text("[queue]\n\nttl = abc\n"), -1);
    assert_error(
        "p.conf:3: queue.ttl = \"abc\": expected a duration such as 500ms, 30s, 2m, 24h or "
        "7d, from 1s to 1d");
    assert_int_equal(load(pairs, NULL, 0), -1);
    assert_error(
        "PARLEY_TRANSPORT_PHASE: transport.phase = \"both\": expected one of longpoll hybrid "
        "websocket websocket-only");
    assert_int_equal(load_set("queue.batch_events=0"), -1);
    assert_error("--set: queue.batch_events = \"0\": expected a whole number, from 1 to 100000");
}

static void an_unknown_option_names_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(load_text("[queue]\ntll = 1s\n"), -1);
    assert_error("p.conf:2: queue.tll is no option; the nearest is queue.ttl");
    assert_int_equal(load_text("[sever]\nlisten = x\n"), -1);
    assert_error("p.conf:2: sever.listen is no option; the nearest is server.listen");
    assert_int_equal(load_set("limits.header_byte=1"), -1);
    assert_error("--set: limits.header_byte is no option; the nearest is limits.header_bytes");
}

static void an_error_never_shows_a_secret(void **state)
{
    static const char *const texts[] = {
        "[auth]\njwt_kye = hunter2\n", "[auth]\napi_keys = hunter2\n",
        "[auth]\napi_key hunter2\n",   "[auth] api_key = hunter2\n",
        "api_key = hunter2\n",         "[auth]\napi_key = hunter2\n[queue]\nttl = x\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(load_text(texts[i]), -1);
        assert_null(strstr(err.text, "hunter2"));
        assert_non_null(strstr(err.text, "p.conf:"));
    }
    assert_int_equal(load_set("auth.api_key:hunter2"), -1);
    assert_error("--set: expected section.key=value");
    assert_int_equal(load_set("hunter2"), -1);
    assert_null(strstr(err.text, "hunter2"));
}

static void an_error_shows_no_control_characters_and_ends_in_time(void **state)
{
    char text[1000] = "queue.ttl=\x1b[31m";

    (void)state;
    memset(text + strlen(text), 'x', sizeof(text) - 1 - strlen(text));
    assert_int_equal(load_set(text), -1);
    assert_null(strchr(err.text, '\x1b'));
    assert_non_null(strstr(err.text, "\"?[31mxxx"));
    assert_non_null(strstr(err.text, "from 1s to 1d"));
}

static void check_number(const char *text, int64_t expected)
{
    assert_int_equal(load_set(text), 0);
    assert_true(cfg->queue_ttl == expected || cfg->channel_total_bytes == expected);
}

static void numbers_take_their_units(void **state)
{
    (void)state;
    check_number("queue.ttl=1500ms", 1500);
    check_number("queue.ttl=90", 90000);
    check_number("queue.ttl=90s", 90000);
    check_number("queue.ttl=5m", 300000);
    check_number("queue.ttl=3h", 10800000);
    check_number("queue.ttl=1d", 86400000);
    check_number("channel.total_bytes=65537", 65537);
    check_number("channel.total_bytes=65KiB", 65 << 10);
    check_number("channel.total_bytes=65K", 65 << 10);
    check_number("channel.total_bytes=7MiB", 7 << 20);
    check_number("channel.total_bytes=7M", 7 << 20);
    check_number("channel.total_bytes=5GiB", INT64_C(5) << 30);
    check_number("channel.total_bytes=1024G", INT64_C(1) << 40);
}

static void a_count_may_be_left_to_the_server(void **state)
{
    (void)state;
    assert_int_equal(load_set("server.workers=7"), 0);
    assert_int_equal(cfg->server_workers, 7);
    assert_int_equal(load_set("server.workers=auto"), 0);
    assert_int_equal(cfg->server_workers, 0);
    assert_int_equal(load_set("server.workers=0"), -1);
    assert_error("--set: server.workers = \"0\": expected auto or a whole number, from 1 to 64");
}

static void bad_numbers_are_refused(void **state)
{
    static const char *const bad[] = {
        "queue.ttl=",
        "queue.ttl=s",
        "queue.ttl=-5s",
        "queue.ttl=+5s",
        "queue.ttl= 5s",
        "queue.ttl=5 s",
        "queue.ttl=1.5s",
        "queue.ttl=5S",
        "queue.ttl=5KiB",
        "queue.ttl=0x10",
        "queue.ttl=999ms",
        "queue.ttl=25h",
        "queue.ttl=18446744073709551617",
        "queue.ttl=9223372036854775807d",
        "channel.ring_events=1000001",
        "channel.ring_events=10s",
        "channel.ring_bytes=4kB",
        "websocket.compression=maybe",
        "websocket.compression=ON",
        "auth.jwt_algorithm=none",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(load_set(bad[i]), -1);
        assert_memory_equal(err.text, "--set: ", 7);
    }
}

static void booleans_have_four_spellings_each(void **state)
{
    static const char *const on[] = {"on", "true", "yes", "1"};
    static const char *const off[] = {"off", "false", "no", "0"};
    char set[64];

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(set, sizeof(set), "auth.require_token=%s", on[i]);
        assert_int_equal(load_set(set), 0);
        assert_true(cfg->auth_require_token);
        snprintf(set, sizeof(set), "websocket.compression=%s", off[i]);
        assert_int_equal(load_set(set), 0);
        assert_false(cfg->websocket_compression);
    }
}

static void every_word_is_read_and_named(void **state)
{
    char set[64];

    (void)state;
    for (int i = 0; i <= PL_PHASE_WEBSOCKET_ONLY; i++) {
        snprintf(set, sizeof(set), "transport.phase=%s", pl_phase_name(i));
        assert_int_equal(load_set(set), 0);
        assert_int_equal(cfg->transport_phase, i);
    }
    for (int i = 0; i <= PL_ALG_ES512; i++) {
        snprintf(set, sizeof(set), "auth.jwt_algorithm=%s", pl_algorithm_name(i));
        assert_int_equal(load_set(set), 0);
        assert_int_equal(cfg->auth_jwt_algorithm, i);
    }
    assert_string_equal(pl_phase_name(PL_PHASE_WEBSOCKET_ONLY), "websocket-only");
    assert_string_equal(pl_algorithm_name(PL_ALG_ES512), "ES512");
    assert_string_equal(pl_phase_name(-1), "unknown");
    assert_string_equal(pl_algorithm_name(99), "unknown");
    assert_int_equal(load_set("log.format=json"), 0);
    assert_int_equal(cfg->log_format, PL_LOG_JSON);
}

static const struct field {
    size_t offset;
    struct pl_option_value value;
} fields[] = {
#define PL_OPTION(section, key, type, def, min, max, reload, help) \
    {offsetof(struct pl_config, section##_##key), {PL_OPTION_##type, min, max}},
#include "server/base/config.def"
#undef PL_OPTION
};

static bool same_field(const struct field *f, const struct pl_config *a, const struct pl_config *b)
{
    return pl_config__equal(&f->value, (const char *)a + f->offset, (const char *)b + f->offset);
}

/* A value that is not the default of any option of this type. */
static const char *another_value(const struct pl_option_info *info)
{
    static const char *const values[][2] = {
        {"INT", "1"},           {"BYTES", "100KiB"},    {"DURATION", "70s"},
        {"PHASE", "longpoll"},  {"ALGORITHM", "ES512"}, {"LOG_LEVEL", "error"},
        {"LOG_FORMAT", "json"}, {"NETWORKS", "::1"},    {"COUNT", "7"},
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (strcmp(info->type, values[i][0]) == 0) {
            return values[i][1];
        }
    }
    return strcmp(info->def, "on") == 0 ? "off" : "on"; /* BOOL, and as good a text as any */
}

static void every_option_can_be_set_by_its_environment_name(void **state)
{
    const struct pl_option_info *infos;
    size_t count = pl_config_options(&infos);
    struct pl_config *plain;

    (void)state;
    assert_int_equal(load(NULL, NULL, 0), 0);
    plain = cfg;
    cfg = NULL;
    for (size_t i = 0; i < count; i++) {
        char name[96];
        const char *const pairs[] = {name, another_value(&infos[i]), NULL};

        snprintf(name, sizeof(name), "PARLEY_%s_%s", infos[i].section, infos[i].key);
        for (char *s = name; *s; s++) {
            *s = (char)(*s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
        }
        assert_int_equal(load(pairs, NULL, 0), 0);
        for (size_t j = 0; j < count; j++) {
            assert_true(same_field(&fields[j], plain, cfg) == (i != j));
        }
    }
    pl_config_free(plain);
}

static void applying_copies_live_options_and_names_the_first_other(void **state)
{
    struct pl_config *into;
    const char *ignored = "unset";

    (void)state;
    assert_int_equal(load_text("[auth]\napi_key = old\n"), 0);
    into = cfg;
    cfg = NULL;
    assert_int_equal(
        load_text("[auth]\napi_key = new\napi_key = newer\n[transport]\nsunset = soon\n"
                  "phase = websocket\n[queue]\nttl = 9s\n[server]\ntrusted_proxies = ::/0\n"),
        0);
    pl_config_apply_live(into, cfg, &ignored);
    assert_null(ignored);
    release(NULL);
    assert_int_equal(into->auth_api_key.count, 2);
    assert_string_equal(into->auth_api_key.items[1], "newer");
    assert_string_equal(into->transport_sunset, "soon");
    assert_int_equal(into->transport_phase, PL_PHASE_WEBSOCKET);
    assert_int_equal(into->queue_ttl, 9000);
    assert_int_equal(into->server_trusted_proxies.count, 1);

    assert_int_equal(load_text("[bus]\nurl = redis:\n[server]\nnode = b\n[queue]\nttl = 8s\n"), 0);
    pl_config_apply_live(into, cfg, &ignored);
    assert_string_equal(ignored, "server.node");
    assert_string_equal(into->server_node, "");
    assert_string_equal(into->bus_url, "memory:");
    assert_int_equal(into->queue_ttl, 8000);
    pl_config_free(into);
}

/* These run on the process's environment, which only holds what they put there. */
static int load_with_env(const char *name, const char *value)
{
    const struct pl_config_sources src = {0};
    int status;

    setenv(name, value, 1);
    release(NULL);
    status = pl_config_load(&src, &cfg, &err);
    unsetenv(name);
    return status;
}

static void the_process_environment_is_read(void **state)
{
    (void)state;
    assert_int_equal(load_with_env("PARLEY_SERVER_LISTEN", "[::]:1"), 0);
    assert_string_equal(cfg->server_listen, "[::]:1");
}

static void an_unknown_variable_of_a_known_section_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(load_with_env("PARLEY_QUEUE_TLL", "hunter2"), -1);
    assert_error("PARLEY_QUEUE_TLL: no such option; the nearest is PARLEY_QUEUE_TTL");
    assert_int_equal(load_with_env("PARLEY_queue_ttl", "9s"), -1);
}

static void variables_of_no_section_are_somebody_elses(void **state)
{
    (void)state;
    assert_int_equal(load_with_env("PARLEY_HOME", "/srv"), 0);
    assert_int_equal(load_with_env("PARLEY_SERVER", "x"), 0);
    assert_int_equal(load_with_env("PARLEY_SERVERS_LISTEN", "x"), 0);
    assert_int_equal(load_with_env("PARLEYSERVER_LISTEN", "x"), 0);
}

static void the_table_lists_options_in_order(void **state)
{
    const struct pl_option_info *infos;
    size_t count = pl_config_options(&infos);

    (void)state;
    assert_int_equal(count, PL_OPTIONS);
    assert_string_equal(infos[0].section, "server");
    assert_string_equal(infos[0].key, "listen");
    assert_string_equal(infos[0].type, "STRING");
    assert_string_equal(infos[0].def, "127.0.0.1:8888");
    assert_false(infos[0].live);
    assert_string_equal(infos[count - 1].key, "format");
    assert_true(infos[count - 1].live);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(infos[i].help) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_sources_every_option_has_its_default, release),
        cmocka_unit_test_teardown(a_file_sets_options_by_section, release),
        cmocka_unit_test_teardown(later_sources_win, release),
        cmocka_unit_test_teardown(a_list_from_a_later_source_replaces_the_earlier, release),
        cmocka_unit_test_teardown(a_list_keeps_each_entry_verbatim, release),
        cmocka_unit_test_teardown(networks_are_read_as_such, release),
        cmocka_unit_test_teardown(words_are_split_at_commas_and_blanks, release),
        cmocka_unit_test_teardown(errors_name_place_option_value_and_what_is_accepted, release),
        cmocka_unit_test_teardown(an_unknown_option_names_the_nearest, release),
        cmocka_unit_test_teardown(an_error_never_shows_a_secret, release),
        cmocka_unit_test_teardown(an_error_shows_no_control_characters_and_ends_in_time, release),
        cmocka_unit_test_teardown(numbers_take_their_units, release),
        cmocka_unit_test_teardown(a_count_may_be_left_to_the_server, release),
        cmocka_unit_test_teardown(bad_numbers_are_refused, release),
        cmocka_unit_test_teardown(booleans_have_four_spellings_each, release),
        cmocka_unit_test_teardown(every_word_is_read_and_named, release),
        cmocka_unit_test_teardown(every_option_can_be_set_by_its_environment_name, release),
        cmocka_unit_test_teardown(applying_copies_live_options_and_names_the_first_other, release),
        cmocka_unit_test_teardown(the_process_environment_is_read, release),
        cmocka_unit_test_teardown(an_unknown_variable_of_a_known_section_is_an_error, release),
        cmocka_unit_test_teardown(variables_of_no_section_are_somebody_elses, release),
        cmocka_unit_test_teardown(the_table_lists_options_in_order, release),
    };

    return cmocka_run_group_tests_name("base/config", tests, NULL, NULL);
}
