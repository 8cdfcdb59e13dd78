#include <stdio.h>
#include <stdlib.h>

#include "server/cli/command.h"

int pl_cli_token(const struct pl_cli_args *args)
{
    char *token;
    int rc = pl_cli_mint(args, &token);

    if (rc != 0) {
        return rc;
    }
    puts(token);
    free(token);
    return PL_CLI_OK;
}
