#include "server/base/alloc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers abort on absurd sizes unless told that malloc may fail. */
/* NOLINTBEGIN(readability-identifier-naming) */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}
/* NOLINTEND(readability-identifier-naming) */

static volatile size_t absurd = PTRDIFF_MAX;

static void memory_is_zeroed(void **state)
{
    unsigned char *a = pl_alloc(100);
    unsigned char *b = pl_try_alloc(100);

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(a[i] | b[i], 0);
    }
    free(a);
    free(b);
}

static void realloc_keeps_what_was_there(void **state)
{
    char *s = pl_strdup("abc");

    (void)state;
    s = pl_realloc(s, 1000);
    assert_string_equal(s, "abc");
    s = pl_try_realloc(s, 4);
    assert_string_equal(s, "abc");
    free(s);
}

static void strndup_copies_bytes_and_terminates(void **state)
{
    char *s = pl_strndup("ab\0cd", 5);
    char *empty = pl_strndup(NULL, 0);

    (void)state;
    assert_memory_equal(s, "ab\0cd", 6);
    assert_string_equal(empty, "");
    free(s);
    free(empty);
}

static void trying_returns_null_when_memory_is_short(void **state)
{
    char *s = pl_strdup("kept");

    (void)state;
    assert_null(pl_try_alloc(absurd));
    assert_null(pl_try_realloc(s, absurd));
    assert_string_equal(s, "kept");
    free(s);
}

/* Runs fn in a child that must abort, and returns what it said on stderr. */
static void dying_words(void (*fn)(void), char *out, size_t size)
{
    int fds[2];
    int status;
    size_t len = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], out + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    out[len] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void allocate_too_much(void)
{
    free(pl_alloc(absurd));
}

static void fail_an_assertion(void)
{
    PL_ASSERT(absurd == 1);
}

static void running_out_of_memory_aborts_and_says_so(void **state)
{
    char words[8192];

    (void)state;
    dying_words(allocate_too_much, words, sizeof(words));
    assert_non_null(strstr(words, "parley: out of memory"));
}

static void a_failed_assertion_names_its_place(void **state)
{
    char words[8192];

    (void)state;
    dying_words(fail_an_assertion, words, sizeof(words));
    assert_non_null(strstr(words, "alloc_test.c:"));
    assert_non_null(strstr(words, "assertion failed: absurd == 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed),
        cmocka_unit_test(realloc_keeps_what_was_there),
        cmocka_unit_test(strndup_copies_bytes_and_terminates),
        cmocka_unit_test(trying_returns_null_when_memory_is_short),
        cmocka_unit_test(running_out_of_memory_aborts_and_says_so),
        cmocka_unit_test(a_failed_assertion_names_its_place),
    };

    return cmocka_run_group_tests_name("base/alloc", tests, NULL, NULL);
}
