/* The rights of a user. A key is one row of the table; its parser puts the value straight
 * into the record. */
#include "smtpd/policy/account.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/nearest.h"

enum { KEY_TEXT = 64 };

static const uint64_t SIZE_MIN = UINT64_C(64) << 10, SIZE_MAX_BYTES = UINT64_C(1) << 30;

/* ---- lists ---- */

static size_t count_items(struct slice list)
{
    size_t count = 1;

    for (size_t i = 0; i < list.length; i++)
        count += list.data[i] == ',';
    return count;
}

static struct slice take_item(struct slice *list)
{
    size_t end = slice_find(*list, ',');
    struct slice item = slice_part(*list, 0, end);

    *list = end < list->length ? slice_from(*list, end + 1) : SLICE_NONE;
    return item;
}

/* ---- senders ---- */

static void fold(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

static enum result parse_domain_pattern(struct slice text, struct sender_pattern *pattern)
{
    char normal[DOMAIN_TEXT + 2] = "*.";
    bool is_wild = slice_starts_fold(text, "*.");

    if (domain_normalise(is_wild ? slice_from(text, 2) : text, normal + 2) != RESULT_OK)
        return RESULT_INVALID;
    pattern->domain = memory_text(is_wild ? normal : normal + 2);
    return RESULT_OK;
}

static enum result parse_sender(struct slice text, struct sender_pattern *pattern)
{
    struct address address;

    if (slice_equal_text(text, "*")) {
        pattern->domain = memory_text("*");
        return RESULT_OK;
    }
    if (text.length > 0 && text.data[0] == '@')
        return parse_domain_pattern(slice_from(text, 1), pattern);
    if (address_parse_mailbox(text, &address) != RESULT_OK ||
        parse_domain_pattern(address_domain(&address), pattern) != RESULT_OK)
        return RESULT_INVALID;
    pattern->local = slice_to_text(address_local(&address));
    fold(pattern->local);
    return RESULT_OK;
}

static enum result parse_senders(struct slice value, struct rights *rights)
{
    size_t count = count_items(value);

    if (count > ACCOUNT_SENDERS_MAX)
        return RESULT_TOO_LARGE;
    rights->senders = NEW_ARRAY(struct sender_pattern, count);
    while (rights->sender_count < count) {
        struct slice item = take_item(&value);

        if (parse_sender(item, &rights->senders[rights->sender_count]) != RESULT_OK)
            return RESULT_INVALID;
        rights->sender_count++;
    }
    return RESULT_OK;
}

/* ---- the other keys ---- */

static enum result parse_networks(struct slice value, struct rights *rights)
{
    size_t count = count_items(value);

    if (count > ACCOUNT_NETWORKS_MAX)
        return RESULT_TOO_LARGE;
    rights->networks = NEW_ARRAY(struct network, count);
    while (rights->network_count < count) {
        struct slice item = take_item(&value);

        if (network_parse(item, &rights->networks[rights->network_count]) != RESULT_OK)
            return RESULT_INVALID;
        rights->network_count++;
    }
    return RESULT_OK;
}

static enum result parse_size(struct slice value, struct rights *rights)
{
    if (size_parse(value, &rights->size_bytes) != RESULT_OK ||
        rights->size_bytes < SIZE_MIN || rights->size_bytes > SIZE_MAX_BYTES)
        return RESULT_INVALID;
    return RESULT_OK;
}

static enum result parse_recipients(struct slice value, struct rights *rights)
{
    uint64_t count;

    if (slice_to_u64(value, LIMIT_RECIPIENTS, &count) != RESULT_OK || count == 0)
        return RESULT_INVALID;
    rights->recipients = (unsigned)count;
    return RESULT_OK;
}

static enum result parse_messages(struct slice value, struct rights *rights)
{
    return quotas_parse(value, &rights->messages);
}

static enum result parse_recipient_rate(struct slice value, struct rights *rights)
{
    return quotas_parse(value, &rights->recipient_rate);
}

/* clang-format off */
static const struct right_key keys[] = {
    {"senders", parse_senders, "user@example.com, @example.com, @*.example.com (what is below it) or *, by commas",
     "Addresses that may stand in MAIL FROM, From: and Sender:; at most 100.", true},
    {"networks", parse_networks, "192.0.2.0/24, 2001:db8::/32 or one address, by commas",
     "Networks that the user may log in from; at most 100.", true},
    {"size", parse_size, "64KiB to 1GiB",
     "Largest message, instead of limits.message_size.", false},
    {"recipients", parse_recipients, "1 to 100000",
     "Recipients of one message, instead of limits.recipients_per_message.", false},
    {"messages", parse_messages, "10/m,1000/h,5000/d: at most 4 windows, each once",
     "Messages in a time, instead of limits.messages_per_user.", true},
    {"recipient_rate", parse_recipient_rate, "100/m,10000/d: at most 4 windows, each once",
     "Recipients in a time, instead of limits.recipients_per_user.", true},
};
/* clang-format on */
enum { KEYS = sizeof keys / sizeof *keys };

const struct right_key *rights_keys(size_t *count)
{
    *count = KEYS;
    return keys;
}

/* ---- a line ---- */

bool rights_next(struct slice *rest, struct slice *key, struct slice *value)
{
    struct slice after = *rest;
    struct slice word = slice_next_word(&after);
    size_t sign = slice_find(word, '=');

    if (sign == 0 || sign >= word.length)
        return false;
    *key = slice_part(word, 0, sign);
    *value = slice_from(word, sign + 1);
    *rest = slice_trim(after);
    return true;
}

static size_t find_key(struct slice name)
{
    size_t at = 0;

    while (at < KEYS && !slice_equal_text(name, keys[at].name))
        at++;
    return at;
}

static enum result unknown_key(struct slice name, struct fault *fault)
{
    char text[KEY_TEXT];
    struct nearest nearest = {.wanted = text};

    if (!slice_copy_text(slice_part(name, 0, KEY_TEXT - 1), text, sizeof text))
        return fault_set(fault, RESULT_INVALID, "an unknown key");
    for (size_t i = 0; i < KEYS; i++)
        nearest_offer(&nearest, keys[i].name);
    return fault_set(fault, RESULT_INVALID, "unknown key \"%s\"; did you mean \"%s\"?",
                     text, nearest.name);
}

static enum result read_rights(struct slice text, struct rights *rights,
                               struct fault *fault)
{
    bool was_given[KEYS] = {false};
    struct slice key;
    struct slice value;

    while (rights_next(&text, &key, &value)) {
        size_t at = find_key(key);

        if (at == KEYS)
            return unknown_key(key, fault);
        if (was_given[at])
            return fault_set(fault, RESULT_INVALID, "%s is given twice", keys[at].name);
        was_given[at] = true;
        if (keys[at].parse(value, rights) != RESULT_OK)
            return fault_set(fault, RESULT_INVALID, "%s=%.*s: write %s", keys[at].name,
                             (int)(value.length < 100 ? value.length : 100), value.data,
                             keys[at].how);
    }
    if (text.length > 0)
        return fault_set(fault, RESULT_INVALID, "\"%.*s\" is no key=value",
                         (int)(text.length < 60 ? text.length : 60), text.data);
    return RESULT_OK;
}

/* ---- life ---- */

struct account *account_new(struct slice hash, struct slice rights, struct fault *fault)
{
    struct account *account = NEW(struct account);

    account->references = 1;
    account->hash = slice_to_text(hash);
    if (rights.length > ACCOUNT_TEXT_MAX)
        (void)fault_set(fault, RESULT_INVALID, "more than %d bytes of keys",
                        ACCOUNT_TEXT_MAX);
    else if (read_rights(slice_trim(rights), &account->rights, fault) == RESULT_OK)
        return account;
    account_unref(account);
    return NULL;
}

struct account *account_ref(struct account *account)
{
    account->references++;
    return account;
}

void account_unref(struct account *account)
{
    struct rights *rights;

    if (!account || --account->references > 0)
        return;
    rights = &account->rights;
    for (size_t i = 0; i < rights->sender_count; i++) {
        memory_free(rights->senders[i].local);
        memory_free(rights->senders[i].domain);
    }
    memory_free(rights->senders);
    memory_free(rights->networks);
    memory_free(account->hash);
    memory_free(account);
}

/* ---- questions ---- */

bool account_may_send_as(const struct account *account, const struct address *address)
{
    const struct rights *rights = &account->rights;
    char normal[DOMAIN_TEXT];
    char local[LIMIT_ADDRESS + 1];

    if (rights->sender_count == 0)
        return true;
    if (domain_normalise(address_domain(address), normal) != RESULT_OK ||
        !slice_copy_text(address_local(address), local, sizeof local))
        return false;
    fold(local);
    for (size_t i = 0; i < rights->sender_count; i++) {
        const struct sender_pattern *pattern = &rights->senders[i];

        if (domain_matches(pattern->domain, normal) &&
            (!pattern->local || slice_equal_text(slice_of(local), pattern->local)))
            return true;
    }
    return false;
}

bool account_may_log_in_from(const struct account *account, const struct ip *peer)
{
    const struct rights *rights = &account->rights;

    for (size_t i = 0; i < rights->network_count; i++)
        if (network_contains(&rights->networks[i], peer))
            return true;
    return rights->network_count == 0;
}
