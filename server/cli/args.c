#include "server/cli/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/request.h"
#include "server/cli/text.h"

enum kind {
    FLAG,
    TEXT,
    LIST,
    DURATION_MS,
    COUNT,
    EVENT_ID,
    TRANSPORT,
    CODEC
};

struct row {
    const char *commands;    /* whose option it is, between blanks */
    const char *required_by; /* likewise */
    const char *name;
    enum kind kind;
    const char *value; /* its name in help */
    size_t offset;     /* of the field */
    const char *help;
};

#define AT(field) offsetof(struct pl_cli_args, field)

static const struct row rows[] = {
    {" token watch kick ", " token kick ", "--user", TEXT, "ID", AT(user),
     "the user: an integer or a text"},
    {" token watch ", "", "--communities", LIST, "IDS", AT(communities), "communities, as 42,43"},
    {" publish ", "", "--community", LIST, "ID", AT(communities), "a community; may be repeated"},
    {" token watch publish ", "", "--channels", LIST, "NAMES", AT(channels),
     "other channels, as room:7,room:8"},
    {" publish ", " publish ", "--type", TEXT, "TYPE", AT(type),
     "the event's type, as new_comment"},
    {" publish ", " publish ", "--data", TEXT, "JSON", AT(data),
     "the event's data, a JSON object; - reads it from stdin"},
    {" publish ", "", "--exclude-user", TEXT, "ID", AT(exclude_user),
     "this user does not get the event"},
    {" token watch ", "", "--ttl", DURATION_MS, "TIME", AT(ttl_ms),
     "how long the token lives: 30s, 15m, 1h (the default), 1d"},
    {" token ", "", "--no-publish", FLAG, NULL, AT(no_publish), "without the right to publish"},
    {" watch doctor ", "", "--token", TEXT, "JWT", AT(token),
     "a token to use instead of making one"},
    {" watch ", "", "--transport", TRANSPORT, "NAME", AT(transport),
     "websocket or longpoll; default: WebSocket, long-poll where it is refused"},
    {" watch ", "", "--codec", CODEC, "NAME", AT(codec),
     "json (the default) or msgpack, on the wire"},
    {" watch ", "", "--since", EVENT_ID, "ID", AT(since),
     "begin after this event id; default: now"},
    {" watch ", "", "--count", COUNT, "N", AT(count), "stop after N events"},
    {" log ", "", "--community", TEXT, "ID", AT(community), "the log of a community"},
    {" log ", "", "--channel", TEXT, "NAME", AT(channel), "the log of a channel, as room:7"},
    {" log ", "", "--control", FLAG, NULL, AT(control), "the log of changes of user records"},
    {" log ", "", "--since", EVENT_ID, "ID", AT(since),
     "the oldest after this id; default: the newest"},
    {" log ", "", "--limit", COUNT, "N", AT(count), "how many: 20, or up to 1000"},
    {" nodes ", "", "--all", FLAG, NULL, AT(all), "also those that are gone"},
    {" nodes log doctor ", "", "--json", FLAG, NULL, AT(json),
     "a JSON object per line, with everything"},
    {" kick ", "", "--block", DURATION_MS, "TIME", AT(block_ms),
     "and refuse the user for so long: 60s, 1h"},
    {" nodes log doctor ", "", "--bus", TEXT, "URL", AT(bus),
     "redis://… or redis+sentinel://…; default: bus.url"},
    {" nodes log ", "", "--prefix", TEXT, "NAME", AT(prefix), "default: bus.prefix"},
    {" watch ", "", "--json", FLAG, NULL, AT(json), "the states on stderr as JSON lines too"},
    {" stats ", "", "--once", FLAG, NULL, AT(once), "print once and stop"},
    {" publish watch kick upgrade ", "", "--url", TEXT, "URL", AT(url),
     "the server; default: $PARLEY_URL, else http://127.0.0.1:8888"},
    {" stats ", "", "--url", LIST, "URL", AT(urls),
     "a server; may be repeated; default: $PARLEY_URL, else http://127.0.0.1:8888"},
    {" doctor ", "", "--url", TEXT, "URL", AT(url),
     "the server as clients have it, http:// or https://; default: it is not looked at"},
    {" doctor ", "", "--patience", DURATION_MS, "TIME", AT(patience_ms),
     "how long to hold connections to find who cuts them; default: longpoll.timeout"},
    {" upgrade ", "", "--patience", DURATION_MS, "TIME", AT(patience_ms),
     "how long to wait for it: 60s (the default)"},
    {" publish kick ", "", "--api-key", TEXT, "KEY", AT(api_key),
     "the backend's key; default: the first auth.api_key configured"},
    {" token watch doctor ", "", "--key", TEXT, "SECRET", AT(key),
     "the secret to sign with; default: the first auth.jwt_key configured"},
    {" token watch publish nodes log kick doctor check-config ", "", "--config", TEXT, "FILE",
     AT(config), "parleyd's configuration file"},
    {" token watch publish nodes log kick doctor check-config ", "", "--set", LIST,
     "SECTION.KEY=VALUE", AT(set), "an option over that of the file; may be repeated"},
    {" token watch publish stats nodes log kick doctor upgrade check-config ", "", "--help", FLAG,
     NULL, AT(help), "this text"},
};
enum {
    ROW_COUNT = sizeof(rows) / sizeof(rows[0])
};

__attribute__((format(printf, 2, 3))) static int fail(struct pl_cli_error *err, const char *fmt,
                                                      ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return -1;
}

/* Is the command's name among `words`? */
static bool names(const char *words, const char *command)
{
    char padded[32];

    snprintf(padded, sizeof(padded), " %s ", command);
    return strstr(words, padded) != NULL;
}

static const struct row *find_row(const char *command, const char *name, size_t name_len)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (names(rows[i].commands, command) && strlen(rows[i].name) == name_len &&
            memcmp(rows[i].name, name, name_len) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* The index of a word, or -1. */
static int choice_of(const char *value, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(value, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *set_choice(const struct row *r, int *field, const char *value)
{
    static const char *const transports[] = {
        [PL_CLI_AUTO] = "auto", [PL_CLI_WEBSOCKET] = "websocket", [PL_CLI_LONGPOLL] = "longpoll"};
    static const char *const codecs[] = {[PL_JSON] = "json", [PL_MSGPACK] = "msgpack"};
    int choice =
        r->kind == TRANSPORT ? choice_of(value, transports, 3) : choice_of(value, codecs, 2);

    if (choice < 0) {
        return r->kind == TRANSPORT ? "websocket, longpoll or auto" : "json or msgpack";
    }
    *field = choice;
    return NULL;
}

static const char *add_to_list(struct pl_cli_list *l, const char *value)
{
    if (l->count == PL_CLI_LIST_MAX) {
        return "at most 64 of them";
    }
    l->items[l->count++] = value;
    return NULL;
}

static const char *set_integer(const struct row *r, int64_t *field, const char *value)
{
    int64_t n;

    if (r->kind == DURATION_MS) {
        return pl_cli_parse_duration(value, field) ? NULL : "a time such as 30s, 15m, 1h or 1d";
    }
    if (!pl_parse_cursor((struct pl_str){value, strlen(value)}, &n) ||
        (r->kind == COUNT && n == 0)) {
        return r->kind == COUNT ? "a positive integer" : "an event id: digits only";
    }
    *field = n;
    return NULL;
}

/* NULL, or what is accepted. */
static const char *set_field(const struct row *r, struct pl_cli_args *args, const char *value)
{
    char *field = (char *)args + r->offset;

    switch (r->kind) {
    case FLAG:
        *(bool *)field = true;
        return NULL;
    case TEXT:
        *(const char **)field = value;
        return *value ? NULL : "a value that is not empty";
    case LIST:
        return add_to_list((struct pl_cli_list *)field, value);
    case DURATION_MS:
    case COUNT:
    case EVENT_ID:
        return set_integer(r, (int64_t *)field, value);
    case TRANSPORT:
    case CODEC:
        return set_choice(r, (int *)field, value);
    }
    return NULL;
}

/* One option at argv[*i], "--name value" or "--name=value"; *i ends on its last word. */
static int parse_option(int argc, char **argv, int *i, struct pl_cli_args *args,
                        struct pl_cli_error *err)
{
    const char *command = args->command->name, *word = argv[*i];
    const char *value = strchr(word, '=');
    int name_len = (int)(value ? (size_t)(value - word) : strlen(word));
    const struct row *r = find_row(command, word, (size_t)name_len);
    const char *accepted;

    if (!r) {
        return fail(err, "%s: there is no option %.*s; see parley %s --help", command, name_len,
                    word, command);
    }
    if (r->kind == FLAG && value) {
        return fail(err, "%s: %s takes no value", command, r->name);
    }
    if (r->kind != FLAG && !value && *i + 1 == argc) {
        return fail(err, "%s: %s needs a value: %s %s", command, r->name, r->name, r->value);
    }
    if (r->kind != FLAG) {
        value = value ? value + 1 : argv[++*i];
    }
    accepted = set_field(r, args, value);
    return accepted ? fail(err, "%s: %s: %s is expected", command, r->name, accepted) : 0;
}

static int check_required(const struct pl_cli_args *args, struct pl_cli_error *err)
{
    const char *command = args->command->name;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (names(rows[i].required_by, command) &&
            !*(const char *const *)((const char *)args + rows[i].offset)) {
            return fail(err, "%s: %s is missing: %s; see parley %s --help", command, rows[i].name,
                        rows[i].help, command);
        }
    }
    return 0;
}

static const struct pl_cli_command *find_command(const struct pl_cli_command *commands,
                                                 const char *name)
{
    for (const struct pl_cli_command *c = commands; c->name; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static bool is_one_of(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

/* What stands where the command is expected. */
static int parse_command(const struct pl_cli_command *commands, const char *word,
                         struct pl_cli_args *args, struct pl_cli_error *err)
{
    if (is_one_of(word, "--help", "-h") || strcmp(word, "help") == 0) {
        args->help = true;
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        args->version = true;
        return 0;
    }
    args->command = find_command(commands, word);
    return args->command ? 0 : fail(err, "there is no command \"%.40s\"; see parley --help", word);
}

/* Also behind an error: who asks for help should get it. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (is_one_of(argv[i], "--help", "-h")) {
            return true;
        }
    }
    return false;
}

int pl_cli_parse(const struct pl_cli_command *commands, int argc, char **argv,
                 struct pl_cli_args *ret, struct pl_cli_error *err)
{
    int rc;

    *ret = (struct pl_cli_args){.ttl_ms = 3600000, .since = -1};
    if (argc < 2) {
        return fail(err, "a command is expected; see parley --help");
    }
    rc = parse_command(commands, argv[1], ret, err);
    if (rc != 0 || !ret->command) {
        /* "parley help watch" */
        ret->command = rc == 0 && argc > 2 ? find_command(commands, argv[2]) : NULL;
        return rc;
    }
    if (asks_for_help(argc, argv)) {
        ret->help = true;
        return 0;
    }
    for (int i = 2; rc == 0 && i < argc; i++) {
        rc = parse_option(argc, argv, &i, ret, err);
    }
    return rc == 0 ? check_required(ret, err) : rc;
}

static void help_of_tool(const struct pl_cli_command *commands, struct pl_buf *out)
{
    pl_buf_append_str(out,
                      "Usage: parley COMMAND [options]\n\n"
                      "Talks to a Parley server: makes tokens, publishes, watches, measures.\n\n"
                      "Commands:\n");
    for (const struct pl_cli_command *c = commands; c->name; c++) {
        pl_buf_printf(out, "  %-14s %s\n", c->name, c->summary);
    }
    pl_buf_append_str(out,
                      "\nparley COMMAND --help tells more; parley --version prints the version.\n"
                      "Exit status: 0 done, 1 failed, 2 wrong usage or configuration.\n");
}

void pl_cli_help(const struct pl_cli_command *commands, const struct pl_cli_command *command,
                 struct pl_buf *out)
{
    if (!command) {
        help_of_tool(commands, out);
        return;
    }
    pl_buf_printf(out, "Usage: parley %s\n\n%s\n\nOptions:\n", command->usage, command->details);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (names(rows[i].commands, command->name)) {
            char left[48];

            snprintf(left, sizeof(left), "%s %s", rows[i].name, rows[i].value ? rows[i].value : "");
            pl_buf_printf(out, "  %-24s %s\n", left, rows[i].help);
        }
    }
}

bool pl_cli_list_next(const struct pl_cli_list *l, struct pl_cli_list_pos *pos, struct pl_str *ret)
{
    const char *from, *comma;

    if (pos->item >= l->count) {
        return false;
    }
    from = l->items[pos->item] + pos->offset;
    comma = strchr(from, ',');
    *ret = (struct pl_str){from, comma ? (size_t)(comma - from) : strlen(from)};
    if (comma) {
        pos->offset += ret->len + 1;
    } else {
        pos->item++;
        pos->offset = 0;
    }
    return true;
}
