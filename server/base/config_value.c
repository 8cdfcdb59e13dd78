#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/config_priv.h"
#include "server/base/log_priv.h"

struct unit {
    const char *name; /* "" for none; the first name of a size is the one that is written */
    int64_t factor;
};

static const struct unit byte_units[] = {
    {"GiB", INT64_C(1) << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1},
    {"G", INT64_C(1) << 30},   {"M", 1 << 20},   {"K", 1 << 10},   {NULL, 0},
};

static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000}, {NULL, 0},
};

static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

static const char *const bool_words[] = {"off", "on", "false", "true", "no", "yes", "0", "1", NULL};

static const char *const phase_words[] = {"longpoll", "hybrid", "websocket", "websocket-only",
                                          NULL};

static const char *const algorithm_words[] = {
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", NULL,
};

/* By enum pl_log_format. */
static const char *const log_format_words[] = {"kv", "json", NULL};

/* NULL if the type is not one of a list of words. */
static const char *const *words_of(enum pl_option_type type)
{
    switch (type) {
    case PL_OPTION_BOOL:
        return bool_words;
    case PL_OPTION_ALGORITHM:
        return algorithm_words;
    case PL_OPTION_PHASE:
        return phase_words;
    case PL_OPTION_LOG_LEVEL:
        return pl_log__level_words;
    case PL_OPTION_LOG_FORMAT:
        return log_format_words;
    case PL_OPTION_STRING:
    case PL_OPTION_LIST:
    case PL_OPTION_WORDS:
    case PL_OPTION_NETWORKS:
    case PL_OPTION_INT:
    case PL_OPTION_COUNT:
    case PL_OPTION_BYTES:
    case PL_OPTION_DURATION:
        break;
    }
    return NULL;
}

static const struct unit *units_of(enum pl_option_type type)
{
    return type == PL_OPTION_BYTES      ? byte_units
           : type == PL_OPTION_DURATION ? duration_units
                                        : plain_units;
}

static void strings_append(struct pl_strings *list, const char *text, size_t len)
{
    list->items = pl_realloc(list->items, (list->count + 1) * sizeof(*list->items));
    list->items[list->count++] = pl_strndup(text, len);
}

static void strings_clear(struct pl_strings *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct pl_strings){0};
}

/* The next word behind *text, which is moved to it; 0: there is none. */
static size_t next_word(const char **text)
{
    static const char separators[] = ", \t\r\n";

    *text += strspn(*text, separators);
    return strcspn(*text, separators);
}

static void append_words(struct pl_strings *list, const char *text)
{
    size_t len;

    while ((len = next_word(&text)) > 0) {
        strings_append(list, text, len);
        text += len;
    }
}

static void networks_append(struct pl_networks *list, const struct pl_network *items, size_t count)
{
    if (count > 0) {
        list->items = pl_realloc(list->items, (list->count + count) * sizeof(*list->items));
        memcpy(list->items + list->count, items, count * sizeof(*items));
        list->count += count;
    }
}

static void networks_clear(struct pl_networks *list)
{
    free(list->items);
    *list = (struct pl_networks){0};
}

/* All or none. */
static int append_networks(struct pl_networks *list, const char *text)
{
    struct pl_networks read = {0};
    size_t len;
    bool good = true;

    while (good && (len = next_word(&text)) > 0) {
        struct pl_network n;

        good = pl_network_parse(text, len, &n);
        if (good) {
            networks_append(&read, &n, 1);
        }
        text += len;
    }
    if (good) {
        networks_append(list, read.items, read.count);
    }
    networks_clear(&read);
    return good ? 0 : -1;
}

static int find_word(const char *const *words, const char *text)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

/* Digits and a unit, nothing else: no sign, no blank, no fraction. */
static int parse_number(const struct pl_option_value *opt, const char *text, int64_t *ret)
{
    const struct unit *unit = units_of(opt->type);
    int64_t number = 0;
    const char *s = text;

    for (; *s >= '0' && *s <= '9'; s++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, *s - '0', &number)) {
            return -1;
        }
    }
    while (unit->name && strcmp(unit->name, s) != 0) {
        unit++;
    }
    if (s == text || unit->name == NULL || __builtin_mul_overflow(number, unit->factor, &number) ||
        number < opt->min || number > opt->max) {
        return -1;
    }
    *ret = number;
    return 0;
}

static int set_word(const struct pl_option_value *opt, void *field, const char *text)
{
    int word = find_word(words_of(opt->type), text);

    if (word < 0) {
        return -1;
    }
    if (opt->type == PL_OPTION_BOOL) {
        *(bool *)field = word % 2 == 1;
    } else {
        *(int *)field = word;
    }
    return 0;
}

int pl_config__set(const struct pl_option_value *opt, void *field, const char *text)
{
    switch (opt->type) {
    case PL_OPTION_STRING:
        free(*(char **)field);
        *(char **)field = pl_strdup(text);
        return 0;
    case PL_OPTION_LIST:
        if (*text) {
            strings_append(field, text, strlen(text));
        }
        return 0;
    case PL_OPTION_WORDS:
        append_words(field, text);
        return 0;
    case PL_OPTION_NETWORKS:
        return append_networks(field, text);
    case PL_OPTION_COUNT:
        if (strcmp(text, "auto") == 0) {
            *(int64_t *)field = 0;
            return 0;
        }
        return parse_number(opt, text, field);
    case PL_OPTION_INT:
    case PL_OPTION_BYTES:
    case PL_OPTION_DURATION:
        return parse_number(opt, text, field);
    case PL_OPTION_BOOL:
    case PL_OPTION_ALGORITHM:
    case PL_OPTION_PHASE:
    case PL_OPTION_LOG_LEVEL:
    case PL_OPTION_LOG_FORMAT:
        break;
    }
    return set_word(opt, field, text);
}

static bool is_strings(const struct pl_option_value *opt)
{
    return opt->type == PL_OPTION_LIST || opt->type == PL_OPTION_WORDS;
}

bool pl_config__is_list(const struct pl_option_value *opt)
{
    return is_strings(opt) || opt->type == PL_OPTION_NETWORKS;
}

static size_t scalar_size(enum pl_option_type type)
{
    return type == PL_OPTION_BOOL ? sizeof(bool) : words_of(type) ? sizeof(int) : sizeof(int64_t);
}

void pl_config__clear(const struct pl_option_value *opt, void *field)
{
    if (is_strings(opt)) {
        strings_clear(field);
    } else if (opt->type == PL_OPTION_NETWORKS) {
        networks_clear(field);
    } else if (opt->type == PL_OPTION_STRING) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else {
        memset(field, 0, scalar_size(opt->type));
    }
}

void pl_config__copy(const struct pl_option_value *opt, void *into, const void *from)
{
    pl_config__clear(opt, into);
    if (is_strings(opt)) {
        const struct pl_strings *list = from;

        for (size_t i = 0; i < list->count; i++) {
            strings_append(into, list->items[i], strlen(list->items[i]));
        }
    } else if (opt->type == PL_OPTION_NETWORKS) {
        const struct pl_networks *list = from;

        networks_append(into, list->items, list->count);
    } else if (opt->type == PL_OPTION_STRING) {
        *(char **)into = pl_strdup(*(char *const *)from);
    } else {
        memcpy(into, from, scalar_size(opt->type));
    }
}

static bool strings_equal(const struct pl_strings *a, const struct pl_strings *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0) {
            return false;
        }
    }
    return true;
}

static bool networks_equal(const struct pl_networks *a, const struct pl_networks *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (memcmp(&a->items[i], &b->items[i], sizeof(a->items[i])) != 0) {
            return false;
        }
    }
    return true;
}

bool pl_config__equal(const struct pl_option_value *opt, const void *a, const void *b)
{
    if (is_strings(opt)) {
        return strings_equal(a, b);
    }
    if (opt->type == PL_OPTION_NETWORKS) {
        return networks_equal(a, b);
    }
    if (opt->type == PL_OPTION_STRING) {
        return strcmp(*(char *const *)a, *(char *const *)b) == 0;
    }
    return memcmp(a, b, scalar_size(opt->type)) == 0;
}

/* In the largest unit that needs no fraction, as an operator would write it. */
static void format_number(const struct unit *units, int64_t number, char *out, size_t size)
{
    const struct unit *unit = units;

    while (unit[1].name && number % unit->factor != 0) {
        unit++;
    }
    snprintf(out, size, "%" PRId64 "%s", number == 0 ? 0 : number / unit->factor,
             number == 0 ? "" : unit->name);
}

static void join_words(const char *const *words, char *out, size_t size)
{
    size_t len = (size_t)snprintf(out, size, "one of");

    for (int i = 0; words[i] && len < size; i++) {
        len += (size_t)snprintf(out + len, size - len, " %s", words[i]);
    }
}

void pl_config__accepted(const struct pl_option_value *opt, char *out, size_t size)
{
    const char *what = opt->type == PL_OPTION_BYTES ? "a size such as 512, 64KiB, 4MiB or 1GiB"
                       : opt->type == PL_OPTION_DURATION
                           ? "a duration such as 500ms, 30s, 2m, 24h or 7d"
                       : opt->type == PL_OPTION_COUNT ? "auto or a whole number"
                                                      : "a whole number";
    char min[32];
    char max[32];

    if (words_of(opt->type)) {
        join_words(words_of(opt->type), out, size);
    } else if (opt->type == PL_OPTION_NETWORKS) {
        snprintf(out, size,
                 "addresses and networks such as 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32");
    } else if (is_strings(opt) || opt->type == PL_OPTION_STRING) {
        snprintf(out, size, "any text");
    } else {
        format_number(units_of(opt->type), opt->min, min, sizeof(min));
        format_number(units_of(opt->type), opt->max, max, sizeof(max));
        snprintf(out, size, "%s, from %s to %s", what, min, max);
    }
}

static const char *word_at(const char *const *words, int count, int index)
{
    return index >= 0 && index < count ? words[index] : "unknown";
}

const char *pl_phase_name(int phase)
{
    return word_at(phase_words, PL_PHASE_WEBSOCKET_ONLY + 1, phase);
}

const char *pl_algorithm_name(int alg)
{
    return word_at(algorithm_words, PL_ALG_ES512 + 1, alg);
}
