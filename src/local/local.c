/* Local deliveries: pieces come from the queue on the loop, and go to the files on the file
 * pool, one job at a time for each message.
 *
 *   open (job) -> read piece (loop) -> write (job) -> ... -> finish (job) -> told
 */
#include "smtpd/local/local.h"

#include "maildir.h"
#include "smtpd/base/arena.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

struct local {
    struct loop *loop;
    struct offload *offload;
    struct arena arena; /* of the settings */
    struct local_settings settings;
    struct list deliveries;
};

struct delivery {
    struct link link;
    struct local *local;
    struct queue *queue;
    struct maildir_message message;
    struct envelope envelope;
    struct body_reader *reader;
    struct bytes piece; /* or, first, the head */
    struct job *job;
    struct deferred start;
    enum result *results;
    local_end_fn *on_end;
    void *owner;
};

/* ---- settings ---- */

struct local *local_new(struct loop *loop, struct offload *offload)
{
    struct local *local = NEW(struct local);

    local->loop = loop;
    local->offload = offload;
    list_init(&local->deliveries);
    arena_init(&local->arena, 16 << 20);
    return local;
}

static const char *const *copy_users(struct arena *arena,
                                     const struct local_mailboxes *from)
{
    const char **users = arena_alloc(arena, (from->user_count + 1) * sizeof *users);

    for (size_t i = 0; users && i < from->user_count; i++)
        users[i] = arena_text(arena, slice_of(from->users[i]));
    return users;
}

void local_apply(struct local *local, const struct local_settings *settings)
{
    struct arena arena;
    struct local_mailboxes *copies;

    arena_init(&arena, 16 << 20);
    copies = arena_alloc(&arena, (settings->mailbox_count + 1) * sizeof *copies);
    for (size_t i = 0; copies && i < settings->mailbox_count; i++) {
        copies[i].domain = arena_text(&arena, slice_of(settings->mailboxes[i].domain));
        copies[i].maildir = arena_text(&arena, slice_of(settings->mailboxes[i].maildir));
        copies[i].users = copy_users(&arena, &settings->mailboxes[i]);
        copies[i].user_count = settings->mailboxes[i].user_count;
    }
    local->settings.hostname = arena_text(&arena, slice_of(settings->hostname));
    local->settings.mailboxes = copies;
    local->settings.mailbox_count = copies ? settings->mailbox_count : 0;
    arena_clear(&local->arena);
    local->arena = arena;
}

static const struct local_mailboxes *find_mailboxes(const struct local *local,
                                                    const char *domain)
{
    for (size_t i = 0; i < local->settings.mailbox_count; i++)
        if (strcmp(local->settings.mailboxes[i].domain, domain) == 0)
            return &local->settings.mailboxes[i];
    return NULL;
}

/* The user's folder name: lower case, and nothing that leads out of the folder. */
static bool user_name(struct slice local_part, char name[LIMIT_LOCAL_PART + 1])
{
    if (!slice_copy_text(local_part, name, LIMIT_LOCAL_PART + 1) || !name[0] ||
        name[0] == '.')
        return false;
    for (char *at = name; *at; at++) {
        if (*at == '/' || (unsigned char)*at < 0x21 || *at == 0x7f)
            return false;
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + ('a' - 'A'));
    }
    return true;
}

static bool user_exists(const struct local_mailboxes *mailboxes, const char *name)
{
    for (size_t i = 0; i < mailboxes->user_count; i++)
        if (strcmp(mailboxes->users[i], "*") == 0 ||
            slice_equal_text_fold(slice_of(name), mailboxes->users[i]))
            return true;
    return false;
}

/* {domain} and {user} filled in. */
static char *folder_of(const struct local_mailboxes *mailboxes, const char *user)
{
    struct slice rest = slice_of(mailboxes->maildir);
    enum result added = RESULT_OK;
    struct bytes path;
    char *text;

    bytes_init(&path, 4000);
    while (rest.length > 0 && added == RESULT_OK) {
        size_t open = slice_find(rest, '{');

        added = bytes_add(&path, slice_part(rest, 0, open));
        rest = slice_from(rest, open);
        if (rest.length == 0 || added != RESULT_OK)
            break;
        if (slice_starts_fold(rest, "{user}")) {
            added = bytes_add_text(&path, user);
            rest = slice_from(rest, 6);
        } else if (slice_starts_fold(rest, "{domain}")) {
            added = bytes_add_text(&path, mailboxes->domain);
            rest = slice_from(rest, 8);
        } else {
            added = bytes_add_text(&path, "{");
            rest = slice_from(rest, 1);
        }
    }
    text = added == RESULT_OK ? slice_to_text(bytes_view(&path)) : NULL;
    bytes_fini(&path);
    return text;
}

static void find_box(const struct local *local, const char *address,
                     struct maildir_box *box)
{
    const char *at = strrchr(address, '@');
    const struct local_mailboxes *mailboxes;
    char domain[DOMAIN_TEXT];
    char user[LIMIT_LOCAL_PART + 1];

    box->fd = -1;
    box->result = RESULT_NOT_FOUND;
    if (!at || domain_normalise(slice_of(at + 1), domain) != RESULT_OK)
        return;
    mailboxes = find_mailboxes(local, domain);
    if (!mailboxes || !user_name((struct slice){address, (size_t)(at - address)}, user) ||
        !user_exists(mailboxes, user))
        return;
    box->folder = folder_of(mailboxes, user);
    box->result = box->folder ? RESULT_OK : RESULT_TOO_LARGE;
}

/* ---- a delivery ---- */

static void delivery_free(struct delivery *delivery)
{
    if (delivery->reader)
        body_reader_close(delivery->reader);
    for (size_t i = 0; i < delivery->message.box_count; i++)
        memory_free(delivery->message.boxes[i].folder);
    memory_free(delivery->message.boxes);
    memory_free(delivery->results);
    bytes_fini(&delivery->piece);
    memory_free(delivery);
}

static void drop(void *input)
{
    struct delivery *delivery = input;

    maildir_abandon(&delivery->message);
    delivery_free(delivery);
}

static void end(struct delivery *delivery)
{
    const char *text = "";

    for (size_t i = 0; i < delivery->message.box_count; i++) {
        const struct maildir_box *box = &delivery->message.boxes[i];

        delivery->results[i] = box->result;
        if (box->result != RESULT_OK && box->text[0])
            text = box->text;
    }
    list_remove(&delivery->local->deliveries, &delivery->link);
    delivery->on_end(delivery->owner, delivery->results, text);
    delivery_free(delivery);
}

static void run_job(struct delivery *delivery, job_run_fn *run, job_end_fn *on_end)
{
    if (job_start(delivery->local->offload, POOL_FILE, run, on_end, drop, delivery,
                  delivery, &delivery->job) == RESULT_OK)
        return;
    maildir_abandon(&delivery->message);
    for (size_t i = 0; i < delivery->message.box_count; i++)
        if (delivery->message.boxes[i].result == RESULT_OK)
            delivery->message.boxes[i].result = RESULT_BUSY;
    end(delivery);
}

static void on_piece(void *owner, struct slice piece, enum result result);

static void run_abandon(void *input)
{
    struct delivery *delivery = input;

    maildir_abandon(&delivery->message);
}

static void run_finish(void *input)
{
    struct delivery *delivery = input;

    maildir_finish(&delivery->message);
}

static void run_write(void *input)
{
    struct delivery *delivery = input;

    maildir_write(&delivery->message, bytes_view(&delivery->piece));
}

static void run_open(void *input)
{
    struct delivery *delivery = input;

    maildir_open(&delivery->message, bytes_view(&delivery->piece));
}

static void on_finished(void *owner, void *input)
{
    struct delivery *delivery = owner;

    (void)input;
    delivery->job = NULL;
    end(delivery);
}

static void on_written(void *owner, void *input)
{
    struct delivery *delivery = owner;

    (void)input;
    delivery->job = NULL;
    body_reader_next(delivery->reader, on_piece, delivery);
}

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct delivery *delivery = owner;

    bytes_clear(&delivery->piece);
    if (result == RESULT_OK)
        result = bytes_add(&delivery->piece, piece);
    if (result == RESULT_NOT_FOUND) /* a part of the message, and no mailbox */
        result = RESULT_CORRUPT;
    if (result != RESULT_OK) {
        for (size_t i = 0; i < delivery->message.box_count; i++)
            if (delivery->message.boxes[i].result == RESULT_OK)
                delivery->message.boxes[i].result = result;
        run_job(delivery, run_abandon, on_finished);
    } else if (piece.length == 0) {
        run_job(delivery, run_finish, on_finished);
    } else {
        run_job(delivery, run_write, on_written);
    }
}

static bool is_any_open(const struct delivery *delivery)
{
    for (size_t i = 0; i < delivery->message.box_count; i++)
        if (delivery->message.boxes[i].fd >= 0)
            return true;
    return false;
}

static void on_opened(void *owner, void *input)
{
    struct delivery *delivery = owner;

    (void)input;
    delivery->job = NULL;
    if (!is_any_open(delivery)) {
        end(delivery); /* stored before, or impossible */
        return;
    }
    delivery->reader = body_reader_open_in_turn(delivery->queue, &delivery->envelope);
    body_reader_next(delivery->reader, on_piece, delivery);
}

static void start(void *owner)
{
    run_job(owner, run_open, on_opened);
}

/* RFC 5321 4.4: the last server notes the sender. Delivered-To (RFC 9228) only where there
 * is one recipient: the boxes of a group share the bytes. */
static enum result add_head(struct delivery *delivery, const struct lease *lease)
{
    enum result added =
        bytes_format(&delivery->piece, "Return-Path: <%s>\n", lease->envelope.sender);

    if (added == RESULT_OK && lease->group.recipient_count == 1)
        added = bytes_format(&delivery->piece, "Delivered-To: %s\n",
                             lease->group.recipients[0].address);
    return added;
}

void local_deliver(void *owner_local, struct queue *queue, const struct lease *lease,
                   local_end_fn *on_end, void *owner)
{
    struct local *local = owner_local;
    struct delivery *delivery = NEW(struct delivery);
    uint32_t count = lease->group.recipient_count;
    char id[ID_TEXT];

    delivery->local = local;
    delivery->queue = queue;
    delivery->envelope = lease->envelope;
    delivery->on_end = on_end;
    delivery->owner = owner;
    delivery->results = NEW_ARRAY(enum result, count);
    delivery->message.boxes = NEW_ARRAY(struct maildir_box, count);
    delivery->message.box_count = count;
    delivery->message.is_fresh = !lease->is_first_since_start && lease->group.attempts == 0;
    bytes_init(&delivery->piece, LIMIT_PIECE_BYTES);
    id_print(lease->envelope.id, id);
    (void)snprintf(delivery->message.name, sizeof delivery->message.name, "%s.%u.%.80s", id,
                   lease->group.number, local->settings.hostname);
    for (uint32_t i = 0; i < count; i++)
        find_box(local, lease->group.recipients[i].address, &delivery->message.boxes[i]);
    list_push_back(&local->deliveries, &delivery->link);
    CHECK(add_head(delivery, lease) == RESULT_OK);
    /* From the loop: should the pool be full, `on_end` must not run inside this call. */
    loop_defer(local->loop, &delivery->start, start, delivery);
}

void local_free(struct local *local)
{
    struct link *link;

    while ((link = list_pop_front(&local->deliveries))) {
        struct delivery *delivery = CONTAINER_OF(link, struct delivery, link);

        if (delivery->reader)
            body_reader_close(delivery->reader);
        delivery->reader = NULL;
        deferred_cancel(local->loop, &delivery->start);
        if (delivery->job)
            job_cancel(delivery->job); /* its drop frees it */
        else
            drop(delivery);
    }
    arena_clear(&local->arena);
    memory_free(local);
}
