/* What every unit test includes: cmocka (1.1.5 wants these four headers before it). */
#ifndef SMTPD_TESTS_TEST_H
#define SMTPD_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* TEST(group, what_happens) { ... }; run it with RUN(group, what_happens). */
#define TEST(group, name) static void group##_##name(void **state __attribute__((unused)))
#define RUN(group, name) cmocka_unit_test(group##_##name)

#endif
