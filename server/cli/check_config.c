#include <stdio.h>

#include "server/cli/command.h"

static void say_what_there_is(const struct pl_config *cfg, const struct pl_auth *auth)
{
    printf("configuration ok: listens on %s, bus %s, phase %s, %s tokens%s, API keys%s\n",
           cfg->server_listen, cfg->bus_url, pl_phase_name(cfg->transport_phase),
           pl_algorithm_name(cfg->auth_jwt_algorithm), pl_auth_has_jwt_key(auth) ? "" : " (no key)",
           pl_auth_has_api_key(auth) ? "" : " (none)");
    if (!pl_auth_has_jwt_key(auth) && !pl_auth_has_api_key(auth)) {
        puts("note: without auth.jwt_key and auth.api_key parleyd starts only with --dev");
    }
}

int pl_cli_check_config(const struct pl_cli_args *args)
{
    struct pl_auth_error err;
    struct pl_config *cfg;
    struct pl_auth *auth;
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    if (pl_auth_new(cfg, &auth, &err) != 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "%s", err.text);
    } else {
        say_what_there_is(cfg, auth);
        pl_auth_free(auth);
    }
    pl_config_free(cfg);
    return rc;
}
