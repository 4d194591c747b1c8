/* SPDX-License-Identifier: Apache-2.0 */
/* test_qr.c - the leading part of a QR factorisation against LAPACK's whole one, on both orientations and every
 * stored type; orthonormal bases, angles and energies against their definitions.
 *
 * Tolerances.  Householder's Q is orthonormal to c m eps, and R's entries err by c m eps ||W||: at m = 200 and
 * ||W||_F <= 200 that is 200 * 2.2e-16 * 200 = 9e-12; single columns of Q turn by that over the smallest diagonal of R,
 * which is above 1 here (checked).  1e-11 is allowed.  Angles and energies are sums of products of such bases: the same. */
#include "check.h"

#include <lapacke.h>
#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "linalg/qr.h"
#include "linalg/subspace.h"

static struct mil_error err;
#define BOUND 1e-11

static double normal(uint32_t stream, int64_t i) {
    return rng_normal(5, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

static double *gaussian(int64_t m, int64_t n, uint32_t stream) {
    double *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m * n; i++) w[i] = normal(stream, i);
    return w;
}

static void near(double have, double want) {
    if (!(fabs(have - want) <= BOUND)) fail_msg("%.17g, wanted %.17g", have, want);
}

/* Q [m, k] and R [k, n], row-major. */
static void whole_qr(const double *w, int64_t m, int64_t n, double *q, double *r) {
    int64_t k = m < n ? m : n;
    double *a = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *a), tau[256];
    memcpy(a, w, (size_t)(m * n) * sizeof *a);
    assert_int_equal(LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, (int)m, (int)n, a, (int)n, tau), 0);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) r[i * n + j] = j < i ? 0 : a[i * n + j];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < k; j++) q[i * k + j] = a[i * n + j];
    assert_int_equal(LAPACKE_dorgqr(LAPACK_ROW_MAJOR, (int)m, (int)k, (int)k, q, (int)k, tau), 0);
    mem_free(a);
}

static void leading_part(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{200, 70, 8}, {70, 200, 8},    {64, 64, 64},   {1, 5, 1},
                                        {5, 1, 1},    {200, 150, 150}, {150, 200, 150}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], r = shapes[s][2], k = m < n ? m : n;
        double *w = gaussian(m, n, (uint32_t)s), *q = gaussian(m, k, 0), *tri = gaussian(k, n, 0),
               *have_q = gaussian(r, m, 0), *have_r = gaussian(r, n, 0);
        struct svd_matrix matrix = {w, DT_F64, m, n};
        whole_qr(w, m, n, q, tri);
        assert_ok(qr_leading(&matrix, r, have_q, have_r, &err));
        for (int64_t t = 0; t < r; t++) {
            if (t < 8) assert_true(fabs(tri[t * n + t]) > 0.1 || k == 1);
            for (int64_t j = 0; j < n; j++) near(have_r[t * n + j], tri[t * n + j]);
            for (int64_t j = 0; j < t && j < n; j++) assert_true(have_r[t * n + j] == 0);
            for (int64_t i = 0; i < m; i++) near(have_q[t * m + i], q[i * k + t]);
        }
        mem_free(have_r);
        mem_free(have_q);
        mem_free(tri);
        mem_free(q);
        mem_free(w);
    }
}

/* A stored type is taken exactly; the memory is what qr_memory says; threads change no bit. */
static void types_memory_threads(void **state) {
    (void)state;
    enum { M = 300, N = 1100, R = 12 };
    float *w = mem_alloc(MEM_OTHER, M * N, sizeof *w);
    double *wide = gaussian(M, N, 3), *q[3], *r[3];
    for (int64_t i = 0; i < M * N; i++) wide[i] = w[i] = (float)wide[i];
    const struct svd_matrix of[] = {{w, DT_F32, M, N}, {wide, DT_F64, M, N}, {w, DT_F32, M, N}};
    for (int i = 0; i < 3; i++) {
        q[i] = gaussian(R, M, 0);
        r[i] = gaussian(R, N, 0);
        threads_set(i == 2 ? 1 : 2);
        size_t before = mem_stats(MEM_SCRATCH).now;
        assert_ok(qr_leading(&of[i], R, q[i], r[i], &err));
        assert_int_equal(mem_stats(MEM_SCRATCH).now, before);
        assert_memory_equal(q[i], q[0], sizeof(double) * R * M);
        assert_memory_equal(r[i], r[0], sizeof(double) * R * N);
    }
    threads_set(0);
    assert_true(mem_stats(MEM_SCRATCH).peak <= qr_memory(M, N, R) + 65536);
    for (int i = 0; i < 3; i++) {
        mem_free(q[i]);
        mem_free(r[i]);
    }
    mem_free(wide);
    mem_free(w);
}

static void refusals(void **state) {
    (void)state;
    double w[6] = {1, 2, 3, 4, 5, NAN}, q[6], r[6];
    struct svd_matrix matrix = {w, DT_F64, 2, 3};
    assert_fails(qr_leading(&matrix, 1, q, r, &err), MIL_INPUT, "entry (1, 2) is NaN");
    w[5] = 6;
    assert_fails(qr_leading(&matrix, 3, q, r, &err), MIL_USAGE, "choose 1 to 2");
    assert_fails(qr_leading(&matrix, 0, q, r, &err), MIL_USAGE, "choose 1 to 2");
    memset(w, 0, sizeof w); /* of a zero weight: Q stays orthonormal, R is zero */
    assert_ok(qr_leading(&matrix, 2, q, r, &err));
    near(q[0] * q[0] + q[1] * q[1], 1);
    near(q[0] * q[2] + q[1] * q[3], 0);
    for (int i = 0; i < 6; i++) assert_true(r[i] == 0);
}

/* ---- subspaces ---- */

static void bases(void **state) {
    (void)state;
    enum { D = 40, R = 5 };
    double *x = gaussian(R, D, 11), *y = gaussian(R, D, 11), sum;
    int64_t rank;
    for (int j = 0; j < D; j++) x[3 * D + j] = 2 * x[D + j] - x[j]; /* depends on two others */
    memset(x + 2 * D, 0, D * sizeof *x);
    memcpy(y, x, R * D * sizeof *x);
    assert_ok(subspace_basis(x, R, D, &rank, &err));
    assert_int_equal(rank, 3);
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            double dot = 0;
            for (int j = 0; j < D; j++) dot += x[a * D + j] * x[b * D + j];
            near(dot, a == b);
        }
    for (int t = 0; t < R; t++) { /* the vectors lie in it */
        double rest = 0;
        for (int j = 0; j < D; j++) {
            double v = y[t * D + j];
            for (int a = 0; a < 3; a++) {
                double dot = 0;
                for (int i = 0; i < D; i++) dot += x[a * D + i] * y[t * D + i];
                v -= dot * x[a * D + j];
            }
            rest += v * v;
        }
        assert_true(sqrt(rest) < BOUND);
    }
    assert_ok(subspace_overlap(x, 3, x, 3, D, &sum, &err));
    near(sum, 3);
    assert_ok(subspace_overlap(x, 2, x + 2 * D, 1, D, &sum, &err));
    near(sum, 0);
    assert_ok(subspace_overlap(x, 0, x, 3, D, &sum, &err));
    assert_true(sum == 0);
    mem_free(y);
    mem_free(x);
}

static void energies(void **state) {
    (void)state;
    enum { M = 60, N = 90 };
    double *w = gaussian(M, N, 21), left[2 * M] = {0}, right[N] = {0}, total = 0, rows = 0,
           cols = 0;
    struct svd_matrix matrix = {w, DT_F64, M, N};
    struct subspace_energy e;
    left[7] = left[M + 30] = right[50] = 1; /* rows 7 and 30, column 50 */
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double v = w[i * N + j] * w[i * N + j];
            total += v;
            rows += i == 7 || i == 30 ? v : 0;
            cols += j == 50 ? v : 0;
        }
    assert_ok(subspace_energy(&matrix, left, 2, right, 1, &e, &err));
    near(e.total / total, 1);
    near(e.left, rows);
    near(e.right, cols);
    assert_ok(subspace_energy(&matrix, NULL, 0, NULL, 0, &e, &err));
    assert_true(e.left == 0 && e.right == 0);
    w[5] = INFINITY;
    assert_fails(subspace_energy(&matrix, left, 2, right, 1, &e, &err), MIL_INPUT, "infinite");
    mem_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leading_part), cmocka_unit_test(types_memory_threads),
        cmocka_unit_test(refusals),     cmocka_unit_test(bases),
        cmocka_unit_test(energies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
