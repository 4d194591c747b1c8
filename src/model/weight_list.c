/* SPDX-License-Identifier: Apache-2.0 */
/* weight_list.c - see weight_list.h. */
#include "model/weight_list.h"

#include <stdio.h>

/* Slots of a layer in order; biases that the model lacks are stepped over. */
enum { LAYER_SLOTS = 2 + 2 * MODULES };

/* The k-th possible slot of a layer: which weight it is. */
static struct weight_slot layer_slot(const struct model_config *c, int64_t layer, int k) {
    int before_mlp = 1 + 2 * (MODULE_O + 1);
    struct weight_slot s = {.kind = WEIGHT_ATTN_NORM, .layer = layer, .rows = 1, .cols = c->width};
    if (k == 0) return s;
    if (k == before_mlp) {
        s.kind = WEIGHT_MLP_NORM;
        return s;
    }
    int at = k < before_mlp ? k - 1 : k - 2;
    s.module = (enum module)(at / 2);
    s.kind = at % 2 == 0 ? WEIGHT_LINEAR : WEIGHT_BIAS;
    s.rows = at % 2 == 0 ? module_rows(c, s.module) : 1;
    s.cols = at % 2 == 0 ? module_cols(c, s.module) : module_rows(c, s.module);
    return s;
}

static bool slot_exists(const struct model_config *c, const struct weight_slot *s) {
    return s->kind != WEIGHT_BIAS || module_has_bias(c, s->module);
}

static size_t layer_weights(const struct model_config *c) {
    size_t n = 2 + MODULES;
    for (int m = 0; m < MODULES; m++) n += module_has_bias(c, (enum module)m) ? 1 : 0;
    return n;
}

size_t weight_count(const struct model_config *c) {
    return 1 + (size_t)c->layers * layer_weights(c) + 1 + (c->tied_head ? 0 : 1);
}

struct weight_slot weight_slot_at(const struct model_config *c, size_t i) {
    size_t per_layer = layer_weights(c), in_layers = (size_t)c->layers * per_layer;
    REQUIRE(i < weight_count(c));
    if (i == 0)
        return (struct weight_slot){.kind = WEIGHT_EMBED, .rows = c->vocab, .cols = c->width};
    if (i == 1 + in_layers)
        return (struct weight_slot){.kind = WEIGHT_FINAL_NORM, .rows = 1, .cols = c->width};
    if (i == 2 + in_layers)
        return (struct weight_slot){.kind = WEIGHT_HEAD, .rows = c->vocab, .cols = c->width};
    size_t left = (i - 1) % per_layer;
    for (int k = 0; k < LAYER_SLOTS; k++) {
        struct weight_slot s = layer_slot(c, (int64_t)((i - 1) / per_layer), k);
        if (!slot_exists(c, &s)) continue;
        if (left-- == 0) return s;
    }
    REQUIRE(!"a layer has as many weights as were counted");
    return (struct weight_slot){0};
}

void weight_name_hf(const struct weight_slot *s, char out[WEIGHT_NAME_CAP]) {
    long long l = (long long)s->layer;
    const size_t cap = WEIGHT_NAME_CAP;
    switch (s->kind) {
    case WEIGHT_EMBED: snprintf(out, cap, "model.embed_tokens.weight"); break;
    case WEIGHT_ATTN_NORM: snprintf(out, cap, "model.layers.%lld.input_layernorm.weight", l); break;
    case WEIGHT_MLP_NORM:
        snprintf(out, cap, "model.layers.%lld.post_attention_layernorm.weight", l);
        break;
    case WEIGHT_LINEAR:
        snprintf(out, cap, "model.layers.%lld.%s.weight", l, module_path(s->module));
        break;
    case WEIGHT_BIAS:
        snprintf(out, cap, "model.layers.%lld.%s.bias", l, module_path(s->module));
        break;
    case WEIGHT_FINAL_NORM: snprintf(out, cap, "model.norm.weight"); break;
    case WEIGHT_HEAD: snprintf(out, cap, "lm_head.weight"); break;
    }
}

void weight_name_gguf(const struct weight_slot *s, char out[WEIGHT_NAME_CAP]) {
    static const char *const modules[MODULES] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                 "ffn_gate", "ffn_up", "ffn_down"};
    long long l = (long long)s->layer;
    const size_t cap = WEIGHT_NAME_CAP;
    switch (s->kind) {
    case WEIGHT_EMBED: snprintf(out, cap, "token_embd.weight"); break;
    case WEIGHT_ATTN_NORM: snprintf(out, cap, "blk.%lld.attn_norm.weight", l); break;
    case WEIGHT_MLP_NORM: snprintf(out, cap, "blk.%lld.ffn_norm.weight", l); break;
    case WEIGHT_LINEAR: snprintf(out, cap, "blk.%lld.%s.weight", l, modules[s->module]); break;
    case WEIGHT_BIAS: snprintf(out, cap, "blk.%lld.%s.bias", l, modules[s->module]); break;
    case WEIGHT_FINAL_NORM: snprintf(out, cap, "output_norm.weight"); break;
    case WEIGHT_HEAD: snprintf(out, cap, "output.weight"); break;
    }
}
