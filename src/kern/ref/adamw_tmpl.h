/* SPDX-License-Identifier: Apache-2.0 */
/* adamw_tmpl.h - Adam with decoupled weight decay (Loshchilov and Hutter 2019).
 *
 *   g' = grad_scale g,  m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2,
 *   p -= lr ( (m / bias1) / (sqrt(v / bias2) + eps) + weight_decay (p + base) ) */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void adamw(const struct kern_adamw *a, int64_t begin, int64_t end) {
    real *p = a->p, *m = a->m, *v = a->v;
    act *copy = a->copy;
    const real *grad = a->g, *base = a->base;
    real beta1 = (real)a->beta1, beta2 = (real)a->beta2, lr = (real)a->lr;
    real rest1 = (real)(1.0 - a->beta1), rest2 = (real)(1.0 - a->beta2);
    for (int64_t i = begin; i < end; i++) {
        real g = (real)a->grad_scale * grad[i];
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        real step = m[i] / (real)a->bias1 / (real_sqrt(v[i] / (real)a->bias2) + (real)a->eps);
        real whole = base ? p[i] + base[i] : p[i];
        p[i] -= lr * (step + (real)a->weight_decay * whole);
        if (copy) copy[i] = act_store(p[i]);
    }
}
