/* SPDX-License-Identifier: Apache-2.0 */
/* config_write.c - struct model_config as a config.json.
 *
 * Written in the older spelling (rope_theta, rope_scaling, torch_dtype), which every version of
 * transformers reads.  What was in the source's config.json and is not in the description is not
 * repeated: a model that came from a Hugging Face directory keeps its own file. */
#include <string.h>

#include "model/config.h"
#include "model/family.h"

static json_t *rope_to_json(const struct rope_config *r) {
    switch (r->kind) {
    case ROPE_PLAIN: return json_null();
    case ROPE_LINEAR:
        return json_pack("{s:s, s:s, s:f}", "rope_type", "linear", "type", "linear", "factor",
                         r->factor);
    case ROPE_LLAMA3:
        return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", r->factor,
                         "low_freq_factor", r->low_freq_factor, "high_freq_factor",
                         r->high_freq_factor, "original_max_position_embeddings",
                         (json_int_t)r->original_positions);
    }
    return NULL;
}

static json_t *eos_to_json(const struct model_config *c) {
    if (c->n_eos == 0) return json_null();
    if (c->n_eos == 1) return json_integer(c->eos[0]);
    json_t *list = json_array();
    for (int i = 0; i < c->n_eos; i++) json_array_append_new(list, json_integer(c->eos[i]));
    return list;
}

static const char *torch_name(enum dtype stored) {
    switch (stored) {
    case DT_BF16: return "bfloat16";
    case DT_F16: return "float16";
    default: return "float32";
    }
}

/* Members whose presence depends on the family. */
static int put_family_members(json_t *root, const struct family *f, const struct model_config *c) {
    int bad = 0;
    if (f->attention_bias_key)
        bad |= json_object_set_new(root, "attention_bias", json_boolean(c->o_bias));
    if (f->mlp_bias_key) bad |= json_object_set_new(root, "mlp_bias", json_boolean(c->mlp_bias));
    if (f->window == WINDOW_ALWAYS)
        bad |= json_object_set_new(root, "sliding_window",
                                   c->window > 0 ? json_integer(c->window) : json_null());
    if (f->window == WINDOW_SWITCHED) {
        bad |= json_object_set_new(root, "use_sliding_window", json_boolean(c->window > 0));
        if (c->window > 0) {
            bad |= json_object_set_new(root, "sliding_window", json_integer(c->window));
            bad |= json_object_set_new(root, "max_window_layers", json_integer(0));
        }
    }
    if (c->head_dim * c->heads != c->width || f->window != WINDOW_SWITCHED)
        bad |= json_object_set_new(root, "head_dim", json_integer(c->head_dim));
    return bad;
}

json_t *model_config_to_json(const struct model_config *c, enum dtype stored) {
    const struct family *f = family_named(c->family);
    REQUIRE(f);
    json_t *root = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:o, s:b, s:f, s:o, s:o, "
        "s:s}",
        "architectures", f->architecture, "model_type", f->name, "vocab_size", (json_int_t)c->vocab,
        "hidden_size", (json_int_t)c->width, "intermediate_size", (json_int_t)c->ffn,
        "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
        "num_key_value_heads", (json_int_t)c->kv_heads, "max_position_embeddings",
        (json_int_t)c->max_positions, "hidden_act", "silu", "rms_norm_eps", c->norm_eps,
        "rope_theta", c->rope.theta, "rope_scaling", rope_to_json(&c->rope), "tie_word_embeddings",
        c->tied_head, "initializer_range", c->init_range, "bos_token_id",
        c->bos >= 0 ? json_integer(c->bos) : json_null(), "eos_token_id", eos_to_json(c),
        "torch_dtype", torch_name(stored));
    if (root && put_family_members(root, f, c) != 0) {
        json_decref(root);
        return NULL;
    }
    return root;
}
