/* Rights and limits of the process. */
#include "privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As many descriptors as the hard limit allows: sessions are limited by options instead. */
void privileges_raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum result make_data_dir(const char *data_dir, const struct passwd *user,
                                 struct fault *fault)
{
    if (mkdir(data_dir, 0700) != 0 && errno != EEXIST)
        return fault_set(fault, RESULT_IO, "cannot make server.data_dir %s: %s", data_dir,
                         strerror(errno));
    if (user && chown(data_dir, user->pw_uid, user->pw_gid) != 0)
        return fault_set(fault, RESULT_IO, "cannot give server.data_dir %s to %s: %s",
                         data_dir, user->pw_name, strerror(errno));
    return RESULT_OK;
}

/* A reload may bind low ports again: that one right is kept, by the loop's thread and by those
 * that it starts later; the pools, which are there already, have none. */
static bool keep_bind_right(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    uint32_t right = UINT32_C(1) << CAP_NET_BIND_SERVICE;

    data[0].effective = data[0].permitted = (__u32)right;
    return syscall(SYS_capset, &header, data) == 0;
}

/* Root made it a moment ago. Only a plain file of root's own is given away: where the user may
 * write, another one could stand in its place. */
static void give_log(const char *log_file, const struct passwd *user)
{
    int fd = open(log_file, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0)
        return; /* a reload will say that it cannot be opened */
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1 &&
        status.st_uid == 0 && fchown(fd, user->pw_uid, user->pw_gid) != 0)
        errno = 0; /* as above */
    (void)close(fd);
}

/* NULL in *user: we stay who we are. */
static enum result find_user(const char *user_name, const struct passwd **user,
                             struct fault *fault)
{
    *user = NULL;
    if (geteuid() != 0 || !user_name)
        return RESULT_OK;
    *user = getpwnam(user_name);
    if (*user)
        return RESULT_OK;
    return fault_set(fault, RESULT_NOT_FOUND, "server.user: there is no user \"%s\"",
                     user_name);
}

enum result privileges_look_as(const char *user_name, struct fault *fault)
{
    const struct passwd *user;
    enum result result = find_user(user_name, &user, fault);

    if (result == RESULT_OK && user &&
        (initgroups(user->pw_name, user->pw_gid) != 0 || setegid(user->pw_gid) != 0 ||
         seteuid(user->pw_uid) != 0))
        result = fault_set(fault, RESULT_DENIED, "cannot look as server.user \"%s\": %s",
                           user_name, strerror(errno));
    return result;
}

enum result privileges_drop(const char *data_dir, const char *log_file,
                            const char *user_name, struct fault *fault)
{
    const struct passwd *user;
    enum result result = find_user(user_name, &user, fault);

    if (result == RESULT_OK)
        result = make_data_dir(data_dir, user, fault);
    if (result != RESULT_OK || !user)
        return result;
    if (log_file)
        give_log(log_file, user);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        initgroups(user->pw_name, user->pw_gid) != 0 ||
        setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0 || !keep_bind_right())
        return fault_set(fault, RESULT_DENIED, "cannot become server.user \"%s\": %s",
                         user_name, strerror(errno));
    return RESULT_OK;
}
