/* SPDX-License-Identifier: Apache-2.0 */
/* test_export.c - merged models, the paper's residual layout, PEFT's files alone, GGUF LoRAs. */
#include "fixture.h"

#include "adapt/files.h"
#include "core/log.h"
#include "io/json.h"
#include "kern/dequant.h"

static char warning[512];

static void keep_warning(void *ctx, enum log_level level, const char *line) {
    (void)ctx;
    if (level == LOG_WARNING) snprintf(warning, sizeof warning, "%s", line);
}

static void new_path(char out[PATH_CAP], const char *name) {
    assert_ok(path_join(out, test_tmp_dir(), name, &err));
}

static struct checkpoint *open_model(const char *path) {
    struct checkpoint *c;
    assert_ok(checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err));
    return c;
}

static float *weight_of(const struct checkpoint *c, const struct delta *d) {
    const struct weight_view *v = checkpoint_module(c, d->layer, d->module);
    float *w = mem_alloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
    weight_to_f32(v, w);
    return w;
}

/* ---- merge ---- */

/* Merged weights are round(f32(W + s (B A - B0 A0))), the sum in f64: equal bits, where the f64
 * sum of the test (another order of additions, error 1e-15) is not next to a rounding boundary; an
 * ulp is allowed for that. */
static void check_merged(enum dtype dtype) {
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.2);
    char out[PATH_CAP];
    new_path(out, "merged");
    assert_ok(adapter_merge(base, a, out, dtype, &err));
    struct checkpoint *merged = open_model(out);
    double eps = dtype == DT_F32 ? 0x1p-24 : dtype == DT_F16 ? 0x1p-11 : 0x1p-8;
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        assert_int_equal(checkpoint_module(merged, d->layer, d->module)->dtype, dtype);
        float *before = weight_of(base, d), *after = weight_of(merged, d);
        double *change = exact_change(d), rounded = 0;
        for (int64_t j = 0; j < d->m * d->n; j++) {
            double want = before[j] + change[j], off = fabs(after[j] - want);
            assert_true(off <= eps * fabs(want) + 1e-7);
            rounded = fmax(rounded, off);
        }
        assert_true(rounded > 0); /* not by accident exact */
        mem_free(change);
        mem_free(after);
        mem_free(before);
    }
    assert_int_equal(merged->final_norm.dtype, dtype);
    json_t *c = merged->config_json;
    const char *name = json_string_value(json_object_get(c, "dtype"));
    assert_string_equal(name, dtype == DT_F32   ? "float32"
                              : dtype == DT_F16 ? "float16"
                                                : "bfloat16");
    checkpoint_free(&merged);
    assert_same_file(TEST_DATA "/base", out, "generation_config.json");
    assert_fails(adapter_merge(base, a, out, dtype, &err), MIL_ACCESS, "exists already");
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_merge(void **state) {
    (void)state;
    check_merged(DT_F32);
    check_merged(DT_BF16);
    check_merged(DT_F16);
}

/* At step 0 a merge in the stored type repeats every tensor. */
static void test_merge_step_0(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("pissa", 4);
    struct adapter *a = make_adapter(base, &o, 0);
    char out[PATH_CAP], weights[PATH_CAP];
    new_path(out, "same");
    assert_ok(dir_make(out, &err)); /* an empty directory may be there */
    assert_ok(adapter_merge(base, a, out, DTYPES, &err));
    struct st_file *f;
    assert_ok(path_join(weights, out, "model.safetensors", &err));
    assert_ok(st_open(weights, &f, &err));
    assert_int_equal(st_count(f), st_count(base->safetensors));
    for (size_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_at(f, i), *was = st_at(base->safetensors, i);
        assert_string_equal(t->name, was->name);
        assert_memory_equal(t->data, was->data, was->bytes);
    }
    st_free(&f);
    assert_same_file(TEST_DATA "/base", out, "generation_config.json");
    adapter_free(&a);
    checkpoint_free(&base);
}

/* Two shards, an unused tensor among them: the same files come out, with a right index. */
static void test_merge_sharded(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    char dir[PATH_CAP], path[PATH_CAP], out[PATH_CAP];
    new_path(dir, "sharded");
    assert_ok(dir_make(dir, &err));
    json_t *map = json_object();
    static const char *const shard[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    size_t n = st_count(base->safetensors);
    for (size_t s = 0; s < 2; s++) {
        struct st_decl decls[64];
        struct st_writer *w;
        size_t first = s * n / 2, end = (s + 1) * n / 2;
        for (size_t i = first; i < end; i++) {
            const struct st_tensor *t = st_at(base->safetensors, i);
            decls[i - first] =
                (struct st_decl){.name = t->name, .dtype = t->dtype, .ndim = t->ndim};
            memcpy(decls[i - first].shape, t->shape, sizeof t->shape);
            json_object_set_new(map, t->name, json_string(shard[s]));
        }
        assert_ok(path_join(path, dir, shard[s], &err));
        assert_ok(st_writer_new(path, NULL, decls, end - first, &w, &err));
        for (size_t i = first; i < end; i++)
            assert_ok(st_writer_put(w, st_at(base->safetensors, i)->data,
                                    st_at(base->safetensors, i)->bytes, &err));
        assert_ok(st_writer_commit(&w, &err));
    }
    json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 0, "weight_map", map);
    assert_ok(path_join(path, dir, "model.safetensors.index.json", &err));
    assert_ok(json_write_file(path, index, &err));
    json_decref(index);
    assert_ok(path_join(path, dir, "config.json", &err));
    assert_ok(file_copy(TEST_DATA "/base/config.json", path, &err));

    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.2);
    struct checkpoint *sharded = open_model(dir), *merged;
    new_path(out, "merged");
    assert_ok(adapter_merge(sharded, a, out, DT_BF16, &err));
    merged = open_model(out);
    assert_int_equal(st_shards(merged->safetensors), 2);
    assert_string_equal(st_shard_name(merged->safetensors, 1), shard[1]);
    assert_ok(path_join(path, out, "model.safetensors.index.json", &err));
    assert_ok(json_read_file(path, &index, &err));
    size_t bytes = 0;
    for (size_t i = 0; i < st_count(merged->safetensors); i++)
        bytes += st_at(merged->safetensors, i)->bytes;
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")),
        bytes);
    json_decref(index);
    checkpoint_free(&merged);
    checkpoint_free(&sharded);
    checkpoint_free(&base);
    adapter_free(&a);
}

/* The base as llama.cpp's converter would store it, in F32: other names, rows of q and k
 * interleaved. */
static void write_gguf_base(const struct checkpoint *base, const char *path) {
    static const char *const names[MODULES] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                               "ffn_gate", "ffn_up", "ffn_down"};
    struct gguf_writer *w;
    float *kept[64];
    size_t n = 0;
    assert_ok(gguf_writer_new(path, &w, &err));
    gguf_put_str(w, "general.architecture", "llama");
    gguf_put_u32(w, "llama.block_count", 2);
    gguf_put_u32(w, "llama.embedding_length", 32);
    gguf_put_u32(w, "llama.feed_forward_length", 48);
    gguf_put_u32(w, "llama.attention.head_count", 4);
    gguf_put_u32(w, "llama.attention.head_count_kv", 2);
    gguf_put_u32(w, "llama.context_length", 64);
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    for (size_t i = 0; i < checkpoint_count(base); i++) {
        const struct weight_view *v = checkpoint_at(base, i);
        char name[64] = "output_norm.weight";
        int64_t ne[2] = {v->cols, v->rows};
        bool moved = false;
        float *x = kept[n++] = mem_alloc(MEM_OTHER, (size_t)(v->rows * v->cols), sizeof *x);
        if (v == &base->embed) strcpy(name, "token_embd.weight");
        for (int l = 0; l < 2; l++) {
            const struct layer_views *layer = &base->layers[l];
            if (v == &layer->attn_norm) snprintf(name, sizeof name, "blk.%d.attn_norm.weight", l);
            if (v == &layer->mlp_norm) snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", l);
            for (int m = 0; m < MODULES; m++)
                if (v == &layer->weight[m]) {
                    snprintf(name, sizeof name, "blk.%d.%s.weight", l, names[m]);
                    moved = m == MODULE_Q || m == MODULE_K;
                }
        }
        for (int64_t r = 0; r < v->rows; r++) {
            int64_t in = r % 8, from = moved ? r - in + in / 2 + 4 * (in % 2) : r;
            weight_row_f32(v, from, x + r * v->cols);
        }
        gguf_put_tensor(w, name, DT_F32, v->rows == 1 ? 1 : 2, ne, x);
    }
    assert_ok(gguf_writer_commit(&w, &err));
    for (size_t i = 0; i < n; i++) mem_free(kept[i]);
}

/* Merging into a GGUF base gives the weights of merging into the directory it was made from. */
static void test_merge_gguf(void **state) {
    (void)state;
    struct checkpoint *base = open_base(), *gguf, *from_dir, *from_gguf;
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.2);
    char path[PATH_CAP], out[2][PATH_CAP];
    new_path(path, "base.gguf");
    write_gguf_base(base, path);
    gguf = open_model(path);
    new_path(out[0], "merged");
    new_path(out[1], "merged");
    log_set_sink(keep_warning, NULL);
    assert_ok(adapter_merge(base, a, out[0], DT_BF16, &err));
    assert_ok(adapter_merge(gguf, a, out[1], DT_BF16, &err));
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(warning, "tokenizer"));
    from_dir = open_model(out[0]);
    from_gguf = open_model(out[1]);
    assert_int_equal(checkpoint_count(from_dir), checkpoint_count(from_gguf));
    for (size_t i = 0; i < checkpoint_count(from_dir); i++) {
        const struct weight_view *x = checkpoint_at(from_dir, i), *y = checkpoint_at(from_gguf, i);
        assert_string_equal(x->name, y->name);
        assert_true(x->dtype == DT_BF16 && y->dtype == DT_BF16);
        assert_memory_equal(x->data, y->data, (size_t)(x->rows * x->cols) * sizeof(bf16));
    }
    checkpoint_free(&from_gguf);
    checkpoint_free(&from_dir);
    checkpoint_free(&gguf);
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_merge_refusals(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.1);
    char out[PATH_CAP];
    new_path(out, "merged");
    a->deltas[0].db[0] = 1e8f; /* W then holds a number of 1e7 */
    assert_fails(adapter_merge(base, a, out, DT_F16, &err), MIL_NUMERIC, "does not fit F16");
    assert_false(path_exists(out)); /* nothing half-written */
    a->deltas[0].layer = 7;
    assert_fails(adapter_merge(base, a, out, DT_F32, &err), MIL_MISMATCH, "only 2 layers");
    assert_false(path_exists(out));
    a->deltas[0].layer = 0;
    assert_fails(adapter_merge(base, a, "/proc/merged", DT_F32, &err), MIL_ACCESS, "/proc/");
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- residual ---- */

/* Residual + s B A is the merged weight; in bf16 the loss is logged. */
static void test_residual(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    o.alpha = 8;
    struct adapter *a = make_adapter(base, &o, 0.2);
    char out[PATH_CAP], dir[PATH_CAP];
    new_path(out, "residual");
    assert_ok(adapter_export(a, base, EXPORT_RESIDUAL, DT_F32, out, &err));
    struct checkpoint *rest = open_model(out);
    struct adapter *lora;
    assert_ok(path_join(dir, out, "adapter", &err));
    assert_ok(adapter_load(dir, rest, &lora, &err));
    assert_string_equal(lora->base_path, out);
    assert_true(lora->n == a->n && lora->deltas[0].r == 4 && lora->deltas[0].alpha == 8);
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        float *before = weight_of(base, d), *w = weight_of(rest, d);
        double *change = exact_change(d), moved = 0;
        for (int64_t j = 0; j < d->m * d->n; j++) moved = fmax(moved, fabs(w[j] - before[j]));
        assert_true(moved > 1e-5);
        assert_ok(delta_add_to(&lora->deltas[i], w, &err));
        for (int64_t j = 0; j < d->m * d->n; j++)
            assert_true(fabs(w[j] - before[j] - change[j]) < 1e-6);
        mem_free(change);
        mem_free(w);
        mem_free(before);
    }
    adapter_free(&lora);
    checkpoint_free(&rest);
    log_set_sink(keep_warning, NULL);
    new_path(out, "residual");
    assert_ok(adapter_export(a, base, EXPORT_RESIDUAL, DT_BF16, out, &err));
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(warning, "% of it (model.layers."));
    assert_fails(adapter_export(a, NULL, EXPORT_RESIDUAL, DT_F32, out, &err), MIL_USAGE,
                 "needs the base model");
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_peft(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.2), *b;
    char out[PATH_CAP];
    new_path(out, "peft");
    assert_ok(adapter_export(a, NULL, EXPORT_PEFT, DT_F32, out, &err));
    assert_ok(adapter_load(out, base, &b, &err)); /* now a plain LoRA of rank 8 */
    assert_true(b->method == NULL && b->deltas[0].r == 8 && b->deltas[0].b0 == NULL);
    for (size_t i = 0; i < a->n; i++) {
        double *x = exact_change(&a->deltas[i]), *y = exact_change(&b->deltas[i]);
        for (int64_t j = 0; j < a->deltas[i].m * a->deltas[i].n; j++)
            assert_true(fabs(x[j] - y[j]) < 1e-6);
        mem_free(x);
        mem_free(y);
    }
    adapter_free(&b);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- GGUF ---- */

/* The scaled product of the file's factors is the change, its rows in llama.cpp's order. */
static void test_gguf(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a = make_adapter(base, &o, 0.2);
    a->deltas[3].alpha = 10; /* one module scaled otherwise: folded into B */
    char path[PATH_CAP];
    new_path(path, "lora.gguf");
    assert_ok(adapter_export(a, base, EXPORT_GGUF, DT_F32, path, &err));
    struct gguf_file *f;
    struct gguf_str s;
    double alpha;
    assert_ok(gguf_open(path, &f, &err));
    assert_true(gguf_get_str(f, "general.type", &s) && strncmp(s.data, "adapter", s.n) == 0);
    assert_true(gguf_get_str(f, "general.architecture", &s) && strncmp(s.data, "llama", s.n) == 0);
    assert_true(gguf_get_str(f, "adapter.type", &s) && strncmp(s.data, "lora", s.n) == 0);
    assert_true(gguf_get_f64(f, "adapter.lora.alpha", &alpha) && alpha == 8);
    assert_int_equal(gguf_tensor_count(f), 2 * a->n);
    static const char *const names[] = {"attn_q", "attn_k", "attn_v", "ffn_up", "ffn_down"};
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight.lora_a", (int)d->layer, names[i % 5]);
        const struct gguf_tensor *ta = gguf_find_tensor(f, name);
        name[strlen(name) - 1] = 'b';
        const struct gguf_tensor *tb = gguf_find_tensor(f, name);
        assert_true(ta && tb && ta->ne[0] == d->n && ta->ne[1] == 8 && tb->ne[0] == 8 &&
                    tb->ne[1] == d->m);
        const float *fa = ta->data, *fb = tb->data;
        double *change = exact_change(d);
        for (int64_t row = 0; row < d->m; row++) {
            /* heads of 8 rows: pairs (0, 4), (1, 5), ... become neighbours */
            int64_t in = row % 8, from = i % 5 < 2 ? row - in + in / 2 + 4 * (in % 2) : row;
            for (int64_t j = 0; j < d->n; j++) {
                double sum = 0;
                for (int t = 0; t < 8; t++)
                    sum += alpha / 8 * (double)fb[row * 8 + t] * fa[t * d->n + j];
                assert_true(fabs(sum - change[from * d->n + j]) < 1e-5);
            }
        }
        mem_free(change);
    }
    gguf_free(&f);
    snprintf(base->config.family, sizeof base->config.family, "other");
    assert_fails(adapter_export(a, base, EXPORT_GGUF, DT_F32, path, &err), MIL_UNSUPPORTED,
                 "'other'");
    adapter_free(&a);
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),          cmocka_unit_test(test_merge_step_0),
        cmocka_unit_test(test_merge_sharded),  cmocka_unit_test(test_merge_gguf),
        cmocka_unit_test(test_merge_refusals), cmocka_unit_test(test_residual),
        cmocka_unit_test(test_peft),           cmocka_unit_test(test_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
