/* SPDX-License-Identifier: Apache-2.0 */
/* test_logits.c - a model with an adapter attached: against logits that PEFT computed, against its
 * own merged model, and against itself at step 0.
 *
 * Tolerance 1e-4 on logits of order 1 to 10: about 200 f32 roundings (6e-8 each, relative) along
 * two layers, added without luck, are 1e-5 times 10.
 *
 * With $MILORA_INTEROP_OUT=DIR it also leaves DIR/{milora, merged, residual, lora.gguf, ids.txt,
 * logits.npy} for the scripts of tools/interop, with the change of a long training run. */
#include "logits.h"

#include "io/npy.h"

static double difference(const float *a, const float *b) {
    double worst = 0;
    for (int i = 0; i < IDS * VOCAB; i++) worst = fmax(worst, fabs((double)a[i] - b[i]));
    return worst;
}

static void test_peft(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    static const char *const names[] = {"peft-plain", "peft-patterns", "peft-layers"};
    for (int i = 0; i < 3; i++) {
        char path[PATH_CAP];
        struct st_file *f;
        struct adapter *a;
        float have[IDS * VOCAB], without[IDS * VOCAB];
        snprintf(path, sizeof path, "%s/%s.merged.safetensors", TEST_DATA, names[i]);
        assert_ok(st_open(path, &f, &err));
        snprintf(path, sizeof path, "%s/%s", TEST_DATA, names[i]);
        assert_ok(adapter_load(path, base, &a, &err));
        const int32_t *ids = st_find(f, "ids")->data;
        const float *want = st_find(f, "logits")->data;
        logits_of(base, a, DT_F32, ids, have);
        logits_of(base, NULL, DT_F32, ids, without);
        assert_true(difference(have, want) < 1e-4);
        assert_true(difference(without, want) > 1e-2); /* the adapter matters */
        adapter_free(&a);
        st_free(&f);
    }
    checkpoint_free(&base);
}

static void test_step_0(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    static const char *const methods[] = {"milora", "pissa", "lora"};
    static const enum dtype types[] = {DT_F32, DT_BF16};
    for (int i = 0; i < 6; i++) {
        struct adapter_options o = options_of(methods[i / 2], 4);
        struct adapter *a = make_adapter(base, &o, 0);
        float with[IDS * VOCAB], without[IDS * VOCAB];
        logits_of(base, a, types[i % 2], some_ids, with);
        logits_of(base, NULL, types[i % 2], some_ids, without);
        /* in bf16 the product with an adapter is rounded at another place: not bit-equal there */
        assert_true(difference(with, without) <= (types[i % 2] == DT_F32 ? 0 : 0.2));
        adapter_free(&a);
    }
    checkpoint_free(&base);
}

static void leave_for_scripts(const struct adapter *a, const struct checkpoint *base,
                              const float *logits) {
    const char *dir = getenv("MILORA_INTEROP_OUT");
    char path[PATH_CAP];
    if (!dir || !*dir) return;
    assert_ok(path_join(path, dir, "milora", &err));
    assert_ok(dir_make(path, &err));
    assert_ok(adapter_save(a, path, &err));
    assert_ok(path_join(path, dir, "residual", &err));
    assert_ok(adapter_export(a, base, EXPORT_RESIDUAL, DT_F32, path, &err));
    assert_ok(path_join(path, dir, "lora.gguf", &err));
    assert_ok(adapter_export(a, base, EXPORT_GGUF, DT_F32, path, &err));
    assert_ok(path_join(path, dir, "logits.npy", &err));
    assert_ok(npy_write_f32(path, logits, 2, (int64_t[]){IDS, VOCAB}, &err));
    struct str s = {0};
    for (int i = 0; i < IDS; i++) str_addf(&s, "%d ", some_ids[i]);
    assert_ok(path_join(path, dir, "ids.txt", &err));
    assert_ok(file_write(path, s.data, s.len, &err));
    str_release(&s);
}

static void test_merged(void **state) {
    (void)state;
    struct checkpoint *base = open_base(), *merged;
    struct adapter_options o = options_of("milora", 4);
    o.alpha = 6;
    struct adapter *a = make_adapter(base, &o, 0.1);
    char out[PATH_CAP];
    const char *dir = getenv("MILORA_INTEROP_OUT");
    float attached[IDS * VOCAB], plain[IDS * VOCAB];
    assert_ok(path_join(out, dir && *dir ? dir : test_tmp_dir(), "merged", &err));
    assert_ok(adapter_merge(base, a, out, DT_F32, &err));
    assert_ok(checkpoint_open(out, CHECKPOINT_WEIGHTS, &merged, &err));
    logits_of(base, a, DT_F32, some_ids, attached);
    logits_of(merged, NULL, DT_F32, some_ids, plain);
    assert_true(difference(attached, plain) < 1e-4);
    leave_for_scripts(a, base, attached);
    checkpoint_free(&merged);
    adapter_free(&a);
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peft),
        cmocka_unit_test(test_step_0),
        cmocka_unit_test(test_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
