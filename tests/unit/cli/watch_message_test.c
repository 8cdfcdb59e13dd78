#include "server/cli/watch_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The events go into memory; what happens to the link is said on stderr. */
static struct pl_cli_args args;
static struct pl_watch w;
static char *printed;
static size_t printed_len;

static int start(void **state)
{
    (void)state;
    args = (struct pl_cli_args){.json = true};
    w = (struct pl_watch){.args = &args,
                          .transport = PL_CLI_WEBSOCKET,
                          .position = -1,
                          .printed = -1,
                          .ping_interval_ms = 25000};
    w.events = open_memstream(&printed, &printed_len);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fclose(w.events);
    free(printed);
    return 0;
}

static bool ping;

static bool take(const char *json)
{
    return pl_watch__take(&w, PL_JSON, json, strlen(json), 1000, &ping);
}

static void each_event_is_one_line_and_moves_the_position(void **state)
{
    (void)state;
    assert_true(
        take("{\"op\":\"events\",\"events\":[{\"event_id\":5, \"type\":\"a\\n\"},{\"event_id\":7}],"
             "\"last_event_id\":9}"));
    assert_string_equal(printed, "{\"event_id\":5,\"type\":\"a\\n\"}\n{\"event_id\":7}\n");
    assert_int_equal(w.position, 9);
    assert_int_equal(w.count, 2);
}

static void an_event_that_was_printed_is_not_printed_again(void **state)
{
    (void)state;
    take("{\"op\":\"events\",\"events\":[{\"event_id\":5}],\"last_event_id\":5}");
    take("{\"op\":\"events\",\"events\":[{\"event_id\":4},{\"event_id\":5},{\"event_id\":6}],"
         "\"last_event_id\":6}");
    assert_string_equal(printed, "{\"event_id\":5}\n{\"event_id\":6}\n");
}

static void no_more_events_are_printed_than_were_asked_for(void **state)
{
    (void)state;
    args.count = 2;
    take("{\"events\":[{\"event_id\":1},{\"event_id\":2},{\"event_id\":3}],\"last_event_id\":3}");
    assert_true(pl_watch__is_complete(&w));
    assert_string_equal(printed, "{\"event_id\":1}\n{\"event_id\":2}\n");
}

static void a_polls_body_is_taken_like_a_message(void **state)
{
    static const char msgpack[] = "\x82\xa6"
                                  "events\x91\x81\xa8"
                                  "event_id\x05\xad"
                                  "last_event_id\x06";

    (void)state;
    assert_true(pl_watch__take(&w, PL_MSGPACK, msgpack, sizeof(msgpack) - 1, 0, &ping));
    assert_string_equal(printed, "{\"event_id\":5}\n");
    assert_int_equal(w.position, 6);
    assert_false(ping);
}

static void pings_ask_for_an_answer_and_move_the_position(void **state)
{
    (void)state;
    assert_true(take("{\"op\":\"ping\",\"last_event_id\":12}"));
    assert_true(ping);
    assert_int_equal(w.position, 12);
    assert_true(take("{\"op\":\"pong\",\"last_event_id\":13}"));
    assert_false(ping);
    assert_int_equal(w.position, 13);
}

static void the_position_goes_back_only_with_a_catch_up(void **state)
{
    (void)state;
    take("{\"op\":\"ping\",\"last_event_id\":12}");
    take("{\"op\":\"ping\",\"last_event_id\":3}");
    assert_int_equal(w.position, 12);
    take("{\"op\":\"catchup_required\",\"catchup_required\":true,\"reason\":\"ahead\",\"last_event_"
         "id\":3}");
    assert_int_equal(w.position, 3);
}

static void a_welcome_names_the_queue_and_the_interval(void **state)
{
    (void)state;
    assert_true(
        take("{\"op\":\"welcome\",\"queue_id\":\"q-1\",\"last_event_id\":4,\"resumed\":false,"
             "\"transports\":[\"websocket\"],\"ping_interval_ms\":700}"));
    assert_string_equal(w.queue_id, "q-1");
    assert_int_equal(w.position, 4);
    assert_int_equal(w.ping_interval_ms, 700);
    assert_true(w.welcomed);
    assert_int_equal(w.refused_transport, PL_CLI_AUTO);
}

static void a_registration_does_not_move_a_position_there_is(void **state)
{
    (void)state;
    assert_true(take("{\"queue_id\":\"q-1\",\"last_event_id\":9,\"resumed\":false}"));
    assert_int_equal(w.position, 9);
    assert_true(take("{\"queue_id\":\"q-2\",\"last_event_id\":20,\"resumed\":false}"));
    assert_int_equal(w.position, 9);
    assert_string_equal(w.queue_id, "q-2");
}

static void a_queue_id_that_is_too_long_is_not_taken(void **state)
{
    char text[400] = "{\"queue_id\":\"";

    (void)state;
    memset(text + strlen(text), 'q', 200);
    strcat(text, "\"}");
    assert_true(take(text));
    assert_string_equal(w.queue_id, "");
    assert_false(w.welcomed);
}

static void a_goaway_sets_the_time_of_the_next_link(void **state)
{
    (void)state;
    assert_true(take("{\"op\":\"goaway\",\"reason\":\"draining\",\"reconnect_after_ms\":500,"
                     "\"transports\":[\"websocket\",\"longpoll\"]}"));
    assert_int_equal(w.goaway_at_ms, 1500);
    assert_int_equal(w.refused_transport, PL_CLI_AUTO);
    assert_true(take("{\"events\":[],\"last_event_id\":1,\"goaway\":{\"reason\":\"transport\","
                     "\"reconnect_after_ms\":9,"
                     "\"transports\":[\"longpoll\"]}}"));
    assert_int_equal(w.goaway_at_ms, 1009);
    assert_int_equal(w.refused_transport, PL_CLI_WEBSOCKET);
}

static void what_is_unknown_is_ignored_and_what_is_no_message_refused(void **state)
{
    (void)state;
    assert_true(take("{\"op\":\"brand_new\",\"x\":[1,2]}"));
    assert_true(take("{\"op\":1,\"events\":{},\"last_event_id\":\"x\",\"queue_id\":7,\"goaway\":1,"
                     "\"transports\":1}"));
    assert_true(take("{\"events\":[1,\"x\",{\"event_id\":\"y\"}]}"));
    assert_false(take("[]"));
    assert_false(take("{\"op\":"));
    assert_false(take(""));
    assert_int_equal(w.count, 0);
    assert_int_equal(w.position, -1);
}

#define WITH_WATCH(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WATCH(each_event_is_one_line_and_moves_the_position),
        WITH_WATCH(an_event_that_was_printed_is_not_printed_again),
        WITH_WATCH(no_more_events_are_printed_than_were_asked_for),
        WITH_WATCH(a_polls_body_is_taken_like_a_message),
        WITH_WATCH(pings_ask_for_an_answer_and_move_the_position),
        WITH_WATCH(the_position_goes_back_only_with_a_catch_up),
        WITH_WATCH(a_welcome_names_the_queue_and_the_interval),
        WITH_WATCH(a_registration_does_not_move_a_position_there_is),
        WITH_WATCH(a_queue_id_that_is_too_long_is_not_taken),
        WITH_WATCH(a_goaway_sets_the_time_of_the_next_link),
        WITH_WATCH(what_is_unknown_is_ignored_and_what_is_no_message_refused),
    };

    return cmocka_run_group_tests_name("cli/watch_message", tests, NULL, NULL);
}
