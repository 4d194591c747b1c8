/* SPDX-License-Identifier: Apache-2.0 */
/* gram_f32.c - the scaled Gram matrix c H^T H in f32, as fast as the machine can.
 *
 * bf16 weights go into oneDNN's products where they lie, in the file's mapping: products of two bf16
 * are exact in f32, so only the sums round.  The lower triangle is made of block rows of the
 * column-major matrix, BLOCK of its columns at a time, and of DEPTH terms of the sums a call.  Other
 * types, and machines without such products, use ssyrk on panels widened to f32. */
#include <cblas.h>
#include <math.h>

#include "backend/product.h"
#include "linalg/krylov.h"

enum { BLOCK = 256, DEPTH = 1024, PANEL = 1 << 21 };

/* Columns [j, j + nb) of the lower triangle: gram[j + jj][i] for i >= j, by rows of C^T. */
static enum mil_status block_column(struct product *p, const struct svd_matrix *w, double c,
                                    int64_t j, int64_t nb, float *gram, struct mil_error *err) {
    int64_t k = short_side(w), l = long_side(w);
    bool wide = w->m < w->n;
    bf16 *data = (bf16 *)(uintptr_t)w->data;
    struct tensor out = {gram + j * k + j, DT_F32, nb, k - j, k};
    for (int64_t i = 0; i < l; i += DEPTH) {
        int64_t depth = l - i < DEPTH ? l - i : DEPTH;
        double beta = i == 0 ? 0.0 : 1.0;
        if (wide) { /* W [k, l]: rows j.. times columns i.. */
            struct tensor a = {data + j * w->n + i, DT_BF16, nb, depth, w->n};
            struct tensor b = {data + j * w->n + i, DT_BF16, k - j, depth, w->n};
            TRY(product_run(p, MATMUL_TRANS_B, c, a, b, beta, out, err));
        } else { /* W [l, k] */
            struct tensor a = {data + i * w->n + j, DT_BF16, depth, nb, w->n};
            struct tensor b = {data + i * w->n + j, DT_BF16, depth, k - j, w->n};
            TRY(product_run(p, MATMUL_TRANS_A, c, a, b, beta, out, err));
        }
    }
    return MIL_OK;
}

static enum mil_status by_products(struct product *p, const struct svd_matrix *w, double c,
                                   float *gram, struct mil_error *err) {
    int64_t k = short_side(w);
    for (int64_t j = 0; j < k; j += BLOCK)
        TRY(block_column(p, w, c, j, k - j < BLOCK ? k - j : BLOCK, gram, err));
    return MIL_OK;
}

static void scale_panel(float *x, int64_t n, float by) {
    for (int64_t i = 0; i < n; i++) x[i] *= by;
}

/* W of any type and scale: f32 panels of rows.  Tall: W^T W sums over the panels; wide: W W^T needs
 * whole rows, so panel i meets every panel j <= i. */
static enum mil_status by_ssyrk(const struct svd_matrix *w, double c, float *gram,
                                struct mil_error *err) {
    int64_t k = short_side(w), step = PANEL / w->n < 16 ? 16 : PANEL / w->n;
    bool wide = w->m < w->n;
    float root = (float)sqrt(c);
    if (step > w->m) step = w->m;
    size_t size = (size_t)step * (size_t)w->n;
    float *a = mem_alloc(MEM_SCRATCH, size, sizeof *a), *b = NULL;
    if (wide) b = mem_alloc(MEM_SCRATCH, size, sizeof *b);
    bool enough = a && (b || !wide);
    int n = (int)w->n, ld = (int)k;
    for (int64_t i = 0; enough && i < w->m; i += step) {
        int64_t rows = w->m - i < step ? w->m - i : step;
        matrix_rows_f32(w, i, i + rows, a);
        scale_panel(a, rows * n, root);
        if (!wide) {
            cblas_ssyrk(CblasColMajor, CblasLower, CblasNoTrans, n, (int)rows, 1.0f, a, n,
                        i == 0 ? 0.0f : 1.0f, gram, ld);
            continue;
        }
        cblas_ssyrk(CblasColMajor, CblasLower, CblasTrans, (int)rows, n, 1.0f, a, n, 0.0f,
                    gram + i * k + i, ld);
        for (int64_t j = 0; j < i; j += step) {
            matrix_rows_f32(w, j, j + step, b);
            scale_panel(b, step * n, root);
            cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)rows, (int)step, n, 1.0f, a,
                        n, b, n, 0.0f, gram + j * k + i, ld);
        }
    }
    mem_free(b);
    mem_free(a);
    return enough ? MIL_OK : error_nomem(err, size * sizeof *a);
}

enum mil_status gram_f32(const struct svd_matrix *w, double c, float *gram, struct mil_error *err) {
    struct product p;
    bool usual = c > 0x1p-60 && c < 0x1p60; /* no product or sum leaves the range of f32 */
    if (w->dtype != DT_BF16 || !usual) return by_ssyrk(w, c, gram, err);
    TRY(product_init(&p, err));
    enum mil_status st = p.has_bf16 ? by_products(&p, w, c, gram, err) : by_ssyrk(w, c, gram, err);
    product_release(&p);
    return st;
}
