/* SPDX-License-Identifier: Apache-2.0 */
/* test_slice.c - the method "slice": against LAPACK's full decomposition, on both orientations, all
 * stored types, double values, and what it must decline.  And its parts: inertia, solution and error
 * bound of the block LDL^T.
 *
 * Tolerances.  The residual's target is 4e-13 sigma_max, the promise 1e-12.  A singular value is
 * then right to 1e-12 sigma_max (Weyl); with a residual rho and the distance gap to the nearest
 * other singular value, the sine of the angle of a vector is at most sqrt(2) rho / gap (Wedin). */
#include "check.h"

#include <math.h>

#include "core/dtype.h"
#include "core/mem.h"
#include "core/rng.h"
#include "linalg/slice.h"

static const double tolerance = 1e-12;

static struct mil_error err;

static double normal(uint32_t stream, int64_t i) {
    return rng_normal(11, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

/* A Gaussian bulk and a head of 24 directions that falls as a power: [m, n] in f32. */
static float *weight(int64_t m, int64_t n, double head) {
    enum { HEAD = 24 };
    float *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    double *u = mem_alloc(MEM_OTHER, (size_t)(HEAD * (m + n)), sizeof *u), *v = u + HEAD * m;
    for (int64_t i = 0; i < HEAD * (m + n); i++) {
        u[i] = normal(1, i);
        if (i < HEAD * m) u[i] *= head * pow((double)(i % HEAD) + 1, -0.7) / sqrt((double)m);
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double x = normal(2, i * n + j);
            for (int t = 0; head > 0 && t < HEAD; t++) x += u[i * HEAD + t] * v[j * HEAD + t];
            w[i * n + j] = (float)(0.02 * x);
        }
    mem_free(u);
    return w;
}

static bf16 *as_bf16(const float *w, int64_t n) {
    bf16 *b = mem_alloc(MEM_OTHER, (size_t)n, sizeof *b);
    for (int64_t i = 0; i < n; i++) b[i] = bf16_from_f32(w[i]);
    return b;
}

static struct svd_result serve(struct svd_matrix w, const char *only, int64_t first, int64_t rank) {
    int64_t index[64];
    struct svd_result r;
    for (int64_t i = 0; i < rank; i++) index[i] = first + i;
    struct svd_request q = {.end = SVD_CHOSEN, .rank = rank, .chosen = index, .only = only};
    assert_ok(svd_compute(&w, &q, &r, &err));
    assert_string_equal(r.served_by, only);
    return r;
}

static double inner(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Equal triplets; `full` holds those of indices around the ones of r too, from first - 1 on. */
static void assert_same(const struct svd_result *r, const struct svd_result *full) {
    double scale = full->sigma_max;
    for (int64_t t = 0; t < r->rank; t++) {
        const double *s = full->sigma + t + 1;
        double gap = fmin(s[-1] - s[0], s[0] - s[1]) / scale, sine = 2 * tolerance / gap;
        assert_true(fabs(r->sigma[t] - s[0]) <= tolerance * scale);
        double u = inner(r->u + t * r->m, full->u + (t + 1) * r->m, r->m);
        double v = inner(r->v + t * r->n, full->v + (t + 1) * r->n, r->n);
        /* cos >= 1 - sine^2, and eight digits are lost in 1 - cos: compare with room for 1e-14 */
        assert_true(1 - u <= sine * sine + 1e-14 && 1 - v <= sine * sine + 1e-14);
    }
}

/* ---- the method ---- */

static void test_against_lapack(void **state) {
    (void)state;
    int64_t m = 1100, n = 1300, rank = 48, first = (m - rank) / 2;
    float *w = weight(m, n, 30);
    bf16 *b = as_bf16(w, m * n);
    struct svd_matrix matrix = {b, DT_BF16, m, n};
    struct svd_result full = serve(matrix, "dgesdd", first - 1, rank + 2);
    struct svd_result r = serve(matrix, "slice", first, rank);
    assert_true(r.residual <= tolerance && r.orthogonality <= tolerance && r.cut == 0);
    assert_true(fabs(r.sigma_max / full.sigma_max - 1) <= 1e-6);
    assert_same(&r, &full);
    svd_release(&r);
    svd_release(&full);
    mem_free(b);
    mem_free(w);
}

/* Other windows than the middle, every stored type, W^T, the same bits again. */
static void test_windows_and_types(void **state) {
    (void)state;
    int64_t m = 1300, n = 1040, rank = 32, first = 700;
    float *w = weight(m, n, 0), *t = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *t);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            w[i * n + j] = bf16_to_f32(bf16_from_f32(w[i * n + j]));
            t[j * m + i] = w[i * n + j];
        }
    bf16 *b = as_bf16(w, m * n);
    struct svd_result r = serve((struct svd_matrix){w, DT_F32, m, n}, "slice", first, rank),
                      turned = serve((struct svd_matrix){t, DT_F32, n, m}, "slice", first, rank),
                      half = serve((struct svd_matrix){b, DT_BF16, m, n}, "slice", first, rank),
                      again = serve((struct svd_matrix){b, DT_BF16, m, n}, "slice", first, rank);
    for (int64_t i = 0; i < rank; i++) {
        assert_true(fabs(r.sigma[i] - turned.sigma[i]) <= tolerance * r.sigma_max);
        assert_true(fabs(r.sigma[i] - half.sigma[i]) <= tolerance * r.sigma_max);
        assert_true(fabs(inner(r.u + i * m, turned.v + i * m, m)) >= 1 - 1e-8);
    }
    assert_memory_equal(half.sigma, again.sigma, (size_t)rank * sizeof *again.sigma);
    assert_memory_equal(half.u, again.u, (size_t)(rank * m) * sizeof *again.u);
    assert_memory_equal(half.v, again.v, (size_t)(rank * n) * sizeof *again.v);
    svd_release(&r);
    svd_release(&turned);
    svd_release(&half);
    svd_release(&again);
    mem_free(b);
    mem_free(t);
    mem_free(w);
}

/* The chain serves the middle of a large matrix by this method. */
static void test_in_the_chain(void **state) {
    (void)state;
    int64_t m = 1500, n = 1024, rank = 24;
    float *w = weight(m, n, 8);
    struct svd_matrix matrix = {w, DT_F32, m, n};
    struct svd_request q = {.end = SVD_MIDDLE, .rank = rank};
    struct svd_result r, chosen = serve(matrix, "slice", (n - rank) / 2, rank);
    assert_ok(svd_compute(&matrix, &q, &r, &err));
    assert_string_equal(r.served_by, "slice");
    assert_memory_equal(r.sigma, chosen.sigma, (size_t)rank * sizeof *r.sigma);
    svd_release(&chosen);
    svd_release(&r);
    mem_free(w);
}

/* diag(A, A) has every value twice.  The window [first, first + 31) splits a pair at its lower end;
 * the values are those of A, known from its own dgesdd. */
static void test_double_values(void **state) {
    (void)state;
    int64_t m = 600, n = 640, rank = 31, first = 580;
    float *a = weight(m, n, 0), *w = mem_calloc(MEM_OTHER, (size_t)(4 * m * n), sizeof *w);
    for (int64_t i = 0; i < m; i++) {
        memcpy(w + i * 2 * n, a + i * n, (size_t)n * sizeof *w);
        memcpy(w + (m + i) * 2 * n + n, a + i * n, (size_t)n * sizeof *w);
    }
    struct svd_result half = serve((struct svd_matrix){a, DT_F32, m, n}, "dgesdd", first / 2, 16);
    struct svd_result r = serve((struct svd_matrix){w, DT_F32, 2 * m, 2 * n}, "slice", first, rank);
    assert_true(r.residual <= tolerance && r.orthogonality <= tolerance && r.cut == 0);
    assert_true(fabs(r.sigma_max / half.sigma_max - 1) <= 1e-6);
    for (int64_t i = 0; i < rank; i++)
        assert_true(fabs(r.sigma[i] - half.sigma[i / 2]) <= tolerance * r.sigma_max);
    svd_release(&r);
    svd_release(&half);
    mem_free(w);
    mem_free(a);
}

static void assert_declined(const void *data, enum dtype type, int64_t k, int64_t first) {
    int64_t index[8];
    struct svd_result r;
    for (int64_t i = 0; i < 8; i++) index[i] = first + i;
    struct svd_request q = {.end = SVD_CHOSEN, .rank = 8, .chosen = index, .only = "slice"};
    struct svd_matrix w = {data, type, k, k};
    assert_int_equal(svd_compute(&w, &q, &r, &err), MIL_NUMERIC);
}

/* What f32 cannot resolve ends as MIL_NUMERIC: all values equal, a middle of zeros, values that
 * fall geometrically, no value at all, and shapes and indices of other methods. */
static void test_declines(void **state) {
    (void)state;
    int64_t k = 1024;
    float *w = mem_calloc(MEM_OTHER, (size_t)(k * k), sizeof *w), *g = weight(k, k, 0);
    assert_declined(w, DT_F32, k, 500);
    for (int64_t i = 0; i < k; i++) w[i * k + i] = 3;
    assert_declined(w, DT_F32, k, 500);
    for (int64_t i = 0; i < k; i++) w[i * k + i] = (float)pow(0.97, (double)i);
    assert_declined(w, DT_F32, k, 500);
    memset(g, 0, (size_t)(2 * k * k / 3) * sizeof *g);
    assert_declined(g, DT_F32, k, 500);
    assert_declined(g, DT_F32, k, 0);
    assert_declined(g, DT_F32, k, k - 8);
    assert_declined(g, DT_F32, k - 1, 500);
    mem_free(g);
    mem_free(w);
}

/* Every allocation may fail: MIL_NOMEM, nothing lost (the sanitizers' build sees to that). */
static void test_no_memory(void **state) {
    (void)state;
    static const long after[] = {8, 9, 10, 11, 12, 13, 16, 20, 24, 28, 32};
    int64_t k = 1024, index[2] = {512, 513};
    float *w = weight(k, k, 0);
    struct svd_matrix matrix = {w, DT_F32, k, k};
    struct svd_request q = {.end = SVD_CHOSEN, .rank = 2, .chosen = index, .only = "slice"};
    struct svd_result r;
    for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
        mem_fail_after(after[i]);
        enum mil_status st = svd_compute(&matrix, &q, &r, &err);
        mem_fail_after(-1);
        assert_int_equal(st, MIL_NOMEM);
    }
    mem_free(w);
}

/* ---- the parts ---- */

enum { K = 600 };

/* G = P diag(d) P in f32 with a Householder reflection P, d = 0, 1, ... K - 1 over K/2. */
static float *known_spectrum(void) {
    float *g = mem_alloc(MEM_OTHER, (size_t)(K * K), sizeof *g);
    double x[K], xx = 0, xdx = 0;
    for (int i = 0; i < K; i++) {
        x[i] = normal(3, i);
        xx += x[i] * x[i];
    }
    for (int i = 0; i < K; i++) xdx += x[i] * x[i] * i * 2 / K;
    for (int j = 0; j < K; j++)
        for (int i = 0; i < K; i++) {
            double di = 2.0 * i / K, dj = 2.0 * j / K;
            g[j * K + i] = (float)((i == j ? di : 0) - 2 * x[i] * x[j] * (di + dj) / xx +
                                   4 * x[i] * x[j] * xdx / (xx * xx));
        }
    return g;
}

/* The inertia between any two eigenvalues is exact: they are 3e-3 apart, f32 errs by 1e-5. */
static void test_inertia(void **state) {
    (void)state;
    float *g = known_spectrum();
    struct ldlt f;
    assert_ok(ldlt_new(K, &f, &err));
    for (int64_t i = 0; i <= K; i += 50) {
        int64_t below;
        assert_ok(ldlt_factor(&f, g, (float)((2.0 * (double)i - 1) / K), &below, &err));
        assert_int_equal(below, i);
    }
    ldlt_release(&f);
    mem_free(g);
}

/* A A^-1 x = x, and the product of the factors is A: both to f32 accuracy times their norms, 1e-5
 * and 1e-5 / 1.7e-3 (the distance of the nearest eigenvalue). */
static void test_solve_and_multiply(void **state) {
    (void)state;
    enum { P = 3 };
    float *g = known_spectrum(), x[K * P], y[K * P];
    double z[K * P], shift = (double)(float)(601.0 / K);
    struct ldlt f;
    int64_t below;
    assert_ok(ldlt_new(K, &f, &err));
    assert_ok(ldlt_factor(&f, g, (float)shift, &below, &err));
    for (int i = 0; i < K * P; i++) {
        x[i] = y[i] = (float)normal(4, i);
        z[i] = (double)x[i];
    }
    ldlt_solve(&f, y, P);
    ldlt_multiply(&f, z, P);
    for (int t = 0; t < P; t++)
        for (int i = 0; i < K; i++) {
            double ay = -shift * (double)y[t * K + i], ax = -shift * (double)x[t * K + i];
            for (int j = 0; j < K; j++) {
                ay += (double)g[j * K + i] * (double)y[t * K + j];
                ax += (double)g[j * K + i] * (double)x[t * K + j];
            }
            assert_true(fabs(ay - (double)x[t * K + i]) <= 1e-2);
            assert_true(fabs(ax - z[t * K + i]) <= 1e-4);
        }
    ldlt_release(&f);
    mem_free(g);
}

/* The bound holds against an error that is put there: G of the weight, factorised with a diagonal
 * entry off by 0.01, has ||E|| = 0.01 (and f32 noise); the bound may not be below, nor, after four
 * powers, more than 4 times above ((10 * |z|)^(1/4) with |z| < 10). */
static void test_error_bound(void **state) {
    (void)state;
    float *w = weight(K, K, 0), *g = mem_calloc(MEM_OTHER, (size_t)(K * K), sizeof *g);
    double s = 1 / (0.02 * sqrt(K)), shift[2] = {0.5, 0.7}, wanted[2] = {0, 0}, bound[2];
    for (int r = 0; r < K; r++)
        for (int j = 0; j < K; j++)
            for (int i = j; i < K; i++)
                g[j * K + i] += (float)(s * s * (double)w[r * K + i] * (double)w[r * K + j]);
    struct ldlt a, b;
    int64_t below;
    assert_ok(ldlt_new(K, &a, &err));
    assert_ok(ldlt_new(K, &b, &err));
    assert_ok(ldlt_factor(&a, g, (float)shift[0], &below, &err));
    g[7 * K + 7] += 0.01f;
    shift[1] = (double)(float)shift[1];
    assert_ok(ldlt_factor(&b, g, (float)shift[1], &below, &err));
    assert_ok(slice_bounds(&(struct svd_matrix){w, DT_F32, K, K}, s,
                           (const struct ldlt *const[2]){&a, &b}, shift, wanted, bound, &err));
    assert_true(bound[0] > 1e-7 && bound[0] < 1e-3);
    assert_true(bound[1] >= 0.0099 && bound[1] <= 0.04);
    ldlt_release(&b);
    ldlt_release(&a);
    mem_free(g);
    mem_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_lapack), cmocka_unit_test(test_windows_and_types),
        cmocka_unit_test(test_in_the_chain),   cmocka_unit_test(test_double_values),
        cmocka_unit_test(test_declines),       cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_inertia),        cmocka_unit_test(test_solve_and_multiply),
        cmocka_unit_test(test_error_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
