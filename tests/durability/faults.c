/* LD_PRELOAD: every call that the queue makes of the system for its own files, and every call of LMDB,
 * is counted by its place in the program, and can fail. DURABILITY_STATE names a file, mapped by the
 * test too, of the form below: the sites that were seen, and the plan. DURABILITY_FOLDER is the data
 * folder; calls for other files pass. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { FDS = 65536, SITES = 1000, KNOWN = 4096 };
enum mode { MODE_NONE, MODE_ERROR, MODE_SHORT, MODE_AFTER, MODE_DELAY, MODE_LIE };

struct site {
    char name[24];
    char module[16];
    uint64_t offset; /* of the place behind the call */
    uint64_t count;
};

static struct state {
    uint32_t site; /* its number, from 1; 0: no plan */
    uint32_t countdown;
    uint32_t mode;
    int32_t error;
    uint32_t times;
    uint32_t fired;
    uint32_t site_count;
    uint32_t delay_ms;
    struct site sites[SITES];
} * state;

static char is_ours[FDS];
static char folder[4096];
static size_t folder_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const void *address;
    const char *name;
    uint32_t site;
} known[KNOWN];

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("DURABILITY_STATE");
    const char *above = getenv("DURABILITY_FOLDER");
    int fd = path ? (int)openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    void *map;

    if (fd < 0 || !above || strlen(above) >= sizeof folder)
        return;
    strcpy(folder, above);
    map = REAL(mmap)(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REAL(close)(fd);
    if (map == MAP_FAILED)
        _exit(99);
    folder_length = strlen(folder);
    state = map;
}

/* ---- sites ---- */

static uint32_t find_site(const char *name, const void *address)
{
    Dl_info info;
    const char *module;
    struct site wanted = {.offset = 0};

    if (!dladdr(address, &info))
        return 0;
    module = strrchr(info.dli_fname, '/');
    module = module ? module + 1 : info.dli_fname;
    if (!strncmp(module, "liblmdb", 7)) {
        if (!strncmp(name, "mdb_", 4))
            return 0; /* the library among itself */
        module = "liblmdb";
    }
    strncpy(wanted.name, name, sizeof wanted.name - 1);
    strncpy(wanted.module, module, sizeof wanted.module - 1);
    wanted.offset = (uint64_t)((const char *)address - (const char *)info.dli_fbase);
    for (uint32_t i = 0; i < state->site_count; i++)
        if (!strcmp(state->sites[i].name, wanted.name) &&
            !strcmp(state->sites[i].module, wanted.module) &&
            state->sites[i].offset == wanted.offset)
            return i + 1;
    if (state->site_count == SITES)
        abort();
    state->sites[state->site_count++] = wanted;
    return state->site_count;
}

static uint32_t site_of(const char *name, const void *address)
{
    size_t at = ((uintptr_t)address * 31 + (uintptr_t)name) % KNOWN;

    pthread_mutex_lock(&lock);
    while (known[at].address && (known[at].address != address || known[at].name != name))
        at = (at + 1) % KNOWN;
    if (!known[at].address) {
        known[at].site = find_site(name, address);
        known[at].name = name;
        known[at].address = address;
    }
    pthread_mutex_unlock(&lock);
    return known[at].site;
}

/* What is to happen to this call; a delay has happened. */
static enum mode look(const char *name, const void *address, int *error)
{
    uint32_t site = state ? site_of(name, address) : 0;
    struct timespec pause;
    enum mode mode;

    if (!site)
        return MODE_NONE;
    __atomic_add_fetch(&state->sites[site - 1].count, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&state->site, __ATOMIC_SEQ_CST) != site)
        return MODE_NONE;
    if (state->countdown > 1) {
        state->countdown--;
        return MODE_NONE;
    }
    if (state->times == 0)
        return MODE_NONE;
    state->times--;
    mode = (enum mode)state->mode;
    *error = state->error;
    pause = (struct timespec){state->delay_ms / 1000, state->delay_ms % 1000 * 1000000L};
    __atomic_add_fetch(&state->fired, 1, __ATOMIC_SEQ_CST);
    if (mode == MODE_DELAY) {
        nanosleep(&pause, NULL);
        return MODE_NONE;
    }
    return mode;
}

/* Head of each call: fails it, or leaves `mode` for after. */
#define LOOK(name, is_queue, failure)                                                      \
    int error = 0;                                                                         \
    enum mode mode =                                                                       \
        (is_queue) ? look(#name, __builtin_return_address(0), &error) : MODE_NONE;         \
                                                                                           \
    if (mode == MODE_ERROR) {                                                              \
        errno = error;                                                                     \
        return failure;                                                                    \
    }
#define AFTER(failure)                                                                     \
    if (mode == MODE_AFTER) {                                                              \
        errno = error;                                                                     \
        return failure;                                                                    \
    }

/* ---- files of the queue ---- */

static int is_queue_path(const char *path)
{
    static const char *const names[] = {"", "/data.mdb", "/data.mdb.new", "/lock.mdb",
                                        "/lock"};

    if (!state || strncmp(path, folder, folder_length) != 0)
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(path + folder_length, names[i]))
            return 1;
    return 0;
}

static int is_queue(int fd)
{
    return fd >= 0 && fd < FDS && is_ours[fd];
}

#define OPEN(name)                                                                         \
    int name(const char *path, int flags, ...)                                             \
    {                                                                                      \
        va_list arguments;                                                                 \
        mode_t permissions;                                                                \
        int fd;                                                                            \
        LOOK(name, is_queue_path(path), -1)                                                \
                                                                                           \
        va_start(arguments, flags);                                                        \
        permissions = va_arg(arguments, mode_t);                                           \
        va_end(arguments);                                                                 \
        fd = REAL(name)(path, flags, permissions);                                         \
        if (fd >= 0 && fd < FDS)                                                           \
            is_ours[fd] = (char)is_queue_path(path);                                       \
        return fd;                                                                         \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    int result;
    LOOK(close, is_queue(fd), (is_ours[fd] = 0, REAL(close)(fd), -1))

    if (fd >= 0 && fd < FDS)
        is_ours[fd] = 0;
    result = REAL(close)(fd);
    AFTER(-1)
    return result;
}

#define LENGTH(length) (mode == MODE_SHORT ? (length) / 2 : (length))

ssize_t write(int fd, const void *data, size_t length)
{
    ssize_t result;
    LOOK(write, is_queue(fd), -1)

    result = REAL(write)(fd, data, LENGTH(length));
    AFTER(-1)
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    ssize_t result;
    LOOK(pwrite, is_queue(fd), -1)

    result = REAL(pwrite)(fd, data, LENGTH(length), at);
    AFTER(-1)
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at)
{
    ssize_t result;
    LOOK(pwrite64, is_queue(fd), -1)

    result = REAL(pwrite64)(fd, data, LENGTH(length), at);
    AFTER(-1)
    return result;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    ssize_t result;
    LOOK(writev, is_queue(fd), -1)

    result = REAL(writev)(fd, pieces, mode == MODE_SHORT ? (count + 1) / 2 : count);
    AFTER(-1)
    return result;
}

ssize_t pread(int fd, void *data, size_t length, off_t at)
{
    LOOK(pread, is_queue(fd), -1)
    return REAL(pread)(fd, data, LENGTH(length), at);
}

ssize_t pread64(int fd, void *data, size_t length, off_t at)
{
    LOOK(pread64, is_queue(fd), -1)
    return REAL(pread64)(fd, data, LENGTH(length), at);
}

/* The calls that answer 0 or -1, for a descriptor and for a path. */
#define CALL(name, is_queue, parameters, arguments)                                        \
    int name parameters                                                                    \
    {                                                                                      \
        int result;                                                                        \
        LOOK(name, is_queue, -1)                                                           \
                                                                                           \
        result = REAL(name) arguments;                                                     \
        AFTER(-1)                                                                          \
        return result;                                                                     \
    }
CALL(fdatasync, is_queue(fd), (int fd), (fd))
CALL(fsync, is_queue(fd), (int fd), (fd))
CALL(ftruncate, is_queue(fd), (int fd, off_t length), (fd, length))
CALL(ftruncate64, is_queue(fd), (int fd, off_t length), (fd, length))
CALL(fallocate, is_queue(fd), (int fd, int how, off_t at, off_t length),
     (fd, how, at, length))
CALL(fallocate64, is_queue(fd), (int fd, int how, off_t at, off_t length),
     (fd, how, at, length))
CALL(fstat, is_queue(fd), (int fd, struct stat *status), (fd, status))
CALL(fstat64, is_queue(fd), (int fd, struct stat64 *status), (fd, status))
CALL(__fxstat, is_queue(fd), (int version, int fd, struct stat *status),
     (version, fd, status))
CALL(__fxstat64, is_queue(fd), (int version, int fd, struct stat64 *status),
     (version, fd, status))
CALL(fstatfs, is_queue(fd), (int fd, struct statfs *status), (fd, status))
CALL(fstatfs64, is_queue(fd), (int fd, struct statfs64 *status), (fd, status))
CALL(fchmod, is_queue(fd), (int fd, mode_t permissions), (fd, permissions))
CALL(fchown, is_queue(fd), (int fd, uid_t owner, gid_t group), (fd, owner, group))
CALL(flock, is_queue(fd), (int fd, int how), (fd, how))
CALL(statfs, is_queue_path(path), (const char *path, struct statfs *status), (path, status))
CALL(statfs64, is_queue_path(path), (const char *path, struct statfs64 *status),
     (path, status))
CALL(statvfs, is_queue_path(path), (const char *path, struct statvfs *status),
     (path, status))
CALL(statvfs64, is_queue_path(path), (const char *path, struct statvfs64 *status),
     (path, status))
CALL(stat, is_queue_path(path), (const char *path, struct stat *status), (path, status))
CALL(stat64, is_queue_path(path), (const char *path, struct stat64 *status), (path, status))
CALL(lstat, is_queue_path(path), (const char *path, struct stat *status), (path, status))
CALL(lstat64, is_queue_path(path), (const char *path, struct stat64 *status),
     (path, status))
CALL(mkdir, is_queue_path(path), (const char *path, mode_t permissions),
     (path, permissions))
CALL(unlink, is_queue_path(path), (const char *path), (path))
CALL(rename, is_queue_path(to), (const char *from, const char *to), (from, to))

int fcntl(int fd, int what, ...)
{
    va_list arguments;
    void *argument;
    LOOK(fcntl, is_queue(fd), -1)

    va_start(arguments, what);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return REAL(fcntl)(fd, what, argument);
}

int fcntl64(int fd, int what, ...)
{
    va_list arguments;
    void *argument;
    LOOK(fcntl64, is_queue(fd), -1)

    va_start(arguments, what);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return REAL(fcntl64)(fd, what, argument);
}

off_t lseek(int fd, off_t at, int whence)
{
    LOOK(lseek, is_queue(fd), -1)
    return REAL(lseek)(fd, at, whence);
}

off64_t lseek64(int fd, off64_t at, int whence)
{
    LOOK(lseek64, is_queue(fd), -1)
    return REAL(lseek64)(fd, at, whence);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    LOOK(mmap, is_queue(fd), MAP_FAILED)
    return REAL(mmap)(at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset)
{
    LOOK(mmap64, is_queue(fd), MAP_FAILED)
    return REAL(mmap64)(at, length, protection, flags, fd, offset);
}

/* ---- LMDB: its codes are its answers ---- */

#define MDB(name, parameters, arguments)                                                   \
    int name parameters                                                                    \
    {                                                                                      \
        int result;                                                                        \
        LOOK(name, 1, error)                                                               \
                                                                                           \
        result = REAL(name) arguments;                                                     \
        AFTER(error)                                                                       \
        return result;                                                                     \
    }
#define MDB_VOID(name, parameters, arguments)                                              \
    void name parameters                                                                   \
    {                                                                                      \
        LOOK(name, 1, )                                                                    \
        REAL(name) arguments;                                                              \
    }
MDB(mdb_env_create, (MDB_env * *env), (env))
MDB(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t how),
    (env, path, flags, how))
MDB(mdb_env_set_maxdbs, (MDB_env * env, MDB_dbi count), (env, count))
MDB(mdb_env_set_mapsize, (MDB_env * env, size_t size), (env, size))
MDB(mdb_env_stat, (MDB_env * env, MDB_stat *stat), (env, stat))
MDB(mdb_env_info, (MDB_env * env, MDB_envinfo *info), (env, info))
MDB(mdb_env_get_fd, (MDB_env * env, mdb_filehandle_t *fd), (env, fd))
MDB(mdb_env_sync, (MDB_env * env, int force), (env, force))
MDB(mdb_env_copyfd2, (MDB_env * env, mdb_filehandle_t fd, unsigned flags), (env, fd, flags))
MDB(mdb_env_set_maxreaders, (MDB_env * env, unsigned places), (env, places))
MDB(mdb_env_get_maxreaders, (MDB_env * env, unsigned *places), (env, places))
MDB(mdb_reader_list, (MDB_env * env, MDB_msg_func *say, void *owner), (env, say, owner))
MDB(mdb_reader_check, (MDB_env * env, int *dead), (env, dead))
MDB(mdb_dbi_open, (MDB_txn * txn, const char *name, unsigned flags, MDB_dbi *table),
    (txn, name, flags, table))
MDB(mdb_txn_renew, (MDB_txn * txn), (txn))
MDB(mdb_stat, (MDB_txn * txn, MDB_dbi table, MDB_stat *stat), (txn, table, stat))
MDB(mdb_get, (MDB_txn * txn, MDB_dbi table, MDB_val *key, MDB_val *data),
    (txn, table, key, data))
MDB(mdb_put, (MDB_txn * txn, MDB_dbi table, MDB_val *key, MDB_val *data, unsigned flags),
    (txn, table, key, data, flags))
MDB(mdb_del, (MDB_txn * txn, MDB_dbi table, MDB_val *key, MDB_val *data),
    (txn, table, key, data))
MDB(mdb_cursor_open, (MDB_txn * txn, MDB_dbi table, MDB_cursor **cursor),
    (txn, table, cursor))
MDB(mdb_cursor_renew, (MDB_txn * txn, MDB_cursor *cursor), (txn, cursor))
MDB(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op),
    (cursor, key, data, op))
MDB(mdb_cursor_put, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, unsigned flags),
    (cursor, key, data, flags))
MDB(mdb_cursor_del, (MDB_cursor * cursor, unsigned flags), (cursor, flags))
MDB(mdb_cursor_count, (MDB_cursor * cursor, size_t *count), (cursor, count))
MDB_VOID(mdb_env_close, (MDB_env * env), (env))
MDB_VOID(mdb_dbi_close, (MDB_env * env, MDB_dbi table), (env, table))
MDB_VOID(mdb_txn_abort, (MDB_txn * txn), (txn))
MDB_VOID(mdb_txn_reset, (MDB_txn * txn), (txn))
MDB_VOID(mdb_cursor_close, (MDB_cursor * cursor), (cursor))

/* One that should write must not have begun when it answers with an error. */
int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    LOOK(mdb_txn_begin, 1, error)
    return REAL(mdb_txn_begin)(env, parent, flags, txn);
}

int mdb_txn_commit(MDB_txn *txn)
{
    int result;
    LOOK(mdb_txn_commit, 1, (REAL(mdb_txn_abort)(txn), error))

    if (mode == MODE_LIE) { /* what the test must find out */
        REAL(mdb_txn_abort)(txn);
        return 0;
    }
    result = REAL(mdb_txn_commit)(txn);
    AFTER(error)
    return result;
}
