/* SPDX-License-Identifier: Apache-2.0 */
/* layer_layout.c - the buffers of a layer's passes, in sizing mode or for real.
 *
 * Modules with one input (q, k, v; gate, up) share the product that gives its gradient, so what their adapters hold
 * in the call's scratch stands side by side until then. */
#include <math.h>

#include "model/layer.h"

struct attn_shape attention_shape(const struct model_config *c) {
    return (struct attn_shape){.heads = c->heads,
                               .kv_heads = c->kv_heads,
                               .head_dim = c->head_dim,
                               .window = c->window,
                               .scale = 1.0 / sqrt((double)c->head_dim)};
}

bool linear_trains(const struct model *m, int64_t layer, enum module module) {
    const struct linear *l = &m->layers[layer].linear[module];
    return m->train_all || l->adapter || tensor_present(l->dw) || tensor_present(l->db);
}

bool layer_trains(const struct model *m, int64_t layer, enum module first, enum module last) {
    for (int i = (int)first; i <= (int)last; i++)
        if (linear_trains(m, layer, (enum module)i)) return true;
    return false;
}

/* The first module of each set with one input. */
static bool begins_group(int module) {
    return module != MODULE_K && module != MODULE_V && module != MODULE_UP;
}

static void adapters_layout(const struct model *m, int64_t layer, int64_t tokens, struct arena *a,
                            struct arena *call, struct layer_saved *out) {
    size_t mark = arena_mark(call);
    for (int i = 0; i < MODULES; i++) {
        const struct linear_adapter *adapter = m->layers[layer].linear[i].adapter;
        if (begins_group(i)) arena_rewind(call, mark);
        if (adapter) adapter->ops->layout(adapter, a, call, tokens, &out->adapter[i]);
    }
    arena_rewind(call, mark);
}

void layer_layout(const struct model *m, int64_t layer, int64_t tokens, enum layer_use use,
                  struct arena *a, struct arena *call, struct layer_saved *out) {
    const struct model_config *c = &m->config;
    enum dtype act = backend_act(m->backend), real = backend_real(m->backend);
    int64_t T = tokens, q_cols = c->heads * c->head_dim, kv_cols = c->kv_heads * c->head_dim;
    int l = (int)layer;
    *out = (struct layer_saved){0};
    out->rstd1 = tensor_take(a, real, T, 1, "layer %d attention norm", l);
    out->q = tensor_take(a, act, T, q_cols, "layer %d q", l);
    out->k = tensor_take(a, act, T, kv_cols, "layer %d k", l);
    out->v = tensor_take(a, act, T, kv_cols, "layer %d v", l);
    out->o = tensor_take(a, act, T, q_cols, "layer %d attention output", l);
    if (use != LAYER_INFER) {
        out->lse = tensor_take(a, real, T, c->heads, "layer %d softmax", l);
        out->x_mid = tensor_take(a, real, T, c->width, "layer %d residual", l);
    }
    out->rstd2 = tensor_take(a, real, T, 1, "layer %d MLP norm", l);
    out->g = tensor_take(a, act, T, c->ffn, "layer %d gate", l);
    out->u = tensor_take(a, act, T, c->ffn, "layer %d up", l);
    adapters_layout(m, layer, tokens, a, call, out);
}

static int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void forward_scratch_layout(const struct model *m, int64_t tokens, struct arena *a,
                            struct forward_scratch *out) {
    const struct model_config *c = &m->config;
    enum dtype act = backend_act(m->backend);
    *out = (struct forward_scratch){0};
    out->n = tensor_take(a, act, tokens, c->width, "norm output");
    out->h = tensor_take(a, act, tokens, c->ffn, "MLP product");
}

void backward_scratch_layout(const struct model *m, int64_t tokens, struct arena *a,
                             struct backward_scratch *out) {
    const struct model_config *c = &m->config;
    enum dtype act = backend_act(m->backend), real = backend_real(m->backend);
    int64_t q_cols = c->heads * c->head_dim, kv_cols = c->kv_heads * c->head_dim;
    int64_t widest = max_i64(q_cols, c->ffn);
    *out = (struct backward_scratch){0};
    out->dy = tensor_take(a, act, tokens, c->width, "backward: rounded gradient");
    out->dn = tensor_take(a, real, tokens, c->width, "backward: gradient of a norm");
    out->wide = tensor_take(a, act, tokens, widest, "backward: gradient of a product");
    out->dq = tensor_take(a, act, tokens, q_cols, "backward: dq");
    out->dk = tensor_take(a, act, tokens, kv_cols, "backward: dk");
    out->dv = tensor_take(a, act, tokens, kv_cols, "backward: dv");
}

size_t adapter_scratch_bytes(const struct model *m, int64_t tokens) {
    struct arena kept, call;
    struct layer_saved ignored;
    arena_init_sizing(&kept, NULL, PLAN_STEP);
    arena_init_sizing(&call, NULL, PLAN_CALL);
    for (int64_t l = 0; l < m->config.layers; l++)
        adapters_layout(m, l, tokens, &kept, &call, &ignored);
    return call.peak;
}
