/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h - a model as it is stored: configuration, typed views of the weights, tokenizer.
 *
 * MODEL is a Hugging Face directory or a .gguf file; nothing is converted or copied here.  Every
 * weight the configuration needs is bound by name with its shape checked; a missing one, an unknown
 * one or a wrong shape is MIL_INPUT.  Views stay valid until checkpoint_free. Names are Hugging
 * Face's for both sources. */
#ifndef MIL_MODEL_CHECKPOINT_H
#define MIL_MODEL_CHECKPOINT_H

#include "core/dtype.h"
#include "io/hash.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "text/tokenizer.h"

/* A matrix [rows, cols] (a vector: rows == 1) in its stored type, quantised blocks included.
 * head_permuted > 0: rows are stored in the order that llama.cpp's converter gives q and k (pairs
 * interleaved within each of that many heads); the functions below undo it. */
struct weight_view {
    char name[96]; /* "model.layers.0.self_attn.q_proj.weight" */
    const void *data;
    enum dtype dtype;
    int64_t rows, cols, head_permuted;
};
static inline bool weight_present(const struct weight_view *v) {
    return v->data != NULL;
}
/* Row i in f32, as it is used by the model (permutation undone). */
void weight_row_f32(const struct weight_view *v, int64_t i, float *dst);
/* The whole matrix as f32 or bf16, contiguous; uses all threads. */
void weight_to_f32(const struct weight_view *v, float *dst);
void weight_to_bf16(const struct weight_view *v, bf16 *dst);
/* true if the view's bytes are already a row-major matrix of type t, aligned to its element. */
bool weight_usable_as(const struct weight_view *v, enum dtype t);
/* The same for the plain type it is stored in, whichever that is; false for block types. */
bool weight_is_plain(const struct weight_view *v);
/* *out: a view for which weight_is_plain holds: v itself, or one of a copy in f32 (exact but for
 * f64), which *copy owns (mem_free; NULL without a copy, also after failure).  MIL_NOMEM. */
enum mil_status weight_plain(const struct weight_view *v, struct weight_view *out, float **copy,
                             struct mil_error *err);

struct layer_views {
    struct weight_view attn_norm, mlp_norm, weight[MODULES], bias[MODULES];
};
struct checkpoint {
    char path[4096];
    bool is_gguf;
    struct model_config config;
    struct weight_view embed, final_norm, head; /* head: absent where tied */
    struct layer_views *layers;                 /* config.layers of them; NULL without weights */
    struct st_file *safetensors;                /* one of these two is the source */
    struct gguf_file *gguf;
    json_t *config_json; /* HF directories: config.json as read */
};

enum checkpoint_need { CHECKPOINT_CONFIG_ONLY, CHECKPOINT_WEIGHTS };
enum mil_status checkpoint_open(const char *path, enum checkpoint_need need,
                                struct checkpoint **out, struct mil_error *err);
void checkpoint_free(struct checkpoint **c);
/* The model's tokenizer (caller frees). */
enum mil_status checkpoint_tokenizer(const struct checkpoint *c, struct tokenizer **out,
                                     struct mil_error *err);
/* Just a tokenizer: MODEL may lack weights and config, or be a vocabulary-only GGUF. */
enum mil_status tokenizer_open(const char *path, struct tokenizer **out, struct mil_error *err);
/* All weights in canonical order (embed, layers in order, final norm, head): n of them. */
size_t checkpoint_count(const struct checkpoint *c);
const struct weight_view *checkpoint_at(const struct checkpoint *c, size_t i);
/* Weight of an adapted module; layer < config.layers. */
const struct weight_view *checkpoint_module(const struct checkpoint *c, int64_t layer,
                                            enum module m);
/* Fingerprint of the base: XXH3 over names, shapes and 16 evenly spaced runs of 256 values (as f32,
 * so that the same values stored in another type agree) of every module matrix;
 * docs/formats/adapter.md. */
enum mil_status checkpoint_fingerprint(const struct checkpoint *c, char out[HASH_HEX],
                                       struct mil_error *err);

/* ---- writing a model out: what goes beside its weights ---- */

/* config.json into dir, as read with its element type replaced by `stored` (DTYPES: left alone); made
 * anew for a GGUF file or a fresh model, where `stored` must be a type. */
enum mil_status checkpoint_write_config(const struct checkpoint *c, enum dtype stored, bool fresh,
                                        const char *dir, struct mil_error *err);
/* The tokenizer's files and the generation settings into dir; those of a GGUF file's tokenizer are made
 * from its metadata, or warned about where they cannot be. */
enum mil_status checkpoint_carry_files(const struct checkpoint *c, const char *dir,
                                       struct mil_error *err);

#endif
