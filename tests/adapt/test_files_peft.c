/* SPDX-License-Identifier: Apache-2.0 */
/* test_files_peft.c - every kind of adapter that PEFT writes: logits with it attached, and merged weights, against
 * PEFT's own in f64 (tools/golden/record_methods_peft.py); then the same after saving it here, as PEFT's files, and as
 * a plain LoRA.
 *
 * Tolerance on logits 1e-4, as in test_logits.c.  On merged weights: PEFT adds in f64 and rounds once, as we do, from
 * the same f32 factors, but for A and B of a pair and Lambda's product, which are exact there; so the last bit of
 * f32, 2^-23 relative, where the sums fall on two sides of a rounding boundary. */
#include "logits.h"

#include "adapt/files.h"
#include "io/json.h"

static const struct {
    const char *name, *base;
    size_t modules, wholes;
    bool dora;
    enum delta_form form;
} cases[] = {
    {"peft-plain", "base", 6, 0, false, DELTA_LORA},
    {"peft-patterns", "base", 4, 0, false, DELTA_LORA},
    {"peft-layers", "base", 2, 0, false, DELTA_LORA},
    {"peft-rslora", "base", 4, 0, false, DELTA_LORA},
    {"peft-dora", "base", 6, 0, true, DELTA_LORA},
    {"peft-dora-rank-alpha", "base", 14, 0, true, DELTA_LORA},
    {"peft-adalora", "base", 6, 0, false, DELTA_SCALED},
    {"peft-adalora-zero", "base", 6, 0, false, DELTA_SCALED},
    {"peft-adalora-full", "base", 6, 0, false, DELTA_SCALED},
    {"peft-mica", "base", 4, 0, false, DELTA_FIXED_B},
    {"peft-embed-tied", "base", 4, 1, false, DELTA_LORA},
    {"peft-embed-both", "base", 4, 2, false, DELTA_LORA},
    {"peft-qwen2-selected", "base-qwen2", 6, 0, false, DELTA_LORA},
    {"peft-qwen2-regex", "base-qwen2", 9, 0, false, DELTA_LORA},
    {"peft-qwen2-saved", "base-qwen2", 6, 2, false, DELTA_LORA},
    {"peft-qwen2-bias-all", "base-qwen2", 6, 9, false, DELTA_LORA},
    {"peft-qwen2-bias-lora", "base-qwen2", 6, 3, false, DELTA_LORA},
    {"peft-qwen2-dora", "base-qwen2", 9, 0, true, DELTA_LORA},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The engine's factor of rows may not be in this build: then attached DoRA cannot be asked. */
static bool dora_works(struct checkpoint *base, struct adapter *a) {
    struct backend *b;
    struct model *m;
    struct adapter_runtime *rt = NULL;
    assert_ok(backend_open("cpu", DT_F32, &b, &err));
    assert_ok(model_new(base, b, IDS, &m, &err));
    bool works = adapter_attach(a, m, false, &rt, &err) == MIL_OK;
    adapter_detach(&rt);
    model_free(&m);
    backend_free(&b);
    return works;
}

struct opened {
    struct checkpoint *base;
    struct st_file *golden;
    struct adapter *adapter;
};

static struct opened open_case(size_t i) {
    struct opened o;
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, cases[i].base);
    assert_ok(checkpoint_open(path, CHECKPOINT_WEIGHTS, &o.base, &err));
    snprintf(path, sizeof path, "%s/%s.merged.safetensors", TEST_DATA, cases[i].name);
    assert_ok(st_open(path, &o.golden, &err));
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, cases[i].name);
    assert_ok(adapter_load(path, o.base, &o.adapter, &err));
    return o;
}

static void close_case(struct opened *o) {
    adapter_free(&o->adapter);
    st_free(&o->golden);
    checkpoint_free(&o->base);
}

static double worst_logit(struct checkpoint *c, struct adapter *a, const struct st_file *golden) {
    float have[IDS * VOCAB];
    const float *want = st_find(golden, "logits")->data;
    double worst = 0;
    logits_of(c, a, DT_F32, st_find(golden, "ids")->data, have);
    for (int i = 0; i < IDS * VOCAB; i++) worst = fmax(worst, fabs((double)have[i] - want[i]));
    return worst;
}

static void test_load(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct opened o = open_case(i);
        struct adapter *a = o.adapter, *blind;
        char path[PATH_CAP];
        assert_null(a->method);
        assert_int_equal(a->n, cases[i].modules);
        assert_int_equal(a->n_wholes, cases[i].wholes);
        for (size_t k = 0; k < a->n; k++) {
            assert_int_equal(a->deltas[k].form, cases[i].form);
            assert_int_equal(a->deltas[k].dora, cases[i].dora);
        }
        snprintf(path, sizeof path, "%s/%s", TEST_DATA, cases[i].name);
        assert_ok(adapter_load(path, NULL, &blind, &err)); /* the base is not needed */
        assert_int_equal(blind->n, a->n);
        assert_int_equal(blind->n_wholes, a->n_wholes);
        adapter_free(&blind);
        close_case(&o);
    }
}

static void test_logits(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct opened o = open_case(i);
        if (cases[i].dora && !dora_works(o.base, o.adapter)) {
            fprintf(stderr, "SKIP %s: %s\n", cases[i].name, err.message);
            close_case(&o);
            continue;
        }
        double off = worst_logit(o.base, o.adapter, o.golden);
        if (!(off < 1e-4)) fail_msg("%s: logits are off by %g", cases[i].name, off);
        assert_true(worst_logit(o.base, NULL, o.golden) > 1e-2); /* the adapter matters */
        close_case(&o);
    }
}

/* ---- merging ---- */

/* Every tensor that PEFT's merge changed is ours, every other one the base's. */
static void check_merged(const struct opened *o, const struct checkpoint *merged, const char *name,
                         double eps) {
    for (size_t i = 0; i < checkpoint_count(merged); i++) {
        const struct weight_view *v = checkpoint_at(merged, i);
        const struct st_tensor *want = st_find(o->golden, v->name);
        if (!want) want = st_find(o->base->safetensors, v->name);
        if (!want && strcmp(v->name, "lm_head.weight") == 0)
            want = st_find(o->base->safetensors, "model.embed_tokens.weight");
        assert_non_null(want);
        for (int64_t k = 0; k < v->rows * v->cols; k++) {
            double w = ((const float *)want->data)[k], h = ((const float *)v->data)[k];
            if (!(fabs(w - h) <= eps * fmax(fabs(w), 1e-2)))
                fail_msg("%s: %s[%d] is %.9g, PEFT's %.9g", name, v->name, (int)k, h, w);
        }
    }
}

static void test_merge(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct opened o = open_case(i);
        struct checkpoint *merged;
        char out[PATH_CAP];
        assert_ok(path_join(out, test_tmp_dir(), "merged", &err));
        assert_ok(adapter_merge(o.base, o.adapter, out, DT_F32, &err));
        assert_ok(checkpoint_open(out, CHECKPOINT_WEIGHTS, &merged, &err));
        /* the three old files were merged in f32: their own error */
        check_merged(&o, merged, cases[i].name, i < 3 ? 2e-5 : 0x1p-22);
        double off = worst_logit(merged, NULL, o.golden);
        if (!(off < 1e-4)) fail_msg("%s: merged logits are off by %g", cases[i].name, off);
        bool untied = o.base->config.tied_head && strcmp(cases[i].name, "peft-embed-tied") == 0;
        assert_int_equal(merged->config.tied_head, o.base->config.tied_head && !untied);
        checkpoint_free(&merged);
        close_case(&o);
    }
}

/* ---- saved again ---- */

static void merged_alike(const struct opened *o, struct adapter *b, const char *name) {
    struct checkpoint *merged;
    char out[PATH_CAP];
    assert_ok(path_join(out, test_tmp_dir(), "merged", &err));
    assert_ok(adapter_merge(o->base, b, out, DT_F32, &err));
    assert_ok(checkpoint_open(out, CHECKPOINT_WEIGHTS, &merged, &err));
    double off = worst_logit(merged, NULL, o->golden);
    if (!(off < 1e-4)) fail_msg("%s: logits of what was saved again are off by %g", name, off);
    checkpoint_free(&merged);
}

static void test_save_again(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct opened o = open_case(i);
        struct adapter *b;
        char first[PATH_CAP], second[PATH_CAP];
        assert_ok(path_join(first, test_tmp_dir(), "again", &err));
        assert_ok(dir_make(first, &err));
        assert_ok(adapter_save(o.adapter, first, &err));
        assert_ok(adapter_load(first, o.base, &b, &err));
        assert_int_equal(b->n, o.adapter->n);
        assert_int_equal(b->n_wholes, o.adapter->n_wholes);
        merged_alike(&o, b, cases[i].name);
        assert_ok(path_join(second, test_tmp_dir(), "again", &err));
        assert_ok(dir_make(second, &err));
        assert_ok(adapter_save(b, second, &err));
        assert_same_file(first, second, "adapter_model.safetensors");
        assert_same_file(first, second, "adapter_config.json");
        adapter_free(&b);
        close_case(&o);
    }
}

static void test_as_lora(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct opened o = open_case(i);
        struct adapter *b;
        char out[PATH_CAP];
        assert_ok(path_join(out, test_tmp_dir(), "lora", &err));
        if (cases[i].dora) {
            assert_fails(adapter_export(o.adapter, NULL, EXPORT_LORA, DT_F32, out, &err),
                         MIL_UNSUPPORTED, "merge it");
            assert_false(path_exists(out));
        } else {
            assert_ok(adapter_export(o.adapter, NULL, EXPORT_LORA, DT_F32, out, &err));
            assert_ok(adapter_load(out, o.base, &b, &err));
            for (size_t k = 0; k < b->n; k++) assert_int_equal(b->deltas[k].form, DELTA_LORA);
            merged_alike(&o, b, cases[i].name);
            adapter_free(&b);
        }
        close_case(&o);
    }
}

/* What stays refused says why, and what to do. */
static void test_refused(void **state) {
    (void)state;
    struct adapter *a;
    assert_fails(adapter_load(TEST_DATA "/peft-qwen2-norm", NULL, &a, &err), MIL_UNSUPPORTED,
                 "'input_layernorm' is not supported, only embed_tokens and lm_head are: merge");
    assert_fails(adapter_load(TEST_DATA "/peft-qwen2-lora-bias", NULL, &a, &err), MIL_UNSUPPORTED,
                 "lora_bias is set, which is not supported: merge it with PEFT first");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),    cmocka_unit_test(test_logits),
        cmocka_unit_test(test_merge),   cmocka_unit_test(test_save_again),
        cmocka_unit_test(test_as_lora), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
