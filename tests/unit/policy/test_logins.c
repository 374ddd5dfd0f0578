#include "logins.h"

#include "test.h"

TEST(logins, are_known_until_they_are_cleared)
{
    struct loop *loop;
    struct logins *logins;
    uint8_t one[SECURE_DIGEST] = {1};
    uint8_t two[SECURE_DIGEST] = {2};

    secure_init();
    loop = loop_new();
    logins = logins_new(loop);
    assert_false(logins_has(logins, one));
    logins_add(logins, one);
    logins_add(logins, one);
    assert_true(logins_has(logins, one));
    assert_false(logins_has(logins, two));
    logins_clear(logins);
    assert_false(logins_has(logins, one));
    logins_free(logins);
    loop_free(loop);
}

TEST(logins, forget_the_oldest_when_they_are_full)
{
    struct loop *loop;
    struct logins *logins;
    uint8_t digest[SECURE_DIGEST] = {0};

    secure_init();
    loop = loop_new();
    logins = logins_new(loop);
    for (int i = 0; i < 10001; i++) {
        digest[0] = (uint8_t)(i & 255);
        digest[1] = (uint8_t)(i >> 8);
        logins_add(logins, digest);
    }
    assert_true(logins_has(logins, digest));
    digest[0] = digest[1] = 0;
    assert_false(logins_has(logins, digest));
    digest[0] = 1;
    assert_true(logins_has(logins, digest));
    logins_free(logins);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(logins, are_known_until_they_are_cleared),
        RUN(logins, forget_the_oldest_when_they_are_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
