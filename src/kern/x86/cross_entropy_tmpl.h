/* SPDX-License-Identifier: Apache-2.0 */
/* cross_entropy_tmpl.h - the loss of a row; equations in kern/ref/cross_entropy_tmpl.h.  Here
 * softmax is exp(z - max) / sum: the exponent is exact or rounded once, where z - lse would carry
 * the rounding of lse. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* The greatest of n numbers (a NaN may be lost: the sum has it), -infinity where there are none. */
static inline float block_top(const float *z, int64_t n) {
    vf low = vf_set(-INFINITY), tops[2] = {low, low};
    int64_t c = 0;
    for (; c + 2 * VL <= n; c += 2 * VL)
        for (int k = 0; k < 2; k++) tops[k] = vf_max(tops[k], vf_load(z + c + k * VL));
    for (int k = 0; c < n; c += VL, k++) {
        int64_t m = lanes_left(c, n);
        tops[k] = vf_max(tops[k], vf_select((1u << m) - 1, real_load_n(z + c, m), low));
    }
    return vf_top(vf_max(tops[0], tops[1]));
}
/* sum of exp(z - top) over n <= SUM_BLOCK VL numbers. */
static inline float block_exp_sum(const float *z, int64_t n, float top) {
    vf t = vf_set(top), sum = vf_set(0);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) sum = sum + vf_exp(vf_load(z + c) - t);
    if (c < n) {
        uint32_t bits = (1u << (n - c)) - 1;
        sum = sum + vf_keep(bits, vf_exp(vf_load_n(z + c, n - c) - t));
    }
    return vf_sum(sum);
}

/* top, and the sum of exp(z - top), from one read: each block is added relative to the greatest number
 * so far; f32 within a block, double from block to block. */
static double row_exp_sum(const float *z, int64_t n, float *top) {
    double total = 0;
    *top = -INFINITY;
    for (int64_t c = 0; c < n; c += SUM_BLOCK * VL) {
        int64_t m = n - c < SUM_BLOCK * VL ? n - c : SUM_BLOCK * VL;
        float here = block_top(z + c, m);
        if (here > *top) {
            total *= exp((double)*top - (double)here);
            *top = here;
        }
        /* With nothing but -infinity so far there is nothing to be relative to. */
        total += (double)block_exp_sum(z + c, m, *top == -INFINITY ? 0 : *top);
    }
    return total;
}

/* d = weight exp(z - top). */
static void logit_gradient(act *d, const float *z, int64_t n, vf top, vf weight) {
    int64_t c = 0;
    for (; c + WIDE * VL <= n; c += WIDE * VL) {
        vf p[WIDE];
        for (int k = 0; k < WIDE; k++) p[k] = weight * vf_exp(vf_load(z + c + k * VL) - top);
        act_store_wide(d + c, p);
    }
    for (; c < n; c += VL) {
        int64_t m = lanes_left(c, n);
        act_store_n(d + c, weight * vf_exp(real_load_n(z + c, m) - top), m);
    }
}

static void cross_entropy(const struct kern_cross_entropy *a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const float *z = (const float *)a->logits + t * a->ld_logits;
        int32_t label = a->label[t];
        float top;
        double sum = row_exp_sum(z, a->cols, &top), gap = (double)top - (double)z[label];
        ((float *)a->loss)[t * a->ld_loss] = (float)(log(sum) + gap);
        if (!a->dlogits) continue;
        act *d = (act *)a->dlogits + t * a->ld_dlogits;
        logit_gradient(d, z, a->cols, vf_set(top), vf_set((float)(a->scale / sum)));
        /* The label's own entry, p - 1, from the exact exponent and without a rounded p between. */
        float lanes[VL] = {(float)(a->scale * (exp(-gap) / sum - 1.0))};
        act_store_n(d + label, vf_load(lanes), 1);
    }
}
