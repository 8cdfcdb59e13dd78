#ifndef PL_BASE_CONFIG_H
#define PL_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/address.h"

/* Configuration: one table (config.def) is the one place where options are defined; the struct, the
 * parser, conf/parley.conf's check, --help and the environment names come from it.
 *
 *   PL_OPTION(section, key, TYPE, default, min, max, reload, help)
 *
 * TYPE      field type             accepted text
 *   STRING  char *                 anything
 *   LIST    struct pl_strings      the option may be repeated; each is one entry, verbatim
 *   WORDS   struct pl_strings      may be repeated; each is split at commas and blanks
 *   NETWORKS struct pl_networks    as WORDS, each an address or a network (192.0.2.0/24)
 *   BOOL    bool                   on off true false yes no 1 0
 *   INT     int64_t                decimal, min..max
 *   COUNT   int64_t                as INT, or auto (0)
 *   BYTES   int64_t (bytes)        decimal with optional KiB, MiB, GiB (also K, M, G); min..max
 *   DURATION int64_t (ms)          decimal with ms, s (default), m, h, d; min..max
 *   ALGORITHM, PHASE, LOG_LEVEL, LOG_FORMAT   int (an enum)      one of a list of words
 * reload: LIVE (applied in place by SIGHUP) or START (needs a restart).
 *
 * Sources, later ones win: default, file, environment PARLEY_SECTION_KEY, --set section.key=value.
 * The first entry of a list (LIST, WORDS, NETWORKS) from a source replaces the entries of earlier sources, further
 * ones append. In the environment, entries of a LIST are separated by newlines. */

struct pl_strings {
    char **items;
    size_t count;
};

enum pl_phase {
    PL_PHASE_LONGPOLL,
    PL_PHASE_HYBRID,
    PL_PHASE_WEBSOCKET,
    PL_PHASE_WEBSOCKET_ONLY
};
enum pl_algorithm {
    PL_ALG_HS256,
    PL_ALG_HS384,
    PL_ALG_HS512,
    PL_ALG_RS256,
    PL_ALG_RS384,
    PL_ALG_RS512,
    PL_ALG_ES256,
    PL_ALG_ES384,
    PL_ALG_ES512,
};

#define PL_OPTION_FIELD_STRING     char *
#define PL_OPTION_FIELD_LIST       struct pl_strings
#define PL_OPTION_FIELD_WORDS      struct pl_strings
#define PL_OPTION_FIELD_NETWORKS   struct pl_networks
#define PL_OPTION_FIELD_BOOL       bool
#define PL_OPTION_FIELD_INT        int64_t
#define PL_OPTION_FIELD_COUNT      int64_t
#define PL_OPTION_FIELD_BYTES      int64_t
#define PL_OPTION_FIELD_DURATION   int64_t
#define PL_OPTION_FIELD_ALGORITHM  int
#define PL_OPTION_FIELD_PHASE      int
#define PL_OPTION_FIELD_LOG_LEVEL  int
#define PL_OPTION_FIELD_LOG_FORMAT int

/* One field per option, named section_key: cfg->server_listen, cfg->queue_ttl (ms), … */
struct pl_config {
#define PL_OPTION(section, key, type, def, min, max, reload, help) \
    PL_OPTION_FIELD_##type section##_##key;
#include "server/base/config.def"
#undef PL_OPTION
};

struct pl_config_error {
    char text[512]; /* "parley.conf:12: queue.ttl = \"abc\": a duration such as 500ms, 120s, 2m, …"
                     */
};

/* What to read, in order. set: strings "section.key=value" from the command line. getenv_fn: NULL
 * for the process's environment. file: NULL for none. */
struct pl_config_sources {
    const char *file;
    const char *const *set;
    size_t set_count;
    const char *(*getenv_fn)(const char *name);
};

/* 0 and a new config, or -1 with the first error: it names the file and line (or "--set", or the
 * environment variable), the key, and what is accepted; an unknown key names the nearest known one.
 */
int pl_config_load(const struct pl_config_sources *src, struct pl_config **ret,
                   struct pl_config_error *err);
void pl_config_free(struct pl_config *cfg);

/* Copies the LIVE options of `from` into `into` (deep), and returns in *ret_ignored the section.key
 * of the first START option that differs and so was not applied, or NULL. Static string. */
void pl_config_apply_live(struct pl_config *into, const struct pl_config *from,
                          const char **ret_ignored);

/* The table, for --help, docs checks and completion. Rows in .def order. */
struct pl_option_info {
    const char *section, *key, *type, *def, *help;
    bool live;
};
size_t pl_config_options(const struct pl_option_info **ret);

/* The words of the enums, as in the file. */
const char *pl_phase_name(int phase);
const char *pl_algorithm_name(int alg);

#endif
