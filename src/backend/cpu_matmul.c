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
#include <string.h>

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
static void product_items(void *ctx, int64_t begin, int64_t end) {
    const struct product_call *c = ctx;
    c->kern->product(&c->a, begin, end);
}

static void multiply_own(struct stream *s, unsigned flags, double alpha, struct tensor a,
                         struct tensor b, double beta, struct tensor c) {
    bool ta = flags & MATMUL_TRANS_A;
    struct kern_term term = {.a = a.data,
                             .b = b.data,
                             .trans_a = ta,
                             .trans_b = flags & MATMUL_TRANS_B,
                             .k = ta ? a.rows : a.cols,
                             .lda = a.ld,
                             .ldb = b.ld};
    struct product_call call = {&cpu_of(s)->kern,
                                {.terms = &term,
                                 .n_terms = 1,
                                 .c = c.data,
                                 .addend = beta != 0.0 ? c.data : NULL,
                                 .c_type = c.dtype,
                                 .addend_type = c.dtype,
                                 .m = c.rows,
                                 .n = c.cols,
                                 .ldc = c.ld,
                                 .ld_addend = c.ld,
                                 .alpha = alpha,
                                 .beta = beta}};
    parallel_for(kern_product_cut(&call.a, threads_count()), 1, product_items, &call);
}

/* ---- what the library gets ----
 *
 * Two things are arranged before oneDNN multiplies.
 *
 * Gaps: it multiplies matrices with gaps between rows too, but by another method, whose sums are cut by
 * the number of rows and threads.  So that bits never depend on those, such matrices are copied
 * together: a pass over memory beside a product.
 *
 * Lengths: it generates code for each shape, half a millisecond and 150 KiB of memory, and the number
 * of tokens is another one in nearly every micro-batch.  So that dimension (the rows of C, or, where A
 * is transposed, the sum's length) is cut into a multiple of PIECE and a rest, padded with zero rows to
 * a multiple of PAD: a few lengths serve all.  Rows of C have the same bits whatever their number, so
 * that cut changes nothing; the sum's cut is a function of its length alone. */
enum { PIECE = 256, PAD = 32 };

static bool has_gaps(struct tensor t) {
    return t.rows > 1 && t.ld != t.cols;
}
static size_t dense_bytes(int64_t rows, int64_t cols, enum dtype t) {
    return align_up((size_t)rows * (size_t)cols * dtype_size(t), MEM_ALIGN);
}
static size_t gap_bytes(struct tensor t) {
    return has_gaps(t) ? dense_bytes(t.rows, t.cols, t.dtype) : 0;
}
static struct tensor take(unsigned char **memory, int64_t rows, int64_t cols, enum dtype t) {
    struct tensor dense = tensor_of(*memory, t, rows, cols);
    *memory += dense_bytes(rows, cols, t);
    return dense;
}

/* One product for the library, with scratch for padded copies. */
struct dense_product {
    struct stream *s;
    unsigned flags;
    double alpha, beta;
    struct tensor a, b, c;
    unsigned char *memory;
};

/* The dimension that is cut: how long it is, what its last piece is padded to (0: it is not cut). */
static int64_t cut_length(const struct dense_product *d) {
    return d->flags & MATMUL_TRANS_A ? d->a.rows : d->c.rows;
}
static int64_t padded_rest(const struct dense_product *d) {
    int64_t n = cut_length(d), rest = n % PIECE;
    if (n <= PAD || rest == 0) return 0;
    /* A sum in bf16 is rounded once, so it is not cut; nor is one along B's columns, which does not
     * occur in a decoder. */
    if (d->flags & MATMUL_TRANS_A && (d->c.dtype == DT_BF16 || d->flags & MATMUL_TRANS_B)) return 0;
    return (rest + PAD - 1) / PAD * PAD;
}
static size_t rest_bytes(const struct dense_product *d) {
    int64_t rows = padded_rest(d);
    if (rows == 0) return 0;
    size_t a = dense_bytes(rows, d->a.cols, d->a.dtype);
    if (d->flags & MATMUL_TRANS_A) return a + dense_bytes(rows, d->b.cols, d->b.dtype);
    return a + dense_bytes(rows, d->c.cols, d->c.dtype);
}

/* rows of x copied to scratch, zero rows behind them. */
static struct tensor padded(struct dense_product *d, struct tensor x, int64_t rows) {
    struct tensor y = take(&d->memory, rows, x.cols, x.dtype);
    cpu_map(d->s, tensor_rows(y, 0, x.rows), 1.0, x, false);
    memset((unsigned char *)y.data + (size_t)(x.rows * x.cols) * dtype_size(x.dtype), 0,
           (size_t)((rows - x.rows) * x.cols) * dtype_size(x.dtype));
    return y;
}

/* The rest of a sum: A and B are padded, C takes what it adds. */
static enum mil_status add_rest(struct dense_product *d, int64_t from, int64_t rows,
                                struct mil_error *err) {
    struct tensor a = padded(d, tensor_rows(d->a, from, d->a.rows - from), rows);
    struct tensor b = padded(d, tensor_rows(d->b, from, d->b.rows - from), rows);
    return product_run(&cpu_of(d->s)->product, d->flags, d->alpha, a, b, from ? 1.0 : d->beta, d->c,
                       err);
}

/* The rest of C's rows: computed in scratch. */
static enum mil_status rows_rest(struct dense_product *d, int64_t from, int64_t rows,
                                 struct mil_error *err) {
    struct tensor rest = tensor_rows(d->c, from, d->c.rows - from);
    struct tensor a = padded(d, tensor_rows(d->a, from, rest.rows), rows);
    struct tensor c = take(&d->memory, rows, rest.cols, rest.dtype);
    if (d->beta != 0.0) cpu_map(d->s, tensor_rows(c, 0, rest.rows), 1.0, rest, false);
    TRY(product_run(&cpu_of(d->s)->product, d->flags, d->alpha, a, d->b, d->beta, c, err));
    cpu_map(d->s, rest, 1.0, tensor_rows(c, 0, rest.rows), false);
    return MIL_OK;
}

static enum mil_status multiply_pieces(struct dense_product *d, struct mil_error *err) {
    struct product *p = &cpu_of(d->s)->product;
    int64_t rows = padded_rest(d), whole = rows ? cut_length(d) / PIECE * PIECE : cut_length(d);
    bool ta = d->flags & MATMUL_TRANS_A;
    if (whole > 0) {
        struct tensor a = tensor_rows(d->a, 0, whole);
        struct tensor b = ta && rows ? tensor_rows(d->b, 0, whole) : d->b;
        struct tensor c = ta ? d->c : tensor_rows(d->c, 0, whole);
        TRY(product_run(p, d->flags, d->alpha, a, b, d->beta, c, err));
    }
    if (rows == 0) return MIL_OK;
    return ta ? add_rest(d, whole, rows, err) : rows_rest(d, whole, rows, err);
}

static enum mil_status multiply_dense(struct stream *s, unsigned flags, double alpha,
                                      struct tensor a, struct tensor b, double beta,
                                      struct tensor c, struct mil_error *err) {
    struct dense_product d = {s, flags, alpha, beta, a, b, c, NULL};
    size_t bytes = gap_bytes(a) + gap_bytes(b) + gap_bytes(c) + rest_bytes(&d);
    if (bytes == 0) return multiply_pieces(&d, err);
    d.memory = cpu_scratch(s, bytes);
    if (!d.memory) return MIL_OK; /* the stream knows */
    if (has_gaps(a)) d.a = take(&d.memory, a.rows, a.cols, a.dtype);
    if (has_gaps(b)) d.b = take(&d.memory, b.rows, b.cols, b.dtype);
    if (has_gaps(c)) d.c = take(&d.memory, c.rows, c.cols, c.dtype);
    if (has_gaps(a)) cpu_map(s, d.a, 1.0, a, false);
    if (has_gaps(b)) cpu_map(s, d.b, 1.0, b, false);
    if (has_gaps(c) && beta != 0.0) cpu_map(s, d.c, 1.0, c, false);
    TRY(multiply_pieces(&d, err));
    if (has_gaps(c)) cpu_map(s, c, 1.0, d.c, false);
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
