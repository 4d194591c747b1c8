/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_export.c - an adapter in a format that other programs load; the base is looked for where the adapter names
 * it. */
#include <string.h>

#include "adapt/adapter.h"
#include "api/adapter_files.h"
#include "api/output.h"
#include "milora/adapter.h"

enum mil_status output_dtype(const char *asked, const struct checkpoint *base, enum dtype fallback,
                             enum dtype *out, struct mil_error *err) {
    *out = fallback;
    if (!asked) {
        if (base && base->layers) *out = base->layers[0].weight[MODULE_Q].dtype;
        if (*out != DT_F32 && *out != DT_F16) *out = DT_BF16;
        return MIL_OK;
    }
    if (dtype_from_name(asked, out) && (*out == DT_F32 || *out == DT_F16 || *out == DT_BF16))
        return MIL_OK;
    return error_set(err, MIL_USAGE, "dtype '%s': use bf16, f16 or f32", asked);
}

static enum mil_status format_of(const char *name, enum export_format *out, struct mil_error *err) {
    static const char *const names[] = {"peft", "lora", "residual", "gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name && strcmp(name, names[i]) == 0) {
            *out = (enum export_format)i;
            return MIL_OK;
        }
    return error_set(err, MIL_USAGE, "export format '%s': there are peft, lora, residual and gguf",
                     name ? name : "");
}

/* Where the base is: as given, else as the adapter names it. */
static enum mil_status find_base(const struct mil_export_options *o, const struct adapter *a,
                                 struct checkpoint **out, struct mil_error *err) {
    const char *path = o->model ? o->model : a->base_path;
    if (!path[0])
        return error_set(err, MIL_USAGE, "export to %s needs the base model: name it with --model",
                         o->format);
    enum mil_status st = checkpoint_open(path, CHECKPOINT_WEIGHTS, out, err);
    if (st != MIL_OK && !o->model)
        error_prefix(err, "the adapter's base (name another with --model): ");
    return st;
}

enum mil_status mil_export(const struct mil_export_options *options, struct mil_error *err) {
    struct checkpoint *base = NULL;
    struct adapter *a = NULL, *checked = NULL;
    enum export_format format = EXPORT_PEFT;
    enum dtype dtype = DT_F32;
    enum mil_status st;
    TRY_GOTO(format_of(options->format, &format, err));
    TRY_GOTO(output_probe(options->out, err));
    TRY_GOTO(output_dtype(options->dtype ? options->dtype : "f32", NULL, DT_F32, &dtype, err));
    TRY_GOTO(adapter_load(options->adapter, NULL, &a, err));
    if (options->model || format == EXPORT_RESIDUAL || format == EXPORT_GGUF) {
        TRY_GOTO(find_base(options, a, &base, err));
        TRY_GOTO(adapter_load(options->adapter, base, &checked, err));
    }
    TRY_GOTO(adapter_export(checked ? checked : a, base, format, dtype, options->out, err));
fail:
    adapter_free(&checked);
    adapter_free(&a);
    checkpoint_free(&base);
    return st;
}
