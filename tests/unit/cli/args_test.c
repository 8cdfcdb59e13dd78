#include "server/cli/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int never_run(const struct pl_cli_args *args)
{
    (void)args;
    return 0;
}

static const struct pl_cli_command commands[] = {
    {"token", "sum of token", "token usage", "details of token", never_run},
    {"publish", "sum of publish", "publish usage", "details of publish", never_run},
    {"watch", "sum of watch", "watch usage", "details of watch", never_run},
    {"stats", "sum of stats", "stats usage", "details of stats", never_run},
    {"nodes", "sum of nodes", "nodes usage", "details of nodes", never_run},
    {"log", "sum of log", "log usage", "details of log", never_run},
    {"kick", "sum of kick", "kick usage", "details of kick", never_run},
    {"check-config", "sum of check-config", "check-config usage", "details of check-config",
     never_run},
    {0},
};

static struct pl_cli_args args;
static struct pl_cli_error err;

/* Words of argv, the program's name included; ends with NULL. */
static int parse(const char *const *words)
{
    int argc = 0;

    while (words[argc]) {
        argc++;
    }
    return pl_cli_parse(commands, argc, (char **)(uintptr_t)words, &args, &err);
}
#define PARSE(...) parse((const char *const[]){"parley", __VA_ARGS__, NULL})

static void a_command_and_its_options_are_read_in_both_spellings(void **state)
{
    (void)state;
    assert_int_equal(
        PARSE("token", "--user", "7", "--communities=42,43", "--ttl=15m", "--no-publish"), 0);
    assert_string_equal(args.command->name, "token");
    assert_string_equal(args.user, "7");
    assert_int_equal(args.communities.count, 1);
    assert_string_equal(args.communities.items[0], "42,43");
    assert_int_equal(args.ttl_ms, 15 * 60 * 1000);
    assert_true(args.no_publish);
    assert_false(args.help);
}

static void what_is_not_given_has_its_default(void **state)
{
    (void)state;
    assert_int_equal(PARSE("watch"), 0);
    assert_int_equal(args.ttl_ms, 3600000);
    assert_int_equal(args.since, -1);
    assert_int_equal(args.count, 0);
    assert_int_equal(args.transport, PL_CLI_AUTO);
    assert_int_equal(args.codec, PL_JSON);
    assert_null(args.user);
}

static void words_and_numbers_are_checked(void **state)
{
    (void)state;
    assert_int_equal(PARSE("watch", "--transport", "longpoll", "--codec", "msgpack", "--since",
                           "12", "--count", "3"),
                     0);
    assert_int_equal(args.transport, PL_CLI_LONGPOLL);
    assert_int_equal(args.codec, PL_MSGPACK);
    assert_int_equal(args.since, 12);
    assert_int_equal(args.count, 3);
    assert_int_equal(PARSE("watch", "--transport", "pigeon"), -1);
    assert_non_null(strstr(err.text, "websocket, longpoll or auto"));
    assert_int_equal(PARSE("watch", "--codec", "xml"), -1);
    assert_non_null(strstr(err.text, "json or msgpack"));
    assert_int_equal(PARSE("watch", "--since", "-1"), -1);
    assert_non_null(strstr(err.text, "event id"));
    assert_int_equal(PARSE("watch", "--count", "0"), -1);
    assert_int_equal(PARSE("token", "--user", "7", "--ttl", "soon"), -1);
    assert_non_null(strstr(err.text, "15m"));
    assert_int_equal(PARSE("token", "--user", ""), -1);
}

static void options_that_share_a_field_belong_to_one_command_each(void **state)
{
    (void)state;
    assert_int_equal(PARSE("log", "--community", "42", "--limit", "5", "--since", "0", "--bus",
                           "redis://h", "--prefix", "p", "--json"),
                     0);
    assert_string_equal(args.community, "42");
    assert_int_equal(args.communities.count, 0);
    assert_int_equal(args.count, 5);
    assert_int_equal(args.since, 0);
    assert_string_equal(args.bus, "redis://h");
    assert_string_equal(args.prefix, "p");
    assert_true(args.json);
    assert_int_equal(PARSE("log", "--count", "5"), -1);
    assert_int_equal(PARSE("log", "--all"), -1);
    assert_int_equal(PARSE("nodes", "--all"), 0);
    assert_true(args.all);
    assert_int_equal(PARSE("nodes", "--control"), -1);
    assert_int_equal(PARSE("kick", "--block", "60s"), -1);
    assert_non_null(strstr(err.text, "--user"));
    assert_int_equal(PARSE("kick", "--user", "7", "--block", "60s"), 0);
    assert_int_equal(args.block_ms, 60000);
    assert_int_equal(PARSE("kick", "--user", "7", "--block", "soon"), -1);
}

static void lists_grow_up_to_their_limit(void **state)
{
    const char *words[2 * PL_CLI_LIST_MAX + 5] = {"parley", "check-config"};

    (void)state;
    for (size_t i = 0; i < PL_CLI_LIST_MAX; i++) {
        words[2 + 2 * i] = "--set";
        words[3 + 2 * i] = "a.b=c";
    }
    assert_int_equal(parse(words), 0);
    assert_int_equal(args.set.count, PL_CLI_LIST_MAX);
    words[2 + 2 * PL_CLI_LIST_MAX] = "--set";
    words[3 + 2 * PL_CLI_LIST_MAX] = "a.b=c";
    assert_int_equal(parse(words), -1);
    assert_non_null(strstr(err.text, "64"));
}

static void only_the_first_equals_sign_ends_the_name(void **state)
{
    (void)state;
    assert_int_equal(PARSE("check-config", "--set=auth.api_key=x=y"), 0);
    assert_string_equal(args.set.items[0], "auth.api_key=x=y");
}

static void unknown_things_are_named_with_where_to_look(void **state)
{
    (void)state;
    assert_int_equal(PARSE("fly"), -1);
    assert_non_null(strstr(err.text, "\"fly\""));
    assert_non_null(strstr(err.text, "parley --help"));
    assert_int_equal(PARSE("stats", "--user", "7"), -1);
    assert_non_null(strstr(err.text, "--user"));
    assert_non_null(strstr(err.text, "parley stats --help"));
    assert_int_equal(PARSE("stats", "--onc"), -1);
    assert_int_equal(PARSE("stats", "once"), -1);
    assert_int_equal(parse((const char *const[]){"parley", NULL}), -1);
    assert_non_null(strstr(err.text, "command"));
}

static void a_missing_or_superfluous_value_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(PARSE("token", "--user"), -1);
    assert_non_null(strstr(err.text, "needs a value"));
    assert_int_equal(PARSE("stats", "--once=yes"), -1);
    assert_non_null(strstr(err.text, "takes no value"));
}

static void required_options_are_asked_for(void **state)
{
    (void)state;
    assert_int_equal(PARSE("token", "--communities", "42"), -1);
    assert_non_null(strstr(err.text, "--user"));
    assert_int_equal(PARSE("publish", "--data", "{}"), -1);
    assert_non_null(strstr(err.text, "--type"));
    assert_int_equal(PARSE("publish", "--type", "x"), -1);
    assert_non_null(strstr(err.text, "--data"));
    assert_int_equal(PARSE("publish", "--type", "x", "--data", "{}"), 0);
}

static void help_wins_over_what_else_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(PARSE("token", "--nonsense", "--help"), 0);
    assert_true(args.help);
    assert_string_equal(args.command->name, "token");
    assert_int_equal(PARSE("--help"), 0);
    assert_true(args.help);
    assert_null(args.command);
    assert_int_equal(PARSE("help", "watch"), 0);
    assert_true(args.help);
    assert_string_equal(args.command->name, "watch");
    assert_int_equal(PARSE("--version"), 0);
    assert_true(args.version);
}

static const char *help_of(const struct pl_cli_command *command, struct pl_buf *out)
{
    pl_cli_help(commands, command, out);
    return pl_buf_cstr(out);
}

static void the_tools_help_lists_every_command(void **state)
{
    struct pl_buf out = {0};
    const char *text = help_of(NULL, &out);

    (void)state;
    for (const struct pl_cli_command *c = commands; c->name; c++) {
        assert_non_null(strstr(text, c->name));
        assert_non_null(strstr(text, c->summary));
    }
    assert_non_null(strstr(text, "Exit status"));
    pl_buf_done(&out);
}

static void a_commands_help_lists_its_own_options_only(void **state)
{
    struct pl_buf out = {0};
    const char *text = help_of(&commands[3], &out);

    (void)state;
    assert_non_null(strstr(text, "details of stats"));
    assert_non_null(strstr(text, "--once"));
    assert_non_null(strstr(text, "--url URL"));
    assert_null(strstr(text, "--user"));
    assert_null(strstr(text, "--api-key"));
    pl_buf_done(&out);
}

static void a_list_is_walked_item_by_item_through_commas(void **state)
{
    static const char *const expected[] = {"1", "22", "", "3", ""};
    struct pl_cli_list l = {{"1,22", ",3,"}, 2};
    struct pl_cli_list_pos pos = {0};
    struct pl_str item;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_true(pl_cli_list_next(&l, &pos, &item));
        assert_true(pl_str_eq(item, (struct pl_str){expected[i], strlen(expected[i])}));
    }
    assert_false(pl_cli_list_next(&l, &pos, &item));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_and_its_options_are_read_in_both_spellings),
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(words_and_numbers_are_checked),
        cmocka_unit_test(options_that_share_a_field_belong_to_one_command_each),
        cmocka_unit_test(lists_grow_up_to_their_limit),
        cmocka_unit_test(only_the_first_equals_sign_ends_the_name),
        cmocka_unit_test(unknown_things_are_named_with_where_to_look),
        cmocka_unit_test(a_missing_or_superfluous_value_is_an_error),
        cmocka_unit_test(required_options_are_asked_for),
        cmocka_unit_test(help_wins_over_what_else_is_wrong),
        cmocka_unit_test(the_tools_help_lists_every_command),
        cmocka_unit_test(a_commands_help_lists_its_own_options_only),
        cmocka_unit_test(a_list_is_walked_item_by_item_through_commas),
    };

    return cmocka_run_group_tests_name("cli/args", tests, NULL, NULL);
}
