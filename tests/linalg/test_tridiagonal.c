/* SPDX-License-Identifier: Apache-2.0 */
/* test_tridiagonal.c - the method "tridiagonal" against LAPACK's full decomposition.
 *
 * Tolerances.  Refined pairs have residuals of some (3 p + sqrt(k)) eps s_0 (test_refine.c), below
 * 5e-14 s_0 for the blocks here (p <= 96), and Weyl's inequality puts the values as close to true
 * ones; dgesdd's backward error is a modest multiple of eps s_0, below 1e-13 s_0 for k <= 200: sigma
 * agrees to 2e-13 s_0.  A vector of residual rho and distance gap to the other values (those beyond
 * the rank, 0, too where W is not square) is right to an angle of rho / gap, for both: the limit is
 * 2 * 2e-13 s_0 / gap.  Where the values fall below sqrt(eps) s_0 the method may decline
 * (MIL_NUMERIC), never be wrong. */
#include "check.h"

#include <float.h>

#include "linalg/spectrum.h"
#include "linalg/tridiagonal.h"

static const double tolerance = 2e-13;
static struct mil_error err;

static enum mil_status compute(const struct svd_matrix *w, enum svd_end end, int64_t r,
                               const char *only, struct svd_result *out) {
    struct svd_request q = {.end = end, .rank = r, .seed = 5, .stream = 1, .only = only};
    return svd_compute(w, &q, out, &err);
}

/* Vectors of a against those of b where the spectrum s [k] separates them; index: of the triplets. */
static void compare_vectors(const struct svd_result *a, const struct svd_result *b, const double *s,
                            const int64_t *index) {
    double error = tolerance + a->residual;
    int64_t k = a->m < a->n ? a->m : a->n;
    for (int64_t t = 0; t < a->rank; t++) {
        int64_t i = index[t];
        double gap = a->m == a->n && i == k - 1 ? INFINITY : s[i];
        if (i > 0) gap = fmin(gap, s[i - 1] - s[i]);
        if (i + 1 < k) gap = fmin(gap, s[i] - s[i + 1]);
        double limit = 2 * error * s[0] / gap, dot_u = 0, dot_v = 0;
        if (!(limit <= 0.1)) continue;
        for (int64_t c = 0; c < a->m; c++) dot_u += a->u[t * a->m + c] * b->u[t * a->m + c];
        for (int64_t c = 0; c < a->n; c++) dot_v += a->v[t * a->n + c] * b->v[t * a->n + c];
        /* |dot| = cos(angle) >= 1 - angle^2 / 2; the signs of u and v turn together */
        assert_true(fabs(dot_u) >= 1 - limit * limit - 1e-13 && dot_u * dot_v > 0);
        assert_true(fabs(dot_v) >= 1 - limit * limit - 1e-13);
    }
}

/* Against dgesdd, residual at most `most`; false where the method declined. */
static bool agrees_within(const struct svd_matrix *w, enum svd_end end, int64_t r, double most,
                          const char *what) {
    struct svd_result a, b;
    int64_t k = short_side(w), *index = mem_alloc(MEM_OTHER, (size_t)r, sizeof *index);
    double *s = mem_alloc(MEM_OTHER, (size_t)k, sizeof *s);
    struct svd_request q = {.end = end, .rank = r, .seed = 5, .stream = 1};
    enum mil_status st = compute(w, end, r, "tridiagonal", &a);
    if (st == MIL_OK) {
        assert_ok(compute(w, end, r, "dgesdd", &b));
        assert_ok(svd_values(w, s, &err));
        assert_ok(svd_indices(&q, w->m, w->n, index, &err));
        if (!(a.residual <= most && a.orthogonality <= tolerance && a.cut <= 1e-6))
            fail_msg("%s: residual %g, orthogonality %g, cut %g", what, a.residual, a.orthogonality,
                     a.cut);
        assert_true(fabs(a.sigma_max - s[0]) <= 1e-12 * s[0]);
        for (int64_t t = 0; t < r; t++)
            if (!(fabs(a.sigma[t] - b.sigma[t]) <= (tolerance + a.residual + a.cut) * s[0]))
                fail_msg("%s: sigma %d is %.17g, not %.17g", what, (int)t, a.sigma[t], b.sigma[t]);
        compare_vectors(&a, &b, s, index);
        svd_release(&a);
        svd_release(&b);
    } else if (st != MIL_NUMERIC) {
        fail_msg("%s: %s", what, err.message);
    }
    mem_free(s);
    mem_free(index);
    return st == MIL_OK;
}

static bool agrees(const struct svd_matrix *w, enum svd_end end, int64_t r, const char *what) {
    return agrees_within(w, end, r, tolerance, what);
}

static double *gaussian(int64_t m, int64_t n, uint32_t stream) {
    double *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m * n; i++)
        w[i] = rng_normal(7, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
    return w;
}

static void test_shapes_and_ends(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1},   {1, 9},   {9, 1},   {2, 2},     {3, 7},
                                        {16, 16}, {33, 17}, {17, 33}, {120, 120}, {200, 90}};
    char what[64];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], k = m < n ? m : n;
        double *w = gaussian(m, n, (uint32_t)s);
        const int64_t ranks[] = {1, (k + 3) / 4, k};
        for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++)
            for (int i = 0; i < 3; i++) {
                snprintf(what, sizeof what, "%dx%d end %d rank %d", (int)m, (int)n, end,
                         (int)ranks[i]);
                assert_true(agrees(&(struct svd_matrix){w, DT_F64, m, n}, (enum svd_end)end,
                                   ranks[i], what));
            }
        mem_free(w);
    }
}

/* Gaussian values are far apart: the cut is proven. */
static void test_cut_is_zero(void **state) {
    (void)state;
    double *w = gaussian(130, 100, 20);
    for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++) {
        struct svd_result r;
        assert_ok(compute(&(struct svd_matrix){w, DT_F64, 130, 100}, (enum svd_end)end, 12,
                          "tridiagonal", &r));
        assert_true(r.cut == 0 && r.residual > 0);
        svd_release(&r);
    }
    mem_free(w);
}

static void test_graded(void **state) {
    (void)state;
    enum { K = 150 };
    double d[K];
    char what[64];
    for (int e = 2; e <= 14; e += 2)
        for (int wide = 0; wide < 2; wide++) {
            spectrum_graded(d, K, pow(10, -e));
            int64_t m = wide ? K : 180, n = wide ? 180 : K;
            double *w = spectrum_matrix(m, n, d, 3);
            for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++) {
                snprintf(what, sizeof what, "graded to 1e-%d, end %d, wide %d", e, end, wide);
                struct svd_matrix view = {w, DT_F64, m, n};
                double most = e < 8 ? tolerance : 1e-12; /* what the method accepts */
                bool served = agrees_within(&view, (enum svd_end)end, 20, most, what);
                assert_true(served || (e >= 8 && end != SVD_TOP));
            }
            mem_free(w);
        }
}

/* Zeros, ones and both; the zero matrix; equal values on both sides of the cut. */
static void test_clusters(void **state) {
    (void)state;
    enum { K = 120 };
    double d[K];
    char what[64];
    for (int kind = 0; kind < 6; kind++) {
        for (int t = 0; t < K; t++)
            d[t] = kind == 0   ? 0
                   : kind == 1 ? 1
                   : kind == 2 ? t < 60
                   : kind == 3 ? 1 + t / 5
                   : kind == 4 ? (t < 100 ? 1 + t : 0)
                               : 1 + 1e-9 * t;
        for (int square = 0; square < 2; square++) {
            int64_t m = square ? K : 140;
            double *w = spectrum_matrix(m, K, d, 4);
            for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++) {
                snprintf(what, sizeof what, "clusters %d, square %d, end %d", kind, square, end);
                bool served =
                    agrees(&(struct svd_matrix){w, DT_F64, m, K}, (enum svd_end)end, 17, what);
                /* kind 2 has more zeros than guards: inside them no index is proven */
                bool unproven = kind == 2 && end >= SVD_MIDDLE;
                if (!served && !unproven) fail_msg("%s: declined: %s", what, err.message);
            }
            mem_free(w);
        }
    }
}

/* Diagonal matrices: G is diagonal, T splits everywhere. */
static void test_diagonal(void **state) {
    (void)state;
    enum { K = 60 };
    double *w = mem_calloc(MEM_OTHER, K * K, sizeof *w);
    for (int t = 0; t < K; t++) w[t * K + t] = (t * 7) % K + 1;
    for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++)
        assert_true(
            agrees(&(struct svd_matrix){w, DT_F64, K, K}, (enum svd_end)end, 11, "diagonal"));
    for (int t = 0; t < K; t++) w[t * K + t] = 3;
    for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++)
        assert_true(agrees(&(struct svd_matrix){w, DT_F64, K, K}, (enum svd_end)end, 11, "3 I"));
    mem_free(w);
}

static void test_narrow_types(void **state) {
    (void)state;
    enum { M = 70, N = 50 };
    double *w = gaussian(M, N, 30);
    bf16 b[M * N];
    f16 h[M * N];
    float f[M * N];
    for (int i = 0; i < M * N; i++) {
        f[i] = (float)w[i];
        b[i] = bf16_from_f32(f[i]);
        h[i] = f16_from_f32(f[i]);
    }
    assert_true(agrees(&(struct svd_matrix){f, DT_F32, M, N}, SVD_BOTTOM, 9, "f32"));
    assert_true(agrees(&(struct svd_matrix){b, DT_BF16, M, N}, SVD_MIDDLE, 9, "bf16"));
    assert_true(agrees(&(struct svd_matrix){h, DT_F16, M, N}, SVD_TOP, 9, "f16"));
    for (int i = 0; i < M * N; i++) f[i] *= 0x1p-120f; /* squares of 1e-72, no bits lost */
    assert_true(agrees(&(struct svd_matrix){f, DT_F32, M, N}, SVD_BOTTOM, 9, "tiny f32"));
    mem_free(w);
}

/* Squares out of range: this method declines, the chain serves. */
static void test_scale(void **state) {
    (void)state;
    enum { M = 40, N = 30 };
    static const double scale[] = {1e-200, 1e-69, 1e60, 1e150};
    for (int i = 0; i < 4; i++) {
        double *w = gaussian(M, N, 40);
        for (int j = 0; j < M * N; j++) w[j] *= scale[i];
        struct svd_matrix view = {w, DT_F64, M, N};
        bool served = agrees(&view, SVD_BOTTOM, 6, "scaled");
        assert_true(served == (i == 1 || i == 2));
        struct svd_result r;
        assert_ok(compute(&view, SVD_BOTTOM, 6, NULL, &r));
        assert_true(r.residual <= tolerance);
        svd_release(&r);
        mem_free(w);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    double *w = gaussian(300, 200, 50);
    struct svd_result a, b;
    struct svd_matrix view = {w, DT_F64, 300, 200};
    assert_ok(compute(&view, SVD_BOTTOM, 40, "tridiagonal", &a));
    assert_ok(compute(&view, SVD_BOTTOM, 40, "tridiagonal", &b));
    assert_memory_equal(a.u, b.u, 40 * 300 * sizeof(double));
    assert_memory_equal(a.v, b.v, 40 * 200 * sizeof(double));
    svd_release(&a);
    svd_release(&b);
    mem_free(w);
}

/* The reduction by way of a band, which serves k >= 3072 only, forced on a small matrix of known
 * spectrum: eigenvalues of the Gram matrix to eta, refined values to 1e-13 s_0. */
static void test_two_stages(void **state) {
    (void)state;
    enum { K = 150, R = 12 };
    static const int64_t index[R] = {0, 1, 2, 30, 31, 70, 100, 101, 146, 147, 148, 149};
    double d[K];
    for (int kd = 4; kd <= 32; kd *= 2)
        for (int wide = 0; wide < 2; wide++) {
            for (int t = 0; t < K; t++) d[t] = 1 - t / (K + 1.);
            double *w = spectrum_matrix(wide ? K : K + 20, wide ? K + 20 : K, d, 7), residual;
            struct svd_matrix view = {w, DT_F64, wide ? K : K + 20, wide ? K + 20 : K};
            struct reduction t;
            assert_ok(reduction_run(&view, kd, &t, &err));
            for (int j = 0; j < K; j++)
                assert_true(fabs(t.lambda[j] - d[K - 1 - j] * d[K - 1 - j]) <= t.eta);
            assert_ok(reduction_refine(&t, index, R, 1e-15, &residual, &err));
            assert_true(t.p == R && residual <= 1e-14);
            for (int i = 0; i < R; i++) assert_true(fabs(t.sigma[i] - d[index[i]]) <= 1e-13);
            reduction_release(&t);
            mem_free(w);
        }
}

static void test_no_memory(void **state) {
    (void)state;
    double *w = gaussian(20, 16, 60);
    struct svd_result r;
    int refused = 0;
    for (long n = 0; n < 60; n++) {
        mem_fail_after(n);
        enum mil_status st =
            compute(&(struct svd_matrix){w, DT_F64, 20, 16}, SVD_BOTTOM, 2, "tridiagonal", &r);
        mem_fail_after(-1);
        assert_true(st == MIL_NOMEM || st == MIL_OK);
        refused += st == MIL_NOMEM;
        svd_release(&r);
    }
    assert_true(refused >= 30 && refused < 60);
    mem_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_and_ends), cmocka_unit_test(test_cut_is_zero),
        cmocka_unit_test(test_graded),          cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_diagonal),        cmocka_unit_test(test_narrow_types),
        cmocka_unit_test(test_scale),           cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_two_stages),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
