/* SPDX-License-Identifier: Apache-2.0 */
/* low_rank.c - sums of a weight and low-rank changes, accurate to one rounding:
 *     W + s L R                              (low_rank_add)
 *     W + sum over changes of w (W' - W)     (deltas_add_to)
 * with W' = W + s B' A', or with a magnitude the rows of that scaled to it, W'_i = magnitude_i V_i / ||V_i||.
 *
 * Products and sums are taken in f64 (their operands are exact there) in blocks of rows, so that the f64
 * copy of a large weight is never held; the sum is rounded to f32 once. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"

enum { BLOCK_ROWS = 128 };

static void widen(double *dst, const float *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = (double)src[i];
}

/* p [rows, n] = s l [rows, k] r [k, n]. */
static void multiply(int64_t rows, int64_t n, int64_t k, double s, const double *l, const double *r,
                     double *p) {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)n, (int)k, s, l, (int)k,
                r, (int)n, 0.0, p, (int)n);
}

enum mil_status low_rank_add(float *w, int64_t m, int64_t n, int64_t k, double scale,
                             const float *left, const float *right, struct mil_error *err) {
    double *r = mem_alloc(MEM_SCRATCH, (size_t)(k * n), sizeof *r);
    double *l = mem_alloc(MEM_SCRATCH, (size_t)(BLOCK_ROWS * k), sizeof *l);
    double *p = mem_alloc(MEM_SCRATCH, (size_t)(BLOCK_ROWS * n), sizeof *p);
    enum mil_status st = MIL_OK;
    if (!r || !l || !p) {
        st = error_nomem(err, (uint64_t)(k * n + BLOCK_ROWS * (k + n)) * sizeof *r);
        goto fail;
    }
    widen(r, right, k * n);
    for (int64_t begin = 0; begin < m; begin += BLOCK_ROWS) {
        int64_t rows = m - begin < BLOCK_ROWS ? m - begin : BLOCK_ROWS;
        float *to = w + begin * n;
        widen(l, left + begin * k, rows * k);
        multiply(rows, n, k, scale, l, r, p);
        for (int64_t i = 0; i < rows * n; i++) to[i] = (float)((double)to[i] + p[i]);
    }
fail:
    mem_free(p);
    mem_free(l);
    mem_free(r);
    return st;
}

/* ---- changes of an adapter ---- */

/* One change, prepared: A' in f64, room for a block of s B' and of W' - W. */
struct change {
    const struct delta *d;
    double weight;
    int64_t k;
    double *a, *b, *p;
};

static void change_release(struct change *c) {
    mem_free(c->p);
    mem_free(c->b);
    mem_free(c->a);
}

static enum mil_status change_init(struct change *c, const struct delta_term *t,
                                   struct mil_error *err) {
    const struct delta *d = t->delta;
    int64_t k = delta_saved_rank(d);
    *c = (struct change){.d = d, .weight = t->weight, .k = k};
    c->a = mem_alloc(MEM_SCRATCH, (size_t)(k * d->n), sizeof *c->a);
    c->b = mem_alloc(MEM_SCRATCH, (size_t)(BLOCK_ROWS * k), sizeof *c->b);
    c->p = mem_alloc(MEM_SCRATCH, (size_t)(BLOCK_ROWS * d->n), sizeof *c->p);
    float *a = mem_alloc(MEM_SCRATCH, (size_t)(k * d->n), sizeof *a);
    bool all = c->a && c->b && c->p && a;
    if (all) {
        delta_saved_a(d, a);
        widen(c->a, a, k * d->n);
    }
    mem_free(a);
    return all ? MIL_OK
               : error_nomem(err, (uint64_t)(k + BLOCK_ROWS) * sizeof *c->a * (uint64_t)d->n);
}

/* Rows of B' = [dB | B0], of AdaLoRA dB diag(e), the product not rounded. */
static void saved_b_rows(const struct delta *d, int64_t begin, int64_t rows, double *b) {
    int64_t r = d->r, k = delta_saved_rank(d);
    const float *first = d->form == DELTA_FIXED_B ? d->b0 : d->db;
    for (int64_t i = 0; i < rows; i++) {
        widen(b + i * k, first + (begin + i) * r, r);
        if (d->form == DELTA_PAIR) widen(b + i * k + r, d->b0 + (begin + i) * r, r);
        for (int64_t t = 0; d->form == DELTA_SCALED && t < r; t++) b[i * k + t] *= (double)d->e[t];
    }
}

/* p = W'_i - W_i of one row, p holding s B' A' before.  A row that was zero from the start has magnitude 0 and stays
 * (dora.c). */
static enum mil_status scale_row(const struct delta *d, int64_t i, const float *w, double *p,
                                 struct mil_error *err) {
    double sum = 0;
    for (int64_t j = 0; j < d->n; j++) {
        double v = (double)w[j] + p[j];
        sum += v * v;
    }
    if (sum == 0 && d->magnitude[i] == 0) return MIL_OK;
    if (!(sum > 0 && isfinite(sum))) {
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        return error_set(err, MIL_NUMERIC,
                         "%s: the norm of row %lld of W + s B A is %g: a magnitude has no "
                         "direction to scale",
                         name, (long long)i, sqrt(sum));
    }
    double f = (double)d->magnitude[i] / sqrt(sum);
    for (int64_t j = 0; j < d->n; j++) p[j] = f * ((double)w[j] + p[j]) - (double)w[j];
    return MIL_OK;
}

/* W' - W of rows [begin, begin + rows); w: those rows of W. */
static enum mil_status change_rows(struct change *c, int64_t begin, int64_t rows, const float *w,
                                   struct mil_error *err) {
    const struct delta *d = c->d;
    saved_b_rows(d, begin, rows, c->b);
    multiply(rows, d->n, c->k, delta_scale(d), c->b, c->a, c->p);
    for (int64_t i = 0; d->dora && i < rows; i++)
        TRY(scale_row(d, begin + i, w + i * d->n, c->p + i * d->n, err));
    return MIL_OK;
}

static enum mil_status add_block(struct change *c, size_t n, int64_t begin, int64_t rows, float *w,
                                 struct mil_error *err) {
    int64_t cols = c[0].d->n;
    for (size_t t = 0; t < n; t++) TRY(change_rows(&c[t], begin, rows, w, err));
    for (int64_t i = 0; i < rows * cols; i++) {
        double sum = (double)w[i];
        for (size_t t = 0; t < n; t++) sum += c[t].weight * c[t].p[i];
        w[i] = (float)sum;
    }
    return MIL_OK;
}

enum mil_status deltas_add_to(const struct delta_term *terms, size_t n, float *w,
                              struct mil_error *err) {
    if (n == 0) return MIL_OK;
    int64_t m = terms[0].delta->m, cols = terms[0].delta->n;
    enum mil_status st = MIL_OK;
    struct change *c = mem_calloc(MEM_SCRATCH, n, sizeof *c);
    if (!c) return error_nomem(err, n * sizeof *c);
    for (size_t t = 0; t < n && st == MIL_OK; t++) st = change_init(&c[t], &terms[t], err);
    for (int64_t begin = 0; begin < m && st == MIL_OK; begin += BLOCK_ROWS) {
        int64_t rows = m - begin < BLOCK_ROWS ? m - begin : BLOCK_ROWS;
        st = add_block(c, n, begin, rows, w + begin * cols, err);
    }
    for (size_t t = 0; t < n; t++) change_release(&c[t]);
    mem_free(c);
    return st;
}

enum mil_status delta_add_to(const struct delta *d, float *w, struct mil_error *err) {
    const struct delta_term one = {d, 1};
    return deltas_add_to(&one, 1, w, err);
}
