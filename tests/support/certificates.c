#include "certificates.h"

#include "smtpd/base/check.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void run(char *const arguments[])
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0;

    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0) ==
          0);
    CHECK(posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    (void)posix_spawn_file_actions_destroy(&actions);
}

static void make(char *certificate, char *key, const char *name)
{
    char subject[128];
    char alternative[160];
    char openssl[] = "openssl", req[] = "req", x509[] = "-x509", nodes[] = "-nodes",
         newkey[] = "-newkey", ec[] = "ec", pkeyopt[] = "-pkeyopt",
         curve[] = "ec_paramgen_curve:P-256", keyout[] = "-keyout", out[] = "-out",
         days[] = "-days", thirty[] = "30", subj[] = "-subj", addext[] = "-addext";
    char *const arguments[] = {openssl, req,         x509,        nodes,  newkey,
                               ec,      pkeyopt,     curve,       keyout, key,
                               out,     certificate, days,        thirty, subj,
                               subject, addext,      alternative, NULL};

    (void)snprintf(subject, sizeof subject, "/CN=%s", name);
    (void)snprintf(alternative, sizeof alternative, "subjectAltName=DNS:%s", name);
    run(arguments);
}

void certificates_make(struct certificates *certificates, const char *name)
{
    (void)snprintf(certificates->folder, sizeof certificates->folder,
                   "/tmp/smtpd-tls-XXXXXX");
    CHECK(mkdtemp(certificates->folder));
    (void)snprintf(certificates->certificate, CERTIFICATE_PATH, "%s/a.crt",
                   certificates->folder);
    (void)snprintf(certificates->key, CERTIFICATE_PATH, "%s/a.key", certificates->folder);
    (void)snprintf(certificates->other_certificate, CERTIFICATE_PATH, "%s/b.crt",
                   certificates->folder);
    (void)snprintf(certificates->other_key, CERTIFICATE_PATH, "%s/b.key",
                   certificates->folder);
    make(certificates->certificate, certificates->key, name);
    make(certificates->other_certificate, certificates->other_key, "other.test");
}

void certificates_remove(const struct certificates *certificates)
{
    (void)unlink(certificates->certificate);
    (void)unlink(certificates->key);
    (void)unlink(certificates->other_certificate);
    (void)unlink(certificates->other_key);
    (void)rmdir(certificates->folder);
}
