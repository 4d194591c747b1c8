/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise_tmpl.h - map, swiglu, adamw, importance, times; equations in kern/ref.  Each
 * operation is a function of up to VL elements, which the compiler makes twice: for whole vectors, and
 * for a tail, whose lanes go through the same operations, so that an element's bits do not depend on
 * its place. */
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

enum map_mode { MAP_CONVERT, MAP_SCALE, MAP_ADD };

static inline void map_lanes(const struct kern_map *a, enum map_mode mode, enum dtype to,
                             enum dtype from, int64_t i, int64_t n) {
    vf v = vf_load_any(from, a->x, i, n);
    if (mode == MAP_SCALE) v = vf_set((float)a->scale) * v;
    if (mode == MAP_ADD) v = vf_fma(vf_set((float)a->scale), v, vf_load_any(to, a->y, i, n));
    vf_store_any(to, a->y, i, n, v);
}
static inline void map_mode(const struct kern_map *a, enum map_mode mode, enum dtype to,
                            enum dtype from, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + VL <= end; i += VL) map_lanes(a, mode, to, from, i, VL);
    if (i < end) map_lanes(a, mode, to, from, i, end - i);
}
static inline void map_types(const struct kern_map *a, enum dtype to, enum dtype from,
                             int64_t begin, int64_t end) {
    if (a->accumulate)
        map_mode(a, MAP_ADD, to, from, begin, end);
    else if (a->scale != 1.0)
        map_mode(a, MAP_SCALE, to, from, begin, end);
    else
        map_mode(a, MAP_CONVERT, to, from, begin, end);
}

/* The pairs of types that a step is made of are compiled apart. */
static void map(const struct kern_map *a, int64_t begin, int64_t end) {
    bool plain = !a->accumulate && a->scale == 1.0;
    enum dtype to = a->y_type, from = a->x_type;
    if (plain && to == DT_F64 && from != DT_F64)
        map_widen(a, begin, end);
    else if (from == DT_F64 || to == DT_F64 || (plain && from == to))
        kern_ref_map_f32(a, begin, end);
    else if (to == DT_F32 && from == DT_F32)
        map_types(a, DT_F32, DT_F32, begin, end);
    else if (to == DT_F32 && from == DT_BF16)
        map_types(a, DT_F32, DT_BF16, begin, end);
    else if (to == DT_BF16 && from == DT_F32)
        map_types(a, DT_BF16, DT_F32, begin, end);
    else
        map_types(a, to, from, begin, end);
}

static inline vf swiglu_value(const struct kern_swiglu *a, int64_t i, int64_t n) {
    vf g = act_load_n((const act *)a->g + i, n), u = act_load_n((const act *)a->u + i, n);
    return g * u / (vf_set(1.0f) + vf_exp(vf_set(0.0f) - g));
}
static void swiglu_fwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    act *h = a->h;
    int64_t i = begin;
    for (; i + WIDE * VL <= end; i += WIDE * VL) {
        vf v[WIDE];
        for (int k = 0; k < WIDE; k++) v[k] = swiglu_value(a, i + k * VL, VL);
        act_store_wide(h + i, v);
    }
    for (; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        act_store_n(h + i, swiglu_value(a, i, n), n);
    }
}

static inline void swiglu_gradient(const struct kern_swiglu *a, int64_t i, int64_t n, vf *dg,
                                   vf *du) {
    vf g = act_load_n((const act *)a->g + i, n), u = act_load_n((const act *)a->u + i, n);
    vf one = vf_set(1.0f), s = one / (one + vf_exp(vf_set(0.0f) - g));
    vf ds = act_load_n((const act *)a->dh + i, n) * s;
    *dg = ds * u * vf_fma(g, one - s, one);
    *du = ds * g;
}
static void swiglu_bwd(const struct kern_swiglu *a, int64_t begin, int64_t end) {
    act *to_g = a->dg, *to_u = a->du;
    int64_t i = begin;
    for (; i + WIDE * VL <= end; i += WIDE * VL) {
        vf dg[WIDE], du[WIDE];
        for (int k = 0; k < WIDE; k++) swiglu_gradient(a, i + k * VL, VL, &dg[k], &du[k]);
        act_store_wide(to_g + i, dg);
        act_store_wide(to_u + i, du);
    }
    for (; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        vf dg, du;
        swiglu_gradient(a, i, n, &dg, &du);
        act_store_n(to_g + i, dg, n);
        act_store_n(to_u + i, du, n);
    }
}

/* The reference's  lr ((m / bias1) / (sqrt(v / bias2) + eps) + decay (p + base))  with one division:
 *   (lr / bias1) m / (sqrt(v) / sqrt(bias2) + eps) + lr decay (p + base). */
struct adamw_lanes {
    vf beta1, beta2, rest1, rest2, scale, rate, root, eps, decay;
};
static inline void adamw_lanes(const struct kern_adamw *a, const struct adamw_lanes *h, int64_t i,
                               int64_t n) {
    float *p = (float *)a->p + i, *m = (float *)a->m + i, *v = (float *)a->v + i;
    vf g = h->scale * real_load_n((const float *)a->g + i, n), x = real_load_n(p, n);
    vf mean = vf_fma(h->beta1, real_load_n(m, n), h->rest1 * g);
    vf square = vf_fma(h->beta2, real_load_n(v, n), h->rest2 * g * g), whole = x;
    if (a->base) whole = whole + real_load_n((const float *)a->base + i, n);
    vf step = h->rate * mean / vf_fma(vf_sqrt(square), h->root, h->eps);
    vf next = x - vf_fma(h->decay, whole, step);
    real_store_n(m, mean, n);
    real_store_n(v, square, n);
    real_store_n(p, next, n);
    if (a->copy) act_store_n((act *)a->copy + i, next, n);
}

static void adamw(const struct kern_adamw *a, int64_t begin, int64_t end) {
    const struct adamw_lanes h = {.beta1 = vf_set((float)a->beta1),
                                  .beta2 = vf_set((float)a->beta2),
                                  .rest1 = vf_set((float)(1.0 - a->beta1)),
                                  .rest2 = vf_set((float)(1.0 - a->beta2)),
                                  .scale = vf_set((float)a->grad_scale),
                                  .rate = vf_set((float)(a->lr / a->bias1)),
                                  .root = vf_set((float)(1.0 / sqrt(a->bias2))),
                                  .eps = vf_set((float)a->eps),
                                  .decay = vf_set((float)(a->lr * a->weight_decay))};
    int64_t i = begin;
    for (; i + VL <= end; i += VL) adamw_lanes(a, &h, i, VL);
    if (i < end) adamw_lanes(a, &h, i, end - i);
}

static inline vf absolute(vf x) {
    return vf_max(x, vf_set(0.0f) - x);
}
struct importance_lanes {
    vf beta1, beta2, rest1, rest2, scale;
};
static inline void importance_lanes(const struct kern_importance *a,
                                    const struct importance_lanes *h, int64_t i, int64_t n) {
    float *mean = (float *)a->mean + i, *spread = (float *)a->spread + i;
    vf whole = real_load_n((const float *)a->p + i, n);
    if (a->base) whole = whole + real_load_n((const float *)a->base + i, n);
    vf now = absolute(whole * (h->scale * real_load_n((const float *)a->g + i, n)));
    vf next = vf_fma(h->beta1, real_load_n(mean, n), h->rest1 * now);
    vf off = absolute(now - next);
    real_store_n(mean, next, n);
    real_store_n(spread, vf_fma(h->beta2, real_load_n(spread, n), h->rest2 * off), n);
}

static void importance(const struct kern_importance *a, int64_t begin, int64_t end) {
    const struct importance_lanes h = {.beta1 = vf_set((float)a->beta1),
                                       .beta2 = vf_set((float)a->beta2),
                                       .rest1 = vf_set((float)(1.0 - a->beta1)),
                                       .rest2 = vf_set((float)(1.0 - a->beta2)),
                                       .scale = vf_set((float)a->grad_scale)};
    int64_t i = begin;
    for (; i + VL <= end; i += VL) importance_lanes(a, &h, i, VL);
    if (i < end) importance_lanes(a, &h, i, end - i);
}

static inline void times_lanes(const struct kern_times *a, int64_t i, int64_t n) {
    vf v = vf_load_any(a->x_type, a->x, i, n) * vf_load_any(DT_F32, a->f, i, n);
    vf_store_any(a->y_type, a->y, i, n, v);
}
static void times(const struct kern_times *a, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + VL <= end; i += VL) times_lanes(a, i, VL);
    if (i < end) times_lanes(a, i, end - i);
}
