/* The journal of the suppression list on its way to the disk: the input of a job, one at a time.
 *
 * Promises  what is appended is synced before the job ends, the head of a new file before the rest
 *           of it; a failure leaves the file as it was before. A file is written anew beside the old one, over several jobs, and takes its
 *           place by rename; what is appended meanwhile goes into both.
 */
#ifndef SMTPD_POLICY_SUPPRESSION_WRITER_H
#define SMTPD_POLICY_SUPPRESSION_WRITER_H

#include "smtpd/base/bytes.h"
#include "suppression_journal.h"

enum { SUPPRESSION_PATH = 4096, SUPPRESSION_PORTION_MAX = 16 << 20 };

struct suppression_writer {
    char folder[SUPPRESSION_PATH];
    char path[SUPPRESSION_PATH];
    char beside[SUPPRESSION_PATH + 8];
    int fd;          /* -1: not open yet */
    uint64_t length; /* of what is sound in the file */
    int beside_fd;   /* -1: no new file is being written */
    uint64_t beside_length;
    bool folder_is_doubtful; /* the name may lead to the old file after a power failure */

    /* What to do. */
    struct bytes append;  /* pieces, with the head in front of the first ones */
    struct bytes portion; /* of the new file; its first one has the head */
    bool begins_anew;
    bool ends_anew;

    /* What came of it. */
    bool has_run;
    int error;        /* of the appending; 0: it is on the disk */
    int beside_error; /* the new file is given up */
};

void suppression_writer_init(struct suppression_writer *writer, const char *path);
/* Blocking. */
void suppression_writer_run(void *input);
void suppression_writer_fini(struct suppression_writer *writer); /* a new file goes */

#endif
