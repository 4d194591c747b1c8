/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm_tmpl.h - root mean square normalisation (Zhang and Sennrich 2019).
 *
 *   r = 1 / sqrt(mean(x^2) + eps),  y_c = x_c r w_c
 *   dL/dx_c = r (w_c dy_c - x_c r^2 mean_k(w_k dy_k x_k)),  dL/dw_c = sum_t dy_c x_c r
 *
 * The sums over a row run in double: a row may be long, and the reference should not be what limits
 * a comparison. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void rmsnorm_fwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    const real *w = a->w;
    for (int64_t t = begin; t < end; t++) {
        const real *x = (const real *)a->x + t * a->ldx;
        act *y = (act *)a->y + t * a->ldy;
        double sum = 0;
        for (int64_t c = 0; c < a->cols; c++) sum += (double)x[c] * (double)x[c];
        real rstd = (real)(1.0 / sqrt(sum / (double)a->cols + a->eps));
        for (int64_t c = 0; c < a->cols; c++) y[c] = act_store(x[c] * rstd * w[c]);
        ((real *)a->rstd)[t * a->ld_rstd] = rstd;
    }
}

static void rmsnorm_bwd(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    const real *w = a->w;
    for (int64_t t = begin; t < end; t++) {
        const real *x = (const real *)a->x + t * a->ldx;
        real *dx = (real *)a->dx + t * a->ld_dx;
        real rstd = ((const real *)a->rstd)[t * a->ld_rstd];
        double dot = 0;
        for (int64_t c = 0; c < a->cols; c++)
            dot +=
                (double)w[c] * (double)load_any(a->dy_type, a->dy, t * a->ld_dy + c) * (double)x[c];
        real mean = (real)(dot / (double)a->cols * (double)rstd * (double)rstd);
        for (int64_t c = 0; c < a->cols; c++) {
            real dy = load_any(a->dy_type, a->dy, t * a->ld_dy + c);
            dx[c] += rstd * (w[c] * dy - x[c] * mean);
        }
    }
}

static void rmsnorm_bwd_w(const struct kern_rmsnorm *a, int64_t begin, int64_t end) {
    real *dw = a->dw;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        for (int64_t t = 0; t < a->rows; t++)
            sum += (double)load_any(a->dy_type, a->dy, t * a->ld_dy + c) *
                   (double)((const real *)a->x)[t * a->ldx + c] *
                   (double)((const real *)a->rstd)[t * a->ld_rstd];
        dw[c] = (real)((double)dw[c] + sum);
    }
}
