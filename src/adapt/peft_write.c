/* SPDX-License-Identifier: Apache-2.0 */
/* peft_write.c - an adapter as PEFT's adapter_config.json; its tensors are peft_tensors.c's.
 *
 * Keys are those that PEFT 0.10 to 0.21 read and that say something; every optional feature is
 * written at its neutral value.  Nothing in the bytes depends on the time or the machine.
 *
 * rsLoRA and a scale of its own are folded into lora_alpha, so that a reader who ignores use_rslora is right.
 * AdaLoRA is PEFT's ADALORA, whose configuration must have a schedule to be valid. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "io/file.h"
#include "io/json.h"

/* ---- target_modules ---- */

/* Do all layers of the base adapt the same modules?  Then suffixes name them; otherwise only full
 * paths do, because PEFT would apply a suffix to every layer. */
static bool same_in_every_layer(const struct adapter *a, bool suffixes[MODULES]) {
    size_t per_layer = 0;
    memset(suffixes, 0, MODULES * sizeof *suffixes);
    for (size_t i = 0; i < a->n && a->deltas[i].layer == a->deltas[0].layer; i++) {
        suffixes[a->deltas[i].module] = true;
        per_layer++;
    }
    if (a->layers == 0 || per_layer * (size_t)a->layers != a->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!suffixes[a->deltas[i].module]) return false;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

json_t *target_modules(const struct adapter *a) {
    json_t *list = json_array();
    bool suffixes[MODULES];
    if (same_in_every_layer(a, suffixes)) {
        const char *names[MODULES];
        size_t n = 0;
        for (int m = 0; m < MODULES; m++)
            if (suffixes[m]) names[n++] = module_suffix((enum module)m);
        qsort(names, n, sizeof *names, by_name);
        for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
        return list;
    }
    for (size_t i = 0; i < a->n; i++) { /* canonical order: deterministic as it is */
        char name[MODULE_NAME_CAP];
        module_name(name, a->deltas[i].layer, a->deltas[i].module);
        json_array_append_new(list, json_string(name));
    }
    return list;
}

/* ---- ranks ---- */

json_t *json_number(double x) {
    return x == floor(x) && fabs(x) < 1e15 ? json_integer((json_int_t)x) : json_real(x);
}

static int64_t rank_of(const struct delta *d, bool residual) {
    return residual ? d->r : delta_saved_rank(d);
}

static double alpha_of(const struct delta *d, bool residual) {
    return residual ? d->alpha : delta_saved_alpha(d);
}

/* Modules whose rank or alpha is not the first one's, by full path. */
static void put_lora(json_t *o, const struct adapter *a, bool residual) {
    json_t *ranks = json_object(), *alphas = json_object();
    for (size_t i = 1; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        if (rank_of(d, residual) != rank_of(a->deltas, residual))
            json_object_set_new(ranks, name, json_integer(rank_of(d, residual)));
        if (alpha_of(d, residual) != alpha_of(a->deltas, residual))
            json_object_set_new(alphas, name, json_number(alpha_of(d, residual)));
    }
    json_object_set_new(o, "r", json_integer(a->n ? rank_of(a->deltas, residual) : a->options.r));
    json_object_set_new(o, "lora_alpha",
                        json_number(a->n ? alpha_of(a->deltas, residual) : a->options.alpha));
    json_object_set_new(o, "rank_pattern", ranks);
    json_object_set_new(o, "alpha_pattern", alphas);
}

static json_t *masks(const struct adapter *a, const struct adalora_layout *l) {
    if (!l->masked) return json_null();
    json_t *all = json_object();
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        char name[MODULE_NAME_CAP], key[MODULE_NAME_CAP + 8];
        json_t *mask = json_array();
        module_name(name, d->layer, d->module);
        snprintf(key, sizeof key, "%s.lora_E", name);
        for (int64_t t = 0; t < l->init_r; t++)
            json_array_append_new(mask, json_boolean(adalora_kept(d, t)));
        json_object_set_new(all, key, mask);
    }
    return all;
}

/* PEFT demands a schedule with room between tinit and tfinal; what the run had is in milora.json. */
static void put_adalora(json_t *o, const struct adapter *a) {
    const struct adalora_options *s = &a->options.adalora;
    struct adalora_layout l;
    adalora_layout(a, &l);
    json_object_set_new(o, "r", json_integer(8)); /* not used: PEFT's default, else it warns */
    json_object_set_new(o, "lora_alpha", json_number(l.alpha));
    json_object_set_new(o, "init_r", json_integer(l.init_r));
    json_object_set_new(o, "target_r", json_integer(s->target_r > 0 ? s->target_r : l.init_r));
    json_object_set_new(o, "tinit", json_integer(0));
    json_object_set_new(o, "tfinal", json_integer(0));
    json_object_set_new(o, "deltaT", json_integer(s->delta_t > 0 ? s->delta_t : 1));
    json_object_set_new(o, "total_step", json_integer(1));
    json_object_set_new(o, "beta1", json_real(s->beta1 > 0 ? s->beta1 : 0.85));
    json_object_set_new(o, "beta2", json_real(s->beta2 > 0 ? s->beta2 : 0.85));
    json_object_set_new(o, "orth_reg_weight",
                        json_real(s->orth_reg_weight >= 0 ? s->orth_reg_weight : 0.5));
    json_object_set_new(o, "rank_pattern", masks(a, &l));
    json_object_set_new(o, "alpha_pattern", json_object());
}

/* ---- the rest ---- */

static void put_wholes(json_t *o, const struct adapter *a) {
    enum adapter_bias bias = BIAS_NONE;
    json_t *saved = json_array();
    for (size_t i = 0; i < a->n_wholes; i++) {
        enum whole_kind kind = a->wholes[i].kind;
        if (kind == WHOLE_BIAS)
            bias = a->options.bias;
        else
            json_array_append_new(saved,
                                  json_string(kind == WHOLE_EMBED ? "embed_tokens" : "lm_head"));
    }
    if (json_array_size(saved) == 0) {
        json_decref(saved);
        saved = json_null();
    }
    json_object_set_new(o, "modules_to_save", saved);
    json_object_set_new(o, "bias", json_string(bias_name(bias)));
}

static json_t *config_json(const struct adapter *a, bool residual, const char *base_path) {
    static const char *const nulls[] = {
        "auto_mapping",   "exclude_modules",     "layer_replication",
        "layers_pattern", "layers_to_transform", "megatron_config",
        "revision",       "target_parameters",   "trainable_token_indices"};
    bool scaled = adapter_is_scaled(a);
    json_t *o = json_object();
    json_object_set_new(o, "peft_type", json_string(scaled ? "ADALORA" : "LORA"));
    json_object_set_new(o, "task_type", json_string("CAUSAL_LM"));
    json_object_set_new(o, "base_model_name_or_path",
                        base_path && *base_path ? json_string(base_path) : json_null());
    json_object_set_new(o, "inference_mode", json_true());
    json_object_set_new(o, "lora_dropout", json_number(a->options.dropout));
    json_object_set_new(o, "target_modules", target_modules(a));
    if (scaled)
        put_adalora(o, a);
    else
        put_lora(o, a, residual);
    json_object_set_new(o, "init_lora_weights", json_true());
    put_wholes(o, a);
    json_object_set_new(o, "fan_in_fan_out", json_false());
    json_object_set_new(o, "lora_bias", json_false());
    json_object_set_new(o, "use_dora", json_boolean(adapter_has_dora(a)));
    json_object_set_new(o, "use_rslora", json_false());
    json_object_set_new(o, "megatron_core", json_string("megatron.core"));
    json_object_set_new(o, "loftq_config", json_object());
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        json_object_set_new(o, nulls[i], json_null());
    return o;
}

enum mil_status peft_write(const struct adapter *a, const char *dir, bool residual,
                           const char *base_path, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "adapter_model.safetensors", err));
    TRY(peft_write_tensors(a, path, residual, err));
    TRY(path_join(path, dir, "adapter_config.json", err));
    json_t *config = config_json(a, residual, base_path);
    if (!config) return error_nomem(err, 0);
    enum mil_status st = json_write_file(path, config, err);
    json_decref(config);
    return st;
}
