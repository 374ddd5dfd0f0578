/* A folder of keys for a test. */
#ifndef SMTPD_TESTS_KEY_FOLDER_H
#define SMTPD_TESTS_KEY_FOLDER_H

#include "key_samples.h"
#include "test.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct key_folder {
    char path[64];
    char file[256]; /* of the last key written */
};

static UNUSED void key_folder_open(struct key_folder *folder)
{
    (void)snprintf(folder->path, sizeof folder->path, "/tmp/smtpd-keys-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

/* DOMAIN/NAME; a file that was there is replaced by another one. */
static UNUSED void key_folder_put(struct key_folder *folder, const char *domain,
                                  const char *name, const char *text)
{
    char beside[300];
    int fd;

    (void)snprintf(folder->file, sizeof folder->file, "%s/%s", folder->path, domain);
    assert_true(mkdir(folder->file, 0700) == 0 || access(folder->file, F_OK) == 0);
    (void)snprintf(folder->file, sizeof folder->file, "%s/%s/%s", folder->path, domain,
                   name);
    (void)snprintf(beside, sizeof beside, "%s/.beside", folder->path);
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(fd), 0);
    assert_int_equal(rename(beside, folder->file), 0);
}

static UNUSED void key_folder_remove(struct key_folder *folder, const char *domain,
                                     const char *name)
{
    (void)snprintf(folder->file, sizeof folder->file, "%s/%s/%s", folder->path, domain,
                   name);
    assert_int_equal(unlink(folder->file), 0);
}

static UNUSED int key_folder_forget(const char *path, const struct stat *status, int flag,
                                    struct FTW *walk)
{
    (void)status;
    (void)flag;
    (void)walk;
    return remove(path);
}

static UNUSED void key_folder_close(struct key_folder *folder)
{
    (void)nftw(folder->path, key_folder_forget, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
