/* SPDX-License-Identifier: Apache-2.0 */
/* rope_tmpl.h - rotary embedding; equations in kern/ref/rope_tmpl.h. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

static inline void rope_lanes(act *row, const struct kern_rope *a, vf c, vf s, int64_t n) {
    int64_t half = a->head_dim / 2;
    for (int64_t h = 0; h < a->heads; h++) {
        act *x = row + h * a->head_dim;
        vf u = act_load_n(x, n), v = act_load_n(x + half, n);
        act_store_n(x, u * c - v * s, n);
        act_store_n(x + half, v * c + u * s, n);
    }
}

static void rope(const struct kern_rope *a, int64_t begin, int64_t end) {
    int64_t half = a->head_dim / 2;
    vf sign = vf_set(a->inverse ? -1.0f : 1.0f);
    for (int64_t t = begin; t < end; t++) {
        const float *cosine = (const float *)a->table + (int64_t)a->position[t] * a->ld_table;
        act *row = (act *)a->x + t * a->ldx;
        for (int64_t i = 0; i < half; i += VL) {
            int64_t n = lanes_left(i, half);
            vf c = real_load_n(cosine + i, n), s = sign * real_load_n(cosine + half + i, n);
            if (n == VL)
                rope_lanes(row + i, a, c, s, VL);
            else
                rope_lanes(row + i, a, c, s, n);
        }
    }
}
