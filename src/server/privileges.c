/* Rights and limits of the process. */
#include "privileges.h"

#include <errno.h>
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

/* A reload may bind low ports again: that one right is kept, by the loop's thread alone. */
static bool keep_bind_right(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    uint32_t right = UINT32_C(1) << CAP_NET_BIND_SERVICE;

    data[0].effective = data[0].permitted = (__u32)right;
    return syscall(SYS_capset, &header, data) == 0;
}

enum result privileges_drop(const char *data_dir, const char *user_name,
                            struct fault *fault)
{
    const struct passwd *user = NULL;
    enum result result;

    if (geteuid() == 0 && user_name) {
        errno = 0;
        user = getpwnam(user_name);
        if (!user)
            return fault_set(fault, RESULT_NOT_FOUND,
                             "server.user: there is no user \"%s\"", user_name);
    }
    result = make_data_dir(data_dir, user, fault);
    if (result != RESULT_OK || !user)
        return result;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        initgroups(user->pw_name, user->pw_gid) != 0 ||
        setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0 || !keep_bind_right())
        return fault_set(fault, RESULT_DENIED, "cannot become server.user \"%s\": %s",
                         user_name, strerror(errno));
    return RESULT_OK;
}
