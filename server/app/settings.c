#define _GNU_SOURCE /* sched_getaffinity */

#include "server/app/settings.h"

#include <sched.h>
#include <stdio.h>

#include "protocol/status.h"
#include "server/app/node_bus.h"
#include "server/app/tracing.h"
#include "server/app/workers.h"
#include "server/base/log.h"

int pl_settings_load(const struct pl_server_options *o, struct pl_dev_keys *dev_keys,
                     struct pl_config **ret_cfg, struct pl_auth **ret_auth,
                     struct pl_config_error *err)
{
    struct pl_auth_error auth_error;
    struct pl_config *cfg;
    struct pl_auth *auth = NULL;

    if (pl_config_load(&o->sources, &cfg, err) != 0) {
        return PL_ERR_INVALID;
    }
    if (o->dev) {
        pl_dev_add_keys(dev_keys, cfg);
    }
    if (pl_auth_new(cfg, &auth, &auth_error) != PL_OK) {
        (void)snprintf(err->text, sizeof(err->text), "%s", auth_error.text);
    } else if (!pl_auth_has_jwt_key(auth) && !pl_auth_has_api_key(auth)) {
        (void)snprintf(err->text, sizeof(err->text),
                       "no key is configured: set auth.api_key (for your backend) or "
                       "auth.jwt_key (for clients), or try it out with --dev");
    } else if (pl_node_bus_check(cfg, err->text, sizeof(err->text)) == PL_OK &&
               pl_tracing_check(cfg, err->text, sizeof(err->text)) == PL_OK) {
        *ret_cfg = cfg;
        *ret_auth = auth;
        return PL_OK;
    }
    pl_auth_free(auth);
    pl_config_free(cfg);
    return PL_ERR_INVALID;
}

static unsigned cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return count < PL_WORKERS_MAX ? (unsigned)count : PL_WORKERS_MAX;
}

unsigned pl_settings_workers(const struct pl_server_options *o, const struct pl_config *cfg,
                             const char **ret_why)
{
    *ret_why = NULL;
    if (cfg->server_workers == 1) {
        return 0;
    }
    if (pl_node_bus_is_embedded(cfg)) {
        *ret_why = "bus.url is memory:, which is inside one process";
        return 0;
    }
    if (o->dev) {
        *ret_why = "--dev makes up keys, which are one process's own";
        return 0;
    }
    return cfg->server_workers > 0 ? (unsigned)cfg->server_workers : cores();
}

void pl_settings_set_up_log(const struct pl_config *cfg)
{
    pl_log_setup((enum pl_log_level)cfg->log_level, (enum pl_log_format)cfg->log_format);
}
