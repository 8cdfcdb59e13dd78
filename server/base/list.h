#ifndef PL_BASE_LIST_H
#define PL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* An intrusive, circular, doubly linked list. A head and a node are the same thing; a node that is
 * in no list points at itself, so removing twice is harmless. */
struct pl_list {
    struct pl_list *prev, *next;
};

#define pl_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void pl_list_init(struct pl_list *l)
{
    l->prev = l->next = l;
}

static inline bool pl_list_empty(const struct pl_list *l)
{
    return l->next == l;
}

static inline void pl_list_append(struct pl_list *head, struct pl_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void pl_list_remove(struct pl_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    pl_list_init(node);
}

/* Moves every node of src to the end of dst; src is empty afterwards. */
static inline void pl_list_splice(struct pl_list *dst, struct pl_list *src)
{
    if (pl_list_empty(src)) {
        return;
    }
    src->next->prev = dst->prev;
    dst->prev->next = src->next;
    src->prev->next = dst;
    dst->prev = src->prev;
    pl_list_init(src);
}

#define pl_list_foreach(it, head) \
    for (struct pl_list *it = (head)->next; it != (head); it = it->next)

/* The body may remove `it`, but nothing else. */
#define pl_list_foreach_safe(it, head)                                           \
    for (struct pl_list *it = (head)->next, *it##_next = it->next; it != (head); \
         it = it##_next, it##_next = it->next)

#endif
