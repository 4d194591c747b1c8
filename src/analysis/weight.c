/* SPDX-License-Identifier: Apache-2.0 */
/* weight.c - ||W||_F^2 = sum of W_ij^2, in f64, from the values as they are stored.  The sum of the
 * squares of the singular values is held against it. */
#include "analysis/weight.h"

#include <math.h>

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
