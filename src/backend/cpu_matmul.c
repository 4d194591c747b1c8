/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_matmul.c - who multiplies what.
 *
 *   f64 x f64                    OpenBLAS dgemm (the exact instance that tests compute in)
 *   f32 x f32 -> f32             oneDNN with AVX-512
 *   bf16 x bf16 -> f32 or bf16   oneDNN with AVX512-BF16 or AMX
 *   all other cases              own kernel (kern/.../product_tmpl.h), operands widened to f32
 *
 * Measured on two Zen 4 cores, M = 1000, K = 576 .. 4096: f32 oneDNN 190-220 GF/s against
 * OpenBLAS's 160-195; and oneDNN's rows have the same bits for any M and any number of threads
 * where it uses its AVX-512 kernels, which OpenBLAS's have not, nor oneDNN's for AVX2
 * (docs/numerics.md).
 */
#include <cblas.h>

#include "backend/cpu.h"
#include "core/threads.h"

static void multiply_f64(unsigned flags, double alpha, struct tensor a, struct tensor b,
                         double beta, struct tensor c) {
    bool ta = flags & MATMUL_TRANS_A, tb = flags & MATMUL_TRANS_B;
    int64_t k = ta ? a.rows : a.cols;
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (blasint)c.rows, (blasint)c.cols, (blasint)k, alpha, a.data, (blasint)a.ld, b.data,
                (blasint)b.ld, beta, c.data, (blasint)c.ld);
}

/* ---- own kernel ---- */

struct product_call {
    const struct kern *kern;
    struct kern_product a;
};
static void product_tiles(void *ctx, int64_t begin, int64_t end) {
    const struct product_call *c = ctx;
    c->kern->product(&c->a, begin, end);
}

static void multiply_own(struct stream *s, unsigned flags, double alpha, struct tensor a,
                         struct tensor b, double beta, struct tensor c) {
    bool ta = flags & MATMUL_TRANS_A;
    struct product_call call = {&cpu_of(s)->kern,
                                {.a = a.data,
                                 .b = b.data,
                                 .c = c.data,
                                 .in_type = a.dtype,
                                 .c_type = c.dtype,
                                 .m = c.rows,
                                 .n = c.cols,
                                 .k = ta ? a.rows : a.cols,
                                 .lda = a.ld,
                                 .ldb = b.ld,
                                 .ldc = c.ld,
                                 .trans_a = ta,
                                 .trans_b = flags & MATMUL_TRANS_B,
                                 .alpha = alpha,
                                 .beta = beta}};
    parallel_for(kern_product_tiles(c.rows, c.cols), 1, product_tiles, &call);
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

/* What the library multiplies at the level in use with the same bits for any number of rows. */
static bool library_fits(const struct cpu_backend *b, struct tensor a, struct tensor c) {
    if (a.dtype == DT_F32) return c.dtype == DT_F32 && b->product.has_f32;
    return b->product.has_bf16;
}

void cpu_matmul(struct stream *s, unsigned flags, double alpha, struct tensor a, struct tensor b,
                double beta, struct tensor c) {
    struct mil_error err = {0};
    enum mil_status st = MIL_OK;
    if (a.dtype == DT_F64)
        multiply_f64(flags, alpha, a, b, beta, c);
    else if (library_fits(cpu_of(s), a, c))
        st = multiply_dense(s, flags, alpha, a, b, beta, c, &err);
    else
        multiply_own(s, flags, alpha, a, b, beta, c);
    if (st != MIL_OK) stream_fail(s, st, &err);
}
