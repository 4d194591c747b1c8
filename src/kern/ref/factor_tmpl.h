/* SPDX-License-Identifier: Apache-2.0 */
/* factor_tmpl.h - the factor of an adapter with a magnitude (DoRA): the backward pass through it, and its making; see
 * struct kern_factor_bwd, kern_norm_factor.  Sums in double, in index order.
 *
 * A square of a norm that comes out below 2^-22 of W's own is cancellation, not a norm: it counts as that much. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static double factor_inner(const struct kern_factor_bwd *a, int64_t t, int64_t c) {
    double y = (double)load_any(a->y_type, a->y, t * a->ld_y + c);
    if (a->d) y -= (double)load_any(a->d_type, a->d, t * a->ld_d + c);
    if (a->e) y -= (double)load_any(a->e_type, a->e, c);
    return y;
}

static void factor_bwd(const struct kern_factor_bwd *a, int64_t begin, int64_t end) {
    real *out = a->out;
    const real *f = a->f, *w = a->w;
    act *g = a->g;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        for (int64_t t = 0; t < a->rows; t++) {
            act *at = g + t * a->ld_g + c;
            real v = act_load(*at);
            if (out) sum += (double)v * factor_inner(a, t, c);
            *at = act_store(v * f[c]);
        }
        if (out) out[c] = (real)((double)out[c] + (double)w[c] * sum);
    }
}

static void norm_factor(const struct kern_norm_factor *a, int64_t begin, int64_t end) {
    const real *v = a->v, *magnitude = a->magnitude, *squares = a->squares;
    for (int64_t j = begin; j < end; j++) {
        double sum = 0;
        for (int64_t i = 0; i < a->k; i++)
            sum += (double)v[i * a->ld_v + j] * (double)load_any(ACT_TYPE, a->b, j * a->ld_b + i);
        real square = (real)((double)squares[j] + 2 * sum), least = squares[j] * (real)0x1p-22;
        if (square < least) square = least;
        ((real *)a->f)[j] = square == 0 ? 1 : magnitude[j] / real_sqrt(square);
        ((real *)a->w)[j] = magnitude[j] == 0 ? 0 : 1 / magnitude[j];
    }
}
