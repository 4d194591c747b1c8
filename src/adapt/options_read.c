/* SPDX-License-Identifier: Apache-2.0 */
/* options_read.c - lists of names, patterns and numbers out of JSON, as adapter_config.json and milora.json both have
 * them.  Everything is bounded by the file; strings stay in the JSON tree. */
#include <math.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/json.h"

enum mil_status names_read(const json_t *root, const char *key, const char *const **names,
                           size_t *n, bool *regex, struct mil_error *err) {
    const json_t *v = json_object_get(root, key);
    *regex = json_is_string(v);
    size_t count = json_is_string(v) ? 1 : json_array_size(v);
    if (v && !json_is_null(v) && !json_is_string(v) && !json_is_array(v))
        return error_set(err, MIL_INPUT, "%s must be a list of names or one pattern", key);
    const char **list = mem_calloc(MEM_ADAPTER, count, sizeof *list);
    *names = list;
    if (!list) return error_nomem(err, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = json_string_value(json_is_string(v) ? v : json_array_get(v, i));
        if (!list[i]) return error_set(err, MIL_INPUT, "%s[%zu] is not a string", key, i);
    }
    *n = count;
    return MIL_OK;
}

static enum mil_status pattern_check(const char *where, const char *key, const json_t *v,
                                     struct pattern_range range, struct mil_error *err) {
    double x = json_number_value(v);
    bool typed = range.whole ? json_is_integer(v) : json_is_number(v);
    if (typed && x >= range.min && x <= range.max) return MIL_OK;
    return error_set(err, MIL_INPUT, "%s: the value of '%.100s' must be %s from %g to %g", where,
                     key, range.whole ? "a whole number" : "a number", range.min, range.max);
}

enum mil_status patterns_read(const json_t *root, const char *key, struct pattern_range range,
                              const struct adapter_pattern **out, size_t *n,
                              struct mil_error *err) {
    const json_t *map = json_object_get(root, key);
    const char *pattern;
    json_t *v;
    *n = 0;
    if (!map || json_is_null(map)) return MIL_OK;
    if (!json_is_object(map)) return error_set(err, MIL_INPUT, "%s must be an object", key);
    struct adapter_pattern *list = mem_calloc(MEM_ADAPTER, json_object_size(map), sizeof *list);
    *out = list;
    if (!list) return error_nomem(err, json_object_size(map) * sizeof *list);
    json_object_foreach((json_t *)map, pattern, v) {
        TRY(pattern_check(key, pattern, v, range, err));
        list[(*n)++] = (struct adapter_pattern){pattern, json_number_value(v)};
    }
    return MIL_OK;
}

enum mil_status layers_read(const json_t *root, struct adapter_options *o, struct mil_error *err) {
    const json_t *v = json_object_get(root, "layers_to_transform");
    size_t n = json_is_integer(v) ? 1 : json_array_size(v);
    if (v && !json_is_null(v) && !json_is_integer(v) && !json_is_array(v))
        return error_set(err, MIL_INPUT,
                         "layers_to_transform must be an integer or a list of them");
    if (n == 0) return MIL_OK;
    int64_t *list = mem_calloc(MEM_ADAPTER, n, sizeof *list);
    o->layers = list;
    if (!list) return error_nomem(err, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_integer(v) ? v : json_array_get(v, i);
        if (!json_is_integer(one))
            return error_set(err, MIL_INPUT, "layers_to_transform[%zu] is not an integer", i);
        list[i] = json_integer_value(one);
    }
    o->n_layers = n;
    return MIL_OK;
}

static void add_once(const char **list, size_t *n, const char *name) {
    for (size_t i = 0; i < *n; i++)
        if (strcmp(list[i], name) == 0) return;
    list[(*n)++] = name; /* two names are known, so two fit */
}

enum mil_status saved_modules_read(const json_t *root, struct adapter_options *o,
                                   struct mil_error *err) {
    const char *const *names = NULL;
    size_t n = 0;
    bool regex;
    enum mil_status st = names_read(root, "modules_to_save", &names, &n, &regex, err);
    const char **list = mem_calloc(MEM_ADAPTER, 2, sizeof *list);
    o->saved_modules = list;
    if (st == MIL_OK && !list) st = error_nomem(err, 2 * sizeof *list);
    for (size_t i = 0; st == MIL_OK && i < n; i++) {
        const char *known = whole_module(names[i]);
        if (!known)
            st = error_set(err, MIL_UNSUPPORTED,
                           "modules_to_save: '%.100s' is not supported, only embed_tokens and "
                           "lm_head are: merge it with PEFT first",
                           names[i]);
        else
            add_once(list, &o->n_saved_modules, known);
    }
    mem_free((void *)names);
    return st;
}

static const char *const biases[] = {"none", "all", "lora_only"};

const char *bias_name(enum adapter_bias bias) {
    return biases[bias];
}

enum mil_status bias_read(const json_t *root, const char *where, enum adapter_bias *out,
                          struct mil_error *err) {
    const char *name = biases[BIAS_NONE];
    TRY(json_member_str(root, where, "bias", false, &name, err));
    for (int i = 0; i < 3; i++)
        if (strcmp(name, biases[i]) == 0) {
            *out = (enum adapter_bias)i;
            return MIL_OK;
        }
    return error_set(err, MIL_UNSUPPORTED, "bias is '%.32s': only none, all, lora_only are known",
                     name);
}

void lists_release(struct adapter_options *o) {
    mem_free((void *)o->targets);
    mem_free((void *)o->excluded);
    mem_free((void *)o->layers);
    mem_free((void *)o->ranks);
    mem_free((void *)o->alphas);
    mem_free((void *)o->saved_modules);
    *o = (struct adapter_options){0};
}
