/* SPDX-License-Identifier: Apache-2.0 */
/* cross_entropy_tmpl.h - the loss of a row; equations in kern/ref/cross_entropy_tmpl.h.  Here
 * softmax is exp(z - max) / sum: the exponent is exact or rounded once, where z - lse would carry
 * the rounding of lse. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

static float row_top(const float *z, int64_t n) {
    vf tops = vf_set(-INFINITY);
    int64_t whole = n / VL * VL;
    for (int64_t c = 0; c < whole; c += VL) tops = vf_max(tops, vf_load(z + c));
    float top = vf_top(tops);
    for (int64_t c = whole; c < n; c++)
        if (z[c] > top) top = z[c];
    return top;
}

/* sum of exp(z - top): f32 within a block of vectors, double from block to block. */
static double row_exp_sum(const float *z, int64_t n, float top) {
    vf t = vf_set(top);
    double total = 0;
    for (int64_t block = 0; block < n; block += SUM_BLOCK * VL) {
        int64_t past = block + SUM_BLOCK * VL < n ? block + SUM_BLOCK * VL : n;
        vf sum = vf_set(0);
        for (int64_t c = block; c + VL <= past; c += VL) sum = sum + vf_exp(vf_load(z + c) - t);
        int64_t tail = (past - block) % VL;
        float lanes[VL];
        if (tail) vf_store(lanes, vf_exp(vf_load_n(z + past - tail, tail) - t));
        total += (double)vf_sum(sum);
        for (int64_t i = 0; i < tail; i++) total += (double)lanes[i];
    }
    return total;
}

static void cross_entropy(const struct kern_cross_entropy *a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const float *z = (const float *)a->logits + t * a->ld_logits;
        int32_t label = a->label[t];
        float top = row_top(z, a->cols);
        double sum = row_exp_sum(z, a->cols, top), gap = (double)top - (double)z[label];
        ((float *)a->loss)[t * a->ld_loss] = (float)(log(sum) + gap);
        if (!a->dlogits) continue;
        act *d = (act *)a->dlogits + t * a->ld_dlogits;
        vf tops = vf_set(top), weight = vf_set((float)(a->scale / sum));
        for (int64_t c = 0; c < a->cols; c += VL) {
            int64_t n = lanes_left(c, a->cols);
            act_store_n(d + c, weight * vf_exp(real_load_n(z + c, n) - tops), n);
        }
        /* The label's own entry, p - 1, from the exact exponent and without a rounded p between. */
        float lanes[VL] = {(float)(a->scale * (exp(-gap) / sum - 1.0))};
        act_store_n(d + label, vf_load(lanes), 1);
    }
}
