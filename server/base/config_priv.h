#ifndef PL_BASE_CONFIG_PRIV_H
#define PL_BASE_CONFIG_PRIV_H

#include "server/base/config.h"

enum pl_option_type {
    PL_OPTION_STRING,
    PL_OPTION_LIST,
    PL_OPTION_WORDS,
    PL_OPTION_NETWORKS,
    PL_OPTION_BOOL,
    PL_OPTION_INT,
    PL_OPTION_COUNT,
    PL_OPTION_BYTES,
    PL_OPTION_DURATION,
    PL_OPTION_ALGORITHM,
    PL_OPTION_PHASE,
    PL_OPTION_LOG_LEVEL,
    PL_OPTION_LOG_FORMAT,
};

enum pl_config_source {
    PL_FROM_NOWHERE,
    PL_FROM_DEFAULT,
    PL_FROM_FILE,
    PL_FROM_ENV,
    PL_FROM_SET,
};

enum pl_option_id {
#define PL_OPTION(section, key, type, def, min, max, reload, help) PL_OPTION_ID_##section##_##key,
#include "server/base/config.def"
#undef PL_OPTION
    PL_OPTIONS
};

enum {
    PL_CONFIG_NAME_SIZE = 96, /* of a section.key or an environment variable, as much is shown */
};

/* One load in progress. The first error ends it. */
struct pl_config_loader {
    struct pl_config *cfg;
    struct pl_config_error *err;
    enum pl_config_source source;
    const char *where; /* for errors: a file, variable below, "--set" */
    char variable[PL_CONFIG_NAME_SIZE];
    int line; /* of the file; 0: none to name */
    bool failed;
    enum pl_config_source set_by[PL_OPTIONS]; /* who set each option last */
    int set_at[PL_OPTIONS];                   /* in which line */
};

/* How one option's value is read. `field` below is that option's field of a struct pl_config. */
struct pl_option_value {
    enum pl_option_type type;
    int64_t min, max; /* INT, COUNT, BYTES, DURATION */
};

/* LIST, WORDS and NETWORKS append, the others replace. 0, or -1 if the text is not accepted (STRING,
 * LIST and WORDS accept any) and the field is as it was. */
int pl_config__set(const struct pl_option_value *opt, void *field, const char *text);

bool pl_config__is_list(const struct pl_option_value *opt);
void pl_config__clear(const struct pl_option_value *opt, void *field);
void pl_config__copy(const struct pl_option_value *opt, void *into, const void *from);
bool pl_config__equal(const struct pl_option_value *opt, const void *a, const void *b);

/* What pl_config__set accepts, in words. */
void pl_config__accepted(const struct pl_option_value *opt, char *out, size_t size);

/* Writes err ("where:line: …", control characters as '?') and returns -1. */
int pl_config__fail(struct pl_config_loader *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Gives an option a value from the source being read. 0, or -1 with err. */
int pl_config__assign(struct pl_config_loader *l, const char *section, const char *key,
                      const char *text);

/* A file, and a file's text which `name` stands for in errors. 0, or -1 with err. */
int pl_config__load_file(struct pl_config_loader *l, const char *path);
int pl_config__load_text(struct pl_config_loader *l, const char *name, const char *text,
                         size_t len);

/* pl_config_load of the defaults and a file's text only. */
int pl_config__from_text(const char *name, const char *text, size_t len, struct pl_config **ret,
                         struct pl_config_error *err);

#endif
