/* The suppression list: who is on it for whom, kept over the end of the process whatever the end,
 * bounded, expiring, written anew. */
#include "smtpd/policy/suppression.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

struct world {
    char folder[64];
    char path[96];
    struct loop *loop;
    struct offload *offload;
    struct suppression *list;
    struct suppression_settings settings;
    struct suppression_counts counts;
    enum result result;
    size_t waiting;
    struct fault fault;
};

static enum result try_to_open(struct world *w)
{
    enum result result;

    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    result = suppression_open(w->loop, w->offload, w->path, &w->list, &w->fault);
    if (result == RESULT_OK)
        suppression_apply(w->list, &w->settings);
    return result;
}

static void close_list(struct world *w)
{
    suppression_stop(w->list);
    offload_free(w->offload);
    suppression_close(w->list);
    loop_free(w->loop);
    w->list = NULL;
}

static void open_list(struct world *w)
{
    assert_int_equal(try_to_open(w), RESULT_OK);
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};

    memset(w, 0, sizeof *w);
    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/smtpd-suppression-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof w->path, "%s/suppression", w->folder);
    w->settings = (struct suppression_settings){
        .at = SUPPRESSION_AT_RCPT, .adds_hard_bounces = true, .entries = 1000};
    open_list(w);
}

static void close_world(struct world *w)
{
    if (w->list)
        close_list(w);
    (void)unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); /* nothing is left beside */
    log_close();
}

static void on_changed(void *owner, enum result result,
                       const struct suppression_counts *counts)
{
    struct world *w = owner;

    w->counts = *counts;
    w->result = result;
    w->waiting--;
}

static void wait_for_all(struct world *w)
{
    for (int i = 0; i < PATIENCE_MS && w->waiting > 0; i++)
        loop_run_for(w->loop, 1);
    assert_int_equal(w->waiting, 0);
}

static enum result start(struct world *w, bool is_removal,
                         const struct suppression_change *items, size_t count)
{
    struct suppression_changes changes = {is_removal, items, count, on_changed, w};
    enum result result = suppression_change_start(w->list, &changes, &w->fault);

    w->waiting += result == RESULT_OK;
    return result;
}

static void add(struct world *w, const char *tenant, const char *address)
{
    struct suppression_change change = {tenant, address, "a reason", 0};

    assert_int_equal(start(w, false, &change, 1), RESULT_OK);
    wait_for_all(w);
    assert_int_equal(w->result, RESULT_OK);
}

static void remove_one(struct world *w, const char *tenant, const char *address)
{
    struct suppression_change change = {tenant, address, NULL, 0};

    assert_int_equal(start(w, true, &change, 1), RESULT_OK);
    wait_for_all(w);
    assert_int_equal(w->result, RESULT_OK);
}

static bool is_on(struct world *w, const char *tenant, const char *address)
{
    struct suppression_entry entry;

    return suppression_find(w->list, tenant, address, &entry);
}

static size_t count_of(struct world *w)
{
    struct suppression_statistics statistics;

    suppression_statistics(w->list, &statistics);
    return statistics.entries;
}

static void holds_for_whom_it_is(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    add(&w, "red", "Bob@Example.COM");
    add(&w, NULL, "ann@example.com");
    add(&w, "blue", "@Example.net");
    add(&w, NULL,
        "@b\xc3\xbc"
        "cher.example");
    assert_true(is_on(&w, "red", "bob@example.com"));
    assert_true(is_on(&w, "red", "BOB@EXAMPLE.com"));
    assert_false(is_on(&w, "blue", "bob@example.com"));
    assert_false(is_on(&w, NULL, "bob@example.com"));
    assert_true(is_on(&w, NULL, "ann@example.com"));
    assert_true(is_on(&w, "red", "ann@example.com"));
    assert_false(is_on(&w, "red", "ann@sub.example.com"));
    assert_true(is_on(&w, "blue", "whoever@example.net"));
    assert_false(is_on(&w, "red", "whoever@example.net"));
    assert_false(is_on(&w, "blue", "whoever@sub.example.net"));
    assert_true(is_on(&w, NULL, "x@xn--bcher-kva.example"));
    assert_false(is_on(&w, NULL, "no address"));
    remove_one(&w, NULL, "bob@example.com"); /* of all: there is none */
    assert_int_equal(w.counts.absent, 1);
    assert_true(is_on(&w, "red", "bob@example.com"));
    remove_one(&w, "red", "BOB@example.com");
    assert_int_equal(w.counts.removed, 1);
    assert_false(is_on(&w, "red", "bob@example.com"));
    close_world(&w);
}

static void is_asked_where_the_settings_say(void **state)
{
    const struct suppression_message red = {.tenant = "red"};
    const struct suppression_message late = {.tenant = "red", .is_named_late = true};
    struct suppression_statistics statistics;
    char why[SUPPRESSION_TEXT];
    struct world w;

    (void)state;
    open_world(&w);
    add(&w, NULL, "ann@example.com");
    assert_true(suppression_refuses(w.list, "red", "ann@example.com", why));
    assert_non_null(strstr(why, "This address is on the suppression list since 20"));
    assert_false(suppression_drops(w.list, &red, "ann@example.com", why));
    assert_true(suppression_drops(w.list, &late, "ann@example.com", why));
    w.settings.at = SUPPRESSION_AT_DELIVERY;
    suppression_apply(w.list, &w.settings);
    assert_false(suppression_refuses(w.list, "red", "ann@example.com", why));
    assert_true(suppression_drops(w.list, &red, "ann@example.com", why));
    w.settings.at = SUPPRESSION_OFF;
    suppression_apply(w.list, &w.settings);
    assert_false(suppression_drops(w.list, &late, "ann@example.com", why));
    assert_false(suppression_refuses(w.list, "red", "ann@example.com", why));
    assert_false(suppression_drops(w.list, &red, "ann@example.com", why));
    suppression_statistics(w.list, &statistics);
    assert_int_equal(statistics.refused[SUPPRESSION_COMMAND], 1);
    close_world(&w);
}

static void copy_file(const char *from, const char *to)
{
    char text[65536];
    int source = open(from, O_RDONLY | O_CLOEXEC);
    int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t count = read(source, text, sizeof text);

    assert_true(count >= 0 && count < (ssize_t)sizeof text);
    assert_int_equal(write(target, text, (size_t)count), count);
    (void)close(source);
    (void)close(target);
}

/* The file as it is when the answer comes is the file of a process that was killed then. */
static void what_was_answered_is_on_the_disk(void **state)
{
    char copy[128];
    struct world w;

    (void)state;
    open_world(&w);
    (void)snprintf(copy, sizeof copy, "%s.copy", w.path);
    add(&w, "red", "bob@example.com");
    copy_file(w.path, copy);
    add(&w, NULL, "later@example.com");
    close_list(&w);
    assert_int_equal(rename(copy, w.path), 0);
    open_list(&w);
    assert_true(is_on(&w, "red", "bob@example.com"));
    assert_false(is_on(&w, NULL, "later@example.com"));
    close_world(&w);
}

static size_t ends_in(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = read(fd, text, sizeof text - 1);
    size_t ends = 0;

    assert_true(count >= 0);
    (void)close(fd);
    text[count] = '\0';
    for (const char *at = text; (at = strstr(at, "\n. ")); at++)
        ends++;
    return ends;
}

static void what_waits_is_written_as_one_piece(void **state)
{
    struct suppression_change change = {NULL, "first@example.com", NULL, 0};
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK); /* is written alone */
    change.address = "second@example.com";
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    change.address = "third@example.com";
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    wait_for_all(&w);
    assert_int_equal(count_of(&w), 3);
    assert_int_equal(ends_in(w.path), 2);
    close_list(&w);
    open_list(&w);
    assert_int_equal(count_of(&w), 3);
    close_world(&w);
}

static void quotes_that_say_nothing_make_no_other_address(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    add(&w, NULL, "\"bob\"@example.com");
    assert_true(is_on(&w, NULL, "bob@example.com"));
    assert_true(is_on(&w, NULL, "\"b\\ob\"@example.com"));
    add(&w, NULL, "\"a b\"@example.com");
    assert_true(is_on(&w, NULL, "\"A b\"@example.com"));
    add(&w, NULL, "\"a@example.com\"@example.net");
    assert_false(is_on(&w, NULL, "a@example.com"));
    assert_true(is_on(&w, NULL, "\"a@example.com\"@example.net"));
    add(&w, NULL, "\"\"@example.com");
    assert_false(is_on(&w, NULL, "whoever@example.com"));
    assert_true(is_on(&w, NULL, "\"\"@example.com"));
    close_world(&w);
}

/* One form of what needs quotes, too: it is listed, found and removed by any of them. */
static void quotes_that_are_needed_have_one_form(void **state)
{
    static const char *const forms[][2] = {
        {"\"a\\ \\b\"@Example.com", "\"a b\"@example.com"},
        {"\"a b\"@example.com", "\"a b\"@example.com"},
        {"\"\\\"\\\\\\@\"@example.com", "\"\\\"\\\\@\"@example.com"},
        {"\"\"@example.com", "\"\"@example.com"},
        {"\"\\b\"@example.com", "b@example.com"}};
    char normal[SUPPRESSION_ADDRESS];
    struct world w;

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        assert_true(suppression_normalise(forms[i][0], normal));
        assert_string_equal(normal, forms[i][1]);
        assert_true(suppression_normalise(forms[i][1], normal));
        assert_string_equal(normal, forms[i][1]);
    }
    open_world(&w);
    add(&w, NULL, "\"a\\ b\"@example.com");
    assert_true(is_on(&w, NULL, "\"a b\"@example.com"));
    assert_true(is_on(&w, NULL, "\"\\a b\"@example.com"));
    close_world(&w);
}

static void nothing_holds_before_it_is_on_the_disk(void **state)
{
    struct suppression_change change = {NULL, "bob@example.com", NULL, 0};
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    assert_false(is_on(&w, NULL, "bob@example.com"));
    /* Leaving in the middle: it is written, and who waits is told. */
    close_list(&w);
    assert_int_equal(w.waiting, 0);
    assert_int_equal(w.result, RESULT_OK);
    open_list(&w);
    assert_true(is_on(&w, NULL, "bob@example.com"));
    close_world(&w);
}

static void a_write_that_fails_changes_nothing(void **state)
{
    struct suppression_change change = {NULL, "bob@example.com", NULL, 0};
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(mkdir(w.path, 0700), 0); /* no file can be there */
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    wait_for_all(&w);
    assert_int_equal(w.result, RESULT_IO);
    assert_false(is_on(&w, NULL, "bob@example.com"));
    assert_int_equal(rmdir(w.path), 0);
    add(&w, NULL, "bob@example.com"); /* and works again */
    assert_true(is_on(&w, NULL, "bob@example.com"));
    close_world(&w);
}

static void a_torn_end_is_cut(void **state)
{
    struct stat about;
    struct world w;

    (void)state;
    open_world(&w);
    add(&w, NULL, "a@example.com");
    add(&w, NULL, "b@example.com");
    close_list(&w);
    assert_int_equal(stat(w.path, &about), 0);
    assert_int_equal(truncate(w.path, about.st_size - 3), 0);
    open_list(&w);
    assert_true(is_on(&w, NULL, "a@example.com"));
    assert_false(is_on(&w, NULL, "b@example.com"));
    add(&w, NULL, "c@example.com"); /* behind the cut */
    close_list(&w);
    open_list(&w);
    assert_true(is_on(&w, NULL, "a@example.com"));
    assert_true(is_on(&w, NULL, "c@example.com"));
    close_world(&w);
}

static void a_damaged_middle_is_an_error(void **state)
{
    struct world w;
    int fd;

    (void)state;
    open_world(&w);
    add(&w, NULL, "a@example.com");
    add(&w, NULL, "b@example.com");
    close_list(&w);
    fd = open(w.path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, 45), 1);
    (void)close(fd);
    assert_int_equal(try_to_open(&w), RESULT_CORRUPT);
    assert_non_null(strstr(w.fault.text, w.path));
    assert_non_null(strstr(w.fault.text, "import the addresses again"));
    offload_free(w.offload);
    loop_free(w.loop);
    close_world(&w);
}

static void a_file_of_zeros_is_an_error(void **state)
{
    struct stat about;
    struct world w;

    (void)state;
    open_world(&w);
    add(&w, NULL, "a@example.com");
    close_list(&w);
    assert_int_equal(stat(w.path, &about), 0);
    assert_int_equal(truncate(w.path, 0), 0);
    assert_int_equal(truncate(w.path, about.st_size), 0);
    assert_int_equal(try_to_open(&w), RESULT_CORRUPT);
    assert_non_null(strstr(w.fault.text, w.path));
    assert_non_null(strstr(w.fault.text, "bytes are zero"));
    assert_non_null(strstr(w.fault.text, "import the addresses again"));
    assert_int_equal(truncate(w.path, 7), 0); /* of the head: nothing was ever there */
    offload_free(w.offload);
    loop_free(w.loop);
    open_list(&w);
    add(&w, NULL, "b@example.com");
    close_world(&w);
}

static void has_a_limit(void **state)
{
    struct suppression_change two[2] = {{NULL, "c@example.com", NULL, 0},
                                        {NULL, "d@example.com", NULL, 0}};
    struct suppression_statistics statistics;
    struct world w;

    (void)state;
    open_world(&w);
    w.settings.entries = 3;
    suppression_apply(w.list, &w.settings);
    add(&w, NULL, "a@example.com");
    add(&w, NULL, "b@example.com");
    assert_int_equal(start(&w, false, two, 2), RESULT_NO_SPACE);
    assert_non_null(strstr(w.fault.text, "suppression.entries"));
    assert_int_equal(count_of(&w), 2);
    /* What is on its way counts too. */
    assert_int_equal(start(&w, false, two, 1), RESULT_OK);
    assert_int_equal(start(&w, false, two + 1, 1), RESULT_NO_SPACE);
    wait_for_all(&w);
    add(&w, NULL, "a@example.com"); /* no new one */
    assert_int_equal(w.counts.replaced, 1);
    suppression_note_bounce(w.list, "red", "e@example.com", "550 5.1.1 no");
    loop_run_for(w.loop, 50);
    suppression_statistics(w.list, &statistics);
    assert_int_equal(statistics.entries, 3);
    assert_int_equal(statistics.not_added, 1);
    remove_one(&w, NULL, "a@example.com");
    add(&w, NULL, "d@example.com");
    close_world(&w);
}

static void a_request_is_taken_whole_or_not(void **state)
{
    struct suppression_change items[2] = {{NULL, "a@example.com", NULL, 0},
                                          {NULL, "no address", NULL, 0}};
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(start(&w, false, items, 2), RESULT_INVALID);
    assert_non_null(strstr(w.fault.text, "\"no address\""));
    items[1].address = "b@example.com";
    items[1].reason = "two\nlines";
    assert_int_equal(start(&w, false, items, 2), RESULT_INVALID);
    items[1].reason = NULL;
    items[1].expires_ms = -1;
    assert_int_equal(start(&w, false, items, 2), RESULT_INVALID);
    items[1].expires_ms = 0;
    items[1].tenant = "a\ttab";
    assert_int_equal(start(&w, false, items, 2), RESULT_INVALID);
    assert_int_equal(start(&w, false, items, 0), RESULT_INVALID);
    assert_int_equal(count_of(&w), 0);
    close_world(&w);
}

static void bounces_are_added_for_their_tenant(void **state)
{
    struct suppression_entry entry;
    struct world w;

    (void)state;
    open_world(&w);
    w.settings.expire_ms = 86400000;
    suppression_apply(w.list, &w.settings);
    suppression_note_bounce(w.list, "red", "Bob@example.com", "550 5.1.1 no\tsuch user");
    for (int i = 0; i < PATIENCE_MS && count_of(&w) == 0; i++)
        loop_run_for(w.loop, 1);
    assert_true(suppression_find(w.list, "red", "bob@example.com", &entry));
    assert_int_equal(entry.source, SUPPRESSION_BOUNCE);
    assert_string_equal(entry.reason, "550 5.1.1 no such user");
    assert_int_equal(entry.expires_ms - entry.created_ms, 86400000);
    assert_false(is_on(&w, "blue", "bob@example.com"));
    w.settings.adds_hard_bounces = false;
    suppression_apply(w.list, &w.settings);
    suppression_note_bounce(w.list, "red", "ann@example.com", "550 5.1.1 no");
    loop_run_for(w.loop, 50);
    assert_int_equal(count_of(&w), 1);
    close_world(&w);
}

static void entries_expire(void **state)
{
    struct suppression_change change = {NULL, "a@example.com", NULL, 0};
    struct world w;

    (void)state;
    open_world(&w);
    change.expires_ms = loop_wall_ms(w.loop) + 3600000;
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    wait_for_all(&w);
    add(&w, NULL, "b@example.com");
    assert_true(is_on(&w, NULL, "a@example.com"));
    change.expires_ms = loop_wall_ms(w.loop) + 50; /* it takes the place of the other */
    assert_int_equal(start(&w, false, &change, 1), RESULT_OK);
    wait_for_all(&w);
    for (int ms = 0; ms < PATIENCE_MS && is_on(&w, NULL, "a@example.com"); ms++)
        loop_run_for(w.loop, 1);
    assert_false(is_on(&w, NULL, "a@example.com"));
    close_list(&w);
    open_list(&w);
    assert_int_equal(count_of(&w), 1); /* and is not read any more */
    close_world(&w);
}

static off_t size_of(const char *path)
{
    struct stat about;

    assert_int_equal(stat(path, &about), 0);
    return about.st_size;
}

static void add_many(struct world *w, size_t count, bool is_removal)
{
    struct suppression_change items[100];
    char names[100][64];

    for (size_t at = 0; at < count; at += 100) {
        for (size_t i = 0; i < 100; i++) {
            (void)snprintf(names[i], sizeof names[i], "user%zu@example.com", at + i);
            items[i] = (struct suppression_change){NULL, names[i], "some reason", 0};
        }
        assert_int_equal(start(w, is_removal, items, 100), RESULT_OK);
    }
    wait_for_all(w);
}

/* Changes go on meanwhile, and none is lost. */
static void half_dead_is_written_anew(void **state)
{
    struct world w;
    off_t before;

    (void)state;
    open_world(&w);
    w.settings.entries = 10000;
    suppression_apply(w.list, &w.settings);
    add_many(&w, 5000, false);
    before = size_of(w.path);
    add_many(&w, 4500, true);
    for (int i = 0; i < 200; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "late%d@example.com", i);
        add(&w, NULL, name);
        if (i % 2)
            remove_one(&w, NULL, name);
    }
    for (int i = 0; i < PATIENCE_MS && size_of(w.path) > before / 2; i++)
        loop_run_for(w.loop, 1);
    assert_true(size_of(w.path) < before / 2);
    assert_int_equal(count_of(&w), 600);
    close_list(&w);
    open_list(&w);
    assert_int_equal(count_of(&w), 600);
    assert_false(is_on(&w, NULL, "user4499@example.com"));
    assert_true(is_on(&w, NULL, "user4500@example.com"));
    assert_true(is_on(&w, NULL, "late198@example.com"));
    assert_false(is_on(&w, NULL, "late199@example.com"));
    close_world(&w);
}

struct found {
    size_t count;
    char last[400];
};

static void note(void *owner, const struct suppression_entry *entry)
{
    struct found *found = owner;

    found->count++;
    (void)snprintf(found->last, sizeof found->last, "%s %s", entry->tenant, entry->address);
}

static struct found walk(struct world *w, const struct suppression_filter *filter,
                         size_t most)
{
    struct found found = {0};
    uint32_t position = 0;

    while (suppression_walk(w->list, filter, &position, most, note, &found))
        ;
    return found;
}

static void is_walked_in_parts(void **state)
{
    struct world w;
    struct found found;

    (void)state;
    open_world(&w);
    add_many(&w, 500, false);
    add(&w, "red", "bob@example.net");
    add(&w, "red", "@example.net");
    add(&w, NULL, "bob@example.net");
    assert_int_equal(walk(&w, &(struct suppression_filter){0}, 1).count, 503);
    assert_int_equal(walk(&w, &(struct suppression_filter){0}, 100000).count, 503);
    assert_int_equal(walk(&w, &(struct suppression_filter){.tenant = "red"}, 10).count, 2);
    assert_int_equal(walk(&w, &(struct suppression_filter){.tenant = ""}, 10).count, 501);
    assert_int_equal(
        walk(&w, &(struct suppression_filter){.domain = "@example.net"}, 10).count, 3);
    assert_int_equal(
        walk(&w, &(struct suppression_filter){.address = "ann@example.net"}, 10).count, 1);
    found = walk(&w, &(struct suppression_filter){"", "bob@example.net", NULL}, 10);
    assert_int_equal(found.count, 1);
    assert_string_equal(found.last, " bob@example.net");
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_for_whom_it_is),
        cmocka_unit_test(is_asked_where_the_settings_say),
        cmocka_unit_test(what_was_answered_is_on_the_disk),
        cmocka_unit_test(what_waits_is_written_as_one_piece),
        cmocka_unit_test(quotes_that_say_nothing_make_no_other_address),
        cmocka_unit_test(quotes_that_are_needed_have_one_form),
        cmocka_unit_test(nothing_holds_before_it_is_on_the_disk),
        cmocka_unit_test(a_write_that_fails_changes_nothing),
        cmocka_unit_test(a_torn_end_is_cut),
        cmocka_unit_test(a_file_of_zeros_is_an_error),
        cmocka_unit_test(a_damaged_middle_is_an_error),
        cmocka_unit_test(has_a_limit),
        cmocka_unit_test(a_request_is_taken_whole_or_not),
        cmocka_unit_test(bounces_are_added_for_their_tenant),
        cmocka_unit_test(entries_expire),
        cmocka_unit_test(half_dead_is_written_anew),
        cmocka_unit_test(is_walked_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
