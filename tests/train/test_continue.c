/* SPDX-License-Identifier: Apache-2.0 */
/* test_continue.c - training that goes on from a saved adapter: every form, ours and without milora.json as PEFT would
 * have left it; keys that contradict it; the plan; resuming such a run. */
#include <math.h>

#include "fixture.h"

#include "adapt/adapter.h"
#include "train/continue.h"
#include "train/plan.h"

static struct mil_error err;

static const struct row {
    const char *name;
    const char *settings[6];
    const char *foreign; /* method without milora.json; NULL: its file says r another */
} rows[] = {
    {"lora", {"method=lora"}, "lora"},
    {"lora, patterns",
     {"method=lora", "use_rslora=true", "rank_pattern={q_proj: 2}", "alpha_pattern={v_proj: 3}",
      "layers_to_transform=[1]"},
     NULL},
    {"lora_plus", {"method=lora_plus"}, "lora"},
    {"milora", {"method=milora", "exclude_modules=[v_proj]"}, NULL},
    {"dora", {"method=dora"}, "dora"},
    {"pissa, dora", {"method=pissa", "use_dora=true"}, NULL},
    {"mica", {"method=mica"}, "lora"},
    {"adalora", {"method=adalora", "tinit=1", "tfinal=2"}, "adalora"},
    {"lora, head", {"method=lora", "modules_to_save=[lm_head]"}, "lora"},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* A short run's adapter in `out`. */
static void make(const struct row *row, char out[512]) {
    struct config c;
    strcpy(out, test_tmp_dir());
    tiny_config(&c, out, row->settings);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    config_release(&c);
}

/* Goes on from `from`, keys of tiny_config that describe an adapter left out. */
static void going_on(struct config *c, const char *from, const char *out, const char *const *more) {
    char text[600];
    const char *const keys[] = {"model_name_or_path=" TEST_DATA "/tiny",
                                "dataset=" TEST_DATA "/rows.jsonl",
                                "compute_dtype=f32",
                                "per_device_train_batch_size=8",
                                "learning_rate=1e-3",
                                "lr_scheduler_type=constant",
                                "num_train_epochs=1",
                                "report_to=jsonl"};
    assert_ok(config_init(c, &err));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_ok(config_assign(c, keys[i], &err));
    snprintf(text, sizeof text, "output_dir=%s", out);
    assert_ok(config_assign(c, text, &err));
    snprintf(text, sizeof text, "adapter_name_or_path=%s", from);
    assert_ok(config_assign(c, text, &err));
    for (size_t i = 0; more && more[i]; i++) assert_ok(config_assign(c, more[i], &err));
}

/* The adapter that a run starts with is the file's: every array, form and scale. */
static void check_start(const char *from, const char *method) {
    struct config asked, c;
    struct checkpoint *base;
    struct adapter *a, *b;
    going_on(&asked, from, "nowhere", NULL);
    assert_ok(continue_config(&asked, &c, &err));
    assert_ok(config_check(&c, &err));
    assert_string_equal(c.method, method);
    assert_ok(checkpoint_open(TEST_DATA "/tiny", CHECKPOINT_WEIGHTS, &base, &err));
    assert_ok(continue_adapter(&c, base, &a, &err));
    assert_ok(adapter_load(from, base, &b, &err));
    assert_string_equal(a->method->name, method);
    assert_true(a->options.lr_ratio > 0 && *a->base_fingerprint);
    assert_int_equal(adapter_tensor_count(a), adapter_tensor_count(b));
    for (size_t i = 0; i < a->n; i++) assert_true(a->deltas[i].alpha == b->deltas[i].alpha);
    for (size_t i = 0; i < adapter_tensor_count(a); i++) {
        struct adapter_tensor x, y;
        adapter_tensor_at(a, i, &x);
        adapter_tensor_at(b, i, &y);
        assert_string_equal(x.name, y.name);
        assert_memory_equal(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof *x.data);
    }
    /* what the plan counts is what there is */
    size_t modules, params;
    int64_t elements;
    struct adapter_options o;
    config_adapter_options(&c, &o);
    assert_ok(adapter_count(&base->config, &o, &modules, &params, &elements, &err));
    assert_int_equal(elements, adapter_elements(a));
    adapter_free(&a);
    adapter_free(&b);
    checkpoint_free(&base);
    config_release(&c);
    config_release(&asked);
}

static void without_side_file(const char *dir) {
    char path[PATH_CAP];
    assert_ok(path_join(path, dir, "milora.json", &err));
    assert_int_equal(unlink(path), 0);
}

/* As PEFT writes one that it made itself. */
static void made_by_peft(const char *dir, const char *init) {
    char path[PATH_CAP];
    json_t *o;
    assert_ok(path_join(path, dir, "adapter_config.json", &err));
    assert_ok(json_read_file(path, &o, &err));
    json_object_set_new(o, "init_lora_weights", json_string(init));
    assert_ok(json_write_file(path, o, &err));
    json_decref(o);
}

static void goes_on(void **state) {
    const struct row *row = *state;
    char from[512], out[512];
    struct config c;
    make(row, from);
    const char *method = strchr(row->settings[0], '=') + 1;
    check_start(from, method);
    strcpy(out, test_tmp_dir());
    going_on(&c, from, out, NULL);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    config_release(&c);
    check_start(out, method); /* and once more */
    if (!row->foreign) return;
    without_side_file(from);
    check_start(from, row->foreign);
    if (strcmp(method, "mica") == 0) {
        made_by_peft(from, "mica");
        check_start(from, "mica");
        made_by_peft(from, "gaussian");
    }
    strcpy(out, test_tmp_dir());
    going_on(&c, from, out, NULL);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    config_release(&c);
    check_start(out, row->foreign);
}

/* A run that went on from an adapter, stopped and resumed, has the bits of one that was not. */
static int64_t stop_after;
static void stop(void *ctx, const struct mil_train_step *step, bool logged) {
    (void)ctx;
    (void)logged;
    if (step->step == stop_after) train_request_stop();
}

static void test_resume(void **state) {
    (void)state;
    static const size_t some[] = {3, 5, 7};
    const struct mil_train_callbacks on = {.on_step = stop};
    for (size_t i = 0; i < 3; i++) {
        char from[512], whole[512], parts[512];
        struct config c;
        make(&rows[some[i]], from);
        strcpy(whole, test_tmp_dir());
        going_on(&c, from, whole, NULL);
        assert_ok(train_run(&c, NULL, NULL, NULL, &err));
        config_release(&c);
        strcpy(parts, test_tmp_dir());
        going_on(&c, from, parts, NULL);
        stop_after = 3;
        assert_fails(train_run(&c, NULL, &on, NULL, &err), MIL_INTERRUPTED, "--resume last");
        train_clear_stop();
        assert_ok(train_run(&c, "last", NULL, NULL, &err));
        config_release(&c);
        assert_same_file(whole, parts, "adapter_model.safetensors");
        assert_same_file(whole, parts, "adapter_config.json");
    }
}

/* Ranks that AdaLoRA gave stay, unless a schedule is given. */
static int64_t masked(const char *dir) {
    struct adapter *a;
    int64_t n = 0;
    assert_ok(adapter_load(dir, NULL, &a, &err));
    for (size_t i = 0; i < a->n; i++)
        for (int64_t t = 0; t < a->deltas[i].r; t++) n += a->deltas[i].pruned[t] != 0;
    adapter_free(&a);
    return n;
}

static void test_adalora_ranks(void **state) {
    (void)state;
    static const char *const schedule[] = {"target_r=2", "tinit=0", "tfinal=1", "deltaT=1", NULL};
    char from[512], out[512];
    struct config c;
    make(&rows[7], from);
    assert_true(masked(from) > 0);
    strcpy(out, test_tmp_dir());
    going_on(&c, from, out, NULL);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    config_release(&c);
    assert_int_equal(masked(out), masked(from));
    strcpy(out, test_tmp_dir());
    going_on(&c, from, out, schedule);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    config_release(&c);
    assert_true(masked(out) > masked(from));
}

static void test_conflicts(void **state) {
    (void)state;
    static const struct {
        const char *key, *words;
    } cases[] = {
        {"r=3", "r is 3, but the adapter"},
        {"method=dora", "method is \"dora\", but the adapter"},
        {"use_dora=true", "use_dora is true, but the adapter"},
        {"lora_alpha=5", "lora_alpha is 5"},
        {"target_modules=[q_proj]", "has [\"q_proj\", \"k_proj\", \"v_proj\""},
        {"modules_to_save=[lm_head]", "has []: leave the key out"},
        {"bias=all", "bias is \"all\", but the adapter"},
        {"rank_pattern={q_proj: 2}", "rank_pattern is {\"q_proj\": 2"},
    };
    static const char *const fine[] = {"r=4",
                                       "use_dora=false",
                                       "lora_dropout=0.1",
                                       "target_modules=[down_proj,up_proj,v_proj,k_proj,q_proj]",
                                       "method=lora",
                                       NULL};
    char from[512];
    struct config c, to;
    make(&rows[0], from);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const one[] = {cases[i].key, NULL};
        going_on(&c, from, "nowhere", one);
        assert_fails(continue_config(&c, &to, &err), MIL_USAGE, cases[i].words);
        assert_non_null(strstr(err.message, from));
        config_release(&to);
        config_release(&c);
    }
    going_on(&c, from, "nowhere", fine);
    assert_ok(continue_config(&c, &to, &err));
    assert_true(to.lora_dropout == 0.1);
    config_release(&to);
    config_release(&c);
    without_side_file(from); /* another method over the same LoRA */
    static const char *const plus[] = {"method=lora_plus", NULL};
    going_on(&c, from, "nowhere", plus);
    assert_ok(continue_config(&c, &to, &err));
    assert_string_equal(to.method, "lora_plus");
    config_release(&to);
    config_release(&c);
    going_on(&c, "no-such-adapter", "nowhere", NULL);
    assert_fails(continue_config(&c, &to, &err), MIL_ACCESS, "adapter_name_or_path: ");
    config_release(&to);
    config_release(&c);
}

/* An adapter of another base: its fingerprint differs. */
static void test_other_base(void **state) {
    (void)state;
    char from[512], path[PATH_CAP];
    struct config c;
    json_t *side;
    make(&rows[0], from);
    assert_ok(path_join(path, from, "milora.json", &err));
    assert_ok(json_read_file(path, &side, &err));
    json_object_set_new(json_object_get(side, "base"), "fingerprint",
                        json_string("00000000000000000000000000000000"));
    assert_ok(json_write_file(path, side, &err));
    json_decref(side);
    going_on(&c, from, test_tmp_dir(), NULL);
    assert_fails(train_run(&c, NULL, NULL, NULL, &err), MIL_MISMATCH, "made for base 00000000");
    config_release(&c);
}

int main(void) {
    struct CMUnitTest tests[ROWS + 4] = {
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_other_base),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_adalora_ranks),
    };
    for (size_t i = 0; i < ROWS; i++)
        tests[4 + i] = (struct CMUnitTest){rows[i].name, goes_on, NULL, NULL, (void *)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
