/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_library.c - products by oneDNN, which has kernels for AMX.  Two things are arranged before it multiplies, and
 * sums of products are made one by one in f32.
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
#include <string.h>

#include "backend/cpu.h"

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

static size_t product_bytes(const struct dense_product *d) {
    return gap_bytes(d->a) + gap_bytes(d->b) + gap_bytes(d->c) + rest_bytes(d);
}

/* d.memory: product_bytes of scratch. */
static enum mil_status multiply_dense(struct dense_product d, struct mil_error *err) {
    struct stream *s = d.s;
    struct tensor a = d.a, b = d.b, c = d.c;
    if (has_gaps(a)) d.a = take(&d.memory, a.rows, a.cols, a.dtype);
    if (has_gaps(b)) d.b = take(&d.memory, b.rows, b.cols, b.dtype);
    if (has_gaps(c)) d.c = take(&d.memory, c.rows, c.cols, c.dtype);
    if (has_gaps(a)) cpu_map(s, d.a, 1.0, a, false);
    if (has_gaps(b)) cpu_map(s, d.b, 1.0, b, false);
    if (has_gaps(c) && d.beta != 0.0) cpu_map(s, d.c, 1.0, c, false);
    TRY(multiply_pieces(&d, err));
    if (has_gaps(c)) cpu_map(s, c, 1.0, d.c, false);
    return MIL_OK;
}

/* A sum under way: its plain terms are the library's, masked ones our own kernel's. */
struct library_sum {
    struct stream *s;
    const struct product_sum *whole;
    struct product_terms plain, masked;
    struct tensor sum; /* of the plain terms: C, or real scratch */
    bool aside;        /* that scratch */
};

static struct library_sum begin_sum(struct stream *s, const struct product_sum *whole) {
    struct library_sum l = {.s = s, .whole = whole, .sum = whole->c};
    bool alone = whole->terms.n == 1 && !whole->d.data && !whole->e.data;
    for (int i = 0; i < whole->terms.n; i++) {
        struct product_terms *to = whole->terms.t[i].mask.data ? &l.masked : &l.plain;
        to->t[to->n++] = whole->terms.t[i];
    }
    l.aside = whole->f.data || (whole->c.dtype != s->backend->real && !alone);
    if (l.aside) l.sum = tensor_of(NULL, s->backend->real, whole->c.rows, whole->c.cols);
    return l;
}

static struct dense_product dense_of(const struct library_sum *l, int i, bool first,
                                     unsigned char *memory) {
    const struct product_term *t = &l->plain.t[i];
    return (struct dense_product){l->s, t->flags, l->whole->alpha, first ? 0.0 : 1.0,
                                  t->a, t->b,     l->sum,          memory};
}

/* Addend and bias into `sum`, which holds nothing before; false: there are none. */
static bool put_addends(const struct library_sum *l) {
    const struct product_sum *w = l->whole;
    if (w->d.data && (w->d.data != l->sum.data || w->beta != 1.0))
        cpu_map(l->s, l->sum, w->beta, w->d, false);
    if (!w->d.data && w->e.data) cpu_zero(l->s, l->sum);
    if (w->e.data) cpu_add_row(l->s, l->sum, w->e);
    return w->d.data || w->e.data;
}

static enum mil_status add_plain(struct library_sum *l, bool empty, unsigned char *memory,
                                 struct mil_error *err) {
    if (empty && l->plain.n == 0) cpu_zero(l->s, l->sum);
    for (int i = 0; i < l->plain.n; i++)
        TRY(multiply_dense(dense_of(l, i, empty && i == 0, memory), err));
    return MIL_OK;
}

/* c = sum + the masked terms. */
static void add_masked(const struct library_sum *l, struct tensor c) {
    const struct product_sum masked = {
        .c = c, .alpha = l->whole->alpha, .beta = 1.0, .terms = l->masked, .d = l->sum};
    if (masked.terms.n > 0)
        cpu_sums_own(l->s, &masked, 1);
    else if (c.data != l->sum.data)
        cpu_map(l->s, c, 1.0, l->sum, false);
}

/* The terms' sum is complete: C = f sum + beta D + e. */
static void finish_factor(const struct library_sum *l) {
    const struct product_sum *w = l->whole;
    bool last = !w->d.data && !w->e.data;
    add_masked(l, l->sum);
    cpu_scale_cols(l->s, last ? w->c : l->sum, l->sum, w->f);
    if (last) return;
    if (w->d.data) cpu_map(l->s, l->sum, w->beta, w->d, true);
    if (w->e.data) cpu_add_row(l->s, l->sum, w->e);
    cpu_map(l->s, w->c, 1.0, l->sum, false);
}

/* Terms are added one after the other into C, or into f32 scratch where C is to be rounded once or multiplied by a
 * factor before it gets more; masked ones at the end by our own kernel, which rounds. */
void cpu_sum_by_library(struct stream *s, const struct product_sum *whole) {
    struct mil_error err = {0};
    struct library_sum l = begin_sum(s, whole);
    size_t sum_bytes = l.aside ? dense_bytes(l.sum.rows, l.sum.cols, l.sum.dtype) : 0, most = 0;
    for (int i = 0; i < l.plain.n; i++) {
        const struct dense_product p = dense_of(&l, i, false, NULL);
        if (product_bytes(&p) > most) most = product_bytes(&p);
    }
    unsigned char *memory = sum_bytes + most ? cpu_scratch(s, sum_bytes + most) : NULL;
    if (sum_bytes + most && !memory) return; /* the stream knows */
    if (l.aside) l.sum.data = memory;
    bool factor = whole->f.data, empty = factor || !put_addends(&l);
    enum mil_status st = add_plain(&l, empty, memory ? memory + sum_bytes : NULL, &err);
    if (st != MIL_OK)
        stream_fail(s, st, &err);
    else if (factor)
        finish_factor(&l);
    else
        add_masked(&l, whole->c);
}
