/* SPDX-License-Identifier: Apache-2.0 */
/* reduce_tmpl.h - sums: over the rows of a matrix, of one or of the product of two, and of squares. In double, in index order. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void bias_grad(const struct kern_bias_grad *a, int64_t begin, int64_t end) {
    real *db = a->db;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        for (int64_t t = 0; t < a->rows; t++)
            sum += (double)load_any(a->dy_type, a->dy, t * a->ld_dy + c);
        db[c] = (real)((double)db[c] + sum);
    }
}

static void col_dots(const struct kern_col_dots *a, int64_t begin, int64_t end) {
    real *out = a->out;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        for (int64_t t = 0; t < a->rows; t++)
            sum += (double)load_any(a->a_type, a->a, t * a->ld_a + c) *
                   (double)load_any(a->b_type, a->b, t * a->ld_b + c);
        out[c] = (real)((double)out[c] + a->scale * sum);
    }
}

static void sum_squares(const struct kern_sum_squares *a, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; i++) {
        double x = load_double(a->x_type, a->x, i);
        sum += x * x;
    }
    *a->sum = sum;
}
