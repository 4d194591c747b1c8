/* SPDX-License-Identifier: Apache-2.0 */
/* test_refine.c - Newton's refinement of singular pairs, with a solver made of all eigenvectors of
 * the Gram matrix.
 *
 * Tolerance.  The last things that touch a pair are the Rayleigh-Ritz products: x and y are sums of
 * p terms (p <= 24), stored with relative error p eps each, the small SVD is backward stable with a
 * modest multiple of p eps, and H x is a sum of k terms of size up to s_0: residuals of at most
 * (3 p + sqrt(k)) eps s_0 with rounding errors that add at random, which is 2e-14 s_0 for k = 160,
 * p = 24. */
#include "check.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>

#include "linalg/internal.h"
#include "linalg/spectrum.h"

static const double tolerance = 2e-14;
static struct mil_error err;

/* ---- the solver: V (Lambda - lambda) / ((Lambda - lambda)^2 + delta^2) V^T ---- */

struct eigen {
    int k;
    double *v, *lambda; /* ascending */
    int calls;
    int64_t first, p; /* the space being refined: no answer along it, as the contract says */
    double spoil;     /* relative error of the solver, on purpose */
};

static struct eigen eigen_new(const struct svd_matrix *w) {
    struct eigen e = {.k = (int)short_side(w)};
    size_t k = (size_t)e.k;
    e.v = mem_alloc(MEM_OTHER, k * k, sizeof *e.v);
    e.lambda = mem_alloc(MEM_OTHER, k, sizeof *e.lambda);
    assert_ok(matrix_gram(w, e.v, &err));
    assert_int_equal(LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', e.k, e.v, e.k, e.lambda), 0);
    return e;
}

static void eigen_release(struct eigen *e) {
    mem_free(e->v);
    mem_free(e->lambda);
}

static enum mil_status eigen_solve(void *ctx, const double *lambda, const double *r, double *t,
                                   int64_t p, struct mil_error *e_) {
    struct eigen *e = ctx;
    int k = e->k, n = (int)p;
    double delta = 1e-15 * sqrt((double)k) * fabs(e->lambda[k - 1]);
    double *c = mem_alloc(MEM_OTHER, (size_t)(k * n), sizeof *c);
    if (!c) return error_nomem(e_, 0);
    e->calls++;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, k, n, k, 1, e->v, k, r, k, 0, c, k);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            double d = e->lambda[j] - lambda[i];
            bool inside = j >= e->first && j < e->first + e->p;
            c[i * k + j] *= inside ? 0 : (1 + e->spoil) * (d / (d * d + delta * delta));
        }
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, n, k, 1, e->v, k, c, k, 0, t, k);
    mem_free(c);
    return MIL_OK;
}

/* ---- one refinement, from eigenvectors first .. first + p - 1 (ascending) turned by `noise` ---- */

struct outcome {
    struct svd_result svd;
    int steps;
    double reported;
};

static struct outcome refine(const struct svd_matrix *w, int64_t first, int64_t p, double noise,
                             double spoil) {
    int64_t k = short_side(w), l = long_side(w);
    struct eigen e = eigen_new(w);
    struct outcome out;
    struct refine f = {.w = w, .p = p, .target = 1e-15, .max_steps = 8};
    e.first = first;
    e.p = p;
    e.spoil = spoil;
    f.scale = sqrt(fmax(e.lambda[k - 1], 0));
    f.solve = eigen_solve;
    f.ctx = &e;
    f.x = mem_alloc(MEM_OTHER, (size_t)(k * p), sizeof *f.x);
    f.y = mem_alloc(MEM_OTHER, (size_t)(l * p), sizeof *f.y);
    f.sigma = mem_alloc(MEM_OTHER, (size_t)p, sizeof *f.sigma);
    for (int64_t i = 0; i < k * p; i++)
        f.x[i] = e.v[first * k + i] +
                 noise / sqrt((double)k) * rng_normal(3, rng_stream(RNG_TEST, 9), 0, (uint64_t)i);
    assert_ok(refine_pairs(&f, &err));
    assert_int_equal(e.calls, f.steps);
    assert_ok(result_new(w, p, &out.svd, &err));
    result_from_pairs(f.x, f.y, f.sigma, &out.svd);
    out.svd.sigma_max = f.scale;
    out.steps = f.steps;
    out.reported = f.residual;
    assert_ok(result_certify(w, &out.svd, &err));
    mem_free(f.x);
    mem_free(f.y);
    mem_free(f.sigma);
    eigen_release(&e);
    return out;
}

static void check_sound(const struct outcome *o, const char *what) {
    if (!(o->svd.residual <= tolerance && o->svd.orthogonality <= tolerance))
        fail_msg("%s: residual %g, orthogonality %g, %d steps", what, o->svd.residual,
                 o->svd.orthogonality, o->steps);
}

enum { K = 160, L = 200, P = 24 };

/* Geometric spectra down to 1e-2 .. 1e-14 s_0, every end, tall and wide.  The Gram matrix does not
 * tell values below sqrt(eps) s_0 = 1.5e-8 s_0 from each other, and no solver made from it can: the
 * block must hold all of them (here: all below 1e-6 s_0), then their vectors come out too. */
static void test_graded(void **state) {
    (void)state;
    static const double last[] = {1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14};
    double d[K];
    char what[80];
    for (int i = 0; i < 7; i++)
        for (int wide = 0; wide < 2; wide++) {
            int64_t m = wide ? K : L, n = wide ? L : K, small = 0;
            spectrum_graded(d, K, last[i]);
            while (d[K - 1 - small] < 1e-6) small++;
            int64_t block[][2] = {{0, small > P ? small : P}, {60, P}, {K - P, P}};
            double *w = spectrum_matrix(m, n, d, 1);
            for (int b = 0; b < 3; b++) {
                if (block[b][0] > 0 && block[b][0] < small) continue;
                struct outcome o =
                    refine(&(struct svd_matrix){w, DT_F64, m, n}, block[b][0], block[b][1], 0, 0);
                snprintf(what, sizeof what, "down to %g, wide %d, block %d", last[i], wide, b);
                check_sound(&o, what);
                svd_release(&o.svd);
            }
            mem_free(w);
        }
}

/* A start that is off by 1e-3 and a solver that is off by 3 per cent still end at full accuracy, and
 * the values are those of the construction (rounding of W: some eps d_0 sqrt(k)). */
static void test_poor_start(void **state) {
    (void)state;
    double d[K];
    for (int t = 0; t < K; t++) d[t] = K - t;
    double *w = spectrum_matrix(L, K, d, 2);
    struct outcome o = refine(&(struct svd_matrix){w, DT_F64, L, K}, 60, P, 1e-3, 0.03);
    check_sound(&o, "poor start");
    assert_true(o.steps >= 2);
    for (int t = 0; t < P; t++)
        assert_true(fabs(o.svd.sigma[t] - d[K - 60 - P + t]) <= 1e-13 * d[0]);
    svd_release(&o.svd);
    mem_free(w);
}

/* Rank 100 of 160: 60 zeros, of which 24 are asked; the zero matrix; the identity. */
static void test_deficient(void **state) {
    (void)state;
    double d[K];
    for (int square = 0; square < 2; square++) {
        for (int t = 0; t < K; t++) d[t] = t < 100 ? 1 : 0;
        double *w = spectrum_matrix(square ? K : L, K, d, 3);
        struct svd_matrix view = {w, DT_F64, square ? K : L, K};
        struct outcome o = refine(&view, 0, P, 0, 0);
        check_sound(&o, "rank 100");
        for (int t = 0; t < P; t++) assert_true(o.svd.sigma[t] <= tolerance);
        svd_release(&o.svd);
        o = refine(&view, 50, P, 0, 0); /* zeros and ones */
        check_sound(&o, "zeros and ones");
        svd_release(&o.svd);
        memset(w, 0, (size_t)(view.m * view.n) * sizeof *w);
        o = refine(&view, 0, P, 0, 0);
        check_sound(&o, "zero matrix");
        assert_int_equal(o.steps, 0);
        svd_release(&o.svd);
        for (int t = 0; t < K; t++) w[t * K + t] = 1;
        o = refine(&view, 20, P, 0, 0);
        check_sound(&o, "identity");
        svd_release(&o.svd);
        mem_free(w);
    }
}

/* A pair of equal values cut in two by the block: the vector inside is one of many, its residual is
 * as small as any. */
static void test_cut_cluster(void **state) {
    (void)state;
    double d[K];
    for (int t = 0; t < K; t++) d[t] = t / 4 + 1.0;
    double *w = spectrum_matrix(K, L, d, 4);
    struct outcome o = refine(&(struct svd_matrix){w, DT_F64, K, L}, 30, 17, 0, 0);
    check_sound(&o, "cut cluster");
    svd_release(&o.svd);
    mem_free(w);
}

static void test_one_by_n(void **state) {
    (void)state;
    double w[5] = {3, 0, 0, 4, 0};
    struct outcome o = refine(&(struct svd_matrix){w, DT_F64, 1, 5}, 0, 1, 0, 0);
    assert_true(fabs(o.svd.sigma[0] - 5) <= 1e-14 && fabs(o.svd.v[3] - 0.8) <= 1e-15);
    svd_release(&o.svd);
}

/* Every failing allocation is reported and nothing leaks (the sanitizer build looks). */
static void test_no_memory(void **state) {
    (void)state;
    double w[12] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 0, 0, 1}, x[3] = {1, 0, 0}, y[4], sigma[1];
    struct svd_matrix view = {w, DT_F64, 4, 3};
    struct eigen e = eigen_new(&view);
    struct refine f = {.w = &view,
                       .p = 1,
                       .x = x,
                       .y = y,
                       .sigma = sigma,
                       .scale = 1,
                       .max_steps = 1,
                       .solve = eigen_solve,
                       .ctx = &e};
    int refused = 0;
    for (long n = 0; n < 16; n++) {
        mem_fail_after(n);
        enum mil_status st = refine_pairs(&f, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        refused += st == MIL_NOMEM;
    }
    assert_true(refused >= 11);
    eigen_release(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graded),    cmocka_unit_test(test_poor_start),
        cmocka_unit_test(test_deficient), cmocka_unit_test(test_cut_cluster),
        cmocka_unit_test(test_one_by_n),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
