/* A folder of its own for a users file, and its removal. */
#ifndef SMTPD_TESTS_USERS_FOLDER_H
#define SMTPD_TESTS_USERS_FOLDER_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct users_folder {
    char folder[64];
    char path[96];
};

static inline void users_folder_open(struct users_folder *u)
{
    (void)snprintf(u->folder, sizeof u->folder, "/tmp/smtpd-users-XXXXXX");
    assert_non_null(mkdtemp(u->folder));
    (void)snprintf(u->path, sizeof u->path, "%s/users", u->folder);
}

static inline void users_folder_close(struct users_folder *u)
{
    (void)unlink(u->path);
    assert_int_equal(rmdir(u->folder), 0); /* nothing else was left there */
}

static inline void users_folder_write(const struct users_folder *u, const char *text)
{
    FILE *file = fopen(u->path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline void users_folder_read(const struct users_folder *u, char *text, size_t bytes)
{
    FILE *file = fopen(u->path, "r");
    size_t length;

    assert_non_null(file);
    length = fread(text, 1, bytes - 1, file);
    text[length] = '\0';
    assert_int_equal(fclose(file), 0);
}

#endif
