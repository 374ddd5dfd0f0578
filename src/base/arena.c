/* Blocks that double, up to 64 KiB; a large allocation gets a block of its own. */
#include "smtpd/base/arena.h"

#include "smtpd/base/memory.h"

#include <stdalign.h>
#include <string.h>

enum { FIRST_BLOCK = 1024, MOST_BLOCK = 65536 };

struct arena_block {
    struct arena_block *next;
    size_t bytes;
    size_t used;
    alignas(max_align_t) char data[];
};

void arena_init(struct arena *arena, size_t ceiling_bytes)
{
    *arena = (struct arena){.ceiling_bytes = ceiling_bytes};
}

void arena_clear(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;

        memory_free(arena->blocks);
        arena->blocks = next;
    }
    arena->used_bytes = 0;
}

static struct arena_block *add_block(struct arena *arena, size_t at_least)
{
    size_t bytes = arena->blocks ? arena->blocks->bytes * 2 : FIRST_BLOCK;
    struct arena_block *block;

    if (bytes > MOST_BLOCK)
        bytes = MOST_BLOCK;
    if (bytes < at_least)
        bytes = at_least;
    block = memory_new(sizeof *block + bytes);
    block->bytes = bytes;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    size_t rounded = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct arena_block *block = arena->blocks;
    void *memory;

    if (rounded < bytes || rounded > arena->ceiling_bytes ||
        arena->used_bytes > arena->ceiling_bytes - rounded)
        return NULL;
    if (!block || block->bytes - block->used < rounded)
        block = add_block(arena, rounded);
    memory = block->data + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    return memory;
}

char *arena_text(struct arena *arena, struct slice text)
{
    char *copy = arena_alloc(arena, text.length + 1);

    if (copy && text.length)
        memcpy(copy, text.data, text.length);
    return copy;
}
