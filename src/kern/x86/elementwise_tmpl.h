/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise_tmpl.h - map, swiglu, adamw; equations in kern/ref.  A tail shorter than a vector
 * goes through the same vector operations, so an element's bits do not depend on its place. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* Widening to f64, exact: how the decomposition of weights reads them. */
static void map_widen(const struct kern_map *a, int64_t begin, int64_t end) {
    double *y = a->y;
    int64_t i = begin;
    if (a->x_type == DT_BF16)
        for (; i + VL <= end; i += VL) vf_store_f64(y + i, vf_from_bf16((const bf16 *)a->x + i));
    if (a->x_type == DT_F32)
        for (; i + VL <= end; i += VL) vf_store_f64(y + i, vf_load((const float *)a->x + i));
    if (a->x_type == DT_F16)
        for (; i + VL <= end; i += VL) vf_store_f64(y + i, vf_load_any(DT_F16, a->x, i, VL));
    if (i < end) kern_ref_map_f32(a, i, end);
}

static void map(const struct kern_map *a, int64_t begin, int64_t end) {
    bool plain = !a->accumulate && a->scale == 1.0;
    if (plain && a->y_type == DT_F64 && a->x_type != DT_F64) {
        map_widen(a, begin, end);
        return;
    }
    if (a->x_type == DT_F64 || a->y_type == DT_F64 || (plain && a->x_type == a->y_type)) {
        kern_ref_map_f32(a, begin, end);
        return;
    }
    vf scale = vf_set((float)a->scale);
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        vf v = vf_load_any(a->x_type, a->x, i, n);
        if (!plain) v = scale * v;
        if (a->accumulate) v = vf_load_any(a->y_type, a->y, i, n) + v;
        vf_store_any(a->y_type, a->y, i, n, v);
    }
}

static inline vf sigmoid(vf x) {
    return vf_set(1.0f) / (vf_set(1.0f) + vf_exp(vf_set(0.0f) - x));
}

static void swiglu_fwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        vf g = act_load_n((const act *)a->g + i, n), u = act_load_n((const act *)a->u + i, n);
        act_store_n((act *)a->h + i, g * sigmoid(g) * u, n);
    }
}

static void swiglu_bwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    vf one = vf_set(1.0f);
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        vf g = act_load_n((const act *)a->g + i, n), u = act_load_n((const act *)a->u + i, n);
        vf dh = act_load_n((const act *)a->dh + i, n), s = sigmoid(g);
        act_store_n((act *)a->dg + i, dh * u * s * (one + g * (one - s)), n);
        act_store_n((act *)a->du + i, dh * g * s, n);
    }
}

static void adamw(const struct kern_adamw *a, int64_t begin, int64_t end) {
    float *p = a->p, *m = a->m, *v = a->v;
    const float *grad = a->g, *base = a->base;
    vf beta1 = vf_set((float)a->beta1), beta2 = vf_set((float)a->beta2);
    vf rest1 = vf_set((float)(1.0 - a->beta1)), rest2 = vf_set((float)(1.0 - a->beta2));
    vf scale = vf_set((float)a->grad_scale), lr = vf_set((float)a->lr), eps = vf_set((float)a->eps);
    vf bias1 = vf_set((float)a->bias1), bias2 = vf_set((float)a->bias2);
    vf decay = vf_set((float)a->weight_decay);
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        vf g = scale * real_load_n(grad + i, n), x = real_load_n(p + i, n);
        vf mean = beta1 * real_load_n(m + i, n) + rest1 * g;
        vf square = beta2 * real_load_n(v + i, n) + rest2 * g * g;
        vf whole = x;
        if (base) whole = whole + real_load_n(base + i, n);
        vf step = mean / bias1 / (vf_sqrt(square / bias2) + eps);
        real_store_n(m + i, mean, n);
        real_store_n(v + i, square, n);
        real_store_n(p + i, x - lr * (step + decay * whole), n);
    }
}
