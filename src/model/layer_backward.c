/* SPDX-License-Identifier: Apache-2.0 */
/* layer_backward.c - one decoder layer, backward: the chain rule through layer.h's equations from
 * the bottom up.
 *
 * dx runs through in real: it enters as the gradient of x_out, becomes that of x_mid (the MLP's
 * part is added) and leaves as that of x.  It is rounded to act only as an operand of products.
 * Nothing is computed that no parameter below needs. */
#include "model/layer.h"

static struct tensor wide_as(const struct pass *p, int64_t cols) {
    struct tensor t = p->bwd.wide;
    return tensor_of(t.data, t.dtype, p->tokens, cols);
}

/* A gradient of that shape that nobody wants. */
static struct tensor unwanted(struct tensor like) {
    like.data = NULL;
    return like;
}

static void mlp_backward(struct pass *p, int64_t layer, struct tensor dx, struct layer_saved *s,
                         bool below_trains) {
    const struct layer *l = &p->m->layers[layer];
    bool inputs_train = layer_trains(p->m, layer, MODULE_GATE, MODULE_UP);
    struct tensor dh = wide_as(p, p->m->config.ffn);
    struct tensor dn = below_trains ? p->bwd.dn : unwanted(p->bwd.dn);
    be_copy(p->stream, p->bwd.dy, dx);
    linear_backward_act(p, layer, MODULE_DOWN, s->h, p->bwd.dy, dh, &s->adapter[MODULE_DOWN]);
    if (!inputs_train && !below_trains) return;
    /* g and u are not needed afterwards: their gradients take their place. */
    be_swiglu_bwd(p->stream, s->g, s->u, dh, s->g, s->u);
    linear_backward(p, layer, MODULE_GATE, s->n2, s->g, 0.0, dn, &s->adapter[MODULE_GATE]);
    linear_backward(p, layer, MODULE_UP, s->n2, s->u, 1.0, dn, &s->adapter[MODULE_UP]);
    if (below_trains)
        be_rmsnorm_bwd(p->stream, dx, l->d_mlp_norm, dn, s->x_mid, l->mlp_norm, s->rstd2);
}

static void attention_backward(struct pass *p, int64_t layer, struct tensor dx,
                               struct layer_saved *s) {
    const struct model_config *c = &p->m->config;
    struct attn_shape shape = attention_shape(c);
    struct backward_scratch *b = &p->bwd;
    struct tensor d_o = wide_as(p, c->heads * c->head_dim);
    be_copy(p->stream, b->dy, dx);
    linear_backward_act(p, layer, MODULE_O, s->o, b->dy, d_o, &s->adapter[MODULE_O]);
    be_attention_bwd(p->stream, b->dq, b->dk, b->dv, d_o, s->o, s->lse, s->q, s->k, s->v, p->seqs,
                     p->n_seqs, &shape);
    be_rope(p->stream, b->dq, p->m->rope, p->position, c->head_dim, true);
    be_rope(p->stream, b->dk, p->m->rope, p->position, c->head_dim, true);
}

void layer_backward(struct pass *p, int64_t layer, struct tensor x, struct tensor dx,
                    struct layer_saved *s, bool below_trains) {
    const struct layer *l = &p->m->layers[layer];
    struct backward_scratch *b = &p->bwd;
    bool attention_trains = layer_trains(p->m, layer, MODULE_Q, MODULE_O);
    mlp_backward(p, layer, dx, s, below_trains || attention_trains);
    if (!below_trains && !attention_trains) return;
    attention_backward(p, layer, dx, s);
    struct tensor dn = below_trains ? b->dn : unwanted(b->dn);
    linear_backward(p, layer, MODULE_Q, s->n1, b->dq, 0.0, dn, &s->adapter[MODULE_Q]);
    linear_backward(p, layer, MODULE_K, s->n1, b->dk, 1.0, dn, &s->adapter[MODULE_K]);
    linear_backward(p, layer, MODULE_V, s->n1, b->dv, 1.0, dn, &s->adapter[MODULE_V]);
    if (below_trains) be_rmsnorm_bwd(p->stream, dx, l->d_attn_norm, dn, x, l->attn_norm, s->rstd1);
}
