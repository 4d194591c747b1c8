/* SPDX-License-Identifier: Apache-2.0 */
/* config_adapter.c - the keys of a configuration that describe an adapter, as the adapter layer takes them, and what
 * the method chooses where a key is left open. */
#include <string.h>

#include "train/config.h"

static bool is_pattern(const struct config *c, const char *key) {
    const json_t *v = json_object_get(c->values, key);
    return json_is_string(v) && strcmp(json_string_value(v), "all-linear") != 0;
}

/* Index of a value among its key's choices, which stand in the order of the enumeration. */
static int choice(const char *key, const char *value) {
    const char *const *names = config_key_find(key)->choices;
    int i = 0;
    while (names[i] && strcmp(value, names[i]) != 0) i++;
    return i;
}

static struct adalora_options adalora_options(const struct config *c) {
    return (struct adalora_options){.target_r = c->target_r,
                                    .init_r = c->init_r,
                                    .tinit = c->tinit,
                                    .tfinal = c->tfinal,
                                    .delta_t = c->delta_t,
                                    .beta1 = c->beta1,
                                    .beta2 = c->beta2,
                                    .orth_reg_weight = c->orth_reg_weight};
}

static struct lora_ga_options lora_ga_options(const struct config *c) {
    return (struct lora_ga_options){
        .batches = c->lora_ga_batches,
        .direction = (enum lora_ga_direction)choice("lora_ga_direction", c->lora_ga_direction),
        .scale = (enum lora_ga_scale)choice("lora_ga_scale", c->lora_ga_scale),
        .stable_gamma = c->lora_ga_stable_gamma};
}

void config_adapter_options(const struct config *c, struct adapter_options *out) {
    *out = (struct adapter_options){.method = c->method,
                                    .r = c->r,
                                    .alpha = c->lora_alpha,
                                    .dropout = c->lora_dropout,
                                    .targets = c->target_modules.items,
                                    .n_targets = c->target_modules.n,
                                    .targets_regex = is_pattern(c, "target_modules"),
                                    .excluded = c->exclude_modules.items,
                                    .n_excluded = c->exclude_modules.n,
                                    .excluded_regex = is_pattern(c, "exclude_modules"),
                                    .layers = c->layers_to_transform.items,
                                    .n_layers = c->layers_to_transform.n,
                                    .ranks = c->rank_pattern.items,
                                    .n_ranks = c->rank_pattern.n,
                                    .alphas = c->alpha_pattern.items,
                                    .n_alphas = c->alpha_pattern.n,
                                    .saved_modules = c->modules_to_save.items,
                                    .n_saved_modules = c->modules_to_save.n,
                                    .bias = (enum adapter_bias)choice("bias", c->bias),
                                    .rslora = c->use_rslora,
                                    .dora = c->use_dora,
                                    .lr_ratio = c->loraplus_lr_ratio,
                                    .adalora = adalora_options(c),
                                    .lora_ga = lora_ga_options(c),
                                    .seed = (uint64_t)c->seed};
}

/* false: method full, or options that are not sound (config_check tells). */
static bool resolve(const struct config *c, struct adapter_options *out,
                    const struct method **method) {
    struct adapter_options given;
    config_adapter_options(c, &given);
    return adapter_resolve(&given, out, method, NULL) == MIL_OK;
}

double config_alpha(const struct config *c) {
    struct adapter_options o;
    const struct method *method;
    return resolve(c, &o, &method) ? o.alpha : c->lora_alpha;
}

/* Random weights take a rate of pretraining's size; that of method full suits trained ones. */
#define SCRATCH_RATE 3e-4

double config_learning_rate(const struct config *c) {
    const struct method *method;
    if (c->learning_rate >= 0) return c->learning_rate;
    if (c->from_scratch) return SCRATCH_RATE;
    return method_find(c->method, &method, NULL) == MIL_OK ? method->learning_rate : 0;
}

json_t *config_chosen(const struct config *c, const char *key) {
    struct adapter_options o;
    const struct method *method;
    if (!strcmp(key, "learning_rate")) return json_real(config_learning_rate(c));
    if (!resolve(c, &o, &method)) return NULL;
    if (!strcmp(key, "lora_alpha")) return json_real(o.alpha);
    if (!strcmp(key, "loraplus_lr_ratio") && o.lr_ratio != 1) return json_real(o.lr_ratio);
    if (method->form != DELTA_SCALED) return NULL;
    if (!strcmp(key, "target_r")) return json_integer(o.adalora.target_r);
    if (!strcmp(key, "init_r")) return json_integer(o.adalora.init_r);
    return NULL;
}
