/* The suppression list over the socket: added, listed in parts, removed; what cannot be is
 * said. */
#include "admin_world.h"

static const json_t *items(struct world *world, const char *path)
{
    assert_int_equal(world_get(world, path), 200);
    return json_object_get(world->json, "items");
}

TEST(suppression, an_entry_is_added_shown_and_removed)
{
    struct world *world = *state;
    const json_t *item;

    assert_int_equal(world_post(world, "/v1/suppression/change",
                                "{\"change\":\"add\",\"entries\":[{\"address\":"
                                "\"Bob@Example.com\",\"tenant\":\"red\",\"reason\":"
                                "\"asked\",\"expires_ms\":99999999999999},"
                                "{\"address\":\"@example.net\",\"tenant\":null}]}"),
                     200);
    assert_int_equal(world_number(world->json, "added"), 2);
    assert_int_equal(world_number(world->json, "replaced"), 0);
    item = json_array_get(items(world, "/v1/suppression?address=bob@EXAMPLE.com"), 0);
    assert_string_equal(world_text(item, "address"), "bob@example.com");
    assert_string_equal(world_text(item, "tenant"), "red");
    assert_string_equal(world_text(item, "reason"), "asked");
    assert_string_equal(world_text(item, "source"), "command");
    assert_int_equal(world_number(item, "expires_ms"), INT64_C(99999999999999));
    assert_int_equal(json_array_size(items(world, "/v1/suppression")), 2);
    assert_int_equal(json_array_size(items(world, "/v1/suppression?tenant=")), 1);
    assert_int_equal(json_array_size(items(world, "/v1/suppression?tenant=blue")), 0);
    assert_int_equal(json_array_size(items(world, "/v1/suppression?domain=Example.NET")),
                     1);
    assert_int_equal(world_post(world, "/v1/suppression/change",
                                "{\"change\":\"remove\",\"entries\":[{\"address\":"
                                "\"bob@example.com\",\"tenant\":\"red\"},"
                                "{\"address\":\"bob@example.com\"}]}"),
                     200);
    assert_int_equal(world_number(world->json, "removed"), 1);
    assert_int_equal(world_number(world->json, "absent"), 1);
    assert_int_equal(json_array_size(items(world, "/v1/suppression")), 1);
}

TEST(suppression, a_long_list_comes_in_parts)
{
    struct world *world = *state;
    struct bytes body;
    size_t count = 0;
    size_t parts = 0;
    int64_t first = 0;

    for (int batch = 0; batch < 3; batch++) {
        bytes_init(&body, 1 << 20);
        assert_int_equal(bytes_add_text(&body, "{\"change\":\"add\",\"entries\":["),
                         RESULT_OK);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(bytes_format(&body, "%s{\"address\":\"u%d-%d@x.test\"}",
                                          i ? "," : "", batch, i),
                             RESULT_OK);
        assert_int_equal(bytes_add(&body, (struct slice){"]}", 3}), RESULT_OK);
        assert_int_equal(world_post(world, "/v1/suppression/change", body.data), 200);
        bytes_fini(&body);
    }
    do {
        char path[64];

        (void)snprintf(path, sizeof path, "/v1/suppression?first=%lld", (long long)first);
        count += json_array_size(items(world, path));
        first = json_integer_value(json_object_get(world->json, "next"));
        parts++;
    } while (first > 0);
    assert_int_equal(count, 3000);
    assert_true(parts > 2);
}

TEST(suppression, what_cannot_be_is_said)
{
    static const char *const bodies[] = {
        "",
        "{\"change\":\"retry\",\"entries\":[{\"address\":\"a@b.test\"}]}",
        "{\"change\":\"add\"}",
        "{\"change\":\"add\",\"entries\":[]}",
        "{\"change\":\"add\",\"entries\":[{}]}",
        "{\"change\":\"add\",\"entries\":[{\"address\":7}]}",
        "{\"change\":\"add\",\"entries\":[{\"address\":\"nobody\"}]}",
        "{\"change\":\"add\",\"entries\":[{\"address\":\"a@b.test\",\"tenant\":7}]}",
        "{\"change\":\"add\",\"entries\":[{\"address\":\"a@b.test\",\"expires_ms\":7}]}",
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_int_equal(world_post(world, "/v1/suppression/change", bodies[i]), 400);
    assert_int_equal(world_get(world, "/v1/suppression?address=nobody"), 400);
    assert_int_equal(world_get(world, "/v1/suppression?domain=a..b"), 400);
    assert_int_equal(world_get(world, "/v1/suppression?first=x"), 400);
    assert_int_equal(json_array_size(items(world, "/v1/suppression")), 0);
}

/* The client has gone: the change is made. */
TEST(suppression, a_change_goes_on_without_its_client)
{
    static const char request[] =
        "POST /v1/suppression/change HTTP/1.1\r\nHost: x\r\nContent-Length: 54\r\n\r\n"
        "{\"change\":\"add\",\"entries\":[{\"address\":\"a@gone.test\"}]}";
    struct world *world = *state;
    struct suppression_entry entry;
    int fd = world_dial(world);

    world_write(world, fd, SLICE(request));
    loop_run_for(world->loop, 1);
    (void)close(fd);
    WORLD_UNTIL(world, suppression_find(world->suppression, NULL, "a@gone.test", &entry));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(suppression_an_entry_is_added_shown_and_removed,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(suppression_a_long_list_comes_in_parts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(suppression_what_cannot_be_is_said, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(suppression_a_change_goes_on_without_its_client,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
