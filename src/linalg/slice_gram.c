/* SPDX-License-Identifier: Apache-2.0 */
/* slice_gram.c - the Gram matrix in f32, for the preconditioner and the counts.
 *
 * Its error is some 1e-6 of the mean eigenvalue, a thousandth of the spacing of eigenvalues in the
 * middle of the spectrum of a 4096 x 4096 weight.  It is measured where it matters
 * (slice_proof.c). */
#include <cblas.h>

#include "core/mem.h"
#include "core/threads.h"
#include "linalg/slice.h"

enum { PANEL = 1 << 21, GRAIN = 1 << 15 };

struct scaling {
    float *panel, s;
};

static void scale_panel(void *ctx, int64_t begin, int64_t end) {
    const struct scaling *c = ctx;
    for (int64_t i = begin; i < end; i++) c->panel[i] *= c->s;
}

/* Columns [begin, begin + cols) of W, row-major. */
struct gather {
    const struct svd_matrix *w;
    int64_t begin, cols;
    float *out;
};

static void gather_rows(void *ctx, int64_t begin, int64_t end) {
    const struct gather *g = ctx;
    size_t size = dtype_size(g->w->dtype);
    for (int64_t i = begin; i < end; i++) {
        const char *at = (const char *)g->w->data + (size_t)(i * g->w->n + g->begin) * size;
        matrix_rows_f32(&(struct svd_matrix){at, g->w->dtype, 1, g->cols}, 0, 1,
                        g->out + i * g->cols);
    }
}

enum mil_status slice_gram(const struct svd_matrix *w, double s, float *g, struct mil_error *err) {
    bool wide = w->m < w->n;
    int64_t k = short_side(w), l = long_side(w), step = PANEL / k < 16 ? 16 : PANEL / k;
    if (step > l) step = l;
    float *panel = mem_alloc(MEM_SCRATCH, (size_t)(k * step), sizeof *panel);
    if (!panel) return error_nomem(err, (uint64_t)(k * step) * sizeof *panel);
    for (int64_t i = 0; i < l; i += step) {
        int64_t n = l - i < step ? l - i : step;
        struct gather columns = {w, i, n, panel};
        struct scaling c = {panel, (float)s};
        if (wide)
            parallel_for(k, 16, gather_rows, &columns);
        else
            matrix_rows_f32(w, i, i + n, panel);
        parallel_for(k * n, GRAIN, scale_panel, &c);
        cblas_ssyrk(CblasColMajor, CblasLower, wide ? CblasTrans : CblasNoTrans, (int)k, (int)n,
                    1.0f, panel, wide ? (int)n : (int)k, i == 0 ? 0.0f : 1.0f, g, (int)k);
    }
    mem_free(panel);
    return MIL_OK;
}
