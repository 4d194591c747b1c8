/* SPDX-License-Identifier: Apache-2.0 */
/* continue.c - the keys of a configuration as a saved adapter has them; see continue.h.
 *
 * PEFT's own adapters have no method: a LoRA is `lora`, with a magnitude `dora`, an AdaLoRA `adalora`, one of MiCA `mica`;
 * a given method that trains the same (lora_plus over a LoRA) is as good.  Values are compared as the keys normalise them,
 * lists of names as sets. */
#include "train/continue.h"

#include <string.h>

#include "io/json.h"

static bool given(const struct config *c, const char *key) {
    size_t n;
    const struct config_key *keys = config_keys(&n);
    return c->given[config_key_find(key) - keys];
}

static enum mil_status copy_config(struct config *to, const struct config *from,
                                   struct mil_error *err) {
    size_t n;
    const struct config_key *keys = config_keys(&n);
    TRY(config_init(to, err));
    for (size_t i = 0; i < n; i++)
        TRY(config_set(to, keys[i].name, json_object_get(from->values, keys[i].name), "", MIL_USAGE,
                       err));
    return MIL_OK;
}

/* ---- values of an adapter ---- */

static json_t *name_list(const char *const *names, size_t n, bool pattern) {
    if (n == 0) return json_null();
    if (pattern) return json_string(names[0]);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
    return list;
}

static json_t *layer_list(const struct adapter_options *o) {
    if (o->n_layers == 0) return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < o->n_layers; i++)
        json_array_append_new(list, json_integer(o->layers[i]));
    return list;
}

static json_t *pattern_map(const struct adapter_pattern *p, size_t n) {
    json_t *map = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(map, p[i].pattern, json_real(p[i].value));
    return map;
}

/* What trains as a whole is what the file holds. */
static json_t *whole_list(const struct adapter *a) {
    struct adapter_tensor t;
    size_t n = adapter_tensor_count(a);
    json_t *list = json_array();
    for (size_t i = n - a->n_wholes; i < n; i++) {
        adapter_tensor_at(a, i, &t);
        if (strcmp(t.name, "model.embed_tokens.weight") == 0)
            json_array_append_new(list, json_string("embed_tokens"));
        if (strcmp(t.name, "lm_head.weight") == 0)
            json_array_append_new(list, json_string("lm_head"));
    }
    if (json_array_size(list) > 0) return list;
    json_decref(list);
    return json_null();
}

static json_t *bias_value(const struct adapter *a) {
    const char *const *names = config_key_find("bias")->choices;
    struct adapter_tensor t;
    if (a->n_wholes == 0) return json_string(names[0]);
    adapter_tensor_at(a, adapter_tensor_count(a) - 1, &t); /* biases come last */
    return json_string(names[str_ends(t.name, ".bias") ? a->options.bias : BIAS_NONE]);
}

/* ---- one key ---- */

static bool is_set(const json_t *v) {
    return json_is_array(v) || json_is_null(v);
}

static bool has(const json_t *list, const json_t *value) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value)) return true;
    return false;
}

static bool same(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    if (!is_set(a) || !is_set(b)) return json_equal(a, b);
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!has(b, json_array_get(a, i))) return false;
    for (size_t i = 0; i < json_array_size(b); i++)
        if (!has(a, json_array_get(b, i))) return false;
    return true;
}

static enum mil_status conflict(const struct config *c, const char *key, const json_t *mine,
                                const json_t *its, struct mil_error *err) {
    struct str a = {0}, b = {0};
    json_append(mine, -1, &a);
    json_append(its, -1, &b);
    enum mil_status st = error_set(
        err, MIL_USAGE,
        "%s is %.100s, but the adapter of adapter_name_or_path (%.200s) has %.100s: leave "
        "the key out",
        key, str_c(&a), c->adapter_name_or_path, str_c(&b));
    str_release(&a);
    str_release(&b);
    return st;
}

/* Key of c becomes `value` (taken over), which a given one must be already. */
static enum mil_status take(struct config *c, const struct config *from, const char *key,
                            json_t *value, struct mil_error *err) {
    json_t *normal = NULL;
    if (!value) return error_nomem(err, 0);
    enum mil_status st = config_normalise(config_key_find(key), value, "", MIL_USAGE, &normal, err);
    json_decref(value);
    const json_t *mine = json_object_get(from->values, key);
    if (st == MIL_OK && given(from, key) && !same(mine, normal))
        st = conflict(from, key, mine, normal, err);
    else if (st == MIL_OK && !given(from, key))
        st = config_set(c, key, normal, "", MIL_USAGE, err);
    json_decref(normal);
    return st;
}

/* The same of a key that may be given anew. */
static enum mil_status take_unless(struct config *c, const struct config *from, const char *key,
                                   json_t *value, struct mil_error *err) {
    if (!given(from, key)) return take(c, from, key, value, err);
    json_decref(value);
    return MIL_OK;
}

/* ---- all keys ---- */

/* Another method that trains PEFT's adapter as it is. */
static bool method_fits(const struct adapter *a, const char *name) {
    const struct method *m;
    if (a->method || method_find(name, &m, NULL) != MIL_OK || !m->adapter) return false;
    const struct delta *d = a->deltas;
    return m->form == d->form && (!m->dora || d->dora) && (!m->rslora || a->options.rslora);
}

static enum mil_status take_method(struct config *c, const struct config *from,
                                   const struct adapter *a, struct mil_error *err) {
    if (given(from, "method") && method_fits(a, from->method)) return MIL_OK;
    return take(c, from, "method", json_string(adapter_method_name(a)), err);
}

static enum mil_status take_modules(struct config *c, const struct config *from,
                                    const struct adapter *a, struct mil_error *err) {
    const struct adapter_options *o = &a->options;
    TRY(take(c, from, "target_modules", name_list(o->targets, o->n_targets, o->targets_regex),
             err));
    TRY(take(c, from, "exclude_modules", name_list(o->excluded, o->n_excluded, o->excluded_regex),
             err));
    TRY(take(c, from, "layers_to_transform", layer_list(o), err));
    TRY(take(c, from, "modules_to_save", whole_list(a), err));
    return take(c, from, "bias", bias_value(a), err);
}

static enum mil_status take_adalora(struct config *c, const struct config *from,
                                    const struct adapter *a, struct mil_error *err) {
    const struct adalora_options *o = &a->options.adalora;
    bool schedule = given(from, "target_r") || given(from, "tinit") || given(from, "tfinal") ||
                    given(from, "deltaT");
    int64_t target = o->target_r > 0 && o->target_r <= o->init_r ? o->target_r : o->init_r;
    TRY(take_unless(c, from, "r", json_integer(target), err)); /* names the target, no more */
    TRY(take(c, from, "init_r", json_integer(a->options.r), err));
    TRY(take_unless(c, from, "target_r", json_integer(target), err));
    TRY(take_unless(c, from, "beta1", json_real(o->beta1 > 0 ? o->beta1 : 0.85), err));
    TRY(take_unless(c, from, "beta2", json_real(o->beta2 > 0 ? o->beta2 : 0.85), err));
    if (o->orth_reg_weight >= 0)
        TRY(take_unless(c, from, "orth_reg_weight", json_real(o->orth_reg_weight), err));
    if (schedule) return MIL_OK;
    TRY(take(c, from, "tinit", json_integer(0), err));
    return take(c, from, "tfinal", json_integer(ADALORA_FINAL), err);
}

static enum mil_status take_all(struct config *c, const struct config *from,
                                const struct adapter *a, struct mil_error *err) {
    const struct adapter_options *o = &a->options;
    bool scaled = a->deltas[0].form == DELTA_SCALED;
    TRY(take_method(c, from, a, err));
    if (scaled) TRY(take_adalora(c, from, a, err));
    if (!scaled) TRY(take(c, from, "r", json_integer(o->r), err));
    TRY(take(c, from, "lora_alpha", json_real(o->alpha), err));
    TRY(take(c, from, "use_rslora", json_boolean(o->rslora), err));
    TRY(take(c, from, "use_dora", json_boolean(o->dora), err));
    TRY(take(c, from, "rank_pattern", pattern_map(o->ranks, o->n_ranks), err));
    TRY(take(c, from, "alpha_pattern", pattern_map(o->alphas, o->n_alphas), err));
    TRY(take_unless(c, from, "lora_dropout", json_real(o->dropout), err));
    if (a->method && o->lr_ratio > 0 && o->lr_ratio != 1)
        TRY(take_unless(c, from, "loraplus_lr_ratio", json_real(o->lr_ratio), err));
    return take_modules(c, from, a, err);
}

enum mil_status continue_config(const struct config *from, struct config *to,
                                struct mil_error *err) {
    struct adapter *a;
    TRY(copy_config(to, from, err));
    const struct method *method;
    if (!from->adapter_name_or_path || method_find(from->method, &method, NULL) != MIL_OK ||
        !method->adapter)
        return MIL_OK; /* config_check tells */
    enum mil_status st = adapter_load(from->adapter_name_or_path, NULL, &a, err);
    if (st == MIL_OK) {
        st = take_all(to, from, a, err);
        adapter_free(&a);
    } else {
        error_prefix(err, "adapter_name_or_path: ");
    }
    return st;
}

enum mil_status continue_adapter(const struct config *c, const struct checkpoint *base,
                                 struct adapter **out, struct mil_error *err) {
    struct adapter_options o;
    enum mil_status st = adapter_load(c->adapter_name_or_path, base, out, err);
    config_adapter_options(c, &o);
    if (st == MIL_OK) st = adapter_continue(*out, base, &o, err);
    if (st != MIL_OK) error_prefix(err, "adapter_name_or_path: ");
    return st;
}
