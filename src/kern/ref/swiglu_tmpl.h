/* SPDX-License-Identifier: Apache-2.0 */
/* swiglu_tmpl.h - the gated unit of the LLaMA block (Shazeer 2020).
 *
 *   silu(g) = g sigmoid(g), h = silu(g) u, dL/du = dh silu(g),
 *   dL/dg = dh u sigmoid(g) (1 + g (1 - sigmoid(g))) */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static inline real sigmoid(real x) {
    return 1 / (1 + real_exp(-x));
}

static void swiglu_fwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        real g = act_load(((const act *)a->g)[i]), u = act_load(((const act *)a->u)[i]);
        ((act *)a->h)[i] = act_store(g * sigmoid(g) * u);
    }
}

static void swiglu_bwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        real g = act_load(((const act *)a->g)[i]), u = act_load(((const act *)a->u)[i]);
        real dh = act_load(((const act *)a->dh)[i]), s = sigmoid(g);
        ((act *)a->dg)[i] = act_store(dh * u * s * (1 + g * (1 - s)));
        ((act *)a->du)[i] = act_store(dh * g * s);
    }
}
