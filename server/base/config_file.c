#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/buf.h"
#include "server/base/config_priv.h"

enum {
    MAX_FILE = 1 << 20,
    MAX_LINE = 8192, /* bytes without the line's end */
};

struct reader {
    struct pl_config_loader *loader;
    const char *text, *end; /* not read yet */
};

/* inih would take the first part of such lines and say nothing. */
static int check_line(struct pl_config_loader *l, const char *line, size_t len)
{
    const char *end = line + len;
    const char *s = line;

    if (len > MAX_LINE) {
        return pl_config__fail(l, "the line is longer than %d bytes", MAX_LINE);
    }
    if (memchr(line, '\0', len)) {
        return pl_config__fail(l, "the line holds a NUL byte");
    }
    while (s < end && isspace((unsigned char)*s)) {
        s++;
    }
    if (s == end || *s != '[') {
        return 0;
    }
    s = memchr(s, ']', (size_t)(end - s));
    while (s && ++s < end) {
        if (!isspace((unsigned char)*s)) {
            return pl_config__fail(l, "nothing may follow a [section] in its line");
        }
    }
    return 0;
}

/* What fgets is to ini_parse: gives inih the next whole line, since out is larger than any. */
static char *read_line(char *out, int size, void *arg)
{
    struct reader *r = arg;
    const char *newline;
    size_t len;

    if (r->loader->failed || r->text == r->end) {
        return NULL;
    }
    r->loader->line++;
    newline = memchr(r->text, '\n', (size_t)(r->end - r->text));
    len = (size_t)((newline ? newline : r->end) - r->text);
    if (check_line(r->loader, r->text, len) != 0) {
        return NULL;
    }
    PL_ASSERT(len < (size_t)size);
    memcpy(out, r->text, len);
    out[len] = '\0';
    r->text += len + (newline ? 1 : 0);
    return out;
}

static int on_pair(void *arg, const char *section, const char *key, const char *text)
{
    struct pl_config_loader *l = arg;

    if (section[0] == '\0') {
        pl_config__fail(l, "an option stands before any [section]");
    } else {
        pl_config__assign(l, section, key, text);
    }
    return !l->failed;
}

/* Debian's inih is configured at run time. No comments behind values: a secret may hold " ;". No
 * continued values: an indented line is a line like any other. */
static void configure_inih(void)
{
    ini_use_stack = false;
    ini_max_line = MAX_LINE + 3;
    ini_initial_alloc = MAX_LINE + 3;
    ini_allow_realloc = false;
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_allow_no_value = false;
    ini_stop_on_first_error = true;
}

int pl_config__load_text(struct pl_config_loader *l, const char *name, const char *text, size_t len)
{
    struct reader r = {.loader = l, .text = text, .end = text + len};

    l->source = PL_FROM_FILE;
    l->where = name;
    configure_inih();
    if (ini_parse_stream(read_line, &r, on_pair, l) != 0 && !l->failed) {
        pl_config__fail(l, "expected [section] or key = value");
    }
    l->line = 0;
    return l->failed ? -1 : 0;
}

int pl_config__load_file(struct pl_config_loader *l, const char *path)
{
    struct pl_buf text = {0};
    FILE *f = fopen(path, "re");
    size_t got;

    l->source = PL_FROM_FILE;
    l->where = path;
    if (f == NULL) {
        return pl_config__fail(l, "%s", strerror(errno));
    }
    do {
        pl_buf_reserve(&text, BUFSIZ);
        got = fread(text.data + text.len, 1, BUFSIZ, f);
        text.len += got;
    } while (got > 0 && text.len <= MAX_FILE);

    if (ferror(f)) {
        pl_config__fail(l, "%s", strerror(errno));
    } else if (text.len > MAX_FILE) {
        pl_config__fail(l, "larger than %d bytes", MAX_FILE);
    } else {
        pl_config__load_text(l, path, (const char *)text.data, text.len);
    }
    fclose(f);
    pl_buf_done(&text);
    return l->failed ? -1 : 0;
}
