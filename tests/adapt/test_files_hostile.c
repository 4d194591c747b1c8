/* SPDX-License-Identifier: Apache-2.0 */
/* test_files_hostile.c - adapter files that lie: wrong shapes, missing and surplus tensors, numbers that are not, masks
 * and magnitudes of other lengths, one tensor under two names, sizes that nobody has.  Each is refused with what is
 * wrong; nothing of it may crash or ask for memory that the file does not hold. */
#include "fixture.h"

#include "io/json.h"
#include "io/safetensors.h"

/* ---- a directory with one thing changed ---- */

/* Of one tensor: leave it out, give it another shape, put a value in. */
struct change {
    const char *tensor, *as; /* as: another name; "": left out */
    int ndim;                /* 0: its own shape */
    int64_t shape[3];
    float value; /* of its first element, where set is */
    bool set;
    const char *add; /* also a tensor of this name, [1] */
};

static void write_tensors(const struct st_file *f, const struct change *c, const char *path) {
    struct st_decl decls[96];
    struct st_writer *w;
    size_t n = 0;
    static const float zeros[4096];
    for (size_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_at(f, i);
        bool it = c->tensor &&
                  strstr(t->name, c->tensor) == t->name + strlen(t->name) - strlen(c->tensor);
        if (it && c->as && !*c->as) continue;
        decls[n] = (struct st_decl){it && c->as ? c->as : t->name, t->dtype, t->ndim, {0}};
        memcpy(decls[n].shape, t->shape, sizeof t->shape);
        if (it && c->ndim) {
            decls[n].ndim = c->ndim;
            memcpy(decls[n].shape, c->shape, sizeof c->shape);
        }
        n++;
    }
    if (c->add) decls[n++] = (struct st_decl){c->add, DT_F32, 1, {1}};
    assert_ok(st_writer_new(path, NULL, decls, n, &w, &err));
    for (size_t i = 0; i < n; i++) {
        const struct st_tensor *t = st_find(f, decls[i].name);
        size_t elements = 1;
        float first = c->value;
        for (int k = 0; k < decls[i].ndim; k++) elements *= (size_t)decls[i].shape[k];
        bool it = c->tensor && t &&
                  strstr(t->name, c->tensor) == t->name + strlen(t->name) - strlen(c->tensor);
        const float *from = t && !(it && c->ndim) ? t->data : zeros;
        if (it && c->set) {
            assert_ok(st_writer_put(w, &first, sizeof first, &err));
            assert_ok(st_writer_put(w, from + 1, (elements - 1) * sizeof *from, &err));
        } else {
            assert_ok(st_writer_put(w, from, elements * sizeof *from, &err));
        }
    }
    assert_ok(st_writer_commit(&w, &err));
}

static void changed(char dir[PATH_CAP], const char *from, const struct change *c, const char *key,
                    const char *value) {
    char a[PATH_CAP], b[PATH_CAP];
    struct st_file *f;
    json_t *o;
    assert_ok(path_join(dir, test_tmp_dir(), "adapter", &err));
    assert_ok(dir_make(dir, &err));
    snprintf(a, sizeof a, "%s/%s/adapter_model.safetensors", TEST_DATA, from);
    assert_ok(path_join(b, dir, "adapter_model.safetensors", &err));
    assert_ok(st_open(a, &f, &err));
    write_tensors(f, c, b);
    st_free(&f);
    snprintf(a, sizeof a, "%s/%s/adapter_config.json", TEST_DATA, from);
    assert_ok(path_join(b, dir, "adapter_config.json", &err));
    assert_ok(json_read_file(a, &o, &err));
    if (key && value)
        json_object_set_new(o, key, json_loads(value, JSON_DECODE_ANY, NULL));
    else if (key)
        json_object_del(o, key);
    assert_ok(json_write_file(b, o, &err));
    json_decref(o);
}

/* ---- the tests ---- */

#define L0 "base_model.model.model.layers.0."

static void test_tensors(void **state) {
    (void)state;
    static const struct {
        const char *from;
        struct change change;
        enum mil_status status;
        const char *words;
    } cases[] = {
        /* DoRA: its magnitude */
        {"peft-dora",
         {.tensor = "0.self_attn.q_proj.lora_magnitude_vector", .as = ""},
         MIL_INPUT,
         "lora_magnitude_vector of model.layers.0.self_attn.q_proj is missing"},
        {"peft-dora",
         {.tensor = "0.self_attn.q_proj.lora_magnitude_vector", .ndim = 1, .shape = {31}},
         MIL_INPUT,
         "shape is [31] (1 dimensions), not [32]"},
        {"peft-dora",
         {.tensor = "0.self_attn.q_proj.lora_magnitude_vector", .ndim = 2, .shape = {1, 32}},
         MIL_INPUT,
         "(2 dimensions), not [32]"},
        {"peft-dora",
         {.tensor = "0.self_attn.q_proj.lora_magnitude_vector", .set = true, .value = NAN},
         MIL_INPUT,
         "entry (0, 0) is not finite"},
        {"peft-dora",
         {.add = L0 "self_attn.q_proj.lora_magnitude_vector.weight"},
         MIL_INPUT,
         "two lora_magnitude_vector"},
        {"peft-plain",
         {.add = L0 "self_attn.q_proj.lora_magnitude_vector"},
         MIL_INPUT,
         "a magnitude belongs to use_dora"},
        /* factors */
        {"peft-mica",
         {.tensor = "0.self_attn.q_proj.lora_B.weight", .ndim = 2, .shape = {32, 2}},
         MIL_INPUT,
         "shape is [32, 2] (2 dimensions), not [32, 3]"},
        {"peft-mica",
         {.tensor = "0.self_attn.q_proj.lora_A.weight", .ndim = 2, .shape = {0, 32}},
         MIL_INPUT,
         "shape is [0, 32]"},
        {"peft-mica",
         {.tensor = "0.self_attn.q_proj.lora_A.weight", .set = true, .value = INFINITY},
         MIL_INPUT,
         "is not finite"},
        {"peft-mica",
         {.add = "base_model.model.lm_head.lora_A.weight"},
         MIL_INPUT,
         "adapter of the head is not supported: merge it"},
        {"peft-mica",
         {.add = "base_model.model.model.embed_tokens.lora_embedding_A"},
         MIL_INPUT,
         "adapter of the embeddings is not supported: merge it"},
        /* AdaLoRA */
        {"peft-adalora",
         {.tensor = "0.mlp.down_proj.lora_E", .as = ""},
         MIL_INPUT,
         "its lora_E is missing"},
        {"peft-adalora",
         {.tensor = "0.mlp.down_proj.lora_E", .ndim = 2, .shape = {4, 1}},
         MIL_INPUT,
         "shape is [4, 1] (2 dimensions), not [3, 1]"},
        {"peft-adalora",
         {.tensor = "0.mlp.down_proj.lora_E", .ndim = 1, .shape = {3}},
         MIL_INPUT,
         "(1 dimensions), not [3, 1]"},
        {"peft-adalora",
         {.tensor = "0.mlp.down_proj.lora_B", .ndim = 2, .shape = {31, 3}},
         MIL_MISMATCH,
         "31 x 48 in the adapter, 32 x 48 in the model"},
        {"peft-adalora",
         {.tensor = "1.self_attn.q_proj.lora_A", .ndim = 2, .shape = {0, 0}},
         MIL_INPUT,
         "not a matrix of at least one column"},
        {"peft-adalora",
         {.tensor = "0.mlp.down_proj.lora_A", .as = L0 "mlp.down_proj.lora_A.weight"},
         MIL_INPUT,
         "its lora_A is missing"},
        /* whole tensors */
        {"peft-embed-tied",
         {.tensor = "embed_tokens.weight", .as = ""},
         MIL_INPUT,
         "modules_to_save names embed_tokens, but"},
        {"peft-embed-tied",
         {.tensor = "embed_tokens.weight", .ndim = 2, .shape = {41, 32}},
         MIL_MISMATCH,
         "41 x 32 in the adapter, 40 x 32 in the model"},
        {"peft-embed-tied",
         {.tensor = "embed_tokens.weight", .ndim = 1, .shape = {32}},
         MIL_INPUT,
         "(1 dimensions)"},
        {"peft-embed-tied",
         {.tensor = "embed_tokens.weight", .set = true, .value = -INFINITY},
         MIL_INPUT,
         "is not finite"},
    };
    struct checkpoint *base = open_base();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[PATH_CAP];
        struct adapter *a;
        changed(dir, cases[i].from, &cases[i].change, NULL, NULL);
        assert_fails(adapter_load(dir, base, &a, &err), cases[i].status, cases[i].words);
        assert_null(a);
        (void)adapter_load(dir, NULL, &a, NULL); /* without a base: the same, or fewer checks */
        adapter_free(&a);
    }
    checkpoint_free(&base);
}

static void test_biases(void **state) {
    (void)state;
    static const struct {
        const char *from;
        struct change change;
        const char *words;
    } cases[] = {
        {"peft-qwen2-bias-all",
         {.tensor = "0.self_attn.k_proj.bias", .as = ""},
         "bias is 'all', but 1 biases are missing"},
        {"peft-qwen2-bias-all",
         {.add = L0 "self_attn.k_proj.base_layer.bias"},
         "one bias under two names"},
        {"peft-qwen2-bias-all",
         {.tensor = "0.self_attn.k_proj.bias", .ndim = 1, .shape = {9}},
         "1 x 9 in the adapter, 1 x 8 in the model"},
        {"peft-qwen2-bias-lora", {.add = L0 "self_attn.k_proj.bias"}, "belongs to no module"},
        {"peft-qwen2-bias-all", {.add = L0 "mlp.gate_proj.bias"}, "the model has no such bias"},
    };
    struct checkpoint *base;
    assert_ok(checkpoint_open(TEST_DATA "/base-qwen2", CHECKPOINT_WEIGHTS, &base, &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[PATH_CAP];
        struct adapter *a;
        changed(dir, cases[i].from, &cases[i].change, NULL, NULL);
        enum mil_status st = adapter_load(dir, base, &a, &err);
        assert_true(st == MIL_INPUT || st == MIL_MISMATCH);
        if (!strstr(err.message, cases[i].words))
            fail_msg("'%s' lacks '%s'", err.message, cases[i].words);
    }
    /* an old PEFT saved no bias at all under lora_only: the model's own stand */
    char dir[PATH_CAP];
    struct adapter *a;
    const struct change none = {.tensor = ".bias", .as = ""};
    changed(dir, "peft-qwen2-bias-lora", &none, NULL, NULL);
    assert_ok(adapter_load(dir, base, &a, &err));
    assert_int_equal(a->n_wholes, 0);
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_config(void **state) {
    (void)state;
    static const struct {
        const char *from, *key, *value, *words;
        enum mil_status status;
    } cases[] = {
        {"peft-adalora", "init_r", "3", "must be a list of init_r = 3 booleans", MIL_INPUT},
        {"peft-adalora", "init_r", "100000000", "init_r", MIL_INPUT},
        {"peft-adalora", "init_r", "0", "init_r", MIL_INPUT},
        {"peft-adalora", "init_r", NULL, "init_r", MIL_INPUT},
        {"peft-adalora", "rank_pattern", "[true]", "rank_pattern must be an object", MIL_INPUT},
        {"peft-adalora-full", "rank_pattern", "{\"model.layers.0.mlp.down_proj.lora_E\": 3}",
         "must be a list", MIL_INPUT},
        {"peft-adalora-full", "rank_pattern",
         "{\"model.layers.0.mlp.down_proj.lora_E\": [1, 1, 0]}", "is not a boolean", MIL_INPUT},
        {"peft-adalora-full", "rank_pattern",
         "{\"model.layers.0.mlp.down_proj.lora_E\": [true, true, true],"
         " \"model.layers.0.mlp.down_proj.lora_E.default\": [true, true, true]}",
         "two masks for model.layers.0.mlp.down_proj", MIL_INPUT},
        {"peft-adalora-full", "rank_pattern",
         "{\"model.layers.0.mlp.down_projector.lora_E\": [true, true, true]}",
         "1 of its masks are of no adapted module", MIL_INPUT},
        {"peft-adalora", "use_dora", "true", "use_dora is set, which AdaLoRA does not", MIL_INPUT},
        {"peft-adalora", "peft_type", "\"LORA\"", "", MIL_INPUT},
        {"peft-dora", "peft_type", "\"ADALORA\"", "init_r", MIL_INPUT},
        {"peft-dora", "use_dora", "1", "use_dora", MIL_INPUT},
        {"peft-dora", "r", "131073", "r", MIL_INPUT},
        {"peft-dora", "modules_to_save", "[3]", "modules_to_save[0] is not a string", MIL_INPUT},
        {"peft-dora", "modules_to_save", "{\"lm_head\": 1}", "modules_to_save must be a list",
         MIL_INPUT},
        {"peft-dora", "bias", "[]", "bias", MIL_INPUT},
        {"peft-dora", "layers_to_transform", "[0.5]", "layers_to_transform[0]", MIL_INPUT},
        {"peft-mica", "init_lora_weights", "\"olora\"", "path_initial_model_for", MIL_UNSUPPORTED},
        {"peft-mica", "init_lora_weights", "\"lora_ga\"", "path_initial_model_for",
         MIL_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct change none = {0};
        char dir[PATH_CAP];
        struct adapter *a;
        changed(dir, cases[i].from, &none, cases[i].key, cases[i].value);
        assert_fails(adapter_load(dir, NULL, &a, &err), cases[i].status, cases[i].words);
        assert_non_null(strstr(err.message, dir));
    }
    /* one layer as a number is a list of one */
    const struct change none = {0};
    char dir[PATH_CAP];
    struct adapter *a;
    changed(dir, "peft-layers", &none, "layers_to_transform", "1");
    assert_ok(adapter_load(dir, NULL, &a, &err));
    assert_int_equal(a->n, 2);
    adapter_free(&a);
}

/* Masks of a few bytes ask for 100 GB: refused. */
static void test_spread(void **state) {
    (void)state;
    enum { R = 1 << 16, WIDE = 1 << 17 };
    char dir[PATH_CAP], path[PATH_CAP];
    struct st_writer *w;
    struct adapter *a;
    const struct st_decl decls[] = {{L0 "self_attn.q_proj.lora_A", DT_F32, 2, {0, WIDE}},
                                    {L0 "self_attn.q_proj.lora_B", DT_F32, 2, {WIDE, 0}},
                                    {L0 "self_attn.q_proj.lora_E", DT_F32, 2, {0, 1}}};
    json_t *mask = json_array();
    for (int i = 0; i < R; i++) json_array_append_new(mask, json_false());
    json_t *o = json_pack("{s:s, s:i, s:i, s:[s], s:{s:o}}", "peft_type", "ADALORA", "init_r", R,
                          "lora_alpha", 8, "target_modules", "q_proj", "rank_pattern",
                          "model.layers.0.self_attn.q_proj.lora_E", mask);
    assert_ok(path_join(dir, test_tmp_dir(), "adapter", &err));
    assert_ok(dir_make(dir, &err));
    assert_ok(path_join(path, dir, "adapter_config.json", &err));
    assert_ok(json_write_file(path, o, &err));
    json_decref(o);
    assert_ok(path_join(path, dir, "adapter_model.safetensors", &err));
    assert_ok(st_writer_new(path, NULL, decls, 3, &w, &err));
    assert_ok(st_writer_commit(&w, &err));
    assert_fails(adapter_load(dir, NULL, &a, &err), MIL_INPUT, "rank_pattern leaves out");
}

/* Every allocation of loading, saving, merging and exporting fails in turn. */
static void test_no_memory(void **state) {
    (void)state;
    static const char *const names[] = {"peft-dora", "peft-adalora", "peft-embed-both"};
    struct checkpoint *base = open_base();
    for (size_t i = 0; i < 3; i++) {
        char from[PATH_CAP], dir[PATH_CAP];
        struct adapter *a, *b;
        snprintf(from, sizeof from, "%s/%s", TEST_DATA, names[i]);
        assert_ok(adapter_load(from, base, &a, &err));
        assert_ok(path_join(dir, test_tmp_dir(), "adapter", &err));
        assert_ok(dir_make(dir, &err));
        for (long n = 0; n < 400; n++) {
            char out[PATH_CAP];
            assert_ok(path_join(out, test_tmp_dir(), "out", &err));
            mem_fail_after(n);
            enum mil_status st = adapter_load(from, NULL, &b, &err);
            enum mil_status saved = adapter_save(a, dir, &err);
            enum mil_status merged = n % 8 ? MIL_OK : adapter_merge(base, a, out, DT_F32, &err);
            mem_fail_after(-1);
            assert_true(st == MIL_OK || st == MIL_NOMEM);
            assert_true(saved == MIL_OK || saved == MIL_NOMEM);
            assert_true(merged == MIL_OK || merged == MIL_NOMEM);
            adapter_free(&b);
        }
        adapter_free(&a);
    }
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),   cmocka_unit_test(test_biases),
        cmocka_unit_test(test_config),    cmocka_unit_test(test_spread),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
