/* SPDX-License-Identifier: Apache-2.0 */
/* test_triangle.c - solving with the packed Cholesky factor, at every instruction set level.
 *
 * Tolerance.  Substitution is backward stable row by row: |L - L^| <= k eps |L|, eps = 6e-8, the inverse
 * of a 16 x 16 diagonal block adds its condition (the diagonal here is at least 1 and rows add up to
 * less than 1, so that is below 4).  The residual of L L^T x = b is then below 2 * 4 (k + 16) eps |L| |L^T| |x|,
 * and |L| |L^T| |x| <= 4 max |x| with these rows. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "linalg/triangle.h"

static struct mil_error err;

/* Lower triangle, column-major; NaN above, which nothing may read. */
static float *factor_new(int64_t k) {
    float *l = mem_alloc(MEM_OTHER, (size_t)(k * k), sizeof *l);
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < k; i++) {
            double x = rng_normal(3, rng_stream(RNG_TEST, 1), 0, (uint64_t)(i + j * k));
            l[i + j * k] = i < j    ? NAN
                           : i == j ? (float)(1 + fabs(x))
                                    : (float)(x / (double)(4 * k));
        }
    return l;
}

/* max |L L^T x - b|. */
static double residual(const float *l, int64_t k, const float *x, const float *b) {
    double worst = 0, *y = mem_calloc(MEM_OTHER, (size_t)k, sizeof *y),
           *z = mem_calloc(MEM_OTHER, (size_t)k, sizeof *z);
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = j; i < k; i++) y[j] += (double)l[i + j * k] * (double)x[i];
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = j; i < k; i++) z[i] += (double)l[i + j * k] * y[j];
    for (int64_t i = 0; i < k; i++) worst = fmax(worst, fabs(z[i] - (double)b[i]));
    mem_free(z);
    mem_free(y);
    return worst;
}

static void check(int64_t k, int64_t p, enum isa level) {
    struct triangle t;
    float *l = factor_new(k);
    assert_ok(triangle_init(&t, l, k, &err));
    kern_table_init(&t.kern, DT_F32, level);
    size_t n = (size_t)(k * p), spare = triangle_spare(&t, p);
    float *b = mem_alloc(MEM_OTHER, n, sizeof *b), *x = mem_alloc(MEM_OTHER, n + 1, sizeof *x),
          *lanes = mem_alloc(MEM_OTHER, spare, sizeof *lanes);
    for (size_t i = 0; i < n; i++)
        x[i] = b[i] = (float)rng_normal(4, rng_stream(RNG_TEST, 2), 0, i);
    x[n] = 7;
    triangle_solve(&t, x, p, lanes);
    assert_true(x[n] == 7);
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    for (int64_t c = 0; c < p; c++)
        assert_true(residual(l, k, x + c * k, b + c * k) <=
                    2 * 4 * (double)(k + 16) * 6e-8 * 4 * largest);
    mem_free(lanes);
    mem_free(x);
    mem_free(b);
    mem_free(l);
    triangle_release(&t);
}

static void test_solve(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 15, 16, 17, 150, 301}, widths[] = {1, 16, 17, 64, 83};
    for (int level = ISA_REF; level <= ISA_AVX512; level++)
        for (size_t i = 0; i < 6; i++)
            for (size_t j = 0; j < 5; j++) check(sizes[i], widths[j], (enum isa)level);
}

/* A column's bits depend neither on the columns beside it nor on the threads. */
static void test_columns_alone(void **state) {
    (void)state;
    enum { K = 90, P = 70 };
    struct triangle t;
    float *l = factor_new(K), all[K * P], one[K];
    assert_ok(triangle_init(&t, l, K, &err));
    float *lanes = mem_alloc(MEM_OTHER, triangle_spare(&t, P), sizeof *lanes);
    for (int threads = 1; threads <= 3; threads++) {
        threads_set(threads);
        for (int i = 0; i < K * P; i++)
            all[i] = (float)rng_normal(5, rng_stream(RNG_TEST, 3), 0, (uint64_t)i);
        for (int c = 0; c < P; c += 23) {
            for (int i = 0; i < K; i++)
                one[i] = (float)rng_normal(5, rng_stream(RNG_TEST, 3), 0, (uint64_t)(c * K + i));
            triangle_solve(&t, one, 1, lanes);
            if (c == 0) triangle_solve(&t, all, P, lanes);
            assert_memory_equal(one, all + c * K, sizeof one);
        }
    }
    threads_set(0);
    mem_free(lanes);
    mem_free(l);
    triangle_release(&t);
}

static void test_refusals(void **state) {
    (void)state;
    struct triangle t;
    float *l = factor_new(40);
    l[20 + 20 * 40] = 0;
    assert_fails(triangle_init(&t, l, 40, &err), MIL_NUMERIC, "singular");
    l[20 + 20 * 40] = NAN;
    assert_fails(triangle_init(&t, l, 40, &err), MIL_NUMERIC, "singular");
    l[20 + 20 * 40] = 1;
    for (long n = 0; n < 2; n++) {
        mem_fail_after(n);
        enum mil_status st = triangle_init(&t, l, 40, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_NOMEM && !t.tiles);
    }
    triangle_release(&t);
    mem_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_solve),
        cmocka_unit_test(test_columns_alone),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
