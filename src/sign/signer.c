/* A message's hash lives on the loop; for the keys' arithmetic a job takes a copy of the
 * header section and a reference of the keys, and touches nothing else. */
#include "smtpd/sign/signer.h"

#include "signature.h"
#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/list.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/mail/author.h"
#include "smtpd/mail/envelope.h"

#include <time.h>

enum { FOLLOW_MS = 10000, FIELD_USUAL = 2048 };
/* What is deferred runs up to LOOP_DEFERRED_ROUNDS times in a turn: 150 keys, some two
 * milliseconds. A set that messages still sign with is looked at again. */
enum { RETIRE_PORTION = 50, RETIRE_WAIT_MS = 100 };

/* Keys that are no longer in effect. */
struct retired {
    struct link link;
    struct sign_keys *keys;
};

struct signer {
    struct loop *loop;
    struct offload *offload;
    struct sign_keys *keys; /* NULL: none yet */
    uint64_t stamp;         /* of the files when they were looked at last */
    struct timer timer;
    struct job *look;
    struct list retired; /* freed one behind the other */
    struct deferred turn;
    struct timer retire;
    struct signer_statistics statistics;
};

/* Input of a job; it belongs to the pool while the job runs. */
struct work {
    struct sign_keys *keys;
    const struct sign_key *chosen[SIGN_KEYS_OF_DOMAIN_MAX];
    int64_t us[SIGN_KEYS_OF_DOMAIN_MAX];
    size_t count;
    size_t done;
    char *section;
    struct signature_input input;
    struct bytes fields;
    enum result result;
};

struct signing {
    struct signer *signer;
    struct canon_body body;
    struct work *work; /* NULL: no keys chosen */
    struct job *job;
    struct deferred deferred; /* the pool was full */
    uint64_t id;
    signing_end_fn *on_end;
    void *owner;
};

/* ---- the job ---- */

static void work_free(void *input)
{
    struct work *work = input;

    sign_keys_unref(work->keys);
    bytes_fini(&work->fields);
    memory_free(work->section);
    memory_free(work);
}

static int64_t clock_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void work_run(void *input)
{
    struct work *work = input;
    struct signature_base base;

    work->result = signature_prepare(&base, &work->input);
    if (work->result != RESULT_OK)
        return;
    for (; work->done < work->count && work->result == RESULT_OK; work->done++) {
        int64_t began_us = clock_us();

        work->result = signature_add(&base, work->chosen[work->done], &work->fields);
        work->us[work->done] = clock_us() - began_us;
    }
    signature_fini(&base);
}

/* ---- a message ---- */

struct signing *signing_start(struct signer *signer)
{
    struct signing *signing;

    if (sign_keys_count(signer->keys) == 0)
        return NULL;
    signing = NEW(struct signing);
    signing->signer = signer;
    canon_body_init(&signing->body,
                    signer->keys->settings.relaxed_body ? CANON_RELAXED : CANON_SIMPLE);
    return signing;
}

void signing_add(struct signing *signing, struct slice body)
{
    canon_body_add(&signing->body, body);
}

size_t signing_choose(struct signing *signing, struct slice section)
{
    struct sign_keys *keys = signing->signer->keys;
    char domain[DOMAIN_TEXT];
    struct work *work;

    CHECK(!signing->work);
    if (!keys || !author_domain(section, domain))
        return 0;
    work = NEW(struct work);
    work->count = sign_keys_choose(keys, domain, work->chosen);
    if (work->count == 0) {
        memory_free(work);
        return 0;
    }
    signing->work = work;
    work->keys = sign_keys_ref(keys);
    work->input.header = keys->settings.relaxed_header ? CANON_RELAXED : CANON_SIMPLE;
    work->input.body = signing->body.canon;
    bytes_init(&work->fields, (size_t)SIGN_KEYS_OF_DOMAIN_MAX * SIGNATURE_FIELD_MAX);
    /* Taken here and not grown by the job: the loop frees it, and for memory that a thread of
     * low priority took it may have to wait for that thread. */
    (void)bytes_reserve(&work->fields, work->count * FIELD_USUAL);
    return work->count;
}

static void signing_free(struct signing *signing)
{
    deferred_cancel(signing->signer->loop, &signing->deferred);
    canon_body_fini(&signing->body);
    memory_free(signing);
}

void signing_cancel(struct signing *signing)
{
    if (signing->job)
        job_cancel(signing->job);
    else if (signing->work)
        work_free(signing->work);
    signing_free(signing);
}

/* The key that failed is the one behind those that are done. */
static void log_failure(const struct signing *signing, const struct work *work)
{
    const struct sign_key *key = work->chosen[work->done > 0 ? work->done - 1 : 0];
    struct log_line line;
    char id[ID_TEXT];

    id_print(signing->id, id);
    log_start(&line, LOG_ERROR, "sign.failed");
    log_text(&line, "id", id);
    log_text(&line, "domain", key->domain);
    log_text(&line, "selector", key->selector);
    log_text(&line, "file", key->file);
    log_text(&line, "message", result_text(work->result));
    log_end(&line);
}

static void count_results(struct signer_statistics *statistics, const struct work *work)
{
    for (size_t i = 0; i < work->done; i++) {
        enum key_kind kind = private_key_kind(work->chosen[i]->private_key);

        if (work->result != RESULT_OK && i + 1 == work->done) {
            statistics->kinds[kind].failures++;
            continue;
        }
        statistics->kinds[kind].signatures++;
        histogram_add(&statistics->kinds[kind].us, work->us[i]);
    }
    statistics->messages += work->result == RESULT_OK;
}

static void on_worked(void *owner, void *input)
{
    struct signing *signing = owner;
    struct work *work = input;
    signing_end_fn *on_end = signing->on_end;
    void *to = signing->owner;

    count_results(&signing->signer->statistics, work);
    if (work->result != RESULT_OK)
        log_failure(signing, work);
    signing_free(signing);
    on_end(to, work->result == RESULT_OK ? RESULT_OK : RESULT_IO,
           bytes_view(&work->fields));
    work_free(work);
}

static void on_refused(void *owner)
{
    struct signing *signing = owner;
    signing_end_fn *on_end = signing->on_end;
    void *to = signing->owner;

    work_free(signing->work);
    signing_free(signing);
    on_end(to, RESULT_BUSY, SLICE_NONE);
}

void signing_finish(struct signing *signing, struct slice section, uint64_t id,
                    signing_end_fn *on_end, void *owner)
{
    struct signer *signer = signing->signer;
    struct work *work = signing->work;
    int64_t expire_s;

    CHECK(work && !signing->job);
    expire_s = work->keys->settings.expire_ms / 1000;
    signing->id = id;
    signing->on_end = on_end;
    signing->owner = owner;
    canon_body_finish(&signing->body, work->input.body_hash);
    work->section = memory_copy(section.data, section.length);
    work->input.section = (struct slice){work->section, section.length};
    work->input.now_s = loop_wall_ms(signer->loop) / 1000;
    work->input.expires_s = expire_s > 0 ? work->input.now_s + expire_s : 0;
    if (job_start(signer->offload, POOL_CRYPTO, work_run, on_worked, work_free, work,
                  signing, &signing->job) == RESULT_OK)
        return;
    signing->job = NULL;
    signer->statistics.refused++;
    loop_defer(signer->loop, &signing->deferred, on_refused, signing);
}

/* ---- old keys ---- */

static void on_retire_turn(void *owner);

static void go_on_freeing(struct signer *signer)
{
    if (list_first(&signer->retired))
        loop_defer(signer->loop, &signer->turn, on_retire_turn, signer);
}

/* The first that nobody else refers to. They are few: each is a reload. */
static struct retired *next_retired(const struct signer *signer)
{
    for (struct link *link = list_first(&signer->retired); link;
         link = list_next(&signer->retired, link)) {
        struct retired *retired = CONTAINER_OF(link, struct retired, link);

        if (retired->keys->references == 1)
            return retired;
    }
    return NULL;
}

/* Twenty thousand keys are 200 ms: mail does not wait for that. On the loop, because references are
 * counted there. */
static void on_retire_turn(void *owner)
{
    struct signer *signer = owner;
    struct retired *first = next_retired(signer);

    if (!first) { /* all are of messages, soon over */
        timer_start(&signer->retire, RETIRE_WAIT_MS);
        return;
    }
    if (sign_keys_free_some(first->keys, RETIRE_PORTION)) {
        list_remove(&signer->retired, &first->link);
        sign_keys_unref(first->keys);
        memory_free(first);
    }
    go_on_freeing(signer);
}

static void on_retire_timer(void *owner)
{
    go_on_freeing(owner);
}

void signer_retire(struct signer *signer, struct sign_keys *keys)
{
    struct retired *retired;

    if (!keys)
        return;
    retired = NEW(struct retired);
    retired->keys = keys;
    list_push_back(&signer->retired, &retired->link);
    if (!timer_is_waiting(&signer->retire) && signer->retired.count == 1)
        go_on_freeing(signer);
}

static uint64_t count_retired(const struct signer *signer)
{
    uint64_t count = 0;

    for (struct link *link = list_first(&signer->retired); link;
         link = list_next(&signer->retired, link))
        count += sign_keys_count(CONTAINER_OF(link, struct retired, link)->keys);
    return count;
}

/* ---- following the files ---- */

struct look {
    struct sign_keys *before;
    struct sign_keys *found; /* NULL: nothing changed, or a failure */
    uint64_t stamp_before;
    uint64_t stamp;
    enum result result;
    struct fault fault;
};

static void look_free(void *input)
{
    struct look *look = input;

    sign_keys_unref(look->before);
    sign_keys_unref(look->found);
    memory_free(look);
}

static void look_run(void *input)
{
    struct look *look = input;
    const struct sign_settings *settings = &look->before->settings;

    look->stamp = sign_keys_stamp(settings);
    if (look->stamp != look->stamp_before)
        look->result = sign_keys_load(settings, &look->found, &look->fault);
}

static void follow(struct signer *signer)
{
    const struct sign_settings *settings = &signer->keys->settings;

    if (!signer->look && (settings->key_count > 0 || settings->key_directory))
        timer_start(&signer->timer, FOLLOW_MS);
}

static void on_looked(void *owner, void *input)
{
    struct signer *signer = owner;
    struct look *look = input;

    signer->look = NULL;
    /* Others are in effect since: what was found is not wanted. One that was cancelled instead would
     * be freed all at once. */
    if (look->before != signer->keys) {
        signer_retire(signer, look->found);
        look->found = NULL;
        look_free(look);
        follow(signer);
        return;
    }
    follow(signer);
    /* Logged once for each version of the files, not every 10 s. */
    signer->stamp = look->stamp;
    if (look->result != RESULT_OK) {
        signer->statistics.loads_failed++;
        log_message(LOG_ERROR, "sign.keys_unreadable", "the keys before stay: %s",
                    look->fault.text);
    } else if (look->found) {
        log_message(LOG_NOTICE, "sign.keys_loaded", "%zu keys",
                    sign_keys_count(look->found));
        signer_retire(signer, signer->keys);
        signer->keys = look->found;
        look->found = NULL;
    }
    look_free(look);
}

static void on_follow_timer(void *owner)
{
    struct signer *signer = owner;
    struct look *look = NEW(struct look);

    look->before = sign_keys_ref(signer->keys);
    look->stamp_before = signer->stamp;
    if (job_start(signer->offload, POOL_FILE, look_run, on_looked, look_free, look, signer,
                  &signer->look) == RESULT_OK)
        return;
    signer->look = NULL;
    look_free(look);
    timer_start(&signer->timer, FOLLOW_MS);
}

void signer_use(struct signer *signer, struct sign_keys *keys)
{
    timer_cancel(&signer->timer);
    signer_retire(signer, signer->keys);
    signer->keys = keys;
    signer->stamp = keys->stamp;
    follow(signer);
}

/* ---- life ---- */

struct signer *signer_new(struct loop *loop, struct offload *offload)
{
    struct signer *signer = NEW(struct signer);

    signer->loop = loop;
    signer->offload = offload;
    timer_init(&signer->timer, loop, on_follow_timer, signer);
    timer_init(&signer->retire, loop, on_retire_timer, signer);
    list_init(&signer->retired);
    for (size_t i = 0; i < KEY_KIND_COUNT; i++)
        histogram_init(&signer->statistics.kinds[i].us, &histogram_short);
    return signer;
}

void signer_free(struct signer *signer)
{
    struct link *link;

    if (!signer)
        return;
    if (signer->look)
        job_cancel(signer->look);
    timer_cancel(&signer->timer);
    timer_cancel(&signer->retire);
    deferred_cancel(signer->loop, &signer->turn);
    while ((link = list_pop_front(&signer->retired))) {
        struct retired *retired = CONTAINER_OF(link, struct retired, link);

        sign_keys_unref(retired->keys);
        memory_free(retired);
    }
    sign_keys_unref(signer->keys);
    memory_free(signer);
}

size_t signer_key_count(const struct signer *signer)
{
    return sign_keys_count(signer->keys);
}

void signer_statistics(const struct signer *signer, struct signer_statistics *statistics)
{
    *statistics = signer->statistics;
    statistics->keys = sign_keys_count(signer->keys);
    statistics->keys_retired = count_retired(signer);
}
