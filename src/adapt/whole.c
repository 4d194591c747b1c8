/* SPDX-License-Identifier: Apache-2.0 */
/* whole.c - see whole.h. */
#include "adapt/whole.h"

#include <stdio.h>

#include "adapt/internal.h"
#include "core/mem.h"

void wholes_free(struct adapter *a) {
    for (size_t i = 0; i < a->n_wholes; i++) mem_free(a->wholes[i].value);
    mem_free(a->wholes);
    a->wholes = NULL;
    a->n_wholes = 0;
}

int64_t wholes_elements(const struct adapter *a) {
    int64_t sum = 0;
    for (size_t i = 0; i < a->n_wholes; i++) sum += a->wholes[i].rows * a->wholes[i].cols;
    return sum;
}

void whole_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out) {
    const struct whole *w = &a->wholes[i];
    char name[MODULE_NAME_CAP];
    module_name(name, w->layer, w->module);
    if (w->kind == WHOLE_BIAS)
        snprintf(out->name, sizeof out->name, "%s.bias", name);
    else
        snprintf(out->name, sizeof out->name, "%s",
                 w->kind == WHOLE_EMBED ? "model.embed_tokens.weight" : "lm_head.weight");
    out->data = w->value;
    out->rows = w->rows;
    out->cols = w->cols;
}
