/* SPDX-License-Identifier: Apache-2.0 */
/* test_selection.c - which modules, ranks and alphas a configuration means, against what PEFT itself answered
 * (tools/golden/record_selection.py), and the errors where PEFT is silent.
 *
 * Scalings are compared to one rounding of a double: alpha / r and alpha / sqrt(r) of small integers. */
#include "fixture.h"

#include <jansson.h>

#include "adapt/internal.h"
#include "io/json.h"

enum { MOST = 32 };

/* The options of a case; arrays lie here, strings in the JSON. */
struct given {
    struct adapter_options o;
    const char *targets[MOST], *excluded[MOST];
    int64_t layers[MOST];
    struct adapter_pattern ranks[MOST], alphas[MOST];
};

static json_t *recorded(void) {
    json_t *root;
    assert_ok(json_read_file(TEST_DATA "/selection.json", &root, &err));
    return root;
}

static size_t read_names(const json_t *v, const char **out, bool *regex) {
    if (json_is_string(v)) {
        out[0] = json_string_value(v);
        *regex = strcmp(out[0], "all-linear") != 0;
        return 1;
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        out[i] = json_string_value(json_array_get(v, i));
    return json_array_size(v);
}

static size_t read_patterns(json_t *v, struct adapter_pattern *out) {
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach(v, key, value) {
        out[n++] = (struct adapter_pattern){key, json_number_value(value)};
    }
    return n;
}

static size_t read_layers(const json_t *v, int64_t *out) {
    if (json_is_integer(v)) {
        out[0] = json_integer_value(v);
        return 1;
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        out[i] = json_integer_value(json_array_get(v, i));
    return json_array_size(v);
}

static void read_case(struct given *g, const json_t *config) {
    memset(g, 0, sizeof *g);
    struct adapter_options *o = &g->o;
    *o = (struct adapter_options){.method = "lora", .r = 4, .alpha = 6};
    o->targets = g->targets;
    o->n_targets =
        read_names(json_object_get(config, "target_modules"), g->targets, &o->targets_regex);
    o->excluded = g->excluded;
    o->n_excluded =
        read_names(json_object_get(config, "exclude_modules"), g->excluded, &o->excluded_regex);
    o->layers = g->layers;
    o->n_layers = read_layers(json_object_get(config, "layers_to_transform"), g->layers);
    o->ranks = g->ranks;
    o->n_ranks = read_patterns(json_object_get(config, "rank_pattern"), g->ranks);
    o->alphas = g->alphas;
    o->n_alphas = read_patterns(json_object_get(config, "alpha_pattern"), g->alphas);
    o->rslora = json_is_true(json_object_get(config, "use_rslora"));
}

/* The shapes of the recording's model. */
static const struct model_config llama = {
    .layers = 12, .width = 16, .ffn = 24, .heads = 2, .kv_heads = 1, .head_dim = 8};

static enum mil_status shapes(const struct given *g, struct delta **d, size_t *n) {
    struct adapter_options o;
    const struct method *method;
    TRY(adapter_resolve(&g->o, &o, &method, &err));
    return adapter_shapes(&llama, &o, method, d, n, &err);
}

static void check_case(const json_t *c) {
    struct given g;
    struct delta *d = NULL;
    size_t n = 0;
    const json_t *want = json_object_get(c, "modules");
    char text[1024] = "";
    json_dumpb(json_object_get(c, "config"), text, sizeof text - 1, 0);
    read_case(&g, json_object_get(c, "config"));
    enum mil_status st = shapes(&g, &d, &n);
    if (!want) {
        if (st != MIL_USAGE) fail_msg("%s: PEFT refuses it", text);
        return;
    }
    if (st != MIL_OK) fail_msg("%s: %s", text, err.message);
    if (n != json_object_size(want))
        fail_msg("%s: %zu modules, PEFT has %zu", text, n, json_object_size(want));
    for (size_t i = 0; i < n; i++) {
        char name[MODULE_NAME_CAP];
        module_name(name, d[i].layer, d[i].module);
        const json_t *v = json_object_get(want, name);
        if (!v) fail_msg("%s: PEFT does not adapt %s", text, name);
        double scaling = json_number_value(json_array_get(v, 2)), have = delta_scale(&d[i]);
        if (d[i].r != json_integer_value(json_array_get(v, 0)) ||
            fabs(have - scaling) > 4e-16 * scaling)
            fail_msg("%s: %s has rank %d and scaling %.17g here, %.17g in PEFT", text, name,
                     (int)d[i].r, have, scaling);
    }
    mem_free(d);
}

static void as_peft(void **state) {
    (void)state;
    json_t *root = recorded();
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_integer_value(json_object_get(root, "layers")), llama.layers);
    assert_true(json_array_size(cases) >= 40);
    for (size_t i = 0; i < json_array_size(cases); i++) check_case(json_array_get(cases, i));
    json_decref(root);
}

/* PEFT goes on in silence; here each is an error with its name and a remedy. */
static void silent_in_peft(void **state) {
    (void)state;
    static const char *const want[] = {
        "rank_pattern: 'q_pro' matches no module; did you mean 'q_proj'?",
        "rank_pattern: 'k_proj' matches only modules that are not adapted, such as model.layers.0.",
        "alpha_pattern: 'self_attn' matches no module",
        "target_modules: 'qproj' matches no module; did you mean 'q_proj'?",
        "layers_to_transform: layer 12, the model has layers 0 to 11",
        "exclude_modules: 'kproj' matches no module; did you mean 'k_proj'?"};
    json_t *root = recorded();
    const json_t *cases = json_object_get(root, "silent");
    assert_int_equal(json_array_size(cases), sizeof want / sizeof *want);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        struct given g;
        struct delta *d;
        size_t n;
        assert_true(json_object_size(json_object_get(c, "modules")) > 0);
        read_case(&g, json_object_get(c, "config"));
        assert_fails(shapes(&g, &d, &n), MIL_USAGE, want[i]);
    }
    json_decref(root);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": 0}}",
         "the rank of model.layers.0.self_attn.q_proj is 0: it must be a whole number"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": 2.5}}",
         "is 2.5: it must be a whole number"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"layers.3.*\": 17}}",
         "r is 17, but model.layers.3.self_attn.q_proj is 16 x 16: r is at most 16"},
        {"{\"target_modules\": [\"q_proj\"], \"alpha_pattern\": {\"q_proj\": 0}}",
         "the alpha of model.layers.0.self_attn.q_proj is 0: it must be above 0"},
        {"{\"target_modules\": [\"q_proj\"], \"alpha_pattern\": {\"q_proj\": -3}}",
         "is -3: it must be above 0"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"(q_proj\": 2}}",
         "is not a regular expression"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"(([a-z.0-9_]+)+)+[^a-z]\": 2}}",
         "simplify the pattern"},
        {"{\"target_modules\": [\"q_proj\"], \"exclude_modules\": \".*\"}", "leave nothing"},
        {"{\"target_modules\": \".*q_proj\", \"layers_to_transform\": 1}",
         "name the layers in the pattern"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct given g;
        struct delta *d;
        size_t n;
        json_t *config = json_loads(cases[i].json, 0, NULL);
        assert_non_null(config);
        read_case(&g, config);
        assert_fails(shapes(&g, &d, &n), MIL_USAGE, cases[i].message);
        json_decref(config);
    }
}

/* Whatever request for memory fails: an error and nothing left behind. */
static void without_memory(void **state) {
    (void)state;
    json_t *config = json_loads("{\"target_modules\": \"all-linear\", \"layers_to_transform\": [1],"
                                "\"exclude_modules\": [\"k_proj\"], \"rank_pattern\": {\"q_proj\":"
                                "2, \".*v_proj\": 3}, \"alpha_pattern\": {\"q_proj\": 2}}",
                                0, NULL);
    struct given g;
    enum mil_status st = MIL_NOMEM;
    read_case(&g, config);
    for (long k = 0; k < 100 && st != MIL_OK; k++) {
        struct delta *d = NULL;
        size_t n;
        mem_fail_after(k);
        st = shapes(&g, &d, &n);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        mem_free(d);
    }
    assert_int_equal(st, MIL_OK);
    json_decref(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_peft),
        cmocka_unit_test(silent_in_peft),
        cmocka_unit_test(refusals),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
