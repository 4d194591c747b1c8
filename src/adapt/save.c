/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - an adapter directory: PEFT's two files, milora.json, a short model card.  docs/formats/adapter.md has
 * the format. */
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"

/* ---- milora.json ---- */

/* Rows [begin, end) of lora_A, or columns of lora_B, hold `what`. */
static json_t *part(const char *what, int64_t begin, int64_t end) {
    return json_pack("{s:s, s:[I, I]}", "holds", what, "range", (json_int_t)begin, (json_int_t)end);
}

static json_t *layout(const struct adapter *a) {
    int64_t r = a->options.r;
    if (a->method->form != DELTA_PAIR)
        return json_pack("{s:[o], s:[o]}", "lora_A_rows", part("A", 0, r), "lora_B_columns",
                         part("dB", 0, r));
    return json_pack("{s:[o, o], s:[o, o]}", "lora_A_rows", part("A", 0, r), part("dA", r, 2 * r),
                     "lora_B_columns", part("dB", 0, r), part("B0", r, 2 * r));
}

static json_t *side_file(const struct adapter *a) {
    const struct adapter_options *o = &a->options;
    json_t *targets = json_array();
    for (size_t i = 0; i < o->n_targets; i++)
        json_array_append_new(targets, json_string(o->targets[i]));
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:I, s:f, s:f, s:I, s:o, s:b, s:I, s:{s:s, s:s, s:I}, s:o}", "format",
        "milora-adapter", "version", 1, "program", "milora " MILORA_VERSION, "method",
        a->method->name, "r", (json_int_t)o->r, "lora_alpha", o->alpha, "lora_dropout", o->dropout,
        "seed", (json_int_t)o->seed, "target_modules", targets, "target_modules_regex",
        (int)o->targets_regex, "modules", (json_int_t)a->n, "base", "name_or_path", a->base_path,
        "fingerprint", a->base_fingerprint, "layers", (json_int_t)a->layers, "layout", layout(a));
}

static enum mil_status write_side_file(const struct adapter *a, const char *dir,
                                       struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "milora.json", err));
    json_t *o = side_file(a);
    if (!o)
        return error_set(err, MIL_USAGE,
                         "%s: the base's path or a target is not UTF-8, or out of memory", path);
    enum mil_status st = json_write_file(path, o, err);
    json_decref(o);
    return st;
}

/* ---- README.md ---- */

enum mil_status card_write(const struct adapter *a, const char *dir, bool side_file,
                           struct mil_error *err) {
    const char *method = a->method ? a->method->name : "lora";
    char path[PATH_CAP];
    struct str s = {0};
    TRY(path_join(path, dir, "README.md", err));
    str_addf(&s, "---\nlibrary_name: peft\ntags:\n- %s\n- lora\n---\n\n", method);
    str_addf(&s, "# A low-rank adapter (%s)\n\n", method);
    str_addf(&s,
             "Base model: `%s`. %zu modules, %lld trained parameters, r = %lld, alpha = %g.\n\n",
             *a->base_path ? a->base_path : "not recorded", a->n, (long long)adapter_elements(a),
             (long long)a->options.r, a->options.alpha);
    if (a->method && a->method->form == DELTA_PAIR)
        str_addf(&s,
                 "Use it on the untouched base model, as any PEFT LoRA. Its rank on disk is %lld,\n"
                 "twice the trained rank: `A' = [A ; dA]`, `B' = [dB , B0]` express the change\n"
                 "`B A - B0 A0` of the trained factors exactly.%s\n",
                 (long long)(2 * a->options.r),
                 side_file ? " `milora.json` says which rows and columns are which." : "");
    enum mil_status st = str_status(&s, err);
    if (st == MIL_OK) st = file_write(path, s.data, s.len, err);
    str_release(&s);
    return st;
}

enum mil_status adapter_save(const struct adapter *a, const char *dir, struct mil_error *err) {
    TRY(peft_write(a, dir, false, a->base_path, err));
    if (a->method) TRY(write_side_file(a, dir, err));
    return card_write(a, dir, a->method != NULL, err);
}
