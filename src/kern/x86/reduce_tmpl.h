/* SPDX-License-Identifier: Apache-2.0 */
/* reduce_tmpl.h - sums over rows, and of squares; equations in kern/ref/reduce_tmpl.h. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* Columns [c, c + n), n <= SUM_COLUMNS: side by side, so that a row's piece is read whole. */
static inline void bias_grad_columns(const struct kern_bias_grad *a, int64_t c, int64_t n) {
    double total[SUM_COLUMNS] = {0};
    for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
        int64_t past = block + SUM_BLOCK < a->rows ? block + SUM_BLOCK : a->rows;
        vf sum[SUM_VECTORS] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
        for (int64_t t = block; t < past; t++)
            for (int64_t k = 0, left = n; k < SUM_VECTORS && left > 0; k++, left -= VL) {
                int64_t m = left < VL ? left : VL;
                sum[k] = sum[k] + vf_load_any(a->dy_type, a->dy, t * a->ld_dy + c + k * VL, m);
            }
        for (int k = 0; k < SUM_VECTORS; k++) lanes_add(total + k * VL, sum[k]);
    }
    for (int64_t i = 0; i < n; i++)
        ((float *)a->db)[c + i] = (float)((double)((float *)a->db)[c + i] + total[i]);
}

static void bias_grad(const struct kern_bias_grad *a, int64_t begin, int64_t end) {
    int64_t c = begin;
    for (; c + SUM_COLUMNS <= end; c += SUM_COLUMNS) bias_grad_columns(a, c, SUM_COLUMNS);
    if (c < end) bias_grad_columns(a, c, end - c);
}

/* As bias_grad_columns, of the products of two matrices. */
static inline void col_dots_columns(const struct kern_col_dots *a, int64_t c, int64_t n) {
    double total[SUM_COLUMNS] = {0};
    for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
        int64_t past = block + SUM_BLOCK < a->rows ? block + SUM_BLOCK : a->rows;
        vf sum[SUM_VECTORS] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
        for (int64_t t = block; t < past; t++)
            for (int64_t k = 0, left = n; k < SUM_VECTORS && left > 0; k++, left -= VL) {
                int64_t m = left < VL ? left : VL, at = c + k * VL;
                sum[k] = vf_fma(vf_load_any(a->a_type, a->a, t * a->ld_a + at, m),
                                vf_load_any(a->b_type, a->b, t * a->ld_b + at, m), sum[k]);
            }
        for (int k = 0; k < SUM_VECTORS; k++) lanes_add(total + k * VL, sum[k]);
    }
    for (int64_t i = 0; i < n; i++)
        ((float *)a->out)[c + i] = (float)((double)((float *)a->out)[c + i] + a->scale * total[i]);
}

static void col_dots(const struct kern_col_dots *a, int64_t begin, int64_t end) {
    int64_t c = begin;
    for (; c + SUM_COLUMNS <= end; c += SUM_COLUMNS) col_dots_columns(a, c, SUM_COLUMNS);
    if (c < end) col_dots_columns(a, c, end - c);
}

/* Squares in double, exact for the types of 32 bits and fewer, summed in SQUARE_SUMS vectors. */
enum { SQUARE_SUMS = 4, SQUARE_STEP = SQUARE_SUMS * VD };

static inline void add_squares(enum dtype type, const void *x, int64_t i, vd sum[SQUARE_SUMS]) {
    double wide[SQUARE_STEP];
    for (int64_t k = 0; k < SQUARE_STEP && type != DT_F64; k += VL)
        vf_store_f64(wide + k, vf_load_any(type, x, i + k, VL));
    const double *from = type == DT_F64 ? (const double *)x + i : wide;
    for (int k = 0; k < SQUARE_SUMS; k++) {
        vd v = vd_load(from + k * VD);
        sum[k] = vd_fma(v, v, sum[k]);
    }
}
static inline int64_t sum_whole(enum dtype type, const void *x, int64_t i, int64_t end,
                                vd sum[SQUARE_SUMS]) {
    for (; i + SQUARE_STEP <= end; i += SQUARE_STEP) add_squares(type, x, i, sum);
    return i;
}

static void sum_squares(const struct kern_sum_squares *a, int64_t begin, int64_t end) {
    vd sum[SQUARE_SUMS] = {vd_set(0), vd_set(0), vd_set(0), vd_set(0)};
    double lanes[VD], total = 0;
    int64_t i = begin;
    if (a->x_type == DT_F32)
        i = sum_whole(DT_F32, a->x, i, end, sum);
    else
        i = sum_whole(a->x_type, a->x, i, end, sum);
    vd_store(lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int l = 0; l < VD; l++) total += lanes[l];
    if (i < end) { /* less than a step */
        double rest[SQUARE_STEP];
        const char *from = (const char *)a->x + (size_t)i * dtype_size(a->x_type);
        struct kern_map widen = {rest, from, DT_F64, a->x_type, 1.0, false};
        kern_ref_map_f32(&widen, 0, end - i);
        for (int64_t k = 0; k < end - i; k++) total += rest[k] * rest[k];
    }
    *a->sum = total;
}
