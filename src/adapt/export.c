/* SPDX-License-Identifier: Apache-2.0 */
/* export.c - an adapter in other forms: as PEFT's files alone, as a plain LoRA, as the paper's residual model with a
 * rank-r adapter (residual.c), as a GGUF LoRA (gguf_lora.c).  What a form cannot hold is refused with the remedy.
 *
 * A directory is built under a temporary name and renamed when it is whole. */
#include "adapt/files.h"
#include "io/file.h"

/* out may be an empty directory: the stage then takes its place. */
enum mil_status output_open(struct stage *s, const char *out, struct mil_error *err) {
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

enum mil_status output_close(struct stage *s, enum mil_status st, struct mil_error *err) {
    if (st == MIL_OK) return stage_commit(s, err);
    stage_abort(s);
    return st;
}

/* ---- what goes into what ---- */

static const char *why_no_residual(const struct adapter *a) {
    for (size_t i = 0; i < a->n; i++) switch (a->deltas[i].form) {
        case DELTA_PAIR: break;
        case DELTA_FIXED_B:
            return "it starts from A = 0, so the model without its start is the model itself";
        case DELTA_SCALED:
            return "AdaLoRA starts from Lambda = 0, so the model without its start is the model "
                   "itself";
        default:
            return "a plain LoRA starts from B = 0, so the model without its start is the model "
                   "itself";
        }
    return NULL;
}

static enum mil_status check_residual(const struct adapter *a, struct mil_error *err) {
    const char *why = why_no_residual(a);
    if (!why) return MIL_OK;
    return error_set(err, MIL_USAGE, "no residual layout: %s; export it as peft", why);
}

static enum mil_status check_gguf(const struct adapter *a, struct mil_error *err) {
    if (a->n_wholes == 0) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED,
                     "a GGUF LoRA cannot hold %s: merge the adapter and convert the model",
                     a->wholes[0].kind == WHOLE_BIAS ? "trained biases"
                                                     : "whole embeddings or heads "
                                                       "(modules_to_save)");
}

/* ---- the table of formats ---- */

static enum mil_status export_residual(const struct adapter *a, const struct checkpoint *base,
                                       enum dtype dtype, const char *out, struct mil_error *err) {
    struct stage s;
    TRY(check_residual(a, err));
    TRY(output_open(&s, out, err));
    return output_close(&s, residual_write(a, base, dtype, &s, err), err);
}

static enum mil_status export_peft(const struct adapter *a, const char *out,
                                   struct mil_error *err) {
    struct stage s;
    TRY(output_open(&s, out, err));
    enum mil_status st = peft_write(a, s.tmp, false, a->base_path, err);
    if (st == MIL_OK) st = card_write(a, s.tmp, false, err);
    return output_close(&s, st, err);
}

static enum mil_status export_lora(const struct adapter *a, const char *out,
                                   struct mil_error *err) {
    struct adapter *plain;
    TRY(adapter_as_lora(a, &plain, err));
    enum mil_status st = export_peft(plain, out, err);
    adapter_free(&plain);
    return st;
}

static enum mil_status export_gguf(const struct adapter *a, const struct model_config *c,
                                   const char *out, struct mil_error *err) {
    struct adapter *plain;
    TRY(check_gguf(a, err));
    TRY(adapter_as_lora(a, &plain, err));
    enum mil_status st = gguf_lora_write(plain, adapter_method_name(a), c, out, err);
    adapter_free(&plain);
    return st;
}

enum mil_status adapter_export(const struct adapter *a, const struct checkpoint *base,
                               enum export_format format, enum dtype dtype, const char *out,
                               struct mil_error *err) {
    if (format == EXPORT_PEFT) return export_peft(a, out, err);
    if (format == EXPORT_LORA) return export_lora(a, out, err);
    if (!base || (format == EXPORT_RESIDUAL && !base->layers))
        return error_set(err, MIL_USAGE, "this export format needs the base model: name it too");
    if (format == EXPORT_RESIDUAL) return export_residual(a, base, dtype, out, err);
    return export_gguf(a, &base->config, out, err);
}
