/* SPDX-License-Identifier: Apache-2.0 */
/* family.h - the table of model families: what a family fixes or names differently, as data.
 *
 * Internal to src/model.  Adding a family that the description of config.h can express is adding a
 * row; one that it cannot express is refused. */
#ifndef MIL_MODEL_FAMILY_H
#define MIL_MODEL_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

/* How a family says which layers attend within a sliding window. */
enum window_rule {
    WINDOW_NEVER,   /* the key is meaningless for it */
    WINDOW_ALWAYS,  /* sliding_window holds for every layer unless null */
    WINDOW_SWITCHED /* only with use_sliding_window, from layer max_window_layers on */
};

struct family {
    const char *name;         /* model_type of config.json */
    const char *gguf;         /* general.architecture, NULL: this family has none of its own */
    const char *architecture; /* class name for a config.json that we write */
    bool qkv_bias;            /* q, k and v always have biases */
    bool attention_bias_key;  /* `attention_bias` decides about q, k, v and o */
    bool mlp_bias_key;        /* `mlp_bias` decides about gate, up and down */
    bool kv_heads_required;   /* absent num_key_value_heads is not num_attention_heads */
    bool gguf_permuted;       /* the converter to GGUF permutes q and k rows */
    enum window_rule window;
    int64_t default_window;    /* WINDOW_ALWAYS: where the key is absent */
    int64_t default_positions; /* max_position_embeddings where absent */
};

/* MIL_UNSUPPORTED naming `type` and the known families; where: the file, for the message. */
enum mil_status family_of_model_type(const char *type, const char *where, const struct family **out,
                                     struct mil_error *err);
enum mil_status family_of_gguf(const char *architecture, const char *where,
                               const struct family **out, struct mil_error *err);
/* Never NULL for a name that a struct model_config holds. */
const struct family *family_named(const char *name);

#endif
