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

static void rmsnorm_fwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    const float *w = a->w;
    for (int64_t t = begin; t < end; t++) {
        const float *x = (const float *)a->x + t * a->ldx;
        act *y = (act *)a->y + t * a->ldy;
        double mean = (double)rmsnorm_square_sum(x, a->cols) / (double)a->cols;
        float rstd = (float)(1.0 / sqrt(mean + a->eps));
        vf r = vf_set(rstd);
        for (int64_t c = 0; c < a->cols; c += VL) {
            int64_t n = lanes_left(c, a->cols);
            act_store_n(y + c, real_load_n(x + c, n) * r * real_load_n(w + c, n), n);
        }
        ((float *)a->rstd)[t * a->ld_rstd] = rstd;
    }
}

static void rmsnorm_bwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    const float *w = a->w;
    for (int64_t t = begin; t < end; t++) {
        const float *x = (const float *)a->x + t * a->ldx;
        float *dx = (float *)a->dx + t * a->ld_dx;
        float rstd = ((const float *)a->rstd)[t * a->ld_rstd];
        vf dot[2] = {vf_set(0), vf_set(0)};
        for (int64_t c = 0, k = 0; c < a->cols; c += VL, k ^= 1) {
            int64_t n = lanes_left(c, a->cols);
            vf g = real_load_n(w + c, n) * vf_load_any(a->dy_type, a->dy, t * a->ld_dy + c, n);
            dot[k] = vf_fma(g, real_load_n(x + c, n), dot[k]);
        }
        double scale = (double)rstd * (double)rstd / (double)a->cols;
        vf mean = vf_set((float)((double)vf_sum(dot[0] + dot[1]) * scale)), r = vf_set(rstd);
        for (int64_t c = 0; c < a->cols; c += VL) {
            int64_t n = lanes_left(c, a->cols);
            vf g = real_load_n(w + c, n) * vf_load_any(a->dy_type, a->dy, t * a->ld_dy + c, n);
            vf v = r * (g - real_load_n(x + c, n) * mean);
            real_store_n(dx + c, real_load_n(dx + c, n) + v, n);
        }
    }
}

/* Rows are added in f32 within a block, blocks in double. */
static void rmsnorm_bwd_w(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += VL) {
        int64_t n = lanes_left(c, end);
        double total[VL] = {0};
        for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
            int64_t past = block + SUM_BLOCK < a->rows ? block + SUM_BLOCK : a->rows;
            vf sum = vf_set(0);
            for (int64_t t = block; t < past; t++) {
                vf dy = vf_load_any(a->dy_type, a->dy, t * a->ld_dy + c, n);
                vf x = real_load_n((const float *)a->x + t * a->ldx + c, n);
                sum = vf_fma(dy * vf_set(((const float *)a->rstd)[t * a->ld_rstd]), x, sum);
            }
            lanes_add(total, sum);
        }
        for (int64_t i = 0; i < n; i++)
            ((float *)a->dw)[c + i] = (float)((double)((float *)a->dw)[c + i] + total[i]);
    }
}
