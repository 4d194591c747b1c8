/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - opening a model: which kind of source it is, its configuration, its weights, its
 * tokenizer. */
#include "model/checkpoint.h"

#include <stdio.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "model/checkpoint_bind.h"
#include "model/config_check.h"

struct weight_view *checkpoint_view(struct checkpoint *c, const struct weight_slot *s) {
    struct layer_views *l = &c->layers[s->layer];
    switch (s->kind) {
    case WEIGHT_EMBED: return &c->embed;
    case WEIGHT_ATTN_NORM: return &l->attn_norm;
    case WEIGHT_MLP_NORM: return &l->mlp_norm;
    case WEIGHT_LINEAR: return &l->weight[s->module];
    case WEIGHT_BIAS: return &l->bias[s->module];
    case WEIGHT_FINAL_NORM: return &c->final_norm;
    case WEIGHT_HEAD: return &c->head;
    }
    return NULL;
}

void view_describe(struct weight_view *v, const struct weight_slot *s) {
    *v = (struct weight_view){.rows = s->rows, .cols = s->cols};
    weight_name_hf(s, v->name);
}

/* generation_config.json, where there is one, may name further ids that end a text. */
static enum mil_status read_generation_config(struct checkpoint *c, struct mil_error *err) {
    char path[PATH_CAP];
    json_t *root = NULL;
    TRY(path_join(path, c->path, "generation_config.json", err));
    if (!path_exists(path)) return MIL_OK;
    TRY(json_read_file(path, &root, err));
    enum mil_status st = model_config_eos_from_json(&c->config, root, path, err);
    json_decref(root);
    return st;
}

static enum mil_status open_hf(struct checkpoint *c, enum checkpoint_need need,
                               struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, c->path, "config.json", err));
    TRY(json_read_file(path, &c->config_json, err));
    TRY(model_config_from_json(c->config_json, path, &c->config, err));
    TRY(read_generation_config(c, err));
    if (need == CHECKPOINT_CONFIG_ONLY) return MIL_OK;
    return st_open_checkpoint(c->path, &c->safetensors, err);
}

static enum mil_status open_gguf(struct checkpoint *c, struct mil_error *err) {
    c->is_gguf = true;
    TRY(gguf_open(c->path, &c->gguf, err));
    return model_config_from_gguf(c->gguf, c->path, &c->config, err);
}

static enum mil_status bind(struct checkpoint *c, struct mil_error *err) {
    size_t layers = (size_t)c->config.layers;
    c->layers = mem_calloc(MEM_OTHER, layers, sizeof *c->layers);
    if (!c->layers) return error_nomem(err, layers * sizeof *c->layers);
    return c->is_gguf ? checkpoint_bind_gguf(c, err) : checkpoint_bind_hf(c, err);
}

enum mil_status checkpoint_open(const char *path, enum checkpoint_need need,
                                struct checkpoint **out, struct mil_error *err) {
    enum mil_status st;
    struct checkpoint *c = mem_calloc(MEM_OTHER, 1, sizeof *c);
    if (!c) return error_nomem(err, sizeof *c);
    if (strlen(path) >= sizeof c->path)
        TRY_GOTO(error_set(err, MIL_USAGE, "the model's path is longer than %zu bytes",
                           sizeof c->path - 1));
    snprintf(c->path, sizeof c->path, "%s", path);
    if (!path_exists(path))
        TRY_GOTO(error_set(err, MIL_ACCESS,
                           "%.300s: no such model (a Hugging Face directory or a .gguf file)",
                           path));
    TRY_GOTO(path_is_dir(path) ? open_hf(c, need, err) : open_gguf(c, err));
    if (need == CHECKPOINT_WEIGHTS) TRY_GOTO(bind(c, err));
    *out = c;
    return MIL_OK;
fail:
    checkpoint_free(&c);
    return st;
}

void checkpoint_free(struct checkpoint **c) {
    if (!*c) return;
    mem_free((*c)->layers);
    st_free(&(*c)->safetensors);
    gguf_free(&(*c)->gguf);
    json_decref((*c)->config_json);
    mem_free(*c);
    *c = NULL;
}

enum mil_status checkpoint_tokenizer(const struct checkpoint *c, struct tokenizer **out,
                                     struct mil_error *err) {
    if (c->is_gguf) return tokenizer_open_gguf(c->gguf, out, err);
    return tokenizer_open_dir(c->path, out, err);
}

enum mil_status tokenizer_open(const char *path, struct tokenizer **out, struct mil_error *err) {
    struct gguf_file *f = NULL;
    if (path_is_dir(path)) return tokenizer_open_dir(path, out, err);
    TRY(gguf_open(path, &f, err));
    enum mil_status st = tokenizer_open_gguf(f, out, err);
    gguf_free(&f);
    return st;
}

size_t checkpoint_count(const struct checkpoint *c) {
    return c->layers ? weight_count(&c->config) : 0;
}

const struct weight_view *checkpoint_at(const struct checkpoint *c, size_t i) {
    REQUIRE(i < checkpoint_count(c));
    struct weight_slot s = weight_slot_at(&c->config, i);
    return checkpoint_view((struct checkpoint *)c, &s);
}

const struct weight_view *checkpoint_module(const struct checkpoint *c, int64_t layer,
                                            enum module m) {
    REQUIRE(c->layers && layer >= 0 && layer < c->config.layers);
    return &c->layers[layer].weight[m];
}
