#include "server/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/clock.h"
#include "server/base/log_priv.h"

enum {
    BURST = 5,        /* records of one kind written per window before counting begins */
    WINDOW_MS = 1000, /* from the first record of a kind */
    KINDS = 64,       /* event and level pairs remembered */
    EVENT_SIZE = 40,  /* longer event names are the same kind if their beginnings are */
};

/* What is known of records with one event name and level. */
struct kind {
    char event[EVENT_SIZE]; /* "" while unused */
    enum pl_log_level level;
    uint64_t window_start_ms;
    unsigned written;
    unsigned suppressed;
};

static struct {
    enum pl_log_level min;
    enum pl_log_format format;
    void (*sink)(const char *line, void *arg);
    void *sink_arg;
    struct kind kinds[KINDS];
} state = {.min = PL_LOG_INFO, .format = PL_LOG_KV};

const char *const pl_log__level_words[] = {"debug", "info", "warn", "error", "off", NULL};

void pl_log_setup(enum pl_log_level min, enum pl_log_format format)
{
    state.min = min;
    state.format = format;
}

void pl_log_redirect(void (*sink)(const char *line, void *arg), void *arg)
{
    state.sink = sink;
    state.sink_arg = arg;
    memset(state.kinds, 0, sizeof(state.kinds));
}

static unsigned sequence_length(uint8_t lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Bytes of the UTF-8 sequence at s, or 0 if it is not one. The bounds of the second byte keep out
 * overlong forms, surrogates and what is beyond U+10FFFF. */
static unsigned utf8_sequence(const uint8_t *s)
{
    const uint8_t lowest = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    const uint8_t highest = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    unsigned len = sequence_length(s[0]);

    if (len > 1 && (s[1] < lowest || s[1] > highest)) {
        return 0;
    }
    for (unsigned i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* C0, DEL and C1: the latter begin escape sequences too, on terminals. */
static bool is_control(const uint8_t *s, unsigned len)
{
    return s[0] < 0x20 || s[0] == 0x7f || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

/* A JSON string, in both formats, so a reader of either needs one unescaper. What is not UTF-8
 * becomes U+FFFD. */
static void append_quoted(struct pl_buf *out, const char *text)
{
    const uint8_t *s = (const uint8_t *)text;

    pl_buf_append_byte(out, '"');
    while (*s) {
        unsigned len = utf8_sequence(s);

        if (len == 0) {
            pl_buf_append_str(out, "\xef\xbf\xbd");
            len = 1;
        } else if (*s == '"' || *s == '\\') {
            pl_buf_append_byte(out, '\\');
            pl_buf_append_byte(out, *s);
        } else if (*s == '\n') {
            pl_buf_append_str(out, "\\n");
        } else if (is_control(s, len)) {
            pl_buf_printf(out, "\\u%04x", s[len - 1]);
        } else {
            pl_buf_append(out, s, len);
        }
        s += len;
    }
    pl_buf_append_byte(out, '"');
}

static bool is_bare(const char *text)
{
    for (const char *s = text; *s; s++) {
        if (*s <= ' ' || *s >= 0x7f || *s == '"' || *s == '=' || *s == '\\') {
            return false;
        }
    }
    return *text != '\0';
}

static void append_key(struct pl_buf *out, const char *key)
{
    const bool json = state.format == PL_LOG_JSON;

    if (out->len > (json ? 1 : 0)) {
        pl_buf_append_byte(out, json ? ',' : ' ');
    }
    pl_buf_printf(out, json ? "\"%s\":" : "%s=", key);
}

static void append_str(struct pl_buf *out, const char *key, const char *text)
{
    append_key(out, key);
    if (state.format == PL_LOG_KV && is_bare(text)) {
        pl_buf_append_str(out, text);
    } else {
        append_quoted(out, text);
    }
}

static void append_int(struct pl_buf *out, const char *key, int64_t number)
{
    append_key(out, key);
    pl_buf_printf(out, "%" PRId64, number);
}

static void emit(const char *line, size_t len)
{
    ssize_t written;

    /* One write per line keeps the lines of sibling processes apart. A log that takes nothing more
     * (a full pipe that does not block) loses lines; the server goes on. */
    do {
        written = write(STDERR_FILENO, line, len);
    } while (written < 0 && errno == EINTR);
}

static void write_record(int64_t unix_ms, enum pl_log_level level, const char *event,
                         const struct pl_field *fields, unsigned field_count, unsigned repeated)
{
    struct pl_buf line = {0};
    char time[PL_RFC3339_SIZE];

    if (state.format == PL_LOG_JSON) {
        pl_buf_append_byte(&line, '{');
    }
    pl_format_rfc3339(unix_ms, time);
    append_str(&line, "time", time);
    append_str(&line, "level", pl_log__level_words[level]);
    append_str(&line, "event", event);
    for (unsigned i = 0; i < field_count; i++) {
        if (fields[i].type == PL_FIELD_INT) {
            append_int(&line, fields[i].key, fields[i].i);
        } else {
            append_str(&line, fields[i].key, fields[i].s ? fields[i].s : "");
        }
    }
    if (repeated > 0) {
        append_int(&line, "repeated", repeated);
    }
    if (state.format == PL_LOG_JSON) {
        pl_buf_append_byte(&line, '}');
    }
    if (state.sink) {
        state.sink(pl_buf_cstr(&line), state.sink_arg);
    } else {
        pl_buf_append_byte(&line, '\n');
        emit((const char *)line.data, line.len);
    }
    pl_buf_done(&line);
}

/* FNV-1a: event names are our own, nobody chooses collisions. */
static struct kind *slot_of(enum pl_log_level level, const char *event)
{
    uint32_t hash = 2166136261U ^ level;

    for (unsigned i = 0; event[i] && i < EVENT_SIZE - 1; i++) {
        hash = (hash ^ (uint8_t)event[i]) * 16777619U;
    }
    return &state.kinds[hash % KINDS];
}

static bool is_kind(const struct kind *k, enum pl_log_level level, const char *event)
{
    return k->level == level && k->event[0] && strncmp(k->event, event, EVENT_SIZE - 1) == 0;
}

/* Makes the slot that of this kind. Its last one is forgotten, but not what it still had to report.
 */
static struct kind *kind_of(int64_t unix_ms, uint64_t mono_ms, enum pl_log_level level,
                            const char *event)
{
    struct kind *k = slot_of(level, event);

    if (!is_kind(k, level, event)) {
        if (k->suppressed > 0) {
            write_record(unix_ms, k->level, k->event, NULL, 0, k->suppressed);
        }
        *k = (struct kind){.level = level, .window_start_ms = mono_ms};
        strncpy(k->event, event, EVENT_SIZE - 1);
    }
    return k;
}

void pl_log__write_at(int64_t unix_ms, uint64_t mono_ms, enum pl_log_level level, const char *event,
                      const struct pl_field *fields, unsigned field_count)
{
    struct kind *k;
    unsigned repeated;

    if (level < state.min || level >= PL_LOG_OFF) {
        return;
    }
    k = kind_of(unix_ms, mono_ms, level, event);
    if (mono_ms - k->window_start_ms >= WINDOW_MS) {
        k->window_start_ms = mono_ms;
        k->written = 0;
    }
    if (k->written >= BURST) {
        k->suppressed++;
        return;
    }
    k->written++;
    repeated = k->suppressed;
    k->suppressed = 0;
    write_record(unix_ms, level, event, fields, field_count, repeated);
}

void pl_log_write(enum pl_log_level level, const char *event, const struct pl_field *fields,
                  unsigned field_count)
{
    pl_log__write_at(pl_clock_unix_ms(), pl_clock_mono_ms(), level, event, fields, field_count);
}
