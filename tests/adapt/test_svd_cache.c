/* SPDX-License-Identifier: Apache-2.0 */
/* test_svd_cache.c - decompositions on disk: what serves what, and everything that may lie in the
 * directory instead of an entry.
 *
 * A hit must have the bits of the computation that made the entry; so must whatever is computed in
 * the place of a broken one, as one thread always gives the same bits.  There is no tolerance. */
#include "fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "adapt/svd_cache.h"
#include "adapt/svd_entry.h"
#include "core/threads.h"

static char dir[600];

static void fresh_dir(void) {
    snprintf(dir, sizeof dir, "%s/cache", test_tmp_dir());
}

static struct svd_matrix matrix(int64_t m, int64_t n, uint32_t stream) {
    float *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m * n; i++) w[i] = (float)normal(stream, i);
    return (struct svd_matrix){w, DT_F32, m, n};
}

static void matrix_free(struct svd_matrix *w) {
    mem_free((void *)(uintptr_t)w->data);
}

static struct svd_cache *open_cache(uint64_t limit) {
    struct svd_cache_options o = {.dir = dir, .limit_bytes = limit};
    struct svd_cache *c;
    assert_ok(svd_cache_open(&o, &c, &err));
    return c;
}

static bool ask(struct svd_cache *c, const struct svd_matrix *w, struct svd_request q,
                struct svd_result *out) {
    bool hit;
    assert_ok(svd_cached(c, w, &q, out, &hit, &err));
    assert_int_equal(out->rank, q.rank);
    return hit;
}

/* One request by a cache of its own, result dropped. */
static bool ask_once(const struct svd_matrix *w, struct svd_request q, struct svd_cache_stats *s) {
    struct svd_cache *c = open_cache(0);
    struct svd_result r;
    bool hit = ask(c, w, q, &r);
    svd_release(&r);
    if (s) *s = svd_cache_stats(c);
    svd_cache_free(&c);
    return hit;
}

/* part is triplets [at, at + part->rank) of whole. */
static void assert_part(const struct svd_result *part, const struct svd_result *whole, int64_t at) {
    size_t r = (size_t)part->rank, m = (size_t)whole->m, n = (size_t)whole->n;
    assert_memory_equal(part->u, whole->u + (size_t)at * m, r * m * sizeof(double));
    assert_memory_equal(part->v, whole->v + (size_t)at * n, r * n * sizeof(double));
    assert_memory_equal(part->sigma, whole->sigma + at, r * sizeof(double));
    assert_true(part->sigma_max == whole->sigma_max && part->residual == whole->residual);
    assert_true(part->orthogonality == whole->orthogonality && part->cut == whole->cut);
    assert_string_equal(part->served_by, whole->served_by);
}

static size_t count_files(void) {
    char **names;
    size_t n;
    if (!path_is_dir(dir)) return 0;
    assert_ok(dir_list(dir, &names, &n, &err));
    dir_list_free(names, n);
    return n;
}

/* Path of the one entry in the directory. */
static void only_entry(char path[PATH_CAP]) {
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    assert_int_equal(n, 1);
    assert_true(svd_entry_is_name(names[0]));
    assert_ok(path_join(path, dir, names[0], &err));
    dir_list_free(names, n);
}

/* ---- what serves what ---- */

static void smaller_ranks_are_served(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{40, 24}, {24, 40}, {16, 16}};
    static const enum svd_end ends[] = {SVD_BOTTOM, SVD_TOP};
    for (size_t i = 0; i < 6; i++) {
        struct svd_matrix w = matrix(shapes[i / 2][0], shapes[i / 2][1], 1);
        struct svd_request q = {.end = ends[i % 2], .rank = 16};
        struct svd_result whole, part;
        struct svd_cache *c;
        fresh_dir();
        c = open_cache(0);
        assert_ok(svd_compute(&w, &q, &whole, &err));
        for (int64_t r = 3; r <= 16; r += 13) { /* the larger one replaces the smaller one */
            q.rank = r;
            assert_false(ask(c, &w, q, &part));
            svd_release(&part);
            assert_int_equal(count_files(), 1);
        }
        for (q.rank = 1; q.rank <= 16; q.rank += 5) {
            assert_true(ask(c, &w, q, &part));
            assert_part(&part, &whole, q.end == SVD_BOTTOM ? 16 - q.rank : 0);
            svd_release(&part);
        }
        struct svd_cache_stats s = svd_cache_stats(c);
        assert_true(s.hits == 4 && s.misses == 2 && s.stored == 2 && s.rejected == 0);
        svd_release(&whole);
        svd_cache_free(&c);
        matrix_free(&w);
    }
}

static void other_requests_match_exactly(void **state) {
    (void)state;
    static const int64_t chosen[] = {0, 3, 4, 11}, others[] = {0, 3, 4, 12},
                         middle[] = {10, 11, 12};
    struct svd_matrix w = matrix(30, 24, 2);
    const struct svd_request middle_3 = {.end = SVD_MIDDLE, .rank = 3},
                             middle_5 = {.end = SVD_MIDDLE, .rank = 5},
                             random = {.end = SVD_RANDOM, .rank = 4, .seed = 1, .stream = 7},
                             stream = {.end = SVD_RANDOM, .rank = 4, .seed = 1, .stream = 8},
                             seed = {.end = SVD_RANDOM, .rank = 4, .seed = 2, .stream = 7},
                             four = {.end = SVD_CHOSEN, .rank = 4, .chosen = chosen},
                             other = {.end = SVD_CHOSEN, .rank = 4, .chosen = others},
                             three = {.end = SVD_CHOSEN, .rank = 3, .chosen = chosen},
                             same = {.end = SVD_CHOSEN, .rank = 3, .chosen = middle},
                             bottom = {.end = SVD_BOTTOM, .rank = 4},
                             top = {.end = SVD_TOP, .rank = 4};
    const struct svd_request *const all[] = {&middle_3, &middle_5, &random, &stream, &seed,
                                             &four,     &other,    &three,  &bottom, &top};
    fresh_dir();
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            assert_int_equal(ask_once(&w, *all[i], NULL), round);
    assert_true(ask_once(&w, same, NULL)); /* indices are what counts, not how they were asked */
    struct svd_matrix turned = {w.data, DT_F32, w.n, w.m}, other_w = matrix(30, 24, 3);
    assert_false(ask_once(&turned, bottom, NULL)); /* the same bytes in another shape */
    assert_false(ask_once(&other_w, bottom, NULL));
    matrix_free(&other_w);
    matrix_free(&w);
}

/* `only` asks for a method, not for a result; nonsense is svd_compute's to refuse. */
static void requests_past_the_cache(void **state) {
    (void)state;
    struct svd_matrix w = matrix(8, 8, 2);
    struct svd_result r;
    struct svd_cache *c;
    bool hit;
    fresh_dir();
    c = open_cache(0);
    struct svd_request q = {.end = SVD_TOP, .rank = 2, .only = "dgesdd"};
    for (int i = 0; i < 2; i++) {
        assert_false(ask(c, &w, q, &r));
        svd_release(&r);
    }
    assert_false(ask(NULL, &w, q, &r));
    svd_release(&r);
    q = (struct svd_request){.end = SVD_TOP, .rank = 9};
    assert_fails(svd_cached(c, &w, &q, &r, &hit, &err), MIL_USAGE, "choose 1 to 8");
    ((float *)(uintptr_t)w.data)[9] = NAN;
    q.rank = 2;
    assert_fails(svd_cached(c, &w, &q, &r, &hit, &err), MIL_INPUT, "(1, 1) is NaN");
    assert_int_equal(count_files(), 0);
    svd_cache_free(&c);
    matrix_free(&w);
}

/* ---- what is not an entry ---- */

/* Ask for `want`, which the broken directory cannot serve, or serves rightly. */
static size_t assert_served(const struct svd_matrix *w, struct svd_request q,
                            const struct svd_result *want) {
    struct svd_cache *c = open_cache(0);
    struct svd_result r;
    char line[512];
    ask(c, w, q, &r);
    assert_part(&r, want, 0);
    svd_release(&r);
    struct svd_cache_stats s = svd_cache_stats(c);
    assert_int_equal(svd_cache_warning(c, line), s.rejected + s.unwritten > 0);
    assert_false(svd_cache_warning(c, line));
    svd_cache_free(&c);
    return s.rejected;
}

/* Without waiting for the disk, as file_write would. */
static void overwrite(const char *path, const char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

static void every_byte_counts(void **state) {
    (void)state;
    struct svd_matrix w = matrix(7, 5, 4);
    struct svd_request q = {.end = SVD_BOTTOM, .rank = 2};
    struct svd_result want;
    struct str good = {0};
    char path[PATH_CAP];
    size_t rejected = 0;
    fresh_dir();
    assert_ok(svd_compute(&w, &q, &want, &err));
    ask_once(&w, q, NULL);
    only_entry(path);
    assert_ok(file_read(path, 1 << 20, &good, &err));
    size_t seen = 0;
    for (size_t i = 0; i < good.len; i += 3, seen++) { /* metadata and tensors */
        good.data[i] ^= 0x10;
        overwrite(path, good.data, good.len);
        good.data[i] ^= 0x10;
        rejected += assert_served(&w, q, &want);
    }
    /* Spaces of the header's padding may turn into other blanks; all else is noticed. */
    assert_true(rejected + 8 >= seen);
    for (size_t n = 0; n < good.len; n += 13) {
        overwrite(path, good.data, n);
        assert_int_equal(assert_served(&w, q, &want), 1);
    }
    str_addc(&good, 0);
    overwrite(path, good.data, good.len);
    assert_int_equal(assert_served(&w, q, &want), 1);
    assert_true(ask_once(&w, q, NULL)); /* what was broken is whole again */
    str_release(&good);
    svd_release(&want);
    matrix_free(&w);
}

/* An entry as our own writer makes it, but of something that is not true. */
static void write_entry(const char *path, const struct svd_matrix *w, struct svd_request q,
                        const struct svd_result *r) {
    struct svd_entry_id id;
    char name[SVD_ENTRY_NAME];
    int64_t index[16];
    assert_ok(svd_indices(&q, w->m, w->n, index, &err));
    assert_ok(svd_entry_name(w, &q, index, &id, name, &err));
    assert_ok(svd_entry_write(path, &id, index, r, &err));
}

static void whole_files_of_lies(void **state) {
    (void)state;
    struct svd_matrix w = matrix(20, 12, 5), other = matrix(20, 12, 6);
    struct svd_request q = {.end = SVD_BOTTOM, .rank = 4}, top = {.end = SVD_TOP, .rank = 4};
    struct svd_result want, r, foreign;
    char path[PATH_CAP];
    fresh_dir();
    assert_ok(svd_compute(&w, &q, &want, &err));
    assert_ok(svd_compute(&other, &q, &foreign, &err));
    ask_once(&w, q, NULL);
    only_entry(path);
    write_entry(path, &w, q, &foreign); /* numbers of another weight */
    assert_int_equal(assert_served(&w, q, &want), 1);
    write_entry(path, &other, q, &foreign); /* a renamed file */
    assert_int_equal(assert_served(&w, q, &want), 1);
    assert_ok(svd_compute(&w, &top, &r, &err));
    write_entry(path, &w, top, &r);
    assert_int_equal(assert_served(&w, q, &want), 1);
    svd_release(&r);
    double *const values[] = {want.u,         want.v,          want.sigma,
                              &want.residual, &want.sigma_max, &want.cut};
    static const double lies[] = {NAN, INFINITY, -1.0, 1e300, 0.9};
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 5; k++) {
            double kept = *values[i];
            bool plausible = (i == 5 && lies[k] > 0 && isfinite(lies[k])) || (i == 4 && k == 3);
            if (plausible) continue; /* a weaker certificate, or a scale that hides nothing */
            *values[i] = lies[k];
            write_entry(path, &w, q, &want);
            *values[i] = kept;
            assert_int_equal(assert_served(&w, q, &want), 1);
        }
    svd_release(&foreign);
    svd_release(&want);
    matrix_free(&other);
    matrix_free(&w);
}

static void strange_things_in_its_place(void **state) {
    (void)state;
    struct svd_matrix w = matrix(9, 6, 5);
    struct svd_request q = {.end = SVD_TOP, .rank = 2};
    struct svd_result want;
    char path[PATH_CAP], moved[PATH_CAP + 8];
    fresh_dir();
    assert_ok(svd_compute(&w, &q, &want, &err));
    ask_once(&w, q, NULL);
    only_entry(path);
    snprintf(moved, sizeof moved, "%s.kept", path);
    for (int i = 0; i < 5; i++) {
        unlink(path);
        if (i == 0) assert_int_equal(symlink("/dev/null", path), 0);
        if (i == 1) assert_int_equal(mkfifo(path, 0600), 0);
        if (i == 2) assert_int_equal(symlink(moved, path), 0); /* to nowhere */
        if (i == 3) {
            int fd = open(path, O_CREAT | O_WRONLY, 0600);
            assert_true(fd >= 0 && ftruncate(fd, (off_t)1 << 40) == 0);
            close(fd);
        }
        if (i == 4) assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(assert_served(&w, q, &want), 1);
        if (i < 4) assert_true(ask_once(&w, q, NULL)); /* replaced */
    }
    assert_true(path_is_dir(path)); /* a directory is left alone */
    assert_false(path_exists(moved));
    svd_release(&want);
    matrix_free(&w);
}

/* ---- limits ---- */

static void set_age(const char *path, time_t seconds) {
    struct timespec t[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void age_all(time_t seconds) {
    char **names, path[PATH_CAP];
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    for (size_t i = 0; i < n; i++) {
        assert_ok(path_join(path, dir, names[i], &err));
        struct stat s;
        assert_int_equal(stat(path, &s), 0);
        set_age(path, time(NULL) - s.st_mtime + seconds);
    }
    dir_list_free(names, n);
}

/* Each weight by a cache of its own, a minute after the one before. */
static bool ask_later(const struct svd_matrix *w, uint64_t limit, struct svd_cache_stats *s) {
    struct svd_cache *c = open_cache(limit);
    struct svd_result r;
    bool hit = ask(c, w, (struct svd_request){.end = SVD_TOP, .rank = 4}, &r);
    svd_release(&r);
    *s = svd_cache_stats(c);
    svd_cache_free(&c);
    age_all(60);
    return hit;
}

static void the_least_recent_goes(void **state) {
    (void)state;
    struct svd_matrix w[5];
    struct svd_cache_stats s;
    char foreign[PATH_CAP];
    fresh_dir();
    for (uint32_t i = 0; i < 5; i++) w[i] = matrix(300, 100, 10 + i);
    /* Room is made for the upper bound of one beside the true sizes of the others. */
    uint64_t limit = 3 * svd_entry_bytes(300, 100, 4);
    for (int i = 0; i < 3; i++) assert_false(ask_later(&w[i], limit, &s));
    assert_ok(path_join(foreign, dir, "notes.txt", &err));
    assert_ok(file_write(foreign, dir, 100, &err));
    set_age(foreign, 100000);
    assert_true(ask_later(&w[0], limit, &s)); /* now 1 is the oldest */
    assert_int_equal(s.evicted, 0);
    assert_false(ask_later(&w[3], limit, &s));
    assert_int_equal(s.evicted, 1);
    assert_int_equal(count_files(), 4);
    assert_true(ask_later(&w[0], limit, &s));
    assert_true(ask_later(&w[3], limit, &s));
    assert_true(ask_later(&w[2], limit, &s));
    assert_false(ask_later(&w[1], limit, &s));
    assert_true(path_exists(foreign));
    /* A limit below a single entry: nothing is kept, and nothing is thrown away for it. */
    assert_false(ask_later(&w[4], 1000, &s));
    assert_true(s.unwritten == 1 && s.stored == 0 && s.evicted == 0);
    assert_int_equal(count_files(), 4);
    for (int i = 0; i < 5; i++) matrix_free(&w[i]);
}

static void entries_in_use_stay(void **state) {
    (void)state;
    struct svd_result r;
    char line[512];
    fresh_dir();
    struct svd_cache *c = open_cache(3 * svd_entry_bytes(300, 100, 4));
    for (uint32_t i = 0; i < 5; i++) {
        struct svd_matrix w = matrix(300, 100, 10 + i);
        ask(c, &w, (struct svd_request){.end = SVD_TOP, .rank = 4}, &r);
        svd_release(&r);
        matrix_free(&w);
    }
    struct svd_cache_stats s = svd_cache_stats(c);
    assert_true(s.evicted == 0 && s.stored == 3 && s.unwritten == 1);
    assert_true(svd_cache_warning(c, line) && strstr(line, "raise it"));
    assert_false(svd_cache_warning(c, line));
    assert_int_equal(count_files(), 3);
    svd_cache_free(&c);
}

static void left_overs_go(void **state) {
    (void)state;
    struct svd_matrix w = matrix(9, 6, 5);
    struct svd_request q = {.end = SVD_TOP, .rank = 2};
    char path[PATH_CAP], old[PATH_CAP], young[PATH_CAP], foreign[PATH_CAP];
    fresh_dir();
    ask_once(&w, q, NULL);
    only_entry(path);
    snprintf(old, sizeof old, "%.500s/tmp-%.200s-1", dir, path_base(path));
    snprintf(young, sizeof young, "%.500s/tmp-%.200s-2", dir, path_base(path));
    assert_ok(path_join(foreign, dir, "tmp-other-3", &err));
    for (int i = 0; i < 3; i++)
        assert_ok(file_write(i == 0 ? old : i == 1 ? young : foreign, "x", 1, &err));
    set_age(old, 7200);
    set_age(foreign, 7200);
    q.rank = 3;
    assert_false(ask_once(&w, q, NULL));
    assert_true(!path_exists(old) && path_exists(young) && path_exists(foreign));
    struct svd_cache *c = open_cache(0);
    svd_cache_remove(c);
    assert_true(!path_exists(young) && !path_exists(path) && path_exists(foreign));
    unlink(foreign);
    svd_cache_remove(c);
    assert_false(path_exists(dir));
    svd_cache_remove(c);
    svd_cache_free(&c);
    matrix_free(&w);
}

/* ---- places that cannot be written ---- */

static void nowhere_to_write(void **state) {
    (void)state;
    struct svd_matrix w = matrix(9, 6, 5);
    struct svd_request q = {.end = SVD_TOP, .rank = 2};
    struct svd_result r;
    struct svd_cache *c;
    char file[480], line[512];
    snprintf(file, sizeof file, "%.400s/file", test_tmp_dir());
    assert_ok(file_write(file, "x", 1, &err));
    struct svd_cache_options o = {.dir = file};
    assert_fails(svd_cache_open(&o, &c, &err), MIL_ACCESS, "not a directory");
    snprintf(dir, sizeof dir, "%s/below", file);
    c = open_cache(0);
    for (int i = 0; i < 3; i++) {
        assert_false(ask(c, &w, q, &r));
        svd_release(&r);
    }
    struct svd_cache_stats s = svd_cache_stats(c);
    assert_true(s.stored == 0 && s.unwritten == 1 && s.misses == 3);
    assert_true(svd_cache_warning(c, line) && strstr(line, "not kept"));
    assert_false(svd_cache_warning(c, line));
    svd_cache_free(&c);
    matrix_free(&w);
}

static void short_work_leaves_nothing(void **state) {
    (void)state;
    struct svd_matrix w = matrix(9, 6, 5);
    struct svd_result r;
    struct svd_cache *c;
    fresh_dir();
    struct svd_cache_options o = {.dir = dir, .after_seconds = 1000};
    assert_ok(svd_cache_open(&o, &c, &err));
    ask(c, &w, (struct svd_request){.end = SVD_TOP, .rank = 2}, &r);
    svd_release(&r);
    assert_false(path_exists(dir));
    svd_cache_free(&c);
    matrix_free(&w);
}

/* ---- several at once ---- */

enum { SHARED_WEIGHTS = 12 };

static void work_in_child(void) {
    for (uint32_t i = 0; i < 3 * SHARED_WEIGHTS; i++) {
        struct svd_matrix w = matrix(60, 40, 100 + i % SHARED_WEIGHTS);
        struct svd_cache_stats s;
        ask_once(&w, (struct svd_request){.end = SVD_BOTTOM, .rank = 2 + i / SHARED_WEIGHTS}, &s);
        if (s.rejected || s.unwritten) _exit(2);
        matrix_free(&w);
    }
    _exit(0);
}

static void processes_share(void **state) {
    (void)state;
    pid_t children[3];
    fresh_dir();
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) work_in_child();
    }
    for (int i = 0; i < 3; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(count_files(), SHARED_WEIGHTS); /* and nothing half-written */
    for (uint32_t i = 0; i < SHARED_WEIGHTS; i++) {
        struct svd_matrix w = matrix(60, 40, 100 + i);
        struct svd_cache_stats s;
        ask_once(&w, (struct svd_request){.end = SVD_BOTTOM, .rank = 2}, &s);
        assert_true(s.hits == 1 && s.rejected == 0);
        matrix_free(&w);
    }
}

struct crowd {
    struct svd_cache *cache;
    struct svd_matrix w[4];
};

static void crowd_asks(void *ctx, int64_t begin, int64_t end) {
    struct crowd *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        struct svd_result r;
        struct mil_error e;
        bool hit;
        struct svd_request q = {.end = SVD_TOP, .rank = 1 + i % 5};
        if (svd_cached(c->cache, &c->w[i % 4], &q, &r, &hit, &e) == MIL_OK) svd_release(&r);
    }
}

static void threads_share(void **state) {
    (void)state;
    struct crowd c;
    fresh_dir();
    c.cache = open_cache(0);
    for (uint32_t i = 0; i < 4; i++) c.w[i] = matrix(40, 30, 50 + i);
    threads_set(3);
    parallel_for(120, 1, crowd_asks, &c);
    threads_set(1);
    struct svd_cache_stats s = svd_cache_stats(c.cache);
    assert_true(s.hits + s.misses == 120 && s.rejected == 0 && s.unwritten == 0 && s.hits > 60);
    for (int i = 0; i < 4; i++) matrix_free(&c.w[i]);
    svd_cache_free(&c.cache);
}

/* Without memory a request fails or succeeds, whole; what is kept meanwhile can be read. */
static void without_memory(void **state) {
    (void)state;
    struct svd_matrix w = matrix(9, 6, 5);
    struct svd_request q = {.end = SVD_BOTTOM, .rank = 2};
    struct svd_result want, r;
    assert_ok(svd_compute(&w, &q, &want, &err));
    fresh_dir();
    for (int found = 0; found < 2; found++) {
        enum mil_status st = MIL_NOMEM;
        for (long n = 0; n < 400 && st != MIL_OK; n++) {
            struct svd_cache *c = open_cache(0);
            bool hit;
            mem_fail_after(n);
            st = svd_cached(c, &w, &q, &r, &hit, &err);
            mem_fail_after(-1);
            assert_true(st == MIL_OK || st == MIL_NOMEM);
            if (st == MIL_OK) {
                assert_part(&r, &want, 0);
                svd_release(&r);
            }
            svd_cache_free(&c);
        }
        assert_int_equal(st, MIL_OK);
        ask_once(&w, q, NULL);
        assert_true(ask_once(&w, q, NULL));
    }
    svd_release(&want);
    matrix_free(&w);
}

int main(void) {
    /* One thread: processes are forked, which a started thread pool does not survive. */
    threads_set(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_share),
        cmocka_unit_test(smaller_ranks_are_served),
        cmocka_unit_test(other_requests_match_exactly),
        cmocka_unit_test(requests_past_the_cache),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(whole_files_of_lies),
        cmocka_unit_test(strange_things_in_its_place),
        cmocka_unit_test(the_least_recent_goes),
        cmocka_unit_test(entries_in_use_stay),
        cmocka_unit_test(left_overs_go),
        cmocka_unit_test(nowhere_to_write),
        cmocka_unit_test(short_work_leaves_nothing),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(threads_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
