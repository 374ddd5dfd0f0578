/* LMDB's own books: every page of the file belongs to one tree, or is in the list of free pages
 * once. The trees are counted (mdb_stat), the free pages are read one by one. */
#include "verify.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_BITS = 8, FIRST_PAGE = 2 };

struct free_pages {
    struct verify *verify;
    unsigned char *seen; /* a bit for each page */
    uint64_t count;
};

static void look_at(struct free_pages *pages, uint64_t page)
{
    struct verify *verify = pages->verify;
    unsigned char bit = (unsigned char)(1U << page % PAGE_BITS);
    char name[32];

    (void)snprintf(name, sizeof name, "page %llu", (unsigned long long)page);
    if (page < FIRST_PAGE || page > verify->raw.last_page) {
        verify_tell(verify, "page-range", "file", name,
                    "a free page that is not in the file");
        return;
    }
    if (pages->seen[page / PAGE_BITS] & bit)
        verify_tell(verify, "page-twice", "file", name, "the page is free twice");
    else
        pages->count++;
    pages->seen[page / PAGE_BITS] |= bit;
}

/* A record: how many, then their numbers. */
static bool read_record(struct free_pages *pages, const MDB_val *data)
{
    size_t count;
    size_t page;

    if (data->mv_size < sizeof count)
        return false;
    memcpy(&count, data->mv_data, sizeof count);
    if (count > data->mv_size / sizeof page - 1)
        return false;
    for (size_t i = 1; i <= count; i++) {
        memcpy(&page, (const char *)data->mv_data + i * sizeof page, sizeof page);
        look_at(pages, page);
    }
    return true;
}

static void read_list(struct free_pages *pages)
{
    struct verify *verify = pages->verify;
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;
    int code = mdb_cursor_open(verify->raw.txn, 0, &cursor);

    if (code == 0) {
        code = mdb_cursor_get(cursor, &key, &data, MDB_FIRST);
        while (code == 0) {
            if (!read_record(pages, &data))
                verify_tell(verify, "page-list", "file", NULL,
                            "a record of the list of free pages has no proper form");
            code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    if (code != MDB_NOTFOUND)
        verify_tell(verify, "unreadable", "file", NULL, "the list of free pages: %s",
                    mdb_strerror(code));
}

bool verify_pages(struct verify *verify)
{
    const struct raw *raw = &verify->raw;
    struct free_pages pages = {verify, memory_new((size_t)raw->last_page / PAGE_BITS + 1),
                               0};
    uint64_t all = raw->last_page + 1;
    unsigned long long needed = raw->used_pages * raw->page_bytes;

    verify->numbers->pages = all;
    verify->numbers->page_bytes = raw->page_bytes;
    read_list(&pages);
    memory_free(pages.seen);
    verify->numbers->free_pages = pages.count;
    if (raw->used_pages + pages.count != all)
        verify_tell(verify, "page-count", "file", NULL,
                    "%llu pages are in use and %llu are free, of %llu",
                    (unsigned long long)raw->used_pages, (unsigned long long)pages.count,
                    (unsigned long long)all);
    /* Free pages at the end may never have been written. */
    if (raw->file_bytes < needed) {
        verify_tell(verify, "file-short", "file", NULL,
                    "the file has %llu bytes, its pages in use need %llu",
                    (unsigned long long)raw->file_bytes, needed);
        return false;
    }
    return true;
}
