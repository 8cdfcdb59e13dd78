#include "server/cli/nodes_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/cli/text.h"

enum {
    NODE,
    ADDRESS,
    VERSION,
    UP,
    QUEUES,
    APPLIED,
    STATE,
    COLUMNS
};

struct node {
    struct pl_str name;
    const struct pl_value *said; /* a map; NULL: not understood */
    bool gone;
    struct pl_str cells[COLUMNS];
};

static const struct pl_value *member(const struct node *n, const char *key, enum pl_value_type type)
{
    const struct pl_value *v = n->said ? pl_value_get(n->said, key) : NULL;

    return v && v->type == type ? v : NULL;
}

static int64_t integer(const struct node *n, const char *key)
{
    const struct pl_value *v = member(n, key, PL_INT_VALUE);

    return v ? v->u.integer : 0;
}

/* ---- the table ---- */

static struct pl_str copy(struct pl_arena *a, const char *text)
{
    size_t len = strlen(text);
    char *bytes = pl_arena_alloc(a, len + 1);

    memcpy(bytes, text, len + 1);
    return (struct pl_str){bytes, len};
}

static struct pl_str age(struct pl_arena *a, const char *before, int64_t since_ms, int64_t now_ms)
{
    char text[PL_CLI_TEXT_SIZE], whole[PL_CLI_TEXT_SIZE + 8];

    if (since_ms <= 0) {
        return copy(a, "-");
    }
    pl_cli_format_uptime(now_ms > since_ms ? (double)(now_ms - since_ms) / 1000 : 0, text);
    snprintf(whole, sizeof(whole), "%s%s", before, text);
    return copy(a, whole);
}

static struct pl_str text_cell(struct pl_arena *a, const struct node *n, const char *key)
{
    const struct pl_value *v = member(n, key, PL_STRING);

    return v && v->u.string.len > 0 ? pl_cli_printable(v->u.string, a) : copy(a, "-");
}

static struct pl_str number_cell(struct pl_arena *a, const struct node *n, const char *key)
{
    const struct pl_value *v = member(n, key, PL_INT_VALUE);
    char text[PL_CLI_TEXT_SIZE];

    snprintf(text, sizeof(text), "%" PRId64, v ? v->u.integer : 0);
    return copy(a, v ? text : "-");
}

static void fill_cells(struct node *n, int64_t now_ms, struct pl_arena *a)
{
    n->cells[NODE] = n->name;
    n->cells[ADDRESS] = text_cell(a, n, "address");
    n->cells[VERSION] = text_cell(a, n, "version");
    n->cells[UP] = n->gone ? copy(a, "-") : age(a, "", integer(n, "started"), now_ms);
    n->cells[QUEUES] = number_cell(a, n, "queues");
    n->cells[APPLIED] = number_cell(a, n, "applied");
    n->cells[STATE] = !n->said  ? copy(a, "not understood")
                      : n->gone ? age(a, "gone ", integer(n, "until"), now_ms)
                                : copy(a, "up");
}

static void write_row(const struct pl_str cells[COLUMNS], const size_t widths[COLUMNS],
                      struct pl_buf *out)
{
    for (int c = 0; c < COLUMNS; c++) {
        size_t blanks = c + 1 < COLUMNS ? widths[c] - cells[c].len + 2 : 0;

        pl_buf_append(out, cells[c].s, cells[c].len);
        pl_buf_printf(out, "%*s", (int)blanks, "");
    }
    pl_buf_append_byte(out, '\n');
}

static void write_table(const struct node *nodes, size_t count, struct pl_buf *out)
{
    static const struct pl_str titles[COLUMNS] = {
        PL_LIT("NODE"),   PL_LIT("ADDRESS"), PL_LIT("VERSION"), PL_LIT("UP"),
        PL_LIT("QUEUES"), PL_LIT("APPLIED"), PL_LIT("STATE")};
    size_t widths[COLUMNS];

    for (int c = 0; c < COLUMNS; c++) {
        widths[c] = titles[c].len;
        for (size_t i = 0; i < count; i++) {
            widths[c] = nodes[i].cells[c].len > widths[c] ? nodes[i].cells[c].len : widths[c];
        }
    }
    write_row(titles, widths, out);
    for (size_t i = 0; i < count; i++) {
        write_row(nodes[i].cells, widths, out);
    }
}

/* ---- JSON ---- */

static bool is_ours(struct pl_str key)
{
    return pl_str_eq(key, PL_LIT("node")) || pl_str_eq(key, PL_LIT("gone"));
}

static void write_json(const struct node *n, struct pl_buf *out)
{
    size_t said = n->said ? n->said->u.map.count : 0, shown = 0;
    struct pl_writer w;

    for (size_t i = 0; i < said; i++) {
        shown += !is_ours(n->said->u.map.members[i].key);
    }
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 2 + shown);
    pl_write_key(&w, "node");
    pl_write_str(&w, n->name);
    pl_write_key(&w, "gone");
    pl_write_bool(&w, n->gone);
    for (size_t i = 0; i < said; i++) {
        const struct pl_member *m = &n->said->u.map.members[i];

        if (!is_ours(m->key)) {
            pl_write_key_str(&w, m->key);
            pl_write_value(&w, &m->value);
        }
    }
    pl_buf_append_byte(out, '\n');
}

/* ---- reading ---- */

static struct node read_node(struct pl_str name, struct pl_str json, int64_t now_ms,
                             struct pl_arena *a)
{
    struct node n = {.name = pl_cli_printable(name, a)};
    const struct pl_value *v;

    if (pl_decode(PL_JSON, json.s, json.len, a, &v, NULL) == 0 && v->type == PL_MAP) {
        n.said = v;
    }
    n.gone = integer(&n, "until") < now_ms;
    return n;
}

static int by_name(const void *a, const void *b)
{
    return pl_str_compare(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static size_t read_nodes(const struct pl_cli_nodes *n, struct pl_arena *a, struct node **ret)
{
    size_t total = n->pairs->type == PL_ARRAY ? n->pairs->u.array.count : 0, count = 0;
    const struct pl_value *items = n->pairs->u.array.items;
    struct node *nodes = pl_arena_alloc(a, (total / 2 + 1) * sizeof(*nodes));

    for (size_t i = 0; i + 1 < total; i += 2) {
        if (items[i].type == PL_STRING && items[i + 1].type == PL_STRING) {
            nodes[count] = read_node(items[i].u.string, items[i + 1].u.string, n->now_ms, a);
            count += n->all || !nodes[count].gone;
        }
    }
    qsort(nodes, count, sizeof(*nodes), by_name);
    *ret = nodes;
    return count;
}

size_t pl_cli_nodes_render(const struct pl_cli_nodes *n, struct pl_buf *out)
{
    struct pl_arena arena = {0};
    struct node *nodes;
    size_t count = read_nodes(n, &arena, &nodes);

    for (size_t i = 0; i < count; i++) {
        if (n->json) {
            write_json(&nodes[i], out);
        } else {
            fill_cells(&nodes[i], n->now_ms, &arena);
        }
    }
    if (!n->json && count > 0) {
        write_table(nodes, count, out);
    }
    pl_arena_done(&arena);
    return count;
}
