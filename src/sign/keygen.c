/* The key is written beside its place, under a name that no reader of the folder takes, and
 * then linked to its own: linking fails where a file is, and a running server that follows
 * the folder never reads half a key. */
#include "smtpd/sign/keygen.h"

#include "private_key.h"
#include "record.h"
#include "smtpd/base/file.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PEM_MAX = 16384 };

struct place {
    char domain[DOMAIN_TEXT];
    char selector[DOMAIN_TEXT];
    char folder[4096];
    char beside[4096];
};

static enum result find_place(const struct keygen_request *request, struct place *place,
                              struct keygen_result *made, struct fault *fault)
{
    int lengths[3];

    if (domain_normalise(slice_of(request->domain), place->domain) != RESULT_OK ||
        place->domain[0] == '[')
        return fault_set(fault, RESULT_INVALID,
                         "\"%s\" is not a domain; write it as \"example.com\"",
                         request->domain);
    if (domain_normalise(slice_of(request->selector), place->selector) != RESULT_OK ||
        place->selector[0] == '[' ||
        !record_name(place->domain, place->selector, made->name))
        return fault_set(fault, RESULT_INVALID,
                         "\"%s\" is no selector; use letters, digits and \"-\"",
                         request->selector);
    lengths[0] = snprintf(place->folder, sizeof place->folder, "%s/%s", request->directory,
                          place->domain);
    lengths[1] = snprintf(made->path, sizeof made->path, "%s/%s/%s.key", request->directory,
                          place->domain, place->selector);
    lengths[2] =
        snprintf(place->beside, sizeof place->beside, "%s/%s/.%s.%d", request->directory,
                 place->domain, place->selector, (int)getpid());
    for (size_t i = 0; i < 3; i++)
        if (lengths[i] < 0 || lengths[i] >= (int)sizeof place->folder)
            return fault_set(fault, RESULT_TOO_LARGE, "the path of the key is too long");
    return RESULT_OK;
}

/* To whom the directory belongs: the server, which dropped its rights, must read the key. */
static bool give(const char *path, const struct stat *directory)
{
    return geteuid() != 0 || chown(path, directory->st_uid, directory->st_gid) == 0;
}

static enum result make_folder(const char *path, const struct stat *directory,
                               struct fault *fault)
{
    if (mkdir(path, 0700) == 0) {
        if (give(path, directory))
            return RESULT_OK;
    } else if (errno == EEXIST) {
        return RESULT_OK;
    }
    return fault_set(fault, RESULT_IO, "cannot make the folder %s: %s", path,
                     strerror(errno));
}

static enum result write_key(const struct place *place, const char *path, struct slice pem,
                             const struct stat *directory, struct fault *fault)
{
    int fd = open(place->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum result result = RESULT_OK;
    bool is_written;

    if (fd < 0)
        return fault_set(fault, RESULT_IO, "cannot write in %s: %s", place->folder,
                         strerror(errno));
    is_written =
        file_write_all(fd, pem) && fsync(fd) == 0 && give(place->beside, directory);
    if (!is_written)
        result = fault_set(fault, RESULT_IO, "cannot write in %s: %s", place->folder,
                           strerror(errno));
    else if (link(place->beside, path) != 0)
        result =
            errno == EEXIST
                ? fault_set(fault, RESULT_EXISTS,
                            "there is a key %s already; take another selector", path)
                : fault_set(fault, RESULT_IO, "cannot write %s: %s", path, strerror(errno));
    (void)close(fd);
    (void)unlink(place->beside);
    return result == RESULT_OK ? file_sync_folder(place->folder, fault) : result;
}

static enum result store(const struct keygen_request *request, const struct place *place,
                         const char *path, struct slice pem, struct fault *fault)
{
    struct stat directory;
    enum result result;

    if (stat(request->directory, &directory) != 0 || !S_ISDIR(directory.st_mode))
        return fault_set(fault, RESULT_NOT_FOUND, "there is no directory %s",
                         request->directory);
    result = make_folder(place->folder, &directory, fault);
    return result == RESULT_OK ? write_key(place, path, pem, &directory, fault) : result;
}

static enum result describe(const char *pem, struct keygen_result *made,
                            struct fault *fault)
{
    struct private_key *key = NULL;
    enum result result = private_key_parse(pem, made->path, &key, fault);
    struct bytes record;
    struct bytes zone;

    if (result != RESULT_OK)
        return result;
    bytes_init(&record, sizeof made->record);
    bytes_init(&zone, sizeof made->zone);
    result = record_write(key, &record);
    if (result == RESULT_OK)
        result = record_write_zone(made->name, bytes_view(&record), &zone);
    if (result == RESULT_OK &&
        (!slice_copy_text(bytes_view(&record), made->record, sizeof made->record) ||
         !slice_copy_text(bytes_view(&zone), made->zone, sizeof made->zone)))
        result = RESULT_TOO_LARGE;
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "the record of the key cannot be written");
    bytes_fini(&zone);
    bytes_fini(&record);
    private_key_free(key);
    return result;
}

static enum result make(const struct keygen_request *request, const struct place *place,
                        struct keygen_result *made, struct fault *fault)
{
    struct bytes pem;
    enum result result;

    bytes_init(&pem, PEM_MAX);
    result = private_key_generate(request->kind, request->bits, &pem);
    if (result == RESULT_OK)
        result = bytes_add(&pem, (struct slice){"", 1}); /* the NUL at its end */
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "the key could not be made");
    else
        result = describe(pem.data, made, fault);
    if (result == RESULT_OK)
        result = store(request, place, made->path,
                       slice_part(bytes_view(&pem), 0, pem.length - 1), fault);
    if (pem.data)
        secure_wipe(pem.data, pem.capacity);
    bytes_fini(&pem);
    return result;
}

enum result keygen_run(const struct keygen_request *request, struct keygen_result *made,
                       struct fault *fault)
{
    struct place place;
    enum result result = find_place(request, &place, made, fault);

    if (result != RESULT_OK)
        return result;
    if (access(made->path, F_OK) == 0) /* said before seconds of work */
        return fault_set(fault, RESULT_EXISTS,
                         "there is a key %s already; take another selector", made->path);
    if (request->kind == KEY_RSA &&
        (request->bits < KEYGEN_LEAST_BITS || request->bits > KEYGEN_MOST_BITS))
        return fault_set(fault, RESULT_INVALID, "an RSA key has between %d and %d bits",
                         KEYGEN_LEAST_BITS, KEYGEN_MOST_BITS);
    return make(request, &place, made, fault);
}
