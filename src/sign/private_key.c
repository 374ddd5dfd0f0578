/* PEM in, signatures out. An RSA key is the engine's to read; Ed25519 keys are taken out of
 * their PEM here. */
#include "private_key.h"

#include "ed25519.h"
#include "rsa.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DER_MAX = 128 };

struct private_key {
    enum key_kind kind;
    struct rsa *rsa;        /* KEY_RSA */
    struct ed25519 ed25519; /* KEY_ED25519 */
};

static const char pem_begin[] = "-----BEGIN PRIVATE KEY-----";
static const char pem_end[] = "-----END PRIVATE KEY-----";

const char *key_kind_name(enum key_kind kind)
{
    return kind == KEY_RSA ? "rsa" : "ed25519";
}

const char *key_kind_algorithm(enum key_kind kind)
{
    return kind == KEY_RSA ? "rsa-sha256" : "ed25519-sha256";
}

/* ---- reading ---- */

/* The bytes between the two lines of PEM. */
static enum result decode_pem(const char *pem, struct bytes *der)
{
    const char *begin = strstr(pem, pem_begin);
    const char *end = begin ? strstr(begin, pem_end) : NULL;
    char text[2 * DER_MAX];
    size_t length = 0;
    bool is_longer = false; /* a key of another kind */
    enum result result;

    if (!end)
        return RESULT_INVALID;
    for (const char *at = begin + sizeof pem_begin - 1; at < end && !is_longer; at++) {
        is_longer = *at > ' ' && length == sizeof text;
        if (*at > ' ' && !is_longer)
            text[length++] = *at;
    }
    result = is_longer ? RESULT_INVALID
                       : bytes_add_base64_decoded(der, (struct slice){text, length});
    secure_wipe(text, sizeof text);
    return result;
}

static enum result parse_ed25519(const char *pem, struct ed25519 *key)
{
    struct bytes der;
    enum result result;

    bytes_init(&der, DER_MAX);
    result = decode_pem(pem, &der);
    if (result == RESULT_OK)
        result = ed25519_parse(bytes_view(&der), key);
    if (der.data)
        secure_wipe(der.data, der.capacity);
    bytes_fini(&der);
    return result;
}

enum result private_key_parse(const char *pem, const char *name,
                              struct private_key **parsed, struct fault *fault)
{
    struct private_key *key = NEW(struct private_key);
    unsigned bits;

    *parsed = NULL;
    if (parse_ed25519(pem, &key->ed25519) == RESULT_OK) {
        key->kind = KEY_ED25519;
        *parsed = key;
        return RESULT_OK;
    }
    key->kind = KEY_RSA;
    if (rsa_parse(pem, &key->rsa) != RESULT_OK) {
        private_key_free(key);
        return fault_set(fault, RESULT_INVALID,
                         "%s holds no unencrypted private key of RSA or Ed25519 in PEM, as "
                         "smtpd dkim keygen writes it",
                         name);
    }
    bits = rsa_bits(key->rsa);
    if (bits < RSA_LEAST_BITS || bits > RSA_MOST_BITS) { /* RFC 8301 3.2 */
        private_key_free(key);
        return fault_set(fault, RESULT_INVALID,
                         "%s: an RSA key of %u bits; between %d and %d are right", name,
                         bits, RSA_LEAST_BITS, RSA_MOST_BITS);
    }
    *parsed = key;
    return RESULT_OK;
}

void private_key_free(struct private_key *key)
{
    if (!key)
        return;
    rsa_free(key->rsa);
    secure_wipe(&key->ed25519, sizeof key->ed25519);
    memory_free(key);
}

static enum result read_all(int fd, char *into, size_t most, size_t *length)
{
    *length = 0;
    for (;;) {
        ssize_t count = read(fd, into + *length, most - *length);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return RESULT_IO;
        if (count == 0)
            return RESULT_OK;
        *length += (size_t)count;
        if (*length == most)
            return RESULT_TOO_LARGE;
    }
}

enum result private_key_load(const char *path, struct private_key **loaded,
                             bool *is_exposed, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status = {0};
    size_t length = 0;
    enum result result;
    char *pem;

    *loaded = NULL;
    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO,
                         "cannot open the DKIM key %s: %s", path, strerror(errno));
    pem = memory_new(PRIVATE_KEY_FILE_MAX + 1);
    result = read_all(fd, pem, PRIVATE_KEY_FILE_MAX, &length);
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "cannot read the DKIM key %s: %s", path,
                        result == RESULT_IO ? strerror(errno) : result_text(result));
    else
        result = private_key_parse(pem, path, loaded, fault);
    *is_exposed = fstat(fd, &status) == 0 && (status.st_mode & S_IROTH) != 0;
    (void)close(fd);
    secure_wipe(pem, PRIVATE_KEY_FILE_MAX);
    memory_free(pem);
    return result;
}

/* ---- using ---- */

enum key_kind private_key_kind(const struct private_key *key)
{
    return key->kind;
}

unsigned private_key_bits(const struct private_key *key)
{
    return key->kind == KEY_RSA ? rsa_bits(key->rsa) : 8U * ED25519_PUBLIC;
}

enum result private_key_sign(const struct private_key *key,
                             const uint8_t digest[DIGEST_BYTES],
                             uint8_t signature[SIGNATURE_BYTES_MAX], size_t *length)
{
    if (key->kind == KEY_RSA)
        return rsa_sign(key->rsa, digest, signature, length);
    ed25519_sign(&key->ed25519, digest, signature);
    *length = ED25519_SIGNATURE;
    return RESULT_OK;
}

enum result private_key_public(const struct private_key *key, struct bytes *into)
{
    if (key->kind == KEY_RSA)
        return rsa_public(key->rsa, into);
    return bytes_add(into,
                     (struct slice){(const char *)key->ed25519.public_key, ED25519_PUBLIC});
}

/* ---- new keys ---- */

static enum result generate_ed25519(struct bytes *pem)
{
    struct bytes der;
    enum result result;

    bytes_init(&der, DER_MAX);
    result = ed25519_generate(&der);
    if (result == RESULT_OK)
        result = bytes_format(pem, "%s\n", pem_begin);
    if (result == RESULT_OK)
        result = bytes_add_base64(pem, bytes_view(&der)); /* 64 columns: one line */
    if (result == RESULT_OK)
        result = bytes_format(pem, "\n%s\n", pem_end);
    if (der.data)
        secure_wipe(der.data, der.capacity);
    bytes_fini(&der);
    return result;
}

enum result private_key_generate(enum key_kind kind, unsigned bits, struct bytes *pem)
{
    return kind == KEY_RSA ? rsa_generate(bits, pem) : generate_ed25519(pem);
}
