/* SPDX-License-Identifier: Apache-2.0 */
/* importance_tmpl.h - how much the loss would change without a parameter, smoothed (AdaLoRA, Zhang et al. 2023,
 * equations 8 to 10).
 *
 *   i = |(base + p) grad_scale g|,  mean = beta1 mean + (1 - beta1) i,
 *   spread = beta2 spread + (1 - beta2) |i - mean|,  with the mean just renewed */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void importance(const struct kern_importance *a, int64_t begin, int64_t end) {
    real *mean = a->mean, *spread = a->spread;
    const real *p = a->p, *base = a->base, *grad = a->g;
    real beta1 = (real)a->beta1, beta2 = (real)a->beta2;
    real rest1 = (real)(1.0 - a->beta1), rest2 = (real)(1.0 - a->beta2);
    for (int64_t i = begin; i < end; i++) {
        real whole = base ? p[i] + base[i] : p[i];
        real now = whole * ((real)a->grad_scale * grad[i]);
        if (now < 0) now = -now;
        mean[i] = beta1 * mean[i] + rest1 * now;
        real off = now - mean[i];
        spread[i] = beta2 * spread[i] + rest2 * (off < 0 ? -off : off);
    }
}
