/* SPDX-License-Identifier: Apache-2.0 */
/* low_rank.c - sums W + s L R of a weight and a low-rank product, accurate to one rounding.
 *
 * The product is taken in f64 (its operands are exact there) in blocks of rows, so that the f64
 * copy of a large weight is never held; the sum is rounded to f32 once. */
#include <cblas.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"

enum { BLOCK_ROWS = 128 };

static void widen(double *dst, const float *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = (double)src[i];
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
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)n, (int)k, scale, l,
                    (int)k, r, (int)n, 0.0, p, (int)n);
        for (int64_t i = 0; i < rows * n; i++) to[i] = (float)((double)to[i] + p[i]);
    }
fail:
    mem_free(p);
    mem_free(l);
    mem_free(r);
    return st;
}

enum mil_status delta_add_to(const struct delta *d, float *w, struct mil_error *err) {
    int64_t k = delta_saved_rank(d);
    float *a = mem_alloc(MEM_SCRATCH, (size_t)(k * d->n), sizeof *a);
    float *b = mem_alloc(MEM_SCRATCH, (size_t)(d->m * k), sizeof *b);
    enum mil_status st;
    if (!a || !b) {
        st = error_nomem(err, (uint64_t)(k * (d->m + d->n)) * sizeof *a);
    } else {
        delta_saved_a(d, a);
        delta_saved_b(d, b);
        st = low_rank_add(w, d->m, d->n, k, delta_scale(d), b, a, err);
    }
    mem_free(b);
    mem_free(a);
    return st;
}
