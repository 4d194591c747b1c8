/* SPDX-License-Identifier: Apache-2.0 */
/* test_matmul.c - products against a plain f64 loop, and the two invariances that the program
 * promises: the same bits for any number of threads, and for a row whatever the number of rows.
 *
 * Bound.  C = alpha sum a b + beta c in f32 with K terms in any order: each term meets at most K +
 * 2 roundings, so |error| <= (K + 4) u (|alpha| sum |a||b| + |beta||c|), u = 2^-24 (2^-53 in f64);
 * products of two bf16 are exact in f32.  A bf16 result adds half a last place: 2^-9 relative, and
 * the library rounds the sum once. */
#include "check.h"

#include <math.h>

#include "backend/cpu.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"

enum { SEED = 20240611 };

struct matrix {
    struct tensor t;
    double *f64; /* rows x cols, what t holds after rounding to its type */
};

static double element(enum dtype t, const void *p, int64_t i) {
    switch (t) {
    case DT_F32: return (double)((const float *)p)[i];
    case DT_BF16: return (double)bf16_to_f32(((const bf16 *)p)[i]);
    default: return ((const double *)p)[i];
    }
}

static void set_element(enum dtype t, void *p, int64_t i, double x) {
    switch (t) {
    case DT_F32: ((float *)p)[i] = (float)x; break;
    case DT_BF16: ((bf16 *)p)[i] = bf16_from_f32((float)x); break;
    default: ((double *)p)[i] = x; break;
    }
}

/* rows x cols with `gap` elements between rows; integers in [-3, 3] or normal numbers. The gaps
 * hold NaN: a product that reads them shows it. */
static struct matrix matrix_new(enum dtype type, int64_t rows, int64_t cols, int64_t gap,
                                bool integers, uint32_t stream) {
    struct matrix m = {.t = {NULL, type, rows, cols, cols + gap}};
    int64_t n = rows * (cols + gap);
    m.t.data = mem_alloc(MEM_OTHER, (size_t)n, dtype_size(type));
    m.f64 = mem_alloc(MEM_OTHER, (size_t)(rows * cols), sizeof(double));
    for (int64_t i = 0; i < n; i++) set_element(type, m.t.data, i, NAN);
    if (rows * cols > 200000) { /* only bits matter: cheap numbers in [-0.5, 0.5) */
        uint32_t w = stream;
        for (int64_t i = 0; i < n; i++) {
            w = w * 1664525u + 1013904223u;
            set_element(type, m.t.data, i, (double)rng_unit_f32(w) - 0.5);
        }
        return m;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            uint64_t e = (uint64_t)(r * cols + c);
            double x = integers ? floor(7 * rng_uniform(SEED, stream, 0, e)) - 3
                                : rng_normal(SEED, stream, 0, e);
            set_element(type, m.t.data, r * m.t.ld + c, x);
            m.f64[r * cols + c] = element(type, m.t.data, r * m.t.ld + c);
        }
    return m;
}

static void matrix_free(struct matrix *m) {
    mem_free(m->t.data);
    mem_free(m->f64);
}

static struct backend *open_backend(enum dtype compute) {
    struct mil_error err = {0};
    struct backend *b = NULL;
    assert_ok(backend_open("cpu", compute, &b, &err));
    return b;
}

struct product_case {
    enum dtype in, out;
    unsigned flags;
    int64_t m, n, k, gap;
    double alpha, beta;
    bool integers;
};

/* Entry (i, j) of the exact product, and the sum of magnitudes for the bound. */
static double exact(const struct product_case *c, const struct matrix *a, const struct matrix *b,
                    double c0, int64_t i, int64_t j, double *size) {
    double sum = 0, abs_sum = 0;
    for (int64_t p = 0; p < c->k; p++) {
        double x = c->flags & MATMUL_TRANS_A ? a->f64[p * c->m + i] : a->f64[i * c->k + p];
        double y = c->flags & MATMUL_TRANS_B ? b->f64[j * c->k + p] : b->f64[p * c->n + j];
        sum += x * y;
        abs_sum += fabs(x * y);
    }
    *size = fabs(c->alpha) * abs_sum + fabs(c->beta * c0);
    return c->alpha * sum + (c->beta != 0.0 ? c->beta * c0 : 0.0);
}

static void check_case(struct backend *be, const struct product_case *c) {
    struct mil_error err = {0};
    bool ta = c->flags & MATMUL_TRANS_A, tb = c->flags & MATMUL_TRANS_B;
    struct matrix a = matrix_new(c->in, ta ? c->k : c->m, ta ? c->m : c->k, c->gap, c->integers, 1);
    struct matrix b = matrix_new(c->in, tb ? c->n : c->k, tb ? c->k : c->n, c->gap, c->integers, 2);
    struct matrix out = matrix_new(c->out, c->m, c->n, c->gap, c->integers, 3);
    if (c->beta == 0.0) /* what was there must not be read */
        for (int64_t i = 0; i < c->m * out.t.ld; i++) set_element(c->out, out.t.data, i, NAN);
    struct stream *s = backend_stream(be);
    be_matmul(s, c->flags, c->alpha, a.t, b.t, c->beta, out.t);
    assert_ok(stream_sync(s, &err));
    double u = c->in == DT_F64 ? 0x1p-53 : 0x1p-24, round = c->out == DT_BF16 ? 0x1p-8 : 0.0;
    for (int64_t i = 0; i < c->m; i++)
        for (int64_t j = 0; j < c->n; j++) {
            double size, want = exact(c, &a, &b, out.f64[i * c->n + j], i, j, &size);
            double got = element(c->out, out.t.data, i * out.t.ld + j);
            double bound = (double)(c->k + 4) * u * size + round * fabs(want);
            if (c->integers && c->out != DT_BF16) bound = 0;
            if (!(fabs(got - want) <= bound))
                fail_msg("%s->%s %ldx%ldx%ld gap %ld flags %u alpha %g beta %g: C[%ld,%ld] = %.9g, "
                         "want %.9g within %.2g",
                         dtype_name(c->in), dtype_name(c->out), (long)c->m, (long)c->n, (long)c->k,
                         (long)c->gap, c->flags, c->alpha, c->beta, (long)i, (long)j, got, want,
                         bound);
        }
    for (int64_t i = 0; i < c->m && c->gap > 0; i++) /* gaps untouched */
        assert_true(isnan(element(c->out, out.t.data, i * out.t.ld + c->n)));
    matrix_free(&a);
    matrix_free(&b);
    matrix_free(&out);
}

static const int64_t shapes[][3] = {{1, 1, 1},     {1, 1, 7},    {1, 17, 64},   {2, 3, 5},
                                    {7, 1, 33},    {16, 16, 16}, {33, 31, 129}, {40, 48, 300},
                                    {200, 20, 65}, {300, 9, 70}, {12, 9, 600}};
static const double scalings[][2] = {{1, 0}, {1, 1}, {0.5, 0}, {-2, 0.25}, {0, 1}, {0, 0}};

/* by: MIXED lets the backend choose, LIBRARY makes oneDNN multiply as it does with AMX. */
enum by { MIXED, LIBRARY };
static void check_types_by(enum by by, enum dtype compute, enum dtype in, enum dtype out) {
    struct backend *be = open_backend(compute);
    if (by == LIBRARY) ((struct cpu_backend *)be)->by_library = true;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned flags = 0; flags < 4; flags++)
            for (size_t j = 0; j < sizeof scalings / sizeof *scalings; j++)
                for (int64_t gap = 0; gap <= (j % 3 == 0 ? 3 : 0); gap += 3)
                    for (int integers = 0; integers < 2; integers++)
                        check_case(be, &(struct product_case){
                                           in, out, flags, shapes[i][0], shapes[i][1], shapes[i][2],
                                           gap, scalings[j][0], scalings[j][1], integers});
    backend_free(&be);
}

static void check_types(enum dtype compute, enum dtype in, enum dtype out) {
    check_types_by(MIXED, compute, in, out);
}

static void matmul_f64(void **state) {
    (void)state;
    check_types(DT_F64, DT_F64, DT_F64);
}
static void matmul_f32(void **state) {
    (void)state;
    check_types(DT_F32, DT_F32, DT_F32);
}
static void matmul_bf16(void **state) {
    (void)state;
    check_types(DT_BF16, DT_BF16, DT_F32);
    check_types(DT_BF16, DT_BF16, DT_BF16);
}
/* Below AVX512-BF16 operands are widened. */
static void matmul_bf16_widened(void **state) {
    (void)state;
    enum isa level = cpu_isa_used();
    cpu_isa_limit(ISA_AVX2);
    check_types(DT_BF16, DT_BF16, DT_F32);
    check_types(DT_BF16, DT_BF16, DT_BF16);
    cpu_isa_limit(level);
}

static void matmul_library(void **state) {
    (void)state;
    struct backend *be = open_backend(DT_BF16);
    bool able = ((struct cpu_backend *)be)->product.has_bf16;
    backend_free(&be);
    if (!able) skip();
    check_types_by(LIBRARY, DT_BF16, DT_BF16, DT_F32);
    check_types_by(LIBRARY, DT_BF16, DT_BF16, DT_BF16);
}

/* A sum with a mask, an addend and a bias: oneDNN's way and ours agree to their roundings. */
static void sum_by_library(void **state) {
    (void)state;
    enum { M = 70, N = 66, K = 40 };
    struct backend *be = open_backend(DT_BF16);
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    if (!cpu->product.has_bf16) {
        backend_free(&be);
        skip();
    }
    struct matrix a = matrix_new(DT_BF16, M, K, 0, true, 1),
                  b = matrix_new(DT_BF16, N, K, 2, true, 2);
    struct matrix d = matrix_new(DT_F32, M, N, 1, true, 3),
                  e = matrix_new(DT_F32, 1, N, 0, true, 4);
    uint8_t bits[M * 16];
    for (int i = 0; i < M * 16; i++) bits[i] = (uint8_t)(i * 37);
    for (int masked = 0; masked < 3; masked++)
        for (int rounded = 0; rounded < 2; rounded++) {
            struct matrix own = matrix_new(rounded ? DT_BF16 : DT_F32, M, N, 0, true, 5);
            struct matrix lib = matrix_new(rounded ? DT_BF16 : DT_F32, M, N, 0, true, 6);
            struct product_terms terms = {.n = 0};
            for (int i = 0; i < 3; i++) {
                struct product_term *t = product_add(&terms, MATMUL_TRANS_B, a.t, b.t);
                if (i >= masked) continue;
                t->mask = tensor_of(bits, DT_U8, M, 16);
                t->p = 0.5;
                t->change = i == 1;
            }
            cpu->by_library = false;
            be_product(backend_stream(be), own.t, 2, &terms, 3, d.t, e.t);
            cpu->by_library = true;
            be_product(backend_stream(be), lib.t, 2, &terms, 3, d.t, e.t);
            /* Integers: exact before the rounding. */
            assert_memory_equal(own.t.data, lib.t.data, M * N * dtype_size(own.t.dtype));
            matrix_free(&own);
            matrix_free(&lib);
        }
    matrix_free(&a);
    matrix_free(&b);
    matrix_free(&d);
    matrix_free(&e);
    backend_free(&be);
}

/* No terms: C = beta C. */
static void matmul_empty(void **state) {
    (void)state;
    struct backend *be = open_backend(DT_F32);
    struct stream *s = backend_stream(be);
    float c[6] = {1, 2, 3, 4, 5, 6}, none[1] = {0};
    struct tensor tc = tensor_of(c, DT_F32, 2, 3);
    be_matmul(s, 0, 1, tensor_of(none, DT_F32, 2, 0), tensor_of(none, DT_F32, 0, 3), 2, tc);
    for (int i = 0; i < 6; i++) assert_true(c[i] == 2.0f * (float)(i + 1));
    be_matmul(s, 0, 1, tensor_of(NULL, DT_F32, 2, 0), tensor_of(NULL, DT_F32, 0, 3), 0, tc);
    for (int i = 0; i < 6; i++) assert_true(c[i] == 0.0f);
    be_matmul(s, 0, 1, tensor_of(NULL, DT_F32, 0, 5), tensor_of(none, DT_F32, 5, 0), 0,
              tensor_of(NULL, DT_F32, 0, 0));
    backend_free(&be);
}

/* The shapes of a small decoder: projections, the head, adapters, their backward passes. */
struct invariance_case {
    unsigned flags;
    int64_t n, k, gap;
};
static const struct invariance_case invariances[] = {{MATMUL_TRANS_B, 576, 576, 0},
                                                     {MATMUL_TRANS_B, 192, 576, 0},
                                                     {MATMUL_TRANS_B, 1536, 576, 0},
                                                     {MATMUL_TRANS_B, 576, 1536, 0},
                                                     {MATMUL_TRANS_B, 192, 2048, 0},
                                                     {MATMUL_TRANS_B, 576, 4096, 0},
                                                     {MATMUL_TRANS_B, 4096, 2048, 0},
                                                     {MATMUL_TRANS_B, 49152, 576, 0},
                                                     {0, 576, 576, 0},
                                                     {0, 1536, 576, 0},
                                                     {0, 576, 192, 0},
                                                     {MATMUL_TRANS_B, 32, 576, 0},
                                                     {MATMUL_TRANS_B, 576, 32, 0},
                                                     {0, 32, 1536, 0},
                                                     {0, 576, 4096, 0},
                                                     {MATMUL_TRANS_B, 100, 333, 0},
                                                     {MATMUL_TRANS_B, 576, 576, 32},
                                                     {MATMUL_TRANS_B, 576, 4096, 32},
                                                     {0, 576, 1536, 64},
                                                     {MATMUL_TRANS_B, 32, 4096, 32},
                                                     {MATMUL_TRANS_B, 100, 333, 3}};
static const int64_t row_counts[] = {1, 2, 3, 7, 16, 64, 300};

/* Rows of the large product, so that it costs a fraction of a second at any level. */
static int64_t invariance_rows(const struct invariance_case *c) {
    bool slow = cpu_isa_used() == ISA_REF;
#ifndef NDEBUG
    slow = true; /* an unoptimised build */
#endif
    if (slow) return c->n * c->k > 200000 ? 0 : 65;
    return c->n > 10000 ? 65 : c->n * c->k > 400000 ? 301 : 1000;
}

static void check_invariance(struct backend *be, enum dtype in, enum dtype out,
                             const struct invariance_case *c, double beta) {
    struct stream *s = backend_stream(be);
    int64_t rows = invariance_rows(c);
    bool tb = c->flags & MATMUL_TRANS_B;
    struct matrix a = matrix_new(in, rows, c->k, c->gap, false, 1);
    struct matrix b = matrix_new(in, tb ? c->n : c->k, tb ? c->k : c->n, c->gap, false, 2);
    size_t row_bytes = (size_t)c->n * dtype_size(out);
    struct tensor whole =
        tensor_of(mem_calloc(MEM_OTHER, (size_t)rows, row_bytes), out, rows, c->n);
    struct tensor part = tensor_of(mem_alloc(MEM_OTHER, (size_t)rows, row_bytes), out, rows, c->n);
    be_matmul(s, c->flags, 1, a.t, b.t, beta, whole);
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        int threads = 1 + (int)(i % 2);
        int64_t m = row_counts[i], first = i % 2 ? rows - m : 0;
        if (m > rows) break;
        threads_set(threads);
        memset(part.data, 0, (size_t)m * row_bytes);
        be_matmul(s, c->flags, 1, tensor_rows(a.t, first, m), b.t, beta, tensor_rows(part, 0, m));
        if (memcmp(part.data, tensor_rows(whole, first, m).data, (size_t)m * row_bytes) != 0)
            fail_msg("%s->%s N %ld K %ld gap %ld flags %u: %ld rows on %d threads differ from "
                     "the same of %ld",
                     dtype_name(in), dtype_name(out), (long)c->n, (long)c->k, (long)c->gap,
                     c->flags, (long)m, threads, (long)rows);
    }
    threads_set(0);
    matrix_free(&a);
    matrix_free(&b);
    mem_free(whole.data);
    mem_free(part.data);
}

static void invariance(enum dtype compute, enum dtype out, double beta) {
    struct backend *be = open_backend(compute);
    for (size_t i = 0; i < sizeof invariances / sizeof *invariances; i++)
        check_invariance(be, compute, out, &invariances[i], beta);
    backend_free(&be);
}
static void invariance_f32(void **state) {
    (void)state;
    invariance(DT_F32, DT_F32, 0);
}
static void invariance_bf16(void **state) {
    (void)state;
    invariance(DT_BF16, DT_F32, 0);
    invariance(DT_BF16, DT_BF16, 1);
}
static void invariance_widened(void **state) {
    (void)state;
    enum isa level = cpu_isa_used();
    cpu_isa_limit(ISA_AVX2);
    invariance(DT_BF16, DT_BF16, 0);
    cpu_isa_limit(level);
}

int main(void) {
    printf("seed %d\n", SEED);
    struct mil_error err = {0};
    if (cpu_isa_from_environment(&err) != MIL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_f64),      cmocka_unit_test(matmul_f32),
        cmocka_unit_test(matmul_bf16),     cmocka_unit_test(matmul_bf16_widened),
        cmocka_unit_test(matmul_library),  cmocka_unit_test(sum_by_library),
        cmocka_unit_test(matmul_empty),    cmocka_unit_test(invariance_f32),
        cmocka_unit_test(invariance_bf16), cmocka_unit_test(invariance_widened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
