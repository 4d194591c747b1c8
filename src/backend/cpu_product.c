/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_product.c - who multiplies what.
 *
 *   bf16, with AMX               oneDNN, term by term (cpu_library.c)
 *   f64, plain terms, no factor  OpenBLAS dgemm (the exact instance that tests compute in)
 *   all other cases              own kernel (kern/.../product_tmpl.h), all terms in one pass
 *
 * Measured on one Zen 4 core at T = 1024 (bench_kern): our bf16 products run at 95-110 % of oneDNN 2.6.3's rate, f32
 * ones at 98-137 %, and the sum with an adapter's terms, masks and the rounding cost nothing on top; our rows have the same
 * bits for any M and any number of threads by construction. AMX has no kernel of ours. */
#include <cblas.h>

#include "backend/cpu.h"
#include "core/threads.h"

/* ---- f64 ---- */

static bool is_plain(const struct product_terms *terms) {
    for (int i = 0; i < terms->n; i++)
        if (terms->t[i].mask.data) return false;
    return true;
}

static void multiply_f64(double alpha, const struct product_term *t, double beta, struct tensor c) {
    bool ta = t->flags & MATMUL_TRANS_A, tb = t->flags & MATMUL_TRANS_B;
    int64_t k = ta ? t->a.rows : t->a.cols;
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (blasint)c.rows, (blasint)c.cols, (blasint)k, alpha, t->a.data, (blasint)t->a.ld,
                t->b.data, (blasint)t->b.ld, beta, c.data, (blasint)c.ld);
}

static void sum_f64(struct stream *s, const struct product_sum *sum) {
    struct tensor c = sum->c;
    if (!sum->d.data)
        cpu_zero(s, c);
    else if (sum->d.data != c.data || sum->beta != 1.0)
        cpu_map(s, c, sum->beta, sum->d, false);
    if (sum->e.data) cpu_add_row(s, c, sum->e);
    for (int i = 0; i < sum->terms.n; i++) multiply_f64(sum->alpha, &sum->terms.t[i], 1.0, c);
}

/* ---- own kernel ---- */

/* The items of several sums, one sum's after the other's. */
struct product_call {
    const struct kern *kern;
    struct kern_product a[PRODUCT_SUMS];
    struct kern_term terms[PRODUCT_SUMS][PRODUCT_TERMS];
    int64_t past[PRODUCT_SUMS]; /* the index after each one's last item */
};
static void product_items(void *ctx, int64_t begin, int64_t end) {
    const struct product_call *c = ctx;
    int64_t from = 0;
    for (int i = 0; begin < end; from = c->past[i++]) {
        int64_t stop = end < c->past[i] ? end : c->past[i];
        if (begin >= stop) continue;
        c->kern->product(&c->a[i], begin - from, stop - from);
        begin = stop;
    }
}

static struct kern_term own_term(const struct product_term *t) {
    double keep = 1.0 / (1.0 - t->p);
    bool ta = t->flags & MATMUL_TRANS_A;
    return (struct kern_term){.a = t->a.data,
                              .b = t->b.data,
                              .trans_a = ta,
                              .trans_b = t->flags & MATMUL_TRANS_B,
                              .k = ta ? t->a.rows : t->a.cols,
                              .lda = t->a.ld,
                              .b_type = t->b.dtype,
                              .ldb = t->b.ld,
                              .mask = t->mask.data,
                              .ld_mask = t->mask.ld,
                              .kept = t->change ? keep - 1.0 : keep,
                              .dropped = t->change ? -1.0 : 0.0};
}

static struct kern_product own_sum(const struct product_sum *sum, struct kern_term *terms) {
    for (int i = 0; i < sum->terms.n; i++) terms[i] = own_term(&sum->terms.t[i]);
    return (struct kern_product){.terms = terms,
                                 .n_terms = sum->terms.n,
                                 .c = sum->c.data,
                                 .addend = sum->d.data,
                                 .bias = sum->e.data,
                                 .factor = sum->f.data,
                                 .c_type = sum->c.dtype,
                                 .addend_type = sum->d.dtype,
                                 .bias_type = sum->e.dtype,
                                 .m = sum->c.rows,
                                 .n = sum->c.cols,
                                 .ldc = sum->c.ld,
                                 .ld_addend = sum->d.ld,
                                 .alpha = sum->alpha,
                                 .beta = sum->beta};
}

void cpu_sums_own(struct stream *s, const struct product_sum *sums, int n) {
    struct product_call call = {.kern = &cpu_of(s)->kern};
    int64_t items = 0;
    for (int i = 0; i < n; i++) {
        call.a[i] = own_sum(&sums[i], call.terms[i]);
        items += kern_product_cut(&call.a[i], threads_count());
        call.past[i] = items;
    }
    /* A few rows are bound by the reading of B: a thread gets items side by side, so that what it fetches ahead is
     * what it reads next. */
    enum { FEW_ROWS = 24, SHARES = 4 };
    int64_t share = items / (SHARES * threads_count());
    parallel_for(items, sums[0].c.rows <= FEW_ROWS && share > 1 ? share : 1, product_items, &call);
}

void cpu_products(struct stream *s, const struct product_sum *sums, int n) {
    bool exact = s->backend->act == DT_F64, library = cpu_of(s)->by_library;
    if (!exact && !library) {
        cpu_sums_own(s, sums, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (library)
            cpu_sum_by_library(s, &sums[i]);
        else if (is_plain(&sums[i].terms) && !sums[i].f.data)
            sum_f64(s, &sums[i]);
        else
            cpu_sums_own(s, &sums[i], 1);
    }
}
