/* LD_PRELOAD: writes down what reaches the queue's data file and what the process says about it, in
 * one order, for the power cuts of cuts.c. The log (DURABILITY_LOG, opened for appending: the test
 * adds its own marks between ours) is a row of
 *
 *   type u8, 7 bytes of 0, argument u64, length u64, bytes
 *
 *   W  a write at `argument`                  S  fdatasync or fsync has returned
 *   D  a write through O_DSYNC begins         d  it has returned: it is durable, nothing else is
 *   p  a record is put (argument: group number; 8 bytes of id, then the record)
 *   g  a group is deleted (the same, no record)
 *   b  a transaction that writes begins       A  what is about to be said to a client
 *   a  it ends without a commit               c  mdb_txn_commit is called
 *   C  it has returned 0
 *
 * While the file DURABILITY_KILL is there, the next change by the writing thread is kill -9, at a moment
 * when the log and the file agree.
 * DURABILITY_LIE=all: syncs return well and nothing is durable; =meta: only those of O_DSYNC lie. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { FDS = 65536, PIECES = 130, LOG_FD = 700, KEY = 12 };
enum kind { OTHER, DATA, DATA_DSYNC };

struct head {
    char type;
    char nothing[7];
    uint64_t argument;
    uint64_t length;
};

static char kinds[FDS];
static off_t at[FDS];
static int log_fd = -1;
static int has_file; /* what comes before it is the making of one, under another name */
static int lies_all;
static int lies_meta;
static const char *kill_path;
static MDB_txn *writing;
static MDB_dbi group_table;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ssize_t (*real_writev)(int, const struct iovec *, int);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("DURABILITY_LOG");
    const char *lie = getenv("DURABILITY_LIE");
    int fd = path ? (int)openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;

    real_writev = REAL(writev);
    kill_path = getenv("DURABILITY_KILL");
    if (fd < 0)
        return;
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD);
    close(fd);
    lies_all = lie && !strcmp(lie, "all");
    lies_meta = lie && !strcmp(lie, "meta");
}

static enum kind kind_of(int fd)
{
    return fd >= 0 && fd < FDS ? (enum kind)kinds[fd] : OTHER;
}

static void put(char type, uint64_t argument, const struct iovec *pieces, int count)
{
    struct head head = {.type = type, .argument = argument};
    struct iovec all[PIECES] = {{&head, sizeof head}};

    if (log_fd < 0 || !has_file)
        return;
    if (count >= PIECES)
        abort();
    for (int i = 0; i < count; i++) {
        all[i + 1] = pieces[i];
        head.length += pieces[i].iov_len;
    }
    pthread_mutex_lock(&lock);
    if (kill_path && (type == 'W' || type == 'p') && access(kill_path, F_OK) == 0)
        kill(getpid(), SIGKILL);
    if (real_writev(log_fd, all, count + 1) != (ssize_t)(sizeof head + head.length))
        abort(); /* a log with a hole proves nothing */
    pthread_mutex_unlock(&lock);
}

static void put_bytes(char type, uint64_t argument, const void *data, size_t length)
{
    struct iovec piece = {(void *)(uintptr_t)data, length};

    put(type, argument, &piece, 1);
}

/* ---- files ---- */

/* A log begins with what the file holds already: it was synced before it got its name. */
static void put_what_is_there(int fd)
{
    static char page[1 << 16];
    ssize_t length;
    off_t offset = 0;

    has_file = 1;
    if (lseek(log_fd, 0, SEEK_END) != 0)
        return;
    while ((length = pread(fd, page, sizeof page, offset)) > 0) {
        put_bytes('W', (uint64_t)offset, page, (size_t)length);
        offset += length;
    }
    put('S', 0, NULL, 0);
}

static int remember(const char *path, int flags, int fd)
{
    size_t length = strlen(path);

    if (fd >= 0 && fd < FDS) {
        kinds[fd] = OTHER;
        at[fd] = 0;
        if (length > 9 && !strcmp(path + length - 9, "/data.mdb"))
            kinds[fd] = flags & O_DSYNC ? DATA_DSYNC : DATA;
        if (kinds[fd] == DATA && log_fd >= 0)
            put_what_is_there(fd);
    }
    return fd;
}

#define OPEN(name)                                                                         \
    int name(const char *path, int flags, ...)                                             \
    {                                                                                      \
        va_list arguments;                                                                 \
        mode_t mode;                                                                       \
                                                                                           \
        va_start(arguments, flags);                                                        \
        mode = va_arg(arguments, mode_t);                                                  \
        va_end(arguments);                                                                 \
        return remember(path, flags, REAL(name)(path, flags, mode));                       \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    if (fd >= 0 && fd < FDS)
        kinds[fd] = OTHER;
    return REAL(close)(fd);
}

off_t lseek(int fd, off_t offset, int whence)
{
    off_t result = REAL(lseek)(fd, offset, whence);

    if (kind_of(fd) != OTHER && result >= 0)
        at[fd] = result;
    return result;
}

static int synced(int fd, int result)
{
    if (kind_of(fd) != OTHER && result == 0 && !lies_all)
        put('S', 0, NULL, 0);
    return result;
}

int fdatasync(int fd)
{
    return synced(fd, REAL(fdatasync)(fd));
}

int fsync(int fd)
{
    return synced(fd, REAL(fsync)(fd));
}

int ftruncate(int fd, off_t length)
{
    if (kind_of(fd) != OTHER)
        abort(); /* cuts.c does not know it: then it must learn it */
    return REAL(ftruncate)(fd, length);
}

static ssize_t write_at(ssize_t (*real)(int, const void *, size_t, off_t), int fd,
                        const void *data, size_t length, off_t offset)
{
    enum kind kind = kind_of(fd);
    ssize_t result;

    if (kind == OTHER)
        return real(fd, data, length, offset);
    put_bytes(kind == DATA ? 'W' : 'D', (uint64_t)offset, data, length);
    result = real(fd, data, length, offset);
    if (result != (ssize_t)length)
        abort(); /* full disks are tested elsewhere */
    if (kind == DATA_DSYNC && !lies_all && !lies_meta)
        put('d', (uint64_t)offset, NULL, 0);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return write_at(REAL(pwrite), fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    return write_at(REAL(pwrite64), fd, data, length, offset);
}

/* ---- what is said ---- */

static void say(const struct iovec *pieces, int count)
{
    for (int i = 0; i < count && i < PIECES - 1; i++)
        if (memmem(pieces[i].iov_base, pieces[i].iov_len, "queued as ", 10)) {
            put('A', 0, pieces, count < PIECES ? count : PIECES - 1);
            return;
        }
}

static void say_bytes(const void *data, size_t length)
{
    struct iovec piece = {(void *)(uintptr_t)data, length};

    say(&piece, 1);
}

ssize_t write(int fd, const void *data, size_t length)
{
    if (kind_of(fd) != OTHER)
        abort();
    say_bytes(data, length);
    return REAL(write)(fd, data, length);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    ssize_t result;

    if (kind_of(fd) == OTHER) {
        say(pieces, count);
        return REAL(writev)(fd, pieces, count);
    }
    put('W', (uint64_t)at[fd], pieces, count);
    result = REAL(writev)(fd, pieces, count);
    for (int i = 0; i < count; i++) {
        at[fd] += (off_t)pieces[i].iov_len;
        result -= (ssize_t)pieces[i].iov_len;
    }
    if (result != 0)
        abort();
    for (int i = 0; i < count; i++)
        result += (ssize_t)pieces[i].iov_len;
    return result;
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
    say_bytes(data, length);
    return REAL(send)(fd, data, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    say(message->msg_iov, (int)message->msg_iovlen);
    return REAL(sendmsg)(fd, message, flags);
}

/* ---- what a commit is to hold ---- */

static void put_group(char type, const MDB_val *key, const MDB_val *record)
{
    const unsigned char *text = key->mv_data;
    uint64_t id = 0;
    uint64_t number = 0;
    struct iovec pieces[2] = {{&id, sizeof id}, {NULL, 0}};

    if (key->mv_size != KEY)
        return;
    for (int i = 0; i < 8; i++)
        id = id << 8 | text[i];
    for (int i = 8; i < KEY; i++)
        number = number << 8 | text[i];
    if (record)
        pieces[1] = (struct iovec){record->mv_data, record->mv_size};
    put(type, number, pieces, record ? 2 : 1);
}

int mdb_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *table)
{
    int code = REAL(mdb_dbi_open)(txn, name, flags, table);

    if (code == 0 && name && !strcmp(name, "group"))
        group_table = *table;
    return code;
}

int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    int code = REAL(mdb_txn_begin)(env, parent, flags, txn);

    if (code == 0 && !(flags & MDB_RDONLY)) {
        writing = *txn; /* LMDB lets in one writer at a time */
        put('b', 0, NULL, 0);
    }
    return code;
}

void mdb_txn_abort(MDB_txn *txn)
{
    if (txn == writing) {
        writing = NULL;
        put('a', 0, NULL, 0);
    }
    REAL(mdb_txn_abort)(txn);
}

int mdb_txn_commit(MDB_txn *txn)
{
    int is_ours = txn == writing;
    int code;

    if (is_ours) {
        writing = NULL;
        put('c', 0, NULL, 0);
    }
    code = REAL(mdb_txn_commit)(txn);
    if (is_ours)
        put(code ? 'a' : 'C', (uint64_t)code, NULL, 0);
    return code;
}

int mdb_put(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *data, unsigned flags)
{
    if (table == group_table)
        put_group('p', key, data);
    return REAL(mdb_put)(txn, table, key, data, flags);
}

int mdb_cursor_put(MDB_cursor *cursor, MDB_val *key, MDB_val *data, unsigned flags)
{
    if (mdb_cursor_dbi(cursor) == group_table)
        put_group('p', key, data);
    return REAL(mdb_cursor_put)(cursor, key, data, flags);
}

int mdb_del(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *data)
{
    if (table == group_table)
        put_group('g', key, NULL);
    return REAL(mdb_del)(txn, table, key, data);
}

int mdb_cursor_del(MDB_cursor *cursor, unsigned flags)
{
    MDB_val key;
    MDB_val data;

    if (mdb_cursor_dbi(cursor) == group_table &&
        mdb_cursor_get(cursor, &key, &data, MDB_GET_CURRENT) == 0)
        put_group('g', &key, NULL);
    return REAL(mdb_cursor_del)(cursor, flags);
}
