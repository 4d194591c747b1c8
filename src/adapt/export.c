/* SPDX-License-Identifier: Apache-2.0 */
/* export.c - an adapter in other forms: merged into its base, as PEFT's files alone, as the paper's
 * residual model with a rank-r adapter, as a GGUF LoRA.
 *
 * A directory is built under a temporary name and renamed when it is whole.
 *
 * The residual W - s B0 A0 is what the paper trains on.  Rounded to 16 bits it loses much of a
 * small B0 A0 (docs/methods/delta-form.md has measurements); the relative error
 *     || round(W - s B0 A0) - (W - s B0 A0) ||_F / || s B0 A0 ||_F
 * of the worst module is logged. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/log.h"
#include "core/mem.h"
#include "io/file.h"
#include "kern/dequant.h"

/* out may be an empty directory: the stage then takes its place. */
static enum mil_status open_output(struct stage *s, const char *out, struct mil_error *err) {
    bool empty = false;
    if (path_is_dir(out)) {
        char **names;
        size_t n;
        TRY(dir_list(out, &names, &n, err));
        dir_list_free(names, n);
        empty = n == 0;
    }
    return stage_open(s, out, empty, err);
}

static enum mil_status close_output(struct stage *s, enum mil_status st, struct mil_error *err) {
    if (st == MIL_OK) return stage_commit(s, err);
    stage_abort(s);
    return st;
}

/* ---- merge ---- */

static enum mil_status add_delta(void *ctx, const struct delta *d, float *w, enum dtype stored,
                                 struct mil_error *err) {
    (void)ctx;
    (void)stored;
    return delta_add_to(d, w, err);
}

enum mil_status adapter_merge(const struct checkpoint *base, const struct adapter *a,
                              const char *out, enum dtype dtype, struct mil_error *err) {
    struct stage s;
    struct weight_edit edit = {add_delta, NULL};
    TRY(open_output(&s, out, err));
    return close_output(&s, model_dir_write(base, a, &edit, dtype, s.tmp, err), err);
}

/* ---- residual ---- */

struct loss {
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

static enum mil_status subtract_start(void *ctx, const struct delta *d, float *w, enum dtype stored,
                                      struct mil_error *err) {
    struct loss *loss = ctx;
    if (!d->b0) return MIL_OK;
    double s = delta_scale(d);
    TRY(low_rank_add(w, d->m, d->n, d->r, -s, d->b0, d->a0, err));
    if (stored != DT_BF16 && stored != DT_F16) return MIL_OK;
    double part = s * sqrt(product_norm2(d));
    double error = part > 0 ? sqrt(rounding_norm2(w, d->m * d->n, stored)) / part : 0;
    if (error <= loss->worst) return MIL_OK;
    loss->worst = error;
    module_name(loss->module, d->layer, d->module);
    return MIL_OK;
}

static enum mil_status write_residual(const struct adapter *a, const struct checkpoint *base,
                                      enum dtype dtype, const struct stage *s,
                                      struct mil_error *err) {
    struct loss loss = {0};
    struct weight_edit edit = {subtract_start, &loss};
    char dir[PATH_CAP];
    TRY(model_dir_write(base, a, &edit, dtype, s->tmp, err));
    TRY(path_join(dir, s->tmp, "adapter", err));
    TRY(dir_make(dir, err));
    TRY(peft_write(a, dir, true, s->path, err));
    if (loss.worst > 0)
        log_warning(
            "the residual model in 16 bits changes the adapted part of the weights by up to "
            "%.2g %% of it (%s); use f32, or the plain adapter on the untouched base",
            100 * loss.worst, loss.module);
    return MIL_OK;
}

/* ---- the table of formats ---- */

static enum mil_status export_residual(const struct adapter *a, const struct checkpoint *base,
                                       enum dtype dtype, const char *out, struct mil_error *err) {
    struct stage s;
    TRY(open_output(&s, out, err));
    return close_output(&s, write_residual(a, base, dtype, &s, err), err);
}

static enum mil_status export_peft(const struct adapter *a, const char *out,
                                   struct mil_error *err) {
    struct stage s;
    TRY(open_output(&s, out, err));
    enum mil_status st = peft_write(a, s.tmp, false, a->base_path, err);
    if (st == MIL_OK) st = card_write(a, s.tmp, false, err);
    return close_output(&s, st, err);
}

enum mil_status adapter_export(const struct adapter *a, const struct checkpoint *base,
                               enum export_format format, enum dtype dtype, const char *out,
                               struct mil_error *err) {
    if (format == EXPORT_PEFT) return export_peft(a, out, err);
    if (!base || (format == EXPORT_RESIDUAL && !base->layers))
        return error_set(err, MIL_USAGE, "this export format needs the base model: name it too");
    if (format == EXPORT_RESIDUAL) return export_residual(a, base, dtype, out, err);
    return gguf_lora_write(a, &base->config, out, err);
}
