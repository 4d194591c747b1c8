/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_matmul.c - which library multiplies what.
 *
 *   f64 x f64                    OpenBLAS dgemm (the exact instance, for tests and the SVD's
 * friends) f32 x f32 -> f32             oneDNN bf16 x bf16 -> f32 or bf16   oneDNN where the
 * processor multiplies bf16; otherwise both operands are widened block by block and multiplied in
 * f32 f32 x f32 -> bf16            f32 into scratch, then one rounding
 *
 * Measured on two Zen 4 cores, M = 1000, K = 576 .. 4096: f32 oneDNN 190-220 GF/s against
 * OpenBLAS's 160-195; and oneDNN's rows have the same bits for any M and any number of threads,
 * which OpenBLAS's have not (docs/numerics.md). */
#include <cblas.h>

#include "backend/cpu.h"

static void multiply_f64(unsigned flags, double alpha, struct tensor a, struct tensor b,
                         double beta, struct tensor c) {
    bool ta = flags & MATMUL_TRANS_A, tb = flags & MATMUL_TRANS_B;
    int64_t k = ta ? a.rows : a.cols;
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (blasint)c.rows, (blasint)c.cols, (blasint)k, alpha, a.data, (blasint)a.ld, b.data,
                (blasint)b.ld, beta, c.data, (blasint)c.ld);
}

/* Blocks of the widened product: a block of op(B) is widened once for all blocks of op(A).  Cutting
 * m and n changes no sum; k is never cut. */
enum { WIDEN_M = 256, WIDEN_N = 1024 };

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* x as f32 in memory. */
static struct tensor widened(struct stream *s, struct tensor x, float *memory) {
    struct tensor y = tensor_of(memory, DT_F32, x.rows, x.cols);
    cpu_map(s, y, 1.0, x, false);
    return y;
}

struct widen {
    unsigned flags;
    double alpha, beta;
    float *a, *b, *c; /* scratch of WIDEN_M x k, WIDEN_N x k, WIDEN_M x WIDEN_N */
};

/* One block of C; b is f32 already. */
static enum mil_status multiply_block(struct stream *s, const struct widen *w, struct tensor a,
                                      struct tensor b, struct tensor c, struct mil_error *err) {
    struct product *p = &cpu_of(s)->product;
    struct tensor wide_a = widened(s, a, w->a);
    struct tensor wide_c = tensor_of(w->c, DT_F32, c.rows, c.cols);
    if (w->beta != 0.0) cpu_map(s, wide_c, 1.0, c, false);
    TRY(product_run(p, w->flags, w->alpha, wide_a, b, w->beta, wide_c, err));
    cpu_map(s, c, 1.0, wide_c, false);
    return MIL_OK;
}

static enum mil_status multiply_widened(struct stream *s, struct widen *w, struct tensor a,
                                        struct tensor b, struct tensor c, struct mil_error *err) {
    bool ta = w->flags & MATMUL_TRANS_A, tb = w->flags & MATMUL_TRANS_B;
    int64_t k = ta ? a.rows : a.cols;
    size_t rows = (size_t)at_most(WIDEN_M, c.rows), cols = (size_t)at_most(WIDEN_N, c.cols);
    w->a = cpu_scratch(s, (rows * (size_t)k + cols * (size_t)k + rows * cols) * sizeof(float));
    if (!w->a) return MIL_OK; /* the stream knows */
    w->b = w->a + rows * (size_t)k;
    w->c = w->b + cols * (size_t)k;
    for (int64_t j = 0; j < c.cols; j += WIDEN_N) {
        int64_t n = at_most(WIDEN_N, c.cols - j);
        struct tensor bj = widened(s, tb ? tensor_rows(b, j, n) : tensor_cols(b, j, n), w->b);
        for (int64_t i = 0; i < c.rows; i += WIDEN_M) {
            int64_t m = at_most(WIDEN_M, c.rows - i);
            struct tensor ai = ta ? tensor_cols(a, i, m) : tensor_rows(a, i, m);
            struct tensor cij = tensor_cols(tensor_rows(c, i, m), j, n);
            TRY(multiply_block(s, w, ai, bj, cij, err));
        }
    }
    return MIL_OK;
}

/* ---- gaps between rows ----
 *
 * oneDNN multiplies matrices with gaps too, but by another method, whose sums are cut by the number
 * of rows and threads.  So that bits never depend on those, matrices with gaps are copied together:
 * a pass over memory beside a product. */

static bool has_gaps(struct tensor t) {
    return t.rows > 1 && t.ld != t.cols;
}
static size_t gap_bytes(struct tensor t) {
    size_t bytes = (size_t)t.rows * (size_t)t.cols * dtype_size(t.dtype);
    return has_gaps(t) ? align_up(bytes, MEM_ALIGN) : 0;
}
/* t itself, or its place in memory, which advances. */
static struct tensor without_gaps(struct tensor t, unsigned char **memory) {
    if (!has_gaps(t)) return t;
    struct tensor dense = tensor_of(*memory, t.dtype, t.rows, t.cols);
    *memory += gap_bytes(t);
    return dense;
}

static enum mil_status multiply_dense(struct stream *s, unsigned flags, double alpha,
                                      struct tensor a, struct tensor b, double beta,
                                      struct tensor c, struct mil_error *err) {
    struct product *p = &cpu_of(s)->product;
    size_t bytes = gap_bytes(a) + gap_bytes(b) + gap_bytes(c);
    if (bytes == 0) return product_run(p, flags, alpha, a, b, beta, c, err);
    unsigned char *memory = cpu_scratch(s, bytes);
    if (!memory) return MIL_OK; /* the stream knows */
    struct tensor da = without_gaps(a, &memory), db = without_gaps(b, &memory);
    struct tensor dc = without_gaps(c, &memory);
    if (has_gaps(a)) cpu_map(s, da, 1.0, a, false);
    if (has_gaps(b)) cpu_map(s, db, 1.0, b, false);
    if (has_gaps(c) && beta != 0.0) cpu_map(s, dc, 1.0, c, false);
    TRY(product_run(p, flags, alpha, da, db, beta, dc, err));
    if (has_gaps(c)) cpu_map(s, c, 1.0, dc, false);
    return MIL_OK;
}

void cpu_matmul(struct stream *s, unsigned flags, double alpha, struct tensor a, struct tensor b,
                double beta, struct tensor c) {
    struct product *p = &cpu_of(s)->product;
    struct mil_error err = {0};
    enum mil_status st = MIL_OK;
    if (a.dtype == DT_F64)
        multiply_f64(flags, alpha, a, b, beta, c);
    else if (a.dtype == DT_F32 ? c.dtype == DT_F32 : p->has_bf16)
        st = multiply_dense(s, flags, alpha, a, b, beta, c, &err);
    else
        st = multiply_widened(s, &(struct widen){.flags = flags, .alpha = alpha, .beta = beta}, a,
                              b, c, &err);
    if (st != MIL_OK) stream_fail(s, st, &err);
}
