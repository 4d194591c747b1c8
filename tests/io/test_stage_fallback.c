/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing a directory where the file system has no atomic exchange: stage.c compiled a second
 * time with a renameat2 that says so. */
#include <errno.h>
#include <stdio.h>

static int no_exchange(void) {
    errno = ENOSYS;
    return -1;
}
#define renameat2(...) no_exchange()
#include "../../src/io/stage.c"
#undef renameat2

#define FILE_NAME "out"
#include "hostile.h"

static void commit_with(const char *text, bool replace) {
    struct mil_error err = {0};
    struct stage s;
    char file[PATH_CAP];
    assert_ok(stage_open(&s, path, replace, &err));
    assert_ok(path_join(file, s.tmp, "f", &err));
    assert_ok(file_write(file, text, strlen(text), &err));
    assert_ok(stage_commit(&s, &err));
    struct str got = {0};
    assert_ok(path_join(file, path, "f", &err));
    assert_ok(file_read(file, 100, &got, &err));
    assert_string_equal(str_c(&got), text);
    str_release(&got);
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    assert_int_equal(n, 1); /* nothing temporary is left */
    dir_list_free(names, n);
}

static void directories_are_replaced_by_two_renames(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct stage s;
    commit_with("one", false);
    commit_with("two", true);
    assert_int_equal(rmdir(path), -1);
    char moved[PATH_CAP + 8];
    snprintf(moved, sizeof moved, "%s-moved", path);
    assert_int_equal(rename(path, moved), 0);
    assert_ok(stage_open(&s, path, false, &err));
    assert_int_equal(rename(moved, path), 0); /* somebody was faster */
    assert_fails(stage_commit(&s, &err), MIL_ACCESS, "File exists");
    commit_with("three", true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(directories_are_replaced_by_two_renames, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
