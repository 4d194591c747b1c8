/* SPDX-License-Identifier: Apache-2.0 */
/* peft_config.c - reading an adapter_config.json: what it asks for, and refusal by name of what
 * this program does not do.
 *
 * A key that is known to change the function must be at its neutral value.  An unknown key that is
 * switched on (true, or a non-empty object or list) is refused too, because it may change the
 * function; an unknown number or string belongs to a switch that is off, and is only noticed. */
#include <math.h>
#include <string.h>

#include "adapt/files.h"
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
                                    "use_dora",
                                    "modules_to_save",
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
                                    "ensure_weight_tying",
                                    "init_r",
                                    "target_r",
                                    "tinit",
                                    "tfinal",
                                    "deltaT",
                                    "beta1",
                                    "beta2",
                                    "orth_reg_weight",
                                    "total_step"};
/* Change the function in ways not done here; `remedy` is what the user can do. */
static const struct {
    const char *key, *remedy;
} refused[] = {
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
static enum mil_status check_init(const json_t *root, bool *mica, struct mil_error *err) {
    static const char *const harmless[] = {"gaussian", "orthogonal", "eva", "mica"};
    const json_t *v = json_object_get(root, "init_lora_weights");
    const char *s = json_string_value(v);
    *mica = s && strcmp(s, "mica") == 0;
    if (!v || json_is_boolean(v) || json_is_null(v)) return MIL_OK;
    for (size_t i = 0; s && i < sizeof harmless / sizeof *harmless; i++)
        if (strcmp(s, harmless[i]) == 0) return MIL_OK;
    return error_set(
        err, MIL_UNSUPPORTED,
        "init_lora_weights is '%.32s': this adapter belongs to a changed base; convert "
        "it with PEFT (save_pretrained with path_initial_model_for_weight_conversion)",
        s ? s : "?");
}

static enum mil_status check_layers(const json_t *root, const struct adapter_options *o,
                                    struct mil_error *err) {
    const json_t *p = json_object_get(root, "layers_pattern");
    const char *pattern = json_string_value(json_is_array(p) ? json_array_get(p, 0) : p);
    if (!is_neutral(p) && (!pattern || strcmp(pattern, "layers") != 0 || json_array_size(p) > 1))
        return error_set(err, MIL_UNSUPPORTED, "layers_pattern: only 'layers' is supported");
    if (o->n_layers && o->targets_regex)
        return error_set(err, MIL_INPUT,
                         "layers_to_transform does not go with target_modules as one pattern");
    return MIL_OK;
}

/* ---- the file ---- */

static const char where[] = "adapter";

static enum mil_status read_kind(struct peft_config *c, struct mil_error *err) {
    const char *type = NULL;
    TRY(json_member_str(c->json, where, "peft_type", true, &type, err));
    c->kind = strcmp(type, "ADALORA") == 0 ? PEFT_ADALORA : PEFT_LORA;
    if (c->kind == PEFT_ADALORA || strcmp(type, "LORA") == 0) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED,
                     "peft_type is '%.32s': only LORA and ADALORA are supported", type);
}

/* PEFT's AdaLoRA takes no notice of use_rslora and alpha_pattern, and its rank_pattern holds masks; what it trained
 * with is kept for whoever goes on. */
static enum mil_status read_adalora(struct peft_config *c, struct mil_error *err) {
    const json_t *o = c->json, *masks = json_object_get(o, "rank_pattern");
    struct adalora_options *a = &c->options.adalora;
    *a = (struct adalora_options){.tinit = -1, .tfinal = -1, .orth_reg_weight = -1};
    TRY(json_member_i64(o, where, "init_r", true, 1, MODEL_MAX_WIDTH, &a->init_r, err));
    TRY(json_member_i64(o, where, "target_r", false, 1, MODEL_MAX_WIDTH, &a->target_r, err));
    TRY(json_member_i64(o, where, "deltaT", false, 1, INT64_MAX, &a->delta_t, err));
    TRY(json_member_f64(o, where, "beta1", false, 0, 1, &a->beta1, err));
    TRY(json_member_f64(o, where, "beta2", false, 0, 1, &a->beta2, err));
    TRY(json_member_f64(o, where, "orth_reg_weight", false, 0, 1e6, &a->orth_reg_weight, err));
    c->options.r = a->init_r;
    c->options.dora = c->options.rslora = false;
    if (!is_neutral(masks) && !json_is_object(masks))
        return error_set(err, MIL_INPUT, "rank_pattern must be an object");
    if (!is_neutral(json_object_get(o, "use_dora")))
        return error_set(err, MIL_INPUT, "use_dora is set, which AdaLoRA does not have");
    if (!(c->options.alpha > 0)) c->options.alpha = (double)a->init_r; /* PEFT's choice then */
    return MIL_OK;
}

static enum mil_status read_lora(struct peft_config *c, struct mil_error *err) {
    const json_t *o = c->json;
    struct adapter_options *to = &c->options;
    const struct pattern_range rank = {true, 1, MODEL_MAX_WIDTH}, alpha = {false, -1e9, 1e9};
    TRY(json_member_i64(o, where, "r", true, 1, MODEL_MAX_WIDTH, &to->r, err));
    TRY(json_member_bool(o, where, "use_rslora", false, &to->rslora, err));
    TRY(json_member_bool(o, where, "use_dora", false, &to->dora, err));
    TRY(patterns_read(o, "rank_pattern", rank, &to->ranks, &to->n_ranks, err));
    return patterns_read(o, "alpha_pattern", alpha, &to->alphas, &to->n_alphas, err);
}

static enum mil_status read_modules(struct peft_config *c, struct mil_error *err) {
    const json_t *o = c->json;
    struct adapter_options *to = &c->options;
    TRY(names_read(o, "target_modules", &to->targets, &to->n_targets, &to->targets_regex, err));
    TRY(names_read(o, "exclude_modules", &to->excluded, &to->n_excluded, &to->excluded_regex, err));
    TRY(layers_read(o, to, err));
    TRY(saved_modules_read(o, to, err));
    if (to->n_targets == 0) return error_set(err, MIL_INPUT, "target_modules is missing or empty");
    return check_layers(o, to, err);
}

static enum mil_status read_fields(struct peft_config *c, struct mil_error *err) {
    const json_t *o = c->json;
    struct adapter_options *to = &c->options;
    if (!json_is_object(o)) return error_set(err, MIL_INPUT, "the file is not a JSON object");
    TRY(read_kind(c, err));
    TRY(check_keys(o, err));
    TRY(check_init(o, &c->mica, err));
    TRY(bias_read(o, where, &to->bias, err));
    TRY(json_member_f64(o, where, "lora_alpha", true, -1e9, 1e9, &to->alpha, err));
    TRY(json_member_f64(o, where, "lora_dropout", false, 0, 0.999999, &to->dropout, err));
    TRY(json_member_str(o, where, "base_model_name_or_path", false, &c->base_path, err));
    to->lr_ratio = 1;
    TRY(c->kind == PEFT_ADALORA ? read_adalora(c, err) : read_lora(c, err));
    return read_modules(c, err);
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
    lists_release(&c->options);
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}
