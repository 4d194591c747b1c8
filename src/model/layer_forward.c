/* SPDX-License-Identifier: Apache-2.0 */
/* layer_forward.c - one decoder layer, forward (equations in layer.h). */
#include "model/layer.h"

static void attend(struct pass *p, struct layer_saved *saved, const struct layer_cache *cache) {
    struct attn_shape shape = attention_shape(&p->m->config);
    struct tensor k = saved->k, v = saved->v;
    if (cache) {
        be_scatter_rows(p->stream, cache->k, k, cache->rows);
        be_scatter_rows(p->stream, cache->v, v, cache->rows);
        k = cache->k;
        v = cache->v;
    }
    be_attention_fwd(p->stream, saved->o, saved->lse, saved->q, k, v, p->seqs, p->n_seqs, &shape);
}

void layer_forward(struct pass *p, int64_t layer, struct tensor x, struct tensor x_out,
                   struct layer_saved *saved, const struct layer_cache *cache) {
    const struct model_config *c = &p->m->config;
    const struct layer *l = &p->m->layers[layer];
    struct stream *s = p->stream;
    struct adapter_saved *adapter = saved->adapter;

    struct tensor none = {0}, n = p->fwd.n, h = p->fwd.h;
    be_rmsnorm_fwd(s, n, saved->rstd1, x, l->attn_norm, c->norm_eps);
    const struct tensor qkv[3] = {saved->q, saved->k, saved->v}, gu[2] = {saved->g, saved->u};
    linear_forward(p, layer, MODULE_Q, 3, n, none, qkv, &adapter[MODULE_Q]);
    be_rope(s, saved->q, p->m->rope, p->position, c->head_dim, false);
    be_rope(s, saved->k, p->m->rope, p->position, c->head_dim, false);
    attend(p, saved, cache);
    linear_forward(p, layer, MODULE_O, 1, saved->o, x, &saved->x_mid, &adapter[MODULE_O]);

    be_rmsnorm_fwd(s, n, saved->rstd2, saved->x_mid, l->mlp_norm, c->norm_eps);
    linear_forward(p, layer, MODULE_GATE, 2, n, none, gu, &adapter[MODULE_GATE]);
    be_swiglu_fwd(s, h, saved->g, saved->u);
    linear_forward(p, layer, MODULE_DOWN, 1, h, saved->x_mid, &x_out, &adapter[MODULE_DOWN]);
    saved->x_out = x_out;
}
