/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - config.json of Hugging Face into struct model_config.
 *
 * Three kinds of key: those read here; those of other models that change the function and are
 * refused unless they have the value at which they do nothing (table `neutral`); and all others,
 * which are ignored (token ids of padding, library versions, ...).  docs/formats/config.md lists
 * them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json.h"
#include "model/config_check.h"
#include "model/config_rope.h"
#include "model/family.h"

/* Keys that change the function, with the one value (null and absence aside) at which they do not.
 * not_neutral for an option that has no such number: only null, false and 0 pass. */
static const double not_neutral = 0;
static const struct neutral {
    const char *key;
    double value;
} neutral[] = {
    {"quantization_config", not_neutral},
    {"compression_config", not_neutral},
    {"pretraining_tp", 1},
    {"partial_rotary_factor", 1},
    {"rotary_pct", 1},
    {"attention_dropout", 0},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"attention_multiplier", not_neutral},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"attn_logit_softcapping", not_neutral},
    {"final_logit_softcapping", not_neutral},
    {"num_local_experts", not_neutral},
    {"num_experts", not_neutral},
    {"n_routed_experts", not_neutral},
    {"use_qk_norm", not_neutral},
    {"qk_norm", not_neutral},
    {"alibi", not_neutral},
    {"attention_chunk_size", not_neutral},
    {"no_rope_layers", not_neutral},
    {"is_encoder_decoder", not_neutral},
};

static bool is_neutral(const json_t *v, double value) {
    if (!v || json_is_null(v) || json_is_false(v)) return true;
    return json_is_number(v) && json_number_value(v) == value;
}

static enum mil_status refuse_options(const json_t *root, const char *where,
                                      struct mil_error *err) {
    for (size_t i = 0; i < sizeof neutral / sizeof neutral[0]; i++) {
        if (is_neutral(json_object_get(root, neutral[i].key), neutral[i].value)) continue;
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: the option %s is set, and this program does not do what it asks for",
                         where, neutral[i].key);
    }
    const char *act = "silu";
    TRY(json_member_str(root, where, "hidden_act", false, &act, err));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: hidden_act \"%.40s\" is not supported; known: silu", where, act);
    return MIL_OK;
}

static enum mil_status read_sizes(const json_t *root, const char *where, const struct family *f,
                                  struct model_config *c, struct mil_error *err) {
    TRY(json_member_i64(root, where, "vocab_size", true, 1, MODEL_MAX_VOCAB, &c->vocab, err));
    TRY(json_member_i64(root, where, "hidden_size", true, 1, MODEL_MAX_WIDTH, &c->width, err));
    TRY(json_member_i64(root, where, "num_hidden_layers", true, 1, MODEL_MAX_LAYERS, &c->layers,
                        err));
    TRY(json_member_i64(root, where, "num_attention_heads", true, 1, MODEL_MAX_HEADS, &c->heads,
                        err));
    TRY(json_member_i64(root, where, "intermediate_size", true, 1, MODEL_MAX_WIDTH, &c->ffn, err));
    c->kv_heads = c->heads;
    TRY(json_member_i64(root, where, "num_key_value_heads", f->kv_heads_required, 1, c->heads,
                        &c->kv_heads, err));
    c->head_dim = 0;
    TRY(json_member_i64(root, where, "head_dim", false, 1, MODEL_MAX_HEAD_DIM, &c->head_dim, err));
    if (c->head_dim == 0) {
        if (c->width % c->heads != 0)
            return error_set(err, MIL_INPUT,
                             "%s: hidden_size %lld is not a multiple of num_attention_heads %lld "
                             "and there is no head_dim",
                             where, (long long)c->width, (long long)c->heads);
        c->head_dim = c->width / c->heads;
    }
    c->max_positions = f->default_positions;
    TRY(json_member_i64(root, where, "max_position_embeddings", false, 1, MODEL_MAX_POSITIONS,
                        &c->max_positions, err));
    return model_config_check(c, where, err);
}

/* `layer_types`, where present, must say the same of every layer. */
static enum mil_status check_layer_types(const json_t *root, const char *where,
                                         const struct model_config *c, struct mil_error *err) {
    const json_t *types = json_object_get(root, "layer_types");
    if (!types || json_is_null(types)) return MIL_OK;
    const char *want = c->window > 0 ? "sliding_attention" : "full_attention";
    if (!json_is_array(types))
        return error_set(err, MIL_INPUT, "%s: layer_types is no list", where);
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, want) != 0)
            return error_set(err, MIL_UNSUPPORTED,
                             "%s: layer_types[%zu] is \"%.40s\" where all layers are expected to "
                             "be \"%s\"; layers that differ are not supported",
                             where, i, type ? type : "(no string)", want);
    }
    return MIL_OK;
}

static enum mil_status read_window(const json_t *root, const char *where, const struct family *f,
                                   struct model_config *c, struct mil_error *err) {
    const json_t *key = json_object_get(root, "sliding_window");
    int64_t window = key ? 0 : f->default_window;
    TRY(json_member_i64(root, where, "sliding_window", false, 0, MODEL_MAX_POSITIONS, &window,
                        err));
    if (f->window == WINDOW_NEVER && window > 0)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: sliding_window is set, but models of the family %s have none", where,
                         f->name);
    if (f->window == WINDOW_SWITCHED) {
        bool use = false;
        int64_t from = c->layers;
        TRY(json_member_bool(root, where, "use_sliding_window", false, &use, err));
        TRY(json_member_i64(root, where, "max_window_layers", false, 0, INT32_MAX, &from, err));
        if (use && window > 0 && from > 0 && from < c->layers)
            return error_set(err, MIL_UNSUPPORTED,
                             "%s: use_sliding_window with max_window_layers %lld: a window in some "
                             "layers only is not supported",
                             where, (long long)from);
        if (!use || from >= c->layers) window = 0;
    }
    c->window = window;
    return check_layer_types(root, where, c, err);
}

static enum mil_status read_biases(const json_t *root, const char *where, const struct family *f,
                                   struct model_config *c, struct mil_error *err) {
    bool attention = false, mlp = false;
    TRY(json_member_bool(root, where, "attention_bias", false, &attention, err));
    TRY(json_member_bool(root, where, "mlp_bias", false, &mlp, err));
    if ((attention && !f->attention_bias_key) || (mlp && !f->mlp_bias_key))
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: %s is true, which models of the family %s do not know", where,
                         mlp ? "mlp_bias" : "attention_bias", f->name);
    c->qkv_bias = f->qkv_bias || attention;
    c->o_bias = attention;
    c->mlp_bias = mlp;
    return MIL_OK;
}

static enum mil_status read_tokens(const json_t *root, const char *where, struct model_config *c,
                                   struct mil_error *err) {
    int64_t bos = -1;
    TRY(json_member_i64(root, where, "bos_token_id", false, -1, c->vocab - 1, &bos, err));
    c->bos = (int32_t)bos;
    return model_config_eos_from_json(c, root, where, err);
}

enum mil_status model_config_from_json(const json_t *root, const char *where,
                                       struct model_config *out, struct mil_error *err) {
    struct model_config c = {.norm_eps = 1e-6, .init_range = 0.02};
    const struct family *f;
    const char *type;
    if (!json_is_object(root)) return error_set(err, MIL_INPUT, "%s: no JSON object", where);
    TRY(json_member_str(root, where, "model_type", true, &type, err));
    TRY(family_of_model_type(type, where, &f, err));
    snprintf(c.family, sizeof c.family, "%s", f->name);
    TRY(refuse_options(root, where, err));
    TRY(read_sizes(root, where, f, &c, err));
    TRY(read_window(root, where, f, &c, err));
    TRY(read_biases(root, where, f, &c, err));
    TRY(json_member_f64(root, where, "rms_norm_eps", false, 0, 1, &c.norm_eps, err));
    TRY(json_member_f64(root, where, "initializer_range", false, 0, 1, &c.init_range, err));
    TRY(json_member_bool(root, where, "tie_word_embeddings", false, &c.tied_head, err));
    TRY(rope_config_from_json(root, where, c.max_positions, &c.rope, err));
    TRY(read_tokens(root, where, &c, err));
    *out = c;
    return MIL_OK;
}
