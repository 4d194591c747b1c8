/* SPDX-License-Identifier: Apache-2.0 */
/* test_svd.c - properties of the decomposition on random and on constructed matrices, and equality
 * with factors that scipy computed (tools/golden/record_adapters.py).
 *
 * Tolerances.  LAPACK's backward error is a modest multiple p(k) of eps = 2.2e-16 relative to
 * sigma_max; for the sizes here (k <= 64) p(k) * eps < 1e-13, and the tests allow 1e-12.  A single
 * vector is only determined up to eps * sigma_max / gap, so vectors are compared with the tolerance
 * divided by the smallest relative gap of the matrix. */
#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "io/safetensors.h"
#include "linalg/svd.h"

static const double tolerance = 1e-12;

static struct mil_error err;

static double *gaussian(int64_t m, int64_t n, uint32_t stream) {
    double *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m * n; i++)
        w[i] = rng_normal(7, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
    return w;
}

/* out = sum_t u_t sigma_t v_t. */
static double *product(const struct svd_result *r) {
    double *w = mem_calloc(MEM_OTHER, (size_t)(r->m * r->n), sizeof *w);
    for (int64_t i = 0; i < r->m; i++)
        for (int64_t t = 0; t < r->rank; t++)
            for (int64_t j = 0; j < r->n; j++)
                w[i * r->n + j] += r->u[t * r->m + i] * r->sigma[t] * r->v[t * r->n + j];
    return w;
}

static double largest(const double *a, const double *b, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs(a[i] - (b ? b[i] : 0)));
    return worst;
}

static struct svd_result run(const double *w, int64_t m, int64_t n, enum svd_end end,
                             int64_t rank) {
    struct svd_result r;
    struct svd_request q = {.end = end, .rank = rank, .seed = 3, .stream = 5};
    assert_ok(svd_compute(&(struct svd_matrix){w, DT_F64, m, n}, &q, &r, &err));
    assert_true(r.residual <= tolerance && r.orthogonality <= tolerance);
    for (int64_t t = 1; t < rank; t++) assert_true(r.sigma[t] <= r.sigma[t - 1]);
    return r;
}

/* At full rank every end gives the whole matrix back. */
static void test_reconstruction(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {9, 1}, {33, 17}, {17, 33}, {64, 64}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], k = m < n ? m : n;
        double *w = gaussian(m, n, (uint32_t)s);
        for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++) {
            struct svd_result r = run(w, m, n, (enum svd_end)end, k);
            double *back = product(&r);
            assert_true(largest(w, back, m * n) <= tolerance * r.sigma_max);
            assert_non_null(r.served_by);
            mem_free(back);
            svd_release(&r);
        }
        mem_free(w);
    }
}

/* W = H1 diag(d) H2 with Householder reflections H: the spectrum is known exactly. */
static double *with_spectrum(int64_t m, int64_t n, const double *d) {
    int64_t k = m < n ? m : n;
    double *w = mem_calloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    double *x = gaussian(1, m, 11), *y = gaussian(1, n, 12), xx = 0, yy = 0;
    for (int64_t i = 0; i < m; i++) xx += x[i] * x[i];
    for (int64_t j = 0; j < n; j++) yy += y[j] * y[j];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t t = 0; t < k; t++) {
                double u = (i == t) - 2 * x[i] * x[t] / xx, v = (t == j) - 2 * y[t] * y[j] / yy;
                w[i * n + j] += u * d[t] * v;
            }
    mem_free(x);
    mem_free(y);
    return w;
}

static void test_known_spectrum(void **state) {
    (void)state;
    double d[12], all[12];
    for (int i = 0; i < 12; i++) d[i] = pow(2.0, 3 - i);
    double *w = with_spectrum(20, 12, d);
    assert_ok(svd_values(&(struct svd_matrix){w, DT_F64, 20, 12}, all, &err));
    assert_true(largest(all, d, 12) <= tolerance * d[0]);
    /* which triplets each end means: 4 of 12 */
    static const int first[] = {8, 0, 4};
    for (int end = SVD_BOTTOM; end <= SVD_MIDDLE; end++) {
        struct svd_result r = run(w, 20, 12, (enum svd_end)end, 4);
        assert_true(largest(r.sigma, d + first[end], 4) <= tolerance * d[0]);
        assert_true(fabs(r.sigma_max - d[0]) <= tolerance * d[0]);
        svd_release(&r);
    }
    /* the middle rounds down: 5 of 12 start at 3 */
    struct svd_result r = run(w, 20, 12, SVD_MIDDLE, 5);
    assert_true(largest(r.sigma, d + 3, 5) <= tolerance * d[0]);
    svd_release(&r);
    mem_free(w);
}

/* The triplets of W^T are those of W with u and v exchanged; of c W, those of W with c sigma. */
static void test_transpose_and_scale(void **state) {
    (void)state;
    int64_t m = 24, n = 15, k = 6;
    double *w = gaussian(m, n, 21), *t = gaussian(n, m, 0), *c = gaussian(m, n, 21);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            t[j * m + i] = w[i * n + j];
            c[i * n + j] *= 1e-150; /* squares would underflow */
        }
    struct svd_result a = run(w, m, n, SVD_BOTTOM, k), b = run(t, n, m, SVD_BOTTOM, k),
                      s = run(c, m, n, SVD_BOTTOM, k);
    for (int64_t i = 0; i < k; i++) {
        assert_true(fabs(a.sigma[i] - b.sigma[i]) <= tolerance * a.sigma_max);
        assert_true(fabs(a.sigma[i] * 1e-150 - s.sigma[i]) <= tolerance * s.sigma_max);
    }
    double *pa = product(&a), *pb = product(&b);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            assert_true(fabs(pa[i * n + j] - pb[j * m + i]) <= 1e3 * tolerance * a.sigma_max);
    mem_free(pa);
    mem_free(pb);
    mem_free(w);
    mem_free(t);
    mem_free(c);
    svd_release(&a);
    svd_release(&b);
    svd_release(&s);
}

static void test_deficient_and_repeated(void **state) {
    (void)state;
    double deficient[8] = {3, 2, 1, 0, 0, 0, 0, 0}, repeated[8] = {2, 2, 2, 1, 1, 1, 1, 1};
    double *w = with_spectrum(10, 8, deficient);
    struct svd_result r = run(w, 10, 8, SVD_BOTTOM, 5);
    assert_true(largest(r.sigma, NULL, 5) <= tolerance * 3);
    svd_release(&r);
    mem_free(w);
    w = with_spectrum(8, 10, repeated);
    r = run(w, 8, 10, SVD_BOTTOM, 5); /* the subspace is determined, its basis is not */
    assert_true(largest(r.sigma, repeated + 3, 5) <= tolerance * 2);
    svd_release(&r);
    memset(w, 0, 80 * sizeof *w);
    r = run(w, 8, 10, SVD_BOTTOM, 8);
    assert_true(largest(r.sigma, NULL, 8) == 0 && r.sigma_max == 0 && r.residual == 0);
    svd_release(&r);
    mem_free(w);
}

static void test_canonical_signs(void **state) {
    (void)state;
    double *w = gaussian(30, 20, 41);
    struct svd_result a = run(w, 30, 20, SVD_TOP, 20);
    for (int64_t t = 0; t < 20; t++) {
        int64_t top = 0;
        for (int64_t i = 0; i < 30; i++)
            if (fabs(a.u[t * 30 + i]) > fabs(a.u[t * 30 + top])) top = i;
        assert_true(a.u[t * 30 + top] > 0);
    }
    for (int64_t i = 0; i < 600; i++) w[i] = -w[i]; /* -W: same U, -V */
    struct svd_result b = run(w, 30, 20, SVD_TOP, 20);
    assert_true(largest(a.u, b.u, 600) <= 1e4 * tolerance);
    for (int64_t i = 0; i < 400; i++) assert_true(fabs(a.v[i] + b.v[i]) <= 1e4 * tolerance);
    mem_free(w);
    svd_release(&a);
    svd_release(&b);
}

static void test_random_choice(void **state) {
    (void)state;
    double d[40];
    for (int i = 0; i < 40; i++) d[i] = 40 - i;
    double *w = with_spectrum(40, 40, d);
    struct svd_result a = run(w, 40, 40, SVD_RANDOM, 10), b = run(w, 40, 40, SVD_RANDOM, 10), c;
    struct svd_request other = {.end = SVD_RANDOM, .rank = 10, .seed = 3, .stream = 6};
    assert_ok(svd_compute(&(struct svd_matrix){w, DT_F64, 40, 40}, &other, &c, &err));
    assert_memory_equal(a.sigma, b.sigma, 10 * sizeof(double));
    assert_true(largest(a.sigma, c.sigma, 10) > 0.5); /* another module draws other triplets */
    for (int i = 1; i < 10; i++) assert_true(a.sigma[i] < a.sigma[i - 1] - 0.5); /* none twice */
    mem_free(w);
    svd_release(&a);
    svd_release(&b);
    svd_release(&c);
}

static void test_refusals(void **state) {
    (void)state;
    double *w = gaussian(4, 3, 51), sigma[3];
    struct svd_result r;
    struct svd_request q = {.end = SVD_BOTTOM, .rank = 4};
    assert_fails(svd_compute(&(struct svd_matrix){w, DT_F64, 4, 3}, &q, &r, &err), MIL_USAGE,
                 "choose 1 to 3");
    q.rank = 0;
    assert_fails(svd_compute(&(struct svd_matrix){w, DT_F64, 4, 3}, &q, &r, &err), MIL_USAGE,
                 "choose 1 to 3");
    q.rank = 1;
    assert_fails(svd_compute(&(struct svd_matrix){w, DT_F64, 0, 3}, &q, &r, &err), MIL_USAGE,
                 "no entries");
    w[5] = NAN;
    w[7] = INFINITY;
    assert_fails(svd_compute(&(struct svd_matrix){w, DT_F64, 4, 3}, &q, &r, &err), MIL_INPUT,
                 "entry (1, 2) is NaN");
    w[5] = 0;
    assert_fails(svd_values(&(struct svd_matrix){w, DT_F64, 4, 3}, sigma, &err), MIL_INPUT,
                 "entry (2, 1) is infinite");
    svd_release(&r); /* a failed result is empty */
    w[7] = 0;
    for (long n = 0; n < 12; n++) { /* every allocation fails in turn */
        mem_fail_after(n);
        enum mil_status st = svd_compute(&(struct svd_matrix){w, DT_F64, 4, 3}, &q, &r, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_NOMEM || (st == MIL_OK && n > 8));
        svd_release(&r);
    }
    mem_free(w);
}

/* Factors of scipy.linalg.svd (dgesvd), signs made canonical there by its own code. */
static void test_golden(void **state) {
    (void)state;
    struct st_file *f;
    assert_ok(st_open(TEST_DATA "/svd.safetensors", &f, &err));
    static const char *const names[] = {"tall", "wide", "decay"};
    for (size_t c = 0; c < 3; c++) {
        char key[32];
        const struct st_tensor *t[4];
        static const char *const part[] = {"w", "u", "s", "vt"};
        for (int i = 0; i < 4; i++) {
            snprintf(key, sizeof key, "%s.%s", names[c], part[i]);
            t[i] = st_find(f, key);
            assert_non_null(t[i]);
        }
        int64_t m = t[0]->shape[0], n = t[0]->shape[1], k = t[2]->shape[0];
        const double *s = t[2]->data;
        double gap = s[k - 1]; /* sigma_k = 0 belongs to the complement */
        for (int64_t i = 1; i < k; i++) gap = fmin(gap, s[i - 1] - s[i]);
        double limit = tolerance * s[0] / gap;
        struct svd_result r = run(t[0]->data, m, n, SVD_TOP, k);
        assert_true(largest(r.sigma, s, k) <= tolerance * s[0]);
        for (int64_t i = 0; i < m * k; i++) /* u is recorded as [m, k] */
            assert_true(fabs(r.u[i % k * m + i / k] - ((const double *)t[1]->data)[i]) <= limit);
        assert_true(largest(r.v, t[3]->data, k * n) <= limit);
        svd_release(&r);
    }
    st_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reconstruction),
        cmocka_unit_test(test_known_spectrum),
        cmocka_unit_test(test_transpose_and_scale),
        cmocka_unit_test(test_canonical_signs),
        cmocka_unit_test(test_deficient_and_repeated),
        cmocka_unit_test(test_random_choice),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
