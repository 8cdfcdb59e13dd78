#include "server/app/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"

static void mint(char *out, size_t size)
{
    uint8_t bytes[32];

    if (out[0] != '\0') {
        return;
    }
    pl_random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; 2 * i + 2 < size; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void add(struct pl_strings *list, const char *text)
{
    list->items = pl_realloc(list->items, (list->count + 1) * sizeof(char *));
    list->items[list->count++] = pl_strdup(text);
}

void pl_dev_add_keys(struct pl_dev_keys *k, struct pl_config *cfg)
{
    if (cfg->auth_jwt_key.count == 0 && cfg->auth_jwt_key_file.count == 0) {
        mint(k->jwt, sizeof(k->jwt));
        add(&cfg->auth_jwt_key, k->jwt);
    }
    if (cfg->auth_api_key.count == 0) {
        mint(k->api, sizeof(k->api));
        add(&cfg->auth_api_key, k->api);
    }
}

void pl_dev_say_hello(const struct pl_config *cfg, const char *address, const char *internal)
{
    const char *key = cfg->auth_api_key.items[0];

    printf("\n  *** --dev: anybody who reaches this port can get a token for any user. ***\n"
           "  *** Keys that are not configured were made up and end with this process. ***\n\n"
           "Open http://%s/ in two windows, or try:\n\n",
           address);
    printf("curl -s http://%s/realtime/register -H 'X-API-Key: %s' -d "
           "'{\"user_id\":7,\"community_ids\":[42]}'\n",
           internal, key);
    printf("curl -s http://%s/realtime/publish -H 'X-API-Key: %s' -d '{\"type\":\"new_comment\","
           "\"community_ids\":[42],\"data\":{\"article_id\":789,\"community_id\":42,\"comment\":{"
           "\"text\":\"hello\"}}}'\n",
           internal, key);
    printf("curl -s \"http://%s/realtime/poll?timeout=0&queue_id=$(curl -s "
           "http://%s/realtime/register "
           "-H 'X-API-Key: %s' -d '{\"user_id\":7,\"community_ids\":[42]}' | sed "
           "'s/.*\"queue_id\":\"\\([0-9a-f]*\\)\".*/\\1/')\"\n\n",
           address, internal, key);
    if (cfg->auth_jwt_key.count > 0) {
        printf("PARLEY_AUTH_JWT_KEY='%s' build/parley watch --url http://%s --user 8 --communities "
               "42\n\n",
               cfg->auth_jwt_key.items[0], address);
    }
}
