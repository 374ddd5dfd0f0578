/* Certificates made by openssl's command line, in a folder that goes with the test. */
#ifndef SMTPD_TESTS_CERTIFICATES_H
#define SMTPD_TESTS_CERTIFICATES_H

enum { CERTIFICATE_PATH = 256 };

struct certificates {
    char folder[128];
    char certificate[CERTIFICATE_PATH]; /* self-signed, also its own authority */
    char key[CERTIFICATE_PATH];
    char other_certificate[CERTIFICATE_PATH]; /* for another name, by another key */
    char other_key[CERTIFICATE_PATH];
};

/* The first is for `name`, the second for "other.test". Aborts the test when openssl fails.
 */
void certificates_make(struct certificates *certificates, const char *name);
void certificates_remove(const struct certificates *certificates);

#endif
