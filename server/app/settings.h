#ifndef PL_APP_SETTINGS_H
#define PL_APP_SETTINGS_H

#include "server/app/dev.h"
#include "server/app/server.h"
#include "server/auth/auth.h"

/* What the files, the environment and the arguments say, checked as a whole: the configuration and the
 * keys it names. 0, or PL_ERR_INVALID with the first error. dev_keys: kept over reloads. */
int pl_settings_load(const struct pl_server_options *o, struct pl_dev_keys *dev_keys,
                     struct pl_config **ret_cfg, struct pl_auth **ret_auth,
                     struct pl_config_error *err);

/* How many workers that makes; 0: this process serves itself, without a master. *ret_why is set to the
 * reason if it is not what server.workers says, else to NULL. */
unsigned pl_settings_workers(const struct pl_server_options *o, const struct pl_config *cfg,
                             const char **ret_why);

void pl_settings_set_up_log(const struct pl_config *cfg);

#endif
