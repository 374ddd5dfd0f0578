/* A portion of the file of counts on its way to the disk: the input of a job. */
#ifndef SMTPD_POLICY_LIMITS_PORTION_H
#define SMTPD_POLICY_LIMITS_PORTION_H

#include "limits_file.h"

enum {
    PORTION_RECORDS = 200, /* copied in one turn of the loop */
    PORTION_PATH = 4096
};

/* A portion of the file on its way to the disk: owned by its job. */
struct portion {
    int fd; /* -1: not yet open */
    char beside[PORTION_PATH + 8];
    char path[PORTION_PATH];
    struct sealed sealed;
    bool is_first;
    bool is_last;
    bool has_failed;
    int error;
    size_t count;
    struct limits_record records[PORTION_RECORDS];
};

struct portion *portion_new(const char *path);
/* The first one opens a file beside, each writes its records, the last one syncs and renames.
 * Blocking. */
void portion_run(void *input);
void portion_free(void *input);

#endif
