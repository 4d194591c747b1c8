/* SPDX-License-Identifier: Apache-2.0 */
/* test_data_cache.c - tokenised data kept between runs: what comes out of the cache is, byte for byte,
 * what comes without one, whatever lies in its directory and however many processes use it. */
#include <fcntl.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "core/mem.h"
#include "core/threads.h"
#include "fixture.h"
#include "train/data_cache.h"

static struct mil_error err;
static struct tokenizer *tok;
static struct dataset_options options;
static struct dataset_source source;
static char work[600]; /* a directory of this program's */

static struct data_request request(void) {
    options.max_length = options.max_length ? options.max_length : 256;
    return (struct data_request){&source, 1, tok, &options};
}

static void reset(void) {
    options = (struct dataset_options){.max_length = 256};
    source = (struct dataset_source){TEST_DATA "/rows.jsonl", NULL, -1, 0};
    assert_ok(template_find("alpaca", &options.template_, &err));
    listen_to_notices();
}

/* A new directory below work. */
static const char *fresh_dir(void) {
    static char dir[700];
    static int count;
    snprintf(dir, sizeof dir, "%s/%d", work, count++);
    return dir;
}

static void load(const char *setting, struct dataset *d) {
    struct data_request q = request();
    notices[0] = 0;
    assert_ok(data_cache_load(setting, true, "dataset", &q, d, &err));
}

static bool same(const struct dataset *a, const struct dataset *b) {
    size_t tokens = (size_t)a->begin[a->n];
    return a->n == b->n && !memcmp(a->begin, b->begin, (size_t)(a->n + 1) * sizeof *a->begin) &&
           !memcmp(a->ids, b->ids, tokens * sizeof *a->ids) &&
           !memcmp(a->labels, b->labels, tokens) &&
           !memcmp(&a->counts, &b->counts, sizeof a->counts) && !strcmp(a->format, b->format);
}

/* The data without a cache. */
static void plain(struct dataset *d) {
    assert_ok(dataset_load(&source, 1, tok, &options, d, &err));
}

static void expect_same(const char *setting) {
    struct dataset want, got;
    plain(&want);
    load(setting, &got);
    assert_true(same(&want, &got));
    dataset_release(&want);
    dataset_release(&got);
}

static void entry_path(const char *dir, char path[PATH_CAP]) {
    char key[HASH_HEX], name[DATA_ENTRY_NAME];
    uint64_t bytes;
    struct data_request q = request();
    assert_ok(data_entry_key(&q, key, &bytes, &err));
    data_entry_name(key, name);
    assert_ok(path_join(path, dir, name, &err));
}

static size_t files_in(const char *dir) {
    char **names;
    size_t n;
    if (!path_exists(dir)) return 0;
    assert_ok(dir_list(dir, &names, &n, &err));
    dir_list_free(names, n);
    return n;
}

static bool was_hit(void) {
    return strstr(notices, "taken from") != NULL;
}

static bool was_warned(void) {
    return strstr(notices, "made anew") != NULL;
}

static void write_bytes(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* ---- several processes; first, before this one has threads ---- */

/* Loads through the directory; now and then what is there is replaced by something broken. */
static int one_of_many(const char *dir, const struct dataset *want, int index) {
    char path[PATH_CAP], other[PATH_CAP + 16];
    struct data_request q = request();
    entry_path(dir, path);
    snprintf(other, sizeof other, "%s.%d", path, index);
    log_set_sink(NULL, NULL);
    for (int round = 0; round < 6; round++) {
        struct dataset got;
        if (data_cache_load(dir, true, "dataset", &q, &got, &err) != MIL_OK) return 1;
        bool good = same(want, &got);
        dataset_release(&got);
        if (!good) return 2;
        if (index == 0 && round % 3 == 1) unlink(path);
        if (index == 1 && round % 3 == 2) {
            write_bytes(other, "rubbish", 7);
            rename(other, path);
        }
    }
    return 0;
}

static void test_processes(void **state) {
    (void)state;
    enum { PROCESSES = 5 };
    struct dataset want;
    pid_t child[PROCESSES];
    reset();
    const char *dir = fresh_dir();
    threads_set(1); /* a child of a process with a team of threads has no team */
    plain(&want);
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) _exit(one_of_many(dir, &want, i));
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    expect_same(dir);
    assert_int_equal(files_in(dir), 1); /* the entry: no temporary file is left */
    dataset_release(&want);
    threads_set(0);
}

/* ---- hits and keys ---- */

static void test_hit(void **state) {
    (void)state;
    reset();
    const char *dir = fresh_dir();
    for (int round = 0; round < 3; round++) {
        expect_same(dir);
        assert_int_equal(was_hit(), round > 0);
        assert_int_equal(files_in(dir), 1);
    }
    expect_same("off");
    assert_false(was_hit());
    struct stat s;
    assert_int_equal(stat(dir, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
}

/* Each row of the table changes what comes out, or could: none may be served by another's entry. */
static void test_keys(void **state) {
    (void)state;
    reset();
    const char *dir = fresh_dir();
    size_t entries = 0;
    struct dataset d;
    plain(&d);
    int64_t longest = d.counts.longest;
    dataset_release(&d);
    for (int i = 0; i < 9; i++) {
        reset();
        if (i == 1) assert_ok(template_find("plain", &options.template_, &err));
        if (i == 2) options.train_on_inputs = true;
        if (i == 3 || i == 4) options.max_length = longest - 1;
        if (i == 4) options.on_too_long = TOO_LONG_DROP;
        if (i == 5) source.limit = 10;
        if (i == 6) source.skip = 3;
        if (i == 7) source.limit = 10, source.skip = 3;
        if (i == 8) source.format = "alpaca"; /* detected in the others */
        expect_same(dir);
        assert_false(was_hit());
        assert_int_equal(files_in(dir), ++entries);
        expect_same(dir);
        assert_true(was_hit());
    }
    struct tokenizer *mine = tok;
    reset();
    assert_ok(tokenizer_open_dir(TEST_ROOT "/tests/text/data/small-bytes", &tok, &err));
    expect_same(dir);
    assert_false(was_hit());
    tokenizer_free(&tok);
    tok = mine;
}

/* The tokenizer's identity is that of its files' bytes. */
static void test_identity(void **state) {
    (void)state;
    char dir[700], path[PATH_CAP], a[HASH_HEX], b[HASH_HEX];
    struct tokenizer *t = NULL;
    snprintf(dir, sizeof dir, "%s/tokenizer", work);
    assert_ok(dir_make(dir, &err));
    assert_ok(path_join(path, dir, "tokenizer.json", &err));
    assert_ok(file_copy(TEST_DATA "/tiny/tokenizer.json", path, &err));
    assert_ok(path_join(path, dir, "tokenizer_config.json", &err));
    const char *const configs[] = {"{\"eos_token\": \"</s>\"}", "{\"eos_token\": \"<s>\"}",
                                   "{\"eos_token\": \"</s>\"}"};
    char hashes[3][HASH_HEX];
    for (int i = 0; i < 3; i++) {
        write_bytes(path, configs[i], strlen(configs[i]));
        assert_ok(tokenizer_open_dir(dir, &t, &err));
        tokenizer_identity(t, hashes[i]);
        tokenizer_free(&t);
    }
    assert_string_not_equal(hashes[0], hashes[1]);
    assert_string_equal(hashes[0], hashes[2]);
    tokenizer_identity(tok, a);
    tokenizer_identity(tok, b);
    assert_string_equal(a, b);
}

/* ---- data that change ---- */

static void copy_rows(char path[PATH_CAP], struct str *text) {
    snprintf(path, PATH_CAP, "%s/changing.jsonl", work);
    str_reset(text);
    assert_ok(file_read(TEST_DATA "/rows.jsonl", 1 << 20, text, &err));
    write_bytes(path, text->data, text->len);
    source.path = path;
}

static void test_changed_data(void **state) {
    (void)state;
    char path[PATH_CAP];
    struct str text = {0};
    struct stat s;
    reset();
    const char *dir = fresh_dir();
    copy_rows(path, &text);
    expect_same(dir);
    assert_int_equal(stat(path, &s), 0);
    const struct timespec times[2] = {s.st_atim, s.st_mtim};

    /* One letter of the last answer, at the same size and time. */
    char *letter = text.data + text.len - 1;
    while (*letter < 'a' || *letter > 'y') letter--;
    ++*letter;
    write_bytes(path, text.data, text.len);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    struct stat after;
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size == s.st_size && after.st_mtim.tv_sec == s.st_mtim.tv_sec &&
                after.st_mtim.tv_nsec == s.st_mtim.tv_nsec);
    expect_same(dir);
    assert_false(was_hit());

    /* Rows that are not used do not count, those that are do. */
    source.limit = 10;
    expect_same(dir);
    --*letter;
    write_bytes(path, text.data, text.len);
    expect_same(dir);
    assert_true(was_hit());
    source.limit = 48;
    expect_same(dir);
    assert_false(was_hit());

    /* Another file of the same content is the same data. */
    source.path = TEST_DATA "/rows.jsonl";
    expect_same(dir);
    assert_true(was_hit());
    str_release(&text);
}

/* Data that fail are no data: nothing is kept, the error is the one without a cache. */
static void test_bad_data(void **state) {
    (void)state;
    char path[PATH_CAP], want[600];
    struct str text = {0};
    struct dataset d;
    reset();
    const char *dir = fresh_dir();
    copy_rows(path, &text);
    text.data[text.len - 2] = ' '; /* the last brace */
    write_bytes(path, text.data, text.len);
    struct data_request q = request();
    assert_int_equal(dataset_load(&source, 1, tok, &options, &d, &err), MIL_INPUT);
    snprintf(want, sizeof want, "%s", err.message);
    assert_fails(data_cache_load(dir, true, "dataset", &q, &d, &err), MIL_INPUT, "row 48");
    assert_string_equal(err.message, want);
    assert_int_equal(files_in(dir), 0);
    source.path = "no/such/file.jsonl";
    assert_fails(data_cache_load(dir, true, "dataset", &q, &d, &err), MIL_ACCESS, "no/such/file");
    str_release(&text);
}

/* ---- entries that are not what they should be ---- */

static void read_entry(const char *path, struct str *bytes) {
    str_reset(bytes);
    assert_ok(file_read(path, 1 << 24, bytes, &err));
}

/* Reading never gives other data. */
static bool try_entry(const char *path, const struct dataset *want) {
    char key[HASH_HEX] = "";
    struct dataset got;
    bool found;
    struct data_request q = request();
    struct mil_error why = {0};
    memcpy(key, path_base(path), HASH_HEX - 1);
    bool good = data_entry_read(path, key, &q, &got, &found, &why) == MIL_OK;
    assert_true(found);
    if (good) assert_true(same(want, &got));
    if (!good) assert_true(strstr(why.message, path) && got.n == 0 && !got.ids);
    dataset_release(&got);
    return good;
}

static void test_truncated(void **state) {
    (void)state;
    char path[PATH_CAP];
    struct str bytes = {0};
    struct dataset want;
    reset();
    source.limit = 4;
    const char *dir = fresh_dir();
    plain(&want);
    expect_same(dir);
    entry_path(dir, path);
    read_entry(path, &bytes);
    for (size_t n = 0; n < bytes.len; n++) { /* every length, the empty file first */
        write_bytes(path, bytes.data, n);
        assert_false(try_entry(path, &want));
    }
    str_addc(&bytes, 0);
    write_bytes(path, bytes.data, bytes.len); /* and one byte more */
    assert_false(try_entry(path, &want));
    str_release(&bytes);
    dataset_release(&want);
}

static void test_flipped(void **state) {
    (void)state;
    char path[PATH_CAP];
    struct str bytes = {0};
    struct dataset want;
    size_t harmless = 0;
    reset();
    source.limit = 4;
    const char *dir = fresh_dir();
    plain(&want);
    expect_same(dir);
    entry_path(dir, path);
    read_entry(path, &bytes);
    for (size_t at = 0; at < bytes.len; at++) {
        bytes.data[at] ^= (char)(1 << at % 8);
        write_bytes(path, bytes.data, bytes.len);
        harmless += try_entry(path, &want);
        bytes.data[at] ^= (char)(1 << at % 8);
    }
    assert_int_equal(harmless, 0); /* one bit makes no white space of other white space */
    write_bytes(path, bytes.data, bytes.len);
    assert_true(try_entry(path, &want));
    str_release(&bytes);
    dataset_release(&want);
}

/* Through the cache: one warning, the right data, and a sound entry in its place. */
static void expect_rebuilt(const char *dir) {
    expect_same(dir);
    assert_true(was_warned());
    assert_null(strstr(strstr(notices, "made anew") + 1, "made anew"));
    expect_same(dir);
    assert_true(was_hit() && !was_warned());
}

static void test_rebuilt(void **state) {
    (void)state;
    char path[PATH_CAP], other[PATH_CAP];
    struct str bytes = {0};
    reset();
    const char *dir = fresh_dir();
    source.limit = 9;
    expect_same(dir);
    entry_path(dir, other); /* of fewer rows */
    source.limit = 10;
    expect_same(dir);
    entry_path(dir, path);
    read_entry(path, &bytes);
    write_bytes(path, bytes.data, bytes.len / 2);
    expect_rebuilt(dir);
    bytes.data[bytes.len - 1] ^= 1;
    write_bytes(path, bytes.data, bytes.len);
    expect_rebuilt(dir);
    write_bytes(path, "not a tensor file", 17);
    expect_rebuilt(dir);
    assert_ok(file_copy(other, path, &err)); /* sound, but of other data */
    expect_rebuilt(dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(other, path), 0); /* must not be written through */
    expect_rebuilt(dir);
    source.limit = 9;
    expect_same(dir);
    assert_true(was_hit());
    source.limit = 10;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not be waited for */
    expect_rebuilt(dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_same(dir);
    assert_true(was_warned() && path_is_dir(path));
    str_release(&bytes);
}

/* Entries with a right checksum whose content no data set has. */
static void test_forged(void **state) {
    (void)state;
    char path[PATH_CAP], key[HASH_HEX] = "";
    struct dataset d, want;
    reset();
    source.limit = 6;
    const char *dir = fresh_dir();
    plain(&want);
    expect_same(dir);
    entry_path(dir, path);
    memcpy(key, path_base(path), HASH_HEX - 1);
    for (int i = 0; i < 12; i++) {
        plain(&d);
        int64_t last = d.begin[d.n] - 1;
        if (i == 0) d.ids[last] = tokenizer_vocab_size(tok);
        if (i == 1) d.ids[0] = -1;
        if (i == 2) d.labels[last] = 2;
        if (i == 3) d.labels[0] = 1;
        if (i == 4) d.begin[2] = d.begin[3];
        if (i == 5) d.begin[2] = d.begin[4];
        if (i == 6) d.begin[1] = -1;
        if (i == 7) d.begin[0] = 1;
        if (i == 8) d.counts.rows++;
        if (i == 9) d.counts.truncated = 7;
        if (i == 10) snprintf(d.format, sizeof d.format, "unheard of");
        if (i == 11) d.counts.dropped_long = -1, d.counts.dropped_unlabelled = 1;
        assert_ok(data_entry_write(path, key, &d, &err));
        if (try_entry(path, &want)) fail_msg("forgery %d was believed", i);
        dataset_release(&d);
    }
    assert_ok(data_entry_write(path, key, &want, &err));
    assert_true(try_entry(path, &want));
    options.max_length = want.begin[1] - 1; /* of another request */
    assert_false(try_entry(path, &want));
    dataset_release(&want);
}

/* ---- places ---- */

static void test_places(void **state) {
    (void)state;
    char file[700], below[720], big[PATH_CAP];
    struct str text = {0}, rows = {0};
    reset();
    snprintf(file, sizeof file, "%s/file", work);
    write_bytes(file, "x", 1);
    snprintf(below, sizeof below, "%s/below", file);
    expect_same(below); /* cannot be made: a warning, the data all the same */
    assert_non_null(strstr(notices, "not kept"));
    expect_same(file);
    assert_non_null(strstr(notices, "not kept"));

    /* auto: the user's folder, for data that are worth it. */
    snprintf(file, sizeof file, "%s/xdg", work);
    snprintf(below, sizeof below, "%s/milora/data", file);
    assert_int_equal(setenv("XDG_CACHE_HOME", file, 1), 0);
    expect_same("auto");
    assert_int_equal(files_in(below), 0);
    copy_rows(big, &text);
    while (rows.len <= DATA_CACHE_WORTH) str_addn(&rows, text.data, text.len);
    write_bytes(big, rows.data, rows.len);
    struct data_request q = request();
    struct dataset d;
    assert_ok(data_cache_load("auto", false, "dataset", &q, &d, &err)); /* a plan writes nothing */
    dataset_release(&d);
    assert_int_equal(files_in(below), 0);
    expect_same("auto");
    assert_int_equal(files_in(below), 1);
    expect_same("auto");
    assert_true(was_hit());
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    str_release(&text);
    str_release(&rows);
}

static void test_room(void **state) {
    (void)state;
    static const char *const names[] = {"0123456789abcdef0123456789abcdef.safetensors",
                                        "1123456789abcdef0123456789abcdef.safetensors",
                                        "tmp-2123456789abcdef0123456789abcdef.safetensors-1",
                                        "somebody-elses"};
    char path[4][PATH_CAP];
    reset();
    const char *dir = fresh_dir();
    assert_ok(dir_make(dir, &err));
    for (int i = 0; i < 4; i++) {
        struct timespec times[2] = {{1000 + i, 0}, {1000 + i, 0}};
        assert_ok(path_join(path[i], dir, names[i], &err));
        int fd = open(path[i], O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        off_t bytes = (off_t)(i == 0 ? DATA_CACHE_LIMIT : 1000);
        bool sparse = ftruncate(fd, bytes) == 0;
        close(fd);
        if (!sparse) skip(); /* a file system without files of this size */
        assert_int_equal(utimensat(AT_FDCWD, path[i], times, 0), 0);
    }
    expect_same(dir);
    assert_false(path_exists(path[0])); /* the oldest entry made room */
    assert_true(path_exists(path[1]));
    assert_false(path_exists(path[2])); /* left by a kill */
    assert_true(path_exists(path[3]));
    expect_same(dir);
    assert_true(was_hit());
}

static void test_out_of_memory(void **state) {
    (void)state;
    reset();
    source.limit = 4;
    const char *dir = fresh_dir();
    struct dataset want, got;
    plain(&want);
    load(dir, &got);
    dataset_release(&got);
    struct data_request q = request();
    enum mil_status st = MIL_NOMEM;
    for (long n = 0; st != MIL_OK || !was_hit(); n++) {
        memset(&err, 0, sizeof err);
        notices[0] = 0;
        mem_fail_after(n);
        st = data_cache_load(dir, true, "dataset", &q, &got, &err);
        mem_fail_after(-1);
        if (st == MIL_OK) assert_true(same(&want, &got));
        if (st != MIL_OK) assert_int_equal(st, MIL_NOMEM);
        if (st == MIL_OK) dataset_release(&got);
        assert_true(n < 10000);
    }
    dataset_release(&want);
}

int main(void) {
    snprintf(work, sizeof work, "%s", test_tmp_dir());
    if (tokenizer_open_dir(TEST_DATA "/tiny", &tok, &err) != MIL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes),    cmocka_unit_test(test_hit),
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_identity),
        cmocka_unit_test(test_changed_data), cmocka_unit_test(test_bad_data),
        cmocka_unit_test(test_truncated),    cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_rebuilt),      cmocka_unit_test(test_forged),
        cmocka_unit_test(test_places),       cmocka_unit_test(test_room),
        cmocka_unit_test(test_out_of_memory)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_free(&tok);
    return failed;
}
