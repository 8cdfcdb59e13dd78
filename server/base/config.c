#include "server/base/config.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/base/alloc.h"
#include "server/base/config_priv.h"

enum {
    MAX_COMPARED = 64, /* bytes of a misspelt name */
};

#define ENV_PREFIX "PARLEY_"

extern char **environ; /* POSIX leaves this declaration to the program */

static const struct pl_option_info infos[] = {
#define LIVE  true
#define START false
#define PL_OPTION(section, key, type, def, min, max, reload, help) \
    {#section, #key, #type, def, help, reload},
#include "server/base/config.def"
#undef PL_OPTION
#undef LIVE
#undef START
};

static const struct row {
    const char *name;
    size_t offset;
    struct pl_option_value value;
} rows[] = {
#define PL_OPTION(section, key, type, def, min, max, reload, help) \
    {#section "." #key, offsetof(struct pl_config, section##_##key), {PL_OPTION_##type, min, max}},
#include "server/base/config.def"
#undef PL_OPTION
};

size_t pl_config_options(const struct pl_option_info **ret)
{
    *ret = infos;
    return PL_OPTIONS;
}

static void *field_of(const struct pl_config *cfg, size_t i)
{
    return (char *)cfg + rows[i].offset;
}

void pl_config_free(struct pl_config *cfg)
{
    if (cfg == NULL) {
        return;
    }
    for (size_t i = 0; i < PL_OPTIONS; i++) {
        pl_config__clear(&rows[i].value, field_of(cfg, i));
    }
    free(cfg);
}

void pl_config_apply_live(struct pl_config *into, const struct pl_config *from,
                          const char **ret_ignored)
{
    const char *ignored = NULL;

    for (size_t i = 0; i < PL_OPTIONS; i++) {
        if (pl_config__equal(&rows[i].value, field_of(into, i), field_of(from, i))) {
            continue;
        }
        if (infos[i].live) {
            pl_config__copy(&rows[i].value, field_of(into, i), field_of(from, i));
        } else if (ignored == NULL) {
            ignored = rows[i].name;
        }
    }
    *ret_ignored = ignored;
}

int pl_config__fail(struct pl_config_loader *l, const char *fmt, ...)
{
    char *out = l->err->text;
    const size_t size = sizeof(l->err->text);
    size_t len;
    va_list args;

    if (l->line > 0) {
        len = (size_t)snprintf(out, size, "%s:%d: ", l->where, l->line);
    } else {
        len = (size_t)snprintf(out, size, "%s: ", l->where);
    }
    if (len < size) {
        va_start(args, fmt);
        vsnprintf(out + len, size - len, fmt, args);
        va_end(args);
    }
    for (char *s = out; *s; s++) {
        if (iscntrl((unsigned char)*s)) {
            *s = '?';
        }
    }
    l->failed = true;
    return -1;
}

/* Levenshtein's distance, a row at a time. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, MAX_COMPARED);
    size_t b_len = strnlen(b, MAX_COMPARED);
    size_t row[MAX_COMPARED + 1];

    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = row[j] + 1 < best ? row[j] + 1 : best;
        }
    }
    return row[b_len];
}

static void dotted_name(char out[PL_CONFIG_NAME_SIZE], size_t i)
{
    snprintf(out, PL_CONFIG_NAME_SIZE, "%s", rows[i].name);
}

static void env_name(char out[PL_CONFIG_NAME_SIZE], size_t i)
{
    snprintf(out, PL_CONFIG_NAME_SIZE, ENV_PREFIX "%s_%s", infos[i].section, infos[i].key);
    for (char *s = out; *s; s++) {
        *s = (char)toupper((unsigned char)*s);
    }
}

/* The known name nearest to `name`, as name_of writes it. */
static void nearest(const char *name, void (*name_of)(char *out, size_t i),
                    char out[PL_CONFIG_NAME_SIZE])
{
    size_t best = 0;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < PL_OPTIONS; i++) {
        size_t distance;

        name_of(out, i);
        distance = edit_distance(name, out);
        if (distance < best_distance) {
            best = i;
            best_distance = distance;
        }
    }
    name_of(out, best);
}

/* A value is quoted only where its option was found and refused it. The secrets' type refuses
 * nothing, and what stands behind a misspelt name is not shown. */
static int assign(struct pl_config_loader *l, size_t i, const char *text)
{
    const struct pl_option_value *opt = &rows[i].value;
    const bool again = l->set_by[i] == l->source;
    char accepted[160];

    if (again && l->source == PL_FROM_FILE && !pl_config__is_list(opt)) {
        return pl_config__fail(l, "%s is set a second time, first in line %d", rows[i].name,
                               l->set_at[i]);
    }
    if (!again && pl_config__is_list(opt)) {
        pl_config__clear(opt, field_of(l->cfg, i));
    }
    l->set_by[i] = l->source;
    l->set_at[i] = l->line;
    if (pl_config__set(opt, field_of(l->cfg, i), text) == 0) {
        return 0;
    }
    pl_config__accepted(opt, accepted, sizeof(accepted));
    return pl_config__fail(l, "%s = \"%.60s\": expected %s", rows[i].name, text, accepted);
}

int pl_config__assign(struct pl_config_loader *l, const char *section, const char *key,
                      const char *text)
{
    char name[PL_CONFIG_NAME_SIZE];
    char known[PL_CONFIG_NAME_SIZE];

    for (size_t i = 0; i < PL_OPTIONS; i++) {
        if (strcmp(infos[i].section, section) == 0 && strcmp(infos[i].key, key) == 0) {
            return assign(l, i, text);
        }
    }
    snprintf(name, sizeof(name), "%s.%s", section, key);
    nearest(name, dotted_name, known);
    return pl_config__fail(l, "%s is no option; the nearest is %s", name, known);
}

static void load_defaults(struct pl_config_loader *l)
{
    l->source = PL_FROM_DEFAULT;
    l->where = "default";
    for (size_t i = 0; i < PL_OPTIONS; i++) {
        PL_ASSERT(assign(l, i, infos[i].def) == 0);
    }
}

static int assign_env(struct pl_config_loader *l, size_t i, const char *text)
{
    char *entries;
    char *rest;
    char *entry;
    int status = 0;

    if (rows[i].value.type != PL_OPTION_LIST) {
        return assign(l, i, text);
    }
    entries = rest = pl_strdup(text);
    while (status == 0 && (entry = strsep(&rest, "\n")) != NULL) {
        status = assign(l, i, entry);
    }
    free(entries);
    return status;
}

static bool is_section_of(const char *variable, const char *section)
{
    size_t len = strlen(section);

    return strncasecmp(variable, section, len) == 0 && variable[len] == '_';
}

/* PARLEY_QUEUE_TLL is a slip of the pen, PARLEY_HOME is somebody else's. */
static int check_env_entry(struct pl_config_loader *l, const char *entry)
{
    const size_t prefix = strlen(ENV_PREFIX);
    char known[PL_CONFIG_NAME_SIZE];
    char *name = l->variable;
    bool section_known = false;

    if (strncmp(entry, ENV_PREFIX, prefix) != 0) {
        return 0;
    }
    snprintf(name, sizeof(l->variable), "%.*s", (int)strcspn(entry, "="), entry);
    for (size_t i = 0; i < PL_OPTIONS; i++) {
        env_name(known, i);
        if (strcmp(known, name) == 0) {
            return 0;
        }
        section_known = section_known || is_section_of(name + prefix, infos[i].section);
    }
    if (!section_known) {
        return 0;
    }
    nearest(name, env_name, known);
    return pl_config__fail(l, "no such option; the nearest is %s", known);
}

static int load_env(struct pl_config_loader *l, const char *(*getenv_fn)(const char *name))
{
    l->source = PL_FROM_ENV;
    l->where = l->variable;
    for (char **entry = environ; getenv_fn == NULL && *entry; entry++) {
        if (check_env_entry(l, *entry) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < PL_OPTIONS; i++) {
        const char *text;

        env_name(l->variable, i);
        text = getenv_fn ? getenv_fn(l->variable) : getenv(l->variable);
        if (text && assign_env(l, i, text) != 0) {
            return -1;
        }
    }
    return 0;
}

static int load_set(struct pl_config_loader *l, const char *const *set, size_t count)
{
    l->source = PL_FROM_SET;
    l->where = "--set";
    for (size_t i = 0; i < count; i++) {
        char name[PL_CONFIG_NAME_SIZE];
        const char *equals = strchr(set[i], '=');
        char *dot;

        snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - set[i]) : 0, set[i]);
        dot = strchr(name, '.');
        if (dot == NULL) {
            return pl_config__fail(l, "expected section.key=value");
        }
        *dot = '\0';
        if (pl_config__assign(l, name, dot + 1, equals + 1) != 0) {
            return -1;
        }
    }
    return 0;
}

static int finish(struct pl_config_loader *l, struct pl_config **ret)
{
    if (l->failed) {
        pl_config_free(l->cfg);
        return -1;
    }
    *ret = l->cfg;
    return 0;
}

int pl_config__from_text(const char *name, const char *text, size_t len, struct pl_config **ret,
                         struct pl_config_error *err)
{
    struct pl_config_loader l = {.cfg = pl_alloc(sizeof(*l.cfg)), .err = err};

    load_defaults(&l);
    pl_config__load_text(&l, name, text, len);
    return finish(&l, ret);
}

int pl_config_load(const struct pl_config_sources *src, struct pl_config **ret,
                   struct pl_config_error *err)
{
    struct pl_config_loader l = {.cfg = pl_alloc(sizeof(*l.cfg)), .err = err};

    load_defaults(&l);
    if ((src->file == NULL || pl_config__load_file(&l, src->file) == 0) &&
        load_env(&l, src->getenv_fn) == 0) {
        load_set(&l, src->set, src->set_count);
    }
    return finish(&l, ret);
}
