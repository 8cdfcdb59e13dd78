#ifndef PL_CLI_ARGS_H
#define PL_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"
#include "server/base/buf.h"

/* The command line of `parley`: one table of commands and one of options (args.c), from which
 * parsing, the checks and every --help come. Pure: nothing is printed and nothing outside argv is
 * read. */

enum {
    PL_CLI_OK = 0,
    PL_CLI_FAILED = 1,
    PL_CLI_USAGE = 2
}; /* exit statuses */

enum pl_cli_transport {
    PL_CLI_AUTO,
    PL_CLI_WEBSOCKET,
    PL_CLI_LONGPOLL
};

enum {
    PL_CLI_LIST_MAX = 64
};
struct pl_cli_list {
    const char *items[PL_CLI_LIST_MAX]; /* as given: an item may hold commas */
    size_t count;
};

struct pl_cli_command;

/* What was asked for. Texts point into argv; NULL, 0 and empty mean: not given. */
struct pl_cli_args {
    const struct pl_cli_command *command; /* NULL: none was named */
    bool help, version;
    const char *config, *key, *url, *api_key, *token, *user, *type, *data, *exclude_user;
    const char *bus, *prefix, *community, *channel;
    struct pl_cli_list set, communities, channels, urls;
    int64_t ttl_ms; /* default 1 h */
    int64_t block_ms;
    int64_t patience_ms; /* 0: as long as polls are held */
    int64_t count;       /* 0: no end, or the command's default */
    int64_t since;       /* -1: not given */
    int transport;       /* enum pl_cli_transport */
    int codec;           /* enum pl_codec */
    bool no_publish, json, once, all, control;
};

struct pl_cli_command {
    const char *name;
    const char *summary;                        /* one line, for the list of commands */
    const char *usage;                          /* what follows "parley " */
    const char *details;                        /* sentences and examples of its --help */
    int (*run)(const struct pl_cli_args *args); /* the exit status; prints its own errors */
};

struct pl_cli_error {
    char text[256]; /* "watch: --user is missing: …" */
};

/* `commands` ends with a row without name. 0, or -1 and err. --help anywhere wins over what else
 * is wrong; required options are checked only without it. */
int pl_cli_parse(const struct pl_cli_command *commands, int argc, char **argv,
                 struct pl_cli_args *ret, struct pl_cli_error *err);

/* The tool's own help (command NULL), or a command's. */
void pl_cli_help(const struct pl_cli_command *commands, const struct pl_cli_command *command,
                 struct pl_buf *out);

/* The next item of a list whose items may hold commas ("42,43"): walks *pos from 0; false at the
 * end. Empty items are handed out too, so that "42,,43" can be refused. */
struct pl_cli_list_pos {
    size_t item, offset;
};
bool pl_cli_list_next(const struct pl_cli_list *l, struct pl_cli_list_pos *pos, struct pl_str *ret);

#endif
