/* SPDX-License-Identifier: Apache-2.0 */
/* test_checkpoint.c - binding weights by name: what is refused and how, and that a GGUF file and the
 * Hugging Face directory it came from are the same model. */
#include "model/support.h"

#include "io/file.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "kern/dequant.h"
#include "model/rope.h"
#include "model/weight_list.h"

/* ---- Hugging Face directories: the recorded mistral with one change ---- */

struct change {
    const char *drop, *rename_to; /* drop: absent, or renamed where rename_to is given */
    const char *flatten;          /* stored as a vector */
    const char *poison;           /* value `poison_value` at its element 17 */
    const char *extra;            /* one more tensor of this name */
    float poison_value;
};

static const char *name_in(const struct change *x, const char *name) {
    return x->drop && strcmp(name, x->drop) == 0 ? x->rename_to : name;
}

static void write_changed(const char *dir, const struct change *x) {
    struct mil_error err = {0};
    char from[700], to[700];
    struct st_file *f = NULL;
    struct st_writer *w = NULL;
    struct st_decl decls[40];
    size_t n = 0;
    float values[4096];
    assert_ok(st_open(TEST_DATA "/mistral/model.safetensors", &f, &err));
    assert_true(st_count(f) < 38);
    for (size_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_at(f, i);
        struct st_decl *d = &decls[n];
        if (!name_in(x, t->name)) continue;
        *d = (struct st_decl){name_in(x, t->name), t->dtype, t->ndim, {0}};
        for (int k = 0; k < t->ndim; k++) d->shape[k] = t->shape[k];
        if (x->flatten && strcmp(x->flatten, t->name) == 0) {
            d->shape[0] *= d->shape[1];
            d->ndim = 1;
        }
        n++;
    }
    if (x->extra) decls[n] = (struct st_decl){x->extra, DT_F32, 1, {3}};
    snprintf(to, sizeof to, "%s/model.safetensors", dir);
    assert_ok(st_writer_new(to, NULL, decls, n + (x->extra ? 1 : 0), &w, &err));
    for (size_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_at(f, i);
        if (!name_in(x, t->name)) continue;
        memcpy(values, t->data, t->bytes);
        if (x->poison && strcmp(x->poison, t->name) == 0) values[17] = x->poison_value;
        assert_ok(st_writer_put(w, values, t->bytes, &err));
    }
    if (x->extra) assert_ok(st_writer_put(w, values, 12, &err));
    assert_ok(st_writer_commit(&w, &err));
    st_free(&f);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "generation_config.json" : "config.json";
        snprintf(from, sizeof from, "%s/mistral/%s", TEST_DATA, name);
        snprintf(to, sizeof to, "%s/%s", dir, name);
        assert_ok(file_copy(from, to, &err));
    }
}

static enum mil_status open_changed(const struct change *x, struct checkpoint **c,
                                    struct mil_error *err) {
    const char *dir = test_tmp_dir();
    write_changed(dir, x);
    enum mil_status st = checkpoint_open(dir, CHECKPOINT_WEIGHTS, c, err);
    /* The mapping outlives the name. */
    assert_int_equal(dir_remove(dir, NULL), MIL_OK);
    return st;
}

#define Q1 "model.layers.1.self_attn.q_proj.weight"

static void test_hf_refused(void **state) {
    (void)state;
    struct mil_error err;
    struct checkpoint *c = NULL;
    struct change drop = {.drop = Q1};
    struct change renamed = {.drop = "model.norm.weight", .rename_to = "norm.weight"};
    struct change flat = {.flatten = Q1};
    struct change extra = {.extra = "model.layers.0.self_attn.q_proj.weight_scale"};
    assert_fails(open_changed(&drop, &c, &err), MIL_INPUT, "tensor " Q1 " is missing");
    assert_fails(open_changed(&renamed, &c, &err), MIL_INPUT, "tensor model.norm.weight");
    assert_fails(open_changed(&flat, &c, &err), MIL_INPUT, "has shape [512]");
    assert_fails(open_changed(&flat, &c, &err), MIL_INPUT, "wants [32, 16]");
    assert_fails(open_changed(&extra, &c, &err), MIL_UNSUPPORTED, "weight_scale has no place");
    assert_fails(checkpoint_open("/nowhere/at/all", CHECKPOINT_WEIGHTS, &c, &err), MIL_ACCESS,
                 "/nowhere/at/all");
    assert_fails(checkpoint_open(TEST_DATA, CHECKPOINT_CONFIG_ONLY, &c, &err), MIL_ACCESS,
                 "config.json");
    assert_fails(checkpoint_open(TEST_DATA "/smollm2.safetensors", CHECKPOINT_WEIGHTS, &c, &err),
                 MIL_INPUT, "smollm2.safetensors");
    assert_null(c);
}

static void test_harmless_extras(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct checkpoint *c = NULL;
    struct change frequencies = {.extra = "model.layers.0.self_attn.rotary_emb.inv_freq"};
    struct change copy = {.extra = "lm_head.weight"}; /* mistral is tied */
    assert_ok(open_changed(&frequencies, &c, &err));
    checkpoint_free(&c);
    assert_ok(open_changed(&copy, &c, &err));
    assert_int_equal(checkpoint_count(c), 1 + 2 * 9 + 1);
    checkpoint_free(&c);
}

static void test_nonfinite(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_BF16};
    struct mil_error err;
    struct backend *b;
    struct model *m = NULL;
    struct change nan = {.poison = Q1, .poison_value = NAN};
    struct change inf = {.poison = "model.embed_tokens.weight", .poison_value = -INFINITY};
    for (int i = 0; i < 2; i++) {
        struct checkpoint *c = NULL;
        assert_ok(backend_open("cpu", types[i], &b, &err));
        assert_ok(open_changed(&nan, &c, &err));
        assert_fails(model_new(c, b, 8, &m, &err), MIL_INPUT, Q1 " holds NaN at [1, 1]");
        checkpoint_free(&c);
        assert_ok(open_changed(&inf, &c, &err));
        assert_fails(model_new(c, b, 8, &m, &err), MIL_INPUT, "infinity at [1, 1]");
        checkpoint_free(&c);
        backend_free(&b);
    }
}

static void test_configuration_only(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct checkpoint *c = NULL;
    const char *dir = test_tmp_dir();
    char path[700];
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_ok(file_copy(TEST_DATA "/llama/config.json", path, &err));
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    const char *ends = "{\"eos_token_id\": [2, 7, 5]}";
    assert_ok(file_write(path, ends, strlen(ends), &err));
    assert_ok(checkpoint_open(dir, CHECKPOINT_CONFIG_ONLY, &c, &err));
    assert_int_equal(checkpoint_count(c), 0);
    assert_int_equal(c->config.n_eos, 3);
    assert_true(c->config.eos[0] == 2 && c->config.eos[1] == 7 && c->config.eos[2] == 5);
    checkpoint_free(&c);
    assert_ok(dir_remove(dir, &err));
}

/* ---- GGUF ---- */

/* How to spoil the file: one tensor left out, one more, other rotary divisors. */
struct spoil {
    const char *drop, *extra;
    const float *divisors;
};

struct kept {
    float *p[64];
    size_t n;
};

static void put_metadata(struct gguf_writer *w, const struct model_config *c, const char *arch) {
    char key[80];
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"block_count", c->layers},
                   {"context_length", c->max_positions},
                   {"embedding_length", c->width},
                   {"feed_forward_length", c->ffn},
                   {"attention.head_count", c->heads},
                   {"attention.head_count_kv", c->kv_heads},
                   {"attention.key_length", c->head_dim},
                   {"rope.dimension_count", c->head_dim}};
    gguf_put_str(w, "general.architecture", arch);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, numbers[i].name);
        gguf_put_u32(w, key, (uint32_t)numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_put_f32(w, key, (float)c->norm_eps);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    gguf_put_f32(w, key, (float)c->rope.theta);
    if (c->rope.kind == ROPE_LINEAR) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
        gguf_put_str(w, key, "linear");
        snprintf(key, sizeof key, "%s.rope.scaling.factor", arch);
        gguf_put_f32(w, key, (float)c->rope.factor);
    }
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)c->eos[0]);
}

/* The converter's order of q and k: (h, s, j) -> (h, j, s). */
static void permute(const float *x, int64_t heads, int64_t rows, int64_t cols, float *y) {
    int64_t d = rows / heads;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t s = 0; s < 2; s++)
            for (int64_t j = 0; j < d / 2; j++)
                memcpy(y + (h * d + 2 * j + s) * cols, x + (h * d + s * d / 2 + j) * cols,
                       (size_t)cols * sizeof *y);
}

static void put_weight(struct gguf_writer *w, const struct checkpoint *c, size_t i, bool permuted,
                       const struct spoil *spoil, struct kept *kept) {
    struct weight_slot s = weight_slot_at(&c->config, i);
    const struct weight_view *v = checkpoint_at(c, i);
    int64_t n = v->rows * v->cols, ne[2] = {v->cols, v->rows};
    char name[WEIGHT_NAME_CAP];
    float *x = mem_alloc(MEM_OTHER, (size_t)n, sizeof *x);
    weight_name_gguf(&s, name);
    weight_to_f32(v, x);
    bool vector = weight_kind_is_vector(s.kind);
    if (permuted && (s.kind == WEIGHT_LINEAR || s.kind == WEIGHT_BIAS) && s.module <= MODULE_K) {
        float *y = mem_alloc(MEM_OTHER, (size_t)n, sizeof *y);
        permute(x, s.module == MODULE_Q ? c->config.heads : c->config.kv_heads,
                vector ? v->cols : v->rows, vector ? 1 : v->cols, y);
        mem_free(x);
        x = y;
    }
    kept->p[kept->n++] = x;
    assert_true(kept->n < 60);
    if (spoil && spoil->drop && strcmp(name, spoil->drop) == 0) return;
    gguf_put_tensor(w, name, DT_F32, vector ? 1 : 2, ne, x);
}

static void write_gguf(const char *path, const struct checkpoint *c, const char *arch,
                       const struct spoil *spoil) {
    struct mil_error err = {0};
    struct gguf_writer *w = NULL;
    struct kept kept = {.n = 0};
    int64_t ne[1] = {c->config.head_dim / 2};
    assert_ok(gguf_writer_new(path, &w, &err));
    put_metadata(w, &c->config, arch);
    for (size_t i = 0; i < checkpoint_count(c); i++)
        put_weight(w, c, i, strcmp(arch, "llama") == 0, spoil, &kept);
    if (spoil && spoil->extra) gguf_put_tensor(w, spoil->extra, DT_F32, 1, ne, kept.p[0]);
    if (spoil && spoil->divisors)
        gguf_put_tensor(w, "rope_freqs.weight", DT_F32, 1, ne, spoil->divisors);
    assert_ok(gguf_writer_commit(&w, &err));
    for (size_t i = 0; i < kept.n; i++) mem_free(kept.p[i]);
}

static void assert_same_weights(const struct checkpoint *a, const struct checkpoint *b) {
    float x[64], y[64];
    char fa[HASH_HEX], fb[HASH_HEX];
    struct mil_error err = {0};
    assert_int_equal(checkpoint_count(a), checkpoint_count(b));
    for (size_t i = 0; i < checkpoint_count(a); i++) {
        const struct weight_view *v = checkpoint_at(a, i), *u = checkpoint_at(b, i);
        assert_string_equal(v->name, u->name);
        assert_true(v->rows == u->rows && v->cols == u->cols && v->cols <= 64);
        for (int64_t r = 0; r < v->rows; r++) {
            weight_row_f32(v, r, x);
            weight_row_f32(u, r, y);
            assert_memory_equal(x, y, (size_t)v->cols * sizeof *x);
        }
    }
    assert_ok(checkpoint_fingerprint(a, fa, &err));
    assert_ok(checkpoint_fingerprint(b, fb, &err));
    assert_string_equal(fa, fb);
}

static void check_gguf(const char *family, const char *arch) {
    struct mil_error err = {0};
    struct checkpoint *hf = NULL, *gguf = NULL;
    const char *dir = test_tmp_dir();
    char from[600], path[600];
    snprintf(from, sizeof from, "%s/%s", TEST_DATA, family);
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_ok(checkpoint_open(from, CHECKPOINT_WEIGHTS, &hf, &err));
    write_gguf(path, hf, arch, NULL);
    assert_ok(checkpoint_open(path, CHECKPOINT_WEIGHTS, &gguf, &err));
    const struct model_config *a = &hf->config, *b = &gguf->config;
    assert_string_equal(a->family, b->family);
    assert_true(a->vocab == b->vocab && a->ffn == b->ffn && a->head_dim == b->head_dim);
    assert_true(a->rope.kind == b->rope.kind && a->rope.theta == b->rope.theta);
    assert_true(a->rope.factor == b->rope.factor && a->bos == b->bos && a->n_eos == b->n_eos);
    assert_true(a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->mlp_bias == b->mlp_bias);
    assert_true(a->tied_head == b->tied_head);
    assert_same_weights(hf, gguf);
    checkpoint_free(&hf);
    checkpoint_free(&gguf);
    assert_ok(dir_remove(dir, &err));
}

static void test_gguf_is_the_same_model(void **state) {
    (void)state;
    check_gguf("llama", "llama");
    check_gguf("qwen2", "qwen2");
}

static void test_gguf_refused(void **state) {
    (void)state;
    static const struct {
        struct spoil spoil;
        enum mil_status status;
        const char *arch, *part;
    } cases[] = {
        {{.drop = "blk.1.ffn_up.weight"}, MIL_INPUT, "llama", "blk.1.ffn_up.weight is missing"},
        {{.drop = "token_embd.weight"}, MIL_INPUT, "llama", "token_embd.weight"},
        {{.extra = "blk.0.attn_q_norm.weight"}, MIL_UNSUPPORTED, "llama", "attn_q_norm.weight"},
        {{0}, MIL_UNSUPPORTED, "gpt2", "\"gpt2\" is not supported"},
        {{0}, MIL_UNSUPPORTED, "qwen2", "biases of blk.0"},
    };
    struct mil_error err = {0};
    struct checkpoint *hf = NULL, *c = NULL;
    const char *dir = test_tmp_dir();
    char path[600];
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_ok(checkpoint_open(TEST_DATA "/llama3", CHECKPOINT_WEIGHTS, &hf, &err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_gguf(path, hf, cases[i].arch, &cases[i].spoil);
        assert_fails(checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err), cases[i].status,
                     cases[i].part);
    }
    checkpoint_free(&hf);
    assert_ok(dir_remove(dir, &err));
}

/* The divisors of llama3 scaling become that scaling; any others are refused. */
static void test_gguf_rope_divisors(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct checkpoint *hf = NULL, *c = NULL;
    struct rope_config want = {ROPE_LLAMA3, 500000, 32, 1, 4, 8192};
    const char *dir = test_tmp_dir();
    double divisors[4];
    float stored[4];
    struct spoil spoil = {.divisors = stored};
    char path[600];
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_ok(checkpoint_open(TEST_DATA "/llama3", CHECKPOINT_WEIGHTS, &hf, &err));
    hf->config.rope.theta = want.theta; /* wavelengths 6, 167, 4443, 118 k: all three cases */
    rope_llama3_divisors(&want, 8, divisors);
    assert_true(divisors[1] == 1 && divisors[2] > 1 && divisors[2] < 32 && divisors[3] == 32);
    for (int i = 0; i < 4; i++) stored[i] = (float)divisors[i];
    write_gguf(path, hf, "llama", &spoil);
    assert_ok(checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err));
    assert_true(c->config.rope.kind == ROPE_LLAMA3 && c->config.rope.factor == 32);
    assert_true(c->config.rope.original_positions == 8192 && c->config.rope.theta == 500000);
    checkpoint_free(&c);
    stored[2] *= 1.01f;
    write_gguf(path, hf, "llama", &spoil);
    assert_fails(checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err), MIL_UNSUPPORTED,
                 "rope_freqs.weight");
    checkpoint_free(&hf);
    assert_ok(dir_remove(dir, &err));
}

/* ---- conversion, and full fine-tuning's files ---- */

static void test_conversion(void **state) {
    (void)state;
    struct weight_view v = {"w", NULL, DT_F16, 3, 5, 0};
    f16 stored[16];
    bf16 out[15];
    float row[5];
    for (int i = 0; i < 15; i++) stored[i] = f16_from_f32((float)(i * i) / 7 - 9);
    v.data = stored;
    assert_true(weight_usable_as(&v, DT_F16) && !weight_usable_as(&v, DT_BF16));
    weight_to_bf16(&v, out);
    for (int64_t r = 0; r < 3; r++) {
        weight_row_f32(&v, r, row);
        for (int i = 0; i < 5; i++) {
            assert_true(row[i] == f16_to_f32(stored[r * 5 + i]));
            assert_int_equal(out[r * 5 + i], bf16_from_f32(row[i]));
        }
    }
    v.data = (char *)stored + 1; /* read by byte, but no operand */
    assert_false(weight_usable_as(&v, DT_F16));
    weight_row_f32(&v, 0, row);
}

/* Where it lies, or the same values in a copy: misaligned, permuted, in blocks. */
static void test_plain_weight(void **state) {
    (void)state;
    struct mil_error err = {0};
    enum { ROWS = 8, COLS = 32 };
    float values[ROWS * COLS], row[COLS], *copy;
    _Alignas(8) unsigned char stored[ROWS * COLS * sizeof(float) + 1], blocks[ROWS * 34];
    struct weight_view v = {"w", values, DT_F32, ROWS, COLS, 0}, plain;
    for (int i = 0; i < ROWS * COLS; i++) values[i] = (float)(i * i % 89) / 8 - 3;
    assert_ok(weight_plain(&v, &plain, &copy, &err));
    assert_true(weight_is_plain(&v) && !copy && plain.data == values && plain.dtype == DT_F32);

    memcpy(stored + 1, values, sizeof values);
    for (int i = 0; i < ROWS * 34; i++) /* Q8_0: the scale 1 as f16, 32 signed bytes */
        blocks[i] = (unsigned char)(i % 34 == 0 ? 0 : i % 34 == 1 ? 0x3c : i * 7);
    const struct weight_view hard[] = {{"misaligned", stored + 1, DT_F32, ROWS, COLS, 0},
                                       {"permuted", values, DT_F32, ROWS, COLS, 2},
                                       {"blocks", blocks, DT_Q8_0, ROWS, COLS, 0}};
    for (int i = 0; i < 3; i++) {
        assert_false(weight_is_plain(&hard[i]));
        assert_ok(weight_plain(&hard[i], &plain, &copy, &err));
        assert_true(weight_is_plain(&plain) && plain.data == copy);
        for (int64_t r = 0; r < ROWS; r++) {
            weight_row_f32(&hard[i], r, row);
            assert_memory_equal(row, copy + r * COLS, sizeof row);
        }
        mem_free(copy);
    }
    mem_fail_after(0);
    assert_int_equal(weight_plain(&hard[0], &plain, &copy, &err), MIL_NOMEM);
    mem_fail_after(-1);
    assert_null(copy);
}

static void test_full_saved_and_loaded(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct opened o = open_random(&c, DT_BF16);
    struct trainable *t = full_trainable(o.full);
    const char *dir = test_tmp_dir();
    char path[600];
    assert_int_equal(t->elements, model_config_parameters(&c));
    snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *json = model_config_to_json(&c, DT_F32);
    assert_ok(json_write_file(path, json, &err));
    json_decref(json);
    assert_ok(full_save(o.full, dir, DT_F32, &err));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    /* Values come back bit for bit, and the compute copies with them. */
    void *master = bytes_of(t->params[1].value), *copy = bytes_of(o.m->layers[0].linear[0].w);
    for (size_t i = 0; i < t->n; i++) be_zero(backend_stream(o.b), t->params[i].value);
    t->refresh(t->owner, backend_stream(o.b));
    assert_true(element_of(o.m->layers[0].linear[0].w, 3) == 0);
    assert_ok(full_load(o.full, path, &err));
    assert_memory_equal(master, t->params[1].value.data, (size_t)t->params[1].value.cols * 4);
    assert_memory_equal(copy, o.m->layers[0].linear[0].w.data, (size_t)(24 * 12 * 2));
    mem_free(master);
    mem_free(copy);
    /* As a model: opened like any other. */
    struct opened again = open_dir(dir, DT_BF16, true);
    for (size_t i = 0; i < t->n; i++)
        assert_close(t->params[i].name, full_trainable(again.full)->params[i].value,
                     t->params[i].value, 0);
    opened_close(&again);
    /* Stored in the compute type, matrices are used where they are mapped. */
    assert_ok(full_save(o.full, dir, DT_BF16, &err));
    again = open_dir(dir, DT_BF16, false);
    assert_ptr_equal(again.m->embed.data, again.c->embed.data);
    assert_memory_equal(again.m->embed.data, o.m->embed.data, (size_t)(c.vocab * c.width * 2));
    /* Only norms and biases, as real, were copied: 34 vectors of at most 24 entries. */
    assert_true(again.m->owned_bytes > 0 && again.m->owned_bytes <= 34 * 128);
    opened_close(&again);
    /* Another model's file is refused. */
    assert_fails(full_load(o.full, TEST_DATA "/mistral/model.safetensors", &err), MIL_MISMATCH,
                 "tensor");
    opened_close(&o);
    assert_ok(dir_remove(dir, &err));
}

/* Fresh weights: the same for the same seed, spread as asked, norms one, biases zero. */
static void test_fresh(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct backend *b;
    struct model *m;
    struct full *f;
    double first[2], sum = 0, squares = 0;
    c.vocab = 1000;
    for (int i = 0; i < 2; i++) {
        assert_ok(backend_open("cpu", DT_F32, &b, &err));
        assert_ok(model_new_fresh(&c, b, 8, 5 + (uint64_t)i, &m, &err));
        assert_ok(full_new(m, &f, &err));
        first[i] = element_of(m->embed, 0);
        assert_true(element_of(m->final_norm, 3) == 1);
        assert_true(element_of(m->layers[1].linear[MODULE_Q].b, 2) == 0);
        assert_true(element_of(m->embed, 0) != element_of(m->head, 0));
        for (int64_t k = 0; i == 0 && k < 12000; k++) {
            sum += element_of(m->embed, k);
            squares += element_of(m->embed, k) * element_of(m->embed, k);
        }
        full_free(&f);
        model_free(&m);
        backend_free(&b);
    }
    assert_true(first[0] != first[1]);
    /* 12,000 draws: the mean within 5 standard errors, the deviation within 5 / sqrt(2 n). */
    assert_true(fabs(sum / 12000) < 5 * 0.3 / sqrt(12000));
    assert_true(fabs(sqrt(squares / 12000) / 0.3 - 1) < 5 / sqrt(24000));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hf_refused),
                                       cmocka_unit_test(test_harmless_extras),
                                       cmocka_unit_test(test_nonfinite),
                                       cmocka_unit_test(test_configuration_only),
                                       cmocka_unit_test(test_gguf_is_the_same_model),
                                       cmocka_unit_test(test_gguf_refused),
                                       cmocka_unit_test(test_gguf_rope_divisors),
                                       cmocka_unit_test(test_conversion),
                                       cmocka_unit_test(test_plain_weight),
                                       cmocka_unit_test(test_full_saved_and_loaded),
                                       cmocka_unit_test(test_fresh)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
