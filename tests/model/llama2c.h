/* SPDX-License-Identifier: Apache-2.0 */
/* llama2c.h - reader of the model and tokenizer files of llama2.c, for the tests only.
 *
 * Model: seven int32 (width, ffn, layers, heads, kv heads, vocabulary, positions), then f32 arrays,
 * each over all layers: embedding, attention norms, wq, wk, wv, wo, MLP norms, w1 (gate), w2
 * (down), w3 (up), final norm, rotary tables.  A positive vocabulary ties the head.  Rotary pairs
 * are neighbours (2j, 2j + 1) there and (j, j + D/2) here, so rows of wq and wk are reordered.
 * Tokenizer: an int32, then for each id a float, the length as int32, the bytes. */
#ifndef MIL_TESTS_MODEL_LLAMA2C_H
#define MIL_TESTS_MODEL_LLAMA2C_H

#include "check.h"

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/config.h"

struct llama2c {
    struct model_config config;
    struct mapped_file file;
    const float *embed, *attn_norm, *q, *k, *v, *o, *mlp_norm, *gate, *down, *up, *final_norm;
};

static inline const float *llama2c_take(const float **at, int64_t n) {
    const float *here = *at;
    *at += n;
    return here;
}

static inline void llama2c_open(struct llama2c *m, const char *path) {
    struct mil_error err = {0};
    int32_t head[7];
    assert_ok(file_map(path, &m->file, &err));
    assert_true(m->file.size > sizeof head);
    memcpy(head, m->file.data, sizeof head);
    assert_true(head[5] > 0);
    m->config = (struct model_config){.family = "llama",
                                      .width = head[0],
                                      .ffn = head[1],
                                      .layers = head[2],
                                      .heads = head[3],
                                      .kv_heads = head[4],
                                      .vocab = head[5],
                                      .max_positions = head[6],
                                      .head_dim = head[0] / head[3],
                                      .norm_eps = 1e-5,
                                      .rope = {.theta = 10000, .factor = 1},
                                      .tied_head = true,
                                      .bos = 1,
                                      .eos = {1},
                                      .n_eos = 1,
                                      .init_range = 0.02};
    const struct model_config *c = &m->config;
    const float *at = (const float *)(const void *)(m->file.data + sizeof head);
    int64_t kv = c->kv_heads * c->head_dim, wide = c->heads * c->head_dim, C = c->width;
    m->embed = llama2c_take(&at, c->vocab * C);
    m->attn_norm = llama2c_take(&at, c->layers * C);
    m->q = llama2c_take(&at, c->layers * C * wide);
    m->k = llama2c_take(&at, c->layers * C * kv);
    m->v = llama2c_take(&at, c->layers * C * kv);
    m->o = llama2c_take(&at, c->layers * C * wide);
    m->mlp_norm = llama2c_take(&at, c->layers * C);
    m->gate = llama2c_take(&at, c->layers * C * c->ffn);
    m->down = llama2c_take(&at, c->layers * C * c->ffn);
    m->up = llama2c_take(&at, c->layers * C * c->ffn);
    m->final_norm = llama2c_take(&at, C);
    llama2c_take(&at, c->max_positions * c->head_dim); /* rotary tables */
    assert_true((const unsigned char *)at == m->file.data + m->file.size);
}

/* Rows of one layer's q or k in our order. */
static inline void llama2c_put_rows(struct st_writer *w, const float *x, int64_t heads, int64_t d,
                                    int64_t cols) {
    struct mil_error err = {0};
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < d; i++) {
            int64_t from = i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1;
            assert_ok(st_writer_put(w, x + (h * d + from) * cols, (size_t)cols * 4, &err));
        }
}

static inline void llama2c_put(struct st_writer *w, const float *x, int64_t n) {
    struct mil_error err = {0};
    assert_ok(st_writer_put(w, x, (size_t)n * 4, &err));
}

static inline void llama2c_put_layer(const struct llama2c *m, struct st_writer *w, int64_t l) {
    const struct model_config *c = &m->config;
    int64_t C = c->width, kv = c->kv_heads * c->head_dim, wide = c->heads * c->head_dim;
    llama2c_put(w, m->attn_norm + l * C, C);
    llama2c_put_rows(w, m->q + l * C * wide, c->heads, c->head_dim, C);
    llama2c_put_rows(w, m->k + l * C * kv, c->kv_heads, c->head_dim, C);
    llama2c_put(w, m->v + l * C * kv, C * kv);
    llama2c_put(w, m->o + l * C * wide, C * wide);
    llama2c_put(w, m->mlp_norm + l * C, C);
    llama2c_put(w, m->gate + l * C * c->ffn, C * c->ffn);
    llama2c_put(w, m->up + l * C * c->ffn, C * c->ffn);
    llama2c_put(w, m->down + l * C * c->ffn, C * c->ffn);
}

enum { LLAMA2C_PER_LAYER = 2 + MODULES, LLAMA2C_MAX = 2 + 32 * LLAMA2C_PER_LAYER };

struct llama2c_decls {
    struct st_decl d[LLAMA2C_MAX];
    char names[LLAMA2C_MAX][96];
    size_t n;
};

/* rows 0: a vector. */
static inline void llama2c_declare(struct llama2c_decls *t, int64_t rows, int64_t cols,
                                   const char *name) {
    struct st_decl *d = &t->d[t->n];
    snprintf(t->names[t->n], sizeof t->names[t->n], "%s", name);
    *d = (struct st_decl){.name = t->names[t->n], .dtype = DT_F32, .ndim = rows > 0 ? 2 : 1};
    d->shape[0] = rows > 0 ? rows : cols;
    d->shape[1] = cols;
    t->n++;
}

/* The model as a Hugging Face directory `dir`, which exists. */
static inline void llama2c_write_hf(const struct llama2c *m, const char *dir) {
    struct mil_error err = {0};
    const struct model_config *c = &m->config;
    struct st_writer *w = NULL;
    static struct llama2c_decls t;
    char path[PATH_CAP], name[96];
    json_t *json = model_config_to_json(c, DT_F32);
    assert_true(c->layers <= 32);
    t.n = 0;
    llama2c_declare(&t, c->vocab, c->width, "model.embed_tokens.weight");
    for (int64_t l = 0; l < c->layers; l++) {
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", (int)l);
        llama2c_declare(&t, 0, c->width, name);
        for (int i = 0; i < MODULES; i++) {
            enum module module = (enum module)i;
            if (module == MODULE_GATE) {
                snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight",
                         (int)l);
                llama2c_declare(&t, 0, c->width, name);
            }
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)l, module_path(module));
            llama2c_declare(&t, module_rows(c, module), module_cols(c, module), name);
        }
    }
    llama2c_declare(&t, 0, c->width, "model.norm.weight");
    assert_ok(path_join(path, dir, "config.json", &err));
    assert_ok(json_write_file(path, json, &err));
    json_decref(json);
    assert_ok(path_join(path, dir, "model.safetensors", &err));
    assert_ok(st_writer_new(path, NULL, t.d, t.n, &w, &err));
    llama2c_put(w, m->embed, c->vocab * c->width);
    for (int64_t l = 0; l < c->layers; l++) llama2c_put_layer(m, w, l);
    llama2c_put(w, m->final_norm, c->width);
    assert_ok(st_writer_commit(&w, &err));
}

/* Append the text of token `id` that follows `before`, as llama2.c prints it. */
static inline void llama2c_decode(const struct mapped_file *tokenizer, int32_t before, int32_t id,
                                  struct str *out) {
    const unsigned char *p = tokenizer->data + 4, *end = tokenizer->data + tokenizer->size;
    char piece[256];
    int32_t n = 0;
    unsigned byte;
    for (int32_t i = 0; i <= id; i++) {
        p += n;
        assert_true(end - p >= 8);
        memcpy(&n, p + 4, sizeof n);
        p += 8;
        assert_true(n >= 0 && n < (int32_t)sizeof piece && end - p >= n);
    }
    memcpy(piece, p, (size_t)n);
    piece[n] = 0;
    if (sscanf(piece, "<0x%02X>", &byte) == 1)
        str_addc(out, (char)byte);
    else
        str_add(out, before == 1 && piece[0] == ' ' ? piece + 1 : piece);
}

#endif
