#include "server/bus/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"

static const struct good {
    const char *text, *shown;
    const char *user, *password;
} good[] = {
    {"redis://localhost", "redis://localhost:6379/0", "", ""},
    {"redis://localhost/", "redis://localhost:6379/0", "", ""},
    {"redis://10.1.2.3:7000/5", "redis://10.1.2.3:7000/5", "", ""},
    {"redis://[::1]", "redis://[::1]:6379/0", "", ""},
    {"redis://[fe80::1%eth0]:7001/1", "redis://[fe80::1%eth0]:7001/1", "", ""},
    {"redis://:pw@h", "redis://h:6379/0", "", "pw"},
    {"redis://me:pw@h:1/2", "redis://h:1/2", "me", "pw"},
    {"redis://m%65:p%40%2F%3a%25@h", "redis://h:6379/0", "me", "p@/:%"},
    {"redis://:a@b/c:d@h", "redis://h:6379/0", "", "a@b/c:d"},
    {"redis://:p%C3%A4ss@h", "redis://h:6379/0", "", "p\xc3\xa4ss"},
    {"redis+sentinel://a/m", "redis+sentinel://a:26379/m/0", "", ""},
    {"redis+sentinel://a,b:1,[::2]:3/my%20m/4", "redis+sentinel://a:26379,b:1,[::2]:3/my m/4", "",
     ""},
    {"redis+sentinel://u:p@a,b/m", "redis+sentinel://a:26379,b:26379/m/0", "u", "p"},
};

static const struct bad {
    const char *text, *says;
} bad[] = {
    {"", "must begin with"},
    {"memory:", "must begin with"},
    {"localhost:6379", "must begin with"},
    {"REDIS://h", "must begin with"},
    {"rediss://:hunter2@h", "stunnel"},
    {"redis+cluster://:hunter2@h", "one slot"},
    {"redis://", "host"},
    {"redis://:hunter2@", "host"},
    {"redis://hunter2@h", "user:password"},
    {"redis://u:@h", "password is empty"},
    {"redis://:hunter2%@h", "percent"},
    {"redis://:hunter2%0@h", "percent"},
    {"redis://:hunter2%0g@h", "percent"},
    {"redis://:hunter2%00@h", "percent"},
    {"redis://h:0", "port"},
    {"redis://h:", "port"},
    {"redis://h:65536", "port"},
    {"redis://h:99999999999999999999", "port"},
    {"redis://h:12x", "port"},
    {"redis://h:-1", "port"},
    {"redis://::1", "brackets"},
    {"redis://[::1", "brackets"},
    {"redis://[::1]6379", "brackets"},
    {"redis://[]", "host"},
    {"redis://h h", "character"},
    {"redis://h?db=1", "character"},
    {"redis://a,b", "one host"},
    {"redis://h/x", "db"},
    {"redis://h/-1", "db"},
    {"redis://h/1/2", "db"},
    {"redis://h/99999999", "db"},
    {"redis+sentinel://a", "master"},
    {"redis+sentinel://a/", "master"},
    {"redis+sentinel://a//1", "master"},
    {"redis+sentinel://a,/m", "host"},
    {"redis+sentinel://,a/m", "host"},
    {"redis+sentinel://a/m/x", "db"},
    {"redis+sentinel://1,2,3,4,5,6,7,8,9,10/m", "more than 9"},
    {"redis://:hunter2:hunter2/hunter2", "character"},
};

static void good_urls_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct pl_redis_url u;
        char err[200] = "", shown[400];

        if (pl_redis_url_parse(good[i].text, &u, err, sizeof(err)) != PL_OK) {
            fail_msg("%s: %s", good[i].text, err);
        }
        pl_redis_url_show(&u, shown, sizeof(shown));
        assert_string_equal(shown, good[i].shown);
        assert_string_equal(u.user, good[i].user);
        assert_string_equal(u.password, good[i].password);
    }
}

static void bad_urls_are_refused_with_a_sentence_without_the_password(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pl_redis_url u = {.db = 77};
        char err[200] = "";

        if (pl_redis_url_parse(bad[i].text, &u, err, sizeof(err)) != PL_ERR_INVALID) {
            fail_msg("accepted: %s", bad[i].text);
        }
        if (strstr(err, bad[i].says) == NULL || strstr(err, "hunter2") != NULL) {
            fail_msg("%s: %s", bad[i].text, err);
        }
        assert_int_equal(u.db, 77);
    }
}

static void what_is_too_long_is_refused(void **state)
{
    static const struct {
        const char *before, *after;
        size_t longest;
    } rows[] = {
        {"redis://", "", 255},
        {"redis://", ":p@h", 127},
        {"redis://:", "@h", 255},
        {"redis+sentinel://h/", "", 127},
    };
    char text[400], part[300], err[200];
    struct pl_redis_url u;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t extra = 0; extra < 2; extra++) {
            memset(part, 'a', sizeof(part));
            part[rows[i].longest + extra] = '\0';
            (void)snprintf(text, sizeof(text), "%s%s%s", rows[i].before, part, rows[i].after);
            assert_int_equal(pl_redis_url_parse(text, &u, err, sizeof(err)),
                             extra ? PL_ERR_INVALID : PL_OK);
        }
    }
}

static void showing_never_overflows(void **state)
{
    struct pl_redis_url u;
    char err[200], out[64];

    (void)state;
    assert_int_equal(pl_redis_url_parse("redis+sentinel://aaaaaaaa,bbbbbbbb,cccccccc/master/1", &u,
                                        err, sizeof(err)),
                     PL_OK);
    for (unsigned size = 1; size < sizeof(out); size++) {
        memset(out, 'x', sizeof(out));
        pl_redis_url_show(&u, out, size);
        assert_true(strlen(out) < size);
        assert_int_equal(out[size], 'x');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls_are_taken_apart),
        cmocka_unit_test(bad_urls_are_refused_with_a_sentence_without_the_password),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(showing_never_overflows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
