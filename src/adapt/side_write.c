/* SPDX-License-Identifier: Apache-2.0 */
/* side_write.c - milora.json of an adapter: what PEFT's configuration does not say, docs/formats/adapter.md.  Members
 * that say nothing (a pattern that is not there, options of another method) are left out. */
#include "adapt/files.h"
#include "io/file.h"
#include "io/json.h"

/* ---- which rows and columns hold what ---- */

/* Rows [begin, end) of lora_A, or columns of lora_B, hold `what`: numbers where every module has rank r, else in
 * multiples of the module's own. */
static json_t *part(const char *what, int64_t begin, int64_t end, int64_t r) {
    static const char *const multiples[] = {"0", "r", "2r"};
    if (r > 0)
        return json_pack("{s:s, s:[I, I]}", "holds", what, "range", (json_int_t)(begin * r),
                         (json_int_t)(end * r));
    return json_pack("{s:s, s:[s, s]}", "holds", what, "range", multiples[begin], multiples[end]);
}

/* The rank of every module; 0: they differ, or will. */
static int64_t common_rank(const struct adapter *a) {
    for (size_t i = 0; i < a->n; i++)
        if (a->deltas[i].r != a->options.r || a->deltas[i].form == DELTA_SCALED) return 0;
    return a->options.r;
}

static json_t *layout(const struct adapter *a) {
    int64_t r = common_rank(a);
    switch (a->method->form) {
    case DELTA_PAIR:
        return json_pack("{s:[o, o], s:[o, o]}", "lora_A_rows", part("A", 0, 1, r),
                         part("dA", 1, 2, r), "lora_B_columns", part("dB", 0, 1, r),
                         part("B0", 1, 2, r));
    case DELTA_FIXED_B:
        return json_pack("{s:[o], s:[o]}", "lora_A_rows", part("dA", 0, 1, r), "lora_B_columns",
                         part("B0", 0, 1, r));
    case DELTA_SCALED:
        return json_pack("{s:[o], s:[o], s:[o]}", "lora_A_rows", part("Q", 0, 1, r),
                         "lora_B_columns", part("P", 0, 1, r), "lora_E_rows",
                         part("Lambda", 0, 1, r));
    default:
        return json_pack("{s:[o], s:[o]}", "lora_A_rows", part("A", 0, 1, r), "lora_B_columns",
                         part("dB", 0, 1, r));
    }
}

/* ---- options ---- */

static json_t *name_list(const char *const *names, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
    return list;
}

static void put_names(json_t *o, const char *key, const char *const *names, size_t n) {
    if (n) json_object_set_new(o, key, name_list(names, n));
}

static void put_patterns(json_t *o, const char *key, const struct adapter_pattern *p, size_t n) {
    if (n == 0) return;
    json_t *map = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(map, p[i].pattern, json_number(p[i].value));
    json_object_set_new(o, key, map);
}

static void put_layers(json_t *o, const struct adapter_options *from) {
    if (from->n_layers == 0) return;
    json_t *list = json_array();
    for (size_t i = 0; i < from->n_layers; i++)
        json_array_append_new(list, json_integer(from->layers[i]));
    json_object_set_new(o, "layers_to_transform", list);
}

static void put_options(json_t *o, const struct adapter *a) {
    const struct adapter_options *from = &a->options;
    if (from->rslora) json_object_set_new(o, "use_rslora", json_true());
    if (from->dora) json_object_set_new(o, "use_dora", json_true());
    if (from->lr_ratio > 0 && from->lr_ratio != 1)
        json_object_set_new(o, "loraplus_lr_ratio", json_real(from->lr_ratio));
    put_patterns(o, "rank_pattern", from->ranks, from->n_ranks);
    put_patterns(o, "alpha_pattern", from->alphas, from->n_alphas);
    put_names(o, "exclude_modules", from->excluded, from->n_excluded);
    if (from->n_excluded && from->excluded_regex)
        json_object_set_new(o, "exclude_modules_regex", json_true());
    put_layers(o, from);
    put_names(o, "modules_to_save", from->saved_modules, from->n_saved_modules);
    if (from->bias != BIAS_NONE) json_object_set_new(o, "bias", json_string(bias_name(from->bias)));
}

/* The schedule, and the rank that each module has now. */
static void put_adalora(json_t *o, const struct adapter *a) {
    const struct adalora_options *s = &a->options.adalora;
    json_t *ranks = json_object();
    for (size_t i = 0; i < a->n; i++) {
        char name[MODULE_NAME_CAP];
        module_name(name, a->deltas[i].layer, a->deltas[i].module);
        json_object_set_new(ranks, name, json_integer(adalora_rank(&a->deltas[i])));
    }
    json_object_set_new(o, "adalora",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "target_r",
                                  (json_int_t)s->target_r, "init_r", (json_int_t)s->init_r, "tinit",
                                  (json_int_t)s->tinit, "tfinal", (json_int_t)s->tfinal, "deltaT",
                                  (json_int_t)s->delta_t, "beta1", s->beta1, "beta2", s->beta2,
                                  "orth_reg_weight", s->orth_reg_weight));
    json_object_set_new(o, "ranks", ranks);
}

static void put_lora_ga(json_t *o, const struct lora_ga_options *g) {
    json_object_set_new(o, "lora_ga",
                        json_pack("{s:I, s:i, s:i, s:f}", "batches", (json_int_t)g->batches,
                                  "direction", (int)g->direction, "scale", (int)g->scale,
                                  "stable_gamma", g->stable_gamma));
}

static json_t *side_json(const struct adapter *a) {
    const struct adapter_options *from = &a->options;
    json_t *o = json_pack(
        "{s:s, s:i, s:s, s:s, s:I, s:f, s:f, s:I, s:o, s:b, s:I}", "format", "milora-adapter",
        "version", 1, "program", "milora " MILORA_VERSION, "method", a->method->name, "r",
        (json_int_t)from->r, "lora_alpha", from->alpha, "lora_dropout", from->dropout, "seed",
        (json_int_t)from->seed, "target_modules", name_list(from->targets, from->n_targets),
        "target_modules_regex", (int)from->targets_regex, "modules", (json_int_t)a->n);
    if (!o) return NULL;
    put_options(o, a);
    if (a->method->form == DELTA_SCALED) put_adalora(o, a);
    if (a->method->needs_gradient) put_lora_ga(o, &from->lora_ga);
    json_t *base = json_pack("{s:s, s:s, s:I}", "name_or_path", a->base_path, "fingerprint",
                             a->base_fingerprint, "layers", (json_int_t)a->layers);
    if (base && json_object_set_new(o, "base", base) == 0 &&
        json_object_set_new(o, "layout", layout(a)) == 0)
        return o;
    json_decref(o);
    return NULL;
}

enum mil_status side_file_write(const struct adapter *a, const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "milora.json", err));
    json_t *o = side_json(a);
    if (!o)
        return error_set(err, MIL_USAGE,
                         "%s: the base's path or a target is not UTF-8, or out of memory", path);
    enum mil_status st = json_write_file(path, o, err);
    json_decref(o);
    return st;
}
