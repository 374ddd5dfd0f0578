/* Rules of failures: the shipped ones over a corpus of replies, what an operator puts before or in
 * the place of them, and complaints with their places. */
#include "classes.h"
#include "smtpd/deliver/classify.h"
#include "smtpd/smtp/reply.h"
#include "texts.h"

#include <unistd.h>

enum { LEAST_RULES = 150, LEAST_REPLIES = 250 };

static struct class_match match_of(struct classifier *classifier, const char *host,
                                   const char *line)
{
    struct reply_reader reader;

    reply_reader_init(&reader);
    if (reply_reader_line(&reader, slice_of(line), NULL) == REPLY_BAD)
        fail_msg("no reply: %s", line);
    return classifier_match_reply(classifier, &reader.reply,
                                  strcmp(host, "-") == 0 ? NULL : host);
}

/* "class|host|reply" -> its three parts; false: a remark. */
static bool split(char *line, char **host, char **reply)
{
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '#' || !line[0])
        return false;
    *host = strchr(line, '|');
    assert_non_null(*host);
    *reply = strchr(*host + 1, '|');
    assert_non_null(*reply);
    *(*host)++ = *(*reply)++ = '\0';
    return true;
}

static FILE *open_replies(void)
{
    char *path = memory_format("%s/tests/unit/config/replies.txt", getenv("SMTPD_SOURCE"));
    FILE *file = fopen(path, "r");

    if (!file)
        fail_msg("%s (SMTPD_SOURCE) cannot be read", path);
    memory_free(path);
    return file;
}

TEST(classes, each_reply_has_its_class_and_each_rule_a_reply)
{
    struct config *config = config_defaults();
    struct classifier *classifier = config_classifier(config);
    size_t rules = classifier_count(classifier);
    size_t *hits = NEW_ARRAY(size_t, rules);
    FILE *file = open_replies();
    size_t replies = 0;
    size_t wrong = 0;
    char line[2048];
    char *host;
    char *reply;

    while (fgets(line, sizeof line, file)) {
        struct class_match match;

        if (!split(line, &host, &reply))
            continue;
        match = match_of(classifier, host, reply);
        replies++;
        if (match.rule)
            hits[match.rule - classifier_rule(classifier, 0)]++;
        if (strcmp(deliver_class_name(match.class), line) == 0)
            continue;
        wrong++;
        print_error("%s, not %s (line %u): %s\n", line, deliver_class_name(match.class),
                    match.rule ? match.rule->line : 0, reply);
    }
    for (size_t i = 0; i < rules; i++) {
        if (hits[i])
            continue;
        wrong++;
        print_error("%s:%u: no reply hits this rule\n",
                    classifier_rule(classifier, i)->file,
                    classifier_rule(classifier, i)->line);
    }
    (void)fclose(file);
    assert_int_equal(wrong, 0);
    assert_true(rules >= LEAST_RULES && replies >= LEAST_REPLIES);
    memory_free(hits);
    config_free(config);
}

TEST(classes, those_of_the_file_come_first)
{
    struct config *config =
        load_good(GOOD "[[class]]\nclass = \"content\"\ncode = \"550\"\n"
                       "text = \"my words * here\"\nhost = \"*.Example.com\"\n");
    struct classifier *classifier = config_classifier(config);
    struct class_match match =
        match_of(classifier, "mx.example.com", "550 5.1.1 my words are user unknown here");

    assert_int_equal(match.class, CLASS_CONTENT);
    assert_string_equal(match.rule->file, "test.toml");
    assert_int_equal(match.rule->line, 11);
    match = match_of(classifier, "-", "550 5.1.1 my words are user unknown here");
    assert_int_equal(match.class, CLASS_BAD_MAILBOX);
    assert_string_equal(match.rule->file, CLASSES_SHIPPED);
    assert_ptr_equal(config_classifier(config), classifier);
    config_free(config);
}

static char *write_file(const char *text)
{
    char *path =
        memory_format("%s/classes.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    return path;
}

static struct config *load_with(const char *path, const char *more)
{
    char *text = memory_format(GOOD "[delivery]\nclasses_file = \"%s\"\n%s", path, more);
    struct config *config = load(text);

    memory_free(text);
    return config;
}

TEST(classes, a_file_stands_in_the_place_of_the_shipped_ones)
{
    char *path = write_file("[[class]]\nclass = \"rate\"\nstatus = \"*.1.1\"\n"
                            "[[class]]\nclass = \"policy\"\ntext = \"odd\"\n");
    struct config *config =
        load_with(path, "[[class]]\nclass = \"quota\"\ntext = \"odd one\"\n");
    struct classifier *classifier = config_classifier(config);

    assert_int_equal(classifier_count(classifier), 3);
    assert_int_equal(match_of(classifier, "-", "550 5.1.1 user unknown").class, CLASS_RATE);
    assert_int_equal(match_of(classifier, "-", "550 odd one").class, CLASS_QUOTA);
    assert_int_equal(match_of(classifier, "-", "550 odd").class, CLASS_POLICY);
    assert_string_equal(match_of(classifier, "-", "550 odd").rule->file, path);
    assert_int_equal(match_of(classifier, "-", "550 user unknown").class, CLASS_OTHER);
    config_free(config);
    (void)unlink(path);
    memory_free(path);
}

TEST(classes, a_wrong_rule_is_pointed_at)
{
    refused(GOOD "[[class]]\nclass = \"spam\"\ncode = \"550\"\n", 12, 9, "content");
    refused(GOOD "[[class]]\nclass = \"delivered\"\ncode = \"550\"\n", 12, 9, "none of");
    refused(GOOD "[[class]]\nclass = \"rate\"\ncode = \"250\"\n", 13, 8, "\"55x\"");
    refused(GOOD "[[class]]\nclass = \"rate\"\ncode = 550\n", 13, 8, "in quotes");
    refused(GOOD "[[class]]\nclass = \"rate\"\nstatus = \"5.7\"\n", 13, 10, "\"5.7.*\"");
    refused(GOOD "[[class]]\nclass = \"rate\"\ntext = \"**\"\n", 13, 8, "leave it out");
    refused(GOOD "[[class]]\nclass = \"rate\"\ntext = \"a*b*c*d*e*f*g*h*i\"\n", 13, 8,
            "8 pieces");
    refused(GOOD "[[class]]\nclass = \"rate\"\nhost = \"a..b\"\n", 13, 8, "pattern");
    refused(GOOD "[[class]]\nclass = \"rate\"\ntxt = \"a\"\n", 13, 1, "\"text\"");
    refused(GOOD "[[class]]\ncode = \"550\"\n", 11, 1, "\"class\"");
    refused(GOOD "[[class]]\nclass = \"rate\"\n", 11, 1, "at least one");
}

static void complained(const char *path, unsigned line, unsigned column, const char *words)
{
    struct bytes text;
    char *start = memory_format("%s:%u:%u: ", path, line, column);

    bytes_init(&text, 1 << 20);
    config_problems_print(&problems, "test.toml", &text);
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    if (!strstr(text.data, start) || !strstr(text.data, words))
        fail_msg("%s", text.data);
    memory_free(start);
    bytes_fini(&text);
}

TEST(classes, complaints_of_a_rule_file_name_it)
{
    char *path = write_file("class = [\n  { class = \"rate\", code = \"1xx\" },\n"
                            "  { class = \"rate\" },\n]\nclas = 1\n");

    assert_null(load_with(path, ""));
    assert_int_equal(problems.count, 3);
    complained(path, 2, 28, "\"55x\"");
    complained(path, 3, 3, "at least one");
    complained(path, 5, 1, "did you mean \"class\"");
    (void)unlink(path);
    assert_null(load_with(path, ""));
    complained("test.toml", 12, 1, "cannot read");
    memory_free(path);
    path = write_file("class = [\n");
    assert_null(load_with(path, ""));
    complained(path, 1, 11, "not TOML");
    (void)unlink(path);
    memory_free(path);
}

/* Each on its own is allowed: nothing is left that would end the start of the server. */
TEST(classes, the_most_rules_of_the_longest_texts_can_be_used)
{
    struct bytes file;
    struct config *config;
    char *path;

    bytes_init(&file, 4 << 20);
    for (int i = 0; i < CLASS_RULES_MAX; i++)
        assert_int_equal(
            bytes_format(&file, "[[class]]\nclass = \"rate\"\ntext = \"%0200d\"\n", i),
            RESULT_OK);
    assert_int_equal(bytes_add(&file, (struct slice){"", 1}), RESULT_OK);
    path = write_file(file.data);
    config = load_with(path, file.data);
    assert_non_null(config);
    assert_int_equal(classifier_count(config_classifier(config)), 2 * CLASS_RULES_MAX);
    config_free(config);
    (void)unlink(path);
    memory_free(path);
    bytes_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(classes, each_reply_has_its_class_and_each_rule_a_reply),
        RUN(classes, those_of_the_file_come_first),
        RUN(classes, a_file_stands_in_the_place_of_the_shipped_ones),
        RUN(classes, a_wrong_rule_is_pointed_at),
        RUN(classes, complaints_of_a_rule_file_name_it),
        RUN(classes, the_most_rules_of_the_longest_texts_can_be_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
