/* SPDX-License-Identifier: Apache-2.0 */
/* load_whole.c - the tensors that train as a whole, out of adapter_model.safetensors: copies of embeddings and head
 * (modules_to_save), biases.
 *
 * PEFT keeps a bias of an adapted module under base_layer.bias, of another one under bias.  Its older versions lose the
 * biases of lora_only: then there are none, and the model's own stand.  With ensure_weight_tying the head of a tied
 * model comes along with the embeddings. */
#include <string.h>

#include "adapt/files.h"
#include "core/log.h"
#include "core/mem.h"

static bool saves(const struct adapter_options *o, const char *name) {
    for (size_t i = 0; i < o->n_saved_modules; i++)
        if (strcmp(o->saved_modules[i], name) == 0) return true;
    return false;
}

static enum mil_status add(struct loading *l, struct whole w, const struct st_tensor *t,
                           struct mil_error *err) {
    struct adapter *a = l->adapter;
    bool bias = w.kind == WHOLE_BIAS;
    w.rows = bias ? 1 : 0;
    w.cols = 0;
    enum mil_status st =
        tensor_read(t, (struct wanted_shape){&w.rows, &w.cols, bias, false}, &w.value, err);
    if (st == MIL_OK)
        a->wholes[a->n_wholes++] = w;
    else
        mem_free(w.value);
    return st;
}

static enum mil_status load_saved(struct loading *l, enum whole_kind kind, const char *name,
                                  bool optional, struct mil_error *err) {
    struct whole w = {.kind = kind};
    char key[PEFT_KEY_CAP];
    if (!saves(&l->config.options, name) && !optional) return MIL_OK;
    peft_whole_key(key, &w, false);
    const struct st_tensor *t = loading_find(l, key);
    if (t) return add(l, w, t, err);
    if (optional) return MIL_OK;
    return error_set(err, MIL_INPUT,
                     "adapter_model.safetensors: modules_to_save names %s, but %s is missing", name,
                     key);
}

/* May the bias be trained, and must it, where the base is known? */
static bool bias_wanted(const struct loading *l, int64_t layer, enum module m, bool *required) {
    enum adapter_bias bias = l->config.options.bias;
    bool adapted = l->selected[module_number(layer, m)];
    bool wanted = bias == BIAS_ALL || (bias == BIAS_LORA_ONLY && adapted);
    *required = wanted && l->base && module_has_bias(l->base, m);
    return wanted;
}

static enum mil_status load_bias(struct loading *l, int64_t layer, enum module m, size_t *missing,
                                 struct mil_error *err) {
    struct whole w = {.kind = WHOLE_BIAS, .layer = layer, .module = m};
    char key[PEFT_KEY_CAP], other[PEFT_KEY_CAP];
    bool required, adapted = l->selected[module_number(layer, m)];
    if (!bias_wanted(l, layer, m, &required)) return MIL_OK;
    peft_whole_key(key, &w, adapted);
    peft_whole_key(other, &w, !adapted);
    const struct st_tensor *t = loading_find(l, key), *u = loading_find(l, other);
    if (t && u)
        return error_set(err, MIL_INPUT,
                         "adapter_model.safetensors: one bias under two names, %s and %s", key,
                         other);
    if (t || u) return add(l, w, t ? t : u, err);
    *missing += required;
    return MIL_OK;
}

static enum mil_status load_biases(struct loading *l, struct mil_error *err) {
    struct adapter *a = l->adapter;
    size_t before = a->n_wholes, missing = 0;
    if (l->config.options.bias == BIAS_NONE) return MIL_OK;
    for (int64_t i = 0; i < l->layers * MODULES; i++)
        TRY(load_bias(l, i / MODULES, (enum module)(i % MODULES), &missing, err));
    if (missing == 0) return MIL_OK;
    if (a->n_wholes > before)
        return error_set(err, MIL_INPUT,
                         "adapter_model.safetensors: bias is '%s', but %zu biases are missing",
                         bias_name(l->config.options.bias), missing);
    log_warning("%s: bias is '%s', but no bias was saved (as by old versions of PEFT): the model's "
                "own are used",
                l->dir, bias_name(l->config.options.bias));
    return MIL_OK;
}

enum mil_status wholes_load(struct loading *l, struct mil_error *err) {
    struct adapter *a = l->adapter;
    size_t most = 2 + (size_t)l->layers * MODULES;
    const json_t *tying = json_object_get(l->config.json, "ensure_weight_tying");
    if (l->config.options.n_saved_modules == 0 && l->config.options.bias == BIAS_NONE)
        return MIL_OK;
    a->wholes = mem_calloc(MEM_ADAPTER, most, sizeof *a->wholes);
    if (!a->wholes) return error_nomem(err, most * sizeof *a->wholes);
    bool tied = json_is_true(tying) && l->config.options.n_saved_modules == 1;
    TRY(load_saved(l, WHOLE_EMBED, "embed_tokens", tied, err));
    TRY(load_saved(l, WHOLE_HEAD, "lm_head", tied, err));
    return load_biases(l, err);
}
