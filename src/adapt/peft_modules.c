/* SPDX-License-Identifier: Apache-2.0 */
/* peft_modules.c - what an adapter_config.json gives each module: rank, alpha, and of an AdaLoRA which triplets were
 * kept.
 *
 * PEFT looks a module up in rank_pattern and alpha_pattern by a regular expression for its name, or for the name's end
 * after a dot; the first that matches counts.  AdaLoRA's rank_pattern is another thing: under the name of each Lambda
 * a list of booleans, one a triplet. */
#include <math.h>
#include <stdio.h>

#include "adapt/files.h"

/* ---- ranks ---- */

static enum mil_status pattern_value(const char *where, const struct adapter_pattern *patterns,
                                     size_t n, const char *module, double *found,
                                     struct mil_error *err) {
    for (size_t i = 0; i < n; i++) {
        bool matches;
        TRY(pattern_names(where, patterns[i].pattern, module, &matches, err));
        if (!matches) continue;
        *found = patterns[i].value;
        return MIL_OK;
    }
    return MIL_OK;
}

enum mil_status options_rank(const struct adapter_options *o, const char *module, int64_t *r,
                             double *alpha, struct mil_error *err) {
    double rank = (double)o->r;
    *alpha = o->alpha;
    TRY(pattern_value("rank_pattern", o->ranks, o->n_ranks, module, &rank, err));
    TRY(pattern_value("alpha_pattern", o->alphas, o->n_alphas, module, alpha, err));
    *r = (int64_t)rank;
    return MIL_OK;
}

enum mil_status peft_config_rank(const struct peft_config *c, const char *module, int64_t *r,
                                 double *alpha, struct mil_error *err) {
    TRY(options_rank(&c->options, module, r, alpha, err));
    if (c->options.rslora) *alpha *= sqrt((double)*r); /* scale alpha / sqrt(r) */
    return MIL_OK;
}

/* ---- masks ---- */

size_t peft_config_masks(const struct peft_config *c) {
    return c->kind == PEFT_ADALORA ? json_object_size(json_object_get(c->json, "rank_pattern")) : 0;
}

/* PEFT names Lambda with or without the adapter's name behind it, and since models are wrapped, with or without
 * what it is wrapped in. */
static enum mil_status find_mask(const struct peft_config *c, const char *module,
                                 const json_t **out, struct mil_error *err) {
    static const char *const before[] = {"", "base_model.model."}, *const after[] = {"",
                                                                                     ".default"};
    const json_t *masks = json_object_get(c->json, "rank_pattern");
    *out = NULL;
    for (int i = 0; i < 4; i++) {
        char key[MODULE_NAME_CAP + 64];
        snprintf(key, sizeof key, "%s%s.lora_E%s", before[i / 2], module, after[i % 2]);
        const json_t *found = json_object_get(masks, key);
        if (found && *out)
            return error_set(err, MIL_INPUT, "rank_pattern has two masks for %s", module);
        if (found) *out = found;
    }
    return MIL_OK;
}

enum mil_status peft_config_mask(const struct peft_config *c, const char *module, bool *flags,
                                 int64_t *kept, bool *named, struct mil_error *err) {
    const json_t *mask;
    int64_t r = c->options.r;
    TRY(find_mask(c, module, &mask, err));
    *named = mask != NULL;
    *kept = 0;
    if (mask && (!json_is_array(mask) || json_array_size(mask) != (size_t)r))
        return error_set(err, MIL_INPUT,
                         "rank_pattern: the mask of %s must be a list of init_r = %lld booleans",
                         module, (long long)r);
    for (int64_t t = 0; t < r; t++) {
        const json_t *v = mask ? json_array_get(mask, (size_t)t) : NULL;
        if (mask && !json_is_boolean(v))
            return error_set(err, MIL_INPUT, "rank_pattern: entry %lld of %s is not a boolean",
                             (long long)t, module);
        flags[t] = !mask || json_is_true(v);
        *kept += flags[t];
    }
    return MIL_OK;
}
