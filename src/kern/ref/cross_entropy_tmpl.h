/* SPDX-License-Identifier: Apache-2.0 */
/* cross_entropy_tmpl.h - negative log-likelihood of a label under softmax(logits), and its
 * gradient.
 *
 *   m = max_c z_c,  lse = m + log sum_c exp(z_c - m),  loss = lse - z_label,
 *   dz_c = scale (exp(z_c - lse) - [c == label])
 *
 * lse is kept in double: loss is a difference of near values when the label is likely.  A row with
 * a NaN or +infinity gives NaN; a label of probability zero gives +infinity. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static double log_sum_exp(const real *z, int64_t n) {
    real top = z[0];
    for (int64_t c = 1; c < n; c++)
        if (z[c] > top) top = z[c];
    double sum = 0;
    for (int64_t c = 0; c < n; c++) sum += (double)real_exp(z[c] - top);
    return (double)top + log(sum);
}

static void cross_entropy(const struct kern_cross_entropy *a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const real *z = (const real *)a->logits + t * a->ld_logits;
        double lse = log_sum_exp(z, a->cols);
        int32_t label = a->label[t];
        ((real *)a->loss)[t * a->ld_loss] = (real)(lse - (double)z[label]);
        if (!a->dlogits) continue;
        act *d = (act *)a->dlogits + t * a->ld_dlogits;
        for (int64_t c = 0; c < a->cols; c++) {
            real p = real_exp((real)((double)z[c] - lse));
            d[c] = act_store((real)a->scale * (p - (c == label ? 1 : 0)));
        }
    }
}
