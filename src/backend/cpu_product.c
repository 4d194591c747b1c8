/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_product.c - who multiplies what.
 *
 *   bf16, with AMX               oneDNN, term by term (cpu_library.c)
 *   f64, plain terms             OpenBLAS dgemm (the exact instance that tests compute in)
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

static void sum_f64(struct stream *s, struct tensor c, double alpha,
                    const struct product_terms *terms, double beta, struct tensor d,
                    struct tensor e) {
    if (!d.data)
        cpu_zero(s, c);
    else if (d.data != c.data || beta != 1.0)
        cpu_map(s, c, beta, d, false);
    if (e.data) cpu_add_row(s, c, e);
    for (int i = 0; i < terms->n; i++) multiply_f64(alpha, &terms->t[i], 1.0, c);
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

void cpu_sum_own(struct stream *s, struct tensor c, double alpha, const struct product_terms *terms,
                 double beta, struct tensor d, struct tensor e) {
    struct kern_term own[PRODUCT_TERMS];
    for (int i = 0; i < terms->n; i++) own[i] = own_term(&terms->t[i]);
    struct product_call call = {&cpu_of(s)->kern,
                                {.terms = own,
                                 .n_terms = terms->n,
                                 .c = c.data,
                                 .addend = d.data,
                                 .bias = e.data,
                                 .c_type = c.dtype,
                                 .addend_type = d.dtype,
                                 .bias_type = e.dtype,
                                 .m = c.rows,
                                 .n = c.cols,
                                 .ldc = c.ld,
                                 .ld_addend = d.ld,
                                 .alpha = alpha,
                                 .beta = beta}};
    parallel_for(kern_product_cut(&call.a, threads_count()), 1, product_items, &call);
}

void cpu_product(struct stream *s, struct tensor c, double alpha, const struct product_terms *terms,
                 double beta, struct tensor d, struct tensor e) {
    if (s->backend->act == DT_F64 && is_plain(terms))
        sum_f64(s, c, alpha, terms, beta, d, e);
    else if (cpu_of(s)->by_library)
        cpu_sum_by_library(s, c, alpha, terms, beta, d, e);
    else
        cpu_sum_own(s, c, alpha, terms, beta, d, e);
}
