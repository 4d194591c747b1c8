/* SPDX-License-Identifier: Apache-2.0 */
/* weight_list.h - the weights of a model in canonical order, from its configuration alone (internal
 * to src/model): embed, each layer (attn_norm, q, k, v, o, mlp_norm, gate, up, down; a bias behind
 * its matrix), final norm, head unless tied. */
#ifndef MIL_MODEL_WEIGHT_LIST_H
#define MIL_MODEL_WEIGHT_LIST_H

#include <stddef.h>

#include "model/config.h"

#define WEIGHT_NAME_CAP 96

enum weight_kind {
    WEIGHT_EMBED,
    WEIGHT_ATTN_NORM,
    WEIGHT_MLP_NORM,
    WEIGHT_LINEAR,
    WEIGHT_BIAS,
    WEIGHT_FINAL_NORM,
    WEIGHT_HEAD
};
struct weight_slot {
    enum weight_kind kind;
    int64_t layer;      /* of a layer's weights */
    enum module module; /* WEIGHT_LINEAR, WEIGHT_BIAS */
    int64_t rows, cols; /* a vector: rows == 1 */
};
static inline bool weight_kind_is_vector(enum weight_kind k) {
    return k == WEIGHT_ATTN_NORM || k == WEIGHT_MLP_NORM || k == WEIGHT_BIAS ||
           k == WEIGHT_FINAL_NORM;
}
static inline bool weight_kind_is_norm(enum weight_kind k) {
    return k == WEIGHT_ATTN_NORM || k == WEIGHT_MLP_NORM || k == WEIGHT_FINAL_NORM;
}

size_t weight_count(const struct model_config *c);
/* i < weight_count(c). */
struct weight_slot weight_slot_at(const struct model_config *c, size_t i);
/* Hugging Face's name, "model.layers.0.self_attn.q_proj.weight". */
void weight_name_hf(const struct weight_slot *s, char out[WEIGHT_NAME_CAP]);
/* llama.cpp's name, "blk.0.attn_q.weight". */
void weight_name_gguf(const struct weight_slot *s, char out[WEIGHT_NAME_CAP]);

#endif
