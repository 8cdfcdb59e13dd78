#ifndef PL_BASE_LOG_H
#define PL_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* Structured logs on stderr: one line per record, an event name and fields, as key=value or JSON.
 * Never a token, never a payload, of a queue id only its first 6 characters. The function that
 * decides logs; one that returns an error does not. Of records with the same event name and level,
 * five are written within a second; more are counted, and the count comes with the next one that is
 * (field repeated=N). */
enum pl_log_level {
    PL_LOG_DEBUG,
    PL_LOG_INFO,
    PL_LOG_WARN,
    PL_LOG_ERROR,
    PL_LOG_OFF
};
enum pl_log_format {
    PL_LOG_KV,
    PL_LOG_JSON
};

void pl_log_setup(enum pl_log_level min, enum pl_log_format format);

struct pl_field {
    const char *key;
    enum {
        PL_FIELD_STR,
        PL_FIELD_INT
    } type;
    const char *s; /* NULL is written as an empty string */
    int64_t i;
};
#define PL_STR(key, value) ((struct pl_field){(key), PL_FIELD_STR, (value), 0})
#define PL_INT(key, value) ((struct pl_field){(key), PL_FIELD_INT, 0, (int64_t)(value)})

/* pl_log(PL_LOG_INFO, "listening", PL_STR("address", a), PL_INT("port", p)); at least one field. */
#define pl_log(level, event, ...)                                          \
    pl_log_write((level), (event), (const struct pl_field[]){__VA_ARGS__}, \
                 sizeof((const struct pl_field[]){__VA_ARGS__}) / sizeof(struct pl_field))
void pl_log_write(enum pl_log_level level, const char *event, const struct pl_field *fields,
                  unsigned field_count);

/* Redirects records, for tests: called with each whole line instead of writing it. NULL restores.
 */
void pl_log_redirect(void (*sink)(const char *line, void *arg), void *arg);

#endif
