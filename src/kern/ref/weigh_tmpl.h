/* SPDX-License-Identifier: Apache-2.0 */
/* weigh_tmpl.h - a stored matrix, or its transpose, times a block of vectors in f64; see struct
 * kern_weigh. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* Exact whatever `real` is. */
static double weigh_load(const struct kern_weigh *a, int64_t i) {
    if (a->type == DT_F64) return ((const double *)a->w)[i];
    return (double)load_any(a->type, a->w, i);
}

static void weigh(const struct kern_weigh *a, int64_t begin, int64_t end) {
    int64_t last = end * KERN_WEIGH_GROUP < a->rows ? end * KERN_WEIGH_GROUP : a->rows;
    for (int64_t i = begin * KERN_WEIGH_GROUP; i < last; i++)
        for (int64_t c = 0; c < a->width; c++) {
            double sum = 0;
            for (int64_t j = 0; j < a->cols; j++)
                sum += weigh_load(a, i * a->ld + j) * a->in[j * a->width + c];
            a->out[i * a->width + c] = sum;
        }
}

static void weigh_t(const struct kern_weigh *a, int64_t begin, int64_t end) {
    int64_t last = end * KERN_WEIGH_GROUP < a->cols ? end * KERN_WEIGH_GROUP : a->cols;
    for (int64_t j = begin * KERN_WEIGH_GROUP; j < last; j++)
        for (int64_t c = 0; c < a->width; c++) {
            double sum = 0;
            for (int64_t i = 0; i < a->rows; i++)
                sum += weigh_load(a, i * a->ld + j) * a->in[i * a->width + c];
            a->out[j * a->width + c] = sum;
        }
}
