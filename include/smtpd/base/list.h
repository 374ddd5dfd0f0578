/* An intrusive doubly linked list. A zeroed link is in no list. */
#ifndef SMTPD_BASE_LIST_H
#define SMTPD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
    struct link *prev;
};

struct list {
    struct link head;
    size_t count;
};

#define CONTAINER_OF(pointer, type, member)                                                \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->head.next = list->head.prev = &list->head;
    list->count = 0;
}

static inline bool link_is_in_list(const struct link *link)
{
    return link->next != NULL;
}

static inline void list_insert_before(struct list *list, struct link *at, struct link *link)
{
    link->next = at;
    link->prev = at->prev;
    at->prev->next = link;
    at->prev = link;
    list->count++;
}

static inline void list_push_back(struct list *list, struct link *link)
{
    list_insert_before(list, &list->head, link);
}

static inline void list_push_front(struct list *list, struct link *link)
{
    list_insert_before(list, list->head.next, link);
}

static inline void list_remove(struct list *list, struct link *link)
{
    if (!link_is_in_list(link))
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
    list->count--;
}

static inline struct link *list_first(const struct list *list)
{
    return list->head.next == &list->head ? NULL : list->head.next;
}

static inline struct link *list_next(const struct list *list, const struct link *link)
{
    return link->next == &list->head ? NULL : link->next;
}

static inline struct link *list_pop_front(struct list *list)
{
    struct link *first = list_first(list);

    if (first)
        list_remove(list, first);
    return first;
}

#endif
