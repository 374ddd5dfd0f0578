/* A healthy file has no finding; one broken record has exactly that one, with its name and rule.
 * The file is made and broken straight with LMDB. */
#include "smtpd/queue/repair.h"

#include "broken_file.h"
#include "lock.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { FOUND_MOST = 16, FOUND_TEXT = 128 };

struct world {
    struct file file;
    struct verify_numbers numbers;
    char found[FOUND_MOST][FOUND_TEXT]; /* "RULE TABLE RECORD" */
    size_t count;
    unsigned progress;
};

static int set_up(void **state)
{
    struct world *world = NEW(struct world);

    file_make(&world->file);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    file_remove(&world->file);
    memory_free(world);
    return 0;
}

static void on_finding(void *owner, const struct verify_finding *finding)
{
    struct world *world = owner;

    assert_true(finding->text[0]);
    if (world->count < FOUND_MOST)
        (void)snprintf(world->found[world->count], FOUND_TEXT, "%s %s %s", finding->rule,
                       finding->table, finding->record);
    world->count++;
}

static void on_progress(void *owner)
{
    struct world *world = owner;

    world->progress++;
}

static enum result verify(struct world *world)
{
    struct verify_wanted wanted = {.folder = world->file.folder,
                                   .now_ms = FILE_NOW_MS,
                                   .on_finding = on_finding,
                                   .on_progress = on_progress,
                                   .owner = world,
                                   .numbers = &world->numbers};

    world->count = 0;
    return queue_verify(&wanted, &world->file.fault);
}

/* NULL: nothing is found. */
static void finds(struct world *world, const char *finding)
{
    assert_int_equal(verify(world), RESULT_OK);
    if (finding && world->count == 1 && strcmp(world->found[0], finding) == 0 &&
        world->numbers.findings == 1)
        return;
    for (size_t i = 0; i < world->count && i < FOUND_MOST; i++)
        print_error("found: %s\n", world->found[i]);
    if (finding || world->count > 0)
        fail_msg("%zu findings; wanted: %s", world->count, finding ? finding : "none");
}

/* ---- healthy ---- */

static void a_healthy_file_has_no_finding_and_is_counted(void **state)
{
    struct world *world = *state;

    finds(world, NULL);
    assert_int_equal(world->numbers.format, STORE_FORMAT);
    assert_int_equal(world->numbers.messages, 2);
    assert_int_equal(world->numbers.all, 2);
    assert_int_equal(world->numbers.groups, 3);
    assert_int_equal(world->numbers.recipients, 3);
    assert_int_equal(world->numbers.drafts, 1);
    assert_int_equal(world->numbers.chunks, 3 + 1 + 3 + 2);
    assert_int_equal(world->numbers.body_bytes, 2 * FILE_TEXT + 2 * FILE_CHUNK);
    assert_true(world->numbers.pages > 5);
}

static void nothing_in_the_folder_is_changed_or_made(void **state)
{
    struct world *world = *state;
    char path[FILE_PATH + 32];
    struct stat before;
    struct stat after;

    (void)snprintf(path, sizeof path, "%s/lock.mdb", world->file.folder);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/data.mdb", world->file.folder);
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(stat(path, &before), 0);
    finds(world, NULL);
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    (void)snprintf(path, sizeof path, "%s/lock", world->file.folder);
    assert_int_equal(access(path, F_OK), -1);
    (void)snprintf(path, sizeof path, "%s/lock.mdb", world->file.folder);
    assert_int_equal(access(path, F_OK), -1);
}

static void free_pages_are_counted_with_those_in_use(void **state)
{
    struct world *world = *state;

    for (uint64_t id = 10; id < 30; id++) {
        file_begin(&world->file);
        file_put_plain(&world->file, id);
        file_end(&world->file);
    }
    file_begin(&world->file);
    for (uint64_t id = 10; id < 30; id += 2) {
        for (uint32_t i = 0; i < 3; i++)
            file_delete_chunk(&world->file, id, i);
        for (uint32_t i = 0; i < 2; i++) {
            struct store_group_key key = store_key(id, i);

            file_delete(&world->file, "group",
                        (struct slice){(char *)key.text, sizeof key.text});
        }
        file_delete(&world->file, "envelope", file_id(&id));
    }
    file_end(&world->file);
    finds(world, NULL);
    assert_int_equal(world->numbers.messages, 2 + 10);
    assert_true(world->numbers.free_pages > 20);
}

static void progress_is_told_on_long_walks(void **state)
{
    struct world *world = *state;

    finds(world, NULL);
    assert_int_equal(world->progress, 0);
    file_begin(&world->file);
    file_put_number(&world->file, "id_limit", 5000);
    for (uint64_t id = 1000; id < 3100; id++)
        file_put_draft(&world->file, id);
    file_end(&world->file);
    finds(world, NULL);
    assert_int_equal(world->progress, 2);
}

/* ---- what cannot be looked at ---- */

static void a_held_folder_is_left_alone_and_its_holder_is_named(void **state)
{
    struct world *world = *state;
    char pid[32];
    int lock;

    assert_int_equal(lock_take(world->file.folder, true, &lock, &world->file.fault),
                     RESULT_OK);
    assert_int_equal(verify(world), RESULT_BUSY);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(world->file.fault.text, pid));
    lock_give_up(lock);
    finds(world, NULL);
}

static void a_newer_format_is_refused_with_both_numbers(void **state)
{
    struct world *world = *state;

    file_begin(&world->file);
    file_put_number(&world->file, "version", 9);
    file_end(&world->file);
    assert_int_equal(verify(world), RESULT_INVALID);
    assert_non_null(strstr(world->file.fault.text, "format 9, this program knows 3"));
}

static void an_older_format_has_no_table_of_imports(void **state)
{
    struct world *world = *state;

    file_begin(&world->file);
    file_put_number(&world->file, "version", 1);
    assert_int_equal(mdb_drop(world->file.txn, file_table(&world->file, "import"), 1), 0);
    file_delete(&world->file, "meta", SLICE("queue_id"));
    file_end(&world->file);
    finds(world, NULL);
    assert_int_equal(world->numbers.format, 1);
}

static void a_folder_without_a_queue_is_named(void **state)
{
    struct world *world = *state;
    char path[FILE_PATH + 32];

    (void)snprintf(path, sizeof path, "%s/data.mdb", world->file.folder);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_not_equal(verify(world), RESULT_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify(world), RESULT_NOT_FOUND);
    assert_non_null(strstr(world->file.fault.text, world->file.folder));
}

/* ---- one record is broken ---- */

#define A "aaaaaaaaaaaab" /* the id 1 */
#define B "aaaaaaaaaaaac"
#define C "aaaaaaaaaaaad"

typedef void break_fn(struct file *file);

static void put_changed(struct file *file, void (*change)(struct envelope *))
{
    struct envelope envelope = file_envelope(FILE_PLAIN);

    envelope.header_bytes = strlen(FILE_HEADER);
    envelope.body_bytes = FILE_TEXT - envelope.header_bytes;
    change(&envelope);
    file_put_envelope(file, &envelope);
}

static void put_changed_group(struct file *file, void (*change)(struct group *))
{
    struct recipient recipient;
    struct group group = file_group(1, &recipient);

    change(&group);
    file_put_group(file, FILE_PLAIN, &group);
}

/* The byte at `at` of the message FILE_PLAIN. */
static void put_byte(struct file *file, size_t at, char byte)
{
    struct bytes text = file_text(FILE_TEXT);

    text.data[at] = byte;
    file_put_body(file, FILE_PLAIN, 0, bytes_view(&text));
    bytes_fini(&text);
}

static void cut_envelope(struct file *file)
{
    uint64_t id = FILE_PLAIN;

    file_put(file, "envelope", file_id(&id), SLICE("\2e?"));
}

static void cut_group(struct file *file)
{
    struct store_group_key key = store_key(FILE_PLAIN, 1);

    file_put(file, "group", (struct slice){(char *)key.text, sizeof key.text},
             SLICE("\1g?"));
}

static void drop_envelope(struct file *file)
{
    uint64_t id = FILE_STREAMED;

    file_delete(file, "envelope", file_id(&id));
}

static void drop_groups(struct file *file)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct store_group_key key = store_key(FILE_PLAIN, i);

        file_delete(file, "group", (struct slice){(char *)key.text, sizeof key.text});
    }
}

static void drop_mark(struct file *file)
{
    uint64_t id = FILE_DRAFT;

    file_delete(file, "draft", file_id(&id));
}

static void mark_accepted(struct file *file)
{
    uint64_t id = FILE_PLAIN;

    file_put(file, "draft", file_id(&id), SLICE("\1"));
}

static void no_groups(struct file *file)
{
    struct envelope envelope = file_envelope(FILE_PLAIN);
    struct bytes record;

    envelope.header_bytes = strlen(FILE_HEADER);
    envelope.body_bytes = FILE_TEXT - envelope.header_bytes;
    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_envelope(&envelope, 0, &record), RESULT_OK);
    file_put(file, "envelope", file_id(&envelope.id), bytes_view(&record));
    bytes_fini(&record);
}

static void large_group(struct file *file)
{
    static char address[40][64];
    struct recipient recipients[40];
    struct recipient first;
    struct group group = file_group(1, &first);

    for (size_t i = 0; i < 40; i++) {
        (void)snprintf(address[i], sizeof address[i], "%050zu@d.test", i);
        recipients[i] = (struct recipient){.address = address[i]};
    }
    group.recipients = recipients;
    group.recipient_count = 40;
    file_put_group(file, FILE_PLAIN, &group);
}

static void large_number(struct file *file)
{
    struct recipient recipient;
    struct group group = file_group(UINT32_C(1) << 30, &recipient);

    file_put_group(file, FILE_PLAIN, &group);
}

static void other_lane(struct group *group)
{
    group->lane = "e.test";
}

static void no_lane(struct group *group)
{
    group->lane = "route:";
}

static void late_attempt(struct group *group)
{
    group->next_attempt_ms = FILE_NOW_MS + INT64_C(3) * 366 * 86400000;
}

static void late_hold(struct group *group)
{
    group->is_held = true;
    group->not_before_ms = 5;
}

static void early_arrival(struct envelope *envelope)
{
    envelope->arrival_ms = 12345;
}

static void shorter(struct envelope *envelope)
{
    envelope->body_bytes--;
}

static void later_body(struct envelope *envelope)
{
    envelope->header_bytes++;
    envelope->body_bytes--;
}

static void short_lines(struct envelope *envelope)
{
    envelope->longest_line = 79;
}

static void odd_origin(struct envelope *envelope)
{
    envelope->origin = "elsewhere";
}

static void break_other_lane(struct file *file)
{
    put_changed_group(file, other_lane);
}

static void break_no_lane(struct file *file)
{
    put_changed_group(file, no_lane);
}

static void break_attempt(struct file *file)
{
    put_changed_group(file, late_attempt);
}

static void break_hold(struct file *file)
{
    put_changed_group(file, late_hold);
}

static void break_arrival(struct file *file)
{
    put_changed(file, early_arrival);
}

static void break_length(struct file *file)
{
    put_changed(file, shorter);
}

static void break_header(struct file *file)
{
    put_changed(file, later_body);
}

static void break_longest(struct file *file)
{
    put_changed(file, short_lines);
}

static void break_origin(struct file *file)
{
    put_changed(file, odd_origin);
}

static void set_8bit(struct file *file)
{
    put_byte(file, 5000, '\xfc');
}

static void set_dot(struct file *file)
{
    put_byte(file, strlen(FILE_HEADER) + 80, '.'); /* the first of the second line */
}

static void set_bare_lf(struct file *file)
{
    put_byte(file, strlen(FILE_HEADER) + 78, 'x'); /* the CR of the first line */
}

static void drop_chunk(struct file *file)
{
    file_delete_chunk(file, FILE_PLAIN, 1);
}

static void drop_first_chunk(struct file *file)
{
    file_delete_chunk(file, FILE_STREAMED, STORE_BODY_CHUNK);
}

static void drop_last_chunk(struct file *file)
{
    file_delete_chunk(file, FILE_PLAIN, 2);
}

static void short_chunk(struct file *file)
{
    struct store_group_key key = store_key(FILE_PLAIN, 1);

    file_put(file, "body", (struct slice){(char *)key.text, sizeof key.text}, SLICE("x"));
}

static void empty_chunk(struct file *file)
{
    struct store_group_key key = store_key(FILE_PLAIN, 2);

    file_put(file, "body", (struct slice){(char *)key.text, sizeof key.text}, SLICE(""));
}

static void odd_key(struct file *file)
{
    file_put(file, "body", SLICE("odd"), SLICE("x"));
}

static void low_limit(struct file *file)
{
    file_put_number(file, "id_limit", FILE_DRAFT);
}

static void no_limit(struct file *file)
{
    file_delete(file, "meta", SLICE("id_limit"));
}

static void odd_chunk_bytes(struct file *file)
{
    file_put(file, "meta", SLICE("chunk_bytes"), SLICE("\xf0\x0f"));
}

static void no_table(struct file *file)
{
    assert_int_equal(mdb_drop(file->txn, file_table(file, "import"), 1), 0);
}

static void other_table(struct file *file)
{
    (void)file_table(file, "other");
}

static void odd_import(struct file *file)
{
    file_put(file, "import", SLICE("elsewhere"), SLICE("123456789"));
}

static void import_of_no_id(struct file *file)
{
    file_put(file, "import", SLICE("0123456789abcdef/" A), SLICE("\xff\xff\0\0\0\0\0\0\0"));
}

static const struct {
    const char *name;
    break_fn *fn;
    const char *finding;
} breaks[] = {
    {"an envelope does not decode", cut_envelope, "record envelope " A},
    {"a group does not decode", cut_group, "record group " A "/1"},
    {"a group has no envelope", drop_envelope, "no-envelope group " B "/5"},
    {"an envelope has no group", drop_groups, "no-group envelope " A},
    {"chunks belong to nothing", drop_mark, "no-message body " C},
    {"a draft is accepted", mark_accepted, "draft draft " A},
    {"it came in without a group", no_groups, "group-count envelope " A},
    {"a group is too large", large_group, "group-limits group " A "/1"},
    {"a group's number is too large", large_number, "group-number group " A "/1073741824"},
    {"the lane of other recipients", break_other_lane, "lane group " A "/1"},
    {"a route without a name", break_no_lane, "lane group " A "/1"},
    {"an attempt far ahead", break_attempt, "time group " A "/1"},
    {"a hold until 1970", break_hold, "time group " A "/1"},
    {"an arrival in 1970", break_arrival, "time envelope " A},
    {"an odd origin", break_origin, "origin envelope " A},
    {"fewer bytes than its chunks have", break_length, "length body " A},
    {"the last chunk is missing", drop_last_chunk, "length body " A},
    {"a chunk is missing", drop_chunk, "chunk-order body " A "+2"},
    {"the first chunk of a run is missing", drop_first_chunk,
     "chunk-order body " B "+16777217"},
    {"a chunk is short", short_chunk, "chunk-size body " A "+1"},
    {"a chunk is empty", empty_chunk, "chunk-size body " A "+2"},
    {"the header section ends elsewhere", break_header, "header-end envelope " A},
    {"a line does not end in CRLF", set_bare_lf, "line-end envelope " A},
    {"a byte above 127", set_8bit, "flag-8bit envelope " A},
    {"a line begins with a dot", set_dot, "flag-dot-line envelope " A},
    {"a line is longer", break_longest, "longest-line envelope " A},
    {"an odd key", odd_key, "key body "},
    {"ids that were never given", low_limit, "id-limit draft " C},
    {"no limit of ids", no_limit, "meta meta id_limit"},
    {"a number of two bytes", odd_chunk_bytes, "meta meta chunk_bytes"},
    {"a table is missing", no_table, "table import "},
    {"a table is not ours", other_table, "table file other"},
    {"an import without origin", odd_import, "import import elsewhere"},
    {"an import of no id", import_of_no_id, "id-limit import 0123456789abcdef/" A},
};

static void each_broken_record_is_the_one_finding(void **state)
{
    struct world *world = *state;

    for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
        print_message("%s\n", breaks[i].name);
        file_remove(&world->file);
        file_make(&world->file);
        file_begin(&world->file);
        breaks[i].fn(&world->file);
        file_end(&world->file);
        finds(world, breaks[i].finding);
    }
}

/* ---- LMDB's own books ---- */

/* A page number of the list of free pages, in the file itself. The list is the tree of table 0. */
static void change_free_page(struct world *world, size_t from, size_t to)
{
    char path[FILE_PATH + 32];
    static char text[1 << 20];
    ssize_t length;
    int fd;
    unsigned changed = 0;

    (void)snprintf(path, sizeof path, "%s/data.mdb", world->file.folder);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    length = pread(fd, text, sizeof text, 0);
    /* A run of at least three descending page numbers is the list. */
    for (ssize_t at = (ssize_t)2 * 4096; at + 24 <= length; at += 2) {
        size_t numbers[3];

        memcpy(numbers, text + at, sizeof numbers);
        if (numbers[0] != from || numbers[1] >= numbers[0] || numbers[2] >= numbers[1] ||
            numbers[2] < 2)
            continue;
        assert_int_equal(pwrite(fd, &to, sizeof to, at), sizeof to);
        changed++;
    }
    assert_int_equal(close(fd), 0);
    assert_true(changed > 0);
}

struct free_list { /* of the last transaction that has one */
    size_t first;
    size_t second;
};

static struct free_list read_free_list(struct world *world)
{
    struct free_list list = {0, 0};
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;

    file_begin(&world->file);
    mdb_txn_abort(world->file.txn);
    assert_int_equal(mdb_txn_begin(world->file.env, NULL, MDB_RDONLY, &world->file.txn), 0);
    assert_int_equal(mdb_cursor_open(world->file.txn, 0, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0) {
        const size_t *numbers = data.mv_data;

        if (numbers[0] < 3)
            continue;
        list = (struct free_list){numbers[1], numbers[2]};
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(world->file.txn);
    mdb_env_close(world->file.env);
    assert_true(list.first > list.second && list.second > 2);
    return list;
}

static void make_free_pages(struct world *world)
{
    file_begin(&world->file);
    for (uint64_t id = 10; id < 20; id++)
        file_put_draft(&world->file, id);
    file_end(&world->file);
    file_begin(&world->file);
    for (uint64_t id = 10; id < 20; id++) {
        for (uint32_t i = 0; i < 2; i++)
            file_delete_chunk(&world->file, id, STORE_BODY_CHUNK + i);
        file_delete(&world->file, "draft", file_id(&id));
    }
    file_end(&world->file);
    finds(world, NULL);
}

static void a_page_that_is_free_twice_is_found_and_one_is_lost_then(void **state)
{
    struct world *world = *state;
    struct free_list list;
    char wanted[FOUND_TEXT];

    make_free_pages(world);
    list = read_free_list(world);
    change_free_page(world, list.first, list.second);
    assert_int_equal(verify(world), RESULT_OK);
    assert_int_equal(world->count, 2);
    (void)snprintf(wanted, sizeof wanted, "page-twice file page %zu", list.second);
    assert_string_equal(world->found[0], wanted);
    assert_string_equal(world->found[1], "page-count file ");
}

static void a_free_page_behind_the_end_is_found(void **state)
{
    struct world *world = *state;
    struct free_list list;

    make_free_pages(world);
    list = read_free_list(world);
    change_free_page(world, list.first, 1000000);
    assert_int_equal(verify(world), RESULT_OK);
    assert_int_equal(world->count, 2);
    assert_string_equal(world->found[0], "page-range file page 1000000");
    assert_string_equal(world->found[1], "page-count file ");
}

static void a_file_without_its_end_is_found(void **state)
{
    struct world *world = *state;
    char path[FILE_PATH + 32];
    struct stat status;

    (void)snprintf(path, sizeof path, "%s/data.mdb", world->file.folder);
    assert_int_equal(stat(path, &status), 0);
    /* Two pages less: what is in them reads as nothing, or kills (see the command's test). */
    assert_int_equal(truncate(path, status.st_size - 100), 0);
    finds(world, "file-short file ");
}

#define RUN_VERIFY(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_VERIFY(a_healthy_file_has_no_finding_and_is_counted),
        RUN_VERIFY(nothing_in_the_folder_is_changed_or_made),
        RUN_VERIFY(free_pages_are_counted_with_those_in_use),
        RUN_VERIFY(progress_is_told_on_long_walks),
        RUN_VERIFY(a_held_folder_is_left_alone_and_its_holder_is_named),
        RUN_VERIFY(a_newer_format_is_refused_with_both_numbers),
        RUN_VERIFY(an_older_format_has_no_table_of_imports),
        RUN_VERIFY(a_folder_without_a_queue_is_named),
        RUN_VERIFY(each_broken_record_is_the_one_finding),
        RUN_VERIFY(a_page_that_is_free_twice_is_found_and_one_is_lost_then),
        RUN_VERIFY(a_free_page_behind_the_end_is_found),
        RUN_VERIFY(a_file_without_its_end_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
