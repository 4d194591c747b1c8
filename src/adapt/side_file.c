/* SPDX-License-Identifier: Apache-2.0 */
/* side_file.c - reading milora.json: the method and its options as trained, which PEFT's configuration does not have.
 * A member that an older version did not write has the value that it stood for. */
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"

static enum mil_status read_format(const json_t *o, const char *path, struct side_file *s,
                                   struct mil_error *err) {
    const char *format = NULL, *method = NULL;
    int64_t version = 0;
    TRY(json_member_str(o, path, "format", true, &format, err));
    if (strcmp(format, "milora-adapter") != 0)
        return error_set(err, MIL_INPUT, "%s: format is '%.32s', not 'milora-adapter'", path,
                         format);
    TRY(json_member_i64(o, path, "version", true, 1, INT64_MAX, &version, err));
    if (version > 1)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: format version %lld, this program reads 1; use a newer milora", path,
                         (long long)version);
    TRY(json_member_str(o, path, "method", true, &method, err));
    enum mil_status st = method_find(method, &s->method, err);
    if (st != MIL_OK) {
        error_prefix(err, "%s: ", path);
        return st;
    }
    if (!s->method->adapter)
        return error_set(err, MIL_INPUT, "%s: method '%s' has no adapter", path, method);
    return MIL_OK;
}

static enum mil_status read_numbers(const json_t *o, const char *path, struct adapter_options *to,
                                    struct mil_error *err) {
    int64_t seed = 0;
    TRY(json_member_i64(o, path, "r", true, 1, MODEL_MAX_WIDTH, &to->r, err));
    TRY(json_member_f64(o, path, "lora_alpha", true, 1e-9, 1e9, &to->alpha, err));
    TRY(json_member_f64(o, path, "lora_dropout", false, 0, 0.999999, &to->dropout, err));
    TRY(json_member_i64(o, path, "seed", false, INT64_MIN, INT64_MAX, &seed, err));
    TRY(json_member_bool(o, path, "use_rslora", false, &to->rslora, err));
    TRY(json_member_bool(o, path, "use_dora", false, &to->dora, err));
    TRY(json_member_f64(o, path, "loraplus_lr_ratio", false, 1e-9, 1e9, &to->lr_ratio, err));
    to->seed = (uint64_t)seed;
    return bias_read(o, path, &to->bias, err);
}

static enum mil_status read_modules(const json_t *o, const char *path, struct adapter_options *to,
                                    struct mil_error *err) {
    const struct pattern_range rank = {true, 1, MODEL_MAX_WIDTH}, alpha = {false, 1e-9, 1e9};
    bool is_string;
    TRY(names_read(o, "target_modules", &to->targets, &to->n_targets, &is_string, err));
    TRY(json_member_bool(o, path, "target_modules_regex", false, &to->targets_regex, err));
    TRY(names_read(o, "exclude_modules", &to->excluded, &to->n_excluded, &is_string, err));
    TRY(json_member_bool(o, path, "exclude_modules_regex", false, &to->excluded_regex, err));
    TRY(layers_read(o, to, err));
    TRY(patterns_read(o, "rank_pattern", rank, &to->ranks, &to->n_ranks, err));
    TRY(patterns_read(o, "alpha_pattern", alpha, &to->alphas, &to->n_alphas, err));
    return saved_modules_read(o, to, err);
}

static enum mil_status read_adalora(const json_t *root, const char *path, struct adalora_options *a,
                                    struct mil_error *err) {
    const json_t *o = json_object_get(root, "adalora");
    if (!json_is_object(o)) return error_set(err, MIL_INPUT, "%s: 'adalora' is missing", path);
    TRY(json_member_i64(o, path, "target_r", true, 1, MODEL_MAX_WIDTH, &a->target_r, err));
    TRY(json_member_i64(o, path, "init_r", true, 1, MODEL_MAX_WIDTH, &a->init_r, err));
    TRY(json_member_i64(o, path, "tinit", true, -1, INT64_MAX, &a->tinit, err));
    TRY(json_member_i64(o, path, "tfinal", true, -1, INT64_MAX, &a->tfinal, err));
    TRY(json_member_i64(o, path, "deltaT", true, 0, INT64_MAX, &a->delta_t, err));
    TRY(json_member_f64(o, path, "beta1", true, 0, 1, &a->beta1, err));
    TRY(json_member_f64(o, path, "beta2", true, 0, 1, &a->beta2, err));
    return json_member_f64(o, path, "orth_reg_weight", true, 0, 1e6, &a->orth_reg_weight, err);
}

static enum mil_status read_lora_ga(const json_t *root, const char *path, struct lora_ga_options *g,
                                    struct mil_error *err) {
    const json_t *o = json_object_get(root, "lora_ga");
    int64_t direction = 0, scale = 0;
    if (!json_is_object(o)) return error_set(err, MIL_INPUT, "%s: 'lora_ga' is missing", path);
    TRY(json_member_i64(o, path, "batches", true, 1, INT64_MAX, &g->batches, err));
    TRY(json_member_i64(o, path, "direction", true, 0, LORA_GA_RANDOM, &direction, err));
    TRY(json_member_i64(o, path, "scale", true, 0, LORA_GA_UNIT, &scale, err));
    g->direction = (enum lora_ga_direction)direction;
    g->scale = (enum lora_ga_scale)scale;
    return json_member_f64(o, path, "stable_gamma", true, 0, 1e9, &g->stable_gamma, err);
}

static enum mil_status read_base(const json_t *o, const char *path, struct side_file *s,
                                 struct mil_error *err) {
    const json_t *base = json_object_get(o, "base");
    const char *fingerprint = "";
    if (!json_is_object(base)) return error_set(err, MIL_INPUT, "%s: 'base' is missing", path);
    TRY(json_member_i64(base, path, "layers", true, 1, MODEL_MAX_LAYERS, &s->layers, err));
    TRY(json_member_str(base, path, "fingerprint", false, &fingerprint, err));
    snprintf(s->fingerprint, sizeof s->fingerprint, "%s", fingerprint);
    return MIL_OK;
}

static enum mil_status read_fields(const json_t *o, const char *path, struct side_file *s,
                                   struct mil_error *err) {
    struct adapter_options *to = &s->options;
    TRY(read_format(o, path, s, err));
    to->method = s->method->name;
    to->lr_ratio = s->method->lr_ratio > 0 ? s->method->lr_ratio : 1;
    TRY(read_numbers(o, path, to, err));
    TRY(read_modules(o, path, to, err));
    if (s->method->form == DELTA_SCALED) TRY(read_adalora(o, path, &to->adalora, err));
    if (s->method->needs_gradient) TRY(read_lora_ga(o, path, &to->lora_ga, err));
    return read_base(o, path, s, err);
}

enum mil_status side_file_read(const char *dir, struct side_file *out, struct mil_error *err) {
    char path[PATH_CAP];
    memset(out, 0, sizeof *out);
    TRY(path_join(path, dir, "milora.json", err));
    if (!path_exists(path)) return MIL_OK;
    TRY(json_read_file(path, &out->json, err));
    enum mil_status st = read_fields(out->json, path, out, err);
    if (st != MIL_OK) side_file_release(out);
    return st;
}

void side_file_release(struct side_file *s) {
    lists_release(&s->options);
    json_decref(s->json);
    memset(s, 0, sizeof *s);
}
