/* SPDX-License-Identifier: Apache-2.0 */
/* test_files.c - adapters on disk: ours and PEFT's, written, read, refused. */
#include "fixture.h"

#include "adapt/files.h"
#include "io/json.h"

static const char *const ours[] = {"adapter_model.safetensors", "adapter_config.json",
                                   "milora.json", "README.md"};

static void make_dir(char out[PATH_CAP], const char *name) {
    assert_ok(path_join(out, test_tmp_dir(), name, &err));
    assert_ok(dir_make(out, &err));
}

static struct adapter *load(const char *dir, const struct checkpoint *base) {
    struct adapter *a;
    assert_ok(adapter_load(dir, base, &a, &err));
    return a;
}

/* ---- round trips ---- */

static void round_trip(const struct checkpoint *base, const char *method, double size) {
    struct adapter_options o = options_of(method, 4);
    o.alpha = 6;
    o.dropout = 0.05;
    struct adapter *a = make_adapter(base, &o, size), *b;
    char first[PATH_CAP], second[PATH_CAP];
    make_dir(first, method);
    make_dir(second, method);
    assert_ok(adapter_save(a, first, &err));
    b = load(first, base);
    assert_true(b->method == a->method && b->options.r == 4 && b->options.alpha == 6);
    assert_true(b->options.dropout == 0.05 && b->options.seed == 42 && b->n == a->n);
    assert_string_equal(b->base_fingerprint, a->base_fingerprint);
    for (size_t i = 0; i < a->n; i++) {
        struct delta *p = &a->deltas[i], *q = &b->deltas[i];
        assert_true(p->m == q->m && p->n == q->n && p->r == q->r && p->alpha == q->alpha);
        assert_memory_equal(p->db, q->db, (size_t)(p->m * p->r) * sizeof(float));
        if (!p->b0) continue;
        assert_memory_equal(p->b0, q->b0, (size_t)(p->m * p->r) * sizeof(float));
        assert_memory_equal(p->da, q->da, (size_t)(p->n * p->r) * sizeof(float));
    }
    assert_ok(adapter_save(b, second, &err));
    for (size_t i = 0; i < 4; i++) assert_same_file(first, second, ours[i]);
    adapter_free(&b);
    adapter_free(&a);
}

static void test_round_trip(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    static const char *const methods[] = {"milora", "pissa", "mid", "random", "lora"};
    static const double sizes[] = {0, 1e-6, 1e-3, 0.1, 1, 100};
    for (size_t m = 0; m < 5; m++)
        for (size_t s = 0; s < 6; s++) round_trip(base, methods[m], sizes[s]);
    checkpoint_free(&base);
}

/* What PEFT reads: rank and alpha doubled, suffixes where every layer is the same. */
static void test_config(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.1);
    char dir[PATH_CAP], path[PATH_CAP];
    json_t *c;
    make_dir(dir, "config");
    assert_ok(adapter_save(a, dir, &err));
    adapter_free(&a);
    assert_ok(path_join(path, dir, "adapter_config.json", &err));
    assert_ok(json_read_file(path, &c, &err));
    assert_int_equal(json_integer_value(json_object_get(c, "r")), 8);
    assert_int_equal(json_integer_value(json_object_get(c, "lora_alpha")), 8);
    assert_true(json_is_true(json_object_get(c, "init_lora_weights")));
    assert_string_equal(json_string_value(json_object_get(c, "peft_type")), "LORA");
    const json_t *t = json_object_get(c, "target_modules");
    static const char *const sorted[] = {"down_proj", "k_proj", "q_proj", "up_proj", "v_proj"};
    assert_int_equal(json_array_size(t), 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(json_string_value(json_array_get(t, i)), sorted[i]);
    json_decref(c);
    /* one layer only: full paths, or PEFT would adapt both */
    static const char *const one[] = {"layers.1.mlp.up_proj"};
    o.targets = one;
    o.n_targets = 1;
    a = make_adapter(base, &o, 0.1);
    assert_ok(adapter_save(a, dir, &err));
    adapter_free(&a);
    assert_ok(json_read_file(path, &c, &err));
    t = json_object_get(c, "target_modules");
    assert_int_equal(json_array_size(t), 1);
    assert_string_equal(json_string_value(json_array_get(t, 0)), "model.layers.1.mlp.up_proj");
    json_decref(c);
    a = load(dir, NULL);
    assert_int_equal(a->n, 1);
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_peft(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    static const char *const names[] = {"peft-plain", "peft-patterns", "peft-layers"};
    static const size_t modules[] = {6, 4, 2};
    for (int c = 0; c < 3; c++) {
        char dir[PATH_CAP], merged[PATH_CAP];
        struct st_file *f;
        snprintf(dir, sizeof dir, "%s/%s", TEST_DATA, names[c]);
        snprintf(merged, sizeof merged, "%s/%s.merged.safetensors", TEST_DATA, names[c]);
        assert_ok(st_open(merged, &f, &err));
        struct adapter *a = load(dir, base), *blind = load(dir, NULL);
        assert_null(a->method);
        assert_int_equal(a->n, modules[c]);
        assert_int_equal(blind->n, modules[c]);
        for (size_t i = 0; i < a->n; i++) {
            struct delta *d = &a->deltas[i];
            const struct weight_view *v = checkpoint_module(base, d->layer, d->module);
            const struct st_tensor *t = st_find(f, v->name);
            float *w = mem_alloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
            weight_to_f32(v, w);
            double moved = 0;
            assert_ok(delta_add_to(d, w, &err));
            for (int64_t j = 0; j < d->m * d->n; j++) {
                assert_true(fabs((double)w[j] - ((const float *)t->data)[j]) < 2e-6);
                moved = fmax(moved, fabs((double)w[j] - ((const float *)v->data)[j]));
            }
            assert_true(moved > 1e-4);
            mem_free(w);
        }
        adapter_free(&blind);
        adapter_free(&a);
        st_free(&f);
    }
    checkpoint_free(&base);
}

/* A foreign adapter saved again is read as the same function. */
static void test_peft_again(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter *a = load(TEST_DATA "/peft-patterns", base);
    char dir[PATH_CAP];
    make_dir(dir, "again");
    assert_ok(adapter_save(a, dir, &err));
    struct adapter *b = load(dir, base);
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        struct delta *p = &a->deltas[i], *q = &b->deltas[i];
        assert_true(p->r == q->r && p->alpha == q->alpha);
        assert_memory_equal(p->a0, q->a0, (size_t)(p->r * p->n) * sizeof(float));
        assert_memory_equal(p->db, q->db, (size_t)(p->r * p->m) * sizeof(float));
    }
    adapter_free(&b);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- refusals ---- */

/* A copy of an adapter directory whose configuration has one key changed (value NULL: removed). */
static void tampered(char dir[PATH_CAP], const char *from, const char *file, const char *key,
                     const char *value) {
    static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "milora.json"};
    char a[PATH_CAP], b[PATH_CAP];
    make_dir(dir, "tampered");
    for (size_t i = 0; i < 3; i++) {
        assert_ok(path_join(a, from, files[i], &err));
        assert_ok(path_join(b, dir, files[i], &err));
        if (path_exists(a)) assert_ok(file_copy(a, b, &err));
    }
    json_t *o;
    assert_ok(path_join(b, dir, file, &err));
    assert_ok(json_read_file(b, &o, &err));
    if (value)
        json_object_set_new(o, key, json_loads(value, JSON_DECODE_ANY, NULL));
    else
        json_object_del(o, key);
    assert_ok(json_write_file(b, o, &err));
    json_decref(o);
}

static void test_refused_config(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;
        enum mil_status status;
        const char *message;
    } cases[] = {
        {"peft_type", "\"IA3\"", MIL_UNSUPPORTED, "peft_type is 'IA3'"},
        {"peft_type", NULL, MIL_INPUT, "peft_type"},
        {"use_dora", "true", MIL_INPUT, "lora_magnitude_vector of model.layers.0"},
        {"bias", "\"some\"", MIL_UNSUPPORTED, "bias is 'some'"},
        {"modules_to_save", "[\"lm_head\"]", MIL_INPUT,
         "base_model.model.lm_head.weight is missing"},
        {"modules_to_save", "[\"norm\"]", MIL_UNSUPPORTED, "'norm' is not supported, only embed"},
        {"lora_bias", "true", MIL_UNSUPPORTED, "merge it with PEFT first"},
        {"init_lora_weights", "\"pissa\"", MIL_UNSUPPORTED, "path_initial_model_for_weight"},
        {"fan_in_fan_out", "true", MIL_UNSUPPORTED, "fan_in_fan_out"},
        {"trainable_token_indices", "[1]", MIL_UNSUPPORTED, "trainable_token_indices"},
        {"use_new_thing", "true", MIL_UNSUPPORTED, "'use_new_thing' is not known"},
        {"r", "4", MIL_INPUT, "not [4, 32]"},
        {"r", "0", MIL_INPUT, "r"},
        {"r", "1000000000", MIL_INPUT, "r"},
        {"lora_alpha", "\"six\"", MIL_INPUT, "lora_alpha"},
        {"rank_pattern", "{\"q_proj\": -1}", MIL_INPUT, "rank_pattern"},
        {"rank_pattern", "{\"(q_proj\": 3}", MIL_USAGE, "not a regular expression"},
        {"rank_pattern", "[3]", MIL_INPUT, "must be an object"},
        {"alpha_pattern", "{\"q_proj\": []}", MIL_INPUT, "alpha_pattern"},
        {"target_modules", "[\"q_proj\", \"v_proj\"]", MIL_INPUT, "belongs to no module"},
        {"target_modules", "[\"q_proj\", \"v_proj\", \"down_proj\", \"o_proj\"]", MIL_INPUT,
         "self_attn.o_proj is adapted (target_modules), but its lora_A.weight is missing"},
        {"target_modules", "[]", MIL_INPUT, "target_modules is missing or empty"},
        {"target_modules", "[7]", MIL_INPUT, "target_modules[0]"},
        {"target_modules", "[\"c_attn\"]", MIL_INPUT, "names no module"},
        {"layers_to_transform", "[0]", MIL_INPUT, "belongs to no module"},
        {"layers_pattern", "\"blocks\"", MIL_UNSUPPORTED, "layers_pattern"},
        {"exclude_modules", "[\"v_proj\"]", MIL_INPUT, "belongs to no module"},
    };
    struct checkpoint *base = open_base();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[PATH_CAP];
        struct adapter *a;
        tampered(dir, TEST_DATA "/peft-plain", "adapter_config.json", cases[i].key, cases[i].value);
        assert_fails(adapter_load(dir, base, &a, &err), cases[i].status, cases[i].message);
        assert_non_null(strstr(err.message, dir)); /* the place is named */
        assert_null(a);
    }
    checkpoint_free(&base);
}

static void test_refused_side_file(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;
        enum mil_status status;
        const char *message;
    } cases[] = {
        {"format", "\"other\"", MIL_INPUT, "not 'milora-adapter'"},
        {"version", "2", MIL_UNSUPPORTED, "use a newer milora"},
        {"method", "\"milorb\"", MIL_USAGE, "did you mean 'milora'"},
        {"method", "\"full\"", MIL_INPUT, "has no adapter"},
        {"method", "\"lora\"", MIL_INPUT, "must say 4, but says 8"},
        {"rank_pattern", "{\"k_proj\": 3}", MIL_INPUT, "must say 6, but says 8"},
        {"rank_pattern", "{\"k_proj\": 2.5}", MIL_INPUT, "must be a whole number"},
        {"alpha_pattern", "{\"k_proj\": 0}", MIL_INPUT, "alpha_pattern"},
        {"use_dora", "true", MIL_INPUT, "use_dora is true in milora.json"},
        {"modules_to_save", "[\"norm\"]", MIL_UNSUPPORTED, "'norm'"},
        {"layers_to_transform", "\"0\"", MIL_INPUT, "layers_to_transform"},
        {"r", "3", MIL_INPUT, "must say 6, but says 8"},
        {"base", "{\"layers\": 3}", MIL_MISMATCH, "model of 3 layers, this one has 2"},
        {"base", "{\"layers\": 2, \"fingerprint\": \"00000000000000000000000000000000\"}",
         MIL_MISMATCH, "made for base 00000000"},
        {"base", "{\"layers\": 5000}", MIL_INPUT, "layers"},
        {"base", NULL, MIL_INPUT, "'base' is missing"},
    };
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.1);
    char good[PATH_CAP];
    make_dir(good, "good");
    assert_ok(adapter_save(a, good, &err));
    adapter_free(&a);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[PATH_CAP];
        tampered(dir, good, "milora.json", cases[i].key, cases[i].value);
        assert_fails(adapter_load(dir, base, &a, &err), cases[i].status, cases[i].message);
    }
    checkpoint_free(&base);
}

/* Files that are absent, cut short, pickled, or hold what no adapter holds. */
static void test_refused_files(void **state) {
    (void)state;
    struct adapter *a;
    struct str s = {0};
    char dir[PATH_CAP], path[PATH_CAP];
    make_dir(dir, "empty");
    assert_fails(adapter_load(dir, NULL, &a, &err), MIL_ACCESS, "adapter_config.json");
    tampered(dir, TEST_DATA "/peft-plain", "adapter_config.json", "revision", "null");
    assert_ok(path_join(path, dir, "adapter_model.safetensors", &err));
    assert_ok(file_read(path, 1 << 20, &s, &err));
    for (size_t cut = 0; cut < s.len; cut += cut < 16 ? 1 : 509) {
        assert_ok(file_write(path, s.data, cut, &err));
        enum mil_status st = adapter_load(dir, NULL, &a, &err);
        assert_true(st == MIL_INPUT);
    }
    uint32_t nan = 0x7fc00000; /* the last value of the file */
    memcpy(s.data + s.len - 4, &nan, 4);
    assert_ok(file_write(path, s.data, s.len, &err));
    assert_fails(adapter_load(dir, NULL, &a, &err), MIL_INPUT, "is not finite");
    str_release(&s);
    unlink(path);
    assert_fails(adapter_load(dir, NULL, &a, &err), MIL_ACCESS, "adapter_model.safetensors");
    assert_ok(path_join(path, dir, "adapter_model.bin", &err));
    assert_ok(file_write(path, "x", 1, &err));
    assert_fails(adapter_load(dir, NULL, &a, &err), MIL_UNSUPPORTED, "safe_serialization=True");
}

/* Every allocation of loading and saving fails in turn. */
static void test_no_memory(void **state) {
    (void)state;
    struct adapter *a = load(TEST_DATA "/peft-patterns", NULL), *b;
    char dir[PATH_CAP];
    make_dir(dir, "memory");
    for (long n = 0; n < 200; n++) {
        mem_fail_after(n);
        enum mil_status st = adapter_load(TEST_DATA "/peft-patterns", NULL, &b, &err);
        enum mil_status saved = adapter_save(a, dir, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        assert_true(saved == MIL_OK || saved == MIL_NOMEM);
        adapter_free(&b);
    }
    adapter_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_config),
        cmocka_unit_test(test_peft),           cmocka_unit_test(test_peft_again),
        cmocka_unit_test(test_refused_config), cmocka_unit_test(test_refused_side_file),
        cmocka_unit_test(test_refused_files),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
