#ifndef PL_CLI_COMMAND_H
#define PL_CLI_COMMAND_H

#include "protocol/request.h"
#include "protocol/url.h"
#include "server/auth/auth.h"
#include "server/base/config.h"
#include "server/cli/args.h"
#include "server/cli/http_client.h"

/* The commands, and what they share. Errors are said on stderr as "parley COMMAND: …". */
int pl_cli_token(const struct pl_cli_args *args);
int pl_cli_publish(const struct pl_cli_args *args);
int pl_cli_watch(const struct pl_cli_args *args);
int pl_cli_stats(const struct pl_cli_args *args);
int pl_cli_nodes(const struct pl_cli_args *args);
int pl_cli_log(const struct pl_cli_args *args);
int pl_cli_kick(const struct pl_cli_args *args);
int pl_cli_doctor(const struct pl_cli_args *args);
int pl_cli_upgrade(const struct pl_cli_args *args);
int pl_cli_check_config(const struct pl_cli_args *args);

/* Says it, and returns `status`. */
__attribute__((format(printf, 3, 4))) int pl_cli_fail(const struct pl_cli_args *args, int status,
                                                      const char *fmt, ...);

/* --config, environment, --set and --key, read as parleyd does. 0, or PL_CLI_USAGE after saying
 * why. */
int pl_cli_load_config(const struct pl_cli_args *args, struct pl_config **ret);
int pl_cli_load_auth(const struct pl_cli_args *args, struct pl_auth **ret);

/* --url, $PARLEY_URL or the default. 0, or PL_CLI_USAGE after saying why. */
int pl_cli_server_url(const struct pl_cli_args *args, struct pl_url *ret);

/* --user, --communities, --channels, checked as the server will. The membership lives in the
 * arena. 0, or PL_CLI_USAGE after saying why. */
int pl_cli_user(const struct pl_cli_args *args, struct pl_arena *arena, struct pl_str *ret);
int pl_cli_membership(const struct pl_cli_args *args, struct pl_arena *arena,
                      struct pl_membership *ret);

/* Makes a token for --user by the keys of the configuration: 0 and a malloc'ed text, or an exit
 * status after saying why. */
int pl_cli_mint(const struct pl_cli_args *args, char **ret_token);

/* --communities and --channels as members of a map, those that were given: how many, and their
 * writing. ids_key names the communities. False: *ret_bad is an item that is not an integer. */
size_t pl_cli_membership_members(const struct pl_cli_args *args);
bool pl_cli_write_membership(const struct pl_cli_args *args, const char *ids_key,
                             struct pl_writer *w, struct pl_str *ret_bad);

/* The code and message of an error answer, for people: "403 forbidden: not allowed". Lives in the
 * arena. *ret_code, if not NULL, is the body's code (len 0: none). */
const char *pl_cli_describe_error(const struct pl_cli_response *r, struct pl_arena *arena,
                                  struct pl_str *ret_code);

#endif
