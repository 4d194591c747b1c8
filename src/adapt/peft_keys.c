/* SPDX-License-Identifier: Apache-2.0 */
/* peft_keys.c - the names that tensors have in PEFT's adapter files. */
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"

void peft_key(char out[PEFT_KEY_CAP], int64_t layer, enum module m, const char *part) {
    char name[MODULE_NAME_CAP];
    module_name(name, layer, m);
    snprintf(out, PEFT_KEY_CAP, "base_model.model.%s.%s", name, part);
}

void peft_whole_key(char out[PEFT_KEY_CAP], const struct whole *w, bool adapted) {
    if (w->kind == WHOLE_BIAS)
        peft_key(out, w->layer, w->module, adapted ? "base_layer.bias" : "bias");
    else
        snprintf(out, PEFT_KEY_CAP, "base_model.model.%s",
                 w->kind == WHOLE_EMBED ? "model.embed_tokens.weight" : "lm_head.weight");
}

bool adapter_adapts(const struct adapter *a, int64_t layer, enum module m) {
    for (size_t i = 0; i < a->n; i++)
        if (a->deltas[i].layer == layer && a->deltas[i].module == m) return true;
    return false;
}
