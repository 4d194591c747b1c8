/* SPDX-License-Identifier: Apache-2.0 */
/* factor_tmpl.h - DoRA's factor, backwards and its making; equations in kern/ref/factor_tmpl.h. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* Columns of a strip: its totals stay in the first-level cache while a block of rows passes, whose memory is then
 * read nearly in order. */
enum { FACTOR_STRIP = 512 };

/* What the compiler makes apart: the types of y and d, which terms there are. */
struct factor_kind {
    enum dtype y_type, d_type;
    bool sums, d, e;
};

static inline vf factor_inner(const struct kern_factor_bwd *a, struct factor_kind kind, int64_t t,
                              int64_t c, int64_t n) {
    vf y = vf_load_any(kind.y_type, a->y, t * a->ld_y + c, n);
    if (kind.d) y = y - vf_load_any(kind.d_type, a->d, t * a->ld_d + c, n);
    if (kind.e) y = y - vf_load_any(a->e_type, a->e, c, n);
    return y;
}

/* Columns [c, c + n), n <= SUM_COLUMNS, of rows [begin, end): total += their sums. */
static inline void factor_block(const struct kern_factor_bwd *a, struct factor_kind kind,
                                int64_t begin, int64_t end, int64_t c, int64_t n, double *total) {
    vf f[SUM_VECTORS], sum[SUM_VECTORS];
    for (int64_t k = 0, left = n; k < SUM_VECTORS; k++, left -= VL) {
        sum[k] = vf_set(0);
        f[k] = left > 0 ? real_load_n((const float *)a->f + c + k * VL, left < VL ? left : VL)
                        : sum[k];
    }
    for (int64_t t = begin; t < end; t++)
        for (int64_t k = 0, left = n; k < SUM_VECTORS && left > 0; k++, left -= VL) {
            int64_t m = left < VL ? left : VL, at = c + k * VL;
            act *g = (act *)a->g + t * a->ld_g + at;
            vf v = act_load_n(g, m);
            if (kind.sums) sum[k] = vf_fma(v, factor_inner(a, kind, t, at, m), sum[k]);
            act_store_n(g, v * f[k], m);
        }
    for (int k = 0; kind.sums && k < SUM_VECTORS; k++) lanes_add(total + k * VL, sum[k]);
}

static inline void factor_strip(const struct kern_factor_bwd *a, struct factor_kind kind, int64_t c,
                                int64_t n) {
    double total[FACTOR_STRIP] = {0};
    for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
        int64_t past = least(block + SUM_BLOCK, a->rows), j = 0;
        for (; j + SUM_COLUMNS <= n; j += SUM_COLUMNS)
            factor_block(a, kind, block, past, c + j, SUM_COLUMNS, total + j);
        if (j < n) factor_block(a, kind, block, past, c + j, n - j, total + j);
    }
    for (int64_t i = c; kind.sums && i < c + n; i++) {
        float *out = (float *)a->out + i;
        *out = (float)((double)*out + (double)((const float *)a->w)[i] * total[i - c]);
    }
}

static void factor_bwd(const struct kern_factor_bwd *a, int64_t begin, int64_t end) {
    const struct factor_kind any = {a->y_type, a->d_type, a->out, a->d, a->e},
                             plain = {ACT_TYPE, ACT_TYPE, true, false, false},
                             residual = {DT_F32, DT_F32, true, true, false},
                             none = {ACT_TYPE, ACT_TYPE, false, false, false};
    for (int64_t c = begin; c < end; c += FACTOR_STRIP) {
        int64_t n = least(FACTOR_STRIP, end - c);
        if (!a->out)
            factor_strip(a, none, c, n);
        else if (a->y_type == ACT_TYPE && !a->d && !a->e)
            factor_strip(a, plain, c, n);
        else if (a->y_type == DT_F32 && a->d && a->d_type == DT_F32 && !a->e)
            factor_strip(a, residual, c, n);
        else
            factor_strip(a, any, c, n);
    }
}

/* Columns [j, j + n), n <= VL: rows j.. of b turned in small squares. */
static inline void norm_factor_lanes(const struct kern_norm_factor *a, int64_t j, int64_t n) {
    float square[VL][VL] = {{0}}, lanes[VL], magnitude[VL] = {0}, squares[VL] = {0};
    vf sum = vf_set(0);
    for (int64_t i0 = 0; i0 < a->k; i0 += VL) {
        int64_t depth = lanes_left(i0, a->k);
        for (int64_t l = 0; l < n; l++)
            vf_store(square[l], act_load_n((const act *)a->b + (j + l) * a->ld_b + i0, depth));
        for (int64_t i = 0; i < depth; i++) {
            for (int64_t l = 0; l < VL; l++) lanes[l] = square[l][i];
            vf v = real_load_n((const float *)a->v + (i0 + i) * a->ld_v + j, n);
            sum = vf_fma(v, vf_load(lanes), sum);
        }
    }
    memcpy(magnitude, (const float *)a->magnitude + j, (size_t)n * sizeof *magnitude);
    memcpy(squares, (const float *)a->squares + j, (size_t)n * sizeof *squares);
    vf_store(lanes, vf_fma(vf_set(2), sum, vf_load(squares)));
    for (int64_t l = 0; l < n; l++) {
        float floor = squares[l] * 0x1p-22f, whole = lanes[l] < floor ? floor : lanes[l];
        ((float *)a->f)[j + l] = whole == 0 ? 1 : magnitude[l] / sqrtf(whole);
        ((float *)a->w)[j + l] = magnitude[l] == 0 ? 0 : 1 / magnitude[l];
    }
}

static void norm_factor(const struct kern_norm_factor *a, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j += VL) norm_factor_lanes(a, j, lanes_left(j, end));
}
