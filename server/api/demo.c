/* What only --dev serves: the demo page, the client's modules beside it, and tokens for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"

/* PL_CLIENT_DIR: client-js of the source tree; PARLEY_CLIENT_DIR in the environment wins. */
static const char *client_dir(void)
{
    const char *dir = getenv("PARLEY_CLIENT_DIR");

    return dir != NULL ? dir : PL_CLIENT_DIR;
}

static const struct {
    const char *suffix, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},   {".svg", "image/svg+xml"},
    {".json", "application/json"},
};

static const char *type_of(const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t n = strlen(types[i].suffix);

        if (len > n && strcmp(path + len - n, types[i].suffix) == 0) {
            return types[i].type;
        }
    }
    return NULL;
}

/* Letters, digits, '-', '_', and a '.' or '/' between them: nothing that climbs out of the folder.
 */
static bool is_plain(struct pl_str s)
{
    char before = '/';

    for (size_t i = 0; i < s.len; i++) {
        char c = s.s[i];
        bool separates = c == '.' || c == '/';
        bool names = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_';

        if (!(names || (separates && before != '.' && before != '/'))) {
            return false;
        }
        before = c;
    }
    return s.len > 0 && s.len < 200;
}

static bool file_of(struct pl_str path, char *out, size_t size)
{
    const char *folder = "demo";
    struct pl_str name = PL_LIT("index.html");

    if (path.len > 6 && memcmp(path.s, "/demo/", 6) == 0) {
        name = (struct pl_str){path.s + 6, path.len - 6};
    } else if (path.len > 8 && memcmp(path.s, "/client/", 8) == 0) {
        folder = "src";
        name = (struct pl_str){path.s + 8, path.len - 8};
    }
    return is_plain(name) && snprintf(out, size, "%s/%s/%.*s", client_dir(), folder, (int)name.len,
                                      name.s) < (int)size;
}

static bool read_file(const char *path, struct pl_buf *out)
{
    char block[4096];
    size_t n;
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        return false;
    }
    while ((n = fread(block, 1, sizeof(block), f)) > 0) {
        pl_buf_append(out, block, n);
    }
    fclose(f);
    return true;
}

void pl_api__file(struct pl_api_request *r)
{
    struct pl_buf out = {0};
    char path[512];

    if (!file_of(r->http->head.path, path, sizeof(path)) || type_of(path) == NULL ||
        !read_file(path, &out)) {
        pl_api__error(r, PL_ERR_NOT_FOUND, NULL);
        return;
    }
    pl_http_reply(r->to.conn,
                  &(struct pl_http_answer){
                      .http_status = 200,
                      .content_type = type_of(path),
                      .head_lines = "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
                                    "Content-Security-Policy: default-src 'self'\r\n",
                      .body = {out.data, out.len},
                  });
    pl_buf_done(&out);
}

/* Anybody may be anybody here: that is what --dev says loudly at start. */
void pl_api__demo_token(struct pl_api_request *r)
{
    enum {
        TTL_S = 3600
    };
    struct pl_request_limits limits = pl_hub_limits(r->node->hub);
    struct pl_request_error error = {""};
    struct pl_register who;
    struct pl_buf out = {0};
    struct pl_writer w;
    const struct pl_value *v;
    char *token = NULL;
    int status;

    if (!pl_api__body(r, &v)) {
        return;
    }
    status = pl_parse_register(v, r->http->arena, &limits, &who, &error);
    if (status == PL_OK) {
        status = pl_auth_mint(r->node->auth,
                              &(struct pl_mint){
                                  .user_id = who.user_id,
                                  .membership = &who.membership,
                                  .may_publish = true,
                                  .ttl_s = TTL_S,
                              },
                              pl_hub_unix_ms(r->node->hub), &token);
    }
    if (status != PL_OK) {
        pl_api__error(r, status, error.text[0] != '\0' ? error.text : NULL);
        return;
    }
    pl_writer_init(&w, r->to.codec, &out);
    pl_write_map(&w, 2);
    pl_write_key(&w, "token");
    pl_write_cstr(&w, token);
    pl_write_key(&w, "user_id");
    pl_write_str(&w, who.user_id);
    free(token);
    pl_http_answer_buf(&r->to, 200, &out);
}
