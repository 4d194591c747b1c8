/* SPDX-License-Identifier: Apache-2.0 */
/* test_properties.c - what must not change a decomposition (storage type, scale, transposition,
 * order of rows and columns, threads, a second run), what must be refused, and what happens when
 * memory runs out; for every method of the chain and the chain itself.
 *
 * Two results for the same matrix with residuals rho_1, rho_2 (relative to s_0) each lie within
 * sqrt(2) rho / gap of the same singular vector (judge.h), so within sqrt(2) (rho_1 + rho_2) / gap
 * of each other, gap relative to s_0.  The residuals as reported are off by at most (m + n) eps,
 * which is added to both. */
#include "check.h"

#include <limits.h>

#include "spectra.h"

#include "core/threads.h"

static struct mil_error err;

enum { M = 150, N = 110, RANK = 6 };

/* A method's name, NULL for the chain, and whether it serves at all. */
static bool compute(const struct svd_matrix *w, const struct svd_request *q,
                    struct svd_result *out) {
    memset(&err, 0, sizeof err);
    enum mil_status st = svd_compute(w, q, out, &err);
    if (st == MIL_NUMERIC && q->only) return false;
    if (st != MIL_OK)
        fail_msg("%s: %s: %s", q->only ? q->only : "chain", mil_status_name(st), err.message);
    return true;
}

/* Call `check` for the chain and each method, at each end. */
static void for_each_method(void (*check)(struct svd_request q)) {
    for (int end = SVD_BOTTOM; end <= SVD_MIDDLE; end++) {
        struct svd_request q = {.end = (enum svd_end)end, .rank = RANK};
        check(q);
        for (const char *const *name = svd_methods(); *name; name++) {
            q.only = *name;
            check(q);
        }
    }
}

/* ---- invariances ---- */

struct variant {
    const char *name;
    enum dtype type;
    double scale;
    bool transposed, permuted, nested;
};

/* Gaussian values that bf16 holds. */
static double base_value(int64_t i, int64_t j) {
    return (double)bf16_to_f32(bf16_from_f32((float)draw(21, i * N + j)));
}

static int64_t row_of(const struct variant *v, int64_t i) {
    return v->permuted ? (i * 7 + 3) % M : i;
}
static int64_t col_of(const struct variant *v, int64_t j) {
    return v->permuted ? (j * 9 + 5) % N : j;
}

/* Row i of the variant is row row_of(i) of the base. */
static void *variant_data(const struct variant *v) {
    double *w = reals(M * N);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            w[v->transposed ? j * M + i : i * N + j] =
                v->scale * base_value(row_of(v, i), col_of(v, j));
    void *data = stored_as(w, M * N, v->type);
    mem_free(w);
    return data;
}

/* The larger sine between the base's triplet t and the variant's. */
static double angle(const struct variant *v, const struct svd_result *a, const struct svd_result *b,
                    int64_t t) {
    double worst = 0;
    for (int side = 0; side < 2; side++) {
        int64_t len = side ? N : M;
        const double *x = (side ? a->v : a->u) + t * len,
                     *y = ((side == 1) != v->transposed ? b->v : b->u) + t * len;
        double dot = 0, rest = 0;
        for (int64_t i = 0; i < len; i++) dot += x[side ? col_of(v, i) : row_of(v, i)] * y[i];
        for (int64_t i = 0; i < len; i++) {
            double e = y[i] - dot * x[side ? col_of(v, i) : row_of(v, i)];
            rest += e * e;
        }
        worst = worse(worst, sqrt(rest));
    }
    return worst;
}

static void assert_agree(const struct variant *v, const struct svd_request *q, const double *all,
                         const struct svd_result *a, const struct svd_result *b) {
    int64_t index[RANK];
    double noise = (M + N) * DBL_EPSILON;
    assert_ok(svd_indices(q, M, N, index, &err));
    for (int64_t t = 0; t < RANK; t++) {
        int64_t i = index[t];
        double gap = fmin(i > 0 ? all[i - 1] - all[i] : INFINITY,
                          i + 1 < N ? all[i] - all[i + 1] : INFINITY) /
                     all[0];
        double bound = 1.4143 * (a->residual + b->residual + 2 * noise) / gap + noise,
               sine = angle(v, a, b, t);
        if (!(sine <= bound))
            fail_msg("%s, %s, triplet %lld: sine %.2g, the bound is %.2g", v->name,
                     q->only ? q->only : "chain", (long long)i, sine, bound);
        assert_true(fabs(b->sigma[t] / v->scale - a->sigma[t]) <= 1e-12 * all[0]);
    }
}

struct nested {
    const struct svd_matrix *w;
    const struct svd_request *q;
    struct svd_result out[2];
    enum mil_status status[2];
};

static void compute_nested(void *ctx, int64_t begin, int64_t end) {
    struct nested *c = ctx;
    for (int64_t i = begin; i < end; i++) c->status[i] = svd_compute(c->w, c->q, &c->out[i], NULL);
}

static void assert_same_bits(const struct svd_result *a, const struct svd_result *b) {
    assert_memory_equal(a->u, b->u, (size_t)(a->rank * a->m) * sizeof *a->u);
    assert_memory_equal(a->v, b->v, (size_t)(a->rank * a->n) * sizeof *a->v);
    assert_memory_equal(a->sigma, b->sigma, (size_t)a->rank * sizeof *a->sigma);
    assert_string_equal(a->served_by, b->served_by);
}

/* The variant's result; inside parallel_for both threads compute it, with the same bits. */
static bool compute_variant(const struct variant *v, const struct svd_matrix *w,
                            const struct svd_request *q, struct svd_result *out) {
    if (!v->nested) return compute(w, q, out);
    struct nested c = {.w = w, .q = q};
    parallel_for(2, 1, compute_nested, &c);
    assert_int_equal(c.status[0], c.status[1]);
    *out = c.out[0];
    if (c.status[0] == MIL_NUMERIC && q->only) return false;
    assert_int_equal(c.status[0], MIL_OK);
    assert_same_bits(&c.out[0], &c.out[1]);
    svd_release(&c.out[1]);
    return true;
}

static void check_variants(struct svd_request q) {
    static const struct variant base = {"base", DT_BF16, 1, false, false, false},
                                variants[] = {
                                    {"again", DT_BF16, 1, false, false, false},
                                    {"f32", DT_F32, 1, false, false, false},
                                    {"f64", DT_F64, 1, false, false, false},
                                    {"scaled up", DT_BF16, 0x1p60, false, false, false},
                                    {"scaled down", DT_F32, 0x1p-90, false, false, false},
                                    {"transposed", DT_BF16, 1, true, false, false},
                                    {"permuted", DT_BF16, 1, false, true, false},
                                    {"nested", DT_BF16, 1, false, false, true},
                                };
    static double all[N];
    void *data = variant_data(&base);
    struct svd_matrix w = {data, base.type, M, N};
    struct svd_result a, b;
    if (all[0] == 0) assert_ok(svd_values(&w, all, &err));
    bool serves = compute(&w, &q, &a);
    for (size_t i = 0; serves && i < sizeof variants / sizeof *variants; i++) {
        const struct variant *v = &variants[i];
        void *other = variant_data(v);
        struct svd_matrix x = {other, v->type, v->transposed ? N : M, v->transposed ? M : N};
        if (compute_variant(v, &x, &q, &b)) {
            assert_agree(v, &q, all, &a, &b);
            if (i == 0) assert_same_bits(&a, &b);
            svd_release(&b);
        }
        mem_free(other);
    }
    if (serves) svd_release(&a);
    mem_free(data);
}

static void test_invariances(void **state) {
    (void)state;
    for_each_method(check_variants);
}

/* ---- out of memory ---- */

/* Every allocation fails in turn until none does: MIL_NOMEM, an empty result, nothing kept.  (The
 * chain may also get by with the next method.)  A run of a large matrix takes long, so there the
 * numbers thin out from `every` on. */
static void starve(const struct svd_matrix *w, struct svd_request q, long every) {
    size_t before = mem_stats(MEM_SCRATCH).now;
    enum mil_status st = MIL_NOMEM;
    for (long n = 0; st == MIL_NOMEM; n += 1 + n / every) {
        struct svd_result r;
        assert_true(n < 20000);
        mem_fail_after(n);
        st = svd_compute(w, &q, &r, &err);
        mem_fail_after(-1);
        if (st != MIL_OK) assert_true(!r.u && !r.v && !r.sigma);
        svd_release(&r);
        assert_int_equal(mem_stats(MEM_SCRATCH).now, before);
    }
    if (st != MIL_OK && !(st == MIL_NUMERIC && q.only)) /* refused on its own account */
        fail_msg("%s: %s", q.only ? q.only : "chain", err.message);
}

/* Gaussian values in bf16 (mem_free). */
static void *gaussian_bf16(int64_t m, int64_t n) {
    double *values = reals(m * n);
    fill_gaussian(values, m * n, 22);
    void *data = stored_as(values, m * n, DT_BF16);
    mem_free(values);
    return data;
}

static void check_memory(struct svd_request q) {
    void *data = gaussian_bf16(M, N);
    starve(&(struct svd_matrix){data, DT_BF16, M, N}, q, LONG_MAX);
    mem_free(data);
}

static void test_out_of_memory(void **state) {
    (void)state;
    for_each_method(check_memory);
}

/* ---- the methods that begin at 1024 ---- */

enum { LARGE = 1024 };

static bool slow(const char *what) {
    if (getenv("MILORA_SLOW")) return true;
    fprintf(stderr, "SKIP %s: takes a minute, needs MILORA_SLOW=1\n", what);
    return false;
}

/* The same bits twice, and in both threads of a parallel loop. */
static void test_large_again(void **state) {
    (void)state;
    static const struct variant nested = {"nested", DT_BF16, 1, false, false, true};
    if (!slow(__func__)) skip();
    void *data = gaussian_bf16(LARGE, LARGE);
    struct svd_matrix w = {data, DT_BF16, LARGE, LARGE};
    for (int end = SVD_BOTTOM; end <= SVD_MIDDLE; end++) {
        struct svd_request q = {.end = (enum svd_end)end, .rank = RANK};
        struct svd_result a, b, c;
        assert_true(compute(&w, &q, &a) && compute(&w, &q, &b));
        assert_same_bits(&a, &b);
        assert_true(compute_variant(&nested, &w, &q, &c));
        for (int64_t t = 0; t < RANK; t++)
            assert_true(fabs(c.sigma[t] - a.sigma[t]) <= 1e-12 * a.sigma_max);
        svd_release(&a);
        svd_release(&b);
        svd_release(&c);
    }
    mem_free(data);
}

static void check_large_memory(struct svd_request q) {
    if (!q.only || strncmp(q.only, "dge", 3) == 0) return;
    void *data = gaussian_bf16(LARGE, LARGE);
    starve(&(struct svd_matrix){data, DT_BF16, LARGE, LARGE}, q, 8);
    mem_free(data);
}

static void test_large_out_of_memory(void **state) {
    (void)state;
    if (!slow(__func__)) skip();
    for_each_method(check_large_memory);
}

/* svd_memory covers what the first method takes.  The peak is the process's, so matrices grow and
 * this test comes first. */
static void test_memory_plan(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{60, 80}, {120, 110}, {200, 300}, {500, 260}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int end = SVD_TOP; end <= SVD_RANDOM; end++) {
            int64_t m = shapes[s][0], n = shapes[s][1];
            struct svd_request q = {.end = (enum svd_end)end, .rank = RANK};
            struct svd_result r;
            void *data = gaussian_bf16(m, n);
            struct mem_stats before = mem_stats(MEM_SCRATCH);
            assert_ok(svd_compute(&(struct svd_matrix){data, DT_BF16, m, n}, &q, &r, &err));
            size_t after = mem_stats(MEM_SCRATCH).peak, plan = svd_memory(m, n, &q);
            if (after > before.peak && after - before.now > plan)
                fail_msg("%lld x %lld, end %d, %s: took %zu bytes, svd_memory says %zu",
                         (long long)m, (long long)n, end, r.served_by, after - before.now, plan);
            svd_release(&r);
            mem_free(data);
        }
}

/* ---- refusals ---- */

static void test_not_finite(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_BF16, DT_F16, DT_F32, DT_F64};
    static const double wrong[] = {NAN, INFINITY, -INFINITY};
    double *values = reals(300 * 200);
    fill_gaussian(values, 300 * 200, 24);
    for (int t = 0; t < 4; t++)
        for (int c = 0; c < 3; c++) {
            struct svd_request q = {.end = SVD_BOTTOM, .rank = 3};
            struct svd_result r;
            values[211 * 200 + 17] = values[299 * 200 + 3] = wrong[c];
            void *data = stored_as(values, 300 * 200, types[t]);
            struct svd_matrix w = {data, types[t], 300, 200};
            assert_fails(svd_compute(&w, &q, &r, &err), MIL_INPUT,
                         c ? "entry (211, 17) is infinite" : "entry (211, 17) is NaN");
            assert_true(!r.u && !r.sigma && !r.v);
            assert_fails(svd_values(&w, values, &err), MIL_INPUT, "entry (211, 17)");
            mem_free(data);
        }
    mem_free(values);
}

/* Squares that overflow are refused by the scan, not turned into wrong numbers. */
static void test_too_large(void **state) {
    (void)state;
    double w[6] = {1e300, 1, 2, 3, 4, 5};
    struct svd_request q = {.end = SVD_TOP, .rank = 1};
    struct svd_result r;
    assert_fails(svd_compute(&(struct svd_matrix){w, DT_F64, 3, 2}, &q, &r, &err), MIL_INPUT,
                 "scale it");
}

static void test_requests(void **state) {
    (void)state;
    double w[12] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    struct svd_matrix a = {w, DT_F64, 4, 3};
    struct svd_result r;
    static const int64_t twice[] = {0, 1, 1}, down[] = {1, 0}, beyond[] = {0, 3}, minus[] = {-1, 2};
    const struct {
        struct svd_request q;
        const char *part;
    } wrong[] = {
        {{.end = SVD_BOTTOM, .rank = -1}, "choose 1 to 3"},
        {{.end = SVD_TOP, .rank = 4}, "choose 1 to 3"},
        {{.end = SVD_MIDDLE, .rank = INT64_MAX}, "choose 1 to 3"},
        {{.end = SVD_RANDOM, .rank = INT64_MIN}, "choose 1 to 3"},
        {{.end = SVD_CHOSEN, .rank = 3, .chosen = twice}, "must ascend"},
        {{.end = SVD_CHOSEN, .rank = 2, .chosen = down}, "must ascend"},
        {{.end = SVD_CHOSEN, .rank = 2, .chosen = beyond}, "triplet 3"},
        {{.end = SVD_CHOSEN, .rank = 2, .chosen = minus}, "triplet -1"},
        {{.end = SVD_TOP, .rank = 1, .only = "svds"}, "'svds'"},
        {{.end = SVD_TOP, .rank = 1, .only = ""}, "''"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(svd_compute(&a, &wrong[i].q, &r, &err), MIL_USAGE, wrong[i].part);
    struct svd_request random = {.end = SVD_RANDOM, .rank = 3, .seed = 1};
    int64_t index[3];
    random.rank = INT64_MAX;
    assert_fails(svd_indices(&random, 4, 3, index, &err), MIL_USAGE, "choose 1 to 3");
    random.rank = 3;
    assert_ok(svd_indices(&random, 4, 3, index, &err)); /* all of them, in order */
    for (int64_t i = 0; i < 3; i++) assert_true(index[i] == i);
}

/* All values, against the reference's, where they are hardest. */
static void test_values(void **state) {
    (void)state;
    static const struct {
        int64_t m, n;
        spectrum_fn spectrum;
        entries_fn entries;
        double scale;
    } cases[] = {
        {1, 1, NULL, entries_gaussian, 1},
        {1, 50, NULL, entries_gaussian, 1},
        {50, 1, NULL, entries_gaussian, 1},
        {60, 40, spectrum_geometric, NULL, 1},
        {40, 60, spectrum_lacks_many, NULL, 1},
        {50, 50, spectrum_two_levels, NULL, 1e-150},
        {48, 48, NULL, entries_kahan, 1},
        {40, 50, NULL, entries_zero, 1},
        {50, 40, NULL, entries_outlier_column, 1e100},
        {300, 180, NULL, entries_spikes, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t m = cases[c].m, n = cases[c].n, k = m < n ? m : n;
        double *w = reals(m * n), *d = reals(k);
        for (int64_t i = 0; cases[c].spectrum && i < k; i++) d[i] = cases[c].spectrum(i, k, 6);
        if (cases[c].spectrum) fill_spectrum(w, m, n, d);
        if (cases[c].entries) cases[c].entries(w, m, n);
        for (int64_t i = 0; i < m * n; i++) w[i] *= cases[c].scale;
        struct reference f;
        struct svd_matrix a = {w, DT_F64, m, n};
        reference_init(&f, &a);
        assert_ok(svd_values(&a, d, &err));
        for (int64_t i = 0; i < k; i++) {
            assert_true(fabs(d[i] * f.scale - f.s[i]) <= 1e-10 * f.s[0]);
            assert_true(d[i] >= 0 && (i == 0 || d[i] <= d[i - 1]));
        }
        reference_release(&f);
        mem_free(d);
        mem_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_plan),
        cmocka_unit_test(test_invariances),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_large_again),
        cmocka_unit_test(test_large_out_of_memory),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
