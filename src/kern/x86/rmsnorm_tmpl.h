/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm_tmpl.h - root mean square normalisation; equations in kern/ref/rmsnorm_tmpl.h.  Sums over
 * a row run in 4 VL lanes of f32: the error of each lane grows with C / (4 VL), not with C. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

static inline float rmsnorm_square_sum(const float *x, int64_t cols) {
    vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    int64_t c = 0;
    for (; c + 4 * VL <= cols; c += 4 * VL)
        for (int k = 0; k < 4; k++) {
            vf v = vf_load(x + c + k * VL);
            sum[k] = vf_fma(v, v, sum[k]);
        }
    for (int k = 0; c < cols; c += VL, k++) {
        vf v = real_load_n(x + c, lanes_left(c, cols));
        sum[k] = vf_fma(v, v, sum[k]);
    }
    return vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static inline void rmsnorm_scale(act *y, const float *x, const float *w, vf rstd, int64_t n) {
    act_store_n(y, real_load_n(x, n) * rstd * real_load_n(w, n), n);
}

static void rmsnorm_fwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    const float *w = a->w;
    for (int64_t t = begin; t < end; t++) {
        const float *x = (const float *)a->x + t * a->ldx;
        act *y = (act *)a->y + t * a->ldy;
        double mean = (double)rmsnorm_square_sum(x, a->cols) / (double)a->cols;
        float rstd = (float)(1.0 / sqrt(mean + a->eps));
        vf r = vf_set(rstd);
        int64_t c = 0;
        for (; c + VL <= a->cols; c += VL) rmsnorm_scale(y + c, x + c, w + c, r, VL);
        if (c < a->cols) rmsnorm_scale(y + c, x + c, w + c, r, a->cols - c);
        ((float *)a->rstd)[t * a->ld_rstd] = rstd;
    }
}

/* One row of the backward pass: where its operands begin. */
struct rmsnorm_row {
    const float *x, *w;
    const void *dy;
    float *dx;
    vf mean, rstd;
};
static inline vf rmsnorm_weighted(const struct rmsnorm_row *r, enum dtype type, int64_t c,
                                  int64_t n) {
    return real_load_n(r->w + c, n) * vf_load_any(type, r->dy, c, n);
}
static inline float rmsnorm_dot(const struct rmsnorm_row *r, enum dtype type, int64_t cols) {
    vf dot[2] = {vf_set(0), vf_set(0)};
    int64_t c = 0;
    for (; c + 2 * VL <= cols; c += 2 * VL)
        for (int k = 0; k < 2; k++) {
            vf x = vf_load(r->x + c + k * VL);
            dot[k] = vf_fma(rmsnorm_weighted(r, type, c + k * VL, VL), x, dot[k]);
        }
    for (int k = 0; c < cols; c += VL, k++) {
        int64_t n = lanes_left(c, cols);
        dot[k] = vf_fma(rmsnorm_weighted(r, type, c, n), real_load_n(r->x + c, n), dot[k]);
    }
    return vf_sum(dot[0] + dot[1]);
}
static inline void rmsnorm_dx(const struct rmsnorm_row *r, enum dtype type, int64_t c, int64_t n) {
    vf g = rmsnorm_weighted(r, type, c, n) - real_load_n(r->x + c, n) * r->mean;
    real_store_n(r->dx + c, vf_fma(r->rstd, g, real_load_n(r->dx + c, n)), n);
}
static inline void rmsnorm_bwd_rows(const struct kern_rmsnorm *a, enum dtype type, int64_t begin,
                                    int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        float rstd = ((const float *)a->rstd)[t * a->ld_rstd];
        struct rmsnorm_row r = {.x = (const float *)a->x + t * a->ldx,
                                .w = a->w,
                                .dy = (const char *)a->dy +
                                      t * a->ld_dy * (int64_t)(type == DT_F32 ? 4 : 2),
                                .dx = (float *)a->dx + t * a->ld_dx,
                                .rstd = vf_set(rstd)};
        double scale = (double)rstd * (double)rstd / (double)a->cols;
        r.mean = vf_set((float)((double)rmsnorm_dot(&r, type, a->cols) * scale));
        int64_t c = 0;
        for (; c + VL <= a->cols; c += VL) rmsnorm_dx(&r, type, c, VL);
        if (c < a->cols) rmsnorm_dx(&r, type, c, a->cols - c);
    }
}

static void rmsnorm_bwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    if (a->dy_type == DT_F32)
        rmsnorm_bwd_rows(a, DT_F32, begin, end);
    else
        rmsnorm_bwd_rows(a, ACT_TYPE, begin, end);
}

/* Columns [c, c + n), n <= SUM_COLUMNS: side by side, so that a row's piece is read whole.  Rows are
 * added in f32 within a block, blocks in double. */
static inline void rmsnorm_bwd_w_columns(const struct kern_rmsnorm *a, int64_t c, int64_t n) {
    double total[SUM_COLUMNS] = {0};
    for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
        int64_t past = block + SUM_BLOCK < a->rows ? block + SUM_BLOCK : a->rows;
        vf sum[SUM_VECTORS] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
        for (int64_t t = block; t < past; t++) {
            vf rstd = vf_set(((const float *)a->rstd)[t * a->ld_rstd]);
            for (int64_t k = 0, left = n; k < SUM_VECTORS && left > 0; k++, left -= VL) {
                int64_t m = left < VL ? left : VL, at = c + k * VL;
                vf dy = vf_load_any(a->dy_type, a->dy, t * a->ld_dy + at, m);
                vf x = real_load_n((const float *)a->x + t * a->ldx + at, m);
                sum[k] = vf_fma(dy * rstd, x, sum[k]);
            }
        }
        for (int k = 0; k < SUM_VECTORS; k++) lanes_add(total + k * VL, sum[k]);
    }
    for (int64_t i = 0; i < n; i++)
        ((float *)a->dw)[c + i] = (float)((double)((float *)a->dw)[c + i] + total[i]);
}

static void rmsnorm_bwd_w(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    int64_t c = begin;
    for (; c + SUM_COLUMNS <= end; c += SUM_COLUMNS) rmsnorm_bwd_w_columns(a, c, SUM_COLUMNS);
    if (c < end) rmsnorm_bwd_w_columns(a, c, end - c);
}
