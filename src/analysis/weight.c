/* SPDX-License-Identifier: Apache-2.0 */
/* weight.c - see weight.h.  Weights are read from the mapped file; only block types, permuted rows
 * and misaligned tensors are copied. */
#include "analysis/weight.h"

#include <math.h>

#include "core/mem.h"

enum mil_status weight_matrix(const struct weight_view *v, struct svd_matrix *w, float **copy,
                              struct mil_error *err) {
    size_t n = (size_t)v->rows * (size_t)v->cols;
    *copy = NULL;
    *w = (struct svd_matrix){v->data, v->dtype, v->rows, v->cols};
    if (dtype_block_elems(v->dtype) == 1 && weight_usable_as(v, v->dtype)) return MIL_OK;
    *copy = mem_alloc(MEM_SCRATCH, n, sizeof **copy);
    if (!*copy) return error_nomem(err, n * sizeof **copy);
    weight_to_f32(v, *copy);
    *w = (struct svd_matrix){*copy, DT_F32, v->rows, v->cols};
    return MIL_OK;
}

static double value_at(const struct svd_matrix *w, size_t i) {
    switch (w->dtype) {
    case DT_BF16: return (double)bf16_to_f32(((const bf16 *)w->data)[i]);
    case DT_F16: return (double)f16_to_f32(((const f16 *)w->data)[i]);
    case DT_F64: return ((const double *)w->data)[i];
    default: return (double)((const float *)w->data)[i];
    }
}

/* Row by row: one chain of 10^8 additions would lose digits. */
double weight_frobenius(const struct svd_matrix *w) {
    double total = 0;
    for (int64_t i = 0; i < w->m; i++) {
        double sum = 0;
        for (int64_t j = 0; j < w->n; j++) {
            double x = value_at(w, (size_t)(i * w->n + j));
            sum += x * x;
        }
        total += sum;
    }
    return sqrt(total);
}
