/* A message from its first byte to its signatures, and every way in which that may end. */
#include "smtpd/sign/signer.h"

#include "key_folder.h"
#include "smtpd/base/log.h"
#include "smtpd/base/secure.h"

#include <sys/eventfd.h>

struct world {
    struct key_folder folder;
    struct loop *loop;
    struct offload *offload;
    struct signer *signer;
    int ends;
    enum result result;
    char fields[4096];
};

static void on_end(void *owner, enum result result, struct slice fields)
{
    struct world *w = owner;

    w->ends++;
    w->result = result;
    assert_true(slice_copy_text(fields, w->fields, sizeof w->fields));
}

static struct sign_keys *load(struct world *w)
{
    struct sign_settings settings = {
        .key_directory = w->folder.path, .relaxed_header = true, .relaxed_body = true};
    struct sign_keys *keys = NULL;
    struct fault fault;

    assert_int_equal(sign_keys_load(&settings, &keys, &fault), RESULT_OK);
    return keys;
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};

    memset(w, 0, sizeof *w);
    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    key_folder_open(&w->folder);
    key_folder_put(&w->folder, "a.test", "s1.key", rsa_pem);
    key_folder_put(&w->folder, "a.test", "s2.key", ed25519_pem);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->signer = signer_new(w->loop, w->offload);
    signer_use(w->signer, load(w));
}

static void close_world(struct world *w)
{
    signer_free(w->signer);
    offload_free(w->offload);
    loop_free(w->loop);
    key_folder_close(&w->folder);
    log_close();
}

static void run_until_end(struct world *w, int ends)
{
    for (int i = 0; i < 2000 && w->ends < ends; i++)
        loop_run_for(w->loop, 5);
    assert_int_equal(w->ends, ends);
}

static const struct slice section = {"From: x@a.test\r\n\r\n", 18};

static struct signing *start(struct world *w)
{
    struct signing *signing = signing_start(w->signer);

    assert_non_null(signing);
    signing_add(signing, SLICE("hello\r\n"));
    assert_int_equal(signing_choose(signing, section), 2);
    return signing;
}

TEST(signer, every_key_of_the_domain_signs_once)
{
    struct signer_statistics statistics;
    struct world w;

    open_world(&w);
    signing_finish(start(&w), section, 7, on_end, &w);
    assert_int_equal(w.ends, 0); /* never inside the call */
    run_until_end(&w, 1);
    assert_int_equal(w.result, RESULT_OK);
    assert_non_null(strstr(w.fields, "a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=s1;"));
    assert_non_null(strstr(w.fields, "a=ed25519-sha256; c=relaxed/relaxed; d=a.test;"));
    signer_statistics(w.signer, &statistics);
    assert_int_equal(statistics.messages, 1);
    assert_int_equal(statistics.keys, 2);
    for (int kind = 0; kind < KEY_KIND_COUNT; kind++) {
        assert_int_equal(statistics.kinds[kind].signatures, 1);
        assert_int_equal(statistics.kinds[kind].failures, 0);
        assert_int_equal(statistics.kinds[kind].us.count, 1);
    }
    close_world(&w);
}

TEST(signer, other_authors_get_no_keys)
{
    struct world w;
    struct signing *signing;

    open_world(&w);
    signing = signing_start(w.signer);
    signing_add(signing, SLICE("hello\r\n"));
    assert_int_equal(signing_choose(signing, SLICE("From: x@b.test\r\n")), 0);
    signing_cancel(signing);
    signing = signing_start(w.signer);
    assert_int_equal(signing_choose(signing, SLICE("To: x@a.test\r\n")), 0);
    signing_cancel(signing);
    close_world(&w);
}

TEST(signer, without_keys_nothing_is_hashed)
{
    struct sign_settings settings = {0};
    struct sign_keys *keys = NULL;
    struct world w;

    open_world(&w);
    assert_int_equal(sign_keys_load(&settings, &keys, NULL), RESULT_OK);
    signer_use(w.signer, keys);
    assert_int_equal(signer_key_count(w.signer), 0);
    assert_null(signing_start(w.signer));
    close_world(&w);
}

TEST(signer, a_cancelled_message_is_never_called_back)
{
    struct world w;
    struct signing *signing;

    open_world(&w);
    signing_cancel(signing_start(w.signer));
    signing_cancel(start(&w));
    for (int i = 0; i < 20; i++) {
        signing = start(&w);
        signing_finish(signing, section, 7, on_end, &w);
        if (i % 2)
            loop_run_for(w.loop, 0);
        if (w.ends == 0)
            signing_cancel(signing);
        w.ends = 0;
    }
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 0);
    close_world(&w);
}

TEST(signer, a_message_keeps_the_keys_that_were_chosen)
{
    struct world w;
    struct signing *signing;

    open_world(&w);
    signing = start(&w);
    key_folder_remove(&w.folder, "a.test", "s1.key");
    signer_use(w.signer, load(&w));
    assert_int_equal(signer_key_count(w.signer), 1);
    signing_finish(signing, section, 7, on_end, &w);
    run_until_end(&w, 1);
    assert_non_null(strstr(w.fields, "s=s1;"));
    close_world(&w);
}

/* ---- sets that are replaced ---- */

enum { DOMAINS = 600, STEP_MOST = 200 };

struct probe {
    struct signer *signer;
    uint64_t last;
    uint64_t step_most; /* keys freed in one turn of the loop */
};

static uint64_t retired(const struct signer *signer)
{
    struct signer_statistics statistics;

    signer_statistics(signer, &statistics);
    return statistics.keys_retired;
}

static void on_probe(void *owner)
{
    struct probe *probe = owner;
    uint64_t left = retired(probe->signer);

    if (probe->last > left && probe->last - left > probe->step_most)
        probe->step_most = probe->last - left;
    probe->last = left;
}

TEST(signer, a_large_set_that_is_replaced_is_freed_little_by_little)
{
    struct probe probe = {0};
    struct watch *watch;
    struct world w;
    char domain[32];
    int ready;

    open_world(&w);
    for (int i = 0; i < DOMAINS; i++) {
        (void)snprintf(domain, sizeof domain, "d%d.test", i);
        key_folder_put(&w.folder, domain, "s.key", ed25519_pem);
    }
    signer_use(w.signer, load(&w));
    assert_int_equal(retired(w.signer), 2);
    signer_use(w.signer, load(&w));
    assert_int_equal(retired(w.signer), 2 + DOMAINS + 2);
    probe.signer = w.signer;
    probe.last = retired(w.signer);
    ready = eventfd(1, EFD_CLOEXEC); /* can always be read: the probe runs in each turn */
    watch = watch_start(w.loop, ready, WATCH_READABLE, on_probe, &probe);
    loop_run_for(w.loop, 0);
    signer_retire(w.signer, load(&w)); /* one more, while that one is being freed */
    signer_retire(w.signer, NULL);
    probe.last = retired(w.signer);
    for (int i = 0; i < 2000 && retired(w.signer) > 0; i++)
        loop_run_for(w.loop, 5);
    assert_int_equal(retired(w.signer), 0);
    assert_true(probe.step_most > 0 && probe.step_most <= STEP_MOST);
    assert_int_equal(signer_key_count(w.signer), DOMAINS + 2);
    watch_stop(watch);
    (void)close(ready);
    signer_use(w.signer, load(&w));
    loop_run_for(w.loop, 0);
    for (int i = 0; i < DOMAINS; i++) {
        (void)snprintf(domain, sizeof domain, "d%d.test", i);
        key_folder_remove(&w.folder, domain, "s.key");
    }
    close_world(&w); /* in the middle of it: the sanitizer tells of a leak */
}

TEST(signer, keys_that_a_message_still_signs_with_are_freed_behind_it)
{
    struct signing *signing;
    struct world w;

    open_world(&w);
    signing = start(&w);
    signer_use(w.signer, load(&w));
    signer_use(w.signer, load(&w));
    loop_run_for(w.loop, 300);
    assert_int_equal(retired(w.signer),
                     2); /* the set of the message; the other one is gone */
    signing_finish(signing, section, 7, on_end, &w);
    run_until_end(&w, 1);
    assert_int_equal(w.result, RESULT_OK);
    for (int i = 0; i < 2000 && retired(w.signer) > 0; i++)
        loop_run_for(w.loop, 5);
    assert_int_equal(retired(w.signer), 0);
    close_world(&w);
}

static bool is_let_go;

static void block(void *input)
{
    (void)input;
    while (!__atomic_load_n(&is_let_go, __ATOMIC_ACQUIRE))
        usleep(1000);
}

static void ignore(void *owner, void *input)
{
    (void)owner;
    (void)input;
}

static void drop(void *input)
{
    (void)input;
}

/* To the brim by jobs that wait for the test: a thread that has not begun yet would still take one
 * from the queue and make room in it. */
static void fill(struct offload *offload)
{
    struct pool_statistics pool;
    struct job *job;

    do {
        offload_statistics(offload, POOL_CRYPTO, &pool);
        while (job_start(offload, POOL_CRYPTO, block, ignore, drop, NULL, NULL, &job) ==
               RESULT_OK)
            ;
        usleep(1000);
    } while (pool.running < pool.threads);
}

TEST(signer, a_full_pool_refuses_from_the_loop)
{
    struct signer_statistics statistics;
    struct world w;
    struct signing *cancelled;

    open_world(&w);
    __atomic_store_n(&is_let_go, false, __ATOMIC_RELEASE);
    fill(w.offload);
    signing_finish(start(&w), section, 7, on_end, &w);
    cancelled = start(&w);
    signing_finish(cancelled, section, 8, on_end, &w);
    signing_cancel(cancelled);
    assert_int_equal(w.ends, 0);
    run_until_end(&w, 1);
    assert_int_equal(w.result, RESULT_BUSY);
    __atomic_store_n(&is_let_go, true, __ATOMIC_RELEASE);
    signer_statistics(w.signer, &statistics);
    assert_int_equal(statistics.refused, 2);
    assert_int_equal(statistics.messages, 0);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(signer, every_key_of_the_domain_signs_once),
        RUN(signer, other_authors_get_no_keys),
        RUN(signer, without_keys_nothing_is_hashed),
        RUN(signer, a_cancelled_message_is_never_called_back),
        RUN(signer, a_message_keeps_the_keys_that_were_chosen),
        RUN(signer, a_large_set_that_is_replaced_is_freed_little_by_little),
        RUN(signer, keys_that_a_message_still_signs_with_are_freed_behind_it),
        RUN(signer, a_full_pool_refuses_from_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
