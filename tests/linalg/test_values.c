/* SPDX-License-Identifier: Apache-2.0 */
/* test_values.c - svd_values against constructed spectra and against dgesdd's values.
 *
 * Tolerance: the header's promise of 1e-10 s_0, and nothing tighter: which of the three ways served is
 * not to be seen.  What is constructed carries some eps sqrt(k) s_0 of rounding of its own. */
#include "check.h"

#include <float.h>

#include "linalg/spectrum.h"
#include "linalg/svd.h"

static const double promise = 1e-10;
static struct mil_error err;

static double *copy_sorted(const double *d, int64_t k) {
    double *s = mem_alloc(MEM_OTHER, (size_t)k, sizeof *s);
    for (int64_t i = 0; i < k; i++) { /* insertion */
        int64_t j = i;
        for (; j > 0 && s[j - 1] < d[i]; j--) s[j] = s[j - 1];
        s[j] = d[i];
    }
    return s;
}

static void check_values(const struct svd_matrix *w, const double *want, const char *what) {
    int64_t k = w->m < w->n ? w->m : w->n;
    double *s = mem_alloc(MEM_OTHER, (size_t)k, sizeof *s);
    assert_ok(svd_values(w, s, &err));
    for (int64_t i = 0; i < k; i++) {
        assert_true(s[i] >= 0 && (i == 0 || s[i] <= s[i - 1]));
        if (!(fabs(s[i] - want[i]) <= promise * want[0]))
            fail_msg("%s: value %d is %.17g, not %.17g", what, (int)i, s[i], want[i]);
    }
    mem_free(s);
}

static void check_spectrum(int64_t m, int64_t n, const double *d, const char *what) {
    int64_t k = m < n ? m : n;
    double *w = spectrum_matrix(m, n, d, 1), *sorted = copy_sorted(d, k);
    check_values(&(struct svd_matrix){w, DT_F64, m, n}, sorted, what);
    mem_free(sorted);
    mem_free(w);
}

enum { K = 130 };

/* From all good in the Gram matrix, over a few to be refined, to too many of them. */
static void test_graded(void **state) {
    (void)state;
    double d[K];
    char what[64];
    for (int e = 1; e <= 16; e++) {
        spectrum_graded(d, K, pow(10, -e));
        snprintf(what, sizeof what, "graded to 1e-%d", e);
        check_spectrum(K, K, d, what);
        check_spectrum(170, K, d, what);
        check_spectrum(K, 400, d, what);
    }
}

static void test_few_small(void **state) {
    (void)state;
    double d[K];
    char what[64];
    for (int few = 1; few <= 32; few *= 2)
        for (int e = 3; e <= 15; e += 2) {
            for (int t = 0; t < K; t++) d[t] = t < K - few ? 2 - t / 130. : pow(10, -e) * (K - t);
            snprintf(what, sizeof what, "%d at 1e-%d", few, e);
            check_spectrum(160, K, d, what);
        }
}

static void test_special(void **state) {
    (void)state;
    double d[K];
    for (int kind = 0; kind < 5; kind++) {
        for (int t = 0; t < K; t++)
            d[t] = kind == 0   ? 0
                   : kind == 1 ? 1
                   : kind == 2 ? t < 3
                   : kind == 3 ? t < K - 3
                               : (t == 0 ? 1e6 : 1);
        char what[32];
        snprintf(what, sizeof what, "special %d", kind);
        check_spectrum(K, 140, d, what);
        check_spectrum(K, K, d, what);
    }
    double one[1] = {3}, small[4] = {4, 1, 0, 2};
    check_spectrum(1, 1, one, "1 x 1");
    check_spectrum(1, 9, one, "1 x 9");
    check_spectrum(9, 1, one, "9 x 1");
    check_spectrum(4, 6, small, "4 x 6");
}

static void test_scales(void **state) {
    (void)state;
    double d[K];
    static const double scale[] = {1e-300, 1e-200, 1e-100, 1e100, 1e150};
    for (int i = 0; i < 5; i++) {
        for (int t = 0; t < K; t++) d[t] = scale[i] * (1 + t);
        check_spectrum(K, 150, d, "scaled");
    }
}

/* A random matrix in every type, against the vectors' own values. */
static void test_types(void **state) {
    (void)state;
    enum { M = 150, N = 100 };
    bf16 *b = mem_alloc(MEM_OTHER, M * N, sizeof *b);
    f16 *h = mem_alloc(MEM_OTHER, M * N, sizeof *h);
    float *f = mem_alloc(MEM_OTHER, M * N, sizeof *f);
    for (int i = 0; i < M * N; i++) {
        f[i] = (float)rng_normal(1, rng_stream(RNG_TEST, 1), 0, (uint64_t)i);
        b[i] = bf16_from_f32(f[i]);
        h[i] = f16_from_f32(f[i]);
    }
    const struct svd_matrix views[] = {{b, DT_BF16, M, N}, {h, DT_F16, N, M}, {f, DT_F32, M, N}};
    for (int i = 0; i < 3; i++) {
        struct svd_request q = {.end = SVD_TOP, .rank = N, .only = "dgesdd"};
        struct svd_result r;
        assert_ok(svd_compute(&views[i], &q, &r, &err));
        check_values(&views[i], r.sigma, "types");
        svd_release(&r);
    }
    mem_free(b);
    mem_free(h);
    mem_free(f);
}

static void test_no_memory(void **state) {
    (void)state;
    double d[20], s[20];
    int refused = 0;
    spectrum_graded(d, 20, 1e-5); /* one value to refine */
    double *w = spectrum_matrix(20, 20, d, 1);
    for (long n = 0; n < 60; n++) {
        mem_fail_after(n);
        enum mil_status st = svd_values(&(struct svd_matrix){w, DT_F64, 20, 20}, s, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        refused += st == MIL_NOMEM;
    }
    assert_true(refused >= 12 && refused < 60);
    mem_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graded),  cmocka_unit_test(test_few_small),
        cmocka_unit_test(test_special), cmocka_unit_test(test_scales),
        cmocka_unit_test(test_types),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
