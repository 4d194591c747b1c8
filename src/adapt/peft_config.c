/* SPDX-License-Identifier: Apache-2.0 */
/* peft_config.c - reading an adapter_config.json: what it asks for, and refusal by name of what
 * this program does not do.
 *
 * A key that is known to change the function must be at its neutral value.  An unknown key that is
 * switched on (true, or a non-empty object or list) is refused too, because it may change the
 * function; an unknown number or string belongs to a switch that is off, and is only noticed. */
#include "adapt/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "io/json.h"

/* ---- keys ---- */

static bool is_neutral(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_string(v) && json_string_length(v) == 0);
}

/* Read here, or without influence on a saved adapter (how it was initialised or trained). */
static const char *const known[] = {"peft_type",
                                    "task_type",
                                    "base_model_name_or_path",
                                    "inference_mode",
                                    "r",
                                    "lora_alpha",
                                    "lora_dropout",
                                    "target_modules",
                                    "exclude_modules",
                                    "rank_pattern",
                                    "alpha_pattern",
                                    "init_lora_weights",
                                    "bias",
                                    "use_rslora",
                                    "layers_to_transform",
                                    "layers_pattern",
                                    "auto_mapping",
                                    "peft_version",
                                    "revision",
                                    "megatron_core",
                                    "megatron_config",
                                    "eva_config",
                                    "loftq_config",
                                    "corda_config",
                                    "lora_ga_config",
                                    "qalora_group_size",
                                    "runtime_config",
                                    "ensure_weight_tying"};
/* Change the function in ways not done here; `remedy` is what the user can do. */
static const struct {
    const char *key, *remedy;
} refused[] = {
    {"use_dora", "merge it with PEFT first"},
    {"modules_to_save", "merge it with PEFT first"},
    {"lora_bias", "merge it with PEFT first"},
    {"fan_in_fan_out", "it is for GPT-2's transposed weights"},
    {"layer_replication", "merge it with PEFT first"},
    {"trainable_token_indices", "merge it with PEFT first"},
    {"target_parameters", "merge it with PEFT first"},
    {"use_qalora", "merge it with PEFT first"},
    {"use_bdlora", "merge it with PEFT first"},
    {"alora_invocation_tokens", "activated LoRA changes with the prompt"},
    {"arrow_config", "routed adapters are not supported"},
    {"kasa_config", "merge it with PEFT first"},
    {"velora_config", "merge it with PEFT first"},
    {"monteclora_config", "merge it with PEFT first"},
};

static bool is_known(const char *key) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(key, known[i]) == 0) return true;
    return false;
}

static enum mil_status check_keys(const json_t *root, struct mil_error *err) {
    const char *key;
    json_t *value;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!is_neutral(json_object_get(root, refused[i].key)))
            return error_set(err, MIL_UNSUPPORTED, "%s is set, which is not supported: %s",
                             refused[i].key, refused[i].remedy);
    json_object_foreach((json_t *)root, key, value) {
        if (is_known(key) || is_neutral(value)) continue;
        if (json_is_true(value) || json_is_object(value) || json_is_array(value))
            return error_set(
                err, MIL_UNSUPPORTED,
                "key '%.64s' is not known and may change the adapter's function; remove "
                "it if it does not",
                key);
        log_warning("adapter_config.json: key '%.64s' is not known and ignored", key);
    }
    return MIL_OK;
}

/* Initialisations that change the base model when PEFT loads them: such an adapter does not fit the
 * untouched base. */
static enum mil_status check_init(const json_t *root, struct mil_error *err) {
    static const char *const harmless[] = {"gaussian", "orthogonal", "eva", "mica"};
    const json_t *v = json_object_get(root, "init_lora_weights");
    const char *s = json_string_value(v);
    if (!v || json_is_boolean(v) || json_is_null(v)) return MIL_OK;
    for (size_t i = 0; s && i < sizeof harmless / sizeof *harmless; i++)
        if (strcmp(s, harmless[i]) == 0) return MIL_OK;
    return error_set(
        err, MIL_UNSUPPORTED,
        "init_lora_weights is '%.32s': this adapter belongs to a changed base; convert "
        "it with PEFT (save_pretrained with path_initial_model_for_weight_conversion)",
        s ? s : "?");
}

/* ---- target lists ---- */

enum mil_status targets_read(const json_t *root, const char *key, const char ***names, size_t *n,
                             bool *regex, struct mil_error *err) {
    const json_t *v = json_object_get(root, key);
    *regex = json_is_string(v);
    size_t count = json_is_string(v) ? 1 : json_array_size(v);
    if (v && !json_is_null(v) && !json_is_string(v) && !json_is_array(v))
        return error_set(err, MIL_INPUT, "%s must be a list of names or one pattern", key);
    *names = mem_calloc(MEM_ADAPTER, count, sizeof **names);
    if (!*names) return error_nomem(err, count * sizeof **names);
    for (size_t i = 0; i < count; i++) {
        (*names)[i] = json_string_value(json_is_string(v) ? v : json_array_get(v, i));
        if (!(*names)[i]) return error_set(err, MIL_INPUT, "%s[%zu] is not a string", key, i);
    }
    *n = count;
    return MIL_OK;
}

static enum mil_status check_layers(const json_t *root, const struct peft_config *c,
                                    struct mil_error *err) {
    const json_t *v = json_object_get(root, "layers_to_transform"),
                 *p = json_object_get(root, "layers_pattern");
    const char *pattern = json_string_value(json_is_array(p) ? json_array_get(p, 0) : p);
    if (!is_neutral(p) && (!pattern || strcmp(pattern, "layers") != 0 || json_array_size(p) > 1))
        return error_set(err, MIL_UNSUPPORTED, "layers_pattern: only 'layers' is supported");
    if (is_neutral(v)) return MIL_OK;
    if (c->targets_regex)
        return error_set(err, MIL_INPUT,
                         "layers_to_transform does not go with target_modules as one pattern");
    if (json_is_integer(v)) return MIL_OK;
    if (!json_is_array(v))
        return error_set(err, MIL_INPUT,
                         "layers_to_transform must be an integer or a list of them");
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_integer(json_array_get(v, i)))
            return error_set(err, MIL_INPUT, "layers_to_transform[%zu] is not an integer", i);
    return MIL_OK;
}

static bool layer_wanted(const json_t *root, int64_t layer) {
    const json_t *v = json_object_get(root, "layers_to_transform");
    if (is_neutral(v)) return true;
    if (json_is_integer(v)) return json_integer_value(v) == layer;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (json_integer_value(json_array_get(v, i)) == layer) return true;
    return false;
}

enum mil_status peft_config_select(const struct peft_config *c, int64_t layers, bool *selected,
                                   struct mil_error *err) {
    struct target_rules in = {.where = "target_modules",
                              .names = c->targets,
                              .n = c->n_targets,
                              .regex = c->targets_regex};
    struct target_rules out = {.where = "exclude_modules",
                               .names = c->excluded,
                               .n = c->n_excluded,
                               .regex = c->excluded_regex};
    int64_t n = layers * MODULES;
    TRY(select_modules(layers, &in, false, selected, err));
    bool *excluded = mem_alloc(MEM_OTHER, (size_t)n, sizeof *excluded);
    if (!excluded) return error_nomem(err, 0);
    enum mil_status st = select_modules(layers, &out, false, excluded, err);
    for (int64_t i = 0; i < n && st == MIL_OK; i++)
        selected[i] = selected[i] && !excluded[i] && layer_wanted(c->json, i / MODULES);
    mem_free(excluded);
    return st;
}

/* ---- ranks ---- */

/* The value of the first key of `patterns` that matches the module's name, as PEFT looks it up:
 * the key is a regular expression for the name or for its end after a dot. */
static enum mil_status pattern_value(const json_t *patterns, const char *where, const char *module,
                                     const json_t **value, struct mil_error *err) {
    const char *key;
    json_t *v;
    *value = NULL;
    json_object_foreach((json_t *)patterns, key, v) {
        bool matches = false;
        TRY(pattern_names(where, key, module, &matches, err));
        if (!matches) continue;
        *value = v;
        return MIL_OK;
    }
    return MIL_OK;
}

enum mil_status peft_config_rank(const struct peft_config *c, const char *module, int64_t *r,
                                 double *alpha, struct mil_error *err) {
    const json_t *v;
    *r = c->r;
    *alpha = c->alpha;
    TRY(pattern_value(json_object_get(c->json, "rank_pattern"), "rank_pattern", module, &v, err));
    if (v) *r = json_integer_value(v); /* 0 for another type */
    if (*r < 1 || *r > MODEL_MAX_WIDTH)
        return error_set(err, MIL_INPUT, "rank_pattern: the rank of %s must be 1 to %d", module,
                         MODEL_MAX_WIDTH);
    TRY(pattern_value(json_object_get(c->json, "alpha_pattern"), "alpha_pattern", module, &v, err));
    if (v && !json_is_number(v))
        return error_set(err, MIL_INPUT, "alpha_pattern: the alpha of %s is not a number", module);
    if (v) *alpha = json_number_value(v);
    if (c->rslora) *alpha *= sqrt((double)*r); /* scale alpha / sqrt(r) */
    if (!isfinite(*alpha))
        return error_set(err, MIL_INPUT, "alpha_pattern: the alpha of %s is not finite", module);
    return MIL_OK;
}

/* ---- the file ---- */

static enum mil_status check_object(const json_t *root, const char *key, struct mil_error *err) {
    const json_t *v = json_object_get(root, key);
    if (is_neutral(v) || json_is_object(v)) return MIL_OK;
    return error_set(err, MIL_INPUT, "%s must be an object", key);
}

static enum mil_status read_fields(struct peft_config *c, struct mil_error *err) {
    const json_t *o = c->json;
    const char *type = NULL, *bias = "none";
    const char *where = "adapter";
    if (!json_is_object(o)) return error_set(err, MIL_INPUT, "the file is not a JSON object");
    TRY(json_member_str(o, where, "peft_type", true, &type, err));
    if (strcmp(type, "LORA") != 0)
        return error_set(err, MIL_UNSUPPORTED, "peft_type is '%.32s': only LORA is supported",
                         type);
    TRY(check_keys(o, err));
    TRY(check_init(o, err));
    TRY(json_member_str(o, where, "bias", false, &bias, err));
    if (strcmp(bias, "none") != 0)
        return error_set(err, MIL_UNSUPPORTED, "bias is '%.32s': only 'none' is supported", bias);
    TRY(json_member_i64(o, where, "r", true, 1, MODEL_MAX_WIDTH, &c->r, err));
    TRY(json_member_f64(o, where, "lora_alpha", true, -1e9, 1e9, &c->alpha, err));
    TRY(json_member_f64(o, where, "lora_dropout", false, 0, 0.999999, &c->dropout, err));
    TRY(json_member_bool(o, where, "use_rslora", false, &c->rslora, err));
    TRY(json_member_str(o, where, "base_model_name_or_path", false, &c->base_path, err));
    TRY(check_object(o, "rank_pattern", err));
    TRY(check_object(o, "alpha_pattern", err));
    TRY(targets_read(o, "target_modules", &c->targets, &c->n_targets, &c->targets_regex, err));
    TRY(targets_read(o, "exclude_modules", &c->excluded, &c->n_excluded, &c->excluded_regex, err));
    if (c->n_targets == 0) return error_set(err, MIL_INPUT, "target_modules is missing or empty");
    return check_layers(o, c, err);
}

enum mil_status peft_config_read(const char *path, struct peft_config *out, struct mil_error *err) {
    memset(out, 0, sizeof *out);
    TRY(json_read_file(path, &out->json, err));
    enum mil_status st = read_fields(out, err);
    if (st == MIL_OK) return MIL_OK;
    error_prefix(err, "%s: ", path);
    peft_config_release(out);
    return st;
}

void peft_config_release(struct peft_config *c) {
    mem_free(c->targets);
    mem_free(c->excluded);
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}
