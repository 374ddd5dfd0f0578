/* durability_books dump FOLDER            the books of a queue (books.h)
 * durability_books cuts LOG WORK SEED COUNT KEEP [ONLY]
 *
 * Plays a log of recorder.c and cuts the power COUNT times (0: at each boundary of a sync in every
 * way, and as often between them): all that was synced is in the image, and of the rest nothing,
 * all, a random part of the writes, or a random part of their 512-byte sectors. Each image is
 * opened by the queue's own code in a process of its own; what it says follows a line
 *
 *   cut ENTRY WAY UNSYNCED OF
 *
 * ENTRY counts the entries of the log that came before, UNSYNCED the writes that could be lost, and
 * OF all cuts. A cut depends on SEED, ENTRY and WAY alone: ONLY is "ENTRY:WAY". KEEP of the images stay
 * in WORK/image-ENTRY-WAY for the real server. */
#include "books.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAYS = 6, SECTOR = 512, PATIENCE_S = 60 };

static const char DATA[] = "image/data.mdb";
static const char LOCK[] = "image/lock.mdb";

enum way { WAY_NONE, WAY_ALL, WAY_WRITES, WAY_SECTORS, WAY_SECTORS_AGAIN, WAY_LAST_TORN };

struct entry {
    char type;
    uint64_t argument;
    const unsigned char *data;
    uint64_t length;
};

struct cut {
    size_t entry;
    int way;
    bool is_kept;
};

static struct entry *entries;
static size_t entry_count;
static unsigned char *image; /* what is durable */
static size_t image_bytes;
static size_t *unsynced; /* entries */
static size_t unsynced_count;

static void need(bool is_fine, const char *what)
{
    if (is_fine)
        return;
    perror(what);
    exit(2);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t value = *state += UINT64_C(0x9e3779b97f4a7c15);

    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static void read_log(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const unsigned char *at;
    const unsigned char *end;
    size_t capacity = 0;

    need(fd >= 0 && fstat(fd, &status) == 0, path);
    at = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    need(at != MAP_FAILED, path);
    end = at + status.st_size;
    while (end - at >= 24) {
        struct entry entry = {.type = (char)at[0], .data = at + 24};

        memcpy(&entry.argument, at + 8, 8);
        memcpy(&entry.length, at + 16, 8);
        if (entry.length > (uint64_t)(end - entry.data))
            break; /* the process was killed in the middle */
        if (entry_count == capacity) {
            capacity = capacity ? capacity * 2 : 65536;
            entries = realloc(entries, capacity * sizeof *entries);
            need(entries != NULL, "memory");
        }
        entries[entry_count++] = entry;
        at = entry.data + entry.length;
    }
    unsynced = malloc((entry_count + 1) * sizeof *unsynced);
    need(unsynced != NULL, "memory");
    close(fd);
}

/* ---- where to cut ---- */

static int compare_cuts(const void *one, const void *other)
{
    const struct cut *left = one;
    const struct cut *right = other;

    if (left->entry != right->entry)
        return left->entry < right->entry ? -1 : 1;
    return left->way - right->way;
}

static size_t add_all_ways(struct cut *cuts, size_t count, size_t entry)
{
    for (int way = 0; way < WAYS; way++)
        cuts[count++] = (struct cut){entry, way, false};
    return count;
}

static bool is_write(size_t entry)
{
    return entries[entry].type == 'W' || entries[entry].type == 'D';
}

/* Just before and just behind each sync; as many places anywhere, behind a write. */
static size_t choose(struct cut **chosen, uint64_t seed, size_t wanted, size_t kept)
{
    size_t count = 0;
    size_t writes = 0;
    size_t boundaries = 0;
    size_t first = 0; /* behind what the file held when the log began */
    struct cut *cuts;

    while (first < entry_count && entries[first].type != 'S')
        first++;
    need(++first < entry_count, "a log without a sync");
    for (size_t i = first; i < entry_count; i++) {
        boundaries += entries[i].type == 'S' || entries[i].type == 'd' ? 2 : 0;
        writes += is_write(i);
    }
    cuts = calloc((boundaries * 2 + writes + 2) * WAYS, sizeof *cuts);
    need(cuts != NULL, "memory");
    for (size_t i = first; i < entry_count; i++)
        if (entries[i].type == 'S' || entries[i].type == 'd') {
            count = add_all_ways(cuts, count, i);
            count = add_all_ways(cuts, count, i + 1);
        }
    for (size_t i = 0; i < boundaries || (boundaries == 0 && i < writes); i++)
        count = add_all_ways(cuts, count,
                             first + next_random(&seed) % (entry_count - first + 1));
    for (size_t i = 0; wanted && i < count; i++) {
        size_t other = i + next_random(&seed) % (count - i);
        struct cut cut = cuts[i];

        cuts[i] = cuts[other];
        cuts[other] = cut;
    }
    if (wanted && wanted < count)
        count = wanted;
    for (size_t i = 0; i < kept && count; i++)
        cuts[next_random(&seed) % count].is_kept = true;
    qsort(cuts, count, sizeof *cuts, compare_cuts);
    *chosen = cuts;
    return count;
}

/* ---- the image ---- */

static void make_durable(const struct entry *write)
{
    size_t end = (size_t)(write->argument + write->length);

    if (end > image_bytes) {
        image = realloc(image, end);
        need(image != NULL, "memory");
        memset(image + image_bytes, 0, end - image_bytes);
        image_bytes = end;
    }
    memcpy(image + write->argument, write->data, write->length);
}

static void play(size_t index)
{
    const struct entry *entry = &entries[index];

    if (entry->type == 'W' || entry->type == 'D') {
        unsynced[unsynced_count++] = index;
    } else if (entry->type == 'S') {
        for (size_t i = 0; i < unsynced_count; i++)
            make_durable(&entries[unsynced[i]]);
        unsynced_count = 0;
    } else if (entry->type == 'd' && unsynced_count > 0) {
        size_t last = unsynced_count - 1;

        while (last > 0 && entries[unsynced[last]].type != 'D')
            last--;
        make_durable(&entries[unsynced[last]]);
        memmove(unsynced + last, unsynced + last + 1,
                (--unsynced_count - last) * sizeof *unsynced);
    }
}

static void write_all(int fd, const void *data, size_t length, uint64_t offset)
{
    need(pwrite(fd, data, length, (off_t)offset) == (ssize_t)length, "the image");
}

static void write_torn(int fd, const struct entry *write, uint64_t *random)
{
    uint64_t done = 0;

    while (done < write->length) {
        uint64_t length = SECTOR - (write->argument + done) % SECTOR;

        if (length > write->length - done)
            length = write->length - done;
        if (next_random(random) & 1)
            write_all(fd, write->data + done, length, write->argument + done);
        done += length;
    }
}

static void make_image(const struct cut *cut, uint64_t seed)
{
    uint64_t random = seed ^ (uint64_t)cut->entry << 8 ^ (uint64_t)cut->way;
    int fd;

    need(mkdir("image", 0700) == 0, "image");
    fd = open(DATA, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    need(fd >= 0, DATA);
    if (image_bytes)
        write_all(fd, image, image_bytes, 0);
    for (size_t i = 0; i < unsynced_count; i++) {
        const struct entry *write = &entries[unsynced[i]];
        bool is_last = i + 1 == unsynced_count;

        if (cut->way == WAY_ALL || (cut->way == WAY_WRITES && next_random(&random) & 1) ||
            (cut->way == WAY_LAST_TORN && !is_last))
            write_all(fd, write->data, write->length, write->argument);
        else if (cut->way == WAY_SECTORS || cut->way == WAY_SECTORS_AGAIN ||
                 cut->way == WAY_LAST_TORN)
            write_torn(fd, write, &random);
    }
    close(fd);
    /* The file of the locks is never synced: after a power cut it holds anything. */
    fd = open(LOCK, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    need(fd >= 0, LOCK);
    for (uint64_t left = next_random(&random) % 3 * 1024; left > 0; left -= 8) {
        uint64_t garbage = next_random(&random);

        need(write(fd, &garbage, 8) == 8, LOCK);
    }
    close(fd);
}

static void remove_image(void)
{
    (void)unlink(DATA);
    (void)unlink(LOCK);
    (void)rmdir("image");
}

static void copy(const char *from, const char *to)
{
    pid_t child = fork();

    if (child == 0) {
        execlp("cp", "cp", "-r", from, to, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(child, NULL, 0);
}

static void judge(const struct cut *cut, uint64_t seed, size_t count)
{
    char kept[64];
    int status;
    pid_t child;

    make_image(cut, seed);
    (void)snprintf(kept, sizeof kept, "image-%zu-%d", cut->entry, cut->way);
    if (cut->is_kept)
        copy("image", kept);
    (void)printf("cut %zu %d %zu %zu\n", cut->entry, cut->way, unsynced_count, count);
    (void)fflush(stdout);
    child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        alarm(PATIENCE_S);
        books_write("image", stdout);
        _exit(0);
    }
    need(waitpid(child, &status, 0) == child, "wait");
    if (status != 0)
        (void)printf("\nwrong - the reader ended with %s %d\nend\n",
                     WIFSIGNALED(status) ? "signal" : "status",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (cut->is_kept)
        (void)printf("kept %s\n", kept);
    (void)fflush(stdout);
    remove_image();
}

static int cut_power(char **words, const char *only)
{
    uint64_t seed = strtoull(words[2], NULL, 10);
    struct cut *cuts;
    size_t count;
    size_t played = 0;

    read_log(words[0]);
    need(chdir(words[1]) == 0, words[1]);
    count = choose(&cuts, seed, strtoull(words[3], NULL, 10), strtoull(words[4], NULL, 10));
    if (only) {
        count = 1;
        cuts[0] = (struct cut){strtoull(only, NULL, 10), atoi(strchr(only, ':') + 1), true};
    }
    for (size_t i = 0; i < count; i++) {
        while (played < cuts[i].entry && played < entry_count)
            play(played++);
        judge(&cuts[i], seed, count);
    }
    (void)printf("done %zu\n", count);
    free(cuts);
    free(entries);
    free(unsynced);
    free(image);
    return 0;
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "dump")) {
        books_write(words[2], stdout);
        return 0;
    }
    if ((count == 7 || (count == 8 && strchr(words[7], ':'))) && !strcmp(words[1], "cuts"))
        return cut_power(words + 2, words[7]);
    (void)fprintf(stderr, "see the head of cuts.c\n");
    return 2;
}
