/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - an adapter directory: PEFT's two files, milora.json, a short model card.  docs/formats/adapter.md has
 * the format. */
#include <string.h>

#include "adapt/files.h"
#include "io/file.h"

/* ---- README.md ---- */

static void add_flags(struct str *s, const struct adapter *a) {
    const struct adapter_options *o = &a->options;
    if (o->rslora) str_add(s, ", rsLoRA");
    if (adapter_has_dora(a)) str_add(s, ", DoRA");
    if (o->lr_ratio > 0 && o->lr_ratio != 1) str_addf(s, ", LoRA+ ratio %g", o->lr_ratio);
    if (o->bias != BIAS_NONE) str_addf(s, ", bias %s", bias_name(o->bias));
    for (size_t i = 0; i < o->n_saved_modules; i++)
        str_addf(s, ", %s as a whole", o->saved_modules[i]);
}

/* "r = 4", or the range where modules differ. */
static void add_rank(struct str *s, const struct adapter *a) {
    int64_t least = a->options.r, most = a->options.r;
    bool scaled = adapter_is_scaled(a);
    for (size_t i = 0; i < a->n; i++) {
        int64_t r = scaled ? adalora_rank(&a->deltas[i]) : a->deltas[i].r;
        least = i == 0 || r < least ? r : least;
        most = i == 0 || r > most ? r : most;
    }
    if (least == most)
        str_addf(s, "r = %lld", (long long)least);
    else
        str_addf(s, "r = %lld to %lld", (long long)least, (long long)most);
}

static void add_form(struct str *s, const struct adapter *a, bool side_file) {
    if (!a->method) return;
    if (a->method->form == DELTA_PAIR)
        str_addf(s,
                 "Use it on the untouched base model, as any PEFT LoRA. Its rank on disk is twice\n"
                 "the trained rank: `A' = [A ; dA]`, `B' = [dB , B0]` express the change\n"
                 "`B A - B0 A0` of the trained factors exactly.%s\n",
                 side_file ? " `milora.json` says which rows and columns are which." : "");
    if (a->method->form == DELTA_FIXED_B)
        str_add(s, "Use it on the untouched base model, as any PEFT LoRA. `lora_B` was not "
                   "trained.\n");
    if (a->method->form == DELTA_SCALED)
        str_add(s, "Use it on the untouched base model with PEFT's AdaLoRA; `milora export "
                   "--format lora`\nmakes a plain LoRA of it.\n");
}

enum mil_status card_write(const struct adapter *a, const char *dir, bool side_file,
                           struct mil_error *err) {
    const char *method = adapter_method_name(a);
    char path[PATH_CAP];
    struct str s = {0};
    TRY(path_join(path, dir, "README.md", err));
    str_addf(&s, "---\nlibrary_name: peft\ntags:\n- %s\n%s---\n\n", method,
             strcmp(method, "lora") ? "- lora\n" : "");
    str_addf(&s, "# A low-rank adapter (%s)\n\n", method);
    str_addf(&s, "Base model: `%s`. %zu modules, %lld trained parameters, ",
             *a->base_path ? a->base_path : "not recorded", a->n, (long long)adapter_elements(a));
    add_rank(&s, a);
    str_addf(&s, ", alpha = %g", a->options.alpha);
    add_flags(&s, a);
    str_add(&s, ".\n\n");
    add_form(&s, a, side_file);
    enum mil_status st = str_status(&s, err);
    if (st == MIL_OK) st = file_write(path, s.data, s.len, err);
    str_release(&s);
    return st;
}

enum mil_status adapter_save(const struct adapter *a, const char *dir, struct mil_error *err) {
    TRY(peft_write(a, dir, false, a->base_path, err));
    if (a->method) TRY(side_file_write(a, dir, err));
    return card_write(a, dir, a->method != NULL, err);
}
