/* SPDX-License-Identifier: Apache-2.0 */
/* layer_forward.c - one decoder layer, forward (equations in layer.h). */
#include "model/layer.h"

/* dst becomes a copy of src, unless it is src. */
static void carry(struct stream *s, struct tensor dst, struct tensor src) {
    if (dst.data != src.data) be_copy(s, dst, src);
}

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

    struct tensor n1 = tensor_present(saved->n1) ? saved->n1 : p->fwd.n;
    be_rmsnorm_fwd(s, n1, saved->rstd1, x, l->attn_norm, c->norm_eps);
    linear_forward(p, layer, MODULE_Q, n1, saved->q, &adapter[MODULE_Q]);
    linear_forward(p, layer, MODULE_K, n1, saved->k, &adapter[MODULE_K]);
    linear_forward(p, layer, MODULE_V, n1, saved->v, &adapter[MODULE_V]);
    be_rope(s, saved->q, p->m->rope, p->position, c->head_dim, false);
    be_rope(s, saved->k, p->m->rope, p->position, c->head_dim, false);
    attend(p, saved, cache);
    carry(s, saved->x_mid, x);
    linear_accumulate(p, layer, MODULE_O, saved->o, saved->x_mid, &adapter[MODULE_O]);

    struct tensor n2 = tensor_present(saved->n2) ? saved->n2 : p->fwd.n;
    struct tensor h = tensor_present(saved->h) ? saved->h : p->fwd.h;
    be_rmsnorm_fwd(s, n2, saved->rstd2, saved->x_mid, l->mlp_norm, c->norm_eps);
    linear_forward(p, layer, MODULE_GATE, n2, saved->g, &adapter[MODULE_GATE]);
    linear_forward(p, layer, MODULE_UP, n2, saved->u, &adapter[MODULE_UP]);
    be_swiglu_fwd(s, h, saved->g, saved->u);
    carry(s, x_out, saved->x_mid);
    linear_accumulate(p, layer, MODULE_DOWN, h, x_out, &adapter[MODULE_DOWN]);
}
