/* What kind of failure it is: rules over a reply, the first that fits gives the class.
 *
 * Promises  pure. A classifier is immutable and counted: a reload makes a new one. A reply is
 *           read once, whatever the number of rules (see pattern.h in the room).
 * Ignores   what follows from a class; whether a failure is for good says the code alone.
 */
#ifndef SMTPD_DELIVER_CLASSIFY_H
#define SMTPD_DELIVER_CLASSIFY_H

#include "smtpd/base/bytes.h"
#include "smtpd/smtp/reply.h"

/* What became of a recipient: "class" of the log lines, metrics and reports. Those of rules begin
 * with BAD_MAILBOX; docs/classes.md says what each means. */
enum deliver_class {
    CLASS_DELIVERED,
    CLASS_RELAYED, /* to a hop that gives no reports */
    CLASS_EXPIRED,
    CLASS_OPERATOR,   /* bounced by one */
    CLASS_SUPPRESSED, /* not tried: it is on the suppression list */
    CLASS_BAD_MAILBOX,
    CLASS_BAD_DOMAIN,
    CLASS_INACTIVE_MAILBOX,
    CLASS_QUOTA,
    CLASS_POLICY,
    CLASS_REPUTATION,
    CLASS_AUTHENTICATION, /* SPF, DKIM, DMARC */
    CLASS_CONTENT,
    CLASS_RATE,
    CLASS_GREYLISTED,
    CLASS_SIZE,
    CLASS_PROTOCOL,
    CLASS_CONNECTION,
    CLASS_DNS,
    CLASS_TLS,
    CLASS_ROUTING,
    CLASS_RELAYING,
    CLASS_OTHER,
    CLASS_COUNT
};
/* Of the rules, in their order. */
#define CLASS_CHOICES                                                                      \
    "bad-mailbox|bad-domain|inactive-mailbox|quota|policy|reputation|authentication|"      \
    "content|rate|greylisted|size|protocol|connection|dns|tls|routing|relaying|other"
const char *deliver_class_name(enum deliver_class class);
bool deliver_class_parse(struct slice name, enum deliver_class *class); /* of the rules */
/* Of a failure of our own. */
enum deliver_class deliver_class_of_result(enum result code);

enum { CLASS_RULES_MAX = 1000 }; /* in one file */

struct class_rule {
    enum deliver_class class;
    /* Each may be NULL: any. All that are given must fit. */
    const char *code;   /* "550", "55x", "5xx" */
    const char *status; /* "5.7.1", "5.7.*", "*.1.1" */
    const char *text;   /* somewhere in the reply; `*`: anything between */
    const char *host;   /* who said it: a domain pattern, normal */
    const char *file;   /* where the rule stands */
    unsigned line;
};

/* NULL: it can be used; else what is wrong with it and what would be right. */
const char *class_code_complaint(struct slice code);
const char *class_status_complaint(struct slice status);
const char *class_text_complaint(struct slice text);

struct class_reply {
    unsigned code;      /* 0: none */
    const char *status; /* "5.1.1"; "" or NULL: none */
    const char *text;
    const char *host; /* NULL: unknown */
};

struct class_match {
    enum deliver_class class;
    const struct class_rule *rule; /* NULL: none fits, and the class is "other" */
};

struct classifier;
/* Copies all. NULL: a rule that cannot be used, or too many. */
struct classifier *classifier_new(const struct class_rule *rules, size_t count);
struct classifier *classifier_ref(struct classifier *classifier); /* NULL is fine, twice */
void classifier_unref(struct classifier *classifier);
struct class_match classifier_match(const struct classifier *classifier,
                                    const struct class_reply *reply);
/* The same of a whole reply, as deliveries look at it. */
struct class_match classifier_match_reply(const struct classifier *classifier,
                                          const struct reply *reply, const char *host);
size_t classifier_count(const struct classifier *classifier);
const struct class_rule *classifier_rule(const struct classifier *classifier, size_t at);

#endif
