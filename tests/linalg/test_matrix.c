/* SPDX-License-Identifier: Apache-2.0 */
/* test_matrix.c - products of a stored matrix with blocks of vectors, by every instruction set's
 * kernels and through the operator, against sums in long double; the Gram matrices.
 *
 * Tolerance.  One chain of n fused multiply-adds of numbers below 6 in magnitude: the error is at most
 * n eps times the sum of the absolute products, which is below 36 n; typically sqrt(n) of each. */
#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "kern/kern.h"
#include "linalg/krylov.h"

static struct mil_error err;

static double normal(uint32_t stream, int64_t i) {
    double x = rng_normal(11, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
    return fmax(-5.9, fmin(5.9, x));
}

/* [m, n] of type t; wide [m * n] gets the stored values. */
static void *stored(enum dtype t, int64_t count, double *wide) {
    void *data = mem_alloc(MEM_OTHER, (size_t)count, dtype_size(t));
    for (int64_t i = 0; i < count; i++) {
        float x = (float)normal(1, i);
        if (t == DT_BF16) {
            ((bf16 *)data)[i] = bf16_from_f32(x);
            wide[i] = (double)bf16_to_f32(bf16_from_f32(x));
        } else if (t == DT_F16) {
            ((f16 *)data)[i] = f16_from_f32(x);
            wide[i] = (double)f16_to_f32(f16_from_f32(x));
        } else if (t == DT_F32) {
            ((float *)data)[i] = x;
            wide[i] = (double)x;
        } else {
            ((double *)data)[i] = wide[i] = normal(1, i);
        }
    }
    return data;
}

static double bound(int64_t depth) {
    return 36 * 2.3e-16 * (double)(depth + 2) * sqrt((double)(depth + 2));
}

/* ---- the kernels ---- */

static void check_kernel(const struct kern *k, enum dtype t, int64_t m, int64_t n, int64_t width) {
    double *wide = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *wide);
    void *w = stored(t, m * n, wide);
    for (int turned = 0; turned < 2; turned++) {
        int64_t rows_in = turned ? m : n, rows_out = turned ? n : m;
        double *in = mem_alloc(MEM_OTHER, (size_t)(rows_in * width), sizeof *in);
        double *out = mem_alloc(MEM_OTHER, (size_t)(rows_out * width), sizeof *out);
        for (int64_t i = 0; i < rows_in * width; i++) in[i] = normal(2, i);
        for (int64_t i = 0; i < rows_out * width; i++) out[i] = NAN;
        struct kern_weigh a = {w, t, m, n, n, width, in, out};
        int64_t groups = (rows_out + KERN_WEIGH_GROUP - 1) / KERN_WEIGH_GROUP;
        for (int64_t g = 0; g < groups; g++) (turned ? k->weigh_t : k->weigh)(&a, g, g + 1);
        for (int64_t i = 0; i < rows_out; i++)
            for (int64_t c = 0; c < width; c++) {
                long double sum = 0;
                for (int64_t j = 0; j < rows_in; j++)
                    sum += (long double)wide[turned ? j * n + i : i * n + j] * in[j * width + c];
                assert_true(fabs(out[i * width + c] - (double)sum) <= bound(rows_in));
            }
        mem_free(out);
        mem_free(in);
    }
    mem_free(w);
    mem_free(wide);
}

static void test_kernels(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {7, 300}, {300, 7}, {97, 130}, {130, 260}};
    static const int64_t widths[] = {8, 16, 40, 72};
    static const enum dtype types[] = {DT_BF16, DT_F16, DT_F32, DT_F64};
    for (int level = ISA_REF; level <= ISA_AVX512; level++) {
        struct kern k;
        kern_table_init(&k, DT_F32, (enum isa)level);
        for (int s = 0; s < 5; s++)
            for (int v = 0; v < 4; v++)
                check_kernel(&k, types[(s + v) % 4], shapes[s][0], shapes[s][1], widths[v]);
    }
}

/* ---- the operator ---- */

static void check_operator(enum dtype t, int64_t m, int64_t n, int64_t p) {
    double *wide = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *wide);
    struct svd_matrix w = {stored(t, m * n, wide), t, m, n};
    int64_t k = short_side(&w), l = long_side(&w);
    double *x = mem_alloc(MEM_OTHER, (size_t)(k * p), sizeof *x),
           *y = mem_alloc(MEM_OTHER, (size_t)(l * p), sizeof *y),
           *z = mem_alloc(MEM_OTHER, (size_t)(k * p), sizeof *z);
    for (int64_t i = 0; i < k * p; i++) x[i] = normal(3, i);
    assert_ok(matrix_apply(&w, x, p, y, &err));
    for (int64_t i = 0; i < l; i++)
        for (int64_t c = 0; c < p; c++) {
            long double sum = 0;
            for (int64_t j = 0; j < k; j++)
                sum += (long double)wide[m < n ? j * n + i : i * n + j] * x[j + c * k];
            assert_true(fabs(y[i + c * l] - (double)sum) <= bound(k));
        }
    for (int64_t i = 0; i < l * p; i++) y[i] = normal(4, i);
    assert_ok(matrix_apply_t(&w, y, p, z, &err));
    for (int64_t j = 0; j < k; j++)
        for (int64_t c = 0; c < p; c++) {
            long double sum = 0;
            for (int64_t i = 0; i < l; i++)
                sum += (long double)wide[m < n ? j * n + i : i * n + j] * y[i + c * l];
            assert_true(fabs(z[j + c * k] - (double)sum) <= bound(l));
        }
    mem_free(z);
    mem_free(y);
    mem_free(x);
    mem_free((void *)(uintptr_t)w.data);
    mem_free(wide);
}

static void test_operator(void **state) {
    (void)state;
    check_operator(DT_BF16, 200, 90, 5);
    check_operator(DT_BF16, 90, 200, 9);
    check_operator(DT_F16, 1, 30, 1);
    check_operator(DT_F32, 120, 120, 17);
    check_operator(DT_F64, 33, 150, 64);
}

/* f64: a few eps of the sums.  f32: bf16 products are exact, the rest rounds at 6e-8. */
static void check_gram(enum dtype t, int64_t m, int64_t n) {
    double *wide = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *wide);
    struct svd_matrix w = {stored(t, m * n, wide), t, m, n};
    int64_t k = short_side(&w), l = long_side(&w);
    double *g = mem_alloc(MEM_OTHER, (size_t)(k * k), sizeof *g);
    float *f = mem_alloc(MEM_OTHER, (size_t)(k * k), sizeof *f);
    assert_ok(matrix_gram(&w, g, &err));
    assert_ok(gram_f32(&w, 0.25, f, &err));
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++) {
            long double sum = 0;
            for (int64_t q = 0; q < l; q++)
                sum += (long double)wide[m < n ? i * n + q : q * n + i] *
                       wide[m < n ? j * n + q : q * n + j];
            assert_true(fabs(g[i + j * k] - (double)sum) <= bound(l));
            assert_true(fabs((double)f[i + j * k] - 0.25 * (double)sum) <=
                        0.25 * bound(l) / 2.3e-16 * 6e-8);
        }
    mem_free(f);
    mem_free(g);
    mem_free((void *)(uintptr_t)w.data);
    mem_free(wide);
}

static void test_gram(void **state) {
    (void)state;
    check_gram(DT_BF16, 300, 70);
    check_gram(DT_BF16, 270, 300);
    check_gram(DT_F32, 80, 300);
    check_gram(DT_F16, 300, 33);
    check_gram(DT_F64, 40, 40);
}

/* One row's bits depend on nothing but the row: not on threads, nor on the vectors beside. */
static void test_threads(void **state) {
    (void)state;
    enum { M = 500, N = 130, P = 40 };
    double *wide = mem_alloc(MEM_OTHER, M * N, sizeof *wide), *y[3];
    struct svd_matrix w = {stored(DT_BF16, M * N, wide), DT_BF16, M, N};
    double *x = mem_alloc(MEM_OTHER, N * P, sizeof *x);
    for (int i = 0; i < N * P; i++) x[i] = normal(5, i);
    for (int t = 0; t < 3; t++) {
        threads_set(t + 1);
        y[t] = mem_alloc(MEM_OTHER, M * P, sizeof *y[t]);
        assert_ok(matrix_apply(&w, x, t == 2 ? 1 : P, y[t], &err));
    }
    threads_set(0);
    assert_memory_equal(y[0], y[1], M * P * sizeof **y);
    assert_memory_equal(y[0], y[2], M * sizeof **y);
    for (int t = 0; t < 3; t++) mem_free(y[t]);
    mem_free(x);
    mem_free((void *)(uintptr_t)w.data);
    mem_free(wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_operator),
        cmocka_unit_test(test_gram),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
