/* SPDX-License-Identifier: Apache-2.0 */
/* residual.c - the paper's layout: the model with W - s B0 A0 and beside it the rank-r adapter (A, B), of a DoRA with
 * its magnitude, which scales W - s B0 A0 + s B A, the same weight.
 *
 * Rounded to 16 bits the residual loses much of a small B0 A0 (docs/methods/delta-form.md has measurements); the
 * relative error
 *     || round(W - s B0 A0) - (W - s B0 A0) ||_F / || s B0 A0 ||_F
 * of the worst module is logged. */
#include <math.h>
#include <string.h>

#include "adapt/files.h"
#include "core/log.h"
#include "io/file.h"
#include "kern/dequant.h"

struct residual {
    const struct adapter *adapter;
    const struct checkpoint *base;
    double worst;
    char module[MODULE_NAME_CAP];
};

/* || B0 A0 ||_F^2 = sum over (i, j) of (B0^T B0)_ij (A0 A0^T)_ij. */
static double product_norm2(const struct delta *d) {
    double sum = 0;
    for (int64_t i = 0; i < d->r; i++)
        for (int64_t j = 0; j < d->r; j++) {
            double bb = 0, aa = 0;
            for (int64_t k = 0; k < d->m; k++)
                bb += (double)d->b0[k * d->r + i] * d->b0[k * d->r + j];
            for (int64_t k = 0; k < d->n; k++)
                aa += (double)d->a0[i * d->n + k] * d->a0[j * d->n + k];
            sum += bb * aa;
        }
    return sum > 0 ? sum : 0;
}

static double rounding_norm2(const float *w, int64_t n, enum dtype stored) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = 0; /* wide enough for any plain type */
        float back;
        quant_from_f32(stored, w + i, 1, &bits);
        dequant_to_f32(stored, &bits, 1, &back);
        sum += ((double)back - w[i]) * ((double)back - w[i]);
    }
    return sum;
}

static bool changes(void *ctx, const struct weight_view *v) {
    const struct residual *r = ctx;
    return adapter_delta_of(r->adapter, r->base, v) != NULL;
}

static enum mil_status subtract_start(void *ctx, const struct weight_view *v, int64_t begin,
                                      int64_t rows, float *w, enum dtype stored,
                                      struct mil_error *err) {
    struct residual *r = ctx;
    const struct delta *d = adapter_delta_of(r->adapter, r->base, v);
    double s = delta_scale(d);
    REQUIRE(begin == 0 && rows == d->m);
    TRY(low_rank_add(w, d->m, d->n, d->r, -s, d->b0, d->a0, err));
    if (stored != DT_BF16 && stored != DT_F16) return MIL_OK;
    double part = s * sqrt(product_norm2(d));
    double error = part > 0 ? sqrt(rounding_norm2(w, d->m * d->n, stored)) / part : 0;
    if (error <= r->worst) return MIL_OK;
    r->worst = error;
    module_name(r->module, d->layer, d->module);
    return MIL_OK;
}

enum mil_status residual_write(const struct adapter *a, const struct checkpoint *base,
                               enum dtype dtype, const struct stage *s, struct mil_error *err) {
    struct residual r = {.adapter = a, .base = base};
    const struct weight_edit edit = {.changes = changes, .apply = subtract_start, .ctx = &r};
    char dir[PATH_CAP];
    TRY(adapter_check_base(a, &base->config, err));
    TRY(model_dir_write(base, &edit, dtype, s->tmp, err));
    TRY(path_join(dir, s->tmp, "adapter", err));
    TRY(dir_make(dir, err));
    TRY(peft_write(a, dir, true, s->path, err));
    if (r.worst > 0)
        log_warning(
            "the residual model in 16 bits changes the adapted part of the weights by up to "
            "%.2g %% of it (%s); use f32, or the plain adapter on the untouched base",
            100 * r.worst, r.module);
    return MIL_OK;
}
