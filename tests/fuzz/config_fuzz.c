#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/config_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A configuration file of any bytes is a configuration or an error in one printable line, never both. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_config *cfg = NULL;
    struct pl_config_error err = {0};
    struct pl_config *copy = NULL;
    const char *ignored = NULL;

    if (pl_config__from_text("fuzz.conf", (const char *)data, size, &cfg, &err) != 0) {
        PL_ASSERT(cfg == NULL);
        PL_ASSERT(strncmp(err.text, "fuzz.conf:", 10) == 0);
        PL_ASSERT(strpbrk(err.text, "\r\n\x1b") == NULL);
        return 0;
    }
    PL_ASSERT(err.text[0] == '\0');
    PL_ASSERT(pl_config__from_text("defaults", "", 0, &copy, &err) == 0);
    pl_config_apply_live(copy, cfg, &ignored);
    pl_config_apply_live(copy, cfg, &ignored);
    pl_config_free(copy);
    pl_config_free(cfg);
    return 0;
}
