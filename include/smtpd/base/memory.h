/* The only door to the heap.
 *
 * Promises  never NULL: out of memory prints one line and aborts. Ceilings everywhere keep
 *           that away, and the queue is durable.
 */
#ifndef SMTPD_BASE_MEMORY_H
#define SMTPD_BASE_MEMORY_H

#include <stddef.h>

void *memory_new(size_t bytes);                          /* zeroed */
void *memory_new_array(size_t count, size_t item_bytes); /* zeroed; overflow aborts */
void *memory_resize(void *memory, size_t bytes);         /* new part is not zeroed */
void *memory_copy(const void *from, size_t bytes);
char *memory_text(const char *text); /* a copy; NULL gives NULL */
char *memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void memory_free(void *memory); /* NULL is fine */
/* Gives free memory back to the kernel; takes milliseconds: not on the loop. */
void memory_trim(void);

#define NEW(type) ((type *)memory_new(sizeof(type)))
#define NEW_ARRAY(type, count) ((type *)memory_new_array((count), sizeof(type)))

#endif
