/* SPDX-License-Identifier: Apache-2.0 */
/* whole.c - whole tensors on the host: which there are, their values, their names.  See whole.h. */
#include "adapt/whole.h"

#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "core/str.h"

/* ---- which ---- */

static struct whole *add(struct whole *list, size_t *n, enum whole_kind kind, int64_t layer,
                         enum module module, int64_t rows, int64_t cols) {
    struct whole *w = &list[(*n)++];
    *w = (struct whole){.kind = kind, .layer = layer, .module = module, .rows = rows, .cols = cols};
    return w;
}

const char *whole_module(const char *name) {
    static const char *const known[] = {"embed_tokens", "lm_head"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(name), k = strlen(known[i]);
        if (str_ends(name, known[i]) && (n == k || name[n - k - 1] == '.')) return known[i];
    }
    return NULL;
}

static enum mil_status saved_modules(const struct adapter_options *o, bool *embed, bool *head,
                                     struct mil_error *err) {
    *embed = *head = false;
    for (size_t i = 0; i < o->n_saved_modules; i++) {
        const char *name = o->saved_modules[i], *known = whole_module(name);
        if (!known)
            return error_set(
                err, MIL_USAGE,
                "modules_to_save: '%.100s' cannot be trained as a whole; embed_tokens and "
                "lm_head can",
                name);
        *(strcmp(known, "lm_head") == 0 ? head : embed) = true;
    }
    return MIL_OK;
}

static enum mil_status add_biases(const struct model_config *c, const struct adapter_options *o,
                                  const bool *selected, struct whole *list, size_t *n,
                                  struct mil_error *err) {
    size_t before = *n;
    if (o->bias == BIAS_NONE) return MIL_OK;
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        enum module m = (enum module)(i % MODULES);
        if (module_has_bias(c, m) && (o->bias == BIAS_ALL || selected[i]))
            add(list, n, WHOLE_BIAS, i / MODULES, m, 1, module_rows(c, m));
    }
    if (*n > before) return MIL_OK;
    return error_set(err, MIL_USAGE, "bias: %s have none; use none",
                     o->bias == BIAS_ALL ? "the modules of this model" : "the adapted modules");
}

enum mil_status whole_shapes(const struct model_config *c, const struct adapter_options *o,
                             const bool *selected, struct whole **out, size_t *n,
                             struct mil_error *err) {
    bool embed, head;
    *out = NULL;
    *n = 0;
    TRY(saved_modules(o, &embed, &head, err));
    struct whole *list = mem_calloc(MEM_ADAPTER, 2 + (size_t)c->layers * MODULES, sizeof *list);
    if (!list) return error_nomem(err, (size_t)c->layers * MODULES * sizeof *list);
    if (embed) add(list, n, WHOLE_EMBED, 0, MODULE_Q, c->vocab, c->width);
    if (head) add(list, n, WHOLE_HEAD, 0, MODULE_Q, c->vocab, c->width);
    enum mil_status st = add_biases(c, o, selected, list, n, err);
    if (st == MIL_OK)
        *out = list;
    else
        mem_free(list);
    return st;
}

/* ---- values ---- */

static const struct weight_view *view_of(const struct checkpoint *c, const struct whole *w) {
    if (w->kind == WHOLE_BIAS) return &c->layers[w->layer].bias[w->module];
    return w->kind == WHOLE_EMBED || !weight_present(&c->head) ? &c->embed : &c->head;
}

enum mil_status wholes_make(struct adapter *a, const struct checkpoint *base,
                            struct mil_error *err) {
    size_t n = (size_t)base->config.layers * MODULES;
    bool *selected = mem_calloc(MEM_OTHER, n, sizeof *selected);
    if (!selected) return error_nomem(err, n);
    for (size_t i = 0; i < a->n; i++)
        selected[module_number(a->deltas[i].layer, a->deltas[i].module)] = true;
    enum mil_status st =
        whole_shapes(&base->config, &a->options, selected, &a->wholes, &a->n_wholes, err);
    mem_free(selected);
    for (size_t i = 0; st == MIL_OK && i < a->n_wholes; i++) {
        struct whole *w = &a->wholes[i];
        size_t count = (size_t)(w->rows * w->cols);
        w->value = mem_alloc(MEM_ADAPTER, count, sizeof *w->value);
        if (!w->value) return error_nomem(err, count * sizeof *w->value);
        weight_to_f32(view_of(base, w), w->value);
    }
    return st;
}

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

void whole_name(const struct whole *w, char *out, size_t cap) {
    char name[MODULE_NAME_CAP];
    module_name(name, w->layer, w->module);
    if (w->kind == WHOLE_BIAS)
        snprintf(out, cap, "%s.bias", name);
    else
        snprintf(out, cap, "%s",
                 w->kind == WHOLE_EMBED ? "model.embed_tokens.weight" : "lm_head.weight");
}

void whole_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out) {
    const struct whole *w = &a->wholes[i];
    whole_name(w, out->name, sizeof out->name);
    out->data = w->value;
    out->rows = w->rows;
    out->cols = w->cols;
}
