/* What a record should say, and each way in which one may be wrong. */
#include "record.h"

#include "key_samples.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

TEST(record, it_is_written_for_a_zone_file)
{
    struct bytes zone;
    char name[RECORD_NAME];
    static char text[600];

    bytes_init(&zone, 10000);
    assert_true(record_name("example.test", "s1", name));
    assert_int_equal(record_write_zone(name, SLICE("v=DKIM1; p="), &zone), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&zone),
                                 "s1._domainkey.example.test. IN TXT \"v=DKIM1; p=\""));
    bytes_clear(&zone);
    memset(text, 'x', 511);
    assert_int_equal(record_write_zone("n", slice_of(text), &zone), RESULT_OK);
    assert_int_equal(zone.length,
                     strlen("n. IN TXT (") + 3 * strlen("\n    \"\"") + 511 + strlen(" )"));
    bytes_fini(&zone);
}

TEST(record, a_key_writes_what_is_judged_as_good)
{
    static const char *const pems[] = {rsa_pem, ed25519_pem};

    for (int i = 0; i < 2; i++) {
        struct check_problem problems[CHECK_PROBLEMS_MAX];
        struct private_key *key = NULL;
        struct bytes record;
        struct bytes plain;

        bytes_init(&record, RECORD_MAX);
        bytes_init(&plain, RECORD_MAX);
        assert_int_equal(private_key_parse(pems[i], "pem", &key, NULL), RESULT_OK);
        assert_int_equal(record_write(key, &record), RESULT_OK);
        assert_int_equal(private_key_public(key, &plain), RESULT_OK);
        assert_int_equal(record_judge(bytes_view(&record), private_key_kind(key),
                                      bytes_view(&plain), problems),
                         0);
        private_key_free(key);
        bytes_fini(&record);
        bytes_fini(&plain);
    }
}

/* The names of all problems, for the key of ed25519_pem. */
static const char *judge(const char *text)
{
    static char names[256];
    struct check_problem problems[CHECK_PROBLEMS_MAX];
    struct bytes plain;
    size_t count;

    bytes_init(&plain, 64);
    assert_int_equal(bytes_add_base64_decoded(&plain, slice_of(ed25519_public)), RESULT_OK);
    count = record_judge(slice_of(text), KEY_ED25519, bytes_view(&plain), problems);
    bytes_fini(&plain);
    assert_true(count <= CHECK_PROBLEMS_MAX);
    names[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        assert_true(problems[i].text[0]);
        (void)snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                       i > 0 ? " " : "", check_code_name(problems[i].code));
    }
    return names;
}

#define P "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

TEST(record, what_is_right_has_no_problem)
{
    static const char *const texts[] = {
        "v=DKIM1; k=ed25519; " P,
        "k=ed25519;" P,
        " v = DKIM1 ;\r\n\tk = ed25519;p=11qYAYKxCrfVS/7TyWQH Og7hcvPapiMlr\twIaaPcHURo= "
        "; ",
        "v=DKIM1; h=sha1 : sha256; k=ed25519; s=*; t=s; n=a note; x=unknown; " P,
        "v=DKIM1; k=ed25519; s=tlsrpt:email; " P,
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(judge(texts[i]), "");
}

TEST(record, each_problem_is_named)
{
    static const struct {
        const char *text;
        const char *problems;
    } rows[] = {
        {"", "malformed"},
        {";;", "malformed"},
        {"hello", "malformed"},
        {"=x", "malformed"},
        {"v=DKIM1; k=ed25519; " P "; p=", "malformed"},
        {"v=DKIM1; k=ed25519", "malformed"},
        {"v=DKIM2; k=ed25519; " P, "version"},
        {"k=ed25519; v=DKIM1; " P, "version"},
        {"v=DKIM1; k=ed25519; p=", "revoked"},
        {"v=DKIM1; k=ed25519; p= \r\n ", "revoked"},
        {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURp=", "other-key"},
        {"v=DKIM1; k=ed25519; p=!!!", "other-key"},
        {"v=DKIM1; k=rsa; " P, "key-type"},
        {"v=DKIM1; " P, "key-type"},
        {"v=DKIM1; h=sha1; k=ed25519; " P, "no-sha256"},
        {"v=DKIM1; k=ed25519; s=tlsrpt; " P, "not-email"},
        {"v=DKIM1; k=ed25519; t=s:y; " P, "testing"},
        {"v=x; k=rsa; h=sha1; s=x; t=y; p=AAAA",
         "version key-type other-key no-sha256 not-email testing"},
        {"a=1;b=1;c=1;d=1;e=1;f=1;g=1;i=1;j=1;l=1;m=1;n=1;o=1;q=1;r=1;u=1;w=1;x=1;y=1;z=1;"
         "A=1;B=1;C=1;D=1;E=1;F=1;G=1;I=1;J=1;L=1;M=1;N=1;O=1",
         "malformed"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(judge(rows[i].text), rows[i].problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(record, it_is_written_for_a_zone_file),
        RUN(record, a_key_writes_what_is_judged_as_good),
        RUN(record, what_is_right_has_no_problem),
        RUN(record, each_problem_is_named),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
