/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the description of a decoder: what distinguishes one LLaMA-like model from another, as
 * data.
 *
 * Filled from config.json or GGUF metadata through a table of families (llama, mistral, qwen2): a
 * family is a row, not code.  A family, an option or a value that the description cannot express is
 * MIL_UNSUPPORTED by name; a value out of bounds MIL_INPUT.  After success every field is within
 * the limits below, so sizes computed from them cannot overflow. */
#ifndef MIL_MODEL_CONFIG_H
#define MIL_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"
#include "io/gguf.h"

#define MODEL_MAX_WIDTH (1 << 17)
#define MODEL_MAX_LAYERS 1024
#define MODEL_MAX_VOCAB (1 << 21)
#define MODEL_MAX_POSITIONS (1 << 24)
#define MODEL_MAX_EOS 8

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 };
struct rope_config {
    enum rope_kind kind;
    double theta, factor;                     /* factor: linear and llama3 */
    double low_freq_factor, high_freq_factor; /* llama3 */
    int64_t original_positions;               /* llama3 */
};

struct model_config {
    char family[24];                   /* "llama" */
    int64_t vocab;                     /* V */
    int64_t width;                     /* C */
    int64_t layers;                    /* L */
    int64_t heads, kv_heads, head_dim; /* H, Hkv, D; H % Hkv == 0, D even */
    int64_t ffn;                       /* F */
    int64_t max_positions;
    int64_t window; /* sliding window in tokens, 0: none */
    double norm_eps;
    struct rope_config rope;
    bool tied_head, qkv_bias, o_bias, mlp_bias;
    int32_t bos, eos[MODEL_MAX_EOS]; /* bos -1: none */
    int n_eos;
    double init_range; /* standard deviation of fresh weights */
};

/* root: a parsed config.json; where: its path, for messages. */
enum mil_status model_config_from_json(const json_t *root, const char *where,
                                       struct model_config *out, struct mil_error *err);
enum mil_status model_config_from_gguf(const struct gguf_file *f, const char *where,
                                       struct model_config *out, struct mil_error *err);
/* A config.json that transformers reads back as this model (new reference; NULL without memory). */
json_t *model_config_to_json(const struct model_config *c, enum dtype stored);

/* ---- the linear modules of a layer ---- */

/* X(enumerator, PEFT's suffix, path within a layer) */
#define MODULE_MAP(X)                                                                              \
    X(MODULE_Q, "q_proj", "self_attn.q_proj")                                                      \
    X(MODULE_K, "k_proj", "self_attn.k_proj")                                                      \
    X(MODULE_V, "v_proj", "self_attn.v_proj")                                                      \
    X(MODULE_O, "o_proj", "self_attn.o_proj")                                                      \
    X(MODULE_GATE, "gate_proj", "mlp.gate_proj")                                                   \
    X(MODULE_UP, "up_proj", "mlp.up_proj")                                                         \
    X(MODULE_DOWN, "down_proj", "mlp.down_proj")
enum module {
#define MODULE_ENUM(name, suffix, path) name,
    MODULE_MAP(MODULE_ENUM)
#undef MODULE_ENUM
        MODULES
};
const char *module_suffix(enum module m);
const char *module_path(enum module m);
#define MODULE_NAME_CAP 64
/* "model.layers.3.self_attn.q_proj" */
void module_name(char out[MODULE_NAME_CAP], int64_t layer, enum module m);
/* Rows (outputs, m) and columns (inputs, n) of a module's matrix. */
int64_t module_rows(const struct model_config *c, enum module m);
int64_t module_cols(const struct model_config *c, enum module m);
bool module_has_bias(const struct model_config *c, enum module m);
/* Trainable-or-not parameters of the whole model. */
int64_t model_config_parameters(const struct model_config *c);

#endif
