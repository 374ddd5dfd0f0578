/* The stored bytes of a message, over the socket. */
#include "admin_world.h"

static char *bytes_that_differ(size_t length)
{
    char *text = memory_new(length + 1);

    for (size_t i = 0; i < length; i++)
        text[i] = (char)(i * 2654435761U >> 13);
    return text;
}

static int start(struct world *world, uint64_t id, const char *query)
{
    char path[64];
    char text[ID_TEXT];

    id_print(id, text);
    (void)snprintf(path, sizeof path, "/v1/message/%s%s", text, query);
    return world_start(world, "GET", path, NULL);
}

static unsigned ask(struct world *world, uint64_t id, const char *query)
{
    return world_finish(world, start(world, id, query));
}

static void expect(const struct world *world, struct slice body)
{
    struct slice got = world_body(world);

    assert_int_equal(got.length, WORLD_HEADER.length + body.length);
    assert_memory_equal(got.data, WORLD_HEADER.data, WORLD_HEADER.length);
    if (body.length > 0)
        assert_memory_equal(got.data + WORLD_HEADER.length, body.data, body.length);
}

static void expect_length(const struct world *world, size_t length)
{
    char line[64];

    (void)snprintf(line, sizeof line, "\r\nContent-Length: %zu\r\n", length);
    assert_non_null(memmem(world->answer.data, world->answer.length, line, strlen(line)));
}

static uint64_t window_bytes(const struct world *world)
{
    struct queue_statistics statistics;

    queue_statistics(world->queue, &statistics);
    return statistics.outbound_window_bytes;
}

TEST(message_api, the_whole_message_and_its_header_section_alone)
{
    struct world *world = *state;
    struct slice body = SLICE("one\r\n..two\r\n");
    uint64_t id =
        world_send(world, &(struct world_mail){.recipients = {"a@to.test"}, .body = body});

    assert_int_equal(ask(world, id, ""), 200);
    expect(world, body);
    expect_length(world, WORLD_HEADER.length + body.length);
    assert_int_equal(ask(world, id, "?part=message"), 200);
    expect(world, body);
    assert_int_equal(ask(world, id, "?part=headers"), 200);
    expect(world, SLICE_NONE);
    expect_length(world, WORLD_HEADER.length);
    assert_int_equal(window_bytes(world), 0);
}

TEST(message_api, a_large_message_comes_whole_in_many_pieces)
{
    enum { BYTES = 5 * LIMIT_PIECE_BYTES + 123 };
    struct world *world = *state;
    char *text = bytes_that_differ(BYTES);
    struct slice body = {text, BYTES};
    uint64_t id =
        world_send(world, &(struct world_mail){.recipients = {"a@to.test"}, .body = body});

    assert_int_equal(ask(world, id, ""), 200);
    expect(world, body);
    assert_int_equal(ask(world, id, "?part=headers"), 200);
    expect(world, SLICE_NONE);
    assert_int_equal(window_bytes(world), 0);
    memory_free(text);
}

TEST(message_api, what_is_no_id_and_what_is_not_there_are_told_apart)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    static const char *const wrong[] = {"a", "aaaaaaaaaaaaaa", "AAAAAAAAAAAA1",
                                        "aaaaaaaaaaaa%20", "..%2f..%2fetc"};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char path[64];

        (void)snprintf(path, sizeof path, "/v1/message/%s", wrong[i]);
        assert_in_range(world_get(world, path), 400, 404);
        assert_non_null(world_error(world));
    }
    assert_int_equal(ask(world, id + 1, ""), 404);
    assert_int_equal(ask(world, id - 1, ""), 404); /* its neighbour is not taken for it */
    assert_non_null(strstr(world_error(world), "no such message"));
}

TEST(message_api, a_part_that_no_message_has_is_refused)
{
    static const char *const parts[] = {"?part=", "?part=body", "?part=HEADERS", "?part"};
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_int_equal(ask(world, id, parts[i]), 400);
        assert_non_null(strstr(world_error(world), "part"));
    }
}

TEST(message_api, without_a_window_it_says_try_again_and_not_gone)
{
    enum { READERS_MOST = LIMIT_OUTBOUND_WINDOW_BYTES / LIMIT_PIECE_BYTES + 1 };
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    struct lease *lease = world_take(world, "to.test");
    struct body_reader **readers = NEW_ARRAY(struct body_reader *, READERS_MOST);
    size_t count = 0;

    while (count < READERS_MOST &&
           body_reader_open(world->queue, &lease->envelope, &readers[count]) == RESULT_OK)
        count++;
    assert_in_range(count, 1, READERS_MOST - 1);
    assert_int_equal(ask(world, id, ""), 503);
    assert_non_null(strstr(world_error(world), "try again"));
    for (size_t i = 0; i < count; i++)
        body_reader_close(readers[i]);
    assert_int_equal(ask(world, id, ""), 200);
    lease_release(lease);
    memory_free(readers);
}

/* Larger than what the kernel takes from a server whose client does not read. */
static int start_large(struct world *world)
{
    enum { BYTES = 8 << 20 };
    char *text = bytes_that_differ(BYTES);
    uint64_t id = world_send(
        world, &(struct world_mail){.recipients = {"a@to.test"}, .body = {text, BYTES}});
    int fd = start(world, id, "");

    memory_free(text);
    WORLD_UNTIL(world, window_bytes(world) > 0);
    for (int turns = 0; turns < 20; turns++)
        loop_run_for(world->loop, 1);
    return fd;
}

TEST(message_api, a_client_that_leaves_in_the_middle_gives_its_window_back)
{
    struct world *world = *state;
    int fd = start_large(world);

    (void)close(fd);
    WORLD_UNTIL(world, window_bytes(world) == 0);
}

TEST(message_api, a_download_is_cut_when_the_socket_closes)
{
    struct world *world = *state;
    int fd = start_large(world);

    admin_close(world->admin);
    world->admin = NULL;
    assert_int_equal(window_bytes(world), 0);
    assert_int_equal(world_finish(world, fd), 200); /* it had begun */
    assert_true(world_body(world).length < 8 << 20);
    expect_length(world, WORLD_HEADER.length + (8 << 20));
}

TEST(message_api, closing_before_the_message_is_found_is_safe)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    int fd = world_dial(world);
    struct bytes text;
    char name[ID_TEXT];

    id_print(id, name);
    bytes_init(&text, 1000);
    assert_int_equal(bytes_format(&text, "GET /v1/message/%s HTTP/1.0\r\n\r\n", name),
                     RESULT_OK);
    assert_int_equal(send(fd, text.data, text.length, 0), text.length);
    bytes_fini(&text);
    loop_run_for(world->loop, 0);
    admin_close(world->admin);
    world->admin = NULL;
    assert_int_equal(window_bytes(world), 0);
    (void)world_finish(world, fd);
}

#define WITH_WORLD(name)                                                                   \
    cmocka_unit_test_setup_teardown(message_api_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(the_whole_message_and_its_header_section_alone),
        WITH_WORLD(a_large_message_comes_whole_in_many_pieces),
        WITH_WORLD(what_is_no_id_and_what_is_not_there_are_told_apart),
        WITH_WORLD(a_part_that_no_message_has_is_refused),
        WITH_WORLD(without_a_window_it_says_try_again_and_not_gone),
        WITH_WORLD(a_client_that_leaves_in_the_middle_gives_its_window_back),
        WITH_WORLD(a_download_is_cut_when_the_socket_closes),
        WITH_WORLD(closing_before_the_message_is_found_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
