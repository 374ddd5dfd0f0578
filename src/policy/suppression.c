/* The list as it is asked, walked, loaded and left. */
#include "smtpd/policy/suppression.h"

#include "suppression_inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SWEEP_MS = 1000, SWEEP_SHARDS = 16 /* a round takes about a minute */ };

/* ---- names ---- */

static void fold(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

static bool take_local(struct address *address, const char *local, size_t length)
{
    struct slice domain = address_domain(address);
    char text[sizeof address->text];
    struct address plain;

    memcpy(text, local, length);
    text[length] = '@';
    memcpy(text + length + 1, domain.data, domain.length);
    if (address_parse_mailbox((struct slice){text, length + 1 + domain.length}, &plain) !=
            RESULT_OK ||
        plain.local_length != length)
        return false;
    *address = plain;
    return true;
}

/* RFC 5321 4.1.2: quotes and backslashes say nothing where the same can be said without them; where
 * quotes are needed, each character is said in the shortest way. */
static void unquote(struct address *address)
{
    struct slice local = address_local(address);
    char plain[sizeof address->text];
    char quoted[sizeof address->text];
    size_t length = 0;
    size_t quoted_length = 0;

    if (local.length < 2 || local.data[0] != '"')
        return;
    quoted[quoted_length++] = '"';
    for (size_t i = 1; i + 1 < local.length; i++) {
        if (local.data[i] == '\\' && i + 2 < local.length)
            i++;
        if (local.data[i] == '\\' || local.data[i] == '"')
            quoted[quoted_length++] = '\\';
        quoted[quoted_length++] = local.data[i];
        plain[length++] = local.data[i];
    }
    quoted[quoted_length++] = '"';
    if (!take_local(address, plain, length))
        (void)take_local(address, quoted, quoted_length);
}

bool suppression_normalise(const char *given, char normal[SUPPRESSION_ADDRESS])
{
    char name[DOMAIN_TEXT];
    struct address address;
    struct slice text = slice_of(given);
    struct slice local = SLICE_NONE;
    struct slice rest;

    if (given[0] == '@') {
        rest = slice_from(text, 1);
    } else {
        if (address_parse_mailbox(text, &address) != RESULT_OK)
            return false;
        unquote(&address);
        local = address_local(&address);
        rest = address_domain(&address);
    }
    if (domain_normalise(rest, name) != RESULT_OK ||
        (size_t)snprintf(normal, SUPPRESSION_ADDRESS, "%.*s@%s", (int)local.length,
                         local.length ? local.data : "", name) >= SUPPRESSION_ADDRESS)
        return false;
    fold(normal);
    return true;
}

/* ---- asking ---- */

static bool holds(const struct suppression *suppression, const char *tenant,
                  const char *address, struct suppression_entry *entry)
{
    return suppression_table_find(suppression->table, tenant, address, entry) &&
           (entry->expires_ms == 0 || entry->expires_ms > loop_wall_ms(suppression->loop));
}

bool suppression_find(const struct suppression *suppression, const char *tenant,
                      const char *address, struct suppression_entry *entry)
{
    char normal[SUPPRESSION_ADDRESS];
    const char *domain;

    if (suppression_table_count(suppression->table) == 0 ||
        !suppression_normalise(address, normal))
        return false;
    domain = strrchr(normal, '@');
    if (tenant && tenant[0] &&
        (holds(suppression, tenant, normal, entry) ||
         holds(suppression, tenant, domain, entry)))
        return true;
    return holds(suppression, "", normal, entry) || holds(suppression, "", domain, entry);
}

/* The reason is the operator's: clients and senders are not told. */
static void say_why(const struct suppression_entry *entry, char why[SUPPRESSION_TEXT])
{
    char since[MOMENT_TEXT];

    moment_rfc3339(entry->created_ms * 1000, since);
    (void)snprintf(why, SUPPRESSION_TEXT, "%s is on the suppression list since %.10s",
                   entry->address[0] == '@' ? "The domain of this address" : "This address",
                   since);
}

bool suppression_refuses(struct suppression *suppression, const char *tenant,
                         const char *address, char why[SUPPRESSION_TEXT])
{
    struct suppression_entry entry;

    if (suppression->settings.at != SUPPRESSION_AT_RCPT ||
        !suppression_find(suppression, tenant, address, &entry))
        return false;
    say_why(&entry, why);
    suppression->statistics.refused[entry.source]++;
    return true;
}

bool suppression_drops(const struct suppression *suppression,
                       const struct suppression_message *message, const char *address,
                       char why[SUPPRESSION_TEXT])
{
    enum suppression_at at = suppression->settings.at;
    struct suppression_entry entry;

    if ((at != SUPPRESSION_AT_DELIVERY &&
         !(at == SUPPRESSION_AT_RCPT && message->is_named_late)) ||
        !suppression_find(suppression, message->tenant, address, &entry))
        return false;
    say_why(&entry, why);
    return true;
}

bool suppression_wants_report(const struct suppression *suppression)
{
    return suppression->settings.wants_report;
}

/* ---- walking ---- */

struct walk {
    const struct suppression_filter *filter;
    const char *address_domain;
    int64_t now_ms;
    suppression_visit_fn *visit;
    void *owner;
};

static void visit_fitting(void *owner, const struct suppression_entry *entry)
{
    const struct walk *walk = owner;
    const struct suppression_filter *filter = walk->filter;

    if (entry->expires_ms != 0 && entry->expires_ms <= walk->now_ms)
        return;
    if (filter->tenant && strcmp(filter->tenant, entry->tenant) != 0)
        return;
    if (filter->address && strcmp(filter->address, entry->address) != 0 &&
        strcmp(walk->address_domain, entry->address) != 0)
        return;
    if (filter->domain && strcmp(strrchr(entry->address, '@'), filter->domain) != 0)
        return;
    walk->visit(walk->owner, entry);
}

/* NOLINTNEXTLINE(readability-function-size): where, how much, and who is told */
bool suppression_walk(const struct suppression *suppression,
                      const struct suppression_filter *filter, uint32_t *position,
                      size_t most, suppression_visit_fn *visit, void *owner)
{
    struct walk walk = {
        .filter = filter,
        .address_domain = filter->address ? strrchr(filter->address, '@') : NULL,
        .now_ms = loop_wall_ms(suppression->loop),
        .visit = visit,
        .owner = owner,
    };
    size_t looked_at = 0;

    while (*position < SUPPRESSION_SHARDS && looked_at < most)
        looked_at += 1 + /* an empty shard costs something too */
                     suppression_table_visit(suppression->table, (*position)++,
                                             visit_fitting, &walk);
    return *position < SUPPRESSION_SHARDS;
}

/* ---- expiry ---- */

static size_t purge(struct suppression *suppression, size_t shards)
{
    int64_t now_ms = loop_wall_ms(suppression->loop);
    size_t purged = 0;

    while (shards-- > 0) {
        purged +=
            suppression_table_purge(suppression->table, suppression->sweep_at, now_ms);
        suppression->sweep_at = (suppression->sweep_at + 1) % SUPPRESSION_SHARDS;
    }
    return purged;
}

static void on_sweep(void *owner)
{
    struct suppression *suppression = owner;

    timer_start(&suppression->sweep, SWEEP_MS);
    suppression->statistics.expired += purge(suppression, SWEEP_SHARDS);
    suppression_save(suppression); /* the file may be half dead now */
}

/* ---- life ---- */

static void load_record(void *owner, const struct suppression_record *record)
{
    struct suppression *suppression = owner;
    struct suppression_entry entry = record->entry;
    char normal[SUPPRESSION_ADDRESS];

    /* Of a version that took quotes for another address. */
    if (entry.address[0] == '"' && suppression_normalise(entry.address, normal))
        entry.address = normal;
    if (record->is_removal)
        (void)suppression_table_remove(suppression->table, entry.tenant, entry.address);
    else
        (void)suppression_table_set(suppression->table, &entry);
}

static enum result cut(struct suppression *suppression, int fd, size_t bytes, size_t sound,
                       struct fault *fault)
{
    const char *path = suppression->writer.path;

    log_message(LOG_WARNING, "policy.suppression_cut",
                "%s ended in the middle of a change, as after a power failure: its last "
                "%zu bytes are cut off; no command was told that they were done",
                path, bytes - sound);
    if (ftruncate(fd, (off_t)sound) != 0 || fsync(fd) != 0)
        return fault_set(fault, RESULT_IO, "%s cannot be cut: %s", path, strerror(errno));
    return RESULT_OK;
}

static enum result read_text(struct suppression *suppression, int fd, struct slice text,
                             struct fault *fault)
{
    struct suppression_journal journal;
    struct fault wrong;

    if (suppression_journal_read(text, load_record, suppression, &journal, &wrong) !=
        RESULT_OK)
        return fault_set(fault, RESULT_CORRUPT,
                         "the suppression list %s is damaged: %.200s. Put a copy of it "
                         "in its place; or move it away, start, and import the addresses "
                         "again",
                         suppression->writer.path, wrong.text);
    suppression->records = journal.records;
    suppression->writer.length = journal.sound_bytes;
    if (journal.sound_bytes == text.length)
        return RESULT_OK;
    return cut(suppression, fd, text.length, journal.sound_bytes, fault);
}

/* Mapped, not read: beside the table there may be no room for the file. */
static enum result read_file(struct suppression *suppression, int fd, struct fault *fault)
{
    const char *path = suppression->writer.path;
    enum result result;
    struct stat about;
    void *map;

    if (fstat(fd, &about) != 0)
        return fault_set(fault, RESULT_IO, "%s: %s", path, strerror(errno));
    if (about.st_size == 0)
        return RESULT_OK;
    map = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return fault_set(fault, RESULT_IO, "%s cannot be read: %s", path, strerror(errno));
    (void)madvise(map, (size_t)about.st_size, MADV_SEQUENTIAL);
    result = read_text(suppression, fd, (struct slice){map, (size_t)about.st_size}, fault);
    (void)munmap(map, (size_t)about.st_size);
    return result;
}

static enum result load(struct suppression *suppression, struct fault *fault)
{
    const char *path = suppression->writer.path;
    enum result result;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    (void)unlink(suppression->writer.beside); /* of a process that was killed */
    if (fd < 0 && errno == ENOENT)
        return RESULT_OK;
    if (fd < 0)
        return fault_set(fault, RESULT_IO, "%s cannot be opened: %s", path,
                         strerror(errno));
    result = read_file(suppression, fd, fault);
    (void)close(fd);
    (void)purge(suppression, SUPPRESSION_SHARDS);
    return result;
}

static void free_all(struct suppression *suppression)
{
    suppression_writer_fini(&suppression->writer);
    suppression_table_free(suppression->table);
    memory_free(suppression);
}

enum result suppression_open(struct loop *loop, struct offload *offload, const char *path,
                             struct suppression **opened, struct fault *fault)
{
    struct suppression *suppression = NEW(struct suppression);
    enum result result;

    suppression->loop = loop;
    suppression->offload = offload;
    suppression->table = suppression_table_new();
    suppression_save_init(suppression);
    suppression_writer_init(&suppression->writer, path);
    timer_init(&suppression->sweep, loop, on_sweep, suppression);
    result = load(suppression, fault);
    if (result != RESULT_OK) {
        free_all(suppression);
        return result;
    }
    timer_start(&suppression->sweep, SWEEP_MS);
    *opened = suppression;
    return RESULT_OK;
}

void suppression_apply(struct suppression *suppression,
                       const struct suppression_settings *settings)
{
    suppression->settings = *settings;
}

void suppression_stop(struct suppression *suppression)
{
    if (!suppression)
        return;
    suppression->is_stopped = true;
    timer_cancel(&suppression->sweep);
    timer_cancel(&suppression->retry);
    if (suppression->job)
        job_cancel(suppression->job);
    suppression->job = NULL;
}

void suppression_close(struct suppression *suppression)
{
    if (!suppression)
        return;
    suppression_save_rest(suppression);
    free_all(suppression);
}

void suppression_statistics(const struct suppression *suppression,
                            struct suppression_statistics *statistics)
{
    *statistics = suppression->statistics;
    statistics->entries = suppression_table_count(suppression->table);
}
