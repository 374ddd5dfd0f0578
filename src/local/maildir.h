/* One message into Maildirs: blocking file work, for the file pool. */
#ifndef SMTPD_LOCAL_MAILDIR_H
#define SMTPD_LOCAL_MAILDIR_H

#include "smtpd/base/bytes.h"

struct maildir_box {
    char *folder;                   /* of the user */
    int fd;                         /* of the file in tmp; -1: none */
    const char *tmp;                /* its name while it is there; NULL */
    bool is_there;                  /* stored before a crash: nothing is written */
    const struct maildir_box *same; /* an earlier one of the message with this folder */
    enum result result;
    char text[200]; /* why not */
};

struct maildir_message {
    char name[128]; /* the same at each try: a repeat is seen */
    struct maildir_box *boxes;
    size_t box_count;
    bool is_fresh; /* the first try: what a mail reader has seen is not searched */
    bool after_cr; /* CR LF becomes LF on the way */
};

/* Folders are made as needed (0700), durably. `head` (LF lines) goes in front of each. Two
 * boxes with one folder get one copy. */
void maildir_open(struct maildir_message *message, struct slice head);
void maildir_write(struct maildir_message *message, struct slice piece);
/* fsync, rename into new, fsync of the folder. */
void maildir_finish(struct maildir_message *message);
void maildir_abandon(struct maildir_message *message); /* tmp files go */

#endif
