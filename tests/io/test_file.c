/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories: whole or absent, also when the disk is full, the place is forbidden, or
 * the process is killed at any moment. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "io/file.h"

static const char *dir; /* fresh for each test */

static int set_up(void **state) {
    (void)state;
    dir = test_tmp_dir();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return dir_remove(dir, NULL) == MIL_OK ? 0 : -1;
}

/* "<dir>/<name>" in one of four buffers that take turns. */
static const char *in_dir(const char *name) {
    static char paths[4][PATH_CAP];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, PATH_CAP, "%s/%s", dir, name);
    return path;
}

static void put(const char *path, const char *text) {
    struct mil_error err = {0};
    assert_ok(file_write(path, text, strlen(text), &err));
}

static void assert_holds(const char *path, const char *text) {
    struct mil_error err = {0};
    struct str s = {0};
    assert_ok(file_read(path, 1 << 20, &s, &err));
    assert_string_equal(str_c(&s), text);
    str_release(&s);
}

static size_t entries(const char *path) {
    struct mil_error err = {0};
    char **names;
    size_t n;
    assert_ok(dir_list(path, &names, &n, &err));
    dir_list_free(names, n);
    return n;
}

static void paths_join_and_split(void **state) {
    (void)state;
    struct mil_error err = {0};
    char out[PATH_CAP], big[PATH_CAP + 10];
    assert_ok(path_join(out, "a", "b", &err));
    assert_string_equal(out, "a/b");
    assert_ok(path_join(out, "a/", "b", &err));
    assert_string_equal(out, "a/b");
    assert_ok(path_join(out, "", "b", &err));
    assert_string_equal(out, "b");
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    assert_fails(path_join(out, "a", big, &err), MIL_USAGE, "longer than");
    assert_string_equal(path_base("a/b.c"), "b.c");
    assert_string_equal(path_base("b"), "b");
}

static void directories_are_made_listed_and_removed(void **state) {
    (void)state;
    struct mil_error err = {0};
    assert_ok(dir_make(in_dir("x/y//z/"), &err));
    assert_ok(dir_make(in_dir("x/y/z"), &err));
    put(in_dir("x/b"), "1");
    put(in_dir("x/a"), "2");
    assert_int_equal(symlink(dir, in_dir("x/link")), 0);
    char **names;
    size_t n;
    assert_ok(dir_list(in_dir("x"), &names, &n, &err));
    assert_int_equal(n, 4);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[3], "y");
    dir_list_free(names, n);
    put(in_dir("outside"), "stays");
    assert_ok(dir_remove(in_dir("x"), &err)); /* the link goes, not what it points at */
    assert_false(path_exists(in_dir("x")));
    assert_holds(in_dir("outside"), "stays");
    assert_ok(dir_remove(in_dir("x"), &err));
    assert_fails(dir_make(in_dir("outside/sub"), &err), MIL_ACCESS, "outside");
    assert_fails(dir_list(in_dir("nowhere"), &names, &n, &err), MIL_ACCESS, "nowhere: cannot list");
}

static void only_regular_files_are_read(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct mapped_file m;
    struct str s = {0};
    assert_fails(file_map(in_dir("no"), &m, &err), MIL_ACCESS, "No such file");
    assert_fails(file_map(dir, &m, &err), MIL_ACCESS, "is a directory");
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_fails(file_map(in_dir("fifo"), &m, &err), MIL_ACCESS, "not a regular file");
    put(in_dir("empty"), "");
    assert_ok(file_map(in_dir("empty"), &m, &err));
    assert_true(m.data == NULL && m.size == 0);
    file_unmap(&m);
    put(in_dir("five"), "12345");
    assert_ok(file_map(in_dir("five"), &m, &err));
    assert_memory_equal(m.data, "12345", 5);
    file_unmap(&m);
    file_unmap(&m);
    assert_fails(file_read(in_dir("five"), 4, &s, &err), MIL_INPUT, "limit of 4 bytes");
    assert_ok(file_copy(in_dir("five"), in_dir("copy"), &err));
    assert_holds(in_dir("copy"), "12345");
    str_release(&s);
}

static void lines_of_any_shape_are_returned(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str text = {0};
    str_add(&text, "a\r\n\n");
    for (int i = 0; i < 10000; i++) str_addc(&text, 'x');
    str_addn(&text, "\nb\0c\nlast", 9);
    assert_ok(file_write(in_dir("l"), text.data, text.len, &err));
    str_release(&text);
    static const size_t want[] = {1, 0, 10000, 3, 4};
    struct line_reader r;
    const char *line, *path = in_dir("l");
    size_t n;
    assert_ok(lines_open(&r, path, &err));
    for (size_t i = 0; i < 5; i++) {
        assert_ok(lines_next(&r, &line, &n, &err));
        assert_non_null(line);
        assert_int_equal(n, want[i]);
        assert_int_equal(r.number, i + 1);
    }
    assert_string_equal(line, "last");
    assert_ok(lines_next(&r, &line, &n, &err));
    assert_null(line);
    lines_close(&r);
    assert_fails(lines_open(&r, in_dir("none"), &err), MIL_ACCESS, "none");
    lines_close(&r);
    assert_fails(lines_open(&r, in_dir("."), &err), MIL_ACCESS, "is a directory");
    /* Without a writer this would wait, and for good where SIGTERM only asks to stop. */
    assert_int_equal(mkfifo(in_dir("pipe"), 0600), 0);
    assert_fails(lines_open(&r, in_dir("pipe"), &err), MIL_ACCESS, "not a regular file");
    lines_close(&r);
}

static void files_appear_at_commit_only(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct atomic_file a = {0};
    put(in_dir("f"), "old");
    assert_ok(atomic_open(&a, in_dir("f"), &err));
    assert_ok(atomic_write(&a, "new", 3, &err));
    assert_holds(in_dir("f"), "old");
    assert_int_equal(entries(dir), 2);
    atomic_abort(&a);
    atomic_abort(&a);
    assert_int_equal(entries(dir), 1);
    assert_ok(atomic_open(&a, in_dir("f"), &err));
    assert_ok(atomic_write(&a, "new", 3, &err));
    assert_ok(atomic_commit(&a, &err));
    assert_int_equal(a.written, 3);
    assert_holds(in_dir("f"), "new");
    struct atomic_file zeroed = {0};
    atomic_abort(&zeroed); /* must not close descriptor 0 */
    assert_true(fcntl(0, F_GETFD) >= 0);
    assert_fails(atomic_open(&a, dir, &err), MIL_ACCESS, "is a directory");
    assert_fails(atomic_open(&a, in_dir("no/f"), &err), MIL_ACCESS, "no/f: cannot create");
    assert_fails(atomic_open(&a, "", &err), MIL_USAGE, "empty");
    char longest[256] = {0};
    memset(longest, 'n', 255);
    put(in_dir(longest), "a name as long as names can be");
    assert_int_equal(entries(dir), 2);
}

/* A device is written, never replaced by a file. */
static void a_full_device_is_reported(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct stat s;
    if (stat("/dev/full", &s) != 0 || !S_ISCHR(s.st_mode)) skip();
    assert_fails(file_write("/dev/full", "x", 1, &err), MIL_IO, "No space left");
    assert_int_equal(stat("/dev/full", &s), 0);
    assert_true(S_ISCHR(s.st_mode));
    assert_ok(file_write("/dev/null", "x", 1, &err));
    assert_true(stat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode));
}

/* A limit on file sizes stands for the disk that fills up in the middle of a write. */
static void a_full_disk_leaves_what_was_there(void **state) {
    (void)state;
    struct mil_error err = {0};
    static char bytes[10000];
    put(in_dir("f"), "old");
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum mil_status st = file_write(in_dir("f"), bytes, sizeof bytes, &err);
    struct stage s;
    struct mil_error stage_err = {0};
    enum mil_status opened = stage_open(&s, in_dir("d"), false, &stage_err), inner;
    char path[PATH_CAP + 8];
    snprintf(path, sizeof path, "%s/w", s.tmp);
    inner = file_write(path, bytes, sizeof bytes, &stage_err);
    stage_abort(&s);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(st, MIL_IO);
    assert_non_null(strstr(err.message, "f: cannot write after 4096 bytes: File too large"));
    assert_int_equal(opened, MIL_OK);
    assert_int_equal(inner, MIL_IO);
    assert_holds(in_dir("f"), "old");
    assert_int_equal(entries(dir), 1);
}

/* Permissions do not bind root: act as somebody else for a moment. */
static void a_forbidden_place_is_named(void **state) {
    (void)state;
    struct mil_error err = {0};
    bool root = geteuid() == 0;
    assert_int_equal(mkdir(in_dir("locked"), 0755), 0);
    put(in_dir("locked/f"), "old");
    assert_int_equal(chmod(in_dir("locked"), 0555), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    if (root && seteuid(65534) != 0) skip();
    struct mil_error file_err = {0}, stage_err = {0}, read_only_err = {0};
    struct stage s;
    enum mil_status file = file_write(in_dir("locked/g"), "x", 1, &file_err),
                    stage = stage_open(&s, in_dir("locked/d"), false, &stage_err),
                    kept = root ? file_write(in_dir("locked/f"), "x", 1, &read_only_err) : 0;
    if (root) assert_int_equal(seteuid(0), 0);
    chmod(in_dir("locked"), 0755);
    assert_int_equal(file, MIL_ACCESS);
    assert_non_null(strstr(file_err.message, "locked/g: cannot create: Permission denied"));
    assert_int_equal(stage, MIL_ACCESS);
    assert_non_null(strstr(stage_err.message, "Permission denied"));
    if (root) assert_int_equal(kept, MIL_ACCESS);
    assert_holds(in_dir("locked/f"), "old");
    assert_ok(file_write(in_dir("locked/f"), "new", 3, &err));
}

/* Write a stage's two files with the same text. */
static enum mil_status fill(const struct stage *s, const char *text, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, s->tmp, "sub", err));
    TRY(dir_make(path, err));
    TRY(path_join(path, s->tmp, "a", err));
    TRY(file_write(path, text, strlen(text), err));
    TRY(path_join(path, s->tmp, "sub/b", err));
    return file_write(path, text, strlen(text), err);
}

static void directories_appear_at_commit_only(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct stage s, other;
    assert_ok(stage_open(&s, in_dir("deep/out/"), false, &err));
    assert_ok(fill(&s, "one", &err));
    assert_false(path_exists(in_dir("deep/out")));
    assert_ok(stage_open(&other, in_dir("deep/out"), false, &err)); /* same name, same process */
    assert_ok(stage_commit(&s, &err));
    assert_holds(in_dir("deep/out/sub/b"), "one");
    assert_fails(stage_commit(&other, &err), MIL_ACCESS, "deep/out");
    assert_int_equal(entries(in_dir("deep")), 1);
    assert_fails(stage_open(&s, in_dir("deep/out"), false, &err), MIL_ACCESS, "exists already");
    stage_abort(&s);
    assert_ok(stage_open(&s, in_dir("deep/out"), true, &err));
    assert_ok(fill(&s, "two", &err));
    assert_holds(in_dir("deep/out/a"), "one");
    assert_ok(stage_commit(&s, &err));
    assert_holds(in_dir("deep/out/a"), "two");
    assert_int_equal(entries(in_dir("deep")), 1);
    assert_ok(stage_open(&s, in_dir("deep/out"), true, &err));
    stage_abort(&s);
    assert_holds(in_dir("deep/out/a"), "two");
    assert_int_equal(entries(in_dir("deep")), 1);
    put(in_dir("file"), "x");
    assert_fails(stage_open(&s, in_dir("file"), true, &err), MIL_ACCESS, "not a directory");
    assert_fails(stage_open(&s, in_dir("file/d"), true, &err), MIL_ACCESS, "file");
    assert_fails(stage_open(&s, ".", true, &err), MIL_USAGE, "name the output directory");
    assert_fails(stage_open(&s, "/", true, &err), MIL_USAGE, "name the output directory");
}

/* Replace "out" over and over until killed. */
static void replace_for_ever(const char *out) {
    char text[16];
    for (int i = 0;; i++) {
        struct stage s;
        snprintf(text, sizeof text, "v%d", i);
        if (stage_open(&s, out, true, NULL) != MIL_OK || fill(&s, text, NULL) != MIL_OK ||
            stage_commit(&s, NULL) != MIL_OK)
            _exit(1);
    }
}

static void a_kill_leaves_whole_directories(void **state) {
    (void)state;
    struct mil_error err = {0};
    char out[PATH_CAP];
    snprintf(out, sizeof out, "%s/out", dir);
    struct stage s;
    assert_ok(stage_open(&s, out, false, &err));
    assert_ok(fill(&s, "first", &err));
    assert_ok(stage_commit(&s, &err));
    for (int round = 0; round < 30; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) replace_for_ever(out);
        usleep(1000 + 700 * (unsigned)round);
        int status;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); /* it did not stop by itself */
        struct str a = {0}, b = {0};
        assert_ok(file_read(in_dir("out/a"), 100, &a, &err));
        assert_ok(file_read(in_dir("out/sub/b"), 100, &b, &err));
        assert_string_equal(str_c(&a), str_c(&b));
        str_release(&a);
        str_release(&b);
    }
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    for (size_t i = 0; i < n; i++)
        assert_true(strcmp(names[i], "out") == 0 || strncmp(names[i], "tmp-out-", 8) == 0);
    dir_list_free(names, n);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(paths_join_and_split),
        TEST(directories_are_made_listed_and_removed),
        TEST(only_regular_files_are_read),
        TEST(lines_of_any_shape_are_returned),
        TEST(files_appear_at_commit_only),
        TEST(a_full_device_is_reported),
        TEST(a_full_disk_leaves_what_was_there),
        TEST(a_forbidden_place_is_named),
        TEST(directories_appear_at_commit_only),
        TEST(a_kill_leaves_whole_directories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
