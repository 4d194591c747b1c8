/* SPDX-License-Identifier: Apache-2.0 */
/* result.c - singular triplets as they are handed out, and what is measured on them.
 *
 * The certificate's residual is that of the arrays returned, whatever method made them:
 *     max_t  ||W v_t - s_t u_t||, ||W^T u_t - s_t v_t||   over sigma_max,
 * products in f64 with the stored values.  A zero matrix has sigma_max = 0 and residual 0. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/internal.h"

enum mil_status result_new(const struct svd_matrix *w, int64_t rank, struct svd_result *out,
                           struct mil_error *err) {
    *out = (struct svd_result){.m = w->m, .n = w->n, .rank = rank};
    out->u = mem_alloc(MEM_SCRATCH, (size_t)(rank * w->m), sizeof *out->u);
    out->sigma = mem_alloc(MEM_SCRATCH, (size_t)rank, sizeof *out->sigma);
    out->v = mem_alloc(MEM_SCRATCH, (size_t)(rank * w->n), sizeof *out->v);
    if (out->u && out->sigma && out->v) return MIL_OK;
    svd_release(out);
    return error_nomem(err, (uint64_t)(rank * (w->m + w->n)) * sizeof(double));
}

void svd_release(struct svd_result *r) {
    mem_free(r->u);
    mem_free(r->sigma);
    mem_free(r->v);
    memset(r, 0, sizeof *r);
}

/* to = sign * from. */
static void copy_signed(double *to, const double *from, int64_t n, double sign) {
    for (int64_t i = 0; i < n; i++) to[i] = sign * from[i];
}

static double canonical_sign(const double *u, int64_t m) {
    int64_t top = 0;
    for (int64_t i = 1; i < m; i++)
        if (fabs(u[i]) > fabs(u[top])) top = i;
    return u[top] < 0 ? -1.0 : 1.0;
}

void result_from_pairs(const double *x, const double *y, const double *sigma,
                       struct svd_result *out) {
    bool wide = out->m < out->n;
    const double *u = wide ? x : y, *v = wide ? y : x;
    for (int64_t t = 0; t < out->rank; t++) {
        int64_t place = 0; /* number of those before it in descending order, ties by index */
        for (int64_t i = 0; i < out->rank; i++)
            place += sigma[i] > sigma[t] || (sigma[i] == sigma[t] && i < t);
        double sign = canonical_sign(u + t * out->m, out->m);
        copy_signed(out->u + place * out->m, u + t * out->m, out->m, sign);
        copy_signed(out->v + place * out->n, v + t * out->n, out->n, sign);
        out->sigma[place] = sigma[t];
    }
}

/* ---- the certificate ---- */

/* NaN if either is. */
static double larger(double a, double b) {
    return a > b || isnan(a) ? a : b;
}

/* max |X^T X - I| of x [len, r]. */
static double identity_error(const double *x, int64_t len, int64_t r, double *gram) {
    double worst = 0;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)r, (int)r, (int)len, 1.0, x, (int)len,
                x, (int)len, 0.0, gram, (int)r);
    for (int64_t i = 0; i < r * r; i++) {
        double e = fabs(gram[i] - (i % (r + 1) == 0 ? 1.0 : 0.0));
        worst = larger(worst, e);
    }
    return worst;
}

/* Largest norm over t of x_t - sigma_t y_t, both [len, r]. */
static double largest_difference(const double *x, const double *y, const double *sigma, int64_t len,
                                 int64_t r) {
    double worst = 0;
    for (int64_t t = 0; t < r; t++) {
        double sum = 0;
        for (int64_t i = t * len; i < (t + 1) * len; i++) {
            double e = x[i] - sigma[t] * y[i];
            sum += e * e;
        }
        worst = larger(worst, sqrt(sum));
    }
    return worst;
}

enum mil_status result_certify(const struct svd_matrix *w, struct svd_result *o,
                               struct mil_error *err) {
    bool wide = w->m < w->n;
    const double *x = wide ? o->u : o->v, *y = wide ? o->v : o->u;
    int64_t k = short_side(w), l = long_side(w), r = o->rank;
    double *hx = mem_alloc(MEM_SCRATCH, (size_t)(l * r), sizeof *hx),
           *hty = mem_alloc(MEM_SCRATCH, (size_t)(k * r), sizeof *hty),
           *gram = mem_alloc(MEM_SCRATCH, (size_t)(r * r), sizeof *gram);
    enum mil_status st = MIL_OK;
    if (!hx || !hty || !gram) {
        st = error_nomem(err, (uint64_t)((k + l + r) * r) * sizeof *hx);
        goto fail;
    }
    TRY_GOTO(matrix_apply(w, x, r, hx, err));
    TRY_GOTO(matrix_apply_t(w, y, r, hty, err));
    double worst = larger(largest_difference(hx, y, o->sigma, l, r),
                          largest_difference(hty, x, o->sigma, k, r));
    o->residual = o->sigma_max > 0 ? worst / o->sigma_max : worst;
    o->orthogonality = larger(identity_error(x, k, r, gram), identity_error(y, l, r, gram));
fail:
    mem_free(gram);
    mem_free(hty);
    mem_free(hx);
    return st;
}
